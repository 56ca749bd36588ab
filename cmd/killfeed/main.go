// Command killfeed is the server and everything to talk to it.
//
// Each command has one file. This package is the only one that names concrete types: it opens the store, gives it to the
// feed, and the feed to the edges (serve.go). main does nothing but call run, and the exit code is decided there.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // gives the signals back to the runtime, so that the second one ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
