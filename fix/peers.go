package fix

import (
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/natsentry/natsentry/agent/posture"
)

// peer makes the user and password of the servers on one kind of door.
func (b *builder) peer(door posture.DoorKind, user, password string) Peer {
	p := Peer{Door: door, User: user, password: password}
	b.Peers = append(b.Peers, p)
	return p
}

// inClear is the authorization of servers that log in to each other with what
// their own configuration says: a hash would shut them out.
func (p Peer) inClear() string {
	return fmt.Sprintf("# In clear: the server logs in to its peers with it. The same on all of them.\nauthorization {\n  user: %q\n  password: %q # natsentry:ignore CRED_002 the server logs in to its peers with it\n}\n", p.User, p.password)
}

// url leads to a peer.
func (p Peer) url(scheme, address string) string {
	return fmt.Sprintf("%s://%s:%s@%s", scheme, p.User, p.password, address)
}

func (p Peer) urls(scheme string, addresses []string) string {
	quoted := make([]string, len(addresses))
	for i, a := range addresses {
		quoted[i] = fmt.Sprintf("%q", p.url(scheme, a))
	}
	return strings.Join(quoted, ", ")
}

func addRoute(b *builder) error {
	p := b.peer(posture.Route, "route", rand.Text())
	b.put(Route, func(at Place) string {
		if len(at.Routes) == 0 {
			return p.inClear() + "# In the block cluster, put this user and password into the URLs of routes: they\n# look like nats-route://USER:PASSWORD@HOST:PORT\n"
		}
		return p.inClear() + "# These replace routes that stand above.\nroutes: [ " + p.urls("nats-route", at.Routes) + " ]\n"
	})
	return nil
}

func addGateway(b *builder) error {
	p := b.peer(posture.Gateway, "gateway", rand.Text())
	b.put(Gateway, func(at Place) string {
		text := p.inClear()
		if len(at.Gateways) == 0 {
			return text + "# URLs in gateways need no user and password: without one the server takes this one.\n"
		}
		text += "# These replace gateways that stand above.\ngateways: [\n"
		for _, g := range at.Gateways {
			text += fmt.Sprintf("  { name: %q, urls: [ %s ] }\n", g.Name, p.urls("nats", g.Addresses))
		}
		return text + "]\n"
	})
	return nil
}

func addLeafnode(b *builder) error {
	password, hash, err := b.newPassword()
	if err != nil {
		return err
	}
	p := b.peer(posture.Leafnode, "leaf", password)
	text := fmt.Sprintf("# Leafnodes land in %s; account: NAME takes them elsewhere.\nauthorization {\n  user: %q\n  password: %q\n}\n", globalAccount, p.User, hash)
	if b.has(Operator) {
		return errOperatorLeaf
	}
	b.put(Leafnode, func(Place) string { return text })
	return nil
}

// leafnodeRemote is the other end: what goes into the configuration of the
// servers that join as leafnodes.
func (b *Bundle) leafnodeRemote(at Place) string {
	address := at.Leafnode
	if address == "" {
		address = "HUB:7422"
	}
	for _, p := range b.Peers {
		if p.Door == posture.Leafnode {
			return fmt.Sprintf("# For the servers that join as leafnodes: include it in their block leafnodes.\nremotes: [ { urls: [ %q ] } ]\n", p.url("nats-leaf", address))
		}
	}
	return ""
}
