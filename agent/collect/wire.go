package collect

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
)

// The types below hold of each answer what natsentry uses, under the names of
// nats-server's own types. A test holds them against those types. What is not
// listed is not decoded, and so cannot leak.

// envelope is what every answer comes in. STATSZ has its data beside it.
type envelope[T any] struct {
	Server serverInfo `json:"server"`
	Data   *T         `json:"data"`
	Statsz *T         `json:"statsz"`
	Error  *apiError  `json:"error"`
}

type serverInfo struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Cluster string `json:"cluster"`
	Version string `json:"ver"`
}

type apiError struct {
	Code        int    `json:"code"`
	Description string `json:"description"`
}

type statsz struct {
	Start         time.Time     `json:"start"`
	Connections   int           `json:"connections"`
	ActiveServers int           `json:"active_servers"`
	Routes        []routeStat   `json:"routes"`
	Gateways      []gatewayStat `json:"gateways"`
}

type routeStat struct {
	ID uint64 `json:"rid"`
}

type gatewayStat struct {
	ID         uint64 `json:"gwid"`
	NumInbound int    `json:"inbound_connections"`
}

type varz struct {
	ID              string          `json:"server_id"`
	Name            string          `json:"server_name"`
	Version         string          `json:"version"`
	BuiltWith       string          `json:"go"`
	Host            string          `json:"host"`
	Port            int             `json:"port"`
	AuthRequired    bool            `json:"auth_required"`
	AuthTimeout     float64         `json:"auth_timeout"`
	TLSRequired     bool            `json:"tls_required"`
	TLSVerify       bool            `json:"tls_verify"`
	TLSCertNotAfter time.Time       `json:"tls_cert_not_after"`
	HTTPHost        string          `json:"http_host"`
	HTTPPort        int             `json:"http_port"`
	HTTPSPort       int             `json:"https_port"`
	HTTPBasePath    string          `json:"http_base_path"`
	Cluster         clusterVarz     `json:"cluster"`
	Gateway         gatewayVarz     `json:"gateway"`
	LeafNode        leafVarz        `json:"leaf"`
	MQTT            mqttVarz        `json:"mqtt"`
	Websocket       websocketVarz   `json:"websocket"`
	JetStream       jetstreamVarz   `json:"jetstream"`
	Start           time.Time       `json:"start"`
	ConfigLoadTime  time.Time       `json:"config_load_time"`
	ConfigDigest    string          `json:"config_digest"`
	Leafs           int             `json:"leafnodes"`
	OperatorJWTs    presence        `json:"trusted_operators_jwt"`
	Operators       []operatorClaim `json:"trusted_operators_claim"`
	ConnectURLs     []string        `json:"connect_urls"`    // of the whole cluster; not labelled
	WSConnectURLs   []string        `json:"ws_connect_urls"` // the same of websockets
	SystemAccount   string          `json:"system_account"`
}

// sameAs tells whether two answers show the same server under the same
// configuration. The number of leafnodes moves by itself, and so does what a
// server has heard of the addresses of others.
func (v *varz) sameAs(w *varz) bool {
	x, y := v.withoutAddresses(), w.withoutAddresses()
	x.Leafs, y.Leafs = 0, 0
	return reflect.DeepEqual(x, y)
}

// withoutAddresses is a copy without what the server has heard of the addresses
// of others.
func (v *varz) withoutAddresses() *varz {
	w := *v
	w.ConnectURLs, w.WSConnectURLs, w.Gateway.Gateways = nil, nil, nil
	return &w
}

type clusterVarz struct {
	Name            string    `json:"name"`
	Host            string    `json:"addr"`
	Port            int       `json:"cluster_port"`
	URLs            []string  `json:"urls"` // of the configured routes
	TLSRequired     bool      `json:"tls_required"`
	TLSVerify       bool      `json:"tls_verify"`
	TLSCertNotAfter time.Time `json:"tls_cert_not_after"`
}

type gatewayVarz struct {
	Name            string              `json:"name"`
	Host            string              `json:"host"`
	Port            int                 `json:"port"`
	TLSRequired     bool                `json:"tls_required"`
	TLSVerify       bool                `json:"tls_verify"`
	TLSCertNotAfter time.Time           `json:"tls_cert_not_after"`
	Gateways        []remoteGatewayVarz `json:"gateways"`
}

// remoteGatewayVarz is another cluster, with the addresses of its gateways.
type remoteGatewayVarz struct {
	Name string   `json:"name"`
	URLs []string `json:"urls"`
}

type leafVarz struct {
	Host            string    `json:"host"`
	Port            int       `json:"port"`
	TLSRequired     bool      `json:"tls_required"`
	TLSVerify       bool      `json:"tls_verify"`
	TLSCertNotAfter time.Time `json:"tls_cert_not_after"`
}

type mqttVarz struct {
	Host            string    `json:"host"`
	Port            int       `json:"port"`
	NoAuthUser      string    `json:"no_auth_user"`
	TLSMap          bool      `json:"tls_map"`
	TLSCertNotAfter time.Time `json:"tls_cert_not_after"`
}

type websocketVarz struct {
	Host            string    `json:"host"`
	Port            int       `json:"port"`
	NoAuthUser      string    `json:"no_auth_user"`
	NoTLS           bool      `json:"no_tls"`
	TLSMap          bool      `json:"tls_map"`
	TLSCertNotAfter time.Time `json:"tls_cert_not_after"`
	JWTCookie       string    `json:"jwt_cookie"`
	SameOrigin      bool      `json:"same_origin"`
	AllowedOrigins  presence  `json:"allowed_origins"`
}

