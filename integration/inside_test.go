package integration

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// come is somebody who connects to a server as he likes: his CONNECT holds what
// fields makes of the server's nonce. It returns when he was let in.
func come(t testing.TB, s *fleet.Server, name string, fields func(nonce string) map[string]any) {
	t.Helper()
	comeFrom(t, s, "127.0.0.1", name, fields)
}

// comeFrom is the same from another address, by a library of that name.
func comeFrom(t testing.TB, s *fleet.Server, address, name string, fields func(nonce string) map[string]any) {
	t.Helper()
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := from.DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL(), "nats://"))
	if err != nil {
		t.Skipf("nobody can come from %s here: %v", address, err)
	}
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
	said["name"], said["lang"], said["version"], said["verbose"] = name, name, "1", false
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nSUB a 1\r\nPING\r\n", must(json.Marshal(said))); err != nil {
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
	foreign, _ := newOperator(t).user(&newOperator(t).App, "foreign", nil)
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
	byToken := connect(t, token.URL(), nats.Name("by token"), nats.Token("the-token-of-the-test"))
	if err := byToken.Publish("a", nil); err != nil { // until then he may be one who waits to be let in
		t.Fatal(err)
	}
	if err := byToken.Flush(); err != nil {
		t.Fatal(err)
	}
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

// TestWhoWaitsIsNobody: a server lists a client by the user that he claims from
// the moment on that it reads it, before it has looked at the password.
func TestWhoWaitsIsNobody(t *testing.T) {
	t.Parallel()
	issuer := must(nkeys.CreateAccount())
	f := start(t, fleet.Spec{Name: "callout", Config: `accounts { AUTH { users: [ { user: auth, password: auth-password } ] }, $SYS { users: [ { user: ` + sysUser + `, password: ` + sysPassword + ` } ] } }
authorization { timeout: 60, auth_callout { issuer: ` + must(issuer.PublicKey()) + `, account: AUTH, auth_users: [ auth, ` + sysUser + ` ] } }
`})
	s := f.Server("callout")
	answer := make(chan struct{})
	serveCallout(t, s, nats.UserInfo("auth", "auth-password"), issuer, func(*jwt.UserClaims) string {
		<-answer
		return ""
	})
	conn := must(net.Dial("tcp", strings.TrimPrefix(s.URL(), "nats://")))
	defer conn.Close()
	if _, err := io.WriteString(conn, "CONNECT {\"user\":\"admin\",\"pass\":\"x\",\"name\":\"waits\",\"lang\":\"test\"}\r\nPING\r\n"); err != nil {
		t.Fatal(err)
	}
	a := auditor(t, connectSys(t, s), collect.Config{})
	var waits posture.Session
	eventually(t, "he is listed by his claim", func() bool {
		waits = insiders(t, sweep(t, a), "callout")["waits"]
		return waits.User == "admin"
	})
	if owner, ok := waits.Owner(); waits.Login != posture.LoginUnknown || ok || waits.Account != posture.GlobalAccount {
		t.Errorf("he came in by %s into %s as %q", waits.Login, waits.Account, owner)
	}
	close(answer)
	if said, _ := io.ReadAll(conn); !strings.Contains(string(said), "Authorization Violation") {
		t.Errorf("he was let in: %s", said)
	}
}

