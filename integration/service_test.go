package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// natsCLI is the release of the `nats` command that users have.
const natsCLI = "v0.5.1"

const inbox = "_INBOX_AUDIT"

// leastPrivilegeConfig is a configuration of the system account with the admin of
// the tests and the least that natsentry needs.
func leastPrivilegeConfig() string {
	publish, subscribe := service.Permissions(service.DefaultPrefix)
	quote := func(subjects []string) string { return `"` + strings.Join(subjects, `", "`) + `"` }
	return fmt.Sprintf(`accounts {
  $SYS { users: [
    { user: %s, password: %s }
    { user: natsentry, password: natsentry, permissions: {
      publish: { allow: [ %s ] }
      subscribe: { allow: [ %s ] }
      allow_responses: { max: 1, expires: "1m" }
    } }
  ] }
  APP { users: [ { user: app, password: app } ] }
}
`, sysUser, sysPassword, quote(append(publish, collect.Requests()...)), quote(append(append(subscribe, collect.Events()...), inbox+".>")))
}

// serve runs an agent and its service for the length of a test.
func serve(t *testing.T, nc *nats.Conn, interval time.Duration) *service.Service {
	t.Helper()
	svc, err := service.New(nc, service.Config{System: "test", Version: "1.2.3", Interval: interval})
	if err != nil {
		t.Fatal(err)
	}
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	a, err := agent.New(nc, agent.Config{System: "test", Interval: interval, Policy: policy, Probe: agent.Probe{Off: true}}, agent.WithSink(svc))
	if err != nil {
		t.Fatal(err)
	}
	svc.Attach(a)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		if err := svc.Stop(); err != nil {
			t.Error(err)
		}
	})
	return svc
}

// ask sends a request to an endpoint until the service has started.
func ask(t *testing.T, nc *nats.Conn, subject, payload string) *nats.Msg {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		m, err := nc.Request(subject, []byte(payload), 5*time.Second)
		if errors.Is(err, nats.ErrNoResponders) && time.Now().Before(deadline) {
			continue // word of the service has not reached this server yet
		}
		if err != nil {
			t.Fatalf("%s: %v", subject, err)
		}
		if m.Header.Get(micro.ErrorCodeHeader) != "503" || time.Now().After(deadline) {
			return m
		}
	}
}

func decodeInto[T any](t *testing.T, m *nats.Msg) T {
	t.Helper()
	var v T
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		t.Fatalf("error %s: %s", code, m.Header.Get(micro.ErrorHeader))
	}
	dec := json.NewDecoder(bytes.NewReader(m.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %.300s", err, m.Data)
	}
	return v
}

// conforms holds a message against its published schema.
func conforms(t *testing.T, file string, data []byte) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "schema", file))
	if err != nil {
		t.Fatal(err)
	}
	var schema jsonschema.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	resolved, err := schema.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(value); err != nil {
		t.Errorf("against %s: %v\n%.500s", file, err, data)
	}
}

func TestMessagesConformToTheirSchemas(t *testing.T) {
	f := start(t, clusters(1, 2, sysAccount)...)
	waitActive(t, f, f.Servers()[0], 2)
	nc := connectSys(t, f.Servers()[1])
	messages := make(chan *nats.Msg, 1000)
	if _, err := nc.ChanSubscribe("audit.auth.>", messages); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	connect(t, f.Servers()[0].URL(), nats.Name("stranger"))
	serve(t, connectSys(t, f.Servers()[0]), time.Hour)
	conforms(t, "epoch.json", await(t, messages, "audit.auth.epoch").Data)
	for file, subject := range map[string]string{
		"report-page.json": "audit.auth", "servers.json": "audit.auth.servers", "findings.json": "audit.auth.findings",
		"sessions.json": "audit.auth.sessions", "checks.json": "audit.auth.checks",
	} {
		conforms(t, file, ask(t, nc, subject, "").Data)
	}
	report := decodeInto[service.Report](t, ask(t, nc, "audit.auth.scan", ""))
	if report.Totals.Findings.Critical == 0 {
		t.Error("the stranger was not found: nothing interesting was checked")
	}
	for i := range report.Findings {
		data, err := json.Marshal(report.Findings[i])
		if err != nil {
			t.Fatal(err)
		}
		conforms(t, "finding.json", data)
	}
	whole, err := json.Marshal(report.Report)
	if err != nil {
		t.Fatal(err)
	}
	conforms(t, "report.json", whole)
}

