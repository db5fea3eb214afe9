package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// stdinName is what a configuration from standard input is called.
const stdinName = "stdin"

// lintFlags are the flags of lint beside those of its output.
type lintFlags struct {
	system, policy, envFile, args, baseline string
	loopbackExposed                         bool
}

func (p *program) lintCommand() *cobra.Command {
	var (
		flags           lintFlags
		strict, verbose bool
	)
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Judge configurations before a server runs with them",
		Long: `Judges configuration files of nats-server by the checks by which audit judges
running servers, and tells file and line. What counts is what nats-server would
make of a file, with its includes, variables and keys that others override; its
own code decides. Nothing is started, connected to or written, and certificates
need not be there.

A directory stands for its files *.conf, without those that others of them
include; - stands for standard input. Variables come from --env-file, and
otherwise from the environment. Exit codes:

  0  nothing at or above --fail-on
  1  findings at or above --fail-on
  2  with --strict: no such finding, but a door that may be open
  3  wrong usage, or a file that cannot be read`,
		Example: `  natsentry lint nats.conf
  natsentry lint --fail-on warning --strict deploy/
  natsentry lint --env-file prod.env --args "--auth=$TOKEN" nats.conf
  natsentry lint --format json nats.conf > report.json
  natsentry lint --format sarif deploy/ > natsentry.sarif
  natsentry lint --baseline report.json nats.conf     # only what is new counts
  natsentry lint --policy policy.yaml - < nats.conf   # findings that are accepted do not count`,
		Args:        cobra.MinimumNArgs(1),
		Annotations: offlineCommand,
	}
	failOn := chooseFlag(cmd, "fail-on", "the mildest severity that makes the exit code 1", "critical", "warning", "info", "none")
	cmd.Flags().BoolVar(&strict, "strict", false, "a door of which nobody can tell makes the exit code 2")
	format := chooseFlag(cmd, "format", "how to print the report", "text", "json", "markdown", "sarif", "junit", "github")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show info findings in full")
	cmd.Flags().StringVar(&flags.baseline, "baseline", "", "`file` with an earlier report in JSON: what it holds is accepted, and only what is new counts")
	cmd.Flags().StringVar(&flags.envFile, "env-file", "", "`file` with variables, one NAME=VALUE a line; a value is taken as it stands")
	cmd.Flags().StringVar(&flags.args, "args", "", "`flags` that nats-server is started with beside -c")
	cmd.Flags().StringVar(&flags.system, "system", "lint", "`name` of the fleet in reports")
	cmd.Flags().BoolVar(&flags.loopbackExposed, "loopback-exposed", false, "listeners on loopback count as reachable: something forwards to them")
	cmd.Flags().StringVar(&flags.policy, "policy", "", "policy `file`: the findings that are accepted, by whom, why and until when")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		l, err := p.lint(cmd.Context(), &flags, args)
		if err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		for _, note := range l.notes {
			p.note("%s", clean(note))
		}
		if err := p.printLint(l, format.value, failOn.value, verbose); err != nil {
			return err
		}
		return lintVerdict(l.report, failOn.value, strict)
	}
	return cmd
}

// linted is what came of linting.
type linted struct {
	report *finding.Report
	files  map[string]*conffile.File // by the names of their files
	notes  []string
}

// lintSource is a configuration to be judged.
type lintSource struct {
	conffile.Source
	fragment bool // it may be a part of another one, and is then none of its own
}

func (p *program) lint(ctx context.Context, flags *lintFlags, args []string) (*linted, error) {
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = flags.loopbackExposed
	if flags.policy != "" {
		if err := loadPolicy(flags.policy, &policy); err != nil {
			return nil, err
		}
	}
	accepted, err := loadBaseline(flags.baseline)
	if err != nil {
		return nil, err
	}
	words, err := splitWords(flags.args)
	if err != nil {
		return nil, fmt.Errorf("--args: %w", err)
	}
	env, err := p.lintEnv(flags.envFile)
	if err != nil {
		return nil, err
	}
	sources, err := p.lintSources(args)
	if err != nil {
		return nil, err
	}
	for i := range sources {
		sources[i].Read, sources[i].Env, sources[i].Args = conffile.Disk, env, words
	}
	began := time.Now()
	files, err := readAll(ctx, sources)
	if err != nil {
		return nil, err
	}
	l := judgeFiles(flags.system, files, policy, began)
	accepted.accept(l.report)
	return l, nil
}

// judgeFiles evaluates the checks over configurations that were read.
func judgeFiles(system string, files []*conffile.File, policy check.Policy, began time.Time) *linted {
	snap := &posture.Snapshot{System: system, Epoch: 1, Taken: time.Now(), Config: true, Expected: len(files), Heard: len(files)}
	l := &linted{files: map[string]*conffile.File{}}
	var ignores []conffile.Ignore
	for _, f := range files {
		f.Server.Looked = snap.Taken
		snap.Servers = append(snap.Servers, f.Server)
		l.files[f.Server.ID] = f
		for _, name := range f.Includes() {
			if l.files[name] == nil {
				l.files[name] = f
			}
		}
		ignores = append(ignores, f.Ignores()...)
	}
	posture.SortServers(snap.Servers)
	findings := finding.Of(snap, check.Evaluate(snap, policy), &policy)
	snap.Took = time.Since(began)
	l.notes = ignore(findings, ignores)
	finding.SortWorstFirst(findings)
	l.report = finding.NewReport(snap, findings)
	return l
}

