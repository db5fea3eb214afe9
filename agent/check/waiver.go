package check

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/advisory"
	"github.com/natsentry/natsentry/agent/posture"
)

// Waiver is somebody's word that a finding is accepted, until it expires.
// Whatever it does not name, it covers.
type Waiver struct {
	Check    string // id
	Cluster  string // pattern, as in path.Match
	Server   string // pattern of a name
	Door     string // word
	Advisory string // id of a vulnerability, any of its ids
	Reason   string
	Owner    string
	Expires  time.Time
}

// Validate says what is wrong with a waiver.
func (w *Waiver) Validate() error {
	switch {
	case w.Check == "":
		return fmt.Errorf("it names no check")
	case Lookup(w.Check) == nil:
		return fmt.Errorf("there is no check %.40q, `natsentry checks` lists them", w.Check)
	case Lookup(w.Check) == policy001:
		return fmt.Errorf("%s cannot be waived", policy001.ID)
	case w.Advisory != "" && Lookup(w.Check).Advisory == nil:
		return fmt.Errorf("%s knows no advisories", w.Check)
	case w.Advisory != "" && advisory.Known().Lookup(w.Advisory) == nil:
		return fmt.Errorf("there is no advisory %.40q, `natsentry advisories` lists them", w.Advisory)
	case strings.TrimSpace(w.Reason) == "":
		return fmt.Errorf("it gives no reason")
	case strings.TrimSpace(w.Owner) == "":
		return fmt.Errorf("it names no owner")
	case w.Expires.IsZero():
		return fmt.Errorf("it does not say when it expires")
	}
	for what, pattern := range map[string]string{"cluster": w.Cluster, "server": w.Server} {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%.60q is no pattern of a %s: * stands for any characters, ? for one, [ab] for one of several", pattern, what)
		}
	}
	var kind posture.DoorKind
	if err := kind.UnmarshalText([]byte(w.Door)); err != nil {
		return fmt.Errorf("there is no door %.40q, but client, websocket, mqtt, leafnode, route, gateway, monitor and profile", w.Door)
	}
	return nil
}

// covers tells whether a waiver speaks of a subject.
func (w *Waiver) covers(c *Check, scope Scope) bool {
	if Lookup(w.Check) != c {
		return false
	}
	matches := func(pattern, name string) bool {
		ok, err := path.Match(pattern, name)
		return pattern == "" || err == nil && ok
	}
	return matches(w.Cluster, scope.Cluster) && matches(w.Server, scope.Server) && (w.Door == "" || w.Door == scope.Door.String()) &&
		(w.Advisory == "" || w.Advisory == scope.Advisory || named(w.Advisory) == scope.Advisory)
}

// named is the id of an advisory that another one of its ids names.
func named(alias string) string {
	if a := advisory.Known().Lookup(alias); a != nil {
		return a.ID
	}
	return alias
}

// Waived finds the waiver that covers a subject at a time. One that has
// expired covers nothing.
func (p *Policy) Waived(c *Check, scope Scope, at time.Time) *Waiver {
	if c == policy001 {
		return nil // who could waive this, could waive for ever
	}
	for i := range p.Waivers {
		if w := &p.Waivers[i]; w.covers(c, scope) && at.Before(w.Expires) {
			return w
		}
	}
	return nil
}

var policy001 = &Check{
	Sight: Both,
	ID:    "POLICY_001", Severity: Warning,
	Title: "a waiver has expired",
	Doc:   "The policy file accepts a finding until a date that has passed. It covers nothing any more, so what it covered counts again.",
	By:    BySystem,
	Group: func(policy Policy, snap *posture.Snapshot, _ Group) Verdict {
		var expired []posture.Evidence
		for i := range policy.Waivers {
			if w := &policy.Waivers[i]; !snap.Taken.Before(w.Expires) {
				value := fmt.Sprintf("expired on %s, owner %s: %s", w.Expires.UTC().Add(-1).Format(time.DateOnly), w.Owner, w.Reason)
				expired = append(expired, posture.Evidence{Basis: posture.Declared, Source: "waiver of " + w.Check + w.where(), Value: value})
			}
		}
		switch {
		case len(policy.Waivers) == 0:
			return Verdict{Outcome: NotApplicable, Summary: "there are no waivers"}
		case len(expired) == 0:
			return pass("no waiver has expired")
		default:
			return fail("", "%s expired", have(len(expired), "waiver")).with(NoSeverity, expired...)
		}
	},
	Remedy: Remedy{Text: "Mend what was waived, then delete the waiver; or agree with its owner on a new date. `natsentry run` reads its policy file again on SIGHUP.", Reload: true},
}

// where names the subjects of a waiver.
func (w *Waiver) where() string {
	var parts []string
	for _, p := range [][2]string{{"cluster", w.Cluster}, {"server", w.Server}, {"door", w.Door}, {"advisory", w.Advisory}} {
		if p[1] != "" {
			parts = append(parts, p[0]+" "+p[1])
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func have(n int, what string) string {
	if n == 1 {
		return "1 " + what + " has"
	}
	return fmt.Sprintf("%d %ss have", n, what)
}
