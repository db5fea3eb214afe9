package conffile

import (
	"strings"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
)

// spellings are the keys that nats-server takes for one another, by the one
// that is told.
var spellings = map[string]string{
	"ws": "websocket", "leaf": "leafnodes", "system": "system_account", "net": "host", "monitor_port": "http_port",
	"no_system": "no_system_account", "no_sys_acc": "no_system_account", "maps": "mappings",
	"operators": "operator", "root": "operator", "roots": "operator", "root_operator": "operator", "root_operators": "operator",
	"trusted": "trusted_keys", "account_resolver": "resolver", "accounts_resolver": "resolver",
	"username": "user", "pass": "password", "default_permission": "permissions", "default_permissions": "permissions",
	"auth_hook": "auth_callout", "authentication": "authorization", "storedir": "store_dir",
	"reject_unknown": "reject_unknown_cluster", "first": "handshake_first", "immediate": "handshake_first", "certificates": "certs",
}

// canonical is a key in the spelling in which it is told. nats-server does not
// look at case.
func canonical(key string) string {
	key = strings.ToLower(key)
	if to, ok := spellings[key]; ok {
		return to
	}
	return key
}

// named are the blocks whose keys are names, and so have one spelling only.
func named(path []string) bool {
	switch last(path) {
	case "accounts", "mappings", "headers", "server_metadata", "resolver_preload", "default_js_domain", "feature_flags":
		return true
	}
	return false
}

func last(path []string) string {
	if len(path) == 0 {
		return ""
	}
	return path[len(path)-1]
}

// authKeys decide who gets in.
var authKeys = map[string]bool{
	"authorization": true, "accounts": true, "no_auth_user": true, "operator": true, "trusted_keys": true, "system_account": true, "tls": true,
	"allow_non_tls": true, "resolver": true, "resolver_preload": true, "default_sentinel": true, "users": true, "user": true, "password": true,
	"token": true, "nkey": true, "permissions": true, "allowed_connection_types": true, "verify": true, "verify_and_map": true, "auth_callout": true,
	"no_tls": true, "proxy_required": true, "account": true, "websocket": true, "mqtt": true, "leafnodes": true, "cluster": true, "gateway": true,
}

// get is the entry of a key in any spelling; of several one is taken.
func get(m *syntax.Map, key string) *syntax.Entry {
	if m == nil {
		return nil
	}
	for _, e := range m.Entries {
		if e.Replaced == nil && canonical(e.Key) == key {
			return e
		}
	}
	return nil
}

// block is the block under a path.
func block(m *syntax.Map, path ...string) *syntax.Map {
	for _, key := range path {
		e := get(m, key)
		if e == nil {
			return nil
		}
		m, _ = e.Node.Value.(*syntax.Map)
	}
	return m
}

// text is the string under a key, "" if there is none.
func str(m *syntax.Map, key string) string {
	if e := get(m, key); e != nil {
		s, _ := e.Node.Value.(string)
		return s
	}
	return ""
}

func yes(m *syntax.Map, key string) bool {
	if e := get(m, key); e != nil {
		b, _ := e.Node.Value.(bool)
		return b
	}
	return false
}

// walk visits every entry that counts, with its path. The path must not be
// kept.
func walk(m *syntax.Map, path []string, visit func(path []string, in *syntax.Map, e *syntax.Entry)) {
	for _, e := range m.Entries {
		if e.Replaced != nil {
			continue
		}
		key := canonical(e.Key)
		if named(path) {
			key = e.Key
		}
		inner := append(path, key)
		visit(inner, m, e)
		walkValue(e.Node.Value, inner, visit)
	}
}

func walkValue(v any, path []string, visit func(path []string, in *syntax.Map, e *syntax.Entry)) {
	switch v := v.(type) {
	case *syntax.Map:
		walk(v, path, visit)
	case []*syntax.Node:
		for _, n := range v {
			walkValue(n.Value, path, visit)
		}
	}
}
