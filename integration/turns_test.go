//go:build !windows

package integration

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// replica is an agent that leads when its test says so.
type replica struct {
	*agent.Agent
	judged entries
	turns  chan agent.Turn
}

// entries is a sink that hands entries on, as other agents would find them.
type entries chan []finding.Entry

func (judged entries) Judged(ctx context.Context, _ *agent.State, transitions []finding.Entry) {
	if len(transitions) > 0 {
		select {
		case judged <- transitions:
		case <-ctx.Done():
		}
	}
}

func startReplica(t *testing.T, nc *nats.Conn) *replica {
	t.Helper()
	r := &replica{judged: make(entries, 100), turns: make(chan agent.Turn)}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{
		System: "test", Interval: neverAgain, SessionInterval: neverAgain, WatchInterval: -1, Policy: policy,
		Collect: collect.Config{Timeout: 2 * time.Second},
		Rules:   finding.Rules{Apart: 50 * time.Millisecond, UpdateEvery: time.Nanosecond, FlapCount: 1000},
	}, agent.WithSink(r.judged), agent.WithTurns(r.turns))
	if err != nil {
		t.Fatal(err)
	}
	r.Agent = a
	runs(t, a)
	return r
}

// lead begins a turn, with what another agent has told meanwhile.
func (r *replica) lead(t *testing.T, book ...finding.Entry) {
	t.Helper()
	select {
	case r.turns <- agent.Turn{Lead: true, Book: book}:
	case <-time.After(time.Minute):
		t.Fatal("the agent does not take its turn")
	}
}

// follow ends a turn.
func (r *replica) follow(t *testing.T) {
	t.Helper()
	r.turns <- agent.Turn{}
	eventually(t, "another agent leads", func() bool { return !r.Leading() })
}

// told waits for a transition of a server's client door.
func (r *replica) told(t *testing.T, server string, action finding.Action) finding.Entry {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		select {
		case told := <-r.judged:
			for _, e := range told {
				f := &e.Finding
				if f.Check != "DOOR_001" || f.Scope.Server != server || f.Action == finding.Updated {
					continue
				}
				if f.Action != action {
					t.Fatalf("%s is told %s: %v", server, f.Action, f.Evidence)
				}
				return e
			}
		case <-deadline:
			t.Fatalf("%s is not told %s", server, action)
		}
	}
}

// silent waits for the verdict of a sweep, before which and with which nothing is
// said of a server's client door.
func (r *replica) silent(t *testing.T, server string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := r.Scan(ctx); err != nil {
		t.Fatal(err)
	}
	for len(r.judged) > 0 {
		for _, e := range <-r.judged {
			if f := &e.Finding; f.Check == "DOOR_001" && f.Scope.Server == server {
				t.Errorf("%s is told %s: %v", server, f.Action, f.Evidence)
			}
		}
	}
}

// by is an entry as another agent has left it.
func by(e finding.Entry, action finding.Action) finding.Entry {
	e.Count++
	e.Finding.Action, e.Finding.ID = action, fmt.Sprintf("of-another-agent-%d", e.Count)
	return e
}

