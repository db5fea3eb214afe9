package finding

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// Rules say how calmly a ledger tells what it sees. The zero value means the
// defaults.
type Rules struct {
	// Apart is how far two looks at a subject must be apart to count as two:
	// what ends a finding must be seen twice. Default 500 ms.
	Apart time.Duration
	// UpdateEvery is how often a finding is told as updated, at most. What is
	// worse, or has another cause, is told at once. Default 10 s.
	UpdateEvery time.Duration
	// FlapCount openings within FlapWindow make a finding a flapping one. When it
	// is gone it is then held, and resolved once it has been gone for FlapQuiet.
	// Defaults 3, 10 min and 5 min.
	FlapCount             int
	FlapWindow, FlapQuiet time.Duration
	// Remember is how long a finding is remembered after its end, so that its
	// next opening is told from the last one. Default 7 days.
	Remember time.Duration
}

func (r Rules) withDefaults() Rules {
	r.Apart = cmp.Or(r.Apart, 500*time.Millisecond)
	r.UpdateEvery = cmp.Or(r.UpdateEvery, 10*time.Second)
	r.FlapCount = cmp.Or(r.FlapCount, 3)
	r.FlapWindow = cmp.Or(r.FlapWindow, 10*time.Minute)
	r.FlapQuiet = cmp.Or(r.FlapQuiet, 5*time.Minute)
	r.Remember = cmp.Or(r.Remember, 7*24*time.Hour)
	return r
}

// Ledger holds the findings that stand, and tells what an evaluation changes.
// The zero value is not usable; see [NewLedger].
type Ledger struct {
	system string
	rules  Rules
	book   map[subject]*Entry
	round  uint64                   // counts the evaluations
	anchor func(check.Scope) string // of this evaluation
}

// subject is what a fingerprint is made of, but the system. Most results are
// of subjects without a finding, which need no fingerprint.
type subject struct {
	check, cluster, server string
	account, advisory      string
	kind                   check.Kind
	door                   posture.DoorKind
	id                     string // only where another server has the same name
}

func subjectOf(checkID string, scope *check.Scope, duplicateName bool) subject {
	s := subject{check: checkID, cluster: scope.Cluster, server: scope.Server, account: scope.Account, advisory: scope.Advisory, kind: scope.Kind, door: scope.Door}
	if duplicateName {
		s.id = scope.ServerID
	}
	return s
}

// Entry is what a ledger keeps of one fingerprint: the finding as it was last
// told, and what the ledger needs to go on from there. Written down and given
// to [Ledger.Restore], it makes another ledger go on in its place.
type Entry struct {
	Finding Finding     `json:"finding"`         // its action, id and epoch are those of the last transition
	Count   uint64      `json:"count"`           // transitions so far
	Content string      `json:"content"`         // what was last told, in short
	Told    time.Time   `json:"told"`            // when
	Opened  []time.Time `json:"opened"`          // the openings of the flap window
	Anchor  string      `json:"anchor"`          // see anchor
	Found   string      `json:"found,omitempty"` // the summary of the finding when it was last seen

	round  uint64    // the last evaluation that had a result of its subject
	now    Finding   // as it is, where an update is held back
	passed time.Time // the look that saw it gone first; zero when it was there at the last one
	unseen time.Time // the look that first could not tell
}

// Stands tells whether the finding has been opened and not resolved since.
func (e *Entry) Stands() bool { return e.Finding.Action != Resolved }

// NewLedger makes an empty ledger for a system.
func NewLedger(system string, rules Rules) *Ledger {
	return &Ledger{system: system, rules: rules.withDefaults(), book: map[subject]*Entry{}}
}

// Restore replaces all that the ledger knows by what another one has written
// down.
func (l *Ledger) Restore(entries []Entry) {
	l.book = make(map[subject]*Entry, len(entries))
	for i := range entries {
		e := entries[i]
		e.now = e.Finding
		e.Found = cmp.Or(e.Found, e.Finding.Summary)
		f := &e.Finding
		duplicate := f.Fingerprint == Fingerprint(f.Check, f.System, f.Scope, true)
		l.book[subjectOf(f.Check, &f.Scope, duplicate)] = &e
	}
}

