package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func trustOf(at time.Time, accounts ...*posture.Account) *posture.Trust {
	return &posture.Trust{At: at, Accounts: accounts}
}

func seen(id string, at time.Time) *posture.Account { return &posture.Account{ID: id, At: at} }

// TestLaterLooksCount: a sweep that began before an account was looked at does
// not take that back, and a look at some decides about those alone.
func TestLaterLooksCount(t *testing.T) {
	swept := trustOf(noon, seen("A", noon), seen("B", noon))
	current := trustOf(noon.Add(-time.Minute), seen("A", noon.Add(time.Second)), seen("C", noon.Add(time.Second)), seen("D", noon.Add(-time.Minute)))
	got := later(swept, current)
	want := map[string]time.Time{"A": noon.Add(time.Second), "B": noon, "C": noon.Add(time.Second)}
	if len(got.Accounts) != len(want) {
		t.Errorf("%d accounts, want %d", len(got.Accounts), len(want))
	}
	for id, at := range want {
		if a := got.Account(id); a == nil || !a.At.Equal(at) {
			t.Errorf("%s: %+v", id, a)
		}
	}
	if got := later(swept, trustOf(noon.Add(time.Minute), seen("A", noon.Add(time.Minute)))); len(got.Accounts) != 1 {
		t.Errorf("a later look at all of them says which ones there are: %d", len(got.Accounts))
	}
	if later(nil, current) != current || later(swept, nil) != swept {
		t.Error("what is there counts")
	}

	after := taken(current, trustResult{trust: trustOf(noon, seen("A", noon.Add(time.Hour)), seen("D", noon)), ids: []string{"A", "C"}})
	if a := after.Account("A"); a == nil || !a.At.Equal(noon.Add(time.Hour)) {
		t.Errorf("A: %+v", a)
	}
	if after.Account("C") != nil {
		t.Error("C is no more, and is kept")
	}
	if d := after.Account("D"); d == nil || !d.At.Equal(noon.Add(-time.Minute)) {
		t.Errorf("D was not looked at: %+v", d)
	}
	if len(current.Accounts) != 3 {
		t.Error("what was published has been changed")
	}
}

// TestPushesAreBounded: whoever pushes makes-up accounts without end has all of
// them looked at, once.
func TestPushesAreBounded(t *testing.T) {
	in := newIntake(time.Now, 10)
	for i := range 3 * maxClaimed {
		in.put(collect.Event{Kind: collect.ClaimsMoved, Account: fmt.Sprintf("A%d", i)})
	}
	n := in.take()
	if len(n.claimed) != maxClaimed || !n.unnamed || !n.claims {
		t.Errorf("%d accounts, unnamed %v", len(n.claimed), n.unnamed)
	}
	in.put(collect.Event{Kind: collect.ClaimsMoved})
	if n := in.take(); len(n.claimed) != 0 || !n.unnamed {
		t.Errorf("%d accounts, unnamed %v", len(n.claimed), n.unnamed)
	}
}
