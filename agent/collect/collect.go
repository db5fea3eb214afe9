package collect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/posture"
)

// Config is what a collector needs to know. The zero value of every field
// but System means its default.
type Config struct {
	System       string        // the name of the fleet, for the snapshot
	Timeout      time.Duration // how long a sweep waits for silent servers, and then once more for further answers of the others; default 2 s
	AskAgain     time.Duration // when a silent server is asked by its id; default an eighth of Timeout
	Linger       time.Duration // how long a sweep, or a look at accounts, listens on, at its end, for answers that dispute those that came; default 0: disputes count in the next one
	Window       int           // requests by id that may be under way at once; default 64
	PingUpTo     int           // fleets larger than this are asked by id after the first sweep; default 256
	SessionLimit int           // sessions of the global account looked at per server; default 1024
	Forget       time.Duration // a server that was silent for so long is forgotten; default 1 h
	// Once means that no look at accounts follows the first: it takes all
	// accounts that there are, as far as its time and bytes go.
	Once bool
	// Bounds of one look at the accounts of servers in operator mode: what
	// exceeds them is left to the next one.
	Accounts        int           // accounts; default 256, and Once as many as are known at most
	AccountRequests int           // requests; default 32 for each of those
	AccountBytes    int64         // bytes of answers; default 128 KiB for each of those, and Once 256 MiB
	AccountTime     time.Duration // default 20 ms for each of those, and at least 5 s; Once 30 s
	Settle          time.Duration // after which an account whose claims differ is looked at again; default 500 ms

	Topology int // sweeps after which routes, gateways and leafs are asked for even when nothing moved; default 20
	Now      func() time.Time
}

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	defInt := func(d *int, v int) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.Timeout, 2*time.Second)
	def(&c.AskAgain, c.Timeout/8)
	def(&c.Forget, time.Hour)
	defInt(&c.Window, 64)
	defInt(&c.PingUpTo, 256)
	defInt(&c.SessionLimit, 1024)
	defInt(&c.Topology, 20)
	if c.Once {
		defInt(&c.Accounts, maxAccounts)
		c.AccountBytes = cmp.Or(max(c.AccountBytes, 0), onceBytes)
		def(&c.AccountTime, onceTime)
	}
	defInt(&c.Accounts, 256)
	defInt(&c.AccountRequests, 32*c.Accounts)
	if c.AccountBytes <= 0 {
		c.AccountBytes = 128 << 10 * int64(c.Accounts)
	}
	def(&c.AccountTime, max(5*time.Second, 20*time.Millisecond*time.Duration(c.Accounts)))
	def(&c.Settle, 500*time.Millisecond)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Collector asks the servers of one system account. Sweeps do not overlap, and
// neither do looks at servers; looks may be taken while a sweep is under way.
type Collector struct {
	cfg      Config
	nc       *nats.Conn
	inbox    string
	askAgain time.Duration
	window   int
	seed     maphash.Seed
	inboxes  []*replyInbox
	roster   *roster
	watch    *watch
	ears     *ears

	unplaced atomic.Bool

	mu       sync.Mutex
	gathers  map[string]*gather
	askings  map[string]*asking
	disputed map[string]bool // ids of servers in whose name a late answer said something else
	doubted  map[claimOf]bool

	// what the last sweep left behind; it belongs to sweeps alone
	topology map[string]uint64          // by server id: what its routes, gateways and leafs looked like
	since    int                        // sweeps since the topology was last asked for
	places   map[string][]place         // by server id: where it says that its peers are
	leafs    map[string][]leafInfo      // by server id: its leafnode connections
	hosts    map[string][]string        // by server id
	placing  map[string]int             // by server id: sweeps that found no address of it
	links    map[string]map[string]bool // by server id: the ids of those to which it is connected
}

// replyInbox takes the answers of one endpoint.
type replyInbox struct {
	endpoint string
	sub      *nats.Subscription
	dropped  int // answers that the client had dropped at the end of the last sweep
}

