package integration

import (
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/service"
)

// TestServiceGroupsSessions: those that look alike come as one, and those that
// have proven who they are can be left out. The single form is as it was.
func TestServiceGroupsSessions(t *testing.T) {
	t.Parallel()
	f := start(t,
		fleet.Spec{Name: "keeper", Config: closedApp + clustered("c", "open")},
		fleet.Spec{Name: "open", Config: clustered("c", "keeper")})
	keeper, open := f.Server("keeper"), f.Server("open")
	waitActive(t, f, keeper, 2)
	for range 3 {
		connect(t, open.URL(), nats.Name("worker"))
	}
	connect(t, open.URL(), nats.Name("worker"), nats.UserInfo("somebody", "x"))
	connect(t, open.URL(), nats.Name("device"), nats.Token("t"))
	connect(t, keeper.URL(), nats.Name("app"), nats.UserInfo("app", "app-password"))
	nc := connectSys(t, keeper, nats.Name("asks"))
	serve(t, connectSys(t, keeper, nats.Name("agent")), time.Hour)

	group := func(server string, name string, login posture.Login, user, account string, count int) inside.Group {
		return inside.Group{
			Server: server, Cluster: "c", Door: posture.Client, Name: name, IP: "127.0.0.1", Lang: "go", Version: nats.Version,
			Login: login, User: user, Count: count, Accounts: []string{account}, Weak: true,
		}
	}
	want := []inside.Group{
		group("keeper", "app", posture.LoginPassword, "app", "APP", 1),
		group("keeper", "asks", posture.LoginPassword, sysUser, "$SYS", 1),
		group("open", "worker", posture.LoginNone, "", "$G", 3),
		group("open", "device", posture.LoginToken, "[REDACTED]", "$G", 1),
		group("open", "worker", posture.LoginName, "somebody", "$G", 1),
	}
	ignore := cmpopts.IgnoreFields(inside.Group{}, "ServerID", "Since")
	var last string
	eventually(t, "the agent has asked everybody", func() bool {
		m := ask(t, nc, "audit.auth.sessions", `{"grouped":true,"anonymous":true}`)
		conforms(t, "sessions.json", m.Data)
		got := decodeInto[service.Sessions](t, m)
		last = gocmp.Diff(want, got.Groups, cmpopts.IgnoreUnexported(inside.Group{}), ignore)
		return last == "" && got.Total == len(want) && len(got.Sessions) == 0
	})
	if last != "" {
		t.Error(last)
	}
	page := decodeInto[service.Sessions](t, ask(t, nc, "audit.auth.sessions", `{"grouped":true,"server":"open","limit":1,"offset":1}`))
	if len(page.Groups) != 1 || page.Groups[0].Name != "device" || page.Total != 3 || page.NextOffset == nil {
		t.Errorf("one page of groups: %+v", page)
	}
	if single := decodeInto[service.Sessions](t, ask(t, nc, "audit.auth.sessions", `{"server":"open"}`)); single.Total != 5 || single.Groups != nil {
		t.Errorf("single sessions: %+v", single)
	}
}
