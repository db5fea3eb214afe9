package integration

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// tidyOperator is an operator of whom, and of whose accounts, nothing is wrong.
func tidyOperator(t testing.TB) *fleet.Operator {
	t.Helper()
	op := must(fleet.NewOperator())
	must(op.RotateSigningKey())
	if err := op.Change(func(c *jwt.OperatorClaims) { c.StrictSigningKeyUsage = true }); err != nil {
		t.Fatal(err)
	}
	for _, a := range []*fleet.Account{&op.System, &op.App} {
		tidyAccount(t, op, a, nil)
	}
	return op
}

// tidyAccount makes an account one of which nothing is wrong, but for the change.
func tidyAccount(t testing.TB, op *fleet.Operator, a *fleet.Account, change func(*jwt.AccountClaims)) {
	t.Helper()
	must(a.SigningKey())
	err := op.Sign(a, func(c *jwt.AccountClaims) {
		c.Limits.DisallowBearer, c.Limits.Conn = true, 1000
		c.DefaultPermissions.Pub.Allow, c.DefaultPermissions.Sub.Allow = jwt.StringList{"$SYS.REQ.>", "app.>"}, jwt.StringList{"_INBOX.>", "$SYS.>", "app.>"}
		if change != nil {
			change(c)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// auditorOf is a user who may do all that an auditor may.
func auditorOf(a *fleet.Account) nats.Option {
	return nats.UserJWTAndSeed(mustUser(a.User("auditor", func(c *jwt.UserClaims) {
		c.Pub.Allow.Add(">")
		c.Sub.Allow.Add(">")
	})))
}

func mustUser(token, seed string, err error) (string, string) {
	if err != nil {
		panic(err)
	}
	return token, seed
}

// said is what a check said of an account or an operator.
func said(state *agent.State, checkID, key string) check.Result {
	for _, r := range state.Results {
		if r.Check.ID == checkID && r.Scope.Account == key {
			return orCommon(state, r)
		}
	}
	return check.Result{}
}

// orCommon is what was said of all accounts, where it was said of one that it has
// something in common with others.
func orCommon(state *agent.State, r check.Result) check.Result {
	for _, s := range state.Results {
		if r.Common && s.Check == r.Check && s.Scope.Kind == check.KindSystem {
			return s
		}
	}
	return r
}

// sharing counts the accounts that a check reports together.
func sharing(state *agent.State, checkID string) int {
	n := 0
	for _, r := range state.Results {
		if r.Check.ID == checkID && r.Common {
			n++
		}
	}
	return n
}

// push hands an account's JWT to all stores.
func push(t testing.TB, nc *nats.Conn, token string) {
	t.Helper()
	m, err := nc.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(token), 5*time.Second)
	if err != nil || !strings.Contains(string(m.Data), `"code":200`) {
		t.Fatalf("the push was refused: %v, %s", err, m.Data)
	}
}

// activation lets an account import from another one, until a time.
func activation(t testing.TB, from, to *fleet.Account, subject string, until time.Time) string {
	t.Helper()
	claims := jwt.NewActivationClaims(to.Public)
	claims.ImportSubject, claims.ImportType, claims.Expires = jwt.Subject(subject), jwt.Stream, until.Unix()
	return must(claims.Encode(from.Key))
}

// chain is a fleet whose operator and accounts are in order, and a leafnode of
// another operator of whom, and of whose accounts, everything is wrong. The
// leafnode joins the hub with its system account.
type chain struct {
	f         *fleet.Fleet
	good, bad *fleet.Operator
	accounts  map[string]*fleet.Account
}

func startChain(t *testing.T) *chain {
	t.Helper()
	c := &chain{good: tidyOperator(t), bad: must(fleet.NewOperator()), accounts: map[string]*fleet.Account{}}
	inTenDays := time.Now().Add(10 * 24 * time.Hour)
	if err := c.bad.Change(func(o *jwt.OperatorClaims) {
		o.Name, o.Expires, o.SystemAccount = "BAD", inTenDays.Unix(), ""
		o.OperatorServiceURLs.Add("nats://n1.example.net:4222")
	}); err != nil {
		t.Fatal(err)
	}
	add := func(name string, change func(*jwt.AccountClaims)) *fleet.Account {
		a := must(c.bad.Account(name, change))
		c.accounts[name] = a
		return a
	}
	exporter := add("exporter", func(a *jwt.AccountClaims) {
		a.Exports.Add(&jwt.Export{Subject: "orders.>", Type: jwt.Stream}, &jwt.Export{Subject: "private", Type: jwt.Stream, TokenReq: true})
	})
	importer := add("importer", nil)
	if err := c.bad.Sign(importer, func(a *jwt.AccountClaims) {
		a.Imports.Add(&jwt.Import{Subject: "private", Account: exporter.Public, Type: jwt.Stream, Token: activation(t, exporter, importer, "private", time.Now().Add(-time.Hour))})
	}); err != nil {
		t.Fatal(err)
	}
	add("short-lived", func(a *jwt.AccountClaims) { a.Expires = inTenDays.Unix() })
	add("callout", func(a *jwt.AccountClaims) {
		a.Authorization.AuthUsers.Add(must(must(nkeys.CreateUser()).PublicKey()))
		a.Authorization.AllowedAccounts.Add(jwt.AnyAccount)
	})
	others := make([]*fleet.Account, 0, len(c.accounts))
	for _, a := range c.accounts {
		others = append(others, a)
	}
	leafLogin, leafSeed := mustUser(c.good.System.User("leaf", func(u *jwt.UserClaims) { u.Pub.Allow.Add(">"); u.Sub.Allow.Add(">") }))
	creds := string(must(jwt.FormatUserConfig(leafLogin, []byte(leafSeed))))
	listen := `leafnodes { listen: "{{addr "leafnode"}}" }
`
	c.f = start(t,
		fleet.Spec{Name: "n1", Config: c.good.Config() + clustered("c", "n2") + listen},
		fleet.Spec{Name: "n2", Config: c.good.Config() + clustered("c", "n1")},
		fleet.Spec{Name: "leaf", Config: c.bad.Config(others...) + fmt.Sprintf(`
leafnodes { remotes: [ { url: "nats-leaf://{{addr "n1" "leafnode"}}", account: %s, credentials: "{{file "leaf.creds"}}" } ] }
`, c.bad.System.Public), Files: map[string]string{"leaf.creds": creds}},
	)
	if err := c.f.WaitActive(t.Context(), c.f.Server("n1").URL(), 3, auditorOf(&c.good.System)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestChainOfTrust judges every operator and account check on real servers: the
// hub passes, the leafnode fails, and when it is gone nobody knows.
func TestChainOfTrust(t *testing.T) {
	t.Parallel()
	c := startChain(t)
	nc := connect(t, c.f.Server("n1").URL(), auditorOf(&c.good.System))
	foreign := must(must(fleet.NewOperator()).Account("foreign", nil))
	push(t, nc, foreign.JWT)
	a := auditor(t, nc, collect.Config{})
	state := sweep(t, a)
	if gaps := state.Report().Coverage.Gaps; len(gaps) != 0 {
		t.Errorf("gaps: %v", gaps)
	}
	app, system := c.good.App.Public, c.good.System.Public
	bad := func(name string) string { return c.accounts[name].Public }
	for _, tc := range []struct {
		check      string
		pass, fail string
		severity   check.Severity
		cause      posture.Cause
	}{
		{"JWT_001", c.good.Claims.Subject, c.bad.Claims.Subject, check.Info, ""},
		{"JWT_003", c.good.Claims.Subject, c.bad.Claims.Subject, check.Warning, ""},
		{"JWT_004", c.good.Claims.Subject, c.bad.Claims.Subject, check.Warning, ""},
		{"JWT_005", c.good.Claims.Subject, c.bad.Claims.Subject, check.Info, ""},
		{"JWT_010", app, foreign.Public, check.Critical, "unknown-issuer"},
		{"JWT_010", bad("exporter"), foreign.Public, check.Critical, "unknown-issuer"},
		{"JWT_012", app, bad("importer"), check.Info, ""},
		{"JWT_013", app, bad("short-lived"), check.Warning, ""},
		{"JWT_014", app, bad("importer"), check.Info, ""},
		{"JWT_015", app, bad("importer"), check.Info, ""},
		{"JWT_016", app, bad("importer"), check.Info, ""},
		{"JWT_017", app, bad("exporter"), check.Warning, ""},
		{"JWT_018", app, bad("importer"), check.Critical, "expired"},
		{"JWT_020", "", bad("callout"), check.Warning, "no-xkey"},
	} {
		if r := said(state, tc.check, tc.pass); tc.pass != "" && r.Outcome != check.Pass {
			t.Errorf("%s on the good one: %s: %s", tc.check, r.Outcome, r.Summary)
		}
		r := said(state, tc.check, tc.fail)
		if r.Outcome != check.Fail || r.Cause != tc.cause || len(r.Evidence) == 0 {
			t.Errorf("%s on the bad one: %s (%s) with %d pieces of evidence: %s", tc.check, r.Outcome, r.Cause, len(r.Evidence), r.Summary)
			continue
		}
		i := slices.IndexFunc(state.Findings, func(f finding.Finding) bool { return f.Check == tc.check && f.Scope.Account == r.Scope.Account })
		if i < 0 || state.Findings[i].Severity != tc.severity || state.Findings[i].Scope.Name == "" && r.Scope.Kind != check.KindSystem {
			t.Errorf("%s on the bad one: no finding, or not %s, or without a name", tc.check, tc.severity)
		}
	}
	if good, bad := said(state, "JWT_002", c.good.Claims.Subject), said(state, "JWT_002", c.bad.Claims.Subject); good.Outcome != check.Pass || bad.Outcome != check.NotApplicable {
		t.Errorf("JWT_002 is %s and, of an operator without signing keys, %s", good.Outcome, bad.Outcome)
	}
	if r := said(state, "JWT_011", system); r.Outcome != check.Pass {
		t.Errorf("JWT_011 of the system account: %s: %s", r.Outcome, r.Summary)
	}
	if r := said(state, "JWT_012", foreign.Public); r.Outcome != check.NotApplicable {
		t.Errorf("no server would take the foreign account, and JWT_012 is %s", r.Outcome)
	}
	// Whether a service of the callout is connected, sessions of all accounts
	// tell, once they are asked for.
	asked := !slices.ContainsFunc(state.Snapshot.Servers, func(s *posture.Server) bool { return s.Everyone.At.IsZero() })
	if r := said(state, "JWT_019", bad("callout")); r.Outcome != map[bool]check.Outcome{true: check.Fail, false: check.Unknown}[asked] {
		t.Errorf("JWT_019 is %s (asked for the sessions: %v): %s", r.Outcome, asked, r.Summary)
	}
	for _, id := range []string{"FLEET_001", "FLEET_002", "FLEET_003"} {
		for _, f := range found(state, id, "") {
			t.Errorf("a leafnode may have an operator of its own: %s", f.Summary)
		}
	}
	noSecrets(t, state, c.good.App.JWT, foreign.JWT, c.good.JWT)

	if err := c.f.Server("leaf").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	state = lookTwice(t, a)
	for _, id := range []string{"JWT_001", "JWT_003", "JWT_004", "JWT_005"} {
		if r := said(state, id, c.bad.Claims.Subject); r.Outcome != check.Unknown {
			t.Errorf("%s of the operator of a server that is gone: %s", id, r.Outcome)
		}
	}
	if len(found(state, "JWT_001", "")) != 1 {
		t.Error("what a server said is taken back because it is silent")
	}
}

// noSecrets: nothing of a JWT leaves the process.
func noSecrets(t testing.TB, state *agent.State, tokens ...string) {
	t.Helper()
	report := string(must(json.Marshal(state.Report())))
	for _, text := range []string{report, fmt.Sprintf("%+v", state.Results), string(must(json.Marshal(state.Snapshot)))} {
		for _, token := range tokens {
			if parts := strings.Split(token, "."); strings.Contains(text, parts[1]) || strings.Contains(text, parts[2]) {
				t.Fatal("a part of a JWT is there to be read")
			}
		}
	}
}

// members starts a cluster in operator mode, with a client of APP at each.
func members(t *testing.T, op *fleet.Operator, config func() string, names ...string) (*fleet.Fleet, *nats.Conn) {
	t.Helper()
	specs := make([]fleet.Spec, len(names))
	for i, name := range names {
		peers := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
		specs[i] = fleet.Spec{Name: name, Config: config() + clustered("c", peers...)}
	}
	f := start(t, specs...)
	if err := f.WaitActive(t.Context(), f.Server(names[0]).URL(), len(names), auditorOf(&op.System)); err != nil {
		t.Fatal(err)
	}
	for _, s := range f.Servers() {
		connect(t, s.URL(), must(op.App.Login("app")), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	}
	return f, connect(t, f.Server(names[0]).URL(), auditorOf(&op.System))
}

// TestClaimOnOneServer: a JWT that reached one server only is seen at the first
// look, and ends when it is pushed to all.
func TestClaimOnOneServer(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	f, nc := members(t, op, func() string { return op.Config() }, "n1", "n2")
	a := auditor(t, nc, collect.Config{Settle: 20 * time.Millisecond})
	if r := said(sweep(t, a), "JWT_011", op.App.Public); r.Outcome != check.Pass {
		t.Fatalf("before: %s: %s", r.Outcome, r.Summary)
	}
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Limits.Subs, c.IssuedAt = 50, 0 }); err != nil {
		t.Fatal(err)
	}
	store, ok := f.Server("n2").Embedded().AccountResolver().(*server.DirAccResolver)
	if !ok {
		t.Fatal("n2 has no FULL resolver")
	}
	// A store takes a JWT that is newer, and JWTs are as old as their second.
	eventually(t, "the store of n2 takes the new JWT", func() bool {
		if err := op.Sign(&op.App, nil); err != nil {
			t.Fatal(err)
		}
		if err := store.Store(op.App.Public, op.App.JWT); err != nil {
			t.Fatal(err)
		}
		r := said(sweep(t, a), "JWT_011", op.App.Public)
		return r.Outcome == check.Fail
	})
	r := said(a.State(), "JWT_011", op.App.Public)
	if r.Cause != "servers-differ" || len(r.Evidence) != 2 || !strings.Contains(fmt.Sprint(r.Evidence), "n2") {
		t.Errorf("(%s) %v", r.Cause, r.Evidence)
	}
	if fresh := sweep(t, auditor(t, nc, collect.Config{Settle: 20 * time.Millisecond})); said(fresh, "JWT_011", op.App.Public).Outcome != check.Fail {
		t.Error("one sweep does not show it")
	}
	push(t, nc, op.App.JWT)
	eventually(t, "JWT_011 passes", func() bool { return said(sweep(t, a), "JWT_011", op.App.Public).Outcome == check.Pass })
	if state := lookTwice(t, a); len(found(state, "JWT_011", "")) != 0 {
		t.Error("the finding stands")
	}
}

// TestAccountKnownByHearsay: servers list an account that they have heard of
// from their peers, and go by no claim of it before somebody logs in.
func TestAccountKnownByHearsay(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	f := start(t,
		fleet.Spec{Name: "n1", Config: op.Config() + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: op.Config() + clustered("c", "n1")},
	)
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, auditorOf(&op.System)); err != nil {
		t.Fatal(err)
	}
	app := connect(t, f.Server("n1").URL(), nats.UserJWTAndSeed(mustUser(op.App.User("app", nil))))
	if _, err := app.SubscribeSync("app.x"); err != nil {
		t.Fatal(err)
	}
	a := auditor(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), collect.Config{})
	eventually(t, "n2 has heard of the account", func() bool {
		sweep(t, a)
		return slices.Contains(accountsOf(t, f.Server("n2")), op.App.Public)
	})
	state := sweep(t, a)
	if account := state.Snapshot.Trust.Account(op.App.Public); len(account.InForce) != 1 || account.InForce[0].Server != "n1" || len(account.Missing) != 0 {
		t.Errorf("%+v", account)
	}
	for _, id := range []string{"JWT_011", "JWT_013"} {
		if r := said(state, id, op.App.Public); r.Outcome != check.Pass {
			t.Errorf("%s is %s: %s", id, r.Outcome, r.Summary)
		}
	}
}

// accountsOf is what a server lists by itself.
func accountsOf(t *testing.T, s *fleet.Server) []string {
	t.Helper()
	z, err := s.Embedded().Accountz(nil)
	if err != nil {
		t.Fatal(err)
	}
	return z.Accounts
}

// TestForeignClaimOfOwnAccount: the store takes an account's JWT from whoever
// pushes it; servers that have the account loaded refuse it.
func TestForeignClaimOfOwnAccount(t *testing.T) {
	t.Parallel()
	op, other := tidyOperator(t), must(fleet.NewOperator())
	_, nc := members(t, op, func() string { return op.Config() }, "n1", "n2")
	forged := op.App
	claims := *op.App.Claims
	forged.Claims = &claims
	if err := other.Sign(&forged, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(forged.JWT), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	state := sweep(t, auditor(t, nc, collect.Config{Settle: 20 * time.Millisecond}))
	if r := said(state, "JWT_010", op.App.Public); r.Outcome != check.Fail || r.Cause != "unknown-issuer" {
		t.Errorf("JWT_010 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
	if r := said(state, "JWT_011", op.App.Public); r.Outcome != check.Fail || r.Cause != "store-differs" {
		t.Errorf("JWT_011 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
}

// TestStoredClaimThatServersRefuse: a store hands out what no server loads.
func TestStoredClaimThatServersRefuse(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	f, nc := members(t, op, func() string { return op.Config() }, "n1")
	broken := must(op.Account("broken", func(c *jwt.AccountClaims) {
		c.Exports.Add(&jwt.Export{Subject: "a b", Type: jwt.Stream})
	}))
	store, ok := f.Server("n1").Embedded().AccountResolver().(*server.DirAccResolver)
	if !ok {
		t.Fatal("no FULL resolver")
	}
	if err := store.Store(broken.Public, broken.JWT); err != nil {
		t.Fatal(err)
	}
	if nc, err := nats.Connect(f.Server("n1").URL(), must(broken.Login("user"))); err == nil {
		nc.Close()
		t.Fatal("the server takes it")
	}
	state := sweep(t, auditor(t, nc, collect.Config{}))
	if r := said(state, "JWT_011", broken.Public); r.Outcome != check.Fail || r.Cause != "refused" || !strings.Contains(r.Summary, "a b") {
		t.Errorf("JWT_011 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
}

// TestRetiredSigningKey: the operator has a new signing key, servers were
// restarted with it, and an account was forgotten.
func TestRetiredSigningKey(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	retired := op.Claims.SigningKeys[0]
	must(op.RotateSigningKey())
	if err := op.Sign(&op.System, nil); err != nil {
		t.Fatal(err)
	}
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config()})
	nc := connect(t, f.Server("n1").URL(), auditorOf(&op.System))
	if app, err := nats.Connect(f.Server("n1").URL(), must(op.App.Login("app"))); err == nil {
		app.Close()
		t.Fatal("the server takes the account of a retired key")
	}
	a := auditor(t, nc, collect.Config{})
	state := sweep(t, a)
	r := said(state, "JWT_010", op.App.Public)
	if r.Outcome != check.Fail || r.Cause != "unknown-issuer" || !strings.Contains(fmt.Sprint(r.Evidence), retired) {
		t.Errorf("JWT_010 is %s (%s): %v", r.Outcome, r.Cause, r.Evidence)
	}
	if r := said(state, "JWT_010", op.System.Public); r.Outcome != check.Pass {
		t.Errorf("of the account that was signed anew: %s: %s", r.Outcome, r.Summary)
	}
	if err := op.Sign(&op.App, nil); err != nil {
		t.Fatal(err)
	}
	push(t, nc, op.App.JWT)
	connect(t, f.Server("n1").URL(), must(op.App.Login("app")))
	if state := lookTwice(t, a); len(found(state, "JWT_010", "")) != 0 {
		t.Error("the finding stands though the account was signed anew")
	}
}

// TestIdentityKeyUnderAStrictOperator: servers refuse what the identity key has
// signed.
func TestIdentityKeyUnderAStrictOperator(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	late := must(op.Account("late", nil)) // by the identity key
	must(op.RotateSigningKey())
	tidyAccount(t, op, &op.System, nil)
	if err := op.Sign(&op.App, nil); err != nil { // without signing keys
		t.Fatal(err)
	}
	if err := op.Change(func(c *jwt.OperatorClaims) { c.StrictSigningKeyUsage = true }); err != nil {
		t.Fatal(err)
	}
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config(late)})
	state := sweep(t, auditor(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), collect.Config{}))
	if app, err := nats.Connect(f.Server("n1").URL(), must(op.App.Login("app"))); err == nil {
		app.Close()
		t.Fatal("the server takes a user whom the account's identity key has signed")
	}
	if r := said(state, "JWT_012", op.App.Public); r.Outcome != check.Fail || r.Cause != "no-signer" {
		t.Errorf("JWT_012 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
	if r := said(state, "JWT_010", late.Public); r.Outcome != check.Fail || r.Cause != "identity-key" {
		t.Errorf("JWT_010 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
}

// TestAccountExpires: a JWT that ends while its account is in use.
func TestAccountExpires(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	end := time.Now().Add(3 * time.Second)
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Expires = end.Unix() }); err != nil {
		t.Fatal(err)
	}
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config()})
	app := connect(t, f.Server("n1").URL(), must(op.App.Login("app")), nats.NoReconnect())
	a := auditor(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), collect.Config{})
	if fs := found(sweep(t, a), "JWT_013", ""); len(fs) != 1 || fs[0].Severity != check.Warning || fs[0].Cause != "" {
		t.Errorf("before its end: %v", fs)
	}
	eventually(t, "the server drops the account's clients", app.IsClosed)
	state := sweep(t, a)
	if fs := found(state, "JWT_013", ""); len(fs) != 1 || fs[0].Severity != check.Critical || fs[0].Cause != "expired" {
		t.Errorf("after its end: %v", fs)
	}
	if account := state.Snapshot.Trust.Account(op.App.Public); account == nil || len(account.InForce) != 1 || !account.InForce[0].Expired {
		t.Errorf("the server's own word is missing: %+v", account)
	}
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Expires = 0 }); err != nil {
		t.Fatal(err)
	}
	push(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), op.App.JWT)
	if state := lookTwice(t, a); len(found(state, "JWT_013", "")) != 0 {
		t.Errorf("it does not end any more, and the finding stands")
	}
}

