package service

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/finding"
)

// Config is what a service needs to know.
type Config struct {
	Prefix   string        // of every subject; default DefaultPrefix
	System   string        // the name of the fleet, for `nats micro info`
	Version  string        // of this program; what is no semantic version becomes 0.0.0
	Interval time.Duration // between sweeps, for `nats micro info`
	Logger   *slog.Logger  // default: silent
}

// Service answers and publishes for one agent. It is the agent's sink.
type Service struct {
	cfg   Config
	nc    *nats.Conn
	log   *slog.Logger
	micro micro.Service
	agent atomic.Pointer[agent.Agent]
	scans chan struct{} // bounds the scan requests that wait
	ctx   context.Context
	stop  context.CancelFunc
}

// maxScans is how many scan requests may wait for a sweep at once.
const maxScans = 256

// flushTimeout bounds the wait until the server has taken the registration.
const flushTimeout = 5 * time.Second

var semver = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// New registers the micro service at once, so that requests are answered,
// with 503, from the start. The connection stays the caller's; set its
// handlers before, because the micro package wraps them.
func New(nc *nats.Conn, cfg Config) (*Service, error) {
	cfg.Prefix = cmp.Or(cfg.Prefix, DefaultPrefix)
	if err := validatePrefix(cfg.Prefix); err != nil {
		return nil, err
	}
	if !semver.MatchString(cfg.Version) {
		cfg.Version = "0.0.0"
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, nc: nc, log: cfg.Logger, scans: make(chan struct{}, maxScans)}
	s.ctx, s.stop = context.WithCancel(context.Background())
	m, err := micro.AddService(nc, micro.Config{
		Name: Name, Version: cfg.Version,
		Description: "Audits who can walk into this NATS fleet: doors, sessions, findings",
		Metadata: map[string]string{
			"system": cfg.System, "interval": cfg.Interval.String(),
			"findings": FindingSubject(cfg.Prefix), "epochs": EpochSubject(cfg.Prefix),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("service: register: %w", err)
	}
	s.micro = m
	for _, e := range endpoints {
		if err := s.add(e); err != nil {
			_ = s.Stop() // the first error tells more
			return nil, err
		}
	}
	if err := nc.FlushTimeout(flushTimeout); err != nil {
		_ = s.Stop()
		return nil, fmt.Errorf("service: register: %w", err)
	}
	return s, nil
}

func (s *Service) add(e endpoint) error {
	err := s.micro.AddEndpoint(e.name, micro.HandlerFunc(func(r micro.Request) { s.handle(e, r) }),
		micro.WithEndpointSubject(s.cfg.Prefix+e.suffix),
		micro.WithEndpointMetadata(map[string]string{
			"description": e.description, "request": e.request, "response_type": e.response,
			"response_schema": schemaURL + e.schema,
		}))
	if err != nil {
		return fmt.Errorf("service: register %s: %w", s.cfg.Prefix+e.suffix, err)
	}
	return nil
}

// Attach gives the service its agent. Until then, and until the agent's
// first sweep is done, requests get 503.
func (s *Service) Attach(a *agent.Agent) { s.agent.Store(a) }

// Stop takes the service off the wire. The connection stays open.
func (s *Service) Stop() error {
	s.stop()
	if err := s.micro.Stop(); err != nil {
		return fmt.Errorf("service: stop: %w", err)
	}
	return nil
}

// EpochType is the type field of an [Epoch].
const EpochType = "natsentry.v1.epoch"

// Epoch is published after each sweep. Whoever watches the watcher alarms
// when it stays away.
type Epoch struct {
	Type        string           `json:"type"`
	System      string           `json:"system"`
	Epoch       uint64           `json:"epoch"`
	Taken       time.Time        `json:"taken"`
	Took        string           `json:"took"`
	Interval    string           `json:"interval"` // the next one is due after this
	Coverage    finding.Coverage `json:"coverage"` // gaps: the first few
	Gaps        int              `json:"gaps"`     // all of them
	Totals      finding.Totals   `json:"totals"`
	Transitions int              `json:"transitions"` // published beside this message
	Cost        EpochCost        `json:"cost"`
}

// EpochCost is what the sweep took from the fleet.
type EpochCost struct {
	Requests int   `json:"requests"`
	Replies  int   `json:"replies"`
	Bytes    int64 `json:"bytes"`
}

// epochGaps bounds the gaps in an epoch message.
const epochGaps = 20

// Swept implements agent.Sink: it publishes what the sweep brought.
func (s *Service) Swept(_ context.Context, state *agent.State, transitions []finding.Finding) {
	for i := range transitions {
		f := &transitions[i]
		s.publish(findingSubject(s.cfg.Prefix, f), f.ID, f, func() { f.Evidence = trimmed(f.Evidence) })
	}
	snap, report := state.Snapshot, state.Report()
	e := Epoch{
		Type: EpochType, System: snap.System, Epoch: snap.Epoch, Taken: report.Taken, Took: report.Took,
		Interval: s.cfg.Interval.String(), Coverage: report.Coverage, Gaps: len(snap.Gaps),
		Totals: report.Totals, Transitions: len(transitions), Cost: EpochCost(snap.Cost),
	}
	if len(e.Coverage.Gaps) > epochGaps {
		e.Coverage.Gaps = e.Coverage.Gaps[:epochGaps]
	}
	s.publish(EpochSubject(s.cfg.Prefix), "", &e, func() { e.Coverage.Gaps = e.Coverage.Gaps[:0] })
}

// publish sends one message; shrink makes it smaller when it does not fit.
func (s *Service) publish(subject, id string, body any, shrink func()) {
	data, err := json.Marshal(body)
	if err == nil && len(data) > s.room() {
		shrink()
		data, err = json.Marshal(body)
	}
	if err != nil {
		s.log.Error("message cannot be written", slog.String("subject", subject), slog.Any("error", err))
		return
	}
	msg := &nats.Msg{Subject: subject, Data: data}
	if id != "" {
		msg.Header = nats.Header{nats.MsgIdHdr: {id}}
	}
	if err := s.nc.PublishMsg(msg); err != nil {
		s.log.Error("message cannot be published", slog.String("subject", subject), slog.Any("error", err))
	}
}

// room is how large a payload may be: headers count as well.
func (s *Service) room() int {
	const headers = 1024
	return int(s.nc.MaxPayload()) - headers
}
