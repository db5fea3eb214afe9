package main

import (
	"fmt"
	"slices"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
)

// ignore waives the findings all of whose places a comment accepts, and says
// which comments cannot count.
func ignore(findings []finding.Finding, ignores []conffile.Ignore) []string {
	told := map[string]bool{}
	for i := range ignores {
		g := &ignores[i]
		if g.Inside {
			told[fmt.Sprintf("%s: natsentry:ignore does not count in a value whose lines are not those of the file; a policy can accept findings there", g.Place)] = true
			continue
		}
		if g.Reason == "" {
			told[fmt.Sprintf("%s: natsentry:ignore wants checks and a reason, and does not count without", g.Place)] = true
		}
		for _, id := range g.Checks {
			if check.Lookup(id) == nil {
				told[fmt.Sprintf("%s: natsentry:ignore names no check %.40q", g.Place, id)] = true
			}
		}
	}
	for i := range findings {
		f := &findings[i]
		if f.Waived != nil || f.Check == "POLICY_001" {
			continue
		}
		var by *conffile.Ignore
		placed, covered := 0, 0
		for _, e := range f.Evidence {
			if e.Place == nil {
				continue
			}
			placed++
			for j := range ignores {
				if ignores[j].Covers(f.Check, *e.Place) {
					by = &ignores[j]
					covered++
					break
				}
			}
		}
		if by != nil && covered == placed {
			f.Waived = &finding.Waiver{Reason: by.Reason, Owner: by.Place.String(), InSource: true}
		}
	}
	notes := make([]string, 0, len(told))
	for note := range told {
		notes = append(notes, note)
	}
	slices.Sort(notes)
	return notes
}
