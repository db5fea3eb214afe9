package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/integration/fleet"
)

// presented notes what clients bring to a server, which then accepts them all. It
// is a server on which credentials end up that were not meant for it.
type presented struct {
	mu    sync.Mutex
	names []string
}

func (p *presented) Check(c server.ClientAuthentication) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := c.GetOpts()
	p.names = append(p.names, o.Username+":"+o.Password+":"+o.Token+":"+o.JWT+":"+o.Nkey)
	return true
}

func (p *presented) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.names
}

const closedSystem = `accounts { SYS { users [ {user: admin, password: admin} ] }, APP { users [ {user: app, password: app} ] } }
system_account: SYS
`

func clusterWith(peer string) string {
	return fmt.Sprintf(`cluster { name: c, listen: "{{addr "route"}}", routes: [ "nats://{{addr %q "route"}}" ] }
`, peer)
}

// TestCredentialsStayWithNamedServers: n1 was named, n2 was not. Whatever n1 does,
// n2 is given nothing, and the error is that of n1.
func TestCredentialsStayWithNamedServers(t *testing.T) {
	t.Parallel()
	files := serverFiles(t)
	for _, c := range []struct {
		name, n1 string
		args     []string
		says     string
	}{
		{"a wrong password", closedSystem, []string{"--user", "admin", "--password", "hunter2"}, "refused the credentials"},
		{"a wrong token", closedSystem, []string{"--token", "hunter2"}, "refused the credentials"},
		{"a wrong password in the URL", closedSystem, []string{"URL", "admin:hunter2@"}, "refused the credentials"},
		{"none", closedSystem, nil, "wants credentials"},
		{"an unknown CA", closedSystem + tlsOf(""), []string{"--user", "admin", "--password", "hunter2"}, "--tlsca"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := &presented{}
			f := startFleet(t,
				fleet.Spec{Name: "n1", Config: c.n1 + clusterWith("n2"), Files: files},
				fleet.Spec{Name: "n2", Config: closedSystem + clusterWith("n1"), Options: func(o *server.Options) { o.CustomClientAuthentication = got }},
			)
			url := f.Server("n1").URL()
			args := c.args
			if len(args) > 0 && args[0] == "URL" {
				url, args = strings.Replace(url, "://", "://"+args[1], 1), nil
			}
			login := []nats.Option{nats.UserInfo("admin", "admin"), nats.IgnoreDiscoveredServers()}
			if strings.Contains(c.n1, "tls {") {
				login = append(login, nats.Secure(&tls.Config{InsecureSkipVerify: true}))
			}
			if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, login...); err != nil {
				t.Fatal(err)
			}
			for _, command := range []string{"audit", "run", "watch", "sessions"} {
				r := exec(t, append([]string{command, "--no-context", "--server", url}, args...)...)
				if r.code != exitUsageOrConn || !strings.Contains(r.stderr, c.says) || strings.Contains(r.stdout+r.stderr, "hunter2") {
					t.Errorf("%s: exit code %d: %s", command, r.code, r.stderr)
				}
			}
			if seen := got.seen(); len(seen) > 0 {
				t.Errorf("n2 was given %d logins", len(seen))
			}
		})
	}
}

// TestRejectedAndAbsent: of two servers that were named one rejects the
// credentials, the other does not listen. Either may be asked first.
func TestRejectedAndAbsent(t *testing.T) {
	t.Parallel()
	url := startFleet(t, fleet.Spec{Name: "n1", Config: closedSystem}).Server("n1").URL()
	for range 8 {
		r := exec(t, "audit", "--no-context", "--server", url+",nats://127.0.0.1:1", "--user", "admin", "--password", "hunter2")
		if r.code != exitUsageOrConn || !strings.Contains(r.stderr, "refused the credentials") {
			t.Errorf("exit code %d: %s", r.code, r.stderr)
		}
	}
}

