package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/natsentry/natsentry/service"
)

// keepFlags say where the agent keeps what it has told.
type keepFlags struct {
	state        string
	store        bool
	storeContext string
}

func (f *keepFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.state, "state", "", "keep what was told in this `file`, for this agent alone")
	cmd.Flags().BoolVar(&f.store, "store", false, "keep what was told in JetStream, for any number of agents (see natsentry setup)")
	cmd.Flags().StringVar(&f.storeContext, "store-context", "", "`context` of a connection of its own into the account that keeps; without it the system account imports that one")
}

func (f *keepFlags) check() error {
	if f.state != "" && (f.store || f.storeContext != "") {
		return errors.New("--state is for one agent alone, --store for several: choose one")
	}
	return nil
}

// open makes the keeper that the flags ask for. done gives back what that took.
func (f *keepFlags) open(ctx context.Context, p *program, nc *nats.Conn, system string, log *slog.Logger) (k service.Keeper, done func(), err error) {
	done = func() {}
	switch {
	case f.state != "":
		k, err = service.InFile(f.state)
		return k, done, err
	case !f.store && f.storeContext == "":
		return service.InMemory(), done, nil
	}
	cfg := service.JetStreamConfig{Conn: nc, APIPrefix: service.StoreAPI, System: system, Logger: log}
	if f.storeContext != "" {
		own, err := p.connectAs(ctx, f.storeContext, log)
		if err != nil {
			return nil, done, fmt.Errorf("--store-context: %w", err)
		}
		cfg.Conn, cfg.APIPrefix, done = own, "", own.Close
	}
	k, err = service.InJetStream(ctx, cfg)
	if err != nil {
		done()
		return nil, func() {}, err
	}
	return k, done, nil
}

// connectAs connects as a context says, whatever the connection flags are.
func (p *program) connectAs(ctx context.Context, name string, log *slog.Logger) (*nats.Conn, error) {
	own := *p
	own.connection = connectionFlags{context: name, timeout: p.connection.timeout}
	t, err := own.loadTarget(ctx)
	if err != nil {
		return nil, err
	}
	return own.connect(ctx, t, func(err error) { log.Error("the connection to the store reports an error", slog.Any("error", err)) })
}
