package form

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// Foreign is a form that is not a configuration, although one may come of it.
type Foreign struct {
	What   string // with its article: "a Jinja template"
	Advice string // what to lint instead
	Yields bool   // a configuration comes of it
}

func (f Foreign) String() string { return fmt.Sprintf("this is %s: %s", f.What, f.Advice) }

const render = "render it first, and lint what comes of it"

func template(what string) Foreign { return Foreign{what, render, true} }

var (
	// Helm is what comes before most Kubernetes manifests.
	Helm      = Foreign{"a Helm template", "render it first, and lint what comes of it: helm template ... | natsentry lint -", true}
	goTmpl    = template("a Go template")
	jinja     = template("a Jinja template")
	erb       = template("an ERB template")
	mustache  = template("a Mustache template")
	terraform = template("a Terraform template")
	shellLike = Foreign{"a template with ${...}, as envsubst and Compose fill it in", render, true}

	dockerfile = Foreign{"a Dockerfile", "lint the configuration that it copies into the image, with the flags of its CMD in --args", false}
	compose    = Foreign{"a Compose file", "lint the configuration that it mounts, with the flags of its command in --args", false}
	unit       = Foreign{"a systemd unit", "lint the file that its ExecStart names, with the flags there in --args", false}
	script     = Foreign{"a script", "lint the configuration with which it starts nats-server, with the flags there in --args", false}
	values     = Foreign{"a values file of a Helm chart", "lint what the chart renders: helm template ... | natsentry lint -", true}
)

// suffixes are the names of template files. Where a name says so, a placeholder
// in quotes counts as well: it is one of the template, and not a literal.
var suffixes = map[string]struct {
	form   Foreign
	marker *regexp.Regexp
}{
	".j2": {jinja, braces}, ".jinja": {jinja, braces}, ".jinja2": {jinja, braces},
	".tmpl": {goTmpl, braces}, ".gotmpl": {goTmpl, braces}, ".ctmpl": {goTmpl, braces}, ".gotpl": {goTmpl, braces},
	".erb": {erb, percent}, ".epp": {erb, percent},
	".mustache": {mustache, braces}, ".hbs": {mustache, braces},
	".tftpl": {terraform, dollar}, ".template": {shellLike, dollar}, ".envsubst": {shellLike, dollar}, ".in": {shellLike, dollar}, ".tpl": {shellLike, dollar},
}

// TemplateSuffix reports whether a file is named as templates are.
func TemplateSuffix(name string) bool { _, ok := suffixes[filepath.Ext(name)]; return ok }

var (
	braces  = regexp.MustCompile(`\{\{|\{%`)
	percent = regexp.MustCompile(`<%`)
	dollar  = regexp.MustCompile(`[$%]\{`)

	helmWords = regexp.MustCompile(`\{\{-?\s*(?:[^}]*[\s(])?\.(?:Values|Release|Chart|Files|Capabilities)\b|\{\{-?\s*include\s`)
	goWords   = regexp.MustCompile(`\{\{-?\s*(?:[.$]|/\*|\w+ +"|(?:if|range|with|else|end|block|define|template|not|and|or|eq|ne|` +
		`len|index|printf|env|getenv|getv|key|keyOrDefault|secret|service|datasource|ds|tpl|default|quote|toYaml|toJson)\b` +
		`\s*(?:[.$"(` + "`" + `]|-?\}\}|\w+\s+["$.]))`)
	mustaches  = regexp.MustCompile(`\{\{\{|\{\{[#/^>&!]`)
	jinjaBlock = regexp.MustCompile(`\{%[-+]?\s*\w`)
	erbBlock   = regexp.MustCompile(`<%[-=#%|]?`)
	tfBlock    = regexp.MustCompile(`%\{~?\s*(?:if|for|else|endif|endfor)\b|\$\{\s*\w+\s*[.(\[]|\$\{~`)
	// No configuration has these: the braces end the name that nats-server reads.
	shellForm = regexp.MustCompile(`\$\{[A-Za-z_]\w*(?::?[-?+=][^}]*|[#%/^,][^}]*)\}`)

	fromLine    = regexp.MustCompile(`^FROM\s+(?:--platform=\S+\s+)?\S+(?:\s+(?i:AS)\s+\S+)?\s*$`)
	argLine     = regexp.MustCompile(`^(?:ARG\s+\S+|#.*|\s*)$`)
	unitLine    = regexp.MustCompile(`(?m)^\[(?:Unit|Service|Install|Socket|Timer)\]\s*$`)
	composeKey  = regexp.MustCompile(`(?m)^["']?services["']?\s*:\s*(?:#.*)?$`)
	composeWord = regexp.MustCompile(`(?m)^[ \t]+["']?(?:image|build|container_name|command|ports|depends_on)["']?\s*:`)
	// Keys of the values of the official charts, and of charts that have it below them.
	valuesKey = regexp.MustCompile(`(?m)^(?:nats|natsBox|config|container|podTemplate|statefulSet|configMap|` +
		`reloader|promExporter|natsbox|auth|cluster|jetstream|replicaCount|image|` +
		`fullnameOverride|nameOverride)\s*:\s*(?:[^\s{\[#].*)?(?:#.*)?$`)
)

