package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// guests are all kinds of clients and leafnodes, as a server that asks nobody
// has them.
type guests struct {
	op             *fleet.Operator
	listed, other  nkeys.KeyPair
	listedKey      string
	clients        map[string]*caller
	leafs          []string
	open, keeper   *fleet.Server
	fleet          *fleet.Fleet
	logs           string // folder of the leafnodes' logs
	withoutRestart bool
}

// caller is a client that comes back as often as it takes.
type caller struct {
	nc      *nats.Conn
	refused atomic.Int32 // times that it was told so
	failed  atomic.Int32 // times that it could not come back, for whatever reason
}

const (
	tokenOfTests = "token-of-the-tests"
	openDoors    = `
websocket { listen: "127.0.0.1:%s", no_tls: true%s }
leafnodes { listen: "127.0.0.1:%s"%s }
`
)

func nkeyOption(t *testing.T, key nkeys.KeyPair) nats.Option {
	t.Helper()
	return nats.Nkey(must(key.PublicKey()), func(nonce []byte) ([]byte, error) { return key.Sign(nonce) })
}

// invite starts an open server beside one with a system account, and has the
// guests come in: all, or those that bring nothing that is looked at. binary is
// that of an old server, "" has one embedded.
func invite(t *testing.T, open, binary string) *guests {
	t.Helper()
	all := open == ""
	g := &guests{op: must(fleet.NewOperator()), listed: must(nkeys.CreateUser()), other: must(nkeys.CreateUser()), clients: map[string]*caller{}, logs: t.TempDir()}
	g.listedKey = must(g.listed.PublicKey())
	token, seed, err := g.op.App.User("leaf", nil)
	if err != nil {
		t.Fatal(err)
	}
	creds := must(jwt.FormatUserConfig(token, []byte(seed)))
	g.fleet = start(t,
		fleet.Spec{Name: "keeper", Config: closedApp + clustered("c", "open")},
		fleet.Spec{
			Name: "open", Binary: binary, Config: open + `
http: "{{addr "monitor"}}"
websocket { listen: "{{addr "websocket"}}", no_tls: true }
leafnodes { listen: "{{addr "leafnode"}}" }
` + clustered("c", "keeper"),
			// Without a nonce nats.go does not even try with an nkey.
			Options: func(o *server.Options) { o.AlwaysEnableNonce = true },
		})
	g.open, g.keeper = g.fleet.Server("open"), g.fleet.Server("keeper")
	waitActive(t, g.fleet, g.keeper, 2)

	login := must(g.op.App.Login("app"))
	for name, opts := range map[string][]nats.Option{
		"nothing":        nil,
		"right password": {nats.UserInfo("app", "app-password")},
		"wrong password": {nats.UserInfo("app", "wrong")},
		"unknown user":   {nats.UserInfo("nobody", "app-password")},
		"right token":    {nats.Token(tokenOfTests)},
		"wrong token":    {nats.Token("another")},
		"listed nkey":    {nkeyOption(t, g.listed)},
		"other nkey":     {nkeyOption(t, g.other)},
		"jwt":            {login},
	} {
		if named := strings.Contains(name, "password") || strings.Contains(name, "token") || name == "unknown user"; named && !all {
			opts = append(opts, nats.IgnoreDiscoveredServers(), nats.NoReconnect())
			if _, err := nats.Connect(g.open.URL(), opts...); !errors.Is(err, nats.ErrAuthorization) {
				t.Errorf("%s at a server with a hidden user: %v", name, err)
			}
			continue
		}
		if binary != "" && strings.Contains(name, "nkey") {
			continue // without a nonce nats.go does not even try
		}
		g.join(t, name, g.open.URL(), opts...)
		if name == "nothing" || name == "right password" || name == "jwt" {
			g.join(t, "ws "+name, "ws://"+g.open.Addr("websocket"), opts...)
		}
	}
	for name, remote := range map[string]string{
		"edge-nothing": `url: "nats-leaf://{{addr "open" "leafnode"}}"`,
		"edge-user":    `url: "nats-leaf://app:app-password@{{addr "open" "leafnode"}}"`,
		"edge-wrong":   `url: "nats-leaf://app:wrong@{{addr "open" "leafnode"}}"`,
		"edge-jwt":     `url: "nats-leaf://{{addr "open" "leafnode"}}", credentials: "{{file "leaf.creds"}}"`,
	} {
		named := strings.Contains(remote, "@")
		if all || !named {
			g.leafs = append(g.leafs, name)
		}
		if _, err := g.fleet.Add(t.Context(), fleet.Spec{
			Name: name, Files: map[string]string{"leaf.creds": string(creds)},
			Config: fmt.Sprintf("log_file: %q\nleafnodes { reconnect: \"100ms\", remotes: [ { %s } ] }\n", g.log(name), remote),
		}); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(g.leafs)
	eventually(t, "all leafnodes are there", func() bool { return slices.Equal(g.leafsInside(t), g.leafs) })
	if !all {
		eventually(t, "a leafnode with a user name is told off by a server with a hidden user", func() bool {
			return strings.Contains(strings.ToLower(string(must(os.ReadFile(g.log("edge-user"))))), "authorization violation")
		})
	}
	return g
}

func (g *guests) log(leaf string) string { return filepath.Join(g.logs, leaf+".log") }

func (g *guests) join(t *testing.T, name, url string, opts ...nats.Option) {
	t.Helper()
	c := &caller{}
	told := func(err error) {
		if errors.Is(err, nats.ErrAuthorization) || err != nil && strings.Contains(strings.ToLower(err.Error()), "authorization violation") {
			c.refused.Add(1)
		}
	}
	c.nc = connect(t, url, append([]nats.Option{
		nats.Name(name), nats.IgnoreDiscoveredServers(), nats.IgnoreAuthErrorAbort(), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { told(err) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { told(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.failed.Add(1); told(err) }),
	}, opts...)...)
	g.clients[name] = c
}

func (g *guests) leafsInside(t *testing.T) []string {
	t.Helper()
	var names []string
	resp, err := http.Get("http://" + g.open.Addr("monitor") + "/leafz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var leafz server.Leafz
	if err := json.NewDecoder(resp.Body).Decode(&leafz); err != nil {
		t.Fatal(err)
	}
	for _, l := range leafz.Leafs {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

// predict asks the fleet and holds the open server against a candidate.
func (g *guests) predict(t *testing.T, c *inside.Candidate) (map[string]inside.Prediction, []string) {
	t.Helper()
	a := auditor(t, connectSys(t, g.keeper), collect.Config{})
	var out map[string]inside.Prediction
	var restart []string
	eventually(t, "a sweep that sees everybody", func() bool {
		state := sweep(t, a)
		out = map[string]inside.Prediction{}
		for _, p := range c.Lockout(state.Snapshot.Servers, state.Snapshot.Servers) {
			if p.Server == "open" && p.Door != posture.Route {
				if _, double := out[p.Name]; double || p.Count != 1 {
					t.Fatalf("two groups, or a group of %d, called %q", p.Count, p.Name)
				}
				out[p.Name] = p
			}
		}
		for _, s := range c.Order(state.Snapshot.Servers, nil) {
			if s.Server == "open" {
				restart = s.Restart
			}
		}
		return len(out) == len(g.clients)+len(g.leafs)
	})
	return out, restart
}

// settled tells of a client, once that is certain, whether it is in. The first
// tries after a restart may have begun before it.
func (g *guests) settled(t *testing.T, name string, since, failed int32) (in bool) {
	t.Helper()
	c := g.clients[name]
	eventually(t, name+" is let in or told off", func() bool {
		if (c.refused.Load() > since || c.failed.Load() > failed+3) && !c.nc.IsConnected() {
			return true
		}
		in = c.nc.IsConnected() && c.nc.FlushTimeout(time.Second) == nil && (g.withoutRestart || c.nc.ConnectedServerId() == g.open.ID())
		return in
	})
	return in
}

// settledAfresh does so of a client that was made to come back.
func (g *guests) settledAfresh(t *testing.T, name string) bool {
	t.Helper()
	c := g.clients[name]
	eventually(t, name+" has gone", func() bool { return !c.nc.IsConnected() || c.nc.Stats().Reconnects > 0 })
	return g.settled(t, name, c.refused.Load(), c.failed.Load())
}

// leafSettled does so of a leafnode.
func (g *guests) leafSettled(t *testing.T, name string, from int) (in bool) {
	t.Helper()
	eventually(t, name+" is let in or told off", func() bool {
		text := must(os.ReadFile(g.log(name)))
		if in = slices.Contains(g.leafsInside(t), name); in {
			return true
		}
		told := strings.ToLower(string(text[from:]))
		return strings.Contains(told, "authorization violation") || strings.Count(told, "connection refused") > 3
	})
	return in
}

// lockout is a candidate of the test below.
type lockout struct {
	name    string
	plan    string // that is held against the same guests; "" is none
	config  func(g *guests) string
	doors   func(g *guests) string // websocket and leafnodes; nil has them as they are
	restart bool                   // a reload does not do
	seen    map[string]bool        // predictions that must not be unknown, and whether they are kept
}

func lockouts() []lockout {
	return []lockout{
		{name: "token", plan: "token", config: func(*guests) string { return "authorization { token: " + tokenOfTests + " }" }, seen: map[string]bool{
			"nothing": false, "unknown user": false, "right password": false, "other nkey": false, "jwt": false, "ws nothing": false, "edge-nothing": false, "edge-user": false,
		}},
		{name: "one user", plan: "users", config: func(*guests) string { return "authorization { user: app, password: app-password }" }, seen: map[string]bool{
			"nothing": false, "unknown user": false, "right token": false, "other nkey": false, "edge-nothing": false,
		}},
		{name: "users", plan: "users", config: func(*guests) string {
			return `authorization { users: [ { user: app, password: app-password }, { user: second, password: second-password } ] }`
		}, seen: map[string]bool{"nothing": false, "unknown user": false, "right token": false, "edge-nothing": false}},
		{name: "nkeys", plan: "nkey", config: func(g *guests) string { return "authorization { users: [ { nkey: " + g.listedKey + " } ] }" }, seen: map[string]bool{
			"nothing": false, "right password": false, "right token": false, "other nkey": false, "jwt": false,
		}},
		{name: "operator", plan: "jwt", restart: true, config: func(g *guests) string {
			return fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload { %s: %s, %s: %s }\n", g.op.JWT, g.op.System.Public, g.op.System.JWT, g.op.App.Public, g.op.App.JWT)
		}, seen: map[string]bool{"right password": false, "right token": false, "edge-user": false}},
		{name: "bridge", restart: true, config: func(*guests) string {
			return `authorization { users: [ { user: app, password: app-password }, { user: bridge, password: bridge-password, permissions: { publish: orders, subscribe: "_INBOX.>" } } ] }
no_auth_user: bridge`
		}, seen: map[string]bool{
			"nothing": true, "jwt": true, "other nkey": true, "unknown user": false, "right token": false, "wrong token": false, "ws nothing": true, "edge-nothing": true, "edge-jwt": true,
		}},
		{name: "bridge and nkeys", restart: true, config: func(g *guests) string {
			return `authorization { users: [ { nkey: ` + g.listedKey + ` }, { user: bridge, password: bridge-password } ] }
no_auth_user: bridge`
		}, seen: map[string]bool{"nothing": true, "other nkey": false, "right password": false, "right token": false}},
		{name: "bridge with a hashed password", restart: true, config: func(*guests) string {
			return `authorization { users: [ { user: app, password: app-password }, { user: bridge, password: "` + hashedNow("bridge-password") + `" } ] }
no_auth_user: bridge`
		}, seen: map[string]bool{"nothing": false, "jwt": false, "edge-nothing": false}},
		{name: "bridge for websockets", restart: true, config: func(*guests) string {
			return `authorization { users: [ { user: app, password: app-password }, { user: bridge, password: bridge-password, allowed_connection_types: [WEBSOCKET] } ] }
no_auth_user: bridge`
		}, seen: map[string]bool{"nothing": false, "ws nothing": true, "edge-nothing": false}},
		{name: "bridge in an account", restart: true, config: func(*guests) string {
			return `accounts { APP { users: [ { user: app, password: app-password } ] }, OLD { users: [ { user: bridge, password: bridge-password } ] } }
no_auth_user: bridge`
		}, seen: map[string]bool{"nothing": true, "unknown user": false}},
		{name: "leafnode user", restart: true, config: func(*guests) string { return "accounts { APP { users: [ { user: app, password: app-password } ] } }" }, doors: func(g *guests) string {
			return fmt.Sprintf(openDoors, port(g.open.Addr("websocket")), "", port(g.open.Addr("leafnode")), ", authorization { user: app, password: app-password, account: APP }")
		}, seen: map[string]bool{"nothing": false, "edge-nothing": false, "edge-jwt": false}},
		{name: "leafnode users", restart: true, config: func(*guests) string { return "accounts { APP { users: [ { user: app, password: app-password } ] } }" }, doors: func(g *guests) string {
			return fmt.Sprintf(openDoors, port(g.open.Addr("websocket")), "", port(g.open.Addr("leafnode")), ", authorization { users: [ { user: other, password: other-password, account: APP } ] }")
		}, seen: map[string]bool{"nothing": false, "edge-nothing": false, "edge-user": false, "edge-wrong": false, "edge-jwt": false}},
		{name: "open on the websocket only", restart: true, config: func(*guests) string {
			return "accounts { APP { users: [ { user: app, password: app-password }, { user: browser, password: browser-password } ] } }"
		}, doors: func(g *guests) string {
			return fmt.Sprintf(openDoors, port(g.open.Addr("websocket")), ", no_auth_user: browser", port(g.open.Addr("leafnode")), "")
		}, seen: map[string]bool{"nothing": false, "ws nothing": true, "ws jwt": true}},
		{name: "no websocket and no leafnodes", restart: true, config: func(*guests) string { return "authorization { token: " + tokenOfTests + " }" }, doors: func(*guests) string {
			return ""
		}, seen: map[string]bool{"nothing": false, "ws nothing": false, "ws right password": false, "edge-nothing": false, "edge-user": false}},
		{name: "the hidden user", config: func(*guests) string { return sysAccount }, seen: map[string]bool{
			"nothing": true, "jwt": true, "other nkey": true, "unknown user": false, "right password": false, "right token": false, "edge-nothing": true, "edge-user": false,
		}},
		{name: "still open", config: func(*guests) string { return "accounts { APP { } }" }, seen: map[string]bool{
			"nothing": true, "unknown user": true, "wrong token": true, "edge-wrong": true, "ws nothing": true,
		}},
	}
}

// TestLockout: who is predicted to be kept is kept, who is predicted to be
// rejected is, and what cannot be known is only what servers do not show.
func TestLockout(t *testing.T) {
	t.Parallel()
	for _, l := range lockouts() {
		for _, way := range []string{"restart", "reload"} {
			t.Run(l.name+", "+way, func(t *testing.T) {
				t.Parallel()
				invite(t, "", "").rollTo(t, &l, way)
			})
		}
	}
}

// TestLockoutHiddenUser does the same where the server is open because only
// its system account has users.
func TestLockoutHiddenUser(t *testing.T) {
	t.Parallel()
	for _, l := range lockouts() {
		for _, way := range []string{"restart", "reload"} {
			t.Run(l.name+", "+way, func(t *testing.T) {
				t.Parallel()
				invite(t, sysAccount, "").rollTo(t, &l, way)
			})
		}
	}
}

// TestLockoutVersions does so with processes of old servers, whose leafnode ports
// let in more than those of today.
func TestLockoutVersions(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v2.9.25", "v2.10.29", "v2.11.17"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			binary, err := fleet.Binary(t.Context(), version)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range lockouts() {
				for _, open := range []string{"", sysAccount} {
					// The oldest shows names and tokens alike, so that neither is kept.
					maps.DeleteFunc(l.seen, func(name string, _ bool) bool { return strings.HasPrefix(name, "edge-") || version == "v2.9.25" })
					t.Run(fmt.Sprintf("%s, hidden user %t", l.name, open != ""), func(t *testing.T) {
						invite(t, open, binary).rollTo(t, &l, "restart")
					})
				}
			}
		})
	}
}

func port(address string) string { return address[strings.LastIndex(address, ":")+1:] }

func (g *guests) rollTo(t *testing.T, l *lockout, way string) {
	t.Helper()
	g.withoutRestart = way == "reload"
	text := l.config(g)
	if l.doors == nil {
		text += fmt.Sprintf(openDoors, port(g.open.Addr("websocket")), "", port(g.open.Addr("leafnode")), "")
	} else {
		text += l.doors(g)
	}
	text += "\nhttp: " + g.open.Addr("monitor")
	path := filepath.Join(t.TempDir(), "candidate.conf")
	if err := os.WriteFile(path, []byte(text+"\ncluster { listen: \""+g.open.Addr("route")+"\", name: c, authorization { user: r, password: route-password } }"), 0o600); err != nil {
		t.Fatal(err)
	}
	candidate, err := conffile.Candidate(conffile.OnDisk(path))
	if err != nil {
		t.Fatal(err)
	}
	predictions, restart := g.predict(t, candidate)
	if (len(restart) > 0) != l.restart {
		t.Errorf("it takes a restart because of %q", restart)
	}
	plan := map[string]inside.Prediction{}
	if c, ok := inside.Plan(l.plan); ok {
		plan, _ = g.predict(t, c)
	}

	refusedBefore, logBefore := map[string]int32{}, map[string]int{}
	for name, c := range g.clients {
		refusedBefore[name] = c.refused.Load()
	}
	for _, name := range g.leafs {
		logBefore[name] = len(must(os.ReadFile(g.log(name))))
	}
	rolled := text + clustered("c", "keeper")
	if way == "reload" {
		err := g.open.Reload(t.Context(), rolled)
		if (err != nil) != l.restart {
			t.Fatalf("reload: %v", err)
		}
		if err != nil {
			return
		}
		if in := g.leafsInside(t); len(in) != len(g.leafs) {
			t.Errorf("only the leafnodes %q outlive a reload", in)
		}
		for _, name := range g.leafs {
			if p := predictions[name]; p.Verdict == inside.Rejected != p.Lingers {
				t.Errorf("%s is predicted to be %s, and to outlive a reload: %t", name, p.Verdict, p.Lingers)
			}
		}
	} else if err := errors.Join(g.open.Rewrite(rolled), g.open.Stop(t.Context()), g.open.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}

	// lingers: it may still be there although it is rejected.
	hold := func(name string, p, plan inside.Prediction, in, lingers bool) {
		for _, p := range []inside.Prediction{p, plan} {
			if lingers && p.Verdict == inside.Rejected && p.Lingers {
				continue
			}
			if p.Verdict == inside.Kept && !in || p.Verdict == inside.Rejected && in {
				t.Errorf("%s is in: %t, and was predicted to be %s: %s", name, in, p.Verdict, p.Why)
			}
		}
		want, ok := l.seen[name]
		if ok && (p.Verdict == inside.Unknown || p.Verdict == inside.Kept != want) {
			t.Errorf("%s is predicted to be %s: %s", name, p.Verdict, p.Why)
		}
		t.Logf("%-16s in: %-5t predicted: %s (%s); plan: %s", name, in, p.Verdict, p.Why, plan.Verdict)
	}
	failed := map[string]int32{}
	for name, c := range g.clients {
		failed[name] = c.failed.Load()
	}
	for name, c := range g.clients {
		p, in := predictions[name], g.settled(t, name, refusedBefore[name], failed[name])
		hold(name, p, plan[name], in, way == "reload")
		if p.Lingers && in {
			if err := c.nc.ForceReconnect(); err != nil {
				t.Fatal(err)
			}
			hold(name, p, plan[name], g.settledAfresh(t, name), false)
		}
	}
	for _, name := range g.leafs {
		if way == "reload" { // it is looked at when it comes back
			logBefore[name] = len(must(os.ReadFile(g.log(name))))
			leaf := g.fleet.Server(name)
			if err := leaf.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			eventually(t, name+" is gone", func() bool { return !slices.Contains(g.leafsInside(t), name) })
			if err := leaf.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		hold(name, predictions[name], plan[name], g.leafSettled(t, name, logBefore[name]), false)
	}
}

// TestLockoutCluster rolls a cluster in the order that is predicted: a client
// that brings nothing moves on until the last server has the candidate, and the
// servers stay together although a user is demanded of routes on the way.
func TestLockoutCluster(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "keeper"}
	routes := func(login string) string {
		var urls []string
		for _, n := range names {
			urls = append(urls, fmt.Sprintf(`"nats-route://%s{{addr %q "route"}}"`, login, n))
		}
		return strings.Join(urls, ", ")
	}
	cluster := func(login, auth string) string {
		return fmt.Sprintf("cluster { name: c, listen: \"{{addr \"route\"}}\", %s\n  routes: [ %s ] }\n", auth, routes(login))
	}
	before, after := cluster("", ""), cluster("r:route-password@", "authorization { user: r, password: route-password }")
	f := start(t,
		fleet.Spec{Name: "a", Config: before}, fleet.Spec{Name: "b", Config: before}, fleet.Spec{Name: "keeper", Config: closedApp + before})
	keeper := f.Server("keeper")
	waitActive(t, f, keeper, 3)
	told := &atomic.Int32{}
	nc := connect(t, f.Server("a").URL(), nats.Name("nothing"), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(20*time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) { told.Add(1) }))
	eventually(t, "the client knows the cluster", func() bool { return len(nc.DiscoveredServers()) >= 2 })

	path := filepath.Join(t.TempDir(), "candidate.conf")
	text := "cluster { name: c, listen: \"" + f.Server("a").Addr("route") + "\", authorization { user: r, password: route-password } }\n" + closedApp
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	candidate, err := conffile.Candidate(conffile.OnDisk(path))
	if err != nil {
		t.Fatal(err)
	}
	state := sweep(t, auditor(t, connectSys(t, keeper), collect.Config{}))
	out := candidate.Outlook(state.Snapshot.Servers, state.Snapshot.Servers)
	for _, p := range out.Predictions {
		switch {
		case p.Door == posture.Route:
			t.Errorf("the route of %s to %s is predicted to be %s: %s", p.Server, p.Name, p.Verdict, p.Why)
		case p.Name == "nothing" && (p.Server != "a" || p.Verdict != inside.Rejected):
			t.Errorf("the client is predicted to be %s at %s: %s", p.Verdict, p.Server, p.Why)
		}
	}
	if !slices.ContainsFunc(out.Advice, func(a string) bool { return strings.HasPrefix(a, "Between servers a user will be demanded") }) {
		t.Errorf("nothing is said of the user of routes: %q", out.Advice)
	}
	if last := out.Order[len(out.Order)-1]; last.Server != "a" || last.Rejected != 1 {
		t.Errorf("the server with the client is not the last one: %+v", out.Order)
	}
	if out.Bridge == nil {
		t.Error("no bridge for a client that brings nothing")
	}
	for i, step := range out.Order {
		s := f.Server(step.Server)
		if err := errors.Join(s.Rewrite(closedApp+after), s.Stop(t.Context()), s.Restart(t.Context())); err != nil {
			t.Fatal(err)
		}
		waitActive(t, f, keeper, 3)
		if i < len(out.Order)-1 {
			eventually(t, "the client is at a server that is open yet", func() bool { return nc.IsConnected() && nc.ConnectedServerName() != step.Server })
			continue
		}
		from := told.Load()
		eventually(t, "the client gets in nowhere", func() bool { return told.Load() > from+3 && !nc.IsConnected() })
	}

	// One that has no user for routes cannot dial those that demand one, which a
	// restart of the others shows: they dial it.
	b := f.Server("b")
	if err := errors.Join(b.Rewrite(closedApp+cluster("", "")), b.Stop(t.Context()), b.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	waitActive(t, f, keeper, 3)
}

// TestLockoutReloadKeepsUsers: a reload that puts a token in the place of users
// leaves them able to log in, and one that drops a no_auth_user with its user is
// taken.
func TestLockoutReloadKeepsUsers(t *testing.T) {
	t.Parallel()
	const users = "authorization { users: [ { user: app, password: app-password }, { user: guest, password: guest-password } ] }\n"
	f := start(t, fleet.Spec{Name: "n1", Config: users + "no_auth_user: guest\n"})
	n1 := f.Server("n1")
	if err := n1.Reload(t.Context(), users); err == nil {
		t.Error("a reload took the no_auth_user away and left its user")
	}
	if err := n1.Reload(t.Context(), "authorization { users: [ { user: app, password: app-password } ] }\n"); err != nil {
		t.Errorf("a reload that drops the no_auth_user and its user: %v", err)
	}
	if _, err := nats.Connect(n1.URL()); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("somebody who brings nothing: %v", err)
	}
	token := "authorization { token: " + tokenOfTests + " }\n"
	if err := n1.Reload(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	connect(t, n1.URL(), nats.Token(tokenOfTests))
	nc, err := nats.Connect(n1.URL(), nats.UserInfo("app", "app-password"))
	if err != nil {
		t.Fatalf("nats-server forgets its users now when a reload puts a token in their place: %v", err)
	}
	nc.Close()
	if err := errors.Join(n1.Stop(t.Context()), n1.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := nats.Connect(n1.URL(), nats.UserInfo("app", "app-password")); !errors.Is(err, nats.ErrAuthorization) {
		t.Errorf("after a restart: %v", err)
	}
}

// mqttNothing opens an MQTT session without a user name, and tells whether it was
// let in. It stays until the test ends.
func mqttNothing(t *testing.T, s *fleet.Server) bool {
	t.Helper()
	conn := must(net.Dial("tcp", s.Addr("mqtt")))
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	const cleanSession, id = 2, "device"
	packet := append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, cleanSession, 0, 0, 0, byte(len(id))}, id...)
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if _, err := io.ReadFull(conn, answer); err != nil || answer[0] != 0x20 {
		t.Fatalf("% x, %v", answer, err)
	}
	return answer[3] == 0
}

