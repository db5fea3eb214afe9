package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/jsm.go/natscontext"
	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/service"
)

// inboxPrefix keeps replies apart from those of other clients of the system
// account; `natsentry permissions` grants it.
const inboxPrefix = "_INBOX_AUDIT"

// connectionFlags are the connection flags of the nats command line, with
// the same names, short forms, environment variables and meaning (natscli
// 0.5.1, nats/main.go and cli/util.go).
type connectionFlags struct {
	servers              string
	user, password       string
	token                string
	creds, nkey          string
	jwt, seed            string
	tlsCert, tlsKey, ca  string
	tlsFirst             bool
	timeout              time.Duration
	socksProxy           string
	inboxPrefix, context string
	noContext            bool
}

func (c *connectionFlags) register(root *cobra.Command, p *program) {
	flags := root.PersistentFlags()
	flags.SortFlags = false
	text := func(to *string, name, short, env, placeholder, usage string) {
		if env != "" {
			usage += " (" + env + ")"
		}
		flags.StringVarP(to, name, short, "", strings.Replace(usage, placeholder, "`"+placeholder+"`", 1))
		if env != "" {
			must(flags.SetAnnotation(name, envAnnotation, []string{env}))
		}
	}
	text(&c.servers, "server", "s", "NATS_URL", "URL", "NATS server URL, or several joined by commas")
	text(&c.user, "user", "", "NATS_USER", "username", "username, or a token if there is no password")
	text(&c.password, "password", "", "NATS_PASSWORD", "password", "password of the user")
	text(&c.token, "token", "", "NATS_TOKEN", "token", "token")
	text(&c.creds, "creds", "", "NATS_CREDS", "file", "user credentials file")
	text(&c.nkey, "nkey", "", "NATS_NKEY", "file", "user nkey file")
	text(&c.jwt, "jwt", "", "NATS_JWT", "JWT", "user JWT")
	text(&c.seed, "seed", "", "NATS_SEED", "seed", "user seed")
	text(&c.tlsCert, "tlscert", "", "NATS_CERT", "file", "TLS public certificate file")
	text(&c.tlsKey, "tlskey", "", "NATS_KEY", "file", "TLS private key file")
	text(&c.ca, "tlsca", "", "NATS_CA", "file", "TLS certificate authority file")
	flags.BoolVar(&c.tlsFirst, "tlsfirst", false, "perform the TLS handshake before expecting the server greeting")
	flags.BoolVar(&c.tlsFirst, "tls-first", false, "alias of --tlsfirst")
	must(flags.MarkHidden("tls-first"))
	flags.DurationVar(&c.timeout, "timeout", 5*time.Second, "time to wait for a connection (NATS_TIMEOUT)")
	must(flags.SetAnnotation("timeout", envAnnotation, []string{"NATS_TIMEOUT"}))
	text(&c.socksProxy, "socks-proxy", "", "NATS_SOCKS_PROXY", "proxy", "SOCKS5 proxy to connect through")
	text(&c.inboxPrefix, "inbox-prefix", "", "", "prefix", "prefix of reply inboxes (default "+inboxPrefix+")")
	text(&c.context, "context", "", "NATS_CONTEXT", "name", "context name or .json file (default: the selected one)")
	flags.BoolVar(&c.noContext, "no-context", false, "use no context, not even the selected one")
	complete(root, "context", p.contextNames)
}

// must is for what can only fail by a mistake in this program.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// target is where to connect, and as whom.
type target struct {
	name      string // of the context; "" without one
	servers   string
	redacted  string // the servers without any credential
	explicit  bool   // somebody named the servers: a flag, a variable or a context
	anonymous bool   // there is no credential of any kind
	login     bool   // there are credentials beside a certificate, which a server must ask for
	opts      []nats.Option
	secrets   []string
}

