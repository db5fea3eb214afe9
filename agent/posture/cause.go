package posture

// cause says what lets strangers in through an open door, as far as the
// evidence can tell, and where they land.
func (s *Server) cause(d *Door) (Cause, *Landing) {
	switch d.Kind {
	case Monitor:
		return CauseNeverAsks, nil
	case Route:
		return CauseNoRouteAuth, nil
	case Gateway:
		return CauseNoGatewayAuth, nil
	case Leafnode:
		return s.leafCause(), nil
	case Websocket, MQTT:
		if d.NoAuthUser != "" {
			return overrideCause(d.Kind), s.landing(d, &Landing{User: d.NoAuthUser})
		}
		if s.AuthRequired == No {
			return CauseInherits, s.landing(d, &Landing{Account: GlobalAccount})
		}
	case Client, Profile, NoDoor:
	}
	return s.clientCause(d)
}

func overrideCause(kind DoorKind) Cause {
	if kind == MQTT {
		return CauseMQTTNoAuthUser
	}
	return CauseWSNoAuthUser
}

func (s *Server) leafCause() Cause {
	if s.AuthRequired == No {
		return CauseInherits
	}
	return CauseLeafNoAuth
}

// clientCause also speaks of websocket doors that took the client door's way.
func (s *Server) clientCause(d *Door) (Cause, *Landing) {
	global := &Landing{Account: GlobalAccount}
	landing := s.landing(d, nil)
	anonymous := s.Sessions.Anonymous(d.Kind)
	switch {
	case landing != nil && IsHiddenUser(landing.User, landing.Account) && s.AuthRequired == Yes && s.AuthMode == AuthStatic:
		return CauseHiddenUser, landing
	case len(anonymous) > 0 && anonymous[0].HiddenUser:
		return CauseHiddenUser, &Landing{Account: GlobalAccount, User: anonymous[0].User}
	case s.AuthRequired == No && d.TLS.Verify == Yes:
		return CauseAllowNonTLS, s.landing(d, global)
	case s.AuthRequired == No && s.NoConfigFile == Yes:
		return CauseNoConfig, s.landing(d, global)
	case s.AuthRequired == No:
		return CauseNoAuthBlock, s.landing(d, global)
	case s.AuthRequired == Unseen:
		return s.strangersCause(d, landing), landing
	case d.Basis < Proven:
		return CauseAnonymousSeen, nil
	case s.AuthMode == AuthOperator:
		return CauseOperatorAdmits, landing
	case s.noAuthUserSuspected():
		return CauseNoAuthUser, landing
	case landing != nil && landing.User != "":
		return CauseCalloutAdmits, landing
	default:
		return CauseAnonymousAdmitted, landing
	}
}

// strangersCause is what a stranger can tell of the cause: INFO, and where he
// landed.
func (s *Server) strangersCause(d *Door, landing *Landing) Cause {
	asks := Unseen
	for _, t := range s.touches(d.Kind) {
		asks = max(asks, t.AuthRequired)
	}
	switch {
	case landing != nil && IsHiddenUser(landing.User, landing.Account):
		return CauseHiddenUser
	case d.Kind != Client:
		return "" // it may have authentication of its own
	case asks == No && landing != nil && landing.User != "":
		return CauseNoAuthUser
	case asks == No && landing != nil:
		return CauseNoAuthBlock
	case asks == Yes:
		return CauseAnonymousAdmitted
	default:
		return ""
	}
}

// landing is where the touch landed, or else what is known without one.
func (s *Server) landing(d *Door, otherwise *Landing) *Landing {
	for _, t := range s.touches(d.Kind) {
		if t.Access == Open && t.Landing != nil {
			if t.Landing.Account == "" && otherwise != nil {
				return &Landing{Account: otherwise.Account, User: otherwise.User, Restricted: t.Landing.Restricted}
			}
			return t.Landing
		}
	}
	return otherwise
}
