package main

import (
	"bufio"
	"fmt"
	"strings"
	"unicode"

	"github.com/natsentry/natsentry/agent/finding"
)

// markdownRenderer writes a report for a ticket.
type markdownRenderer struct{ verbose bool }

func (m markdownRenderer) report(w *bufio.Writer, r *finding.Report) error {
	fmt.Fprintf(w, "# natsentry: %s\n\n%s.", escape(r.System), upper(escape(headline(r))))
	if r.Via != "" {
		fmt.Fprintf(w, " Connected to %s.", escape(r.Via))
	}
	fmt.Fprint(w, "\n\n")
	doors, findings := totals(r)
	fmt.Fprintf(w, "- Doors: %s\n- Findings: %s\n", doors, findings)
	for _, note := range r.Notes {
		fmt.Fprintf(w, "- %s\n", upper(escape(note)))
	}
	fmt.Fprintln(w)
	m.matrix(w, r)
	m.gaps(w, r)
	m.notAudited(w, r)
	fmt.Fprint(w, "\n## Findings\n")
	if len(r.Findings) == 0 {
		fmt.Fprint(w, "\nNone.\n")
	}
	shown, collapsed, waived := groups(r, m.verbose)
	for _, g := range shown {
		m.group(w, g)
	}
	if len(collapsed) > 0 {
		fmt.Fprint(w, "\n### info\n\n")
	}
	for _, g := range collapsed {
		fmt.Fprintf(w, "- %s %s: %s\n", escape(g.first.Check), g.title, plural(len(g.findings), "finding", "findings"))
		for _, line := range unreached(g) {
			fmt.Fprintf(w, "  - %s\n", escape(line))
		}
	}
	if len(waived) > 0 {
		fmt.Fprint(w, "\n## Waived\n")
	}
	for _, g := range waived {
		m.waived(w, g)
	}
	return nil
}

func (m markdownRenderer) notAudited(w *bufio.Writer, r *finding.Report) {
	list := r.Coverage.NotAudited
	if len(list) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Not audited\n\n")
	for i := range list {
		fmt.Fprintf(w, "- %s\n", escape(notAuditedLine(&list[i])))
	}
	fmt.Fprintf(w, "\n%s\n%s\n", escape(auditRemedy), escape(addressExample(&list[0])))
}

