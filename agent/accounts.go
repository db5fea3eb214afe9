package agent

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// How often an account is looked at after its JWT was pushed, and how often all
// are for a push that does not say for which one it is.
const (
	claimedLooks = 2
	allClaimed   = 10 * time.Second
)

// trustLoop is what the loop knows of looks at accounts. One is under way at a
// time, beside those of sweeps that somebody waits for.
type trustLoop struct {
	every   bool           // all of them are due
	due     map[string]int // by account: looks that are left
	timer   timer
	looking bool
	looked  chan trustResult
	all     bool // all of them are due after the next sweep
	pushes  budget
}

type trustResult struct {
	turn  *turn
	trust *posture.Trust
	ids   []string // those that were looked at; nil: all
	err   error
}

func newTrustLoop() trustLoop {
	return trustLoop{due: map[string]int{}, looked: make(chan trustResult, 1), pushes: budget{each: allClaimed, most: 1}}
}

// onClaimed has the accounts looked at whose JWT was pushed.
func (l *loop) onClaimed(n news) {
	for id := range n.claimed {
		l.lookAtAccount(id, claimedLooks, max(0, claimsPause-time.Since(l.claimed)))
	}
	if n.unnamed && l.trust.pushes.spend(time.Now()) {
		l.trust.all = true
		l.soon.atMost(sweepDelay)
	}
}

// lookAtAccount has an account looked at so many times, a while apart.
func (l *loop) lookAtAccount(id string, times int, after time.Duration) {
	if _, ok := l.trust.due[id]; !ok && len(l.trust.due) >= maxClaimed {
		l.trust.all = true // the next sweep takes it
		return
	}
	l.trust.due[id] = max(l.trust.due[id], times)
	if !l.trust.looking {
		l.trust.timer.atMost(after)
	}
}

// startAccounts looks at the accounts that are due, beside the loop.
func (l *loop) startAccounts(ctx context.Context) {
	if l.trust.looking || l.snap == nil || !l.Leading() || len(l.trust.due) == 0 && !l.trust.every {
		return
	}
	var ids []string
	if !l.trust.every {
		ids = slices.Sorted(maps.Keys(l.trust.due))
	}
	for id := range l.trust.due {
		if l.trust.due[id]--; l.trust.due[id] <= 0 {
			delete(l.trust.due, id)
		}
	}
	l.trust.looking, l.trust.every = true, false
	turn, prev := l.turn, l.snap
	go func() {
		trust, err := l.collector.LookAtAccounts(ctx, prev, ids)
		l.trust.looked <- trustResult{turn, trust, ids, err}
	}()
}

func (l *loop) onAccounts(ctx context.Context, r trustResult) {
	l.trust.looking = false
	switch {
	case l.trust.every:
		l.startAccounts(ctx)
	case len(l.trust.due) > 0:
		l.trust.timer.atMost(confirm)
	}
	if r.turn != l.turn {
		return
	}
	if r.err != nil {
		if ctx.Err() == nil {
			l.log.Warn("look at accounts failed; the next one sees them", slog.Any("error", r.err))
			l.trust.all = true
		}
		return
	}
	if !l.Leading() || l.snap == nil {
		return
	}
	next := *l.snap
	switch {
	case r.ids == nil:
		next.Trust = later(r.trust, l.snap.Trust)
	case l.snap.Trust == nil:
		return // all of them are looked at soon
	default:
		next.Trust = taken(l.snap.Trust, r)
	}
	next.Taken = l.now()
	l.snap = &next
	l.dirty = true
	if len(l.awaiting) == 0 { // otherwise the verdict comes with the touches that it waits for
		l.verdict(ctx)
	}
}

// taken is what is known of accounts after a look at some of them.
func taken(current *posture.Trust, r trustResult) *posture.Trust {
	next := *current
	next.Accounts = slices.DeleteFunc(slices.Clone(current.Accounts), func(a *posture.Account) bool { return slices.Contains(r.ids, a.ID) })
	for _, id := range r.ids {
		if a := r.trust.Account(id); a != nil {
			next.Accounts = append(next.Accounts, a)
		}
	}
	slices.SortFunc(next.Accounts, func(a, b *posture.Account) int { return strings.Compare(a.ID, b.ID) })
	next.Gaps = r.trust.Gaps
	return &next
}

// later is, of each account, what was heard last: a sweep and a look at some may
// have been under way at the same time. Which accounts there are is what the
// later look at all of them says.
func later(swept, current *posture.Trust) *posture.Trust {
	if swept == nil || current == nil || current.At.After(swept.At) {
		return cmp.Or(current, swept)
	}
	next := *swept
	next.Accounts = slices.Clone(swept.Accounts)
	for i, a := range next.Accounts {
		if c := current.Account(a.ID); c != nil && c.At.After(a.At) {
			next.Accounts[i] = c
		}
	}
	for _, c := range current.Accounts {
		if c.At.After(swept.At) && swept.Account(c.ID) == nil {
			next.Accounts = append(next.Accounts, c)
		}
	}
	slices.SortFunc(next.Accounts, func(a, b *posture.Account) int { return strings.Compare(a.ID, b.ID) })
	return &next
}
