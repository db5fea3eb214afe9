package integration

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/integration/oracle"
)

// The corpus is the configuration files with which nats-server tests itself.
// Nobody wrote them with an auditor in mind.
//
// Of each file everything stays that decides who gets in. Its listeners move
// to loopback ports; connections to other servers, logs and folders go. A file
// that is only ever included into a cluster or gateway block of a test, and so
// has no port, gets one.

// corpusFolders are searched in nats-server's module.
var corpusFolders = []string{"server/configs", "test/configs"}

// corpusCase is one file, or why nobody can ask about it.
type corpusCase struct {
	truthCase
	unreadable string // the server does not accept it
	deaf       string // the server cannot be audited
}

func corpusCases(t *testing.T) []corpusCase {
	t.Helper()
	module := serverModule(t)
	root := t.TempDir()
	files := copyConfigurations(t, module, root)
	cases := make([]corpusCase, 0, len(files))
	for _, name := range files {
		c := corpusCase{truthCase: truthCase{
			name: name, mayRefuse: true, undecided: corpusUndecided[name], file: filepath.Join(root, filepath.FromSlash(name)),
		}}
		c.deaf = corpusDeaf[name]
		file := filepath.Join(root, filepath.FromSlash(name))
		plain := func(err error) string { // without the folders of this run
			return strings.NewReplacer(root+string(filepath.Separator), "", module+string(filepath.Separator), "").Replace(err.Error())
		}
		o, err := server.ProcessConfigFile(file)
		if err != nil {
			c.unreadable = slices.Min(strings.Split(strings.TrimSpace(plain(err)), "\n")) // they come in any order
			cases = append(cases, c)
			continue
		}
		c.basePath = o.HTTPBasePath
		var ports strings.Builder
		for _, label := range corpusDoors(o) {
			fmt.Fprintf(&ports, "# {{port %q}}\n", label)
		}
		c.config = ports.String()
		c.options = func(label func(string) string, into *server.Options) {
			o, err := server.ProcessConfigFile(file)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			move(o, label)
			*into = *o
		}
		cases = append(cases, c)
	}
	return cases
}

// serverModule is the folder of nats-server's module.
func serverModule(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/nats-io/nats-server/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// inModule are references that hold from the folder in which nats-server's
// tests run.
var inModule = regexp.MustCompile(`"\.(/configs/|\./test/configs/)`)

// copyConfigurations copies all configuration files, so that what they include
// is beside them, and lets their references lead into the module. It returns
// their names.
func copyConfigurations(t *testing.T, module, root string) []string {
	t.Helper()
	var names []string
	for _, folder := range corpusFolders {
		runs, _, _ := strings.Cut(folder, "/")
		err := filepath.WalkDir(filepath.Join(module, filepath.FromSlash(folder)), func(file string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || path.Ext(file) != ".conf" {
				return err
			}
			rel, err := filepath.Rel(module, file)
			if err != nil {
				return err
			}
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			text := inModule.ReplaceAllStringFunc(string(data), func(ref string) string {
				if strings.HasPrefix(ref, `"../`) {
					return `"` + filepath.ToSlash(module) + "/test/configs/"
				}
				return `"` + filepath.ToSlash(filepath.Join(module, runs)) + "/configs/"
			})
			text = strings.ReplaceAll(text, "/tmp/nats-server", filepath.ToSlash(filepath.Join(root, "state", filepath.Base(file))))
			to := filepath.Join(root, rel)
			if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
				return err
			}
			names = append(names, filepath.ToSlash(rel))
			return os.WriteFile(to, []byte(text), 0o600)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// corpusDoors lists the doors that a configuration has.
func corpusDoors(o *server.Options) []string {
	doors := []string{oracle.Client}
	for door, on := range map[string]bool{
		oracle.Route: o.Cluster.Port != 0 || o.Cluster.TLSConfig != nil, oracle.Gateway: o.Gateway.Port != 0 || o.Gateway.TLSConfig != nil,
		oracle.Leafnode: o.LeafNode.Port != 0, oracle.Websocket: o.Websocket.Port != 0, oracle.MQTT: o.MQTT.Port != 0,
		oracle.Monitor: o.HTTPPort != 0 || o.HTTPSPort != 0, "https": o.HTTPPort != 0 && o.HTTPSPort != 0,
	} {
		if on {
			doors = append(doors, door)
		}
	}
	return doors
}

// move takes a configuration's listeners to loopback, and its ties to other
// servers and files away.
func move(o *server.Options, label func(string) string) {
	to := func(host *string, port *int, door string) {
		if address := label(door); address != "" {
			*host, *port = splitAddress(address)
		}
	}
	to(&o.Host, &o.Port, oracle.Client)
	to(&o.Cluster.Host, &o.Cluster.Port, oracle.Route)
	to(&o.Gateway.Host, &o.Gateway.Port, oracle.Gateway)
	to(&o.LeafNode.Host, &o.LeafNode.Port, oracle.Leafnode)
	to(&o.Websocket.Host, &o.Websocket.Port, oracle.Websocket)
	to(&o.MQTT.Host, &o.MQTT.Port, oracle.MQTT)
	http, https := o.HTTPPort != 0, o.HTTPSPort != 0
	switch {
	case http && https:
		to(&o.HTTPHost, &o.HTTPPort, oracle.Monitor)
		to(&o.HTTPHost, &o.HTTPSPort, "https")
	case https:
		to(&o.HTTPHost, &o.HTTPSPort, oracle.Monitor)
	case http:
		to(&o.HTTPHost, &o.HTTPPort, oracle.Monitor)
	}
	if o.Gateway.Port != 0 && o.Gateway.Name == "" {
		o.Gateway.Name = "g"
	}
	if o.Cluster.Port != 0 && o.Cluster.Name == "" {
		o.Cluster.Name = "c"
	}
	o.ProfPort = 0
	o.ClientAdvertise, o.Cluster.Advertise, o.Gateway.Advertise, o.LeafNode.Advertise = "", "", "", ""
	o.Routes, o.RoutesStr, o.Gateway.Gateways, o.LeafNode.Remotes = nil, "", nil, nil
	o.LogFile, o.PidFile, o.PortsFileDir, o.Syslog, o.RemoteSyslog = "", "", "", false, ""
	o.NoSigs, o.NoLog = true, true
}

func splitAddress(address string) (host string, port int) {
	host, text, _ := strings.Cut(address, ":")
	if _, err := fmt.Sscan(text, &port); err != nil {
		panic(err) // the fleet builder made it
	}
	return host, port
}

// corpusUndecided is handUndecided for these files.
var corpusUndecided = map[string]map[string]string{
	// It has no room for anybody, whoever he is.
	"server/configs/reload/max_connections_refuse_all.conf": {oracle.Client: "maximum connections exceeded"},
}

// corpusDeaf are servers that boot and cannot be audited, and why.
var corpusDeaf = map[string]string{
	"server/configs/reload/max_payload.conf": "no question fits into a max_payload of one byte",
	"test/configs/resolver_preload.conf":     "its system account allows neither clients nor leafnodes",
}
