//go:build !windows

package integration

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// hasty is a collector that does not wait for long for those who are silent.
var hasty = collect.Config{Timeout: 1500 * time.Millisecond}

// binary is a real nats-server of a version.
func binary(t testing.TB, version string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a real nats-server")
	}
	path, err := fleet.Binary(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// recorder is a sink that keeps all it is told.
type recorder struct {
	mu     sync.Mutex
	sweeps int
	all    []finding.Finding
}

func (r *recorder) Judged(_ context.Context, state *agent.State, transitions []finding.Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if state.Swept {
		r.sweeps++
	}
	for i := range transitions {
		r.all = append(r.all, transitions[i].Finding)
	}
}

// take returns the transitions since it was last called.
func (r *recorder) take() []finding.Finding {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.all
	r.all = nil
	return out
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sweeps
}

// actions lists what became of a check's finding on a server.
func actions(transitions []finding.Finding, checkID, server string) []finding.Action {
	var out []finding.Action
	for _, f := range transitions {
		if f.Check == checkID && f.Scope.Server == server {
			out = append(out, f.Action)
		}
	}
	return out
}

// logbook is a slog handler that keeps what was logged.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logbook) Enabled(context.Context, slog.Level) bool { return true }
func (l *logbook) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logbook) WithGroup(string) slog.Handler            { return l }

func (l *logbook) Handle(_ context.Context, r slog.Record) error { //nolint:gocritic // the interface wants a value
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *logbook) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.Contains(line, part) {
			return true
		}
	}
	return false
}

// openVictim is a process without authentication beside two closed servers.
func openVictim(t *testing.T) (f *fleet.Fleet, victim *fleet.Server) {
	t.Helper()
	f = start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2", "victim")},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1", "victim")},
		fleet.Spec{Name: "victim", Binary: binary(t, fleet.Linked), Config: clustered("c", "n1", "n2") + `http: "{{addr "monitor"}}"`},
	)
	waitActive(t, f, f.Server("n1"), 3)
	return f, f.Server("victim")
}

// unheard asserts what must be said of a server that did not answer: it is
// missed, nothing about its doors is known, and no check passes on it.
func unheard(t *testing.T, state *agent.State, name, id string, want posture.State, cause posture.Cause) {
	t.Helper()
	srv := state.Snapshot.Server(id)
	if srv == nil {
		t.Fatalf("%s is no longer in the snapshot", name)
	}
	if srv.State != want || srv.Name != name {
		t.Errorf("%s (%s) is %s, want %s", srv.Name, name, srv.State, want)
	}
	if len(srv.Doors) == 0 {
		t.Errorf("%s has no doors any more", name)
	}
	for _, d := range srv.Doors {
		if d.Access != posture.Unknown || d.Basis != posture.NoBasis || d.Reason == "" {
			t.Errorf("%s door of %s: %s (%s) %q", d.Kind, name, d.Access, d.Basis, d.Reason)
		}
	}
	fs := found(state, "FLEET_005", name)
	if len(fs) != 1 || fs[0].Cause != cause || fs[0].Scope.ServerID != id {
		t.Errorf("FLEET_005 of %s: %v, want cause %s", name, fs, cause)
	}
	nothingPasses(t, state, id)
	if gap := hasGap(state, id); gap != (want == posture.Silent) {
		t.Errorf("%s is %s and gap is %v: %v", name, want, gap, state.Snapshot.Gaps)
	}
}

func nothingPasses(t *testing.T, state *agent.State, id string) {
	t.Helper()
	for _, r := range state.Results {
		if r.Scope.ServerID == id && r.Check.ID != "FLEET_005" && r.Outcome != check.Unknown {
			t.Errorf("%s says %v of a door (%s) that nobody saw: %s", r.Check.ID, r.Outcome, r.Scope.Door, r.Summary)
		}
	}
}

func hasGap(state *agent.State, id string) bool {
	for _, g := range state.Snapshot.Gaps {
		if g.ID == id && strings.Contains(g.Reason, "no answer") {
			return true
		}
	}
	return false
}

// answers waits until a server answers by its id.
func answers(t *testing.T, nc *nats.Conn, s *fleet.Server) {
	t.Helper()
	eventually(t, s.Name()+" answers", func() bool {
		_, err := nc.Request("$SYS.REQ.SERVER."+s.ID()+".STATSZ", nil, 500*time.Millisecond)
		return err == nil
	})
}

