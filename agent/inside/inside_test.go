package inside

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/natsentry/natsentry/agent/posture"
)

const someKey = "UDQXKI7AQWERTYUIOPASDFGHJKLZXCVBNM234567QWERTYUIOPASDFGH"

// server is one with every door.
func server(auth posture.Tri, sessions ...posture.Session) *posture.Server {
	s := &posture.Server{ID: "N1", Name: "n1", Cluster: "c", Version: "2.15.2", State: posture.Answering, AuthRequired: auth, AuthMode: posture.AuthNone}
	if auth == posture.Yes {
		s.AuthMode = posture.AuthStatic
	}
	for _, kind := range posture.DoorKinds() {
		s.Doors = append(s.Doors, posture.Door{Kind: kind, On: posture.Yes, Port: 4222, TLS: posture.TLS{On: posture.No}})
	}
	s.Everyone = posture.Sessions{At: time.Unix(1000, 0), Total: len(sessions), List: sessions}
	return s
}

func client(user string, change ...func(*posture.Session)) posture.Session {
	c := posture.Session{Door: posture.Client, Address: "10.0.0.1:1", User: user, Account: "$G", Encrypted: posture.No, Since: time.Unix(500, 0)}
	for _, f := range change {
		f(&c)
	}
	return c
}

func via(door posture.DoorKind) func(*posture.Session) {
	return func(c *posture.Session) { c.Door = door }
}

func loggedIn(l posture.Login) func(*posture.Session) {
	return func(c *posture.Session) { c.Login = l }
}

func encryptedSession(c *posture.Session) { c.Encrypted = posture.Yes }

func withCert(c *posture.Session) { c.Encrypted, c.PeerCert = posture.Yes, true }

func everywhere(d Door) map[posture.DoorKind]Door {
	out := map[posture.DoorKind]Door{}
	for _, kind := range posture.DoorKinds() {
		out[kind] = d
	}
	return out
}

