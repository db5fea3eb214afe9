package callout

import _ "embed" // of the source

// Source is the source of the service, as a file of package callout.
//
//go:embed callout.go
var Source string

// Main is another file beside it: the main function, once both are package main.
//
//go:embed main.go.txt
var Main string
