// Package posture is natsentry's model of a fleet: which servers there are,
// which doors each has, and whether a stranger gets in through them.
//
// The package is pure: it knows no network, no clock and no NATS client. It
// guarantees that
//
//   - every enumeration's zero value means "not known", so that a forgotten
//     assignment can never turn into "closed";
//   - a verdict on a door carries the evidence it rests on, and evidence that
//     disagrees with it is kept beside it;
//   - a [Snapshot] is immutable once published: whoever re-audits a server
//     makes a new snapshot that shares all the others.
package posture
