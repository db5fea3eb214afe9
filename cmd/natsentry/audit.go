package main

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// sweepFlags are the flags of the commands that sweep.
type sweepFlags struct {
	system          string
	wait            time.Duration
	loopbackExposed bool
	policy          string
	accounts        int
	probe           agent.Probe
}

func (f *sweepFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.system, "system", "", "`name` of the fleet in reports (default: the context's name, else \"nats\")")
	cmd.Flags().DurationVar(&f.wait, "wait", 2*time.Second, "how long a sweep waits for silent servers")
	cmd.Flags().BoolVar(&f.probe.Off, "no-probe", false, "touch no door: verdicts rest on the servers' own word")
	cmd.Flags().BoolVar(&f.probe.MQTT, "probe-mqtt", false, "touch MQTT doors as well: an open one then creates its streams, if it has not yet")
	cmd.Flags().IntVar(&f.probe.Parallel, "probe-parallel", 16, "`servers` that are touched at once")
	cmd.Flags().BoolVar(&f.loopbackExposed, "loopback-exposed", false, "listeners on loopback count as reachable: something forwards to them")
	cmd.Flags().IntVar(&f.accounts, "accounts", 0, "at most this `number` of accounts of servers in operator mode in one look (default: a single audit takes all of them within 30 seconds and 256 MiB, a running agent 256)")
	cmd.Flags().StringVar(&f.policy, "policy", "", "policy `file`: the findings that are accepted, by whom, why and until when")
}

// judgeBy is the policy that the flags describe.
func (f *sweepFlags) judgeBy() (check.Policy, error) {
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = f.loopbackExposed
	if f.policy == "" {
		return policy, nil
	}
	return policy, loadPolicy(f.policy, &policy)
}

func (f *sweepFlags) config(t *target) (agent.Config, error) {
	if f.wait <= 0 {
		return agent.Config{}, errors.New("--wait must be positive")
	}
	if f.probe.Parallel <= 0 {
		return agent.Config{}, errors.New("--probe-parallel must be positive")
	}
	if f.accounts < 0 {
		return agent.Config{}, errors.New("--accounts must be positive")
	}
	policy, err := f.judgeBy()
	if err != nil {
		return agent.Config{}, err
	}
	return agent.Config{
		System: cmp.Or(f.system, t.name, "nats"), Policy: policy, Probe: f.probe, Collect: collect.Config{Timeout: f.wait, Accounts: f.accounts},
	}, nil
}

func (p *program) auditCommand() *cobra.Command {
	var (
		sweep           sweepFlags
		strict, verbose bool
	)
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Look once, report, and tell by the exit code",
		Long: `Asks every server of the fleet once over the system account, touches every
door without credentials, reports which let strangers in, and ends with a code:

  0  nothing at or above --fail-on
  1  findings at or above --fail-on
  2  no such finding, but something could not be decided: a server did not
     answer; with --strict also a listener of which nobody can tell whether it
     is open, or which is closed on the server's own word only, and a server
     with its own system account
  3  wrong usage, or no connection

--timeout is how long a connection may take, --wait how long the sweep waits
for servers that are silent. It ends earlier when all have answered.

` + nagiosHelp,
		Example: `  natsentry audit
  natsentry audit --context prod-sys --fail-on warning
  natsentry audit --server nats://n1.example.net --creds sys.creds --strict
  natsentry audit --format json > report.json
  natsentry audit --format markdown > ticket.md
  natsentry audit --format nagios         # a plugin of Nagios, Icinga and their like
  natsentry audit --policy policy.yaml    # findings that somebody has accepted do not count`,
		Args: cobra.NoArgs,
	}
	failOn := chooseFlag(cmd, "fail-on", "the mildest severity that makes the exit code 1", "critical", "warning", "info", "none")
	cmd.Flags().BoolVar(&strict, "strict", false, "what is not proven makes the exit code 2")
	format := chooseFlag(cmd, "format", "how to print the report", "text", "json", "markdown", nagiosFormat)
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show info findings and all evidence in full")
	sweep.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		state, err := p.sweepOnce(cmd, sweep.config)
		if err != nil {
			return p.asPlugin(format.value, err)
		}
		report := state.Report()
		if format.value == nagiosFormat {
			return p.reportToNagios(cmd, report, failOn.value, judge(report, "none", strict))
		}
		if err := p.printReport(report, format.value, verbose); err != nil {
			return err
		}
		return judge(report, failOn.value, strict)
	}
	return cmd
}

