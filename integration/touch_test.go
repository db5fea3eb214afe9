package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// toucher is an auditor that touches doors.
func toucher(t testing.TB, nc *nats.Conn, opts ...agent.Option) *agent.Agent {
	t.Helper()
	return toucherOf(t, nc, collect.Config{}, opts...)
}

// toucherOf is the same with a collector of one's own.
func toucherOf(t testing.TB, nc *nats.Conn, cfg collect.Config, opts ...agent.Option) *agent.Agent {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{System: "test", Collect: cfg, Policy: policy, Rules: prompt}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// TestDemoProven: with touches, every planted weakness is proven, and what
// contradicts the server's word is the headline.
func TestDemoProven(t *testing.T) {
	f := start(t, fleet.Demo()...)
	login := nats.UserInfo(fleet.DemoSystemUser, fleet.DemoSystemPassword)
	if err := f.WaitActive(t.Context(), f.Server("safe").URL(), len(f.Servers()), login); err != nil {
		t.Fatal(err)
	}
	state := sweep(t, toucher(t, connect(t, f.Server("safe").URL(), login)))
	for _, want := range []struct {
		server string
		door   posture.DoorKind
		cause  posture.Cause
		check  string
		says   string
	}{
		{"no-auth", posture.Client, posture.CauseNoAuthBlock, "DOOR_001", "into $G"},
		{"no-auth-user", posture.Client, posture.CauseNoAuthUser, "DOOR_001", "reports auth_required, and lets strangers in"},
		{"hidden-user", posture.Client, posture.CauseHiddenUser, "DOOR_001", "reports auth_required, and lets strangers in"},
		{"websocket-open", posture.Websocket, posture.CauseWSNoAuthUser, "DOOR_002", "as browser in APP"},
		{"route-open", posture.Route, posture.CauseNoRouteAuth, "DOOR_005", "route port"},
		{"leaf-open", posture.Leafnode, posture.CauseLeafNoAuth, "DOOR_004", "leafnode port"},
		{"monitor-open", posture.Monitor, posture.CauseNeverAsks, "DOOR_007", "monitoring"},
	} {
		if d := door(t, state, want.server, want.door); d.Access != posture.Open || d.Basis != posture.Proven {
			t.Errorf("%s door of %s is %s (%s) %s", want.door, want.server, d.Access, d.Basis, d.Reason)
		}
		fs := found(state, want.check, want.server)
		if len(fs) != 1 || fs[0].Cause != want.cause || !strings.Contains(fs[0].Summary, want.says) {
			t.Errorf("%s on %s: %+v", want.check, want.server, fs)
		}
	}
	for _, s := range []string{"safe", "token"} {
		for i, d := range state.Snapshot.Server(s).Doors {
			if d.On == posture.Yes && (d.Access != posture.Closed || d.Basis != posture.Proven) {
				t.Errorf("door %d of %s: %s is %s (%s) %s", i, s, d.Kind, d.Access, d.Basis, d.Reason)
			}
		}
	}
	if fs := found(state, "SESS_001", ""); len(fs) != 0 {
		t.Errorf("our own touches were taken for strangers: %+v", fs)
	}
}

// standing is what a touch must leave as it was.
func standing(t *testing.T, f *fleet.Fleet) map[string]any {
	t.Helper()
	out := map[string]any{}
	for _, s := range f.Servers() {
		srv := s.Embedded()
		accounts, err := srv.Accountz(&server.AccountzOptions{})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(accounts.Accounts)
		jsz, err := srv.Jsz(&server.JSzOptions{Streams: true, Accounts: true})
		if err != nil {
			t.Fatal(err)
		}
		varz, err := srv.Varz(nil)
		if err != nil {
			t.Fatal(err)
		}
		out[s.Name()] = map[string]any{
			"routes": srv.NumRoutes(), "leafs": srv.NumLeafNodes(), "cluster": varz.Cluster.Name, "outbound": srv.NumOutboundGateways(),
			"accounts": accounts.Accounts, "streams": jsz.Streams, "consumers": jsz.Consumers, "clients": srv.NumClients(),
			"subscriptions": srv.NumSubscriptions(), "name": varz.Name,
		}
	}
	return out
}

// TestTouchesLeaveNothing touches every kind of door, open and closed, and
// compares the servers before and after.
func TestTouchesLeaveNothing(t *testing.T) {
	for _, mode := range []string{"open", "closed"} {
		t.Run(mode, func(t *testing.T) {
			auth := func(block string) string {
				if mode == "open" {
					return ""
				}
				return block
			}
			users, ws := "", `websocket { listen: "{{addr "ws"}}", no_tls: true }`
			if mode == "closed" {
				users = "authorization { users: [ { user: app, password: app } ] }\n"
			}
			config := func(peer string) string {
				return sysAccount + `system_account: "$SYS"
` + users + ws + `
http: "{{addr "http"}}"
leafnodes { listen: "{{addr "leaf"}}"
  ` + auth(`authorization { user: l, password: l }`) + `
}
cluster { listen: "{{addr "route"}}"
  ` + auth(`name: named
  authorization { user: r, password: r }`) + `
  routes: [ "nats://r:r@{{addr "` + peer + `" "route"}}" ] }
gateway { name: named, listen: "{{addr "gateway"}}"
  ` + auth(`authorization { user: g, password: g }`) + `
}
`
			}
			// An open cluster must not be named, so that its name is dynamic:
			// that is what a careless CONNECT would destroy. Gateways need a
			// name, so an open pair has none.
			open := func(peer string) string {
				c := config(peer)
				if mode == "open" {
					c = c[:strings.Index(c, "gateway {")]
				}
				return c
			}
			f := start(t, fleet.Spec{Name: "n1", Config: open("n2")}, fleet.Spec{Name: "n2", Config: open("n1")})
			waitActive(t, f, f.Server("n1"), 2)
			nc := connectSys(t, f.Server("n1"))
			a := toucher(t, nc)
			quiet := auditor(t, nc, collect.Config{})
			sweep(t, quiet) // subscriptions of both auditors are there already
			if mode == "open" {
				// The first request that leaves an account through a service
				// import, whoever sends it, makes its server keep one internal
				// subscription for replies. Somebody has sent one before us.
				for _, s := range f.Servers() {
					if _, err := connect(t, s.URL(), nats.IgnoreDiscoveredServers()).Request("$SYS.REQ.USER.INFO", nil, 2*time.Second); err != nil {
						t.Fatal(err)
					}
				}
			}
			before := settled(t, f)
			state := sweep(t, a)
			want := posture.Open
			if mode == "closed" {
				want = posture.Closed
			}
			for _, s := range []string{"n1", "n2"} {
				for _, kind := range []posture.DoorKind{posture.Client, posture.Websocket, posture.Leafnode, posture.Route, posture.Gateway} {
					if d := door(t, state, s, kind); d.On == posture.Yes && (d.Access != want || d.Basis != posture.Proven) {
						t.Errorf("%s: the %s door is %s (%s): %s", s, kind, d.Access, d.Basis, d.Reason)
					}
				}
			}
			if diff := cmp.Diff(before, settled(t, f)); diff != "" {
				t.Errorf("the touches changed something:\n%s", diff)
			}
		})
	}
}

// settled reads the standing until two readings agree: the connections of the
// touches are closed, but servers take a moment to notice.
func settled(t *testing.T, f *fleet.Fleet) map[string]any {
	t.Helper()
	last := standing(t, f)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); {
		time.Sleep(150 * time.Millisecond)
		now := standing(t, f)
		if cmp.Equal(last, now) {
			return now
		}
		last = now
	}
	t.Fatal("the fleet does not settle")
	return nil
}

