package integration

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestOperatorDemoShowsWhatWasPlanted, and nothing else that calls for action.
func TestOperatorDemoShowsWhatWasPlanted(t *testing.T) {
	t.Parallel()
	demo := must(fleet.NewOperatorDemo())
	f := start(t, demo.Specs()...)
	if err := f.WaitActive(t.Context(), f.Server("safe").URL(), 3, demo.Login()); err != nil {
		t.Fatal(err)
	}
	leave, err := demo.Plant(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(leave)
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(connect(t, f.Server("safe").URL(), demo.Login(), nats.Name("auditor")), agent.Config{System: "test", Policy: policy})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	state := sweep(t, a)
	if gaps := state.Report().Coverage.Gaps; len(gaps) != 0 {
		t.Errorf("gaps: %v", gaps)
	}
	var got []string
	for _, f := range state.Findings {
		if f.Severity >= check.Warning {
			subject := f.Scope.Name
			if f.Scope.Kind == check.KindServer {
				subject = f.Scope.Server + " " + f.Scope.Door.String()
			}
			got = append(got, f.Severity.String()+" "+f.Check+" "+subject+" "+string(f.Cause))
		}
	}
	slices.Sort(got)
	want := []string{
		"critical JWT_010 foreign unknown-issuer",
		"critical JWT_011 on-one-server servers-differ",
		"critical JWT_018 stale-import expired",
		"warning DOOR_001 sentinel client default-sentinel-or-callout-admits-all",
		"warning JWT_004 ACME ",
		"warning JWT_013 ends-soon ",
		"warning JWT_017 orders-for-all ",
		"warning JWT_020 callout-in-clear no-xkey",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-planted +found:\n%s", d)
	}
	if fs := found(state, "JWT_005", ""); len(fs) != 1 {
		t.Errorf("the URL without TLS was found %d times", len(fs))
	}
}
