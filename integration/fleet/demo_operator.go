package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// DemoCreds is the file of the system account's user, beside the configuration
// of the server "safe" of the operator demonstration.
const DemoCreds = "auditor.creds"

// OperatorDemo is the demonstration of operator mode: a cluster of three
// embedded servers with FULL resolvers, and a chain of trust with a weakness in
// each of its links. Accounts are named for what is wrong with them.
type OperatorDemo struct {
	op      *Operator
	others  []*Account
	creds   string
	login   nats.Option
	callout *Account // its service is a user of its own
	service [2]string
	split   *Account
	foreign *Account
	bearer  string
}

// Times of the claims of the operator demonstration.
const (
	demoDay    = 24 * time.Hour
	demoMonths = 90 * demoDay
)

// NewOperatorDemo makes the operator, its accounts and their users.
func NewOperatorDemo() (*OperatorDemo, error) {
	op, err := NewOperator()
	if err != nil {
		return nil, err
	}
	d := &OperatorDemo{op: op}
	for _, make := range []func() error{d.operator, d.accounts, d.users} {
		if err := make(); err != nil {
			return nil, fmt.Errorf("make the chain of trust: %w", err)
		}
	}
	return d, nil
}

// operator: it does not insist on signing keys, ends soon, and names a URL
// without TLS.
func (d *OperatorDemo) operator() error {
	if _, err := d.op.RotateSigningKey(); err != nil {
		return err
	}
	return d.op.Change(func(c *jwt.OperatorClaims) {
		c.Name, c.Expires = "ACME", time.Now().Add(20*demoDay).Unix()
		c.OperatorServiceURLs.Add("nats://connect.acme.example:4222")
	})
}

// sound makes an account of which nothing is wrong, but for the change.
func (d *OperatorDemo) sound(a *Account, change func(*jwt.AccountClaims)) error {
	if _, err := a.SigningKey(); err != nil {
		return err
	}
	return d.op.Sign(a, func(c *jwt.AccountClaims) {
		c.Limits.DisallowBearer, c.Limits.Conn, c.Limits.Subs = true, 1000, 10_000
		c.DefaultPermissions.Pub.Allow, c.DefaultPermissions.Sub.Allow = jwt.StringList{"app.>"}, jwt.StringList{"app.>", "_INBOX.>"}
		if change != nil {
			change(c)
		}
	})
}

func (d *OperatorDemo) add(name string, change func(*jwt.AccountClaims)) (*Account, error) {
	a, err := d.op.Account(name, nil)
	if err != nil {
		return nil, err
	}
	d.others = append(d.others, a)
	return a, d.sound(a, change)
}

func (d *OperatorDemo) accounts() (err error) {
	for _, a := range []*Account{&d.op.System, &d.op.App} {
		if err := d.sound(a, nil); err != nil {
			return err
		}
	}
	exporter, err := d.add("orders-for-all", func(c *jwt.AccountClaims) {
		c.Exports.Add(&jwt.Export{Subject: "orders.>", Type: jwt.Stream}, &jwt.Export{Subject: "prices", Type: jwt.Stream, TokenReq: true})
	})
	if err != nil {
		return err
	}
	if _, err := d.add("ends-soon", func(c *jwt.AccountClaims) { c.Expires = time.Now().Add(12 * demoDay).Unix() }); err != nil {
		return err
	}
	bearers, err := d.add("bearers", func(c *jwt.AccountClaims) { c.Limits.DisallowBearer = false })
	if err != nil {
		return err
	}
	if err := d.identityOnly(); err != nil {
		return err
	}
	if err := d.staleImport(exporter); err != nil {
		return err
	}
	if d.split, err = d.add("on-one-server", nil); err != nil {
		return err
	}
	if err := d.authCallout(); err != nil {
		return err
	}
	if d.bearer, _, err = bearers.User("sentinel", func(c *jwt.UserClaims) {
		c.BearerToken, c.Expires = true, time.Now().Add(demoMonths).Unix()
		c.Pub.Allow, c.Sub.Allow = jwt.StringList{"$SYS.REQ.USER.INFO"}, jwt.StringList{"_INBOX.>"}
	}); err != nil {
		return err
	}
	other, err := NewOperator()
	if err != nil {
		return err
	}
	d.foreign, err = other.Account("foreign", nil)
	return err
}

// identityOnly is an account whose identity key signs users.
func (d *OperatorDemo) identityOnly() error {
	a, err := d.add("identity-key", nil)
	if err != nil {
		return err
	}
	a.signing = nil
	return d.op.Sign(a, func(c *jwt.AccountClaims) { c.SigningKeys = nil })
}

// staleImport is an account that imports by an activation that has ended.
func (d *OperatorDemo) staleImport(from *Account) error {
	a, err := d.add("stale-import", nil)
	if err != nil {
		return err
	}
	activation := jwt.NewActivationClaims(a.Public)
	activation.ImportSubject, activation.ImportType, activation.Expires = "prices", jwt.Stream, time.Now().Add(-demoDay).Unix()
	token, err := activation.Encode(from.Key)
	if err != nil {
		return err
	}
	return d.op.Sign(a, func(c *jwt.AccountClaims) {
		c.Imports.Add(&jwt.Import{Name: "prices", Subject: "prices", Account: from.Public, Token: token, Type: jwt.Stream})
	})
}

