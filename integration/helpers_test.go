package integration

import (
	"context"
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

// start runs a fleet for the length of a test.
func start(t testing.TB, specs ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	f, err := fleet.Start(t.Context(), specs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// The system user of the fleets that the tests write.
const (
	sysUser     = "sys"
	sysPassword = "sys-password-of-the-tests"
)

// sysAccount is the part of a configuration that names the system user.
const sysAccount = `accounts { $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] } }
`

func connect(t testing.TB, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func connectSys(t testing.TB, s *fleet.Server, opts ...nats.Option) *nats.Conn {
	t.Helper()
	return connect(t, s.URL(), append([]nats.Option{nats.UserInfo(sysUser, sysPassword)}, opts...)...)
}

// waitActive waits until n servers see each other.
func waitActive(t testing.TB, f *fleet.Fleet, s *fleet.Server, n int) {
	t.Helper()
	if err := f.WaitActive(t.Context(), s.URL(), n, nats.UserInfo(sysUser, sysPassword)); err != nil {
		t.Fatal(err)
	}
}

// prompt rules tell everything at once, except that what ends a finding must be
// seen in two sweeps.
var prompt = finding.Rules{Apart: time.Nanosecond, UpdateEvery: time.Nanosecond, FlapCount: 1000}

// auditor is an agent for one test that is swept by hand and touches nothing.
func auditor(t testing.TB, nc *nats.Conn, cfg collect.Config, opts ...agent.Option) *agent.Agent {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{System: "test", Collect: cfg, Policy: policy, Probe: agent.Probe{Off: true}, Rules: prompt}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// runs runs an agent until its test ends.
func runs(t *testing.T, a *agent.Agent) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func sweep(t testing.TB, a *agent.Agent) *agent.State {
	t.Helper()
	state, err := a.Sweep(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// lookTwice sweeps as often as it takes to see that something has ended.
func lookTwice(t testing.TB, a *agent.Agent) *agent.State {
	t.Helper()
	sweep(t, a)
	return sweep(t, a)
}

// door finds a door and fails the test when it is not there.
func door(t testing.TB, state *agent.State, server string, kind posture.DoorKind) *posture.Door {
	t.Helper()
	s := state.Snapshot.Server(server)
	if s == nil {
		t.Fatalf("no server %s in the snapshot", server)
	}
	d := s.Door(kind)
	if d == nil {
		t.Fatalf("no %s door on %s", kind, server)
	}
	return d
}

// found lists the findings of a check on a server ("" for every scope).
func found(state *agent.State, checkID, server string) []finding.Finding {
	var out []finding.Finding
	for _, f := range state.Findings {
		if f.Check == checkID && (server == "" || f.Scope.Server == server) {
			out = append(out, f)
		}
	}
	return out
}

// outcome is what a check said of one server and door.
func outcome(state *agent.State, checkID, server string, kind posture.DoorKind) check.Outcome {
	for _, r := range state.Results {
		if r.Check.ID == checkID && r.Scope.Server == server && r.Scope.Door == kind {
			return r.Outcome
		}
	}
	return check.Unknown
}
