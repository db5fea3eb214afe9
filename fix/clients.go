package fix

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nkeys"
	"golang.org/x/crypto/bcrypt"
)

// Where clients and the system user are.
const (
	globalAccount = "$G"
	globalSystem  = "$SYS"
	appUser       = "app"
	systemUser    = "sys"
)

// Proves says with what somebody proves who he is.
type Proves uint8

// The values of Proves.
const (
	ByPassword    Proves = iota + 1
	ByNKey               // a seed signs the server's nonce
	ByCredentials        // a JWT, and a seed
	ByCertificate
)

// Login is somebody who may come in. It prints as its name.
type Login struct {
	Name    string
	Account string // where he lands, by the server's name for it
	Label   string // the account's name for people, where it has another one
	By      Proves
	File    string // that holds the secret
	Public  string // the public nkey
	Subject string // of the certificate

	password, seed, token string
	cert, key             string
}

// String does not tell the secret.
func (l Login) String() string { return l.Name }

// GoString does not tell the secret.
func (l Login) GoString() string { return l.Name }

// Password is the password.
func (l Login) Password() string { return l.password }

// Seed is the seed of the nkey.
func (l Login) Seed() string { return l.seed }

// JWT is the user's JWT.
func (l Login) JWT() string { return l.token }

// Certificate is the certificate and its key, as PEM.
func (l Login) Certificate() (cert, key string) { return l.cert, l.key }

// bcryptCost is the one that nats-server and the nats command use.
const bcryptCost = 11

// newPassword makes a password of 130 random bits, and its hash. It consists
// of letters and digits, so that it needs no quoting, nor escaping in a URL.
func (b *builder) newPassword() (password, hash string, err error) {
	password = rand.Text()
	h, err := bcrypt.GenerateFromPassword([]byte(password), cmp.Or(b.plan.Cost, bcryptCost))
	return password, string(h), err
}

// clients writes the blocks of a server whose clients are listed: those of the
// global account, where they were before, and the system user, unless there is
// one.
//
// They stay in the global account because streams cannot be moved, and because
// any further account would take JetStream away from the global one.
//
// What the configuration has in this block beside its users stays, since a later
// block replaces the whole earlier one.
func (b *builder) clients(more string, users ...string) string {
	var w strings.Builder
	// A no_auth_user that stands above would name one of them.
	w.WriteString(noNoAuthUser)
	fmt.Fprintf(&w, "\n# These users are in %s, the account of every client until now: its streams stay\n# there.", globalAccount)
	if len(b.original().Kept) == 0 {
		w.WriteString(" They may do everything there; permissions narrow that down.")
	}
	w.WriteString("\nauthorization {\n  users: [\n")
	for _, u := range users {
		fmt.Fprintf(&w, "    { %s }\n", u)
	}
	fmt.Fprintf(&w, "  ]\n%s%s}\n", more, b.original().kept())
	return w.String()
}

// systemAccount writes the block of the system account with its one user.
func (b *builder) systemAccount(user string) string {
	if b.plan.KeepAccounts {
		return ""
	}
	text := fmt.Sprintf("\n# The system account, for natsentry and the nats command.\naccounts {\n  %q: { users: [ { %s } ] }\n}\n", b.system, user)
	if b.system != globalSystem {
		text += fmt.Sprintf("system_account: %q\n", b.system)
	}
	return text
}

// describe describes the server before, with all that the bundle must keep.
func (b *builder) describe() {
	authorization, accounts := b.foundUsers()
	// A server in operator mode starts with no accounts of a configuration.
	listed := b.clientMode() && !b.has(Operator)
	if listed {
		if b.plan.KeepAccounts {
			accounts[b.system] += fmt.Sprintf("{ user: \"operator\", password: %q }", rand.Text())
		} else if b.system != globalSystem {
			accounts[b.system] += ""
		}
	}
	var w strings.Builder
	if guest := b.guestOf(); guest != "" {
		if !slices.ContainsFunc(b.entries, func(e entryFile) bool { return e.user.Name == guest }) {
			authorization += fmt.Sprintf("{ user: %q, password: \"as-it-was-found\" }", guest)
		}
		if b.has(NoAuthUser) || b.clientMode() {
			fmt.Fprintf(&w, "no_auth_user: %q\n", guest)
		}
	}
	if authorization != "" {
		fmt.Fprintf(&w, "authorization { users: [ %s ] }\n", authorization)
	}
	if len(accounts) > 0 {
		w.WriteString("accounts {\n")
		for _, name := range slices.Sorted(maps.Keys(accounts)) {
			users := ""
			if accounts[name] != "" {
				users = "users: [ " + accounts[name] + " ]"
			}
			if name != b.system {
				users = "jetstream: enabled, " + users // which MQTT needs
			}
			fmt.Fprintf(&w, "%q: { %s }\n", name, users)
		}
		w.WriteString("}\n")
	}
	if listed && b.system != globalSystem {
		fmt.Fprintf(&w, "system_account: %q\n", b.system)
	}
	b.found = w.String()
	for i := range b.parts {
		if m := b.parts[i].kind.mode; m == Websocket || m == MQTT {
			if guest := b.guestOf(); guest != "" {
				b.parts[i].found = fmt.Sprintf("no_auth_user: %q\n", guest)
			}
		}
	}
}

