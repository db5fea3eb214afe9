package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

func day(year int, month time.Month, d int) time.Time {
	return time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
}

func TestPolicyGood(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want []check.Waiver
	}{
		"none": {"waivers: []\n", []check.Waiver{}},
		"all fields": {`# What we accept.
waivers:
  - check: DOOR_001      # the lobby
    cluster: east
    server: "kiosk-*"
    door: client
    reason: the kiosks of the lobby come in here
    owner: ops@example.net
    expires: 2027-01-31
`, []check.Waiver{{
			Check: "DOOR_001", Cluster: "east", Server: "kiosk-*", Door: "client",
			Reason: "the kiosks of the lobby come in here", Owner: "ops@example.net", Expires: day(2027, 2, 1),
		}}},
		"an alias, a moment, texts of every kind": {`---
waivers:
- {check: SERVER_007, reason: 'it''s a "lab"', owner: 42, expires: "2027-01-31T12:00:00+02:00"}
- check: TLS_001
  reason: |
    until the new authority
    is trusted
  owner: >-
    the
    network team
  expires: 2027-01-31
...
`, []check.Waiver{
			{Check: "SERVER_007", Reason: `it's a "lab"`, Owner: "42", Expires: time.Date(2027, 1, 31, 10, 0, 0, 0, time.UTC)},
			{Check: "TLS_001", Reason: "until the new authority\nis trusted", Owner: "the network team", Expires: day(2027, 2, 1)},
		}},
		"the last day that there is": {
			"waivers: [{check: DOOR_001, reason: r, owner: o, expires: 9999-12-30}]",
			[]check.Waiver{{Check: "DOOR_001", Reason: "r", Owner: "o", Expires: day(9999, 12, 31)}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			read, err := parsePolicy([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			got := read.Waivers
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if _, err := json.Marshal(got); err != nil {
				t.Errorf("a finding that it covers cannot be written: %v", err)
			}
		})
	}
}

func TestPolicyExpected(t *testing.T) {
	got, err := parsePolicy([]byte(`
expected:
- user: admin
- user: ops-*
  address: 10.1.0.0/16
- {user: UABC, address: "::1"}
- {user: mapped, address: "::ffff:10.1.2.3"}
waivers: []
`))
	want := []check.Expected{
		{User: "admin"},
		{User: "ops-*", Address: netip.MustParsePrefix("10.1.0.0/16")},
		{User: "UABC", Address: netip.MustParsePrefix("::1/128")},
		{User: "mapped", Address: netip.MustParsePrefix("10.1.2.3/32")},
	}
	if diff := cmp.Diff(want, got.Expected, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// waiverWith is a good waiver in which one line is replaced.
func waiverWith(key, line string) string {
	lines := []string{"check: DOOR_001", "server: n1", "reason: a lab", "owner: ops", "expires: 2027-01-31"}
	for i, l := range lines {
		if strings.HasPrefix(l, key+":") {
			lines[i] = line
		}
	}
	return "waivers:\n- " + strings.Join(lines, "\n  ") + "\n"
}

// Every error says where, what is wrong, and what is accepted.
func TestPolicyBad(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty":                 {"", "it is empty: `waivers: []` is a policy without waivers"},
		"blank":                 {" \n\n", "it is empty: `waivers: []`"},
		"comments":              {"# nothing yet\n", "it is empty: `waivers: []`"},
		"no value":              {"waivers:\n", "it is empty: `waivers: []`"},
		"null":                  {"waivers: null\n", "it is empty: `waivers: []`"},
		"a text":                {"DOOR_001\n", "line 1: accepted are the keys waivers and expected, each with a list"},
		"a list":                {"- check: DOOR_001\n", "line 1: accepted are the keys waivers"},
		"unknown key":           {"\nwaiver: []\n", `line 2: unknown key "waiver": accepted are the keys waivers`},
		"no list":               {"waivers: DOOR_001\n", "line 1: waivers is no list: accepted are the keys waivers"},
		"a mapping":             {"waivers: {check: DOOR_001}\n", "line 1: waivers is no list"},
		"twice":                 {"waivers: []\nwaivers: []\n", `line 2: it is not YAML: mapping key "waivers" already defined at [1:1]`},
		"two documents":         {"waivers: []\n---\nwaivers: []\n", "line 3: a second document begins: one is accepted"},
		"no mapping":            {"waivers: [DOOR_001]\n", "line 1, waiver 1: it is no mapping: a waiver has check, reason, owner and expires"},
		"misspelt":              {waiverWith("server", "sever: n1"), `line 2, waiver 1: unknown key "sever": a waiver has check, reason, owner and expires, and may have cluster, server and door`},
		"key twice":             {waiverWith("server", "check: DOOR_002"), `line 3: it is not YAML: mapping key "check" already defined at [2:3]`},
		"no check":              {waiverWith("check", "door: client"), "line 2, waiver 1: it names no check: a waiver has"},
		"unknown check":         {waiverWith("check", "check: DOOR_999"), "there is no check \"DOOR_999\", `natsentry checks` lists them: a waiver has"},
		"check in small":        {waiverWith("check", "check: door_001"), `there is no check "door_001"`},
		"waives for ever":       {waiverWith("check", "check: POLICY_001"), "POLICY_001 cannot be waived"},
		"empty reason":          {waiverWith("reason", `reason: ""`), "line 2, waiver 1: reason is empty: give it a value, or leave it out: a waiver has"},
		"blank reason":          {waiverWith("reason", `reason: "  "`), "reason is empty"},
		"no reason":             {waiverWith("reason", "door: client"), "it gives no reason: a waiver has"},
		"no value of a reason":  {waiverWith("reason", "reason:"), "reason is empty"},
		"empty owner":           {waiverWith("owner", "owner: ''"), "owner is empty"},
		"no owner":              {waiverWith("owner", "door: client"), "it names no owner: a waiver has"},
		"empty expires":         {waiverWith("expires", "expires:"), "expires is empty"},
		"no expires":            {waiverWith("expires", "door: client"), "it does not say when it expires: a waiver has"},
		"bad day":               {waiverWith("expires", "expires: 2027-02-30"), `expires "2027-02-30" is no day: accepted is its last day, like 2027-01-31, or a moment, like 2027-01-31T12:00:00Z`},
		"no day":                {waiverWith("expires", "expires: never"), `expires "never" is no day: accepted`},
		"too far":               {waiverWith("expires", "expires: 9999-12-31"), "too far away: the years up to 9999 are accepted"},
		"too far by its zone":   {waiverWith("expires", `expires: "9999-12-31T23:59:59-01:00"`), "too far away"},
		"before our time":       {waiverWith("expires", `expires: 0000-01-01`), "too far away"},
		"bad pattern":           {waiverWith("server", `server: "n[1"`), `"n[1" is no pattern of a server: * stands for any characters`},
		"bad cluster":           {waiverWith("server", `cluster: 'c\'`), `is no pattern of a cluster`},
		"not all of them":       {waiverWith("server", "server: ''"), "server is empty: give it a value, or leave it out"},
		"null is not all":       {waiverWith("server", "server: ~"), "server is empty"},
		"unknown door":          {waiverWith("server", "door: window"), `there is no door "window", but client, websocket, mqtt, leafnode, route, gateway, monitor and profile`},
		"a list of servers":     {waiverWith("server", "server: [n1, n2]"), "server is no text"},
		"long":                  {waiverWith("reason", "reason: "+strings.Repeat("x", longestText+1)), "reason is too long: up to 1000 bytes are accepted"},
		"the second one":        {waiverWith("", "") + "- check: DOOR_002\n", "line 7, waiver 2: it gives no reason"},
		"not YAML":              {"waivers: [\n", "line 1: it is not YAML: "},
		"tabs":                  {"waivers:\n\t- check: x\n", "it is not YAML: "},
		"anchor":                {"waivers: &a []\n", "line 1: anchors, aliases, tags, directives and keys with ? are not accepted: accepted are"},
		"alias":                 {"waivers: *a\n", "anchors, aliases"},
		"merge":                 {"waivers:\n- <<: {check: DOOR_001}\n", "line 2: anchors, aliases"},
		"tag":                   {"waivers: !!seq []\n", "anchors, aliases"},
		"complex key":           {"? waivers\n: []\n", "anchors, aliases"},
		"directive":             {"%YAML 1.2\n---\nwaivers: []\n", "anchors, aliases"},
		"list of lists":         {"waivers:\n- - check: DOOR_001\n", "line 2: a list of lists is not accepted"},
		"a control character":   {waiverWith("server", "\"s\\e[31m\": n1"), `unknown key "s\x1b[31m"`},
		"terminal in a check":   {waiverWith("check", "check: \"\\e[2J\""), `there is no check "\x1b[2J"`},
		"too large":             {"waivers: []\n" + strings.Repeat("#\n", largestPolicy/2), "it is larger than the 256 KiB that are accepted"},
		"brackets":              {strings.Repeat("[", 100_000), "line 1: brackets are nested too deeply"},
		"braces":                {strings.Repeat("{a: ", 50_000), "brackets are nested too deeply"},
		"dashes":                {strings.Repeat("- ", 100_000), "a list of lists"},
		"keys":                  {numbered("k%d: 1\n"), "line 17: too many keys"},
		"keys with lists":       {numbered("k%d:\n- x\n"), "line 33: too many keys"},
		"keys of a waiver":      {"waivers:\n- check: x\n" + numbered("  k%d:\n  - x\n"), "too many keys"},
		"keys in braces":        {"waivers: [{" + numbered("k%d: 1, ") + "}]", "line 1: too many keys"},
		"braces in braces":      {"{" + numbered("k%d: {}, ") + "}", "line 1: too many keys"},
		"a deep staircase":      {staircase(600), "line 1: unknown key"},
		"a billion laughs":      {laughs(), "anchors, aliases"},
		"nobody is expected":    {"expected:\n- address: 10.0.0.1\n", "line 2, expected 1: it names no user: somebody expected has user, and may have address"},
		"expected by a name":    {"expected:\n- name: x\n", `line 2, expected 1: unknown key "name": somebody expected has user`},
		"expected nowhere":      {"expected: [{user: a, address: office}]", `line 1, expected 1: address "office" is none: accepted is an IP address, like 10.1.2.3, or a network, like 10.1.0.0/16`},
		"half a network":        {"expected: [{user: a, address: 10.1.2.3/16}]", `address "10.1.2.3/16" is none`},
		"a zone":                {"expected: [{user: a, address: 'fe80::1%eth0'}]", `is none`},
		"expected by a pattern": {"expected: [{user: 'a['}]", `"a[" is no pattern of a user`},
		"expect no list":        {"expected: admin", "line 1: expected is no list"},
		"a merge of everything": {"a: &a {b: c}\nwaivers:\n- <<: [*a, *a]\n", "anchors, aliases"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parsePolicy([]byte(tc.text))
			if err == nil {
				t.Fatalf("it is taken for %v", got)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%q, want %q", err, tc.want)
			}
			if len(err.Error()) > 500 || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Errorf("no error to be shown: %q", err)
			}
		})
	}
}

