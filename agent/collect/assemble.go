package collect

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// assemble puts the answers of a sweep together as a snapshot.
func (s *sweep) assemble() *posture.Snapshot {
	s.ended = s.c.cfg.Now()
	snap := &posture.Snapshot{System: s.c.cfg.System, Epoch: 1, Taken: s.began}
	if s.prev != nil {
		snap.Epoch, snap.Trust = s.prev.Epoch+1, s.prev.Trust
	}
	s.book = s.addresses()
	leaving := 0
	for _, who := range s.main.who {
		// A server in lame-duck mode may still answer. Its listeners are shut, whatever
		// its VARZ says of them.
		if s.c.roster.leaving(who.id) {
			leaving++
			continue
		}
		snap.Servers = append(snap.Servers, s.server(who, s.previous[who.id]))
	}
	snap.Heard = len(s.main.who) - leaving
	s.updateRoster(snap)
	for _, m := range s.c.roster.silent(s.answered, s.began, s.c.cfg.Forget) {
		srv := silentServer(m, s.previous[m.id])
		srv.Looked, srv.Linked = s.ended, s.linked(m.id)
		if srv.Linked == posture.Yes {
			srv.Unlinked = s.unlinked(srv)
		}
		srv.Hosts = s.c.hosts[srv.ID]
		srv.Known = s.book.of(srv)
		snap.Servers = append(snap.Servers, srv)
	}
	posture.SortServers(snap.Servers)
	snap.Unaudited = s.unaudited(snap)
	active, known := s.active()-leaving, s.expectedByRoster(snap) // one that leaves and answers is counted by the others
	snap.Expected = max(active, known)
	snap.Gaps = s.gaps(snap)
	if n := active - known; n > 0 {
		snap.Gaps = append(snap.Gaps, posture.Gap{Endpoint: "STATSZ", Reason: unnamed(active, n)})
	}
	for _, g := range s.gathers() {
		snap.Cost.Requests += g.cost.Requests
		snap.Cost.Replies += g.cost.Replies
		snap.Cost.Bytes += g.cost.Bytes
	}
	s.forgetGone(snap)
	return snap
}

func (s *sweep) answered(id string) bool { _, ok := s.main.who[id]; return ok }

func (s *sweep) gathers() []*gather {
	out := []*gather{s.main}
	for _, g := range []*gather{s.topo, s.accounts, s.conns} {
		if g != nil && g != s.main {
			out = append(out, g)
		}
	}
	return out
}

// active is how many servers there are, as they count themselves. Which of those are
// dead is known better now than when the sweep began.
func (s *sweep) active() int {
	n := 0
	for _, b := range s.main.got[posture.Statsz] {
		if st, ok := b.(*statsz); ok {
			n = max(n, min(s.c.roster.active(st, s.began), maxServers))
		}
	}
	return n
}

// unnamed says that servers are counted and not known by name.
func unnamed(active, n int) string {
	are := "are"
	if n == 1 {
		are = "is"
	}
	return fmt.Sprintf("the servers count %d active servers, and %d of them %s not known by name; nats-server counts a server that was killed for up to %d minutes",
		active, n, are, int(deadCounted.Minutes()))
}

// alive reports whether a server answered, or a peer that did still holds a
// connection to it: then another one of the same name has not taken its place.
func (s *sweep) alive(id string) bool { return s.answered(id) || s.linked(id) == posture.Yes }

// expectedByRoster counts the servers that should have answered: those that
// did, and those that are silent without having said goodbye.
func (s *sweep) expectedByRoster(snap *posture.Snapshot) int {
	n := 0
	for _, srv := range snap.Servers {
		if srv.State == posture.Answering || srv.State == posture.Silent {
			n++
		}
	}
	return n
}

