//go:build !windows

package integration

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// toldOf is told, of an account.
func (v *vigil) toldOf(t *testing.T, checkID, account string, action finding.Action) finding.Finding {
	t.Helper()
	return v.await(t, checkID, account, action, func(s check.Scope) string { return s.Account })
}

// TestPushIsFollowed: who pushes a JWT has that account looked at, long before
// it is time to look at all of them.
func TestPushIsFollowed(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	f, nc := members(t, op, func() string { return op.Config() }, "n1", "n2")
	v := keepWatch(t, nc, -1, func(c *agent.Config) { c.AccountInterval = neverAgain; c.Probe.Off = true })
	pusher := connect(t, f.Server("n2").URL(), auditorOf(&op.System))
	exports := func(list ...*jwt.Export) {
		t.Helper()
		if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Exports = list }); err != nil {
			t.Fatal(err)
		}
		push(t, pusher, op.App.JWT)
	}
	began := time.Now()
	exports(&jwt.Export{Subject: "orders.>", Type: jwt.Stream})
	v.toldOf(t, "JWT_017", op.App.Public, finding.Opened)
	t.Logf("opened %s after the push", time.Since(began).Round(time.Millisecond))
	began = time.Now()
	exports()
	v.toldOf(t, "JWT_017", op.App.Public, finding.Resolved)
	t.Logf("resolved %s after the push", time.Since(began).Round(time.Millisecond))

	// A new account, that nobody knew of.
	fresh := must(op.Account("fresh", nil))
	push(t, pusher, fresh.JWT)
	v.toldOf(t, "JWT_012", fresh.Public, finding.Opened)

	// And one that is deleted, by a request that does not name it in its subject.
	request := jwt.NewGenericClaims(op.Claims.SigningKeys[0])
	request.Data["accounts"] = []string{fresh.Public}
	if m, err := pusher.Request("$SYS.REQ.CLAIMS.DELETE", []byte(must(op.EncodeBySigningKey(request))), 5*time.Second); err != nil {
		t.Fatalf("%v %s", err, m.Data)
	}
	v.toldOf(t, "JWT_012", fresh.Public, finding.Resolved)
}

// TestSilentServerAndAccounts: a server that goes by a claim and does not answer
// any more leaves its accounts neither well nor mended.
func TestSilentServerAndAccounts(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	tidyAccount(t, op, &op.System, nil)
	f := start(t,
		fleet.Spec{Name: "n1", Config: op.Config() + clustered("c", "victim")},
		fleet.Spec{Name: "victim", Config: op.Config() + clustered("c", "n1"), Binary: binary(t, "v2.14.5")},
	)
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, auditorOf(&op.System)); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Servers() {
		connect(t, s.URL(), must(op.App.Login("app")), nats.NoReconnect())
	}
	a := auditor(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), hasty)
	state := sweep(t, a)
	for _, c := range []struct {
		check, account string
		want           check.Outcome
	}{{"JWT_012", op.System.Public, check.Pass}, {"JWT_012", op.App.Public, check.Fail}, {"JWT_011", op.App.Public, check.Pass}} {
		if r := said(state, c.check, c.account); r.Outcome != c.want {
			t.Errorf("%s is %s, want %s: %s", c.check, r.Outcome, c.want, r.Summary)
		}
	}
	freeze(t, f.Server("victim"))
	sweep(t, a)
	state = sweep(t, a)
	for _, c := range []struct {
		check, account string
		want           check.Outcome
	}{{"JWT_012", op.System.Public, check.Unknown}, {"JWT_012", op.App.Public, check.Fail}, {"JWT_011", op.App.Public, check.Unknown}} {
		if r := said(state, c.check, c.account); r.Outcome != c.want {
			t.Errorf("with a server frozen %s is %s, want %s: %s", c.check, r.Outcome, c.want, r.Summary)
		}
	}
	if account := state.Snapshot.Trust.Account(op.App.Public); account == nil || !slices.Equal(account.Missing, []string{"victim"}) {
		t.Errorf("%+v", account)
	}
}

// scopes lists what a fleet check said, by the name of the cluster.
func scopes(state *agent.State, checkID string) map[string]check.Result {
	out := map[string]check.Result{}
	for _, r := range state.Results {
		if r.Check.ID == checkID {
			out[r.Scope.Cluster] = r
		}
	}
	return out
}

// joinedFleet sweeps until so many servers are known, and so many of them answer.
func joinedFleet(t *testing.T, nc *nats.Conn, servers, answer int) *agent.State {
	t.Helper()
	a := auditor(t, nc, collect.Config{Timeout: 800 * time.Millisecond})
	var state *agent.State
	eventually(t, fmt.Sprintf("%d servers are known", servers), func() bool {
		state = sweep(t, a)
		return len(state.Snapshot.Servers) == servers && state.Snapshot.Heard == answer && !slices.ContainsFunc(state.Snapshot.Servers, func(s *posture.Server) bool {
			return s.State != posture.Answering && s.Linked != posture.Yes
		})
	})
	return state
}

