package check

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/posture"
)

// runs is the version of a server.
func runs(version string) func(*posture.Server) {
	return func(s *posture.Server) { s.Version, s.BuiltWith = version, "go1.26.0" }
}

// info is a touch of the client port whose INFO asks for credentials, or does not.
func info(asks posture.Tri, a posture.Access) func(*posture.Server) {
	return func(s *posture.Server) {
		s.Touches = append(s.Touches, posture.Touch{Door: posture.Client, Access: a, Answer: "test", AuthRequired: asks})
	}
}

func static(s *posture.Server) { s.AuthMode = posture.AuthStatic }

// advisories judges one server, and returns its results by advisory; that of all
// together is "".
func advisories(s *posture.Server, taken time.Time) map[string]Result {
	snap := fleet(s)
	snap.Taken = taken
	out := map[string]Result{}
	for _, r := range cve001.judgeAlone(snap, DefaultPolicy()) {
		out[r.Scope.Advisory] = r
	}
	return out
}

func TestAdvisoriesFollowWhatAServerShows(t *testing.T) {
	old := runs("2.11.14")
	route := on(posture.Route, "0.0.0.0")
	noAuthUser := info(posture.No, posture.Open)
	for _, tc := range []struct {
		name, id string
		server   *posture.Server
		outcome  Outcome
		severity Severity
	}{
		{"no_auth_user and a route port", "2026-16", server("n1", old, static, route, noAuthUser), Fail, Critical},
		{"the hidden user and a route port", "2026-16", server("n1", old, static, route, info(posture.Yes, posture.Open), session(posture.Session{Door: posture.Client, User: "nats-Ab12Cd34", Account: "$G"})), Fail, Critical},
		{"no_auth_user and a leafnode port", "2026-16", server("n1", old, static, on(posture.Leafnode, "0.0.0.0"), noAuthUser), Fail, Critical},
		{"no_auth_user and neither", "2026-16", server("n1", old, static, noAuthUser), NotApplicable, 0},
		{"nobody has touched it", "2026-16", server("n1", old, static, route), Fail, Warning},
		{"INFO asks and strangers are refused", "2026-16", server("n1", old, static, route, info(posture.Yes, posture.Closed)), NotApplicable, 0},
		{"INFO asks and strangers are let in", "2026-16", server("n1", old, static, route, info(posture.Yes, posture.Open)), Fail, Warning},
		{"operator mode knows no no_auth_user", "2026-16", server("n1", old, route, operator("OA")), NotApplicable, 0},
		{"a server without users neither", "2026-16", server("n1", old, route, open), NotApplicable, 0},
		{"whether it has a route port was not seen", "2026-16", server("n1", old, static, noAuthUser, door(posture.Route, func(d *posture.Door) { d.On = posture.Unseen })), Fail, Warning},
		{"fixed", "2026-16", server("n1", runs("2.11.16"), static, route, noAuthUser), Pass, 0},

		{"no_auth_user that is refused to whom says who he is", "2026-24", server("n1", old, static, noAuthUser, func(s *posture.Server) { s.Touches[0].Unintroduced = true }), Fail, Critical},
		{"no_auth_user that is refused", "2026-24", server("n1", old, static, info(posture.No, posture.Closed)), Fail, Warning},
		{"no_auth_user that is let in", "2026-24", server("n1", old, static, noAuthUser), Fail, Warning},
		{"no no_auth_user", "2026-24", server("n1", old, static, info(posture.Yes, posture.Closed)), NotApplicable, 0},

		{"only the system account", "2023-01", server("n1", runs("2.10.1"), static, func(s *posture.Server) { s.Accounts = []string{"$G", "$SYS"} }), Fail, Critical},
		{"only the system account, and strangers are refused", "2023-01", server("n1", runs("2.10.1"), static, func(s *posture.Server) { s.Accounts = []string{"$G", "$SYS"} }, info(posture.Yes, posture.Closed)), NotApplicable, 0},
		{"another account", "2023-01", server("n1", runs("2.10.1"), static), NotApplicable, 0},
		{"accounts that were not asked for", "2023-01", server("n1", runs("2.10.1"), static, func(s *posture.Server) { s.Accounts = nil }), Fail, Warning},

		// What certificates look like is seen nowhere.
		{"mapped certificates", "2026-13", server("n1", old, static, session(posture.Session{Door: posture.Client, Login: posture.LoginCertificate})), Fail, Warning},
		{"verified certificates", "2026-13", server("n1", old, static, door(posture.Client, func(d *posture.Door) { d.TLS.Verify = posture.Yes })), Fail, Warning},
		{"no certificates", "2026-13", server("n1", old, static), NotApplicable, 0},

		{"operator mode", "2020-02", server("n1", runs("2.1.8"), operator("OA")), Fail, Warning},
		{"no operator mode", "2020-02", server("n1", runs("2.1.8"), static), NotApplicable, 0},

		// The others are told, and no more.
		{"MQTT", "2026-07", server("n1", old, on(posture.MQTT, "0.0.0.0")), Fail, Info},
		{"no MQTT", "2026-07", server("n1", old), NotApplicable, 0},
		{"MQTT was not seen", "2026-07", server("n1", old, door(posture.MQTT, func(d *posture.Door) { d.On = posture.Unseen })), Fail, Info},
		{"a websocket without MQTT", "2026-27", server("n1", old, on(posture.Websocket, "0.0.0.0"), func(s *posture.Server) { s.JetStream = posture.Yes }), Fail, Info},
		{"a websocket with MQTT", "2026-27", server("n1", old, on(posture.Websocket, "0.0.0.0"), on(posture.MQTT, "0.0.0.0"), func(s *posture.Server) { s.JetStream = posture.Yes }), NotApplicable, 0},
		{"a websocket without JetStream", "2026-27", server("n1", old, on(posture.Websocket, "0.0.0.0"), func(s *posture.Server) { s.JetStream = posture.No }), NotApplicable, 0},
		{"whatever else it has", "2026-15", server("n1", old), Fail, Info},

		{"a vendor's build of the fix", "2026-16", server("n1", runs("2.11.16-fips"), static, route, noAuthUser), Unknown, 0},
		{"a build of the version before", "2026-16", server("n1", runs("2.11.15-fips"), static, route, noAuthUser), Fail, Critical},
		{"an old Go", "2026-01", server("n1", func(s *posture.Server) { s.BuiltWith = "go1.25.6" }, door(posture.Client, func(d *posture.Door) { d.TLS.Verify = posture.Yes })), Fail, Info},
		{"an unknown Go", "2026-01", server("n1", door(posture.Client, func(d *posture.Door) { d.TLS.Verify = posture.Yes })), Unknown, 0},
		{"an old Go, no client certificates", "2026-01", server("n1", func(s *posture.Server) { s.BuiltWith = "go1.25.6" }), NotApplicable, 0},
		{"silent", "2026-16", server("n1", old, deaf), Unknown, 0},
	} {
		r, ok := advisories(tc.server, now)[tc.id]
		if !ok {
			r.Outcome = Pass // a version that has not got it needs no result of its own
		}
		severity := r.Severity
		if r.Outcome == Fail && severity == NoSeverity {
			severity = cve001.Severity
		}
		if r.Outcome != tc.outcome || severity != tc.severity {
			t.Errorf("%s: %s is %s %s, want %s %s: %s", tc.name, tc.id, r.Outcome, severity, tc.outcome, tc.severity, r.Summary)
		}
	}
}

