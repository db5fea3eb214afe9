package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

const auditInbox = "_INBOX_AUDIT"

// mayHear is what a user that audits must be allowed to subscribe to.
func mayHear() []string { return append([]string{auditInbox + ".>"}, collect.Events()...) }

// without leaves out the requests of one endpoint.
func without(endpoint string) []string {
	return slices.DeleteFunc(collect.Requests(), func(s string) bool { return strings.HasSuffix(s, "SERVER.*."+endpoint) })
}

// limited is a closed server with a second system user who may ask no more
// than is listed.
func limited(publish []string) string {
	quoted := func(subjects []string) string { return `"` + strings.Join(subjects, `", "`) + `"` }
	return fmt.Sprintf(`
accounts {
  $SYS { users: [
    { user: %s, password: %s }
    { user: limited, password: limited-password, permissions {
      publish { allow: [ %s ] }
      subscribe { allow: [ %s ] }
    } }
  ] }
  APP { users: [ { user: app, password: app-password } ] }
}
system_account: "$SYS"
`, sysUser, sysPassword, quoted(publish), quoted(mayHear()))
}

// refusals collects the permission violations of a connection.
type refusals struct {
	mu  sync.Mutex
	all []string
}

func (r *refusals) handler() nats.Option {
	return nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, err.Error())
	})
}

func (r *refusals) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *refusals) of(subject string) bool {
	return slices.ContainsFunc(r.list(), func(s string) bool {
		return strings.Contains(s, "Permissions Violation") && strings.Contains(s, `"`+subject+`"`)
	})
}

// sweepsAs sweeps a fleet as the limited user and asserts that nothing
// was missing, that nothing was refused, and that nothing dangerous is allowed.
func sweepsAs(t *testing.T, f *fleet.Fleet, login nats.Option) {
	t.Helper()
	refused := &refusals{}
	nc := connect(t, f.Server("n1").URL(), login, nats.CustomInboxPrefix(auditInbox), refused.handler())
	before := thrice(t, nc, f.Servers()...)
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if all := refused.list(); len(all) != 0 {
		t.Errorf("a sweep needs more than it says: %v", all)
	}

	id := f.Server("n2").ID()
	dangerous := []string{
		"$SYS.REQ.SERVER." + id + ".RELOAD", "$SYS.REQ.SERVER." + id + ".KICK", "$SYS.REQ.SERVER." + id + ".LDM",
		"$SYS.REQ.SERVER." + id + ".PROFILEZ", "$SYS.REQ.SERVER." + id + ".SUBSZ", "$SYS.REQ.SERVER.PING.RELOAD",
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "$SYS.REQ.CLAIMS.PACK",
		"$SYS.REQ.ACCOUNT.APP.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.APP.CLAIMS.DELETE",
		"$SYS.ACCOUNT.APP.CLAIMS.UPDATE", "$SYS.SERVER." + id + ".SHUTDOWN", "$SYS.SERVER." + id + ".LAMEDUCK", "$SYS.SERVER." + id + ".STATSZ",
		"$JS.API.INFO", "$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.DELETE.X", "$JS.API.ACCOUNT.PURGE.APP", "$JS.API.SERVER.REMOVE", "anything",
	}
	for _, subject := range dangerous {
		if err := nc.Publish(subject, []byte("{}")); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{">", "$SYS.>", "_INBOX.>"} {
		if _, err := nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		dangerous = append(dangerous, subject)
	}
	for _, subject := range dangerous {
		eventually(t, subject+" is refused", func() bool { return refused.of(subject) })
	}
	// And so the servers are what they were.
	after := sweep(t, auditor(t, connect(t, f.Server("n1").URL(), login, nats.CustomInboxPrefix(auditInbox)), patient))
	complete(t, after, f.Servers()...)
	for _, s := range f.Servers() {
		if a, b := after.Snapshot.Server(s.ID()), before.Snapshot.Server(s.ID()); a == nil || !a.ConfigLoaded.Equal(b.ConfigLoaded) {
			t.Errorf("%s is another one now", s.Name())
		}
	}
}

func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "n1", Config: limited(collect.Requests()) + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: limited(collect.Requests()) + clustered("c", "n1")},
	)
	waitActive(t, f, f.Server("n1"), 2)
	sweepsAs(t, f, nats.UserInfo("limited", "limited-password"))
}

func TestLeastPrivilegeUnderAnOperator(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	f := start(t,
		fleet.Spec{Name: "n1", Config: op.Config() + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: op.Config() + clustered("c", "n1")},
	)
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 2, op.login(&op.System, "waiter", nil)); err != nil {
		t.Fatal(err)
	}
	sweepsAs(t, f, op.login(&op.System, "limited", func(c *jwt.UserClaims) {
		c.Pub.Allow, c.Sub.Allow = collect.Requests(), mayHear()
	}))
}

// refusedSweep sweeps for a user who cannot.
func refusedSweep(t *testing.T, nc *nats.Conn, want error) {
	t.Helper()
	began := time.Now()
	cfg := collect.Config{Timeout: 2 * time.Second}
	a := auditor(t, nc, cfg)
	state, err := a.Sweep(t.Context(), true)
	if !errors.Is(err, want) || state != nil {
		t.Errorf("got %v, want %v", err, want)
	}
	if took := time.Since(began); took > 2*cfg.Timeout {
		t.Errorf("it took %s to find out", took)
	}
	if a.State() != nil {
		t.Error("a sweep that learned nothing left a state behind")
	}
}

