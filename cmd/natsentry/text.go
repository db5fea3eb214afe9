package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// How much of a report the text shows unless --verbose is given.
const (
	textWidth     = 100 // columns that running text may take
	shownSubjects = 10  // of a group that are shown with summary and evidence; the others by name
	shownEvidence = 4   // pieces of evidence of one subject
	shownGaps     = 20
)

// textRenderer writes a report for people.
type textRenderer struct {
	style
	verbose bool
}

func (t textRenderer) report(w *bufio.Writer, r *finding.Report) error {
	fmt.Fprintf(w, "%s\n\n", t.in(bold, headline(r)))
	t.matrix(w, r)
	if r.Via != "" {
		fmt.Fprintf(w, "Connected to %s.\n", clean(r.Via))
	}
	t.findings(w, r, t.group, t.waived)
	t.gaps(w, r)
	t.notAudited(w, r)
	t.totals(w, r)
	return nil
}

// findings writes those that count, one group each, then the info findings in a
// line each, and last those that are accepted.
func (t textRenderer) findings(w *bufio.Writer, r *finding.Report, full, accepted func(*bufio.Writer, group)) {
	shown, collapsed, waived := groups(r, t.verbose)
	for _, g := range shown {
		full(w, g)
	}
	for i, g := range collapsed {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s  %s  %s: %s\n", t.severity(check.Info), clean(g.first.Check), g.title, plural(len(g.findings), "finding", "findings"))
		for _, line := range unreached(g) {
			t.item(w, "  ", line)
		}
	}
	if len(collapsed) > 0 {
		fmt.Fprintf(w, "%s\n", t.in(faint, "--verbose shows info findings in full."))
	}
	if len(r.Findings) == 0 {
		fmt.Fprintf(w, "\nNo findings.\n")
	}
	for _, g := range waived {
		accepted(w, g)
	}
}

func (t textRenderer) totals(w *bufio.Writer, r *finding.Report) {
	doors, findings := totals(r)
	fmt.Fprintf(w, "\n%s %s\n%s %s\n", t.in(bold, "Doors:   "), doors, t.in(bold, "Findings:"), findings)
	for _, note := range r.Notes {
		t.paragraph(w, "", upper(clean(note))+".")
	}
}

// tableStyle is a table without frames: narrow, and fit for copying.
func tableStyle() table.Style {
	s := table.StyleDefault
	s.Box.PaddingLeft, s.Box.PaddingRight = "", "  "
	s.Options = table.OptionsNoBordersAndSeparators
	return s
}

func (t textRenderer) matrix(w *bufio.Writer, r *finding.Report) {
	m := newMatrix(r, shownDoors)
	if len(m.servers) == 0 {
		fmt.Fprintf(w, "No server was heard.\n")
		return
	}
	tw := table.NewWriter()
	tw.SetStyle(tableStyle())
	tw.SuppressTrailingSpaces()
	head := table.Row{"CLUSTER", "SERVER", "VERSION", "AUTH"}
	for _, kind := range m.doors {
		head = append(head, strings.ToUpper(column(kind)))
	}
	tw.AppendRow(head)
	for _, s := range m.servers {
		auth := s.auth
		if s.silent {
			auth = t.in(yellow, "("+auth+")")
		}
		row := table.Row{s.cluster, s.server, s.version, auth}
		for _, m := range s.marks {
			row = append(row, t.in(m.colour, m.String()))
		}
		tw.AppendRow(row)
	}
	fmt.Fprintf(w, "%s\n\n", tw.Render())
	legend := make([]string, len(marks))
	for i, m := range marks {
		legend[i] = t.in(m.colour, m.String()) + " " + m.meaning
	}
	fmt.Fprint(w, strings.Join(legend, "   "))
	if len(m.absent) > 0 {
		fmt.Fprintf(w, "\nNo server that answered listens for: %s.", m.absentNames())
	}
	fmt.Fprintf(w, "\n%s\n", profileHint)
}