// TestLoginsOfAnOperator: JWT users, by their claims.
func TestLoginsOfAnOperator(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	sentinel, sentinelSeed := op.user(&op.App, "sentinel", func(c *jwt.UserClaims) { c.BearerToken = true })
	f := start(t, fleet.Spec{Name: "op", Config: jetstream + op.Config() + "default_sentinel: " + sentinel + "\n" + mqtt + "}\n"})
	s := f.Server("op")
	token, seed := op.user(&op.App, "shown", func(c *jwt.UserClaims) {
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
	bearer, _ := op.user(&op.App, "bearer", func(c *jwt.UserClaims) { c.BearerToken = true })
	come(t, s, "bearer", says(map[string]any{"jwt": bearer}))
	come(t, s, "bearer, claims a user", says(map[string]any{"jwt": bearer, "user": "admin"}))
	connect(t, s.URL(), nats.Name("by sentinel"))
	a := auditor(t, connect(t, s.URL(), op.login(&op.System, "natsentry", nil), nats.Name("natsentry itself")), collect.Config{})
	state := sweep(t, a)

	claims := must(jwt.DecodeUserClaims(token))
	app := op.App.Public
	checkLogins(t, state, "op", map[string]login{
		"by JWT":                {login: posture.LoginJWT, account: app, owner: claims.Subject},
		"by JWT, claims a user": {login: posture.LoginJWT, account: app, owner: claims.Subject},
		"bearer":                {login: posture.LoginBearer, account: app},
		"bearer, claims a user": {login: posture.LoginUnknown, account: app},
		"by sentinel":           {login: posture.LoginBearer, account: app},
	})
	in := insiders(t, state, "op")
	want := posture.UserClaim{
		Key: claims.Subject, Name: "shown", Account: app, Issuer: app, Issued: time.Unix(claims.IssuedAt, 0).UTC(),
		Expires: time.Unix(claims.Expires, 0).UTC(), OpenSub: true, Bound: true, Sources: true,
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

// judgedAs is what a check said of an account, or of a server.
func judgedAs(t testing.TB, state *agent.State, checkID, subject string) check.Result {
	t.Helper()
	for _, r := range state.Results {
		if r.Check.ID == checkID && (r.Scope.Account == subject || r.Scope.Server == subject) {
			return orCommon(state, r)
		}
	}
	t.Fatalf("%s says nothing of %s", checkID, subject)
	return check.Result{}
}

// judgeInside asserts what checks say of a subject.
func judgeInside(t *testing.T, state *agent.State, subject string, want map[string]check.Outcome) {
	t.Helper()
	for id, outcome := range want {
		if r := judgedAs(t, state, id, subject); r.Outcome != outcome {
			t.Errorf("%s of %s: %s (%s), want %s; %+v", id, subject, r.Outcome, r.Summary, outcome, r.Evidence)
		}
	}
}

// outside is an address of this machine that is not its loopback.
func outside(t *testing.T) string {
	t.Helper()
	for _, a := range must(net.InterfaceAddrs()) {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return ip.IP.String()
		}
	}
	t.Skip("this machine has no address but its loopback")
	return ""
}

// TestCredentialsOfInsiders: tokens, passwords and shared users of servers with a
// configuration of their own, each check failing and passing.
func TestCredentialsOfInsiders(t *testing.T) {
	t.Parallel()
	key := must(nkeys.CreateUser())
	public, seed := must(key.PublicKey()), must(key.Seed())
	byKey := nats.Nkey(public, func(nonce []byte) ([]byte, error) { return must(nkeys.FromSeed(seed)).Sign(nonce) })
	f := start(t,
		fleet.Spec{Name: "hub", Config: strings.NewReplacer("accounts {", "accounts {\n  OPS { users: [ { nkey: "+public+" } ] }", "$SYS { users: [", "$SYS { users: [ { user: second, password: second-password },").Replace(hub)},
		fleet.Spec{Name: "token", Config: "authorization { token: the-token-of-the-test, timeout: 5 }\n" + remote("leaf-sys", "$SYS")},
		fleet.Spec{Name: "users", Config: appUsers + "no_auth_user: guest\n" + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), 3)
	connect(t, f.Server("hub").URL(), byKey)
	come(t, f.Server("token"), "go", says(map[string]any{"auth_token": "the-token-of-the-test"}))
	connect(t, f.Server("users").URL(), nats.UserInfo("app", "app-password"))

	policy := check.DefaultPolicy()
	policy.Expected = []check.Expected{{User: sysUser}}
	a := must(agent.New(connectSys(t, f.Server("hub")), agent.Config{System: "test", Collect: patient, Policy: policy, Rules: prompt}))
	t.Cleanup(a.Close)
	state := sweep(t, a)
	judgeInside(t, state, "token", map[string]check.Outcome{"CRED_001": check.Fail, "TLS_004": check.Pass, "SESS_004": check.Unknown})
	judgeInside(t, state, "users", map[string]check.Outcome{"CRED_001": check.Pass, "TLS_004": check.Pass})
	judgeInside(t, state, "APP", map[string]check.Outcome{"CRED_002": check.Fail, "CRED_005": check.Pass, "SESS_003": check.NotApplicable, "JWT_030": check.NotApplicable, "SESS_005": check.NotApplicable})
	judgeInside(t, state, "OPS", map[string]check.Outcome{"CRED_002": check.Pass})
	judgeInside(t, state, "$SYS", map[string]check.Outcome{"SESS_003": check.Pass})

	// A stranger in the system account, and one user for programs of two kinds on
	// three hosts.
	connect(t, f.Server("hub").URL(), nats.UserInfo("second", "second-password"))
	comeFrom(t, f.Server("users"), "127.0.0.3", "go", says(map[string]any{"user": "app", "pass": "app-password"}))
	comeFrom(t, f.Server("users"), "127.0.0.2", "python", says(map[string]any{"user": "app", "pass": "app-password"}))
	state = sweep(t, a)
	judgeInside(t, state, "APP", map[string]check.Outcome{"CRED_005": check.Fail})
	judgeInside(t, state, "$SYS", map[string]check.Outcome{"SESS_003": check.Fail})
	noSecret(t, state, "the-token-of-the-test", "app-password", "second-password")

	t.Run("in clear", func(t *testing.T) {
		host := outside(t)
		comeFrom(t, f.Server("token"), host, "go", says(map[string]any{"auth_token": "the-token-of-the-test"}))
		comeFrom(t, f.Server("users"), host, "go", says(map[string]any{"user": "app", "pass": "app-password"}))
		comeFrom(t, f.Server("users"), host, "go", says(map[string]any{})) // as guest, without a password
		state := sweep(t, a)
		judgeInside(t, state, "token", map[string]check.Outcome{"TLS_004": check.Fail})
		judgeInside(t, state, "users", map[string]check.Outcome{"TLS_004": check.Fail})
		if r := judgedAs(t, state, "TLS_004", "token"); r.Severity != check.Critical {
			t.Errorf("a token in clear is %s", r.Severity)
		}
		if r := judgedAs(t, state, "TLS_004", "users"); r.Severity != check.NoSeverity || len(r.Evidence) != 1 || !strings.Contains(r.Evidence[0].Value, "app: 1 session") {
			t.Errorf("a password in clear is %s: %+v", r.Severity, r.Evidence)
		}
		noSecret(t, state, "the-token-of-the-test", "app-password", "second-password")
	})
}

// TestBearersWhoClaimAKey: CONNZ shows of a bearer the key that he claims. It makes
// him nobody else.
func TestBearersWhoClaimAKey(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	service, serviceSeed, err := op.App.User("service", nil) // signed before it is known which account it is for
	if err != nil {
		t.Fatal(err)
	}
	key := must(jwt.DecodeUserClaims(service)).Subject
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Authorization.AuthUsers.Add(key) }); err != nil {
		t.Fatal(err)
	}
	other := must(op.Account("OTHER", nil))
	f := start(t, fleet.Spec{Name: "op", Config: op.Config(other)})
	s := f.Server("op")
	sys, sysSeed, err := op.System.User("natsentry", nil)
	if err != nil {
		t.Fatal(err)
	}
	expected := must(jwt.DecodeUserClaims(sys)).Subject
	bearer := func(a *fleet.Account) string {
		token, _, err := a.User("bearer", func(c *jwt.UserClaims) { c.BearerToken = true })
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	come(t, s, "not the service", says(map[string]any{"jwt": bearer(other), "user": key}))
	come(t, s, "not natsentry", says(map[string]any{"jwt": bearer(&op.System), "user": expected}))

	policy := check.DefaultPolicy()
	policy.Expected = []check.Expected{{User: expected}}
	nc := connect(t, s.URL(), nats.UserJWTAndSeed(sys, sysSeed))
	must(s.Embedded().LookupAccount(op.App.Public)) // or nobody knows of its callout yet
	a := must(agent.New(nc, agent.Config{System: "test", Collect: patient, Policy: policy, Rules: prompt}))
	t.Cleanup(a.Close)
	state := sweep(t, a)
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{"JWT_019": check.Fail})
	judgeInside(t, state, op.System.Public, map[string]check.Outcome{"SESS_003": check.Unknown, "JWT_032": check.Fail})
	judgeInside(t, state, other.Public, map[string]check.Outcome{"JWT_032": check.Fail})

	connect(t, s.URL(), nats.UserJWTAndSeed(service, serviceSeed))
	come(t, s, "not expected", says(map[string]any{"jwt": bearer(&op.System)}))
	state = sweep(t, a)
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{"JWT_019": check.Pass})
	judgeInside(t, state, op.System.Public, map[string]check.Outcome{"SESS_003": check.Fail})
}

