//go:build unix

package integration

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// secrets are what must be nowhere, by the words for it.
type secrets map[string]string

// forms are the ways in which a secret may be written, by their words. Of a JWT
// also its parts, and pieces of its signature.
func (s secrets) forms() map[string]string {
	out := map[string]string{}
	for name, secret := range s {
		out[name] = secret
		out[name+", base64"] = base64.StdEncoding.EncodeToString([]byte(secret))
		out[name+", base64url"] = base64.RawURLEncoding.EncodeToString([]byte(secret))
		if escaped := url.QueryEscape(secret); escaped != secret {
			out[name+", escaped"] = escaped
		}
		if parts := strings.Split(secret, "."); len(parts) == 3 && strings.HasPrefix(secret, "eyJ") {
			out[name+", claims"] = parts[1]
			for i := 0; i+24 <= len(parts[2]); i += 24 {
				out[fmt.Sprintf("%s, signature from %d", name, i)] = parts[2][i : i+24]
			}
		}
	}
	return out
}

// in lists the secrets that are in a text.
func (s secrets) in(text []byte) []string {
	var found []string
	for name, form := range s.forms() {
		if bytes.Contains(text, []byte(form)) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}

// wire is all that crosses a system account, kept apart by who said it.
type wire struct {
	mu             sync.Mutex
	ours, servers  []byte // what natsentry said; what servers did, and tools
	epochs         map[string]int
	actions, check map[string]int // of the findings
}

// listen records a system account from now on.
func listen(t *testing.T, nc *nats.Conn) *wire {
	t.Helper()
	w := &wire{epochs: map[string]int{}, actions: map[string]int{}, check: map[string]int{}}
	sub, err := nc.Subscribe(">", w.take)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// foreign are the subjects of which natsentry is not the author: what servers say
// and answer, and what pushes accounts to them.
var foreign = []string{"$SYS.ACCOUNT.", "$SYS.SERVER.", "$SYS._INBOX", "$SYS.REQ.CLAIMS.", "_INBOX", "_R_.", "_GR_."}

func (w *wire) take(m *nats.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	into := &w.ours
	if slices.ContainsFunc(foreign, func(prefix string) bool { return strings.HasPrefix(m.Subject, prefix) }) {
		into = &w.servers
	}
	*into = append(fmt.Appendf(*into, "%s %s %v ", m.Subject, m.Reply, m.Header), m.Data...)
	*into = append(*into, '\n')
	var said struct {
		System, Action, Check string
	}
	switch {
	case m.Subject == service.EpochSubject(service.DefaultPrefix) && json.Unmarshal(m.Data, &said) == nil:
		w.epochs[said.System]++
	case strings.HasPrefix(m.Subject, "audit.auth.finding.") && json.Unmarshal(m.Data, &said) == nil:
		w.actions[said.Action]++
		w.check[said.Check]++
	}
}

func (w *wire) epochsOf(system string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.epochs[system]
}

// search audits a fleet in every way there is, as a user of its system account,
// and looks for secrets in all that comes of it.
type search struct {
	t     *testing.T
	b     *bench
	admin *nats.Conn // a user of the system account who may hear everything
	*wire

	mu      sync.Mutex
	secrets secrets
	dumps   map[string][]byte
	agents  map[string]*process
}

func newSearch(t *testing.T, b *bench, admin *nats.Conn, s secrets) *search {
	t.Helper()
	return &search{t: t, b: b, admin: admin, wire: listen(t, admin), secrets: s, dumps: map[string][]byte{}, agents: map[string]*process{}}
}

func (s *search) add(where string, text []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dumps[where] = append(s.dumps[where], text...)
}

// run starts an agent at every level of its log, each with a system of its own;
// the first one keeps in JetStream where the fleet has it. login are flags for one
// of them, which may hold secrets.
func (s *search) run(store bool, login string) {
	s.t.Helper()
	for _, log := range []string{"debug json", "debug text", "info json", "warn text", "error text"} {
		level, format, _ := strings.Cut(log, " ")
		system := level + "-" + format
		keep := " --state " + system + ".state"
		if store && log == "debug json" {
			keep = " --store"
		}
		if log == "info json" {
			keep += " " + login
		}
		s.agents[system] = s.b.start("natsentry run --loopback-exposed --interval 500ms --session-interval 500ms --watch-interval 200ms --wait 1s --probe-interval 1s --everyone-interval 500ms --account-interval 1s --system " +
			system + " --log-level " + level + " --log-format " + format + keep)
	}
	s.sweeps(2)
}

// sweeps waits until every agent has swept so often from now on.
func (s *search) sweeps(more int) {
	s.t.Helper()
	for system, p := range s.agents {
		have := s.epochsOf(system)
		eventually(s.t, system+" sweeps; it says "+p.said.String(), func() bool { return s.epochsOf(system) >= have+more })
	}
}

// ask asks all endpoints, and runs all commands that print what natsentry knows.
func (s *search) ask(targets ...*fleet.Server) {
	s.t.Helper()
	for _, request := range []string{"", ".servers", ".findings", ".sessions", `.sessions {"grouped":true}`, ".checks", ".history", ".scan"} {
		subject, payload, _ := strings.Cut(request, " ")
		answer, err := s.admin.Request("audit.auth"+subject, []byte(payload), 20*time.Second)
		if err != nil {
			s.t.Fatalf("audit.auth%s: %v", subject, err)
		}
		if e := answer.Header.Get("Nats-Service-Error"); e != "" {
			s.t.Errorf("audit.auth%s: %s", subject, e)
		}
		s.add("answer of audit.auth"+request, fmt.Appendf(nil, "%v %s", answer.Header, answer.Data))
	}
	for _, subject := range []string{"PING", "INFO", "STATS"} {
		answer, err := s.admin.Request("$SRV."+subject+".natsentry", nil, 5*time.Second)
		if err != nil {
			s.t.Fatalf("$SRV.%s: %v", subject, err)
		}
		s.add("$SRV."+subject, answer.Data)
	}
	var commands []string
	for _, format := range []string{"text", "json", "markdown"} {
		commands = append(commands,
			"natsentry audit --loopback-exposed --strict --format "+format, "natsentry audit --loopback-exposed --verbose --fail-on info --format "+format,
			"natsentry sessions --format "+format, "natsentry sessions --lockout users --format "+format,
			"natsentry history --format "+format, "natsentry history --transitions --format "+format)
		for _, target := range targets {
			commands = append(commands, "natsentry probe --verbose --format "+strings.Replace(format, "text", "table", 1)+" "+strings.TrimPrefix(target.URL(), "nats://"))
		}
	}
	for _, command := range commands {
		out, diag, code := s.b.try(command)
		if len(out) == 0 || code == 3 {
			s.t.Errorf("%s: code %d\n%s%s", command, code, out, diag)
		}
		s.add(command, []byte(out+diag))
	}
}

// fails runs commands that cannot log in, and must not say with what they tried.
func (s *search) fails(commands ...string) {
	s.t.Helper()
	for i, command := range commands {
		out, diag, code := s.b.try(command)
		if code != 3 || diag == "" {
			s.t.Errorf("%s: code %d\n%s%s", command, code, out, diag)
		}
		s.add(fmt.Sprintf("command %d that fails", i), []byte(out+diag))
	}
}

// digests adds the digests of the servers' configurations to the secrets.
func (s *search) digests(servers ...*fleet.Server) {
	s.t.Helper()
	for _, server := range servers {
		answer, err := s.admin.Request("$SYS.REQ.SERVER."+server.ID()+".VARZ", nil, 10*time.Second)
		if err != nil {
			s.t.Fatal(err)
		}
		var v struct {
			Data struct {
				ConfigDigest string `json:"config_digest"`
			} `json:"data"`
		}
		if err := json.Unmarshal(answer.Data, &v); err != nil {
			s.t.Fatal(err)
		}
		if _, hex, ok := strings.Cut(v.Data.ConfigDigest, ":"); ok {
			s.secrets["configuration digest of "+server.Name()] = hex[:16]
		}
	}
}

// finish stops the agents, reads what they have kept and logged, and searches
// everything. Secrets that are named must have been told to natsentry, or the
// search shows nothing.
func (s *search) finish(js njs.JetStream, told ...string) {
	s.t.Helper()
	for system, p := range s.agents {
		p.stop()
		s.add("log of "+system, []byte(p.said.String()))
	}
	kept := 0
	for _, path := range must(filepath.Glob(filepath.Join(s.b.dir, "*"))) {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Size() > 0 && filepath.Ext(path) != ".creds" {
			s.add("file "+filepath.Base(path), must(os.ReadFile(path)))
			kept++
		}
	}
	if kept < 5 {
		s.t.Errorf("%d files were kept, want at least four states and what `natsentry watch` printed", kept)
	}
	if js != nil {
		s.streams(js)
	}
	s.wire.mu.Lock()
	defer s.wire.mu.Unlock()
	s.add("wire", s.ours)
	for _, action := range []string{"opened", "resolved"} {
		if s.actions[action] == 0 {
			s.t.Errorf("no finding was %s", action)
		}
	}
	for _, name := range told {
		if !slices.ContainsFunc(s.secrets.in(s.servers), func(found string) bool { return strings.HasPrefix(found, name) }) {
			s.t.Errorf("no server told the %s: the search shows nothing", name)
		}
	}
	for _, where := range slices.Sorted(maps.Keys(s.dumps)) {
		if text := s.dumps[where]; len(text) == 0 && !strings.HasPrefix(where, "log of error") {
			s.t.Errorf("%s: nothing to search", where)
		}
		for _, name := range s.secrets.in(s.dumps[where]) {
			s.t.Errorf("%s: shows the %s", where, name)
		}
	}
	s.t.Logf("searched %d texts for %d forms of %d secrets", len(s.dumps), len(s.secrets.forms()), len(s.secrets))
}

// streams reads every message of the streams that natsentry keeps in; its bucket
// is one of them.
func (s *search) streams(js njs.JetStream) {
	s.t.Helper()
	for _, name := range []string{service.StoreStream, "KV_" + service.StoreBucket} {
		stream := must(js.Stream(s.t.Context(), name))
		state := must(stream.Info(s.t.Context())).State
		if state.Msgs == 0 {
			s.t.Errorf("stream %s is empty", name)
		}
		for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
			m, err := stream.GetMsg(s.t.Context(), seq)
			if err != nil {
				continue // deleted since, as a lease that was given back
			}
			s.add("stream "+name, fmt.Appendf(nil, "%s %v %s\n", m.Subject, m.Header, m.Data))
		}
	}
}

// TestNothingSecretGetsOut: configuration files. The fleet has tokens, passwords
// and keys of every kind, clients that use them and others that try wrong ones.
func TestNothingSecretGetsOut(t *testing.T) {
	t.Parallel()
	key := must(nkeys.CreateUser())
	seed := string(must(key.Seed()))
	s := secrets{
		"password of the system user": "system-Password-7c1f0a", "password of a user": "user-Password-91be27",
		"password of a hashed user": "hashed-Password-44e0d3", "password of the leafnodes": "leaf-Password-8ad21c",
		"token": "Token-5b8830fe7719", "token of an old server": "Token-of-old-e00d2b6a", "seed of an nkey": seed,
		"password of a pretender": "pretended-Password-6f10", "token of a pretender": "pretended-Token-2290ac",
		"wrong password": "wrong-Password-d3ad0099", "wrong token": "wrong-Token-0d9be1f7", "password of the store": "audit-Password-f2b6a1",
	}
	hash := hashedNow(s["password of a hashed user"])
	s["hash of a password"] = hash
	replace := strings.NewReplacer(sysPassword, s["password of the system user"], "audit-password", s["password of the store"], "leaf-password", s["password of the leafnodes"])
	app := fmt.Sprintf(`
  APP { users: [ { user: app, password: %q }, { user: hashed, password: %q }, { nkey: %s } ] }
}
system_account: SYS
`, s["password of a user"], hash, must(key.PublicKey()))
	hubConfig := strings.Replace(storeAccounts, "}\nsystem_account: SYS\n", app, 1) + `jetstream { store_dir: "{{dir}}/jetstream" }
leafnodes { listen: "{{addr "leafnode"}}", authorization { user: leaf-sys, password: leaf-password, account: SYS } }
`
	// Processes of their own: in one process the race detector sees nats-server
	// list clients that are just coming.
	server := binary(t, fleet.Linked)
	specs := []fleet.Spec{
		{Name: "n2", Binary: server, Config: hubConfig},
		{Name: "token", Binary: server, Config: fmt.Sprintf("authorization { token: %q }\n", s["token"]) + leafOfStore},
		{Name: "old", Binary: binary(t, "v2.10.27"), Config: fmt.Sprintf("authorization { token: %q }\n", s["token of an old server"]) + leafOfStore},
		{Name: "open", Binary: server, Config: leafOfStore},
	}
	for i := range specs {
		specs[i].Config = replace.Replace(specs[i].Config)
	}
	f := start(t, specs...)
	hub := f.Server("n2")
	login := nats.UserInfo(sysUser, s["password of the system user"])
	admin := connect(t, hub.URL(), login)
	eventually(t, "all servers see each other", func() bool { return f.WaitActive(t.Context(), hub.URL(), len(specs), login) == nil })
	js := must(njs.New(connect(t, hub.URL(), nats.UserInfo("audit", s["password of the store"]))))
	must(js.CreateStream(t.Context(), service.StoreStreamConfig(1, time.Hour)))
	must(js.CreateKeyValue(t.Context(), service.StoreBucketConfig(1)))

	b := newBench(t).as(hub, user(sysUser, s["password of the system user"])...)
	search := newSearch(t, b, admin, s)
	search.digests(f.Servers()...)
	for _, format := range []string{"text", "json"} {
		b.start("natsentry watch --format " + format + " >watch." + format)
	}
	address := strings.TrimPrefix(hub.URL(), "nats://")
	search.run(true, "--server nats://"+sysUser+":"+s["password of the system user"]+"@"+address)
	come := func() {
		t.Helper()
		connect(t, hub.URL(), nats.UserInfo("app", s["password of a user"]))
		connect(t, hub.URL(), nats.UserInfo("hashed", s["password of a hashed user"]))
		connect(t, hub.URL(), must(nkeyOf(t, seed)))
		connect(t, f.Server("token").URL(), nats.Token(s["token"]))
		connect(t, f.Server("old").URL(), nats.Token(s["token of an old server"]))
		for _, wrong := range []nats.Option{nats.UserInfo("app", s["wrong password"]), nats.Token(s["wrong token"])} {
			if nc, err := nats.Connect(hub.URL(), wrong); err == nil {
				nc.Close()
				t.Error("a wrong password was let in")
			}
		}
	}
	pretend := []*nats.Conn{
		connect(t, f.Server("open").URL(), nats.UserInfo("admin", s["password of a pretender"])),
		connect(t, f.Server("open").URL(), nats.Token(s["token of a pretender"])),
	}
	come()
	search.sweeps(3)
	search.ask(hub, f.Server("token"), f.Server("old"), f.Server("open"))
	for _, p := range pretend {
		p.Close()
	}
	closed := replace.Replace(fmt.Sprintf("authorization { token: %q }\n", s["token"]) + leafOfStore)
	if err := f.Server("open").Reload(t.Context(), closed); err != nil {
		t.Fatal(err)
	}
	come()
	search.sweeps(4)
	search.ask(hub)
	search.digests(f.Server("open"))
	search.fails(
		"natsentry audit --user app --password "+s["wrong password"],
		"NATS_USER= NATS_PASSWORD= natsentry audit --token "+s["wrong token"],
		"NATS_USER= NATS_PASSWORD= natsentry audit --server nats://app:"+s["wrong password"]+"@"+address,
		"NATS_USER= NATS_PASSWORD= natsentry run --server nats://app:"+s["password of a user"]+"@"+address,
		"natsentry audit --user app --password "+s["password of a user"]+" --server nats://"+address+",nats://app:"+s["wrong password"]+"@127.0.0.1:1",
	)
	search.finish(js, "token of an old server", "configuration digest of ")
}

// nkeyOf logs in with a seed, which nats.go wants to be a file.
func nkeyOf(t *testing.T, seed string) (nats.Option, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "user.nk")
	if err := os.WriteFile(path, []byte(seed), 0o600); err != nil {
		return nil, err
	}
	return nats.NkeyOptionFromSeed(path)
}

