//go:build !windows

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// counts waits until a server counts so many servers.
func counts(t *testing.T, s *fleet.Server, n int) {
	t.Helper()
	nc := connectSys(t, s)
	eventually(t, fmt.Sprintf("%s counts %d servers", s.Name(), n), func() bool {
		m, err := nc.Request("$SYS.REQ.SERVER."+s.ID()+".STATSZ", nil, 5*time.Second)
		var stats struct {
			Statsz struct {
				Active int `json:"active_servers"`
			} `json:"statsz"`
		}
		return err == nil && json.Unmarshal(m.Data, &stats) == nil && stats.Statsz.Active == n
	})
}

// TestKilledServerComesBack: nats-server counts a server that was killed for
// minutes. What compares the servers of a cluster does not wait for that: the
// server of the same name that is there now takes the place of the dead one.
func TestKilledServerComesBack(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	rec := &recorder{}
	a := auditor(t, connectSys(t, f.Server("n1")), hasty, agent.WithSink(rec))
	sweep(t, a)
	if got := actions(rec.take(), "FLEET_001", ""); !slices.Equal(got, []finding.Action{finding.Opened}) {
		t.Fatalf("FLEET_001: %v", got)
	}
	if err := errors.Join(victim.Rewrite(closedApp+clustered("c", "n1", "n2")), victim.Kill()); err != nil {
		t.Fatal(err)
	}
	lookTwice(t, a)
	if got := actions(rec.take(), "FLEET_001", ""); !slices.Equal(got, []finding.Action{finding.Stale}) {
		t.Errorf("FLEET_001 without the victim: %v", got)
	}
	if err := victim.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"n1", "n2"} {
		counts(t, f.Server(s), 4) // three, and the one that is dead
	}

	first, state := sweep(t, a), sweep(t, a)
	if got := actions(rec.take(), "FLEET_001", ""); !slices.Equal(got, []finding.Action{finding.Resolved}) {
		t.Errorf("FLEET_001 with the victim back: %v", got)
	}
	if s := state.Snapshot; s.Expected != 3 || s.Heard != 3 || len(s.Gaps) != 0 || len(s.Servers) != 3 {
		t.Errorf("heard %d of %d, %d servers, gaps %+v", s.Heard, s.Expected, len(s.Servers), s.Gaps)
	}
	if took := state.Snapshot.Took; took > hasty.Timeout/2 {
		t.Errorf("the sweep waited for the dead one: %s, and the one before %s", took, first.Snapshot.Took)
	}
	for _, r := range state.Results {
		if r.Check.Group != nil && r.Check.Needs != 0 && r.Outcome == check.Unknown {
			t.Errorf("%s: %s", r.Check.ID, r.Summary)
		}
	}

	// An agent that starts now knows nothing of it, and says what may be behind the number.
	fresh := sweep(t, auditor(t, connectSys(t, f.Server("n2")), hasty))
	if gaps := fresh.Snapshot.Gaps; len(gaps) != 1 || !strings.Contains(gaps[0].Reason, "1 of them is not known by name; nats-server counts a server that was killed for up to 4 minutes") {
		t.Errorf("gaps: %+v", gaps)
	}
}

