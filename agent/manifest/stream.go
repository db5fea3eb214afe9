package manifest

import (
	"encoding/json"
	"regexp"
	"strings"
)

// document is one of the documents of a file.
type document struct {
	line  int // of its first line in the file, from 1
	lines []string
	marks int // that were read
}

// split takes a file apart. A line that begins with --- begins a document
// wherever it stands: what else a document holds is indented, or may not begin so.
func split(text []byte) []document {
	lines := strings.Split(strings.ReplaceAll(strings.TrimPrefix(string(text), "\ufeff"), "\r\n", "\n"), "\n")
	var out []document
	from := 0
	add := func(to int) {
		if to > from {
			out = append(out, document{line: from + 1, lines: lines[from:to]})
		}
	}
	for i, l := range lines {
		if l == "---" || strings.HasPrefix(l, "--- ") || strings.HasPrefix(l, "---\t") || l == "..." {
			add(i)
			from = i
			if l == "---" || l == "..." {
				from = i + 1
			}
		}
	}
	add(len(lines))
	return out
}

var (
	versionLine = regexp.MustCompile(`^["']?apiVersion["']?\s*:\s+["']?(?:[a-z0-9.-]+/)?v[0-9]+[a-z0-9]*["']?\s*(?:#.*)?$`)
	kindLine    = regexp.MustCompile(`^["']?kind["']?\s*:\s+["']?([A-Z][A-Za-z0-9]*)["']?\s*(?:#.*)?$`)
)

// Is tells whether a text holds Kubernetes objects: a document of it has an
// apiVersion and a kind. No configuration of nats-server has.
func Is(text []byte) bool {
	for _, d := range split(text) {
		if _, ok := d.kind(); ok {
			return true
		}
	}
	return false
}

// kind is the kind of the object in a document, "" where only its parser can tell.
// ok is false where it is no object.
func (d *document) kind() (kind string, ok bool) {
	version := false
	for i, l := range d.lines {
		if l == "" || l[0] == ' ' || l[0] == '#' {
			continue
		}
		if l[0] == '{' {
			var o struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
			}
			if json.Unmarshal([]byte(strings.Join(d.lines[i:], "\n")), &o) == nil && o.APIVersion != "" && o.Kind != "" {
				return o.Kind, true
			}
			return "", false
		}
		version = version || versionLine.MatchString(l)
		if m := kindLine.FindStringSubmatch(l); m != nil {
			kind = m[1]
		}
	}
	return kind, version && kind != ""
}

var (
	templateLine = regexp.MustCompile(`^\s*\{\{|^["']?(?:apiVersion|kind|name|namespace|image)["']?\s*:.*\{\{.*\}\}`)
	// A key with nothing behind it, and keys further to the right below it.
	nestedKeys = regexp.MustCompile(`(?m)^[A-Za-z_][\w.-]*:[ \t]*(?:#.*)?\n(?:[ \t]*(?:#.*)?\n)*(?:[ \t]+[\w."'/-]+:(?:[ \t]|$)|[ \t]*- )`)
	startLine  = regexp.MustCompile(`(?m)^---\s*$`)
)

// Template tells whether a text is a Helm template that was not rendered.
func Template(text []byte) bool {
	for _, l := range strings.Split(string(text), "\n") {
		if templateLine.MatchString(strings.TrimRight(l, "\r")) {
			return true
		}
	}
	return false
}

// LooksYAML tells whether a text that nats-server cannot read may be YAML, like
// the values of a Helm chart.
func LooksYAML(text []byte) bool {
	text = []byte(strings.ReplaceAll(string(text), "\r\n", "\n"))
	return startLine.Match(text) || nestedKeys.Match(text)
}
