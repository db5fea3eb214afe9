// Package finding turns the results of checks into findings with a history:
// what opened, what changed, what was resolved, and what fell silent.
//
// The package is pure. Its ledger belongs to one goroutine.
package finding
