package inside

import (
	"fmt"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

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
