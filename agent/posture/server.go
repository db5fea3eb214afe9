package posture

import (
	"slices"
	"strings"
	"time"
)

// Input is a set of the answers that a server can give.
type Input uint16

// The answers. Each is one endpoint of the server's monitoring.
const (
	Statsz Input = 1 << iota
	Varz
	Routez
	Gatewayz
	Leafz
	Connz
	AccountStatz
	Accountz
	EveryoneConnz // the sessions of all accounts
)

// Has tells whether all of the wanted answers are in the set.
func (i Input) Has(want Input) bool { return i&want == want }

// InputNames lists the endpoints in the set by the server's own names.
func (i Input) InputNames() []string {
	var names []string
	for n, s := range []string{"STATSZ", "VARZ", "ROUTEZ", "GATEWAYZ", "LEAFZ", "CONNZ", "ACCOUNT STATZ", "ACCOUNTZ", "CONNZ of all accounts"} {
		if i&(1<<n) != 0 {
			names = append(names, s)
		}
	}
	return names
}

// Server is one nats-server as it was in one sweep.
type Server struct {
	ID      string // the server's own id, new at every start
	Name    string
	Cluster string // "" for a server outside of any cluster
	Version string

	BuiltWith string // the version of Go, like go1.26.0

	State   State
	Heard   Input     // the answers that came
	Looked  time.Time // when it was last looked at: its VARZ came, or it was found silent
	KnownBy string    // who knows a server that did not answer: "ROUTEZ of n1", "an earlier sweep"
	Linked  Tri       // of a server that did not answer: whether a peer that did still holds a connection to it

	// Unlinked are, of one to which some peers hold a connection, the members of its
	// cluster that hold none: requests may not reach it.
	Unlinked []string

	SuperCluster bool // it has gateways: its neighbours are all servers with gateways

	JetStream     Tri
	AuthRequired  Tri
	AuthMode      AuthMode
	AuthTimeout   time.Duration // a client has so long to prove himself
	NoConfigFile  Tri           // it was started without a configuration file
	Start         time.Time
	ConfigLoaded  time.Time
	ConfigMark    uint64 // changes when the configuration's digest does; it is not the digest
	SystemAccount string
	Operators     []Operator
	Accounts      []string // the accounts it has loaded; nil when not asked
	Connections   int      // clients that are connected, as it last counted them

	Doors    []Door
	Touches  []Touch   // of the configuration in force, the latest of each door and path
	Hosts    []string  // addresses under which the fleet knows this server
	Known    []Address // of its listeners, beside what VARZ says; not all of them need be its own. The list is never changed
	Peers    []Peer    // by the latest answers to ROUTEZ, GATEWAYZ and LEAFZ; the list is never changed
	Sessions Sessions  // in the global account
	Everyone Sessions  // in all accounts, by a slower pace; At is zero until they were asked for. The list is never changed
	Change   *Change   // the last configuration change that was seen
	Settled  *Summary  // the posture of earlier snapshots, as it was last known; nil at first
	Loading  bool      // it shows parts of a configuration that it has not finished loading
	Complete bool      // what touches have found is in it
	Reload   *Reload   // the last reload that was asked for over $SYS; nil when none was heard
	Failures Failures
	Config   *Config // of a server that does not run: its configuration, from which alone it is known
}

// Reload is a request to reload that was heard on its way to a server.
type Reload struct {
	At     time.Time // when it was heard
	Loaded time.Time // when the configuration in force then had been loaded
}

// Failures are the peers that a server lately turned away for their
// credentials, touches left out.
type Failures struct {
	Count  int // in the last FailureWindow
	Since  time.Time
	Latest time.Time
	Peers  []string // the most frequent of them, each with its door, name and address

	// Probes are those beside them that brought no credentials and call themselves as
	// touches do, without our own. Anybody may take that name.
	Probes int
}

// FailureWindow is how far back authentication failures are counted.
const FailureWindow = time.Minute

// Ended reports whether the server is known to have ended: it has announced its
// shutdown, or has announced lame-duck mode and no peer is connected to it any more.
// One that is merely silent may be cut off, and still have clients.
func (s *Server) Ended() bool {
	return s.State == ShutDown || s.State == LameDuck && s.Linked == No
}

// Clone is a copy that may be judged anew without touching the original, which
// may have been published.
func (s *Server) Clone() *Server {
	c := *s
	c.Doors = slices.Clone(s.Doors)
	c.Sessions.List = slices.Clone(s.Sessions.List)
	return &c
}

// Operator is a trusted operator of a server in operator mode.
type Operator struct {
	Key           string // public identity key
	Name          string
	SigningKeys   []string
	Strict        bool // only signing keys may sign accounts, not the identity key
	SystemAccount string
	Issued        time.Time
	Expires       time.Time // zero: never
	Plaintext     []string  // URLs of services that are not encrypted
}

// Change is a configuration change that happened between two snapshots.
type Change struct {
	Seen   time.Time // when we saw it
	Loaded time.Time // when the server loaded the new configuration
	Before Summary
	After  Summary
}

// Summary is a server's posture in short, for a before and after.
type Summary struct {
	AuthMode AuthMode
	Open     []DoorKind
	Closed   []DoorKind
	Unknown  []DoorKind
}

