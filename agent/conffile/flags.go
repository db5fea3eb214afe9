package conffile

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// flags are the flags of nats-server that decide about doors. The others are
// known, and make no difference.
type flags struct {
	given map[string]bool

	port, http, https, prof int
	host, name              string
	user, pass, auth        string
	cluster, clusterName    string
	routes                  string
	tls, verify             bool
	cert, key, ca           string
	jetstream               bool
	config                  string // -c
}

// Flags that make no difference to doors.
var (
	otherTexts = []string{"client_advertise", "cluster_advertise", "P", "pid", "ports_file_dir", "l", "log", "r", "remote_syslog", "sd", "store_dir"}
	// Flags with which nats-server does something else than to serve.
	elseTexts  = []string{"sl", "signal"}
	elseBools  = []string{"t", "v", "version", "h", "help", "help_tls"}
	otherBools = []string{"D", "debug", "V", "trace", "VV", "DV", "DVV", "T", "logtime", "logtime_utc", "s", "syslog", "no_advertise"}
	otherInts  = []string{"log_size_limit", "connect_retries", "max_traced_msg_len"}
)

func parseFlags(args []string) (*flags, error) {
	if len(args) == 0 {
		return nil, nil //nolint:nilnil // no flags are no error
	}
	f := &flags{given: map[string]bool{}}
	set := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	for _, names := range []struct {
		into  *int
		names []string
	}{{&f.port, []string{"p", "port"}}, {&f.http, []string{"m", "http_port"}}, {&f.https, []string{"ms", "https_port"}}, {&f.prof, []string{"profile"}}} {
		for _, name := range names.names {
			set.IntVar(names.into, name, 0, "")
		}
	}
	for _, names := range []struct {
		into  *string
		names []string
	}{
		{&f.host, []string{"a", "addr", "net"}},
		{&f.name, []string{"n", "name", "server_name"}},
		{&f.user, []string{"user"}},
		{&f.pass, []string{"pass"}},
		{&f.auth, []string{"auth"}},
		{&f.cluster, []string{"cluster", "cluster_listen"}},
		{&f.clusterName, []string{"cluster_name"}},
		{&f.routes, []string{"routes"}},
		{&f.cert, []string{"tlscert"}},
		{&f.key, []string{"tlskey"}},
		{&f.ca, []string{"tlscacert"}},
		{&f.config, []string{"c", "config"}},
	} {
		for _, name := range names.names {
			set.StringVar(names.into, name, "", "")
		}
	}
	set.BoolVar(&f.tls, "tls", false, "")
	set.BoolVar(&f.verify, "tlsverify", false, "")
	set.BoolVar(&f.jetstream, "js", false, "")
	set.BoolVar(&f.jetstream, "jetstream", false, "")
	for _, name := range slices.Concat(otherTexts, elseTexts) {
		set.String(name, "", "")
	}
	for _, name := range slices.Concat(otherBools, elseBools) {
		set.Bool(name, false, "")
	}
	for _, name := range otherInts {
		set.Int64(name, 0, "")
	}
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, errors.New("there is something beside flags")
	}
	set.Visit(func(g *flag.Flag) { f.given[g.Name] = true })
	return f, nil
}

// Invocation is what flags of nats-server come to.
type Invocation struct {
	Config string // the configuration file, "" for none
	Serves bool   // it does not only test the file, signal or print something
}

// Invoke reads the flags that nats-server is started with.
func Invoke(args []string) (Invocation, error) {
	f, err := parseFlags(args)
	if f == nil || err != nil {
		return Invocation{Serves: err == nil}, err
	}
	return Invocation{Config: f.config, Serves: f.serves()}, nil
}

func (f *flags) serves() bool { return !f.any(slices.Concat(elseTexts, elseBools)...) }

// Indifferent tells whether a flag, by its name, makes no difference to who gets
// in, whatever its value is.
func Indifferent(name string) bool {
	return slices.Contains(otherTexts, name) || slices.Contains(otherBools, name) || slices.Contains(otherInts, name) ||
		slices.Contains([]string{"n", "name", "server_name", "cluster_name", "routes"}, name)
}

