package check

import (
	"slices"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/posture"
)

// advised judges a configuration, by advisory; that of all together is "".
func advised(changes ...func(*posture.Server)) map[string]Result {
	snap := configured(changes...)
	out := map[string]Result{}
	for _, r := range cve001.judgeAlone(snap, DefaultPolicy()) {
		out[r.Scope.Advisory] = r
	}
	return out
}

func traits(t posture.Traits) func(*posture.Server) {
	return config(func(c *posture.Config) { c.Traits = t })
}

func key(path string, n int) func(*posture.Server) {
	return config(func(c *posture.Config) {
		if c.Keys == nil {
			c.Keys = map[string]posture.Place{}
		}
		c.Keys[path] = line(n)
	})
}

// nothing is a configuration that takes nothing of what advisories take.
var nothing = posture.Traits{NoAuthUser: posture.No, RefusesNoAuthUser: posture.No, OnlySystemAccount: posture.No, MapsCertificates: posture.No}

// TestAdvisoriesOfConfigurations: the last release that has one, the first that has
// it no more, and what a configuration turns on.
func TestAdvisoriesOfConfigurations(t *testing.T) {
	guest := traits(posture.Traits{NoAuthUser: posture.Yes, RefusesNoAuthUser: posture.Yes})
	route, mqtt := on(posture.Route, "0.0.0.0"), on(posture.MQTT, "0.0.0.0")
	for _, tc := range []struct {
		name, version, id string
		changes           []func(*posture.Server)
		outcome           Outcome
		severity          Severity
	}{
		{"the last of 2.12", "2.12.6", "2026-16", []func(*posture.Server){guest, route}, Fail, Critical},
		{"the first fixed of 2.12", "2.12.7", "2026-16", []func(*posture.Server){guest, route}, Pass, 0},
		{"the last of 2.11", "2.11.15", "2026-16", []func(*posture.Server){guest, route}, Fail, Critical},
		{"the first fixed of 2.11", "2.11.16", "2026-16", []func(*posture.Server){guest, route}, Pass, 0},
		{"with a v", "v2.12.6", "2026-16", []func(*posture.Server){guest, route}, Fail, Critical},
		{"an image of the last", "2.12.6-alpine", "2026-16", []func(*posture.Server){guest, route}, Fail, Critical},
		{"an image of the fix", "2.12.7-alpine", "2026-16", []func(*posture.Server){guest, route}, Unknown, 0},
		{"a candidate of the fix", "2.12.7-RC.1", "2026-16", []func(*posture.Server){guest, route}, Unknown, 0},
		{"an image of a later one", "2.12.8-alpine", "2026-16", []func(*posture.Server){guest, route}, Pass, 0},
		{"nobody is taken for a user", "2.12.6", "2026-16", []func(*posture.Server){traits(nothing), route}, NotApplicable, 0},
		{"neither routes nor leafnodes", "2.12.6", "2026-16", []func(*posture.Server){guest}, NotApplicable, 0},
		{"it hangs on a variable", "2.12.6", "2026-16", []func(*posture.Server){traits(posture.Traits{}), route}, Fail, Warning},

		{"the last", "2.14.2", "2026-24", []func(*posture.Server){guest}, Fail, Critical},
		{"the first fixed", "2.14.3", "2026-24", []func(*posture.Server){guest}, Pass, 0},
		{"he may use every port", "2.14.2", "2026-24", []func(*posture.Server){traits(nothing)}, NotApplicable, 0},

		{"the last", "2.10.1", "2023-01", []func(*posture.Server){traits(posture.Traits{OnlySystemAccount: posture.Yes})}, Fail, Critical},
		{"the first fixed", "2.10.2", "2023-01", []func(*posture.Server){traits(posture.Traits{OnlySystemAccount: posture.Yes})}, Pass, 0},
		{"other accounts", "2.10.1", "2023-01", []func(*posture.Server){traits(nothing)}, NotApplicable, 0},

		// What names of certificates look like, no configuration shows.
		{"the last", "2.12.5", "2026-13", []func(*posture.Server){traits(posture.Traits{MapsCertificates: posture.Yes})}, Fail, Warning},
		{"the first fixed", "2.12.6", "2026-13", []func(*posture.Server){traits(posture.Traits{MapsCertificates: posture.Yes})}, Pass, 0},
		{"no certificates", "2.12.5", "2026-13", []func(*posture.Server){traits(nothing)}, NotApplicable, 0},

		{"MQTT, the last", "2.12.5", "2026-07", []func(*posture.Server){mqtt}, Fail, Info},
		{"MQTT, the first fixed", "2.12.6", "2026-07", []func(*posture.Server){mqtt}, Pass, 0},
		{"no MQTT", "2.12.5", "2026-07", nil, NotApplicable, 0},
		{"not to be read", "2.12.6", "2026-16", []func(*posture.Server){guest, route, refused}, Unknown, 0},
	} {
		r, ok := advised(append(tc.changes, runs(tc.version))...)[tc.id]
		if !ok {
			r.Outcome = Pass
		}
		severity := r.Severity
		if r.Outcome == Fail && severity == NoSeverity {
			severity = cve001.Severity
		}
		if r.Outcome != tc.outcome || severity != tc.severity {
			t.Errorf("%s: %s of %s is %s %s, want %s %s: %s", tc.name, tc.id, tc.version, r.Outcome, severity, tc.outcome, tc.severity, r.Summary)
		}
	}
}

