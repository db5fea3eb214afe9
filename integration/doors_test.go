package integration

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// verdict is what is said of a door.
type verdict struct {
	access posture.Access
	basis  posture.Basis
	cause  posture.Cause
}

func verdictOf(d *posture.Door) verdict { return verdict{d.Access, d.Basis, d.Cause} }

// The verdicts that the table is made of.
var (
	closedReported  = verdict{posture.Closed, posture.Reported, ""}
	unknownReported = verdict{posture.Unknown, posture.Reported, ""}
	unknownInferred = verdict{posture.Unknown, posture.Inferred, ""}
)

func openBy(b posture.Basis, c posture.Cause) verdict { return verdict{posture.Open, b, c} }

// judged is one door of one configuration.
type judged struct {
	door posture.DoorKind
	in   bool    // a stranger really gets in
	cold verdict // what $SYS tells while nobody is inside
	warm verdict // and while the strangers whom it lets in are; the zero value means as cold
}

// configuration is one row of what servers can be like.
type configuration struct {
	name   string
	config string
	spec   fleet.Spec // the rest, where it is needed
	doors  []judged
}

const (
	appUsers  = `accounts { APP { users: [ { user: app, password: app-password }, { user: guest, password: guest-password } ] } }` + "\n"
	websocket = `websocket { listen: "{{addr "websocket"}}", no_tls: true`
	mqtt      = `mqtt { listen: "{{addr "mqtt"}}"`
	jetstream = `jetstream { store_dir: "{{dir}}/jetstream", domain: edge }` + "\n"
)

