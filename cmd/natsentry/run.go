package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/check"
	"github.com/natsentry/natsentry/agent/collect"
	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/service"
)

func (p *program) runCommand() *cobra.Command {
	var (
		sweep              sweepFlags
		interval, sessions time.Duration
		everyone, accounts time.Duration
		watch              time.Duration
		prefix             string
		keep               keepFlags
	)
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Keep watch: sweep, publish findings, answer requests",
		Long: `Runs the agent until it is interrupted. It sweeps the fleet,
touches doors when they are first seen, when they changed and now and then,
publishes each finding on audit.auth.finding.> as it opens and closes, announces
each sweep on audit.auth.epoch, and answers requests as the micro service
natsentry. Between sweeps it polls every server once a second, and follows the
servers' events: a reload, a restart, a stranger who comes.

What it knows ends with it, unless it is kept: in a local file with --state, for
one agent alone, or in JetStream with --store. With --store any number of agents
may run on one system: one of them leads, and another one follows it within
3 seconds. ` + "`natsentry setup` and `natsentry permissions --store`" + ` print what that
takes.

A connection that cannot be made at the start, or a user that may not ask the
servers or use the store, is an error. A connection that is lost later is tried
for ever. SIGHUP reads --policy again.`,
		Example: `  natsentry run --context prod-sys
  natsentry run --server nats://n1.example.net --creds sys.creds --system prod --log-format json
  natsentry run --context prod-sys --state /var/lib/natsentry/prod.json
  natsentry run --context prod-sys --store                # keep transitions in JetStream
  nats --context prod-sys req audit.auth ''               # the last report
  nats --context prod-sys req audit.auth.scan ''          # sweep now
  nats --context prod-sys sub 'audit.auth.finding.>'      # live`,
		Args: cobra.NoArgs,
	}
	sweep.register(cmd)
	cmd.Flags().DurationVar(&interval, "interval", agent.DefaultInterval, "time between two sweeps")
	cmd.Flags().DurationVar(&sessions, "session-interval", agent.DefaultSessionInterval, "time between two looks at the sessions in the global account")
	cmd.Flags().DurationVar(&everyone, "everyone-interval", agent.DefaultEveryoneInterval, "time between two looks at the sessions in all accounts of a server; 0 for none")
	cmd.Flags().DurationVar(&accounts, "account-interval", agent.DefaultAccountInterval, "time between two looks at the accounts of servers in operator mode")
	cmd.Flags().DurationVar(&watch, "watch-interval", agent.DefaultWatchInterval, "time between two polls of every server's VARZ; 0 for none")
	cmd.Flags().DurationVar(&sweep.probe.Every, "probe-interval", 10*time.Minute, "time between two touches of a door of which nothing changed")
	cmd.Flags().StringVar(&prefix, "prefix", service.DefaultPrefix, "`prefix` of the service's subjects")
	keep.register(cmd)
	logFormat := chooseFlag(cmd, "log-format", "how to log to standard error", "text", "json")
	logLevel := chooseFlag(cmd, "log-level", "the mildest level that is logged", "info", "debug", "warn", "error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		wrong := func(err error) error { return &usageError{cmd.CommandPath(), err} }
		if interval <= 0 || sessions <= 0 || accounts <= 0 || sweep.probe.Every <= 0 || watch < 0 || everyone < 0 {
			return wrong(errors.New("--interval, --session-interval, --everyone-interval, --account-interval, --watch-interval and --probe-interval must be positive"))
		}
		if err := keep.check(); err != nil {
			return wrong(err)
		}
		if err := checkPrefix(prefix); err != nil {
			return wrong(err)
		}
		t, err := p.loadTarget(ctx)
		if err != nil {
			return err
		}
		cfg, err := sweep.config(t)
		if err != nil {
			return wrong(err)
		}
		cfg.Interval, cfg.SessionInterval, cfg.AccountInterval, cfg.WatchInterval = interval, sessions, accounts, cmp.Or(watch, -1)
		cfg.EveryoneInterval = cmp.Or(everyone, -1)
		log, err := p.logger(logFormat.value, logLevel.value)
		if err != nil {
			return wrong(err)
		}
		nc, err := p.connect(ctx, t, func(err error) { log.Error("the connection reports an error", slog.Any("error", err)) })
		if err != nil {
			return err
		}
		defer nc.Close()
		log.Info("connected", slog.String("server", clean(nc.ConnectedServerName())),
			slog.String("url", redactServers(nc.ConnectedUrl())), slog.String("system", cfg.System))
		keeper, done, err := keep.open(ctx, p, nc, cfg.System, log)
		if err != nil {
			return err
		}
		defer done()
		hangups := make(chan os.Signal, 1)
		notifyReload(hangups) // before anybody can know that the agent is there: until then the signal ends the program
		defer signal.Stop(hangups)
		d := &daemon{nc: nc, cfg: cfg, prefix: prefix, log: log, keeper: keeper, sinks: []agent.Sink{transitionLog{log}}}
		if err := d.start(); err != nil {
			return err
		}
		defer d.stop()
		go d.followPolicy(ctx, hangups, &sweep)
		if err := d.agent.Run(ctx); err != nil {
			if errors.Is(err, collect.ErrNotSystemAccount) || errors.Is(err, collect.ErrNotPermitted) {
				return t.sweepFailed(nc, err)
			}
			return t.scrub(err)
		}
		log.Info("stopped")
		return nil
	}
	return cmd
}

