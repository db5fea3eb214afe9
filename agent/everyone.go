package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

// everyonePause is between two servers that are asked who is inside and have not
// been asked before. Later ones are spread over the interval.
const everyonePause = 25 * time.Millisecond

// everyoneAgain is how soon a server is asked again at the earliest, whatever
// happens to it.
const everyoneAgain = 10 * time.Second

// inside remembers when servers were asked who is inside: one at a time.
type inside struct {
	interval time.Duration
	asked    map[string]asking // by server id
	early    map[string]bool   // ids of those who are to be asked again before their time
	gaps     map[string]posture.Gap
}

// asking is one time that a server was asked.
type asking struct {
	at     time.Time
	loaded time.Time // when it had loaded its configuration
}

func newInside(interval time.Duration) *inside {
	return &inside{interval: interval, asked: map[string]asking{}, early: map[string]bool{}, gaps: map[string]posture.Gap{}}
}

// pause is how long a server is left alone after it was asked: the interval, or
// longer where the answers cost it more than its share.
func (in *inside) pause(s *posture.Server) time.Duration {
	return max(in.interval, collect.EveryoneCost(s)*collect.EveryoneShare)
}

// next picks the server to ask now; nil when there is none, and then how long
// there will be none. A server that was never asked comes first, and one whose
// configuration has changed since, or whose answer is too old for a check, does
// not wait for the interval.
func (in *inside) next(servers []*posture.Server, now time.Time) (next *posture.Server, wait time.Duration) {
	wait = in.interval
	var due time.Time
	for _, s := range servers {
		if s.State != posture.Answering || s.ID == "" || !s.Heard.Has(posture.Statsz|posture.Varz) || collect.EveryoneTooMuch(s) != "" {
			continue
		}
		last, ok := in.asked[s.ID]
		at := last.at.Add(in.pause(s))
		switch {
		case !ok:
			at = time.Time{}
		case in.early[s.ID] || !last.loaded.Equal(s.ConfigLoaded):
			at = last.at.Add(max(everyoneAgain, collect.EveryoneCost(s)*collect.EveryoneShare))
		}
		switch left := at.Sub(now); {
		case left > 0:
			wait = min(wait, left)
		case next == nil || at.Before(due):
			next, due = s, at
		}
	}
	return next, wait
}

// spread is how long to wait between two servers, so that all of them are asked
// in one interval, and not all at once.
func (in *inside) spread(servers []*posture.Server) time.Duration {
	for _, s := range servers {
		if _, ok := in.asked[s.ID]; !ok && s.State == posture.Answering {
			return everyonePause
		}
	}
	return max(everyonePause, in.interval/time.Duration(max(1, 2*len(servers))))
}

// note takes down that a server was asked, and what it left open.
func (in *inside) note(s *posture.Server, at time.Time, gap *posture.Gap) {
	in.asked[s.ID] = asking{at, s.ConfigLoaded}
	delete(in.early, s.ID)
	delete(in.gaps, s.ID)
	if gap != nil {
		in.gaps[s.ID] = *gap
	}
}

// open lists what is not known of who is inside, and why. A server that has not
// had its turn yet leaves no gap.
func (in *inside) open(servers []*posture.Server, now time.Time) []posture.Gap {
	var out []posture.Gap
	for _, s := range servers {
		if s.State != posture.Answering || !s.Heard.Has(posture.Statsz) {
			continue
		}
		switch gap, ok := in.gaps[s.ID]; {
		case collect.EveryoneTooMuch(s) != "":
			out = append(out, collect.EveryoneGap(s, collect.EveryoneTooMuch(s)))
		case ok:
			out = append(out, gap)
		case in.late(s, now):
			out = append(out, collect.EveryoneGap(s, "not asked yet: its answers cost it more than its share, so that it is asked every "+in.pause(s).Round(time.Second).String()))
		}
	}
	return out
}

// late tells whether a server would be asked by now, if it had fewer connections.
func (in *inside) late(s *posture.Server, now time.Time) bool {
	last, ok := in.asked[s.ID]
	return ok && in.pause(s) > in.interval && now.Sub(last.at) > in.interval
}

