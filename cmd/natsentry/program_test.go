package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/integration/fleet"
)

type result struct {
	code           int
	stdout, stderr string
}

// exec runs the command line in this process, away from the user's contexts.
func exec(t *testing.T, args ...string) result {
	t.Helper()
	return execIn(t.Context(), t, nil, args...)
}

func execIn(ctx context.Context, t *testing.T, change func(*program), args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	p := &program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr, env: []string{"XDG_CONFIG_HOME=" + t.TempDir()}, args: args}
	if change != nil {
		change(p)
	}
	code := p.run(ctx)
	return result{code, stdout.String(), stderr.String()}
}

func commands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		if c.Name() != "help" {
			all = append(all, commands(c)...)
		}
	}
	return all
}

// Every command says what it is for and gives examples, and the examples are
// what the command line takes.
func TestHelp(t *testing.T) {
	for _, cmd := range commands((&program{}).root()) {
		t.Run(cmd.Name(), func(t *testing.T) {
			if cmd.Short == "" || cmd.Example == "" {
				t.Error("no summary, or no example")
			}
			if cmd.HasParent() && cmd.Args == nil {
				t.Error("takes any arguments")
			}
			for line := range strings.SplitSeq(cmd.Example, "\n") {
				line, _, _ = strings.Cut(line, "#")
				line, _, _ = strings.Cut(line, ">")
				line, _, _ = strings.Cut(line, "|")
				line = strings.Trim(strings.TrimPrefix(strings.TrimSpace(line), "source <("), ") ")
				words := strings.Fields(line)
				if len(words) == 0 || words[0] != "natsentry" {
					continue
				}
				found, rest, err := (&program{}).root().Find(words[1:])
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				if err := found.ParseFlags(rest); err != nil {
					t.Errorf("%s: %v", line, err)
				}
				if err := found.ValidateArgs(found.Flags().Args()); err != nil {
					t.Errorf("%s: %v", line, err)
				}
			}
			args := strings.Fields(cmd.CommandPath())[1:]
			r := exec(t, append(args, "--help")...)
			if r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "Examples:\n") {
				t.Errorf("--help: %+v", r)
			}
			if connects := strings.Contains(r.stdout, "--creds"); connects == (cmd.Annotations[offline] != "") {
				t.Errorf("its help shows connection flags: %v", connects)
			}
		})
	}
}

func TestUsageErrors(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"--nope", "unknown flag: --nope\n  see `natsentry --help`"},
		{"audit --nope", "see `natsentry audit --help`"},
		{"audit extra", "see `natsentry audit --help`"},
		{"audti", "there is no command \"audti\"; did you mean audit?"},
		{"audit --fail-on fatal", "must be one of critical, warning, info, none"},
		{"audit --format xml", "must be one of text, json, markdown"},
		{"audit --timeout soon", "--timeout"},
		{"audit --no-context --timeout 0s", "--timeout must be positive"},
		{"audit --no-context --wait -1s", "--wait must be positive"},
		{"audit --no-context --wait 0s", "--wait must be positive"},
		{"run --interval 0s", "--interval"},
		{"run --account-interval 0s", "--account-interval"},
		{"audit --accounts -1", "--accounts must be positive"},
		{"run --prefix a..b", "--prefix"},
		{"run --log-level loud", "must be one of info, debug, warn, error"},
		{"watch --prefix a.>", "--prefix"},
		{"permissions --user a\"b", "--user"},
		{"permissions --account -x", "--account"},
		{"permissions --prefix $SYS", "--prefix"},
		{"setup --account a\"b", "--account"},
		{"setup --account SYS", "the system account cannot have JetStream"},
		{"setup --replicas 6", "--replicas must be 1 to 5"},
		{"setup --max-age 5m", "--max-age must be an hour or more"},
		{"setup --max-age soon", "it must look like 12h, 90d, 12w or 1y"},
		{"setup --format helm", "must be one of config, nsc"},
		{"setup now", "see `natsentry setup --help`"},
		{"checks NOPE_1", "there is no check \"NOPE_1\""},
		{"checks A B", "see `natsentry checks --help`"},
		{"demo --format json", "--format is for --once"},
		{"completion powershell", "invalid argument"},
		{"version x", "see `natsentry version --help`"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			r := exec(t, strings.Fields(tc.args)...)
			if r.code != exitUsageOrConn || r.stdout != "" || !strings.HasPrefix(r.stderr, "natsentry: ") || !strings.Contains(r.stderr, tc.want) {
				t.Errorf("got %+v, want code 3 and %q", r, tc.want)
			}
		})
	}
}

