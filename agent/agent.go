package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// Config is what an agent needs to know.
type Config struct {
	System          string        // the name of the fleet in reports and findings; required
	Interval        time.Duration // between two sweeps; default 30 s
	SessionInterval time.Duration // between two looks at the sessions in the global account; default 1 min
	// EveryoneInterval is between two looks at the sessions in all accounts of one
	// server; default 5 min, negative: none. A server with so many connections that
	// this would cost it more than its share of CPU is asked less often.
	EveryoneInterval time.Duration
	AccountInterval  time.Duration // between two looks at the accounts of servers in operator mode; default 5 min
	WatchInterval    time.Duration // between two polls of every server's VARZ, by Run; default 1 s, negative: none
	Policy           check.Policy  // the zero value means check.DefaultPolicy
	Rules            finding.Rules
	Probe            Probe
	Collect          collect.Config
}

// Defaults of [Config].
const (
	DefaultInterval         = 30 * time.Second
	DefaultSessionInterval  = time.Minute
	DefaultEveryoneInterval = 5 * time.Minute
	DefaultAccountInterval  = 5 * time.Minute
	DefaultWatchInterval    = time.Second
)

// Errors of [Agent.Scan].
var (
	ErrStopped    = errors.New("the agent has stopped")
	ErrNotLeading = errors.New("another agent leads")
)

// State is what the agent knows. It is immutable.
type State struct {
	Snapshot *posture.Snapshot
	Results  []check.Result    // every check on every subject, passes and unknowns too
	Findings []finding.Finding // those that stand, worst first
	Via      string            // the server that the questions went through: its name and address
	Swept    bool              // it follows a sweep of the whole fleet, and not a look at some servers
	Watch    posture.Cost      // of a sweep's state: what polls and looks took since the last one
	Deaf     []string          // the event subjects that the user may not subscribe to
}

// Report writes the state down as a report.
func (s *State) Report() *finding.Report {
	r := finding.NewReport(s.Snapshot, s.Findings)
	r.Via = s.Via
	return r
}

// Sink is told what each sweep brings, and what looks between them change. Its
// method is called from the agent's loop, one state at a time, and should not
// block for long: everything else waits for it.
type Sink interface {
	Judged(ctx context.Context, state *State, transitions []finding.Entry)
}

// Turn tells an agent whether it is its turn to sweep and to tell, and of
// what has been told before. A second Turn to lead means that the book was
// changed by somebody else.
type Turn struct {
	Lead bool
	Book []finding.Entry
}

// Agent audits one fleet.
type Agent struct {
	cfg       Config
	nc        *nats.Conn
	log       *slog.Logger
	sink      Sink
	now       func() time.Time
	turns     <-chan Turn // nil when nobody else leads
	collector *collect.Collector
	toucher   *toucher // nil when nothing is touched
	intake    *intake

	state    atomic.Pointer[State]
	leading  atomic.Bool
	scans    chan chan scanned
	policies chan check.Policy
	ended    chan struct{}

	// owned by whoever sweeps: Run, or the caller of Sweep
	policy       check.Policy
	epoch        uint64 // of the latest state
	ledger       *finding.Ledger
	lastSessions time.Time
	inside       *inside
	lastAccounts time.Time
}

type scanned struct {
	state *State
	err   error
}

// Option changes an agent.
type Option func(*Agent)

// WithSink sets who is told of every state.
func WithSink(s Sink) Option { return func(a *Agent) { a.sink = s } }

// WithLogger sets the log. Without it the agent says nothing.
func WithLogger(l *slog.Logger) Option { return func(a *Agent) { a.log = l } }

// WithClock replaces the clock that stamps snapshots, for tests.
func WithClock(now func() time.Time) Option { return func(a *Agent) { a.now = now } }

// WithTurns makes the agent one of several that take turns: Run does nothing
// until a Turn says that it leads.
func WithTurns(turns <-chan Turn) Option { return func(a *Agent) { a.turns = turns } }

// New prepares an agent on a connection into the system account. The
// connection stays the caller's; set its handlers before.
func New(nc *nats.Conn, cfg Config, opts ...Option) (*Agent, error) {
	if cfg.System == "" {
		return nil, errors.New("agent: a system name is required")
	}
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.SessionInterval = cmp.Or(cfg.SessionInterval, DefaultSessionInterval)
	cfg.EveryoneInterval = cmp.Or(cfg.EveryoneInterval, DefaultEveryoneInterval)
	cfg.AccountInterval = cmp.Or(cfg.AccountInterval, DefaultAccountInterval)
	cfg.WatchInterval = cmp.Or(cfg.WatchInterval, DefaultWatchInterval)
	if cfg.Interval < 0 || cfg.SessionInterval < 0 || cfg.AccountInterval < 0 {
		return nil, errors.New("agent: intervals must be positive")
	}
	if cfg.Policy.IsZero() {
		cfg.Policy = check.DefaultPolicy()
	}
	a := &Agent{
		cfg: cfg, nc: nc, log: slog.New(slog.DiscardHandler), now: time.Now,
		scans: make(chan chan scanned), policies: make(chan check.Policy), ended: make(chan struct{}),
		policy: cfg.Policy, ledger: finding.NewLedger(cfg.System, cfg.Rules), inside: newInside(cfg.EveryoneInterval),
	}
	for _, o := range opts {
		o(a)
	}
	cfg.Collect.System, cfg.Collect.Now = cfg.System, a.now
	collector, err := collect.New(nc, cfg.Collect)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a.collector = collector
	a.intake = newIntake(a.now, cfg.Policy.FailureBurst)
	if !cfg.Probe.Off {
		a.toucher = newToucher(cfg.Probe, a.now, a.log)
		a.toucher.before, a.toucher.whoWas = a.intake.touching, collector.Admitted
	}
	return a, nil
}

