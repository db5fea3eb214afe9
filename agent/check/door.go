package check

import (
	"fmt"
	"maps"

	"github.com/natsentry/natsentry/agent/posture"
)

const (
	refAuth       = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro"
	refNoAuthUser = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/accounts"
	refWebsocket  = "https://docs.nats.io/running-a-nats-service/configuration/websocket/websocket_conf"
	refMQTT       = "https://docs.nats.io/running-a-nats-service/configuration/mqtt/mqtt_config"
	refMonitoring = "https://docs.nats.io/running-a-nats-service/nats_admin/monitoring"
	refTLS        = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/tls"
	refCluster    = "https://docs.nats.io/running-a-nats-service/configuration/clustering"
	refLeafnode   = "https://docs.nats.io/running-a-nats-service/configuration/leafnodes"
	refGateway    = "https://docs.nats.io/running-a-nats-service/configuration/gateways"
	refSystem     = "https://docs.nats.io/running-a-nats-service/configuration/sys_accounts"
	refRevocation = "https://docs.nats.io/using-nats/nats-tools/nsc/revocation"
	refToken      = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/tokens"
	refPassword   = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/username_password"
	refOperator   = "https://docs.nats.io/running-a-nats-service/configuration/securing_nats/auth_intro/jwt"
)

// addUsers is the smallest configuration that closes a server that asks
// nobody for anything.
const addUsers = `accounts {
  APP: { users: [ { user: app, password: "$2a$11$..." } ] }   # bcrypt: nats server passwd
  $SYS: { users: [ { user: admin, password: "$2a$11$..." } ] } # by this name: another system_account takes a restart
}
`

// addUsersKeepSystem closes a server whose system account is already named.
const addUsersKeepSystem = `# in the block accounts, beside $SYS, which is there:
accounts {
  APP: { users: [ { user: app, password: "$2a$11$..." } ] }   # bcrypt: nats server passwd
}
authorization {}   # says that nobody else is meant to get in
`

const dropsStrangers = "Clients that are connected without credentials are dropped at once with an authorization violation: give them credentials first."

