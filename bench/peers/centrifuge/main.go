// Command centrifuge is the yardstick of killfeed's live edges: a server made of the centrifuge library, which subscribes
// every WebSocket connection to one channel and publishes there what is posted to it.
//
//	GET  /connection/websocket   the library's own JSON protocol
//	POST /publish                one JSON value a line, published in that order; 204 once every subscriber's queue has them
//
// It is run by ./scripts/bench live. It is a module of its own, so that whoever uses killfeed does not get the peer's
// dependencies with it.
//
// It is set up to be fast, as far as that costs no latency. What is on and off, and why, stands at the flags; they exist so
// that another choice can be tried.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/centrifugal/centrifuge"
)

const channel = "killmails"

// config is what the flags say.
type config struct {
	listen, addrFile string
	frame            int
	writeDelay       time.Duration
	writeTimer       bool
	offReadLoop      bool
	pool             bool
	readBuffer       int
}

func main() {
	var c config
	flag.StringVar(&c.listen, "listen", "127.0.0.1:0", "where to listen")
	// All that is queued goes out in one frame. With the library's own limit of 16 messages a burst has 0.83 times the rate.
	flag.IntVar(&c.frame, "frame", -1, "most messages in one frame; -1 means no limit")
	// Waiting for more messages is what the library has to save writes. 100 us give a burst 1.27 times the rate, but then half
	// of all messages that come one by one are a third later, at 15 % more CPU time.
	flag.DurationVar(&c.writeDelay, "write-delay", 0, "how long to collect messages before writing them")
	flag.BoolVar(&c.writeTimer, "write-timer", false, "with -write-delay: timers in place of a goroutine for each connection")
	// These spare memory: 18 KB for each idle connection in place of 30. Rates and delays stay the same, within the noise.
	flag.BoolVar(&c.offReadLoop, "off-read-loop", true, "process commands in goroutines that end, to keep the stacks small")
	flag.BoolVar(&c.pool, "write-buffer-pool", true, "share write buffers")
	flag.IntVar(&c.readBuffer, "read-buffer", 512, "bytes of each connection's read buffer")
	flag.StringVar(&c.addrFile, "addr-file", "", "file to write the address to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "centrifuge:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config) error {
	node, err := centrifuge.New(centrifuge.Config{})
	if err != nil {
		return err
	}
	node.OnConnecting(func(context.Context, centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		return centrifuge.ConnectReply{
			Credentials:        &centrifuge.Credentials{},
			Subscriptions:      map[string]centrifuge.SubscribeOptions{channel: {}},
			MaxMessagesInFrame: c.frame,
			WriteDelay:         c.writeDelay,
			WriteWithTimer:     c.writeTimer,
		}, nil
	})
	if err := node.Run(); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize:             c.readBuffer,
		UseWriteBufferPool:         c.pool,
		ProcessCommandsOffReadLoop: c.offReadLoop,
		// A machine that is busy with the load generator must not make it give up a subscriber: all have to get everything.
		WriteTimeout: 30 * time.Second,
		// Without pings it has less to do, and nothing but messages comes to the subscribers.
		PingPongConfig: centrifuge.PingPongConfig{PingInterval: -1, PongTimeout: -1},
	}))
	mux.HandleFunc("POST /publish", func(w http.ResponseWriter, r *http.Request) {
		if err := publish(node, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	l, err := net.Listen("tcp", c.listen)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: mux}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }() // ends by the Close below
	if err := os.WriteFile(c.addrFile, []byte(l.Addr().String()), 0o600); err != nil {
		return errors.Join(err, srv.Close())
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	err = node.Shutdown(ctx)
	return errors.Join(err, srv.Close())
}

// publish publishes each line.
func publish(node *centrifuge.Node, body io.Reader) error {
	all, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	for line := range bytes.Lines(all) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		// The library's encoder takes the bytes as they are; what is no JSON would break the frames of all subscribers.
		if line[0] != '{' {
			return fmt.Errorf("%.40q is no JSON object", line)
		}
		if _, err := node.Publish(channel, line); err != nil {
			return err
		}
	}
	return nil
}