// TestTouchSchedule: a door is touched when it is first seen, when its
// server's configuration changed, and not otherwise.
func TestTouchSchedule(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1", Config: sysAccount + "authorization { users: [ { user: app, password: app } ] }\n"})
	n1 := f.Server("n1")
	watcher := connectSys(t, n1)
	errs := make(chan *nats.Msg, 100)
	if _, err := watcher.ChanSubscribe("$SYS.SERVER.*.CLIENT.AUTH.ERR", errs); err != nil {
		t.Fatal(err)
	}
	if err := watcher.Flush(); err != nil {
		t.Fatal(err)
	}
	refusals := func() (n int) {
		t.Helper()
		for timeout := time.After(300 * time.Millisecond); ; {
			select {
			case m := <-errs:
				var e struct {
					Client struct{ Name string }
				}
				if err := json.Unmarshal(m.Data, &e); err != nil || e.Client.Name != posture.ProbeName {
					t.Errorf("an authentication error of somebody else: %s", m.Data)
				}
				n++
			case <-timeout:
				return n
			}
		}
	}
	now := time.Now()
	a := toucher(t, connectSys(t, n1), agent.WithClock(func() time.Time { return now }))
	for i, step := range []struct {
		what string
		do   func()
		want int
	}{
		{"first sight", func() {}, 1},
		{"nothing moved", func() {}, 0},
		{"a minute later", func() { now = now.Add(time.Minute) }, 0},
		{"after a reload", func() {
			if err := n1.Reload(t.Context(), sysAccount+"authorization { users: [ { user: app, password: other } ] }\n"); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"nothing moved again", func() {}, 0},
		{"eleven minutes later", func() { now = now.Add(11 * time.Minute) }, 1},
	} {
		step.do()
		if d := door(t, sweep(t, a), "n1", posture.Client); d.Access != posture.Closed || d.Basis != posture.Proven {
			t.Errorf("%s: the door is %s (%s)", step.what, d.Access, d.Basis)
		}
		if n := refusals(); n != step.want {
			t.Errorf("step %d, %s: %d touches, want %d", i, step.what, n, step.want)
		}
	}
}

// TestTouchesResolve: what a touch has proven open, a touch resolves.
func TestTouchesResolve(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1", Config: sysAccount})
	a := toucher(t, connectSys(t, f.Server("n1")))
	if fs := found(sweep(t, a), "DOOR_001", "n1"); len(fs) != 1 || fs[0].Cause != posture.CauseHiddenUser {
		t.Fatalf("got %+v", fs)
	}
	if err := f.Server("n1").Reload(t.Context(), sysAccount+"authorization {}\n"); err != nil {
		t.Fatal(err)
	}
	state := lookTwice(t, a)
	if o := outcome(state, "DOOR_001", "n1", posture.Client); o != check.Pass || len(found(state, "DOOR_001", "n1")) != 0 {
		t.Errorf("DOOR_001 is %s: %+v", o, found(state, "DOOR_001", "n1"))
	}
}

// BenchmarkTouch touches all doors of a fleet of 30 servers, and counts what
// that leaves in the servers' logs and on the wire.
func BenchmarkTouch(b *testing.B) {
	const n, m = 5, 6
	logs := b.TempDir()
	specs := clusters(n, m, sysAccount)
	for i := range specs {
		specs[i].Config += fmt.Sprintf("log_file: %q\n", filepath.Join(logs, specs[i].Name))
	}
	f := start(b, specs...)
	waitActive(b, f, f.Servers()[0], n*m)
	nc := connectSys(b, f.Servers()[0])
	events, before := touchEvents(b, connectSys(b, f.Servers()[0])), logLines(b, logs)
	var sent, read, touches int
	for b.Loop() {
		state := sweep(b, toucher(b, nc)) // a new agent has touched nothing yet
		if state.Snapshot.Heard != n*m {
			b.Fatalf("heard %d", state.Snapshot.Heard)
		}
		for _, s := range state.Snapshot.Servers {
			for _, t := range s.Touches {
				if t.Access == posture.Unknown {
					b.Fatal(fmt.Sprint(s.Name, " ", t.Door, " ", t.Reason))
				}
				touches, sent, read = touches+1, sent+t.Sent, read+t.Read
			}
		}
	}
	b.ReportMetric(float64(events())/float64(touches), "events/touch")
	b.ReportMetric(float64(logLines(b, logs)-before)/float64(touches), "log-lines/touch")
	b.ReportMetric(float64(touches)/float64(b.N), "touches/op")
	b.ReportMetric(float64(sent+read)/float64(touches), "B/touch")
	b.ReportMetric(b.Elapsed().Seconds()*1000/float64(touches), "ms/touch")
}

// touchEvents counts the events that a connection which came or went causes.
func touchEvents(b *testing.B, nc *nats.Conn) (count func() int64) {
	b.Helper()
	var n atomic.Int64
	for _, subject := range []string{"$SYS.ACCOUNT.*.CONNECT", "$SYS.ACCOUNT.*.DISCONNECT", "$SYS.SERVER.*.CLIENT.AUTH.ERR"} {
		if _, err := nc.Subscribe(subject, func(*nats.Msg) { n.Add(1) }); err != nil {
			b.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		b.Fatal(err)
	}
	return n.Load
}

// logLines counts the lines of all files in a folder.
func logLines(b *testing.B, dir string) int {
	b.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		b.Fatal(err)
	}
	lines := 0
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			b.Fatal(err)
		}
		lines += bytes.Count(text, []byte("\n"))
	}
	return lines
}

