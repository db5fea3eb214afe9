//go:build !windows

package fleet

import "syscall"

// What nats-server makes of signals.
const (
	signalReload   = syscall.SIGHUP
	signalStop     = syscall.SIGTERM
	signalLameDuck = syscall.SIGUSR2
)
