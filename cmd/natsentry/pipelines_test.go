package main

import (
	"bytes"
	"errors"
	"maps"
	"os"
	osexec "os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"
)

// The files by which others put lint into their pipelines are run here as those do:
// action.yml as GitHub runs it, .pre-commit-hooks.yaml as pre-commit does.

const repository = "../.."

// action is what GitHub reads of action.yml.
type action struct {
	Name, Description, Author string
	Branding                  map[string]string
	Inputs                    map[string]struct{ Description, Default string }
	Runs                      struct {
		Using string
		Steps []actionStep
	}
}

type actionStep struct {
	Name, If, Uses, Shell, Run string
	Env, With                  map[string]string
}

func readAction(t *testing.T) *action {
	t.Helper()
	a := &action{}
	text, err := os.ReadFile(filepath.Join(repository, "action.yml"))
	if err == nil {
		err = yaml.UnmarshalWithOptions(text, a, yaml.Strict())
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *action) step(t *testing.T, name string) *actionStep {
	t.Helper()
	for i := range a.Runs.Steps {
		if s := &a.Runs.Steps[i]; s.Name == name {
			return s
		}
	}
	t.Fatalf("action.yml has no step %s", name)
	return nil
}

var (
	expression = regexp.MustCompile(`\$\{\{\s*(.*?)\s*\}\}`)
	inputName  = regexp.MustCompile(`inputs\.([a-z-]+)`)
	longFlag   = regexp.MustCompile(`(?:^|[\s"])--([a-z][a-z-]*)`)
	shellName  = regexp.MustCompile(`\$\{?([A-Z][A-Z_]*)`)
)

// Each input is used, and is there; each flag is one of lint; nothing of an input
// is a part of a script.
func TestActionFitsTogether(t *testing.T) {
	a := readAction(t)
	if a.Runs.Using != "composite" || a.Name == "" || a.Description == "" {
		t.Errorf("%+v", a)
	}
	used, flags := map[string]bool{}, map[string]bool{}
	lint, _, err := (&program{}).root().Find([]string{"lint"})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range a.Runs.Steps {
		if expression.MatchString(s.Run) {
			t.Errorf("step %s: an expression inside of its script: whoever sets the input runs commands", s.Name)
		}
		if (s.Run != "") != (s.Shell != "") || (s.Run != "") == (s.Uses != "") {
			t.Errorf("step %+v is neither a script with a shell nor an action", s)
		}
		for _, text := range slices.Concat([]string{s.If}, slices.Collect(maps.Values(s.Env)), slices.Collect(maps.Values(s.With))) {
			for _, m := range inputName.FindAllStringSubmatch(text, -1) {
				used[m[1]] = true
			}
		}
		for _, m := range longFlag.FindAllStringSubmatch(s.Run, -1) {
			flags[m[1]] = true
			if lint.Flags().Lookup(m[1]) == nil {
				t.Errorf("lint has no flag --%s", m[1])
			}
		}
		for _, m := range shellName.FindAllStringSubmatch(s.Run, -1) {
			github := []string{"RUNNER_TEMP", "GITHUB_ACTION_PATH", "GITHUB_STEP_SUMMARY"}
			if _, ok := s.Env[m[1]]; !ok && !slices.Contains(github, m[1]) {
				t.Errorf("nobody sets %s", m[1])
			}
		}
		for name := range s.Env {
			if !regexp.MustCompile(`\$\{?` + name + `\b`).MatchString(s.Run) {
				t.Errorf("the script does not use %s", name)
			}
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(a.Inputs)), slices.Sorted(maps.Keys(used))); diff != "" {
		t.Errorf("inputs (-there +used):\n%s", diff)
	}
	for name, in := range a.Inputs {
		if in.Description == "" {
			t.Errorf("%s has no description", name)
		}
		if lint.Flags().Lookup(name) != nil && !flags[name] {
			t.Errorf("%s is not given to lint", name)
		}
	}
}

// ran is a run of the action's script.
type ran struct {
	code                    int
	stdout, stderr, summary string
	dir                     string // of the repository that is linted
}

// runner is a machine of GitHub's that has run the steps before the one that lints.
type runner struct{ bash, temp, root string }

func newRunner(t *testing.T) *runner {
	t.Helper()
	bash, err := osexec.LookPath("bash")
	if err != nil || runtime.GOOS == "windows" {
		t.Skip("takes bash")
	}
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{bash, t.TempDir(), root}
	build := r.script(t, readAction(t).step(t, "Build"), t.TempDir())
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

// script is a step's script, run in GitHub's own words for `shell: bash`.
func (r *runner) script(t *testing.T, step *actionStep, dir string) *osexec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script.sh")
	if err := os.WriteFile(file, []byte(step.Run), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.CommandContext(t.Context(), r.bash, "--noprofile", "--norc", "-eo", "pipefail", file)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GITHUB_ACTION_PATH="+r.root, "RUNNER_TEMP="+r.temp)
	return cmd
}

// lint runs the step that lints as GitHub does: in the user's repository, with the
// inputs as variables.
func (r *runner) lint(t *testing.T, files, inputs map[string]string) ran {
	t.Helper()
	a := readAction(t)
	for name := range inputs {
		if _, ok := a.Inputs[name]; !ok {
			t.Fatalf("there is no input %s", name)
		}
	}
	step, dir := a.step(t, "Lint"), confs(t, files)
	summary := filepath.Join(t.TempDir(), "summary.md")
	cmd := r.script(t, step, dir)
	cmd.Env = append(cmd.Env, "GITHUB_STEP_SUMMARY="+summary)
	for name, value := range step.Env {
		cmd.Env = append(cmd.Env, name+"="+expression.ReplaceAllStringFunc(value, func(e string) string {
			m := inputName.FindStringSubmatch(e)
			if m == nil || expression.FindStringSubmatch(e)[1] != m[0] {
				t.Fatalf("%s: only an input can be worked out here", e)
			}
			if given, ok := inputs[m[1]]; ok {
				return given
			}
			return a.Inputs[m[1]].Default
		}))
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var ended *osexec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	out := ran{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String(), dir: dir}
	if text, err := os.ReadFile(summary); err == nil {
		out.summary = string(text)
	}
	return out
}

// With nothing but its defaults the action fails on an open configuration, shows the
// line, and writes what code scanning takes.
func TestActionFindsAnOpenServer(t *testing.T) {
	r := newRunner(t).lint(t, map[string]string{"deploy/nats.conf": openConf, "deploy/shut.conf": shutConf}, nil)
	if r.code != exitFindings || !strings.HasPrefix(r.stdout, "::error file=deploy/nats.conf,line=1,col=1,title=DOOR_001::") || !strings.Contains(r.summary, "DOOR_001") {
		t.Errorf("%+v", r)
	}
	text, err := os.ReadFile(filepath.Join(r.dir, "natsentry.sarif"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := sarif.FromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Validate(); err != nil {
		t.Error(err)
	}
	results := report.Runs[0].Results
	if len(results) != 1 || *results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI != "deploy/nats.conf" {
		t.Errorf("code scanning wants paths of the repository: %s", text)
	}
}

func TestActionTakesItsInputs(t *testing.T) {
	machine := newRunner(t)
	const doubt = "authorization { token: $TOKEN }\n"
	base := exec(t, "lint", "--format", "json", "--fail-on", "none", confs(t, map[string]string{"x": ""})+"/x").stdout
	files := map[string]string{
		"a.conf": openConf, "b c.conf": shutConf, "doubt.conf": doubt, "vars.env": "TOKEN=ahsh6ieN9fai\n", "base.json": base,
		"old.conf":    "authorization { token: $TOKEN }\nserver_name: n\njetstream {}\nmqtt { port: 1 }\n",
		"policy.yaml": "waivers:\n- check: DOOR_001\n  reason: a lab\n  owner: us\n  expires: " + time.Now().AddDate(0, 1, 0).Format(time.DateOnly) + "\n",
	}
	for _, tc := range []struct {
		inputs map[string]string
		code   int
		want   string // of both streams
	}{
		{map[string]string{"paths": "b c.conf"}, 0, ""},
		{map[string]string{"paths": "b c.conf\n\na.conf\n"}, 1, "file=a.conf"},
		{map[string]string{"paths": "a.conf", "fail-on": "none"}, 0, "DOOR_001"},
		{map[string]string{"paths": "a.conf", "args": "--auth ahsh6ieN9fai"}, 0, "CRED_001"},
		{map[string]string{"paths": "a.conf", "policy": "policy.yaml"}, 0, ""},
		{map[string]string{"paths": "a.conf", "baseline": "base.json"}, 1, "DOOR_001"}, // of another file
		{map[string]string{"paths": "doubt.conf", "strict": "true"}, 2, "not decided"},
		{map[string]string{"paths": "doubt.conf", "strict": "true", "env-file": "vars.env"}, 0, ""},
		{map[string]string{"paths": "old.conf", "server-version": "2.11.14", "fail-on": "info"}, 1, "title=CVE_001::"},
		{map[string]string{"paths": "b c.conf", "sarif-file": "out/x.sarif"}, 1, "No such file or directory"}, // bash's own word
		{map[string]string{"paths": ""}, 3, "see `natsentry lint --help`"},
		{map[string]string{"paths": "--version"}, 3, "--version"},
		{map[string]string{"fail-on": "nothing"}, 3, "it must be one of"},
		{map[string]string{"strict": "perhaps"}, 3, "perhaps"},
		{map[string]string{"upload": "true", "paths": "b c.conf"}, 0, ""},
	} {
		r := machine.lint(t, files, tc.inputs)
		if r.code != tc.code || !strings.Contains(r.stdout+r.stderr, tc.want) {
			t.Errorf("%v ended with %d, want %d and %q:\n%s%s", tc.inputs, r.code, tc.code, tc.want, r.stdout, r.stderr)
		}
	}
}

// No input is run, whatever stands in it.
func TestActionRunsNoInput(t *testing.T) {
	machine := newRunner(t)
	for name := range readAction(t).Inputs {
		for _, hostile := range []string{"$(touch run)", "`touch run`", "'; touch run; '", "\"; touch run; \"", "\ntouch run\n"} {
			r := machine.lint(t, map[string]string{"a.conf": shutConf}, map[string]string{name: hostile})
			if _, err := os.Stat(filepath.Join(r.dir, "run")); err == nil {
				t.Fatalf("%s: %q was run", name, hostile)
			}
		}
	}
}

// hook is an entry of .pre-commit-hooks.yaml.
type hook struct {
	ID, Name, Description, Language, Entry, Files string
	PassFilenames                                 bool `yaml:"pass_filenames"`
}

// The hook is installed and run as pre-commit does it: go install of everything,
// then the entry with the names of the files of a commit that it is for.
func TestPreCommitHook(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, ".pre-commit-hooks.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var hooks []hook
	if err := yaml.UnmarshalWithOptions(text, &hooks, yaml.Strict()); err != nil || len(hooks) != 1 {
		t.Fatalf("%v: %+v", err, hooks)
	}
	h := hooks[0]
	if h.ID != "natsentry-lint" || h.Language != "golang" || !h.PassFilenames || h.Name == "" {
		t.Errorf("%+v", h)
	}
	bin := t.TempDir()
	run := func(dir string, env []string, words ...string) (string, int) {
		t.Helper()
		program := words[0]
		if own := filepath.Join(bin, words[0]); isFile(own) {
			program = own
		}
		cmd := osexec.CommandContext(t.Context(), program, words[1:]...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		var ended *osexec.ExitError
		if err != nil && !errors.As(err, &ended) {
			t.Fatalf("%v: %v", words, err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run(repository, []string{"GOBIN=" + bin}, "go", "install", "./..."); code != 0 {
		t.Fatalf("go install ./...: %s", out)
	}
	if !isFile(filepath.Join(bin, strings.Fields(h.Entry)[0])) && runtime.GOOS != "windows" {
		t.Fatalf("go install makes no %s", h.Entry)
	}
	for name, tc := range map[string]struct {
		files map[string]string
		code  int
		want  string
	}{
		"open": {map[string]string{"nats/n1.conf": openConf, "README.md": "# x\n"}, 1, "nats/n1.conf:1:1"},
		"shut": {map[string]string{"nats/n1.conf": shutConf, "values.yaml": "port: 4222\n"}, 0, "No findings."},
	} {
		dir := confs(t, tc.files)
		run(dir, nil, "git", "init", "-q")
		run(dir, nil, "git", "add", ".")
		listed, _ := run(dir, nil, "git", "ls-files")
		var names []string
		for file := range strings.SplitSeq(strings.TrimSpace(listed), "\n") {
			if regexp.MustCompile(h.Files).MatchString(file) {
				names = append(names, file)
			}
		}
		out, code := run(dir, nil, append(strings.Fields(h.Entry), names...)...)
		if code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: it ended with %d, want %d and %q:\n%s", name, code, tc.code, tc.want, out)
		}
	}
}

// What docs/lint.md shows of them is what they take.
func TestPipelinesInDocuments(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs", "lint.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := func(file string, into any) {
		t.Helper()
		_, rest, found := strings.Cut(string(text), "```yaml file="+file+"\n")
		block, _, closed := strings.Cut(rest, "```")
		if err := yaml.Unmarshal([]byte(block), into); err != nil || !found || !closed {
			t.Fatalf("%s: %v", file, err)
		}
	}
	var workflow struct {
		Jobs map[string]struct{ Steps []actionStep }
	}
	shown("workflow.yaml", &workflow)
	inputs := readAction(t).Inputs
	for _, s := range workflow.Jobs["nats"].Steps {
		if !strings.HasPrefix(s.Uses, "natsentry/") {
			continue
		}
		for name := range s.With {
			if _, ok := inputs[name]; !ok || len(s.With) < 3 {
				t.Errorf("the workflow gives %s, which the action does not take", name)
			}
			delete(inputs, name)
		}
	}
	for name := range inputs {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/lint.md says nothing of the input %s", name)
		}
	}
	var commits struct {
		Repos []struct {
			Hooks []struct {
				ID   string
				Args []string
			}
		}
	}
	shown("pre-commit-config.yaml", &commits)
	hook := commits.Repos[0].Hooks[0]
	dir := confs(t, map[string]string{"warned.conf": shutConf + "prof_port: 1\n"})
	if r := exec(t, slices.Concat([]string{"lint"}, hook.Args, []string{dir + "/warned.conf"})...); hook.ID != "natsentry-lint" || r.code != exitFindings {
		t.Errorf("%+v ends with %d: %s", hook, r.code, r.stderr)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
