package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestProxyProtocol: with proxy_protocol a client may claim any address. A probe sees
// that by the greeting, is accepted or rejected as without it, and lint sees the key.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "off", Config: closedApp + clustered("c", "on", "old", "open")},
		fleet.Spec{Name: "on", Config: closedApp + clustered("c", "off") + "proxy_protocol: true\n"},
		fleet.Spec{Name: "open", Config: sysAccount + appUsersOf + clustered("c", "off") + "proxy_protocol: true\nno_auth_user: app\n"},
		fleet.Spec{Name: "old", Binary: binary(t, "v2.11.17"), Config: closedApp + clustered("c", "off")},
	)
	waitActive(t, f, f.Server("off"), 4)
	state := sweep(t, probing(t, connectSys(t, f.Server("off"))))
	for name, want := range map[string]struct {
		claimed check.Outcome
		access  posture.Access
	}{"off": {check.Pass, posture.Closed}, "on": {check.Fail, posture.Closed}, "open": {check.Fail, posture.Open}, "old": {check.Pass, posture.Closed}} {
		if got := outcome(state, "CONF_008", name, posture.Client); got != want.claimed {
			t.Errorf("CONF_008 of %s: %v, want %v", name, got, want.claimed)
		}
		if d := door(t, state, f.Server(name).ID(), posture.Client); d.Access != want.access || d.Basis != posture.Proven {
			t.Errorf("%s: %s, %s", name, d.Access, d.Basis)
		}
	}

	// A client that sends the header is seen at the address that it claims.
	conn, err := net.Dial("tcp", f.Server("open").Addr("client"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // a failure shows in the reads
	if _, err := fmt.Fprint(conn, "PROXY TCP4 10.9.8.7 10.9.8.1 4000 4222\r\nCONNECT {\"lang\":\"x\",\"verbose\":false,\"name\":\"claims\"}\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	for r := bufio.NewReader(conn); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "PONG") {
			break
		}
	}
	z, err := f.Server("open").Embedded().Connz(&server.ConnzOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if all := string(must(json.Marshal(z.Conns))); !strings.Contains(all, `"ip":"10.9.8.7"`) {
		t.Errorf("the claimed address is not there: %s", all)
	}

	// What lint says of the files of the same servers.
	for name, want := range map[string]check.Outcome{"off": check.Pass, "on": check.Fail} {
		l := lintCase(t, &truthCase{name: name}, f.Server(name))
		got := check.Unknown
		for _, r := range l.results {
			if r.Check.ID == "CONF_008" {
				got = r.Outcome
			}
		}
		if got != want {
			t.Errorf("lint calls CONF_008 of %s %v, want %v", name, got, want)
		}
	}

	// A stranger's own look: the greeting of a release that has no such option says no.
	for name, want := range map[string]posture.Tri{"on": posture.Yes, "off": posture.No, "old": posture.No} {
		p := probe.Prober{}
		if out := p.Touch(t.Context(), probe.Target{Door: posture.Client, Address: f.Server(name).Addr("client")}); out.Claimed != want {
			t.Errorf("%s: %v, want %v", name, out.Claimed, want)
		}
	}
}

// TestLimitsOfAddressesThatAreClaimed: where a user is limited to addresses, claimed
// ones make CONF_008 critical, and findings that rest on addresses say so.
func TestLimitsOfAddressesThatAreClaimed(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	s := start(t, fleet.Spec{Name: "n1", Config: op.MemoryConfig() + "proxy_protocol: true\n"}).Server("n1")
	token, seed := op.user(&op.App, "limited", func(c *jwt.UserClaims) { c.Src.Add("127.0.0.0/8") })
	connect(t, s.URL(), nats.UserJWTAndSeed(token, seed))
	a := probing(t, connect(t, s.URL(), auditorOf(&op.System)))
	var found []check.Result
	eventually(t, "the user's claim is seen", func() bool {
		found = nil
		for _, r := range sweep(t, a).Results {
			if r.Check.ID == "CONF_008" && r.Outcome == check.Fail && r.Severity == check.Critical {
				found = append(found, r)
			}
		}
		return len(found) == 1
	})
	if !strings.Contains(found[0].Summary, "limited to addresses, which keeps nobody out") {
		t.Error(found[0].Summary)
	}
}
