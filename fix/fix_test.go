package fix

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/jwt/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// noCure are the causes of open doors that no included configuration closes,
// and why.
var noCure = map[posture.Cause]string{
	posture.CauseOperatorAdmits:    "a sentinel or a callout: which of them is not known",
	posture.CauseCalloutAdmits:     "the service must be mended",
	posture.CauseCalloutAlone:      "an included block would replace that of the callout",
	posture.CauseSentinel:          "a line has to go",
	posture.CauseAnonymousAdmitted: "a hidden user or a callout: which of them is not known",
	posture.CauseAnonymousSeen:     "how it came in is not known",
	posture.CauseNoTrustedKey:      "the operator JWTs must be replaced",
}

// Every cause for which a check has a remedy has a cure, or a reason why not.
func TestForCauses(t *testing.T) {
	for _, id := range []string{"DOOR_001", "DOOR_002", "DOOR_003", "DOOR_004", "DOOR_005", "DOOR_006"} {
		c := check.Lookup(id)
		for cause := range c.Remedies {
			cure := For(id, cause)
			if why := noCure[cause]; (why == "") != (len(cure.Modes) > 0) {
				t.Errorf("%s %s: modes %v, and the reason for none is %q", id, cause, cure.Modes, why)
			}
			for _, m := range cure.Modes {
				if !slices.ContainsFunc(c.Doors, func(d posture.DoorKind) bool { return slices.Contains(kindOf(m).doors, d) }) && m != Users {
					t.Errorf("%s %s: %s closes none of its doors", id, cause, m)
				}
			}
		}
	}
}

// A cure says to reload where the remedy of the check says so, and to restart
// where that does.
func TestCuresAndRemediesAgree(t *testing.T) {
	for _, id := range []string{"DOOR_001", "DOOR_002", "DOOR_003", "DOOR_004", "DOOR_005", "DOOR_006"} {
		c := check.Lookup(id)
		causes := map[posture.Cause]bool{}
		for cause := range c.Remedies {
			causes[cause] = true
		}
		if len(causes) == 0 {
			causes[""] = true
		}
		for cause := range causes {
			cure := For(id, cause)
			if len(cure.Modes) == 0 {
				continue
			}
			b, err := New(Plan{Modes: cure.Modes, NoConfig: cure.NoConfig, KeepAccounts: cure.KeepAccounts, Now: time.Now(), Cost: bcrypt.MinCost})
			if err != nil {
				t.Fatal(err)
			}
			if remedy := c.RemedyFor(cause); remedy.Reload != b.Reload() {
				t.Errorf("%s %s: the remedy says reload %v, the bundle %v", id, cause, remedy.Reload, b.Reload())
			}
		}
	}
}

