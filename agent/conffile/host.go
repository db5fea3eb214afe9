package conffile

import (
	"strings"
	"sync"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// Host is a file that holds configurations in its text, such as a Kubernetes
// manifest. It shows its lines without the secrets of any of them. Its methods may
// be called at the same time.
type Host struct {
	Name string

	mu   sync.Mutex
	text *text
	cut  map[int]int // lines of which only the beginning is shown, and its length
}

// NewHost is a file of a name and a text.
func NewHost(name string, text []byte) *Host {
	return &Host{Name: name, text: newText(string(text), nil), cut: map[int]int{}}
}

// Cut shows only the first bytes of a line: what follows is a value whose secrets
// cannot be told from the rest. Of several cuts the first one counts.
func (h *Host) Cut(line, length int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.cut[line]; !ok || length < n {
		h.cut[line] = length
	}
}

// CutFlow does so where more than one key stands in the line.
func (h *Host) CutFlow(line, length int) {
	if line <= len(h.text.lines) && strings.ContainsAny(h.text.lines[line-1], "{[") {
		h.Cut(line, length)
	}
}

// hide leaves more secrets out.
func (h *Host) hide(secrets []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	found := map[string]bool{}
	for _, s := range append(secrets, h.text.secrets...) {
		found[s] = true
	}
	h.text = &text{lines: h.text.lines, secrets: longestFirst(found)}
}

// line is a line as it may be shown.
func (h *Host) line(p posture.Place) (string, int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.cut[p.Line]; ok && p.Line <= len(h.text.lines) {
		all := h.text.lines[p.Line-1]
		shown := &text{lines: []string{all[:min(n, len(all))]}, secrets: h.text.secrets}
		line, column := shown.line(1, p.Column)
		if line = strings.TrimRight(line, " "); line != "" {
			line += " " + masked
		}
		return line, column
	}
	return h.text.line(p.Line, p.Column)
}

// path is the path by which nats-server knows the configuration.
func (s *Source) path() string {
	if s.Path != "" {
		return s.Path
	}
	return s.Name
}

// place is where a position of a file is told.
func (s *Source) place(file string, line, column int) posture.Place {
	if s.Place != nil {
		return s.Place(file, line, column)
	}
	return posture.Place{File: file, Line: line, Column: column}
}

// whole is where the configuration as a whole is told; zero where it is a file of
// its own.
func (s *Source) whole() posture.Place {
	if s.Place == nil {
		return posture.Place{}
	}
	return s.Place(s.path(), 0, 0)
}

// told is place for the reader of the syntax; nil where all is told where it is.
func (s *Source) told() func(syntax.Pos) syntax.Pos {
	if s.Place == nil {
		return nil
	}
	return func(p syntax.Pos) syntax.Pos {
		q := s.Place(p.File, p.Line, p.Column)
		return syntax.Pos{File: q.File, Line: q.Line, Column: q.Column}
	}
}
