package main

import (
	"bufio"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/check"
)

// advisoriesType is the type field of the advisories in JSON.
const advisoriesType = "natsentry.v1.advisories"

// advisoryList is what `natsentry advisories --format json` prints.
type advisoryList struct {
	Type       string          `json:"type"`
	AsOf       string          `json:"as_of"`
	Sources    []string        `json:"sources"`
	Version    string          `json:"version"` // "" for all
	Advisories []advisoryEntry `json:"advisories"`
}

type advisoryEntry struct {
	advisory.Advisory
	Bypass  bool            `json:"authentication_bypass"`
	Takes   []advisory.Need `json:"takes"`
	Unseen  string          `json:"takes_unseen"` // what it takes beside that, and no server shows
	Certain bool            `json:"certain"`      // of a version: whether it has it, or may have it
}

func (p *program) advisoriesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "advisories [VERSION|ID]",
		Short: "List the known vulnerabilities of nats-server, those of one version, or one of them",
		Long: `Lists the published vulnerabilities of nats-server that this version of
natsentry knows, those of one version, or one of them by its number: that of the
NATS project, a CVE, a GHSA or a GO id. CVE_001 goes by this list. It is a list
of its own day, and asks nobody.`,
		Example: `  natsentry advisories
  natsentry advisories 2.12.6                  # what does that version have?
  natsentry advisories CVE-2026-58253          # what is it, and what fixes it?
  natsentry advisories --format markdown > advisories.md`,
		Args:              cobra.MaximumNArgs(1),
		Annotations:       offlineCommand,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	format := chooseFlag(cmd, "format", "how to print", "text", "json", "markdown")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		list, err := advisoriesFor(args)
		if err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		return p.print(func(w *bufio.Writer) error {
			switch format.value {
			case "json":
				return writeJSON(w, list, "  ")
			case "markdown":
				markdownAdvisories(w, &list)
			default:
				textRenderer{style: style{p.colourful(p.stdout)}}.advisories(w, &list, advisory.Known().Age(time.Now()) > check.AdvisoryLife)
			}
			return nil
		})
	}
	return cmd
}

var advisoryNumber = regexp.MustCompile(`(?i)^(?:CVE-|GHSA-|GO-|\d{4}-\d+$)`)

// advisoriesFor lists the advisories that the arguments ask for: all, those of a
// version, or the one with an id.
func advisoriesFor(args []string) (advisoryList, error) {
	if len(args) == 0 {
		return advisoriesOf(""), nil
	}
	if a := advisory.Known().Lookup(args[0]); a != nil {
		list := advisoriesOf("")
		list.Advisories = slices.DeleteFunc(list.Advisories, func(e advisoryEntry) bool { return e.ID != a.ID })
		return list, nil
	}
	version := strings.TrimPrefix(args[0], "v")
	switch {
	case advisory.Readable(version):
		return advisoriesOf(version), nil
	case advisoryNumber.MatchString(args[0]):
		return advisoryList{}, fmt.Errorf("%q is not among the advisories known on %s: `natsentry advisories` lists them", args[0], advisory.Known().AsOf)
	default:
		return advisoryList{}, fmt.Errorf("%q is neither a version of nats-server, like 2.12.6, nor the id of an advisory, like CVE-2026-58253", args[0])
	}
}

// advisoriesOf lists the advisories of a version, authentication bypasses first,
// then the latest first; of "", all.
func advisoriesOf(version string) advisoryList {
	table := advisory.Known()
	list := advisoryList{Type: advisoriesType, AsOf: table.AsOf, Sources: table.Sources, Version: version, Advisories: []advisoryEntry{}}
	for i := len(table.Advisories) - 1; i >= 0; i-- {
		a := &table.Advisories[i]
		answer := a.Match(version, "")
		if version != "" && answer == advisory.NotAffected {
			continue
		}
		list.Advisories = append(list.Advisories, advisoryEntry{
			Advisory: *a, Bypass: a.Bypass, Takes: append([]advisory.Need{}, a.Needs...), Unseen: a.Unseen,
			Certain: answer == advisory.Affected,
		})
	}
	slices.SortStableFunc(list.Advisories, func(a, b advisoryEntry) int {
		switch {
		case a.Bypass == b.Bypass:
			return 0
		case a.Bypass:
			return -1
		default:
			return 1
		}
	})
	return list
}

