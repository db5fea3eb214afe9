package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/service"
)

// historyQuery is what is asked of the past.
type historyQuery struct {
	now         time.Time
	from, until time.Time // until is zero without an end

	server, cluster, check, door string
	severity                     string
	atLeast                      check.Severity // the same

	transitions bool
}

// history is the past as it is printed: what the agent answered, its pages
// joined and cut to what was asked, and the episodes in it. As JSON it is the
// natsentry.v1.history of the endpoint with one field more.
type history struct {
	service.History
	Episodes []finding.Episode `json:"episodes"` // the latest opening first
}

func (p *program) historyCommand() *cobra.Command {
	var (
		q                    historyQuery
		since, until, prefix string
	)
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Tell what became of findings: when a door opened, for how long, who came in",
		Long: `Asks a running agent (natsentry run) what it remembers, and prints episodes: when
a finding opened, how long it lasted or whether it still stands, and below an
open door who was seen to come in meanwhile, the latest first. One that opened
before --since is shown when it reached into that time.

An agent remembers its last 10 000 transitions, and without --state or --store
no more than since its start. A note says when that is less than was asked.

--format json prints one object, with the transitions and the episodes of that
time, whether --transitions is given or not.

Whoever asks must be a user of the system account, or of an account that imports
the subject.`,
		Example: `  natsentry history --context prod-sys
  natsentry history --since 7d --severity critical
  natsentry history --since 2026-03-01T00:00:00Z --until 2026-03-02T00:00:00Z --cluster east
  natsentry history --transitions --server-name n1 --door client
  natsentry history --format json | jq '.episodes[] | select(.resolved == null)'`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&since, "since", "24h", "from this `time` on: RFC 3339, or how long ago, like 90m, 24h or 7d")
	flags.StringVar(&until, "until", "", "to this `time`, likewise (default: now)")
	flags.StringVar(&q.server, "server-name", "", "only of the server with this `name` or id")
	flags.StringVar(&q.cluster, "cluster", "", "only of the cluster with this `name`")
	flags.StringVar(&q.check, "check", "", "only of this check: `id` or alias")
	door := chooseAny(cmd, "door", "only of this door", doorWords()...)
	severity := chooseAny(cmd, "severity", "only of this severity or worse", "critical", "warning", "info")
	flags.BoolVar(&q.transitions, "transitions", false, "single transitions, one a line, the latest last")
	format := chooseFlag(cmd, "format", "how to print", "text", "json", "markdown")
	flags.StringVar(&prefix, "prefix", service.DefaultPrefix, "`prefix` of the agent's subjects")
	complete(cmd, "check", checkCompletions)
	for _, name := range []string{"since", "until"} {
		complete(cmd, name, func() []string { return []string{"90m", "24h", "7d"} })
	}
	for _, name := range []string{"server-name", "cluster", "prefix"} {
		complete(cmd, name, func() []string { return nil })
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		wrong := func(err error) error { return &usageError{cmd.CommandPath(), err} }
		if err := checkPrefix(prefix); err != nil {
			return wrong(err)
		}
		q.check, q.door, q.severity = strings.ToUpper(q.check), door.value, severity.value
		if err := q.read(since, until, time.Now()); err != nil {
			return wrong(err)
		}
		t, err := p.loadTarget(ctx)
		if err != nil {
			return err
		}
		a, err := p.connectToAsk(ctx, t, prefix)
		if err != nil {
			return err
		}
		defer a.nc.Close()
		done := p.progress("asking the agent")
		h, notes, err := q.ask(ctx, a, format.value == "json" || !q.transitions)
		done()
		if err != nil {
			return err
		}
		for _, n := range notes {
			p.note("%s", n)
		}
		return p.printHistory(h, &q, format.value)
	}
	return cmd
}

// chooseAny adds a flag that takes one of a few words, or none.
func chooseAny(cmd *cobra.Command, name, usage string, words ...string) *choice {
	c := &choice{words: words}
	cmd.Flags().Var(c, name, usage)
	complete(cmd, name, func() []string { return words })
	return c
}

func doorWords() []string {
	var words []string
	for _, k := range posture.DoorKinds() {
		words = append(words, k.String())
	}
	return words
}

// read takes the flags that are not words of a list.
func (q *historyQuery) read(since, until string, now time.Time) (err error) {
	q.now = now
	if q.from, err = service.Moment(since, now); err != nil {
		return fmt.Errorf("--since: %w", err)
	}
	if until != "" {
		if q.until, err = service.Moment(until, now); err != nil {
			return fmt.Errorf("--until: %w", err)
		}
		if q.until.Before(q.from) {
			return errors.New("--until is before --since")
		}
	}
	if q.severity != "" {
		return q.atLeast.UnmarshalText([]byte(q.severity))
	}
	return nil
}

