//go:build !windows

package integration

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// storeAccounts are the accounts of a fleet that keeps in JetStream.
const storeAccounts = `
accounts {
  SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ], imports: [
    { service: { account: AUDIT, subject: "$JS.API.>" }, to: "audit.js.api.>" }
    { service: { account: AUDIT, subject: "$KV.NATSENTRY.>" }, to: "audit.js.api.$KV.NATSENTRY.>" }
    { service: { account: AUDIT, subject: "audit.store.>" } }
  ] }
  AUDIT { jetstream: enabled, users: [ { user: audit, password: audit-password } ], exports: [
    { service: "$JS.API.>", response_type: stream, accounts: [ SYS ] }
    { service: "$KV.NATSENTRY.>", accounts: [ SYS ] }
    { service: "audit.store.>", accounts: [ SYS ] }
  ] }
}
system_account: SYS
`

// storeSpecs are a server that has the store, n2, and two leafnodes of it: n1,
// which agents connect to, and n3, on which doors open and close.
func storeSpecs(t testing.TB) []fleet.Spec {
	return []fleet.Spec{
		{Name: "n2", Binary: binary(t, fleet.Linked), Config: storeAccounts + `jetstream { store_dir: "{{dir}}/jetstream" }
leafnodes { listen: "{{addr "leafnode"}}", authorization { user: leaf-sys, password: leaf-password, account: SYS } }
`},
		{Name: "n1", Config: sysAccount + appUsersOf + leafOfStore},
		{Name: "n3", Config: doorOpen(false)},
	}
}

const leafOfStore = `leafnodes { reconnect: 1, remotes: [ { url: "nats-leaf://leaf-sys:leaf-password@{{addr "n2" "leafnode"}}", account: "$SYS" } ] }
`

// doorOpen is the configuration of n3, whose client port asks for credentials,
// or does not.
func doorOpen(open bool) string {
	if open {
		return leafOfStore
	}
	return leafOfStore + appUsersOf
}

// makeStore makes the stream and the bucket.
func makeStore(t testing.TB, s *fleet.Server) natsjs.JetStream {
	t.Helper()
	nc := connect(t, s.URL(), nats.UserInfo("audit", "audit-password"), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the store is made", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := js.CreateOrUpdateStream(ctx, natsjs.StreamConfig{Name: service.StoreStream, Subjects: []string{service.StorePrefix + ".>"}, AllowDirect: true})
		if err == nil {
			_, err = js.CreateOrUpdateKeyValue(ctx, natsjs.KeyValueConfig{Bucket: service.StoreBucket})
		}
		return err == nil
	})
	return js
}

// keeping is an agent with a service that keeps, in this process.
type keeping struct {
	nc  *nats.Conn
	a   *agent.Agent
	end func()
}

