package integration

import (
	"cmp"
	"errors"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// The truth test asks two parties about every door of a configuration: the
// auditor, and a stranger who really tries to get in (package oracle). They
// see two servers of the same configuration, so that what the stranger leaves
// behind cannot help the auditor.
//
// The auditor needs a system account, and few configurations give one away.
// To add a user would change what is judged: it can end the hidden user, or
// bring authentication where there was none. So the audited server gets a
// leafnode connection from its system account to that of a hub instead, where
// the auditor sits. An outgoing connection opens no listener and adds no
// account or user; the stranger's server does not have it, and if it made a
// difference the two would disagree. For the same reason a file with
// no_system_account is audited without that line.

// truthCase is one configuration.
type truthCase struct {
	name     string
	config   string
	files    map[string]string
	bare     bool     // started without a configuration file
	basePath string   // of the monitoring
	gateways []string // names that its own cluster knows
	options  func(label func(string) string, o *server.Options)
	beside   func(t *testing.T, s *fleet.Server) // what must run beside it, like a callout service

	mayRefuse bool   // the server may refuse to start with it
	file      string // the configuration itself, where options were made of it

	open      []string          // the doors through which a stranger gets in; nil where only the oracle knows
	known     bool              // open is the whole truth
	unknown   map[string]string // doors on which the auditor may be undecided, with its reason
	undecided map[string]string // doors on which the oracle may be undecided, with its reason
}

// truth is what both parties said of one door.
type truth struct {
	config, door string
	in           bool   // the stranger got in
	how          string // and what decided
	saying
	flagged   bool    // this is the client door, and VARZ says nothing of auth_required
	lint      *saying // what lint said of the configuration; nil where it says nothing of this door
	unaudited bool    // nobody asked the server
	block     bool    // the configuration has an authorization, accounts or operator block
}

// truthsAtOnce is how many configurations run at once. They wait more than
// they work.
const truthsAtOnce = 12

// answer is what came of one configuration.
type answer struct {
	truths []truth
	asked  bool  // false when the command line left it out
	refuse error // the server does not start
	lint   *linted
}

// askAll asks both parties about every configuration, several at a time. It
// returns the answers in the order of the configurations.
func askAll(t *testing.T, cases []truthCase) []answer {
	t.Helper()
	return askEach(t, cases, askBoth)
}

func askEach(t *testing.T, cases []truthCase, ask func(*testing.T, *truthCase) answer) []answer {
	t.Helper()
	cases = sample(cases)
	answers := make([]answer, len(cases))
	next := make(chan int)
	var wg sync.WaitGroup
	for range truthsAtOnce {
		wg.Go(func() {
			for i := range next {
				t.Run(cases[i].name, func(t *testing.T) { answers[i] = ask(t, &cases[i]) })
			}
		})
	}
	for i := range cases {
		next <- i
	}
	close(next)
	wg.Wait()
	return answers
}

// sample is every tenth of many under the race detector: it finds in them what it
// finds in all, and servers that are too slow to answer are no races.
func sample[T any](cases []T) (out []T) {
	if !fleet.UnderRace {
		return cases
	}
	for i := 0; i < len(cases); i += 10 {
		out = append(out, cases[i])
	}
	return out
}

// askBoth starts a configuration twice and asks both parties about its doors.
func askBoth(t *testing.T, c *truthCase) answer {
	t.Helper()
	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	add := func(name string, change func(*server.Options)) (*fleet.Server, error) {
		spec := fleet.Spec{Name: name, Config: c.config, NoConfigFile: c.bare, Files: c.files}
		spec.Options = func(o *server.Options) {
			if c.options != nil {
				c.options(func(label string) string { return f.Server(name).Addr(label) }, o)
			}
			change(o)
		}
		s, err := f.Add(t.Context(), spec)
		if err == nil && c.beside != nil {
			c.beside(t, s)
		}
		return s, err
	}
	tried, err := add("tried", func(*server.Options) {})
	if err != nil && c.mayRefuse {
		return answer{asked: true, refuse: err, lint: lintCase(t, c, nil)}
	}
	if err != nil {
		t.Fatal(err)
	}
	l := lintCase(t, c, tried)
	var noSystem bool
	audited, err := add("audited", func(o *server.Options) {
		noSystem = systemAccountOf(o) == ""
		o.NoSystemAccount = false
		o.LeafNode.Remotes = append(o.LeafNode.Remotes, &server.RemoteLeafOpts{
			URLs:         []*url.URL{{Scheme: "nats-leaf", Host: f.Server("hub").Addr("leafnode"), User: url.UserPassword("leaf-sys", "leaf-password")}},
			LocalAccount: systemAccountOf(o),
		})
	})
	if err != nil && noSystem && c.mayRefuse {
		return answer{asked: true, refuse: errNoSystem, lint: l, truths: lintTruths(t, c, l, tried)}
	}
	if err != nil {
		t.Fatal(err)
	}
	nc := connectSys(t, f.Server("hub"))
	waitActive(t, f, f.Server("hub"), 2)
	verdicts := audit(t, nc, audited.ID())
	truths := compare(t, c, verdicts, targetOf(tried, c))
	for i := range truths {
		l.add(t, &truths[i])
	}
	return answer{asked: true, truths: truths, lint: l}
}

// errNoSystem: nobody can ask such a server anything.
var errNoSystem = errors.New("it has no system account")

// systemAccountOf is the account in which a server answers.
func systemAccountOf(o *server.Options) string {
	if len(o.TrustedOperators) > 0 {
		return cmp.Or(o.SystemAccount, o.TrustedOperators[0].SystemAccount)
	}
	return cmp.Or(o.SystemAccount, server.DEFAULT_SYSTEM_ACCOUNT)
}

// mqttTouched is the MQTT door as the auditor sees it when it may touch it
// too, which leaves streams behind and is therefore asked for.
const mqttTouched = "mqtt, touched"

// saying is what the auditor said of one door.
type saying struct {
	access posture.Access
	basis  posture.Basis
	reason string
	pass   bool // the door's check passes
	alarm  bool // it fails, and is critical
}

// sayings are what the auditor said of a server.
type sayings struct {
	doors   map[string]saying
	flagged bool // VARZ says nothing of auth_required
}

// audit is the auditor's part.
func audit(t *testing.T, nc *nats.Conn, id string) sayings {
	t.Helper()
	srv, state := look(t, nc, id, false)
	out := sayings{doors: map[string]saying{}, flagged: srv.AuthRequired == posture.No}
	for name, kind := range kinds {
		out.doors[name] = say(state, srv, kind)
	}
	for _, touch := range srv.Touches {
		if touch.Door == posture.Websocket && touch.Path == posture.LeafnodePath {
			out.doors[oracle.LeafWebsocket] = saying{access: touch.Access, basis: posture.Proven, reason: touch.Reason}
		}
	}
	if d := srv.Door(posture.MQTT); d != nil && d.On == posture.Yes {
		srv, state = look(t, nc, id, true)
		out.doors[mqttTouched] = say(state, srv, posture.MQTT)
	}
	return out
}

// look sweeps once and finds a server.
func look(t *testing.T, nc *nats.Conn, id string, mqttToo bool) (*posture.Server, *agent.State) {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{
		System: "truth", Policy: policy, Collect: collect.Config{Timeout: 20 * time.Second},
		Probe: agent.Probe{Timeout: 20 * time.Second, MQTT: mqttToo},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	state := sweep(t, a)
	srv := state.Snapshot.Server(id)
	if srv == nil || !srv.Heard.Has(posture.Varz) {
		t.Fatalf("the server was not heard: %+v", state.Snapshot.Gaps)
	}
	return srv, state
}

// doorChecks are the checks that speak of strangers at a door.
var doorChecks = map[posture.DoorKind]string{
	posture.Client: "DOOR_001", posture.Websocket: "DOOR_002", posture.MQTT: "DOOR_003",
	posture.Leafnode: "DOOR_004", posture.Route: "DOOR_005", posture.Gateway: "DOOR_006",
}

func say(state *agent.State, srv *posture.Server, kind posture.DoorKind) saying {
	d := srv.Door(kind)
	out := saying{access: d.Access, basis: d.Basis, reason: d.Reason}
	for _, r := range state.Results {
		if r.Check.ID == doorChecks[kind] && r.Scope.ServerID == srv.ID && r.Scope.Door == kind {
			out.pass = r.Outcome == check.Pass
			out.alarm = r.Outcome == check.Fail && r.Severity == check.Critical
		}
	}
	return out
}

// targetOf is what the stranger knows of a server.
func targetOf(s *fleet.Server, c *truthCase) *oracle.Target {
	srv := s.Embedded()
	target := &oracle.Target{
		Addresses: addresses(s), BasePath: c.basePath, Known: c.gateways,
		Cluster: srv.ClusterName(), Witness: oracle.Embedded(srv),
	}
	if z, err := srv.Gatewayz(nil); err == nil {
		target.Gateway = z.Name
	}
	return target
}

// addresses are the doors of a server, by their labels in its configuration.
func addresses(s *fleet.Server) map[string]string {
	out := map[string]string{}
	for _, door := range oracle.Doors() {
		if address := s.Addr(door); address != "" {
			out[door] = address
		}
	}
	if out[oracle.Websocket] != "" && out[oracle.Leafnode] != "" {
		out[oracle.LeafWebsocket] = out[oracle.Websocket]
	}
	if out[oracle.Websocket] != "" && out[oracle.MQTT] != "" {
		out[oracle.MQTTWebsocket] = out[oracle.Websocket]
	}
	return out
}

// overWebsocket are the other ways in through some of the auditor's doors.
var overWebsocket = map[string]string{oracle.Leafnode: oracle.LeafWebsocket, oracle.MQTT: oracle.MQTTWebsocket, mqttTouched: oracle.MQTTWebsocket}

// kinds are the auditor's words for the doors.
var kinds = map[string]posture.DoorKind{
	oracle.Client: posture.Client, oracle.Websocket: posture.Websocket, oracle.MQTT: posture.MQTT, oracle.Leafnode: posture.Leafnode,
	oracle.Route: posture.Route, oracle.Gateway: posture.Gateway, oracle.Monitor: posture.Monitor,
}

// compare lets the stranger try, and holds against it what the auditor said.
func compare(t *testing.T, c *truthCase, said sayings, target *oracle.Target) []truth {
	t.Helper()
	outcomes := try(t, c, target)
	if o, ok := outcomes[oracle.MQTT]; ok {
		outcomes[mqttTouched] = o
	}
	var out []truth
	for _, door := range truthDoors() {
		o, ok := outcomes[door]
		if !ok {
			continue
		}
		tr := truth{config: c.name, door: door, in: o.In, how: o.How, saying: said.doors[door]}
		tr.in = tr.in || outcomes[overWebsocket[door]].In
		tr.flagged = door == oracle.Client && said.flagged
		hold(t, c, tr)
		out = append(out, tr)
	}
	return out
}

// truthDoors lists the doors on which verdicts are counted.
func truthDoors() []string {
	doors := slices.DeleteFunc(oracle.Doors(), func(door string) bool { return door == oracle.MQTTWebsocket }) // never touched
	return slices.Insert(doors, slices.Index(doors, oracle.MQTT)+1, mqttTouched)
}

// noCertificate is what becomes of everybody at a TLS listener without one.
const noCertificate = "remote error: tls: unrecognized name"

// try lets the stranger try every door, all at the same time.
func try(t *testing.T, c *truthCase, target *oracle.Target) map[string]oracle.Outcome {
	t.Helper()
	var (
		mu       sync.Mutex
		wg       sync.WaitGroup
		outcomes = map[string]oracle.Outcome{}
	)
	for doorName := range target.Addresses {
		wg.Go(func() {
			o, err := oracle.Try(t.Context(), target, doorName)
			why := c.undecided[doorName]
			switch {
			case errors.Is(err, oracle.ErrUndecided) && (why != "" && strings.Contains(err.Error(), why) || strings.Contains(err.Error(), noCertificate)):
				return
			case err != nil:
				t.Errorf("%s: %v", doorName, err)
				return
			case why != "":
				t.Errorf("%s: no longer undecided: %+v", doorName, o)
			}
			mu.Lock()
			defer mu.Unlock()
			outcomes[doorName] = o
		})
	}
	wg.Wait()
	if !c.known {
		return outcomes
	}
	for doorName, o := range outcomes {
		if expected := slices.Contains(c.open, doorName); o.In != expected {
			t.Errorf("the stranger at the %s door is in: %v (%s), and should be: %v", doorName, o.In, o.How, expected)
		}
	}
	return outcomes
}

// hold is the comparison: no open door is called closed, no closed one open,
// no check passes or is alarmed where it should not, and what is undecided has
// a reason that we know.
func hold(t *testing.T, c *truthCase, tr truth) {
	t.Helper()
	t.Logf("%-24s in: %-5v said: %s (%s) %s| %s", tr.door, tr.in, tr.access, tr.basis, tr.reason, tr.how)
	why, mayBeUnknown := c.unknown[tr.door]
	unknown := tr.access == posture.Unknown
	wrong := !unknown && tr.in != (tr.access == posture.Open) || tr.in && tr.pass || !tr.in && tr.alarm
	accepted := knownWrong[c.name][tr.door] != ""
	switch {
	case wrong && !accepted:
		t.Errorf("WRONG: the %s door is called %s (%s; check passes: %v, alarms: %v), and a stranger is in: %v (%s)",
			tr.door, tr.access, tr.basis, tr.pass, tr.alarm, tr.in, tr.how)
	case !wrong && accepted:
		t.Errorf("the %s door is called %s, and is not wrong any more: take it from the list", tr.door, tr.access)
	case unknown && !mayBeUnknown:
		t.Errorf("the %s door is unknown (%s), and a stranger is in: %v (%s)", tr.door, tr.reason, tr.in, tr.how)
	case unknown && !strings.Contains(tr.reason, why):
		t.Errorf("the %s door is unknown because %q, want %q", tr.door, tr.reason, why)
	case !unknown && mayBeUnknown:
		t.Errorf("the %s door is called %s, and is not unknown any more: take it from the list", tr.door, tr.access)
	}
}
