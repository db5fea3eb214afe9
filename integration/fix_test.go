package integration

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// What `natsentry fix` writes is put here on real servers, and a stranger who
// knows nothing of natsentry tries every door (package oracle).

// repair is a run of natsentry fix, and the server that it is for.
type repair struct {
	name  string
	modes string
	args  []string
	found string            // at the top of the configuration
	in    map[string]string // in its blocks
	doors []string          // of the server
	files map[string]string // beside its configuration

	// closes are the doors through which strangers came in before, and do not
	// any more.
	closes  []string
	restart bool // a reload is not enough
	logins  []string
}

const (
	guestUser   = "authorization { users: [ { user: guest, password: guest } ] }\n"
	namedSystem = "accounts { SYS { } }\nsystem_account: SYS\n"
)

var (
	clientDoors = []string{oracle.Client, oracle.Websocket, oracle.LeafWebsocket, oracle.Leafnode}
	mqttDoors   = []string{oracle.Client, oracle.MQTT}
	appAndSys   = []string{"app", "sys"}
)

func repairs() []repair {
	var all []repair
	for _, r := range []repair{
		{name: "users", modes: "users", logins: appAndSys},
		{name: "users-beside-accounts", modes: "users", args: []string{"--keep-accounts"}, found: sysAccount, logins: []string{"app"}},
		{name: "users-named-system", modes: "users", args: []string{"--system-account", "SYS"}, found: namedSystem, logins: appAndSys},
		{name: "nkey", modes: "nkey", logins: appAndSys},
		{name: "operator", modes: "operator", restart: true, logins: appAndSys},
		{name: "tls-map", modes: "tls-map", args: []string{"--new-ca"}, restart: true, logins: appAndSys},
		{name: "callout", modes: "callout", restart: true, logins: appAndSys},
		{name: "no-auth-user", modes: "no-auth-user", found: guestUser + "no_auth_user: guest\n", restart: true},
	} {
		r.doors, r.closes = []string{oracle.Client, oracle.Websocket, oracle.Leafnode}, clientDoors
		all = append(all, r)
		r.name, r.doors, r.closes = r.name+"-mqtt", mqttDoors, mqttDoors
		all = append(all, r)
	}
	every := []string{oracle.Client, oracle.Websocket, oracle.Leafnode, oracle.Route, oracle.Gateway}
	return append(
		all,
		repair{
			name: "websocket", modes: "websocket", found: guestUser, in: map[string]string{oracle.Websocket: "no_auth_user: guest\n"},
			doors: []string{oracle.Client, oracle.Websocket}, closes: []string{oracle.Websocket}, restart: true,
		},
		repair{
			name: "mqtt", modes: "mqtt", found: guestUser, in: map[string]string{oracle.MQTT: "no_auth_user: guest\n"},
			doors: mqttDoors, closes: []string{oracle.MQTT}, restart: true,
		},
		repair{name: "leafnode", modes: "leafnode", doors: []string{oracle.Client, oracle.Leafnode}, closes: []string{oracle.Leafnode}, restart: true},
		repair{name: "route", modes: "route", found: guestUser, doors: []string{oracle.Client, oracle.Route}, closes: []string{oracle.Route}},
		repair{name: "gateway", modes: "gateway", found: guestUser, doors: []string{oracle.Client, oracle.Gateway}, closes: []string{oracle.Gateway}, restart: true},
		repair{name: "users-and-route", modes: "users,route", doors: []string{oracle.Client, oracle.Route}, closes: []string{oracle.Client, oracle.Route}, logins: appAndSys},
		repair{
			name: "all-doors", modes: "nkey,leafnode,route,gateway", args: []string{"--system-account", "SYS"}, found: namedSystem,
			doors: every, closes: append([]string{oracle.LeafWebsocket}, every...), restart: true, logins: appAndSys,
		},
		repair{
			name: "all-no-auth-users", modes: "no-auth-user,websocket,leafnode", found: guestUser + "no_auth_user: guest\n",
			in:    map[string]string{oracle.Websocket: "no_auth_user: guest\n"},
			doors: []string{oracle.Client, oracle.Websocket, oracle.Leafnode}, closes: clientDoors, restart: true,
		},
	)
}

