package conffile

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/posture"
)

// none is a machine without files.
func none(string) ([]byte, error) { return nil, errors.New("no such file or directory") }

func read(t testing.TB, text string, change ...func(*Source)) *File {
	t.Helper()
	src := Source{Name: "n1.conf", Text: []byte(text), Read: none}
	for _, c := range change {
		c(&src)
	}
	f, err := Read(src)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func env(pairs ...string) func(*Source) {
	return func(s *Source) {
		s.Env = func(name string) (string, bool) {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1], true
				}
			}
			return "", false
		}
	}
}

func args(words ...string) func(*Source) { return func(s *Source) { s.Args = words } }

const (
	hash    = `"$2a$11$abcdefghijklmnopqrstuuUG3S5rGWvaWDnRbBEJXfFr4VbWkQsN6"`
	guarded = "accounts { APP { users: [ { user: app, password: app-password }, { user: guest, password: guest-password } ] }, OTHER {} }\n"
)

// TestDoors: what becomes of strangers, why, and which place says so. That this
// is the truth is for the integration tests to show.
func TestDoors(t *testing.T) {
	for _, tc := range []struct {
		text   string
		change func(*Source)
		want   string // door access cause place
	}{
		{"", nil, "client open no-auth-block n1.conf"},
		{"\n  authorization {}", nil, "client open no-auth-block n1.conf:2:3"},
		{"authorization { token: abc }", nil, "client closed  n1.conf:1:1"},
		{guarded + "no_auth_user: guest", nil, "client open no-auth-user n1.conf:2:1"},
		{guarded + "websocket { port: 80, no_tls: true\n no_auth_user: guest }", nil, "websocket open ws-no-auth-user n1.conf:3:2"},
		{"accounts { $SYS { users: [ { user: a, password: b } ] } }", nil, "client open hidden-user n1.conf:1:1"},
		{"accounts { $SYS { users: [ { user: a, password: b } ] } }\nauthorization { timeout: 2 }", nil, "client closed  n1.conf:2:1"},
		{"tls { cert_file: a, key_file: b, ca_file: c\n verify: true }", nil, "client closed certificate-only n1.conf:2:2"},
		{"tls { cert_file: a, key_file: b, ca_file: c\n verify: true }\nallow_non_tls: true", nil, "client open allow-non-tls n1.conf:3:1"},
		{"cluster { port: 6222 }", nil, "route open no-cluster-authorization n1.conf:1:1"},
		{"cluster { port: 6222, tls { cert_file: a, key_file: b } }", nil, "route closed certificate-only n1.conf:1:23"},
		{"http_port: 8222", nil, "monitor open never-asks n1.conf:1:1"},
		{"prof_port: 1", nil, "profile open never-asks n1.conf:1:1"},
		{"", args("--user", "a", "--pass", "b"), "client closed  n1.conf"},
		{"", args("--auth=x"), "client closed  n1.conf"},
		{"authorization { token: $T }", nil, "client unknown  n1.conf:1:1"},
		{"authorization { token: $T }", env("T", "abc"), "client closed  n1.conf:1:1"},
		{"authorization { token: $T }", env("T", `""`), "client open no-auth-block n1.conf:1:1"},
		{"authorization { user: a, password: $T }", nil, "client closed  n1.conf:1:1"},
		{"authorization: $AUTH", nil, "client unknown  n1.conf"},
		{"leafnodes: $LEAFS", nil, "leafnode unknown  n1.conf:1:1"},
		{"port: $PORT", nil, "client open no-auth-block n1.conf:1:1"},
		{"a: { user: x, password: y }\nauthorization: $a", nil, "client closed  n1.conf:2:1"},
		{"authorization { user: x, password: yyyyyyyyyyyy }\nAuthorization {}", nil, "client unknown  n1.conf:"},
	} {
		var change []func(*Source)
		if tc.change != nil {
			change = append(change, tc.change)
		}
		s := read(t, tc.text, change...).Server
		var kind posture.DoorKind
		word, _, _ := strings.Cut(tc.want, " ")
		if err := kind.UnmarshalText([]byte(word)); err != nil {
			t.Fatal(err)
		}
		d := s.Door(kind)
		place := ""
		if len(d.Evidence) > 0 {
			place = d.Evidence[0].Source
		}
		if got := fmt.Sprintf("%s %s %s %s", d.Kind, d.Access, d.Cause, place); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%q:\n got %s (%s)\nwant %s", tc.text, got, d.Reason, tc.want)
		}
	}
}

