package conffile

import (
	"regexp"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// A placeholder is a text that somebody meant to be replaced, by the server or
// before it reads the file. nats-server takes it as it stands. It is no secret, and
// the only texts in the place of one that are shown.
var (
	// A name in capitals, or one that speaks of what it holds: another text that
	// begins with a dollar may be a password.
	quotedVariable = regexp.MustCompile(`^\$(?:\{[^{}]*\}?|\([^()]*\)|[A-Z][A-Z0-9_]+|[A-Za-z0-9_]*(?i:pass|pwd|token|secret|auth|cred|nats)[A-Za-z0-9_]*)$`)
	template       = regexp.MustCompile(`^(?:\{\{.*\}\}|<%.*%>|<<.*>>|<[^<>]+>|%[A-Za-z_][A-Za-z0-9_]*%|@[A-Z][A-Z0-9_]*@|__[A-Z][A-Z0-9_]*__)$`)
	blanked        = regexp.MustCompile(`^(?:[xX]{3,}|\*{3,}|\.{3,})$`)
	// Of what is left without signs between its words.
	toReplace = regexp.MustCompile(`^(?:(?:please)?(?:change|replace|fill)(?:me|this|it)(?:in|now|please|later)?\d*` +
		`|(?:insert|enter|put|use)?your(?:own|nats|strong|secure|secret)*(?:password|passwd|pass|token|secret|key)(?:goes)?(?:here)?` +
		`|(?:insert|enter|put)(?:password|token|secret|key)(?:here)?|(?:password|token|secret)(?:goes)?here|todo|fixme|tbd|placeholder|redacted)$`)
	between = strings.NewReplacer("-", "", "_", "", " ", "", ".", "", "!", "")
)

func isPlaceholder(text string) bool {
	return quotedVariable.MatchString(text) || template.MatchString(text) || blanked.MatchString(text) || toReplace.MatchString(strings.ToLower(between.Replace(text)))
}

// jetStreamSecrets are the keys of encryption keys (opts.go, parseJetStream).
var jetStreamSecrets = []string{"key", "ek", "encryption_key", "prev_key", "prev_ek", "prev_encryption_key"}

// notePlaceholders notes the placeholders that stand where a secret belongs.
func (r *reading) notePlaceholders() {
	note := func(path []string, at syntax.Pos, text string) {
		if !isPlaceholder(text) {
			return
		}
		p := posture.Placeholder{Key: strings.Join(path, "."), Literal: text, Variable: strings.HasPrefix(text, "$"), Place: placeOf(at)}
		if !slices.Contains(r.config.Placeholders, p) {
			r.config.Placeholders = append(r.config.Placeholders, p)
		}
	}
	var visit func(n *syntax.Node, path []string)
	visit = func(n *syntax.Node, path []string) {
		switch v := n.Value.(type) {
		case string:
			switch key := last(path); {
			case n.Unset:
			case key == "password" || key == "token" || len(path) == 2 && path[0] == "jetstream" && slices.Contains(jetStreamSecrets, key):
				note(path, n.Pos, v)
			case strings.Contains(v, "://"):
				note(path, n.Pos, lastOf(passwordsOf(v)))
			}
		case *syntax.Map:
			for _, e := range v.Entries {
				if key := canonical(e.Key); e.Replaced == nil && (!named(path) || last(path) == "accounts") {
					if named(path) {
						key = e.Key
					}
					visit(e.Node, append(slices.Clip(path), key))
				}
			}
		case []*syntax.Node:
			for _, item := range v {
				visit(item, path)
			}
		}
	}
	visit(&syntax.Node{Value: r.tree.Root}, nil)
	slices.SortStableFunc(r.config.Placeholders, func(a, b posture.Placeholder) int { return comparePlaces(a.Place, b.Place, a.Key, b.Key) })
}