func severityWord(s check.Severity) string { return fmt.Sprintf("%-8s", strings.ToUpper(s.String())) }

func (t textRenderer) severity(s check.Severity) string {
	word := severityWord(s)
	switch s {
	case check.Critical:
		return t.in(red, word)
	case check.Warning:
		return t.in(yellow, word)
	default:
		return t.in(blue, word)
	}
}

func (t textRenderer) group(w *bufio.Writer, g group) {
	f := g.first
	fmt.Fprintf(w, "\n%s  %s  %s", t.severity(f.Severity), t.in(bold, clean(f.Check)), g.title)
	var also []string
	if f.Cause != "" {
		also = append(also, "cause: "+clean(string(f.Cause)))
	}
	if len(f.Aliases) > 0 && f.Scope.Advisory == "" { // a group may be of several advisories
		also = append(also, "also known as "+clean(strings.Join(f.Aliases, ", ")))
	}
	if len(also) > 0 {
		fmt.Fprintf(w, " (%s)", strings.Join(also, "; "))
	}
	fmt.Fprintln(w)
	t.members(w, g)
	t.remedy(w, f)
}

// waived writes a group that somebody has accepted: what it is and why it is
// accepted. What could be done about it is for --verbose.
func (t textRenderer) waived(w *bufio.Writer, g group) {
	f := g.first
	fmt.Fprintf(w, "\n%s  %s  %s (waived)\n", t.in(faint, severityWord(f.Severity)), t.in(bold, clean(f.Check)), g.title)
	t.item(w, "  ", upper(waivedBy(f.Waived)))
	t.members(w, g)
	if t.verbose {
		t.remedy(w, f)
	}
}

// members writes the findings of a group.
func (t textRenderer) members(w *bufio.Writer, g group) {
	full := g.findings
	if !t.verbose && len(full) > shownSubjects {
		full = full[:shownSubjects]
	}
	for _, f := range full {
		t.finding(w, f)
	}
	if rest := g.findings[len(full):]; len(rest) > 0 {
		names := make([]string, len(rest))
		for i, f := range rest {
			names[i] = subject(f)
		}
		t.item(w, "  ", fmt.Sprintf("and %d more: %s", len(rest), strings.Join(names, ", ")))
	}
}

// remedy writes what to do about a finding.
func (t textRenderer) remedy(w *bufio.Writer, f *finding.Finding) {
	what := "What to do"
	if how := takesEffect(f.Remediation); how != "" {
		what += " (" + how + ")"
	}
	t.item(w, "  ", what+": "+clean(f.Remediation.Text))
	if f.Remediation.Config != "" {
		for line := range strings.SplitSeq(cleanLines(f.Remediation.Config), "\n") {
			fmt.Fprintf(w, "      %s\n", t.in(blue, line))
		}
	}
	for _, ref := range f.Refs {
		fmt.Fprintf(w, "  %s\n", t.in(faint, "See "+clean(ref)))
	}
}

func (t textRenderer) finding(w *bufio.Writer, f *finding.Finding) {
	t.item(w, "  ", t.in(bold, subject(f))+": "+clean(f.Summary)+remarks(f))
	if f.Waived != nil && !t.verbose {
		return
	}
	evidence := f.Evidence
	if !t.verbose {
		evidence = strongest(evidence)
	}
	for _, e := range evidence {
		t.item(w, "    ", "- "+evidenceText(e))
	}
	if n := len(f.Evidence) - len(evidence); n > 0 {
		fmt.Fprintf(w, "    - and %d more (--verbose shows them)\n", n)
	}
}

