// Package fleet builds fleets of real nats-servers from configuration text.
//
// It is the one builder behind the demonstration, the tests and the
// benchmarks. A server is either embedded in this process, for speed, or a
// real process of any released version, where signals, crashes or old
// behaviour matter; both kinds mix in one fleet.
//
// The package guarantees:
//
//   - Every listener is on the loopback interface. A configuration that asks
//     for another address is refused before anything listens.
//   - [Start] returns either a fleet whose servers all accept connections, or
//     an error with nothing left running.
//   - [Fleet.Close] ends exactly what the fleet started, and removes every file
//     it wrote.
//   - Nothing is printed. What a server process logs ends up in the errors
//     about it; embedded servers log only to the file their configuration
//     names.
package fleet