// threeServers is a cluster behind the least-privilege user. The last of them
// can be opened by reload.
func threeServers(t *testing.T) *fleet.Fleet {
	t.Helper()
	f := start(t, clusters(1, 3, leastPrivilegeConfig())...)
	waitActive(t, f, f.Servers()[0], 3)
	return f
}

func connectLeast(t *testing.T, s *fleet.Server) *nats.Conn {
	t.Helper()
	return connect(t, s.URL(), nats.UserInfo("natsentry", "natsentry"), nats.CustomInboxPrefix(inbox),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { t.Errorf("the least-privilege user: %v", err) }))
}

func TestServiceEndpoints(t *testing.T) {
	f := threeServers(t)
	serve(t, connectLeast(t, f.Servers()[0]), time.Hour)
	nc := connectSys(t, f.Servers()[1])

	report := decodeInto[service.Report](t, ask(t, nc, "audit.auth", ""))
	if report.Type != finding.ReportType || report.System != "test" || len(report.Servers) != 3 || report.Coverage.Heard != 3 || len(report.Coverage.Gaps) != 0 {
		t.Errorf("report: %+v", report)
	}
	servers := decodeInto[service.Servers](t, ask(t, nc, "audit.auth.servers", `{"limit":2}`))
	if len(servers.Servers) != 2 || servers.Total != 3 || servers.NextOffset == nil || *servers.NextOffset != 2 {
		t.Errorf("first page: %d of %d, next %v", len(servers.Servers), servers.Total, servers.NextOffset)
	}
	servers = decodeInto[service.Servers](t, ask(t, nc, "audit.auth.servers", `{"limit":2,"offset":2}`))
	if len(servers.Servers) != 1 || servers.NextOffset != nil {
		t.Errorf("last page: %d, next %v", len(servers.Servers), servers.NextOffset)
	}
	for _, by := range []string{f.Servers()[2].Name(), f.Servers()[2].ID()} {
		servers = decodeInto[service.Servers](t, ask(t, nc, "audit.auth.servers", fmt.Sprintf(`{"server":%q,"cluster":"c0"}`, by)))
		if len(servers.Servers) != 1 || servers.Servers[0].ID != f.Servers()[2].ID() {
			t.Errorf("server %s: %+v", by, servers.Servers)
		}
	}
	findings := decodeInto[service.Findings](t, ask(t, nc, "audit.auth.findings", `{"check":"DOOR_009"}`))
	if findings.Total != report.Totals.Findings.Info || findings.Total == 0 {
		t.Errorf("%d findings of DOOR_009, the report has %d info", findings.Total, report.Totals.Findings.Info)
	}
	if got := decodeInto[service.Findings](t, ask(t, nc, "audit.auth.findings", `{"severity":"warning"}`)); got.Total != 0 {
		t.Errorf("%d findings at warning or worse: %+v", got.Total, got.Findings)
	}
	checks := decodeInto[service.Checks](t, ask(t, nc, "audit.auth.checks", ""))
	if checks.Total != len(check.Catalogue()) {
		t.Errorf("%d checks", checks.Total)
	}
	if got := decodeInto[service.Checks](t, ask(t, nc, "audit.auth.checks", `{"check":"SERVER_007"}`)); len(got.Checks) != 1 || got.Checks[0].ID != "DOOR_001" {
		t.Errorf("by alias: %+v", got.Checks)
	}
	if got := decodeInto[service.Sessions](t, ask(t, nc, "audit.auth.sessions", `{"anonymous":true}`)); got.Total != 0 {
		t.Errorf("anonymous sessions: %+v", got.Sessions)
	}
	before := report.Epoch
	if after := decodeInto[service.Report](t, ask(t, nc, "audit.auth.scan", "")); after.Epoch <= before {
		t.Errorf("scan: epoch %d after %d", after.Epoch, before)
	}
}

