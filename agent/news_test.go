package agent

import (
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestSignsOfLife: a server that is heard causes a sweep as long as the last one does
// not know all of it. What version it runs, for one, is in its VARZ.
func TestSignsOfLife(t *testing.T) {
	const both = posture.Statsz | posture.Varz
	for _, c := range []struct {
		name   string
		server posture.Server
		sweeps bool
	}{
		{"unknown", posture.Server{ID: "N2", State: posture.Answering, Heard: both}, true},
		{"was silent", posture.Server{ID: "N1", State: posture.Silent}, true},
		{"without VARZ", posture.Server{ID: "N1", State: posture.Answering, Heard: posture.Statsz}, true},
		{"without STATSZ", posture.Server{ID: "N1", State: posture.Answering, Heard: posture.Varz}, true},
		{"known", posture.Server{ID: "N1", State: posture.Answering, Heard: both}, false},
	} {
		l := &loop{Agent: &Agent{}, turn: newTurn(&posture.Snapshot{Servers: []*posture.Server{&c.server}}), sighted: budget{each: time.Second, most: sightSweeps}}
		n := newNews()
		n.lively["N1"] = true
		l.onNews(t.Context(), n)
		if sweeps := l.soon.C() != nil; sweeps != c.sweeps {
			t.Errorf("%s: sweeps %v", c.name, sweeps)
		}
		l.stopTimers()
	}
}
