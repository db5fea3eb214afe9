package collect

import "errors"

// Errors of a sweep. A sweep fails only when it could learn nothing at all.
var (
	// ErrNotSystemAccount: nobody listens on $SYS requests, which only
	// happens to users outside of the system account.
	ErrNotSystemAccount = errors.New("no server listens to $SYS requests here: the user must belong to the system account (see `natsentry permissions`)")
	// ErrNotPermitted: the server refused the request or the reply inbox.
	ErrNotPermitted = errors.New("the user may not ask $SYS: `natsentry permissions` prints what it needs")
	// ErrNoAnswer: nobody answered in time.
	ErrNoAnswer = errors.New("no server answered $SYS requests in time")
	// ErrDisconnected: there is no connection to ask over.
	ErrDisconnected = errors.New("not connected")
)
