package check

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// judgeAlone judges by one check only.
func (c *Check) judgeAlone(snap *posture.Snapshot, policy Policy) []Result {
	return c.judge(nil, snap, policy, func() []*Inside { return insides(snap) })
}

func TestCatalogueIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Catalogue() {
		for _, id := range append([]string{c.ID}, c.Aliases...) {
			if seen[id] {
				t.Errorf("%s is used twice", id)
			}
			seen[id] = true
			if Lookup(id) != c {
				t.Errorf("Lookup(%s) does not find it", id)
			}
		}
		if !regexp.MustCompile(`^[A-Z]+_\d{3}$`).MatchString(c.ID) {
			t.Errorf("%s: not an id", c.ID)
		}
		if c.Severity == NoSeverity || c.Title == "" || c.Doc == "" {
			t.Errorf("%s: incomplete", c.ID)
		}
		kinds := 0
		for _, set := range []bool{c.Door != nil, c.Server != nil, c.Group != nil, c.Operator != nil, c.Account != nil, c.Inside != nil, c.Advisory != nil} {
			if set {
				kinds++
			}
		}
		if kinds != 1 || (c.Door != nil) != (len(c.Doors) > 0) || (c.Group != nil) != (c.By != ByNothing) {
			t.Errorf("%s: exactly one of Door, Server, Group, Operator, Account, Inside and Advisory, with what belongs to it", c.ID)
		}
		remedies := []Remedy{c.Remedy}
		for _, r := range c.Remedies {
			remedies = append(remedies, r)
		}
		for _, r := range remedies {
			if r.Config != "" && !strings.HasSuffix(r.Config, "\n") {
				t.Errorf("%s: a configuration ends with a newline", c.ID)
			}
		}
		if c.Remedy.Text == "" && c.Remedies == nil {
			t.Errorf("%s: no remediation", c.ID)
		}
	}
}

// TestMissingAnswersNeverPass takes every answer away, one set after the
// other: nothing may then pass that needs it, and nothing may be closed.
func TestMissingAnswersNeverPass(t *testing.T) {
	all := posture.Statsz | posture.Varz | posture.Routez | posture.Gatewayz | posture.Leafz | posture.Connz | posture.AccountStatz | posture.Accountz | posture.EveryoneConnz
	for heard := range all + 1 {
		s := server("n1", on(posture.Websocket, "0.0.0.0"), on(posture.MQTT, "0.0.0.0"), on(posture.Monitor, "127.0.0.1"), inside(),
			func(s *posture.Server) { s.Heard = heard })
		for _, r := range Evaluate(fleet(s), DefaultPolicy()) {
			if !heard.Has(r.Check.Needs) && r.Outcome != Unknown && r.Outcome != NotApplicable {
				t.Errorf("%s is %s with only %v answered", r.Check.ID, r.Outcome, heard.InputNames())
			}
		}
		for i := range s.Doors {
			if d := &s.Doors[i]; !heard.Has(posture.Varz) && d.Access != posture.Unknown {
				t.Errorf("the %s door is %s without VARZ", d.Kind, d.Access)
			}
		}
	}
}

// TestSight: servers that run are judged by what judges those, and configurations
// by what judges these.
func TestSight(t *testing.T) {
	for config, snap := range map[bool]*posture.Snapshot{false: fleet(server("n1")), true: configured()} {
		seen := map[string]bool{}
		for _, r := range Evaluate(snap, DefaultPolicy()) {
			seen[r.Check.ID] = true
			if config && r.Outcome == Fail && r.Check != door001 {
				t.Errorf("%s fails on a configuration without anything to find", r.Check.ID)
			}
		}
		for _, c := range Catalogue() {
			subjects := c.Group == nil && c.Operator == nil && c.Account == nil && (c.Inside == nil || config)
			if want := c.Sight == Both || (c.Sight == Lint) == config; seen[c.ID] != want && (subjects || !want) {
				t.Errorf("%s judges configurations: %v, and is %s", c.ID, config, c.Sight)
			}
		}
	}
}

// TestConfigurations: a configuration is its own truth, so that a door that it
// closes passes, and each finding tells a place.
func TestConfigurations(t *testing.T) {
	place := posture.Place{File: "n1.conf", Line: 3, Column: 1}
	door := func(a posture.Access) *posture.Snapshot {
		return configured(door(posture.Client, func(d *posture.Door) {
			d.Access, d.Basis, d.Reason = a, posture.Declared, "a test"
			d.Evidence = []posture.Evidence{place.Says(a, "a test")}
		}))
	}
	for access, want := range map[posture.Access]Outcome{posture.Open: Fail, posture.Closed: Pass, posture.Unknown: Unknown} {
		r := door001.judgeAlone(door(access), DefaultPolicy())[0]
		if r.Outcome != want || len(r.Evidence) != 1 || r.Evidence[0].Source != "n1.conf:3:1" || *r.Evidence[0].Place != place {
			t.Errorf("%s: %+v", access, r)
		}
	}
}

