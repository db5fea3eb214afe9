package manifest

import (
	"fmt"
	"regexp"
	"strings"
)

// Block scalars are read here, and not by the YAML library: so the line of every
// line of a configuration is known, and what the library sees stays small. In
// their place it finds a word that stands for them.

// header is a line at whose end a block scalar begins: what is before its value,
// its key, the properties of its value, | or >, and how it is to be read.
var header = regexp.MustCompile(`^( *(?:[-?] +)*)((?:"(?:[^"\\]|\\.)*"|'[^']*'|[^\s#"'\[\]{},&*!|>%@` + "`" + `][^#:]*(?::[^\s#:][^#:]*)*)[ \t]*:[ \t]+)?((?:[!&][^\s,\[\]{}]*[ \t]+)*)([|>])([+-]?[1-9]?|[1-9][+-])[ \t]*(?:[ \t]#.*)?$`)

// standIn is the word for a block scalar.
const standIn = "natsentry-block-scalar-%d"

// blockScalar is a value in several lines.
type blockScalar struct {
	text   string
	first  int  // its first line in the document, from 0
	indent int  // bytes before it in each line
	exact  bool // its lines are lines of the document
}

// lift takes the block scalars out of a document. Lines stay where they are.
func (d *document) lift() (rest string, blocks []blockScalar) {
	out := make([]string, len(d.lines))
	for i := 0; i < len(d.lines); i++ {
		l := d.lines[i]
		out[i] = l
		if !strings.ContainsAny(l, "|>") {
			continue
		}
		m := header.FindStringSubmatchIndex(l)
		if m == nil || m[4] < 0 && !strings.ContainsAny(l[m[2]:m[3]], "-?") {
			continue // none, or one whose parent is not in this line
		}
		parent := m[3] // the column of the key
		if m[4] < 0 {
			parent = strings.LastIndexAny(l[:m[3]], "-?")
		}
		b, next, ok := d.block(i+1, parent, l[m[8]] == '>', l[m[10]:m[11]])
		if !ok {
			continue // the library tells what is wrong
		}
		out[i] = l[:m[8]] + fmt.Sprintf(standIn, len(blocks))
		blocks = append(blocks, b)
		i = next - 1
	}
	return strings.Join(out, "\n"), blocks
}

// block reads a block scalar that begins in a line, and tells the line after it.
func (d *document) block(from, parent int, folded bool, how string) (b blockScalar, next int, ok bool) {
	indent := 0
	for _, c := range how {
		if c >= '1' && c <= '9' {
			indent = parent + int(c-'0')
		}
	}
	if indent == 0 {
		indent = parent + 1
		for _, l := range d.lines[from:] {
			if text := strings.TrimLeft(l, " "); text != "" {
				indent = max(indent, len(l)-len(text))
				break
			}
		}
	}
	b = blockScalar{first: from, indent: indent, exact: !folded}
	var (
		out             strings.Builder
		blanks          int  // lines without text before the next one
		ended, indented bool // the line before has text; it begins with a blank
	)
	for next = from; next < len(d.lines); next++ {
		l := d.lines[next]
		if len(strings.TrimLeft(l, " ")) == 0 && len(l) <= indent {
			if next < len(d.lines)-1 || l != "" {
				blanks++
			}
			continue
		}
		if len(l)-len(strings.TrimLeft(l, " ")) < indent {
			if strings.HasPrefix(strings.TrimLeft(l, " "), "\t") {
				return b, 0, false
			}
			break
		}
		text := l[indent:]
		deeper := text[0] == ' ' || text[0] == '\t'
		switch {
		case ended && folded && !indented && !deeper && blanks == 0:
			out.WriteByte(' ')
		case ended && (!folded || indented || deeper):
			out.WriteByte('\n')
		}
		out.WriteString(strings.Repeat("\n", blanks))
		out.WriteString(text)
		ended, indented, blanks = true, deeper, 0
	}
	switch {
	case strings.Contains(how, "-"):
	case strings.Contains(how, "+"):
		if ended {
			out.WriteByte('\n')
		}
		out.WriteString(strings.Repeat("\n", blanks))
	case ended:
		out.WriteByte('\n')
	}
	b.text = out.String()
	return b, next, true
}
