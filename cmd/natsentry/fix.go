package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix"
	"github.com/natsentry/natsentry/fix/proof"
)

// fixFlags are the flags of the fix command.
type fixFlags struct {
	dir, from    string
	config       string
	modes        []string
	keepAccounts bool
	system       string
	installDir   string
	resolverDir  string
	lasts        age

	newCA                     bool
	hosts                     []string
	serverCert, serverKey, ca string
	appCert, appKey           string
	sysCert, sysKey           string
}

func (f *fixFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.dir, "dir", "", "write files into this `directory`; none is overwritten")
	must(cmd.MarkFlagRequired("dir"))
	must(cmd.MarkFlagDirname("dir"))
	flags.StringSliceVar(&f.modes, "mode", nil, "`how` to close it: "+strings.Join(modeNames(), ", ")+"; several joined by commas (default: what the findings suggest)")
	complete(cmd, "mode", modeNames)
	flags.StringVar(&f.from, "from", "", "take findings from this `file`, a report of natsentry audit --format json; - is standard input")
	flags.StringVar(&f.config, "config", "", "configuration `file` of the server as it is now, which is only read: what must stay is carried over, users without a password are given one; modes no-auth-user, websocket and mqtt need it")
	must(cmd.MarkFlagFilename("config"))
	flags.BoolVar(&f.keepAccounts, "keep-accounts", false, "the configuration has a block accounts that must stay: write none, and no user of the system account")
	flags.StringVar(&f.system, "system-account", "", "`name` that the configuration gives the system account (default: what the server says; else $SYS, which needs none)")
	flags.StringVar(&f.installDir, "install-dir", "", "`directory` on the server in which the files will lie, for paths of certificates (default: that of --dir)")
	flags.StringVar(&f.resolverDir, "resolver-dir", "", "mode operator: `directory` on the server for accounts (default: jwt in --install-dir)")
	f.lasts = age{"1y", 365 * oneDay}
	flags.Var(&f.lasts, "expires", "modes operator and tls-map: how long new credentials files and certificates are good, like 90d or 1y; 0 for ever (certificates: ten years)")
	flags.BoolVar(&f.newCA, "new-ca", false, "mode tls-map: make a CA, and certificates of the server, app and sys")
	flags.StringSliceVar(&f.hosts, "host", nil, "mode tls-map: `name` or address for which a new server certificate is good, beside localhost")
	for _, file := range []struct {
		to          *string
		name, usage string
	}{
		{&f.serverCert, "server-cert", "certificate of the server"},
		{&f.serverKey, "server-key", "key of the server"},
		{&f.ca, "ca", "CA of the clients"},
		{&f.appCert, "app-cert", "certificate of the clients"},
		{&f.appKey, "app-key", "its key, for the proof"},
		{&f.sysCert, "sys-cert", "certificate of a user of the system account, if there is to be one"},
		{&f.sysKey, "sys-key", "its key, for the proof"},
	} {
		flags.StringVar(file.to, file.name, "", "mode tls-map: "+file.usage+", a PEM `file`")
		must(cmd.MarkFlagFilename(file.name))
	}
}

func modeNames() []string {
	var names []string
	for _, m := range fix.Modes() {
		names = append(names, string(m))
	}
	return names
}