// authCallout is an account whose users are authorized by a service, over
// requests that everybody in it can read.
func (d *OperatorDemo) authCallout() error {
	key, err := nkeys.CreateUser()
	if err != nil {
		return err
	}
	public, err := key.PublicKey()
	if err != nil {
		return err
	}
	seed, err := key.Seed()
	if err != nil {
		return err
	}
	if d.callout, err = d.add("callout-in-clear", func(c *jwt.AccountClaims) { c.Authorization.AuthUsers.Add(public) }); err != nil {
		return err
	}
	claims := jwt.NewUserClaims(public)
	claims.Name, claims.IssuerAccount, claims.Expires = "auth-service", d.callout.Public, time.Now().Add(demoMonths).Unix()
	claims.Pub.Allow, claims.Sub.Allow = jwt.StringList{"_INBOX.>", "_R_.>"}, jwt.StringList{"$SYS.REQ.USER.AUTH"}
	token, err := claims.Encode(d.callout.signing)
	d.service = [2]string{token, string(seed)}
	return err
}

// users makes the one user of the system account.
func (d *OperatorDemo) users() error {
	token, seed, err := d.op.System.User("auditor", func(c *jwt.UserClaims) {
		c.Expires = time.Now().Add(demoMonths).Unix()
		c.Pub.Allow = jwt.StringList{"$SYS.REQ.>", "audit.>", "_INBOX.>", "_INBOX_AUDIT.>", "$SRV.>"}
		c.Sub.Allow = jwt.StringList{"$SYS.>", "audit.>", "_INBOX.>", "_INBOX_AUDIT.>", "$SRV.>"}
		c.Resp = &jwt.ResponsePermission{MaxMsgs: 1000, Expires: time.Minute}
	})
	if err != nil {
		return err
	}
	creds, err := jwt.FormatUserConfig(token, []byte(seed))
	d.creds, d.login = string(creds), nats.UserJWTAndSeed(token, seed)
	return err
}

// Login is the user of the system account.
func (d *OperatorDemo) Login() nats.Option { return d.login }

// Specs are the servers of the demonstration: "safe", "other", and "sentinel",
// which lets strangers in by its default_sentinel.
func (d *OperatorDemo) Specs() []Spec {
	names := []string{"safe", "other", "sentinel"}
	specs := make([]Spec, len(names))
	for i, name := range names {
		var routes []string
		for _, peer := range names {
			if peer != name {
				routes = append(routes, fmt.Sprintf(`"nats-route://route:demo-route@{{addr %q "route"}}"`, peer))
			}
		}
		// What the stores do not have in common stays so for the demonstration.
		config := strings.Replace(d.op.Config(d.others...), "allow_delete: true", `allow_delete: true, interval: "24h"`, 1)
		if name == "sentinel" {
			config += "\n# A bearer for whoever brings no credentials.\ndefault_sentinel: " + d.bearer + "\n"
		}
		specs[i] = Spec{Name: name, Files: map[string]string{DemoCreds: d.creds}, Config: config + fmt.Sprintf(`
cluster {
  name: east
  listen: "{{addr "route"}}"
  authorization { user: route, password: demo-route, timeout: 5 }
  routes: [ %s ]
}
`, strings.Join(routes, ", "))}
	}
	return specs
}

// CredsFile is the path of the system user's credentials.
func (d *OperatorDemo) CredsFile(f *Fleet) string { return f.Server("safe").path(DemoCreds) }

// Plant does what no configuration can: it pushes an account that another
// operator has signed, gives one server a newer JWT of an account than the
// others have, and connects the service that authorizes users. It stays until
// the returned function closes it.
func (d *OperatorDemo) Plant(ctx context.Context, f *Fleet) (func(), error) {
	ctx, cancel := limit(ctx)
	defer cancel()
	if err := d.pushForeign(ctx, f); err != nil {
		return nil, fmt.Errorf("push the foreign account: %w", err)
	}
	if err := d.splitAccount(ctx, f); err != nil {
		return nil, fmt.Errorf("push an account to one server: %w", err)
	}
	nc, err := nats.Connect(f.Server("safe").URL(), nats.UserJWTAndSeed(d.service[0], d.service[1]), nats.Name("auth-service"), nats.MaxReconnects(-1), nats.IgnoreDiscoveredServers())
	if err != nil {
		return nil, err
	}
	if _, err := nc.Subscribe("$SYS.REQ.USER.AUTH", func(*nats.Msg) {}); err != nil {
		nc.Close()
		return nil, err
	}
	return nc.Close, nil
}

func (d *OperatorDemo) pushForeign(ctx context.Context, f *Fleet) error {
	nc, err := nats.Connect(f.Server("safe").URL(), d.login, nats.Name("demo"))
	if err != nil {
		return err
	}
	defer nc.Close()
	m, err := nc.RequestWithContext(ctx, "$SYS.REQ.CLAIMS.UPDATE", []byte(d.foreign.JWT))
	if err != nil {
		return err
	}
	if !strings.Contains(string(m.Data), `"code":200`) {
		return errors.New("it was refused")
	}
	return nil
}

// splitAccount has every server load an account, and then one of them store
// another JWT of it.
func (d *OperatorDemo) splitAccount(ctx context.Context, f *Fleet) error {
	for _, s := range f.Servers() {
		srv := s.Embedded()
		if srv == nil {
			return errNotRunning
		}
		if _, err := srv.LookupAccount(d.split.Public); err != nil {
			return err
		}
	}
	if err := d.op.Sign(d.split, func(c *jwt.AccountClaims) { c.Limits.Conn = 2000 }); err != nil {
		return err
	}
	store, ok := f.Server("other").Embedded().AccountResolver().(*server.DirAccResolver)
	if !ok {
		return errors.New("the server has no FULL resolver")
	}
	// A store keeps what it has against a JWT of the same second.
	for {
		if err := d.op.Sign(d.split, nil); err != nil {
			return err
		}
		if err := store.Store(d.split.Public, d.split.JWT); err != nil {
			return err
		}
		if stored, err := store.LoadAcc(d.split.Public); err == nil && stored == d.split.JWT {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
