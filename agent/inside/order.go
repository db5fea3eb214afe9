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

// Outlook is what a candidate does to everybody who is inside, and how to go
// about it.
type Outlook struct {
	Kept        int          `json:"kept"` // clients and leafnodes
	Rejected    int          `json:"rejected"`
	Unknown     int          `json:"unknown"`
	Predictions []Prediction `json:"predictions"`
	Order       []Step       `json:"order"`
	Advice      []string     `json:"advice"`
	Bridge      *Bridge      `json:"bridge"` // null where it would help nobody
}

// Bridge is a block of configuration that lets those who bring nothing live on
// while they are given credentials.
type Bridge struct {
	Config string `json:"config"`
	Trap   string `json:"trap"`
}

// Outlook predicts what becomes of everybody inside some servers of a fleet.
func (c *Candidate) Outlook(servers, fleet []*posture.Server) *Outlook {
	o := &Outlook{Predictions: append([]Prediction{}, c.Lockout(servers, fleet)...)}
	nothing := 0
	for i := range o.Predictions {
		p := &o.Predictions[i]
		switch p.Verdict {
		case Kept:
			o.Kept += p.Count
		case Rejected:
			o.Rejected += p.Count
			if p.brings == posture.LoginNone {
				nothing += p.Count
			}
		case Unknown:
			o.Unknown += p.Count
		}
	}
	o.Order = c.Order(servers, o.Predictions)
	o.Advice = c.advice(o, servers)
	if nothing > 0 && !c.Operator && c.NoAuthUser == "" {
		o.Bridge = &Bridge{bridgeConfig, bridgeTrap}
	}
	return o
}

// advice is what to know before the first server is touched.
func (c *Candidate) advice(o *Outlook, servers []*posture.Server) []string {
	out := []string{}
	add := func(n int, format string, a ...any) {
		if n > 0 {
			out = append(out, fmt.Sprintf(format, a...))
		}
	}
	var hidden []string
	lingering, leafs, members := 0, 0, 0
	for i := range o.Predictions {
		p := &o.Predictions[i]
		if p.Lingers {
			lingering += p.Count
		}
		if p.Door == posture.Leafnode && p.Verdict != Kept {
			leafs++
		}
		if p.checked && p.Login == posture.LoginNone && !slices.Contains(hidden, p.Server) {
			hidden = append(hidden, p.Server)
		}
	}
	for _, s := range servers {
		for _, p := range s.Peers {
			if d, _ := c.door(p.Door); p.Door != posture.Leafnode && d.User != "" {
				members++
			}
		}
	}
	add(o.Rejected+o.Unknown, "Give clients and leafnodes their credentials first, and ask again: a server that asks nobody lets them in with any, and shows which they bring.")
	add(len(hidden), "Not so %s, open because only the system account has users: such a server rejects whoever brings a user name or a token. It needs its users first, and a no_auth_user for the others.", strings.Join(hidden, ", "))
	add(o.Rejected, "Whoever is rejected by one server tries the others that it knows of its cluster, and gets in where the candidate is not in force yet: it is the last one that drops it.")
	add(lingering, "A reload may leave %d of the rejected connected until they come back by themselves; a restart shows at once who gets in.", lingering)
	add(leafs, "Servers that others dial as leafnodes come after those, as far as these are known here: one that shares no system account is not.")
	add(members, "Between servers a user will be demanded: until all have it, one that has it can dial one that has not, and not the other way round. Name the others in the routes of each, and mind gateways, which have one list for each cluster.")
	return out
}

const bridgeConfig = `authorization {
  users: [
    # your own users, and for those who bring nothing yet:
    {
      user: bridge
      password: "CHANGE-ME" # a long random one, in plain: with a bcrypt hash nobody gets in
      allowed_connection_types: [STANDARD, WEBSOCKET]
      permissions: {
        # only what they use today
        publish: { allow: ["orders.new"] }
        subscribe: { allow: ["_INBOX.>"] }
      }
    }
  ]
}
no_auth_user: bridge
`

const bridgeTrap = "It is for those who bring nothing: whoever brings a user name or a token that does not fit is still rejected. " +
	"It needs users: beside a token or a single user, nats-server does not start with it. " +
	"It takes a restart to add, so every client reconnects once. " +
	"Its user must be in the account in which the others will be, or they no longer hear each other. " +
	"The door stays open, to strangers too, within those permissions, while the server says auth_required: " +
	"natsentry goes on reporting it (DOOR_001, no-auth-user) until the block is gone."
