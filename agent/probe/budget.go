package probe

import (
	"context"
	"net"
	"sync"
	"time"
)

// budget is how long one touch may take. It follows the round trips that the
// touch itself measures: a server that is far away is not taken for one that
// says nothing.
type budget struct {
	began   time.Time
	timeout time.Duration // where the way is short

	mu   sync.Mutex
	trip time.Duration // the longest round trip so far
}

const (
	// roundTrips is how many a touch needs at most: it connects two or three
	// times, and each time there are a greeting, a TLS handshake and a verdict.
	roundTrips = 12
	// longest is the bound of a budget, in time-outs: a server that answers late
	// on purpose does not hold up the audit.
	longest = 3
	// patience bounds how long a listener may take to greet before TLS is tried:
	// one that waits for TLS hangs up after 2 s by default.
	patience = 1500 * time.Millisecond
)

func (p *Prober) newBudget() *budget {
	timeout := p.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	return &budget{began: time.Now(), timeout: timeout}
}

// within bounds the context by the longest that the budget can become.
func (b *budget) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, b.began.Add(longest*b.timeout))
}

func (b *budget) deadline() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.began.Add(min(b.timeout+roundTrips*b.trip, longest*b.timeout))
}

// silence is how long a listener that says nothing is waited for, at a
// distance of so much.
func (b *budget) silence(near time.Duration) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(near, min(near+b.trip, patience))
}

func (b *budget) measured(trip time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trip = max(b.trip, trip)
}

// dial connects, and measures how long that takes.
func (p *Prober) dial(ctx context.Context, b *budget, address string) (net.Conn, error) {
	ctx, cancel := context.WithDeadline(ctx, b.deadline())
	defer cancel()
	began := time.Now()
	c, err := p.Dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	b.measured(time.Since(began))
	if err := c.SetDeadline(b.deadline()); err != nil {
		_ = c.Close() // nothing was sent over it
		return nil, err
	}
	return &measuredConn{Conn: c, budget: b, asked: time.Now()}, nil
}

// measuredConn measures when the first answer comes, and moves its deadline by
// that. Later answers are not measured: they may wait for whoever decides about
// a login, and that is no distance.
type measuredConn struct {
	net.Conn
	budget *budget

	mu    sync.Mutex
	asked time.Time // zero once an answer has come
}

func (c *measuredConn) Write(data []byte) (int, error) {
	c.mu.Lock()
	if !c.asked.IsZero() {
		c.asked = time.Now()
	}
	c.mu.Unlock()
	return c.Conn.Write(data)
}

func (c *measuredConn) Read(data []byte) (int, error) {
	n, err := c.Conn.Read(data)
	if n == 0 {
		return n, err
	}
	c.mu.Lock()
	first, trip := !c.asked.IsZero(), time.Since(c.asked)
	c.asked = time.Time{}
	c.mu.Unlock()
	if first {
		c.budget.measured(trip)
		if late := c.SetDeadline(c.budget.deadline()); err == nil {
			err = late
		}
	}
	return n, err
}
