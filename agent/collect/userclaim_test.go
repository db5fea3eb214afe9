package collect

import (
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// TestUserClaimByEffect: a limit that shuts nobody out is none, and permissions
// that leave everything open restrict nothing, however they are written.
func TestUserClaimByEffect(t *testing.T) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	all := jwt.StringList{"STANDARD", "websocket", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS"}
	src := func(list ...string) func(*jwt.UserClaims) {
		return func(c *jwt.UserClaims) { c.Src = list }
	}
	times := func(list ...jwt.TimeRange) func(*jwt.UserClaims) {
		return func(c *jwt.UserClaims) { c.Times = list }
	}
	kinds := func(list jwt.StringList) func(*jwt.UserClaims) {
		return func(c *jwt.UserClaims) { c.AllowedConnectionTypes = list }
	}
	subjects := func(publish, subscribe jwt.Permission) func(*jwt.UserClaims) {
		return func(c *jwt.UserClaims) { c.Pub, c.Sub = publish, subscribe }
	}
	allow := func(list ...string) jwt.Permission { return jwt.Permission{Allow: list} }
	for _, c := range []struct {
		name        string
		change      func(*jwt.UserClaims)
		bound, free bool
	}{
		{"nothing", func(*jwt.UserClaims) {}, false, true},
		{"all addresses", src("0.0.0.0/0", "::/0"), false, true},
		{"all addresses of one family", src("10.0.0.0/8", "::/0"), false, true},
		{"all addresses in two halves", src("128.0.0.0/1", "10.0.0.0/8", "0.0.0.0/1"), false, true},
		{"an address with a host part", src("10.1.2.3/0"), false, true},
		{"half of the addresses", src("128.0.0.0/1"), true, true},
		{"all but one of them", src("128.0.0.0/1", "0.0.0.0/2", "64.0.0.0/3"), true, true},
		{"what comes after an address that is none", src("nonsense", "0.0.0.0/0"), true, true},
		{"all day", times(jwt.TimeRange{Start: "00:00:00", End: "23:59:59"}), false, true},
		{"all day in shifts", times(jwt.TimeRange{Start: "22:00:00", End: "06:00:00"}, jwt.TimeRange{Start: "06:00:00", End: "14:00:00"}, jwt.TimeRange{Start: "13:59:59", End: "22:00:00"}), false, true},
		{"by day", times(jwt.TimeRange{Start: "08:00:00", End: "18:00:00"}), true, true},
		{"a break", times(jwt.TimeRange{Start: "00:00:00", End: "12:00:00"}, jwt.TimeRange{Start: "13:00:00", End: "23:59:59"}), true, true},
		{"never", times(jwt.TimeRange{Start: "08:00:00", End: "08:00:00"}), true, true},
		{"all kinds of connection", kinds(all), false, true},
		{"all kinds but one", kinds(all[1:]), true, true},
		{"wildcards", subjects(allow("*.>", "*"), allow("*.>", "*")), false, true},
		{"wildcards that leave one token out", subjects(allow("*.>"), allow(">")), false, true},
		{"everything but a secret", subjects(jwt.Permission{Deny: jwt.StringList{"secret.>"}}, allow(">")), false, true},
		{"everything is denied", subjects(jwt.Permission{Allow: jwt.StringList{">"}, Deny: jwt.StringList{"*", "*.>"}}, allow(">")), false, false},
		{"subjects by name", subjects(allow("app.>"), allow("_INBOX.>")), false, false},
		{"responses only", func(c *jwt.UserClaims) { c.Resp = &jwt.ResponsePermission{MaxMsgs: 1} }, false, false},
	} {
		claims := jwt.NewUserClaims(key)
		c.change(claims)
		token, err := claims.Encode(account)
		if err != nil {
			t.Fatal(err)
		}
		u := userClaim(token)
		if u.Bound != c.bound || (u.OpenPub && u.OpenSub) != c.free {
			t.Errorf("%s: bound %v, publish open %v, subscribe open %v", c.name, u.Bound, u.OpenPub, u.OpenSub)
		}
	}
}
