package fleet

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// pollEvery is the pause between looks at a process that starts or reloads.
const pollEvery = 5 * time.Millisecond

// tailSize is how much of a process's log an error carries, in bytes.
const tailSize = 2048

// process is a run of a server as an operating-system process of its own.
type process struct {
	cmd       *exec.Cmd
	listeners []listener
	logFile   string // "" when the configuration sends the log out of reach
	before    int    // length of the log when the run began
	output    string // standard output and standard error
	serverID  atomic.Value

	// done is closed when the process is gone and was waited for.
	done chan struct{}
}

func startProcess(ctx context.Context, owner *Server, opts *server.Options) (*process, error) {
	if opts.Port <= 0 {
		return nil, fmt.Errorf("configuration: a process needs a fixed client port, not %d", opts.Port)
	}
	p := &process{
		listeners: listenersOf(opts),
		output:    filepath.Join(owner.dir, "output.log"),
		logFile:   opts.LogFile,
		done:      make(chan struct{}),
	}
	if p.logFile == "" && !opts.Syslog && opts.RemoteSyslog == "" {
		p.logFile = p.output
	}
	// Whoever else listens there would be taken for the process when it is
	// asked whether it is ready.
	for _, l := range p.listeners {
		if err := vacant(l.addr()); err != nil {
			return nil, fmt.Errorf("%s listener: %w", l.door, err)
		}
	}
	if p.logFile != p.output {
		p.before = len(p.logSince(0))
	}
	args := []string{"--config", owner.configFile()}
	if owner.spec.NoConfigFile {
		args = []string{"--name", opts.ServerName, "--addr", opts.Host, "--port", strconv.Itoa(opts.Port)}
	}
	out, err := os.Create(p.output) // one run, one log
	if err != nil {
		return nil, fmt.Errorf("make the log: %w", err)
	}
	defer func() { _ = out.Close() }() // the process has its own handle

	// The process outlives ctx, which bounds the start alone.
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), owner.spec.Binary, append(args, owner.spec.Args...)...)
	p.cmd.Dir = owner.dir
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("run nats-server: %w", err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
		close(p.done)
	}()
	return p, nil
}

func (p *process) ready(ctx context.Context) error {
	waiting := p.listeners
	for len(waiting) > 0 {
		if p.try(ctx, waiting[0]) {
			waiting = waiting[1:]
			continue
		}
		select {
		case <-p.done:
			return p.withLog(fmt.Errorf("the process ended: %s", p.cmd.ProcessState))
		case <-ctx.Done():
			return p.withLog(fmt.Errorf("%s listener on %s not ready: %w", waiting[0].door, waiting[0].addr(), context.Cause(ctx)))
		case <-time.After(pollEvery):
		}
	}
	return nil
}

// try reports whether a listener accepts connections; the client listener
// must also say which server it is.
func (p *process) try(ctx context.Context, l listener) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", l.addr())
	if err != nil {
		return false
	}
	defer conn.Close()
	if l.door != clientLabel {
		return true
	}
	id := idFromInfo(conn)
	if id == "" {
		// A client port with handshake_first says nothing before TLS.
		id = p.idFromLog()
	}
	p.serverID.Store(id)
	return id != ""
}

// idFromInfo reads the server id from the line with which a server greets.
func idFromInfo(conn net.Conn) string {
	if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
		return ""
	}
	line, err := bufio.NewReader(io.LimitReader(conn, 1<<20)).ReadBytes('\n')
	if err != nil {
		return ""
	}
	var info struct {
		ServerID string `json:"server_id"`
	}
	body, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok || json.Unmarshal(body, &info) != nil {
		return ""
	}
	return info.ServerID
}

var loggedID = regexp.MustCompile(`\bID:\s+(N[A-Z2-7]{55})\b`)

func (p *process) idFromLog() string {
	if m := loggedID.FindSubmatch(p.logSince(p.before)); m != nil {
		return string(m[1])
	}
	return ""
}

func (p *process) id() string {
	id, _ := p.serverID.Load().(string)
	return id
}

func (p *process) clientAddr() string { return p.listeners[0].addr() }

// reload signals the process and, where its log can be read, waits for the
// line that tells how the reload went.
func (p *process) reload(ctx context.Context) error {
	from := len(p.logSince(0))
	if err := p.signal(signalReload); err != nil {
		return err
	}
	if p.logFile == "" {
		return nil
	}
	for {
		for line := range strings.Lines(string(p.logSince(from))) {
			if !strings.HasSuffix(line, "\n") {
				break // still being written
			}
			if strings.Contains(line, "Reloaded server configuration") {
				return nil
			}
			if _, why, refused := strings.Cut(line, "Failed to reload server configuration: "); refused {
				return fmt.Errorf("reload refused: %s", strings.TrimSpace(why))
			}
		}
		select {
		case <-p.done:
			return p.withLog(errors.New("reload: the process ended"))
		case <-ctx.Done():
			return p.withLog(fmt.Errorf("reload: %w", context.Cause(ctx)))
		case <-time.After(pollEvery):
		}
	}
}

func (p *process) stop(ctx context.Context) error {
	if err := p.signal(signalStop); err != nil {
		if p.gone() {
			return nil
		}
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("shutdown: %w", context.Cause(ctx))
	}
}

func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill: %w", err)
	}
	<-p.done
	return nil
}

func (p *process) lameDuck() error { return p.signal(signalLameDuck) }

func (p *process) signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %v: %w", sig, err)
	}
	return nil
}

func (p *process) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// logSince returns what the process has logged after the first from bytes.
func (p *process) logSince(from int) []byte {
	if p.logFile == "" {
		return nil
	}
	log, err := os.ReadFile(p.logFile)
	if err != nil || len(log) < from {
		return nil
	}
	return log[from:]
}

// withLog adds the end of what the process said to an error about it.
func (p *process) withLog(err error) error {
	said := p.logSince(p.before)
	if p.logFile != p.output {
		if out, rerr := os.ReadFile(p.output); rerr == nil {
			said = append(said, out...)
		}
	}
	if len(said) > tailSize {
		said = said[len(said)-tailSize:]
	}
	said = bytes.TrimSpace(said)
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w; its log ends:\n%s", err, said)
}
