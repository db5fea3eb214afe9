package integration

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestMain makes this test's binary a stand-in for nsc where it is called so.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "nsc" {
		if err := standIn(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "nsc:", err) //nolint:forbidigo // the stand-in is a process of its own
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// buildDir is where what all tests share is built; "" before.
var buildDir string

// buildNatsentry builds the program, once.
var buildNatsentry = sync.OnceValues(func() (path string, err error) {
	if buildDir, err = os.MkdirTemp("", "natsentry-build-"); err != nil {
		return "", err
	}
	path = filepath.Join(buildDir, "natsentry")
	if out, err := exec.Command("go", "build", "-o", path, "../cmd/natsentry").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// nscStore is a folder of keys and JWTs, which NSC_HOME names.
type nscStore struct{ dir string }

// standIn does what the nsc commands that natsentry prints do, with the library
// that nsc uses. It reads their flags into claims as nsc 2.15.0 does, refuses
// what nsc would refuse, and refuses every other command and flag.
func standIn(args []string) error {
	s := &nscStore{os.Getenv("NSC_HOME")}
	if s.dir == "" || len(args) < 1 {
		return errors.New("there is no NSC_HOME, or no command")
	}
	verb := args[0]
	if len(args) > 1 && !strings.HasPrefix(args[1], "-") {
		verb += " " + args[1]
		args = args[1:]
	}
	commands := map[string]func(*flag.FlagSet) func() error{
		"add account": s.addAccount, "edit account": s.editAccount, "add export": s.addExport, "generate activation": s.generateActivation,
		"add import": s.addImport, "add user": s.addUser, "generate creds": s.generateCreds, "push": s.push,
	}
	command := commands[verb]
	if command == nil {
		return fmt.Errorf("the stand-in does not know %q", verb)
	}
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	run := command(flags)
	if err := flags.Parse(args[1:]); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%s: what is %q?", verb, flags.Args())
	}
	if err := run(); err != nil {
		return fmt.Errorf("%s: %w", verb, err)
	}
	return nil
}

// save writes the operator and its accounts into a store.
func (o *operator) save(dir string) *nscStore {
	o.t.Helper()
	s := &nscStore{dir}
	err := s.writeKey("operator", o.Key)
	for name, a := range map[string]*fleet.Account{"SYS": &o.System, "APP": &o.App} {
		err = errors.Join(err, s.writeKey(name, a.Key), s.write(name+".jwt", a.JWT))
	}
	if err != nil {
		o.t.Fatal(err)
	}
	return s
}

func (s *nscStore) path(name string) string { return filepath.Join(s.dir, name) }

func (s *nscStore) read(name string) (string, error) {
	text, err := os.ReadFile(s.path(name))
	return string(text), err
}

func (s *nscStore) write(name, text string) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(s.path(name), []byte(text), 0o600)
}

func (s *nscStore) writeKey(name string, key nkeys.KeyPair) error {
	seed, err := key.Seed()
	if err != nil {
		return err
	}
	return s.write(name+".nk", string(seed))
}

func (s *nscStore) key(name string) (nkeys.KeyPair, error) {
	seed, err := s.read(name + ".nk")
	if err != nil {
		return nil, err
	}
	return nkeys.FromSeed([]byte(seed))
}

func (s *nscStore) account(name string) (*jwt.AccountClaims, error) {
	token, err := s.read(name + ".jwt")
	if err != nil {
		return nil, err
	}
	return jwt.DecodeAccountClaims(token)
}

// sign writes an account, signed by the operator.
func (s *nscStore) sign(claims *jwt.AccountClaims) error {
	key, err := s.key("operator")
	if err != nil {
		return err
	}
	token, err := claims.Encode(key)
	if err != nil {
		return err
	}
	return s.write(claims.Name+".jwt", token)
}

func (s *nscStore) addAccount(f *flag.FlagSet) func() error {
	name := f.String("name", "", "")
	return func() error {
		if _, err := s.account(*name); err == nil || *name == "" {
			return fmt.Errorf("the account %q already exists, or has no name", *name)
		}
		key, err := nkeys.CreateAccount()
		if err != nil {
			return err
		}
		public, err := key.PublicKey()
		if err != nil {
			return err
		}
		claims := jwt.NewAccountClaims(public)
		claims.Name = *name
		return errors.Join(s.writeKey(*name, key), s.sign(claims))
	}
}

func (s *nscStore) editAccount(f *flag.FlagSet) func() error {
	name := f.String("name", "", "")
	memory, disk := f.Int64("js-mem-storage", 0, ""), f.Int64("js-disk-storage", 0, "")
	return func() error {
		claims, err := s.account(*name)
		if err != nil {
			return err
		}
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{
			MemoryStorage: *memory, DiskStorage: *disk, Streams: -1, Consumer: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, DiskMaxStreamBytes: -1,
		}
		return s.sign(claims)
	}
}

func (s *nscStore) addExport(f *flag.FlagSet) func() error {
	account, subject := f.String("account", "", ""), f.String("subject", "", "")
	service, private := f.Bool("service", false, ""), f.Bool("private", false, "")
	response := f.String("response-type", jwt.ResponseTypeSingleton, "")
	return func() error {
		claims, err := s.account(*account)
		if err != nil {
			return err
		}
		e := &jwt.Export{Name: *subject, Subject: jwt.Subject(*subject), Type: jwt.Stream, TokenReq: *private}
		if *service {
			e.Type, e.ResponseType = jwt.Service, jwt.ResponseType(*response)
		}
		claims.Exports.Add(e)
		var results jwt.ValidationResults
		claims.Exports.Validate(&results)
		if len(results.Issues) > 0 {
			return results.Issues[0]
		}
		return s.sign(claims)
	}
}

