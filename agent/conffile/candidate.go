package conffile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

// Candidate reads what a configuration demands of those who connect. Includes
// are followed and variables replaced, by those of the environment too, as
// nats-server would. A configuration with which it would not start is an error.
// No error holds a password, a token or a key of the file.
func Candidate(path string) (*inside.Candidate, error) {
	tokens, err := conf.ParseFileWithChecks(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %s", filepath.Base(path), quoted.ReplaceAllString(err.Error(), "$1 'xxxxx'"))
	}
	variables := map[string]bool{}
	tree, _ := unwrap(tokens, variables).(map[string]any)
	c, err := candidate(tree, variables)
	if err != nil {
		return nil, fmt.Errorf("nats-server would not start with %s: %w", filepath.Base(path), scrub(err, secrets(tree)))
	}
	c.Name = filepath.Base(path)
	return c, nil
}

// quoted are the parts of a configuration that its parser quotes when it cannot read
// it. A password that begins with a dollar is a variable to it: of those only the
// names that are written as those of the environment are told.
var quoted = regexp.MustCompile(`\b(for|integer|float|got) '(?:[^'A-Z_][^']*|[A-Z_][A-Z0-9_]*[^'A-Z0-9_][^']*)?'`)

// unwrap is a value without what the parser notes of it, and notes the keys
// that are used as variables: nobody needs to know them otherwise.
func unwrap(value any, variables map[string]bool) any {
	if token, ok := value.(interface{ Value() any }); ok {
		value = token.Value()
	}
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			if token, ok := inner.(interface{ IsUsedVariable() bool }); ok && token.IsUsedVariable() {
				variables[key] = true
			}
			out[key] = unwrap(inner, variables)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = unwrap(v[i], variables)
		}
		return out
	default:
		return value
	}
}

func candidate(tree map[string]any, variables map[string]bool) (*inside.Candidate, error) {
	r := reduce(tree)
	if r.operator {
		if err := r.loneOperator(); err != nil {
			return nil, err
		}
	}
	opts, err := options(r.tree, variables)
	if err != nil {
		return nil, err
	}
	c := &inside.Candidate{
		AuthRequired: r.operator || opts.Users != nil || opts.Nkeys != nil || opts.Username != "" || opts.Authorization != "",
		Operator:     r.operator, Sentinel: r.sentinel, Callout: opts.AuthCallout != nil,
		Token: opts.Authorization != "", User: opts.Username, NoAuthUser: opts.NoAuthUser, SystemAccount: opts.SystemAccount,
		Users: map[string]inside.User{}, NKeys: map[string]inside.User{}, Doors: r.doors(opts),
		Leaf: inside.LeafAuth{User: opts.LeafNode.Username, NKey: opts.LeafNode.Nkey, Users: users(opts.LeafNode.Users)},
	}
	if r.operator { // nobody has users or a system account of the configuration then
		c.NoAuthUser, c.SystemAccount = "", ""
		return c, nil
	}
	c.Users = users(opts.Users)
	for _, u := range opts.Nkeys {
		c.NKeys[u.Nkey] = inside.User{
			Account: accountName(u.Account), Types: slices.Sorted(maps.Keys(u.AllowedConnectionTypes)), Restricted: u.Permissions != nil, Proxied: u.ProxyRequired,
		}
	}
	if opts.ProxyRequired && (c.User != "" || c.Token) {
		return nil, errors.New("proxy_required of the authorization block is not understood here")
	}
	return c, nil
}

var bcryptHash = regexp.MustCompile(`^\$2[abxy]\$\d{2}\$`)

func users(list []*server.User) map[string]inside.User {
	out := make(map[string]inside.User, len(list))
	for _, u := range list {
		out[u.Username] = inside.User{
			Account: accountName(u.Account), Types: slices.Sorted(maps.Keys(u.AllowedConnectionTypes)),
			Hashed: bcryptHash.MatchString(u.Password), Restricted: u.Permissions != nil, Proxied: u.ProxyRequired,
		}
	}
	return out
}

func accountName(a *server.Account) string {
	if a == nil {
		return ""
	}
	return a.GetName()
}