// headline tells what a list is of.
func (l *advisoryList) headline() string {
	n := len(l.Advisories)
	if l.Version == "" {
		return fmt.Sprintf("%s of nats-server, as known on %s.", plural(n, "vulnerability", "vulnerabilities"), l.AsOf)
	}
	maybe := 0
	for i := range l.Advisories {
		if !l.Advisories[i].Certain {
			maybe++
		}
	}
	text := fmt.Sprintf("nats-server %s has %s, as known on %s", l.Version, plural(n-maybe, "vulnerability", "vulnerabilities"), l.AsOf)
	if maybe > 0 {
		text += fmt.Sprintf("; %d more it may have", maybe)
	}
	return text + "."
}

// takes says what an advisory takes beside the version; "" when nothing.
func (e *advisoryEntry) takes() string {
	var parts []string
	for _, n := range e.Takes {
		parts = append(parts, string(n))
	}
	if e.Unseen != "" {
		parts = append(parts, e.Unseen)
	}
	return strings.Join(parts, ", ")
}

// affected says which versions are affected.
func (e *advisoryEntry) affected() string {
	var parts []string
	for _, r := range e.Affected {
		parts = append(parts, between(r, ""))
	}
	for _, r := range e.BuiltWith {
		parts = append(parts, between(r, "Go "))
	}
	return strings.Join(parts, "; ")
}

func between(r advisory.Range, of string) string {
	from := strings.TrimSuffix(r.Introduced, "-0")
	switch {
	case r.Fixed == "" && from == "":
		return "all"
	case r.Fixed == "":
		return of + from + " and later"
	case from == "":
		return of + "before " + r.Fixed
	default:
		return of + from + " to before " + r.Fixed
	}
}

func (t textRenderer) advisories(w *bufio.Writer, l *advisoryList, old bool) {
	fmt.Fprintf(w, "%s\n", t.in(bold, l.headline()))
	for i := range l.Advisories {
		e := &l.Advisories[i]
		mark := ""
		if e.Bypass {
			mark = t.in(red, "AUTHENTICATION BYPASS") + " "
		}
		if l.Version != "" && !e.Certain {
			mark = t.in(yellow, "MAY HAVE") + " " + mark
		}
		fmt.Fprintf(w, "\n%s  %s  %s%s\n", t.in(bold, fmt.Sprintf("%-7s", e.ID)), e.day(), mark, clean(e.Title))
		t.item(w, "  ", upper(e.FixedIn())+". Affected: "+e.affected()+".")
		if takes := e.takes(); takes != "" {
			t.item(w, "  ", "Takes "+takes+".")
		}
		if len(e.Aliases) > 0 {
			t.item(w, "  ", strings.Join(e.Aliases, ", "))
		}
		fmt.Fprintf(w, "  %s\n", t.in(faint, e.URLs[0]))
	}
	if len(l.Advisories) > 0 {
		fmt.Fprintln(w)
	}
	for _, s := range l.Sources {
		t.item(w, "", t.in(faint, "Source: "+s))
	}
	if old {
		t.item(w, "", t.in(yellow, "This list is more than 90 days old: a newer natsentry may know more."))
	}
}

func (e *advisoryEntry) day() string {
	if e.Date == "" {
		return "no date   "
	}
	return e.Date
}

func markdownAdvisories(w *bufio.Writer, l *advisoryList) {
	fmt.Fprint(w, "<!-- Written by `natsentry advisories --format markdown`; do not edit. -->\n\n# Advisories\n\n")
	fmt.Fprintf(w, "%s\n[CVE_001](checks.md#cve_001) says which of them a server has that runs, or will run with a configuration.\n", escape(l.headline()))
	fmt.Fprint(w, "\nThose in bold let in who has no valid credentials. What an advisory takes beside the\nversion is natsentry's own reading of its text.\n\n")
	fmt.Fprint(w, "| Advisory | Day | What | Affected | Takes |\n|---|---|---|---|---|\n")
	for i := range l.Advisories {
		e := &l.Advisories[i]
		title := escape(e.Title)
		if e.Bypass {
			title = "**" + title + "**"
		}
		fmt.Fprintf(w, "| [%s](%s) | %s | %s<br>%s | %s | %s |\n",
			escape(e.ID), e.URLs[0], e.Date, title, escape(strings.Join(e.Aliases, ", ")), escape(e.affected()), escape(e.takes()))
	}
	fmt.Fprint(w, "\n## Sources\n\nWhere the two differ, the first holds.\n\n")
	for _, s := range l.Sources {
		fmt.Fprintf(w, "- %s\n", escape(s))
	}
	fmt.Fprint(w, "\nThe data, and how it is read, is in `agent/advisory/generate`.\n")
}