// Apply takes the results of one evaluation and returns the entries whose
// findings it changes, worst first; the finding of each is the transition.
//
// A finding opens at the first Fail. It is resolved by two Passes of looks
// that are apart, or when its subject is no longer in the snapshot; NotApplicable
// counts as Pass. An Unknown, twice, makes it stale and never resolves it.
func (l *Ledger) Apply(snap *posture.Snapshot, results []check.Result, policy *check.Policy) []Entry {
	duplicates := duplicateNames(snap)
	l.anchor = anchors(snap)
	l.round++
	var out []Entry
	for i := range results {
		r := &results[i]
		key := subjectOf(r.Check.ID, &r.Scope, duplicates[r.Scope.Server])
		e := l.book[key]
		if e == nil && r.Outcome != check.Fail {
			continue
		}
		if e == nil {
			e = &Entry{Finding: Finding{Action: Resolved, Fingerprint: Fingerprint(r.Check.ID, l.system, r.Scope, key.id != "")}}
			l.book[key] = e
		}
		// Two results of one subject can only be of servers that have not been
		// told apart; the first is kept.
		if e.round == l.round {
			continue
		}
		e.round = l.round
		if l.weigh(snap, e, r, policy) {
			out = append(out, *e)
		}
	}
	for key, e := range l.book {
		switch {
		case e.round != l.round && e.Stands() && !subjectsKnown(snap, e):
			// Whether it is no more cannot be told.
		case e.round != l.round && e.Stands():
			out = append(out, *l.resolve(snap, e))
		case !e.Stands() && passed(e.Told, snap.Taken, l.rules.Remember):
			delete(l.book, key)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return worstFirst(&a.Finding, &b.Finding) })
	return out
}

// subjectsKnown tells whether a subject that has no result is no more.
func subjectsKnown(snap *posture.Snapshot, e *Entry) bool {
	c := check.Lookup(e.Finding.Check)
	return c == nil || c.SubjectsKnown(snap)
}

// weigh takes one result and tells whether there is something to tell.
func (l *Ledger) weigh(snap *posture.Snapshot, e *Entry, r *check.Result, policy *check.Policy) bool {
	switch {
	case r.Outcome == check.Fail:
		return l.fail(snap, e, l.finding(snap, r, e.Finding.Fingerprint, policy), r.Looked)
	case !e.Stands() || r.Pending:
		return false // nothing stands, or it may be known soon
	case r.Outcome == check.Unknown:
		return l.unknown(snap, e, r.Looked)
	default:
		return l.pass(snap, e, r)
	}
}

func (l *Ledger) finding(snap *posture.Snapshot, r *check.Result, fp string, policy *check.Policy) Finding {
	f := fromResult(r, l.system, fp)
	if w := policy.Waived(r.Check, r.Scope, snap.Taken); w != nil {
		f.Waived = &Waiver{Reason: w.Reason, Owner: w.Owner, Expires: w.Expires}
	}
	return f
}

func (l *Ledger) fail(snap *posture.Snapshot, e *Entry, f Finding, looked time.Time) bool {
	f.LastSeen, f.Epoch = snap.Taken, snap.Epoch
	if !e.Stands() {
		l.open(snap, e, f)
		return true
	}
	if apart(e.passed, looked, l.rules.Apart) {
		l.noteOpening(e, snap.Taken) // it was gone, and only its flapping kept it open
	}
	// Who was told that it is gone, or cannot be seen, is told at once that it is there.
	back := e.Finding.Action == Stale || e.Finding.Action == Held
	f.FirstSeen, f.Flaps, f.ClosedFor = e.Finding.FirstSeen, l.flaps(e, snap.Taken), e.now.ClosedFor
	if h := e.now.Hold; h != nil {
		f.ClosedFor += Span(max(0, looked.Sub(h.Closed)))
	}
	f.Action, f.ID, f.Epoch, f.At = e.Finding.Action, e.Finding.ID, e.Finding.Epoch, e.Finding.At
	e.now, e.passed, e.unseen, e.Found = f, time.Time{}, time.Time{}, f.Summary
	told, worse := &e.Finding, f.Severity > e.Finding.Severity || f.Cause != e.Finding.Cause
	told.LastSeen, told.ClosedFor = snap.Taken, f.ClosedFor
	if !back && (f.sameAs(told) || f.content() == e.Content) {
		return false
	}
	if !back && !worse && !passed(e.Told, snap.Taken, l.rules.UpdateEvery) {
		return false // held back
	}
	e.Finding = f
	l.tell(snap, e, Updated)
	return true
}

func (l *Ledger) open(snap *posture.Snapshot, e *Entry, f Finding) {
	l.noteOpening(e, snap.Taken)
	f.FirstSeen, f.Flaps = snap.Taken, l.flaps(e, snap.Taken)
	e.Finding, e.now, e.Found = f, f, f.Summary
	e.Anchor = l.anchor(f.Scope)
	e.passed, e.unseen = time.Time{}, time.Time{}
	l.tell(snap, e, Opened)
}

func (l *Ledger) pass(snap *posture.Snapshot, e *Entry, r *check.Result) bool {
	e.unseen = time.Time{}
	switch {
	case e.passed.IsZero() || r.Looked.Before(e.passed):
		e.passed = r.Looked
		if h := e.now.Hold; h != nil && e.passed.Before(h.Closed) {
			e.now.Hold = nil // the clock was set back
		}
	case !apart(e.passed, r.Looked, l.rules.Apart):
	case l.flaps(e, snap.Taken) >= l.rules.FlapCount && r.Looked.Before(l.holdsUntil(e)):
		return l.hold(snap, e, r)
	default:
		l.resolve(snap, e)
		return true
	}
	return false
}

