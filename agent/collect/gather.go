package collect

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"github.com/natsentry/natsentry/agent/posture"
)

// noResponders is the status of a message that the client's own server sends
// when nobody in the whole network listens to a request.
const noResponders = "503"

// maxServers bounds how many distinct servers one gather believes in.
const maxServers = 20_000

// maxComplaints bounds the unusable answers that one gather tells of.
const maxComplaints = 100

// pingSelf in a reply subject stands for "asked by ping"; otherwise the token
// there is the id that was asked.
const pingSelf = "_"

// answer is one decoded message of a gather.
type answer struct {
	at      time.Time
	input   posture.Input
	asked   string // the id that was asked, or pingSelf
	who     identity
	body    any
	bytes   int
	nobody  bool // no responders
	problem error
}

// gather is one scatter-gather: some endpoints asked at all servers at once.
// Its fields belong to the goroutine that runs it.
type gather struct {
	c        *Collector
	nonce    string
	answers  chan answer
	done     chan struct{}
	wanted   posture.Input
	payloads map[posture.Input]string // where it is not the endpoint's own
	peers    bool                     // servers that an answer names are expected to answer as well
	once     bool                     // what does not come is not asked for again: the answer is dear

	expected int                               // servers that should answer, as far as is known
	known    map[string]bool                   // ids that should answer
	missed   map[string]bool                   // ids that did not answer last time: they are asked, and waited for as long as it takes to ask again
	got      map[posture.Input]map[string]any  // by endpoint and id
	who      map[string]identity               // by id
	at       map[string]time.Time              // by id: when VARZ came
	nobody   map[posture.Input]map[string]bool // asked by id, and no one listens there
	forged   map[posture.Input]map[string]bool // answered twice, differently
	gaps     []posture.Gap
	cost     posture.Cost
	unheard  bool // we were told that no one listens to the ping

	queue    []ask // to be asked by id
	inFlight int
}

// ask is one request to one server.
type ask struct {
	input posture.Input
	id    string
}

func (c *Collector) newGather(wanted posture.Input, ids []string, expected int) *gather {
	g := &gather{
		c: c, nonce: nuid.Next(), wanted: wanted, expected: expected,
		answers:  make(chan answer, 256),
		done:     make(chan struct{}),
		payloads: map[posture.Input]string{},
		known:    make(map[string]bool, len(ids)),
		missed:   map[string]bool{},
		got:      map[posture.Input]map[string]any{},
		who:      map[string]identity{},
		at:       map[string]time.Time{},
		nobody:   map[posture.Input]map[string]bool{},
		forged:   map[posture.Input]map[string]bool{},
	}
	for _, id := range ids {
		g.known[id] = true
	}
	for _, e := range endpoints {
		if wanted.Has(e.input) {
			g.got[e.input] = map[string]any{}
			g.nobody[e.input] = map[string]bool{}
			g.forged[e.input] = map[string]bool{}
		}
	}
	return g
}

