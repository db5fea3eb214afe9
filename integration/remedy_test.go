package integration

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// cure is a configuration that a check finds fault with, and the same one
// after its remedy.
type cure struct {
	name        string
	check       string
	cause       posture.Cause
	door        posture.DoorKind // where a stranger tries; NoDoor where that is not the point
	sick, cured string
	files       map[string]string
}

func cures(t *testing.T) []cure {
	t.Helper()
	ca := newAuthority(t)
	year := ca.files(365 * 24 * time.Hour)
	soon, key := ca.issue("server", time.Hour)
	aging := ca.files(365 * 24 * time.Hour)
	aging["soon.pem"], aging["soon-key.pem"] = soon, key
	// What the remedy of an open server says, whole.
	users := check.Lookup("DOOR_001").RemedyFor(posture.CauseNoAuthBlock).Config
	return []cure{
		{
			name: "no-auth", check: "DOOR_001", cause: posture.CauseNoAuthBlock, door: posture.Client,
			cured: users,
		},
		{
			name: "hidden-user-by-account", check: "DOOR_001", cause: posture.CauseHiddenUser, door: posture.Client,
			sick:  sysAccount,
			cured: merged(check.Lookup("DOOR_001").RemedyFor(posture.CauseHiddenUser).Config),
		},
		{
			name: "hidden-user-by-block", check: "DOOR_001", cause: posture.CauseHiddenUser, door: posture.Client,
			sick: sysAccount, cured: sysAccount + `authorization {}`,
		},
		{
			name: "allow-non-tls", check: "DOOR_001", cause: posture.CauseAllowNonTLS, door: posture.Client, files: year,
			sick: tlsBlock("verify: true") + `allow_non_tls: true`, cured: tlsBlock("verify_and_map: true"),
		},
		{
			name: "certificate-only", check: "DOOR_001", cause: posture.CauseCertificateOnly, files: year,
			sick: tlsBlock("verify: true"), cured: tlsBlock("verify_and_map: true") + `authorization { users: [ { user: "CN=app,OU=team" } ] }`,
		},
		{
			name: "websocket-no-auth-user", check: "DOOR_002", cause: posture.CauseWSNoAuthUser, door: posture.Websocket,
			sick: appUsers + websocket + `, no_auth_user: guest }`, cured: appUsers + websocket + `}`,
		},
		{
			name: "mqtt-no-auth-user", check: "DOOR_003", cause: posture.CauseMQTTNoAuthUser, door: posture.MQTT,
			sick:  jetstream + strings.Replace(appUsers, "APP {", "APP { jetstream: enabled,", 1) + mqtt + `, no_auth_user: guest }`,
			cured: jetstream + strings.Replace(appUsers, "APP {", "APP { jetstream: enabled,", 1) + mqtt + `}`,
		},
		{
			name: "monitor", check: "DOOR_007", cause: posture.CauseNeverAsks, door: posture.Monitor,
			// On loopback already: here it is taken away altogether.
			sick: appUsers + `http: "{{addr "monitor"}}"`, cured: appUsers,
		},
		{
			name: "sessions", check: "SESS_001", cause: posture.CauseNoAuthBlock, door: posture.Client,
			cured: users,
		},
		{
			name: "certificate-expires", check: "TLS_001", files: aging,
			sick:  appUsers + strings.NewReplacer("cert.pem", "soon.pem", "key.pem", "soon-key.pem").Replace(tlsBlock("")),
			cured: appUsers + tlsBlock(""),
		},
		{
			name: "tls-optional", check: "TLS_002", cause: posture.CauseAllowNonTLS, files: year,
			sick: appUsers + tlsBlock("") + `allow_non_tls: true`, cured: appUsers + tlsBlock(""),
		},
		{
			name: "tls-unnamed", check: "TLS_003", cause: posture.CauseCertificateOnly, files: year,
			sick: tlsBlock("verify: true"), cured: tlsBlock("verify_and_map: true") + `authorization { users: [ { user: "CN=app,OU=team" } ] }`,
		},
		{
			name: "websocket-plain", check: "TLS_005", files: year,
			sick: appUsers + websocket + `}`, cured: appUsers + `websocket { listen: "{{addr "websocket"}}"` + tlsBlock("") + `}`,
		},
	}
}

// merged puts accounts beside the system account that is there: of two blocks
// the last would hold alone.
func merged(config string) string {
	return strings.Replace(config, "accounts {", "accounts {\n"+strings.TrimSuffix(strings.TrimPrefix(sysAccount, "accounts {"), "}\n")+"\n", 1)
}

// stands tells whether a finding is still held to be true. Nothing that a
// server says of itself is proof that a door is closed: without a touch the
// finding of a door that was closed stays, as stale.
func stands(state *agent.State, c cure) (finding.Finding, bool) {
	for _, f := range found(state, c.check, c.name) {
		if f.Action != finding.Stale && f.Cause == c.cause {
			return f, true
		}
	}
	return finding.Finding{}, false
}

