package fleet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// haltLimit is how long a server may take for a clean end when the fleet
// closes, before a process is killed.
const haltLimit = 5 * time.Second

// instance is one run of a server: from its start to its end.
type instance interface {
	// ready waits until every listener accepts connections.
	ready(ctx context.Context) error
	id() string
	// clientAddr is where the client port listens.
	clientAddr() string
	// reload makes the run read its configuration file again.
	reload(ctx context.Context) error
	stop(ctx context.Context) error
	kill() error
	lameDuck() error
}

var (
	_ instance = (*embedded)(nil)
	_ instance = (*process)(nil)
)

var (
	errNotRunning   = errors.New("the server is not running")
	errRunning      = errors.New("the server is running")
	errNoConfigFile = errors.New("the server has no configuration file")
)

// A Server is one server of a fleet: it keeps its name, files and ports while
// it is stopped and started again.
type Server struct {
	fleet *Fleet
	spec  Spec
	dir   string

	// listeners are the ports by label. The fleet's mutex guards them, since
	// other servers' configurations pick them too.
	listeners map[string]int

	mu  sync.Mutex
	run instance // nil before the first start and after Stop and Kill
}

// Name returns the key of the server in its fleet.
func (s *Server) Name() string { return s.spec.Name }

// ID returns the server id of the present run, "" when stopped. A restart
// makes a new one.
func (s *Server) ID() string {
	if run := s.current(); run != nil {
		return run.id()
	}
	return ""
}

// URL returns the client address as nats://127.0.0.1:port, "" when stopped
// and not listening on the port that the builder chose.
func (s *Server) URL() string {
	addr := s.Addr(clientLabel)
	if run := s.current(); run != nil {
		addr = run.clientAddr()
	}
	if addr == "" {
		return ""
	}
	return "nats://" + addr
}

// Addr returns 127.0.0.1:port of the listener of that label, "" when no
// configuration of the fleet ever named it.
func (s *Server) Addr(listener string) string {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	if port, ok := s.listeners[listener]; ok {
		return loopbackAddr(port)
	}
	return ""
}

// ConfigFile is the path of the server's configuration file; there is none with
// Spec.NoConfigFile.
func (s *Server) ConfigFile() string { return s.configFile() }

// Pid returns the process id, 0 when embedded or stopped.
func (s *Server) Pid() int {
	if p, ok := s.current().(*process); ok {
		return p.cmd.Process.Pid
	}
	return 0
}

// Embedded returns the server itself when it is embedded and was not stopped,
// else nil.
func (s *Server) Embedded() *server.Server {
	if e, ok := s.current().(*embedded); ok {
		return e.srv
	}
	return nil
}

// path is where one of the files beside the configuration is.
func (s *Server) path(name string) string { return filepath.Join(s.dir, filepath.FromSlash(name)) }

// Reload writes the new configuration, with the same template rules as
// [Spec.Config], and makes the server read it. A server that refuses it keeps
// running with the old one, and the refusal is the error; what it refused
// stays on disk, as after any bad deploy. A process whose log cannot be read
// is only signalled.
func (s *Server) Reload(ctx context.Context, config string) error {
	if err := s.Rewrite(config); err != nil {
		return err
	}
	run := s.current()
	if run == nil {
		return errNotRunning
	}
	ctx, cancel := limit(ctx)
	defer cancel()
	return run.reload(ctx)
}

// Rewrite writes the new configuration and leaves the running server alone:
// the bad deploy that waits for a restart.
func (s *Server) Rewrite(config string) error {
	if s.spec.NoConfigFile {
		return errNoConfigFile
	}
	return s.writeConfig(config)
}

// Stop shuts the server down cleanly (SIGTERM for a process) and waits for its
// end. A process that is still there when ctx ends is left running.
func (s *Server) Stop(ctx context.Context) error {
	run := s.current()
	if run == nil {
		return errNotRunning
	}
	ctx, cancel := limit(ctx)
	defer cancel()
	if err := run.stop(ctx); err != nil {
		return err
	}
	s.ended(run)
	return nil
}

// Kill ends a process without any warning to it or its peers (SIGKILL) and
// waits until it is gone. An embedded server cannot be killed.
func (s *Server) Kill() error {
	run := s.current()
	if run == nil {
		return errNotRunning
	}
	if err := run.kill(); err != nil {
		return err
	}
	s.ended(run)
	return nil
}

// LameDuck makes the server stop accepting connections and evict its clients
// over its lame_duck_duration; it returns at once. The run ends by itself:
// Stop or Kill it before a Restart.
func (s *Server) LameDuck() error {
	run := s.current()
	if run == nil {
		return errNotRunning
	}
	return run.lameDuck()
}

// Restart starts a stopped or killed server again, from its present
// configuration file and on the same ports.
func (s *Server) Restart(ctx context.Context) error {
	ctx, cancel := limit(ctx)
	defer cancel()
	return s.launch(ctx)
}

// SetBinary makes a stopped server start as a process of another nats-server: see
// Binary.
func (s *Server) SetBinary(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spec.Binary = path
}

// prepare writes the server's files and configuration.
func (s *Server) prepare() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the server's folder: %w", err)
	}
	if s.spec.NoConfigFile {
		_, err := s.port(clientLabel)
		return err
	}
	for name, content := range s.spec.Files {
		if !filepath.IsLocal(filepath.FromSlash(name)) {
			return fmt.Errorf("file %q is outside the server's folder", name)
		}
		path := filepath.Join(s.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("file %q: %w", name, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return fmt.Errorf("file %q: %w", name, err)
		}
	}
	return s.writeConfig(s.spec.Config)
}

// launch starts a new run and waits until it is ready.
func (s *Server) launch(ctx context.Context) error {
	run, err := s.begin(ctx)
	if err != nil {
		return err
	}
	if err := run.ready(ctx); err != nil {
		return errors.Join(fmt.Errorf("start: %w", err), s.halt(ctx))
	}
	return nil
}

func (s *Server) begin(ctx context.Context) (instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return nil, errRunning
	}
	opts, err := s.options()
	if err != nil {
		return nil, err
	}
	var run instance
	if s.spec.Binary == "" {
		run, err = startEmbedded(s, opts)
	} else {
		run, err = startProcess(ctx, s, opts)
	}
	if err != nil {
		return nil, err
	}
	s.run = run
	return run, nil
}

// halt ends the present run whatever it takes, even when ctx has ended.
func (s *Server) halt(ctx context.Context) error {
	run := s.current()
	if run == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), haltLimit)
	defer cancel()
	err := run.stop(ctx)
	if err != nil {
		if kerr := run.kill(); kerr != nil {
			return errors.Join(err, kerr)
		}
	}
	s.ended(run)
	return nil
}

func (s *Server) current() instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

func (s *Server) ended(run instance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == run {
		s.run = nil
	}
}
