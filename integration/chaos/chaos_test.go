//go:build unix

package chaos

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// The short form is what `go test` runs; see .ci/run and Taskfile.yml for more.
var (
	faults = flag.Int("faults", 30, "how many faults are done to agents and servers")
	seed   = flag.Uint64("seed", 0, "of the faults; 0 takes one from the clock")
	keep   = flag.String("keep", "", "folder for the agents' logs; default: a temporary one")
)

const (
	system   = "chaos"
	password = "password-of-the-tests"
	interval = time.Second // of sweeps
	lease    = 400 * time.Millisecond
	victims  = 8
	// cutLong is the longest time without a network, in the long form.
	cutLong = 10 * time.Second
)

// store is a server of the cluster that keeps.
func store(peers ...string) string {
	var routes []string
	for _, p := range peers {
		routes = append(routes, fmt.Sprintf(`"nats-route://r:%s@{{addr %q "route"}}"`, password, p))
	}
	return fmt.Sprintf(`
jetstream { store_dir: "{{dir}}/jetstream" }
cluster { name: store, listen: "{{addr "route"}}", authorization { user: r, password: %[1]s, timeout: 10 }, routes: [ %[2]s ] }
leafnodes { listen: "{{addr "leafnode"}}", authorization { user: leaf, password: %[1]s, account: SYS } }
accounts {
  SYS { users: [ { user: sys, password: %[1]s } ], imports: [
    { service: { account: AUDIT, subject: "$JS.API.>" }, to: "audit.js.api.>" }
    { service: { account: AUDIT, subject: "$KV.NATSENTRY.>" }, to: "audit.js.api.$KV.NATSENTRY.>" }
    { service: { account: AUDIT, subject: "audit.store.>" } }
  ] }
  AUDIT { jetstream: enabled, users: [ { user: audit, password: %[1]s } ], exports: [
    { service: "$JS.API.>", response_type: stream, accounts: [ SYS ] }
    { service: "$KV.NATSENTRY.>", accounts: [ SYS ] }
    { service: "audit.store.>", accounts: [ SYS ] }
  ] }
}
system_account: SYS
`, password, strings.Join(routes, ", "))
}

// The two postures of a server to which things happen.
func victim(open bool) string {
	leaf := ""
	for i, s := range []string{"s1", "s2", "s3"} {
		if i > 0 {
			leaf += ", "
		}
		leaf += fmt.Sprintf(`"nats-leaf://leaf:%s@{{addr %q "leafnode"}}"`, password, s)
	}
	config := fmt.Sprintf("leafnodes { reconnect: 1, remotes: [ { urls: [ %s ], account: \"$SYS\" } ] }\n", leaf)
	if !open {
		config += "authorization { users: [ { user: app, password: " + password + " }, { user: other, password: " + password + " } ] }\n"
	}
	return config
}

// truth is what the doors really were, over time.
type truth struct {
	mu      sync.Mutex
	history map[string][]state // by server, oldest first
}

// state is how a door is from a moment on. A change is under way from began.
type state struct {
	open  bool
	began time.Time
	done  time.Time
}

// was tells whether a door was in a state at some moment of a span of time.
func (tr *truth) was(server string, open bool, from, to time.Time) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	list := tr.history[server]
	for i, s := range list {
		end := time.Now()
		if i+1 < len(list) {
			end = list[i+1].done
		}
		if s.open == open && !s.began.After(to) && !end.Before(from) {
			return true
		}
	}
	return false
}

func (tr *truth) now(server string) bool {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	list := tr.history[server]
	return list[len(list)-1].open
}

// rig is everything that a run works on.
type rig struct {
	t      *testing.T
	fleet  *fleet.Fleet
	rng    *rand.Rand
	truth  *truth
	js     jetstream.JetStream
	agents []*child
	cuts   []*proxy
	counts map[string]int
}

func TestChaos(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", *seed)
	r := newRig(t)
	ctx, stop := context.WithCancel(t.Context())
	changes := make(chan int, 1)
	go func() { changes <- r.change(ctx) }()
	for i := range *faults {
		r.fault(i)
	}
	stop()
	n := <-changes
	r.settle()
	transitions := r.stream()
	r.replay(transitions)
	runs := 0
	for _, a := range r.agents {
		a.mu.Lock()
		runs += a.runs
		a.mu.Unlock()
	}
	t.Logf("%d faults (%v), %d changes of posture, %d runs of agents, %d transitions in the stream", *faults, r.counts, n, runs, len(transitions))
}