// TestLockoutMQTT: a device that brings nothing, on a server with a hidden user.
func TestLockoutMQTT(t *testing.T) {
	t.Parallel()
	const users = "authorization { users: [ { user: app, password: app-password }, { user: device, password: device-password%s } ] }\n"
	for _, c := range []struct {
		name, config, mqtt string
		want               inside.Verdict
	}{
		{"users", fmt.Sprintf(users, ""), "", inside.Rejected},
		{"users and an override", fmt.Sprintf(users, ""), ", no_auth_user: device", inside.Kept},
		{"bridge", fmt.Sprintf(users, "") + "no_auth_user: device\n", "", inside.Kept},
		{"bridge for others", fmt.Sprintf(users, ", allowed_connection_types: [STANDARD]") + "no_auth_user: device\n", "", inside.Rejected},
		{"bridge for it", fmt.Sprintf(users, ", allowed_connection_types: [MQTT, MQTT_WS]") + "no_auth_user: device\n", "", inside.Kept},
		{"token", "authorization { token: " + tokenOfTests + " }\n", "", inside.Rejected},
		{"a token of its own", "", ", authorization { token: " + tokenOfTests + " }", inside.Rejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			js := func(s string) string { return "jetstream { store_dir: \"" + s + "\" }\n" }
			f := start(t, fleet.Spec{Name: "n1", Config: sysAccount + js("{{dir}}") + "mqtt { listen: \"{{addr \"mqtt\"}}\" }"})
			n1 := f.Server("n1")
			if !mqttNothing(t, n1) {
				t.Fatal("the device is not let in by a hidden user")
			}
			dir := t.TempDir()
			rolled := c.config + js(dir) + "mqtt { listen: \"" + n1.Addr("mqtt") + "\"" + c.mqtt + " }"
			path := filepath.Join(t.TempDir(), "candidate.conf")
			if err := os.WriteFile(path, []byte("server_name: n1\n"+rolled), 0o600); err != nil {
				t.Fatal(err)
			}
			candidate, err := conffile.Candidate(conffile.OnDisk(path))
			if err != nil {
				t.Fatal(err)
			}
			state := sweep(t, auditor(t, connectSys(t, n1), collect.Config{}))
			predictions := candidate.Lockout(state.Snapshot.Servers, state.Snapshot.Servers)
			if len(predictions) != 1 || predictions[0].Door != posture.MQTT || predictions[0].Verdict != c.want {
				t.Fatalf("%+v, want %s", predictions, c.want)
			}
			if err := errors.Join(n1.Rewrite(rolled), n1.Stop(t.Context()), n1.Restart(t.Context())); err != nil {
				t.Fatal(err)
			}
			if in := mqttNothing(t, n1); in != (c.want == inside.Kept) {
				t.Errorf("in: %t, and was predicted to be %s: %s", in, c.want, predictions[0].Why)
			}
		})
	}
}

