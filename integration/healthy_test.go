package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/natsentry/natsentry/agent"
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

// system starts three servers of an operator that nsc has made, with one user in
// each account.
func (n *realNsc) system() (f *fleet.Fleet, nc *nats.Conn) {
	n.t.Helper()
	for _, account := range []string{"APP", "ORDERS"} {
		n.run("add account --name", account)
		n.run("add user --name", strings.ToLower(account), "--account", account)
	}
	config := n.config()
	f = start(n.t,
		fleet.Spec{Name: "n1", Config: config + clustered("c", "n2", "n3")},
		fleet.Spec{Name: "n2", Config: config + clustered("c", "n1", "n3")},
		fleet.Spec{Name: "n3", Config: config + clustered("c", "n1", "n2")},
	)
	sys := nats.UserCredentials(n.creds("SYS", "sys"))
	if err := f.WaitActive(n.t.Context(), f.Server("n1").URL(), 3, sys); err != nil {
		n.t.Fatal(err)
	}
	n.run("push --all --account-jwt-server-url", f.Server("n1").URL())
	for _, s := range f.Servers() {
		connect(n.t, s.URL(), nats.UserCredentials(n.creds("APP", "app")))
		connect(n.t, s.URL(), nats.UserCredentials(n.creds("ORDERS", "orders")))
	}
	return f, connect(n.t, f.Server("n1").URL(), sys)
}

// TestHealthySystemMadeByNsc holds the exact list of findings of systems that
// nsc has made and that nothing is wrong with: at most one finding for one
// decision of the operator, and information only.
func TestHealthySystemMadeByNsc(t *testing.T) {
	t.Parallel()
	everyAccount := []string{
		"info JWT_014 3 accounts that may have bearer users: APP, ORDERS, SYS",
		"info JWT_015 3 accounts that restrict nothing by default: APP, ORDERS, SYS",
		"info JWT_016 3 accounts without limits: APP, ORDERS, SYS",
		"info JWT_030 3 accounts with connected users whose JWT never expires: APP, ORDERS, SYS",
		"info JWT_033 3 accounts with connected users who may come from anywhere, in any way: APP, ORDERS, SYS",
	}
	for _, c := range []struct {
		name string
		make func(*realNsc)
		more []string
	}{
		{"as documented", func(n *realNsc) {
			n.run("add operator --generate-signing-key --sys --name ACME")
			n.run("edit operator --service-url nats://127.0.0.1:4222 --account-jwt-server-url nats://127.0.0.1:4222")
		}, []string{
			"info JWT_002 operator ACME does not insist on signing keys",
			"info JWT_005 operator ACME names 1 URL without TLS",
			"info JWT_012 2 accounts without signing keys: APP, ORDERS",
		}},
		{"nothing but defaults", func(n *realNsc) { n.run("add operator --sys --name ACME") }, []string{
			"info JWT_001 operator ACME has no signing keys: its identity key signs accounts",
			"info JWT_012 2 accounts without signing keys: APP, ORDERS",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newRealNsc(t)
			c.make(n)
			_, nc := n.system()
			a, err := agent.New(nc, agent.Config{System: "test", Collect: collect.Config{Timeout: 20 * time.Second, Once: true}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(a.Close)
			state := sweep(t, a)
			if gaps := state.Report().Coverage.Gaps; len(gaps) != 0 {
				t.Errorf("gaps: %v", gaps)
			}
			key := regexp.MustCompile(` \([A-Z0-9]{10}…\)`)
			var got []string
			for i := range state.Findings {
				x := &state.Findings[i]
				got = append(got, key.ReplaceAllString(fmt.Sprintf("%s %s %s", x.Severity, x.Check, x.Summary), ""))
			}
			want := slices.Concat(everyAccount, c.more)
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPinnedNsc: the release that is built here is the one that people run.
func TestPinnedNsc(t *testing.T) {
	t.Parallel()
	if text := string(must(os.ReadFile("../Taskfile.yml"))); !strings.Contains(text, "  NSC: "+nscRelease+"\n") {
		t.Errorf("Taskfile.yml does not pin nsc %s", nscRelease)
	}
}