// TestRemedies does what the remedies say, and looks whether it helps: by a
// reload where they promise so, and only by a restart where they do not.
func TestRemedies(t *testing.T) {
	t.Parallel()
	for some := range slices.Chunk(cures(t), 5) {
		t.Run(some[0].name, func(t *testing.T) { cureAll(t, some) })
	}
}

func cureAll(t *testing.T, all []cure) {
	t.Helper()
	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	for _, c := range all {
		if _, err := f.Add(t.Context(), fleet.Spec{Name: c.name, Config: c.sick + remote("leaf-sys", "$SYS"), Files: c.files}); err != nil {
			t.Fatal(err)
		}
	}
	waitActive(t, f, f.Server("hub"), len(all)+1)
	nc := connectSys(t, f.Server("hub"))
	// Who restarts among leafnodes may be counted twice for a while.
	a := auditor(t, nc, hasty)
	inside := map[string]*nats.Conn{}
	told := map[string]*refusals{}
	for _, c := range all {
		switch {
		case c.door == posture.Client:
			told[c.name] = &refusals{}
			inside[c.name] = connect(t, f.Server(c.name).URL(), nats.NoReconnect(), nats.Name("stranger"), told[c.name].handler())
		case c.door != posture.NoDoor && !intrude(t, f.Server(c.name), c.door):
			t.Errorf("%s: a stranger does not get in", c.name)
		}
	}
	sickness := sweep(t, a)
	promised := map[string]bool{}
	for _, c := range all {
		f, ok := stands(sickness, c)
		if !ok {
			t.Fatalf("%s: no %s for %s", c.name, c.check, c.cause)
		}
		promised[c.name] = f.Remediation.Reload
	}

	for _, c := range all {
		err := f.Server(c.name).Reload(t.Context(), c.cured+remote("leaf-sys", "$SYS"))
		if promised[c.name] && err != nil {
			t.Errorf("%s: the reload is refused: %v", c.name, err)
		}
		if nc := inside[c.name]; nc != nil && promised[c.name] {
			eventually(t, c.name+": the stranger is dropped", nc.IsClosed)
			// Who came in by the hidden user is not told.
			eventually(t, c.name+": the stranger is told why", func() bool {
				return c.cause == posture.CauseHiddenUser || slices.Contains(told[c.name].list(), nats.ErrAuthorization.Error())
			})
		}
	}
	reloaded := lookTwice(t, a)
	var rest []cure
	for _, c := range all {
		_, sick := stands(reloaded, c)
		in := c.door != posture.NoDoor && intrude(t, f.Server(c.name), c.door)
		switch {
		case promised[c.name] && (sick || in):
			t.Errorf("%s: after the reload the finding stands: %v, a stranger gets in: %v", c.name, sick, in)
		case !promised[c.name] && (!sick || c.door != posture.NoDoor && !in):
			t.Errorf("%s: the remedy asks for a restart, and after the reload the finding stands: %v, a stranger gets in: %v", c.name, sick, in)
		case !promised[c.name]:
			rest = append(rest, c)
		}
	}

	for _, c := range rest {
		s := f.Server(c.name)
		if err := errors.Join(s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	var restarted *agent.State
	eventually(t, "those that were restarted are back", func() bool {
		restarted = lookTwice(t, a)
		return !slices.ContainsFunc(rest, func(c cure) bool {
			srv := restarted.Snapshot.Server(f.Server(c.name).ID())
			return srv == nil || !srv.Heard.Has(posture.Varz)
		})
	})
	restarted = sweep(t, a) // those that came last have been seen but once
	for _, c := range rest {
		_, sick := stands(restarted, c)
		in := c.door != posture.NoDoor && intrude(t, f.Server(c.name), c.door)
		if sick || in {
			t.Errorf("%s: after the restart the finding stands: %v, a stranger gets in: %v", c.name, sick, in)
		}
	}
}

// TestRemedyOfAnOpenServer applies what is printed as it is printed.
func TestRemedyOfAnOpenServer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sick  string
		cause posture.Cause
		cured func(config string) string
	}{
		"open":        {"", posture.CauseNoAuthBlock, func(config string) string { return config }},
		"hidden-user": {sysAccount, posture.CauseHiddenUser, merged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fleet.Spec{Name: "n1", Config: c.sick})
			s := f.Server("n1")
			remedy := check.Lookup("DOOR_001").RemedyFor(c.cause)
			if !stay(t, s.URL()) {
				t.Fatal("a stranger does not get in")
			}
			err := s.Reload(t.Context(), c.cured(remedy.Config))
			if remedy.Reload != (err == nil) {
				t.Errorf("the remedy says reload %v, and the server says %v", remedy.Reload, err)
			}
			if !remedy.Reload {
				if err := errors.Join(s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
					t.Fatal(err)
				}
			}
			if stay(t, s.URL()) {
				t.Error("a stranger still gets in")
			}
		})
	}
}
