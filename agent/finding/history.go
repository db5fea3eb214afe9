package finding

import (
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// Collapse shortens transitions of one finding that wait to be kept somewhere,
// oldest first, to those that are needed to lead to the same end. stood says
// whether the finding stood before the first of them.
func Collapse(stood bool, waiting []Entry) []Entry {
	if len(waiting) < 2 {
		return waiting
	}
	first, last := waiting[0], waiting[len(waiting)-1]
	switch {
	case !stood && last.Finding.Action != Opened:
		return []Entry{first, last} // opened, and then whatever it came to
	case stood && last.Finding.Action == Opened:
		return waiting[len(waiting)-2:] // what ended it must be told before it opens again
	default:
		return []Entry{last}
	}
}

// History keeps the latest transitions in memory, oldest first.
type History struct {
	limit int
	list  []Finding
	since time.Time // nothing is missing after this
}

// NewHistory keeps up to limit transitions, of which all since a moment are
// told to it.
func NewHistory(limit int, since time.Time) *History {
	return &History{limit: limit, since: since}
}

// Add notes a transition.
func (h *History) Add(f *Finding) {
	if len(h.list) >= h.limit {
		cut := h.limit/10 + 1
		h.since = h.list[cut-1].At
		h.list = slices.Clone(h.list[cut:])
	}
	h.list = append(h.list, *f)
}

// Since is when the history begins.
func (h *History) Since() time.Time { return h.since }

// All lists the transitions, oldest first.
func (h *History) All() []Finding { return slices.Clone(h.list) }

// Episode is one life of a finding: from its opening to its end.
type Episode struct {
	Fingerprint string             `json:"fingerprint"`
	Check       string             `json:"check"`
	Scope       check.Scope        `json:"scope"`
	Severity    check.Severity     `json:"severity"` // the worst
	Summary     string             `json:"summary"`  // the latest
	Opened      time.Time          `json:"opened"`
	Resolved    *time.Time         `json:"resolved"`   // null while it stands
	Stale       bool               `json:"stale"`      // it cannot be seen any more
	Hold        *Hold              `json:"hold"`       // it is gone, and held; otherwise null
	ClosedFor   Span               `json:"closed_for"` // how long it was closed in between
	Waived      bool               `json:"waived"`
	Transitions int                `json:"transitions"`
	Visitors    []posture.Evidence `json:"visitors"` // the anonymous sessions seen on that door meanwhile
}

// Visited is the check whose evidence names who came in through a door.
const Visited = "SESS_001"

// Episodes puts transitions, oldest first, together to lives of findings, the
// latest opening first. Of a door that let strangers in it tells who was seen
// to come.
func Episodes(transitions []Finding) []Episode {
	var out []*Episode
	open := map[string]*Episode{}
	for i := range transitions {
		f := &transitions[i]
		e := open[f.Fingerprint]
		if e == nil || f.Action == Opened {
			e = &Episode{Fingerprint: f.Fingerprint, Check: f.Check, Scope: f.Scope, Opened: f.FirstSeen, Visitors: []posture.Evidence{}}
			open[f.Fingerprint] = e
			out = append(out, e)
		}
		e.Severity, e.Summary, e.Scope = max(e.Severity, f.Severity), f.Summary, f.Scope
		e.Stale, e.Waived, e.Hold, e.ClosedFor = f.Action == Stale, f.Waived != nil, f.Hold, f.ClosedFor
		e.Transitions++
		if f.Action == Resolved {
			e.Resolved = f.ResolvedAt
			delete(open, f.Fingerprint)
		}
	}
	visits(out, transitions)
	slices.SortStableFunc(out, func(a, b *Episode) int { return b.Opened.Compare(a.Opened) })
	list := make([]Episode, len(out))
	for i, e := range out {
		list[i] = *e
	}
	return list
}

// Open is how long it was open until a moment: not the time for which it was only
// held.
func (e *Episode) Open(until time.Time) time.Duration {
	f := Finding{FirstSeen: e.Opened, ResolvedAt: e.Resolved, Hold: e.Hold, ClosedFor: e.ClosedFor}
	return f.Open(until)
}

// visits gives the episodes of open doors their visitors.
func visits(episodes []*Episode, transitions []Finding) {
	type door struct {
		cluster, server string
		kind            posture.DoorKind
	}
	at := func(s check.Scope) door { return door{s.Cluster, s.Server, s.Door} }
	doors := map[door][]*Episode{}
	for _, e := range episodes {
		if strings.HasPrefix(e.Check, "DOOR_") {
			doors[at(e.Scope)] = append(doors[at(e.Scope)], e)
		}
	}
	for i := range transitions {
		f := &transitions[i]
		if f.Check != Visited || f.Action == Resolved {
			continue
		}
		for _, e := range doors[at(f.Scope)] {
			if f.At.Before(e.Opened) || e.Resolved != nil && f.At.After(*e.Resolved) {
				continue
			}
			for _, v := range f.Evidence {
				if !slices.Contains(e.Visitors, v) {
					e.Visitors = append(e.Visitors, v)
				}
			}
		}
	}
}
