package conffile

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// mostCombined bounds the combinations of meanings that are tried for doors that
// depend on the same variables.
const mostCombined = mostAttempts

// combination is what came of one meaning of each of several variables.
type combination struct {
	at     []int           // the meanings
	server *posture.Server // nil where nats-server does not start with them
	guests []posture.Guest
	traits posture.Traits
}

// vary holds the verdicts that came of one meaning of each variable against those
// that come of others.
func (r *reading) vary(s *posture.Server) {
	var free []*unsetVariable
	for _, v := range r.variables {
		switch kinds := r.matters(v); {
		case len(kinds) == 0:
		case !v.complete || len(r.config.Spellings) > 0:
			r.decides(s, kinds, []*unsetVariable{v}, "")
		case len(v.meanings) > 1:
			free = append(free, v)
		}
	}
	for len(free) > 0 {
		var kinds []posture.DoorKind
		var together []*unsetVariable
		kinds, together, free = r.apart(free)
		combined := r.combine(together)
		if combined == nil {
			r.decides(s, kinds, together, fmt.Sprintf("it depends on %d variables that have no value here, and on too many of their meanings to try all", len(together)))
			continue
		}
		r.merge(s, kinds, together, combined)
	}
	r.forgetDecided()
}

// apart takes the first of several variables out of a list, with all that share a
// door with it, directly or through others.
func (r *reading) apart(all []*unsetVariable) (kinds []posture.DoorKind, together, rest []*unsetVariable) {
	together, rest = all[:1:1], slices.Clone(all[1:])
	kinds = r.matters(all[0])
	for more := true; more; {
		more = false
		rest = slices.DeleteFunc(rest, func(v *unsetVariable) bool {
			own := r.matters(v)
			if !slices.ContainsFunc(own, func(k posture.DoorKind) bool { return slices.Contains(kinds, k) }) {
				return false
			}
			together, more = append(together, v), true
			for _, k := range own {
				if !slices.Contains(kinds, k) {
					kinds = append(kinds, k)
				}
			}
			return true
		})
	}
	return kinds, together, rest
}

// combine tries every combination of the meanings of variables; nil where there are
// too many of them.
func (r *reading) combine(vars []*unsetVariable) []combination {
	n := 1
	for _, v := range vars {
		if n *= len(v.meanings); n > min(mostCombined, r.attempts()) {
			return nil
		}
	}
	before := make([]int, len(vars))
	for i, v := range vars {
		before[i] = v.at
	}
	guests, traits, barred := r.config.Guests, r.config.Traits, r.config.Barred
	defer func() {
		for i, v := range vars {
			v.at = before[i]
		}
		r.config.Guests, r.config.Traits, r.config.Barred = guests, traits, barred
	}()
	out := make([]combination, 0, n)
	for k := range n {
		c := combination{at: make([]int, len(vars))}
		for i, v := range vars {
			c.at[i], k = k%len(v.meanings), k/len(v.meanings)
			v.at = c.at[i]
		}
		if e := r.attempt(false); e.opts != nil {
			c.server = &posture.Server{}
			r.describe(c.server, e.opts)
			c.guests, c.traits = r.config.Guests, r.config.Traits
		}
		out = append(out, c)
	}
	return out
}

// merge keeps of a posture what all combinations agree on.
func (r *reading) merge(s *posture.Server, kinds []posture.DoorKind, vars []*unsetVariable, all []combination) {
	for _, c := range all {
		if c.server == nil {
			continue
		}
		if c.server.AuthRequired != s.AuthRequired {
			s.AuthRequired = posture.Unseen
		}
		if c.server.AuthMode != s.AuthMode {
			s.AuthMode = posture.AuthUnknown
		}
		if c.server.JetStream != s.JetStream {
			s.JetStream = posture.Unseen
		}
		if c.server.SystemAccount != s.SystemAccount {
			s.SystemAccount = ""
		}
		r.config.Guests = slices.DeleteFunc(slices.Clone(r.config.Guests), func(g posture.Guest) bool {
			return !slices.ContainsFunc(c.guests, func(other posture.Guest) bool { return reflect.DeepEqual(g, other) })
		})
		r.config.Traits = r.config.Traits.Agreed(c.traits)
	}
	for _, kind := range kinds {
		d := s.Door(kind)
		if d.Access == posture.Unknown {
			continue
		}
		deciding := decisive(kind, len(vars), all)
		if len(deciding) > 0 {
			var decide []*unsetVariable
			for _, i := range deciding {
				decide = append(decide, vars[i])
			}
			r.decides(s, []posture.DoorKind{kind}, decide, "")
		}
		for _, c := range all {
			if c.server != nil {
				agree(d, c.server.Door(kind))
			}
		}
	}
}