func startKeeping(t *testing.T, nc *nats.Conn, keeper service.Keeper) *keeping {
	t.Helper()
	svc, err := service.New(nc, service.Config{System: "test", Keeper: keeper, Interval: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	opts := []agent.Option{agent.WithSink(svc)}
	if turns := svc.Turns(); turns != nil {
		opts = append(opts, agent.WithTurns(turns))
	}
	a, err := agent.New(nc, agent.Config{
		System: "test", Interval: time.Second, WatchInterval: 50 * time.Millisecond, Policy: policy,
		Rules: finding.Rules{Apart: 50 * time.Millisecond, FlapCount: math.MaxInt},
	}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	svc.Attach(a)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := a.Run(ctx); err != nil && !nc.IsClosed() {
			t.Error(err)
		}
	}()
	k := &keeping{nc: nc, a: a}
	k.end = func() {
		cancel()
		<-ended
		if err := svc.Stop(); err != nil && !nc.IsClosed() {
			t.Error(err)
		}
	}
	return k
}

func (k *keeping) leads() bool { return k.a.Leading() && k.a.State() != nil }

// keepIn makes a keeper in JetStream with a short lease.
func keepIn(t *testing.T, nc *nats.Conn, step func(string)) service.Keeper {
	t.Helper()
	k, err := service.InJetStream(t.Context(), service.JetStreamConfig{
		Conn: nc, APIPrefix: service.StoreAPI, System: "test", Lease: 400 * time.Millisecond, Step: step,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// stored lists what the stream has of one check on a server.
func stored(t *testing.T, js natsjs.JetStream, checkID, server string) []finding.Finding {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	cons, err := js.CreateConsumer(ctx, service.StoreStream, natsjs.ConsumerConfig{
		FilterSubject: service.StorePrefix + ".finding.test." + checkID + ".*." + server + ".>", AckPolicy: natsjs.AckNonePolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	n := int(cons.CachedInfo().NumPending)
	if n == 0 {
		return nil
	}
	batch, err := cons.Fetch(n, natsjs.FetchContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	var out []finding.Finding
	for m := range batch.Messages() {
		var f finding.Finding
		if err := json.Unmarshal(m.Data(), &f); err != nil {
			t.Fatal(err)
		}
		out = append(out, f)
	}
	return out
}

func actionsOf(fs []finding.Finding) string {
	var out []string
	for _, f := range fs {
		out = append(out, string(f.Action))
	}
	return strings.Join(out, " ")
}

// TestCrashAtEveryStep: an agent ends at each of the steps in which a
// transition is kept, and another one follows it. The stream has the
// transition once, and so does what comes after.
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"record", "tell", "stream", "settle", "kept"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			f := start(t, storeSpecs(t)...)
			waitActive(t, f, f.Server("n1"), 3)
			js := makeStore(t, f.Server("n2"))
			armed, crashed := make(chan struct{}), make(chan struct{})
			gone := make(chan struct{})
			t.Cleanup(func() { close(gone) })
			nc := connectSys(t, f.Server("n1"))
			first := startKeeping(t, nc, keepIn(t, nc, func(name string) {
				select {
				case <-armed:
				default:
					return
				}
				if name == step {
					nc.Close() // and nothing it does counts any more
					select {
					case <-crashed:
					default:
						close(crashed)
					}
					<-gone
				}
			}))
			eventually(t, "the first agent leads", first.leads)
			eventually(t, "what it finds at first is kept", func() bool { return len(stored(t, js, "FLEET_007", "_")) == 0 && first.a.State().Swept })
			other := connectSys(t, f.Server("n1"))
			second := startKeeping(t, other, keepIn(t, other, nil))
			defer second.end()
			close(armed)
			if err := f.Server("n3").Reload(t.Context(), doorOpen(true)); err != nil {
				t.Fatal(err)
			}
			select {
			case <-crashed:
			case <-time.After(10 * time.Second):
				t.Fatal("the first agent did not come to the step")
			}
			eventually(t, "the second agent leads", second.leads)
			eventually(t, "the transition is kept", func() bool { return actionsOf(stored(t, js, "DOOR_001", "n3")) == "opened" })
			if err := f.Server("n3").Reload(t.Context(), doorOpen(false)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the next one is kept", func() bool { return strings.HasSuffix(actionsOf(stored(t, js, "DOOR_001", "n3")), "resolved") })
			time.Sleep(300 * time.Millisecond) // whatever comes twice would come now
			all := stored(t, js, "DOOR_001", "n3")
			if got := actionsOf(all); got != "opened resolved" && got != "opened updated resolved" {
				t.Errorf("the stream has %s", got)
			}
			if all[0].FirstSeen != all[len(all)-1].FirstSeen {
				t.Errorf("the second agent did not go on where the first ended: first seen %s and %s", all[0].FirstSeen, all[len(all)-1].FirstSeen)
			}
		})
	}
}

// heldUp is two agents on a store, or one. The first has seen n3's door open, and is
// held up before a step; the door is shut again, and the second leads, or the first
// does in another turn.
func heldUp(t *testing.T, step string, alone bool) (js natsjs.JetStream, release func()) {
	t.Helper()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	js = makeStore(t, f.Server("n2"))
	var armed atomic.Bool
	held, goOn := make(chan struct{}, 100), make(chan struct{})
	nc := connectSys(t, f.Server("n1"))
	first := startKeeping(t, nc, keepIn(t, nc, func(name string) {
		if armed.Load() && name == step {
			held <- struct{}{}
			<-goOn
		}
	}))
	t.Cleanup(first.end)
	eventually(t, "the first agent leads", first.leads)
	next := first
	if !alone {
		other := connectSys(t, f.Server("n1"))
		next = startKeeping(t, other, keepIn(t, other, nil))
		t.Cleanup(next.end)
	}
	release = sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)

	armed.Store(true)
	if err := f.Server("n3").Reload(t.Context(), doorOpen(true)); err != nil {
		t.Fatal(err)
	}
	<-held
	if err := f.Server("n3").Reload(t.Context(), doorOpen(false)); err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), service.StoreBucket)
	if err != nil {
		t.Fatal(err)
	}
	steal := func() {
		if first.a.Leading() {
			if _, err := kv.PutString(t.Context(), "test.lease", `{"holder":"nobody"}`); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	eventually(t, "the first agent has lost its turn", func() bool {
		steal()
		return !first.a.Leading()
	})
	armed.Store(!alone)
	eventually(t, "the next turn begins", func() bool {
		if !alone {
			steal()
		}
		return next.leads()
	})
	// What else it finds is of the user who makes the store. Otherwise that record
	// would be what the two of them collide at.
	eventually(t, "who leads keeps what it finds", func() bool {
		keys, err := kv.ListKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for range keys.Keys() {
			n++
		}
		return n > 1 // beside the lease
	})
	return js, release
}

// TestLateRecord: an agent writes a record when another one leads, or it itself in
// another turn, which knows nothing of it.
func TestLateRecord(t *testing.T) {
	t.Parallel()
	t.Run("another agent leads", func(t *testing.T) { t.Parallel(); lateRecord(t, false) })
	t.Run("it leads again", func(t *testing.T) { t.Parallel(); lateRecord(t, true) })
}

func lateRecord(t *testing.T, alone bool) {
	t.Helper()
	for range 5 {
		js, release := heldUp(t, "record", alone)
		all := func() string { return actionsOf(stored(t, js, "DOOR_001", "n3")) }
		if got := all(); got != "" {
			t.Fatalf("the first agent was not held up: %s", got)
		}
		release()
		for deadline := time.Now().Add(2 * time.Second); all() == ""; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				break // held up for longer than it tries to write
			}
		}
		if all() != "" {
			eventually(t, "the late one is ended", func() bool { return all() == "opened resolved" })
			return
		}
	}
	t.Fatal("nothing came late")
}

// TestLateTransition: an agent adds a transition that another one has added and
// gone on from, so late that the stream has forgotten its id.
func TestLateTransition(t *testing.T) {
	t.Parallel()
	js, release := heldUp(t, "stream", false)
	const window = 200 * time.Millisecond
	stream, err := js.Stream(t.Context(), service.StoreStream)
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.Duplicates = window
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second agent finishes it and goes on", func() bool { return actionsOf(stored(t, js, "DOOR_001", "n3")) == "opened resolved" })
	time.Sleep(5 * window)
	release()
	time.Sleep(time.Second) // a third one would come now
	if got := actionsOf(stored(t, js, "DOOR_001", "n3")); got != "opened resolved" {
		t.Errorf("the stream has %s", got)
	}
}

// TestStoreGoesAndComes: transitions are told while the store is gone, wait for
// it, and are kept when it is back; the epoch says so.
func TestStoreGoesAndComes(t *testing.T) {
	t.Parallel()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	js := makeStore(t, f.Server("n2"))
	nc := connectSys(t, f.Server("n1"))
	epochs := make(chan *nats.Msg, 1000)
	told := make(chan *nats.Msg, 1000)
	watch := connectSys(t, f.Server("n1"))
	for subject, c := range map[string]chan *nats.Msg{"audit.auth.epoch": epochs, "audit.auth.finding.*.*.FLEET_005.>": told} {
		if _, err := watch.ChanSubscribe(subject, c); err != nil {
			t.Fatal(err)
		}
	}
	if err := watch.Flush(); err != nil {
		t.Fatal(err)
	}
	k := startKeeping(t, nc, keepIn(t, nc, nil))
	defer k.end()
	eventually(t, "the agent leads", k.leads)

	// With the store goes the server itself, which is something to tell.
	if err := f.Server("n2").Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(15 * time.Second):
		t.Fatal("nothing is told while the store is gone")
	}
	var e service.Epoch
	eventually(t, "the epoch says that transitions wait", func() bool {
		for len(epochs) > 0 {
			if err := json.Unmarshal((<-epochs).Data, &e); err != nil {
				t.Fatal(err)
			}
		}
		return !e.Keeper.Reachable && e.Keeper.Waiting > 0 && e.Keeper.Trouble != "" && !e.Keeper.Since.IsZero()
	})
	if err := f.Server("n2").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what waited is kept", func() bool {
		for len(epochs) > 0 {
			if err := json.Unmarshal((<-epochs).Data, &e); err != nil {
				t.Fatal(err)
			}
		}
		return e.Keeper.Reachable && e.Keeper.Waiting == 0
	})
	eventually(t, "the stream has both", func() bool { return actionsOf(stored(t, js, "FLEET_005", "n2")) == "opened resolved" })
}

