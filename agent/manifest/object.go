package manifest

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/conffile/form"
	"github.com/natsentry/natsentry/agent/posture"
)

// mostObjects bounds the objects of all files.
const mostObjects = 20_000

// Set are the objects of several files. What one refers to may stand in another.
type Set struct {
	files   []*conffile.Host
	objects []*object
	bytes   int
	marks   int
	seen    map[string]bool      // objects of the file that is being read
	index   map[string][]*object // by kind and name
	used    map[*datum]bool      // by workloads that run no nats-server
}

// object is one Kubernetes object.
type object struct {
	kind, namespace, name string
	file                  *conffile.Host
	root                  *node
	data                  map[string]*datum // of a ConfigMap or a Secret
	keys                  []string          // of data, in their order
}

// String is how an object is called: KIND/NAMESPACE/NAME, or KIND/NAME where no
// namespace is told.
func (o *object) String() string { return nameOf(o.kind, o.namespace, o.name) }

func nameOf(kind, namespace, name string) string {
	if namespace == "" {
		return kind + "/" + name
	}
	return kind + "/" + namespace + "/" + name
}

// datum is a value of a ConfigMap or a Secret: a file, once it is mounted.
type datum struct {
	bytes []byte
	bad   string // why it has none
	key   posture.Place
	at    *scalar // where it stands; nil where its lines are no lines of the file
}

// place is where a position in the file is told.
func (d *datum) place(line, column int) posture.Place {
	if line == 0 || d.at == nil {
		return d.key
	}
	return posture.Place{File: d.key.File, Line: d.at.line + line - 1, Column: d.at.indent + column}
}

// Add reads the objects of a file.
func (s *Set) Add(name string, text []byte) error {
	if s.bytes += len(text); len(text) > conffile.MostBytes || s.bytes > 4*conffile.MostBytes {
		return fmt.Errorf("%s: it is larger than %d MiB", name, conffile.MostBytes>>20)
	}
	file, before := conffile.NewHost(name, text), len(s.objects)
	s.files = append(s.files, file)
	if err := s.addAll(file, text); err != nil {
		s.files, s.objects = s.files[:len(s.files)-1], s.objects[:before]
		return err
	}
	return nil
}

// ErrTemplate tells that a file is to be rendered before it can be read.
var ErrTemplate = errors.New(form.Helm.String())

func (s *Set) addAll(file *conffile.Host, text []byte) error {
	s.seen = map[string]bool{}
	for _, d := range split(text) {
		kind, ok := d.kind()
		if ok && !d.matters(kind) {
			continue
		}
		root, err := d.parse()
		if s.marks += d.marks; err == nil && s.marks > allMarks {
			err = &fault{d.line, "there is too much before it"}
		}
		if err == nil && root != nil {
			err = s.add(file, root, 0)
		}
		var f *fault
		switch {
		case err != nil && Template([]byte(strings.Join(d.lines, "\n"))):
			return fmt.Errorf("%s: %w", file.Name, ErrTemplate)
		case errors.As(err, &f):
			return fmt.Errorf("%s:%d: %s", file.Name, f.line, f.text)
		case err != nil:
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return nil
}

// matters tells whether an object may hold or start a configuration. Others, like
// definitions of resources, may be large, and are not read.
func (d *document) matters(kind string) bool {
	if kind == "ConfigMap" || kind == "Secret" || strings.HasSuffix(kind, "List") {
		return true
	}
	return slices.ContainsFunc(d.lines, func(l string) bool { return strings.Contains(l, "containers") })
}

func (s *Set) add(file *conffile.Host, n *node, depth int) error {
	if depth > 3 || len(s.objects) >= mostObjects {
		return &fault{n.line, "there are too many objects"}
	}
	kind := n.str("kind")
	if kind == "" || n.str("apiVersion") == "" {
		if depth > 0 {
			return nil
		}
		return &fault{n.line, "it is no Kubernetes object: it has no apiVersion and kind"}
	}
	if items := n.get("items"); items != nil && strings.HasSuffix(kind, "List") {
		for _, item := range items.list {
			if err := s.add(file, item, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	meta := n.get("metadata")
	name, namespace := meta.get("name"), meta.get("namespace")
	for _, v := range []*node{name, namespace} {
		if v != nil && (v.keys != nil || v.list != nil) {
			return &fault{v.line, "the name of an object is no text"}
		}
	}
	called := cmp.Or(name.str(), meta.str("generateName"), fmt.Sprintf("line-%d", n.line))
	o := &object{kind: kind, namespace: namespace.str(), name: called, file: file, root: n, data: map[string]*datum{}}
	switch kind {
	case "ConfigMap":
		o.read("data", false)
		o.read("binaryData", true)
	case "Secret":
		o.read("data", true)
		o.read("stringData", false)
	}
	if s.seen[o.String()] {
		return &fault{n.line, o.String() + " stands there twice"}
	}
	s.seen[o.String()] = true
	s.objects = append(s.objects, o)
	return nil
}

// read reads the values under a key. Later ones count.
func (o *object) read(under string, encoded bool) {
	values := o.root.get(under)
	if values == nil {
		return
	}
	for _, p := range values.keys {
		d := &datum{key: posture.Place{File: o.file.Name, Line: p.line, Column: p.column}}
		t := p.value.text
		switch {
		case t == nil && (p.value.keys != nil || p.value.list != nil):
			d.bad = "it is no text"
		case t == nil:
			d.bytes = []byte{}
		case encoded:
			text, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(t.text), ""))
			if err != nil {
				d.bad = "it is not base64"
			}
			d.bytes = text
		default:
			d.bytes = []byte(t.text)
			if t.exact {
				d.at = t
			}
		}
		if d.at == nil || o.kind == "Secret" && d.at.line == p.line {
			// Its secrets stand there in another form, or nobody knows them.
			o.file.Cut(p.line, p.column-1+len(p.key))
		}
		if o.data[p.key] == nil {
			o.keys = append(o.keys, p.key)
		}
		o.data[p.key] = d
	}
}

// find looks for an object as another one names it: in its file, and then in the
// others. A namespace that is not told is any. The error says why there is none.
func (s *Set) find(from *object, kind, name string) (*object, error) {
	var best []*object
	rank := 0
	for _, o := range s.index[kind+"/"+name] {
		if o.namespace != from.namespace && o.namespace != "" && from.namespace != "" {
			continue
		}
		r := 1
		if o.namespace == from.namespace {
			r = 2
		}
		if o.file == from.file {
			r += 2
		}
		if r > rank {
			best, rank = nil, r
		}
		if r == rank {
			best = append(best, o)
		}
	}
	what := nameOf(kind, from.namespace, name)
	switch len(best) {
	case 0:
		return nil, fmt.Errorf("%s is not among the manifests", what)
	case 1:
		return best[0], nil
	default:
		return nil, fmt.Errorf("%s is several times among the manifests", what)
	}
}
