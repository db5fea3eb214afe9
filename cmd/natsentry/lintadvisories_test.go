package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
)

// lintReport lints one configuration and returns its report.
func lintReport(t *testing.T, text string, flags ...string) *finding.Report {
	t.Helper()
	r := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader(text) }, append([]string{"lint", "--format", "json", "--fail-on", "none", "-"}, flags...)...)
	var report finding.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 0 {
		t.Fatalf("%q: %v, and it ended with %d: %s", text, err, r.code, r.stderr)
	}
	return &report
}

// toldAdvisories are the severities of the advisories that a report tells.
func toldAdvisories(r *finding.Report) map[string]check.Severity {
	out := map[string]check.Severity{}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Check == "CVE_001" {
			out[f.Scope.Advisory] = f.Severity
		}
	}
	return out
}

// Advisories follow the release that will run, up to the one that mends them, and
// what the configuration has. What is not there is off, and not unseen.
func TestLintAdvisories(t *testing.T) {
	const (
		name  = "server_name: n1\n"
		users = "accounts { APP { users: [ { user: app, password: $APP_PASSWORD }, { user: guest } ] } }\n"
		ways  = `accounts { APP { users: [ { user: app, password: $APP_PASSWORD }, { user: guest, allowed_connection_types: ["WEBSOCKET"] } ] } }` + "\n"
		guest = name + users + "no_auth_user: guest\n"
		route = "cluster { port: 6222, name: c, authorization { user: r, password: $ROUTE_PASSWORD } }\n"
		leafs = "leafnodes { port: 7422 }\n"
		mqtt  = "mqtt { port: 1883 }\njetstream {}\n"
		ws    = "websocket { port: 8080, no_tls: true }\n"
		admin = "accounts { SYS { users: [ { user: admin, password: $ADMIN_PASSWORD } ] } }\nsystem_account: SYS\nauthorization { users: [ { user: app, password: $APP_PASSWORD } ] }\n"
		cert  = "tls { cert_file: c, key_file: k, ca_file: a, verify_and_map: true }\n"
		none  = check.NoSeverity
	)
	for _, tc := range []struct {
		text, version, id string
		want              check.Severity
	}{
		{guest + route, "2.11.15", "2026-16", check.Critical},
		{guest + route, "2.11.16", "2026-16", none},
		{guest + route, "2.12.0", "2026-16", check.Critical},
		{guest + route, "2.12.6", "2026-16", check.Critical},
		{guest + route, "v2.12.6", "2026-16", check.Critical},
		{guest + route, "2.12.7", "2026-16", none},
		{guest + route, "2.14.0", "2026-16", none},
		{guest + leafs, "2.12.6", "2026-16", check.Critical},
		{guest, "2.12.6", "2026-16", none},
		{name + users + route, "2.12.6", "2026-16", none},
		{name + users + route + "no_auth_user: $GUEST\n", "2.12.6", "2026-16", check.Warning},
		{"accounts { SYS { users: [ { user: admin, password: $P } ] } }\nsystem_account: SYS\n" + route, "2.12.6", "2026-16", check.Critical}, // the hidden user
		{guest + "cluster: $CLUSTER\n", "2.12.6", "2026-16", check.Warning},
		{guest + "no_auth_user: guest\nNo_Auth_User: app\n" + route, "2.12.6", "2026-16", check.Critical},

		{name + ways + "no_auth_user: guest\n", "2.12.11", "2026-24", check.Critical},
		{name + ways + "no_auth_user: guest\n", "2.12.12", "2026-24", none},
		{name + ways + "no_auth_user: guest\n", "2.14.2", "2026-24", check.Critical},
		{name + ways + "no_auth_user: guest\n", "2.14.3", "2026-24", none},
		{guest, "2.12.11", "2026-24", none},

		{admin, "2.1.9", "2023-01", none},
		{admin, "2.9.22", "2023-01", check.Critical},
		{admin, "2.9.23", "2023-01", none},
		{admin, "2.10.1", "2023-01", check.Critical},
		{admin, "2.10.2", "2023-01", none},
		{"accounts { SYS { users: [ { user: admin, password: $P } ] }, APP {} }\nsystem_account: SYS\nauthorization { users: [ { user: app, password: $P } ] }\n", "2.10.1", "2023-01", none},
		{"authorization { user: app, password: $APP_PASSWORD }\n", "2.10.1", "2023-01", none},

		{users + cert, "2.12.5", "2026-13", check.Warning}, // what names look like stands nowhere
		{users + cert, "2.12.6", "2026-13", none},
		{users, "2.12.5", "2026-13", none},
		{users + strings.Replace(cert, "true", "$MAP", 1), "2.12.5", "2026-13", check.Warning},

		{name + users + mqtt, "2.11.14", "2026-07", check.Info},
		{name + users, "2.11.14", "2026-07", none},
		{users + ws + "jetstream {}\n", "2.12.11", "2026-27", check.Info},
		{name + users + ws + mqtt, "2.12.11", "2026-27", none},
		{users + ws, "2.12.11", "2026-27", none},
		{users + ws + "jetstream: $JS\n", "2.12.11", "2026-27", check.Info},
		{users + ws, "2.12.11-fips", "2026-28", check.Info},
		{users + ws, "2.12.12-fips", "2026-28", none}, // unknown
	} {
		got := toldAdvisories(lintReport(t, tc.text, "--server-version", tc.version))
		if got[tc.id] != tc.want {
			t.Errorf("%s with %q: %s is %s, want %s; all: %v", tc.version, tc.text, tc.id, got[tc.id], tc.want, got)
		}
	}
	if got := toldAdvisories(lintReport(t, guest+route+mqtt)); len(got) > 0 {
		t.Errorf("nobody has said which release will run, and it has %v", got)
	}
	if got := toldAdvisories(lintReport(t, "nonsense {", "--server-version", "2.12.6")); len(got) > 0 {
		t.Errorf("no server would start with it, and it has %v", got)
	}
}

