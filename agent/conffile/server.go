package conffile

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// tries is how often nats-server is asked about a configuration with a key in two
// spellings. It takes them in the order of a Go map, another one each time; the
// rarer of two was seen in a quarter of 2000 runs, so that it is missed once in
// ten million.
const tries = 56

// mostTried is how many lines a configuration may have that is tried so often.
const mostTried = 20000

// server is the posture of a configuration.
func (r *reading) server() *posture.Server {
	s := &posture.Server{
		ID: r.src.Name, Name: r.src.Name, Version: r.src.Version, State: posture.Answering, Config: r.config,
	}
	o := r.load()
	if o == nil {
		reason := "nats-server would not start with this configuration"
		if len(r.config.Refused) == 0 {
			reason = r.config.Absent[0].Text
		}
		for _, kind := range posture.DoorKinds() {
			s.Doors = append(s.Doors, posture.Door{Kind: kind, On: posture.Unseen, Reason: reason})
		}
		return s
	}
	r.describe(s, o)
	if len(r.config.Spellings) > 0 {
		r.again(s)
	}
	r.vary(s)
	r.logins(o)
	r.config.Token = r.token(o)
	return s
}

// load has nats-server read it. They are nil where it would not start, of which
// r.config then tells.
func (r *reading) load() *server.Options {
	r.reduce()
	r.findVariables()
	r.note()
	r.refuseLogin()
	e := r.effective()
	// Of two spellings nats-server may refuse the one and take the other.
	for i := 0; e.opts == nil && !e.undecided && len(r.config.Spellings) > 0 && r.size <= mostTried && i < tries; i++ {
		e = r.effective()
	}
	refused, undecided := r.ofOtherReleases(e.refused)
	if r.config.Refused = append(r.config.Refused, refused...); len(r.config.Refused) > 0 {
		return nil
	}
	if len(undecided) > 0 {
		r.config.Absent = append(r.config.Absent, undecided...)
		return nil
	}
	if e.undecided {
		u := r.config.Unset[0]
		r.config.Absent = []posture.Remark{{
			Place: u.Place, Text: "no value of " + u.Key + ", which is a variable without a value here, was found with which nats-server starts",
		}}
	}
	return e.opts
}

// describe judges a server by its effective options.
func (r *reading) describe(s *posture.Server, o *server.Options) {
	s.Name = cmp.Or(r.told(o.ServerName), r.src.Name)
	s.Cluster = cmp.Or(o.Cluster.Name, o.Gateway.Name)
	s.SystemAccount = cmp.Or(o.SystemAccount, server.DEFAULT_SYSTEM_ACCOUNT)
	s.NoConfigFile = posture.No
	switch named, known := r.systemAccount(); {
	case !known && (len(r.operators) > 0 || o.TrustedKeys != nil):
		s.SystemAccount = ""
	case named != "":
		s.SystemAccount = named
	}
	j := &judge{reading: r, opts: o}
	nobody := r.trustsNobody() || len(r.operators) == 0 && o.TrustedKeys != nil && len(o.TrustedKeys) == 0
	j.trusting = nobody && o.Users == nil && o.Nkeys == nil && o.Username == "" && o.Authorization == ""
	j.operator = o.TrustedKeys != nil && !nobody
	j.required = j.operator || o.Nkeys != nil || o.Users != nil || o.Username != "" || o.Authorization != ""
	s.AuthRequired = posture.TriOf(j.required)
	switch {
	case j.operator || j.trusting && len(r.operators) > 0:
		s.AuthMode = posture.AuthOperator
	case j.required || o.AuthCallout != nil:
		s.AuthMode = posture.AuthStatic
	default:
		s.AuthMode = posture.AuthNone
	}
	s.Doors = j.doors()
	r.hideStandIns(s)
	r.config.Guests, r.config.Callout = j.guests(), j.configCallout()
	r.config.Traits, s.JetStream = j.traits(), j.jetStream()
	for _, op := range r.operators {
		if op != nil {
			s.Operators = append(s.Operators, operatorOf(op))
		}
	}
}

