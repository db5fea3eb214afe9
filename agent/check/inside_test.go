package check

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// inside makes a server tell that these are inside, in all accounts.
func inside(list ...posture.Session) func(*posture.Server) {
	return func(s *posture.Server) {
		s.Heard |= posture.EveryoneConnz
		s.Everyone = posture.Sessions{At: now.Add(-time.Minute), Total: len(list), List: list}
		for i := range list {
			c := &s.Everyone.List[i]
			if c.CID == 0 {
				c.CID = uint64(i + 1)
			}
			if c.Address == "" {
				c.Address = fmt.Sprintf("10.0.0.%d:5000", i+1)
			}
			if c.Account == "" {
				c.Account = "APP"
			}
			if c.Claim != nil {
				c.User, c.Account = c.Claim.Key, c.Claim.Account
				c.Login = posture.LoginJWT
				if c.Claim.Bearer {
					c.Login = posture.LoginBearer
				}
			}
		}
	}
}

func plain(login posture.Login, user string) posture.Session {
	return posture.Session{Door: posture.Client, Login: login, User: user, Encrypted: posture.No, Lang: "go"}
}

// in puts a session into the system account.
func in(account string, c posture.Session) posture.Session {
	c.Account = account
	return c
}

// jwtUser is a session of a JWT user of account AAPP, bound, restricted and not
// for ever.
func jwtUser(key string, change func(*posture.UserClaim)) posture.Session {
	claim := &posture.UserClaim{
		Key: key, Name: "name of " + key, Account: "AAPP", Issuer: "AAPP", Issued: now.Add(-24 * time.Hour),
		Expires: now.Add(90 * 24 * time.Hour), Bound: true,
	}
	if change != nil {
		change(claim)
	}
	return posture.Session{Door: posture.Client, Claim: claim, Lang: "go", Encrypted: posture.No}
}

func hasAll(c *posture.UserClaim) { c.Defaults, c.OpenPub, c.OpenSub = true, true, true }

// operated is a fleet in operator mode whose one server tells who is inside. The
// account AAPP goes by the claim, which change may alter; nil for none known.
func operated(change func(*posture.Claim), list ...posture.Session) *posture.Snapshot {
	snap := fleet(server("n1", operator("OA"), inside(list...), func(s *posture.Server) {
		s.SystemAccount, s.Accounts = "ASYS", []string{"ASYS", "AAPP"}
	}))
	snap.Trust = &posture.Trust{At: now.Add(-time.Hour), Accounts: []*posture.Account{{ID: "AAPP", Name: "APP", At: now.Add(-time.Hour)}, {ID: "ASYS", Name: "SYS", System: true}}}
	if change != nil {
		claim := &posture.Claim{Account: "AAPP", Issuer: "OA", Issued: now.Add(-48 * time.Hour), BearerUsers: true, OpenDefaults: true}
		change(claim)
		snap.Trust.Accounts[0].InForce = []posture.InForce{{Server: "n1", ServerID: "Nn1", Claim: claim}}
	}
	return snap
}

func asIs(*posture.Claim) {}

func revokes(user string) func(*posture.Claim) {
	return func(c *posture.Claim) {
		c.Revoked = []posture.Revocation{{User: user, Before: now.Add(-time.Hour)}}
	}
}

func expecting(users ...string) Policy {
	p := DefaultPolicy()
	for _, u := range users {
		p.Expected = append(p.Expected, Expected{User: u})
	}
	return p
}

// judged is what a check says of one account, or of one server.
func judged(t *testing.T, c *Check, snap *posture.Snapshot, policy Policy, subject string) Result {
	t.Helper()
	results := c.judgeAlone(snap, policy)
	for _, r := range results {
		if r.Scope.Account != subject && r.Scope.Server != subject {
			continue
		}
		if r.Outcome == NotApplicable && c.Together != "" {
			return results[len(results)-1] // of the system: what is common to accounts
		}
		return r
	}
	t.Fatalf("%s says nothing of %s", c.ID, subject)
	return Result{}
}

