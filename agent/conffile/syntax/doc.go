// Package syntax reads the configuration format of nats-server into a tree that
// keeps what nats-server's own parser forgets: the order of keys, keys that a
// later one replaces, and where everything stands.
//
// The lexer is nats-server's, byte for byte (lex.go; a test compares the two).
// The parser follows nats-server's conf/parse.go rule by rule, and a test holds
// the two against each other. It differs where a linter must: it reads files
// and variables only through what it is given, notes variables that have no
// value instead of giving up, and bounds the files it follows, their size, the
// depth and the size of the tree. So any bytes are read in bounded time and
// memory.
package syntax
