// Package agent is the loop that keeps watch over a fleet: it sweeps, judges,
// keeps the ledger and hands what changed to a sink. It knows no subject of
// its own; package service does.
//
// One goroutine owns the current snapshot and the ledger. Everybody else
// reads a published [State], which never changes, or asks for a [Agent.Scan].
package agent
