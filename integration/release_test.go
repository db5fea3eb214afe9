package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// lintFor lints the configuration of a server for the release that it is.
func lintFor(t *testing.T, s *fleet.Server, version string) *linted {
	t.Helper()
	f, err := conffile.Read(conffile.Source{Name: s.ConfigFile(), Read: conffile.Disk, Version: strings.TrimPrefix(version, "v")})
	if err != nil {
		t.Fatal(err)
	}
	return lintedFile(t, f, s)
}

// TestScopedProxyByRelease: older releases do not hold a sentinel to the
// proxy_required of its signing key. Lint says of each what its server does.
func TestScopedProxyByRelease(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]posture.Access{"v2.12.15": posture.Open, "v2.14.5": posture.Open, fleet.Linked: posture.Closed} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			op := newOperator(t)
			sentinel := scopedOf(t, op, func(l *jwt.UserPermissionLimits) { l.BearerToken, l.ProxyRequired = true, true })
			s := start(t, fleet.Spec{Name: "n1", Binary: binary(t, version), Config: op.MemoryConfig() + "default_sentinel: " + sentinel + "\n"}).Server("n1")
			nc, err := nats.Connect(s.URL(), nats.NoReconnect(), nats.Timeout(30*time.Second))
			if err == nil {
				nc.Close()
			}
			if (err == nil) != (want == posture.Open) {
				t.Errorf("an anonymous client: %v", err)
			}
			if d := lintFor(t, s, version).server.Door(posture.Client); d.Access != want {
				t.Errorf("lint calls the client listener %s, want %s: %s %v", d.Access, want, d.Reason, d.Evidence)
			}
		})
	}
	op := newOperator(t)
	sentinel := scopedOf(t, op, func(l *jwt.UserPermissionLimits) { l.BearerToken, l.ProxyRequired = true, true })
	s := start(t, fleet.Spec{Name: "n1", Config: op.MemoryConfig() + "default_sentinel: " + sentinel + "\n"}).Server("n1")
	for version, want := range map[string]posture.Access{
		"": posture.Closed, "2.14.7": posture.Open, "2.14.8": posture.Closed, "2.15.0": posture.Open, "2.15.1": posture.Closed, "2.15.1-RC.1": posture.Unknown,
	} {
		if d := lintFor(t, s, version).server.Door(posture.Client); d.Access != want {
			t.Errorf("for %q lint calls the client listener %s, want %s", version, d.Access, want)
		}
	}
}

// TestCertificateUsersByRelease: a user without a password that is the name of a
// certificate logs in by its name alone where a listener maps no certificates, before
// a release that rejects it. SESS_004 says so of these releases only.
func TestCertificateUsersByRelease(t *testing.T) {
	t.Parallel()
	year := newAuthority(t).files(365 * 24 * time.Hour)
	config := tlsBlock("verify_and_map: true") + "accounts { APP { users: [ { user: \"CN=app\" } ] } }\n"
	for version, byName := range map[string]bool{"v2.12.12": true, fleet.Linked: false} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := start(t, fleet.Spec{Name: "n1", Binary: binary(t, version), Files: year, Config: config + wsBlock + "}\n"}).Server("n1")
			nc, err := nats.Connect("ws://"+s.Addr("websocket"), nats.UserInfo("CN=app", ""), nats.NoReconnect(), nats.Timeout(30*time.Second))
			if err == nil {
				nc.Close()
			}
			if (err == nil) != byName {
				t.Errorf("by the name alone: %v", err)
			}
			for _, r := range lintFor(t, s, version).results {
				if r.Check.ID == "SESS_004" && (r.Outcome == check.Fail) != byName {
					t.Errorf("SESS_004: %v, %s", r.Outcome, r.Summary)
				}
			}
		})
	}
	// Where every listener maps certificates, the name is never enough.
	s := start(t, fleet.Spec{Name: "mapped", Files: year, Config: config}).Server("mapped")
	for _, r := range lintFor(t, s, "2.12.12").results {
		if r.Check.ID == "SESS_004" && r.Outcome == check.Fail {
			t.Errorf("SESS_004 where all listeners map: %s", r.Summary)
		}
	}
}
