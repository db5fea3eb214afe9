package integration

import (
	"errors"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// fileCure is a configuration with a finding of natsentry lint, and the same one
// after the remedy of that finding.
type fileCure struct {
	check       string
	cause       posture.Cause
	sick, cured string
}

func fileCures() []fileCure {
	nkey := must(must(nkeys.CreateUser()).PublicKey())
	const (
		plain  = `authorization { users: [ { user: app, password: "a-long-password-of-app" } ] }` + "\n"
		weak   = `authorization { users: [ { user: app, password: app } ] }` + "\n"
		hashed = `authorization { users: [ { user: app, password: {{bcrypt "a-long-password-of-app"}} } ] }` + "\n"
		route  = `cluster { name: c, listen: "{{addr "route"}}", authorization { user: route, password: SECRET } }` + "\n"
		two    = `authorization { users: [ { user: app, password: {{bcrypt "a-long-password-of-app"}}PERMISSIONS }, { user: guest, password: {{bcrypt "a-long-password-of-guest"}}PERMISSIONS } ] }` + "\n"
		may    = `, permissions: { publish: ["orders.>"], subscribe: ["orders.>", "_INBOX.>"] }`
	)
	with := func(config, word, by string) string { return strings.ReplaceAll(config, word, by) }
	config := func(id string, cause posture.Cause) string {
		return strings.ReplaceAll(check.Lookup(id).RemedyFor(cause).Config, `"`+placeholderHash+`"`, `{{bcrypt "a-long-password"}}`)
	}
	ws := websocket + ", no_tls: true }\n"
	if strings.Contains(websocket, "no_tls") {
		ws = websocket + " }\n"
	}
	account, curve := must(must(nkeys.CreateAccount()).PublicKey()), must(must(nkeys.CreateCurveKeys()).PublicKey())
	callout := func(more string) string {
		return `accounts { AUTH { users: [ { user: auth, password: {{bcrypt "a-long-password-of-auth"}} }, { user: watcher, password: {{bcrypt "a-long-password-of-watcher"}} } ] }, APP { users: [ { user: app, password: {{bcrypt "a-long-password-of-app"}} } ] } }` +
			"\nauthorization { auth_callout { issuer: " + account + ", account: AUTH, auth_users: [ auth ], " + more + " } }\n"
	}
	return []fileCure{
		{"PERM_008", "", callout("allowed_accounts: [ APP ]"), callout("allowed_accounts: [ APP, AUTH ], xkey: " + curve)},
		{"JWT_020", "no-xkey", callout("allowed_accounts: [ APP, AUTH ]"), callout("allowed_accounts: [ APP, AUTH ], xkey: " + curve)},
		{"DOOR_001", posture.CauseNoAuthBlock, "", config("DOOR_001", posture.CauseNoAuthBlock)},
		// A guest whose password is a hash admits nobody.
		{"DOOR_001", posture.CauseNoAuthUser, plain + "no_auth_user: app\n", plain},
		{"CONF_008", "", plain + "proxy_protocol: true\n", plain},
		{"TLS_007", "", plain + with(ws, " }", ", token_cookie: session }"), plain + with(ws, " }", ", token_cookie: session, allowed_origins: [ \"https://app.example.com\" ] }")},
		{"DOOR_002", posture.CauseInherits, ws, ws + config("DOOR_002", posture.CauseInherits)},
		{"DOOR_008", posture.CauseNeverAsks, hashed + "prof_port: {{port \"profile\"}}\n", hashed},
		{"SESS_004", "", "authorization { users: [ { user: app } ] }\n", hashed},
		{"CRED_001", "", "authorization { token: \"a-long-token-of-the-tests\" }\n", "authorization { users: [ { nkey: " + nkey + " } ] }\n"},
		{"CRED_002", "in-clear", plain, hashed},
		{"CRED_002", "in-clear-for-peers", with(route, "SECRET", `"a-long-password-of-route"`), with(route, "SECRET", "$ROUTE_PASSWORD")},
		{"CRED_003", "", weak, hashed},
		{"CRED_004", "", with(two, "PERMISSIONS", ""), with(two, "PERMISSIONS", may)},
		{"CONF_001", "", "# authorization {\n#   token: x\n# }\n", hashed},
		{"CONF_002", "", weak + hashed, hashed},
		{"CONF_003", "", "authorization { user: app, pass: one-long-password, password: another-long-password }\n", "authorization { user: app, password: another-long-password }\n"},
		{"CONF_004", "", with(two, "PERMISSIONS", may) + "no_auth_user: guest\n", with(two, "PERMISSIONS", may)},
	}
}

// judgedFile is what a check says of the configuration of a server.
func judgedFile(t *testing.T, s *fleet.Server, id string, cause posture.Cause) bool {
	t.Helper()
	file, err := conffile.Read(conffile.OnDisk(s.ConfigFile()))
	if err != nil {
		t.Fatal(err)
	}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	for _, r := range check.Evaluate(&posture.Snapshot{Config: true, Servers: []*posture.Server{file.Server}}, policy) {
		if r.Check.ID == id && r.Outcome == check.Fail && (cause == "" || r.Cause == cause) {
			return true
		}
	}
	return false
}

// TestRemediesOfFiles applies remedies to configurations with which real servers
// run: by a reload where that is promised, and else by a restart.
func TestRemediesOfFiles(t *testing.T) {
	t.Setenv("ROUTE_PASSWORD", "a-long-password-of-route")
	for _, c := range fileCures() {
		t.Run(c.check+" "+string(c.cause), func(t *testing.T) {
			s := start(t, fleet.Spec{Name: "n1", Config: c.sick}).Server("n1")
			if !judgedFile(t, s, c.check, c.cause) {
				t.Fatal("there is no such finding")
			}
			err := s.Reload(t.Context(), c.cured)
			if check.Lookup(c.check).RemedyFor(c.cause).Reload {
				if err != nil {
					t.Fatalf("the reload is refused: %v", err)
				}
			} else if err := errors.Join(s.Rewrite(c.cured), s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
			if judgedFile(t, s, c.check, c.cause) {
				t.Error("the finding does not end")
			}
		})
	}
}

// shownBy are remedies whose effect another test of this package shows, by
// "CHECK cause"; * stands for any characters.
var shownBy = map[string]string{
	"DOOR_001 no-config":                  "TestFix",
	"DOOR_002 hidden-user":                "TestTouchedRemedies",
	"DOOR_004 leaf-without-authorization": "TestTouchedRemedies",
	"DOOR_004 ":                           "TestFix",
	"DOOR_005 ":                           "TestTouchedRemedies",
	"DOOR_006 ":                           "TestTouchedRemedies",
	"JWT_011 servers-differ":              "TestClaimOnOneServer",
	"JWT_013 disabled":                    "TestDeletedAccount",
	"JWT_013 ":                            "TestAccountExpires",
	"SESS_005 *":                          "TestRevokedYetConnected",
	"FLEET_001 half-migrated":             "TestHalfFinishedMigration",
	"FLEET_002 old-claim":                 "TestOldOperatorClaim",
	"CONF_006 *":                          "TestLintRunning",
}

// notShown are remedies that no test applies, and why.
var notShown = map[string]string{
	"DOOR_00? allow-non-tls":                          "that of DOOR_001, which has a case; the listener follows the client port",
	"DOOR_00? certificate-only":                       "as allow-non-tls",
	"DOOR_00? no-auth-block":                          "as allow-non-tls",
	"DOOR_00? no-auth-user":                           "as allow-non-tls",
	"DOOR_00? no-config":                              "a server without a configuration file has no websocket or MQTT listener",
	"DOOR_003 hidden-user":                            "as DOOR_002, for MQTT",
	"DOOR_003 inherits":                               "as DOOR_002, for MQTT",
	"DOOR_00? anonymous-session":                      "the cause is not known: the remedy says where to look",
	"DOOR_00? hidden-user-or-callout-admits-all":      "the cause is not known: the remedy says where to look",
	"DOOR_00? default-sentinel-or-callout-admits-all": "the cause is not known: the remedy says where to look",
	"DOOR_00? callout-*":                              "no case yet: the callout service is the user's own program",
	"DOOR_00? default-sentinel":                       "no case yet: needs an operator whose sentinel is a bearer",
	"DOOR_00? no-trusted-key":                         "no case yet: needs an operator without keys",
	"DOOR_00[123] ":                                   "for causes that the catalogue does not know",
	"DOOR_009 ":                                       "says how to try by hand",
	"SESS_001 *":                                      "as those of the listener that admitted the session, beside the case of no-auth-block",
	"SESS_00[23] *":                                   "asks who somebody is: no server is changed",
	"FLEET_00[1-8] *":                                 "no case yet: several servers brought to one configuration, or a process to be looked at",
	"TLS_004 ":                                        "no case yet: needs a client of another machine",
	"CRED_002 ":                                       "a password is what the finding is about: it ends with the password",
	"CRED_005 ":                                       "several programs get users of their own",
	"JWT_00? ":                                        "no case yet",
	"JWT_04? ":                                        "no case yet",
	"JWT_010 identity-key":                            "no case yet",
	"JWT_010 other-account":                           "no case yet",
	"CONF_005 ":                                       "the variable is set where lint runs: no server is changed",
	"PERM_008 placed-in-its-account":                  "an upgrade to another release",
	"CONF_007 ":                                       "no server runs with such a configuration",
	"CONF_009 ":                                       "no case yet",
	"CONF_010 ":                                       "no case yet",
	"CVE_001 ":                                        "an upgrade to another release",
	"POLICY_001 ":                                     "a waiver in the policy of natsentry: no server is changed",
}

// TestEveryRemedy: each remedy of the catalogue is applied by a case, or by a test
// that is named, or a reason says why not. A case is a line in cures, in
// fileCures, or in nscCures.
func TestEveryRemedy(t *testing.T) {
	t.Parallel()
	applied := map[string]bool{}
	for _, c := range fileCures() {
		applied[c.check+" "+string(c.cause)] = true
	}
	for _, c := range cures(t) {
		applied[c.check+" "+string(c.cause)] = true
	}
	for _, c := range nscCures() {
		applied[c.check+" "+string(c.cause)] = true
	}
	tests := testSources(t)
	for pattern, name := range shownBy {
		if !strings.Contains(tests, "func "+name+"(") {
			t.Errorf("%s: there is no %s", pattern, name)
		}
	}
	used := map[string]bool{}
	match := func(key string, list map[string]string) bool {
		hit := false
		for pattern := range list {
			if ok, err := path.Match(pattern, key); err != nil {
				t.Errorf("%s: %v", pattern, err)
			} else if ok {
				used[pattern], hit = true, true
			}
		}
		return hit
	}
	for _, c := range check.Catalogue() {
		causes := slices.Sorted(maps.Keys(c.Remedies))
		if c.Remedy != (check.Remedy{}) {
			causes = append(causes, "")
		}
		for _, cause := range causes {
			key := c.ID + " " + string(cause)
			// A check with one remedy has it for all causes.
			ok := applied[key] || cause == "" && slices.ContainsFunc(slices.Collect(maps.Keys(applied)), func(k string) bool {
				id, other, _ := strings.Cut(k, " ")
				_, own := c.Remedies[posture.Cause(other)]
				return id == c.ID && !own
			})
			shown, excused := match(key, shownBy), match(key, notShown)
			if !ok && !shown && !excused {
				t.Errorf("no test applies the remedy of %s for %q: add a case to fileCures or cures, or a reason to notShown", c.ID, cause)
			}
		}
	}
	for _, list := range []map[string]string{shownBy, notShown} {
		for pattern := range list {
			if !used[pattern] {
				t.Errorf("%s is no remedy of the catalogue", pattern)
			}
		}
	}
}

// testSources is the text of the tests of this package.
func testSources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, e := range must(os.ReadDir(".")) {
		if strings.HasSuffix(e.Name(), "_test.go") {
			all.Write(must(os.ReadFile(e.Name())))
		}
	}
	return all.String()
}
