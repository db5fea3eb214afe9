package conffile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent/inside"
	"github.com/natsentry/natsentry/agent/posture"
)

const someKey = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"

func write(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func entries(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCandidate reads one file with everything that has side effects, or needs
// what is not there, and leaves no trace.
func TestCandidate(t *testing.T) {
	dir := write(t, map[string]string{
		"users.conf": `users: [ { user: app, password: $APP_PASSWORD }, { user: bridge, password: plain, allowed_connection_types: [websocket, "STANDARD"] } ]`,
	})
	config := strings.ReplaceAll(`
server_name: n1
listen: 127.0.0.1:4222
log_file: "DIR/nats.log"
pid_file: "DIR/nats.pid"
ports_file_dir: "DIR/ports"
http: 127.0.0.1:8222
prof_port: 65432
tls { cert_file: "DIR/none.pem", key_file: "DIR/none.key", ca_file: "DIR/none.ca", verify: true }
allow_non_tls: true
jetstream { store_dir: "DIR/js" }
ops_password: ops-password
accounts {
  $SYS { users: [ { user: sys, password: "$2a$11$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234" } ] }
  APP { jetstream: enabled, include users.conf }
  OPS { users: [ { nkey: KEY }, { user: ops, password: $ops_password, permissions: { publish: x, subscribe: y } } ] }
}
no_auth_user: bridge
websocket { port: 8080, tls { cert_file: "DIR/none.pem", key_file: "DIR/none.key" }, no_auth_user: ops }
mqtt { port: 1883, tls { cert_file: none, key_file: none, verify_and_map: true } }
leafnodes { port: 7422, authorization { users: [ { user: leaf, password: leaf, account: APP } ] }, remotes: [ { url: "nats-leaf://hub.invalid:7422", account: OPS, credentials: "DIR/none.creds" } ] }
cluster { name: c, port: 6222, authorization { user: r, password: r }, routes: [ "nats-route://nowhere.invalid:6222" ] }
`, "DIR", dir)
	config = strings.ReplaceAll(config, "KEY", someKey)
	path := filepath.Join(dir, "candidate.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APP_PASSWORD", "app-password")
	before := entries(t, dir)
	got, err := Candidate(OnDisk(path))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, entries(t, dir)); diff != "" {
		t.Errorf("it left something behind (-before +after):\n%s", diff)
	}
	want := &inside.Candidate{
		Name: "candidate.conf", AuthRequired: true, NoAuthUser: "bridge", SystemAccount: "$SYS",
		Users: map[string]inside.User{
			"sys": {Account: "$SYS", Hashed: true}, "app": {Account: "APP"},
			"bridge": {Account: "APP", Types: []string{"STANDARD", "WEBSOCKET"}}, "ops": {Account: "OPS", Restricted: true},
		},
		NKeys: map[string]inside.User{someKey: {Account: "OPS"}},
		Leaf:  inside.LeafAuth{Users: map[string]inside.User{"leaf": {Account: "APP"}}},
		Doors: map[posture.DoorKind]inside.Door{
			posture.Client: {Port: 4222, Offered: true, Verify: true}, posture.Websocket: {Port: 8080, NoAuthUser: "ops", Offered: true, TLS: true},
			posture.MQTT: {Port: 1883, Offered: true, TLS: true, Verify: true, Map: true}, posture.Leafnode: {Port: 7422}, posture.Route: {Port: 6222, User: "r"},
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// sentinel is the JWT of a user who needs no key.
func sentinel(t *testing.T) string {
	t.Helper()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	c := jwt.NewUserClaims(someKey)
	c.BearerToken = true
	token, err := c.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// TestCandidateOperator needs neither the operator's file nor the resolver's
// folder.
func TestCandidateOperator(t *testing.T) {
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	key, err := account.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{"c.conf": `
server_name: n1
operator: "/nowhere/operator.jwt"
system_account: ` + key + `
resolver { type: full, dir: "./accounts" }
default_sentinel: ` + sentinel(t) + `
mqtt { port: 1883 }
jetstream: enabled
leafnodes { port: 7422, remotes: [ { url: "nats-leaf://hub.invalid", account: ` + key + ` } ] }
gateway { name: g, port: 7222 }
`})
	t.Chdir(dir)
	got, err := Candidate(OnDisk("c.conf"))
	if err != nil {
		t.Fatal(err)
	}
	want := &inside.Candidate{
		Name: "c.conf", AuthRequired: true, Operator: true, Sentinel: true,
		Doors: map[posture.DoorKind]inside.Door{posture.Client: {}, posture.MQTT: {Port: 1883}, posture.Leafnode: {Port: 7422}, posture.Gateway: {Port: 7222}},
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if all := entries(t, "."); len(all) != 2 {
		t.Errorf("it left something behind: %q", all)
	}
}

// TestCandidateHiddenUser: only the system account has users.
func TestCandidateHiddenUser(t *testing.T) {
	dir := write(t, map[string]string{"c.conf": `accounts { $SYS { users: [ { user: sys, password: sys } ] } }`})
	got, err := Candidate(OnDisk(filepath.Join(dir, "c.conf")))
	if err != nil || !posture.IsHiddenUser(got.NoAuthUser, "") || !got.AuthRequired {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCandidateRefused: what nats-server would not start with is told, and no
// secret of it.
func TestCandidateRefused(t *testing.T) {
	const secret = "s3cretOfTheTests"
	for _, c := range []struct{ config, says string }{
		{`authorization { users: [ { user: app, password: ` + secret + ` } ] }, no_auth_user: nobody`, "no_auth_user"},
		{`authorization { token: ` + secret + ` }, no_auth_user: app`, "no_auth_user"},
		{`authorization { user: app, password: $` + secret + ` }`, "variable"},
		{`authorization { user: app, password: "\x` + secret + `" }`, "escapes nothing"},
		{`authorization { user: app, password: ` + secret + `, token: ` + secret + ` }`, "token"},
		{`authorization { user: app, password: ` + secret + `, users: [ { user: b, password: ` + secret + ` } ] }`, "users"},
		{`authorization { users: [ { nkey: ` + secret + ` } ] }`, "nkey"},
		{`authorization { users: [ { user: app, pwd: ` + secret + ` } ] }`, "pwd"},
		{`operator: ` + secret + `, authorization { users: [ { user: app, password: ` + secret + ` } ] }`, "users"},
		{`operator: x, accounts { A { users: [ { user: app, password: ` + secret + ` } ] } }`, "Accounts"},
		{`operator: x, no_auth_user: app`, "no_auth_user"},
		{`cluster { name: c, port: 6222, routes: [ "nats-route://r:` + secret + `@h:x:y" ] }`, "route"},
		{`websocket { port: 8080, no_tls: true, authorization { token: ` + secret + ` } }, authorization { users: [ { user: a, password: ` + secret + ` } ] }`, "websocket"},
		{`authorization { token: "` + secret, ""},
		{`authorization { token: $NOT_SET_IN_TESTS }`, "NOT_SET_IN_TESTS"},
		{`include "not-there.conf"`, "not-there.conf"},
	} {
		dir := write(t, map[string]string{"c.conf": c.config})
		_, err := Candidate(OnDisk(filepath.Join(dir, "c.conf")))
		switch {
		case err == nil:
			t.Errorf("%s: no error", c.config)
		case strings.Contains(err.Error(), secret):
			t.Errorf("%s: the error shows the secret: %v", c.config, err)
		case !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "c.conf"):
			t.Errorf("%s: %v", c.config, err)
		}
	}
}
