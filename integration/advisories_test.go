package integration

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestBypassesOfOldServers holds CVE_001 against the bypasses themselves: a PING
// that no CONNECT comes before, on ports that refuse strangers otherwise. Where it
// is answered there must be a critical finding, and elsewhere none; and so from the
// configuration alone, by whoever knows the release.
func TestBypassesOfOldServers(t *testing.T) {
	t.Parallel()
	const (
		// A no_auth_user that only websockets may use: 2026-24, and with a route
		// port 2026-16.
		limited = `accounts {
  $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] }
  APP { users: [ { user: app, password: app-password }, { user: guest, password: guest-password, allowed_connection_types: ["WEBSOCKET"] } ] }
}
no_auth_user: guest
`
		guarded = `accounts {
  $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] }
  APP { users: [ { user: app, password: app-password } ] }
}
`
		route = routeBlock + `, authorization { user: route, password: route-password } }
`
	)
	bypassed := map[string]bool{}
	for _, version := range oldVersions {
		name := version
		if name == "" {
			name = "current"
		}
		t.Run(name, func(t *testing.T) {
			path := ""
			if version != "" {
				path = binary(t, version)
			}
			for config, text := range map[string]string{"limited": limited, "hidden user": sysAccount, "guarded": guarded} {
				t.Run(config, func(t *testing.T) {
					f := start(t, fleet.Spec{Name: "n1", Binary: path, Config: text + route})
					n1 := f.Server("n1")
					srv, state := look(t, connectSys(t, n1), n1.ID(), false)
					severity := map[string]check.Severity{}
					for _, got := range found(state, "CVE_001", "n1") {
						severity[got.Scope.Advisory] = got.Severity
						if !strings.Contains(got.Summary, "n1 runs "+srv.Version+", which has "+got.Scope.Advisory) {
							t.Errorf("%s", got.Summary)
						}
					}
					declared := advisoriesOfFile(t, n1.ConfigFile(), srv.Version)
					through := map[string]bool{
						"2026-16": pingWithoutConnect(t, n1.Addr("route")),
						"2026-24": config == "limited" && pingWithoutConnect(t, n1.Addr("client")),
					}
					for id, in := range through {
						got, want := severity[id], check.NoSeverity
						switch {
						case version == "v2.9.25" && config == "hidden user":
							want = check.Warning // it does not tell a stranger as whom he landed
						case in:
							want = check.Critical
						}
						if got != want {
							t.Errorf("%s lets a stranger in: %v, and natsentry says %s, want %s", id, in, got, want)
						}
						if want = check.NoSeverity; in {
							want = check.Critical
						}
						if got := declared[id]; got != want {
							t.Errorf("%s lets a stranger in: %v, and lint says %s, want %s", id, in, got, want)
						}
						bypassed[id] = bypassed[id] || in
					}
				})
			}
		})
	}
	if !testing.Short() && (!bypassed["2026-16"] || !bypassed["2026-24"]) {
		t.Errorf("no old server let the stranger in: %v", bypassed)
	}
}

// advisoriesOfFile are the advisories that a configuration has with a release.
func advisoriesOfFile(t *testing.T, file, version string) map[string]check.Severity {
	t.Helper()
	f, err := conffile.Read(conffile.Source{Name: file, Read: conffile.Disk, Version: version})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]check.Severity{}
	snap := &posture.Snapshot{Taken: time.Now(), Config: true, Expected: 1, Heard: 1, Servers: []*posture.Server{f.Server}}
	policy := check.DefaultPolicy()
	for _, got := range finding.Of(snap, check.Evaluate(snap, policy), &policy) {
		if got.Check == "CVE_001" {
			out[got.Scope.Advisory] = got.Severity
		}
	}
	return out
}

// TestWhatAdvisoriesTakeIsSeen: the oldest servers and the newest show whether
// JetStream is on, and what they were built with.
func TestWhatAdvisoriesTakeIsSeen(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v2.9.25", ""} {
		path := ""
		if version != "" {
			path = binary(t, version)
		}
		f := start(t,
			fleet.Spec{Name: "with", Binary: path, Config: sysAccount + clustered("c", "without") + jetstream},
			fleet.Spec{Name: "without", Binary: path, Config: sysAccount + clustered("c", "with")},
		)
		waitActive(t, f, f.Server("with"), 2)
		state := thrice(t, connectSys(t, f.Server("with")), f.Servers()...)
		for name, want := range map[string]posture.Tri{"with": posture.Yes, "without": posture.No} {
			s := state.Snapshot.Server(name)
			if s.JetStream != want || !strings.HasPrefix(s.BuiltWith, "go1.") {
				t.Errorf("%s %s: JetStream %d, built with %q", version, name, s.JetStream, s.BuiltWith)
			}
		}
	}
}

// pingWithoutConnect tells whether a port answers a PING that comes first.
func pingWithoutConnect(t *testing.T, address string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprint(c, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(c)
	for lines.Scan() {
		switch text := lines.Text(); {
		case strings.HasPrefix(text, "PONG"):
			return true
		case strings.HasPrefix(text, "-ERR"):
			return false
		}
	}
	return false
}
