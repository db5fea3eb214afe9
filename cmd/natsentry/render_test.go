package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

var taken = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func reportDoors(access ...posture.Access) []finding.ReportDoor {
	var doors []finding.ReportDoor
	for i, kind := range posture.DoorKinds() {
		d := finding.ReportDoor{Door: kind, Access: posture.Off, Basis: posture.Reported}
		if i < len(access) {
			d.Access = access[i]
		}
		if kind == posture.Profile {
			d.Access, d.Basis = posture.Unknown, posture.NoBasis
		} else if d.Access != posture.Off {
			d.Address = fmt.Sprintf("10.0.0.1:%d", 4222+i)
		}
		doors = append(doors, d)
	}
	return doors
}

func testFinding(id string, cause posture.Cause, scope check.Scope, summary string, evidence ...posture.Evidence) finding.Finding {
	c := check.Lookup(id)
	r := finding.Remediation{Text: "Do something about " + id + ": it is what the catalogue says of the cause, and that is more than a line can hold, so it goes on in the next one.", Reload: true}
	if cause != "" {
		r.Config, r.Reload = "# for "+string(cause)+"\nauthorization {\n  users: []\n}\n", cause == posture.CauseNoAuthBlock
	}
	return finding.Finding{
		Type: finding.Type, ID: "e1", Fingerprint: "f1", Check: id, Aliases: append([]string{}, c.Aliases...), Severity: c.Severity,
		Action: finding.Opened, Cause: cause, System: "prod", Scope: scope, Summary: summary, Evidence: evidence,
		Remediation: r, Refs: []string{"https://docs.example/" + id},
		At: taken, FirstSeen: taken, LastSeen: taken, Epoch: 3,
	}
}

func onServer(cluster, server string, door posture.DoorKind) check.Scope {
	return check.Scope{Kind: check.KindServer, Cluster: cluster, Server: server, ServerID: "NID" + server, Door: door}
}

