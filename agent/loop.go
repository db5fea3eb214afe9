package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

// Times of the loop.
const (
	sweepDelay   = 250 * time.Millisecond // gathers the events of one happening before a sweep answers them
	lookTimeout  = time.Second            // of a look at servers
	lookWait     = 50 * time.Millisecond  // how long a look's verdict waits for the touches that it causes
	confirm      = time.Second            // after which what has passed once is looked at again
	visitPause   = 25 * time.Millisecond  // between two judgements of clients that come
	claimsPause  = time.Second            // between two rounds of touches for JWTs that were pushed
	pursuitHolds = 100 * time.Millisecond // a pursuit is not begun anew before
	churnPause   = 250 * time.Millisecond // between two looks at one server because it dropped a client
	placePause   = 250 * time.Millisecond // until the address of a new server is looked for again
	unfoundFor   = 30 * time.Second       // how long a server that a sweep did not find causes no other one
)

// maxLooks is how many looks may be under way at once: one at a server that
// does not answer must not hold up the others.
const maxLooks = 8

// churnLooks is how many looks in a second clients that come and go may cause
// in the whole fleet. Polls see the rest.
const churnLooks = 50

// sightings is how many sweeps look for a server that is heard and not found, and
// sightSweeps how many in a second all of those may cause.
const (
	sightings   = 4
	sightSweeps = 4
)

// When a server that may have reloaded is looked at, after the first time:
// events come while it reloads, and its VARZ may still be the old one.
var (
	reloadSteps  = []time.Duration{0, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond}
	confirmSteps = []time.Duration{confirm}
	echoSteps    = []time.Duration{churnPause}
	churnSteps   = []time.Duration{0, 100 * time.Millisecond}
	claimsSteps  = []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 200 * time.Millisecond, time.Second}
)

// loop is one run of an agent. Its fields belong to one goroutine; sweeps,
// looks and touches work beside it and send it what they bring.
type loop struct {
	*Agent
	*turn

	sweeping    bool
	sweepAgain  bool // another sweep is wanted after the one under way
	sessionsToo bool // with sessions and accounts
	swept       chan sweepResult
	replies     []chan scanned // that wait for the sweep under way
	nextReplies []chan scanned // that wait for the one after it
	ready       []chan scanned // that wait for the verdict of the sweep that is done
	soon        timer

	looks   int             // that are under way
	inSight map[string]bool // servers that are being looked at
	looked  chan lookResult
	look    timer
	churned budget

	poll *time.Ticker

	asking   bool // a server is asked who is inside
	told     chan everyoneResult
	everyone timer

	settle  timer
	held    timer // until a finding that is held may end
	sighted budget
	visit   timer
	claims  timer
	claimed time.Time
	trust   trustLoop
	slow    time.Duration // what the last judgement took
}

type sweepResult struct {
	turn     *turn
	snap     *posture.Snapshot
	err      error
	accounts bool // it is time to look at them
}

type lookResult struct {
	turn    *turn
	look    *collect.Look
	targets map[string]bool // ids that were looked at; true: and are to be touched
	err     error
}

