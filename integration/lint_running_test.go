package integration

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// drifts compares the file of a server with what it runs, as lint does.
func drifts(t *testing.T, s *fleet.Server, login nats.Option) (*posture.Server, check.Result) {
	t.Helper()
	nc := connect(t, s.URL(), login)
	defer nc.Close()
	a := auditor(t, nc, collect.Config{})
	defer a.Close()
	running := sweep(t, a).Snapshot.Server(s.ID())
	f, err := conffile.Read(conffile.OnDisk(s.ConfigFile()))
	if err != nil {
		t.Fatal(err)
	}
	f.Server.Config.Running = running
	snap := &posture.Snapshot{Config: true, Servers: []*posture.Server{f.Server}}
	for _, r := range check.Evaluate(snap, check.DefaultPolicy()) {
		if r.Check.ID == "CONF_006" {
			return f.Server, r
		}
	}
	t.Fatal("nobody has compared them")
	return nil, check.Result{}
}

// TestLintRunning: what is said of a reload is what becomes of one, and after a
// restart the file is what runs.
func TestLintRunning(t *testing.T) {
	t.Parallel()
	const (
		ws      = `websocket { listen: "{{addr "websocket"}}", no_tls: true`
		mqtt    = "jetstream { store_dir: \"{{dir}}/js\" }\n" + `mqtt { listen: "{{addr "mqtt"}}"`
		leaf    = `leafnodes { listen: "{{addr "leafnode"}}" }`
		cluster = `cluster { name: c, listen: "{{addr "route"}}" }`
		gateway = `gateway { name: g, listen: "{{addr "gateway"}}", authorization { user: g, password: gateway-password } }`
		http    = `http: "{{addr "monitor"}}"`
	)
	op, other := newOperator(t), newOperator(t)
	sys := nats.UserInfo(sysUser, sysPassword)
	for name, c := range map[string]struct {
		from, to string
		refused  string // what is said of it; "" is nothing
		hidden   bool   // a reload is refused for what a server does not show
		same     bool
		login    nats.Option
		after    nats.Option // the login after the restart
	}{
		"the same":                     {from: closedApp, to: closedApp, same: true},
		"a comment":                    {from: closedApp, to: "# hello\n" + closedApp, same: true},
		"another password":             {from: closedApp, to: strings.Replace(closedApp, "app-password", "another-password", 1)},
		"the same in other words":      {from: closedApp + `host: 127.0.0.1`, to: closedApp + `net: 127.0.0.1`},
		"another port":                 {from: closedApp, to: closedApp + `listen: "{{addr "second"}}"`, refused: "the client port is not moved"},
		"any port":                     {from: closedApp, to: closedApp + `listen: "127.0.0.1:-1"`},
		"websocket added":              {from: closedApp, to: closedApp + ws + "}", refused: "the websocket port is not opened"},
		"websocket gone":               {from: closedApp + ws + "}", to: closedApp, refused: "the websocket port is not opened or shut"},
		"websocket moved":              {from: closedApp + ws + "}", to: closedApp + strings.Replace(ws, `"websocket"`, `"second"`, 1) + "}", refused: "the websocket port is not moved"},
		"websocket, no_auth_user":      {from: closedApp + ws + "}", to: closedApp + ws + ", no_auth_user: app }", refused: "no_auth_user of websocket"},
		"websocket, no no_auth_user":   {from: closedApp + ws + ", no_auth_user: app }", to: closedApp + ws + "}", refused: "no_auth_user of websocket"},
		"mqtt, no_auth_user":           {from: closedApp + mqtt + "}", to: closedApp + mqtt + ", no_auth_user: app }", refused: "no_auth_user of mqtt"},
		"mqtt gone":                    {from: closedApp + mqtt + "}", to: closedApp + strings.Split(mqtt, "mqtt {")[0], refused: "the mqtt port is not opened or shut"},
		"leafnodes added":              {from: closedApp, to: closedApp + leaf, refused: "the leafnode port is not opened"},
		"cluster added":                {from: closedApp, to: closedApp + cluster, refused: "the route port is not opened"},
		"gateway added":                {from: closedApp, to: closedApp + gateway, refused: "the gateway port is not opened"},
		"gateway gone":                 {from: closedApp + gateway, to: closedApp, refused: "the gateway port is not opened or shut"},
		"monitoring added":             {from: closedApp, to: closedApp + http, refused: "the monitor port is not opened"},
		"monitoring gone":              {from: closedApp + http, to: closedApp, refused: "the monitor port is not opened or shut"},
		"another name":                 {from: closedApp, to: closedApp + "server_name: another", refused: "the server's name"},
		"another system account":       {from: closedApp, to: strings.Replace(closedApp, `system_account: "$SYS"`, "system_account: APP", 1), refused: "the system account is not changed", after: nats.UserInfo("app", "app-password")},
		"auth callout":                 {from: closedApp, to: closedApp + "authorization { auth_callout { issuer: " + op.App.Public + ", auth_users: [ app ], account: APP } }", hidden: true},
		"leafnodes, authorization":     {from: closedApp + leaf, to: closedApp + strings.Replace(leaf, " }", `, authorization { user: l, password: leaf-password } }`, 1), hidden: true},
		"gateway, another password":    {from: closedApp + gateway, to: closedApp + strings.Replace(gateway, "gateway-password", "another-password", 1), hidden: true},
		"profiling":                    {from: closedApp, to: closedApp + "prof_port: -1", hidden: true},
		"no_auth_user":                 {from: closedApp, to: closedApp + "no_auth_user: app", hidden: true},
		"operator":                     {from: closedApp, to: op.MemoryConfig(), refused: "operator mode is not turned on", after: op.login(&op.System, "auditor", nil)},
		"no operator any more":         {from: op.MemoryConfig(), to: closedApp, refused: "operator mode is not turned on or off", login: op.login(&op.System, "auditor", nil), after: sys},
		"another operator":             {from: op.MemoryConfig(), to: other.MemoryConfig(), refused: "operators are not changed", login: op.login(&op.System, "auditor", nil), after: other.login(&other.System, "auditor", nil)},
		"a token instead of accounts":  {from: closedApp, to: "authorization { token: token-of-the-tests }"},
		"does not start with the file": {from: closedApp, to: closedApp + "no_auth_user: nobody", refused: "would not start with it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.login == nil {
				c.login = sys
			}
			if c.after == nil {
				c.after = c.login
			}
			s := start(t, fleet.Spec{Name: "n1", Config: c.from}).Server("n1")
			if err := s.Rewrite(c.to); err != nil {
				t.Fatal(err)
			}
			file, r := drifts(t, s, c.login)
			if (r.Outcome == check.Pass) != c.same || r.Outcome == check.Unknown {
				t.Fatalf("%s: %s", r.Outcome, r.Summary)
			}
			if len(file.Config.ReloadUntold()) == 0 && c.hidden {
				t.Error("it is not told that a reload may be refused for what is not shown")
			}
			var said []string
			for _, why := range file.ReloadRefused() {
				said = append(said, why.Text)
			}
			if text := strings.Join(said, "; "); (text == "") != (c.refused == "") || !strings.Contains(text, c.refused) || len(said) > 1 {
				t.Errorf("said of a reload: %q, want %q", said, c.refused)
			}
			err := s.Reload(t.Context(), c.to)
			if (err != nil) != (c.refused != "" || c.hidden) {
				t.Errorf("the reload: %v", err)
			}
			if len(file.Config.Refused) > 0 || strings.Contains(c.to, "token:") || strings.Contains(c.to, "auth_callout") {
				return // nobody can ask then
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, r := drifts(t, s, c.after); r.Outcome != check.Pass {
				t.Errorf("after a restart: %s: %s", r.Outcome, r.Summary)
			}
		})
	}
}

