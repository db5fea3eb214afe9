package integration

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// guestInApp is a server whose no_auth_user opens it, though VARZ reports
// auth_required.
const guestInApp = closedApp + "no_auth_user: app\n"

// unused is the address of a port on which nobody listens.
func unused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return addr
}

// balancer hands each TCP connection to one of the backends that choose names.
type balancer struct {
	addr     string
	mu       sync.Mutex
	backends []string
	next     atomic.Uint32
}

// balance starts a load balancer that takes its backends in turn.
func balance(t *testing.T) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{addr: l.Addr().String()}
	var wg sync.WaitGroup
	conns := make(chan net.Conn, 10_000)
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		close(conns)
		for c := range conns {
			_ = c.Close()
		}
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			conns <- in
			go b.relay(in)
		}
	})
	return b
}

func (b *balancer) to(backends ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = backends
}

func (b *balancer) relay(in net.Conn) {
	b.mu.Lock()
	backends := b.backends
	b.mu.Unlock()
	defer func() { _ = in.Close() }()
	if len(backends) == 0 {
		return
	}
	out, err := net.Dial("tcp", backends[int(b.next.Add(1))%len(backends)])
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// tries are the failed tries among the evidence about a door.
func tries(d *posture.Door) (out []string) {
	for _, e := range d.Evidence {
		if e.Tried() {
			out = append(out, e.Source+": "+e.Value)
		}
	}
	return out
}

// proven asserts an access that a touch has proven.
func proven(t *testing.T, state *agent.State, server string, kind posture.DoorKind, want posture.Access) *posture.Door {
	t.Helper()
	d := door(t, state, server, kind)
	if d.Access != want || d.Basis != posture.Proven {
		t.Errorf("the %s door of %s is %s (%s), want %s: %s %+v", kind, server, d.Access, d.Basis, want, d.Reason, d.Evidence)
	}
	return d
}

// TestAdvertisedAddress: where clients are told to connect is an address that
// nobody reaches from here. The listener is found where natsentry is itself
// connected, and the try that failed is part of the evidence.
func TestAdvertisedAddress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config string
		want   posture.Access
	}{
		"open":   {guestInApp, posture.Open},
		"closed": {closedApp, posture.Closed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nowhere := unused(t)
			f := start(t, fleet.Spec{Name: "n1", Config: c.config + fmt.Sprintf("client_advertise: %q\n", nowhere)})
			state := sweep(t, toucher(t, connectSys(t, f.Server("n1"), nats.IgnoreDiscoveredServers())))
			d := proven(t, state, "n1", posture.Client, c.want)
			if want := []string{"dial " + nowhere + ": connection refused"}; !slices.Equal(tries(d), want) {
				t.Errorf("tries: %q, want %q", tries(d), want)
			}
			if own := f.Server("n1").Addr("client"); d.Reached != own || d.Elsewhere() != own || d.Address() != nowhere {
				t.Errorf("reached at %s (elsewhere %q) and not at %s, advertised as %s", d.Reached, d.Elsewhere(), own, d.Address())
			}
			if fs := found(state, "DOOR_001", "n1"); (len(fs) == 1) != (c.want == posture.Open) {
				t.Errorf("DOOR_001: %+v", fs)
			}
		})
	}
}

// TestAdvertisedToPeersOnly: natsentry is connected to another member, and
// knows the host of this one by its route.
func TestAdvertisedToPeersOnly(t *testing.T) {
	t.Parallel()
	nowhere := unused(t)
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2")},
		// A name of the listener that the fleet does not resolve.
		fleet.Spec{Name: "n2", Config: guestInApp + clustered("c", "n1") + "client_advertise: \"nobody.invalid:{{port \"client\"}}\"\n"},
		fleet.Spec{Name: "n3", Config: closedApp + clustered("c", "n1") + fmt.Sprintf("client_advertise: %q\n", nowhere)},
	)
	waitActive(t, f, f.Server("n1"), 3)
	state := sweep(t, toucher(t, connectSys(t, f.Server("n1"), nats.IgnoreDiscoveredServers())))
	proven(t, state, "n1", posture.Client, posture.Closed)
	d := proven(t, state, "n2", posture.Client, posture.Open)
	if d.Reached != f.Server("n2").Addr("client") || len(tries(d)) != 1 || !strings.HasPrefix(tries(d)[0], "dial nobody.invalid:") {
		t.Errorf("n2 was reached at %s, after %q", d.Reached, tries(d))
	}
	// Nobody knows the port of n3: it is not guessed, and the reason is given.
	d = door(t, state, "n3", posture.Client)
	if d.Access != posture.Closed || d.Basis != posture.Reported || d.Reached != "" {
		t.Errorf("n3: %s (%s) at %q", d.Access, d.Basis, d.Reached)
	}
	if want := []string{"dial " + nowhere + ": connection refused"}; !slices.Equal(tries(d), want) {
		t.Errorf("tries at n3: %q, want %q", tries(d), want)
	}
	fs := found(state, "DOOR_009", "n3")
	if !slices.ContainsFunc(fs, func(f finding.Finding) bool {
		return f.Scope.Door == posture.Client && strings.Contains(f.Summary, "dial "+nowhere+": connection refused")
	}) {
		t.Errorf("DOOR_009: %+v", fs)
	}
}