func (p *program) fixCommand() *cobra.Command {
	var (
		f     fixFlags
		sweep sweepFlags
	)
	cmd := &cobra.Command{
		Use:   "fix [FINDING | CHECK SERVER | SERVER]",
		Short: "Write the configuration that closes a door, and prove it",
		Long: `Writes configuration to include, which closes what a finding is about, or all
doors of a server that findings say are open: new users with new secrets, and what
servers need to know each other. FINDING is a fingerprint, CHECK the ID of a check.
They are looked up in a sweep, over the system account as by natsentry audit, or
in its report (--from). Without any, --mode says what to write.

  users, nkey, operator, tls-map, callout
                          how clients prove who they are, one of them
  no-auth-user, websocket, mqtt
                          take back a no_auth_user: of the client port, of theirs
  leafnode, route, gateway
                          a user and password of the servers that join

It is proven first. A nats-server of this program is started on loopback as the
finding describes it, open; takes the configuration in the way that is told, by a
reload or a restart; and strangers, the new users, and users without their secrets
come to each door. What does not hold is not written.

With --config, the server's present configuration is read too: then a timeout, default
permissions and users are carried over, users whose name alone would be enough to log
in are given passwords, and the lines that the new files replace are named.

Nothing else is changed: no configuration, and no server. Files are for their owner
only, none is overwritten, and secrets stand in files only. Exit codes:

  0  proven and written
  1  the proof failed, nothing is written
  2  the proof could not decide, nothing is written
  3  wrong usage, no connection, no such finding, or a file that is there already`,
		Example: `  natsentry fix DOOR_001 n1 --dir fix-n1              # a finding of a server
  natsentry fix n1 --dir fix-n1 --context prod-sys    # all open doors of a server
  natsentry fix n1 --dir fix-n1 --mode nkey --from report.json
  natsentry fix --dir fix --mode users                # without any server
  natsentry fix DOOR_001 n1 --dir fix-n1 --config nats.conf
  natsentry fix --dir fix --mode operator,route
  natsentry fix --dir fix --mode tls-map --new-ca --host n1.example.net`,
		Args: cobra.MaximumNArgs(2),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var ids []string
			for _, c := range check.Catalogue() {
				if len(args) == 0 && strings.HasPrefix(c.ID, "DOOR_") {
					ids = append(ids, c.ID)
				}
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
	}
	f.register(cmd)
	sweep.register(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asked, err := f.askedModes(args)
		if err != nil {
			return &usageError{cmd.CommandPath(), err}
		}
		s := &fixSubject{}
		if len(args) > 0 {
			if s, err = p.lookUp(cmd, &f, &sweep, args); err != nil {
				return err
			}
		}
		if f.config != "" {
			if err := s.read(f.config); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
		}
		return p.fix(cmd, &f, s, asked)
	}
	return cmd
}

func (f *fixFlags) askedModes(args []string) ([]fix.Mode, error) {
	var asked []fix.Mode
	for _, name := range f.modes {
		if !slices.Contains(modeNames(), name) {
			return nil, fmt.Errorf("--mode %q: there are %s", clean(name), strings.Join(modeNames(), ", "))
		}
		asked = append(asked, fix.Mode(name))
	}
	switch {
	case f.system != "" && !plainName.MatchString(f.system):
		return nil, checkNames(map[string]string{"system-account": f.system})
	case f.dir == "":
		return nil, errors.New("--dir must name a directory")
	case len(args) == 0 && len(asked) == 0:
		return nil, errors.New("what is to be fixed? Name a finding or a server, or a --mode")
	case len(args) == 0 && f.from != "":
		return nil, errors.New("--from needs a finding or a server of that report")
	}
	return asked, nil
}

// plan is what the bundle is made of.
func (f *fixFlags) plan(s *fixSubject, cure fix.Cure) (fix.Plan, error) {
	// In operator mode the accounts of the configuration cannot stay, and the
	// text says so.
	keep := (cure.KeepAccounts || s.accounts) && !slices.Contains(cure.Modes, fix.Operator)
	plan := fix.Plan{
		Modes: cure.Modes, NoConfig: cure.NoConfig, KeepAccounts: keep || f.keepAccounts,
		SystemAccount: cmp.Or(f.system, s.system), Lasts: f.lasts.d, Now: time.Now(),
	}
	if s.original != nil {
		var err error
		if plan.Original, err = s.original.forFix(cure.Modes); err != nil {
			return plan, err
		}
	} else if i := slices.IndexFunc(cure.Modes, fix.NeedsOriginal); i >= 0 {
		return plan, fmt.Errorf("mode %s needs the configuration of the server: --config FILE. A running server does not show whether its users have passwords, and without one the name of a user is enough to log in, with and without no_auth_user", cure.Modes[i])
	}
	if !slices.Contains(cure.Modes, fix.TLSMap) {
		return plan, nil
	}
	given := f.serverCert + f.serverKey + f.ca + f.appCert + f.appKey + f.sysCert + f.sysKey
	switch {
	case f.newCA && given != "":
		return plan, errors.New("--new-ca makes certificates of its own: give it none")
	case f.newCA:
		plan.Hosts = append(slices.Clone(f.hosts), s.host()...)
		return plan, nil
	case f.serverCert == "" || f.serverKey == "" || f.ca == "" || f.appCert == "" || f.appKey == "" || (f.sysCert == "") != (f.sysKey == ""):
		return plan, errors.New("tls-map takes certificates: --server-cert, --server-key, --ca, --app-cert and --app-key, if you like --sys-cert and --sys-key; or --new-ca makes all of them")
	}
	var err error
	plan.Certificates, err = f.certificates()
	return plan, err
}

func (f *fixFlags) certificates() (*fix.Certificates, error) {
	c := &fix.Certificates{}
	for _, file := range []struct {
		to         *string
		flag, path string
	}{{&c.Cert, "server-cert", f.serverCert}, {&c.Key, "server-key", f.serverKey}, {&c.CA, "ca", f.ca}} {
		absolute, err := filepath.Abs(file.path)
		if err == nil {
			_, err = os.Stat(absolute)
		}
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", file.flag, err)
		}
		*file.to = filepath.ToSlash(absolute)
	}
	var err error
	if c.App, err = readIdentity("app", f.appCert, f.appKey); err != nil || f.sysCert == "" {
		return c, err
	}
	system, err := readIdentity("sys", f.sysCert, f.sysKey)
	c.System = &system
	return c, err
}