// New prepares a collector on a connection into the system account. The
// connection stays the caller's.
func New(nc *nats.Conn, cfg Config) (*Collector, error) {
	cfg = cfg.withDefaults()
	c := &Collector{
		cfg: cfg, nc: nc, inbox: nc.NewInbox(), askAgain: cfg.AskAgain, window: cfg.Window,
		seed: maphash.MakeSeed(), roster: newRoster(),
		gathers: map[string]*gather{}, askings: map[string]*asking{}, disputed: map[string]bool{}, doubted: map[claimOf]bool{}, topology: map[string]uint64{}, places: map[string][]place{}, leafs: map[string][]leafInfo{}, hosts: map[string][]string{}, placing: map[string]int{}, links: map[string]map[string]bool{},
		watch: newWatch(), ears: &ears{},
	}
	for i := range endpoints {
		e := &endpoints[i]
		sub, err := nc.Subscribe(c.inbox+"."+e.name+".>", func(m *nats.Msg) { c.receive(e, m) })
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("subscribe to the reply inbox: %w", err)
		}
		c.inboxes = append(c.inboxes, &replyInbox{endpoint: e.name, sub: sub})
	}
	sub, err := nc.Subscribe(c.inbox+"."+claimsInbox+".*", c.storeAnswered)
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("subscribe to the reply inbox: %w", err)
	}
	c.inboxes = append(c.inboxes, &replyInbox{endpoint: claimsInbox, sub: sub})
	if err := c.subscribeGoodbyes(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the collector's subscriptions.
func (c *Collector) Close() {
	// Unsubscribe fails only on a connection that is gone, and its
	// subscriptions with it.
	for _, in := range c.inboxes {
		_ = in.sub.Unsubscribe()
	}
	c.ears.close()
}

func (c *Collector) enroll(g *gather) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathers[g.nonce] = g
}

// end marks a gather as over. It stays enrolled until the next sweep: see
// afterwards.
func (c *Collector) end(g *gather) {
	close(g.done)
	for {
		select {
		case a := <-g.answers:
			c.afterwards(g, a)
		default:
			return
		}
	}
}

func (g *gather) over() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

// turnOver forgets the gathers that are over and returns the servers whose
// answers were disputed after them.
func (c *Collector) turnOver() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.gathers, func(_ string, g *gather) bool { return g.over() })
	disputed := c.disputed
	c.disputed = map[string]bool{}
	return disputed
}

// discard forgets a gather before the next sweep does.
func (c *Collector) discard(g *gather) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.gathers, g.nonce)
}

func (c *Collector) enrolled(nonce string) *gather {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.gathers[nonce]
}

// Options of one sweep.
type Options struct {
	Sessions bool // look at the sessions too; otherwise those of the last snapshot are carried over
}