// TestTouchedRemedies does what the remedies of proven doors say: by a reload
// where they promise that it is enough, and only by a restart where not.
func TestTouchedRemedies(t *testing.T) {
	t.Parallel()
	const users = `system_account: "$SYS"
accounts {
  $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] }
  APP { users: [ { user: app, password: app }, { user: guest, password: guest } ] }
}
`
	for _, c := range []struct {
		check       string
		cause       posture.Cause
		door        posture.DoorKind
		sick, cured string
	}{
		{
			"DOOR_002", posture.CauseHiddenUser, posture.Websocket,
			sysAccount + "websocket { listen: \"{{addr \"websocket\"}}\", no_tls: true }\n",
			users + "websocket { listen: \"{{addr \"websocket\"}}\", no_tls: true }\n",
		},
		{"DOOR_001", posture.CauseNoAuthUser, posture.Client, users + "no_auth_user: guest\n", users},
		{
			"DOOR_004", posture.CauseLeafNoAuth, posture.Leafnode,
			users + "no_auth_user: guest\nleafnodes { listen: \"{{addr \"leaf\"}}\" }\n",
			users + "no_auth_user: guest\nleafnodes { listen: \"{{addr \"leaf\"}}\", authorization { user: leaf, password: leaf } }\n",
		},
		{
			"DOOR_005", posture.CauseNoRouteAuth, posture.Route,
			users + "cluster { name: c, listen: \"{{addr \"route\"}}\" }\n",
			users + "cluster { name: c, listen: \"{{addr \"route\"}}\", authorization { user: route, password: route } }\n",
		},
		{
			"DOOR_006", posture.CauseNoGatewayAuth, posture.Gateway,
			users + "gateway { name: c, listen: \"{{addr \"gateway\"}}\" }\n",
			users + "gateway { name: c, listen: \"{{addr \"gateway\"}}\", authorization { user: gateway, password: gateway } }\n",
		},
	} {
		t.Run(string(c.cause), func(t *testing.T) {
			t.Parallel()
			f := start(t, fleet.Spec{Name: "n1", Config: c.sick})
			s := f.Server("n1")
			a := toucher(t, connectSys(t, s, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond)))
			fs := found(sweep(t, a), c.check, "n1")
			if len(fs) != 1 || fs[0].Cause != c.cause {
				t.Fatalf("got %+v, want %s for %s", fs, c.check, c.cause)
			}
			err := s.Reload(t.Context(), c.cured)
			var cured bool
			if err == nil {
				cured = len(found(lookTwice(t, a), c.check, "n1")) == 0
			}
			if promised := fs[0].Remediation.Reload; promised != cured {
				t.Errorf("the remedy says reload %v; the server says %v and the finding is gone: %v", promised, err, cured)
			}
			if cured {
				return
			}
			if err := errors.Join(s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the finding is gone after the restart", func() bool {
				state, err := a.Sweep(t.Context(), true)
				return err == nil && outcome(state, c.check, "n1", c.door) == check.Pass && len(found(state, c.check, "n1")) == 0
			})
		})
	}
}