// TestFacts: what the checks are told beside the doors.
func TestFacts(t *testing.T) {
	files := map[string]string{"dir/more.conf": "no_auth_user: b\n# accounts {\n"}
	f := read(t, `# authorization { user: x }
// operator: /etc/op.jwt
# accounts are explained elsewhere: see there
no_auth_user: a
include "more.conf"
accounts {
  APP { users: [ { user: a }, { user: b, pass: b, password: "0123456789ab" }, { user: c, password: `+hash+` }, { user: d, password: $D } ] }
}
leaf { port: 7422 }
`, func(s *Source) {
		s.Name = "dir/n1.conf"
		s.Read = func(path string) ([]byte, error) {
			if text, ok := files[path]; ok {
				return []byte(text), nil
			}
			return nil, errors.New("no such file")
		}
	})
	c := f.Server.Config
	var got []string
	say := func(format string, v ...any) { got = append(got, fmt.Sprintf(format, v...)) }
	for _, r := range c.Refused {
		say("refused %s %s", r.Place, r.Text)
	}
	for _, r := range c.Commented {
		say("commented %s %s", r.Place, r.Text)
	}
	for _, o := range c.Overridden {
		say("override %s %s %s", o.Key, o.Lost, o.Kept)
	}
	for _, s := range c.Spellings {
		say("spelling %v %v %v", s.Keys, s.Places, s.Auth)
	}
	for _, u := range c.Unset {
		say("unset %s %s %s", u.Name, u.Key, u.Place)
	}
	for _, g := range c.Guests {
		say("guest %s %s %s", g.User, g.Account, g.Place)
	}
	for _, l := range c.Logins {
		say("login %s %s %s %d %d %v %v", l.Where, l.User, l.Place, l.Secret, l.Length, l.Guessable, l.Guest)
	}
	want := []string{
		"commented dir/n1.conf:1:3 authorization", "commented dir/n1.conf:2:4 operator", "commented dir/more.conf:2:3 accounts",
		"override no_auth_user dir/n1.conf:4:1 dir/more.conf:1:1",
		"spelling [pass password] [dir/n1.conf:7:42 dir/n1.conf:7:51] true",
		"unset D accounts.APP.users.password dir/n1.conf:7:177",
		"guest b APP dir/more.conf:1:1",
		"login accounts.APP a dir/n1.conf:7:18 1 0 false false", "login accounts.APP b dir/n1.conf:7:42 2 1 true true",
		"login accounts.APP c dir/n1.conf:7:90 3 0 false false", "login accounts.APP d dir/n1.conf:7:177 0 0 false false",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestFilledIn: what is filled in for a variable without a value is never told,
// whatever it stands for.
func TestFilledIn(t *testing.T) {
	f := read(t, `server_name: $NAME
host: $HOST
cluster { name: $CLUSTER, host: $HOST, port: $PORT, authorization { user: $U, password: $P } }
accounts { APP { users: [ { user: $U, password: $P }, { user: b, password: $P, permissions: { publish: $S } } ] } }
no_auth_user: $GUEST
websocket { port: $PORT, no_tls: $YES, no_auth_user: $GUEST }
tls { cert_file: $C, key_file: $K, verify: $YES }
jetstream: $YES
max_payload: $N
leafnodes { remotes: [ { url: $URL, account: $A } ] }
`)
	told, err := json.Marshal(f.Server)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Server.Config.Refused) > 0 || strings.Contains(string(told), "natsentry-unset") {
		t.Errorf("%s", told)
	}
	for _, kind := range []posture.DoorKind{posture.Client, posture.Websocket, posture.Leafnode, posture.Route} {
		if d := f.Server.Door(kind); d.Access != posture.Unknown && d.Access != posture.Off {
			t.Errorf("the %s door is %s", kind, d.Access)
		}
	}
}

// TestRefused: what nats-server would not start with, and where.
func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"port: 1\nbogus: 2":             `n1.conf:2:1: unknown field "bogus"`,
		"a {":                           "n1.conf:1:3: this block is not closed",
		"no_auth_user: x":               `n1.conf:1:1: no_auth_user: "x" present, but users/nkeys are not defined`,
		"http: 1\nhttps: 2":             "can't specify both HTTP and HTTPs ports",
		"include nowhere.conf":          `n1.conf:1:9: include of "nowhere.conf": no such file or directory`,
		"websocket { port: 80 }":        "n1.conf:1:1: websocket requires TLS configuration",
		"tls { cert_file: x }":          "n1.conf:1:7: 'cert_file' and 'key_file' go together",
		"port: x":                       "n1.conf:1:1: port must be a whole number, and this is text",
		"operator: eyJ.x.y":             "n1.conf:1:1: error parsing operator JWT",
		"resolver { type: full }":       "n1.conf:1:1: dir has no value",
		"default_sentinel: x":           "n1.conf:1:1: default sentinel JWT not valid",
		"port: $A\nbogus: $B\naddr: $A": "unknown field",
	} {
		f := read(t, text)
		var got []string
		for _, r := range f.Server.Config.Refused {
			got = append(got, r.Place.String()+": "+r.Text)
		}
		if all := strings.Join(got, "\n"); !strings.Contains(all, want) {
			t.Errorf("%q: %q, want %q", text, all, want)
		}
		for _, d := range f.Server.Doors {
			if d.Access != posture.Unknown {
				t.Errorf("%q: the %s door is %s", text, d.Kind, d.Access)
			}
		}
	}
}