// Run sweeps at once, unless Sweep was called before, and then at every
// interval until the context ends; then it returns nil. Between sweeps it polls
// the servers, and looks at those that events speak of. It may be called once.
//
// It returns an error when the first sweep shows that there is nothing to be
// learned over this connection, and when the connection is closed.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.ended)
	defer a.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	connection := a.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer a.nc.RemoveStatusListener(connection)
	if err := a.collector.Listen(a.intake.put); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	l := newLoop(a)
	defer l.poll.Stop()
	defer l.stopTimers()
	tick := time.NewTicker(a.cfg.Interval)
	defer tick.Stop()
	if a.Leading() && a.State() == nil {
		l.startSweep(ctx)
	}
	for {
		if err := l.step(ctx, tick.C, connection); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

func newLoop(a *Agent) *loop {
	l := &loop{
		Agent: a, turn: newTurn(a.snapshot()),
		swept: make(chan sweepResult, 1), looked: make(chan lookResult, maxLooks), inSight: map[string]bool{}, told: make(chan everyoneResult, 1),
		poll: time.NewTicker(max(a.cfg.WatchInterval, time.Millisecond)), churned: budget{each: time.Second, most: churnLooks}, sighted: budget{each: time.Second, most: sightSweeps},
		trust: newTrustLoop(),
	}
	if a.cfg.WatchInterval < 0 {
		l.poll.Stop()
	}
	return l
}

// step waits for one thing and does what it calls for.
func (l *loop) step(ctx context.Context, tick <-chan time.Time, connection <-chan nats.Status) error {
	var touched <-chan struct{}
	if l.toucher != nil {
		touched = l.toucher.ready
	}
	select {
	case <-ctx.Done():
	case <-tick:
		l.startSweep(ctx)
	case <-l.soon.C():
		l.soon.stop()
		l.startSweep(ctx)
	case r := <-l.swept:
		return l.onSwept(ctx, r)
	case <-l.intake.ready:
		l.onNews(ctx, l.intake.take())
	case <-l.look.C():
		l.look.stop()
		l.startLook(ctx)
	case r := <-l.looked:
		l.onLooked(ctx, r)
	case <-l.poll.C:
		l.onPoll()
	case <-l.everyone.C():
		l.everyone.stop()
		l.startEveryone(ctx)
	case r := <-l.told:
		l.onEveryone(r)
	case <-touched:
		l.onTouched(ctx, l.toucher.takeEnded())
	case <-l.visit.C():
		l.visit.stop()
		l.onVisits(ctx)
	case <-l.claims.C():
		l.claims.stop()
		l.onClaims()
	case <-l.trust.timer.C():
		l.trust.timer.stop()
		l.startAccounts(ctx)
	case r := <-l.trust.looked:
		l.onAccounts(ctx, r)
	case <-l.settle.C():
		l.verdict(ctx)
	case <-l.held.C():
		l.held.stop()
		if l.Leading() && l.snap != nil {
			l.lookAgain()
		}
	case reply := <-l.scans:
		l.onScan(ctx, reply)
	case p := <-l.policies:
		l.policy = p
		l.judgeNow(ctx)
	case t := <-l.turns:
		l.onTurn(ctx, t)
	case status := <-connection:
		return l.onConnection(status)
	}
	return nil
}

func (l *loop) stopTimers() {
	for _, t := range []*timer{&l.soon, &l.look, &l.settle, &l.held, &l.visit, &l.claims, &l.everyone, &l.trust.timer} {
		t.stop()
	}
}

func (l *loop) onConnection(status nats.Status) error {
	switch status {
	case nats.CONNECTED:
		l.log.Info("connection is back; sweeping", slog.String("server", l.nc.ConnectedServerName()))
		// What came to pass meanwhile was not heard. What no configuration shows, a
		// JWT that was pushed, takes another touch and another look.
		if l.toucher != nil {
			l.toucher.againAll()
		}
		l.trust.all = true
		l.soon.in(0)
	case nats.CLOSED:
		return fmt.Errorf("agent: the connection was closed: %w", cmp.Or(l.nc.LastError(), nats.ErrConnectionClosed))
	default:
		l.log.Warn("connection lost; what is known is getting old", slog.Uint64("epoch", l.epoch))
	}
	return nil
}

func (l *loop) onScan(ctx context.Context, reply chan scanned) {
	if !l.Leading() {
		reply <- scanned{err: ErrNotLeading}
		return
	}
	l.nextReplies = append(l.nextReplies, reply)
	l.sessionsToo = true
	l.startSweep(ctx)
}

// startSweep sweeps beside the loop, or after the sweep that is under way.
func (l *loop) startSweep(ctx context.Context) {
	switch {
	case !l.Leading():
		return
	case l.sweeping:
		l.sweepAgain = true
		return
	}
	l.sweeping, l.sweepAgain, l.base = true, false, l.snap
	l.replies, l.nextReplies = l.nextReplies, nil
	prev, turn := l.snap, l.turn
	sessions, accounts := l.sessionsDue(l.sessionsToo), l.accountsDue(prev, l.sessionsToo || l.trust.all)
	l.sessionsToo, l.trust.all = false, false
	// Doors do not wait for accounts, of which there may be many; whoever asked
	// for everything does.
	wait := accounts && len(l.replies) > 0
	go func() {
		snap, err := l.gather(ctx, prev, sessions, wait)
		l.swept <- sweepResult{turn, snap, err, accounts && !wait}
	}()
}

func (l *loop) onSwept(ctx context.Context, r sweepResult) error {
	l.sweeping = false
	// Those who wait for the sweep that comes next are not answered with this
	// one: it may have begun before they asked.
	defer func() {
		if l.sweepAgain && ctx.Err() == nil {
			l.startSweep(ctx)
		}
	}()
	if r.turn != l.turn {
		return nil
	}
	if r.err != nil {
		l.trust.all = l.trust.all || r.accounts
		for _, reply := range l.replies {
			reply <- scanned{err: r.err}
		}
		l.replies = nil
		switch {
		case ctx.Err() != nil:
		case l.snap == nil && (errors.Is(r.err, collect.ErrNotSystemAccount) || errors.Is(r.err, collect.ErrNotPermitted)):
			return r.err // what the next sweep cannot do either is for the user to mend
		default:
			l.log.Error("sweep failed; the last state stands", slog.Any("error", r.err), slog.Uint64("epoch", l.epoch))
		}
		return nil
	}
	if !l.Leading() {
		return nil
	}
	l.ready = append(l.ready, l.replies...)
	l.replies = nil
	r.snap.Epoch = max(r.snap.Epoch, l.epoch+1) // epochs go on from turn to turn
	l.snap = l.merge(r.snap)
	l.snap.Gaps = append(l.snap.Gaps, l.inside.open(l.snap.Servers, l.now())...)
	if r.accounts {
		l.trust.every = true
		l.startAccounts(ctx)
	}
	l.noteUnfound()
	l.everyone.atMost(everyonePause)
	if l.collector.Unplaced() {
		l.soon.atMost(placePause)
	}
	l.full = true
	l.touch(ctx, l.snap.Servers, l.probeWait())
	if l.toucher != nil {
		l.toucher.forget(l.snap)
	}
	return nil
}

func (l *loop) probeWait() time.Duration {
	if l.toucher == nil {
		return 0
	}
	return l.toucher.cfg.Wait
}

// touch starts the touches that are due at servers that are not yet published,
// and has all judged when they have ended, or after so long.
func (l *loop) touch(ctx context.Context, servers []*posture.Server, wait time.Duration) {
	l.dirty = true
	l.startTouches(ctx, servers)
	if len(l.awaiting) == 0 {
		l.verdict(ctx)
		return
	}
	l.settle.atMost(wait)
}

func (l *loop) startTouches(ctx context.Context, servers []*posture.Server) {
	if l.toucher == nil {
		return
	}
	jobs := append(l.toucher.plan(servers, l.now()), l.toucher.planAddresses(l.policy.Addresses, l.now())...)
	for _, j := range jobs {
		l.awaiting[j.server] = true
	}
	if len(jobs) > 0 {
		l.toucher.start(ctx, jobs)
	}
}

// touchLate starts the touches that could not begin when they came due: others
// were under way at the same server, for a configuration that is no more.
func (l *loop) touchLate(ctx context.Context) {
	l.startTouches(ctx, slices.DeleteFunc(slices.Clone(l.snap.Servers), func(s *posture.Server) bool {
		return !slices.ContainsFunc(s.Doors, func(d posture.Door) bool { return d.Pending })
	}))
}

// onTouched takes what touches have found. The servers that the loop holds may
// have been published; those that changed are replaced.
func (l *loop) onTouched(ctx context.Context, ended map[string]bool) {
	waited := len(l.awaiting) > 0
	for id, more := range ended {
		if !more {
			delete(l.awaiting, id)
		}
	}
	if l.snap == nil || !l.Leading() {
		return
	}
	l.dirty = true
	if waited && len(l.awaiting) == 0 {
		l.verdict(ctx)
		return
	}
	l.settle.atMost(max(lookWait, 4*l.slow)) // judging must not become all that is done
}

// verdict judges what has come, if anything has.
func (l *loop) verdict(ctx context.Context) {
	l.settle.stop()
	if !l.dirty || l.snap == nil || !l.Leading() {
		return
	}
	l.judgeNow(ctx)
}

// judgeNow judges the fleet as it is known.
func (l *loop) judgeNow(ctx context.Context) {
	if l.snap == nil || !l.Leading() {
		return
	}
	clear(l.awaiting)
	began := time.Now()
	l.snap = l.finish()
	state := l.judge(ctx, l.snap, l.full)
	l.slow = time.Since(began)
	l.dirty, l.full = false, false
	for _, r := range l.ready {
		r <- scanned{state: state}
	}
	l.ready = nil
	l.hurry(state.Results)
	l.lookAgain()
	l.touchLate(ctx)
}

// lookAgain arranges the second look that what has passed once needs to end.
func (l *loop) lookAgain() {
	passing, next := l.ledger.Passing(l.now())
	if !next.IsZero() {
		l.held.atMost(max(next.Sub(l.now()), 0))
	}
	for _, scope := range passing {
		if scope.Kind == check.KindAccount {
			l.lookAtAccount(scope.Account, 1, confirm)
			continue
		}
		s := l.subject(scope)
		if s == nil || s.ID == "" {
			l.soon.atMost(confirm)
			continue
		}
		l.pursue(s.ID, toConfirm, confirmSteps, nil, scope.Door != posture.NoDoor)
	}
}

// subject finds the server that a finding is about, which may have been
// restarted since; nil where it is about more than one.
func (l *loop) subject(scope check.Scope) *posture.Server {
	if scope.Kind != check.KindServer {
		return nil
	}
	if s := l.snap.Server(scope.ServerID); s != nil {
		return s
	}
	return l.snap.Server(scope.Server)
}

// onPoll asks every server for its VARZ; what moved comes as an event.
func (l *loop) onPoll() {
	if l.Leading() && l.snap != nil && l.nc.IsConnected() {
		l.collector.Poll(l.cfg.WatchInterval)
	}
}
