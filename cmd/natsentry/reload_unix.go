//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyReload has the signal told that asks a program to read its files again.
func notifyReload(c chan<- os.Signal) { signal.Notify(c, syscall.SIGHUP) }
