package collect

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/posture"
)

// EventKind says what an event tells.
type EventKind uint8

// The kinds of events.
const (
	Moved        EventKind = iota + 1 // a poll saw another configuration
	FellSilent                        // a server no longer answers polls
	Appeared                          // a server that may be a new one sends its statistics
	Departed                          // a server says goodbye
	Reauthorized                      // a server looked again at clients that it had: it has reloaded
	Dropped                           // a server closed a client's connection, as a reload does
	Connected                         // a client came
	Failed                            // a peer was turned away for its credentials
	ReloadAsked                       // somebody asks a server to reload
	ClaimsMoved                       // somebody pushes or deletes an account JWT
)

// Event is something that servers tell unasked, or that somebody asks of them.
type Event struct {
	Kind    EventKind
	Server  string          // id
	At      time.Time       // when we heard it
	Session posture.Session // of Connected
	Account string          // of ClaimsMoved: its id; "" when that cannot be told
	Peer    string          // of Failed: door, name and address
	Name    string          // of Failed: what the peer calls itself
	Claims  bool            // of Failed: it brought a name, a key, a token or a JWT
}

// The subjects of events.
const (
	lameDuckEvent   = "$SYS.SERVER.*.LAMEDUCK"
	shutdownEvent   = "$SYS.SERVER.*.SHUTDOWN"
	statszEvent     = "$SYS.SERVER.*.STATSZ"
	failureEvent    = "$SYS.SERVER.*.CLIENT.AUTH.ERR"
	connectEvent    = "$SYS.ACCOUNT.*.CONNECT"
	disconnectEvent = "$SYS.ACCOUNT.*.DISCONNECT"
	reloadEvent     = "$SYS.REQ.SERVER.*.RELOAD"
)

// claimsEvents are requests that change what an account may do. Of their
// payload, the JWT, nothing but the account that it is for is looked at.
var claimsEvents = []string{
	"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE",
	"$SYS.REQ.ACCOUNT.*.CLAIMS.UPDATE", "$SYS.ACCOUNT.*.CLAIMS.UPDATE",
}

// Events lists every subject the collector subscribes to, beside its inbox.
func Events() []string {
	return append([]string{
		lameDuckEvent, shutdownEvent, statszEvent, failureEvent, connectEvent, disconnectEvent, reloadEvent,
	}, claimsEvents...)
}

// Limits of what may wait to be decoded, per subject: beyond that events are
// lost, and only polls and sweeps see what they would have told.
const (
	pendingEvents = 16 << 10
	pendingBytes  = 16 << 20
)

// reloadAge: a CONNECT that is told so long after the client came is told again.
// Clients that take long to log in cause a look that would not be needed.
const reloadAge = time.Second

// ears hand events on and remember what cannot be heard.
type ears struct {
	mu       sync.Mutex
	handler  func(Event)
	subs     []*nats.Subscription
	refused  map[string]bool // subjects
	since    time.Time
	connects uint64 // reconnects of the connection at that time

	newcomers newcomers
}

func (e *ears) tell(ev Event) {
	e.mu.Lock()
	handler := e.handler
	e.mu.Unlock()
	if handler != nil {
		handler(ev)
	}
}

// Listen subscribes to the events and gives them to handler, which is called
// from several goroutines and must not block. It may be called once.
//
// The connection's error handler is wrapped: it is where the server says which
// of these a user may not hear.
func (c *Collector) Listen(handler func(Event)) error {
	c.ears.mu.Lock()
	c.ears.handler, c.ears.refused = handler, map[string]bool{}
	c.ears.mu.Unlock()
	next := c.nc.ErrorHandler()
	c.nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		c.noteRefusal(err)
		if next != nil {
			next(nc, sub, err)
		}
	})
	handlers := map[string]func(*nats.Msg){
		statszEvent: func(m *nats.Msg) {
			c.roster.alive(token(m.Subject, 2))
			c.hear(Appeared, token(m.Subject, 2))
		},
		reloadEvent:     func(m *nats.Msg) { c.hear(ReloadAsked, token(m.Subject, 3)) },
		failureEvent:    c.hearFailure,
		connectEvent:    c.hearConnect,
		disconnectEvent: c.hearDisconnect,
	}
	for _, subject := range claimsEvents {
		handlers[subject] = func(m *nats.Msg) {
			c.ears.tell(Event{Kind: ClaimsMoved, At: c.cfg.Now(), Account: claimSubject(m.Subject, m.Data)})
		}
	}
	for subject, h := range handlers {
		sub, err := c.nc.Subscribe(subject, h)
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		if err := sub.SetPendingLimits(pendingEvents, pendingBytes); err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		c.ears.mu.Lock()
		c.ears.subs = append(c.ears.subs, sub)
		c.ears.mu.Unlock()
	}
	c.ears.mu.Lock()
	defer c.ears.mu.Unlock()
	c.ears.since, c.ears.connects = c.cfg.Now(), c.nc.Stats().Reconnects
	return nil
}

