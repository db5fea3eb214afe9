package collect

import (
	"net/netip"
	"slices"
)

// maxHosts bounds the addresses that are remembered of one server.
const maxHosts = 4

// learnHosts notes under which addresses the fleet knows its servers: by our
// own connection and by the connections between them. That is where listeners
// that are bound to all addresses may be reached.
func (s *sweep) learnHosts() {
	if own, err := netip.ParseAddrPort(s.c.nc.ConnectedAddr()); err == nil {
		s.c.learnHost(s.c.nc.ConnectedServerId(), own.Addr().Unmap().String())
	}
	if s.topo == nil {
		return
	}
	byName := map[string]string{}
	for id, who := range s.main.who {
		byName[who.name] = id
	}
	for _, answers := range s.topo.got {
		for _, a := range answers {
			switch b := a.(type) {
			case *routez:
				for _, r := range b.Routes {
					s.c.learnHost(r.RemoteID, r.IP)
				}
			case *gatewayz:
				for _, gw := range b.Outbound {
					s.c.learnGateway(gw)
				}
				for _, inbound := range b.Inbound {
					for _, gw := range inbound {
						s.c.learnGateway(gw)
					}
				}
			case *leafz:
				for _, l := range b.Leafs {
					s.c.learnHost(byName[l.Name], l.IP)
				}
			}
		}
	}
	for id := range s.c.hosts {
		if !s.answered(id) {
			delete(s.c.hosts, id)
		}
	}
}

func (c *Collector) learnGateway(gw *remoteGateway) {
	if gw != nil && gw.Connection != nil {
		c.learnHost(gw.Connection.Name, gw.Connection.IP)
	}
}

func (c *Collector) learnHost(id, ip string) {
	addr, err := netip.ParseAddr(ip)
	if id == "" || err != nil || addr.IsUnspecified() {
		return
	}
	known := c.hosts[id]
	if host := addr.Unmap().String(); len(known) < maxHosts && !slices.Contains(known, host) {
		// A new slice: snapshots that are published hold the old one.
		c.hosts[id] = append(slices.Clone(known), host)
		slices.Sort(c.hosts[id])
	}
}
