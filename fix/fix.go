package fix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/fix/callout"
)

// Mode is one way to close one or several doors.
type Mode string

// The modes. The first five say how clients prove who they are; a bundle has
// one of them at most. NoAuthUser only takes a no_auth_user away, and the rest
// are about one door each.
const (
	Users      Mode = "users"
	NKey       Mode = "nkey"
	Operator   Mode = "operator"
	TLSMap     Mode = "tls-map"
	Callout    Mode = "callout"
	NoAuthUser Mode = "no-auth-user"
	Websocket  Mode = "websocket"
	MQTT       Mode = "mqtt"
	Leafnode   Mode = "leafnode"
	Route      Mode = "route"
	Gateway    Mode = "gateway"
)

// Modes lists the modes, in the order in which they are told.
func Modes() []Mode {
	all := make([]Mode, len(kinds))
	for i := range kinds {
		all[i] = kinds[i].mode
	}
	return all
}

// kind is what there is to know of a mode.
type kind struct {
	mode    Mode
	client  bool   // it says how clients prove who they are
	file    string // that is written
	block   string // in which it is included; "" is the end of the configuration file
	doors   []posture.DoorKind
	restart bool   // a reload does not apply it
	effect  string // on whoever is connected
}

// likeClient are the doors that take the client port's authentication.
var likeClient = []posture.DoorKind{posture.Client, posture.Websocket, posture.MQTT, posture.Leafnode}

const authFile = "auth.conf"

var kinds = []kind{
	{
		mode: Users, client: true, file: authFile, doors: likeClient,
		effect: "The reload disconnects clients without credentials at once. Clients that already log in as one of these users stay: a server that asks nobody accepts any name and password, so hand them out first.",
	},
	{
		mode: NKey, client: true, file: authFile, doors: likeClient,
		effect: "The reload disconnects every client at once. Clients cannot log in with their nkey before, because the server does not ask for one yet: prepare their restart.",
	},
	{
		mode: Operator, client: true, file: authFile, doors: likeClient, restart: true,
		effect: noReturn + " Clients are then in the account APP: streams of $G are not moved there. A server in operator mode accepts no accounts and users from its configuration: take the blocks accounts and authorization out of it.",
	},
	{
		mode: TLSMap, client: true, file: authFile, doors: likeClient, restart: true,
		effect: noReturn + " Clients need TLS, a certificate of the CA, and its subject among the users. No client logs in on the client port with a password any more, and on websocket, MQTT and leafnode ports these users do not log in at all.",
	},
	{
		mode: Callout, client: true, file: authFile, doors: likeClient, restart: true,
		effect: noReturn + " While the service does not run, only the users in auth_users can log in: start it first. A server that asks nobody accepts it, and after the restart it logs in as its own user.",
	},
	{
		mode: NoAuthUser, file: authFile, doors: likeClient, restart: true,
		effect: noReturn + " Users stay as they are.",
	},
	{
		mode: Websocket, file: "websocket.conf", block: "websocket", doors: []posture.DoorKind{posture.Websocket}, restart: true,
		effect: "Websocket clients without credentials do not come back.",
	},
	{
		mode: MQTT, file: "mqtt.conf", block: "mqtt", doors: []posture.DoorKind{posture.MQTT}, restart: true,
		effect: "Devices without credentials do not come back.",
	},
	{
		mode: Leafnode, file: "leafnodes.conf", block: "leafnodes", doors: []posture.DoorKind{posture.Leafnode}, restart: true,
		effect: "Leafnodes without this user and password do not come back.",
	},
	{
		mode: Route, file: "cluster.conf", block: "cluster", doors: []posture.DoorKind{posture.Route},
		effect: "The reload closes routes. Those that this server's own routes lead to come back at once: servers without this file accept any password. The ones that lead here are refused until their server has it, so do all members, one after the other, without a break. Clients stay.",
	},
	{
		mode: Gateway, file: "gateway.conf", block: "gateway", doors: []posture.DoorKind{posture.Gateway}, restart: true,
		effect: "Nothing comes here from other clusters until they have this file, too.",
	},
}

// What a restart does is said once; the effects of the modes follow it.
const (
	restarted = "The restart disconnects every client."
	noReturn  = "Clients without credentials do not come back."
)

func kindOf(m Mode) *kind {
	for i := range kinds {
		if kinds[i].mode == m {
			return &kinds[i]
		}
	}
	return nil
}

// Place is where a bundle will lie: paths and addresses that a configuration
// must name.
type Place struct {
	TLS      string   // folder of the certificates
	Resolver string   // folder in which the servers keep accounts' JWTs
	Routes   []string // host:port of the route ports of the cluster
	Gateways []Remote // the clusters of the super-cluster
	Leafnode string   // host:port of the leafnode port
}

