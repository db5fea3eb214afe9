package conffile

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// A variable without a value is not one configuration but many: nats-server does
// not start where the variable is absent, and otherwise takes the text that it
// finds, which may be empty. So nats-server is asked about one value of every kind
// that may make a difference, and a verdict stands only where all of those with
// which it starts agree on it.

// unsetVariable is one that has no value here.
type unsetVariable struct {
	name  string
	index int // among the variables, which stands in its stand-in text
	uses  []posture.Unset

	meanings []any // what it may stand for; the first one is tried first
	complete bool  // no other value makes another difference to who gets in
	at       int   // the meaning that nats-server is given
}

// leftOut is a meaning that stands for every value of which nobody knows what it
// looks like: its key is left out.
type leftOut struct{}

// emptyList is a meaning of a key that takes a list.
type emptyList struct{}

// standInText is a value that nobody writes.
func standInText(i int) string { return unsetPrefix + strconv.Itoa(i) }

// standInPort is a port that is never shown.
const standInPort = int64(1)

// bcryptStandIn looks like a hash, and is the hash of nothing.
const bcryptStandIn = "$2a$11$natsentryunsetnatsentryunsetnatsentryunsetnatsentryun"

// standInKeys are public keys that stand for any other of their kind.
var standInKeys = sync.OnceValue(func() map[string]string {
	out := map[string]string{}
	for kind, create := range map[string]func() (nkeys.KeyPair, error){
		"user": nkeys.CreateUser, "account": nkeys.CreateAccount, "operator": nkeys.CreateOperator, "curve": nkeys.CreateCurveKeys,
	} {
		if pair, err := create(); err == nil {
			out[kind], _ = pair.PublicKey()
		}
	}
	return out
})

// names are what a value may refer to.
type names struct{ users, guests, accounts []string }

// findVariables collects the variables without a value, with what they may mean.
func (r *reading) findVariables() {
	r.variables, r.of = nil, map[*syntax.Node]*unsetVariable{}
	known := r.referable()
	byName := map[string]*unsetVariable{}
	type use struct {
		v    *unsetVariable
		path []string
		item bool
	}
	var uses []use
	var visit func(n *syntax.Node, path []string, item bool)
	visit = func(n *syntax.Node, path []string, item bool) {
		if n.Unset && r.of[n] == nil {
			v := byName[n.Var]
			if v == nil {
				v = &unsetVariable{name: n.Var, index: len(r.variables), complete: true}
				byName[n.Var] = v
				r.variables = append(r.variables, v)
			}
			r.of[n] = v
			uses = append(uses, use{v, slices.Clone(path), item})
			if key := last(path); (key == "user" || key == "nkey") && (path[0] == "authorization" || path[0] == "accounts") {
				known.users = append(known.users, standInText(v.index))
			}
		}
		switch value := n.Value.(type) {
		case *syntax.Map:
			for _, e := range value.Entries {
				if e.Replaced == nil {
					key := canonical(e.Key)
					if named(path) {
						key = e.Key
					}
					visit(e.Node, append(slices.Clip(path), key), false)
				}
			}
		case []*syntax.Node:
			for _, n := range value {
				visit(n, path, true)
			}
		}
	}
	visit(&syntax.Node{Value: r.tree.Root}, nil, false)
	for _, u := range uses {
		meanings, complete := r.meanings(u.path, u.item, u.v.index, &known)
		for _, m := range meanings {
			if !slices.Contains(u.v.meanings, m) {
				u.v.meanings = append(u.v.meanings, m)
			}
		}
		u.v.complete = u.v.complete && complete
	}
}

// referable lists the users and accounts of a configuration, and the names that
// somebody without credentials is taken for.
func (r *reading) referable() names {
	var out names
	walk(r.tree.Root, nil, func(path []string, _ *syntax.Map, e *syntax.Entry) {
		text, _ := e.Node.Value.(string)
		switch key := last(path); {
		case len(path) == 2 && path[0] == "accounts":
			out.accounts = append(out.accounts, e.Key)
		case text == "":
		case (key == "user" || key == "nkey") && (path[0] == "authorization" || path[0] == "accounts"):
			out.users = append(out.users, text)
		case key == "no_auth_user":
			out.guests = append(out.guests, text)
		}
	})
	// A name that a user has already is refused for another one.
	out.guests = slices.DeleteFunc(out.guests, func(g string) bool { return slices.Contains(out.users, g) })
	return out
}

// mostNames bounds the names that a value may refer to: one more is another
// configuration to try.
const mostNames = 50

func anyOf(texts []string, more ...any) []any {
	var out []any
	for _, t := range texts[:min(len(texts), mostNames)] {
		out = append(out, t)
	}
	return append(out, more...)
}

