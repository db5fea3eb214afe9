// Package collect gathers a fleet's own word: it asks $SYS, decodes the
// answers and puts them together as a posture.Snapshot. It is the only
// package that knows $SYS subjects and the JSON of servers.
//
// It guarantees that
//
//   - it only asks: every subject it publishes to is one of the read requests
//     listed in [Requests];
//   - a gather ends when every expected server has answered, not when a timer
//     runs out; a silent server is asked again by its id, and what stays
//     silent is a posture.Gap and never an error of the sweep;
//   - one bad answer (malformed, duplicated, late, huge, forged) costs
//     nothing but itself;
//   - tokens, passwords, JWTs and configuration digests are dropped while
//     decoding and do not reach the snapshot.
package collect
