package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
)

const schemaURL = "https://github.com/natsentry/natsentry/blob/main/docs/schema/"

// endpoint is one subject that answers requests.
type endpoint struct {
	name, suffix string
	description  string
	request      string // the fields it takes
	response     string // the type field of its reply
	schema       string // file name of the reply's JSON schema
	page         func(*view) page
	scan         bool // it sweeps first
	past         bool // it speaks of servers that may be no more
}

const (
	fieldsAll      = "limit, offset, severity, server, cluster, check"
	fieldsServers  = "limit, offset, server, cluster"
	fieldsSessions = "limit, offset, server, cluster, anonymous, grouped"
	fieldsChecks   = "limit, offset, severity, check"
	fieldsHistory  = "limit, offset, severity, server, cluster, check, door, since, until"
)

// Types of the replies; those of reports and findings are the finding
// package's.
const (
	ServersType  = "natsentry.v1.servers"
	FindingsType = "natsentry.v1.findings"
	SessionsType = "natsentry.v1.sessions"
	ChecksType   = "natsentry.v1.checks"
	HistoryType  = "natsentry.v1.history"
)

var endpoints = []endpoint{
	{
		name: "audit", suffix: "", request: fieldsAll, response: finding.ReportType, schema: "report-page.json", page: reportPage,
		description: "The report of the last sweep: servers, their doors, the findings that stand",
	},
	{
		name: "servers", suffix: ".servers", request: fieldsServers, response: ServersType, schema: "servers.json", page: serversPage,
		description: "Servers with their doors and the evidence for each",
	},
	{
		name: "findings", suffix: ".findings", request: fieldsAll, response: FindingsType, schema: "findings.json", page: findingsPage,
		description: "The findings that stand, worst first",
	},
	{
		name: "sessions", suffix: ".sessions", request: fieldsSessions, response: SessionsType, schema: "sessions.json", page: sessionsPage,
		description: "Sessions in the global account, and which of them came in without proving anything",
	},
	{
		name: "checks", suffix: ".checks", request: fieldsChecks, response: ChecksType, schema: "checks.json", page: checksPage,
		description: "The catalogue of checks",
	},
	{
		name: "history", suffix: ".history", request: fieldsHistory, response: HistoryType, schema: "history.json", page: historyPage, past: true,
		description: "What became of findings, the latest first",
	},
	{
		name: "scan", suffix: ".scan", request: fieldsAll, response: finding.ReportType, schema: "report-page.json", page: reportPage, scan: true,
		description: "Sweeps now and returns the report; requests that arrive together share one sweep",
	},
}

// Request is what endpoints take, as a JSON object. An empty payload asks for
// everything, page by page.
type Request struct {
	Limit     *int   `json:"limit,omitempty"`     // items of a page, 1 to 1000; default 100
	Offset    int    `json:"offset,omitempty"`    // items to skip
	Severity  string `json:"severity,omitempty"`  // this severity or worse
	Server    string `json:"server,omitempty"`    // name or id
	Cluster   string `json:"cluster,omitempty"`   // name
	Check     string `json:"check,omitempty"`     // id or alias
	Anonymous bool   `json:"anonymous,omitempty"` // sessions: only those that proved nothing
	Grouped   bool   `json:"grouped,omitempty"`   // sessions: of all accounts, those that look alike together
	Door      string `json:"door,omitempty"`      // history: client, websocket, mqtt, leafnode, route, gateway or monitor
	Since     string `json:"since,omitempty"`     // history: RFC 3339, or how long ago, like 90m, 24h or 7d
	Until     string `json:"until,omitempty"`     // history: likewise
}

// Limits of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// refusal is an error for whoever asked.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, args...)}
}

var errStarting = refuse(503, "natsentry is starting: its first sweep is not done; ask again in a second")

// receive takes a request from the wire: answers it, or has the leader answer.
func (s *Service) receive(e endpoint, r micro.Request) {
	a := s.agent.Load()
	if a == nil || a.Leading() {
		s.handle(e, r)
		return
	}
	if _, err := parse(e, r.Data()); err != nil {
		s.respondError(r, err)
		return
	}
	go s.forward(e, later{r}) // handlers of one endpoint run one after the other
}

