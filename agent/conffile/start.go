package conffile

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// unstartable lists why nats-server ends while it starts, although its options
// are valid: `nats-server -t` does not look at any of this (server.go, Start).
// What depends on the machine is left out: files, folders, and names of hosts.
func (r *reading) unstartable(o *server.Options) []posture.Remark {
	var out []posture.Remark
	say := func(at posture.Place, format string, v ...any) {
		out = append(out, posture.Remark{Place: at, Text: fmt.Sprintf(format, v...)})
	}
	r.unstartableListeners(o, say)
	r.unstartableAdvertised(o, say)
	r.unstartableJetStream(o, say)
	r.unstartableResolver(say)
	return out
}

type sayer func(at posture.Place, format string, v ...any)

// unstartableListeners: ports that there are not, or that two listeners share.
func (r *reading) unstartableListeners(o *server.Options, say sayer) {
	switch {
	case o.HTTPPort != 0 && o.HTTPSPort != 0:
		say(r.config.At("https_port", "https", "http_port", "http"), "can't specify both HTTP and HTTPs ports")
	case o.HTTPSPort != 0 && o.TLSConfig == nil:
		say(r.config.At("https_port", "https"), "TLS cert and key required for HTTPS")
	}
	taken := map[string]string{} // by address: the key of the listener
	for _, l := range []struct {
		host string
		port int
		keys []string // the first one is shown
	}{
		{o.Host, o.Port, []string{"port", "listen"}},
		{o.HTTPHost, o.HTTPPort, []string{"http_port", "http"}},
		{o.HTTPHost, o.HTTPSPort, []string{"https_port", "https"}},
		{o.Host, o.ProfPort, []string{"prof_port"}},
		{o.Websocket.Host, o.Websocket.Port, []string{"websocket.port", "websocket.listen"}},
		{o.MQTT.Host, o.MQTT.Port, []string{"mqtt.port", "mqtt.listen"}},
		{o.LeafNode.Host, o.LeafNode.Port, []string{"leafnodes.port", "leafnodes.listen"}},
		{o.Cluster.Host, o.Cluster.Port, []string{"cluster.port", "cluster.listen"}},
		{o.Gateway.Host, o.Gateway.Port, []string{"gateway.port", "gateway.listen"}},
	} {
		key := l.keys[0]
		if has(r.config, l.keys[len(l.keys)-1]) {
			key = l.keys[len(l.keys)-1]
		}
		at := r.config.At(key, strings.TrimSuffix(l.keys[0], ".port"))
		if l.port > 65535 || l.port < posture.RandomPort {
			say(at, "%s: there is no port %d", key, l.port)
			continue
		}
		if l.port <= 0 {
			continue
		}
		host := l.host
		if host == "" {
			host = server.DEFAULT_HOST
		}
		address := net.JoinHostPort(host, strconv.Itoa(l.port))
		if other := taken[address]; other != "" {
			say(at, "%s and %s both listen on %s: the second one finds the address in use", other, key, address)
		}
		taken[address] = key
	}
}

// unstartableAdvertised: addresses that are told to others, and are none
// (util.go, parseHostPort).
func (r *reading) unstartableAdvertised(o *server.Options, say sayer) {
	for _, a := range []struct {
		on         bool
		value, key string
	}{
		{true, o.ClientAdvertise, "client_advertise"},
		{o.Cluster.Port != 0, o.Cluster.Advertise, "cluster.advertise"},
		{o.Gateway.Port != 0, o.Gateway.Advertise, "gateway.advertise"},
		{o.LeafNode.Port != 0, o.LeafNode.Advertise, "leafnodes.advertise"},
		{o.Websocket.Port != 0, o.Websocket.Advertise, "websocket.advertise"},
	} {
		if a.on && a.value != "" && !unsetNumber.MatchString(a.value) && !isHostPort(a.value) {
			say(r.config.At(a.key), "%s is not a valid HOST:PORT", a.key)
		}
	}
}

// isHostPort reports whether nats-server reads a text as a host with or without
// a port.
func isHostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if missing := (*net.AddrError)(nil); errors.As(err, &missing) && strings.Contains(missing.Err, "missing port") {
		_, port, err = net.SplitHostPort(text + ":1")
	}
	if err != nil {
		return false
	}
	_, err = strconv.Atoi(strings.TrimSpace(port))
	return err == nil
}

