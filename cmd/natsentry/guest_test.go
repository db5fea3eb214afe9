package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestGuests: what lint says of a no_auth_user does not contradict what it says of
// the listeners.
func TestGuests(t *testing.T) {
	const (
		hash   = `accounts { A { users: [ { user: guest, password: "$2a$04$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6" } ] } }` + "\n"
		plain  = "accounts { A { users: [ { user: guest, password: ohx5Ohkahp } ] } }\n"
		socket = "accounts { A { users: [ { user: guest, password: ohx5Ohkahp, allowed_connection_types: [WEBSOCKET] } ] } }\n"
		named  = "no_auth_user: guest\n"
	)
	for _, c := range []struct {
		text  string
		args  []string
		wants []string
		not   string
	}{
		{plain + named, nil, []string{"client ✗ OPEN", "WARNING   CONF_004", "takes anonymous clients for guest"}, "cannot be used"},
		{hash + named, nil, []string{"client ✓ closed", "INFO      CONF_004", "guest cannot be used: the client listener is closed, the password of that user is a hash"}, "takes anonymous clients for guest"},
		{hash + named, []string{"--server-version", "2.15.2"}, []string{"client ✓ closed", "guest cannot be used"}, "takes anonymous clients for guest"},
		// These take a client that sends no CONNECT for that user all the same.
		{hash + named, []string{"--server-version", "2.11.6"}, []string{"client ✗ OPEN", "WARNING   CONF_004"}, "cannot be used"},
		{socket + named, nil, []string{"client ✓ closed", "INFO      CONF_004", "may not come this way"}, "takes anonymous clients for guest"},
		{socket + named + "websocket { port: 8080, no_tls: true }\n", nil, []string{"client ✓ closed", "websocket ✗ OPEN", "WARNING   CONF_004"}, "cannot be used"},
		{plain + named + "tls { cert_file: a, key_file: b, ca_file: c, verify: true }\n", nil, []string{"client ✓ closed", "INFO      CONF_004", "cannot be used: the client listener is closed"}, "takes anonymous clients for guest"},
		{hash + "websocket { port: 8080, no_tls: true, no_auth_user: guest }\n", nil, []string{"websocket ✓ closed", "guest cannot be used: the websocket listener is closed"}, "takes anonymous clients for guest"},
	} {
		file := filepath.Join(t.TempDir(), "n.conf")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		r := exec(t, append([]string{"lint", "--verbose", "--fail-on", "none", file}, c.args...)...)
		said := strings.Join(strings.Fields(r.stdout), " ")
		for _, want := range c.wants {
			if r.code != 0 || !strings.Contains(said, strings.Join(strings.Fields(want), " ")) {
				t.Errorf("%v of %q does not say %q: %+v", c.args, c.text, want, r)
			}
		}
		if strings.Contains(said, c.not) {
			t.Errorf("%v of %q says %q:\n%s", c.args, c.text, c.not, r.stdout)
		}
	}
}