// jetstreamVarz: the object is there always, its configuration only where
// JetStream is on.
type jetstreamVarz struct {
	Config presence `json:"config"`
}

type operatorClaim struct {
	Subject string         `json:"sub"`
	Name    string         `json:"name"`
	Issued  int64          `json:"iat"`
	Expires int64          `json:"exp"`
	Nats    operatorFields `json:"nats"`
}

type operatorFields struct {
	SigningKeys      []string `json:"signing_keys"`
	Strict           bool     `json:"strict_signing_key_usage"`
	SystemAccount    string   `json:"system_account"`
	ServiceURLs      []string `json:"operator_service_urls"`
	AccountServerURL string   `json:"account_server_url"`
}

type routez struct {
	Routes []routeInfo `json:"routes"`
}

type routeInfo struct {
	RemoteID   string `json:"remote_id"`
	RemoteName string `json:"remote_name"`
	DidSolicit bool   `json:"did_solicit"`
	IP         string `json:"ip"`
	Port       int    `json:"port"`
}

type gatewayz struct {
	Outbound map[string]*remoteGateway   `json:"outbound_gateways"`
	Inbound  map[string][]*remoteGateway `json:"inbound_gateways"`
}

type remoteGateway struct {
	Connection *gatewayConn `json:"connection"`
}

type gatewayConn struct {
	Name string `json:"name"` // the id of the server at the other end
	IP   string `json:"ip"`
	Port int    `json:"port"`
}

type leafz struct {
	Leafs []leafInfo `json:"leafs"`
}

type leafInfo struct {
	ID      uint64 `json:"id"`
	Name    string `json:"name"`
	IsSpoke bool   `json:"is_spoke"`
	Account string `json:"account"`
	IP      string `json:"ip"`
}

type accountStatz struct {
	Accounts []accountStat `json:"account_statz"`
}

type accountStat struct {
	Account   string `json:"acc"`
	Conns     int    `json:"conns"`
	LeafNodes int    `json:"leafnodes"`
}

// accountz is a list of accounts, or the detail of one that was asked for.
type accountz struct {
	Accounts []string       `json:"accounts"`
	Account  *accountDetail `json:"account_detail"`
}

type accountDetail struct {
	Name    string   `json:"account_name"`
	Expired bool     `json:"expired"`
	JWT     rawClaim `json:"jwt"`
}

type connz struct {
	Now   time.Time  `json:"now"`
	Total int        `json:"total"`
	Conns []connInfo `json:"connections"`
}

type connInfo struct {
	Cid            uint64    `json:"cid"`
	Kind           string    `json:"kind"`
	Type           string    `json:"type"`
	IP             string    `json:"ip"`
	Port           int       `json:"port"`
	Start          time.Time `json:"start"`
	InMsgs         int64     `json:"in_msgs"`
	Subs           uint32    `json:"subscriptions"`
	Name           string    `json:"name"`
	Lang           string    `json:"lang"`
	Version        string    `json:"version"`
	AuthorizedUser string    `json:"authorized_user"`
	Account        string    `json:"account"`
	TLSVersion     string    `json:"tls_version"`
	TLSPeerCerts   peerCerts `json:"tls_peer_certs"`
	IssuerKey      presence  `json:"issuer_key"`
	JWT            userJWT   `json:"jwt"`
}

// peerCerts holds of the certificates that a client showed whether there was
// one, and whose.
type peerCerts struct {
	shown   bool
	subject string
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *peerCerts) UnmarshalJSON(b []byte) error {
	var certs []struct {
		Subject string `json:"subject"`
	}
	if err := json.Unmarshal(b, &certs); err != nil {
		return err
	}
	*p = peerCerts{}
	if len(certs) > 0 {
		*p = peerCerts{shown: true, subject: certs[0].Subject}
	}
	return nil
}

// userJWT holds of a user's JWT what it allows. The JWT itself is not kept.
type userJWT struct{ claim *posture.UserClaim }

// UnmarshalJSON implements json.Unmarshaler. What is no JWT is left out: a
// client may have sent anything.
func (u *userJWT) UnmarshalJSON(b []byte) error {
	u.claim = nil
	var token string
	if err := json.Unmarshal(b, &token); err != nil {
		return err
	}
	u.claim = userClaim(token)
	return nil
}

// event is what the events of clients have in common.
type event struct {
	Time   time.Time   `json:"timestamp"`
	Server serverInfo  `json:"server"`
	Client eventClient `json:"client"`
	Reason string      `json:"reason"`
}

// eventClient leaves out what may hold a secret: the user of a failed login is
// the raw token, and the JWT of a bearer is all that it takes to log in.
type eventClient struct {
	Start   time.Time `json:"start"`
	Host    string    `json:"host"`
	ID      uint64    `json:"id"`
	Account string    `json:"acc"`
	User    string    `json:"user"`
	Name    string    `json:"name"`
	Lang    string    `json:"lang"`
	Version string    `json:"ver"`
	Kind    string    `json:"kind"`
	Type    string    `json:"client_type"`
	JWT     presence  `json:"jwt"`
}

// presence tells that a field was there and holds nothing of it.
type presence bool

// UnmarshalJSON implements json.Unmarshaler.
func (p *presence) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "null", "[]", `""`:
		*p = false
	default:
		*p = true
	}
	return nil
}

var (
	_ json.Unmarshaler = (*presence)(nil)
	_ json.Unmarshaler = (*peerCerts)(nil)
	_ json.Unmarshaler = (*userJWT)(nil)
)