func TestSeverityBends(t *testing.T) {
	exposed := DefaultPolicy()
	exposed.LoopbackExposed = true
	loopback := server("n1", open, on(posture.Client, "127.0.0.1"))
	restricted := server("n1", open)
	restricted.Door(posture.Client).Landing.Restricted = true
	for _, c := range []struct {
		name   string
		server *posture.Server
		policy Policy
		want   Severity
	}{
		{"reachable", server("n1", open), DefaultPolicy(), Critical},
		{"IPv6 wildcard", server("n1", open, on(posture.Client, "::")), DefaultPolicy(), Critical},
		{"loopback", loopback, DefaultPolicy(), Warning},
		{"IPv6 loopback", server("n1", open, on(posture.Client, "[::1]")), DefaultPolicy(), Warning},
		{"loopback behind a forwarder", loopback, exposed, Critical},
		{"restricted landing", restricted, DefaultPolicy(), Warning},
		{"any certificate of the CA", server("n1", open, door(posture.Client, func(d *posture.Door) {
			d.TLS = posture.TLS{On: posture.Yes, Required: posture.Yes, Verify: posture.Yes}
		})), DefaultPolicy(), Warning},
	} {
		r := door001.judgeAlone(fleet(c.server), c.policy)[0]
		if r.Outcome != Fail || r.Severity != c.want {
			t.Errorf("%s: %s %s, want fail %s", c.name, r.Outcome, r.Severity, c.want)
		}
	}
	for left, want := range map[time.Duration]Severity{
		-time.Hour: Critical, 6 * 24 * time.Hour: Critical, 8 * 24 * time.Hour: Warning,
	} {
		r := tls001.judgeAlone(fleet(server("n1", door(posture.Client, expires(left)))), DefaultPolicy())[0]
		if r.Outcome != Fail || r.Severity != want {
			t.Errorf("certificate with %s left: %s %s, want fail %s", left, r.Outcome, r.Severity, want)
		}
	}
}

// TestGroupsKeepToThemselves: clusters are compared inside, super-clusters
// as one, and a leaf of another operator with nobody.
func TestGroupsKeepToThemselves(t *testing.T) {
	in := func(cluster string, super bool) func(*posture.Server) {
		return func(s *posture.Server) { s.Cluster, s.SuperCluster = cluster, super }
	}
	snap := fleet(
		server("a1", in("a", true), operator("OA")), server("a2", in("a", true), operator("OA")),
		server("b1", in("b", true), operator("OB")),
		server("leaf", in("", false), operator("OC")),
		server("other", in("x", false), operator("OD")), server("other2", in("x", false), operator("OD")),
	)
	var failed []Scope
	for _, r := range fleet002.judgeAlone(snap, DefaultPolicy()) {
		if r.Outcome == Fail {
			failed = append(failed, r.Scope)
			if strings.Contains(r.Summary, "leaf") || strings.Contains(r.Summary, "other") {
				t.Errorf("compared with servers elsewhere: %s", r.Summary)
			}
		}
	}
	if len(failed) != 1 || failed[0].Kind != KindSystem {
		t.Errorf("got %v, want one failure over the super-cluster", failed)
	}
}

// TestMonitorFollowsTheProbe: what was found at the address decides about
// monitoring as it does about any other listener.
func TestMonitorFollowsTheProbe(t *testing.T) {
	for _, c := range []struct {
		name  string
		touch posture.Touch
		want  Outcome
	}{
		{"the server answers", posture.Touch{Access: posture.Open, Answer: "GET /varz: 200 OK"}, Fail},
		{"nothing can be reached", posture.Touch{Reason: "cannot be reached from here"}, Fail}, // by the server's word
		{"another server answers", posture.Touch{Reason: "another server answers"}, Fail},      // the same
		{"a proxy answers", posture.Touch{Reason: "GET /varz: 401 Unauthorized, without the id of a NATS server", Nameless: true}, Unknown},
	} {
		c.touch.Door = posture.Monitor
		s := server("n1", on(posture.Monitor, "0.0.0.0"), func(s *posture.Server) { s.Touches = append(s.Touches, c.touch) })
		for _, r := range Evaluate(fleet(s), DefaultPolicy()) {
			if r.Check.ID != "DOOR_007" {
				continue
			}
			if r.Outcome != c.want || c.want == Unknown && !strings.Contains(r.Summary, c.touch.Reason) {
				t.Errorf("%s: %v, %q", c.name, r.Outcome, r.Summary)
			}
		}
	}
}
