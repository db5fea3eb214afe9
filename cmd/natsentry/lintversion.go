package main

import (
	"errors"
	"strings"

	"github.com/natsentry/natsentry/agent/advisory"
)

// releaseFlag is a flag that takes a version of nats-server.
type releaseFlag string

// String implements pflag.Value.
func (r *releaseFlag) String() string { return string(*r) }

// Type implements pflag.Value.
func (r *releaseFlag) Type() string { return "version" }

// Set implements pflag.Value. An empty version is none, as scripts give it.
func (r *releaseFlag) Set(s string) error {
	if s != "" && !advisory.Readable(s) {
		return errors.New("it must be a version of nats-server, three numbers like 2.12.3, with or without a v before them and a suffix like -RC.1 or -alpine")
	}
	*r = releaseFlag(strings.TrimPrefix(s, "v"))
	return nil
}