// Config is the configuration in force, defaults filled in.
func (a *Agent) Config() Config { return a.cfg }

// State is the latest published state, or nil before the first sweep of a turn.
func (a *Agent) State() *State { return a.state.Load() }

// Leading tells whether it is this agent's turn to sweep and to tell.
func (a *Agent) Leading() bool { return a.turns == nil || a.leading.Load() }

// Close ends what the agent has subscribed to. Run does it by itself.
func (a *Agent) Close() { a.collector.Close() }

// Scan sweeps now, sessions and accounts included, and returns the state after it.
// Requests that wait together share one sweep.
func (a *Agent) Scan(ctx context.Context) (*State, error) {
	reply := make(chan scanned, 1)
	select {
	case a.scans <- reply:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.ended:
		return nil, ErrStopped
	}
	select {
	case s := <-reply:
		return s.state, s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-a.ended:
		return nil, ErrStopped
	}
}

// SetPolicy changes what Run judges by.
func (a *Agent) SetPolicy(ctx context.Context, p check.Policy) {
	select {
	case a.policies <- p:
	case <-ctx.Done():
	case <-a.ended:
	}
}

// Sweep asks the fleet once, touches what is due, judges the answers and tells
// the sink. sessions forces a look at the sessions, those of all accounts
// included, and at the accounts even when it is not their time. Call it only when
// Run is not running: it is for a single audit.
func (a *Agent) Sweep(ctx context.Context, sessions bool) (*State, error) {
	prev := a.snapshot()
	snap, err := a.gather(ctx, prev, a.sessionsDue(sessions), a.accountsDue(prev, sessions))
	if err != nil {
		return nil, err
	}
	if sessions && a.cfg.EveryoneInterval > 0 {
		if err := a.askEveryone(ctx, snap); err != nil {
			return nil, err
		}
	}
	if a.toucher != nil {
		<-a.toucher.start(ctx, append(a.toucher.plan(snap.Servers, a.now()), a.toucher.planAddresses(a.policy.Addresses, a.now())...))
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	for _, s := range snap.Servers {
		a.attach(s)
	}
	if a.toucher != nil {
		a.toucher.attachForeign(snap, a.policy.Addresses)
	}
	return a.judge(ctx, snap, true), nil
}

func (a *Agent) sessionsDue(forced bool) bool {
	now := a.now()
	if !forced && !a.lastSessions.IsZero() && now.Sub(a.lastSessions) < a.cfg.SessionInterval && !now.Before(a.lastSessions) {
		return false
	}
	a.lastSessions = now
	return true
}

// accountsDue: until all were looked at, each sweep looks at some.
func (a *Agent) accountsDue(prev *posture.Snapshot, forced bool) bool {
	now := a.now()
	behind := prev == nil || prev.Trust == nil || prev.Trust.Left > 0
	if !forced && !behind && now.Sub(a.lastAccounts) < a.cfg.AccountInterval && !now.Before(a.lastAccounts) {
		return false
	}
	a.lastAccounts = now
	return true
}

// gather sweeps, and looks at the accounts as well where that is wanted.
func (a *Agent) gather(ctx context.Context, prev *posture.Snapshot, sessions, accounts bool) (*posture.Snapshot, error) {
	snap, err := a.collector.Sweep(ctx, prev, collect.Options{Sessions: sessions})
	if err != nil || !accounts {
		return snap, err
	}
	snap.Trust, err = a.collector.LookAtAccounts(ctx, snap, nil)
	if err != nil {
		return nil, err
	}
	return snap, nil
}

func (a *Agent) snapshot() *posture.Snapshot {
	if s := a.State(); s != nil {
		return s.Snapshot
	}
	return nil
}

// changeSettles is how long after a change of configuration its "after" follows
// what touches find.
const changeSettles = time.Minute

// attach gives a server that is not yet published what touches have found.
func (a *Agent) attach(s *posture.Server) {
	s.Complete = true
	if a.toucher == nil {
		return
	}
	a.toucher.attach(s)
	if c := s.Change; c != nil && c.Loaded.Equal(s.ConfigLoaded) && a.now().Sub(c.Seen) < changeSettles {
		changed := *c // it may have been published
		changed.After = s.Summary()
		s.Change = &changed
	}
}

// judge evaluates a snapshot, publishes the state and tells the sink.
func (a *Agent) judge(ctx context.Context, snap *posture.Snapshot, swept bool) *State {
	results := check.Evaluate(snap, a.policy)
	transitions := a.ledger.Apply(snap, results, &a.policy)
	state := &State{Snapshot: snap, Results: results, Findings: a.ledger.Findings(), Swept: swept, Deaf: a.collector.Deaf()}
	if address := a.nc.ConnectedAddr(); address != "" { // the URL may hold credentials
		state.Via = a.nc.ConnectedServerName() + " at " + address
	}
	if swept {
		state.Watch = a.collector.WatchCost()
	}
	a.state.Store(state)
	a.epoch = snap.Epoch
	a.log.Debug("judged", slog.Uint64("epoch", snap.Epoch), slog.Bool("swept", swept), slog.Int("expected", snap.Expected), slog.Int("heard", snap.Heard),
		slog.Int("gaps", len(snap.Gaps)), slog.Int("findings", len(state.Findings)), slog.Int("transitions", len(transitions)),
		slog.Duration("took", snap.Took))
	if a.sink != nil {
		a.sink.Judged(ctx, state, transitions)
	}
	return state
}
