package service

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/finding"
)

// past is what has been told, for those who ask.
type past struct {
	mu      sync.Mutex
	history *finding.History
}

func (p *past) add(f *finding.Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.history.Add(f)
}

// remember implements teller.
func (s *Service) remember(h *finding.History) {
	s.past.mu.Lock()
	defer s.past.mu.Unlock()
	s.past.history = h
}

// History is a page of transitions, the latest first.
type History struct {
	head
	Since       time.Time         `json:"since"` // nothing after this is left out
	Transitions []finding.Finding `json:"transitions"`
}

func historyPage(v *view) page {
	v.past.mu.Lock()
	all, since := v.past.history.All(), v.past.history.Since()
	v.past.mu.Unlock()
	slices.Reverse(all)
	all = slices.DeleteFunc(all, func(f finding.Finding) bool { return !v.showsPast(&f) })
	p := &History{head: v.head(HistoryType), Since: since.UTC()}
	from, to := v.cut(&p.Page, len(all))
	p.Transitions = append([]finding.Finding{}, all[from:to]...)
	return p
}

func (p *History) shrink() { shrinkFindings(p.Transitions) }

// showsPast: servers that are no more are asked for by the names they had.
func (v *view) showsPast(f *finding.Finding) bool {
	at := f.At
	return v.shows(f) && !at.Before(v.since) && (v.until.IsZero() || !at.After(v.until)) &&
		(v.Door == "" || f.Scope.Door.String() == v.Door)
}

// Moment reads a time in the past: RFC 3339, or how long ago, like 90m, 24h or
// 7d. Its error says what is accepted.
func Moment(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	day := time.Duration(1)
	number, isDays := strings.CutSuffix(text, "d")
	if isDays {
		day, number = 24, number+"h"
	}
	d, err := time.ParseDuration(number)
	if err != nil || d < 0 || d > math.MaxInt64/day {
		return time.Time{}, refuse(400, "%.40q is no time: RFC 3339 is accepted, or how long ago, like 90m, 24h or 7d", text)
	}
	return now.Add(-day * d), nil
}
