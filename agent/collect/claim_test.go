package collect

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/posture"
)

// signedBy makes an account's claim.
func signedBy(t *testing.T, operator nkeys.KeyPair, change func(*jwt.AccountClaims)) (token, account string) {
	t.Helper()
	key, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	account, err = key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewAccountClaims(account)
	claims.Name = "APP"
	if change != nil {
		change(claims)
	}
	token, err = claims.Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	return token, account
}

func newOperatorKey(t *testing.T) nkeys.KeyPair {
	t.Helper()
	key, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestPermissionsOfSigningKeys: what the users of a signing key may do is what
// its scope says, else the account's defaults.
func TestPermissionsOfSigningKeys(t *testing.T) {
	const key = "AB2WJPDHDXNOVKVWWE5IIDLYF2ONPPUOVGJUVKS4MGOXFQTCP3WKAYPB"
	narrow := jwt.Permissions{Pub: jwt.Permission{Allow: jwt.StringList{"app.>"}}, Sub: jwt.Permission{Allow: jwt.StringList{"app.>"}}}
	everything := jwt.Permissions{Pub: jwt.Permission{Allow: jwt.StringList{">"}}, Sub: jwt.Permission{Allow: jwt.StringList{">"}}}
	for _, c := range []struct {
		name            string
		defaults, scope jwt.Permissions
		openDefaults    bool
		openKey         bool
	}{
		{"nothing is said", jwt.Permissions{}, jwt.Permissions{}, true, true},
		{"the defaults are narrow, and the scope says nothing", narrow, jwt.Permissions{}, false, false},
		{"the defaults are narrow, and the scope says everything", narrow, everything, false, true},
		{"the scope is narrow", jwt.Permissions{}, narrow, true, false},
		{"everything but one thing", jwt.Permissions{Pub: jwt.Permission{Deny: jwt.StringList{"secret"}}}, everything, true, true},
		{"wildcards without a name", jwt.Permissions{Pub: jwt.Permission{Allow: jwt.StringList{"*.>", "*"}}, Sub: jwt.Permission{Allow: jwt.StringList{"*.>", "*"}}}, narrow, true, false},
		{"publishing alone is restricted", jwt.Permissions{Pub: jwt.Permission{Allow: jwt.StringList{"app.>"}}}, narrow, false, false},
		{"only answers may be published", jwt.Permissions{Resp: &jwt.ResponsePermission{MaxMsgs: 1}}, narrow, false, false},
	} {
		token, account := signedBy(t, newOperatorKey(t), func(a *jwt.AccountClaims) {
			a.DefaultPermissions = c.defaults
			scope := jwt.NewUserScope()
			scope.Key, scope.Template.Permissions = key, c.scope
			a.SigningKeys.AddScopedSigner(scope)
		})
		got := readClaim(rawClaim(token), account)
		if len(got.SigningKeys) != 1 || !got.SigningKeys[0].Scoped {
			t.Fatalf("%s: %+v", c.name, got)
		}
		if got.OpenDefaults != c.openDefaults || got.SigningKeys[0].Open != c.openKey {
			t.Errorf("%s: defaults open %v, key open %v", c.name, got.OpenDefaults, got.SigningKeys[0].Open)
		}
	}
}

func TestReadClaim(t *testing.T) {
	operator := newOperatorKey(t)
	end := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	token, account := signedBy(t, operator, func(a *jwt.AccountClaims) {
		a.Expires, a.Limits.DisallowBearer, a.Limits.Conn = end.Unix(), true, 10
		a.Exports.Add(&jwt.Export{Subject: "public", Type: jwt.Stream}, &jwt.Export{Subject: "private", Type: jwt.Service, TokenReq: true},
			&jwt.Export{Subject: "own.*", Type: jwt.Stream, AccountTokenPosition: 2})
		a.Authorization.AuthUsers.Add("UXXX")
		a.RevokeAt("*", end)
	})
	c := readClaim(rawClaim(token), account)
	public, err := operator.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if c.Issuer != public || c.Name != "APP" || !c.Expires.Equal(end) || c.BearerUsers || !c.Limited || c.Callout == nil || c.Callout.Encrypted || len(c.Revoked) != 1 {
		t.Errorf("%+v", c)
	}
	open := 0
	for _, e := range c.Exports {
		if e.Public {
			open++
		}
	}
	if len(c.Exports) != 3 || open != 1 {
		t.Errorf("%d of %d exports are public", open, len(c.Exports))
	}
	if !strings.Contains(c.Invalid, "UXXX") {
		t.Errorf("jwt/v2 finds nothing wrong with the auth user: %q", c.Invalid)
	}
	if c.Mark == 0 || c.Mark != readClaim(rawClaim(token), account).Mark {
		t.Error("the mark of one JWT is another one")
	}
	for name, got := range map[string]*posture.Claim{
		"nothing":                readClaim("", account),
		"garbage":                readClaim("a.b.c", account),
		"another account's":      readClaim(rawClaim(token), "A"+account[1:]+"X"),
		"a signature of nobody":  readClaim(rawClaim(token[:len(token)-4]+"AAAA"), account),
		"more than there can be": readClaim(rawClaim(strings.Repeat("x", maxClaim+1)), account),
	} {
		if got.Invalid == "" || got.Issuer != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if text := fmt.Sprintf("%v %+v %#v %s", rawClaim(token), rawClaim(token), rawClaim(token), rawClaim(token)); strings.Contains(text, "eyJ") {
		t.Error("a JWT prints itself")
	}
}

// TestLargeClaimsAreNotValidated: validating compares each export with each.
func TestLargeClaimsAreNotValidated(t *testing.T) {
	token, account := signedBy(t, newOperatorKey(t), func(a *jwt.AccountClaims) {
		for i := range 8000 {
			a.Exports.Add(&jwt.Export{Subject: jwt.Subject(fmt.Sprintf("s%d", i)), Type: jwt.Stream})
		}
	})
	began := time.Now()
	c := readClaim(rawClaim(token), account)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(c.Exports) != 8000 || c.Invalid != "" {
		t.Errorf("%d exports, %q", len(c.Exports), c.Invalid)
	}
}

func TestClaimSubject(t *testing.T) {
	token, account := signedBy(t, newOperatorKey(t), nil)
	for _, c := range []struct{ subject, payload, want string }{
		{"$SYS.REQ.CLAIMS.UPDATE", token, account},
		{"$SYS.REQ.CLAIMS.UPDATE", "", ""},
		{"$SYS.REQ.CLAIMS.DELETE", "a.b.c", ""},
		{"$SYS.REQ.ACCOUNT." + account + ".CLAIMS.UPDATE", "", account},
		{"$SYS.ACCOUNT." + account + ".CLAIMS.UPDATE", "", account},
		{"$SYS.ACCOUNT.*.CLAIMS.UPDATE", token, ""},
		{"$SYS.REQ.ACCOUNT.APP.CLAIMS.UPDATE", token, ""},
	} {
		if got := claimSubject(c.subject, []byte(c.payload)); got != c.want {
			t.Errorf("%s: %q, want %q", c.subject, got, c.want)
		}
	}
}

// TestChoiceOfAccounts: the system account comes first, and whoever makes
// accounts up leaves room for those that there are.
func TestChoiceOfAccounts(t *testing.T) {
	c := &Collector{cfg: Config{Accounts: 5}}
	old := func(id string, age time.Duration) *posture.Account {
		return &posture.Account{ID: id, At: time.Unix(1000, 0).Add(-age)}
	}
	l := &trustLook{
		c: c, servers: map[string]*posture.Server{"N1": {SystemAccount: "SYS"}},
		before: &posture.Trust{Accounts: []*posture.Account{old("A1", 3*time.Minute), old("A2", 2*time.Minute), old("A3", time.Minute), old("A4", 0)}},
		loaded: map[string][]string{"SYS": {"N1"}, "USED": {"N1"}}, listed: map[string]bool{},
	}
	for i := range 100 {
		l.listed[fmt.Sprintf("FAKE%02d", i)] = true
	}
	got := l.choose(nil)
	want := []string{"SYS", "USED", "FAKE00", "A1", "A2"}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("chose %v, want %v", got, want)
	}
	if l.left != 106-5 {
		t.Errorf("%d left", l.left)
	}
}
