//go:build unix

package integration

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// bench is a folder in which commands are run as an operator would run them.
type bench struct {
	tools
	t   *testing.T
	dir string
	env []string
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	return &bench{tools: makeTools(t), t: t, dir: dir, env: []string{"XDG_CONFIG_HOME=" + filepath.Join(dir, ".config"), "NSC_HOME=" + filepath.Join(dir, ".nsc")}}
}

// as gives the commands that follow a server and a login.
func (b *bench) as(s *fleet.Server, login ...string) *bench {
	c := *b
	c.env = append(append(c.env[:len(c.env):len(c.env)], "NATS_URL="+s.URL()), login...)
	return &c
}

func user(name, password string) []string {
	return []string{"NATS_USER=" + name, "NATS_PASSWORD=" + password}
}

func (b *bench) command(ctx context.Context, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), b.env...)
	cmd.Env = append(cmd.Env, "PATH="+b.tools.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return cmd
}

// run runs a script that must succeed, and returns its standard output.
func (b *bench) run(script string) string {
	b.t.Helper()
	out, diag, code := b.try(script)
	if code != 0 {
		b.t.Fatalf("%s: exit code %d\n%s\n%s", script, code, out, diag)
	}
	return out
}

func (b *bench) try(script string) (stdout, stderr string, code int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var out, diag bytes.Buffer
	cmd := b.command(ctx, script)
	cmd.Stdout, cmd.Stderr = &out, &diag
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		b.t.Fatalf("%s: %v\n%s\n%s", script, err, &out, &diag)
	}
	return out.String(), diag.String(), cmd.ProcessState.ExitCode()
}

// process is a command that goes on until it is ended.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	said   *buffer // on standard error
	ended  bool
	cancel func()
}

// start runs a command, which is interrupted at the end of the test at the
// latest and must then end well.
func (b *bench) start(script string) *process {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.t.Context()))
	p := &process{t: b.t, cmd: b.command(ctx, "exec "+script), said: &buffer{}, cancel: cancel}
	p.cmd.Stderr = p.said
	if err := p.cmd.Start(); err != nil {
		cancel()
		b.t.Fatal(err)
	}
	b.t.Cleanup(p.stop)
	return p
}

// stop interrupts the command.
func (p *process) stop() {
	if p.ended {
		return
	}
	p.ended = true
	defer p.cancel()
	defer time.AfterFunc(10*time.Second, p.cancel).Stop()
	_ = syscall.Kill(p.cmd.Process.Pid, syscall.SIGINT) // it may have ended; Wait tells
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("%s: %v\n%s", p.cmd, err, p.said)
	}
}

// kill ends the command without a goodbye.
func (p *process) kill() {
	p.ended = true
	p.cancel()
	_ = p.cmd.Wait() // it was killed
}

func (p *process) says(text string) bool { return strings.Contains(p.said.String(), text) }

const leads = `msg="this agent leads"`

// lines are those of a text that begin so, spaces apart.
func lines(text, prefix string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// makes are the printed commands that make the stream and the bucket.
func makes(text string) string {
	commands := slices.DeleteFunc(strings.Split(lines(text, "nats "), "\n"), func(c string) bool { return strings.Contains(c, " sub ") })
	return strings.Join(commands, "\n")
}

// between cuts a text out of another one.
func between(t *testing.T, text, from, to string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, from)
	part, _, more := strings.Cut(rest, to)
	if !ok || !more {
		t.Fatalf("nothing between %q and %q in:\n%s", from, to, text)
	}
	return part
}

// hashed puts the hash of a password where the program prints a placeholder.
func hashed(text, password string) string {
	return strings.ReplaceAll(text, placeholderPrinted, `{{bcrypt "`+password+`"}}`)
}

// readsStream is what `natsentry setup` prints to read what is kept.
const readsStream = "nats sub --stream NATSENTRY --all"

const natsentryRun = "natsentry run --store --system prod --no-probe --interval 300ms --everyone-interval 0"

