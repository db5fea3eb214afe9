//go:build unix

package integration

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"golang.org/x/crypto/bcrypt"

	"github.com/natsentry/natsentry/integration/fleet"
)

// What README.md and docs say is run here. The language of a fenced block,
// and words after it, tell how:
//
//	console   Lines that begin with "$ " are commands of one shell; what
//	          follows each is its output, compared after normalize.
//	          fleet=demo      on a running `natsentry demo`
//	          fleet=operator  on a server in operator mode, beside its nsc
//	          fleet=NAME      on the server that the conf block of that name configures
//	          user=NAME       as that user of it; default natsentry. "-" is nobody
//	          exit=N          the block's last command ends with that code
//	          background      it goes on until the document ends, and is then
//	                          interrupted; its first lines of output are shown.
//	                          (go run itself ends with 1 when interrupted.)
//	          repository      in this repository, not in an empty folder
//	conf      A server must start with it. fleet=NAME keeps it for what follows.
//	          The output of `natsentry permissions` goes where a comment names
//	          it, files that commands have written may be included, and
//	          "$2a$11$..." becomes the hash of a password.
//	          With file=NAME it is a file for the commands after it instead, and
//	          nothing is started; with fleet=NAME, it has the address of that one.
//	yaml      A file for the commands after it: file=NAME. The day 2027-01-31 is
//	          one that has not come yet.
//	go        A program that must run and print something; fleet and user as above.
//	sh        Not run. Each one is listed in notRun, with the reason.
//
// NATS_URL, NATS_USER and NATS_PASSWORD lead to the fleet, and
// nats://127.0.0.1:4222 stands for it in commands and in output. To rewrite
// the outputs that are not true any more:
//
//	go test ./integration -run '^TestDocs' -update
var update = flag.Bool("update", false, "rewrite the outputs shown in the documents")

// notRun are the first lines of the sh blocks, and why no test runs them.
var notRun = map[string]string{
	"git clone https://github.com/natsentry/natsentry":               "needs the repository's own address; go test is what runs this test",
	"go install github.com/natsentry/natsentry/cmd/natsentry@latest": "there is no release yet, and the text says so",
	"natsentry fix DOOR_001 n1 --dir fix-n1":                         "docs/fix.md runs it and shows what it prints",
	"nats-server --signal reload   # takes the file":                 "it signals a server of the whole machine; TestSecondReload reloads twice",
	"nats server passwd --generate":                                  "its output is a new secret every time; it has its own test",
	"go test ./integration -run '^$' -bench Sweep":                   "takes seconds of all cores and prints the machine's own numbers; .ci/run bench runs it",
}

const docsPassword = "password-of-the-documents"

// placeholders are what readers replace in a configuration.
const (
	placeholderHash    = "$2a$11$..."
	placeholderPrinted = "$2a$11$REPLACE.WITH.THE.OUTPUT.OF.nats.server.passwd"
	placeholderAddress = "127.0.0.1:4222"
	placeholderDay     = "2027-01-31"
)

// aheadDay is what placeholderDay stands for while a document is run.
var aheadDay = time.Now().AddDate(0, 3, 0).Format(time.DateOnly)

// printedUser is where the output of `natsentry permissions` goes, and included
// names a file.
var (
	printedUser = regexp.MustCompile("# the output of `natsentry (permissions[^`]*)`")
	included    = regexp.MustCompile(`include "([^"]+)"`)
)

// hashedNow is a hash for files that are no templates.
func hashedNow(password string) string {
	return string(must(bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)))
}

// TestDocs runs the documents, each beside the others.
func TestDocs(t *testing.T) {
	t.Parallel()
	if fleet.UnderRace {
		t.Skip("what it runs are other processes, in which there is no race detector; the nats command waits two seconds for a login, which bcrypt then takes")
	}
	k := makeTools(t)
	for _, path := range documents(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			runDocument(t, k, path)
		})
	}
	t.Run("checks.md", func(t *testing.T) { isGenerated(t, k, "checks") })
	t.Run("advisories.md", func(t *testing.T) { isGenerated(t, k, "advisories") })
	t.Run("connect_urls", func(t *testing.T) { strangersFollow(t, k) })
	t.Run("passwords", func(t *testing.T) { passwordsLogIn(t, k) })
}

