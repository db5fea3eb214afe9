package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"
)

// theirs is what the YAML reader of Kubernetes' kind makes of a document: texts,
// lists and mappings.
func theirs(n *yaml.Node) any {
	switch n.Kind {
	case yaml.DocumentNode:
		return theirs(n.Content[0])
	case yaml.AliasNode:
		return theirs(n.Alias)
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			out = append(out, theirs(item))
		}
		return out
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Tag == "!!merge" {
				if m, ok := theirs(n.Content[i+1]).(map[string]any); ok {
					for k, v := range m {
						if _, ok := out[k]; !ok {
							out[k] = v
						}
					}
				}
				continue
			}
			out[n.Content[i].Value] = theirs(n.Content[i+1])
		}
		return out
	default:
		if n.Tag == "!!null" {
			return nil
		}
		return n.Value
	}
}

func ours(n *node) any {
	switch {
	case n == nil:
		return nil
	case n.text != nil:
		return n.text.text
	case n.list != nil:
		out := []any{}
		for _, item := range n.list {
			out = append(out, ours(item))
		}
		return out
	case n.keys != nil:
		out := map[string]any{}
		for _, p := range n.keys {
			out[p.key] = ours(p.value)
		}
		return out
	}
	return nil
}

// empty makes empty mappings and lists null, which is what they are here.
func empty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			return nil
		}
		for k := range v {
			v[k] = empty(v[k])
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		for i := range v {
			v[i] = empty(v[i])
		}
	}
	return v
}

// agree holds a document that both can read against the other reader.
func agree(t *testing.T, text string) {
	t.Helper()
	for _, d := range split([]byte(text)) {
		n, err := d.parse()
		var other yaml.Node
		otherErr := yaml.NewDecoder(strings.NewReader(strings.Join(d.lines, "\n") + "\n")).Decode(&other)
		if err != nil || otherErr != nil && !errors.Is(otherErr, io.EOF) {
			if err == nil || otherErr == nil {
				t.Logf("here: %v, there: %v:\n%s", err, otherErr, text)
			}
			continue
		}
		var want any
		if other.Kind != 0 {
			want = empty(theirs(&other))
		}
		if diff := cmp.Diff(want, ours(n)); diff != "" {
			t.Errorf("(-there +here):\n%s\n%s", diff, text)
		}
		exact(t, text, n)
	}
}

// exact checks that texts stand where it is told.
func exact(t *testing.T, text string, n *node) {
	t.Helper()
	if n == nil {
		return
	}
	if s := n.text; s != nil && s.exact {
		lines := strings.Split(text, "\n")
		for i, l := range strings.Split(s.text, "\n") {
			if l == "" {
				continue
			}
			if at := s.line - 1 + i; at >= len(lines) || len(lines[at]) < s.indent || !strings.HasPrefix(lines[at][s.indent:], l) {
				t.Errorf("%q is not in line %d behind %d bytes of\n%s", l, at+1, s.indent, text)
			}
		}
	}
	for _, item := range n.list {
		exact(t, text, item)
	}
	for _, p := range n.keys {
		exact(t, text, p.value)
	}
}

var documents = []string{
	"a: |\n  x\n  y\n", "a: |-\n  x\n\n  y\n\n\nb: 1\n", "a: |+\n  x\n\n\nb: 1\n", "a: |2\n    x\n  y\n", "a: >\n  x\n  y\n\n  z\n    deep\n    er\n  w\n", "a: >-\n\n  x\n  y\n",
	"a: |\n\n\n  x\n   \n  y\n", "a:\n- |\n  x\n- >+\n  y\n\n- z\n", "- a: |\n    x\n  b: >\n    y\n    z\n-   c: |\n      w\n", "a: |\nb: 1\n", "a: |\n", "a: |", "a: |\n  x", "a: | # why\n  x # no comment\n",
	"a: &x |\n  text\nb: *x\n", "a: !!str |\n  text\n", "\"a\": |\n  x\n'b c': |\n  y\n", "a: \"x: |\"\nb: 'y: >'\n", "a: \"x\n  b: |\n  c\"\n", "# a: |\n#   x\nb: 1\n", "a: x | y\n", "a: |x\n",
	"a: \"x\\ny\"\n", "a: 'it''s'\n", "a: plain text # c\n", "a: two\n  lines\n", "a: {b: c, d: [1, x, \"y\"]}\n", "{\"a\": \"b\\u00e9\\/\\n\", \"c\": [true, null, 1.5]}\n", "a: &x {b: c}\nd: {<<: *x, e: f}\n",
	"a: ~\nb:\nc: null\nd: ''\n", "é: |\n  ü: ö\nx: \"ä\"\n", "a:\n    b: |\n        x\n          y\n        z\n", "a: |\n  ---x\n  ...\n", "a: |1\n  x\n", "a: |\n  x\n\tb\n", "a:   |\n  x\nb:  z\n", "? a\n: |\n  x\n",
	"a: |\n  x\n # comment\nb: c\n", "a: |\n  x  \n  \ty\n", "apiVersion: v1\nkind: List\nitems:\n- data:\n    n.conf: |\n      {\n        \"a\": $B,\n      }\n", "k: v\n\n\n", "a: http://x:1/y#z\n", "a.b-c/d: |\n  x\n", "a b: |\n  x\n",
}

