package integration

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/integration/fleet"
)

// TestSessionsOfAnOperator: accounts and users are called by their names, with
// the start of their keys, and never by a whole key.
func TestSessionsOfAnOperator(t *testing.T) {
	t.Parallel()
	op := must(fleet.NewOperator())
	s := start(t, fleet.Spec{Name: "n1", Config: op.Config(), Files: map[string]string{"sys.creds": credsOf(t, &op.System)}}).Server("n1")
	connect(t, s.URL(), must(op.App.Login("biller")))
	bearer, seed := mustUser(op.App.User("browser", func(c *jwt.UserClaims) { c.BearerToken = true }))
	connect(t, s.URL(), nats.UserJWTAndSeed(bearer, seed))
	account := "APP (" + op.App.Public[:10] + "…)"
	key := regexp.MustCompile(`[AU][A-Z2-7]{55}`)
	for _, format := range []string{"text", "markdown"} {
		out, stderr, code := natsentry(t, "sessions", "--all", "--server", s.URL(), "--creds", filepath.Join(filepath.Dir(s.ConfigFile()), "sys.creds"), "--format", format)
		if code != 1 || key.MatchString(out) {
			t.Errorf("%s: code %d, %s\n%s", format, code, stderr, out)
		}
		for _, want := range []string{account, "biller (U"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", format, want, out)
			}
		}
	}
}