// TestJWTUsersInside: users of an account and of its signing keys, in a server
// that goes by what the account's claims say of them.
func TestJWTUsersInside(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	year := func(c *jwt.UserClaims) {
		c.Expires = time.Now().AddDate(1, 0, 0).Unix()
		c.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard)
	}
	limited := func(c *jwt.UserClaims) {
		year(c)
		c.Sub.Allow.Add("a.>")
	}
	good := must(op.Account("GOOD", nil))
	defaults := must(op.Account("DEFAULTS", func(c *jwt.AccountClaims) { c.DefaultPermissions.Pub.Allow.Add("a.>") }))
	scoped := must(op.Account("SCOPED", func(c *jwt.AccountClaims) { c.Limits.DisallowBearer = true }))
	wide := must(op.Account("WIDE", nil))
	scope := func(a *fleet.Account, change func(*jwt.UserPermissionLimits)) {
		t.Helper()
		public := must(a.SigningKey())
		if err := op.Sign(a, func(c *jwt.AccountClaims) {
			s := jwt.NewUserScope()
			s.Key = public
			change(&s.Template)
			c.SigningKeys.AddScopedSigner(s)
		}); err != nil {
			t.Fatal(err)
		}
	}
	scope(scoped, func(l *jwt.UserPermissionLimits) { l.Pub.Allow.Add("a.>") })
	scope(wide, func(*jwt.UserPermissionLimits) {})
	empty := func(c *jwt.UserClaims) {
		c.SetScoped(true)
		c.Expires = time.Now().AddDate(1, 0, 0).Unix()
	}

	f := start(t, fleet.Spec{Name: "n1", Config: op.Config(good, defaults, scoped, wide)})
	s := f.Server("n1")
	in := func(a *fleet.Account, name string, change func(*jwt.UserClaims)) {
		t.Helper()
		token, seed, err := a.User(name, change)
		if err != nil {
			t.Fatal(err)
		}
		connect(t, s.URL(), nats.UserJWTAndSeed(token, seed), nats.Name(name))
	}
	in(good, "good", limited)
	in(defaults, "by default", year)
	in(scoped, "scoped", empty)
	in(wide, "scoped for everything", empty)
	in(&op.App, "for ever, everything, from anywhere", nil)
	in(&op.App, "soon", func(c *jwt.UserClaims) {
		limited(c)
		c.Expires = time.Now().Add(6 * 24 * time.Hour).Unix()
	})
	in(&op.App, "bearer", func(c *jwt.UserClaims) { c.BearerToken = true })

	token, seed, err := op.System.User("natsentry", nil)
	if err != nil {
		t.Fatal(err)
	}
	a := auditor(t, connect(t, s.URL(), nats.UserJWTAndSeed(token, seed)), patient)
	state := sweep(t, a)
	judgeInside(t, state, good.Public, map[string]check.Outcome{
		"JWT_030": check.Pass, "JWT_031": check.Pass, "JWT_032": check.Pass, "JWT_033": check.Pass, "JWT_034": check.Pass, "SESS_005": check.Pass, "CRED_002": check.Pass,
	})
	judgeInside(t, state, defaults.Public, map[string]check.Outcome{"JWT_034": check.Pass})
	judgeInside(t, state, scoped.Public, map[string]check.Outcome{"JWT_034": check.Pass, "JWT_032": check.Pass, "JWT_033": check.Fail})
	judgeInside(t, state, wide.Public, map[string]check.Outcome{"JWT_034": check.Fail, "JWT_032": check.Pass})
	// The one that ends soon was issued just now, and so on purpose.
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{
		"JWT_030": check.Fail, "JWT_031": check.Unknown, "JWT_032": check.Fail, "JWT_033": check.Fail, "JWT_034": check.Unknown,
	})
	if r := judgedAs(t, state, "JWT_030", op.App.Public); r.Severity != check.Info || !strings.Contains(fmt.Sprint(r.Evidence), `connected user, such as "for ever, everything, from anywhere" U`) {
		t.Errorf("JWT_030 of %q: %s %+v", r.Scope.Name, r.Severity, r.Evidence)
	}
	judgeInside(t, state, op.System.Public, map[string]check.Outcome{"JWT_030": check.Fail})
	if r := judgedAs(t, state, "JWT_030", op.System.Public); r.Severity != check.Info {
		t.Errorf("natsentry alone in the system account: %s", r.Severity)
	}
	in(&op.System, "admin", nil)
	state = sweep(t, a)
	if r := judgedAs(t, state, "JWT_030", op.System.Public); r.Outcome != check.Fail || r.Severity != check.Critical {
		t.Errorf("an admin for ever: %s %s", r.Outcome, r.Severity)
	}
	noSecret(t, state, token, seed, token[strings.LastIndex(token, "."):])
}

