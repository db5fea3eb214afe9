//go:build !windows

package integration

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/integration/fleet"
)

// appUsersOf is the authorization of a server whose clients survive a reload
// that adds or removes somebody else.
const appUsersOf = `authorization { users: [ { user: app, password: app-password }, { user: other, password: other-password } ] }
`

// neverAgain is an interval that no test sees the end of.
const neverAgain = time.Hour

// vigil is an agent that runs and sweeps only when something makes it.
type vigil struct {
	*agent.Agent
	rec *recorder
	all []finding.Finding
}

// keepWatch runs an agent that is told when to sweep by events and polls alone.
// poll is how often it polls; negative: never.
func keepWatch(t *testing.T, nc *nats.Conn, poll time.Duration, change func(*agent.Config)) *vigil {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	cfg := agent.Config{
		System: "test", Interval: neverAgain, SessionInterval: neverAgain, WatchInterval: poll, Policy: policy,
		Rules: finding.Rules{Apart: 50 * time.Millisecond, UpdateEvery: time.Nanosecond, FlapCount: 1000},
	}
	if change != nil {
		change(&cfg)
	}
	rec := &recorder{}
	a, err := agent.New(nc, cfg, agent.WithSink(rec))
	if err != nil {
		t.Fatal(err)
	}
	runs(t, a)
	v := &vigil{Agent: a, rec: rec}
	eventually(t, "the first sweep", func() bool { return rec.count() > 0 })
	return v
}

// told waits until a check's finding on a server has become something, and
// returns it.
func (v *vigil) told(t *testing.T, checkID, server string, action finding.Action) finding.Finding {
	t.Helper()
	return v.await(t, checkID, server, action, func(s check.Scope) string { return s.Server })
}

// await is the same for what of a scope names its subject.
func (v *vigil) await(t *testing.T, checkID, subject string, action finding.Action, of func(check.Scope) string) finding.Finding {
	t.Helper()
	var out finding.Finding
	eventually(t, fmt.Sprintf("%s on %q is %s", checkID, subject, action), func() bool {
		v.all = append(v.all, v.rec.take()...)
		i := slices.IndexFunc(v.all, func(f finding.Finding) bool {
			return f.Check == checkID && of(f.Scope) == subject && f.Action == action
		})
		if i < 0 {
			return false
		}
		out = v.all[i]
		v.all = v.all[i+1:]
		return true
	})
	return out
}

// TestReloadIsHeard: without polls, the events of the clients that stay tell
// of a reload, and end what it mends as well.
func TestReloadIsHeard(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "hub", Config: hub}, fleet.Spec{Name: "n1", Config: appUsersOf + remote("leaf-sys", "$SYS")})
	waitActive(t, f, f.Server("hub"), 2)
	app := connect(t, f.Server("n1").URL(), nats.UserInfo("app", "app-password"), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	v := keepWatch(t, connectSys(t, f.Server("hub")), -1, nil)
	time.Sleep(1100 * time.Millisecond) // that it came was not heard: its CONNECT, told again, is known by its age
	if err := f.Server("n1").Reload(t.Context(), remote("leaf-sys", "$SYS")); err != nil {
		t.Fatal(err)
	}
	// The proof comes with it, unless the machine is so busy that the touch is late.
	proven := func(f finding.Finding) bool {
		return slices.ContainsFunc(f.Evidence, func(e posture.Evidence) bool { return e.Basis == posture.Proven })
	}
	for f := v.told(t, "DOOR_001", "n1", finding.Opened); !proven(f); {
		f = v.told(t, "DOOR_001", "n1", finding.Updated)
	}
	eventually(t, "the client is back", func() bool { return app.Stats().Reconnects > 0 && app.IsConnected() })
	// That it came back was heard, so it need not grow old.
	if err := f.Server("n1").Reload(t.Context(), appUsersOf+remote("leaf-sys", "$SYS")); err != nil {
		t.Fatal(err)
	}
	v.told(t, "DOOR_001", "n1", finding.Resolved)
}

