// Package chaos kills agents and servers while doors open and close, and then
// asks the stream of transitions whether anything was lost or told twice.
package chaos
