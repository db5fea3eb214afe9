// Package service puts an agent on the wire: it answers requests as the NATS
// micro service "natsentry" and publishes findings and epochs. It is the only
// package that knows the audit subjects.
//
// It guarantees that a reply never exceeds the connection's max payload
// (lists come in pages with totals), that a request it cannot serve gets an
// error that says what is accepted, and that a request during start-up gets
// 503 and not silence.
package service

//go:generate go test . -run ^TestSchemas$ -update
