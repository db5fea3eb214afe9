package manifest

import (
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
	"github.com/natsentry/natsentry/agent/conffile/form"
	"github.com/natsentry/natsentry/agent/posture"
)

// Configuration is one with which a server would run.
type Configuration struct {
	conffile.Source
	// Fragment tells that it may be a part of another one, which includes it.
	Fragment bool
	doubt    string // what decides about its doors and is not in the manifests
	flag     string // the flag that does; "" for any
	opened   map[string]*datum
	top      posture.Place
}

// ErrNone tells that there is no configuration among the objects.
var ErrNone = errors.New("there is no configuration of nats-server among these Kubernetes objects: no container runs it, and no ConfigMap or Secret has one in a key *.conf")

// Configurations finds the configurations of all servers: one for each container
// that runs one, by the file that it names. Where no container runs one, every
// key *.conf of an object that no other workload mounts is one, unless nothing in
// it is nats-server's. extra are more flags
// of each server; env gives variables that have no value in the manifests, and may
// be nil.
func (s *Set) Configurations(extra []string, env func(string) (string, bool)) ([]*Configuration, error) {
	var all []*Configuration
	used := map[*datum]bool{}
	s.index = map[string][]*object{}
	for _, o := range s.objects {
		s.index[o.kind+"/"+o.name] = append(s.index[o.kind+"/"+o.name], o)
	}
	servers := 0
	for _, o := range s.objects {
		pod := podOf(o)
		if pod == nil {
			continue
		}
		found := s.ofPod(o, pod, extra, env, used)
		servers += len(found)
		all = append(all, found...)
	}
	s.used = used
	for _, o := range s.objects {
		for _, key := range o.keys {
			if d := o.data[key]; servers == 0 && path.Ext(key) == ".conf" && !used[d] && o.isServers(key) {
				all = append(all, s.ofKey(o, key, extra, env))
			}
		}
	}
	if len(all) == 0 {
		return nil, ErrNone
	}
	distinct(all)
	return all, nil
}

// Left tells of the keys *.conf that look like configurations, and are none of
// those that were read.
func (s *Set) Left(all []*Configuration) []string {
	read := map[*datum]bool{}
	for _, c := range all {
		for _, d := range c.opened {
			read[d] = true
		}
	}
	var out []string
	for _, o := range s.objects {
		for _, key := range o.keys {
			d := o.data[key]
			if path.Ext(key) != ".conf" || s.used[d] || read[d] {
				continue
			}
			why := "no container here runs nats-server with it"
			if !o.isServers(key) {
				why = "nothing in it is of nats-server"
			}
			out = append(out, d.key.String()+": "+o.String()+" "+key+" is not judged: "+why)
		}
	}
	return out
}

// isServers reports whether the value of a key may be a configuration of
// nats-server.
func (o *object) isServers(key string) bool {
	d := o.data[key]
	return d.bad != "" || form.Servers(key, d.bytes, func(name string) ([]byte, error) {
		if d := o.data[path.Base(name)]; d != nil && d.bad == "" {
			return d.bytes, nil
		}
		return nil, errNoFile
	})
}

// podOf is the specification of the pods of an object; nil where it has none.
func podOf(o *object) *node {
	for _, at := range [][]string{{"spec"}, {"spec", "template", "spec"}, {"template", "spec"}, {"spec", "jobTemplate", "spec", "template", "spec"}} {
		if pod := o.root.get(at...); pod != nil && len(pod.items("containers")) > 0 {
			return pod
		}
	}
	return nil
}

// containers are those that go on running beside each other.
func containers(pod *node) []*node {
	out := slices.Clone(pod.items("containers"))
	for _, c := range pod.items("initContainers") {
		if c.str("restartPolicy") == "Always" {
			out = append(out, c)
		}
	}
	return out
}

// ofPod are the configurations of the servers of a pod. What its volumes hold is
// noted as used.
func (s *Set) ofPod(o *object, pod *node, extra []string, env func(string) (string, bool), used map[*datum]bool) []*Configuration {
	volumes := s.volumes(o, pod)
	var out []*Configuration
	var names []string
	for _, c := range containers(pod) {
		around := s.environment(o, c)
		cmd, ok := s.commandOf(around, c)
		if !ok {
			continue
		}
		names = append(names, c.str("name"))
		out = append(out, s.ofContainer(o, c, cmd, around, s.mounts(volumes, around, c), extra, env))
	}
	if len(out) == 0 {
		for _, v := range volumes { // of others
			for _, d := range v.files {
				used[d] = true
			}
		}
	}
	if len(out) > 1 {
		for i, c := range out {
			c.Name += " " + names[i]
		}
	}
	return out
}