// Sweep asks the whole fleet once and returns the snapshot that follows prev,
// which may be nil. It returns an error only when it learned nothing; an
// answer that did not come is a gap in the snapshot.
func (c *Collector) Sweep(ctx context.Context, prev *posture.Snapshot, opts Options) (*posture.Snapshot, error) {
	if !c.nc.IsConnected() {
		return nil, ErrDisconnected
	}
	began, reconnects := c.cfg.Now(), c.nc.Stats().Reconnects
	caller := ctx
	ctx, cancel := context.WithTimeout(caller, c.cfg.Timeout)
	defer cancel()

	s := &sweep{c: c, prev: prev, previous: map[string]*posture.Server{}, marks: map[string]uint64{}, began: began}
	if prev != nil {
		for _, srv := range prev.Servers {
			s.previous[srv.ID] = srv
		}
	}
	should, missed := c.roster.ids()
	s.main = c.newGather(c.firstInputs(prev, opts), should, 0)
	for _, id := range missed {
		s.main.missed[id] = true
	}
	s.main.peers = true
	for id := range c.turnOver() {
		s.main.forged[posture.Varz][id] = true
	}
	if err := s.main.run(ctx, len(s.main.known) > c.cfg.PingUpTo); err != nil {
		return nil, err
	}
	// Without a single STATSZ nobody knows who is there: whatever else came
	// would look like the whole fleet.
	if len(s.main.got[posture.Statsz]) == 0 {
		return nil, c.silence(ctx)
	}
	// Those who answered are asked further, and must not suffer from those for
	// whom the first questions waited until the end.
	further, stop := context.WithTimeout(caller, c.cfg.Timeout)
	defer stop()
	if err := s.followUp(further, opts); err != nil {
		return nil, err
	}
	if c.cfg.Linger > 0 {
		select {
		case <-time.After(c.cfg.Linger):
		case <-caller.Done():
		}
		c.mu.Lock()
		for id := range c.disputed {
			s.main.forged[posture.Varz][id] = true
		}
		c.mu.Unlock()
	}
	// A sweep that was cut short would call servers silent that were not
	// listened to.
	if err := caller.Err(); err != nil {
		return nil, err
	}
	if !c.nc.IsConnected() || c.nc.Stats().Reconnects != reconnects {
		return nil, ErrDisconnected
	}
	s.learnPlaces()
	s.place()
	s.learnLinks()
	snap := s.assemble()
	snap.Took = c.cfg.Now().Sub(began)
	c.watch.follow(s.main)
	return snap, nil
}

// firstInputs: what need not be repeated each sweep is left out.
func (c *Collector) firstInputs(prev *posture.Snapshot, opts Options) posture.Input {
	in := posture.Statsz | posture.Varz
	if opts.Sessions {
		in |= posture.AccountStatz
	}
	if c.since++; prev == nil || c.since >= c.cfg.Topology {
		c.since = 0
		in |= topologyInputs
	}
	if prev == nil {
		in |= posture.Accountz
	}
	return in
}

const topologyInputs = posture.Routez | posture.Gatewayz | posture.Leafz

// silence says why nobody answered.
func (c *Collector) silence(ctx context.Context) error {
	if err := c.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w: %w", ErrNotPermitted, err)
	}
	if !c.nc.IsConnected() {
		return ErrDisconnected
	}
	if err := ctx.Err(); errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("%w (%s)", ErrNoAnswer, c.cfg.Timeout)
}

// sweep is the work of one Sweep.
type sweep struct {
	c        *Collector
	prev     *posture.Snapshot
	previous map[string]*posture.Server // the servers of prev, by id
	began    time.Time
	ended    time.Time         // when the last answer was in
	marks    map[string]uint64 // by server id: what its routes, gateways and leafs look like now
	book     *addressBook
	main     *gather
	topo     *gather // routes, gateways and leafs, where they were asked for
	accounts *gather // accounts, where they were asked for
	conns    *gather // sessions of the servers that have any
}

// followUp asks for what the first answers call for: the topology when it
// moved, the sessions where there are any.
func (s *sweep) followUp(ctx context.Context, opts Options) error {
	switch moved := s.topologyMoved(); {
	case s.main.wanted.Has(topologyInputs):
		s.topo = s.main
	case len(moved) > 0:
		// A ping is cheaper than many requests by id, as long as the fleet
		// is one that is pinged at all.
		byID := 2*len(moved) <= len(s.main.who) || len(s.main.who) > s.c.cfg.PingUpTo
		if !byID {
			moved = slices.Sorted(maps.Keys(s.main.who))
		}
		s.topo = s.c.newGather(topologyInputs, moved, len(moved))
		if err := s.topo.run(ctx, byID); err != nil {
			return err
		}
		if err := s.askNewcomers(ctx); err != nil {
			return err
		}
	}
	if s.main.wanted.Has(posture.Accountz) {
		s.accounts = s.main
	} else if ids := s.accountsUnknown(); len(ids) > 0 {
		s.accounts = s.c.newGather(posture.Accountz, ids, len(ids))
		if err := s.accounts.run(ctx, true); err != nil {
			return err
		}
	}
	ids := s.reloaded()
	if opts.Sessions {
		ids = s.withSessions()
	}
	if len(ids) > 0 {
		s.conns = s.c.newGather(posture.Connz, ids, len(ids))
		s.conns.payloads[posture.Connz] = s.c.sessionsPayload()
		return s.conns.run(ctx, true)
	}
	return nil
}

