package advisory

// Nature is what the text of an advisory says and no field of it does. It is
// written by hand.
type Nature struct {
	// Bypass: it lets in who has no valid credentials. Advisories that give an
	// authenticated client more than he should have, or that crash a server, do not.
	Bypass bool
	// Needs are what a server must have beside the version: all of them.
	Needs []Need
	// Unseen is what it takes beside that, and no server shows; "" when that is all.
	Unseen string
}

// Need is something that a server must have for an advisory to matter.
type Need string

// The needs. Each is the words for it, too.
const (
	NeedsWebsocket      Need = "a websocket port"
	NeedsMQTT           Need = "an MQTT port"
	NeedsNoMQTT         Need = "no MQTT port"
	NeedsLeafnode       Need = "a leafnode port"
	NeedsRouteOrLeaf    Need = "a route or leafnode port"
	NeedsMonitor        Need = "HTTP monitoring"
	NeedsJetStream      Need = "JetStream"
	NeedsOperator       Need = "operator mode"
	NeedsClientTLS      Need = "TLS on the client port"
	NeedsClientCerts    Need = "client certificates that are verified"
	NeedsMappedCerts    Need = "client certificates that are mapped to users"
	NeedsNoAuthUser     Need = "a no_auth_user"
	NeedsRefusedDefault Need = "a no_auth_user that may not use every port"
	NeedsSystemOnly     Need = "no account beside the system's and the global one"
)

// natures has an entry for every advisory of the table.
var natures = map[string]Nature{
	"CVE-2019-13126": {},

	// An expired user still gets in.
	"2020-02": {Bypass: true, Needs: []Need{NeedsOperator}, Unseen: "users whose JWT has expired"},
	"2020-03": {Needs: []Need{NeedsOperator}},
	"2021-01": {Unseen: "accounts that import from each other in a circle"},
	"2021-02": {Needs: []Need{NeedsOperator}, Unseen: "exports that need an activation token"},
	"2021-03": {Needs: []Need{NeedsClientTLS}, Unseen: "TLS set up on the command line"},
	"2022-01": {},
	"2022-02": {Needs: []Need{NeedsJetStream}},
	"2022-03": {Unseen: "somebody in the system account who is not to be trusted"},
	"2022-04": {Unseen: "users with denied subjects inside of a wildcard"},
	"2022-05": {Needs: []Need{NeedsJetStream}},
	"2022-06": {Unseen: "accounts that import from each other in a circle"},

	// The hidden user is made although there is an authorization block.
	"2023-01": {Bypass: true, Needs: []Need{NeedsSystemOnly}},
	"2023-02": {Unseen: "an auth callout with encryption"},
	"2025-01": {Needs: []Need{NeedsJetStream}},
	"2026-01": {Needs: []Need{NeedsClientCerts}, Unseen: "ports with different authorities"},
	"2026-02": {Needs: []Need{NeedsWebsocket}},
	"2026-03": {Needs: []Need{NeedsWebsocket}},
	"2026-04": {Needs: []Need{NeedsLeafnode}}, // with compression, which is the default
	"2026-05": {Needs: []Need{NeedsMQTT}},
	"2026-06": {Needs: []Need{NeedsMQTT}},
	"2026-07": {Needs: []Need{NeedsMQTT}},
	"2026-08": {Needs: []Need{NeedsLeafnode}, Unseen: "services that believe Nats-Request-Info"},
	"2026-09": {Unseen: "services that believe Nats-Request-Info"},
	"2026-10": {Needs: []Need{NeedsLeafnode}},
	"2026-11": {Needs: []Need{NeedsWebsocket}},
	"2026-12": {Needs: []Need{NeedsJetStream}},
	"2026-13": {Bypass: true, Needs: []Need{NeedsMappedCerts}, Unseen: "distinguished names of an unusual pattern"},
	"2026-14": {Needs: []Need{NeedsMonitor}, Unseen: "credentials on the command line"},
	"2026-15": {},
	"2026-16": {Bypass: true, Needs: []Need{NeedsNoAuthUser, NeedsRouteOrLeaf}},
	"2026-17": {Unseen: "users with wildcards that overlap denied ones"},
	"2026-18": {Unseen: "users with denied subjects and denied queues"},
	"2026-19": {Needs: []Need{NeedsLeafnode}}, // with compression, which is the default
	"2026-20": {Needs: []Need{NeedsLeafnode}},
	"2026-21": {Needs: []Need{NeedsMQTT}},
	"2026-22": {Needs: []Need{NeedsMQTT}},
	"2026-23": {Needs: []Need{NeedsOperator}},
	"2026-24": {Bypass: true, Needs: []Need{NeedsRefusedDefault}},
	"2026-25": {Needs: []Need{NeedsMQTT}},
	"2026-26": {Needs: []Need{NeedsMQTT}},
	"2026-27": {Needs: []Need{NeedsWebsocket, NeedsNoMQTT, NeedsJetStream}},
	"2026-28": {},
}
