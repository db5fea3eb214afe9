package main

import (
	"errors"
	"strings"

	"github.com/natsentry/natsentry/agent/advisory"
)

// release is a flag that takes a version of nats-server.
type release string

// String implements pflag.Value.
func (r *release) String() string { return string(*r) }

// Type implements pflag.Value.
func (r *release) Type() string { return "version" }

// Set implements pflag.Value. An empty version is none, as scripts give it.
func (r *release) Set(s string) error {
	if s != "" && !advisory.Readable(s) {
		return errors.New("it must be a version of nats-server, three numbers like 2.12.3, with or without a v before them and a suffix like -RC.1 or -alpine")
	}
	*r = release(strings.TrimPrefix(s, "v"))
	return nil
}
