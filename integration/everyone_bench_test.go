//go:build linux

package integration

import (
	"encoding/base64"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// How many clients BenchmarkEveryone connects. Each takes a file of this process
// and one of the server's.
var connections = flag.Int("connections", 1000, "clients of BenchmarkEveryone")

// BenchmarkEveryone measures what it costs to ask one server, in a process of its
// own, who is inside: with users of the configuration, and with as many JWT users.
// docs/cost.md shows its numbers; agent/collect holds the estimates to compare
// with.
//
//	server-ms/op    CPU of the server for one answer
//	server-us/conn  the same for one connection
//	of-estimate     the same as a part of what the budget takes for granted
//	wire-B/conn     of the answer, compressed
//	agent-ms/op     CPU of this process for one answer
//	kept-B/conn     that this process keeps of a session
//	made-B/conn     that it allocates meanwhile
//	claims-ms/op    CPU of the server for one look at all accounts, in operator mode
//	claims-B/op     of the answers to that
func BenchmarkEveryone(b *testing.B) {
	b.Run("passwords", func(b *testing.B) {
		config := closedApp + "ping_interval: \"1h\"\nmax_connections: 100000\n"
		crowd(b, config, nats.UserInfo(sysUser, sysPassword), func(int) func(string) map[string]any {
			return says(map[string]any{"user": "app", "pass": "app-password"})
		})
	})
	b.Run("jwts", func(b *testing.B) {
		op := must(fleet.NewOperator())
		config := op.Config() + "ping_interval: \"1h\"\nmax_connections: 100000\n"
		crowd(b, config, must(op.System.Login("natsentry")), func(int) func(string) map[string]any {
			token, seed, err := op.App.User("user", nil)
			if err != nil {
				b.Fatal(err)
			}
			return func(nonce string) map[string]any {
				sig := must(must(nkeys.FromSeed([]byte(seed))).Sign([]byte(nonce)))
				return map[string]any{"jwt": token, "sig": base64.RawURLEncoding.EncodeToString(sig)}
			}
		})
	})
}

// crowd fills a server and measures how it is asked.
func crowd(b *testing.B, config string, sys nats.Option, login func(int) func(string) map[string]any) {
	f := start(b, fleet.Spec{Name: "n1", Binary: binary(b, fleet.Linked), Config: config})
	s := f.Server("n1")
	arrive(b, s, login)
	nc := connect(b, s.URL(), sys, nats.CustomInboxPrefix(auditInbox))
	c := must(collect.New(nc, collect.Config{System: "test", Timeout: 30 * time.Second}))
	b.Cleanup(c.Close)
	snap := must(c.Sweep(b.Context(), nil, collect.Options{}))
	srv := snap.Server("n1")
	if srv == nil || srv.Connections != *connections+1 {
		b.Fatalf("the server counts %+v", srv)
	}
	c.WatchCost()

	var server, agent time.Duration
	var kept, made int64
	for b.Loop() {
		var before, during, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		serverBefore, agentBefore := processCPU(b, s.Pid()), ownCPU(b)
		sessions, gap, err := c.Everyone(b.Context(), snap, srv)
		server += processCPU(b, s.Pid()) - serverBefore
		agent += ownCPU(b) - agentBefore
		runtime.ReadMemStats(&during)
		if err != nil || gap != nil || len(sessions.List) != *connections+1 || sessions.Total != len(sessions.List) {
			b.Fatalf("%d of %d sessions, %v, %v", len(sessions.List), sessions.Total, gap, err)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		kept += int64(after.HeapAlloc) - int64(before.HeapAlloc)
		made += int64(during.TotalAlloc - before.TotalAlloc)
		runtime.KeepAlive(sessions)
	}
	n := float64(b.N)
	each := n * float64(*connections)
	b.ReportMetric(server.Seconds()*1000/n, "server-ms/op")
	b.ReportMetric(server.Seconds()*1e6/each, "server-us/conn")
	b.ReportMetric(server.Seconds()/n/collect.EveryoneCost(srv).Seconds(), "of-estimate")
	b.ReportMetric(float64(c.WatchCost().Bytes)/each, "wire-B/conn")
	b.ReportMetric(agent.Seconds()*1000/n, "agent-ms/op")
	b.ReportMetric(float64(kept)/each, "kept-B/conn")
	b.ReportMetric(float64(made)/each, "made-B/conn")
	switch srv.AuthMode {
	case posture.AuthUnknown:
		b.Error("the server's mode is not known")
	case posture.AuthOperator:
		lookAtClaims(b, c, snap, s)
	case posture.AuthNone, posture.AuthStatic:
	}
}

// lookAtClaims measures what a look at all accounts takes from the same server.
func lookAtClaims(b *testing.B, c *collect.Collector, snap *posture.Snapshot, s *fleet.Server) {
	b.Helper()
	b.StopTimer()
	c.WatchCost()
	before := processCPU(b, s.Pid())
	for range b.N {
		trust := must(c.LookAtAccounts(b.Context(), snap, nil))
		if len(trust.Accounts) != 2 || trust.Left != 0 || len(trust.Gaps) != 0 {
			b.Fatalf("%d accounts, %d left, gaps %v", len(trust.Accounts), trust.Left, trust.Gaps)
		}
	}
	n := float64(b.N)
	b.ReportMetric((processCPU(b, s.Pid())-before).Seconds()*1000/n, "claims-ms/op")
	b.ReportMetric(float64(c.WatchCost().Bytes)/n, "claims-B/op")
}

// arrive connects all clients, some at a time.
func arrive(b *testing.B, s *fleet.Server, login func(int) func(string) map[string]any) {
	b.Helper()
	const atATime = 32
	work := make(chan int)
	var wg sync.WaitGroup
	for range atATime {
		wg.Go(func() {
			for i := range work {
				come(b, s, fmt.Sprintf("client-%d", i), login(i))
			}
		})
	}
	for i := range *connections {
		work <- i
	}
	close(work)
	wg.Wait()
}

// processCPU is the time that all threads of a process have run.
func processCPU(b *testing.B, pid int) time.Duration {
	b.Helper()
	tasks := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)))
	var sum time.Duration
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		sum += time.Duration(must(strconv.ParseInt(ran, 10, 64)))
	}
	if sum == 0 {
		b.Fatal("this kernel does not tell what threads have run")
	}
	return sum
}

// ownCPU is the time that this process has run.
func ownCPU(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
