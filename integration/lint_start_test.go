package integration

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// starting is an operator with its accounts, of which configurations take what they
// need.
type starting struct {
	dir                          string
	operator, system, app        string // public keys
	systemJWT, appJWT            string
	foreign, expired, mislabeled string // JWTs of the system account that do not hold
}

func newStarting(t *testing.T) *starting {
	t.Helper()
	s := &starting{dir: t.TempDir()}
	op, stranger, sys, app := must(nkeys.CreateOperator()), must(nkeys.CreateOperator()), must(nkeys.CreateAccount()), must(nkeys.CreateAccount())
	s.operator, s.system, s.app = must(op.PublicKey()), must(sys.PublicKey()), must(app.PublicKey())
	account := func(key string, by nkeys.KeyPair, expires int64) string {
		c := jwt.NewAccountClaims(key)
		c.Expires = expires
		return must(c.Encode(by))
	}
	s.systemJWT, s.appJWT = account(s.system, op, 0), account(s.app, op, 0)
	s.foreign, s.expired, s.mislabeled = account(s.system, stranger, 0), account(s.system, op, 1), s.appJWT
	write := func(name string, change func(*jwt.OperatorClaims)) {
		c := jwt.NewOperatorClaims(s.operator)
		change(c)
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(must(c.Encode(op))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("op.jwt", func(c *jwt.OperatorClaims) { c.SystemAccount = s.system })
	write("nosys.jwt", func(*jwt.OperatorClaims) {})
	write("strict.jwt", func(c *jwt.OperatorClaims) { c.StrictSigningKeyUsage = true })
	return s
}

// in fills a configuration in: {dir}, {op}, {sys}, {app} and the JWTs.
func (s *starting) in(text string) string {
	return strings.NewReplacer("{dir}", s.dir, "{op}", s.operator, "{sys}", s.system, "{app}", s.app,
		"{sysjwt}", s.systemJWT, "{appjwt}", s.appJWT, "{foreign}", s.foreign, "{expired}", s.expired, "{mislabeled}", s.mislabeled).Replace(text)
}

// TestLintNeverStarts: a configuration that `nats-server -t` passes, and with which
// nats-server then ends, is refused by lint; one beside it that starts is not. Each
// runs as a process of its own.
func TestLintNeverStarts(t *testing.T) {
	path := binary(t, "v"+server.VERSION)
	s := newStarting(t)
	const ports = "listen: 127.0.0.1:-1\nserver_name: n\n"
	cluster, js := "cluster { name: c, listen: 127.0.0.1:-1%s }\n", "jetstream { store_dir: \"{dir}/js%d\"%s }\n"
	memory := "operator: \"{dir}/%s\"\nresolver: MEMORY\nresolver_preload {\n%s}\n"
	const sys, app = "{sys}: {sysjwt}\n", "{app}: {appjwt}\n"
	for i, tc := range []struct {
		config string
		dies   string // what lint says, "" where it starts
	}{
		// JetStream
		{fmt.Sprintf(js, 1, "") + fmt.Sprintf(cluster, ""), "needs routes"},
		{fmt.Sprintf(js, 2, "") + fmt.Sprintf(cluster, ", routes: []"), "needs routes"},
		{fmt.Sprintf(js, 3, "") + fmt.Sprintf(cluster, ", routes: [ nats://127.0.0.1:1 ]"), ""},
		{fmt.Sprintf(js, 4, ", extension_hint: will_extend") + fmt.Sprintf(cluster, ""), "needs routes"},
		{fmt.Sprintf(js, 5, "") + "gateway { name: g, listen: 127.0.0.1:-1 }\n", "needs routes"},
		{fmt.Sprintf(js, 6, "") + fmt.Sprintf(cluster, "") + "leafnodes { remotes: [ { url: nats://127.0.0.1:1, account: \"$SYS\" } ] }\n", ""},
		{fmt.Sprintf(js, 7, "") + fmt.Sprintf(cluster, "") + "leafnodes { remotes: [ { url: nats://127.0.0.1:1, account: \"$SYS\", deny_imports: \"$NRG.>\" } ] }\n", "needs routes"},
		{fmt.Sprintf(js, 8, "") + fmt.Sprintf(cluster, "") + "leafnodes { remotes: [ { url: nats://127.0.0.1:1 } ] }\n", "needs routes"},
		{fmt.Sprintf(js, 9, "") + "accounts { $SYS { users: [ { user: s, password: s } ], jetstream: enabled } }\n", "the system account cannot have JetStream"},
		{fmt.Sprintf(js, 10, "") + "accounts { SYS { jetstream { max_mem: 1 } } }\nsystem_account: SYS\n", "the system account cannot have JetStream"},
		{"accounts { $SYS { users: [ { user: s, password: s } ], jetstream: enabled } }\n", ""},
		{fmt.Sprintf(js, 11, ", max_mem: 1M, max_file: 1M") + "accounts { A { jetstream { max_mem: 10M, max_file: 1 } } }\n", "reserve more JetStream memory"},
		{fmt.Sprintf(js, 12, ", max_mem: 1M, max_file: 1M") + "accounts { A { jetstream { max_mem: 1, max_file: 600K } }, B { jetstream { max_mem: 1, max_file: 600K } } }\n", "reserve more JetStream storage"},
		{fmt.Sprintf(js, 13, ", max_mem: 10M, max_file: 10M") + "accounts { A { jetstream { max_mem: 1M, max_file: 1M } } }\n", ""},
		{fmt.Sprintf(js, 14, ", key: abcdefgh, tpm { keys_file: \"{dir}/tpm\" }"), "TPM"},
		{fmt.Sprintf(js, 16, "") + "trusted_keys: [ {op} ]\n", "needs a system account"},
		{fmt.Sprintf(js, 17, "") + fmt.Sprintf(memory, "nosys.jwt", app), "needs a system account"},
		{fmt.Sprintf(js, 18, "") + fmt.Sprintf(memory, "op.jwt", sys), ""},
		{fmt.Sprintf(js, 19, "") + "trusted_keys: []\n", ""},
		{fmt.Sprintf(js, 20, "") + "operator: \"{dir}/strict.jwt\"\nresolver: MEMORY\n", ""},
		// Resolvers and system accounts
		{"resolver { type: full, dir: \"{dir}/r1\" }\n", "needs the key of an operator"},
		{"resolver { type: cache, dir: \"{dir}/r2\" }\n", "needs the key of an operator"},
		{"resolver: MEMORY\n", ""},
		{"operator: \"{dir}/op.jwt\"\nresolver { type: full, dir: \"{dir}/r3\" }\n", ""},
		{"operator: \"{dir}/strict.jwt\"\nsystem_account: {sys}\nresolver { type: full, dir: \"{dir}/r4\" }\n", "needs the key of an operator"},
		{"trusted_keys: [ {op} ]\nresolver { type: full, dir: \"{dir}/r5\" }\n", "needs the key of an operator"},
		{"trusted_keys: [ {op} ]\nresolver: MEMORY\n", ""},
		{"trusted_keys: [ {op} ]\n", ""},
		{"trusted_keys: []\n", ""},
		{"operator: []\nresolver: MEMORY\n", ""},
		{"trusted_keys: [ {op} ]\nsystem_account: {sys}\nresolver: MEMORY\nresolver_preload { " + app + " }\n", "is not in resolver_preload"},
		{"trusted_keys: [ {op} ]\nsystem_account: {sys}\nresolver: MEMORY\nresolver_preload { " + sys + " }\n", ""},
		{fmt.Sprintf(memory, "op.jwt", sys+app), ""},
		{fmt.Sprintf(memory, "op.jwt", app), "is not in resolver_preload"},
		{fmt.Sprintf(memory, "op.jwt", "{sys}: {foreign}\n"), "signed by a key that is not trusted"},
		{fmt.Sprintf(memory, "op.jwt", "{sys}: {expired}\n"), "has expired"},
		{fmt.Sprintf(memory, "op.jwt", "{sys}: {mislabeled}\n"), "JWT of another account"},
		{"operator: \"{dir}/op.jwt\"\nresolver: MEMORY\n", "is not in resolver_preload"},
		{fmt.Sprintf(memory, "nosys.jwt", app), ""},
		{fmt.Sprintf(memory, "nosys.jwt", app) + "system_account: {sys}\n", "is not in resolver_preload"},
		{fmt.Sprintf(memory, "op.jwt", sys) + "system_account: \"\"\n", ""},
		{fmt.Sprintf(memory, "op.jwt", app) + "system_account: \"\"\n", "is not in resolver_preload"},
		{fmt.Sprintf(memory, "op.jwt", sys+app) + "system_account: {app}\n", "must be identical"},
		{fmt.Sprintf(memory, "strict.jwt", app), ""},
		{"operator: \"{dir}/op.jwt\"\n", "needs a resolver"},
		// Listeners and addresses
		{"http: 127.0.0.1:-1\nhttps: 127.0.0.1:-1\n", "can't specify both"},
		{"https: 127.0.0.1:-1\n", "TLS cert and key required"},
		{"prof_port: 70000\n", "there is no port 70000"},
		{"http: 127.0.0.1:-5\n", "there is no port -5"},
		{"websocket { listen: 127.0.0.1:65536, no_tls: true }\n", "there is no port 65536"},
		{"leafnodes { port: 70000 }\n", "there is no port 70000"},
		{"cluster { name: c, port: 70000 }\n", "there is no port 70000"},
		{"gateway { name: g, port: 70000 }\n", "there is no port 70000"},
		{fmt.Sprintf(js, 15, "") + "mqtt { port: 70000 }\n", "there is no port 70000"},
		{"http: 127.0.0.1:{free}\nleafnodes { listen: 127.0.0.1:{free} }\n", "both listen on 127.0.0.1:"},
		{"client_advertise: \"a:b:c\"\n", "client_advertise is not a valid HOST:PORT"},
		{"client_advertise: host\n", ""},
		{"leafnodes { listen: 127.0.0.1:-1, advertise: \"x:y\" }\n", "leafnodes.advertise is not a valid HOST:PORT"},
		{"gateway { name: g, listen: 127.0.0.1:-1, advertise: \"x:y\" }\n", "gateway.advertise is not a valid HOST:PORT"},
		{fmt.Sprintf(cluster, ", advertise: \"x:y\""), "cluster.advertise is not a valid HOST:PORT"},
		{"websocket { listen: 127.0.0.1:-1, no_tls: true, advertise: \"x:y\" }\n", "websocket.advertise is not a valid HOST:PORT"},
		// What looks like a variable: HOME is one here, {HOME} is not
		{"authorization { token: ${HOME} }\n", "braces are not a form of variable"},
		{"authorization { user: a, password: ${HOME} }\n", "braces are not a form of variable"},
		{"authorization { users: [ { user: a, password: ${HOME} } ] }\n", "braces are not a form of variable"},
		{"http: ${HOME}\n", "braces are not a form of variable"},
		{"authorization { token: $(HOME) }\n", "braces are not a form of variable"},
		{"authorization { token: $HOME/x }\n", "cannot be a part of a value"},
		{"authorization { token: \"${HOME}\" }\n", ""},
		// What runs although nobody can connect
		{"leafnodes { listen: 127.0.0.1:-1, tls { handshake_first: true } }\n", ""},
		{"tls {}\n", ""},
		{"tls { timeout: 2 }\n", ""},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			config := s.in(ports + tc.config)
			if strings.Contains(config, "{free}") {
				config = strings.ReplaceAll(config, "{free}", freePort(t))
			}
			dir := t.TempDir()
			file := filepath.Join(dir, "n.conf")
			if err := os.WriteFile(file, []byte(config+"ports_file_dir: \""+dir+"\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			died, output := runProcess(t, path, file, dir)
			if died != (tc.dies != "") {
				t.Fatalf("nats-server ended: %v\n%s\n%s", died, config, output)
			}
			c := lintAt(t, file, nil).Config
			var said []string
			for _, r := range c.Refused {
				said = append(said, r.Place.String()+": "+r.Text)
				if r.Place.Line == 0 && tc.dies != "" {
					t.Errorf("no place: %s", r.Text)
				}
			}
			all := strings.Join(said, "\n")
			if died == (len(said) == 0) || !strings.Contains(all, tc.dies) || len(c.Absent) > 0 {
				t.Errorf("nats-server ended: %v, and lint says %q, want %q\n%s\n%s", died, all, tc.dies, config, output)
			}
		})
	}
}

// freePort is a port that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// runProcess starts a process and waits until it has ended, or listens everywhere: it then
// writes a file of its ports.
func runProcess(t *testing.T, path, file, dir string) (died bool, output string) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, "-c", file)
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &out, dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // how it ended is in its output
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return true, out.String()
		case <-tick.C:
			if found, err := filepath.Glob(filepath.Join(dir, "*.ports")); err == nil && len(found) > 0 {
				_ = cmd.Process.Kill()
				<-ended
				return false, out.String()
			}
		}
	}
}