// ignore waives the findings all of whose places a comment accepts, and says
// which comments cannot count.
func ignore(findings []finding.Finding, ignores []conffile.Ignore) []string {
	told := map[string]bool{}
	for i := range ignores {
		g := &ignores[i]
		if g.Reason == "" {
			told[fmt.Sprintf("%s: natsentry:ignore wants checks and a reason, and does not count without", g.Place)] = true
		}
		for _, id := range g.Checks {
			if check.Lookup(id) == nil {
				told[fmt.Sprintf("%s: natsentry:ignore names no check %.40q", g.Place, id)] = true
			}
		}
	}
	for i := range findings {
		f := &findings[i]
		if f.Waived != nil || f.Check == "POLICY_001" {
			continue
		}
		var by *conffile.Ignore
		placed, covered := 0, 0
		for _, e := range f.Evidence {
			if e.Place == nil {
				continue
			}
			placed++
			for j := range ignores {
				if ignores[j].Covers(f.Check, *e.Place) {
					by = &ignores[j]
					covered++
					break
				}
			}
		}
		if by != nil && covered == placed {
			f.Waived = &finding.Waiver{Reason: by.Reason, Owner: by.Place.String()}
		}
	}
	notes := make([]string, 0, len(told))
	for note := range told {
		notes = append(notes, note)
	}
	slices.Sort(notes)
	return notes
}

// lintVerdict turns a report on configurations into the program's verdict.
func lintVerdict(r *finding.Report, failOn string, strict bool) error {
	if err := judge(r, failOn, false); err != nil {
		return err
	}
	if n := len(undecidedDoors(r)); strict && n > 0 {
		return &verdict{exitUndecided, "not decided: it cannot be told whether " + plural(n, "door is open", "doors are open")}
	}
	return nil
}

// lintSources lists the configurations that arguments stand for.
func (p *program) lintSources(args []string) ([]lintSource, error) {
	var out []lintSource
	seen := map[string]bool{}
	add := func(name string, fragment bool) {
		if name = filepath.Clean(name); !seen[name] {
			seen[name] = true
			out = append(out, lintSource{conffile.Source{Name: name}, fragment})
		}
	}
	for _, arg := range args {
		if arg == "-" {
			text, err := io.ReadAll(io.LimitReader(p.stdin, conffile.MostBytes+1))
			if err != nil {
				return nil, fmt.Errorf("read standard input: %w", err)
			}
			if text == nil {
				text = []byte{}
			}
			if !seen[arg] {
				seen[arg] = true
				out = append(out, lintSource{conffile.Source{Name: stdinName, Text: text}, false})
			}
			continue
		}
		info, err := os.Stat(arg)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			add(arg, false)
			continue
		}
		before := len(out)
		err = filepath.WalkDir(arg, func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case e.IsDir() && path != arg && strings.HasPrefix(e.Name(), "."):
				return fs.SkipDir // also the hidden folders of mounted ConfigMaps
			case !e.IsDir() && filepath.Ext(path) == ".conf":
				add(path, true)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(out) == before {
			return nil, fmt.Errorf("%s: there is no file *.conf in it", arg)
		}
	}
	return out, nil
}

// readAll reads configurations, several at a time, in their order. Of a folder,
// files that others include are left out: they are parts of those.
func readAll(ctx context.Context, sources []lintSource) ([]*conffile.File, error) {
	files, errs := make([]*conffile.File, len(sources)), make([]error, len(sources))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(sources)) {
		wg.Go(func() {
			for i := range next {
				files[i], errs[i] = conffile.Read(sources[i].Source)
			}
		})
	}
	for i := range sources {
		if ctx.Err() == nil {
			next <- i
		}
	}
	close(next)
	wg.Wait()
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	part := map[string]bool{}
	for _, f := range files {
		for _, name := range f.Includes() {
			part[filepath.Clean(name)] = true
		}
	}
	out := files[:0]
	for i, f := range files {
		if !sources[i].fragment || !part[sources[i].Name] {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return files, nil // they include each other
	}
	return out, nil
}

// lintEnv gives variables: those of a file, and otherwise the environment's.
func (p *program) lintEnv(file string) (func(string) (string, bool), error) {
	env := map[string]string{}
	for _, kv := range p.env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env[name] = value
		}
	}
	if file != "" {
		text, err := conffile.Disk(file)
		if err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", file, err)
		}
		s := bufio.NewScanner(strings.NewReader(string(text)))
		s.Buffer(nil, len(text)+1)
		for n := 1; s.Scan(); n++ {
			line := strings.TrimSpace(s.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
			if !ok || strings.ContainsAny(name, " \t") || name == "" {
				return nil, fmt.Errorf("--env-file %s: line %d is not NAME=VALUE", file, n)
			}
			env[name] = value
		}
	}
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}, nil
}

// splitWords splits flags into words, as a shell does with spaces and quotes.
func splitWords(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inside = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inside {
				out = append(out, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inside {
		out = append(out, word.String())
	}
	return out, nil
}
