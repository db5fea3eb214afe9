package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/manifest"
	"github.com/natsentry/natsentry/integration/fleet"
)

// The manifests in testdata are about what the official Helm chart renders, and
// what else people apply. Each configuration is linted where it stands; and a
// real server is started with what the container would see: its files in a folder
// that stands for its root, its flags, and values for variables that only the
// cluster or an object of somebody else gives.

// manifestCases reads them; ask asks lint and the stranger about every configuration
// in them.
func manifestCases(t *testing.T) (ask func(*testing.T) []answer) {
	t.Helper()
	paths, err := filepath.Glob("testdata/manifests/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	ca := newAuthority(t)
	var cases []truthCase
	configurations := map[string]*manifest.Configuration{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var set manifest.Set
		if err := set.Add(path, text); err != nil {
			t.Fatal(err)
		}
		all, err := set.Configurations(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			name := filepath.Base(path) + " " + c.Name
			f, err := c.File()
			if err != nil {
				t.Fatal(err)
			}
			if c.Fragment && slices.ContainsFunc(all, func(o *manifest.Configuration) bool { return includes(t, o, c.Path) }) {
				continue
			}
			configurations[name] = c
			cases = append(cases, manifestCase(t, name, c, f.Includes(), ca))
		}
	}
	return func(t *testing.T) []answer {
		return askEach(t, cases, func(t *testing.T, c *truthCase) answer { return askManifest(t, c, configurations[c.name]) })
	}
}

func includes(t *testing.T, c *manifest.Configuration, path string) bool {
	t.Helper()
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Contains(f.Includes(), path)
}

var (
	inPod     = regexp.MustCompile(`/(?:etc/nats-(?:config|certs)|data|var/run/nats)\b`)
	ofPod     = regexp.MustCompile(`\$([A-Z_]+)\b`)
	certInPod = regexp.MustCompile(`/etc/nats-certs/([a-z]+)/tls\.crt`)
)

// manifestCase lays out the files of a container, and starts a server with them.
func manifestCase(t *testing.T, name string, c *manifest.Configuration, includes []string, ca *authority) truthCase {
	t.Helper()
	root := t.TempDir()
	put := func(path, text string) {
		path = filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	args := c.Args
	if c.Text == nil {
		args = append(slices.Clone(args), "-c", filepath.Join(root, filepath.FromSlash(c.Path)))
		for _, path := range append(includes, c.Path, "/etc/nats-config/operator.jwt") {
			raw, err := c.Read(filepath.ToSlash(path))
			if err != nil {
				continue // only some have an operator
			}
			text := inPod.ReplaceAllStringFunc(string(raw), func(p string) string { return filepath.ToSlash(root) + p })
			text = ofPod.ReplaceAllStringFunc(text, func(v string) string {
				value, ok := c.Env(v[1:])
				if !ok {
					value = "nats-0"
				}
				return fmt.Sprintf("%q", value)
			})
			put(path, text)
			for _, m := range certInPod.FindAllStringSubmatch(string(raw), -1) {
				files := ca.files(365 * 24 * time.Hour)
				put("/etc/nats-certs/"+m[1]+"/tls.crt", files["cert.pem"])
				put("/etc/nats-certs/"+m[1]+"/tls.key", files["key.pem"])
				put("/etc/nats-certs/"+m[1]+"/ca.crt", files["ca.pem"])
			}
		}
	}
	o, err := fleet.Options(slices.Clone(args)...)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	var ports strings.Builder
	for _, label := range corpusDoors(o) {
		fmt.Fprintf(&ports, "# {{port %q}}\n", label)
	}
	out := truthCase{name: name, config: ports.String()}
	for _, g := range o.Gateway.Gateways {
		out.gateways = append(out.gateways, g.Name)
	}
	out.options = func(label func(string) string, into *server.Options) {
		move(o, label)
		*into = *o
	}
	return out
}

func askManifest(t *testing.T, c *truthCase, from *manifest.Configuration) answer {
	t.Helper()
	s, err := startTried(t, c)
	if err != nil {
		t.Fatalf("the server does not start: %v", err)
	}
	file, err := from.File()
	if err != nil {
		t.Fatal(err)
	}
	l := lintedFile(t, file, s)
	for _, d := range l.server.Doors {
		t.Logf("%s: %s %s", d.Kind, d.Access, d.Reason)
	}
	return answer{asked: true, lint: l, truths: lintTruths(t, c, l, s)}
}