// TestLintRunningOldServers: each release has its own idea of what counts for the
// digest.
func TestLintRunningOldServers(t *testing.T) {
	t.Parallel()
	config := closedApp + "app_limit: 70000\nmax_subscriptions: $app_limit\ninclude \"more.conf\"\n"
	files := map[string]string{"more.conf": "lame_duck_duration: \"31s\" # <&>\nmax_payload: 1MB\n"}
	for _, c := range []struct {
		version string
		want    check.Outcome
	}{{"v2.10.29", check.Unknown}, {"v2.11.17", check.Pass}, {"v2.14.5", check.Pass}, {fleet.Linked, check.Pass}} {
		t.Run(c.version, func(t *testing.T) {
			t.Parallel()
			s := start(t, fleet.Spec{Name: "n1", Config: config, Files: files, Binary: binary(t, c.version)}).Server("n1")
			sys := nats.UserInfo(sysUser, sysPassword)
			if _, r := drifts(t, s, sys); r.Outcome != c.want {
				t.Errorf("%s: %s", r.Outcome, r.Summary)
			}
			if err := s.Rewrite(strings.Replace(config, "limit: 70000", "limit: 80000", 1)); err != nil {
				t.Fatal(err)
			}
			if _, r := drifts(t, s, sys); c.want == check.Pass && r.Outcome != check.Fail || c.want == check.Unknown && r.Outcome != check.Unknown {
				t.Errorf("changed: %s: %s", r.Outcome, r.Summary)
			}
		})
	}
}