// decisive lists the variables that alone may turn a verdict, the one first that does
// so whatever most of the others stand for; all of them where only several together
// do, and none where the verdict is always the same.
func decisive(kind posture.DoorKind, vars int, all []combination) []int {
	type verdict struct {
		on     posture.Tri
		access posture.Access
		reason string
	}
	of := func(c *combination) verdict { d := c.server.Door(kind); return verdict{d.On, d.Access, d.Reason} }
	var first *combination
	differ := false
	for i := range all {
		if c := &all[i]; c.server != nil && first == nil {
			first = c
		} else if c.server != nil && of(c) != of(first) {
			differ = true
		}
	}
	if !differ {
		return nil
	}
	var out, every []int
	turns := make([]int, vars)
	for i := range vars {
		every = append(every, i)
		seen, turned := map[string]verdict{}, map[string]bool{} // by the meanings of the others
		for k := range all {
			c := &all[k]
			if c.server == nil {
				continue
			}
			others := fmt.Sprint(c.at[:i], c.at[i+1:])
			if before, ok := seen[others]; ok && before != of(c) {
				turned[others] = true
			}
			seen[others] = of(c)
		}
		if turns[i] = len(turned); turns[i] > 0 {
			out = append(out, i)
		}
	}
	slices.SortStableFunc(out, func(a, b int) int { return turns[b] - turns[a] })
	if len(out) == 0 {
		return every
	}
	return out
}

// agree keeps of a door what another reading of it says, too.
func agree(d, other *posture.Door) {
	same := func(a *posture.Tri, b posture.Tri) {
		if *a != b {
			*a = posture.Unseen
		}
	}
	same(&d.On, other.On)
	if other.On == posture.No {
		return // nothing more is said of a listener that is off
	}
	same(&d.TLS.On, other.TLS.On)
	same(&d.TLS.Required, other.TLS.Required)
	same(&d.TLS.Verify, other.TLS.Verify)
	d.TLSMap = d.TLSMap && other.TLSMap
	if d.Cause != other.Cause {
		d.Cause = ""
	}
	if !reflect.DeepEqual(d.Landing, other.Landing) {
		d.Landing = nil
	}
	if d.Host != other.Host {
		d.Host = posture.UndecidedHost
	}
	if d.Port != other.Port {
		d.Port = posture.UndecidedPort
	}
}

// decides makes doors unknown that depend on variables.
func (r *reading) decides(s *posture.Server, kinds []posture.DoorKind, vars []*unsetVariable, why string) {
	for _, kind := range kinds {
		d := s.Door(kind)
		for _, v := range vars {
			for _, u := range v.uses {
				if !slices.Contains(r.dependent(u), kind) || d.On == posture.No && !u.Listens() {
					continue // no listener, whatever the value is
				}
				if d.Access != posture.Unknown || d.Reason == "" {
					d.Reason = why
					if why == "" {
						d.Reason = "it depends on a variable that has no value here: " + u.Key + " at " + u.Place.String()
					}
				}
				d.Access, d.Basis, d.Cause, d.Landing = posture.Unknown, posture.Declared, "", nil
				d.Evidence = append(d.Evidence, u.Place.Says(posture.Unknown, u.Key+" is a variable without a value"))
				r.deciding[u] = true
				if d.On == posture.No {
					d.On = posture.Unseen
				}
			}
		}
	}
}

// forgetDecided leaves out variables that have a value where the server runs, and
// on which nothing depends.
func (r *reading) forgetDecided() {
	if r.src.Later == nil {
		return
	}
	for _, v := range r.variables {
		if r.src.Later(v.name) {
			r.config.Unset = slices.DeleteFunc(r.config.Unset, func(u posture.Unset) bool { return slices.Contains(v.uses, u) && !r.deciding[u] })
		}
	}
}

// hideStandIns takes out of a posture what only stands for the value of a variable.
func (r *reading) hideStandIns(s *posture.Server) {
	if len(r.variables) == 0 {
		return
	}
	for i := range s.Doors {
		d := &s.Doors[i]
		host, port := r.addressUnset(d.Kind)
		if d.On == posture.Yes && host {
			d.Host = posture.UndecidedHost
		}
		if d.On == posture.Yes && port {
			d.Port = posture.UndecidedPort
		}
		if l := d.Landing; l != nil {
			l.Account, l.User = r.told(l.Account), r.told(l.User)
		}
		for k := range d.Evidence {
			d.Evidence[k].Value = r.withoutStandIns(d.Evidence[k].Value)
		}
	}
	s.Name, s.Cluster, s.SystemAccount = r.told(s.Name), r.told(s.Cluster), r.told(s.SystemAccount)
}

// told is a name, but "" where it only stands for the value of a variable.
func (r *reading) told(name string) string {
	if r.withoutStandIns(name) != name {
		return ""
	}
	return name
}

// addressUnset reports which parts of a listener's address are variables without a
// value.
func (r *reading) addressUnset(kind posture.DoorKind) (host, port bool) {
	in := map[posture.DoorKind]string{
		posture.Websocket: "websocket.", posture.MQTT: "mqtt.", posture.Leafnode: "leafnodes.", posture.Route: "cluster.", posture.Gateway: "gateway.",
	}[kind]
	unset := func(keys ...string) bool {
		return slices.ContainsFunc(r.variables, func(v *unsetVariable) bool {
			return slices.ContainsFunc(v.uses, func(u posture.Unset) bool { return slices.Contains(keys, u.Key) })
		})
	}
	switch kind {
	case posture.Monitor:
		both := unset("http", "https")
		return both || unset("host"), both || unset("http_port", "https_port")
	case posture.Profile:
		return unset("host", "listen"), unset("prof_port")
	default:
	}
	both := unset(in+"listen", strings.TrimSuffix(in, "."))
	return both || unset(in+"host"), both || unset(in+"port")
}