func (s Summary) String() string {
	parts := []string{"auth " + s.AuthMode.String()}
	for _, p := range []struct {
		word  string
		doors []DoorKind
	}{{"open", s.Open}, {"closed", s.Closed}, {"unknown", s.Unknown}} {
		if len(p.doors) == 0 {
			continue
		}
		names := make([]string, len(p.doors))
		for i, d := range p.doors {
			names[i] = d.String()
		}
		parts = append(parts, p.word+": "+strings.Join(names, ", "))
	}
	return strings.Join(parts, "; ")
}

// Summary tells the server's posture in short.
func (s *Server) Summary() Summary {
	sum := Summary{AuthMode: s.AuthMode}
	for i := range s.Doors {
		if d := &s.Doors[i]; d.Access != Unknown || d.On == Yes {
			sum.put(d.Kind, d.Access)
		}
	}
	return sum
}

func (s *Summary) put(kind DoorKind, access Access) {
	switch access {
	case Open:
		s.Open = append(s.Open, kind)
	case Closed:
		s.Closed = append(s.Closed, kind)
	case Unknown:
		s.Unknown = append(s.Unknown, kind)
	case Off:
	}
}

func (s *Summary) access(kind DoorKind) Access {
	switch {
	case slices.Contains(s.Open, kind):
		return Open
	case slices.Contains(s.Closed, kind):
		return Closed
	case slices.Contains(s.Unknown, kind):
		return Unknown
	default:
		return Off
	}
}

// Moved is the posture before and after a change, of the listeners whose access is
// another one. ok is false where there are none.
func (c *Change) Moved() (before, after Summary, ok bool) {
	before.AuthMode, after.AuthMode = c.Before.AuthMode, c.After.AuthMode
	for _, kind := range DoorKinds() {
		if was, is := c.Before.access(kind), c.After.access(kind); was != is {
			before.put(kind, was)
			after.put(kind, is)
			ok = true
		}
	}
	return before, after, ok
}

// Door finds a door. It returns nil when the server's doors were not seen.
func (s *Server) Door(kind DoorKind) *Door {
	for i := range s.Doors {
		if s.Doors[i].Kind == kind {
			return &s.Doors[i]
		}
	}
	return nil
}

// Snapshot is the immutable result of one sweep.
type Snapshot struct {
	System    string // the name the user gave this fleet
	Epoch     uint64
	Taken     time.Time
	Took      time.Duration
	Expected  int // servers that should have answered
	Heard     int // servers that did
	Servers   []*Server
	Gaps      []Gap
	Unaudited []Unaudited // servers of other system accounts; the list is never changed
	Cost      Cost
	Hears     Hears
	Config    bool   // its servers do not run: they are known from their configurations
	Trust     *Trust // nil until the accounts of servers in operator mode were asked for
}

// Events is a set of the events that servers send, or that go to them.
type Events uint8

// The events that checks rest on.
const (
	Connects     Events = 1 << iota // clients that come, or that a reload looked at again
	AuthFailures                    // peers that are turned away
	Reloads                         // requests to reload
)

// Hears says which events have been listened to, and since when. Its zero
// value says that nobody listened: then silence means nothing.
type Hears struct {
	Events Events
	Since  time.Time
}

// Has tells whether all of the events were listened to, and for how long at
// least.
func (h Hears) Has(want Events, at time.Time, atLeast time.Duration) bool {
	return h.Events&want == want && !h.Since.IsZero() && at.Sub(h.Since) >= atLeast
}

// Gap is an answer that should have come and did not, or that could not be used.
type Gap struct {
	Server   string `json:"server"`
	ID       string `json:"id"`
	Endpoint string `json:"endpoint"`
	Reason   string `json:"reason"`
	// Bound reports that nobody was silent: a bound of our own was reached, and
	// the rest was not asked for.
	Bound bool `json:"bound,omitempty"`
}

// Unaudited is a server of which nothing is known but that it is connected as a
// leafnode, or as the hub of one: it has its own system account, and answers
// nobody in this one. It is not expected to.
type Unaudited struct {
	Name     string     `json:"name"`     // as it calls itself
	Role     string     `json:"role"`     // "leafnode" or "hub"; "" where only the policy names it
	Accounts []string   `json:"accounts"` // here, that it is bound to
	Hosts    []string   `json:"hosts"`    // from which it is connected; LEAFZ tells no listener
	KnownBy  []string   `json:"known_by"` // servers whose LEAFZ names it
	Reason   string     `json:"reason"`
	Tried    []Evidence `json:"tried"` // addresses of the policy at which it was not found
}

// OwnSystemAccount is why a server is not audited.
const OwnSystemAccount = "own system account"

// Cost is what a sweep took from the fleet.
type Cost struct {
	Requests int   `json:"requests"`
	Replies  int   `json:"replies"`
	Bytes    int64 `json:"bytes"` // payload bytes of the replies as they came over the wire
}

// Server finds a server by id, or else by name; a name that two servers
// carry finds neither.
func (s *Snapshot) Server(nameOrID string) *Server {
	var named *Server
	for _, srv := range s.Servers {
		if srv.ID == nameOrID {
			return srv
		}
		if srv.Name == nameOrID {
			if named != nil {
				return nil
			}
			named = srv
		}
	}
	return named
}

// SortServers brings servers into report order: cluster, name, id.
func SortServers(servers []*Server) {
	slices.SortFunc(servers, func(a, b *Server) int {
		if c := strings.Compare(a.Cluster, b.Cluster); c != 0 {
			return c
		}
		if c := strings.Compare(a.Name, b.Name); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
}