// TestVerdicts has what no real server is asked in the integration tests, or
// only with files that they do not have. TestLockout there holds the others
// against nats-server.
func TestVerdicts(t *testing.T) {
	plain := everywhere(Door{})
	users := func(c *Candidate) *Candidate {
		c.AuthRequired, c.Users = true, map[string]User{"app": {}, "guest": {}}
		return c
	}
	mqtt := func(d Door) map[posture.DoorKind]Door {
		doors := everywhere(Door{})
		doors[posture.MQTT] = d
		return doors
	}
	for _, c := range []struct {
		name      string
		candidate *Candidate
		session   posture.Session
		auth      posture.Tri
		want      Verdict
		why       string
	}{
		{"callout", users(&Candidate{Callout: true, Doors: plain}), client(""), posture.No, Unknown, "callout"},
		{"callout without users", &Candidate{Callout: true, Doors: plain}, client(""), posture.No, Unknown, "callout"},
		{"TLS", users(&Candidate{NoAuthUser: "guest", Doors: everywhere(Door{Offered: true, TLS: true})}), client(""), posture.No, Unknown, "demands TLS"},
		{"TLS it has", users(&Candidate{NoAuthUser: "guest", Doors: everywhere(Door{Offered: true, TLS: true})}), client("", encryptedSession), posture.No, Kept, "guest"},
		{"another port", users(&Candidate{NoAuthUser: "guest", Doors: everywhere(Door{Port: 4223})}), client(""), posture.No, Unknown, "moves from port 4222 to 4223"},
		{"the same port", users(&Candidate{NoAuthUser: "guest", Doors: everywhere(Door{Port: 4222})}), client(""), posture.No, Kept, "guest"},
		{"no TLS any more", users(&Candidate{NoAuthUser: "guest", Doors: plain}), client("", encryptedSession), posture.No, Unknown, "no TLS any more"},
		{"certificates", users(&Candidate{NoAuthUser: "guest", Doors: everywhere(Door{Offered: true, TLS: true, Verify: true})}), client("", encryptedSession), posture.No, Unknown, "certificate"},
		{"a certificate it has", users(&Candidate{NoAuthUser: "guest", Doors: everywhere(Door{Offered: true, TLS: true, Verify: true})}), client("", withCert), posture.No, Kept, "guest"},
		{"TLS does not save", users(&Candidate{Doors: everywhere(Door{Offered: true, TLS: true})}), client(""), posture.No, Rejected, "no user name"},
		{"mapped certificates", users(&Candidate{Doors: everywhere(Door{Offered: true, TLS: true, Map: true})}), client(""), posture.No, Unknown, "mapped"},
		{"proxied", &Candidate{AuthRequired: true, Users: map[string]User{"guest": {Proxied: true}}, NoAuthUser: "guest", Doors: plain}, client(""), posture.No, Unknown, "proxy"},
		{"sentinel", &Candidate{AuthRequired: true, Operator: true, Sentinel: true, Doors: plain}, client("app"), posture.No, Unknown, "sentinel"},
		{"MQTT without a JWT", &Candidate{AuthRequired: true, Operator: true, Doors: plain}, client("", via(posture.MQTT)), posture.No, Rejected, "JWT"},
		{"MQTT with a password", &Candidate{AuthRequired: true, Operator: true, Doors: plain}, client("app", via(posture.MQTT)), posture.No, Unknown, "JWT"},
		{"MQTT token", &Candidate{AuthRequired: true, Token: true, Doors: plain}, client("app", via(posture.MQTT)), posture.No, Unknown, "token"},
		{"MQTT has no door", users(&Candidate{Doors: map[posture.DoorKind]Door{posture.Client: {}}}), client("", via(posture.MQTT)), posture.No, Rejected, "no mqtt listener"},
		{"MQTT no_auth_user", users(&Candidate{Doors: mqtt(Door{NoAuthUser: "guest"})}), client("", via(posture.MQTT)), posture.No, Kept, "guest"},
		{"MQTT user", users(&Candidate{Doors: mqtt(Door{User: "m"})}), client("", via(posture.MQTT)), posture.No, Rejected, "user m is demanded"},
		{"MQTT open, clients not", &Candidate{Doors: mqtt(Door{User: "m"})}, client("m", via(posture.MQTT)), posture.No, Unknown, "password"},
		{"MQTT over websocket", &Candidate{AuthRequired: true, Users: map[string]User{"guest": {Types: []string{"MQTT"}}}, NoAuthUser: "guest", Doors: plain}, client("", via(posture.MQTT)), posture.No, Unknown, "websocket"},
		{"not for MQTT", &Candidate{AuthRequired: true, Users: map[string]User{"guest": {Types: []string{"STANDARD"}}}, NoAuthUser: "guest", Doors: plain}, client("", via(posture.MQTT)), posture.No, Rejected, "may not be used on mqtt"},
		{"no_auth_user is an nkey", &Candidate{AuthRequired: true, NKeys: map[string]User{someKey: {}}, NoAuthUser: someKey, Doors: plain}, client(""), posture.No, Kept, "UDQXKI7A…"},
		{"an nkey that was checked", &Candidate{AuthRequired: true, NKeys: map[string]User{someKey: {}}, Doors: plain}, client(someKey, loggedIn(posture.LoginNKey)), posture.Yes, Kept, "listed"},
		{"an nkey that nobody checked", &Candidate{AuthRequired: true, NKeys: map[string]User{someKey: {}}, Doors: plain}, client(someKey), posture.Yes, Unknown, "seed"},
		{"logged in, and may have brought nothing", users(&Candidate{NoAuthUser: "guest", Doors: plain}), client("old", loggedIn(posture.LoginPassword)), posture.Yes, Unknown, "no such user"},
		{"logged in, and may be let in by an nkey", &Candidate{AuthRequired: true, NKeys: map[string]User{someKey: {}}, NoAuthUser: someKey, Doors: plain}, client("old", loggedIn(posture.LoginPassword)), posture.Yes, Unknown, "no such user"},
		{"logged in, and a JWT is demanded", &Candidate{AuthRequired: true, Operator: true, Doors: plain}, client("app", loggedIn(posture.LoginPassword)), posture.Yes, Unknown, "JWT"},
		{"a name, and a JWT is demanded", &Candidate{AuthRequired: true, Operator: true, Doors: plain}, client("app"), posture.No, Rejected, "JWT"},
		{"logged in, and no such user", users(&Candidate{Doors: plain}), client("old", loggedIn(posture.LoginPassword)), posture.Yes, Rejected, "does not exist"},
		{"logged in, and maybe another password", users(&Candidate{Doors: plain}), client("app", loggedIn(posture.LoginPassword)), posture.Yes, Unknown, "stays the same"},
		{"a JWT without an operator", users(&Candidate{Doors: plain}), client(someKey, loggedIn(posture.LoginJWT)), posture.Yes, Rejected, "without an operator"},
		{"a JWT and a no_auth_user", users(&Candidate{NoAuthUser: "guest", Doors: plain}), client(someKey, loggedIn(posture.LoginJWT)), posture.Yes, Unknown, "cannot be seen"},
		{"a certificate", users(&Candidate{Doors: plain}), client("CN=x", loggedIn(posture.LoginCertificate)), posture.Yes, Unknown, "certificate"},
		{"nothing is shown", users(&Candidate{Doors: plain}), client("app"), posture.Yes, Unknown, "does not show"},
		{"nobody is asked", &Candidate{Doors: plain}, client("app"), posture.No, Kept, "nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.candidate.Name = "c.conf"
			got := c.candidate.Lockout([]*posture.Server{server(c.auth, c.session)}, nil)
			if len(got) != 1 || got[0].Verdict != c.want || !strings.Contains(got[0].Why, c.why) {
				t.Errorf("got %+v, want %s because of %q", got, c.want, c.why)
			}
		})
	}
}