// TestDocsBlocks: there is no block that nobody runs or answers for.
func TestDocsBlocks(t *testing.T) {
	t.Parallel()
	listed := map[string]bool{}
	for _, path := range documents(t) {
		for _, b := range parseDocument(t, path).blocks {
			switch b.language {
			case "console", "conf", "go", "yaml":
			case "sh":
				if notRun[b.first()] == "" {
					t.Errorf("%s: nobody runs this, and notRun has no reason why: %s", b, b.first())
				}
				listed[b.first()] = true
			default:
				t.Errorf("%s: blocks are console, conf, yaml, go or sh, not %q", b, b.language)
			}
		}
	}
	for first := range notRun {
		if !listed[first] {
			t.Errorf("notRun lists what no document shows: %s", first)
		}
	}
}

// isGenerated: the document named after a command is what the command prints.
func isGenerated(t *testing.T, k tools, command string) {
	t.Helper()
	want, err := exec.CommandContext(t.Context(), k.natsentry, command, "--format", "markdown").Output()
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../docs/" + command + ".md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("docs/%s.md is out of date: run go generate ./...", command)
	}
}

var markdownLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocsLinks: links within the repository lead somewhere.
func TestDocsLinks(t *testing.T) {
	t.Parallel()
	for _, path := range append(documents(t), "../docs/checks.md", "../docs/advisories.md", "../CONTRIBUTING.md", "../SECURITY.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range markdownLink.FindAllStringSubmatch(string(text), -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			info, err := os.Stat(target)
			if err != nil {
				t.Errorf("%s links to %s: %v", path, m[1], err)
				continue
			}
			if anchor != "" && !info.IsDir() && !slices.Contains(anchors(t, target), anchor) {
				t.Errorf("%s links to %s: no such heading", path, m[1])
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are the names that GitHub gives to the headings of a document.
func anchors(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			name := notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			all = append(all, strings.ReplaceAll(name, " ", "-"))
		}
	}
	return all
}

// strangersFollow: one open server lets strangers into its cluster, because
// nats.go follows the addresses that servers give. The nats command does not.
func strangersFollow(t *testing.T, k tools) {
	t.Helper()
	f := start(t,
		fleet.Spec{Name: "closed", Config: appUsers + clustered("c", "open")},
		fleet.Spec{Name: "open", Config: clustered("c", "closed")},
	)
	eventually(t, "a stranger who asks the closed server is let in by the open one", func() bool {
		nc, err := nats.Connect(f.Server("closed").URL())
		if err != nil {
			return false
		}
		defer nc.Close()
		return nc.ConnectedServerName() == "open"
	})
	if nc, err := nats.Connect(f.Server("closed").URL(), nats.IgnoreDiscoveredServers(), nats.NoReconnect()); !errors.Is(err, nats.ErrAuthorization) {
		nc.Close()
		t.Errorf("the closed server said %v to a stranger who does not follow", err)
	}
	cmd := exec.CommandContext(t.Context(), k.nats, "--no-context", "--server", f.Server("closed").URL(), "pub", "hello", "world")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(strings.ToLower(string(out)), "authorization violation") {
		t.Errorf("the nats command follows: %v: %s", err, out)
	}
}

// passwordsLogIn: what `nats server passwd --generate` prints is a password.
func passwordsLogIn(t *testing.T, k tools) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), k.nats, "server", "passwd", "--generate", "--cost", "4").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`password: (\S+)\s+bcrypt hash: (\S+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("nats server passwd --generate printed %s", out)
	}
	f := start(t, fleet.Spec{Name: "n1", Config: fmt.Sprintf("authorization { user: app, password: %q }", m[2])})
	connect(t, f.Server("n1").URL(), nats.UserInfo("app", string(m[1])))
}

// documents are the files that are run.
func documents(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	generated := []string{"checks.md", "advisories.md"}
	paths = slices.DeleteFunc(paths, func(p string) bool { return slices.Contains(generated, filepath.Base(p)) })
	return append(paths, "../README.md")
}

// tools are the commands that documents use. For nsc there is a stand-in, see
// TestMain.
type tools struct{ dir, natsentry, nats, goenv string }

// makeTools puts the commands into a folder.
func makeTools(t *testing.T) tools {
	t.Helper()
	dir := t.TempDir()
	k := tools{dir: dir, natsentry: filepath.Join(dir, "natsentry"), nats: filepath.Join(dir, "nats")}
	built, err := buildNatsentry()
	if err != nil {
		t.Fatal(err)
	}
	installed, err := fleet.Install(t.Context(), "github.com/nats-io/natscli/nats", "nats", natsCLI)
	if err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{k.natsentry: built, k.nats: installed, filepath.Join(dir, "nsc"): must(os.Executable())} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	goenv, err := exec.CommandContext(t.Context(), "go", "env", "GOENV").Output()
	if err != nil {
		t.Fatal(err)
	}
	k.goenv = strings.TrimSpace(string(goenv))
	return k
}

// block is a fenced block of a document.
type block struct {
	path     string
	line     int // of its opening fence, from 1
	language string
	is       map[string]bool
	attr     map[string]string
	body     []string
}

func (b *block) String() string { return fmt.Sprintf("%s:%d", b.path, b.line) }

func (b *block) text() string { return strings.Join(b.body, "\n") + "\n" }

func (b *block) first() string {
	if len(b.body) == 0 {
		return ""
	}
	return b.body[0]
}

type document struct {
	path   string
	lines  []string
	blocks []*block
}

const fence = "```"

