package integration

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// valueCase is a configuration whose variables have no value where it is linted,
// with values that they may have where the server runs.
type valueCase struct {
	name   string
	config string
	values map[string][]string // by variable; the text of an environment, which may be empty
	want   map[string]posture.Access
	key    string // that decides, where an access is unknown
}

// TestLintVariables: the verdict on a listener stands without the value of a
// variable exactly where it is the same for all values with which a server starts.
// Every value is given to a real server, and an anonymous client tries it.
func TestLintVariables(t *testing.T) {
	ca := newAuthority(t).files(365 * 24 * time.Hour)
	nkey := must(must(nkeys.CreateUser()).PublicKey())
	const open, closed, unknown = posture.Open, posture.Closed, posture.Unknown
	client := func(a posture.Access) map[string]posture.Access {
		return map[string]posture.Access{oracle.Client: a}
	}
	text := []string{"", `""`, "abcdefgh"}
	for _, tc := range []valueCase{
		{"users", `authorization { users: [ { user: $U, password: $P } ] }`, map[string][]string{"U": text, "P": text}, client(closed), ""},
		{"nkey", `authorization { users: [ { nkey: $NK } ] }`, map[string][]string{"NK": {nkey, "", "x"}}, client(closed), ""},
		{"token", `authorization { token: $T }`, map[string][]string{"T": text}, client(unknown), "authorization.token"},
		{"single user", `authorization { user: $U, password: $P }`, map[string][]string{"U": text, "P": text}, client(unknown), "authorization.user"},
		{"password of a single user", `authorization { user: app, password: $P }`, map[string][]string{"P": text}, client(closed), ""},
		{"no_auth_user", guardedPlain + `no_auth_user: $G`, map[string][]string{"G": {"", "app", "guest", "nobody"}}, client(unknown), "no_auth_user"},
		{
			"password of a no_auth_user", `accounts { APP { users: [ { user: app, password: $P } ] } }` + "\nno_auth_user: app",
			map[string][]string{"P": {"", "abcdefgh", `"$2a$04$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6"`}},
			client(unknown), "accounts.APP.users.password",
		},
		{
			"system account", `accounts { ADMIN { users: [ { user: admin, password: admin-password } ] } }` + "\nsystem_account: $S",
			map[string][]string{"S": {"", "ADMIN", "nowhere"}},
			client(unknown), "system_account",
		},
		{
			"system account of several", guardedPlain + `system_account: $S`,
			map[string][]string{"S": {"", "APP", "OTHER", "nowhere"}},
			client(closed), "",
		},
		{"system account alone", `system_account: $S`, map[string][]string{"S": {"", `"$SYS"`}}, client(open), ""},
		{
			"verify", strings.Replace(tlsBlock("verify: true"), "verify: true", "verify: $V", 1),
			map[string][]string{"V": {"true", "false", "optional", "7"}},
			client(unknown), "tls.verify",
		},
		{
			"verify, users", strings.Replace(tlsBlock("verify: true"), "verify: true", "verify: $V", 1) + guardedPlain,
			map[string][]string{"V": {"true", "false", "optional"}},
			client(closed), "",
		},
		{
			"allow_non_tls", tlsBlock("verify: true") + `allow_non_tls: $A`,
			map[string][]string{"A": {"true", "false"}},
			client(unknown), "allow_non_tls",
		},
		{
			"leafnode user", leafBlock + `, authorization { users: [ { user: leaf, password: $LP } ] } }`,
			map[string][]string{"LP": text},
			map[string]posture.Access{oracle.Client: open, oracle.Leafnode: closed},
			"",
		},
		{
			"leafnode user without a name", leafBlock + `, authorization { users: [ { user: $LU, password: $LP } ] } }`,
			map[string][]string{"LU": text, "LP": text},
			map[string]posture.Access{oracle.Client: open, oracle.Leafnode: unknown},
			"leafnodes.authorization.users.user",
		},
		{
			"route user", routeBlock + `, authorization { user: $U, password: $P } }`,
			map[string][]string{"U": text, "P": text},
			map[string]posture.Access{oracle.Client: open, oracle.Route: unknown},
			"cluster.authorization.user",
		},
		{
			"names that agree", strings.ReplaceAll(routeBlock+"}\n"+gateBlock+"}\n", "name: c", "name: $N"),
			map[string][]string{"N": {"g"}},
			map[string]posture.Access{oracle.Client: open, oracle.Route: open, oracle.Gateway: open},
			"",
		},
		{
			"websocket's own user", wsBlock + `, authorization { user: $U, password: $P } }` + "\nauthorization { user: app, password: app-password }",
			map[string][]string{"U": text, "P": text},
			map[string]posture.Access{oracle.Client: closed, oracle.Websocket: closed},
			"",
		},
		{
			"connection types", guest(`, allowed_connection_types: [$C]`) + wsBlock + "}\n" + jetstream,
			map[string][]string{"C": {"STANDARD", "WEBSOCKET", "MQTT", "nonsense"}},
			map[string]posture.Access{oracle.Client: unknown, oracle.Websocket: unknown},
			"accounts.APP.users.allowed_connection_types",
		},
		{"a whole block", `authorization: $A`, map[string][]string{"A": {"{}", "{ token: abcdefgh }", "x"}}, client(unknown), "authorization"},
		{"numbers and the like", "max_payload: $M\nping_interval: $I\nmax_pending: $MP", map[string][]string{"M": {"1000"}, "I": {`"2m"`}, "MP": {"64MB"}}, client(open), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := start(t, fleet.Spec{Name: "beside"})
			seen := map[string]map[bool]bool{}
			var file string
			for i, values := range combinations(tc.values) {
				for name, value := range values {
					t.Setenv(name, value)
				}
				name := "n" + string(rune('a'+i))
				s, err := f.Add(t.Context(), fleet.Spec{Name: name, Config: tc.config, Files: ca})
				if err != nil {
					continue // it does not start with these
				}
				file = s.ConfigFile()
				given := lintAt(t, file, os.LookupEnv)
				c := truthCase{name: tc.name}
				for door, outcome := range try(t, &c, targetOf(s, &c)) {
					if seen[door] == nil {
						seen[door] = map[bool]bool{}
					}
					seen[door][outcome.In] = true
					if d := given.Door(kinds[door]); (d.Access == posture.Open) != outcome.In || d.Access == posture.Unknown {
						t.Errorf("with %v lint calls the %s listener %s (%s), and an anonymous client is in: %v (%s)", values, door, d.Access, d.Reason, outcome.In, outcome.How)
					}
				}
				if err := s.Stop(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for name := range tc.values {
				if err := os.Unsetenv(name); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := f.Add(t.Context(), fleet.Spec{Name: "absent", Config: tc.config, Files: ca}); err == nil {
				t.Error("a server starts although the variable is absent")
			}
			s := lintAt(t, file, nil)
			if len(s.Config.Refused)+len(s.Config.Absent) > 0 {
				t.Fatalf("refused: %v, absent: %v", s.Config.Refused, s.Config.Absent)
			}
			for door, want := range tc.want {
				d := s.Door(kinds[door])
				if d.Access != want {
					t.Errorf("lint calls the %s listener %s (%s), want %s", door, d.Access, d.Reason, want)
				}
				if want == unknown && !strings.Contains(d.Reason, tc.key+" at ") {
					t.Errorf("the %s listener is unknown for %q, and not for %s", door, d.Reason, tc.key)
				}
				switch outcomes := seen[door]; {
				case want == open && outcomes[false], want == closed && outcomes[true], want == unknown && len(outcomes) < 2:
					t.Errorf("lint calls the %s listener %s, and an anonymous client was in: %v", door, want, slices.Collect(maps.Keys(outcomes)))
				case len(outcomes) == 0:
					t.Errorf("nobody tried the %s listener", door)
				}
			}
		})
	}
}

// combinations are all ways to give each variable one of its values.
func combinations(values map[string][]string) []map[string]string {
	out := []map[string]string{{}}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		var next []map[string]string
		for _, before := range out {
			for _, value := range values[name] {
				with := maps.Clone(before)
				with[name] = value
				next = append(next, with)
			}
		}
		out = next
	}
	return out
}

// lintAt is what lint makes of a file in an environment.
func lintAt(t *testing.T, file string, env func(string) (string, bool)) *posture.Server {
	t.Helper()
	f, err := conffile.Read(conffile.Source{Name: file, Read: conffile.Disk, Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return f.Server
}
