package service

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/finding"
)

// Names in the account that keeps.
const (
	StoreStream  = "NATSENTRY"    // the stream of transitions
	StoreBucket  = "NATSENTRY"    // the bucket of the ledger and the lease
	StorePrefix  = "audit.store"  // of the stream's subjects
	StoreAPI     = "audit.js.api" // where the system account imports that account's JetStream API
	storeSubject = StorePrefix + ".finding"
)

// JetStreamConfig is what a keeper in JetStream needs to know.
type JetStreamConfig struct {
	// Conn reaches the account that keeps: the connection into the system
	// account, which imports it under APIPrefix, or one of its own.
	Conn      *nats.Conn
	APIPrefix string        // StoreAPI, or "" for a connection into the account itself
	System    string        // the name of the fleet; required
	Lease     time.Duration // default: DefaultLease; the same for all agents of a system
	Logger    *slog.Logger
	Step      func(name string) // is called before each step of keeping a transition: for tests that crash there
}

// inJetStream keeps each transition in a stream, exactly once, and the ledger
// in a bucket. Any number of agents of one system may use it: one of them,
// which holds the lease, leads.
//
// A transition is kept in three steps, each of which can be repeated:
//
//  1. The bucket's record of the finding takes the new entry, as pending. It
//     expects the revision that this agent knows: of two agents only one gets
//     past it, and that one tells.
//  2. The stream takes the transition on the finding's own subject. It expects
//     the sequence of the last one there, which the record knows: whatever
//     happens, no transition gets in twice.
//  3. The record is no longer pending.
//
// Whoever leads next finishes what is pending.
type inJetStream struct {
	cfg    JetStreamConfig
	log    *slog.Logger
	t      teller
	id     string
	token  string // the system, as a token of subjects and keys
	turn   chan agent.Turn
	ending <-chan struct{} // nobody takes a turn any more

	// the election's own
	js            jetstream.JetStream
	kv            jetstream.KeyValue
	stream        jetstream.Stream
	leaseHeld     bool
	leaseRevision uint64
	seenRevision  uint64
	seenAt        time.Time
	late          late

	conflicts chan struct{}
	wake      chan struct{}

	mu      sync.Mutex
	term    uint64 // counts the turns; what belongs to an earlier one is void
	leading bool
	blind   bool // leading without a store
	leaseAt time.Time
	lanes   map[string]*lane // by fingerprint
	waiting int
	working int
	trouble error
	blocked bool // the trouble is a lane's: that the lease is renewed does not end it
	retryAt time.Time
	backoff time.Duration
	refused refusedSubject
}

// refusedSubject is the last subject of the store that the user may not publish
// to.
type refusedSubject struct {
	subject string
	at      time.Time
}

// record is what the bucket holds of one finding.
type record struct {
	Entry   finding.Entry `json:"entry"`
	Last    uint64        `json:"last"`    // the sequence that step 2 expects
	Pending bool          `json:"pending"` // step 2 has not been seen to succeed
	Writer  string        `json:"writer"`  // the agent that wrote it
}

// Bounds of what waits for the store.
const (
	maxWaiting  = 10_000                 // transitions; beyond that each finding keeps two at most
	maxWorking  = 64                     // findings that are kept at the same time
	shortestTry = 200 * time.Millisecond // between two tries of a store that cannot be reached
	longestTry  = 2 * time.Second
	keepTime    = 3 * storeTime // of one transition
)

// Errors of a store that waiting does not help.
var (
	// ErrNoStore means that the stream or the bucket is missing.
	ErrNoStore = errors.New("the store is not set up: `natsentry setup` prints what it takes")
	// ErrStoreNotPermitted means that the user may not use the store.
	ErrStoreNotPermitted = errors.New("the user may not use the store: `natsentry permissions --store` prints what it needs")
)

