package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/manifest"
	"github.com/natsentry/natsentry/agent/posture"
)

// stdinName is what a configuration from standard input is called.
const stdinName = "stdin"

// lintFlags are the flags of lint beside those of its output.
type lintFlags struct {
	system, policy, envFile, args, baseline string
	running                                 string
	argsKnown                               bool // all of them were told, if only that there are none
	wait                                    time.Duration
	version                                 releaseFlag
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
own code decides. Nothing is started or written, and certificates need not be
there. Nothing is connected to, either, unless --running names a server: then the
file is compared with what that one runs, and told what a reload or restart does.

A directory stands for its files *.conf, without those that others of them
include or that are of other programs, and for its Kubernetes manifests; - stands
for standard input. Variables come from --env-file, and otherwise from the
environment.

Kubernetes manifests, such as a rendered Helm chart, are read as the containers of
nats-server see them: the configuration that each names, out of the ConfigMap or
Secret that is mounted there, with its flags and variables. Exit codes:

  0  nothing at or above --fail-on
  1  findings at or above --fail-on
  2  no such finding, but a part of a configuration is not among the manifests, or
     it cannot be compared with what runs; with --strict: but a door that may be open
  3  wrong usage, a file that cannot be read, or no connection

` + nagiosHelp,
		Example: `  natsentry lint nats.conf
  natsentry lint --fail-on warning --strict deploy/
  natsentry lint --server-version 2.12.3 nats.conf   # what is known of that version?
  natsentry lint --env-file prod.env --args "--auth=$TOKEN" nats.conf
  helm template nats nats/nats | natsentry lint -
  natsentry lint --format json nats.conf > report.json
  natsentry lint --running n1 --context prod-sys nats.conf   # is this what n1 runs?
  natsentry lint --format sarif deploy/ > natsentry.sarif
  natsentry lint --baseline report.json nats.conf     # only what is new counts
  natsentry lint --policy policy.yaml - < nats.conf   # findings that are accepted do not count`,
		Args: cobra.MinimumNArgs(1),
	}
	failOn := chooseFlag(cmd, "fail-on", "the mildest severity that makes the exit code 1", "critical", "warning", "info", "none")
	cmd.Flags().BoolVar(&strict, "strict", false, "a door of which nobody can tell makes the exit code 2")
	format := chooseFlag(cmd, "format", "how to print the report", "text", "json", "markdown", "sarif", "junit", "github", nagiosFormat)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show info findings in full")
	cmd.Flags().StringVar(&flags.baseline, "baseline", "", "`file` with an earlier report in JSON: what it holds is accepted, and only what is new counts")
	cmd.Flags().StringVar(&flags.envFile, "env-file", "", "`file` with variables, one NAME=VALUE a line; a value is taken as it stands")
	cmd.Flags().StringVar(&flags.args, "args", "", "`flags` that nats-server is started with beside -c")
	cmd.Flags().Var(&flags.version, "server-version", "`version` of nats-server that will run with it, where no image tells: known vulnerabilities are found then")
	complete(cmd, "server-version", func() []string { return nil })
	cmd.Flags().StringVar(&flags.running, "running", "", "name or id of the `server` that is meant to run with it: compares the two, over the system account")
	cmd.Flags().DurationVar(&flags.wait, "wait", 2*time.Second, "with --running: how long to wait for silent servers")
	cmd.Flags().StringVar(&flags.system, "system", "lint", "`name` of the fleet in reports")
	cmd.Flags().BoolVar(&flags.loopbackExposed, "loopback-exposed", false, "listeners on loopback count as reachable: something forwards to them")
	cmd.Flags().StringVar(&flags.policy, "policy", "", "policy `file`: the findings that are accepted, by whom, why and until when")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		flags.argsKnown = cmd.Flags().Changed("args")
		running, err := flags.askRunning(p, cmd)
		if err != nil {
			return p.asPlugin(format.value, err)
		}
		l, err := p.lint(cmd.Context(), &flags, running, args)
		if err != nil {
			return p.asPlugin(format.value, &usageError{cmd.CommandPath(), err})
		}
		for _, note := range l.notes {
			p.note("%s", clean(note))
		}
		if format.value == nagiosFormat {
			return p.reportToNagios(cmd, l.report, failOn.value, l.undecided(strict))
		}
		if err := p.printLint(l, format.value, failOn.value, verbose); err != nil {
			return err
		}
		return lintVerdict(l, failOn.value, strict)
	}
	return cmd
}

// linted is what came of linting.
type linted struct {
	report *finding.Report
	files  map[string]*conffile.File // by the names of their files
	notes  []string

	compared *compared // with what runs; nil where that is a finding, or was not asked for

	// By the identities of the configurations:
	places  map[string]posture.Place // where each stands as a whole
	absent  map[string]bool          // those of which a part is not here
	refused map[string]bool          // those with which no server would start
}

