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
	SessionInterval time.Duration // between two looks at the sessions; default 1 min
	Policy          check.Policy  // the zero value means check.DefaultPolicy
	Probe           Probe
	Collect         collect.Config
}

// Defaults of [Config].
const (
	DefaultInterval        = 30 * time.Second
	DefaultSessionInterval = time.Minute
)

// eventDelay gathers the events of one happening before a sweep answers them.
const eventDelay = 250 * time.Millisecond

// ErrStopped is what a scan returns when the agent's loop has ended.
var ErrStopped = errors.New("the agent has stopped")

// State is what the agent knows after a sweep. It is immutable.
type State struct {
	Snapshot *posture.Snapshot
	Results  []check.Result    // every check on every subject, passes and unknowns too
	Findings []finding.Finding // those that stand, worst first
}

// Report writes the state down as a report.
func (s *State) Report() *finding.Report { return finding.NewReport(s.Snapshot, s.Findings) }

// Sink takes what each sweep brings. Its method is called from the agent's
// loop, one sweep at a time, and should not block for long: the next sweep
// waits for it.
type Sink interface {
	Swept(ctx context.Context, state *State, transitions []finding.Finding)
}

// Agent audits one fleet.
type Agent struct {
	cfg       Config
	nc        *nats.Conn
	log       *slog.Logger
	sink      Sink
	now       func() time.Time
	collector *collect.Collector
	toucher   *toucher // nil when nothing is touched

	state atomic.Pointer[State]
	scans chan chan scanned
	event chan struct{}
	ended chan struct{}

	// owned by the loop
	running      bool // touches may go on after the sweep that started them
	ledger       *finding.Ledger
	lastSessions time.Time
}

type scanned struct {
	state *State
	err   error
}

// Option changes an agent.
type Option func(*Agent)

// WithSink sets who is told of every sweep.
func WithSink(s Sink) Option { return func(a *Agent) { a.sink = s } }

// WithLogger sets the log. Without it the agent says nothing.
func WithLogger(l *slog.Logger) Option { return func(a *Agent) { a.log = l } }

// WithClock replaces the clock that stamps snapshots, for tests.
func WithClock(now func() time.Time) Option { return func(a *Agent) { a.now = now } }

// New prepares an agent on a connection into the system account. The
// connection stays the caller's; set its handlers before.
func New(nc *nats.Conn, cfg Config, opts ...Option) (*Agent, error) {
	if cfg.System == "" {
		return nil, errors.New("agent: a system name is required")
	}
	cfg.Interval = cmp.Or(cfg.Interval, DefaultInterval)
	cfg.SessionInterval = cmp.Or(cfg.SessionInterval, DefaultSessionInterval)
	if cfg.Interval < 0 || cfg.SessionInterval < 0 {
		return nil, errors.New("agent: intervals must be positive")
	}
	if cfg.Policy == (check.Policy{}) {
		cfg.Policy = check.DefaultPolicy()
	}
	a := &Agent{
		cfg: cfg, nc: nc, log: slog.New(slog.DiscardHandler), now: time.Now,
		scans: make(chan chan scanned), event: make(chan struct{}, 1), ended: make(chan struct{}),
		ledger: finding.NewLedger(cfg.System),
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
	if !cfg.Probe.Off {
		a.toucher = newToucher(cfg.Probe, a.now, a.log)
	}
	collector.OnEvent(a.wake)
	return a, nil
}

// Config is the configuration in force, defaults filled in.
func (a *Agent) Config() Config { return a.cfg }

// State is the latest published state, or nil before the first sweep.
func (a *Agent) State() *State { return a.state.Load() }

// Close ends what the agent has subscribed to. Run does it by itself.
func (a *Agent) Close() { a.collector.Close() }

// Run sweeps at once, unless Sweep was called before, and then at every
// interval until the context ends; then it returns nil. It may be called once. A sweep that takes longer than the interval delays the next one; two
// never overlap.
func (a *Agent) Run(ctx context.Context) error {
	defer close(a.ended)
	defer a.Close()
	connection := a.nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer a.nc.RemoveStatusListener(connection)

	a.running = true
	tick := time.NewTicker(a.cfg.Interval)
	defer tick.Stop()
	delayed := time.NewTimer(0) // the first sweep, at once
	defer delayed.Stop()
	waiting := true // delayed is running
	if a.State() != nil {
		waiting = !delayed.Stop() // the caller has swept already
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.sweepAndLog(ctx, false)
		case <-delayed.C:
			waiting = false
			a.sweepAndLog(ctx, false)
		case reply := <-a.scans:
			a.scan(ctx, reply)
		case <-a.event:
			if !waiting {
				waiting = true
				delayed.Reset(eventDelay)
			}
		case status := <-connection:
			switch status {
			case nats.CONNECTED:
				a.log.Info("connection is back; sweeping", slog.String("server", a.nc.ConnectedServerName()))
				if !waiting {
					waiting = true
					delayed.Reset(0)
				}
			case nats.CLOSED:
				return fmt.Errorf("agent: the connection was closed: %w", cmp.Or(a.nc.LastError(), nats.ErrConnectionClosed))
			default:
				a.log.Warn("connection lost; what is known is getting old", slog.Uint64("epoch", a.epoch()))
			}
		}
	}
}

