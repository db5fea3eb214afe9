package agent

import (
	"cmp"
	"context"
	"hash/fnv"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
)

// Probe says how doors are touched.
type Probe struct {
	MQTT     bool          // touch MQTT doors as well: where one is open, that creates streams in the account
	Off      bool          // touch nothing: verdicts then rest on the servers' word
	Every    time.Duration // between two touches of a door of which nothing changed; default 10 min, jittered by a tenth
	Parallel int           // servers touched at once, never two touches at one server; default 16
	Timeout  time.Duration // of one touch; default 4 s
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
	slots  chan struct{}

	mu      sync.Mutex
	records map[touched]record
	busy    map[string]bool // ids of servers that are being touched
}

// touched names a door, or one path of it.
type touched struct {
	server string // id
	door   posture.DoorKind
	path   string
}

type record struct {
	of    occasion
	touch posture.Touch
	due   time.Time
}

// occasion is what a touch holds for. When it changes, the door is touched
// again and what was found before says nothing.
type occasion struct {
	start, loaded time.Time
	mark          uint64
	version       string
	addresses     string
}

func newToucher(cfg Probe, now func() time.Time, log *slog.Logger) *toucher {
	cfg = cfg.withDefaults()
	return &toucher{
		cfg: cfg, log: log, prober: probe.Prober{Timeout: cfg.Timeout, Now: now, MQTT: cfg.MQTT},
		slots:   make(chan struct{}, cfg.Parallel),
		records: map[touched]record{}, busy: map[string]bool{},
	}
}

// job is the touches that are due at one server, one after the other.
type job struct {
	server  string
	targets []due
}

type due struct {
	key       touched
	of        occasion
	target    probe.Target
	addresses []string
}

// plan lists what is due, and marks the servers as being touched.
func (t *toucher) plan(snap *posture.Snapshot, now time.Time) []job {
	t.mu.Lock()
	defer t.mu.Unlock()
	here := make(map[string]bool, len(snap.Servers))
	var jobs []job
	for _, s := range snap.Servers {
		here[s.ID] = true
		if s.ID == "" || !s.Heard.Has(posture.Varz) || t.busy[s.ID] {
			continue
		}
		j := job{server: s.ID}
		for _, d := range t.targets(s) {
			if r, ok := t.records[d.key]; !ok || r.of != d.of || !now.Before(r.due) {
				j.targets = append(j.targets, d)
			}
		}
		if len(j.targets) > 0 {
			t.busy[s.ID] = true
			jobs = append(jobs, j)
		}
	}
	for key := range t.records {
		if !here[key.server] {
			delete(t.records, key)
		}
	}
	return jobs
}

// targets lists the doors of a server that can be touched.
func (t *toucher) targets(s *posture.Server) []due {
	var out []due
	for i := range s.Doors {
		d := &s.Doors[i]
		if d.On != posture.Yes || d.Kind == posture.Profile || d.Kind == posture.MQTT && !t.cfg.MQTT {
			continue
		}
		addresses, _ := s.Dialable(d)
		of := occasion{s.Start, s.ConfigLoaded, s.ConfigMark, s.Version, strings.Join(addresses, " ")}
		for _, path := range paths(s, d) {
			out = append(out, due{
				key: touched{s.ID, d.Kind, path}, of: of, addresses: addresses,
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
				for _, d := range j.targets {
					t.touch(ctx, d)
				}
			})
		}
		wg.Wait()
	}()
	return done
}

func (t *toucher) release(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, server)
}

func (t *toucher) touch(ctx context.Context, d due) {
	out := posture.Touch{Door: d.key.door, Path: d.key.path, Reason: "no address of it is known that could be reached from here"}
	for _, address := range d.addresses {
		d.target.Address = address
		if out = t.prober.Touch(ctx, d.target); out.Access != posture.Unknown {
			break
		}
	}
	if ctx.Err() != nil {
		return // we were told to stop: that says nothing of the door
	}
	t.log.Debug("touched", slog.String("server", d.key.server), slog.String("door", d.key.door.String()), slog.String("path", d.key.path),
		slog.String("address", out.Address), slog.String("access", out.Access.String()), slog.Duration("took", out.Took))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.records[d.key] = record{of: d.of, touch: out, due: out.At.Add(t.jittered(d.key))}
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
	if !s.Heard.Has(posture.Varz) {
		return // whether that configuration is still in force was not heard
	}
	t.mu.Lock()
	var found []posture.Touch
	for _, d := range t.targets(s) {
		if r, ok := t.records[d.key]; ok && r.of == d.of {
			found = append(found, r.touch)
		}
	}
	t.mu.Unlock()
	s.Touches = slices.Clip(found)
	posture.Judge(s)
}
