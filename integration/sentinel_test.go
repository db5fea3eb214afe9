package integration

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// sentinelCase is a configuration whose default_sentinel is given to anonymous
// clients, and what lint says of its client and leafnode listeners.
type sentinelCase struct {
	name           string
	config         func(t *testing.T, op *operator) string
	client, leaf   posture.Access
	why            string // a part of what lint shows for the client listener
	unrestricted   bool   // the anonymous client gets all permissions
	fromOtherHosts bool   // only clients of other machines get in
}

// bearerOf is a bearer user of an account, after a change.
func bearerOf(op *operator, a *fleet.Account, change func(*jwt.UserClaims)) string {
	token, _ := op.user(a, "sentinel", func(c *jwt.UserClaims) {
		c.BearerToken = true
		if change != nil {
			change(c)
		}
	})
	return token
}

// scopedOf is a user whose account's signing key prescribes everything.
func scopedOf(t *testing.T, op *operator, change func(*jwt.UserPermissionLimits)) string {
	t.Helper()
	key, user := must(nkeys.CreateAccount()), must(nkeys.CreateUser())
	public := must(key.PublicKey())
	scope := jwt.NewUserScope()
	scope.Key, scope.Role = public, "guest"
	change(&scope.Template)
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(scope) }); err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(must(user.PublicKey()))
	claims.Name, claims.IssuerAccount = "guest", op.App.Public
	claims.SetScoped(true)
	return must(claims.Encode(key))
}

// account signs the account of the sentinel anew.
func (o *operator) account(change func(*jwt.AccountClaims)) {
	o.t.Helper()
	if err := o.Sign(&o.App, change); err != nil {
		o.t.Fatal(err)
	}
}