func TestUserOutsideTheSystemAccount(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	f := start(t,
		fleet.Spec{Name: "static", Config: closedApp},
		fleet.Spec{Name: "operator", Config: op.Config()},
		fleet.Spec{Name: "open"},
	)
	refusedSweep(t, connect(t, f.Server("static").URL(), nats.UserInfo("app", "app-password")), collect.ErrNotSystemAccount)
	refusedSweep(t, connect(t, f.Server("operator").URL(), op.login(&op.App, "app", nil)), collect.ErrNotSystemAccount)
	refusedSweep(t, connect(t, f.Server("open").URL()), collect.ErrNotSystemAccount)
}

func TestUserWhoMayNotAsk(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "nothing", Config: limited([]string{"nothing"})},
		fleet.Spec{Name: "inbox", Config: limited(collect.Requests())},
		fleet.Spec{Name: "no-statsz", Config: limited(without("STATSZ"))},
	)
	as := func(server string, opts ...nats.Option) *nats.Conn {
		opts = append(opts, nats.UserInfo("limited", "limited-password"), (&refusals{}).handler())
		return connect(t, f.Server(server).URL(), opts...)
	}
	refusedSweep(t, as("nothing", nats.CustomInboxPrefix(auditInbox)), collect.ErrNotPermitted)
	// Without STATSZ nobody knows how many servers there are.
	refusedSweep(t, as("no-statsz", nats.CustomInboxPrefix(auditInbox)), collect.ErrNotPermitted)
	// The answers would come, but not into an inbox of this name.
	refusedSweep(t, as("inbox"), collect.ErrNotPermitted)
}

func TestUserWhoMayNotAskForVARZ(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "n1", Config: limited(without("VARZ")) + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: limited(without("VARZ")) + clustered("c", "n1")},
	)
	waitActive(t, f, f.Server("n1"), 2)
	nc := connect(t, f.Server("n1").URL(), nats.UserInfo("limited", "limited-password"), nats.CustomInboxPrefix(auditInbox), (&refusals{}).handler())
	a := auditor(t, nc, collect.Config{Timeout: time.Second})
	for range 2 {
		doorsUnseen(t, f, sweep(t, a))
	}
}

// doorsUnseen asserts what must be said of servers whose VARZ did not come.
func doorsUnseen(t *testing.T, f *fleet.Fleet, state *agent.State) {
	t.Helper()
	snap := state.Snapshot
	if snap.Heard != len(f.Servers()) || len(found(state, "FLEET_005", "")) != 0 {
		t.Errorf("heard %d: they answered everything else", snap.Heard)
	}
	for _, s := range f.Servers() {
		srv := snap.Server(s.ID())
		if srv == nil || srv.State != posture.Answering {
			t.Fatalf("%s is missing", s.Name())
		}
		if len(srv.Doors) != len(posture.DoorKinds()) {
			t.Errorf("%s has %d doors", s.Name(), len(srv.Doors))
		}
		for _, d := range srv.Doors {
			if d.Access != posture.Unknown || !strings.Contains(d.Reason, "VARZ") {
				t.Errorf("%s door of %s: %s (%q)", d.Kind, s.Name(), d.Access, d.Reason)
			}
		}
		if !slices.ContainsFunc(snap.Gaps, func(g posture.Gap) bool { return g.ID == s.ID() && g.Endpoint == "VARZ" }) {
			t.Errorf("no gap for VARZ of %s: %v", s.Name(), snap.Gaps)
		}
	}
	for _, r := range state.Results {
		if r.Check.Needs.Has(posture.Varz) && (r.Outcome == check.Pass || r.Outcome == check.Fail) {
			t.Errorf("%s: %v without VARZ: %s", r.Check.ID, r.Outcome, r.Summary)
		}
	}
	if totals := state.Report().Totals.Doors; totals.Closed != 0 || totals.Off != 0 || totals.Open != 0 {
		t.Errorf("totals %+v", totals)
	}
}

// TestConnectEventsShowBearers: whoever may hear CONNECT events can log in as
// the bearer users that come, on every version. docs/permissions.md says so.
func TestConnectEventsShowBearers(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	var specs []fleet.Spec
	for _, version := range []string{"", "v2.10.29", "v2.11.17"} {
		spec := fleet.Spec{Name: "newest", Config: op.Config()}
		if version != "" {
			spec.Name, spec.Binary = strings.ReplaceAll(version, ".", "-"), binary(t, version)
		}
		specs = append(specs, spec)
	}
	f := start(t, specs...)
	for _, s := range f.Servers() {
		hearer := op.login(&op.System, "hearer", func(c *jwt.UserClaims) { c.Sub.Allow.Add(collect.Events()...) })
		events := must(connect(t, s.URL(), hearer).SubscribeSync("$SYS.ACCOUNT.*.CONNECT"))
		token, _ := op.user(&op.App, "bearer", func(c *jwt.UserClaims) { c.BearerToken = true })
		bearer := nats.UserJWT(func() (string, error) { return token, nil }, func([]byte) ([]byte, error) { return nil, nil })
		eventually(t, s.Name()+" shows the JWT of a bearer who comes", func() bool {
			connect(t, s.URL(), bearer).Close()
			m, err := events.NextMsg(time.Second)
			return err == nil && strings.Contains(string(m.Data), token)
		})
	}
}