// TestOldServers: before 2.10.28 servers show tokens in the clear, so that what
// they show is not kept; then nobody knows what a client brings.
func TestOldServers(t *testing.T) {
	s := server(posture.No, client(posture.Redacted))
	s.Version = "2.10.27"
	c, _ := Plan("token")
	if got := c.Lockout([]*posture.Server{s}, nil); got[0].Verdict != Unknown || got[0].Login != posture.LoginUnknown {
		t.Errorf("%+v", got)
	}
}

// TestGroups: sessions that look alike are one group whatever their port, the
// largest comes first, and touches, our own connection and leafnodes are none.
func TestGroups(t *testing.T) {
	named := func(name, ip string, since int64, change ...func(*posture.Session)) posture.Session {
		c := client("", change...)
		c.Name, c.Address, c.Since = name, ip, time.Unix(since, 0)
		return c
	}
	account := func(name string) func(*posture.Session) {
		return func(c *posture.Session) { c.Account = name }
	}
	s := server(posture.No,
		named("a", "10.0.0.1:1", 30), named("b", "10.0.0.1:2", 20), named("b", "10.0.0.1:3", 10, account("$G2")), named("b", "[::ffff:10.0.0.1]:4", 40),
		named("b", "10.0.0.2:4", 40), named("b", "[2001:db8::1]:4", 40),
		named(posture.ProbeName, "10.0.0.1:5", 999), named("leaf", "10.0.0.1:6", 1, via(posture.Leafnode)),
		named("own", "10.0.0.1:7", 1, func(c *posture.Session) { c.Ours = true }),
	)
	var got []string
	for _, g := range Groups([]*posture.Server{s}) {
		got = append(got, fmt.Sprint(g.Name, " ", g.IP, " ", g.Count, " ", g.Since.Unix(), " ", g.Accounts, " ", g.Weak))
	}
	want := []string{"b 10.0.0.1 3 10 [$G $G2] true", "a 10.0.0.1 1 30 [$G] true", "b 10.0.0.2 1 40 [$G] true", "b 2001:db8::1 1 40 [$G] true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestGroupsBound: a group lists so many accounts and no more.
func TestGroupsBound(t *testing.T) {
	var many []posture.Session
	for i := range 3 * MaxAccounts {
		many = append(many, client("", func(c *posture.Session) { c.Account = fmt.Sprint("A", i) }))
	}
	if got := Groups([]*posture.Server{server(posture.No, many...)}); len(got) != 1 || got[0].Count != len(many) || len(got[0].Accounts) != MaxAccounts {
		t.Errorf("%+v", got)
	}
}

// TestWeak: what counts as no proof, or as one that anybody could have read.
func TestWeak(t *testing.T) {
	for _, c := range []struct {
		session posture.Session
		auth    posture.Tri
		want    bool
	}{
		{client(""), posture.No, true},
		{client("app"), posture.No, true},
		{client(someKey), posture.No, true},
		{client("", withCert), posture.No, false},
		{client("app", loggedIn(posture.LoginPassword)), posture.Yes, true},
		{client("app", loggedIn(posture.LoginPassword), encryptedSession), posture.Yes, false},
		{client(posture.Redacted, encryptedSession), posture.Yes, true},
		{client(someKey, loggedIn(posture.LoginBearer), encryptedSession), posture.Yes, true},
		{client(someKey, loggedIn(posture.LoginJWT)), posture.Yes, false},
		{client(someKey, loggedIn(posture.LoginNKey)), posture.Yes, false},
		{client("nats-abcdefgh"), posture.Yes, true},
		{client("x"), posture.Yes, false}, // how it came in is not known
	} {
		if got := Groups([]*posture.Server{server(c.auth, c.session)}); got[0].Weak != c.want {
			t.Errorf("%+v is weak: %t", c.session, got[0].Weak)
		}
	}
}

// TestPeers: servers are judged where somebody may have let them in, once.
func TestPeers(t *testing.T) {
	a, b := server(posture.No), server(posture.No)
	b.ID, b.Name = "N2", "n2"
	a.Peers = []posture.Peer{
		{Door: posture.Route, ID: "N2", Name: "n2"},
		{Door: posture.Route, ID: "N3", Name: "n3"},
		{Door: posture.Gateway, ID: "N2", Name: "x", Accepted: posture.No},
		{Door: posture.Gateway, ID: "N4", Name: "x", Accepted: posture.Yes},
		{Door: posture.Leafnode, Name: "unseen", CID: 7, Accepted: posture.Yes},
		{Door: posture.Leafnode, Name: "ours", CID: 8, Accepted: posture.No},
	}
	b.Peers = []posture.Peer{{Door: posture.Route, ID: "N1", Name: "n1"}, {Door: posture.Leafnode, Name: "dialled by it", CID: 9, Accepted: posture.Yes}}
	for i := range b.Doors {
		b.Doors[i].On = posture.No // so nobody can have dialled it
	}
	doors := everywhere(Door{})
	doors[posture.Route], doors[posture.Gateway] = Door{User: "r"}, Door{User: "g"}
	c := &Candidate{AuthRequired: true, Users: map[string]User{"app": {}}, Doors: doors}
	var got []string
	for _, p := range c.Lockout([]*posture.Server{a, b}, []*posture.Server{a, b}) {
		got = append(got, fmt.Sprint(p.Server, " ", p.Door, " ", p.Name, " ", p.Verdict))
	}
	want := []string{"n1 leafnode unseen unknown", "n1 route n3 unknown", "n1 gateway x unknown"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	delete(doors, posture.Route) // then the route between the two is cut, which is told once
	cut := 0
	for _, p := range c.Lockout([]*posture.Server{a, b}, []*posture.Server{a, b}) {
		if p.Door == posture.Route && (p.Name == "n1" || p.Name == "n2") && p.Verdict == Rejected {
			cut++
		}
	}
	if only := c.Lockout([]*posture.Server{b}, []*posture.Server{a, b}); cut != 1 || len(only) != 1 || only[0].Name != "n1" {
		t.Errorf("the route is told %d times, and of one server alone: %+v", cut, only)
	}
}

// TestOutlook: the bridge is for those who bring nothing, and only where it can
// be built.
func TestOutlook(t *testing.T) {
	nobody, named := []*posture.Server{server(posture.No, client(""))}, []*posture.Server{server(posture.No, client("x"))}
	for _, c := range []struct {
		plan    string
		servers []*posture.Server
		bridge  bool
	}{{"users", nobody, true}, {"token", nobody, true}, {"jwt", nobody, false}, {"users", named, false}} {
		plan, _ := Plan(c.plan)
		if o := plan.Outlook(c.servers, c.servers); (o.Bridge != nil) != c.bridge || o.Kept+o.Rejected+o.Unknown != 1 {
			t.Errorf("%s: %+v", c.plan, o)
		}
	}
	has := &Candidate{AuthRequired: true, Users: map[string]User{"guest": {Hashed: true}}, NoAuthUser: "guest", Doors: everywhere(Door{})}
	if o := has.Outlook(nobody, nobody); o.Bridge != nil || o.Rejected != 1 {
		t.Errorf("it has one, which does not hold: %+v", o)
	}
}

// TestOrder: the fewest rejected first, but no server before those that dial it.
func TestOrder(t *testing.T) {
	named := func(id string, sessions ...posture.Session) *posture.Server {
		s := server(posture.No, sessions...)
		s.ID, s.Name = id, id
		return s
	}
	leaf := func(name string) posture.Peer {
		return posture.Peer{Door: posture.Leafnode, Name: name, Accepted: posture.Yes}
	}
	two, one := named("two", client(""), client("")), named("one", client(""))
	hub, quiet, silent := named("hub"), named("quiet"), named("silent")
	hub.Peers = []posture.Peer{leaf("two"), leaf("stranger")}
	silent.State = posture.Silent
	plan, _ := Plan("users")
	servers := []*posture.Server{two, hub, quiet, one, silent}
	order := func() (names []string) {
		for _, s := range plan.Outlook(servers, servers).Order {
			names = append(names, s.Server)
		}
		return names
	}
	if diff := cmp.Diff([]string{"quiet", "one", "two", "hub"}, order()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	two.Peers = []posture.Peer{leaf("hub")} // each dials the other: nobody can be first
	if got := order(); len(got) != 4 || got[0] != "quiet" {
		t.Errorf("%q", got)
	}
}
