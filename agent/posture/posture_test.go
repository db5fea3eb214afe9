package posture

import (
	"testing"
	"time"
)

func TestZeroValuesAreNotKnown(t *testing.T) {
	var d Door
	if d.Access != Unknown || d.On != Unseen || d.TLS.On != Unseen {
		t.Error("a forgotten assignment must read as not known")
	}
	s := &Server{Doors: []Door{{Kind: Client}}}
	Judge(s)
	if got := s.Doors[0]; got.Access != Unknown || got.Reason == "" {
		t.Errorf("a server that said nothing: %s (%s), want unknown with a reason", got.Access, got.Reason)
	}
}

func TestStrongestEvidenceDecides(t *testing.T) {
	ev := func(b Basis, a Access) Evidence { return Evidence{Basis: b, Access: a} }
	for _, c := range []struct {
		name   string
		given  []Evidence
		access Access
		basis  Basis
	}{
		{"nothing", nil, Unknown, NoBasis},
		{"proof over word", []Evidence{ev(Reported, Closed), ev(Proven, Open)}, Open, Proven},
		{"proof over word, other order", []Evidence{ev(Proven, Open), ev(Reported, Closed)}, Open, Proven},
		{"inference never overrules a touch", []Evidence{ev(Proven, Closed), ev(Inferred, Open)}, Closed, Proven},
		{"equals: open over closed", []Evidence{ev(Reported, Closed), ev(Reported, Open)}, Open, Reported},
		{"equals: doubt over closed", []Evidence{ev(Reported, Unknown), ev(Reported, Closed)}, Unknown, Reported},
		{"equals: open over doubt", []Evidence{ev(Reported, Open), ev(Reported, Unknown)}, Open, Reported},
	} {
		d := Door{Evidence: c.given}
		d.decide()
		if d.Access != c.access || d.Basis != c.basis || len(d.Evidence) != len(c.given) {
			t.Errorf("%s: %s (%s) with %d pieces of evidence", c.name, d.Access, d.Basis, len(d.Evidence))
		}
	}
}

func TestHiddenUser(t *testing.T) {
	for _, c := range []struct {
		user, account string
		want          bool
	}{
		{"nats-J5jK8IuL", "$G", true},
		{"nats-J5jK8IuL", "", true}, // servers leave $G out
		{"nats-J5jK8IuL", "APP", false},
		{"nats-J5jK8Iu", "$G", false},
		{"nats-J5jK8IuLx", "$G", false},
		{"xnats-J5jK8IuL", "$G", false},
		{"nats-J5jK8I_L", "$G", false},
		{"nats-J5jK8IuL\n", "$G", false},
		{"", "$G", false},
	} {
		if got := IsHiddenUser(c.user, c.account); got != c.want {
			t.Errorf("%q in %q: %v, want %v", c.user, c.account, got, c.want)
		}
	}
}

// TestClaimedNamesProveNothing: on a server that asks nobody, a session is
// anonymous whatever it calls itself; on others only the hidden user is.
func TestClaimedNamesProveNothing(t *testing.T) {
	for _, c := range []struct {
		name     string
		required Tri
		mode     AuthMode
		session  Session
		want     bool
	}{
		{"claims a name on an open server", No, AuthNone, Session{Door: Client, User: "admin"}, true},
		{"no name on an open server", No, AuthNone, Session{Door: Client}, true},
		{"shows a certificate on an open server", No, AuthNone, Session{Door: Client, PeerCert: true}, false},
		{"websocket with a user, which may be real", No, AuthNone, Session{Door: Websocket, User: "x"}, false},
		{"websocket without", No, AuthNone, Session{Door: Websocket}, true},
		{"a leafnode, which may be our own", No, AuthNone, Session{}, false},
		{"hidden user", Yes, AuthStatic, Session{Door: Client, User: "nats-J5jK8IuL", Account: "$G"}, true},
		{"a user who is called like one, in operator mode", Yes, AuthOperator, Session{Door: Client, User: "nats-J5jK8IuL"}, false},
		{"a user who is called like one, on an open server: anonymous, but not hidden", No, AuthNone, Session{Door: Client, User: "nats-J5jK8IuL"}, true},
		{"not logged in yet", Yes, AuthStatic, Session{Door: Client}, false},
		{"nothing known", Unseen, AuthUnknown, Session{Door: Client}, false},
	} {
		s := &Server{
			Heard: Varz, AuthRequired: c.required, AuthMode: c.mode,
			Doors:    []Door{{Kind: Client, On: Yes}, {Kind: Websocket, On: Yes}},
			Sessions: Sessions{List: []Session{c.session}},
		}
		Judge(s)
		got := s.Sessions.List[0]
		if got.Anonymous != c.want || got.HiddenUser && c.required != Yes {
			t.Errorf("%s: anonymous %v (hidden %v), want %v", c.name, got.Anonymous, got.HiddenUser, c.want)
		}
	}
}

