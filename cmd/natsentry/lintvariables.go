package main

import (
	"bufio"
	"errors"
	"fmt"
	"strings"

	"github.com/natsentry/natsentry/agent/conffile"
)

// lintVariables are those of --env-file, and of the environment.
type lintVariables struct{ given, around map[string]string }

func (v *lintVariables) file(name string) (string, bool) {
	value, ok := v.given[name]
	return value, ok
}

// any gives variables: those of the file, and otherwise the environment's.
func (v *lintVariables) any(name string) (string, bool) {
	if value, ok := v.given[name]; ok {
		return value, ok
	}
	value, ok := v.around[name]
	return value, ok
}

func (p *program) lintEnv(file string) (*lintVariables, error) {
	env := &lintVariables{map[string]string{}, map[string]string{}}
	for _, kv := range p.env {
		if name, value, ok := strings.Cut(kv, "="); ok {
			env.around[name] = value
		}
	}
	if file != "" {
		text, err := conffile.Disk(file)
		if err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", file, err)
		}
		s := bufio.NewScanner(strings.NewReader(string(text)))
		s.Buffer(nil, len(text)+1)
		for n := 1; s.Scan(); n++ {
			line := strings.TrimSpace(s.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			name, value, ok := strings.Cut(strings.TrimPrefix(line, "export "), "=")
			if !ok || strings.ContainsAny(name, " \t") || name == "" {
				return nil, fmt.Errorf("--env-file %s: line %d is not NAME=VALUE", file, n)
			}
			env.given[name] = value
		}
	}
	return env, nil
}

// splitWords splits flags into words, as a shell does with spaces and quotes.
func splitWords(text string) ([]string, error) {
	var out []string
	var word strings.Builder
	quote, inside := rune(0), false
	for _, r := range text {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inside = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inside {
				out = append(out, word.String())
				word.Reset()
			}
			inside = false
		default:
			word.WriteRune(r)
			inside = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inside {
		out = append(out, word.String())
	}
	return out, nil
}