// configurations are the rows of what a server may be configured as.
func configurations(ca *authority) []configuration {
	withTLS := fleet.Spec{Files: ca.files(365 * 24 * time.Hour)}
	noAuth := judged{
		door: posture.Client, in: true,
		cold: openBy(posture.Reported, posture.CauseNoAuthBlock), warm: openBy(posture.Observed, posture.CauseNoAuthBlock),
	}
	refused := judged{door: posture.Client, cold: closedReported}
	// With no account but the two that every server has, a token or a user
	// looks like the hidden user.
	doubted := judged{door: posture.Client, cold: unknownReported}
	return []configuration{
		{name: "nothing", doors: []judged{noAuth}},
		{name: "empty-block", config: `authorization {}`, doors: []judged{noAuth}},
		{name: "timeout-only", config: `authorization { timeout: 2 }`, doors: []judged{noAuth}},
		{name: "no-users", config: `authorization { users: [] }`, doors: []judged{noAuth}},
		{name: "empty-token", config: `authorization { token: "" }`, doors: []judged{noAuth}},
		{name: "password-only", config: `authorization { password: lonely }`, doors: []judged{noAuth}},
		{name: "accounts-without-users", config: `accounts { APP {} }`, doors: []judged{noAuth}},
		{name: "token", config: `authorization { token: token-of-the-tests }`, doors: []judged{doubted}},
		{name: "user", config: `authorization { user: app, password: app-password }`, doors: []judged{doubted}},
		{name: "users", config: appUsers, doors: []judged{refused}},
		{name: "nkey", config: `accounts { APP { users: [ { nkey: ` + must(must(nkeys.CreateUser()).PublicKey()) + ` } ] } }`, doors: []judged{refused}},
		{name: "users-and-empty-block", config: appUsers + `authorization {}`, doors: []judged{refused}},
		{
			name: "no-auth-user", config: appUsers + `no_auth_user: guest`,
			// Nothing that a server answers shows it, and the guest looks
			// like one who knew the password.
			doors: []judged{{door: posture.Client, in: true, cold: closedReported}},
		},
		{
			name: "no-auth-user-on-websocket-only",
			config: `accounts { APP { users: [ { user: app, password: app-password }, { user: guest, password: guest-password, allowed_connection_types: ["WEBSOCKET"] } ] } }
				no_auth_user: guest
				` + websocket + `}`,
			doors: []judged{refused, {door: posture.Websocket, in: true, cold: closedReported}},
		},
		{
			name: "hidden-user", config: sysAccount + websocket + `}`,
			doors: []judged{
				{door: posture.Client, in: true, cold: unknownReported, warm: openBy(posture.Observed, posture.CauseHiddenUser)},
				{door: posture.Websocket, in: true, cold: unknownReported, warm: openBy(posture.Observed, posture.CauseHiddenUser)},
			},
		},
		{name: "no-hidden-user-with-a-block", config: sysAccount + `authorization { timeout: 2 }`, doors: []judged{doubted}},
		{name: "no-hidden-user-with-an-account", config: `accounts { $SYS { users: [ { user: sys, password: p } ] }, APP {} }`, doors: []judged{refused}},
		{name: "user-without-password", config: `accounts { APP { users: [ { user: app } ] } }`, doors: []judged{refused}},
		{
			name: "verify", config: tlsBlock("verify: true"), spec: withTLS,
			doors: []judged{{door: posture.Client, cold: verdict{posture.Closed, posture.Reported, posture.CauseCertificateOnly}}},
		},
		{
			name: "verify-or-plaintext", config: tlsBlock("verify: true") + `allow_non_tls: true`, spec: withTLS,
			doors: []judged{{
				door: posture.Client, in: true,
				cold: openBy(posture.Reported, posture.CauseAllowNonTLS), warm: openBy(posture.Observed, posture.CauseAllowNonTLS),
			}},
		},
		{
			name: "verify-and-map-or-plaintext", config: tlsBlock("verify_and_map: true") + `allow_non_tls: true
				accounts { APP { users: [ { user: "CN=app" } ] } }`, spec: withTLS,
			doors: []judged{refused},
		},
		{
			name: "tls-without-verify", config: tlsBlock(""), spec: withTLS,
			doors: []judged{noAuth},
		},
		{
			name: "websocket-of-an-open-server", config: websocket + `}`,
			doors: []judged{noAuth, {
				door: posture.Websocket, in: true,
				cold: unknownInferred, warm: openBy(posture.Observed, posture.CauseInherits),
			}},
		},
		{
			name: "websocket-of-a-closed-server", config: appUsers + websocket + `}`,
			doors: []judged{refused, {door: posture.Websocket, cold: closedReported}},
		},
		{
			name: "websocket-no-auth-user", config: appUsers + websocket + `, no_auth_user: guest }`,
			doors: []judged{refused, {door: posture.Websocket, in: true, cold: openBy(posture.Reported, posture.CauseWSNoAuthUser)}},
		},
		{
			name: "websocket-authorization-of-an-open-server", config: websocket + `, authorization { user: browser, password: browser-password } }`,
			doors: []judged{noAuth, {door: posture.Websocket, cold: unknownInferred}},
		},
		{
			name: "websocket-with-tls-of-an-open-server", config: `websocket { listen: "{{addr "websocket"}}" ` + tlsBlock("") + `}`, spec: withTLS,
			// The same listener may ask for a certificate: that is not shown.
			doors: []judged{noAuth, {door: posture.Websocket, in: true, cold: unknownReported, warm: openBy(posture.Observed, posture.CauseInherits)}},
		},
		{
			name: "websocket-verify-of-an-open-server", config: `websocket { listen: "{{addr "websocket"}}" ` + tlsBlock("verify: true") + `}`, spec: withTLS,
			doors: []judged{noAuth, {door: posture.Websocket, cold: unknownReported}},
		},
		{
			name: "mqtt-of-an-open-server", config: jetstream + mqtt + `}`,
			doors: []judged{noAuth, {
				door: posture.MQTT, in: true,
				cold: unknownInferred, warm: openBy(posture.Observed, posture.CauseInherits),
			}},
		},
		{
			name: "mqtt-of-a-closed-server", config: jetstream + `accounts { APP { jetstream: enabled, users: [ { user: app, password: app-password } ] } }
				` + mqtt + `}`,
			doors: []judged{refused, {door: posture.MQTT, cold: closedReported}},
		},
		{
			name: "mqtt-no-auth-user", config: jetstream + `accounts { APP { jetstream: enabled, users: [ { user: app, password: app-password }, { user: device, password: device-password } ] } }
				` + mqtt + `, no_auth_user: device }`,
			doors: []judged{refused, {door: posture.MQTT, in: true, cold: openBy(posture.Reported, posture.CauseMQTTNoAuthUser)}},
		},
		{
			name: "mqtt-authorization-of-an-open-server", config: jetstream + mqtt + `, authorization { user: device, password: device-password } }`,
			doors: []judged{noAuth, {door: posture.MQTT, cold: unknownInferred}},
		},
		{
			name: "monitor", config: appUsers + `http: "{{addr "monitor"}}"`,
			doors: []judged{refused, {door: posture.Monitor, in: true, cold: openBy(posture.Reported, posture.CauseNeverAsks)}},
		},
	}
}