func (s *sweep) server(who identity, prev *posture.Server) *posture.Server {
	srv := &posture.Server{ID: who.id, Name: who.name, Cluster: who.cluster, Version: who.version, State: posture.Answering}
	if st := body[statsz](s.main, posture.Statsz, who.id); st != nil {
		srv.Heard |= posture.Statsz
		srv.Start, srv.Connections = st.Start, st.Connections
	} else if prev != nil {
		srv.Connections = prev.Connections
	}
	srv.Looked = s.ended
	if v := body[varz](s.main, posture.Varz, who.id); v != nil {
		srv.Heard |= posture.Varz
		srv.Looked = s.main.at[who.id]
		s.c.describe(srv, v)
	} else {
		keep(srv, prev)
	}
	s.readTopology(srv, prev)
	s.readAccounts(srv, prev)
	srv.Hosts = s.c.hosts[srv.ID]
	srv.Known = s.book.of(srv)
	s.readSessions(srv, prev)
	if prev != nil {
		srv.Heard |= prev.Heard & posture.EveryoneConnz
		srv.Everyone = prev.Everyone
	}
	posture.Judge(srv)
	if prev == nil {
		prev = s.predecessor(srv)
	}
	posture.Compare(srv, prev, s.began)
	return srv
}

// predecessor finds the server that this one was before it was restarted: of
// the same name and cluster, and silent now.
func (s *sweep) predecessor(srv *posture.Server) *posture.Server {
	if s.prev == nil {
		return nil
	}
	for _, p := range s.prev.Servers {
		if p.Name == srv.Name && p.Cluster == srv.Cluster && !s.answered(p.ID) {
			return p
		}
	}
	return nil
}

func (s *sweep) readTopology(srv, prev *posture.Server) {
	switch {
	case s.topo != nil && (s.topo == s.main || s.topo.known[srv.ID]):
		for _, in := range []posture.Input{posture.Routez, posture.Gatewayz, posture.Leafz} {
			if _, ok := s.topo.got[in][srv.ID]; ok {
				srv.Heard |= in
			}
		}
		srv.Peers = connected(s.topo, srv.ID)
	case prev != nil:
		srv.Heard |= prev.Heard & topologyInputs
		srv.Peers = prev.Peers
	}
}

// readAccounts notes the accounts. They are asked for only when the
// configuration may have changed, so earlier ones hold as long as it did not.
func (s *sweep) readAccounts(srv, prev *posture.Server) {
	if s.accounts != nil {
		if a := body[accountz](s.accounts, posture.Accountz, srv.ID); a != nil {
			srv.Heard |= posture.Accountz
			srv.Accounts = accountNames(a)
			return
		}
	}
	if prev != nil && prev.Heard.Has(posture.Accountz) && prev.ConfigLoaded.Equal(srv.ConfigLoaded) {
		srv.Heard |= posture.Accountz
		srv.Accounts = prev.Accounts
	}
}

func accountNames(a *accountz) []string {
	names := make([]string, 0, len(a.Accounts))
	for _, name := range a.Accounts {
		names = append(names, printable(name))
	}
	return names
}

func (s *sweep) readSessions(srv *posture.Server, prev *posture.Server) {
	asked := s.conns != nil && s.conns.known[srv.ID]
	if !asked && !s.main.wanted.Has(posture.AccountStatz) {
		if prev != nil {
			srv.Heard |= prev.Heard & (posture.Connz | posture.AccountStatz)
			srv.Sessions = prev.Sessions
			srv.Sessions.List = slices.Clone(prev.Sessions.List) // classified anew
		}
		return
	}
	st := body[accountStatz](s.main, posture.AccountStatz, srv.ID)
	if st != nil {
		srv.Heard |= posture.AccountStatz
		if globalConns(st) == 0 {
			srv.Heard |= posture.Connz // nobody is there, and that was said
			srv.Sessions = posture.Sessions{At: s.began}
			return
		}
	}
	if !asked {
		return
	}
	c := body[connz](s.conns, posture.Connz, srv.ID)
	if c == nil {
		return
	}
	srv.Heard |= posture.Connz
	srv.Sessions = s.c.sessions(c, srv.Version, s.began)
}

// sessions reads the sessions of one server.
func (c *Collector) sessions(z *connz, version string, at time.Time) posture.Sessions {
	out := posture.Sessions{At: at, Total: max(z.Total, len(z.Conns))}
	shown := z.Conns[:min(len(z.Conns), c.cfg.SessionLimit)]
	out.List = make([]posture.Session, 0, len(shown))
	for i := range shown {
		out.List = append(out.List, session(&shown[i], version))
	}
	return out
}

