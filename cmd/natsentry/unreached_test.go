package main

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestFailedTriesAreShown: where a listener was tried in vain is said without
// --verbose, in a finding that is shown in one line and beside much stronger evidence.
func TestFailedTriesAreShown(t *testing.T) {
	tried := posture.Evidence{Source: "dial 10.0.0.7:4222", Value: "connection refused"}
	strong := make([]posture.Evidence, 0, 9)
	for i := range 8 {
		strong = append(strong, posture.Evidence{Basis: posture.Proven, Access: posture.Open, Source: "touch", Value: fmt.Sprint(i)})
	}
	scope := check.Scope{Kind: check.KindServer, Server: "n1", Door: posture.Client}
	r := &finding.Report{Findings: []finding.Finding{
		{Check: "DOOR_001", Severity: check.Critical, Scope: scope, Summary: "open", Evidence: append(strong, tried)},
		{Check: "DOOR_009", Severity: check.Info, Scope: scope, Summary: "not decided", Evidence: []posture.Evidence{tried}},
	}}
	for name, format := range map[string]renderer{"text": textRenderer{}, "markdown": markdownRenderer{}} {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		if err := format.report(w, r); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(out.String(), `\`, "")
		if n := strings.Count(text, "dial 10.0.0.7:4222: connection refused"); n != 2 {
			t.Errorf("%s shows the try %d times, want 2:\n%s", name, n, text)
		}
		if n := strings.Count(text, "proven open: touch"); n != shownEvidence {
			t.Errorf("%s shows %d pieces of the other evidence, want %d:\n%s", name, n, shownEvidence, text)
		}
	}
}
