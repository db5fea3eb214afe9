package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/natsentry/natsentry/agent/check"
)

// policyFile is what a policy file holds.
type policyFile struct {
	Waivers []waiver `yaml:"waivers"`
}

// waiver is one finding, or several alike, that somebody accepts for a time.
type waiver struct {
	Check   string `yaml:"check"`
	Cluster string `yaml:"cluster"`
	Server  string `yaml:"server"`
	Door    string `yaml:"door"`
	Reason  string `yaml:"reason"`
	Owner   string `yaml:"owner"`
	Expires string `yaml:"expires"`
}

// loadPolicy reads a policy file into a policy. Whatever it does not know is
// an error: a misspelt key must not make a waiver wider than it was meant.
func loadPolicy(path string, into *check.Policy) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	waivers, err := parsePolicy(text)
	if err != nil {
		return fmt.Errorf("policy %s: %w", path, err)
	}
	into.Waivers = waivers
	return nil
}

func parsePolicy(text []byte) ([]check.Waiver, error) {
	var file policyFile
	if len(strings.TrimSpace(string(text))) == 0 {
		return nil, errors.New("it is empty: `waivers: []` is a policy without waivers")
	}
	if err := yaml.UnmarshalWithOptions(text, &file, yaml.Strict()); err != nil {
		return nil, errors.New(strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	out := make([]check.Waiver, 0, len(file.Waivers))
	for i, w := range file.Waivers {
		expires, err := lastDay(w.Expires)
		if err != nil {
			return nil, fmt.Errorf("waiver %d: %w", i+1, err)
		}
		cw := check.Waiver{Check: w.Check, Cluster: w.Cluster, Server: w.Server, Door: w.Door, Reason: w.Reason, Owner: w.Owner, Expires: expires}
		if err := cw.Validate(); err != nil {
			return nil, fmt.Errorf("waiver %d: %w", i+1, err)
		}
		out = append(out, cw)
	}
	return out, nil
}

// lastDay is the end of a day, in UTC, or the moment that is given.
func lastDay(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if day, err := time.Parse(time.DateOnly, text); err == nil {
		return day.AddDate(0, 0, 1), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("expires %q is no day like 2027-01-31", text)
	}
	return t, nil
}