// clientRemedies are what to do about the authentication of the client port. All
// listeners that use it, and the sessions that came in by it, share them.
var clientRemedies = map[posture.Cause]Remedy{
	posture.CauseNoConfig: {
		Text: "The server was started without a configuration file. Write one with users and restart the server with -c; a reload cannot bring in a first file. " +
			"The restart disconnects every client; those without credentials do not come back.",
		Config: addUsers,
	},
	posture.CauseNoTrustedKey: {
		Text: "The operator has no key that may sign accounts: strict_signing_key_usage without signing keys, or an empty list. nats-server then asks nobody for a JWT. " +
			"Add a signing key to the operator (nsc edit operator --sk generate), sign the accounts with it, and restart with the new operator JWT. Clients without a JWT do not come back.",
	},
	posture.CauseNoAuthBlock: {
		Text:   "Add users to the configuration file and reload. " + dropsStrangers,
		Config: addUsers, Reload: true,
	},
	posture.CauseHiddenUser: {
		Text: "Only the system account has users, so the server made itself a hidden user that lets everybody into " + posture.GlobalAccount + ". " +
			"Add an account with users, or an empty authorization block, and reload: the hidden user goes with it. " +
			"Clients that came in by it are disconnected at once and do not come back: give them credentials first.",
		Config: addUsersKeepSystem, Reload: true,
	},
	posture.CauseAllowNonTLS: {
		Text: "Certificates are verified, but allow_non_tls lets plaintext clients in without one. Remove it and restart: a reload does not apply it. " +
			"Plaintext clients do not come back after the restart. Map the certificates to users too, or any certificate of the CA is enough.",
		Config: "tls {\n  # ... cert_file, key_file, ca_file as they are\n  verify_and_map: true\n}\n# remove: allow_non_tls: true\n",
	},
	posture.CauseCertificateOnly: {
		Text:   "Any certificate of the CA is let in, under no name. Map certificates to users and restart: a reload that turns the mapping on is refused. Clients whose certificate matches no user do not come back after the restart.",
		Config: "tls {\n  # ... cert_file, key_file, ca_file as they are\n  verify_and_map: true\n}\nauthorization { users: [ { user: \"CN=app,OU=team\" } ] }\n",
	},
	posture.CauseNoAuthUser: {
		Text: "The server treats a client without credentials as the no_auth_user. Remove it and restart: a reload does not apply that, unless its user is removed with it. " +
			"Clients without credentials do not come back after the restart. If strangers are meant to get in, restrict the permissions of that user.",
		Config: "# remove: no_auth_user: ...\n",
	},
	posture.CauseOperatorAdmits: {
		Text: "The server is in operator mode and lets strangers in: either default_sentinel names a user that is not restricted, or an account's auth callout signs everybody. " +
			"Look at default_sentinel in the configuration, and at what the callout service answers to a client without credentials.",
		Reload: true,
	},
	posture.CauseSentinel: {
		Text:   "default_sentinel is a bearer JWT, and the server gives it to every client that brings none. Remove it, or make it one of an account whose auth callout decides, and restart.",
		Config: "# remove: default_sentinel: ...\n",
	},
	posture.CauseCalloutAlone: {
		Text:   "There are no users beside the auth callout, so the server asks nobody: who sends no CONNECT publishes and subscribes without the callout being asked. Give the callout's service a user and reload. " + dropsStrangers,
		Config: "authorization {\n  users: [ { user: callout, password: \"$2a$11$...\" } ]\n  auth_callout { issuer: A..., auth_users: [ callout ] }\n}\n", Reload: true,
	},
	posture.CauseCalloutAdmits: {
		Text:   "The auth callout service signs everybody, whatever credentials come. Mend the service: the server does what it says. Clients stay connected until their user expires.",
		Reload: true,
	},
	posture.CauseAnonymousAdmitted: {
		Text: "The server asks for credentials and lets strangers in: through its hidden user, when only the system account has users, or through an auth callout that signs everybody. This version does not tell which.",
	},
	posture.CauseAnonymousSeen: {
		Text: "An anonymous session is inside although the server asks for credentials. Look at the session below, then at no_auth_user and default_sentinel in the configuration; removing no_auth_user takes a restart, unless its user is removed with it.",
	},
}

// withClientRemedies adds the remedies of the client port to those of a listener
// that uses its authentication unless a block of its own says otherwise.
func withClientRemedies(own map[posture.Cause]Remedy) map[posture.Cause]Remedy {
	all := maps.Clone(clientRemedies)
	maps.Copy(all, own)
	return all
}

var door001 = &Check{
	Sight: Both,
	ID:    "DOOR_001", Aliases: []string{"SERVER_007"}, Severity: Critical,
	Title: "client port lets anonymous clients in",
	Doc: "Whoever reaches the port reads, writes and impersonates everything in the account where he lands. " +
		"A server that reports auth_required is not closed for that: no_auth_user, the hidden user, a default sentinel and a callout " +
		"that admits everybody all leave the flag on. So the flag is never a Pass here, only a touch shows that the door is closed. " +
		"It is a warning where permissions restrict the anonymous user: where both publishing and subscribing are limited to subjects that are named, and none of these gives power over the whole account, as $JS.API.> does.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Client},
	Door:  openDoor, Proves: true,
	Remedies: clientRemedies,
	Remedy:   Remedy{Text: "Add users to the configuration file. " + dropsStrangers, Config: addUsers, Reload: true},
	Refs:     []string{refAuth, refNoAuthUser},
}

