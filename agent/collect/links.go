package collect

import (
	"slices"

	"github.com/natsentry/natsentry/agent/posture"
)

// learnLinks notes which servers hold a connection to which: what an answer
// about routes and gateways says replaces what the server said before.
func (s *sweep) learnLinks() {
	for id := range s.c.links {
		if !s.answered(id) {
			delete(s.c.links, id) // what it last said holds no more
		}
	}
	if s.topo == nil {
		return
	}
	for id := range s.main.who {
		r, g := body[routez](s.topo, posture.Routez, id), body[gatewayz](s.topo, posture.Gatewayz, id)
		if r == nil || g == nil {
			continue
		}
		links := map[string]bool{}
		for _, peer := range append(peersOf(r), peersOf(g)...) {
			links[peer] = true
		}
		s.c.links[id] = links
		if body[leafz](s.topo, posture.Leafz, id) != nil {
			s.c.topology[id] = s.marks[id] // until it moves, this need not be asked again
		}
	}
}

// linked tells whether a server that answered holds a connection to one that
// did not.
func (s *sweep) linked(id string) posture.Tri {
	if id == "" || len(s.c.links) == 0 {
		return posture.Unseen // leafnodes are known by their names only
	}
	for _, peers := range s.c.links {
		if peers[id] {
			return posture.Yes
		}
	}
	for peer := range s.main.who {
		if s.c.links[peer] == nil {
			return posture.Unseen // this one did not say
		}
	}
	return posture.No
}

// unlinked names the members of a server's cluster that said they hold no connection
// to it. Routes are not relayed: what one of them is asked to pass on does not arrive.
func (s *sweep) unlinked(srv *posture.Server) []string {
	var out []string
	for id, who := range s.main.who {
		if links := s.c.links[id]; links != nil && !links[srv.ID] && who.cluster != "" && who.cluster == srv.Cluster {
			out = append(out, who.name)
		}
	}
	slices.Sort(out)
	return out
}
