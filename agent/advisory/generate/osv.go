package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/advisory"
)

const module = "github.com/nats-io/nats-server/v2"

// record is one record of the Go vulnerability database, in the OSV format.
type record struct {
	ID        string   `json:"id"`
	Aliases   []string `json:"aliases"`
	Summary   string   `json:"summary"`
	Published string   `json:"published"`
	Withdrawn string   `json:"withdrawn"`
	Affected  []struct {
		Package struct {
			Name string `json:"name"`
		} `json:"package"`
		Ranges []struct {
			Type   string              `json:"type"`
			Events []map[string]string `json:"events"`
		} `json:"ranges"`
	} `json:"affected"`
}

// readRecords reads the records of a folder, by id. One that speaks of other
// modules only has no ranges: it may still name an advisory of ours.
func readRecords(dir string) ([]advisory.Advisory, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []advisory.Advisory
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var r record
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if r.Withdrawn != "" {
			continue
		}
		a, err := r.read()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, a)
	}
	return out, nil
}

func (r *record) read() (advisory.Advisory, error) {
	title, _, _ := strings.Cut(r.Summary, " in github.com/")
	a := advisory.Advisory{ID: r.ID, Aliases: append([]string{r.ID}, r.Aliases...), Title: title, URLs: []string{"https://pkg.go.dev/vuln/" + r.ID}}
	if day, _, _ := strings.Cut(r.Published, "T"); day > "0001-01-01" {
		a.Date = day
	}
	for _, aff := range r.Affected {
		if aff.Package.Name != module {
			continue
		}
		for _, rng := range aff.Ranges {
			if rng.Type != "SEMVER" {
				return a, fmt.Errorf("ranges of type %q", rng.Type)
			}
			for _, e := range rng.Events {
				switch from, to := e["introduced"], e["fixed"]; {
				case from != "":
					if from == "0" {
						from = "" // how OSV writes: from the beginning
					}
					a.Affected = append(a.Affected, advisory.Range{Introduced: from})
				case to != "" && len(a.Affected) > 0:
					a.Affected[len(a.Affected)-1].Fixed = to
				default:
					return a, fmt.Errorf("event %v: not understood", e)
				}
			}
		}
	}
	return a, nil
}

// same are records that share no alias with the note that they repeat.
var same = map[string]string{
	"GO-2022-0398": "CVE-2020-28466", // import loops in account imports
}

// merge puts notes and records together. Of what both tell, the note's word
// holds; the record adds its ids and its address.
func merge(notes, records []advisory.Advisory) []advisory.Advisory {
	out := slices.Clone(notes)
	for _, r := range records {
		i := slices.IndexFunc(out, func(a advisory.Advisory) bool {
			return slices.ContainsFunc(append(r.Aliases, same[r.ID]), func(id string) bool { return slices.Contains(a.Aliases, id) })
		})
		switch {
		case i >= 0:
			out[i].Aliases = append(out[i].Aliases, r.Aliases...)
			out[i].URLs = append(out[i].URLs, r.URLs...)
		case len(r.Affected) > 0:
			r.ID = cmp.Or(publicID(r.Aliases), r.ID)
			out = append(out, r)
		}
	}
	for i := range out {
		slices.Sort(out[i].Aliases)
		out[i].Aliases = slices.DeleteFunc(slices.Compact(out[i].Aliases), func(id string) bool { return id == out[i].ID })
	}
	slices.SortFunc(out, byAge)
	return out
}

// readCVEs reads the CVE numbers by the GHSA ids to which their records refer.
func readCVEs(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var cves map[string]string
	if err := json.Unmarshal(text, &cves); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cves, nil
}

// number gives advisories the CVE numbers that were assigned after they were
// published. Each must be of one advisory, and of one that has no other.
func number(all []advisory.Advisory, cves map[string]string) ([]advisory.Advisory, error) {
	left := maps.Clone(cves)
	for i := range all {
		a := &all[i]
		for _, id := range slices.Clone(a.Aliases) {
			cve, ok := left[id]
			if !ok {
				continue
			}
			delete(left, id)
			if has := publicID(append([]string{a.ID}, a.Aliases...)); has != "" && has != cve {
				return nil, fmt.Errorf("%s has the number %s, and not %s", a.ID, has, cve)
			}
			a.Aliases = append(a.Aliases, cve)
		}
		slices.Sort(a.Aliases)
		a.Aliases = slices.Compact(a.Aliases)
	}
	for id, cve := range left {
		return nil, fmt.Errorf("%s: no advisory has the id %s", cve, id)
	}
	return all, nil
}

func publicID(ids []string) string {
	if i := slices.IndexFunc(ids, func(id string) bool { return strings.HasPrefix(id, "CVE-") }); i >= 0 {
		return ids[i]
	}
	return ""
}
