package inside

import "github.com/natsentry/natsentry/agent/posture"

// Candidate is what a configuration that is not in force yet will demand.
type Candidate struct {
	Name string // for whoever reads it: a file's name, or token, users, nkey, jwt

	// Kind is set where there is no configuration but only the plan to have
	// one: then nothing is known of its users, and listeners stay as they are.
	Kind Kind

	AuthRequired  bool
	Operator      bool            // users need a JWT
	Sentinel      bool            // default_sentinel: whoever brings no JWT gets that one
	Callout       bool            // a service decides
	Token         bool            // one token for all
	User          string          // one user for all; "" is none
	Users         map[string]User // by name
	NKeys         map[string]User // by public key
	NoAuthUser    string
	SystemAccount string
	Leaf          LeafAuth
	Doors         map[posture.DoorKind]Door // listeners; one that is not there is off
}

// Kind is a plan without a configuration.
type Kind uint8

// The values of Kind.
const (
	FromFile Kind = iota
	PlanToken
	PlanUsers
	PlanNKey
	PlanJWT
)

// Plans lists the plans by the names that users give them.
func Plans() []string { return []string{"token", "users", "nkey", "jwt"} }

// Plan is the candidate of a plan; false when the name is none.
func Plan(name string) (*Candidate, bool) {
	c := &Candidate{Name: name, AuthRequired: true}
	switch name {
	case "token":
		c.Kind, c.Token = PlanToken, true
	case "users":
		c.Kind = PlanUsers
	case "nkey":
		c.Kind = PlanNKey
	case "jwt":
		c.Kind, c.Operator = PlanJWT, true
	default:
		return nil, false
	}
	return c, true
}

// User is a user of a candidate.
type User struct {
	Account    string   // "" is the global account
	Types      []string // allowed_connection_types; empty allows all
	Hashed     bool     // its password is a bcrypt hash
	Restricted bool     // it has permissions
	Proxied    bool     // it must come through a trusted proxy
}

// Door is a listener of a candidate.
type Door struct {
	// Of websocket and MQTT, which leave the users of the server aside when any
	// of the three is set; and of routes and gateways, whose only user is User.
	NoAuthUser, User string
	Token            bool

	Port    int  // 0 where the configuration does not name it
	Offered bool // TLS is spoken
	TLS     bool // plaintext is refused
	Verify  bool // a certificate is asked for
	Map     bool // and it says which user it is
}

func (d *Door) overrides() bool { return d.NoAuthUser != "" || d.User != "" || d.Token }

// LeafAuth is the authorization of the leafnodes block itself. Without one,
// leafnodes are judged as clients are.
type LeafAuth struct {
	User    string
	NKey    string
	Users   map[string]User
	Account string // where leafnodes land that nobody asks for anything
}

func (l *LeafAuth) set() bool { return l.User != "" || l.NKey != "" || len(l.Users) > 0 }

// The names of nats-server for kinds of connections.
const (
	typeStandard  = "STANDARD"
	typeWebsocket = "WEBSOCKET"
	typeLeafnode  = "LEAFNODE"
	typeMQTT      = "MQTT"
)

// admits tells whether a user may come in through a door. MQTT and leafnodes
// may come over the websocket too, which sessions do not show: Unseen, when that
// makes the difference.
func (u *User) admits(door posture.DoorKind) posture.Tri {
	if len(u.Types) == 0 {
		return posture.Yes
	}
	has := func(kind string) bool {
		for _, t := range u.Types {
			if t == kind {
				return true
			}
		}
		return false
	}
	either := func(direct, over string) posture.Tri {
		switch a, b := has(direct), has(over); {
		case a && b:
			return posture.Yes
		case a || b:
			return posture.Unseen
		default:
			return posture.No
		}
	}
	switch door {
	case posture.Websocket:
		return posture.TriOf(has(typeWebsocket))
	case posture.MQTT:
		return either(typeMQTT, "MQTT_WS")
	case posture.Leafnode:
		return either(typeLeafnode, "LEAFNODE_WS")
	case posture.Client, posture.NoDoor, posture.Route, posture.Gateway, posture.Monitor, posture.Profile:
	}
	return posture.TriOf(has(typeStandard))
}

// landing says where a user puts whoever comes in by it.
func (u *User) landing(name string) string {
	account := u.Account
	if account == "" {
		account = posture.GlobalAccount
	}
	text := "as " + name + " in " + account
	if u.Restricted {
		text += ", with that user's permissions"
	}
	return text
}
