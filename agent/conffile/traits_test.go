package conffile

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestTraits: what advisories take, as a configuration has it.
func TestTraits(t *testing.T) {
	const (
		yes, no, unseen = posture.Yes, posture.No, posture.Unseen

		users   = "authorization { users: [ { user: a, password: b }, { user: g, password: g } ] }\n"
		limited = "authorization { users: [ { user: a, password: b }, { user: g, password: g, allowed_connection_types: [WEBSOCKET] } ] }\n"
		system  = "accounts { SYS { users: [ { user: s, password: b } ] } }\nsystem_account: SYS\n"
		certs   = "{ cert_file: a, key_file: b, ca_file: c, verify_and_map: true }\n"
		perhaps = "{ cert_file: a, key_file: b, ca_file: c, verify_and_map: $MAP }\n"
	)
	// In the order of the fields: a no_auth_user, one that is refused, only the
	// system account, and certificates that are mapped.
	for _, tc := range []struct {
		text   string
		change func(*Source)
		want   posture.Traits
	}{
		{"", nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{users, nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{users + "no_auth_user: g", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{limited + "no_auth_user: $G", nil, posture.Traits{NoAuthUser: unseen, RefusesNoAuthUser: unseen, OnlySystemAccount: unseen, MapsCertificates: no}},
		{users + "no_auth_user: $G", nil, posture.Traits{NoAuthUser: unseen, RefusesNoAuthUser: no, OnlySystemAccount: unseen, MapsCertificates: no}},
		{users + "no_auth_user: $G", env("G", "g"), posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{limited + "no_auth_user: g", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: yes, OnlySystemAccount: no, MapsCertificates: no}},
		{limited + "websocket { port: 80, no_tls: true, no_auth_user: g }", nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{"authorization { users: [ { user: g, password: g, allowed_connection_types: [STANDARD] } ] }\nno_auth_user: g", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{"authorization { users: [ { user: g, password: g, allowed_connection_types: [STANDARD] } ] }\nno_auth_user: g\nwebsocket { port: 80, no_tls: true }", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: yes, OnlySystemAccount: no, MapsCertificates: no}},
		{"authorization { users: [ { user: g, password: g, proxy_required: true } ] }\nno_auth_user: g", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: yes, OnlySystemAccount: no, MapsCertificates: no}},

		// The hidden user is one, and only releases of old make it in the last.
		{system, nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: no, OnlySystemAccount: yes, MapsCertificates: no}},
		{system + users, nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: yes, MapsCertificates: no}},
		{"accounts { $SYS { users: [ { user: s, password: b } ] } }\n" + users, nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: yes, MapsCertificates: no}},
		{system + users + "no_auth_user: g", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{guarded, nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{"operator: /nowhere.jwt", nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},

		{users + "tls " + certs, nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: yes}},
		{users + "mqtt { port: 1, tls " + certs + "}\njetstream: enabled\nserver_name: n", nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: yes}},
		{users + "tls " + perhaps, nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: unseen}},
		{users + "tls " + perhaps, env("MAP", "true"), posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: yes}},
		{users + "tls { cert_file: a, key_file: b, ca_file: c, verify: true }", nil, posture.Traits{NoAuthUser: no, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},

		// Which spelling is taken changes from start to start.
		{users + "no_auth_user: g\nNo_Auth_User: a", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: no, OnlySystemAccount: no, MapsCertificates: no}},
		{limited + "no_auth_user: g\nNo_Auth_User: a", nil, posture.Traits{NoAuthUser: yes, RefusesNoAuthUser: unseen, OnlySystemAccount: no, MapsCertificates: no}},
		{users + "authorization: {}\nno_auth_user: g", nil, posture.Traits{}}, // refused
		{"a {", nil, posture.Traits{}},
	} {
		var changes []func(*Source)
		if tc.change != nil {
			changes = append(changes, tc.change)
		}
		f := read(t, tc.text, changes...)
		if diff := cmp.Diff(tc.want, f.Server.Config.Traits); diff != "" {
			t.Errorf("%s\n(-want +got)\n%s\n%v", tc.text, diff, f.Server.Config.Refused)
		}
	}
}

func TestJetStream(t *testing.T) {
	for _, tc := range []struct {
		text   string
		change func(*Source)
		want   posture.Tri
	}{
		{"", args(), posture.No},
		{"jetstream: enabled", args(), posture.Yes},
		{"jetstream { enabled: false }", args(), posture.No},
		{"jetstream { store_dir: /nowhere }", args(), posture.Yes},
		{"jetstream: $JS", args(), posture.Unseen},
		{"jetstream { enabled: $JS }", args(), posture.Unseen},
		{"jetstream: $JS", env("JS", "enabled"), posture.Yes},
		{"", args("-js"), posture.Yes},
		{"jetstream { enabled: true }\nJetstream { enabled: false }", args(), posture.Unseen},
	} {
		if got := read(t, tc.text, tc.change).Server.JetStream; got != tc.want {
			t.Errorf("%s: %d, want %d", tc.text, got, tc.want)
		}
	}
}

// TestToken: the token that lets clients in, and where it stands.
func TestToken(t *testing.T) {
	for _, tc := range []struct {
		text   string
		change func(*Source)
		want   string
	}{
		{"", args(), ""},
		{"authorization {\n  token: abc }", args(), "n1.conf:2:3"},
		{"authorization {\n  token: $T }", args(), "n1.conf:2:3"},
		{"authorization {\n  token: $T }", env("T", "abc"), "n1.conf:2:3"},
		{"authorization { token: \"\" }", args(), ""},
		{"authorization { user: a, password: b }", args(), ""},
		{"port: 4222", args("--auth", "abc"), "n1.conf"},
		{"authorization { token: abc }", args("--auth", "def"), "n1.conf"},
		{"websocket { port: 80, no_tls: true, authorization { token: abc } }", args(), ""},
		{"authorization { token: abc }\nauthorization {}", args(), ""},
	} {
		got := ""
		if at := read(t, tc.text, tc.change).Server.Config.Token; at != nil {
			got = at.String()
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.text, got, tc.want)
		}
	}
}

// TestVersions: that of a configuration is what somebody has said, and its rules
// are those of the nats-server that is linked.
func TestVersions(t *testing.T) {
	version := func(v string) func(*Source) { return func(s *Source) { s.Version = v } }
	for _, text := range []string{"port: 4222", "a {", "authorization { user: a, nonsense: b }"} {
		for _, v := range []string{"", "2.12.6"} {
			if got := read(t, text, version(v)).Server.Version; got != v {
				t.Errorf("%s: %q, want %q", text, got, v)
			}
		}
	}
	for v, want := range map[string]posture.Access{
		"": posture.Closed, "2.11.17": posture.Open, "2.12.0": posture.Closed, "2.12.0-RC.1": posture.Unknown, "2.12.0-alpine": posture.Unknown, "2.12.1-alpine": posture.Closed,
	} {
		s := read(t, guarded+"leafnodes { port: 7422 }", version(v)).Server
		if got := s.Door(posture.Leafnode).Access; got != want {
			t.Errorf("the leafnode port of %q is %s, want %s", v, got, want)
		}
	}
}