// TestAdvisoriesTogether: a server passes when its version has none, and the table
// is young enough to say so.
func TestAdvisoriesTogether(t *testing.T) {
	asOf, err := time.Parse(time.DateOnly, advisory.Known().AsOf)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		server *posture.Server
		taken  time.Time
		want   Outcome
		says   string
	}{
		{"new", server("n1"), asOf, Pass, advisory.Known().AsOf},
		{"after 90 days", server("n1"), asOf.Add(AdvisoryLife), Pass, advisory.Known().AsOf},
		{"after more", server("n1"), asOf.Add(AdvisoryLife + time.Second), Unknown, "more than 90 days"},
		{"silent", server("n1", deaf), asOf, Unknown, "no answer to VARZ"},
		{"no version", server("n1", runs("")), asOf, Unknown, "no version"},
		{"odd version", server("n1", runs("2.15")), asOf, Unknown, `"2.15" is no version`},
		{"a build of a fix", server("n1", runs("2.14.3-fips")), asOf, Unknown, "whether 2.14.3-fips"},
		{"newer than the table", server("n1", runs("3.0.0-RC.1")), asOf, Pass, ""},
	} {
		r, ok := advisories(tc.server, tc.taken)[""]
		if !ok || r.Outcome != tc.want || !strings.Contains(r.Summary, tc.says) {
			t.Errorf("%s: %s %q, want %s with %q", tc.name, r.Outcome, r.Summary, tc.want, tc.says)
		}
	}
	failing := advisories(server("n1", runs("2.12.6")), asOf.Add(2*AdvisoryLife))
	if r, ok := failing[""]; ok {
		t.Errorf("a server with a vulnerability is %s as a whole", r.Outcome)
	}
	if failing["2026-28"].Outcome != Fail {
		t.Error("an old table still knows what it knew")
	}
	// A server of which not even the version is known may have any of them.
	if got := len(advisories(server("n1", func(s *posture.Server) { s.Version = "" }, deaf), asOf)); got != len(advisory.Known().Advisories)+1 {
		t.Errorf("%d results of a server about which nothing is known", got)
	}
}

