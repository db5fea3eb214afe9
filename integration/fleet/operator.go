package fleet

import (
	"fmt"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// Operator is a trusted operator with a system account and an account of
// applications, and all their keys.
type Operator struct {
	JWT    string
	Claims *jwt.OperatorClaims // as they were last signed
	System Account
	App    Account
	Key    nkeys.KeyPair

	signing nkeys.KeyPair // signs accounts; nil: the identity key does
}

// Account is an account, the key that signs its users, and its claims as they
// were last signed.
type Account struct {
	Public string
	JWT    string
	Key    nkeys.KeyPair
	Claims *jwt.AccountClaims

	signing nkeys.KeyPair // signs users; nil: the identity key does
}

// NewOperator makes an operator and signs its two accounts.
func NewOperator() (*Operator, error) {
	key, err := nkeys.CreateOperator()
	if err != nil {
		return nil, err
	}
	o := &Operator{Key: key}
	for name, into := range map[string]*Account{"SYS": &o.System, "APP": &o.App} {
		a, err := o.Account(name, nil)
		if err != nil {
			return nil, err
		}
		*into = *a
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	o.Claims = jwt.NewOperatorClaims(public)
	o.Claims.Name = "OP"
	return o, o.Change(func(c *jwt.OperatorClaims) { c.SystemAccount = o.System.Public })
}

// Change signs the operator's own claims anew, after a change.
func (o *Operator) Change(change func(*jwt.OperatorClaims)) (err error) {
	change(o.Claims)
	o.JWT, err = o.Claims.Encode(o.Key)
	return err
}

// RotateSigningKey gives the operator a new signing key in the place of the one
// it had, and returns it. It signs accounts from now on; those that are signed
// stay as they are.
func (o *Operator) RotateSigningKey() (public string, err error) {
	if o.signing, err = nkeys.CreateOperator(); err != nil {
		return "", err
	}
	if public, err = o.signing.PublicKey(); err != nil {
		return "", err
	}
	return public, o.Change(func(c *jwt.OperatorClaims) { c.SigningKeys = jwt.StringList{public} })
}

// Account makes another account and signs it; change may be nil.
func (o *Operator) Account(name string, change func(*jwt.AccountClaims)) (*Account, error) {
	key, err := nkeys.CreateAccount()
	if err != nil {
		return nil, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, err
	}
	a := &Account{Public: public, Key: key, Claims: jwt.NewAccountClaims(public)}
	a.Claims.Name = name
	return a, o.Sign(a, change)
}

// Sign signs an account's claims anew, after a change, which may be nil.
func (o *Operator) Sign(a *Account, change func(*jwt.AccountClaims)) (err error) {
	if change != nil {
		change(a.Claims)
	}
	key := o.Key
	if o.signing != nil {
		key = o.signing
	}
	a.JWT, err = a.Claims.Encode(key)
	return err
}

// Config is the configuration of a server under this operator, with a FULL
// resolver that its two accounts and the others are loaded into.
func (o *Operator) Config(others ...*Account) string {
	return o.config(`{ type: full, dir: "{{dir}}/accounts", allow_delete: true }`, others)
}

// MemoryConfig is the same with a MEMORY resolver.
func (o *Operator) MemoryConfig(others ...*Account) string { return o.config("MEMORY", others) }

func (o *Operator) config(resolver string, others []*Account) string {
	var preload strings.Builder
	for _, a := range append([]*Account{&o.System, &o.App}, others...) {
		fmt.Fprintf(&preload, "  %s: %s\n", a.Public, a.JWT)
	}
	return fmt.Sprintf("\noperator: %s\nsystem_account: %s\nresolver: %s\nresolver_preload {\n%s}\n", o.JWT, o.System.Public, resolver, preload.String())
}

// SigningKey makes a key that signs the account's users from now on. The account
// has to be signed again for servers to know it.
func (a *Account) SigningKey() (public string, err error) {
	if a.signing, err = nkeys.CreateAccount(); err != nil {
		return "", err
	}
	if public, err = a.signing.PublicKey(); err == nil {
		a.Claims.SigningKeys.Add(public)
	}
	return public, err
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
	signer := a.Key
	if a.signing != nil {
		signer, claims.IssuerAccount = a.signing, a.Public
	}
	token, err = claims.Encode(signer)
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

// Encode signs claims of any kind with the operator's identity key.
func (o *Operator) Encode(claims jwt.Claims) (string, error) { return claims.Encode(o.Key) }

// EncodeBySigningKey signs claims of any kind with the operator's signing key.
func (o *Operator) EncodeBySigningKey(claims jwt.Claims) (string, error) {
	return claims.Encode(o.signing)
}