// never fails the test for a transition that says that something ended.
func never(t *testing.T, transitions []finding.Finding, server string, banned ...finding.Action) {
	t.Helper()
	for _, f := range transitions {
		for _, a := range banned {
			if f.Action == a && (server == "" || f.Scope.Server == server) {
				t.Errorf("%s of %s was %s: %s", f.Check, f.Scope.Server, a, f.Summary)
			}
		}
	}
}

func TestKilledServer(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	rec := &recorder{}
	nc := connectSys(t, f.Server("n1"))
	a := auditor(t, nc, hasty, agent.WithSink(rec))
	first := sweep(t, a)
	door001 := found(first, "DOOR_001", "victim")
	if len(door001) != 1 || first.Snapshot.Heard != 3 {
		t.Fatalf("heard %d, DOOR_001 %v", first.Snapshot.Heard, door001)
	}
	rec.take()

	id := victim.ID()
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		state := lookTwice(t, a)
		unheard(t, state, "victim", id, posture.Silent, "connection-lost")
		if s := state.Snapshot; s.Heard != 2 || s.Expected != 3 {
			t.Errorf("heard %d of %d", s.Heard, s.Expected)
		}
		for _, other := range []string{"n1", "n2"} {
			if d := door(t, state, other, posture.Client); d.Access != posture.Closed {
				t.Errorf("client door of %s: %s", other, d.Access)
			}
		}
		if stands := found(state, "DOOR_001", "victim"); len(stands) != 1 || stands[0].Action != finding.Stale {
			t.Errorf("DOOR_001 of the dead server: %v", stands)
		}
		transitions := rec.take()
		never(t, transitions, "victim", finding.Resolved)
		want := 1 - round // told once
		if got := actions(transitions, "DOOR_001", "victim"); len(got) != want || want == 1 && got[0] != finding.Stale {
			t.Errorf("round %d: DOOR_001 became %v", round, got)
		}
	}

	if err := victim.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	answers(t, nc, victim)
	var state *agent.State
	eventually(t, "the restarted server is seen", func() bool {
		state = sweep(t, a)
		return state.Snapshot.Server(victim.ID()) != nil
	})
	if victim.ID() == id || state.Snapshot.Server(id) != nil || state.Snapshot.Server(victim.ID()) == nil || len(state.Snapshot.Servers) != 3 {
		for _, s := range state.Snapshot.Servers {
			t.Logf("%s %s: state %v, heard %v, known by %q", s.Name, s.ID, s.State, s.Heard.InputNames(), s.KnownBy)
		}
		t.Fatalf("the restarted server did not take the dead one's place: %d servers", len(state.Snapshot.Servers))
	}
	state = sweep(t, a)
	if fs := found(state, "FLEET_005", ""); len(fs) != 0 {
		t.Errorf("still missed: %s", fs[0].Summary)
	}
	again := found(state, "DOOR_001", "victim")
	if len(again) != 1 || again[0].Fingerprint != door001[0].Fingerprint || again[0].Scope.ServerID != victim.ID() || !again[0].FirstSeen.Equal(door001[0].FirstSeen) {
		t.Errorf("DOOR_001 after the restart: %v", again)
	}
	transitions := rec.take()
	if got := actions(transitions, "DOOR_001", "victim"); len(got) != 1 || got[0] != finding.Updated {
		t.Errorf("DOOR_001 became %v", got)
	}
	if got := actions(transitions, "FLEET_005", "victim"); len(got) != 1 || got[0] != finding.Resolved {
		t.Errorf("FLEET_005 became %v", got)
	}
}

// asked subscribes to the requests that go to one server by its id.
func asked(t *testing.T, nc *nats.Conn, id string) *nats.Subscription {
	t.Helper()
	sub, err := nc.SubscribeSync("$SYS.REQ.SERVER." + id + ".*")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return sub
}

// freeze stops a process and lets it go on when the test ends.
func freeze(t *testing.T, s *fleet.Server) (thaw func()) {
	t.Helper()
	pid := s.Pid()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// It stands still only when each of its threads does.
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("not stopped: %v, %v", status, err)
	}
	thaw = sync.OnceFunc(func() {
		if s.Pid() == pid {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	})
	t.Cleanup(thaw)
	return thaw
}