func TestExitCodeByBehaviour(t *testing.T) {
	var coded interface{ ExitCode() int }
	if err := error(&verdict{code: 2}); !errors.As(err, &coded) || coded.ExitCode() != 2 {
		t.Error("a verdict has no exit code")
	}
	if err := error(&usageError{"natsentry", io.EOF}); errors.As(err, &coded) && coded.ExitCode() != exitUsageOrConn || !errors.Is(err, io.EOF) {
		t.Error("a usage error is not what it should be")
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestResultCannotBeWritten(t *testing.T) {
	r := execIn(t.Context(), t, func(p *program) { p.stdout = brokenPipe{} }, "checks")
	if r.code != exitUsageOrConn || !strings.Contains(r.stderr, "write the result: io: read/write on closed pipe") {
		t.Errorf("%+v", r)
	}
}

func TestVersion(t *testing.T) {
	r := exec(t, "version")
	if r.code != 0 || !regexp.MustCompile(`^natsentry \S+\ngo go1\.\S+ \w+/\w+\nnats-server \S+\nnats\.go \S+\n$`).MatchString(r.stdout) {
		t.Errorf("%+v", r)
	}
	for in, want := range map[string]string{"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "(devel)": "(devel)", "": ""} {
		if got := semanticVersion(in); got != want {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func TestChecks(t *testing.T) {
	for name, args := range map[string]string{
		"checks.txt": "", "checks.md": "--format markdown", "checks.json": "--format json",
		"DOOR_001.txt": "DOOR_001", "DOOR_001.md": "DOOR_001 --format markdown",
	} {
		r := exec(t, append([]string{"checks"}, strings.Fields(args)...)...)
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%+v", r)
		}
		for _, c := range check.Catalogue() {
			if !strings.Contains(name, "_") && !strings.Contains(r.stdout, c.ID) {
				t.Errorf("%s does not have %s", name, c.ID)
			}
		}
		printable(t, r.stdout)
		for _, word := range []string{"%!", "<nil>"} {
			if strings.Contains(r.stdout, word) {
				t.Errorf("%s has %q", name, word)
			}
		}
	}
	// By alias, in any case.
	if a, b := exec(t, "checks", "server_007"), exec(t, "checks", "DOOR_001"); a != b || !strings.Contains(a.stdout, "What to do about hidden-user") {
		t.Errorf("%+v", a)
	}
}

func TestCompletion(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"audit", "--format", ""}, "text\njson\nmarkdown\nnagios\n:4\n"},
		{[]string{"audit", "--fail-on", ""}, "critical\nwarning\ninfo\nnone\n:4\n"},
		{[]string{"run", "--log-level", ""}, "info\ndebug\nwarn\nerror\n:4\n"},
		{[]string{"audit", "--context", ""}, "prod\nstaging\n:4\n"},
		{[]string{"checks", "SESS_"}, "SESS_001\tanonymous clients are connected now\n"},
		{[]string{"history", "--check", "SESS_"}, "SESS_001\tanonymous clients are connected now\n"},
		{[]string{"history", "--door", ""}, "client\nwebsocket\nmqtt\n"},
		{[]string{"history", "--severity", ""}, "critical\nwarning\ninfo\n:4\n"},
		{[]string{"history", "--cluster", ""}, ":4\n"},
		{[]string{"setup", "--format", ""}, "config\nnsc\n:4\n"},
		{[]string{"setup", "--replicas", ""}, "1\n3\n5\n:4\n"},
		{[]string{"setup", "--dir", ""}, ":16\n"},
		{[]string{"completion", ""}, "bash\nzsh\nfish\n:4\n"},
	} {
		config := contextFolder(t, "", map[string]string{"prod": "{}", "staging": "{}"})
		r := execIn(t.Context(), t, func(p *program) { p.env = []string{"XDG_CONFIG_HOME=" + config} }, append([]string{"__complete"}, tc.args...)...)
		if r.code != 0 || !strings.Contains(r.stdout, tc.want) {
			t.Errorf("%v: %+v", tc.args, r)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if r := exec(t, "completion", shell); r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "__complete") {
			t.Errorf("%s: code %d, %q", shell, r.code, r.stderr)
		}
	}
}

func TestColour(t *testing.T) {
	tty := func(p *program) { p.terminal = func(any) bool { return true } }
	for _, tc := range []struct {
		env  []string
		want bool
	}{
		{nil, true},
		{[]string{"NO_COLOR="}, true},
		{[]string{"NO_COLOR=1"}, false},
		{[]string{"TERM=dumb"}, false},
	} {
		r := execIn(t.Context(), t, func(p *program) { tty(p); p.env = append(p.env, tc.env...) }, "checks")
		if got := strings.Contains(r.stdout, "\x1b["); got != tc.want {
			t.Errorf("%v: colour %v", tc.env, got)
		}
	}
	if r := exec(t, "checks"); strings.Contains(r.stdout, "\x1b") {
		t.Error("colour where nobody looks")
	}
}

func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		done := spin(&out, "sweeping")
		time.Sleep(2*spinPeriod + 1)
		done()
		done() // once is enough
		want := "\r\x1b[K| sweeping\r\x1b[K/ sweeping\r\x1b[K"
		if out.String() != want {
			t.Errorf("%q", out.String())
		}
	})
	var out strings.Builder
	p := &program{stderr: &out}
	p.progress("sweeping")()
	if out.Len() > 0 {
		t.Errorf("%q where nobody looks", out.String())
	}
}

