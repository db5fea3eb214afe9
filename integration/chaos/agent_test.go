//go:build unix

package chaos

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/service"
)

// agentURL in the environment makes the test binary an agent, which obeys what
// it reads from standard input:
//
//	crash STEP N    end as by kill -9 before the Nth step of that name
//	clock SECONDS   let the clock be so far off
const agentURL = "NATSENTRY_CHAOS_AGENT"

func TestMain(m *testing.M) {
	if url := os.Getenv(agentURL); url != "" {
		if err := runAgent(url); err != nil {
			fmt.Fprintln(os.Stderr, err) //nolint:forbidigo // this process is the agent
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runAgent is `natsentry run --store` with hooks.
func runAgent(url string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})) //nolint:forbidigo // this process is the agent
	var h hooks
	go h.obey()
	nc, err := nats.Connect(url, nats.UserInfo("sys", password), nats.CustomInboxPrefix("_INBOX_AUDIT"), nats.Name("natsentry"),
		nats.IgnoreDiscoveredServers(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true),
		nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond), nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2))
	if err != nil {
		return err
	}
	defer nc.Close()
	for !nc.IsConnected() && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	keeper, err := service.InJetStream(ctx, service.JetStreamConfig{Conn: nc, APIPrefix: service.StoreAPI, System: system, Lease: lease, Logger: log, Step: h.step})
	if err != nil {
		return err
	}
	svc, err := service.New(nc, service.Config{System: system, Interval: interval, Keeper: keeper, Logger: log})
	if err != nil {
		return err
	}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{
		System: system, Interval: interval, SessionInterval: interval, WatchInterval: 100 * time.Millisecond, Policy: policy,
		Collect: collect.Config{Timeout: 500 * time.Millisecond},
		// Damping would hide what this is about.
		Rules: finding.Rules{Apart: 50 * time.Millisecond, FlapCount: math.MaxInt},
	}, agent.WithSink(witness{svc}), agent.WithTurns(svc.Turns()), agent.WithClock(h.now), agent.WithLogger(log))
	if err != nil {
		return err
	}
	svc.Attach(a)
	defer func() { _ = svc.Stop() }() // the process ends
	return a.Run(ctx)
}

// witness notes when transitions were judged, by the clock that never jumps. A
// store that is out of reach takes them later.
type witness struct{ agent.Sink }

// judgedMark begins its lines in the log.
const judgedMark = "judged-transition "

func (w witness) Judged(ctx context.Context, state *agent.State, transitions []finding.Entry) {
	for _, e := range transitions {
		fmt.Fprintln(os.Stderr, judgedMark+e.Finding.ID, time.Now().UnixNano()) //nolint:forbidigo // this process is the agent
	}
	w.Sink.Judged(ctx, state, transitions)
}

// hooks are what the test does to an agent from inside.
type hooks struct {
	offset atomic.Int64
	mu     sync.Mutex
	at     string
	left   int
}

func (h *hooks) now() time.Time {
	if d := time.Duration(h.offset.Load()); d != 0 {
		return time.Now().Round(0).Add(d) // without its monotonic part, as after a jump and a restart
	}
	return time.Now()
}

func (h *hooks) step(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.at != name {
		return
	}
	if h.left--; h.left <= 0 {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it does not return
		select {}
	}
}

func (h *hooks) obey() {
	lines := bufio.NewScanner(os.Stdin) //nolint:forbidigo // this process is the agent
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 3 && fields[0] == "crash":
			h.mu.Lock()
			h.at = fields[1]
			h.left, _ = strconv.Atoi(fields[2])
			h.mu.Unlock()
		case len(fields) == 2 && fields[0] == "clock":
			n, _ := strconv.Atoi(fields[1])
			h.offset.Store(int64(n) * int64(time.Second))
		}
	}
}

// child is an agent in a process of its own, which is started again whenever
// it ends.
type child struct {
	t    *testing.T
	name string
	url  string
	log  *os.File

	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin *os.File
	ended bool
	runs  int
	done  chan struct{}
}

func startChild(t *testing.T, name, url, log string) *child {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{t: t, name: name, url: url, log: f, done: make(chan struct{})}
	ready := make(chan error, 1)
	go c.supervise(ready)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.end)
	return c
}

func (c *child) supervise(ready chan<- error) {
	defer close(c.done)
	for {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), agentURL+"="+c.url)
		cmd.Stdout, cmd.Stderr = c.log, c.log
		r, w, err := os.Pipe()
		if err == nil {
			cmd.Stdin = r
			err = cmd.Start()
		}
		if err == nil {
			_ = r.Close() // the process has its own
			c.mu.Lock()
			c.cmd, c.stdin = cmd, w
			c.runs++
			if c.ended {
				_ = cmd.Process.Kill()
			}
			c.mu.Unlock()
		}
		if ready != nil {
			ready <- err // not before there is somebody to give orders to
			ready = nil
		}
		if err != nil {
			c.t.Error(err)
			return
		}
		_ = cmd.Wait() // it is killed, mostly
		c.mu.Lock()
		_ = w.Close() // nobody reads it any more
		ended := c.ended
		c.mu.Unlock()
		if ended {
			return
		}
	}
}

// judged reads from the log when transitions were judged.
func (c *child) judged(tell func(id string, at time.Time)) error {
	f, err := os.Open(c.log.Name())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var id string
		var at int64
		if n, err := fmt.Sscanf(lines.Text(), judgedMark+"%s %d", &id, &at); err == nil && n == 2 {
			tell(id, time.Unix(0, at))
		}
	}
	return lines.Err()
}

// say gives the agent an order. One that has just died does not hear it.
func (c *child) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _ = fmt.Fprintf(c.stdin, format+"\n", args...)
}

func (c *child) signal(s syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.cmd.Process.Signal(s) // it may have ended
}

func (c *child) end() {
	c.mu.Lock()
	c.ended = true
	_ = c.cmd.Process.Signal(syscall.SIGCONT)
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	c.mu.Unlock()
	select {
	case <-c.done:
	case <-time.After(10 * time.Second):
		c.signal(syscall.SIGKILL)
		<-c.done
	}
	_ = c.log.Close() // only a log
}
