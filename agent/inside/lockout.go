package inside

import (
	"fmt"

	"github.com/natsentry/natsentry/agent/posture"
)

// Verdict is what becomes of a session under a candidate.
type Verdict uint8

// The values of Verdict. What cannot be known is neither kept nor rejected.
const (
	Unknown Verdict = iota
	Kept
	Rejected
)

var verdictNames = [...]string{Unknown: "unknown", Kept: "kept", Rejected: "rejected"}

func (v Verdict) String() string { return verdictNames[min(int(v), len(verdictNames)-1)] }

// MarshalText writes the word that reports use.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// Prediction is what becomes of the sessions of a group once their server, and
// whoever else they could go to, runs with the candidate.
type Prediction struct {
	Group
	Verdict Verdict `json:"verdict"`
	Why     string  `json:"why"`
	Lingers bool    `json:"lingers"` // of the rejected: a reload may leave it connected, until it comes back by itself
}

// answer is a verdict with its reason.
type answer struct {
	verdict Verdict
	why     string
}

func kept(format string, a ...any) answer     { return answer{Kept, fmt.Sprintf(format, a...)} }
func rejected(format string, a ...any) answer { return answer{Rejected, fmt.Sprintf(format, a...)} }
func unknown(format string, a ...any) answer  { return answer{Unknown, fmt.Sprintf(format, a...)} }

// Lockout predicts what becomes of everybody who is inside some servers of a
// fleet: clients, leafnodes, and the routes and gateways that are not kept.
//
// A client is taken to bring one kind of credentials, the one that its server
// shows. What nats-server would do is in its auth.go, processClientOrLeafAuthentication
// and isLeafNodeAuthorized; the order of the questions here is the one there.
func (c *Candidate) Lockout(servers, fleet []*posture.Server) []Prediction {
	var out []Prediction
	for _, s := range servers {
		for _, g := range groupsOf(s) {
			a := c.client(&g)
			if a.verdict == Kept {
				a = c.transport(s, &g, a)
			}
			out = append(out, Prediction{g, a.verdict, a.why, a.verdict == Rejected && c.keepsUsers(s)})
		}
		out = append(out, c.peers(s, servers, fleet)...)
	}
	return out
}

// door is a listener of the candidate; of a plan it is the one of today.
func (c *Candidate) door(kind posture.DoorKind) (d Door, on bool) {
	if c.Kind != FromFile {
		return Door{}, true
	}
	d, on = c.Doors[kind]
	return d, on
}

// keepsUsers: nats-server does not forget its users when a reload puts a token
// or a single user in their place (auth.go, configureAuthorization). Whoever is
// logged in as one of them stays, and so does whoever was taken for one.
func (c *Candidate) keepsUsers(s *posture.Server) bool {
	return s.AuthMode == posture.AuthStatic && (c.Token || c.User != "" || c.Kind == PlanUsers) && len(c.Users) == 0 && len(c.NKeys) == 0
}

// client judges sessions of client, websocket and MQTT doors.
func (c *Candidate) client(g *Group) answer {
	d, on := c.door(g.Door)
	if !on {
		return rejected("there is no %s listener any more", g.Door)
	}
	l := login{c: c, silent: g.silent, door: g.Door, brings: g.brings, user: g.User, checked: g.checked, taken: g.taken, noAuthUser: c.NoAuthUser, single: c.User, token: c.Token, mapped: d.Map}
	override := (g.Door == posture.Websocket || g.Door == posture.MQTT) && d.overrides()
	if !c.AuthRequired && !override && !c.Callout {
		return kept("nobody is asked for credentials")
	}
	if override {
		l.noAuthUser, l.single, l.token = d.NoAuthUser, d.User, d.Token
	}
	return l.judge()
}

// login is somebody at a door of the candidate, and what he is asked there.
type login struct {
	c          *Candidate
	door       posture.DoorKind
	brings     posture.Login
	user       string
	checked    bool
	taken      bool // he may have brought nothing
	noAuthUser string
	single     string // the one user
	token      bool
	mapped     bool // certificates are mapped to users
	silent     bool // it has sent no CONNECT
	unguarded  bool // it is a leafnode, and lets in those whose credentials it does not look up
}