func (s *Service) handle(e endpoint, r request) {
	if !e.scan {
		s.answer(e, r, s.state)
		return
	}
	if _, err := parse(e, r.Data()); err != nil {
		s.respondError(r, err)
		return
	}
	select {
	case s.scans <- struct{}{}:
	default:
		s.respondError(r, refuse(503, "%d scans are waiting already; ask again in a few seconds", maxScans))
		return
	}
	// Handlers of one endpoint run one after the other. Scans that wait for
	// the same sweep must wait beside each other.
	go func() {
		defer func() { <-s.scans }()
		s.answer(e, later{r}, s.sweep)
	}()
}

func (s *Service) state() (*agent.State, error) {
	if a := s.agent.Load(); a != nil {
		if state := a.State(); state != nil {
			return state, nil
		}
	}
	return nil, errStarting
}

func (s *Service) sweep() (*agent.State, error) {
	a := s.agent.Load()
	if a == nil {
		return nil, errStarting
	}
	state, err := a.Scan(s.ctx)
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, agent.ErrStopped):
		return nil, refuse(503, "natsentry is stopping")
	case errors.Is(err, agent.ErrNotLeading):
		return nil, refuse(503, "another natsentry has just begun to lead: ask again")
	case err != nil:
		return nil, refuse(503, "the sweep failed: %v", err)
	}
	return state, nil
}

func (s *Service) answer(e endpoint, r request, state func() (*agent.State, error)) {
	req, err := parse(e, r.Data())
	if err != nil {
		s.respondError(r, err)
		return
	}
	st, err := state()
	if err != nil {
		s.respondError(r, err)
		return
	}
	v, err := newView(e, s.cfg.Prefix, st, &s.past, req)
	if err != nil {
		s.respondError(r, err)
		return
	}
	data, err := s.fit(e, v)
	if err != nil {
		s.respondError(r, err)
		return
	}
	if err := r.Respond(data); err != nil {
		s.log.Warn("reply not sent", slog.String("subject", r.Subject()), slog.Any("error", err))
	}
}

func (s *Service) respondError(r request, err error) {
	code, text := 500, "internal error"
	var ref *refusal
	if errors.As(err, &ref) {
		code, text = ref.code, ref.text
	} else {
		s.log.Error("request failed", slog.String("subject", r.Subject()), slog.Any("error", err))
	}
	if err := r.Error(strconv.Itoa(code), text, nil); err != nil {
		s.log.Warn("reply not sent", slog.String("subject", r.Subject()), slog.Any("error", err))
	}
}

// parse reads a request and refuses what the endpoint does not take.
func parse(e endpoint, data []byte) (Request, error) {
	var req Request
	if len(bytes.TrimSpace(data)) == 0 {
		return req, nil
	}
	accepted := "accepted is an empty payload or a JSON object with any of " + e.request
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return req, refuse(400, "the request is not a JSON object: %s", accepted)
	}
	for name := range fields {
		if !slices.Contains(strings.Split(e.request, ", "), name) {
			return req, refuse(400, "unknown field %.40q: %s", name, accepted)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&req); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return req, refuse(400, "field %s must be a %s: %s", kind.Field, kind.Type, accepted)
		}
		return req, refuse(400, "the request is not a JSON object: %s", accepted)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return req, refuse(400, "something follows the JSON object: %s", accepted)
	}
	switch {
	case req.Limit != nil && (*req.Limit < 1 || *req.Limit > MaxLimit):
		return req, refuse(400, "limit %d is out of range: 1 to %d is accepted", *req.Limit, MaxLimit)
	case req.Offset < 0:
		return req, refuse(400, "offset %d is out of range: 0 or more is accepted", req.Offset)
	}
	if req.Severity != "" {
		var sev check.Severity
		if err := sev.UnmarshalText([]byte(req.Severity)); err != nil || sev == check.NoSeverity {
			return req, refuse(400, "unknown severity %.40q: critical, warning or info is accepted, each with what is worse", req.Severity)
		}
	}
	if req.Door != "" {
		var kind posture.DoorKind
		if err := kind.UnmarshalText([]byte(req.Door)); err != nil {
			return req, refuse(400, "unknown door %.40q: client, websocket, mqtt, leafnode, route, gateway or monitor is accepted", req.Door)
		}
	}
	return req, nil
}

