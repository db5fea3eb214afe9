package main

import (
	"encoding/json"
	"fmt"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// baseline is what stood in an earlier report: for each finding, by its
// fingerprint, what it rested on. Lines may move; what stands there may not.
type baseline struct {
	file     string
	findings map[string]map[string]bool
	severity map[string]check.Severity
}

// loadBaseline reads a report that lint has written as JSON. Without a file
// nothing is accepted.
func loadBaseline(file string) (*baseline, error) {
	b := &baseline{file: file, findings: map[string]map[string]bool{}, severity: map[string]check.Severity{}}
	if file == "" {
		return b, nil
	}
	text, err := conffile.Disk(file)
	if err != nil {
		return nil, fmt.Errorf("--baseline %s: %w", file, err)
	}
	var r finding.Report
	if err := json.Unmarshal(text, &r); err != nil || r.Type != finding.ReportType {
		return nil, fmt.Errorf("--baseline %s: it is no report that `natsentry lint --format json` has written", file)
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		b.severity[f.Fingerprint] = f.Severity
		b.findings[f.Fingerprint] = map[string]bool{}
		for _, e := range f.Evidence {
			b.findings[f.Fingerprint][restsOn(e)] = true
		}
	}
	return b, nil
}

// restsOn names a piece of evidence without its line.
func restsOn(e posture.Evidence) string {
	file := ""
	if e.Place != nil {
		file = e.Place.File
	}
	return file + "\x00" + e.Value
}

// accept waives the findings of a report that stood in the baseline with all that
// they rest on, and were no milder there.
func (b *baseline) accept(r *finding.Report) {
	for i := range r.Findings {
		f := &r.Findings[i]
		before, ok := b.findings[f.Fingerprint]
		if f.Check == driftCheck {
			continue // the file may have drifted further, which a report does not show
		}
		if !ok || f.Waived != nil || f.Severity > b.severity[f.Fingerprint] {
			continue
		}
		known := true
		for _, e := range f.Evidence {
			// Without a place it is no part of the file, such as the day of the list
			// of advisories.
			known = known && (e.Place == nil || before[restsOn(e)])
		}
		if known {
			f.Waived = &finding.Waiver{Reason: "it stood in the baseline", Owner: b.file}
		}
	}
	finding.SortWorstFirst(r.Findings)
	r.Totals.Findings = finding.CountFindings(r.Findings)
}
