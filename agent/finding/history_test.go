package finding

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestCollapseLeadsToTheSameEnd replays what is left of every sequence of
// transitions: the end is the same, and each step can follow the one before.
func TestCollapseLeadsToTheSameEnd(t *testing.T) {
	follows := map[bool][]Action{false: {Opened}, true: {Updated, Held, Stale, Resolved}}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		stood := rng.IntN(2) == 0
		stands := stood
		var all []Entry
		for i := range rng.IntN(7) {
			next := follows[stands][rng.IntN(len(follows[stands]))]
			stands = next != Resolved
			all = append(all, Entry{Finding: Finding{ID: fmt.Sprint(i), Action: next}})
		}
		short := Collapse(stood, all)
		if len(short) > 2 {
			t.Fatalf("%d are left of %d", len(short), len(all))
		}
		s := stood
		for _, e := range short {
			if (e.Finding.Action == Opened) == s {
				t.Fatalf("stood %v: %v became %v, where %s cannot be told", stood, actions(findings(all)), actions(findings(short)), e.Finding.Action)
			}
			s = e.Finding.Action != Resolved
		}
		if s != stands || len(all) > 0 && short[len(short)-1].Finding.ID != all[len(all)-1].Finding.ID {
			t.Fatalf("stood %v: %v became %v", stood, actions(findings(all)), actions(findings(short)))
		}
	}
}

func TestHistoryForgetsTheOldest(t *testing.T) {
	h := NewHistory(100, time.Unix(0, 0))
	for i := range 250 {
		h.Add(&Finding{ID: fmt.Sprint(i), At: time.Unix(int64(i+1), 0)})
		all := h.All()
		if len(all) > 100 || all[len(all)-1].ID != fmt.Sprint(i) || all[0].At.Before(h.Since()) {
			t.Fatalf("after %d: %d kept, the last is %s, complete since %v", i, len(all), all[len(all)-1].ID, h.Since())
		}
	}
}

func TestEpisodes(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	moment := func(s int64) *time.Time { m := at(s); return &m }
	scope := check.Scope{Kind: check.KindServer, Cluster: "c1", Server: "n1", Door: posture.Client}
	visit := func(s int64, who string) Finding {
		return Finding{Fingerprint: "s", Check: Visited, Scope: scope, Action: Opened, At: at(s), FirstSeen: at(s), LastSeen: at(s), Evidence: []posture.Evidence{{Value: who}}}
	}
	door := func(a Action, first, seen int64, end *time.Time, sev check.Severity) Finding {
		return Finding{Fingerprint: "d", Check: "DOOR_001", Scope: scope, Action: a, At: at(seen), FirstSeen: at(first), LastSeen: at(seen), ResolvedAt: end, Severity: sev}
	}
	got := Episodes([]Finding{
		visit(5, "too early"),
		door(Opened, 10, 10, nil, check.Warning), visit(12, "alice"), visit(13, "alice"), door(Updated, 10, 15, nil, check.Critical), door(Resolved, 10, 19, moment(20), check.Warning),
		visit(25, "in between"),
		door(Opened, 30, 30, nil, check.Critical), visit(31, "bob"), door(Stale, 30, 40, nil, check.Critical),
	})
	var doors []Episode
	for _, e := range got {
		if e.Check == "DOOR_001" {
			doors = append(doors, e)
		}
	}
	if len(doors) != 2 {
		t.Fatalf("%d episodes of the door, want 2", len(doors))
	}
	last, first := doors[0], doors[1]
	if !first.Opened.Equal(at(10)) || first.Resolved == nil || !first.Resolved.Equal(at(20)) || first.Severity != check.Critical || first.Transitions != 3 {
		t.Errorf("the first: %+v", first)
	}
	if len(first.Visitors) != 1 || first.Visitors[0].Value != "alice" {
		t.Errorf("who came through it: %v", first.Visitors)
	}
	if last.Resolved != nil || !last.Stale || len(last.Visitors) != 1 || last.Visitors[0].Value != "bob" {
		t.Errorf("the last: %+v", last)
	}
}

// TestEpisodesCountWhatWasOpen: the time for which a finding was only held is not
// part of how long it lasted.
func TestEpisodesCountWhatWasOpen(t *testing.T) {
	at := func(s int64) time.Time { return time.Unix(s, 0).UTC() }
	told := func(a Action, s int64, hold *Hold, closed Span) Finding {
		return Finding{Fingerprint: "d", Check: "DOOR_001", Action: a, At: at(s), FirstSeen: at(0), Hold: hold, ClosedFor: closed}
	}
	transitions := []Finding{
		told(Opened, 0, nil, 0), told(Held, 11, &Hold{Closed: at(10)}, 0), told(Updated, 110, nil, Span(100*time.Second)), told(Held, 131, &Hold{Closed: at(130)}, Span(100*time.Second)),
	}
	if e := Episodes(transitions)[0]; e.Open(at(1000)) != 30*time.Second || e.Hold == nil || e.Resolved != nil {
		t.Errorf("held: %s, %+v", e.Open(at(1000)), e)
	}
	end := told(Resolved, 430, nil, Span(100*time.Second))
	closed := at(130)
	end.ResolvedAt = &closed
	if e := Episodes(append(transitions, end))[0]; e.Open(at(1000)) != 30*time.Second || e.Hold != nil || !e.Resolved.Equal(at(130)) {
		t.Errorf("resolved: %s, %+v", e.Open(at(1000)), e)
	}
	if e := Episodes(transitions[:3])[0]; e.Open(at(120)) != 20*time.Second {
		t.Errorf("open again: %s", e.Open(at(120)))
	}
}
