package advisory

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/semver"
)

func TestTableIsWellFormed(t *testing.T) {
	ids := map[string]string{}
	known := Known()
	for _, a := range known.Advisories {
		if a.Title == "" || len(a.URLs) == 0 || len(a.Affected)+len(a.BuiltWith) == 0 {
			t.Errorf("%s: incomplete", a.ID)
		}
		for _, id := range append([]string{a.ID}, a.Aliases...) {
			if ids[id] != "" {
				t.Errorf("%s is %s and %s", id, ids[id], a.ID)
			}
			ids[id] = a.ID
			if got := known.Lookup(id); got == nil || got.ID != a.ID {
				t.Errorf("Lookup(%s) does not find %s", id, a.ID)
			}
		}
		if _, ok := natures[a.ID]; !ok {
			t.Errorf("%s %q: no entry in nature.go", a.ID, a.Title)
		}
	}
	for id := range natures {
		if known.Lookup(id) == nil {
			t.Errorf("nature.go speaks of %s, which is not in the table", id)
		}
	}
	if known.Lookup("2020-01") != nil || known.Lookup("CVE-2020-26149") != nil {
		t.Error("2020-01 is not of nats-server")
	}
	if age := known.Age(time.Date(2026, 8, 31, 0, 0, 0, 0, time.UTC)); age != 10*24*time.Hour {
		t.Errorf("the table is %s old", age)
	}
}

func numbers(t *testing.T, version string) (major, minor, patch int) {
	t.Helper()
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatal(err)
	}
	return major, minor, patch
}

// step moves the last number of a version.
func step(t *testing.T, version string, by int) string {
	t.Helper()
	major, minor, patch := numbers(t, version)
	return fmt.Sprintf("%d.%d.%d", major, minor, patch+by)
}

// endOfLineBefore is the last that a line of releases could have before that of a
// version.
func endOfLineBefore(t *testing.T, version string) string {
	t.Helper()
	major, minor, _ := numbers(t, version)
	if minor == 0 {
		return fmt.Sprintf("%d.99.99", major-1)
	}
	return fmt.Sprintf("%d.%d.99", major, minor-1)
}

func lineOf(version string) string { return strings.TrimPrefix(semver.MajorMinor("v"+version), "v") }

// TestBoundaries walks over every boundary of every advisory: the last affected
// version of each line, the first fixed one, and the one before the first.
func TestBoundaries(t *testing.T) {
	for _, a := range Known().Advisories {
		ask := func(version string) Answer { return a.Match(version, "") }
		ranges := a.Affected
		if len(a.BuiltWith) > 0 {
			ask, ranges = func(version string) Answer { return a.Match("2.15.2", "go"+version) }, a.BuiltWith
		}
		want := func(version string, answer Answer, why string) {
			t.Helper()
			if got := ask(version); got != answer {
				t.Errorf("%s: %s, %s, is %d, want %d", a.ID, version, why, got, answer)
			}
		}
		for i, r := range ranges {
			line := lineOf(r.Fixed)
			want(r.Fixed, NotAffected, "the first fixed one")
			want("v"+r.Fixed, NotAffected, "the first fixed one")
			want(step(t, r.Fixed, 1), NotAffected, "after the fix")
			want(line+".999", NotAffected, "the end of a fixed line")
			if strings.HasSuffix(r.Fixed, ".0") {
				if before := endOfLineBefore(t, r.Fixed); i == 0 || lineOf(before) != lineOf(ranges[i-1].Fixed) {
					want(before, Affected, "the end of the line before the fix")
				}
			} else {
				want(step(t, r.Fixed, -1), Affected, "the last affected one")
				want(line+".0", Affected, "the beginning of a fixed line")
			}
			// What only a suffix tells apart from the fix is not known.
			want(r.Fixed+"-RC.1", Unknown, "a candidate of the fix")
			want(r.Fixed+"-binary", Unknown, "a vendor's build of the fix")
			want(step(t, r.Fixed, 1)+"-RC.1", NotAffected, "a candidate after the fix")
			switch first := strings.TrimSuffix(r.Introduced, "-0"); {
			case first == "":
				want("1.4.1", Affected, "ever since")
			case first != r.Introduced:
				if !strings.HasSuffix(r.Fixed, ".0") {
					want(first+"-RC.1", Affected, "a candidate of an affected line")
				}
			default:
				want(first, Affected, "the first one")
				want(first+"-RC.1", Unknown, "a candidate of the first one")
				want(endOfLineBefore(t, first), NotAffected, "before the first one")
			}
		}
		last := ranges[len(ranges)-1].Fixed
		if last != "" {
			want("99.0.0", NotAffected, "long after the last fix")
			want("99.0.0-dev", NotAffected, "long after the last fix")
		}
		for _, v := range []string{"", "v", "dev", "2", "2.12", "2.12.x", "2.12.6.1", "latest"} {
			if len(a.BuiltWith) == 0 {
				want(v, Unknown, "no version")
			}
		}
	}
}

