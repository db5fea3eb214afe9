package check

import (
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestDrift: what cannot be compared is unknown, and never the same.
func TestDrift(t *testing.T) {
	const this, another = "this", "another"
	change := func(f func(c *posture.Config, r *posture.Server)) func(*posture.Server) {
		return config(func(c *posture.Config) { f(c, c.Running) })
	}
	for name, c := range map[string]struct {
		digest string
		change func(c *posture.Config, r *posture.Server)
		want   Outcome
		cause  posture.Cause
		says   string // of the summary and the evidence
	}{
		"the same":       {digest: this, want: Pass, says: "n1 runs with it"},
		"not the same":   {digest: another, want: Fail, cause: causeReload, says: "config_digest: of another configuration"},
		"silent":         {this, func(_ *posture.Config, r *posture.Server) { r.Heard = 0 }, Unknown, "", "no answer to VARZ from n1"},
		"old":            {another, func(_ *posture.Config, r *posture.Server) { r.Version = "2.10.29" }, Unknown, "", "2.10.29"},
		"variables":      {another, func(c *posture.Config, _ *posture.Server) { c.Unset = make([]posture.Unset, 2) }, Unknown, "", "2 variables without a value"},
		"unreadable":     {this, func(c *posture.Config, _ *posture.Server) { c.Marks = nil }, Unknown, "", "cannot be read"},
		"without a file": {"", func(_ *posture.Config, r *posture.Server) { r.NoConfigFile = posture.Yes }, Fail, causeNoFile, "started without a configuration file"},
		"another port": {another, func(_ *posture.Config, r *posture.Server) {
			r.Door(posture.Client).Port = 1
		}, Fail, causeReload, "a reload is refused: the client port is not moved from 1 to"},
		"another port, by a flag maybe": {another, func(_ *posture.Config, r *posture.Server) {
			r.Door(posture.Client).Host, r.Door(posture.Client).Port = "0.0.0.0", 1
		}, Fail, causeReload, "unless the server has the flag -p"},
		"another port, and no flag": {another, func(c *posture.Config, r *posture.Server) {
			c.FlagsKnown = true
			r.Door(posture.Client).Host, r.Door(posture.Client).Port = "0.0.0.0", 1
		}, Fail, causeRestart, "and a reload will be refused"},
		"another websocket port": {another, func(_ *posture.Config, r *posture.Server) {
			on(posture.Websocket, "0.0.0.0")(r)
		}, Fail, causeRestart, "the websocket port is not opened or shut"},
		"refused by another release": {another, func(c *posture.Config, r *posture.Server) {
			c.Refused, c.Rules, r.Version = []posture.Remark{{Text: "x"}}, "2.15.2", "2.12.3"
		}, Fail, causeReload, "unless 2.12.3 takes it"},
		"what is not shown": {another, func(c *posture.Config, _ *posture.Server) {
			c.Keys = map[string]posture.Place{"no_auth_user": {File: "n1.conf", Line: 3}}
		}, Fail, causeReload, "a reload is refused if no_auth_user is new or another one"},
		"two spellings": {another, func(c *posture.Config, r *posture.Server) {
			c.Spellings = make([]posture.Spelling, 1)
			on(posture.Websocket, "0.0.0.0")(r)
		}, Fail, causeReload, "config_digest: of another configuration"},
		"closed, and open then": {another, func(_ *posture.Config, r *posture.Server) {
			r.Door(posture.Client).Access, r.Door(posture.Client).Basis = posture.Closed, posture.Reported
		}, Fail, causeReload, "the client port is open after a restart; now it is closed (reported)"},
	} {
		t.Run(name, func(t *testing.T) {
			here := on(posture.Client, "127.0.0.1", func(d *posture.Door) { d.Access = posture.Open })
			changes := []func(*posture.Server){here, runsWith(posture.MarkOf(c.digest)), change(func(_ *posture.Config, r *posture.Server) { here(r) })}
			if c.change != nil {
				changes = append(changes, change(c.change))
			}
			r := conf006.judgeAlone(configured(changes...), DefaultPolicy())[0]
			text := r.Summary
			for _, e := range r.Evidence {
				text += "; " + e.Value
			}
			if r.Outcome != c.want || r.Cause != c.cause || !strings.Contains(text, c.says) {
				t.Errorf("%s (%s): %s", r.Outcome, r.Cause, text)
			}
		})
	}
	if r := conf006.judgeAlone(configured(), DefaultPolicy())[0]; r.Outcome != NotApplicable {
		t.Errorf("nobody asked: %+v", r)
	}
}