// keeps asserts that an agent that runs over a store leads, and that what it
// finds is in the stream and in the bucket, as their user sees it.
func keeps(t *testing.T, agent *bench, reader *bench, run string) {
	t.Helper()
	p := agent.start(run)
	eventually(t, "the finding is in the stream", func() bool {
		out, _, code := reader.try("nats stream get NATSENTRY 1")
		return code == 0 && strings.Contains(out, "on Subject audit.store.finding.prod.")
	})
	text := reader.run(readsStream + " --raw --terminate-at-end")
	if !strings.Contains(text, `"type":"natsentry.v1.finding"`) || !strings.Contains(text, `"action":"opened"`) {
		t.Errorf("%s shows %s", readsStream, text)
	}
	var keys string
	eventually(t, "a finding and the lease are in the bucket", func() bool { // a lease that is renewed just now is not listed
		keys = reader.run("nats kv ls NATSENTRY")
		return strings.Contains(keys, "prod.finding.") && strings.Contains(keys, "prod.lease")
	})
	key := strings.Fields(lines(keys, "prod.finding."))[0]
	eventually(t, "the record is settled", func() bool {
		var record struct {
			Entry   finding.Entry `json:"entry"`
			Pending bool          `json:"pending"`
		}
		if err := json.Unmarshal([]byte(reader.run("nats kv get --raw NATSENTRY "+key)), &record); err != nil {
			t.Fatal(err)
		}
		return !record.Pending && record.Entry.Finding.Fingerprint == strings.TrimPrefix(key, "prod.finding.")
	})
	p.stop()
	if !p.says(leads) || !p.says("msg=stopped") {
		t.Errorf("the agent said:\n%s", p.said)
	}
	for _, bad := range []string{"level=ERROR", "ermission", "without it"} {
		if p.says(bad) {
			t.Errorf("the agent said %s:\n%s", bad, p.said)
		}
	}
	// The next one goes on: it knows what is kept, and the lease was given back.
	p = agent.start(run)
	eventually(t, "the next agent leads", func() bool { return p.says(leads) })
	p.stop()
	if p.says("kept=0") || p.says("action=opened") {
		t.Errorf("the next agent said:\n%s", p.said)
	}
}

// asDeclared holds stream and bucket against what the service package says.
func asDeclared(t *testing.T, nc *nats.Conn, replicas int, maxAge time.Duration) {
	t.Helper()
	js := must(njs.New(nc))
	stream := must(js.Stream(t.Context(), service.StoreStream)).CachedInfo().Config
	want := service.StoreStreamConfig(replicas, maxAge)
	// What the server adds.
	want.Duplicates, want.Metadata = stream.Duplicates, stream.Metadata
	if diff := gocmp.Diff(want, stream); diff != "" {
		t.Errorf("the stream (-declared +real):\n%s", diff)
	}
	bucket := must(must(js.KeyValue(t.Context(), service.StoreBucket)).Status(t.Context())).Config()
	wanted := service.StoreBucketConfig(replicas)
	bucket.MaxBytes, bucket.MaxValueSize, bucket.Metadata = wanted.MaxBytes, wanted.MaxValueSize, wanted.Metadata
	if diff := gocmp.Diff(wanted, bucket); diff != "" {
		t.Errorf("the bucket (-declared +real):\n%s", diff)
	}
}

// TestSetupInConfigurationFiles does what `natsentry setup` prints, word by word,
// with the real nats command.
func TestSetupInConfigurationFiles(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]string{"newest": "", "2.10": "v2.10.29", "2.11": "v2.11.17"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := fleet.Spec{Name: "n1"}
			if version != "" {
				spec.Binary = binary(t, version)
			}
			setupInConfigurationFiles(t, spec)
		})
	}
}

