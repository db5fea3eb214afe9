// Command natsentry tells who can walk into a fleet of NATS servers, who has,
// and what to do about it. `natsentry --help` lists its commands.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	p := &program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Environ(), args: os.Args[1:]}
	os.Exit(p.run(ctx))
}