// original names the configuration as it was, for the modes that need it.
func (r *repair) original(t *testing.T) []string {
	t.Helper()
	if !slices.ContainsFunc(strings.Split(r.modes, ","), func(m string) bool { return fix.NeedsOriginal(fix.Mode(m)) }) {
		return nil
	}
	path := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(r.found), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"--config", path}
}

// blocks are the blocks of the doors, and what must stand in them.
var blocks = map[string]struct{ name, lines string }{
	oracle.Websocket: {"websocket", "no_tls: true\n"},
	oracle.MQTT:      {"mqtt", ""},
	oracle.Leafnode:  {"leafnodes", ""},
	oracle.Route:     {"cluster", "name: east\n"},
	oracle.Gateway:   {"gateway", "name: east\n"},
}

// config is the server's configuration: before, and with the files included.
func (r *repair) config(fixed bool) string {
	var w strings.Builder
	w.WriteString(r.found)
	include := func(name string) string {
		if _, written := r.files[name]; written && fixed {
			return fmt.Sprintf("include %q\n", name)
		}
		return ""
	}
	for _, d := range r.doors {
		if b, ok := blocks[d]; ok {
			fmt.Fprintf(&w, "%s {\nlisten: \"{{addr %q}}\"\n%s%s%s}\n", b.name, d, b.lines, r.in[d], include(b.name+".conf"))
		}
	}
	if slices.Contains(r.doors, oracle.MQTT) {
		w.WriteString("jetstream { store_dir: \"{{dir}}/jetstream\" }\n")
	}
	return w.String() + include("auth.conf")
}

// runFix runs natsentry fix, and returns the directory that it wrote.
func runFix(t *testing.T, modes string, args ...string) string {
	t.Helper()
	dir, _ := runFixOf(t, append([]string{"--mode", modes}, args...)...)
	return dir
}

func runFixOf(t *testing.T, args ...string) (dir, printed string) {
	t.Helper()
	program, err := buildNatsentry()
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "fix")
	cmd := exec.CommandContext(t.Context(), program, append([]string{"fix", "--dir", dir}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("natsentry fix: %v\n%s", err, out)
	}
	keepsSecrets(t, dir, out)
	return dir, string(out)
}

