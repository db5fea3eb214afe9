package integration

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// The linter is held against the same stranger: it sees the configuration, he
// the server that runs with it.

// lintReasons are what lint may not know, and say so.
var lintReasons = []string{
	"an auth callout decides",
	"a default sentinel is given to anonymous clients",
	"nats-server takes last",
}

// inlineSkipped are doors of these texts that are not tried, and why.
var inlineSkipped = map[string]map[string]string{
	"account without leafnodes":           {oracle.Leafnode: "the server closes the connection for the account's limit, which the oracle does not take for a decision"},
	"server/mqtt_test.go:4297:47":         {oracle.MQTT: "he passes, and then finds no JetStream for his session"},
	"server/mqtt_test.go:8133:10":         {oracle.MQTT: "he passes, and then wants more replicas than there are servers"},
	"server/auth_callout_test.go:2754:10": {oracle.Websocket: "nobody is there to decide about him"},
	"test/leafnode_test.go:1198:13":       {oracle.Leafnode: "a tenth of a second for TLS is not enough here"},
}

// linted is what lint said of a configuration.
type linted struct {
	server  *posture.Server
	results []check.Result
	block   bool
}

// lintCase lints the configuration of a case, and fails the test where it says
// that a server would not start that runs. It is nil without a file.
func lintCase(t *testing.T, c *truthCase, running *fleet.Server) *linted {
	t.Helper()
	file := c.file
	switch {
	case file != "":
	case c.bare || c.options != nil || running == nil:
		return nil
	default:
		file = running.ConfigFile()
	}
	f, err := conffile.Read(conffile.Source{Name: file, Read: conffile.Disk, Env: os.LookupEnv})
	if err != nil {
		t.Fatal(err)
	}
	return lintedFile(t, f, running)
}

// lintedFile evaluates the checks over a configuration that was read.
func lintedFile(t *testing.T, f *conffile.File, running *fleet.Server) *linted {
	t.Helper()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	snap := &posture.Snapshot{System: "truth", Config: true, Taken: time.Now(), Expected: 1, Heard: 1, Servers: []*posture.Server{f.Server}}
	l := &linted{server: f.Server, results: check.Evaluate(snap, policy)}
	for _, key := range []string{"authorization", "accounts", "operator"} {
		_, ok := f.Server.Config.Keys[key]
		l.block = l.block || ok
	}
	refused := slices.DeleteFunc(slices.Clone(f.Server.Config.Refused), func(r posture.Remark) bool {
		// The running server is given no remotes, and ports of its own.
		return slices.ContainsFunc([]string{"the second one finds the address in use", "leafnode remote", "unsupported compression mode", "{{account-hash"},
			func(part string) bool { return strings.Contains(r.Text, part) })
	})
	if running != nil && len(refused) > 0 {
		t.Errorf("WRONG: lint says that nats-server would not start: %v", refused)
	}
	if running != nil && len(f.Server.Config.Refused) > 0 {
		return nil
	}
	return l
}

// say is what lint said of one door.
func (l *linted) say(kind posture.DoorKind) *saying {
	d := l.server.Door(kind)
	out := &saying{access: d.Access, basis: d.Basis, reason: d.Reason}
	for _, r := range l.results {
		if r.Check.ID == doorChecks[kind] && r.Scope.Door == kind {
			out.pass = r.Outcome == check.Pass
			out.alarm = r.Outcome == check.Fail && r.Severity == check.Critical
		}
	}
	return out
}

// add holds a truth against what lint said. The leafnode door of lint is both
// ways in, as that of the auditor is; MQTT doors are asked about once.
func (l *linted) add(t *testing.T, tr *truth) {
	t.Helper()
	kind, ok := kinds[tr.door]
	if l == nil || !ok {
		return
	}
	tr.lint, tr.block = l.say(kind), l.block
	said := tr.lint
	unknown := said.access == posture.Unknown
	if !unknown && tr.in != (said.access == posture.Open) || tr.in && said.pass || !tr.in && said.alarm {
		t.Errorf("WRONG: lint calls the %s door %s (check passes: %v, alarms: %v), and a stranger is in: %v (%s)",
			tr.door, said.access, said.pass, said.alarm, tr.in, tr.how)
	}
	if unknown && !slices.ContainsFunc(lintReasons, func(why string) bool { return strings.Contains(said.reason, why) }) {
		t.Errorf("lint does not know the %s door: %q; a stranger is in: %v (%s)", tr.door, said.reason, tr.in, tr.how)
	}
}

