package service

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
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
	Keeper   Keeper        // of transitions; default: InMemory
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

	keeping chan struct{} // closed when the keeper has ended
	told    atomic.Int64  // transitions since the last epoch
	past    past
	leader  leader
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
	if cfg.Keeper == nil {
		cfg.Keeper = InMemory()
	}
	s := &Service{cfg: cfg, nc: nc, log: cfg.Logger, scans: make(chan struct{}, maxScans), keeping: make(chan struct{})}
	s.past.history = finding.NewHistory(historyLimit, time.Now())
	s.ctx, s.stop = context.WithCancel(context.Background())
	cfg.Keeper.bind(s)
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
			_ = s.micro.Stop() // the first error tells more
			return nil, err
		}
	}
	if err := nc.FlushTimeout(flushTimeout); err != nil {
		_ = s.micro.Stop()
		return nil, fmt.Errorf("service: register: %w", err)
	}
	go func() {
		defer close(s.keeping)
		cfg.Keeper.run(s.ctx)
	}()
	return s, nil
}

// Turns is what agent.WithTurns takes: nil when the agent always leads.
func (s *Service) Turns() <-chan agent.Turn { return s.cfg.Keeper.turns() }

func (s *Service) add(e endpoint) error {
	err := s.micro.AddEndpoint(e.name, micro.HandlerFunc(func(r micro.Request) { s.receive(e, r) }),
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

// Stop takes the service off the wire, once what it has to keep is kept, or
// cannot be. The connection stays open.
func (s *Service) Stop() error {
	s.stop()
	<-s.keeping
	s.lead(false)
	err := s.micro.Stop()
	if err != nil {
		err = fmt.Errorf("service: stop: %w", err)
	}
	return errors.Join(err, s.cfg.Keeper.close())
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
	Interval    string           `json:"interval"`    // the next one is due after this
	Coverage    finding.Coverage `json:"coverage"`    // its lists: the first few
	Gaps        int              `json:"gaps"`        // all of them
	NotAudited  int              `json:"not_audited"` // all of them
	Totals      finding.Totals   `json:"totals"`
	Transitions int              `json:"transitions"` // since the last of these messages
	Keeper      KeeperState      `json:"keeper"`
	Deaf        []string         `json:"deaf"` // event subjects that the agent's user may not hear
	Cost        EpochCost        `json:"cost"`
}

// EpochCost is what was taken from the fleet: by the sweep, and beside it by the
// polls and looks since the last one.
type EpochCost struct {
	Requests int       `json:"requests"`
	Replies  int       `json:"replies"`
	Bytes    int64     `json:"bytes"`
	Watch    WatchCost `json:"watch"`
}

// WatchCost is what polls and looks have taken since the last sweep.
type WatchCost struct {
	Requests int   `json:"requests"`
	Replies  int   `json:"replies"`
	Bytes    int64 `json:"bytes"`
}

// epochGaps bounds the lists of the coverage in an epoch message.
const epochGaps = 20

// Judged implements agent.Sink: it has kept and told what changed, and
// publishes the epoch after a sweep.
func (s *Service) Judged(_ context.Context, state *agent.State, transitions []finding.Entry) {
	if len(transitions) > 0 {
		s.cfg.Keeper.take(transitions)
	}
	if state.Swept {
		s.publishEpoch(state)
	}
}

// tell implements teller.
func (s *Service) tell(e *finding.Entry) {
	f := e.Finding
	s.past.add(&f)
	s.publish(findingSubject(s.cfg.Prefix, &f), f.ID, &f, func() { f.Evidence = trimmed(f.Evidence) })
	s.told.Add(1)
}

func (s *Service) publishEpoch(state *agent.State) {
	snap, report := state.Snapshot, state.Report()
	e := Epoch{
		Type: EpochType, System: snap.System, Epoch: snap.Epoch, Taken: report.Taken, Took: report.Took,
		Interval: s.cfg.Interval.String(), Coverage: report.Coverage, Gaps: len(report.Coverage.Gaps), NotAudited: len(report.Coverage.NotAudited),
		Totals: report.Totals, Transitions: int(s.told.Swap(0)), Keeper: s.cfg.Keeper.state(), Deaf: append([]string{}, state.Deaf...),
		Cost: EpochCost{Requests: snap.Cost.Requests, Replies: snap.Cost.Replies, Bytes: snap.Cost.Bytes, Watch: WatchCost(state.Watch)},
	}
	e.Coverage.Shorten(epochGaps)
	s.publish(EpochSubject(s.cfg.Prefix), "", &e, func() { e.Coverage.Shorten(0) })
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