func parseDocument(t *testing.T, path string) *document {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	d := &document{path: path, lines: strings.Split(string(text), "\n")}
	var open *block
	for i, line := range d.lines {
		switch {
		case open != nil && line == fence:
			d.blocks, open = append(d.blocks, open), nil
		case open != nil:
			open.body = append(open.body, line)
		case strings.HasPrefix(line, fence):
			words := strings.Fields(strings.TrimPrefix(line, fence))
			open = &block{path: path, line: i + 1, is: map[string]bool{}, attr: map[string]string{}}
			for n, w := range words {
				if key, value, ok := strings.Cut(w, "="); ok {
					open.attr[key] = value
				} else if n > 0 {
					open.is[w] = true
				} else {
					open.language = w
				}
			}
			for key := range maps.Keys(open.attr) {
				if !slices.Contains([]string{"fleet", "user", "exit", "file"}, key) {
					t.Fatalf("%s: nobody knows %s=", open, key)
				}
			}
		}
	}
	if open != nil {
		t.Fatalf("%s: not closed", open)
	}
	return d
}

// step is a command with the output that the document shows.
type step struct {
	command string
	shown   []string
}

func (b *block) steps(t *testing.T) []step {
	t.Helper()
	var steps []step
	for _, line := range b.body {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			steps = append(steps, step{command: command})
		} else if len(steps) > 0 {
			s := &steps[len(steps)-1]
			s.shown = append(s.shown, line)
		} else {
			t.Fatalf("%s: it does not begin with a command", b)
		}
	}
	return steps
}

// write replaces the body of a block by commands and their outputs.
func (d *document) write(b *block, steps []step) {
	var body []string
	for _, s := range steps {
		body = append(append(body, "$ "+s.command), s.shown...)
	}
	d.lines = slices.Replace(d.lines, b.line, b.line+len(b.body), body...)
	for _, later := range d.blocks {
		if later.line > b.line {
			later.line += len(body) - len(b.body)
		}
	}
	b.body = body
}

