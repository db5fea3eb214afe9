package collect

import (
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/posture"
)

// watching stands in a reply subject where a gather has its nonce.
const watching = "watch"

// watch compares what servers say from one moment to the next with what the
// last sweep or look heard of them. It keeps no answers but the last.
type watch struct {
	mu      sync.Mutex
	servers map[string]*watched
	cost    posture.Cost // of polls and looks
}

type watched struct {
	varz   *varz
	missed int  // polls since its last answer
	told   bool // that it moved, or fell silent; until it is looked at
}

// missedPolls is after how many polls without an answer a server is taken to
// have fallen silent.
const missedPolls = 3

func newWatch() *watch { return &watch{servers: map[string]*watched{}} }

// follow takes a sweep's answers as what there is to compare with.
func (w *watch) follow(g *gather) {
	w.mu.Lock()
	defer w.mu.Unlock()
	servers := make(map[string]*watched, len(g.who))
	for id := range g.who {
		if v := body[varz](g, posture.Varz, id); v != nil {
			servers[id] = &watched{varz: v.withoutAddresses()}
		}
	}
	w.servers = servers
}

// looked takes what a look heard of one server.
func (w *watch) looked(id string, v *varz) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.servers[id]; s != nil {
		*s = watched{varz: v.withoutAddresses()}
	}
}

// Poll asks every server for its VARZ and returns at once. A server that
// answers with another configuration than it had, or does not answer any more,
// is told as an event. The answers of servers that are asked by id are spread
// over the time given.
func (c *Collector) Poll(spread time.Duration) {
	w := c.watch
	e := endpointOf(posture.Varz)
	w.mu.Lock()
	ids := make([]string, 0, len(w.servers))
	var silent []string
	for id, s := range w.servers {
		ids = append(ids, id)
		if s.missed++; s.missed > missedPolls && !s.told {
			s.told = true
			silent = append(silent, id)
		}
	}
	ping := len(ids) <= c.cfg.PingUpTo
	if ping {
		w.cost.Requests++
	} else {
		w.cost.Requests += len(ids)
	}
	w.mu.Unlock()
	for _, id := range silent {
		c.ears.tell(Event{Kind: FellSilent, Server: id, At: c.cfg.Now()})
	}
	reply := c.inbox + "." + e.name + "." + watching + "."
	if ping {
		_ = c.nc.PublishRequest(e.ping, reply+pingSelf, nil) // a lost connection shows elsewhere
		return
	}
	go c.pollByID(e, reply, ids, spread)
}

// pollByID asks in small groups: thousands of answers at once would overrun
// the connection.
func (c *Collector) pollByID(e *endpoint, reply string, ids []string, spread time.Duration) {
	pause := spread / time.Duration(len(ids)/c.window+1)
	for len(ids) > 0 {
		n := min(c.window, len(ids))
		for _, id := range ids[:n] {
			if c.nc.PublishRequest(strings.Replace(e.direct, "%s", id, 1), reply+id, nil) != nil {
				return
			}
		}
		if ids = ids[n:]; len(ids) > 0 {
			time.Sleep(pause)
		}
	}
}

// watched compares one answer to a poll.
func (c *Collector) watched(msg *nats.Msg) {
	who, v, err := decode[varz](msg.Data, msg.Header.Get("Content-Encoding"))
	w := c.watch
	w.mu.Lock()
	w.cost.Replies++
	w.cost.Bytes += int64(len(msg.Data))
	kind := EventKind(0)
	switch s := w.servers[who.id]; {
	case err != nil || v.ID != who.id:
	case s == nil:
		kind = Appeared // one that was silent, maybe
	default:
		s.missed = 0
		if !s.told && !s.varz.sameAs(v) {
			s.told, kind = true, Moved
		}
	}
	w.mu.Unlock()
	if kind == Appeared {
		c.roster.alive(who.id)
	}
	if kind != 0 {
		c.ears.tell(Event{Kind: kind, Server: who.id, At: c.cfg.Now()})
	}
}

func (w *watch) spend(c posture.Cost) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cost.Requests += c.Requests
	w.cost.Replies += c.Replies
	w.cost.Bytes += c.Bytes
}

// WatchCost is what polls and looks have taken from the fleet since this was
// last asked.
func (c *Collector) WatchCost() posture.Cost {
	c.watch.mu.Lock()
	defer c.watch.mu.Unlock()
	cost := c.watch.cost
	c.watch.cost = posture.Cost{}
	return cost
}
