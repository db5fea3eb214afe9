package service

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// DefaultLease is how long an agent leads without a sign of life. The lease is
// renewed four times in that time, and a leader that ends without a goodbye is
// followed soon after it.
const DefaultLease = 1600 * time.Millisecond

const (
	// blindAfter is how long an agent that starts waits for a store that cannot
	// be reached, before it leads without one.
	blindAfter = 5 * time.Second
	storeTime  = time.Second // of one request to the store
)

// lease is what stands in the bucket while an agent leads. No clock is compared
// with another one's: whoever waits sees the revision stand still.
type lease struct {
	Holder string    `json:"holder"` // the id of the agent's micro service
	Taken  time.Time `json:"taken"`  // for people
}

// elect takes part in the election until the context ends.
func (k *inJetStream) elect(ctx context.Context) {
	beat := time.NewTicker(k.cfg.Lease / 4)
	defer beat.Stop()
	began := time.Now()
	for {
		k.beat(ctx, time.Since(began) > blindAfter)
		select {
		case <-beat.C:
		case <-k.conflicts:
			if k.isLeading() {
				k.log.Warn("another agent has kept something else; reading the store again")
				k.lose(ctx)
			}
		case <-ctx.Done():
			k.resign(context.WithoutCancel(ctx))
			return
		}
	}
}

// beat renews the lease, or looks whether it can be had.
func (k *inJetStream) beat(ctx context.Context, late bool) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	if err := k.open(ctx); err != nil {
		k.unreachable(err, false)
		if late && !k.isLeading() {
			k.leadBlind(ctx)
		}
		return
	}
	var err error
	if k.leaseHeld {
		err = k.renew(ctx)
	} else {
		err = k.acquire(ctx)
	}
	switch {
	case err == nil:
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
	default:
		k.unreachable(err, false)
		if late && !k.isLeading() {
			k.leadBlind(ctx)
		}
	}
}

func (k *inJetStream) leaseKey() string { return k.token + ".lease" }

func (k *inJetStream) leaseText() []byte {
	text, err := json.Marshal(lease{Holder: k.id, Taken: time.Now().UTC()})
	if err != nil {
		panic(err) // two plain fields
	}
	return text
}

func (k *inJetStream) renew(ctx context.Context) error {
	rev, err := k.kv.Update(ctx, k.leaseKey(), k.leaseText(), k.leaseRevision)
	switch {
	case err == nil:
		k.late.renewed(k.leaseRevision, rev)
		k.renewed(rev)
		if !k.isLeading() || k.isBlind() {
			return k.gain(ctx) // the book was to be read anew
		}
		return k.lookForLate(ctx)
	case !mismatch(err):
		return err
	}
	// Somebody has taken it, or this agent has, and did not hear so.
	e, err := k.kv.Get(ctx, k.leaseKey())
	switch {
	case err != nil && !errors.Is(err, jetstream.ErrKeyNotFound):
		return err
	case err == nil && k.holds(e) && e.Revision() > k.leaseRevision:
		k.late.renewed(k.leaseRevision, e.Revision())
		k.renewed(e.Revision())
		return nil
	case err == nil && k.holds(e):
		return nil // so says a server that is behind; the next beat asks again
	}
	k.leaseHeld = false
	k.lose(ctx)
	return nil
}

func (k *inJetStream) acquire(ctx context.Context) error {
	e, err := k.kv.Get(ctx, k.leaseKey())
	var rev uint64
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		rev, err = k.kv.Create(ctx, k.leaseKey(), k.leaseText())
	case err != nil:
		return err
	case k.holds(e):
		rev = e.Revision() // the answer to our own request was lost
	case e.Revision() != k.seenRevision:
		k.seenRevision, k.seenAt = e.Revision(), time.Now()
		if k.isBlind() {
			k.lose(ctx)
		}
		return nil
	case time.Since(k.seenAt) < k.cfg.Lease:
		return nil
	default:
		rev, err = k.kv.Update(ctx, k.leaseKey(), k.leaseText(), e.Revision())
	}
	if err != nil {
		if mismatch(err) {
			return nil // another one was faster
		}
		return err
	}
	k.leaseHeld = true
	k.renewed(rev)
	return k.gain(ctx)
}

func (k *inJetStream) holds(e jetstream.KeyValueEntry) bool {
	var l lease
	return json.Unmarshal(e.Value(), &l) == nil && l.Holder == k.id
}

func (k *inJetStream) renewed(rev uint64) {
	k.leaseRevision = rev
	k.mu.Lock()
	k.leaseAt = time.Now()
	k.mu.Unlock()
	k.reached(false)
}

// resign gives the lease back, so that the next agent need not wait.
func (k *inJetStream) resign(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	k.drain(ctx)
	if !k.leaseHeld {
		return
	}
	if err := k.kv.Delete(ctx, k.leaseKey(), jetstream.LastRevision(k.leaseRevision)); err != nil && !mismatch(err) {
		k.log.Warn("the lease was not given back; another agent waits for its end", slog.Any("error", err))
	}
}

// mismatch tells whether the store refused because something else is there
// than was expected.
func mismatch(err error) bool {
	if errors.Is(err, errOvertaken) {
		return true
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return errors.Is(err, jetstream.ErrKeyExists)
	}
	const wrongLastSequence, wrongLastSequenceReplicated = 10071, 10164
	return api.ErrorCode == wrongLastSequence || api.ErrorCode == wrongLastSequenceReplicated
}