func (m markdownRenderer) matrix(w *bufio.Writer, r *finding.Report) {
	x := newMatrix(r, shownDoors)
	fmt.Fprint(w, "## Doors\n\n")
	if len(x.servers) == 0 {
		fmt.Fprint(w, "No server was heard.\n")
		return
	}
	fmt.Fprint(w, "| Cluster | Server | Version | Auth |")
	for _, kind := range x.doors {
		fmt.Fprintf(w, " %s |", column(kind))
	}
	fmt.Fprint(w, "\n|---|---|---|---|"+strings.Repeat("---|", len(x.doors))+"\n")
	for _, s := range x.servers {
		auth := s.auth
		if s.silent {
			auth = "(" + auth + ")"
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s |", escape(s.cluster), escape(s.server), escape(s.version), auth)
		for _, mark := range s.marks {
			text := escape(mark.String())
			if mark == markOpen {
				text = "**" + text + "**"
			}
			fmt.Fprintf(w, " %s |", text)
		}
		fmt.Fprintln(w)
	}
	var legend []string
	for _, mark := range marks {
		legend = append(legend, escape(mark.String())+": "+mark.meaning)
	}
	fmt.Fprintf(w, "\n%s.", strings.Join(legend, ", "))
	if len(x.absent) > 0 {
		fmt.Fprintf(w, " No server that answered listens for: %s.", x.absentNames())
	}
	fmt.Fprintf(w, " %s\n", escape(profileHint))
}

func (m markdownRenderer) group(w *bufio.Writer, g group) {
	f := g.first
	fmt.Fprintf(w, "\n### %s: %s %s\n\n", f.Severity, escape(f.Check), g.title)
	if f.Cause != "" {
		fmt.Fprintf(w, "Cause: %s.", escape(string(f.Cause)))
	}
	also := len(f.Aliases) > 0 && f.Scope.Advisory == "" // a group may be of several advisories
	if also {
		fmt.Fprintf(w, " Also known as %s.", escape(strings.Join(f.Aliases, ", ")))
	}
	if f.Cause != "" || also {
		fmt.Fprint(w, "\n\n")
	}
	m.members(w, g)
	m.remedy(w, f)
}

// waived writes a group that somebody has accepted. What could be done about
// it is for --verbose.
func (m markdownRenderer) waived(w *bufio.Writer, g group) {
	f := g.first
	fmt.Fprintf(w, "\n### %s: %s %s\n\n%s.\n\n", f.Severity, escape(f.Check), g.title, escape(upper(waivedBy(f.Waived))))
	m.members(w, g)
	if m.verbose {
		m.remedy(w, f)
	}
}

// members writes the findings of a group.
func (m markdownRenderer) members(w *bufio.Writer, g group) {
	for _, f := range g.findings {
		fmt.Fprintf(w, "- **%s**: %s%s\n", escape(subject(f)), escape(f.Summary), remarks(f))
		if f.Waived != nil && !m.verbose {
			continue
		}
		evidence := f.Evidence
		if !m.verbose && len(evidence) > shownEvidence {
			evidence = strongest(evidence)
		}
		for _, e := range evidence {
			fmt.Fprintf(w, "  - %s\n", escape(evidenceText(e)))
		}
		if n := len(f.Evidence) - len(evidence); n > 0 {
			fmt.Fprintf(w, "  - and %d more\n", n)
		}
	}
}

// remedy writes what to do about a finding.
func (m markdownRenderer) remedy(w *bufio.Writer, f *finding.Finding) {
	fmt.Fprint(w, "\n**What to do**")
	if how := takesEffect(f.Remediation); how != "" {
		fmt.Fprintf(w, " (%s)", how)
	}
	fmt.Fprintf(w, ": %s\n", escape(f.Remediation.Text))
	if f.Remediation.Config != "" {
		fmt.Fprintf(w, "\n%s\n", fenced(f.Remediation.Config))
	}
	if len(f.Refs) > 0 {
		fmt.Fprintln(w)
	}
	for _, ref := range f.Refs {
		fmt.Fprintf(w, "- <%s>\n", strings.Map(func(r rune) rune {
			if strings.ContainsRune("<> \ufffd", r) {
				return -1
			}
			return r
		}, clean(ref)))
	}
}

func (m markdownRenderer) gaps(w *bufio.Writer, r *finding.Report) {
	if len(r.Coverage.Gaps) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Gaps\n\n")
	bounds, gaps := byBound(r.Coverage.Gaps)
	for _, g := range bounds {
		fmt.Fprintf(w, "%s.\n\n", escape(upper(g.Reason)))
	}
	if len(gaps) == 0 {
		return
	}
	fmt.Fprintf(w, "%s. Nothing is concluded from silence.\n\n", upper(plural(len(gaps), "answer is missing", "answers are missing")))
	for _, g := range gaps {
		fmt.Fprintf(w, "- %s\n", escape(gapLine(g)))
	}
}

// escape makes a string of any origin plain text in Markdown: no markup, no
// table cell, no HTML, no link and no mention of anybody.
func escape(s string) string {
	var b strings.Builder
	text := []rune(clean(s))
	at := func(i int) rune {
		if i < 0 || i >= len(text) {
			return ' '
		}
		return text[i]
	}
	word := func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }
	for i, r := range text {
		switch {
		case r == '_' && word(at(i-1)) && word(at(i+1)): // no emphasis inside of words
		case strings.ContainsRune("\\`*_[]<>|~&@$", r), r == ':' && at(i+1) == '/' && at(i+2) == '/':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// fenced is a block of configuration.
func fenced(config string) string {
	return "```\n" + strings.ReplaceAll(cleanLines(config), "```", "` ` `") + "\n```"
}

func upper(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