func TestFrozenServer(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	rec := &recorder{}
	nc := connectSys(t, f.Server("n1"))
	a := auditor(t, nc, hasty, agent.WithSink(rec))
	sweep(t, a)
	rec.take()

	seen := asked(t, connectSys(t, f.Server("n2")), victim.ID())
	thaw := freeze(t, victim)
	first := sweep(t, a)
	state := sweep(t, a)
	if was, now := first.Snapshot.Took, state.Snapshot.Took; now > was/2 {
		t.Errorf("a server that was silent holds up the next sweep: %s, after %s", now, was)
	}
	unheard(t, state, "victim", victim.ID(), posture.Silent, "hangs")
	again := map[string]bool{}
	for {
		msg, err := seen.NextMsg(200 * time.Millisecond)
		if err != nil {
			break
		}
		again[msg.Subject[strings.LastIndex(msg.Subject, ".")+1:]] = true
	}
	if !again["STATSZ"] || !again["VARZ"] {
		t.Errorf("a silent server was asked again for %v only", again)
	}
	transitions := rec.take()
	never(t, transitions, "victim", finding.Resolved)
	if got := actions(transitions, "DOOR_001", "victim"); len(got) != 1 || got[0] != finding.Stale {
		t.Errorf("DOOR_001 became %v", got)
	}

	// A fresh agent knows of it by its peers only.
	fresh := sweep(t, auditor(t, connectSys(t, f.Server("n2")), hasty))
	unheard(t, fresh, "victim", victim.ID(), posture.Silent, "never-answered")
	if srv := fresh.Snapshot.Server(victim.ID()); !strings.Contains(srv.KnownBy, "ROUTEZ of n") {
		t.Errorf("known by %q", srv.KnownBy)
	}

	thaw()
	answers(t, nc, victim)
	state = lookTwice(t, a)
	if state.Snapshot.Heard != 3 || len(found(state, "FLEET_005", "")) != 0 || len(state.Snapshot.Gaps) != 0 {
		t.Errorf("after the thaw: heard %d, gaps %v", state.Snapshot.Heard, state.Snapshot.Gaps)
	}
	if got := actions(rec.take(), "DOOR_001", "victim"); len(got) != 1 || got[0] != finding.Updated {
		t.Errorf("DOOR_001 became %v", got)
	}
}

func TestKilledDuringASweep(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	rec := &recorder{}
	a := auditor(t, connectSys(t, f.Server("n1")), hasty, agent.WithSink(rec))
	sweep(t, a)
	rec.take()

	// Frozen it holds the sweep up; that it is asked again shows that the
	// sweep is under way.
	id := victim.ID()
	seen := asked(t, connectSys(t, f.Server("n2")), id)
	freeze(t, victim)
	killed := make(chan error, 1)
	go func() {
		_, err := seen.NextMsg(10 * time.Second)
		if err == nil {
			err = victim.Kill()
		}
		killed <- err
	}()
	state := sweep(t, a)
	if err := <-killed; err != nil {
		t.Fatal(err)
	}
	unheard(t, state, "victim", id, posture.Silent, "hangs") // as its peers said when they were asked
	unheard(t, sweep(t, a), "victim", id, posture.Silent, "connection-lost")
	if state.Snapshot.Heard != 2 {
		t.Errorf("heard %d", state.Snapshot.Heard)
	}
	never(t, rec.take(), "victim", finding.Resolved)
}

func TestFreshAgentAfterAKill(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"n1", "n2"} {
		eventually(t, s+" lost its routes to the victim", func() bool { return f.Server(s).Embedded().NumRemotes() == 1 })
	}
	state := sweep(t, auditor(t, connectSys(t, f.Server("n1")), hasty))
	snap := state.Snapshot
	if snap.Heard != 2 || snap.Expected != 3 {
		t.Errorf("heard %d of %d", snap.Heard, snap.Expected)
	}
	said := false
	for _, g := range snap.Gaps {
		said = said || strings.Contains(g.Reason, "not known by name")
	}
	if !said {
		t.Errorf("no gap tells of a server that is counted and not known: %v", snap.Gaps)
	}
	// What compares the whole cluster must not pass over the missing one.
	for _, r := range state.Results {
		if r.Scope.Kind != check.KindServer && r.Outcome == check.Pass {
			t.Errorf("%s passes without a server that should have answered: %s", r.Check.ID, r.Summary)
		}
	}
}

