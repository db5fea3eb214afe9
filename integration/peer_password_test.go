package integration

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestHashKeepsServersApart is why no check advises a hash in the block cluster: a
// server logs in to the peers that it learns of by gossip with the password that
// stands in its own configuration.
func TestHashKeepsServersApart(t *testing.T) {
	t.Parallel()
	const password = "route-password-of-the-tests"
	cluster := func(secret, routes string) string {
		return sysAccount + fmt.Sprintf("cluster {\n  name: c\n  listen: \"{{addr \"route\"}}\"\n  authorization { user: route, password: %q }\n  %s\n}\n", secret, routes)
	}
	// All know the seed's address, and nobody else's.
	seed := `routes: [ "nats-route://route:` + password + `@{{addr "b1" "route"}}" ]`
	for name, secret := range map[string]string{"clear": password, "hash": hashedNow(password)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := start(t, fleet.Spec{Name: "b1", Config: cluster(secret, "")})
			refused := make(chan string, 100)
			listen := func(s *fleet.Server) {
				if _, err := connectSys(t, s).Subscribe("$SYS.SERVER.*.CLIENT.AUTH.ERR", func(m *nats.Msg) {
					var event struct {
						Client struct{ Kind string } `json:"client"`
					}
					if err := json.Unmarshal(m.Data, &event); err == nil && event.Client.Kind == "Router" {
						select {
						case refused <- s.Name():
						default:
						}
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			for _, n := range []string{"b2", "b3"} {
				s, err := f.Add(t.Context(), fleet.Spec{Name: n, Config: cluster(secret, seed)})
				if err != nil {
					t.Fatal(err)
				}
				listen(s)
			}
			listen(f.Server("b1"))
			joined := func() bool {
				for _, r := range must(f.Server("b2").Embedded().Routez(nil)).Routes {
					if r.RemoteID == f.Server("b3").ID() {
						return true
					}
				}
				return false
			}
			if name == "clear" {
				waitActive(t, f, f.Server("b1"), 3)
				eventually(t, "b2 and b3 have a route to each other", joined)
			} else {
				select {
				case <-refused:
				case <-t.Context().Done():
					t.Fatal("nobody was refused")
				}
				// The one that calls takes a route for made until the other refuses it.
				eventually(t, "b2 and b3 have no route to each other", func() bool { return !joined() })
			}

			// So the lint does not advise it, and is silent about a hash.
			file, err := conffile.Read(conffile.OnDisk(f.Server("b2").ConfigFile()))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range check.Evaluate(&posture.Snapshot{Config: true, Servers: []*posture.Server{file.Server}}, check.DefaultPolicy()) {
				if r.Check.ID != "CRED_002" {
					continue
				}
				// The password of sys is a client's, and may become a hash.
				if r.Outcome != check.Fail || r.Cause != "in-clear" {
					t.Errorf("%s for %q: %s", r.Outcome, r.Cause, r.Summary)
				}
				presented := 0
				for _, e := range r.Evidence {
					if e.Value == "user route of cluster: in clear, and no hash would do: the server logs in to its peers with it" {
						presented++
					}
				}
				if want := map[string]int{"clear": 1, "hash": 0}[name]; presented != want {
					t.Errorf("%d secrets that no hash can replace, not %d: %v", presented, want, r.Evidence)
				}
			}
		})
	}
}
