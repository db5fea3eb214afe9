package proof

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/integration/fleet"
)

// members lets servers join that have the other half of the configuration, and
// knocks as some that do not.
func (p *prover) members(ctx context.Context, s standIn) error {
	for _, peer := range p.b.Peers {
		if !s.has(peer.Door) {
			continue
		}
		address := p.fleet.Server(s.name).Addr(peer.Door.String())
		joined := Row{Door: peer.Door, Who: "a server with " + peer.User + " and the password", Want: posture.Open}
		var err error
		if joined.Access, joined.How, err = p.join(ctx, s, peer, address); err != nil {
			return err
		}
		p.out.Rows = append(p.out.Rows, joined)
		for _, wrong := range []struct{ who, password string }{{"with another password", rand.Text()}, {"without a password", ""}} {
			r := Row{Door: peer.Door, Who: peer.User + " " + wrong.who, Want: posture.Closed}
			r.Access, r.How = knock(ctx, address, peer.User, wrong.password)
			p.out.Rows = append(p.out.Rows, r)
		}
	}
	return nil
}

// join starts a server that joins the stand-in through a door, by the files of
// the bundle.
func (p *prover) join(ctx context.Context, s standIn, peer fix.Peer, address string) (posture.Access, string, error) {
	name := "member-" + peer.Door.String()
	at := p.place(name)
	config := ""
	switch peer.Door {
	case posture.Route:
		at.Routes = []string{address}
		config = "cluster {\n  name: " + clusterName + "\n  listen: \"{{addr \"route\"}}\"\n  include \"cluster.conf\"\n}\n"
	case posture.Gateway:
		at.Gateways = []fix.Remote{{Name: clusterName, Addresses: []string{address}}}
		config = "gateway {\n  name: other\n  listen: \"{{addr \"gateway\"}}\"\n  include \"gateway.conf\"\n}\n"
	case posture.Leafnode:
		at.Leafnode = address
		config = "leafnodes {\n  include \"leafnode-remote.conf\"\n}\n"
	case posture.NoDoor, posture.Client, posture.Websocket, posture.MQTT, posture.Monitor, posture.Profile:
		return posture.Unknown, "", fmt.Errorf("nobody joins through a %s door", peer.Door)
	}
	member, err := p.fleet.Add(ctx, fleet.Spec{Name: name, Config: config, Files: p.files(at)})
	if err != nil {
		return posture.Unknown, "", fmt.Errorf("start a server that joins: %w", err)
	}
	srv := p.fleet.Server(s.name).Embedded()
	there := map[posture.DoorKind]func() bool{
		posture.Route:    func() bool { return srv.NumRoutes() > 0 },
		posture.Gateway:  func() bool { return member.Embedded().NumOutboundGateways() > 0 },
		posture.Leafnode: func() bool { return srv.NumLeafNodes() > 0 },
	}[peer.Door]
	if err := until(ctx, there); err != nil {
		return posture.Unknown, "it has not joined: " + err.Error(), nil
	}
	return posture.Open, "it joined", member.Stop(ctx)
}

// letIn is how a port of servers turns away a client that has passed its
// authentication.
var letIn = []string{"attempted to connect to route port", "attempted to connect to gateway port", "attempted to connect to leaf node port"}

// knock comes to a port of servers as a client, with a user and a password. The
// lang keeps it from joining (see package probe).
func knock(ctx context.Context, address, user, password string) (posture.Access, string) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return posture.Unknown, err.Error()
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return posture.Unknown, err.Error()
	}
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		return posture.Unknown, "no greeting: " + err.Error()
	}
	hello, err := json.Marshal(map[string]any{"lang": "natsentry", "name": proofName, "user": user, "pass": password})
	if err != nil {
		return posture.Unknown, err.Error()
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s\r\nPING\r\n", hello); err != nil {
		return posture.Unknown, err.Error()
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return posture.Unknown, "no verdict: " + err.Error()
		}
		line = strings.TrimSpace(line)
		if strings.EqualFold(line, "-ERR 'Authorization Violation'") {
			return posture.Closed, line
		}
		for _, word := range letIn {
			if strings.Contains(line, word) {
				return posture.Open, line
			}
		}
	}
}
