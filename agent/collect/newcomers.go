package collect

import (
	"sync"
	"time"
)

// mostNewcomers bounds how many clients are remembered, in a storm too.
const mostNewcomers = 8 << 10

// newcomers remembers for a moment which clients have come. So a CONNECT that is
// told again is known, too, when its client is not older than reloadAge yet.
type newcomers struct {
	mu          sync.Mutex
	now, before map[newcomer]struct{}
	turned      time.Time
}

type newcomer struct {
	server string
	cid    uint64
}

// again tells whether the client of a CONNECT has been told of before.
func (n *newcomers) again(server string, cid uint64, at time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.now == nil || at.Sub(n.turned).Abs() > reloadAge {
		n.before, n.now, n.turned = n.now, map[newcomer]struct{}{}, at
	}
	key := newcomer{server, cid}
	_, now := n.now[key]
	_, before := n.before[key]
	if !now && len(n.now) < mostNewcomers {
		n.now[key] = struct{}{}
	}
	return now || before
}