// keepsSecrets: the files are for their owner, and what is in those of secrets
// was not printed.
func keepsSecrets(t *testing.T, dir string, printed []byte) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if mode := info.Mode().Perm(); d.IsDir() && mode != 0o700 || !d.IsDir() && mode != 0o600 {
			t.Errorf("%s has mode %o", path, mode)
		}
		if d.IsDir() {
			return nil
		}
		text, err := os.ReadFile(path)
		secret := filepath.Base(filepath.Dir(path)) == "secrets" || strings.HasSuffix(path, "-key.pem")
		for word := range strings.FieldsFuncSeq(string(text), func(r rune) bool { return strings.ContainsRune(" \n\",;:@/{}[]", r) }) {
			if len(word) >= 16 && (secret || strings.HasPrefix(word, "$2a$")) && bytes.Contains(printed, []byte(word)) {
				t.Errorf("%.4s… of %s was printed", word, path)
			}
		}
		if password := clearPassword(string(text)); password != "" && bytes.Contains(printed, []byte(password)) {
			t.Errorf("the password of %s was printed", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readFix reads the files that go beside a server's configuration.
func readFix(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, path := range append(paths, filepath.Join(dir, "secrets", "leafnode-remote.conf")) {
		if text, err := os.ReadFile(path); err == nil {
			files[filepath.Base(path)] = string(text)
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	for name, text := range files {
		files[name] = cheaper(t, dir, text)
	}
	return files
}

var writtenHash = regexp.MustCompile(`user: "([^"]+)",?\s+password: "(\$2a\$11\$[^"]+)"`)

// cheaper replaces the hashes of a file, after a look whether they are those of
// the passwords beside it: under the race detector, an embedded server takes
// seconds for one, and clients do not wait for so long.
func cheaper(t *testing.T, dir, text string) string {
	t.Helper()
	for _, m := range writtenHash.FindAllStringSubmatch(text, -1) {
		password := writtenPassword(t, dir, m[1])
		if err := bcrypt.CompareHashAndPassword([]byte(m[2]), []byte(password)); err != nil {
			t.Errorf("the hash of %s is not that of its password: %v", m[1], err)
		}
		text = strings.Replace(text, m[2], hashedNow(password), 1)
	}
	return text
}

// writtenPassword is the password of a user or a leafnode, as it was written.
func writtenPassword(t *testing.T, dir, user string) string {
	t.Helper()
	for file, pattern := range map[string]string{user + ".password": `^(\S+)`, "leafnode-remote.conf": "//" + user + ":([^@]+)@", "callout.json": `"user": "` + user + `",\s+"password": "([^"]+)"`} {
		if text, err := os.ReadFile(filepath.Join(dir, "secrets", file)); err == nil {
			if m := regexp.MustCompile(pattern).FindSubmatch(text); m != nil {
				return string(m[1])
			}
		}
	}
	t.Fatalf("there is no password of %s in %s", user, dir)
	return ""
}

// TestFix: strangers come in before; the files are applied as they say; then no
// stranger comes in, those with the secrets do, and those without do not. Where
// a restart is asked for, a reload was not enough.
func TestFix(t *testing.T) {
	t.Parallel()
	dirs := map[string]string{}
	for _, r := range repairs() {
		written := r.modes + strings.Join(r.args, " ")
		if dirs[written] == "" {
			dirs[written] = runFix(t, r.modes, append(r.args, r.original(t)...)...)
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			mend(t, r, dirs[written])
		})
	}
}

func mend(t *testing.T, r repair, dir string) {
	t.Helper()
	r.files = readFix(t, dir)
	f := start(t, fleet.Spec{Name: "n1", Config: r.config(false), Files: r.files})
	s := f.Server("n1")
	for _, door := range r.closes {
		if !getsIn(t, s, door) {
			t.Errorf("a stranger does not get in through the %s port of the server as it was", door)
		}
	}
	if r.modes == "callout" {
		runCallout(t, s, dir)
	}
	err := s.Reload(t.Context(), r.config(true))
	switch {
	case !r.restart && err != nil:
		t.Fatalf("the reload is refused: %v", err)
	case r.restart:
		if err == nil && !slices.ContainsFunc(r.closes, func(door string) bool { return getsIn(t, s, door) }) {
			t.Error("it asks for a restart, and a reload does it")
		}
		if err := errors.Join(s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	says := "reload the server"
	if r.restart {
		says = "restart the server"
	}
	for name, text := range r.files {
		if name != "leafnode-remote.conf" && !strings.Contains(text, says) {
			t.Errorf("%s does not say: %s", name, says)
		}
	}
	for _, login := range r.logins {
		logsIn(t, s, dir, login)
	}
	for _, door := range r.closes {
		if getsIn(t, s, door) {
			t.Errorf("a stranger gets in through the %s port", door)
		}
	}
	joins(t, f, &r)
}

// getsIn lets a stranger try.
func getsIn(t *testing.T, s *fleet.Server, door string) bool {
	t.Helper()
	o, err := oracle.Try(t.Context(), targetOf(s, &truthCase{}), door)
	if err != nil {
		t.Errorf("%s: %v", door, err)
	}
	return o.In
}

// runCallout builds the service that was written, and runs it.
func runCallout(t *testing.T, s *fleet.Server, dir string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "callout")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, filepath.Join(dir, "callout", "callout.go"), filepath.Join(dir, "callout", "main.go"))
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd, out := exec.CommandContext(ctx, program, s.URL(), filepath.Join(dir, "secrets", "callout.json")), &buffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		keepsSecrets(t, dir, []byte(out.String()))
	})
	eventually(t, "the callout service answers", func() bool { return strings.Contains(out.String(), "answering") })
}

// logsIn: the files of a user let him in, and without the secret they do not.
func logsIn(t *testing.T, s *fleet.Server, dir, name string) {
	t.Helper()
	right, wrong := fixLogins(t, dir, name)
	eventually(t, name+" is let in", func() bool {
		nc, err := nats.Connect(s.URL(), right, nats.NoReconnect(), nats.Timeout(20*time.Second))
		if err != nil {
			t.Logf("%s: %v", name, err)
			return false
		}
		defer nc.Close()
		return nc.Flush() == nil
	})
	for how, opt := range wrong {
		if nc, err := nats.Connect(s.URL(), opt, nats.NoReconnect(), nats.Timeout(20*time.Second)); err == nil {
			nc.Close()
			t.Errorf("%s is let in %s", name, how)
		}
	}
}

// fixLogins are the ways to log in as a user of the files in dir: with his
// secret, and without it.
func fixLogins(t *testing.T, dir, name string) (right nats.Option, wrong map[string]nats.Option) {
	t.Helper()
	at := func(file string) string { return filepath.Join(dir, "secrets", name+file) }
	forged := must(nkeys.CreateUser())
	switch {
	case isThere(at(".password")):
		password := strings.TrimSpace(string(must(os.ReadFile(at(".password")))))
		return nats.UserInfo(name, password), map[string]nats.Option{
			"without the password": nats.UserInfo(name, ""), "with another password": nats.UserInfo(name, "x"+password[1:]),
		}
	case isThere(at(".nk")):
		public := must(must(nkeys.FromSeed(bytes.TrimSpace(must(os.ReadFile(at(".nk")))))).PublicKey())
		return must(nats.NkeyOptionFromSeed(at(".nk"))), map[string]nats.Option{
			"with another seed":   nats.Nkey(public, forged.Sign),
			"without a signature": nats.Nkey(public, func([]byte) ([]byte, error) { return nil, nil }),
		}
	case isThere(at(".creds")):
		token := must(nkeys.ParseDecoratedJWT(must(os.ReadFile(at(".creds")))))
		jwt := func() (string, error) { return token, nil }
		return nats.UserCredentials(at(".creds")), map[string]nats.Option{
			"with another seed":   nats.UserJWT(jwt, forged.Sign),
			"without a signature": nats.UserJWT(jwt, func([]byte) ([]byte, error) { return nil, nil }),
		}
	case isThere(at(".pem")):
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(must(os.ReadFile(filepath.Join(dir, "tls", "ca.pem"))))
		trust := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		with := func(certs ...tls.Certificate) nats.Option {
			c := trust.Clone()
			c.Certificates = certs
			return nats.Secure(c)
		}
		other := newAuthority(t)
		cert, key := other.issue(name, time.Hour)
		return with(must(tls.LoadX509KeyPair(at(".pem"), at("-key.pem")))), map[string]nats.Option{
			"with a certificate of another CA": with(must(tls.X509KeyPair([]byte(cert), []byte(key)))),
			"by name": func(o *nats.Options) error {
				o.User = "CN=" + name
				return with()(o)
			},
		}
	default:
		t.Fatalf("there is no secret of %s in %s", name, dir)
		return nil, nil
	}
}

func isThere(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// joins: servers with the other half of the files join.
func joins(t *testing.T, f *fleet.Fleet, r *repair) {
	t.Helper()
	n1 := f.Server("n1")
	files := maps.Clone(r.files)
	member := func(name, config string) *fleet.Server {
		s, err := f.Add(t.Context(), fleet.Spec{Name: name, Config: config, Files: files})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if r.files["cluster.conf"] != "" {
		member("n2", fmt.Sprintf("cluster { name: east, listen: \"{{addr \"route\"}}\"\nroutes: [ \"nats-route://route:%s@%s\" ]\ninclude \"cluster.conf\"\n}", clearPassword(r.files["cluster.conf"]), n1.Addr("route")))
		eventually(t, "a member of the cluster joins", func() bool { return n1.Embedded().NumRoutes() > 0 })
	}
	if r.files["gateway.conf"] != "" {
		west := member("west", fmt.Sprintf("gateway { name: west, listen: \"{{addr \"gateway\"}}\"\ngateways: [ { name: east, url: \"nats://%s\" } ]\ninclude \"gateway.conf\"\n}", n1.Addr("gateway")))
		eventually(t, "another cluster joins", func() bool {
			return west.Embedded().NumOutboundGateways() > 0 && n1.Embedded().NumOutboundGateways() > 0
		})
	}
	if r.files["leafnodes.conf"] != "" {
		files["leafnode-remote.conf"] = strings.Replace(files["leafnode-remote.conf"], "HUB:7422", n1.Addr("leafnode"), 1)
		member("leaf", "leafnodes { include \"leafnode-remote.conf\"\n}")
		eventually(t, "a leafnode joins", func() bool { return n1.Embedded().NumLeafNodes() > 0 })
	}
}

// TestFixReloadAndClients holds what is said of connected clients against what
// becomes of them.
func TestFixReloadAndClients(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		repair
		early bool // a client can log in with its new secret before the reload, and then stays
	}{
		{repair{name: "users", modes: "users"}, true},
		{repair{name: "beside-accounts", modes: "users", args: []string{"--keep-accounts"}, found: sysAccount}, false},
		{repair{name: "nkey", modes: "nkey"}, false},
	} {
		dir := runFix(t, c.modes, c.args...)
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.files = readFix(t, dir)
			s := start(t, fleet.Spec{Name: "n1", Config: c.config(false), Files: c.files}).Server("n1")
			stranger := connect(t, s.URL(), nats.NoReconnect())
			login, _ := fixLogins(t, dir, "app")
			app, err := nats.Connect(s.URL(), login, nats.NoReconnect())
			if c.early != (err == nil) {
				t.Fatalf("before the reload, app logs in: %v", err)
			}
			said := strings.Join(strings.Fields(strings.ReplaceAll(c.files["auth.conf"], "\n#", "")), " ")
			if stays := strings.Contains(said, "Clients that already log in as one of these users stay"); stays != c.early {
				t.Errorf("it says that clients stay: %v", stays)
			}
			if err := s.Reload(t.Context(), c.config(true)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the stranger is dropped", stranger.IsClosed)
			if c.early {
				defer app.Close()
				if err := app.Flush(); err != nil {
					t.Errorf("app does not stay: %v", err)
				}
			}
			logsIn(t, s, dir, "app")
		})
	}
}

// TestFixRoutes rolls the password of routes out over a cluster, one member
// after the other: a member reaches those that do not have it yet, and is not
// reached by them.
func TestFixRoutes(t *testing.T) {
	t.Parallel()
	dir := runFix(t, "route")
	files := readFix(t, dir)
	password := clearPassword(files["cluster.conf"])
	config := func(peer, login, include string) string {
		routes := ""
		if peer != "" {
			routes = fmt.Sprintf("routes: [ \"nats-route://%s{{addr %q \"route\"}}\" ]\n", login, peer)
		}
		return appUsers + "cluster { name: east, listen: \"{{addr \"route\"}}\"\n" + routes + include + "}\n"
	}
	for name, first := range map[string]string{"each-knows-the-other": "n2", "seed": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t,
				fleet.Spec{Name: "n1", Config: config(first, "", ""), Files: files},
				fleet.Spec{Name: "n2", Config: config("n1", "", ""), Files: files},
			)
			n1, n2 := f.Server("n1"), f.Server("n2")
			routes := func(want bool) func() bool {
				return func() bool { return n1.Embedded().NumRoutes() > 0 == want && n2.Embedded().NumRoutes() > 0 == want }
			}
			eventually(t, "the cluster is formed", routes(true))
			client := connect(t, n1.URL(), nats.UserInfo("app", "app-password"), nats.NoReconnect())
			fixed := func(peer string) string {
				return config(peer, "route:"+password+"@", "include \"cluster.conf\"\n")
			}
			if err := n1.Reload(t.Context(), fixed(first)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "routes are there or not, as it says", routes(first != ""))
			if err := n2.Reload(t.Context(), fixed("n1")); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the cluster is whole", routes(true))
			if err := client.Flush(); err != nil {
				t.Errorf("the client is gone: %v", err)
			}
		})
	}
}

