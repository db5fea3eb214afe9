package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// patient is a collector that would wait for long: a sweep that ends early
// knows by itself that it is complete.
var patient = collect.Config{Timeout: 30 * time.Second}

// closedApp is a closed server: its only way in is a password.
const closedApp = `
accounts {
  $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] }
  APP  { users: [ { user: app, password: app-password } ] }
}
system_account: "$SYS"
`

// complete asserts that a sweep of a healthy fleet saw these servers and no
// others, left nothing out, and ended as soon as everybody had answered.
func complete(t testing.TB, state *agent.State, servers ...*fleet.Server) {
	t.Helper()
	snap := state.Snapshot
	if snap.Expected != len(servers) || snap.Heard != len(servers) || len(snap.Servers) != len(servers) {
		t.Errorf("expected %d, heard %d and listed %d of %d servers", snap.Expected, snap.Heard, len(snap.Servers), len(servers))
	}
	for _, s := range servers {
		switch srv := snap.Server(s.ID()); {
		case srv == nil:
			t.Errorf("%s (%s) is missing", s.Name(), s.ID())
		case srv.State != posture.Answering || !srv.Heard.Has(posture.Statsz|posture.Varz|posture.Routez|posture.Gatewayz|posture.Leafz|posture.Accountz|posture.Connz|posture.AccountStatz):
			t.Errorf("%s is %s and answered %v only", s.Name(), srv.State, srv.Heard.InputNames())
		}
	}
	if len(snap.Gaps) != 0 {
		t.Errorf("gaps: %v", snap.Gaps)
	}
	if snap.Took > patient.Timeout/3 {
		t.Errorf("it took %s: it waited for somebody who does not exist", snap.Took)
	}
	for _, f := range found(state, "FLEET_005", "") {
		t.Errorf("%s", f.Summary)
	}
	report := state.Report()
	if report.Coverage.Expected != len(servers) || report.Coverage.Heard != len(servers) || len(report.Servers) != len(servers) {
		t.Errorf("report covers %d of %d with %d servers, want %d", report.Coverage.Heard, report.Coverage.Expected, len(report.Servers), len(servers))
	}
}

// thrice sweeps a healthy fleet three times: the first sweep asks for
// everything, the second for what moves, and the last without the sessions.
func thrice(t testing.TB, nc *nats.Conn, servers ...*fleet.Server) *agent.State {
	t.Helper()
	a := auditor(t, nc, patient)
	complete(t, sweep(t, a), servers...)
	second := sweep(t, a)
	complete(t, second, servers...)
	third, err := a.Sweep(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	complete(t, third, servers...)
	if third.Snapshot.Epoch != 3 {
		t.Errorf("epoch %d after three sweeps", third.Snapshot.Epoch)
	}
	return second
}

// eventually waits for a condition, and fails the test when it does not come.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("not within a minute: %s", what)
		case <-t.Context().Done():
			t.Fatalf("the test ended: %s", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestSingleServer(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp})
	state := thrice(t, connectSys(t, f.Server("n1")), f.Servers()...)
	if d := door(t, state, "n1", posture.Client); d.Access != posture.Closed || d.Basis != posture.Reported {
		t.Errorf("client door %s (%s)", d.Access, d.Basis)
	}
	if s := state.Snapshot.Servers[0]; s.AuthMode != posture.AuthStatic || s.Cluster != "" || s.SuperCluster {
		t.Errorf("%+v", s)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2", "n3")},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1", "n3")},
		fleet.Spec{Name: "n3", Config: closedApp + clustered("c", "n1", "n2")},
	)
	waitActive(t, f, f.Server("n1"), 3)
	state := thrice(t, connectSys(t, f.Server("n2")), f.Servers()...)
	for _, s := range f.Servers() {
		if srv := state.Snapshot.Server(s.ID()); srv.Cluster != "c" {
			t.Errorf("%s is in cluster %q", s.Name(), srv.Cluster)
		}
		if d := door(t, state, s.Name(), posture.Route); d.On != posture.Yes || d.Access != posture.Unknown || d.Reason == "" {
			t.Errorf("route door of %s: on %v, %s (%q)", s.Name(), d.On, d.Access, d.Reason)
		}
	}
	for _, id := range []string{"FLEET_001", "FLEET_003", "FLEET_007"} {
		if len(found(state, id, "")) != 0 {
			t.Errorf("%s on three equal servers", id)
		}
	}
}

