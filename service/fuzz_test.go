package service

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

// FuzzRequest: any bytes are either refused in one plain line, or answered
// with a page that stays inside its list.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"", "{}", " ", "null", "[]", `{"limit":1}`, `{"limit":0}`, `{"limit":1e9}`, `{"offset":9223372036854775807}`,
		`{"severity":"warning","server":"n1","cluster":"c1","check":"SERVER_007"}`, `{"limit":1,"limit":2}`, `{"LIMIT":1}`, "{}{}", "\xff",
	} {
		for i := range endpoints {
			f.Add([]byte(s), i)
		}
	}
	server := &posture.Server{
		ID: "N1", Name: "n1", Cluster: "c1", Heard: posture.Varz, AuthRequired: posture.No,
		Doors: []posture.Door{{Kind: posture.Client, On: posture.Yes, Port: 4222}},
	}
	posture.Judge(server)
	snap := &posture.Snapshot{System: "test", Epoch: 1, Servers: []*posture.Server{server}}
	policy := check.DefaultPolicy()
	results := check.Evaluate(snap, policy)
	state := &agent.State{Snapshot: snap, Results: results, Findings: finding.Of(snap, results, &policy)}

	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if n < 0 || n >= len(endpoints) {
			return
		}
		e := endpoints[n]
		req, err := parse(e, data)
		if err == nil {
			var v *view
			if v, err = newView(e, DefaultPrefix, state, &past{history: finding.NewHistory(10, time.Now())}, req); err == nil {
				e.page(v)
				return
			}
		}
		var ref *refusal
		if !errors.As(err, &ref) || ref.code != 400 && ref.code != 404 || strings.ContainsAny(ref.text, "\r\n\x1b") {
			t.Fatalf("refused with %q", err)
		}
	})
}

// FuzzSubject: whatever a server is called, a finding is published on a
// subject of seven tokens behind the prefix, with no wildcard in it.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"", "n1", "a.b", "*", ">", "n 1", "\r\n", "ü", "\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, cluster, server string) {
		subject := findingSubject(DefaultPrefix, &finding.Finding{
			Action: finding.Opened, Severity: check.Critical, Check: "DOOR_001", Scope: check.Scope{Cluster: cluster, Server: server},
		})
		tokens := strings.Split(subject, ".")
		if len(tokens) != 8 || strings.ContainsAny(subject, " *>\t\r\n") {
			t.Fatalf("%q", subject)
		}
		for _, tok := range tokens {
			if tok == "" {
				t.Fatalf("an empty token in %q", subject)
			}
		}
	})
}

func TestPrefix(t *testing.T) {
	for prefix, ok := range map[string]bool{
		"audit.auth": true, "audit": true, "a.b.c": true,
		"": false, ".": false, "a.": false, ".a": false, "a b": false, "a.*": false, "a.>": false, "$SYS.x": false, "a..b": false,
	} {
		if err := validatePrefix(prefix); (err == nil) != ok {
			t.Errorf("%q: %v", prefix, err)
		}
	}
}
