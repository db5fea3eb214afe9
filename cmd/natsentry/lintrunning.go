package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

// driftCheck compares a configuration with what runs.
const driftCheck = "CONF_006"

// askRunning asks the fleet, and finds the server that --running names; nil when it
// names none. Nothing is touched.
func (f *lintFlags) askRunning(p *program, cmd *cobra.Command) (*posture.Server, error) {
	if f.running == "" {
		return nil, nil
	}
	if f.wait <= 0 {
		return nil, &usageError{cmd.CommandPath(), errors.New("--wait must be positive")}
	}
	state, err := p.sweepOnce(cmd, func(t *target) (agent.Config, error) {
		return agent.Config{System: cmp.Or(t.name, "nats"), Probe: agent.Probe{Off: true}, Collect: collect.Config{Timeout: f.wait}}, nil
	})
	if err != nil {
		return nil, err
	}
	var found, names []string
	var server *posture.Server
	for _, s := range state.Snapshot.Servers {
		if s.Name == f.running || s.ID == f.running {
			server = s
			found = append(found, s.ID)
		}
		names = append(names, clean(s.Name))
	}
	switch {
	case len(found) > 1:
		err = fmt.Errorf("--running: %d servers are called %q; take the id of one: %s", len(found), clean(f.running), clean(strings.Join(found, ", ")))
	case server == nil && len(names) > shownSubjects:
		err = fmt.Errorf("--running: no server of that name or id was heard; %d others were, for example %s", len(names), strings.Join(names[:shownSubjects], ", "))
	case server == nil:
		err = fmt.Errorf("--running: no server of that name or id was heard; there are %s", strings.Join(names, ", "))
	}
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	return server, nil
}

// compared is what came of comparing a configuration with what runs, unless it
// is a finding.
type compared struct {
	outcome check.Outcome
	text    string
}

func (l *linted) compare(results []check.Result) {
	for i := range results {
		if r := &results[i]; r.Check.ID == driftCheck && (r.Outcome == check.Pass || r.Outcome == check.Unknown) {
			l.compared = &compared{r.Outcome, r.Summary}
		}
	}
}

// tell writes it for people.
func (c *compared) tell(t lintRenderer) string {
	if c.outcome == check.Pass {
		return t.in(green, "= ") + clean(c.text)
	}
	return t.in(yellow, "? ") + "not compared with what runs: " + clean(c.text)
}
