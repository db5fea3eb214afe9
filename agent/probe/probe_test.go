package probe_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/integration/fleet"
)

// system keeps the hidden user away from configurations that are about
// something else.
const (
	system = `accounts { $SYS { users: [ { user: sys, password: sys } ] }, APP { users: [ { user: app, password: app } ] } }
`
	users = `authorization { users: [ { user: app, password: app } ] }
`
)

func start(t *testing.T, spec fleet.Spec) *fleet.Server {
	t.Helper()
	spec.Name = "n1"
	f, err := fleet.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f.Server("n1")
}

func touch(t *testing.T, s *fleet.Server, door posture.DoorKind, label, path string) posture.Touch {
	t.Helper()
	p := probe.Prober{Silence: 150 * time.Millisecond}
	return p.Touch(t.Context(), probe.Target{Door: door, Address: s.Addr(label), ServerID: s.ID(), Path: path, TLS: posture.No})
}

func TestTouchPlain(t *testing.T) {
	for _, c := range []struct {
		name, config string
		door         posture.DoorKind
		path         string
		want         posture.Access
		landing      posture.Landing
	}{
		{"nothing", "", posture.Client, "", posture.Open, posture.Landing{Account: "$G"}},
		{"users", users, posture.Client, "", posture.Closed, posture.Landing{}},
		{"token", "authorization { token: s3cr3t }\n", posture.Client, "", posture.Closed, posture.Landing{}},
		{"no_auth_user", system + "no_auth_user: app\n", posture.Client, "", posture.Open, posture.Landing{Account: "APP", User: "app"}},
		{"no_auth_user with permissions", `accounts { APP { users: [ { user: app, password: app, permissions: { publish: "a", subscribe: "_INBOX.>" } } ] } }
no_auth_user: app
`, posture.Client, "", posture.Open, posture.Landing{Restricted: true}},
		{"no_auth_user for websockets only", `accounts { APP { users: [ { user: app, password: app, allowed_connection_types: [WEBSOCKET] } ] } }
no_auth_user: app
`, posture.Client, "", posture.Closed, posture.Landing{}},
		{"websocket with no_auth_user", system + `websocket { listen: "{{addr "ws"}}", no_tls: true, no_auth_user: app }
`, posture.Websocket, "", posture.Open, posture.Landing{Account: "APP", User: "app"}},
		{"websocket closed", system + `websocket { listen: "{{addr "ws"}}", no_tls: true }
`, posture.Websocket, "", posture.Closed, posture.Landing{}},
		{"websocket of an open server", `websocket { listen: "{{addr "ws"}}", no_tls: true }
`, posture.Websocket, "", posture.Open, posture.Landing{Account: "$G"}},
		{"websocket guarded on an open server", `websocket { listen: "{{addr "ws"}}", no_tls: true, authorization { username: u, password: p } }
`, posture.Websocket, "", posture.Closed, posture.Landing{}},
		{"leafnode over websocket", `leafnodes { listen: "{{addr "leaf"}}" }
websocket { listen: "{{addr "ws"}}", no_tls: true }
`, posture.Websocket, "/leafnode", posture.Open, posture.Landing{}},
		{"leafnode open", `leafnodes { listen: "{{addr "leaf"}}" }
`, posture.Leafnode, "", posture.Open, posture.Landing{}},
		{"leafnode closed", `leafnodes { listen: "{{addr "leaf"}}", authorization { user: l, password: l } }
`, posture.Leafnode, "", posture.Closed, posture.Landing{}},
		{"route open", `cluster { name: c, listen: "{{addr "route"}}" }
`, posture.Route, "", posture.Open, posture.Landing{}},
		{"route closed", `cluster { name: c, listen: "{{addr "route"}}", authorization { user: r, password: r } }
`, posture.Route, "", posture.Closed, posture.Landing{}},
		{"gateway open", `gateway { name: c, listen: "{{addr "gateway"}}" }
`, posture.Gateway, "", posture.Open, posture.Landing{}},
		{"gateway closed", `gateway { name: c, listen: "{{addr "gateway"}}", authorization { user: g, password: g } }
`, posture.Gateway, "", posture.Closed, posture.Landing{}},
		{"monitoring", `http: "{{addr "http"}}"
`, posture.Monitor, "", posture.Open, posture.Landing{}},
		{"monitoring below a path", `http: "{{addr "http"}}"
http_base_path: "/nats"
`, posture.Monitor, "/nats", posture.Open, posture.Landing{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			label := map[posture.DoorKind]string{
				posture.Client: "client", posture.Websocket: "ws", posture.Leafnode: "leaf",
				posture.Route: "route", posture.Gateway: "gateway", posture.Monitor: "http",
			}[c.door]
			got := touch(t, start(t, fleet.Spec{Config: c.config}), c.door, label, c.path)
			if got.Access != c.want {
				t.Fatalf("%s (%s %s), want %s", got.Access, got.Answer, got.Reason, c.want)
			}
			landing := posture.Landing{}
			if got.Landing != nil {
				landing = *got.Landing
			}
			if c.landing.Restricted && landing.Restricted {
				landing = c.landing // the account may show or not
			}
			if landing != c.landing {
				t.Errorf("landed in %+v, want %+v", landing, c.landing)
			}
		})
	}
}

