package inside

import (
	"cmp"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// peers judges the servers that have dialled one. Those that it has dialled
// itself are judged where they have let it in, and routes at one end: nobody tells
// who has dialled. Routes and gateways that are kept are left out.
func (c *Candidate) peers(s *posture.Server, servers, fleet []*posture.Server) []Prediction {
	var out []Prediction
	sessions := leafSessions(s)
	for _, p := range s.Peers {
		other := byID(fleet, p.ID)
		switch {
		case p.Door == posture.Route && other != nil && other.ID < s.ID && slices.Contains(servers, other): // judged there
			continue
		case p.Door != posture.Route && p.Accepted != posture.Yes, p.Door == posture.Leafnode && !takesLeafs(s):
			continue
		}
		g := Group{
			Server: s.Name, ServerID: s.ID, Cluster: s.Cluster, Door: p.Door, Name: p.Name, IP: p.IP, Count: 1, Accounts: []string{},
			encrypted: posture.Unseen,
		}
		if other != nil {
			g.Name = other.Name
		}
		if p.Account != "" {
			g.Accounts = append(g.Accounts, p.Account)
		}
		var a answer
		if p.Door == posture.Leafnode {
			if l := sessions[p.CID]; l != nil {
				g.Login, g.brings, g.checked = shown(s, l)
				g.User, g.Since, g.cert = l.User, l.Since.UTC(), l.PeerCert
				g.encrypted = encrypted(s, l)
				g.taken = g.brings == posture.LoginName && s.AuthRequired != posture.No
			}
			a = c.leaf(s, &g)
		} else {
			a = c.member(&p, other)
		}
		if a.verdict == Kept && p.Door == posture.Leafnode {
			a = c.transport(s, &g, a)
		}
		if a.verdict == Kept && p.Door != posture.Leafnode {
			continue // how many there are is chance
		}
		// A reload looks at clients and routes only (reload.go,
		// reloadAuthorization).
		out = append(out, Prediction{g, a.verdict, a.why, a.verdict == Rejected && p.Door != posture.Route})
	}
	slices.SortFunc(out, func(a, b Prediction) int {
		return cmp.Or(cmp.Compare(a.Door, b.Door), strings.Compare(a.Name, b.Name), strings.Compare(a.IP, b.IP))
	})
	return out
}

// byID finds a server of the fleet; nil when it is not known.
func byID(fleet []*posture.Server, id string) *posture.Server {
	for _, s := range fleet {
		if id != "" && s.ID == id {
			return s
		}
	}
	return nil
}

// takesLeafs: a server without such a listener has dialled all its leafnodes.
func takesLeafs(s *posture.Server) bool {
	for _, kind := range []posture.DoorKind{posture.Leafnode, posture.Websocket} {
		if d := s.Door(kind); d != nil && d.On == posture.Yes {
			return true
		}
	}
	return false
}

// leafSessions are the leafnodes of a server as they stand among its sessions, by
// their connection.
func leafSessions(s *posture.Server) map[uint64]*posture.Session {
	out := map[uint64]*posture.Session{}
	for _, p := range s.Peers {
		if p.Door == posture.Leafnode {
			out[p.CID] = nil
		}
	}
	if len(out) == 0 {
		return nil
	}
	all := Everybody(s)
	for i := range all.List {
		c := &all.List[i]
		if _, ok := out[c.CID]; ok {
			l := *c // the snapshot is not ours to change
			l.Door = posture.Leafnode
			out[c.CID] = &l
		}
	}
	return out
}

// leaf judges a leafnode.
func (c *Candidate) leaf(s *posture.Server, g *Group) answer {
	d, on := c.door(posture.Leafnode)
	_, over := c.door(posture.Websocket)
	l := login{c: c, door: posture.Leafnode, brings: g.brings, user: g.User, checked: g.checked, taken: g.taken, noAuthUser: c.NoAuthUser, single: c.User, token: c.Token, mapped: d.Map, unguarded: !release.GuardsLeafnodes.Holds(s.Version)}
	switch {
	case !on && !over:
		return rejected("there is no leafnode listener any more")
	case !on:
		return unknown("there is no leafnode listener any more, and whether it comes over the websocket is not looked at")
	case c.Leaf.set() && d.Map:
		return unknown("certificates are mapped to users; whether it has one that fits cannot be seen")
	case c.Leaf.set() && g.brings == posture.LoginUnknown:
		return unknown("its server does not show what credentials it brings")
	case c.Leaf.User != "" && (g.brings != posture.LoginName || g.User != c.Leaf.User):
		return rejected("the leafnode user %s is demanded, and it brings %s", c.Leaf.User, g.credentials())
	case c.Leaf.User != "":
		return unknown("it claims to be %s; kept only if it has the right password, which cannot be seen", g.User)
	case c.Leaf.NKey != "" && (g.brings != posture.LoginNKey || g.User != c.Leaf.NKey):
		return rejected("the nkey %s is demanded of leafnodes, and it brings %s", short(c.Leaf.NKey), g.credentials())
	case c.Leaf.NKey != "":
		return unknown("it claims the nkey %s; kept if it has the seed", short(g.User))
	case len(c.Leaf.Users) > 0:
		if _, ok := c.Leaf.Users[g.User]; !ok || g.brings != posture.LoginName {
			return rejected("a leafnode user is demanded, and it brings %s", g.credentials())
		}
		return unknown("it claims to be %s; kept only if it has the right password, which cannot be seen", g.User)
	case !c.AuthRequired && !c.Callout:
		return kept("nobody is asked for credentials")
	}
	if websocket, on := c.door(posture.Websocket); on && websocket.NoAuthUser != "" && websocket.NoAuthUser != c.NoAuthUser && g.brings == posture.LoginNone {
		return unknown("it brings no credentials; kept if it comes over the websocket, where the no_auth_user is %s", websocket.NoAuthUser)
	}
	return l.judge()
}

// credentials says what a group brings.
func (g *Group) credentials() string {
	switch g.brings {
	case posture.LoginNone:
		return "no user name and no nkey"
	case posture.LoginToken:
		return "a token"
	case posture.LoginNKey:
		return "the nkey " + short(g.User)
	case posture.LoginName:
		return "the user name " + g.User
	default:
		return "something else"
	}
}

// member judges a route or a gateway: a server that will run with the candidate
// as well, and then brings what it demands.
func (c *Candidate) member(p *posture.Peer, other *posture.Server) answer {
	d, on := c.door(p.Door)
	switch {
	case c.Kind != FromFile:
		return kept("nothing changes between servers")
	case !on:
		return rejected("there is no %s listener any more", p.Door)
	case d.Map:
		return unknown("its certificate must be that of the user, which cannot be seen")
	case d.User == "":
		return kept("no credentials are demanded of a %s", p.Door)
	case other == nil || other.State != posture.Answering:
		return unknown("the user %s is demanded, and this server does not answer: whether it will have that user is not known", d.User)
	default:
		return kept("the user %s is demanded, which it will have when it runs with the same configuration; until then only the server that has it already can dial the other", d.User)
	}
}
