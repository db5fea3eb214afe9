package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
)

// parsed is a program whose flags were read, as a command would find it.
func parsed(t *testing.T, env map[string]string, args ...string) (*program, error) {
	t.Helper()
	p := &program{stdout: new(strings.Builder), stderr: new(strings.Builder)}
	for _, k := range slices.Sorted(maps.Keys(env)) {
		p.env = append(p.env, k+"="+env[k])
	}
	cmd, rest, err := p.root().Find(append([]string{"audit"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return p, err
	}
	return p, p.fromEnvironment(cmd, nil)
}

// contextFolder is a folder with contexts, one of which is selected.
func contextFolder(t *testing.T, selected string, contexts map[string]string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "nats", "context")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range contexts {
		write(t, filepath.Join(dir, name+".json"), text)
	}
	if selected != "" {
		write(t, filepath.Join(root, "nats", "context.txt"), selected)
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What the flags, the environment and the contexts together mean, as the nats
// command line has it.
func TestTarget(t *testing.T) {
	config := contextFolder(t, "chosen", map[string]string{
		"chosen": `{"url":"nats://chosen:4222","user":"cu","password":"cp"}`,
		"prod":   `{"url":"nats://prod:4222","token":"prodtoken","inbox_prefix":"_INBOX_PROD"}`,
		"bare":   `{}`,
	})
	file := filepath.Join(t.TempDir(), "team.json")
	write(t, file, `{"url":"nats://team:4222"}`)
	type want struct {
		name, servers, user, password, token, inbox string
		anonymous, explicit                         bool
	}
	for _, tc := range []struct {
		name string
		env  map[string]string
		args []string
		want want
	}{
		{"nothing", map[string]string{"XDG_CONFIG_HOME": t.TempDir()}, nil, want{servers: nats.DefaultURL, inbox: inboxPrefix, anonymous: true}},
		{"selected context", nil, nil, want{name: "chosen", servers: "nats://chosen:4222", user: "cu", password: "cp", inbox: inboxPrefix, explicit: true}},
		{"named context", nil, []string{"--context", "prod"}, want{name: "prod", servers: "nats://prod:4222", token: "prodtoken", inbox: "_INBOX_PROD", explicit: true}},
		{"context from the environment", map[string]string{"NATS_CONTEXT": "prod"}, nil, want{name: "prod", servers: "nats://prod:4222", token: "prodtoken", inbox: "_INBOX_PROD", explicit: true}},
		{"flag before environment", map[string]string{"NATS_CONTEXT": "prod"}, []string{"--context", "bare"}, want{name: "bare", servers: nats.DefaultURL, inbox: inboxPrefix, anonymous: true, explicit: true}},
		{"context file", nil, []string{"--context", file}, want{name: "team", servers: "nats://team:4222", inbox: inboxPrefix, anonymous: true, explicit: true}},
		{"no context", nil, []string{"--no-context"}, want{servers: nats.DefaultURL, inbox: inboxPrefix, anonymous: true}},
		{"no context beats a named one", nil, []string{"--no-context", "--context", "prod"}, want{servers: nats.DefaultURL, inbox: inboxPrefix, anonymous: true}},
		{"flags over the context", nil, []string{"-s", "nats://n9:4222", "--user", "u", "--password", "p"}, want{name: "chosen", servers: "nats://n9:4222", user: "u", password: "p", inbox: inboxPrefix, explicit: true}},
		{"environment over the context", map[string]string{"NATS_URL": "nats://n9:4222", "NATS_USER": "u", "NATS_PASSWORD": "p"}, nil, want{name: "chosen", servers: "nats://n9:4222", user: "u", password: "p", inbox: inboxPrefix, explicit: true}},
		{"empty variables are none", map[string]string{"NATS_URL": "", "NATS_USER": "", "NATS_CONTEXT": ""}, nil, want{name: "chosen", servers: "nats://chosen:4222", user: "cu", password: "cp", inbox: inboxPrefix, explicit: true}},
		{"user without password is a token", nil, []string{"--no-context", "--user", "secrettoken"}, want{servers: nats.DefaultURL, token: "secrettoken", inbox: inboxPrefix}},
		{"token", nil, []string{"--no-context", "--token", "tok"}, want{servers: nats.DefaultURL, token: "tok", inbox: inboxPrefix}},
		{"token from the environment", map[string]string{"NATS_TOKEN": "tok"}, []string{"--no-context"}, want{servers: nats.DefaultURL, token: "tok", inbox: inboxPrefix}},
		{"inbox prefix", nil, []string{"--context", "prod", "--inbox-prefix", "_MINE"}, want{name: "prod", servers: "nats://prod:4222", token: "prodtoken", inbox: "_MINE", explicit: true}},
		{"several servers", nil, []string{"--no-context", "-s", "n1,n2:4333"}, want{servers: "n1,n2:4333", inbox: inboxPrefix, anonymous: true, explicit: true}},
		{"credentials in the URL", nil, []string{"--no-context", "-s", "nats://a:b@n1"}, want{servers: "nats://a:b@n1", inbox: inboxPrefix, explicit: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			env := map[string]string{"XDG_CONFIG_HOME": config}
			maps.Copy(env, tc.env)
			p, err := parsed(t, env, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			target, err := p.loadTarget(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var o nats.Options
			for _, opt := range target.opts {
				if err := opt(&o); err != nil {
					t.Fatal(err)
				}
			}
			got := want{target.name, target.servers, o.User, o.Password, o.Token, o.InboxPrefix, target.anonymous, target.explicit}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOtherConnectionFlags(t *testing.T) {
	p, err := parsed(t, map[string]string{
		"NATS_TIMEOUT": "7s", "NATS_CREDS": "a", "NATS_NKEY": "b", "NATS_JWT": "c", "NATS_SEED": "d",
		"NATS_CERT": "e", "NATS_KEY": "f", "NATS_CA": "g", "NATS_SOCKS_PROXY": "h",
	}, "--tls-first", "--nkey", "flag")
	if err != nil {
		t.Fatal(err)
	}
	want := connectionFlags{
		timeout: 7 * time.Second, creds: "a", nkey: "flag", jwt: "c", seed: "d", tlsCert: "e", tlsKey: "f", ca: "g", socksProxy: "h", tlsFirst: true,
	}
	if diff := cmp.Diff(want, p.connection, cmp.AllowUnexported(connectionFlags{})); diff != "" {
		t.Error(diff)
	}
	if _, err := parsed(t, map[string]string{"NATS_TIMEOUT": "hunter2"}); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "NATS_TIMEOUT") {
		t.Errorf("a wrong variable: %v", err)
	}
}

func TestTargetErrors(t *testing.T) {
	config := contextFolder(t, "gone", map[string]string{"broken": `{"password": "hunter2"`})
	notJSON := filepath.Join(t.TempDir(), "x.json")
	write(t, notJSON, "hunter2")
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"the selected context is gone", nil, "nats context select"},
		{"unknown context", []string{"--context", "nope"}, "nats context ls"},
		{"a context file that is not there", []string{"--context", "/no/such/file.json"}, "context"},
		{"broken context", []string{"--context", "broken"}, "context"},
		{"broken context file", []string{"--context", notJSON}, "context file"},
		{"no CA file", []string{"--no-context", "--tlsca", "/no/ca.pem"}, "--tlsca: stat /no/ca.pem"},
		{"no nkey file", []string{"--no-context", "--nkey", "/no/seed.nk"}, "/no/seed.nk"},
		{"a seed instead of its file", []string{"--no-context", "--nkey", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"}, "open xxxxx"},
		{"unreadable URL", []string{"--no-context", "-s", "nats://ok,nats://u:hunter2%zz@n1"}, "server URL 2"},
		{"creds that are no reference", []string{"--no-context", "--creds", "data:;base64,hunter2"}, "credentials: creds"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := parsed(t, map[string]string{"XDG_CONFIG_HOME": config}, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.loadTarget(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want something with %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("a secret in %v", err)
			}
		})
	}
}

func TestRedactServers(t *testing.T) {
	for in, want := range map[string]string{
		"nats://n1:4222":                      "nats://n1:4222",
		"n1":                                  "n1",
		"tls://u:p@n1:4222,n2":                "tls://n1:4222,n2",
		"token@n1":                            "n1",
		"nats://u:p@ss@n1:4222":               "nats://n1:4222",
		"nats://u:p,ss@n1:4222":               "(unreadable URL),n1:4222",
		"ws://[::1]:80/path":                  "ws://[::1]:80/path",
		"nats://secret with spaces":           "(unreadable URL)",
		"nats://n1:4222?password=hunter2":     "(unreadable URL)",
		"u:p@x://n1":                          "(unreadable URL)",
		" nats://a:b@n1 , nats://\x1b[2Jn2 ":  "nats://n1,(unreadable URL)",
		"nats://user:pass@n1/sub@dir:4222":    "nats://dir:4222",
		"nats://127.0.0.1:4222,127.0.0.1:422": "nats://127.0.0.1:4222,127.0.0.1:422",
	} {
		if got := redactServers(in); got != want {
			t.Errorf("redactServers(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzRedactServers(f *testing.F) {
	f.Add("nats://user:hunter2@n1:4222")
	f.Add("/\x1f0")
	f.Add("a\x1b://n1")
	f.Fuzz(func(t *testing.T, s string) {
		got := redactServers(s)
		printable(t, got)
		if strings.Contains(got, "@") {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestScrub(t *testing.T) {
	target := &target{secrets: []string{"hunter2"}}
	cause := errors.New("the server says hunter2 is wrong")
	err := target.scrub(cause)
	if got := err.Error(); got != "the server says xxxxx is wrong" || !errors.Is(err, cause) {
		t.Errorf("%q", got)
	}
	if err := target.scrub(nats.ErrTimeout); !errors.Is(err, nats.ErrTimeout) || err.Error() != nats.ErrTimeout.Error() {
		t.Error(err)
	}
}

func TestUnreachable(t *testing.T) {
	for _, tc := range []struct {
		target target
		err    error
		want   string
	}{
		{target{explicit: true}, nats.ErrNoServers, "--server"},
		{target{}, nats.ErrNoServers, "that is the default"},
		{target{}, nats.ErrAuthorization, "refused the credentials"},
		{target{anonymous: true}, nats.ErrAuthorization, "wants credentials"},
		{target{}, errors.New("tls: failed to verify certificate: x509: unknown authority"), "--tlsca"},
		{target{}, nats.ErrTimeout, "--timeout"},
		{target{}, errors.New("dial tcp: lookup n1: no such host"), "another --server"},
	} {
		err := tc.target.unreachable(tc.err)
		if !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err) {
			t.Errorf("%v: %v", tc.err, err)
		}
	}
}
