package conffile

import (
	"crypto/tls"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// judge tells who gets in by effective options. It follows nats-server's auth.go
// for a stranger: somebody with no credentials and no certificate.
type judge struct {
	*reading
	opts     *server.Options
	operator bool // trusted operators, or their keys: whoever logs in does so with a JWT
	trusting bool // operators or keys are named, but there is none to sign anything: nobody is asked
	required bool // what VARZ would tell as auth_required
}

// listener is one listener as the options describe it.
type listener struct {
	kind   posture.DoorKind
	host   string
	port   int
	block  string // its key in the configuration; "" for the server's own
	tls    *tls.Config
	plain  bool // plaintext is let in beside TLS
	tlsMap bool
	pinned bool

	handshake float64 // seconds that a TLS handshake has
}

// answer is what becomes of a stranger.
type answer struct {
	access  posture.Access
	cause   posture.Cause
	landing *posture.Landing
	reason  string        // of an unknown access
	place   posture.Place // what decides
	text    string        // and what it says
}

func (j *judge) at(paths ...string) posture.Place { return j.config.At(paths...) }

// doors judges every door.
func (j *judge) doors() []posture.Door {
	o := j.opts
	port := func(p int) int {
		if p == 0 {
			return posture.RandomPort // of a listener that is on
		}
		return p
	}
	monitor, on := o.HTTPPort, o.HTTPPort != 0 || o.HTTPSPort != 0
	if o.HTTPSPort != 0 {
		monitor = o.HTTPSPort
	}
	// Without a delay after which the server speaks first, the handshake comes before
	// anything else, and allow_non_tls does not count.
	plaintext := o.AllowNonTLS && (!o.TLSHandshakeFirst || o.TLSHandshakeFirstFallback > 0)
	all := []struct {
		listener
		on  bool
		ask func(*listener) answer
	}{
		{listener{posture.Client, o.Host, port(o.Port), "", o.TLSConfig, plaintext, o.TLSMap, len(o.TLSPinnedCerts) > 0, o.TLSTimeout}, true, j.client},
		{listener{posture.Websocket, o.Websocket.Host, o.Websocket.Port, "websocket", o.Websocket.TLSConfig, false, o.Websocket.TLSMap, len(o.Websocket.TLSPinnedCerts) > 0, 0}, o.Websocket.Port != 0, j.client},
		{listener{posture.MQTT, o.MQTT.Host, o.MQTT.Port, "mqtt", o.MQTT.TLSConfig, false, o.MQTT.TLSMap, len(o.MQTT.TLSPinnedCerts) > 0, o.MQTT.TLSTimeout}, o.MQTT.Port != 0, j.mqtt},
		{listener{posture.Leafnode, o.LeafNode.Host, o.LeafNode.Port, "leafnodes", o.LeafNode.TLSConfig, false, o.LeafNode.TLSMap, len(o.LeafNode.TLSPinnedCerts) > 0, o.LeafNode.TLSTimeout}, o.LeafNode.Port != 0, j.leaf},
		{listener{posture.Route, o.Cluster.Host, o.Cluster.Port, "cluster", o.Cluster.TLSConfig, false, o.Cluster.TLSMap || o.Cluster.TLSCheckKnownURLs, len(o.Cluster.TLSPinnedCerts) > 0, o.Cluster.TLSTimeout}, o.Cluster.Port != 0, j.peer},
		{listener{posture.Gateway, o.Gateway.Host, o.Gateway.Port, "gateway", o.Gateway.TLSConfig, false, o.Gateway.TLSMap || o.Gateway.TLSCheckKnownURLs, len(o.Gateway.TLSPinnedCerts) > 0, o.Gateway.TLSTimeout}, o.Gateway.Port != 0, j.peer},
		{listener{kind: posture.Monitor, host: o.HTTPHost, port: monitor}, on, j.neverAsks("https_port", "https", "http_port", "http")},
		{listener{kind: posture.Profile, host: o.Host, port: o.ProfPort}, o.ProfPort != 0, j.neverAsks("prof_port")},
	}
	out := make([]posture.Door, 0, len(all))
	for i := range all {
		l := &all[i].listener
		d := posture.Door{Kind: l.kind, On: posture.TriOf(all[i].on), Basis: posture.Declared, Access: posture.Off}
		if all[i].on {
			d.Host, d.Port, d.TLSMap = l.host, l.port, l.tlsMap
			d.TLS = posture.TLS{
				On: posture.TriOf(l.tls != nil), Required: posture.TriOf(l.tls != nil && !l.plain),
				Verify: posture.TriOf(l.tls != nil && l.tls.ClientAuth == tls.RequireAndVerifyClientCert),
			}
			if l.kind == posture.Client {
				d.Claimed = posture.TriOf(o.ProxyProtocol)
			}
			if l.kind == posture.Websocket {
				d.Cookies, d.AnyOrigin = cookies(&o.Websocket), posture.TriOf(!o.Websocket.SameOrigin && len(o.Websocket.AllowedOrigins) == 0)
			}
			a := all[i].ask(l)
			j.noteBarred(l)
			d.Access, d.Cause, d.Landing, d.Reason = a.access, a.cause, a.landing, a.reason
			d.Evidence = []posture.Evidence{a.place.Says(a.access, a.text)}
		}
		out = append(out, d)
	}
	return out
}

// cookies lists the keys of cookies that the websocket listener takes credentials
// from.
func cookies(o *server.WebsocketOpts) []string {
	var out []string
	for _, c := range []struct{ key, name string }{
		{"jwt_cookie", o.JWTCookie}, {"user_cookie", o.UsernameCookie}, {"pass_cookie", o.PasswordCookie}, {"token_cookie", o.TokenCookie},
	} {
		if c.name != "" {
			out = append(out, c.key)
		}
	}
	return out
}

func (j *judge) neverAsks(paths ...string) func(*listener) answer {
	return func(*listener) answer {
		return answer{access: posture.Open, cause: posture.CauseNeverAsks, place: j.at(paths...), text: "it never asks for credentials"}
	}
}

// gate is what TLS makes of somebody without a certificate, before anybody asks
// for credentials. ok means that he passes.
func (j *judge) gate(l *listener) (a answer, ok bool) {
	key := strings.TrimPrefix(l.block+".tls", ".")
	switch {
	case l.tls == nil || l.plain:
		return answer{}, true
	case !j.hasCertificate(l.block):
		return answer{access: posture.Closed, place: j.at(key), text: noCertificate}, false
	case l.handshake < 0:
		return answer{access: posture.Closed, place: j.at(key+".timeout", key), text: noTime}, false
	case l.tls.ClientAuth == tls.RequireAndVerifyClientCert:
		return answer{access: posture.Closed, place: j.at(key+".verify", key+".verify_and_map", key), text: "client certificates are asked for"}, false
	case l.pinned:
		return answer{access: posture.Closed, place: j.at(key+".pinned_certs", key), text: "only pinned certificates pass"}, false
	}
	return answer{}, true
}

// What keeps everybody out, whatever credentials they have.
const (
	noCertificate = "TLS has no certificate, so every handshake fails and nobody can connect"
	noTime        = "a TLS handshake has no time at all, so nobody can connect"
)

// noteBarred notes a listener that nobody may get through.
func (j *judge) noteBarred(l *listener) {
	key := strings.TrimPrefix(l.block+".tls", ".")
	switch {
	case l.tls == nil || l.kind == posture.Monitor || l.kind == posture.Profile:
	case !j.hasCertificate(l.block):
		j.bar(l.kind, j.at(key), noCertificate)
	case l.handshake < 0:
		j.bar(l.kind, j.at(key+".timeout", key), noTime)
	case l.handshake > 0 && l.handshake < leastHandshake:
		j.bar(l.kind, j.at(key+".timeout", key), "a TLS handshake has "+handshakeTime(l.handshake)+", so hardly anybody can connect")
	}
}

func (j *judge) bar(kind posture.DoorKind, at posture.Place, why string) {
	if b := (posture.Barred{Door: kind, Place: at, Text: why}); !slices.Contains(j.config.Barred, b) {
		j.config.Barred = append(j.config.Barred, b)
	}
}

// leastHandshake is how many seconds a TLS handshake must have for anybody to be
// sure that one can be made: with less it depends on the machines and the way
// between them.
const leastHandshake = 0.01

// inTime makes an answer unknown where it depends on how fast somebody is.
func (j *judge) inTime(a answer, l *listener) answer {
	if a.access != posture.Open || l.tls == nil || l.plain || l.handshake <= 0 || l.handshake >= leastHandshake {
		return a
	}
	key := strings.TrimPrefix(l.block+".tls", ".")
	return answer{
		access: posture.Unknown, reason: "a TLS handshake has so little time that it may never succeed",
		place: j.at(key+".timeout", key), text: "the handshake has " + handshakeTime(l.handshake),
	}
}

func handshakeTime(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).String()
}

