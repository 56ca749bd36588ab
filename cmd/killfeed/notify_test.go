//go:build unix

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// managerSocket is the socket of a service manager, and what was sent to it, in order.
func managerSocket(t *testing.T) (path string, next func() string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kf") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return path, func() string {
		t.Helper()
		buf := make([]byte, 4096)
		c.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

// TestServiceManager: it is told when the server serves, that it lives, and when it stops.
func TestServiceManager(t *testing.T) {
	path, next := managerSocket(t)
	t.Cleanup(func() { // once serveIn has stopped the server
		for {
			switch got := next(); got {
			case "WATCHDOG=1":
				continue
			case "STOPPING=1":
				return
			default:
				t.Fatalf("at the end the manager was told %q", got)
			}
		}
	})
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "30000")
	serveIn(t, t.TempDir())
	if got := next(); got != "READY=1" {
		t.Errorf("first the manager was told %q", got)
	}
	for range 3 {
		if got := next(); got != "WATCHDOG=1" {
			t.Errorf("then the manager was told %q", got)
		}
	}
}

// TestWatchdog: nothing beats for what does not answer.
func TestWatchdog(t *testing.T) {
	path, next := managerSocket(t)
	n := newNotifier([]string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=3000", "WATCHDOG_PID=" + strconv.Itoa(os.Getpid())}, slog.New(slog.DiscardHandler))
	if n.every != time.Millisecond {
		t.Fatalf("it beats every %s, want a third of 3 ms", n.every)
	}
	ctx, cancel := context.WithCancel(t.Context())
	answers, ended := make(chan struct{}), make(chan error, 1)
	looked := make(chan struct{})
	go func() {
		ended <- n.beat(ctx, func() {
			looked <- struct{}{}
			<-answers
		})
	}()
	<-looked
	answers <- struct{}{}
	if got := next(); got != "WATCHDOG=1" {
		t.Errorf("the manager was told %q", got)
	}
	<-looked // and now there is no answer any more
	cancel()
	close(answers)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	n.send("done")
	if got := next(); got != "done" {
		t.Errorf("a beat came for what did not answer: %q", got)
	}
	for _, env := range [][]string{nil, {"WATCHDOG_USEC=3000"}, {"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=x"}, {"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=3000", "WATCHDOG_PID=1"}} {
		if n := newNotifier(env, slog.New(slog.DiscardHandler)); n.every != 0 {
			t.Errorf("%q makes a watchdog", env)
		}
	}
}

// TestWatchdogPace: a beat comes as often as it should, and no oftener.
func TestWatchdogPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &notifier{every: 10 * time.Second, log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithTimeout(t.Context(), 95*time.Second)
		defer cancel()
		looks := 0
		if err := n.beat(ctx, func() { looks++ }); err != nil || looks != 10 {
			t.Errorf("%d looks in 95 s, %v; want 10", looks, err)
		}
	})
}

// TestRestartDropsNobody: with a socket of the service manager's, who connects while no server runs is answered by the next one.
func TestRestartDropsNobody(t *testing.T) {
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	bin, err := exec.LookPath("killfeed")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	start := func() *exec.Cmd {
		t.Helper()
		c := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"`, "sh", bin, "serve", "--data", dir, "--listen", "127.0.0.1:1",
			"--log-format", "json", "--drain-time", "0")
		c.ExtraFiles = []*os.File{socket}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	stop := func(c *exec.Cmd) {
		t.Helper()
		c.Process.Signal(syscall.SIGTERM)
		if err := c.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	}
	// ask is answered by a server, sooner or later: 503 while one opens its log.
	ask := func(c net.Conn) string {
		t.Helper()
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res.Status
	}
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first := start()
	if got := ask(dial()); !strings.HasPrefix(got, "200") {
		t.Errorf("the first server answers %s", got)
	}
	stop(first)
	waiting := []net.Conn{dial(), dial(), dial()} // nobody serves
	second := start()
	for _, c := range waiting {
		if got := ask(c); !strings.HasPrefix(got, "200") {
			t.Errorf("who connected between the servers is answered %s", got)
		}
	}
	stop(second)
}

// TestInheritedSockets: what was not meant for this process, or is no use to it, is not used.
func TestInheritedSockets(t *testing.T) {
	for _, env := range [][]string{nil, {"LISTEN_PID=1", "LISTEN_FDS=1"}, {"LISTEN_FDS=1"}, {"LISTEN_PID=" + strconv.Itoa(os.Getpid())}} {
		if l, err := inherited(env); l != nil || err != nil {
			t.Errorf("%q: %v, %v", env, l, err)
		}
	}
	var usage usageError
	if _, err := inherited([]string{"LISTEN_PID=" + strconv.Itoa(os.Getpid()), "LISTEN_FDS=2"}); !errors.As(err, &usage) {
		t.Errorf("two sockets: %v", err)
	}
}