func (s *nscStore) generateActivation(f *flag.FlagSet) func() error {
	account, target := f.String("account", "", ""), f.String("target-account", "", "")
	subject, file := f.String("subject", "", ""), f.String("output-file", "", "")
	return func() error {
		from, err := s.account(*account)
		if err != nil {
			return err
		}
		to, err := s.account(*target)
		if err != nil {
			return err
		}
		key, err := s.key(*account)
		if err != nil {
			return err
		}
		for _, e := range from.Exports {
			if !e.TokenReq || !jwt.Subject(*subject).IsContainedIn(e.Subject) {
				continue
			}
			claims := jwt.NewActivationClaims(to.Subject)
			claims.Name, claims.ImportSubject, claims.ImportType = *subject, jwt.Subject(*subject), e.Type
			token, err := claims.Encode(key)
			if err != nil {
				return err
			}
			text, err := jwt.DecorateJWT(token)
			if err != nil {
				return err
			}
			return os.WriteFile(*file, text, 0o600)
		}
		return fmt.Errorf("a private export for %q was not found in account %q", *subject, *account)
	}
}

func (s *nscStore) addImport(f *flag.FlagSet) func() error {
	account, file, local := f.String("account", "", ""), f.String("token", "", ""), f.String("local-subject", "", "")
	return func() error {
		claims, err := s.account(*account)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(*file)
		if err != nil {
			return err
		}
		token, err := jwt.ParseDecoratedJWT(text)
		if err != nil {
			return err
		}
		activation, err := jwt.DecodeActivationClaims(token)
		if err != nil {
			return err
		}
		if activation.Subject != claims.Subject {
			return fmt.Errorf("activation is not intended for this account - it is for %q", activation.Subject)
		}
		claims.Imports.Add(&jwt.Import{
			Name: activation.Name, Subject: activation.ImportSubject, Account: activation.Issuer, Type: activation.ImportType,
			LocalSubject: jwt.RenamingSubject(*local), Token: token,
		})
		var results jwt.ValidationResults
		claims.Validate(&results)
		if all := results.Errors(); len(all) > 0 {
			return all[0]
		}
		return s.sign(claims)
	}
}

// listFlag is a flag of values joined by commas, which may be given again.
func listFlag(f *flag.FlagSet, name string, into *jwt.StringList) {
	f.Func(name, "", func(values string) error {
		into.Add(strings.Split(values, ",")...)
		return nil
	})
}

func (s *nscStore) addUser(f *flag.FlagSet) func() error {
	account, name := f.String("account", "", ""), f.String("name", "", "")
	var claims jwt.UserClaims
	listFlag(f, "allow-pub", &claims.Pub.Allow)
	listFlag(f, "allow-sub", &claims.Sub.Allow)
	respond, ttl := f.Bool("allow-pub-response", false, ""), f.Duration("response-ttl", 0, "")
	return func() error {
		by, err := s.key(*account)
		if err != nil {
			return err
		}
		key, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		public, err := key.PublicKey()
		if err != nil {
			return err
		}
		user := jwt.NewUserClaims(public)
		user.Name, user.Pub, user.Sub = *name, claims.Pub, claims.Sub
		if *respond {
			// nsc takes 1 when no number follows (its permission flags' NoOptDefVal).
			user.Resp = &jwt.ResponsePermission{MaxMsgs: 1, Expires: *ttl}
		}
		token, err := user.Encode(by)
		if err != nil {
			return err
		}
		return errors.Join(s.writeKey(*account+"-"+*name, key), s.write(*account+"-"+*name+".jwt", token))
	}
}

func (s *nscStore) generateCreds(f *flag.FlagSet) func() error {
	account, name, file := f.String("account", "", ""), f.String("name", "", ""), f.String("output-file", "", "")
	return func() error {
		user := *account + "-" + *name
		token, err := s.read(user + ".jwt")
		if err != nil {
			return err
		}
		seed, err := s.read(user + ".nk")
		if err != nil {
			return err
		}
		creds, err := jwt.FormatUserConfig(token, []byte(seed))
		if err != nil {
			return err
		}
		return os.WriteFile(*file, creds, 0o600)
	}
}

// push sends an account to the servers at NATS_URL, as nsc does where they keep
// accounts themselves (resolver FULL).
func (s *nscStore) push(f *flag.FlagSet) func() error {
	account := f.String("account", "", "")
	return func() error {
		token, err := s.read(*account + ".jwt")
		if err != nil {
			return err
		}
		system, err := s.key("SYS")
		if err != nil {
			return err
		}
		key, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		public, err := key.PublicKey()
		if err != nil {
			return err
		}
		login, err := jwt.NewUserClaims(public).Encode(system)
		if err != nil {
			return err
		}
		seed, err := key.Seed()
		if err != nil {
			return err
		}
		nc, err := nats.Connect(os.Getenv("NATS_URL"), nats.UserJWTAndSeed(login, string(seed)))
		if err != nil {
			return err
		}
		defer nc.Close()
		m, err := nc.Request("$SYS.REQ.CLAIMS.UPDATE", []byte(token), 5*time.Second)
		if err != nil {
			return err
		}
		var answer struct {
			Data  struct{ Code int }
			Error struct{ Description string }
		}
		if err := json.Unmarshal(m.Data, &answer); err != nil || answer.Data.Code != 200 {
			return fmt.Errorf("%w, code %s: %s", err, strconv.Itoa(answer.Data.Code), m.Data)
		}
		return nil
	}
}
