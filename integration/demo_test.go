package integration

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// demoState sweeps the demonstration fleet once.
func demoState(t *testing.T) *agent.State {
	t.Helper()
	f := start(t, fleet.Demo()...)
	login := nats.UserInfo(fleet.DemoSystemUser, fleet.DemoSystemPassword)
	if err := f.WaitActive(t.Context(), f.Server("safe").URL(), len(f.Servers()), login); err != nil {
		t.Fatal(err)
	}
	leave, err := fleet.DemoSessions(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(leave)
	return sweep(t, auditor(t, connect(t, f.Server("safe").URL(), login), collect.Config{}))
}

func TestDemoShowsEveryPlantedWeakness(t *testing.T) {
	state := demoState(t)
	if n := len(state.Snapshot.Servers); n < 7 || state.Snapshot.Heard != n || len(state.Snapshot.Gaps) != 0 {
		t.Fatalf("heard %d of %d servers, gaps %v", state.Snapshot.Heard, n, state.Snapshot.Gaps)
	}
	for _, want := range []struct {
		server, check string
		cause         posture.Cause
		door          posture.DoorKind
		basis         posture.Basis
	}{
		{"no-auth", "DOOR_001", posture.CauseNoAuthBlock, posture.Client, posture.Observed},
		{"hidden-user", "DOOR_001", posture.CauseHiddenUser, posture.Client, posture.Observed},
		{"websocket-open", "DOOR_002", posture.CauseWSNoAuthUser, posture.Websocket, posture.Reported},
		{"mqtt-open", "DOOR_003", posture.CauseMQTTNoAuthUser, posture.MQTT, posture.Reported},
		{"monitor-open", "DOOR_007", posture.CauseNeverAsks, posture.Monitor, posture.Reported},
		{"no-auth", "SESS_001", posture.CauseNoAuthBlock, posture.Client, posture.Observed},
		{"hidden-user", "SESS_001", posture.CauseHiddenUser, posture.Client, posture.Observed},
	} {
		fs := found(state, want.check, want.server)
		if len(fs) != 1 || fs[0].Cause != want.cause {
			t.Errorf("%s on %s: got %v, want one with cause %s", want.check, want.server, fs, want.cause)
		}
		if d := door(t, state, want.server, want.door); d.Access != posture.Open || d.Basis != want.basis {
			t.Errorf("%s door of %s is %s (%s), want open (%s)", want.door, want.server, d.Access, d.Basis, want.basis)
		}
	}
	if len(found(state, "FLEET_001", "")) != 1 {
		t.Error("the cluster with mixed auth modes was not found")
	}
	// Nobody planted anything on these, and $SYS shows nothing.
	for _, server := range []string{"safe", "token"} {
		for _, f := range state.Findings {
			if f.Scope.Server == server && f.Check != "DOOR_009" {
				t.Errorf("%s: unexpected %s: %s", server, f.Check, f.Summary)
			}
		}
		if d := door(t, state, server, posture.Client); d.Access == posture.Open || d.Basis > posture.Reported {
			t.Errorf("client door of %s is %s (%s)", server, d.Access, d.Basis)
		}
	}
}
