// Package release knows what nats-server does from which release on, as far as
// a verdict depends on it: one table, for servers that run and configurations
// alike. Known vulnerabilities are not here; agent/advisory has them.
package release

//go:generate go test . -run ^TestPage$ -update