func setupInConfigurationFiles(t *testing.T, spec fleet.Spec) {
	t.Helper()
	b := newBench(t)
	printed := b.run("natsentry setup")
	if !strings.Contains(printed, "#    "+readsStream+"\n") {
		t.Errorf("it does not tell how to read: %s", printed)
	}
	account, imports := between(t, printed, "# 1. ", "# 2. "), between(t, printed, "# 2. ", "# 3. ")
	sentry := b.run(lines(printed, "natsentry permissions"))
	// The servers run already, with clients and without JetStream.
	spec.Config = `accounts {
  SYS: { users: [ { user: admin, password: admin } ] }
  APP: { users: [ { user: app, password: app } ] }
}
system_account: SYS
`
	s := start(t, spec).Server("n1")
	app := connect(t, s.URL(), nats.UserInfo("app", "app"))
	after := strings.NewReplacer(
		"accounts {", "accounts {\n# 1. "+account,
		"SYS: { users: [", "SYS: {\n# 2. "+imports+"users: [\n"+sentry,
	).Replace(spec.Config) + `jetstream { store_dir: "{{dir}}/jetstream" }`
	if err := s.Reload(t.Context(), hashed(after, "secret")); err != nil {
		t.Fatal(err)
	}
	if !app.IsConnected() || app.Stats().Reconnects > 0 {
		t.Error("a client of another account was dropped")
	}
	audit := b.as(s, user("audit", "secret")...)
	audit.run(makes(printed))
	asDeclared(t, connect(t, s.URL(), nats.UserInfo("audit", "secret")), 1, 365*24*time.Hour)
	keeps(t, b.as(s, user("natsentry", "secret")...), audit, natsentryRun)

	// A context of its own into the account that keeps does as well.
	audit.run("nats context save keeper --server $NATS_URL --user audit --password secret")
	audit.run("nats pub audit.store.note hello") // the stream is the user's, too
	p := b.as(s, user("natsentry", "secret")...).start(natsentryRun + " --store-context keeper")
	eventually(t, "the agent leads", func() bool { return p.says(leads) })
	p.stop()

	// Nobody deletes or purges what is kept, and over the import not even asks.
	sys := connect(t, s.URL(), nats.UserInfo("admin", "admin"))
	for _, api := range []string{"STREAM.DELETE", "STREAM.PURGE", "STREAM.UPDATE", "STREAM.MSG.DELETE"} {
		if _, err := sys.Request(service.StoreAPI+"."+api+"."+service.StoreStream, nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
			t.Errorf("%s over the import: %v", api, err)
		}
	}
	for _, command := range []string{"nats stream purge NATSENTRY --force", "nats stream rmm NATSENTRY 1 --force"} {
		if out, diag, code := audit.try(command); code == 0 {
			t.Errorf("%s works: %s%s", command, out, diag)
		}
	}
	// Other accounts have no way in.
	if _, err := app.Request(service.StoreAPI+".STREAM.INFO."+service.StoreStream, nil, time.Second); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("another account reaches the store: %v", err)
	}
	viewed(t, audit)
}

// viewed: people who page through the stream see findings.
func viewed(t *testing.T, reader *bench) {
	t.Helper()
	shown := reader.onTerminal(t, "nats stream view NATSENTRY --subject 'audit.store.finding.prod.DOOR_009.>'")
	if !strings.Contains(shown, "Subject: audit.store.finding.prod.") || !strings.Contains(shown, "natsentry.v1.finding") {
		t.Errorf("nats stream view shows %s", shown)
	}
}

// TestSetupAges: the nats command reads an age as we do.
func TestSetupAges(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := storeServer(t, b)
	audit, nc := b.as(s, user("audit", "secret")...), connect(t, s.URL(), nats.UserInfo("audit", "secret"))
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{"0": 0, "1h30m": 90 * time.Minute, "36h": 36 * time.Hour, "90d": 90 * day, "12w": 84 * day, "200y": 200 * 365 * day} {
		audit.run("nats stream rm NATSENTRY --force && nats kv del NATSENTRY --force")
		audit.run(makes(b.run("natsentry setup --max-age " + text)))
		asDeclared(t, nc, 1, want)
	}
}

// TestSetupFiles: the files of `natsentry setup --dir` are included as they are,
// and do the same on a cluster with three copies.
func TestSetupFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	next := b.run("natsentry setup --dir 'the store' --account KEEP --system-account '$SYS' --user keeper --replicas 3 --max-age 90d")
	files := map[string]string{}
	secret := hashedNow("secret")
	for _, name := range []string{"account.conf", "imports.conf"} {
		files[name] = strings.ReplaceAll(string(must(os.ReadFile(filepath.Join(b.dir, "the store", name)))), placeholderPrinted, secret)
	}
	sentry := strings.ReplaceAll(b.run(lines(next, "natsentry permissions")), placeholderPrinted, secret)
	include := between(t, next, "     accounts {", "\n     jetstream")
	config := strings.ReplaceAll("accounts {"+include, "users: [ ... ]", "users: [\n{user: "+sysUser+", password: "+sysPassword+"}\n"+sentry+"\n]\n") +
		"\nsystem_account: \"$SYS\"\njetstream { store_dir: \"{{dir}}/jetstream\" }\n"
	specs := clusters(1, 3, config)
	for i := range specs {
		specs[i].Files = files
	}
	f := start(t, specs...)
	waitActive(t, f, f.Servers()[0], 3)
	keeper := b.as(f.Servers()[1], user("keeper", "secret")...)
	eventually(t, "JetStream has a leader", func() bool {
		_, _, code := keeper.try("nats account info && nats stream ls")
		return code == 0
	})
	keeper.run(makes(next))
	asDeclared(t, connect(t, f.Servers()[2].URL(), nats.UserInfo("keeper", "secret")), 3, 90*24*time.Hour)
	keeps(t, b.as(f.Servers()[2], user("natsentry", "secret")...), keeper, natsentryRun)
}