// connection types, as users may be restricted to them.
var connectionTypes = map[posture.DoorKind]string{
	posture.Client: jwt.ConnectionTypeStandard, posture.Websocket: jwt.ConnectionTypeWebsocket, posture.MQTT: jwt.ConnectionTypeMqtt,
}

// client judges the doors for clients.
func (j *judge) client(l *listener) answer {
	a, ok := j.gate(l)
	inside := j.stranger(l, connectionTypes[l.kind], false)
	if ok {
		return j.inTime(inside, l)
	}
	if inside.access == posture.Open && inside.cause != posture.CauseNoAuthUser && a.text != noCertificate && a.text != noTime {
		a.cause = posture.CauseCertificateOnly
	}
	return a
}

// leaf judges the leafnode door, which has two ways in: its port, and a path of
// the websocket port.
func (j *judge) leaf(l *listener) answer {
	a, ok := j.gate(l)
	if ok {
		a = j.inTime(j.stranger(l, jwt.ConnectionTypeLeafnode, false), l)
	}
	return j.orOverWebsocket(a, l, jwt.ConnectionTypeLeafnodeWS)
}

// mqtt judges the MQTT door, which has two ways in as well.
func (j *judge) mqtt(l *listener) answer {
	return j.orOverWebsocket(j.client(l), l, jwt.ConnectionTypeMqttWS)
}

