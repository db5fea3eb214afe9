package posture

import (
	"slices"
	"strconv"
	"time"
)

// Judge weighs all evidence that $SYS gives about a server and settles the
// access of each of its doors. It is called while the server is put together,
// before it is published in a snapshot.
//
// What a server says of itself is known to be wrong in both directions
// (auth_required is true on servers that let strangers in), so on its word
// alone Judge never says more than "closed, as reported": proof takes a touch.
func Judge(s *Server) {
	if !s.Heard.Has(Varz) {
		s.judgeByTouch()
		return
	}
	for i := range s.Sessions.List {
		classify(s, &s.Sessions.List[i])
	}
	for i := range s.Doors {
		d := &s.Doors[i]
		d.Evidence, d.Cause, d.Landing, d.Reason = nil, "", nil, ""
		d.Reached = s.reached(d.Kind)
		if d.Kind == Client {
			d.Claimed = s.claimed()
		}
		if d.On == No {
			d.Access, d.Basis = Off, Reported
			continue
		}
		s.gather(d)
		d.decide()
		s.doubtMQTT(d)
		s.explain(d)
	}
}

// claimed reports whether the client port takes addresses from what clients send:
// only the greeting of a touch shows that.
func (s *Server) claimed() Tri {
	for _, t := range s.touches(Client) {
		if t.ServerID == s.ID && t.Claimed != Unseen {
			return t.Claimed
		}
	}
	return Unseen
}

// doubtMQTT: the websocket port leads to the same MQTT server, at a path that is
// not touched. Nobody is asked for a certificate there unless by the websocket's
// own TLS, and a no_auth_user may be limited to that way.
func (s *Server) doubtMQTT(d *Door) {
	ws := s.Door(Websocket)
	if d.Kind != MQTT || d.Access != Closed || ws == nil || ws.On != Yes {
		return
	}
	if s.noAuthUserSuspected() || slices.ContainsFunc(s.touches(MQTT), func(t *Touch) bool { return t.CertAsked }) {
		d.Access, d.Basis = Unknown, Reported
		why := Evidence{Basis: Reported, Source: "the websocket port", Value: "its path /mqtt leads to the same users, and is not touched"}
		d.Evidence = slices.Insert(d.Evidence, 0, why)
	}
}

// judgeByTouch judges a server that did not answer VARZ: only touches speak.
func (s *Server) judgeByTouch() {
	for i := range s.Doors {
		d := &s.Doors[i]
		d.Access, d.Basis, d.Cause, d.Landing, d.Evidence = Unknown, NoBasis, "", nil, nil
		d.Reason = s.unheard()
		if d.Reached = s.reached(d.Kind); d.Reached != "" && d.On == Unseen {
			d.On = Yes // its VARZ has never told
		}
		if len(s.touches(d.Kind)) > 0 {
			s.gatherTouches(d)
			d.decide()
			s.doubtMQTT(d)
			s.explain(d)
		}
	}
}

// unheard is why nothing is known of the listeners of a server.
func (s *Server) unheard() string {
	switch s.State {
	case LameDuck:
		return "the server is shutting down (lame-duck mode): it accepts no new clients"
	case ShutDown:
		return "the server has shut down"
	case Silent, Answering, Foreign:
	}
	return "the server did not answer VARZ"
}

// gather collects the evidence about one door.
func (s *Server) gather(d *Door) {
	switch d.Kind {
	case Client:
		s.gatherClient(d)
	case Websocket, MQTT:
		s.gatherOverridable(d)
	case Monitor:
		d.add(Reported, Open, "VARZ http_port, https_port", d.Address()+": monitoring never asks for credentials")
	case Profile:
		// VARZ is silent about profiling.
	case Leafnode, Route, Gateway:
		// VARZ shows these listeners, but not who may join.
	case NoDoor:
	}
	s.gatherTouches(d)
	for _, c := range s.Sessions.Anonymous(d.Kind) {
		d.add(Observed, Open, "CONNZ cid "+strconv.FormatUint(c.CID, 10), c.Why)
		break // one is proof enough; the sessions themselves are told elsewhere
	}
}