// numbered is one thing after the other, up to the size of a policy.
func numbered(format string) string {
	var b strings.Builder
	for i := 0; b.Len() < largestPolicy-100; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// staircase is as deep as blocks can be.
func staircase(steps int) string {
	var b strings.Builder
	for i := range steps {
		fmt.Fprintf(&b, "%sk:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

// laughs is a document that is small and becomes billions of words.
func laughs() string {
	var b strings.Builder
	b.WriteString("a0: &a0 [lol]\n")
	for i := range 9 {
		fmt.Fprintf(&b, "a%d: &a%d [%s*a%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), i)
	}
	return b.String() + "waivers: *a9\n"
}

// What a file may cost is bounded by its size.
func TestPolicyCost(t *testing.T) {
	const (
		mostMemory = 200 << 20
		mostTime   = 10 * time.Second // only what is not linear takes so long, on any machine
	)
	for name, text := range map[string]string{
		"brackets": strings.Repeat("[", largestPolicy), "braces": strings.Repeat("{a: ", largestPolicy/4), "dashes": strings.Repeat("- ", largestPolicy/2),
		"questions": strings.Repeat("? ", largestPolicy/2), "colons": strings.Repeat("a: ", largestPolicy/3), "quotes": strings.Repeat(`"`, largestPolicy),
		"anchors": strings.Repeat("&a ", largestPolicy/3), "documents": strings.Repeat("---\n", largestPolicy/4), "bars": strings.Repeat("|\n", largestPolicy/2),
		"keys": numbered("k%d: 1\n"), "keys with lists": numbered("k%d:\n- x\n"), "keys in braces": "{" + numbered("k%d: 1, ") + "}", "braces in braces": "{" + numbered("k%d: {}, ") + "}",
		"items": "waivers:\n" + strings.Repeat("-\n", largestPolicy/2-10), "empty braces": "waivers: [" + strings.Repeat("{},", largestPolicy/3-10) + "]",
		"stairs": staircase(700), "laughs": laughs(), "zeros": strings.Repeat("\x00", largestPolicy), "bytes": strings.Repeat("\xff", largestPolicy),
		"waivers": "waivers:\n" + numbered("- {check: DOOR_001, server: n%d, reason: r, owner: o, expires: 2027-01-31}\n"),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		_, err := parsePolicy([]byte(text))
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > mostMemory || took > mostTime {
			t.Errorf("%s: %d MiB and %s: %v", name, used>>20, took, err)
		}
		if (err == nil) != (name == "waivers") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzPolicy: any bytes are either refused in one plain line, or waivers that
// can be told and that somebody has given in full.
func FuzzPolicy(f *testing.F) {
	for _, s := range []string{
		"", "waivers: []", waiverWith("", ""), waiverWith("server", "server: n[1-3]*"), waiverWith("expires", `expires: "2027-01-31T12:00:00Z"`),
		"waivers: [{check: DOOR_001, reason: r, owner: o, expires: 2027-01-31}]", "a: &a [*a]", laughs(), "{[", "? a\n: b", "waivers:\n- |\n  x", "\xff", "---\n---",
		"waivers:\n- reason: >-\n    a\n\n    b\n", "%TAG ! x\n", "!!binary x", "<<: {}", "'", "\"\\x\"", strings.Repeat("[", 100), strings.Repeat("- ", 100), staircase(20),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		policy, err := parsePolicy(text)
		if err != nil {
			if strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("refused with %q", err)
			}
			return
		}
		for i := range policy.Expected {
			if err := policy.Expected[i].Validate(); err != nil {
				t.Fatalf("%+v is taken: %v", policy.Expected[i], err)
			}
		}
		for i := range policy.Waivers {
			w := &policy.Waivers[i]
			if err := w.Validate(); err != nil {
				t.Fatalf("%+v is taken: %v", w, err)
			}
			if _, err := json.Marshal(w); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range check.Catalogue() {
			policy.Waived(c, onServer("east", "n1", posture.Client), taken)
		}
	})
}

// Errors name the file, the program says what is accepted, and nothing is
// audited by half a policy.
func TestPolicyErrorsNameTheFile(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte(waiverWith("owner", "owner: ''")), 0o600); err != nil {
		t.Fatal(err)
	}
	huge := filepath.Join(dir, "huge.yaml")
	if err := os.WriteFile(huge, make([]byte, 10*largestPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		bad:                                "policy " + bad + ": line 2, waiver 1: owner is empty",
		huge:                               "policy " + huge + ": it is larger than",
		dir:                                "policy: read " + dir,
		filepath.Join(dir, "missing.yaml"): "policy: open " + filepath.Join(dir, "missing.yaml"),
	} {
		policy := check.DefaultPolicy()
		policy.Waivers = []check.Waiver{{Check: "DOOR_001"}}
		if err := loadPolicy(path, &policy); err == nil || !strings.Contains(err.Error(), want) || len(policy.Waivers) != 1 {
			t.Errorf("%v, want %q, and the policy as it was: %v", err, want, policy.Waivers)
		}
		for _, command := range []string{"audit", "run"} {
			r := exec(t, command, "--no-context", "--server", "nats://127.0.0.1:1", "--policy", path)
			if r.code != exitUsageOrConn || r.stdout != "" || !strings.Contains(r.stderr, want) || !strings.Contains(r.stderr, "see `natsentry "+command+" --help`") {
				t.Errorf("%s: %+v", command, r)
			}
		}
	}
}

// A waiver covers until its last day has passed. Then what it covered counts
// again, and that it has expired is a finding of its own.
func TestPolicyExpires(t *testing.T) {
	s := &posture.Server{
		ID: "NID1", Name: "n1", Heard: posture.Varz | posture.Connz, AuthRequired: posture.No, State: posture.Answering,
		Doors: []posture.Door{{Kind: posture.Client, On: posture.Yes, Host: "10.0.0.1", Port: 4222}},
	}
	posture.Judge(s)
	read, err := parsePolicy([]byte(waiverWith("", "")))
	if err != nil {
		t.Fatal(err)
	}
	policy := check.DefaultPolicy()
	policy.Waivers = read.Waivers
	at := func(now time.Time) *finding.Report {
		snap := &posture.Snapshot{System: "prod", Epoch: 1, Taken: now, Expected: 1, Heard: 1, Servers: []*posture.Server{s}}
		return finding.NewReport(snap, finding.Of(snap, check.Evaluate(snap, policy), &policy))
	}
	find := func(r *finding.Report, id string) *finding.Finding {
		for i := range r.Findings {
			if r.Findings[i].Check == id {
				return &r.Findings[i]
			}
		}
		return nil
	}
	before := at(time.Date(2027, 1, 31, 23, 59, 59, 0, time.UTC))
	if f := find(before, "DOOR_001"); f == nil || f.Waived == nil || f.Waived.Owner != "ops" || find(before, "POLICY_001") != nil {
		t.Errorf("on its last day: %+v", before.Findings)
	}
	if err := judge(before, "critical", false); err != nil {
		t.Errorf("on its last day: %v", err)
	}
	after := at(day(2027, 2, 1))
	if f := find(after, "DOOR_001"); f == nil || f.Waived != nil {
		t.Errorf("the day after: %+v", after.Findings)
	}
	expired := find(after, "POLICY_001")
	if expired == nil || expired.Waived != nil || len(expired.Evidence) != 1 || !strings.Contains(expired.Evidence[0].Value, "expired on 2027-01-31, owner ops") {
		t.Errorf("the day after: %+v", expired)
	}
	if err := judge(after, "critical", false); err == nil {
		t.Error("the day after it still covers")
	}
}