func TestJoin(t *testing.T) {
	for name, c := range map[string]struct {
		asked []Mode
		cures []Cure
		want  Cure
	}{
		"of several":         {nil, []Cure{For("DOOR_001", posture.CauseNoAuthBlock), For("DOOR_005", posture.CauseNoRouteAuth)}, Cure{Modes: []Mode{Users, Route}}},
		"the same twice":     {nil, []Cure{{Modes: []Mode{Users}}, {Modes: []Mode{Users, Leafnode}}}, Cure{Modes: []Mode{Users, Leafnode}}},
		"one for clients":    {nil, []Cure{{Modes: []Mode{TLSMap}}, {Modes: []Mode{Users}}}, Cure{Modes: []Mode{TLSMap}}},
		"another was asked":  {[]Mode{NKey}, []Cure{{Modes: []Mode{Users, Leafnode}, KeepAccounts: true}}, Cure{Modes: []Mode{Leafnode, NKey}, KeepAccounts: true}},
		"one more was asked": {[]Mode{Gateway}, []Cure{{Modes: []Mode{Users}, NoConfig: true}}, Cure{Modes: []Mode{Users, Gateway}, NoConfig: true}},
		"operator":           {[]Mode{Operator}, []Cure{{Modes: []Mode{Users, Leafnode}}}, Cure{Modes: []Mode{Operator}}},
		"nothing":            {nil, nil, Cure{}},
	} {
		if diff := cmp.Diff(c.want, Join(c.asked, c.cures...)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for want, plan := range map[string]Plan{
		"nothing to close":                  {},
		`"locks" is no mode`:                {Modes: []Mode{"locks"}},
		"two ways to close the same port":   {Modes: []Mode{Users, NKey}},
		"takes no accounts":                 {Modes: []Mode{Operator}, KeepAccounts: true},
		"leafnodes log in with credentials": {Modes: []Mode{Operator, Leafnode}},
	} {
		if _, err := New(plan); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func newBundle(t *testing.T, modes ...Mode) *Bundle {
	t.Helper()
	b, err := New(Plan{Modes: modes, Now: time.Now(), Lasts: time.Hour, Cost: bcrypt.MinCost})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var combinations = [][]Mode{
	{Users, Leafnode, Route, Gateway, Websocket, MQTT}, {NKey}, {Operator}, {TLSMap}, {Callout}, {NoAuthUser},
}

// secretsOf are all secrets of a bundle, one by one.
func secretsOf(t *testing.T, b *Bundle) []string {
	t.Helper()
	var out []string
	add := func(secrets ...string) {
		for _, s := range secrets {
			if s != "" {
				out = append(out, s)
			}
		}
	}
	for _, l := range b.Logins {
		add(l.Password(), l.Seed(), l.JWT())
	}
	for _, p := range b.Peers {
		add(p.Password())
	}
	if s := b.Service; s != nil {
		add(s.Config.Password, s.Config.Issuer, s.Config.XKey)
	}
	for _, f := range b.secrets {
		if strings.HasSuffix(f.Name, ".seed") {
			add(strings.TrimSpace(f.Text))
		}
		if strings.HasSuffix(f.Name, "-key.pem") {
			add(strings.Split(f.Text, "\n")[1])
		}
	}
	return out
}

// Nothing that is printed by mistake tells a secret, and the texts of others are
// cleaned of them.
func TestSecretsDoNotPrint(t *testing.T) {
	for _, modes := range combinations {
		b := newBundle(t, modes...)
		secrets := secretsOf(t, b)
		if len(secrets) == 0 && modes[0] != NoAuthUser {
			t.Errorf("%v: no secrets", modes)
		}
		var all strings.Builder
		for _, v := range []any{b, b.Logins, b.Peers, b.Service, b.Files(Place{})} {
			fmt.Fprintf(&all, "%v %+v %#v %s\n", v, v, v, v)
		}
		for _, secret := range secrets {
			if strings.Contains(all.String(), secret) {
				t.Errorf("%v: a secret is printed in\n%s", modes, all.String())
			}
			if got := b.Scrub("refused: " + secret + "!"); got != "refused: [secret]!" {
				t.Errorf("%v: %s", modes, got)
			}
		}
	}
}

// Secrets stand in files that say so, and what clients need is hashed in the
// configuration.
func TestSecretFiles(t *testing.T) {
	for _, modes := range combinations {
		b := newBundle(t, modes...)
		for _, f := range b.Files(Place{Routes: []string{"n1:6222"}, Gateways: []Remote{{"east", []string{"n1:7222"}}}}) {
			for _, secret := range secretsOf(t, b) {
				if strings.Contains(f.Text, secret) && !f.Secret {
					t.Errorf("%v: %s has a secret and does not say so", modes, f.Name)
				}
				if strings.Contains(f.Text, secret) && f.Name == authFile {
					t.Errorf("%v: %s has a secret in clear", modes, f.Name)
				}
			}
		}
	}
}

// Hashes cost what those of nats-server cost.
func TestCost(t *testing.T) {
	b, err := New(Plan{Modes: []Mode{Users}, KeepAccounts: true, Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(b.Files(Place{})[0].Text, `password: "`)
	hash, _, _ := strings.Cut(rest, `"`)
	if cost, err := bcrypt.Cost([]byte(hash)); err != nil || cost != 11 {
		t.Errorf("%d, %v", cost, err)
	}
}

// No two bundles share a secret.
func TestSecretsAreNew(t *testing.T) {
	for _, modes := range combinations {
		one, other := secretsOf(t, newBundle(t, modes...)), secretsOf(t, newBundle(t, modes...))
		for i, secret := range one {
			if slices.Contains(other, secret) || slices.Index(one, secret) != i && modes[0] != Callout {
				t.Errorf("%v: a secret is there twice", modes)
			}
		}
	}
}

// The operator is as an auditor would have him.
func TestOperatorClaims(t *testing.T) {
	b := newBundle(t, Operator)
	text := b.Files(Place{Resolver: "/var/lib/nats/jwt"})[0].Text
	field := func(name string) string {
		_, rest, _ := strings.Cut(text, "\n"+name+": ")
		value, _, _ := strings.Cut(rest, "\n")
		return value
	}
	operator, err := jwt.DecodeOperatorClaims(field("operator"))
	if err != nil {
		t.Fatal(err)
	}
	system := field("system_account")
	if !operator.StrictSigningKeyUsage || len(operator.SigningKeys) != 1 || operator.SystemAccount != system {
		t.Errorf("%+v", operator)
	}
	for _, want := range []string{"type: full", `dir: "/var/lib/nats/jwt"`, "allow_delete: false", `interval: "2m"`, "resolver_preload {", "  " + system + ": "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	for _, l := range b.Logins {
		user, err := jwt.DecodeUserClaims(l.JWT())
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, "  "+user.IssuerAccount+": ")
		token, _, _ := strings.Cut(rest, "\n")
		account, err := jwt.DecodeAccountClaims(token)
		if err != nil {
			t.Fatal(err)
		}
		if !account.SigningKeys.Contains(user.Issuer) || user.Issuer == account.Subject || account.Issuer != operator.SigningKeys[0] || user.Expires == 0 {
			t.Errorf("%s is signed by %s of %+v", l, user.Issuer, account)
		}
	}
}

// What peers are called goes into the files, and half a list never does.
func TestPeersOfAFleet(t *testing.T) {
	b := newBundle(t, Route, Gateway, Leafnode)
	texts := func(at Place) string {
		var all strings.Builder
		for _, f := range b.Files(at) {
			all.WriteString(f.Text)
		}
		return all.String()
	}
	known := texts(Place{Routes: []string{"n1:6222", "[::1]:6222"}, Gateways: []Remote{{"west", []string{"w1:7222"}}}, Leafnode: "n1:7422"})
	for _, want := range []string{`@n1:6222", "nats-route://route:`, `@[::1]:6222" ]`, `{ name: "west", urls: [ "nats://gateway:`, `@n1:7422" ] } ]`} {
		if !strings.Contains(known, want) {
			t.Errorf("no %s in\n%s", want, known)
		}
	}
	if unknown := texts(Place{}); strings.Contains(unknown, "routes: [") || strings.Contains(unknown, "gateways: [") || !strings.Contains(unknown, "@HUB:7422") {
		t.Errorf("%s", unknown)
	}
}
