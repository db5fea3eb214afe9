package integration

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/integration/fleet"
)

// TestSecondReload is why docs/messages.md asks for two reloads: a server to which
// one reload brings a service's export and an account that imports it finds no
// responders, until it reloads again. Where the account was there before, it
// depends on the order in which the server goes through its accounts.
func TestSecondReload(t *testing.T) {
	t.Parallel()
	accounts := func(export, ops string) string {
		return `accounts {
  SYS { users: [ { user: sys, password: sys-password-of-the-tests } ], ` + export + ` }
  ` + ops + `
}
system_account: SYS
`
	}
	before := accounts("", "")
	after := accounts(
		`exports: [ { service: audit.auth, accounts: [ OPS ] } ]`,
		`OPS { users: [ { user: ops, password: ops-password-of-the-tests } ], imports: [ { service: { account: SYS, subject: audit.auth } } ] }`,
	)
	for _, version := range []string{"", "v2.14.5", "v2.11.17"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			spec := fleet.Spec{Name: "n1", Config: before}
			if version != "" {
				spec.Binary = binary(t, version)
			}
			s := start(t, spec).Server("n1")
			// A service that was there before, as natsentry is.
			if _, err := connectSys(t, s).Subscribe("audit.auth", func(m *nats.Msg) { _ = m.Respond(nil) }); err != nil {
				t.Fatal(err)
			}
			ask := func() error {
				nc := connect(t, s.URL(), nats.UserInfo("ops", "ops-password-of-the-tests"))
				_, err := nc.Request("audit.auth", nil, 5*time.Second)
				return err
			}
			if err := s.Reload(t.Context(), after); err != nil {
				t.Fatal(err)
			}
			if err := ask(); !errors.Is(err, nats.ErrNoResponders) {
				t.Errorf("after one reload: %v; then the steps need no second one", err)
			}
			// The same file again.
			if err := s.Reload(t.Context(), after); err != nil {
				t.Fatal(err)
			}
			if err := ask(); err != nil {
				t.Errorf("after the second reload: %v", err)
			}
		})
	}
}
