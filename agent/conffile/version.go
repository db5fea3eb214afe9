package conffile

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
	"github.com/natsentry/natsentry/agent/release"
)

// unknownKey is nats-server's complaint about a key, as opposed to what stands where
// a key should be.
var unknownKey = regexp.MustCompile(`^unknown field "([A-Za-z][A-Za-z0-9_]*)"$`)

// ofOtherReleases corrects what the linked nats-server refuses by what the release
// that will run takes: a newer one may know keys that the linked one does not, which
// leaves the configuration undecided, and an older one refuses keys that came after it.
func (r *reading) ofOtherReleases(refused []posture.Remark) (kept, undecided []posture.Remark) {
	newer := release.Newer(r.src.Version, server.VERSION)
	for _, a := range refused {
		if key := unknownKey.FindStringSubmatch(a.Text); newer && key != nil {
			undecided = append(undecided, posture.Remark{Place: a.Place, Text: fmt.Sprintf(
				"nats-server %s may know the key %s: it is newer than %s, by which this is judged and which does not know it", r.src.Version, key[1], server.VERSION)})
			continue
		}
		kept = append(kept, a)
	}
	if r.src.Version == "" || newer {
		return kept, undecided
	}
	for _, k := range release.Keys {
		if holds, known := k.In(r.src.Version); holds || !known {
			continue
		}
		for path, at := range r.config.Keys {
			what := path
			if k.Value != "" {
				what += ": " + k.Value
			}
			// A value is one of every block of that name; a key stands at its place.
			if k.Value == "" && path != k.Path || k.Value != "" && (!strings.HasSuffix("."+path, "."+k.Path) || !r.says(path, k.Value)) {
				continue
			}
			kept = append(kept, posture.Remark{Place: at, Text: fmt.Sprintf(
				"nats-server %s does not know %s, and does not start with it; releases from %s on do", r.src.Version, what, strings.Join(k.Since, " and "))})
		}
	}
	return kept, undecided
}

// says reports whether a text stands under a path of keys.
func (r *reading) says(path, text string) bool {
	in := r.tree.Root
	keys := strings.Split(path, ".")
	for i, key := range keys {
		e := get(in, key)
		if e == nil {
			return false
		}
		if i == len(keys)-1 {
			s, ok := e.Node.Value.(string)
			return ok && strings.EqualFold(s, text)
		}
		m, ok := e.Node.Value.(*syntax.Map)
		if !ok {
			return false
		}
		in = m
	}
	return false
}
