package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
)

// TestCookiesOfAnySite: credentials from cookies need a look at the page's origin.
func TestCookiesOfAnySite(t *testing.T) {
	pair, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	key, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		block string
		found string // the keys that the finding names, "" for no finding
	}{
		{"jwt_cookie: session", "jwt_cookie"},
		{"user_cookie: u, pass_cookie: p", "user_cookie, pass_cookie"},
		{"token_cookie: t", "token_cookie"},
		{"token_cookie: t, same_origin: false", "token_cookie"},
		{"token_cookie: t, allowed_origins: []", "token_cookie"},
		{"jwt_cookie: session, same_origin: true", ""},
		{`jwt_cookie: session, allowed_origins: [ "https://app.example.com" ]`, ""},
		{`jwt_cookie: session, allowed_origins: "https://app.example.com"`, ""},
		{"jwt_cookie: session, same_origin: $SAME", ""},
		{"same_origin: false", ""},
		{"compression: true", ""},
	} {
		file := filepath.Join(t.TempDir(), "n.conf")
		text := "authorization { users: [ { user: a, password: ahK0ohl0aith } ] }\n"
		if strings.Contains(c.block, "jwt_cookie") {
			text = "trusted_keys: [" + key + "]\n"
		}
		text += "websocket { port: 8080, no_tls: true, " + c.block + " }\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := exec(t, "lint", "--fail-on", "none", file)
		said := strings.Join(strings.Fields(r.stdout), " ")
		if found := strings.Contains(said, "WARNING TLS_007"); r.code != 0 || found != (c.found != "") || found && !strings.Contains(said, "takes credentials from cookies ("+c.found+")") {
			t.Errorf("%q: %+v", c.block, r)
		}
	}
}
