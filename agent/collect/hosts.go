package collect

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"

	"github.com/natsentry/natsentry/agent/posture"
)

// maxHosts bounds the hosts that are remembered of one server.
const maxHosts = posture.MaxAddresses

// place is where one server says that another one is.
type place struct {
	id, name string // id, or the name where the server tells no id
	host     string
	door     posture.DoorKind // the listener at which it was reached, where that is known
	port     int
}

// learnPlaces notes under which addresses the fleet knows its servers: by our
// own connection and by the connections between them. What a server says
// replaces what it said before.
func (s *sweep) learnPlaces() {
	maps.DeleteFunc(s.c.places, func(reporter string, _ []place) bool { return !s.answered(reporter) })
	maps.DeleteFunc(s.c.leafs, func(reporter string, _ []leafInfo) bool { return !s.answered(reporter) })
	if s.topo != nil {
		for id := range s.main.who {
			r, g, l := body[routez](s.topo, posture.Routez, id), body[gatewayz](s.topo, posture.Gatewayz, id), body[leafz](s.topo, posture.Leafz, id)
			if r != nil || g != nil || l != nil {
				s.c.places[id] = places(r, g, l)
			}
			if l != nil {
				s.c.leafs[id] = l.Leafs
			}
		}
	}
	byName := map[string][]string{} // leafnodes may carry the name of another server
	for id, who := range s.main.who {
		byName[who.name] = append(byName[who.name], id)
	}
	hosts := map[string][]string{}
	learn := func(id, host string) {
		if len(hosts[id]) < maxHosts && !slices.Contains(hosts[id], host) {
			hosts[id] = append(hosts[id], host)
		}
	}
	if own, err := netip.ParseAddrPort(s.c.nc.ConnectedAddr()); err == nil {
		learn(s.c.nc.ConnectedServerId(), own.Addr().Unmap().String())
	}
	for _, reporter := range slices.Sorted(maps.Keys(s.c.places)) {
		for _, p := range s.c.places[reporter] {
			if p.id != "" {
				learn(p.id, p.host)
				continue
			}
			for _, id := range byName[p.name] {
				learn(id, p.host)
			}
		}
	}
	for id := range hosts {
		slices.Sort(hosts[id])
	}
	s.c.hosts = hosts
}

// places reads where a server says that its peers are. A port is that of a
// listener only where the server itself has dialled it.
func places(r *routez, g *gatewayz, l *leafz) []place {
	var out []place
	seen := map[place]bool{}
	add := func(p place, ip string) {
		addr, err := netip.ParseAddr(ip)
		if p.id == "" && p.name == "" || err != nil || addr.IsUnspecified() {
			return
		}
		if p.host = addr.Unmap().String(); !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
	}
	gateway := func(gw *remoteGateway, dialled bool) {
		if gw == nil || gw.Connection == nil {
			return
		}
		p := place{id: gw.Connection.Name}
		if dialled {
			p.door, p.port = posture.Gateway, gw.Connection.Port
		}
		add(p, gw.Connection.IP)
	}
	if r != nil {
		for _, route := range r.Routes {
			p := place{id: route.RemoteID}
			if route.DidSolicit {
				// Where both have dialled, the connection that is left may be the
				// other one's: then this is no port of a listener. A touch shows it.
				p.door, p.port = posture.Route, route.Port
			}
			add(p, route.IP)
		}
	}
	if g != nil {
		for _, gw := range g.Outbound {
			gateway(gw, true)
		}
		for _, inbound := range g.Inbound {
			for _, gw := range inbound {
				gateway(gw, false)
			}
		}
	}
	if l != nil {
		for _, leaf := range l.Leafs {
			add(place{name: printable(leaf.Name)}, leaf.IP)
		}
	}
	return out
}

// addressBook holds what the fleet tells of the addresses of listeners, beside
// what a server's own VARZ does.
type addressBook struct {
	own   map[string][]posture.Address   // by server id
	loose map[looseKey][]posture.Address // those of which nobody says whose they are
}

type looseKey struct {
	cluster string
	door    posture.DoorKind
}

// addresses collects the addresses of listeners that one server tells of
// another one.
func (s *sweep) addresses() *addressBook {
	b := &addressBook{own: map[string][]posture.Address{}, loose: map[looseKey][]posture.Address{}}
	if addr := s.c.nc.ConnectedAddr(); addr != "" {
		a := posture.Address{Door: posture.Client, HostPort: addr, From: posture.OwnConnection}
		if u, err := url.Parse(s.c.nc.ConnectedUrl()); err == nil && (u.Scheme == "ws" || u.Scheme == "wss") {
			a.Door = posture.Websocket
		}
		id := s.c.nc.ConnectedServerId()
		b.own[id] = append(b.own[id], a)
	}
	s.addDialled(b)
	s.addLoose(b)
	return b
}