// TestUncheckedCredentials: who brings credentials does not work with a server that
// takes any. Whether it does is decided by what real servers do.
func TestUncheckedCredentials(t *testing.T) {
	t.Parallel()
	const users = "authorization { users: [ {user: admin, password: admin}, {user: guest, password: guest} ] }\n"
	for _, c := range []struct {
		name, config string
		unchecked    bool
	}{
		{"nothing", "", true},
		{"accounts without users", "accounts { APP {} }\n", true},
		{"no_auth_user beside the user", closedSystem + "no_auth_user: app\n", false},
		{"no_auth_user in the same account", users + "no_auth_user: guest\n", false},
		{"the hidden user", "accounts { SYS { users [ {user: admin, password: admin} ] } }\nsystem_account: SYS\n", false},
		{"closed", closedSystem, false},
	} {
		url := startFleet(t, fleet.Spec{Name: "n1", Config: c.config}).Server("n1").URL()
		for _, login := range [][]string{{"--server", url, "--user", "admin", "--password", "admin"}, {"--server", strings.Replace(url, "://", "://admin:admin@", 1)}} {
			r := exec(t, append([]string{"audit", "--no-context", "--fail-on", "none", "--no-probe"}, login...)...)
			said := strings.Contains(r.stderr, "n1 ("+url+") accepts everybody: your credentials were not checked")
			if said != c.unchecked || c.unchecked && (r.code != exitUsageOrConn || r.stdout != "") {
				t.Errorf("%s: exit code %d: %s", c.name, r.code, r.stderr)
			}
		}
		if r := exec(t, "audit", "--no-context", "--server", url); strings.Contains(r.stderr, "not checked") {
			t.Errorf("%s, without credentials: %s", c.name, r.stderr)
		}
	}
}

// TestNeverFromTLSToPlaintext: of two servers that were named the one asks for TLS
// with an unknown CA, the other does not encrypt. It is given nothing once the first
// one has greeted.
func TestNeverFromTLSToPlaintext(t *testing.T) {
	t.Parallel()
	f := startFleet(t,
		fleet.Spec{Name: "n1", Config: closedSystem + tlsOf(""), Files: serverFiles(t)},
		fleet.Spec{Name: "n2", Config: closedSystem},
	)
	g := &guard{dialer: &net.Dialer{}}
	_, err := nats.Connect(f.Server("n1").URL(), nats.UserInfo("admin", "admin"), nats.SetCustomDialer(g))
	if err == nil || !strings.Contains(err.Error(), "x509:") {
		t.Errorf("the first: %v", err)
	}
	_, err = nats.Connect(f.Server("n2").URL(), nats.UserInfo("admin", "admin"), nats.SetCustomDialer(g))
	if !errors.Is(err, errPlaintext) {
		t.Errorf("the second: %v", err)
	}
	for _, url := range []string{f.Server("n1").URL(), f.Server("n2").URL()} { // the other order, and TLS again
		nc, err := nats.Connect(url, nats.UserInfo("admin", "admin"), nats.SetCustomDialer(&guard{dialer: &net.Dialer{}}), nats.Secure(&tls.Config{InsecureSkipVerify: true}))
		if url == f.Server("n2").URL() {
			if !errors.Is(err, nats.ErrSecureConnWanted) {
				t.Errorf("TLS to a server without: %v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		nc.Close()
	}
}

// TestNoPlaintextWebsocketAfterTLS: where one server is named with TLS, a websocket
// that is named without is spoken to in TLS as well, and gets no credential in clear.
func TestNoPlaintextWebsocketAfterTLS(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	first := make(chan byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		var b [1]byte
		if _, err := c.Read(b[:]); err == nil {
			first <- b[0]
		}
	}()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	r := exec(t, "audit", "--server", "wss://"+nobody.Addr().String()+",ws://"+l.Addr().String(), "--user", "sys", "--password", "a-secret")
	if r.code != exitUsageOrConn {
		t.Errorf("%+v", r)
	}
	const handshake = 0x16
	if b := <-first; b != handshake {
		t.Errorf("it begins with %q", b)
	}
}
