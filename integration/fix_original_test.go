package integration

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// What natsentry fix does with a configuration that has something already: what
// must stay is carried over, what is replaced is named, and no name is enough to
// log in any more.

// amended is a configuration to fix, and how.
type amended struct {
	name, modes string
	args        []string
	config      string
	deletes     []string          // keys that the steps name
	logins      map[string]string // users with a new password, and their account
	keeps       map[string]string // users with the password that they had
	refuses     []string          // names that were enough to log in before
	open        bool              // anonymous clients are accepted before
	timeout     time.Duration     // of authentication, which must stay
	chosen      []string          // findings of what the user wrote
}

func amendments() []amended {
	const (
		nameOnly = `authorization {
  timeout: 5
  users: [
    { user: app }
    { user: other, password: "other-password-of-tests" }
  ]
}
no_auth_user: app
`
		inAccounts = `
accounts {
  ORDERS { users: [ { user: app, permissions: { publish: "a.>", subscribe: "_INBOX.>" } }, { user: empty, password: "" } ] }
  SYS { users: [ { user: sys, password: "sys-password-of-the-tests" } ] }
}
system_account: SYS
no_auth_user: app
`
	)
	return []amended{
		{
			name: "no-auth-user-without-password", modes: "no-auth-user", config: nameOnly, open: true, deletes: []string{"no_auth_user"},
			logins: map[string]string{"app": "$G"}, keeps: map[string]string{"other": "other-password-of-tests"}, refuses: []string{"app"}, timeout: 5 * time.Second,
			chosen: []string{"CRED_002", "CRED_004"}, // the password of other, and that both may do everything
		},
		{
			name: "no-auth-user-in-accounts", modes: "no-auth-user", config: inAccounts, open: true, deletes: []string{"no_auth_user"},
			logins: map[string]string{"app": "ORDERS", "empty": "ORDERS"}, keeps: map[string]string{"sys": "sys-password-of-the-tests"}, refuses: []string{"app", "empty"},
			timeout: 2 * time.Second, chosen: []string{"CRED_002", "CRED_004"},
		},
		{
			name: "users-replace-a-guest", modes: "users", config: nameOnly, open: true, deletes: []string{"authorization", "no_auth_user"},
			logins: map[string]string{"app": "$G", "app-2": "$G", "sys": "$SYS"}, keeps: map[string]string{"other": "other-password-of-tests"}, refuses: []string{"app"},
			timeout: 5 * time.Second, chosen: []string{"CRED_002", "CRED_004"},
		},
		{
			name: "timeout", modes: "users", config: "authorization { timeout: 5 }\n", open: true, deletes: []string{"authorization"},
			logins: map[string]string{"app": "$G", "sys": "$SYS"}, timeout: 5 * time.Second,
		},
		{
			name: "default-permissions", modes: "nkey", open: true, deletes: []string{"SUBJECT", "authorization"},
			config: "SUBJECT: \"a.>\"\nauthorization { default_permissions: { publish: $SUBJECT, subscribe: \"_INBOX.>\" } }\n", timeout: 2 * time.Second,
		},
		{
			name: "two-users-of-an-account", modes: "nkey", config: inAccounts, open: true, deletes: []string{"no_auth_user"},
			logins: map[string]string{"app": "ORDERS", "empty": "ORDERS"}, refuses: []string{"app", "empty"}, timeout: 2 * time.Second, chosen: []string{"CRED_002", "CRED_004"},
		},
	}
}

// withoutKeys deletes keys from a configuration that has each in lines of its own.
func withoutKeys(t *testing.T, config string, keys []string) string {
	t.Helper()
	for _, key := range keys {
		pattern := regexp.MustCompile(`(?m)^` + key + `(:.*$| \{(?s:.*?)^\}$| \{.*\}$)\n`)
		next := pattern.ReplaceAllString(config, "")
		if next == config {
			t.Fatalf("there is no %s in\n%s", key, config)
		}
		config = next
	}
	return config
}

var deleteLine = regexp.MustCompile(`(?m)^     \S+nats\.conf:\d+  (\S+)$`)