// TestBehindOneBalancer: all members advertise the same load balancer. What a
// server answers there counts for that server, whichever was asked.
func TestBehindOneBalancer(t *testing.T) {
	t.Parallel()
	b := balance(t)
	advertise := fmt.Sprintf("client_advertise: %q\n", b.addr)
	f := start(t,
		fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "n2", "n3") + advertise},
		fleet.Spec{Name: "n2", Config: closedApp + clustered("c", "n1", "n3") + advertise},
		fleet.Spec{Name: "n3", Config: guestInApp + clustered("c", "n1", "n2") + advertise},
	)
	waitActive(t, f, f.Server("n1"), 3)
	b.to(f.Server("n1").Addr("client"), f.Server("n2").Addr("client"), f.Server("n3").Addr("client"))
	nc := connect(t, "nats://"+b.addr, nats.UserInfo(sysUser, sysPassword), nats.IgnoreDiscoveredServers())
	for range 3 {
		state := sweep(t, toucher(t, nc))
		proven(t, state, "n1", posture.Client, posture.Closed)
		proven(t, state, "n2", posture.Client, posture.Closed)
		proven(t, state, "n3", posture.Client, posture.Open)
		onlyOwnInfo(t, state)
		if fs := found(state, "SESS_002", ""); len(fs) != 0 {
			t.Errorf("our own touches were counted as failures: %+v", fs)
		}
	}

	// One that sends everybody to the same server proves nothing of the others.
	b.to(f.Server("n1").Addr("client"))
	state := sweep(t, toucher(t, nc))
	proven(t, state, "n1", posture.Client, posture.Closed)
	for _, name := range []string{"n2", "n3"} {
		d := door(t, state, name, posture.Client)
		if d.Basis == posture.Proven || d.Reached != "" || outcome(state, "DOOR_001", name, posture.Client) != check.Unknown {
			t.Errorf("%s: %s (%s), reached at %q", name, d.Access, d.Basis, d.Reached)
		}
		if got := tries(d); len(got) != 1 || !strings.Contains(got[0], `another server answers: "n1"`) {
			t.Errorf("tries at %s: %q", name, got)
		}
	}
	onlyOwnInfo(t, state)
}

// onlyOwnInfo asserts that no touch brings what another server said.
func onlyOwnInfo(t *testing.T, state *agent.State) {
	t.Helper()
	for _, s := range state.Snapshot.Servers {
		for _, touch := range s.Touches {
			if touch.ServerID != "" && touch.ServerID != s.ID || touch.ServerID == "" && touch.AuthRequired != posture.Unseen {
				t.Errorf("%s has what %q (%s) said: %+v", s.Name, touch.ServerName, touch.ServerID, touch)
			}
		}
	}
}

// TestUnknownServerAtTheAddress: a server of another fleet answers where ours
// should. It counts for nobody, and gets no CONNECT.
func TestUnknownServerAtTheAddress(t *testing.T) {
	t.Parallel()
	b := balance(t)
	ours := start(t, fleet.Spec{Name: "n1", Config: closedApp + clustered("c")}, fleet.Spec{
		Name: "n2", Config: closedApp + clustered("c", "n1") + fmt.Sprintf("client_advertise: %q\n", b.addr),
	})
	waitActive(t, ours, ours.Server("n1"), 2)
	theirs := start(t, fleet.Spec{Name: "n2", Config: sysAccount + "authorization { users: [ { user: app, password: app } ] }\n"})
	b.to(theirs.Server("n2").Addr("client"))
	failures := make(chan *nats.Msg, 100)
	watcher := connectSys(t, theirs.Server("n2"))
	if _, err := watcher.ChanSubscribe("$SYS.SERVER.*.CLIENT.AUTH.ERR", failures); err != nil {
		t.Fatal(err)
	}
	if err := watcher.Flush(); err != nil {
		t.Fatal(err)
	}
	state := sweep(t, toucher(t, connectSys(t, ours.Server("n1"), nats.IgnoreDiscoveredServers())))
	d := door(t, state, "n2", posture.Client)
	if d.Access != posture.Closed || d.Basis != posture.Reported {
		t.Errorf("%s (%s): %+v", d.Access, d.Basis, d.Evidence)
	}
	if got := tries(d); len(got) != 1 || !strings.Contains(got[0], theirs.Server("n2").ID()) {
		t.Errorf("tries: %q", got)
	}
	onlyOwnInfo(t, state)
	// What the server has heard of the touches is told before it answers us.
	if _, err := watcher.Request("$SYS.REQ.SERVER.PING.VARZ", nil, 10e9); err != nil {
		t.Fatal(err)
	}
	if len(failures) > 0 {
		t.Errorf("the other fleet's server had to refuse us: %s", (<-failures).Data)
	}
}

