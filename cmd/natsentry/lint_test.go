package main

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

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

const (
	configMapYAML = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: bus }\ndata:\n  nats.conf: |\n    port: 4222\n"
	podYAML       = "apiVersion: v1\nkind: Pod\nmetadata: { name: bus }\nspec:\n  containers:\n  - name: nats\n    image: nats:2.14.2\n    args: [-c, /etc/nats.conf]\n" +
		"    volumeMounts: [ { name: c, mountPath: /etc/nats.conf, subPath: nats.conf } ]\n  volumes: [ { name: c, configMap: { name: bus } } ]\n"
)

// What comes in through standard input is told by what is in it.
func TestLintStdin(t *testing.T) {
	for text, want := range map[string]string{
		openConf: "stdin: client ✗ OPEN", configMapYAML: "ConfigMap/bus nats.conf: client ✗ OPEN", podYAML + "---\n" + configMapYAML: "Pod/bus: client ✗ OPEN",
		"a:\n  b: c\n": "it looks like YAML without Kubernetes objects", "": "stdin: client ✗ OPEN",
		"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  {{- x }}\n": "this is a Helm template: render it first", configMapYAML + " x: [\n": "stdin:7: it is not YAML",
	} {
		r := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader(text) }, "lint", "-")
		if !strings.Contains(r.stdout+r.stderr, want) || strings.Contains(want, "stdin:7") && r.code != 3 {
			t.Errorf("%q ended with %d, want %q:\n%s%s", text, r.code, want, r.stdout, r.stderr)
		}
	}
}

func TestLintExitCodes(t *testing.T) {
	dir := confs(t, map[string]string{
		"shut.conf": shutConf, "open.conf": openConf, "broken.conf": "a {", "doubt.conf": "authorization { token: $TOKEN }\n",
		"warned.conf": shutConf + "prof_port: 6060\n", "empty/x.txt": "", "tree/main.conf": "include part.conf\n", "tree/part.conf": shutConf,
		"bad.env": "no value\n", "good.env": "# x\nTOKEN=abcdefghijklmnop\n",
		"k8s/one.yaml": podYAML, "k8s/values.yaml": "a:\n  b: c\n", "k8s/more/two.yml": configMapYAML, "k8s/more/other.yml": "a: b\n", "pod.yaml": podYAML, "open.yaml": configMapYAML,
		"chart/templates/x.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  {{- include \"x\" . }}\n", "waived.yaml": strings.Replace(configMapYAML, "port:", "# natsentry:ignore DOOR_001 a lab\n    port:", 1),
		"service.yaml": "apiVersion: v1\nkind: Service\nmetadata: { name: x }\n", "policy.yaml": "waivers:\n- { check: DOOR_001, server: ConfigMap/bus nats.conf, reason: a lab, owner: me, expires: 2999-01-01 }\n",
		"inside.yaml":  "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: bus }\ndata:\n  nats.conf: \"# natsentry:ignore DOOR_001 a lab\\nport: 4222\\n\"\n",
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
		{[]string{in("ignored.conf")}, 0, "Accepted by " + in("ignored.conf") + ":1:1: a lab"},
		{[]string{in("unreasoned.conf")}, 1, "wants checks and a reason"},
		{[]string{in("open.conf"), "--format", "markdown"}, 1, "DOOR_001"},
		{[]string{in("open.yaml")}, 1, in("open.yaml") + ":6:5: no authorization block"},
		{[]string{in("open.yaml"), "--args", "--auth abcdefghijklmnop"}, 0, "ConfigMap/bus nats.conf: client ✓ closed"},
		{[]string{in("pod.yaml")}, 2, "not here: ConfigMap/bus"},
		{[]string{in("pod.yaml"), "--fail-on", "none"}, 0, "Pod/bus: ? unknown"},
		{[]string{in("pod.yaml"), in("open.yaml")}, 1, in("open.yaml") + ":6:5"},
		{[]string{in("k8s")}, 1, "Pod/bus: client ✗ OPEN"},
		{[]string{in("k8s"), in("shut.conf")}, 1, "shut.conf: client ✓ closed"},
		{[]string{in("service.yaml"), in("shut.conf")}, 0, "beside the files: there is no configuration of nats-server among these Kubernetes objects"},
		{[]string{in("service.yaml")}, 3, "there is no configuration of nats-server among these Kubernetes objects"},
		{[]string{in("k8s/values.yaml")}, 3, "it looks like YAML without Kubernetes objects, and is no configuration"},
		{[]string{in("chart")}, 3, "only templates in it, like "},
		{[]string{in("chart/templates/x.yaml")}, 3, "this is a Helm template: render it first"},
		{[]string{in("waived.yaml")}, 0, "Accepted by " + in("waived.yaml") + ":6:5: a lab"},
		{[]string{in("inside.yaml")}, 1, in("inside.yaml") + ":5:3: natsentry:ignore does not count in a value"},
		{[]string{in("open.yaml"), "--policy", in("policy.yaml")}, 0, "a lab"},
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

// Operators are judged by their JWT, where it is here, inline or in a file.
func TestLintOperator(t *testing.T) {
	key, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewOperatorClaims(public)
	claims.Name = "acme"
	claims.OperatorServiceURLs.Add("nats://n1.example.net:4222")
	token, err := claims.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := confs(t, map[string]string{"op.jwt": token})
	for name, operator := range map[string]string{"inline": token, "file": filepath.Join(dir, "op.jwt")} {
		r := execIn(t.Context(), t, func(p *program) {
			p.stdin = strings.NewReader("port: 4222\noperator: " + operator + "\nresolver: MEMORY\n")
		}, "lint", "--verbose", "-")
		for _, want := range []string{
			"client ✓ closed", "JWT_001", "JWT_003", "JWT_005", "JWT_041", "operator acme: operator acme (", "names 1 URL without TLS",
			"stdin:2:1: of the operator's claim: signing_keys absent", "2 | operator: xxxxx",
		} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%s: no %q in\n%s", name, want, r.stdout)
			}
		}
		if strings.Contains(r.stdout, token) || r.code != 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	elsewhere := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader("operator: /nowhere/op.jwt\nresolver: MEMORY\n") }, "lint", "-")
	if !strings.Contains(elsewhere.stdout, "client ✓ closed") || elsewhere.code != 0 {
		t.Errorf("elsewhere: %+v", elsewhere)
	}
}

