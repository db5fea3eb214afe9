package conffile

import (
	"regexp"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// Ignore is a comment that accepts what checks find in one line:
//
//	no_auth_user: guest   # natsentry:ignore DOOR_001,CONF_004 the lab is open
//
// It speaks of its own line, or of the next one if nothing else stands in its
// line. In the first line it speaks of the file as a whole too.
type Ignore struct {
	Place  posture.Place // of the comment
	Line   int           // of which it speaks
	Inside bool          // of a value whose lines are no lines of the file: it does not count
	Checks []string
	Reason string // "" where it gives none, which does not count

	first bool // it stands in the first line
	whole posture.Place
}

var ignoreComment = regexp.MustCompile(`^(.*?)(?:#|//)[#/\s]*natsentry:ignore\b\s*(\S*)\s*(.*)$`)

// Ignores lists the comments of a configuration that accept findings.
func (f *File) Ignores() []Ignore {
	var out []Ignore
	for name, t := range f.texts {
		for i, line := range t.lines {
			if !strings.Contains(line, "natsentry:ignore") {
				continue
			}
			m := ignoreComment.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			g := Ignore{
				Place: f.src.place(name, i+1, len(m[1])+1), Line: i + 1, Reason: strings.TrimSpace(m[3]),
				Inside: f.src.Exact != nil && !f.src.Exact(name), first: i == 0, whole: f.src.place(name, 0, 0),
			}
			if m[2] != "" {
				g.Checks = strings.Split(strings.ToUpper(m[2]), ",")
			}
			if strings.TrimSpace(m[1]) == "" {
				g.Line = t.next(i + 1)
			}
			g.Line = f.src.place(name, g.Line, 1).Line
			out = append(out, g)
		}
	}
	return out
}

// next is the first line after one that holds more than a comment.
func (t *text) next(line int) int {
	for i := line; i < len(t.lines); i++ {
		if s := strings.TrimSpace(t.lines[i]); s != "" && !strings.HasPrefix(s, "#") && !strings.HasPrefix(s, "//") {
			return i + 1
		}
	}
	return line
}

// Covers tells whether it speaks of a place, to a check.
func (g *Ignore) Covers(check string, p posture.Place) bool {
	if g.Reason == "" || g.Inside || p.File != g.Place.File || p.Line != g.Line && (p != g.whole || !g.first) {
		return false
	}
	for _, c := range g.Checks {
		if c == check {
			return true
		}
	}
	return false
}