// TestLintTrust: a server that names an operator asks for JWTs only where some key is
// trusted: strict_signing_key_usage without signing keys leaves it open. A key without
// an operator is as good.
func TestLintTrust(t *testing.T) {
	s := newStarting(t)
	doors := wsBlock + "}\n" + leafBlock + "}\n"
	const keyless = "operator: \"{dir}/strict.jwt\"\nresolver: MEMORY\n"
	for _, tc := range []struct {
		config string
		mode   posture.AuthMode
		open   bool
		cause  posture.Cause
	}{
		{keyless, posture.AuthOperator, true, posture.CauseNoTrustedKey},
		{keyless + doors, posture.AuthOperator, true, posture.CauseNoTrustedKey},
		{keyless + "resolver_preload { {app}: {appjwt} }\n" + doors, posture.AuthOperator, true, posture.CauseNoTrustedKey},
		{"operator: \"{dir}/nosys.jwt\"\nresolver: MEMORY\n" + doors, posture.AuthOperator, false, ""},
		{"trusted_keys: [ {op} ]\n" + doors, posture.AuthOperator, false, ""},
		{"trusted_keys: [ {op} ]\nresolver: MEMORY\nresolver_preload { {app}: {appjwt} }\n" + doors, posture.AuthOperator, false, ""},
		{"trusted_keys: [ {op} ]\n" + guestOnly + doors, posture.AuthOperator, false, ""},
		{"trusted_keys: []\n" + doors, posture.AuthNone, true, posture.CauseNoTrustedKey},
		{"trusted_keys: []\n" + guestOnly + doors, posture.AuthStatic, true, posture.CauseNoAuthUser},
	} {
		f := start(t, fleet.Spec{Name: "n", Config: s.in(tc.config)})
		running := f.Server("n")
		linted := lintAt(t, running.ConfigFile(), nil)
		if linted.AuthMode != tc.mode || len(linted.Config.Refused) > 0 {
			t.Errorf("%s: auth mode %s, refused %v", tc.config, linted.AuthMode, linted.Config.Refused)
		}
		c := truthCase{name: tc.config}
		for door, outcome := range try(t, &c, targetOf(running, &c)) {
			d := linted.Door(kinds[door])
			if kinds[door] == posture.NoDoor {
				continue // a way over the websocket, which its listener's own verdict covers
			}
			if outcome.In != tc.open || (d.Access == posture.Open) != tc.open || d.Access == posture.Unknown {
				t.Errorf("%s: an anonymous client is in at the %s listener: %v (%s); lint says %s (%s), want open: %v", tc.config, door, outcome.In, outcome.How, d.Access, d.Reason, tc.open)
			}
			if door == oracle.Client && d.Cause != tc.cause {
				t.Errorf("%s: cause %q, want %q", tc.config, d.Cause, tc.cause)
			}
		}
	}
}