// TestNothingSecretGetsOutUnderAnOperator: the same with JWTs of every kind. A
// server before 2.11.17 shows those of bearers in CONNZ, and all servers do in the
// event of a connection.
func TestNothingSecretGetsOutUnderAnOperator(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	b := newBench(t)
	op.save(filepath.Join(b.dir, ".nsc"))
	f := start(t,
		fleet.Spec{Name: "new", Binary: binary(t, fleet.Linked), Config: op.Config() + clustered("c", "old")},
		fleet.Spec{Name: "old", Binary: binary(t, "v2.10.29"), Config: op.Config() + clustered("c", "new")},
	)
	bearer, _ := op.user(&op.App, "bearer", func(c *jwt.UserClaims) { c.BearerToken = true })
	normal, normalSeed := op.user(&op.App, "normal", nil)
	revoked, revokedSeed := op.user(&op.App, "revoked", nil)
	system, systemSeed := op.user(&op.System, "natsentry", nil)
	s := secrets{
		"JWT of a bearer": bearer, "JWT of a user": normal, "seed of a user": normalSeed,
		"JWT of a revoked user": revoked, "seed of a revoked user": revokedSeed,
		"JWT of the system user": system, "seed of the system user": systemSeed,
		"JWT of the operator": op.JWT, "JWT of an account": op.App.JWT, "JWT of the system account": op.System.JWT,
		"seed of an account": string(must(op.App.Key.Seed())), "seed of the operator": string(must(op.Key.Seed())),
		"password of the routes": "route-password",
	}
	creds := filepath.Join(b.dir, "natsentry.creds")
	if err := os.WriteFile(creds, must(jwt.FormatUserConfig(system, []byte(systemSeed))), 0o600); err != nil {
		t.Fatal(err)
	}
	admin := connect(t, f.Server("new").URL(), nats.UserJWTAndSeed(system, systemSeed))
	eventually(t, "both servers see each other", func() bool {
		return f.WaitActive(t.Context(), f.Server("new").URL(), 2, nats.UserJWTAndSeed(system, systemSeed)) == nil
	})
	b = b.as(f.Server("new"), "NATS_CREDS=natsentry.creds")
	search := newSearch(t, b, admin, s)
	search.digests(f.Servers()...)
	b.start("natsentry watch --format json >watch.json")
	search.run(false, "--jwt "+system+" --seed "+systemSeed)
	asBearer := nats.UserJWT(func() (string, error) { return bearer, nil }, func([]byte) ([]byte, error) { return nil, nil })
	come := func() {
		t.Helper()
		for _, server := range f.Servers() {
			connect(t, server.URL(), asBearer, nats.Name("bearer"))
			connect(t, server.URL(), nats.UserJWTAndSeed(normal, normalSeed), nats.Name("normal"))
		}
	}
	come()
	for _, server := range f.Servers() {
		connect(t, server.URL(), nats.UserJWTAndSeed(revoked, revokedSeed), nats.NoReconnect())
	}
	search.sweeps(3)
	search.ask(f.Servers()...)

	claims := must(jwt.DecodeAccountClaims(op.App.JWT))
	claims.Revoke(must(jwt.DecodeUserClaims(revoked)).Subject)
	s["JWT of an account, later"] = must(op.Encode(claims))
	for range 2 { // each server answers
		if _, err := admin.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(s["JWT of an account, later"]), 5*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	for _, server := range f.Servers() {
		eventually(t, "the revoked user is refused", func() bool {
			nc, err := nats.Connect(server.URL(), nats.UserJWTAndSeed(revoked, revokedSeed), nats.NoReconnect())
			if err == nil {
				nc.Close()
			}
			return err != nil
		})
	}
	come()
	if err := f.Server("old").Stop(t.Context()); err != nil { // a finding, and its end
		t.Fatal(err)
	}
	search.sweeps(3)
	if err := f.Server("old").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	come()
	search.sweeps(4)
	search.ask(f.Server("new"))
	wrong := filepath.Join(b.dir, "wrong.creds")
	if err := os.WriteFile(wrong, must(jwt.FormatUserConfig(revoked, []byte(revokedSeed))), 0o600); err != nil {
		t.Fatal(err)
	}
	search.fails(
		"natsentry audit --creds wrong.creds", "natsentry run --creds wrong.creds",
		"NATS_CREDS= natsentry audit --jwt "+normal+" --seed "+normalSeed,
		"NATS_CREDS= natsentry audit --jwt "+revoked+" --seed "+revokedSeed,
		"NATS_CREDS= natsentry audit --jwt "+normal+" --seed "+revokedSeed,
	)
	search.finish(nil, "JWT of a bearer", "configuration digest of ", "JWT of the operator")
}

// TestSecretsAreFound: what the search would not find, it would not report.
func TestSecretsAreFound(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	token, _ := op.user(&op.App, "app", nil)
	s := secrets{"token": "a token+with?signs", "JWT": token}
	parts := strings.Split(token, ".")
	for text, want := range map[string]string{
		`{"user":"a token+with?signs"}`:                                 "token",
		"url nats://" + url.QueryEscape("a token+with?signs") + "@h":    "token, escaped",
		base64.StdEncoding.EncodeToString([]byte("a token+with?signs")): "token, base64",
		"the signature " + parts[2]:                                     "JWT, signature from 0",
		"a piece of the signature " + parts[2][20:60]:                   "JWT, signature from 24",
		`{"jwt":"` + parts[1] + `"}`:                                    "JWT, claims",
	} {
		if got := s.in([]byte(text)); !slices.Contains(got, want) {
			t.Errorf("%q: found %v, want %s", text, got, want)
		}
	}
	if got := s.in([]byte("nothing of it: " + parts[0])); len(got) > 0 {
		t.Errorf("found %v where there is nothing", got)
	}
}
