package syntax

import (
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"
)

// end is the rune after the last one.
const end rune = -1

// scanner walks through a text. A text holds no NUL.
type scanner struct {
	text  string
	at    int
	lines []int // where lines start
}

func newScanner(text string) scanner {
	lines := []int{0}
	for i := range len(text) {
		if text[i] == '\n' {
			lines = append(lines, i+1)
		}
	}
	return scanner{text: text, lines: lines}
}

// peek is the next rune, and its length.
func (s *scanner) peek() (rune, int) {
	if s.at >= len(s.text) {
		return end, 0
	}
	return utf8.DecodeRuneInString(s.text[s.at:])
}

// next takes a rune.
func (s *scanner) next() rune {
	r, n := s.peek()
	s.at += n
	return r
}

// take takes a rune if it is the next one.
func (s *scanner) take(want rune) bool {
	r, n := s.peek()
	if r != want {
		return false
	}
	s.at += n
	return true
}

// until takes what stands before the first rune that ends it, or before the end.
func (s *scanner) until(ends func(rune) bool) string {
	from := s.at
	for {
		r, n := s.peek()
		if r == end || ends(r) {
			return s.text[from:s.at]
		}
		s.at += n
	}
}

// while takes runes as long as they fit.
func (s *scanner) while(fits func(rune) bool) string {
	return s.until(func(r rune) bool { return !fits(r) })
}

// comment takes a comment up to the end of its line, if one begins here.
func (s *scanner) comment() bool {
	rest := s.text[s.at:]
	if !strings.HasPrefix(rest, "#") && !strings.HasPrefix(rest, "//") {
		return false
	}
	s.until(isNewline)
	return true
}

// skip takes runes that fit, and comments.
func (s *scanner) skip(fits func(rune) bool) {
	s.while(fits)
	for s.comment() {
		s.while(fits)
	}
}

// place is the line and the column of an offset, from 1.
func (s *scanner) place(at int) (line, column int) {
	line = sort.SearchInts(s.lines, at+1)
	return line, at - s.lines[line-1] + 1
}

func isNewline(r rune) bool   { return r == '\n' || r == '\r' }
func isBlank(r rune) bool     { return r == ' ' || r == '\t' }
func isSeparator(r rune) bool { return r == ':' || r == '=' }
func isSpace(r rune) bool     { return r != end && unicode.IsSpace(r) }