// TestFixGateways: until another cluster has the password, nothing comes from it.
func TestFixGateways(t *testing.T) {
	t.Parallel()
	files := readFix(t, runFix(t, "gateway"))
	config := func(name, other, include string) string {
		return guestUser + fmt.Sprintf("gateway { name: %s, listen: \"{{addr \"gateway\"}}\"\ngateways: [ { name: %s, url: \"nats://{{addr %q \"gateway\"}}\" } ]\n%s}\n", name, other, other, include)
	}
	f := start(t,
		fleet.Spec{Name: "east", Config: config("east", "west", "include \"gateway.conf\"\n"), Files: files},
		fleet.Spec{Name: "west", Config: config("west", "east", ""), Files: files},
	)
	east, west := f.Server("east"), f.Server("west")
	eventually(t, "this cluster reaches the other", func() bool { return east.Embedded().NumOutboundGateways() > 0 })
	// Its own side counts a connection until it is refused.
	if z, err := east.Embedded().Gatewayz(nil); err != nil || len(z.InboundGateways) != 0 {
		t.Errorf("the other reaches this one: %v, %v", z, err)
	}
	if err := west.Rewrite(config("west", "east", "include \"gateway.conf\"\n")); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(west.Stop(t.Context()), west.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "both reach each other", func() bool {
		return east.Embedded().NumOutboundGateways() > 0 && west.Embedded().NumOutboundGateways() > 0
	})
}

