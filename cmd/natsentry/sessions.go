package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

// The type fields of what `natsentry sessions --format json` prints.
const (
	insideType  = "natsentry.v1.inside"
	lockoutType = "natsentry.v1.lockout"
)

// insiders is who is inside a fleet.
type insiders struct {
	Type     string           `json:"type"`
	System   string           `json:"system"`
	Taken    time.Time        `json:"taken"`
	Took     string           `json:"took"`
	Coverage finding.Coverage `json:"coverage"`
	Sessions int              `json:"sessions"` // in all groups that there are
	Weak     int              `json:"weak"`     // of them, those that proved nothing, or with what anybody could have read
	Unlisted int              `json:"unlisted"` // sessions that the servers count and did not list
	Groups   []inside.Group   `json:"groups"`

	titles titles
}

// lockedOut is who would be locked out of it.
type lockedOut struct {
	Type      string           `json:"type"`
	System    string           `json:"system"`
	Taken     time.Time        `json:"taken"`
	Took      string           `json:"took"`
	Coverage  finding.Coverage `json:"coverage"`
	Unlisted  int              `json:"unlisted"`
	Candidate string           `json:"candidate"`
	*inside.Outlook

	titles titles
}

// sessionsFlags are the flags of `natsentry sessions`.
type sessionsFlags struct {
	system, server, cluster, lockout string
	wait                             time.Duration
	all                              bool
}

func (p *program) sessionsCommand() *cobra.Command {
	var f sessionsFlags
	cmd := &cobra.Command{
		Use:   "sessions",
		Short: "Tell who is inside without proof, and whom a configuration would lock out",
		Long: `Asks every server of the fleet once, over the system account, who is connected,
and lists in groups those who came in without proving anything, or with what
anybody on the way could have read: no credentials, a name that nobody checked, a
token, a bearer JWT, a password without TLS. No door is touched.

--lockout tells what would become of everybody: kept, rejected, or unknown where
the server does not show what that depends on, such as passwords. TARGET is the
file of a configuration that is not in force yet, or token, users, nkey or jwt for
the plan to have one. The file is read as nats-server reads it; nothing is started
and no certificate or operator file is needed. In which order to change the
servers, and how those who bring nothing can live on meanwhile, is told too.

The exit codes:

  0  nobody is inside without proof; with --lockout: everybody is kept
  1  somebody is; with --lockout: somebody is rejected
  2  nobody is, or nobody is rejected, as far as can be seen: answers are missing,
     or with --lockout it is unknown what becomes of somebody
  3  wrong usage, or no connection`,
		Example: `  natsentry sessions --context prod-sys
  natsentry sessions --all --cluster east
  natsentry sessions --lockout users
  natsentry sessions --lockout ./nats.conf --server-name n1
  natsentry sessions --lockout ./nats.conf --format json | jq '.predictions[] | select(.verdict == "rejected")'`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&f.lockout, "lockout", "", "what would become of everybody under `TARGET`: a configuration file, or token, users, nkey or jwt")
	flags.BoolVar(&f.all, "all", false, "those who have proven who they are as well")
	flags.StringVar(&f.server, "server-name", "", "only on the server with this `name` or id")
	flags.StringVar(&f.cluster, "cluster", "", "only in the cluster with this `name`")
	format := chooseFlag(cmd, "format", "how to print", "text", "json", "markdown")
	flags.StringVar(&f.system, "system", "", "`name` of the fleet in reports (default: the context's name, else \"nats\")")
	flags.DurationVar(&f.wait, "wait", 2*time.Second, "how long a sweep waits for silent servers")
	for _, name := range []string{"server-name", "cluster"} {
		complete(cmd, name, func() []string { return nil })
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.wait <= 0 {
			return &usageError{cmd.CommandPath(), errors.New("--wait must be positive")}
		}
		if f.all && f.lockout != "" {
			return &usageError{cmd.CommandPath(), errors.New("--lockout speaks of everybody: leave --all out")}
		}
		candidate, err := f.candidate()
		if err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		snap, servers, err := p.askWhoIsInside(cmd, &f)
		if err != nil {
			return err
		}
		if candidate != nil {
			return p.tellLockout(snap, servers, candidate, format.value)
		}
		return p.tellInside(snap, servers, &f, format.value)
	}
	return cmd
}

