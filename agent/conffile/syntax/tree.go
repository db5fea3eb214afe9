package syntax

import (
	"errors"
	"fmt"
)

// Bounds of what one configuration may be, with all that it includes.
const (
	MostBytes = 16 << 20
	MostFiles = 1000
	mostDepth = 100     // blocks in blocks, and files in files
	mostNodes = 2000000 // with every use of a variable counted
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

	depth int // of the blocks and arrays in it
	size  int // the values in it, and itself
}

// Map is a block.
type Map struct {
	Entries []*Entry // as they are written, replaced ones too
	last    map[string]*Entry
}

func newMap() *Map { return &Map{last: map[string]*Entry{}} }

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
	Pos   Pos
	Text  string
	Cause error // of reading a file; nil otherwise
	Odd   bool  // nats-server may read it, as something that nobody would expect
}

// Unwrap gives the error of reading a file.
func (e *Error) Unwrap() error { return e.Cause }

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
	// Place tells where a position of a text is to be told, when the text stands in
	// another file. Nil: where it is.
	Place func(Pos) Pos
}

// Tree is a configuration as it was read.
type Tree struct {
	Root  *Map
	Files []File  // in the order in which they were first read
	Unset []*Node // uses of variables without a value, in the order of their places
	names map[string]bool
}

// File is one file of a configuration.
type File struct {
	Name string
	Text string
}

// Parse reads a configuration of which the text is given; includes are looked
// for beside it.
func Parse(name string, text []byte, in Surroundings) (*Tree, error) {
	r := &reader{in: in, tree: &Tree{names: map[string]bool{}}}
	root, err := r.file(name, text, 0)
	if err != nil {
		return nil, err
	}
	r.tree.Root = root
	return r.tree, nil
}
