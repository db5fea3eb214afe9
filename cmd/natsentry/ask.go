package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/natsentry/natsentry/service"
)

// How often, and for how long, an agent that says that it cannot answer yet is
// asked again: it starts, or takes over from another one.
const (
	askAgain = 250 * time.Millisecond
	patience = 5 * time.Second
)

// mostItems bounds what is fetched of one list, whatever the other side says
// that there is. An agent remembers half as many transitions.
const mostItems = 20_000

// asker asks a running agent. Whoever may answer on its subjects can be the
// one who does: what comes is taken for hostile.
type asker struct {
	t       *target
	nc      *nats.Conn
	prefix  string
	timeout time.Duration // of one request
	patient time.Duration

	mu     sync.Mutex
	giveUp context.CancelCauseFunc // of the request under way
}

// refusedBy is what the agent said to a request that it did not answer.
type refusedBy struct {
	code, text string
}

func (r *refusedBy) Error() string { return r.text }

// connectToAsk connects for requests to an agent.
func (p *program) connectToAsk(ctx context.Context, t *target, prefix string) (*asker, error) {
	a := &asker{t: t, prefix: prefix, timeout: p.connection.timeout, patient: patience}
	nc, err := p.connect(ctx, t, a.refused)
	if err != nil {
		return nil, err
	}
	a.nc = nc
	return a, nil
}

// refused ends a request that the server does not let through: no answer
// would come.
func (a *asker) refused(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.giveUp != nil {
		a.giveUp(err)
	}
}

// pages asks for a list, page by page, until take has all of it. whole is
// false when there is more than is fetched.
func (a *asker) pages(ctx context.Context, suffix string, req service.Request, take func(data []byte) (service.Page, error)) (whole bool, err error) {
	limit := service.MaxLimit
	for req.Offset < mostItems {
		req.Limit = &limit
		data, err := a.ask(ctx, suffix, req)
		if err != nil {
			return false, err
		}
		page, err := take(data)
		if err != nil {
			return false, fmt.Errorf("what answers on %s is no natsentry of this kind: %w", a.prefix+suffix, err)
		}
		if page.NextOffset == nil {
			return true, nil
		}
		if *page.NextOffset <= req.Offset {
			return false, fmt.Errorf("what answers on %s is no natsentry of this kind: its pages do not end", a.prefix+suffix)
		}
		req.Offset = *page.NextOffset
		if page.Limit >= 1 && page.Limit < limit {
			limit = page.Limit // no more fits into a reply
		}
	}
	return false, nil
}

// ask sends one request, again and again for a while when the agent says that
// it cannot answer yet.
func (a *asker) ask(ctx context.Context, suffix string, req service.Request) ([]byte, error) {
	payload, err := json.Marshal(req)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	for began := time.Now(); ; {
		m, err := a.request(ctx, a.prefix+suffix, payload)
		if err != nil {
			return nil, err
		}
		code, text := m.Header.Get(micro.ErrorCodeHeader), strings.TrimSpace(m.Header.Get(micro.ErrorHeader))
		switch {
		case code == "" && text == "":
			return m.Data, nil
		case code != "503" || time.Since(began) >= a.patient:
			return nil, &refusedBy{code, cmp.Or(text, "the agent answers with error "+code)}
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return nil, errInterrupted
		}
	}
}

var errInterrupted = errors.New("interrupted")

// request sends one request and waits for the answer.
func (a *asker) request(ctx context.Context, subject string, payload []byte) (*nats.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	limited, giveUp := context.WithCancelCause(limited)
	defer giveUp(nil)
	a.mu.Lock()
	a.giveUp = giveUp
	a.mu.Unlock()
	m, err := a.nc.RequestWithContext(limited, subject, payload)
	switch violation := context.Cause(limited); {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, errInterrupted
	case errors.Is(violation, nats.ErrPermissionViolation):
		return nil, fmt.Errorf("this user may not ask on %s: %w\nuse one that may: another one of the system account, or of an account that imports the subject", subject, a.t.scrub(violation))
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("no agent answers on %s at %s: %w\nis `natsentry run` running, with this --prefix, and is this its account?", subject, redactServers(a.nc.ConnectedUrl()), err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return nil, fmt.Errorf("no answer on %s in %s: try again, or raise --timeout", subject, a.timeout)
	default:
		return nil, a.t.scrub(fmt.Errorf("ask on %s: %w", subject, err))
	}
}

// decodeReply reads a reply of one type.
func decodeReply[T any](data []byte, want string, typeOf func(*T) string) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(data, v); err != nil {
		return nil, errors.New("its reply cannot be read: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	if got := typeOf(v); got != want {
		return nil, fmt.Errorf("the type of its reply is %.40q", got)
	}
	return v, nil
}