var door002 = &Check{
	Sight: Both,
	ID:    "DOOR_002", Severity: Critical,
	Title: "websocket port lets anonymous clients in",
	Doc: "A browser, or anything that speaks websocket, gets in without credentials. The websocket block can override the server's authentication: " +
		"websocket.no_auth_user opens this port on a server whose client port is closed, and VARZ shows it. A username or token of the websocket block guards only this port, and VARZ does not show it.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Websocket},
	Door:  openDoor, Proves: true,
	Remedies: withClientRemedies(map[posture.Cause]Remedy{
		posture.CauseWSNoAuthUser: {
			Text:   "Remove no_auth_user from the websocket block and restart: a reload does not apply changes of this block. Websocket clients without credentials do not come back after the restart.",
			Config: "websocket {\n  # ... as it is, without: no_auth_user\n}\n",
		},
		posture.CauseInherits: {
			Text:   "The websocket port takes the client port's authentication, and that one is open: close it there, and reload. " + dropsStrangers,
			Config: addUsers, Reload: true,
		},
	}),
	Remedy: Remedy{Text: "Close the client port (DOOR_001) and remove no_auth_user from the websocket block; the latter takes a restart.", Config: addUsers},
	Refs:   []string{refWebsocket},
}

var door003 = &Check{
	Sight: Both,
	ID:    "DOOR_003", Severity: Critical,
	Title: "MQTT port lets anonymous clients in",
	Doc: "The door is touched only when that is asked for (--probe-mqtt): an MQTT CONNECT that is let in creates five JetStream streams in the account. Otherwise it is judged by VARZ: " +
		"mqtt.no_auth_user opens it; without an override it is as open as the client port. A tls_map, or TLS of its own, leaves it unknown.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.MQTT},
	Door:  openDoor, Proves: true,
	Remedies: withClientRemedies(map[posture.Cause]Remedy{
		posture.CauseMQTTNoAuthUser: {
			Text:   "Remove no_auth_user from the mqtt block and restart: a reload does not apply it. Devices without credentials do not come back after the restart.",
			Config: "mqtt {\n  # ... as it is, without: no_auth_user\n}\n",
		},
		posture.CauseInherits: {
			Text:   "The MQTT port takes the client port's authentication, and that one is open: close it there, and reload. " + dropsStrangers,
			Config: addUsers, Reload: true,
		},
	}),
	Remedy: Remedy{Text: "Close the client port (DOOR_001) and remove no_auth_user from the mqtt block; the latter takes a restart.", Config: addUsers},
	Refs:   []string{refMQTT},
}

// openDoor judges the doors that authenticate their peers.
func openDoor(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
	switch {
	case d.Access == posture.Open:
		v := fail(d.Cause, "%s lets strangers in on its %s port %s", s.Name, d.Kind, d.Where())
		v.Summary += landing(s, d.Landing)
		if contradicted(d) {
			v.Summary = fmt.Sprintf("%s reports auth_required, and lets strangers in on its %s port %s%s", s.Name, d.Kind, d.Where(), landing(s, d.Landing))
		}
		v.Severity, v.Firm = landedSeverity(s, d.Landing)
		return v.with(NoSeverity, d.Evidence...)
	case d.Cause == posture.CauseCertificateOnly:
		return fail(d.Cause, "%s lets any certificate of its CA in on its %s port %s, under no name", s.Name, d.Kind, d.Where()).
			with(Warning, d.Evidence...)
	case d.Access == posture.Closed && s.Config != nil:
		return pass("the configuration keeps strangers out").with(NoSeverity, d.Evidence...)
	case d.Access == posture.Closed && d.Basis > posture.Reported:
		return pass("a stranger was refused").with(NoSeverity, d.Evidence...)
	case d.Access == posture.Closed:
		return unknown("closed on the server's word only").with(NoSeverity, d.Evidence...)
	default:
		return unknown("%s", d.Reason).with(NoSeverity, d.Evidence...)
	}
}

// landing says as whom an anonymous peer is admitted.
func landing(s *posture.Server, l *posture.Landing) string {
	switch {
	case l == nil:
		return ""
	case inSystem(s, l) && l.User != "":
		return fmt.Sprintf(", as %s in %s, the system account", l.User, l.Account)
	case inSystem(s, l):
		return fmt.Sprintf(", into %s, the system account", l.Account)
	case l.Account != "" && l.User != "":
		return fmt.Sprintf(", as %s in %s", l.User, l.Account)
	case l.Account != "":
		return ", into " + l.Account
	case l.User != "":
		return ", as " + l.User
	default:
		return ""
	}
}