// clearPassword is the password of a file that has it in clear.
func clearPassword(text string) string {
	_, rest, _ := strings.Cut(text, `password: "`)
	password, _, _ := strings.Cut(rest, `"`)
	return password
}

// TestFixOldServers: what was proven on this nats-server holds on older ones,
// too. There a name alone did where certificates are not mapped, and leafnode
// ports let everybody in; each is seen to happen without what keeps it off.
func TestFixOldServers(t *testing.T) {
	t.Parallel()
	versions := []string{"v2.10.29", "v2.11.17"}
	for _, c := range []struct {
		modes  string
		args   []string
		logins []string
		spoil  func(files map[string]string) // takes that away
		again  posture.DoorKind              // through which then somebody comes in
		as     string
	}{
		{modes: "users,leafnode", logins: appAndSys, spoil: func(f map[string]string) { f["leafnodes.conf"] = "" }, again: posture.Leafnode},
		{modes: "nkey,leafnode", logins: appAndSys},
		{modes: "operator", logins: appAndSys},
		{modes: "tls-map,leafnode", args: []string{"--new-ca"}, logins: appAndSys, again: posture.Websocket, as: "CN=app", spoil: func(f map[string]string) {
			f["auth.conf"] = strings.ReplaceAll(f["auth.conf"], ", allowed_connection_types: [ STANDARD ]", "")
		}},
	} {
		dir := runFix(t, c.modes, c.args...)
		for _, version := range versions {
			t.Run(c.modes+" "+version, func(t *testing.T) {
				t.Parallel()
				r := repair{modes: c.modes, doors: []string{oracle.Client, oracle.Websocket, oracle.Leafnode}, files: readFix(t, dir)}
				if c.modes == "operator" {
					r.doors = r.doors[:2] // its leafnodes are another story
				}
				s := start(t, fleet.Spec{Name: "n1", Binary: binary(t, version), Config: r.config(true), Files: r.files}).Server("n1")
				comesIn := func(s *fleet.Server, door posture.DoorKind, as string) bool {
					if as != "" {
						return stay(t, "ws://"+s.Addr(door.String()), nats.UserInfo(as, ""))
					}
					touch := (&probe.Prober{Timeout: 20 * time.Second}).Touch(t.Context(), probe.Target{Door: door, Address: s.Addr(door.String())})
					if touch.Access == posture.Unknown {
						t.Errorf("%s: %s", door, touch.Reason)
					}
					return touch.Access == posture.Open
				}
				for _, name := range r.doors {
					if comesIn(s, kinds[name], "") {
						t.Errorf("a stranger gets in through the %s port", name)
					}
				}
				for _, name := range c.logins {
					logsIn(t, s, dir, name)
				}
				if c.spoil == nil {
					return
				}
				if comesIn(s, c.again, c.as) {
					t.Errorf("%s gets in through the %s port", cmp.Or(c.as, "a stranger"), c.again)
				}
				files := maps.Clone(r.files)
				c.spoil(files)
				spoilt := start(t, fleet.Spec{Name: "n1", Binary: binary(t, version), Config: r.config(true), Files: files}).Server("n1")
				if !comesIn(spoilt, c.again, c.as) {
					t.Errorf("%s gets in through the %s port all the same", cmp.Or(c.as, "nobody"), c.again)
				}
			})
		}
	}
}

