// Package form recognises what a text is by its form: a configuration of
// nats-server, a template of one, or a file of another program. It reads no file
// and renders nothing.
package form
