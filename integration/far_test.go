package integration

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
	"github.com/natsentry/natsentry/integration/fleet"
)

// farServers are listeners of every kind, in every order in which the two sides
// may begin to speak. Their TLS has time for a handshake over a long way.
var farServers = []struct {
	name, config string
	label        string
	target       probe.Target
	want         posture.Access
}{
	{"client", closedApp, "client", probe.Target{Door: posture.Client}, posture.Closed},
	{"client, open", "", "client", probe.Target{Door: posture.Client}, posture.Open},
	{"client, TLS after INFO", closedApp + tlsBlock("timeout: 20"), "client", probe.Target{Door: posture.Client}, posture.Closed},
	{"client, TLS after INFO, open", tlsBlock("timeout: 20"), "client", probe.Target{Door: posture.Client}, posture.Open},
	{"client, certificates verified", tlsBlock("timeout: 20, verify: true"), "client", probe.Target{Door: posture.Client}, posture.Closed},
	{"client, TLS before INFO", closedApp + tlsBlock("timeout: 20, handshake_first: true"), "client", probe.Target{Door: posture.Client}, posture.Closed},
	{"client, TLS before INFO for a while", tlsBlock(`timeout: 20, handshake_first: "300ms"`), "client", probe.Target{Door: posture.Client}, posture.Open},
	{"leafnode", `leafnodes { listen: "{{addr "leaf"}}", authorization { user: l, password: l } }`, "leaf", probe.Target{Door: posture.Leafnode}, posture.Closed},
	{"leafnode, TLS before INFO", `leafnodes { listen: "{{addr "leaf"}}"` + tlsBlock("timeout: 20, handshake_first: true") + "}", "leaf", probe.Target{Door: posture.Leafnode}, posture.Open},
	{"route", `cluster { name: c, listen: "{{addr "route"}}" }`, "route", probe.Target{Door: posture.Route}, posture.Open},
	{"route, TLS", `cluster { name: c, listen: "{{addr "route"}}"` + tlsBlock("timeout: 20, verify: true") + "}", "route", probe.Target{Door: posture.Route}, posture.Closed},
	{"gateway", `gateway { name: c, listen: "{{addr "gateway"}}" }`, "gateway", probe.Target{Door: posture.Gateway}, posture.Open},
	{"gateway, TLS", `gateway { name: c, listen: "{{addr "gateway"}}"` + tlsBlock("timeout: 20, verify: true") + "}", "gateway", probe.Target{Door: posture.Gateway}, posture.Closed},
	{"websocket", closedApp + `websocket { listen: "{{addr "ws"}}", no_tls: true }`, "ws", probe.Target{Door: posture.Websocket, TLS: posture.No}, posture.Closed},
	{"websocket, TLS", `websocket { listen: "{{addr "ws"}}"` + tlsBlock("timeout: 20") + "}", "ws", probe.Target{Door: posture.Websocket, TLS: posture.Yes}, posture.Open},
	{"monitoring", `http: "{{addr "http"}}"`, "http", probe.Target{Door: posture.Monitor, TLS: posture.No}, posture.Open},
}

// TestFarServers: 700 ms lie between natsentry and the servers, each way. That is
// longer than a listener is waited for that says nothing by itself.
func TestFarServers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	specs := make([]fleet.Spec, len(farServers))
	for i, c := range farServers {
		specs[i] = fleet.Spec{Name: fmt.Sprintf("n%d", i), Config: c.config, Files: ca.files(time.Hour)}
	}
	f := start(t, specs...)
	var wg sync.WaitGroup
	for i, c := range farServers {
		s := f.Server(specs[i].Name)
		c.target.Address, c.target.ServerID = far(t, s.Addr(c.label), 700*time.Millisecond), s.ID()
		var p probe.Prober
		wg.Go(func() {
			if got := p.Touch(t.Context(), c.target); got.Access != c.want {
				t.Errorf("%s: %s (%s %s), want %s", c.name, got.Access, got.Answer, got.Reason, c.want)
			}
		})
		wg.Go(func() {
			for _, got := range p.Identify(t.Context(), c.target.Address) {
				untold := got.Door == posture.NoDoor && got.CertAsked // it hides what it is
				if got.Access != c.want || got.Door != c.target.Door && !untold {
					t.Errorf("%s: taken for %s, %s (%s %s)", c.name, got.Door, got.Access, got.Answer, got.Reason)
				}
			}
		})
	}
	wg.Wait()
}

// far forwards to an address over a long way: every byte takes so long, in both
// directions.
func far(t *testing.T, address string, way time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				<-time.After(way) // the server hears of it so late
				server, err := net.Dial("tcp", address)
				if err != nil {
					_ = near.Close()
					return
				}
				wg.Go(func() { carry(near, server, way) })
				carry(server, near, way)
			})
		}
	})
	return l.Addr().String()
}

// carry moves bytes, each so late, and the end of the connection as well.
func carry(to, from net.Conn, way time.Duration) {
	type parcel struct {
		data []byte
		at   time.Time
	}
	parcels := make(chan parcel, 1024)
	go func() {
		defer close(parcels)
		for {
			buf := make([]byte, 32<<10)
			n, err := from.Read(buf)
			if n > 0 {
				parcels <- parcel{buf[:n], time.Now().Add(way)}
			}
			if err != nil {
				parcels <- parcel{nil, time.Now().Add(way)}
				return
			}
		}
	}()
	for p := range parcels {
		<-time.After(time.Until(p.at))
		if p.data == nil {
			_ = to.Close()
			continue
		}
		_, _ = to.Write(p.data)
	}
	_ = from.Close()
}