// intrude tries to come in through a door without credentials, and stays if
// that works.
func intrude(t *testing.T, s *fleet.Server, kind posture.DoorKind) bool {
	t.Helper()
	host := s.Addr(kind.String())
	insecure := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12} //nolint:gosec // a stranger trusts anybody
	switch kind {
	case posture.Client:
		return stay(t, s.URL()) || stay(t, s.URL(), nats.Secure(insecure))
	case posture.Websocket:
		return stay(t, "ws://"+host) || stay(t, "wss://"+host, nats.Secure(insecure))
	case posture.MQTT:
		return stayMQTT(t, host)
	case posture.Monitor:
		resp, err := http.Get("http://" + host + "/varz") //nolint:noctx // a test against loopback
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	default:
		t.Fatalf("nobody knows how to try a %s door", kind)
		return false
	}
}

func stay(t *testing.T, url string, opts ...nats.Option) bool {
	t.Helper()
	nc, err := nats.Connect(url, append(opts, nats.NoReconnect(), nats.Name("stranger"), nats.Timeout(3*time.Second))...)
	if err != nil {
		return false
	}
	t.Cleanup(nc.Close)
	return true
}

// stayMQTT sends an MQTT 3.1.1 CONNECT without user name and password.
func stayMQTT(t *testing.T, addr string) bool {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 3 * time.Second}).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	connect := []byte{0x10, 20, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 8, 's', 't', 'r', 'a', 'n', 'g', 'e', 'r'}
	if _, err := conn.Write(connect); err != nil {
		return false
	}
	var connack [4]byte
	if _, err := io.ReadFull(conn, connack[:]); err != nil {
		return false
	}
	return connack[0] == 0x20 && connack[3] == 0
}

// judgeDoors holds what was said of a server's doors against what a stranger
// found.
func judgeDoors(t *testing.T, row configuration, cold, warm *agent.State, in map[posture.DoorKind]bool) {
	t.Helper()
	for _, want := range row.doors {
		if in[want.door] != want.in {
			t.Errorf("%s: a stranger at the %s door got in: %v", row.name, want.door, in[want.door])
		}
		if want.warm == (verdict{}) {
			want.warm = want.cold
		}
		if got := verdictOf(door(t, cold, row.name, want.door)); got != want.cold {
			t.Errorf("%s: the %s door is %v while nobody is inside, want %v", row.name, want.door, got, want.cold)
		}
		if got := verdictOf(door(t, warm, row.name, want.door)); got != want.warm {
			t.Errorf("%s: the %s door is %v with the strangers inside, want %v", row.name, want.door, got, want.warm)
		}
	}
	// Whatever the table says, this must hold of every door.
	for _, state := range []*agent.State{cold, warm} {
		for kind, in := range in {
			d := door(t, state, row.name, kind)
			if in && (d.Access == posture.Off || d.Access == posture.Closed && d.Basis > posture.Reported) {
				t.Errorf("%s: a stranger is inside through the %s door, which is said to be %v", row.name, kind, verdictOf(d))
			}
			if !in && d.Access == posture.Open {
				t.Errorf("%s: a stranger was refused at the %s door, which is said to be %v", row.name, kind, verdictOf(d))
			}
			for _, id := range []string{"DOOR_001", "DOOR_002", "DOOR_003"} {
				if in && outcome(state, id, row.name, kind) == check.Pass {
					t.Errorf("%s: a stranger is inside through the %s door, and %s passes", row.name, kind, id)
				}
			}
		}
	}
}

