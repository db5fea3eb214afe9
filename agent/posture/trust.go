package posture

import (
	"slices"
	"strings"
	"time"
)

// Trust is what is known of the accounts of servers in operator mode: which
// claims are in force where, and which are stored. It has a slower pace than the
// snapshots that carry it, and is immutable.
type Trust struct {
	At       time.Time
	Accounts []*Account // by id
	Left     int        // accounts that were not looked at this time: there are more than one look takes
	Gaps     []Gap      // what was not asked, or not answered
}

// Account finds an account by its id, or returns nil.
func (t *Trust) Account(id string) *Account {
	if t == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(t.Accounts, id, func(a *Account, id string) int { return strings.Compare(a.ID, id) })
	if !ok {
		return nil
	}
	return t.Accounts[i]
}

// Account is an account of servers in operator mode.
type Account struct {
	ID     string // public key
	Name   string // as its claims give it; "" when none was seen
	System bool

	At      time.Time // when it was last looked at; zero: not yet
	Seen    time.Time // when a claim of it was last seen, in force or stored
	InForce []InForce // one for each server that has loaded it, and said what it goes by
	Missing []string  // names of the servers that should have said so, and did not
	Stored  []*Claim  // distinct ones, by the servers' stores
	Asked   bool      // the stores answered; otherwise what is stored is not known
	// Differs counts the looks in a row at which the claims in force, and those
	// stored, were not all the same.
	Differs int
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
	NotBefore     time.Time // zero: valid at once
	Expires       time.Time // zero: never
	Limits        ClientLimits

	SigningKeys  []SigningKey
	BearerUsers  bool // users may log in without a signature
	OpenDefaults bool // a user without permissions of his own may publish and subscribe to everything
	Limited      bool // something is limited: connections, subscriptions, data, payload, leafnodes
	Exports      []Export
	Imports      []Import
	Callout      *Callout // external authorization; nil without
	Revoked      []Revocation
}

// ClientLimits says whether an account's limits admit clients at all.
type ClientLimits uint8

// The values of ClientLimits.
const (
	SomeClients ClientLimits = iota
	NoClients                // the limit of connections is 0
	LimitsUnset              // there are no limits in the JWT, which servers take for 0
)

// SigningKey is a key that may sign users of an account.
type SigningKey struct {
	Key    string
	Scoped bool // it prescribes the users' permissions
	Open   bool // and those are: everything
	Bearer bool // its users need no signature
	Bound  bool // it restricts addresses, times or kinds of connection

	Sources bool // it restricts addresses
}

// Export is a stream or a service that an account offers.
type Export struct {
	Subject string
	Service bool
	Public  bool         // nobody needs an activation
	Private bool         // everybody does
	Revoked []Revocation // activations, by the account that they were given to
}

// Offers reports whether an import of a subject is one of this export.
func (e *Export) Offers(subject string) bool { return covers(e.Subject, subject) }

// Import is a stream or a service that an account takes from another one.
type Import struct {
	Subject, Account string
	Service          bool
	Expires          time.Time // of its activation; zero: never, or it has none
	Activation       *Activation
}

// Activation is the leave to import a private export.
type Activation struct {
	Unread bool   // it is at a URL, or cannot be read
	Signer string // the signing key of the exporting account that signed it; "" for its identity key
	Issued time.Time
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

// UserClaim is a user's JWT as it was decoded: what it allows, and nothing that
// could be used.
type UserClaim struct {
	Key, Name string
	Account   string // id of the account
	Issuer    string // the key that signed it: the account's, or one of its signing keys
	Issued    time.Time
	Expires   time.Time // zero: never
	Bearer    bool      // who holds it is let in, without a signature
	Scoped    bool      // its permissions are those of the signing key
	OpenPub   bool      // it does not restrict what he may publish by itself
	OpenSub   bool      // nor what he may subscribe to
	Defaults  bool      // it says nothing of permissions at all: those of the account, or of the signing key, hold
	Bound     bool      // it restricts addresses, times or kinds of connection
	Sources   bool      // it restricts addresses
}
