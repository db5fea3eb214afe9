package syntax

import (
	"fmt"
	"path/filepath"
	"strings"
)

// reader reads a configuration with all that it refers to.
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
		return nil, &Error{Pos: r.told(Pos{File: name}), Text: "files include each other too deeply"}
	case r.files > MostFiles:
		return nil, &Error{Pos: r.told(Pos{File: name}), Text: fmt.Sprintf("more than %d files are included", MostFiles)}
	case r.bytes > MostBytes:
		return nil, &Error{Pos: r.told(Pos{File: name}), Text: fmt.Sprintf("it is larger than %d MiB with what it includes", MostBytes>>20)}
	}
	if !r.tree.names[name] {
		r.tree.names[name] = true
		r.tree.Files = append(r.tree.Files, File{name, string(text)})
	}
	d := newDocument(r, name, string(text))
	d.dir, d.depth = filepath.Dir(name), depth
	return d.read()
}

// MarkAdvice is what to say of a key, or an error, that comes of a byte order mark.
const MarkAdvice = "the file begins with a byte order mark, which nats-server takes for a part of the first key: save it as UTF-8 without one"

// advice is what is said more of an error in a line that a byte order mark begins.
func (d *document) advice(at int) string {
	if line, _ := d.place(at); line == 1 && strings.HasPrefix(d.text, "\ufeff") {
		return "; " + MarkAdvice
	}
	return ""
}

// document is one file, or the value of one variable of the environment.
type document struct {
	scanner
	r     *reader
	name  string
	dir   string          // where includes are looked for
	env   map[string]bool // variables of the environment that are being read
	fixed *Pos            // where everything stands that comes from one of those
	depth int             // of the block that is being read, through all files

	scopes []*Map // the blocks around, the outermost first
}

func newDocument(r *reader, name, text string) *document {
	return &document{scanner: newScanner(text), r: r, name: name, dir: ".", env: map[string]bool{}}
}

func (d *document) pos(at int) Pos {
	if d.fixed != nil {
		return *d.fixed
	}
	line, column := d.place(at)
	return d.r.told(Pos{d.name, line, column})
}

// told is a position as it is told.
func (r *reader) told(p Pos) Pos {
	if r.in.Place == nil {
		return p
	}
	return r.in.Place(p)
}

func (d *document) fail(at int, format string, v ...any) error {
	return &Error{Pos: d.pos(at), Text: fmt.Sprintf(format, v...) + d.advice(at)}
}

func (d *document) odd(at int, format string, v ...any) error {
	return &Error{Pos: d.pos(at), Text: fmt.Sprintf(format, v...) + "; nats-server may take it for something else than it looks like" + d.advice(at), Odd: true}
}

// deeper counts blocks, arrays and files that are inside of each other.
func (d *document) deeper(at int) error {
	if d.depth++; d.depth > mostDepth {
		return d.fail(at, "blocks are nested more than %d deep", mostDepth)
	}
	return nil
}

// read reads all: entries, and entries in braces that make no block.
func (d *document) read() (*Map, error) {
	if at := strings.IndexByte(d.text, 0); at >= 0 {
		return nil, d.odd(at, "it holds a NUL byte, so it is no text, or one in UTF-16: save it as UTF-8")
	}
	root := newNode(newMap())
	m := root.Value.(*Map)
	d.scopes = append(d.scopes, m)
	for {
		d.skip(isSpace)
		at := d.at
		switch r, _ := d.peek(); {
		case r == end:
			return m, nil
		case r == '/':
			return nil, d.odd(at, "a single /: a comment begins with # or //")
		case d.take('{'):
			if err := d.braces(root, at, false); err != nil {
				return nil, err
			}
		default:
			if err := d.entry(root, false); err != nil {
				return nil, err
			}
			if err := d.entryEnd(); err != nil {
				return nil, err
			}
		}
	}
}

// entryEnd is what follows on a value of the outermost block.
func (d *document) entryEnd() error {
	d.while(isBlank)
	at := d.at
	switch r, _ := d.peek(); {
	case r == end || d.comment():
		return nil
	case isNewline(r), r == ';', r == ',', r == '}':
		d.next()
		return nil
	case r == '/':
		return d.odd(at, "a single /: a comment begins with # or //")
	}
	return d.fail(at, "after a value only the end of the line or a comment can follow: put each key in a line of its own, and quotes around a value with spaces")
}

// braces reads entries of the outermost block that stand in braces, as in JSON.
// The first brace was taken.
func (d *document) braces(root *Node, at int, nested bool) error {
	if err := d.deeper(at); err != nil {
		return err
	}
	defer func() { d.depth-- }()
	more := true // what comes may be an entry
	for {
		if more {
			d.skip(isSpace)
		} else {
			d.while(func(r rune) bool { return isBlank(r) || isNewline(r) })
		}
		at := d.at
		switch r, _ := d.peek(); {
		case d.take('}'):
			return nil
		case r == end && more && !nested:
			return nil // nats-server does not miss the brace
		case r == end:
			return d.odd(at, "a brace is not closed: a } is missing")
		case r == '/' && !d.comment():
			return d.odd(at, "a single /: a comment begins with # or //")
		case r == '/':
			more = true
		case !more && (r == ';' || r == ','):
			d.next()
			more = true
		case !more && d.comment():
			more = true
		case !more:
			return d.fail(at, "after a block in braces only a comma or another brace can follow")
		case d.take('{'):
			if err := d.braces(root, at, true); err != nil {
				return err
			}
			more = false
		default:
			if err := d.entry(root, false); err != nil {
				return err
			}
			d.skip(isBlank)
			at := d.at
			switch r, _ := d.peek(); {
			case isNewline(r), r == ';', r == ',':
				d.next()
			case r == '}':
			case r == '/':
				return d.odd(at, "a single /: a comment begins with # or //")
			case r == end:
				return d.odd(at, "a brace is not closed: a } is missing")
			default:
				return d.fail(at, "after a value only a comma, the end of the line, a brace or a comment can follow: put a comma between two keys, and quotes around a value with spaces")
			}
		}
	}
}