// view is what a request may see of a state.
type view struct {
	Request
	state    *agent.State
	severity check.Severity
	past     *past
	since    time.Time
	until    time.Time
	servers  []*posture.Server
	findings []finding.Finding
	limit    int
}

func newView(e endpoint, prefix string, state *agent.State, past *past, req Request) (*view, error) {
	v := &view{Request: req, state: state, past: past, limit: DefaultLimit}
	if err := v.times(time.Now()); err != nil {
		return nil, err
	}
	if req.Limit != nil {
		v.limit = *req.Limit
	}
	if req.Severity != "" {
		_ = v.severity.UnmarshalText([]byte(req.Severity)) // parse has read it before
	}
	if req.Check != "" {
		c := check.Lookup(req.Check)
		if c == nil {
			return nil, refuse(404, "no check %.40q: %s.checks lists them", req.Check, prefix)
		}
		v.Check = c.ID
	}
	clusterSeen := false
	for _, s := range state.Snapshot.Servers {
		clusterSeen = clusterSeen || s.Cluster == req.Cluster
		if (req.Server == "" || s.ID == req.Server || s.Name == req.Server) && (req.Cluster == "" || s.Cluster == req.Cluster) {
			v.servers = append(v.servers, s)
		}
	}
	switch {
	case req.Cluster != "" && !clusterSeen && !e.past:
		return nil, refuse(404, "no cluster %.40q in the last sweep: %s.servers lists what is known", req.Cluster, prefix)
	case req.Server != "" && len(v.servers) == 0 && !e.past:
		return nil, refuse(404, "no server %.60q in the last sweep: its name or id is accepted, and %s.servers lists what is known", req.Server, prefix)
	}
	for i := range state.Findings {
		if f := &state.Findings[i]; v.shows(f) {
			v.findings = append(v.findings, *f)
		}
	}
	return v, nil
}

// times reads since and until.
func (v *view) times(now time.Time) (err error) {
	if v.Since != "" {
		if v.since, err = Moment(v.Since, now); err != nil {
			return err
		}
	}
	if v.Until != "" {
		if v.until, err = Moment(v.Until, now); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) shows(f *finding.Finding) bool {
	return f.Severity >= v.severity &&
		(v.Check == "" || f.Check == v.Check) &&
		(v.Cluster == "" || f.Scope.Cluster == v.Cluster) &&
		(v.Server == "" || f.Scope.Server == v.Server || f.Scope.ServerID == v.Server)
}

// page is a reply that is one page of something.
type page interface{ shrink() }

// fit writes the largest page that the connection carries: the limit is
// halved until it fits, and then evidence is cut.
func (s *Service) fit(e endpoint, v *view) ([]byte, error) {
	for {
		p := e.page(v)
		data, err := json.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("write the reply: %w", err)
		}
		if len(data) <= s.room() {
			return data, nil
		}
		if v.limit > 1 {
			v.limit /= 2
			continue
		}
		p.shrink()
		if data, err = json.Marshal(p); err == nil && len(data) <= s.room() {
			return data, nil
		}
		return nil, refuse(503, "one item alone exceeds this connection's max payload of %d bytes: raise max_payload, or ask for less", s.nc.MaxPayload())
	}
}

// trimmed is what is left of evidence that does not fit.
func trimmed(e []posture.Evidence) []posture.Evidence {
	const kept = 3
	if len(e) <= kept {
		return e
	}
	return append(slices.Clone(e[:kept]), posture.Evidence{Source: "natsentry", Value: fmt.Sprintf("%d more left out: they exceed max payload", len(e)-kept)})
}
