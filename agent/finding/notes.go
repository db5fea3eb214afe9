package finding

import (
	"fmt"
	"strings"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// exposed is the flag that takes listeners on loopback for reachable.
const exposed = "(--loopback-exposed)"

// notes say what a reader would otherwise miss between the listeners and the
// findings: an open listener never stands without a finding or a note.
func notes(snap *posture.Snapshot, findings []Finding) []string {
	out := []string{}
	lowered := 0
	reported := map[openDoor]bool{}
	for i := range findings {
		f := &findings[i]
		if f.Lowered && f.Waived == nil {
			lowered++
		}
		if c := check.Lookup(f.Check); c != nil && c.Proves {
			reported[openDoor{f.Scope.Server, f.Scope.ServerID, f.Scope.Door}] = true
		}
	}
	if lowered > 0 {
		out = append(out, fmt.Sprintf("%s lowered: the listener is on loopback %s", counted(lowered, "finding"), exposed))
	}
	for _, kind := range append(posture.DoorKinds(), posture.NoDoor) {
		var local, other []string
		for _, s := range snap.Servers {
			d := s.Door(kind)
			switch {
			case d == nil:
			case kind == posture.NoDoor && d.Access == posture.Closed && len(d.Evidence) > 0:
				out = append(out, fmt.Sprintf("%s is closed: %s; the kind of listener is hidden behind that", s.Name, d.Evidence[0].Value))
			case d.Access != posture.Open || reported[openDoor{s.Name, s.ID, kind}]:
			case d.Loopback():
				local = append(local, s.Name)
			default:
				other = append(other, s.Name)
			}
		}
		if len(local) > 0 {
			out = append(out, fmt.Sprintf("%s on loopback without a finding %s: %s of %s", counted(len(local), "open listener"), exposed, kind, listed(local)))
		}
		if len(other) > 0 {
			out = append(out, fmt.Sprintf("%s without a finding: %s of %s", counted(len(other), "open listener"), kind, listed(other)))
		}
	}
	return out
}

// openDoor names a listener as the scope of a finding does.
type openDoor struct {
	server, id string
	door       posture.DoorKind
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// listed names the first few.
func listed(names []string) string {
	const shown = 10
	if rest := len(names) - shown; rest > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shown], ", "), rest)
	}
	return strings.Join(names, ", ")
}
