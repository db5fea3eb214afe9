package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
)

// pluginLine is what the guidelines of plugins call for: a state, text without a
// pipe, and numbers as 'label'=value[;warning[;critical[;minimum]]].
var pluginLine = regexp.MustCompile(`^(OK|WARNING|CRITICAL|UNKNOWN) - ([^|\n]+?)( \|( [a-z]+=\d+(;\d*(;\d*(;\d+)?)?)?)+)?\n$`)

func TestNagiosOfConfigurations(t *testing.T) {
	dir := confs(t, map[string]string{
		"shut.conf": shutConf, "open.conf": openConf, "broken.conf": "a {", "doubt.conf": "authorization { token: $TOKEN }\n",
		"warned.conf": shutConf + "prof_port: 6060\n", "lab.conf": "# natsentry:ignore DOOR_001 a lab\n" + openConf,
		"pipe|name.conf": openConf, "token.conf": "authorization { token: iWeeth7ohtho }\n",
		"secret.conf":   "server_name: \"a|b\\nOK - fine\"\ncluster { port: 6222, routes: [ \"nats://r:hunter2hunter2@n2\" ] }\n",
		"doubtful.conf": "authorization { token: $TOKEN }\nprof_port: 6060\n",
		"absent.yaml":   "apiVersion: v1\nkind: Pod\nmetadata: { name: p }\nspec:\n  containers: [ { name: n, image: \"nats:2.14.2\", args: [ \"-c\", \"/etc/nats/nats.conf\" ] } ]\n",
	})
	for _, tc := range []struct {
		args string // files without a slash are those above
		code int
		want string
	}{
		{"shut.conf", 0, "OK - 0 critical, 0 warning, 0 info | critical=0;;0;0 warning=0;0;;0 info=0;;;0 waived=0;;;0 open=0;;;0 unknown=0;;;0\n"},
		{"open.conf", 2, "CRITICAL - 1 critical, 0 warning, 0 info; DOOR_001 "},
		{"open.conf --fail-on none", 0, "OK - 1 critical, 0 warning, 0 info | critical=1;;;0 "},
		{"broken.conf", 2, "; CONF_007 "},
		{"warned.conf", 1, "WARNING - 0 critical, 1 warning, 0 info; DOOR_008 "},
		{"warned.conf --fail-on critical", 0, "OK - 0 critical, 1 warning, 0 info | critical=0;;0;0 warning=1;;;0 "},
		{"token.conf", 1, "WARNING - 0 critical, 1 warning, 1 info; CRED_002 "},
		{"token.conf --fail-on info", 1, "; CRED_001 "},
		{"doubt.conf", 0, "OK - "},
		{"doubt.conf --strict", 3, "UNKNOWN - 0 critical, 0 warning, 1 info; not decided: it cannot be told whether 1 door is open | "},
		{"doubtful.conf --strict", 1, "WARNING - "},
		{"doubtful.conf --strict", 1, "; not decided: it cannot be told whether 1 door is open | "},
		{"absent.yaml", 3, "UNKNOWN - 0 critical, 0 warning, 0 info; not decided: a part of 1 configuration is not here | "},
		{"lab.conf", 0, " waived=1;;;0 "},
		{"pipe|name.conf", 2, "pipe/name.conf:1:1 "},
		{"secret.conf", 2, "CRITICAL - "},
		{"nowhere.conf", 3, "UNKNOWN - stat "},
		{"open.conf --policy nowhere.yaml", 3, "UNKNOWN - "},
	} {
		words := strings.Fields(tc.args)
		words[0] = filepath.Join(dir, words[0])
		r := exec(t, append([]string{"lint", "--format", "nagios"}, words...)...)
		if r.code != tc.code || !strings.Contains(r.stdout, tc.want) || !pluginLine.MatchString(r.stdout) {
			t.Errorf("%s ended with %d, want %d and %q:\n%s%s", tc.args, r.code, tc.code, tc.want, r.stdout, r.stderr)
		}
		if strings.Contains(r.stdout, "hunter2") || strings.Contains(r.stdout, "iWee") {
			t.Errorf("%s: a secret: %s", tc.args, r.stdout)
		}
		printable(t, r.stdout)
	}
}

// Of many findings the worst are told and the others counted, so that the line fits
// where agents cut it.
func TestNagiosIsShort(t *testing.T) {
	var r finding.Report
	for i := range 50 {
		r.Findings = append(r.Findings, finding.Finding{Check: "DOOR_001", Severity: check.Critical, Summary: fmt.Sprintf("n%d ", i) + strings.Repeat("ä|", 1000)})
	}
	var out strings.Builder
	p := &program{stdout: &out}
	cmd := &cobra.Command{}
	chooseFlag(cmd, "fail-on", "", "critical")
	err := p.reportToNagios(cmd, &r, "critical", errors.New("not decided: a test"))
	var v *verdict
	if !errors.As(err, &v) || v.code != nagiosCritical || v.text != "" {
		t.Errorf("%v", err)
	}
	line := out.String()
	if !pluginLine.MatchString(line) || len([]rune(line)) > 1000 || !strings.Contains(line, "; and 47 more; not decided: a test | ") {
		t.Errorf("%d characters: %s", len([]rune(line)), line)
	}
}
