package conffile

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"

	"github.com/natsentry/natsentry/agent/conffile/syntax"
	"github.com/natsentry/natsentry/agent/posture"
)

// marks stand for the digests that a server may give a configuration in VARZ
// config_digest. Until 2.12.5, and on all of 2.11, keys to which variables refer
// do not count. A match of either is no accident, whatever the server's release.
func marks(root *syntax.Map) ([]uint64, error) {
	var out []uint64
	for _, used := range []bool{true, false} {
		d, err := digest(root, used)
		if err != nil {
			return nil, err
		}
		out = append(out, posture.MarkOf(d))
	}
	return out, nil
}

func digest(root *syntax.Map, used bool) (string, error) {
	sum := sha256.New()
	if err := json.NewEncoder(sum).Encode(plain(root, used)); err != nil {
		return "", err
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), nil
}

// plain is a value as encoding/json knows it. used keeps keys to which variables
// refer; those of blocks in arrays stay in any case.
func plain(v any, used bool) any {
	switch v := v.(type) {
	case *syntax.Map:
		out := map[string]any{}
		for _, e := range v.Entries {
			if e.Replaced == nil && (used || !e.Used) {
				out[e.Key] = plain(e.Node.Value, used)
			}
		}
		return out
	case []*syntax.Node:
		out := make([]any, len(v))
		for i, n := range v {
			out[i] = plain(n.Value, true)
		}
		return out
	default:
		return v
	}
}