// TestUpgradeIsHeard: the version of a server that comes back under its name is
// judged when it comes, not at the next scan.
func TestUpgradeIsHeard(t *testing.T) {
	t.Parallel()
	before, after := binary(t, "v2.14.5"), binary(t, fleet.Linked)
	spec := func(name, other string) fleet.Spec {
		return fleet.Spec{Name: name, Binary: before, Config: closedApp + clustered("c", "n1", other)}
	}
	f := start(t, fleet.Spec{Name: "n1", Binary: before, Config: closedApp + clustered("c", "n2", "n3")}, spec("n2", "n3"), spec("n3", "n2"))
	waitActive(t, f, f.Server("n1"), 3)
	v := keepWatch(t, connectSys(t, f.Server("n1"), quick...), time.Second, nil)
	if o := group(v.State(), "FLEET_007"); o != check.Pass {
		t.Fatalf("FLEET_007 is %s", o)
	}
	upgrade := func(name string, end func(*fleet.Server) error) {
		t.Helper()
		s := f.Server(name)
		if err := end(s); err != nil {
			t.Fatal(err)
		}
		s.SetBinary(after)
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	upgrade("n1", func(s *fleet.Server) error { return s.Stop(t.Context()) }) // to which the agent is connected
	v.told(t, "FLEET_007", "", finding.Opened)
	upgrade("n3", (*fleet.Server).Kill)
	if f := v.told(t, "FLEET_007", "", finding.Updated); !strings.Contains(f.Summary, "on n1, n3, 2.14.5 on n2") {
		t.Errorf("%s", f.Summary)
	}
	upgrade("n2", (*fleet.Server).Kill)
	v.told(t, "FLEET_007", "", finding.Resolved)
}

// TestIncompleteMesh: servers pass nothing on from one route to another. One that has a
// route to some members of its cluster only is well, and answers nobody else.
func TestIncompleteMesh(t *testing.T) {
	t.Parallel()
	member := func(password string, routes ...string) string {
		return closedApp + strings.Replace(clustered("c", routes...), "user: r, password: route-password", "user: r, password: "+password, 1)
	}
	f := start(t,
		fleet.Spec{Name: "n1", Config: member("route-password", "n2")},
		fleet.Spec{Name: "n2", Config: member("route-password", "n1")},
		fleet.Spec{Name: "far", Config: member("another-password", "n2")}, // it and n1 refuse one another
	)
	for name, n := range map[string]int{"n1": 2, "n2": 3, "far": 2} {
		counts(t, f.Server(name), n)
	}
	state := sweep(t, auditor(t, connectSys(t, f.Server("n1")), hasty))
	fs := found(state, "FLEET_005", "")
	if len(fs) != 1 || fs[0].Scope.ServerID != f.Server("far").ID() || fs[0].Cause != "incomplete-mesh" || !strings.Contains(fs[0].Summary, "some peers are connected to it, and n1 is not") {
		t.Errorf("%+v", fs)
	}
}

// TestLameDuckThatAnswers: in lame-duck mode nats-server goes on answering over $SYS,
// and its VARZ shows listeners that are shut. What it announced counts.
func TestLameDuckThatAnswers(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "duck")},
		fleet.Spec{Name: "duck", Binary: binary(t, fleet.Linked), Config: clustered("c", "n1") + "lame_duck_duration: 60s, lame_duck_grace_period: 30s"},
	)
	waitActive(t, f, f.Server("n1"), 2)
	heard := auditor(t, connectSys(t, f.Server("n1")), hasty)
	sweep(t, heard)
	connect(t, f.Server("duck").URL(), nats.NoReconnect()) // without clients it would not tarry
	id := f.Server("duck").ID()
	if err := f.Server("duck").LameDuck(); err != nil {
		t.Fatal(err)
	}
	var state *agent.State
	eventually(t, "the announcement is heard", func() bool {
		state = sweep(t, heard)
		return state.Snapshot.Server(id) != nil && state.Snapshot.Server(id).State == posture.LameDuck
	})
	if d := door(t, state, id, posture.Client); d.Access != posture.Unknown || !strings.Contains(d.Reason, "is shutting down (lame-duck mode)") {
		t.Errorf("%s: %s", d.Access, d.Reason)
	}
	nc := connectSys(t, f.Server("n1"))
	if _, err := nc.Request("$SYS.REQ.SERVER."+id+".VARZ", nil, 30*time.Second); err != nil {
		t.Errorf("it does not answer: %v", err)
	}
	for range 5 {
		state = sweep(t, heard)
		if s := state.Snapshot.Server(id); s == nil || s.State != posture.LameDuck || state.Snapshot.Heard != 1 || len(state.Snapshot.Gaps) != 0 {
			t.Fatalf("%+v, heard %d, gaps %v", s, state.Snapshot.Heard, state.Snapshot.Gaps)
		}
		if d := door(t, state, id, posture.Client); d.Access != posture.Unknown || !strings.Contains(d.Reason, "is shutting down (lame-duck mode)") {
			t.Errorf("%s: %s", d.Access, d.Reason)
		}
	}
}
