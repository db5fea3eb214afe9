package main

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

func (p *program) printLint(l *linted, format, failOn string, verbose bool) error {
	switch format {
	case "json", "markdown":
		return p.printReport(l.report, format, verbose)
	case "sarif":
		return p.print(func(w *bufio.Writer) error { return writeSARIF(w, l.report, thisBuild().Version) })
	case "junit":
		threshold := check.Critical + 1 // nothing fails
		if failOn != "none" {
			if err := threshold.UnmarshalText([]byte(failOn)); err != nil {
				return err
			}
		}
		return p.print(func(w *bufio.Writer) error { return writeJUnit(w, l.report, threshold) })
	case "github":
		return p.print(func(w *bufio.Writer) error { writeGithub(w, l.report); return nil })
	}
	t := lintRenderer{textRenderer{style: style{p.colourful(p.stdout)}, verbose: verbose}, l}
	return p.print(func(w *bufio.Writer) error { return t.report(w, l.report) })
}

// lintRenderer writes a report on configurations for people: each finding with
// the lines that it is about.
type lintRenderer struct {
	textRenderer
	*linted
}

func (t lintRenderer) report(w *bufio.Writer, r *finding.Report) error {
	if len(r.Servers) == 0 {
		fmt.Fprintln(w, "There is no configuration of nats-server: nothing was judged.")
		return nil
	}
	t.doors(w, r)
	if t.compared != nil {
		t.item(w, "  ", t.compared.tell(t))
	}
	t.findings(w, r, t.group, t.waived)
	t.totals(w, r)
	return nil
}

// doors writes which doors each configuration has, and why some cannot be told.
func (t lintRenderer) doors(w *bufio.Writer, r *finding.Report) {
	for i := range r.Servers {
		s := &r.Servers[i]
		if t.refused[s.ID] {
			fmt.Fprintf(w, "%s: %s\n", t.in(bold, clean(s.ID)), t.in(red, "✗ would not start"))
			continue
		}
		if why := t.nothingKnown(s); why != "" {
			fmt.Fprintf(w, "%s: %s\n", t.in(bold, clean(s.ID)), t.in(markUnknown.colour, markUnknown.String()))
			t.item(w, "  ", "? "+clean(why))
			continue
		}
		var parts []string
		for _, kind := range posture.DoorKinds() {
			if m := markOf(s, kind); m != markOff && m != markUntold {
				parts = append(parts, kind.String()+" "+t.in(m.colour, m.String()))
			}
		}
		fmt.Fprintf(w, "%s: %s\n", t.in(bold, clean(s.ID)), strings.Join(parts, ", "))
	}
	undecided := slices.DeleteFunc(undecidedDoors(r), func(u undecidedDoor) bool {
		return slices.ContainsFunc(r.Servers, func(s finding.ReportServer) bool { return s.ID == u.server && t.nothingKnown(&s) != "" })
	})
	for i, u := range undecided {
		if i == shownGaps && !t.verbose {
			fmt.Fprintf(w, "  ? and more (--verbose shows them)\n")
			break
		}
		t.item(w, "  ", "? "+clean(u.server)+" "+u.door.Door.String()+": "+clean(u.door.Reason))
	}
}

// nothingKnown says why nothing is known of any door of a configuration; "" where
// something is, or no server would start with it.
func (t lintRenderer) nothingKnown(s *finding.ReportServer) string {
	for i := range s.Doors {
		if d := &s.Doors[i]; d.Access != posture.Unknown || d.Reason != s.Doors[0].Reason || t.refused[s.ID] {
			return ""
		}
	}
	if len(s.Doors) == 0 {
		return ""
	}
	return t.places[s.ID].String() + ": " + s.Doors[0].Reason
}

// undecidedDoor is a door of which nobody can tell.
type undecidedDoor struct {
	server string
	door   *finding.ReportDoor
}

// undecidedDoors lists them. Of a configuration with which no server would start
// there are none to tell of.
func undecidedDoors(r *finding.Report) []undecidedDoor {
	refused := map[string]bool{}
	for i := range r.Findings {
		if r.Findings[i].Check == "CONF_007" {
			refused[r.Findings[i].Scope.ServerID] = true
		}
	}
	var out []undecidedDoor
	for i := range r.Servers {
		s := &r.Servers[i]
		for j := range s.Doors {
			if d := &s.Doors[j]; d.Access == posture.Unknown && !refused[s.ID] {
				out = append(out, undecidedDoor{s.ID, d})
			}
		}
	}
	return out
}

func (t lintRenderer) group(w *bufio.Writer, g group) {
	f := g.first
	fmt.Fprintf(w, "\n%s  %s  %s", t.severity(f.Severity), t.in(bold, clean(f.Check)), g.title)
	if f.Cause != "" {
		fmt.Fprintf(w, " (cause: %s)", clean(string(f.Cause)))
	}
	fmt.Fprintln(w)
	for _, f := range g.findings {
		t.finding(w, f)
	}
	if c := check.Lookup(f.Check); c != nil {
		t.item(w, "  ", "Why: "+c.Doc)
	}
	t.remedy(w, f)
}

func (t lintRenderer) waived(w *bufio.Writer, g group) {
	f := g.first
	fmt.Fprintf(w, "\n%s  %s  %s (waived)\n", t.in(faint, severityWord(f.Severity)), t.in(bold, clean(f.Check)), g.title)
	t.item(w, "  ", upper(waivedBy(f.Waived)))
	for _, f := range g.findings {
		t.item(w, "  ", t.in(bold, lintSubject(f))+": "+clean(f.Summary))
	}
}

// lintSubject is the configuration that a finding is about, or what else.
func lintSubject(f *finding.Finding) string {
	if f.Scope.ServerID == "" {
		return subject(f)
	}
	return clean(f.Scope.ServerID)
}

func (t lintRenderer) finding(w *bufio.Writer, f *finding.Finding) {
	t.item(w, "  ", t.in(bold, lintSubject(f))+": "+clean(f.Summary))
	evidence := f.Evidence
	if !t.verbose && len(evidence) > shownSubjects {
		evidence = evidence[:shownSubjects]
	}
	for _, e := range evidence {
		t.item(w, "    ", clean(e.Source)+": "+clean(e.Value))
		if e.Place != nil && t.files[e.Place.File] != nil {
			t.line(w, *e.Place, t.files[e.Place.File])
		}
	}
	if n := len(f.Evidence) - len(evidence); n > 0 {
		fmt.Fprintf(w, "    and %d more (--verbose shows them)\n", n)
	}
}

// line writes a line of a configuration, and marks a key in it.
func (t lintRenderer) line(w *bufio.Writer, p posture.Place, file *conffile.File) {
	line, column := file.Line(p)
	if strings.TrimSpace(line) == "" {
		return
	}
	fmt.Fprintf(w, "    %s | %s\n", t.in(faint, fmt.Sprintf("%6d", p.Line)), clean(strings.ReplaceAll(line, "\t", " ")))
	if column == 0 {
		return
	}
	width := 0
	for _, r := range strings.TrimLeft(line[column-1:], `"'`) {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-$.", r) {
			break
		}
		width++
	}
	fmt.Fprintf(w, "    %6s | %s%s\n", "", strings.Repeat(" ", utf8.RuneCountInString(line[:column-1])), t.in(red, strings.Repeat("^", max(width, 1))))
}
