package fleet

import (
	"flag"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// reading lets one call at a time use nats-server's variable.
var reading sync.Mutex

// Options reads a command line as nats-server does, with the configuration file
// that it names. nats-server also writes the flags to a variable of the process, by
// which all servers in it would go when they reload: that is undone. Call it before
// anything reloads.
func Options(args ...string) (*server.Options, error) {
	reading.Lock()
	defer reading.Unlock()
	none := func() {}
	o, err := server.ConfigureOptions(flag.NewFlagSet("nats-server", flag.ContinueOnError), args, none, none, none)
	server.FlagSnapshot = nil
	return o, err
}
