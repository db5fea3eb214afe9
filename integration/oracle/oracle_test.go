package oracle

import (
	"os/exec"
	"strings"
	"testing"
)

// TestSharesNothing: what the oracle finds is worth something only as long as
// none of it comes from the auditor.
func TestSharesNothing(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range strings.Fields(string(out)) {
		if strings.HasPrefix(pkg, "github.com/natsentry/natsentry/") && pkg != "github.com/natsentry/natsentry/integration/oracle" {
			t.Errorf("it uses %s", pkg)
		}
	}
}
