package fix

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/fix/callout"
)

// Service is the auth callout service of a bundle, as it is configured.
type Service struct {
	Login  Login // of the service itself
	Config callout.Config
}

const (
	serviceUser  = "callout"
	serviceDir   = "callout"
	serviceSetup = "callout.json"
)

func addCallout(b *builder) error {
	issuer, err := newKey(nkeys.CreateAccount)
	if err != nil {
		return err
	}
	xkey, err := newKey(nkeys.CreateCurveKeys)
	if err != nil {
		return err
	}
	service, login, err := b.passwordUser(Login{Name: serviceUser, Account: globalAccount, File: SecretsDir + "/" + serviceSetup})
	if err != nil {
		return err
	}
	b.Service = &Service{Login: login}
	entries := []string{service + b.original().ownPermissions()}
	auth := []string{fmt.Sprintf("%q", serviceUser)}
	password, hash, err := b.newPassword()
	if err != nil {
		return err
	}
	app := Login{Name: b.original().free(appUser), Account: globalAccount, By: ByPassword, password: password}
	app.File = b.keep(app.Name+".password", password+"\n")
	b.Logins = []Login{app}
	if names := b.names(); len(names) > 1 {
		// Known to the server itself: the way in while the service is down.
		entry, l, err := b.passwordUser(names[1])
		if err != nil {
			return err
		}
		b.Logins = append(b.Logins, l)
		entries = append(entries, entry)
		auth = append(auth, fmt.Sprintf("%q", l.Name))
	}
	for _, u := range b.original().Users {
		auth = append(auth, fmt.Sprintf("%q", u.Name)) // who logs in to the server itself goes on doing so
	}
	b.Service.Config = callout.Config{
		User: serviceUser, Password: login.password, Issuer: issuer.seed, XKey: xkey.seed, Account: globalAccount,
		Users: map[string]string{app.Name: hash},
	}
	setup, err := json.MarshalIndent(b.Service.Config, "", "  ")
	if err != nil {
		return err
	}
	b.keep(serviceSetup, string(setup)+"\n")
	more := fmt.Sprintf(`  # Everybody else is asked of the service that answers on $SYS.REQ.USER.AUTH.
  auth_callout {
    issuer: %s
    auth_users: [ %s ]
    xkey: %s
  }
`, issuer.public, strings.Join(auth, ", "), xkey.public)
	return b.putClients(Callout, more, entries)
}