// TestKnownAnswers is what people have found out about real releases.
func TestKnownAnswers(t *testing.T) {
	for _, tc := range []struct {
		id, version, goVersion string
		want                   Answer
	}{
		// Fixed in 2.12.7, not in 2.12.6 with the others of that spring.
		{"2026-16", "2.12.6", "", Affected},
		{"GHSA-38x3-76xf-cq45", "2.12.7", "", NotAffected},
		{"2026-16", "2.11.15", "", Affected},
		{"2026-16", "2.10.29", "", Affected}, // this line has no fix
		{"2026-16", "2.14.0", "", NotAffected},
		{"2026-16", "2.14.0-RC.3", "", Unknown},
		{"CVE-2022-28357", "2.7.4", "", Affected}, // the database says that 2.7.4 fixed it
		{"CVE-2022-28357", "2.8.0", "", NotAffected},
		{"2026-15", "2.10.29", "", Affected},       // the database says: since 2.11.0
		{"2026-02", "2.1.9", "", NotAffected},      // the database says: ever since
		{"2026-20", "2.11.17", "", Affected},       // fixed in later lines only
		{"2025-01", "2.11.1-binary", "", Unknown},  // a tag of the project's own
		{"2026-19", "2.12.8-fips", "", Unknown},    // another one
		{"2026-19", "2.12.7-fips", "", Affected},   // whatever the suffix means
		{"2026-28", "2.15.0-dev", "", NotAffected}, // both ways
		{"2026-28", "2.14.3+dirty", "", NotAffected},
		{"2026-01", "2.15.2", "go1.25.6", Affected},
		{"2026-01", "2.15.2", "go1.25.7", NotAffected},
		{"2026-01", "2.15.2", "go1.24.13 X:nocoverageredesign", NotAffected},
		{"2026-01", "2.15.2", "go1.24.12", Affected},
		{"2026-01", "2.15.2", "go1.19", Affected},
		{"2026-01", "2.15.2", "go1.26", NotAffected},
		{"2026-01", "2.15.2", "", Unknown},
		{"2026-01", "2.15.2", "devel go1.26-0123456", Unknown},
	} {
		a := Known().Lookup(tc.id)
		if a == nil {
			t.Errorf("%s is not in the table", tc.id)
			continue
		}
		if got := a.Match(tc.version, tc.goVersion); got != tc.want {
			t.Errorf("%s: %s %s is %d, want %d", tc.id, tc.version, tc.goVersion, got, tc.want)
		}
	}
}

// TestBypasses pins which advisories let strangers in: these are critical.
func TestBypasses(t *testing.T) {
	var got []string
	for _, id := range slices.Sorted(maps.Keys(natures)) {
		if natures[id].Bypass {
			got = append(got, id)
		}
	}
	if want := []string{"2020-02", "2023-01", "2026-13", "2026-16", "2026-24"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFixedIn(t *testing.T) {
	for id, want := range map[string]string{
		"2026-16": "fixed in 2.11.16, 2.12.7, 2.14.0",
		"2026-01": "not in builds with Go 1.24.13, 1.25.7",
	} {
		if got := Known().Lookup(id).FixedIn(); got != want {
			t.Errorf("%s: %q, want %q", id, got, want)
		}
	}
	unfixed := Advisory{Affected: []Range{{Introduced: "2.14.0"}}}
	if unfixed.FixedIn() != "not fixed yet" || unfixed.Match("3.0.0", "") != Affected || unfixed.Match("2.12.9", "") != NotAffected {
		t.Error("an advisory without a fix affects all versions from the first on")
	}
}

// FuzzMatch takes whatever a server says of its version.
func FuzzMatch(f *testing.F) {
	for _, v := range []string{"2.12.6", "v2.14.0-RC.1", "", "2.12.6-\x00", "go1.25.7"} {
		f.Add(v, v)
	}
	number := regexp.MustCompile(`^v?\d+\.\d+\.\d+`)
	f.Fuzz(func(t *testing.T, version, builtWith string) {
		for _, a := range Known().Advisories {
			if got := a.Match(version, builtWith); got != Unknown && len(a.BuiltWith) == 0 && !number.MatchString(version) {
				t.Errorf("%s: %q is %d", a.ID, version, got)
			}
		}
	})
}
