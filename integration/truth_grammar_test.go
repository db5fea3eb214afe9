package integration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// Nobody thinks of every configuration. A grammar of the keys that decide who gets
// in writes new ones out of a seed; each is linted, run and tried by the oracle.
//
//	NATSENTRY_GRAMMAR_SEED=7 NATSENTRY_GRAMMAR_CASES=5000 go test ./integration -run ^TestGrammar$
//
// tries others. NATSENTRY_GRAMMAR_ONLY is the number of the one to try.

const (
	grammarSeed  = 1
	grammarCases = 420
	grammarTime  = 5 * time.Minute // after which no further case begins
)

// grammarUnknown are the reasons for which lint may not know a listener.
var grammarUnknown = append(slices.Clone(lintReasons), "variable")

func TestGrammar(t *testing.T) {
	seed, count, only := fromEnv(t, "SEED", grammarSeed), fromEnv(t, "CASES", grammarCases), fromEnv(t, "ONLY", -1)
	if fleet.UnderRace {
		count /= 10
	}
	t.Logf("NATSENTRY_GRAMMAR_SEED=%d", seed)
	dir := t.TempDir()
	files := newAuthority(t).files(24 * time.Hour)
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	cases := make([]*written, 0, count)
	for i := range count {
		if only < 0 || i == only { // each has its own sequence of numbers
			cases = append(cases, writeCase(t, dir, seed, i)) // before others run: nats-server keeps flags in a global variable
		}
	}
	t.Parallel()
	began := time.Now()
	list := make([]truthCase, len(cases))
	byName := map[string]*written{}
	for i, w := range cases {
		list[i] = truthCase{name: w.name}
		byName[w.name] = w
	}
	tried, started := make(chan int, len(cases)), make(chan int, 2*len(cases))
	t.Run("cases", func(t *testing.T) {
		askEach(t, list, func(t *testing.T, c *truthCase) answer {
			if time.Since(began) < grammarTime {
				n, up := byName[c.name].try(t)
				tried <- n
				started <- up
			}
			return answer{}
		})
	})
	close(tried)
	close(started)
	verdicts, ran := 0, 0
	for n := range tried {
		verdicts += n
	}
	for n := range started {
		ran += n
	}
	t.Logf("%d configurations, %d servers ran, %d verdicts", len(cases), ran, verdicts)
	if only < 0 && !fleet.UnderRace && ran < count/2 {
		t.Errorf("only %d of %d configurations are such that a server starts", ran, count)
	}
}