// candidate reads what --lockout names; nil when it names nothing.
func (f *sessionsFlags) candidate() (*inside.Candidate, error) {
	if f.lockout == "" {
		return nil, nil
	}
	if c, ok := inside.Plan(f.lockout); ok {
		return c, nil
	}
	if _, err := os.Stat(f.lockout); err != nil {
		return nil, fmt.Errorf("--lockout: %q is no file, and none of %s", clean(f.lockout), strings.Join(inside.Plans(), ", "))
	}
	c, err := conffile.Candidate(conffile.OnDisk(f.lockout))
	if err != nil {
		return nil, fmt.Errorf("--lockout: %w", err)
	}
	return c, nil
}

// askWhoIsInside sweeps once, and touches nothing.
func (p *program) askWhoIsInside(cmd *cobra.Command, f *sessionsFlags) (*posture.Snapshot, []*posture.Server, error) {
	state, err := p.sweepOnce(cmd, func(t *target) (agent.Config, error) {
		return agent.Config{System: cmp.Or(f.system, t.name, "nats"), Probe: agent.Probe{Off: true}, Collect: collect.Config{Timeout: f.wait}}, nil
	})
	if err != nil {
		return nil, nil, err
	}
	servers := slices.DeleteFunc(slices.Clone(state.Snapshot.Servers), func(s *posture.Server) bool {
		return f.server != "" && s.Name != f.server && s.ID != f.server || f.cluster != "" && s.Cluster != f.cluster
	})
	if len(servers) == 0 {
		return nil, nil, errors.New("no server of that name, id or cluster was heard")
	}
	return state.Snapshot, servers, nil
}

// unlisted counts the sessions that servers have and did not list.
func unlisted(servers []*posture.Server) (n int) {
	for _, s := range servers {
		all := inside.Everybody(s)
		n += max(0, all.Total-len(all.List))
	}
	return n
}

func (p *program) tellInside(snap *posture.Snapshot, servers []*posture.Server, f *sessionsFlags, format string) error {
	groups := inside.Groups(servers)
	weak := inside.Weak(groups)
	report := finding.NewReport(snap, nil)
	r := &insiders{
		Type: insideType, System: snap.System, Taken: report.Taken, Took: report.Took, Coverage: report.Coverage,
		Sessions: inside.Sessions(groups), Weak: inside.Sessions(weak), Unlisted: unlisted(servers), Groups: weak, titles: titlesOf(snap),
	}
	if f.all {
		r.Groups = groups
	}
	err := p.print(func(w *bufio.Writer) error {
		switch format {
		case "json":
			return writeJSON(w, r, "  ")
		case "markdown":
			markdownRenderer{}.inside(w, r, f.all)
		default:
			textRenderer{style: style{p.colourful(p.stdout)}}.inside(w, r, f.all)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.Weak > 0 {
		return &verdict{code: exitFindings}
	}
	return undecidedInside(&r.Coverage, r.Unlisted, 0)
}

func (p *program) tellLockout(snap *posture.Snapshot, servers []*posture.Server, c *inside.Candidate, format string) error {
	report := finding.NewReport(snap, nil)
	r := &lockedOut{
		Type: lockoutType, System: snap.System, Taken: report.Taken, Took: report.Took, Coverage: report.Coverage,
		Unlisted: unlisted(servers), Candidate: c.Name, Outlook: c.Outlook(servers, snap.Servers), titles: titlesOf(snap),
	}
	err := p.print(func(w *bufio.Writer) error {
		switch format {
		case "json":
			return writeJSON(w, r, "  ")
		case "markdown":
			markdownRenderer{}.lockout(w, r)
		default:
			textRenderer{style: style{p.colourful(p.stdout)}}.lockout(w, r)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.Rejected > 0 {
		return &verdict{code: exitFindings}
	}
	return undecidedInside(&r.Coverage, r.Unlisted, r.Unknown)
}

// undecidedInside is the verdict where nothing bad was seen.
func undecidedInside(c *finding.Coverage, unlisted, unknown int) error {
	reasons := missing(c)
	if unlisted > 0 {
		reasons = append(reasons, plural(unlisted, "session was not listed", "sessions were not listed"))
	}
	if unknown > 0 {
		reasons = append(reasons, "it is unknown what becomes of "+plural(unknown, "connection", "connections"))
	}
	if len(reasons) == 0 {
		return nil
	}
	return &verdict{exitUndecided, "not decided: " + strings.Join(reasons, "; ")}
}