func TestCompareTellsRestartsFromChanges(t *testing.T) {
	loaded, later := time.Unix(100, 0), time.Unix(200, 0)
	at := func(id string, loaded time.Time, mark uint64) *Server {
		return &Server{ID: id, Heard: Varz, ConfigLoaded: loaded, ConfigMark: mark}
	}
	for _, c := range []struct {
		name      string
		prev, now *Server
		want      bool
	}{
		{"first seen", nil, at("A", loaded, 1), false},
		{"nothing moved", at("A", loaded, 1), at("A", loaded, 1), false},
		{"reload", at("A", loaded, 1), at("A", later, 2), true},
		{"reload of the same file", at("A", loaded, 1), at("A", later, 1), true},
		{"restart with the same file", at("A", loaded, 1), at("B", later, 1), false},
		{"restart with another file", at("A", loaded, 1), at("B", later, 2), true},
		{"VARZ was not heard before", at("A", time.Time{}, 0), at("A", loaded, 1), false},
	} {
		Compare(c.now, c.prev, later)
		if got := c.now.Change != nil; got != c.want {
			t.Errorf("%s: change %v, want %v", c.name, got, c.want)
		}
	}
}

// TestCompareFollowsAReload to its end: the digest shows first, and a reload is one
// change, with the posture as it was before the reload began.
func TestCompareFollowsAReload(t *testing.T) {
	at := func(loaded int64, mark uint64, access Access) *Server {
		return &Server{ID: "A", Heard: Varz, Complete: true, AuthMode: AuthStatic, ConfigLoaded: time.Unix(loaded, 0), ConfigMark: mark, Doors: []Door{{Kind: Client, On: Yes, Access: access}}}
	}
	steps := []*Server{
		at(100, 1, Open), at(100, 1, Open),
		at(100, 2, Unknown), at(100, 2, Closed),
		{ID: "A"},
		at(100, 2, Closed), // it is loading, and once it does not answer
		at(200, 2, Unknown), at(200, 2, Closed),
		at(300, 3, Unknown), // again, at once
	}
	steps[6].Complete, steps[8].Complete = false, false
	steps[4].ConfigLoaded, steps[4].ConfigMark = steps[3].ConfigLoaded, steps[3].ConfigMark // what is kept of a silent server
	var prev *Server
	for i, s := range steps {
		Compare(s, prev, time.Unix(int64(1000+i), 0))
		switch c := s.Change; {
		case i < 6 && c != nil:
			t.Errorf("step %d: a change while it loads: %+v", i, c)
		case i >= 6 && c == nil:
			t.Errorf("step %d: no change", i)
		case (i == 6 || i == 7) && (c.Loaded.Unix() != 200 || c.Before.access(Client) != Open || c.Seen.Unix() != 1006):
			t.Errorf("step %d: %+v", i, c)
		case i == 8 && (c.Loaded.Unix() != 300 || c.Before.access(Client) != Closed):
			t.Errorf("step %d: %+v", i, c)
		}
		prev = s
	}
}

// TestOtherWayToMQTT: a certificate that the MQTT port asks for guards nothing as long
// as the websocket port leads there as well.
func TestOtherWayToMQTT(t *testing.T) {
	for _, heard := range []Input{0, Varz} {
		for ws, want := range map[Tri]Access{Yes: Unknown, No: Closed} {
			for asked, want := range map[bool]Access{true: want, false: Closed} {
				s := &Server{Heard: heard, AuthRequired: Yes, Doors: []Door{{Kind: Client, On: Yes}, {Kind: Websocket, On: ws}, {Kind: MQTT, On: Yes}}}
				s.Touches = []Touch{{Door: MQTT, Access: Closed, CertAsked: asked, Answer: "no"}}
				Judge(s)
				if d := s.Door(MQTT); d.Access != want || want == Unknown && d.Reason != "the websocket port: its path /mqtt leads to the same users, and is not touched" {
					t.Errorf("VARZ heard: %v, websocket %v, certificate asked %v: %s (%s) %s", heard != 0, ws, asked, d.Access, d.Basis, d.Reason)
				}
			}
		}
	}
}

// TestDoubtProvesNothing: a touch without a verdict casts doubt on the server's
// word at most. The access that comes of it is unknown and not proven, and a
// session that was seen outweighs it.
func TestDoubtProvesNothing(t *testing.T) {
	for _, kind := range DoorKinds() {
		for _, heard := range []Input{0, Varz} {
			for _, required := range []Tri{Unseen, No, Yes} {
				for _, touch := range []Touch{
					{Reason: "no clear answer in time"},
					{Reason: "TLS handshake: EOF", Encrypted: true, TLSFailed: true},
					{Reason: "TLS handshake: EOF", Encrypted: true, TLSFailed: true, CertAsked: true, AuthRequired: No, ServerID: "N1"},
					{Reason: "GET /varz: 401 Unauthorized", Nameless: true},
				} {
					touch.Door = kind
					s := &Server{ID: "N1", Heard: heard, AuthRequired: required, AuthMode: AuthStatic, Doors: []Door{{Kind: kind, On: Yes, Port: 1}}, Touches: []Touch{touch}}
					Judge(s)
					d := &s.Doors[0]
					if d.Access == Unknown && d.Basis == Proven || d.Access == Closed && d.Basis > Reported || d.Access == Unknown && d.Reason == "" {
						t.Errorf("%s, heard %v, auth_required %d, %+v: %s, %s, %q", kind, heard.InputNames(), required, touch, d.Access, d.Basis, d.Reason)
					}
					if heard == 0 || !touch.TLSFailed || kind == Monitor || kind == Profile {
						continue
					}
					s.Sessions.List = []Session{{CID: 1, Door: kind}}
					if Judge(s); len(s.Sessions.Anonymous(kind)) > 0 && (d.Access != Open || d.Basis != Observed) {
						t.Errorf("%s with an anonymous session: %s, %s", kind, d.Access, d.Basis)
					}
				}
			}
		}
	}
}