func session(c *connInfo, version string) posture.Session {
	out := posture.Session{
		CID: c.Cid, Name: printable(c.Name), Address: net.JoinHostPort(printable(c.IP), strconv.Itoa(c.Port)),
		Lang: printable(c.Lang), Version: printable(c.Version), User: scrubUser(c, version),
		Account: posture.GlobalAccount, Since: c.Start, PeerCert: c.TLSPeerCerts.shown,
	}
	if c.Account != "" {
		out.Account = printable(c.Account)
	}
	if c.Kind == "" || c.Kind == "Client" {
		switch c.Type {
		case "", "nats":
			out.Door = posture.Client
		case "websocket":
			out.Door = posture.Websocket
		case "mqtt":
			out.Door = posture.MQTT
		}
	}
	// A library names its language; who sends nothing of that, and has sent or asked
	// for no message either, has not spoken.
	out.Unintroduced = (out.Door == posture.Client || out.Door == posture.Websocket) &&
		c.Name == "" && c.Lang == "" && c.Version == "" && c.AuthorizedUser == "" && c.JWT.claim == nil && c.InMsgs == 0 && c.Subs == 0
	return out
}

// maxAuthTimeout, in seconds, is more than any server gives its clients.
const maxAuthTimeout = 3600

// describe reads VARZ into the model.
func (c *Collector) describe(srv *posture.Server, v *varz) {
	srv.Name, srv.Version, srv.BuiltWith = printable(v.Name), printable(v.Version), printable(v.BuiltWith)
	if srv.Name == "" {
		srv.Name = srv.ID
	}
	srv.Cluster = printable(v.Cluster.Name)
	srv.SuperCluster = v.Gateway.Name != "" && v.Gateway.Port != 0
	srv.AuthRequired, srv.JetStream = posture.TriOf(v.AuthRequired), posture.TriOf(bool(v.JetStream.Config))
	srv.AuthTimeout = time.Duration(min(max(v.AuthTimeout, 0), maxAuthTimeout) * float64(time.Second))
	srv.Start, srv.ConfigLoaded = v.Start, v.ConfigLoadTime
	srv.SystemAccount = printable(v.SystemAccount)
	if v.ConfigDigest != "" {
		srv.ConfigMark = posture.MarkOf(v.ConfigDigest)
	}
	if release.ShowsConfigDigest.Holds(v.Version) {
		srv.NoConfigFile = posture.TriOf(v.ConfigDigest == "")
	}
	for i := range v.Operators {
		srv.Operators = append(srv.Operators, operatorOf(&v.Operators[i]))
	}
	switch {
	case len(v.Operators) > 0 || bool(v.OperatorJWTs):
		srv.AuthMode = posture.AuthOperator
	case v.AuthRequired:
		srv.AuthMode = posture.AuthStatic
	default:
		srv.AuthMode = posture.AuthNone
	}
	srv.Doors = doors(v)
}

func operatorOf(o *operatorClaim) posture.Operator {
	op := posture.Operator{
		Key: printable(o.Subject), Name: printable(o.Name), Strict: o.Nats.Strict, SystemAccount: printable(o.Nats.SystemAccount),
		Issued: unixTime(o.Issued), Expires: unixTime(o.Expires),
	}
	for _, k := range o.Nats.SigningKeys {
		op.SigningKeys = append(op.SigningKeys, printable(k))
	}
	for _, u := range append([]string{o.Nats.AccountServerURL}, o.Nats.ServiceURLs...) {
		if scheme, host, ok := strings.Cut(u, "://"); ok && (scheme == "nats" || scheme == "http" || scheme == "ws") {
			op.Plaintext = append(op.Plaintext, scheme+"://"+printable(host[strings.LastIndex(host, "@")+1:]))
		}
	}
	return op
}

