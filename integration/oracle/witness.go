package oracle

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/nats-io/nats-server/v2/server"
)

// Witness tells who has joined a server, by the server's own word.
type Witness interface {
	// Joined lists the names of the leafnodes, cluster members or gateways
	// that are there.
	Joined(ctx context.Context, door string) ([]string, error)
}

// Embedded asks a server of this process.
func Embedded(s *server.Server) Witness { return embedded{s} }

type embedded struct{ *server.Server }

func (e embedded) Joined(_ context.Context, door string) ([]string, error) {
	switch door {
	case Leafnode, LeafWebsocket:
		z, err := e.Leafz(nil)
		if err != nil {
			return nil, err
		}
		return leafs(z), nil
	case Route:
		z, err := e.Routez(nil)
		if err != nil {
			return nil, err
		}
		return routes(z), nil
	case Gateway:
		z, err := e.Gatewayz(nil)
		if err != nil {
			return nil, err
		}
		return gateways(z), nil
	}
	return nil, fmt.Errorf("oracle: nobody joins through a %s door", door)
}

// Monitoring asks a server over its HTTP monitoring at host:port.
func Monitoring(address string) Witness { return monitoring(address) }

type monitoring string

func (m monitoring) Joined(ctx context.Context, door string) ([]string, error) {
	switch door {
	case Leafnode, LeafWebsocket:
		z, err := get[server.Leafz](ctx, m, "/leafz")
		return leafs(z), err
	case Route:
		z, err := get[server.Routez](ctx, m, "/routez")
		return routes(z), err
	case Gateway:
		z, err := get[server.Gatewayz](ctx, m, "/gatewayz")
		return gateways(z), err
	}
	return nil, fmt.Errorf("oracle: nobody joins through a %s door", door)
}

func get[T any](ctx context.Context, m monitoring, path string) (*T, error) {
	z := new(T)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+string(m)+path, nil)
	if err != nil {
		return z, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return z, err
	}
	defer resp.Body.Close()
	return z, json.NewDecoder(resp.Body).Decode(z)
}

func leafs(z *server.Leafz) []string {
	var names []string
	for _, l := range z.Leafs {
		names = append(names, l.Name)
	}
	return names
}

func routes(z *server.Routez) []string {
	var names []string
	for _, r := range z.Routes {
		names = append(names, r.RemoteName)
	}
	return names
}

// gateways lists the servers whose gateway connections were accepted, by id.
func gateways(z *server.Gatewayz) []string {
	var ids []string
	for _, some := range z.InboundGateways {
		for _, g := range some {
			if g.Connection != nil {
				ids = append(ids, g.Connection.Name)
			}
		}
	}
	return ids
}