// TestStartsWithoutItsStore: an auditor that waits for its store says nothing.
func TestStartsWithoutItsStore(t *testing.T) {
	t.Parallel()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	js := makeStore(t, f.Server("n2"))
	if err := f.Server("n2").Kill(); err != nil {
		t.Fatal(err)
	}
	nc := connectSys(t, f.Server("n1"))
	k := startKeeping(t, nc, keepIn(t, nc, nil))
	defer k.end()
	eventually(t, "it leads all the same", k.leads)
	if err := f.Server("n2").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := f.Server("n3").Reload(t.Context(), doorOpen(true)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what it finds is kept", func() bool { return actionsOf(stored(t, js, "DOOR_001", "n3")) == "opened" })
}

// TestStopsWhileNobodyTakesItsTurn: an agent that is stopped when it comes to lead
// takes no turn any more, and ends all the same.
func TestStopsWhileNobodyTakesItsTurn(t *testing.T) {
	t.Parallel()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	js := makeStore(t, f.Server("n2"))
	nc := connectSys(t, f.Server("n1"))
	svc := must(service.New(nc, service.Config{System: "test", Keeper: keepIn(t, nc, nil), Interval: time.Second}))
	kv := must(js.KeyValue(t.Context(), service.StoreBucket))
	eventually(t, "it has the lease", func() bool {
		_, err := kv.Get(t.Context(), "test.lease")
		return err == nil
	})
	stopped := make(chan error, 1)
	go func() { stopped <- svc.Stop() }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for somebody to take its turn")
	}
}