// TestFlags: flags of nats-server count as nats-server itself combines them with
// its file.
func TestFlags(t *testing.T) {
	const text = "listen: 127.0.0.1:4333\nserver_name: s\ncluster { listen: 127.0.0.1:6333, authorization { user: r, password: p } }\nauthorization { user: a, password: b }\n"
	file := filepath.Join(t.TempDir(), "n1.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, words := range [][]string{
		{"--user", "x", "--pass", "y"},
		{"-auth", "tok"},
		{"-p", "4444", "-a", "0.0.0.0"},
		{"--cluster", "nats://x:y@127.0.0.1:7777"},
		{"--cluster", ""},
		{"--cluster_listen", "nats://127.0.0.1:-1"},
		{"-m", "8222"},
		{"--profile=99", "-DV", "-n", "other"},
		{"-js", "-sd", "/nowhere"},
		{"--https_port", "1"},
	} {
		want, err := server.ConfigureOptions(flag.NewFlagSet("", flag.ContinueOnError), append(words, "-c", file), func() {}, func() {}, func() {})
		if err != nil {
			t.Fatal(err)
		}
		f, err := parseFlags(words)
		if err != nil {
			t.Fatal(err)
		}
		got := &server.Options{}
		if err := got.ProcessConfigFile(file); err != nil {
			t.Fatal(err)
		}
		if err := f.apply(got); err != nil {
			t.Fatal(err)
		}
		show := func(o *server.Options) string {
			return fmt.Sprint(o.Host, o.Port, o.ServerName, o.Username, o.Password, o.Authorization, o.Cluster.Host, o.Cluster.Port, o.Cluster.Username, o.Cluster.Password, o.HTTPPort, o.HTTPSPort, o.ProfPort, o.JetStream)
		}
		if diff := cmp.Diff(show(want), show(got)); diff != "" {
			t.Errorf("%q (-nats-server +here): %s", words, diff)
		}
	}
	for _, words := range [][]string{{"--nope"}, {"x"}, {"-signal", "stop"}, {"-t"}} {
		if _, err := Read(Source{Name: "n1.conf", Text: []byte{}, Args: words}); err == nil {
			t.Errorf("%q are taken for flags", words)
		}
	}
}

// TestNoSecrets: nothing of a secret is told, wherever it stands.
func TestNoSecrets(t *testing.T) {
	secrets := []string{"hush-password", "hush-token", "hush-route", "hush-leaf", "hush-comment", "hush-env", "SUACJN3OSKWWPQXME4JUNFJ3PARXPO657GGNWNU7PK7G3AUQQYHLW26XH4", "hush-flag", "hush-var", "hush-short"}
	text := `# password: hush-comment
authorization { users: [ { user: a, password: hush-password }, { user: b, password: $P, bogus: "hush-password" } ] }
secret_var: hush-var
cluster { port: 1, routes: [ "nats://u:hush-route@x:1" ], authorization { user: c, password: $secret_var } }
leafnodes { remotes: [ { url: "nats://hush-leaf@x", nkey: SUACJN3OSKWWPQXME4JUNFJ3PARXPO657GGNWNU7PK7G3AUQQYHLW26XH4 } ], port: "hush-token" }
mqtt { authorization { token: hush-token } }
no_auth_user: $hush-short
`
	// Of a configuration that cannot be read, nobody knows where variables lead.
	broken := strings.ReplaceAll(text, "secret_var: hush-var", "") + "a {"
	for _, t2 := range []string{text, strings.ReplaceAll(text, `, bogus: "hush-password"`, ""), broken} {
		f := read(t, t2, env("P", "hush-env"), args("--pass", "hush-flag"))
		told, err := json.Marshal(f.Server)
		if err != nil {
			t.Fatal(err)
		}
		all := string(told)
		for i := range strings.Count(t2, "\n") + 1 {
			line, _ := f.Line(posture.Place{File: "n1.conf", Line: i + 1, Column: 1})
			all += "\n" + line
		}
		for _, s := range secrets {
			if strings.Contains(all, s) && s != "hush-short" {
				i := strings.Index(all, s)
				t.Errorf("%s is told: …%s…", s, all[max(0, i-80):min(len(all), i+40)])
			}
		}
		if strings.Contains(string(told), "hush-short") {
			t.Error("a variable that is none is told")
		}
	}
}

