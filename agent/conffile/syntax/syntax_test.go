package syntax

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/conf"
)

func module(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// plain is a tree as nats-server's parser gives it.
func plain(v any) any {
	switch v := v.(type) {
	case *Map:
		out := map[string]any{}
		for _, e := range v.Entries {
			if e.Replaced == nil {
				out[e.Key] = plain(e.Node.Value)
			}
		}
		return out
	case []*Node:
		out := make([]any, 0, len(v))
		for _, n := range v {
			out = append(out, plain(n.Value))
		}
		return out
	default:
		return v
	}
}

func disk(path string) ([]byte, error) { return os.ReadFile(path) }

// theirs is what nats-server's parser makes of a text, bugs included.
func theirs(path string) (m map[string]any, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			m, err = nil, fmt.Errorf("panic: %v", bug)
		}
	}()
	return conf.ParseFile(path)
}

// odd tells whether it was refused though nats-server may read it.
func odd(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Odd
}

// agree holds the two parsers against each other on one file.
func agree(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want, wantErr := theirs(path)
	tree, err := Parse(path, text, Surroundings{Read: disk, Env: os.LookupEnv})
	if err == nil && len(tree.Unset) > 0 {
		err = ErrUnset
	}
	if (err == nil) != (wantErr == nil) && !odd(err) {
		t.Errorf("%s: %v, and nats-server says %v", path, err, wantErr)
		return
	}
	if err != nil {
		return
	}
	if diff := cmp.Diff(want, plain(tree.Root)); diff != "" {
		t.Errorf("%s (-nats-server +here):\n%s", path, diff)
	}
}

// TestSameAsTheServer reads every configuration file of nats-server's module
// with both parsers.
func TestSameAsTheServer(t *testing.T) {
	root, n := module(t), 0
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && filepath.Ext(path) == ".conf" {
			n++
			agree(t, path)
		}
		return err
	})
	if err != nil || n < 100 {
		t.Fatalf("%d files: %v", n, err)
	}
}

var texts = []string{
	"", "a", "a: 1", "a: 1k, b: 2KiB; c = 3e", "{a: 1}", "a {b: [1, 2.5, x, 'y', \"z\\x41\", true, 2026-01-02T03:04:05Z, {c: d}]}",
	"a: $a", "x: 1\na: $x\nb {x: 2, c: $x}\nd: $x", "p: $2a$11$abcdefg", "a: $NOBODY", "a: 1\na: 2\na: {b: 1}", "A: 1\na: 2", "a: (\nx\n)\n", "a: 127.0.0.1:4222",
	"}", "]", "a: ]", "a {", "a [", "[", "{{a:1}}", "include 'nowhere.conf'", "a { include x }", "'a b': 1\n\"c\": 2", "a: 99999999999999999999", "a: -1", "a: 1x", "a: 5mm",
	"[1]", "a: [1]", "a: [1 ]", "a: [1k]", "a: 1]", "a: (\n)", "a: (\nx\n)", "a: (\n)\r\n", "x: 1\na: true'", "x: 1\na: $x'", "x: 1\na: \\x24x", "a:", "a", "}", "a: 1\n}\n", "a: 1 }\nb: 2",
	"{a: 1", "{a: 1\n", "{{a: 1}\nb: 2}", "{{a: 1},b: 2}", "{{a: 1} # x\nb: 2}", "a\n: 1", "a:\n1", "{a\n:\n1}", "b {a\n:\n1}", "a: 9223372036854775807k", "a: -1.2.3-:4", "a: -5kx", "a: 1'x'", "a: 1\\x", "b {a }", "b {a: }", "b {/a: 1}", "a: 1 /\nb: 2",
	"a: 5mbb\nb: 1", "a: '", "'", "\"", "a: ['", "include", "Include x", "b { include: 1 }", "INCLUDE\nx", "a: \u0663", "a: 1\u0663", "a: 1.\u0663", "a: ye\u017f", "\u00a0a\u2003: 1", "a: [ # x\n1 // y\n, 2 ]", "a: $", "\"\": 1\na: $", "a: \"\\x4\"", "a: \\x+1",
	"a: \"\\q\"", "# x\n// y\na: 1 # z", "a 1 b 2", "a: 1}", "a: {b: 1}}", "\x00", "a: \"\x00\"", "\xff: \xfe", "a: 9.9.9", "a:\n1", "a: true false", "include: x",
}