// InJetStream is the keeper of any number of agents of one system. It returns
// [ErrNoStore] when the account has no such stream or bucket, and
// [ErrStoreNotPermitted] when the user may not ask for them. A store that cannot
// be reached is no error: it is waited for.
//
// The connection's error handler is wrapped: it is where the server says what
// the user may not do.
func InJetStream(ctx context.Context, cfg JetStreamConfig) (Keeper, error) {
	k, err := newInJetStream(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := k.reason(k.open(ctx)); errors.Is(err, ErrNoStore) || errors.Is(err, ErrStoreNotPermitted) {
		return nil, err
	} else if err != nil {
		k.log.Warn("the store cannot be reached yet", slog.Any("error", err))
	}
	return k, nil
}

func newInJetStream(cfg JetStreamConfig) (*inJetStream, error) {
	if cfg.System == "" {
		return nil, errors.New("service: a system name is required")
	}
	k := &inJetStream{
		cfg: cfg, log: cfg.Logger, id: nuid.Next(), token: token(cfg.System), turn: make(chan agent.Turn),
		conflicts: make(chan struct{}, 1), wake: make(chan struct{}, 1), lanes: map[string]*lane{},
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	k.cfg.Lease = cmp.Or(k.cfg.Lease, DefaultLease)
	if k.cfg.Step == nil {
		k.cfg.Step = func(string) {}
	}
	var err error
	if cfg.APIPrefix != "" {
		k.js, err = jetstream.NewWithAPIPrefix(cfg.Conn, cfg.APIPrefix)
	} else {
		k.js, err = jetstream.New(cfg.Conn)
	}
	if err != nil {
		return nil, fmt.Errorf("service: store: %w", err)
	}
	next := cfg.Conn.ErrorHandler()
	cfg.Conn.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		k.noteRefusal(err)
		if next != nil {
			next(nc, sub, err)
		}
	})
	return k, nil
}

// noteRefusal remembers that the server refused a request to the store. The
// request itself only times out.
func (k *inJetStream) noteRefusal(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	_, subject, found := strings.Cut(err.Error(), `for Publish to "`)
	subject, _, _ = strings.Cut(subject, `"`)
	if !found || !slices.ContainsFunc([]string{StoreAPI + ".", "$JS.API.", "$KV.", StorePrefix + "."}, func(p string) bool { return strings.HasPrefix(subject, p) }) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = refusedSubject{subject, time.Now()}
}

// reason is why a request failed, where more is known than the request's own
// error tells.
func (k *inJetStream) reason(err error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case time.Since(k.refused.at) < 2*keepTime && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout)):
		return fmt.Errorf("publishing to %s is refused: %w", k.refused.subject, ErrStoreNotPermitted)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("%w: JetStream is down, or the account is not set up as `natsentry setup` prints it", err)
	}
	return err
}

// open finds the stream and the bucket, once.
func (k *inJetStream) open(ctx context.Context) error {
	if k.kv != nil && k.stream != nil {
		return nil
	}
	kv, err := k.js.KeyValue(ctx, StoreBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return fmt.Errorf("no bucket %s: %w", StoreBucket, ErrNoStore)
	} else if err != nil {
		return fmt.Errorf("bucket %s: %w", StoreBucket, err)
	}
	stream, err := k.js.Stream(ctx, StoreStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("no stream %s: %w", StoreStream, ErrNoStore)
	} else if err != nil {
		return fmt.Errorf("stream %s: %w", StoreStream, err)
	}
	k.kv, k.stream = kv, stream
	return nil
}

func (k *inJetStream) bind(t teller) { k.t = t }

func (k *inJetStream) turns() <-chan agent.Turn { return k.turn }

func (*inJetStream) close() error { return nil }

func (k *inJetStream) run(ctx context.Context) {
	k.ending = ctx.Done()
	var wg sync.WaitGroup
	// The lanes go on until the election has let them drain.
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	wg.Go(func() { k.pump(working) })
	k.elect(ctx)
	stop()
	wg.Wait()
}

