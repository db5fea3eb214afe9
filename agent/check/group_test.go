package check

import (
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestGroupsAreJudgedByWhatIsThere: a member that has ended is no member any more; of
// one that may still be there nothing is assumed.
func TestGroupsAreJudgedByWhatIsThere(t *testing.T) {
	for _, c := range []struct {
		name   string
		state  posture.State
		linked posture.Tri
		want   Outcome
	}{
		{"hangs", posture.Silent, posture.Yes, Unknown},
		{"was killed, or is cut off", posture.Silent, posture.No, Unknown},
		{"is shutting down", posture.LameDuck, posture.Yes, Unknown},
		{"may be shutting down", posture.LameDuck, posture.Unseen, Unknown},
		{"has shut down, slowly", posture.LameDuck, posture.No, Pass},
		{"has shut down", posture.ShutDown, posture.No, Pass},
		{"has just shut down", posture.ShutDown, posture.Yes, Pass},
	} {
		snap := &posture.Snapshot{Expected: 2, Heard: 2, Servers: []*posture.Server{
			{ID: "A", Name: "a", Cluster: "c", State: posture.Answering, Heard: posture.Varz, AuthMode: posture.AuthStatic, Version: "2.15.3"},
			{ID: "B", Name: "b", Cluster: "c", State: posture.Answering, Heard: posture.Varz, AuthMode: posture.AuthStatic, Version: "2.15.3"},
			{ID: "C", Name: "c", Cluster: "c", State: c.state, Linked: c.linked, AuthMode: posture.AuthNone, Version: "2.11.0"},
		}}
		if c.state == posture.Silent {
			snap.Expected++
		}
		for _, r := range Evaluate(snap, DefaultPolicy()) {
			if (r.Check.ID == "FLEET_001" || r.Check.ID == "FLEET_007") && r.Outcome != c.want {
				t.Errorf("one that %s: %s is %s (%s)", c.name, r.Check.ID, r.Outcome, r.Summary)
			}
		}
	}
}
