package integration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// Blocks that the configurations are made of.
const (
	wsBlock    = `websocket { listen: "{{addr "websocket"}}", no_tls: true` // open ended
	wsTLS      = `websocket { listen: "{{addr "websocket"}}"`
	mqttBlock  = `mqtt { listen: "{{addr "mqtt"}}"`
	leafBlock  = `leafnodes { listen: "{{addr "leafnode"}}"`
	routeBlock = `cluster { name: c, listen: "{{addr "route"}}"`
	gateBlock  = `gateway { name: g, listen: "{{addr "gateway"}}"`
	monitoring = `http: "{{addr "monitor"}}"` + "\n"
	sure       = "\nauthorization { user: peer, password: peer-password }\n" // of a block
	// guarded has users, and an account that no stranger should reach.
	guarded = `accounts { APP { jetstream: enabled, users: [ { user: app, password: app-password }, { user: guest, password: guest-password } ] }, OTHER {} }` + "\n"
	// guardedPlain is the same without JetStream.
	guardedPlain = `accounts { APP { users: [ { user: app, password: app-password }, { user: guest, password: guest-password } ] }, OTHER {} }` + "\n"
	// everyDoor has every listener that takes over the client's authentication.
	everyDoor = jetstream + wsBlock + "}\n" + mqttBlock + "}\n" + leafBlock + "}\n"
)

// guest lets in a guest of an account, limited as the text says.
func guest(limits string) string {
	return `accounts { APP { jetstream: enabled, users: [ { user: app, password: app-password }, { user: guest, password: guest-password` + limits + ` } ] }, OTHER {} }
no_auth_user: guest
`
}

// What the auditor cannot tell of MQTT doors that it does not touch, and says
// so.
const (
	mqttCertificates = "VARZ does not show whether this listener verifies client certificates"
	mqttMapped       = "certificates are mapped to users on this door"
	mqttGuest        = "open through a user who may not be allowed on mqtt"
	mqttMaybeGuest   = "a no_auth_user that may be limited to mqtt"
	mqttOwnUser      = "VARZ does not show"
	mqttWebsocket    = "its path /mqtt leads to the same users"
)

// handUnknown lists the doors that the auditor may call unknown, by
// configuration and door, with its reason.
var handUnknown = map[string]map[string]string{
	"mqtt":                                           {oracle.MQTT: mqttOwnUser},
	"mqtt user of its own":                           {oracle.MQTT: mqttOwnUser},
	"mqtt token of its own":                          {oracle.MQTT: mqttOwnUser},
	"mqtt with no_auth_user and verify":              {oracle.MQTT: mqttOwnUser},
	"nothing, every door":                            {oracle.MQTT: mqttOwnUser},
	"verify, every door":                             {oracle.MQTT: mqttOwnUser},
	"mqtt with TLS":                                  {oracle.MQTT: mqttCertificates},
	"mqtt with verify":                               {oracle.MQTT: mqttCertificates},
	"mqtt with verify and map":                       {oracle.MQTT: mqttMapped},
	"mqtt with verify and map, open server":          {oracle.MQTT: mqttMapped},
	"hidden user, every door":                        {oracle.MQTT: mqttGuest},
	"no_auth_user, every door":                       {oracle.MQTT: mqttGuest},
	"no_auth_user for standard connections only":     {oracle.MQTT: mqttGuest, mqttTouched: mqttWebsocket},
	"no_auth_user for websockets only":               {oracle.MQTT: mqttMaybeGuest, mqttTouched: mqttWebsocket},
	"no_auth_user for leafnodes only":                {oracle.MQTT: mqttMaybeGuest, mqttTouched: mqttWebsocket},
	"no_auth_user for leafnodes over websocket only": {oracle.MQTT: mqttMaybeGuest, mqttTouched: mqttWebsocket},
	"no_auth_user for MQTT only":                     {oracle.MQTT: mqttMaybeGuest},
	"no_auth_user for MQTT over websocket only":      {oracle.MQTT: mqttMaybeGuest, mqttTouched: mqttWebsocket},
	"certificates but for MQTT over websocket":       {oracle.MQTT: mqttCertificates, mqttTouched: mqttWebsocket},
	"pinned certificates without verify":             {oracle.Client: "touched, without a verdict"},
}

