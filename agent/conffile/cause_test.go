package conffile

import (
	"testing"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
)

// TestCausesOfOtherListeners: a listener that takes the client listener's users is open
// for the same cause, so that its remedy and what puts it in force are the same.
func TestCausesOfOtherListeners(t *testing.T) {
	const doors = "server_name: n\njetstream: enabled\nwebsocket { port: 8080, no_tls: true }\nmqtt { port: 1883 }\n"
	for text, want := range map[string]struct {
		client, other posture.Cause
		reload        bool
	}{
		"accounts { A { users: [ { user: guest, password: ahK0ohl0aith } ], jetstream: enabled } }\nno_auth_user: guest\n": {posture.CauseNoAuthUser, posture.CauseNoAuthUser, false},
		"accounts { S { users: [ { user: s, password: ahK0ohl0aith } ] } }\nsystem_account: S\n":                           {posture.CauseHiddenUser, posture.CauseHiddenUser, true},
		"": {posture.CauseNoAuthBlock, posture.CauseInherits, true},
	} {
		s := read(t, text+doors).Server
		if got := s.Door(posture.Client).Cause; got != want.client {
			t.Errorf("%q: the client listener is open for %q, want %q: %v", text, got, want.client, s.Config.Refused)
		}
		for id, kind := range map[string]posture.DoorKind{"DOOR_002": posture.Websocket, "DOOR_003": posture.MQTT} {
			got := s.Door(kind).Cause
			if got != want.other {
				t.Errorf("%q: the %s listener is open for %q, want %q", text, kind, got, want.other)
			}
			if remedy := check.Lookup(id).RemedyFor(got); remedy.Reload != want.reload || remedy.Text == "" {
				t.Errorf("%q: the remedy of %s for %q says reload: %v, want %v", text, id, got, remedy.Reload, want.reload)
			}
		}
	}
}
