package main

import (
	"io"
	"sync"
	"time"

	"golang.org/x/term"
)

// isTerminal tells whether somebody looks at a stream.
func (p *program) isTerminal(stream any) bool {
	if p.terminal != nil {
		return p.terminal(stream)
	}
	f, ok := stream.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd())) //nolint:gosec // a file descriptor
}

// colourful tells whether output to a stream may be coloured: on a terminal,
// unless NO_COLOR says no (https://no-color.org).
func (p *program) colourful(w io.Writer) bool {
	return p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb" && p.isTerminal(w)
}

// progress shows on standard error that something is under way, until the
// returned function is called. It shows nothing where nobody looks.
func (p *program) progress(what string) (done func()) {
	if !p.isTerminal(p.stderr) || p.getenv("TERM") == "dumb" {
		return func() {}
	}
	return spin(p.stderr, clean(what))
}

const (
	spinPeriod = 120 * time.Millisecond
	clearLine  = "\r\x1b[K"
)

func spin(w io.Writer, what string) (done func()) {
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(spinPeriod)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				_, _ = io.WriteString(w, clearLine)
				return
			case <-tick.C:
				_, _ = io.WriteString(w, clearLine+string([]rune("|/-\\")[i%4])+" "+what)
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-ended })
}

// style is how text is coloured; the zero value does not.
type style struct{ on bool }

const (
	red    = "\x1b[1;31m"
	yellow = "\x1b[33m"
	green  = "\x1b[32m"
	blue   = "\x1b[36m"
	bold   = "\x1b[1m"
	faint  = "\x1b[2m"
	reset  = "\x1b[0m"
)

func (s style) in(colour, text string) string {
	if !s.on || text == "" {
		return text
	}
	return colour + text + reset
}