// Remote is a cluster of a super-cluster.
type Remote struct {
	Name      string
	Addresses []string // host:port
}

// Plan says what to write.
type Plan struct {
	Modes []Mode
	// NoConfig: the server runs without a configuration file, so there is
	// nothing to reload.
	NoConfig bool
	// KeepAccounts: the configuration has an accounts block, which this one
	// would replace. Then no system user is written.
	KeepAccounts bool
	// SystemAccount is the name of the system account; "" is $SYS, the name
	// that every server has without being told.
	SystemAccount string
	// Certificates are used in the mode tls-map; nil makes a CA of its own.
	Certificates *Certificates
	// Hosts are names and addresses that a new server certificate is for.
	Hosts []string
	// Lasts is how long credentials files and new certificates are good; 0 is
	// for ever, which certificates cannot be: they then last ten years.
	Lasts time.Duration
	Now   time.Time
	// Original is what the configuration of the server has; nil where it is not
	// known.
	Original *Original
	// Cost of the passwords' hashes; 0 is 11, as nats-server itself makes them.
	Cost int
}

// Bundle is what a plan has led to.
type Bundle struct {
	Modes  []Mode
	Logins []Login // who may come in through client ports
	Peers  []Peer  // and through the doors of servers
	// Service is the auth callout that must run; nil without one.
	Service *Service

	plan    Plan
	parts   []part
	entries []entryFile
	secrets []File
	found   string // lines of a configuration that is open, and that this one closes
	tls     *Certificates
}

// String does not tell what is in it.
func (b *Bundle) String() string { return fmt.Sprint(b.Modes) }

// GoString does not tell what is in it.
func (b *Bundle) GoString() string { return fmt.Sprint(b.Modes) }

// part is a file that is included somewhere.
type part struct {
	kind  *kind
	found string // what stands in the block of an open server
	text  func(Place) string
}

// File is one to write. Its name may have a folder in front.
type File struct {
	Name   string
	Text   string
	Secret bool
}

// String does not tell what is in it.
func (f File) String() string { return f.Name }

// GoString does not tell what is in it.
func (f File) GoString() string { return f.Name }

// Peer is how a server proves itself to another one.
type Peer struct {
	Door     posture.DoorKind
	User     string
	password string
}

// Password is the peer's password.
func (p Peer) Password() string { return p.password }

// String does not tell the password.
func (p Peer) String() string { return p.User }

// GoString does not tell the password.
func (p Peer) GoString() string { return p.User }

// builder is a bundle that comes to be.
type builder struct {
	*Bundle
	system string
}

// New makes a bundle.
func New(plan Plan) (*Bundle, error) {
	b := &builder{Bundle: &Bundle{plan: plan}, system: plan.SystemAccount}
	if b.system == "" {
		b.system = globalSystem
	}
	if len(plan.Modes) == 0 {
		return nil, errors.New("nothing to close")
	}
	for _, m := range plan.Modes {
		if kindOf(m) == nil {
			return nil, fmt.Errorf("%q is no mode", m)
		}
	}
	var client *kind
	for i := range kinds {
		k := &kinds[i]
		if !slices.Contains(plan.Modes, k.mode) {
			continue
		}
		if k.file == authFile {
			if client != nil {
				return nil, fmt.Errorf("%s and %s are two ways to close the same port: name one", client.mode, k.mode)
			}
			client = k
		}
		if k.mode == Operator && plan.KeepAccounts {
			return nil, errors.New("a server in operator mode takes no accounts from its configuration: take them out first")
		}
		b.Modes = append(b.Modes, k.mode)
		if err := b.add(k.mode); err != nil {
			return nil, fmt.Errorf("%s: %w", k.mode, err)
		}
	}
	if err := addPasswords(b); err != nil {
		return nil, err
	}
	b.describe()
	return b.Bundle, nil
}

func (b *builder) add(m Mode) error {
	switch m {
	case Users:
		return addUsers(b)
	case NKey:
		return addNKeys(b)
	case Operator:
		return addOperator(b)
	case TLSMap:
		return addTLSMap(b)
	case Callout:
		return addCallout(b)
	case NoAuthUser:
		return addNoAuthUser(b)
	case Websocket:
		return addWebsocket(b)
	case MQTT:
		return addMQTT(b)
	case Leafnode:
		return addLeafnode(b)
	case Route:
		return addRoute(b)
	case Gateway:
		return addGateway(b)
	default:
		return fmt.Errorf("%q is no mode", m)
	}
}

// put adds the part of a mode.
func (b *builder) put(m Mode, text func(Place) string) {
	b.parts = append(b.parts, part{kind: kindOf(m), text: text})
}

// has tells whether the bundle will have a mode.
func (b *builder) has(m Mode) bool { return slices.Contains(b.plan.Modes, m) }