// gain begins to lead: with what is kept, and with what was not finished.
func (k *inJetStream) gain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*storeTime)
	defer cancel()
	k.late.begin(k.leaseRevision)
	records, err := k.load(ctx)
	for ; errors.Is(err, errBehind) && ctx.Err() == nil; records, err = k.load(ctx) {
		time.Sleep(shortestTry)
	}
	if err != nil {
		return err
	}
	h, err := k.loadHistory(ctx)
	if err != nil {
		return err
	}
	lanes := make(map[string]*lane, len(records))
	entries := make([]finding.Entry, 0, len(records))
	now, waiting := time.Now(), 0
	for _, r := range records {
		l := &lane{stood: r.Entry.Stands(), revision: r.revision, last: r.Last}
		if r.Pending {
			l.waiting = []*parcel{{entry: r.Entry, at: now, step: 1}}
			waiting++
		}
		lanes[r.Entry.Finding.Fingerprint] = l
		entries = append(entries, r.Entry)
	}
	k.mu.Lock()
	k.term++
	k.leading, k.blind, k.lanes, k.waiting = true, false, lanes, waiting
	k.mu.Unlock()
	k.log.Info("this agent leads", slog.Int("kept", len(entries)), slog.Int("unfinished", waiting))
	k.t.remember(h)
	k.t.lead(true)
	k.send(ctx, agent.Turn{Lead: true, Book: entries})
	k.wakeUp()
	return nil
}

// leadBlind leads although the store cannot be reached: an auditor that waits
// for it would say nothing. What it tells may have been told before.
func (k *inJetStream) leadBlind(ctx context.Context) {
	k.mu.Lock()
	k.term++
	k.leading, k.blind = true, true
	k.mu.Unlock()
	k.log.Error("the store cannot be reached: leading without it; what was told before is told again, and kept when the store is back")
	k.t.lead(true)
	k.send(ctx, agent.Turn{Lead: true})
}

func (k *inJetStream) lose(ctx context.Context) {
	k.mu.Lock()
	was := k.leading
	k.term++
	k.leading, k.blind, k.lanes, k.waiting = false, false, map[string]*lane{}, 0
	k.mu.Unlock()
	if was {
		k.t.lead(false)
		k.send(ctx, agent.Turn{})
	}
}

// send gives the agent its turn. An agent that has ended takes none.
func (k *inJetStream) send(ctx context.Context, t agent.Turn) {
	// The turn has to be told however little time the request had that led to it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*storeTime)
	defer cancel()
	select {
	case k.turn <- t:
	case <-k.ending:
	case <-ctx.Done():
	}
}

func (k *inJetStream) isLeading() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.leading
}

func (k *inJetStream) isBlind() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.blind
}

// unreachable notes that the store does not answer, a lane or the election, and
// has told what waits for it.
func (k *inJetStream) unreachable(err error, lane bool) {
	err = k.reason(err)
	k.mu.Lock()
	k.blocked = k.blocked || lane
	first := k.trouble == nil
	k.trouble = err
	k.backoff = min(max(2*k.backoff, shortestTry), longestTry)
	k.retryAt = time.Now().Add(k.backoff)
	late := k.untold()
	k.mu.Unlock()
	if first {
		k.log.Error("the store cannot be reached; transitions wait", slog.Any("error", err))
	}
	for i := range late {
		k.t.tell(&late[i])
	}
}

// reached notes that the store answers, a lane or the election.
func (k *inJetStream) reached(lane bool) {
	k.mu.Lock()
	if k.blocked && !lane && k.waiting > 0 {
		k.mu.Unlock()
		return // the bucket answers; of the stream that is not known yet
	}
	was := k.trouble
	k.trouble, k.blocked, k.backoff = nil, false, 0
	waiting := k.waiting
	k.mu.Unlock()
	if was != nil {
		k.log.Info("the store is back", slog.Int("waiting", waiting))
		k.wakeUp()
	}
}

func (k *inJetStream) state() KeeperState {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := KeeperState{Kind: "jetstream", Reachable: k.trouble == nil, Waiting: k.waiting}
	if k.trouble != nil {
		s.Trouble = k.trouble.Error()
	}
	var since time.Time
	for _, l := range k.lanes {
		if len(l.waiting) > 0 && (since.IsZero() || l.waiting[0].at.Before(since)) {
			since = l.waiting[0].at
		}
	}
	s.Since = cmp.Or(since.UTC(), time.Time{})
	return s
}
