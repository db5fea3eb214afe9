package agent

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// turn is what an agent has learned since it began to lead. Whoever led before
// may have told of what this one has not seen: what is older than the turn must
// not be held against the book that the turn began with. So each begins with
// nothing, and what an earlier one has asked for is dropped when it comes.
type turn struct {
	snap *posture.Snapshot // nil before the first sweep
	base *posture.Snapshot // that the sweep under way started from

	dirty    bool            // something is to be judged
	full     bool            // it is a whole sweep
	awaiting map[string]bool // servers whose touches the verdict waits for

	pursuits map[chase]*pursuit        // servers to look at
	reloads  map[string]posture.Reload // requests that were heard, by server
	loaded   map[string]time.Time      // when a server was seen to have loaded a configuration
	unfound  map[string]*sighting      // servers that were heard and that no sweep found
	visits   map[string][]posture.Session
}

func newTurn(snap *posture.Snapshot) *turn {
	return &turn{
		snap: snap, awaiting: map[string]bool{}, pursuits: map[chase]*pursuit{}, reloads: map[string]posture.Reload{},
		loaded: map[string]time.Time{}, unfound: map[string]*sighting{}, visits: map[string][]posture.Session{},
	}
}

// onTurn begins or ends leading.
func (l *loop) onTurn(ctx context.Context, t Turn) {
	l.state.Store(nil) // nobody is answered with it any more
	was := l.leading.Swap(t.Lead)
	if !t.Lead {
		if was {
			l.log.Warn("another agent leads")
		}
		l.refuse(ErrNotLeading)
		return
	}
	l.log.Info("leading", slog.Int("known", len(t.Book)))
	l.stopTimers() // they are of the turn before
	l.turn = newTurn(nil)
	l.lastSessions, l.lastAccounts = time.Time{}, time.Time{}
	l.inside = newInside(l.inside.interval)
	l.trust.every, l.trust.all = false, false
	clear(l.trust.due)
	if l.toucher != nil {
		l.toucher.begin()
	}
	// Who waits for a sweep gets one of this turn.
	l.nextReplies = slices.Concat(l.ready, l.replies, l.nextReplies)
	l.ready, l.replies = nil, nil
	l.ledger.Restore(t.Book)
	for i := range t.Book {
		if s := t.Book[i].Finding.Scope; t.Book[i].Stands() && s.Kind == check.KindServer {
			l.collector.Recall(s.ServerID, s.Server, s.Cluster)
		}
	}
	l.startSweep(ctx)
}

// refuse answers all who wait for a sweep.
func (l *loop) refuse(err error) {
	for _, r := range slices.Concat(l.replies, l.nextReplies, l.ready) {
		r <- scanned{err: err}
	}
	l.replies, l.nextReplies, l.ready = nil, nil, nil
}