// guestOf is the user of the server as it was found whom clients without
// credentials are taken for; "" where the server asks nobody.
func (b *builder) guestOf() string {
	switch {
	case len(b.entries) > 0:
		return b.entries[0].user.Name
	case !b.clientMode() && (b.has(NoAuthUser) || b.has(Websocket) || b.has(MQTT)):
		return "guest"
	default:
		return ""
	}
}

// names are the users to make: of which account, and how they are called.
func (b *builder) names() []Login {
	o := b.original()
	logins := []Login{{Name: o.free(appUser), Account: globalAccount}}
	if !b.plan.KeepAccounts {
		logins = append(logins, Login{Name: o.free(systemUser), Account: b.system})
	}
	return logins
}

// passwordUser makes a user with a password, and keeps it in the file that the
// login names.
func (b *builder) passwordUser(l Login) (entry string, _ Login, err error) {
	password, hash, err := b.newPassword()
	if err != nil {
		return "", Login{}, err
	}
	l.By, l.password = ByPassword, password
	if l.File == "" {
		l.File = b.keep(l.Name+".password", password+"\n")
	}
	return fmt.Sprintf("user: %q, password: %q", l.Name, hash), l, nil
}

func addUsers(b *builder) error {
	var entries []string
	for _, l := range b.names() {
		entry, l, err := b.passwordUser(l)
		if err != nil {
			return err
		}
		b.Logins = append(b.Logins, l)
		entries = append(entries, entry)
	}
	return b.putClients(Users, "", entries)
}

// putClients adds the part that lists clients: the last entry is the system
// user's, unless there is none.
func (b *builder) putClients(m Mode, more string, entries []string) error {
	system := ""
	if !b.plan.KeepAccounts {
		system = b.systemAccount(entries[len(entries)-1])
		entries = entries[:len(entries)-1]
	}
	carried, err := b.carried()
	if err != nil {
		return err
	}
	text := b.clients(more, append(entries, carried...)...) + system
	b.put(m, func(Place) string { return text })
	return nil
}

func addNKeys(b *builder) error {
	var entries []string
	for _, l := range b.names() {
		pair, err := newKey(nkeys.CreateUser)
		if err != nil {
			return err
		}
		l.By, l.seed, l.Public = ByNKey, pair.seed, pair.public
		l.File = b.keep(l.Name+".nk", pair.seed+"\n")
		b.Logins = append(b.Logins, l)
		entries = append(entries, "nkey: "+pair.public)
	}
	return b.putClients(NKey, "", entries)
}

// key is a pair of keys, written out.
type key struct {
	nkeys.KeyPair
	seed, public string
}

func newKey(create func() (nkeys.KeyPair, error)) (key, error) {
	pair, err := create()
	if err != nil {
		return key{}, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return key{}, err
	}
	public, err := pair.PublicKey()
	return key{pair, string(seed), public}, err
}

func (b *builder) clientMode() bool {
	for _, m := range b.plan.Modes {
		if kindOf(m).client {
			return true
		}
	}
	return false
}

// noNoAuthUser is the key without a value, which takes back an earlier one.
const noNoAuthUser = "no_auth_user: \"\"\n"

func addNoAuthUser(b *builder) error { return b.takeBack(NoAuthUser) }
func addWebsocket(b *builder) error  { return b.takeBack(Websocket) }
func addMQTT(b *builder) error       { return b.takeBack(MQTT) }

func (b *builder) takeBack(m Mode) error {
	b.put(m, func(Place) string { return noNoAuthUser })
	return nil
}
