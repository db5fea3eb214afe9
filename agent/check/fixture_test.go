package check

import (
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// server makes a judged server: one that answered everything, is in cluster
// c1, asks for credentials, and has a client port reachable from outside.
func server(name string, change ...func(*posture.Server)) *posture.Server {
	s := &posture.Server{
		ID: "N" + name, Name: name, Cluster: "c1", Version: "2.15.2", State: posture.Answering,
		Heard:        posture.Statsz | posture.Varz | posture.Routez | posture.Gatewayz | posture.Leafz | posture.Connz | posture.AccountStatz | posture.Accountz,
		AuthRequired: posture.Yes, AuthMode: posture.AuthStatic, NoConfigFile: posture.No,
		Start: now.Add(-time.Hour), ConfigLoaded: now.Add(-time.Hour), SystemAccount: "$SYS",
		Accounts: []string{"$G", "$SYS", "APP"},
	}
	for _, kind := range posture.DoorKinds() {
		d := posture.Door{Kind: kind, On: posture.No}
		if kind == posture.Profile {
			d.On = posture.Unseen
		}
		s.Doors = append(s.Doors, d)
	}
	on(posture.Client, "10.0.0.1")(s)
	for _, f := range change {
		f(s)
	}
	posture.Judge(s)
	return s
}

func on(kind posture.DoorKind, host string, change ...func(*posture.Door)) func(*posture.Server) {
	return func(s *posture.Server) {
		d := s.Door(kind)
		d.On, d.Host, d.Port = posture.Yes, host, 4000+int(kind)
		d.TLS = posture.TLS{On: posture.No, Required: posture.No, Verify: posture.No}
		for _, f := range change {
			f(d)
		}
	}
}

func door(kind posture.DoorKind, change func(*posture.Door)) func(*posture.Server) {
	return func(s *posture.Server) { change(s.Door(kind)) }
}

func open(s *posture.Server) { s.AuthRequired, s.AuthMode = posture.No, posture.AuthNone }

func deaf(s *posture.Server) { s.Heard &^= posture.Varz }

func session(c posture.Session) func(*posture.Server) {
	return func(s *posture.Server) {
		s.Sessions.List = append(s.Sessions.List, c)
		s.Sessions.Total++
	}
}

func operator(key string) func(*posture.Server) {
	return func(s *posture.Server) {
		s.AuthMode = posture.AuthOperator
		s.Operators = []posture.Operator{{Key: key}}
	}
}

func touched(kind posture.DoorKind, a posture.Access) func(*posture.Server) {
	return func(s *posture.Server) {
		s.Touches = append(s.Touches, posture.Touch{Door: kind, Access: a, Answer: "test", Reason: map[posture.Access]string{posture.Unknown: "no answer"}[a]})
	}
}

func fleet(servers ...*posture.Server) *posture.Snapshot {
	return &posture.Snapshot{System: "test", Epoch: 2, Taken: now, Expected: len(servers), Heard: len(servers), Servers: servers}
}

func greets(claimed posture.Tri) func(*posture.Server) {
	return func(s *posture.Server) {
		s.Touches = append(s.Touches, posture.Touch{Door: posture.Client, ServerID: s.ID, Claimed: claimed})
	}
}

func cookie(anyOrigin posture.Tri) func(*posture.Door) {
	return func(d *posture.Door) { d.Cookies, d.AnyOrigin = []string{"jwt_cookie"}, anyOrigin }
}

func expires(in time.Duration) func(*posture.Door) {
	return func(d *posture.Door) {
		d.TLS = posture.TLS{On: posture.Yes, Required: posture.Yes, Verify: posture.No, NotAfter: now.Add(in)}
	}
}

func silent(state posture.State) func(*posture.Server) {
	return func(s *posture.Server) { s.State, s.Heard, s.KnownBy = state, 0, "ROUTEZ of n1" }
}

// fixtures are, for every check, a snapshot on which it fails, one on which
// it passes and one on which it cannot tell. never says why there is none.
var fixtures = map[string]struct {
	fail, pass, unknown *posture.Snapshot
	never               string
	policy              map[Outcome]Policy // where the default one will not do
}{
	"DOOR_001": {
		fail:    fleet(server("n1", open)),
		pass:    fleet(server("n1", touched(posture.Client, posture.Closed))),
		unknown: fleet(server("n1")), // closed on the server's word only
	},
	"DOOR_002": {
		fail:    fleet(server("n1", on(posture.Websocket, "0.0.0.0", func(d *posture.Door) { d.NoAuthUser = "browser" }))),
		pass:    fleet(server("n1", on(posture.Websocket, "0.0.0.0"), touched(posture.Websocket, posture.Closed))),
		unknown: fleet(server("n1", open, on(posture.Websocket, "0.0.0.0", expires(time.Hour)))),
	},
	"DOOR_003": {
		fail:    fleet(server("n1", on(posture.MQTT, "0.0.0.0", func(d *posture.Door) { d.NoAuthUser = "device" }))),
		pass:    fleet(server("n1", on(posture.MQTT, "0.0.0.0"), touched(posture.Client, posture.Closed))),
		unknown: fleet(server("n1", open, on(posture.MQTT, "0.0.0.0", func(d *posture.Door) { d.TLSMap = true }))),
	},
	"DOOR_004": {
		fail:    fleet(server("n1", on(posture.Leafnode, "0.0.0.0"), touched(posture.Leafnode, posture.Open))),
		pass:    fleet(server("n1", on(posture.Leafnode, "0.0.0.0"), touched(posture.Leafnode, posture.Closed))),
		unknown: fleet(server("n1", on(posture.Leafnode, "0.0.0.0"), touched(posture.Leafnode, posture.Unknown))),
	},
	"DOOR_005": {
		fail:    fleet(server("n1", on(posture.Route, "0.0.0.0"), touched(posture.Route, posture.Open))),
		pass:    fleet(server("n1", on(posture.Route, "0.0.0.0"), touched(posture.Route, posture.Closed))),
		unknown: fleet(server("n1", on(posture.Route, "0.0.0.0"))),
	},
	"DOOR_006": {
		fail:    fleet(server("n1", on(posture.Gateway, "0.0.0.0"), touched(posture.Gateway, posture.Open))),
		pass:    fleet(server("n1", on(posture.Gateway, "0.0.0.0"), touched(posture.Gateway, posture.Closed))),
		unknown: fleet(server("n1", on(posture.Gateway, "0.0.0.0"), touched(posture.Gateway, posture.Unknown))),
	},
	"DOOR_007": {
		fail:    fleet(server("n1", on(posture.Monitor, "0.0.0.0"))),
		pass:    fleet(server("n1", on(posture.Monitor, "127.0.0.1"))),
		unknown: fleet(server("n1", on(posture.Monitor, "0.0.0.0"), deaf)),
	},
	"DOOR_009": {
		fail:    fleet(server("n1")),
		pass:    fleet(server("n1", open)),
		unknown: fleet(server("n1", deaf)),
	},
	"SESS_001": {
		fail:    fleet(server("n1", session(posture.Session{CID: 7, Door: posture.Client, User: "nats-Ab12Cd34", Account: "$G"}))),
		pass:    fleet(server("n1", session(posture.Session{CID: 7, Door: posture.Client, User: "app", Account: "$G"}))),
		unknown: fleet(server("n1", func(s *posture.Server) { s.Heard &^= posture.Connz })),
	},
	"SESS_002": {
		fail:    listened(time.Hour, server("n1", func(s *posture.Server) { s.Failures.Count = 10 })),
		pass:    listened(time.Hour, server("n1", func(s *posture.Server) { s.Failures.Count = 9 })),
		unknown: listened(time.Second, server("n1")),
	},
	"FLEET_001": {
		fail:    fleet(server("n1"), server("n2", open), server("n3")),
		pass:    fleet(server("n1"), server("n2")),
		unknown: fleet(server("n1"), server("n2"), server("n3", deaf)),
	},
	"FLEET_002": {
		fail:    fleet(server("n1", operator("OA")), server("n2", operator("OB"))),
		pass:    fleet(server("n1", operator("OA")), server("n2", operator("OA"))),
		unknown: fleet(server("n1", operator("OA")), server("n2", operator("OA")), server("n3", deaf)),
	},
	"FLEET_003": {
		fail:    fleet(server("n1"), server("n2", func(s *posture.Server) { s.SystemAccount = "SYS" })),
		pass:    fleet(server("n1"), server("n2")),
		unknown: fleet(server("n1"), server("n2"), server("n3", deaf)),
	},
	"FLEET_004": {
		fail:    fleet(server("n1"), server("n2", door(posture.Client, expires(90*24*time.Hour)))),
		pass:    fleet(server("n1"), server("n2")),
		unknown: fleet(server("n1"), server("n2"), server("n3", deaf)),
	},
	"FLEET_005": {
		fail:  fleet(server("n1"), server("n2", silent(posture.Silent))),
		pass:  fleet(server("n1")),
		never: "silence is what it reports",
	},
	"FLEET_006": {
		fail: fleet(server("n1", func(s *posture.Server) {
			s.Change = &posture.Change{Seen: now.Add(-time.Minute), Loaded: now.Add(-time.Minute)}
		})),
		pass:    fleet(server("n1")),
		unknown: fleet(server("n1", deaf)),
	},
	"FLEET_007": {
		fail:    fleet(server("n1"), server("n2", func(s *posture.Server) { s.Version = "2.10.29" })),
		pass:    fleet(server("n1"), server("n2")),
		unknown: fleet(server("n1"), server("n2"), server("n3", deaf)),
	},
	"FLEET_008": {
		fail: listened(time.Hour, server("n1", func(s *posture.Server) {
			s.Reload, s.Looked = &posture.Reload{At: now.Add(-3 * time.Second), Loaded: s.ConfigLoaded}, now
		})),
		pass: listened(time.Hour, server("n1", func(s *posture.Server) {
			s.Reload, s.Looked = &posture.Reload{At: now.Add(-3 * time.Second), Loaded: s.ConfigLoaded.Add(-time.Hour)}, now
		})),
		unknown: listened(time.Hour, server("n1")),
	},
	"TLS_001": {
		fail:    fleet(server("n1", door(posture.Client, expires(10*24*time.Hour)))),
		pass:    fleet(server("n1", door(posture.Client, expires(90*24*time.Hour)))),
		unknown: fleet(server("n1", door(posture.Client, expires(10*24*time.Hour)), func(s *posture.Server) { s.Version = "2.11.11" })),
	},
	"TLS_002": {
		fail: fleet(server("n1", door(posture.Client, func(d *posture.Door) { d.TLS = posture.TLS{On: posture.Yes, Required: posture.No} }))),
		pass: fleet(server("n1", door(posture.Client, expires(90*24*time.Hour)))),
		unknown: fleet(server("n1", door(posture.Client, func(d *posture.Door) { d.TLS = posture.TLS{Required: posture.No} }),
			func(s *posture.Server) { s.Version = "2.10.29" })),
	},
	"TLS_003": {
		fail: fleet(server("n1", open, door(posture.Client, func(d *posture.Door) {
			d.TLS = posture.TLS{On: posture.Yes, Required: posture.Yes, Verify: posture.Yes}
		}))),
		never: "", // a mapping is not visible: see the pass that cannot be, below
		unknown: fleet(server("n1", door(posture.Client, func(d *posture.Door) {
			d.TLS = posture.TLS{On: posture.Yes, Required: posture.Yes, Verify: posture.Yes}
		}))),
	},
	"TLS_005": {
		fail:    fleet(server("n1", on(posture.Websocket, "0.0.0.0"))),
		pass:    fleet(server("n1", on(posture.Websocket, "0.0.0.0", expires(90*24*time.Hour)))),
		unknown: fleet(server("n1", on(posture.Websocket, "0.0.0.0"), deaf)),
	},
	"PERM_008": {
		fail: configured(config(func(c *posture.Config) {
			c.Callout = &posture.ConfigCallout{Place: line(1), Account: "AUTH", Encrypted: posture.No, Watchers: []string{"watcher"}, Placed: posture.No}
		})),
		pass: configured(config(func(c *posture.Config) {
			c.Callout = &posture.ConfigCallout{Place: line(1), Account: "AUTH", Encrypted: posture.No, Placed: posture.No}
		})),
		unknown: configured(config(func(c *posture.Config) {
			c.Callout = &posture.ConfigCallout{Place: line(1), Account: "AUTH", Encrypted: posture.No, Placed: posture.Unseen}
		})),
	},
	"TLS_007": {
		fail:    fleet(server("n1", on(posture.Websocket, "0.0.0.0", cookie(posture.Yes)))),
		pass:    fleet(server("n1", on(posture.Websocket, "0.0.0.0", cookie(posture.No)))),
		unknown: fleet(server("n1", on(posture.Websocket, "0.0.0.0", cookie(posture.Unseen)))),
	},
	"CVE_001": {
		fail:    fleet(server("n1", runs("2.12.6"))),
		pass:    fleet(server("n1")),
		unknown: fleet(server("n1", runs("2.15.2-")), server("n2", deaf)),
	},
	"DOOR_008": {
		fail:    configured(on(posture.Profile, "0.0.0.0", says(posture.Open))),
		pass:    configured(on(posture.Profile, "127.0.0.1", says(posture.Open))),
		unknown: configured(on(posture.Profile, "0.0.0.0", says(posture.Unknown))),
	},
	"SESS_004": {
		fail:    configured(login(posture.ConfigLogin{User: "app", Where: "authorization", Secret: posture.SecretNone})),
		pass:    configured(login(posture.ConfigLogin{User: "app", Where: "authorization", Secret: posture.SecretHashed})),
		unknown: fleet(server("n1")),
	},
	"CRED_003": {
		fail:    configured(login(posture.ConfigLogin{User: "app", Where: "authorization", Secret: posture.SecretPlain, Length: 11})),
		pass:    configured(login(posture.ConfigLogin{User: "app", Where: "authorization", Secret: posture.SecretPlain, Length: 12})),
		unknown: configured(login(posture.ConfigLogin{User: "app", Where: "authorization", Secret: posture.SecretUnset})),
	},
	"CRED_004": {
		fail: configured(login(posture.ConfigLogin{User: "app", Where: "accounts.APP", Client: true}),
			login(posture.ConfigLogin{User: "web", Where: "accounts.APP", Client: true, Restricted: true})),
		pass: configured(login(posture.ConfigLogin{User: "app", Where: "accounts.APP", Client: true}),
			login(posture.ConfigLogin{User: "web", Where: "accounts.WEB", Client: true})),
		unknown: configured(refused),
	},
	"JWT_040": {
		fail:    configured(resolver(posture.Resolver{Kind: "full", AllowDelete: true})),
		pass:    configured(resolver(posture.Resolver{Kind: "full"})),
		unknown: configured(refused),
	},
	"JWT_041": {
		fail:    configured(resolver(posture.Resolver{Kind: "memory"})),
		pass:    configured(resolver(posture.Resolver{Kind: "full"})),
		unknown: configured(refused),
	},
	"CONF_001": {
		fail:    configured(commented, door(posture.Client, says(posture.Open))),
		pass:    configured(commented, door(posture.Client, says(posture.Closed))),
		unknown: configured(commented, refused),
	},
	"CONF_002": {
		fail: configured(config(func(c *posture.Config) {
			c.Overridden = []posture.Override{{Key: "authorization", Lost: line(1), Kept: line(2)}}
		})),
		pass:    configured(),
		unknown: configured(refused),
	},
	"CONF_003": {
		fail: configured(config(func(c *posture.Config) {
			c.Spellings = []posture.Spelling{{Keys: []string{"pass", "password"}, Places: []posture.Place{line(1), line(2)}, Auth: true}}
		})),
		pass:    configured(),
		unknown: configured(refused),
	},
	"CONF_004": {
		fail: configured(config(func(c *posture.Config) {
			c.Guests = []posture.Guest{{User: "guest", Account: "APP", Place: line(1)}}
		})),
		pass:    configured(),
		unknown: configured(refused),
	},
	"CONF_005": {
		fail: configured(config(func(c *posture.Config) {
			c.Unset = []posture.Unset{{Name: "PORT", Key: "port", Place: line(1)}}
		})),
		pass:    configured(),
		unknown: configured(refused),
	},
	"CONF_006": {
		fail:    configured(runsWith(posture.MarkOf("another"))),
		pass:    configured(runsWith(posture.MarkOf("this"))),
		unknown: configured(runsWith(posture.MarkOf("this")), config(func(c *posture.Config) { c.Running.Version = "2.10.29" })),
	},
	"CONF_007": {
		fail:  configured(refused),
		pass:  configured(),
		never: "nats-server takes a configuration, or it does not",
	},
	"CONF_008": {
		fail:    fleet(server("n1", on(posture.Client, "0.0.0.0"), greets(posture.Yes))),
		pass:    fleet(server("n1", on(posture.Client, "0.0.0.0"), greets(posture.No))),
		unknown: fleet(server("n1", on(posture.Client, "0.0.0.0"))),
	},
	"CONF_009": {
		fail: configured(config(func(c *posture.Config) {
			c.Placeholders = []posture.Placeholder{{Key: "authorization.token", Literal: "$TOKEN", Place: line(1)}}
		})),
		pass:    configured(),
		unknown: configured(refused),
	},
	"CONF_010": {
		fail: configured(config(func(c *posture.Config) {
			c.Barred = []posture.Barred{{Door: posture.Leafnode, Place: line(1), Text: "TLS has no certificate"}}
		})),
		pass:    configured(),
		unknown: configured(refused),
	},
	"SESS_003": {
		fail:    fleet(server("n1", inside(in("$SYS", plain(posture.LoginPassword, "stranger"))))),
		pass:    fleet(server("n1", inside(in("$SYS", plain(posture.LoginPassword, "admin"))))),
		unknown: fleet(server("n1")),
		policy:  map[Outcome]Policy{Fail: expecting("admin"), Pass: expecting("admin"), Unknown: expecting("admin")},
	},
	"SESS_005": {
		fail:    operated(revokes("UA"), jwtUser("UA", nil)),
		pass:    operated(revokes("UB"), jwtUser("UA", nil)),
		unknown: operated(nil, jwtUser("UA", nil)),
	},
	"TLS_004": {
		fail:    fleet(server("n1", inside(plain(posture.LoginPassword, "app")))),
		pass:    fleet(server("n1", inside(plain(posture.LoginNKey, "UA")))),
		unknown: fleet(server("n1")),
	},
	"CRED_001": {
		fail:    fleet(server("n1", inside(plain(posture.LoginToken, "")))),
		pass:    fleet(server("n1", inside(plain(posture.LoginPassword, "app")))),
		unknown: fleet(server("n1", inside(), func(s *posture.Server) { s.Version = "2.9.25" })),
	},
	"CRED_002": {
		fail:    fleet(server("n1", inside(plain(posture.LoginPassword, "app")))),
		pass:    fleet(server("n1", inside(plain(posture.LoginNKey, "UA")))),
		unknown: fleet(server("n1", inside(plain(posture.LoginUnknown, "app")))),
	},
	"CRED_005": {
		fail: fleet(server("n1", inside(plain(posture.LoginNKey, "UA"), plain(posture.LoginNKey, "UA"),
			posture.Session{Door: posture.Client, Login: posture.LoginNKey, User: "UA", Lang: "python3"}))),
		pass:    fleet(server("n1", inside(plain(posture.LoginNKey, "UA"), plain(posture.LoginNKey, "UA"), plain(posture.LoginNKey, "UA")))),
		unknown: fleet(server("n1")),
	},
	"JWT_021": {
		fail:    accounts(account(func(c *posture.Claim) { c.NotBefore = now.Add(time.Hour) })),
		pass:    accounts(account(func(c *posture.Claim) { c.NotBefore = now.Add(-time.Hour) })),
		unknown: accounts(half(account())),
	},
	"JWT_030": {
		fail:    operated(asIs, jwtUser("UA", func(c *posture.UserClaim) { c.Expires = time.Time{} })),
		pass:    operated(asIs, jwtUser("UA", nil)),
		unknown: operated(asIs, in("AAPP", plain(posture.LoginBearer, "UA"))),
	},
	"JWT_031": {
		fail:    operated(asIs, jwtUser("UA", func(c *posture.UserClaim) { c.Issued, c.Expires = now.AddDate(0, -3, 0), now.Add(time.Hour) })),
		pass:    operated(asIs, jwtUser("UA", nil)),
		unknown: operated(asIs, in("AAPP", plain(posture.LoginBearer, "UA"))),
	},
	"JWT_032": {
		fail:    operated(asIs, in("AAPP", plain(posture.LoginBearer, "UA"))),
		pass:    operated(func(c *posture.Claim) { c.BearerUsers = false }, jwtUser("UA", func(c *posture.UserClaim) { c.Scoped = true })),
		unknown: operated(asIs, jwtUser("UA", func(c *posture.UserClaim) { c.Scoped = true })),
	},
	"JWT_033": {
		fail:    operated(asIs, jwtUser("UA", func(c *posture.UserClaim) { c.Bound = false })),
		pass:    operated(asIs, jwtUser("UA", nil)),
		unknown: operated(asIs, jwtUser("UA", func(c *posture.UserClaim) { c.Scoped, c.Bound = true, false })),
	},
	"JWT_034": {
		fail:    operated(asIs, jwtUser("UA", func(c *posture.UserClaim) { c.OpenPub, c.OpenSub = true, true })),
		pass:    operated(asIs, jwtUser("UA", nil)),
		unknown: operated(nil, jwtUser("UA", hasAll)),
	},
	"JWT_001": {
		fail:    fleet(server("n1", trusts(func(o *posture.Operator) { o.SigningKeys = nil }))),
		pass:    fleet(server("n1", trusts())),
		unknown: fleet(server("n1", trusts(), deaf)),
	},
	"JWT_002": {
		fail:    fleet(server("n1", trusts(func(o *posture.Operator) { o.Strict = false }))),
		pass:    fleet(server("n1", trusts())),
		unknown: fleet(server("n1", trusts(), deaf)),
	},
	"JWT_003": {
		fail:    fleet(server("n1", trusts(func(o *posture.Operator) { o.SystemAccount = "" }))),
		pass:    fleet(server("n1", trusts())),
		unknown: fleet(server("n1", trusts(), deaf)),
	},
	"JWT_004": {
		fail:    fleet(server("n1", trusts(func(o *posture.Operator) { o.Expires = now.Add(24 * time.Hour) }))),
		pass:    fleet(server("n1", trusts())),
		unknown: fleet(server("n1", trusts(), deaf)),
	},
	"JWT_005": {
		fail:    fleet(server("n1", trusts(func(o *posture.Operator) { o.Plaintext = []string{"nats://n1:4222"} }))),
		pass:    fleet(server("n1", trusts())),
		unknown: fleet(server("n1", trusts(), deaf)),
	},
	"JWT_010": {
		fail:    accounts(account(func(c *posture.Claim) { c.Issuer = "OTHER" })),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_011": {
		fail:    accounts(differing(2)),
		pass:    accounts(account()),
		unknown: accounts(differing(1)),
	},
	"JWT_012": {
		fail:    accounts(account(func(c *posture.Claim) { c.SigningKeys = nil })),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_013": {
		fail:    accounts(account(func(c *posture.Claim) { c.Expires = now.Add(-time.Second) })),
		pass:    accounts(account()),
		unknown: accounts(&posture.Account{ID: "ACC"}), // not looked at yet
	},
	"JWT_014": {
		fail:    accounts(account(func(c *posture.Claim) { c.BearerUsers = true })),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_015": {
		fail:    accounts(account(func(c *posture.Claim) { c.OpenDefaults = true })),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_016": {
		fail:    accounts(account(func(c *posture.Claim) { c.Limited = false })),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_017": {
		fail: accounts(account(func(c *posture.Claim) {
			c.Exports = append(c.Exports, posture.Export{Subject: "orders.>", Public: true})
		})),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_018": {
		fail:    accounts(account(func(c *posture.Claim) { c.Imports[0].Expires = now.Add(-time.Hour) })),
		pass:    accounts(account()),
		unknown: accounts(half(account())),
	},
	"JWT_019": {
		fail:    within(accounts(account(withCallout)), posture.Session{User: "UOTHER"}),
		pass:    within(accounts(account(withCallout)), posture.Session{User: "UAUTH", Claim: &posture.UserClaim{Key: "UAUTH", Account: "ACC"}}),
		unknown: accounts(account(withCallout)), // nobody asked for the sessions
	},
	"JWT_020": {
		fail:    accounts(account(withCallout, func(c *posture.Claim) { c.Callout.Encrypted = false })),
		pass:    accounts(account(withCallout)),
		unknown: accounts(half(account(withCallout))),
	},
	"POLICY_001": {
		fail:   fleet(server("n1")),
		pass:   fleet(server("n1")),
		policy: map[Outcome]Policy{Fail: waiving(now), Pass: waiving(now.Add(time.Second))},
		never:  "the policy is always known",
	},
}

// configured is a configuration, of a server that does not run.
func configured(changes ...func(*posture.Server)) *posture.Snapshot {
	s := server("n1.conf")
	s.Heard, s.Config = 0, &posture.Config{File: "n1.conf"}
	for _, change := range changes {
		change(s)
	}
	snap := fleet(s)
	snap.Config = true
	return snap
}

func config(change func(*posture.Config)) func(*posture.Server) {
	return func(s *posture.Server) { change(s.Config) }
}

// runsWith is a configuration of the digest "this", and a server that runs with one.
func runsWith(mark uint64) func(*posture.Server) {
	return config(func(c *posture.Config) {
		c.Marks = []uint64{posture.MarkOf("this")}
		c.Running = server("n1")
		c.Running.ConfigMark, c.Running.NoConfigFile = mark, posture.No
	})
}

func line(n int) posture.Place { return posture.Place{File: "n1.conf", Line: n, Column: 1} }

func login(l posture.ConfigLogin) func(*posture.Server) {
	return config(func(c *posture.Config) { c.Logins = append(c.Logins, l) })
}

func resolver(r posture.Resolver) func(*posture.Server) {
	return config(func(c *posture.Config) { c.Resolver = &r })
}

func says(a posture.Access) func(*posture.Door) {
	return func(d *posture.Door) { d.Access, d.Basis, d.Reason = a, posture.Declared, "a test" }
}

var (
	refused   = config(func(c *posture.Config) { c.Refused = []posture.Remark{{Place: line(1), Text: "a test"}} })
	commented = config(func(c *posture.Config) { c.Commented = []posture.Remark{{Place: line(1), Text: "authorization"}} })
)

// trusts puts a server into operator mode, under an operator of whom there is
// nothing to say.
func trusts(change ...func(*posture.Operator)) func(*posture.Server) {
	return func(s *posture.Server) {
		o := posture.Operator{Key: "OPERATOR", Name: "OP", SigningKeys: []string{"SIGNING"}, Strict: true, SystemAccount: "SYS", Issued: now.Add(-time.Hour)}
		for _, f := range change {
			f(&o)
		}
		s.AuthMode, s.Operators = posture.AuthOperator, []posture.Operator{o}
	}
}

// account makes an account of which there is nothing to say: n1 goes by the
// claim that is stored.
func account(change ...func(*posture.Claim)) *posture.Account {
	c := &posture.Claim{
		Mark: 1, Account: "ACC", Name: "APP", Issuer: "SIGNING", Issued: now.Add(-time.Hour), Limited: true,
		SigningKeys: []posture.SigningKey{{Key: "AKEY", Scoped: true}},
		Exports:     []posture.Export{{Subject: "private"}},
		Imports:     []posture.Import{{Subject: "private", Account: "ACC", Expires: now.Add(365 * 24 * time.Hour)}},
	}
	for _, f := range change {
		f(c)
	}
	return &posture.Account{
		ID: "ACC", Name: "APP", At: now, Asked: true, Stored: []*posture.Claim{c},
		InForce: []posture.InForce{{Server: "n1", ServerID: "Nn1", Claim: c}},
	}
}

// half is an account about which a server did not answer.
func half(a *posture.Account) *posture.Account {
	a.Missing = []string{"n2"}
	return a
}

// differing is an account whose stored claim is another one than that in force,
// for so many looks in a row.
func differing(looks int) *posture.Account {
	a := account()
	newer := *a.Stored[0]
	newer.Mark, newer.Issued = 2, now
	a.Stored, a.Differs = []*posture.Claim{&newer}, looks
	return a
}

func withCallout(c *posture.Claim) {
	c.Callout = &posture.Callout{AuthUsers: []string{"UAUTH"}, Accounts: []string{"ACC"}, Encrypted: true}
}

func accounts(list ...*posture.Account) *posture.Snapshot {
	snap := fleet(server("n1", trusts()))
	snap.Trust = &posture.Trust{At: now, Accounts: list}
	return snap
}

// within adds somebody to everybody's sessions on the first server.
func within(snap *posture.Snapshot, c posture.Session) *posture.Snapshot {
	snap.Servers[0].Everyone = posture.Sessions{At: now, Total: 1, List: []posture.Session{c}}
	return snap
}

func waiving(until time.Time) Policy {
	p := DefaultPolicy()
	p.Waivers = []Waiver{{Check: "DOOR_001", Reason: "a test", Owner: "the tests", Expires: until}}
	return p
}

// listened is a fleet whose events have been heard for a while.
func listened(since time.Duration, servers ...*posture.Server) *posture.Snapshot {
	snap := fleet(servers...)
	snap.Hears = posture.Hears{Events: posture.Connects | posture.AuthFailures | posture.Reloads, Since: now.Add(-since)}
	return snap
}

// neverPasses names the checks for which $SYS holds no positive evidence.
var neverPasses = map[string]string{
	"TLS_003": "$SYS does not show whether certificates are mapped to users",
}

// TestEveryCheckHasItsFixtures runs each check on its fixtures, and fails
// when a check has none.
func TestEveryCheckHasItsFixtures(t *testing.T) {
	for _, c := range Catalogue() {
		t.Run(c.ID, func(t *testing.T) {
			fx, ok := fixtures[c.ID]
			if !ok {
				t.Fatal("no fixtures")
			}
			for _, f := range []struct {
				want  Outcome
				snap  *posture.Snapshot
				never string
			}{{Fail, fx.fail, ""}, {Pass, fx.pass, neverPasses[c.ID]}, {Unknown, fx.unknown, fx.never}} {
				if f.snap == nil {
					if f.never == "" {
						t.Errorf("no fixture for %s, and no reason why there is none", f.want)
					}
					continue
				}
				policy, ok := fx.policy[f.want]
				if !ok {
					policy = DefaultPolicy()
				}
				got := outcomes(c, f.snap, policy)
				if !got[f.want] {
					t.Errorf("wanted %s somewhere, got %v", f.want, got)
				}
				if f.want != Fail && got[Fail] {
					t.Errorf("fails on the fixture for %s", f.want)
				}
			}
		})
	}
}

func outcomes(c *Check, snap *posture.Snapshot, policy Policy) map[Outcome]bool {
	got := map[Outcome]bool{}
	for _, r := range c.judgeAlone(snap, policy) {
		got[r.Outcome] = true
	}
	return got
}