func TestSuperCluster(t *testing.T) {
	t.Parallel()
	gateway := func(cluster string) string {
		return fmt.Sprintf(`
gateway {
  name: %s
  listen: "{{addr "gateway"}}"
  authorization { user: g, password: gateway-password, timeout: 10 }
  gateways: [
    { name: east, urls: ["nats://g:gateway-password@{{addr "e1" "gateway"}}", "nats://g:gateway-password@{{addr "e2" "gateway"}}"] }
    { name: west, urls: ["nats://g:gateway-password@{{addr "w1" "gateway"}}", "nats://g:gateway-password@{{addr "w2" "gateway"}}"] }
  ]
}
`, cluster)
	}
	f := start(t,
		fleet.Spec{Name: "e1", Config: closedApp + clustered("east", "e2") + gateway("east")},
		fleet.Spec{Name: "e2", Config: closedApp + clustered("east", "e1") + gateway("east")},
		fleet.Spec{Name: "w1", Config: closedApp + clustered("west", "w2") + gateway("west")},
		fleet.Spec{Name: "w2", Config: closedApp + clustered("west", "w1") + gateway("west")},
	)
	waitActive(t, f, f.Server("e1"), 4)
	state := thrice(t, connectSys(t, f.Server("e1")), f.Servers()...)
	for _, s := range state.Snapshot.Servers {
		if want := map[byte]string{'e': "east", 'w': "west"}[s.Name[0]]; s.Cluster != want || !s.SuperCluster {
			t.Errorf("%s is in cluster %q, super-cluster %v", s.Name, s.Cluster, s.SuperCluster)
		}
		if d := s.Door(posture.Gateway); d.On != posture.Yes || d.Access != posture.Unknown {
			t.Errorf("gateway door of %s: on %v, %s", s.Name, d.On, d.Access)
		}
	}
}

// hub listens for leafnodes of its system account and of APP.
const hub = closedApp + `
leafnodes {
  listen: "{{addr "leafnode"}}"
  authorization { users: [
    { user: leaf-sys, password: leaf-password, account: "$SYS" }
    { user: leaf-app, password: leaf-password, account: APP }
  ] }
}
`

// remote joins a leafnode's account with the same one of the hub.
func remote(user, account string) string {
	return fmt.Sprintf(`
leafnodes { remotes: [ { url: "nats-leaf://%s:leaf-password@{{addr "hub" "leafnode"}}", account: %q } ] }
`, user, account)
}

func TestLeafnodeWithTheSystemAccount(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "leaf", Config: closedApp + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), 2)
	// From either side the fleet is the same.
	thrice(t, connectSys(t, f.Server("hub")), f.Servers()...)
	thrice(t, connectSys(t, f.Server("leaf")), f.Servers()...)
}

func TestLeafnodeWithAnotherAccountIsNotExpected(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "leaf", Config: closedApp + remote("leaf-app", "APP")},
	)
	eventually(t, "the leafnode joined", func() bool { return f.Server("hub").Embedded().NumLeafNodes() == 1 })
	thrice(t, connectSys(t, f.Server("hub")), f.Server("hub"))
	thrice(t, connectSys(t, f.Server("leaf")), f.Server("leaf"))
}

func TestOperatorMode(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	f := start(t,
		fleet.Spec{Name: "n1", Config: op.Config() + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: op.Config() + clustered("c", "n1")},
	)
	login := op.login(&op.System, "auditor", nil)
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, login); err != nil {
		t.Fatal(err)
	}
	// Somebody of an account is inside: he is no business of ours.
	connect(t, f.Server("n1").URL(), op.login(&op.App, "worker", nil))
	// complete asserts that the questions for the global account, which
	// nobody can get into here, leave no gap.
	state := thrice(t, connect(t, f.Server("n1").URL(), login), f.Servers()...)
	for _, s := range f.Servers() {
		srv := state.Snapshot.Server(s.ID())
		if srv.AuthMode != posture.AuthOperator || srv.AuthRequired != posture.Yes || srv.SystemAccount != op.System.Public {
			t.Errorf("%s: auth %s, required %v, system account %s", s.Name(), srv.AuthMode, srv.AuthRequired, srv.SystemAccount)
		}
		if len(srv.Operators) != 1 || srv.Operators[0].Name != "OP" {
			t.Errorf("%s trusts %v", s.Name(), srv.Operators)
		}
		if d := srv.Door(posture.Client); d.Access != posture.Closed || d.Basis > posture.Reported {
			t.Errorf("client door of %s: %s (%s)", s.Name(), d.Access, d.Basis)
		}
		if got := outcome(state, "SESS_001", s.Name(), posture.Client); got != check.Pass {
			t.Errorf("SESS_001 on %s: %v", s.Name(), got)
		}
	}
	for _, id := range []string{"DOOR_001", "FLEET_001", "FLEET_002", "FLEET_003"} {
		if fs := found(state, id, ""); len(fs) != 0 {
			t.Errorf("unexpected: %s", fs[0].Summary)
		}
	}
}

// twins are two servers of one name, both of which show their monitoring.
func twins(t *testing.T) *fleet.Fleet {
	t.Helper()
	const name = `
server_name: twin
http: "{{addr "monitor"}}"
`
	f := start(t,
		fleet.Spec{Name: "hub", Config: name + hub},
		fleet.Spec{Name: "leaf", Config: name + closedApp + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), 2)
	return f
}

func TestDuplicateNames(t *testing.T) {
	t.Parallel()
	f := twins(t)
	state := thrice(t, connectSys(t, f.Server("hub")), f.Servers()...)
	fs := found(state, "DOOR_007", "twin")
	if len(fs) != 2 || fs[0].Fingerprint == fs[1].Fingerprint || fs[0].Scope.ServerID == fs[1].Scope.ServerID {
		t.Fatalf("want one finding for each twin, got %v", fs)
	}
	if state.Snapshot.Server("twin") != nil {
		t.Error("an ambiguous name found a server")
	}
}
