package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// program is one run of the command line. It touches the process's streams,
// arguments and environment through its fields only, so that a test can run
// it beside others.
//
// What it may print: standard output carries the result and nothing else;
// standard error carries errors, notes and progress. No secret is printed to
// either, and no character that a terminal would obey, whoever sent it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            []string // as os.Environ gives it
	args           []string // without the program's name

	terminal func(stream any) bool // whether somebody looks at it; nil asks the system

	connection connectionFlags
}

// The exit codes. Scripts rely on them.
const (
	exitFindings    = 1 // something at or above --fail-on
	exitUndecided   = 2 // nothing found, but not everything could be seen
	exitUsageOrConn = 3 // wrong usage, no connection, or any other error
)

// verdict ends the program with a code although nothing went wrong.
type verdict struct {
	code int
	text string // told on standard error; may be empty
}

func (v *verdict) Error() string { return v.text }

// ExitCode is what the process ends with.
func (v *verdict) ExitCode() int { return v.code }

// usageError is the user's mistake. It says where to read on.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v\nsee `%s --help`", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// run executes the command line and returns the exit code.
func (p *program) run(ctx context.Context) int {
	root := p.root() //nolint:contextcheck // the commands take the context from cobra, which is given it below
	root.SetArgs(p.args)
	root.SetIn(p.stdin)
	root.SetOut(p.stdout)
	root.SetErr(p.stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if text := cleanLines(err.Error()); text != "" {
		p.note("%s", strings.ReplaceAll(text, "\n", "\n  "))
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitUsageOrConn
}

// note tells something beside the result. That it cannot be told is not
// worth an error.
func (p *program) note(format string, args ...any) {
	_, _ = fmt.Fprintf(p.stderr, "natsentry: "+format+"\n", args...)
}

// print writes a part of the result.
func (p *program) print(write func(w *bufio.Writer) error) error {
	w := bufio.NewWriter(p.stdout)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// getenv returns the last value of a variable, "" when there is none.
func (p *program) getenv(name string) string {
	for _, kv := range slices.Backward(p.env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v
		}
	}
	return ""
}

// offline marks commands that connect to nothing: their help leaves the
// connection flags out.
const offline = "offline"

var offlineCommand = map[string]string{offline: "yes"}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "natsentry",
		Short: "Audit who can walk into a fleet of NATS servers",
		Long: `natsentry tells which entries into a fleet of NATS servers open without
credentials, who has walked in, and what to do about it. It asks the servers
over the system account and changes nothing.

Connection flags and their environment variables are those of the nats command
line, and so are its contexts.`,
		Example: `  natsentry demo                          # a fleet with every kind of open door
  natsentry audit --context prod-sys      # one look, a report and an exit code
  natsentry run --context prod-sys        # keep watch and answer requests
  natsentry sessions --lockout nats.conf  # whom a configuration would lock out
  natsentry checks DOOR_001               # what a finding means
  natsentry fix DOOR_001 n1 --dir fix     # the configuration that closes it, proven`,
		Args:              cobra.ArbitraryArgs,
		RunE:              help,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: p.fromEnvironment,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return &usageError{cmd.CommandPath(), err} })
	root.SetUsageTemplate(strings.NewReplacer(
		"{{if .HasAvailableInheritedFlags}}", `{{if and .HasAvailableInheritedFlags (not (index .Annotations "`+offline+`"))}}`,
		"Global Flags:", "Connection Flags:",
	).Replace(root.UsageTemplate()))
	p.connection.register(root, p)
	root.AddCommand(
		p.auditCommand(), p.lintCommand(), p.probeCommand(), p.sessionsCommand(), p.runCommand(), p.watchCommand(), p.historyCommand(), p.demoCommand(),
		p.checksCommand(), p.advisoriesCommand(), p.fixCommand(), p.permissionsCommand(), p.setupCommand(), p.versionCommand(), p.completionCommand(),
	)
	for _, cmd := range root.Commands() {
		cmd.Flags().SortFlags = false
		if args := cmd.Args; args != nil {
			cmd.Args = func(cmd *cobra.Command, given []string) error {
				if err := args(cmd, given); err != nil {
					return &usageError{cmd.CommandPath(), err}
				}
				return nil
			}
		}
	}
	return root
}

// help is what natsentry does without a command.
func help(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := fmt.Errorf("there is no command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
	}
	return &usageError{cmd.CommandPath(), err}
}

// envAnnotation names the environment variable that stands in for a flag.
const envAnnotation = "natsentry_env"

// fromEnvironment gives the flags that were not named the values of their
// environment variables. An empty variable counts as none.
func (p *program) fromEnvironment(cmd *cobra.Command, _ []string) error {
	var wrong error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		names := f.Annotations[envAnnotation]
		if len(names) == 0 || f.Changed || wrong != nil {
			return
		}
		if value := p.getenv(names[0]); value != "" {
			if err := f.Value.Set(value); err != nil {
				// The value is not repeated: it may be a secret.
				wrong = &usageError{cmd.CommandPath(), fmt.Errorf("the environment variable %s is no valid --%s", names[0], f.Name)}
			}
		}
	})
	return wrong
}

// choice is a flag that takes one of a few words.
type choice struct {
	value string
	words []string
}

func (c *choice) String() string { return c.value }

// Type is what help shows for the value.
func (c *choice) Type() string { return strings.Join(c.words, "|") }

// Set implements pflag.Value.
func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("it must be one of %s", strings.Join(c.words, ", "))
	}
	c.value = s
	return nil
}

// chooseFlag adds a flag that takes one of a few words, the first by default.
func chooseFlag(cmd *cobra.Command, name, usage string, words ...string) *choice {
	c := &choice{value: words[0], words: words}
	cmd.Flags().Var(c, name, usage)
	complete(cmd, name, func() []string { return words })
	return c
}

// complete makes the shell offer values of a flag, and no files.
func complete(cmd *cobra.Command, flag string, values func() []string) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return values(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // a flag of this program that this program does not have
	}
}