// TestStoreThatIsNotSetUp is an error at once, and says what to do.
func TestStoreThatIsNotSetUp(t *testing.T) {
	t.Parallel()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	nc := connectSys(t, f.Server("n1"))
	var err error
	eventually(t, "the store answers", func() bool {
		_, err = service.InJetStream(t.Context(), service.JetStreamConfig{Conn: nc, APIPrefix: service.StoreAPI, System: "test"})
		return err != nil
	})
	if !strings.Contains(err.Error(), "natsentry setup") {
		t.Errorf("got %v", err)
	}
}

// TestReplicas: both answer, with what the one that leads knows; when it goes,
// the other one tells the next transition soon.
func TestReplicas(t *testing.T) {
	t.Parallel()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	js := makeStore(t, f.Server("n2"))
	var both []*keeping
	for range 2 {
		nc := connectSys(t, f.Server("n1"))
		k := startKeeping(t, nc, keepIn(t, nc, nil))
		both = append(both, k)
	}
	eventually(t, "one leads", func() bool { return both[0].leads() != both[1].leads() })
	leader, other := both[0], both[1]
	if other.leads() {
		leader, other = other, leader
	}
	defer other.end()
	ask := connectSys(t, f.Server("n1"))
	if n := len(infos(t, ask)); n != 2 {
		t.Errorf("%d instances of the service, want 2", n)
	}
	// The queue group gives each of them some.
	for range 30 {
		for _, subject := range []string{"audit.auth.findings", "audit.auth.scan", "audit.auth.history"} {
			m, err := ask.Request(subject, nil, 5*time.Second)
			if err != nil || m.Header.Get("Nats-Service-Error") != "" {
				t.Fatalf("%s: %v %v", subject, err, m)
			}
		}
	}
	if m, err := ask.Request("audit.auth.findings", []byte(`{"serer":""}`), 5*time.Second); err != nil || m.Header.Get("Nats-Service-Error-Code") != "400" {
		t.Errorf("got %v %v, want 400", err, m)
	}
	if other.a.State() != nil {
		t.Error("the one that does not lead sweeps")
	}

	told := make(chan time.Time, 100)
	if _, err := ask.Subscribe("audit.auth.finding.opened.*.DOOR_001._.n3", func(*nats.Msg) { told <- time.Now() }); err != nil {
		t.Fatal(err)
	}
	if err := ask.Flush(); err != nil {
		t.Fatal(err)
	}
	leader.nc.Close() // as if it were killed
	began := time.Now()
	if err := f.Server("n3").Reload(t.Context(), doorOpen(true)); err != nil {
		t.Fatal(err)
	}
	select {
	case at := <-told:
		t.Logf("told %s after the other one was gone", at.Sub(began))
	case <-time.After(3 * time.Second):
		t.Error("nothing within 3 s")
	}
	eventually(t, "it is kept", func() bool { return actionsOf(stored(t, js, "DOOR_001", "n3")) == "opened" })
}

