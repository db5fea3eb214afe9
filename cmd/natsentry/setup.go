package main

import (
	"bufio"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/service"
)

// setup is the store of `natsentry run --store`: the account that keeps, what
// the system account may use of it, and the stream and the bucket in it.
type setup struct {
	account, system, user string
	replicas              int
	maxAge                age
	shares                []service.StoreShare
}

func (p *program) setupCommand() *cobra.Command {
	var (
		s   = setup{maxAge: age{"1y", 365 * oneDay}, shares: service.StoreShares()}
		dir string
	)
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Print what natsentry run --store needs: an account, a stream, a bucket",
		Long: `Prints how to set up the store in which natsentry run --store keeps what it
tells: an account with JetStream, of which the system account may use as much as
reading and adding takes, a stream of all that was found, and a bucket of what
stands. As parts of a server's configuration file and nats commands, or as a
shell script of nsc and nats commands.

It changes nothing and connects to nothing. With --dir it writes files, for their
owner only, and overwrites none.`,
		Example: `  natsentry setup                              # configuration and nats commands, to read
  natsentry setup --dir store --replicas 3     # as files, for a cluster
  natsentry setup --format nsc --account AUDIT --system-account SYS > store.sh
  natsentry permissions --store                # the user that then runs natsentry`,
		Args:        cobra.NoArgs,
		Annotations: offlineCommand,
	}
	format := chooseFlag(cmd, "format", "how to print it", "config", "nsc")
	cmd.Flags().StringVar(&dir, "dir", "", "write files into this `directory`, and print what to do with them")
	cmd.Flags().StringVar(&s.account, "account", "AUDIT", "`name` of the account that keeps; it should serve nothing else")
	cmd.Flags().StringVar(&s.system, "system-account", "SYS", "`name` of the system account")
	cmd.Flags().StringVar(&s.user, "user", "audit", "`name` of a user of the account that keeps")
	cmd.Flags().IntVar(&s.replicas, "replicas", 1, "`copies` of what is kept, each on a server of its own")
	cmd.Flags().Var(&s.maxAge, "max-age", "how long a transition is kept, like 90d or 1y; 0 for ever")
	must(cmd.MarkFlagDirname("dir"))
	complete(cmd, "replicas", func() []string { return []string{"1", "3", "5"} })
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		if dir != "" {
			return p.setupFiles(s, dir, format.value)
		}
		return p.print(func(w *bufio.Writer) error {
			if format.value == "nsc" {
				s.script(w)
			} else {
				s.config(w)
			}
			return nil
		})
	}
	return cmd
}

func (s *setup) check() error {
	if err := checkNames(map[string]string{"account": s.account, "system-account": s.system, "user": s.user}); err != nil {
		return err
	}
	switch {
	case s.account == s.system:
		return fmt.Errorf("--account and --system-account are both %q: the system account cannot have JetStream, so name another account that keeps", s.account)
	case s.replicas < 1 || s.replicas > 5:
		return errors.New("--replicas must be 1 to 5: 3 is what a cluster wants, and 1 a server that is alone")
	case s.maxAge.d != 0 && s.maxAge.d < time.Hour:
		return errors.New("--max-age must be an hour or more, or 0 for ever")
	}
	return nil
}

// setupFiles writes the files of a set-up, and prints what comes next.
func (p *program) setupFiles(s setup, dir, format string) error {
	stream, err := s.streamFile()
	if err != nil {
		return err
	}
	files := []file{{"account.conf", part(s.accountConf)}, {"imports.conf", part(s.importsConf)}, {"stream.json", stream}}
	if format == "nsc" {
		files = []file{{"accounts.sh", part(s.accountsScript)}, {"stream.json", stream}}
	}
	if err := writeNew(dir, files); err != nil {
		return err
	}
	return p.print(func(w *bufio.Writer) error {
		fmt.Fprintf(w, "These files are in %s now:\n", cleanLines(dir))
		for _, f := range files {
			fmt.Fprintf(w, "  %s\n", f.name)
		}
		if s.replicas == 1 {
			fmt.Fprintf(w, "One copy is made of what is kept. %s\n", moreCopies)
		}
		fmt.Fprintln(w)
		if format == "nsc" {
			s.nextScript(w, dir)
		} else {
			s.nextConfig(w, dir)
		}
		return nil
	})
}

// part is a part of the output, as text.
func part(write func(*bufio.Writer)) string {
	var out strings.Builder
	w := bufio.NewWriter(&out)
	write(w)
	_ = w.Flush() // a Builder takes everything
	return out.String()
}

const oneDay = 24 * time.Hour

// age is a flag for long times, in the units that the nats command takes, too.
type age struct {
	text string
	d    time.Duration
}

func (a *age) String() string { return a.text }

// Type is what help shows for the value.
func (*age) Type() string { return "age" }

// Set implements pflag.Value.
func (a *age) Set(s string) error {
	for suffix, unit := range map[string]time.Duration{"d": oneDay, "w": 7 * oneDay, "y": 365 * oneDay} {
		if number, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseUint(number, 10, 16)
			if err != nil || time.Duration(n) > 200*365*oneDay/unit {
				return errors.New("it must look like 90d, 12w or 1y, up to 200 years")
			}
			*a = age{s, time.Duration(n) * unit}
			return nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("it must look like 12h, 90d, 12w or 1y")
	}
	*a = age{s, d}
	return nil
}
