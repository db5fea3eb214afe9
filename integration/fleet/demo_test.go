package fleet_test

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestDemo proves with real clients that each server of the demonstration is
// open where its name says so, and closed everywhere else.
func TestDemo(t *testing.T) {
	f, err := fleet.Start(t.Context(), fleet.Demo()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	login := nats.UserInfo(fleet.DemoSystemUser, fleet.DemoSystemPassword)
	count := len(fleet.Demo())
	if err := f.WaitActive(t.Context(), f.Server("safe").URL(), count, login); err != nil {
		t.Fatal(err)
	}
	sys := connect(t, f.Server("safe").URL(), login)

	t.Run("client doors", func(t *testing.T) {
		open := map[string]bool{"no-auth-user": true, "no-auth": true, "hidden-user": true}
		for _, s := range f.Servers() {
			if got := anonymous(t, s.URL()); got != open[s.Name()] {
				t.Errorf("%s: an anonymous client gets in: %v, want %v", s.Name(), got, open[s.Name()])
			}
		}
	})

	t.Run("the token opens", func(t *testing.T) {
		connect(t, f.Server("token").URL(), nats.Token("demo-token"))
	})

	t.Run("websocket door", func(t *testing.T) {
		if !anonymous(t, "ws://"+f.Server("websocket-open").Addr("websocket")) {
			t.Error("refused")
		}
	})

	t.Run("mqtt door", func(t *testing.T) {
		if code := mqttConnect(t, f.Server("mqtt-open").Addr("mqtt")); code != 0 {
			t.Errorf("CONNACK %d, want 0", code)
		}
	})

	t.Run("monitor door", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+f.Server("monitor-open").Addr("monitor")+"/varz", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("status %s", res.Status)
		}
	})

	t.Run("cluster doors", func(t *testing.T) {
		for _, s := range f.Servers() {
			route, gateway := s.Addr("route"), s.Addr("gateway")
			if route == "" {
				continue // the leaf
			}
			want := refused
			if s.Name() == "route-open" {
				want = "-ERR 'attempted to connect to route port'"
			}
			if got := touch(t, route); got != want {
				t.Errorf("%s: route says %q, want %q", s.Name(), got, want)
			}
			if got := touch(t, gateway); got != refused {
				t.Errorf("%s: gateway says %q, want %q", s.Name(), got, refused)
			}
		}
		if got := touch(t, f.Server("safe").Addr("leafnode")); got != refused {
			t.Errorf("safe: leafnode says %q, want %q", got, refused)
		}
		if got, want := touch(t, f.Server("leaf-open").Addr("leafnode")), "-ERR 'attempted to connect to leaf node port'"; got != want {
			t.Errorf("leaf-open: leafnode says %q, want %q", got, want)
		}
	})

	t.Run("landing of the hidden user", func(t *testing.T) {
		var info struct {
			Data struct {
				User    string `json:"user"`
				Account string `json:"account"`
			} `json:"data"`
		}
		ask(t, connect(t, f.Server("hidden-user").URL()), "$SYS.REQ.USER.INFO", &info)
		if !regexp.MustCompile(`^nats-[0-9A-Za-z]{8}$`).MatchString(info.Data.User) || info.Data.Account != "$G" {
			t.Errorf("landed as %q in %q", info.Data.User, info.Data.Account)
		}
	})

	t.Run("what VARZ says", func(t *testing.T) {
		for _, s := range f.Servers() {
			var varz struct {
				Server struct {
					Name string `json:"name"`
				} `json:"server"`
				Data struct {
					AuthRequired bool   `json:"auth_required"`
					Digest       string `json:"config_digest"`
				} `json:"data"`
			}
			ask(t, sys, "$SYS.REQ.SERVER."+s.ID()+".VARZ", &varz)
			if varz.Server.Name != s.Name() {
				t.Errorf("%s answers as %q", s.Name(), varz.Server.Name)
			}
			if want := s.Name() != "no-auth"; varz.Data.AuthRequired != want {
				t.Errorf("%s: auth_required %v, want %v", s.Name(), varz.Data.AuthRequired, want)
			}
			if varz.Data.Digest == "" {
				t.Errorf("%s: no config_digest", s.Name())
			}
		}
	})

	t.Run("sessions", func(t *testing.T) {
		disconnect, err := fleet.DemoSessions(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		defer disconnect()
		for client, server := range map[string]string{"billing-worker": "hidden-user", "curious-stranger": "no-auth"} {
			var connz struct {
				Data struct {
					Conns []struct {
						Name string `json:"name"`
					} `json:"connections"`
				} `json:"data"`
			}
			ask(t, sys, "$SYS.REQ.SERVER."+f.Server(server).ID()+".CONNZ", &connz)
			seen := false
			for _, c := range connz.Data.Conns {
				seen = seen || c.Name == client
			}
			if !seen {
				t.Errorf("%s is not at %s: %+v", client, server, connz.Data.Conns)
			}
		}
	})
}

