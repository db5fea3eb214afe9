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
		}, Fail, causeRestart, "a reload is refused: the client port is not moved from 1 to"},
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