// TestDoors judges every configuration by $SYS alone, and then lets a real
// stranger try. A handful at a time makes up a fleet.
func TestDoors(t *testing.T) {
	t.Parallel()
	rows := append(configurations(newAuthority(t)), configuration{
		name: "no-config", spec: fleet.Spec{NoConfigFile: true},
		doors: []judged{{
			door: posture.Client, in: true,
			cold: openBy(posture.Reported, posture.CauseNoConfig), warm: openBy(posture.Observed, posture.CauseNoConfig),
		}},
	})
	for some := range slices.Chunk(rows, 7) {
		t.Run(some[0].name, func(t *testing.T) { tryDoors(t, some) })
	}
}

func tryDoors(t *testing.T, rows []configuration) {
	t.Helper()
	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	for _, row := range rows {
		spec := row.spec
		spec.Name = row.name
		if spec.NoConfigFile {
			// What joins it to the fleet is set in code.
			spec.Options = func(o *server.Options) {
				o.LeafNode.Remotes = []*server.RemoteLeafOpts{{
					URLs:         []*url.URL{{Scheme: "nats-leaf", Host: f.Server("hub").Addr("leafnode"), User: url.UserPassword("leaf-sys", "leaf-password")}},
					LocalAccount: "$SYS",
				}}
			}
		} else {
			spec.Config = row.config + remote("leaf-sys", "$SYS")
		}
		if _, err := f.Add(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
	}
	waitActive(t, f, f.Server("hub"), len(rows)+1)
	a := auditor(t, connectSys(t, f.Server("hub")), patient)
	cold := sweep(t, a)
	complete(t, cold, f.Servers()...)

	in := map[string]map[posture.DoorKind]bool{}
	for _, row := range rows {
		in[row.name] = map[posture.DoorKind]bool{}
		for _, d := range row.doors {
			in[row.name][d.door] = intrude(t, f.Server(row.name), d.door)
		}
	}
	warm := sweep(t, a)
	complete(t, warm, f.Servers()...)
	for _, row := range rows {
		judgeDoors(t, row, cold, warm, in[row.name])
	}

	// The same listeners are half as bad when loopback is not forwarded.
	for _, r := range check.Evaluate(warm.Snapshot, check.DefaultPolicy()) {
		if r.Outcome == check.Fail && r.Severity == check.Critical && r.Scope.Door != posture.NoDoor {
			t.Errorf("%s on loopback is critical: %s", r.Check.ID, r.Summary)
		}
		if r.Check.ID == "DOOR_007" && r.Scope.Server == "monitor" && r.Outcome != check.Pass {
			t.Errorf("DOOR_007 on loopback: %v", r.Outcome)
		}
	}
	for server, want := range map[string]struct {
		check    string
		severity check.Severity
		n        int
	}{
		"monitor":     {"DOOR_007", check.Warning, 1},
		"verify":      {"DOOR_001", check.Warning, 1}, // a certificate is needed at least
		"nothing":     {"DOOR_001", check.Critical, 1},
		"hidden-user": {"SESS_001", check.Critical, 2},
	} {
		if fs := found(warm, want.check, server); warm.Snapshot.Server(server) != nil && (len(fs) != want.n || fs[0].Severity != want.severity) {
			t.Errorf("%s on %s: %v, want %d of %s", want.check, server, fs, want.n, want.severity)
		}
	}
}

// TestDoorsOfAnOperator is the rows that need a server of their own: the
// operator's system account is no other server's.
func TestDoorsOfAnOperator(t *testing.T) {
	t.Parallel()
	op := newOperator(t)
	sentinel, _ := op.user(&op.App, "sentinel", func(c *jwt.UserClaims) { c.BearerToken = true })
	for _, row := range []configuration{
		{name: "operator", config: op.Config(), doors: []judged{{door: posture.Client, cold: closedReported}}},
		{
			// The sentinel's sessions are of its account and look like any
			// other: $SYS cannot tell.
			name: "default-sentinel", config: op.Config() + "default_sentinel: " + sentinel,
			doors: []judged{{door: posture.Client, in: true, cold: closedReported}},
		},
		{
			name: "operator-with-websocket", config: op.Config() + websocket + "}",
			doors: []judged{{door: posture.Client, cold: closedReported}, {door: posture.Websocket, cold: closedReported}},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fleet.Spec{Name: row.name, Config: row.config})
			s := f.Server(row.name)
			a := auditor(t, connect(t, s.URL(), op.login(&op.System, "auditor", nil)), patient)
			cold := sweep(t, a)
			in := map[posture.DoorKind]bool{}
			for _, d := range row.doors {
				in[d.door] = intrude(t, s, d.door)
			}
			warm := sweep(t, a)
			complete(t, warm, s)
			judgeDoors(t, row, cold, warm, in)
		})
	}
}