// TestReloadIsPolled: a server without clients tells nobody that it reloads.
func TestReloadIsPolled(t *testing.T) {
	t.Parallel()
	f := start(t, clusters(1, 3, closedApp)...)
	waitActive(t, f, f.Servers()[0], 3)
	v := keepWatch(t, connectSys(t, f.Servers()[0]), 50*time.Millisecond, nil)
	victim := f.Servers()[2]
	monitored := clusters(1, 3, closedApp)[2].Config + `server_name: ` + victim.Name() + "\n" + `no_auth_user: app` + "\n"
	if err := victim.Reload(t.Context(), monitored); err == nil {
		t.Fatal("a reload may not set no_auth_user, and did")
	}
	// Dropping the only account but the system's makes the hidden user.
	if err := victim.Reload(t.Context(), strings.ReplaceAll(clusters(1, 3, closedApp)[2].Config, "APP ", "# APP ")); err != nil {
		t.Fatal(err)
	}
	if f := v.told(t, "DOOR_001", victim.Name(), finding.Opened); f.Cause != posture.CauseHiddenUser {
		t.Errorf("cause %s", f.Cause)
	}
	if f := v.told(t, "FLEET_006", victim.Name(), finding.Opened); !strings.Contains(fmt.Sprint(f.Evidence), "open: client") {
		t.Errorf("FLEET_006 does not tell what the change brought: %+v", f.Evidence)
	}
}

// TestReloadThatIsRefused: somebody asks a server to reload, and it refuses the
// file.
func TestReloadThatIsRefused(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Binary: binary(t, fleet.Linked), Config: closedApp})
	nc := connectSys(t, f.Server("n1"))
	v := keepWatch(t, nc, -1, nil)
	reload := func(config string) {
		t.Helper()
		if err := f.Server("n1").Rewrite(config); err != nil {
			t.Fatal(err)
		}
		if _, err := nc.Request("$SYS.REQ.SERVER."+f.Server("n1").ID()+".RELOAD", nil, 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	if o := outcome(v.State(), "FLEET_008", "n1", posture.NoDoor); o != check.Unknown {
		t.Errorf("FLEET_008 is %s before anybody asked for a reload", o)
	}
	reload(closedApp + "no_auth_user: app\n") // parses, and is refused
	v.told(t, "FLEET_008", "n1", finding.Opened)
	reload(closedApp + "max_connections: 1000\n")
	v.told(t, "FLEET_008", "n1", finding.Resolved)
	time.Sleep(time.Second)
	reload(closedApp + "max_connections: 1001\n")
	time.Sleep(v.Config().Policy.ReloadGrace + 500*time.Millisecond)
	if got := actions(v.rec.take(), "FLEET_008", "n1"); len(got) != 0 {
		t.Errorf("a reload that was done is called refused: %v", got)
	}
}

func TestRestartIsHeard(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "hub", Config: hub}, fleet.Spec{Name: "n1", Config: appUsersOf + remote("leaf-sys", "$SYS")})
	waitActive(t, f, f.Server("hub"), 2)
	v := keepWatch(t, connectSys(t, f.Server("hub")), -1, nil)
	n1 := f.Server("n1")
	if err := errors.Join(n1.Rewrite(remote("leaf-sys", "$SYS")), n1.Stop(t.Context()), n1.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	opened := v.told(t, "DOOR_001", "n1", finding.Opened)
	if opened.Scope.ServerID != n1.ID() {
		t.Errorf("told of %s, the server is %s", opened.Scope.ServerID, n1.ID())
	}
}

func TestStrangersAreHeard(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ config, why string }{
		"open":        {remote("leaf-sys", "$SYS"), "asks nobody"},
		"hidden user": {sysAccount + remote("leaf-sys", "$SYS"), "logged in as the hidden user nats-"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fleet.Spec{Name: "hub", Config: hub}, fleet.Spec{Name: "n1", Config: c.config})
			waitActive(t, f, f.Server("hub"), 2)
			v := keepWatch(t, connectSys(t, f.Server("hub")), -1, nil)
			v.told(t, "DOOR_001", "n1", finding.Opened)
			connect(t, f.Server("n1").URL(), nats.Name("burglar"))
			opened := v.told(t, "SESS_001", "n1", finding.Opened)
			if said := fmt.Sprint(opened.Evidence); !strings.Contains(said, `calls itself "burglar"`) || !strings.Contains(said, c.why) {
				t.Errorf("got %s", said)
			}
			if len(opened.Evidence) != 1 {
				t.Errorf("%d strangers, and touches are none: %+v", len(opened.Evidence), opened.Evidence)
			}
		})
	}
}