// handUndecided lists the doors at which the stranger is neither let in nor
// refused.
var handUndecided = map[string]map[string]string{
	// He passes, and then finds no JetStream for his session in $G.
	"accounts without users, every door": {oracle.MQTT: "EOF", oracle.MQTTWebsocket: "EOF"},
}

// knownWrong lists the doors of which the auditor is wrong, and why that has
// to be accepted: by configuration and door.
var knownWrong = map[string]map[string]string{}

// inherited are the doors of everyDoor.
var inherited = []string{oracle.Client, oracle.Websocket, oracle.LeafWebsocket, oracle.MQTT, oracle.MQTTWebsocket, oracle.Leafnode}

// truthCases are the configurations written by hand.
func truthCases(t testing.TB) []truthCase {
	t.Helper()
	ca := newAuthority(t)
	year := ca.files(365 * 24 * time.Hour)
	pin := fmt.Sprintf(`pinned_certs: [ "%x" ]`, sha256.Sum256([]byte("nobody")))
	nkey := must(must(nkeys.CreateUser()).PublicKey())
	client, ws, leafWS, mq, leaf := oracle.Client, oracle.Websocket, oracle.LeafWebsocket, oracle.MQTT, oracle.Leafnode

	// c is a configuration of which the whole truth is known.
	c := func(name, config string, open ...string) truthCase {
		return truthCase{name: name, config: config, files: year, open: open, known: true}
	}
	cases := []truthCase{
		// Facts, section 1, row by row; the doors that inherit come along.
		c("nothing", "", client),
		c("nothing, every door", everyDoor, inherited...),
		c("empty authorization", `authorization {}`, client),
		c("authorization with a timeout", `authorization { timeout: 2 }`, client),
		c("authorization without users", `authorization { users: [] }`, client),
		c("empty token", `authorization { token: "" }`, client),
		c("password without user", `authorization { password: lonely }`, client),
		c("accounts without users", `accounts { APP {} }`, client),
		c("accounts without users, every door", everyDoor+`accounts { APP {} }`, inherited...),
		c("no_auth_user", guest(""), client),
		c("no_auth_user that may do what it likes", guest(`, permissions: { publish: ">", subscribe: ">" }`), client),
		c("no_auth_user with empty allow lists", guest(`, permissions: { publish: { allow: [] }, subscribe: { allow: [] } }`), client),
		c("no_auth_user that is limited to publish", guest(`, permissions: { publish: [ "x" ] }`), client),
		c("no_auth_user of the JetStream API", guest(`, permissions: { publish: [ "$JS.API.>" ], subscribe: [ "_INBOX.>" ] }`), client),
		c("no_auth_user that is limited", guest(`, permissions: { publish: [ "_INBOX.>", "orders.>" ], subscribe: [ "_INBOX.>", "orders.>" ] }`), client),
		c("proxy protocol", "proxy_protocol: true\n"+guardedPlain),
		c("proxy protocol, nothing else", "proxy_protocol: true\n", client),
		c("proxy protocol, no_auth_user", guest("")+"proxy_protocol: true\n", client),
		c("proxy protocol, every door", "proxy_protocol: true\n"+guardedPlain+everyDoor),
		c("no_auth_user, every door", guest("")+everyDoor, inherited...),
		c("no_auth_user with an nkey", `accounts { APP { users: [ { user: app, password: app-password }, { nkey: `+nkey+` } ] } }
no_auth_user: `+nkey, client),
		c("no_auth_user with permissions", guest(`, permissions: { publish: { allow: "a" }, subscribe: { allow: "b" } }`), client),
		c("no_auth_user denied everything", guest(`, permissions: { publish: { deny: ">" }, subscribe: { deny: ">" } }`), client),
		c("no_auth_user into the system account", `accounts { $SYS { users: [ { user: sys, password: sys-password } ] }, APP { users: [ { user: app, password: app-password } ] } }
no_auth_user: sys`, client),
		c("no_auth_user for websockets only", guest(`, allowed_connection_types: ["WEBSOCKET"]`)+everyDoor, ws),
		c("no_auth_user for leafnodes only", guest(`, allowed_connection_types: ["LEAFNODE"]`)+everyDoor, leaf),
		c("no_auth_user for leafnodes over websocket only", guest(`, allowed_connection_types: ["LEAFNODE_WS"]`)+everyDoor, leafWS),
		c("no_auth_user for MQTT only", guest(`, allowed_connection_types: ["MQTT"]`)+everyDoor, mq),
		c("no_auth_user for MQTT over websocket only", guest(`, allowed_connection_types: ["MQTT_WS"]`)+everyDoor, oracle.MQTTWebsocket),
		c("certificates but for MQTT over websocket", tlsBlock("verify: true")+jetstream+mqttBlock+tlsBlock("verify: true")+"}\n"+wsBlock+`, authorization { user: w, password: websocket-password } }
`, oracle.MQTTWebsocket),
		c("no_auth_user for standard connections only", guest(`, allowed_connection_types: ["STANDARD"]`)+everyDoor, client),
		c("no_auth_user without a user password", `accounts { APP { users: [ { user: guest } ] } }
no_auth_user: guest`, client),
		c("no_auth_user with a hashed password", `accounts { APP { users: [ { user: app, password: app-password }, { user: guest, password: "{{bcrypt "guest-password"}}" } ] } }
no_auth_user: guest`),
		c("hidden user", sysAccount, client),
		c("hidden user, every door", sysAccount+everyDoor, inherited...),
		c("hidden user, another system account", `accounts { ADMIN { users: [ { user: sys, password: sys-password } ] } }
system_account: ADMIN`, client),
		c("hidden user, nkey of the system account", `accounts { $SYS { users: [ { nkey: `+nkey+` } ] } }`, client),
		c("hidden user with TLS", sysAccount+tlsBlock(""), client),
		c("no hidden user: authorization block", sysAccount+`authorization { timeout: 2 }`),
		c("no hidden user: authorization block, every door", sysAccount+`authorization { timeout: 2 }
`+everyDoor),
		c("no hidden user: another account", `accounts { $SYS { users: [ { user: sys, password: sys-password } ] }, APP {} }`),
		c("no hidden user: another account, every door", `accounts { $SYS { users: [ { user: sys, password: sys-password } ] }, APP {} }
`+everyDoor),
		c("user", `authorization { user: app, password: app-password }`),
		c("user, every door", everyDoor+`authorization { user: app, password: app-password }`),
		c("users", `authorization { users: [ { user: app, password: app-password } ] }`),
		c("users, every door", everyDoor+`authorization { users: [ { user: app, password: app-password } ] }`),
		c("token", `authorization { token: token-of-the-tests }`),
		c("token, every door", everyDoor+`authorization { token: token-of-the-tests }`),
		c("nkey", `authorization { users: [ { nkey: `+nkey+` } ] }`),
		c("accounts", guardedPlain),
		c("accounts, every door", guarded+everyDoor),
		c("accounts and an empty authorization", guardedPlain+`authorization {}`),
		c("user without password", `accounts { APP { users: [ { user: app } ] } }`),
		c("single user without password", `authorization { user: app }`),
		c("user with an empty password", `accounts { APP { users: [ { user: app, password: "" } ] } }`),
		c("bcrypt", `authorization { user: app, password: "{{bcrypt "app-password"}}" }`),

		// TLS of the client port.
		c("tls", tlsBlock(""), client),
		c("tls, users", tlsBlock("")+guardedPlain),
		c("tls optional", tlsBlock("")+`allow_non_tls: true`, client),
		c("tls optional, users", tlsBlock("")+`allow_non_tls: true
`+guardedPlain),
		c("tls first", tlsBlock("handshake_first: true"), client),
		c("tls first, users", tlsBlock("handshake_first: true")+guardedPlain),
		c("tls first beside plaintext", tlsBlock("handshake_first: true")+`allow_non_tls: true`, client),
		c("tls first beside plaintext, verify", tlsBlock("verify: true\nhandshake_first: true")+`allow_non_tls: true`),
		c("tls first, no_auth_user", tlsBlock("handshake_first: true")+guest(""), client),
		c("tls first or after a while", tlsBlock("handshake_first: auto"), client),
		c("tls first or soon after, users", tlsBlock(`handshake_first: "150ms"`)+guardedPlain),
		c("tls first or long after, users", tlsBlock(`handshake_first: "900ms"`)+guardedPlain),
		c("tls first, verify", tlsBlock("verify: true\nhandshake_first: true")),
		c("verify", tlsBlock("verify: true")),
		c("verify, users", tlsBlock("verify: true")+guardedPlain),
		c("certificates that may be left out", tlsBlock("verify: optional"), client),
		c("certificates that may be left out, users", tlsBlock("verify: optional")+guardedPlain),
		c("verify optional", tlsBlock("verify: true")+`allow_non_tls: true`, client),
		c("verify optional, users", tlsBlock("verify: true")+`allow_non_tls: true
`+guardedPlain),
		c("verify and map", tlsBlock("verify_and_map: true")+`accounts { APP { users: [ { user: "CN=app" } ] } }`),
		c("verify and map optional", tlsBlock("verify_and_map: true")+`allow_non_tls: true
accounts { APP { users: [ { user: "CN=app" } ] } }`),
		c("verify and map, no_auth_user", tlsBlock("verify_and_map: true")+`allow_non_tls: true
`+guest("")),
		c("pinned certificates", tlsBlock("verify: true\n"+pin)),
		c("pinned certificates without verify", tlsBlock(pin)),
		c("verify, every door", tlsBlock("verify: true")+everyDoor, ws, leafWS, mq, oracle.MQTTWebsocket, leaf),

		// Websocket.
		c("websocket", wsBlock+"}", client, ws),
		c("websocket, users", wsBlock+"}\n"+guardedPlain),
		c("websocket no_auth_user", wsBlock+", no_auth_user: guest }\n"+guardedPlain, ws),
		c("websocket no_auth_user, leafnodes", wsBlock+", no_auth_user: guest }\n"+leafBlock+"}\n"+guardedPlain, ws, leafWS),
		c("websocket no_auth_user, monitoring", wsBlock+", no_auth_user: guest }\n"+monitoring+guardedPlain, ws, oracle.Monitor),
		c("websocket user of its own", wsBlock+sure+"}", client),
		c("websocket token of its own", wsBlock+`, authorization { token: token-of-the-tests } }`, client),
		c("websocket user of its own, leafnodes", wsBlock+sure+"}\n"+leafBlock+"}", client, leaf, leafWS),
		c("websocket that allows one origin", wsBlock+`, allowed_origins: ["https://example.com"] }`, client, ws),
		c("websocket that wants the same origin", wsBlock+`, same_origin: true }`, client, ws),
		c("websocket with TLS", wsTLS+tlsBlock("")+"}", client, ws),
		c("websocket with TLS, users", wsTLS+tlsBlock("")+"}\n"+guardedPlain),
		c("websocket with TLS, leafnodes", wsTLS+tlsBlock("")+"}\n"+leafBlock+"}", client, ws, leaf, leafWS),
		c("websocket with TLS, no_auth_user", wsTLS+tlsBlock("")+"no_auth_user: guest }\n"+guardedPlain, ws),
		c("websocket with verify", wsTLS+tlsBlock("verify: true")+"}", client),
		c("websocket with verify and map", wsTLS+tlsBlock("verify_and_map: true")+"}\n"+guardedPlain),
		c("websocket with a handshake timeout, hidden user", sysAccount+wsBlock+`, handshake_timeout: "2s" }`, client, ws),

		// MQTT.
		c("mqtt", jetstream+mqttBlock+"}", client, mq),
		c("mqtt, users", jetstream+mqttBlock+"}\n"+guarded),
		c("mqtt no_auth_user", jetstream+mqttBlock+", no_auth_user: guest }\n"+guarded, mq),
		c("mqtt user of its own", jetstream+mqttBlock+sure+"}", client),
		c("mqtt token of its own", jetstream+mqttBlock+`, authorization { token: token-of-the-tests } }`, client),
		c("mqtt with TLS", jetstream+mqttBlock+tlsBlock("")+"}", client, mq),
		c("mqtt with TLS, users", jetstream+mqttBlock+tlsBlock("")+"}\n"+guarded),
		c("mqtt with verify", jetstream+mqttBlock+tlsBlock("verify: true")+"}", client),
		c("mqtt with verify and map", jetstream+mqttBlock+tlsBlock("verify_and_map: true")+"}\n"+guarded),
		c("mqtt with verify and map, open server", jetstream+mqttBlock+tlsBlock("verify_and_map: true")+"}", client),
		c("mqtt with no_auth_user and verify", jetstream+mqttBlock+tlsBlock("verify: true")+"no_auth_user: guest }\n"+guarded),

		// Leafnodes.
		c("leafnodes", leafBlock+"}", client, leaf),
		c("leafnodes, users", leafBlock+"}\n"+guardedPlain),
		c("leafnodes, token", leafBlock+"}\nauthorization { token: token-of-the-tests }"),
		c("leafnodes with a user", leafBlock+sure+"}", client),
		c("leafnodes with a user, users", leafBlock+sure+"}\n"+guardedPlain),
		c("leafnodes with users", leafBlock+`, authorization { users: [ { user: peer, password: peer-password, account: APP } ] } }
`+guardedPlain),
		c("leafnodes with users, open server", leafBlock+`, authorization { users: [ { user: peer, password: peer-password } ] } }`, client),
		c("leafnodes with a user of the system account", leafBlock+`, authorization { users: [ { user: peer, password: peer-password, account: "$SYS" } ] } }`, client),
		c("leafnodes with a user without password", leafBlock+`, authorization { users: [ { user: peer } ] } }`, client),
		c("leafnodes into an account", leafBlock+`, authorization { account: APP } }
accounts { APP {} }`, client, leaf),
		c("leafnodes into an account, users", leafBlock+`, authorization { account: OTHER } }
`+guardedPlain),
		c("leafnodes with a timeout, users", leafBlock+`, authorization { timeout: 2 } }
`+guardedPlain),
		c("leafnodes with an nkey", leafBlock+`, authorization { nkey: `+nkey+` } }`, client),
		c("leafnodes with TLS", leafBlock+tlsBlock("")+"}", client, leaf),
		c("leafnodes with TLS, users", leafBlock+tlsBlock("")+"}\n"+guardedPlain),
		c("leafnodes with TLS first", leafBlock+tlsBlock("handshake_first: true")+"}", client, leaf),
		c("leafnodes with TLS first, users", leafBlock+tlsBlock("handshake_first: true")+"}\n"+guardedPlain),
		c("leafnodes with verify", leafBlock+tlsBlock("verify: true")+"}", client),
		c("leafnodes with verify and map", leafBlock+tlsBlock("verify_and_map: true")+"}\n"+guardedPlain),
		c("leafnodes with pinned certificates", leafBlock+tlsBlock("verify: true\n"+pin)+"}", client),
		c("leafnodes over websocket only", wsBlock+"}\n"+leafBlock+sure+"}", client, ws),
		c("leafnodes that are isolated", leafBlock+", isolate_leafnode_interest: true }", client, leaf),
		c("leafnodes of a minimum version", leafBlock+`, min_version: "2.9.0" }`, client, leaf),

		// Routes.
		c("cluster", routeBlock+"}", client, oracle.Route),
		c("cluster without a name", `cluster { listen: "{{addr "route"}}" }`, client, oracle.Route),
		c("cluster, users", routeBlock+"}\n"+guardedPlain, oracle.Route),
		c("cluster, no_auth_user", routeBlock+"}\n"+guest(""), client, oracle.Route),
		c("cluster with a user", routeBlock+sure+"}", client),
		c("cluster with a user, users", routeBlock+sure+"}\n"+guardedPlain),
		c("cluster with a user, no_auth_user", routeBlock+sure+"}\n"+guest(""), client),
		c("cluster with a user without password", routeBlock+`, authorization { user: peer } }`, client),
		c("cluster with a password without user", routeBlock+`, authorization { password: lonely } }`, client, oracle.Route),
		c("cluster with a timeout", routeBlock+`, authorization { timeout: 2 } }`, client, oracle.Route),
		c("cluster with permissions", routeBlock+`, permissions { import: "a", export: "b" } }`, client, oracle.Route),
		c("cluster without advertising", routeBlock+`, no_advertise: true }`, client, oracle.Route),
		c("cluster without pooling", routeBlock+`, pool_size: -1 }`, client, oracle.Route),
		c("cluster with compression", routeBlock+`, compression: s2_fast }`, client, oracle.Route),
		c("cluster with TLS", routeBlock+tlsBlock("")+"}", client),
		c("cluster with TLS and a user", routeBlock+tlsBlock("")+sure+"}", client),
		c("cluster with TLS and known addresses", routeBlock+tlsBlock("verify_cert_and_check_known_urls: true")+"}", client),
		c("cluster with verify and map", routeBlock+tlsBlock("verify_and_map: true")+`authorization { user: "CN=peer" } }`, client),
		c("cluster with pinned certificates", routeBlock+tlsBlock(pin)+"}", client),
		c("cluster, hidden user", routeBlock+"}\n"+sysAccount, client, oracle.Route),

		// Gateways.
		c("gateway", gateBlock+"}", client, oracle.Gateway),
		c("gateway, users", gateBlock+"}\n"+guardedPlain, oracle.Gateway),
		c("gateway with a user", gateBlock+sure+"}", client),
		c("gateway with a user, users", gateBlock+sure+"}\n"+guardedPlain),
		c("gateway with a user without password", gateBlock+`, authorization { user: peer } }`, client),
		c("gateway with a timeout", gateBlock+`, authorization { timeout: 2 } }`, client, oracle.Gateway),
		c("gateway with TLS", gateBlock+tlsBlock("")+"}", client),
		c("gateway with TLS and a user", gateBlock+tlsBlock("")+sure+"}", client),
		c("gateway with verify and map", gateBlock+tlsBlock("verify_and_map: true")+`authorization { user: "CN=peer" } }`, client),
		c("gateway of a cluster", gateBlock+"}\n"+`cluster { name: g, listen: "{{addr "route"}}"`+sure+"}", client, oracle.Gateway),
		func() truthCase {
			known := c("gateway that rejects unknown clusters", gateBlock+`, reject_unknown_cluster: true, gateways: [ { name: other, url: "nats://{{addr "nobody"}}" } ] }`, client, oracle.Gateway)
			known.gateways = []string{"other"}
			return known
		}(),

		// Monitoring.
		c("monitoring", monitoring, client, oracle.Monitor),
		c("monitoring, users", monitoring+guardedPlain, oracle.Monitor),
		c("monitoring, verify", monitoring+tlsBlock("verify: true"), oracle.Monitor),
		c("monitoring over https", tlsBlock("")+`https: "{{addr "monitor"}}"`, client, oracle.Monitor),
		c("monitoring over https, verify", tlsBlock("verify: true")+`https: "{{addr "monitor"}}"`, oracle.Monitor),
		func() truthCase {
			below := c("monitoring below a path", monitoring+`http_base_path: "/nats"`, client, oracle.Monitor)
			below.basePath = "/nats"
			return below
		}(),

		// Everything at once.
		c("every door shut", everyDoorWith(sure, sure, sure)+`system_account: SYS
accounts { SYS { users: [ { user: sys, password: sys-password } ] }, APP { users: [ { user: app, password: app-password } ] } }`),
		c("every door open", everyDoorWith("", "", "")+sysAccount+`system_account: "$SYS"`, client, ws, leaf, leafWS, oracle.Route, oracle.Gateway),
	}
	bare := c("no configuration file", "", client)
	bare.bare = true
	cases = append(cases, bare)
	for i := range cases {
		cases[i].unknown = handUnknown[cases[i].name]
		cases[i].undecided = handUndecided[cases[i].name]
	}
	cases = append(cases, operatorCases(t)...)
	cases = append(cases, calloutCases(t)...)
	return cases
}

