package posture

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// Place is where something stands in a configuration file. Lines and columns
// count from 1, columns in bytes; line 0 is the file as a whole.
type Place struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
}

func (p Place) String() string {
	switch {
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
	}
}

// Config is what a configuration says of a server that does not run: what no
// running server tells. It holds no secret.
type Config struct {
	File string           // the configuration, as it was named
	In   Place            // of the configuration as a whole, where it stands in another file
	Keys map[string]Place // of keys outside of lists, by path in the longest spelling: "websocket.no_tls"

	Refused    []Remark // why nats-server would not start with it
	Absent     []Remark // what of it is not here, so that nothing is known of the rest
	Commented  []Remark // blocks of authentication that are commented out
	Overridden []Override
	Spellings  []Spelling
	Unset      []Unset
	Barred     []Barred // listeners that nobody may get through

	Placeholders []Placeholder // secrets that are texts which somebody forgot to replace

	Rules  string // the release of nats-server by whose rules all this was found
	Traits Traits
	Token  *Place // of the token that lets clients in; nil where there is none

	Guests    []Guest
	Callout   *ConfigCallout // nil where there is none
	Logins    []ConfigLogin
	Resolver  *Resolver // nil where there is none
	Preloads  []Preload // accounts that the resolver is given at the start
	Operators bool      // all operators were read

	Marks   []uint64 // MarkOf the digests that servers give it; nil where that cannot be told
	Running *Server  // a server that is meant to run with it; nil where none was named

	FlagsKnown bool // it is known which flags the server is started with beside -c
}

// markSeed makes that nothing can be told from a mark, outside of this process.
var markSeed = maphash.MakeSeed()

// MarkOf stands for the digest of a configuration. The digest itself is never
// kept, since weak passwords can be guessed with it.
func MarkOf(digest string) uint64 { return maphash.String(markSeed, digest) }

// Traits are what advisories take, as a configuration decides it. Unseen hangs on
// what is not here.
type Traits struct {
	NoAuthUser        Tri // there is one, or the server makes one up
	RefusesNoAuthUser Tri // it may not use every port
	OnlySystemAccount Tri // no account beside it and the global one, and no no_auth_user
	MapsCertificates  Tri // to users
}

// Agreed are the traits that two readings of one configuration agree on.
func (t Traits) Agreed(other Traits) Traits {
	same := func(a, b Tri) Tri {
		if a != b {
			return Unseen
		}
		return a
	}
	return Traits{
		same(t.NoAuthUser, other.NoAuthUser), same(t.RefusesNoAuthUser, other.RefusesNoAuthUser),
		same(t.OnlySystemAccount, other.OnlySystemAccount), same(t.MapsCertificates, other.MapsCertificates),
	}
}

// Remark is something to be said of a place.
type Remark struct {
	Place Place
	Text  string
}

// UnsetUnder is the path of a key that is a variable without a value: one that is
// the given path, or ends with it. It is "" where there is none.
func (c *Config) UnsetUnder(path string) string {
	for _, u := range c.Unset {
		if u.Key == path || strings.HasSuffix(u.Key, "."+path) {
			return u.Key
		}
	}
	return ""
}

// Placeholder is a secret that is no secret: nats-server takes the text as it
// stands.
type Placeholder struct {
	Key      string // path
	Literal  string
	Variable bool // it looks like a variable, and stands in quotes
	Place    Place
}

// Barred is a listener that runs, and that hardly anybody or nobody gets through,
// whatever credentials he has.
type Barred struct {
	Door  DoorKind
	Place Place
	Text  string
}

// Override is a key that counts for nothing, since a later one replaces it.
type Override struct {
	Key        string // path
	Lost, Kept Place
}

// Spelling is one key that is written in two ways: nats-server takes them in
// any order, and the last one wins.
type Spelling struct {
	Keys   []string
	Places []Place
	Auth   bool // it decides who gets in
}

// Unset is a variable that has no value here.
type Unset struct {
	Name  string // "" where it may be a secret
	Key   string // path of what depends on it
	Place Place
}

// Listens tells whether the variable may decide that there is a listener at all.
func (u Unset) Listens() bool {
	switch u.Key[strings.LastIndex(u.Key, ".")+1:] {
	case "port", "listen", "http", "https", "http_port", "https_port", "prof_port":
		return true
	case "websocket", "mqtt", "leafnodes", "cluster", "gateway":
		return true // a whole block
	}
	return false
}

// Preload is an account of resolver_preload.
type Preload struct {
	Key   string // under which it stands
	Claim *Claim // with the account that it is of, and when and for whom it is valid
	Place Place
}

// Guest is a no_auth_user: who brings no credentials is taken for him.
type Guest struct {
	Door       DoorKind // Client stands for the whole server
	User       string
	Account    string
	Restricted bool // he has permissions of his own
	Place      Place
}

// ConfigCallout is an auth callout of a configuration.
type ConfigCallout struct {
	Place     Place
	Account   string   // in which requests are published
	Encrypted Tri      // the service has an xkey, so that nobody else can read them
	Watchers  []string // users of the account that log in beside the callout, and may receive its requests
	Placed    Tri      // so may users that the service places in the account, by the release
}

// Secret is how a login is proven.
type Secret uint8

// The kinds of a secret.
const (
	SecretUnset       Secret = iota // a variable without a value
	SecretNone                      // nothing proves it: the name is enough
	SecretPlain                     // a password or token in clear
	SecretHashed                    // a bcrypt hash
	SecretKey                       // an nkey
	SecretCert                      // a certificate
	SecretPlaceholder               // a text that somebody forgot to replace
)

// ConfigLogin is who may log in, and with what.
type ConfigLogin struct {
	Place   Place
	Where   string // the block: "authorization", "accounts.APP", "cluster"
	User    string // "" for a token
	Account string // "" outside of accounts

	Secret     Secret
	Length     int  // of a plain one, in characters
	Guessable  bool // a plain one that is on every list
	Outside    bool // the secret comes from the environment
	Restricted bool // it has permissions of its own
	Client     bool // it is for clients, and not for other servers
	Guest      bool // it is a no_auth_user
	Empty      bool // there is a password, and it is empty
	Unnamed    bool // its name is a variable without a value
	Presented  bool // the server itself logs in to its peers with it, so that it cannot be a hash
}

// Resolver is where a server in operator mode finds accounts.
type Resolver struct {
	Kind        string // "memory", "full", "cache", "url"
	Place       Place
	AllowDelete bool
	DeletePlace Place
}

// At is the first of the keys that the configuration has, and otherwise the
// file as a whole.
func (c *Config) At(paths ...string) Place {
	for _, path := range paths {
		if p, ok := c.Keys[path]; ok {
			return p
		}
	}
	return c.Whole()
}

// Whole is the place of the configuration as a whole.
func (c *Config) Whole() Place {
	if c.In.File != "" {
		return c.In
	}
	return Place{File: c.File}
}

// Says is evidence from a place of the configuration.
func (p Place) Says(access Access, value string) Evidence {
	return Evidence{Basis: Declared, Access: access, Source: p.String(), Value: value, Place: &p}
}
