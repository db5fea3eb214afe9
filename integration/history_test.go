package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// serveForgetful runs an agent that sweeps often and soon forgets servers that
// are silent.
func serveForgetful(t *testing.T, nc *nats.Conn) {
	t.Helper()
	const interval = 200 * time.Millisecond
	svc, err := service.New(nc, service.Config{System: "test", Interval: interval})
	if err != nil {
		t.Fatal(err)
	}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{
		System: "test", Interval: interval, Policy: policy, Probe: agent.Probe{Off: true}, Rules: prompt,
		Collect: collect.Config{Timeout: 500 * time.Millisecond, Forget: time.Second},
	}, agent.WithSink(svc))
	if err != nil {
		t.Fatal(err)
	}
	svc.Attach(a)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		if err := svc.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// eventfulFleet is a fleet where a server was opened, and then taken away. It
// returns a connection to ask on, the ids of the transitions as they were
// published, and the server that is no more.
func eventfulFleet(t *testing.T) (nc *nats.Conn, published []string, gone *fleet.Server) {
	t.Helper()
	f := threeServers(t)
	nc = connectSys(t, f.Servers()[1])
	messages := make(chan *nats.Msg, 1000)
	if _, err := nc.ChanSubscribe("audit.auth.finding.>", messages); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	serveForgetful(t, connectLeast(t, f.Servers()[0]))
	ask(t, nc, "audit.auth", "")
	gone = f.Servers()[2]
	whole := clusters(1, 3, leastPrivilegeConfig())[2].Config
	until := func(what string, is func(*finding.Finding) bool) {
		t.Helper()
		for timeout := time.After(20 * time.Second); ; {
			select {
			case m := <-messages:
				fd := decodeInto[finding.Finding](t, m)
				published = append(published, fd.ID)
				if is(&fd) {
					return
				}
			case <-timeout:
				t.Fatalf("it was not published that %s: %d transitions", what, len(published))
			}
		}
	}
	door := func(a finding.Action) func(*finding.Finding) bool {
		return func(fd *finding.Finding) bool {
			return fd.Check == "DOOR_001" && fd.Action == a && fd.Scope.Server == gone.Name()
		}
	}
	if err := gone.Reload(t.Context(), strings.Replace(whole, leastPrivilegeConfig(), "", 1)); err != nil {
		t.Fatal(err)
	}
	until("the door opened", door(finding.Opened))
	if err := gone.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	until("the server is no more", door(finding.Resolved))
	eventually(t, "what else the server leaves behind is told", func() bool {
		for len(messages) > 0 {
			published = append(published, decodeInto[finding.Finding](t, <-messages).ID)
		}
		m := ask(t, nc, "audit.auth.servers", fmt.Sprintf(`{"server":%q}`, gone.Name()))
		return m.Header.Get(micro.ErrorCodeHeader) == "404"
	})
	return nc, published, gone
}

