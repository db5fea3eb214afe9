package collect

import (
	"maps"
	"slices"

	"github.com/natsentry/natsentry/agent/posture"
)

// connected lists the servers that hold a connection to one, each once however
// many connections it has.
func connected(g *gather, id string) []posture.Peer {
	var out []posture.Peer
	seen := map[posture.Peer]bool{}
	add := func(p posture.Peer) {
		p.ID, p.Name, p.IP, p.Account = printable(p.ID), printable(p.Name), printable(p.IP), printable(p.Account)
		if !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	if z := body[routez](g, posture.Routez, id); z != nil {
		for _, r := range z.Routes {
			// did_solicit is true on both sides where each names the other.
			add(posture.Peer{Door: posture.Route, ID: r.RemoteID, Name: r.RemoteName, IP: r.IP})
		}
	}
	if z := body[gatewayz](g, posture.Gatewayz, id); z != nil {
		for _, cluster := range slices.Sorted(maps.Keys(z.Inbound)) {
			for _, gw := range z.Inbound[cluster] {
				if gw != nil && gw.Connection != nil {
					add(posture.Peer{Door: posture.Gateway, ID: gw.Connection.Name, Name: cluster, IP: gw.Connection.IP, Accepted: posture.Yes})
				}
			}
		}
		for _, cluster := range slices.Sorted(maps.Keys(z.Outbound)) {
			if gw := z.Outbound[cluster]; gw != nil && gw.Connection != nil {
				add(posture.Peer{Door: posture.Gateway, ID: gw.Connection.Name, Name: cluster, IP: gw.Connection.IP, Accepted: posture.No})
			}
		}
	}
	if z := body[leafz](g, posture.Leafz, id); z != nil {
		for _, l := range z.Leafs {
			// LEAFZ does not tell who has dialled. A spoke has, unless its
			// remote says hub: true, which turns the parts round.
			add(posture.Peer{Door: posture.Leafnode, Name: l.Name, IP: l.IP, Account: l.Account, CID: l.ID, Accepted: posture.TriOf(!l.IsSpoke)})
		}
	}
	return out
}
