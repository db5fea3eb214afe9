package integration

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// come is somebody who connects to a server as he likes: his CONNECT holds what
// fields makes of the server's nonce. It returns when he was let in.
func come(t testing.TB, s *fleet.Server, name string, fields func(nonce string) map[string]any) {
	t.Helper()
	conn := must(net.Dial("tcp", strings.TrimPrefix(s.URL(), "nats://")))
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	var info struct {
		Nonce string `json:"nonce"`
	}
	greeting := must(r.ReadString('\n'))
	if err := json.Unmarshal([]byte(strings.TrimPrefix(greeting, "INFO ")), &info); err != nil {
		t.Fatal(err)
	}
	said := fields(info.Nonce)
	said["name"], said["lang"], said["version"], said["verbose"] = name, "test", "1", false
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", must(json.Marshal(said))); err != nil {
		t.Fatal(err)
	}
	if answer := must(r.ReadString('\n')); !strings.HasPrefix(answer, "PONG") && !strings.HasPrefix(answer, "PING") {
		t.Fatalf("%s was not let in: %s", name, answer)
	}
}

// says is a CONNECT that needs no nonce.
func says(fields map[string]any) func(string) map[string]any {
	return func(string) map[string]any { return fields }
}

// comeByMQTT logs in to an MQTT port and stays.
func comeByMQTT(t testing.TB, s *fleet.Server, name, user, password string) {
	t.Helper()
	field := func(v string) string { return string([]byte{byte(len(v) >> 8), byte(len(v))}) + v }
	body := field("MQTT") + "\x04\xc2\x00\x00" + field(name) + field(user) + field(password)
	length := []byte{byte(len(body)&0x7f | 0x80), byte(len(body) >> 7)}
	if len(body) < 128 {
		length = []byte{byte(len(body))}
	}
	conn := must(net.Dial("tcp", s.Addr("mqtt")))
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(append(append([]byte{0x10}, length...), body...)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 0x20 || answer[3] != 0 {
		t.Fatalf("%s was not let in: % x, %v", name, answer, err)
	}
}

// insiders finds in a state the sessions of a server by the names that clients
// call themselves, or by door and account where they have no name of their own.
func insiders(t testing.TB, state *agent.State, server string) map[string]posture.Session {
	t.Helper()
	s := state.Snapshot.Server(server)
	if s == nil || !s.Heard.Has(posture.EveryoneConnz) || s.Everyone.At.IsZero() {
		t.Fatalf("%s did not tell who is inside: %v", server, state.Snapshot.Gaps)
	}
	if s.Everyone.Total != len(s.Everyone.List) {
		t.Errorf("%s listed %d of %d", server, len(s.Everyone.List), s.Everyone.Total)
	}
	out := map[string]posture.Session{}
	for _, c := range s.Everyone.List {
		name := c.Name
		if c.Door == posture.MQTT || c.Door == posture.Leafnode {
			name = c.Door.String() + " of " + c.Account
		}
		out[name] = c
	}
	return out
}

// login is what is expected of a session.
type login struct {
	login     posture.Login
	door      posture.DoorKind
	account   string
	owner     string // "" for nobody
	encrypted posture.Tri
}

func checkLogins(t *testing.T, state *agent.State, server string, want map[string]login) {
	t.Helper()
	got := insiders(t, state, server)
	for name, w := range want {
		c, ok := got[name]
		if !ok {
			t.Errorf("%s: %s is not there: %+v", server, name, got)
			continue
		}
		if w.door == posture.NoDoor {
			w.door = posture.Client
		}
		if w.encrypted == posture.Unseen {
			w.encrypted = posture.No
		}
		owner, ok := c.Owner()
		if c.Login != w.login || c.Door != w.door || c.Account != w.account || owner != w.owner || ok != (w.owner != "") || c.Encrypted != w.encrypted {
			t.Errorf("%s: %s came in by %s through %s into %s as %q (encrypted %v), want %+v; user %q", server, name, c.Login, c.Door, c.Account, owner, c.Encrypted, w, c.User)
		}
	}
}

// TestLogins: everybody is really logged in, and told by how he did it. What
// clients merely claim never makes them somebody.
func TestLogins(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	key := must(nkeys.CreateUser())
	public, seed := must(key.PublicKey()), must(key.Seed())
	other := must(must(nkeys.CreateUser()).PublicKey())
	issuer := must(nkeys.CreateAccount())
	foreign, _ := newOperator(t).user(newOperator(t).app, "foreign", nil)
	withTLS := fleet.Spec{Files: ca.files(365 * 24 * time.Hour)}
	hash := `password: app-password`

	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	for name, config := range map[string]string{
		"open":   websocket + "}\n",
		"ws-own": websocket + ", authorization { user: browser, password: browser-password } }\n",
		"token":  "authorization { token: the-token-of-the-test, timeout: 5 }\n",
		"users": jetstream + `accounts { APP { jetstream: enabled, users: [ { user: app, ` + hash + ` }, { user: guest, password: guest-password }, { nkey: ` + public + ` } ] } }
no_auth_user: guest
` + websocket + "}\n" + mqtt + "}\n",
		"map": `accounts { APP { users: [ { user: "CN=alice" }, { user: app, ` + hash + ` } ] } }` + tlsBlock("verify_and_map: true"),
		"verify": `accounts { APP { users: [ { user: app, ` + hash + ` }, { user: "CN=mallory", password: x } ] } }` + tlsBlock("verify: true") +
			`websocket { listen: "{{addr "websocket"}}"` + tlsBlock("") + "}\n",
		"callout": `accounts { AUTH { users: [ { user: auth, password: auth-password } ] }, APP {} }
authorization { timeout: 3, auth_callout { issuer: ` + must(issuer.PublicKey()) + `, account: AUTH, auth_users: [ auth ] } }
`,
		"leafs": `accounts { APP { users: [ { user: app, ` + hash + ` } ] } }
` + strings.Replace(remote("leaf-sys", "$SYS"), "{", `{ listen: "{{addr "leafnode"}}", authorization { user: edge, password: edge-password, account: APP }, `, 1),
	} {
		if !strings.Contains(config, "remotes") {
			config += remote("leaf-sys", "$SYS")
		}
		if _, err := f.Add(t.Context(), fleet.Spec{Name: name, Config: config, Files: withTLS.Files}); err != nil {
			t.Fatal(err)
		}
	}
	waitActive(t, f, f.Server("hub"), 9)

	open, token, users, mapped, verify := f.Server("open"), f.Server("token"), f.Server("users"), f.Server("map"), f.Server("verify")
	connect(t, open.URL(), nats.Name("nobody"))
	connect(t, open.URL(), nats.Name("claims a user"), nats.UserInfo("admin", "x"))
	connect(t, open.URL(), nats.Name("claims a token"), nats.Token("not-a-token-of-anybody"))
	come(t, open, "claims a JWT", says(map[string]any{"jwt": foreign, "sig": "x"}))
	come(t, open, "claims an nkey", says(map[string]any{"nkey": public}))
	connect(t, "ws://"+open.Addr("websocket"), nats.Name("browser"))
	connect(t, "ws://"+f.Server("ws-own").Addr("websocket"), nats.Name("browser"), nats.UserInfo("browser", "browser-password"))
	connect(t, token.URL(), nats.Name("by token"), nats.Token("the-token-of-the-test"))
	come(t, token, "by token, claims a user", says(map[string]any{"auth_token": "the-token-of-the-test", "user": "admin"}))
	connect(t, users.URL(), nats.Name("by password"), nats.UserInfo("app", "app-password"))
	connect(t, users.URL(), nats.Name("by no_auth_user"))
	connect(t, users.URL(), nats.Name("by nkey"), nats.Nkey(public, func(nonce []byte) ([]byte, error) { return must(nkeys.FromSeed(seed)).Sign(nonce) }))
	come(t, users, "by password, claims a JWT", says(map[string]any{"user": "app", "pass": "app-password", "jwt": foreign}))
	connect(t, "ws://"+users.Addr("websocket"), nats.Name("browser"), nats.UserInfo("app", "app-password"))
	comeByMQTT(t, users, "device", "app", "app-password")
	come(t, token, "by token, claims an nkey", says(map[string]any{"auth_token": "the-token-of-the-test", "nkey": other}))
	connect(t, mapped.URL(), nats.Name("by certificate"), nats.Secure(ca.client(t, "alice")))
	connect(t, verify.URL(), nats.Name("by password, with a certificate"), nats.Secure(ca.client(t, "mallory")), nats.UserInfo("app", "app-password"))
	connect(t, "wss://"+verify.Addr("websocket"), nats.Name("browser"), nats.Secure(ca.client(t, "alice")), nats.UserInfo("app", "app-password"))
	serveCallout(t, f.Server("callout"), nats.UserInfo("auth", "auth-password"), issuer, func(user *jwt.UserClaims) string {
		user.Audience, user.Name = "APP", "named by the callout"
		return must(user.Encode(issuer))
	})
	connect(t, f.Server("callout").URL(), nats.Name("by callout"), nats.UserInfo("admin", "x"))
	edge := fleet.Spec{Name: "edge", Config: `accounts { A {} }
leafnodes { remotes: [ { url: "nats-leaf://edge:edge-password@{{addr "leafs" "leafnode"}}", account: A } ] }
`}
	if _, err := f.Add(t.Context(), edge); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the leafnode joined", func() bool { return f.Server("leafs").Embedded().NumLeafNodes() == 2 })

	a := auditor(t, connectSys(t, f.Server("hub"), nats.Name("natsentry itself")), patient)
	state := sweep(t, a)
	const g = posture.GlobalAccount
	for server, want := range map[string]map[string]login{
		"open": {
			"nobody":         {login: posture.LoginNone, account: g},
			"claims a user":  {login: posture.LoginName, account: g},
			"claims a token": {login: posture.LoginName, account: g},
			"claims a JWT":   {login: posture.LoginNone, account: g}, // its key is shown where it was looked at only
			"claims an nkey": {login: posture.LoginName, account: g},
			"browser":        {login: posture.LoginNone, door: posture.Websocket, account: g},
		},
		"ws-own": {"browser": {login: posture.LoginUnknown, door: posture.Websocket, account: g}},
		"token": {
			"by token":                 {login: posture.LoginToken, account: g},
			"by token, claims a user":  {login: posture.LoginPassword, account: g, owner: "admin"}, // CONNZ shows them as one and the same
			"by token, claims an nkey": {login: posture.LoginUnknown, account: g},
		},
		"users": {
			"by password":               {login: posture.LoginPassword, account: "APP", owner: "app"},
			"by no_auth_user":           {login: posture.LoginPassword, account: "APP", owner: "guest"}, // CONNZ shows them as one and the same
			"by nkey":                   {login: posture.LoginNKey, account: "APP", owner: public},
			"by password, claims a JWT": {login: posture.LoginPassword, account: "APP", owner: "app"},
			"browser":                   {login: posture.LoginPassword, door: posture.Websocket, account: "APP", owner: "app"},
			"mqtt of APP":               {login: posture.LoginPassword, door: posture.MQTT, account: "APP", owner: "app"},
		},
		"map": {"by certificate": {login: posture.LoginCertificate, account: "APP", owner: "CN=alice", encrypted: posture.Yes}},
		"verify": {
			"by password, with a certificate": {login: posture.LoginUnknown, account: "APP", encrypted: posture.Yes},
			"browser":                         {login: posture.LoginPassword, door: posture.Websocket, account: "APP", owner: "app", encrypted: posture.Yes},
		},
		"callout": {
			"callout":    {login: posture.LoginPassword, account: "AUTH", owner: "auth"},
			"by callout": {login: posture.LoginUnknown, account: "APP"},
		},
		"leafs": {"leafnode of APP": {login: posture.LoginUnknown, door: posture.Leafnode, account: "APP"}},
		"hub":   {"natsentry itself": {login: posture.LoginPassword, account: "$SYS", owner: sysUser}},
	} {
		checkLogins(t, state, server, want)
	}
	for _, s := range state.Snapshot.Servers {
		for _, c := range s.Everyone.List {
			if c.Ours != (c.Name == "natsentry itself") {
				t.Errorf("%s is ours: %v", c.Name, c.Ours)
			}
		}
	}
	noSecret(t, state, "the-token-of-the-test", "not-a-token-of-anybody", foreign, foreign[strings.LastIndex(foreign, "."):])
}

// TestLoginsOfAnOperator: JWT users, by their claims.
func TestLoginsOfAnOperator(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	sentinel, sentinelSeed := op.user(op.app, "sentinel", func(c *jwt.UserClaims) { c.BearerToken = true })
	f := start(t, fleet.Spec{Name: "op", Config: jetstream + op.config() + "default_sentinel: " + sentinel + "\n" + mqtt + "}\n"})
	s := f.Server("op")
	token, seed := op.user(op.app, "shown", func(c *jwt.UserClaims) {
		c.Expires = time.Now().Add(time.Hour).Unix()
		c.Pub.Allow.Add("a.>")
		c.Src.Add("127.0.0.0/8")
	})
	signed := func(user string) func(string) map[string]any {
		return func(nonce string) map[string]any {
			sig := must(must(nkeys.FromSeed([]byte(seed))).Sign([]byte(nonce)))
			return map[string]any{"jwt": token, "sig": base64.RawURLEncoding.EncodeToString(sig), "user": user}
		}
	}
	come(t, s, "by JWT", signed(""))
	come(t, s, "by JWT, claims a user", signed("admin"))
	bearer, _ := op.user(op.app, "bearer", func(c *jwt.UserClaims) { c.BearerToken = true })
	come(t, s, "bearer", says(map[string]any{"jwt": bearer}))
	come(t, s, "bearer, claims a user", says(map[string]any{"jwt": bearer, "user": "admin"}))
	connect(t, s.URL(), nats.Name("by sentinel"))
	a := auditor(t, connect(t, s.URL(), op.login(op.system, "natsentry", nil), nats.Name("natsentry itself")), collect.Config{})
	state := sweep(t, a)

	claims := must(jwt.DecodeUserClaims(token))
	key := func(token string) string { return must(jwt.DecodeUserClaims(token)).Subject }
	app := op.app.public
	checkLogins(t, state, "op", map[string]login{
		"by JWT":                {login: posture.LoginJWT, account: app, owner: claims.Subject},
		"by JWT, claims a user": {login: posture.LoginJWT, account: app, owner: claims.Subject},
		"bearer":                {login: posture.LoginBearer, account: app, owner: key(bearer)},
		"bearer, claims a user": {login: posture.LoginUnknown, account: app},
		"by sentinel":           {login: posture.LoginBearer, account: app, owner: key(sentinel)},
	})
	in := insiders(t, state, "op")
	want := posture.UserClaim{
		Key: claims.Subject, Name: "shown", Account: app, Issuer: app, Issued: time.Unix(claims.IssuedAt, 0).UTC(),
		Expires: time.Unix(claims.Expires, 0).UTC(), OpenSub: true, Bound: true,
	}
	if got := in["by JWT"].Claim; got == nil || *got != want {
		t.Errorf("the claim is %+v, want %+v", got, want)
	}
	if in["by JWT"].Claim != in["by JWT, claims a user"].Claim {
		t.Error("two sessions of one user do not share his claim")
	}
	if c := in["natsentry itself"]; !c.Ours || c.Claim == nil || !c.Claim.Defaults || !c.Claim.OpenPub || !c.Claim.OpenSub {
		t.Errorf("our own session: %+v %+v", c, c.Claim)
	}
	noSecret(t, state, token, bearer, seed, sentinelSeed, token[strings.LastIndex(token, "."):], bearer[strings.LastIndex(bearer, "."):])
}