// TestHistoryEndpoint holds the endpoint against its documentation: all that
// was published is there, page by page, the latest first, by every filter.
func TestHistoryEndpoint(t *testing.T) {
	nc, published, gone := eventfulFleet(t)
	m := ask(t, nc, "audit.auth.history", "")
	conforms(t, "history.json", m.Data)
	first := decodeInto[service.History](t, m)
	if first.Type != service.HistoryType || first.System != "test" || first.Since.IsZero() || time.Since(first.Since) > time.Minute {
		t.Errorf("%+v", first)
	}

	// Page by page.
	var all []finding.Finding
	pages := 0
	for offset := 0; ; pages++ {
		page := decodeInto[service.History](t, ask(t, nc, "audit.auth.history", fmt.Sprintf(`{"limit":3,"offset":%d}`, offset)))
		if len(page.Transitions) > 3 || page.Offset != offset || page.Limit != 3 || page.Total < len(published) {
			t.Fatalf("page at %d: %d transitions of %d", offset, len(page.Transitions), page.Total)
		}
		all = append(all, page.Transitions...)
		if page.NextOffset == nil {
			break
		}
		offset = *page.NextOffset
	}
	if pages < 2 || len(all) < 6 {
		t.Errorf("%d transitions on %d pages: nothing interesting was checked", len(all), pages+1)
	}
	var ids []string
	for i := range all {
		if fd := &all[i]; fd.At.Before(first.Since) {
			t.Errorf("%s at %v is from before the history begins, %v", fd.Check, fd.At, first.Since)
		}
		if slices.Contains(published, all[i].ID) { // others may have come later
			ids = append(ids, all[i].ID)
		}
	}
	slices.Reverse(published)
	if diff := cmp.Diff(published, ids); diff != "" {
		t.Errorf("what was published, the latest first, is not what is there (-published +there): %s", diff)
	}

	// A server that is no more is found by its name and by the id it had.
	moment := func(a finding.Action) string {
		i := slices.IndexFunc(all, func(fd finding.Finding) bool {
			return fd.Check == "DOOR_001" && fd.Action == a && fd.Scope.Server == gone.Name()
		})
		if i < 0 {
			t.Fatalf("no door that is %s", a)
		}
		return all[i].At.UTC().Format(time.RFC3339Nano)
	}
	opened, resolved := moment(finding.Opened), moment(finding.Resolved)
	actions := func(payload string) []finding.Action {
		t.Helper()
		h := decodeInto[service.History](t, ask(t, nc, "audit.auth.history", payload))
		var out []finding.Action
		for i := range h.Transitions {
			if h.Transitions[i].Check != "DOOR_001" || h.Transitions[i].Scope.Server != gone.Name() {
				t.Errorf("%s: %s of %s", payload, h.Transitions[i].Check, h.Transitions[i].Scope.Server)
			}
			out = append(out, h.Transitions[i].Action)
		}
		return out
	}
	for _, filter := range []string{
		fmt.Sprintf(`"server":%q`, gone.Name()), fmt.Sprintf(`"server":%q`, gone.ID()), `"cluster":"c0","door":"client"`,
		`"severity":"critical"`, `"since":"1h"`, `"since":"1d","until":"0s"`,
	} {
		got := actions(fmt.Sprintf(`{"check":"SERVER_007",%s}`, filter))
		if len(got) < 2 || got[0] != finding.Resolved || got[len(got)-1] != finding.Opened {
			t.Errorf("%s: %v", filter, got)
		}
	}
	if got := actions(fmt.Sprintf(`{"check":"DOOR_001","since":%q}`, resolved)); !slices.Equal(got, []finding.Action{finding.Resolved}) {
		t.Errorf("since it was resolved: %v", got)
	}
	if got := actions(fmt.Sprintf(`{"check":"DOOR_001","until":%q}`, opened)); len(got) == 0 || got[len(got)-1] != finding.Opened || slices.Contains(got, finding.Resolved) {
		t.Errorf("until it was opened: %v", got)
	}
	for _, none := range []string{`{"check":"DOOR_001","door":"mqtt"}`, `{"server":"nobody"}`, `{"cluster":"nowhere"}`, `{"until":"1h"}`, `{"check":"TLS_001"}`} {
		if h := decodeInto[service.History](t, ask(t, nc, "audit.auth.history", none)); h.Total != 0 || h.Transitions == nil || len(h.Transitions) != 0 || h.NextOffset != nil {
			t.Errorf("%s: %+v", none, h)
		}
	}
	h := decodeInto[service.History](t, ask(t, nc, "audit.auth.history", `{"severity":"critical"}`))
	for i := range h.Transitions {
		if h.Transitions[i].Severity != check.Critical {
			t.Errorf("%s is %s", h.Transitions[i].Check, h.Transitions[i].Severity)
		}
	}

	for _, c := range []struct{ payload, code, says string }{
		{`{"since":"yesterday"}`, "400", "RFC 3339 is accepted, or how long ago, like 90m, 24h or 7d"},
		{`{"until":"2026-01-01"}`, "400", "RFC 3339 is accepted"},
		{`{"since":"-1h"}`, "400", "RFC 3339 is accepted"},
		{`{"since":"200000d"}`, "400", "RFC 3339 is accepted"},
		{`{"since":90}`, "400", "field since must be a string"},
		{`{"door":"window"}`, "400", "client, websocket, mqtt, leafnode, route, gateway or monitor is accepted"},
		{`{"severity":"dire"}`, "400", "critical, warning or info is accepted"},
		{`{"anonymous":true}`, "400", "any of limit, offset, severity, server, cluster, check, door, since, until"},
		{`{"limit":1001}`, "400", "1 to 1000 is accepted"},
		{`{"check":"DOOR_999"}`, "404", "audit.auth.checks lists them"},
	} {
		m := ask(t, nc, "audit.auth.history", c.payload)
		if m.Header.Get(micro.ErrorCodeHeader) != c.code || !strings.Contains(m.Header.Get(micro.ErrorHeader), c.says) {
			t.Errorf("%s: %s %q, want %s and %q", c.payload, m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader), c.code, c.says)
		}
	}
	for _, elsewhere := range []string{"audit.auth", "audit.auth.findings", "audit.auth.sessions"} {
		if m := ask(t, nc, elsewhere, `{"since":"1h"}`); m.Header.Get(micro.ErrorCodeHeader) != "400" {
			t.Errorf("%s takes since", elsewhere)
		}
	}
}
