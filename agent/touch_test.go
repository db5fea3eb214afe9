package agent

import (
	"log/slog"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestTouchThatDecidesNothing: another server answers at the address, as behind a
// load balancer. The door is touched some times more, and then again before long.
func TestTouchThatDecidesNothing(t *testing.T) {
	t.Parallel()
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1", Config: "authorization { token: token-of-the-tests }\n"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	s := f.Server("n1")
	tc := newToucher(Probe{}, time.Now, slog.New(slog.DiscardHandler))
	touches := 0
	tc.before = func(string) { touches++ }
	d := due{
		key: touched{server: "its twin", door: posture.Client}, of: occasion{version: "1"},
		target: probe.Target{Door: posture.Client, ServerID: "its twin"}, addresses: []posture.Address{{Door: posture.Client, HostPort: s.Addr("client")}},
	}
	var wait time.Duration
	for i := range 8 {
		tc.touch(t.Context(), 0, d)
		r := tc.records[d.key]
		if r.touch.Access != posture.Unknown {
			t.Fatalf("%s: %s", r.touch.Access, r.touch.Answer)
		}
		if touches != balancedRounds*(i+1) {
			t.Fatalf("%d touches, want %d: %s", touches, balancedRounds*(i+1), r.touch.Reason)
		}
		next := r.due.Sub(r.touch.At)
		switch most := tc.jittered(d.key); {
		case i == 0 && next != againSoon:
			t.Errorf("touched again after %s", next)
		case next < wait || next > most:
			t.Errorf("touched again after %s, and before that after %s", next, wait)
		case i == 7 && next != most:
			t.Errorf("touched again after %s, for ever", next)
		}
		wait = next
	}
	d.of.version = "2"
	tc.touch(t.Context(), 0, d)
	if next := tc.records[d.key].due.Sub(tc.records[d.key].touch.At); next != againSoon {
		t.Errorf("as another version it is touched again after %s", next)
	}
	// Who says nothing at all is touched once.
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	touches = 0
	if tc.touch(t.Context(), 0, d); touches != 1 {
		t.Errorf("a door that nobody keeps is touched %d times", touches)
	}
}

// TestAddressesThatWereOfUse: the address that decided last goes first, and
// those that could not be reached go last.
func TestAddressesThatWereOfUse(t *testing.T) {
	t.Parallel()
	tc := newToucher(Probe{}, time.Now, slog.New(slog.DiscardHandler))
	d := due{key: touched{server: "N1", door: posture.Client}}
	for _, hostPort := range []string{"a:1", "b:1", "c:1"} {
		d.addresses = append(d.addresses, posture.Address{Door: posture.Client, HostPort: hostPort})
	}
	for name, c := range map[string]struct {
		touch posture.Touch
		want  string
	}{
		"decided":   {posture.Touch{Access: posture.Closed, Address: "c:1", Failed: []posture.Try{{Address: "a:1"}}}, "c:1 a:1 b:1 "},
		"undecided": {posture.Touch{Failed: []posture.Try{{Address: "a:1"}, {Address: "b:1", Dialed: true}}}, "b:1 c:1 a:1 "},
	} {
		tc.records[d.key] = record{touch: c.touch}
		if got := (&due{addresses: tc.lastFirst(d)}).tried(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	delete(tc.records, d.key)
	if got := (&due{addresses: tc.lastFirst(d)}).tried(); got != "a:1 b:1 c:1 " {
		t.Errorf("at first: %q", got)
	}
}
