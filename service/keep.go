package service

import (
	"context"
	"time"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/finding"
)

// Keeper keeps transitions beyond the life of the agent, and has them told.
// There are three: see [InMemory], [InFile] and [InJetStream].
//
// A keeper is used by one service. Its methods are called by that service.
type Keeper interface {
	// bind says who tells what the keeper takes. It is called first, and once.
	bind(t teller)
	// turns is where the agent learns when it leads; nil when it always does.
	turns() <-chan agent.Turn
	// run does the keeper's work until the context ends.
	run(ctx context.Context)
	// take takes over transitions, in their order. It does not block.
	take(entries []finding.Entry)
	// state says how the keeper fares.
	state() KeeperState
	// close gives back what the keeper holds, after run has ended.
	close() error
}

// teller is what a keeper has transitions told by.
type teller interface {
	// tell publishes a transition and adds it to the history.
	tell(e *finding.Entry)
	// remember replaces the history by what was kept.
	remember(h *finding.History)
	// lead says that this agent answers for all, or that it no longer does.
	lead(leading bool)
}

// historyLimit is how many transitions the service holds in memory.
const historyLimit = 10_000

// KeeperState is how a keeper fares.
type KeeperState struct {
	Kind      string    `json:"kind"`      // memory, file or jetstream
	Reachable bool      `json:"reachable"` // the last thing that was to be kept was
	Waiting   int       `json:"waiting"`   // transitions that are not kept yet
	Since     time.Time `json:"since"`     // the oldest of them; zero without any
	Trouble   string    `json:"trouble"`   // why, in words; "" when reachable
}

// inMemory keeps nothing: what an agent knows ends with it.
type inMemory struct{ t teller }

// InMemory is the keeper that keeps nothing.
func InMemory() Keeper { return &inMemory{} }

func (*inMemory) turns() <-chan agent.Turn { return nil }

func (m *inMemory) bind(t teller) { m.t = t }

func (*inMemory) run(ctx context.Context) { <-ctx.Done() }

func (m *inMemory) take(entries []finding.Entry) {
	for i := range entries {
		m.t.tell(&entries[i])
	}
}

func (*inMemory) state() KeeperState { return KeeperState{Kind: "memory", Reachable: true} }

func (*inMemory) close() error { return nil }
