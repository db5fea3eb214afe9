package collect

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// Bounds on what is believed.
const (
	maxAccounts  = 20_000 // accounts that are known
	onceBytes    = 256 << 20
	onceTime     = 30 * time.Second
	maxStored    = 8 // different claims of one account in the stores
	accountsOnce = 4 // accounts that are looked at at the same time
	storeRounds  = 4 // times that it takes to ask again, for which servers and stores are waited for
)

var tooManyAccounts = posture.Gap{Endpoint: "ACCOUNTZ", Reason: fmt.Sprintf("there are more than %d accounts; the others are left out", maxAccounts), Bound: true}

// LookAtAccounts asks the servers of a snapshot that are in operator mode which
// claims of accounts they go by, and their stores which they hold. Without ids
// it looks for all accounts there are, and at those that were not looked at for
// the longest as far as the budget goes; with ids at those, and at nothing else.
// What the snapshot knew of the others is carried over.
//
// An account whose claims disagree is looked at a second time before this
// returns, so that a claim that is just being pushed is none that differs.
func (c *Collector) LookAtAccounts(ctx context.Context, prev *posture.Snapshot, ids []string) (*posture.Trust, error) {
	if !c.nc.IsConnected() {
		return nil, ErrDisconnected
	}
	l := &trustLook{
		c: c, before: prev.Trust, at: c.cfg.Now(), servers: map[string]*posture.Server{}, silent: map[string]bool{}, untold: map[string]bool{},
		loaded: map[string][]string{}, listed: map[string]bool{}, claims: map[uint64]*posture.Claim{}, found: map[string]*posture.Account{},
	}
	if l.before == nil {
		l.before = &posture.Trust{}
	}
	defer func() { c.watch.spend(l.cost) }()
	for _, s := range prev.Servers {
		if s.ID != "" && s.State == posture.Answering && s.AuthMode == posture.AuthOperator {
			l.servers[s.ID] = s
		}
		if s.State == posture.Silent || s.State == posture.Answering && !s.Heard.Has(posture.Varz) {
			l.unheard = append(l.unheard, s)
		}
	}
	if err := l.whatThereIs(ctx); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, c.cfg.AccountTime)
	defer cancel()
	doubted := c.doubtedClaims()
	l.look(within, l.choose(ids))
	l.lookAgain(within)
	if c.cfg.Linger > 0 {
		select {
		case <-time.After(c.cfg.Linger):
		case <-ctx.Done():
		}
	}
	maps.Copy(doubted, c.doubtedClaims())
	l.doubt(doubted)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.trust(ids), nil
}

// trustLook is the work of one LookAtAccounts.
type trustLook struct {
	c       *Collector
	before  *posture.Trust
	at      time.Time
	servers map[string]*posture.Server // those in operator mode, by id
	unheard []*posture.Server          // those of which nothing is known now

	loaded map[string][]string // by account: ids of the servers that have loaded it
	listed map[string]bool     // accounts that some store holds
	untold map[string]bool     // servers that did not list what they have loaded, by id
	stores int                 // that answer lookups, as far as is known
	most   int                 // that have answered one
	short  int                 // lookups in a row that fewer answered
	left   int                 // accounts that were not looked at
	bound  string              // why; "" where none was left

	mu     sync.Mutex // of what follows, and of the four above: accounts are looked at beside each other
	silent map[string]bool
	claims map[uint64]*posture.Claim // by mark
	found  map[string]*posture.Account
	gaps   []posture.Gap
	cost   posture.Cost
}

// whatThereIs asks for the accounts that there are.
func (l *trustLook) whatThereIs(ctx context.Context) error {
	if len(l.servers) == 0 {
		return nil
	}
	list, err := l.c.askStores(listRequest, len(l.servers))
	if err != nil {
		return err
	}
	defer l.c.endAsking(list)
	ids := slices.Sorted(maps.Keys(l.servers))
	g := l.c.newGather(posture.Accountz, ids, len(ids))
	if err := l.run(ctx, g); err != nil {
		return err
	}
	l.spend(g.cost)
	for _, id := range ids {
		a := body[accountz](g, posture.Accountz, id)
		if a == nil {
			l.untold[id] = true
			l.gap(posture.Gap{Server: l.servers[id].Name, ID: id, Endpoint: "ACCOUNTZ", Reason: "no answer that names its accounts"})
			continue
		}
		for _, account := range a.Accounts {
			on, known := l.loaded[account]
			switch {
			case !known && !accountKey(account) || len(on) > 0 && on[len(on)-1] == id:
			case !known && len(l.loaded) >= maxAccounts:
				l.gap(tooManyAccounts)
			default:
				l.loaded[account] = append(on, id)
			}
		}
	}
	l.readLists(ctx, list)
	return nil
}