// TestExpectedInTheSystemAccount: what a client calls itself never makes it one
// who is expected.
func TestExpectedInTheSystemAccount(t *testing.T) {
	office := expecting("admin")
	office.Expected[0].Address = netip.MustParsePrefix("10.9.0.0/16")
	named := plain(posture.LoginUnknown, "admin")
	ours := plain(posture.LoginPassword, "natsentry")
	ours.Ours = true
	for _, c := range []struct {
		name    string
		session posture.Session
		policy  Policy
		want    Outcome
	}{
		{"expected", plain(posture.LoginPassword, "admin"), expecting("ad*"), Pass},
		{"not expected", plain(posture.LoginPassword, "admin"), expecting("other"), Fail},
		{"a name that is merely claimed", named, expecting("admin"), Fail},
		{"who calls itself so", posture.Session{Name: "admin", Door: posture.Client, Login: posture.LoginPassword, User: "x"}, expecting("admin"), Fail},
		{"from elsewhere", plain(posture.LoginPassword, "admin"), office, Fail},
		{"natsentry itself", ours, expecting("admin"), Pass},
		{"nobody is named", plain(posture.LoginPassword, "admin"), DefaultPolicy(), NotApplicable},
		{"a leafnode", posture.Session{Door: posture.Leafnode}, expecting("admin"), Pass},
	} {
		snap := fleet(server("n1", inside(in("$SYS", c.session))))
		if r := judged(t, sess003, snap, c.policy, "$SYS"); r.Outcome != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, r.Outcome, r.Summary, c.want)
		}
	}
	byName := jwtUser("UA", func(c *posture.UserClaim) { c.Account, c.Issuer = "ASYS", "ASYS" })
	if r := judged(t, sess003, operated(asIs, byName), expecting("name of UA"), "ASYS"); r.Outcome != Pass {
		t.Errorf("by the name in his JWT: %s (%s)", r.Outcome, r.Summary)
	}
}

// TestRevokedYetConnected: the latest claim counts, and sessions that are older
// than what is known of the claims are asked for again.
func TestRevokedYetConnected(t *testing.T) {
	signedBy := func(key string) posture.Session { return jwtUser("UA", func(c *posture.UserClaim) { c.Issuer = key }) }
	withKey := func(c *posture.Claim) { c.SigningKeys = []posture.SigningKey{{Key: "AKEY"}} }
	stored := func(snap *posture.Snapshot, issued time.Duration, change func(*posture.Claim)) *posture.Snapshot {
		claim := &posture.Claim{Account: "AAPP", Issuer: "OA", Issued: now.Add(issued), Mark: 2}
		change(claim)
		snap.Trust.Accounts[0].Stored = []*posture.Claim{claim}
		return snap
	}
	late := operated(revokes("UA"), jwtUser("UA", nil))
	late.Trust.Accounts[0].At = now
	for _, c := range []struct {
		name  string
		snap  *posture.Snapshot
		want  Outcome
		cause posture.Cause
	}{
		{"not revoked", operated(revokes("UB"), jwtUser("UA", nil)), Pass, ""},
		{"revoked", operated(revokes("UA"), jwtUser("UA", nil)), Fail, causeRevoked},
		{"all revoked", operated(revokes("*"), jwtUser("UA", nil)), Fail, causeRevoked},
		{"issued anew since", operated(revokes("UA"), jwtUser("UA", func(c *posture.UserClaim) { c.Issued = now })), Pass, ""},
		{"signer removed", operated(asIs, signedBy("AKEY")), Fail, causeSignerRemoved},
		{"signer listed", operated(withKey, signedBy("AKEY")), Pass, ""},
		{"revoked by what is stored only", stored(operated(asIs, jwtUser("UA", nil)), -time.Hour, revokes("UA")), Fail, causeRevoked},
		{"taken back since", stored(operated(revokes("UA"), jwtUser("UA", nil)), -time.Hour, asIs), Pass, ""},
		{"stored, and older", stored(operated(asIs, jwtUser("UA", nil)), -72*time.Hour, revokes("UA")), Pass, ""},
		{"a claim that nobody takes", stored(operated(asIs, jwtUser("UA", nil)), -time.Hour, func(c *posture.Claim) { revokes("UA")(c); c.Invalid = "forged" }), Pass, ""},
		{"sessions are older", late, Unknown, ""},
		{"a JWT that is not shown", operated(revokes("UA"), in("AAPP", plain(posture.LoginBearer, "UB"))), Unknown, ""},
		{"claims not known", operated(nil, jwtUser("UA", nil)), Unknown, ""},
	} {
		r := judged(t, sess005, c.snap, DefaultPolicy(), "AAPP")
		if r.Outcome != c.want || r.Cause != c.cause {
			t.Errorf("%s: %s %s (%s), want %s %s", c.name, r.Outcome, r.Cause, r.Summary, c.want, c.cause)
		}
		if r.Outcome == Fail && (len(r.Evidence) < 2 || !strings.HasPrefix(r.Evidence[0].Source, "CONNZ") || strings.HasPrefix(r.Evidence[len(r.Evidence)-1].Source, "CONNZ")) {
			t.Errorf("%s: not two sources: %+v", c.name, r.Evidence)
		}
	}
	both := operated(func(c *posture.Claim) { revokes("UA")(c); withKey(c) }, jwtUser("UA", nil), jwtUser("UB", func(c *posture.UserClaim) { c.Issuer = "AGONE" }))
	r := judged(t, sess005, both, DefaultPolicy(), "AAPP")
	if said := fmt.Sprint(r.Evidence); r.Cause != causeBothRefused || len(r.Evidence) != 4 || !strings.Contains(said, "revoke UA") || !strings.Contains(said, "do not list the signing key AGONE") ||
		!strings.Contains(said, ", revoked") || !strings.Contains(said, "its signing key is not listed") {
		t.Errorf("one revoked, one of a removed signer: %s (%s) %v", r.Outcome, r.Cause, r.Evidence)
	}
	if r := judged(t, sess005, late, DefaultPolicy(), "AAPP"); !r.Pending || len(r.Ask) != 1 || r.Ask[0] != "Nn1" {
		t.Errorf("sessions that are older: pending %v, ask %v", r.Pending, r.Ask)
	}
}

