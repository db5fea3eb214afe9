//go:build unix

package latency

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
)

// The short form is what `go test` runs; see Taskfile.yml for the long one.
var (
	runs   = flag.Int("runs", 2, "how often each cause is measured")
	update = flag.Bool("update", false, "write docs/latency.md")
)

const (
	password = "password-of-the-tests"
	victims  = 8 // servers to which things happen, one after the other
	// A finding that opens a third time within ten minutes is damped. So each
	// agent sees every server open twice at most.
	openings = 2
	others   = 20 // clients that are on the server, where there are any
)

const hub = `
accounts {
  $SYS { users: [ { user: sys, password: ` + password + ` } ] }
  APP { users: [ { user: app, password: ` + password + ` } ] }
}
leafnodes { listen: "{{addr "leafnode"}}", authorization { user: leaf, password: ` + password + `, account: "$SYS" } }
`

// remote bridges a server's system account to the hub's: that is one fleet.
const remote = `
leafnodes { remotes: [ { url: "nats-leaf://leaf:` + password + `@{{addr "hub" "leafnode"}}", account: "$SYS" } ] }
`

// The configurations of the servers to which things happen.
const (
	closed    = remote + `authorization { users: [ { user: app, password: ` + password + ` }, { user: other, password: ` + password + ` } ] }`
	closedOne = remote + `authorization { user: app, password: ` + password + ` }`
	open      = remote
	hidden    = remote + `accounts { $SYS { users: [ { user: app, password: ` + password + ` } ] } }`
)

// cause is something that happens to a server.
type cause struct {
	name    string
	check   string
	config  string // of the servers, before
	clients bool   // others are connected
	onePer  bool   // only one opening for each agent: what ends it takes a minute
	goal50  time.Duration
	goal99  time.Duration
	happen  func(t *testing.T, r *rig, s *fleet.Server) (at time.Time)
}

var causes = []cause{
	{
		name: "reload request that removes users, clients stay", check: "DOOR_001", config: closed, clients: true,
		goal50: 25 * time.Millisecond, goal99: 150 * time.Millisecond, happen: reloadRequest,
	},
	{
		name: "reload request that removes the only user, clients are dropped", check: "DOOR_001", config: closedOne, clients: true,
		goal50: 25 * time.Millisecond, goal99: 150 * time.Millisecond, happen: reloadRequest,
	},
	{name: "reload request, no clients", check: "DOOR_001", config: closed, goal99: 1300 * time.Millisecond, happen: reloadRequest},
	{
		name: "SIGHUP, clients stay", check: "DOOR_001", config: closed, clients: true,
		goal50: 25 * time.Millisecond, goal99: 150 * time.Millisecond, happen: sighup,
	},
	{name: "SIGHUP, no clients", check: "DOOR_001", config: closed, goal99: 1300 * time.Millisecond, happen: sighup},
	{name: "restart with the wrong file", check: "DOOR_001", config: closed, goal99: 1300 * time.Millisecond, happen: restart},
	{name: "restart with the wrong file, clients come back", check: "DOOR_001", config: closed, clients: true, goal99: 1300 * time.Millisecond, happen: restart},
	{name: "a stranger's first connection", check: "SESS_001", config: open, onePer: true, goal99: 100 * time.Millisecond, happen: stranger},
	{name: "a stranger's first connection, others are inside", check: "SESS_001", config: hidden, clients: true, onePer: true, goal99: 100 * time.Millisecond, happen: stranger},
}

// rig is a fleet, and a subscriber to what the agent says of it.
type rig struct {
	fleet     *fleet.Fleet
	nc        *nats.Conn
	findings  chan told
	strangers []*nats.Conn
}

type told struct {
	finding.Finding
	at time.Time
}

// measured is what came of one cause.
type measured struct {
	cause
	took []time.Duration
}

// quantile is by nearest rank: so many of a hundred were no longer than this.
func (m *measured) quantile(q float64) time.Duration {
	return m.took[int(math.Ceil(q*float64(len(m.took))))-1]
}

