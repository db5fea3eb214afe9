package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
)

// guestConf has what 2026-16 takes: a no_auth_user, and a route port.
const guestConf = `authorization { users: [ { user: app, password: "$2a$11$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6" }, { user: guest, permissions: { publish: hello } } ] }
# natsentry:ignore DOOR_001,CONF_004 strangers may say hello
no_auth_user: guest
cluster { name: c, port: 6222, authorization { user: r, password: "$2a$11$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6" } }
`

// advisoriesOfReport are the advisories that fail in a report, by their severity;
// "" is what CVE_001 says of all together.
func advisoriesOfReport(t *testing.T, stdout string) (map[string]check.Severity, *finding.Report) {
	t.Helper()
	r := &finding.Report{}
	if err := json.Unmarshal([]byte(stdout), r); err != nil {
		t.Fatalf("%v: %s", err, stdout)
	}
	out := map[string]check.Severity{}
	for i := range r.Findings {
		if f := &r.Findings[i]; f.Check == "CVE_001" {
			out[f.Scope.Advisory] = f.Severity
		}
	}
	return out, r
}

func TestLintServerVersion(t *testing.T) {
	dir := confs(t, map[string]string{"guest.conf": guestConf, "shut.conf": shutConf, "broken.conf": "a {"})
	for _, tc := range []struct {
		file, version string
		bypass        check.Severity // of 2026-16
		others        bool           // that the version has
		code          int
	}{
		{"guest.conf", "2.12.6", check.Critical, true, 1},
		{"guest.conf", "v2.12.6", check.Critical, true, 1},
		{"guest.conf", "2.12.6-alpine", check.Critical, true, 1},
		{"guest.conf", "2.12.7", 0, true, 0},
		{"guest.conf", "2.12.7-alpine", 0, true, 0},
		{"guest.conf", "2.12.7-RC.1", 0, true, 0},
		{"guest.conf", "2.15.2", 0, false, 0},
		{"guest.conf", "", 0, false, 0},
		{"shut.conf", "2.12.6", 0, true, 0},
		{"broken.conf", "2.12.6", 0, false, 1},
	} {
		args := []string{"lint", "--format", "json", filepath.Join(dir, tc.file)}
		if tc.version != "" {
			args = append(args, "--server-version", tc.version)
		}
		r := exec(t, args...)
		got, report := advisoriesOfReport(t, r.stdout)
		if r.code != tc.code || got["2026-16"] != tc.bypass || (len(got) > 0) != tc.others {
			t.Errorf("%s with %q: %d, %v", tc.file, tc.version, r.code, got)
		}
		if v := report.Servers[0].Version; v != strings.TrimPrefix(tc.version, "v") {
			t.Errorf("%s with %q: the report says %q", tc.file, tc.version, v)
		}
	}
	for _, bad := range []string{"2", "2.12", "2.12.x", "latest", "nats:2.12.6", "2.12.6 "} {
		if r := exec(t, "lint", "--server-version", bad, filepath.Join(dir, "shut.conf")); r.code != exitUsageOrConn || !strings.Contains(r.stderr, "three numbers like 2.12.3") {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}

// TestAliases: what is found has the names that others give it, in JSON, SARIF and
// the list of checks.
func TestAliases(t *testing.T) {
	file := filepath.Join(confs(t, map[string]string{"guest.conf": guestConf}), "guest.conf")
	_, report := advisoriesOfReport(t, exec(t, "lint", "--format", "json", "--server-version", "2.12.6", file).stdout)
	names := map[string][]string{}
	for _, f := range report.Findings {
		names[f.Check+" "+f.Scope.Advisory] = f.Aliases
	}
	want := []string{"CVE-2026-58253", "GHSA-38x3-76xf-cq45"}
	if !slices.Equal(names["CVE_001 2026-16"], want) || !slices.Equal(names["DOOR_001 "], []string{"SERVER_007"}) {
		t.Errorf("%v", names)
	}
	s, err := sarif.FromString(exec(t, "lint", "--format", "sarif", "--server-version", "2.12.6", file).stdout)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	found := false
	for _, r := range s.Runs[0].Results {
		if strings.Contains(*r.Message.Text, "2026-16 (") {
			found = r.Properties != nil && fmt.Sprint(r.Properties.Properties["aliases"]) == fmt.Sprint(want)
		}
	}
	if !found {
		t.Error("no result of SARIF has the names of 2026-16")
	}
	for _, rule := range s.Runs[0].Tool.Driver.Rules {
		if aliases := fmt.Sprint(rule.Properties.Properties["aliases"]); *rule.ID == "DOOR_001" && aliases != "[SERVER_007]" || *rule.ID == "CVE_001" && aliases != "[]" {
			t.Errorf("%s: %s", *rule.ID, aliases)
		}
	}
	if r := exec(t, "checks", "server_008"); r.code != 0 || !strings.Contains(r.stdout, "TLS_001") || !strings.Contains(r.stdout, "Also known as SERVER_008.") {
		t.Errorf("%+v", r)
	}
}

// The tag of an image tells what runs; the flag speaks for where there is none.
func TestLintServerVersionOfImages(t *testing.T) {
	tagged := podYAML + "---\n" + configMapYAML
	if !strings.Contains(tagged, "nats:2.14.2") {
		t.Fatal("the image has another tag")
	}
	for image, want := range map[string]string{"nats:2.14.2": "2.14.2", "nats:2.14.2-alpine": "2.14.2", "nats:latest": "2.12.6", "nats": "2.12.6"} {
		dir := confs(t, map[string]string{"all.yaml": strings.ReplaceAll(tagged, "nats:2.14.2", image)})
		file := filepath.Join(dir, "all.yaml")
		got, report := advisoriesOfReport(t, exec(t, "lint", "--format", "json", "--server-version", "2.12.6", file).stdout)
		if v := report.Servers[0].Version; v != want || len(got) == 0 {
			t.Errorf("%s is %q, want %q: %v", image, v, want, got)
		}
		got, report = advisoriesOfReport(t, exec(t, "lint", "--format", "json", file).stdout)
		if v := report.Servers[0].Version; v != "" && v != want || (len(got) > 0) != (v != "") {
			t.Errorf("%s without the flag is %q: %v", image, v, got)
		}
	}
}

// What is accepted stays so: by comments where it stands, and by a baseline,
// whatever the day of the list.
func TestLintAdvisoriesAccepted(t *testing.T) {
	accepted := strings.ReplaceAll(strings.ReplaceAll(guestConf, "DOOR_001,CONF_004", "DOOR_001,CONF_004,CVE_001"), "cluster {", "# natsentry:ignore CVE_001 nobody else reaches it\ncluster {")
	dir := confs(t, map[string]string{"guest.conf": guestConf, "accepted.conf": accepted})
	lint := func(args ...string) result {
		return exec(t, append([]string{"lint", "--server-version", "2.12.6", "--format", "json"}, args...)...)
	}
	if r := lint(filepath.Join(dir, "accepted.conf")); r.code != 0 {
		t.Errorf("in the file: %+v", r)
	}
	guest := filepath.Join(dir, "guest.conf")
	before := lint(guest)
	other := strings.ReplaceAll(before.stdout, ", as known on ", ", as known before ")
	if other == before.stdout {
		t.Fatal("no finding tells the day of the list")
	}
	base := filepath.Join(confs(t, map[string]string{"base.json": other}), "base.json")
	if r := lint("--baseline", base, guest); r.code != 0 || before.code != 1 {
		t.Errorf("by a baseline: %d after %d", r.code, before.code)
	}
}

// CRED_001 tells the place of the token and nothing of it.
func TestLintToken(t *testing.T) {
	dir := confs(t, map[string]string{"t.conf": "authorization {\n  token: sehrGeheim0815AchtStellen\n}\n"})
	for _, format := range []string{"text", "json", "sarif", "github", "junit", "markdown"} {
		r := exec(t, "lint", "--verbose", "--format", format, filepath.Join(dir, "t.conf"))
		if !strings.Contains(r.stdout, "CRED_001") || strings.Contains(r.stdout+r.stderr, "sehrGeheim") {
			t.Errorf("%s: %+v", format, r)
		}
		if format == "text" && !strings.Contains(r.stdout, "t.conf:2:3: all who hold it") {
			t.Errorf("%s", r.stdout)
		}
	}
}
