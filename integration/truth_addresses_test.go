package integration

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// The truth of addresses: the configurations that matter for the answer, on
// servers that are hard to reach. A listener may stay undecided there, and
// nothing else: it is never called open or closed by what another server said.

// reachConfigs are ways to let anonymous clients in, and to keep them out.
var reachConfigs = map[string]string{
	"nothing":                  "",
	"users":                    `authorization { users: [ { user: app, password: app-password } ] }`,
	"token":                    `authorization { token: token-of-the-tests }`,
	"no_auth_user":             `accounts { APP { users: [ { user: app, password: app-password } ] } }` + "\nno_auth_user: app",
	"accounts":                 `accounts { APP { users: [ { user: app, password: app-password } ] } }`,
	"the hidden user":          `accounts { $SYS { users: [ { user: sys, password: sys-password } ] } }`,
	"no_auth_user for browser": `accounts { APP { users: [ { user: app, password: app-password }, { user: web, password: web-password, allowed_connection_types: ["WEBSOCKET"] } ] } }` + "\nno_auth_user: web",
}

const reachListeners = `
websocket { listen: "{{addr "websocket"}}", no_tls: true }
leafnodes { listen: "{{addr "leafnode"}}" }
`

// joined gives a server a leafnode connection from its system account to that of
// the hub. It opens no listener and adds no account or user.
func joined(f *fleet.Fleet) func(*server.Options) {
	return func(o *server.Options) {
		o.LeafNode.Remotes = append(o.LeafNode.Remotes, &server.RemoteLeafOpts{
			URLs:         []*url.URL{{Scheme: "nats-leaf", Host: f.Server("hub").Addr("leafnode"), User: url.UserPassword("leaf-sys", "leaf-password")}},
			LocalAccount: systemAccountOf(o),
		})
	}
}

// holdAddresses holds the verdicts on a server against an anonymous client
// that tries. Every listener in must has to be decided.
func holdAddresses(t *testing.T, state *agent.State, s *fleet.Server, must ...string) {
	t.Helper()
	srv := state.Snapshot.Server(s.ID())
	if srv == nil {
		t.Errorf("%s is not in the snapshot", s.Name())
		return
	}
	target := targetOf(s, &truthCase{})
	decided := map[string]bool{}
	for name := range target.Addresses {
		kind, ok := kinds[name]
		if !ok {
			continue
		}
		o, err := oracle.Try(t.Context(), target, name)
		if errors.Is(err, oracle.ErrUndecided) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if name == oracle.Leafnode { // two ways lead there
			over, err := oracle.Try(t.Context(), target, oracle.LeafWebsocket)
			if err == nil {
				o.In = o.In || over.In
			}
		}
		d := srv.Door(kind)
		if d == nil {
			continue
		}
		said := say(state, srv, kind)
		t.Logf("%s %s in: %v said: %s (%s) %s", s.Name(), name, o.In, said.access, said.basis, said.reason)
		// On the server's word alone an access is no more than reported.
		if said.access == posture.Open && !o.In || said.access == posture.Closed && o.In && said.basis > posture.Reported || said.pass && o.In || said.alarm && !o.In {
			t.Errorf("WRONG: the %s listener of %s is called %s (%s; passes: %v, alarms: %v), and an anonymous client is in: %v (%s); %+v",
				name, s.Name(), said.access, said.basis, said.pass, said.alarm, o.In, o.How, d.Evidence)
		}
		decided[name] = said.basis == posture.Proven
	}
	for _, name := range must {
		if !decided[name] {
			t.Errorf("the %s listener of %s is not proven: %+v", name, s.Name(), srv.Door(kinds[name]))
		}
	}
	onlyOwnInfo(t, state)
}

// TestTruthOfAdvertisedAddresses: what clients are told is a name that nobody
// resolves, or a port on which nobody listens.
func TestTruthOfAdvertisedAddresses(t *testing.T) {
	t.Parallel()
	for name, config := range reachConfigs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fleet.Spec{Name: "hub", Config: hub})
			for server, advertise := range map[string]string{"named": `nobody.invalid:{{port "client"}}`, "nowhere": unused(t)} {
				spec := fleet.Spec{Name: server, Config: config + reachListeners + fmt.Sprintf("client_advertise: \"%s\"\n", advertise), Options: joined(f)}
				if _, err := f.Add(t.Context(), spec); err != nil {
					t.Fatal(err)
				}
			}
			waitActive(t, f, f.Server("hub"), 3)
			state := sweep(t, toucher(t, connectSys(t, f.Server("hub"))))
			holdAddresses(t, state, f.Server("named"), oracle.Client, oracle.Websocket, oracle.Leafnode)
			holdAddresses(t, state, f.Server("nowhere"), oracle.Websocket, oracle.Leafnode)
		})
	}
}

