// Package fix writes the configuration that closes a door.
//
// What it writes is meant to be included: the configuration that a server has
// is not edited, and is not known here. It guarantees that
//
//   - it touches no file and no server: a [Bundle] is text, and somebody else
//     writes it down. Package proof tries it first;
//   - every password, seed and key of a bundle is new, and comes from
//     crypto/rand;
//   - what is secret stands in a file that says so ([File.Secret]), and in
//     values that print as a name and nothing else. The configuration of
//     clients holds hashes and public keys only. Passwords of routes and
//     gateways must stand in clear in theirs, because the server logs in to
//     its peers with them;
//   - a bundle says truthfully whether a reload applies it. Tests hold that
//     against real servers.
package fix