// meanings lists one value of every kind that makes a difference under a key.
// complete is false where there are more kinds than can be listed.
func (r *reading) meanings(path []string, item bool, index int, known *names) (values []any, complete bool) {
	text, keys := standInText(index), standInKeys()
	top := len(path) == 1
	switch last(path) {
	case "user":
		return append([]any{text, ""}, anyOf(known.guests)...), len(known.guests) <= mostNames
	case "password":
		return []any{text, "", bcryptStandIn}, true
	case "token":
		return []any{text, ""}, true
	case "nkey":
		if len(path) == 3 && path[0] == "accounts" {
			return []any{keys["account"]}, true
		}
		return append([]any{keys["user"], "", text}, anyOf(known.guests)...), len(known.guests) <= mostNames
	case "no_auth_user":
		return anyOf(known.users, "", text), len(known.users) <= mostNames
	case "account", "system_account":
		return anyOf(known.accounts, "", server.DEFAULT_SYSTEM_ACCOUNT, server.DEFAULT_GLOBAL_ACCOUNT, keys["account"], text), len(known.accounts) <= mostNames
	case "port", "http_port", "https_port", "prof_port", "listen", "http", "https":
		return []any{standInPort, int64(0)}, true
	case "verify":
		return []any{true, false, "optional"}, true
	case "handshake_first":
		return []any{true, false, "auto"}, true
	case "verify_and_map", "verify_cert_and_check_known_urls", "allow_non_tls", "no_tls", "proxy_required", "reject_unknown_cluster",
		"no_system_account", "enabled", "jetstream":
		return []any{true, false}, true
	case "operator":
		return []any{text}, false // its JWT may name no key at all, and then nobody is asked
	case "host", "server_name", "resolver", "resolver_preload", "type", "dir":
		return []any{text}, true
	case "name":
		return []any{text, str(block(r.tree.Root, "cluster"), "name"), str(block(r.tree.Root, "gateway"), "name")}, true
	case "trusted_keys":
		return []any{keys["operator"], emptyList{}}, true
	case "issuer":
		return []any{keys["account"]}, true
	case "xkey":
		return []any{keys["curve"]}, true
	case "allowed_connection_types":
		if item {
			return []any{"STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS", "IN_PROCESS"}, true
		}
	}
	values = []any{text, int64(1), true, int64(64 << 20), "10s", leftOut{}}
	if top && authKeys[path[0]] || last(path) == "tls" {
		values = []any{leftOut{}}
	}
	return values, false
}

// instead is what nats-server is given for a node.
func (r *reading) instead(n *syntax.Node) (any, bool) {
	if r.left[n] {
		return nil, false
	}
	if !n.Unset {
		return n.Value, true
	}
	v := r.of[n]
	if v == nil {
		return nil, false
	}
	switch value := v.meanings[v.at].(type) {
	case leftOut:
		return nil, false
	case emptyList:
		return []*syntax.Node{}, true
	default:
		return value, true
	}
}

// another gives a variable its next meaning, and reports whether it has one.
func (v *unsetVariable) another() bool {
	if v == nil || v.at+1 >= len(v.meanings) {
		return false
	}
	v.at++
	return true
}

// named is the variable whose stand-in an error names.
func (r *reading) named(text string) *unsetVariable {
	m := unsetNumber.FindStringSubmatch(text)
	if m == nil {
		return nil
	}
	i, err := strconv.Atoi(m[1])
	if err != nil || i >= len(r.variables) {
		return nil
	}
	return r.variables[i]
}

// shown is how a variable is called in a report. A name that may be a secret
// itself, such as a password that begins with a dollar, is not shown.
func (v *unsetVariable) shown() string {
	for _, u := range v.uses {
		if u.Name != "" {
			return "$" + u.Name
		}
	}
	return "a variable"
}

// withoutStandIns puts the names of variables in the place of what stands for their
// values.
func (r *reading) withoutStandIns(text string) string {
	for _, v := range r.variables {
		if strings.Contains(text, unsetPrefix) {
			text = unsetNumber.ReplaceAllStringFunc(text, func(found string) string {
				if found == standInText(v.index) {
					return v.shown()
				}
				return found
			})
		}
	}
	for _, key := range standInKeys() {
		text = strings.ReplaceAll(text, key, "a variable")
	}
	return text
}

// matters lists the doors that may depend on a variable.
func (r *reading) matters(v *unsetVariable) []posture.DoorKind {
	var out []posture.DoorKind
	for _, u := range v.uses {
		for _, kind := range r.dependent(u) {
			if !slices.Contains(out, kind) {
				out = append(out, kind)
			}
		}
	}
	return out
}
