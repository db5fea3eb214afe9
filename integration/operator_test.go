package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// operator is a trusted operator with a system account and an account of
// applications, and all their keys.
type operator struct {
	t      testing.TB
	key    nkeys.KeyPair
	jwt    string
	system signer
	app    signer
}

// signer is an account and the key that signs its users.
type signer struct {
	key    nkeys.KeyPair
	public string
	jwt    string
}

// newOperator makes an operator and signs its two accounts.
func newOperator(t testing.TB) *operator {
	t.Helper()
	key := must(nkeys.CreateOperator())
	system := must(nkeys.CreateAccount())
	app := must(nkeys.CreateAccount())
	claims := jwt.NewOperatorClaims(must(key.PublicKey()))
	claims.Name = "OP"
	claims.SystemAccount = must(system.PublicKey())
	o := &operator{t: t, key: key, jwt: must(claims.Encode(key))}
	for _, a := range []struct {
		name string
		key  nkeys.KeyPair
		into *signer
	}{{"SYS", system, &o.system}, {"APP", app, &o.app}} {
		public := must(a.key.PublicKey())
		claims := jwt.NewAccountClaims(public)
		claims.Name = a.name
		*a.into = signer{key: a.key, public: public, jwt: must(claims.Encode(key))}
	}
	return o
}

// config is the configuration of a server under this operator, with a FULL
// resolver that both accounts are loaded into.
func (o *operator) config() string {
	return fmt.Sprintf(`
operator: %s
system_account: %s
resolver { type: full, dir: "{{dir}}/accounts", allow_delete: true }
resolver_preload { %s: %s, %s: %s }
`, o.jwt, o.system.public, o.system.public, o.system.jwt, o.app.public, o.app.jwt)
}

// user signs a user of an account; change may be nil.
func (o *operator) user(a signer, name string, change func(*jwt.UserClaims)) (token, seed string) {
	o.t.Helper()
	key := must(nkeys.CreateUser())
	claims := jwt.NewUserClaims(must(key.PublicKey()))
	claims.Name = name
	if change != nil {
		change(claims)
	}
	return must(claims.Encode(a.key)), string(must(key.Seed()))
}

// login is a new user of an account, ready to connect.
func (o *operator) login(a signer, name string, change func(*jwt.UserClaims)) nats.Option {
	o.t.Helper()
	return nats.UserJWTAndSeed(o.user(a, name, change))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// clustered is the cluster block of a server whose peers are other servers of
// the fleet. Nobody but them knows the password.
func clustered(name string, peers ...string) string {
	routes := make([]string, len(peers))
	for i, p := range peers {
		routes[i] = fmt.Sprintf(`"nats-route://r:route-password@{{addr %q "route"}}"`, p)
	}
	return fmt.Sprintf(`
cluster {
  name: %s
  listen: "{{addr "route"}}"
  authorization { user: r, password: route-password, timeout: 10 }
  routes: [ %s ]
}
`, name, strings.Join(routes, ", "))
}