func (l *login) judge() answer {
	switch {
	case l.c.Callout:
		return unknown("the auth callout decides, and nobody can ask it beforehand")
	case l.silent:
		return unknown("it has not introduced itself: what credentials it will bring cannot be seen")
	case l.brings == posture.LoginUnknown:
		return unknown("its server does not show what credentials it brings")
	case l.c.Operator:
		return l.operator()
	case l.brings == posture.LoginCertificate:
		return unknown("its certificate is mapped to a user today; whether it will be cannot be seen")
	case l.brings == posture.LoginJWT || l.brings == posture.LoginBearer:
		return l.jwt()
	case l.c.Kind == PlanUsers && l.brings == posture.LoginName:
		return unknown("it claims to be %s; kept only if there will be such a user and it has the right password, which cannot be seen", l.user)
	case l.c.Kind == PlanNKey && l.brings == posture.LoginNKey:
		return unknown("it claims the nkey %s; kept only if that key will be listed", short(l.user))
	}
	return l.static()
}

// static: users, nkeys or a token in the configuration.
func (l *login) static() answer {
	c := l.c
	if len(c.NKeys) > 0 {
		switch u, listed := c.NKeys[l.user]; {
		case l.brings == posture.LoginNone && l.noAuthUser != "" && c.isNKey(l.noAuthUser):
			u := c.NKeys[l.noAuthUser]
			return l.through(&u, short(l.noAuthUser))
		case l.brings != posture.LoginNKey:
		case !listed:
			return rejected("it brings the nkey %s, which is not listed", short(l.user))
		case u.admits(l.door) == posture.No:
			return rejected("the nkey %s may not be used on %s", short(l.user), l.door)
		case u.Proxied:
			return unknown("the nkey %s must come through a trusted proxy", short(l.user))
		case !l.checked || u.admits(l.door) == posture.Unseen:
			return unknown("it claims the nkey %s, which is listed; kept if it has the seed, which no server has asked for yet", short(l.user))
		default:
			return kept("its nkey is listed")
		}
	}
	if len(c.Users) > 0 {
		if l.mapped {
			return unknown("certificates are mapped to users; whether it has one that fits cannot be seen")
		}
		if l.noAuthUser != "" && (l.brings == posture.LoginNone || l.brings == posture.LoginNKey && len(c.NKeys) == 0) {
			if u, ok := c.Users[l.noAuthUser]; ok {
				return l.through(&u, l.noAuthUser)
			}
		}
		if l.brings == posture.LoginName {
			return l.named(c.Users)
		}
	}
	switch {
	case l.unguarded:
		return kept("before 2.12.0 nats-server lets in every leafnode whose credentials it does not have to look up")
	case l.token && l.brings == posture.LoginToken:
		return unknown("it brings a token; kept only if that is the right one, which cannot be seen")
	case l.token && l.brings == posture.LoginName && l.door == posture.MQTT:
		return unknown("MQTT clients bring a token as their password, which cannot be seen")
	case l.single != "" && !l.token && l.brings == posture.LoginName && l.user == l.single:
		return unknown("it claims to be %s; kept only if it has the right password, which cannot be seen", l.user)
	}
	return l.refuse()
}

func (c *Candidate) isNKey(name string) bool { _, ok := c.NKeys[name]; return ok }

// through is whoever brings nothing and is taken for a user.
func (l *login) through(u *User, name string) answer {
	switch {
	case u.Hashed:
		// The server compares the hash with itself as a password.
		return rejected("no_auth_user %s has a hashed password, with which nats-server lets in nobody", name)
	case u.admits(l.door) == posture.No:
		return rejected("no_auth_user %s may not be used on %s", name, l.door)
	case u.admits(l.door) == posture.Unseen:
		return unknown("no_auth_user %s may be used either directly or over the websocket only", name)
	case u.Proxied:
		return unknown("no_auth_user %s must come through a trusted proxy", name)
	case posture.IsHiddenUser(name, u.Account):
		return kept("it brings no user name, token or nkey, and only the system account has users: then nats-server lets it in, and strangers too")
	default:
		return kept("it brings no user name, token or nkey, and is taken for no_auth_user: %s", u.landing(name))
	}
}

