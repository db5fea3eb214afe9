package integration

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestCandidateCorpus: what is read of the configurations with which nats-server
// tests itself is what a server would go by, and one that a server takes is
// never refused.
func TestCandidateCorpus(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	read, operators, tls := 0, 0, 0
	for _, name := range copyConfigurations(t, serverModule(t), root) {
		path := filepath.Join(root, filepath.FromSlash(name))
		o, err := server.ProcessConfigFile(path)
		if err != nil {
			continue
		}
		if _, remote := o.AccountResolver.(*server.URLAccResolver); remote {
			continue // a server would ask it when it starts
		}
		o.NoLog, o.NoSigs, o.DontListen = true, true, true
		s, err := server.NewServer(o)
		if err != nil {
			continue
		}
		s.Shutdown()
		if o.HTTPPort != 0 && o.HTTPSPort != 0 {
			continue // it finds that out when it starts
		}
		read++
		c, err := conffile.Candidate(conffile.OnDisk(path))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		operator := len(o.TrustedOperators) > 0 || len(o.TrustedKeys) > 0
		if operator {
			operators++
		}
		if c.Operator != operator || c.Sentinel != (o.DefaultSentinel != "") || c.Callout != (o.AuthCallout != nil) {
			t.Errorf("%s: operator %t, sentinel %t, callout %t", name, c.Operator, c.Sentinel, c.Callout)
		}
		asks := operator || o.Users != nil || o.Nkeys != nil || o.Username != "" || o.Authorization != ""
		hidden := posture.IsHiddenUser(o.NoAuthUser, "")
		if c.AuthRequired != asks || c.User != o.Username || c.Token != (o.Authorization != "") ||
			hidden != posture.IsHiddenUser(c.NoAuthUser, "") || !hidden && c.NoAuthUser != o.NoAuthUser {
			t.Errorf("%s: asks %t, user %q, token %t, no_auth_user %q", name, c.AuthRequired, c.User, c.Token, c.NoAuthUser)
		}
		if !operator && (len(c.Users) != len(o.Users) || len(c.NKeys) != len(o.Nkeys)) {
			t.Errorf("%s: %d users and %d nkeys", name, len(c.Users), len(c.NKeys))
		}
		for _, u := range o.Users {
			if _, ok := c.Users[u.Username]; !ok && !posture.IsHiddenUser(u.Username, "") && !operator {
				t.Errorf("%s: no user %q", name, u.Username)
			}
		}
		if c.Leaf.User != o.LeafNode.Username || c.Leaf.NKey != o.LeafNode.Nkey || len(c.Leaf.Users) != len(o.LeafNode.Users) {
			t.Errorf("%s: leafnodes: %+v", name, c.Leaf)
		}
		for kind, d := range map[posture.DoorKind]struct {
			port     int
			tls, own bool
			mapped   bool
		}{
			posture.Client:    {o.Port, o.TLSConfig != nil && !o.AllowNonTLS, false, o.TLSMap},
			posture.Websocket: {o.Websocket.Port, o.Websocket.TLSConfig != nil, o.Websocket.NoAuthUser+o.Websocket.Username+o.Websocket.Token != "", o.Websocket.TLSMap},
			posture.MQTT:      {o.MQTT.Port, o.MQTT.TLSConfig != nil, o.MQTT.NoAuthUser+o.MQTT.Username+o.MQTT.Token != "", o.MQTT.TLSMap},
			posture.Leafnode:  {o.LeafNode.Port, o.LeafNode.TLSConfig != nil, false, o.LeafNode.TLSMap},
			posture.Route:     {o.Cluster.Port, o.Cluster.TLSConfig != nil, o.Cluster.Username != "", o.Cluster.TLSMap || o.Cluster.TLSCheckKnownURLs},
			posture.Gateway:   {o.Gateway.Port, o.Gateway.TLSConfig != nil, o.Gateway.Username != "", o.Gateway.TLSMap || o.Gateway.TLSCheckKnownURLs},
		} {
			got, on := c.Doors[kind]
			if on != (d.port != 0) || on && (got.TLS != d.tls || got.Offered != d.tls && kind != posture.Client || got.Port != d.port && got.Port != 0 || got.Map != d.mapped || (got.NoAuthUser+got.User != "" || got.Token) != d.own) {
				t.Errorf("%s: %s: %+v, want %+v", name, kind, got, d)
			}
			if d.tls {
				tls++
			}
		}
		if !operator && !slices.Contains([]string{"", "$SYS", o.SystemAccount}, c.SystemAccount) {
			t.Errorf("%s: system account %q, want %q", name, c.SystemAccount, o.SystemAccount)
		}
	}
	t.Logf("%d configurations, %d of operators, %d listeners with TLS", read, operators, tls)
	if read < 80 || operators == 0 || tls < 20 {
		t.Errorf("only %d configurations, %d of operators, %d listeners with TLS: the corpus is not what it was", read, operators, tls)
	}
}