// unstartableJetStream: JetStream that cannot be (jetstream.go, enableJetStream).
func (r *reading) unstartableJetStream(o *server.Options, say sayer) {
	if !o.JetStream {
		return
	}
	at := r.config.At("jetstream", "server_name")
	system, known := r.systemAccount()
	if keys, all := r.trustedKeys(); system == "" && known && all && len(keys) > 0 {
		// The one that nats-server makes up is signed by nobody.
		say(at, "JetStream needs a system account, and in operator mode none is made up: name one under system_account or in the operator's JWT")
		return
	}
	if system == "" {
		system = server.DEFAULT_SYSTEM_ACCOUNT
	}
	if e := get(r.account(system), "jetstream"); e != nil && jetStreamOn(e.Node) {
		say(placeOf(e.Pos), "the system account cannot have JetStream: take jetstream out of account %s", system)
	}
	if o.JetStreamKey != "" && o.JetStreamTpm.KeysFile != "" {
		say(r.config.At("jetstream.tpm", "jetstream"), "a JetStream encryption key may not be used with TPM options")
	}
	clustered := o.Cluster.Port != 0 || o.Gateway.Port != 0
	shared := extends(o, system) || !known && len(o.LeafNode.Remotes) > 0
	if clustered && len(o.Routes) == 0 && (r.flags == nil || r.flags.routes == "") && !shared {
		say(at, "JetStream in a cluster or with a gateway needs routes: give cluster.routes the addresses of the other servers, or a leafnode remote for the system account")
	}
	if o.JetStreamMaxMemory > 0 && r.reserved("max_memory", "max_mem", "memory", "mem") > o.JetStreamMaxMemory {
		say(r.config.At("jetstream.max_memory", "jetstream.max_mem", "jetstream"), "the accounts reserve more JetStream memory than jetstream has")
	}
	if o.JetStreamMaxStore > 0 && r.reserved("max_store", "max_file", "max_disk", "store", "disk") > o.JetStreamMaxStore {
		say(r.config.At("jetstream.max_file", "jetstream.max_store", "jetstream"), "the accounts reserve more JetStream storage than jetstream has")
	}
}

// account is the block of an account; nil if there is none.
func (r *reading) account(name string) *syntax.Map {
	accounts := block(r.tree.Root, "accounts")
	if accounts == nil || accounts.Get(name) == nil {
		return nil
	}
	m, _ := accounts.Get(name).Node.Value.(*syntax.Map)
	return m
}

// extends reports whether a leafnode remote shares the system account with a hub
// (jetstream.go, canExtendOtherDomain).
func extends(o *server.Options, system string) bool {
	i := slices.IndexFunc(o.LeafNode.Remotes, func(l *server.RemoteLeafOpts) bool { return l.LocalAccount == system })
	return i >= 0 && !slices.ContainsFunc(o.LeafNode.Remotes[i].DenyImports, func(deny string) bool {
		return server.SubjectMatchesFilter(deny, "$NRG.>")
	})
}

// jetStreamOn reports whether a value of an account's jetstream key turns it on.
func jetStreamOn(n *syntax.Node) bool {
	switch v := n.Value.(type) {
	case bool:
		return v
	case string:
		return strings.EqualFold(v, "enabled") || strings.EqualFold(v, "enable")
	case *syntax.Map:
		return true
	}
	return false
}

// reserved is the sum of what accounts reserve of JetStream under a key of several
// names.
func (r *reading) reserved(names ...string) int64 {
	var sum int64
	accounts := block(r.tree.Root, "accounts")
	if accounts == nil {
		return 0
	}
	for _, e := range accounts.Entries {
		if m, ok := e.Node.Value.(*syntax.Map); ok && e.Replaced == nil {
			for _, name := range names {
				if limit := get(block(m, "jetstream"), name); limit != nil {
					if n, ok := limit.Node.Value.(int64); ok && n > 0 && !limit.Node.Unset {
						sum += n
					}
				}
			}
		}
	}
	return sum
}

// unstartableResolver: accounts that nobody can sign, and a system account that is
// not there.
func (r *reading) unstartableResolver(say sayer) {
	res := r.config.Resolver
	if res == nil {
		return
	}
	switch res.Kind {
	case "full", "cache":
		if !r.someKey() {
			say(res.Place, "a resolver of type %s needs the key of an operator: name one under operator (trusted_keys does not do)", res.Kind)
		}
	case "memory":
		if name, why := r.missingSystemAccount(); name != "" {
			say(r.config.At("resolver_preload", "resolver"), "the system account %s %s: nats-server cannot resolve it", name, why)
		}
	}
}