// TestRevokedYetConnected: a server ends the sessions of users whom the claims
// that it goes by refuse. One that goes by older claims does not, and that is
// seen, by the claims of another server.
func TestRevokedYetConnected(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	old := must(op.App.SigningKey())
	if err := op.Sign(&op.App, nil); err != nil {
		t.Fatal(err)
	}
	before := op.MemoryConfig()
	token, seed, err := op.App.User("revoked", nil)
	if err != nil {
		t.Fatal(err)
	}
	user := nats.UserJWTAndSeed(token, seed)
	claims := must(jwt.DecodeUserClaims(token))
	issued := op.App.Claims.IssuedAt
	eventually(t, "the next claims are later", func() bool { return time.Now().Unix() > issued })
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Revoke(claims.Subject) }); err != nil {
		t.Fatal(err)
	}
	revoked := op.MemoryConfig()
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Revocations, c.SigningKeys = nil, jwt.SigningKeys{} }); err != nil {
		t.Fatal(err)
	}
	rotated := op.MemoryConfig()

	n1, n2 := clustered("c", "n2"), clustered("c", "n1")
	f := start(t, fleet.Spec{Name: "n1", Config: before + n1}, fleet.Spec{Name: "n2", Config: before + n2})
	sys := must(op.System.Login("natsentry"))
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, must(op.System.Login("waiter"))); err != nil {
		t.Fatal(err)
	}
	nc := connect(t, f.Server("n2").URL(), user, nats.NoReconnect())
	a := auditor(t, connect(t, f.Server("n1").URL(), sys), patient)
	state := sweep(t, a)
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{"SESS_005": check.Pass})

	for _, step := range []struct {
		config string
		cause  posture.Cause
		claim  string
	}{
		{revoked, "revoked", "revoke " + claims.Subject},
		{rotated, "signer-removed", "do not list the signing key " + old},
	} {
		// n1 alone gets the new claims.
		if err := f.Server("n1").Reload(t.Context(), step.config+n1); err != nil {
			t.Fatal(err)
		}
		// It goes by them from the first login on: a server loads an account when
		// somebody comes.
		if _, err := nats.Connect(f.Server("n1").URL(), user, nats.IgnoreDiscoveredServers()); err == nil {
			t.Error("n1 takes a user whom its claims refuse")
		}
		state = sweep(t, a)
		r := judgedAs(t, state, "SESS_005", op.App.Public)
		if r.Outcome != check.Fail || r.Cause != step.cause || len(r.Evidence) != 2 ||
			!strings.Contains(r.Evidence[0].Value, "1 session on n2") || r.Evidence[1].Source != "claims in force on n1" || !strings.Contains(r.Evidence[1].Value, step.claim) {
			t.Errorf("%s %s: %s %+v", r.Outcome, r.Cause, r.Summary, r.Evidence)
		}
		if !nc.IsConnected() {
			t.Fatal("n2 has ended the session although it goes by the old claims")
		}
	}
	if err := f.Server("n2").Reload(t.Context(), rotated+n2); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n2 ended the session", func() bool { return !nc.IsConnected() })
	state = lookTwice(t, a)
	judgeInside(t, state, op.App.Public, map[string]check.Outcome{"SESS_005": check.Pass})
	if fs := found(state, "SESS_005", ""); len(fs) != 0 {
		t.Errorf("still found: %v", fs)
	}
}

