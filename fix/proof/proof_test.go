package proof

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/integration/fleet"
)

func bundle(t *testing.T, plan fix.Plan) *fix.Bundle {
	t.Helper()
	plan.Now, plan.Cost = time.Now(), bcrypt.MinCost
	b, err := fix.New(plan)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Everything that can be written is proven, alone and together, and every door
// that it closes was tried.
func TestProves(t *testing.T) {
	t.Parallel()
	plans := map[string]fix.Plan{
		"everything":                 {Modes: []fix.Mode{fix.NKey, fix.Websocket, fix.MQTT, fix.Leafnode, fix.Route, fix.Gateway}},
		"operator-and-servers":       {Modes: []fix.Mode{fix.Operator, fix.Route, fix.Gateway}},
		"tls-map-and-servers":        {Modes: []fix.Mode{fix.TLSMap, fix.Route, fix.Leafnode}},
		"all-no-auth-users":          {Modes: []fix.Mode{fix.NoAuthUser, fix.Websocket, fix.MQTT, fix.Leafnode}},
		"without-file":               {Modes: []fix.Mode{fix.Users, fix.Route}, NoConfig: true},
		"without-file-callout":       {Modes: []fix.Mode{fix.Callout}, NoConfig: true},
		"beside-accounts":            {Modes: []fix.Mode{fix.Users}, KeepAccounts: true},
		"beside-accounts-nkey":       {Modes: []fix.Mode{fix.NKey}, KeepAccounts: true},
		"beside-accounts-tls":        {Modes: []fix.Mode{fix.TLSMap}, KeepAccounts: true},
		"operator-named-system":      {Modes: []fix.Mode{fix.Operator}, SystemAccount: "SYS"},
		"named-system":               {Modes: []fix.Mode{fix.Users}, SystemAccount: "SYS"},
		"beside-accounts-and-system": {Modes: []fix.Mode{fix.Users}, SystemAccount: "SYS", KeepAccounts: true},
	}
	// What the configuration has already: users without a password, beside a
	// no_auth_user that is one of them.
	nameOnly := &fix.Original{
		NoAuthUser: "app",
		Kept:       []string{"timeout: 5", `default_permissions: { publish: "a.>" }`},
		Users:      []fix.Entry{{Name: "app", NameOnly: true, Text: "user: \"app\"\npassword: \"\"\n"}, {Name: "b c", NameOnly: true, Text: `user: "b c"`}, {Name: "other", Text: "user: other\npassword: other-password"}},
		NameOnly:   []fix.Entry{{Name: "orders", Account: "ORDERS", NameOnly: true}},
	}
	for _, m := range []fix.Mode{fix.Users, fix.NKey, fix.Callout, fix.NoAuthUser, fix.Websocket, fix.MQTT} {
		plans["name-only-"+string(m)] = fix.Plan{Modes: []fix.Mode{m}, Original: nameOnly, KeepAccounts: true}
	}
	for _, m := range fix.Modes() {
		plans[string(m)] = fix.Plan{Modes: []fix.Mode{m}}
	}
	for name, plan := range plans {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bundle(t, plan)
			r, err := Run(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			for _, row := range r.Failed() {
				t.Errorf("%+v", row)
			}
			for _, door := range b.Closes() {
				if !slices.ContainsFunc(r.Rows, func(r Row) bool { return r.Door == door && r.Stranger }) {
					t.Errorf("no stranger tried the %s port", door)
				}
				if !slices.ContainsFunc(r.Rows, func(r Row) bool { return r.Door == door && strings.Contains(r.Who, "lint") }) {
					t.Errorf("nobody has read of the %s port", door)
				}
			}
			for _, l := range b.Logins {
				if !slices.ContainsFunc(r.Rows, func(r Row) bool { return strings.HasPrefix(r.Who, l.Name+" ") && r.Access == posture.Open }) {
					t.Errorf("%s was not let in", l)
				}
			}
			if r.Version == "" {
				t.Error("of which nats-server?")
			}
		})
	}
}

// Only the doors that a server has are tried.
func TestProvesDoors(t *testing.T) {
	t.Parallel()
	b := bundle(t, fix.Plan{Modes: []fix.Mode{fix.Users}, KeepAccounts: true})
	r, err := Run(t.Context(), b, posture.Client, posture.Route)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Rows {
		if row.Door != posture.Client {
			t.Errorf("%+v", row)
		}
	}
	if _, err := Run(t.Context(), b, posture.Gateway); err == nil || !strings.Contains(err.Error(), "none of the doors") {
		t.Errorf("%v", err)
	}
}

// A configuration that closes nothing fails in every row that wants a refusal.
func TestNoticesWhatStaysOpen(t *testing.T) {
	t.Parallel()
	for _, m := range []fix.Mode{fix.Users, fix.Route, fix.Leafnode, fix.Gateway} {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			b := bundle(t, fix.Plan{Modes: []fix.Mode{m}})
			p := &prover{b: b, dir: t.TempDir(), doors: b.Closes()}
			all := p.standIns()
			var err error
			p.fleet, err = fleet.Start(t.Context(), fleet.Spec{Name: all[0].name, Config: p.config(all[0], false)})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.fleet.Close(); err != nil {
					t.Error(err)
				}
			}()
			s := all[0]
			p.strangers(t.Context(), s, p.touch(t.Context(), s))
			if m == fix.Users {
				p.logins(t.Context(), s)
			}
			for _, peer := range b.Peers {
				access, how := knock(t.Context(), p.fleet.Server(s.name).Addr(peer.Door.String()), peer.User, "wrong")
				p.out.Rows = append(p.out.Rows, Row{Door: peer.Door, Want: posture.Closed, Access: access, How: how})
			}
			for _, r := range p.out.Rows {
				if r.Want == posture.Closed && (r.Holds() || r.Access != posture.Open && !strings.Contains(r.How, "landed")) {
					t.Errorf("%+v", r)
				}
			}
			if len(p.out.Failed()) == 0 {
				t.Error("nothing failed")
			}
		})
	}
}

// What was closed before, or is not known, proves nothing.
func TestHolds(t *testing.T) {
	for _, c := range []struct {
		row  Row
		want bool
	}{
		{Row{Stranger: true, Before: posture.Open, Want: posture.Closed, Access: posture.Closed}, true},
		{Row{Stranger: true, Before: posture.Closed, Want: posture.Closed, Access: posture.Closed}, false},
		{Row{Stranger: true, Before: posture.Unknown, Want: posture.Closed, Access: posture.Closed}, false},
		{Row{Stranger: true, Before: posture.Open, Want: posture.Closed}, false},
		{Row{Stranger: true, Before: posture.Open, Want: posture.Closed, Access: posture.Open}, false},
		{Row{Want: posture.Open, Access: posture.Open}, true},
		{Row{Want: posture.Open}, false},
		{Row{Want: posture.Closed, Access: posture.Open}, false},
	} {
		if got := c.row.Holds(); got != c.want {
			t.Errorf("%+v holds: %v", c.row, got)
		}
	}
}

// It leaves nothing behind, also where the server refuses.
func TestLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	certs := &fix.Certificates{Cert: "/does/not/exist.pem", Key: "/does/not/exist.pem", CA: "/does/not/exist.pem"}
	if r, err := Run(t.Context(), bundle(t, fix.Plan{Modes: []fix.Mode{fix.TLSMap}, Certificates: certs})); err == nil {
		t.Errorf("%+v", r)
	}
	if _, err := Run(t.Context(), bundle(t, fix.Plan{Modes: []fix.Mode{fix.Route}})); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
