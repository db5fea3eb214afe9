package integration

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// TestHeldFinding: a server that was opened three times and is closed now is not
// listed as open. Its finding is held, says since when it is closed, shows the
// rejection and not the PONG of before, and ends by itself.
func TestHeldFinding(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp})
	nc := connectSys(t, f.Server("n1"))
	svc, err := service.New(nc, service.Config{System: "test", Version: "1.2.3", Interval: neverAgain})
	if err != nil {
		t.Fatal(err)
	}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	const quiet = 15 * time.Second
	a, err := agent.New(nc, agent.Config{
		System: "test", Interval: neverAgain, WatchInterval: 50 * time.Millisecond, Policy: policy,
		Rules: finding.Rules{Apart: 50 * time.Millisecond, FlapCount: 3, FlapQuiet: quiet},
	}, agent.WithSink(svc))
	if err != nil {
		t.Fatal(err)
	}
	svc.Attach(a)
	held, err := nc.SubscribeSync("audit.auth.finding.held.critical.DOOR_001.>")
	if err != nil {
		t.Fatal(err)
	}
	runs(t, a)
	t.Cleanup(func() { _ = svc.Stop() })
	listed := func() *finding.Finding {
		if s := a.State(); s != nil {
			if fs := found(s, "DOOR_001", "n1"); len(fs) == 1 {
				return &fs[0]
			}
		}
		return nil
	}
	reload := func(config, what string, is func(f *finding.Finding) bool) {
		t.Helper()
		if err := f.Server("n1").Reload(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		eventually(t, what, func() bool { return is(listed()) })
	}
	hidden := strings.ReplaceAll(closedApp, "APP ", "# APP ") // the only other account goes, the hidden user comes
	open := func(f *finding.Finding) bool { return f != nil && f.Hold == nil }
	eventually(t, "the first sweep", func() bool { return a.State() != nil })
	for range 2 {
		reload(hidden, "open", open)
		reload(closedApp, "closed", func(f *finding.Finding) bool { return f == nil })
	}
	reload(hidden, "open for the third time", open)
	reload(closedApp, "held", func(f *finding.Finding) bool { return f != nil && f.Hold != nil })

	message := func(data []byte) {
		t.Helper()
		conforms(t, "finding.json", data)
		var got finding.Finding
		if err := json.Unmarshal(data, &got); err != nil {
			t.Fatal(err)
		}
		if got.Action != finding.Held || got.Hold == nil || got.Hold.Openings != 3 || !got.Hold.Until.Equal(got.Hold.Closed.Add(quiet)) || !strings.HasPrefix(got.Summary, "closed since ") {
			t.Errorf("%s", data)
		}
		for _, e := range got.Evidence {
			if e.Access == posture.Open || e.Value == "PONG" {
				t.Errorf("old evidence: %+v", e)
			}
		}
		if len(got.Evidence) == 0 {
			t.Error("no evidence")
		}
	}
	m, err := held.NextMsg(30 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	message(m.Data)
	one := func(reply *nats.Msg, list string) json.RawMessage {
		t.Helper()
		var page map[string]json.RawMessage
		var all []json.RawMessage
		if err := json.Unmarshal(reply.Data, &page); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(page[list], &all); err != nil || len(all) == 0 {
			t.Fatalf("%v in %s", err, reply.Data)
		}
		return all[0]
	}
	reply := ask(t, nc, "audit.auth.history", `{"check":"DOOR_001"}`)
	conforms(t, "history.json", reply.Data)
	message(one(reply, "transitions"))

	eventually(t, "the end", func() bool { return listed() == nil })
	var end finding.Finding
	if err := json.Unmarshal(one(ask(t, nc, "audit.auth.history", `{"check":"DOOR_001"}`), "transitions"), &end); err != nil {
		t.Fatal(err)
	}
	if end.Action != finding.Resolved || end.ResolvedAt == nil || end.At.Sub(*end.ResolvedAt) < quiet || end.Hold != nil {
		t.Errorf("it ended as %+v", end)
	}
}
