package finding

import (
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

func TestCoverageIsShortened(t *testing.T) {
	for _, c := range []struct{ have, most, want int }{{0, 20, 0}, {19, 20, 19}, {20, 20, 20}, {5000, 20, 20}, {5000, 0, 0}} {
		cov := Coverage{Gaps: make([]posture.Gap, c.have), NotAudited: make([]posture.Unaudited, c.have)}
		if cov.Shorten(c.most); len(cov.Gaps) != c.want || len(cov.NotAudited) != c.want {
			t.Errorf("%d shortened to %d: %d gaps, %d not audited", c.have, c.most, len(cov.Gaps), len(cov.NotAudited))
		}
	}
}
