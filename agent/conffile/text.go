package conffile

import (
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
)

// masked stands where a secret was.
const masked = "xxxxx"

// text is a file by lines, as it may be shown.
type text struct {
	lines   []string
	secrets []string // longest first

	long map[int]string // long lines as they may be shown: many places may stand in one
}

func newText(all string, secrets []string) *text {
	return &text{lines: strings.Split(strings.ReplaceAll(all, "\r\n", "\n"), "\n"), secrets: secrets}
}

// line is a line as it may be shown, and where a column of it is in that.
func (t *text) line(n, at int) (line string, column int) {
	if n < 1 || n > len(t.lines) {
		return "", 0
	}
	all := t.lines[n-1]
	line, known := t.long[n]
	if !known {
		line = mask(all, t.secrets)
	}
	if !known && len(all) > longestShown {
		if t.long == nil {
			t.long = map[int]string{}
		}
		t.long[n] = line
	}
	before := mask(all[:min(max(at-1, 0), len(all))], t.secrets)
	if at > 0 && strings.HasPrefix(line, before) && len(before) < len(line) {
		column = len(before) + 1
	}
	return window(line, column)
}

// How many characters of a line are shown, and of those before the key. A file may
// be one line.
const (
	longestShown = 200
	shownBefore  = 60
)

// window cuts a long line to what stands around a column.
func window(line string, column int) (string, int) {
	runes := []rune(line)
	if len(runes) <= longestShown {
		return line, column
	}
	from := 0
	if column > 0 {
		from = max(0, utf8.RuneCountInString(line[:column-1])-shownBefore)
	}
	from = min(from, len(runes)-longestShown)
	shown := string(runes[from : from+longestShown])
	if column > 0 {
		// Of bytes that are no text, each rune that stands for one is longer.
		shift := utf8.RuneCountInString(line[:column-1]) - from
		column = len(string(runes[from:from+shift])) + 1
	}
	if from > 0 {
		shown = "…" + shown
		if column > 0 {
			column += len("…")
		}
	}
	if from+longestShown < len(runes) {
		shown += "…"
	}
	return shown, column
}

// What looks like a secret wherever it stands, in comments too. The first group
// stays.
var looksSecret = []*regexp.Regexp{
	regexp.MustCompile(`(?i)((?:^|[^a-z_])["']?(?:pass|password|token|auth_token|seed|xkey|nkey_seed|secret|key|jwt|operator|default_sentinel|credentials|A[A-Z2-7]{55})["']?\s*[:=\s]\s*)("[^"]*"?|'[^']*'?|[^\s,;}\]]+)`),
	regexp.MustCompile(`()\bS[ACNOUX][A-Z2-7]{50,}`),
	regexp.MustCompile(`()\beyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]+)*`),
	regexp.MustCompile(`()\$2[abxy]?\$\d{2}\$[./A-Za-z0-9]*`),
	regexp.MustCompile(`(://)[^/@\s"']*(?:@)`),
}

// mask leaves secrets out of a line: those that are known, and what looks like
// one.
func mask(line string, secrets []string) string {
	for _, s := range secrets {
		line = strings.ReplaceAll(line, s, masked)
	}
	for _, re := range looksSecret {
		line = re.ReplaceAllStringFunc(line, func(found string) string {
			m := re.FindStringSubmatch(found)
			value := strings.Trim(strings.TrimPrefix(found, m[1]), `"'`)
			if value != masked && isPlaceholder(value) || m[1] == "://" && isPlaceholder(lastOf(passwordsOf(found))) {
				return found
			}
			return m[1] + masked
		})
	}
	return line
}

// secretsOfURL are what stands before the @ of a URL, unless that is a placeholder.
func secretsOfURL(url string) []string {
	found := passwordsOf(url)
	if isPlaceholder(lastOf(found)) {
		return nil
	}
	return found
}

func lastOf(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// secretKeys are the keys of secrets, by the names that nats-server gives them.
var secretKeys = []string{"pass", "password", "token", "seed", "xkey", "key", "nkey", "default_sentinel", "operator", "jwt", "credentials", "auth_token"}

// secretsIn lists what looks like a secret in a text that cannot be read.
func secretsIn(all string) []string {
	found := map[string]bool{}
	for _, m := range looksSecret[0].FindAllStringSubmatch(all, -1) {
		if s := strings.Trim(m[2], `"'`); len(s) > 2 && !isPlaceholder(s) {
			found[s] = true
		}
	}
	return longestFirst(found)
}

// secretsOf lists the secrets of a configuration, the longest first.
func secretsOf(tree *syntax.Tree, f *flags) []string {
	found := map[string]bool{}
	add := func(s string) {
		if len(s) > 2 && !isPlaceholder(s) {
			found[s] = true
		}
	}
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case *syntax.Map:
			for _, e := range v.Entries {
				text, ok := e.Node.Value.(string)
				switch {
				case ok && (slices.Contains(secretKeys, strings.ToLower(e.Key)) || isJWT(text)):
					add(text)
				case ok && strings.Contains(text, "@"):
					for _, s := range secretsOfURL(text) {
						add(s)
					}
				}
				visit(e.Node.Value)
			}
		case []*syntax.Node:
			for _, n := range v {
				if text, ok := n.Value.(string); ok {
					for _, s := range secretsOfURL(text) {
						add(s)
					}
				}
				visit(n.Value)
			}
		}
	}
	visit(tree.Root)
	if f != nil {
		add(f.pass)
		add(f.auth)
	}
	return longestFirst(found)
}

func longestFirst(found map[string]bool) []string {
	out := make([]string, 0, len(found))
	for s := range found {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return out
}

func isJWT(s string) bool { return strings.HasPrefix(s, "eyJ") }

// passwordsOf are what stands before the @ of a URL, and its password alone.
func passwordsOf(url string) []string {
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		rest = url
	}
	i := strings.LastIndex(rest, "@")
	if i < 0 {
		return nil
	}
	info := rest[:i]
	if _, pass, ok := strings.Cut(info, ":"); ok {
		return []string{info, pass}
	}
	return []string{info}
}