func TestOddTexts(t *testing.T) {
	dir := t.TempDir()
	for i, text := range texts {
		path := filepath.Join(dir, fmt.Sprintf("%d.conf", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		agree(t, path)
	}
}

// TestIncludeOfVariable: an include in a variable of the environment is looked
// for where the server runs, not beside the file.
func TestIncludeOfVariable(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("NATSENTRY_TEST", "{ include x.conf }")
	if err := os.Mkdir("sub", 0o700); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"sub/a.conf": "v: $NATSENTRY_TEST", "x.conf": "here: 1", "sub/x.conf": "there: 1"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	agree(t, "sub/a.conf")
}

// TestPlaces: lines and columns of keys and of values in arrays, through
// includes; and what a later key replaces.
func TestPlaces(t *testing.T) {
	files := map[string]string{"d/in.conf": "\n  port: 1\n"}
	read := func(path string) ([]byte, error) {
		if text, ok := files[path]; ok {
			return []byte(text), nil
		}
		return nil, errors.New("no such file")
	}
	tree, err := Parse("d/a.conf", []byte("port: 2\nlist: [\n  { a: 1 },\n  x\n]\n\tinclude in.conf\nv: $V\n"), Surroundings{
		Read: read, Env: func(string) (string, bool) { return "{\n\n k: [x]\n}", true },
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	say := func(what string, p Pos) {
		got = append(got, fmt.Sprintf("%s %s:%d:%d", what, p.File, p.Line, p.Column))
	}
	for _, e := range tree.Root.Entries {
		say(e.Key, e.Pos)
		if e.Replaced != nil {
			say("  replaced by", e.Replaced.Pos)
		}
		list, _ := e.Node.Value.([]*Node)
		for _, n := range list {
			say("  item", n.Pos)
		}
		if block, ok := e.Node.Value.(*Map); ok {
			say("  k", block.Get("k").Pos)
		}
	}
	want := []string{
		"port d/a.conf:1:1", "  replaced by d/in.conf:2:3", "list d/a.conf:2:1", "  item d/a.conf:3:3", "  item d/a.conf:4:3",
		"port d/in.conf:2:3", "v d/a.conf:7:1", "  k d/a.conf:7:4",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestBounds: what would cost more than its size calls for is refused.
func TestBounds(t *testing.T) {
	laughs := "a: [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'l'; c++ {
		laughs += fmt.Sprintf("%c: [%s]\n", c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("$%c ,", c-1), 9), ","))
	}
	for name, tc := range map[string]struct{ text, want string }{
		"itself":     {"include a.conf", "include each other too deeply"},
		"twice":      {"include twice.conf\ninclude twice.conf", "include each other too deeply"},
		"laughs":     {laughs, "more than"},
		"deep lists": {strings.Repeat("a: [", 1), "value"},
		"deep":       {"a: " + strings.Repeat("[", 100000), "nested more than"},
		"deep maps":  {strings.Repeat("a {", 100000), "nested more than"},
		"large":      {strings.Repeat("# x\n", MostBytes/4+1), "larger than"},
		"missing":    {"include b.conf", "no such file"},
	} {
		read := func(path string) ([]byte, error) {
			if path == "b.conf" {
				return nil, errors.New("no such file")
			}
			return []byte(tc.text), nil
		}
		_, err := Parse("a.conf", []byte(tc.text), Surroundings{Read: read})
		if err == nil || name != "deep lists" && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

// FuzzParse: any bytes are read or refused, and nats-server's parser agrees.
func FuzzParse(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		hung := time.AfterFunc(10*time.Second, func() { panic(fmt.Sprintf("it takes for ever: %q", text)) })
		defer hung.Stop()
		tree, err := Parse("", text, Surroundings{Env: func(string) (string, bool) { return "", false }})
		if strings.Contains(strings.ToLower(string(text)), "include") || len(text) > 1<<12 {
			return // nats-server would read files
		}
		want, wantErr := func() (m map[string]any, err error) {
			defer func() {
				if bug := recover(); bug != nil {
					m, err = nil, fmt.Errorf("panic: %v", bug)
				}
			}()
			return conf.Parse(string(text))
		}()
		if err == nil && len(tree.Unset) > 0 || err != nil && strings.Contains(err.Error(), "nested more than") {
			return
		}
		if (err == nil) != (wantErr == nil) && !odd(err) {
			t.Fatalf("%v, and nats-server says %v", err, wantErr)
		}
		if err == nil && !cmp.Equal(want, plain(tree.Root)) {
			t.Fatal(cmp.Diff(want, plain(tree.Root)))
		}
	})
}