// lintTruths lets the stranger try a server that cannot be audited.
func lintTruths(t *testing.T, c *truthCase, l *linted, s *fleet.Server) []truth {
	t.Helper()
	target := targetOf(s, c)
	for door := range inlineSkipped[c.name] {
		delete(target.Addresses, door)
	}
	outcomes := try(t, c, target)
	z, err := s.Embedded().Varz(nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []truth
	for _, door := range oracle.Doors() {
		o, ok := outcomes[door]
		if !ok {
			continue
		}
		tr := truth{config: c.name, door: door, in: o.In, how: o.How, unaudited: true}
		tr.in = tr.in || outcomes[overWebsocket[door]].In
		tr.flagged = door == oracle.Client && !z.AuthRequired
		l.add(t, &tr)
		out = append(out, tr)
	}
	return out
}

// startTried starts the server of a case that has options, beside another one.
func startTried(t *testing.T, c *truthCase) (*fleet.Server, error) {
	t.Helper()
	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	spec := fleet.Spec{Name: "tried", Config: c.config}
	spec.Options = func(o *server.Options) {
		c.options(func(label string) string { return f.Server("tried").Addr(label) }, o)
		o.StoreDir = t.TempDir()
	}
	return f.Add(t.Context(), spec)
}

// askLint asks lint and the stranger about every configuration.
func askLint(t *testing.T, cases []truthCase) []answer {
	t.Helper()
	return askEach(t, cases, func(t *testing.T, c *truthCase) answer {
		s, err := startTried(t, c)
		if err != nil {
			return answer{asked: true, refuse: err, lint: lintCase(t, c, nil)}
		}
		l := lintCase(t, c, s)
		return answer{asked: true, lint: l, truths: lintTruths(t, c, l, s)}
	})
}

// inlineCases are the configurations that stand in the code of nats-server's
// tests. What nats-server does not take for a configuration is left out.
func inlineCases(t *testing.T) []truthCase {
	t.Helper()
	module, root := serverModule(t), t.TempDir()
	seen := map[string]bool{}
	var cases []truthCase
	for _, folder := range []string{"server", "test"} {
		sources, err := filepath.Glob(filepath.Join(module, folder, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, source := range sources {
			set := token.NewFileSet()
			tree, err := parser.ParseFile(set, source, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil || seen[text] || !strings.ContainsAny(text, "{:=") || len(text) < 8 || strings.Contains(text, "include ") || strings.Contains(text, "resolver") && strings.Contains(text, "dir") {
					return true
				}
				seen[text] = true
				at := set.Position(lit.Pos())
				c := truthCase{name: fmt.Sprintf("%s/%s:%d:%d", folder, filepath.Base(source), at.Line, at.Column), mayRefuse: true}
				for _, filled := range fill(text) {
					if inline(t, &c, module, root, folder, filled) {
						cases = append(cases, c)
						break
					}
				}
				return true
			})
		}
	}
	return cases
}

// fill puts values in the place of formatting verbs, in several ways. Both
// parties see the same ones.
func fill(text string) []string {
	if !strings.Contains(text, "%") {
		return []string{text}
	}
	var out []string
	for _, s := range []string{"", "x"} {
		for _, d := range []string{"2", "-1", "true"} {
			out = append(out, strings.NewReplacer("%s", s, "%q", strconv.Quote(s), "%d", d, "%v", d, "%t", "true", "%f", "2.0", "%%", "%").Replace(text))
		}
	}
	return out
}

// inCode are references that hold from the folder in which nats-server's tests
// run.
var inCode = regexp.MustCompile(`["']\.(/configs/|\./test/configs/)`)

// inline makes a case of a text, if it is a configuration.
func inline(t *testing.T, c *truthCase, module, root, folder, text string) bool {
	t.Helper()
	text = inCode.ReplaceAllStringFunc(text, func(ref string) string {
		if strings.HasPrefix(ref[1:], "../") {
			return ref[:1] + filepath.ToSlash(module) + "/test/configs/"
		}
		return ref[:1] + filepath.ToSlash(filepath.Join(module, folder)) + "/configs/"
	})
	c.file = filepath.Join(root, strings.NewReplacer("/", "_", ":", "_").Replace(c.name)+".conf")
	if err := os.WriteFile(c.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(c.file)
	if err != nil || bytes.Equal([]byte(strings.TrimSpace(text)), nil) {
		return false
	}
	c.basePath = o.HTTPBasePath
	var ports strings.Builder
	for _, label := range corpusDoors(o) {
		fmt.Fprintf(&ports, "# {{port %q}}\n", label)
	}
	c.config = ports.String()
	c.options = func(label func(string) string, into *server.Options) {
		o, err := server.ProcessConfigFile(c.file)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			return
		}
		move(o, label)
		*into = *o
	}
	return true
}