// TestFixKeepsStreams: what strangers have stored is there for app afterwards,
// after a reload and after a restart.
func TestFixKeepsStreams(t *testing.T) {
	t.Parallel()
	for _, r := range []repair{
		{name: "users", modes: "users"},
		{name: "beside-accounts", modes: "users", args: []string{"--keep-accounts"}, found: sysAccount},
		{name: "callout", modes: "callout"},
	} {
		dir := runFix(t, r.modes, r.args...)
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			r.files = readFix(t, dir)
			js := `jetstream { store_dir: "{{dir}}/jetstream" }` + "\n"
			s := start(t, fleet.Spec{Name: "n1", Config: js + r.config(false), Files: r.files}).Server("n1")
			if _, err := must(natsjs.New(connect(t, s.URL(), nats.NoReconnect()))).CreateStream(t.Context(), natsjs.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}}); err != nil {
				t.Fatal(err)
			}
			if r.modes == "callout" {
				runCallout(t, s, dir)
			}
			login, _ := fixLogins(t, dir, "app")
			there := func(when string) {
				eventually(t, "the stream is there, "+when, func() bool {
					nc, err := nats.Connect(s.URL(), login, nats.NoReconnect())
					if err != nil {
						return false
					}
					defer nc.Close()
					_, err = must(natsjs.New(nc)).Stream(t.Context(), "ORDERS")
					return err == nil
				})
			}
			if r.modes != "callout" {
				if err := s.Reload(t.Context(), js+r.config(true)); err != nil {
					t.Fatal(err)
				}
				there("after a reload")
			}
			if err := errors.Join(s.Rewrite(js+r.config(true)), s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
			there("after a restart")
		})
	}
}

