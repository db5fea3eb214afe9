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

// startLimit bounds every start whose context has no deadline of its own.
const startLimit = time.Minute

// Spec describes one server of a fleet.
type Spec struct {
	// Name is the key of this server in the fleet, and its server_name unless
	// the configuration text sets one. It must be usable as a folder name.
	Name string

	// Config is nats-server configuration text, and a text/template with these
	// functions. A label is a free choice ("client", "route", …); a port stays
	// the same over reloads and restarts.
	//
	//	{{port "route"}}         port of this server's listener of that label
	//	{{port "n2" "route"}}    port of another server's listener
	//	{{addr "n2" "route"}}    127.0.0.1:port of it ({{addr "route"}} for one's own)
	//	{{dir}}                  this server's own folder
	//	{{file "ca.pem"}}        path of one of Files (but an include is always
	//	                         relative: include "users.conf")
	//	{{bcrypt "password"}}    bcrypt hash of the lowest cost, the same at each use
	//
	// Where the text has no server_name, or no listen and no port, the builder
	// puts lines in front of it: the name, and 127.0.0.1 with the port
	// labelled "client".
	Config string

	// NoConfigFile starts the server without a configuration file, like a bare
	// nats-server: its VARZ has no config_digest. Config and Files are unused.
	NoConfigFile bool

	// Options makes the last adjustments to an embedded server's options, at
	// its start and at each reload. A process ignores it. It may be nil.
	Options func(*server.Options)

	// Binary is the path of a nats-server executable to run as a process of
	// its own (see [Binary]). Empty means embedded.
	Binary string

	// Args are additional command-line arguments of a process.
	Args []string

	// Files are written as they are beside the configuration file: contents by
	// relative path.
	Files map[string]string
}

// A Fleet is a set of running servers. Its methods may be called from several
// goroutines.
type Fleet struct {
	dir    string
	ports  *ports
	hashes *hashes

	mu      sync.Mutex
	servers []*Server
}

// Start starts all servers at once and returns when each accepts connections
// on every one of its listeners. Routes, gateways and leaf connections may
// still be forming: see [Fleet.WaitActive].
//
// Without a deadline in ctx, a start that takes more than a minute is an error. On
// error, everything that was started has been stopped.
func Start(ctx context.Context, specs ...Spec) (*Fleet, error) {
	dir, err := os.MkdirTemp("", "natsentry-fleet-")
	if err != nil {
		return nil, fmt.Errorf("start fleet: %w", err)
	}
	f := &Fleet{dir: dir, ports: &ports{}, hashes: &hashes{}}
	if err := f.start(ctx, specs); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Add starts one more server in the fleet. Its configuration may refer to the
// servers that are already there.
func (f *Fleet) Add(ctx context.Context, spec Spec) (*Server, error) {
	if err := f.start(ctx, []Spec{spec}); err != nil {
		return nil, err
	}
	return f.Server(spec.Name), nil
}

// start adds the servers of specs to the fleet. All are known, and all
// configurations written, before the first one starts; on error none of them
// stays in the fleet.
func (f *Fleet) start(ctx context.Context, specs []Spec) (err error) {
	ctx, cancel := limit(ctx)
	defer cancel()

	var added []*Server
	defer func() {
		if err != nil {
			err = errors.Join(err, each(added, func(s *Server) error { return s.halt(ctx) }))
			f.forget(added)
		}
	}()
	for _, spec := range specs {
		s, err := f.reserve(spec)
		if err != nil {
			return err
		}
		added = append(added, s)
	}
	for _, s := range added {
		if err := s.prepare(); err != nil {
			return fmt.Errorf("server %s: %w", s.Name(), err)
		}
	}
	return each(added, func(s *Server) error { return s.launch(ctx) })
}

// reserve makes room for a server: its key and its folder.
func (f *Fleet) reserve(spec Spec) (*Server, error) {
	if spec.Name == "" || spec.Name != filepath.Base(spec.Name) || !filepath.IsLocal(spec.Name) {
		return nil, fmt.Errorf("server name %q cannot name a folder", spec.Name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.servers {
		if s.Name() == spec.Name {
			return nil, fmt.Errorf("server %s: the fleet has one already", spec.Name)
		}
	}
	s := &Server{fleet: f, spec: spec, dir: filepath.Join(f.dir, spec.Name), listeners: map[string]int{}}
	f.servers = append(f.servers, s)
	return s, nil
}

// forget takes servers out of the fleet.
func (f *Fleet) forget(gone []*Server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var rest []*Server
	for _, s := range f.servers {
		keep := true
		for _, g := range gone {
			keep = keep && s != g
		}
		if keep {
			rest = append(rest, s)
		}
	}
	f.servers = rest
}

// Server returns the server of that name, or nil.
func (f *Fleet) Server(name string) *Server {
	for _, s := range f.Servers() {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// Servers returns all servers, running or not, in the order of their specs.
func (f *Fleet) Servers() []*Server {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Server(nil), f.servers...)
}

// Close stops every server at once and removes the fleet's files and port
// reservations. The fleet is of no use afterwards; a second Close does nothing.
func (f *Fleet) Close() error {
	err := each(f.Servers(), func(s *Server) error { return s.halt(context.Background()) })
	f.ports.release()
	if rerr := os.RemoveAll(f.dir); rerr != nil {
		err = errors.Join(err, fmt.Errorf("remove the fleet's files: %w", rerr))
	}
	return err
}

// each runs do for all servers at the same time and joins their errors.
func each(servers []*Server, do func(*Server) error) error {
	errs := make([]error, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() {
			if err := do(s); err != nil {
				errs[i] = fmt.Errorf("server %s: %w", s.Name(), err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// limit gives ctx the default deadline where it has none.
func limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, startLimit)
}
