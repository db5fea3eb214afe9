package integration

import (
	"bufio"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/integration/fleet"
)

// beyond are requests of a user who is not limited to what is named: subjects
// that nobody thought of, and those that act with the power of the account.
var beyond = []string{
	"PUB unthought", "PUB unthought.of", "SUB unthought", "SUB unthought.of", "SUB >", "SUB *.>", "SUB unthought workers",
	"PUB $JS.API.STREAM.CREATE.unthought", "PUB $JS.API.STREAM.DELETE.unthought", "PUB $JS.API.CONSUMER.CREATE.unthought.of",
	"PUB $JS.API.DIRECT.GET.unthought", "PUB $KV.unthought.of", "PUB $SYS.REQ.SERVER.PING.CONNZ", "SUB $SYS.REQ.USER.AUTH",
}

// granted asks a server for all of them without credentials, and returns those
// that it grants.
func granted(t *testing.T, s *fleet.Server) (out []string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr("client"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	answer := func(request string) (violation bool) {
		if _, err := conn.Write([]byte(request + "PING\r\n")); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := r.ReadString('\n')
			switch {
			case err != nil:
				t.Fatalf("%q: %v", request, err)
			case strings.HasPrefix(line, "PONG"):
				return violation
			}
			violation = violation || strings.HasPrefix(line, "-ERR 'Permissions Violation")
		}
	}
	answer("CONNECT {\"lang\": \"test\"}\r\n")
	for _, b := range beyond {
		request := b + " 0\r\n\r\n" // an empty message, or a subscription by the id 0
		if strings.HasPrefix(b, "SUB") {
			request = b + " 0\r\nUNSUB 0\r\n"
		}
		if !answer(request) {
			out = append(out, b)
		}
	}
	return out
}

// TestRestrictedGuest holds what the agent and lint say of an anonymous user's
// permissions against what a real server grants him.
func TestRestrictedGuest(t *testing.T) {
	t.Parallel()
	const sub = `, subscribe: ["public.>", "_INBOX.>"]`
	for _, c := range []struct {
		name, permissions string
		unseen            bool // the agent cannot see it without guessing a name
	}{
		{"none", "", false},
		{"empty block", "{}", false},
		{"subjects by name", `{publish: "public.>"` + sub + `}`, false},
		{"subjects by name, and its own name", `{publish: ["public.>", "$SYS.REQ.USER.INFO"]` + sub + `}`, false},
		{"subjects by name, no inbox", `{publish: ["public.>", "$SYS.REQ.USER.INFO"], subscribe: "public.>"}`, false},
		{"everything", `{publish: ">", subscribe: ">"}`, false},
		{"empty lists", `{publish: {allow: []}, subscribe: {allow: []}}`, false},
		{"publishing alone", `{publish: ["x"]}`, false},
		{"subscribing alone", `{subscribe: ["x"]}`, false},
		{"two tokens", `{publish: "*.>"` + sub + `}`, false},
		{"two tokens to hear", `{publish: "x", subscribe: ["*.>"]}`, false},
		{"one token to hear", `{publish: "x", subscribe: ["*"]}`, false},
		{"the API", `{publish: ["$JS.API.>"]}`, false},
		{"the API, and an inbox", `{publish: ["$JS.API.>"]` + sub + `}`, false},
		{"the server", `{publish: ["$SYS.>"]` + sub + `}`, false},
		{"every bucket", `{publish: ["$KV.>", "$SYS.REQ.USER.INFO"]` + sub + `}`, false},
		{"denies a little", `{publish: {deny: ["x"]}, subscribe: {deny: ["y.>"]}}`, false},
		{"denies the server", `{publish: {deny: ["$SYS.>"]}` + sub + `}`, false},
		{"denies the server and JetStream", `{publish: {deny: ["$SYS.>", "$JS.>"]}` + sub + `}`, false},
		{"denies inboxes", `{publish: "x", subscribe: {deny: ["_INBOX.>"]}}`, false},
		{"denies everything", `{publish: {deny: [">"]}, subscribe: {deny: ["*", "*.>"]}}`, false},
		{"a queue group for everything", `{publish: "x", subscribe: ["> workers"]}`, true},
		{"denies a queue group", `{publish: "x", subscribe: {deny: ["> q"]}}`, false},
		{"only answers", `{subscribe: ["public.>"], allow_responses: true}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			permissions := ""
			if c.permissions != "" {
				permissions = ", permissions: " + c.permissions
			}
			s := start(t, fleet.Spec{Name: "n1", Config: jetstream + `accounts {
  $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] }
  APP { jetstream: enabled, users: [ { user: guest, password: guest-password` + permissions + ` } ] }
}
no_auth_user: guest
`}).Server("n1")
			beyond := granted(t, s)
			want := check.Critical
			if len(beyond) == 0 {
				want = check.Warning
			}
			severity, summary := linted001(t, s)
			if severity != want {
				t.Errorf("lint: %s, %s; the server grants %q", severity, summary, beyond)
			}
			if severity, summary = live001(t, s); severity != want && !c.unseen {
				t.Errorf("live: %s, %s; the server grants %q", severity, summary, beyond)
			}
		})
	}
}

// TestGuestOfTheSystem: agent and lint say the same, in the same words, of an
// anonymous user in the system account.
func TestGuestOfTheSystem(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]string{
		"free":       `accounts { $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` }, { user: guest, password: g } ] } }`,
		"restricted": `accounts { $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` }, { user: guest, password: g, permissions: {publish: "x", subscribe: "y"} } ] } }`,
		"named":      `accounts { OPS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` }, { user: guest, password: g } ] }, APP {} }` + "\nsystem_account: OPS",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, fleet.Spec{Name: "n1", Config: config + "\nno_auth_user: guest\n"}).Server("n1")
			lint, lintSays := linted001(t, s)
			live, liveSays := live001(t, s)
			t.Log(lintSays, "|", liveSays)
			if lint != check.Critical || live != check.Critical {
				t.Errorf("lint %s, live %s; want both critical", lint, live)
			}
			_, lintSays, _ = strings.Cut(lintSays, ", as ")
			_, liveSays, _ = strings.Cut(liveSays, ", as ")
			if lintSays != liveSays || !strings.Contains(liveSays, "the system account") {
				t.Errorf("lint %q, live %q", lintSays, liveSays)
			}
		})
	}
}

// linted001 is what lint says of the client port of a server's configuration.
func linted001(t *testing.T, s *fleet.Server) (check.Severity, string) {
	t.Helper()
	f, err := conffile.Read(conffile.Source{Name: s.ConfigFile(), Read: conffile.Disk, Env: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	results := lintedFile(t, f, s).results
	i := slices.IndexFunc(results, func(r check.Result) bool { return r.Check.ID == "DOOR_001" })
	if i < 0 || results[i].Outcome != check.Fail {
		t.Fatalf("lint does not find the client port open: %v", results)
	}
	return results[i].Severity, results[i].Summary
}

// live001 is what the agent says of the client port of a server that runs.
func live001(t *testing.T, s *fleet.Server) (check.Severity, string) {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(connectSys(t, s), agent.Config{System: "test", Policy: policy, Probe: agent.Probe{Timeout: 20 * time.Second}, Rules: prompt})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	state, err := a.Sweep(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	findings := found(state, "DOOR_001", "n1")
	if len(findings) != 1 {
		t.Fatalf("DOOR_001: %v", findings)
	}
	return findings[0].Severity, findings[0].Summary
}
