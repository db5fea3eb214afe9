package integration

import (
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/semver"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/integration/fleet"
	"github.com/natsentry/natsentry/integration/oracle"
)

// oldVersions are the last releases of each line, and releases around a change
// of who is admitted, the oldest first; "" is the one that this module embeds.
var oldVersions = []string{"v2.9.25", "v2.10.29", "v2.11.6", "v2.11.17", "v2.12.11", "v2.12.12", "v2.12.15", "v2.14.5", ""}

// guardsLeafnodes is the first release whose leafnode port takes over the
// client's authentication.
const guardsLeafnodes = "v2.12.0"

// oldCase is a configuration of an old server. HUB stands for the remotes of
// the audited server's leafnodes block.
type oldCase struct {
	name, config string
	open         []string
	asked        bool // only the oracle knows who gets in
	unguarded    bool // its client port has authorization, and its leafnode port has none of its own
}

const (
	oldDoors   = wsBlock + "}\n" + monitoring + routeBlock
	oldGuarded = `accounts { $SYS { users: [ { user: sys, password: sys-password } ] }, APP { users: [ { user: app, password: app-password }, { user: guest, password: guest-password } ] } }
`
)

// oldGuest has an anonymous user, limited as the text says, and every listener
// on which it may count.
func oldGuest(password, limits string) string {
	return `accounts { $SYS { users: [ { user: sys, password: sys-password } ] }, APP { users: [ { user: guest, password: "` + password + `"` + limits + ` } ] } }
no_auth_user: guest
` + wsBlock + "}\n" + monitoring + leafBlock + "HUB }"
}

// guestHash is the bcrypt hash of "guest-password".
const guestHash = "$2a$04$LUYMhVI5k.Nnupure2wiDusygBV4mJ./kOs.Jj0NNbKPmDYIAK2ku"

func oldCases() []oldCase {
	all := []string{oracle.Client, oracle.Websocket, oracle.LeafWebsocket, oracle.Leafnode, oracle.Route, oracle.Monitor}
	return []oldCase{
		{name: "open", config: oldDoors + "}\n" + leafBlock + "HUB }", open: all},
		{name: "hidden user", config: sysAccount + oldDoors + "}\n" + leafBlock + "HUB }", open: all},
		{name: "no_auth_user", config: oldGuarded + "no_auth_user: guest\n" + oldDoors + "}\n" + leafBlock + "HUB }", open: all},
		{
			name: "closed", config: oldGuarded + oldDoors + sure + "}\n" + leafBlock + sure + "HUB }",
			open: []string{oracle.Monitor},
		},
		{
			name: "closed, websocket no_auth_user", config: oldGuarded + wsBlock + ", no_auth_user: guest }\n" + monitoring + leafBlock + sure + "HUB }",
			open: []string{oracle.Websocket, oracle.Monitor},
		},
		{
			name: "leafnodes without authorization", config: oldGuarded + oldDoors + sure + "}\n" + leafBlock + "HUB }",
			open: []string{oracle.Monitor}, unguarded: true,
		},
		{
			name: "leafnodes without authorization, token", config: "authorization { token: token-of-the-tests }\n" + oldDoors + sure + "}\n" + leafBlock + "HUB }",
			open: []string{oracle.Monitor}, unguarded: true,
		},
		{
			name: "leafnodes without authorization, account", config: oldGuarded + oldDoors + sure + "}\n" + leafBlock + "\nauthorization { account: APP }\nHUB }",
			open: []string{oracle.Monitor}, unguarded: true,
		},
		{name: "no_auth_user with a bcrypt password", config: oldGuest(guestHash, ""), asked: true},
		{name: "no_auth_user for clients only", config: oldGuest("guest-password", ", allowed_connection_types: [STANDARD]"), asked: true},
		{name: "no_auth_user for websockets only", config: oldGuest("guest-password", ", allowed_connection_types: [WEBSOCKET]"), asked: true},
		{name: "no_auth_user for leafnodes only", config: oldGuest("guest-password", ", allowed_connection_types: [LEAFNODE]"), asked: true},
		{name: "no_auth_user with a bcrypt password, for leafnodes only", config: oldGuest(guestHash, ", allowed_connection_types: [LEAFNODE]"), asked: true},
	}
}

// of is the case for one release.
func (o *oldCase) of(version string) truthCase {
	c := truthCase{name: o.name, config: o.config, open: o.open, known: !o.asked}
	old := version != "" && semver.Compare(version, guardsLeafnodes) < 0
	if old && o.unguarded {
		c.open = append([]string{oracle.Leafnode, oracle.LeafWebsocket}, c.open...)
	}
	return c
}

// TestTruthOfOldServers asks both parties about the doors of real servers of
// every line of releases.
func TestTruthOfOldServers(t *testing.T) {
	t.Parallel()
	for _, version := range oldVersions {
		name := version
		if version == "" {
			name = "current"
		}
		t.Run(name, func(t *testing.T) {
			path := ""
			if version != "" {
				path = binary(t, version)
			}
			var wg sync.WaitGroup
			for _, o := range sample(oldCases()) {
				wg.Go(func() {
					t.Run(o.name, func(t *testing.T) {
						c := o.of(version)
						askBothOld(t, &c, path, version)
					})
				})
			}
			wg.Wait()
		})
	}
}

// askBothOld is askBoth for servers that may be processes: the leafnode
// connection to the hub stands in the configuration, and the server's own
// monitoring tells who has joined. Lint is told the version, as the tag of an
// image tells it.
func askBothOld(t *testing.T, c *truthCase, path, version string) {
	t.Helper()
	f := start(t, fleet.Spec{Name: "hub", Config: hub})
	add := func(name, remotes string) *fleet.Server {
		s, err := f.Add(t.Context(), fleet.Spec{Name: name, Binary: path, Config: strings.Replace(c.config, "HUB", remotes, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	tried := add("tried", "")
	audited := add("audited", "\n"+`remotes: [ { url: "nats-leaf://leaf-sys:leaf-password@{{addr "hub" "leafnode"}}", account: "$SYS" } ]`+"\n")
	waitActive(t, f, f.Server("hub"), 2)
	said := audit(t, connectSys(t, f.Server("hub")), audited.ID())
	target := &oracle.Target{Addresses: addresses(tried), Cluster: "c", Witness: oracle.Monitoring(tried.Addr(oracle.Monitor))}
	truths := compare(t, c, said, target)
	file, err := conffile.Read(conffile.Source{Name: tried.ConfigFile(), Read: conffile.Disk, Version: strings.TrimPrefix(version, "v")})
	if err != nil {
		t.Fatal(err)
	}
	l := lintedFile(t, file, tried)
	for i := range truths {
		l.add(t, &truths[i])
	}
}
