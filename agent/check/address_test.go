package check

import (
	"slices"
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestClaimedAddressesAreDoubted: a finding that rests on addresses of clients says
// so where proxy_protocol is on, and only there.
func TestClaimedAddressesAreDoubted(t *testing.T) {
	for _, id := range []string{"TLS_004", "SESS_001", "SESS_002", "CRED_005"} {
		snap := fixtures[id].fail
		for _, claimed := range []posture.Tri{posture.Unseen, posture.No, posture.Yes} {
			for _, s := range snap.Servers {
				s.Touches = nil
				greets(claimed)(s)
				posture.Judge(s)
			}
			failed, said := false, false
			for _, r := range Evaluate(snap, DefaultPolicy()) {
				if r.Check.ID != id || r.Outcome != Fail {
					continue
				}
				failed = true
				said = slices.ContainsFunc(r.Evidence, func(e posture.Evidence) bool { return e.Source == "proxy_protocol" })
			}
			if !failed || said != (claimed == posture.Yes) {
				t.Errorf("%s, addresses claimed: %v: failed %v, says so %v", id, claimed, failed, said)
			}
		}
	}
}