// TestLeafnodesOfOneName: two leafnodes carry the same name. Each is looked for
// wherever the hub sees that name.
func TestLeafnodesOfOneName(t *testing.T) {
	t.Parallel()
	const named = "server_name: edge\n"
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "e1", Config: named + guestInApp + clustered("e1") + remote("leaf-sys", "$SYS")},
		fleet.Spec{Name: "e2", Config: named + guestInApp + clustered("e2") + remote("leaf-sys", "$SYS")},
		fleet.Spec{Name: "e3", Config: named + closedApp + clustered("e3") + remote("leaf-sys", "$SYS")},
	)
	a := toucher(t, connectSys(t, f.Server("hub")))
	var state *agent.State
	eventually(t, "all leafnodes answer", func() bool {
		state = sweep(t, a)
		return state.Snapshot.Heard == 4
	})
	for name, want := range map[string]posture.Access{"e1": posture.Open, "e2": posture.Open, "e3": posture.Closed} {
		proven(t, state, f.Server(name).ID(), posture.Client, want)
	}
}

// TestSilentMembers: a member without a system account, or with another one,
// answers nobody. Its listeners are found by what its peers tell, and no port is
// guessed: those that no peer tells of stay unknown.
func TestSilentMembers(t *testing.T) {
	t.Parallel()
	const none = `
no_system_account: true
accounts { APP { users: [ { user: app, password: app-password } ] } }
`
	listeners := `
websocket { listen: "{{addr "ws"}}", no_tls: true }
leafnodes { listen: "{{addr "leaf"}}" }
http: "{{addr "monitor"}}"
`
	type listens = map[posture.DoorKind]posture.Access
	for name, c := range map[string]struct {
		config string
		want   listens
	}{
		"another system account, open":   {ownSystem + "no_auth_user: app\n", listens{posture.Client: posture.Open, posture.Websocket: posture.Open, posture.Route: posture.Closed}},
		"another system account, closed": {ownSystem, listens{posture.Client: posture.Closed, posture.Websocket: posture.Closed, posture.Route: posture.Closed}},
		"no system account, open":        {none + "no_auth_user: app\n", listens{posture.Client: posture.Open, posture.Websocket: posture.Open, posture.Route: posture.Closed}},
		"no system account, closed":      {none, listens{posture.Client: posture.Closed, posture.Websocket: posture.Closed, posture.Route: posture.Closed}},
	} {
		// Who dials whom decides which ports the peers see.
		for topology, routes := range map[string]map[string][]string{
			"all name all":    {"n1": {"n2", "n3"}, "n2": {"n1", "n3"}, "n3": {"n1", "n2"}},
			"it names others": {"n1": nil, "n2": {"n1"}, "n3": {"n1"}},
			"others name it":  {"n1": {"n3"}, "n2": {"n3"}, "n3": nil},
		} {
			t.Run(name+", "+topology, func(t *testing.T) {
				t.Parallel()
				f := start(t,
					fleet.Spec{Name: "n1", Config: closedApp + clustered("c", routes["n1"]...)},
					fleet.Spec{Name: "n2", Config: closedApp + clustered("c", routes["n2"]...)},
					fleet.Spec{Name: "n3", Config: c.config + listeners + clustered("c", routes["n3"]...)},
				)
				waitRoutes(t, f, 2)
				a := toucherOf(t, connectSys(t, f.Server("n1")), hasty)
				id := f.Server("n3").ID()
				state := sweep(t, a)
				for kind, want := range c.want {
					if kind == posture.Route && topology == "it names others" {
						// It may have made all of its connections itself: then no peer knows the port.
						if d := door(t, state, id, kind); d.Access != want && d.Access != posture.Unknown {
							t.Errorf("the route listener is %s", d.Access)
						}
						continue
					}
					d := proven(t, state, id, kind, want)
					if label := map[posture.DoorKind]string{posture.Client: "client", posture.Websocket: "ws", posture.Route: "route"}[kind]; d.Address() != f.Server("n3").Addr(label) {
						t.Errorf("the %s listener is at %s, and not at %q", kind, f.Server("n3").Addr(label), d.Address())
					}
				}
				for _, kind := range []posture.DoorKind{posture.Leafnode, posture.Monitor, posture.MQTT, posture.Gateway} {
					if d := door(t, state, id, kind); d.Access != posture.Unknown || d.Reason == "" {
						t.Errorf("the %s listener, of which nobody tells, is %s", kind, d.Access)
					}
				}
				if fs := found(state, "DOOR_001", "n3"); (len(fs) == 1) != (c.want[posture.Client] == posture.Open) {
					t.Errorf("DOOR_001: %+v", fs)
				}
				fs := found(state, "FLEET_005", "n3")
				if len(fs) != 1 || !strings.Contains(fs[0].Summary, "its listeners do: it has another system account, or none") {
					t.Errorf("FLEET_005: %+v", fs)
				}
				if !hasGap(state, id) {
					t.Errorf("its silence is no gap any more: %+v", state.Snapshot.Gaps)
				}
				for _, name := range []string{"n1", "n2"} {
					proven(t, state, name, posture.Client, posture.Closed)
				}
				onlyOwnInfo(t, state)
			})
		}
	}
}

