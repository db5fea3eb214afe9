package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// screen is an output that can be read while it is written.
type screen struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// await waits until the screen shows something.
func (s *screen) await(t *testing.T, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if m := re.FindStringSubmatch(s.String()); m != nil {
			return m
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s in\n%s", pattern, s)
		}
	}
}

// live is a command that runs until it is interrupted.
type live struct {
	stdout, stderr screen
	interrupt      context.CancelFunc
	code           chan int
}

func start(t *testing.T, args ...string) *live {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &live{interrupt: cancel, code: make(chan int, 1)}
	p := &program{stdin: strings.NewReader(""), stdout: &l.stdout, stderr: &l.stderr, env: []string{"XDG_CONFIG_HOME=" + t.TempDir()}, args: args}
	go func() { l.code <- p.run(ctx) }()
	t.Cleanup(cancel)
	return l
}

func (l *live) end(t *testing.T) {
	t.Helper()
	l.interrupt()
	select {
	case code := <-l.code:
		if code != 0 {
			t.Errorf("exit code %d: %s", code, l.stderr.String())
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}

// The demonstration shows what happens to it.
func TestDemoLive(t *testing.T) {
	demo := start(t, "demo")
	url := demo.stdout.await(t, `nats --no-context --server (\S+) sub '>'`)[1]
	demo.stdout.await(t, `What changes from now on`)
	nc, err := nats.Connect(url, nats.Name("one more"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	demo.stdout.await(t, `Z  UPDATED   CRITICAL  SESS_001  east/no-auth client: 2 anonymous clients`)
	demo.end(t)
	if got := demo.stderr.String(); got != "" {
		t.Errorf("standard error: %s", got)
	}
	if again := regexp.MustCompile(`Z  OPENED`).FindString(demo.stdout.String()); again != "" {
		t.Error("what stood from the start is told as a change")
	}
}

func TestDemoInterruptedAtOnce(t *testing.T) {
	demo := start(t, "demo")
	demo.end(t)
}

// Anybody in the account may publish where watch listens.
func TestWatchSurvivesAnything(t *testing.T) {
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1", Config: "authorization { user: w, password: w }"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	url := f.Server("n1").URL()
	watch := start(t, "watch", "--server", url, "--user", "w", "--password", "w")
	asJSON := start(t, "watch", "--server", url, "--user", "w", "--password", "w", "--format", "json")
	watch.stderr.await(t, "watching audit.auth.finding.>")
	asJSON.stderr.await(t, "watching audit.auth.finding.>")
	nc, err := nats.Connect(url, nats.UserInfo("w", "w"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	evil, err := json.Marshal(hostileReport().Findings[0])
	if err != nil {
		t.Fatal(err)
	}
	good, err := json.Marshal(fleetReport().Findings[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{"", "\x1b[2J", `{"type":"natsentry.v2.finding"}`, `{"type":"\u001b[2J"}`, `[]`, `{"severity":"dire"}`, string(evil), string(good)} {
		if err := nc.Publish("audit.auth.finding.opened.\u009b.x", []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []*live{watch, asJSON} {
		l.stdout.await(t, `n1 lets strangers in`)
		printable(t, l.stdout.String())
		printable(t, l.stderr.String())
		if n := strings.Count(l.stdout.String(), "\n"); n != 2 {
			t.Errorf("%d lines for two findings", n)
		}
		if n := strings.Count(l.stderr.String(), "is no finding"); n != 6 {
			t.Errorf("%d complaints about six messages: %s", n, l.stderr.String())
		}
	}
	lines := bufio.NewScanner(strings.NewReader(asJSON.stdout.String()))
	for lines.Scan() {
		if _, err := decodeFinding(lines.Bytes()); err != nil {
			t.Error(err)
		}
	}

	// The server goes and comes back.
	if err := f.Server("n1").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.stderr.await(t, "connection lost")
	if err := f.Server("n1").Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	watch.stderr.await(t, "connection is back")
	watch.end(t)
	asJSON.end(t)
}

func TestTolerated(t *testing.T) {
	epoch := func(interval string) string {
		return `{"type":"` + service.EpochType + `","interval":"` + interval + `"}`
	}
	for in, want := range map[string]time.Duration{
		epoch("30s"): 90 * time.Second, epoch("10ms"): shortestSilent, epoch("-1s"): firstSilence, epoch("9000h"): firstSilence,
		epoch("soon"): firstSilence, "{}": firstSilence, "": firstSilence, `{"interval":"30s"}`: firstSilence,
	} {
		if got := tolerated([]byte(in)); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
