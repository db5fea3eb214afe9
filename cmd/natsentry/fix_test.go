package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/integration/fleet"
)

// within lists what is in a directory and below, for their owner only.
func within(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if want := map[bool]os.FileMode{true: 0o700, false: 0o600}[d.IsDir()]; err == nil && info.Mode().Perm() != want && path != dir && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if !d.IsDir() {
			out = append(out, strings.TrimPrefix(filepath.ToSlash(path), filepath.ToSlash(dir)+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Whatever file is there already: it stays, and nothing is written beside it.
func TestFixOverwritesNothing(t *testing.T) {
	for _, name := range []string{"auth.conf", "secrets/app.password", "secrets/sys.password"} {
		dir := t.TempDir()
		mine := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(mine), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(mine, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := exec(t, "fix", "--dir", dir, "--mode", "users")
		if r.code != exitUsageOrConn || r.stdout != "" || !strings.Contains(r.stderr, "has a file "+name+", and none is overwritten") {
			t.Errorf("%s: %+v", name, r)
		}
		if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" || len(within(t, dir)) != 1 {
			t.Errorf("%s: %s, %v, %v", name, text, err, within(t, dir))
		}
	}
}

// A folder that others may look into takes no secrets, and what was written
// before it is taken back.
func TestFixSecretsStayPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no such modes")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "secrets"), 0o755); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	r := exec(t, "fix", "--dir", dir, "--mode", "nkey")
	if r.code != exitUsageOrConn || r.stdout != "" || !strings.Contains(r.stderr, "others may look into secrets") {
		t.Errorf("%+v", r)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*.conf")); err != nil || len(files) > 0 {
		t.Errorf("%v, %v", files, err)
	}
}

// writePEM writes a certificate and its key, and returns their flags.
func writePEM(t *testing.T, dir, name string, id fix.Identity) []string {
	t.Helper()
	cert, key := id.PEM()
	for file, text := range map[string]string{name + ".pem": cert, name + "-key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{"--" + name + "-cert", filepath.Join(dir, name+".pem"), "--" + name + "-key", filepath.Join(dir, name+"-key.pem")}
}

// Certificates of the user's own: used where they lie; and where they do not do
// what they should, the proof fails and nothing is written.
func TestFixWithCertificates(t *testing.T) {
	authority := func() *fix.Authority {
		a, err := fix.NewAuthority(time.Now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ours, theirs := authority(), authority()
	issue := func(a *fix.Authority, name string, hosts ...string) fix.Identity {
		id, err := a.Issue(name, hosts...)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	for name, c := range map[string]struct {
		app  *fix.Authority
		code int
		want string
	}{
		"good":              {ours, 0, "app with the certificate "},
		"of another CA":     {theirs, exitFindings, "This does not hold:"},
		"with another's CA": {nil, exitUsageOrConn, "--ca: "},
	} {
		t.Run(name, func(t *testing.T) {
			certs, dir := t.TempDir(), filepath.Join(t.TempDir(), "fix")
			args := []string{"fix", "--dir", dir, "--mode", "tls-map", "--ca", filepath.Join(certs, "ca.pem")}
			args = append(args, writePEM(t, certs, "server", issue(ours, "n1", "localhost"))...)
			if c.app == nil {
				c.app = theirs
			} else if err := os.WriteFile(filepath.Join(certs, "ca.pem"), []byte(ours.PEM()), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, writePEM(t, certs, "app", issue(c.app, "orders,EMEA"))...)
			r := exec(t, args...)
			if r.code != c.code || !strings.Contains(r.stdout+r.stderr, c.want) {
				t.Fatalf("%+v", r)
			}
			if c.code != 0 {
				if exists(dir) || strings.Contains(r.stdout, "Written") || c.code == exitFindings && !strings.Contains(r.stderr, "nothing is written") {
					t.Errorf("%v, %+v", exists(dir), r)
				}
				return
			}
			if got := within(t, dir); len(got) != 1 || got[0] != "auth.conf" {
				t.Errorf("%v", got)
			}
			text, err := os.ReadFile(filepath.Join(dir, "auth.conf"))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{`ca_file: "` + filepath.ToSlash(filepath.Join(certs, "ca.pem")), `user: "CN=orders\\,EMEA"`} {
				if !strings.Contains(string(text), want) {
					t.Errorf("no %s in\n%s", want, text)
				}
			}
		})
	}
}

// oneServer is a report of a server with one open door.
func oneServer(version string, mode posture.AuthMode, cause posture.Cause, doors ...finding.ReportDoor) *finding.Report {
	r := &finding.Report{Type: finding.ReportType, Servers: []finding.ReportServer{{Name: "n1", ID: "N1", Cluster: "c", Version: version, AuthMode: mode, Doors: doors}}}
	f := finding.Finding{Check: "DOOR_001", Fingerprint: "f1", Cause: cause}
	f.Scope.Server, f.Scope.ServerID, f.Scope.Door = "n1", "N1", posture.Client
	r.Findings = []finding.Finding{f}
	return r
}

func listens(kind posture.DoorKind, address string) finding.ReportDoor {
	return finding.ReportDoor{Door: kind, Address: address, Access: posture.Open}
}

// What is known of a server decides what is written for it.
func TestFixOfAServer(t *testing.T) {
	client, leaf := listens(posture.Client, "0.0.0.0:4222"), listens(posture.Leafnode, "10.0.0.1:7422")
	for name, c := range map[string]struct {
		report *finding.Report
		asked  []fix.Mode
		want   string
		err    string
	}{
		"open":              {oneServer("2.15.2", posture.AuthNone, posture.CauseNoAuthBlock, client, leaf), nil, "users", ""},
		"old, with leafs":   {oneServer("2.11.17", posture.AuthNone, posture.CauseNoAuthBlock, client, leaf), nil, "users leafnode", ""},
		"old, without":      {oneServer("2.11.17", posture.AuthNone, posture.CauseNoAuthBlock, client), nil, "users", ""},
		"old, operator":     {oneServer("2.11.17", posture.AuthNone, posture.CauseNoAuthBlock, client, leaf), []fix.Mode{fix.Operator}, "operator", ""},
		"is operator":       {oneServer("2.15.2", posture.AuthOperator, posture.CauseOperatorAdmits, client), []fix.Mode{fix.Users}, "", "in operator mode"},
		"no cure":           {oneServer("2.15.2", posture.AuthStatic, posture.CauseCalloutAdmits, client), nil, "", "no configuration that could be included closes DOOR_001 (callout-admits-all)"},
		"no cure, but this": {oneServer("2.15.2", posture.AuthStatic, posture.CauseCalloutAdmits, client), []fix.Mode{fix.NKey}, "nkey", ""},
	} {
		s, err := find(c.report, []string{"f1"})
		if err != nil {
			t.Fatal(err)
		}
		cure, err := s.cure(c.asked)
		var got []string
		for _, m := range cure.Modes {
			got = append(got, string(m))
		}
		if c.err == "" && (err != nil || strings.Join(got, " ") != c.want) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// Peers go into a configuration only where all of them are known, and only what
// can stand there.
func TestFixPlace(t *testing.T) {
	route := func(address string) finding.ReportDoor { return listens(posture.Route, address) }
	gateway := listens(posture.Gateway, "n1.example.net:7222")
	for name, c := range map[string]struct {
		doors  [2][]finding.ReportDoor
		routes int
		remote int
	}{
		"all known":     {[2][]finding.ReportDoor{{route("10.0.0.1:6222"), gateway}, {route("[fe80::1]:6222"), gateway}}, 2, 1},
		"one wildcard":  {[2][]finding.ReportDoor{{route("10.0.0.1:6222")}, {route("0.0.0.0:6222")}}, 0, 0},
		"one without":   {[2][]finding.ReportDoor{{route("10.0.0.1:6222"), gateway}, {}}, 0, 0},
		"one is a trap": {[2][]finding.ReportDoor{{route("10.0.0.1:6222")}, {route("a\" ]\nno_auth_user: \"x:6222")}}, 0, 0},
	} {
		r := oneServer("2.15.2", posture.AuthNone, posture.CauseNoAuthBlock, c.doors[0]...)
		r.Servers = append(r.Servers, finding.ReportServer{Name: "n2", ID: "N2", Cluster: "c", Doors: c.doors[1]})
		s, err := find(r, []string{"n1"})
		if err != nil {
			t.Fatal(err)
		}
		at, err := (&fixFlags{dir: t.TempDir()}).place(s)
		if err != nil || len(at.Routes) != c.routes || len(at.Gateways) != c.remote {
			t.Errorf("%s: %+v, %v", name, at, err)
		}
	}
}

// Paths in the configuration are those of where the files will lie.
func TestFixInstallDir(t *testing.T) {
	for _, c := range []struct {
		flags         fixFlags
		tls, resolver string
	}{
		{fixFlags{dir: "fix", installDir: "/etc/nats"}, "/etc/nats/tls", "/etc/nats/jwt"},
		{fixFlags{dir: "fix", installDir: "/etc/nats", resolverDir: "/var/lib/nats/jwt"}, "/etc/nats/tls", "/var/lib/nats/jwt"},
	} {
		if at, err := c.flags.place(&fixSubject{}); err != nil || at.TLS != c.tls || at.Resolver != c.resolver {
			t.Errorf("%+v: %+v, %v", c.flags, at, err)
		}
	}
	if at, err := (&fixFlags{dir: "fix"}).place(&fixSubject{}); err != nil || !filepath.IsAbs(filepath.FromSlash(at.TLS)) || !strings.HasSuffix(at.TLS, "/fix/tls") {
		t.Errorf("%+v, %v", at, err)
	}
}

// Accounts that the server has stay: ours would replace them.
func TestFixKeepsAccounts(t *testing.T) {
	for mode, want := range map[fix.Mode]bool{fix.Users: true, fix.NKey: true, fix.Operator: false} {
		for _, hidden := range []bool{true, false} {
			plan, err := (&fixFlags{}).plan(&fixSubject{accounts: !hidden, system: "SYS"}, fix.Cure{Modes: []fix.Mode{mode}, KeepAccounts: hidden})
			if err != nil || plan.KeepAccounts != want || plan.SystemAccount != "SYS" {
				t.Errorf("%s: %+v, %v", mode, plan, err)
			}
		}
	}
}

// Two servers of one name are not mixed up.
func TestFixFindsOne(t *testing.T) {
	r := oneServer("2.15.2", posture.AuthNone, posture.CauseNoAuthBlock)
	r.Servers = append(r.Servers, finding.ReportServer{Name: "n1", ID: "N2"})
	if _, err := find(r, []string{"n1"}); err == nil || !strings.Contains(err.Error(), "name it by its id, N1 or N2") {
		t.Errorf("%v", err)
	}
	if s, err := find(r, []string{"DOOR_001", "N1"}); err != nil || len(s.findings) != 1 || s.server.ID != "N1" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err := find(r, []string{"SERVER_007", "N1"}); err != nil || len(s.findings) != 1 {
		t.Errorf("by its alias: %+v, %v", s, err)
	}
	r.Findings[0].Waived = &finding.Waiver{Reason: "a lab"}
	if s, err := find(r, []string{"N1"}); err != nil || len(s.findings) != 0 {
		t.Errorf("what is accepted, of a server: %+v, %v", s, err)
	}
	if s, err := find(r, []string{"DOOR_001", "N1"}); err != nil || len(s.findings) != 1 {
		t.Errorf("what is accepted, by name: %+v, %v", s, err)
	}
	r.Findings[0].Scope.ServerID = ""
	if _, err := find(r, []string{"f1"}); err == nil || !strings.Contains(err.Error(), "about no single server") {
		t.Errorf("%v", err)
	}
}

// A report in standard input is taken for hostile.
func TestFixFromHostileReport(t *testing.T) {
	report := oneServer("2.15.2\x1b[2J", posture.AuthNone, posture.CauseNoAuthBlock, listens(posture.Client, "n1\x1b[2J:4222"))
	report.Findings[0].Summary = "\x1b]0;gotcha\a"
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "fix")
	r := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader(string(text)) }, "fix", "f1", "--dir", dir, "--mode", "nkey", "--from", "-")
	if r.code != 0 || !strings.Contains(r.stdout, "Proven") {
		t.Errorf("%+v", r)
	}
	printable(t, r.stdout+r.stderr)
}

// A server that was started with flags alone has no file to include in, and
// nothing to reload.
func TestFixOfAServerWithFlags(t *testing.T) {
	report := oneServer("2.15.3", posture.AuthNone, posture.CauseNoConfig, listens(posture.Client, "10.0.0.1:4222"), listens(posture.Route, "10.0.0.1:6222"))
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"start it with -c auth.conf beside the flags", "Start it again so", "natsentry probe 10.0.0.1:4222"}},
		{[]string{"--mode", "nkey,route"}, []string{"write a configuration file", "Take --cluster", "natsentry probe 10.0.0.1:4222 10.0.0.1:6222"}},
	} {
		args := append([]string{"fix", "f1", "--dir", filepath.Join(t.TempDir(), "fix"), "--from", "-"}, c.args...)
		r := execIn(t.Context(), t, func(p *program) { p.stdin = strings.NewReader(string(text)) }, args...)
		printed := strings.Join(strings.Fields(r.stdout), " ")
		for _, want := range c.want {
			if r.code != 0 || !strings.Contains(printed, want) {
				t.Errorf("%v: there is no %q in %+v", c.args, want, r)
			}
		}
		for _, not := range []string{"Reload,", "beside the configuration file of the server", "signal reload"} {
			if strings.Contains(printed, not) {
				t.Errorf("%v: it says %q:\n%s", c.args, not, r.stdout)
			}
		}
	}
}

// A cluster URL on the command line without a user takes the user and password
// of the configuration away, which is why the steps move it into the file.
func TestClusterFlagTakesThePasswordAway(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("cluster { name: c, listen: \"127.0.0.1:6222\", authorization { user: route, password: route } }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		flags []string
		want  string
	}{{nil, "route"}, {[]string{"--cluster", "nats://127.0.0.1:6222"}, ""}} {
		opts, err := fleet.Options(append([]string{"-c", file}, c.flags...)...)
		if err != nil || opts.Cluster.Username != c.want {
			t.Errorf("%v: %+v, %v", c.flags, opts, err)
		}
	}
}

// The modes that leave users as they are need to know which have no password.
func TestFixNeedsTheConfiguration(t *testing.T) {
	for _, mode := range []string{"no-auth-user", "websocket", "mqtt"} {
		dir := filepath.Join(t.TempDir(), "fix")
		r := exec(t, "fix", "--dir", dir, "--mode", mode)
		if r.code != exitUsageOrConn || !strings.Contains(r.stderr, "--config FILE") || exists(dir) {
			t.Errorf("%s: %+v", mode, r)
		}
	}
}
