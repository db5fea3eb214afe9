package manifest

import (
	"strings"
)

// variable is a variable of a container.
type variable struct {
	value string
	known bool
	why   string // it is not known
	later bool   // the cluster gives it, like the name of the pod
}

// environment are the variables of a container.
type environment struct {
	vars map[string]variable
	open string // why there may be others, "" if there are none
}

func (s *Set) environment(from *object, container *node) *environment {
	env := &environment{vars: map[string]variable{}}
	for _, e := range container.items("envFrom") {
		prefix := e.str("prefix")
		for ref, kind := range map[string]string{"configMapRef": "ConfigMap", "secretRef": "Secret"} {
			if e.get(ref) == nil {
				continue
			}
			o, err := s.find(from, kind, e.str(ref, "name"))
			if err != nil {
				env.open = err.Error()
				continue
			}
			for key, d := range o.data {
				env.vars[prefix+key] = variable{value: string(d.bytes), known: d.bad == "", why: d.bad}
			}
		}
	}
	for _, e := range container.items("env") {
		if name := e.str("name"); name != "" {
			env.vars[name] = s.variable(from, env, e)
		}
	}
	return env
}

func (s *Set) variable(from *object, env *environment, e *node) variable {
	source := e.get("valueFrom")
	if source == nil || len(source.keys) == 0 {
		value, unknown := env.expand(e.str("value"))
		v := variable{value: value, known: len(unknown) == 0}
		v.later = !v.known
		for _, name := range unknown {
			v.why = env.vars[name].why
			v.later = v.later && env.vars[name].later
		}
		return v
	}
	for ref, kind := range map[string]string{"configMapKeyRef": "ConfigMap", "secretKeyRef": "Secret"} {
		if source.get(ref) == nil {
			continue
		}
		o, err := s.find(from, kind, source.str(ref, "name"))
		if err != nil {
			return variable{why: err.Error()}
		}
		d := o.data[source.str(ref, "key")]
		if d == nil || d.bad != "" {
			return variable{why: o.String() + " has no such key"}
		}
		return variable{value: string(d.bytes), known: true}
	}
	if source.get("fieldRef") != nil || source.get("resourceFieldRef") != nil {
		return variable{why: "the cluster gives it", later: true}
	}
	return variable{why: "nobody knows where its value comes from"}
}

// expand replaces $(NAME), as Kubernetes does; $$ is a dollar, and names of
// nothing stay. It tells the names whose values are not known; these stay too.
func (env *environment) expand(text string) (out string, unknown []string) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '$' || i+1 == len(text) {
			b.WriteByte(text[i])
			continue
		}
		switch end := strings.IndexByte(text[i:], ')'); {
		case text[i+1] == '$':
			b.WriteByte('$')
			i++
		case text[i+1] == '(' && end > 0:
			name := text[i+2 : i+end]
			v, ok := env.vars[name]
			switch {
			case v.known:
				b.WriteString(v.value)
			case ok || env.open != "":
				unknown = append(unknown, name)
				fallthrough
			default:
				b.WriteString(text[i : i+end+1])
			}
			i += end
		default:
			b.WriteByte('$')
		}
	}
	return b.String(), unknown
}

// why says why a variable has no value.
func (env *environment) why(name string) string {
	if v, ok := env.vars[name]; ok {
		return v.why
	}
	return env.open
}
