package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/agent/finding"
)

// kept is a record with its revision.
type kept struct {
	record
	revision uint64
}

// load reads all records of the system.
func (k *inJetStream) load(ctx context.Context) ([]kept, error) {
	var out []kept
	err := k.readBucket(ctx, jetstream.ConsumerConfig{DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy}, func(m jetstream.Msg, seq uint64) error {
		r := kept{revision: seq}
		if err := json.Unmarshal(m.Data(), &r.record); err != nil || r.Entry.Finding.Fingerprint == "" {
			return fmt.Errorf("%s in bucket %s is not a record of natsentry's", m.Subject(), StoreBucket)
		}
		out = append(out, r)
		return nil
	})
	return out, err
}

// readBucket reads records of the system, those that were deleted left out. Keys
// cannot be watched over an import, so the bucket is read as the stream that it is.
//
// Any server of the stream may answer, and may be behind. Where it does not know
// of the lease that this agent holds, it does not know of all that was written
// before, and nothing can be built on what it tells.
func (k *inJetStream) readBucket(ctx context.Context, cfg jetstream.ConsumerConfig, take func(m jetstream.Msg, seq uint64) error) error {
	prefix := "$KV." + StoreBucket + "." + k.token + "."
	cfg.FilterSubject = prefix + ">"
	var lease uint64
	err := k.read(ctx, "KV_"+StoreBucket, cfg, func(m jetstream.Msg, seq uint64) error {
		switch {
		case m.Subject() == "$KV."+StoreBucket+"."+k.leaseKey():
			lease = max(lease, seq)
		case strings.HasPrefix(m.Subject(), prefix+"finding.") && m.Headers().Get("KV-Operation") == "":
			return take(m, seq)
		}
		return nil
	})
	if err == nil && lease < k.leaseRevision {
		err = fmt.Errorf("read stream KV_%s: %w", StoreBucket, errBehind)
	}
	return err
}

// errBehind means that a server has not heard yet of what the others keep.
var errBehind = errors.New("the server that answered is behind the others")

// loadHistory reads the latest transitions of the system.
func (k *inJetStream) loadHistory(ctx context.Context) (*finding.History, error) {
	info, err := k.stream.Info(ctx)
	if err != nil {
		return nil, err
	}
	cfg := jetstream.ConsumerConfig{FilterSubject: storeSubject + "." + k.token + ".>"}
	if from := info.State.LastSeq - min(info.State.LastSeq, historyLimit) + 1; from > info.State.FirstSeq {
		cfg.DeliverPolicy, cfg.OptStartSeq = jetstream.DeliverByStartSequencePolicy, from
	}
	since := info.State.FirstTime
	if info.State.Msgs == 0 {
		since = time.Now()
	}
	h := finding.NewHistory(historyLimit, since)
	first := true
	err = k.read(ctx, StoreStream, cfg, func(m jetstream.Msg, _ uint64) error {
		var f finding.Finding
		if err := json.Unmarshal(m.Data(), &f); err != nil {
			return nil // not ours; the stream is the user's, too
		}
		if first && cfg.OptStartSeq > 0 {
			h = finding.NewHistory(historyLimit, f.At)
		}
		first = false
		h.Add(&f)
		return nil
	})
	return h, err
}

// read gives each message that a consumer of a stream would get now to take.
func (k *inJetStream) read(ctx context.Context, stream string, cfg jetstream.ConsumerConfig, take func(m jetstream.Msg, seq uint64) error) error {
	const batch = 256
	cfg.AckPolicy, cfg.MemoryStorage, cfg.InactiveThreshold = jetstream.AckNonePolicy, true, 30*time.Second
	consumer, err := k.js.CreateConsumer(ctx, stream, cfg)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	defer func() { _ = k.js.DeleteConsumer(ctx, stream, consumer.CachedInfo().Name) }() // it ends by itself as well
	for left := consumer.CachedInfo().NumPending; left > 0; {
		got, err := consumer.Fetch(int(min(left, batch)), jetstream.FetchContext(ctx))
		if err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
		for m := range got.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read stream %s: %w", stream, err)
			}
			if err := take(m, meta.Sequence.Stream); err != nil {
				return err
			}
			left = meta.NumPending
		}
		if err := got.Error(); err != nil {
			return fmt.Errorf("read stream %s: %w", stream, err)
		}
	}
	return nil
}
