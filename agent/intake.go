package agent

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
)

// Bounds of the intake: what exceeds them is not kept, and sweeps see it later.
const (
	maxVisits   = 256  // anonymous-looking sessions per server until the loop takes them
	maxServers  = 4096 // servers of which events are kept
	maxClaimed  = 64   // accounts whose claims were pushed; beyond, all are looked at
	maxPeers    = 100  // peers per server that failed to log in
	shownPeers  = 5
	touchLatest = 30 * time.Second // how long after a touch its traces may come
)

// intake is where events wait for the loop: put in by many goroutines, taken
// out by one. It holds one entry per server, however many events there are.
type intake struct {
	now   func() time.Time
	burst int
	ready chan struct{} // has a token when there is something to take

	mu       sync.Mutex
	news     news
	failures map[string]*failures
	ours     map[string][]time.Time // by server: touches whose traces may still come
}

// news is what has come since the loop last took it.
type news struct {
	reloads map[string]bool              // servers that seem to have reloaded; true when a poll showed it
	asked   map[string]time.Time         // servers that somebody asks to reload
	churn   map[string]bool              // servers that dropped a client
	visits  map[string][]posture.Session // clients that came
	lively  map[string]bool              // servers that were heard, known or not
	gone    bool                         // a server says goodbye, or fell silent
	claims  bool                         // a JWT was pushed
	claimed map[string]bool              // the accounts that it was for
	unnamed bool                         // for one that cannot be told, or for too many
	failed  bool                         // a burst of failures began
}

func newNews() news {
	return news{
		reloads: map[string]bool{}, asked: map[string]time.Time{}, churn: map[string]bool{},
		visits: map[string][]posture.Session{}, lively: map[string]bool{}, claimed: map[string]bool{},
	}
}

func newIntake(now func() time.Time, burst int) *intake {
	return &intake{
		now: now, burst: burst, ready: make(chan struct{}, 1), news: newNews(),
		failures: map[string]*failures{}, ours: map[string][]time.Time{},
	}
}

// put takes an event in. It never blocks for long.
func (in *intake) put(e collect.Event) {
	in.mu.Lock()
	worth := in.sort(&e)
	in.mu.Unlock()
	if worth {
		in.wake()
	}
}

func (in *intake) wake() {
	select {
	case in.ready <- struct{}{}:
	default: // one is waiting already
	}
}

// sort puts an event where it belongs, and tells whether the loop should know.
func (in *intake) sort(e *collect.Event) bool {
	n := &in.news
	switch e.Kind {
	case collect.Moved:
		return note(n.reloads, e.Server, true)
	case collect.Reauthorized:
		return note(n.reloads, e.Server, n.reloads[e.Server])
	case collect.ReloadAsked:
		return note(n.asked, e.Server, e.At)
	case collect.Dropped:
		return note(n.churn, e.Server, true)
	case collect.Connected:
		if list := n.visits[e.Server]; e.Session.Account == posture.GlobalAccount && len(list) < maxVisits && (len(list) > 0 || len(n.visits) < maxServers) {
			n.visits[e.Server] = append(list, e.Session)
			return true
		}
	case collect.Appeared:
		return note(n.lively, e.Server, true)
	case collect.FellSilent, collect.Departed:
		n.gone = true
		return true
	case collect.ClaimsMoved:
		n.claims = true
		if e.Account == "" || len(n.claimed) >= maxClaimed {
			n.unnamed = true
		} else {
			n.claimed[e.Account] = true
		}
		return true
	case collect.Failed:
		return in.fail(e)
	}
	return false
}

// note keeps one value per server, for so many servers.
func note[T any](m map[string]T, server string, v T) bool {
	if _, ok := m[server]; !ok && len(m) >= maxServers {
		return false
	}
	m[server] = v
	return true
}

// take hands over what has come.
func (in *intake) take() news {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := in.news
	in.news = newNews()
	return n
}

// touching notes that a touch is about to leave traces at a server.
func (in *intake) touching(server string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	const traces = 2 // of one touch, at most
	at := in.now()
	for range traces {
		in.ours[server] = append(in.ours[server], at)
	}
}

// own reports whether a probe that was rejected is one of ours.
func (in *intake) own(e *collect.Event) bool {
	left := slices.DeleteFunc(in.ours[e.Server], func(at time.Time) bool { return e.At.Sub(at) > touchLatest })
	if len(left) == 0 {
		delete(in.ours, e.Server)
		return false
	}
	in.ours[e.Server] = left[1:]
	return true
}

// failures counts the peers that one server rejected, by the second.
type failures struct {
	logins, probes perSecond
	last           int64 // the second that was counted last
	since          time.Time
	latest         time.Time
	peers          map[string]int
	// whether a burst of either was told
	burst, probed bool
}

type perSecond [int(posture.FailureWindow / time.Second)]int

func (s *perSecond) sum() (n int) {
	for _, c := range s {
		n += c
	}
	return n
}

// fail counts a failed login and reports whether a burst began. A peer that brings no
// credentials tries none: with the name of a probe it is one, of this natsentry or of
// another, or somebody's who has taken the name. Those are counted apart. With
// credentials nobody is a probe.
func (in *intake) fail(e *collect.Event) bool {
	probe := e.Name == posture.ProbeName && !e.Claims
	if probe && in.own(e) {
		return false
	}
	f := in.failures[e.Server]
	if f == nil {
		if len(in.failures) >= maxServers {
			return false
		}
		f = &failures{}
		in.failures[e.Server] = f
	}
	if f.turn(e.At); f.logins.sum()+f.probes.sum() == 0 {
		f.since, f.peers, f.burst, f.probed = e.At, map[string]int{}, false, false
	}
	counted, told := &f.logins, &f.burst
	if probe {
		counted, told = &f.probes, &f.probed
	} else if _, ok := f.peers[e.Peer]; ok || len(f.peers) < maxPeers {
		f.peers[e.Peer]++
	}
	counted[f.last%int64(len(counted))]++
	f.latest = e.At
	if *told || counted.sum() < in.burst {
		return false
	}
	*told, in.news.failed = true, true
	return true
}

// turn forgets the seconds that have left the window.
func (f *failures) turn(at time.Time) {
	now, n := at.Unix(), int64(len(f.logins))
	if now-f.last >= n || now < f.last {
		f.logins, f.probes = perSecond{}, perSecond{}
	} else {
		for s := f.last + 1; s <= now; s++ {
			f.logins[s%n], f.probes[s%n] = 0, 0
		}
	}
	f.last = now
}

// failuresOf is what a server has turned away within the window.
func (in *intake) failuresOf(server string) posture.Failures {
	in.mu.Lock()
	defer in.mu.Unlock()
	f := in.failures[server]
	if f == nil {
		return posture.Failures{}
	}
	f.turn(in.now())
	n, probes := f.logins.sum(), f.probes.sum()
	if n+probes == 0 {
		delete(in.failures, server)
		return posture.Failures{}
	}
	if n < in.burst && probes < in.burst {
		return posture.Failures{}
	}
	peers := slices.SortedFunc(maps.Keys(f.peers), func(a, b string) int {
		if f.peers[a] != f.peers[b] {
			return f.peers[b] - f.peers[a]
		}
		if a < b {
			return -1
		}
		return 1
	})
	return posture.Failures{Count: n, Probes: probes, Since: f.since, Latest: f.latest, Peers: peers[:min(len(peers), shownPeers)]}
}
