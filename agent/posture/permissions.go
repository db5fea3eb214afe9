package posture

import (
	"regexp"
	"slices"
	"strings"
)

// Permissions are what a user may publish and subscribe to, as a configuration,
// a JWT or the server states them. Their zero value restricts nothing.
type Permissions struct {
	Publish, Subscribe Subjects
	Responses          bool // it may answer requests (allow_responses)
}

// Subjects are the subjects of one direction. An empty allow list allows
// everything; Deny takes away from what is allowed.
type Subjects struct{ Allow, Deny []string }

// powers are subjects of requests with which a publisher does what no list of
// its own subjects allows: a stream or consumer acts with the power of the
// account, and the monitoring of the account lists its connections.
var powers = []string{
	"$JS.API.STREAM.CREATE.*", "$JS.API.STREAM.UPDATE.*", "$JS.API.STREAM.DELETE.*", "$JS.API.STREAM.PURGE.*", "$JS.API.STREAM.RESTORE.*",
	"$JS.API.STREAM.MSG.DELETE.*", "$JS.API.STREAM.LEADER.STEPDOWN.*", "$JS.API.STREAM.PEER.REMOVE.*",
	"$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DURABLE.CREATE.>", "$JS.API.CONSUMER.DELETE.>", "$JS.API.CONSUMER.PAUSE.>",
	"$SYS.REQ.ACCOUNT.>", "$SYS.REQ.SERVER.>", "$SYS.REQ.CLAIMS.>",
}

// wholesale are subjects of streams, buckets and consumers that do not exist.
// Who may publish to one of them was not limited to those that do: to read or
// write a stream that is named is what a restricted user may be meant to do.
var wholesale = []string{
	"$JS.API.STREAM.SNAPSHOT.?", "$JS.API.STREAM.MSG.GET.?", "$JS.API.DIRECT.GET.?", "$JS.API.DIRECT.GET.?.?", "$JS.API.CONSUMER.MSG.NEXT.?.?",
	"$JS.ACK.?.?.1.1.1.1.1", "$JS.ACK.?.?.?.?.1.1.1.1.1", "$KV.?.?", "$O.?.C.?", "$MQTT.?.?",
}

// callouts is where an auth callout hears the credentials of others.
const callouts = "$SYS.REQ.USER.AUTH"

// Restricted reports whether the permissions take something away that matters.
// They do when a user may publish only to subjects that are named, may
// subscribe only to subjects that are named, and no name among them carries
// powers over the whole account. A list that denies some of everything does not
// restrict: what it does not name stays open. Where servers grant more than an
// entry says, that counts as granted.
func (p *Permissions) Restricted() bool {
	if p == nil {
		return false
	}
	publish, subscribe := p.Publish.granted(plain), p.Subscribe.granted(belowLast)
	if p.Responses && len(p.Publish.Allow) == 0 {
		publish.allow = nil // a response permission replaces what no list allows
	}
	switch {
	case publish.open() || subscribe.open() || subscribe.reaches(callouts):
		return false
	case slices.ContainsFunc(powers, publish.reaches) || slices.ContainsFunc(wholesale, publish.includes):
		return false
	case p.Responses && publish.meets(&subscribe):
		return false // the right to respond is then one to publish anywhere
	}
	return true
}

// Open reports of each direction whether subjects that nobody thought of are
// left in it.
func (p *Permissions) Open() (publish, subscribe bool) {
	pub, sub := p.Publish.granted(plain), p.Subscribe.granted(belowLast)
	if p.Responses && len(p.Publish.Allow) == 0 {
		pub.allow = nil
	}
	return pub.open(), sub.open()
}

// grant is what one direction really grants, without queue groups.
type grant struct{ allow, deny []string }

// plain takes a subject as it stands.
func plain(subject string) string { return subject }

