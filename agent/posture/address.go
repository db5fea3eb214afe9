package posture

import (
	"net/netip"
	"strconv"
	"strings"
)

// Address is an address under which a listener may be reached.
type Address struct {
	Door     DoorKind
	HostPort string
	From     string // who gives it: "ROUTEZ of n1"; "" of the server's own VARZ
}

// MaxAddresses bounds the addresses at which one listener is tried.
const MaxAddresses = 16

// Addresses lists where a listener may be reached, the likeliest first: where
// VARZ says that it is, which may be an advertised address; where natsentry is
// itself connected; the same port of the hosts by which the fleet knows the
// server; and what else the fleet tells. Not all of them need be right: the
// server's id decides. A listener on loopback is dialled only where the fleet
// knows the server by loopback too: elsewhere our own machine would answer. reason
// says why there is none.
func (s *Server) Addresses(d *Door) (addresses []Address, reason string) {
	reason = "no address of it is known"
	add := func(hostPort, from string) {
		for _, a := range addresses {
			if a.HostPort == hostPort {
				return
			}
		}
		if len(addresses) < MaxAddresses {
			addresses = append(addresses, Address{d.Kind, hostPort, from})
		}
	}
	known := func(own bool) {
		for _, a := range s.Known {
			if a.Door == d.Kind && (a.From == OwnConnection) == own {
				add(a.HostPort, a.From)
			}
		}
	}
	if d.On == No {
		return nil, "no listener"
	}
	listens := d.On == Yes && d.Port > 0
	switch {
	case !listens:
	case d.wildcard():
		reason = "it listens on all addresses, and the fleet gives none of them"
	case loopback(d.Host) && !s.local():
		reason = "it listens on the loopback of another machine"
	default:
		add(joinHostPort(d.Host, strconv.Itoa(d.Port)), "")
	}
	if d.Kind == MQTT {
		// This listener does not say whose it is. It is not looked for elsewhere.
		if listens && d.wildcard() {
			s.addHosts(d, add)
		}
		return addresses, reason
	}
	known(true)
	if listens && (d.wildcard() || !loopback(d.Host) || d.Kind == Client) {
		s.addHosts(d, add)
	}
	known(false)
	return addresses, reason
}

func (s *Server) addHosts(d *Door, add func(hostPort, from string)) {
	for _, host := range s.Hosts {
		from := ""
		if !d.wildcard() {
			from = "the connections of its peers"
		}
		add(joinHostPort(host, strconv.Itoa(d.Port)), from)
	}
}

// OwnConnection is the origin of the address to which natsentry is connected.
const OwnConnection = "natsentry's own connection"

// local tells whether the fleet knows this server by a loopback address.
func (s *Server) local() bool {
	for _, host := range s.Hosts {
		if loopback(host) {
			return true
		}
	}
	return false
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.IsLoopback()
}

// hostOf is the host of host:port.
func hostOf(hostPort string) string {
	i := strings.LastIndex(hostPort, ":")
	return strings.Trim(hostPort[:max(i, 0)], "[]")
}

// portOf is the port of host:port.
func portOf(hostPort string) string { return hostPort[strings.LastIndex(hostPort, ":")+1:] }

// Bound is host:port as VARZ gives it, "" where it gives none.
func (d *Door) Bound() string {
	if d.On != Yes || d.Port <= 0 {
		return ""
	}
	return joinHostPort(d.Host, strconv.Itoa(d.Port))
}

// Where is the address of a listener for people: what the server says, and
// where the listener was found when that is elsewhere.
func (d *Door) Where() string {
	if found := d.Elsewhere(); found != "" {
		return found + " (VARZ: " + d.Address() + ")"
	}
	return d.Address()
}

// Elsewhere is where a listener was found, when that is not where the server
// says.
func (d *Door) Elsewhere() string {
	if !d.elsewhere(d.Reached) {
		return ""
	}
	return d.Reached
}

// elsewhere tells whether an address is another one than VARZ gives.
func (d *Door) elsewhere(hostPort string) bool {
	said := d.Address()
	return hostPort != "" && said != "" && hostPort != said && (!d.wildcard() || portOf(hostPort) != portOf(said))
}