// addDialled adds the listeners of silent servers to which others are
// connected. Those of servers that answer stand in their VARZ.
func (s *sweep) addDialled(b *addressBook) {
	type listener struct {
		id, hostPort string
		door         posture.DoorKind
	}
	from, times := map[listener]string{}, map[listener]int{}
	for _, reporter := range slices.Sorted(maps.Keys(s.c.places)) {
		for _, p := range s.c.places[reporter] {
			if p.id == "" || p.port <= 0 || s.answered(p.id) {
				continue
			}
			l := listener{p.id, net.JoinHostPort(p.host, strconv.Itoa(p.port)), p.door}
			source := "ROUTEZ"
			if p.door == posture.Gateway {
				source = "GATEWAYZ"
			}
			if times[l]++; times[l] == 1 {
				from[l] = source + " of " + s.main.who[reporter].name
			}
		}
	}
	// What more servers say is likelier to be the port of a listener.
	for _, l := range slices.SortedFunc(maps.Keys(from), func(x, y listener) int {
		return cmp.Or(times[y]-times[x], cmp.Compare(x.hostPort, y.hostPort), cmp.Compare(x.id, y.id))
	}) {
		b.own[l.id] = append(b.own[l.id], posture.Address{Door: l.door, HostPort: l.hostPort, From: from[l]})
	}
}

// addLoose adds the addresses that servers tell of their whole cluster. Those
// that belong to a server that answers are left out.
func (s *sweep) addLoose(b *addressBook) {
	taken := map[posture.Address]bool{}
	for id := range s.main.who {
		v := body[varz](s.main, posture.Varz, id)
		if v == nil {
			continue
		}
		for _, l := range []struct {
			door posture.DoorKind
			host string
			port int
		}{
			{posture.Client, v.Host, v.Port},
			{posture.Websocket, v.Websocket.Host, v.Websocket.Port},
			{posture.Route, v.Cluster.Host, v.Cluster.Port},
			{posture.Gateway, v.Gateway.Host, v.Gateway.Port},
		} {
			for _, host := range append([]string{l.host}, s.c.hosts[id]...) {
				taken[posture.Address{Door: l.door, HostPort: net.JoinHostPort(host, strconv.Itoa(l.port))}] = true
			}
		}
	}
	seen := map[looseKey]map[string]bool{}
	add := func(cluster string, door posture.DoorKind, urls []string, from string) {
		key := looseKey{cluster, door}
		for _, hostPort := range urls {
			hostPort = printable(hostPort)
			host, _, err := net.SplitHostPort(hostPort)
			if addr, bad := netip.ParseAddr(host); err != nil || bad == nil && addr.IsUnspecified() || seen[key][hostPort] || taken[posture.Address{Door: door, HostPort: hostPort}] {
				continue
			}
			if seen[key] == nil {
				seen[key] = map[string]bool{}
			}
			seen[key][hostPort] = true
			b.loose[key] = append(b.loose[key], posture.Address{Door: door, HostPort: hostPort, From: from})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.main.who)) {
		v := body[varz](s.main, posture.Varz, id)
		if v == nil {
			continue
		}
		cluster, by := printable(v.Cluster.Name), " of "+s.main.who[id].name
		add(cluster, posture.Client, v.ConnectURLs, "connect_urls"+by)
		add(cluster, posture.Websocket, v.WSConnectURLs, "ws_connect_urls"+by)
		add(cluster, posture.Route, v.Cluster.URLs, "the routes"+by)
		for _, gw := range v.Gateway.Gateways {
			add(printable(gw.Name), posture.Gateway, gw.URLs, "the gateways"+by)
		}
	}
	for key := range b.loose {
		slices.SortFunc(b.loose[key], func(x, y posture.Address) int { return cmp.Compare(x.HostPort, y.HostPort) })
	}
}

// of lists the addresses of one server's listeners. Of those that may be
// anybody's, a server that answers gets the ones with the port that it names.
func (b *addressBook) of(srv *posture.Server) []posture.Address {
	out := slices.Clone(b.own[srv.ID])
	if srv.ID == "" || srv.Cluster == "" {
		return out
	}
	local := slices.ContainsFunc(srv.Hosts, isLoopback)
	for i := range srv.Doors {
		d := &srv.Doors[i]
		n := 0
		for _, a := range b.loose[looseKey{srv.Cluster, d.Kind}] {
			host, port, _ := net.SplitHostPort(a.HostPort)
			if d.On == posture.No || d.Port != 0 && port != strconv.Itoa(d.Port) || isLoopback(host) && !local || n >= posture.MaxAddresses {
				continue
			}
			n++
			out = append(out, a)
		}
	}
	return out
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
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