// loadTarget reads the context and puts the flags over it, as the nats
// command line does.
func (p *program) loadTarget(ctx context.Context) (*target, error) {
	c := &p.connection
	if c.timeout <= 0 {
		return nil, errors.New("--timeout must be positive")
	}
	for flag, file := range map[string]string{"tlscert": c.tlsCert, "tlskey": c.tlsKey, "tlsca": c.ca} {
		if _, err := os.Stat(file); file != "" && err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
	}
	config, err := p.loadContext(ctx)
	if err != nil {
		return nil, err
	}
	t := &target{servers: config.ServerURL()}
	if !c.noContext {
		t.name = config.Name
	}
	t.explicit = c.servers != "" || t.name != ""
	t.redacted = redactServers(t.servers)
	t.secrets = []string{config.Password(), config.Token(), config.UserSeed(), config.UserJWT()}
	for _, file := range []string{config.Creds(), config.NKey()} {
		if material.MatchString(file) {
			t.secrets = append(t.secrets, file)
		}
	}
	t.login = config.User()+config.Token()+config.Creds()+config.NKey()+config.UserJWT() != "" || strings.Contains(t.servers, "@")
	t.anonymous = !t.login && config.Certificate()+config.WindowsCertStore() == ""
	t.secrets = slices.DeleteFunc(t.secrets, func(s string) bool { return len(s) < 3 })
	if err := readableServers(t.servers); err != nil {
		return nil, err
	}
	if t.opts, err = config.NATSOptions(); err != nil {
		return nil, t.scrub(fmt.Errorf("credentials: %w", err))
	}
	if config.InboxPrefix() == "" {
		t.opts = append(t.opts, nats.CustomInboxPrefix(inboxPrefix))
	}
	return t, nil
}

// material is what stands where the name of a file belongs and is itself the
// secret: a data URI, a seed, the text of a credentials file.
var material = regexp.MustCompile(`(?s)^data:|^S[A-Z][A-Z2-7]{50,}|\n`)

func (p *program) loadContext(ctx context.Context) (*natscontext.Context, error) {
	c := &p.connection
	opts := []natscontext.Option{
		natscontext.WithServerURL(c.servers),
		natscontext.WithCreds(c.creds),
		natscontext.WithNKey(c.nkey),
		natscontext.WithUserJWT(c.jwt),
		natscontext.WithUserSeed(c.seed),
		natscontext.WithCertificate(c.tlsCert),
		natscontext.WithKey(c.tlsKey),
		natscontext.WithCA(c.ca),
		natscontext.WithSocksProxy(c.socksProxy),
		natscontext.WithInboxPrefix(c.inboxPrefix),
	}
	if c.tlsFirst {
		opts = append(opts, natscontext.WithTLSHandshakeFirst())
	}
	if c.token != "" {
		opts = append(opts, natscontext.WithToken(c.token))
	}
	if c.user != "" && c.password == "" {
		opts = append(opts, natscontext.WithToken(c.user))
	} else {
		opts = append(opts, natscontext.WithUser(c.user), natscontext.WithPassword(c.password))
	}
	if c.noContext {
		return natscontext.New("", false, opts...)
	}
	if strings.HasSuffix(c.context, ".json") && exists(c.context) {
		file := natscontext.NewSingleFileBackend(c.context)
		config, err := natscontext.NewRegistry(file, natscontext.WithoutSelection()).Load(ctx, file.Name(), opts...)
		if err != nil {
			return nil, fmt.Errorf("context file %s: %w", c.context, err)
		}
		return config, nil
	}
	config, err := p.contexts().Load(ctx, c.context, opts...)
	switch {
	case errors.Is(err, natscontext.ErrNotFound) && c.context == "":
		return nil, fmt.Errorf("the selected context does not exist any more: choose another with `nats context select`, or use --no-context: %w", err)
	case errors.Is(err, natscontext.ErrNotFound):
		return nil, fmt.Errorf("%w: `nats context ls` lists those there are; a file must exist and end in .json", err)
	case err != nil:
		return nil, fmt.Errorf("context: %w", err)
	}
	return config, nil
}

// contexts are the user's contexts, in the folder that the environment names.
func (p *program) contexts() *natscontext.Registry {
	root := p.getenv("XDG_CONFIG_HOME")
	if root == "" {
		if u, err := user.Current(); err == nil && u.HomeDir != "" {
			root = filepath.Join(u.HomeDir, ".config")
		}
	}
	if root == "" { // nowhere to look, and nothing to find there
		return natscontext.NewRegistry(natscontext.NewFileBackendAt(""), natscontext.WithoutSelection())
	}
	return natscontext.NewRegistry(natscontext.NewFileBackendAt(root))
}

// contextNames lists the contexts, for the shell.
func (p *program) contextNames() []string {
	names, err := p.contexts().List(context.Background())
	if err != nil {
		return nil
	}
	return names
}