// Of recognises a text that is not a configuration by its form. What has no such
// form may be a configuration, also one that nats-server refuses: a password that
// is "{{ x }}" in quotes is a literal, and the subject "{{name()}}.>" a template
// of nats-server's own.
func Of(name string, text []byte) (Foreign, bool) {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	switch {
	case bytes.HasPrefix(text, []byte("#!")):
		return script, true
	case isDockerfile(text):
		return dockerfile, true
	case unitLine.Match(text) && bytes.Contains(text, []byte("Exec")):
		return unit, true
	}
	if s, ok := suffixes[filepath.Ext(name)]; ok && s.marker.Match(text) {
		if f, ok := templateIn(string(text)); ok {
			return f, true
		}
		return s.form, true
	}
	return templateIn(bare(string(text)))
}

// OfYAML recognises YAML that holds no Kubernetes objects. ok is false for YAML of
// no form that is known here.
func OfYAML(text []byte) (Foreign, bool) {
	switch {
	case composeKey.Match(text) && composeWord.Match(text):
		return compose, true
	case braces.Match(text):
		if f, ok := templateIn(string(text)); ok {
			return f, true
		}
		return Helm, true
	case len(valuesKey.FindAllIndex(text, 2)) > 1:
		return values, true
	}
	return Foreign{}, false
}

func isDockerfile(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if fromLine.MatchString(line) {
			return true
		}
		if !argLine.MatchString(line) {
			return false
		}
	}
	return false
}

// templateIn recognises a template by its markers.
func templateIn(text string) (Foreign, bool) {
	switch {
	case helmWords.MatchString(text):
		return Helm, true
	case jinjaBlock.MatchString(text):
		return jinja, true
	case mustaches.MatchString(text):
		return mustache, true
	case goWords.MatchString(text):
		return goTmpl, true
	case strings.Contains(text, "{{"):
		return jinja, true
	case erbBlock.MatchString(text):
		return erb, true
	case tfBlock.MatchString(text):
		return terraform, true
	case shellForm.MatchString(text):
		return shellLike, true
	}
	return Foreign{}, false
}

// bare is a text without comments and strings in quotes, by the rules of
// nats-server's syntax. A string in which a placeholder begins and does not end
// stays: its quotes are those of the template's language.
func bare(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	before := byte('\n')
	for i := 0; i < len(text); {
		c := text[i]
		starts := strings.IndexByte(" \t\r\n{}[](),;:=", before) >= 0
		switch {
		case starts && (c == '#' || strings.HasPrefix(text[i:], "//")):
			end := strings.IndexByte(text[i:], '\n')
			if end < 0 {
				return b.String()
			}
			i += end
		case starts && (c == '"' || c == '\''):
			n := quoted(text[i:])
			if s := text[i : i+n]; opens(s, "{{", "}}") || opens(s, "{%", "%}") || opens(s, "<%", "%>") {
				b.WriteString(s)
			}
			i += n
		default:
			b.WriteByte(c)
			i++
		}
		before = text[i-1]
	}
	return b.String()
}

// opens reports whether a placeholder begins in a text and does not end there.
func opens(text, begin, end string) bool {
	return strings.Count(text, begin) > strings.Count(text, end)
}

// quoted is the length of the string in quotes at the beginning of a text; of one
// that is not closed, that of its line.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && text[0] == '"':
			i++
		case text[i] == text[0]:
			return i + 1
		}
	}
	if end := strings.IndexByte(text, '\n'); end > 0 {
		return end
	}
	return len(text)
}
