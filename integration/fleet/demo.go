package fleet

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"github.com/nats-io/nats.go"
)

// The system account's login of the demonstration fleet, at its server "safe".
const (
	DemoSystemUser     = "auditor"
	DemoSystemPassword = "demo-only"
)

// demoServer is one server of the demonstration.
type demoServer struct {
	name     string
	cluster  string // "" is a leaf
	openDoor bool   // the cluster port asks no one for a password
	config   string
}

// demoServers are three clusters and a leaf, each server named for what is
// wrong with it and otherwise closed. One system account spans them all.
var demoServers = []demoServer{
	{name: "safe", cluster: "east", config: `
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "{{bcrypt "SYSTEM_PASSWORD"}}"}] }
  APP  { users: [{user: app, password: "{{bcrypt "demo-app"}}"}] }
}
# Leaf nodes beside gateways want the system account spelled out.
system_account: "$SYS"
leafnodes {
  listen: "{{addr "leafnode"}}"
  authorization { users: [{user: leaf, password: demo-leaf, account: "$SYS"}] }
}
`},
	{name: "no-auth-user", cluster: "east", config: `
# Whoever brings no credentials is taken for "guest".
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
  APP  { users: [{user: app, password: demo-app}, {user: guest, password: demo-guest}] }
}
no_auth_user: guest
`},
	{name: "no-auth", cluster: "east", config: `
# Nothing about authorization at all, amid servers of the cluster that have it.
`},
	{name: "hidden-user", cluster: "west", config: `
# Only the system account has users, so nats-server adds one of its own that
# lets everybody into $G. It reports auth_required all the same.
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
}
`},
	{name: "token", cluster: "west", config: `
authorization { token: demo-token }
`},
	{name: "websocket-open", cluster: "west", config: `
# Closed on the client port, open on the websocket.
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
  APP  { users: [{user: app, password: demo-app}, {user: browser, password: demo-browser}] }
}
websocket {
  listen: "{{addr "websocket"}}"
  no_tls: true
  no_auth_user: browser
}
`},
	{name: "monitor-open", cluster: "north", config: `
# The monitoring port tells everything to everyone.
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
  APP  { users: [{user: app, password: demo-app}] }
}
http: "{{addr "monitor"}}"
`},
	{name: "route-open", cluster: "north", openDoor: true, config: `
# Any server may join the cluster here, and then sees all accounts.
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
  APP  { users: [{user: app, password: demo-app}] }
}
`},
	{name: "leaf-open", cluster: "north", config: `
# Closed on the client port. Any leaf node may join, and is taken for "edge".
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
  APP  { users: [{user: app, password: demo-app}, {user: edge, password: demo-edge, allowed_connection_types: [LEAFNODE]}] }
}
system_account: "$SYS"
no_auth_user: edge
leafnodes { listen: "{{addr "leafnode"}}" }
`},
	// MQTT needs JetStream, and JetStream in a super-cluster needs a quorum
	// of servers with a disk. A leaf has its own, and joins the others with
	// its system account alone.
	{name: "mqtt-open", config: `
# Closed on the client port, open to every device that speaks MQTT.
accounts {
  $SYS { users: [{user: SYSTEM_USER, password: "SYSTEM_PASSWORD"}] }
  APP  { jetstream: enabled, users: [{user: app, password: demo-app}, {user: device, password: demo-device}] }
}
jetstream { store_dir: "{{dir}}", domain: edge, max_memory_store: 16MB, max_file_store: 64MB }
mqtt {
  listen: "{{addr "mqtt"}}"
  no_auth_user: device
}
leafnodes {
  remotes: [{url: "nats-leaf://leaf:demo-leaf@{{addr "safe" "leafnode"}}", account: "$SYS"}]
}
`},
}

