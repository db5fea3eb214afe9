package conffile

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/conf"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestDigest: the digest of a configuration is the one that nats-server gives it.
func TestDigest(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NATSENTRY_TEST", "[1, 2.50, {a: 2026-01-02T03:04:05Z}]")
	dir := write(t, map[string]string{
		"a.conf": "x: 7\nport: $x\nv: $NATSENTRY_TEST\ntext: \"<&>\\x80\\u2028\"\nf: 1.0\ng: -0.5\nbig: 9007199254740993\np: $2a$11$abc\nlist: [ {a: 1, a: 2}, [] ]\ninclude b.conf\nx2: 1\nx2: 2\n",
		"b.conf": "y { z: yes, z2: $z }\nPort: 1\n",
	})
	n := 0
	for _, root := range []string{dir, strings.TrimSpace(string(out))} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || filepath.Ext(path) != ".conf" {
				return err
			}
			_, want, err := conf.ParseFileWithChecksDigest(path)
			if err != nil {
				return nil
			}
			n++
			r, err := open(OnDisk(path))
			if err != nil || len(r.config.Marks) == 0 || r.config.Marks[0] != posture.MarkOf(want) {
				t.Errorf("%s: not its digest: %v", path, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if n < 90 {
		t.Errorf("only %d configurations", n)
	}
}

// TestDigestOfOldServers: keys to which variables refer did not count, at any
// depth but in arrays; and without the value of a variable there is none.
func TestDigestOfOldServers(t *testing.T) {
	read := func(text string) *syntax.Map {
		tree, err := syntax.Parse("a.conf", []byte(text), syntax.Surroundings{})
		if err != nil {
			t.Fatal(err)
		}
		return tree.Root
	}
	same := func(a, b string, used bool) bool {
		x, err := digest(read(a), used)
		if err != nil {
			t.Fatal(err)
		}
		y, err := digest(read(b), true)
		if err != nil {
			t.Fatal(err)
		}
		return x == y
	}
	with, without := "x: 7\nport: $x\nb { y: 1, z: $y }\nl: [ { v: 1, w: $v } ]", "port: 7\nb { z: 1 }\nl: [ { v: 1, w: 1 } ]"
	if !same(with, without, false) || same(with, without, true) {
		t.Error("variables count where they do not, or do not where they do")
	}
	r, err := open(Source{Name: "a.conf", Text: []byte("port: $NOBODY")})
	if err != nil || r.config.Marks != nil {
		t.Errorf("%v, %v", r, err)
	}
}
