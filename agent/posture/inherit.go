package posture

import "fmt"

// gatherInherited judges a websocket or MQTT door by the client door, whose
// authentication holds there as long as the door has none of its own. VARZ
// shows only a no_auth_user and a tls_map of such a door; a username or token
// of its own stays hidden. The client door is judged before these.
func (s *Server) gatherInherited(d *Door, word string) {
	client := s.Door(Client)
	if client == nil || s.AuthRequired == Unseen {
		return
	}
	touched := client.Basis == Proven
	switch {
	case d.TLSMap:
		d.add(Reported, Unknown, "VARZ "+word+".tls_map", "true: certificates are mapped to users on this door")
	case client.Access == Open && d.TLS.On != No:
		d.add(Reported, Unknown, "VARZ "+word, "with TLS: VARZ does not show whether this listener verifies client certificates")
	case client.Access == Open && s.AuthRequired == No:
		d.add(Inferred, Unknown, "the client door", fmt.Sprintf("open, and so is this one unless the %s block has a user or token of its own, which VARZ does not show", word))
	case client.Access == Open:
		// Let in although the server asks for credentials: by a user that may
		// be limited to some kinds of connection.
		d.add(Reported, Unknown, "the client door", fmt.Sprintf("open through a user who may not be allowed on %s", word))
	case s.AuthRequired == No && d.TLS.On == No:
		d.add(Inferred, Unknown, "VARZ auth_required", fmt.Sprintf("absent, and the certificates that the client door asks for are not asked for here; VARZ does not show a user or token of the %s block's own", word))
	case s.AuthRequired == No:
		d.add(Reported, Unknown, "VARZ "+word, "with TLS: VARZ does not show whether this listener verifies client certificates")
	case touched && client.Access == Closed && s.noAuthUserSuspected():
		d.add(Reported, Unknown, "INFO auth_required", "absent although strangers are refused: a no_auth_user that may be limited to "+word)
	case touched && client.Access == Closed && !s.refusedByTLS():
		d.add(Inferred, Closed, "the client door", fmt.Sprintf("closed, and VARZ shows no %s.no_auth_user", word))
	default:
		// No stronger than what it rests on, so reported and not inferred.
		d.add(Reported, client.Access, "VARZ auth_required", fmt.Sprintf("true, and no %s.no_auth_user", word))
	}
}

// noAuthUserSuspected: VARZ says that credentials are required and INFO does
// not, which a no_auth_user does.
func (s *Server) noAuthUserSuspected() bool {
	for _, t := range s.touches(Client) {
		if t.AuthRequired == No && s.AuthRequired == Yes {
			return true
		}
	}
	return false
}

// refusedByTLS: the client door turned a stranger away before asking for
// credentials, so that nothing is known about those.
func (s *Server) refusedByTLS() bool {
	for _, t := range s.touches(Client) {
		if t.CertAsked {
			return true
		}
	}
	return false
}
