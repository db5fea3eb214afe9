package finding

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// Ledger holds the findings that stand, and tells what an evaluation changes.
// The zero value is not usable; see [NewLedger].
type Ledger struct {
	system string
	open   map[string]*entry // by fingerprint
}

type entry struct {
	finding Finding
	content string
	anchor  string // distinguishes this opening from an earlier one of the same content
	stale   bool
}

// NewLedger makes an empty ledger for a system.
func NewLedger(system string) *Ledger {
	return &Ledger{system: system, open: map[string]*entry{}}
}

// Apply takes the results of one evaluation and returns the transitions they
// make, worst first. A finding is resolved only by a Pass or NotApplicable
// of its own check, or when its subject is no longer in the snapshot; an
// Unknown makes it stale and never resolves it.
func (l *Ledger) Apply(snap *posture.Snapshot, results []check.Result) []Finding {
	duplicates := duplicateNames(snap)
	seen := make(map[string]bool, len(l.open))
	var out []Finding
	for i := range results {
		r := &results[i]
		fp := Fingerprint(r.Check.ID, l.system, r.Scope, duplicates[r.Scope.Server])
		// Two subjects of one fingerprint can only be duplicates that have
		// not been told apart; the first is kept.
		if seen[fp] {
			continue
		}
		seen[fp] = true
		if f, ok := l.judge(snap, *r, fp); ok {
			out = append(out, f)
		}
	}
	for fp, e := range l.open {
		if !seen[fp] {
			out = append(out, l.resolve(snap, e))
		}
	}
	SortWorstFirst(out)
	return out
}

func (l *Ledger) judge(snap *posture.Snapshot, r check.Result, fp string) (Finding, bool) {
	e := l.open[fp]
	switch r.Outcome {
	case check.Fail:
		return l.fail(snap, e, fromResult(r, l.system, fp))
	case check.Pass, check.NotApplicable:
		if e != nil {
			return l.resolve(snap, e), true
		}
	case check.Unknown:
		if e != nil && !e.stale {
			e.stale = true
			return l.transition(snap, e, Stale), true
		}
	}
	return Finding{}, false
}

func (l *Ledger) fail(snap *posture.Snapshot, e *entry, f Finding) (Finding, bool) {
	content := f.content()
	if e == nil {
		f.FirstSeen, f.LastSeen, f.Epoch = snap.Taken, snap.Taken, snap.Epoch
		e = &entry{finding: f, content: content, anchor: anchor(snap, f.Scope)}
		l.open[f.Fingerprint] = e
		return l.transition(snap, e, Opened), true
	}
	changed := e.stale || e.content != content
	f.FirstSeen, f.LastSeen, f.Epoch = e.finding.FirstSeen, snap.Taken, e.finding.Epoch
	f.Action, f.ID = e.finding.Action, e.finding.ID
	e.finding, e.content, e.stale = f, content, false
	if !changed {
		return Finding{}, false
	}
	return l.transition(snap, e, Updated), true
}

func (l *Ledger) resolve(snap *posture.Snapshot, e *entry) Finding {
	delete(l.open, e.finding.Fingerprint)
	at := snap.Taken
	e.finding.ResolvedAt = &at
	return l.transition(snap, e, Resolved)
}

func (l *Ledger) transition(snap *posture.Snapshot, e *entry, a Action) Finding {
	e.finding.Action, e.finding.Epoch = a, snap.Epoch
	e.finding.ID = digest(e.finding.Fingerprint, string(a), e.content, e.anchor)
	return e.finding
}

// anchor is a time in the fleet, the same for every replica, that moves when
// a server starts or loads a configuration: so that the second opening of a
// door is not taken for a repetition of the first.
func anchor(snap *posture.Snapshot, scope check.Scope) string {
	var latest time.Time
	for _, s := range snap.Servers {
		if scope.Kind == check.KindServer && s.ID != scope.ServerID || scope.Kind == check.KindCluster && s.Cluster != scope.Cluster {
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

// Findings lists the findings that stand, worst first.
func (l *Ledger) Findings() []Finding {
	out := make([]Finding, 0, len(l.open))
	for _, e := range l.open {
		out = append(out, e.finding)
	}
	SortWorstFirst(out)
	return out
}

// SortWorstFirst orders findings by severity, then check, then subject.
func SortWorstFirst(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		return cmp.Or(
			cmp.Compare(b.Severity, a.Severity),
			strings.Compare(a.Check, b.Check),
			strings.Compare(a.Scope.Cluster, b.Scope.Cluster),
			strings.Compare(a.Scope.Server, b.Scope.Server),
			cmp.Compare(a.Scope.Door, b.Scope.Door),
			strings.Compare(a.Fingerprint, b.Fingerprint),
		)
	})
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
