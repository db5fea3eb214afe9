//go:build !windows

package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/crypto/bcrypt"

	"github.com/natsentry/natsentry/integration/fleet"
)

// TestRollingReloadOfSlowServers: a server that checks the bcrypt passwords of its
// clients in a reload shows the new digest for seconds before the new load time.
// Several of them are reloaded in turn. Each reload is one finding, with the time at
// which the server has loaded the configuration and what it brought.
func TestRollingReloadOfSlowServers(t *testing.T) {
	t.Parallel()
	hash, err := bcrypt.GenerateFromPassword([]byte("app-password"), bcrypt.DefaultCost)
	if err != nil {
		t.Fatal(err)
	}
	closed := fmt.Sprintf("authorization { timeout: 60, users: [ { user: app, password: %q } ] }\n", string(hash))
	slow := func(name, other string) fleet.Spec {
		return fleet.Spec{Name: name, Binary: binary(t, fleet.Linked), Config: clustered("c", "n1", other)}
	}
	f := start(t, fleet.Spec{Name: "n1", Config: closedApp + clustered("c", "a", "b")}, slow("a", "b"), slow("b", "a"))
	waitActive(t, f, f.Server("n1"), 3)
	slowOnes := []*fleet.Server{f.Server("a"), f.Server("b")}
	const clients = 20
	for i, s := range slowOnes {
		for range clients {
			connect(t, s.URL(), nats.UserInfo("app", "app-password"), nats.NoReconnect())
		}
		other := slowOnes[1-i].Name()
		if err := s.Rewrite(closed + clustered("c", "n1", other)); err != nil {
			t.Fatal(err)
		}
	}
	nc := connectSys(t, f.Server("n1"))
	v := keepWatch(t, nc, 50*time.Millisecond, nil)
	stand := func(what, id string, n int) {
		t.Helper()
		eventually(t, what, func() bool {
			for _, s := range slowOnes {
				if v.State() == nil || len(found(v.State(), id, s.Name())) != n {
					return false
				}
			}
			return true
		})
	}
	stand("both are open", "DOOR_001", 1)
	for _, s := range slowOnes {
		if err := syscall.Kill(s.Pid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	stand("both have changed", "FLEET_006", 1)
	stand("both are closed", "DOOR_001", 0)
	told := v.rec.take()
	for _, s := range slowOnes {
		now := v.State().Snapshot.Server(s.ID())
		fs := found(v.State(), "FLEET_006", s.Name())
		for _, f := range told {
			if f.Check == "FLEET_006" && f.Scope.Server == s.Name() && f.Summary != fs[0].Summary {
				t.Errorf("told otherwise: %s %+v", f.Summary, f.Evidence)
			}
		}

		if !now.ConfigLoaded.After(now.Start) || !strings.Contains(fs[0].Summary, now.ConfigLoaded.UTC().Format(time.RFC3339)) {
			t.Errorf("%s; the server has loaded it at %s", fs[0].Summary, now.ConfigLoaded)
		}
		if said := fmt.Sprint(fs[0].Evidence); strings.Contains(said, "unknown:") || !strings.Contains(said, "auth none; open: client") || !strings.Contains(said, "auth static; closed: client") || strings.Contains(said, "route") {
			t.Errorf("%s", said)
		}
	}
}
