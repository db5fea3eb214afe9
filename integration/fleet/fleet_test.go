package fleet_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/natsentry/natsentry/integration/fleet"
)

func start(t *testing.T, specs ...fleet.Spec) *fleet.Fleet {
	t.Helper()
	f, err := fleet.Start(t.Context(), specs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// system is the login of the system account in these tests' configurations.
var system = nats.UserInfo("sys", "sys")

const systemAccount = `accounts { $SYS { users: [{user: sys, password: sys}] }, APP { users: [{user: app, password: app}] } }
`

func TestTemplate(t *testing.T) {
	f := start(t,
		fleet.Spec{Name: "n1", Config: `
include "users.conf"
cluster { name: c, listen: "{{addr "route"}}", routes: ["nats://{{addr "n2" "route"}}"] }
log_file: "{{dir}}/n1.log"
`, Files: map[string]string{"users.conf": systemAccount}},
		fleet.Spec{Name: "n2", Config: `
server_name: second
host: 127.0.0.1
port: {{port "plain"}}
include "sub/users.conf"
cluster { name: c, listen: "{{addr "route"}}" }
log_file: "{{file "n2.log"}}"
`, Files: map[string]string{"sub/users.conf": systemAccount, "n2.log": ""}},
	)
	n1, n2 := f.Server("n1"), f.Server("n2")
	if err := f.WaitActive(t.Context(), n1.URL(), 2, system); err != nil {
		t.Fatal(err)
	}
	if got := connect(t, n1.URL(), system).ConnectedServerName(); got != "n1" {
		t.Errorf("n1 calls itself %q", got)
	}
	nc := connect(t, n2.URL(), system)
	if nc.ConnectedServerName() != "second" || nc.ConnectedServerId() != n2.ID() {
		t.Errorf("n2 calls itself %q, id %q, want id %q", nc.ConnectedServerName(), nc.ConnectedServerId(), n2.ID())
	}
	if want := "nats://" + n2.Addr("plain"); n2.URL() != want {
		t.Errorf("URL %q, want %q", n2.URL(), want)
	}
	if got := n1.Addr("no such listener"); got != "" {
		t.Errorf("Addr of nothing: %q", got)
	}
	if n1.Pid() != 0 || n1.Embedded() == nil {
		t.Error("n1 is not embedded")
	}
	if f.Server("n3") != nil || len(f.Servers()) != 2 || f.Servers()[1] != n2 {
		t.Error("the fleet does not keep its servers in order")
	}

	n3, err := f.Add(t.Context(), fleet.Spec{Name: "n3", Config: systemAccount + `
cluster { name: c, listen: "{{addr "route"}}", routes: ["nats://{{addr "n1" "route"}}"] }
`})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.WaitActive(t.Context(), n3.URL(), 3, system); err != nil {
		t.Fatal(err)
	}
}

func TestReloadEmbedded(t *testing.T) {
	f := start(t, fleet.Spec{
		Name:    "n1",
		Config:  systemAccount + `ping_interval: 10s`,
		Options: func(o *server.Options) { o.MaxTracedMsgLen = 77 },
	})
	n1 := f.Server("n1")
	id, url := n1.ID(), n1.URL()

	if err := n1.Reload(t.Context(), systemAccount+`ping_interval: 20s`); err != nil {
		t.Fatal(err)
	}
	varz, err := n1.Embedded().Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	if varz.PingInterval != 20*time.Second || n1.ID() != id || n1.URL() != url {
		t.Errorf("after the reload: ping interval %v, id %s, url %s", varz.PingInterval, n1.ID(), n1.URL())
	}

	// What cannot be reloaded waits on disk for the restart.
	err = n1.Reload(t.Context(), systemAccount+`no_auth_user: app`)
	if err == nil || !strings.Contains(err.Error(), "reload") {
		t.Fatalf("no_auth_user by reload: %v", err)
	}
	if anonymous(t, n1.URL()) {
		t.Error("a refused reload opened the door")
	}
	if err := n1.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n1.ID() != "" || n1.Embedded() != nil || n1.URL() != url {
		t.Errorf("stopped: id %q, url %q", n1.ID(), n1.URL())
	}
	if err := n1.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !anonymous(t, n1.URL()) || n1.URL() != url || n1.ID() == id {
		t.Errorf("restarted: url %q, id %q", n1.URL(), n1.ID())
	}

	if err := n1.Restart(t.Context()); err == nil {
		t.Error("a running server started again")
	}
	if err := n1.Kill(); err == nil || !strings.Contains(err.Error(), "process") {
		t.Errorf("Kill of an embedded server: %v", err)
	}
}

func TestBadDeploy(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1", Config: systemAccount})
	n1 := f.Server("n1")
	if err := n1.Rewrite(`accounts { oops`); err != nil {
		t.Fatal(err)
	}
	if anonymous(t, n1.URL()) {
		t.Error("a rewritten file opened the door")
	}
	if err := n1.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n1.Restart(t.Context()); err == nil {
		t.Error("the server came up with a broken configuration")
	}
	if err := n1.Rewrite(systemAccount); err != nil {
		t.Fatal(err)
	}
	if err := n1.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestLameDuckEmbedded(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1", Config: systemAccount})
	n1 := f.Server("n1")
	if err := n1.LameDuck(); err != nil {
		t.Fatal(err)
	}
	n1.Embedded().WaitForShutdown() // at once: it has no clients
	if err := n1.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n1.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestNoConfigFile(t *testing.T) {
	f := start(t, fleet.Spec{
		Name:         "bare",
		NoConfigFile: true,
		Options:      func(o *server.Options) { o.Cluster = server.ClusterOpts{Name: "c", Host: "127.0.0.1", Port: -1} },
	})
	bare := f.Server("bare")
	varz, err := bare.Embedded().Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	if varz.ConfigDigest != "" || varz.Name != "bare" || varz.Cluster.Port == 0 {
		t.Errorf("digest %q, name %q, route port %d", varz.ConfigDigest, varz.Name, varz.Cluster.Port)
	}
	if !anonymous(t, bare.URL()) {
		t.Error("a bare server refused a client")
	}
	if err := bare.Reload(t.Context(), ``); err == nil {
		t.Error("a server without a file was reloaded")
	}
}

// TestRefused shows that what cannot start is an error, and leaves nothing
// running and no files behind.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		spec fleet.Spec
		want string
	}{
		"client on all interfaces": {fleet.Spec{Name: "bad", Config: `listen: "0.0.0.0:{{port "client"}}"`}, "loopback"},
		"route on all interfaces":  {fleet.Spec{Name: "bad", Config: `cluster { port: {{port "route"}} }`}, "loopback"},
		"by options":               {fleet.Spec{Name: "bad", Options: func(o *server.Options) { o.Host = "0.0.0.0" }}, "loopback"},
		"unknown server":           {fleet.Spec{Name: "bad", Config: `port: {{port "typo" "client"}}`}, `"typo"`},
		"unknown file":             {fleet.Spec{Name: "bad", Config: `include {{file "typo"}}`}, `"typo"`},
		"template syntax":          {fleet.Spec{Name: "bad", Config: `port: {{port`}, "template"},
		"parse error":              {fleet.Spec{Name: "bad", Config: `accounts {`}, "configuration"},
		"duplicate name":           {fleet.Spec{Name: "good"}, "already"},
		"no name":                  {fleet.Spec{}, "name"},
		"name with a path":         {fleet.Spec{Name: "../bad"}, "name"},
		"file outside":             {fleet.Spec{Name: "bad", Files: map[string]string{"../x": ""}}, "outside"},
		"no such binary":           {fleet.Spec{Name: "bad", Binary: "/nonexistent/nats-server"}, "nonexistent"},
		"fatal while starting": {
			fleet.Spec{Name: "bad", Config: `accounts { A {jetstream: {max_store: 1MB}, users: [{user: a, password: a}]} }
				jetstream { store_dir: "{{dir}}/server.conf" }`}, "JetStream",
		},
		"embedded port taken": {fleet.Spec{Name: "bad", Config: `listen: "{{addr "good" "client"}}"`}, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := t.TempDir()
			t.Setenv("TMPDIR", tmp)
			// Longer than any of these takes: a refusal must not wait for it.
			ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
			defer cancel()
			f, err := fleet.Start(ctx, fleet.Spec{Name: "good"}, test.spec)
			if err == nil {
				_ = f.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not mention %q", err, test.want)
			}
			if ctx.Err() != nil {
				t.Error("the refusal took all the time there was")
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestAddRefusedKeepsTheFleet(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1"})
	if _, err := f.Add(t.Context(), fleet.Spec{Name: "n2", Config: `accounts {`}); err == nil {
		t.Fatal("n2 started")
	}
	if f.Server("n2") != nil || !anonymous(t, f.Server("n1").URL()) {
		t.Error("a refused addition changed the fleet")
	}
	if _, err := f.Add(t.Context(), fleet.Spec{Name: "n2"}); err != nil {
		t.Error(err)
	}
}

func TestWaitActiveGivesUp(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1", Config: systemAccount})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := f.WaitActive(ctx, f.Server("n1").URL(), 2, system)
	if err == nil || !strings.Contains(err.Error(), "n1") {
		t.Errorf("want an error that names who answered, got %v", err)
	}
}

// TestManyFleets runs fleets beside each other, as parallel test processes do.
func TestManyFleets(t *testing.T) {
	taken := map[string]bool{}
	for range 5 {
		f := start(t, fleet.Spec{Name: "n1"}, fleet.Spec{Name: "n2", Config: `http: "{{addr "monitor"}}"`})
		for _, addr := range []string{f.Server("n1").URL(), f.Server("n2").URL(), f.Server("n2").Addr("monitor")} {
			if taken[addr] {
				t.Errorf("%s was given out twice", addr)
			}
			taken[addr] = true
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1"}, fleet.Spec{Name: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	addrs := []string{f.Server("n1").Addr("client"), f.Server("n2").Addr("client")}
	for range 2 { // the second does nothing
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, addr := range addrs {
		if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr); err == nil {
			_ = conn.Close()
			t.Errorf("%s still accepts connections", addr)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func ExampleStart() {
	ctx := context.Background()
	f, err := fleet.Start(ctx,
		fleet.Spec{Name: "n1", Config: `cluster { name: c, listen: "{{addr "route"}}" }
			accounts { $SYS { users: [{user: sys, password: sys}] } }`},
		fleet.Spec{Name: "n2", Config: `cluster { name: c, listen: "{{addr "route"}}", routes: ["nats://{{addr "n1" "route"}}"] }`},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = f.Close() }()
	if err := f.WaitActive(ctx, f.Server("n1").URL(), 2, nats.UserInfo("sys", "sys")); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("two servers, one cluster")
	// Output: two servers, one cluster
}
