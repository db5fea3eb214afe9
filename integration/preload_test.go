package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestAccountsThatAdmitNobody: a real server rejects the users of an account, and
// lint of its configuration, which preloads the account, as well as an audit of
// the server say why.
func TestAccountsThatAdmitNobody(t *testing.T) {
	t.Parallel()
	inAnHour, anHourAgo := time.Now().Add(time.Hour).Unix(), time.Now().Add(-time.Hour).Unix()
	for _, c := range []struct {
		name     string
		make     func(op *fleet.Operator) (account *fleet.Account, preload string) // "": its own JWT
		lint     string                                                            // the check that fails in lint
		cause    posture.Cause
		severity check.Severity
		live     string // the check that fails on the running server
	}{
		{"sound", func(op *fleet.Operator) (*fleet.Account, string) { return must(op.Account("A", nil)), "" }, "", "", 0, ""},
		{"begins in an hour", func(op *fleet.Operator) (*fleet.Account, string) {
			return must(op.Account("A", func(a *jwt.AccountClaims) { a.NotBefore = inAnHour })), ""
		}, "JWT_021", "not-yet", check.Info, "JWT_021"},
		{"no limits at all", func(op *fleet.Operator) (*fleet.Account, string) {
			return must(op.Account("A", func(a *jwt.AccountClaims) { a.Limits = jwt.OperatorLimits{} })), ""
		}, "JWT_021", "limits-absent", check.Warning, "JWT_021"},
		{"no connections", func(op *fleet.Operator) (*fleet.Account, string) {
			return must(op.Account("A", func(a *jwt.AccountClaims) { a.Limits.Conn = 0 })), ""
		}, "JWT_021", "no-connections", check.Info, "JWT_021"},
		// A FULL store does not keep what has expired: on the running server there is no such account.
		{"expired", func(op *fleet.Operator) (*fleet.Account, string) {
			return must(op.Account("A", func(a *jwt.AccountClaims) { a.Expires = anHourAgo })), ""
		}, "JWT_013", "expired", check.Critical, ""},
		{"of another operator", func(*fleet.Operator) (*fleet.Account, string) {
			return must(must(fleet.NewOperator()).Account("A", nil)), ""
		}, "JWT_010", "unknown-issuer", check.Critical, "JWT_010"},
		{"another account's JWT", func(op *fleet.Operator) (*fleet.Account, string) {
			return must(op.Account("A", nil)), must(op.Account("B", nil)).JWT
		}, "JWT_010", "other-account", check.Critical, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			op := must(fleet.NewOperator())
			account, preload := c.make(op)
			config := op.Config(account)
			if preload != "" {
				config = strings.Replace(config, account.JWT, preload, 1)
			}
			tc := truthCase{name: c.name, config: config}
			s := start(t, fleet.Spec{Name: "tried", Config: tc.config}).Server("tried")
			nc, err := nats.Connect(s.URL(), must(account.Login("user")), nats.NoReconnect(), nats.IgnoreDiscoveredServers())
			if err == nil {
				nc.Close()
			}
			if admitted := err == nil; admitted != (c.lint == "") {
				t.Errorf("a user of the account: %v", err)
			}
			for _, r := range lintCase(t, &tc, s).results {
				if r.Check.ID != "JWT_010" && r.Check.ID != "JWT_013" && r.Check.ID != "JWT_021" {
					continue
				}
				if fails := r.Check.ID == c.lint; fails != (r.Outcome == check.Fail) || fails && (r.Cause != c.cause || r.Severity != c.severity || len(r.Evidence) != 1) {
					t.Errorf("lint, %s: %s (%s) %s: %s %v", r.Check.ID, r.Outcome, r.Cause, r.Severity, r.Summary, r.Evidence)
				}
			}
			state := sweep(t, auditor(t, connect(t, s.URL(), auditorOf(&op.System)), collect.Config{Timeout: 20 * time.Second}))
			for _, id := range []string{"JWT_010", "JWT_013", "JWT_021"} {
				if r := said(state, id, account.Public); (r.Outcome == check.Fail) != (id == c.live) || id == c.live && r.Cause != c.cause {
					t.Errorf("live, %s: %s (%s): %s", id, r.Outcome, r.Cause, r.Summary)
				}
			}
		})
	}
}
