//go:build !unix

package main

import "os"

// notifyReload: there is no such signal here.
func notifyReload(chan<- os.Signal) {}