// keep adds a secret file, and returns its name.
func (b *builder) keep(name, text string) string {
	name = SecretsDir + "/" + name
	b.secrets = append(b.secrets, File{Name: name, Text: text, Secret: true})
	return name
}

// SecretsDir is the folder of what must be handed out or hidden.
const SecretsDir = "secrets"

// Closes lists the doors that are closed by this, where the server has them.
func (b *Bundle) Closes() []posture.DoorKind {
	var out []posture.DoorKind
	for _, kind := range posture.DoorKinds() {
		for _, p := range b.parts {
			if slices.Contains(p.kind.doors, kind) && !slices.Contains(out, kind) {
				out = append(out, kind)
			}
		}
	}
	return out
}

// Reload reports whether a reload applies all of it; otherwise the server must be
// restarted. No reload takes a no_auth_user away.
func (b *Bundle) Reload() bool {
	guest := b.plan.Original != nil && b.plan.Original.NoAuthUser != "" && slices.ContainsFunc(b.Modes, ofAuthFile)
	return !b.plan.NoConfig && !guest && !slices.ContainsFunc(b.parts, func(p part) bool { return p.kind.restart })
}

// NoConfig reports whether the server runs without a configuration file.
func (b *Bundle) NoConfig() bool { return b.plan.NoConfig }

// Places reports whether files go into blocks, and whether one goes after all of
// them.
func (b *Bundle) Places() (blocks, last bool) {
	for _, i := range b.Includes() {
		blocks = blocks || i.Block != "" || i.User != nil
		last = last || i.Block == "" && i.User == nil
	}
	return blocks, last
}

// Has tells whether the bundle has a mode.
func (b *Bundle) Has(m Mode) bool { return slices.Contains(b.Modes, m) }

// Files are all files, the ones to include first.
func (b *Bundle) Files(at Place) []File {
	var out []File
	for _, p := range b.parts {
		text := b.heading(p) + p.text(at)
		out = append(out, File{Name: p.kind.file, Text: text, Secret: strings.Contains(text, "password: ")})
	}
	for _, e := range b.entries {
		out = append(out, File{Name: e.name, Text: b.entryHeading(e) + e.text, Secret: true})
	}
	if b.Service != nil {
		out = append(out, File{Name: serviceDir + "/callout.go", Text: callout.Command()}, File{Name: serviceDir + "/main.go", Text: callout.Main})
	}
	if b.tls != nil && b.tls.new {
		out = append(out, b.tls.files()...)
	}
	out = append(out, b.secrets...)
	if b.Has(Leafnode) {
		out = append(out, File{Name: SecretsDir + "/leafnode-remote.conf", Text: b.leafnodeRemote(at), Secret: true})
	}
	return out
}

// Include is where a file goes.
type Include struct {
	File  string
	Block string // "" is the end of the configuration file, outside of any block
	Found string // what stands in this block of a server that the file closes
	User  *Entry // whose entry it goes into; nil of other files
	Mark  string // of a user: the line of Found where the include goes
}

// Includes tells where the files go.
func (b *Bundle) Includes() []Include {
	var out []Include
	for _, p := range b.parts {
		out = append(out, Include{File: p.kind.file, Block: p.kind.block, Found: p.found})
	}
	for i := range b.entries {
		e := &b.entries[i]
		out = append(out, Include{File: e.name, User: &e.user, Mark: e.mark()})
	}
	return out
}

// Found are lines of the configuration of a server that is open, and that this
// bundle closes. Those that stand in a block are in [Include].
func (b *Bundle) Found(at Place) string {
	if b.tls != nil {
		return b.found + b.tls.openBlock(at)
	}
	return b.found
}

// Effects says what applying it does to those who are connected, a sentence or
// more for each part.
func (b *Bundle) Effects() []string {
	var out []string
	if !b.Reload() {
		out = append(out, restarted)
	}
	for _, p := range b.parts {
		if effect := b.effect(p); !slices.Contains(out, effect) {
			out = append(out, effect)
		}
	}
	return out
}

func (b *Bundle) effect(p part) string {
	switch {
	case p.kind.mode == Callout && b.Asks():
		return noReturn + " While the service does not run, only the users in auth_users can log in. The server has users already and refuses the service's before the restart: start it right after that."
	case p.kind.restart:
		return p.kind.effect
	case !b.Reload() && p.kind.mode == Route:
		return "Routes whose peer brings no password do not come back before the peer has this file, too."
	case !b.Reload():
		return noReturn
	case p.kind.mode == Users && b.plan.KeepAccounts:
		return "The reload disconnects clients without credentials at once. Where the system account has users already, the server refuses the new users before: prepare the clients' restart."
	default:
		return p.kind.effect
	}
}
