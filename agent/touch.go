package agent

import (
	"cmp"
	"context"
	"hash/fnv"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
)

// Probe says how doors are touched.
type Probe struct {
	MQTT     bool          // touch MQTT doors as well: where one is open, that creates streams in the account
	Off      bool          // touch nothing: verdicts then rest on the servers' word
	Every    time.Duration // between two touches of a door of which nothing changed; default 10 min, jittered by a tenth
	Parallel int           // servers touched at once, each at a few listeners; default 16
	Timeout  time.Duration // of one touch; default 4 s, longer where round trips are long
	Wait     time.Duration // how long a sweep of Run waits for touches; later ones bring the next sweep forward. Default 1 s
}

func (p Probe) withDefaults() Probe {
	p.Every = cmp.Or(p.Every, 10*time.Minute)
	p.Parallel = cmp.Or(p.Parallel, 16)
	p.Timeout = cmp.Or(p.Timeout, 4*time.Second)
	p.Wait = cmp.Or(p.Wait, time.Second)
	return p
}

// toucher decides when which door is touched, and remembers what came of it.
type toucher struct {
	cfg    Probe
	prober probe.Prober
	log    *slog.Logger
	now    func() time.Time
	slots  chan struct{}
	ready  chan struct{}                                          // has a token when touches have ended
	before func(server string)                                    // is told of every touch before it leaves traces
	whoWas func(context.Context, *posture.Touch) *posture.Landing // asks the server as whom it admitted a touch

	mu      sync.Mutex
	turn    uint64 // counts the turns: a touch that an earlier one began says nothing
	records map[touched]record
	current map[touched]standing
	visited map[string]visited // by address of the policy
	busy    map[string]bool    // ids of servers that are being touched
	ended   map[string]bool    // ids of servers at which touches have ended since they were taken
}

// touched names a door, or one path of it.
type touched struct {
	server string // id
	door   posture.DoorKind
	path   string
}

type record struct {
	of      occasion
	touch   posture.Touch
	tried   string // the addresses at which it was tried
	due     time.Time
	unknown int // touches in a row that have decided nothing
}

// againSoon is when a door is touched again of which a touch has decided nothing,
// and it doubles from time to time: what stood in the way may have been passing.
const againSoon = 15 * time.Second

// standing is the occasion on which a door is touched now, and since when.
type standing struct {
	occasion
	since time.Time
}

// occasion is what a touch holds for. When it changes, the door is touched
// again and what was found before says nothing.
type occasion struct {
	start, loaded time.Time
	mark          uint64
	version       string
	address       string // as VARZ gives it
	silent        bool   // a reload would not be heard, and what was found before is not known to hold
}

func newToucher(cfg Probe, now func() time.Time, log *slog.Logger) *toucher {
	cfg = cfg.withDefaults()
	return &toucher{
		cfg: cfg, log: log, prober: probe.Prober{Timeout: cfg.Timeout, Now: now, MQTT: cfg.MQTT},
		slots: make(chan struct{}, cfg.Parallel), ready: make(chan struct{}, 1), before: func(string) {},
		whoWas: func(context.Context, *posture.Touch) *posture.Landing { return nil },
		now:    now, records: map[touched]record{}, current: map[touched]standing{}, visited: map[string]visited{}, busy: map[string]bool{}, ended: map[string]bool{},
	}
}

// atOnce is how many listeners of one server are touched at once: one whose
// logins nobody decides must not hold up the others, and the server has other
// things to do.
const atOnce = 4

// longest bounds the touches of one listener, at all of its addresses, in
// time-outs of one touch.
const longest = 3

// job is the touches that are due at one server.
type job struct {
	turn    uint64
	server  string
	address string // of the policy; then there are no targets
	targets []due
}

type due struct {
	key       touched
	of        occasion
	target    probe.Target
	addresses []posture.Address
	nowhere   string // why there are none
}

