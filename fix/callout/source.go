package callout

import (
	_ "embed" // of the source
	"strings"
)

//go:embed callout.go
var source string

// Main is the main function of the service, as a file beside [Command].
//
//go:embed main.go.txt
var Main string

// Command is the source of this package, made a command.
func Command() string {
	return strings.NewReplacer("// Package callout is", "// Command callout is", "package callout\n", "package main\n").Replace(source)
}