// TestBurstOfFailures counts those who are turned away, and not the touches.
func TestBurstOfFailures(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp})
	v := keepWatch(t, connectSys(t, f.Server("n1")), -1, func(c *agent.Config) {
		c.Policy.FailureBurst = 5
		c.Interval = 200 * time.Millisecond // each sweep touches
		c.Probe.Every = time.Nanosecond
	})
	knock := func(name string, times int) {
		for range times {
			if nc, err := nats.Connect(f.Server("n1").URL(), nats.Name(name), nats.UserInfo("app", "hunter2-and-no-other")); err == nil {
				nc.Close()
				t.Fatal("let in")
			}
		}
	}
	touches := v.rec.count()
	eventually(t, "a dozen touches", func() bool { return v.rec.count() >= touches+12 })
	if got := actions(v.rec.take(), "SESS_002", "n1"); len(got) != 0 {
		t.Fatalf("touches are taken for failed logins: %v", got)
	}
	knock("deploy-job", 5)
	burst := v.told(t, "SESS_002", "n1", finding.Opened)
	if said := fmt.Sprint(burst.Evidence); !strings.Contains(said, `client from 127.0.0.1, calls itself "deploy-job"`) {
		t.Errorf("got %s", said)
	}
	if strings.Contains(fmt.Sprint(burst), "hunter2") {
		t.Error("it shows what the peer tried")
	}
}

// TestImpostorIsCounted: who brings credentials is no probe, whatever his name.
func TestImpostorIsCounted(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp})
	v := keepWatch(t, connectSys(t, f.Server("n1")), -1, nil)
	burst := v.Config().Policy.FailureBurst
	for range burst {
		if nc, err := nats.Connect(f.Server("n1").URL(), nats.Name(posture.ProbeName), nats.UserInfo("app", "wrong")); err == nil {
			nc.Close()
			t.Fatal("let in")
		}
	}
	if f := v.told(t, "SESS_002", "n1", finding.Opened); f.Severity != check.Warning || f.Summary != fmt.Sprintf("n1 rejected %d logins within a minute", burst) {
		t.Errorf("%s: %s", f.Severity, f.Summary)
	}
}

// TestProbesOfOthers: what another natsentry probes is no failed login. It is told as
// what it is, since anybody may call himself so.
func TestProbesOfOthers(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp})
	v := keepWatch(t, connectSys(t, f.Server("n1")), -1, nil)
	for range 2 * v.Config().Policy.FailureBurst { // some are taken for those of this one
		other := probe.Prober{Timeout: time.Minute}
		if touch := other.Touch(t.Context(), probe.Target{Door: posture.Client, Address: f.Server("n1").Addr("client"), ServerID: f.Server("n1").ID()}); touch.Access != posture.Closed {
			t.Fatalf("%+v", touch)
		}
	}
	told := v.told(t, "SESS_002", "n1", finding.Opened)
	if told.Severity != check.Info || told.Cause != "probes" || !strings.HasSuffix(told.Summary, "anonymous probes of others within a minute") || len(told.Evidence) != 1 {
		t.Errorf("%s, %s: %s %+v", told.Severity, told.Cause, told.Summary, told.Evidence)
	}
}

// TestSilenceIsPolled: a server that dies without a word is missed by the
// polls, long before the next sweep.
func TestSilenceIsPolled(t *testing.T) {
	t.Parallel()
	f, victim := openVictim(t)
	v := keepWatch(t, connectSys(t, f.Server("n1")), 100*time.Millisecond, func(c *agent.Config) { c.Collect = hasty })
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	v.told(t, "FLEET_005", "victim", finding.Opened)
	if err := victim.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.told(t, "FLEET_005", "victim", finding.Resolved)
}