func (s *Server) gatherClient(d *Door) {
	source := "VARZ auth_required"
	switch {
	case s.AuthRequired == Yes && s.AuthMode == AuthStatic && s.hiddenUserPossible():
		d.add(Reported, Closed, source, "true")
		d.add(Reported, Unknown, "ACCOUNTZ", "only "+GlobalAccount+" and the system account exist: a hidden user may let strangers in")
	case s.AuthRequired == Yes:
		d.add(Reported, Closed, source, "true")
	case s.AuthRequired == No && d.TLS.Verify == Yes && d.TLS.Required == Yes:
		d.add(Reported, Closed, "VARZ tls_required, tls_verify", "true: a certificate is asked for, but nobody's name")
	case s.AuthRequired == No && d.TLS.Verify == Yes:
		d.add(Reported, Open, "VARZ auth_required, tls_required", "absent, with tls_verify: plaintext is let in without a certificate")
	case s.AuthRequired == No:
		d.add(Reported, Open, source, "absent")
	}
}

// hiddenUserPossible: the server makes its hidden user only when there is no
// other account beside the system's and the global one.
func (s *Server) hiddenUserPossible() bool {
	if len(s.Accounts) != 2 {
		return false
	}
	for _, a := range s.Accounts {
		if a != GlobalAccount && a != s.SystemAccount {
			return false
		}
	}
	return true
}

// gatherOverridable judges websocket and MQTT: the client door's
// authentication holds unless the door has one of its own. VARZ shows only
// a no_auth_user and a tls_map of the door's own.
func (s *Server) gatherOverridable(d *Door) {
	word := d.Kind.String()
	if d.NoAuthUser != "" {
		d.add(Reported, Open, "VARZ "+word+".no_auth_user", d.NoAuthUser)
		if d.TLS.On == Yes {
			d.Evidence[len(d.Evidence)-1].Access = Unknown
			d.Evidence[len(d.Evidence)-1].Value += "; behind TLS, of which VARZ does not show whether it asks for client certificates"
		}
		return
	}
	s.gatherInherited(d, word)
}

func (d *Door) add(b Basis, a Access, source, value string) {
	d.Evidence = append(d.Evidence, Evidence{Basis: b, Access: a, Source: source, Value: value})
}

// explain adds to a settled access what follows from it: the cause and the
// landing of an open door, the reason of an unknown one.
func (s *Server) explain(d *Door) {
	switch d.Access {
	case Open:
		d.Cause, d.Landing = s.cause(d)
	case Unknown:
		d.Reason = s.unknownReason(d)
	case Closed:
		if s.certificateOnly(d) {
			d.Cause = CauseCertificateOnly
		}
	case Off:
	}
}

func (s *Server) unknownReason(d *Door) string {
	for _, t := range s.touches(d.Kind) {
		if t.Reason != "" {
			return "touched, without a verdict: " + t.Reason
		}
	}
	for _, e := range d.Evidence {
		if e.Access == Unknown {
			return e.Source + ": " + e.Value
		}
	}
	if d.Kind == Profile {
		return "no $SYS answer shows prof_port"
	}
	return "no $SYS answer shows who may join through this door"
}

// Compare notes on a judged server what changed since the last snapshot: a
// configuration that was loaded or replaced since, with the posture before and
// after. prev may be nil.
//
// A reload is not done at once. The new digest, and then auth_required, show while a
// server still checks its clients, which may take minutes; the load time moves last.
// Until then nothing has changed, and what was before is remembered.
func Compare(s, prev *Server, now time.Time) {
	if prev == nil {
		return
	}
	before := prev.settled()
	s.Settled, s.Change = &before, prev.Change
	switch {
	case !s.Heard.Has(Varz):
		s.Loading = prev.Loading
	case prev.ConfigLoaded.IsZero():
	case prev.ID == s.ID && prev.ConfigLoaded.Equal(s.ConfigLoaded):
		s.Loading = prev.Loading || prev.ConfigMark != s.ConfigMark || prev.AuthRequired != s.AuthRequired && prev.AuthRequired != Unseen
	case prev.ID != s.ID && (prev.ConfigMark == s.ConfigMark || prev.ConfigMark == 0 || s.ConfigMark == 0):
		// A restart with the same file, as far as that is shown.
	default:
		s.Change = &Change{Seen: now, Loaded: s.ConfigLoaded, Before: before, After: s.Summary()}
	}
}

// settled is the posture as it was last known, before a reload that is under way.
func (s *Server) settled() Summary {
	switch {
	case s.Settled == nil:
		return s.Summary()
	case s.Loading || !s.Complete || !s.Heard.Has(Varz):
		return *s.Settled
	}
	out := Summary{AuthMode: s.AuthMode}
	for i := range s.Doors {
		d := &s.Doors[i]
		if d.Pending {
			out.put(d.Kind, s.Settled.access(d.Kind))
		} else if d.Access != Unknown || d.On == Yes {
			out.put(d.Kind, d.Access)
		}
	}
	return out
}
