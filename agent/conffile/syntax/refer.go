package syntax

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// include reads a file into a block. The word include was taken; from is where
// it stands.
func (d *document) include(into *Node, from int) error {
	d.while(isBlank)
	at := d.at
	r, _ := d.peek()
	var name string
	switch {
	case r == '"' || r == '\'':
		d.next()
		name = d.until(func(c rune) bool { return c == r })
		if !d.take(r) {
			return d.fail(at, "a quote is not closed")
		}
	case strings.ContainsRune("[{(-\\", r), unicode.IsDigit(r), isNewline(r):
		return d.fail(at, "include without the name of a file; quote it if it begins with a digit or a sign")
	default:
		name = d.until(func(r rune) bool { return isNewline(r) || isBlank(r) || r == ';' || r == '}' || r == '\'' })
		d.take('\'')
	}
	if d.r.in.Read == nil {
		return d.fail(at, "include of %q: there are no files here", name)
	}
	path := filepath.Join(d.dir, name)
	text, err := d.r.in.Read(path)
	if err != nil {
		return &Error{Pos: d.pos(at), Text: fmt.Sprintf("include of %q: %s", name, err), Cause: err}
	}
	m, err := d.r.file(path, text, d.depth+1)
	if err != nil {
		return err
	}
	return d.adopt(into, m, from)
}

// adopt copies the entries of an included file into a block.
func (d *document) adopt(into *Node, m *Map, at int) error {
	copies := make(map[*Entry]*Entry, len(m.Entries))
	for _, e := range m.Entries {
		c := *e
		copies[e] = &c
	}
	block := into.Value.(*Map)
	for _, e := range m.Entries {
		c := copies[e]
		if err := d.grow(into, c.Node, at); err != nil {
			return err
		}
		if e.Replaced != nil {
			c.Replaced = copies[e.Replaced]
			block.Entries = append(block.Entries, c)
			continue
		}
		block.set(c)
	}
	return nil
}

// variable is what a name with a $ before it stands for: the nearest key of
// that name in the blocks around, as far as they were read, or a variable of the
// environment.
func (d *document) variable(name string, at int) (*Node, error) {
	if strings.HasPrefix(name, "2a$") {
		return newNode("$" + name), nil // a bcrypt hash without quotes
	}
	for i := len(d.scopes) - 1; i >= 0; i-- {
		if e := d.scopes[i].Get(name); e != nil {
			e.Used = true
			n := *e.Node
			n.Var = name
			return &n, nil
		}
	}
	n, err := d.fromEnv(name, at)
	switch {
	case errors.Is(err, ErrUnset) && !plainName.MatchString(name):
		return nil, d.fail(at, "%s", noVariable(name))
	case errors.Is(err, ErrUnset):
		n = newNode("")
		n.Unset = true
		d.r.tree.Unset = append(d.r.tree.Unset, n)
	case err != nil:
		return nil, d.fail(at, "the variable %q could not be read: %s", name, err)
	}
	n.Var, n.Env = name, true
	return n, nil
}

var (
	// plainName is what variables are called: a shell, a unit and a container take
	// no other names.
	plainName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	bracedName = regexp.MustCompile(`^[{(]([A-Za-z_][A-Za-z0-9_]*)`)
)

// noVariable says why nothing is called like that. What is not plainly a name may be
// a secret, and is not shown.
func noVariable(name string) string {
	if m := bracedName.FindStringSubmatch(name); m != nil {
		return "braces are not a form of variable: nats-server looks for one whose name has the brace in it, and does not start; write $" + m[1] + ", or quote the value if it is meant literally"
	}
	return "nats-server takes all of this value for the name of a variable, and no variable has that name, so it does not start: " +
		"a variable cannot be a part of a value; quote the value if it is meant literally"
}

// fromEnv is the value of a variable of the environment, which nats-server
// reads as it reads a file.
func (d *document) fromEnv(name string, at int) (*Node, error) {
	if d.env[name] {
		return nil, errors.New("variables refer to each other")
	}
	if d.r.in.Env == nil {
		return nil, ErrUnset
	}
	text, ok := d.r.in.Env(name)
	if !ok {
		return nil, ErrUnset
	}
	if d.r.bytes += len(text); d.r.bytes > MostBytes {
		return nil, errors.New("too much text")
	}
	if d.depth >= mostDepth {
		return nil, errors.New("variables refer to each other too deeply")
	}
	d.env[name] = true
	defer delete(d.env, name)
	const key = "pk"
	here := d.pos(at)
	sub := newDocument(d.r, d.name, key+"="+text)
	sub.env, sub.fixed, sub.depth = d.env, &here, d.depth+1
	m, err := sub.read()
	if err != nil {
		return nil, errors.New("its value is not one of a configuration")
	}
	e := m.Get(key)
	if e == nil {
		return nil, ErrUnset
	}
	n := *e.Node
	return &n, nil
}