// holdsUntil is when a flapping finding that is gone ends, unless it opens again:
// it has been gone for long enough by then, or its openings are long ago.
func (l *Ledger) holdsUntil(e *Entry) time.Time {
	closed := e.passed
	if e.now.Hold != nil {
		closed = e.now.Hold.Closed
	}
	until := closed.Add(l.rules.FlapQuiet)
	if n := len(e.Opened) - l.rules.FlapCount; n >= 0 {
		if over := e.Opened[n].Add(l.rules.FlapWindow); over.Before(until) {
			return over
		}
	}
	return until
}

// hold keeps a finding open that is gone, and says so. What is known of it is what
// was seen last.
func (l *Ledger) hold(snap *posture.Snapshot, e *Entry, r *check.Result) bool {
	f := &e.now
	if f.Hold == nil {
		f.Hold = &Hold{Closed: e.passed, Until: l.holdsUntil(e), Openings: l.flaps(e, snap.Taken), Window: Span(l.rules.FlapWindow)}
		f.Summary = f.Hold.summary(e.Found)
	}
	f.Action, f.ResolvedAt, f.Evidence = Held, nil, r.Evidence
	if len(f.Evidence) == 0 {
		f.Evidence = []posture.Evidence{{Basis: posture.Reported, Source: r.Check.ID, Value: r.Summary}}
	}
	if e.Finding.Action == Held || e.Finding.Action != Stale && !passed(e.Told, snap.Taken, l.rules.UpdateEvery) {
		return false
	}
	e.Finding = *f
	l.tell(snap, e, Held)
	return true
}

// summary says what is so now, and then what is held.
func (h *Hold) summary(found string) string {
	return fmt.Sprintf("closed since %s, held open until %s: opened %d times in %d min; before that: %s",
		timeOfDay(h.Closed), timeOfDay(h.Until), h.Openings, int(time.Duration(h.Window).Minutes()), found)
}

// timeOfDay writes a moment for people: all that is held is of today.
func timeOfDay(t time.Time) string { return t.UTC().Format("15:04:05 UTC") }

func (l *Ledger) unknown(snap *posture.Snapshot, e *Entry, looked time.Time) bool {
	e.passed = time.Time{}
	switch {
	case e.Finding.Action == Stale:
	case e.unseen.IsZero() || looked.Before(e.unseen):
		e.unseen = looked
	case apart(e.unseen, looked, l.rules.Apart):
		if h := e.now.Hold; h != nil {
			// Whether it is still gone cannot be told.
			e.now.Hold = nil
			e.now.ClosedFor += Span(max(0, e.unseen.Sub(h.Closed)))
			e.now.Summary = fmt.Sprintf("closed when it was last seen, since %s; before that: %s", timeOfDay(h.Closed), e.Found)
		}
		e.Finding = e.now
		l.tell(snap, e, Stale)
		return true
	}
	return false
}

func (l *Ledger) resolve(snap *posture.Snapshot, e *Entry) *Entry {
	at := snap.Taken
	e.Finding = e.now
	if h := e.now.Hold; h != nil {
		at = h.Closed
	}
	e.Finding.ResolvedAt, e.Finding.Hold, e.Finding.Flaps, e.Finding.Summary = &at, nil, l.flaps(e, snap.Taken), e.Found
	return l.tell(snap, e, Resolved)
}

func (l *Ledger) tell(snap *posture.Snapshot, e *Entry, a Action) *Entry {
	e.Content, e.Told = e.Finding.content(), snap.Taken
	e.Count++
	e.Finding.Action, e.Finding.Epoch, e.Finding.At = a, snap.Epoch, snap.Taken
	e.Finding.ID = digest(e.Finding.Fingerprint, string(a), e.Content, e.Anchor, strconv.FormatUint(e.Count, 10))
	e.now = e.Finding
	return e
}

func (l *Ledger) noteOpening(e *Entry, at time.Time) {
	e.Opened = append(slices.DeleteFunc(e.Opened, func(t time.Time) bool { return passed(t, at, l.rules.FlapWindow) }), at)
	if len(e.Opened) > maxOpenings {
		e.Opened = slices.Clone(e.Opened[len(e.Opened)-maxOpenings:])
	}
}

// maxOpenings bounds what is remembered of one finding's flapping.
const maxOpenings = 100

// flaps counts the openings of the window.
func (l *Ledger) flaps(e *Entry, at time.Time) int {
	n := 0
	for _, t := range e.Opened {
		if !passed(t, at, l.rules.FlapWindow) {
			n++
		}
	}
	return n
}