// orOverWebsocket judges a door by its path of the websocket port, too. There the
// TLS is that of the websocket, and all else that of the door itself.
func (j *judge) orOverWebsocket(a answer, l *listener, connection string) answer {
	w := &j.opts.Websocket
	if w.Port == 0 || a.access == posture.Open {
		return a
	}
	over := listener{kind: l.kind, block: "websocket", tls: w.TLSConfig, tlsMap: l.tlsMap, pinned: len(w.TLSPinnedCerts) > 0}
	if _, ok := j.gate(&over); !ok {
		return a
	}
	over.block = l.block
	b := j.stranger(&over, connection, true)
	if b.access != posture.Closed {
		b.text = "over the websocket port: " + b.text
		return b
	}
	return a
}

// peer judges the doors for other servers.
func (j *judge) peer(l *listener) answer {
	user, cause := j.opts.Cluster.Username, posture.CauseNoRouteAuth
	if l.kind == posture.Gateway {
		user, cause = j.opts.Gateway.Username, posture.CauseNoGatewayAuth
	}
	a, ok := j.gate(l)
	switch {
	case !ok:
		if user == "" && !l.tlsMap && a.text != noCertificate && a.text != noTime {
			a.cause = posture.CauseCertificateOnly
		}
		return a
	case user != "":
		return answer{access: posture.Closed, place: j.at(l.block+".authorization", l.block), text: "a user is asked for"}
	case l.kind == posture.Gateway && j.opts.Gateway.RejectUnknown && len(j.opts.Gateway.Gateways) == 0:
		return answer{access: posture.Closed, place: j.at("gateway.reject_unknown_cluster", "gateway"), text: "gateways that are not named are rejected, and none is"}
	default:
		return j.inTime(answer{access: posture.Open, cause: cause, place: j.at(l.block+".authorization", l.block), text: "no user is asked for"}, l)
	}
}

