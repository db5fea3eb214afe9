package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/agent/finding"
)

// lane is the way of one finding's transitions into the store, one after the
// other.
type lane struct {
	stood    bool   // as it is kept
	revision uint64 // of the record
	last     uint64 // sequence of the last transition on the finding's subject
	waiting  []*parcel
	working  bool
}

// parcel is a transition on its way.
type parcel struct {
	entry finding.Entry
	at    time.Time
	told  bool
	step  int    // how many steps are done
	seq   uint64 // where the stream has it
}

func (k *inJetStream) take(entries []finding.Entry) {
	k.mu.Lock()
	if !k.leading {
		k.mu.Unlock()
		return // its turn has ended meanwhile; who leads now sees it too
	}
	if k.blind {
		k.mu.Unlock()
		for i := range entries {
			k.t.tell(&entries[i])
		}
		return
	}
	now := time.Now()
	for i := range entries {
		fp := entries[i].Finding.Fingerprint
		l := k.lanes[fp]
		if l == nil {
			l = &lane{}
			k.lanes[fp] = l
		}
		l.waiting = append(l.waiting, &parcel{entry: entries[i], at: now})
		k.waiting++
	}
	if k.waiting > maxWaiting {
		k.collapse()
	}
	late := k.untold()
	k.mu.Unlock()
	for i := range late {
		k.t.tell(&late[i])
	}
	k.wakeUp()
}

// collapse leaves of each finding what is needed to come to the same end. A
// transition of which a part is kept already stays.
func (k *inJetStream) collapse() {
	k.waiting = 0
	for _, l := range k.lanes {
		done := 0
		stood := l.stood
		for done < len(l.waiting) && (done == 0 && l.working || l.waiting[done].step > 0) {
			stood = l.waiting[done].entry.Stands()
			done++
		}
		entries := make([]finding.Entry, 0, len(l.waiting)-done)
		parcels := map[string]*parcel{}
		for _, p := range l.waiting[done:] {
			entries = append(entries, p.entry)
			parcels[p.entry.Finding.ID] = p
		}
		l.waiting = l.waiting[:done:done]
		for _, e := range finding.Collapse(stood, entries) {
			l.waiting = append(l.waiting, parcels[e.Finding.ID])
		}
		k.waiting += len(l.waiting)
	}
}

// untold lists, while the store is in trouble, what waits and has not been
// told: an alarm does not wait for the record of it.
func (k *inJetStream) untold() []finding.Entry {
	if k.trouble == nil {
		return nil
	}
	var out []finding.Entry
	for _, l := range k.lanes {
		for _, p := range l.waiting {
			if !p.told {
				p.told = true
				out = append(out, p.entry)
			}
		}
	}
	return out
}

func (k *inJetStream) wakeUp() {
	select {
	case k.wake <- struct{}{}:
	default: // it will wake up anyway
	}
}

// pump keeps what waits.
func (k *inJetStream) pump(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	retry := time.NewTicker(shortestTry)
	defer retry.Stop()
	for {
		select {
		case <-k.wake:
		case <-retry.C:
		case <-ctx.Done():
			return
		}
		k.mu.Lock()
		for fp, l := range k.lanes {
			most := maxWorking
			if k.trouble != nil {
				most = 1 // one tries, for all
			}
			if k.working >= most || k.blind || k.trouble != nil && time.Now().Before(k.retryAt) {
				break
			}
			if l.working || len(l.waiting) == 0 {
				continue
			}
			l.working = true
			k.working++
			term := k.term
			wg.Go(func() { k.work(ctx, term, fp, l) })
		}
		k.mu.Unlock()
	}
}

// work keeps the transitions of one lane.
func (k *inJetStream) work(ctx context.Context, term uint64, fp string, l *lane) {
	defer func() {
		k.mu.Lock()
		l.working = false
		k.working--
		more := k.waiting > 0
		k.mu.Unlock()
		if more {
			k.wakeUp()
		}
	}()
	for {
		k.mu.Lock()
		if k.term != term || len(l.waiting) == 0 || ctx.Err() != nil {
			k.mu.Unlock()
			return
		}
		p := l.waiting[0]
		expired := time.Since(k.leaseAt) > k.cfg.Lease && k.trouble == nil
		k.mu.Unlock()
		if expired {
			return // it may be another's turn by now; the next beat tells
		}
		if err := k.keep(ctx, term, fp, l, p); err != nil {
			if mismatch(err) {
				k.conflict(term)
			} else if ctx.Err() == nil {
				k.unreachable(err, true)
			}
			return
		}
		k.reached(true)
		k.mu.Lock()
		if k.term == term {
			l.waiting = l.waiting[1:]
			l.stood = p.entry.Stands()
			k.waiting--
		}
		k.mu.Unlock()
	}
}

