package main

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// catalogueType is the type field of the catalogue in JSON.
const catalogueType = "natsentry.v1.catalogue"

// catalogue is what `natsentry checks --format json` prints.
type catalogue struct {
	Type   string         `json:"type"`
	Checks []catalogEntry `json:"checks"`
}

type catalogEntry struct {
	ID       string             `json:"id"`
	Aliases  []string           `json:"aliases"`
	Severity check.Severity     `json:"severity"`
	Title    string             `json:"title"`
	Doc      string             `json:"doc"`
	Sight    check.Sight        `json:"sight"`
	Needs    []string           `json:"needs"`
	Since    []string           `json:"since"`
	Doors    []posture.DoorKind `json:"doors"`
	Remedies []catalogRemedy    `json:"remedies"`
	Refs     []string           `json:"refs"`
}

type catalogRemedy struct {
	Cause  posture.Cause `json:"cause"` // "" is every other cause
	Text   string        `json:"text"`
	Config string        `json:"config"`
	Reload bool          `json:"reload"`
}

func entryOf(c *check.Check) catalogEntry {
	e := catalogEntry{
		ID: c.ID, Aliases: append([]string{}, c.Aliases...), Severity: c.Severity, Title: c.Title, Doc: c.Doc, Sight: c.Sight,
		Needs: append([]string{}, c.Needs.InputNames()...), Since: append([]string{}, c.Since...),
		Doors: append([]posture.DoorKind{}, c.Doors...), Remedies: []catalogRemedy{}, Refs: append([]string{}, c.Refs...),
	}
	for _, cause := range slices.Sorted(maps.Keys(c.Remedies)) {
		r := c.Remedies[cause]
		e.Remedies = append(e.Remedies, catalogRemedy{cause, r.Text, r.Config, r.Reload})
	}
	if r := c.Remedy; r != (check.Remedy{}) {
		e.Remedies = append(e.Remedies, catalogRemedy{"", r.Text, r.Config, r.Reload})
	}
	return e
}

func (p *program) checksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "checks [ID]",
		Short: "List the checks, or explain one",
		Long:  "Lists every check, or explains one: why it matters, how it is judged, what to do about each cause.",
		Example: `  natsentry checks
  natsentry checks DOOR_001
  natsentry checks SERVER_007                  # by the name that nats audit gives it
  natsentry checks --format markdown > checks.md`,
		Args:        cobra.MaximumNArgs(1),
		Annotations: offlineCommand,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var ids []string
			if len(args) == 0 {
				ids = checkCompletions()
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
	}
	format := chooseFlag(cmd, "format", "how to print", "text", "json", "markdown")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		entries, one := []catalogEntry{}, len(args) == 1
		if one {
			c := check.Lookup(strings.ToUpper(args[0]))
			if c == nil {
				return &usageError{cmd.CommandPath(), fmt.Errorf("there is no check %q: `natsentry checks` lists them", args[0])}
			}
			entries = append(entries, entryOf(c))
		} else {
			for _, c := range check.Catalogue() {
				entries = append(entries, entryOf(c))
			}
		}
		return p.print(func(w *bufio.Writer) error {
			switch {
			case format.value == "json":
				return writeJSON(w, catalogue{catalogueType, entries}, "  ")
			case format.value == "markdown" && one:
				markdownCheck(w, entries[0])
			case format.value == "markdown":
				markdownCatalogue(w, entries)
			case one:
				textRenderer{style: style{p.colourful(p.stdout)}}.check(w, entries[0])
			default:
				textRenderer{style: style{p.colourful(p.stdout)}}.catalogue(w, entries)
			}
			return nil
		})
	}
	return cmd
}

// checkCompletions are the checks, for the shell.
func checkCompletions() []string {
	var ids []string
	for _, c := range check.Catalogue() {
		ids = append(ids, cobra.CompletionWithDesc(c.ID, c.Title))
	}
	return ids
}

func (t textRenderer) catalogue(w *bufio.Writer, entries []catalogEntry) {
	tw := table.NewWriter()
	tw.SetStyle(tableStyle())
	tw.SuppressTrailingSpaces()
	tw.AppendRow(table.Row{"CHECK", "SEVERITY", "SEEN", "WHAT IS WRONG", "ALSO KNOWN AS"})
	for _, e := range entries {
		tw.AppendRow(table.Row{e.ID, t.severity(e.Severity), e.Sight.String(), e.Title, strings.Join(e.Aliases, ", ")})
	}
	fmt.Fprintf(w, "%s\n\n`natsentry checks ID` explains one.\n", tw.Render())
}

