package finding

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// ledger drives a ledger through epochs, each with one verdict on n1.
type ledger struct {
	*Ledger
	t     *testing.T
	epoch uint64
}

func newLedger(t *testing.T) *ledger { return &ledger{Ledger: NewLedger("test"), t: t} }

var door001 = check.Lookup("DOOR_001")

func (l *ledger) apply(results ...check.Result) []Finding {
	l.epoch++
	return l.Apply(snapshot(l.epoch), results)
}

func snapshot(epoch uint64) *posture.Snapshot {
	return &posture.Snapshot{
		System: "test", Epoch: epoch, Taken: time.Unix(int64(epoch), 0),
		Servers: []*posture.Server{{ID: "N1", Name: "n1", Cluster: "c1"}},
	}
}

func on(id, name string, o check.Outcome, summary string) check.Result {
	return check.Result{
		Check:   door001,
		Scope:   check.Scope{Kind: check.KindServer, Cluster: "c1", Server: name, ServerID: id, Door: posture.Client},
		Verdict: check.Verdict{Outcome: o, Summary: summary},
	}
}

func actions(fs []Finding) []Action {
	var out []Action
	for _, f := range fs {
		out = append(out, f.Action)
	}
	return out
}

func TestLedgerLife(t *testing.T) {
	l := newLedger(t)
	for _, step := range []struct {
		name  string
		given check.Result
		want  []Action
		open  int
	}{
		{"passes", on("N1", "n1", check.Pass, ""), nil, 0},
		{"fails", on("N1", "n1", check.Fail, "open"), []Action{Opened}, 1},
		{"still fails", on("N1", "n1", check.Fail, "open"), nil, 1},
		{"fails otherwise", on("N1", "n1", check.Fail, "wide open"), []Action{Updated}, 1},
		{"cannot tell", on("N1", "n1", check.Unknown, ""), []Action{Stale}, 1},
		{"still cannot tell", on("N1", "n1", check.Unknown, ""), nil, 1},
		{"fails as before", on("N1", "n1", check.Fail, "wide open"), []Action{Updated}, 1},
		{"restarted, same name", on("N2", "n1", check.Fail, "wide open"), []Action{Updated}, 1},
		{"passes at last", on("N2", "n1", check.Pass, ""), []Action{Resolved}, 0},
		{"cannot tell, nothing stands", on("N2", "n1", check.Unknown, ""), nil, 0},
		{"fails again", on("N2", "n1", check.Fail, "open"), []Action{Opened}, 1},
		{"no longer applies", on("N2", "n1", check.NotApplicable, ""), []Action{Resolved}, 0},
	} {
		got := l.apply(step.given)
		if diff := cmp.Diff(step.want, actions(got)); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
		if n := len(l.Findings()); n != step.open {
			t.Errorf("%s: %d stand, want %d", step.name, n, step.open)
		}
	}
}

func TestLedgerKeepsFirstSeenAndStampsTheEnd(t *testing.T) {
	l := newLedger(t)
	l.apply(on("N1", "n1", check.Fail, "open"))
	l.apply(on("N1", "n1", check.Fail, "open"))
	f := l.Findings()[0]
	if f.FirstSeen.Unix() != 1 || f.LastSeen.Unix() != 2 || f.Action != Opened || f.ResolvedAt != nil {
		t.Errorf("got first %v last %v %s", f.FirstSeen, f.LastSeen, f.Action)
	}
	f = l.apply(on("N1", "n1", check.Pass, ""))[0]
	if f.ResolvedAt == nil || f.ResolvedAt.Unix() != 3 || f.FirstSeen.Unix() != 1 {
		t.Errorf("resolved at %v, first seen %v", f.ResolvedAt, f.FirstSeen)
	}
}

func TestSubjectThatIsGoneIsResolved(t *testing.T) {
	l := newLedger(t)
	l.apply(on("N1", "n1", check.Fail, "open"))
	if got := actions(l.apply()); !cmp.Equal(got, []Action{Resolved}) {
		t.Errorf("got %v", got)
	}
}

// TestReplicasAgree: two agents that see the same fleet give a transition the
// same id, and a second opening of the same door another one.
func TestReplicasAgree(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	fail := on("N1", "n1", check.Fail, "open")
	first := a.apply(fail)[0]
	b.apply() // b has seen one epoch more
	if second := b.apply(fail)[0]; second.ID != first.ID || second.Fingerprint != first.Fingerprint {
		t.Error("two replicas name one transition differently")
	}
	a.apply(on("N1", "n1", check.Pass, ""))
	snap := snapshot(9)
	snap.Servers[0].ConfigLoaded = time.Unix(1000, 0)
	if again := a.Apply(snap, []check.Result{fail})[0]; again.ID == first.ID || again.Fingerprint != first.Fingerprint {
		t.Error("a second opening must have an id of its own and the old fingerprint")
	}
}

func TestDuplicateNamesAreKeptApart(t *testing.T) {
	l := newLedger(t)
	snap := snapshot(1)
	snap.Servers = append(snap.Servers, &posture.Server{ID: "N2", Name: "n1", Cluster: "c1"})
	got := l.Apply(snap, []check.Result{on("N1", "n1", check.Fail, "open"), on("N2", "n1", check.Fail, "open")})
	if len(got) != 2 || got[0].Fingerprint == got[1].Fingerprint {
		t.Errorf("got %v, want two findings with fingerprints of their own", got)
	}
}

func TestWorstFirst(t *testing.T) {
	l := newLedger(t)
	info := on("N1", "n1", check.Fail, "mild")
	info.Check, info.Severity = check.Lookup("FLEET_007"), check.Info
	got := l.apply(info, on("N1", "n1", check.Fail, "open"))
	if got[0].Severity != check.Critical || got[1].Severity != check.Info {
		t.Errorf("got %s before %s", got[0].Severity, got[1].Severity)
	}
}