// stranger judges who gets in behind TLS. ws is a leafnode over websocket.
func (j *judge) stranger(l *listener, connection string, ws bool) answer {
	o := j.opts
	own := authOf(o, l.kind)
	leaf := l.kind == posture.Leafnode
	if leaf {
		if n := &o.LeafNode; n.Username != "" || n.Nkey != "" || len(n.Users) > 0 {
			return j.leafUsers(l)
		}
	}
	switch {
	case j.trusting:
		return j.nobodyTrusted(l)
	case j.operator:
		return j.bySentinel(l, connection)
	case !j.required && !own.override():
		return j.nobodyAsked(l, leaf)
	}
	guest, where := o.NoAuthUser, "no_auth_user"
	switch {
	case own.override():
		guest, where = own.guest, l.block+".no_auth_user"
	case leaf && ws && o.Websocket.NoAuthUser != "":
		guest, where = o.Websocket.NoAuthUser, "websocket.no_auth_user"
	}
	a := j.asGuest(l, guest, where, connection)
	if leaf && guest == "" {
		a = j.byRelease(release.GuardsLeafnodes, j.unguarded(l, a), a)
	}
	if o.AuthCallout != nil {
		a = j.callout(a, guest, leaf)
	}
	return j.unintroduced(l, a, connection)
}

// byRelease is the answer of the release that will run, where a rule makes a
// difference.
func (j *judge) byRelease(rule *release.Rule, before, after answer) answer {
	switch holds, known := j.release(rule); {
	case before.access == after.access || holds && known:
		return after
	case known:
		return before
	default:
		after.access, after.cause, after.landing = posture.Unknown, "", nil
		after.reason = "this may be a build of the release that brought a change, or of one before it: " + rule.Name
		return after
	}
}

// release reports whether a rule holds for the release that will run, which is
// the one whose rules are followed here unless another one was named.
func (j *judge) release(rule *release.Rule) (holds, known bool) {
	if j.src.Version == "" {
		return true, true
	}
	return rule.In(j.src.Version)
}

// unguarded is what a leafnode port without users of its own makes of a peer
// that matches no user, where the release does not guard it. guarded is what
// others make of it.
func (j *judge) unguarded(l *listener, guarded answer) answer {
	o := j.opts
	if l.tlsMap && len(o.Users) > 0 {
		return guarded // without a certificate no user is looked for
	}
	return answer{
		access: posture.Open, cause: posture.CauseLeafNoAuth, landing: &posture.Landing{Account: orGlobal(o.LeafNode.Account)},
		place: j.at("leafnodes.authorization", "leafnodes"),
		text:  "nats-server " + j.src.Version + " asks nobody here unless the block has users of its own",
	}
}

// unintroduced adds to what comes of an empty CONNECT what comes of none at
// all: some releases take a client that sends none for the no_auth_user, and
// authenticate nobody. Some look at the websocket's own, some at the server's.
func (j *judge) unintroduced(l *listener, a answer, connection string) answer {
	if a.access == posture.Open || l.kind != posture.Client && l.kind != posture.Websocket {
		return a
	}
	guests := []struct{ where, name string }{{"no_auth_user", j.opts.NoAuthUser}}
	if l.kind == posture.Websocket {
		guests = append(guests, struct{ where, name string }{"websocket.no_auth_user", j.opts.Websocket.NoAuthUser})
	}
	for _, guest := range guests {
		i := slices.IndexFunc(j.opts.Users, func(u *server.User) bool { return u.Username == guest.name })
		if guest.name == "" || i < 0 {
			continue
		}
		u := j.opts.Users[i]
		before := j.taken(l, a, guest.where, guest.name, u.Account, nil, u.Permissions, false, connection)
		before.text += ", and nats-server " + j.src.Version + " takes a client that sends no CONNECT for that user, unauthenticated"
		middle := a
		if _, ok := u.AllowedConnectionTypes[connection]; (ok || len(u.AllowedConnectionTypes) == 0) && !u.ProxyRequired {
			middle = before
		}
		a = j.byRelease(release.ChecksGuest, j.byRelease(release.ChecksGuestWays, before, middle), a)
	}
	return a
}

