package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// group is what a check said of all servers or of one cluster.
func group(state *agent.State, checkID string) check.Outcome {
	for _, r := range state.Results {
		if r.Check.ID == checkID && r.Scope.Kind != check.KindServer {
			return r.Outcome
		}
	}
	return check.Unknown
}

// TestAnotherSystemAccount: a member of the cluster whose system account is
// another one never answers. It is missed, and nothing passes over it.
func TestAnotherSystemAccount(t *testing.T) {
	t.Parallel()
	other := strings.NewReplacer("$SYS", "OTHER").Replace(closedApp)
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2", "odd")},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1", "odd")},
		fleet.Spec{Name: "odd", Config: other + clustered("c", "n1", "n2")},
	)
	waitActive(t, f, f.Server("n1"), 2)
	for _, s := range f.Servers() {
		eventually(t, s.Name()+" has its routes", func() bool { return s.Embedded().NumRemotes() == 2 })
	}
	state := sweep(t, auditor(t, connectSys(t, f.Server("n1")), collect.Config{Timeout: time.Second}))
	id := f.Server("odd").ID()
	srv := state.Snapshot.Server(id)
	if srv == nil || srv.State != posture.Silent || srv.Name != "odd" || state.Snapshot.Expected != 3 || state.Snapshot.Heard != 2 {
		t.Fatalf("heard %d of %d, and of the odd one %+v", state.Snapshot.Heard, state.Snapshot.Expected, srv)
	}
	if fs := found(state, "FLEET_005", "odd"); len(fs) != 1 || fs[0].Cause != "never-answered" {
		t.Errorf("FLEET_005: %v", fs)
	}
	for _, r := range state.Results {
		if r.Outcome == check.Pass && (r.Scope.ServerID == id || r.Scope.Kind != check.KindServer) {
			t.Errorf("%s passes over a server that did not answer: %s", r.Check.ID, r.Summary)
		}
	}
}

// TestSessionsBeyondTheLimit: sessions that were not looked at are not said
// to be in order.
func TestSessionsBeyondTheLimit(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "token", Config: "authorization { token: token-of-the-tests }" + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), 2)
	for range 3 {
		connect(t, f.Server("token").URL(), nats.Token("token-of-the-tests"))
	}
	nc := connectSys(t, f.Server("hub"))
	for limit, want := range map[int]check.Outcome{2: check.Unknown, 3: check.Pass} {
		state := sweep(t, auditor(t, nc, collect.Config{SessionLimit: limit}))
		if got := outcome(state, "SESS_001", "token", posture.Client); got != want {
			t.Errorf("SESS_001 with %d of 3 sessions looked at: %v, want %v", limit, got, want)
		}
		if s := state.Snapshot.Server("token").Sessions; s.Total != 3 || len(s.List) != limit {
			t.Errorf("%d of %d sessions", len(s.List), s.Total)
		}
	}
}

// TestReloadOutdatesSessions: after a reload, what was seen of the sessions
// before says nothing, also when it is not their time.
func TestReloadOutdatesSessions(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: sysAccount})
	s := f.Server("n1")
	connect(t, s.URL(), nats.NoReconnect())
	a := auditor(t, connectSys(t, s, quick...), patient)
	client := func(state *agent.State) verdict { return verdictOf(door(t, state, "n1", posture.Client)) }
	if got := client(sweep(t, a)); got != openBy(posture.Observed, posture.CauseHiddenUser) {
		t.Fatalf("before: %v", got)
	}
	without := func() *agent.State {
		t.Helper()
		state, err := a.Sweep(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		return state
	}
	if err := s.Reload(t.Context(), closedAppOnce); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the auditor is back", func() bool { return s.Embedded().NumClients() == 1 })
	closed := without()
	if got := client(closed); got != closedReported {
		t.Errorf("after the reload that closes it: %v", got)
	}
	if len(found(closed, "FLEET_006", "n1")) != 1 {
		t.Error("the change was not seen")
	}
	// And open again, with somebody inside before we look.
	if err := s.Reload(t.Context(), sysAccount); err != nil {
		t.Fatal(err)
	}
	connect(t, s.URL(), nats.NoReconnect())
	if got := client(without()); got != openBy(posture.Observed, posture.CauseHiddenUser) {
		t.Errorf("after the reload that opens it: %v", got)
	}
}

// closedAppOnce closes sysAccount by an account more.
var closedAppOnce = merged("accounts {\n  APP { users: [ { user: app, password: app-password } ] }\n}\n")

// TestFleetRemedies brings the odd member to what the others are.
func TestFleetRemedies(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	year := ca.files(365 * 24 * time.Hour)
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2", "open"), Files: year},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1", "open") + tlsBlock(""), Files: year},
		fleet.Spec{Name: "open", Config: clustered("c", "n1", "n2"), Files: year},
	)
	waitActive(t, f, f.Server("n1"), 3)
	nc := connectSys(t, f.Server("n1"), nats.NoReconnect())
	a := auditor(t, nc, patient)
	sick := sweep(t, a)
	for _, id := range []string{"FLEET_001", "FLEET_004"} {
		if fs := found(sick, id, ""); len(fs) != 1 {
			t.Errorf("%s: %v", id, fs)
		}
	}
	// The system account may not even be named by its default name in a
	// reload, where it was not before.
	unnamed := strings.Replace(closedApp, `system_account: "$SYS"`, "", 1)
	for name, config := range map[string]string{
		"n1":   closedApp + clustered("c", "n2", "open"),
		"open": unnamed + clustered("c", "n1", "n2"),
	} {
		if err := f.Server(name).Reload(t.Context(), config+tlsBlock("")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Our own connection, in plaintext, is one of those that stay.
	cured := sweep(t, a)
	complete(t, cured, f.Servers()...)
	for _, id := range []string{"FLEET_001", "FLEET_004"} {
		if got := group(cured, id); got != check.Pass {
			t.Errorf("%s after the reload: %v", id, got)
		}
	}
	if stay(t, f.Server("open").URL()) {
		t.Error("a stranger still gets in")
	}
	if slices.ContainsFunc(cured.Snapshot.Servers, func(s *posture.Server) bool { return s.AuthMode != posture.AuthStatic }) {
		t.Error("not all are static")
	}
}
