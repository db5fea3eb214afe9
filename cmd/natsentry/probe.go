package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/probe"
)

func (p *program) probeCommand() *cobra.Command {
	var (
		strict, verbose, loopbackExposed bool
		parallel                         int
		timeout                          time.Duration
	)
	cmd := &cobra.Command{
		Use:   "probe HOST:PORT...",
		Short: "Touch doors from outside, without the system account",
		Long: `Touches each address as a stranger would: one harmless anonymous handshake.
What kind of door it is shows by its banner. No credential is sent, nothing is
joined or created, and an MQTT listener is left alone. Only touch what you are
responsible for: a refused touch leaves an error line in the server's log.

The exit codes are those of audit; an address that gave no verdict makes it 2.
A listener that asks for a client certificate before it shows what it is, as
routes and gateways with TLS do, is closed: no certificate was brought.`,
		Example: `  natsentry probe n1.example.net:4222
  natsentry probe n1.example.net:4222 n1.example.net:6222 n1.example.net:8222
  natsentry probe --format json 10.0.0.7:4222`,
		Args:        cobra.MinimumNArgs(1),
		Annotations: offlineCommand,
	}
	failOn := chooseFlag(cmd, "fail-on", "the mildest severity that makes the exit code 1", "critical", "warning", "info", "none")
	cmd.Flags().BoolVar(&strict, "strict", false, "what is not proven makes the exit code 2")
	format := chooseFlag(cmd, "format", "how to print the report", "table", "json", "markdown")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show info findings and all evidence in full")
	cmd.Flags().BoolVar(&loopbackExposed, "loopback-exposed", false, "listeners on loopback count as reachable: something forwards to them")
	cmd.Flags().IntVar(&parallel, "probe-parallel", 16, "`hosts` that are touched at once")
	cmd.Flags().DurationVar(&timeout, "wait", 4*time.Second, "how long one touch may take")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if parallel <= 0 || timeout <= 0 {
			return &usageError{cmd.CommandPath(), fmt.Errorf("--probe-parallel and --wait must be positive")}
		}
		for _, address := range args {
			if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
				return &usageError{cmd.CommandPath(), fmt.Errorf("%q is no HOST:PORT", clean(address))}
			}
		}
		done := p.progress("touching " + plural(len(args), "address", "addresses"))
		began := time.Now()
		touches := touchAll(cmd.Context(), &probe.Prober{Timeout: timeout}, args, parallel)
		done()
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		snap := strangersView(touches)
		snap.Taken, snap.Took = began, time.Since(began)
		policy := check.DefaultPolicy()
		policy.LoopbackExposed = loopbackExposed
		report := finding.NewReport(snap, finding.Of(snap, check.Evaluate(snap, policy), &policy))
		if err := p.printReport(report, format.value, verbose); err != nil {
			return err
		}
		return judge(report, failOn.value, strict)
	}
	return cmd
}

// touchAll touches the addresses, hosts beside each other and the addresses
// of one host one after the other. The result is in the order of the
// addresses.
func touchAll(ctx context.Context, prober *probe.Prober, addresses []string, parallel int) []posture.Touch {
	byHost := map[string][]int{}
	for i, address := range addresses {
		host, _, _ := net.SplitHostPort(address)
		byHost[host] = append(byHost[host], i)
	}
	found := make([][]posture.Touch, len(addresses))
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for _, indexes := range byHost {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for _, i := range indexes {
				found[i] = prober.Identify(ctx, addresses[i])
			}
		})
	}
	wg.Wait()
	var out []posture.Touch
	for _, f := range found {
		out = append(out, f...)
	}
	return out
}

// strangersView puts touches together as a snapshot of the servers that
// answered. What gave no verdict is a gap.
func strangersView(touches []posture.Touch) *posture.Snapshot {
	snap := &posture.Snapshot{System: "probe", Epoch: 1}
	silent := 0
	for _, t := range touches {
		if t.Access == posture.Unknown {
			snap.Gaps = append(snap.Gaps, posture.Gap{Server: cmp.Or(t.ServerName, t.Address), ID: t.ServerID, Endpoint: "touch of " + t.Address + t.Path, Reason: t.Reason})
		}
		if t.ServerID == "" && t.Access == posture.Unknown {
			silent++
			continue
		}
		s := touchedServer(snap, &t)
		s.Touches = append(s.Touches, t)
	}
	for _, s := range snap.Servers {
		posture.Judge(s)
	}
	posture.SortServers(snap.Servers)
	snap.Expected, snap.Heard = len(snap.Servers)+silent, len(snap.Servers)
	return snap
}

// touchedServer finds or adds the server that a touch speaks of, with the
// door at that address. Two addresses of one kind are two entries.
func touchedServer(snap *posture.Snapshot, t *posture.Touch) *posture.Server {
	host, port, _ := net.SplitHostPort(t.Address)
	number, _ := strconv.Atoi(port) // a service name is no number; the address is shown by the gap
	for _, s := range snap.Servers {
		if s.ID == "" || s.ID != t.ServerID {
			continue
		}
		d := s.Door(t.Kind())
		if d == nil {
			s.Doors = append(s.Doors, posture.Door{Kind: t.Kind(), On: posture.Yes, Host: host, Port: number})
			return s
		}
		if d.Host == host && d.Port == number {
			return s
		}
	}
	s := &posture.Server{
		ID: t.ServerID, Name: cmp.Or(clean(t.ServerName), t.Address), Version: clean(t.Version), State: posture.Answering,
		Doors: []posture.Door{{Kind: t.Kind(), On: posture.Yes, Host: host, Port: number}},
	}
	snap.Servers = append(snap.Servers, s)
	return s
}
