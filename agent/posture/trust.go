package posture

import "time"

// Trust is what is known of the accounts of servers in operator mode: which
// claims are in force where, which are stored, and who is logged in by them.
// It has a slower pace than the snapshots that carry it, and is immutable.
type Trust struct {
	At       time.Time
	Accounts []*Account // by id
	Gaps     []Gap      // what was not asked, or not answered
}

// Account is an account of servers in operator mode.
type Account struct {
	ID     string // public key
	Name   string // as its claims give it; "" when none was seen
	System bool

	InForce []InForce // one for each server that has loaded it
	Stored  []*Claim  // distinct ones, by the servers' stores; nil when they were not asked
	Asked   bool      // the stores were asked
	// Differs counts the looks in a row at which the claims in force, and those
	// stored, were not all the same.
	Differs int
	Users   []User // that are connected, or that have been seen to be
}

// InForce is the claim that one server goes by.
type InForce struct {
	Server   string // name
	ServerID string
	Claim    *Claim // shared by all servers that have the same
	Expired  bool   // the server says so
}

// Claim is an account's JWT as it was decoded: what it allows, and nothing that
// could be used.
type Claim struct {
	Mark    uint64 // another one for another JWT; it is not a digest of it
	Invalid string // why it cannot be what it should be; the rest may then be missing

	Account, Name string
	Issuer        string // the key that signed it
	Issued        time.Time
	Expires       time.Time // zero: never

	SigningKeys  []SigningKey
	BearerUsers  bool // users may log in without a signature
	OpenDefaults bool // a user without permissions of his own may publish and subscribe to everything
	Limited      bool // something is limited: connections, subscriptions, data, payload, leafnodes
	Exports      []Export
	Imports      []Import
	Callout      *Callout // external authorization; nil without
	Revoked      []Revocation
}

// SigningKey is a key that may sign users of an account.
type SigningKey struct {
	Key    string
	Scoped bool // it prescribes the users' permissions
	Open   bool // and those are: everything
}

// Export is a stream or a service that an account offers.
type Export struct {
	Subject string
	Service bool
	Public  bool // nobody needs an activation
}

// Import is a stream or a service that an account takes from another one.
type Import struct {
	Subject, Account string
	Service          bool
	Expires          time.Time // of its activation; zero: never, or it has none
}

// Callout is an account's external authorization.
type Callout struct {
	AuthUsers []string // keys of the users that are its service
	Accounts  []string // where it may place users; "*" for everywhere
	Encrypted bool     // requests go to it encrypted (xkey)
}

// Revocation ends the users that were issued before a time: one user, or all
// by the key "*".
type Revocation struct {
	User   string
	Before time.Time
}

// User is somebody who is logged in by a JWT.
type User struct {
	Key, Name string
	Account   string    // id
	Issuer    string    // the key that signed the JWT
	Issued    time.Time // zero when the server does not show the JWT
	Expires   time.Time // zero: never
	Bearer    bool
	Open      bool // he may publish and subscribe to everything, all things considered
	Bound     bool // his JWT restricts addresses, times or kinds of connection
	Shown     bool // the server has shown the JWT; bearers are hidden by newer ones

	Server, ServerID string
	CID              uint64
	Address, Client  string // ip:port, and how the client calls itself
	Since            time.Time
}
