// Package latency measures how long it takes from a cause (a reload, a restart,
// a stranger who connects) to the finding in a subscriber's hands, with the
// real program and real servers. Its test is the harness; docs/latency.md is
// what a long run of it has measured.
package latency