func TestInterruptedWhileConnecting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := execIn(ctx, t, nil, "audit", "--server", "nats://127.0.0.1:1")
	if r.code != exitUsageOrConn || r.stdout != "" || r.stderr == "" {
		t.Errorf("%+v", r)
	}
}

// The user that permissions prints may do what natsentry does, and not the
// least of what does harm.
func TestPermissionsGrantNoMore(t *testing.T) {
	for _, args := range []string{"permissions", "permissions --store"} {
		t.Run(args, func(t *testing.T) { grantsNoMore(t, args) })
	}
}

func grantsNoMore(t *testing.T, args string) {
	t.Helper()
	user := strings.Replace(exec(t, strings.Fields(args)...).stdout, placeholder, `{{bcrypt "secret"}}`, 1)
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1", Config: "accounts { SYS { users [\n" + user + "\n] }, APP { users [{user: app, password: app}] } }\nsystem_account: SYS\n"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}()
	refused := make(chan error, 100)
	nc, err := nats.Connect(f.Server("n1").URL(), nats.UserInfo("natsentry", "secret"),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	id := f.Server("n1").ID()
	publish := []string{
		"$SYS.REQ.SERVER." + id + ".RELOAD", "$SYS.REQ.SERVER." + id + ".KICK", "$SYS.REQ.SERVER." + id + ".LDM", "$SYS.REQ.SERVER.PING.SUBSZ",
		"$SYS.REQ.SERVER.PING.PROFILEZ", "$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.ACCOUNT.A.CLAIMS.UPDATE",
		"$SYS.REQ.CLAIMS.PACK", "$JS.API.INFO", "app", "_INBOX.x", "audit.auth", micro.APIPrefix + ".PING",
		"audit.js.api.STREAM.DELETE.NATSENTRY", "audit.js.api.STREAM.PURGE.NATSENTRY", "audit.js.api.STREAM.UPDATE.NATSENTRY", "audit.js.api.STREAM.CREATE.X",
		"audit.js.api.STREAM.MSG.DELETE.NATSENTRY", "audit.js.api.STREAM.INFO.OTHER", "audit.js.api.DIRECT.GET.OTHER", "audit.js.api.$KV.OTHER.x", "audit.store.other",
	}
	subscribe := []string{">", "$SYS.>", "_INBOX.>", "$SYS.ACCOUNT.>", "$SYS.REQ.SERVER.*.VARZ"}
	for _, subject := range publish {
		if err := nc.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range subscribe {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for range len(publish) + len(subscribe) {
		select {
		case err := <-refused:
			if !errors.Is(err, nats.ErrPermissionViolation) {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("something was not refused")
		}
	}
}

func TestAdvisories(t *testing.T) {
	for _, format := range []string{"text", "json", "markdown"} {
		r := exec(t, "advisories", "--format", format)
		if r.code != 0 || r.stderr != "" {
			t.Errorf("%+v", r)
		}
		printable(t, r.stdout)
		known := advisory.Known()
		for _, want := range append([]string{known.AsOf, "CC-BY-4.0"}, known.Sources...) {
			if format != "text" && !strings.Contains(r.stdout, want) && !strings.Contains(r.stdout, escape(want)) {
				t.Errorf("%s does not have %q", format, want)
			}
		}
		for _, a := range known.Advisories {
			for _, want := range []string{a.ID, a.URLs[0]} {
				if !strings.Contains(r.stdout, want) {
					t.Errorf("%s does not have %q", format, want)
				}
			}
		}
	}
	for version, want := range map[string][]string{
		"2.12.6":      {"nats-server 2.12.6 has 13 vulnerabilities, as known on ", "; 1 more it may have.", "Route API Auth Bypass"},
		"v2.12.7":     {"nats-server 2.12.7 has "},
		"2.12.8-fips": {"nats-server 2.12.8-fips has ", "2026-19  2026-06-29  MAY HAVE Pre-auth"},
		"99.0.0":      {"nats-server 99.0.0 has 0 vulnerabilities", "; 1 more it may have.", "Golang TLS"},
	} {
		r := exec(t, "advisories", version)
		for _, w := range want {
			if r.code != 0 || !strings.Contains(r.stdout, w) {
				t.Errorf("%s: no %q in %+v", version, w, r)
			}
		}
	}
	if r := exec(t, "advisories", "2.12.7"); strings.Contains(r.stdout, "Route API Auth Bypass") {
		t.Error("2.12.7 has fixed 2026-16")
	}
	for _, id := range []string{"CVE-2026-58253", "cve-2026-58253", "GHSA-38x3-76xf-cq45", "ghsa-38X3-76xf-cq45", "2026-16"} {
		r := exec(t, "advisories", id, "--format", "json")
		var list advisoryList
		if err := json.Unmarshal([]byte(r.stdout), &list); err != nil || r.code != 0 || len(list.Advisories) != 1 {
			t.Errorf("%s: %v %+v", id, err, r)
			continue
		}
		a := list.Advisories[0]
		if a.ID != "2026-16" || !slices.Equal(a.Aliases, []string{"CVE-2026-58253", "GHSA-38x3-76xf-cq45"}) {
			t.Errorf("%s: %+v", id, a)
		}
	}
	if r := exec(t, "advisories", "GO-2026-4833"); r.code != 0 || !strings.Contains(r.stdout, "2026-06  ") || strings.Contains(r.stdout, "2026-16") {
		t.Errorf("%+v", r)
	}
	for _, unknown := range []string{"CVE-2020-26149", "GHSA-0000-0000-0000", "2020-01"} {
		if r := exec(t, "advisories", unknown); r.code != 3 || !strings.Contains(r.stderr, "is not among the advisories known on "+advisory.Known().AsOf) {
			t.Errorf("%q: %+v", unknown, r)
		}
	}
	for _, bad := range []string{"latest", "2.12", ""} {
		if r := exec(t, "advisories", bad); r.code != 3 || !strings.Contains(r.stderr, "is neither a version of nats-server, like 2.12.6, nor the id of an advisory") {
			t.Errorf("%q: %+v", bad, r)
		}
	}
}
