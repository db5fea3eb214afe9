package posture

// Signs is what CONNZ tells of a session's login beside its user.
type Signs struct {
	Waits   bool   // it came just now, and may not have been let in yet
	Token   bool   // its user was a token
	Hidden  bool   // its user was left out: it may have been a token
	UserKey bool   // its user is the public key of a user
	Issuer  bool   // it has an issuer: an nkey, a JWT or a callout let it in
	Subject string // of its TLS client certificate
}

// Identify settles how a session came in, as far as CONNZ tells, and drops what
// is merely claimed: CONNZ shows what a client has sent, also where the server
// did not look at it. A JWT counts in operator mode only, an nkey only with its
// issuer, and no name on a server that asks nobody.
//
// What stays unknown: clients that are not let in yet, or have sent no CONNECT; users that a callout let in, who have the name that it, or
// they themselves, chose; a bearer who sends a user's name as well; names beside
// a certificate that may be mapped, or not; leafnodes, which the server itself
// may have asked for. What looks like a password: the no_auth_user, a user whose
// password is empty, and a token that comes with a name.
func Identify(s *Server, c *Session, w Signs) {
	if s.AuthMode != AuthOperator || c.Claim != nil && c.Claim.Account != c.Account {
		c.Claim = nil
	}
	if c.Claim != nil {
		c.User, c.Login = c.Claim.Key, LoginJWT
		if c.Claim.Bearer {
			c.Login = LoginBearer
		}
		return
	}
	c.Login = s.loginOf(c, w)
}

func (s *Server) loginOf(c *Session, w Signs) Login {
	open := s.AuthRequired == No
	switch {
	case c.Unintroduced:
		return LoginUnknown
	case s.AuthRequired == Unseen || s.AuthMode == AuthUnknown || c.Door == NoDoor || c.Door == Leafnode:
		return LoginUnknown
	case s.AuthMode == AuthOperator && w.UserKey && w.Issuer:
		return LoginBearer // its JWT is not shown
	case s.AuthMode == AuthOperator:
		return LoginUnknown
	case w.UserKey && w.Issuer:
		return LoginNKey
	case w.Issuer || w.UserKey && !open:
		return LoginUnknown
	case w.Waits && !open && (c.Account == GlobalAccount || c.Account == ""):
		return LoginUnknown // everybody is there until he is let in
	case open && c.User == "":
		return LoginNone
	case open && c.Door == Client:
		return LoginName
	case open || c.User == "" || w.Hidden:
		return LoginUnknown // websocket and MQTT may have users of their own; others are not in yet
	case w.Token:
		return LoginToken
	case IsHiddenUser(c.User, c.Account):
		return LoginNone
	case c.PeerCert:
		return s.byCertificate(c, w.Subject)
	default:
		return LoginPassword
	}
}

// byCertificate: the name of who showed a certificate is the certificate's, if
// certificates are mapped there.
func (s *Server) byCertificate(c *Session, subject string) Login {
	switch door := s.Door(c.Door); {
	case c.User == subject:
		return LoginCertificate
	case c.Door == Client || door == nil:
		return LoginUnknown // a certificate has other names that CONNZ does not show
	case door.TLSMap:
		return LoginCertificate
	default:
		return LoginPassword
	}
}

// Owner tells to whom of its account a session belongs: a name of the
// configuration or a user's public key. ok is false where the server has made
// nobody prove a name: then a session has none, whatever it calls itself, and a
// token is a name of nobody.
func (c *Session) Owner() (user string, ok bool) {
	switch c.Login {
	case LoginPassword, LoginNKey, LoginJWT, LoginCertificate:
		return c.User, c.User != ""
	case LoginBearer:
		// Where his JWT is not shown, CONNZ shows the key that he claims.
		if c.Claim != nil {
			return c.User, true
		}
		return "", false
	default:
		return "", false
	}
}