// askNewcomers asks the servers that only their peers have told of so far. The
// first questions did not wait for a server that has just come: it is counted by
// the others where one that has just gone was.
func (s *sweep) askNewcomers(ctx context.Context) error {
	fresh := map[string]bool{}
	for _, got := range s.topo.got {
		for _, b := range got {
			for _, id := range peersOf(b) {
				_, heard := s.main.who[id]
				if !heard && !s.main.known[id] && !s.main.missed[id] && len(fresh) < maxServers {
					fresh[id] = true
				}
			}
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	late := s.c.newGather(posture.Statsz|posture.Varz|topologyInputs, slices.Sorted(maps.Keys(fresh)), len(fresh))
	if err := late.run(ctx, true); err != nil {
		return err
	}
	s.main.adopt(late)
	s.topo.adopt(late)
	s.main.gaps = append(s.main.gaps, late.gaps...)
	s.main.cost.Requests += late.cost.Requests
	s.main.cost.Replies += late.cost.Replies
	s.main.cost.Bytes += late.cost.Bytes
	return nil
}

// accountsUnknown lists the servers whose accounts were not asked for since
// they loaded their configuration.
func (s *sweep) accountsUnknown() []string {
	var ids []string
	for id := range s.main.who {
		v := body[varz](s.main, posture.Varz, id)
		prev := s.previous[id]
		if v != nil && (prev == nil || !prev.Heard.Has(posture.Accountz) || !prev.ConfigLoaded.Equal(v.ConfigLoadTime)) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// topologyMoved lists the servers whose routes, gateways or leafs are not
// what they were.
func (s *sweep) topologyMoved() []string {
	var moved []string
	for id := range s.main.who {
		s.marks[id] = s.c.topologyMark(body[statsz](s.main, posture.Statsz, id), body[varz](s.main, posture.Varz, id))
		if mark, ok := s.c.topology[id]; !ok || mark != s.marks[id] {
			moved = append(moved, id)
		}
	}
	// Who sees a server that has just come is not known before all are asked.
	if len(s.unplaced()) > 0 {
		moved = slices.Collect(maps.Keys(s.main.who))
	}
	slices.Sort(moved)
	return moved
}

// topologyMark changes when a server's connections to others do. Servers list
// those in no order, so the parts are summed.
func (c *Collector) topologyMark(st *statsz, v *varz) uint64 {
	var mark uint64
	if st != nil {
		for _, r := range st.Routes {
			mark += maphash.Comparable(c.seed, r)
		}
		for _, g := range st.Gateways {
			mark += maphash.Comparable(c.seed, g)
		}
		mark += maphash.Comparable(c.seed, st.ActiveServers)
	}
	if v != nil {
		mark += maphash.Comparable(c.seed, v.Leafs)
	}
	return mark
}

// reloaded lists the servers whose sessions are of another configuration than
// the one in force: what was seen then says nothing about now.
func (s *sweep) reloaded() []string {
	var ids []string
	for id := range s.main.who {
		prev := s.previous[id]
		v := body[varz](s.main, posture.Varz, id)
		if prev != nil && v != nil && prev.Heard.Has(posture.Connz) && !prev.ConfigLoaded.Equal(v.ConfigLoadTime) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// withSessions lists the servers that have connections in the global
// account, and those that did not say.
func (s *sweep) withSessions() []string {
	var ids []string
	for id := range s.main.who {
		st := body[accountStatz](s.main, posture.AccountStatz, id)
		if st == nil || globalConns(st) > 0 {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func globalConns(st *accountStatz) int {
	n := 0
	for _, a := range st.Accounts {
		if a.Account == posture.GlobalAccount {
			n += a.Conns + a.LeafNodes
		}
	}
	return n
}