// TestDeletedAccount: an account that was deleted from the stores is no more,
// though servers remember that they have locked it.
func TestDeletedAccount(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	_, nc := members(t, op, func() string { return op.Config() }, "n1", "n2")
	a := auditor(t, nc, collect.Config{})
	if state := sweep(t, a); sharing(state, "JWT_014") != 2 {
		t.Fatalf("%d accounts allow bearers, want 2", sharing(state, "JWT_014"))
	}
	request := jwt.NewGenericClaims(op.Claims.Subject)
	request.Data["accounts"] = []string{op.App.Public}
	token := must(op.Encode(request))
	if m, err := nc.Request("$SYS.REQ.CLAIMS.DELETE", []byte(token), 5*time.Second); err != nil || !strings.Contains(string(m.Data), `"code":200`) {
		t.Fatalf("the account was not deleted: %v %s", err, m.Data)
	}
	eventually(t, "the account is no more", func() bool {
		state := sweep(t, a)
		return state.Snapshot.Trust.Account(op.App.Public) == nil && sharing(state, "JWT_014") == 1
	})
}

// TestMemoryResolver: no store answers, which is neither an empty one nor a gap,
// and nobody waits for it.
func TestMemoryResolver(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	unused := must(op.Account("unused", nil))
	f, nc := members(t, op, func() string { return op.MemoryConfig(unused) }, "n1", "n2")
	a := auditor(t, nc, patient)
	began := time.Now()
	state := sweep(t, a)
	if took := time.Since(began); took > patient.Timeout/8 {
		t.Errorf("it took %s: somebody waited for stores that are not there", took)
	}
	if gaps := state.Report().Coverage.Gaps; len(gaps) != 0 {
		t.Errorf("gaps: %v", gaps)
	}
	account := state.Snapshot.Trust.Account(op.App.Public)
	if account == nil || account.Asked || account.Stored != nil || len(account.InForce) != 2 {
		t.Fatalf("%+v", account)
	}
	if state.Snapshot.Trust.Account(unused.Public) != nil {
		t.Error("an account that nobody has used is known: README.md says otherwise")
	}
	if r := said(state, "JWT_011", op.App.Public); r.Outcome != check.Unknown || r.Pending {
		t.Errorf("JWT_011 is %s: %s", r.Outcome, r.Summary)
	}
	if r := said(state, "JWT_010", op.App.Public); r.Outcome != check.Pass {
		t.Errorf("JWT_010 is %s: %s", r.Outcome, r.Summary)
	}
	// A preload that was changed on one server only.
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Limits.Subs = 100 }); err != nil {
		t.Fatal(err)
	}
	if err := f.Server("n2").Reload(t.Context(), op.MemoryConfig(unused)+clustered("c", "n1")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "JWT_011 fails", func() bool { return said(sweep(t, a), "JWT_011", op.App.Public).Cause == "servers-differ" })
}

