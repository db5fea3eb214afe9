// Package natsentry audits who can walk into a fleet of NATS servers.
//
// The program is in cmd/natsentry. Programs that want to embed the auditor
// import the rooms below agent (the model, the checks, the collector, the
// loop) and service (the micro service).
package natsentry

//go:generate sh -c "go run ./cmd/natsentry checks --format markdown > docs/checks.md"
//go:generate sh -c "go run ./cmd/natsentry advisories --format markdown > docs/advisories.md"