func TestAnotherServerIsNoVerdict(t *testing.T) {
	s := start(t, fleet.Spec{Config: "http: \"{{addr \"http\"}}\"\n"})
	for door, label := range map[posture.DoorKind]string{posture.Client: "client", posture.Monitor: "http"} {
		got := (&probe.Prober{}).Touch(t.Context(), probe.Target{Door: door, Address: s.Addr(label), ServerID: "NOTHER"})
		if got.Access != posture.Unknown || !strings.Contains(got.Reason, "another server") {
			t.Errorf("%s: %s, %s", door, got.Access, got.Reason)
		}
	}
}

func TestUnreachableIsNoVerdict(t *testing.T) {
	s := start(t, fleet.Spec{})
	address := s.Addr("client")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	for _, door := range []posture.DoorKind{posture.Client, posture.Websocket, posture.Leafnode, posture.Route, posture.Gateway, posture.Monitor, posture.MQTT} {
		got := (&probe.Prober{}).Touch(ctx, probe.Target{Door: door, Address: address})
		if got.Access != posture.Unknown || got.Reason == "" {
			t.Errorf("%s: %s, %s", door, got.Access, got.Reason)
		}
	}
}

// TestIdentify tells all doors of a server apart by their banners.
func TestIdentify(t *testing.T) {
	t.Parallel()
	s := start(t, fleet.Spec{Config: system + `
system_account: "$SYS"
http: "{{addr "monitor"}}"
websocket { listen: "{{addr "websocket"}}", no_tls: true, no_auth_user: app }
leafnodes { listen: "{{addr "leafnode"}}" }
cluster { name: c, listen: "{{addr "route"}}", authorization { user: r, password: r } }
gateway { name: c, listen: "{{addr "gateway"}}" }
`})
	p := probe.Prober{Silence: 150 * time.Millisecond}
	for _, c := range []struct {
		door posture.DoorKind
		want []posture.Access
	}{
		{posture.Client, []posture.Access{posture.Closed}},
		{posture.Websocket, []posture.Access{posture.Open, posture.Open}}, // and the leafnodes behind it
		{posture.Leafnode, []posture.Access{posture.Closed}},
		{posture.Route, []posture.Access{posture.Closed}},
		{posture.Gateway, []posture.Access{posture.Open}},
		{posture.Monitor, []posture.Access{posture.Open}},
	} {
		found := p.Identify(t.Context(), s.Addr(c.door.String()))
		var got []posture.Access
		for _, f := range found {
			if f.Door != c.door || f.ServerID != s.ID() {
				t.Errorf("the %s door was taken for %s of %q (%s)", c.door, f.Door, f.ServerID, f.Reason)
			}
			got = append(got, f.Access)
		}
		if len(got) != len(c.want) || got[0] != c.want[0] {
			t.Errorf("%s: %v, want %v", c.door, got, c.want)
		}
	}
}

// TestTouchMQTT: only when asked for, and then its word counts.
func TestTouchMQTT(t *testing.T) {
	t.Parallel()
	const jetstream = `jetstream { store_dir: "{{dir}}/js" }
mqtt { listen: "{{addr "mqtt"}}"`
	for _, c := range []struct {
		name, config string
		want         posture.Access
	}{
		{"open", jetstream + " }\n", posture.Open},
		{"closed", users + jetstream + " }\n", posture.Closed},
		{"no_auth_user", users + jetstream + ", no_auth_user: app }\n", posture.Open},
	} {
		s := start(t, fleet.Spec{Config: c.config})
		target := probe.Target{Door: posture.MQTT, Address: s.Addr("mqtt"), TLS: posture.No}
		if got := (&probe.Prober{}).Touch(t.Context(), target); got.Access != posture.Unknown || got.Sent != 0 {
			t.Errorf("%s: touched without being asked: %+v", c.name, got)
		}
		if got := (&probe.Prober{MQTT: true}).Touch(t.Context(), target); got.Access != c.want {
			t.Errorf("%s: %s (%s %s), want %s", c.name, got.Access, got.Answer, got.Reason, c.want)
		}
	}
}