// leafUsers: the block has users of its own. One without a name and a password
// is everybody.
func (j *judge) leafUsers(l *listener) answer {
	n, at := &j.opts.LeafNode, j.at("leafnodes.authorization")
	if n.Username == "" && n.Nkey == "" && !l.tlsMap {
		for _, u := range n.Users {
			if u.Username != "" {
				continue
			}
			if u.Password == "" && !u.ProxyRequired && !n.ProxyRequired {
				return answer{
					access: posture.Open, cause: posture.CauseLeafNoAuth, landing: &posture.Landing{Account: orGlobal(accountName(u.Account))},
					place: at, text: "a user has neither name nor password",
				}
			}
			break
		}
	}
	return answer{access: posture.Closed, place: at, text: "the block has users of its own"}
}

// ownAuth is the authentication of a websocket or MQTT listener's own.
type ownAuth struct{ user, token, guest string }

func (a ownAuth) override() bool { return a != ownAuth{} }

func authOf(o *server.Options, kind posture.DoorKind) ownAuth {
	switch kind {
	case posture.Websocket:
		return ownAuth{o.Websocket.Username, o.Websocket.Token, o.Websocket.NoAuthUser}
	case posture.MQTT:
		return ownAuth{o.MQTT.Username, o.MQTT.Token, o.MQTT.NoAuthUser}
	default:
		return ownAuth{}
	}
}

// nobodyAsked: there is nobody who could log in, so nobody has to.
func (j *judge) nobodyAsked(l *listener, leaf bool) answer {
	o := j.opts
	a := answer{
		access: posture.Open, cause: posture.CauseInherits, landing: &posture.Landing{Account: posture.GlobalAccount},
		place: j.at("authorization", "accounts", "listen", "port", "host"),
	}
	switch {
	case leaf:
		a.landing = nil
		if o.LeafNode.Account != "" {
			a.landing = &posture.Landing{Account: o.LeafNode.Account}
		}
	case l.kind == posture.Client:
		a.cause = posture.CauseNoAuthBlock
	}
	switch {
	case o.AuthCallout != nil && (leaf || l.kind == posture.MQTT):
		return answer{access: posture.Unknown, reason: reasonCallout, place: j.at("authorization.auth_callout"), text: "its service decides"}
	case o.AuthCallout != nil:
		a.cause, a.place, a.text = posture.CauseCalloutAlone, j.at("authorization.auth_callout"), "there are no users beside it: who sends no CONNECT is not asked"
	case l.kind == posture.Client && l.tls != nil && l.tls.ClientAuth == tls.RequireAndVerifyClientCert:
		a.cause, a.place, a.text = posture.CauseAllowNonTLS, j.at("allow_non_tls"), "plaintext is let in without a certificate"
	case len(j.config.Keys) == 0:
		a.text = "the configuration is empty"
	case has(j.config, "authorization"):
		a.text = "the block has no users"
	case has(j.config, "accounts"):
		a.text = "the accounts have no users"
	default:
		a.text = "no authorization block, and no accounts"
	}
	return a
}

// nobodyTrusted: an operator is named, and has no key by which anything could be
// signed. nats-server then asks nobody.
func (j *judge) nobodyTrusted(l *listener) answer {
	a := answer{access: posture.Open, cause: posture.CauseInherits, place: j.at("operator", "trusted_keys"), text: "no operator key is trusted, so nobody is asked for a JWT"}
	switch l.kind {
	case posture.Client:
		a.cause = posture.CauseNoTrustedKey
	case posture.Leafnode:
		a.cause = posture.CauseLeafNoAuth
	default: // the others take the client listener's authentication
	}
	return a
}

func has(c *posture.Config, path string) bool { _, ok := c.Keys[path]; return ok }
