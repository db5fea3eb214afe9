package conffile

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// typedKeys are the keys that decide who gets in, and others beside them, with %s
// in the place of a value.
var typedKeys = []string{
	"authorization: %s", "authorization { user: %s }", "authorization { user: a, password: %s }", "authorization { token: %s }", "authorization { timeout: %s }",
	"authorization { users: %s }", "authorization { users: [ %s ] }", "authorization { users: [ {user: %s} ] }", "authorization { users: [ {user: a, password: %s} ] }",
	"authorization { users: [ {nkey: %s} ] }", "authorization { users: [ {user: a, permissions: %s} ] }", "authorization { users: [ {user: a, permissions: { publish: %s } } ] }",
	"authorization { users: [ {user: a, allowed_connection_types: %s} ] }", "authorization { users: [ {user: a, proxy_required: %s} ] }",
	"authorization { default_permissions: %s }", "authorization { auth_callout: %s }", "authorization { auth_callout { issuer: %s } }",
	"authorization { auth_callout { auth_users: %s } }", "authorization { auth_callout { account: %s } }", "authorization { auth_callout { xkey: %s } }",
	"authorization { proxy_required: %s }",
	"accounts: %s", "accounts { A: %s }", "accounts { A { users: %s } }", "accounts { A { users: [ {user: %s} ] } }", "accounts { A { users: [ {user: a, password: %s} ] } }",
	"accounts { A { nkey: %s } }", "accounts { A { jetstream: %s } }", "accounts { A { exports: %s } }", "accounts { A { imports: %s } }",
	"no_auth_user: %s", "system_account: %s", "operator: %s", "operator: [ %s ]", "trusted_keys: %s", "trusted_keys: [ %s ]", "resolver: %s", "resolver { type: %s }",
	"resolver_preload: %s", "default_sentinel: %s", "no_system_account: %s", "allow_non_tls: %s",
	"tls: %s", "tls { cert_file: %s, key_file: b }", "tls { cert_file: a, key_file: b, ca_file: c, verify: %s }", "tls { cert_file: a, key_file: b, verify_and_map: %s }",
	"tls { cert_file: a, key_file: b, timeout: %s }", "tls { cert_file: a, key_file: b, pinned_certs: %s }", "tls { cert_file: a, key_file: b, handshake_first: %s }",
	"tls { cert_file: a, key_file: b, cipher_suites: %s }", "tls { cert_file: a, key_file: b, min_version: %s }", "tls { cert_file: a, key_file: b, insecure: %s }",
	"websocket: %s", "websocket { port: 80, no_tls: %s }", "websocket { port: 80, no_tls: true, no_auth_user: %s }", "websocket { port: 80, no_tls: true, authorization: %s }",
	"websocket { port: 80, no_tls: true, authorization { user: a, password: %s } }", "websocket { port: %s, no_tls: true }", "websocket { listen: %s, no_tls: true }",
	"mqtt: %s", "jetstream: enabled\nmqtt { port: 1, authorization { token: %s } }", "jetstream: enabled\nmqtt { port: 1, no_auth_user: %s }",
	"leafnodes: %s", "leafnodes { port: 1, authorization: %s }", "leafnodes { port: 1, authorization { user: %s } }", "leafnodes { port: 1, authorization { user: a, password: %s } }",
	"leafnodes { port: 1, authorization { users: %s } }", "leafnodes { port: 1, authorization { users: [ { user: a, password: %s } ] } }",
	"leafnodes { port: 1, authorization { users: [ { user: a, account: %s } ] } }", "leafnodes { port: 1, authorization { account: %s } }", "leafnodes { port: 1, authorization { nkey: %s } }",
	"leafnodes { remotes: %s }", "leafnodes { remotes: [ %s ] }", "leafnodes { remotes: [ { url: %s } ] }", "leafnodes { remotes: [ { urls: %s } ] }", "leafnodes { remotes: [ { url: \"nats://a\", account: %s } ] }",
	"cluster: %s", "cluster { port: 1, authorization: %s }", "cluster { port: 1, authorization { user: a, password: %s } }", "cluster { port: 1, authorization { token: %s } }",
	"cluster { port: 1, routes: %s }", "cluster { port: 1, routes: [ %s ] }",
	"gateway: %s", "gateway { name: g, port: 1, authorization { user: a, password: %s } }", "gateway { name: g, port: 1, gateways: %s }", "gateway { name: g, port: 1, gateways: [ %s ] }",
	"gateway { name: g, port: 1, reject_unknown_cluster: %s }",
	"port: %s", "listen: %s", "host: %s", "http: %s", "http_port: %s", "https: %s", "prof_port: %s", "server_name: %s", "jetstream: %s", "jetstream { key: %s }",
	"proxies: %s", "proxies { trusted: %s }", "proxies { trusted: [ { key: %s } ] }",
}

