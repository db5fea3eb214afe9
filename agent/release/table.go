package release

// The rules on which verdicts depend.
var (
	GuardsLeafnodes = &Rule{
		Since: Since{"2.12.0"}, Security: true,
		Name:   "leafnodes without authorization of their own",
		Before: "A leafnode port admits every peer that matches no user of the server, whatever the client port asks for. A no_auth_user still decides: a peer without credentials is taken for it, and rejected where that user may not connect in this way, or has a bcrypt password.",
		After:  "A leafnode port without authorization of its own asks for what the client port asks for.",
		Source: "real leafnodes against 2.9.25, 2.10.29, 2.11.6, 2.11.17 and 2.12.15; nats-server auth.go",
	}
	ChecksGuestWays = &Rule{
		Since: Since{"2.12.12", "2.14.3"}, Security: true,
		Name:   "allowed_connection_types of no_auth_user, without a CONNECT",
		Before: "A client that sends no CONNECT is taken for no_auth_user, even where that user may not connect in this way or must come through a proxy.",
		After:  "allowed_connection_types and proxy_required of no_auth_user hold without a CONNECT too.",
		Source: "real clients against 2.11.6, 2.11.17, 2.12.15 and 2.14.5; nats-server parser.go of 2.12.11, 2.12.12, 2.14.2 and 2.14.3",
	}
	ChecksGuest = &Rule{
		Since: Since{"2.12.14", "2.14.4"}, Security: true,
		Name:   "authentication of no_auth_user, without a CONNECT",
		Before: "A client that sends no CONNECT is taken for no_auth_user without any authentication: a bcrypt password, certificates that are mapped to users and an auth callout are passed over.",
		After:  "A client that sends no CONNECT is authenticated as one that sends an empty one.",
		Source: "real clients against 2.11.6, 2.11.17, 2.12.15 and 2.14.5; nats-server parser.go of 2.12.12, 2.12.14, 2.14.3 and 2.14.4",
	}
	PeersNeedConnect = &Rule{
		Since: Since{"2.11.16", "2.12.7", "2.14.0"}, Security: true,
		Name:   "no_auth_user on ports of other servers",
		Before: "With a no_auth_user, a peer that sends no CONNECT passes the authorization of route and leafnode ports (advisory 2026-16).",
		After:  "Ports of other servers take no_auth_user from nobody.",
		Source: "nats-server parser.go of 2.11.15, 2.11.16, 2.12.6 and 2.12.7",
	}
	CertificateUsers = &Rule{
		Since: Since{"2.12.14", "2.14.4"}, Security: true,
		Name:   "users without a password, meant for certificates",
		Before: "A user without a password whose name is that of a certificate logs in by name alone on a listener that maps no certificates.",
		After:  "Where a listener maps certificates that this user may use, other listeners reject its name alone.",
		Source: "real clients against 2.12.12 and 2.12.15; nats-server auth.go of 2.12.12, 2.12.14, 2.14.3 and 2.14.4",
	}
	ScopedProxyRequired = &Rule{
		Since: Since{"2.14.8", "2.15.1"}, Security: true,
		Name:   "proxy_required of a scoped signing key",
		Before: "A user whose scoped signing key prescribes proxy_required connects without a proxy.",
		After:  "It is held to it, as proxy_required of the user itself is.",
		Source: "real clients against 2.12.15, 2.14.5, 2.14.8, 2.15.0, 2.15.1 and 2.15.3; nats-server auth.go of 2.14.7, 2.14.8, 2.15.0 and 2.15.1",
	}
	CalloutAccount = &Rule{
		Since: Since{"2.14.10", "2.15.3"}, Security: true,
		Name:   "users in the account of an auth callout",
		Before: "Users that are placed in the account of an auth callout, beside its service, can subscribe to $SYS.REQ.USER.AUTH and see the credentials of clients that log in.",
		After:  "They can neither see nor answer requests of the callout.",
		Source: "real clients against 2.14.5 and 2.15.3; nats-server auth_callout.go of 2.14.9, 2.14.10, 2.15.2 and 2.15.3",
	}
	CalloutSource = &Rule{
		Since: Since{"2.14.10", "2.15.3"}, Security: true,
		Name:   "source addresses in the JWT of an auth callout",
		Before: "The src of a user JWT that an auth callout signs is not looked at.",
		After:  "A client from another address is rejected.",
		Source: "nats-server auth_callout.go of 2.14.9, 2.14.10, 2.15.2 and 2.15.3",
	}
	ProxyProtocol = &Rule{
		Since: Since{"2.12.2"}, Security: true,
		Name:   "proxy_protocol",
		After:  "With proxy_protocol on, the client port takes the address of a client from a PROXY header that anybody may send, and its first INFO has no client_ip. Without it, and on all other ports and older releases, INFO has client_ip.",
		Source: "real servers of 2.12.15 and 2.15.3; nats-server server.go of 2.12.1, 2.12.2 and 2.15.3",
	}
	RedactsTokens = &Rule{
		Since: Since{"2.10.28"}, Security: true,
		Name:   "tokens in CONNZ",
		Before: "CONNZ shows the token of a token client as its authorized_user.",
		After:  "CONNZ shows [REDACTED].",
		Source: "real servers of 2.10.27, 2.10.29 and 2.11.17",
	}
	RedactsBearers = &Rule{
		Since: Since{"2.11.17", "2.12.8", "2.14.0"}, Security: true,
		Name:   "bearer JWTs in CONNZ",
		Before: "CONNZ shows bearer JWTs, with which whoever reads them can log in.",
		After:  "CONNZ leaves bearer JWTs out. CONNECT events carry them on every release.",
		Source: "real servers of 2.10.29, 2.11.17 and 2.12.15",
	}

	ShowsConfigDigest = &Rule{
		Since: Since{"2.11.0"},
		Name:  "VARZ config_digest",
		After: "VARZ shows a digest of the configuration in force, so a server without one was started without a file.", Source: "real servers of every release line",
	}
	DigestsUsedKeys = &Rule{
		Since:  Since{"2.12.6"},
		Name:   "keys to which variables refer",
		Before: "A key that only gives a variable its value is dropped from the configuration and its digest (2.11.0 to 2.11.17, 2.12.0 to 2.12.5): websocket { authorization: $authorization } drops the block of that name.",
		After:  "It counts.", Source: "config_digest of 17 releases",
	}
	ShowsCertExpiry = &Rule{
		Since: Since{"2.11.12", "2.12.4", "2.14.0"},
		Name:  "VARZ tls_cert_not_after",
		After: "VARZ shows of every listener when its certificate expires.", Source: "real servers of every release line",
	}
	ShowsUser = &Rule{
		Since: Since{"2.10.0"},
		Name:  "$SYS.REQ.USER.INFO",
		After: "A client may ask which user it is, in which account and with which permissions. IDZ, RELOAD, KICK and LDM came with the same release.", Source: "real servers of 2.9.25 and 2.10.29",
	}
	DefaultSentinel = &Rule{
		Since: Since{"2.11.2"}, Security: true,
		Name:  "default_sentinel",
		After: "In operator mode, a client that brings no JWT is given the one of default_sentinel.", Source: "nats-server opts.go of 2.11.1 and 2.11.2",
	}
)

