package integration

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// probing is an auditor that probes listeners.
func probing(t *testing.T, nc *nats.Conn) *agent.Agent {
	t.Helper()
	a, err := agent.New(nc, agent.Config{System: "test", Collect: collect.Config{Timeout: 20 * time.Second, Once: true}, Rules: prompt})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// TestExpiredOperator: servers go on with it and admit its users, so that its
// listeners are closed as before; JWT_004 is critical, live and in lint.
func TestExpiredOperator(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	if err := op.Change(func(c *jwt.OperatorClaims) { c.Expires = time.Now().Add(-time.Hour).Unix() }); err != nil {
		t.Fatal(err)
	}
	tc := truthCase{name: "expired operator", config: op.Config()}
	s := start(t, fleet.Spec{Name: "n1", Config: tc.config}).Server("n1")
	connect(t, s.URL(), must(op.App.Login("app")))
	if nc, err := nats.Connect(s.URL(), nats.NoReconnect()); err == nil {
		nc.Close()
		t.Error("an anonymous client is admitted")
	}
	state := sweep(t, probing(t, connect(t, s.URL(), auditorOf(&op.System))))
	if d := state.Snapshot.Servers[0].Door(posture.Client); d.Access != posture.Closed || d.Basis != posture.Proven {
		t.Errorf("the client listener is %s (%s)", d.Access, d.Basis)
	}
	if r := said(state, "JWT_004", op.Claims.Subject); r.Outcome != check.Fail || r.Cause != "expired" || r.Severity != check.Critical {
		t.Errorf("JWT_004 is %s (%s) %s", r.Outcome, r.Cause, r.Severity)
	}
	l := lintCase(t, &tc, s)
	if d := l.server.Door(posture.Client); d.Access != posture.Closed {
		t.Errorf("lint calls the client listener %s", d.Access)
	}
	for _, r := range l.results {
		if r.Check.ID == "JWT_004" && (r.Outcome != check.Fail || r.Cause != "expired") {
			t.Errorf("lint: JWT_004 is %s (%s)", r.Outcome, r.Cause)
		}
	}
}

// TestEverybodyIsRevoked: a revocation of "*" ends the sessions of all users of
// before, so that nobody is left to be found; users of later are admitted.
func TestEverybodyIsRevoked(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	s := start(t, fleet.Spec{Name: "n1", Config: op.Config()}).Server("n1")
	user := connect(t, s.URL(), must(op.App.Login("of before")), nats.NoReconnect())
	nc := connect(t, s.URL(), auditorOf(&op.System))
	a := auditor(t, nc, patient)
	judgeInside(t, sweep(t, a), op.App.Public, map[string]check.Outcome{"SESS_005": check.Pass})
	issued := op.App.Claims.IssuedAt
	eventually(t, "the next claims are later", func() bool { return time.Now().Unix() > issued })
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.RevokeAt(jwt.All, time.Now()) }); err != nil {
		t.Fatal(err)
	}
	push(t, nc, op.App.JWT)
	eventually(t, "the session has ended", func() bool { return !user.IsConnected() })
	revoked := op.App.Claims.IssuedAt
	eventually(t, "the next user is later", func() bool { return time.Now().Unix() > revoked })
	connect(t, s.URL(), must(op.App.Login("of later")))
	judgeInside(t, sweep(t, a), op.App.Public, map[string]check.Outcome{"SESS_005": check.Pass})
}

// TestPushByScopedKey: a user of the system account whose signing key allows
// pushes and nothing else pushes an account, and is restricted.
func TestPushByScopedKey(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	key := must(nkeys.CreateAccount())
	scope := jwt.NewUserScope()
	scope.Key, scope.Role = must(key.PublicKey()), "pusher"
	scope.Template.Pub.Allow.Add("$SYS.REQ.CLAIMS.UPDATE")
	scope.Template.Sub.Allow.Add("_INBOX.>")
	if err := op.Sign(&op.System, func(c *jwt.AccountClaims) { c.SigningKeys.AddScopedSigner(scope) }); err != nil {
		t.Fatal(err)
	}
	s := start(t, fleet.Spec{Name: "n1", Config: op.Config()}).Server("n1")
	user := must(nkeys.CreateUser())
	claims := jwt.NewUserClaims(must(user.PublicKey()))
	claims.Name, claims.IssuerAccount, claims.Expires = "pusher", op.System.Public, time.Now().Add(60*24*time.Hour).Unix()
	claims.SetScoped(true)
	pusher := connect(t, s.URL(), nats.UserJWTAndSeed(must(claims.Encode(key)), string(must(user.Seed()))))
	fresh := must(op.Account("fresh", nil))
	push(t, pusher, fresh.JWT)
	state := sweep(t, auditor(t, connect(t, s.URL(), must(op.System.Login("natsentry"))), patient))
	if r := said(state, "JWT_010", fresh.Public); r.Outcome != check.Pass {
		t.Errorf("JWT_010 of the account that was pushed is %s: %s", r.Outcome, r.Summary)
	}
	// natsentry's own user has the account's defaults, which are left to JWT_015.
	judgeInside(t, state, op.System.Public, map[string]check.Outcome{"JWT_032": check.Pass, "JWT_034": check.NotApplicable})
}

