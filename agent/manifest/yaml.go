package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a document. What the library does with one grows with the square of
// the keys of a mapping, and with its depth.
const (
	mostMarks = 400_000       // characters that may begin a token
	allMarks  = 5 * mostMarks // of all documents
	mostKeys  = 1500          // of a mapping
	mostAgain = 1 << 20       // bytes of one that is read with its block scalars in it
	deepest   = 64            // mappings and lists inside of each other
)

// node is a value of a document. All that is nil or empty is null.
type node struct {
	line, column int // in the file; the column is a byte of its line
	text         *scalar
	list         []*node
	keys         []pair
}

// pair is a key of a mapping, and its value.
type pair struct {
	key          string
	line, column int
	value        *node
}

// scalar is a text, and where its lines stand.
type scalar struct {
	text   string
	string bool // it is no number, null or truth
	exact  bool // its lines are lines of the file
	line   int  // of the first one
	indent int  // bytes before each
}

// get is the value of a key, nil if there is none.
func (n *node) get(keys ...string) *node {
	for _, key := range keys {
		if n == nil {
			return nil
		}
		var found *node
		for i := range n.keys {
			if n.keys[i].key == key {
				found = n.keys[i].value
			}
		}
		n = found
	}
	return n
}

// str is the text of a value, "" if it has none.
func (n *node) str(keys ...string) string {
	if n = n.get(keys...); n == nil || n.text == nil {
		return ""
	}
	return n.text.text
}

// items are those of a list.
func (n *node) items(keys ...string) []*node {
	if n = n.get(keys...); n == nil {
		return nil
	}
	return n.list
}

// fault is what is wrong in a line of a file.
type fault struct {
	line int
	text string
}

func (e *fault) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// errTaken: what was taken for a block scalar is none.
var errTaken = errors.New("no block scalar")

// parse reads a document; nil is an empty one.
func (d *document) parse() (*node, error) {
	rest, blocks := d.lift()
	n, err := d.read(rest, blocks)
	if !errors.Is(err, errTaken) {
		return n, err
	}
	return d.read(strings.Join(d.lines, "\n"), nil)
}

// marks counts the characters of a text that may begin a token.
func marks(text string) int {
	n := 0
	for i := range len(text) {
		if strings.IndexByte("[]{},:-?&*!#\"'|>%@`", text[i]) >= 0 || text[i] == '\n' && i > 0 && text[i-1] != '\n' {
			n++
		}
	}
	return n
}

// read reads what is left of a document without its block scalars.
func (d *document) read(rest string, blocks []blockScalar) (n *node, err error) {
	defer func() {
		if bug := recover(); bug != nil {
			n, err = nil, &fault{d.line, "it is no YAML that can be read"}
		}
	}()
	if i := strings.IndexAny(rest, "\x00\r"); i >= 0 {
		return nil, &fault{d.line + strings.Count(rest[:i], "\n"), "it holds a character that YAML does not allow there"}
	}
	size := marks(rest)
	d.marks += size
	if size > mostMarks || !utf8.ValidString(rest) {
		return nil, &fault{d.line, "it is too large, or no text"}
	}
	tokens := lexer.Tokenize(rest)
	if err := d.plain(tokens); err != nil {
		return nil, err
	}
	file, err := parser.Parse(tokens, 0)
	switch {
	case err != nil && len(blocks) > 0 && len(rest) < mostAgain:
		return nil, errTaken // perhaps
	case err != nil:
		return nil, d.told(err)
	}
	var body ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.NullType || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.DirectiveType:
		case body != nil:
			return nil, &fault{d.line, "it is no YAML that can be read"}
		default:
			body = doc.Body
		}
	}
	if body == nil {
		return nil, nil
	}
	c := &converter{document: d, rest: strings.Split(rest, "\n"), blocks: blocks, used: make([]int, len(blocks)), anchors: map[string]*node{}}
	n, err = c.node(body)
	if err != nil {
		return nil, err
	}
	for i, times := range c.used {
		switch {
		case times == 1:
		case len(strings.Join(d.lines, "\n")) < mostAgain:
			return nil, errTaken
		default:
			return nil, &fault{d.line + blocks[i].first - 1, "it is no YAML that can be read"}
		}
	}
	return n, nil
}

// quotedText may be a secret.
var quotedText = regexp.MustCompile(`"[^"]*"?|'[^']*'?|` + "`[^`]*`?")

// told is what the library says, without the source that it would show.
func (d *document) told(err error) error {
	var said yaml.Error
	if !errors.As(err, &said) {
		return &fault{d.line, "it is not YAML"}
	}
	line := 1
	if tk := said.GetToken(); tk != nil && tk.Position != nil {
		line = tk.Position.Line
	}
	text, _, _ := strings.Cut(said.GetMessage(), " at [")
	text = strings.Join(strings.Fields(quotedText.ReplaceAllString(text, "")), " ")
	return &fault{d.line + line - 1, fmt.Sprintf("it is not YAML: %.100s", text)}
}