// session is the run of one document.
type session struct {
	tools  tools
	doc    *document
	dir    string
	fleets map[string]*place
}

// place is where commands connect to.
type place struct{ address, user, password string }

func runDocument(t *testing.T, k tools, path string) {
	t.Helper()
	s := &session{tools: k, doc: parseDocument(t, path), dir: t.TempDir(), fleets: map[string]*place{}}
	before := strings.Join(s.doc.lines, "\n")
	for _, b := range s.doc.blocks {
		switch {
		case b.language == "console" && b.is["background"]:
			s.background(t, b)
		case b.language == "console":
			s.console(t, b)
		case b.language == "yaml", b.language == "conf" && b.attr["file"] != "":
			s.file(t, b)
		case b.language == "conf":
			s.configure(t, b)
		case b.language == "go":
			s.program(t, b)
		}
	}
	if after := strings.Join(s.doc.lines, "\n"); *update && after != before {
		if err := os.WriteFile(path, []byte(after), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
}

// at is where a block's commands connect to; nil is nowhere.
func (s *session) at(t *testing.T, b *block) *place {
	t.Helper()
	name := b.attr["fleet"]
	if name == "" {
		return nil
	}
	if s.fleets[name] == nil {
		switch name {
		case "demo":
			s.fleets[name] = s.demo(t)
		case "operator":
			s.fleets[name] = s.operator(t)
		default:
			t.Fatalf("%s: no conf block before it is the fleet %s", b, name)
		}
	}
	p := *s.fleets[name]
	if user := b.attr["user"]; user == "-" {
		p.user, p.password = "", ""
	} else if user != "" {
		p.user = user
	}
	return &p
}

// environment is that of a block's commands.
func (s *session) environment(p *place) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "NATS_") || strings.HasPrefix(kv, "GOBIN=") })
	env = append(env,
		"PATH="+s.tools.dir+string(os.PathListSeparator)+os.Getenv("PATH"),
		"XDG_CONFIG_HOME="+filepath.Join(s.dir, ".config"), "GOENV="+s.tools.goenv, "GOBIN="+filepath.Join(s.dir, "bin"), "NSC_HOME="+filepath.Join(s.dir, ".nsc"), "TZ=UTC", "LC_ALL=C",
	)
	if p == nil {
		// What connects by mistake must not reach a server of the developer's.
		return append(env, "NATS_URL=nats://127.0.0.1:1")
	}
	env = append(env, "NATS_URL=nats://"+p.address)
	if p.user != "" {
		env = append(env, "NATS_USER="+p.user, "NATS_PASSWORD="+p.password)
	}
	return env
}