// TestFixDemo closes the doors of the demonstration, each with what is written
// for its server, and audits it then.
func TestFixDemo(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Demo()...)
	safe := f.Server("safe").URL()
	login := nats.UserInfo(fleet.DemoSystemUser, fleet.DemoSystemPassword)
	if err := f.WaitActive(t.Context(), safe, len(f.Servers()), login); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--server", safe, "--user", fleet.DemoSystemUser, "--password", fleet.DemoSystemPassword, "--loopback-exposed", "--probe-mqtt", "--wait", "10s"}
	for _, spec := range fleet.Demo() {
		if slices.Contains([]string{"safe", "token", "monitor-open"}, spec.Name) {
			continue // nothing that can be included closes a door there
		}
		var original []string
		if !spec.NoConfigFile {
			original = []string{"--config", f.Server(spec.Name).ConfigFile()}
		}
		dir, printed := runFixOf(t, append(append([]string{spec.Name}, original...), flags...)...)
		config := spec.Config
		for name, text := range readFix(t, dir) {
			if name == "cluster.conf" {
				if !strings.Contains(strings.Join(strings.Fields(printed), " "), "of the same cluster ask for a password already") {
					t.Errorf("%s: it does not say that its peers have a password:\n%s", spec.Name, printed)
				}
				text = strings.ReplaceAll(text, clearPassword(text), "demo-route")
			}
			if name != "leafnode-remote.conf" {
				config = put(t, config, strings.TrimSuffix(name, ".conf"), text)
			}
		}
		s := f.Server(spec.Name)
		if strings.Contains(printed, "was reloaded with this") {
			if err := s.Reload(t.Context(), config); err != nil {
				t.Fatalf("%s: %v", spec.Name, err)
			}
			continue
		}
		if err := errors.Join(s.Rewrite(config), s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
			t.Fatalf("%s: %v", spec.Name, err)
		}
	}
	if err := f.WaitActive(t.Context(), safe, len(f.Servers()), login); err != nil {
		t.Fatal(err)
	}
	program := must(buildNatsentry())
	out, err := exec.CommandContext(t.Context(), program, append([]string{"audit", "--format", "json", "--fail-on", "none"}, flags...)...).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var report finding.Report
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	for _, s := range report.Servers {
		for _, d := range s.Doors {
			if d.Access == posture.Open && d.Door != posture.Monitor || d.Access == posture.Unknown && d.Door != posture.Profile {
				t.Errorf("the %s port of %s is %s: %s", d.Door, s.Name, d.Access, d.Reason)
			}
		}
	}
	if len(report.Servers) != len(f.Servers()) {
		t.Errorf("%d servers", len(report.Servers))
	}
}

