package integration

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/integration/fleet"
)

// nscCure is an account that a check finds fault with. The remedy is run by the
// real nsc, in the words of its text.
type nscCure struct {
	check string
	cause posture.Cause
	// sick are nsc commands that make the fault. They may use the words of
	// remedies: see nscWords.
	sick []string
	// raw makes the fault where nsc refuses to.
	raw func(*nscCases, *nscCase)
	// unpushed are accounts that the servers are not given.
	unpushed []string
	// cured are the beginnings of the commands in the remedy's text, in the order
	// in which they are run.
	cured []string
	key   string // what KEY stands for: a word of nscWords
	// returns is a client that needs its new credentials for the finding to end.
	returns  bool
	user     string // what USER stands for, unless it is "u"
	foreign  bool   // nsc does not have the account before
	unloaded bool   // no server has loaded the account before
}

func nscCures() []nscCure {
	const (
		export  = "add export --account EXPORTER --subject SUBJECT"
		importE = "add import --account NAME --src-account EXPORTER --remote-subject SUBJECT"
		private = "edit export --account EXPORTER --subject SUBJECT --private"
		grant   = "generate activation --account EXPORTER --subject SUBJECT --target-account OWN_KEY --output-file FILE"
		take    = "add import --account NAME --token FILE"
		push    = "push --account NAME"
		remove  = "delete import --account NAME"
	)
	renew := []string{"generate activation --account EXPORTER", remove, take, push}
	return []nscCure{
		{check: "JWT_010", cause: "self-signed", raw: signItself, foreign: true, cured: []string{"import account --file NAME.jwt", push}},
		{check: "JWT_010", cause: "unknown-issuer", raw: foreigner, foreign: true, cured: []string{"push --account-removal KEY"}, key: "OWN_KEY"},
		{check: "JWT_010", cause: "unknown-issuer", raw: foreignSigner, unloaded: true, cured: []string{"edit account NAME --tag signed -K SIGNING_KEY", push}},
		{check: "JWT_011", cause: "store-differs", raw: foreignSigner, cured: []string{push}},
		{check: "JWT_011", cause: "refused", raw: refusedClaim, unpushed: []string{"NAME"}, unloaded: true, cured: []string{push}},
		{check: "JWT_012", cured: []string{"edit account NAME --sk generate", push, "edit user --account NAME --name USER --tag signed -K SIGNING_KEY"}},
		{check: "JWT_012", cured: []string{"edit signing-key --account NAME --sk generate", push, "add user --account NAME --name USER -K ROLE"}, user: "fresh"},
		{check: "JWT_013", sick: []string{"edit account NAME --expiry 10d"}, cured: []string{"edit account NAME --expiry", push}},
		{check: "JWT_014", cured: []string{"edit account NAME --disallow-bearer", push}},
		{check: "JWT_015", cured: []string{"edit account NAME --rm", push}},
		{check: "JWT_015", cause: "scoped-key", sick: []string{
			"edit account NAME --allow-pub SUBJECTS --allow-sub SUBJECTS", "edit signing-key --account NAME --sk generate --role ROLE --allow-pub > --allow-sub >",
		}, cured: []string{"edit signing-key --account NAME --sk KEY", push}, key: "ROLE"},
		{check: "JWT_016", cured: []string{"edit account NAME --conns", push}},
		{check: "JWT_017", sick: []string{
			"add export --account NAME --subject SUBJECT", "add import --account IMPORTER --src-account NAME --remote-subject SUBJECT",
		}, cured: []string{"edit export", "generate activation", "delete import", "add import", "push --account IMPORTER", push}, key: "IMPORTER_KEY"},
		{check: "JWT_018", sick: []string{export, private, grant + " --expiry 10d", take}, cured: renew, key: "OWN_KEY"},
		{check: "JWT_018", cause: "no-activation", sick: []string{export, importE, private}, cured: renew, key: "OWN_KEY"},
		{check: "JWT_018", cause: "activation-signer-removed", sick: []string{
			export, private, "edit account EXPORTER --sk generate", grant + " -K EXPORTER_SIGNING_KEY", take, "edit account EXPORTER --rm-sk EXPORTER_SIGNING_KEY",
		}, cured: renew, key: "OWN_KEY"},
		{
			check: "JWT_018", cause: "activation-revoked", sick: []string{export, private, grant, take, "revocations add-activation --account EXPORTER --subject SUBJECT --target-account OWN_KEY"},
			cured: []string{"revocations delete-activation", "push --account EXPORTER"}, key: "OWN_KEY",
		},
		{
			check: "JWT_018", cause: "activation-revoked", sick: []string{export, private, grant, take, "revocations add-activation --account EXPORTER --subject SUBJECT --target-account OWN_KEY"},
			cured: []string{remove, push},
		},
		{check: "JWT_018", cause: "no-such-export", sick: []string{export, importE, "delete export --account EXPORTER --subject SUBJECT"}, cured: []string{"describe account EXPORTER", remove, push}},
		{check: "JWT_018", cause: "no-such-account", sick: []string{export, importE}, unpushed: []string{"EXPORTER"}, cured: []string{"push --account EXPORTER"}},
		{check: "JWT_018", cause: "no-such-account", sick: []string{export, importE}, unpushed: []string{"EXPORTER"}, cured: []string{remove, push}},
		{check: "JWT_019", sick: []string{"edit authcallout --account NAME --auth-user NOBODY"}, cured: []string{"edit authcallout", push}},
		{check: "JWT_020", cause: "no-xkey", sick: []string{"edit authcallout --account NAME --auth-user USER_KEY"}, cured: []string{"edit authcallout", push}},
		{check: "JWT_020", cause: "any-account", sick: []string{"edit authcallout --account NAME --auth-user USER_KEY --curve generate --allowed-account *"}, cured: []string{"edit authcallout", push}, key: "EXPORTER_KEY"},
		{check: "JWT_021", cause: "no-connections", sick: []string{"edit account NAME --conns 0 --leaf-conns 0"}, cured: []string{"edit account NAME --conns", push}},
		{check: "JWT_021", cause: "not-yet", sick: []string{"edit account NAME --start 3d"}, cured: []string{"edit account NAME --start", push}},
		{check: "JWT_030", cured: []string{"edit user", "generate creds"}, returns: true},
		{check: "JWT_031", raw: agedUser, unloaded: true, cured: []string{"edit user", "generate creds"}, returns: true},
		{check: "JWT_032", sick: []string{"edit user --account NAME --name USER --bearer"}, cured: []string{"edit user", "generate creds", "edit account --name NAME --disallow-bearer", push}, returns: true},
		{check: "JWT_033", cured: []string{"edit user"}, returns: true},
		{check: "JWT_034", sick: []string{"edit user --account NAME --name USER --allow-pub > --allow-sub >"}, cured: []string{"edit user"}, returns: true},
	}
}

