package conffile

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
)

// encoder writes a tree as a configuration without includes and variables, one
// key or value a line, so that nats-server's errors lead back to the tree.
type encoder struct {
	buf   bytes.Buffer
	lines []*syntax.Node // by line, from 0
	// instead gives another value for a node. keep is false for what is left out.
	instead func(n *syntax.Node) (value any, keep bool)
	bad     *syntax.Entry // a key that cannot be written
}

func (e *encoder) line(n *syntax.Node) {
	e.buf.WriteByte('\n')
	e.lines = append(e.lines, n)
}

// at is the node of a line of the text, which counts from 1.
func (e *encoder) at(line int) *syntax.Node {
	if line < 1 || line > len(e.lines) {
		return nil
	}
	return e.lines[line-1]
}

func (e *encoder) block(m *syntax.Map) {
	for _, entry := range m.Entries {
		if entry.Replaced != nil {
			continue
		}
		value, keep := entry.Node.Value, true
		if e.instead != nil {
			value, keep = e.instead(entry.Node)
		}
		if !keep {
			continue
		}
		quote := `"`
		if strings.Contains(entry.Key, `"`) {
			quote = `'`
		}
		if strings.Contains(entry.Key, quote) || strings.Contains(entry.Key, "\x00") {
			e.bad = entry
			continue
		}
		e.buf.WriteString(quote + entry.Key + quote + ": ")
		e.value(value, entry.Node)
		e.line(entry.Node)
		for range strings.Count(entry.Key, "\n") {
			e.lines = append(e.lines, entry.Node)
		}
	}
}

func (e *encoder) value(v any, n *syntax.Node) {
	switch v := v.(type) {
	case *syntax.Map:
		e.buf.WriteByte('{')
		e.line(n)
		e.block(v)
		e.buf.WriteByte('}')
	case []*syntax.Node:
		e.buf.WriteByte('[')
		e.line(n)
		for i, item := range v {
			value, keep := item.Value, true
			if e.instead != nil {
				value, keep = e.instead(item)
			}
			if !keep {
				continue
			}
			e.value(value, item)
			if i < len(v)-1 {
				e.buf.WriteByte(',')
			}
			e.line(item)
		}
		e.buf.WriteByte(']')
	case literal:
		e.buf.WriteString(string(v))
	case string:
		e.text(v)
	case int64:
		e.buf.WriteString(strconv.FormatInt(v, 10))
	case float64:
		s := strconv.FormatFloat(v, 'f', -1, 64)
		if v == math.Trunc(v) && !strings.Contains(s, ".") {
			s += ".0"
		}
		e.buf.WriteString(s)
	case bool:
		e.buf.WriteString(strconv.FormatBool(v))
	case time.Time:
		e.buf.WriteString(v.UTC().Format("2006-01-02T15:04:05Z"))
	}
}

func (e *encoder) text(s string) {
	e.buf.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			e.buf.WriteByte('\\')
			e.buf.WriteByte(c)
		case c < 0x20 || c == 0x7f:
			fmt.Fprintf(&e.buf, `\x%02x`, c)
		default:
			e.buf.WriteByte(c)
		}
	}
	e.buf.WriteByte('"')
}