// TestSameAsAnother reads documents here and with another reader.
func TestSameAsAnother(t *testing.T) {
	for _, text := range documents {
		agree(t, text)
	}
	paths, err := filepath.Glob("../../integration/testdata/manifests/*.yaml")
	if err != nil || len(paths) < 20 {
		t.Fatal(len(paths), err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range split(text) {
			if _, err := d.parse(); err != nil {
				t.Errorf("%s: %v", path, err)
			}
			agree(t, strings.Join(d.lines, "\n"))
		}
	}
}

// TestHostile: what would cost more than its size calls for is refused, or costs
// nothing.
func TestHostile(t *testing.T) {
	object := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n"
	laughs := "apiVersion: v1\nkind: List\na0: &a0 [x]\n"
	for i := range 60 {
		laughs += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	var keys, merges strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&keys, "  k%d: v\n", i)
	}
	merges.WriteString("apiVersion: v1\nkind: List\nx0: &x0 {k: v}\n")
	for i := range 60 {
		fmt.Fprintf(&merges, "x%d: &x%d {<<: [*x%d, *x%d], k%d: v}\n", i+1, i+1, i, i, i)
	}
	items := "apiVersion: v1\nkind: List\nitems: &i\n- &o {apiVersion: v1, kind: List, items: [" + strings.TrimSuffix(strings.Repeat("{apiVersion: v1, kind: Pod}, ", 2000), ", ") + "]}\n" + strings.Repeat("- *o\n", 2000)
	for name, tc := range map[string]struct{ text, want string }{
		"laughs":        {laughs, ""},
		"laughs, items": {laughs + "items: *a60\n", ""},
		"merges":        {merges.String(), ""},
		"many objects":  {items, "twice"},
		"keys":          {object + keys.String(), "too many keys"},
		"twice":         {object + "  a: 1\n  a: 2\n", "already defined"},
		"twice, quoted": {object + "  a: 1\n  \"a\": 2\n", ""},
		"deep flow":     {object + "  a: " + strings.Repeat("[", 100_000), "nested too deeply"},
		"deep lists":    {object + "  " + strings.Repeat("- ", 100_000) + "x\n", "nested too deeply"},
		"deep keys":     {object + "  " + strings.Repeat("? ", 100_000) + "x\n", "nested too deeply"},
		"tags":          {object + "  a: " + strings.Repeat("!!map ", 100_000) + "{}\n", "too many tags"},
		"brackets":      {object + "  a: |\n" + "  b: " + strings.Repeat("[]", 1_000_000), "too large"},
		"no alias":      {object + "  a: *nobody\n", "alias"},
		"itself":        {object + "  a: &a [*a]\n", "alias"},
		"cut short":     {object + "  a: \"x\n", ""},
		"NUL":           {object + "  a: \x00\n", "a character"},
		"name":          {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {a: b}}\n", "name of an object"},
	} {
		began := time.Now()
		var s Set
		err := s.Add("x", []byte(tc.text))
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s takes %v", name, took)
		}
		if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
	var s Set
	big := object + "  a.conf: |\n" + strings.Repeat("    # [ { , : ] }\n", 800_000)
	if err := s.Add("x", []byte(big)); err != nil {
		t.Errorf("a large configuration: %v", err)
	}
}

// FuzzManifest: any bytes are read or refused; no configuration is judged with a
// place outside of its file.
func FuzzManifest(f *testing.F) {
	for _, text := range documents {
		f.Add([]byte(text))
		f.Add([]byte("apiVersion: v1\nkind: ConfigMap\ndata:\n  n.conf: |\n    " + strings.ReplaceAll(text, "\n", "\n    ")))
	}
	paths, err := filepath.Glob("../../integration/testdata/manifests/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		hung := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("it takes for ever: %q", text)) })
		defer hung.Stop()
		Template(text)
		LooksYAML(text)
		Is(text)
		var s Set
		if s.Add("x", text) != nil {
			return
		}
		all, err := s.Configurations(nil, nil)
		if err != nil {
			return
		}
		lines := bytes.Count(text, []byte("\n")) + 1
		for _, c := range all[:min(len(all), 5)] {
			file, err := c.File()
			if err != nil {
				continue // flags
			}
			for _, d := range file.Server.Doors {
				for _, e := range d.Evidence {
					if e.Place == nil || e.Place.File != "x" || e.Place.Line < 1 || e.Place.Line > lines {
						t.Errorf("%s: %+v of %d lines", d.Kind, e.Place, lines)
					}
				}
			}
			for _, g := range file.Ignores() {
				file.Line(g.Place)
			}
		}
	})
}