func sentinelCases() []sentinelCase {
	const open, closed, unknown = posture.Open, posture.Closed, posture.Unknown
	// In a MEMORY resolver there is nothing but the preload.
	memory := func(issue func(t *testing.T, op *operator) string) func(*testing.T, *operator) string {
		return func(t *testing.T, op *operator) string {
			sentinel := issue(t, op)
			return op.MemoryConfig() + "default_sentinel: " + sentinel + "\n"
		}
	}
	full := func(issue func(t *testing.T, op *operator) string) func(*testing.T, *operator) string {
		return func(t *testing.T, op *operator) string {
			sentinel := issue(t, op)
			return op.Config() + "default_sentinel: " + sentinel + "\n"
		}
	}
	bearer := func(change func(*jwt.UserClaims)) func(*testing.T, *operator) string {
		return func(_ *testing.T, op *operator) string { return bearerOf(op, &op.App, change) }
	}
	ofAccount := func(change func(*jwt.AccountClaims)) func(*testing.T, *operator) string {
		return func(_ *testing.T, op *operator) string {
			op.account(change)
			return bearerOf(op, &op.App, nil)
		}
	}
	bySigner := func(_ *testing.T, op *operator) string {
		must(op.App.SigningKey())
		op.account(nil)
		return bearerOf(op, &op.App, nil)
	}
	scoped := func(change func(*jwt.UserPermissionLimits)) func(*testing.T, *operator) string {
		return func(t *testing.T, op *operator) string { return scopedOf(t, op, change) }
	}
	strict := func(t *testing.T, op *operator) {
		t.Helper()
		must(op.RotateSigningKey())
		err := errors.Join(op.Change(func(c *jwt.OperatorClaims) { c.StrictSigningKeyUsage = true }), op.Sign(&op.System, nil), op.Sign(&op.App, nil))
		if err != nil {
			t.Fatal(err)
		}
	}
	hour := func(n int) int64 { return time.Now().Add(time.Duration(n) * time.Hour).Unix() }
	return []sentinelCase{
		{name: "the identity key", config: memory(bearer(nil)), client: open, leaf: open, unrestricted: true},
		{name: "a signing key", config: memory(bySigner), client: open, leaf: open, unrestricted: true},
		{name: "a signing key, FULL resolver", config: full(bySigner), client: open, leaf: open, unrestricted: true},
		{name: "a signing key that the account does not list", config: memory(func(_ *testing.T, op *operator) string {
			must(op.App.SigningKey())
			sentinel := bearerOf(op, &op.App, nil)
			op.account(func(c *jwt.AccountClaims) { c.SigningKeys = nil })
			return sentinel
		}), client: closed, leaf: closed, why: "does not list"},
		{name: "the identity key, strict operator", config: memory(func(t *testing.T, op *operator) string {
			strict(t, op)
			return bearerOf(op, &op.App, nil)
		}), client: closed, leaf: closed, why: "does not list"},
		{name: "a signing key, strict operator", config: memory(func(t *testing.T, op *operator) string {
			strict(t, op)
			return bySigner(t, op)
		}), client: open, leaf: open, unrestricted: true},

		{name: "a scoped key with bearer", config: memory(scoped(func(l *jwt.UserPermissionLimits) {
			l.BearerToken = true
			l.Pub.Allow.Add("app.{{name()}}.>")
			l.Sub.Allow.Add("app.{{name()}}.>")
		})), client: open, leaf: open},
		{name: "a scoped key with bearer that leaves subscriptions open", config: memory(scoped(func(l *jwt.UserPermissionLimits) {
			l.BearerToken = true
			l.Pub.Allow.Add("app.{{name()}}.>")
		})), client: open, leaf: open, unrestricted: true},
		{name: "a scoped key with bearer and no permissions", config: memory(scoped(func(l *jwt.UserPermissionLimits) { l.BearerToken = true })), client: open, leaf: open, unrestricted: true},
		{name: "a scoped key without bearer", config: memory(scoped(func(l *jwt.UserPermissionLimits) { l.Pub.Allow.Add("app.>") })), client: closed, leaf: closed, why: "signature"},
		{name: "a scoped key whose template is invalid", config: memory(scoped(func(l *jwt.UserPermissionLimits) {
			l.BearerToken = true
			l.Pub.Deny.Add("{{tag(team)}}.>")
		})), client: unknown, leaf: unknown, why: "template"},
		{name: "a scoped key for websockets", config: memory(scoped(func(l *jwt.UserPermissionLimits) {
			l.BearerToken = true
			l.AllowedConnectionTypes.Add(jwt.ConnectionTypeWebsocket)
		})), client: closed, leaf: closed, why: "this way"},
		{name: "no bearer, and a key that is not scoped", config: memory(func(_ *testing.T, op *operator) string {
			must(op.App.SigningKey())
			op.account(nil)
			token, _ := op.user(&op.App, "sentinel", func(c *jwt.UserClaims) { c.SetScoped(true) })
			return token
		}), client: closed, leaf: closed, why: "signature"},
		{name: "a bearer of a scoped key", config: memory(func(_ *testing.T, op *operator) string {
			key := must(nkeys.CreateAccount())
			scope := jwt.NewUserScope()
			scope.Key, scope.Template.BearerToken = must(key.PublicKey()), true
			op.account(func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(scope) })
			claims := jwt.NewUserClaims(must(must(nkeys.CreateUser()).PublicKey()))
			claims.IssuerAccount, claims.BearerToken = op.App.Public, true
			return must(claims.Encode(key))
		}), client: closed, leaf: closed, why: "permissions of its own"},

		{name: "from everywhere, at all times", config: memory(bearer(func(c *jwt.UserClaims) {
			c.Src.Add("0.0.0.0/0")
			c.Times = []jwt.TimeRange{{Start: "00:00:00", End: "12:00:00"}, {Start: "12:00:00", End: "00:00:00"}}
		})), client: open, leaf: open, unrestricted: true, why: "0.0.0.0/0"},
		{name: "from here", config: memory(bearer(func(c *jwt.UserClaims) { c.Src.Add("127.0.0.0/8") })), client: open, leaf: open, unrestricted: true, why: "from 127.0.0.0/8"},
		{name: "from elsewhere", config: memory(bearer(func(c *jwt.UserClaims) { c.Src.Add("10.9.8.0/24") })), client: open, leaf: open, unrestricted: true, fromOtherHosts: true, why: "from 10.9.8.0/24"},
		{name: "ends in an hour", config: memory(bearer(func(c *jwt.UserClaims) { c.Expires = hour(1) })), client: open, leaf: open, unrestricted: true},
		{name: "ended an hour ago", config: memory(bearer(func(c *jwt.UserClaims) { c.Expires = hour(-1) })), client: closed, leaf: closed, why: "expired"},
		{name: "begins in an hour", config: memory(bearer(func(c *jwt.UserClaims) { c.NotBefore = hour(1) })), client: closed, leaf: closed, why: "not valid yet"},
		{name: "begins in an hour, FULL resolver", config: full(bearer(func(c *jwt.UserClaims) { c.NotBefore = hour(1) })), client: closed, leaf: closed, why: "not valid yet"},
		{name: "through a proxy", config: memory(bearer(func(c *jwt.UserClaims) { c.ProxyRequired = true })), client: closed, leaf: closed, why: "proxy"},
		{name: "for leafnodes", config: memory(bearer(func(c *jwt.UserClaims) { c.AllowedConnectionTypes.Add("leafnode", "no such type") })), client: closed, leaf: open, why: "this way"},

		{name: "account ends in an hour", config: memory(ofAccount(func(c *jwt.AccountClaims) { c.Expires = hour(1) })), client: open, leaf: open, unrestricted: true},
		{name: "account ended an hour ago", config: memory(ofAccount(func(c *jwt.AccountClaims) { c.Expires = hour(-1) })), client: closed, leaf: closed, why: "expired"},
		{name: "account ended an hour ago, FULL resolver", config: full(ofAccount(func(c *jwt.AccountClaims) { c.Expires = hour(-1) })), client: unknown, leaf: unknown, why: "expired"},
		{name: "account begins in an hour", config: memory(ofAccount(func(c *jwt.AccountClaims) { c.NotBefore = hour(1) })), client: closed, leaf: closed, why: "not valid yet"},
		{name: "account allows no bearers", config: memory(ofAccount(func(c *jwt.AccountClaims) { c.Limits.DisallowBearer = true })), client: closed, leaf: closed, why: "allows none"},
		{name: "account without connections", config: memory(ofAccount(func(c *jwt.AccountClaims) { c.Limits.Conn = 0 })), client: closed, leaf: open, why: "no connections"},
		{name: "account without leafnodes", config: memory(ofAccount(func(c *jwt.AccountClaims) { c.Limits.LeafNodeConn = 0 })), client: open, leaf: closed, unrestricted: true},
		{name: "account with default permissions", config: memory(ofAccount(func(c *jwt.AccountClaims) {
			c.DefaultPermissions.Pub.Allow.Add("app.>")
			c.DefaultPermissions.Sub.Allow.Add("app.>")
		})), client: open, leaf: open},
		{name: "revoked", config: memory(func(_ *testing.T, op *operator) string {
			sentinel := bearerOf(op, &op.App, nil)
			op.account(func(c *jwt.AccountClaims) {
				c.RevokeAt(must(jwt.DecodeUserClaims(sentinel)).Subject, time.Now().Add(time.Minute))
			})
			return sentinel
		}), client: closed, leaf: closed, why: "revoked"},
		{name: "all of before are revoked", config: memory(func(_ *testing.T, op *operator) string {
			sentinel := bearerOf(op, &op.App, nil)
			op.account(func(c *jwt.AccountClaims) { c.RevokeAt(jwt.All, time.Now().Add(time.Minute)) })
			return sentinel
		}), client: closed, leaf: closed, why: "revoked"},
		{name: "another one is revoked", config: memory(func(_ *testing.T, op *operator) string {
			other := must(must(nkeys.CreateUser()).PublicKey())
			op.account(func(c *jwt.AccountClaims) { c.RevokeAt(other, time.Now().Add(time.Minute)) })
			return bearerOf(op, &op.App, nil)
		}), client: open, leaf: open, unrestricted: true},

		{name: "account not preloaded", config: memory(func(_ *testing.T, op *operator) string {
			return bearerOf(op, must(op.Account("elsewhere", nil)), nil)
		}), client: closed, leaf: closed, why: "not preloaded"},
		{name: "account not preloaded, FULL resolver", config: full(func(_ *testing.T, op *operator) string {
			return bearerOf(op, must(op.Account("elsewhere", nil)), nil)
		}), client: unknown, leaf: unknown, why: "is not in the configuration"},
		{name: "account of another operator", config: memory(func(t *testing.T, op *operator) string {
			other := newOperator(t)
			op.App = other.App
			return bearerOf(op, &op.App, nil)
		}), client: closed, leaf: closed, why: "no operator"},
		{name: "account that is not pinned", config: func(t *testing.T, op *operator) string {
			return memory(bearer(nil))(t, op) + "resolver_pinned_accounts: [" + must(op.Account("other", nil)).Public + "]\n"
		}, client: closed, leaf: closed, why: "pinned"},
		{name: "account that is pinned", config: func(t *testing.T, op *operator) string {
			return memory(bearer(nil))(t, op) + "resolver_pinned_accounts: [" + op.App.Public + "]\n"
		}, client: open, leaf: open, unrestricted: true},
		{name: "another account under its key", config: func(t *testing.T, op *operator) string {
			return strings.Replace(memory(bearer(nil))(t, op), op.App.Public+": "+op.App.JWT, op.App.Public+": "+must(op.Account("other", nil)).JWT, 1)
		}, client: closed, leaf: closed, why: "in whose place"},
	}
}