// unixTime is a claim's time; zero stays zero.
func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func doors(v *varz) []posture.Door {
	// From the release that shows a listener's certificate on, a listener
	// without one has no TLS.
	noTLS := posture.Unseen
	if release.ShowsCertExpiry.Holds(v.Version) {
		noTLS = posture.No
	}
	out := []posture.Door{
		listener(posture.Client, v.Host, v.Port),
		listener(posture.Websocket, v.Websocket.Host, v.Websocket.Port),
		listener(posture.MQTT, v.MQTT.Host, v.MQTT.Port),
		listener(posture.Leafnode, v.LeafNode.Host, v.LeafNode.Port),
		listener(posture.Route, v.Cluster.Host, v.Cluster.Port),
		listener(posture.Gateway, v.Gateway.Host, v.Gateway.Port),
		monitor(v),
		{Kind: posture.Profile},
	}
	out[0].TLS = posture.TLS{On: noTLS, Required: posture.TriOf(v.TLSRequired), Verify: posture.TriOf(v.TLSVerify), NotAfter: v.TLSCertNotAfter}
	if v.TLSRequired || v.TLSVerify || !v.TLSCertNotAfter.IsZero() {
		out[0].TLS.On = posture.Yes
	}
	ws := &out[1]
	ws.NoAuthUser, ws.TLSMap = printable(v.Websocket.NoAuthUser), v.Websocket.TLSMap
	ws.TLS = posture.TLS{On: posture.TriOf(!v.Websocket.NoTLS), Required: posture.TriOf(!v.Websocket.NoTLS), NotAfter: v.Websocket.TLSCertNotAfter}
	ws.AnyOrigin = posture.TriOf(!v.Websocket.SameOrigin && !bool(v.Websocket.AllowedOrigins))
	if v.Websocket.JWTCookie != "" {
		ws.Cookies = []string{"jwt_cookie"} // VARZ shows no other
	}
	mqtt := &out[2]
	mqtt.NoAuthUser, mqtt.TLSMap = printable(v.MQTT.NoAuthUser), v.MQTT.TLSMap
	mqtt.TLS = posture.TLS{On: noTLS, NotAfter: v.MQTT.TLSCertNotAfter}
	if !v.MQTT.TLSCertNotAfter.IsZero() {
		mqtt.TLS.On = posture.Yes
	}
	mqtt.TLS.Required = mqtt.TLS.On
	out[3].TLS = tlsOf(v.LeafNode.TLSRequired, v.LeafNode.TLSVerify)
	out[3].TLS.NotAfter = v.LeafNode.TLSCertNotAfter
	out[4].TLS = tlsOf(v.Cluster.TLSRequired, v.Cluster.TLSVerify)
	out[4].TLS.NotAfter = v.Cluster.TLSCertNotAfter
	out[5].TLS = tlsOf(v.Gateway.TLSRequired, v.Gateway.TLSVerify)
	out[5].TLS.NotAfter = v.Gateway.TLSCertNotAfter
	return out
}

func monitor(v *varz) posture.Door {
	port, secure := v.HTTPPort, posture.No
	if port == 0 {
		port, secure = v.HTTPSPort, posture.Yes
	}
	d := listener(posture.Monitor, v.HTTPHost, port)
	d.Path = printable(v.HTTPBasePath)
	d.TLS = posture.TLS{On: secure, Required: secure}
	return d
}

func tlsOf(required, verify bool) posture.TLS {
	return posture.TLS{On: posture.TriOf(required), Required: posture.TriOf(required), Verify: posture.TriOf(verify)}
}

func listener(kind posture.DoorKind, host string, port int) posture.Door {
	return posture.Door{Kind: kind, On: posture.TriOf(port != 0), Host: printable(host), Port: port}
}

// keep carries over what is known of a server whose VARZ did not come, so
// that the next one can be compared with it. Its doors stay unknown.
func keep(srv *posture.Server, prev *posture.Server) {
	if prev == nil {
		srv.Doors = unseenDoors()
		return
	}
	srv.Cluster, srv.SuperCluster = prev.Cluster, prev.SuperCluster
	srv.ConfigLoaded, srv.ConfigMark, srv.NoConfigFile = prev.ConfigLoaded, prev.ConfigMark, prev.NoConfigFile
	srv.SystemAccount, srv.Start, srv.BuiltWith, srv.Operators = prev.SystemAccount, prev.Start, prev.BuiltWith, prev.Operators
	srv.Doors = slices.Clone(prev.Doors)
}