func exists(file string) bool {
	info, err := os.Stat(file)
	return err == nil && !info.IsDir()
}

// whereTo are the options that keep credentials where they belong. They go to
// the servers that were named. A server that those speak of is as good only where
// verified TLS shows that it is one of them.
func (t *target) whereTo(timeout time.Duration) ([]nats.Option, *guard, error) {
	var o nats.Options
	for _, opt := range t.opts {
		if err := opt(&o); err != nil {
			return nil, nil, t.scrub(err)
		}
	}
	dialer := o.CustomDialer
	if dialer == nil {
		dialer = &net.Dialer{Timeout: timeout}
	}
	g := &guard{dialer: dialer}
	opts := []nats.Option{nats.SetCustomDialer(g)}
	verified := (o.Secure || securely.MatchString(t.servers)) && (o.TLSConfig == nil || !o.TLSConfig.InsecureSkipVerify)
	if !verified {
		opts = append(opts, nats.IgnoreDiscoveredServers())
	}
	return opts, g, nil
}

// securely matches servers of which one is named with a scheme of TLS. Then the
// client speaks TLS to all of them.
var securely = regexp.MustCompile(`(^|,)\s*(tls|wss)://`)

// unchecked reports that a server has taken credentials and checked none: it
// accepts everybody. INFO shows that only together with the account: where there
// is a no_auth_user, the first INFO does not ask for credentials that are checked
// all the same.
func (t *target) unchecked(nc *nats.Conn, timeout time.Duration) error {
	if !t.login || nc.FlushTimeout(timeout) != nil || nc.AuthRequired() {
		return nil
	}
	msg, err := nc.Request("$SYS.REQ.USER.INFO", nil, timeout)
	if err != nil {
		return nil // servers before 2.10 do not say; what is asked for next will show it
	}
	var who struct {
		Data struct {
			Account string `json:"account"`
		} `json:"data"`
	}
	if json.Unmarshal(msg.Data, &who) != nil || who.Data.Account != posture.GlobalAccount || nc.AuthRequired() {
		return nil
	}
	return fmt.Errorf("%s (%s) accepts everybody: your credentials were not checked\nname a server with --server that asks for credentials; `natsentry probe` shows what this one accepts",
		clean(nc.ConnectedServerName()), redactServers(nc.ConnectedUrl()))
}

// connect opens the connection. refused, which may be nil, is told what goes
// wrong on it later.
func (p *program) connect(ctx context.Context, t *target, refused func(error)) (*nats.Conn, error) {
	if refused == nil {
		refused = func(error) {}
	}
	where, g, err := t.whereTo(p.connection.timeout)
	if err != nil {
		return nil, err
	}
	opts := append(slices.Clone(t.opts), where...)
	opts = append(opts,
		nats.Name(service.Name),
		nats.Timeout(p.connection.timeout),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.NoCallbacksAfterClientClose(),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused(t.scrub(err)) }),
	)
	type outcome struct {
		nc  *nats.Conn
		err error
	}
	done := p.progress("connecting to " + t.redacted)
	defer done()
	result := make(chan outcome, 1)
	go func() {
		nc, err := nats.Connect(t.servers, opts...)
		if err == nil {
			if err = t.unchecked(nc, p.connection.timeout); err != nil {
				nc.Close()
				result <- outcome{nil, &answered{err}}
				return
			}
		}
		result <- outcome{nc, err}
	}()
	select {
	case r := <-result:
		if said := (*answered)(nil); errors.As(r.err, &said) {
			return nil, t.scrub(said.error)
		}
		if errors.Is(r.err, nats.ErrNoServers) && g.rejected.Load() {
			r.err = nats.ErrAuthorization // the client forgets it when the next server does not listen
		}
		if r.err != nil {
			return nil, t.unreachable(r.err)
		}
		return r.nc, nil
	case <-ctx.Done():
		go func() {
			if r := <-result; r.nc != nil {
				r.nc.Close()
			}
		}()
		return nil, errors.New("interrupted while connecting")
	}
}

// answered is an error of a server that was reached.
type answered struct{ error }