// TestFixOfAnOriginal follows the steps that are printed, on a real server.
func TestFixOfAnOriginal(t *testing.T) {
	t.Parallel()
	for _, c := range amendments() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "nats.conf")
			if err := os.WriteFile(path, []byte(c.config), 0o600); err != nil {
				t.Fatal(err)
			}
			dir, printed := runFixOf(t, append([]string{"--mode", c.modes, "--config", path}, c.args...)...)
			var deletes []string
			for _, m := range deleteLine.FindAllStringSubmatch(printed, -1) {
				deletes = append(deletes, m[1])
			}
			if !slices.Equal(deletes, c.deletes) {
				t.Errorf("it says to delete %q, not %q:\n%s", deletes, c.deletes, printed)
			}
			if n := strings.Count(printed, "disconnects every client"); n > 1 {
				t.Errorf("it says %d times that clients are disconnected:\n%s", n, printed)
			}
			files := readFix(t, dir)
			s := start(t, fleet.Spec{Name: "n1", Config: c.config, Files: files}).Server("n1")
			if c.open != stay(t, s.URL()) {
				t.Errorf("an anonymous client is accepted before: %v", !c.open)
			}
			for _, name := range c.refuses {
				if !nameIsEnough(t, s, name) {
					t.Errorf("the name of %s is not enough before", name)
				}
			}
			fixed := withoutKeys(t, c.config, c.deletes)
			fixed = strings.Replace(fixed, ", password: \"\"", "", 1)
			for name := range files {
				if user, ok := strings.CutSuffix(name, ".user.conf"); ok {
					fixed = regexp.MustCompile(`(user: `+user+`\b[^{}]*(?:\{[^{}]*\}[^{}]*)?)\}`).ReplaceAllString(fixed, "$1\ninclude \""+name+"\"\n}")
				}
			}
			fixed += "include \"auth.conf\"\n"
			if err := errors.Join(s.Rewrite(fixed), s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
				t.Fatalf("%v\n%s", err, fixed)
			}
			if stay(t, s.URL()) {
				t.Error("an anonymous client is accepted")
			}
			for _, name := range c.refuses {
				if nameIsEnough(t, s, name) {
					t.Errorf("the name of %s is enough to log in", name)
				}
			}
			for user, account := range c.logins {
				password := writtenPassword(t, dir, user)
				if got := accountOf(t, s, nats.UserInfo(user, password)); got != account {
					t.Errorf("%s is in %q, not in %s", user, got, account)
				}
			}
			for user, password := range c.keeps {
				accountOf(t, s, nats.UserInfo(user, password))
			}
			varz, err := s.Embedded().Varz(nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := time.Duration(varz.AuthTimeout * float64(time.Second)); got != c.timeout {
				t.Errorf("the timeout of authentication is %s, not %s", got, c.timeout)
			}
			lintsClean(t, s.ConfigFile(), c.chosen...)
		})
	}
}

// nameIsEnough reports whether a user logs in without a password, with an empty
// one, and not by proving anything.
func nameIsEnough(t *testing.T, s *fleet.Server, name string) bool {
	t.Helper()
	nc, err := nats.Connect(s.URL(), nats.UserInfo(name, ""), nats.NoReconnect(), nats.Timeout(20*time.Second))
	if err != nil {
		return false
	}
	nc.Close()
	return true
}

// accountOf is the account of a user who must be able to log in.
func accountOf(t *testing.T, s *fleet.Server, login nats.Option) string {
	t.Helper()
	nc := connect(t, s.URL(), login, nats.NoReconnect(), nats.Timeout(20*time.Second))
	cid := must(nc.GetClientID())
	connz := must(s.Embedded().Connz(&server.ConnzOptions{CID: cid, Username: true}))
	if len(connz.Conns) != 1 {
		t.Fatalf("%d connections %d", len(connz.Conns), cid)
	}
	return cmp.Or(connz.Conns[0].Account, posture.GlobalAccount)
}

// lintsClean: natsentry lint has nothing to say of a configuration but what was
// chosen.
func lintsClean(t *testing.T, path string, chosen ...string) {
	t.Helper()
	saysClean(t, []string{"lint", "--format", "json", "--fail-on", "none", path}, chosen...)
}