// belowLast adds what servers grant to a subscription that ends in a wildcard:
// the levels below it.
func belowLast(subject string) string {
	if subject == "*" || strings.HasSuffix(subject, ".*") {
		return strings.TrimSuffix(subject, "*") + ">"
	}
	return subject
}

// placeholder is what a scoped signing key leaves to be filled in from the JWT
// of a user, who may choose a wildcard.
var placeholder = regexp.MustCompile(`\{\{[^}]*\}\}`)

const filled = "\x00"

// widened puts wildcards in the place of tokens that are filled in.
func widened(subject string) string {
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		switch {
		case !strings.Contains(token, filled):
		case i == len(tokens)-1:
			tokens[i] = ">"
		default:
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// granted drops what does not hold: an entry that allows a queue group allows
// to receive the subject, and one that denies a queue group leaves the subject
// to everybody outside of it.
func (s *Subjects) granted(allowed func(string) string) grant {
	var g grant
	for _, entry := range s.Allow {
		subject, _, _ := strings.Cut(strings.TrimSpace(placeholder.ReplaceAllString(entry, filled)), " ")
		g.allow = append(g.allow, allowed(widened(subject)))
	}
	if len(g.allow) == 0 {
		g.allow = []string{">"}
	}
	for _, entry := range s.Deny {
		if entry = strings.TrimSpace(entry); !strings.ContainsAny(entry, " \t") && !placeholder.MatchString(entry) {
			g.deny = append(g.deny, entry)
		}
	}
	return g
}

// open reports whether an entry without a single name is left: it stands for
// subjects that nobody thought of.
func (g *grant) open() bool {
	return !everything(g.deny) && slices.ContainsFunc(g.allow, func(a string) bool { return nameless(a) && !g.denied(a) })
}

// reaches reports whether a subject that matches the pattern is granted.
func (g *grant) reaches(pattern string) bool {
	return !everything(g.deny) && !g.denied(pattern) &&
		slices.ContainsFunc(g.allow, func(a string) bool { return overlap(a, pattern) && !g.denied(a) })
}

// includes reports whether the whole pattern is granted.
func (g *grant) includes(pattern string) bool {
	return slices.ContainsFunc(g.allow, func(a string) bool { return covers(a, pattern) }) &&
		!slices.ContainsFunc(g.deny, func(d string) bool { return overlap(d, pattern) })
}

// meets reports whether a subject may be granted by both.
func (g *grant) meets(other *grant) bool { return slices.ContainsFunc(g.allow, other.reaches) }

// denied reports whether one entry denies the whole pattern.
func (g *grant) denied(pattern string) bool {
	return slices.ContainsFunc(g.deny, func(d string) bool { return covers(d, pattern) })
}

// nameless reports whether a pattern consists of wildcards only.
func nameless(pattern string) bool {
	for token := range strings.SplitSeq(pattern, ".") {
		if token != "*" && token != ">" {
			return false
		}
	}
	return true
}

// everything reports whether the patterns match all subjects: one of them all
// that are long enough, and others those of each shorter length.
func everything(patterns []string) bool {
	for tail, shorter := ">", "*"; ; tail, shorter = "*."+tail, "*."+shorter {
		switch {
		case slices.Contains(patterns, tail):
			return true
		case !slices.Contains(patterns, shorter):
			return false
		}
	}
}

// covers reports whether all subjects that match the narrow pattern match the
// wide one.
func covers(wide, narrow string) bool {
	w, n := strings.Split(wide, "."), strings.Split(narrow, ".")
	for i, token := range w {
		switch {
		case i >= len(n):
			return false
		case token == ">":
			return true
		case n[i] == ">" || token != "*" && token != n[i]:
			return false
		}
	}
	return len(w) == len(n)
}

// overlap reports whether a subject can match both patterns.
func overlap(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		switch {
		case x[i] == ">" || y[i] == ">":
			return true
		case x[i] != "*" && y[i] != "*" && x[i] != y[i]:
			return false
		}
	}
	return len(x) == len(y)
}
