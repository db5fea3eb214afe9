package conffile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// Source is where a configuration comes from, and what it may refer to.
type Source struct {
	Name string // as the user calls it
	Text []byte // nil: Name is read
	// Read reads files: Name, includes, operators' JWTs. It is given the path
	// that nats-server would open. Nil: there are no files.
	Read func(path string) ([]byte, error)
	// Env gives variables of the environment. Nil: there are none.
	Env func(name string) (value string, ok bool)
	// Args are the flags that nats-server is started with beside -c.
	Args []string
}

// File is a configuration that was read.
type File struct {
	// Server is what nats-server would make of it. Nothing in it is a secret.
	Server *posture.Server
	texts  map[string]*text
}

// ErrNotRegular is the error for what is no regular file: devices and pipes
// may have no end.
var ErrNotRegular = errors.New("it is not a regular file")

// Disk reads a regular file of bounded size.
func Disk(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, plainPathError(err)
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, plainPathError(err)
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, syntax.MostBytes+1))
	if err != nil {
		return nil, plainPathError(err)
	}
	if len(text) > syntax.MostBytes {
		return nil, fmt.Errorf("it is larger than %d MiB", syntax.MostBytes>>20)
	}
	return text, nil
}

// plainPathError leaves the path out: whoever reads a file names it.
func plainPathError(err error) error {
	var e *os.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// OnDisk is a file, and whatever else this process can read.
func OnDisk(path string) Source { return Source{Name: path, Read: Disk, Env: os.LookupEnv} }

// Read reads a configuration. An error means that there is none: Name cannot be
// read, or Args are no flags. What nats-server would refuse is no error, but told
// by the server that is returned.
func Read(src Source) (*File, error) {
	r, err := open(src)
	var broken *syntax.Error
	switch {
	case errors.As(err, &broken):
		return unreadable(&r.src, broken), nil
	case err != nil:
		return nil, err
	}
	f := &File{texts: map[string]*text{}}
	for _, file := range r.tree.Files {
		f.texts[file.Name] = newText(file.Text, r.secrets)
	}
	f.Server = r.server()
	return f, nil
}

// open reads the text with all that it includes. It is a *syntax.Error that
// nats-server could not.
func open(src Source) (*reading, error) {
	flags, err := parseFlags(src.Args)
	if err != nil {
		return nil, fmt.Errorf("flags of nats-server: %w", err)
	}
	if src.Text == nil {
		if src.Read == nil {
			return nil, fmt.Errorf("read %s: there are no files", src.Name)
		}
		if src.Text, err = src.Read(src.Name); err != nil {
			return nil, fmt.Errorf("read %s: %w", src.Name, err)
		}
	}
	r := &reading{src: src, flags: flags, config: &posture.Config{File: src.Name, Keys: map[string]posture.Place{}}}
	if r.tree, err = syntax.Parse(src.Name, src.Text, syntax.Surroundings{Read: src.Read, Env: src.Env}); err != nil {
		return r, err
	}
	r.secrets = secretsOf(r.tree, flags)
	if len(r.tree.Unset) == 0 {
		if r.config.Marks, err = marks(r.tree.Root); err != nil {
			return nil, fmt.Errorf("digest of %s: %w", src.Name, err)
		}
	}
	return r, nil
}

// unreadable is a configuration of which nothing is known but that nats-server
// refuses it.
func unreadable(src *Source, err *syntax.Error) *File {
	c := &posture.Config{File: src.Name, Refused: []posture.Remark{{Place: placeOf(err.Pos), Text: err.Text}}}
	s := &posture.Server{ID: src.Name, Name: src.Name, State: posture.Answering, Config: c}
	for _, kind := range posture.DoorKinds() {
		s.Doors = append(s.Doors, posture.Door{Kind: kind, On: posture.Unseen, Reason: "the configuration cannot be read"})
	}
	return &File{Server: s, texts: map[string]*text{src.Name: newText(string(src.Text), secretsIn(string(src.Text)))}}
}

func placeOf(p syntax.Pos) posture.Place {
	return posture.Place{File: p.File, Line: p.Line, Column: p.Column}
}

// MostBytes is how large a configuration may be, with all that it includes.
const MostBytes = syntax.MostBytes

// Line is a line of the configuration, with its secrets left out, and the column
// of the place in that; "" if there is no such line. Columns count from 1; 0 is
// none.
func (f *File) Line(p posture.Place) (line string, column int) {
	t := f.texts[p.File]
	if t == nil || p.Line < 1 || p.Line > len(t.lines) {
		return "", 0
	}
	all := t.lines[p.Line-1]
	line = mask(all, t.secrets)
	before := mask(all[:min(max(p.Column-1, 0), len(all))], t.secrets)
	if p.Column > 0 && strings.HasPrefix(line, before) && len(before) < len(line) {
		column = len(before) + 1
	}
	return line, column
}

// Includes lists the files that are a part of the configuration.
func (f *File) Includes() []string {
	var out []string
	for name := range f.texts {
		if name != f.Server.ID {
			out = append(out, name)
		}
	}
	return out
}
