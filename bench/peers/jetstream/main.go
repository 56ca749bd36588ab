// Command jetstream is a yardstick of killfeed's inserts: a NATS server with JetStream that fsyncs each message before it
// acknowledges it, and a stream of subjects km.<system> in files.
//
// It is run by ./scripts/bench stores, listens on the loopback interface, and keeps its files in the directory that it is given.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	dir := flag.String("dir", "", "directory for the stream")
	addrFile := flag.String("addr-file", "", "file to write the address to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *addrFile); err != nil {
		fmt.Fprintln(os.Stderr, "jetstream:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, addrFile string) error {
	if dir == "" {
		return errors.New("-dir is missing")
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, SyncAlways: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(20 * time.Second) {
		return errors.New("the server does not take connections")
	}
	if err := os.WriteFile(addrFile, []byte(s.Addr().String()), 0o600); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}