// everyDoorWith has all doors that peers come through. MQTT is not among them:
// in a cluster it needs other servers.
func everyDoorWith(leaf, route, gateway string) string {
	return wsBlock + "}\n" + leafBlock + leaf + "}\n" +
		`cluster { name: g, listen: "{{addr "route"}}"` + route + "}\n" + gateBlock + gateway + "}\n"
}

// operatorCases are servers that trust an operator.
func operatorCases(t testing.TB) []truthCase {
	t.Helper()
	op := newOperator(t)
	memory := op.MemoryConfig()
	bearer, _ := op.user(&op.App, "sentinel", func(c *jwt.UserClaims) { c.BearerToken = true })
	denied, _ := op.user(&op.App, "denied", func(c *jwt.UserClaims) {
		c.BearerToken = true
		c.Pub.Deny.Add(">")
		c.Sub.Deny.Add(">")
	})
	wsOnly, _ := op.user(&op.App, "browser", func(c *jwt.UserClaims) {
		c.BearerToken = true
		c.AllowedConnectionTypes.Add(jwt.ConnectionTypeWebsocket)
	})
	expired, _ := op.user(&op.App, "expired", func(c *jwt.UserClaims) {
		c.BearerToken = true
		c.Expires = time.Now().Add(-time.Hour).Unix()
	})
	doors := wsBlock + "}\n" + leafBlock + "}\n"
	c := func(name, config string, open ...string) truthCase {
		return truthCase{name: name, config: config, open: open, known: true}
	}
	return []truthCase{
		c("operator", memory),
		c("operator, full resolver", op.Config()),
		c("operator, strict", strictOperator(t).MemoryConfig()),
		c("no operator in the list", "operator: []\nresolver: MEMORY", oracle.Client),
		c("trusted keys, none", "trusted_keys: []", oracle.Client),
		c("trusted keys, none, users", "trusted_keys: []\n"+guardedPlain),
		c("operator, more doors", memory+doors),
		c("operator, websocket with a JWT cookie", memory+wsBlock+`, jwt_cookie: jwt }`),
		c("operator with default_sentinel", memory+"default_sentinel: "+bearer, oracle.Client),
		c("operator with default_sentinel, more doors", memory+doors+"default_sentinel: "+bearer, oracle.Client, oracle.Websocket, oracle.Leafnode, oracle.LeafWebsocket),
		c("operator with a denied default_sentinel", memory+"default_sentinel: "+denied, oracle.Client),
		c("operator with default_sentinel for websockets", memory+doors+"default_sentinel: "+wsOnly, oracle.Websocket),
		c("operator with an expired default_sentinel", memory+"default_sentinel: "+expired),
		c("operator, cluster", memory+routeBlock+"}", oracle.Route),
		c("operator, gateway with a user", memory+gateBlock+sure+"}"),
	}
}

