package syntax

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"
)

//go:generate go test . -run ^TestLexer$ -update

// Bounds of what one configuration may be, with all that it includes.
const (
	MostBytes = 16 << 20
	MostFiles = 1000
	mostDepth = 100     // blocks in blocks, and files in files
	mostNodes = 2000000 // with every use of a variable counted
	bcryptTag = "2a$"   // "$2a$…" is a password and no variable
	envKey    = "pk"
)

// Pos is where something stands. Lines and columns count from 1; a column is a
// byte of its line. Line 0 is the file as a whole.
type Pos struct {
	File         string
	Line, Column int
}

// Node is a value.
type Node struct {
	// Value is a *Map, a []*Node, a string, an int64, a float64, a bool or a
	// time.Time. Of a variable without a value it is "".
	Value any
	Pos   Pos    // of its key; of a value in an array, its own
	Var   string // the variable that it was taken from
	Env   bool   // which is one of the environment
	Unset bool   // and which has no value

	depth, size int
}

// Map is a block.
type Map struct {
	Entries []*Entry // as they are written, replaced ones too
	last    map[string]*Entry
}

// Entry is a key with its value.
type Entry struct {
	Key      string
	Pos      Pos
	Node     *Node
	Used     bool   // a variable refers to it
	Replaced *Entry // the later one that counts instead of it
}

// Get finds the entry of a key that counts, nil if there is none.
func (m *Map) Get(key string) *Entry { return m.last[key] }

func (m *Map) set(e *Entry) {
	if before := m.last[e.Key]; before != nil {
		before.Replaced = e
	}
	m.Entries = append(m.Entries, e)
	m.last[e.Key] = e
}

// Error is why a configuration cannot be read. Its text holds nothing of the
// configuration but names of files and variables.
type Error struct {
	Pos  Pos
	Text string
}

