package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/integration/fleet"
)

// startFleet runs servers for the length of a test.
func startFleet(t *testing.T, specs ...fleet.Spec) *fleet.Fleet {
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

// serverFiles are a certificate for 127.0.0.1, its key and its CA.
func serverFiles(t *testing.T) map[string]string {
	t.Helper()
	ca, err := fix.NewAuthority(time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue("server", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, key := id.PEM()
	return map[string]string{"cert.pem": cert, "key.pem": key, "ca.pem": ca.PEM()}
}

// tlsOf is a tls block with these files.
func tlsOf(more string) string {
	return `tls { cert_file: "{{file "cert.pem"}}", key_file: "{{file "key.pem"}}", ca_file: "{{file "ca.pem"}}"` + more + " }\n"
}

// TestProbeWithoutCertificate: listeners that want a client certificate are closed
// to a probe, which brings none, whether they say what they are before that or not.
func TestProbeWithoutCertificate(t *testing.T) {
	files := serverFiles(t)
	for _, c := range []struct {
		name, config, label string
		kind                posture.DoorKind // NoDoor: it stays hidden
	}{
		{"route", `cluster { name: c, listen: "{{addr "l"}}", ` + tlsOf(", verify: true") + "}", "l", posture.NoDoor},
		{"gateway", `gateway { name: c, listen: "{{addr "l"}}", ` + tlsOf(", verify: true") + "}", "l", posture.NoDoor},
		{"leafnode", `leafnodes { listen: "{{addr "l"}}", ` + tlsOf(", verify: true") + "}", "l", posture.Leafnode},
		{"leafnode, TLS first", `leafnodes { listen: "{{addr "l"}}", ` + tlsOf(", verify: true, handshake_first: true") + "}", "l", posture.NoDoor},
		{"client", tlsOf(", verify: true"), "client", posture.Client},
		{"client, mapped", tlsOf(", verify_and_map: true") + `authorization { users: [ { user: "CN=app" } ] }`, "client", posture.Client},
		{"client, TLS first", tlsOf(", verify: true, handshake_first: true"), "client", posture.NoDoor},
		{"websocket", `websocket { listen: "{{addr "l"}}", ` + tlsOf(", verify: true") + "}", "l", posture.NoDoor},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := startFleet(t, fleet.Spec{Name: "n1", Config: c.config, Files: files}).Server("n1").Addr(c.label)
			r := exec(t, "probe", "--format", "json", address)
			var report finding.Report
			if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 0 {
				t.Fatalf("exit code %d, %v: %s", r.code, err, r.stderr)
			}
			if len(report.Servers) != 1 || len(report.Servers[0].Doors) != 1 {
				t.Fatalf("%+v", report.Servers)
			}
			d := report.Servers[0].Doors[0]
			if d.Door != c.kind || d.Address != address || d.Access != posture.Closed || d.Basis != posture.Proven || len(report.Coverage.Gaps) != 0 {
				t.Errorf("%+v, gaps %v", d, report.Coverage.Gaps)
			}
			if c.kind != posture.NoDoor {
				return
			}
			const why = `TLS refused a peer without a client certificate; the kind of listener is hidden`
			for format, column := range map[string]string{"table": `(?m) LISTENER$`, "markdown": `\| listener \|`} {
				r := exec(t, "probe", "--strict", "--format", format, address)
				text := strings.Join(strings.Fields(r.stdout), " ")
				if r.code != 0 || !strings.Contains(text, address+" is closed: "+why) || !regexp.MustCompile(column).MatchString(r.stdout) || !strings.Contains(text, "1 closed, 0 unknown") {
					t.Errorf("exit code %d: %s", r.code, r.stdout)
				}
			}
		})
	}
}

// TestOpenNeverStandsAlone: whatever is shown as open has a finding or a note, in
// every format.
func TestOpenNeverStandsAlone(t *testing.T) {
	f := startFleet(t, fleet.Spec{Name: "n1", Config: `http: "{{addr "monitor"}}"
websocket { listen: "{{addr "ws"}}", no_tls: true }
leafnodes { listen: "{{addr "leaf"}}" }
cluster { name: c, listen: "{{addr "route"}}" }
`})
	s := f.Server("n1")
	for label, want := range map[string]string{
		"client": "1 finding lowered", "ws": "2 findings lowered", "leaf": "1 finding lowered", "route": "1 finding lowered",
		"monitor": "1 open listener on loopback without a finding",
	} {
		for _, format := range []string{"table", "markdown", "json"} {
			if r := exec(t, "probe", "--format", format, s.Addr(label)); r.code != 0 || !strings.Contains(strings.ToLower(r.stdout), "open") || !strings.Contains(r.stdout, want) || !strings.Contains(r.stdout, "(--loopback-exposed)") {
				t.Errorf("%s, %s: exit code %d, no %q in %s", label, format, r.code, want, r.stdout)
			}
			r := exec(t, "probe", "--loopback-exposed", "--fail-on", "warning", "--format", format, s.Addr(label))
			if r.code != 1 || strings.Contains(r.stdout, "lowered") || strings.Contains(r.stdout, "without a finding") || !strings.Contains(r.stdout, "DOOR_00") {
				t.Errorf("%s, %s, exposed: exit code %d: %s", label, format, r.code, r.stdout)
			}
		}
	}
}
