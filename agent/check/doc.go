// Package check holds the table of checks and judges a snapshot by it.
//
// A check is one struct literal: its documentation, the answers it needs and
// a pure function over one subject. The evaluator, never the check, decides
// that a subject cannot be judged: when a needed answer did not arrive, or
// when the server is too old to tell, the outcome is Unknown. A Pass needs
// positive evidence.
package check