// apart tells whether a look is far enough from an earlier one, which may not
// have been.
func apart(first, then time.Time, least time.Duration) bool {
	return !first.IsZero() && then.Sub(first) >= least
}

// passed tells whether so much time has passed. A moment of the future, which a
// clock that was set back makes of one of the past, is over as well.
func passed(from, at time.Time, least time.Duration) bool {
	d := at.Sub(from)
	return d >= least || d < 0
}

// anchors tells of a scope a time in the fleet, the same for every replica, that
// moves when a server starts or loads a configuration: so that the second opening
// of a door is not taken for a repetition of the first by whoever has forgotten it.
func anchors(snap *posture.Snapshot) func(check.Scope) string {
	latest := func(servers []*posture.Server, of func(*posture.Server) bool) string {
		var latest time.Time
		for _, s := range servers {
			if !of(s) {
				continue
			}
			for _, t := range []time.Time{s.Start, s.ConfigLoaded} {
				if t.After(latest) {
					latest = t
				}
			}
		}
		return latest.UTC().Format(time.RFC3339Nano)
	}
	byID := sync.OnceValue(func() map[string][]*posture.Server {
		out := make(map[string][]*posture.Server, len(snap.Servers))
		for _, s := range snap.Servers {
			out[s.ID] = append(out[s.ID], s)
		}
		return out
	})
	return func(scope check.Scope) string {
		switch scope.Kind {
		case check.KindServer: // of which a sweep may open thousands
			return latest(byID()[scope.ServerID], func(*posture.Server) bool { return true })
		case check.KindCluster:
			return latest(snap.Servers, func(s *posture.Server) bool { return s.Cluster == scope.Cluster })
		default:
			return latest(snap.Servers, func(*posture.Server) bool { return true })
		}
	}
}

// Findings lists the findings that stand, worst first.
func (l *Ledger) Findings() []Finding {
	out := make([]Finding, 0, len(l.book))
	for _, e := range l.book {
		if e.Stands() {
			out = append(out, e.now)
		}
	}
	SortWorstFirst(out)
	return out
}

// Of lists the findings of one evaluation, for those who look only once.
func Of(snap *posture.Snapshot, results []check.Result, policy *check.Policy) []Finding {
	l := NewLedger(snap.System, Rules{})
	l.Apply(snap, results, policy)
	return l.Findings()
}

// Passing lists the subjects that another look may tell more of: they have passed
// once, or are held and that is over, or nobody was told yet that they are held.
// Those of who is inside are left out: servers are asked that at a pace of their
// own. next is when the first of those that are held comes due; it is zero where
// none is held.
func (l *Ledger) Passing(at time.Time) (out []check.Scope, next time.Time) {
	for _, e := range l.book {
		if c := check.Lookup(e.Finding.Check); c != nil && c.Inside != nil || !e.Stands() {
			continue
		}
		switch due := l.heldUntil(e); {
		case at.Before(due):
			if next.IsZero() || due.Before(next) {
				next = due
			}
		case e.now.Hold != nil || !e.passed.IsZero():
			out = append(out, e.Finding.Scope)
		}
	}
	return out, next
}

// heldUntil is when a held finding changes by itself; zero for one that is not held.
func (l *Ledger) heldUntil(e *Entry) time.Time {
	if e.now.Hold == nil {
		return time.Time{}
	}
	if tell := e.Told.Add(l.rules.UpdateEvery); e.Finding.Action != Held && tell.Before(e.now.Hold.Until) {
		return tell
	}
	return e.now.Hold.Until
}

// SortWorstFirst orders findings by severity, then check, then subject. Those
// that are waived come last.
func SortWorstFirst(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int { return worstFirst(&a, &b) })
}

func worstFirst(a, b *Finding) int {
	waived := func(f *Finding) int {
		if f.Waived != nil {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(waived(a), waived(b)),
		cmp.Compare(b.Severity, a.Severity),
		strings.Compare(a.Check, b.Check),
		strings.Compare(a.Scope.Cluster, b.Scope.Cluster),
		strings.Compare(a.Scope.Server, b.Scope.Server),
		cmp.Compare(a.Scope.Door, b.Scope.Door),
		strings.Compare(a.Scope.Advisory, b.Scope.Advisory),
		strings.Compare(a.Scope.Name, b.Scope.Name), // keys are in no order
		strings.Compare(a.Fingerprint, b.Fingerprint),
	)
}

func duplicateNames(snap *posture.Snapshot) map[string]bool {
	ids := map[string]string{}
	duplicates := map[string]bool{}
	for _, s := range snap.Servers {
		if id, ok := ids[s.Name]; ok && id != s.ID {
			duplicates[s.Name] = true
		}
		ids[s.Name] = s.ID
	}
	return duplicates
}
