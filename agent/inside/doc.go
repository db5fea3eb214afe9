// Package inside says who is inside a fleet without having proven much, and
// who would be locked out by another configuration.
//
// The package is pure: it judges a snapshot. What it cannot tell it calls
// [Unknown], never kept and never rejected: servers show who claims to be whom,
// and no password, signature or JWT.
package inside
