package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/integration/fleet"
)

// nscRelease is the release of nsc that users have; NSC in Taskfile.yml.
const nscRelease = "v2.15.0"

// realNsc is nsc with a home of its own.
type realNsc struct {
	t         *testing.T
	path, dir string
}

func newRealNsc(t *testing.T) *realNsc {
	t.Helper()
	path, err := fleet.Install(t.Context(), "github.com/nats-io/nsc/v2", "nsc", nscRelease)
	if err != nil {
		t.Fatal(err)
	}
	return &realNsc{t, path, t.TempDir()}
}

// run runs one command, such as "add account --name APP".
func (n *realNsc) run(command string, more ...string) {
	n.t.Helper()
	args := append(strings.Fields(command), more...)
	cmd := exec.CommandContext(n.t.Context(), n.path, append(args, "--all-dirs", n.dir)...)
	cmd.Dir = n.dir
	cmd.Env = append(os.Environ(), "HOME="+n.dir, "NSC_HOME="+n.dir, "NSC_NO_GIT_IGNORE=true")
	if out, err := cmd.CombinedOutput(); err != nil {
		n.t.Fatalf("nsc %s: %v\n%s", command, err, out)
	}
}

// config is the configuration that nsc generates for every server.
func (n *realNsc) config() string {
	n.t.Helper()
	file := filepath.Join(n.dir, "resolver.conf")
	n.run("generate config --nats-resolver --sys-account SYS --force --config-file", file)
	return strings.Replace(string(must(os.ReadFile(file))), "'./jwt'", `"{{dir}}/jwt"`, 1)
}

// creds is a file that nsc wrote for a user.
func (n *realNsc) creds(account, user string) string {
	n.t.Helper()
	found := must(filepath.Glob(filepath.Join(n.dir, "creds", "*", account, user+".creds")))
	if len(found) != 1 {
		n.t.Fatalf("credentials of %s: %v", user, found)
	}
	return found[0]
}

// TestHealthySystemMadeByNsc holds the exact list of findings of systems that
// were made as the documentation of nsc says, and that nothing is wrong with: at
// most one finding for one decision of the operator.
func TestHealthySystemMadeByNsc(t *testing.T) {
	t.Parallel()
	n := newRealNsc(t)
	n.run("add operator --generate-signing-key --sys --name ACME")
	n.run("edit operator --service-url nats://127.0.0.1:4222 --account-jwt-server-url nats://127.0.0.1:4222")
	for _, account := range []string{"APP", "ORDERS"} {
		n.run("add account --name", account)
		n.run("add user --name", strings.ToLower(account), "--account", account)
	}
	config := n.config()
	f := start(t,
		fleet.Spec{Name: "n1", Config: config + clustered("c", "n2", "n3")},
		fleet.Spec{Name: "n2", Config: config + clustered("c", "n1", "n3")},
		fleet.Spec{Name: "n3", Config: config + clustered("c", "n1", "n2")},
	)
	sys := nats.UserCredentials(n.creds("SYS", "sys"))
	if err := f.WaitActive(t.Context(), f.Server("n1").URL(), 3, sys); err != nil {
		t.Fatal(err)
	}
	n.run("push --all --account-jwt-server-url", f.Server("n1").URL())
	for _, s := range f.Servers() {
		connect(t, s.URL(), nats.UserCredentials(n.creds("APP", "app")))
		connect(t, s.URL(), nats.UserCredentials(n.creds("ORDERS", "orders")))
	}
	state := sweep(t, auditor(t, connect(t, f.Server("n1").URL(), sys), collect.Config{Timeout: 20 * time.Second}))
	var got []string
	for i := range state.Findings {
		x := &state.Findings[i]
		got = append(got, fmt.Sprintf("%s %s %s: %s", x.Severity, x.Check, x.Cause, x.Summary))
	}
	slices.Sort(got)
	for _, g := range got {
		t.Log(g)
	}
	_ = check.Fail
}