// Scan sweeps now, sessions included, and returns the state after it.
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
	}
}

// scan answers a request and all that wait beside it.
func (a *Agent) scan(ctx context.Context, first chan scanned) {
	replies := []chan scanned{first}
	for more := true; more; {
		select {
		case r := <-a.scans:
			replies = append(replies, r)
		default:
			more = false
		}
	}
	state, err := a.Sweep(ctx, true)
	if err != nil {
		a.log.Error("sweep failed", slog.Any("error", err))
	}
	for _, r := range replies {
		r <- scanned{state, err}
	}
}

func (a *Agent) sweepAndLog(ctx context.Context, sessions bool) {
	if _, err := a.Sweep(ctx, sessions); err != nil && ctx.Err() == nil {
		a.log.Error("sweep failed; the last state stands", slog.Any("error", err), slog.Uint64("epoch", a.epoch()))
	}
}

// Sweep asks the fleet once, judges the answers and tells the sink. sessions
// forces a look at the sessions even when it is not their time. It is what
// Run does; call it only when Run is not running.
func (a *Agent) Sweep(ctx context.Context, sessions bool) (*State, error) {
	var prev *posture.Snapshot
	if last := a.State(); last != nil {
		prev = last.Snapshot
	}
	if now := a.now(); sessions || now.Sub(a.lastSessions) >= a.cfg.SessionInterval {
		sessions, a.lastSessions = true, now
	}
	snap, err := a.collector.Sweep(ctx, prev, collect.Options{Sessions: sessions})
	if err != nil {
		return nil, err
	}
	if a.toucher != nil {
		a.touch(ctx, snap)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	results := check.Evaluate(snap, a.cfg.Policy)
	transitions := a.ledger.Apply(snap, results)
	state := &State{Snapshot: snap, Results: results, Findings: a.ledger.Findings()}
	a.state.Store(state)
	a.log.Debug("swept", slog.Uint64("epoch", snap.Epoch), slog.Int("expected", snap.Expected), slog.Int("heard", snap.Heard),
		slog.Int("gaps", len(snap.Gaps)), slog.Int("findings", len(state.Findings)), slog.Int("transitions", len(transitions)),
		slog.Duration("took", snap.Took))
	if a.sink != nil {
		a.sink.Swept(ctx, state, transitions)
	}
	return state, nil
}

// touch touches what is due and gives the servers of a fresh snapshot what is
// known from touches. A running agent does not wait long: what comes later
// brings the next sweep forward.
func (a *Agent) touch(ctx context.Context, snap *posture.Snapshot) {
	if jobs := a.toucher.plan(snap, a.now()); len(jobs) > 0 {
		done := a.toucher.start(ctx, jobs)
		var late <-chan time.Time
		if a.running {
			timer := time.NewTimer(a.toucher.cfg.Wait)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-done:
		case <-late:
			go func() {
				<-done
				a.wake()
			}()
		}
	}
	for _, s := range snap.Servers {
		a.toucher.attach(s)
		if s.Change != nil && s.Change.Seen.Equal(snap.Taken) {
			s.Change.After = s.Summary() // this sweep's own, not yet published
		}
	}
}

// wake asks the loop for a sweep soon.
func (a *Agent) wake() {
	select {
	case a.event <- struct{}{}:
	default: // one is waiting already
	}
}

func (a *Agent) epoch() uint64 {
	if s := a.State(); s != nil {
		return s.Snapshot.Epoch
	}
	return 0
}
