package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/conffile/form"
)

// notRecognised are files that are no configurations by themselves, and say nothing
// of nats-server: parts of others, and what is broken on purpose.
var notRecognised = map[string]bool{
	"server/configs/gws.conf":                      true,
	"server/configs/malformed_listen_address.conf": true, "server/configs/reload/invalid.conf": true, "test/configs/auths.conf": true,
}

// TestRecognised: no configuration of nats-server's own tests is taken for a file of
// another program or for a template, although its name says nothing.
func TestRecognised(t *testing.T) {
	comments := regexp.MustCompile(`\s|(?m)^\s*(?:#|//).*$`)
	placeholder := regexp.MustCompile(`\{\{(?:addr|port|file|dir|host|name|bcrypt) [^}]*\}\}`) // of the fleet builder
	root := t.TempDir()
	n := 0
	check := func(name, file string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n++
		if f, ok := form.Of("server.conf", text); ok {
			t.Errorf("%s: %s", name, f)
		}
		if comments.ReplaceAllString(string(text), "") == "" {
			return // nothing is left that could be recognised
		}
		if notRecognised[name] == form.Servers(filepath.Join(filepath.Dir(file), "server.conf"), text, conffile.Disk) {
			t.Errorf("%s: recognised: %v:\n%.400s", name, notRecognised[name], text)
		}
	}
	for _, name := range copyConfigurations(t, serverModule(t), root) {
		check(name, filepath.Join(root, filepath.FromSlash(name)))
	}
	for _, c := range slices.Concat(inlineCases(t), truthCases(t)) {
		if c.file == "" {
			c.file = filepath.Join(root, fmt.Sprintf("by-hand-%d.conf", n))
			if err := os.WriteFile(c.file, placeholder.ReplaceAll([]byte(c.config), []byte("x")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		check(c.name, c.file)
	}
	if n < 900 {
		t.Errorf("only %d configurations", n)
	}
}