// TestSetupUnderAnOperator runs the script that is printed, with a stand-in for
// nsc, against servers that keep accounts themselves, and as files for servers
// that are given them.
func TestSetupUnderAnOperator(t *testing.T) {
	t.Parallel()
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		op := newOperator(t)
		op.save(filepath.Join(b.dir, ".nsc"))
		f := start(t, fleet.Spec{Name: "n1", Config: op.Config() + `jetstream { store_dir: "{{dir}}/jetstream" }`})
		n1 := b.as(f.Server("n1"))
		n1.run("natsentry setup --format nsc >store.sh && sh store.sh")
		n1.run("natsentry permissions --store --format nsc | sh")
		asDeclared(t, connect(t, f.Server("n1").URL(), nats.UserCredentials(filepath.Join(b.dir, "audit.creds"))), 1, 365*24*time.Hour)
		keeps(t, n1, b.as(f.Server("n1"), "NATS_CREDS=audit.creds"), natsentryRun+" --creds natsentry.creds")
		onlyTheSystemAccount(t, b, op, f)
		viewed(t, b.as(f.Server("n1"), "NATS_CREDS=audit.creds"))
	})
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		op := newOperator(t)
		store := op.save(filepath.Join(b.dir, ".nsc"))
		next := b.run("natsentry setup --format nsc --dir store")
		b.run("grep -v '^nsc push' store/accounts.sh | sh -e")
		b.run(strings.Replace(lines(next, "natsentry permissions"), "'SYS'", "SYS", 1))
		var preload strings.Builder
		for _, name := range []string{"SYS", "APP", "AUDIT"} {
			claims := must(store.account(name))
			fmt.Fprintf(&preload, "  %s: %s\n", claims.Subject, must(store.read(name+".jwt")))
		}
		f := start(t, fleet.Spec{Name: "n1", Config: fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload {\n%s}\njetstream { store_dir: \"{{dir}}/jetstream\" }\n",
			op.JWT, op.System.Public, preload.String())})
		n1 := b.as(f.Server("n1"))
		n1.run(makes(next))
		asDeclared(t, connect(t, f.Server("n1").URL(), nats.UserCredentials(filepath.Join(b.dir, "audit.creds"))), 1, 365*24*time.Hour)
		keeps(t, n1, b.as(f.Server("n1"), "NATS_CREDS=audit.creds"), natsentryRun+" --creds natsentry.creds")
	})
}

// onlyTheSystemAccount: another account that imports the store gets nothing.
func onlyTheSystemAccount(t *testing.T, b *bench, op *operator, f *fleet.Fleet) {
	t.Helper()
	store := &nscStore{filepath.Join(b.dir, ".nsc")}
	audit, app := must(store.account("AUDIT")), must(store.account("APP"))
	for _, share := range service.StoreShares() {
		app.Imports.Add(&jwt.Import{Name: share.Subject, Subject: jwt.Subject(share.Subject), Account: audit.Subject, Type: jwt.Service, LocalSubject: jwt.RenamingSubject(share.Local)})
	}
	if err := store.sign(app); err != nil {
		t.Fatal(err)
	}
	b.as(f.Server("n1")).run("nsc push --account APP")
	nc := connect(t, f.Server("n1").URL(), op.login(&op.App, "app", nil))
	if _, err := nc.Request(service.StoreAPI+".STREAM.INFO."+service.StoreStream, nil, time.Second); err == nil {
		t.Error("another account reaches the store")
	}
}

