package fleet

import (
	"fmt"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Operator is a trusted operator with a system account and an account of
// applications, and all their keys.
type Operator struct {
	JWT    string
	System Account
	App    Account

	key nkeys.KeyPair
}

// Account is an account, the key that signs its users, and its claims as they
// were last signed.
type Account struct {
	Public string
	JWT    string
	Key    nkeys.KeyPair
	Claims *jwt.AccountClaims
}

// NewOperator makes an operator and signs its two accounts.
func NewOperator() (*Operator, error) {
	key, err := nkeys.CreateOperator()
	if err != nil {
		return nil, err
	}
	o := &Operator{key: key}
	for name, into := range map[string]*Account{"SYS": &o.System, "APP": &o.App} {
		if err := o.newAccount(name, into); err != nil {
			return nil, err
		}
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	claims := jwt.NewOperatorClaims(public)
	claims.Name = "OP"
	claims.SystemAccount = o.System.Public
	o.JWT, err = claims.Encode(key)
	return o, err
}

func (o *Operator) newAccount(name string, into *Account) error {
	key, err := nkeys.CreateAccount()
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	*into = Account{Public: public, Key: key, Claims: jwt.NewAccountClaims(public)}
	into.Claims.Name = name
	return o.Sign(into, nil)
}

// Sign signs an account's claims anew, after a change, which may be nil.
func (o *Operator) Sign(a *Account, change func(*jwt.AccountClaims)) (err error) {
	if change != nil {
		change(a.Claims)
	}
	a.JWT, err = a.Claims.Encode(o.key)
	return err
}

// Config is the configuration of a server under this operator, with a FULL
// resolver that both accounts are loaded into.
func (o *Operator) Config() string {
	return fmt.Sprintf(`
operator: %s
system_account: %s
resolver { type: full, dir: "{{dir}}/accounts", allow_delete: true }
resolver_preload { %s: %s, %s: %s }
`, o.JWT, o.System.Public, o.System.Public, o.System.JWT, o.App.Public, o.App.JWT)
}

// User signs a user of an account; change may be nil.
func (a *Account) User(name string, change func(*jwt.UserClaims)) (token, seed string, err error) {
	key, err := nkeys.CreateUser()
	if err != nil {
		return "", "", err
	}
	public, err := key.PublicKey()
	if err != nil {
		return "", "", err
	}
	secret, err := key.Seed()
	if err != nil {
		return "", "", err
	}
	claims := jwt.NewUserClaims(public)
	claims.Name = name
	if change != nil {
		change(claims)
	}
	token, err = claims.Encode(a.Key)
	return token, string(secret), err
}

// Login is a new user of an account, ready to connect.
func (a *Account) Login(name string) (nats.Option, error) {
	token, seed, err := a.User(name, nil)
	if err != nil {
		return nil, err
	}
	return nats.UserJWTAndSeed(token, seed), nil
}