// waitRoutes waits until every server has routes to n others.
func waitRoutes(t *testing.T, f *fleet.Fleet, n int) {
	t.Helper()
	eventually(t, "all routes are there", func() bool {
		for _, s := range f.Servers() {
			z, err := s.Embedded().Routez(nil)
			if err != nil {
				t.Fatal(err)
			}
			peers := map[string]bool{}
			for _, r := range z.Routes {
				peers[r.RemoteID] = true
			}
			if len(peers) < n || len(s.Embedded().ClusterName()) == 0 {
				return false
			}
		}
		return true
	})
}

// ownSystem is a server with a system account of its own.
const ownSystem = `
accounts {
  OWN { users: [ { user: other, password: other-password } ] }
  APP { users: [ { user: app, password: app-password } ] }
}
system_account: OWN
`

// TestLeafnodesOfTheirOwnSystem: a leafnode with its own system account is
// named as not audited, until the operator gives an address of it.
func TestLeafnodesOfTheirOwnSystem(t *testing.T) {
	t.Parallel()
	const leaf = "leafnodes { remotes: [ { url: \"nats-leaf://leaf-app:leaf-password@{{addr \"hub\" \"leafnode\"}}\", account: APP } ] }\n"
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "joined", Config: closedApp + remote("leaf-sys", "$SYS")},
		fleet.Spec{Name: "edge-8", Config: ownSystem + leaf},
		fleet.Spec{Name: "edge-9", Config: ownSystem + "no_auth_user: app\nwebsocket { listen: \"{{addr \"ws\"}}\", no_tls: true }\n" + leaf},
		// It carries the name of one that answers.
		fleet.Spec{Name: "twin", Config: "server_name: joined\n" + ownSystem + clustered("twin") + leaf},
	)
	eventually(t, "the leafnodes joined", func() bool { return f.Server("hub").Embedded().NumLeafNodes() == 4 })
	waitActive(t, f, f.Server("hub"), 2)
	nc := connectSys(t, f.Server("hub"))
	named := func(state *agent.State) (names []string) {
		for _, u := range state.Report().Coverage.NotAudited {
			if u.Role != "leafnode" || u.Reason != posture.OwnSystemAccount || !slices.Equal(u.Accounts, []string{"APP"}) || !slices.Equal(u.Hosts, []string{"127.0.0.1"}) || !slices.Equal(u.KnownBy, []string{"hub"}) {
				t.Errorf("not audited: %+v", u)
			}
			names = append(names, u.Name)
		}
		return names
	}
	state := sweep(t, toucher(t, nc))
	if want := []string{"edge-8", "edge-9", "joined"}; !slices.Equal(named(state), want) {
		t.Errorf("not audited: %q, want %q", named(state), want)
	}
	if s := state.Snapshot; s.Expected != 2 || s.Heard != 2 || len(s.Gaps) != 0 || len(s.Servers) != 2 {
		t.Errorf("expected %d, heard %d, %d servers, gaps %+v", s.Expected, s.Heard, len(s.Servers), s.Gaps)
	}

	nowhere := unused(t)
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	policy.Addresses = map[string][]string{
		"edge-9": {f.Server("edge-9").Addr("client"), f.Server("edge-9").Addr("ws")},
		"edge-8": {nowhere},
		"joined": {f.Server("joined").Addr("client")}, // it answers; the address is as good as any
	}
	now := time.Now()
	a, err := agent.New(nc, agent.Config{System: "test", Policy: policy, Rules: prompt}, agent.WithClock(func() time.Time { return now }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	for range 2 {
		state = sweep(t, a)
		id := f.Server("edge-9").ID()
		for _, kind := range []posture.DoorKind{posture.Client, posture.Websocket} {
			proven(t, state, id, kind, posture.Open)
		}
		srv := state.Snapshot.Server(id)
		if srv == nil || srv.Name != "edge-9" || srv.State != posture.Foreign || len(srv.Doors) != 2 {
			t.Errorf("found: %+v", srv)
		}
		if fs := found(state, "DOOR_001", "edge-9"); len(fs) != 1 || fs[0].Scope.ServerID != id || fs[0].Severity != check.Critical {
			t.Errorf("DOOR_001: %+v", fs)
		}
		if fs := found(state, "FLEET_005", ""); len(fs) != 0 {
			t.Errorf("FLEET_005: %+v", fs)
		}
		if want := []string{"edge-8", "joined"}; !slices.Equal(named(state), want) {
			t.Errorf("not audited: %q, want %q", named(state), want)
		}
		tried := state.Report().Coverage.NotAudited[0].Tried
		if len(tried) != 1 || tried[0].Source != "dial "+nowhere || !strings.HasPrefix(tried[0].Value, "connection refused") {
			t.Errorf("tried: %+v", tried)
		}
		if s := state.Snapshot; s.Expected != 2 || s.Heard != 2 || len(s.Gaps) != 0 || len(s.Servers) != 3 {
			t.Errorf("expected %d, heard %d, %d servers, gaps %+v", s.Expected, s.Heard, len(s.Servers), s.Gaps)
		}
	}
	// Once its listeners are gone nothing of them is known: the finding does not end for that.
	id := f.Server("edge-9").ID()
	if err := f.Server("edge-9").Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		now = now.Add(11 * time.Minute)
		state = sweep(t, a)
	}
	if d := door(t, state, id, posture.Client); d.Access != posture.Unknown || !strings.Contains(d.Reason, "connection refused") {
		t.Errorf("the listener of a server that is gone: %s (%s) %s", d.Access, d.Basis, d.Reason)
	}
	if fs := found(state, "DOOR_001", "edge-9"); len(fs) != 1 || fs[0].Action != finding.Stale {
		t.Errorf("DOOR_001: %+v", fs)
	}
}

