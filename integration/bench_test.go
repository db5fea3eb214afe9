package integration

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/integration/fleet"
)

// clusters builds a super-cluster: n clusters of m servers each.
func clusters(n, m int, config string) []fleet.Spec {
	name := func(c, i int) string { return fmt.Sprintf("c%d-n%d", c, i) }
	var gateways strings.Builder
	for c := range n {
		fmt.Fprintf(&gateways, "    {name: c%d, url: \"nats://{{addr %q \"gateway\"}}\"}\n", c, name(c, 0))
	}
	var specs []fleet.Spec
	for c := range n {
		var routes strings.Builder
		for i := range m {
			fmt.Fprintf(&routes, "    \"nats://{{addr %q \"route\"}}\"\n", name(c, i))
		}
		for i := range m {
			specs = append(specs, fleet.Spec{Name: name(c, i), Config: config + fmt.Sprintf(`
cluster { name: c%d, listen: "{{addr "route"}}", pool_size: -1, routes: [
%s] }
gateway { name: c%d, listen: "{{addr "gateway"}}", gateways: [
%s] }
`, c, routes.String(), c, gateways.String())})
		}
	}
	return specs
}

// BenchmarkSweep measures one sweep of a fleet of 30 servers, evaluation
// included, against the floor of the same requests: all sent at once, every
// answer read and none decoded. Both are measured in turn within one run, so
// that their ratio means something on a noisy machine.
//
//	full-ms/op     everything is asked for, topology included
//	steady-ms/op   nothing moved since the last sweep
//	full/floor     the ratio that counts
//	B/server       allocated by a full sweep, per server
func BenchmarkSweep(b *testing.B) {
	const n, m = 5, 6
	f := start(b, clusters(n, m, sysAccount)...)
	waitActive(b, f, f.Servers()[0], n*m)
	nc := connectSys(b, f.Servers()[0])
	full := auditor(b, nc, collect.Config{Topology: 1, Timeout: 10 * time.Second})
	steady := auditor(b, nc, collect.Config{Topology: 1 << 30, Timeout: 10 * time.Second})
	for range 3 { // the connections between fresh servers settle
		sweepWhole(b, full, n*m)
		sweepWhole(b, steady, n*m)
	}
	requests := full.State().Snapshot.Cost.Requests
	subjects := []string{"STATSZ", "VARZ", "ROUTEZ", "GATEWAYZ", "LEAFZ"}
	if requests != len(subjects) {
		b.Fatalf("a full sweep sent %d requests, the floor sends %d", requests, len(subjects))
	}

	var floorTime, fullTime, steadyTime time.Duration
	var allocated uint64
	for b.Loop() {
		floorTime += floor(b, nc, subjects, n*m)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		sweepWhole(b, full, n*m)
		fullTime += time.Since(began)
		runtime.ReadMemStats(&after)
		allocated += after.TotalAlloc - before.TotalAlloc
		began = time.Now()
		sweepWhole(b, steady, n*m)
		steadyTime += time.Since(began)
	}
	perOp := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(b.N) }
	b.ReportMetric(perOp(floorTime), "floor-ms/op")
	b.ReportMetric(perOp(fullTime), "full-ms/op")
	b.ReportMetric(perOp(steadyTime), "steady-ms/op")
	b.ReportMetric(fullTime.Seconds()/floorTime.Seconds(), "full/floor")
	// The servers are embedded: what they allocate meanwhile is in it too.
	b.ReportMetric(float64(allocated)/float64(b.N)/(n*m), "B/server")
}

// sweepWhole sweeps without sessions and insists that all servers answered.
func sweepWhole(b *testing.B, a *agent.Agent, servers int) {
	b.Helper()
	state, err := a.Sweep(b.Context(), false)
	if err != nil {
		b.Fatal(err)
	}
	if state.Snapshot.Heard != servers || len(state.Snapshot.Gaps) != 0 {
		b.Fatalf("heard %d of %d, gaps %v", state.Snapshot.Heard, servers, state.Snapshot.Gaps)
	}
}

// floor pings all subjects at once and reads every answer.
func floor(b *testing.B, nc *nats.Conn, subjects []string, servers int) time.Duration {
	b.Helper()
	began := time.Now()
	inbox := nc.NewInbox()
	answers := make(chan *nats.Msg, len(subjects)*servers)
	sub, err := nc.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range subjects {
		if err := nc.PublishRequest("$SYS.REQ.SERVER.PING."+s, inbox+"."+s, nil); err != nil {
			b.Fatal(err)
		}
	}
	timeout := time.NewTimer(10 * time.Second)
	defer timeout.Stop()
	for range len(subjects) * servers {
		select {
		case <-answers:
		case <-timeout.C:
			b.Fatal("the floor itself lost answers")
		}
	}
	took := time.Since(began)
	if err := sub.Unsubscribe(); err != nil {
		b.Fatal(err)
	}
	return took
}

// BenchmarkAccounts is a look at all accounts of a cluster in operator mode, each
// of them loaded by each server: what `natsentry run` does every five minutes.
func BenchmarkAccounts(b *testing.B) {
	for _, accounts := range []int{10, 100} {
		b.Run(fmt.Sprintf("%d-accounts-3-servers", accounts), func(b *testing.B) {
			op := tidyOperator(b)
			others := make([]*fleet.Account, accounts-2)
			for i := range others {
				others[i] = must(op.Account(fmt.Sprintf("A%d", i), nil))
				tidyAccount(b, op, others[i], nil)
			}
			names := []string{"n1", "n2", "n3"}
			specs := make([]fleet.Spec, len(names))
			for i, name := range names {
				peers := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
				specs[i] = fleet.Spec{Name: name, Config: op.Config(others...) + clustered("c", peers...)}
			}
			f := start(b, specs...)
			if err := f.WaitActive(b.Context(), f.Server("n1").URL(), len(names), auditorOf(&op.System)); err != nil {
				b.Fatal(err)
			}
			for _, s := range f.Servers() {
				for _, a := range append(others, &op.App) {
					must(s.Embedded().LookupAccount(a.Public))
				}
			}
			c := must(collect.New(connect(b, f.Server("n1").URL(), auditorOf(&op.System)), collect.Config{System: "bench"}))
			defer c.Close()
			snap := must(c.Sweep(b.Context(), nil, collect.Options{}))
			c.WatchCost()
			for b.Loop() {
				trust := must(c.LookAtAccounts(b.Context(), snap, nil))
				if len(trust.Accounts) != accounts || trust.Left != 0 || len(trust.Gaps) != 0 {
					b.Fatalf("%d accounts, %d left, gaps %v", len(trust.Accounts), trust.Left, trust.Gaps)
				}
			}
			cost := c.WatchCost()
			b.ReportMetric(float64(cost.Requests)/float64(b.N), "requests/op")
			b.ReportMetric(float64(cost.Bytes)/float64(b.N), "bytes/op")
		})
	}
}