func TestLameDuckAndShutdown(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "duck", "leaver")},
		fleet.Spec{Name: "duck", Binary: binary(t, fleet.Linked), Config: clustered("c", "n1", "leaver") + "lame_duck_duration: 60s, lame_duck_grace_period: 30s"},
		fleet.Spec{Name: "leaver", Binary: binary(t, fleet.Linked), Config: clustered("c", "n1", "duck")},
	)
	waitActive(t, f, f.Server("n1"), 3)
	rec := &recorder{}
	a := auditor(t, connectSys(t, f.Server("n1")), collect.Config{Timeout: 500 * time.Millisecond}, agent.WithSink(rec))
	state := sweep(t, a)
	if len(found(state, "DOOR_001", "duck")) != 1 || len(found(state, "DOOR_001", "leaver")) != 1 {
		t.Fatalf("%v", state.Findings)
	}

	// A server without clients would not tarry.
	connect(t, f.Server("duck").URL(), nats.NoReconnect())
	duck, leaver := f.Server("duck").ID(), f.Server("leaver").ID()
	if err := f.Server("duck").LameDuck(); err != nil {
		t.Fatal(err)
	}
	until := func(id string, want posture.State) {
		t.Helper()
		eventually(t, "the server is "+want.String(), func() bool {
			state = sweep(t, a)
			return state.Snapshot.Server(id) != nil && state.Snapshot.Server(id).State == want
		})
	}
	until(duck, posture.LameDuck)
	unheard(t, state, "duck", duck, posture.LameDuck, "lame-duck")
	// The lame-duck event is the last one that a server sends: it never says
	// that it has shut down. It also ignores SIGTERM.
	if err := f.Server("duck").Kill(); err != nil {
		t.Fatal(err)
	}
	state = sweep(t, a)
	unheard(t, state, "duck", duck, posture.LameDuck, "lame-duck")

	if err := f.Server("leaver").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(leaver, posture.ShutDown)
	state = lookTwice(t, a)
	unheard(t, state, "leaver", leaver, posture.ShutDown, "shut-down")
	if s := state.Snapshot; s.Heard != 1 || s.Expected != 1 || len(s.Gaps) != 0 {
		t.Errorf("heard %d of %d, gaps %v: those who said goodbye are not missed", s.Heard, s.Expected, s.Gaps)
	}
	// That it has left does not close its door.
	transitions := rec.take()
	for _, server := range []string{"duck", "leaver"} {
		never(t, transitions, server, finding.Resolved)
		if fs := found(state, "DOOR_001", server); len(fs) != 1 || fs[0].Action != finding.Stale {
			t.Errorf("DOOR_001 of %s: %v", server, fs)
		}
	}
}

func TestKilledTwin(t *testing.T) {
	t.Parallel()
	const twin = "server_name: twin\nhttp: \"{{addr \"monitor\"}}\"\n"
	f := start(t,
		fleet.Spec{Name: "hub", Config: twin + hub},
		fleet.Spec{Name: "leaf", Binary: binary(t, fleet.Linked), Config: twin + closedApp + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), 2)
	rec := &recorder{}
	a := auditor(t, connectSys(t, f.Server("hub")), hasty, agent.WithSink(rec))
	sweep(t, a)
	rec.take()

	id := f.Server("leaf").ID()
	if err := f.Server("leaf").Kill(); err != nil {
		t.Fatal(err)
	}
	// The other one of that name is not what it became.
	for range 2 {
		state := sweep(t, a)
		unheard(t, state, "twin", id, posture.Silent, "connection-lost")
	}
	transitions := rec.take()
	never(t, transitions, "twin", finding.Resolved)
	if got := actions(transitions, "DOOR_007", "twin"); len(got) != 1 || got[0] != finding.Stale {
		t.Errorf("DOOR_007 of the twins became %v", got)
	}
}