// TestNothingStays: no goroutine goes on after a configuration was read.
func TestNothingStays(t *testing.T) {
	const text = "jetstream: true\nserver_name: s\naccounts { A { users: [ { user: a, password: b } ], exports: [ { service: x } ] }, B { imports: [ { service: { account: A, subject: x } } ] } }\nleafnodes { port: -1 }\n"
	read(t, text)
	before := runtime.NumGoroutine()
	for range 20 {
		if r := read(t, text).Server.Config.Refused; len(r) > 0 {
			t.Fatal(r)
		}
	}
	for range 500 {
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}

// hard are configurations that would cost more than their size calls for.
func hard() map[string]string {
	laughs := "a: [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'l'; c++ {
		laughs += fmt.Sprintf("%c: [%s]\n", c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("$%c ,", c-1), 9), ","))
	}
	var keys, users strings.Builder
	for i := range 100000 {
		fmt.Fprintf(&keys, "k%d: $u%d\n", i, i)
	}
	for i := range 20000 {
		fmt.Fprintf(&users, "{user: u%d, password: p},\n", i)
	}
	return map[string]string{
		"laughs": laughs, "brackets": "a: " + strings.Repeat("[", 1<<20), "braces": strings.Repeat("a {", 1<<18), "keys": keys.String(),
		"users": "authorization { users: [" + users.String() + "] }", "itself": "include n1.conf", "escapes": `a: "` + strings.Repeat(`\t`, 1<<19) + `"`,
		"comments": strings.Repeat("# authorization {\n", 1<<16), "zeros": strings.Repeat("\x00", 1<<20), "spellings": strings.Repeat("Port: 1\nport: 2\n", 1<<14),
		"variables": "port: " + strings.Repeat("$x ", 1<<16),
	}
}

// TestCost: time and memory are bounded, whoever wrote it.
func TestCost(t *testing.T) {
	const mostMemory, mostTime = 3 << 30, time.Minute
	for name, text := range hard() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		read(t, text, func(s *Source) { s.Read = func(string) ([]byte, error) { return []byte(text), nil } })
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > mostMemory || took > mostTime {
			t.Errorf("%s: %d MiB and %s", name, used>>20, took)
		} else {
			t.Logf("%s: %d MiB and %s", name, used>>20, took)
		}
	}
}

// Devices and pipes have no end, and are not read.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"/dev/zero", "/dev/stdin", dir} {
		if _, err := Disk(path); err == nil {
			t.Errorf("%s is read", path)
		}
	}
	f := read(t, `include "../../../../../../../../dev/zero"`, func(s *Source) { s.Read = Disk })
	if r := f.Server.Config.Refused; len(r) != 1 || !strings.Contains(r[0].Text, "not a regular file") && !strings.Contains(r[0].Text, "no such file") {
		t.Errorf("%v", r)
	}
}

// FuzzRead: any bytes are read without a crash, without end, and without a trace
// on the disk.
func FuzzRead(f *testing.F) {
	for _, text := range []string{
		"", guarded, "authorization { user: a, password: $P }", "websocket { port: 80, no_tls: true }", "operator: x\nresolver: MEMORY", "resolver { type: full, dir: x, allow_delete: true }\noperator: y",
		"include n1.conf", "a: 1\nA: 2\nport: $a", "jetstream { store_dir: x }\nlog_file: y\npid_file: z\nports_file_dir: w", "tls { cert_file: a, key_file: b }", "mqtt {port: 1}\njetstream: on",
		"leafnodes { port: 1, authorization { users: [ { user: \"\" } ] }, remotes: [ { url: x, credentials: y } ] }", "gateway { name: g, port: 1 }", "cluster { port: 1, routes: [ x ] }",
	} {
		f.Add([]byte(text))
	}
	dir := f.TempDir()
	f.Chdir(dir)
	f.Fuzz(func(t *testing.T, text []byte) {
		hung := time.AfterFunc(20*time.Second, func() { panic(fmt.Sprintf("it takes for ever: %q", text)) })
		defer hung.Stop()
		file, err := Read(Source{Name: "n1.conf", Text: text, Read: none})
		if err != nil {
			t.Fatal(err)
		}
		if len(file.Server.Doors) != len(posture.DoorKinds()) {
			t.Fatal("not every door is told of")
		}
		file.Ignores()
		for i := range min(len(text), 50) {
			file.Line(posture.Place{File: "n1.conf", Line: i, Column: i})
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Fatalf("left behind: %v, %v", left, err)
		}
	})
}