// sweepOnce connects and looks once, as the configuration of that target says.
func (p *program) sweepOnce(cmd *cobra.Command, configure func(*target) (agent.Config, error)) (*agent.State, error) {
	ctx := cmd.Context()
	t, err := p.loadTarget(ctx)
	if err != nil {
		return nil, err
	}
	cfg, err := configure(t)
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	cfg.Collect.Once = true
	var refused refusals
	nc, err := p.connect(ctx, t, refused.add)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	a, err := agent.New(nc, cfg)
	if err != nil {
		return nil, err
	}
	defer a.Close()
	done := p.progress("asking the servers of " + cfg.System)
	state, err := a.Sweep(ctx, true)
	done()
	refused.tell(p)
	if err != nil {
		return nil, t.sweepFailed(nc, err)
	}
	return state, nil
}

// judge turns a report into the program's verdict; nil is exit code 0.
// Findings outweigh what could not be decided.
func judge(r *finding.Report, failOn string, strict bool) error {
	var threshold check.Severity
	if failOn != "none" {
		if err := threshold.UnmarshalText([]byte(failOn)); err != nil {
			return err
		}
		for i := range r.Findings {
			if r.Findings[i].Severity >= threshold && r.Findings[i].Waived == nil {
				return &verdict{code: exitFindings}
			}
		}
	}
	reasons := missing(&r.Coverage)
	if strict {
		if n := len(r.Coverage.NotAudited); n > 0 {
			reasons = append(reasons, plural(n, "server is not audited", "servers are not audited"))
		}
		unknown, reported := undecided(r)
		if unknown > 0 {
			reasons = append(reasons, "it cannot be told whether "+plural(unknown, "listener is open", "listeners are open"))
		}
		if reported > 0 {
			reasons = append(reasons, plural(reported, "listener is closed on its server's word only", "listeners are closed on their server's word only"))
		}
	}
	if len(reasons) > 0 {
		return &verdict{exitUndecided, "not decided: " + strings.Join(reasons, "; ")}
	}
	return nil
}

// missing says what is not known of a fleet: answers that did not come, and what
// was not asked for because a bound was reached.
func missing(c *finding.Coverage) []string {
	var reasons []string
	bounds, gaps := byBound(c.Gaps)
	if n := len(gaps); n > 0 {
		reasons = append(reasons, plural(n, "answer is missing", "answers are missing"))
	} else if n := c.Expected - c.Heard; n > 0 {
		reasons = append(reasons, plural(n, "server was not heard", "servers were not heard"))
	}
	for _, g := range bounds {
		reasons = append(reasons, clean(g.Reason))
	}
	return reasons
}

// undecided counts the listeners whose access is not known, and those that
// are closed on nothing better than the server's word.
func undecided(r *finding.Report) (unknown, reported int) {
	for i := range r.Servers {
		for _, d := range r.Servers[i].Doors {
			switch {
			case d.Access == posture.Unknown && d.Address != "":
				unknown++
			case wordOnly(d):
				reported++
			}
		}
	}
	return unknown, reported
}

// wordOnly tells whether a door is closed on nothing better than the
// server's word. The configuration of a server that does not run is its own
// truth.
func wordOnly(d finding.ReportDoor) bool {
	return d.Access == posture.Closed && d.Basis <= posture.Reported && d.Basis != posture.Declared
}