func (e *Error) Error() string {
	if e.Pos.Line == 0 {
		return fmt.Sprintf("%s: %s", e.Pos.File, e.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Pos.File, e.Pos.Line, e.Pos.Column, e.Text)
}

// ErrUnset is a variable without a value.
var ErrUnset = errors.New("no such variable")

// Surroundings are what a configuration may refer to.
type Surroundings struct {
	// Read reads a file, by the path that nats-server would open.
	Read func(path string) ([]byte, error)
	// Env gives a variable of the environment.
	Env func(name string) (value string, ok bool)
}

// Tree is a configuration as it was read.
type Tree struct {
	Root  *Map
	Files []File  // in the order in which they were first read
	Unset []*Node // uses of variables without a value, in the order of their places
	names map[string]int
}

// File is one file of a configuration.
type File struct {
	Name string
	Text string
}

// Parse reads a configuration of which the text is given; includes are looked
// for beside it.
func Parse(name string, text []byte, in Surroundings) (tree *Tree, err error) {
	r := &reader{in: in, tree: &Tree{names: map[string]int{}}}
	defer func() {
		// The lexer and the parser panic where they find themselves wrong.
		if bug := recover(); bug != nil {
			tree, err = nil, &Error{Pos{File: name}, "it cannot be read as a configuration"}
		}
	}()
	root, err := r.file(name, text, 0)
	if err != nil {
		return nil, err
	}
	r.tree.Root = root
	return r.tree, nil
}

type reader struct {
	in    Surroundings
	tree  *Tree
	bytes int
	files int
}

func (r *reader) file(name string, text []byte, depth int) (*Map, error) {
	r.files++
	r.bytes += len(text)
	switch {
	case depth > mostDepth:
		return nil, &Error{Pos{File: name}, "files include each other too deeply"}
	case r.files > MostFiles:
		return nil, &Error{Pos{File: name}, fmt.Sprintf("more than %d files are included", MostFiles)}
	case r.bytes > MostBytes:
		return nil, &Error{Pos{File: name}, fmt.Sprintf("it is larger than %d MiB with what it includes", MostBytes>>20)}
	}
	if _, known := r.tree.names[name]; !known {
		r.tree.names[name] = len(r.tree.Files)
		r.tree.Files = append(r.tree.Files, File{name, string(text)})
	}
	p := newParser(r, name, string(text), depth)
	if err := p.parse(); err != nil {
		return nil, err
	}
	return p.root, nil
}

// parser reads one file, or one variable of the environment.
type parser struct {
	r     *reader
	name  string
	depth int
	env   map[string]bool // variables of the environment that are being read
	fixed *Pos            // where everything stands that comes from there
	root  *Map
	lx    *lexer

	stack []*frame
	keys  []item
}

// frame is a block or an array that has not ended yet.
type frame struct {
	block *Map // nil for an array
	list  []*Node
	start item
	depth int // of what is in it
	size  int
}

func newParser(r *reader, name, text string, depth int) *parser {
	return &parser{r: r, name: name, depth: depth, env: map[string]bool{}, root: newMap(), lx: lex(text)}
}

func newMap() *Map { return &Map{last: map[string]*Entry{}} }

func (p *parser) at(it item) Pos {
	if p.fixed != nil {
		return *p.fixed
	}
	column := it.pos
	if it.line == 1 {
		column++ // the lexer counts from 0 there
	}
	return Pos{p.name, it.line, max(column, 1)}
}

func (p *parser) fail(it item, format string, v ...any) error {
	return &Error{p.at(it), fmt.Sprintf(format, v...)}
}

func (p *parser) parse() error {
	p.stack = []*frame{{block: p.root}}
	var before item
	for {
		it := p.lx.nextItem()
		if it.typ == itemEOF {
			if before.typ == itemKey && before.val != mapEndString {
				return p.fail(it, "it ends after a key")
			}
			return nil
		}
		before = it
		if err := p.item(it); err != nil {
			return err
		}
	}
}

func (p *parser) item(it item) error {
	switch it.typ {
	case itemError:
		return p.fail(it, "%s", it.val)
	case itemKey:
		p.keys = append(p.keys, it)
	case itemMapStart:
		return p.push(&frame{block: newMap(), start: it})
	case itemArrayStart:
		return p.push(&frame{list: []*Node{}, start: it})
	case itemMapEnd:
		f := p.pop()
		return p.set(f.start, &Node{Value: f.block, depth: f.depth + 1, size: f.size + 1})
	case itemArrayEnd:
		f := p.pop()
		return p.set(f.start, &Node{Value: f.list, depth: f.depth + 1, size: f.size + 1})
	case itemVariable:
		return p.variable(it)
	case itemInclude:
		return p.include(it)
	case itemString, itemBool, itemInteger, itemFloat, itemDatetime:
		value, ok, err := scalar(it)
		if err != nil {
			return p.fail(it, "%s", err)
		}
		if ok {
			return p.set(it, &Node{Value: value})
		}
	case itemNIL, itemText, itemCommentStart, itemEOF:
	}
	return nil
}

// scalar is nats-server's idea of a single value. ok is false for a number
// whose unit is none: nats-server sets no value then.
func scalar(it item) (value any, ok bool, err error) {
	switch it.typ {
	case itemBool:
		switch strings.ToLower(it.val) {
		case "true", "yes", "on":
			return true, true, nil
		}
		return false, true, nil
	case itemInteger:
		return integer(it.val)
	case itemFloat:
		f, err := strconv.ParseFloat(it.val, 64)
		if err != nil {
			return nil, false, errors.New("a float is out of the range")
		}
		return f, true, nil
	case itemDatetime:
		t, err := time.Parse("2006-01-02T15:04:05Z", it.val)
		if err != nil {
			return nil, false, errors.New("expected Zulu formatted DateTime")
		}
		return t, true, nil
	default:
		return it.val, true, nil
	}
}

var units = map[string]int64{
	"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18,
	"kb": 1 << 10, "ki": 1 << 10, "kib": 1 << 10, "mb": 1 << 20, "mi": 1 << 20, "mib": 1 << 20,
	"gb": 1 << 30, "gi": 1 << 30, "gib": 1 << 30, "tb": 1 << 40, "ti": 1 << 40, "tib": 1 << 40,
	"pb": 1 << 50, "pi": 1 << 50, "pib": 1 << 50, "eb": 1 << 60, "ei": 1 << 60, "eib": 1 << 60,
}

func integer(text string) (value any, ok bool, err error) {
	digits := 0
	for _, r := range text {
		if !unicode.IsDigit(r) && r != '-' {
			break
		}
		digits++
	}
	n, err := strconv.ParseInt(text[:digits], 10, 64)
	if err != nil {
		return nil, false, errors.New("an integer is out of the range")
	}
	unit, ok := units[strings.ToLower(strings.TrimSpace(text[digits:]))]
	return n * unit, ok, nil
}

func (p *parser) push(f *frame) error {
	if len(p.stack)+p.depth > mostDepth {
		return p.fail(f.start, "blocks are nested more than %d deep", mostDepth)
	}
	p.stack = append(p.stack, f)
	return nil
}

func (p *parser) pop() *frame {
	f := p.stack[len(p.stack)-1]
	p.stack = p.stack[:len(p.stack)-1]
	_ = p.stack[len(p.stack)-1] // as in nats-server, where the outermost cannot end
	return f
}

// set puts a value where it belongs. it is where the value begins.
func (p *parser) set(it item, n *Node) error {
	n.size = max(n.size, 1)
	top := p.stack[len(p.stack)-1]
	if top.size += n.size; top.size > mostNodes {
		return p.fail(it, "it has more than %d values, with every use of a variable counted", mostNodes)
	}
	if top.depth = max(top.depth, n.depth); top.depth+len(p.stack) > 2*mostDepth {
		return p.fail(it, "blocks are nested more than %d deep", 2*mostDepth)
	}
	if top.block == nil {
		n.Pos = p.at(it)
		top.list = append(top.list, n)
		return nil
	}
	key := p.keys[len(p.keys)-1]
	p.keys = p.keys[:len(p.keys)-1]
	n.Pos = p.at(key)
	top.block.set(&Entry{Key: key.val, Pos: n.Pos, Node: n})
	return nil
}

func (p *parser) include(it item) error {
	path := filepath.Join(filepath.Dir(p.name), it.val)
	if p.r.in.Read == nil {
		return p.fail(it, "include of %q: there are no files here", it.val)
	}
	text, err := p.r.in.Read(path)
	if err != nil {
		return p.fail(it, "include of %q: %s", it.val, err)
	}
	included, err := p.r.file(path, text, p.depth+1)
	if err != nil {
		return err
	}
	top := p.stack[len(p.stack)-1]
	if top.block == nil {
		return p.fail(it, "include in an array")
	}
	copies := make(map[*Entry]*Entry, len(included.Entries))
	for _, e := range included.Entries {
		copies[e] = &Entry{Key: e.Key, Pos: e.Pos, Node: e.Node, Used: e.Used}
	}
	for _, e := range included.Entries {
		c := copies[e]
		if top.size += e.Node.size; e.Replaced != nil {
			c.Replaced = copies[e.Replaced]
			top.block.Entries = append(top.block.Entries, c)
			continue
		}
		top.depth = max(top.depth, e.Node.depth)
		top.block.set(c)
	}
	if top.size > mostNodes {
		return p.fail(it, "it has more than %d values, with every use of a variable counted", mostNodes)
	}
	return nil
}

func (p *parser) variable(it item) error {
	if strings.HasPrefix(it.val, bcryptTag) {
		return p.set(it, &Node{Value: "$" + it.val})
	}
	for i := len(p.stack) - 1; i >= 0; i-- {
		if block := p.stack[i].block; block != nil {
			if e := block.Get(it.val); e != nil {
				e.Used = true
				n := *e.Node
				n.Var = it.val
				return p.set(it, &n)
			}
		}
	}
	n, err := p.fromEnv(it)
	switch {
	case errors.Is(err, ErrUnset):
		n = &Node{Value: "", Unset: true}
		p.r.tree.Unset = append(p.r.tree.Unset, n)
	case err != nil:
		return p.fail(it, "a variable could not be read: %s", err)
	}
	n.Var, n.Env = it.val, true
	return p.set(it, n)
}

// fromEnv is the value of a variable of the environment, which nats-server
// reads as it reads a file.
func (p *parser) fromEnv(it item) (*Node, error) {
	name, here := it.val, p.at(it)
	if p.env[name] {
		return nil, errors.New("variables refer to each other")
	}
	if p.r.in.Env == nil {
		return nil, ErrUnset
	}
	text, ok := p.r.in.Env(name)
	if !ok {
		return nil, ErrUnset
	}
	if p.r.bytes += len(text); p.r.bytes > MostBytes {
		return nil, errors.New("too much text")
	}
	p.env[name] = true
	defer delete(p.env, name)
	sub := newParser(p.r, p.name, envKey+"="+text, p.depth+1)
	sub.env, sub.fixed = p.env, &here
	if sub.depth > mostDepth {
		return nil, errors.New("variables refer to each other too deeply")
	}
	if err := sub.parse(); err != nil {
		var e *Error
		if errors.As(err, &e) {
			return nil, errors.New("its value is none")
		}
		return nil, err
	}
	e := sub.root.Get(envKey)
	if e == nil {
		return nil, ErrUnset
	}
	n := *e.Node
	return &n, nil
}