// shell prepares a command of a block, in a process group of its own.
func (s *session) shell(ctx context.Context, b *block, p *place, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = s.dir
	if b.is["repository"] {
		cmd.Dir = ".."
	}
	cmd.Env = s.environment(p)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// file writes a block to where commands find it.
func (s *session) file(t *testing.T, b *block) {
	t.Helper()
	name := b.attr["file"]
	if name == "" || name != filepath.Base(name) {
		t.Fatalf("%s: which file is it? file=NAME tells", b)
	}
	text := strings.ReplaceAll(b.text(), placeholderDay, aheadDay)
	if b.attr["fleet"] != "" {
		text = s.at(t, b).real(text)
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// console runs a block and compares what it prints.
func (s *session) console(t *testing.T, b *block) {
	t.Helper()
	const mark = "--- end of the command, exit code "
	p, steps := s.at(t, b), b.steps(t)
	var script strings.Builder
	for _, st := range steps {
		fmt.Fprintf(&script, "%s\nprintf '\\n%s%%d\\n' $?\n", p.real(st.command), mark)
	}
	out, err := s.shell(t.Context(), b, p, script.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", b, err, out)
	}
	parts := strings.Split(string(out), "\n"+mark)
	if len(parts) != len(steps)+1 {
		t.Fatalf("%s: %d commands, and\n%s", b, len(steps), out)
	}
	changed := false
	for i := range steps {
		code, rest, _ := strings.Cut(parts[i+1], "\n")
		output := strings.ReplaceAll(p.shown(parts[i]), aheadDay, placeholderDay)
		parts[i+1] = rest
		want := "0"
		if i == len(steps)-1 {
			want = cmp.Or(b.attr["exit"], "0")
		}
		if code != want {
			t.Errorf("%s: %s ended with %s, want %s\n%s", b, steps[i].command, code, want, output)
		}
		changed = s.compare(t, b, &steps[i], tidy(output)) || changed
	}
	if changed {
		s.doc.write(b, steps)
	}
}

// compare holds a step against its real output, and under -update takes it
// over; then it returns true.
func (s *session) compare(t *testing.T, b *block, st *step, got []string) bool {
	t.Helper()
	if line := slices.IndexFunc(got, func(l string) bool { return strings.Contains(l, s.dir) }); line >= 0 {
		t.Errorf("%s: the output shows the test's own folder: %s", b, got[line])
	}
	diff := gocmp.Diff(normalize(tidy(strings.Join(st.shown, "\n"))), normalize(got))
	switch {
	case diff == "":
		return false
	case *update:
		st.shown = got
		return true
	default:
		t.Errorf("%s: %s prints something else (-shown +real; go test ./integration -run '^TestDocs' -update rewrites it):\n%s", b, st.command, diff)
		return false
	}
}

// background starts a block that goes on, and waits for the lines it shows.
func (s *session) background(t *testing.T, b *block) {
	t.Helper()
	p, steps := s.at(t, b), b.steps(t)
	if len(steps) != 1 {
		t.Fatalf("%s: one command can be in the background", b)
	}
	st := &steps[0]
	output := s.startBackground(t, b, p, "exec "+p.real(st.command))
	var got []string
	eventually(t, b.String()+" prints what it shows", func() bool {
		got = tidy(p.shown(output.String()))
		return len(got) >= max(1, len(st.shown))
	})
	if s.compare(t, b, st, got[:len(st.shown)]) {
		s.doc.write(b, steps)
	}
}

// startBackground starts a command that is interrupted at the end of the
// document and must then end well.
func (s *session) startBackground(t *testing.T, b *block, p *place, script string) *buffer {
	t.Helper()
	// It outlives the test's context, which ends before the clean-up begins.
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd, out := s.shell(ctx, b, p, script), &buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		defer time.AfterFunc(10*time.Second, cancel).Stop()
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // it may have ended; Wait tells
		err := cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); strconv.Itoa(code) != cmp.Or(b.attr["exit"], "0") {
			t.Errorf("%s, interrupted: %v\n%s", b, err, out)
		}
	})
	return out
}

// buffer is a bytes.Buffer that may be read while it is written.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// real puts the fleet's address into what a reader is told to type, and
// shown takes it out of what is printed.
func (p *place) real(command string) string {
	if p == nil {
		return command
	}
	return strings.ReplaceAll(command, placeholderAddress, p.address)
}

func (p *place) shown(output string) string {
	if p == nil {
		return output
	}
	return strings.ReplaceAll(output, p.address, placeholderAddress)
}

var demoLogin = regexp.MustCompile(`--server nats://(\S+) --user (\S+) --password (\S+)`)

// demo starts the demonstration and reads where it is from what it prints.
func (s *session) demo(t *testing.T) *place {
	t.Helper()
	b := &block{path: "natsentry demo"}
	out := s.startBackground(t, b, nil, "exec natsentry demo")
	var m []string
	eventually(t, "the demonstration tells how to log in", func() bool {
		m = demoLogin.FindStringSubmatch(out.String())
		return m != nil && strings.Contains(out.String(), "What changes")
	})
	return &place{m[1], m[2], m[3]}
}