// block reads the entries of a block that has a name. Its first brace was taken.
func (d *document) block(opened int) (*Node, error) {
	if err := d.deeper(opened); err != nil {
		return nil, err
	}
	n := newNode(newMap())
	d.scopes = append(d.scopes, n.Value.(*Map))
	defer func() {
		d.depth--
		d.scopes = d.scopes[:len(d.scopes)-1]
	}()
	for {
		d.skip(isSpace)
		at := d.at
		switch r, _ := d.peek(); {
		case d.take('}'):
			return n, nil
		case r == end:
			return nil, d.fail(opened, "this block is not closed: a } is missing")
		case r == ']':
			return nil, d.fail(at, "a ] in a block closes nothing")
		case r == '/':
			return nil, d.odd(at, "a single /: a comment begins with # or //")
		}
		if err := d.entry(n, true); err != nil {
			return nil, err
		}
		d.skip(isBlank)
		at = d.at
		switch r, _ := d.peek(); {
		case isNewline(r), r == ';', r == ',':
			d.next()
		case r == '}':
		case r == '/':
			return nil, d.odd(at, "a single /: a comment begins with # or //")
		default:
			return nil, d.fail(at, "after a value only a comma, the end of the line, a } or a comment can follow: put a comma between two keys, and quotes around a value with spaces")
		}
	}
}

// entry reads a key with its value, or an include, into a block.
func (d *document) entry(into *Node, inBlock bool) error {
	at := d.at
	key, include, err := d.key()
	if err != nil {
		return err
	}
	if include {
		return d.include(into, at)
	}
	d.while(isSpace)
	separated := isSeparator(d.separator())
	if r, _ := d.peek(); r == end && !separated {
		if key == "}" {
			return nil // it closes what nothing opened, at the very end
		}
		return d.fail(d.at, "it ends after a key: give it a value, or take it out")
	}
	if inBlock {
		d.while(isSpace)
		switch r, _ := d.peek(); r {
		case '}':
			return d.odd(at, "a key without a value: give it one, or take it out")
		case ',':
			return d.fail(at, "a key without a value: give it one, or take it out")
		}
	}
	n, err := d.value()
	if err != nil {
		return err
	}
	n.Pos = d.pos(at)
	if err := d.grow(into, n, at); err != nil {
		return err
	}
	into.Value.(*Map).set(&Entry{Key: key, Pos: n.Pos, Node: n})
	return nil
}

// separator takes what separates a key from its value, if it stands here.
func (d *document) separator() rune {
	r, n := d.peek()
	if !isSeparator(r) {
		return end
	}
	d.at += n
	return r
}

// key takes a key, or the word include that a blank follows.
func (d *document) key() (key string, include bool, err error) {
	from := d.at
	r := d.next()
	switch {
	case isSeparator(r):
		return "", false, d.fail(from, "a %c without a key", r)
	case r == '"' || r == '\'':
		key = d.until(func(c rune) bool { return c == r })
		if !d.take(r) {
			return "", false, d.odd(from, "a quote is not closed: the same quote must follow on the text")
		}
		return key, false, nil
	}
	d.until(func(r rune) bool { return isSpace(r) || isSeparator(r) })
	key = d.text[from:d.at]
	after, _ := d.peek()
	return key, strings.ToLower(key) == "include" && isSpace(after), nil
}

// list reads an array. Its first bracket was taken.
func (d *document) list(opened int) (*Node, error) {
	if err := d.deeper(opened); err != nil {
		return nil, err
	}
	defer func() { d.depth-- }()
	n := newNode([]*Node{})
	var items []*Node
	for {
		d.skip(isSpace)
		at := d.at
		switch r, _ := d.peek(); {
		case r == end:
			return nil, d.fail(opened, "this array is not closed: a ] is missing")
		case d.take(']'):
			if items != nil {
				n.Value = items
			}
			return n, nil
		case r == ',':
			return nil, d.fail(at, "a value of an array is missing: take out the comma")
		case r == '/':
			return nil, d.fail(at, "a single /: a comment begins with # or //")
		}
		item, err := d.value()
		if err != nil {
			return nil, err
		}
		item.Pos = d.pos(at)
		if err := d.grow(n, item, at); err != nil {
			return nil, err
		}
		items = append(items, item)
		d.skip(isBlank)
		at = d.at
		switch r, _ := d.peek(); {
		case isNewline(r), r == ',':
			d.next()
		case r == ']':
		case r == '/':
			return nil, d.odd(at, "a single /: a comment begins with # or //")
		default:
			return nil, d.fail(at, "after a value of an array only a comma, the end of the line, a ] or a comment can follow")
		}
	}
}

func newNode(v any) *Node { return &Node{Value: v, size: 1, depth: 0} }

// grow counts a value as a part of another one.
func (d *document) grow(into, n *Node, at int) error {
	into.depth = max(into.depth, n.depth+1)
	if into.size += n.size; into.size > mostNodes {
		return d.fail(at, "it has more than %d values, with every use of a variable counted", mostNodes)
	}
	if into.depth > mostDepth {
		return d.fail(at, "blocks are nested more than %d deep", mostDepth)
	}
	return nil
}
