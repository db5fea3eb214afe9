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
	program := must(buildNatsentry())
	out, err := exec.CommandContext(t.Context(), program, "lint", "--format", "json", "--fail-on", "none", path).Output()
	if err != nil {
		t.Fatalf("natsentry lint: %v", err)
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
			t.Errorf("lint finds %s: %s", f.Check, f.Summary)
		}
	}
}