// guestOnly lets anonymous clients in as a user.
const guestOnly = "accounts { APP { users: [ { user: guest, password: guest-password } ] } }\nno_auth_user: guest\n"

// TestLintPlaceholders: nats-server takes a placeholder for the secret itself, and
// lint says so and shows it.
func TestLintPlaceholders(t *testing.T) {
	for literal, quoted := range map[string]bool{
		"$NATS_PASSWORD": true, "${TOKEN}": true, "$(TOKEN)": true, "$nats_pass": true, "{{ token }}": true, "{{ .Values.token }}": true, "%TOKEN%": false,
		"<password>": false, "<your password>": true, "changeme": false, "change-me": false, "CHANGE_ME_NOW": false, "your-password-here": false, "REPLACE_ME": false,
		"__TOKEN__": false, "@TOKEN@": false, "xxxxx": false, "<%= token %>": true, "replacethis!": false, "todo": false,
	} {
		text := literal
		if quoted {
			text = `"` + literal + `"`
		}
		config := "accounts { A { users: [ { user: app, password: " + text + " } ] } }\n" // a token stands for itself as well
		f := start(t, fleet.Spec{Name: "n", Config: strings.NewReplacer("{{", `{{"{{"}}`).Replace(config)})
		s := f.Server("n")
		connect(t, s.URL(), nats.UserInfo("app", literal))
		file, err := conffile.Read(conffile.Source{Name: s.ConfigFile(), Read: conffile.Disk})
		if err != nil {
			t.Fatal(err)
		}
		linted := lintedFile(t, file, s)
		found := 0
		for _, r := range linted.results {
			if r.Check.ID == "CONF_009" && r.Outcome == check.Fail && r.Check.Severity == check.Critical && strings.Contains(r.Evidence[0].Value, fmt.Sprintf("%q", literal)) {
				found++
			}
			if (r.Check.ID == "CRED_002" || r.Check.ID == "CRED_003") && r.Outcome == check.Fail {
				t.Errorf("%s: %s says it again: %s", literal, r.Check.ID, r.Summary)
			}
		}
		if found != 1 {
			t.Errorf("%s: no CONF_009", literal)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, secret := range []string{"app-password", "$ecre7", "$9Xk2mQp4", "p<a>ss", "100%sure%", "$2a$04$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6", "exchange-metal", "yourselves"} {
		file := filepath.Join(t.TempDir(), "n.conf")
		if err := os.WriteFile(file, []byte(fmt.Sprintf("authorization { token: %q }\n", secret)), 0o600); err != nil {
			t.Fatal(err)
		}
		if found := lintAt(t, file, nil).Config.Placeholders; len(found) > 0 {
			t.Errorf("%s is taken for a placeholder", secret)
		}
	}
}

// TestLintNobodyConnects: where a TLS handshake has almost no time nobody can say
// beforehand who gets in, and lint does not. Without any time, or without a
// certificate, nobody does. All of these servers start.
func TestLintNobodyConnects(t *testing.T) {
	ca := newAuthority(t).files(365 * 24 * time.Hour)
	insecure := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // an anonymous client trusts anybody
	for _, tc := range []struct {
		config string
		want   posture.Access
		barred bool
	}{
		{tlsBlock("timeout: 2"), posture.Open, false},
		{tlsBlock("timeout: 0.0001"), posture.Unknown, true},
		{tlsBlock("timeout: -1"), posture.Closed, true},
		{"tls {}", posture.Closed, true},
		{"tls { handshake_first: true }", posture.Closed, true},
		{"tls { timeout: 2 }\nauthorization { users: [ { user: app, password: app-password } ] }\nno_auth_user: app", posture.Closed, true},
	} {
		f := start(t, fleet.Spec{Name: "n", Config: tc.config, Files: ca})
		s := f.Server("n")
		linted := lintAt(t, s.ConfigFile(), nil)
		if d := linted.Door(posture.Client); d.Access != tc.want {
			t.Errorf("%s: %s (%s), want %s", tc.config, d.Access, d.Reason, tc.want)
		}
		if got := len(linted.Config.Barred) > 0; got != tc.barred {
			t.Errorf("%s: lint names a listener that nobody can connect to: %v, want %v", tc.config, got, tc.barred)
		}
		in := 0
		const tries = 10
		for i := range tries {
			options := []nats.Option{nats.Secure(insecure), nats.Timeout(5 * time.Second)}
			if i%2 == 1 {
				options = append(options, nats.TLSHandshakeFirst())
			}
			if nc, err := nats.Connect(strings.Replace(s.URL(), "nats://", "tls://", 1), options...); err == nil {
				in++
				nc.Close()
			}
		}
		if tc.want == posture.Closed && in > 0 || tc.want == posture.Open && in == 0 {
			t.Errorf("%s: lint says %s, and %d of %d connected", tc.config, tc.want, in, tries)
		}
	}
}