// ask asks for what is to be printed. notes are for whoever reads it.
func (q *historyQuery) ask(ctx context.Context, a *asker, episodes bool) (h *history, notes []string, err error) {
	if !episodes {
		req := q.request(q.check)
		req.Severity, req.Since = q.severity, q.from.UTC().Format(time.RFC3339Nano)
		if !q.until.IsZero() {
			req.Until = q.until.UTC().Format(time.RFC3339Nano)
		}
		told, err := a.history(ctx, req)
		if err != nil {
			return nil, nil, err
		}
		return &history{History: *told}, q.notes(told), nil
	}
	told, all, notes, err := q.past(ctx, a, q.check)
	if err != nil {
		return nil, nil, err
	}
	wanted := map[string]bool{} // checks; an alias is the agent's to know
	for i := range all {
		wanted[all[i].Check] = true
	}
	if q.check != "" && len(all) > 0 && !wanted[finding.Visited] {
		_, visits, _, err := q.past(ctx, a, finding.Visited)
		if err != nil {
			return nil, nil, err
		}
		all = append(all, visits...)
	}
	h = &history{History: *told, Episodes: []finding.Episode{}}
	for _, e := range finding.Episodes(all) {
		if wanted[e.Check] && q.reaches(&e) {
			h.Episodes = append(h.Episodes, e)
		}
	}
	h.Transitions = slices.DeleteFunc(h.Transitions, func(f finding.Finding) bool { return !q.within(&f) })
	h.Offset, h.Limit, h.Total, h.NextOffset = 0, max(1, len(h.Transitions)), len(h.Transitions), nil
	return h, notes, nil
}

func (q *historyQuery) request(checkID string) service.Request {
	return service.Request{Server: q.server, Cluster: q.cluster, Door: q.door, Check: checkID}
}

// past asks for everything that an agent knows of a check, or of all: what
// began before --since and reached into that time may have left no transition
// in it, and who came in may have come before. It is bounded by what an agent
// remembers. all has the transitions in the order in which they were told, and
// beside them the findings that stand since before the agent's memory begins.
func (q *historyQuery) past(ctx context.Context, a *asker, checkID string) (told *service.History, all []finding.Finding, notes []string, err error) {
	req := q.request(checkID)
	if told, err = a.history(ctx, req); err != nil {
		return nil, nil, nil, err
	}
	notes = q.notes(told)
	known := map[string]bool{}
	for i := range told.Transitions {
		known[told.Transitions[i].Fingerprint] = true
	}
	req.Door = "" // that endpoint does not take it
	standing, err := a.findings(ctx, req)
	switch {
	case errors.Is(err, errInterrupted):
		return nil, nil, nil, err
	case err != nil:
		notes = append(notes, "what stands since before that may be missing: "+strings.ReplaceAll(cleanLines(err.Error()), "\n", "; "))
	}
	all = slices.Clone(told.Transitions)
	slices.Reverse(all)
	for i := range standing {
		if f := &standing[i]; !known[f.Fingerprint] && (q.door == "" || f.Scope.Door.String() == q.door) {
			all = append(all, *f)
		}
	}
	return told, all, notes, nil
}

// within tells whether a transition happened in the time that is asked for.
func (q *historyQuery) within(f *finding.Finding) bool {
	at := f.At
	return f.Severity >= q.atLeast && !at.Before(q.from) && (q.until.IsZero() || !at.After(q.until))
}

// reaches tells whether a life reached into the time that is asked for.
func (q *historyQuery) reaches(e *finding.Episode) bool {
	return e.Severity >= q.atLeast && (e.Resolved == nil || !e.Resolved.Before(q.from)) && (q.until.IsZero() || !e.Opened.After(q.until))
}

func (q *historyQuery) notes(told *service.History) []string {
	if !told.Since.After(q.from) {
		return nil
	}
	return []string{fmt.Sprintf("the agent's memory begins at %s: what happened before is not told", told.Since.UTC().Format(lineTime))}
}

// history asks for transitions, the latest first. Its Since is what was
// fetched from: later than what the agent said when there was more than that.
func (a *asker) history(ctx context.Context, req service.Request) (*service.History, error) {
	var all *service.History
	seen := map[string]bool{} // pages move while transitions come
	whole, err := a.pages(ctx, ".history", req, func(data []byte) (service.Page, error) {
		page, err := decodeReply(data, service.HistoryType, func(h *service.History) string { return h.Type })
		if err != nil {
			return service.Page{}, err
		}
		transitions := page.Transitions
		if all == nil {
			all = page
			all.Transitions = []finding.Finding{}
		}
		for i := range transitions {
			if id := transitions[i].ID; !seen[id] {
				seen[id] = true
				all.Transitions = append(all.Transitions, transitions[i])
			}
		}
		if page.Since.After(all.Since) {
			all.Since = page.Since
		}
		return page.Page, nil
	})
	if err != nil {
		return nil, err
	}
	if n := len(all.Transitions); !whole && n > 0 {
		all.Since = all.Transitions[n-1].At
	}
	return all, nil
}

// findings asks for the findings that stand.
func (a *asker) findings(ctx context.Context, req service.Request) ([]finding.Finding, error) {
	var all []finding.Finding
	seen := map[string]bool{}
	_, err := a.pages(ctx, ".findings", req, func(data []byte) (service.Page, error) {
		page, err := decodeReply(data, service.FindingsType, func(f *service.Findings) string { return f.Type })
		if err != nil {
			return service.Page{}, err
		}
		for i := range page.Findings {
			if fp := page.Findings[i].Fingerprint; !seen[fp] {
				seen[fp] = true
				all = append(all, page.Findings[i])
			}
		}
		return page.Page, nil
	})
	var refused *refusedBy
	if errors.As(err, &refused) && refused.code == "404" {
		return nil, nil // of a server that is no more, nothing stands
	}
	return all, err
}