// fleetReport has one of everything that a report can show.
func fleetReport() *finding.Report {
	yes := true
	r := &finding.Report{
		Type: finding.ReportType, System: "prod", Epoch: 3, Taken: taken, Took: "12.34ms",
		Coverage: finding.Coverage{Expected: 6, Heard: 5, Gaps: []posture.Gap{
			{Server: "n4", ID: "NID4", Endpoint: "VARZ", Reason: "no answer in 2s"},
			{Server: "n5", ID: "NID5", Endpoint: "", Reason: "no answer in 2s; it is known by ROUTEZ of n1"},
		}, NotAudited: []posture.Unaudited{
			{
				Name: "edge-9", Role: "leafnode", Accounts: []string{"APP"}, Hosts: []string{"10.0.1.2"}, KnownBy: []string{"n1", "n2"}, Reason: posture.OwnSystemAccount,
				Tried: []posture.Evidence{{Source: "dial 10.0.1.2:4222", Value: "connection refused (the address is from the policy)"}},
			},
			{Name: "hq", Role: "hub", Accounts: []string{"APP"}, Hosts: []string{}, KnownBy: []string{"n1"}, Reason: posture.OwnSystemAccount, Tried: []posture.Evidence{}},
		}},
		Via:   "n1 at 10.0.0.1:4222",
		Notes: []string{"1 finding lowered: the listener is on loopback (--loopback-exposed)"},
		Totals: finding.Totals{
			Doors:    finding.DoorTotals{Open: 2, Closed: 3, Reported: 2, Unknown: 7, Off: 30},
			Findings: finding.FindingTotals{Critical: 14, Warning: 2, Info: 2, Waived: 4},
		},
		Servers: []finding.ReportServer{
			{Name: "edge", ID: "NIDedge", Version: "2.10.29", State: posture.Answering, AuthMode: posture.AuthOperator, AuthRequired: &yes, Doors: reportDoors(posture.Closed, posture.Off, posture.Off, posture.Unknown)},
			{Name: "n1", ID: "NID111111", Cluster: "east", Version: "2.15.2", State: posture.Answering, AuthMode: posture.AuthNone, Doors: reportDoors(posture.Open, posture.Open)},
			{Name: "n1", ID: "NID222222", Cluster: "east", Version: "2.15.2", State: posture.Answering, AuthMode: posture.AuthStatic, Doors: reportDoors(posture.Closed)},
			{Name: "n4", ID: "NID4", Cluster: "east", Version: "2.15.2", State: posture.Answering, AuthMode: posture.AuthUnknown},
			{Name: "n5", ID: "NID5", Cluster: "east", State: posture.Silent, Doors: []finding.ReportDoor{}},
			{Name: "n6", ID: "NID6", Cluster: "west", Version: "2.15.2", State: posture.LameDuck, Doors: []finding.ReportDoor{}},
		},
	}
	r.Servers[0].Doors[0].Basis = posture.Proven
	for i := range 12 {
		name := fmt.Sprintf("n%d", i+1)
		r.Findings = append(r.Findings, testFinding("DOOR_001", posture.CauseNoAuthBlock, onServer("east", name, posture.Client),
			name+" lets strangers in on its client port 10.0.0.1:4222, into $G",
			posture.Evidence{Basis: posture.Reported, Access: posture.Open, Source: "VARZ auth_required", Value: "absent"}))
	}
	many := testFinding("SESS_001", "", onServer("east", "n1", posture.Client), "6 anonymous clients on the client port of n1")
	for cid := range 6 {
		many.Evidence = append(many.Evidence, posture.Evidence{Basis: posture.Observed, Access: posture.Open, Source: fmt.Sprintf("CONNZ cid %d", cid), Value: "10.0.0.9:5555"})
	}
	silent := testFinding("FLEET_005", "silent", check.Scope{Kind: check.KindServer, Cluster: "east", Server: "n5"}, "n5 did not answer; it is known by ROUTEZ of n1")
	silent.Action, silent.Remediation.Config = finding.Stale, ""
	silent.Flaps = 4
	unsteady := testFinding("DOOR_006", posture.CauseNoGatewayAuth, onServer("east", "n2", posture.Gateway), "n2 lets strangers in on its gateway port 10.0.0.1:7222")
	unsteady.Severity, unsteady.Flaps = check.Warning, 12
	r.Findings = append(
		r.Findings, many,
		testFinding("FLEET_001", "", check.Scope{Kind: check.KindCluster, Cluster: "east"}, "auth mode differs in cluster east: static on n1, none on n1"),
		silent,
		testFinding("DOOR_009", "", onServer("east", "n1", posture.Client), "n1 is closed on its own word only"),
		testFinding("FLEET_007", "", check.Scope{Kind: check.KindSystem}, "the version differs in the fleet: 2.15.2 on n1, 2.10.29 on edge"),
		unsteady,
	)
	finding.SortWorstFirst(r.Findings)
	r.Findings = append(r.Findings, waivedFindings()...)
	return r
}

// waivedFindings are what a policy accepts: two by one waiver, one by another,
// and an info finding.
func waivedFindings() []finding.Finding {
	kiosk := &finding.Waiver{Reason: "the kiosks of the lobby come in here", Owner: "ops@example.net", Expires: time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)}
	move := &finding.Waiver{Reason: "until the move", Owner: "net team", Expires: time.Date(2026, 3, 31, 12, 30, 0, 0, time.UTC)}
	var out []finding.Finding
	for _, name := range []string{"k1", "k2"} {
		f := testFinding("DOOR_001", posture.CauseNoAuthBlock, onServer("east", name, posture.Client), name+" lets strangers in on its client port 10.0.0.1:4222, into $G",
			posture.Evidence{Basis: posture.Proven, Access: posture.Open, Source: "touch", Value: "PONG"})
		f.Waived = kiosk
		out = append(out, f)
	}
	monitor := testFinding("DOOR_007", posture.CauseNeverAsks, onServer("west", "n6", posture.Monitor), "n6 shows its monitoring to everybody")
	monitor.Waived, monitor.Flaps = move, 3
	info := testFinding("DOOR_009", "", onServer("west", "n6", posture.Client), "n6 is closed on its own word only")
	info.Waived = move
	return append(out, monitor, info)
}

