package posture

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Evidence is one thing that was seen about a door.
type Evidence struct {
	Basis  Basis  `json:"basis"`
	Access Access `json:"access"`
	Source string `json:"source"`          // where it was seen: "VARZ auth_required", "CONNZ cid 12"
	Value  string `json:"value"`           // what was seen there
	Place  *Place `json:"place,omitempty"` // of what a configuration declares
}

// Landing is where an anonymous peer ends up.
type Landing struct {
	Account    string `json:"account"`    // "" when it is not known
	User       string `json:"user"`       // "" when the server gave it no name
	Restricted bool   `json:"restricted"` // it was seen to have limited permissions
}

// TLS is what is known of a listener's encryption.
type TLS struct {
	On       Tri       // a certificate is configured
	Required Tri       // plaintext is refused
	Verify   Tri       // a client certificate is asked for and verified
	NotAfter time.Time // the listener's certificate expires then; zero when not told
}

// Door is one listener of one server.
type Door struct {
	Kind DoorKind
	On   Tri    // whether there is a listener at all
	Host string // as bound or advertised; may be a wildcard
	Port int

	TLS        TLS
	Path       string // of HTTP monitoring: its base path
	NoAuthUser string // the door's own no_auth_user, where the server shows it
	TLSMap     bool   // certificates are mapped to users on this door only

	Claimed Tri // of a client listener: proxy_protocol is on, so that anybody may claim any address

	// Of a websocket listener:
	Cookies   []string // keys of cookies that credentials are taken from, such as jwt_cookie, as far as they show
	AnyOrigin Tri      // a page of any site may connect

	Access   Access
	Basis    Basis
	Cause    Cause    // why it is open; "" when it is not, or when the evidence cannot tell
	Reason   string   // why the access is unknown
	Pending  bool     // a touch is due, or under way, that may change all this
	Reached  string   // the address at which it answered a touch under its server's id; "" while it has not
	Landing  *Landing // where a stranger lands; nil when that is not known
	Evidence []Evidence
}

// Cause says what lets strangers in. It selects the remediation.
type Cause string

// The causes that the evidence can tell apart.
const (
	CauseNoConfig      Cause = "no-config"      // started without a configuration file
	CauseNoAuthBlock   Cause = "no-auth-block"  // a file without users
	CauseNoTrustedKey  Cause = "no-trusted-key" // operators without a key that signs anything
	CauseNoAuthUser    Cause = "no-auth-user"   // whoever brings no credentials is taken for that user
	CauseCalloutAdmits Cause = "callout-admits-all"
	CauseCalloutAlone  Cause = "callout-without-users" // who sends no CONNECT is not asked
	CauseSentinel      Cause = "default-sentinel"      // whoever brings no JWT is given that one
	// CauseOperatorAdmits and CauseAnonymousAdmitted name their candidates:
	// nothing that a stranger or $SYS sees tells them apart.
	CauseOperatorAdmits    Cause = "default-sentinel-or-callout-admits-all"
	CauseAnonymousAdmitted Cause = "hidden-user-or-callout-admits-all"
	CauseHiddenUser        Cause = "hidden-user"      // only the system account has users
	CauseAllowNonTLS       Cause = "allow-non-tls"    // certificates are verified, but plaintext is let in
	CauseCertificateOnly   Cause = "certificate-only" // any certificate of the CA
	CauseInherits          Cause = "inherits"         // the client door's authentication, which is open
	CauseWSNoAuthUser      Cause = "ws-no-auth-user"
	CauseMQTTNoAuthUser    Cause = "mqtt-no-auth-user"
	CauseLeafNoAuth        Cause = "leaf-without-authorization"
	CauseNoRouteAuth       Cause = "no-cluster-authorization"
	CauseNoGatewayAuth     Cause = "no-gateway-authorization"
	CauseAnonymousSeen     Cause = "anonymous-session" // seen inside; how it came in cannot be told
	CauseNeverAsks         Cause = "never-asks"        // the protocol has no authentication: HTTP monitoring
)

// RandomPort is the port of a listener for which the server is to choose one.
const RandomPort = -1

// UndecidedPort and UndecidedHost are those of a listener whose configuration
// takes them from a variable that has no value here.
const (
	UndecidedPort = -2
	UndecidedHost = "?"
)

// Address is host:port as the server gives it, or "" when the door is off. Of a
// server that does not answer it is the address where a touch found the listener.
func (d *Door) Address() string {
	if d.On != Yes || d.Port == 0 {
		return d.Reached
	}
	port := strconv.Itoa(d.Port)
	if d.Port == RandomPort {
		port = "random"
	}
	host := d.Host
	if host == "" {
		host = "0.0.0.0"
	}
	switch {
	case d.Host == UndecidedHost && d.Port == UndecidedPort:
		return "(address unknown)"
	case d.Port == UndecidedPort:
		return host + " (port unknown)"
	case d.Host == UndecidedHost:
		return port + " (host unknown)"
	}
	return joinHostPort(host, port)
}

func joinHostPort(host, port string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

// Loopback tells whether the listener can be reached from its own machine
// only. A name other than localhost is taken to be reachable. The host may be an
// advertised one, so a listener that answered at another address is not on loopback.
func (d *Door) Loopback() bool {
	reached := hostOf(d.Reached)
	switch {
	case d.Reached == "":
		return loopback(d.Host)
	case d.Port == 0:
		return loopback(reached)
	default:
		return loopback(d.Host) && loopback(reached)
	}
}

// wildcard tells whether the listener is bound to all addresses.
func (d *Door) wildcard() bool {
	if d.Host == "" {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(d.Host, "[]"))
	return err == nil && addr.IsUnspecified()
}

// Weak tells whether the verdict needs a touch to be trusted: it is unknown,
// or closed on nothing more than the server's word.
func (d *Door) Weak() bool {
	return d.Access == Unknown && d.On == Yes || d.Access == Closed && d.Basis <= Reported
}

// decide lets the strongest evidence win. Among equally strong evidence open
// beats unknown and unknown beats closed: a door is never called closed over
// a doubt.
func (d *Door) decide() {
	d.Access, d.Basis = Unknown, NoBasis
	for _, e := range d.Evidence {
		switch {
		case e.Basis > d.Basis:
			d.Access, d.Basis = e.Access, e.Basis
		case e.Basis == d.Basis && caution(e.Access) > caution(d.Access):
			d.Access = e.Access
		}
	}
}

func caution(a Access) int {
	switch a {
	case Open:
		return 3
	case Unknown:
		return 2
	case Closed:
		return 1
	default:
		return 0
	}
}
