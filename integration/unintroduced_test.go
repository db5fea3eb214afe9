package integration

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestLockoutOfThoseWhoHaveNotSpoken: a connection that has sent no CONNECT, such as a
// client with an nkey that finds a server without a nonce, may bring credentials yet.
// One that has subscribed without a CONNECT brings none.
func TestLockoutOfThoseWhoHaveNotSpoken(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "hub", Config: hub}, fleet.Spec{Name: "open", Config: remote("leaf-sys", "$SYS")})
	waitActive(t, f, f.Server("hub"), 2)
	open := f.Server("open")
	raw := func(says, until string) {
		t.Helper()
		conn, err := net.Dial("tcp", open.Addr("client"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, says); err != nil {
			t.Fatal(err)
		}
		for in := bufio.NewReader(conn); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, until) {
				return
			}
		}
	}
	for range 3 {
		raw("", "INFO")
	}
	raw("SUB x 1\r\nPING\r\n", "PONG")
	connect(t, open.URL(), nats.Name("nobody"))
	a := auditor(t, connectSys(t, f.Server("hub")), collect.Config{})
	for _, name := range inside.Plans() {
		plan, _ := inside.Plan(name)
		state := sweep(t, a)
		var hung, rejected int
		for _, p := range plan.Lockout(state.Snapshot.Servers, state.Snapshot.Servers) {
			switch {
			case p.Server != "open" || p.Door != posture.Client:
			case strings.HasPrefix(p.Why, "it has not introduced itself"):
				hung += p.Count
				if p.Verdict != inside.Unknown || p.Login != posture.LoginUnknown || !p.Weak {
					t.Errorf("%s: %+v", name, p)
				}
			default:
				rejected += p.Count
				if name != "jwt" && p.Verdict != inside.Rejected {
					t.Errorf("%s: %+v", name, p)
				}
			}
		}
		if hung != 3 || rejected != 2 {
			t.Errorf("%s: %d have not spoken, want 3; %d others, want 2", name, hung, rejected)
		}
	}
}
