package service

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// late watches for records that come late: by an agent that led before, this one
// perhaps, looked at its lease, and was held up before it wrote, because its machine stood still, or
// what it wrote waited in a connection that was cut. The agent that leads knows of
// no such record, and the finding in it would stand for ever.
//
// Of a system only the agent that leads writes into the bucket. So the sequence
// tells: between two renewals of the lease it grows by what that one has written.
// If it grows by more, and that may also be another system or an answer that is
// under way, the new records are looked through.
type late struct {
	mu    sync.Mutex
	own   []uint64 // revisions that this agent has written since the last renewal
	from  uint64   // what stands before this sequence is known
	doubt bool     // what comes then is not
	next  time.Time
}

const latePause = 10 * time.Second // between two looks

// begin forgets what was before a turn to lead, which reads all there is.
func (l *late) begin(lease uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own, l.from, l.doubt = nil, lease, false
}

func (l *late) wrote(revision uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own = append(l.own, revision)
}

// renewed takes the revisions of two leases, of which one followed the other.
func (l *late) renewed(before, lease uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	written := uint64(0)
	l.own = slices.DeleteFunc(l.own, func(revision uint64) bool {
		if revision > before && revision < lease {
			written++
		}
		return revision < lease
	})
	if before+written+1 != lease {
		l.doubt = true
	}
}

// due tells whether it is time for a look, and from where on.
func (l *late) due(now time.Time) (from uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from, l.doubt && !now.Before(l.next)
}

// looked ends a look that has gone up to a lease.
func (l *late) looked(now time.Time, lease uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.from, l.doubt, l.next = lease, false, now.Add(latePause)
}

// lookForLate looks through new records for one that this agent does not know, and
// then has the whole book read again.
func (k *inJetStream) lookForLate(ctx context.Context) error {
	from, due := k.late.due(time.Now())
	if !due {
		return nil
	}
	k.mu.Lock()
	term := k.term
	k.mu.Unlock()
	found := false
	err := k.readBucket(ctx, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: max(from, 1), HeadersOnly: true,
	}, func(m jetstream.Msg, seq uint64) error {
		fingerprint := m.Subject()[strings.LastIndexByte(m.Subject(), '.')+1:]
		if !k.knows(fingerprint, seq) {
			found = true
			k.log.Warn("an agent that led before has kept something late", slog.String("finding", fingerprint))
		}
		return nil
	})
	switch {
	case errors.Is(err, errBehind):
		return nil // the next beat looks again, perhaps at another server
	case err != nil:
		return err
	}
	k.late.looked(time.Now(), k.leaseRevision)
	if found {
		k.conflict(term)
	}
	return nil
}

// knows tells whether a record is this agent's own, or may be, or was read when it
// began to lead.
func (k *inJetStream) knows(fingerprint string, revision uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := k.lanes[fingerprint]
	return l != nil && (l.working || l.revision >= revision)
}