// landedSeverity: a stranger whom permissions restrict is half as bad, and
// one in the system account always as bad as can be.
func landedSeverity(s *posture.Server, l *posture.Landing) (severity Severity, firm bool) {
	switch {
	case l == nil:
		return NoSeverity, false
	case inSystem(s, l):
		return Critical, true
	case l.Restricted:
		return Warning, false
	default:
		return NoSeverity, false
	}
}

func inSystem(s *posture.Server, l *posture.Landing) bool {
	return l.Account != "" && l.Account == s.SystemAccount
}

// contradicted tells whether the server itself claims to be closed.
func contradicted(d *posture.Door) bool {
	for _, e := range d.Evidence {
		if e.Basis == posture.Reported && e.Access == posture.Closed {
			return true
		}
	}
	return false
}

var door004 = &Check{
	Sight: Both,
	ID:    "DOOR_004", Severity: Critical,
	Title: "leafnode port lets anonymous leafs in",
	Doc: "Whoever joins as a leafnode exchanges all messages of the account where he lands. The door is the leafnode port, and the path /leafnode of the websocket port. " +
		"Before 2.12.0 a leafnode port without authorization of its own lets anonymous leafs in even where the client port is closed.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Leafnode},
	Door:  openDoor, Proves: true,
	Remedies: map[posture.Cause]Remedy{
		posture.CauseLeafNoAuth: {
			Text:   "Give the leafnodes block an authorization of its own and restart: a reload does not apply it. Leafs without credentials do not come back after the restart.",
			Config: "leafnodes {\n  authorization { user: leaf, password: \"$2a$11$...\", account: APP }   # bcrypt: nats server passwd\n}\n",
		},
	},
	Remedy: Remedy{
		Text:   "The leafnode port takes the client port's authentication, and that one is open: close it there, and give the leafnodes block an authorization of its own. The latter takes a restart; leafs without credentials do not come back.",
		Config: "leafnodes {\n  authorization { user: leaf, password: \"$2a$11$...\", account: APP }   # bcrypt: nats server passwd\n}\n",
	},
	Refs: []string{refLeafnode},
}

var door005 = &Check{
	Sight: Both,
	ID:    "DOOR_005", Severity: Critical,
	Title: "route port lets anybody join the cluster",
	Doc:   "Whoever joins a cluster as a server reads and writes every account. A touch is an anonymous client that the port turns away: before its authorization, or after.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Route},
	Door:  openDoor, Proves: true,
	Remedy: Remedy{
		Text:   "Give the cluster block an authorization, the same on every member, with the user and password in the routes' URLs of all of them, and reload. Routes whose peer brings no password are closed at once. Bind the port to a network of the servers' own.",
		Config: "cluster {\n  authorization { user: route, password: \"a long random one\" }\n  routes: [ \"nats-route://route:a-long-random-one@n2:6222\" ]\n}\n", Reload: true,
	},
	Refs: []string{refCluster},
}

var door006 = &Check{
	Sight: Both,
	ID:    "DOOR_006", Severity: Critical,
	Title: "gateway port lets anybody join the super-cluster",
	Doc:   "Whoever joins as a gateway exchanges messages of every account with the super-cluster. A touch is an anonymous client that the port turns away: before its authorization, or after.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Gateway},
	Door:  openDoor, Proves: true,
	Remedy: Remedy{
		Text:   "Give the gateway block an authorization, the same in every cluster, with the user and password in the gateways' URLs, and restart one server at a time.",
		Config: "gateway {\n  authorization { user: gateway, password: \"a long random one\" }\n}\n",
	},
	Refs: []string{refGateway},
}