// running runs an agent until the returned function is called, which returns
// what Run did.
func running(t *testing.T, nc *nats.Conn, cfg collect.Config, opts ...agent.Option) (end func() error) {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{System: "test", Interval: 100 * time.Millisecond, SessionInterval: 100 * time.Millisecond, Policy: policy, Collect: cfg, Probe: agent.Probe{Off: true}, Rules: prompt}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	end = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			t.Error("Run did not end with its context")
			return nil
		}
	})
	t.Cleanup(func() { _ = end() })
	return end
}

// quick reconnects at once and for ever.
var quick = []nats.Option{
	nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(time.Millisecond, time.Millisecond),
}

func TestOwnConnectionLostToASingleServer(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp + `http: "{{addr "monitor"}}"`})
	s := f.Server("n1")
	rec, log := &recorder{}, &logbook{}
	nc := connectSys(t, s, quick...)
	end := running(t, nc, hasty, agent.WithSink(rec), agent.WithLogger(slog.New(log)))
	eventually(t, "two sweeps", func() bool { return rec.count() >= 2 })
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is logged", func() bool { return log.has("WARN connection lost") })
	eventually(t, "a sweep is refused", func() bool { return log.has(collect.ErrDisconnected.Error()) })
	before := rec.count()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the return is logged", func() bool { return log.has("INFO connection is back") })
	eventually(t, "it sweeps again", func() bool { return rec.count() >= before+3 })
	if err := end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	// It is another server now, with the same doors.
	transitions := rec.take()
	never(t, transitions, "", finding.Stale, finding.Resolved)
	if got := actions(transitions, "DOOR_007", "n1"); len(got) != 2 || got[0] != finding.Opened || got[1] != finding.Updated {
		t.Errorf("DOOR_007 became %v", got)
	}
}

func TestOwnConnectionMovesInACluster(t *testing.T) {
	t.Parallel()
	const monitor = `http: "{{addr "monitor"}}"`
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2") + monitor, Binary: binary(t, fleet.Linked)},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1") + monitor},
	)
	waitActive(t, f, f.Server("n2"), 2)
	rec, log := &recorder{}, &logbook{}
	nc := connectSys(t, f.Server("n1"), quick...)
	end := running(t, nc, collect.Config{Timeout: 500 * time.Millisecond}, agent.WithSink(rec), agent.WithLogger(slog.New(log)))
	eventually(t, "two sweeps", func() bool { return rec.count() >= 2 })
	first := rec.take()
	if got := actions(first, "DOOR_007", "n2"); len(got) != 1 || got[0] != finding.Opened {
		t.Fatalf("DOOR_007 on n2 became %v", got)
	}
	eventually(t, "the connection knows the other server", func() bool { return len(nc.DiscoveredServers()) > 0 })
	if err := f.Server("n1").Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the loss is logged", func() bool { return log.has("WARN connection lost") })
	eventually(t, "the return is logged", func() bool { return log.has("INFO connection is back") })
	before := rec.count()
	eventually(t, "it sweeps again", func() bool { return rec.count() >= before+3 })
	if err := end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	transitions := rec.take()
	never(t, transitions, "n2", finding.Stale, finding.Resolved)
	never(t, transitions, "n1", finding.Resolved)
	if got := actions(transitions, "DOOR_007", "n1"); len(got) != 1 || got[0] != finding.Stale {
		t.Errorf("DOOR_007 on the server that is gone became %v", got)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	nc := connectSys(t, f.Server("n1"))
	had := nc.NumSubscriptions()
	rec := &recorder{}
	end := running(t, nc, patient, agent.WithSink(rec))
	eventually(t, "two sweeps", func() bool { return rec.count() >= 2 })

	// A sweep that would wait for long is cut short, and says nothing.
	seen := asked(t, connectSys(t, f.Server("n2")), victim.ID())
	freeze(t, victim)
	if _, err := seen.NextMsg(15 * time.Second); err != nil {
		t.Fatal(err)
	}
	sweeps := rec.count()
	if err := end(); err != nil {
		t.Errorf("Run returned %v", err)
	}
	if rec.count() != sweeps {
		t.Error("a sweep that was cut short was told to the sink")
	}
	never(t, rec.take(), "", finding.Stale, finding.Resolved)
	if got := nc.NumSubscriptions(); got != had {
		t.Errorf("%d subscriptions are left, there were %d", got, had)
	}
}