// TestHalfFinishedMigration: one member of a cluster is still on the old file.
// Where it names the system account that the operator made, it answers and the
// clash is seen. Where it has its own, it answers nobody: then nothing passes,
// and what is seen is that its peers are connected to it.
func TestHalfFinishedMigration(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	joined := fmt.Sprintf("accounts { %s { users: [ { user: sys, password: pw } ] }, APP { users: [ { user: app, password: pw } ] } }\nsystem_account: %s\n", op.System.Public, op.System.Public)
	for name, old := range map[string]string{"same": joined, "own": closedApp} {
		f := start(t,
			fleet.Spec{Name: "n1", Config: op.Config() + clustered("c", "n2", "n3")},
			fleet.Spec{Name: "n2", Config: op.Config() + clustered("c", "n1", "n3")},
			fleet.Spec{Name: "n3", Config: old + clustered("c", "n1", "n2")},
		)
		state := joinedFleet(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), 3, map[string]int{"same": 3, "own": 2}[name])
		r := scopes(state, "FLEET_001")["c"]
		if name == "same" {
			if r.Outcome != check.Fail || r.Cause != "half-migrated" {
				t.Errorf("%s: FLEET_001 is %s (%s): %s", name, r.Outcome, r.Cause, r.Summary)
			}
			continue
		}
		for _, id := range []string{"FLEET_001", "FLEET_002", "FLEET_003"} {
			if r := scopes(state, id)["c"]; r.Outcome != check.Unknown {
				t.Errorf("%s: %s is %s: %s", name, id, r.Outcome, r.Summary)
			}
		}
		if fs := found(state, "FLEET_005", "n3"); len(fs) != 1 || fs[0].Cause != "never-answered" {
			t.Errorf("%s: FLEET_005: %v", name, fs)
		}
		// Seen from the member that was left behind, it is the others.
		state = joinedFleet(t, connectSys(t, f.Server("n3")), 3, 1)
		if r := scopes(state, "FLEET_001")["c"]; r.Outcome != check.Unknown || len(found(state, "FLEET_005", "")) != 2 {
			t.Errorf("from n3: FLEET_001 is %s: %s", r.Outcome, r.Summary)
		}
	}
}

// TestOldOperatorClaim: a server that still has the operator JWT of before the
// signing key was replaced.
func TestOldOperatorClaim(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	before := op.Config() + clustered("c", "n1")
	must(op.RotateSigningKey())
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config() + clustered("c", "n2")}, fleet.Spec{Name: "n2", Config: before})
	state := joinedFleet(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), 2, 2)
	if r := scopes(state, "FLEET_002")["c"]; r.Outcome != check.Fail || r.Cause != "old-claim" || len(r.Evidence) != 2 {
		t.Errorf("FLEET_002 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
}

// TestTwoOperatorsOverAGateway: both sides have one system account, which both
// operators have signed; or each has its own, and then the other side answers
// nobody.
func TestTwoOperatorsOverAGateway(t *testing.T) {
	t.Parallel()
	gateway := func(own, other, peer string) string {
		return clustered(own) + fmt.Sprintf(`
gateway {
  name: %s
  listen: "{{addr "gateway"}}"
  authorization { user: g, password: gateway-password, timeout: 10 }
  gateways: [ { name: %s, url: "nats://g:gateway-password@{{addr %q "gateway"}}" } ]
}
`, own, other, peer)
	}
	left, right := must(fleet.NewOperator()), must(fleet.NewOperator())
	for name, shared := range map[string]bool{"one system account": true, "two": false} {
		if shared {
			claims := *left.System.Claims
			right.System = left.System
			right.System.Claims = &claims
			if err := right.Sign(&right.System, nil); err != nil {
				t.Fatal(err)
			}
			if err := right.Change(func(c *jwt.OperatorClaims) { c.SystemAccount = right.System.Public }); err != nil {
				t.Fatal(err)
			}
		} else {
			right = must(fleet.NewOperator())
		}
		f := start(t, fleet.Spec{Name: "a1", Config: left.Config() + gateway("A", "B", "b1")}, fleet.Spec{Name: "b1", Config: right.Config() + gateway("B", "A", "a1")})
		state := joinedFleet(t, connect(t, f.Server("a1").URL(), auditorOf(&left.System)), 2, map[bool]int{true: 2, false: 1}[shared])
		two, three := scopes(state, "FLEET_002")[""], scopes(state, "FLEET_003")[""]
		if shared {
			if two.Outcome != check.Fail || two.Cause != "other-operator" || three.Outcome != check.Pass {
				t.Errorf("%s: FLEET_002 is %s (%s): %s; FLEET_003 is %s", name, two.Outcome, two.Cause, two.Summary, three.Outcome)
			}
			// Each side goes by the claim that its own operator has signed.
			if r := said(state, "JWT_010", left.System.Public); r.Outcome != check.Pass {
				t.Errorf("%s: JWT_010 is %s: %s", name, r.Outcome, r.Summary)
			}
			if r := said(state, "JWT_011", left.System.Public); r.Outcome != check.Fail {
				t.Errorf("%s: JWT_011 is %s: %s", name, r.Outcome, r.Summary)
			}
			continue
		}
		if two.Outcome != check.Unknown || three.Outcome != check.Unknown {
			t.Errorf("%s: FLEET_002 is %s, FLEET_003 is %s", name, two.Outcome, three.Outcome)
		}
		if fs := found(state, "FLEET_005", ""); len(fs) != 1 || fs[0].Cause != "never-answered" {
			t.Errorf("%s: FLEET_005: %v", name, fs)
		}
	}
}