func (l *login) named(users map[string]User) answer {
	u, ok := users[l.user]
	switch {
	case !ok && l.noAuthUser != "" && l.taken:
		return l.perhapsNothing()
	case !ok && l.noAuthUser != "":
		return rejected("it brings the user name %s, which does not exist; no_auth_user is only for those who bring nothing", l.user)
	case !ok:
		return rejected("it brings the user name %s, which does not exist", l.user)
	case u.admits(l.door) == posture.No:
		return rejected("the user %s may not be used on %s", l.user, l.door)
	case l.checked:
		return unknown("it is logged in as %s today; kept only if the password there stays the same", l.user)
	default:
		return unknown("it claims to be %s; kept only if it has the right password, which cannot be seen", l.user)
	}
}

// perhapsNothing is somebody who has a name today, and no place for it; but may
// have it from a no_auth_user.
func (l *login) perhapsNothing() answer {
	return unknown("it is %s today, and there will be no such user; kept if it brings nothing and is taken for a no_auth_user already", l.user)
}

// operator: users need a JWT.
func (l *login) operator() answer {
	switch {
	case l.c.Sentinel:
		return unknown("whoever brings no JWT gets the default sentinel; what that may do its account decides")
	case l.brings == posture.LoginJWT || l.brings == posture.LoginBearer:
		return unknown("it has a JWT; whether its account is known and in force there is not looked at")
	case l.door == posture.MQTT && l.brings == posture.LoginName:
		return unknown("MQTT clients bring a JWT as their password, which cannot be seen")
	case l.door == posture.MQTT && l.brings == posture.LoginNone:
		return rejected("it brings nothing that could be a JWT")
	case l.brings == posture.LoginNone || l.brings == posture.LoginNKey || l.taken:
		return unknown("rejected unless it brings a JWT: a server without an operator throws that away, and nobody can see it")
	default:
		return l.refuse()
	}
}

// jwt is somebody who logs in with a JWT today, which a server without an
// operator throws away. What else he brings is hidden behind it.
func (l *login) jwt() answer {
	if l.noAuthUser == "" && !l.unguarded && len(l.c.NKeys) == 0 && l.c.Kind != PlanNKey {
		return rejected("it brings a JWT, which counts for nothing without an operator")
	}
	return unknown("it brings a JWT, which counts for nothing without an operator; what else it brings cannot be seen")
}

// refuse says why somebody fits nowhere.
func (l *login) refuse() answer {
	if l.taken && l.noAuthUser != "" {
		return l.perhapsNothing()
	}
	demands := l.demands()
	switch l.brings {
	case posture.LoginNone:
		return rejected("it brings no user name, token or nkey, and %s", demands)
	case posture.LoginToken:
		return rejected("it brings a token, and %s", demands)
	case posture.LoginNKey:
		return rejected("it brings the nkey %s, and %s", short(l.user), demands)
	default:
		return rejected("it brings the user name %s, and %s", l.user, demands)
	}
}

func (l *login) demands() string {
	switch {
	case l.c.Operator:
		return "a JWT is demanded"
	case l.token:
		return "a token is demanded"
	case l.single != "":
		return "the user " + l.single + " is demanded"
	case l.c.Kind == PlanNKey, len(l.c.Users) == 0 && len(l.c.NKeys) > 0:
		return "an nkey is demanded"
	default:
		return "a user and its password are demanded"
	}
}

// transport: who is let in with these credentials must also find the listener,
// and speak TLS where the candidate demands it.
func (c *Candidate) transport(s *posture.Server, g *Group, a answer) answer {
	d, _ := c.door(g.Door)
	today := s.Door(g.Door)
	switch {
	case d.Port != 0 && today != nil && today.On == posture.Yes && d.Port != today.Port:
		return unknown("the %s listener moves from port %d to %d, and whether it looks there cannot be seen; otherwise kept: %s", g.Door, today.Port, d.Port, a.why)
	case c.Kind == FromFile && !d.Offered && g.encrypted == posture.Yes:
		return unknown("the %s listener speaks no TLS any more, and whether it insists on that cannot be seen; otherwise kept: %s", g.Door, a.why)
	case d.TLS && g.encrypted != posture.Yes:
		return unknown("the %s listener demands TLS, and whether it can and trusts the certificate cannot be seen; otherwise kept: %s", g.Door, a.why)
	case d.Verify && !g.cert && (today == nil || today.TLS.Verify != posture.Yes):
		return unknown("the %s listener demands a client certificate, and whether it has one cannot be seen; otherwise kept: %s", g.Door, a.why)
	default:
		return a
	}
}

// short is a public key in a sentence.
func short(key string) string {
	if len(key) > 12 {
		return key[:8] + "…"
	}
	return key
}
