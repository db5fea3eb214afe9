package integration

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/collect"
)

// TestLargeFleetsAreAskedById: above a size, a ping would bring all answers
// at once. Then servers are asked by id, and no more of them at a time than
// the window allows.
func TestLargeFleetsAreAskedById(t *testing.T) {
	f := start(t, clusters(2, 3, sysAccount)...)
	waitActive(t, f, f.Servers()[0], 6)
	witness := connectSys(t, f.Servers()[0])
	var pings, direct atomic.Int64
	for subject, count := range map[string]*atomic.Int64{"$SYS.REQ.SERVER.PING.VARZ": &pings, "$SYS.REQ.SERVER.*.VARZ": &direct} {
		if _, err := witness.Subscribe(subject, func(*nats.Msg) { count.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := witness.Flush(); err != nil {
		t.Fatal(err)
	}
	a := auditor(t, connectSys(t, f.Servers()[0]), collect.Config{PingUpTo: 4, Window: 2, Timeout: 5 * time.Second, AskAgain: 2 * time.Second})
	for i := range 3 {
		state := sweep(t, a)
		if state.Snapshot.Heard != 6 || len(state.Snapshot.Gaps) != 0 {
			t.Fatalf("sweep %d: heard %d, gaps %v", i, state.Snapshot.Heard, state.Snapshot.Gaps)
		}
		if state.Snapshot.Took > time.Second {
			t.Errorf("sweep %d took %s: it waited for a timer", i, state.Snapshot.Took)
		}
	}
	// The first sweep cannot know how many there are; the wildcard sees its
	// ping as well.
	const wantPings, wantDirect = 1, 1 + 2*6
	for deadline := time.Now().Add(5 * time.Second); pings.Load() < wantPings || direct.Load() < wantDirect; {
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if p, d := pings.Load(), direct.Load(); p != wantPings || d != wantDirect {
		t.Errorf("%d pings and %d requests by id, want 1 and 12", p, d-p)
	}
}