// hostile is what a server could call itself to take over a terminal, a
// table, a ticket or its reader.
const hostile = "n\x1b[2J\x1b]0;gone\a1|`x`<script>\r\n# [a](https://evil.example)@ops\u009b31m\u202egnp\xff*b*"

func hostileReport() *finding.Report {
	s := finding.ReportServer{Name: hostile, ID: hostile, Cluster: hostile, Version: hostile, State: posture.Answering, Doors: reportDoors(posture.Open)}
	s.Doors[0].Address, s.Doors[0].Reason = hostile, hostile
	s.Doors[0].Evidence = []posture.Evidence{{Basis: posture.Reported, Access: posture.Open, Source: hostile, Value: hostile}}
	scope := check.Scope{Kind: check.KindServer, Cluster: hostile, Server: hostile, ServerID: hostile, Door: posture.Client}
	f := testFinding("DOOR_001", posture.CauseNoAuthBlock, scope, hostile, s.Doors[0].Evidence...)
	f.Check, f.Cause, f.Aliases, f.Refs, f.System = hostile, hostile, []string{hostile}, []string{"https://" + hostile}, hostile
	f.Remediation = finding.Remediation{Text: hostile, Config: "ok\n```\n" + hostile, Reload: true}
	f.Action = hostile
	g := f
	g.Severity, g.Flaps = check.Info, 3
	h := f
	h.Waived = &finding.Waiver{Reason: hostile, Owner: hostile, Expires: taken}
	return &finding.Report{
		Type: finding.ReportType, System: hostile, Epoch: 1, Taken: taken, Took: hostile,
		Coverage: finding.Coverage{Expected: 1, Heard: 1, Gaps: []posture.Gap{{Server: hostile, ID: hostile, Endpoint: hostile, Reason: hostile}}, NotAudited: []posture.Unaudited{{
			Name: hostile, Role: hostile, Accounts: []string{hostile}, Hosts: []string{hostile}, KnownBy: []string{hostile}, Reason: hostile, Tried: []posture.Evidence{{Source: hostile, Value: hostile}},
		}}},
		Totals:  finding.Totals{Doors: finding.DoorTotals{Open: 2, Unknown: 2, Off: 12}, Findings: finding.FindingTotals{Critical: 1, Info: 1, Waived: 1}},
		Servers: []finding.ReportServer{s, s}, Findings: []finding.Finding{f, g, h}, Notes: []string{hostile}, Via: hostile,
	}
}

func emptyReport() *finding.Report {
	return &finding.Report{
		Type: finding.ReportType, System: "nats", Epoch: 1, Taken: taken, Took: "1ms",
		Coverage: finding.Coverage{Expected: 1, Heard: 1, Gaps: []posture.Gap{}, NotAudited: []posture.Unaudited{}},
		Totals:   finding.Totals{Doors: finding.DoorTotals{Closed: 1, Reported: 1, Unknown: 1, Off: 6}},
		Servers:  []finding.ReportServer{{Name: "n1", ID: "N1", Version: "2.15.2", State: posture.Answering, AuthMode: posture.AuthStatic, Doors: reportDoors(posture.Closed)}},
		Findings: []finding.Finding{}, Notes: []string{},
	}
}

func render(t *testing.T, r renderer, report *finding.Report) string {
	t.Helper()
	var out strings.Builder
	w := bufio.NewWriter(&out)
	if err := errors.Join(r.report(w, report), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestRenderers(t *testing.T) {
	reports := map[string]*finding.Report{"fleet": fleetReport(), "hostile": hostileReport(), "empty": emptyReport()}
	renderers := map[string]renderer{
		"txt": textRenderer{}, "verbose.txt": textRenderer{verbose: true}, "md": markdownRenderer{}, "verbose.md": markdownRenderer{verbose: true},
		"json": jsonRenderer{},
	}
	for name, report := range reports {
		for ext, r := range renderers {
			t.Run(name+"."+ext, func(t *testing.T) {
				got := render(t, r, report)
				golden(t, name+"."+ext, got)
				printable(t, got)
				for i, line := range strings.Split(got, "\n") {
					if strings.TrimRight(line, " ") != line {
						t.Errorf("line %d ends with a space: %q", i+1, line)
					}
				}
			})
		}
	}
}

// printable fails on anything that a terminal would obey.
func printable(t *testing.T, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("byte %d is %U", i, r)
		}
	}
}