// TestRunAsksWhoIsInside: beside sweeps, one server after the other, at its own
// pace; what was told survives sweeps, polls and looks.
func TestRunAsksWhoIsInside(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "hub", Config: hub}, fleet.Spec{Name: "n1", Config: appUsersOf + remote("leaf-sys", "$SYS")})
	waitActive(t, f, f.Server("hub"), 2)
	v := keepWatch(t, connectSys(t, f.Server("hub")), 50*time.Millisecond, func(c *agent.Config) {
		c.Interval, c.EveryoneInterval = 50*time.Millisecond, 100*time.Millisecond
	})
	app := connect(t, f.Server("n1").URL(), nats.UserInfo("app", "app-password"))
	if err := app.Publish("a", nil); err != nil {
		t.Fatal(err)
	}
	opened := v.told(t, "CRED_002", "", finding.Opened)
	if s := opened.Scope; s.Kind != check.KindAccount || s.Account != posture.GlobalAccount {
		t.Errorf("found in %+v: %+v", s, opened.Evidence)
	}
	for n := v.rec.count(); v.rec.count() < n+20; time.Sleep(10 * time.Millisecond) {
		for _, s := range v.State().Snapshot.Servers {
			if s.Everyone.At.IsZero() || !s.Heard.Has(posture.EveryoneConnz) {
				t.Fatalf("what %s told was lost", s.Name)
			}
		}
	}
	app.Close()
	if f := v.told(t, "CRED_002", "", finding.Resolved); f.Fingerprint != opened.Fingerprint {
		t.Error("another finding was resolved")
	}
}