// strongest leaves out the weakest evidence where there is more than is shown.
// What is kept stays in its order. Where a listener was not reached is always
// shown: without it nobody knows why it is undecided.
func strongest(evidence []posture.Evidence) []posture.Evidence {
	out := slices.Clone(evidence)
	for n := len(out) - len(failedTries(out)); n > shownEvidence; n-- {
		weakest := -1
		for i := len(out) - 1; i >= 0; i-- {
			if !out[i].Tried() && (weakest < 0 || out[i].Basis < out[weakest].Basis) {
				weakest = i
			}
		}
		out = slices.Delete(out, weakest, weakest+1)
	}
	return out
}

// failedTries are the tries that decided nothing.
func failedTries(evidence []posture.Evidence) (out []posture.Evidence) {
	for i := range evidence {
		if evidence[i].Tried() {
			out = append(out, evidence[i])
		}
	}
	return out
}

// unreached says, of findings that are shown in one line together, where
// listeners were tried in vain.
func unreached(g group) (lines []string) {
	for _, f := range g.findings {
		var tries []string
		for _, e := range failedTries(f.Evidence) {
			tries = append(tries, evidenceText(e))
		}
		if len(tries) > 0 {
			lines = append(lines, subject(f)+": "+strings.Join(tries, "; "))
		}
	}
	if n := len(lines) - shownSubjects; n > 0 {
		lines = append(lines[:shownSubjects], fmt.Sprintf("and %d more", n))
	}
	return lines
}

// evidenceText is one piece of evidence in a line.
func evidenceText(e posture.Evidence) string {
	if e.Tried() {
		return clean(e.Source) + ": " + clean(e.Value)
	}
	text := e.Basis.String()
	if e.Access != posture.Unknown {
		text += " " + e.Access.String()
	}
	text += ": " + clean(e.Source)
	if e.Value != "" {
		text += " = " + clean(e.Value)
	}
	return text
}

func (t textRenderer) gaps(w *bufio.Writer, r *finding.Report) {
	bounds, gaps := byBound(r.Coverage.Gaps)
	for i, g := range bounds {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n", t.in(yellow, upper(clean(g.Reason))+"."))
	}
	if len(gaps) == 0 {
		return
	}
	answers := len(gaps)
	fmt.Fprintf(w, "\n%s\n", t.in(yellow, plural(answers, "answer is missing", "answers are missing")+"; nothing is concluded from silence:"))
	if !t.verbose && len(gaps) > shownGaps {
		gaps = gaps[:shownGaps]
	}
	for _, g := range gaps {
		fmt.Fprintf(w, "  %s\n", gapLine(g))
	}
	if n := answers - len(gaps); n > 0 {
		fmt.Fprintf(w, "  and %d more (--verbose shows them)\n", n)
	}
}

// notAudited lists the servers with their own system account, and what would
// change that.
func (t textRenderer) notAudited(w *bufio.Writer, r *finding.Report) {
	list := r.Coverage.NotAudited
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s\n", t.in(yellow, plural(len(list), "server is not audited", "servers are not audited")+":"))
	if !t.verbose && len(list) > shownGaps {
		list = list[:shownGaps]
	}
	for i := range list {
		t.item(w, "  ", notAuditedLine(&list[i]))
	}
	if n := len(r.Coverage.NotAudited) - len(list); n > 0 {
		fmt.Fprintf(w, "  and %d more (--verbose shows them)\n", n)
	}
	t.paragraph(w, "  ", auditRemedy)
	fmt.Fprintf(w, "      %s\n", t.in(blue, addressExample(&list[0])))
}

// item writes running text, later lines further in than the first.
func (t textRenderer) item(w *bufio.Writer, indent, text string) {
	for i, line := range wrap(text, textWidth-len(indent)-2) {
		if i == 1 {
			indent += "  "
		}
		fmt.Fprintf(w, "%s%s\n", indent, line)
	}
}

// paragraph writes running text.
func (t textRenderer) paragraph(w *bufio.Writer, indent, text string) {
	for _, line := range wrap(text, textWidth-len(indent)) {
		fmt.Fprintf(w, "%s%s\n", indent, line)
	}
}
