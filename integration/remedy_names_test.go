package integration

import (
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestRemedyNames: a remedy names what this fleet calls its system account, and the
// user whom anonymous clients are taken for.
func TestRemedyNames(t *testing.T) {
	t.Parallel()
	const named = "accounts {\n  OPERATIONS { users: [ { user: " + sysUser + ", password: " + sysPassword + " } ] }\nMORE}\nsystem_account: OPERATIONS\n"
	for _, c := range []struct {
		check  string
		cause  posture.Cause
		config string
		want   string
		not    string
	}{
		{"DOOR_001", posture.CauseHiddenUser, strings.Replace(named, "MORE", "", 1), "beside OPERATIONS, which is there", "$SYS"},
		{"DOOR_002", posture.CauseHiddenUser, strings.Replace(named, "MORE", "", 1), "Only the system account has users", "remove no_auth_user"},
		{"DOOR_001", posture.CauseNoAuthUser, strings.Replace(named, "MORE", "  APP { users: [ { user: visitor, password: visitor } ] }\n", 1) + "no_auth_user: visitor\n", "# remove: no_auth_user: visitor", "$SYS"},
	} {
		t.Run(c.check+" "+string(c.cause), func(t *testing.T) {
			t.Parallel()
			s := start(t, fleet.Spec{Name: "n1", Config: c.config + "websocket { listen: \"{{addr \"websocket\"}}\", no_tls: true }\n"}).Server("n1")
			all := found(sweep(t, toucher(t, connectSys(t, s))), c.check, "n1")
			if len(all) != 1 || all[0].Cause != c.cause {
				t.Fatalf("%+v", all)
			}
			text := all[0].Remediation.Text + "\n" + all[0].Remediation.Config
			if !strings.Contains(text, c.want) || strings.Contains(text, c.not) {
				t.Errorf("the remedy is\n%s", text)
			}
		})
	}
}
