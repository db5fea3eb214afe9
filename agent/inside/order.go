package inside

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// Step is one server in the order in which servers are brought to the
// candidate.
type Step struct {
	Server   string   `json:"server"`
	ServerID string   `json:"server_id"`
	Cluster  string   `json:"cluster"`
	Kept     int      `json:"kept"` // of those that are connected to it now
	Rejected int      `json:"rejected"`
	Unknown  int      `json:"unknown"`
	Leafs    int      `json:"leafs"`   // leafnodes that have dialled it
	Restart  []string `json:"restart"` // why a reload does not do; empty when it does
}

// Order says which server to bring to the candidate first: the one at which
// the fewest are rejected, then the one at which it is unknown of the fewest; but
// none before the servers that dial it as leafnodes and are not kept there, so
// that they have their credentials by then.
func (c *Candidate) Order(servers []*posture.Server, predictions []Prediction) []Step {
	var out []Step
	dial := map[string]map[string]bool{} // by the id of a server: the names of those
	for _, s := range servers {
		if s.State != posture.Answering {
			continue
		}
		step := Step{Server: s.Name, ServerID: s.ID, Cluster: s.Cluster, Restart: c.restart(s)}
		for i := range predictions {
			p := &predictions[i]
			if p.ServerID != s.ID {
				continue
			}
			switch p.Verdict {
			case Kept:
				step.Kept += p.Count
			case Rejected:
				step.Rejected += p.Count
			case Unknown:
				step.Unknown += p.Count
			}
			if p.Door == posture.Leafnode {
				step.Leafs++
				if p.Verdict != Kept {
					if dial[s.ID] == nil {
						dial[s.ID] = map[string]bool{}
					}
					dial[s.ID][p.Name] = true
				}
			}
		}
		out = append(out, step)
	}
	slices.SortStableFunc(out, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.Rejected, b.Rejected), cmp.Compare(a.Unknown, b.Unknown),
			strings.Compare(a.Cluster, b.Cluster), strings.Compare(a.Server, b.Server), strings.Compare(a.ServerID, b.ServerID))
	})
	return afterDiallers(out, dial)
}

// afterDiallers puts no server before those that dial it, and leaves the order
// as it is otherwise. Where they dial each other, the first goes first.
func afterDiallers(steps []Step, dial map[string]map[string]bool) []Step {
	out := make([]Step, 0, len(steps))
	for len(steps) > 0 {
		waits := func(s Step) bool {
			return slices.ContainsFunc(steps, func(o Step) bool { return o.ServerID != s.ServerID && dial[s.ServerID][o.Server] })
		}
		next := max(0, slices.IndexFunc(steps, func(s Step) bool { return !waits(s) }))
		out = append(out, steps[next])
		steps = slices.Delete(steps, next, next+1)
	}
	return out
}

// restart says what of the candidate nats-server does not take by reload
// (reload.go, diffOptions).
func (c *Candidate) restart(s *posture.Server) []string {
	reasons := []string{}
	add := func(format string, a ...any) { reasons = append(reasons, fmt.Sprintf(format, a...)) }
	if operator := s.AuthMode == posture.AuthOperator; operator != c.Operator && s.AuthMode != posture.AuthUnknown {
		add("a server moves to or from operator mode only by restart")
	}
	if c.Kind != FromFile {
		return reasons
	}
	if c.NoAuthUser != "" && !posture.IsHiddenUser(c.NoAuthUser, "") {
		add("no_auth_user cannot be added or changed by reload")
	}
	if s.SystemAccount != "" && c.SystemAccount != "" && s.SystemAccount != c.SystemAccount && !c.Operator {
		add("the system account cannot be changed by reload")
	}
	for _, kind := range []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode, posture.Route, posture.Gateway} {
		d, on := c.Doors[kind]
		today := s.Door(kind)
		switch {
		case today == nil:
		case on != (today.On == posture.Yes):
			add("the %s listener comes or goes", kind)
		case (kind == posture.Websocket || kind == posture.MQTT) && d.NoAuthUser != today.NoAuthUser,
			(kind == posture.Websocket || kind == posture.MQTT) && (d.User != "" || d.Token),
			kind == posture.Gateway && d.User != "",
			kind == posture.Leafnode && c.Leaf.set():
			add("the authorization of the %s block cannot be changed by reload", kind)
		}
	}
	return reasons
}
