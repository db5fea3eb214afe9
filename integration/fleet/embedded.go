package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/logger"
	"github.com/nats-io/nats-server/v2/server"
)

// embedded is a run of a server inside this process.
type embedded struct {
	owner *Server
	srv   *server.Server
	fatal <-chan string
}

// quickGateways shortens the second that nats-server waits before it dials its
// gateways. The rest still lets the other clusters begin to listen: a refused
// dial is not repeated for a whole second. It is a setting of the whole
// process, and once is enough.
var quickGateways = sync.OnceFunc(func() { server.SetGatewaysSolicitDelay(100 * time.Millisecond) })

func startEmbedded(owner *Server, opts *server.Options) (*embedded, error) {
	quickGateways()
	srv, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	fatal := make(chan string, 1)
	log := embeddedLog{fatal: fatal}
	if opts.LogFile != "" {
		log.to = logger.NewFileLogger(opts.LogFile, opts.Logtime, opts.Debug, opts.Trace, true, logger.LogUTC(opts.LogtimeUTC))
	}
	srv.SetLoggerV2(log, opts.Debug, opts.Trace, opts.TraceVerbose)
	go srv.Start()
	return &embedded{owner: owner, srv: srv, fatal: fatal}, nil
}

func (e *embedded) ready(ctx context.Context) error {
	for !e.srv.ReadyForConnections(time.Millisecond) {
		select {
		case why := <-e.fatal:
			return errors.New(why)
		case <-ctx.Done():
			return fmt.Errorf("not ready for connections: %w", context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

func (e *embedded) id() string { return e.srv.ID() }

func (e *embedded) clientAddr() string {
	if addr := e.srv.Addr(); addr != nil {
		return addr.String()
	}
	return e.owner.Addr(clientLabel)
}

// reload does what server.Reload does, and keeps what only code can set.
func (e *embedded) reload(context.Context) error {
	if e.owner.spec.NoConfigFile {
		return errNoConfigFile
	}
	opts, err := e.owner.options()
	if err != nil {
		return err
	}
	return e.srv.ReloadOptions(opts)
}

func (e *embedded) stop(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		e.srv.Shutdown()
		e.srv.WaitForShutdown()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shutdown: %w", context.Cause(ctx))
	}
}

func (e *embedded) kill() error {
	return errors.New("an embedded server cannot be killed: it needs a process of its own")
}

func (e *embedded) lameDuck() error {
	go e.srv.LameDuckShutdown()
	return nil
}

// embeddedLog passes what an embedded server logs to the file of its
// configuration, if it names one. It keeps a fatal error away from
// nats-server's own loggers, which would end this process, and hands it to
// whoever waits for the start.
type embeddedLog struct {
	to    server.Logger // nil discards
	fatal chan<- string
}

func (l embeddedLog) Fatalf(format string, v ...any) {
	select {
	case l.fatal <- fmt.Sprintf(format, v...):
	default: // the first one is the cause
	}
	l.Errorf(format, v...)
}

func (l embeddedLog) Noticef(format string, v ...any) {
	if l.to != nil {
		l.to.Noticef(format, v...)
	}
}

func (l embeddedLog) Warnf(format string, v ...any) {
	if l.to != nil {
		l.to.Warnf(format, v...)
	}
}

func (l embeddedLog) Errorf(format string, v ...any) {
	if l.to != nil {
		l.to.Errorf(format, v...)
	}
}

func (l embeddedLog) Debugf(format string, v ...any) {
	if l.to != nil {
		l.to.Debugf(format, v...)
	}
}

func (l embeddedLog) Tracef(format string, v ...any) {
	if l.to != nil {
		l.to.Tracef(format, v...)
	}
}

// AccountOf returns the account of an embedded server's connection, "" for the
// global one.
func (s *Server) AccountOf(cid uint64) (string, error) {
	connz, err := s.Embedded().Connz(&server.ConnzOptions{CID: cid, Username: true})
	if err != nil {
		return "", err
	}
	if len(connz.Conns) != 1 {
		return "", fmt.Errorf("the server shows %d connections of id %d", len(connz.Conns), cid)
	}
	return connz.Conns[0].Account, nil
}