var unknownField = regexp.MustCompile(`unknown field "([^"]*)"$`)

// options are the effective options of a configuration: some are made up by the
// server only when it starts, such as the hidden user.
func options(tree map[string]any, variables map[string]bool) (*server.Options, error) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text) // nats-server's own format takes JSON
	enc.SetEscapeHTML(false)
	if err := enc.Encode(tree); err != nil {
		return nil, fmt.Errorf("rewrite it: %w", err)
	}
	opts := &server.Options{NoLog: true, NoSigs: true, DontListen: true}
	if err := opts.ProcessConfigString(text.String()); err != nil {
		var several interface{ Errors() []error }
		if !errors.As(err, &several) {
			return nil, err
		}
		// Beside errors there are warnings.
		if err := errors.Join(slices.DeleteFunc(several.Errors(), func(err error) bool {
			m := unknownField.FindStringSubmatch(err.Error())
			return m != nil && variables[m[1]]
		})...); err != nil {
			return nil, err
		}
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return nil, err
	}
	s.Shutdown()
	return opts, nil
}

// reduced is a configuration without what has side effects or needs other
// files, and what was to be known of that.
type reduced struct {
	tree               map[string]any
	operator, sentinel bool
	clientTLS          map[string]any
	allowNonTLS        bool
	tls                map[string]map[string]any // by block
}

// blocks are the listeners that have a block, by its names.
var blocks = map[posture.DoorKind][]string{
	posture.Websocket: {"websocket", "ws"}, posture.MQTT: {"mqtt"}, posture.Leafnode: {"leafnodes", "leaf"},
	posture.Route: {"cluster"}, posture.Gateway: {"gateway"},
}

func reduce(tree map[string]any) *reduced {
	r := &reduced{tree: map[string]any{}, tls: map[string]map[string]any{}}
	for key, value := range tree {
		switch name := strings.ToLower(key); name {
		case "operator", "operators", "root", "roots", "root_operator", "root_operators", "trusted", "trusted_keys":
			r.operator = true
		case "default_sentinel":
			r.sentinel = true
		case "tls":
			r.clientTLS, _ = value.(map[string]any)
		case "allow_non_tls":
			r.allowNonTLS, _ = value.(bool)
		case "resolver", "account_resolver", "accounts_resolver", "resolver_tls", "resolver_preload", "resolver_pinned_accounts",
			"http", "https", "http_port", "https_port", "monitor_port", "prof_port", "ocsp", "ocsp_cache", "store_dir", "storedir",
			"logfile", "log_file", "syslog", "remote_syslog", "pidfile", "pid_file", "ports_file_dir":
		default:
			if block, ok := value.(map[string]any); ok {
				if tls, ok := lookup(block, "tls").(map[string]any); ok {
					r.tls[name] = tls
				}
			}
			r.tree[key] = plain(value)
		}
	}
	for _, name := range blocks[posture.Websocket] {
		if block, ok := lookup(r.tree, name).(map[string]any); ok {
			drop(block, "no_tls", "jwt_cookie")
			block["no_tls"] = true
		}
	}
	return r
}

// plain is a value without TLS blocks and store directories.
func plain(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, inner := range v {
			switch _, block := inner.(map[string]any); strings.ToLower(key) {
			case "tls":
				if block {
					continue
				}
			case "store_dir", "storedir", "store":
				continue
			}
			out[key] = plain(inner)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = plain(v[i])
		}
		return out
	default:
		return value
	}
}

