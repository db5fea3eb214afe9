package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/finding"
)

// confs writes configurations to an empty folder, and returns it.
func confs(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const (
	shutConf = `authorization { users: [ { user: app, password: "$2a$11$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6" } ] }` + "\n"
	openConf = "port: 4222\n"
)

func TestLintExitCodes(t *testing.T) {
	dir := confs(t, map[string]string{
		"shut.conf": shutConf, "open.conf": openConf, "broken.conf": "a {", "doubt.conf": "authorization { token: $TOKEN }\n",
		"warned.conf": shutConf + "prof_port: 6060\n", "empty/x.txt": "", "tree/main.conf": "include part.conf\n", "tree/part.conf": shutConf,
		"bad.env": "no value\n", "good.env": "# x\nTOKEN=abcdefghijklmnop\n",
		"ignored.conf": "# natsentry:ignore DOOR_001 a lab\n" + openConf, "unreasoned.conf": "# natsentry:ignore DOOR_001\n" + openConf,
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, tc := range []struct {
		args []string
		code int
		want string // of both streams
	}{
		{[]string{in("shut.conf")}, 0, "No findings."},
		{[]string{in("open.conf")}, 1, "DOOR_001"},
		{[]string{in("broken.conf")}, 1, "CONF_007"},
		{[]string{in("shut.conf"), in("open.conf")}, 1, "open.conf:1:1"},
		{[]string{in("open.conf"), "--fail-on", "none"}, 0, "DOOR_001"},
		{[]string{in("doubt.conf")}, 0, "client ? unknown"},
		{[]string{in("doubt.conf"), "--strict"}, 2, "not decided: it cannot be told whether 1 door is open"},
		{[]string{in("doubt.conf"), "--strict", "--env-file", in("good.env")}, 0, "client ✓ closed"},
		{[]string{in("doubt.conf"), "--env-file", in("bad.env")}, 3, "line 1 is not NAME=VALUE"},
		{[]string{in("open.conf"), "--args", "--auth abcdefghijklmnop"}, 0, "client ✓ closed"},
		{[]string{in("open.conf"), "--args", "--nope"}, 3, "flag provided but not defined: -nope"},
		{[]string{in("open.conf"), "--args", "'"}, 3, "a quote is not closed"},
		{[]string{in("warned.conf")}, 0, "DOOR_008"},
		{[]string{in("warned.conf"), "--fail-on", "warning"}, 1, "DOOR_008"},
		{[]string{in("tree")}, 0, "main.conf: client ✓ closed\n\nNo findings."},
		{[]string{in("empty")}, 3, "there is no file *.conf in it"},
		{[]string{in("nowhere.conf")}, 3, "no such file"},
		{[]string{}, 3, "see `natsentry lint --help`"},
		{[]string{in("ignored.conf")}, 0, "Ignored by the comment at " + in("ignored.conf") + ":1:1: a lab"},
		{[]string{in("unreasoned.conf")}, 1, "wants checks and a reason"},
		{[]string{in("open.conf"), "--format", "markdown"}, 1, "DOOR_001"},
	} {
		r := exec(t, append([]string{"lint"}, tc.args...)...)
		if r.code != tc.code || !strings.Contains(r.stdout+r.stderr, tc.want) {
			t.Errorf("%q ended with %d, want %d and %q:\n%s%s", tc.args, r.code, tc.code, tc.want, r.stdout, r.stderr)
		}
		printable(t, r.stdout)
	}
}

// The report of lint is that of audit, with places.
func TestLintJSON(t *testing.T) {
	r := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader(openConf) }, "lint", "--format", "json", "-")
	var report finding.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil || r.code != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	f := report.Findings[0]
	if report.Type != finding.ReportType || f.Check != "DOOR_001" || f.Evidence[0].Place == nil || f.Evidence[0].Place.Line != 1 || f.Evidence[0].Place.File != stdinName {
		t.Errorf("%+v", f)
	}
	for _, f := range report.Findings {
		for _, e := range f.Evidence {
			if e.Place == nil {
				t.Errorf("%s has evidence without a place: %+v", f.Check, e)
			}
		}
	}
}

// BenchmarkLint judges 1,000 configurations of 200 lines in one run.
func BenchmarkLint(b *testing.B) {
	const files, lines = 1000, 200
	all := map[string]string{}
	for i := range files {
		var text strings.Builder
		fmt.Fprintf(&text, "server_name: n%d\nport: 4222\naccounts {\n  APP {\n    users: [\n", i)
		for j := range lines - 10 {
			fmt.Fprintf(&text, "      { user: u%d, password: $PASSWORD_%d, permissions: { publish: [\"a.%d.>\"], subscribe: [\"b.%d.>\", \"_INBOX.>\"] } }\n", j, j%7, j, j)
		}
		text.WriteString("    ]\n  }\n}\ncluster { name: c, port: 6222, authorization { user: r, password: \"$2a$11$abc\" } }\nhttp: \"127.0.0.1:8222\"\n")
		all[fmt.Sprintf("n%04d.conf", i)] = text.String()
	}
	dir := confs(b, all)
	b.ResetTimer()
	for b.Loop() {
		var stdout, stderr strings.Builder
		p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, args: []string{"lint", "--format", "json", dir}}
		if code := p.run(b.Context()); code != 0 {
			b.Fatalf("it ended with %d: %s", code, stderr.String())
		}
	}
	b.ReportMetric(float64(files)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
}
