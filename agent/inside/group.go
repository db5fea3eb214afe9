package inside

import (
	"cmp"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// Group is sessions that look alike on one door of one server.
type Group struct {
	Server   string           `json:"server"`
	ServerID string           `json:"server_id"`
	Cluster  string           `json:"cluster"`
	Door     posture.DoorKind `json:"door"`
	Name     string           `json:"name"` // as the client calls itself
	IP       string           `json:"ip"`
	Lang     string           `json:"lang"`
	Version  string           `json:"version"` // of the client library
	Login    posture.Login    `json:"login"`   // what it shows of itself
	User     string           `json:"user"`    // on a server that asks nobody: merely claimed
	Count    int              `json:"count"`
	Since    time.Time        `json:"since"`    // of the oldest
	Accounts []string         `json:"accounts"` // at most MaxAccounts of them
	Weak     bool             `json:"weak"`     // it came in without proving anything, or with what anybody could have read

	brings    posture.Login // the kind of its credentials
	encrypted posture.Tri   // whether they have TLS
	cert      bool          // they have shown a certificate
	checked   bool          // the server has checked them
	taken     bool          // it may have brought nothing, and have been taken for that user
	silent    bool          // it has sent no CONNECT yet
}

// MaxAccounts bounds the accounts that a group lists.
const MaxAccounts = 20

// Groups puts the sessions of all servers together, the largest groups of each
// door first. Our own connection and touches are left out, and leafnodes.
func Groups(servers []*posture.Server) []Group {
	var out []Group
	for _, s := range servers {
		out = append(out, groupsOf(s)...)
	}
	return out
}

// Weak keeps the groups that came in without proving anything, or with what
// anybody on the way could have read.
func Weak(groups []Group) []Group {
	return slices.DeleteFunc(slices.Clone(groups), func(g Group) bool { return !g.Weak })
}

// Sessions counts the sessions of some groups.
func Sessions(groups []Group) (n int) {
	for i := range groups {
		n += groups[i].Count
	}
	return n
}

func groupsOf(s *posture.Server) []Group {
	type key struct {
		door                         posture.DoorKind
		name, ip, lang, version, usr string
		login, brings                posture.Login
		encrypted                    posture.Tri
		cert, checked, weak, silent  bool
	}
	index := map[key]int{}
	var out []Group
	all := Everybody(s)
	for i := range all.List {
		c := &all.List[i]
		if c.Door == posture.NoDoor || c.Door == posture.Leafnode || c.Ours || c.Touch(all.At) {
			continue
		}
		login, brings, checked := shown(s, c)
		k := key{c.Door, c.Name, host(c.Address), c.Lang, c.Version, c.User, login, brings, encrypted(s, c), c.PeerCert, checked, weak(s, c, login), c.Unintroduced}
		n, ok := index[k]
		if !ok {
			n = len(out)
			index[k] = n
			out = append(out, Group{
				Server: s.Name, ServerID: s.ID, Cluster: s.Cluster, Door: k.door, Name: k.name, IP: k.ip, Lang: k.lang, Version: k.version,
				Login: login, User: c.User, Since: c.Since.UTC(), Accounts: []string{}, Weak: k.weak,
				brings: brings, encrypted: k.encrypted, cert: k.cert, checked: checked, silent: k.silent,
				taken: brings == posture.LoginName && (s.AuthRequired != posture.No || c.Door != posture.Client),
			})
		}
		out[n].add(c)
	}
	slices.SortStableFunc(out, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.Door, b.Door), cmp.Compare(b.Count, a.Count), strings.Compare(a.Name, b.Name), strings.Compare(a.IP, b.IP),
			strings.Compare(a.Lang, b.Lang), strings.Compare(a.Version, b.Version), cmp.Compare(a.Login, b.Login), strings.Compare(a.User, b.User), cmp.Compare(a.encrypted, b.encrypted))
	})
	return out
}

func (g *Group) add(c *posture.Session) {
	g.Count++
	if c.Since.Before(g.Since) {
		g.Since = c.Since.UTC()
	}
	if at, found := slices.BinarySearch(g.Accounts, c.Account); !found && len(g.Accounts) < MaxAccounts {
		g.Accounts = slices.Insert(g.Accounts, at, c.Account)
	}
}