// strictOperator wants every account signed by a signing key.
func strictOperator(t testing.TB) *operator {
	t.Helper()
	op := newOperator(t)
	must(op.RotateSigningKey())
	err := errors.Join(op.Change(func(c *jwt.OperatorClaims) { c.StrictSigningKeyUsage = true }), op.Sign(&op.System, nil), op.Sign(&op.App, nil))
	if err != nil {
		t.Fatal(err)
	}
	return op
}

// calloutCases are servers that leave the decision to a service.
func calloutCases(t testing.TB) []truthCase {
	t.Helper()
	issuer := must(nkeys.CreateAccount())
	public := must(issuer.PublicKey())
	config := `
accounts {
  AUTH { users: [ { user: auth, password: auth-password } ] }
  APP { jetstream: enabled }
  $SYS { users: [ { user: sys, password: sys-password } ] }
}
authorization { timeout: 3, auth_callout { issuer: ` + public + `, account: AUTH, auth_users: [ auth ] } }
`
	serve := func(account string) func(*testing.T, *fleet.Server) {
		return func(t *testing.T, s *fleet.Server) {
			serveCallout(t, s, nats.UserInfo("auth", "auth-password"), issuer, func(user *jwt.UserClaims) string {
				if account == "" {
					return ""
				}
				user.Audience = account
				return must(user.Encode(issuer))
			})
		}
	}
	everybody, nobody := serve("APP"), serve("")
	doors := wsBlock + "}\n" + leafBlock + "}\n"
	return []truthCase{
		{name: "callout that admits everybody", config: config, beside: everybody, known: true, open: []string{oracle.Client}},
		{
			name: "callout that admits everybody, more doors", config: config + doors, beside: everybody, known: true,
			open: []string{oracle.Client, oracle.Websocket, oracle.Leafnode, oracle.LeafWebsocket},
		},
		{name: "callout that admits nobody", config: config, beside: nobody, known: true},
		{name: "callout that admits nobody, more doors", config: config + doors, beside: nobody, known: true},
		operatorCallout(t, "operator with default_sentinel and a callout that admits everybody", true, oracle.Client),
		operatorCallout(t, "operator with default_sentinel and a callout that admits nobody", false),
		{
			name:   "callout without users",
			config: `authorization { timeout: 1, auth_callout { issuer: ` + public + `, auth_users: [ auth ] } }`,
			known:  true, open: []string{oracle.Client},
		},
	}
}