func lookup(tree map[string]any, name string) any {
	for key, value := range tree {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return nil
}

func drop(tree map[string]any, names ...string) {
	maps.DeleteFunc(tree, func(key string, _ any) bool { return slices.Contains(names, strings.ToLower(key)) })
}

// loneOperator leaves what can be read without the operator's files, and says
// what nats-server refuses beside an operator (jwt.go, validateTrustedOperators).
func (r *reduced) loneOperator() error {
	if lookup(r.tree, "accounts") != nil {
		return errors.New("operators do not allow accounts to be configured directly")
	}
	if lookup(r.tree, "no_auth_user") != nil {
		return errors.New("no_auth_user is not compatible with an operator")
	}
	if auth, ok := lookup(r.tree, "authorization").(map[string]any); ok {
		if lookup(auth, "users") != nil {
			return errors.New("operators do not allow users to be configured directly")
		}
		if lookup(auth, "auth_callout") != nil {
			return errors.New("operators do not allow authorization callouts to be configured directly")
		}
	}
	drop(r.tree, "system_account", "system")
	// Accounts have other names here, and leafnodes beside gateways want a
	// system account.
	for _, name := range blocks[posture.Leafnode] {
		if leafs, ok := lookup(r.tree, name).(map[string]any); ok {
			dropDeep(leafs, "account")
		}
	}
	r.tree["accounts"] = map[string]any{"SYS": map[string]any{}}
	r.tree["system_account"] = "SYS"
	return nil
}

func dropDeep(value any, name string) {
	switch v := value.(type) {
	case map[string]any:
		drop(v, name)
		for _, inner := range v {
			dropDeep(inner, name)
		}
	case []any:
		for _, inner := range v {
			dropDeep(inner, name)
		}
	}
}

// doors are the listeners that there will be.
func (r *reduced) doors(o *server.Options) map[posture.DoorKind]inside.Door {
	out := map[posture.DoorKind]inside.Door{}
	add := func(kind posture.DoorKind, port int, d inside.Door) {
		if port == 0 {
			return
		}
		tls := r.clientTLS
		for _, name := range blocks[kind] {
			tls = r.tls[name]
			if tls != nil {
				break
			}
		}
		yes := func(key string) bool { v, _ := lookup(tls, key).(bool); return v }
		d.Map = yes("verify_and_map") || yes("verify_cert_and_check_known_urls")
		d.Verify = d.Map || yes("verify")
		d.Offered = tls != nil
		d.TLS = d.Offered && (kind != posture.Client || !r.allowNonTLS)
		if kind != posture.Client || lookup(r.tree, "port") != nil || lookup(r.tree, "listen") != nil {
			d.Port = port
		}
		out[kind] = d
	}
	add(posture.Client, o.Port, inside.Door{})
	add(posture.Websocket, o.Websocket.Port, inside.Door{NoAuthUser: o.Websocket.NoAuthUser, User: o.Websocket.Username, Token: o.Websocket.Token != ""})
	add(posture.MQTT, o.MQTT.Port, inside.Door{NoAuthUser: o.MQTT.NoAuthUser, User: o.MQTT.Username, Token: o.MQTT.Token != ""})
	add(posture.Leafnode, o.LeafNode.Port, inside.Door{})
	add(posture.Route, o.Cluster.Port, inside.Door{User: o.Cluster.Username})
	add(posture.Gateway, o.Gateway.Port, inside.Door{User: o.Gateway.Username})
	return out
}

// secretKeys are the keys of secrets, by the names that nats-server gives them.
var secretKeys = []string{"pass", "password", "token", "seed", "xkey", "key", "nkey", "default_sentinel", "operator", "jwt", "credentials", "auth_token"}

// secrets lists the secrets of a configuration, and URLs, which may hold some.
func secrets(value any) []string {
	var out []string
	switch v := value.(type) {
	case map[string]any:
		for key, inner := range v {
			text, ok := inner.(string)
			if ok && len(text) > 2 && (slices.Contains(secretKeys, strings.ToLower(key)) || strings.Contains(text, "@")) {
				out = append(out, text)
			}
			out = append(out, secrets(inner)...)
		}
	case []any:
		for _, inner := range v {
			if text, ok := inner.(string); ok && strings.Contains(text, "@") {
				out = append(out, text)
			}
			out = append(out, secrets(inner)...)
		}
	}
	return out
}

// position is a place in the rewritten text, of which nobody knows.
var position = regexp.MustCompile(`(?m)^:\d+:\d+: `)

func scrub(err error, secrets []string) error {
	text := position.ReplaceAllString(err.Error(), "")
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "xxxxx")
	}
	return errors.New(text)
}
