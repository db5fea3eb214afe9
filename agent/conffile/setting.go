package conffile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// Setting is a key of the block authorization, or one of its users, written so
// that it can stand in another file. It may hold a secret, and prints as its name.
type Setting struct {
	Key   string // in its longest spelling; "" of a user
	User  string // of a user: its name or its public nkey
	Place posture.Place

	text string
}

// Text is what to write. Variables of the environment stay variables; others
// have their values, since another file does not know them.
func (s Setting) Text() string { return s.text }

// String does not print the text.
func (s Setting) String() string { return s.Key + s.User }

// GoString does not print the text.
func (s Setting) GoString() string { return s.Key + s.User }

// Authorization lists what the block authorization has, its users one by one.
func (f *File) Authorization() []Setting { return f.authorization }

func authorization(root *syntax.Map) []Setting {
	var out []Setting
	auth := block(root, "authorization")
	if auth == nil {
		return nil
	}
	for _, e := range auth.Entries {
		if e.Replaced != nil {
			continue
		}
		key := canonical(e.Key)
		users, listed := e.Node.Value.([]*syntax.Node)
		if key != "users" || !listed {
			if key == "permissions" {
				key = "default_permissions"
			}
			out = append(out, Setting{Key: key, Place: placeOf(e.Pos), text: key + ": " + written(e.Node)})
			continue
		}
		for _, n := range users {
			m, ok := n.Value.(*syntax.Map)
			if !ok {
				continue
			}
			s := Setting{User: str(m, "user") + str(m, "nkey"), Place: placeOf(n.Pos)}
			for _, field := range m.Entries {
				if field.Replaced == nil {
					s.text += canonical(field.Key) + ": " + written(field.Node) + "\n"
				}
			}
			out = append(out, s)
		}
	}
	return out
}

// literal is text that is written as it is.
type literal string

// written is a value as a configuration has it.
func written(n *syntax.Node) string {
	e := encoder{instead: func(n *syntax.Node) (any, bool) {
		if n.Env {
			return literal("$" + n.Var), true
		}
		return n.Value, true
	}}
	v, _ := e.instead(n)
	e.value(v, n)
	return strings.TrimRight(e.buf.String(), "\n")
}

// variable is a key outside of any block that others refer to.
type variable struct {
	key  string
	at   posture.Place
	used []string // paths of the keys that refer to it
}

// Orphans are keys that only the keys under these paths refer to. nats-server
// refuses them as unknown fields when those are deleted.
func (f *File) Orphans(deleted []string) map[string]posture.Place {
	out := map[string]posture.Place{}
	for _, v := range f.variables {
		if len(v.used) > 0 && !slices.ContainsFunc(v.used, func(path string) bool {
			return !slices.ContainsFunc(deleted, func(d string) bool { return path == d || strings.HasPrefix(path, d+".") })
		}) {
			out[v.key] = v.at
		}
	}
	return out
}

// variables lists the keys of a configuration that are no options.
func variables(root *syntax.Map) []variable {
	used := map[string][]string{}
	var visit func(path string, n *syntax.Node)
	visit = func(path string, n *syntax.Node) {
		if n.Var != "" && !n.Env {
			used[n.Var] = append(used[n.Var], path)
		}
		switch v := n.Value.(type) {
		case *syntax.Map:
			for _, e := range v.Entries {
				visit(strings.TrimPrefix(path+"."+canonical(e.Key), "."), e.Node)
			}
		case []*syntax.Node:
			for _, item := range v {
				visit(path, item)
			}
		}
	}
	visit("", &syntax.Node{Value: root})
	var out []variable
	for _, e := range root.Entries {
		if e.Used && e.Replaced == nil && isUnknown(e.Key) {
			out = append(out, variable{e.Key, placeOf(e.Pos), used[e.Key]})
		}
	}
	return out
}

// isUnknown reports whether nats-server takes a key for no option.
func isUnknown(key string) bool {
	err := (&server.Options{}).ProcessConfigString(fmt.Sprintf("%q: 0\n", key))
	return err != nil && strings.Contains(err.Error(), "unknown field")
}