// TestCertificatesBesideJWTs: a server that verifies certificates asks for a JWT
// as well. A certificate alone admits nobody, and no finding says otherwise.
func TestCertificatesBesideJWTs(t *testing.T) {
	t.Parallel()
	op, ca := must(fleet.NewOperator()), newAuthority(t)
	tc := truthCase{name: "verify", config: op.Config() + tlsBlock("verify: true")}
	s := start(t, fleet.Spec{Name: "n1", Config: tc.config, Files: ca.files(365 * 24 * time.Hour)}).Server("n1")
	secure := nats.Secure(ca.client(t, "client"))
	if nc, err := nats.Connect(s.URL(), secure, nats.NoReconnect()); err == nil {
		nc.Close()
		t.Error("a certificate alone is enough")
	}
	connect(t, s.URL(), secure, must(op.App.Login("app")))
	state := sweep(t, probing(t, connect(t, s.URL(), secure, auditorOf(&op.System))))
	lint := lintCase(t, &tc, s)
	for name, d := range map[string]*posture.Door{"live": state.Snapshot.Servers[0].Door(posture.Client), "lint": lint.server.Door(posture.Client)} {
		if d.Access != posture.Closed || d.Cause != "" {
			t.Errorf("%s: the client listener is %s (%s): %v", name, d.Access, d.Cause, d.Evidence)
		}
	}
	for i := range state.Findings {
		if f := &state.Findings[i]; f.Severity > check.Info && f.Check != "JWT_034" {
			t.Errorf("%s %s: %s", f.Severity, f.Check, f.Summary)
		}
	}
}

// TestLeafnodeCredentials: a leafnode that logs in by a user of an account joins
// through a listener that is closed to others.
func TestLeafnodeCredentials(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	f := start(t,
		fleet.Spec{Name: "hub", Config: op.Config() + leafBlock + "}\n"},
		fleet.Spec{Name: "leaf", Files: map[string]string{"app.creds": credsOf(t, &op.App)}, Config: `
leafnodes { remotes: [ { url: "nats-leaf://{{addr "hub" "leafnode"}}", credentials: "{{file "app.creds"}}" } ] }
`},
	)
	hub := f.Server("hub")
	eventually(t, "the leafnode has joined", func() bool { return hub.Embedded().NumLeafNodes() == 1 })
	state := sweep(t, probing(t, connect(t, hub.URL(), auditorOf(&op.System))))
	for _, s := range state.Snapshot.Servers {
		if s.Name != "hub" {
			continue
		}
		if d := s.Door(posture.Leafnode); d.Access != posture.Closed || d.Basis != posture.Proven {
			t.Errorf("the leafnode listener is %s (%s): %v", d.Access, d.Basis, d.Evidence)
		}
	}
	for i := range state.Findings {
		if f := &state.Findings[i]; f.Scope.Server == "hub" && f.Severity > check.Info {
			t.Errorf("%s %s: %s", f.Severity, f.Check, f.Summary)
		}
	}
	// Its user is one of the account, and judged like any other.
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{"JWT_030": check.Fail, "JWT_032": check.Pass, "JWT_034": check.Fail})
}

// TestMQTTLoginByJWT: a device's password is the JWT of a bearer. That does not
// make the listener an open one.
func TestMQTTLoginByJWT(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) {
		c.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	}); err != nil {
		t.Fatal(err)
	}
	s := start(t, fleet.Spec{Name: "n1", Config: jetstream + op.Config() + mqtt + "}\n"}).Server("n1")
	bearer, _ := mustUser(op.App.User("device", func(c *jwt.UserClaims) {
		c.BearerToken = true
		c.AllowedConnectionTypes.Add(jwt.ConnectionTypeMqtt)
	}))
	comeByMQTT(t, s, "device", "anything", bearer)
	state := sweep(t, probing(t, connect(t, s.URL(), auditorOf(&op.System))))
	if d := state.Snapshot.Servers[0].Door(posture.MQTT); d.Access == posture.Open {
		t.Errorf("the MQTT listener is %s: %v", d.Access, d.Evidence)
	}
	// The server shows the name that the device gave, and no JWT: who it is stays
	// unknown, and nothing passes.
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{"JWT_032": check.Unknown, "JWT_030": check.Unknown, "JWT_034": check.Unknown})
}