func (t textRenderer) check(w *bufio.Writer, e catalogEntry) {
	fmt.Fprintf(w, "%s  %s  %s\n", t.severity(e.Severity), t.in(bold, e.ID), e.Title)
	for _, f := range e.facts() {
		t.item(w, "", f)
	}
	fmt.Fprintln(w)
	t.paragraph(w, "", e.Doc)
	for _, r := range e.Remedies {
		fmt.Fprintf(w, "\n%s\n", t.in(bold, e.remedyTitle(r)))
		t.paragraph(w, "  ", r.Text)
		if r.Config != "" {
			for line := range strings.SplitSeq(cleanLines(r.Config), "\n") {
				fmt.Fprintf(w, "      %s\n", t.in(blue, line))
			}
		}
	}
	if len(e.Refs) > 0 {
		fmt.Fprintln(w)
	}
	for _, ref := range e.Refs {
		fmt.Fprintf(w, "%s\n", t.in(faint, "See "+ref))
	}
}

// facts are what is to be known of a check, one line each.
func (e catalogEntry) facts() []string {
	var facts []string
	if len(e.Aliases) > 0 {
		facts = append(facts, "Also known as "+strings.Join(e.Aliases, ", ")+".")
	}
	switch e.Sight {
	case check.Live:
		facts = append(facts, "Judges servers that run (live).")
	case check.Lint:
		facts = append(facts, "Judges configurations (lint).")
	default:
		facts = append(facts, "Judges servers that run and configurations (live and lint).")
	}
	if len(e.Doors) > 0 {
		names := make([]string, len(e.Doors))
		for i, d := range e.Doors {
			names[i] = d.String()
		}
		facts = append(facts, "Judges the door: "+strings.Join(names, ", ")+".")
	}
	if len(e.Needs) > 0 {
		facts = append(facts, "Needs the server's answer to "+strings.Join(e.Needs, ", ")+".")
	}
	if len(e.Since) > 0 {
		facts = append(facts, "Servers show it since "+strings.Join(e.Since, ", ")+".")
	}
	return facts
}

func (e catalogEntry) remedyTitle(r catalogRemedy) string {
	title := "What to do"
	switch {
	case r.Cause != "":
		title += " about " + string(r.Cause)
	case len(e.Remedies) > 1:
		title += " about any other cause"
	}
	switch {
	case r.Reload:
		title += " (reload)"
	case r.Config != "":
		title += " (restart)"
	}
	return title
}

func markdownCatalogue(w *bufio.Writer, entries []catalogEntry) {
	fmt.Fprint(w, "<!-- Written by `natsentry checks --format markdown`; do not edit. -->\n\n# Checks\n\n")
	fmt.Fprint(w, "| Check | Severity | Seen | What is wrong | Also known as |\n|---|---|---|---|---|\n")
	for _, e := range entries {
		fmt.Fprintf(w, "| [%s](#%s) | %s | %s | %s | %s |\n", e.ID, strings.ToLower(e.ID), e.Severity, e.Sight, escape(e.Title), strings.Join(e.Aliases, ", "))
	}
	for _, e := range entries {
		fmt.Fprintln(w)
		markdownCheck(w, e)
	}
}

func markdownCheck(w *bufio.Writer, e catalogEntry) {
	fmt.Fprintf(w, "## %s\n\n**%s** (%s). %s\n", e.ID, upper(escape(e.Title)), e.Severity, escape(e.Doc))
	for i, f := range e.facts() {
		if i == 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "- %s\n", escape(f))
	}
	for _, r := range e.Remedies {
		fmt.Fprintf(w, "\n### %s\n\n%s\n", escape(e.remedyTitle(r)), escape(r.Text))
		if r.Config != "" {
			fmt.Fprintf(w, "\n%s\n", fenced(r.Config))
		}
	}
	if len(e.Refs) > 0 {
		fmt.Fprint(w, "\nSee ")
		for i, ref := range e.Refs {
			if i > 0 {
				fmt.Fprint(w, ", ")
			}
			fmt.Fprintf(w, "<%s>", ref)
		}
		fmt.Fprintln(w, ".")
	}
}