// hosts are the files of the objects.
func (s *Set) hosts() []*conffile.Host { return s.files }

// ofContainer is the configuration of the server of a container.
func (s *Set) ofContainer(o *object, n *node, cmd command, around *environment, mounts []mount, extra []string, env func(string) (string, bool)) *Configuration {
	c := &Configuration{doubt: cmd.doubt, flag: cmd.flag, opened: map[string]*datum{}, top: posture.Place{File: o.file.Name, Line: n.line, Column: n.column}}
	o.file.CutFlow(n.line, n.column-1) // there may be secrets among its variables
	img := imageOf(n.str("image"))
	c.Source = conffile.Source{
		Name: o.String(), Args: slices.Concat(cmd.args, extra), Hosts: s.hosts(), Version: img.version,
		Env: func(name string) (string, bool) {
			if v := around.vars[name]; v.known {
				return v.value, true
			}
			if env != nil {
				return env(name)
			}
			return "", false
		},
		Later: func(name string) bool { return around.vars[name].later },
	}
	file, away := cmd.config, cmd.away
	if inv, err := conffile.Invoke(extra); err == nil && inv.Config != "" {
		file, away = inv.Config, ""
	}
	if file != "" {
		if file = inContainer(file); !path.IsAbs(file) {
			file = path.Join("/", inContainer(n.str("workingDir")), file)
		}
	}
	if img.config != "" {
		mounts = append(mounts, img.mount(c.top))
	}
	c.reads(file, func(name string) (*datum, error) { return open(mounts, name) })
	switch {
	case away != "":
		c.Path = "/"
		c.Read = func(string) ([]byte, error) { return nil, &conffile.Elsewhere{Why: away} }
	case file == "":
		c.Path, c.Text = "/", []byte{}
	}
	return c
}

// ofKey is the configuration in a key of an object.
func (s *Set) ofKey(o *object, key string, extra []string, env func(string) (string, bool)) *Configuration {
	dir := "/" + strings.ReplaceAll(o.String(), "/", ":")
	c := &Configuration{Fragment: true, opened: map[string]*datum{}, top: o.data[key].key}
	c.Source = conffile.Source{Name: o.String() + " " + key, Args: extra, Hosts: s.hosts(), Env: env}
	c.reads(path.Join(dir, key), func(name string) (*datum, error) {
		name = strings.ReplaceAll(name, `\`, "/")
		inside, ok := strings.CutPrefix(path.Clean(name), dir+"/")
		if !ok {
			inside = path.Base(name) // nobody knows where it will be mounted
		}
		d := o.data[inside]
		switch {
		case d == nil:
			return nil, &conffile.Elsewhere{Why: inside + " is not a key of " + o.String() + ", and what else is mounted there is not known"}
		case d.bad != "":
			return nil, errors.New(d.bad)
		}
		return d, nil
	})
	return c
}

// reads lets a configuration read its file and others through a pod's mounts.
func (c *Configuration) reads(file string, open func(string) (*datum, error)) {
	c.Path = file
	c.Read = func(name string) ([]byte, error) {
		d, err := open(name)
		if err != nil {
			return nil, err
		}
		c.opened[name] = d
		return d.bytes, nil
	}
	c.Place = func(name string, line, column int) posture.Place {
		if d := c.opened[name]; d != nil {
			return d.place(line, column)
		}
		return c.top
	}
	c.Exact = func(name string) bool { d := c.opened[name]; return d != nil && d.at != nil }
}

// File reads the configuration, as [conffile.Read] does.
func (c *Configuration) File() (*conffile.File, error) {
	src := c.Source
	if src.Text == nil {
		text, err := src.Read(src.Path)
		var away *conffile.Elsewhere
		if err != nil && !errors.As(err, &away) {
			return conffile.Refuse(src, "the configuration file "+src.Path+": "+err.Error()), nil
		}
		if err == nil {
			src.Text = text
		}
	}
	f, err := conffile.Read(src)
	if err != nil {
		return nil, err
	}
	if c.doubt != "" {
		f.Doubt(c.flag, c.doubt)
	}
	return f, nil
}

// distinct gives different names to configurations of one name, which then are of
// different files.
func distinct(all []*Configuration) {
	times := map[string]int{}
	for _, c := range all {
		times[c.Name]++
	}
	for _, c := range all {
		if times[c.Name] > 1 {
			c.Name += " in " + c.top.File
		}
	}
}