var sgr = regexp.MustCompile("\x1b\\[[0-9;]*m")

// Colour adds to the text and takes nothing away: who sees none loses nothing.
func TestColourIsOnlyDecoration(t *testing.T) {
	for _, report := range []*finding.Report{fleetReport(), hostileReport(), emptyReport()} {
		plain, coloured := render(t, textRenderer{}, report), render(t, textRenderer{style: style{on: true}}, report)
		if plain == coloured {
			t.Error("nothing is coloured")
		}
		if diff := cmp.Diff(plain, sgr.ReplaceAllString(coloured, "")); diff != "" {
			t.Error(diff)
		}
	}
}

func TestJSONIsTheReport(t *testing.T) {
	want := fleetReport()
	var got finding.Report
	if err := json.Unmarshal([]byte(render(t, jsonRenderer{}, want)), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, &got); diff != "" {
		t.Error(diff)
	}
	// Escaped, and still the same name.
	got = finding.Report{}
	if err := json.Unmarshal([]byte(render(t, jsonRenderer{}, hostileReport())), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.ToValidUTF8(hostile, "\ufffd"), got.System); diff != "" {
		t.Error(diff)
	}
}

func TestLine(t *testing.T) {
	open := fleetReport().Findings[0]
	resolved := open
	at := taken.Add(time.Minute)
	resolved.Action, resolved.At, resolved.ResolvedAt = finding.Resolved, at, &at
	flapping := open
	flapping.Flaps = 5
	var out strings.Builder
	for _, on := range []bool{false, true} {
		w := bufio.NewWriter(&out)
		for _, f := range append([]finding.Finding{open, resolved, flapping, hostileReport().Findings[0], hostileReport().Findings[2]}, waivedFindings()[1:3]...) {
			textRenderer{style: style{on}}.line(w, &f)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		if !on {
			printable(t, out.String())
		}
	}
	golden(t, "lines.txt", out.String())
}

// Whatever order they come in, what somebody has accepted comes last, and only
// what nobody has accepted is counted among the severities.
func TestWaivedComeLast(t *testing.T) {
	report := fleetReport()
	slices.Reverse(report.Findings)
	for name, r := range map[string]renderer{"text": textRenderer{}, "verbose text": textRenderer{verbose: true}, "Markdown": markdownRenderer{}} {
		got := render(t, r, report)
		first := strings.Index(got, "Waived by")
		for _, open := range []string{"n1 lets strangers in", "FLEET_007", "n1 is closed on its own word only", "DOOR_009  closed on the server's word"} {
			if at := strings.LastIndex(got, open); at > first {
				t.Errorf("%s: %q comes after what is waived", name, open)
			}
		}
		for _, want := range []string{
			"Waived by ops@example.net until 2026-06-30: the kiosks of the lobby come in here",
			"Waived by net team until 2026-03-31 12:30:00 UTC: until the move", "14 critical, 2 warning, 2 info, 4 waived",
			"(opened 12 times in the last minutes)", "(stale: it cannot be told any more; opened 4 times in the last minutes)",
		} {
			if !strings.Contains(strings.ReplaceAll(strings.Join(strings.Fields(got), " "), `\@`, "@"), want) {
				t.Errorf("%s does not tell %q", name, want)
			}
		}
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"n1":               "n1",
		"größe ☂ 東京":       "größe ☂ 東京",
		"a\x1b[31mb":       "a\ufffd[31mb",
		"a\tb\nc\rd\x00":   "a\ufffdb\ufffdc\ufffdd\ufffd",
		"\u009b1m\x7f":     "\ufffd1m\ufffd",
		"\u202eabc\u2066":  "\ufffdabc\ufffd",
		"bad\xff\xfeutf-8": "bad\ufffd\ufffdutf-8",
	} {
		if got := clean(in); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, s string) {
		printable(t, clean(s))
		printable(t, escape(s))
		doc, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want, got string
		escaped := escapeUnprintable(string(doc))
		printable(t, escaped)
		if err := errors.Join(json.Unmarshal(doc, &want), json.Unmarshal([]byte(escaped), &got)); err != nil || want != got {
			t.Errorf("%q became %q: %v", want, got, err)
		}
	})
}