func unseenDoors() []posture.Door {
	var out []posture.Door
	for _, kind := range posture.DoorKinds() {
		out = append(out, posture.Door{Kind: kind})
	}
	return out
}

func silentServer(m member, prev *posture.Server) *posture.Server {
	srv := &posture.Server{ID: m.id, Name: m.name, Cluster: m.cluster, State: m.state, KnownBy: m.knownBy}
	if prev != nil {
		srv.Version, srv.Name = prev.Version, prev.Name
	}
	keep(srv, prev)
	if srv.Cluster == "" {
		srv.Cluster = m.cluster
	}
	srv.SuperCluster = srv.SuperCluster || m.gateways
	posture.Judge(srv)
	posture.Compare(srv, prev, srv.Start)
	return srv
}

func (s *sweep) updateRoster(snap *posture.Snapshot) {
	for _, srv := range snap.Servers {
		s.c.roster.answered(s.identity(srv), srv.Cluster, s.began, s.alive)
	}
	if s.topo == nil {
		return
	}
	for _, srv := range snap.Servers {
		who := s.identity(srv)
		for _, in := range []posture.Input{posture.Routez, posture.Gatewayz, posture.Leafz} {
			for _, p := range peers(s.topo.got[in][srv.ID], who, srv.Cluster, srv.SystemAccount, srv.SuperCluster) {
				s.c.roster.named(p, s.began)
			}
		}
	}
}

func (s *sweep) identity(srv *posture.Server) identity {
	return identity{id: srv.ID, name: srv.Name, cluster: srv.Cluster, version: srv.Version}
}

// gaps lists every answer that should be there and is not.
func (s *sweep) gaps(snap *posture.Snapshot) []posture.Gap {
	var out []posture.Gap
	for _, g := range s.gathers() {
		out = append(out, g.gaps...)
		for _, e := range endpoints {
			if !g.wanted.Has(e.input) {
				continue
			}
			out = append(out, s.missing(g, &e, snap)...)
		}
	}
	for _, srv := range snap.Servers {
		if srv.State == posture.Silent {
			out = append(out, posture.Gap{Server: srv.Name, ID: srv.ID, Endpoint: "STATSZ", Reason: fmt.Sprintf("no answer in %s; known by %s", s.c.cfg.Timeout, srv.KnownBy)})
		}
	}
	for _, in := range s.c.inboxes {
		if dropped, err := in.sub.Dropped(); err == nil && dropped > in.dropped {
			out = append(out, posture.Gap{Endpoint: in.endpoint, Reason: fmt.Sprintf("%d answers were dropped on our side: too many at once", dropped-in.dropped)})
			in.dropped = dropped
		}
	}
	return out
}

func (s *sweep) missing(g *gather, e *endpoint, snap *posture.Snapshot) []posture.Gap {
	var out []posture.Gap
	for _, srv := range snap.Servers {
		if srv.State != posture.Answering || g != s.main && !g.known[srv.ID] {
			continue
		}
		switch _, got := g.got[e.input][srv.ID]; {
		case g.forged[e.input][srv.ID]:
			out = append(out, posture.Gap{Server: srv.Name, ID: srv.ID, Endpoint: e.name, Reason: "two answers that contradict each other"})
		case !got && !explained(g.gaps, srv.ID, e.name):
			out = append(out, posture.Gap{Server: srv.Name, ID: srv.ID, Endpoint: e.name, Reason: fmt.Sprintf("no answer in %s", s.c.cfg.Timeout)})
		}
	}
	return out
}

func explained(gaps []posture.Gap, id, endpoint string) bool {
	for _, g := range gaps {
		if g.ID == id && g.Endpoint == endpoint {
			return true
		}
	}
	return false
}

// forgetGone drops what was remembered of servers that are no more.
func (s *sweep) forgetGone(snap *posture.Snapshot) {
	here := make(map[string]bool, len(snap.Servers))
	for _, srv := range snap.Servers {
		here[srv.ID] = true
	}
	for id := range s.c.topology {
		if !here[id] {
			delete(s.c.topology, id)
		}
	}
}