// choose lists the accounts that are looked at: those that were asked for, or
// those that were not looked at for the longest.
func (l *trustLook) choose(ids []string) []string {
	known := map[string]bool{}
	for id := range l.loaded {
		known[id] = true
	}
	for id := range l.listed {
		known[id] = true
	}
	for _, a := range l.before.Accounts {
		known[a.ID] = true
	}
	if ids != nil {
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !accountKey(id) })
		slices.Sort(ids)
		ids = slices.Compact(ids)
		return ids[:min(len(ids), l.c.cfg.Accounts)]
	}
	var first, fresh, again []string
	for id := range known {
		switch a := l.before.Account(id); {
		case l.system(id):
			first = append(first, id)
		case a == nil || a.At.IsZero():
			fresh = append(fresh, id)
		default:
			again = append(again, id)
		}
	}
	slices.Sort(first)
	slices.SortFunc(fresh, func(a, b string) int {
		// Those that somebody uses first.
		return cmp.Or(cmp.Compare(min(len(l.loaded[b]), 1), min(len(l.loaded[a]), 1)), strings.Compare(a, b))
	})
	slices.SortFunc(again, func(a, b string) int {
		return cmp.Or(l.before.Account(a).At.Compare(l.before.Account(b).At), strings.Compare(a, b))
	})
	// Whoever makes accounts up must not keep the others from being looked at.
	room := max(l.c.cfg.Accounts-len(first), 0)
	n := min(len(fresh), max(room/2, room-len(again)))
	all := slices.Concat(first, fresh[:n], again, fresh[n:])
	chosen := all[:min(len(all), l.c.cfg.Accounts)]
	if l.left = len(all) - len(chosen); l.left > 0 {
		l.bound = fmt.Sprintf("the limit of %d accounts", l.c.cfg.Accounts)
	}
	return chosen
}

// system tells whether it is the system account of a server.
func (l *trustLook) system(id string) bool {
	for _, s := range l.servers {
		if s.SystemAccount == id {
			return true
		}
	}
	return false
}

// look asks about accounts, some at a time, until the budget is spent.
func (l *trustLook) look(ctx context.Context, ids []string) {
	slots := make(chan struct{}, accountsOnce)
	var wg sync.WaitGroup
	for i, id := range ids {
		slots <- struct{}{}
		if why := l.spent(ctx); why != "" {
			l.leave(len(ids)-i, why)
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			a := l.account(ctx, id)
			l.mu.Lock()
			defer l.mu.Unlock()
			if ctx.Err() != nil {
				l.left, l.bound = l.left+1, l.timeBudget() // it was cut short: what is missing says nothing
				return
			}
			l.found[id] = a
		})
	}
	wg.Wait()
}

func (l *trustLook) leave(n int, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left, l.bound = l.left+n, why
}

// spent names the budget that is spent; "" while there is some left of each.
func (l *trustLook) spent(ctx context.Context) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return l.timeBudget()
	case l.cost.Requests >= l.c.cfg.AccountRequests:
		return fmt.Sprintf("the budget of %d requests", l.c.cfg.AccountRequests)
	case l.cost.Bytes >= l.c.cfg.AccountBytes:
		return fmt.Sprintf("the budget of %d bytes", l.c.cfg.AccountBytes)
	}
	return ""
}

func (l *trustLook) timeBudget() string {
	return fmt.Sprintf("the time budget of %s", l.c.cfg.AccountTime)
}

// lookAgain looks at accounts whose claims disagree once more, after a while.
func (l *trustLook) lookAgain(ctx context.Context) {
	var ids []string
	for id, a := range l.found {
		if !disagree(a) {
			continue
		}
		if a.Differs = 1; l.before.Account(id) != nil {
			a.Differs += l.before.Account(id).Differs
		}
		if a.Differs == 1 {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return
	}
	select {
	case <-time.After(l.c.cfg.Settle):
	case <-ctx.Done():
		return
	}
	slices.Sort(ids)
	first, left, bound := l.found, l.left, l.bound
	l.found = map[string]*posture.Account{}
	l.look(ctx, ids)
	l.left, l.bound = left, bound // they have been looked at once
	for _, id := range ids {
		if a := l.found[id]; a != nil && disagree(a) {
			a.Differs = first[id].Differs + 1
		}
	}
	maps.Copy(first, l.found)
	l.found = first
}

// doubt takes back what servers said about accounts and somebody said otherwise
// in their name when nobody listened any more: whoever forges an answer only has
// to be faster than the server.
func (l *trustLook) doubt(doubted map[claimOf]bool) {
	for _, a := range l.found {
		a.InForce = slices.DeleteFunc(a.InForce, func(f posture.InForce) bool {
			if !doubted[claimOf{f.ServerID, a.ID}] {
				return false
			}
			a.Missing = append(a.Missing, f.Server)
			l.gap(posture.Gap{Server: f.Server, ID: f.ServerID, Endpoint: "ACCOUNTZ", Reason: "two answers that contradict each other about account " + a.ID})
			return true
		})
	}
}

// claimOf names what one server goes by for one account.
type claimOf struct{ server, account string }

// doubtedClaims are those about which late answers said something else, since
// this was last asked.
func (c *Collector) doubtedClaims() map[claimOf]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	doubted := c.doubted
	c.doubted = map[claimOf]bool{}
	return doubted
}