// TestTurnBeginsAnew: what an agent knew when it led last is older than what
// the one that led meanwhile has told, and must not be held against it.
func TestTurnBeginsAnew(t *testing.T) {
	t.Parallel()
	n2 := func(auth string) string { return sysAccount + auth + clustered("c", "n1", "n3") }
	rig := func(t *testing.T) (*replica, *fleet.Fleet) {
		f := start(t,
			fleet.Spec{Name: "n1", Config: sysAccount + appUsersOf + clustered("c", "n2", "n3")},
			fleet.Spec{Name: "n2", Config: n2("")},
			fleet.Spec{Name: "n3", Config: sysAccount + appUsersOf + clustered("c", "n1", "n2"), Binary: binary(t, fleet.Linked)},
		)
		waitActive(t, f, f.Server("n1"), 3)
		return startReplica(t, connectSys(t, f.Server("n1"))), f
	}
	shut := func(t *testing.T, f *fleet.Fleet) {
		t.Helper()
		if err := f.Server("n2").Reload(t.Context(), n2(appUsersOf)); err != nil {
			t.Fatal(err)
		}
	}
	knock := func(t *testing.T, f *fleet.Fleet) {
		t.Helper()
		for range check.DefaultPolicy().FailureBurst + 5 {
			if nc, err := nats.Connect(f.Server("n1").URL(), nats.UserInfo("app", "wrong"), nats.IgnoreDiscoveredServers()); err == nil {
				nc.Close()
				t.Fatal("let in")
			}
		}
	}

	t.Run("an event before the first sweep", func(t *testing.T) {
		t.Parallel()
		r, f := rig(t)
		r.lead(t)
		opened := r.told(t, "n2", finding.Opened)
		r.follow(t)
		shut(t, f)
		freeze(t, f.Server("n3")) // and a sweep takes a while
		r.lead(t, by(opened, finding.Resolved))
		eventually(t, "it leads again", r.Leading)
		if r.State() != nil {
			t.Error("it answers with what it knew before")
		}
		knock(t, f)
		r.silent(t, "n2")
	})

	t.Run("a sweep of the turn before", func(t *testing.T) {
		t.Parallel()
		r, f := rig(t)
		r.lead(t)
		opened := r.told(t, "n2", finding.Opened)
		freeze(t, f.Server("n3"))
		asked := make(chan error, 1)
		go func() {
			_, err := r.Scan(t.Context())
			asked <- err
		}()
		time.Sleep(500 * time.Millisecond) // the others have answered by now; if not, the test sees less
		r.follow(t)
		if err := <-asked; !errors.Is(err, agent.ErrNotLeading) {
			t.Fatal(err)
		}
		shut(t, f)
		r.lead(t, by(opened, finding.Resolved))
		r.silent(t, "n2")
	})

	t.Run("a book that another one has changed", func(t *testing.T) {
		t.Parallel()
		r, f := rig(t)
		r.lead(t)
		opened := r.told(t, "n2", finding.Opened)
		shut(t, f)
		r.lead(t, by(opened, finding.Resolved)) // while it leads
		r.silent(t, "n2")
	})
}

// discretion is a fleet of two. A service decides who comes in at n2, and may change
// its mind without any change that its server would tell of.
func discretion(t *testing.T) (f *fleet.Fleet, welcome *atomic.Bool) {
	t.Helper()
	issuer := must(nkeys.CreateAccount())
	f = start(t,
		fleet.Spec{Name: "n1", Config: sysAccount + appUsersOf + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: `
accounts {
  AUTH { users: [ { user: auth, password: auth-password } ] }
  APP { }
  $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] }
}
authorization { timeout: 3, auth_callout { issuer: ` + must(issuer.PublicKey()) + `, account: AUTH, auth_users: [ auth ] } }
` + clustered("c", "n1")},
	)
	waitActive(t, f, f.Server("n1"), 2)
	welcome = &atomic.Bool{}
	serveCallout(t, f.Server("n2"), nats.UserInfo("auth", "auth-password"), issuer, func(user *jwt.UserClaims) string {
		if !welcome.Load() {
			return ""
		}
		user.Audience = "APP"
		return must(user.Encode(issuer))
	})
	return f, welcome
}

// TestTurnTouchesAnew: what touches found in an earlier turn may have lost its ground.
func TestTurnTouchesAnew(t *testing.T) {
	t.Parallel()
	f, welcome := discretion(t)
	r := startReplica(t, connectSys(t, f.Server("n1")))
	welcome.Store(true)
	r.lead(t)
	opened := r.told(t, "n2", finding.Opened)
	r.follow(t)

	welcome.Store(false)
	r.lead(t, by(opened, finding.Resolved))
	r.silent(t, "n2")
	r.follow(t)

	// The other way it would be the worst that can happen: shut, it would say.
	welcome.Store(true)
	r.lead(t, by(by(opened, finding.Resolved), finding.Opened))
	r.silent(t, "n2")
	time.Sleep(1500 * time.Millisecond) // for the second look, which it takes to end a finding
	r.silent(t, "n2")
}

// TestReconnectTouchesAnew: what came to pass while the agent was cut off was not
// heard.
func TestReconnectTouchesAnew(t *testing.T) {
	t.Parallel()
	f, welcome := discretion(t)
	nc := connectSys(t, f.Server("n1"), nats.IgnoreDiscoveredServers(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	v := keepWatch(t, nc, -1, nil)
	eventually(t, "the door is seen shut", func() bool { return door(t, v.State(), "n2", posture.Client).Access == posture.Closed })
	welcome.Store(true)
	if err := nc.ForceReconnect(); err != nil {
		t.Fatal(err)
	}
	v.told(t, "DOOR_001", "n2", finding.Opened)
}