// nscCase is one cure on the servers.
type nscCase struct {
	nscCure
	name   string
	public string
	client *nats.Conn // nil: nobody can log in
}

// nscCases is the system of all of them.
type nscCases struct {
	t  *testing.T
	n  *realNsc
	s  *fleet.Server
	nc *nats.Conn
}

// output runs one command, and returns what it prints.
func (n *realNsc) output(args ...string) string {
	n.t.Helper()
	cmd := exec.CommandContext(n.t.Context(), n.path, append(args, "--all-dirs", n.dir)...)
	cmd.Dir = n.dir
	cmd.Env = append(os.Environ(), "HOME="+n.dir, "NSC_HOME="+n.dir, "NSC_NO_GIT_IGNORE=true")
	out, err := cmd.CombinedOutput()
	if err != nil {
		n.t.Fatalf("nsc %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// account is the JWT of an account, as nsc has it.
func (n *realNsc) account(name string) (token string, claims *jwt.AccountClaims) {
	n.t.Helper()
	token = strings.TrimSpace(string(must(os.ReadFile(filepath.Join(n.dir, "ACME", "accounts", name, name+".jwt")))))
	return token, must(jwt.DecodeAccountClaims(token))
}

// operator is the JWT of the operator, as nsc has it.
func (n *realNsc) operator() (token string, claims *jwt.OperatorClaims) {
	n.t.Helper()
	token = strings.TrimSpace(n.output("describe", "operator", "--raw"))
	return token, must(jwt.DecodeOperatorClaims(token))
}

// key is a key that nsc keeps.
func (n *realNsc) key(public string) nkeys.KeyPair {
	n.t.Helper()
	return must(nkeys.FromSeed(must(os.ReadFile(filepath.Join(n.dir, "keys", public[:1], public[1:3], public+".nk")))))
}

// userOf is the one whom the remedy speaks of.
func (c *nscCase) userOf() string {
	if c.user != "" {
		return c.user
	}
	return "u"
}

// word is what a word of a command stands for.
func (c *nscCase) word(n *realNsc, word string) string {
	n.t.Helper()
	exporter, importer := "E"+c.name, "I"+c.name
	subject := func(name string) string {
		_, claims := n.account(name)
		return claims.Subject
	}
	signing := func(name string) string {
		_, claims := n.account(name)
		return claims.SigningKeys.Keys()[0]
	}
	switch word {
	case "KEY":
		return c.word(n, c.key)
	case "NAME":
		return c.name
	case "USER":
		return c.userOf()
	case "ROLE":
		return "role"
	case "EXPORTER":
		return exporter
	case "IMPORTER":
		return importer
	case "SUBJECT", "SUBJECTS":
		return "orders.>"
	case "FILE":
		return filepath.Join(n.dir, c.name+".file")
	case "NAME.jwt":
		return filepath.Join(n.dir, c.name+".jwt")
	case "10.0.0.0/8": // an example
		return "127.0.0.0/8"
	case "OWN_KEY":
		return c.public
	case "EXPORTER_KEY":
		return subject(exporter)
	case "IMPORTER_KEY":
		return subject(importer)
	case "EXPORTER_SIGNING_KEY":
		return signing(exporter)
	case "SIGNING_KEY":
		if c.check == "JWT_012" {
			return signing(c.name)
		}
		_, claims := n.operator()
		return claims.SigningKeys[0]
	case "USER_KEY":
		return n.user(c.name, "u").Subject
	case "NOBODY":
		return must(must(nkeys.CreateUser()).PublicKey())
	}
	return strings.Trim(word, "'")
}

// user is the JWT of a user, as nsc has it.
func (n *realNsc) user(account, name string) *jwt.UserClaims {
	n.t.Helper()
	text := must(os.ReadFile(n.creds(account, name)))
	return must(jwt.DecodeUserClaims(must(jwt.ParseDecoratedJWT(text))))
}

// nsc runs a command in which words stand for what the case has.
func (c *nscCase) nsc(n *realNsc, command string) {
	n.t.Helper()
	args := strings.Fields(command)
	for i := range args {
		args[i] = c.word(n, args[i])
	}
	n.output(args...)
}

var nscCommand = regexp.MustCompile("`nsc ([^`]+)`")

// commandsOf are the nsc commands of a remedy's text.
func commandsOf(r check.Remedy) []string {
	var all []string
	for _, m := range nscCommand.FindAllStringSubmatch(r.Text, -1) {
		all = append(all, m[1])
	}
	return all
}

// cure does what the remedy says.
func (x *nscCases) cure(c *nscCase) {
	x.t.Helper()
	n := x.n
	all := commandsOf(check.Lookup(c.check).RemedyFor(c.cause))
	for _, begins := range c.cured {
		i := slices.IndexFunc(all, func(command string) bool { return strings.HasPrefix(command, begins) })
		if i < 0 {
			n.t.Fatalf("%s: the remedy has no %q: %q", c.name, begins, all)
		}
		if name, ok := strings.CutPrefix(all[i], "push --account "); ok && c.check != "JWT_013" {
			// nsc waits for a whole second whether other servers answer: once is enough.
			token, _ := n.account(c.word(n, name))
			push(x.t, x.nc, token)
			continue
		}
		c.nsc(n, all[i])
	}
}

// judged is what the check says of the account: fails where it finds this fault,
// and ended where there is none, or no such account any more.
func (c *nscCase) judged(state *agent.State) (fails, ended bool) {
	for _, r := range state.Results {
		if r.Check.ID == c.check && r.Scope.Account == c.public {
			return r.Common || r.Outcome == check.Fail && r.Cause == c.cause, !r.Common && (r.Outcome == check.Pass || r.Outcome == check.NotApplicable)
		}
	}
	return false, true
}

// login connects a user of the account; nil where the server rejects it.
func (x *nscCases) login(c *nscCase, user string) *nats.Conn {
	nc, err := nats.Connect(x.s.URL(), nats.UserCredentials(x.n.creds(c.name, user)), nats.NoReconnect())
	if err != nil {
		return nil
	}
	x.t.Cleanup(nc.Close)
	return nc
}

// later waits until what is signed is later than what was: a store takes nothing
// that is as old as what it has, and JWTs are as old as their second.
func later(t *testing.T) {
	t.Helper()
	began := time.Now().Unix()
	eventually(t, "the next claims are later", func() bool { return time.Now().Unix() > began })
}

// signItself pushes an account that has signed itself.
func signItself(x *nscCases, c *nscCase) {
	key := must(nkeys.CreateAccount())
	c.public = must(key.PublicKey())
	claims := jwt.NewAccountClaims(c.public)
	claims.Name = c.name
	token := must(claims.Encode(key))
	push(x.t, x.nc, token)
	if err := os.WriteFile(c.word(x.n, "NAME.jwt"), []byte(token), 0o600); err != nil {
		x.t.Fatal(err)
	}
}

// foreigner pushes an account of another operator.
func foreigner(x *nscCases, c *nscCase) {
	a := must(must(fleet.NewOperator()).Account(c.name, nil))
	c.public = a.Public
	push(x.t, x.nc, a.JWT)
}

// foreignSigner pushes the account as another operator has signed it.
func foreignSigner(x *nscCases, c *nscCase) {
	_, claims := x.n.account(c.name)
	later(x.t)
	token := must(must(fleet.NewOperator()).Encode(claims))
	if _, err := x.nc.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(token), 5*time.Second); err != nil {
		x.t.Fatal(err)
	}
}

// refusedClaim puts into the store what no server loads.
func refusedClaim(x *nscCases, c *nscCase) {
	_, claims := x.n.account(c.name)
	claims.Exports.Add(&jwt.Export{Subject: "a b", Type: jwt.Stream})
	_, op := x.n.operator()
	store, ok := x.s.Embedded().AccountResolver().(*server.DirAccResolver)
	if !ok {
		x.t.Fatal("no FULL resolver")
	}
	if err := store.Store(c.public, must(claims.Encode(x.n.key(op.SigningKeys[0])))); err != nil {
		x.t.Fatal(err)
	}
	x.login(c, "u")
}

// agedUser connects a user whose JWT is near its end, issued long ago.
func agedUser(x *nscCases, c *nscCase) {
	claims := x.n.user(c.name, "u")
	claims.Expires = time.Now().Add(3 * 24 * time.Hour).Unix()
	key := x.n.key(c.public)
	parts := strings.Split(must(claims.Encode(key)), ".")
	var all map[string]any
	if err := json.Unmarshal(must(base64.RawURLEncoding.DecodeString(parts[1])), &all); err != nil {
		x.t.Fatal(err)
	}
	all["iat"] = time.Now().Add(-60 * 24 * time.Hour).Unix()
	signed := parts[0] + "." + base64.RawURLEncoding.EncodeToString(must(json.Marshal(all)))
	token := signed + "." + base64.RawURLEncoding.EncodeToString(must(key.Sign([]byte(signed))))
	c.client = connect(x.t, x.s.URL(), nats.UserJWTAndSeed(token, string(must(x.n.key(claims.Subject).Seed()))), nats.NoReconnect())
}

// TestRemediesOfAccounts runs the remedies of accounts and users with the real
// nsc, in the words of their texts, and looks whether each finding ends, by the
// push or the new credentials alone.
func TestRemediesOfAccounts(t *testing.T) {
	t.Parallel()
	n := newRealNsc(t)
	n.run("add operator --generate-signing-key --sys --name ACME")
	var cases []*nscCase
	for i, cure := range nscCures() {
		c := &nscCase{nscCure: cure, name: "A" + strconv.Itoa(i)}
		cases = append(cases, c)
		if cure.foreign {
			continue
		}
		all := strings.Join(slices.Concat(cure.sick, cure.cured, []string{cure.key}), " ")
		for word, prefix := range map[string]string{"EXPORTER": "E", "IMPORTER": "I"} {
			if strings.Contains(all, word) {
				n.run("add account --name", prefix+c.name)
			}
		}
		n.run("add account --name", c.name)
		n.run("add user --name u --account", c.name)
		_, claims := n.account(c.name)
		c.public = claims.Subject
		for _, command := range cure.sick {
			c.nsc(n, command)
		}
	}
	s := start(t, fleet.Spec{Name: "n1", Config: strings.Replace(n.config(), "allow_delete: false", "allow_delete: true", 1)}).Server("n1")
	n.run("edit operator --account-jwt-server-url", s.URL())
	nc := connect(t, s.URL(), nats.UserCredentials(n.creds("SYS", "sys")))
	x := &nscCases{t, n, s, nc}
	for _, c := range cases {
		for _, word := range []string{"EXPORTER", "IMPORTER", "NAME"} {
			name := c.word(n, word)
			if _, err := os.Stat(filepath.Join(n.dir, "ACME", "accounts", name)); err == nil && !slices.Contains(c.unpushed, word) {
				token, _ := n.account(name)
				push(t, nc, token)
			}
		}
		if !c.foreign && !c.unloaded {
			c.client = x.login(c, "u")
		}
		if c.raw != nil {
			c.raw(x, c)
		}
	}
	a := auditor(t, nc, collect.Config{Timeout: 30 * time.Second, Settle: 20 * time.Millisecond})
	state := sweep(t, a)
	for _, c := range cases {
		if fails, _ := c.judged(state); !fails {
			t.Errorf("%s: %s finds no fault for %q: %+v", c.name, c.check, c.cause, said(state, c.check, c.public))
		}
	}
	later(t)
	for _, c := range cases {
		x.cure(c)
		if c.returns {
			c.client.Close()
			if c.client = x.login(c, c.userOf()); c.client == nil {
				t.Errorf("%s: the user does not come back after the remedy of %s", c.name, c.check)
			}
		}
	}
	state = lookTwice(t, a)
	for _, c := range cases {
		if _, ended := c.judged(state); !ended {
			t.Errorf("%s: %s for %q does not end: %+v", c.name, c.check, c.cause, said(state, c.check, c.public))
		}
		text := check.Lookup(c.check).RemedyFor(c.cause).Text
		if strings.Contains(text, "onnected clients stay") && c.client != nil && !c.client.IsConnected() {
			t.Errorf("%s: %s promises that connected clients stay, and one is gone", c.name, c.check)
		}
		if !c.foreign && x.login(c, c.userOf()) == nil {
			t.Errorf("%s: nobody can log in after the remedy of %s", c.name, c.check)
		}
	}
}
