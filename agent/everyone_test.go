package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

func crowded(id string, connections int, mode posture.AuthMode) *posture.Server {
	return &posture.Server{
		ID: id, Name: strings.ToLower(id), State: posture.Answering, Heard: posture.Statsz | posture.Varz,
		Connections: connections, AuthMode: mode, ConfigLoaded: time.Unix(1, 0),
	}
}

// TestEveryoneKeepsItsBudget plays an hour of asking servers of all sizes: none
// spends more than its share, however short the interval is, and those that
// would spend too much at once are never asked and always told of.
func TestEveryoneKeepsItsBudget(t *testing.T) {
	servers := []*posture.Server{
		crowded("A", 10, posture.AuthStatic), crowded("B", 10_000, posture.AuthStatic),
		crowded("C", 3_000, posture.AuthOperator), crowded("D", 10_000, posture.AuthOperator),
		crowded("E", 1_000_000, posture.AuthOperator),
		{ID: "F", State: posture.Silent},
	}
	const interval, hour = 10 * time.Second, time.Hour
	in := newInside(interval)
	times := map[string]int{}
	began := time.Unix(1_000_000, 0)
	for now := began; now.Sub(began) < hour; now = now.Add(100 * time.Millisecond) {
		s, wait := in.next(servers, now)
		if s == nil {
			if wait <= 0 || wait > interval {
				t.Fatalf("nobody is asked for %s", wait)
			}
			continue
		}
		times[s.ID]++
		in.note(s, now, nil)
	}
	for _, s := range servers {
		spent := time.Duration(times[s.ID]) * collect.EveryoneCost(s)
		if limit := hour/collect.EveryoneShare + collect.EveryoneCost(s); spent > limit {
			t.Errorf("%s was asked %d times, which cost it %s of %s", s.ID, times[s.ID], spent, limit)
		}
	}
	if n := times["A"]; n < 355 || n > 360 {
		t.Errorf("the small one was asked %d times an hour", n)
	}
	if times["D"] == 0 || times["E"] != 0 || times["F"] != 0 {
		t.Errorf("asked %v", times)
	}
	gaps := map[string]bool{}
	for _, g := range in.open(servers, began.Add(hour)) {
		gaps[g.ID] = true
	}
	if !gaps["E"] || gaps["A"] || gaps["F"] || len(in.open(servers[:1], began.Add(hour))) != 0 {
		t.Errorf("gaps at %v", gaps)
	}
}

// TestEveryoneTakesTurns: who was never asked comes first, a new configuration
// makes a server due early, and one that is held back leaves a gap.
func TestEveryoneTakesTurns(t *testing.T) {
	a, b := crowded("A", 10, posture.AuthStatic), crowded("B", 5_000, posture.AuthOperator)
	in := newInside(time.Minute)
	now := time.Unix(1_000_000, 0)
	in.note(a, now, nil)
	in.note(b, now, nil)
	if s, wait := in.next([]*posture.Server{a, b}, now.Add(time.Second)); s != nil || wait != 59*time.Second {
		t.Errorf("%v is asked, or nobody for %s", s, wait)
	}
	c := crowded("C", 10, posture.AuthStatic)
	if s, _ := in.next([]*posture.Server{a, b, c}, now.Add(2*time.Minute)); s != c {
		t.Errorf("%v is asked before the one that never was", s)
	}
	reloaded := *a
	reloaded.ConfigLoaded = now
	for after, want := range map[time.Duration]bool{everyoneAgain - time.Second: false, everyoneAgain: true} {
		if s, _ := in.next([]*posture.Server{&reloaded, b}, now.Add(after)); (s != nil) != want {
			t.Errorf("%s after it was asked, one with a new configuration is asked: %v", after, s != nil)
		}
	}
	in.early["A"] = true
	if s, _ := in.next([]*posture.Server{a, b}, now.Add(everyoneAgain)); s != a {
		t.Errorf("%v is asked, and not the one that a check waits for", s)
	}
	in.note(a, now, nil)
	if s, _ := in.next([]*posture.Server{a, b}, now.Add(everyoneAgain)); s != nil {
		t.Errorf("%s is asked again and again", s.ID)
	}
	for after, want := range map[time.Duration]int{time.Minute: 0, 61 * time.Second: 1} {
		if gaps := in.open([]*posture.Server{a, b}, now.Add(after)); len(gaps) != want || want == 1 && (gaps[0].ID != "B" || !strings.Contains(gaps[0].Reason, "share")) {
			t.Errorf("%s after: gaps %v", after, gaps)
		}
	}
	in.forget(map[string]*posture.Server{"A": a})
	if len(in.asked) != 1 {
		t.Errorf("remembers %v", in.asked)
	}
}
