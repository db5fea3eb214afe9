package integration

import (
	"slices"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestSilentCallout: nobody answers the server's questions about logins, so no
// login is decided as long as a probe waits. Every listener is tried once, none
// of them waits for the others to time out, and few are tried at once.
func TestSilentCallout(t *testing.T) {
	t.Parallel()
	const issuer = "AAB35RZ7HJSICG7D4IGPYO3CTQPWWGULJXZYD45QAWUKTXJYDI6EO7MV"
	s := start(t, fleet.Spec{Name: "n1", Config: `accounts { AUTH { users [ { user: callout, password: callout } ] }, $SYS { users [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] } }
authorization { timeout: 6, auth_callout { issuer: ` + issuer + `, auth_users: [ callout, ` + sysUser + ` ], account: AUTH } }
websocket { listen: "{{addr "ws"}}", no_tls: true }
leafnodes { listen: "{{addr "leaf"}}", authorization { timeout: 6 } }
cluster { name: c, listen: "{{addr "route"}}", authorization { user: r, password: r } }
http: "{{addr "monitor"}}"
`}).Server("n1")
	a, err := agent.New(connectSys(t, s), agent.Config{System: "test", Rules: prompt, Probe: agent.Probe{Timeout: 2 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	connections := func() uint64 { return must(s.Embedded().Varz(nil)).TotalConnections }
	before := connections()
	state := sweep(t, a)
	if n := connections() - before; n != 2 {
		t.Errorf("%d connections to the client and the websocket listener, want one to each", n)
	}
	type span struct{ from, to time.Time }
	var waited []span
	for _, touch := range state.Snapshot.Server("n1").Touches {
		want := posture.Unknown
		switch touch.Door {
		case posture.Route:
			want = posture.Closed
		case posture.Monitor:
			want = posture.Open
		default:
			waited = append(waited, span{touch.At, touch.At.Add(touch.Took)})
		}
		if touch.Access != want || touch.TimedOut != (want == posture.Unknown) {
			t.Errorf("%s %s: %s (%s %s)", touch.Door, touch.Path, touch.Access, touch.Answer, touch.Reason)
		}
	}
	if len(waited) != 4 { // client, websocket, its path for leafnodes, leafnode
		t.Fatalf("%d listeners wait for the callout", len(waited))
	}
	last := slices.MaxFunc(waited, func(a, b span) int { return a.from.Compare(b.from) })
	first := slices.MinFunc(waited, func(a, b span) int { return a.to.Compare(b.to) })
	if !last.from.Before(first.to) {
		t.Errorf("a listener waited for another one: it was tried from %s on, and that one until %s", last.from, first.to)
	}
	for _, kind := range []posture.DoorKind{posture.Client, posture.Websocket, posture.Leafnode} {
		if d := door(t, state, "n1", kind); d.Access == posture.Closed && d.Basis != posture.Reported || d.Access == posture.Open {
			t.Errorf("%s: %s, %s", kind, d.Access, d.Basis)
		}
	}
}