// storeServer is a closed server with a store, and with the user natsentry of the
// system account and changed ones beside it. All passwords are "secret".
func storeServer(t *testing.T, b *bench, changed ...func(user string) string) *fleet.Server {
	t.Helper()
	b.run("natsentry setup --dir store")
	files, secret := map[string]string{}, hashedNow("secret")
	for _, name := range []string{"account.conf", "imports.conf"} {
		files[name] = strings.ReplaceAll(b.run("cat store/"+name), placeholderPrinted, secret)
	}
	sentry := hashed(b.run("natsentry permissions --store"), "secret")
	users := sentry
	for _, change := range changed {
		users += change(sentry)
	}
	f := start(t, fleet.Spec{Name: "n1", Files: files, Config: `accounts {
  include "account.conf"
  SYS: { include "imports.conf", users: [ {user: admin, password: secret}, ` + users + ` ] }
  APP: { users: [ {user: app, password: secret} ] }
}
system_account: SYS
jetstream { store_dir: "{{dir}}/jetstream" }
`})
	b.as(f.Server("n1"), user("audit", "secret")...).run("nats stream add --config store/stream.json && nats kv add NATSENTRY")
	return f.Server("n1")
}

// but is a user who may do less.
func but(name, less string) func(string) string {
	return func(user string) string {
		return strings.Replace(strings.Replace(user, `"natsentry"`, `"`+name+`"`, 1), `"`+less+`"`, "", 1)
	}
}

// epochs subscribes to the epoch messages.
func epochs(t *testing.T, s *fleet.Server) <-chan service.Epoch {
	t.Helper()
	out := make(chan service.Epoch, 1000)
	nc := connect(t, s.URL(), nats.UserInfo("admin", "secret"))
	_, err := nc.Subscribe("audit.auth.epoch", func(m *nats.Msg) {
		var e service.Epoch
		if json.Unmarshal(m.Data, &e) == nil {
			out <- e
		}
	})
	if err := cmp.Or(err, nc.Flush()); err != nil {
		t.Fatal(err)
	}
	return out
}

// awaitEpoch waits for an epoch that is as it should be.
func awaitEpoch(t *testing.T, epochs <-chan service.Epoch, what string, right func(service.Epoch) bool) {
	t.Helper()
	var last service.Epoch
	for timeout := time.After(20 * time.Second); ; {
		select {
		case last = <-epochs:
			if right(last) {
				return
			}
		case <-timeout:
			t.Fatalf("no epoch: %s; the last one: %+v", what, last)
		}
	}
}

// TestStoreAndUsersWhoMayNotUseIt: they are told so, and soon.
func TestStoreAndUsersWhoMayNotUseIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := storeServer(t, b, but("no-stream", "audit.store.finding.>"), but("no-bucket", "audit.js.api.$KV.NATSENTRY.>"), func(string) string {
		return strings.Replace(hashed(b.run("natsentry permissions"), "secret"), `"natsentry"`, `"no-store"`, 1)
	})
	const advice = "`natsentry permissions --store` prints what it needs"

	began := time.Now()
	out, diag, code := b.as(s, user("no-store", "secret")...).try(natsentryRun)
	if code != 3 || out != "" || !strings.Contains(diag, "publishing to audit.js.api.STREAM.INFO.KV_NATSENTRY is refused") || !strings.Contains(diag, advice) {
		t.Errorf("code %d\n%s%s", code, out, diag)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	all := epochs(t, s)
	for name, subject := range map[string]string{"no-stream": "audit.store.finding.", "no-bucket": "audit.js.api.$KV.NATSENTRY."} {
		p := b.as(s, user(name, "secret")...).start(strings.Replace(natsentryRun, "prod", name, 1))
		awaitEpoch(t, all, name+" has trouble", func(e service.Epoch) bool {
			return e.System == name && !e.Keeper.Reachable && strings.Contains(e.Keeper.Trouble, subject) && strings.Contains(e.Keeper.Trouble, advice)
		})
		// And so it stays: that something else works does not end it.
		for range 4 {
			if e := <-all; e.System == name && e.Keeper.Reachable {
				t.Errorf("%s: the keeper is well: %+v", name, e.Keeper)
			}
		}
		p.stop()
	}

	// A store that cannot be reached may come yet.
	bare := start(t, fleet.Spec{Name: "n1", Config: sysAccount}).Server("n1")
	p := b.as(bare, user(sysUser, sysPassword)...).start(natsentryRun)
	eventually(t, "nobody answers", func() bool {
		return p.says("no responders") && p.says("JetStream is down, or the account is not set up as `natsentry setup` prints it")
	})
	p.stop()

	// One that nobody has made is an error at once.
	audit := b.as(s, user("audit", "secret")...)
	audit.run("nats kv del NATSENTRY --force")
	if _, diag, code := b.as(s, user("natsentry", "secret")...).try(natsentryRun); code != 3 || !strings.Contains(diag, "no bucket NATSENTRY: the store is not set up: `natsentry setup` prints what it takes") {
		t.Errorf("without a bucket: code %d, %s", code, diag)
	}
}

