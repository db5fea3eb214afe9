package posture

import (
	"regexp"
	"time"
)

// ProbeName is what every touch calls itself.
const ProbeName = "natsentry-probe"

// touchLife is how old a session of that name may be to be a touch: they last
// seconds, and clocks differ.
const touchLife = time.Minute

// Redacted stands for a user that is a secret, in CONNZ as in what is kept of it.
const Redacted = "[REDACTED]"

// GlobalAccount is where clients land that no configuration placed elsewhere.
const GlobalAccount = "$G"

// Login is how somebody has shown who he is.
type Login uint8

// The values of Login.
const (
	LoginUnknown Login = iota
	LoginNone          // not at all
	LoginName          // a name that is merely claimed: the server asks nobody
	LoginToken
	LoginPassword // or what looks like one: see Identify
	LoginNKey
	LoginJWT
	LoginBearer      // a JWT without a signature, or a sentinel
	LoginCertificate // mapped from a TLS certificate
)

var loginNames = [...]string{
	LoginUnknown: "unknown", LoginNone: "none", LoginName: "name", LoginToken: "token", LoginPassword: "password",
	LoginNKey: "nkey", LoginJWT: "jwt", LoginBearer: "bearer", LoginCertificate: "certificate",
}

func (l Login) String() string { return name(loginNames[:], l) }

// MarshalText writes the word that reports use.
func (l Login) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the word that reports use.
func (l *Login) UnmarshalText(text []byte) error { return parse(loginNames[:], l, "login", text) }

// Session is a connection that a server listed.
type Session struct {
	CID        uint64
	Door       DoorKind // the listener it came in through; NoDoor for a kind we do not judge. In Everyone a leafnode may be one that this server asked for
	Name       string   // as the client calls itself
	Address    string   // ip:port as the server saw it
	Lang       string
	Version    string // of the client library
	User       string // authorized_user with secrets removed; on an open server merely claimed
	Account    string
	Since      time.Time
	Anonymous  bool   // it came in without proving anything
	Why        string // what shows that it is anonymous
	HiddenUser bool   // it is logged in as the server's hidden user
	PeerCert   bool   // it showed a TLS client certificate

	// Unintroduced: the server lists nothing that a CONNECT brings, and nothing that
	// came after it. The client may not have sent one yet.
	Unintroduced bool

	Login     Login      // how it came in, as far as the server tells
	Encrypted Tri        // whether its connection has TLS
	Claim     *UserClaim // of JWT users, where the server shows it
	Ours      bool       // it is the connection over which the server was asked, or a touch
}

// Sessions is what is known of who is inside a server.
type Sessions struct {
	At    time.Time // when the server was asked; zero when it was not
	Total int       // sessions, as the server counts them
	List  []Session // of those, the ones that were looked at
}

// Touch tells whether a session is a touch of ours, by its name, which anybody
// may take, and its age: who takes the name to hide does so for a minute.
func (c *Session) Touch(at time.Time) bool {
	return c.Name == ProbeName && at.Sub(c.Since) < touchLife
}

// Anonymous lists the sessions of one door that came in without proving
// anything.
func (s *Sessions) Anonymous(door DoorKind) []Session {
	var out []Session
	for _, c := range s.List {
		if c.Anonymous && c.Door == door {
			out = append(out, c)
		}
	}
	return out
}

// hiddenUser is the name of the user that a server makes up when only its
// system account has users: "nats-" and eight characters (nats-server
// server.go, configureAccounts).
var hiddenUser = regexp.MustCompile(`^nats-[0-9A-Za-z]{8}$`)

// IsHiddenUser tells whether a session's user is the server's own hidden user.
func IsHiddenUser(user, account string) bool {
	return (account == "" || account == GlobalAccount) && hiddenUser.MatchString(user)
}

// classify says of a session whether it came in without proving anything. A
// session about which nothing certain can be said stays as it is.
func classify(s *Server, c *Session) {
	c.Anonymous, c.HiddenUser, c.Why = false, false, ""
	switch door := s.Door(c.Door); {
	case c.Touch(s.Sessions.At):
	case c.Door == NoDoor || door == nil:
		// A leafnode may be one that this server itself asked for, and other
		// kinds are no clients: their credentials do not show here.
	case IsHiddenUser(c.User, c.Account) && s.AuthRequired == Yes && s.AuthMode != AuthOperator:
		c.Anonymous, c.HiddenUser = true, true
		c.Why = "logged in as the hidden user " + c.User
	case s.AuthRequired != No || c.PeerCert:
		// Some proof was asked for, or shown.
	case c.Door == Client:
		c.Anonymous = true
		c.Why = "the server asks nobody for credentials"
	case c.User == "":
		// Websocket and MQTT may have an authentication of their own that
		// VARZ does not show; then the session has a user.
		c.Anonymous = true
		c.Why = "no user, and the server asks nobody for credentials"
	}
}
