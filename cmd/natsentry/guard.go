package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"sync/atomic"

	"github.com/nats-io/nats.go"
)

// errPlaintext keeps a client from going on in plaintext where TLS failed.
var errPlaintext = errors.New("the server does not encrypt, although another server that was named does")

// guard watches how servers greet, before anything is sent to them. Once one of
// them has asked for TLS, no other one is spoken to in plaintext.
type guard struct {
	dialer   nats.CustomDialer
	secure   atomic.Bool
	rejected atomic.Bool // one has rejected the credentials, as far as plaintext shows
}

func (g *guard) Dial(network, address string) (net.Conn, error) {
	c, err := g.dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return &greeted{Conn: c, guard: g}, nil
}

// greeted hands on what a server says, the greeting not before it was read.
type greeted struct {
	net.Conn
	guard *guard
	read  bool
	left  []byte // of what was read and is still to be handed on
}

func (c *greeted) Read(p []byte) (int, error) {
	if !c.read {
		if err := c.greeting(); err != nil {
			return 0, err
		}
	}
	if len(c.left) > 0 {
		n := copy(p, c.left)
		c.left = c.left[n:]
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if bytes.HasPrefix(p[:n], []byte("-ERR 'Authorization Violation'")) {
		c.guard.rejected.Store(true)
	}
	return n, err
}

// greeting reads the first line. A server that speaks TLS or HTTP first is left
// alone: there the scheme of the URL or a flag decides.
func (c *greeted) greeting() error {
	r := bufio.NewReader(c.Conn)
	first, err := r.Peek(1)
	if err != nil {
		return err
	}
	var line []byte
	if first[0] == 'I' {
		if line, err = r.ReadBytes('\n'); err != nil {
			return err
		}
	}
	rest, err := r.Peek(r.Buffered())
	if err != nil {
		return err
	}
	c.read, c.left = true, bytes.Join([][]byte{line, rest}, nil)
	text, ok := bytes.CutPrefix(line, []byte("INFO "))
	var info struct {
		TLSRequired bool `json:"tls_required"`
	}
	if !ok || json.Unmarshal(text, &info) != nil {
		return nil // for the client to refuse
	}
	switch {
	case info.TLSRequired:
		c.guard.secure.Store(true)
	case c.guard.secure.Load():
		return errPlaintext
	}
	return nil
}