// Everybody is who is known to be inside: the sessions of all accounts where
// they were asked for, and otherwise those of the global account.
func Everybody(s *posture.Server) *posture.Sessions {
	if s.Everyone.At.IsZero() {
		return &s.Sessions
	}
	return &s.Everyone
}

var nkey = regexp.MustCompile(`^U[A-Z2-7]{55}$`)

// shown says how a session has shown who it is, what kind of credentials it
// brings, and whether the server has checked them. A server that asks nobody
// still lists the nkey, the user name, or that there is a token, of whoever sends
// one, the first of these; a JWT it throws away (nats-server client.go,
// processConnect and getRawAuthUser).
func shown(s *posture.Server, c *posture.Session) (login, brings posture.Login, checked bool) {
	switch {
	case c.Unintroduced:
		return posture.LoginUnknown, posture.LoginUnknown, false
	case posture.IsHiddenUser(c.User, c.Account) && s.AuthRequired == posture.Yes && s.AuthMode != posture.AuthOperator:
		return posture.LoginNone, posture.LoginNone, true // it lets in nobody who sends a name or a token
	case c.User == "":
		brings = posture.LoginNone
	case c.User == posture.Redacted && release.RedactsTokens.Holds(s.Version):
		brings = posture.LoginToken
	case c.User == posture.Redacted:
		brings = posture.LoginUnknown // a name or a token
	case nkey.MatchString(c.User):
		brings = posture.LoginNKey
	default:
		brings = posture.LoginName
	}
	switch {
	case s.AuthRequired == posture.No && brings != posture.LoginNone && c.Door != posture.Client:
		// The listener may have an authentication of its own.
		return posture.LoginUnknown, brings, false
	case s.AuthRequired == posture.No:
		return brings, brings, false
	case s.AuthMode == posture.AuthStatic && brings == posture.LoginToken:
		return posture.LoginToken, brings, true
	case c.Login == posture.LoginPassword:
		return c.Login, posture.LoginName, true
	case c.Login != posture.LoginUnknown:
		return c.Login, c.Login, true
	case s.AuthMode == posture.AuthStatic && brings == posture.LoginNKey:
		// A server with a hidden user lets in whoever sends an nkey, and checks
		// nothing of it.
		return posture.LoginUnknown, brings, false
	case s.AuthMode == posture.AuthStatic && c.Door == posture.Leafnode && brings == posture.LoginName:
		return posture.LoginUnknown, brings, false
	default:
		return posture.LoginUnknown, posture.LoginUnknown, false
	}
}

// weak tells whether a session proved nothing, or with what anybody on the way
// could have read.
func weak(s *posture.Server, c *posture.Session, login posture.Login) bool {
	if c.Unintroduced {
		return s.AuthRequired == posture.No && !c.PeerCert
	}
	switch login {
	case posture.LoginNone, posture.LoginName:
		return !c.PeerCert
	case posture.LoginToken, posture.LoginBearer:
		return true
	case posture.LoginPassword:
		return encrypted(s, c) == posture.No
	case posture.LoginNKey:
		return s.AuthRequired == posture.No && !c.PeerCert // nobody has checked it
	case posture.LoginUnknown, posture.LoginJWT, posture.LoginCertificate:
	}
	return c.Anonymous
}

// encrypted tells whether a session has TLS: what its server says of it, or
// else what its door demands.
func encrypted(s *posture.Server, c *posture.Session) posture.Tri {
	if c.Encrypted != posture.Unseen {
		return c.Encrypted
	}
	d := s.Door(c.Door)
	switch {
	case d == nil:
		return posture.Unseen
	case d.TLS.Required == posture.Yes:
		return posture.Yes
	case d.TLS.On == posture.No:
		return posture.No
	default:
		return posture.Unseen
	}
}

// host is the address of a client without its port, which is another one for
// each connection.
func host(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil {
		return ap.Addr().Unmap().String()
	}
	if i := strings.LastIndex(address, ":"); i >= 0 {
		return strings.Trim(address[:i], "[]")
	}
	return address
}
