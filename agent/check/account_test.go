package check

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// verdict is what a check says of the one account of a snapshot.
func verdict(t *testing.T, c *Check, snap *posture.Snapshot) Result {
	t.Helper()
	results := c.judgeAlone(snap, DefaultPolicy())
	if len(results) != 1 && c.Together == "" || len(results) == 0 {
		t.Fatalf("%s: %d results", c.ID, len(results))
	}
	// What accounts have in common is reported of the system.
	return slices.MaxFunc(results, func(a, b Result) int { return cmp.Compare(weight(a.Outcome), weight(b.Outcome)) })
}

// TestTogether: what is common to accounts is one finding of the system, and
// what is not keeps its account.
func TestTogether(t *testing.T) {
	named := func(name string, change func(*posture.Claim)) *posture.Account {
		a := account(change)
		a.ID, a.Name = "A"+name, name
		return a
	}
	open := func(c *posture.Claim) { c.OpenDefaults = true }
	scoped := func(c *posture.Claim) { c.SigningKeys = []posture.SigningKey{{Key: "AKEY", Scoped: true, Open: true}} }
	results := jwt015.judgeAlone(accounts(named("APP", open), named("KEYS", scoped), named("OK", func(*posture.Claim) {}), named("ORDERS", open)), DefaultPolicy())
	got := map[string]string{}
	for _, r := range results {
		got[r.Scope.Name] = r.Outcome.String() + ": " + r.Summary
		if r.Scope.Kind == KindSystem && (r.Severity != Info || len(r.Evidence) != 2 || !strings.HasPrefix(r.Evidence[1].Value, "ORDERS (AORDERS): ")) {
			t.Errorf("%s, %v", r.Severity, r.Evidence)
		}
	}
	want := map[string]string{
		"":       "fail: 2 accounts that restrict nothing by default: APP, ORDERS",
		"APP":    "not applicable: reported once for all accounts",
		"ORDERS": "not applicable: reported once for all accounts",
		"KEYS":   "fail: account KEYS (AKEYS) has 1 scoped signing key whose users may do everything",
		"OK":     "pass: its default permissions and scoped signing keys restrict users",
	}
	if !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestWhoMaySignAccounts(t *testing.T) {
	strict := func(yes bool) func(*posture.Operator) { return func(o *posture.Operator) { o.Strict = yes } }
	for _, c := range []struct {
		name, issuer string
		operator     func(*posture.Operator)
		want         Outcome
		cause        posture.Cause
	}{
		{"a signing key", "SIGNING", strict(true), Pass, ""},
		{"the identity key", "OPERATOR", strict(false), Pass, ""},
		{"the identity key of a strict operator", "OPERATOR", strict(true), Fail, causeIdentityKey},
		{"somebody else", "OTHER", strict(false), Fail, causeUnknownIssuer},
		{"the account itself", "ACC", strict(false), Fail, causeSelfSigned},
	} {
		snap := accounts(account(func(cl *posture.Claim) { cl.Issuer = c.issuer }))
		c.operator(&snap.Servers[0].Operators[0])
		if r := verdict(t, jwt010, snap); r.Outcome != c.want || r.Cause != c.cause {
			t.Errorf("%s: %s (%s), want %s (%s)", c.name, r.Outcome, r.Cause, c.want, c.cause)
		}
	}
	// The operator of another server vouches for nothing here, and only a store
	// is everybody's.
	snap := accounts(account(func(cl *posture.Claim) { cl.Issuer = "OTHER" }))
	snap.Servers = append(snap.Servers, server("n2", trusts(func(o *posture.Operator) { o.Key, o.SigningKeys = "OPERATOR2", []string{"OTHER"} })))
	if r := verdict(t, jwt010, snap); r.Outcome != Fail || len(r.Evidence) != 3 {
		t.Errorf("%s with %d pieces of evidence: %s", r.Outcome, len(r.Evidence), r.Summary)
	}
	snap.Servers = nil
	if r := verdict(t, jwt010, snap); r.Outcome != Unknown {
		t.Errorf("%s without an operator: %s", r.Outcome, r.Summary)
	}
}

func TestSeverityOfExpiry(t *testing.T) {
	for left, want := range map[time.Duration]Severity{-time.Second: Critical, 29 * 24 * time.Hour: Warning} {
		at := now.Add(left)
		for _, c := range []struct {
			check *Check
			snap  *posture.Snapshot
		}{
			{jwt004, fleet(server("n1", trusts(func(o *posture.Operator) { o.Expires = at })))},
			{jwt013, accounts(account(func(c *posture.Claim) { c.Expires = at }))},
			{jwt018, accounts(account(func(c *posture.Claim) { c.Imports[0].Expires = at }))},
		} {
			r := verdict(t, c.check, c.snap)
			severity := r.Severity
			if severity == NoSeverity {
				severity = c.check.Severity
			}
			if r.Outcome != Fail || severity != want {
				t.Errorf("%s with %s left: %s %s, want fail %s", c.check.ID, left, r.Outcome, severity, want)
			}
		}
	}
	disabled := account()
	disabled.InForce[0].Expired = true
	if r := verdict(t, jwt013, accounts(disabled)); r.Outcome != Fail || r.Cause != causeDisabled || r.Severity != Critical {
		t.Errorf("a server takes it for expired: %s %s (%s)", r.Outcome, r.Severity, r.Cause)
	}
}

// TestClaimsThatCount: what servers go by is judged, else what they would go
// by; and what is worst counts.
func TestClaimsThatCount(t *testing.T) {
	stored := account(func(c *posture.Claim) { c.SigningKeys = nil })
	stored.InForce = nil
	if r := verdict(t, jwt012, accounts(stored)); r.Outcome != Fail {
		t.Errorf("of an account that nobody has loaded, what is stored counts: %s", r.Outcome)
	}
	foreign := account(func(c *posture.Claim) { c.SigningKeys, c.Issuer = nil, "OTHER" })
	foreign.InForce = nil
	if r := verdict(t, jwt012, accounts(foreign)); r.Outcome != NotApplicable {
		t.Errorf("no server would take a foreign claim: %s", r.Outcome)
	}
	two := account()
	worse := *two.InForce[0].Claim
	worse.Mark, worse.SigningKeys = 2, nil
	two.InForce = append(two.InForce, posture.InForce{Server: "n2", ServerID: "Nn2", Claim: &worse})
	if r := verdict(t, jwt012, accounts(two)); r.Outcome != Fail || !strings.Contains(r.Evidence[0].Source, "n2") {
		t.Errorf("one of two servers goes by a worse claim: %s, %v", r.Outcome, r.Evidence)
	}
	worse.Issuer, worse.Invalid = "", "it is no account JWT"
	if r := verdict(t, jwt012, accounts(two)); r.Outcome != Unknown {
		t.Errorf("one of two servers goes by what cannot be read: %s", r.Outcome)
	}
	silent := account(func(c *posture.Claim) { c.SigningKeys = nil })
	silent.Missing = []string{"n2"}
	if r := verdict(t, jwt012, accounts(silent)); r.Outcome != Fail {
		t.Errorf("a server that is silent excuses nobody: %s", r.Outcome)
	}
}

func TestStoredClaimThatServersRefuse(t *testing.T) {
	a := account()
	bad := *a.Stored[0]
	bad.Invalid = "an export is wrong"
	a.Stored[0] = &bad
	if r := verdict(t, jwt011, accounts(a)); r.Outcome != Fail || r.Cause != causeRefused {
		t.Errorf("%s (%s): %s", r.Outcome, r.Cause, r.Summary)
	}
	a = account()
	a.Stored, a.Asked = nil, false
	if r := verdict(t, jwt011, accounts(a)); r.Outcome != Unknown {
		t.Errorf("no store answers: %s", r.Outcome)
	}
}

// TestCalloutServiceNotFound: who was not looked for is not absent.
func TestCalloutServiceNotFound(t *testing.T) {
	for name, change := range map[string]func(*posture.Server){
		"not all sessions were looked at": func(s *posture.Server) { s.Everyone.Total = 2 },
		"the server is silent":            func(s *posture.Server) { s.State = posture.Silent },
	} {
		snap := within(accounts(account(withCallout)), posture.Session{User: "UOTHER"})
		change(snap.Servers[0])
		if r := verdict(t, jwt019, snap); r.Outcome != Unknown {
			t.Errorf("%s: %s", name, r.Outcome)
		}
	}
	// A key that is merely shown may be one that a bearer claims.
	for want, c := range map[Outcome]posture.Session{
		Pass:    {Account: "ACC", Claim: &posture.UserClaim{Key: "UAUTH", Account: "ACC"}},
		Unknown: {Account: "ACC", User: "UAUTH", Login: posture.LoginBearer},
		Fail:    {Account: "OTHER", User: "UAUTH", Login: posture.LoginBearer},
	} {
		if r := verdict(t, jwt019, within(accounts(account(withCallout)), c)); r.Outcome != want {
			t.Errorf("%+v: %s (%s), want %s", c, r.Outcome, r.Summary, want)
		}
	}
}

// TestOperatorOfSilentServers: what servers once said of their operator is
// neither closed nor open when none of them answers.
func TestOperatorOfSilentServers(t *testing.T) {
	bad := func(o *posture.Operator) { o.SigningKeys, o.Issued = nil, now }
	snap := fleet(server("n1", trusts()), server("n2", trusts(bad), silent(posture.Silent)))
	if r := verdict(t, jwt001, snap); r.Outcome != Pass {
		t.Errorf("one that answers is believed: %s", r.Outcome)
	}
	snap = fleet(server("n2", trusts(bad), silent(posture.Silent)))
	if r := verdict(t, jwt001, snap); r.Outcome != Unknown {
		t.Errorf("nobody answers: %s", r.Outcome)
	}
}

func TestWhatACalloutMayDo(t *testing.T) {
	anywhere := func(c *posture.Claim) { c.Callout.Accounts = []string{"*"} }
	inClear := func(c *posture.Claim) { c.Callout.Encrypted = false }
	for _, c := range []struct {
		change   []func(*posture.Claim)
		cause    posture.Cause
		evidence int
	}{
		{[]func(*posture.Claim){withCallout, anywhere}, causeAnyAccount, 1},
		{[]func(*posture.Claim){withCallout, inClear}, causeNoXKey, 1},
		{[]func(*posture.Claim){withCallout, inClear, anywhere}, causeNoXKey, 2},
	} {
		if r := verdict(t, jwt020, accounts(account(c.change...))); r.Outcome != Fail || r.Cause != c.cause || len(r.Evidence) != c.evidence {
			t.Errorf("%s (%s), want %s: %v", r.Outcome, r.Cause, c.cause, r.Evidence)
		}
	}
	if r := verdict(t, jwt020, accounts(account())); r.Outcome != NotApplicable {
		t.Errorf("without a callout: %s", r.Outcome)
	}
}

// TestFleetOfTooFew: what cannot be compared because servers are silent is not
// out of the question.
func TestFleetOfTooFew(t *testing.T) {
	for _, c := range []*Check{fleet001, fleet003, fleet004} {
		if r := verdict(t, c, fleet(server("n1"), server("n2", silent(posture.Silent)))); r.Outcome != Unknown {
			t.Errorf("%s: %s: %s", c.ID, r.Outcome, r.Summary)
		}
		if r := verdict(t, c, fleet(server("n1"))); r.Outcome != NotApplicable {
			t.Errorf("%s with one server: %s", c.ID, r.Outcome)
		}
	}
	never := server("n2", silent(posture.Silent), func(s *posture.Server) { s.Linked, s.Version = posture.Yes, "" })
	if r := fleet005.judgeAlone(fleet(server("n1"), never), DefaultPolicy())[1]; r.Cause != causeNeverAnswered {
		t.Errorf("it has never answered: %s", r.Cause)
	}
	never.Version = "2.15.2"
	if r := fleet005.judgeAlone(fleet(server("n1"), never), DefaultPolicy())[1]; r.Cause != causeHangs {
		t.Errorf("it answered once: %s", r.Cause)
	}
}