// operatorOf is an operator as its JWT describes it.
func operatorOf(c *jwt.OperatorClaims) posture.Operator {
	o := posture.Operator{
		Key: c.Subject, Name: c.Name, SigningKeys: c.SigningKeys, Strict: c.StrictSigningKeyUsage, SystemAccount: c.SystemAccount,
		Issued: time.Unix(c.IssuedAt, 0).UTC(),
	}
	if c.Expires != 0 {
		o.Expires = time.Unix(c.Expires, 0).UTC()
	}
	for _, u := range append([]string{c.AccountServerURL}, c.OperatorServiceURLs...) {
		if scheme, host, ok := strings.Cut(u, "://"); ok && (scheme == "nats" || scheme == "http" || scheme == "ws") {
			o.Plaintext = append(o.Plaintext, scheme+"://"+host[strings.LastIndex(host, "@")+1:])
		}
	}
	return o
}

// again asks nats-server a number of times, and calls a door unknown if it does
// not always give the same answer.
func (r *reading) again(s *posture.Server) {
	if r.size > mostTried {
		for i := range s.Doors {
			s.Doors[i].Access, s.Doors[i].Reason = posture.Unknown, "a key has two spellings, and the configuration is too large to try what comes of it"
		}
		return
	}
	differs := func(d *posture.Door) {
		d.Access, d.Cause, d.Landing = posture.Unknown, "", nil
		d.Reason = "it hangs on which spelling of " + r.config.Spellings[0].Keys[0] + " nats-server takes last, and that changes from start to start"
	}
	for range tries {
		e := r.effective()
		if e.opts == nil {
			for i := range s.Doors {
				differs(&s.Doors[i])
			}
			return
		}
		other := &posture.Server{}
		guests, traits := r.config.Guests, r.config.Traits
		r.describe(other, e.opts)
		r.config.Guests, r.config.Traits = guests, traits.Agreed(r.config.Traits)
		if other.JetStream != s.JetStream {
			s.JetStream = posture.Unseen
		}
		for i := range s.Doors {
			if d := &s.Doors[i]; d.Access != posture.Unknown && (d.Access != other.Doors[i].Access || d.On != other.Doors[i].On) {
				differs(d)
			}
		}
	}
}

// inheriting are the doors that take the server's own authentication.
var inheriting = []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode}

// dependent lists the doors that depend on a variable without a value.
func (r *reading) dependent(u posture.Unset) []posture.DoorKind {
	path := strings.Split(u.Key, ".")
	if r.harmless[u] {
		return nil
	}
	switch path[0] {
	case "websocket":
		return []posture.DoorKind{posture.Websocket, posture.Leafnode}
	case "mqtt":
		return []posture.DoorKind{posture.MQTT}
	case "leafnodes":
		return []posture.DoorKind{posture.Leafnode}
	case "cluster":
		return []posture.DoorKind{posture.Route}
	case "gateway":
		return []posture.DoorKind{posture.Gateway}
	case "http", "https", "http_port", "https_port":
		return []posture.DoorKind{posture.Monitor}
	case "prof_port":
		return []posture.DoorKind{posture.Profile}
	case "tls", "allow_non_tls":
		return []posture.DoorKind{posture.Client}
	}
	if authKeys[path[0]] || path[0] == "proxies" {
		return inheriting
	}
	return nil
}

// note notes what the tree shows and the options do not.
func (r *reading) note() {
	r.harmless, r.deciding = map[posture.Unset]bool{}, map[posture.Unset]bool{}
	r.noteEntries(r.tree.Root, nil)
	slices.SortStableFunc(r.config.Unset, func(a, b posture.Unset) int { return comparePlaces(a.Place, b.Place, a.Key, b.Key) })
	r.noteComments()
	r.notePlaceholders()
	r.noteResolver()
}