var door007 = &Check{
	Sight: Both,
	ID:    "DOOR_007", Severity: Warning,
	Title: "HTTP monitoring is reachable beyond loopback",
	Doc: "The monitoring port never asks for credentials, not even over HTTPS with client certificates. It shows connections, subjects, accounts and configuration " +
		"to whoever reaches it. It should listen on loopback, or behind something that authenticates.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Monitor}, Proves: true,
	Door: func(policy Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		switch {
		case d.Access == posture.Unknown && s.Config != nil:
			return unknown("%s", d.Reason).with(NoSeverity, d.Evidence...)
		case d.Loopback() && !policy.LoopbackExposed:
			return pass("it listens on loopback")
		case d.Access != posture.Open:
			return unknown("%s", d.Reason).with(NoSeverity, d.Evidence...)
		}
		return fail(d.Cause, "%s shows its monitoring to everybody who reaches %s", s.Name, d.Where()).with(NoSeverity, d.Evidence...)
	},
	Remedy: Remedy{
		Text:   "Bind monitoring to loopback, or put it behind a firewall or a proxy that authenticates, and restart: a reload does not move the listener. Clients are disconnected by the restart and come back.",
		Config: "http: \"127.0.0.1:8222\"\n",
	},
	Refs: []string{refMonitoring},
}

var door008 = &Check{
	Sight: Lint,
	ID:    "DOOR_008", Severity: Warning,
	Title: "profiling port is open",
	Doc: "prof_port serves Go's profiler over HTTP to whoever reaches it, and never asks for credentials: memory, goroutines and command line of the server can be read, and profiles cost CPU. " +
		"It listens on the host of the client port. Nothing that a running server answers shows it, so it is found in the configuration only.",
	Doors: []posture.DoorKind{posture.Profile}, Proves: true,
	Door: func(policy Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		switch {
		case d.Access != posture.Open:
			return unknown("%s", d.Reason).with(NoSeverity, d.Evidence...)
		case d.Loopback() && !policy.LoopbackExposed:
			return pass("it listens on loopback")
		default:
			return fail(d.Cause, "%s lets everybody who reaches %s profile it", s.Name, d.Where()).with(NoSeverity, d.Evidence...)
		}
	},
	Remedy: Remedy{Text: "Remove prof_port and restart: a reload does not close the listener. Turn it on where and while it is needed, behind a firewall.", Config: "# remove: prof_port: ...\n"},
	Refs:   []string{refMonitoring},
}

// tried says why no touch has decided.
func tried(d *posture.Door) string {
	for i := range d.Evidence {
		if e := &d.Evidence[i]; e.Tried() {
			return ": " + e.Source + ": " + e.Value
		}
	}
	return ""
}

var door009 = &Check{
	ID: "DOOR_009", Severity: Info,
	Title: "verdict rests on the server's word only",
	Doc: "This door was not tried, or could not be: touches are off, it cannot be reached from here, another server answers at its address. Each address that is known of the listener is tried until one answers under the server's id; the evidence lists those that did not. " +
		"It is unknown, or the server says that it is closed; servers were seen to say so and to let strangers in all the same. " +
		"Profiling is left out: nothing that a server answers shows it.",
	Needs: posture.Varz,
	Doors: []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode, posture.Route, posture.Gateway},
	Door: func(_ Policy, _ *posture.Snapshot, s *posture.Server, d *posture.Door) Verdict {
		if !d.Weak() {
			return pass("decided by %s evidence", d.Basis)
		}
		if d.Pending {
			return unknown("it is being touched")
		}
		if d.Access == posture.Closed {
			return fail("", "%s says that its %s port %s is closed, and a touch has not shown it%s", s.Name, d.Kind, d.Where(), tried(d)).with(NoSeverity, d.Evidence...)
		}
		return fail("", "whether %s lets strangers in on its %s port %s is not known: %s", s.Name, d.Kind, d.Where(), d.Reason).with(NoSeverity, d.Evidence...)
	},
	Remedy: Remedy{Text: "Try the door yourself from where a stranger would come, without credentials: for a client port, `nats --no-context --server HOST:PORT rtt`.", Reload: true},
	Refs:   []string{refAuth},
}
