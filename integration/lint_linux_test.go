package integration

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// leavings is everything below a folder, with sizes and times.
func leavings(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		out = append(out, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime().UnixNano()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLintLeavesNothing lints configurations that would make nats-server write,
// fetch and listen: where it could write, then as a user who owns nothing, and then in a file system that
// is mounted read-only, without any network.
func TestLintLeavesNothing(t *testing.T) {
	t.Parallel()
	bin := filepath.Join(t.TempDir(), "natsentry")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../cmd/natsentry").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	op := newOperator(t)
	for name, text := range map[string]string{
		"static.conf": `jetstream { store_dir: "` + dir + `/js" }
log_file: "` + dir + `/log"
pid_file: "` + dir + `/pid"
ports_file_dir: "` + dir + `"
tls { cert_file: "nowhere.pem", key_file: "nowhere-key.pem", ca_file: "nowhere-ca.pem", verify: true }
authorization { user: app, password: "$2a$11$abc" }
cluster { name: c, listen: "127.0.0.1:6222", routes: [ "nats://nowhere.example.net:6222" ] }
server_name: s
http: 8222
`,
		"full.conf": "operator: " + op.JWT + "\nresolver { type: full, dir: \"" + dir + "/jwt\", allow_delete: true }\nsystem_account: " + op.System.Public + "\n",
		"url.conf":  "operator: " + op.JWT + "\nresolver: URL(http://nowhere.example.net/jwt/)\nsystem_account: " + op.System.Public + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // another user reads it
			t.Fatal(err)
		}
	}
	for _, d := range []string{dir, filepath.Dir(dir), filepath.Dir(bin), filepath.Dir(filepath.Dir(bin))} {
		if err := os.Chmod(d, 0o755); err != nil { //nolint:gosec // another user reads it
			t.Fatal(err)
		}
	}
	before := leavings(t, dir)
	run := func(t *testing.T, attr *syscall.SysProcAttr, command string, args ...string) string {
		t.Helper()
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), command, args...)
		cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = dir, &out, &out, attr
		cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + dir, "XDG_CONFIG_HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		err := cmd.Run()
		if err != nil && strings.Contains(err.Error(), "operation not permitted") || strings.Contains(out.String(), "cannot mount") {
			t.Skipf("this machine does not let tests do that: %v %s", err, out.String())
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if after := leavings(t, dir); !slices.Equal(before, after) {
			t.Errorf("before: %q\nafter: %q", before, after)
		}
		return out.String()
	}
	judged := func(t *testing.T, out string) {
		t.Helper()
		for _, want := range []string{"static.conf: client ✓ closed", "full.conf: client ✓ closed", "url.conf: client ✓ closed", "JWT_040"} {
			if !strings.Contains(out, want) {
				t.Errorf("no %q in\n%s", want, out)
			}
		}
	}
	t.Run("where it could write", func(t *testing.T) {
		judged(t, run(t, &syscall.SysProcAttr{}, bin, "lint", "--fail-on", "none", "."))
	})
	t.Run("unprivileged", func(t *testing.T) {
		attr := &syscall.SysProcAttr{}
		if os.Getuid() == 0 {
			attr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		} else if err := os.Chmod(dir, 0o555); err != nil { //nolint:gosec // that is the point
			t.Fatal(err)
		}
		judged(t, run(t, attr, bin, "lint", "--fail-on", "none", "."))
	})
	t.Run("read-only, without network", func(t *testing.T) {
		attr := &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		}
		// That it is read-only is tried before it is relied on.
		script := `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" || { echo cannot mount; exit 0; }
cd "$1"
if touch "$1/x" 2>/dev/null; then echo not read-only; exit 1; fi
exec "$2" lint --fail-on none .`
		judged(t, run(t, attr, "sh", "-c", script, "sh", dir, bin))
	})
}
