package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

func (p *program) printHistory(h *history, q *historyQuery, format string) error {
	if format == "text" && q.transitions {
		write := p.lineWriter(format)
		for i := range slices.Backward(h.Transitions) {
			if err := write(&h.Transitions[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return p.print(func(w *bufio.Writer) error {
		switch format {
		case "json":
			return writeJSON(w, h, "  ")
		case "markdown":
			markdownRenderer{}.history(w, h, q)
		default:
			textRenderer{style: style{p.colourful(p.stdout)}}.history(w, h, q)
		}
		return nil
	})
}

// shownVisitors is how many visitors of a door the text shows.
const shownVisitors = 10

// episode is an episode in words.
type episode struct {
	*finding.Episode
	state  string        // what it came to
	lasted time.Duration // while it was open, until its end or until now
}

func (h *history) episodes(now time.Time) []episode {
	if h.Taken.After(now) {
		now = h.Taken // by the agent's clock, which is the one that openings are told by
	}
	out := make([]episode, len(h.Episodes))
	for i := range h.Episodes {
		e := episode{Episode: &h.Episodes[i], state: "stands", lasted: h.Episodes[i].Open(now)}
		switch {
		case e.Resolved != nil:
			e.state = "resolved"
		case e.Hold != nil:
			e.state = "held"
		case e.Stale:
			e.state = "stale"
		}
		out[i] = e
	}
	return out
}

// subject names what an episode is about.
func (e *episode) subject() string { return subject(&finding.Finding{Scope: e.Scope}) }

// remarks are what is to be known of an episode beside its summary.
func (e *episode) remarks() string {
	if e.Waived {
		return " (waived)"
	}
	return ""
}

// visitor is a peer that was seen to have come in.
func visitor(e posture.Evidence) string {
	if e.Value == "" {
		return clean(e.Source)
	}
	return clean(e.Value) + " (" + clean(e.Source) + ")"
}

// headline tells what a history is of.
func (h *history) headline(q *historyQuery) string {
	const moment = "2006-01-02 15:04:05 UTC"
	end := "now"
	if !q.until.IsZero() {
		end = q.until.UTC().Format(moment)
	}
	return fmt.Sprintf("system %s, from %s until %s", clean(h.System), q.from.UTC().Format(moment), end)
}

// tally counts episodes by what they came to.
func tally(episodes []episode) string {
	if len(episodes) == 0 {
		return "no episodes"
	}
	states := map[string]int{}
	waived := 0
	for i := range episodes {
		states[episodes[i].state]++
		if episodes[i].Waived {
			waived++
		}
	}
	text := fmt.Sprintf("%s: %d stand, %d stale, %d resolved", plural(len(episodes), "episode", "episodes"), states["stands"], states["stale"], states["resolved"])
	if n := states["held"]; n > 0 {
		text += fmt.Sprintf(", %d held", n)
	}
	if waived > 0 {
		text += fmt.Sprintf("; %d of them waived", waived)
	}
	return text
}

func (t textRenderer) history(w *bufio.Writer, h *history, q *historyQuery) {
	episodes := h.episodes(q.now)
	fmt.Fprintf(w, "%s\n", t.in(bold, h.headline(q)))
	if len(episodes) > 0 {
		fmt.Fprintf(w, "\n%-20s  %-8s  %-8s  %-8s  %-10s  %s\n", "OPENED", "LASTED", "STATE", "SEVERITY", "CHECK", "WHAT")
	}
	for i := range episodes {
		t.episode(w, &episodes[i])
	}
	fmt.Fprintf(w, "\n%s\n", tally(episodes))
}

func (t textRenderer) episode(w *bufio.Writer, e *episode) {
	severity, state := t.severity(e.Severity), fmt.Sprintf("%-8s", strings.ToUpper(e.state))
	switch {
	case e.Resolved != nil:
		severity, state = severityWord(e.Severity), t.in(green, state)
	case e.Waived: // nothing to be alarmed about
		severity = severityWord(e.Severity)
	case e.Hold != nil:
		severity, state = severityWord(e.Severity), t.in(yellow, state)
	case e.Stale:
		state = t.in(yellow, state)
	}
	fmt.Fprintf(w, "%s  %-8s  %s  %s  %-10s  %s: %s%s\n", e.Opened.UTC().Format(lineTime), span(e.lasted), state, severity,
		clean(e.Check), t.in(bold, e.subject()), clean(e.Summary), e.remarks())
	shown := e.Visitors[:min(len(e.Visitors), shownVisitors)]
	for _, v := range shown {
		t.item(w, "    ", "came in: "+visitor(v))
	}
	if n := len(e.Visitors) - len(shown); n > 0 {
		fmt.Fprintf(w, "    and %d more (--format json shows them)\n", n)
	}
}

func (m markdownRenderer) history(w *bufio.Writer, h *history, q *historyQuery) {
	fmt.Fprintf(w, "# natsentry: history of %s\n\n", escape(h.System))
	episodes := h.episodes(q.now)
	what := tally(episodes)
	if q.transitions {
		episodes, what = nil, plural(len(h.Transitions), "transition", "transitions")
	}
	fmt.Fprintf(w, "%s. %s.\n", upper(escape(h.headline(q))), upper(what))
	if q.transitions {
		m.transitions(w, h)
	}
	for i := range episodes {
		if i == 0 {
			fmt.Fprintln(w)
		}
		e := &episodes[i]
		fmt.Fprintf(w, "- %s, %s, **%s**: %s %s **%s**: %s%s\n", e.Opened.UTC().Format(lineTime), span(e.lasted), e.state, e.Severity,
			escape(e.Check), escape(e.subject()), escape(e.Summary), e.remarks())
		for _, v := range e.Visitors {
			fmt.Fprintf(w, "  - came in: %s\n", escape(visitor(v)))
		}
	}
}

// transitions writes single transitions, the latest last.
func (m markdownRenderer) transitions(w *bufio.Writer, h *history) {
	if len(h.Transitions) > 0 {
		fmt.Fprintln(w)
	}
	for i := range slices.Backward(h.Transitions) {
		f := &h.Transitions[i]
		fmt.Fprintf(w, "- %s, **%s**: %s %s **%s**: %s%s\n", f.At.UTC().Format(lineTime), escape(string(f.Action)), f.Severity,
			escape(f.Check), escape(subject(f)), escape(f.Summary), escape(lineRemarks(f)))
	}
}

// span is a duration as people say it: its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	two := func(n int64, unit string, rest int64, lesser string) string {
		if rest == 0 {
			return fmt.Sprintf("%d%s", n, unit)
		}
		return fmt.Sprintf("%d%s %d%s", n, unit, rest, lesser)
	}
	switch d = max(d, 0); {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return strings.Replace(fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds()), ".0s", "s", 1)
	case d < time.Minute:
		return fmt.Sprintf("%ds", int64(d/time.Second))
	case d < time.Hour:
		return two(int64(d/time.Minute), "m", int64(d%time.Minute/time.Second), "s")
	case d < day:
		return two(int64(d/time.Hour), "h", int64(d%time.Hour/time.Minute), "m")
	default:
		return two(int64(d/day), "d", int64(d%day/time.Hour), "h")
	}
}