// TestMQTTClosed shows that the CONNECT frame of these tests is refused where
// mqtt has no no_auth_user.
func TestMQTTClosed(t *testing.T) {
	f := start(t, fleet.Spec{Name: "mqtt-closed", Config: `
accounts { APP { jetstream: enabled, users: [{user: app, password: app}] } }
jetstream { store_dir: "{{dir}}/jetstream" }
mqtt { listen: "{{addr "mqtt"}}" }
`})
	if code := mqttConnect(t, f.Server("mqtt-closed").Addr("mqtt")); code != 5 {
		t.Errorf("CONNACK %d, want 5", code)
	}
}

// refused is the answer of a door that asks for credentials.
const refused = "-ERR 'Authorization Violation'"

// anonymous reports whether a client without credentials gets in.
func anonymous(t *testing.T, url string) bool {
	t.Helper()
	// A refused client goes on to the servers of the cluster that the refusing
	// one has told it about, and gets in there.
	nc, err := nats.Connect(url, nats.Timeout(5*time.Second), nats.IgnoreDiscoveredServers())
	if errors.Is(err, nats.ErrAuthorization) {
		return false
	}
	if err != nil {
		t.Errorf("connect to %s: %v", url, err)
		return false
	}
	defer nc.Close()
	if err := nc.Flush(); err != nil {
		t.Errorf("%s: %v", url, err)
	}
	return true
}

func connect(t *testing.T, url string, opts ...nats.Option) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.Timeout(5*time.Second))...)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// ask requests a system subject and decodes the answer.
func ask(t *testing.T, nc *nats.Conn, subject string, answer any) {
	t.Helper()
	msg, err := nc.Request(subject, nil, 5*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		t.Fatalf("%s: %v in %s", subject, err, msg.Data)
	}
}

// touch sends the harmless client CONNECT to a door and returns its first -ERR
// line.
func touch(t *testing.T, addr string) string {
	t.Helper()
	conn := dial(t, addr)
	if _, err := io.WriteString(conn, `CONNECT {"verbose":false,"lang":"go","name":"fleet-test"}`+"\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(conn)
	if m := regexp.MustCompile(`(?m)^-ERR '[^']*'`).Find(said); m != nil {
		return string(m)
	}
	t.Errorf("%s said %q (%v)", addr, said, err)
	return ""
}

// mqttConnect sends an MQTT 3.1.1 CONNECT without credentials and returns the
// return code of the CONNACK.
func mqttConnect(t *testing.T, addr string) byte {
	t.Helper()
	conn := dial(t, addr)
	client := "fleet-test"
	frame := append([]byte{
		0x10, byte(10 + 2 + len(client)), // CONNECT, remaining length
		0, 4, 'M', 'Q', 'T', 'T', 4, // protocol level of 3.1.1
		0x02,  // clean session
		0, 60, // keep alive
		0, byte(len(client)),
	}, client...)
	if _, err := conn.Write(frame); err != nil {
		t.Fatal(err)
	}
	var ack [4]byte
	if _, err := io.ReadFull(conn, ack[:]); err != nil {
		t.Fatalf("CONNACK: %v", err)
	}
	if ack[0] != 0x20 || ack[1] != 2 {
		t.Fatalf("not a CONNACK: % x", ack)
	}
	return ack[3]
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}