// unreachable says what to do about a connection that did not come about.
func (t *target) unreachable(err error) error {
	what, hint := "cannot connect to "+t.redacted, ""
	text := err.Error()
	switch {
	case errors.Is(err, nats.ErrNoServers):
		hint = "no server is listening there: name one with --server, or a context with --context"
		if !t.explicit {
			hint = "that is the default, because neither --server, --context, NATS_URL nor a selected context names a server: name one"
		}
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		hint = "the server refused the credentials: look at --user and --password, --creds, --nkey or --context"
		if t.anonymous {
			hint = "the server wants credentials: give --user and --password, --creds, --nkey or --context of a user of the system account"
		}
	case strings.Contains(text, "x509:"), strings.Contains(text, "tls:"):
		hint = "the TLS handshake failed: --tlsca names the authority to trust, --tlscert and --tlskey a client certificate, --tlsfirst is for servers that expect the handshake first"
	case errors.Is(err, errPlaintext):
		hint = "credentials are not sent in plaintext once a server has asked for TLS: look at the TLS of the others, with --tlsca for example, or name only servers that encrypt"
	case errors.Is(err, nats.ErrTimeout), strings.Contains(text, "timeout"):
		hint = "there was no answer in time: raise --timeout, or try another --server or --context"
	default:
		hint = "try another --server or --context"
	}
	return t.scrub(fmt.Errorf("%s: %w\n%s", what, err, hint))
}

// sweepFailed says what to do about a sweep that learned nothing.
func (t *target) sweepFailed(nc *nats.Conn, err error) error {
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted: nothing can be said of the fleet")
	}
	where := "connected to " + redactServers(cmp.Or(nc.ConnectedUrl(), t.servers))
	if errors.Is(err, collect.ErrNotSystemAccount) && t.anonymous {
		return fmt.Errorf("%s without credentials: %w\ngive --user and --password, --creds, --nkey or --context", where, err)
	}
	return t.scrub(fmt.Errorf("%s: %w", where, err))
}

// scrub takes every secret of the target out of an error.
func (t *target) scrub(err error) error {
	text := err.Error()
	clean := text
	for _, s := range t.secrets {
		clean = strings.ReplaceAll(clean, s, "xxxxx")
	}
	if clean == text {
		return err
	}
	return &scrubbed{clean, err}
}

type scrubbed struct {
	text string
	err  error
}

func (s *scrubbed) Error() string { return s.text }
func (s *scrubbed) Unwrap() error { return s.err }

// hostPort is what may follow the credentials of a server URL.
var hostPort = regexp.MustCompile(`^(\[[0-9A-Fa-f:.%]+\]|[0-9A-Za-z._-]+)?(:[0-9]*)?(/[0-9A-Za-z._~/%-]*)?$`)

var urlScheme = regexp.MustCompile(`^([A-Za-z][A-Za-z+.-]*://)?$`)

// redactServers shows where server URLs lead, and nothing else of them.
func redactServers(servers string) string {
	parts := strings.Split(servers, ",")
	for i, part := range parts {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(part), "://")
		if !ok {
			scheme, rest = "", scheme
		} else {
			scheme += "://"
		}
		rest = rest[strings.LastIndex(rest, "@")+1:]
		if !hostPort.MatchString(rest) || !urlScheme.MatchString(scheme) {
			scheme, rest = "", "(unreadable URL)"
		}
		parts[i] = scheme + rest
	}
	return strings.Join(parts, ",")
}

// readableServers refuses server URLs that cannot be parsed, without showing
// them: the parser's own error would, with the password.
func readableServers(servers string) error {
	for i, part := range strings.Split(servers, ",") {
		part = strings.TrimSpace(part)
		if !strings.Contains(part, "://") {
			part = "nats://" + part
		}
		if _, err := url.Parse(part); err != nil {
			return fmt.Errorf("server URL %d of --server (or of the context) cannot be read: it should look like nats://host:4222; characters such as / ? # %% in a password must be percent-encoded", i+1)
		}
	}
	return nil
}

// refusals gathers what the server refuses while the program works, to be
// told once.
type refusals struct {
	mu   sync.Mutex
	seen []string
}

func (r *refusals) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text := err.Error(); errors.Is(err, nats.ErrPermissionViolation) && !slices.Contains(r.seen, text) {
		r.seen = append(r.seen, text)
	}
}

// tell prints the first few.
func (r *refusals) tell(p *program) {
	const shown = 5
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range r.seen[:min(len(r.seen), shown)] {
		p.note("%s (`natsentry permissions` prints what is needed)", clean(text))
	}
}