// The finding stands at the line of what an advisory takes, and one comment there
// accepts it. A baseline accepts it, too, whatever day the list of advisories is of.
func TestLintAdvisoryAccepted(t *testing.T) {
	const text = "server_name: n1\nauthorization { token: $TOKEN }\njetstream {}\nmqtt { port: 1883 }"
	lint := func(text string, flags ...string) map[string]bool {
		waived := map[string]bool{}
		for _, f := range lintReport(t, text, append(flags, "--server-version", "2.11.14")...).Findings {
			if f.Check == "CVE_001" && f.Scope.Advisory == "2026-07" {
				for _, e := range f.Evidence {
					if e.Place != nil {
						waived[fmt.Sprintf("%s %v", e.Place, f.Waived != nil)] = true
					}
				}
			}
		}
		return waived
	}
	if got := lint(text); !maps.Equal(got, map[string]bool{"stdin:4:1 false": true}) {
		t.Errorf("%v", got)
	}
	if got := lint(text + " # natsentry:ignore CVE_001 no device comes from outside"); !maps.Equal(got, map[string]bool{"stdin:4:1 true": true}) {
		t.Errorf("with a comment: %v", got)
	}
	report := lintReport(t, text, "--server-version", "2.11.14")
	for i := range report.Findings {
		for j := range report.Findings[i].Evidence {
			if e := &report.Findings[i].Evidence[j]; strings.HasPrefix(e.Source, "advisory ") {
				e.Value = "as it was known on another day"
			}
		}
	}
	base, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "base.json")
	if err := os.WriteFile(file, base, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := lint(text, "--baseline", file); !maps.Equal(got, map[string]bool{"stdin:4:1 true": true}) {
		t.Errorf("with a baseline: %v", got)
	}
}

// A manifest's image tells the release; the flag is for images that do not.
func TestLintAdvisoriesOfManifests(t *testing.T) {
	pod := func(image string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec:\n  containers:\n  - { name: n, image: \"" + image + "\", args: [\"--auth\", \"0123456789abcdef\"] }\n"
	}
	for _, tc := range []struct {
		image string
		flags []string
		want  check.Severity
	}{
		{"nats:2.12.11-alpine", nil, check.Info},
		{"nats:2.12.12-alpine", nil, check.NoSeverity},
		{"nats:2.12.12-alpine", []string{"--server-version", "2.12.11"}, check.NoSeverity},
		{"nats:latest", nil, check.NoSeverity},
		{"nats:latest", []string{"--server-version", "2.12.11"}, check.Info},
	} {
		if got := toldAdvisories(lintReport(t, pod(tc.image), tc.flags...))["2026-28"]; got != tc.want {
			t.Errorf("%s %v: %s, want %s", tc.image, tc.flags, got, tc.want)
		}
	}
}