// TestTruthBehindOneBalancer: servers of all these configurations advertise one
// load balancer.
func TestTruthBehindOneBalancer(t *testing.T) {
	t.Parallel()
	b := balance(t)
	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	var servers []*fleet.Server
	var backends []string
	for _, config := range reachConfigs {
		s, err := f.Add(t.Context(), fleet.Spec{
			Name:   fmt.Sprintf("n%d", len(servers)),
			Config: config + reachListeners + fmt.Sprintf("client_advertise: %q\n", b.addr), Options: joined(f),
		})
		if err != nil {
			t.Fatal(err)
		}
		servers, backends = append(servers, s), append(backends, s.Addr("client"))
	}
	waitActive(t, f, f.Server("hub"), len(servers)+1)
	b.to(backends...)
	nc := connectSys(t, f.Server("hub"))
	// Where the balancer leads is chance: a look may miss a server, which is then not
	// proven.
	var state *agent.State
	eventually(t, "the balancer has led to every server", func() bool {
		state = sweep(t, toucher(t, nc))
		return !slices.ContainsFunc(servers, func(s *fleet.Server) bool {
			d := state.Snapshot.Server(s.ID()).Door(posture.Client)
			return d == nil || d.Basis != posture.Proven
		})
	})
	for _, s := range servers {
		holdAddresses(t, state, s, oracle.Client, oracle.Websocket, oracle.Leafnode)
	}
	b.to(backends[0]) // all go to the same one
	state = sweep(t, toucher(t, nc))
	holdAddresses(t, state, servers[0], oracle.Client)
	for _, s := range servers {
		holdAddresses(t, state, s, oracle.Websocket, oracle.Leafnode)
	}
}

// TestTruthOfSilentServers: members that answer nobody, and leafnodes with
// their own system account whose addresses the operator gives.
func TestTruthOfSilentServers(t *testing.T) {
	t.Parallel()
	for name, config := range reachConfigs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			silent := func(o *server.Options) { o.NoSystemAccount, o.SystemAccount = true, "" }
			f := start(t, fleet.Spec{Name: "hub", Config: hub + clustered("c")})
			if name == "the hidden user" {
				silent = func(*server.Options) {} // there is none without a system account; this one is its own
				config = `accounts { OWN { users: [ { user: sys, password: sys-password } ] } }` + "\nsystem_account: OWN"
			}
			if _, err := f.Add(t.Context(), fleet.Spec{Name: "member", Config: config + reachListeners + clustered("c", "hub"), Options: silent}); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Add(t.Context(), fleet.Spec{Name: "edge", Config: config + reachListeners, Options: func(o *server.Options) {
				silent(o)
				o.LeafNode.Remotes = append(o.LeafNode.Remotes, &server.RemoteLeafOpts{
					URLs:         []*url.URL{{Scheme: "nats-leaf", Host: f.Server("hub").Addr("leafnode"), User: url.UserPassword("leaf-app", "leaf-password")}},
					LocalAccount: "$G",
				})
			}}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the edge joined", func() bool { return f.Server("hub").Embedded().NumLeafNodes() == 1 })
			eventually(t, "the member joined", func() bool { return f.Server("hub").Embedded().NumRoutes() > 0 })
			policy := check.DefaultPolicy()
			policy.LoopbackExposed = true
			policy.Addresses = map[string][]string{"edge": {f.Server("edge").Addr("client"), f.Server("edge").Addr("websocket"), f.Server("edge").Addr("leafnode")}}
			a, err := agent.New(connectSys(t, f.Server("hub")), agent.Config{System: "truth", Policy: policy, Rules: prompt, Collect: hasty})
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			state := sweep(t, a)
			holdAddresses(t, state, f.Server("member"), oracle.Client, oracle.Websocket)
			holdAddresses(t, state, f.Server("edge"), oracle.Client, oracle.Websocket, oracle.Leafnode)
		})
	}
}