// Rules lists them all: first those that decide who is admitted or what can be
// seen, each group in the order of the table.
func Rules() []*Rule {
	return []*Rule{
		GuardsLeafnodes, ChecksGuestWays, ChecksGuest, PeersNeedConnect, CertificateUsers, ScopedProxyRequired, DefaultSentinel,
		CalloutAccount, CalloutSource, ProxyProtocol, RedactsTokens, RedactsBearers,
		ShowsUser, ShowsConfigDigest, DigestsUsedKeys, ShowsCertExpiry,
	}
}

// Key is a configuration key, or a value of one, that came with a release. A
// server that does not know it refuses to start.
type Key struct {
	Since
	Path  string // in the longest spelling, as "gateway.ping_interval"
	Value string // of a key that came before; "" of a new key
}

// Keys are those of the releases that this module has met.
var Keys = []Key{
	{Since{"2.11.2"}, "default_sentinel", ""},
	{Since{"2.12.2"}, "proxy_protocol", ""},
	{Since{"2.14.10", "2.15.3"}, "gateway.ping_interval", ""},
	{Since{"2.14.10", "2.15.3"}, "gateway.ping_max", ""},
	{Since{"2.14.10", "2.15.3"}, "leafnodes.ping_interval", ""},
	{Since{"2.14.10", "2.15.3"}, "leafnodes.ping_max", ""},
	{Since{"2.14.10", "2.15.3"}, "tls.verify", "optional"},
}
