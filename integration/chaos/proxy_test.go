//go:build unix

package chaos

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between an agent and the servers, and can be cut.
type proxy struct {
	listener net.Listener
	targets  []string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
	next  int
}

func startProxy(t *testing.T, targets ...string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, targets: targets, conns: map[net.Conn]bool{}}
	t.Cleanup(func() {
		_ = l.Close() // the test is over
		p.setCut(true)
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(conn)
		}
	}()
	return p
}

func (p *proxy) url() string { return "nats://" + p.listener.Addr().String() }

// setCut ends all connections and refuses new ones, or lets them in again.
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	if cut {
		for c := range p.conns {
			_ = c.Close() // that is the point
		}
		clear(p.conns)
	}
}

// serve connects to the first server that is there.
func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	var out net.Conn
	for range p.targets {
		p.mu.Lock()
		target := p.targets[p.next%len(p.targets)]
		p.next++
		cut := p.cut
		p.mu.Unlock()
		if cut {
			return
		}
		var err error
		if out, err = net.Dial("tcp", target); err == nil {
			break
		}
	}
	if out == nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	if p.cut {
		p.mu.Unlock()
		return
	}
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	done := make(chan struct{}, 2)
	pipe := func(to, from net.Conn) {
		_, _ = io.Copy(to, from) // it ends with the connection
		done <- struct{}{}
	}
	go pipe(out, in)
	go pipe(in, out)
	<-done
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}