// TestAccountsBudget: what one look cannot take is a gap, and comes next.
func TestAccountsBudget(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	others := make([]*fleet.Account, 18)
	for i := range others {
		others[i] = must(op.Account(fmt.Sprintf("A%d", i), nil))
	}
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config(others...)})
	nc := connect(t, f.Server("n1").URL(), auditorOf(&op.System))
	for name, cfg := range map[string]collect.Config{
		"accounts": {Accounts: 6},
		"requests": {AccountRequests: 8},
		"bytes":    {AccountBytes: 6000},
	} {
		a := auditor(t, nc, cfg)
		state := sweep(t, a)
		trust := state.Snapshot.Trust
		if trust.Left == 0 || trust.Account(op.System.Public) == nil || trust.Account(op.System.Public).At.IsZero() {
			t.Errorf("%s: %d left, and the system account comes first: %+v", name, trust.Left, trust.Account(op.System.Public))
		}
		stopped := regexp.MustCompile(fmt.Sprintf(`^stopped after %d of 20 accounts: the (limit|budget) of [0-9]+ %s; the others come next$`, 20-trust.Left, name))
		if gaps := state.Report().Coverage.Gaps; len(gaps) != 1 || !gaps[0].Bound || !stopped.MatchString(gaps[0].Reason) {
			t.Errorf("%s: with %d accounts left the gaps are %v", name, trust.Left, gaps)
		}
		for _, account := range trust.Accounts {
			if account.At.IsZero() && said(state, "JWT_014", account.ID).Outcome != check.Unknown {
				t.Errorf("%s: JWT_014 of an account that was not looked at", name)
			}
		}
		looks := 1
		for sharing(a.State(), "JWT_014") < 20 {
			if looks++; looks > 10 {
				t.Fatalf("%s: after %d looks some were never looked at", name, looks)
			}
			// It is not their time, and some are left.
			if _, err := a.Sweep(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
		t.Logf("%s: %d looks for 20 accounts", name, looks)
	}
}

// TestWithoutTheStores: a user who may not ask the stores is told so, and what
// they hold is unknown.
func TestWithoutTheStores(t *testing.T) {
	t.Parallel()
	op := tidyOperator(t)
	f, _ := members(t, op, func() string { return op.Config() }, "n1", "n2")
	limited := nats.UserJWTAndSeed(mustUser(op.System.User("limited", func(c *jwt.UserClaims) {
		c.Pub.Allow = slices.DeleteFunc(collect.Requests(), func(s string) bool { return strings.Contains(s, "CLAIMS") })
		c.Sub.Allow = mayHear()
	})))
	nc := connect(t, f.Server("n1").URL(), limited, nats.CustomInboxPrefix(auditInbox), (&refusals{}).handler())
	state := sweep(t, auditor(t, nc, collect.Config{}))
	if !slices.ContainsFunc(state.Report().Coverage.Gaps, func(g posture.Gap) bool { return g.Endpoint == "CLAIMS LIST" }) {
		t.Errorf("gaps: %v", state.Report().Coverage.Gaps)
	}
	if r := said(state, "JWT_011", op.App.Public); r.Outcome != check.Unknown {
		t.Errorf("JWT_011 is %s: %s", r.Outcome, r.Summary)
	}
	if r := said(state, "JWT_014", op.App.Public); r.Outcome != check.Pass {
		t.Errorf("JWT_014 is %s: %s", r.Outcome, r.Summary)
	}
}

// TestHostileStores: whoever answers for the stores and in the name of servers
// costs a bounded time, and does not keep the true accounts from being judged.
func TestHostileStores(t *testing.T) {
	op := must(fleet.NewOperator())
	f, nc := members(t, op, func() string { return op.Config() }, "n1", "n2")
	evil := connect(t, f.Server("n2").URL(), auditorOf(&op.System))
	fakes := make([]string, 400)
	for i := range fakes {
		fakes[i] = must(must(nkeys.CreateAccount()).PublicKey())
	}
	flood := string(must(json.Marshal(fakes)))
	for subject, replies := range map[string][]string{
		"$SYS.REQ.CLAIMS.LIST": {
			"", "{", "null", `{"data":null,"server":{"id":"NX"}}`, `{"server":{"id":"` + f.Server("n2").ID() + `"},"data":["*",">","` + strings.Repeat("A", 500) + `"]}`,
			`{"server":{"id":"` + f.Server("n2").ID() + `"},"data":` + flood + `}`,
		},
		"$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP": {"garbage", "eyJ.eyJ.x", strings.Repeat("e", 900_000), "\x1b[2J", must(fleet.NewOperator()).App.JWT},
	} {
		if _, err := evil.Subscribe(subject, func(m *nats.Msg) {
			for _, r := range replies {
				_ = evil.Publish(m.Reply, []byte(r)) // a liar that cannot speak does no harm
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := evil.Flush(); err != nil {
		t.Fatal(err)
	}
	cfg := collect.Config{Accounts: 64, AccountTime: 10 * time.Second}
	a := auditor(t, nc, cfg)
	began := time.Now()
	for range 3 {
		sweep(t, a)
	}
	took := time.Since(began)
	t.Logf("three sweeps took %s", took)
	if took > 3*(cfg.AccountTime+2*time.Second) {
		t.Errorf("three sweeps took %s", took)
	}
	state := a.State()
	for _, id := range []string{op.System.Public, op.App.Public} {
		if r := said(state, "JWT_014", id); r.Outcome != check.Fail {
			t.Errorf("JWT_014 of a true account: %s: %s", r.Outcome, r.Summary)
		}
	}
	report := string(must(json.Marshal(state.Report())))
	if strings.ContainsAny(report, "\x1b\x00") || len(report) > 4<<20 {
		t.Errorf("report of %d bytes, or with control characters", len(report))
	}
}

// TestForgedClaimIsNotBelieved: somebody answers in the name of a server about
// an account. Which answer is true cannot be told, so neither counts.
func TestForgedClaimIsNotBelieved(t *testing.T) {
	op := tidyOperator(t)
	f, nc := members(t, op, func() string { return op.Config() }, "n1", "n2")
	victim := f.Server("n2").ID()
	evil := connect(t, f.Server("n1").URL(), auditorOf(&op.System))
	if _, err := evil.Subscribe("$SYS.REQ.SERVER."+victim+".ACCOUNTZ", func(m *nats.Msg) {
		if len(m.Data) > 0 {
			_ = evil.Publish(m.Reply, fmt.Appendf(nil, `{"server":{"id":%q,"name":"n2"},"data":{"account_detail":{"account_name":%q,"jwt":"x.y.z"}}}`, victim, op.App.Public))
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := evil.Flush(); err != nil {
		t.Fatal(err)
	}
	// The liar is fast or slow; a look that listens on hears both.
	state := sweep(t, auditor(t, nc, collect.Config{Linger: 500 * time.Millisecond}))
	for _, id := range []string{"JWT_012", "JWT_014"} {
		if r := said(state, id, op.App.Public); r.Outcome != check.Unknown {
			t.Errorf("%s is %s: %s", id, r.Outcome, r.Summary)
		}
	}
}

// TestScopedUsersOnARealServer: what readClaim makes of scopes and defaults is
// what a server lets their users do.
func TestScopedUsersOnARealServer(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	keys := map[string]nkeys.KeyPair{}
	scoped := func(name string, allow ...string) func(*jwt.AccountClaims) {
		return func(c *jwt.AccountClaims) {
			keys[name] = must(nkeys.CreateAccount())
			scope := jwt.NewUserScope()
			scope.Key = must(keys[name].PublicKey())
			scope.Template.Pub.Allow, scope.Template.Sub.Allow = allow, allow
			c.SigningKeys.AddScopedSigner(scope)
		}
	}
	for _, change := range []func(*jwt.AccountClaims){
		func(c *jwt.AccountClaims) {
			c.DefaultPermissions.Pub.Allow, c.DefaultPermissions.Sub.Allow = jwt.StringList{"app.>"}, jwt.StringList{"app.>"}
		},
		scoped("says nothing"), scoped("says everything", ">"), scoped("is narrow", "role.>"),
	} {
		if err := op.Sign(&op.App, change); err != nil {
			t.Fatal(err)
		}
	}
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config()})
	state := sweep(t, auditor(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), collect.Config{}))
	account := state.Snapshot.Trust.Account(op.App.Public)
	if account == nil || len(account.Stored) != 1 {
		t.Fatalf("%+v", account)
	}
	for name, key := range keys {
		user := must(nkeys.CreateUser())
		claims := jwt.NewUserClaims(must(user.PublicKey()))
		claims.IssuerAccount = op.App.Public
		claims.UserPermissionLimits = jwt.UserPermissionLimits{} // as a scoped user must be
		refused := &refusals{}
		nc := connect(t, f.Server("n1").URL(), nats.UserJWTAndSeed(must(claims.Encode(key)), string(must(user.Seed()))), refused.handler())
		if err := nc.Publish("anything", nil); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(account.Stored[0].SigningKeys, func(k posture.SigningKey) bool { return k.Key == must(key.PublicKey()) })
		if i < 0 {
			t.Fatalf("the key that %s is not there", name)
		}
		if !account.Stored[0].SigningKeys[i].Open {
			eventually(t, "users of the key that "+name+" are refused", func() bool { return refused.of("anything") })
			continue
		}
		if err := nc.Flush(); err != nil || refused.of("anything") {
			t.Errorf("the key that %s: it says that its users may do everything, and the server refuses: %v", name, err)
		}
	}
	if r := said(state, "JWT_015", op.App.Public); r.Outcome != check.Fail || r.Cause != "scoped-key" {
		t.Errorf("JWT_015 is %s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
}

// TestTrustOfOldServers: what is read of accounts was there long before.
func TestTrustOfOldServers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v2.10.29", "v2.11.17"} {
		op := must(fleet.NewOperator())
		f := start(t, fleet.Spec{Name: "n1", Config: op.Config(), Binary: binary(t, version)})
		connect(t, f.Server("n1").URL(), must(op.App.Login("app")))
		state := sweep(t, auditor(t, connect(t, f.Server("n1").URL(), auditorOf(&op.System)), collect.Config{}))
		for id, want := range map[string]check.Outcome{"JWT_010": check.Pass, "JWT_011": check.Pass, "JWT_012": check.Fail, "JWT_014": check.Fail} {
			if r := said(state, id, op.App.Public); r.Outcome != want {
				t.Errorf("%s: %s is %s: %s", version, id, r.Outcome, r.Summary)
			}
		}
		if gaps := state.Report().Coverage.Gaps; len(gaps) != 0 {
			t.Errorf("%s: gaps: %v", version, gaps)
		}
	}
}
