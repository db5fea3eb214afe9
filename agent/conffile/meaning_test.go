package conffile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

// valued are configurations with variables in the places that decide who gets in.
var valued = []string{
	"authorization { user: $A, password: $B }",
	"authorization { token: $A }",
	"authorization { users: [ { user: $A, password: $B }, { user: app, password: $C } ] }\nno_auth_user: $D",
	"authorization { users: [ { user: $A, password: $B }, { nkey: $C } ] }\nno_auth_user: app",
	"accounts { APP { users: [ { user: app, password: $A, allowed_connection_types: [ $B ] } ] }, SYS { users: [ { user: sys, password: $C } ] } }\nsystem_account: $D\nno_auth_user: app\nwebsocket { port: 80, no_tls: true }",
	"accounts { SYS { users: [ { user: $A, password: $B } ] } }\nsystem_account: $C",
	"tls { cert_file: a, key_file: b, ca_file: c, verify: $A, verify_and_map: $B }\nallow_non_tls: $C",
	"tls { cert_file: a, key_file: b, ca_file: c, verify: $A, handshake_first: $B }\nallow_non_tls: $C\nauthorization { users: [ { user: app, password: app } ] }\nno_auth_user: $D",
	"websocket { port: $A, no_tls: $B, no_auth_user: $C }\nauthorization { users: [ { user: app, password: app-password } ] }",
	"websocket { port: 80, no_tls: true, authorization { user: $A, password: $B, token: $C } }",
	"mqtt { port: 1883, authorization { user: $A, token: $B } }\njetstream: $C\nserver_name: n",
	"leafnodes { port: 7422, authorization { user: $A, password: $B, account: $C } }\naccounts { APP {} }",
	"leafnodes { port: 7422, authorization { users: [ { user: $A, password: $B, account: $C } ] } }\naccounts { APP {} }",
	"leafnodes { listen: $A, authorization { nkey: $B } }\nwebsocket { port: 80, no_tls: true }",
	"cluster { name: $A, port: $B, authorization { user: $C, password: $D } }",
	"gateway { name: g, port: $A, authorization { user: $B, password: $C }, reject_unknown_cluster: $D }",
	"http_port: $A\nhttps_port: $B\nprof_port: $C",
	"trusted_keys: $A\nauthorization { users: [ { user: $B, password: $C } ] }\nno_auth_user: $B",
	"operator: /nowhere.jwt\nresolver: MEMORY\nsystem_account: $A\nresolver_preload: $B",
	"jetstream: $A\ncluster { name: c, port: 6222 }\nserver_name: $B",
	"no_auth_user: $A\naccounts { APP { users: [ { user: $A, password: $B } ] }, B { users: [ { user: $C, password: $B } ] } }",
	"port: $A\nhttp: $A\nwebsocket { port: $B, no_tls: true }",
	"authorization { users: [ { user: app, password: app-password, proxy_required: $A } ] }\nno_auth_user: $B",
	"authorization { timeout: $A, users: $B }",
	"accounts: $A\nno_auth_user: $B",
}

// values are what variables may hold.
func values(random *rand.Rand) string {
	keys := standInKeys()
	pool := []string{
		"", `""`, "app", "sys", "abcdefgh", "APP", "SYS", `"$SYS"`, `"$G"`, "true", "false", "optional", "auto", "0", "1", "-1", "4444", "70000", "1.5", `"127.0.0.1:4555"`,
		hash, keys["user"], keys["account"], keys["operator"], "STANDARD", "WEBSOCKET", "LEAFNODE", "MQTT", "c", "g", "[]", "{}", "[ app ]", "enabled", `"2s"`,
		"{ APP { users: [ { user: app, password: x } ] } }", "[ { user: app, password: x } ]",
	}
	return pool[random.IntN(len(pool))]
}

// TestMeaningsAreAll: a verdict that stands without the values of variables is the
// verdict with any values with which nats-server starts. What the verdict with
// values is worth is for the integration tests to show.
func TestMeaningsAreAll(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same ones each time
	decided, started := 0, 0
	for _, text := range valued {
		without := read(t, text).Server
		if len(without.Config.Refused) > 0 {
			t.Errorf("%s: refused: %v", text, without.Config.Refused)
		}
		for range 150 {
			given := []string{"A", values(random), "B", values(random), "C", values(random), "D", values(random)}
			s := read(t, text, env(given...)).Server
			if len(s.Config.Refused) > 0 {
				continue // it does not start with these
			}
			started++
			for _, kind := range posture.DoorKinds() {
				before, after := without.Door(kind), s.Door(kind)
				if before.Access == posture.Unknown {
					continue
				}
				decided++
				if before.Access != after.Access || before.On == posture.Yes && after.On != posture.Yes {
					t.Errorf("%s\nthe %s listener is %s (%s) without values, and %s with %q: %v", text, kind, before.Access, before.Reason, after.Access, given, after.Evidence)
				}
				if before.TLS.Verify != posture.Unseen && after.On == posture.Yes && before.TLS != after.TLS {
					t.Errorf("%s\nTLS of the %s listener is %+v without values, and %+v with %q", text, kind, before.TLS, after.TLS, given)
				}
			}
			if before, after := without.Config.Traits, s.Config.Traits; before.Agreed(after) != before {
				t.Errorf("%s\ntraits are %+v without values, and %+v with %q", text, before, after, given)
			}
		}
	}
	if decided < 1000 || started < 100 {
		t.Errorf("%d verdicts of %d starts are too few to tell anything", decided, started)
	}
	t.Logf("%d verdicts of %d starts", decided, started)
}

// TestManyVariables: the combinations that are tried are bounded, and what is not
// tried is unknown, and says so.
func TestManyVariables(t *testing.T) {
	var users strings.Builder
	for i := range 40 {
		fmt.Fprintf(&users, "{ user: $U%d, password: $P%d },\n", i, i)
	}
	list := "accounts { APP { users: [\n" + users.String() + "] } }\n"
	d := read(t, list).Server.Door(posture.Client)
	if d.Access != posture.Closed {
		t.Errorf("nobody is taken for any of many users, and the client listener is %s (%s)", d.Access, d.Reason)
	}
	s := read(t, list+"no_auth_user: $G\ncluster { name: c, port: 6222, authorization { user: r, password: $R } }\n").Server
	d = s.Door(posture.Client)
	if d.Access != posture.Unknown || !strings.Contains(d.Reason, "it depends on 81 variables that have no value here, and on too many of their meanings to try all") {
		t.Errorf("the client listener is %s (%s)", d.Access, d.Reason)
	}
	if r := s.Door(posture.Route); r.Access != posture.Closed {
		t.Errorf("the route listener depends on none of them, and is %s (%s)", r.Access, r.Reason)
	}
	if slices.ContainsFunc(d.Evidence, func(e posture.Evidence) bool { return strings.Contains(e.Value, unsetPrefix) }) {
		t.Errorf("%v", d.Evidence)
	}
}