// TestDeafAgent: a user who may hear no events still sees by polls, and says
// that it does not hear.
func TestDeafAgent(t *testing.T) {
	t.Parallel()
	users := strings.Replace(closedApp, "$SYS { users: [", `$SYS { users: [ { user: deaf, password: deaf, permissions: { publish: [ "$SYS.REQ.SERVER.*.*", "$SYS.REQ.ACCOUNT.PING.STATZ" ], subscribe: [ "_INBOX.>" ] } },`, 1)
	f := start(t, fleet.Spec{Name: "n1", Config: users})
	nc := connect(t, f.Server("n1").URL(), nats.UserInfo("deaf", "deaf"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	v := keepWatch(t, nc, 50*time.Millisecond, func(c *agent.Config) { c.Interval = 200 * time.Millisecond })
	eventually(t, "it knows what it may not hear", func() bool {
		return slices.Contains(v.State().Deaf, "$SYS.ACCOUNT.*.CONNECT") && slices.Contains(v.State().Deaf, "$SYS.REQ.SERVER.*.RELOAD")
	})
	eventually(t, "it says so", func() bool { return v.State().Snapshot.Hears.Events == 0 })
	for _, id := range []string{"SESS_002", "FLEET_008"} {
		if o := outcome(v.State(), id, "n1", posture.NoDoor); o != check.Unknown {
			t.Errorf("%s is %s although nothing is heard", id, o)
		}
	}
	if err := f.Server("n1").Reload(t.Context(), strings.ReplaceAll(users, "APP ", "# APP ")); err != nil {
		t.Fatal(err)
	}
	v.told(t, "DOOR_001", "n1", finding.Opened)
}

// TestEventStorm: ten thousand events a second, made up and real, neither hold
// up what a reload brings nor fill the memory.
func TestEventStorm(t *testing.T) {
	f := start(t, fleet.Spec{Name: "hub", Config: hub}, fleet.Spec{Name: "n1", Config: appUsersOf + remote("leaf-sys", "$SYS")})
	waitActive(t, f, f.Server("hub"), 2)
	connect(t, f.Server("n1").URL(), nats.UserInfo("app", "app-password"), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	v := keepWatch(t, connectSys(t, f.Server("hub")), time.Second, nil)
	storm := connectSys(t, f.Server("hub"))
	ctx, cancel := context.WithCancel(t.Context())
	var sent int
	var wg sync.WaitGroup
	wg.Go(func() { sent = rage(ctx, t, storm, f.Server("n1").ID()) })

	before := heap()
	time.Sleep(1500 * time.Millisecond) // the storm is on, and the client is old enough
	began := time.Now()
	if err := f.Server("n1").Reload(t.Context(), remote("leaf-sys", "$SYS")); err != nil {
		t.Fatal(err)
	}
	v.told(t, "DOOR_001", "n1", finding.Opened)
	took := time.Since(began)
	time.Sleep(time.Second)
	grown := int64(heap()) - int64(before)
	cancel()
	wg.Wait()
	t.Logf("%d events in %s; the reload was told after %s; the heap grew by %d KiB", sent, time.Since(began)+1500*time.Millisecond, took, grown>>10)
	if took > 3*time.Second {
		t.Errorf("told after %s", took)
	}
	if grown > 64<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	if n := len(v.State().Snapshot.Server("n1").Sessions.List); n > 1024 {
		t.Errorf("%d sessions are kept", n)
	}
}

// rage sends events as servers do, in the name of one that is there and of
// many that are not.
func rage(ctx context.Context, t *testing.T, nc *nats.Conn, id string) (sent int) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return sent
		case <-tick.C:
		}
		for range 100 {
			sent++
			server := id
			if sent%2 == 0 {
				server = fmt.Sprintf("N%055d", sent)
			}
			now := time.Now().UTC()
			connected := now.Add(-time.Duration(sent%3) * time.Second) // some look like those of a reload
			event := fmt.Sprintf(`{"type":"io.nats.server.advisory.v1.client_connect","id":"x","timestamp":%q,"server":{"name":"n1","id":%q,"ver":"2.15.2"},"client":{"start":%q,"host":"10.0.0.1","id":%d,"acc":"$G","user":"u","name":"storm","lang":"go","ver":"1.55.0","kind":"Client","client_type":"nats","jwt":%q}}`,
				now.Format(time.RFC3339Nano), server, connected.Format(time.RFC3339Nano), sent, strings.Repeat("x", 500))
			var err error
			switch sent % 5 {
			case 0:
				err = nc.Publish("$SYS.ACCOUNT.$G.DISCONNECT", []byte(strings.Replace(event, `"client":`, `"reason":"Client Closed","client":`, 1)))
			case 1:
				err = nc.Publish("$SYS.SERVER."+server+".STATSZ", nil)
			case 2:
				err = nc.Publish("$SYS.SERVER."+server+".CLIENT.AUTH.ERR", []byte(event))
			default:
				err = nc.Publish("$SYS.ACCOUNT.$G.CONNECT", []byte(event))
			}
			if err != nil {
				t.Error(err)
				return sent
			}
		}
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestPolicyIsChanged while the agent runs.
func TestPolicyIsChanged(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: sysAccount})
	v := keepWatch(t, connectSys(t, f.Server("n1")), -1, nil)
	v.told(t, "DOOR_001", "n1", finding.Opened)
	policy := v.Config().Policy
	policy.Waivers = []check.Waiver{{Check: "DOOR_001", Reason: "a test", Owner: "the tests", Expires: time.Now().Add(time.Hour)}}
	v.SetPolicy(t.Context(), policy)
	if f := v.told(t, "DOOR_001", "n1", finding.Updated); f.Waived == nil {
		t.Error("not waived")
	}
	if totals := v.State().Report().Totals.Findings; totals.Waived != 1 || totals.Critical != 0 {
		t.Errorf("totals %+v", totals)
	}
}