// Texts that only somebody who knows Go understands.
var ofGo = regexp.MustCompile(`(?i)interface|runtime error|nil pointer|0x[0-9a-f]{4}|%!|map\[|time\.Time|int64|float64|conf\.token|crash`)

var secret = regexp.MustCompile(`password|token|users: (\[ )?%s`)

// TestWrongTypes: a value of a wrong type is refused as nats-server refuses it, in a
// sentence with its place, and never in the words of a panic.
func TestWrongTypes(t *testing.T) {
	wrong := []string{"12345", "true", "1.5", "2020-01-02T00:00:00Z", "[hush-hush]", "{hush: hush}", `"hush-hush"`}
	for _, key := range typedKeys {
		for _, value := range wrong {
			text := fmt.Sprintf(key, value)
			f := read(t, text)
			for _, r := range f.Server.Config.Refused {
				if ofGo.MatchString(r.Text) || r.Place.Line == 0 || strings.Contains(r.Text, "12345") || strings.Contains(r.Text, "hush-hush") && secret.MatchString(key) {
					t.Errorf("%s: %s: %s", text, r.Place, r.Text)
				}
			}
			// nats-server itself, where neither keys nor files are needed to ask it.
			if strings.Contains(key, "operator") || strings.Contains(key, "resolver") || strings.Contains(key, "sentinel") || strings.Contains(key, "tls {") {
				continue
			}
			o := &server.Options{NoLog: true, NoSigs: true, DontListen: true}
			err := o.ProcessConfigString(text)
			if several, ok := err.(interface{ Errors() []error }); ok && len(several.Errors()) == 0 {
				err = nil // warnings
			}
			var s *server.Server
			if err == nil {
				s, err = server.NewServer(o)
			}
			if s != nil {
				s.Shutdown()
			}
			if err != nil && len(f.Server.Config.Refused) == 0 {
				t.Errorf("%s: lint takes it, and nats-server says: %v", text, err)
			}
			for _, r := range f.Server.Config.Refused {
				if err == nil && (strings.Contains(r.Text, " must be ") || strings.Contains(r.Text, " cannot be ")) {
					t.Errorf("%s: nats-server takes it, and lint says: %s", text, r.Text)
				}
			}
		}
	}
	for text, want := range map[string]string{
		"\n\nauthorization { user: a, password: 12345 }":          "n1.conf:3:26: password must be text, and this is a whole number: quote it",
		"authorization {\n token: true }":                         "n1.conf:2:2: token must be text, and this is a boolean: quote it",
		"authorization { users: [ {user: 7} ] }":                  "n1.conf:1:27: user must be text, and this is a whole number: quote it",
		"no_auth_user: [a]":                                       "n1.conf:1:1: no_auth_user must be text, and this is a list",
		"authorization: true":                                     "n1.conf:1:1: authorization must be a block, and this is a boolean",
		"allow_non_tls: \"yes\"":                                  "n1.conf:1:1: allow_non_tls must be true or false, and this is text",
		"port: x":                                                 "n1.conf:1:1: port must be a whole number, and this is text",
		"accounts { A { users: [ {user: a, password: 0123} ] } }": "n1.conf:1:35: password must be text, and this is a whole number: quote it",
		"authorization { users: [ \"app:pass\" ] }":               "Expected user entry to be a map/struct: an entry of users cannot be text",
	} {
		refused := read(t, text).Server.Config.Refused
		if len(refused) != 1 || !strings.Contains(refused[0].Place.String()+": "+refused[0].Text, want) {
			t.Errorf("%q: %v, want %q", text, refused, want)
		}
	}
}
