package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"killfeed"
)

// notifier tells the service manager how the server does, in the way of systemd's sd_notify: a datagram with lines of NAME=value to the
// socket that NOTIFY_SOCKET names. Whoever started the server otherwise has set none, and nothing is sent. It may be used by any number
// of goroutines.
type notifier struct {
	socket string        // empty: nobody wants to know
	every  time.Duration // how often the watchdog wants to hear; 0: there is none
	log    *slog.Logger
}

func newNotifier(env []string, log *slog.Logger) *notifier {
	n := &notifier{socket: lookup(env, "NOTIFY_SOCKET"), log: log}
	usec, err := strconv.ParseUint(lookup(env, "WATCHDOG_USEC"), 10, 40)
	pid := lookup(env, "WATCHDOG_PID")
	if err == nil && n.socket != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(usec) * time.Microsecond / 3 // one beat may come late, and one be lost
	}
	return n
}

// lookup is the last value of a variable, as for the shell.
func lookup(env []string, name string) (value string) {
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			value = v
		}
	}
	return value
}

// send sends the state. A manager that does not take it ends nothing: it finds out for itself.
func (n *notifier) send(state string) {
	if n.socket == "" {
		return
	}
	err := func() error {
		c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"}) // "@" is an abstract one's beginning
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		_, err = c.Write([]byte(state))
		return err
	}()
	if err != nil {
		n.log.Warn("the service manager could not be told", "state", state, "socket", n.socket, "err", err)
	}
}

// watchdog beats for as long as the feed answers: each beat is behind a read of its newest event. One that hangs holds the next beat back, and the
// service manager restarts the server. A feed that answers with an error is none that a restart would mend for sure: it is beaten for.
func (n *notifier) watchdog(ctx context.Context, feed *killfeed.Feed) error {
	return n.beat(ctx, func() {
		_, err := feed.Event(feed.State().Head)
		if errors.Is(err, killfeed.ErrNotFound) { // nothing is kept: an answer all the same
			err = nil
		}
		if err != nil && ctx.Err() == nil {
			n.log.Warn("the feed answers with an error", "err", err)
		}
	})
}

func (n *notifier) beat(ctx context.Context, look func()) error {
	tick := time.NewTicker(n.every)
	defer tick.Stop()
	for {
		look()
		if ctx.Err() != nil {
			return nil
		}
		n.send("WATCHDOG=1")
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// firstInherited is the first of the descriptors that a service manager passes.
const firstInherited = 3

// inherited is the listening socket that the service manager has opened and passes on, nil when it passes none. It stays open there
// while this process is restarted, and whoever connects meanwhile waits, and is not refused.
func inherited(env []string) (net.Listener, error) {
	if lookup(env, "LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil // they are another process's
	}
	switch n := lookup(env, "LISTEN_FDS"); n {
	case "", "0":
		return nil, nil
	case "1":
	default:
		return nil, usagef("the service manager passes %s sockets: want one, that of --listen", n)
	}
	f := os.NewFile(firstInherited, "inherited socket")
	defer f.Close() // the listener has a descriptor of its own
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("using the socket of the service manager: %w", err)
	}
	if _, ok := l.(*net.TCPListener); !ok {
		l.Close()
		return nil, usagef("the service manager passes the socket %s: want one of TCP (ListenStream=4004)", l.Addr())
	}
	return l, nil
}
