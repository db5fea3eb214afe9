package fleet_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/natsentry/natsentry/integration/fleet"
)

// binary returns a real nats-server. Short tests skip what needs one, since the
// first run builds it.
func binary(t *testing.T, version string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a real nats-server")
	}
	path, err := fleet.Binary(t.Context(), version)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProcess(t *testing.T) {
	for _, version := range []string{"v2.10.29", fleet.Linked} {
		t.Run(version, func(t *testing.T) {
			const cluster = `
cluster { name: c, listen: "{{addr "route"}}", routes: ["nats://{{addr "peer" "route"}}"] }
`
			f := start(t,
				fleet.Spec{Name: "real", Config: systemAccount + cluster + `http: "{{addr "monitor"}}"`, Binary: binary(t, version)},
				fleet.Spec{Name: "peer", Config: systemAccount + `cluster { name: c, listen: "{{addr "route"}}" }`},
			)
			proc, peer := f.Server("real"), f.Server("peer")
			if err := f.WaitActive(t.Context(), peer.URL(), 2, system); err != nil {
				t.Fatal(err)
			}
			if proc.Pid() == 0 || proc.Embedded() != nil {
				t.Fatal("not a process")
			}
			sys := connect(t, peer.URL(), system)
			before := varzOf(t, sys, proc)
			if "v"+before.Version != version {
				t.Errorf("version %s", before.Version)
			}

			if err := proc.Reload(t.Context(), systemAccount+cluster+`http: "{{addr "monitor"}}", ping_interval: 20s`); err != nil {
				t.Fatal(err)
			}
			after := varzOf(t, sys, proc)
			if !after.ConfigLoadTime.After(before.ConfigLoadTime) {
				t.Errorf("config_load_time %v, before the reload %v", after.ConfigLoadTime, before.ConfigLoadTime)
			}
			err := proc.Reload(t.Context(), systemAccount+cluster+`http: "{{addr "monitor"}}", no_auth_user: app`)
			if err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("no_auth_user by reload: %v", err)
			}
			if again := varzOf(t, sys, proc); !again.ConfigLoadTime.Equal(after.ConfigLoadTime) {
				t.Error("a refused reload changed config_load_time")
			}

			id, url := proc.ID(), proc.URL()
			if err := proc.Kill(); err != nil {
				t.Fatal(err)
			}
			if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", proc.Addr("client")); err == nil {
				_ = conn.Close()
				t.Error("a killed server accepts connections")
			}
			// The file that the reload refused is what it comes up with.
			if err := proc.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if proc.ID() == id || proc.URL() != url || !anonymous(t, proc.URL()) {
				t.Errorf("restarted: id %s (was %s), url %s", proc.ID(), id, proc.URL())
			}

			if err := proc.LameDuck(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", proc.Addr("client"))
				if err != nil {
					break
				}
				_ = conn.Close()
				if time.Now().After(deadline) {
					t.Fatal("a lame duck still accepts clients")
				}
			}
			if err := proc.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := proc.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := proc.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if proc.Pid() != 0 {
				t.Error("a stopped process has an id")
			}
		})
	}
}

func TestProcessWithoutConfigFile(t *testing.T) {
	f := start(t, fleet.Spec{Name: "bare", NoConfigFile: true, Binary: binary(t, fleet.Linked), Args: []string{"--user", "u", "--pass", "p"}})
	if anonymous(t, f.Server("bare").URL()) {
		t.Error("the additional arguments were not used")
	}
	if got := connect(t, strings.Replace(f.Server("bare").URL(), "//", "//u:p@", 1)).ConnectedServerName(); got != "bare" {
		t.Errorf("it calls itself %q", got)
	}
}

// TestProcessTellsWhy shows that the log of a process that does not come up is
// in the error.
func TestProcessTellsWhy(t *testing.T) {
	path := binary(t, fleet.Linked)
	for name, test := range map[string]struct{ config, want string }{
		"standard error": {`jetstream { store_dir: "{{dir}}/server.conf" }`, "JetStream"},
		"taken port":     {`listen: "{{addr "good" "client"}}"`, "already in use"},
		"log file": {`log_file: "{{dir}}/server.log"
			jetstream { store_dir: "{{dir}}/server.conf" }`, "JetStream"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, fleet.Spec{Name: "good"})
			_, err := f.Add(t.Context(), fleet.Spec{Name: "bad", Config: test.config, Binary: path})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not tell %q", err, test.want)
			}
		})
	}
}

func TestBinary(t *testing.T) {
	for _, version := range []string{"", "latest", "2.10.29", "v2.10", "v2.10.29/../..", "v2.10.29 -x"} {
		if path, err := fleet.Binary(t.Context(), version); err == nil {
			t.Errorf("Binary(%q) = %s", version, path)
		}
	}
	first := binary(t, fleet.Linked)
	begun := time.Now()
	again, err := fleet.Binary(t.Context(), fleet.Linked)
	if err != nil || again != first || time.Since(begun) > time.Second {
		t.Errorf("the second call: %q, %v after %v", again, err, time.Since(begun))
	}
}

// varzFacts is what these tests read of a VARZ answer.
type varzFacts struct {
	Version        string    `json:"version"`
	ConfigLoadTime time.Time `json:"config_load_time"`
}

// varzOf asks a server for its VARZ.
func varzOf(t *testing.T, sys *nats.Conn, s *fleet.Server) varzFacts {
	t.Helper()
	var answer struct {
		Data varzFacts `json:"data"`
	}
	ask(t, sys, "$SYS.REQ.SERVER."+s.ID()+".VARZ", &answer)
	return answer.Data
}