// configure starts a server with a configuration of the document.
func (s *session) configure(t *testing.T, b *block) {
	t.Helper()
	text := printedUser.ReplaceAllStringFunc(b.text(), func(comment string) string {
		args := strings.Fields(printedUser.FindStringSubmatch(comment)[1])
		user, err := exec.CommandContext(t.Context(), s.tools.natsentry, args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(user)
	})
	hash := hashedNow(docsPassword)
	reader := strings.NewReplacer(placeholderHash, hash, placeholderPrinted, hash, "/var/lib/nats", "{{dir}}/data")
	files := map[string]string{}
	for _, m := range included.FindAllStringSubmatch(text, -1) {
		files[m[1]] = reader.Replace(string(must(os.ReadFile(filepath.Join(s.dir, m[1])))))
	}
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1", Config: reader.Replace(text), Files: files})
	if err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	stop := func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if b.attr["fleet"] == "" {
		stop()
		return
	}
	t.Cleanup(stop)
	s.fleets[b.attr["fleet"]] = &place{f.Server("n1").Addr("client"), "natsentry", docsPassword}
}

// operator starts a server in operator mode, whose keys nsc has.
func (s *session) operator(t *testing.T) *place {
	t.Helper()
	op := newOperator(t)
	op.save(filepath.Join(s.dir, ".nsc"))
	f := start(t, fleet.Spec{Name: "n1", Config: op.Config() + `jetstream { store_dir: "{{dir}}/jetstream" }`})
	return &place{address: f.Server("n1").Addr("client")}
}

// program runs a Go program of the document.
func (s *session) program(t *testing.T, b *block) {
	t.Helper()
	file := filepath.Join(s.dir, "main"+strconv.Itoa(b.line)+".go")
	if err := os.WriteFile(file, []byte(b.text()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "run", file)
	cmd.Dir, cmd.Env = "..", s.environment(s.at(t, b))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) == 0 {
		t.Errorf("%s: %v\n%s", b, err, out)
	}
}

// tidy drops what nobody sees: empty lines around, spaces at the end.
func tidy(output string) []string {
	lines := strings.Split(output, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t\r")
	}
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// unsteady is what differs between two runs of the same command.
var unsteady = []struct {
	pattern *regexp.Regexp
	instead string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z| UTC)?`), "TIME"},
	{regexp.MustCompile(`^\d\d:\d\d:\d\d\b`), "TIME"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`(\b\d+m )?\b\d+(\.\d+)?(ns|µs|ms|s)\b *`), "DURATION "}, // with the spaces that fill its column
	{regexp.MustCompile(`\bN[A-Z2-7]{55}\b`), "SERVER-ID"},
	{regexp.MustCompile(`\b[AOU][A-Z2-7]{55}\b`), "KEY"},
	{regexp.MustCompile(`\b[AO][A-Z2-7]{9}…`), "KEY…"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "DIGEST"},
	{regexp.MustCompile(`\b_INBOX(_AUDIT)?\.[0-9A-Za-z.]+`), "INBOX"},
	{regexp.MustCompile(`\b[0-9A-Za-z]{22}\b`), "NUID"},
	{regexp.MustCompile(`\bnats-[0-9A-Za-z]{8}\b`), "nats-HIDDEN"},
	{regexp.MustCompile(`\bv?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?\b`), "VERSION"},
	{regexp.MustCompile(`\bcid \d+`), "cid N"},
	{regexp.MustCompile(`\bsweep \d+`), "sweep N"},
	{regexp.MustCompile(`"(epoch|cid|requests|replies|bytes|transitions)":\d+`), "$1: N"},
}

func normalize(lines []string) []string {
	out := slices.Clone(lines)
	for i := range out {
		for _, u := range unsteady {
			out[i] = u.pattern.ReplaceAllString(out[i], u.instead)
		}
	}
	return out
}
