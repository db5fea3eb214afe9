package conffile

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/nats-io/nats-server/v2/server"

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

	// Of a configuration that stands in another file:

	Path  string  // by which nats-server knows it, and beside which it looks for includes; "": Name
	Hosts []*Host // the files whose lines may be shown
	// Place tells where a position is to be told. Line 0 is a file as a whole. Nil:
	// where it is.
	Place func(path string, line, column int) posture.Place
	// Exact tells whether lines of a file are lines of its host. Nil: they are.
	Exact func(path string) bool
	// Later tells that a variable without a value has one where the server runs.
	Later   func(name string) bool
	Version string // the release that will run; "" is one that nobody has told
}

// Elsewhere is why a file cannot be read that may be there where the server runs.
type Elsewhere struct{ Why string }

func (e *Elsewhere) Error() string { return e.Why }

// File is a configuration that was read.
type File struct {
	// Server is what nats-server would make of it. Nothing in it is a secret.
	Server *posture.Server
	texts  map[string]*text
	src    *Source

	authorization []Setting
	variables     []variable
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
		return unreadable(r.src, broken), nil
	case err != nil:
		return nil, err
	}
	f := &File{texts: map[string]*text{}, src: &r.src}
	for _, file := range r.tree.Files {
		f.texts[file.Name] = newText(file.Text, r.secrets)
	}
	for _, h := range r.src.Hosts {
		h.hide(r.secrets)
	}
	f.Server, f.authorization, f.variables = r.server(), authorization(r.tree.Root), variables(r.tree.Root)
	return f, nil
}

// open reads the text with all that it includes. It is a *syntax.Error that
// nats-server could not.
func open(src Source) (*reading, error) {
	flags, err := parseFlags(src.Args)
	if err != nil {
		return nil, fmt.Errorf("flags of nats-server: %w", err)
	}
	if flags != nil && !flags.serves() {
		return nil, errors.New("flags of nats-server: with these it starts no server")
	}
	r := &reading{src: src, flags: flags, config: &posture.Config{File: src.Name, In: src.whole(), Rules: server.VERSION, Keys: map[string]posture.Place{}}}
	if src.Text == nil {
		if src.Read == nil {
			return nil, fmt.Errorf("read %s: there are no files", src.Name)
		}
		text, err := src.Read(src.path())
		var away *Elsewhere
		switch {
		case errors.As(err, &away):
			at := src.place(src.path(), 0, 0)
			return r, &syntax.Error{Pos: syntax.Pos{File: at.File, Line: at.Line, Column: at.Column}, Text: away.Why, Cause: away}
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", src.Name, err)
		}
		src.Text, r.src.Text = text, text
	}
	if r.tree, err = syntax.Parse(src.path(), src.Text, syntax.Surroundings{Read: src.Read, Env: src.Env, Place: src.told()}); err != nil {
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
func unreadable(src Source, err *syntax.Error) *File {
	why := posture.Remark{Place: placeOf(err.Pos), Text: err.Text}
	var away *Elsewhere
	if errors.As(err, &away) {
		return absent(src, why)
	}
	f := unknown(src, "the configuration cannot be read")
	f.Server.Config.Refused = []posture.Remark{why}
	return f
}

// absent is a configuration of which a part is not here.
func absent(src Source, why posture.Remark) *File {
	f := unknown(src, why.Text)
	f.Server.Config.Absent = []posture.Remark{why}
	return f
}

// unknown is a configuration of whose doors nothing is known.
func unknown(src Source, reason string) *File {
	s := &posture.Server{
		ID: src.Name, Name: src.Name, Version: src.Version, State: posture.Answering, Config: &posture.Config{File: src.Name, In: src.whole()},
	}
	for _, kind := range posture.DoorKinds() {
		s.Doors = append(s.Doors, posture.Door{Kind: kind, On: posture.Unseen, Reason: reason})
	}
	secrets := secretsIn(string(src.Text))
	for _, h := range src.Hosts {
		h.hide(secrets)
	}
	return &File{Server: s, texts: map[string]*text{src.path(): newText(string(src.Text), secrets)}, src: &src}
}

// Doubt makes doors unknown that hang on a flag of nats-server whose value is not
// here; "" is any flag.
func (f *File) Doubt(flag, reason string) {
	kinds := posture.DoorKinds()
	if slices.Contains([]string{"auth", "user", "pass"}, flag) {
		kinds = inheriting
	}
	if len(kinds) > len(inheriting) && f.Server.JetStream == posture.No {
		f.Server.JetStream = posture.Unseen // -js
	}
	for i := range f.Server.Doors {
		d := &f.Server.Doors[i]
		if !slices.Contains(kinds, d.Kind) || d.On == posture.No && len(kinds) == len(inheriting) {
			continue
		}
		d.Access, d.Cause, d.Landing, d.Reason = posture.Unknown, "", nil, reason
		if d.On == posture.No {
			d.On = posture.Unseen
		}
		d.Evidence = append(d.Evidence, f.Server.Config.Whole().Says(posture.Unknown, reason))
	}
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
	for _, h := range f.src.Hosts {
		if h.Name == p.File {
			return h.line(p)
		}
	}
	if t := f.texts[p.File]; t != nil {
		return t.line(p.Line, p.Column)
	}
	return "", 0
}

// Shown lists the files of which it shows lines.
func (f *File) Shown() []string {
	var out []string
	for _, h := range f.src.Hosts {
		out = append(out, h.Name)
	}
	if len(f.src.Hosts) == 0 {
		out = append(f.Includes(), f.src.path())
	}
	return out
}

// Includes lists the files that are a part of the configuration, by their paths.
func (f *File) Includes() []string {
	var out []string
	for name := range f.texts {
		if name != f.src.path() {
			out = append(out, name)
		}
	}
	return out
}

// Refuse is a configuration with which nats-server would not start, for a reason
// outside of its text.
func Refuse(src Source, why string) *File {
	f := unknown(src, "nats-server would not start with this configuration")
	f.Server.Config.Refused = []posture.Remark{{Place: src.place(src.path(), 0, 0), Text: why}}
	return f
}