// TestRunWithoutConnectEvents: who may not hear of clients that come still sees
// reloads, at the next poll.
func TestRunWithoutConnectEvents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	config := `accounts {
  SYS: { users: [ {user: admin, password: secret}, ` + but("natsentry", "$SYS.ACCOUNT.*.CONNECT")(hashed(b.run("natsentry permissions"), "secret")) + ` ] }
  APP: { users: [ {user: app, password: secret} ] }
}
system_account: SYS
`
	s := start(t, fleet.Spec{Name: "n1", Config: config}).Server("n1")
	all := epochs(t, s)
	told := must(connect(t, s.URL(), nats.UserInfo("admin", "secret")).SubscribeSync("audit.auth.finding.opened.critical.DOOR_001._.n1"))
	// An hour until the next sweep: what is seen, is seen between.
	p := b.as(s, user("natsentry", "secret")...).start("natsentry run --interval 1h --loopback-exposed")
	awaitEpoch(t, all, "deaf for CONNECT, and nothing else", func(e service.Epoch) bool {
		return slices.Equal(e.Deaf, []string{"$SYS.ACCOUNT.*.CONNECT"}) && e.Coverage.Heard == 1
	})
	// Without the last other account, the server lets everybody in. The server
	// tells it with CONNECT events only.
	if err := s.Reload(t.Context(), regexp.MustCompile(`(?m)^ *APP: .*$`).ReplaceAllString(config, "")); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if _, err := told.NextMsg(10 * time.Second); err != nil {
		t.Errorf("the reload was not seen: %v", err)
	}
	t.Logf("seen after %s", time.Since(began))
	p.stop()
	if strings.Count(p.said.String(), "level=ERROR") != 1 || !p.says(`Permissions Violation for Subscription to \"$SYS.ACCOUNT.*.CONNECT\"`) {
		t.Errorf("the agent said:\n%s", p.said)
	}
}

// TestStoreWithSeveralAgents: one leads, each answers, and when the one that
// leads is gone another one follows.
func TestStoreWithSeveralAgents(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := storeServer(t, b)
	sentry := b.as(s, user("natsentry", "secret")...)
	first := sentry.start(natsentryRun)
	eventually(t, "the first leads", func() bool { return first.says(leads) })
	second, third := sentry.start(natsentryRun), sentry.start(natsentryRun)
	nc := connect(t, s.URL(), nats.UserInfo("admin", "secret"))
	eventually(t, "three are there", func() bool {
		subs := must(s.Embedded().Subsz(&server.SubszOptions{Test: "audit.auth.findings", Account: "SYS", Subscriptions: true}))
		return len(subs.Subs) >= 3
	})
	// Any of the three gets a request; the one that leads knows the answer.
	for range 60 {
		if got := decodeInto[service.Findings](t, ask(t, nc, "audit.auth.findings", "")); got.Total != 1 {
			t.Fatalf("%d findings", got.Total)
		}
	}
	if second.says(leads) || third.says(leads) {
		t.Fatal("two lead")
	}
	first.kill()
	began := time.Now()
	eventually(t, "another one leads", func() bool { return second.says(leads) || third.says(leads) })
	t.Logf("another one leads after %s", time.Since(began))
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if second.says(leads) {
		second, third = third, second
	}
	// The one that leads now goes in peace: nobody waits for its lease to end.
	third.stop()
	eventually(t, "the last one leads", func() bool { return second.says(leads) })
	second.stop()
	kept := b.as(s, user("audit", "secret")...).run(readsStream + " --raw --terminate-at-end")
	if n := strings.Count(kept, `"type":"natsentry.v1.finding"`); n != 1 {
		t.Errorf("%d transitions of one finding are kept: %s", n, kept)
	}
	for _, p := range []*process{first, second, third} {
		if p.says("level=ERROR") {
			t.Errorf("an agent said:\n%s", p.said)
		}
	}
}