func TestLatency(t *testing.T) {
	binary := buildProgram(t)
	all := make([]measured, len(causes)+1)
	t.Run("all", func(t *testing.T) {
		for i, c := range causes {
			run(t, c, &all[i], func(t *testing.T) []time.Duration { return measure(t, binary, c) })
		}
		c := cause{name: "account JWT that lets a sentinel in", goal99: 1300 * time.Millisecond}
		run(t, c, &all[len(causes)], func(t *testing.T) []time.Duration { return measureJWT(t, binary) })
	})
	for i := range all {
		m := &all[i]
		if len(m.took) == 0 {
			continue // it failed
		}
		slices.Sort(m.took)
		t.Logf("%-70s n %d  p50 %s  p99 %s  max %s", m.name, len(m.took), m.quantile(0.5), m.quantile(0.99), m.took[len(m.took)-1])
		if *runs >= longForm && (m.goal50 > 0 && m.quantile(0.5) > m.goal50 || m.quantile(0.99) > m.goal99) {
			t.Errorf("%s: p50 %s (goal %s), p99 %s (goal %s)", m.name, m.quantile(0.5), m.goal50, m.quantile(0.99), m.goal99)
		}
	}
	if *update && !t.Failed() {
		write(t, all)
	}
}

// longForm is from how many runs on the figures count. Below, causes happen
// beside each other: that shows that findings come, and not how fast.
const longForm = 100

func run(t *testing.T, c cause, into *measured, f func(t *testing.T) []time.Duration) {
	t.Run(c.name, func(t *testing.T) {
		if *runs < longForm {
			t.Parallel()
		}
		*into = measured{cause: c, took: f(t)}
	})
}

func buildProgram(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "natsentry")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/natsentry").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func measure(t *testing.T, binary string, c cause) []time.Duration {
	server, err := fleet.Binary(t.Context(), fleet.Linked)
	if err != nil {
		t.Fatal(err)
	}
	n := min(victims, *runs)
	specs := []fleet.Spec{{Name: "hub", Config: hub}}
	for i := range n {
		specs = append(specs, fleet.Spec{Name: fmt.Sprintf("n%d", i), Binary: server, Config: c.config})
	}
	r := newRig(t, specs...)
	var took []time.Duration
	for len(took) < *runs {
		end := r.agent(t, binary)
		rounds := openings
		if c.onePer {
			rounds = 1
		}
		for round := 0; round < rounds && len(took) < *runs; round++ {
			i := 0
			for ; i < n && len(took) < *runs; i++ {
				took = append(took, r.once(t, c, r.fleet.Server(fmt.Sprintf("n%d", i))))
			}
			r.restore(t, c, i)
		}
		end()
	}
	return took
}