// someKey reports whether the first operator has a key that accounts can be signed
// by, or may have one (accounts.go, getOperatorKeys).
func (r *reading) someKey() bool {
	if len(r.operators) == 0 {
		return r.undecidedKey("operator")
	}
	o := r.operators[0]
	return o == nil || !o.StrictSigningKeyUsage || len(o.SigningKeys) > 0
}

func (r *reading) undecidedKey(key string) bool {
	e := get(r.tree.Root, key)
	return e != nil && e.Node.Unset
}

// missingSystemAccount is a system account that a MEMORY resolver does not know,
// or knows by a JWT that does not hold, and why. The name is "" where there is none.
func (r *reading) missingSystemAccount() (name, why string) {
	root := r.tree.Root
	keys, known := r.trustedKeys()
	name, named := r.systemAccount()
	trusting := get(root, "operator") != nil || get(root, "trusted_keys") != nil
	if name == "" || !trusting || !known || !named || r.undecidedKey("resolver_preload") {
		return "", ""
	}
	m := block(root, "resolver_preload")
	if m == nil || m.Get(name) == nil {
		return name, "is not in resolver_preload"
	}
	if m.Get(name).Node.Unset {
		return "", ""
	}
	claims, err := jwt.DecodeAccountClaims(r.preloads[name])
	if err != nil {
		return "", "" // that is said elsewhere
	}
	results := jwt.CreateValidationResults()
	claims.Validate(results)
	switch {
	case claims.Subject != name:
		return name, "has the JWT of another account in resolver_preload"
	case !slices.Contains(keys, claims.Issuer):
		return name, "is signed by a key that is not trusted"
	case results.IsBlocking(true):
		return name, "has a JWT that has expired, or is not valid"
	}
	return "", ""
}

// systemAccount is the name of the system account; "" is the one that nats-server
// takes by itself. known is false where it cannot be told.
func (r *reading) systemAccount() (name string, known bool) {
	if r.undecidedKey("system_account") {
		return "", false
	}
	if name = str(r.tree.Root, "system_account"); name != "" || len(r.operators) != 1 {
		return name, !r.undecidedKey("operator")
	}
	if r.operators[0] == nil {
		return "", false
	}
	return r.operators[0].SystemAccount, true
}

// trustedKeys are the keys by which accounts may be signed. known is false where
// not all of them are here.
func (r *reading) trustedKeys() (keys []string, known bool) {
	if e := get(r.tree.Root, "trusted_keys"); e != nil {
		keys, known = stringsOf(e.Node), !e.Node.Unset
	}
	if get(r.tree.Root, "operator") == nil {
		return keys, known
	}
	for _, o := range r.operators {
		if o == nil {
			return nil, false
		}
		if !o.StrictSigningKeyUsage {
			keys = append(keys, o.Subject)
		}
		keys = append(keys, o.SigningKeys...)
	}
	return keys, !r.undecidedKey("operator")
}

// trustsNobody reports whether operators or keys are named and come to no key at
// all. nats-server then behaves as if there were none, and asks nobody for a JWT.
func (r *reading) trustsNobody() bool {
	keys, known := r.trustedKeys()
	named := get(r.tree.Root, "operator") != nil || get(r.tree.Root, "trusted_keys") != nil
	return named && known && len(keys) == 0
}

// hasCertificate reports whether the tls block of a block names a certificate; ""
// is the block of the server. Whether its file is there is not looked at.
func (r *reading) hasCertificate(of string) bool {
	in := r.tree.Root
	if of != "" {
		in = block(in, of)
	}
	e := get(in, "tls")
	m, ok := valueOf(e).(*syntax.Map)
	if !ok {
		return true // flags give it, or a variable without a value
	}
	return slices.ContainsFunc([]string{"cert_file", "certs", "cert_match", "cert_store"}, func(key string) bool {
		e := get(m, key)
		switch v := valueOf(e).(type) {
		case nil:
			return false
		case string:
			return v != "" || e.Node.Unset
		case []*syntax.Node:
			return len(v) > 0
		}
		return true
	})
}

func valueOf(e *syntax.Entry) any {
	if e == nil {
		return nil
	}
	return e.Node.Value
}
