package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/service"
)

// How long no sweep may be announced before watch says so: at first, and then
// as a multiple of the interval that the agent announces.
const (
	firstSilence   = 45 * time.Second
	silentEpochs   = 3
	shortestSilent = 5 * time.Second
)

func (p *program) watchCommand() *cobra.Command {
	var prefix string
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Print findings as they open and close",
		Long: `Listens to a running agent (natsentry run) and prints each finding as it is
opened, updated, held or resolved, one line each, until it is interrupted. What
stands already is not repeated: ask for it with natsentry audit, or with
nats req audit.auth ''.`,
		Example: `  natsentry watch --context prod-sys
  natsentry watch --format json | jq -r .summary`,
		Args: cobra.NoArgs,
	}
	format := chooseFlag(cmd, "format", "how to print findings", "text", "json")
	cmd.Flags().StringVar(&prefix, "prefix", service.DefaultPrefix, "`prefix` of the agent's subjects")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		if err := checkPrefix(prefix); err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		t, err := p.loadTarget(ctx)
		if err != nil {
			return err
		}
		nc, err := p.connect(ctx, t, func(err error) { p.note("%s", clean(err.Error())) })
		if err != nil {
			return err
		}
		defer nc.Close()
		return p.watch(ctx, t, nc, prefix, p.lineWriter(format.value))
	}
	return cmd
}

// watch prints findings until the context or the connection ends.
func (p *program) watch(ctx context.Context, t *target, nc *nats.Conn, prefix string, write func(*finding.Finding) error) error {
	messages := make(chan *nats.Msg, 1024)
	for _, subject := range []string{service.FindingSubject(prefix), service.EpochSubject(prefix)} {
		if _, err := nc.ChanSubscribe(subject, messages); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	status := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.CLOSED)
	defer nc.RemoveStatusListener(status)
	flush, cancel := context.WithTimeout(ctx, p.connection.timeout)
	defer cancel()
	if err := nc.FlushWithContext(flush); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return t.scrub(fmt.Errorf("subscribe to %s: %w", service.FindingSubject(prefix), err))
	}
	p.note("watching %s; Ctrl-C ends it", service.FindingSubject(prefix))
	silence := time.NewTimer(firstSilence)
	defer silence.Stop()
	show := func(m *nats.Msg) error {
		if m.Subject == service.EpochSubject(prefix) {
			silence.Reset(tolerated(m.Data))
			return nil
		}
		f, err := decodeFinding(m.Data)
		if err != nil {
			p.note("a message on %s is no finding: %s", clean(m.Subject), clean(err.Error()))
			return nil
		}
		return write(f)
	}
	for {
		select {
		case <-ctx.Done():
			// What the server had sent by now is still shown.
			_ = nc.FlushTimeout(time.Second) // without a connection, what has arrived is all there is
			for range len(messages) {
				if err := show(<-messages); err != nil {
					return err
				}
			}
			return nil
		case m := <-messages:
			if err := show(m); err != nil {
				return err
			}
		case <-silence.C:
			p.note("no sweep was announced on %s for a while: is `natsentry run` running, with this --prefix?", service.EpochSubject(prefix))
		case s := <-status:
			switch s {
			case nats.CONNECTED:
				p.note("connection is back; what happened meanwhile was not seen")
			case nats.CLOSED:
				return errors.New("the connection was closed")
			default:
				p.note("connection lost; trying again")
			}
		}
	}
}

// tolerated is how long to wait for the epoch after this one.
func tolerated(data []byte) time.Duration {
	var e service.Epoch
	if err := json.Unmarshal(data, &e); err != nil || e.Type != service.EpochType {
		return firstSilence
	}
	d, err := time.ParseDuration(e.Interval)
	if err != nil || d <= 0 || d > 24*time.Hour {
		return firstSilence
	}
	return max(silentEpochs*d, shortestSilent)
}

func decodeFinding(data []byte) (*finding.Finding, error) {
	var f finding.Finding
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f.Type != finding.Type {
		return nil, fmt.Errorf("its type is %.40q", f.Type)
	}
	return &f, nil
}

// lineWriter prints findings one a line.
func (p *program) lineWriter(format string) func(*finding.Finding) error {
	text := textRenderer{style: style{p.colourful(p.stdout)}}
	return func(f *finding.Finding) error {
		return p.print(func(w *bufio.Writer) error {
			if format == "json" {
				return writeJSON(w, f, "")
			}
			text.line(w, f)
			return nil
		})
	}
}

// line writes a transition in one line.
func (t textRenderer) line(w *bufio.Writer, f *finding.Finding) {
	action := fmt.Sprintf("%-8s", clean(strings.ToUpper(string(f.Action))))
	severity := severityWord(f.Severity)
	switch {
	case f.Action == finding.Resolved:
		action = t.in(green, action)
	case f.Action == finding.Held:
		action = t.in(yellow, action)
	case f.Waived != nil: // nothing to be alarmed about
	default:
		severity = t.severity(f.Severity)
		if f.Severity == check.Critical {
			action = t.in(bold, action)
		}
	}
	fmt.Fprintf(w, "%s  %s  %s  %s  %s: %s%s\n", f.At.UTC().Format(lineTime), action, severity, clean(f.Check), subject(f), clean(f.Summary), lineRemarks(f))
}

// lineTime is how moments begin a line.
const lineTime = "2006-01-02T15:04:05Z"

// lineRemarks are what is to be known of a transition beside its summary. That
// it went stale is its action.
func lineRemarks(f *finding.Finding) string {
	var out string
	if u := unrest(f); u != "" {
		out += " (" + u + ")"
	}
	if f.Waived != nil {
		out += " (" + waivedBy(f.Waived) + ")"
	}
	return out
}
