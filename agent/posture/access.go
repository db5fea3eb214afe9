package posture

import "fmt"

// Access says whether a stranger gets in through a door.
type Access uint8

// The values of Access. Unknown is the zero value: what could not be seen is
// never closed.
const (
	Unknown Access = iota
	Open
	Closed
	Off // no listener
)

var accessNames = [...]string{Unknown: "unknown", Open: "open", Closed: "closed", Off: "off"}

func (a Access) String() string { return name(accessNames[:], a) }

// MarshalText writes the word that reports use.
func (a Access) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads the word that reports use.
func (a *Access) UnmarshalText(text []byte) error { return parse(accessNames[:], a, "access", text) }

// Basis says what an access rests on, weakest first. The zero value means
// that nothing at all is known.
type Basis uint8

// The values of Basis, in the order of their strength.
const (
	NoBasis  Basis = iota
	Declared       // a configuration file says so
	Reported       // the server says so itself
	Inferred       // it follows from other doors or from the version
	Observed       // an anonymous session was seen
	Proven         // our own touch was let in or refused
)

var basisNames = [...]string{
	NoBasis: "none", Declared: "declared", Reported: "reported",
	Inferred: "inferred", Observed: "observed", Proven: "proven",
}

func (b Basis) String() string { return name(basisNames[:], b) }

// MarshalText writes the word that reports use.
func (b Basis) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads the word that reports use.
func (b *Basis) UnmarshalText(text []byte) error { return parse(basisNames[:], b, "basis", text) }

// DoorKind names a listener of a server.
type DoorKind uint8

// The doors a nats-server can have, in the order in which reports list them.
const (
	NoDoor DoorKind = iota
	Client
	Websocket
	MQTT
	Leafnode
	Route
	Gateway
	Monitor
	Profile
)

var doorNames = [...]string{
	NoDoor: "", Client: "client", Websocket: "websocket", MQTT: "mqtt", Leafnode: "leafnode",
	Route: "route", Gateway: "gateway", Monitor: "monitor", Profile: "profile",
}

// DoorKinds lists every door, in report order.
func DoorKinds() []DoorKind {
	return []DoorKind{Client, Websocket, MQTT, Leafnode, Route, Gateway, Monitor, Profile}
}

func (k DoorKind) String() string { return name(doorNames[:], k) }

// MarshalText writes the word that reports use.
func (k DoorKind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the word that reports use.
func (k *DoorKind) UnmarshalText(text []byte) error { return parse(doorNames[:], k, "door", text) }

// AuthMode is how a server knows its clients.
type AuthMode uint8

// The values of AuthMode.
const (
	AuthUnknown  AuthMode = iota
	AuthNone              // nobody is asked for anything
	AuthStatic            // users, tokens, nkeys, certificates or a callout in the configuration file
	AuthOperator          // JWTs under a trusted operator
)

var authModeNames = [...]string{AuthUnknown: "unknown", AuthNone: "none", AuthStatic: "static", AuthOperator: "operator"}

func (m AuthMode) String() string { return name(authModeNames[:], m) }

// MarshalText writes the word that reports use.
func (m AuthMode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the word that reports use.
func (m *AuthMode) UnmarshalText(text []byte) error {
	return parse(authModeNames[:], m, "auth mode", text)
}

// Tri is a fact that may not have been seen.
type Tri uint8

// The values of Tri.
const (
	Unseen Tri = iota
	No
	Yes
)

// TriOf is Yes or No.
func TriOf(b bool) Tri {
	if b {
		return Yes
	}
	return No
}

// State is what a server last was to us.
type State uint8

// The values of State.
const (
	Silent    State = iota // known, but it did not answer
	Answering              // it answered in this sweep
	LameDuck               // it announced lame-duck mode: it accepts no new clients, and may still answer over $SYS
	ShutDown               // it announced its shutdown
	Foreign                // it has its own system account, and was found at an address that the operator gives
)

var stateNames = [...]string{Silent: "silent", Answering: "answering", LameDuck: "lame-duck", ShutDown: "shut-down", Foreign: "foreign"}

func (s State) String() string { return name(stateNames[:], s) }

// MarshalText writes the word that reports use.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word that reports use.
func (s *State) UnmarshalText(text []byte) error { return parse(stateNames[:], s, "state", text) }

func name[T ~uint8](names []string, v T) string {
	if int(v) < len(names) {
		return names[v]
	}
	return fmt.Sprintf("invalid(%d)", v)
}

func parse[T ~uint8](names []string, into *T, what string, text []byte) error {
	for i, n := range names {
		if n == string(text) {
			*into = T(i) //nolint:gosec // the tables have a handful of entries
			return nil
		}
	}
	return fmt.Errorf("posture: %q is no %s", text, what)
}