// plain refuses what would cost more than its size calls for.
func (d *document) plain(tokens token.Tokens) error {
	type level struct{ column, keys int }
	var (
		open  []level // mappings and lists, by their columns
		flow  []int   // brackets, by their keys
		props int
	)
	for _, tk := range tokens {
		bad := func(text string) error { return &fault{d.line + max(tk.Position.Line, 1) - 1, text} }
		column := tk.Position.Column
		switch tk.Type {
		case token.AnchorType, token.TagType:
			if props++; props > 3 {
				return bad("too many tags and anchors of one value")
			}
			continue
		case token.MappingStartType, token.SequenceStartType:
			flow = append(flow, 0)
		case token.MappingEndType, token.SequenceEndType:
			flow = flow[:max(0, len(flow)-1)]
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType:
			keys := 0
			switch {
			case len(flow) > 0:
				if tk.Type == token.MappingValueType {
					flow[len(flow)-1]++
					keys = flow[len(flow)-1]
				}
			default:
				if tk.Type == token.MappingValueType && tk.Prev != nil {
					column = tk.Prev.Position.Column
				}
				for len(open) > 0 && open[len(open)-1].column > column {
					open = open[:len(open)-1]
				}
				if n := len(open); n == 0 || open[n-1].column < column {
					open = append(open, level{column: column})
				}
				if tk.Type == token.MappingValueType {
					open[len(open)-1].keys++
					keys = open[len(open)-1].keys
				}
			}
			if keys > mostKeys {
				return bad("too many keys of one mapping")
			}
		case token.DirectiveType:
			return bad("directives are not read")
		default:
		}
		props = 0
		if len(flow)+len(open) > deepest {
			return bad("it is nested too deeply")
		}
	}
	return nil
}

// converter makes nodes of what the library gives.
type converter struct {
	*document
	rest    []string
	blocks  []blockScalar
	used    []int
	anchors map[string]*node
}

func (c *converter) at(tk *token.Token) (line, column int) {
	if tk == nil || tk.Position == nil {
		return c.line, 1
	}
	line = min(max(tk.Position.Line, 1), len(c.rest))
	runes := max(tk.Position.Column-1, 0)
	column = len(c.rest[line-1]) + 1
	for i := range c.rest[line-1] {
		if runes == 0 {
			column = i + 1
			break
		}
		runes--
	}
	return c.line + line - 1, column
}

func (c *converter) node(n ast.Node) (*node, error) {
	out := &node{}
	if n == nil {
		return &node{line: c.line}, nil
	}
	out.line, out.column = c.at(n.GetToken())
	switch n := n.(type) {
	case *ast.AnchorNode:
		inner, err := c.node(n.Value)
		if err != nil {
			return nil, err
		}
		c.anchors[n.Name.GetToken().Value] = inner
		return inner, nil
	case *ast.AliasNode:
		inner := c.anchors[n.Value.GetToken().Value]
		if inner == nil {
			return nil, &fault{out.line, "an alias of nothing before it"}
		}
		return inner, nil
	case *ast.TagNode:
		return c.node(n.Value)
	case *ast.SequenceNode:
		for _, v := range n.Values {
			item, err := c.node(v)
			if err != nil {
				return nil, err
			}
			out.list = append(out.list, item)
		}
	case ast.MapNode:
		if err := c.mapping(n, out); err != nil {
			return nil, err
		}
	case *ast.NullNode:
	case *ast.LiteralNode:
		out.text = &scalar{text: n.Value.Value, string: true}
	case *ast.StringNode:
		out.text = c.scalar(n)
	case ast.ScalarNode:
		out.text = &scalar{text: n.GetToken().Value}
	default:
		return nil, &fault{out.line, "it is no YAML that can be read"}
	}
	return out, nil
}

// mapping reads keys, and those that it merges: its own come first.
func (c *converter) mapping(n ast.MapNode, out *node) error {
	own := map[string]bool{}
	var merged []pair
	for it := n.MapRange(); it.Next(); {
		value, err := c.node(it.Value())
		if err != nil {
			return err
		}
		line, column := c.at(it.Key().GetToken())
		if it.Key().IsMergeKey() {
			from := append([]*node{value}, value.list...)
			for _, m := range from {
				merged = append(merged, m.keys...)
			}
			if len(merged) > mostKeys {
				return &fault{line, "too many keys of one mapping"}
			}
			continue
		}
		key, err := c.node(it.Key())
		switch {
		case err != nil:
			return err
		case key.text == nil:
			return &fault{line, "a key that is no text"}
		case own[key.text.text]:
			return &fault{line, "a key stands there twice"}
		}
		if len(out.keys) == 0 {
			out.line, out.column = line, column
		}
		own[key.text.text] = true
		out.keys = append(out.keys, pair{key.text.text, line, column, value})
	}
	for _, p := range merged {
		if !own[p.key] { // the first of several counts
			own[p.key] = true
			out.keys = append(out.keys, p)
		}
	}
	return nil
}

// scalar reads a text, and finds its lines in the file.
func (c *converter) scalar(n *ast.StringNode) *scalar {
	out := &scalar{text: n.Value, string: true}
	tk := n.GetToken()
	quoted := tk.Type == token.SingleQuoteType || tk.Type == token.DoubleQuoteType
	var i int
	if !quoted && strings.HasPrefix(n.Value, "natsentry-block-") {
		if _, err := fmt.Sscanf(n.Value, standIn, &i); err == nil && i >= 0 && i < len(c.blocks) && n.Value == fmt.Sprintf(standIn, i) {
			c.used[i]++
			b := &c.blocks[i]
			return &scalar{text: b.text, string: true, exact: b.exact, line: c.line + b.first, indent: b.indent}
		}
	}
	line, column := c.at(tk)
	if quoted {
		column++
	}
	// A text in one line without escapes stands there as it is.
	rest := c.rest[line-c.line]
	if column <= len(rest)+1 && n.Value != "" && !strings.Contains(n.Value, "\n") && strings.HasPrefix(rest[column-1:], n.Value) {
		out.exact, out.line, out.indent = true, line, column-1
	}
	return out
}
