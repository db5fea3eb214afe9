package fleet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// loopback is the only host on which a fleet listens.
const loopback = "127.0.0.1"

// Ports come from below the range that systems use for outgoing connections
// (32768 and up on Linux, 49152 and up elsewhere): a reconnecting client must
// not sit on the port of a server that is about to restart. The range is cut
// into blocks, and a fleet holds the first port of each block that it uses as
// a guard, so that fleets of several test processes never pick the same port,
// and a crashed process leaves nothing reserved.
const (
	firstPort = 20000
	lastPort  = 32000
	blockSize = 40
)

// ports gives out loopback ports that nothing listens on.
type ports struct {
	mu     sync.Mutex
	guards []net.Listener
	free   []int
}

// take returns a port that stays this fleet's own until release.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if len(p.free) == 0 {
			if err := p.claim(); err != nil {
				return 0, err
			}
		}
		port := p.free[0]
		p.free = p.free[1:]
		if vacant(loopbackAddr(port)) == nil {
			return port, nil
		}
	}
}

// claim reserves one more block by holding its first port.
func (p *ports) claim() error {
	const blocks = (lastPort - firstPort) / blockSize
	start := rand.IntN(blocks)
	for i := range blocks {
		guard := firstPort + (start+i)%blocks*blockSize
		l, err := listen(guard)
		if err != nil {
			continue
		}
		p.guards = append(p.guards, l)
		for port := guard + 1; port < guard+blockSize; port++ {
			p.free = append(p.free, port)
		}
		return nil
	}
	return fmt.Errorf("no free loopback ports between %d and %d", firstPort, lastPort)
}

// release gives all ports back.
func (p *ports) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.guards {
		_ = l.Close() // only a reservation: nothing was ever accepted on it
	}
	p.guards, p.free = nil, nil
}

// vacant tells whether somebody listens on an address, by listening there for a
// moment. No process may be forked meanwhile: until it runs its program, it
// would hold the listener open that is closed here.
func vacant(addr string) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return l.Close()
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp4", loopbackAddr(port))
}

func loopbackAddr(port int) string {
	return net.JoinHostPort(loopback, strconv.Itoa(port))
}

// errNotLoopback refuses a configuration that would be reachable from outside.
var errNotLoopback = errors.New("a fleet listens on the loopback interface only")

// isLoopback reports whether host names the loopback interface and nothing else.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