// serveCallout answers for everybody with what sign makes of a user, and turns
// him away where that is "".
func serveCallout(t *testing.T, s *fleet.Server, login nats.Option, issuer nkeys.KeyPair, sign func(*jwt.UserClaims) string) {
	t.Helper()
	nc := connect(t, s.URL(), login, nats.Name("callout"))
	_, err := nc.Subscribe("$SYS.REQ.USER.AUTH", func(m *nats.Msg) {
		request, err := jwt.DecodeAuthorizationRequestClaims(string(m.Data))
		if err != nil {
			return
		}
		answer := jwt.NewAuthorizationResponseClaims(request.UserNkey)
		answer.Audience = request.Server.ID
		if answer.Jwt = sign(jwt.NewUserClaims(request.UserNkey)); answer.Jwt == "" {
			answer.Error = "nobody is welcome"
		}
		_ = m.Respond([]byte(must(answer.Encode(issuer)))) // who asked will time out
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// operatorCallout is a server in operator mode whose sentinel leads to a
// callout service, and which leaves the rest to it.
func operatorCallout(t testing.TB, name string, welcome bool, open ...string) truthCase {
	t.Helper()
	key := must(nkeys.CreateOperator())
	accounts := [3]nkeys.KeyPair{must(nkeys.CreateAccount()), must(nkeys.CreateAccount()), must(nkeys.CreateAccount())}
	system, app, auth := accounts[0], accounts[1], accounts[2]
	service := must(nkeys.CreateUser())
	userOf := func(account, user nkeys.KeyPair, bearer bool) string {
		claims := jwt.NewUserClaims(must(user.PublicKey()))
		claims.BearerToken = bearer
		return must(claims.Encode(account))
	}
	trusted := jwt.NewOperatorClaims(must(key.PublicKey()))
	trusted.SystemAccount = must(system.PublicKey())
	preload := ""
	for _, account := range accounts {
		public := must(account.PublicKey())
		claims := jwt.NewAccountClaims(public)
		if account == auth {
			claims.Authorization.AuthUsers.Add(must(service.PublicKey()))
			claims.Authorization.AllowedAccounts.Add(must(app.PublicKey()))
		}
		preload += fmt.Sprintf("  %s: %s\n", public, must(claims.Encode(key)))
	}
	return truthCase{
		name: name, known: true, open: open,
		config: fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload {\n%s}\ndefault_sentinel: %s\n",
			must(trusted.Encode(key)), must(system.PublicKey()), preload, userOf(auth, must(nkeys.CreateUser()), true)),
		beside: func(t *testing.T, s *fleet.Server) {
			login := nats.UserJWTAndSeed(userOf(auth, service, false), string(must(service.Seed())))
			serveCallout(t, s, login, auth, func(user *jwt.UserClaims) string {
				if !welcome {
					return ""
				}
				return must(user.Encode(app))
			})
		},
	}
}
