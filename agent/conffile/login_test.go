package conffile

import (
	"strings"
	"testing"

	"github.com/natsentry/natsentry/agent/posture"
)

// TestLoginOfFlags: nats-server has the login of its flags when it reads its file,
// and refuses some files for it. An authorization block takes its place, when it is
// read first.
func TestLoginOfFlags(t *testing.T) {
	const accounts = "accounts { A { users: [ { user: a, password: ohx5Ohkahp } ] } }\n"
	for _, tc := range []struct {
		text    string
		args    []string
		refused string // "" for none
	}{
		{accounts, nil, ""},
		{accounts, []string{"--user", "f", "--pass", "Aek9aech2o"}, "Can not have a single user/pass and accounts"},
		{accounts, []string{"--auth", "Aek9aech2o"}, "Can not have a token and accounts"},
		{accounts + "authorization { timeout: 2 }\n", []string{"--user", "f", "--pass", "Aek9aech2o"}, "by chance"},
		{accounts + "authorization {}\n", []string{"--auth", "Aek9aech2o"}, "by chance"},
		{accounts + "authorization {}\n", []string{"--name", "n"}, ""},
		{"accounts { A {} }\n", []string{"--user", "f", "--pass", "Aek9aech2o"}, ""},
		{"accounts { A { users: [] } }\nauthorization {}\n", []string{"--user", "f", "--pass", "Aek9aech2o"}, ""},
	} {
		f, err := Read(Source{Name: "x", Text: []byte(tc.text), Args: tc.args})
		if err != nil {
			t.Fatal(err)
		}
		got := f.Server.Config.Refused
		if (len(got) > 0) != (tc.refused != "") || len(got) > 0 && !strings.Contains(got[0].Text, tc.refused) {
			t.Errorf("%q %q: refused %v, want %q", tc.text, tc.args, got, tc.refused)
		}
	}
}

// TestOneSpellingRefused: where nats-server takes one of two spellings and refuses
// the other, nothing is known, whichever comes first here.
func TestOneSpellingRefused(t *testing.T) {
	const text = "accounts { $SYS { users: [ { user: s, password: ohx5Ohkahp } ] } }\nauthorization { user: a, password: ohx5Ohkahp }\nAuthorization { users: [ { user: b, password: ohx5Ohkahp } ] }\n"
	for range 40 {
		f, err := Read(Source{Name: "x", Text: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		d := f.Server.Door(posture.Client)
		if len(f.Server.Config.Refused) > 0 || d.Access != posture.Unknown || !strings.Contains(d.Reason, "nats-server takes last") {
			t.Fatalf("refused %v, %s: %s", f.Server.Config.Refused, d.Access, d.Reason)
		}
	}
}