func TestServiceRefusesWhatItDoesNotUnderstand(t *testing.T) {
	f := threeServers(t)
	serve(t, connectLeast(t, f.Servers()[0]), time.Hour)
	nc := connectSys(t, f.Servers()[1])
	ask(t, nc, "audit.auth", "")
	for _, c := range []struct{ subject, payload, code, says string }{
		{"audit.auth", "not json", "400", "JSON object"},
		{"audit.auth", "[]", "400", "JSON object"},
		{"audit.auth", `{"limit":1} trailing`, "400", "JSON object"},
		{"audit.auth", `{"colour":"red"}`, "400", "unknown field"},
		{"audit.auth", `{"Limit":1}`, "400", "unknown field"},
		{"audit.auth", `{"limit":0}`, "400", "1 to 1000"},
		{"audit.auth", `{"limit":1001}`, "400", "1 to 1000"},
		{"audit.auth", `{"limit":"ten"}`, "400", "limit"},
		{"audit.auth", `{"offset":-1}`, "400", "0 or more"},
		{"audit.auth", `{"severity":"awful"}`, "400", "critical"},
		{"audit.auth", `{"severity":"none"}`, "400", "critical"},
		{"audit.auth", `{"server":"nobody"}`, "404", "no server"},
		{"audit.auth", `{"cluster":"nowhere"}`, "404", "no cluster"},
		{"audit.auth", `{"check":"DOOR_999"}`, "404", "no check"},
		{"audit.auth.servers", `{"severity":"info"}`, "400", "unknown field"},
		{"audit.auth.checks", `{"server":"x"}`, "400", "unknown field"},
		{"audit.auth.scan", `{"x":1}`, "400", "unknown field"},
		{"audit.auth", strings.Repeat("x", 100_000), "400", "JSON object"},
	} {
		m := ask(t, nc, c.subject, c.payload)
		if m.Header.Get(micro.ErrorCodeHeader) != c.code || !strings.Contains(m.Header.Get(micro.ErrorHeader), c.says) {
			t.Errorf("%s %.40s: %s %q, want %s and %q", c.subject, c.payload, m.Header.Get(micro.ErrorCodeHeader), m.Header.Get(micro.ErrorHeader), c.code, c.says)
		}
	}
}