// tried names the addresses at which a door is tried.
func (d *due) tried() string {
	var b strings.Builder
	for _, a := range d.addresses {
		b.WriteString(a.HostPort + " ")
	}
	return b.String()
}

// begin begins a turn. What was found before may have changed unseen: in operator
// mode, and where a service decides, no configuration tells of it.
func (t *toucher) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn++
	clear(t.records)
	clear(t.visited)
}

// plan lists what is due at servers, and marks them as being touched.
func (t *toucher) plan(servers []*posture.Server, now time.Time) []job {
	t.mu.Lock()
	defer t.mu.Unlock()
	var jobs []job
	for _, s := range servers {
		if !touchable(s) || t.busy[s.ID] {
			continue
		}
		j := job{turn: t.turn, server: s.ID}
		for _, d := range t.targets(s) {
			if r, ok := t.records[d.key]; !ok || r.of != d.of || !now.Before(r.due) || r.touch.Access == posture.Unknown && r.tried != d.tried() {
				j.targets = append(j.targets, d)
			}
		}
		if len(j.targets) > 0 {
			t.busy[s.ID] = true
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// forget drops what was found at servers that are no more.
func (t *toucher) forget(snap *posture.Snapshot) {
	here := make(map[string]bool, len(snap.Servers))
	for _, s := range snap.Servers {
		here[s.ID] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.records, func(key touched, _ record) bool { return !here[key.server] })
	maps.DeleteFunc(t.current, func(key touched, _ standing) bool { return !here[key.server] })
}

// again makes the doors of a server due. What was found stands until then.
func (t *toucher) again(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, r := range t.records {
		if key.server == server {
			r.due = time.Time{}
			t.records[key] = r
		}
	}
}

// againAll makes all doors due.
func (t *toucher) againAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, r := range t.records {
		r.due = time.Time{}
		t.records[key] = r
	}
	for key, v := range t.visited {
		v.due = time.Time{}
		t.visited[key] = v
	}
}

// touchable reports whether the doors of a server are touched: one that answers
// has shown its configuration, one that is silent may be known by its peers only.
func touchable(s *posture.Server) bool {
	return s.ID != "" && (s.Heard.Has(posture.Varz) || s.State == posture.Silent)
}

// targets lists the doors of a server that can be touched, and notes on which
// occasion that is.
func (t *toucher) targets(s *posture.Server) []due {
	var out []due
	for i := range s.Doors {
		d := &s.Doors[i]
		if d.On == posture.No || d.Kind == posture.Profile || d.Kind == posture.MQTT && !t.cfg.MQTT {
			continue
		}
		addresses, nowhere := s.Addresses(d)
		if d.On == posture.Unseen && len(addresses) == 0 {
			continue
		}
		of := occasion{s.Start, s.ConfigLoaded, s.ConfigMark, s.Version, d.Bound(), !s.Heard.Has(posture.Varz)}
		for _, path := range paths(s, d) {
			key := touched{s.ID, d.Kind, path}
			if is, ok := t.current[key]; !ok || is.occasion != of {
				t.current[key] = standing{of, t.now()}
			}
			out = append(out, due{
				key: key, of: of, addresses: addresses, nowhere: nowhere,
				target: probe.Target{Door: d.Kind, ServerID: s.ID, Path: path, TLS: d.TLS.On},
			})
		}
	}
	return out
}

func paths(s *posture.Server, d *posture.Door) []string {
	switch d.Kind {
	case posture.Websocket:
		if leaf := s.Door(posture.Leafnode); leaf != nil && leaf.On == posture.Yes {
			return []string{"", posture.LeafnodePath}
		}
	case posture.Monitor:
		return []string{d.Path}
	default:
	}
	return []string{""}
}

// start does the jobs beside each other, as far as the slots allow, and
// closes the returned channel when all are done.
func (t *toucher) start(ctx context.Context, jobs []job) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for _, j := range jobs {
			select {
			case t.slots <- struct{}{}:
			case <-ctx.Done():
				t.release(j.server)
				continue
			}
			wg.Go(func() {
				defer func() { <-t.slots }()
				defer t.release(j.server)
				if j.address != "" {
					t.visit(ctx, j.turn, j.address)
				}
				var listeners sync.WaitGroup
				var left atomic.Int64
				left.Store(int64(len(j.targets)))
				few := make(chan struct{}, atOnce)
				for _, d := range j.targets {
					few <- struct{}{}
					listeners.Go(func() {
						defer func() { <-few }()
						t.touch(ctx, j.turn, d)
						if left.Add(-1) > 0 {
							t.tell(j.server) // of the last one its release tells
						}
					})
				}
				listeners.Wait()
			})
		}
		wg.Wait()
	}()
	return done
}

