package agent

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// chase names a pursuit: a server, and what for. One reason does not hold up
// another.
type chase struct {
	server string // id
	why    reason
}

// reason is why a server is looked at.
type reason uint8

const (
	toReload  reason = iota // it has reloaded, or is asked to
	toEcho                  // it tells of a reload that is known, as it seems
	toChurn                 // it dropped a client
	toClaims                // an account's JWT was pushed
	toConfirm               // something has passed once
)

// pursuit is a server that is looked at, once or several times.
type pursuit struct {
	began time.Time
	steps []time.Duration // those that are left, since it began
	until func(*posture.Server) bool
	touch bool // its doors are touched as well
}

// due is when the next look is to be taken.
func (p *pursuit) due() time.Time { return p.began.Add(p.steps[0]) }

// pursue has a server looked at. A pursuit for the same reason that began just
// now goes on as it is: one reload is told by many events.
func (l *loop) pursue(id string, why reason, steps []time.Duration, until func(*posture.Server) bool, touch bool) {
	key, now := chase{id, why}, time.Now()
	if p := l.pursuits[key]; p != nil && (why == toConfirm || now.Sub(p.began) < pursuitHolds || len(p.steps) > len(steps)) {
		p.touch = p.touch || touch
		return
	}
	l.pursuits[key] = &pursuit{began: now, steps: steps, until: until, touch: touch}
	l.schedule()
}

// schedule sets the timer to the next look that is due.
func (l *loop) schedule() {
	if l.looks >= maxLooks {
		return
	}
	for key, p := range l.pursuits {
		if !l.inSight[key.server] {
			l.look.atMost(max(time.Until(p.due()), 0))
		}
	}
}

// startLook looks at the servers whose time has come, beside the loop.
func (l *loop) startLook(ctx context.Context) {
	if l.snap == nil || !l.Leading() {
		return
	}
	here, now := byID(l.snap), time.Now()
	targets := map[string]bool{} // by id: whether it is touched as well
	for key, p := range l.pursuits {
		switch {
		case here[key.server] == nil:
			delete(l.pursuits, key) // it is no more
			continue
		case l.inSight[key.server] || p.due().After(now):
			continue
		}
		targets[key.server] = targets[key.server] || p.touch
		if p.steps = p.steps[1:]; len(p.steps) == 0 {
			delete(l.pursuits, key)
		}
	}
	for id, touch := range targets {
		l.inSight[id] = true
		if touch && l.toucher != nil {
			l.toucher.again(id)
		}
	}
	if len(targets) > 0 {
		l.looks++
		turn, prev, ids := l.turn, l.snap, slices.Collect(maps.Keys(targets))
		go func() {
			ctx, cancel := context.WithTimeout(ctx, lookTimeout)
			defer cancel()
			look, err := l.collector.Look(ctx, prev, ids)
			l.looked <- lookResult{turn, look, targets, err}
		}()
	}
	l.schedule()
}

func (l *loop) onLooked(ctx context.Context, r lookResult) {
	l.looks--
	for id := range r.targets {
		delete(l.inSight, id)
	}
	defer l.schedule()
	if r.turn != l.turn {
		return
	}
	if r.err != nil {
		l.log.Warn("look failed; the next poll or sweep sees it", slog.Any("error", r.err))
		return
	}
	if !l.Leading() || l.snap == nil {
		return
	}
	if len(r.look.Silent) > 0 {
		l.soon.atMost(0) // a sweep knows who is missing
	}
	if changed := l.mergeLook(r.look, r.targets); len(changed) > 0 {
		l.touch(ctx, changed, lookWait)
	}
}