// subscribeGoodbyes: these are listened to by every collector, since they tell
// why a server is silent.
func (c *Collector) subscribeGoodbyes() error {
	for subject, state := range map[string]posture.State{lameDuckEvent: posture.LameDuck, shutdownEvent: posture.ShutDown} {
		sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) {
			id := token(m.Subject, 2)
			c.roster.event(id, state)
			c.hear(Departed, id)
		})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		c.ears.subs = append(c.ears.subs, sub)
	}
	return nil
}

func (e *ears) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, sub := range e.subs {
		_ = sub.Unsubscribe() // fails only on a connection that is gone, and its subscriptions with it
	}
	e.subs, e.handler = nil, nil
}

// noteRefusal remembers a subject that the user may not subscribe to.
func (c *Collector) noteRefusal(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	c.ears.mu.Lock()
	defer c.ears.mu.Unlock()
	for _, subject := range Events() {
		if strings.Contains(strings.ToLower(err.Error()), "subscription to \""+strings.ToLower(subject)+"\"") {
			c.ears.refused[subject] = true
		}
	}
}

// Hears tells which events are heard, and since when without a break.
func (c *Collector) Hears() posture.Hears {
	e := c.ears
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.since.IsZero() {
		return posture.Hears{}
	}
	if n := c.nc.Stats().Reconnects; n != e.connects {
		e.connects, e.since = n, c.cfg.Now() // what happened meanwhile was not heard
	}
	out := posture.Hears{Since: e.since}
	for subject, event := range map[string]posture.Events{
		connectEvent: posture.Connects, failureEvent: posture.AuthFailures, reloadEvent: posture.Reloads,
	} {
		if !e.refused[subject] {
			out.Events |= event
		}
	}
	return out
}

// Deaf lists the subjects that the user may not subscribe to.
func (c *Collector) Deaf() []string {
	c.ears.mu.Lock()
	defer c.ears.mu.Unlock()
	var out []string
	for subject := range c.ears.refused {
		out = append(out, subject)
	}
	slices.Sort(out)
	return out
}

func (c *Collector) hear(kind EventKind, server string) {
	if !plausibleID(server) {
		return
	}
	c.ears.tell(Event{Kind: kind, Server: server, At: c.cfg.Now()})
}

func (c *Collector) hearConnect(msg *nats.Msg) {
	ev, ok := readEvent(msg.Data)
	if !ok {
		return
	}
	out := Event{Kind: Connected, Server: ev.Server.ID, At: c.cfg.Now()}
	if known := c.ears.newcomers.again(ev.Server.ID, ev.Client.ID, out.At); known || ev.Time.Sub(ev.Client.Start) > reloadAge {
		out.Kind = Reauthorized
	}
	out.Session = eventSession(ev)
	c.ears.tell(out)
}

// clientClosed is the reason for which a server that drops its clients in a
// reload closes them. Clients that leave by themselves leave it too.
const clientClosed = "Client Closed"

func (c *Collector) hearDisconnect(msg *nats.Msg) {
	if ev, ok := readEvent(msg.Data); ok && (ev.Reason == clientClosed || strings.HasPrefix(ev.Reason, "Auth")) {
		c.ears.tell(Event{Kind: Dropped, Server: ev.Server.ID, At: c.cfg.Now()})
	}
}

func (c *Collector) hearFailure(msg *nats.Msg) {
	ev, ok := readEvent(msg.Data)
	if !ok {
		return
	}
	kind := strings.ToLower(printable(ev.Client.Kind))
	if ev.Client.Type == "websocket" || ev.Client.Type == "mqtt" {
		kind = ev.Client.Type
	}
	peer := kind + " from " + printable(ev.Client.Host)
	if ev.Client.Name != "" {
		peer = fmt.Sprintf("%s, calls itself %q", peer, printable(ev.Client.Name))
	}
	c.ears.tell(Event{Kind: Failed, Server: ev.Server.ID, At: c.cfg.Now(), Peer: peer, Name: ev.Client.Name, Claims: ev.Client.User != "" || bool(ev.Client.JWT)})
}

func readEvent(data []byte) (*event, bool) {
	const largest = 64 << 10 // a client's name and JWT are in it
	var ev event
	if len(data) > largest || json.Unmarshal(data, &ev) != nil || !plausibleID(ev.Server.ID) {
		return nil, false
	}
	return &ev, true
}

func eventSession(ev *event) posture.Session {
	c := connInfo{
		Cid: ev.Client.ID, Kind: ev.Client.Kind, Type: ev.Client.Type, Start: ev.Client.Start, Name: ev.Client.Name,
		Lang: ev.Client.Lang, Version: ev.Client.Version, AuthorizedUser: ev.Client.User, Account: ev.Client.Account,
	}
	out := session(&c, ev.Server.Version)
	out.Unintroduced = false                                      // the event follows its CONNECT
	out.Address = net.JoinHostPort(printable(ev.Client.Host), "") // an event does not tell the port
	out.Address = strings.TrimSuffix(out.Address, ":")
	return out
}

// token is one token of a subject, "" when it has not so many.
func token(subject string, n int) string {
	for i := 0; ; i++ {
		t, rest, more := strings.Cut(subject, ".")
		if i == n {
			return t
		}
		if !more {
			return ""
		}
		subject = rest
	}
}