// demoCluster is the configuration that a server of a cluster has besides its
// own: routes inside the cluster and gateways to the others, behind passwords.
// Its own delimiters leave those of [Spec.Config] for the builder.
var demoCluster = template.Must(template.New("cluster").Delims("<<", ">>").Parse(`
cluster {
  name: <<.Cluster>>
  listen: "{{addr "route"}}"
<<- if not .OpenDoor>>
  authorization { user: route, password: demo-route, timeout: 5 }
<<- end>>
  routes: [
<<- range .Peers>>
    "nats-route://route:demo-route@{{addr "<<.>>" "route"}}"
<<- end>>
  ]
}
gateway {
  name: <<.Cluster>>
  listen: "{{addr "gateway"}}"
  authorization { user: gateway, password: demo-gateway, timeout: 5 }
  gateways: [
<<- range $cluster, $servers := .Gateways>>
    {name: <<$cluster>>, urls: [
<<- range $servers>>
      "nats://gateway:demo-gateway@{{addr "<<.>>" "gateway"}}"
<<- end>>
    ]}
<<- end>>
  ]
}
`))

// Demo returns the demonstration fleet: three clusters joined by gateways and
// a leaf, ten embedded servers, each named for the door that it leaves open.
// The system account is reached with [DemoSystemUser] at "safe".
func Demo() []Spec {
	login := strings.NewReplacer("SYSTEM_USER", DemoSystemUser, "SYSTEM_PASSWORD", DemoSystemPassword)
	specs := make([]Spec, 0, len(demoServers))
	for _, s := range demoServers {
		specs = append(specs, Spec{Name: s.name, Config: login.Replace(s.config) + s.clustering()})
	}
	return specs
}

// clustering returns the part of the configuration that joins the others.
func (s demoServer) clustering() string {
	if s.cluster == "" {
		return ""
	}
	join := struct {
		Cluster  string
		OpenDoor bool
		Peers    []string
		Gateways map[string][]string
	}{s.cluster, s.openDoor, nil, map[string][]string{}}
	for _, other := range demoServers {
		if other.cluster == "" {
			continue
		}
		join.Gateways[other.cluster] = append(join.Gateways[other.cluster], other.name)
		if other.cluster == s.cluster && other.name != s.name {
			join.Peers = append(join.Peers, other.name)
		}
	}
	var text strings.Builder
	if err := demoCluster.Execute(&text, join); err != nil {
		panic(err) // the template and its data are constants of this file
	}
	return text.String()
}

// DemoSessions connects two clients without credentials to the demonstration
// fleet: "billing-worker" at "hidden-user", whose owner believes to be logged
// in, and "curious-stranger" at "no-auth". Each only subscribes. They stay until
// the returned function closes them.
func DemoSessions(ctx context.Context, f *Fleet) (func(), error) {
	var conns []*nats.Conn
	disconnect := func() {
		for _, nc := range conns {
			nc.Close()
		}
	}
	for _, session := range []struct{ client, server, subject string }{
		{"billing-worker", "hidden-user", "billing.invoices"},
		{"curious-stranger", "no-auth", ">"},
	} {
		nc, err := demoSession(ctx, f.Server(session.server), session.client, session.subject)
		if err != nil {
			disconnect()
			return nil, fmt.Errorf("demo session %s: %w", session.client, err)
		}
		conns = append(conns, nc)
	}
	return disconnect, nil
}

func demoSession(ctx context.Context, s *Server, client, subject string) (*nats.Conn, error) {
	if s == nil {
		return nil, errors.New("not the demonstration fleet")
	}
	// Neither follows the cluster elsewhere: it is this server's door that
	// lets it in.
	nc, err := nats.Connect(s.URL(), nats.Name(client), nats.MaxReconnects(-1), nats.IgnoreDiscoveredServers())
	if err != nil {
		return nil, err
	}
	if _, err = nc.Subscribe(subject, func(*nats.Msg) {}); err == nil {
		ctx, cancel := limit(ctx)
		defer cancel()
		err = nc.FlushWithContext(ctx)
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	return nc, nil
}
