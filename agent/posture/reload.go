package posture

import (
	"fmt"
	"slices"
)

// ReloadRefused lists why the server that is meant to run with a configuration
// refuses to reload it, as far as it shows that. A reload that is refused changes
// nothing until the next restart, which then changes all. What a server does not
// show may be a reason as well: a no_auth_user, say.
func (s *Server) ReloadRefused() []Remark {
	r, c := s.Config.Running, s.Config
	switch {
	case len(c.Refused) > 0:
		return []Remark{{c.Refused[0].Place, "nats-server would not start with it"}}
	case r.NoConfigFile == Yes:
		return []Remark{{Place{File: c.File}, "it was started without a configuration file, and has none to read again"}}
	}
	var out []Remark
	add := func(p Place, format string, v ...any) { out = append(out, Remark{p, fmt.Sprintf(format, v...)}) }
	operator := func(s *Server) bool { return s.AuthMode == AuthOperator }
	switch {
	case operator(s) != operator(r):
		add(c.At("operator", "trusted_keys"), "operator mode is not turned on or off")
	case operator(s) && slices.ContainsFunc(s.Operators, func(o Operator) bool { return !trusts(r, o.Key) }):
		add(c.At("operator"), "operators are not changed")
	case !operator(s) && r.SystemAccount != "" && s.SystemAccount != r.SystemAccount:
		add(c.At("system_account"), "the system account is not changed, from %s to %s", r.SystemAccount, s.SystemAccount)
	}
	if _, named := c.Keys["server_name"]; named && s.Name != r.Name {
		add(c.At("server_name"), "the server's name is not changed")
	}
	for _, kind := range DoorKinds() {
		d, now := s.Door(kind), r.Door(kind)
		if d == nil || now == nil || d.On == Unseen || now.On == Unseen {
			continue
		}
		at := c.At(doorKeys[kind]...)
		switch {
		case d.On != now.On:
			add(at, "the %s port is not opened or shut", kind)
		case d.On == No:
		case d.Port != RandomPort && d.Port != now.Port:
			add(at, "the %s port is not moved from %d to %d", kind, now.Port, d.Port)
		case (kind == Websocket || kind == MQTT) && c.guest(kind) != now.NoAuthUser:
			add(c.At(kind.String()+".no_auth_user", kind.String()), "no_auth_user of %s is not changed", kind)
		}
	}
	return out
}

// doorKeys are the keys that say where a door is, the most telling first.
var doorKeys = map[DoorKind][]string{
	Client: {"port", "listen", "host"}, Websocket: {"websocket.port", "websocket.listen", "websocket"}, MQTT: {"mqtt.port", "mqtt.listen", "mqtt"},
	Leafnode: {"leafnodes.port", "leafnodes.listen", "leafnodes"}, Route: {"cluster.port", "cluster.listen", "cluster"},
	Gateway: {"gateway.port", "gateway.listen", "gateway"}, Monitor: {"http_port", "https_port", "http", "https"},
}

func trusts(s *Server, key string) bool {
	return slices.ContainsFunc(s.Operators, func(o Operator) bool { return o.Key == key })
}

// guest is the no_auth_user of a door's own.
func (c *Config) guest(kind DoorKind) string {
	for _, g := range c.Guests {
		if g.Door == kind {
			return g.User
		}
	}
	return ""
}