func (p *program) logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, err
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(p.stderr, opts)), nil
	}
	return slog.New(slog.NewTextHandler(p.stderr, opts)), nil
}

// daemon is an agent and the service that speaks for it, on one connection.
type daemon struct {
	nc     *nats.Conn
	cfg    agent.Config
	prefix string
	log    *slog.Logger
	keeper service.Keeper // nil: in memory
	sinks  []agent.Sink   // told before the service is

	agent   *agent.Agent
	service *service.Service
}

func (d *daemon) start() error {
	svc, err := service.New(d.nc, service.Config{
		Prefix: d.prefix, System: d.cfg.System, Version: semanticVersion(thisBuild().Version), Interval: d.cfg.Interval, Keeper: d.keeper, Logger: d.log,
	})
	if err != nil {
		return err
	}
	opts := []agent.Option{agent.WithLogger(d.log), agent.WithSink(sinks(append(d.sinks, svc)))}
	if turns := svc.Turns(); turns != nil {
		opts = append(opts, agent.WithTurns(turns))
	}
	a, err := agent.New(d.nc, d.cfg, opts...)
	if err != nil {
		return errors.Join(err, svc.Stop())
	}
	svc.Attach(a)
	d.agent, d.service = a, svc
	return nil
}

// stop takes the service off the wire and lets what it published get out.
func (d *daemon) stop() {
	d.agent.Close()
	if err := d.service.Stop(); err != nil && !d.nc.IsClosed() {
		d.log.Warn("the service did not stop cleanly", slog.Any("error", err))
	}
	if err := d.nc.FlushTimeout(time.Second); err != nil && d.nc.IsConnected() {
		d.log.Warn("the last messages may not have got out", slog.Any("error", err))
	}
}

// followPolicy reads the policy file again on SIGHUP. A file that cannot be
// read leaves the policy as it is.
func (d *daemon) followPolicy(ctx context.Context, hangups <-chan os.Signal, f *sweepFlags) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			policy, err := f.judgeBy()
			if err != nil {
				d.log.Error("the policy stays as it was", slog.Any("error", err))
				continue
			}
			d.agent.SetPolicy(ctx, policy)
			d.log.Info("policy read again", slog.Int("waivers", len(policy.Waivers)))
		}
	}
}

// sinks tells several sinks of a sweep, one after the other.
type sinks []agent.Sink

func (s sinks) Judged(ctx context.Context, state *agent.State, transitions []finding.Entry) {
	for _, sink := range s {
		sink.Judged(ctx, state, transitions)
	}
}

// transitionLog logs what changed: names and verdicts, never evidence.
type transitionLog struct{ log *slog.Logger }

func (t transitionLog) Judged(ctx context.Context, _ *agent.State, transitions []finding.Entry) {
	for i := range transitions {
		f := &transitions[i].Finding
		level := slog.LevelInfo
		if f.Severity >= check.Warning && f.Action != finding.Resolved && f.Action != finding.Held {
			level = slog.LevelWarn
		}
		t.log.LogAttrs(ctx, level, "finding", slog.String("action", string(f.Action)),
			slog.String("severity", f.Severity.String()), slog.String("check", f.Check), slog.String("cause", string(f.Cause)),
			slog.String("subject", subject(f)), slog.String("fingerprint", f.Fingerprint))
	}
}

// semanticVersion is a module version without the v that Go writes before it.
func semanticVersion(v string) string {
	if len(v) > 1 && v[0] == 'v' {
		return v[1:]
	}
	return v
}
