package integration

import (
	"testing"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestCookiesOfAnySite: VARZ shows jwt_cookie and whether origins are looked at, and
// shows no other cookie.
func TestCookiesOfAnySite(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	with := func(more string) string {
		return op.MemoryConfig() + clustered("c", "open", "checked", "none") + websocket + more + " }\n"
	}
	f := start(t,
		fleet.Spec{Name: "open", Config: with(", jwt_cookie: session")},
		fleet.Spec{Name: "checked", Config: with(", jwt_cookie: session, same_origin: true")},
		fleet.Spec{Name: "listed", Config: with(`, jwt_cookie: session, allowed_origins: [ "https://app.example.com" ]`)},
		fleet.Spec{Name: "none", Config: with("")},
	)
	if err := f.WaitActive(t.Context(), f.Server("open").URL(), 4, auditorOf(&op.System)); err != nil {
		t.Fatal(err)
	}
	state := sweep(t, auditor(t, connect(t, f.Server("open").URL(), auditorOf(&op.System)), hasty))
	for server, want := range map[string]check.Outcome{"open": check.Fail, "checked": check.Pass, "listed": check.Pass, "none": check.Unknown} {
		if got := outcome(state, "TLS_007", server, posture.Websocket); got != want {
			t.Errorf("%s: %v, want %v", server, got, want)
		}
	}
}