// lintSource is a configuration to be judged.
type lintSource struct {
	conffile.Source
	fragment bool // it may be a part of another one, and is then none of its own
	manifest *manifest.Configuration
}

func (s *lintSource) read() (*conffile.File, error) {
	if s.manifest != nil {
		return s.manifest.File()
	}
	return conffile.Read(s.Source)
}

func (p *program) lint(ctx context.Context, flags *lintFlags, running *posture.Server, args []string) (*linted, error) {
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
	in := &lintInput{words: words, env: env.any, version: string(flags.version)}
	if running != nil {
		in.version = cmp.Or(in.version, running.Version)
	}
	if err := p.lintSources(in, args); err != nil {
		return nil, err
	}
	inManifests, err := in.manifests(env.file)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	files, err := readAll(ctx, in.sources)
	if err != nil {
		return nil, err
	}
	if running != nil {
		if len(files) != 1 {
			return nil, fmt.Errorf("--running: %d configurations cannot all be what one server runs; name one", len(files))
		}
		c := files[0].Server.Config
		c.Running, c.FlagsKnown = running, flags.argsKnown || len(inManifests) > 0
	}
	l := judgeFiles(flags.system, files, policy, began)
	parts := map[string]bool{}
	for i := range in.sources {
		parts[in.sources[i].Name] = true // named itself, beside its folder
	}
	for _, f := range files {
		for _, name := range f.Includes() {
			parts[filepath.Clean(name)] = true
		}
	}
	l.notes = slices.Concat(in.notes, in.notJudged(parts), in.set.Left(inManifests), l.notes)
	accepted.accept(l.report)
	return l, nil
}

// judgeFiles evaluates the checks over configurations that were read.
func judgeFiles(system string, files []*conffile.File, policy check.Policy, began time.Time) *linted {
	snap := &posture.Snapshot{System: system, Epoch: 1, Taken: time.Now(), Config: true, Expected: len(files), Heard: len(files)}
	l := &linted{files: map[string]*conffile.File{}, places: map[string]posture.Place{}, absent: map[string]bool{}, refused: map[string]bool{}}
	var ignores []conffile.Ignore
	for _, f := range files {
		f.Server.Looked = snap.Taken
		snap.Servers = append(snap.Servers, f.Server)
		c := f.Server.Config
		l.places[f.Server.ID] = c.Whole()
		if len(c.Absent) > 0 {
			l.absent[f.Server.ID], l.places[f.Server.ID] = true, c.Absent[0].Place
		}
		if len(c.Refused) > 0 {
			l.refused[f.Server.ID] = true
		}
		for _, name := range f.Shown() {
			if l.files[name] == nil {
				l.files[name] = f
			}
		}
		ignores = append(ignores, f.Ignores()...)
	}
	posture.SortServers(snap.Servers)
	results := check.Evaluate(snap, policy)
	l.compare(results)
	findings := finding.Of(snap, results, &policy)
	snap.Took = time.Since(began)
	l.notes = ignore(findings, ignores)
	finding.SortWorstFirst(findings)
	l.report = finding.NewReport(snap, findings)
	return l
}

// lintVerdict turns a report on configurations into the program's verdict.
func lintVerdict(l *linted, failOn string, strict bool) error {
	if err := judge(l.report, failOn, false); err != nil {
		return err
	}
	if failOn == "none" && !strict {
		return nil
	}
	return l.undecided(strict)
}

// undecided is the verdict on what cannot be told, nil where all can.
func (l *linted) undecided(strict bool) error {
	if n := len(l.absent); n > 0 {
		return &verdict{exitUndecided, "not decided: a part of " + plural(n, "configuration is", "configurations are") + " not here"}
	}
	if l.compared != nil && l.compared.outcome == check.Unknown {
		return &verdict{exitUndecided, "not decided: it cannot be told whether it is what runs"}
	}
	if n := len(undecidedDoors(l.report)); strict && n > 0 {
		return &verdict{exitUndecided, "not decided: it cannot be told whether " + plural(n, "door is open", "doors are open")}
	}
	return nil
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
				files[i], errs[i] = sources[i].read()
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
	type path struct {
		pod  bool
		name string
	}
	part := map[path]bool{}
	for i, f := range files {
		for _, name := range f.Includes() {
			part[path{sources[i].manifest != nil, filepath.Clean(name)}] = true
		}
	}
	out := files[:0]
	for i, f := range files {
		own := path{name: sources[i].Name}
		if m := sources[i].manifest; m != nil {
			own = path{true, filepath.Clean(m.Path)}
		}
		if !sources[i].fragment || !part[own] {
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		return files, nil // they include each other
	}
	return out, nil
}
