package syntax

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// value reads a value of any kind.
func (d *document) value() (*Node, error) {
	d.while(isBlank)
	at := d.at
	r, _ := d.peek()
	switch {
	case d.take('['):
		return d.list(at)
	case d.take('{'):
		return d.block(at)
	case d.take('('):
		return d.lines(at)
	case d.take('\''):
		text := d.until(func(r rune) bool { return r == '\'' })
		if !d.take('\'') {
			return nil, d.odd(at, "a quote is not closed")
		}
		return newNode(text), nil
	case d.take('"'):
		text, _, err := d.chars(func(r rune) bool { return r == '"' })
		if err == nil && !d.take('"') {
			err = d.odd(at, "a quote is not closed")
		}
		return newNode(text), err
	case r == '-' || unicode.IsDigit(r):
		return d.number()
	case r == '.':
		return nil, d.fail(at, "a number begins with a digit; quote it if it is none")
	case isNewline(r):
		return nil, d.fail(at, "a value is missing: it stands in the line of its key")
	}
	return d.word(at)
}

// endsWord tells what ends a string without quotes.
func endsWord(r rune) bool {
	return isNewline(r) || isBlank(r) || strings.ContainsRune(";,]}'", r)
}

// word reads a string without quotes: a bool, a variable, or just that.
func (d *document) word(at int) (*Node, error) {
	text, plain, err := d.chars(endsWord)
	switch {
	case err != nil:
		return nil, err
	case d.take('\''), !plain:
		return newNode(text), nil
	}
	switch strings.ToLower(text) {
	case "true", "yes", "on":
		return newNode(true), nil
	case "false", "no", "off":
		return newNode(false), nil
	}
	if name, ok := strings.CutPrefix(text, "$"); ok {
		return d.variable(name, at)
	}
	return newNode(text), nil
}

// escapes are what can follow on a backslash, beside two hexadecimal digits.
var escapes = map[rune]byte{'t': '\t', 'n': '\n', 'r': '\r', '"': '"', '\\': '\\'}

// chars reads a string up to what ends it. plain means that nothing in it was
// escaped.
func (d *document) chars(ends func(rune) bool) (text string, plain bool, err error) {
	var b strings.Builder
	for plain = true; ; plain = false {
		b.WriteString(d.until(func(r rune) bool { return r == '\\' || ends(r) }))
		at := d.at
		if !d.take('\\') {
			return b.String(), plain, nil
		}
		r := d.next()
		if c, ok := escapes[r]; ok {
			b.WriteByte(c)
			continue
		}
		digits := d.text[d.at:min(d.at+2, len(d.text))]
		c, err := strconv.ParseUint(digits, 16, 8)
		if r != 'x' || len(digits) != 2 || err != nil || digits[0] == '+' {
			return "", false, d.fail(at, `a \ that escapes nothing: there are \xXX, \t, \n, \r, \" and \\`)
		}
		d.at += 2
		b.WriteByte(byte(c))
	}
}

// lines reads a text that ends with a line that holds nothing but a ). The
// first parenthesis was taken.
func (d *document) lines(at int) (*Node, error) {
	from := d.at
	for {
		i := strings.Index(d.text[d.at:], "\n)")
		if i < 0 {
			return nil, d.fail(at, "a text in parentheses is not closed: that takes a line with nothing but a )")
		}
		closing := d.at + i + 1
		d.at = closing + 1
		switch rest := d.text[d.at:]; {
		case rest == "":
			return newNode(d.text[from:]), nil // nats-server keeps this one
		case rest[0] == '\n':
			return newNode(d.text[from:closing]), nil
		}
	}
}

// endsNumber tells what ends a number. A ] does not.
func endsNumber(r rune) bool {
	return r == end || isNewline(r) || isBlank(r) || strings.ContainsRune("};,", r)
}

// number reads what begins with a digit or a minus: a number, with or without a
// unit, a date, an IP address, or a string.
func (d *document) number() (*Node, error) {
	from := d.at
	negative := d.take('-')
	if d.while(unicode.IsDigit) == "" {
		return nil, d.fail(from, "no digit follows on a minus; quote it if it is no number")
	}
	digits := d.text[from:d.at]
	r, n := d.peek()
	switch {
	case r == '.':
		return d.fraction(from)
	case strings.ContainsRune("kKmMgGtTpPeE", r):
		d.next()
		d.while(func(r rune) bool { return strings.ContainsRune("bBiI", r) })
		if after, _ := d.peek(); endsNumber(after) {
			return d.integer(from, digits)
		}
		return d.rest(from)
	case negative, endsNumber(r):
		return d.integer(from, digits)
	case r == '-':
		if len(digits) != len("2006") {
			return nil, d.fail(from, "a date is written 2006-01-02T15:04:05Z; quote it if it is none")
		}
		return d.date(from)
	}
	d.at += n // whatever it is, quotes and brackets too
	return d.rest(from)
}

// rest is a string that began as something else.
func (d *document) rest(from int) (*Node, error) {
	head := d.text[from:d.at]
	tail, _, err := d.chars(endsWord)
	d.take('\'')
	return newNode(head + tail), err
}

// fraction reads a number from its point on; one with two points is an address.
func (d *document) fraction(from int) (*Node, error) {
	d.next()
	if d.while(unicode.IsDigit) == "" {
		return nil, d.fail(from, "no digit follows on a point; quote it if it is no number")
	}
	if d.take('.') {
		d.while(func(r rune) bool { return unicode.IsDigit(r) || strings.ContainsRune(".:-", r) })
		return newNode(d.text[from:d.at]), nil
	}
	f, err := strconv.ParseFloat(d.text[from:d.at], 64)
	if err != nil {
		return nil, d.fail(from, "a number is out of range")
	}
	return newNode(f), nil
}

func (d *document) date(from int) (*Node, error) {
	const layout = "2006-01-02T15:04:05Z"
	d.at = min(from+len(layout), len(d.text))
	t, err := time.Parse(layout, d.text[from:d.at])
	if err != nil {
		return nil, d.fail(from, "a date is written %s; quote it if it is none", layout)
	}
	return newNode(t), nil
}

var units = map[string]int64{
	"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18,
	"kb": 1 << 10, "ki": 1 << 10, "kib": 1 << 10, "mb": 1 << 20, "mi": 1 << 20, "mib": 1 << 20,
	"gb": 1 << 30, "gi": 1 << 30, "gib": 1 << 30, "tb": 1 << 40, "ti": 1 << 40, "tib": 1 << 40,
	"pb": 1 << 50, "pi": 1 << 50, "pib": 1 << 50, "eb": 1 << 60, "ei": 1 << 60, "eib": 1 << 60,
}

// integer is a number, times its unit: as in nats-server, where a product that
// is too large wraps around.
func (d *document) integer(from int, digits string) (*Node, error) {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return nil, d.fail(from, "a number is out of range")
	}
	unit, ok := units[strings.ToLower(d.text[from+len(digits):d.at])]
	if !ok {
		return nil, d.odd(from, "a number with a unit that there is not")
	}
	return newNode(n * unit), nil
}
