package main

import (
	"bufio"
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by release builds: -ldflags "-X main.version=1.2.3".
var version string

// build is what this binary was made of.
type build struct {
	Version, Go, Platform string
	Server, Client        string // the versions of nats-server and nats.go
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		b.Version = cmp.Or(b.Version, "unknown")
		return b
	}
	b.Version = cmp.Or(b.Version, info.Main.Version, "(devel)")
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/nats-io/nats-server/v2":
			b.Server = m.Version
		case "github.com/nats-io/nats.go":
			b.Client = m.Version
		}
	}
	return b
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Print the version of natsentry and of what it is built with",
		Example:     `  natsentry version`,
		Args:        cobra.NoArgs,
		Annotations: offlineCommand,
		RunE: func(*cobra.Command, []string) error {
			b := thisBuild()
			return p.print(func(w *bufio.Writer) error {
				fmt.Fprintf(w, "natsentry %s\ngo %s %s\n", clean(b.Version), b.Go, b.Platform)
				fmt.Fprintf(w, "nats-server %s\nnats.go %s\n", cmp.Or(b.Server, "unknown"), cmp.Or(b.Client, "unknown"))
				return nil
			})
		},
	}
}
