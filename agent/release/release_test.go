package release_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/semver"

	"github.com/natsentry/natsentry/agent/release"
)

func TestSince(t *testing.T) {
	lines := release.Since{"2.11.12", "2.12.4", "2.14.0"}
	type answer struct{ holds, known bool }
	for version, want := range map[string]answer{
		"2.9.25": {false, true}, "2.11.11": {false, true}, "2.11.12": {true, true}, "2.11.17": {true, true}, "2.12.0": {false, true}, "2.12.4": {true, true},
		"2.13.9": {false, true}, "2.14.0": {true, true}, "2.15.2": {true, true}, "3.0.0": {true, true}, "v2.15.2": {true, true},
		"2.14.0-RC.1": {true, false}, "2.14.1-RC.1": {true, true}, "2.12.3-vendor": {false, true}, "2.12.4-vendor": {true, false},
		"": {}, "unknown": {},
	} {
		holds, known := lines.In(version)
		if got := (answer{holds, known}); got != want {
			t.Errorf("%q: %+v, want %+v", version, got, want)
		}
		if got := lines.Holds(version); got != (want.holds && want.known) {
			t.Errorf("%q holds: %t", version, got)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		version, than string
		want          bool
	}{
		{"2.15.4", "2.15.3", true},
		{"2.16.0-RC.1", "2.15.3", true},
		{"unknown", "2.15.3", true},
		{"2.15.3", "2.15.3", false},
		{"2.15.3-RC.1", "2.15.3", false},
		{"2.14.10", "2.15.3", false},
		{"", "2.15.3", false},
	} {
		if got := release.Newer(c.version, c.than); got != c.want {
			t.Errorf("%q is newer than %s: %t", c.version, c.than, got)
		}
	}
}

// TestRules: a rule says what it is, and its releases are in order, each of a
// line of its own.
func TestRules(t *testing.T) {
	check := func(name string, since release.Since) {
		for i, v := range since {
			if !semver.IsValid("v"+v) || i > 0 && semver.Compare(semver.MajorMinor("v"+since[i-1]), semver.MajorMinor("v"+v)) >= 0 {
				t.Errorf("%s: %v", name, since)
			}
		}
	}
	for _, r := range release.Rules() {
		check(r.Name, r.Since)
		if r.Name == "" || r.After == "" || r.Source == "" || len(r.Since) == 0 {
			t.Errorf("%+v says too little", r)
		}
	}
	for _, k := range release.Keys {
		check(k.Path, k.Since)
	}
}

var update = flag.Bool("update", false, "write docs/versions.md")

// TestPage holds docs/versions.md against the table.
func TestPage(t *testing.T) {
	const page = "../../docs/versions.md"
	var b strings.Builder
	b.WriteString(`<!-- Written by go generate ./agent/release; do not edit. -->

# What nats-server does, by version

For operators of servers of several releases, and for those who lint a
configuration for another release than the newest: what differs between releases
of nats-server as far as a verdict of natsentry depends on it. Published
vulnerabilities are on [another page](advisories.md).

Two releases stand for two lines: "2.12.12, 2.14.3" is 2.12.12 and later releases
of 2.12, and 2.14.3 and all releases after it. Of a release candidate, or of a
vendor's build with a suffix, of the very release that brought a change it is not
known whether it has it; what depends on that is unknown.

`)
	for _, security := range []bool{true, false} {
		title := "## Who is admitted, and what can be seen"
		if !security {
			title = "## What servers show"
		}
		fmt.Fprintf(&b, "%s\n\n| What | Since | Before | From then on | Known from |\n|---|---|---|---|---|\n", title)
		for _, r := range release.Rules() {
			if r.Security == security {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", r.Name, strings.Join(r.Since, ", "), r.Before, r.After, r.Source)
			}
		}
		b.WriteString("\n")
	}
	b.WriteString("## Configuration keys\n\nA server that does not know a key refuses to start with it.\n\n| Key | Since |\n|---|---|\n")
	for _, k := range release.Keys {
		key := k.Path
		if k.Value != "" {
			key += ": " + k.Value
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", key, strings.Join(k.Since, ", "))
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(b.String(), string(got)); diff != "" {
		t.Errorf("%s differs from the table; go generate ./agent/release writes it (-want +got)\n%s", page, diff)
	}
}