// TestStoreThatIsDown: what happens meanwhile is told at once and kept later, and
// an agent that starts meanwhile does not wait for ever.
func TestStoreThatIsDown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := storeServer(t, b)
	sentry, audit := b.as(s, user("natsentry", "secret")...), connect(t, s.URL(), nats.UserInfo("audit", "secret"))
	policy := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(b.dir, "policy.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	policy("waivers: []")
	told := must(connect(t, s.URL(), nats.UserInfo("admin", "secret")).SubscribeSync("audit.auth.finding.>"))
	all := epochs(t, s)
	hear := func(what string) *nats.Msg {
		t.Helper()
		m, err := told.NextMsg(15 * time.Second)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		return m
	}
	down := func() {
		t.Helper()
		if err := s.Embedded().ShutdownJetStream(); err != nil {
			t.Fatal(err)
		}
		for len(all) > 0 {
			<-all // they speak of the time before
		}
	}
	// kept lists the actions in the stream, as far as it answers.
	kept := func() (actions []string) {
		js := must(njs.New(audit))
		for seq := uint64(1); ; seq++ {
			m, err := must(js.Stream(t.Context(), service.StoreStream)).GetMsg(t.Context(), seq)
			if err != nil {
				return actions
			}
			var f finding.Finding
			if err := json.Unmarshal(m.Data, &f); err != nil {
				t.Fatal(err)
			}
			actions = append(actions, string(f.Action))
		}
	}
	js := s.Embedded().JetStreamConfig()
	up := func() {
		t.Helper()
		if err := s.Embedded().EnableJetStream(&server.JetStreamConfig{StoreDir: filepath.Dir(js.StoreDir)}); err != nil {
			t.Fatal(err)
		}
	}
	p := sentry.start(natsentryRun + " --policy policy.yaml")
	opened := hear("the finding is told")
	awaitEpoch(t, all, "it is kept", func(e service.Epoch) bool { return e.Keeper.Reachable && e.Keeper.Waiting == 0 })
	p.stop()

	// One starts while the store is down.
	down()
	p = sentry.start(natsentryRun + " --policy policy.yaml")
	again := hear("without the store it is told again")
	if a, b := opened.Header.Get(nats.MsgIdHdr), again.Header.Get(nats.MsgIdHdr); a != b || a == "" {
		t.Errorf("nothing has changed, and the ids are %s and %s", a, b)
	}
	awaitEpoch(t, all, "there is trouble", func(e service.Epoch) bool { return !e.Keeper.Reachable && e.Keeper.Trouble != "" })
	up()
	eventually(t, "it leads with the store", func() bool { return p.says(leads + " kept=1 ") })

	// It goes down again, and something happens: the finding is accepted.
	eventually(t, "the store is back", func() bool { return len(kept()) == 1 })
	down()
	awaitEpoch(t, all, "there is trouble again", func(e service.Epoch) bool { return !e.Keeper.Reachable })
	policy("waivers: [ { check: DOOR_009, reason: known, owner: me, expires: 2099-01-01 } ]")
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if m := hear("it is told all the same"); m.Header.Get(nats.MsgIdHdr) == again.Header.Get(nats.MsgIdHdr) {
		t.Errorf("the same again: %s", m.Data)
	}
	awaitEpoch(t, all, "it waits", func(e service.Epoch) bool { return e.Keeper.Waiting == 1 && !e.Keeper.Since.IsZero() })
	up()
	awaitEpoch(t, all, "it is kept", func(e service.Epoch) bool { return e.Keeper.Reachable && e.Keeper.Waiting == 0 })
	if actions := kept(); !slices.Equal(actions, []string{"opened", "updated"}) {
		t.Errorf("kept: %v", actions)
	}
	if m, err := told.NextMsg(100 * time.Millisecond); err == nil {
		t.Errorf("told once more: %s", m.Data)
	}
	p.stop()
}
