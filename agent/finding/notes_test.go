package finding

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestNotes: every open listener has a finding or a note, and a severity that was
// lowered is said to be.
func TestNotes(t *testing.T) {
	for _, kind := range posture.DoorKinds() {
		for _, host := range []string{"127.0.0.1", "10.0.0.7"} {
			for _, exposed := range []bool{false, true} {
				snap := &posture.Snapshot{System: "test", Expected: 12, Heard: 12}
				for i := range 12 {
					s := &posture.Server{
						ID: fmt.Sprintf("N%d", i), Name: fmt.Sprintf("n%d", i), Version: "2.15.3", State: posture.Answering,
						Doors:   []posture.Door{{Kind: kind, On: posture.Yes, Host: host, Port: 4000}},
						Touches: []posture.Touch{{Door: kind, Access: posture.Open, Answer: "PONG"}},
					}
					posture.Judge(s)
					snap.Servers = append(snap.Servers, s)
				}
				policy := check.DefaultPolicy()
				policy.LoopbackExposed = exposed
				report := NewReport(snap, Of(snap, check.Evaluate(snap, policy), &policy))
				lowered := slices.ContainsFunc(report.Findings, func(f Finding) bool { return f.Lowered })
				text := strings.Join(report.Notes, "\n")
				local := host == "127.0.0.1" && !exposed
				switch {
				case lowered != (local && kind != posture.Monitor && kind != posture.Profile):
					t.Errorf("%s on %s, exposed %t: lowered %t", kind, host, exposed, lowered)
				case lowered && text != "12 findings lowered: the listener is on loopback (--loopback-exposed)":
					t.Errorf("%s on %s: %q", kind, host, text)
				case local && kind == posture.Monitor && text != "12 open listeners on loopback without a finding (--loopback-exposed): monitor of n0, n1, n2, n3, n4, n5, n6, n7, n8, n9 and 2 more":
					t.Errorf("%s on %s: %q", kind, host, text)
				case !local && kind != posture.Profile && (text != "" || len(report.Findings) == 0):
					t.Errorf("%s on %s, exposed %t: %d findings, notes %q", kind, host, exposed, len(report.Findings), text)
				case kind == posture.Profile && text == "": // no running server shows it, so no check judges it there
					t.Errorf("%s on %s: no note", kind, host)
				}
			}
		}
	}
}
