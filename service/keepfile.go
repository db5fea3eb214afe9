package service

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"github.com/natsentry/natsentry/agent"
	"github.com/natsentry/natsentry/agent/finding"
)

// inFile keeps transitions in a local file, one JSON object a line: an entry
// when a transition is taken, and its id once it has been told. A line that was
// cut off by a crash is the last one, and is ignored.
type inFile struct {
	path string
	lock *flock.Flock
	turn chan agent.Turn
	t    teller

	mu      sync.Mutex
	file    *os.File
	lines   int // in the file
	book    *book
	queue   []finding.Entry
	since   time.Time
	trouble error
	wake    chan struct{}
}

// line is one line of the file.
type line struct {
	Entry *finding.Entry `json:"entry,omitempty"`
	Told  string         `json:"told,omitempty"` // of an entry: its own id; of a line without one: that of an earlier entry
}

// book is what a file says.
type book struct {
	lines []line          // entries, oldest first
	told  map[string]bool // by id
}

// InFile is the keeper of one agent alone: it keeps transitions in a file on
// this machine, which only the current user may read. What an earlier run has
// kept is gone on from. The file must not be used by two agents at once.
func InFile(path string) (Keeper, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	k := &inFile{path: path, lock: flock.New(path + ".lock"), turn: make(chan agent.Turn, 1), wake: make(chan struct{}, 1)}
	locked, err := k.lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("state file: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("state file %s is in use by another natsentry: give each its own", path)
	}
	if err := k.open(); err != nil {
		return nil, errors.Join(err, k.lock.Unlock())
	}
	return k, nil
}

// open reads the file, and writes it anew without what is no longer needed.
func (k *inFile) open() error {
	text, err := os.ReadFile(k.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("state file: %w", err)
	}
	if k.book, err = readBook(text); err != nil {
		return fmt.Errorf("state file %s: %w", k.path, err)
	}
	return k.compact()
}

// readBook reads what can be read. A line in the middle that cannot be means
// that the file is not one of ours, or is broken.
func readBook(text []byte) (*book, error) {
	b := &book{told: map[string]bool{}}
	r := bufio.NewReader(bytes.NewReader(text))
	for n := 1; ; n++ {
		raw, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return b, nil // what follows the last newline was cut off
		}
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, fmt.Errorf("line %d is not one that natsentry wrote: remove the file to begin anew", n)
		}
		switch {
		case l.Entry != nil:
			b.lines = append(b.lines, l)
			if l.Told != "" {
				b.told[l.Told] = true
			}
		case l.Told != "":
			b.told[l.Told] = true
		}
	}
}

// shorten leaves out the entries that are neither the last of their finding
// nor part of the history.
func (b *book) shorten() {
	last := map[string]int{}
	for i := range b.lines {
		last[b.lines[i].Entry.Finding.Fingerprint] = i
	}
	from := len(b.lines) - historyLimit
	var kept []line
	told := map[string]bool{}
	for i, l := range b.lines {
		if l.Told = ""; b.told[l.Entry.Finding.ID] {
			l.Told = l.Entry.Finding.ID
		}
		if i >= from || last[l.Entry.Finding.Fingerprint] == i || l.Told == "" {
			kept = append(kept, l)
			if l.Told != "" {
				told[l.Told] = true
			}
		}
	}
	b.lines, b.told = kept, told
}

// entries are the last one of each finding.
func (b *book) entries() []finding.Entry {
	last := map[string]int{}
	for i := range b.lines {
		last[b.lines[i].Entry.Finding.Fingerprint] = i
	}
	out := make([]finding.Entry, 0, len(last))
	for i := range b.lines {
		if last[b.lines[i].Entry.Finding.Fingerprint] == i {
			out = append(out, *b.lines[i].Entry)
		}
	}
	return out
}

// compact writes the file anew: beside it, and then in its place.
func (k *inFile) compact() error {
	k.book.shorten()
	tmp, err := os.OpenFile(k.path+".new", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	err = writeLines(tmp, k.book.lines)
	if err == nil {
		err = os.Rename(tmp.Name(), k.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("state file: %w", err), tmp.Close())
	}
	if k.file != nil {
		_ = k.file.Close() // it has been replaced
	}
	k.file, k.lines = tmp, len(k.book.lines)
	return nil
}

// writeLines appends lines and sees them onto the disk.
func writeLines(f *os.File, lines []line) error {
	if len(lines) == 0 {
		return nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	for i := range lines {
		if err := enc.Encode(&lines[i]); err != nil {
			return err
		}
	}
	if _, err := f.Write(buf.Bytes()); err != nil {
		return err
	}
	return f.Sync()
}

func (k *inFile) bind(t teller) { k.t = t }

func (k *inFile) turns() <-chan agent.Turn { return k.turn }

// run first tells what an earlier run may not have told any more.
func (k *inFile) run(ctx context.Context) {
	since := time.Now()
	if len(k.book.lines) > 0 {
		since = k.book.lines[0].Entry.Finding.At
	}
	h := finding.NewHistory(historyLimit, since)
	for i := range k.book.lines {
		h.Add(&k.book.lines[i].Entry.Finding)
	}
	k.t.remember(h)
	k.t.lead(true)
	var untold []finding.Entry
	for i := range k.book.lines {
		if e := k.book.lines[i].Entry; !k.book.told[e.Finding.ID] {
			untold = append(untold, *e)
		}
	}
	k.tellAll(untold)
	k.turn <- agent.Turn{Lead: true, Book: k.book.entries()}
	for {
		select {
		case <-k.wake:
			k.work()
		case <-ctx.Done():
			k.work()
			return
		}
	}
}

func (k *inFile) take(entries []finding.Entry) {
	if len(entries) == 0 {
		return
	}
	k.mu.Lock()
	if len(k.queue) == 0 {
		k.since = time.Now()
	}
	k.queue = append(k.queue, entries...)
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// work writes down what waits, and then has it told. What cannot be written is
// told all the same: an alarm is worth more than a record of it.
func (k *inFile) work() {
	k.mu.Lock()
	entries := k.queue
	k.queue = nil
	k.mu.Unlock()
	if len(entries) == 0 {
		return
	}
	lines := make([]line, len(entries))
	for i := range entries {
		lines[i].Entry = &entries[i]
	}
	err := k.write(lines)
	k.mu.Lock()
	k.trouble = err
	k.mu.Unlock()
	k.tellAll(entries)
}

func (k *inFile) write(lines []line) error {
	k.book.lines = append(k.book.lines, lines...)
	if k.lines += len(lines); k.lines > 2*historyLimit {
		return k.compact()
	}
	return writeLines(k.file, lines)
}

func (k *inFile) tellAll(entries []finding.Entry) {
	told := make([]line, len(entries))
	for i := range entries {
		id := entries[i].Finding.ID
		k.t.tell(&entries[i])
		k.book.told[id] = true
		told[i].Told = id
	}
	if err := writeLines(k.file, told); err != nil {
		k.mu.Lock()
		k.trouble = err
		k.mu.Unlock()
	}
}

func (k *inFile) state() KeeperState {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := KeeperState{Kind: "file", Reachable: k.trouble == nil, Waiting: len(k.queue)}
	if k.trouble != nil {
		s.Trouble = k.trouble.Error()
	}
	if s.Waiting > 0 {
		s.Since = k.since.UTC()
	}
	return s
}

func (k *inFile) close() error {
	return errors.Join(k.file.Close(), k.lock.Unlock())
}