// run asks and collects until every expected answer is there, the context
// ends, or nothing more can come. It returns an error only when it could not
// ask at all, or when the user is not allowed to.
func (g *gather) run(ctx context.Context, byID bool) error {
	g.c.enroll(g)
	defer g.c.end(g)

	if err := g.pingAll(byID); err != nil {
		return err
	}
	if byID {
		g.queueMissing()
	}
	g.queueMissed()
	if err := g.pump(); err != nil {
		return err
	}

	again := time.NewTimer(g.c.askAgain)
	defer again.Stop()
	for rounds := 0; !g.complete() || rounds == 0 && !g.missedHeard(); {
		select {
		case a := <-g.answers:
			g.take(a)
			if err := g.pump(); err != nil {
				return err
			}
		case <-again.C:
			// Account STATZ and CONNZ answer the users of every account.
			if g.unheard && len(g.got[posture.Statsz])+len(g.got[posture.Varz]) == 0 {
				return ErrNotSystemAccount
			}
			// What was lost on the way is asked for once more, by id; a
			// second time covers an answer that was slow because the server
			// was.
			if rounds++; rounds > 2 || g.once {
				continue
			}
			g.inFlight = 0
			g.queueMissing()
			if err := g.pump(); err != nil {
				return err
			}
			again.Reset(g.c.askAgain * 2)
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// pingAll asks every server at once. When servers are asked by id, only what
// discovers new ones, and what cannot be asked by id, is still a ping.
func (g *gather) pingAll(byID bool) error {
	for _, e := range endpoints {
		if !g.wanted.Has(e.input) || byID && e.direct != "" && e.input != posture.Statsz {
			continue
		}
		if err := g.send(&e, e.ping, pingSelf); err != nil {
			return err
		}
	}
	return nil
}

func (g *gather) send(e *endpoint, subject, asked string) error {
	payload := e.payload
	if p, ok := g.payloads[e.input]; ok {
		payload = p
	}
	msg := &nats.Msg{
		Subject: subject, Data: []byte(payload),
		Reply: g.c.inbox + "." + e.name + "." + g.nonce + "." + asked,
	}
	if e.compress {
		msg.Header = nats.Header{"Accept-Encoding": {"snappy"}}
	}
	if err := g.c.nc.PublishMsg(msg); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	g.cost.Requests++
	return nil
}

// queueMissing lines up a request by id for every answer that is still
// missing from a server whose id is known.
func (g *gather) queueMissing() {
	g.queue = g.queue[:0]
	ids := slices.Sorted(maps.Keys(g.ids()))
	for _, e := range endpoints {
		if !g.wanted.Has(e.input) || e.direct == "" {
			continue // what cannot be asked by id stays a gap
		}
		for _, id := range ids {
			if !g.settled(e.input, id) {
				g.queue = append(g.queue, ask{e.input, id})
			}
		}
	}
}

// queueMissed lines up the requests to those who were silent before. They may
// be counted by the others for a while.
func (g *gather) queueMissed() {
	for _, id := range slices.Sorted(maps.Keys(g.missed)) {
		for _, e := range endpoints {
			if g.wanted.Has(e.input) && e.direct != "" {
				g.queue = append(g.queue, ask{e.input, id})
			}
		}
	}
}

// pump sends queued requests as far as the window allows: the answers of
// thousands of servers at once would overrun the connection.
func (g *gather) pump() error {
	for len(g.queue) > 0 && g.inFlight < g.c.window {
		next := g.queue[0]
		g.queue = g.queue[1:]
		if g.settled(next.input, next.id) {
			continue
		}
		e := endpointOf(next.input)
		if err := g.send(e, strings.Replace(e.direct, "%s", next.id, 1), next.id); err != nil {
			return err
		}
		g.inFlight++
	}
	return nil
}

// ids are the servers known so far: from earlier, or because they answered.
func (g *gather) ids() map[string]bool {
	ids := make(map[string]bool, len(g.known)+len(g.who))
	maps.Copy(ids, g.known)
	for id := range g.who {
		ids[id] = true
	}
	return ids
}

// adopt takes over what another gather has heard of what this one asks for.
func (g *gather) adopt(other *gather) {
	for input, got := range g.got {
		maps.Copy(got, other.got[input])
		maps.Copy(g.nobody[input], other.nobody[input])
		maps.Copy(g.forged[input], other.forged[input])
	}
	maps.Copy(g.who, other.who)
	maps.Copy(g.at, other.at)
	maps.Copy(g.known, other.known)
}

func (g *gather) settled(input posture.Input, id string) bool {
	_, ok := g.got[input][id]
	return ok || g.nobody[input][id]
}

// missedHeard tells whether all of those have answered now, or are no more.
func (g *gather) missedHeard() bool {
	for id := range g.missed {
		for input := range g.got {
			if endpointOf(input).direct != "" && !g.settled(input, id) {
				return false
			}
		}
	}
	return true
}

// complete tells whether every expected server has answered everything.
func (g *gather) complete() bool {
	if g.expected == 0 {
		return false
	}
	for input, got := range g.got {
		// The counts first: they are cheap, and in a large fleet this runs
		// once per answer.
		if answers := len(got) + len(g.nobody[input]); answers+len(g.missed) < g.expected || answers < len(g.known) || len(got) < len(g.who) {
			return false
		}
		for id := range g.known {
			if !g.settled(input, id) {
				return false
			}
		}
	}
	return true
}

func (g *gather) take(a answer) {
	if a.asked != pingSelf && g.inFlight > 0 {
		g.inFlight--
	}
	e := endpointOf(a.input)
	switch {
	case a.nobody && a.asked != pingSelf:
		g.nobody[a.input][a.asked] = true
		return
	case a.nobody:
		// Believed only when nobody answers either: anyone can send this.
		g.unheard = true
		return
	case a.who.id != "" && a.asked != pingSelf && a.who.id != a.asked:
		a.problem = errors.New("another server answered than the one asked")
		a.who = identity{id: a.asked}
	default:
		if v, ok := a.body.(*varz); ok && v.ID != a.who.id {
			a.problem = errors.New("the answer names two different servers")
		}
	}
	g.cost.Replies++
	g.cost.Bytes += int64(a.bytes)
	if a.problem != nil {
		g.complain(posture.Gap{Server: a.who.name, ID: a.who.id, Endpoint: e.name, Reason: a.problem.Error()})
		return
	}
	if _, ok := g.who[a.who.id]; !ok {
		if len(g.who) >= maxServers {
			return
		}
		g.who[a.who.id] = a.who
	}
	if s, ok := a.body.(*statsz); ok {
		g.expected = max(g.expected, min(g.c.roster.active(s, a.at), maxServers))
	}
	if g.peers {
		for _, id := range peersOf(a.body) {
			if len(g.known) < maxServers && !g.missed[id] {
				g.known[id] = true
			}
		}
	}
	before, twice := g.got[a.input][a.who.id]
	if twice {
		if contradicts(before, a.body) {
			g.forged[a.input][a.who.id] = true
		}
		return // the first answer stands, unless they contradict each other
	}
	g.got[a.input][a.who.id] = a.body
	if a.input == posture.Varz {
		g.at[a.who.id] = a.at
	}
}

// complain notes an answer that could not be used. Whoever floods the reply
// inbox must not fill the memory with complaints.
func (g *gather) complain(gap posture.Gap) {
	if slices.Contains(g.gaps, gap) {
		return
	}
	switch {
	case len(g.gaps) < maxComplaints:
		g.gaps = append(g.gaps, gap)
	case len(g.gaps) == maxComplaints:
		g.gaps = append(g.gaps, posture.Gap{Reason: fmt.Sprintf("more than %d unusable answers; the others are left out", maxComplaints)})
	}
}

// contradicts tells whether two answers of one server to one request say
// different things about its configuration, or about an account. Then one of
// them is forged, or a change lies between them: neither is believed.
func contradicts(a, b any) bool {
	switch a := a.(type) {
	case *varz:
		return !a.sameAs(b.(*varz)) //nolint:forcetypeassert // answers to one endpoint are of one type
	case *accountz:
		x, y := a.Account, b.(*accountz).Account //nolint:forcetypeassert // as above
		return x != nil && y != nil && *x != *y
	default:
		return false
	}
}

// body returns what a server answered, or nil when it did not, or when its
// answers contradict each other.
func body[T any](g *gather, input posture.Input, id string) *T {
	if g.forged[input][id] {
		return nil
	}
	b, ok := g.got[input][id].(*T)
	if !ok {
		return nil
	}
	return b
}

// receive hands a message to the gather it belongs to. It runs on the
// subscription's own goroutine, one per endpoint, so that endpoints decode
// beside each other.
func (c *Collector) receive(e *endpoint, msg *nats.Msg) {
	tail := strings.TrimPrefix(msg.Subject, c.inbox+"."+e.name+".")
	nonce, asked, ok := strings.Cut(tail, ".")
	if !ok {
		return
	}
	if nonce == watching {
		c.watched(msg)
		return
	}
	g := c.enrolled(nonce)
	if g == nil || !g.wanted.Has(e.input) {
		return // late: its gather is over
	}
	a := answer{at: c.cfg.Now(), input: e.input, asked: asked, bytes: len(msg.Data)}
	if len(msg.Data) == 0 && msg.Header.Get("Status") == noResponders {
		a.nobody = true
	} else {
		a.who, a.body, a.problem = e.decode(msg.Data, msg.Header.Get("Content-Encoding"))
	}
	if g.over() { // its channel may have room still, where nobody looks
		c.afterwards(g, a)
		return
	}
	select {
	case g.answers <- a:
	case <-g.done:
		c.afterwards(g, a)
	}
}

// afterwards looks at an answer that came when its gather was over. It is too
// late to be used, but not to show that the one that was used is disputed:
// whoever forges an answer only has to be faster than the server.
func (c *Collector) afterwards(g *gather, a answer) {
	before, ok := g.got[a.input][a.who.id] // nobody writes to a gather that is over
	if a.problem != nil || a.nobody || !ok || !contradicts(before, a.body) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch b := a.body.(type) {
	case *accountz:
		if len(c.doubted) < maxComplaints {
			c.doubted[claimOf{a.who.id, b.Account.Name}] = true
		}
	default:
		c.disputed[a.who.id] = true
	}
}
