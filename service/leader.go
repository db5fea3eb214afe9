package service

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// leader is the part of the service that answers for all agents of a system:
// each takes requests, and the one that leads knows the answers.
type leader struct {
	mu   sync.Mutex
	subs []*nats.Subscription
}

// forwardTime bounds how long the leader may take for an answer that it has
// ready, and scanTime for a sweep. A leader that is no more is followed sooner.
const (
	forwardTime = 2 * time.Second
	scanTime    = 30 * time.Second
)

// leaderSubject is where the leader answers requests that another agent got.
func leaderSubject(prefix, endpoint string) string { return prefix + ".leader." + endpoint }

// lead implements teller.
func (s *Service) lead(leading bool) {
	s.leader.mu.Lock()
	defer s.leader.mu.Unlock()
	switch {
	case !leading:
		for _, sub := range s.leader.subs {
			_ = sub.Unsubscribe() // fails only on a connection that is gone
		}
		s.leader.subs = nil
	case s.leader.subs == nil && s.Turns() != nil:
		for _, e := range endpoints {
			sub, err := s.nc.Subscribe(leaderSubject(s.cfg.Prefix, e.name), func(m *nats.Msg) { s.handle(e, forwarded{m}) })
			if err != nil {
				s.log.Error("requests to other agents are not answered", slog.Any("error", err))
				return
			}
			s.leader.subs = append(s.leader.subs, sub)
		}
	}
}

// forward has the leader answer a request.
func (s *Service) forward(e endpoint, r request) {
	limit := forwardTime
	if e.scan {
		limit = scanTime
	}
	answer, err := s.nc.Request(leaderSubject(s.cfg.Prefix, e.name), r.Data(), limit)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		s.respondError(r, refuse(503, "no natsentry leads at the moment, and another one takes over: ask again in a second"))
	case err != nil:
		s.respondError(r, refuse(503, "the natsentry that leads does not answer: ask again in a second"))
	default:
		if err := r.Respond(answer.Data, micro.WithHeaders(micro.Headers(answer.Header))); err != nil {
			s.log.Warn("reply not sent", slog.String("subject", r.Subject()), slog.Any("error", err))
		}
	}
}

// forwarded is a request that another agent got.
type forwarded struct{ msg *nats.Msg }

func (f forwarded) Data() []byte    { return f.msg.Data }
func (f forwarded) Subject() string { return f.msg.Subject }

func (f forwarded) Respond(data []byte, _ ...micro.RespondOpt) error { return f.msg.Respond(data) }

func (f forwarded) Error(code, text string, data []byte, _ ...micro.RespondOpt) error {
	return f.msg.RespondMsg(&nats.Msg{Data: data, Header: nats.Header{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {text}}})
}

// request is what an endpoint needs of a request.
type request interface {
	Data() []byte
	Subject() string
	Respond(data []byte, opts ...micro.RespondOpt) error
	Error(code, text string, data []byte, opts ...micro.RespondOpt) error
}

// later is a request that is answered when its handler has returned already. What
// Error notes is read by the micro package at that moment, so this one notes
// nothing: such refusals are no errors in `nats micro stats`.
type later struct{ request }

func (l later) Error(code, text string, data []byte, _ ...micro.RespondOpt) error {
	return l.Respond(data, micro.WithHeaders(micro.Headers{micro.ErrorCodeHeader: {code}, micro.ErrorHeader: {text}}))
}

var (
	_ request = forwarded{}
	_ request = micro.Request(nil)
)