func newRig(t *testing.T, specs ...fleet.Spec) *rig {
	t.Helper()
	f, err := fleet.Start(t.Context(), specs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	system := nats.UserInfo("sys", password)
	if err := f.WaitActive(t.Context(), f.Server("hub").URL(), len(specs), system); err != nil {
		t.Fatal(err)
	}
	r := &rig{fleet: f}
	r.listen(t, f.Server("hub").URL(), system)
	return r
}

// listen subscribes to what an agent says.
func (r *rig) listen(t *testing.T, url string, login nats.Option) {
	t.Helper()
	nc, err := nats.Connect(url, login)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	r.nc, r.findings = nc, make(chan told, 10_000)
	if _, err := nc.Subscribe("audit.auth.finding.>", func(m *nats.Msg) {
		x := told{at: time.Now()}
		if json.Unmarshal(m.Data, &x.Finding) == nil {
			r.findings <- x
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// agent runs the program until it has swept once, and ends it by the returned
// function.
func (r *rig) agent(t *testing.T, binary string, args ...string) (end func()) {
	t.Helper()
	epochs := make(chan *nats.Msg, 100)
	sub, err := r.nc.ChanSubscribe("audit.auth.epoch", epochs)
	if err != nil {
		t.Fatal(err)
	}
	if len(args) == 0 {
		args = []string{"--server", r.fleet.Server("hub").URL(), "--user", "sys", "--password", password}
	}
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"run", "--no-context"}, args...)...)
	log := filepath.Join(t.TempDir(), "agent.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-epochs:
	case <-time.After(30 * time.Second):
		text, _ := os.ReadFile(log)
		t.Fatalf("the agent does not sweep: %s", text)
	}
	if err := sub.Unsubscribe(); err != nil {
		t.Fatal(err)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(log)
			t.Errorf("the agent ended with %v: %s", err, text)
		}
		_ = out.Close() // its content is not needed
	}
}

// once lets a cause happen and waits for the finding.
func (r *rig) once(t *testing.T, c cause, s *fleet.Server) time.Duration {
	t.Helper()
	if c.clients {
		defer r.clients(t, s)()
	}
	// At any moment between two polls.
	time.Sleep(rand.N(time.Second))
	r.forget()
	at := c.happen(t, r, s)
	return r.await(t, c.check, s.Name(), finding.Opened).Sub(at)
}

func (r *rig) forget() {
	for len(r.findings) > 0 {
		<-r.findings
	}
}

// await waits for what becomes of a finding, and tells when it came.
func (r *rig) await(t *testing.T, check, server string, action finding.Action) time.Time {
	t.Helper()
	timeout := time.After(20 * time.Second)
	for {
		select {
		case f := <-r.findings:
			if f.Check == check && f.Scope.Server == server && f.Action == action {
				return f.at
			}
		case <-timeout:
			t.Fatalf("%s on %s was not %s", check, server, action)
		}
	}
}

// clients connects others to a server, and lets them go by the returned
// function.
func (r *rig) clients(t *testing.T, s *fleet.Server) (leave func()) {
	t.Helper()
	var all []*nats.Conn
	for range others {
		nc, err := nats.Connect(s.URL(), nats.UserInfo("app", password), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond),
			nats.ReconnectJitter(10*time.Millisecond, 10*time.Millisecond), nats.IgnoreAuthErrorAbort())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, nc)
	}
	time.Sleep(1200 * time.Millisecond) // a CONNECT that is told again is known by its age
	return func() {
		for _, nc := range all {
			nc.Close()
		}
	}
}

// restore closes all doors again and waits until the agent has seen so.
func (r *rig) restore(t *testing.T, c cause, n int) {
	t.Helper()
	for _, nc := range r.strangers {
		nc.Close()
	}
	r.strangers = nil
	if c.onePer {
		return
	}
	r.forget()
	opened := map[string]bool{}
	for i := range n {
		s := r.fleet.Server(fmt.Sprintf("n%d", i))
		if err := s.Reload(t.Context(), c.config); err != nil {
			t.Fatal(err)
		}
		opened[s.Name()] = true
	}
	timeout := time.After(30 * time.Second)
	for len(opened) > 0 {
		select {
		case f := <-r.findings:
			if f.Check == c.check && f.Action == finding.Resolved {
				delete(opened, f.Scope.Server)
			}
		case <-timeout:
			t.Fatalf("not resolved: %v", opened)
		}
	}
}

func reloadRequest(t *testing.T, r *rig, s *fleet.Server) time.Time {
	t.Helper()
	if err := s.Rewrite(open); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	// A server does not do what it is asked without a way to answer.
	if err := r.nc.PublishRequest("$SYS.REQ.SERVER."+s.ID()+".RELOAD", r.nc.NewInbox(), nil); err != nil {
		t.Fatal(err)
	}
	return at
}

func sighup(t *testing.T, _ *rig, s *fleet.Server) time.Time {
	t.Helper()
	if err := s.Rewrite(open); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if err := syscall.Kill(s.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	return at
}

// restart measures from the moment at which the port is open.
func restart(t *testing.T, _ *rig, s *fleet.Server) time.Time {
	t.Helper()
	if err := s.Rewrite(open); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	opened := make(chan time.Time, 1)
	go func() { opened <- portOpen(t.Context(), s.Addr("client")) }()
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	return <-opened
}

// portOpen waits until a server greets.
func portOpen(ctx context.Context, address string) time.Time {
	for ctx.Err() == nil {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_, err = bufio.NewReader(conn).ReadString('\n')
			_ = conn.Close() // nothing was promised over it
			if err == nil {
				break
			}
		}
		time.Sleep(time.Millisecond)
	}
	return time.Now()
}

