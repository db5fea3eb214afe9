package posture

import (
	"strings"
	"time"
)

// Touch is what one harmless anonymous handshake on one door brought.
type Touch struct {
	Door    DoorKind
	Path    string // of a websocket or of HTTP monitoring
	Address string // that was dialled
	From    string // who gave the address; see Address
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
	Claimed      Tri // addresses are what clients claim: a client port's INFO has no client_ip, where its release shows one
	TLSOffered   Tri // INFO tls_available: plaintext is let in as well
	Encrypted    bool
	CertAsked    bool // the TLS handshake asked for a client certificate
	TLSFailed    bool // TLS ended without a clear word
	TimedOut     bool // no clear answer came in time
	Nameless     bool // something answered over HTTP that did not show to be the server

	Landing *Landing

	Dialed bool  // a connection came about
	Failed []Try // the tries that decided nothing, this one among them if it did not either
}

// Try is an attempt to reach a listener that decided nothing.
type Try struct {
	Address string
	From    string // who gave the address
	Dialed  bool   // a connection came about
	Reason  string
}

// Unreachable begins the reason of a touch for which no connection came about.
const Unreachable = "cannot be reached from here: "

// Evidence is a try as evidence. It decides nothing.
func (t *Try) Evidence() Evidence {
	e := Evidence{Source: "dial " + t.Address, Value: strings.TrimPrefix(t.Reason, Unreachable)}
	if t.Dialed {
		e.Source = "touch of " + t.Address
	}
	if t.From != "" {
		e.Value += " (the address is from " + t.From + ")"
	}
	return e
}

// Tried tells whether evidence is a try that decided nothing.
func (e *Evidence) Tried() bool { return e.Basis == NoBasis && e.Access == Unknown }

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

// reached is where a listener has answered, under the id of its server.
func (s *Server) reached(kind DoorKind) string {
	for i := range s.Touches {
		if t := &s.Touches[i]; t.Door == kind && t.ServerID != "" && t.ServerID == s.ID {
			return t.Address
		}
	}
	return ""
}

// gatherTouches adds what touches have proven about a door.
func (s *Server) gatherTouches(d *Door) {
	for _, t := range s.touches(d.Kind) {
		source := "touch"
		switch {
		case t.Door != d.Kind:
			source = "touch of websocket " + t.Path
		case d.elsewhere(t.Address):
			source = "touch of " + t.Address
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
		for i := range t.Failed {
			d.Evidence = append(d.Evidence, t.Failed[i].Evidence())
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