// TestLockoutGateways: gateways are told of when they would be cut, and are then.
func TestLockoutGateways(t *testing.T) {
	t.Parallel()
	f := start(t, clusters(2, 1, sysAccount)...)
	here, there := f.Servers()[0], f.Servers()[1]
	waitActive(t, f, here, 2)
	a := auditor(t, connectSys(t, here), collect.Config{Topology: 1})
	gateways := func() (all []posture.Peer) {
		for _, p := range sweep(t, a).Snapshot.Server(here.ID()).Peers {
			if p.Door == posture.Gateway {
				all = append(all, p)
			}
		}
		return all
	}
	eventually(t, "both gateways are there", func() bool { return len(gateways()) == 2 })

	predict := func(block string) (rejected []string, restart []string) {
		path := filepath.Join(t.TempDir(), "candidate.conf")
		text := sysAccount + "cluster { name: c1, listen: \"" + there.Addr("route") + "\" }\n" + block
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		candidate, err := conffile.Candidate(conffile.OnDisk(path))
		if err != nil {
			t.Fatal(err)
		}
		snap := a.State().Snapshot
		out := candidate.Outlook([]*posture.Server{snap.Server(there.ID())}, snap.Servers)
		for _, p := range out.Predictions {
			if p.Door == posture.Gateway && p.Verdict == inside.Rejected && p.Lingers {
				rejected = append(rejected, p.Name)
			}
		}
		return rejected, out.Order[0].Restart
	}
	if rejected, restart := predict(""); !slices.Equal(rejected, []string{here.Name()}) || len(restart) == 0 {
		t.Errorf("without gateways: %q are cut, and a restart is for %q", rejected, restart)
	}
	if rejected, restart := predict("gateway { name: c1, listen: \"" + there.Addr("gateway") + "\", authorization { user: g, password: gateway-password } }"); len(rejected) != 0 || len(restart) == 0 {
		t.Errorf("with a user for gateways: %q are cut, and a restart is for %q", rejected, restart)
	}
	rolled := sysAccount + "cluster { name: c1, listen: \"{{addr \"route\"}}\" }\n"
	if err := there.Reload(t.Context(), rolled); err == nil {
		t.Error("a reload took the gateway away")
	}
	if err := errors.Join(there.Stop(t.Context()), there.Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the gateways are gone", func() bool { return len(gateways()) == 0 })
}
