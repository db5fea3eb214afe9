package integration

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestUsersByEffect: limits that leave nobody out, permissions that leave
// everything open, and a bearer by its signing key, on a real server.
func TestUsersByEffect(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	narrow := must(op.Account("narrow", func(a *jwt.AccountClaims) {
		a.DefaultPermissions.Pub.Allow.Add("app.>")
		a.DefaultPermissions.Sub.Allow.Add("app.>")
	}))
	scoped := must(op.Account("scoped", nil))
	key := must(nkeys.CreateAccount())
	scope := jwt.NewUserScope()
	scope.Key, scope.Template.BearerToken = must(key.PublicKey()), true
	scope.Template.Pub.Allow.Add("app.>")
	scope.Template.Src.Add("127.0.0.0/8")
	if err := op.Sign(scoped, func(a *jwt.AccountClaims) { a.SigningKeys.AddScopedSigner(scope) }); err != nil {
		t.Fatal(err)
	}
	s := start(t, fleet.Spec{Name: "n1", Config: op.Config(narrow, scoped)}).Server("n1")
	free := connect(t, s.URL(), nats.UserJWTAndSeed(mustUser(narrow.User("free", func(c *jwt.UserClaims) {
		c.Pub.Allow.Add("*.>", "*")
		c.Sub.Allow.Add("*.>", "*")
		c.Src.Add("0.0.0.0/0", "::/0")
		c.Times = []jwt.TimeRange{{Start: "00:00:00", End: "12:00:00"}, {Start: "11:59:00", End: "23:59:59"}, {Start: "23:59:00", End: "00:01:00"}}
		c.AllowedConnectionTypes.Add("STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS")
	}))))
	sub := must(free.SubscribeSync("anything.at.all"))
	if err := free.Publish("anything.at.all", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(20 * time.Second); err != nil {
		t.Errorf("wildcards without a name restrict a user: %v", err)
	}
	user := jwt.NewUserClaims(must(must(nkeys.CreateUser()).PublicKey()))
	user.Name, user.IssuerAccount = "scoped bearer", scoped.Public
	user.SetScoped(true)
	// A bearer's login takes no signature.
	connect(t, s.URL(), nats.UserJWT(func() (string, error) { return user.Encode(key) }, func([]byte) ([]byte, error) { return nil, nil }))
	state := sweep(t, auditor(t, connect(t, s.URL(), auditorOf(&op.System)), collect.Config{Timeout: 20 * time.Second}))
	judgeInside(t, state, narrow.Public, map[string]check.Outcome{"JWT_033": check.Fail, "JWT_034": check.Fail, "JWT_032": check.Pass})
	judgeInside(t, state, scoped.Public, map[string]check.Outcome{"JWT_032": check.Fail, "JWT_033": check.Pass, "JWT_034": check.Pass})
}