// TestUnrestrictedUsers resolves what an empty JWT means.
func TestUnrestrictedUsers(t *testing.T) {
	limited := func(c *posture.Claim) { c.OpenDefaults = false }
	keys := func(scoped, open bool) func(*posture.Claim) {
		return func(c *posture.Claim) {
			c.OpenDefaults = false
			c.SigningKeys = []posture.SigningKey{{Key: "AOTHER"}, {Key: "AKEY", Scoped: scoped, Open: open}}
		}
	}
	by := func(key string) func(*posture.UserClaim) {
		return func(c *posture.UserClaim) { hasAll(c); c.Issuer = key }
	}
	for _, c := range []struct {
		name  string
		claim func(*posture.Claim)
		user  func(*posture.UserClaim)
		want  Outcome
	}{
		{"nothing restricts him but the defaults of the account, which are open", func(c *posture.Claim) { c.OpenDefaults = true }, hasAll, NotApplicable},
		{"nothing restricts him, and he says so", asIs, func(c *posture.UserClaim) { c.OpenPub, c.OpenSub = true, true }, Fail},
		{"the account's defaults do", limited, hasAll, Pass},
		{"all, and said so: defaults do not hold", limited, func(c *posture.UserClaim) { c.OpenPub, c.OpenSub = true, true }, Fail},
		{"may publish everything only", asIs, func(c *posture.UserClaim) { c.OpenPub = true }, Pass},
		{"scoped, and the key restricts", keys(true, false), by("AKEY"), Pass},
		{"scoped, and the key does not", keys(true, true), by("AKEY"), Fail},
		{"a signing key without a scope: defaults hold", keys(false, false), by("AKEY"), Pass},
		{"a key that is not listed", keys(true, true), by("AGONE"), Unknown},
		{"claims not known", nil, hasAll, Unknown},
		{"claims not known, and not needed", nil, func(c *posture.UserClaim) { c.OpenPub, c.OpenSub = true, true }, Fail},
	} {
		if r := judged(t, jwt034, operated(c.claim, jwtUser("UA", c.user)), DefaultPolicy(), "AAPP"); r.Outcome != c.want {
			t.Errorf("%s: %s (%s), want %s", c.name, r.Outcome, r.Summary, c.want)
		}
	}
}

func TestUsersWithoutAnEnd(t *testing.T) {
	endless := func(account string, ours bool) posture.Session {
		c := jwtUser("U"+account, func(c *posture.UserClaim) { c.Account, c.Issuer, c.Expires = account, account, time.Time{} })
		c.Ours = ours
		return c
	}
	for _, c := range []struct {
		name    string
		session posture.Session
		want    Severity
	}{
		{"in an account", endless("AAPP", false), Info},
		{"in the system account", endless("ASYS", false), Critical},
		{"natsentry itself", endless("ASYS", true), Info},
	} {
		if r := judged(t, jwt030, operated(asIs, c.session), DefaultPolicy(), c.session.Claim.Account); r.Outcome != Fail || r.Severity != c.want {
			t.Errorf("%s: %s %s, want a failure of %s", c.name, r.Outcome, r.Severity, c.want)
		}
	}
	ends := func(issued, left time.Duration) posture.Session {
		return jwtUser("UA", func(c *posture.UserClaim) { c.Issued, c.Expires = now.Add(-issued), now.Add(left) })
	}
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		session posture.Session
		want    Outcome
	}{
		"soon":                        {ends(60*day, 6*day), Fail},
		"not soon":                    {ends(60*day, 8*day), Pass},
		"short-lived on purpose":      {ends(time.Hour, time.Hour), Pass},
		"at an end since it was told": {ends(60*day, -time.Second), Pass},
	} {
		if r := judged(t, jwt031, operated(asIs, c.session), DefaultPolicy(), "AAPP"); r.Outcome != c.want {
			t.Errorf("%s: %s (%s), want %s", name, r.Outcome, r.Summary, c.want)
		}
	}
}

