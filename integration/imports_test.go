package integration

import (
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestDeadImports holds every reason why an import brings nothing against a real
// server: no message arrives, and JWT_018 says why.
func TestDeadImports(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	exporter := must(op.Account("exporter", nil))
	rotated := must(nkeys.CreateAccount())
	grant := func(to *fleet.Account, by nkeys.KeyPair, until time.Time) string {
		claims := jwt.NewActivationClaims(to.Public)
		claims.ImportSubject, claims.ImportType = "private", jwt.Stream
		if !until.IsZero() {
			claims.Expires = until.Unix()
		}
		if by != exporter.Key {
			claims.IssuerAccount = exporter.Public
		}
		return must(claims.Encode(by))
	}
	private := &jwt.Export{Subject: "private", Type: jwt.Stream, TokenReq: true}
	cases := []struct {
		name    string
		imports func(to *fleet.Account) *jwt.Import
		cause   posture.Cause // "" where messages arrive
	}{
		{"activated", func(to *fleet.Account) *jwt.Import {
			return &jwt.Import{Subject: "private", Account: exporter.Public, Token: grant(to, exporter.Key, time.Time{})}
		}, ""},
		{"public wildcard", func(*fleet.Account) *jwt.Import { return &jwt.Import{Subject: "orders.eu", Account: exporter.Public} }, ""},
		{"absent", func(*fleet.Account) *jwt.Import { return &jwt.Import{Subject: "private", Account: exporter.Public} }, "no-activation"},
		{"revoked", func(to *fleet.Account) *jwt.Import {
			private.RevokeAt(to.Public, time.Now().Add(time.Minute))
			return &jwt.Import{Subject: "private", Account: exporter.Public, Token: grant(to, exporter.Key, time.Time{})}
		}, "activation-revoked"},
		{"expired", func(to *fleet.Account) *jwt.Import {
			return &jwt.Import{Subject: "private", Account: exporter.Public, Token: grant(to, exporter.Key, time.Now().Add(-time.Hour))}
		}, "expired"},
		{"rotated", func(to *fleet.Account) *jwt.Import {
			return &jwt.Import{Subject: "private", Account: exporter.Public, Token: grant(to, rotated, time.Time{})}
		}, "activation-signer-removed"},
		{"no such export", func(*fleet.Account) *jwt.Import { return &jwt.Import{Subject: "gone", Account: exporter.Public} }, "no-such-export"},
		{"wider than the export", func(*fleet.Account) *jwt.Import { return &jwt.Import{Subject: "orders.>", Account: exporter.Public} }, "no-such-export"},
		{"no such account", func(*fleet.Account) *jwt.Import {
			return &jwt.Import{Subject: "private", Account: must(must(nkeys.CreateAccount()).PublicKey())}
		}, "no-such-account"},
	}
	importers := make([]*fleet.Account, len(cases))
	for i, c := range cases {
		importers[i] = must(op.Account(c.name, nil))
		in := c.imports(importers[i])
		in.Name, in.Type, in.LocalSubject = c.name, jwt.Stream, jwt.RenamingSubject("tried."+string(in.Subject))
		if err := op.Sign(importers[i], func(a *jwt.AccountClaims) {
			a.Imports.Add(in, &jwt.Import{Name: "last", Subject: "last", Account: exporter.Public, Type: jwt.Stream})
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := op.Sign(exporter, func(a *jwt.AccountClaims) {
		a.Exports.Add(private, &jwt.Export{Subject: "orders.*", Type: jwt.Stream}, &jwt.Export{Subject: "last", Type: jwt.Stream})
	}); err != nil {
		t.Fatal(err)
	}
	s := start(t, fleet.Spec{Name: "n1", Config: op.Config(append(importers, exporter)...)}).Server("n1")
	subs := make([]*nats.Subscription, len(cases))
	for i := range cases {
		nc := connect(t, s.URL(), must(importers[i].Login("importer")))
		subs[i] = must(nc.SubscribeSync(">"))
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	from := connect(t, s.URL(), must(exporter.Login("exporter")))
	for _, subject := range []string{"private", "orders.eu", "gone", "last"} {
		if err := from.Publish(subject, nil); err != nil {
			t.Fatal(err)
		}
	}
	state := sweep(t, auditor(t, connect(t, s.URL(), auditorOf(&op.System)), collect.Config{Timeout: 20 * time.Second}))
	for i, c := range cases {
		// What is published last comes last: nothing before it came at all.
		m, err := subs[i].NextMsg(20 * time.Second)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if arrived := m.Subject != "last"; arrived != (c.cause == "") {
			t.Errorf("%s: the first message is %s", c.name, m.Subject)
		}
		r := said(state, "JWT_018", importers[i].Public)
		if want := map[bool]check.Outcome{true: check.Pass, false: check.Fail}[c.cause == ""]; r.Outcome != want || r.Cause != c.cause {
			t.Errorf("%s: JWT_018 is %s (%s): %s", c.name, r.Outcome, r.Cause, r.Summary)
		}
	}
}
