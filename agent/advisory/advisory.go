package advisory

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"
)

// Table is what is known of vulnerabilities.
type Table struct {
	AsOf       string     `json:"as_of"` // the day on which the sources were read, YYYY-MM-DD
	Sources    []string   `json:"sources"`
	Advisories []Advisory `json:"advisories"` // the oldest first
}

// Advisory is one published vulnerability of nats-server.
type Advisory struct {
	ID       string   `json:"id"`      // the NATS project's number, like 2026-16; the CVE of one that has none
	Aliases  []string `json:"aliases"` // CVE, GHSA and GO ids
	Title    string   `json:"title"`
	Date     string   `json:"date"`     // YYYY-MM-DD; "" when no source tells
	Affected []Range  `json:"affected"` // versions, lowest first
	// BuiltWith are the versions of Go, in the place of versions of the server:
	// it depends on what a server was built with.
	BuiltWith []Range  `json:"built_with,omitempty"`
	URLs      []string `json:"urls"` // of the sources, the authority first

	Nature `json:"-"`
}

// Range is a range of versions, without the v. A bound like 2.12.0-0 lies below
// all prereleases of 2.12.0.
type Range struct {
	Introduced string `json:"introduced"` // the first affected version; "" for all before Fixed
	Fixed      string `json:"fixed"`      // the first version after it that is not; "" when none is yet
}

// Answer says whether a version is affected.
type Answer uint8

// The answers. Unknown is the zero value.
const (
	Unknown Answer = iota
	Affected
	NotAffected
)

//go:embed table.json
var embedded []byte

// Known is the embedded table. It is shared and must not be changed.
var Known = sync.OnceValue(func() *Table {
	t := &Table{}
	if err := json.Unmarshal(embedded, t); err != nil {
		panic(fmt.Sprintf("advisory: table.json: %v", err)) // the tests have read it
	}
	for i := range t.Advisories {
		t.Advisories[i].Nature = natures[t.Advisories[i].ID]
	}
	return t
})

// Age is how old the table's sources are.
func (t *Table) Age(now time.Time) time.Duration {
	day, err := time.Parse(time.DateOnly, t.AsOf)
	if err != nil {
		return 1<<63 - 1 // of an unknown day: as old as can be
	}
	return now.Sub(day)
}

// Lookup finds an advisory by its id or one of its aliases, in any case.
func (t *Table) Lookup(id string) *Advisory {
	for i := range t.Advisories {
		a := &t.Advisories[i]
		if strings.EqualFold(a.ID, id) || slices.ContainsFunc(a.Aliases, func(alias string) bool { return strings.EqualFold(alias, id) }) {
			return a
		}
	}
	return nil
}

// Match tells whether a server of a version, built with a version of Go as in
// "go1.25.7", is affected. The latter may be "".
func (a *Advisory) Match(version, builtWith string) Answer {
	if len(a.BuiltWith) > 0 {
		number, _, _ := strings.Cut(strings.TrimPrefix(builtWith, "go"), " ") // experiments come after it
		return match(a.BuiltWith, number)
	}
	if !Readable(version) {
		return Unknown
	}
	return match(a.Affected, version)
}

// match tells whether a version is in one of the ranges. A suffix sorts a version
// below its release, which is right for a release candidate and wrong for a
// vendor's build of the release itself: nothing tells these apart. So the answer
// is only given when it is the same for both.
func match(ranges []Range, version string) Answer {
	v, ok := parse(version)
	if !ok {
		return Unknown
	}
	in, release := within(ranges, v), strings.TrimSuffix(v, semver.Prerelease(v))
	switch {
	case in != within(ranges, release):
		return Unknown
	case in:
		return Affected
	default:
		return NotAffected
	}
}

// Readable tells whether a version of a server can be compared: three numbers,
// with or without a v and a suffix.
func Readable(version string) bool {
	_, ok := parse(version)
	numbers, _, _ := strings.Cut(version, "-")
	numbers, _, _ = strings.Cut(numbers, "+")
	return ok && strings.Count(numbers, ".") == 2
}

// parse makes a version comparable. Go leaves zeros out at the end of some.
func parse(version string) (string, bool) {
	v := "v" + strings.TrimPrefix(version, "v")
	if v == "v" || !semver.IsValid(v) {
		return "", false
	}
	return semver.Canonical(v), true
}

func within(ranges []Range, v string) bool {
	for _, r := range ranges {
		if (r.Introduced == "" || semver.Compare(v, "v"+r.Introduced) >= 0) && (r.Fixed == "" || semver.Compare(v, "v"+r.Fixed) < 0) {
			return true
		}
	}
	return false
}

// Fixes lists the releases that do not have it any more, the lowest first; nil
// when there is none.
func (a *Advisory) Fixes() []string {
	var out []string
	for _, r := range slices.Concat(a.Affected, a.BuiltWith) {
		if r.Fixed != "" {
			out = append(out, r.Fixed)
		}
	}
	return out
}

// FixedIn says in which releases it is fixed, for people.
func (a *Advisory) FixedIn() string {
	fixes := a.Fixes()
	switch {
	case len(fixes) == 0:
		return "not fixed yet"
	case len(a.BuiltWith) > 0:
		return "not in builds with Go " + strings.Join(fixes, ", ")
	default:
		return "fixed in " + strings.Join(fixes, ", ")
	}
}

// Names are all ids of an advisory, for people.
func (a *Advisory) Names() string {
	if len(a.Aliases) == 0 {
		return a.ID
	}
	return a.ID + " (" + strings.Join(a.Aliases, ", ") + ")"
}
