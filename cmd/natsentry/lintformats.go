package main

import (
	"bufio"
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/owenrumney/go-sarif/v3/pkg/report/v210/sarif"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// What pipelines read. Strings go through clean: they are out of files that
// anybody may have written.

// firstPlace is the place that a finding is shown at.
func firstPlace(f *finding.Finding) *posture.Place {
	for _, e := range f.Evidence {
		if e.Place != nil {
			return e.Place
		}
	}
	return nil
}

// inOnePiece is a finding in one piece of text.
func inOnePiece(f *finding.Finding) string {
	text := clean(f.Summary)
	for i, e := range f.Evidence {
		if i == shownSubjects {
			text += fmt.Sprintf("; and %d more", len(f.Evidence)-i)
			break
		}
		text += "; " + clean(e.Source) + ": " + clean(e.Value)
	}
	return text
}

// writeGithub writes workflow commands, which GitHub shows beside the lines.
func writeGithub(w *bufio.Writer, r *finding.Report) {
	message := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for i := range r.Findings {
		f := &r.Findings[i]
		if f.Waived != nil {
			continue
		}
		command := map[check.Severity]string{check.Critical: "error", check.Warning: "warning"}[f.Severity]
		if command == "" {
			command = "notice"
		}
		where := ""
		if p := firstPlace(f); p != nil {
			where = "file=" + property.Replace(clean(filepath.ToSlash(p.File))) + ","
			if p.Line > 0 {
				where += fmt.Sprintf("line=%d,col=%d,", p.Line, max(p.Column, 1))
			}
		}
		fmt.Fprintf(w, "::%s %stitle=%s::%s\n", command, where, property.Replace(clean(f.Check)), message.Replace(inOnePiece(f)))
	}
}

// The parts of JUnit's format that CI systems read.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Skipped  int          `xml:"skipped,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class   string      `xml:"classname,attr"`
		Name    string      `xml:"name,attr"`
		Failure *junitText  `xml:"failure"`
		Skipped *junitText  `xml:"skipped"`
		Out     *junitPlain `xml:"system-out"`
	}
	junitText struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
	junitPlain struct {
		Text string `xml:",chardata"`
	}
)

// writeJUnit writes one suite for each configuration, and in it one case for each
// finding. Findings below the threshold, or accepted, do not fail.
func writeJUnit(w *bufio.Writer, r *finding.Report, threshold check.Severity) error {
	var all junitSuites
	ids := make([]string, 0, len(r.Servers)+1)
	for i := range r.Servers {
		ids = append(ids, r.Servers[i].ID)
	}
	if slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Scope.ServerID == "" }) {
		ids = append(ids, "") // operators, and the policy
	}
	for _, id := range ids {
		s := junitSuite{Name: clean(cmp.Or(id, "all configurations"))}
		for j := range r.Findings {
			f := &r.Findings[j]
			if f.Scope.ServerID != id {
				continue
			}
			c := junitCase{Class: s.Name, Name: clean(f.Check)}
			switch {
			case f.Waived != nil:
				c.Skipped = &junitText{Message: waivedBy(f.Waived)}
				s.Skipped++
			case f.Severity >= threshold:
				c.Failure = &junitText{Message: clean(f.Summary), Type: f.Severity.String(), Text: inOnePiece(f) + "\n" + clean(f.Remediation.Text)}
				s.Failures++
			default:
				c.Out = &junitPlain{f.Severity.String() + ": " + inOnePiece(f)}
			}
			s.Cases = append(s.Cases, c)
		}
		if len(s.Cases) == 0 {
			s.Cases = []junitCase{{Class: s.Name, Name: "no findings"}}
		}
		s.Tests = len(s.Cases)
		all.Suites = append(all.Suites, s)
		all.Tests, all.Failures, all.Skipped = all.Tests+s.Tests, all.Failures+s.Failures, all.Skipped+s.Skipped
	}
	fmt.Fprint(w, xml.Header)
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("write JUnit: %w", err)
	}
	fmt.Fprintln(w)
	return nil
}

// sarifLevels and sarifScores are how code scanning ranks findings.
var (
	sarifLevels = map[check.Severity]string{check.Critical: "error", check.Warning: "warning", check.Info: "note"}
	sarifScores = map[check.Severity]string{check.Critical: "9.0", check.Warning: "5.0", check.Info: "1.0"}
)

// sarifReport is a report for code scanning (SARIF 2.1.0). Every check that sees
// configurations is a rule, whether it fails or not.
func sarifReport(r *finding.Report, version string) *sarif.Report {
	run := sarif.NewRunWithInformationURI("natsentry", "https://github.com/natsentry/natsentry")
	run.Tool.Driver.WithVersion(version)
	for _, c := range check.Catalogue() {
		if c.Sight == check.Live {
			continue
		}
		properties := sarif.NewPropertyBag()
		properties.Add("security-severity", sarifScores[c.Severity])
		properties.Add("tags", []string{"security", "nats"})
		properties.Add("aliases", append([]string{}, c.Aliases...))
		rule := run.AddRule(c.ID)
		rule.WithShortDescription(sarif.NewMultiformatMessageString().WithText(upper(c.Title))).
			WithFullDescription(sarif.NewMultiformatMessageString().WithText(c.Doc)).
			WithHelp(sarif.NewMultiformatMessageString().WithText(c.Doc + "\n\n" + c.Remedy.Text)).
			WithDefaultConfiguration(sarif.NewReportingConfiguration().WithLevel(sarifLevels[c.Severity])).
			WithProperties(properties)
		if len(c.Refs) > 0 {
			rule.WithHelpURI(c.Refs[0])
		}
	}
	for i := range r.Findings {
		f := &r.Findings[i]
		result := sarif.NewRuleResult(f.Check).WithLevel(sarifLevels[f.Severity]).WithMessage(sarif.NewTextMessage(inOnePiece(f))).
			WithPartialFingerprints(map[string]string{"natsentry/v1": f.Fingerprint})
		if len(f.Aliases) > 0 {
			properties := sarif.NewPropertyBag()
			properties.Add("aliases", f.Aliases)
			result.WithProperties(properties)
		}
		if n := run.GetRuleIndex(f.Check); n >= 0 {
			result.WithRuleIndex(n)
		}
		if p := firstPlace(f); p != nil {
			physical := sarif.NewPhysicalLocation().WithArtifactLocation(sarif.NewArtifactLocation().WithURI(fileURI(p.File))).
				WithRegion(sarif.NewRegion().WithStartLine(max(p.Line, 1)).WithStartColumn(max(p.Column, 1)))
			result.WithLocations([]*sarif.Location{sarif.NewLocationWithPhysicalLocation(physical)})
		}
		if f.Waived != nil {
			kind := "external"
			if f.Waived.InSource {
				kind = "inSource"
			}
			result.WithSuppressions([]*sarif.Suppression{sarif.NewSuppression().WithKind(kind).WithJustification(waivedBy(f.Waived))})
		}
		run.AddResult(result)
	}
	return sarif.NewReport().AddRun(run)
}

// fileURI is a path as a URI; code scanning wants relative ones.
func fileURI(path string) string {
	u := url.URL{Path: filepath.ToSlash(path)}
	if filepath.IsAbs(path) {
		u.Scheme = "file"
	}
	return u.String()
}

func writeSARIF(w io.Writer, r *finding.Report, version string) error {
	return writeJSON(w, sarifReport(r, version), "  ")
}
