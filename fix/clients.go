package fix

import (
	"cmp"
	"crypto/rand"
	"fmt"
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
func (b *builder) clients(more string, users ...string) string {
	var w strings.Builder
	fmt.Fprintf(&w, "# These land in %s, the account of everybody until now: what they have stored stays\n# theirs. They may do everything there; permissions narrow that down.\nauthorization {\n  users: [\n", globalAccount)
	for _, u := range users {
		fmt.Fprintf(&w, "    { %s }\n", u)
	}
	fmt.Fprintf(&w, "  ]\n%s}\n", more)
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

// asFound describes the server before: nobody is asked, or only the system
// account has users.
func (b *builder) asFound() {
	users := ""
	if b.plan.KeepAccounts {
		users = fmt.Sprintf("users: [ { user: \"operator\", password: %q } ]", rand.Text())
	}
	if b.plan.KeepAccounts || b.system != globalSystem {
		b.found = fmt.Sprintf("accounts { %q: { %s } }\n", b.system, users)
	}
	if b.system != globalSystem {
		b.found += fmt.Sprintf("system_account: %q\n", b.system)
	}
}

// names are the users to make: of which account, and how they are called.
func (b *builder) names() []Login {
	logins := []Login{{Name: appUser, Account: globalAccount}}
	if !b.plan.KeepAccounts {
		logins = append(logins, Login{Name: systemUser, Account: b.system})
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
	b.asFound()
	var entries []string
	for _, l := range b.names() {
		entry, l, err := b.passwordUser(l)
		if err != nil {
			return err
		}
		b.Logins = append(b.Logins, l)
		entries = append(entries, entry)
	}
	b.putClients(Users, "", entries)
	return nil
}

// putClients adds the part that lists clients: the last entry is the system
// user's, unless there is none.
func (b *builder) putClients(m Mode, more string, entries []string) {
	system := ""
	if !b.plan.KeepAccounts {
		system = b.systemAccount(entries[len(entries)-1])
		entries = entries[:len(entries)-1]
	}
	text := b.clients(more, entries...) + system
	b.put(m, "", func(Place) string { return text })
}

func addNKeys(b *builder) error {
	b.asFound()
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
	b.putClients(NKey, "", entries)
	return nil
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

// guest is the user of servers as they were found.
const guest = `{ user: "guest", password: "as-it-was-found" }`

// withGuest describes a server that has users, and lets strangers in as one of
// them on some port.
func (b *builder) withGuest() (line string) {
	if b.found == "" && !b.clientMode() {
		b.found = "authorization { users: [ " + guest + " ] }\n"
	}
	if strings.Contains(b.found, guest) {
		return "no_auth_user: guest\n"
	}
	return ""
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

func addNoAuthUser(b *builder) error {
	b.found = b.withGuest() + b.found
	b.put(NoAuthUser, "", func(Place) string { return noNoAuthUser })
	return nil
}

func addWebsocket(b *builder) error {
	b.put(Websocket, b.withGuest(), func(Place) string { return noNoAuthUser })
	return nil
}

func addMQTT(b *builder) error {
	b.put(MQTT, b.withGuest(), func(Place) string { return noNoAuthUser })
	return nil
}