// sunk hands each state to a test.
type sunk chan *agent.State

func (s sunk) Judged(_ context.Context, state *agent.State, _ []finding.Entry) { s <- state }

// TestLateTouches: a running agent does not wait for slow doors. It says what
// it knows, and what the touches bring later brings the next sweep forward.
func TestLateTouches(t *testing.T) {
	t.Parallel()
	f := start(t, clusters(1, 3, sysAccount+"authorization { users: [ { user: app, password: app } ] }\n")...)
	waitActive(t, f, f.Servers()[0], 3)
	states := make(sunk, 100)
	a, err := agent.New(connectSys(t, f.Servers()[0]), agent.Config{
		System: "test", Interval: time.Hour, Probe: agent.Probe{Wait: time.Nanosecond},
	}, agent.WithSink(states))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for timeout := time.After(10 * time.Second); ; {
		select {
		case state := <-states:
			proven := 0
			for _, s := range state.Snapshot.Servers {
				if d := s.Door(posture.Client); d.Access == posture.Closed && d.Basis == posture.Proven {
					proven++
				}
			}
			if proven == 3 {
				if state.Snapshot.Epoch == 1 {
					t.Log("the touches were faster than a nanosecond's wait")
				}
				return
			}
		case <-timeout:
			t.Fatal("the doors were not proven before the next interval")
		}
	}
}

// TestTouchesLeaveGatewaysAlone is the case that TestTouchesLeaveNothing
// leaves out: open gateway ports between two clusters.
func TestTouchesLeaveGatewaysAlone(t *testing.T) {
	t.Parallel()
	gateway := func(own, other string) string {
		return sysAccount + fmt.Sprintf(`gateway { name: %s, listen: "{{addr "gateway"}}", gateways: [
  { name: %s, url: "nats://{{addr %q "gateway"}}" }
] }
`, own, other, other)
	}
	f := start(t, fleet.Spec{Name: "a", Config: gateway("a", "b")}, fleet.Spec{Name: "b", Config: gateway("b", "a")})
	waitActive(t, f, f.Server("a"), 2)
	nc := connectSys(t, f.Server("a"))
	a := toucher(t, nc)
	for _, s := range f.Servers() {
		if _, err := connect(t, s.URL(), nats.IgnoreDiscoveredServers()).Request("$SYS.REQ.USER.INFO", nil, 2*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	sweep(t, auditor(t, nc, collect.Config{})) // what asking alone subscribes to is there already
	before := settled(t, f)
	state := sweep(t, a)
	for _, s := range []string{"a", "b"} {
		if d := door(t, state, s, posture.Gateway); d.Access != posture.Open || d.Basis != posture.Proven {
			t.Errorf("%s: the gateway door is %s (%s): %s", s, d.Access, d.Basis, d.Reason)
		}
	}
	if diff := cmp.Diff(before, settled(t, f)); diff != "" {
		t.Errorf("the touches changed something:\n%s", diff)
	}
}