// TestWhoMayNotAskIsTold: without leave to ask for connections nothing passes,
// and the gap says what is missing.
func TestWhoMayNotAskIsTold(t *testing.T) {
	t.Parallel()
	f := start(t, fleet.Spec{Name: "n1", Config: limited(without("CONNZ")) + clustered("c", "n2")}, fleet.Spec{Name: "n2", Config: limited(without("CONNZ")) + clustered("c", "n1")})
	waitActive(t, f, f.Server("n1"), 2)
	var refused refusals
	nc := connect(t, f.Server("n1").URL(), nats.UserInfo("limited", "limited-password"), nats.CustomInboxPrefix(auditInbox), refused.handler())
	a := auditor(t, nc, collect.Config{Timeout: 300 * time.Millisecond})
	state := sweep(t, a)
	judgeInside(t, state, "n1", map[string]check.Outcome{"CRED_001": check.Unknown, "TLS_004": check.Unknown})
	gaps := 0
	for _, g := range state.Snapshot.Gaps {
		if g.Endpoint == "CONNZ of all accounts" {
			gaps++
		}
	}
	if gaps != 2 {
		t.Errorf("gaps: %v", state.Snapshot.Gaps)
	}
}

// TestRevokedIsAskedForAgain: sessions that were told before the claims refused
// somebody prove nothing; the server is asked again, long before its time.
func TestRevokedIsAskedForAgain(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	before := op.MemoryConfig()
	token, seed, err := op.App.User("revoked", nil)
	if err != nil {
		t.Fatal(err)
	}
	user := nats.UserJWTAndSeed(token, seed)
	issued := op.App.Claims.IssuedAt
	eventually(t, "the next claims are later", func() bool { return time.Now().Unix() > issued })
	if err := op.Sign(&op.App, func(c *jwt.AccountClaims) { c.Revoke(must(jwt.DecodeUserClaims(token)).Subject) }); err != nil {
		t.Fatal(err)
	}
	n1, n2 := clustered("c", "n2"), clustered("c", "n1")
	f := start(t, fleet.Spec{Name: "n1", Config: before + n1}, fleet.Spec{Name: "n2", Config: before + n2})
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, must(op.System.Login("waiter"))); err != nil {
		t.Fatal(err)
	}
	connect(t, f.Server("n2").URL(), user)
	v := keepWatch(t, connect(t, f.Server("n1").URL(), must(op.System.Login("natsentry"))), time.Second, func(c *agent.Config) {
		c.Interval, c.AccountInterval, c.EveryoneInterval = 200*time.Millisecond, 200*time.Millisecond, neverAgain
	})
	eventually(t, "both told who is inside", func() bool {
		return !slices.ContainsFunc(v.State().Snapshot.Servers, func(s *posture.Server) bool { return s.Everyone.At.IsZero() })
	})
	if err := f.Server("n1").Reload(t.Context(), op.MemoryConfig()+n1); err != nil {
		t.Fatal(err)
	}
	if _, err := nats.Connect(f.Server("n1").URL(), user, nats.IgnoreDiscoveredServers()); err == nil {
		t.Error("n1 takes a user whom its claims refuse")
	}
	opened := v.told(t, "SESS_005", "", finding.Opened)
	if opened.Scope.Account != op.App.Public || opened.Severity != check.Critical || opened.Cause != "revoked" {
		t.Errorf("found %s %s in %+v", opened.Severity, opened.Cause, opened.Scope)
	}
}

