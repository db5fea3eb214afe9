package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent"
)

// noSecret asserts that a secret is nowhere in what an agent knows and says.
func noSecret(t testing.TB, state *agent.State, secrets ...string) {
	t.Helper()
	dumps := map[string]string{
		"report":   string(must(json.Marshal(state.Report()))),
		"snapshot": string(must(json.Marshal(state.Snapshot))) + fmt.Sprintf("%+v", *state.Snapshot),
	}
	for _, s := range state.Snapshot.Servers {
		dumps["server "+s.Name] = fmt.Sprintf("%+v", *s)
	}
	for _, r := range state.Results {
		dumps["results"] += fmt.Sprintf("%+v", r)
	}
	for where, dump := range dumps {
		for _, secret := range secrets {
			if strings.Contains(dump, secret) {
				t.Errorf("the %s shows %q", where, secret)
			}
		}
	}
}
