package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/natsentry/natsentry/integration/fleet"
)

// operator is one of fleet's, and ends the test where there is none.
type operator struct {
	*fleet.Operator
	t testing.TB
}

func newOperator(t testing.TB) *operator {
	t.Helper()
	return &operator{must(fleet.NewOperator()), t}
}

// user signs a user of an account; change may be nil.
func (o *operator) user(a *fleet.Account, name string, change func(*jwt.UserClaims)) (token, seed string) {
	o.t.Helper()
	token, seed, err := a.User(name, change)
	if err != nil {
		o.t.Fatal(err)
	}
	return token, seed
}

// login is a new user of an account, ready to connect.
func (o *operator) login(a *fleet.Account, name string, change func(*jwt.UserClaims)) nats.Option {
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