func readIdentity(flag, certFile, keyFile string) (fix.Identity, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return fix.Identity{}, fmt.Errorf("--%s-cert: %w", flag, err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fix.Identity{}, fmt.Errorf("--%s-key: %w", flag, err)
	}
	id, err := fix.ReadIdentity(cert, key)
	if err != nil {
		return fix.Identity{}, fmt.Errorf("--%s-cert: %w", flag, err)
	}
	return id, nil
}

// place is where the files will lie, and where the peers are.
func (f *fixFlags) place(s *fixSubject) (fix.Place, error) {
	install := f.installDir
	if install == "" {
		absolute, err := filepath.Abs(f.dir)
		if err != nil {
			return fix.Place{}, fmt.Errorf("--dir: %w", err)
		}
		install = absolute
	}
	install = filepath.ToSlash(install)
	at := fix.Place{TLS: install + "/tls", Resolver: cmp.Or(filepath.ToSlash(f.resolverDir), install+"/jwt")}
	if s.server == nil {
		return at, nil
	}
	at.Leafnode = address(s.server, posture.Leafnode)
	at.Routes = s.addresses(posture.Route, s.server.Cluster)
	var clusters []string
	for i := range s.report.Servers {
		if srv := &s.report.Servers[i]; doorOf(srv, posture.Gateway) != nil && !slices.Contains(clusters, srv.Cluster) {
			clusters = append(clusters, srv.Cluster)
		}
	}
	for _, name := range clusters {
		known := s.addresses(posture.Gateway, name)
		if known == nil || !plainName.MatchString(name) {
			at.Gateways = nil
			break // half a list would take the other half away
		}
		at.Gateways = append(at.Gateways, fix.Remote{Name: name, Addresses: known})
	}
	return at, nil
}

// fix makes a bundle, proves it and writes it.
func (p *program) fix(cmd *cobra.Command, f *fixFlags, s *fixSubject, asked []fix.Mode) error {
	cure, err := s.cure(asked)
	if err != nil {
		return err
	}
	plan, err := f.plan(s, cure)
	if err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	at, err := f.place(s)
	if err != nil {
		return err
	}
	b, err := fix.New(plan)
	if err != nil {
		return &usageError{cmd.CommandPath(), err}
	}
	var files []file
	for _, w := range b.Files(at) {
		files = append(files, file{w.Name, w.Text})
	}
	if err := noneExist(f.dir, files); err != nil {
		return err
	}
	result, err := p.prove(cmd.Context(), b, s.doors())
	if err != nil {
		return errors.New(b.Scrub("the proof could not be made, and nothing is written: " + err.Error()))
	}
	t := fixText{style: style{p.colourful(p.stdout)}, b: b, s: s, dir: f.dir, files: files, place: at, result: result}
	if failed := result.Failed(); len(failed) > 0 {
		if err := p.print(t.failed); err != nil {
			return err
		}
		code := exitUndecided
		if slices.ContainsFunc(failed, func(r proof.Row) bool { return r.Access != posture.Unknown && r.Access != r.Want }) {
			code = exitFindings
		}
		return &verdict{code, "the proof does not hold, and nothing is written: " + plural(len(failed), "attempt", "attempts") + " came out otherwise than it must"}
	}
	if err := writeNew(f.dir, files); err != nil {
		return err
	}
	return p.print(t.done)
}

func (p *program) prove(ctx context.Context, b *fix.Bundle, doors []posture.DoorKind) (*proof.Result, error) {
	done := p.progress("proving it on a server of its own")
	defer done()
	return proof.Run(ctx, b, doors...)
}
