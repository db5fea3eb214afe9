package finding

import (
	"slices"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestAdvisoriesAreFindingsOfTheirOwn follows one server from a version with
// vulnerabilities over silence to one without.
func TestAdvisoriesAreFindingsOfTheirOwn(t *testing.T) {
	l := NewLedger("test", Rules{})
	policy, at := check.DefaultPolicy(), time.Unix(0, 0)
	look := func(id, version string, heard posture.Input) map[string]Finding {
		at = at.Add(time.Second)
		s := &posture.Server{
			ID: id, Name: "n1", Cluster: "c1", Version: version, BuiltWith: "go1.26.0", State: posture.Answering, Heard: heard, Looked: at,
			AuthRequired: posture.Yes, AuthMode: posture.AuthOperator, JetStream: posture.Yes, Accounts: []string{"$G"},
		}
		for _, kind := range posture.DoorKinds() {
			s.Doors = append(s.Doors, posture.Door{Kind: kind, On: posture.No})
		}
		posture.Judge(s)
		snap := &posture.Snapshot{System: "test", Taken: at, Expected: 1, Heard: 1, Servers: []*posture.Server{s}}
		told := map[string]Finding{}
		for _, e := range l.Apply(snap, check.Evaluate(snap, policy), &policy) {
			if e.Finding.Check != "CVE_001" {
				continue
			}
			if _, twice := told[e.Finding.Scope.Advisory]; twice {
				t.Errorf("%s is told twice", e.Finding.Scope.Advisory)
			}
			told[e.Finding.Scope.Advisory] = e.Finding
		}
		return told
	}
	same := func(what string, got map[string]Finding, action Action, want ...string) {
		t.Helper()
		var ids []string
		for id, f := range got {
			ids = append(ids, id)
			if f.Action != action {
				t.Errorf("%s: %s is %s, want %s", what, id, f.Action, action)
			}
		}
		slices.Sort(ids)
		if !slices.Equal(ids, want) {
			t.Errorf("%s: told %v, want %v", what, ids, want)
		}
	}
	all := []string{"2026-17", "2026-18", "2026-23", "2026-28"}

	opened := look("N1", "2.12.6", posture.Varz)
	same("at first", opened, Opened, all...)
	prints := map[string]string{}
	for id, f := range opened {
		if prints[f.Fingerprint] != "" {
			t.Errorf("%s has the fingerprint of %s", id, prints[f.Fingerprint])
		}
		prints[f.Fingerprint] = id
	}
	same("again", look("N1", "2.12.6", posture.Varz), "")
	// A restart: the same findings, of another server id.
	restarted := look("N2", "2.12.6", posture.Varz)
	at = at.Add(time.Minute)
	for id, f := range look("N2", "2.12.6", posture.Varz) {
		restarted[id] = f
	}
	same("restarted", restarted, Updated, all...)
	for id, f := range restarted {
		if prints[f.Fingerprint] != id {
			t.Errorf("%s has another fingerprint after a restart", id)
		}
	}
	// Silence ends nothing, whether the version is remembered or not.
	same("silent", look("N2", "2.12.6", 0), "")
	same("silent for long", look("N2", "", 0), Stale, all...)
	same("back", look("N2", "2.12.6", posture.Varz), Updated, all...)
	// An upgrade to a version that has only some of them.
	same("half upgraded", look("N3", "2.12.9", posture.Varz), Resolved, "2026-17", "2026-18")
	at = at.Add(time.Minute)
	same("still", look("N3", "2.12.9", posture.Varz), Updated, "2026-23", "2026-28")
	same("an odd version", look("N3", "unknown", posture.Varz), "")
	same("still odd", look("N3", "unknown", posture.Varz), Stale, "2026-23", "2026-28")
	same("upgraded", look("N3", "2.15.2", posture.Varz), Resolved, "2026-23", "2026-28")
}