// keep takes a transition through the steps that are left.
func (k *inJetStream) keep(ctx context.Context, term uint64, fp string, l *lane, p *parcel) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	key := k.token + ".finding." + fp
	rec := record{Entry: p.entry, Last: l.last, Pending: true, Writer: k.id}
	if p.step == 0 {
		k.cfg.Step("record")
		rev, err := k.put(ctx, key, &rec, l.revision)
		if err != nil {
			return err
		}
		k.wrote(fp, l, rev)
		p.step = 1
	}
	k.mu.Lock()
	told, current := p.told, k.term == term
	p.told = true
	k.mu.Unlock()
	if !told && current {
		k.cfg.Step("tell")
		k.t.tell(&p.entry)
	}
	if p.step == 1 {
		k.cfg.Step("stream")
		seq, err := k.append(ctx, &p.entry.Finding, l.last, func(ctx context.Context) error { return k.stillOurs(ctx, key, l.revision) })
		if err != nil {
			return err
		}
		p.seq, p.step = seq, 2
	}
	k.cfg.Step("settle")
	rec.Last, rec.Pending = p.seq, false
	rev, err := k.put(ctx, key, &rec, l.revision)
	if err != nil {
		return err
	}
	k.wrote(fp, l, rev)
	l.last = p.seq
	k.cfg.Step("kept")
	return nil
}

// wrote notes the new revision of a lane's record. Of a lane of an earlier turn this
// agent knows no more than of another agent's.
func (k *inJetStream) wrote(fp string, l *lane, revision uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l.revision = revision
	if k.lanes[fp] == l {
		k.late.wrote(revision)
	}
}

// put writes a record, if nobody else has since the revision.
func (k *inJetStream) put(ctx context.Context, key string, rec *record, revision uint64) (uint64, error) {
	text, err := json.Marshal(rec)
	if err != nil {
		return 0, fmt.Errorf("write a record: %w", err)
	}
	rev, err := k.kv.Update(ctx, key, text, revision)
	if err == nil || !mismatch(err) {
		return rev, err
	}
	// It may have been this agent, and the answer was lost.
	e, gerr := k.kv.Get(ctx, key)
	switch {
	case errors.Is(gerr, jetstream.ErrKeyNotFound):
		return 0, err
	case gerr != nil:
		return 0, gerr
	}
	var there record
	if json.Unmarshal(e.Value(), &there) == nil && there.Writer == k.id && there.Pending == rec.Pending && there.Entry.Finding.ID == rec.Entry.Finding.ID {
		return e.Revision(), nil
	}
	return 0, err
}

// errOvertaken means that another agent has gone on from a record.
var errOvertaken = errors.New("another agent has kept something else")

// stillOurs tells whether a record is as this agent has left it.
func (k *inJetStream) stillOurs(ctx context.Context, key string, revision uint64) error {
	switch e, err := k.kv.Get(ctx, key); {
	case err != nil && !errors.Is(err, jetstream.ErrKeyNotFound):
		return err
	case err != nil || e.Revision() != revision:
		return errOvertaken
	}
	return nil
}

// append adds a transition to the stream, unless it is there. The record of it must
// still stand: whoever has gone on from it has added it, and the stream, which knows
// doubles by their ids, may have forgotten that one.
func (k *inJetStream) append(ctx context.Context, f *finding.Finding, last uint64, stands func(context.Context) error) (uint64, error) {
	text, err := json.Marshal(f)
	if err != nil {
		return 0, fmt.Errorf("write a finding: %w", err)
	}
	msg := &nats.Msg{Subject: k.subject(f), Data: text}
	for tries := 0; ; tries++ {
		ack, err := k.js.PublishMsg(ctx, msg, jetstream.WithMsgID(f.ID), jetstream.WithExpectLastSequencePerSubject(last))
		if err == nil {
			return ack.Sequence, nil
		}
		if !mismatch(err) || tries == 3 {
			return 0, err
		}
		// Something else is there: this very transition, whose answer was lost;
		// nothing any more, because streams forget; or what stood there when the
		// bucket was lost.
		there, gerr := k.stream.GetLastMsgForSubject(ctx, msg.Subject)
		switch {
		case errors.Is(gerr, jetstream.ErrMsgNotFound):
			last = 0
		case gerr != nil:
			return 0, gerr
		case there.Header.Get(nats.MsgIdHdr) == f.ID:
			return there.Sequence, nil
		default:
			last = there.Sequence
		}
		if err := stands(ctx); err != nil {
			return 0, err
		}
	}
}

// subject is where the transitions of one finding stand in the stream. It is
// the same for all of them: what becomes of it stands in the message.
func (k *inJetStream) subject(f *finding.Finding) string {
	return storeSubject + "." + k.token + "." + token(f.Check) + "." + token(f.Scope.Cluster) + "." + token(f.Scope.Server) + "." + f.Fingerprint
}

// conflict means that another agent has written what this one has not read.
func (k *inJetStream) conflict(term uint64) {
	k.mu.Lock()
	current := k.term == term
	k.mu.Unlock()
	if !current {
		return
	}
	select {
	case k.conflicts <- struct{}{}:
	default: // it is known
	}
}

// drain waits until nothing waits, or the context ends.
func (k *inJetStream) drain(ctx context.Context) {
	for {
		k.mu.Lock()
		left, stuck := k.waiting, k.trouble != nil || !k.leading || k.blind
		k.mu.Unlock()
		if left == 0 || stuck {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return
		}
	}
}
