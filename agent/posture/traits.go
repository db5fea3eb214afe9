package posture

// What is known of a server's configuration beside its doors. VARZ shows none of
// it directly; Unseen is the answer wherever it cannot be concluded. A configuration
// that is here needs no conclusions.

// HasNoAuthUser tells whether the server takes clients without credentials for a
// user of its own: by no_auth_user, or by the hidden user, which is made of it.
func (s *Server) HasNoAuthUser() Tri {
	if s.Config != nil {
		return s.Config.Traits.NoAuthUser
	}
	client := s.Door(Client)
	switch {
	case !s.Heard.Has(Varz) || client == nil:
		return Unseen
	case s.AuthMode == AuthNone || s.AuthMode == AuthOperator:
		return No // it needs users in the configuration file
	case s.noAuthUserSuspected() || client.Cause == CauseNoAuthUser || client.Cause == CauseHiddenUser:
		return Yes
	case s.refusedStrangers(client) && s.infoAsks():
		return No // INFO would not ask for credentials, but for the hidden user, who would be let in
	default:
		return Unseen
	}
}

// RefusesNoAuthUser tells whether there is a no_auth_user that a port refuses all
// the same: one that is limited to other kinds of connection.
func (s *Server) RefusesNoAuthUser() Tri {
	if s.Config != nil {
		return s.Config.Traits.RefusesNoAuthUser
	}
	has := s.HasNoAuthUser()
	if has != Yes {
		return has
	}
	if s.Door(Client).Cause == CauseHiddenUser {
		return No // it may use every port
	}
	for _, t := range s.touches(Client) {
		if t.Unintroduced {
			return Yes // refused, until it did not say who it is
		}
	}
	return Unseen
}

// OnlySystemAccount tells whether there is no account beside the system's and the
// global one, which is where servers make their hidden user, and strangers have not
// been refused all the same.
func (s *Server) OnlySystemAccount() Tri {
	if s.Config != nil {
		return s.Config.Traits.OnlySystemAccount
	}
	client := s.Door(Client)
	switch {
	case !s.Heard.Has(Varz) || client == nil:
		return Unseen
	case s.AuthMode != AuthStatic || s.refusedStrangers(client):
		return No
	case s.Accounts == nil:
		return Unseen
	default:
		return TriOf(s.hiddenUserPossible())
	}
}

// MapsCertificates tells whether a listener takes a client certificate for a user.
func (s *Server) MapsCertificates() Tri {
	if s.Config != nil {
		return s.Config.Traits.MapsCertificates
	}
	for _, list := range [][]Session{s.Sessions.List, s.Everyone.List} {
		for i := range list {
			if list[i].Login == LoginCertificate {
				return Yes
			}
		}
	}
	answer := No
	for i := range s.Doors {
		switch d := &s.Doors[i]; d.Kind {
		case Websocket, MQTT:
			if d.TLSMap {
				return Yes
			}
		case Client, Leafnode:
			if d.On != No && d.TLS.Verify != No {
				answer = Unseen
			}
		case Route, Gateway, Monitor, Profile, NoDoor:
		}
	}
	if !s.Heard.Has(Varz) {
		return Unseen
	}
	return answer
}

// refusedStrangers: a stranger was turned away, and not for want of a certificate.
func (s *Server) refusedStrangers(d *Door) bool {
	return d.Basis == Proven && d.Access == Closed && !s.refusedByTLS()
}

// infoAsks: the client port's INFO asks for credentials.
func (s *Server) infoAsks() bool {
	for _, t := range s.touches(Client) {
		if t.AuthRequired == Yes {
			return true
		}
	}
	return false
}
