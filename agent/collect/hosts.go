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

// placeTries is how many sweeps look for the address of one server: a server
// answers before its peers list its connections.
const placeTries = 5

// unplaced lists the servers that answer and of which no address is known,
// as long as it is worth looking for one.
func (s *sweep) unplaced() []string {
	var ids []string
	for id := range s.main.who {
		if len(s.c.hosts[id]) == 0 && s.c.placing[id] < placeTries {
			ids = append(ids, id)
		}
	}
	return ids
}

// place counts the sweeps that found no address, and notes whether another one
// may.
func (s *sweep) place() {
	for id := range s.c.placing {
		if !s.answered(id) || len(s.c.hosts[id]) > 0 {
			delete(s.c.placing, id)
		}
	}
	s.c.unplaced.Store(false)
	for _, id := range s.unplaced() {
		s.c.placing[id]++
		if s.c.placing[id] < placeTries {
			s.c.unplaced.Store(true)
		}
	}
}

// Unplaced tells whether the last sweep heard a server of which no address is
// known, and another sweep soon may find one.
func (c *Collector) Unplaced() bool { return c.unplaced.Load() }

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