func TestServiceSaysThatItStarts(t *testing.T) {
	f := start(t, fleet.Spec{Name: "n1", Config: sysAccount})
	nc := connectSys(t, f.Server("n1"))
	svc, err := service.New(nc, service.Config{System: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := svc.Stop(); err != nil {
			t.Error(err)
		}
	}()
	for _, subject := range []string{"audit.auth", "audit.auth.scan", "audit.auth.findings"} {
		m, err := nc.Request(subject, nil, 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get(micro.ErrorCodeHeader) != "503" || !strings.Contains(m.Header.Get(micro.ErrorHeader), "starting") {
			t.Errorf("%s: %v", subject, m.Header)
		}
	}
}

// TestRepliesFitTheConnection: a page shrinks until max_payload carries it,
// and its next_offset leads through everything.
func TestRepliesFitTheConnection(t *testing.T) {
	const maxPayload = 8 << 10
	f := start(t, clusters(3, 3, fmt.Sprintf("max_payload: %d\n", maxPayload)+sysAccount)...)
	waitActive(t, f, f.Servers()[0], 9)
	serve(t, connectSys(t, f.Servers()[0]), time.Hour)
	nc := connectSys(t, f.Servers()[1])
	total := decodeInto[service.Findings](t, ask(t, nc, "audit.auth.findings", `{"limit":1}`)).Total
	if total < 20 {
		t.Fatalf("only %d findings: the test needs more", total)
	}
	seen, pages := map[string]bool{}, 0
	for offset := 0; ; pages++ {
		m := ask(t, nc, "audit.auth.findings", fmt.Sprintf(`{"limit":1000,"offset":%d}`, offset))
		if len(m.Data) > maxPayload {
			t.Fatalf("a reply of %d bytes", len(m.Data))
		}
		page := decodeInto[service.Findings](t, m)
		for _, f := range page.Findings {
			seen[f.Fingerprint] = true
		}
		if page.NextOffset == nil {
			break
		}
		offset = *page.NextOffset
	}
	if len(seen) != total || pages < 3 {
		t.Errorf("%d findings in %d pages, want %d in several", len(seen), pages, total)
	}
	if r := decodeInto[service.Report](t, ask(t, nc, "audit.auth", "")); r.NextOffset == nil || r.Coverage.Heard != 9 || r.Totals.Findings.Info == 0 {
		t.Errorf("a page of the report must keep the totals of the whole: %+v", r.Totals)
	}
}

// TestScansShareASweep: requests that arrive together are answered by few
// sweeps.
func TestScansShareASweep(t *testing.T) {
	f := threeServers(t)
	serve(t, connectLeast(t, f.Servers()[0]), time.Hour)
	nc := connectSys(t, f.Servers()[1])
	first := decodeInto[service.Report](t, ask(t, nc, "audit.auth", "")).Epoch
	const scans = 50
	replies := make(chan *nats.Msg, scans)
	in := nc.NewInbox()
	if _, err := nc.ChanSubscribe(in+".*", replies); err != nil {
		t.Fatal(err)
	}
	for i := range scans {
		if err := nc.PublishRequest("audit.auth.scan", fmt.Sprintf("%s.%d", in, i), []byte(`{"limit":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	last := first
	for range scans {
		select {
		case m := <-replies:
			last = max(last, decodeInto[service.Report](t, m).Epoch)
		case <-time.After(10 * time.Second):
			t.Fatal("a scan was not answered")
		}
	}
	if sweeps := last - first; sweeps == 0 || sweeps > scans/2 {
		t.Errorf("%d scans took %d sweeps", scans, sweeps)
	}
}

// TestFindingsArePublished opens a server by reload and closes it again.
func TestFindingsArePublished(t *testing.T) {
	f := threeServers(t)
	nc := connectSys(t, f.Servers()[1])
	messages := make(chan *nats.Msg, 1000)
	for _, s := range []string{"audit.auth.finding.>", "audit.auth.epoch"} {
		if _, err := nc.ChanSubscribe(s, messages); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	serve(t, connectLeast(t, f.Servers()[0]), 100*time.Millisecond)
	victim := f.Servers()[2]
	await(t, messages, "audit.auth.epoch")

	whole := clusters(1, 3, leastPrivilegeConfig())[2].Config
	if err := victim.Reload(t.Context(), strings.Replace(whole, leastPrivilegeConfig(), "", 1)); err != nil {
		t.Fatal(err)
	}
	m := await(t, messages, "audit.auth.finding.opened.critical.DOOR_001.c0."+victim.Name())
	fd := decodeInto[finding.Finding](t, m)
	if fd.Cause != posture.CauseNoAuthBlock || fd.Scope.Server != victim.Name() || m.Header.Get(nats.MsgIdHdr) != fd.ID || fd.Action != finding.Opened {
		t.Errorf("got %+v with headers %v", fd, m.Header)
	}
	await(t, messages, "audit.auth.finding.opened.critical.FLEET_001.c0._")
	await(t, messages, "audit.auth.finding.opened.info.FLEET_006.c0."+victim.Name())

	if err := victim.Reload(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	// Closed on the server's word only: that is no proof, so the finding is
	// stale and not resolved.
	// The cluster is one again, whichever comes first.
	ends := map[string]bool{"audit.auth.finding.stale.critical.DOOR_001.c0." + victim.Name(): true, "audit.auth.finding.resolved.critical.FLEET_001.c0._": true}
	for timeout := time.After(time.Minute); len(ends) > 0; {
		select {
		case m := <-messages:
			delete(ends, m.Subject)
		case <-timeout:
			t.Fatalf("no message on %v", ends)
		}
	}
}

// await reads messages until one of that subject comes.
func await(t *testing.T, messages <-chan *nats.Msg, subject string) *nats.Msg {
	t.Helper()
	var seen []string
	for timeout := time.After(15 * time.Second); ; {
		select {
		case m := <-messages:
			if m.Subject == subject {
				return m
			}
			if m.Subject != "audit.auth.epoch" {
				seen = append(seen, m.Subject)
			}
		case <-timeout:
			t.Fatalf("no message on %s; seen: %v", subject, seen)
		}
	}
}

// TestRealCLI drives the service with the `nats` command that users have.
func TestRealCLI(t *testing.T) {
	nats, err := fleet.Install(t.Context(), "github.com/nats-io/natscli/nats", "nats", natsCLI)
	if err != nil {
		t.Fatal(err)
	}
	f := threeServers(t)
	serve(t, connectLeast(t, f.Servers()[0]), 200*time.Millisecond)
	victim := f.Servers()[2]
	cli := func(ctx context.Context, args ...string) *exec.Cmd {
		login := []string{"--no-context", "--server", f.Servers()[1].URL(), "--user", sysUser, "--password", sysPassword}
		cmd := exec.CommandContext(ctx, nats, append(login, args...)...)
		cmd.Env = append(cmd.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME="+t.TempDir())
		return cmd
	}
	output := func(args ...string) string {
		t.Helper()
		out, err := cli(t.Context(), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("nats %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	ask(t, connectSys(t, victim), "audit.auth", "")

	var report finding.Report
	if err := json.Unmarshal([]byte(output("req", "--raw", "audit.auth", "")), &report); err != nil || len(report.Servers) != 3 {
		t.Errorf("nats req audit.auth '': %v, %d servers", err, len(report.Servers))
	}
	info := output("micro", "info", "natsentry")
	for _, want := range []string{"Audits who can walk into", "1.2.3", "system", "test", "interval", "audit.auth.scan", "natsentry.v1.report", "docs/schema/report-page.json"} {
		if !strings.Contains(info, want) {
			t.Errorf("nats micro info natsentry does not show %q:\n%s", want, info)
		}
	}
	if stats := output("micro", "stats", "natsentry"); !strings.Contains(stats, "audit") {
		t.Errorf("nats micro stats natsentry:\n%s", stats)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	sub := cli(ctx, "sub", "--raw", "--count", "1", "audit.auth.finding.opened.critical.DOOR_001.>")
	var out, diag bytes.Buffer
	sub.Stdout, sub.Stderr = &out, &diag
	if err := sub.Start(); err != nil {
		t.Fatal(err)
	}
	awaitInterest(t, f.Servers()[1], "audit.auth.finding.opened.critical.DOOR_001.>")
	whole := clusters(1, 3, leastPrivilegeConfig())[2].Config
	if err := victim.Reload(t.Context(), strings.Replace(whole, leastPrivilegeConfig(), "", 1)); err != nil {
		t.Fatal(err)
	}
	if err := sub.Wait(); err != nil {
		t.Fatalf("nats sub: %v\n%s", errors.Join(err, ctx.Err()), diag.String())
	}
	var fd finding.Finding
	if err := json.Unmarshal(out.Bytes(), &fd); err != nil || fd.Scope.Server != victim.Name() {
		t.Errorf("nats sub showed %v: %s", err, out.String())
	}
}

// awaitInterest waits until somebody subscribes to a subject at a server.
func awaitInterest(t *testing.T, s *fleet.Server, subject string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		sys, err := s.Embedded().LookupAccount("$SYS")
		if err != nil {
			t.Fatal(err)
		}
		if sys.SubscriptionInterest(subject) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody subscribed to %s", subject)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
