package manifest

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
)

// volume is what a pod can mount.
type volume struct {
	files  map[string]*datum // by their paths in it
	unseen string            // why there may be other files; "" if there are none
}

// mount is a volume in a container.
type mount struct {
	path, sub string
	*volume
}

// volumes reads those of a pod.
func (s *Set) volumes(from *object, pod *node) map[string]*volume {
	out := map[string]*volume{}
	for _, n := range pod.items("volumes") {
		v := &volume{files: map[string]*datum{}}
		out[n.str("name")] = v
		if p := n.get("projected"); p != nil {
			for _, source := range p.items("sources") {
				s.project(v, from, source, "name")
			}
			continue
		}
		s.project(v, from, n, "secretName")
	}
	return out
}

// project puts the files of one source into a volume.
func (s *Set) project(v *volume, from *object, n *node, secretName string) {
	kind, ref, name := "ConfigMap", n.get("configMap"), n.str("configMap", "name")
	if secret := n.get("secret"); secret != nil {
		kind, ref, name = "Secret", secret, secret.str(secretName)
	}
	if ref == nil {
		v.unseen = "what is in the volume is not in the manifests"
		for _, known := range []string{"downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"} {
			if n.get(known) != nil {
				v.unseen = "the cluster gives what is in the volume"
			}
		}
		return
	}
	o, err := s.find(from, kind, name)
	if err != nil {
		v.unseen = err.Error()
		return
	}
	items := ref.get("items")
	if items == nil || len(items.list) == 0 {
		for key, d := range o.data {
			v.files[key] = d
		}
		return
	}
	for _, item := range items.list {
		if d := o.data[item.str("key")]; d != nil {
			v.files[path.Clean(item.str("path"))] = d
		}
	}
}

// mounts reads those of a container, the deepest first.
func (s *Set) mounts(volumes map[string]*volume, env *environment, container *node) []mount {
	var out []mount
	for _, n := range container.items("volumeMounts") {
		m := mount{path: path.Join("/", inContainer(n.str("mountPath"))), sub: n.str("subPath"), volume: volumes[n.str("name")]}
		if m.volume == nil {
			m.volume = &volume{unseen: "the pod has no such volume in the manifests"}
		}
		if expr := n.str("subPathExpr"); expr != "" {
			sub, unknown := env.expand(expr)
			if m.sub = sub; len(unknown) > 0 {
				m.volume = &volume{unseen: "the path in the volume is not in the manifests: " + env.why(unknown[0])}
			}
		}
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b mount) int { return len(b.path) - len(a.path) })
	return out
}

// inContainer is a path with slashes and without a drive: in containers for Windows
// all that counts here is on C:.
func inContainer(name string) string {
	name = strings.ReplaceAll(name, `\`, "/")
	if len(name) > 2 && name[1:3] == ":/" {
		name = name[2:]
	}
	return name
}

var errNoFile = errors.New("no such file")

// open finds the file at a path of a container. Where it may be there, and is not
// in the manifests, the error is a [conffile.Elsewhere].
func open(mounts []mount, name string) (*datum, error) {
	name = path.Join("/", inContainer(name))
	for _, m := range mounts {
		if name != m.path && !strings.HasPrefix(name, strings.TrimSuffix(m.path, "/")+"/") {
			continue
		}
		inside := path.Join(m.sub, strings.TrimPrefix(name[len(strings.TrimSuffix(m.path, "/")):], "/"))
		switch d := m.files[strings.TrimPrefix(inside, "/")]; {
		case d != nil && d.bad != "":
			return nil, errors.New(d.bad)
		case d != nil:
			return d, nil
		case m.unseen != "":
			return nil, &conffile.Elsewhere{Why: fmt.Sprintf("%s is not here: %s", name, m.unseen)}
		default:
			return nil, errNoFile
		}
	}
	return nil, &conffile.Elsewhere{Why: fmt.Sprintf("%s is not here: nothing in the manifests is mounted there", name)}
}