func fromEnv(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv("NATSENTRY_GRAMMAR_" + name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// written is a configuration that the grammar wrote.
type written struct {
	name, text string
	args       []string
	file       string                                     // that is linted
	env        func(string) (string, bool)                // with these variables
	runs       map[string]func() (*server.Options, error) // the same with values for its variables
	absent     bool                                       // some variables have no value for lint
}

// writeCase writes one configuration, and reads it with nats-server's own code.
func writeCase(t *testing.T, dir string, seed, number int) *written {
	t.Helper()
	g := &grammar{Rand: rand.New(rand.NewPCG(uint64(seed), uint64(number))), dir: dir}
	w := &written{name: fmt.Sprintf("%d-%d", seed, number), text: g.configuration(), args: g.flags()}
	w.absent = len(g.vars) > 0 && g.IntN(2) == 0
	own := filepath.Join(dir, w.name)
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(own, "part.conf"), g.part)
	given := map[string]string{}
	lay := func(variant string, value func(string) string) string {
		text := w.text
		for i, v := range g.vars {
			name := fmt.Sprintf("NSG_%d_%d_%d_%s", seed, number, i, variant)
			text = strings.ReplaceAll(text, v.mark, "$"+name)
			if value != nil {
				given[name] = value(v.value)
				if err := os.Setenv(name, given[name]); err != nil { //nolint:usetesting // the names are of this test alone, and other tests run beside it
					t.Fatal(err)
				}
			}
		}
		file := filepath.Join(own, variant+".conf")
		write(t, file, text)
		return file
	}
	set := lay("SET", func(v string) string { return v })
	w.file = set
	w.runs = map[string]func() (*server.Options, error){"set": optionsOf(set, w.args)}
	if len(g.vars) > 0 && w.absent {
		w.file = lay("ABSENT", nil)
		w.runs["empty"] = optionsOf(lay("EMPTY", func(string) string { return "" }), w.args)
	}
	w.env = func(name string) (string, bool) { v, ok := given[name]; return v, ok }
	return w
}

// optionsOf reads a configuration with nats-server's own code, once for each server.
func optionsOf(file string, args []string) func() (*server.Options, error) {
	o, err := fleet.Options(append(slices.Clone(args), "-c", file)...)
	return func() (*server.Options, error) { return o, err }
}

// try lints a configuration, runs it, and holds the one against the other.
func (w *written) try(t *testing.T) (verdicts, started int) {
	t.Helper()
	f, err := conffile.Read(conffile.Source{Name: w.file, Read: conffile.Disk, Env: w.env, Args: w.args})
	if err != nil {
		t.Fatal(err)
	}
	l := lintedFile(t, f, nil)
	refused := f.Server.Config.Refused
	anyStarted := false
	for variant, options := range w.runs {
		o, err := options()
		var s *fleet.Server
		if err == nil {
			s, err = w.start(t, o)
		}
		if err != nil {
			// Of two spellings nats-server takes another one at each start.
			if !w.absent && len(refused) == 0 && len(f.Server.Config.Spellings) == 0 && !errors.Is(err, errBusy) {
				t.Errorf("WRONG: nats-server does not start (%v), and lint does not say so: %s", err, w.told(l))
			}
			continue
		}
		started, anyStarted = 1, true
		if len(refused) > 0 && !strings.Contains(refused[0].Text, "by chance") {
			t.Errorf("WRONG: lint says that nats-server would not start, and it does (%s): %v", variant, refused)
		}
		if len(refused) > 0 {
			continue
		}
		verdicts += w.hold(t, l, s, variant)
	}
	if t.Failed() {
		t.Logf("NATSENTRY_GRAMMAR_SEED=%s NATSENTRY_GRAMMAR_ONLY=%s, flags %q, any server started: %v:\n%s", seedOf(w.name), numberOf(w.name), w.args, anyStarted, w.readable(t))
	}
	return verdicts, started
}

var errBusy = errors.New("the port was taken")

func seedOf(name string) string   { s, _, _ := strings.Cut(name, "-"); return s }
func numberOf(name string) string { _, n, _ := strings.Cut(name, "-"); return n }

func (w *written) readable(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(w.file)
	if err != nil {
		t.Fatal(err)
	}
	part, err := os.ReadFile(filepath.Join(filepath.Dir(w.file), "part.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "--- part.conf:\n" + string(part)
}

func (w *written) told(l *linted) string {
	var out []string
	for _, d := range l.server.Doors {
		if d.On == posture.Yes {
			out = append(out, fmt.Sprintf("%s %s", d.Kind, d.Access))
		}
	}
	return strings.Join(out, ", ")
}

// start runs a server with a configuration on ports that are free.
func (w *written) start(t *testing.T, read *server.Options) (*fleet.Server, error) {
	t.Helper()
	var ports strings.Builder
	for _, label := range corpusDoors(read) {
		fmt.Fprintf(&ports, "# {{port %q}}\n", label)
	}
	f, err := fleet.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	s, err := f.Add(t.Context(), fleet.Spec{Name: "tried", Config: ports.String(), Options: func(into *server.Options) {
		o := read.Clone()
		move(o, func(label string) string { return f.Server("tried").Addr(label) })
		o.StoreDir = t.TempDir()
		*into = *o
	}})
	if err != nil && strings.Contains(err.Error(), "address already in use") {
		return nil, errBusy
	}
	return s, err
}

// hold lets the oracle try each listener.
func (w *written) hold(t *testing.T, l *linted, s *fleet.Server, variant string) (verdicts int) {
	t.Helper()
	outcomes := w.outcomes(t, s)
	for _, door := range oracle.Doors() {
		o, ok := outcomes[door]
		kind, known := kinds[door]
		if !ok || !known {
			continue
		}
		in, said := o.In || outcomes[overWebsocket[door]].In, l.say(kind)
		verdicts++
		switch {
		case said.access == posture.Unknown:
			if !slices.ContainsFunc(grammarUnknown, func(why string) bool { return strings.Contains(said.reason, why) }) {
				t.Errorf("lint does not know the %s listener: %q; anonymous clients are accepted: %v (%s)", door, said.reason, in, o.How)
			}
		case in != (said.access == posture.Open), in && said.pass, !in && said.alarm:
			t.Errorf("WRONG (%s): lint calls the %s listener %s (check passes: %v, alarms: %v), and anonymous clients are accepted: %v (%s)",
				variant, door, said.access, said.pass, said.alarm, in, o.How)
		}
	}
	return verdicts
}

// outcomes are what the oracle finds. It is undecided at TLS listeners that refuse
// everybody without a certificate, and where an account without JetStream ends an
// MQTT session that was accepted.
func (w *written) outcomes(t *testing.T, s *fleet.Server) map[string]oracle.Outcome {
	t.Helper()
	target := targetOf(s, &truthCase{name: w.name})
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]oracle.Outcome{}
	for door := range target.Addresses {
		wg.Go(func() {
			o, err := oracle.Try(t.Context(), target, door)
			mqtt := door == oracle.MQTT || door == oracle.MQTTWebsocket
			switch {
			case errors.Is(err, oracle.ErrUndecided) && (mqtt || strings.Contains(err.Error(), noCertificate)):
			case err != nil:
				t.Errorf("%s: %v", door, err)
			default:
				mu.Lock()
				defer mu.Unlock()
				out[door] = o
			}
		})
	}
	wg.Wait()
	// An MQTT listener has two ways in: without a word on one nothing is known of both.
	for _, door := range []string{oracle.MQTT, oracle.MQTTWebsocket} {
		if _, ok := out[door]; !ok && target.Addresses[door] != "" && !out[oracle.MQTT].In {
			delete(out, oracle.MQTT)
		}
	}
	return out
}

// grammar writes configurations.
type grammar struct {
	*rand.Rand
	dir    string
	vars   []variable
	part   string // the file that is included
	names  []string
	system string // the account that is the system account
}

// variable stands for a value, which a variable of the environment has.
type variable struct{ mark, value string }

func (g *grammar) one(of ...string) string { return of[g.IntN(len(of))] }
func (g *grammar) often(n int) bool        { return g.IntN(10) < n }

// value is a value as it stands, or a variable that has it.
func (g *grammar) value(v string) string {
	if len(g.vars) > 1 || !g.often(1) || strings.HasPrefix(v, `"$`) { // a value with a dollar would be a variable
		return v
	}
	mark := fmt.Sprintf("@@%d@@", len(g.vars))
	g.vars = append(g.vars, variable{mark, strings.Trim(v, `"`)})
	return mark
}

const hash = `"$2a$04$P/.bd.7unw9Ew7yWJqXsl.f4oNRLQGvadEL2YnqQXbbb.IVQajRdK"`

func (g *grammar) permissions() string {
	return g.one(
		`permissions: { publish: "a.>", subscribe: "b" }`, `permissions: { publish: ">", subscribe: ">" }`, `permissions: { publish: { allow: [] } }`,
		`permissions: {}`,
		`permissions: { publish: { deny: ">" }, subscribe: { deny: ">" } }`, `permissions: { subscribe: ["x"] }`,
	)
}

func (g *grammar) user(name string) string {
	parts := []string{g.one("user: ", "username: ", "\"user\": ") + g.value(name)}
	if !g.often(2) {
		parts = append(parts, g.one("password: ", "pass: ")+g.value(g.one("eeB4ahquoh", "\"ohx5Ohkahp\"", hash, `""`)))
	}
	if g.often(3) {
		parts = append(parts, "allowed_connection_types: ["+g.one(`"STANDARD"`, `"WEBSOCKET"`, `"MQTT", "WEBSOCKET"`, `"LEAFNODE"`, `"STANDARD", "LEAFNODE"`)+"]")
	}
	if g.often(3) {
		parts = append(parts, g.permissions())
	}
	g.names = append(g.names, name)
	return "{ " + strings.Join(parts, ", ") + " }"
}

const nkey = "UCNGL4W5QX66CFX6A6DCBVDH5VOHMI7B2UZZU7TXAUQQSI2JPHULCKBR"

func (g *grammar) users(prefix string, most int) string {
	var list []string
	for i := range g.IntN(most + 1) {
		list = append(list, g.user(fmt.Sprintf("%s%d", prefix, i)))
	}
	if g.often(1) {
		list = append(list, "{ nkey: "+nkey+" }")
		g.names = append(g.names, nkey)
	}
	return "users: [ " + strings.Join(list, ", ") + " ]"
}

// single is the one user of a block, or its token.
func (g *grammar) single() string {
	return g.one("", "timeout: 2", "user: "+g.value("su")+", password: "+g.value("yee4Shaegh"), "user: su", "password: yee4Shaegh", "user: su, password: \"\"", "user: \"\", password: x")
}

func (g *grammar) authorization() string {
	inside := g.single()
	if g.often(3) {
		inside = "token: " + g.value(g.one("aiT6ohngoh", `""`, hash))
	}
	if g.often(5) {
		inside = g.users("u", 3)
		if g.often(2) {
			inside += ", default_permissions: { publish: \"d\" }"
		}
		if g.often(2) {
			inside += ", timeout: 1"
		}
	}
	return g.one("authorization", "authorization:", "\"authorization\" =", "Authorization") + " { " + inside + " }"
}

func (g *grammar) accounts() string {
	var list []string
	for _, name := range []string{"A", "B", "SYS", "$SYS", "$G"} {
		if name == g.system || name != "$G" && g.often(3) || g.IntN(100) == 0 {
			inside := g.one("", g.users(strings.ToLower(strings.Trim(name, "$")), 2))
			list = append(list, fmt.Sprintf("%s: { %s }", name, inside))
		}
	}
	return "accounts { " + strings.Join(list, ", ") + " }"
}

// guest is a no_auth_user: one of the users, mostly.
func (g *grammar) guest() string {
	if len(g.names) == 0 && g.often(9) {
		return "# no user can be taken"
	}
	if len(g.names) == 0 || g.IntN(20) == 0 {
		return "no_auth_user: nobody"
	}
	return "no_auth_user: " + g.value(g.names[g.IntN(len(g.names))])
}

func (g *grammar) tls(more ...string) string {
	in := []string{fmt.Sprintf("cert_file: %q, key_file: %q, ca_file: %q", filepath.Join(g.dir, "cert.pem"), filepath.Join(g.dir, "key.pem"), filepath.Join(g.dir, "ca.pem"))}
	return "tls { " + strings.Join(append(in, g.one(append(more, "verify: "+g.value("true"), "verify: false", "verify_and_map: true", "timeout: 2")...)), ", ") + " }"
}

// listener is one of the other listeners.
func (g *grammar) listener(name string, port int, more ...string) string {
	parts := append([]string{fmt.Sprintf("port: %d", port)}, more...)
	if name == "websocket" || name == "mqtt" {
		if g.often(2) {
			parts = append(parts, "authorization { "+g.one("", "timeout: 2", "token: "+g.value("Oow8aid0ah"), "user: ws, password: "+g.value("jee2Ahxoh6"), "user: ws")+" }")
		}
		if g.often(3) {
			parts = append(parts, g.guest()+"\n")
		}
	} else if g.often(6) {
		inside := g.single()
		if name == "leafnodes" && g.often(4) {
			inside = g.one("users: []", "users: [ { user: l, password: "+g.value("ieW9eing4u")+" } ]", "users: [ { user: l } ]")
		}
		parts = append(parts, "authorization { "+inside+" }")
	}
	if g.often(1) && name != "websocket" {
		parts = append(parts, g.tls())
	}
	return name + " { " + strings.Join(parts, ", ") + " }"
}

func (g *grammar) configuration() string {
	lines := []string{"port: 4222", "server_name: g"}
	if g.often(3) {
		g.system = g.one("SYS", "SYS", "A")
		lines = append(lines, "system_account: "+g.value(g.one(g.system, g.system, g.system, `"$SYS"`, `""`)))
	}
	if g.often(6) {
		lines = append(lines, g.authorization())
	}
	if g.system != "" || g.often(4) {
		lines = append(lines, g.accounts())
	}
	if g.often(3) {
		lines = append(lines, g.guest())
	}
	if g.often(2) {
		lines = append(lines, g.tls())
		if g.often(4) {
			lines = append(lines, "allow_non_tls: "+g.value(g.one("true", "false")))
		}
	}
	if g.often(3) {
		lines = append(lines, g.listener("websocket", 8080, "no_tls: true"))
	}
	if g.often(2) {
		lines = append(lines, g.listener("mqtt", 1883), "jetstream {}")
	}
	if g.often(3) {
		lines = append(lines, g.listener("leafnodes", 7422))
	}
	if g.often(3) {
		lines = append(lines, g.listener("cluster", 6222, "name: c"))
	}
	if g.often(2) && (g.system != "" || !g.often(9)) {
		lines = append(lines, g.listener("gateway", 7222, "name: c"))
	}
	if g.often(1) { // a later block of the same key counts
		lines = append(lines, g.authorization())
	}
	g.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	if g.often(2) { // what is included stands where the word does
		i := g.IntN(len(lines))
		if !strings.Contains(lines[i], "@@") {
			g.part, lines[i] = lines[i]+"\n", "include part.conf"
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

func (g *grammar) flags() []string {
	if !g.often(1) {
		return nil
	}
	return [][]string{{"--auth", "rei5Iequ6e"}, {"--user", "f", "--pass", "Aek9aech2o"}, {"--auth="}, {"-js=false"}, {"--cluster", "nats://r:p@127.0.0.1:6222"}}[g.IntN(5)]
}