func (t *toucher) release(server string) {
	t.mu.Lock()
	delete(t.busy, server)
	t.mu.Unlock()
	t.tell(server)
}

// tell says that there is something new of a server.
func (t *toucher) tell(server string) {
	t.mu.Lock()
	t.ended[server] = true
	t.mu.Unlock()
	select {
	case t.ready <- struct{}{}:
	default: // one is waiting already
	}
}

// takeEnded lists the servers at which touches have ended, and whether more of
// them are under way there.
func (t *toucher) takeEnded() map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	ended := t.ended
	t.ended = map[string]bool{}
	for id := range ended {
		ended[id] = t.busy[id]
	}
	return ended
}

// touch touches a door at the addresses under which it may be reached, until
// it has answered under the right id, and remembers what came of it.
func (t *toucher) touch(ctx context.Context, turn uint64, d due) {
	began := t.now()
	bounded, cancel := context.WithTimeout(ctx, longest*t.cfg.Timeout)
	defer cancel()
	out := t.try(bounded, turn, d)
	if ctx.Err() != nil {
		return // we were told to stop: that says nothing of the door
	}
	t.log.Debug("touched", slog.String("server", d.key.server), slog.String("door", d.key.door.String()), slog.String("path", d.key.path),
		slog.String("address", out.Address), slog.String("access", out.Access.String()), slog.Duration("took", out.Took), slog.Int("failed", len(out.Failed)))
	t.mu.Lock()
	defer t.mu.Unlock()
	last, known := t.records[d.key]
	if turn != t.turn || out.Access == posture.Unknown && known && last.settles(d, began) {
		return
	}
	r := record{of: d.of, touch: out, tried: d.tried()}
	wait := t.jittered(d.key)
	if out.Access == posture.Unknown {
		if last.of == d.of {
			r.unknown = last.unknown + 1
		}
		wait = min(wait, againSoon<<min(r.unknown, 10))
	}
	r.due = out.At.Add(wait)
	t.records[d.key] = r
}

// settles reports whether a door has been decided since, by a touch that was
// meant for another server.
func (r *record) settles(d due, began time.Time) bool {
	return r.of == d.of && r.touch.Access != posture.Unknown && !r.touch.At.Before(began)
}

// jittered spreads the touches of a fleet over time, each door at its own
// pace.
func (t *toucher) jittered(key touched) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key.server + key.door.String() + key.path)) // a hash does not fail
	tenth := t.cfg.Every / 10
	return t.cfg.Every - tenth/2 + time.Duration(int64(tenth)*int64(h.Sum32()%1000)/1000)
}

// attach gives a server what touches have found under the configuration that
// it runs now, and judges it anew.
func (t *toucher) attach(s *posture.Server) {
	for i := range s.Doors {
		s.Doors[i].Pending = false
	}
	if !touchable(s) {
		return // whether that configuration is still in force was not heard
	}
	t.mu.Lock()
	var found []posture.Touch
	for _, d := range t.targets(s) {
		if r, ok := t.records[d.key]; ok && r.of == d.of {
			found = append(found, r.touch)
		} else {
			s.Door(d.key.door).Pending = true
		}
	}
	t.mu.Unlock()
	s.Touches = slices.Clip(found)
	posture.Judge(s)
}
