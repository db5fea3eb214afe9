package posture

import "time"

// Touch is what one harmless anonymous handshake on one door brought.
type Touch struct {
	Door    DoorKind
	Path    string // of a websocket or of HTTP monitoring
	Address string // that was dialled
	At      time.Time
	Took    time.Duration
	Sent    int // bytes
	Read    int // bytes

	Access Access
	Reason string // why the access is unknown
	Answer string // the word that decided: "PONG", "-ERR 'Authorization Violation'"

	Unintroduced bool // it was let in without a CONNECT, after it was refused with one

	// What the door said of itself before.
	ServerID     string
	ServerName   string
	CID          uint64 // of the connection, at a server's client and websocket ports
	Version      string
	AuthRequired Tri // INFO auth_required; no proof in either direction
	TLSRequired  Tri
	TLSOffered   Tri // INFO tls_available: plaintext is let in as well
	Encrypted    bool
	CertAsked    bool // the TLS handshake asked for a client certificate
	TLSFailed    bool // TLS ended without a clear word
	Nameless     bool // something answered over HTTP that did not show to be the server

	Landing *Landing
}

// LeafnodePath is the websocket path behind which a leafnode door of its own
// lies.
const LeafnodePath = "/leafnode"

// Kind is the door that a touch speaks of: a leafnode's, where the websocket
// leads to one.
func (t *Touch) Kind() DoorKind {
	if t.Door == Websocket && t.Path == LeafnodePath {
		return Leafnode
	}
	return t.Door
}

// touches lists the touches that speak of a door.
func (s *Server) touches(kind DoorKind) []*Touch {
	var out []*Touch
	for i := range s.Touches {
		if t := &s.Touches[i]; t.Kind() == kind {
			out = append(out, t)
		}
	}
	return out
}

// gatherTouches adds what touches have proven about a door.
func (s *Server) gatherTouches(d *Door) {
	for _, t := range s.touches(d.Kind) {
		source := "touch"
		if t.Door != d.Kind {
			source = "touch of websocket " + t.Path
		}
		switch {
		case t.Door != Client || t.AuthRequired == Unseen:
		case t.AuthRequired == Yes:
			d.add(Reported, Closed, "INFO auth_required", "true")
		case s.AuthRequired == Yes:
			d.add(Reported, Unknown, "INFO auth_required", "absent, unlike VARZ: a no_auth_user")
		default:
			d.add(Reported, Open, "INFO auth_required", "absent")
		}
		switch {
		case t.Access == Open || t.Access == Closed:
			d.add(Proven, t.Access, source, t.Answer)
		case t.TLSFailed, t.Nameless:
			// Something in TLS or in front of the server keeps anonymous clients
			// out, or was a mishap: the server's own word that it asks nobody
			// does not hold any more. A doubt proves nothing, so it yields to a
			// session that was seen.
			d.add(Inferred, Unknown, source, t.Reason)
		}
	}
}

// certificateOnly: the door turned a stranger away for want of a certificate,
// and nothing says that it asks for more than one.
func (s *Server) certificateOnly(d *Door) bool {
	if d.Kind == Client {
		return s.AuthRequired == No
	}
	for _, t := range s.touches(d.Kind) {
		if t.CertAsked && (d.Kind == Websocket && s.AuthRequired == No) {
			return true
		}
	}
	return false
}
