package posture

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// Refusal is why a server refuses to reload a configuration.
type Refusal struct {
	Place  Place
	Text   string
	Unless string // what may be the reason of the difference instead; "" where there is no other
}

// ReloadRefused lists why the server that is meant to run with a configuration
// refuses to reload it, as far as it shows that. A reload that is refused changes
// nothing until the next restart, which then changes all. What a server does not
// show may be a reason as well: see ReloadUntold.
func (s *Server) ReloadRefused() []Refusal {
	r, c := s.Config.Running, s.Config
	switch {
	case len(c.Refused) > 0:
		out := Refusal{Place: c.Refused[0].Place, Text: "nats-server " + c.Rules + " would not start with it"}
		if semver.MajorMinor("v"+r.Version) != semver.MajorMinor("v"+c.Rules) {
			out.Unless = r.Version + " takes it"
		}
		return []Refusal{out}
	case r.NoConfigFile == Yes:
		return []Refusal{{Place: c.Whole(), Text: "it was started without a configuration file, and has none to read again"}}
	case len(c.Spellings) > 0:
		return nil // what it would read is another thing each time
	}
	var out []Refusal
	add := func(p Place, unless, format string, v ...any) {
		out = append(out, Refusal{p, fmt.Sprintf(format, v...), unless})
	}
	_, keys := c.Keys["trusted_keys"] // which a server does not show
	operator := func(s *Server) bool { return s.AuthMode == AuthOperator }
	switch {
	case keys:
	case operator(s) != operator(r):
		add(c.At("operator", "accounts", "authorization"), "", "operator mode is not turned on or off")
	case operator(s) && slices.ContainsFunc(s.Operators, func(o Operator) bool { return !trusts(r, o.Key) }):
		add(c.At("operator"), "", "operators are not changed")
	case !operator(s) && r.SystemAccount != "" && s.SystemAccount != r.SystemAccount:
		add(c.At("system_account"), "", "the system account is not changed, from %s to %s", r.SystemAccount, s.SystemAccount)
	}
	if _, named := c.Keys["server_name"]; named && s.Name != r.Name {
		add(c.At("server_name"), c.unlessFlag("-n"), "the server's name is not changed")
	}
	for _, kind := range DoorKinds() {
		d, now := s.Door(kind), r.Door(kind)
		if d == nil || now == nil || d.On == Unseen || now.On == Unseen {
			continue
		}
		at, unless := c.At(doorKeys[kind]...), c.unlessDoor(now)
		switch {
		case d.On != now.On:
			add(at, unless, "the %s port is not opened or shut", kind)
		case d.On == No:
		case d.Port != RandomPort && d.Port != now.Port:
			add(at, unless, "the %s port is not moved from %d to %d", kind, now.Port, d.Port)
		case (kind == Websocket || kind == MQTT) && c.guest(kind) != now.NoAuthUser:
			add(c.At(kind.String()+".no_auth_user", kind.String()), "", "no_auth_user of %s is not changed", kind)
		}
	}
	return out
}

// unlessFlag: a server that nobody has told the flags of may have this one.
func (c *Config) unlessFlag(flag string) string {
	if c.FlagsKnown {
		return ""
	}
	return "the server has the flag " + flag + " (--args tells its flags)"
}

// unlessDoor is why a listener may differ from the file beside a change of it. VARZ
// tells the address that is advertised to clients in place of the listener's own;
// nobody advertises the one that stands for all.
func (c *Config) unlessDoor(now *Door) string {
	switch now.Kind {
	case Client:
		if host, err := netip.ParseAddr(strings.Trim(now.Host, "[]")); err != nil || !host.IsUnspecified() {
			return "it advertises another port than its own (client_advertise), or has the flag -p"
		}
		return c.unlessFlag("-p")
	case Route:
		return c.unlessFlag("--cluster")
	case Monitor:
		return c.unlessFlag("-m or -ms")
	case NoDoor, Websocket, MQTT, Leafnode, Gateway, Profile:
	}
	return ""
}

// untold are options about doors that no server shows, and that a reload refuses to
// add or to change.
var untold = []string{"no_auth_user", "authorization.auth_callout", "leafnodes.authorization", "gateway.authorization", "prof_port"}

// ReloadUntold lists those of them that a configuration has.
func (c *Config) ReloadUntold() []Remark {
	var out []Remark
	for _, key := range untold {
		if at, ok := c.Keys[key]; ok {
			out = append(out, Remark{at, key})
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