func TestWrap(t *testing.T) {
	got := wrap("one two  three\nfour averyveryverylongword x", 10)
	if diff := cmp.Diff([]string{"one two", "three four", "averyveryverylongword", "x"}, got); diff != "" {
		t.Error(diff)
	}
	if got := wrap("", 10); got != nil {
		t.Errorf("nothing wraps to %q", got)
	}
}

func TestJudge(t *testing.T) {
	report := func(change func(*finding.Report)) *finding.Report {
		r := emptyReport()
		r.Servers[0].Doors[0].Basis = posture.Proven
		change(r)
		return r
	}
	found := func(s check.Severity) func(*finding.Report) {
		return func(r *finding.Report) { r.Findings = []finding.Finding{{Severity: s}} }
	}
	gap := func(r *finding.Report) { r.Coverage.Gaps = []posture.Gap{{Server: "n2", Reason: "no answer"}} }
	for _, tc := range []struct {
		name   string
		report *finding.Report
		failOn string
		strict bool
		want   int
		text   string
	}{
		{"nothing", report(func(*finding.Report) {}), "critical", true, 0, ""},
		{"critical", report(found(check.Critical)), "critical", false, 1, ""},
		{"warning below", report(found(check.Warning)), "critical", false, 0, ""},
		{"warning at", report(found(check.Warning)), "warning", false, 1, ""},
		{"critical above", report(found(check.Critical)), "warning", false, 1, ""},
		{"info at", report(found(check.Info)), "info", false, 1, ""},
		{"none", report(found(check.Critical)), "none", false, 0, ""},
		{"waived", report(func(r *finding.Report) { r.Findings = waivedFindings() }), "info", false, 0, ""},
		{"waived beside another", report(func(r *finding.Report) {
			r.Findings = append(waivedFindings(), finding.Finding{Severity: check.Warning})
		}), "warning", false, 1, ""},
		{"gap", report(gap), "critical", false, 2, "not decided: 1 answer is missing"},
		{"gap, with none", report(gap), "none", false, 2, "not decided: 1 answer is missing"},
		{"finding outweighs gap", report(func(r *finding.Report) { gap(r); found(check.Critical)(r) }), "critical", false, 1, ""},
		{"unheard", report(func(r *finding.Report) { r.Coverage.Expected = 3 }), "critical", false, 2, "not decided: 2 servers were not heard"},
		{"unknown listener", report(func(r *finding.Report) { r.Servers[0].Doors[0].Access = posture.Unknown }), "critical", false, 0, ""},
		{"unknown listener, strict", report(func(r *finding.Report) { r.Servers[0].Doors[0].Access = posture.Unknown }), "critical", true, 2, "not decided: it cannot be told whether 1 listener is open"},
		{"word only", report(func(r *finding.Report) { r.Servers[0].Doors[0].Basis = posture.Reported }), "critical", false, 0, ""},
		{"word only, strict", report(func(r *finding.Report) { r.Servers[0].Doors[0].Basis = posture.Reported }), "critical", true, 2, "not decided: 1 listener is closed on its server's word only"},
		{"inferred, strict", report(func(r *finding.Report) { r.Servers[0].Doors[0].Basis = posture.Inferred }), "critical", true, 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := judge(tc.report, tc.failOn, tc.strict)
			code, text := 0, ""
			if err != nil {
				var coded interface{ ExitCode() int }
				if !errors.As(err, &coded) {
					t.Fatal(err)
				}
				code, text = coded.ExitCode(), err.Error()
			}
			if code != tc.want || text != tc.text {
				t.Errorf("got %d %q, want %d %q", code, text, tc.want, tc.text)
			}
		})
	}
}