func newRig(t *testing.T) *rig {
	t.Helper()
	server, err := fleet.Binary(t.Context(), fleet.Linked)
	if err != nil {
		t.Fatal(err)
	}
	specs := []fleet.Spec{
		{Name: "s1", Binary: server, Config: store("s2", "s3")}, {Name: "s2", Binary: server, Config: store("s1", "s3")}, {Name: "s3", Binary: server, Config: store("s1", "s2")},
	}
	tr := &truth{history: map[string][]state{}}
	for i := range victims {
		name := fmt.Sprintf("v%d", i)
		specs = append(specs, fleet.Spec{Name: name, Config: victim(false)})
		tr.history[name] = []state{{}}
	}
	if specs, err = fleet.Apart(t.Context(), specs...); err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Start(t.Context(), specs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.WaitActive(t.Context(), f.Server("s1").URL(), len(specs), nats.UserInfo("sys", password)); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, fleet: f, rng: rand.New(rand.NewPCG(*seed, 1)), truth: tr, counts: map[string]int{}}
	r.makeStore()
	dir := *keep
	if dir == "" {
		dir = t.TempDir()
	}
	var targets []string
	for _, s := range []string{"s1", "s2", "s3"} {
		targets = append(targets, f.Server(s).Addr("client"))
	}
	for _, name := range []string{"a", "b", "c"} {
		p := startProxy(t, targets...)
		r.cuts = append(r.cuts, p)
		r.agents = append(r.agents, startChild(t, name, p.url(), filepath.Join(dir, "agent-"+name+".log")))
	}
	return r
}

// makeStore makes the stream and the bucket, on all three servers.
func (r *rig) makeStore() {
	r.t.Helper()
	var urls []string
	for _, s := range []string{"s1", "s2", "s3"} {
		urls = append(urls, r.fleet.Server(s).URL())
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.UserInfo("audit", password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(nc.Close)
	if r.js, err = jetstream.New(nc); err != nil {
		r.t.Fatal(err)
	}
	r.eventually("the store is made", 60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		defer cancel()
		if _, err := r.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: service.StoreStream, Subjects: []string{service.StorePrefix + ".>"}, Replicas: 3, AllowDirect: true}); err != nil {
			return err
		}
		_, err := r.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: service.StoreBucket, Replicas: 3})
		return err
	})
}