func infos(t *testing.T, nc *nats.Conn) []string {
	t.Helper()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.INFO.natsentry", inbox, nil); err != nil {
		t.Fatal(err)
	}
	var out []string
	for {
		m, err := sub.NextMsg(500 * time.Millisecond)
		if err != nil {
			return out
		}
		out = append(out, string(m.Data))
	}
}

// TestStateFile: an agent that is started again goes on where it ended, and
// tells what the one before may not have told.
func TestStateFile(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: sysAccount})
	path := filepath.Join(t.TempDir(), "state", "prod.json")
	rec := make(chan finding.Finding, 1000)
	watch := connectSys(t, f.Server("n1"))
	if _, err := watch.Subscribe("audit.auth.finding.>", func(m *nats.Msg) {
		var f finding.Finding
		if err := json.Unmarshal(m.Data, &f); err != nil {
			t.Error(err)
		}
		rec <- f
	}); err != nil {
		t.Fatal(err)
	}
	if err := watch.Flush(); err != nil {
		t.Fatal(err)
	}
	// run lets an agent run until it has told something, or just once.
	run := func(until finding.Action) (told []finding.Finding) {
		t.Helper()
		keeper, err := service.InFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := service.InFile(path); err == nil || !strings.Contains(err.Error(), "in use") {
			t.Errorf("a second agent may use the file: %v", err)
		}
		nc := connectSys(t, f.Server("n1"))
		k := startKeeping(t, nc, keeper)
		eventually(t, "it sweeps", k.leads)
		eventually(t, "it remembers what was told", func() bool {
			var h service.History
			m, err := nc.Request("audit.auth.history", nil, 5*time.Second)
			return err == nil && json.Unmarshal(m.Data, &h) == nil && len(h.Transitions) > 0
		})
		eventually(t, "it has told what it should", func() bool {
			for len(rec) > 0 {
				told = append(told, <-rec)
			}
			return until == "" || slices.Contains(actions(told, "DOOR_001", "n1"), until)
		})
		k.end()
		if err := watch.Flush(); err != nil {
			t.Fatal(err)
		}
		for len(rec) > 0 {
			told = append(told, <-rec)
		}
		return told
	}
	first := run(finding.Opened)
	if got := actions(first, "DOOR_001", "n1"); !cmp.Equal(got, []finding.Action{finding.Opened}) {
		t.Errorf("at first DOOR_001 was %v", got)
	}
	if again := run(""); len(again) != 0 {
		t.Errorf("what was told is told again: %v", again[0].Summary)
	}
	if err := f.Server("n1").Reload(t.Context(), sysAccount+"authorization {}\n"); err != nil {
		t.Fatal(err)
	}
	ended := run(finding.Resolved)
	for _, f := range ended {
		if f.Check == "DOOR_001" && !f.FirstSeen.Equal(first[0].FirstSeen) {
			t.Errorf("first seen %s, and then %s", first[0].FirstSeen, f.FirstSeen)
		}
	}

	// As after a crash between writing and telling: the marks are not there,
	// and the last line is cut off.
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %s", err, info.Mode())
	}
	mark := regexp.MustCompile(`,"told":"[0-9a-f]{32}"}`)
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, `{"entry":`) {
			lines = append(lines, mark.ReplaceAllString(line, "}"))
		}
	}
	crashed := strings.Join(lines, "") + `{"entry":{"finding":{"type":"natsen`
	if err := os.WriteFile(path, []byte(crashed), 0o600); err != nil {
		t.Fatal(err)
	}
	again := run("")
	if len(again) < len(lines) {
		t.Errorf("%d of %d transitions are told that may not have been", len(again), len(lines))
	}
	if again[0].ID != first[0].ID {
		t.Errorf("told again as %s, and was %s", again[0].ID, first[0].ID)
	}

	if err := os.WriteFile(path, []byte("this is no state\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := service.InFile(path); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a broken file: %v", err)
	}
}

