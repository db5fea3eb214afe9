package service

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/natsentry/natsentry/agent/finding"
	"github.com/natsentry/natsentry/integration/fleet"
)

// TestServerThatIsBehind: what does not hold the lease that was just taken is older
// than the lease, and no book.
func TestServerThatIsBehind(t *testing.T) {
	t.Parallel()
	f, err := fleet.Start(t.Context(), fleet.Spec{Name: "n1", Config: `jetstream { store_dir: "{{dir}}/jetstream" }`})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	nc, err := nats.Connect(f.Server("n1").URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	k, err := newInJetStream(JetStreamConfig{Conn: nc, System: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.js.CreateStream(ctx, jetstream.StreamConfig{Name: StoreStream, Subjects: []string{StorePrefix + ".>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: StoreBucket}); err != nil {
		t.Fatal(err)
	}
	if err := k.open(ctx); err != nil {
		t.Fatal(err)
	}
	rec := record{Entry: finding.Entry{Finding: finding.Finding{Fingerprint: "f1", Action: finding.Opened}}}
	if _, err := k.put(ctx, "test.finding.f1", &rec, 0); err != nil {
		t.Fatal(err)
	}
	if k.leaseRevision, err = k.kv.Create(ctx, k.leaseKey(), k.leaseText()); err != nil {
		t.Fatal(err)
	}
	if records, err := k.load(ctx); err != nil || len(records) != 1 {
		t.Fatalf("%v, %v", records, err)
	}
	k.leaseRevision++ // which another server of the stream has, and this one has not yet
	if records, err := k.load(ctx); !errors.Is(err, errBehind) {
		t.Errorf("%v, %v", records, err)
	}
	k.leaseRevision--
	if _, err := k.kv.Put(ctx, "test.finding.f2", nil); err != nil {
		t.Fatal(err)
	}
	if err := k.kv.Delete(ctx, "test.finding.f2"); err != nil {
		t.Fatal(err)
	}
	if records, err := k.load(ctx); err != nil || len(records) != 1 {
		t.Errorf("one of them was deleted: %v, %v", records, err)
	}
}

// TestLate: the sequence tells of strangers' records, and of no others.
func TestLate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, c := range []struct {
		name  string
		own   []uint64
		lease uint64
		due   bool
	}{
		{"nothing was written", nil, 11, false},
		{"its own", []uint64{11, 12}, 13, false},
		{"its own, which came after the lease", []uint64{11, 13}, 12, false},
		{"a stranger's", nil, 12, true},
		{"a stranger's between its own", []uint64{11, 13}, 14, true},
	} {
		var l late
		l.begin(10)
		for _, revision := range c.own {
			l.wrote(revision)
		}
		l.renewed(10, c.lease)
		if from, due := l.due(now); due != c.due || from != 10 {
			t.Errorf("%s: due %t, from %d", c.name, due, from)
		}
		l.looked(now, c.lease)
		if _, due := l.due(now.Add(time.Hour)); due {
			t.Errorf("%s: due when all has been looked at", c.name)
		}
		last := c.lease + 1
		for _, revision := range c.own {
			last = max(last, revision+1)
		}
		l.renewed(c.lease, last) // what came after the lease is its own still
		if _, due := l.due(now.Add(time.Hour)); due {
			t.Errorf("%s: due for what was its own", c.name)
		}
		l.renewed(last, last+2)
		if _, due := l.due(now); due {
			t.Errorf("%s: due again at once", c.name)
		}
		if from, due := l.due(now.Add(latePause)); !due || from != c.lease {
			t.Errorf("%s: due %t after a while, from %d", c.name, due, from)
		}
	}
}
