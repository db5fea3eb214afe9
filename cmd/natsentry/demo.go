package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// demoInterval is short, so that whoever tries something sees what it does.
const demoInterval = 2 * time.Second

func (p *program) demoCommand() *cobra.Command {
	var once, verbose, operator bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start a fleet with every kind of open door, and audit it",
		Long: `Starts a fleet of real nats-servers inside of this process, each named for the
door that it leaves open, and an agent that audits it. Prints the report and
the nats commands to try, then what changes, until it is interrupted.

With --operator it is a cluster in operator mode: an operator, accounts and
their JWTs, each account named for what is wrong with it.

Everything listens on loopback only. So that it counts, the demonstration
takes loopback listeners for reachable, as natsentry audit does with
--loopback-exposed.`,
		Example: `  natsentry demo
  natsentry demo --operator
  natsentry demo --once
  natsentry demo --once --format json > report.json`,
		Args:        cobra.NoArgs,
		Annotations: offlineCommand,
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one report and end, with exit code 0")
	cmd.Flags().BoolVar(&operator, "operator", false, "a fleet in operator mode")
	format := chooseFlag(cmd, "format", "how to print the report", "text", "json", "markdown")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show info findings and all evidence in full")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !once && format.value != "text" {
			return &usageError{cmd.CommandPath(), errors.New("--format is for --once")}
		}
		d, err := doorDemo(), error(nil)
		if operator {
			d, err = operatorDemo()
		}
		if err != nil {
			return err
		}
		err = p.demo(cmd.Context(), d, once, format.value, verbose)
		if cmd.Context().Err() != nil && errors.Is(err, context.Canceled) {
			return nil // interrupted while starting
		}
		return err
	}
	return cmd
}

// demonstration is a fleet to show, and how to log in to it.
type demonstration struct {
	specs []fleet.Spec
	login nats.Option
	flags func(*fleet.Fleet) string // that log the nats command in
	plant func(context.Context, *fleet.Fleet) (leave func(), err error)
	try   func(f *fleet.Fleet, login string) []hint
}

// hint is a command to try.
type hint struct{ what, command string }

func doorDemo() *demonstration {
	return &demonstration{
		specs: fleet.Demo(), login: nats.UserInfo(fleet.DemoSystemUser, fleet.DemoSystemPassword), plant: fleet.DemoSessions,
		flags: func(*fleet.Fleet) string {
			return fmt.Sprintf("--user %s --password %s", fleet.DemoSystemUser, fleet.DemoSystemPassword)
		},
		try: func(f *fleet.Fleet, _ string) []hint {
			return []hint{{"be a stranger, and be seen", fmt.Sprintf("nats --no-context --server %s sub '>'", f.Server("no-auth").URL())}}
		},
	}
}

func operatorDemo() (*demonstration, error) {
	d, err := fleet.NewOperatorDemo()
	if err != nil {
		return nil, fmt.Errorf("the demonstration: %w", err)
	}
	return &demonstration{
		specs: d.Specs(), login: d.Login(), plant: d.Plant,
		flags: func(f *fleet.Fleet) string { return "--creds " + d.CredsFile(f) },
		try: func(f *fleet.Fleet, login string) []hint {
			return []hint{
				{"be a stranger in operator mode, and be let in", fmt.Sprintf("nats --no-context --server %s rtt", f.Server("sentinel").URL())},
				{"which accounts the stores hold", login + " req '$SYS.REQ.CLAIMS.LIST' '' --replies 0 --timeout 1s"},
			}
		},
	}, nil
}

func (p *program) demo(ctx context.Context, demo *demonstration, once bool, format string, verbose bool) (err error) {
	done := p.progress("starting the fleet")
	defer done()
	f, err := fleet.Start(ctx, demo.specs...)
	if err != nil {
		return fmt.Errorf("the demonstration fleet did not start: %w", err)
	}
	defer func() {
		defer p.progress("stopping the fleet")()
		err = errors.Join(err, f.Close())
	}()
	url := f.Server("safe").URL()
	if err := f.WaitActive(ctx, url, len(f.Servers()), demo.login); err != nil {
		return fmt.Errorf("the demonstration fleet did not form: %w", err)
	}
	leave, err := demo.plant(ctx, f)
	if err != nil {
		return fmt.Errorf("the demonstration could not be set up: %w", err)
	}
	defer leave()
	done()

	t := &target{name: "demo", servers: url, redacted: url, explicit: true, opts: []nats.Option{demo.login, nats.CustomInboxPrefix(inboxPrefix)}}
	nc, err := p.connect(ctx, t, nil)
	if err != nil {
		return err
	}
	defer nc.Close()
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	changes := &changeLines{write: p.lineWriter("text")}
	d := &daemon{
		nc: nc, prefix: service.DefaultPrefix, log: slog.New(slog.DiscardHandler), sinks: []agent.Sink{changes},
		cfg: agent.Config{
			System: "demo", Interval: demoInterval, SessionInterval: demoInterval,
			EveryoneInterval: demoInterval, AccountInterval: demoInterval, Policy: policy,
		},
	}
	if err := d.start(); err != nil {
		return err
	}
	defer d.stop()
	state, err := d.agent.Sweep(ctx, true)
	if err != nil {
		return err
	}
	if err := p.printReport(state.Report(), format, verbose); err != nil {
		return err
	}
	if once && format != "text" {
		return nil
	}
	if err := p.print(func(w *bufio.Writer) error {
		fmt.Fprint(w, "\nThe servers listen on loopback; here that counts as reachable (--loopback-exposed).\n")
		return nil
	}); err != nil || once {
		return err
	}
	if err := p.print(func(w *bufio.Writer) error { return demo.hints(w, f, p.colourful(p.stdout)) }); err != nil {
		return err
	}
	changes.live = true
	if err := d.agent.Run(ctx); err != nil {
		return err
	}
	return changes.err
}

// hints prints what to try.
func (d *demonstration) hints(w *bufio.Writer, f *fleet.Fleet, colour bool) error {
	s := style{colour}
	flags := "--server " + f.Server("safe").URL() + " " + d.flags(f)
	login := "nats " + flags
	fmt.Fprintf(w, "\n%s\n", s.in(bold, "Try, in another terminal"))
	all := []hint{
		{"the report", login + " req audit.auth ''"},
		{"findings as they come", login + " sub 'audit.auth.finding.>'"},
		{"the service", login + " micro info natsentry"},
	}
	all = append(all, d.try(f, login)...)
	for _, h := range append(all, hint{"what became of it all", "natsentry history " + flags}) {
		fmt.Fprintf(w, "  # %s\n  %s\n", h.what, s.in(blue, h.command))
	}
	fmt.Fprintf(w, "\n%s\n", s.in(bold, "What changes from now on (Ctrl-C ends it)"))
	return nil
}

// changeLines is a sink that prints transitions once it is live.
type changeLines struct {
	write func(*finding.Finding) error
	live  bool // set before the agent's loop begins
	err   error
}

func (c *changeLines) Judged(_ context.Context, _ *agent.State, transitions []finding.Entry) {
	for i := range transitions {
		if c.live && c.err == nil {
			c.err = c.write(&transitions[i].Finding)
		}
	}
}
