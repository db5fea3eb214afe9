package finding

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// Type is the type field of a [Finding].
const Type = "natsentry.v1.finding"

// Action says what became of a finding.
type Action string

// The actions of the ledger.
const (
	Opened   Action = "opened"
	Updated  Action = "updated"
	Resolved Action = "resolved"
	Stale    Action = "stale" // its subject fell silent: neither there nor gone
	Held     Action = "held"  // seen to be gone, and kept open only because it opened again and again: see [Hold]
)

// Finding is one check failing on one subject.
type Finding struct {
	Type        string             `json:"type"`
	ID          string             `json:"id"`          // of this transition, the same on every replica
	Fingerprint string             `json:"fingerprint"` // of check, system and scope by name; stable over restarts
	Check       string             `json:"check"`
	Aliases     []string           `json:"aliases"` // of the check, or of the advisory that the scope names
	Severity    check.Severity     `json:"severity"`
	Lowered     bool               `json:"lowered,omitempty"` // the severity: the listener is on loopback
	Action      Action             `json:"action"`
	Cause       posture.Cause      `json:"cause"`
	System      string             `json:"system"`
	Scope       check.Scope        `json:"scope"`
	Summary     string             `json:"summary"`
	Evidence    []posture.Evidence `json:"evidence"`
	Remediation Remediation        `json:"remediation"`
	Refs        []string           `json:"refs"`
	At          time.Time          `json:"at"` // when this transition was seen
	FirstSeen   time.Time          `json:"first_seen"`
	LastSeen    time.Time          `json:"last_seen"`
	ResolvedAt  *time.Time         `json:"resolved_at"` // when it was seen to be gone; of one that was held: when that began
	Epoch       uint64             `json:"epoch"`
	Flaps       int                `json:"flaps"`      // openings of the last minutes, this one included
	Hold        *Hold              `json:"hold"`       // of a held finding; otherwise null
	ClosedFor   Span               `json:"closed_for"` // how long it was closed between first_seen and its latest opening
	Waived      *Waiver            `json:"waived"`
}

// Hold says why a finding that is gone is still kept open.
type Hold struct {
	Closed   time.Time `json:"closed"`   // since then it has been seen to be gone
	Until    time.Time `json:"until"`    // the first look after that ends it, unless it opens again
	Openings int       `json:"openings"` // within window
	Window   Span      `json:"window"`
}

// Span is a duration that is written as time.Duration's String writes it: "3m20s".
type Span time.Duration

// MarshalText writes the span.
func (s Span) MarshalText() ([]byte, error) { return []byte(time.Duration(s).String()), nil }

// UnmarshalText reads the span.
func (s *Span) UnmarshalText(text []byte) error {
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("finding: %w", err)
	}
	*s = Span(d)
	return nil
}

// Open is how long the finding was open until a moment: not the time for which it
// was only held.
func (f *Finding) Open(until time.Time) time.Duration {
	switch {
	case f.ResolvedAt != nil:
		until = *f.ResolvedAt
	case f.Hold != nil:
		until = f.Hold.Closed
	}
	return max(0, until.Sub(f.FirstSeen)-time.Duration(f.ClosedFor))
}

// Remediation is what to do about a finding.
type Remediation struct {
	Text   string `json:"text"`
	Config string `json:"config"`
	Reload bool   `json:"reload"` // a reload applies it; otherwise a restart is needed
}

// Waiver says who accepted a finding, why and until when.
type Waiver struct {
	Reason  string    `json:"reason"`
	Owner   string    `json:"owner"`
	Expires time.Time `json:"expires"`

	// InSource tells that it stands in the configuration itself, and not in a policy
	// or a baseline beside it.
	InSource bool `json:"-"`
}

// Fingerprint names a finding over restarts of server and agent: it is made
// of the check, the system and the scope by name. A name that two servers of
// the fleet carry adds the id, or their findings would be one.
func Fingerprint(checkID, system string, scope check.Scope, duplicateName bool) string {
	parts := []string{checkID, system, string(scope.Kind), scope.Cluster, scope.Server, scope.Door.String()}
	if duplicateName {
		parts = append(parts, scope.ServerID)
	}
	if scope.Account != "" {
		parts = append(parts, "account", scope.Account)
	}
	if scope.Advisory != "" {
		parts = append(parts, "advisory", scope.Advisory)
	}
	return digest(parts...)
}

func fromResult(r *check.Result, system, fingerprint string) Finding {
	remedy := r.Remedy()
	severity := r.Severity
	if severity == check.NoSeverity {
		severity = r.Check.Severity
	}
	return Finding{
		Type: Type, Fingerprint: fingerprint, Check: r.Check.ID, Aliases: orEmpty(r.Aliases()),
		Severity: severity, Lowered: r.Lowered, Cause: r.Cause, System: system, Scope: r.Scope, Summary: r.Summary,
		Evidence:    orEmpty(r.Evidence),
		Remediation: Remediation{Text: remedy.Text, Config: remedy.Config, Reload: remedy.Reload},
		Refs:        orEmpty(r.Check.Refs),
	}
}

// content is what makes a finding another one than before. What moves by
// itself (times, epochs) is left out.
func (f *Finding) content() string {
	evidence, err := json.Marshal(f.Evidence)
	if err != nil {
		evidence = fmt.Append(nil, f.Evidence) // cannot happen: plain strings and enumerations
	}
	waiver := ""
	if w := f.Waived; w != nil {
		waiver = w.Reason + "\x00" + w.Owner + "\x00" + w.Expires.UTC().String()
	}
	return digest(f.Severity.String(), string(f.Cause), f.Scope.ServerID, f.Summary, string(evidence), waiver)
}

// sameAs tells whether two findings have the same content, without the cost of
// writing it down.
func (f *Finding) sameAs(o *Finding) bool {
	waived := f.Waived == o.Waived || f.Waived != nil && o.Waived != nil &&
		f.Waived.Reason == o.Waived.Reason && f.Waived.Owner == o.Waived.Owner && f.Waived.Expires.Equal(o.Waived.Expires)
	return waived && f.Severity == o.Severity && f.Cause == o.Cause && f.Scope.ServerID == o.Scope.ServerID &&
		f.Summary == o.Summary && slices.Equal(f.Evidence, o.Evidence)
}

func digest(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:16])
}

func orEmpty[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
