// Package advisory knows the published vulnerabilities of nats-server, and which
// versions have them.
//
// The table is generated from two sources and embedded: the advisories of the
// NATS project, which hold where the two differ, and the Go vulnerability
// database (© The Go Authors, CC-BY-4.0; see the NOTICE file). What each advisory
// takes beside the version, and whether it lets strangers in, is in neither and is
// written by hand in nature.go.
//
// The package is pure. It never says that a version is not affected when the
// version cannot be read, or when only the suffix of a vendor's build speaks for
// it.
package advisory

//go:generate go run ./generate -from generate/data -to table.json