// What pipelines read: SARIF as its schema wants it, JUnit, and GitHub's workflow
// commands.
func TestLintFormats(t *testing.T) {
	dir := confs(t, map[string]string{
		"open.conf": openConf + "prof_port: 1\n", "shut.conf": shutConf, "odd, name%.conf": "# natsentry:ignore DOOR_001 <a & \"b\">\n" + openConf,
	})
	t.Run("sarif", func(t *testing.T) {
		r := exec(t, "lint", "--format", "sarif", dir)
		report, err := sarif.FromString(r.stdout)
		if err != nil || r.code != 1 {
			t.Fatalf("%v: %d", err, r.code)
		}
		if err := report.Validate(); err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, result := range report.Runs[0].Results {
			key := *result.RuleID + " " + result.Level
			if len(result.Suppressions) > 0 {
				key += " suppressed"
			}
			at := result.Locations[0].PhysicalLocation
			if at.ArtifactLocation.URI == nil || !strings.HasPrefix(*at.ArtifactLocation.URI, "file:///") || *at.Region.StartLine < 1 {
				t.Errorf("no place: %+v", at)
			}
			got[key]++
		}
		want := map[string]int{"DOOR_001 error": 1, "DOOR_001 error suppressed": 1, "DOOR_008 warning": 1}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		report.Runs[0].Results[0].Level = "terrible"
		if report.Validate() == nil {
			t.Error("the schema takes anything")
		}
	})
	t.Run("junit", func(t *testing.T) {
		r := exec(t, "lint", "--format", "junit", dir)
		var all junitSuites
		if err := xml.Unmarshal([]byte(r.stdout), &all); err != nil || r.code != 1 {
			t.Fatalf("%v: %+v", err, r)
		}
		if all.Tests != 4 || all.Failures != 1 || all.Skipped != 1 || len(all.Suites) != 3 {
			t.Errorf("%+v", all)
		}
		if r := exec(t, "lint", "--format", "junit", "--fail-on", "none", dir); strings.Contains(r.stdout, "<failure") {
			t.Error("something fails all the same")
		}
	})
	t.Run("github", func(t *testing.T) {
		r := exec(t, "lint", "--format", "github", dir)
		want := "::error file=" + dir + "/open.conf,line=1,col=1,title=DOOR_001::"
		if !strings.HasPrefix(r.stdout, want) || !strings.Contains(r.stdout, "::warning file=") || strings.Count(r.stdout, "\n") != 2 {
			t.Errorf("%s", r.stdout)
		}
		waived := exec(t, "lint", "--format", "github", filepath.Join(dir, "odd, name%.conf"), "--loopback-exposed", "--args", "--profile 1")
		if !strings.HasPrefix(waived.stdout, "::warning file="+dir+"/odd%2C name%25.conf,") {
			t.Errorf("%s", waived.stdout)
		}
	})
}