func stranger(t *testing.T, r *rig, s *fleet.Server) time.Time {
	t.Helper()
	at := time.Now()
	nc, err := nats.Connect(s.URL(), nats.Name("stranger"))
	if err != nil {
		t.Fatal(err)
	}
	r.strangers = append(r.strangers, nc)
	return at
}

// measureJWT: a bearer sentinel whose account is changed so that it may log in,
// and may not again.
func measureJWT(t *testing.T, binary string) []time.Duration {
	op, err := fleet.NewOperator()
	if err != nil {
		t.Fatal(err)
	}
	var sentinel string
	token, _, err := op.App.User("sentinel", func(c *jwt.UserClaims) { c.BearerToken, sentinel = true, c.Subject })
	if err != nil {
		t.Fatal(err)
	}
	shut := func(c *jwt.AccountClaims) { c.RevokeAt(sentinel, time.Now().Add(time.Hour)) }
	letIn := func(c *jwt.AccountClaims) { c.ClearRevocation(sentinel) }
	if err := op.Sign(&op.App, shut); err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n0", Config: op.Config() + "default_sentinel: " + token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	creds := filepath.Join(t.TempDir(), "sys.creds")
	userJWT, seed, err := op.System.User("auditor", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.FormatUserConfig(userJWT, []byte(seed))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(creds, text, 0o600); err != nil {
		t.Fatal(err)
	}
	r := &rig{fleet: f}
	r.listen(t, f.Server("n0").URL(), nats.UserCredentials(creds))
	push := func(change func(*jwt.AccountClaims)) time.Time {
		if err := op.Sign(&op.App, change); err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if err := r.nc.Publish("$SYS.REQ.CLAIMS.UPDATE", []byte(op.App.JWT)); err != nil {
			t.Fatal(err)
		}
		return at
	}
	var took []time.Duration
	for len(took) < *runs {
		end := r.agent(t, binary, "--server", f.Server("n0").URL(), "--creds", creds)
		for i := 0; i < openings && len(took) < *runs; i++ {
			r.forget()
			at := push(letIn)
			took = append(took, r.await(t, "DOOR_001", "n0", finding.Opened).Sub(at))
			push(shut)
			r.await(t, "DOOR_001", "n0", finding.Resolved)
		}
		end()
	}
	return took
}

// write writes docs/latency.md.
func write(t *testing.T, all []measured) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `<!-- Written by `+"`task latency`"+`; do not edit. -->

# How fast it is

From a cause to the finding in the hands of somebody who subscribes to
`+"`audit.auth.finding.>`"+`: the program as it is built, with its default flags,
and real nats-servers %s of which one audits itself over a hub. Each cause
%d times, on a machine with %d cores that servers, clients, agent and subscriber
share. "Clients" are %d others on the server.

`, strings.TrimPrefix(fleet.Linked, "v"), *runs, runtime.NumCPU(), others)
	b.WriteString("| Cause | p50 | p99 | Longest | Goal, p50 | Goal, p99 |\n|---|--:|--:|--:|--:|--:|\n")
	for i := range all {
		m := &all[i]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", m.name, ms(m.quantile(0.5)), ms(m.quantile(0.99)), ms(m.took[len(m.took)-1]), goal(m.goal50), goal(m.goal99))
	}
	b.WriteString(`
A server tells nobody that it has reloaded. Where clients stay, it tells of them
anew, and natsentry looks at once; where there are none, only the poll of every
server's VARZ sees it, once a second (` + "`--watch-interval`" + `). A restarted
server sends its statistics for the first time a quarter of a second after its
start, and is touched then. The moment of a restart is that at which the port
greets; of all others, the one before the cause.
`)
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "latency.md"), []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	}
	return fmt.Sprintf("%.0f ms", d.Seconds()*1000)
}

func goal(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return "≤ " + ms(d)
}