// TestLintDefaultSentinel holds what lint says of a default_sentinel against the
// server that runs with it, for everything that decides whether it logs in.
func TestLintDefaultSentinel(t *testing.T) {
	t.Parallel()
	for _, c := range sentinelCases() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tc := truthCase{name: c.name, config: c.config(t, newOperator(t)) + leafBlock + "}\n"}
			s := start(t, fleet.Spec{Name: "tried", Config: tc.config}).Server("tried")
			l := lintCase(t, &tc, s)
			for kind, want := range map[posture.DoorKind]posture.Access{posture.Client: c.client, posture.Leafnode: c.leaf} {
				if d := l.server.Door(kind); d.Access != want {
					t.Errorf("lint calls the %s listener %s, want %s: %v %s", kind, d.Access, want, d.Evidence, d.Reason)
				}
			}
			d := l.server.Door(posture.Client)
			if said := d.Evidence[0].Value + " " + d.Reason; !strings.Contains(said, c.why) {
				t.Errorf("lint says %q of the client listener, nothing of %q", said, c.why)
			}
			if d.Access == posture.Open && d.Landing.Restricted == c.unrestricted {
				t.Errorf("restricted is %v", d.Landing.Restricted)
			}
			if c.fromOtherHosts {
				return
			}
			decided := map[string]bool{}
			for _, tr := range lintTruths(t, &tc, l, s) { // fails where lint and the anonymous client disagree
				decided[tr.door] = true
			}
			if !decided[oracle.Client] || !decided[oracle.Leafnode] && inlineSkipped[c.name] == nil {
				t.Errorf("tried: %v", decided)
			}
		})
	}
}