// put includes a text in a configuration, as the last line of its block or of
// all.
func put(t *testing.T, config, block, text string) string {
	t.Helper()
	if block == "auth" {
		return config + "\n" + text
	}
	begin := strings.Index(config, "\n"+block+" {")
	if begin < 0 {
		t.Fatalf("there is no block %s in\n%s", block, config)
	}
	depth := 0
	for i, r := range config[begin:] {
		switch r {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return config[:begin+i] + "\n" + text + config[begin+i:]
			}
		}
	}
	t.Fatalf("the block %s does not end", block)
	return ""
}

// TestFurtherAccountTakesJetStream is why the users stay in the global account,
// and why no account is added beside it.
func TestFurtherAccountTakesJetStream(t *testing.T) {
	t.Parallel()
	for accounts, want := range map[string]bool{"": true, sysAccount: true, `accounts { AUTH { users: [ { user: callout, password: callout } ] } }` + "\n": false} {
		s := start(t, fleet.Spec{Name: "n1", Config: `jetstream { store_dir: "{{dir}}/jetstream" }` + "\n" + guestUser + accounts}).Server("n1")
		js := must(natsjs.New(connect(t, s.URL(), nats.UserInfo("guest", "guest"))))
		if _, err := js.AccountInfo(t.Context()); (err == nil) != want {
			t.Errorf("with %q: %v", accounts, err)
		}
	}
}
