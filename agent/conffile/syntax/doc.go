// Package syntax reads the configuration format of nats-server into a tree that
// keeps what nats-server's own parser forgets: the order of keys, keys that a
// later one replaces, and where everything stands.
//
// It reads files and variables only through what it is given, notes variables
// that have no value instead of giving up, and bounds the files it follows,
// their size, the depth and the size of the tree. So any bytes are read in
// bounded time and memory.
//
// What nats-server reads as something else than it looks like is refused
// (Error.Odd). In all else the two agree, which a fuzz target holds them to.
package syntax