// forget drops what belongs to servers that are no more.
func (in *inside) forget(here map[string]*posture.Server) {
	maps.DeleteFunc(in.asked, func(id string, _ asking) bool { return here[id] == nil })
	maps.DeleteFunc(in.early, func(id string, _ bool) bool { return here[id] == nil })
	maps.DeleteFunc(in.gaps, func(id string, _ posture.Gap) bool { return here[id] == nil })
}

// hurry has servers asked again that a check waits for.
func (l *loop) hurry(results []check.Result) {
	for i := range results {
		for _, id := range results[i].Ask {
			l.inside.early[id] = true
		}
	}
	if len(l.inside.early) > 0 {
		l.everyone.atMost(everyonePause)
	}
}

// everyoneResult is what one server told.
type everyoneResult struct {
	turn     *turn
	server   *posture.Server // as it was when it was asked
	at       time.Time
	sessions posture.Sessions
	gap      *posture.Gap
	err      error
}

// startEveryone asks the next server beside the loop, if it is time.
func (l *loop) startEveryone(ctx context.Context) {
	if l.asking || l.snap == nil || !l.Leading() || l.inside.interval < 0 || !l.nc.IsConnected() {
		return
	}
	s, wait := l.inside.next(l.snap.Servers, l.now())
	if s == nil {
		l.everyone.atMost(wait)
		return
	}
	l.asking = true
	turn, snap := l.turn, l.snap
	go func() {
		r := everyoneResult{turn: turn, server: s, at: l.now()}
		r.sessions, r.gap, r.err = l.collector.Everyone(ctx, snap, s)
		l.told <- r
	}()
}

// onEveryone takes what a server told about who is inside.
func (l *loop) onEveryone(r everyoneResult) {
	l.asking = false
	if r.turn != l.turn {
		l.everyone.atMost(everyonePause)
		return
	}
	if l.snap == nil || !l.Leading() {
		return
	}
	defer func() { l.everyone.atMost(l.inside.spread(l.snap.Servers)) }()
	if r.err != nil {
		l.log.Warn("nobody could be asked who is inside; the next round asks again", slog.Any("error", r.err))
		return
	}
	l.inside.note(r.server, r.at, r.gap)
	if r.gap != nil {
		return
	}
	next := *l.snap
	next.Servers = slices.Clone(l.snap.Servers)
	for i, s := range next.Servers {
		if s.ID != r.server.ID {
			continue
		}
		s = s.Clone()
		s.Everyone = r.sessions
		s.Heard |= posture.EveryoneConnz
		next.Servers[i] = s
	}
	next.Taken = l.now()
	l.snap = &next
	l.dirty = true
	l.settle.atMost(max(lookWait, 4*l.slow)) // judging must not become all that is done
}

// everyoneGiveUp is after how many servers that do not tell a single audit gives
// up, when none has told: the user may not ask, and each would be waited for.
const everyoneGiveUp = 3

// askEveryone asks every server of a snapshot that is not yet published, one
// after the other: for a single audit.
func (a *Agent) askEveryone(ctx context.Context, snap *posture.Snapshot) error {
	told, silent := 0, 0
	for _, s := range snap.Servers {
		if s.State != posture.Answering || !s.Heard.Has(posture.Statsz|posture.Varz) || collect.EveryoneTooMuch(s) != "" {
			continue
		}
		at := a.now()
		if told == 0 && silent >= everyoneGiveUp {
			gap := collect.EveryoneGap(s, "not asked: no server that was asked has told")
			a.inside.note(s, at, &gap)
			continue
		}
		sessions, gap, err := a.collector.Everyone(ctx, snap, s)
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		a.inside.note(s, at, gap)
		if gap != nil {
			silent++
			continue
		}
		told++
		s.Everyone = sessions
		s.Heard |= posture.EveryoneConnz
	}
	snap.Gaps = append(snap.Gaps, a.inside.open(snap.Servers, a.now())...)
	return nil
}
