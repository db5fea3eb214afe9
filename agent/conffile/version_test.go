package conffile

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestOtherReleases: a key that the linked nats-server does not know leaves a
// configuration for a newer release undecided, and a key that came after an older
// release keeps that one from starting.
func TestOtherReleases(t *testing.T) {
	const (
		closed   = "authorization { user: a, password: ahK0ohl0aith }\n"
		optional = closed + "tls { cert_file: a, key_file: b, ca_file: c, verify: optional }\n"
		pings    = "accounts { S { users: [ { user: a, password: ahK0ohl0aith } ] }, A { users: [ { user: b, password: ahK0ohl0aith } ] } }\nsystem_account: S\ngateway { name: g, port: 7222, ping_interval: \"10s\", ping_max: 3 }\nleafnodes { port: 7422, ping_interval: \"10s\" }\n"
		bogus    = closed + "some_new_key: true\n"
	)
	const taken, refused, undecided = "taken", "refused", "undecided"
	for _, c := range []struct {
		text, version, want, why string
	}{
		{optional, "", taken, ""},
		{optional, server.VERSION, taken, ""},
		{optional, "2.14.10", taken, ""},
		{optional, "2.14.11", taken, ""},
		{optional, "2.16.0", taken, ""},
		{optional, "2.15.2", refused, "tls.verify: optional"},
		{optional, "2.14.9", refused, "releases from 2.14.10 and 2.15.3 on do"},
		{optional, "2.10.29", refused, "tls.verify: optional"},
		{optional, "2.15.3-RC.1", taken, ""}, // whether that one knows it is not known
		{strings.Replace(optional, "optional", "true", 1), "2.10.29", taken, ""},
		{closed + "websocket { port: 8443, tls { cert_file: a, key_file: b, ca_file: c, verify: optional } }\n", "2.15.2", refused, "websocket.tls.verify: optional"},
		{pings, server.VERSION, taken, ""},
		{pings, "2.15.2", refused, "does not know gateway.ping_interval"},
		{pings, "2.15.2", refused, "does not know leafnodes.ping_interval"},
		{closed + "proxy_protocol: true\n", "2.12.1", refused, "does not know proxy_protocol"},
		{closed + "proxy_protocol: true\n", "2.12.2", taken, ""},
		{bogus, "", refused, `unknown field "some_new_key"`},
		{bogus, server.VERSION, refused, `unknown field "some_new_key"`},
		{bogus, "2.14.10", refused, `unknown field "some_new_key"`},
		{bogus, "2.99.0", undecided, "nats-server 2.99.0 may know the key some_new_key: it is newer than " + server.VERSION},
		{bogus, "2.99.0-RC.1", undecided, "may know the key some_new_key"},
		{closed + "gateway { name: g, port: 7222, some_new_key: 1 }\n", "2.99.0", undecided, "may know the key some_new_key"},
		{bogus + "port: x\n", "2.99.0", refused, "port must be a whole number"},
	} {
		f, err := Read(Source{Name: "n1.conf", Text: []byte(c.text), Version: c.version})
		if err != nil {
			t.Fatal(err)
		}
		config, got := f.Server.Config, taken
		remarks := config.Absent
		switch {
		case len(config.Refused) > 0:
			got, remarks = refused, config.Refused
		case len(config.Absent) > 0:
			got = undecided
		}
		var said strings.Builder
		for _, r := range remarks {
			said.WriteString(r.Place.String() + " " + r.Text + "\n")
			if r.Place.Line == 0 {
				t.Errorf("%q for %q: no place: %s", c.text, c.version, r.Text)
			}
		}
		if got != c.want || !strings.Contains(said.String(), c.why) {
			t.Errorf("%q for %q is %s, want %s: %s", c.text, c.version, got, c.want, said.String())
		}
		if access := f.Server.Door(posture.Client).Access; (access == posture.Unknown) != (got != taken) {
			t.Errorf("%q for %q: the client listener is %s", c.text, c.version, access)
		}
	}
}

// TestCalloutByRelease: whether users that an auth callout places in its own account
// may see its requests hangs on the release.
func TestCalloutByRelease(t *testing.T) {
	const text = "accounts { AUTH { users: [ { user: auth, password: ahK0ohl0aith } ] } }\n" +
		"authorization { auth_callout { issuer: ABJHLOVMPA4CI6R5KLNGOB4GSLNIY7IOUPAJC4YFNDLQVIOBYQGUWVLA, account: AUTH, auth_users: [ auth ] } }\n"
	for version, want := range map[string]posture.Tri{
		"": posture.No, server.VERSION: posture.No, "2.14.10": posture.No, "2.16.0": posture.No,
		"2.15.2": posture.Yes, "2.14.9": posture.Yes, "2.11.6": posture.Yes, "2.15.3-RC.1": posture.Unseen,
	} {
		f, err := Read(Source{Name: "n1.conf", Text: []byte(text), Version: version})
		if err != nil {
			t.Fatal(err)
		}
		c := f.Server.Config.Callout
		if c == nil {
			t.Fatalf("%q: no callout: %v", version, f.Server.Config.Refused)
		}
		if c.Placed != want || c.Account != "AUTH" || c.Encrypted != posture.No || len(c.Watchers) > 0 {
			t.Errorf("%q: %+v, want placed %v", version, c, want)
		}
	}
}
