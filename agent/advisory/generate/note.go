package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/natsentry/natsentry/agent/advisory"
)

// note is the header of one advisory of the NATS project.
type note struct {
	File         string   `json:"file"`
	Subject      string   `json:"subject"`
	Advisory     string   `json:"advisory"`
	Aliases      []string `json:"aliases"`
	Date         string   `json:"date"`
	FixedIn      []string `json:"fixed_in"`
	AffectedText string   `json:"affected_text"`
	URL          string   `json:"url"`
}

// readNotes reads those notes that speak of nats-server, each once.
func readNotes(path string) ([]advisory.Advisory, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var notes []note
	if err := json.Unmarshal(text, &notes); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var out []advisory.Advisory
	for i := range notes {
		n := &notes[i]
		a, ours, err := n.read()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.File, err)
		}
		if !ours {
			continue
		}
		// An advisory may stand under two file names. The later one, under its
		// number, is the one that is kept up.
		if same := slices.IndexFunc(out, func(o advisory.Advisory) bool { return o.ID == a.ID }); same >= 0 {
			if !slices.Equal(out[same].Affected, a.Affected) {
				return nil, fmt.Errorf("%s: %s is told twice, with different versions", n.File, a.ID)
			}
			out[same] = a
			continue
		}
		out = append(out, a)
	}
	return out, nil
}

var (
	noteFile   = regexp.MustCompile(`^secnote-(\d{4}-\d{2})\.txt$`)
	noteID     = regexp.MustCompile(`^\d{4}-\d{2}$`)
	goBuilds   = regexp.MustCompile(`built with Go before ([\d.]+) or ([\d.]+)`)
	release    = regexp.MustCompile(`^v?(\d+\.\d+\.\d+)\.?$`)
	thisServer = regexp.MustCompile(`(?i)nats[- ]server:?`)
)

// read makes an advisory of a note; ours is false for one of another product.
func (n *note) read() (a advisory.Advisory, ours bool, err error) {
	a = advisory.Advisory{ID: n.Advisory, Aliases: slices.Clone(n.Aliases), Title: n.Subject, Date: n.Date, URLs: []string{n.URL}}
	// The header of some gives another one's number; the file name is right.
	if m := noteFile.FindStringSubmatch(n.File); m != nil {
		a.ID = m[1]
	}
	if !noteID.MatchString(a.ID) {
		return a, false, fmt.Errorf("%q is no number of an advisory", a.ID)
	}
	if _, err := time.Parse(time.DateOnly, a.Date); err != nil {
		return a, false, err
	}
	if m := goBuilds.FindStringSubmatch(n.AffectedText); m != nil {
		a.BuiltWith, err = ranges("", []string{m[1], m[2]})
		return a, true, err
	}
	fixes, open, err := n.fixes()
	if err != nil {
		return a, false, err
	}
	if len(fixes) == 0 && !open {
		return a, false, nil
	}
	first, err := introduced(n.AffectedText)
	if err != nil {
		return a, false, err
	}
	if open {
		a.Affected = []advisory.Range{{Introduced: first}}
		return a, true, nil
	}
	a.Affected, err = ranges(first, fixes)
	return a, true, err
}

// fixes lists the releases of nats-server that a note says are fixed. open: it is
// not fixed yet.
func (n *note) fixes() (fixes []string, open bool, err error) {
	for _, entry := range n.FixedIn {
		for part := range strings.SplitSeq(entry, ";") {
			product, version, named := strings.Cut(strings.TrimSpace(part), " ")
			if !named {
				product, version = "nats-server", product
			}
			switch m := release.FindStringSubmatch(version); {
			case product != "nats-server":
			case version == "TBD":
				open = true
			case m == nil:
				return nil, false, fmt.Errorf("fixed in %q: not understood", part)
			default:
				fixes = append(fixes, m[1])
			}
		}
	}
	return fixes, open && len(fixes) == 0, nil
}

// introductions are how the notes say which versions are affected, and what the
// first one is: the one it names, or a fixed one.
var introductions = []struct {
	text  *regexp.Regexp
	first string
}{
	{regexp.MustCompile(`from v?(\d+\.\d+\.\d+) onwards`), ""},
	{regexp.MustCompile(`(\d+\.\d+\.\d+) (?:through|up to) and including`), ""},
	{regexp.MustCompile(`All 2\.x versions up to and including|Version 2,? prior to`), "2.0.0"},
	{regexp.MustCompile(`All versions prior to|any version before|and below are vulnerable`), ""},
}

// introduced is the first affected version; "" for all below the fix.
func introduced(text string) (string, error) {
	if at := thisServer.FindStringIndex(text); at != nil {
		text = text[at[0]:] // what comes before is of libraries
	}
	text, _, _ = strings.Cut(text, "NATS Streaming Server")
	for _, in := range introductions {
		if m := in.text.FindStringSubmatch(text); m != nil {
			if len(m) > 1 {
				return m[1], nil
			}
			return in.first, nil
		}
	}
	return "", fmt.Errorf("affected %q: not understood", text)
}

// ranges are the affected versions between the first one and the fixes, of which
// each holds for its own line of releases and, the last of them, for all after it.
// A line between two fixes has none of its own.
func ranges(first string, fixes []string) ([]advisory.Range, error) {
	fixes = slices.Clone(fixes)
	slices.SortFunc(fixes, func(a, b string) int { return semver.Compare("v"+a, "v"+b) })
	fixes = slices.Compact(fixes)
	var out []advisory.Range
	for i, fix := range fixes {
		r := advisory.Range{Introduced: first, Fixed: fix}
		if i > 0 {
			var major, minor, patch int
			if _, err := fmt.Sscanf(fixes[i-1], "%d.%d.%d", &major, &minor, &patch); err != nil {
				return nil, fmt.Errorf("%q: %w", fixes[i-1], err)
			}
			r.Introduced = fmt.Sprintf("%d.%d.0-0", major, minor+1)
			if semver.Compare("v"+r.Introduced, "v"+fix) >= 0 {
				return nil, fmt.Errorf("two fixes of one line of releases: %s, %s", fixes[i-1], fix)
			}
		}
		if first != "" && semver.Compare("v"+first, "v"+fix) >= 0 {
			return nil, fmt.Errorf("introduced in %s and fixed in %s", first, fix)
		}
		out = append(out, r)
	}
	return out, nil
}

func byAge(a, b advisory.Advisory) int {
	return cmp.Or(strings.Compare(a.Date, b.Date), strings.Compare(a.ID, b.ID))
}