// saysClean runs natsentry, which must report nothing but what was chosen.
func saysClean(t *testing.T, args []string, chosen ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), must(buildNatsentry()), args...).Output()
	if err != nil {
		t.Fatalf("natsentry %s: %v\n%s", args[0], err, out)
	}
	var report struct {
		Findings []struct {
			Check, Summary string
			Waived         any
		}
	}
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&report); err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Findings {
		if f.Waived == nil && !slices.Contains(chosen, f.Check) {
			t.Errorf("natsentry %s finds %s: %s", args[0], f.Check, f.Summary)
		}
	}
}

// TestFixIsClean: natsentry itself has nothing to say of what natsentry fix
// writes, neither of the configuration nor of the server that runs with it.
func TestFixIsClean(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		modes, block string
		login        []string // flags of the system user; nil where the mode makes none
		chosen       []string
	}{
		// Passwords are what the mode is about; the proof of callout decides by asking.
		{modes: "users", login: []string{"--user", "sys", "--password"}, chosen: []string{"CRED_002"}},
		{modes: "nkey", login: []string{"--nkey", "secrets/sys.nk"}},
		{modes: "operator", login: []string{"--creds", "secrets/sys.creds"}},
		{modes: "tls-map"},
		{modes: "callout", login: []string{"--user", "sys", "--password"}, chosen: []string{"CRED_002"}},
		{modes: "leafnode", block: "leafnodes", chosen: []string{"DOOR_001"}},
		{modes: "nkey,route", block: "cluster", login: []string{"--nkey", "secrets/sys.nk"}},
		{modes: "nkey,gateway", block: "gateway", login: []string{"--nkey", "secrets/sys.nk"}},
		{modes: "operator,route", block: "cluster", login: []string{"--creds", "secrets/sys.creds"}},
	} {
		t.Run(c.modes, func(t *testing.T) {
			t.Parallel()
			var args []string
			if c.modes == "tls-map" {
				args = []string{"--new-ca"}
			}
			dir, printed := runFixOf(t, append([]string{"--mode", c.modes}, args...)...)
			r := repair{files: readFix(t, dir)}
			for door, b := range blocks {
				if b.name == c.block {
					r.doors = []string{door}
				}
			}
			config := r.config(true)
			if r.files["auth.conf"] == "" {
				config = strings.Replace(config, `include "auth.conf"`, "", 1)
			}
			s := start(t, fleet.Spec{Name: "n1", Config: config, Files: r.files}).Server("n1")
			lintsClean(t, s.ConfigFile(), c.chosen...)
			probes(t, s, printed, c.block)
			if c.login == nil {
				return
			}
			flags := append([]string{"audit", "--server", s.URL(), "--format", "json", "--fail-on", "none", "--loopback-exposed", "--wait", "10s"}, c.login...)
			if last := len(flags) - 1; flags[last] == "--password" {
				flags = append(flags, writtenPassword(t, dir, "sys"))
			} else {
				flags[last] = filepath.Join(dir, filepath.FromSlash(flags[last]))
			}
			if c.modes == "callout" {
				runCallout(t, s, dir)
			}
			saysClean(t, flags, c.chosen...)
		})
	}
}

// probes runs the command that is printed last, with the ports of the server in
// the place of the usual ones. It must find each listener closed.
func probes(t *testing.T, s *fleet.Server, printed, block string) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^     natsentry (probe .*)$`).FindStringSubmatch(printed)
	if m == nil {
		t.Fatalf("no command looks at the end:\n%s", printed)
	}
	command := m[1]
	for usual, label := range map[string]string{"SERVER:4222": oracle.Client, "SERVER:6222": oracle.Route, "SERVER:7222": oracle.Gateway, "SERVER:7422": oracle.Leafnode} {
		if addr := s.Addr(label); addr != "" {
			command = strings.ReplaceAll(command, usual, addr)
		} else {
			command = strings.ReplaceAll(command, " "+usual, "") // a listener that this server does not have
		}
	}
	if block != "" && !strings.Contains(command, s.Addr(map[string]string{"cluster": oracle.Route, "gateway": oracle.Gateway, "leafnodes": oracle.Leafnode}[block])) {
		t.Errorf("it does not look at the port of the block %s: %s", block, m[1])
	}
	if out, err := exec.CommandContext(t.Context(), must(buildNatsentry()), strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}