// TestLoginsOfOldServers: what they show is less, and more than they should.
func TestLoginsOfOldServers(t *testing.T) {
	t.Parallel()
	key := must(nkeys.CreateUser())
	public, seed := must(key.PublicKey()), must(key.Seed())
	op := must(fleet.NewOperator())
	bearer, _, err := op.App.User("bearer", func(c *jwt.UserClaims) { c.BearerToken = true })
	if err != nil {
		t.Fatal(err)
	}
	for version, want := range map[string]struct{ token, password login }{
		"v2.9.25": {
			// The raw token would stand where the user does: no user is believed.
			token:    login{login: posture.LoginUnknown, account: posture.GlobalAccount},
			password: login{login: posture.LoginUnknown, account: "APP"},
		},
		"v2.10.29": {
			token:    login{login: posture.LoginToken, account: posture.GlobalAccount},
			password: login{login: posture.LoginPassword, account: "APP", owner: "app"},
		},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			old := binary(t, version)
			f := start(t,
				fleet.Spec{Name: "hub", Config: hub},
				fleet.Spec{Name: "token", Binary: old, Config: "authorization { token: the-token-of-the-test, timeout: 5 }\n" + remote("leaf-sys", "$SYS")},
				fleet.Spec{Name: "users", Binary: old, Config: `accounts { APP { users: [ { user: app, password: app-password }, { nkey: ` + public + ` } ] } }` + remote("leaf-sys", "$SYS")},
			)
			waitActive(t, f, f.Server("hub"), 3)
			come(t, f.Server("token"), "by token", says(map[string]any{"auth_token": "the-token-of-the-test"}))
			connect(t, f.Server("users").URL(), nats.Name("by password"), nats.UserInfo("app", "app-password"))
			connect(t, f.Server("users").URL(), nats.Name("by nkey"), nats.Nkey(public, func(nonce []byte) ([]byte, error) { return must(nkeys.FromSeed(seed)).Sign(nonce) }))
			state := sweep(t, auditor(t, connectSys(t, f.Server("hub")), patient))
			checkLogins(t, state, "token", map[string]login{"by token": want.token})
			checkLogins(t, state, "users", map[string]login{
				"by password": want.password, "by nkey": {login: posture.LoginNKey, account: "APP", owner: public},
			})
			noSecret(t, state, "the-token-of-the-test")

			f = start(t, fleet.Spec{Name: "op", Binary: old, Config: op.MemoryConfig()})
			come(t, f.Server("op"), "bearer", says(map[string]any{"jwt": bearer}))
			state = sweep(t, auditor(t, connect(t, f.Server("op").URL(), must(op.System.Login("natsentry"))), patient))
			checkLogins(t, state, "op", map[string]login{
				"bearer": {login: posture.LoginBearer, account: op.App.Public, owner: must(jwt.DecodeUserClaims(bearer)).Subject},
			})
			noSecret(t, state, bearer, bearer[strings.LastIndex(bearer, "."):])
		})
	}
}