// SARIF tells a suppression that stands in the file from one that stands beside it.
func TestLintSARIFSuppressions(t *testing.T) {
	dir := confs(t, map[string]string{
		"open.conf": openConf, "commented.conf": "# natsentry:ignore DOOR_001 a lab\n" + openConf,
		"policy.yaml": "waivers:\n  - {check: DOOR_001, reason: a lab, owner: ops, expires: 9999-01-31}\n",
	})
	in := func(name string) string { return filepath.Join(dir, name) }
	base := in("base.json")
	if err := os.WriteFile(base, []byte(exec(t, "lint", "--format", "json", in("open.conf")).stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		kind string
	}{
		"comment":  {[]string{in("commented.conf")}, "inSource"},
		"policy":   {[]string{in("open.conf"), "--policy", in("policy.yaml")}, "external"},
		"baseline": {[]string{in("open.conf"), "--baseline", base}, "external"},
	} {
		r := exec(t, append([]string{"lint", "--format", "sarif"}, tc.args...)...)
		report, err := sarif.FromString(r.stdout)
		if err != nil || r.code != 0 {
			t.Fatalf("%s: %v: %+v", name, err, r)
		}
		if err := report.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, result := range report.Runs[0].Results {
			if len(result.Suppressions) != 1 || *result.Suppressions[0].Kind != tc.kind {
				t.Errorf("%s: %s has %+v", name, *result.RuleID, result.Suppressions)
			}
		}
		if len(report.Runs[0].Results) == 0 {
			t.Errorf("%s: nothing is suppressed", name)
		}
	}
}

// A baseline accepts what stood before, where it rests on the same, and nothing
// else.
func TestLintBaseline(t *testing.T) {
	dir := confs(t, map[string]string{"n1.conf": "authorization { users: [ { user: a, password: hunter2hunter2 } ] }\n"})
	file, base := filepath.Join(dir, "n1.conf"), filepath.Join(t.TempDir(), "base.json")
	lint := func() result { return exec(t, "lint", "--fail-on", "warning", "--baseline", base, file) }
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(base, exec(t, "lint", "--format", "json", file).stdout)
	if r := lint(); r.code != 0 || !strings.Contains(r.stdout, "Accepted by "+base) {
		t.Errorf("the same: %+v", r)
	}
	write(file, "# moved\n\nauthorization { users: [ { user: a, password: hunter2hunter2 } ] }\n")
	if r := lint(); r.code != 0 {
		t.Errorf("moved: %+v", r)
	}
	write(file, "authorization { users: [ { user: a, password: hunter2hunter2 }, { user: b, password: hunter3hunter3 } ] }\n")
	if r := lint(); r.code != 1 {
		t.Errorf("one more: %+v", r)
	}
	write(base, "{}")
	if r := lint(); r.code != exitUsageOrConn || !strings.Contains(r.stderr, "it is no report") {
		t.Errorf("no report: %+v", r)
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

// TestLintUndecided: what rests on a variable without a value is undecided
// everywhere: no finding stands on a value that only stands in for it, and none of
// those values is shown in any format.
func TestLintUndecided(t *testing.T) {
	const tls = "cert_file: a, key_file: b, ca_file: c"
	for text, undecided := range map[string]string{
		"tls { " + tls + ", verify: $V }": "TLS_003",
		"tls { " + tls + ", verify: $V }\nauthorization { users: [ { user: a, password: $P } ] }":                                               "TLS_003",
		"tls { " + tls + " }\nallow_non_tls: $N":                                                                                                "TLS_002",
		"authorization { token: $T }":                                                                                                           "CRED_001",
		"authorization { users: [ { user: a, password: $P } ] }\nno_auth_user: $G":                                                              "CONF_004",
		"websocket { port: $W, no_tls: $N }\nauthorization { user: a, password: $P }":                                                           "TLS_005",
		"port: $PORT\nhost: $HOST\nhttp: $H\nprof_port: $PP":                                                                                    "",
		"listen: $L\ncluster { name: $C, listen: $CL, authorization { user: $U, password: $P }, routes: [ $R ] }":                               "",
		"leafnodes { listen: $L, authorization { users: [ { user: $U, password: $P, account: $A } ] }, remotes: [ { url: $R, account: $A } ] }": "",
		"accounts { A { users: [ { nkey: $NK }, { user: $U, password: $P } ] } }\nno_auth_user: $U":                                             "",
		"authorization { users: [ { user: $U, password: hunter2hunter2 } ] }":                                                                   "",
		"server_name: $N\ngateway { name: $G, port: $P, authorization { user: $U, password: $P } }\nsystem_account: $S\ntrusted_keys: $K":       "",
	} {
		file := filepath.Join(confs(t, map[string]string{"n.conf": text}), "n.conf")
		for _, format := range []string{"text", "json", "markdown", "sarif", "junit", "github"} {
			r := exec(t, "lint", "--verbose", "--fail-on", "none", "--format", format, file)
			if r.code != 0 {
				t.Fatalf("%s: %+v", text, r)
			}
			for _, never := range []string{"natsentry-unset", "natsentryunset", "0.0.0.0:1\"", "0.0.0.0:1 ", "0.0.0.0:1,", "makes it so"} {
				if strings.Contains(r.stdout, never) {
					t.Errorf("%s as %s holds %q:\n%s", text, format, never, r.stdout)
				}
			}
			// SARIF lists all checks.
			for _, id := range []string{"CONF_007", undecided} {
				if format != "sarif" && id != "" && strings.Contains(r.stdout, id) {
					t.Errorf("%s as %s decides %s:\n%s", text, format, id, r.stdout)
				}
			}
		}
	}
	in := exec(t, "lint", "--fail-on", "none", filepath.Join(confs(t, map[string]string{"n.conf": "port: $PORT"}), "n.conf"))
	if !strings.Contains(in.stdout, "client port 0.0.0.0 (port unknown)") {
		t.Errorf("the port is not said to be unknown:\n%s", in.stdout)
	}
}