// TestStrangersAreNotWhoTheyClaim: on an open server everybody may call
// himself what he likes.
func TestStrangersAreNotWhoTheyClaim(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "open", Config: websocket + "}" + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), 2)
	open := f.Server("open")
	connect(t, open.URL(), nats.UserInfo("admin", "whatever"), nats.Name("pretender"))
	connect(t, open.URL(), nats.Token("s3cr3t-token"))
	state := sweep(t, auditor(t, connectSys(t, f.Server("hub")), collect.Config{}))
	if d := door(t, state, "open", posture.Client); d.Access != posture.Open || d.Basis != posture.Observed {
		t.Errorf("%v", verdictOf(d))
	}
	fs := found(state, "SESS_001", "open")
	if len(fs) != 1 || len(fs[0].Evidence) != 2 {
		t.Errorf("SESS_001: %v", fs)
	}
	noSecret(t, state, "s3cr3t-token")
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	ca := newAuthority(t)
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "fresh", Config: appUsers + tlsBlock("") + remote("leaf-sys", "$SYS"), Files: ca.files(60 * day)},
		fleet.Spec{Name: "warning", Config: appUsers + tlsBlock("") + remote("leaf-sys", "$SYS"), Files: ca.files(20 * day)},
		fleet.Spec{Name: "critical", Config: appUsers + tlsBlock("") + remote("leaf-sys", "$SYS"), Files: ca.files(3 * day)},
		fleet.Spec{Name: "expired", Config: appUsers + tlsBlock("") + remote("leaf-sys", "$SYS"), Files: ca.files(-2 * day)},
		fleet.Spec{Name: "websocket", Config: appUsers + `websocket { listen: "{{addr "websocket"}}" ` + tlsBlock("") + "}" + remote("leaf-sys", "$SYS"), Files: ca.files(3 * day)},
		fleet.Spec{Name: "mqtt", Config: jetstream + appUsers + mqtt + "," + tlsBlock("") + "}" + remote("leaf-sys", "$SYS"), Files: ca.files(3 * day)},
		fleet.Spec{Name: "optional", Config: appUsers + tlsBlock("") + "allow_non_tls: true" + remote("leaf-sys", "$SYS"), Files: ca.files(60 * day)},
		fleet.Spec{Name: "unnamed", Config: tlsBlock("verify: true") + remote("leaf-sys", "$SYS"), Files: ca.files(60 * day)},
		fleet.Spec{Name: "mapped", Config: appUsers + tlsBlock("verify_and_map: true") + remote("leaf-sys", "$SYS"), Files: ca.files(60 * day)},
		fleet.Spec{Name: "plain-websocket", Config: appUsers + websocket + "}" + remote("leaf-sys", "$SYS")},
	)
	waitActive(t, f, f.Server("hub"), len(f.Servers()))
	state := sweep(t, auditor(t, connectSys(t, f.Server("hub")), patient))
	complete(t, state, f.Servers()...)

	for _, want := range []struct {
		server   string
		door     posture.DoorKind
		severity check.Severity
		cause    posture.Cause
	}{
		{"warning", posture.Client, check.Warning, ""},
		{"critical", posture.Client, check.Critical, ""},
		{"expired", posture.Client, check.Critical, "expired"},
		{"websocket", posture.Websocket, check.Critical, ""},
		{"mqtt", posture.MQTT, check.Critical, ""},
	} {
		fs := found(state, "TLS_001", want.server)
		if len(fs) != 1 || fs[0].Scope.Door != want.door || fs[0].Severity != want.severity || fs[0].Cause != want.cause {
			t.Errorf("TLS_001 on %s: %v, want one of %s", want.server, fs, want.severity)
		}
	}
	for _, want := range []struct {
		check, server string
		door          posture.DoorKind
		outcome       check.Outcome
	}{
		{"TLS_001", "fresh", posture.Client, check.Pass},
		{"TLS_001", "hub", posture.Client, check.NotApplicable},
		{"TLS_002", "fresh", posture.Client, check.Pass},
		{"TLS_002", "optional", posture.Client, check.Fail},
		{"TLS_002", "hub", posture.Client, check.NotApplicable},
		{"TLS_003", "unnamed", posture.Client, check.Fail},
		{"TLS_003", "mapped", posture.Client, check.Unknown},
		{"TLS_003", "fresh", posture.Client, check.NotApplicable},
		{"TLS_005", "plain-websocket", posture.Websocket, check.Fail},
		{"TLS_005", "websocket", posture.Websocket, check.Pass},
		{"TLS_005", "hub", posture.Websocket, check.NotApplicable},
	} {
		if got := outcome(state, want.check, want.server, want.door); got != want.outcome {
			t.Errorf("%s on %s: %v, want %v", want.check, want.server, got, want.outcome)
		}
	}
	for _, r := range check.Evaluate(state.Snapshot, check.DefaultPolicy()) {
		if r.Check.ID == "TLS_005" && r.Scope.Server == "plain-websocket" && r.Outcome != check.Pass {
			t.Errorf("TLS_005 on loopback: %v", r.Outcome)
		}
	}
	// A stranger with a certificate, and nothing else, is let in.
	if !stay(t, f.Server("unnamed").URL(), nats.Secure(ca.client(t, "whoever"))) {
		t.Error("verify alone refused a certificate of its CA")
	}
}

func TestTLSOnSomeMembersOnly(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2")},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1") + tlsBlock(""), Files: ca.files(time.Hour * 24 * 365)},
	)
	waitActive(t, f, f.Server("n1"), 2)
	state := sweep(t, auditor(t, connectSys(t, f.Server("n1")), patient))
	fs := found(state, "FLEET_004", "")
	if len(fs) != 1 || fs[0].Scope.Cluster != "c" || fs[0].Severity != check.Warning {
		t.Errorf("FLEET_004: %v", fs)
	}
	if slices.ContainsFunc(state.Findings, func(f finding.Finding) bool { return f.Check == "FLEET_001" || f.Check == "TLS_002" }) {
		t.Error("unexpected findings")
	}
}
