package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/jsonschema-go/jsonschema"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

func TestSpan(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		-time.Hour: "0ms", 0: "0ms", 999 * time.Microsecond: "0ms", 480 * time.Millisecond: "480ms", 999999 * time.Microsecond: "999ms",
		time.Second: "1s", 2400 * time.Millisecond: "2.4s", 9990 * time.Millisecond: "9.9s", 10 * time.Second: "10s", 59900 * time.Millisecond: "59s",
		time.Minute: "1m", 130 * time.Second: "2m 10s", 59*time.Minute + 59*time.Second: "59m 59s", time.Hour: "1h", time.Hour + 59*time.Second: "1h",
		3*time.Hour + 5*time.Minute: "3h 5m", day: "1d", day + 59*time.Minute: "1d", 3*day + 4*time.Hour + 30*time.Minute: "3d 4h", 1000 * day: "1000d",
		1<<63 - 1: "106751d 23h",
	} {
		if got := span(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
}

// told is a transition so long before the moment of the fixtures.
func told(fp string, f finding.Finding, a finding.Action, opened, at time.Duration) finding.Finding {
	f.Fingerprint, f.Action = fp, a
	f.FirstSeen, f.LastSeen, f.At = taken.Add(-opened), taken.Add(-at), taken.Add(-at)
	f.ID = fmt.Sprint(fp, a, at)
	if a == finding.Resolved {
		end := f.LastSeen
		f.ResolvedAt = &end
	}
	return f
}

// pastOf has one of everything that a history can show, the latest first.
func pastOf(f func(id string, scope check.Scope, summary string, evidence ...posture.Evidence) finding.Finding) []finding.Finding {
	const day = 24 * time.Hour
	door := f("DOOR_001", onServer("east", "n1", posture.Client), "n1 lets strangers in on its client port 10.0.0.1:4222, into $G")
	visit := f("SESS_001", onServer("east", "n1", posture.Client), "2 anonymous clients on the client port of n1",
		posture.Evidence{Basis: posture.Observed, Access: posture.Open, Source: "CONNZ cid 7", Value: `10.0.0.9:5555, calls itself "billing", library go 1.55.0, since 2026-03-04T04:00:00Z, the server asks nobody for credentials`},
		posture.Evidence{Basis: posture.Observed, Access: posture.Open, Source: "CONNZ cid 8"})
	for cid := range 12 {
		visit.Evidence = append(visit.Evidence, posture.Evidence{Basis: posture.Observed, Access: posture.Open, Source: fmt.Sprintf("CONNZ cid 1%d", cid), Value: "10.0.0.10:6666"})
	}
	kiosk := f("DOOR_001", onServer("east", "k1", posture.Client), "k1 lets strangers in on its client port 10.0.0.1:4222, into $G")
	kiosk.Waived = waivedFindings()[0].Waived
	monitor := f("DOOR_007", onServer("west", "n6", posture.Monitor), "n6 shows its monitoring to everybody")
	monitor.Flaps = 4
	modes := f("FLEET_001", check.Scope{Kind: check.KindCluster, Cluster: "east"}, "auth mode differs in cluster east")
	leaf := f("DOOR_004", onServer("west", "n7", posture.Leafnode), "closed since 05:03:07 UTC, held open until 05:08:07 UTC: opened 3 times in 10 min; before that: n7 lets strangers in on its leafnode port")
	leaf.Flaps, leaf.ClosedFor = 3, finding.Span(6*time.Minute)
	leaf.Hold = &finding.Hold{Closed: taken.Add(-3 * time.Minute), Until: taken.Add(2 * time.Minute), Openings: 3, Window: finding.Span(10 * time.Minute)}
	policy := f("POLICY_001", check.Scope{Kind: check.KindSystem}, "1 waiver has expired")
	policy.Severity = check.Info
	past := []finding.Finding{
		told("f5", policy, finding.Opened, 12*day, 12*day),
		told("f2", kiosk, finding.Opened, 3*day+4*time.Hour, 3*day+4*time.Hour),
		told("f1", door, finding.Opened, 70*time.Minute, 70*time.Minute),
		told("fs", visit, finding.Opened, time.Hour, time.Hour),
		told("f1", door, finding.Resolved, 70*time.Minute, 58*time.Minute),
		told("fs", visit, finding.Resolved, time.Hour, 50*time.Minute),
		told("f3", monitor, finding.Opened, 30*time.Minute, 30*time.Minute),
		told("f3", monitor, finding.Stale, 30*time.Minute, 20*time.Minute),
		told("f6", leaf, finding.Held, 10*time.Minute, 3*time.Minute),
		told("f4", modes, finding.Opened, 480*time.Millisecond, 480*time.Millisecond),
	}
	slices.Reverse(past)
	return past
}

func testPast() []finding.Finding {
	return pastOf(func(id string, scope check.Scope, summary string, evidence ...posture.Evidence) finding.Finding {
		return testFinding(id, "", scope, summary, evidence...)
	})
}

// historyOf is what is printed of transitions, the latest first.
func historyOf(system string, transitions []finding.Finding) *history {
	h := &history{}
	h.Type, h.System, h.Epoch, h.Taken, h.Since = service.HistoryType, system, 3, taken, taken.Add(-13*24*time.Hour)
	h.Transitions, h.Limit, h.Total = transitions, len(transitions), len(transitions)
	all := slices.Clone(transitions)
	slices.Reverse(all)
	h.Episodes = finding.Episodes(all)
	return h
}

// hostilePast is what somebody could answer in the place of an agent.
func hostilePast() *history {
	h := historyOf(hostile, pastOf(func(string, check.Scope, string, ...posture.Evidence) finding.Finding {
		f := hostileReport().Findings[2]
		f.Evidence = []posture.Evidence{{Source: hostile, Value: hostile}}
		return f
	}))
	for i := range h.Episodes {
		h.Episodes[i].Visitors = []posture.Evidence{{Source: hostile, Value: hostile}, {Source: hostile}}
	}
	return h
}

func printed(t *testing.T, h *history, q *historyQuery, format string, colour bool) string {
	t.Helper()
	var out strings.Builder
	p := &program{stdout: &out, terminal: func(any) bool { return colour }}
	if err := p.printHistory(h, q, format); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestHistoryRenderers(t *testing.T) {
	episodes := &historyQuery{now: taken, from: taken.Add(-24 * time.Hour)}
	single := &historyQuery{now: taken, from: taken.Add(-24 * time.Hour), until: taken, transitions: true}
	empty := historyOf("prod", []finding.Finding{})
	for name, h := range map[string]*history{"history": historyOf("prod", testPast()), "history.hostile": hostilePast(), "history.empty": empty} {
		for ext, c := range map[string]struct {
			q      *historyQuery
			format string
		}{
			"txt": {episodes, "text"}, "md": {episodes, "markdown"}, "json": {episodes, "json"},
			"transitions.txt": {single, "text"}, "transitions.md": {single, "markdown"},
		} {
			t.Run(name+"."+ext, func(t *testing.T) {
				got := printed(t, h, c.q, c.format, false)
				golden(t, name+"."+ext, got)
				printable(t, got)
				coloured := printed(t, h, c.q, c.format, true)
				if diff := cmp.Diff(got, sgr.ReplaceAllString(coloured, "")); diff != "" {
					t.Errorf("colour is more than decoration: %s", diff)
				}
				if (coloured != got) != (c.format == "text" && got != "") {
					t.Error("colour where there should be none, or none where there should be")
				}
			})
		}
	}
}

// What is printed as JSON is the endpoint's reply with the episodes beside it,
// whatever reads it.
func TestHistoryAsJSON(t *testing.T) {
	h := historyOf("prod", testPast())
	text := printed(t, h, &historyQuery{}, "json", false)
	schema, err := os.ReadFile(filepath.Join("..", "..", "docs", "schema", "history.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(schema, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var value map[string]any
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(value); err != nil {
		t.Error(err)
	}
	for key, want := range map[string]any{"type": "natsentry.v1.history", "system": "prod", "since": "2026-02-19T05:06:07Z", "next_offset": nil, "total": 10.0} {
		if value[key] != want {
			t.Errorf("%s is %v, want %v", key, value[key], want)
		}
	}
	if got := len(value["episodes"].([]any)); got != 7 {
		t.Errorf("%d episodes", got)
	}
}

// agentLike answers on the subjects of an agent with what a test wants, and
// counts the requests.
type agentLike struct {
	url   string
	asked map[string]*atomic.Int64
}

// answerer answers one request, the nth on its subject.
type answerer func(r micro.Request, n int64)

func likeAnAgent(t *testing.T, answers map[string]answerer) *agentLike {
	t.Helper()
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1", Config: `authorization { users: [
  {user: a, password: a}
  {user: half, password: half, permissions: { publish: "audit.auth.history", subscribe: "_INBOX_AUDIT.>" }}
] }`})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	like := &agentLike{url: f.Server("n1").URL(), asked: map[string]*atomic.Int64{}}
	nc, err := nats.Connect(like.url, nats.UserInfo("a", "a"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	svc, err := micro.AddService(nc, micro.Config{Name: "like", Version: "0.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	for suffix, answer := range answers {
		n := &atomic.Int64{}
		like.asked[suffix] = n
		if err := svc.AddEndpoint(suffix, micro.HandlerFunc(func(r micro.Request) { answer(r, n.Add(1)) }), micro.WithEndpointSubject("audit.auth."+suffix)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return like
}

func (l *agentLike) history(t *testing.T, args ...string) result {
	t.Helper()
	return exec(t, append([]string{"history", "--server", l.url, "--user", "a", "--password", "a"}, args...)...)
}

func raw(body string) answerer {
	return func(r micro.Request, _ int64) { _ = r.Respond([]byte(body)) }
}

func refusing(code, text string) answerer {
	return func(r micro.Request, _ int64) { _ = r.Error(code, text, nil) }
}

const nothingStands = `{"type":"natsentry.v1.findings","findings":[]}`

// Whoever may answer can be the one who does.
func TestHistorySurvivesAnyAnswer(t *testing.T) {
	page := func(next func(offset int) string) answerer {
		return func(r micro.Request, _ int64) {
			var req service.Request
			_ = json.Unmarshal(r.Data(), &req)
			_ = r.Respond([]byte(`{"type":"natsentry.v1.history","system":"x","limit":1000,"next_offset":` + next(req.Offset) + `,"transitions":[]}`))
		}
	}
	for name, tc := range map[string]struct {
		history answerer
		want    string
		most    int64 // requests
	}{
		"nothing":              {raw(""), "its reply cannot be read", 1},
		"not JSON":             {raw("\x1b[2J"), "its reply cannot be read", 1},
		"another type":         {raw(`{"type":"natsentry.v2.\u001b[2J"}`), "no natsentry of this kind: the type of its reply is", 1},
		"a list":               {raw(`[]`), "its reply cannot be read", 1},
		"a new severity":       {raw(`{"type":"natsentry.v1.history","transitions":[{"severity":"dire\u009b"}]}`), "its reply cannot be read", 1},
		"pages in a circle":    {page(func(int) string { return "0" }), "its pages do not end", 1},
		"pages that go back":   {page(func(offset int) string { return fmt.Sprint(min(offset+5, 7)) }), "its pages do not end", 3},
		"an error of any sort": {refusing("\u009b1", "\x1b[2J gone"), "gone", 1},
		"a code without words": {refusing("418", " "), "the agent answers with error 418", 1},
	} {
		t.Run(name, func(t *testing.T) {
			like := likeAnAgent(t, map[string]answerer{"history": tc.history, "findings": raw(nothingStands)})
			r := like.history(t)
			if r.code != exitUsageOrConn || r.stdout != "" || !strings.Contains(r.stderr, tc.want) {
				t.Errorf("%+v, want %q", r, tc.want)
			}
			printable(t, r.stderr)
			if n := like.asked["history"].Load(); n > tc.most {
				t.Errorf("%d requests", n)
			}
		})
	}
	t.Run("pages without end", func(t *testing.T) {
		like := likeAnAgent(t, map[string]answerer{"history": page(func(offset int) string { return fmt.Sprint(offset + 1000) }), "findings": raw(nothingStands)})
		if r := like.history(t); r.code != 0 || like.asked["history"].Load() != mostItems/1000 {
			t.Errorf("%+v after %d requests", r, like.asked["history"].Load())
		}
	})
	t.Run("hostile findings", func(t *testing.T) {
		body, err := json.Marshal(hostilePast())
		if err != nil {
			t.Fatal(err)
		}
		like := likeAnAgent(t, map[string]answerer{"history": raw(string(body)), "findings": refusing("500", hostile)})
		for _, args := range [][]string{{}, {"--transitions"}, {"--format", "json"}, {"--format", "markdown"}} {
			r := like.history(t, append(args, "--since", "2020-01-01T00:00:00Z")...)
			if r.code != 0 || r.stdout == "" {
				t.Errorf("%v: %+v", args, r)
			}
			printable(t, r.stdout)
			printable(t, r.stderr)
		}
	})
}

// An agent that starts is waited for; one that does not get ready is not for
// ever.
func TestHistoryWaitsForTheAgent(t *testing.T) {
	body, err := json.Marshal(historyOf("prod", testPast()))
	if err != nil {
		t.Fatal(err)
	}
	like := likeAnAgent(t, map[string]answerer{"findings": raw(nothingStands), "history": func(r micro.Request, n int64) {
		if n <= 2 {
			_ = r.Error("503", "it is starting", nil)
			return
		}
		_ = r.Respond(body)
	}})
	if r := like.history(t, "--since", "2020-01-01T00:00:00Z"); r.code != 0 || !strings.Contains(r.stdout, "7 episodes") {
		t.Errorf("%+v", r)
	}

	never := likeAnAgent(t, map[string]answerer{"history": refusing("503", "it is starting")})
	nc, err := nats.Connect(never.url, nats.UserInfo("a", "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	a := &asker{t: &target{}, nc: nc, prefix: service.DefaultPrefix, timeout: 5 * time.Second, patient: 3 * askAgain}
	_, err = a.history(t.Context(), service.Request{})
	var refused *refusedBy
	if n := never.asked["history"].Load(); !errors.As(err, &refused) || refused.Error() != "it is starting" || n < 2 || n > 6 {
		t.Errorf("%v after %d requests", err, n)
	}
}

// While it is read page by page, what is new moves the pages.
func TestHistoryPagesMove(t *testing.T) {
	all := testPast()
	const limit = 2
	like := likeAnAgent(t, map[string]answerer{"findings": raw(nothingStands), "history": func(r micro.Request, n int64) {
		var req service.Request
		if err := json.Unmarshal(r.Data(), &req); err != nil || req.Since != "" || req.Until != "" || req.Severity != "" {
			_ = r.Error("400", fmt.Sprintf("%v: %s", err, r.Data()), nil)
			return
		}
		now := all[max(0, 3-int(n)):] // two come while the first pages are read
		from := min(req.Offset, len(now))
		to := min(from+limit, len(now))
		page := historyOf("prod", now[from:to])
		page.Limit, page.Offset, page.Since = limit, req.Offset, taken.Add(-time.Duration(n)*time.Hour)
		if n == 3 {
			page.Since = taken.Add(-time.Minute) // something was forgotten meanwhile
		}
		if to < len(now) {
			page.NextOffset = &to
		}
		data, _ := json.Marshal(page.History)
		_ = r.Respond(data)
	}})
	r := like.history(t, "--since", "2020-01-01T00:00:00Z", "--format", "json")
	var got history
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatalf("%v: %+v", err, r)
	}
	ids := map[string]int{}
	for i := range got.Transitions {
		ids[got.Transitions[i].ID]++
	}
	// The two newest came after the first page; all others are there once.
	if len(ids) != len(all)-2 || len(got.Transitions) != len(ids) || got.Total != len(ids) || got.NextOffset != nil {
		t.Errorf("%d transitions of %d ids, total %d", len(got.Transitions), len(ids), got.Total)
	}
	if !got.Since.Equal(taken.Add(-time.Minute)) || !strings.Contains(r.stderr, "the agent's memory begins at 2026-03-04T05:05:07Z: what happened before is not told") {
		t.Errorf("complete since %v: %s", got.Since, r.stderr)
	}
}

// What stands since before the agent's memory begins is told, too.
func TestHistoryShowsWhatStands(t *testing.T) {
	past := testPast()
	known, old := past[0], told("f9", testFinding("DOOR_005", "", onServer("east", "n9", posture.Route), "n9 lets anybody join"), finding.Updated, 40*24*time.Hour, 0)
	later := told("f8", testFinding("DOOR_005", "", onServer("east", "n8", posture.Route), "n8 lets anybody join"), finding.Opened, 0, 0)
	findings, err := json.Marshal(map[string]any{"type": service.FindingsType, "findings": []finding.Finding{known, old, old, later}})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(historyOf("prod", past))
	if err != nil {
		t.Fatal(err)
	}
	like := likeAnAgent(t, map[string]answerer{"history": raw(string(body)), "findings": raw(string(findings))})
	window := []string{"--since", taken.Add(-15 * time.Minute).Format(time.RFC3339), "--until", taken.Add(-time.Minute).Format(time.RFC3339)}
	r := like.history(t, window...)
	if !strings.Contains(r.stdout, "east/n9 route: n9 lets anybody join") || strings.Contains(r.stdout, "n8") || !strings.Contains(r.stdout, "\n5 episodes: 3 stand, 1 stale, 0 resolved, 1 held; 1 of them waived\n") {
		t.Errorf("%+v", r)
	}
	if r := like.history(t, append(window, "--door", "client")...); strings.Contains(r.stdout, "n9") {
		t.Errorf("another door: %+v", r)
	}
	like = likeAnAgent(t, map[string]answerer{"history": raw(string(body)), "findings": refusing("404", "no such server")})
	if r := like.history(t, window...); r.code != 0 || r.stderr != "" || !strings.Contains(r.stdout, "\n4 episodes") {
		t.Errorf("of a server that is no more: %+v", r)
	}
}

// Who may ask for the history and not for findings is told what may be
// missing.
func TestHistoryWithoutFindings(t *testing.T) {
	body, err := json.Marshal(historyOf("prod", testPast()))
	if err != nil {
		t.Fatal(err)
	}
	like := likeAnAgent(t, map[string]answerer{"history": raw(string(body)), "findings": raw(nothingStands)})
	r := exec(t, "history", "--server", like.url, "--user", "half", "--password", "half", "--since", "2020-01-01T00:00:00Z", "--timeout", "1m")
	if r.code != 0 || !strings.Contains(r.stdout, "7 episodes") || !strings.Contains(r.stderr, "what stands since before that may be missing: this user may not ask on audit.auth.findings") {
		t.Errorf("%+v", r)
	}
}

func TestHistoryUsage(t *testing.T) {
	for args, want := range map[string]string{
		"--since yesterday":            `--since: "yesterday" is no time: RFC 3339 is accepted, or how long ago, like 90m, 24h or 7d`,
		"--since -1h":                  "--since: ",
		"--until soon":                 "--until: ",
		"--since 1h --until 2h":        "--until is before --since",
		"--door window":                "it must be one of client, websocket, mqtt, leafnode, route, gateway, monitor, profile",
		"--severity dire":              "it must be one of critical, warning, info",
		"--format xml":                 "it must be one of text, json, markdown",
		"--prefix a..b":                "--prefix",
		"n1":                           "unknown command",
		"--since 2026-13-01T00:00:00Z": "--since: ",
		"--since 1h --until 2020-01-01T00:00:00Z": "--until is before --since",
	} {
		r := exec(t, append([]string{"history", "--server", "nats://127.0.0.1:1"}, strings.Fields(args)...)...)
		if r.code != exitUsageOrConn || r.stdout != "" || !strings.Contains(r.stderr, want) || !strings.Contains(r.stderr, "see `natsentry history --help`") {
			t.Errorf("%s: %+v, want %q", args, r, want)
		}
	}
}

// An agent that has seen much, of whose memory the beginning is lost: what
// stands is told all the same, and what reached into the time asked for.
func TestHistoryOfALongLife(t *testing.T) {
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "door", Config: "accounts { SYS { users [ {user: admin, password: admin} ] } }\nsystem_account: SYS\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	const day = 24 * time.Hour
	now := time.Now().UTC()
	state := filepath.Join(t.TempDir(), "state.json")
	file, err := os.Create(state)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	enc := json.NewEncoder(w)
	n := uint64(0)
	say := func(id, server string, a finding.Action, opened, at time.Duration, evidence ...posture.Evidence) {
		scope := onServer("", server, posture.Client)
		fd := testFinding(id, "", scope, id+" on "+server, evidence...)
		fd.Remediation, fd.Refs, fd.System, fd.Action = finding.Remediation{}, []string{}, "prod", a
		fd.Fingerprint = finding.Fingerprint(id, "prod", scope, false)
		fd.FirstSeen, fd.LastSeen, fd.At = now.Add(-opened), now.Add(-at), now.Add(-at)
		if a == finding.Resolved {
			end := fd.LastSeen
			fd.ResolvedAt = &end
		}
		n++
		fd.ID = fmt.Sprintf("id%d", n)
		line := map[string]any{"entry": finding.Entry{Finding: fd, Count: n, Content: "c", Told: fd.LastSeen}, "told": fd.ID}
		if err := enc.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	say("DOOR_001", "door", finding.Opened, 20*day, 20*day) // it still is
	for i := range 5100 {                                   // more than an agent remembers
		ago := 19*day - time.Duration(i)*time.Minute
		say("DOOR_001", "gone", finding.Opened, ago, ago)
		say("DOOR_001", "gone", finding.Resolved, ago, ago-30*time.Second)
	}
	visitor := posture.Evidence{Basis: posture.Observed, Access: posture.Open, Source: "CONNZ cid 1", Value: "10.0.0.9:5555, calls itself \"early\""}
	say("DOOR_001", "old", finding.Opened, 5*day, 5*day)
	say("SESS_001", "old", finding.Opened, 4*day, 4*day, visitor)
	say("SESS_001", "old", finding.Resolved, 4*day, 4*day-time.Hour)
	say("DOOR_001", "old", finding.Resolved, 5*day, 2*day)
	say("DOOR_001", "short", finding.Opened, day, day)
	say("DOOR_001", "short", finding.Resolved, day, day-130*time.Second)
	if err := errors.Join(w.Flush(), file.Close()); err != nil {
		t.Fatal(err)
	}

	login := []string{"--server", f.Server("door").URL(), "--user", "admin", "--password", "admin"}
	agent := start(t, append([]string{"run", "--system", "prod", "--state", state, "--loopback-exposed", "--log-format", "json"}, login...)...)
	agent.stderr.await(t, `"msg":"leading"`)
	ask := func(args ...string) result {
		t.Helper()
		r := exec(t, append(append([]string{"history"}, login...), args...)...)
		if r.code != 0 {
			t.Fatalf("%v: %+v", args, r)
		}
		return r
	}
	has := func(r result, patterns ...string) {
		t.Helper()
		for _, p := range patterns {
			if !regexp.MustCompile("(?m)" + p).MatchString(r.stdout) {
				t.Errorf("no %s in\n%s%s", p, r.stdout, r.stderr)
			}
		}
	}
	// One that opened before and was closed in that time, with who came in
	// before; one that stands since before everything; and not the others.
	r := ask("--since", "60h", "--until", "36h", "--check", "DOOR_001")
	has(r, `^\S+Z  3d        RESOLVED  CRITICAL  DOOR_001    old client: DOOR_001 on old\n    came in: 10.0.0.9:5555, calls itself "early" \(CONNZ cid 1\)$`,
		`^\S+Z  20d       STANDS    CRITICAL  DOOR_001    door client: `, `^2 episodes: 1 stand, 0 stale, 1 resolved$`)
	if r.stderr != "" {
		t.Errorf("the memory reaches back that far: %s", r.stderr)
	}
	has(ask("--since", "36h", "--severity", "critical"), `^\S+Z  2m 10s    RESOLVED  CRITICAL  DOOR_001    short client: `, `^2 episodes: 1 stand, 0 stale, 1 resolved$`)
	has(ask("--since", "1h", "--server-name", "short"), `^no episodes$`)
	has(ask("--since", "60h", "--server-name", "old", "--transitions"), `\A\S+Z  RESOLVED  CRITICAL  DOOR_001  old client: DOOR_001 on old\n\z`)

	// Everything that it remembers: many pages, and a note that it is not all.
	r = ask("--since", "30d", "--format", "json")
	var all history
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatal(err)
	}
	if got := len(all.Transitions); got < 8000 || got > 10_000 || all.Total != got {
		t.Errorf("%d transitions, total %d", got, all.Total)
	}
	for i := range all.Transitions {
		if at := all.Transitions[i].At; i > 0 && at.After(all.Transitions[i-1].At) || at.Before(all.Since) {
			t.Fatalf("transition %d at %v is not in its place", i, at)
		}
	}
	if !strings.Contains(r.stderr, "the agent's memory begins at "+all.Since.Format(lineTime)) {
		t.Errorf("%s", r.stderr)
	}
	agent.end(t)
}
