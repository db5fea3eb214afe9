package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestCalloutInAConfiguration: a user of the callout's account that logs in beside the
// callout sees what everybody logs in with. Lint says of each configuration what its
// server does.
func TestCalloutInAConfiguration(t *testing.T) {
	t.Parallel()
	issuer, curve := must(must(nkeys.CreateAccount()).PublicKey()), must(must(nkeys.CreateCurveKeys()).PublicKey())
	const secret = "a-secret-of-somebody-else"
	for _, c := range []struct {
		name, more, watcher string
		in, sees            bool // the watcher logs in, and reads the secret
		encrypted, watched  check.Outcome
	}{
		{name: "all accounts go to the callout", encrypted: check.Fail, watched: check.Pass},
		{name: "its account as well", more: "allowed_accounts: [APP, AUTH]", encrypted: check.Fail, watched: check.Pass},
		{name: "its account is left out", more: "allowed_accounts: [APP]", in: true, sees: true, encrypted: check.Fail, watched: check.Fail},
		{name: "its account is left out, and who is there may not listen", more: "allowed_accounts: [APP]", watcher: `, permissions: { subscribe: { deny: "$SYS.>" } }`, in: true, encrypted: check.Fail, watched: check.Pass},
		{name: "its account is left out, and requests are encrypted", more: "allowed_accounts: [APP], xkey: " + curve, in: true, encrypted: check.Pass, watched: check.Pass},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			config := `accounts {
  SYS { users: [ { user: sys, password: sys-password-of-now } ] }
  AUTH { users: [ { user: auth, password: auth-password-of-now }, { user: watcher, password: watcher-password` + c.watcher + ` } ] }
  APP { users: [ { user: app, password: app-password-of-now } ] }
}
system_account: SYS
authorization { timeout: 3, auth_callout { issuer: ` + issuer + `, account: AUTH, auth_users: [ auth, sys ], ` + c.more + " } }\n"
			s := start(t, fleet.Spec{Name: "n1", Config: config}).Server("n1")
			nc, err := nats.Connect(s.URL(), nats.UserInfo("watcher", "watcher-password"), nats.NoReconnect(), nats.Timeout(30*time.Second))
			if c.in != (err == nil) {
				t.Fatalf("the watcher logs in: %v", err)
			}
			if c.in {
				defer nc.Close()
				sub := must(nc.SubscribeSync("$SYS.REQ.USER.AUTH"))
				if err := nc.Flush(); err != nil {
					t.Fatal(err)
				}
				// Nobody answers, so this client is rejected in the end.
				if nc, err := nats.Connect(s.URL(), nats.UserInfo("somebody", secret), nats.NoReconnect(), nats.Timeout(30*time.Second)); err == nil {
					nc.Close()
					t.Error("somebody logs in")
				}
				sees := false
				if m, err := sub.NextMsg(time.Second); err == nil {
					request, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
					sees = err == nil && request.ConnectOptions.Password == secret
				}
				if sees != c.sees {
					t.Errorf("the watcher sees the secret: %v", sees)
				}
			}
			l := lintCase(t, &truthCase{name: c.name}, s)
			got := map[string]check.Result{}
			for _, r := range l.results {
				got[r.Check.ID] = r
			}
			if o := got["JWT_020"].Outcome; o != c.encrypted {
				t.Errorf("JWT_020: %v, want %v: %s", o, c.encrypted, got["JWT_020"].Summary)
			}
			if r := got["PERM_008"]; r.Outcome != c.watched || c.watched == check.Fail && !strings.Contains(r.Summary, "watcher") {
				t.Errorf("PERM_008: %v, want %v: %s", r.Outcome, c.watched, r.Summary)
			}
		})
	}
}