// TestServerThatIsDownWhileTheAgentStarts: an agent that goes on from a file
// does not take the silence of a server that it has never heard for an end.
func TestServerThatIsDownWhileTheAgentStarts(t *testing.T) {
	t.Parallel()
	f := start(t, storeSpecs(t)...)
	waitActive(t, f, f.Server("n1"), 3)
	if err := f.Server("n3").Reload(t.Context(), doorOpen(true)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.json")
	run := func(while func(k *keeping)) {
		keeper, err := service.InFile(path)
		if err != nil {
			t.Fatal(err)
		}
		k := startKeeping(t, connectSys(t, f.Server("n1")), keeper)
		defer k.end()
		eventually(t, "it sweeps", k.leads)
		while(k)
	}
	run(func(k *keeping) {
		eventually(t, "the door is found open", func() bool { return len(found(k.a.State(), "DOOR_001", "n3")) == 1 })
	})
	id := f.Server("n3").ID()
	if err := f.Server("n3").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(func(k *keeping) {
		eventually(t, "the door cannot be seen any more", func() bool {
			fs := found(k.a.State(), "DOOR_001", "n3")
			return len(fs) == 1 && fs[0].Action == finding.Stale
		})
		if fs := found(k.a.State(), "FLEET_005", "n3"); len(fs) != 1 || fs[0].Scope.ServerID != id {
			t.Errorf("FLEET_005: %v", fs)
		}
	})
	if err := f.Server("n3").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(func(k *keeping) {
		eventually(t, "the door is seen again", func() bool {
			fs := found(k.a.State(), "DOOR_001", "n3")
			return len(fs) == 1 && fs[0].Action != finding.Stale && len(found(k.a.State(), "FLEET_005", "n3")) == 0
		})
	})
}