// disagree tells whether the claims of an account are not all the same.
func disagree(a *posture.Account) bool {
	marks := map[uint64]bool{}
	for _, f := range a.InForce {
		marks[f.Claim.Mark] = true
	}
	for _, s := range a.Stored {
		marks[s.Mark] = true
	}
	return len(marks) > 1
}

// run asks by id, and waits no longer for those who are silent than it takes to
// ask them again.
func (l *trustLook) run(ctx context.Context, g *gather) error {
	ctx, cancel := context.WithTimeout(ctx, storeRounds*l.c.askAgain)
	defer cancel()
	return g.run(ctx, true)
}

func (l *trustLook) quiet(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.silent[id]
}

func (l *trustLook) hush(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.silent[id] = true
}

func (l *trustLook) spend(cost posture.Cost) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cost.Requests += cost.Requests
	l.cost.Replies += cost.Replies
	l.cost.Bytes += cost.Bytes
}

func (l *trustLook) gap(g posture.Gap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.gaps, g) && len(l.gaps) < maxComplaints {
		l.gaps = append(l.gaps, g)
	}
}

// trust puts together what was found and what is carried over.
func (l *trustLook) trust(only []string) *posture.Trust {
	out := &posture.Trust{At: l.at, Gaps: l.gaps, Left: l.left}
	if only != nil {
		out.At, out.Left = l.before.At, l.before.Left
		out.Gaps = slices.Clone(l.before.Gaps)
		for _, g := range l.gaps {
			if !slices.Contains(out.Gaps, g) && len(out.Gaps) <= maxComplaints {
				out.Gaps = append(out.Gaps, g)
			}
		}
	}
	known := map[string]*posture.Account{}
	for _, a := range l.before.Accounts {
		known[a.ID] = a
	}
	if only == nil {
		for id := range l.loaded {
			if known[id] == nil {
				known[id] = &posture.Account{ID: id}
			}
		}
		for id := range l.listed {
			if known[id] == nil {
				known[id] = &posture.Account{ID: id}
			}
		}
	}
	maps.Copy(known, l.found)
	for _, a := range known {
		if !l.gone(a) {
			out.Accounts = append(out.Accounts, a)
		}
	}
	slices.SortFunc(out.Accounts, func(a, b *posture.Account) int { return strings.Compare(a.ID, b.ID) })
	if l.left > 0 && only == nil {
		reason := fmt.Sprintf("stopped after %d of %d accounts: %s", len(known)-l.left, len(known), l.bound)
		if !l.c.cfg.Once {
			reason += "; the others come next"
		}
		out.Gaps = append(out.Gaps, posture.Gap{Endpoint: "ACCOUNTZ", Reason: reason, Bound: true})
	}
	return out
}

// gone tells whether an account that was looked at is no account: no server goes
// by a claim of it and no store holds one, or it was deleted and is only
// remembered as disabled. Where no store answers, a server that was restarted has
// not yet loaded what its configuration may hold: the account is kept for a while.
func (l *trustLook) gone(a *posture.Account) bool {
	if l.found[a.ID] != a || len(a.Missing) > 0 || len(a.Stored) > 0 {
		return false
	}
	if len(a.InForce) == 0 {
		seenLately := !a.Seen.IsZero() && a.At.Sub(a.Seen) < l.c.cfg.Forget
		return a.Asked || !l.listed[a.ID] && !seenLately
	}
	return a.Asked && !slices.ContainsFunc(a.InForce, func(f posture.InForce) bool {
		ended := !f.Claim.Expires.IsZero() && !a.At.Before(f.Claim.Expires)
		return !f.Expired || ended
	})
}
