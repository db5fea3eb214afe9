package finding

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// ledger drives a ledger through epochs that are a second apart, each with one
// verdict on n1.
type ledger struct {
	*Ledger
	t     *testing.T
	epoch uint64
}

func newLedger(t *testing.T) *ledger { return &ledger{Ledger: NewLedger("test", Rules{}), t: t} }

var (
	door001 = check.Lookup("DOOR_001")
	policy  = check.DefaultPolicy()
)

func (l *ledger) apply(results ...check.Result) []Finding {
	l.epoch++
	return l.at(time.Duration(l.epoch)*time.Second, results...)
}

// at applies results of a look at a moment.
func (l *ledger) at(since time.Duration, results ...check.Result) []Finding {
	return l.on(snapshot(l.epoch, since), results...)
}

func (l *ledger) on(snap *posture.Snapshot, results ...check.Result) []Finding {
	for i := range results {
		if results[i].Looked.IsZero() {
			results[i].Looked = snap.Taken
		}
	}
	return findings(l.Apply(snap, results, &policy))
}

func findings(entries []Entry) []Finding {
	out := make([]Finding, len(entries))
	for i := range entries {
		out[i] = entries[i].Finding
	}
	return out
}

func snapshot(epoch uint64, since time.Duration) *posture.Snapshot {
	return &posture.Snapshot{
		System: "test", Epoch: epoch, Taken: time.Unix(0, 0).Add(since),
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

func severe(r check.Result, s check.Severity) check.Result { r.Severity = s; return r }

func actions(fs []Finding) []Action {
	var out []Action
	for _, f := range fs {
		out = append(out, f.Action)
	}
	return out
}

func TestLedgerLife(t *testing.T) {
	l := newLedger(t)
	open := severe(on("N1", "n1", check.Fail, "open"), check.Warning)
	wide := severe(on("N1", "n1", check.Fail, "wide open"), check.Warning)
	worse := severe(wide, check.Critical)
	restarted := severe(on("N2", "n1", check.Fail, "wide open"), check.Critical)
	pending := on("N1", "n1", check.Unknown, "")
	pending.Pending = true
	for _, step := range []struct {
		name  string
		at    time.Duration
		given check.Result
		want  []Action
		open  int
	}{
		{"passes", 1 * time.Second, on("N1", "n1", check.Pass, ""), nil, 0},
		{"fails", 2 * time.Second, open, []Action{Opened}, 1},
		{"still fails", 3 * time.Second, open, nil, 1},
		{"fails otherwise, too soon after", 4 * time.Second, wide, nil, 1},
		{"fails as first", 11 * time.Second, open, nil, 1},
		{"fails otherwise", 13 * time.Second, wide, []Action{Updated}, 1},
		{"got worse", 14 * time.Second, worse, []Action{Updated}, 1},
		{"being touched", 15 * time.Second, pending, nil, 1},
		{"still being touched", 17 * time.Second, pending, nil, 1},
		{"cannot tell", 18 * time.Second, on("N1", "n1", check.Unknown, ""), nil, 1},
		{"cannot tell, by the same look", 18 * time.Second, on("N1", "n1", check.Unknown, ""), nil, 1},
		{"cannot tell twice", 19 * time.Second, on("N1", "n1", check.Unknown, ""), []Action{Stale}, 1},
		{"still cannot tell", 20 * time.Second, on("N1", "n1", check.Unknown, ""), nil, 1},
		{"fails as before", 21 * time.Second, worse, []Action{Updated}, 1},
		{"restarted, same name", 32 * time.Second, restarted, []Action{Updated}, 1},
		{"passes at last", 33 * time.Second, on("N2", "n1", check.Pass, ""), nil, 1},
		{"passes, by the same look", 33 * time.Second, on("N2", "n1", check.Pass, ""), nil, 1},
		{"cannot tell in between", 34 * time.Second, on("N2", "n1", check.Unknown, ""), nil, 1},
		{"passes again, once", 35 * time.Second, on("N2", "n1", check.Pass, ""), nil, 1},
		{"passes twice", 36 * time.Second, on("N2", "n1", check.Pass, ""), []Action{Resolved}, 0},
		{"cannot tell, nothing stands", 37 * time.Second, on("N2", "n1", check.Unknown, ""), nil, 0},
		{"fails again", 38 * time.Second, on("N2", "n1", check.Fail, "open"), []Action{Opened}, 1},
		{"no longer applies", 39 * time.Second, on("N2", "n1", check.NotApplicable, ""), nil, 1},
		{"no longer applies, seen twice", 40 * time.Second, on("N2", "n1", check.NotApplicable, ""), []Action{Resolved}, 0},
	} {
		got := l.at(step.at, step.given)
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
	l.apply(on("N1", "n1", check.Pass, ""))
	if got, _ := l.Passing(time.Unix(3, 0)); len(got) != 1 || got[0].Server != "n1" {
		t.Errorf("passing: %v, want the one that passed once", got)
	}
	f = l.apply(on("N1", "n1", check.Pass, ""))[0]
	if f.ResolvedAt == nil || f.ResolvedAt.Unix() != 4 || f.FirstSeen.Unix() != 1 {
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

// TestSubjectsThatNobodyTellsOf: an account or an operator without a result is no
// more only when those were asked who would tell.
func TestSubjectsThatNobodyTellsOf(t *testing.T) {
	silent := &posture.Server{ID: "N1", Name: "n1", State: posture.Silent}
	heard := &posture.Server{ID: "N1", Name: "n1", State: posture.Answering, Heard: posture.Varz}
	for _, c := range []struct {
		name    string
		kind    check.Kind
		trust   *posture.Trust
		server  *posture.Server
		resolve bool
	}{
		{"accounts were not asked for", check.KindAccount, nil, heard, false},
		{"the account is no more", check.KindAccount, &posture.Trust{}, heard, true},
		{"the operator's server is silent", check.KindOperator, nil, silent, false},
		{"all servers answer, and none trusts it", check.KindOperator, nil, heard, true},
	} {
		l := newLedger(t)
		judge := map[check.Kind]string{check.KindAccount: "JWT_010", check.KindOperator: "JWT_001"}[c.kind]
		r := check.Result{Check: check.Lookup(judge), Scope: check.Scope{Kind: c.kind, Account: "KEY"}, Verdict: check.Verdict{Outcome: check.Fail, Summary: "bad"}}
		l.apply(r)
		snap := snapshot(2, time.Minute)
		snap.Trust, snap.Servers = c.trust, []*posture.Server{c.server}
		got := actions(l.on(snap))
		if want := []Action{Resolved}; c.resolve != slices.Equal(got, want) || !c.resolve && len(got) != 0 {
			t.Errorf("%s: %v", c.name, got)
		}
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
	a.apply(on("N1", "n1", check.Pass, ""))
	if again := a.apply(fail)[0]; again.ID == first.ID || again.Fingerprint != first.Fingerprint {
		t.Error("a second opening must have an id of its own and the old fingerprint")
	}
	snap := snapshot(9, 9*time.Second)
	snap.Servers[0].ConfigLoaded = time.Unix(1000, 0)
	if forgetful := newLedger(t).on(snap, fail)[0]; forgetful.ID == first.ID {
		t.Error("who has forgotten the first opening must not give the second one its id, once the configuration has moved")
	}
}

// TestAnotherLedgerGoesOn: what one has written down makes another one go on
// as if it were the first.
func TestAnotherLedgerGoesOn(t *testing.T) {
	a, b := newLedger(t), newLedger(t)
	book := map[string]Entry{}
	results := []check.Outcome{check.Fail, check.Pass, check.Pass, check.Fail, check.Fail, check.Unknown, check.Unknown, check.Fail, check.Pass, check.Pass}
	for i, o := range results {
		at := time.Duration(i+1) * 11 * time.Second
		snap := snapshot(uint64(i), at)
		r := on("N1", "n1", o, "open")
		r.Looked = snap.Taken
		want := a.Apply(snap, []check.Result{r}, &policy)
		got := b.Apply(snap, []check.Result{r}, &policy)
		if diff := cmp.Diff(findings(want), findings(got)); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
		for _, e := range want {
			book[e.Finding.Fingerprint] = e
		}
		if len(want) > 0 { // what is not a transition is not written down
			text, err := json.Marshal(slices.Collect(maps.Values(book)))
			if err != nil {
				t.Fatal(err)
			}
			var kept []Entry
			if err := json.Unmarshal(text, &kept); err != nil {
				t.Fatal(err)
			}
			b = newLedger(t)
			b.Restore(kept)
		}
	}
}

// TestFlapping: a door that opens again and again raises no alarm each time, and
// what is said of it is true at each moment.
func TestFlapping(t *testing.T) {
	l := newLedger(t)
	var told []Action
	at := time.Duration(0)
	step := func(o check.Outcome) {
		at += 10 * time.Second
		told = append(told, actions(l.at(at, on("N1", "n1", o, "open")))...)
	}
	const cycles = 20
	for range cycles {
		step(check.Fail)
		step(check.Pass)
		step(check.Pass)
	}
	want := []Action{Opened, Resolved, Opened, Resolved, Opened, Held}
	for range cycles - 3 {
		want = append(want, Updated, Held)
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("told while it flaps: %s", diff)
	}
	f := l.Findings()
	if len(f) != 1 || f[0].Flaps < 10 || f[0].Action != Held {
		t.Fatalf("%+v", f)
	}
	// It was open for 10 s of each cycle of 30 s.
	if open := f[0].Open(time.Unix(0, 0).Add(at)); open != (cycles-2)*10*time.Second {
		t.Errorf("open for %s", open)
	}
	told = nil
	for range 40 {
		step(check.Pass)
	}
	if diff := cmp.Diff([]Action{Resolved}, told); diff != "" {
		t.Errorf("told when it is over: %s", diff)
	}
}

// TestHeld: a finding that only its flapping keeps open says so, shows what was seen
// last, and counts only the time for which it was open.
func TestHeld(t *testing.T) {
	second := func(n int) time.Time { return time.Unix(int64(n), 0) }
	closed := on("N1", "n1", check.Pass, "a peer was rejected")
	closed.Evidence = []posture.Evidence{{Basis: posture.Proven, Access: posture.Closed, Source: "touch", Value: "-ERR"}}
	open := on("N1", "n1", check.Fail, "n1 is open")
	open.Evidence = []posture.Evidence{{Basis: posture.Proven, Access: posture.Open, Source: "touch", Value: "PONG"}}
	unknown := on("N1", "n1", check.Unknown, "")
	// Opened at 0, 100 and 200 s, closed since 220 s.
	flapped := func(l *ledger) (told []Finding) {
		for i := range 3 {
			from := time.Duration(i*100) * time.Second
			told = append(told, l.at(from, open)...)
			told = append(told, l.at(from+20*time.Second, closed)...)
			told = append(told, l.at(from+21*time.Second, closed)...)
		}
		return told
	}
	const says = "closed since 00:03:40 UTC, held open until 00:08:40 UTC: opened 3 times in 10 min; before that: n1 is open"
	check := func(f *Finding) {
		t.Helper()
		want := &Hold{Closed: second(220), Until: second(520), Openings: 3, Window: Span(10 * time.Minute)}
		if f.Action != Held || f.Summary != says || !cmp.Equal(f.Hold, want) || f.ResolvedAt != nil {
			t.Errorf("%s, %q, %+v", f.Action, f.Summary, f.Hold)
		}
		if !cmp.Equal(f.Evidence, closed.Evidence) || !f.LastSeen.Equal(second(200)) || f.Open(second(400)) != 20*time.Second {
			t.Errorf("evidence %v, last seen %s, open for %s", f.Evidence, f.LastSeen, f.Open(second(400)))
		}
	}
	hold := func() *ledger {
		l := newLedger(t)
		told := flapped(l)
		check(&told[len(told)-1])
		check(&l.Findings()[0])
		return l
	}

	l := hold()
	if passing, next := l.Passing(second(300)); len(passing) != 0 || !next.Equal(second(520)) {
		t.Errorf("looked at again before it may end: %v, %s", passing, next)
	}
	if passing, _ := l.Passing(second(520)); len(passing) != 1 {
		t.Error("not looked at again when it may end")
	}
	if told := l.at(519*time.Second, closed); len(told) != 0 {
		t.Errorf("told too early: %v", told)
	}
	ended := l.at(520*time.Second, closed)
	if len(ended) != 1 || ended[0].Action != Resolved || !ended[0].ResolvedAt.Equal(second(220)) || !ended[0].At.Equal(second(520)) ||
		ended[0].Hold != nil || ended[0].Summary != "n1 is open" || ended[0].Open(second(9999)) != 20*time.Second {
		t.Errorf("at its end: %+v", ended)
	}

	l = hold()
	again := l.at(222*time.Second, open) // at once, however lately something was told
	if len(again) != 1 || again[0].Action != Updated || again[0].Hold != nil || again[0].Summary != "n1 is open" ||
		!cmp.Equal(again[0].Evidence, open.Evidence) || again[0].Open(second(230)) != 28*time.Second {
		t.Errorf("open again: %+v", again)
	}

	l = hold()
	l.at(230*time.Second, unknown)
	stale := l.at(231*time.Second, unknown)
	if len(stale) != 1 || stale[0].Action != Stale || stale[0].Hold != nil || stale[0].Summary != "closed when it was last seen, since 00:03:40 UTC; before that: n1 is open" {
		t.Errorf("cannot be seen any more: %+v", stale)
	}
	l.at(240*time.Second, closed)
	if held := l.at(241*time.Second, closed); len(held) != 1 || held[0].Action != Held || !held[0].Hold.Closed.Equal(second(240)) || !strings.HasSuffix(held[0].Summary, "; before that: n1 is open") {
		t.Errorf("seen again: %+v", held)
	}

	// Another agent goes on from what was written down.
	l = hold()
	var book []Entry
	for _, e := range l.book {
		book = append(book, *e)
	}
	text, err := json.Marshal(book)
	if err != nil {
		t.Fatal(err)
	}
	book = nil
	if err := json.Unmarshal(text, &book); err != nil {
		t.Fatal(err)
	}
	other := newLedger(t)
	other.Restore(book)
	f := other.Findings()[0]
	f.LastSeen, f.Hold.Closed, f.Hold.Until = f.LastSeen.Local(), f.Hold.Closed.Local(), f.Hold.Until.Local()
	check(&f)
	if told := other.at(520*time.Second, closed); len(told) != 0 {
		t.Errorf("one look has ended it: %v", told)
	}
	if told := other.at(521*time.Second, closed); len(told) != 1 || told[0].Action != Resolved || !told[0].ResolvedAt.Equal(second(220)) {
		t.Errorf("at its end, by another agent: %+v", told)
	}
}

// TestClockThatIsSetBack must not hold anything back until it has caught up.
func TestClockThatIsSetBack(t *testing.T) {
	a := newLedger(t)
	hour := time.Hour
	a.at(hour, on("N1", "n1", check.Fail, "open"))
	text, err := json.Marshal(a.book[subjectOf("DOOR_001", &a.Findings()[0].Scope, false)])
	if err != nil {
		t.Fatal(err)
	}
	var kept Entry
	if err := json.Unmarshal(text, &kept); err != nil {
		t.Fatal(err)
	}
	b := newLedger(t)
	b.Restore([]Entry{kept})
	for i, want := range []struct {
		r    check.Result
		then []Action
	}{
		{on("N1", "n1", check.Fail, "wide open"), []Action{Updated}},
		{on("N1", "n1", check.Pass, ""), nil},
		{on("N1", "n1", check.Pass, ""), []Action{Resolved}},
	} {
		if diff := cmp.Diff(want.then, actions(b.at(time.Duration(i)*time.Second, want.r))); diff != "" {
			t.Errorf("step %d: %s", i, diff)
		}
	}
}

func TestWaivers(t *testing.T) {
	l := newLedger(t)
	waived := check.DefaultPolicy()
	waived.Waivers = []check.Waiver{{Check: "SERVER_007", Cluster: "c*", Server: "n[12]", Door: "client", Reason: "lab", Owner: "me", Expires: time.Unix(20, 0)}}
	apply := func(at int64) []Finding {
		snap := snapshot(uint64(at), time.Duration(at)*time.Second)
		r := on("N1", "n1", check.Fail, "open")
		r.Looked = snap.Taken
		return findings(l.Apply(snap, []check.Result{r}, &waived))
	}
	if f := apply(1); len(f) != 1 || f[0].Waived == nil || f[0].Waived.Owner != "me" {
		t.Errorf("got %v, want it opened and waived", f)
	}
	if f := apply(21); len(f) != 1 || f[0].Action != Updated || f[0].Waived != nil {
		t.Errorf("got %v, want the end of the waiver told", f)
	}
	for name, w := range map[string]check.Waiver{
		"another check":   {Check: "DOOR_002"},
		"another cluster": {Check: "DOOR_001", Cluster: "d*"},
		"another server":  {Check: "DOOR_001", Server: "n2"},
		"another door":    {Check: "DOOR_001", Door: "websocket"},
	} {
		p := check.Policy{Waivers: []check.Waiver{w}}
		p.Waivers[0].Expires = time.Unix(100, 0)
		if r := on("N1", "n1", check.Fail, "open"); p.Waived(r.Check, r.Scope, time.Unix(1, 0)) != nil {
			t.Errorf("%s: waived", name)
		}
	}
}

func TestDuplicateNamesAreKeptApart(t *testing.T) {
	l := newLedger(t)
	snap := snapshot(1, time.Second)
	snap.Servers = append(snap.Servers, &posture.Server{ID: "N2", Name: "n1", Cluster: "c1"})
	got := l.on(snap, on("N1", "n1", check.Fail, "open"), on("N2", "n1", check.Fail, "open"))
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

// TestAccountsThatWereNotToldStand: what was found of an account stands while
// servers have not told which accounts there are, and who is inside.
func TestAccountsThatWereNotToldStand(t *testing.T) {
	l := newLedger(t)
	inside := check.Result{Check: check.Lookup("CRED_002"), Scope: check.Scope{Kind: check.KindAccount, Account: "APP"}, Verdict: check.Verdict{Outcome: check.Fail, Summary: "x"}}
	l.apply(inside)
	snap := snapshot(2, 2*time.Second)
	snap.Servers[0].Heard = posture.Varz
	if got := actions(l.on(snap)); len(got) != 0 {
		t.Errorf("nobody has told: %v", got)
	}
	snap = snapshot(3, 3*time.Second)
	snap.Servers[0].Heard = posture.Varz | posture.Accountz | posture.EveryoneConnz
	if got := actions(l.on(snap)); !cmp.Equal(got, []Action{Resolved}) {
		t.Errorf("all have told, and there is no such account: %v", got)
	}
}
