package main

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
)

// clean makes a string of any origin fit for a terminal: one line, and
// nothing in it that moves, hides or colours. What is taken out leaves a
// mark, so that two names do not become one.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// cleanLines is clean for text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = clean(strings.ReplaceAll(l, "\t", "  "))
	}
	return strings.Join(lines, "\n")
}

// wrap breaks running text into lines of at most width columns, where it has
// spaces. Colour takes no room.
func wrap(running string, width int) []string {
	var lines []string
	line, length := "", 0
	for word := range strings.FieldsSeq(running) {
		n := text.StringWidthWithoutEscSequences(word)
		if line != "" && length+1+n > width {
			lines, line, length = append(lines, line), "", 0
		}
		if line != "" {
			line, length = line+" ", length+1
		}
		line, length = line+word, length+n
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// short is a name as it fits into a table.
func short(name string) string {
	const most = 32
	if r := []rune(clean(name)); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return orDash(name)
}
