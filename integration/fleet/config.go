package fleet

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"text/template"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
)

// clientLabel is the listener label of the client port that the builder adds.
const clientLabel = "client"

// port returns the port of the server's listener of that label, and picks a
// free one when the label is new.
func (s *Server) port(label string) (int, error) {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	if port, ok := s.listeners[label]; ok {
		return port, nil
	}
	port, err := s.fleet.ports.take()
	if err != nil {
		return 0, err
	}
	s.listeners[label] = port
	return port, nil
}

// render executes configuration text as the template that Spec.Config describes.
func (s *Server) render(text string) (string, error) {
	port := func(names ...string) (int, error) {
		owner := s
		switch len(names) {
		case 1:
		case 2:
			if owner = s.fleet.Server(names[0]); owner == nil {
				return 0, fmt.Errorf("no server %q in the fleet", names[0])
			}
		default:
			return 0, fmt.Errorf("want a label, or a server and a label, not %q", names)
		}
		return owner.port(names[len(names)-1])
	}
	t, err := template.New(s.Name()).Option("missingkey=error").Funcs(template.FuncMap{
		"port": port,
		"addr": func(names ...string) (string, error) {
			p, err := port(names...)
			return loopbackAddr(p), err
		},
		"dir": func() string { return filepath.ToSlash(s.dir) },
		"file": func(name string) (string, error) {
			if _, ok := s.spec.Files[name]; !ok {
				return "", fmt.Errorf("no file %q beside this server's configuration", name)
			}
			return filepath.ToSlash(filepath.Join(s.dir, filepath.FromSlash(name))), nil
		},
		"bcrypt": s.fleet.hashes.of,
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("configuration template: %w", err)
	}
	var out strings.Builder
	if err := t.Execute(&out, nil); err != nil {
		return "", fmt.Errorf("configuration template: %w", err)
	}
	return out.String(), nil
}

// writeConfig renders the text and replaces the configuration file with it.
// Text that nats-server cannot parse is written as it is: a fleet must be able
// to have a bad deploy.
func (s *Server) writeConfig(text string) error {
	text, err := s.render(text)
	if err != nil {
		return err
	}
	// Beside the final file, so that includes resolve; and renamed into place,
	// so that a server never reads half of it.
	next := s.configFile() + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	prefix, err := s.prefix(next)
	if err != nil {
		return err
	}
	if prefix != "" {
		if err := os.WriteFile(next, []byte(prefix+text), 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	if err := os.Rename(next, s.configFile()); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// prefix returns the lines that give a configuration file its server name and
// its loopback client port where it has none.
func (s *Server) prefix(file string) (string, error) {
	tree, err := conf.ParseFile(file)
	if err != nil {
		return "", nil //nolint:nilerr // the server itself will refuse it, and say why
	}
	has := func(keys ...string) bool {
		for key := range tree {
			for _, k := range keys {
				if strings.EqualFold(key, k) {
					return true
				}
			}
		}
		return false
	}
	var lines strings.Builder
	if !has("server_name") {
		fmt.Fprintf(&lines, "server_name: %q\n", s.Name())
	}
	if has("listen") {
		return lines.String(), nil
	}
	if !has("host", "net") {
		fmt.Fprintf(&lines, "host: %q\n", loopback)
	}
	if !has("port") {
		port, err := s.port(clientLabel)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&lines, "port: %d\n", port)
	}
	return lines.String(), nil
}

func (s *Server) configFile() string {
	return filepath.Join(s.dir, "server.conf")
}

// options returns what the server will run with, and refuses options with a
// listener that is reachable from outside. A process is judged by this
// module's reading of its file, which is newer than its own may be.
func (s *Server) options() (*server.Options, error) {
	var opts *server.Options
	if s.spec.NoConfigFile {
		port, err := s.port(clientLabel)
		if err != nil {
			return nil, err
		}
		opts = &server.Options{ServerName: s.Name(), Host: loopback, Port: port}
	} else {
		var err error
		if opts, err = server.ProcessConfigFile(s.configFile()); err != nil {
			return nil, fmt.Errorf("configuration: %w", err)
		}
	}
	if s.spec.Binary == "" {
		// The process that embeds the server handles signals and owns its
		// standard error.
		opts.NoSigs = true
		opts.NoLog = opts.LogFile == ""
		if s.spec.Options != nil {
			s.spec.Options(opts)
		}
	}
	for _, l := range listenersOf(opts) {
		if !isLoopback(l.host) {
			return nil, fmt.Errorf("%s listener on %q: %w", l.door, l.host, errNotLoopback)
		}
	}
	return opts, nil
}

// listener is an address that options make a server listen on.
type listener struct {
	door string
	host string
	port int
}

func (l listener) addr() string { return net.JoinHostPort(l.host, strconv.Itoa(l.port)) }

// listenersOf returns the listeners that options ask for. A missing host is
// spelled out as what nats-server makes of it.
func listenersOf(o *server.Options) []listener {
	or := func(host, fallback string) string {
		if host == "" {
			return fallback
		}
		return host
	}
	client := or(o.Host, server.DEFAULT_HOST)
	monitor := or(o.HTTPHost, client)
	all := []listener{
		{"route", or(o.Cluster.Host, server.DEFAULT_HOST), o.Cluster.Port},
		{"gateway", or(o.Gateway.Host, server.DEFAULT_HOST), o.Gateway.Port},
		{"leafnode", or(o.LeafNode.Host, server.DEFAULT_HOST), o.LeafNode.Port},
		{"websocket", or(o.Websocket.Host, server.DEFAULT_HOST), o.Websocket.Port},
		{"mqtt", or(o.MQTT.Host, server.DEFAULT_HOST), o.MQTT.Port},
		{"monitor", monitor, o.HTTPPort},
		{"monitor", monitor, o.HTTPSPort},
		{"profile", client, o.ProfPort},
	}
	var on []listener
	if !o.DontListen {
		on = append(on, listener{clientLabel, client, o.Port})
	}
	for _, l := range all {
		if l.port != 0 {
			on = append(on, l)
		}
	}
	return on
}

// hashes keeps one bcrypt hash for each password, so that rendering the same
// text again gives the same configuration.
type hashes struct {
	mu sync.Mutex
	by map[string]string
}

func (h *hashes) of(password string) (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if hash, ok := h.by[password]; ok {
		return hash, nil
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		return "", err
	}
	if h.by == nil {
		h.by = map[string]string{}
	}
	h.by[password] = string(hash)
	return string(hash), nil
}