// TestGuestsHaveNoPassword: sessions of the user that strangers are taken for may
// have come in without one.
func TestGuestsHaveNoPassword(t *testing.T) {
	snap := fleet(server("n1", inside(plain(posture.LoginPassword, "guest")), func(s *posture.Server) {
		s.Touches = []posture.Touch{{Door: posture.Client, Access: posture.Open, Answer: "PONG", Landing: &posture.Landing{Account: "APP", User: "guest"}}}
	}))
	for _, c := range []*Check{cred002, tls004} {
		subject := "APP"
		if c.Server != nil {
			subject = "n1"
		}
		if r := judged(t, c, snap, DefaultPolicy(), subject); r.Outcome != Pass {
			t.Errorf("%s: %s (%s)", c.ID, r.Outcome, r.Summary)
		}
	}
}

// TestFindingsOfManyAreShort: ten thousand users make one finding of an account,
// which says how many there are.
func TestFindingsOfManyAreShort(t *testing.T) {
	var list []posture.Session
	for i := range 10_000 {
		list = append(list, jwtUser(fmt.Sprintf("U%05d", i), func(c *posture.UserClaim) {
			c.OpenPub, c.OpenSub, c.Expires, c.Bound = true, true, time.Time{}, false
		}))
	}
	snap := operated(asIs, list...)
	for _, c := range []*Check{jwt030, jwt033, jwt034} {
		failed := 0
		for _, r := range c.judgeAlone(snap, DefaultPolicy()) {
			if r.Outcome != Fail {
				continue
			}
			failed++
			of, named := r.Summary, r.Scope.Account == "AAPP" && r.Scope.Name == "APP"
			if c.Together != "" {
				of, named = r.Evidence[len(r.Evidence)-1].Value, r.Scope.Kind == KindSystem && strings.HasSuffix(r.Summary, ": APP")
			}
			if len(r.Evidence) > shownSessions+1 || !strings.Contains(of, "10000") || !named {
				t.Errorf("%s: %d pieces of evidence of %+v: %s", c.ID, len(r.Evidence), r.Scope, r.Summary)
			}
		}
		if failed != 1 {
			t.Errorf("%s failed %d times", c.ID, failed)
		}
	}
}

// TestWhoDidNotTellIsNotPassed: a server that did not tell keeps every account
// from passing, and one that has shut down does not.
func TestWhoDidNotTellIsNotPassed(t *testing.T) {
	told := server("n1", inside(plain(posture.LoginNKey, "U")))
	partial := server("n2", inside(), func(s *posture.Server) { s.Everyone.Total = 1 })
	for name, c := range map[string]struct {
		other *posture.Server
		want  Outcome
	}{
		"told":      {server("n2", inside()), Pass},
		"silent":    {server("n2", silent(posture.Silent)), Unknown},
		"not asked": {server("n2"), Unknown},
		"in part":   {partial, Unknown},
		"shut down": {server("n2", silent(posture.ShutDown)), Pass},
	} {
		snap := fleet(told, c.other)
		if c.other.State == posture.ShutDown {
			snap.Expected = 1
		}
		if r := judged(t, cred002, snap, DefaultPolicy(), "APP"); r.Outcome != c.want {
			t.Errorf("%s: %s (%s), want %s", name, r.Outcome, r.Summary, c.want)
		}
	}
}

// TestOtherAgentsAreOurs: natsentry's user is not told of, whichever of its agents
// is connected; the policy has to name him all the same.
func TestOtherAgentsAreOurs(t *testing.T) {
	ours, other := plain(posture.LoginPassword, "natsentry"), plain(posture.LoginPassword, "natsentry")
	ours.Ours = true
	snap := fleet(server("n1", inside(in("$SYS", ours), in("$SYS", other))))
	if r := judged(t, cred002, snap, DefaultPolicy(), "$SYS"); r.Outcome != Pass {
		t.Errorf("CRED_002: %s (%s)", r.Outcome, r.Summary)
	}
	if r := judged(t, sess003, snap, expecting("admin"), "$SYS"); r.Outcome != Fail {
		t.Errorf("SESS_003: %s (%s)", r.Outcome, r.Summary)
	}
}

// TestServersWithoutANameMayHaveOthersInside: who is only counted has not told.
func TestServersWithoutANameMayHaveOthersInside(t *testing.T) {
	snap := fleet(server("n1", inside(plain(posture.LoginNKey, "U"))))
	snap.Expected = 2
	if r := judged(t, cred002, snap, DefaultPolicy(), "APP"); r.Outcome != Unknown {
		t.Errorf("%s (%s)", r.Outcome, r.Summary)
	}
}

func BenchmarkEvaluateEveryone(b *testing.B) {
	var list []posture.Session
	for i := range 10_000 {
		list = append(list, jwtUser(fmt.Sprintf("U%05d", i), hasAll))
	}
	snap := operated(asIs, list...)
	policy := expecting("admin")
	for b.Loop() {
		Evaluate(snap, policy)
	}
}