// TestAdvisoryFindingsSayWhatIsNeeded: which advisory, of when, what fixes it, and
// what it takes.
func TestAdvisoryFindingsSayWhatIsNeeded(t *testing.T) {
	r := advisories(server("n1", runs("2.12.6"), static, on(posture.Route, "0.0.0.0"), info(posture.No, posture.Open)), now)["2026-16"]
	if want := "n1 runs 2.12.6, which has 2026-16 (CVE-2026-58253, GHSA-38x3-76xf-cq45): Route API Auth Bypass; fixed in 2.11.16, 2.12.7, 2.14.0"; r.Summary != want {
		t.Errorf("got  %s\nwant %s", r.Summary, want)
	}
	want := []posture.Evidence{
		reported("VARZ version", "2.12.6"),
		{Basis: posture.Inferred, Source: "advisory 2026-16", Value: "https://advisories.nats.io/CVE/secnote-2026-16.txt, of 2026-06-29, as known on " + advisory.Known().AsOf},
		reported("it takes a no_auth_user", "seen"),
		reported("it takes a route or leafnode port", "seen"),
	}
	if !slices.Equal(r.Evidence, want) {
		t.Errorf("got %v\nwant %v", r.Evidence, want)
	}
}

// TestEveryNeedIsLookedFor: a need that no function looks for would end in a panic.
func TestEveryNeedIsLookedFor(t *testing.T) {
	for _, a := range advisory.Known().Advisories {
		for _, n := range a.Needs {
			if needs[n] == nil {
				t.Errorf("%s takes %s, which nobody looks for", a.ID, n)
			}
		}
	}
	// Nothing is concluded from nothing.
	for n, seen := range needs {
		if got := seen(&posture.Server{}); got != posture.Unseen {
			t.Errorf("%s is %d on a server about which nothing is known", n, got)
		}
	}
}

// TestWaiversOfAdvisories: one that names an advisory, by any of its ids, covers
// no other.
func TestWaiversOfAdvisories(t *testing.T) {
	for waived, covers := range map[string]bool{"": true, "2026-16": true, "GHSA-38x3-76xf-cq45": true, "2026-17": false} {
		p := DefaultPolicy()
		p.Waivers = []Waiver{{Check: "CVE_001", Advisory: waived, Reason: "a test", Owner: "the tests", Expires: now.Add(time.Hour)}}
		if err := p.Waivers[0].Validate(); err != nil {
			t.Error(err)
		}
		scope := Scope{Kind: KindServer, Server: "n1", Advisory: "2026-16"}
		if got := p.Waived(cve001, scope, now) != nil; got != covers {
			t.Errorf("a waiver of %q covers 2026-16: %v, want %v", waived, got, covers)
		}
	}
}
