package conffile

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

// Candidate reads what a configuration demands of those who connect. One with
// which nats-server would not start, or not always in the same way, is an error.
// No error holds a password, a token or a key of the file.
func Candidate(src Source) (*inside.Candidate, error) {
	r, err := open(src)
	var unreadable *syntax.Error
	switch {
	case errors.As(err, &unreadable):
		return nil, fmt.Errorf("nats-server would not start: %w", err)
	case err != nil:
		return nil, err
	}
	o := r.load()
	if len(r.config.Unset) > 0 {
		u := r.config.Unset[0]
		name := "a variable" // its name may be a secret: a password that begins with a dollar
		if u.Name != "" {
			name = "the variable " + u.Name
		}
		return nil, fmt.Errorf("nats-server would not start: %s: %s is %s, which has no value here", u.Place, u.Key, name)
	}
	for _, s := range r.config.Spellings {
		if s.Auth {
			return nil, fmt.Errorf("%s: %s has two spellings, and nats-server takes any of them at each start", s.Places[0], s.Keys[0])
		}
	}
	if o == nil {
		refused := r.config.Refused[0]
		return nil, fmt.Errorf("nats-server would not start: %s: %s", refused.Place, refused.Text)
	}
	return r.candidate(filepath.Base(src.Name), o)
}

func (r *reading) candidate(name string, o *server.Options) (*inside.Candidate, error) {
	operator := o.TrustedKeys != nil && !r.trustsNobody()
	c := &inside.Candidate{
		Name:         name,
		AuthRequired: operator || o.Users != nil || o.Nkeys != nil || o.Username != "" || o.Authorization != "",
		Operator:     operator, Sentinel: r.sentinel != "", Callout: o.AuthCallout != nil,
		Token: o.Authorization != "", User: o.Username,
		Users: map[string]inside.User{}, NKeys: map[string]inside.User{}, Doors: r.candidateDoors(o),
		Leaf: inside.LeafAuth{User: o.LeafNode.Username, NKey: o.LeafNode.Nkey, Users: users(o.LeafNode.Users)},
	}
	if operator {
		return c, nil // nobody has users or a system account of the configuration then
	}
	c.NoAuthUser, c.SystemAccount = o.NoAuthUser, o.SystemAccount
	c.Users = users(o.Users)
	for _, u := range o.Nkeys {
		c.NKeys[u.Nkey] = inside.User{
			Account: accountName(u.Account), Types: slices.Sorted(maps.Keys(u.AllowedConnectionTypes)), Restricted: permissions(u.Permissions).Restricted(), Proxied: u.ProxyRequired,
		}
	}
	if o.ProxyRequired && (c.User != "" || c.Token) {
		return nil, errors.New("proxy_required of the authorization block is not understood here")
	}
	return c, nil
}

var bcryptHash = regexp.MustCompile(`^\$2[abxy]\$\d{2}\$`)

func users(list []*server.User) map[string]inside.User {
	out := make(map[string]inside.User, len(list))
	for _, u := range list {
		out[u.Username] = inside.User{
			Account: accountName(u.Account), Types: slices.Sorted(maps.Keys(u.AllowedConnectionTypes)),
			Hashed: bcryptHash.MatchString(u.Password), Restricted: permissions(u.Permissions).Restricted(), Proxied: u.ProxyRequired,
		}
	}
	return out
}

func accountName(a *server.Account) string {
	if a == nil {
		return ""
	}
	return a.GetName()
}

// candidateDoors are the listeners that there will be.
func (r *reading) candidateDoors(o *server.Options) map[posture.DoorKind]inside.Door {
	out := map[posture.DoorKind]inside.Door{}
	add := func(kind posture.DoorKind, port int, c *tls.Config, mapped bool, d inside.Door) {
		if port == 0 {
			return
		}
		d.Offered, d.Map = c != nil, mapped
		d.TLS = d.Offered && (kind != posture.Client || !o.AllowNonTLS)
		d.Verify = mapped || d.Offered && c.ClientAuth == tls.RequireAndVerifyClientCert
		if kind != posture.Client || has(r.config, "port") || has(r.config, "listen") {
			d.Port = port
		}
		out[kind] = d
	}
	ws, mqtt, leaf, route, gateway := &o.Websocket, &o.MQTT, &o.LeafNode, &o.Cluster, &o.Gateway
	add(posture.Client, o.Port, o.TLSConfig, o.TLSMap, inside.Door{})
	add(posture.Websocket, ws.Port, ws.TLSConfig, ws.TLSMap, inside.Door{NoAuthUser: ws.NoAuthUser, User: ws.Username, Token: ws.Token != ""})
	add(posture.MQTT, mqtt.Port, mqtt.TLSConfig, mqtt.TLSMap, inside.Door{NoAuthUser: mqtt.NoAuthUser, User: mqtt.Username, Token: mqtt.Token != ""})
	add(posture.Leafnode, leaf.Port, leaf.TLSConfig, leaf.TLSMap, inside.Door{})
	add(posture.Route, route.Port, route.TLSConfig, route.TLSMap || route.TLSCheckKnownURLs, inside.Door{User: route.Username})
	add(posture.Gateway, gateway.Port, gateway.TLSConfig, gateway.TLSMap || gateway.TLSCheckKnownURLs, inside.Door{User: gateway.Username})
	return out
}
