package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestOldServers has servers of several releases in one cluster: all answer,
// and what an old one cannot tell is unknown.
func TestOldServers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	year := ca.files(365 * 24 * time.Hour)
	f := start(t,
		fleet.Spec{Name: "new", Config: closedApp + clustered("c", "v210", "v210-optional", "v211"), Files: year},
		fleet.Spec{Name: "v210", Binary: binary(t, "v2.10.29"), Config: closedApp + clustered("c", "new", "v211") + tlsBlock(""), Files: year},
		fleet.Spec{Name: "v210-optional", Binary: binary(t, "v2.10.29"), Config: closedApp + clustered("c", "new", "v211") + tlsBlock("") + "allow_non_tls: true", Files: year},
		fleet.Spec{Name: "v211", Binary: binary(t, "v2.11.17"), Config: closedApp + clustered("c", "new", "v210") + tlsBlock(""), Files: year},
	)
	waitActive(t, f, f.Server("new"), 4)
	state := thrice(t, connectSys(t, f.Server("new")), f.Servers()...)

	versions := found(state, "FLEET_007", "")
	if len(versions) != 1 || versions[0].Scope.Kind != check.KindSystem {
		t.Fatalf("FLEET_007: %v", versions)
	}
	for _, part := range []string{"2.10.29 on v210", "2.11.17 on v211", " on new"} {
		if !strings.Contains(versions[0].Summary, part) {
			t.Errorf("%q does not tell %q", versions[0].Summary, part)
		}
	}
	for server, want := range map[string]posture.Tri{"new": posture.No, "v210": posture.Unseen, "v210-optional": posture.Unseen, "v211": posture.No} {
		if got := state.Snapshot.Server(server).NoConfigFile; got != want {
			t.Errorf("%s was started without a file: %v, want %v", server, got, want)
		}
	}
	for _, want := range []struct {
		check, server string
		outcome       check.Outcome
	}{
		{"TLS_001", "v210", check.Unknown},
		{"TLS_001", "v210-optional", check.Unknown},
		{"TLS_001", "v211", check.Pass},
		{"TLS_001", "new", check.NotApplicable},
		{"TLS_002", "v210", check.Pass},
		{"TLS_002", "v210-optional", check.Unknown},
		{"TLS_002", "v211", check.Pass},
	} {
		if got := outcome(state, want.check, want.server, posture.Client); got != want.outcome {
			t.Errorf("%s on %s: %v, want %v", want.check, want.server, got, want.outcome)
		}
	}
	for _, s := range f.Servers() {
		if d := door(t, state, s.Name(), posture.Client); d.Access != posture.Closed || d.Basis != posture.Reported {
			t.Errorf("client door of %s: %v", s.Name(), verdictOf(d))
		}
	}
}

// TestOldServerOpen: an old server does not tell whether it has a file, and
// lets strangers in like any other.
func TestOldServerOpen(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v2.10.29", "v2.11.17"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			f := start(t,
				fleet.Spec{Name: "new", Config: closedApp + clustered("c", "open", "hidden")},
				fleet.Spec{Name: "open", Binary: binary(t, version), Config: clustered("c", "new", "hidden")},
				fleet.Spec{Name: "hidden", Binary: binary(t, version), Config: sysAccount + clustered("c", "new", "open")},
			)
			waitActive(t, f, f.Server("new"), 3)
			for _, server := range []string{"open", "hidden"} {
				if !stay(t, f.Server(server).URL()) {
					t.Fatalf("%s refuses strangers", server)
				}
			}
			state := sweep(t, auditor(t, connectSys(t, f.Server("new")), patient))
			complete(t, state, f.Servers()...)
			for server, want := range map[string]posture.Cause{"open": posture.CauseNoAuthBlock, "hidden": posture.CauseHiddenUser} {
				if d := door(t, state, server, posture.Client); verdictOf(d) != openBy(posture.Observed, want) {
					t.Errorf("client door of %s: %v", server, verdictOf(d))
				}
				if fs := found(state, "SESS_001", server); len(fs) != 1 {
					t.Errorf("SESS_001 on %s: %v", server, fs)
				}
			}
		})
	}
}

// TestTokensOfOldServers: before 2.10.28 CONNZ shows the token itself. Nobody
// must ever see it from us.
func TestTokensOfOldServers(t *testing.T) {
	t.Parallel()
	const token = "t0k3n-of-the-tests-that-nobody-sees" //nolint:gosec // of the tests
	f := start(t,
		fleet.Spec{Name: "new", Config: closedApp + clustered("c", "old")},
		fleet.Spec{Name: "old", Binary: binary(t, "v2.10.27"), Config: `authorization { token: "` + token + `" }` + clustered("c", "new")},
	)
	waitActive(t, f, f.Server("new"), 2)
	connect(t, f.Server("old").URL(), nats.Token(token), nats.Name("worker"))
	nc := connectSys(t, f.Server("new"))
	raw, err := nc.Request("$SYS.REQ.SERVER."+f.Server("old").ID()+".CONNZ", []byte(`{"auth":true,"acc":"$G"}`), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw.Data), token) {
		t.Fatal("this server does not show tokens: the test shows nothing")
	}
	state := thrice(t, nc, f.Servers()...)
	srv := state.Snapshot.Server("old")
	if len(srv.Sessions.List) != 1 || srv.Sessions.List[0].Name != "worker" || srv.Sessions.List[0].Anonymous {
		t.Errorf("sessions: %+v", srv.Sessions)
	}
	noSecret(t, state, token)
}