func (r *reading) noteEntries(m *syntax.Map, path []string) {
	first := map[string]*syntax.Entry{}
	for _, e := range m.Entries {
		key := canonical(e.Key)
		if named(path) {
			key = e.Key
		}
		inner := append(slices.Clip(path), key)
		at := placeOf(e.Pos)
		if kept := m.Get(e.Key); kept != e {
			if authKeys[key] && !equal(e.Node, kept.Node) {
				r.config.Overridden = append(r.config.Overridden, posture.Override{Key: strings.Join(inner, "."), Lost: at, Kept: placeOf(kept.Pos)})
			}
			continue
		}
		if other := first[key]; other != nil && !equal(other.Node, e.Node) {
			r.config.Spellings = append(r.config.Spellings, posture.Spelling{
				Keys: []string{other.Key, e.Key}, Places: []posture.Place{placeOf(other.Pos), at}, Auth: authKeys[key],
			})
		}
		first[key] = e
		if !named(path) && !slices.Contains(path, "accounts") {
			if _, known := r.config.Keys[strings.Join(inner, ".")]; !known {
				r.config.Keys[strings.Join(inner, ".")] = at
			}
		}
		r.noteValue(e.Node, m, inner)
	}
}

func (r *reading) noteValue(n *syntax.Node, in *syntax.Map, path []string) {
	if n.Unset {
		u := posture.Unset{Name: n.Var, Key: strings.Join(path, "."), Place: placeOf(n.Pos)}
		if !variableName.MatchString(n.Var) || isSecretKey(last(path)) && strings.ToUpper(n.Var) != n.Var {
			u.Name = ""
		}
		r.harmless[u] = r.noMatter(in, path)
		if v := r.of[n]; v != nil && !slices.Contains(v.uses, u) {
			v.uses = append(v.uses, u)
		}
		if r.src.Later == nil || !r.src.Later(n.Var) || len(r.dependent(u)) > 0 {
			r.config.Unset = append(r.config.Unset, u)
		}
	}
	switch v := n.Value.(type) {
	case *syntax.Map:
		r.noteEntries(v, path)
	case []*syntax.Node:
		for _, item := range v {
			r.noteValue(item, in, path)
		}
	}
}

// noMatter tells whether who gets in does not hang on a value. A stranger brings
// no name, so the password of a named user is nothing to him, unless that user
// is a no_auth_user: with a bcrypt hash that one lets nobody in.
func (r *reading) noMatter(in *syntax.Map, path []string) bool {
	switch last(path) {
	case "password":
		user := get(in, "user")
		name := str(in, "user")
		return user != nil && !user.Node.Unset && name != "" && !r.isGuest(name) || user != nil && r.someUser(path)
	case "user":
		return r.someUser(path)
	case "advertise", "client_advertise", "cluster_advertise", "routes", "urls", "url", "timeout", "cert_file", "key_file", "ca_file",
		"credentials", "name", "compression", "store_dir", "ping_interval", "write_deadline", "dir":
		return true
	case "host":
		return len(path) > 1
	}
	return false
}

// someUser reports whether a key belongs to one of a list of users of whom nobody is
// taken for: nats-server refuses a user without a name, and any other has to log in.
func (r *reading) someUser(path []string) bool {
	return len(path) > 1 && path[len(path)-2] == "users" && path[0] != "leafnodes" && !r.isGuest("") && len(r.guestNames) == 0
}

// isGuest tells whether a user may be one whom strangers are taken for.
func (r *reading) isGuest(name string) bool {
	if r.guestNames == nil {
		r.guestNames = map[string]bool{}
		walk(r.tree.Root, nil, func(path []string, _ *syntax.Map, e *syntax.Entry) {
			if last(path) == "no_auth_user" {
				s, _ := e.Node.Value.(string)
				r.guestNames[s] = true
				r.anyGuest = r.anyGuest || e.Node.Unset
			}
		})
	}
	return r.anyGuest || r.guestNames[name]
}

// equal tells whether two values are the same.
func equal(a, b *syntax.Node) bool {
	if a == b {
		return true
	}
	x, y := &encoder{}, &encoder{}
	x.value(a.Value, a)
	y.value(b.Value, b)
	return a.Unset == b.Unset && x.buf.String() == y.buf.String()
}
