//go:build unix

package integration

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

//go:generate go test . -run ^TestAccuracy$ -update

// enoughVerdicts is how many doors must at least stand behind the page.
const enoughVerdicts = 250

// TestAccuracy asks both parties about every configuration, written by hand
// and of nats-server itself, and holds docs/accuracy.md against the counts. To
// write the page anew:
//
//	go test ./integration -run '^TestAccuracy$' -update
func TestAccuracy(t *testing.T) {
	askManifests := manifestCases(t) // before others run: nats-server keeps flags in a global variable
	t.Parallel()
	var hand, corpus, inline, manifests []answer
	t.Run("hand", func(t *testing.T) { hand = askAll(t, truthCases(t)) })
	files := corpusCases(t)
	t.Run("corpus", func(t *testing.T) {
		var cases []truthCase
		for _, f := range files {
			if f.unreadable == "" && f.deaf == "" {
				cases = append(cases, f.truthCase)
			}
		}
		corpus = askAll(t, cases)
	})
	t.Run("inline", func(t *testing.T) { inline = askLint(t, inlineCases(t)) })
	t.Run("manifests", func(t *testing.T) { manifests = askManifests(t) })
	if t.Failed() || fleet.UnderRace {
		return // of a sample there is no page
	}
	all := [][]answer{hand, corpus, inline, manifests}
	if slices.ContainsFunc(all, func(some []answer) bool {
		return len(some) == 0 || slices.ContainsFunc(some, func(a answer) bool { return !a.asked })
	}) {
		t.Skip("the page needs all configurations")
	}
	page, verdicts := accuracyPage(hand, corpus, inline, manifests, files)
	if verdicts < enoughVerdicts {
		t.Errorf("only %d verdicts, want %d", verdicts, enoughVerdicts)
	}
	path := filepath.Join("..", "docs", "accuracy.md")
	if *update {
		if err := os.WriteFile(path, page, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(was), string(page)); diff != "" {
		t.Errorf("docs/accuracy.md is not true any more; run go generate ./integration (-there +now):\n%s", diff)
	}
}

// tally counts verdicts by what the stranger found and what the auditor said.
type tally struct {
	in, out [4]int // by posture.Access
}

func (c *tally) add(in bool, said posture.Access) {
	if said == posture.Off {
		said = posture.Closed // no listener lets nobody in
	}
	if in {
		c.in[said]++
	} else {
		c.out[said]++
	}
}

func (c *tally) sum() int {
	n := 0
	for i := range c.in {
		n += c.in[i] + c.out[i]
	}
	return n
}

func (c *tally) plus(other *tally) {
	for i := range c.in {
		c.in[i] += other.in[i]
		c.out[i] += other.out[i]
	}
}

func (c *tally) row(name string) string {
	const o, shut, u = posture.Open, posture.Closed, posture.Unknown
	return fmt.Sprintf("| %s | %d | %d | %s | %d | %d | %s | %d |\n",
		name, c.sum(), c.in[o], bold(c.in[shut]), c.in[u], c.out[shut], bold(c.out[o]), c.out[u])
}

func bold(n int) string {
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("**%d**", n)
}

const accuracyHead = "| %s | Verdicts | in: open | in: closed | in: unknown | out: closed | out: open | out: unknown |\n|---|--:|--:|--:|--:|--:|--:|--:|\n"

// accuracyPage writes the counts down.
func accuracyPage(hand, corpus, inline, manifests []answer, files []corpusCase) (page []byte, verdicts int) {
	var p bytes.Buffer
	say := func(format string, v ...any) { fmt.Fprintf(&p, format, v...) }
	doors, rule := map[string]*tally{}, &tally{}
	client := &tally{}
	sources := [2]*tally{{}, {}}
	unknowns := map[string]int{}
	for i, answers := range [][]answer{hand, corpus} {
		for _, a := range answers {
			for _, tr := range a.truths {
				if tr.unaudited {
					continue
				}
				if doors[tr.door] == nil {
					doors[tr.door] = &tally{}
				}
				doors[tr.door].add(tr.in, tr.access)
				sources[i].add(tr.in, tr.access)
				if tr.access == posture.Unknown {
					unknowns[tr.door+" | "+broken.ReplaceAllString(tr.reason, "")]++
				}
				if tr.door == oracle.Client {
					client.add(tr.in, tr.access)
					said := posture.Closed
					if tr.flagged {
						said = posture.Open
					}
					rule.add(tr.in, said)
				}
			}
		}
	}
	total := &tally{}
	for _, c := range sources {
		total.plus(c)
	}

	say("<!-- Written by `go generate ./integration`; do not edit. -->\n\n# How often it is right\n\n")
	say(`A test starts real servers (nats-server %s) and asks two parties about each of
their doors: natsentry, which asks over the system account and touches; and a
stranger who really tries to get in, with nothing of natsentry's code. He is a
client that moves a message, a leafnode, cluster member or gateway that joins,
an MQTT session, a request to the monitoring; he has no credentials and no
certificate. The two see two servers of the same configuration. The test fails
when they disagree, or when natsentry does not know and its reason is a new one.

`, server.VERSION)
	say("## Doors\n\n")
	say("*in* means that the stranger got in, *out* that he did not; after it stands what\nnatsentry said. The two columns that must be zero are `in: closed` and `out: open`.\n\n")
	say(accuracyHead, "Door")
	for _, door := range truthDoors() {
		if doors[door] != nil {
			say("%s", doors[door].row(door))
		}
	}
	say("%s\n", total.row("all"))
	say("A leafnode or MQTT door counts as open when either of its two ways in is: its own\nport, or the websocket port. The path of MQTT there is never touched, since that has\ncrashed servers. MQTT doors are judged twice: as they are by default, when they are\nnot touched because that would leave streams behind, and with `--probe-mqtt`.\n\n")

	say("## The flag\n\nWhat a look at `auth_required` in VARZ would have said of the client doors: absent\nmeans open.\n\n")
	say(accuracyHead, "Client doors by")
	say("%s%s\n", client.row("natsentry"), rule.row("the flag"))

	say("## Where the configurations come from\n\n")
	say(accuracyHead, "Source")
	read, refused := 0, map[string]string{}
	for _, f := range files {
		switch {
		case f.unreadable != "":
			refused[f.name] = f.unreadable
		case f.deaf != "":
			refused[f.name] = "starts, but cannot be audited: " + f.deaf
		default:
			switch why := corpus[read].refuse; {
			case errors.Is(why, errNoSystem):
				refused[f.name] = "starts, but cannot be audited: " + why.Error()
			case why != nil:
				refused[f.name] = why.Error()
			}
			read++
		}
	}
	say("%s", sources[0].row(fmt.Sprintf("written by hand: %d configurations", len(hand))))
	say("%s\n", sources[1].row(fmt.Sprintf("nats-server's own tests: %d of %d files", len(files)-len(refused), len(files))))
	say("Of nats-server's files, listeners move to loopback, and connections to other\nservers are left out. These are not counted:\n\n| File | Why |\n|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		say("| `%s` | %s |\n", name, cell(refused[name]))
	}

	p.Write(lintSection(hand, corpus, inline, manifests))

	say("\n## What it does not know\n\n| Door | Reason that it gives | Verdicts |\n|---|---|--:|\n")
	for _, key := range slices.Sorted(maps.Keys(unknowns)) {
		door, reason, _ := strings.Cut(key, " | ")
		say("| %s | %s | %d |\n", door, cell(cmp.Or(reason, "none")), unknowns[key])
	}

	say("\n## Where it is wrong\n\n")
	if len(knownWrong) == 0 {
		say("Nowhere in these configurations.\n")
	} else {
		say("| Configuration | Door | Why |\n|---|---|---|\n")
		for _, config := range slices.Sorted(maps.Keys(knownWrong)) {
			for _, door := range slices.Sorted(maps.Keys(knownWrong[config])) {
				say("| %s | %s | %s |\n", config, door, knownWrong[config][door])
			}
		}
	}
	say("%s", notCounted)
	return p.Bytes(), total.sum()
}

// lintSection writes down how often lint is right, beside the two rules that
// are commonly given instead.
func lintSection(hand, corpus, inline, manifests []answer) []byte {
	var p bytes.Buffer
	say := func(format string, v ...any) { fmt.Fprintf(&p, format, v...) }
	doors, unknowns := map[string]*tally{}, map[string]int{}
	client, block, flag := &tally{}, &tally{}, &tally{}
	sources := [4]*tally{{}, {}, {}, {}}
	judged, bothRefuse, onlyServer := [4]int{}, 0, 0
	for i, answers := range [][]answer{hand, corpus, inline, manifests} {
		for _, a := range answers {
			switch {
			case a.lint == nil:
			case a.refuse != nil && len(a.lint.server.Config.Refused) > 0:
				bothRefuse++
			case a.refuse != nil && !errors.Is(a.refuse, errNoSystem):
				onlyServer++
			default:
				judged[i]++
			}
			for _, tr := range a.truths {
				if tr.lint == nil {
					continue
				}
				if doors[tr.door] == nil {
					doors[tr.door] = &tally{}
				}
				doors[tr.door].add(tr.in, tr.lint.access)
				sources[i].add(tr.in, tr.lint.access)
				if tr.lint.access == posture.Unknown {
					unknowns[tr.door+" | "+tr.lint.reason]++
				}
				if tr.door == oracle.Client {
					client.add(tr.in, tr.lint.access)
					block.add(tr.in, ifThen(tr.block, posture.Closed, posture.Open))
					flag.add(tr.in, ifThen(tr.flagged, posture.Open, posture.Closed))
				}
			}
		}
	}
	total := &tally{}
	for _, c := range sources {
		total.plus(c)
	}
	say("\n## Configurations\n\nWhat `natsentry lint` says of a configuration, against the same stranger at a server\nthat runs with it. The same columns must be zero.\n\n")
	say(accuracyHead, "Door")
	for _, door := range oracle.Doors() {
		if doors[door] != nil {
			say("%s", doors[door].row(door))
		}
	}
	say("%s\n", total.row("all"))
	say(accuracyHead, "Source")
	say("%s", sources[0].row(fmt.Sprintf("written by hand: %d configurations", judged[0])))
	say("%s", sources[1].row(fmt.Sprintf("files of nats-server's tests: %d", judged[1])))
	say("%s", sources[2].row(fmt.Sprintf("in the code of nats-server's tests: %d", judged[2])))
	say("%s\n", sources[3].row(fmt.Sprintf("in Kubernetes manifests: %d", judged[3])))
	say("Of those in code, formatting verbs are replaced by values that the server takes. The\nmanifests are about what the official Helm chart renders; the server runs with the files\nand flags of the container.\n\n")
	say("The client doors of these configurations by what is commonly advised instead: to look\nfor an `authorization`, `accounts` or `operator` block in the file, or for `Auth\nRequired: true` in `nats server info` once the server runs.\n\n")
	say(accuracyHead, "Client doors by")
	say("%s%s%s\n", client.row("natsentry lint"), block.row("a block in the file"), flag.row("Auth Required: true"))
	say("Of %d configurations with which a server starts, lint refuses none. Of %d with which\nit does not start here, lint refuses %d; the others want certificates, ports or folders\nthat lint does not look at.\n\n",
		judged[0]+judged[1]+judged[2]+judged[3], bothRefuse+onlyServer, bothRefuse)
	say("Beside these, every run of the tests has a grammar of the keys that decide who gets in\nwrite %d more configurations, and holds what lint says of them against a server and the\nsame stranger. Other seeds give others: `NATSENTRY_GRAMMAR_SEED=7 go test ./integration\n-run TestGrammar`.\n\n", grammarCases)
	say("| Door | What lint does not know, and why | Verdicts |\n|---|---|--:|\n")
	for _, key := range slices.Sorted(maps.Keys(unknowns)) {
		door, reason, _ := strings.Cut(key, " | ")
		say("| %s | %s | %d |\n", door, cell(reason), unknowns[key])
	}
	return p.Bytes()
}

func ifThen(yes bool, then, otherwise posture.Access) posture.Access {
	if yes {
		return then
	}
	return otherwise
}

const notCounted = `
## What is not counted

- Profiling ports: nothing that a server answers shows them.
- Strangers with more than nothing: a certificate of the server's CA, or the name of
  a user without password.
- Servers that are full: they turn away everybody.
- Listeners that are hard to reach. Here all are on loopback. Another test holds the
  same against servers that advertise other addresses, share a load balancer, or answer
  nobody.
- Other releases. Another test asks the same of fewer configurations on real servers
  of the lines 2.9 to 2.14.
`

// Words that differ from run to run.
var (
	passing = regexp.MustCompile(`^server tried: (start: )?| \(\d{5}\)`)
	broken  = regexp.MustCompile(`(?i)(: the connection was closed without a verdict|: no greeting: .*|: .*connection reset.*|: .*broken pipe.*|: EOF)$`)
)

func cell(s string) string {
	s = passing.ReplaceAllString(s, "")
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", `\<`).Replace(s)
}