// TestAdvisoriesWithoutAVersion: where nobody has said what will run, nothing is
// said, not even that it is unknown.
func TestAdvisoriesWithoutAVersion(t *testing.T) {
	if got := advised(runs("")); len(got) != 0 {
		t.Errorf("%v", got)
	}
	snap := configured(runs("2.12.6"))
	other := configured(runs("")).Servers[0]
	other.ID = "other.conf"
	snap.Servers = append(snap.Servers, other)
	results := cve001.judgeAlone(snap, DefaultPolicy())
	if len(results) == 0 || slices.ContainsFunc(results, func(r Result) bool { return r.Scope.ServerID == "other.conf" }) {
		t.Errorf("%v", results)
	}
}

// TestAdvisoriesTellPlaces: what an advisory takes stands somewhere, and what takes
// nothing is told of the file as a whole.
func TestAdvisoriesTellPlaces(t *testing.T) {
	got := advised(runs("2.12.5"), on(posture.Route, "0.0.0.0"), on(posture.MQTT, "0.0.0.0"), key("no_auth_user", 7), key("cluster", 3), key("mqtt", 4),
		traits(posture.Traits{NoAuthUser: posture.Yes}))
	for id, want := range map[string][]posture.Place{
		"2026-16": {line(7), line(3)}, "2026-07": {line(4)}, "2026-15": {{File: "n1.conf"}},
	} {
		var places []posture.Place
		for _, e := range got[id].Evidence {
			if e.Place != nil {
				places = append(places, *e.Place)
			}
		}
		if !slices.Equal(places, want) {
			t.Errorf("%s: %v, want %v", id, places, want)
		}
	}
	r := got["2026-16"]
	if want := "n1.conf is to run with nats-server 2.12.5, which has 2026-16"; !strings.HasPrefix(r.Summary, want) {
		t.Errorf("%s", r.Summary)
	}
	for _, e := range r.Evidence {
		if strings.Contains(e.Source, "VARZ") {
			t.Errorf("a file has no %s", e.Source)
		}
	}
}

// TestEveryNeedHasAKey: but what is not there has none.
func TestEveryNeedHasAKey(t *testing.T) {
	for n := range needs {
		if (len(needKeys[n]) == 0) != (n == advisory.NeedsNoMQTT) {
			t.Errorf("%s: %v", n, needKeys[n])
		}
	}
}

func TestSharedTokenOfAConfiguration(t *testing.T) {
	at := line(2)
	token := config(func(c *posture.Config) { c.Token = &at })
	for _, tc := range []struct {
		name    string
		changes []func(*posture.Server)
		want    Outcome
	}{
		{"a token", []func(*posture.Server){token}, Fail},
		{"none", nil, Pass},
		{"one of a websocket", []func(*posture.Server){login(posture.ConfigLogin{Where: "websocket", Secret: posture.SecretPlain})}, Pass},
		{"not to be read", []func(*posture.Server){refused}, Unknown},
		{"the block is not here", []func(*posture.Server){config(func(c *posture.Config) {
			c.Unset = []posture.Unset{{Name: "AUTH", Key: "authorization", Place: at}}
		})}, Unknown},
	} {
		r := cred001.judgeAlone(configured(tc.changes...), DefaultPolicy())
		if len(r) != 1 || r[0].Outcome != tc.want {
			t.Fatalf("%s: %+v", tc.name, r)
		}
		if tc.want == Fail && (len(r[0].Evidence) != 1 || r[0].Evidence[0].Place == nil || *r[0].Evidence[0].Place != at) {
			t.Errorf("%s: %+v", tc.name, r[0].Evidence)
		}
	}
}
