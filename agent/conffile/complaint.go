package conffile

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// nats-server finds many values of a wrong type by a crash that it catches, and
// tells in the words of Go what it was about to do. Some of its texts hold the value
// itself, which may be a secret.

var (
	converted  = regexp.MustCompile(`^interface conversion: interface \{\} is .+, not (.+)$`)
	crashed    = regexp.MustCompile(`^runtime error: |^reflect: `)
	gotValue   = regexp.MustCompile(`(?s)(?:, got (?:type )?|:? ?(?:unsupported|wrong) type(?: in array)?:? ?).*$`)
	goSpeaking = regexp.MustCompile(`(?s)%!.\(|0x[0-9a-f]{6,}|\*conf\.token|interface \{\}`)
)

// kindsOfGo are types of Go in the words of a configuration.
var kindsOfGo = map[string]string{
	"string": "text", "bool": "true or false", "int64": "a whole number", "float64": "a number", "[]interface {}": "a list",
	"map[string]interface {}": "a block", "time.Time": "a date",
}

// kindOf is what a value is.
func kindOf(v any) string {
	switch v.(type) {
	case string:
		return "text"
	case bool:
		return "a boolean"
	case int64:
		return "a whole number"
	case float64:
		return "a number"
	case time.Time:
		return "a date"
	case []*syntax.Node:
		return "a list"
	default:
		return "a block"
	}
}

// plainly says a complaint about a value in the words of a configuration. n is nil
// where it is about none in particular.
func (r *reading) plainly(n *syntax.Node, text string) string {
	if n == nil {
		if at := goSpeaking.FindStringIndex(text); at != nil {
			return strings.TrimRight(text[:at[0]], " :<[(")
		}
		return text
	}
	key, this := r.keyOf(n), kindOf(n.Value)
	if m := converted.FindStringSubmatch(text); m != nil {
		want := kindsOfGo[m[1]]
		if want == "" {
			return key + " cannot be " + this
		}
		return key + " must be " + want + ", and this is " + this + quoteIt(want, n.Value)
	}
	switch at := gotValue.FindStringIndex(text); {
	case crashed.MatchString(text):
		return "nats-server cannot read this value of " + key
	case at != nil:
		return text[:at[0]] + ": " + key + " cannot be " + this
	}
	if at := goSpeaking.FindStringIndex(text); at != nil {
		before := text[:at[0]]
		if i := strings.LastIndex(before, ": "); i > 0 {
			before = before[:i]
		}
		return strings.TrimRight(before, " :<[(\"'") + ": " + key + " cannot be " + this
	}
	return text
}

// blamed is the value that a complaint is about which does not say where it stands.
func (r *reading) blamed(text string) *syntax.Node {
	at := gotValue.FindStringIndex(text)
	if at == nil {
		return nil
	}
	text = strings.ToLower(text[:at[0]])
	var found *syntax.Node
	walk(r.tree.Root, nil, func(path []string, _ *syntax.Map, e *syntax.Entry) {
		key := last(path)
		about := strings.Contains(text, key) ||
			strings.Contains(text, "subject permissions") && slices.Contains([]string{"publish", "subscribe", "allow", "deny"}, key)
		kind := kindOf(e.Node.Value)
		fits := strings.Contains(text, "array") && kind == "a list" || strings.Contains(text, "map") && kind == "a block" ||
			strings.Contains(text, "string") && kind == "text" || strings.Contains(text, "array of subjects") && kind == "text"
		if found == nil && about && !fits {
			found = e.Node
		}
	})
	return found
}

// quoteIt is what to do about a value that is no text and should be one.
func quoteIt(want string, v any) string {
	switch v.(type) {
	case bool, int64, float64, time.Time:
		if want == "text" {
			return ": quote it"
		}
	}
	return ""
}

// keyOf is the key of a value.
func (r *reading) keyOf(n *syntax.Node) string {
	found := "it"
	var visit func(v any, key string)
	visit = func(v any, key string) {
		switch v := v.(type) {
		case *syntax.Map:
			for _, e := range v.Entries {
				if e.Node == n {
					found = canonical(e.Key)
				}
				visit(e.Node.Value, canonical(e.Key))
			}
		case []*syntax.Node:
			for _, item := range v {
				if item == n {
					found = "an entry of " + key
				}
				visit(item.Value, key)
			}
		}
	}
	visit(r.tree.Root, "")
	return found
}

// withoutEchoes leaves out what nats-server says of a block only because it could
// not read a value in it.
func withoutEchoes(refused []posture.Remark) []posture.Remark {
	isEcho := func(a posture.Remark) bool {
		return strings.HasPrefix(a.Text, "nats-server cannot read this value of ")
	}
	if !slices.ContainsFunc(refused, func(a posture.Remark) bool { return !isEcho(a) }) {
		return refused
	}
	return slices.DeleteFunc(refused, isEcho)
}