func (r *rig) eventually(what string, limit time.Duration, try func() error) {
	r.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not in %s: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// change opens and closes doors until the context ends, and counts.
func (r *rig) change(ctx context.Context) int {
	rng := rand.New(rand.NewPCG(*seed, 2))
	for n := 0; ; n++ {
		select {
		case <-time.After(time.Duration(rng.IntN(200)) * time.Millisecond):
		case <-ctx.Done():
			return n
		}
		name := fmt.Sprintf("v%d", rng.IntN(victims))
		open := !r.truth.now(name)
		began := time.Now()
		if err := r.fleet.Server(name).Reload(context.WithoutCancel(ctx), victim(open)); err != nil {
			r.t.Error(err)
			return n
		}
		r.truth.mu.Lock()
		r.truth.history[name] = append(r.truth.history[name], state{open: open, began: began, done: time.Now()})
		r.truth.mu.Unlock()
	}
}

// fault does one thing to an agent or a server.
func (r *rig) fault(i int) {
	a := r.rng.IntN(len(r.agents))
	c := r.agents[a]
	pause := func(most int) { time.Sleep(time.Duration(r.rng.IntN(most)) * time.Millisecond) }
	switch n := r.rng.IntN(100); {
	case n < 30:
		r.counts["crash at a step"]++
		steps := []string{"record", "tell", "stream", "settle", "kept"}
		order := fmt.Sprintf("crash %s %d", steps[r.rng.IntN(len(steps))], 1+r.rng.IntN(2))
		for _, c := range r.agents { // the one that leads will do it
			c.say("%s", order)
		}
		pause(500)
	case n < 40:
		r.counts["kill -9"]++
		c.signal(syscall.SIGKILL)
		pause(400)
	case n < 65:
		r.counts["stopped for a while"]++
		c.signal(syscall.SIGSTOP)
		pause(2500 >> r.rng.IntN(3)) // an agent that comes back soon has not forgotten much
		c.signal(syscall.SIGCONT)
	case n < 85:
		r.counts["network cut"]++
		r.cuts[a].setCut(true)
		if *faults >= 1000 && r.rng.IntN(10) == 0 {
			time.Sleep(cutLong)
		} else {
			pause(1500 >> r.rng.IntN(2))
		}
		r.cuts[a].setCut(false)
	case n < 92:
		r.counts["clock jump"]++
		c.say("clock %d", r.rng.IntN(7200)-3600)
		pause(200)
	default:
		r.counts["store server killed"]++
		s := r.fleet.Server(fmt.Sprintf("s%d", 1+i%3))
		if err := s.Kill(); err != nil {
			r.t.Error(err)
		}
		pause(1000)
		if err := s.Restart(r.t.Context()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// settle waits until what the stream says last is how things are.
func (r *rig) settle() {
	r.t.Helper()
	for _, a := range r.agents {
		a.say("clock 0")
	}
	r.eventually("the stream says how things are", 90*time.Second, func() error {
		last := map[string]finding.Action{}
		transitions, err := r.read()
		if err != nil {
			return err
		}
		for _, f := range transitions {
			last[f.Scope.Server] = f.Action
		}
		for i := range victims {
			name := fmt.Sprintf("v%d", i)
			a, told := last[name]
			if open := told && a != finding.Resolved; open != r.truth.now(name) || a == finding.Stale {
				return fmt.Errorf("%s is open: %v, and the stream says %q", name, r.truth.now(name), a)
			}
		}
		return nil
	})
}

// kept is a transition as the stream has it.
type kept struct {
	finding.Finding
	seq uint64
	at  time.Time // when the stream took it
}

func (r *rig) stream() (out []kept) {
	r.t.Helper()
	r.eventually("the stream is read", 60*time.Second, func() (err error) {
		out, err = r.read()
		return err
	})
	return out
}

// read lists the transitions of the victims' client doors, and of nothing else.
func (r *rig) read() ([]kept, error) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	cons, err := r.js.CreateConsumer(ctx, service.StoreStream, jetstream.ConsumerConfig{
		FilterSubject: service.StorePrefix + ".finding." + system + ".DOOR_001.>", AckPolicy: jetstream.AckNonePolicy, InactiveThreshold: 5 * time.Second,
	})
	if err != nil {
		return nil, err
	}
	var out []kept
	for left := cons.CachedInfo().NumPending; left > 0; {
		batch, err := cons.Fetch(int(min(left, 500)), jetstream.FetchContext(ctx))
		if err != nil {
			return nil, err
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return nil, err
			}
			k := kept{seq: meta.Sequence.Stream, at: meta.Timestamp}
			if err := json.Unmarshal(m.Data(), &k.Finding); err != nil {
				return nil, err
			}
			if id := m.Headers().Get(nats.MsgIdHdr); id != k.ID {
				return nil, fmt.Errorf("message %d is %s in its header, and %s in its body", k.seq, id, k.ID)
			}
			left = meta.NumPending
			if strings.HasPrefix(k.Scope.Server, "v") {
				out = append(out, k)
			}
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// span is when a transition was judged: by the first and by the last agent that
// came to it.
type span struct{ first, last time.Time }

func (r *rig) judged() map[string]span {
	r.t.Helper()
	out := map[string]span{}
	for _, a := range r.agents {
		err := a.judged(func(id string, at time.Time) {
			s, ok := out[id]
			if !ok || at.Before(s.first) {
				s.first = at
			}
			if at.After(s.last) {
				s.last = at
			}
			out[id] = s
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return out
}

// replay goes through the stream and holds it against the truth: what a
// transition says was so between the moment at which the one before was judged,
// and the one at which it was itself.
func (r *rig) replay(transitions []kept) {
	r.t.Helper()
	judged := r.judged()
	ids := map[string]uint64{}
	stands := map[string]bool{}
	before := map[string]time.Time{}
	for _, k := range transitions {
		if other, twice := ids[k.ID]; twice {
			r.t.Errorf("transition %s is there twice: %d and %d", k.ID, other, k.seq)
		}
		ids[k.ID] = k.seq
		server := k.Scope.Server
		when, ok := judged[k.ID]
		if !ok || k.at.Before(when.first) {
			r.t.Errorf("%d: no agent came to this transition of %s before it was told", k.seq, server)
		}
		from := before[server]
		switch k.Action {
		case finding.Opened:
			if stands[server] {
				r.t.Errorf("%d: %s opened while it stood", k.seq, server)
			}
			if !r.truth.was(server, true, from, when.last) {
				r.t.Errorf("%d: %s was told open and was not, from %s to %s", k.seq, server, from, when.last)
			}
			stands[server] = true
		case finding.Resolved:
			if !stands[server] {
				r.t.Errorf("%d: %s was resolved and did not stand", k.seq, server)
			}
			if !r.truth.was(server, false, from, when.last) {
				r.t.Errorf("%d: %s was told closed and was not, from %s to %s", k.seq, server, from, when.last)
			}
			stands[server] = false
		default:
			if !stands[server] {
				r.t.Errorf("%d: %s was %s and did not stand", k.seq, server, k.Action)
			}
			continue // nothing is said about how the door is
		}
		before[server] = when.first
	}
	if r.t.Failed() {
		for _, k := range transitions {
			r.t.Logf("%d %s %s %s", k.seq, k.at.Format("15:04:05.000"), k.Scope.Server, k.Action)
		}
		for _, a := range r.agents {
			if text, err := os.ReadFile(a.log.Name()); err == nil && *keep == "" {
				r.t.Logf("the end of the log of agent %s:\n%s", a.name, text[max(0, len(text)-4000):])
			}
		}
	}
}
