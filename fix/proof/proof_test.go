package proof

import (
	"testing"
	"time"

	"github.com/natsentry/natsentry/fix"
)

func TestEveryMode(t *testing.T) {
	for _, m := range fix.Modes() {
		t.Run(string(m), func(t *testing.T) {
			b, err := fix.New(fix.Plan{Modes: []fix.Mode{m}, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			r, err := Run(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range r.Rows {
				t.Logf("%v %v %q before %v want %v got %v: %s", row.Holds(), row.Door, row.Who, row.Before, row.Want, row.Access, row.How)
			}
			for _, row := range r.Failed() {
				t.Errorf("%+v", row)
			}
		})
	}
}
