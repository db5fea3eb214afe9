package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
)

// natsentry runs the program to its end.
func natsentry(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	program, err := buildNatsentry()
	if err != nil {
		t.Fatal(err)
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

// credsOf is the text of a file of credentials of a user who may do everything.
func credsOf(t *testing.T, a *fleet.Account) string {
	t.Helper()
	token, seed := mustUser(a.User("auditor", func(c *jwt.UserClaims) {
		c.Pub.Allow.Add(">")
		c.Sub.Allow.Add(">")
	}))
	return string(must(jwt.FormatUserConfig(token, []byte(seed))))
}

// accountsOfAll is a server with so many accounts beside the operator's two.
func accountsOfAll(t *testing.T, op *fleet.Operator, n int) *fleet.Fleet {
	t.Helper()
	others := make([]*fleet.Account, n)
	for i := range others {
		others[i] = must(op.Account(fmt.Sprintf("A%d", i), nil))
	}
	return start(t, fleet.Spec{Name: "n1", Config: op.Config(others...), Files: map[string]string{"sys.creds": credsOf(t, &op.System)}})
}

// TestAuditTakesAllAccounts: a single audit does not leave accounts to a next
// look that never comes, and says of a bound which one was reached, after how
// much, and not that an answer is missing.
func TestAuditTakesAllAccounts(t *testing.T) {
	t.Parallel()
	const accounts = 303 // with SYS and APP
	op := must(fleet.NewOperator())
	s := accountsOfAll(t, op, accounts-2).Server("n1")
	audit := func(args ...string) (report *finding.Report, stderr string, code int) {
		t.Helper()
		out, stderr, code := natsentry(t, append([]string{"audit", "--server", s.URL(), "--creds", filepath.Join(filepath.Dir(s.ConfigFile()), "sys.creds"), "--no-probe", "--wait", "20s", "--fail-on", "none", "--format", "json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &report); err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		return report, stderr, code
	}
	report, stderr, code := audit()
	if code != 0 || len(report.Coverage.Gaps) != 0 {
		t.Errorf("code %d, gaps %v, %q", code, report.Coverage.Gaps, stderr)
	}
	var looked string
	for i := range report.Findings {
		if f := &report.Findings[i]; f.Check == "JWT_012" {
			looked = f.Summary
		}
	}
	if !strings.HasPrefix(looked, fmt.Sprintf("%d accounts ", accounts)) {
		t.Errorf("judged: %s", looked)
	}
	report, stderr, code = audit("--accounts", "50")
	const stopped = "stopped after 50 of 303 accounts: the limit of 50 accounts"
	if gaps := report.Coverage.Gaps; code != 2 || len(gaps) != 1 || gaps[0].Reason != stopped || !gaps[0].Bound {
		t.Errorf("code %d, gaps %v", code, gaps)
	}
	if !strings.Contains(stderr, "not decided: "+stopped) || strings.Contains(stderr, "missing") {
		t.Errorf("%q", stderr)
	}
	out, _, _ := natsentry(t, "audit", "--server", s.URL(), "--creds", filepath.Join(filepath.Dir(s.ConfigFile()), "sys.creds"), "--no-probe", "--wait", "20s", "--fail-on", "none", "--accounts", "50")
	if !strings.Contains(out, "\nS"+stopped[1:]+".\n") || strings.Contains(out, "missing") {
		t.Errorf("%s", out)
	}
}

// TestManyAccountsAtOnce: the bounds of a single look hold thousands of accounts.
func TestManyAccountsAtOnce(t *testing.T) {
	t.Parallel()
	const accounts = 2002
	op := must(fleet.NewOperator())
	nc := connect(t, accountsOfAll(t, op, accounts-2).Server("n1").URL(), auditorOf(&op.System))
	state := sweep(t, auditor(t, nc, collect.Config{Timeout: 20 * time.Second, Once: true}))
	if gaps := state.Report().Coverage.Gaps; len(gaps) != 0 {
		t.Errorf("gaps: %v", gaps)
	}
	if judged := sharing(state, "JWT_012"); judged != accounts {
		t.Errorf("%d accounts were judged", judged)
	}
	state = sweep(t, auditor(t, nc, collect.Config{Timeout: 20 * time.Second, Once: true, AccountBytes: 100 << 10}))
	trust := state.Snapshot.Trust
	want := fmt.Sprintf("stopped after %d of %d accounts: the budget of 102400 bytes", accounts-trust.Left, accounts)
	if gaps := state.Report().Coverage.Gaps; trust.Left == 0 || len(gaps) != 1 || gaps[0].Reason != want {
		t.Errorf("%d left, gaps: %v", trust.Left, gaps)
	}
}