func (f *flags) any(names ...string) bool {
	if f == nil {
		return false
	}
	for _, name := range names {
		if f.given[name] {
			return true
		}
	}
	return false
}

// refuseLogin notes that nats-server may refuse users of accounts beside the login of
// a flag. It does not once it has read an authorization block, which takes the place
// of that login, and it reads the keys in the order of a Go map.
func (r *reading) refuseLogin() {
	e, accounts := get(r.tree.Root, "authorization"), block(r.tree.Root, "accounts")
	if !r.flags.any("user", "auth") || e == nil || e.Node.Unset || accounts == nil {
		return
	}
	for _, a := range accounts.Entries {
		if users := get(mapOf(a), "users"); a.Replaced == nil && users != nil {
			if list, ok := users.Node.Value.([]*syntax.Node); ok && len(list) > 0 {
				r.refuse(users, "nats-server refuses users of accounts beside the login of its flag --user or --auth, or not: it starts by chance")
				return
			}
		}
	}
}

func mapOf(e *syntax.Entry) *syntax.Map {
	m, _ := e.Node.Value.(*syntax.Map)
	return m
}

// before sets the options that nats-server has from its flags when it reads its
// file: with the login of a flag it refuses some files.
func (f *flags) before(o *server.Options) {
	if f != nil {
		o.Username, o.Password, o.Authorization = f.user, f.pass, f.auth
	}
}

// apply overrides options, as nats-server does after it has read its file
// (opts.go, ConfigureOptions).
func (f *flags) apply(o *server.Options) error {
	if f == nil {
		return nil
	}
	number := func(into *int, value int, names ...string) {
		if f.any(names...) {
			*into = value
		}
	}
	word := func(into *string, value string, names ...string) {
		if f.any(names...) {
			*into = value
		}
	}
	number(&o.Port, f.port, "p", "port")
	number(&o.HTTPPort, f.http, "m", "http_port")
	number(&o.HTTPSPort, f.https, "ms", "https_port")
	number(&o.ProfPort, f.prof, "profile")
	word(&o.Host, f.host, "a", "addr", "net")
	word(&o.ServerName, f.name, "n", "name", "server_name")
	word(&o.Username, f.user, "user")
	word(&o.Password, f.pass, "pass")
	word(&o.Authorization, f.auth, "auth")
	word(&o.Cluster.Name, f.clusterName, "cluster_name")
	if f.any("js", "jetstream") {
		o.JetStream = f.jetstream
	}
	if f.any("cluster", "cluster_listen") {
		if err := f.applyCluster(o); err != nil {
			return err
		}
	}
	if f.given["tls"] && !f.tls {
		o.TLSConfig = nil
	} else if f.any("tls", "tlsverify", "tlscert", "tlskey", "tlscacert") {
		if f.cert == "" || f.key == "" {
			return errors.New("TLS Server certificate and private key must be present and valid")
		}
		o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		if f.verify {
			o.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
		}
	}
	if f.routes != "" && o.Cluster.Host == "" && o.Cluster.Port == 0 {
		return errors.New("solicited routes require cluster capabilities, e.g. --cluster")
	}
	return nil
}

func (f *flags) applyCluster(o *server.Options) error {
	if f.cluster == "" {
		o.Cluster.Port = 0
		return nil
	}
	listen, random := strings.CutSuffix(f.cluster, ":-1") // no URL has such a port
	if random {
		listen += ":0"
	}
	u, err := url.Parse(listen)
	if err != nil {
		return errors.New("--cluster is no URL")
	}
	host, port, err := net.SplitHostPort(u.Host)
	if err != nil {
		return errors.New("--cluster has no host and port")
	}
	o.Cluster.Host = host
	if o.Cluster.Port, err = strconv.Atoi(port); err != nil {
		return fmt.Errorf("--cluster has no port")
	}
	if random {
		o.Cluster.Port = posture.RandomPort
	}
	o.Cluster.Username, o.Cluster.Password = "", ""
	if u.User != nil {
		pass, ok := u.User.Password()
		if !ok {
			return errors.New("expected cluster password to be set")
		}
		o.Cluster.Username, o.Cluster.Password = u.User.Username(), pass
	}
	return nil
}