// TestAddressesOfARunningAgent: a policy that is read again brings addresses,
// and takes them away.
func TestAddressesOfARunningAgent(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "hub", Config: hub},
		fleet.Spec{Name: "edge", Config: ownSystem + "no_auth_user: app\nleafnodes { remotes: [ { url: \"nats-leaf://leaf-app:leaf-password@{{addr \"hub\" \"leafnode\"}}\", account: APP } ] }\n"},
	)
	eventually(t, "the leafnode joined", func() bool { return f.Server("hub").Embedded().NumLeafNodes() == 1 })
	a := toucher(t, connectSys(t, f.Server("hub")))
	runs(t, a)
	lists := func(unaudited, foreign int) func() bool {
		return func() bool {
			state := a.State()
			if state == nil {
				return false
			}
			n := 0
			for _, s := range state.Snapshot.Servers {
				if s.State == posture.Foreign {
					n++
				}
			}
			return len(state.Snapshot.Unaudited) == unaudited && n == foreign
		}
	}
	eventually(t, "the leafnode is named", lists(1, 0))
	policy := check.DefaultPolicy()
	policy.LoopbackExposed = true
	policy.Addresses = map[string][]string{"edge": {f.Server("edge").Addr("client")}}
	a.SetPolicy(t.Context(), policy)
	eventually(t, "the leafnode is touched", lists(0, 1))
	eventually(t, "its listener is a finding", func() bool { return len(found(a.State(), "DOOR_001", "edge")) == 1 })
	policy.Addresses = nil
	a.SetPolicy(t.Context(), policy)
	eventually(t, "it is not looked at any more", lists(0, 0))
	if _, err := a.Scan(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is named again", lists(1, 0))
}
