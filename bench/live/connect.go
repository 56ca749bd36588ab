//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// sources is how many loopback addresses the connections come from. One address has some 28,000 ports, and closed connections
// keep theirs for a minute.
const sources = 16

// patience bounds every wait for a server that should answer at once.
const patience = 20 * time.Second

// The key is the RFC's example, and so is the answer.
const (
	socketKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	socketAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// open connects the i-th subscriber. Its socket blocks, with a time limit on every call.
func (t *target) open(i int) (*subscriber, error) {
	addr, err := netip.ParseAddrPort(t.server.Addr)
	if err != nil {
		return nil, err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &subscriber{fd: fd, target: t}
	limit := syscall.NsecToTimeval(int64(patience))
	source := &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i%sources)}}
	err = firstError(
		func() error { return syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit) },
		func() error { return syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit) },
		func() error { return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) },
		// The port is chosen when the other end is known: it need not differ from those to other servers.
		func() error { return syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1) },
		func() error { return syscall.Bind(fd, source) },
		func() error {
			return connect(fd, &syscall.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())})
		},
	)
	if err != nil {
		s.close()
		return nil, fmt.Errorf("connecting to %s: %w", t.name, err)
	}
	return s, nil
}

// bindAddressNoPort is IP_BIND_ADDRESS_NO_PORT, which package syscall does not know.
const bindAddressNoPort = 24

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// connect carries on after a signal, which does not stop the connection from being made.
func connect(fd int, to syscall.Sockaddr) error {
	for {
		switch err := syscall.Connect(fd, to); err {
		case syscall.EINTR, syscall.EALREADY:
		case syscall.EISCONN:
			return nil
		default:
			return err
		}
	}
}

func (s *subscriber) close() { syscall.Close(s.fd) }

// upgrade makes the connection a WebSocket.
func (s *subscriber) upgrade() error {
	head, rest, err := s.request(fmt.Sprintf("GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n", s.target.socket, socketKey), 101)
	if err != nil {
		return err
	}
	if !bytes.Contains(head, []byte(socketAccept)) {
		return fmt.Errorf("%s accepted a WebSocket wrongly: %q", s.target.name, head)
	}
	return s.take(rest)
}

// request sends an HTTP request and reads the head of its answer. rest is what came behind the head.
func (s *subscriber) request(text string, want int) (head, rest []byte, err error) {
	if err := s.write([]byte(text)); err != nil {
		return nil, nil, err
	}
	buf := make([]byte, 4<<10)
	for n := 0; n < len(buf); {
		m, err := s.read(buf[n:])
		if err != nil {
			return nil, nil, err
		}
		n += m
		if end := bytes.Index(buf[:n], []byte("\r\n\r\n")); end >= 0 {
			head, rest = buf[:end], buf[end+4:n]
			return head, rest, s.target.answered(head, want)
		}
	}
	return nil, nil, fmt.Errorf("%s answered with a head without end: %.200q", s.target.name, buf)
}

// refused is the error of a connection that the server did not want now.
type refused struct {
	error
	after time.Duration // when it may be tried again
}

var retryAfter = regexp.MustCompile(`(?i)\r\nRetry-After: *(\d+)`)

// answered checks the head of an answer.
func (t *target) answered(head []byte, want int) error {
	if bytes.HasPrefix(head, fmt.Appendf(nil, "HTTP/1.1 %d ", want)) {
		return nil
	}
	err := fmt.Errorf("%s answered %q", t.name, head)
	if m := retryAfter.FindSubmatch(head); m != nil {
		seconds, _ := strconv.Atoi(string(m[1]))
		return refused{err, time.Duration(seconds) * time.Second}
	}
	return err
}

// politely calls try until it is not refused, and waits each time as it is told to.
func politely(ctx context.Context, try func() error) error {
	for began := time.Now(); ; {
		err := try()
		r, ok := errors.AsType[refused](err)
		if !ok || time.Since(began) > patience {
			return err
		}
		timer := time.NewTimer(min(r.after, patience))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		}
	}
}

// read reads once. It never returns 0 bytes without an error.
func (s *subscriber) read(buf []byte) (int, error) {
	for {
		n, err := syscall.Read(s.fd, buf)
		switch {
		case err == syscall.EINTR: // a socket with a time limit is not read on by itself after a signal
		case err == syscall.EAGAIN:
			return 0, fmt.Errorf("%s sent nothing for %v", s.target.name, patience)
		case err != nil:
			return 0, fmt.Errorf("reading from %s: %w", s.target.name, err)
		case n == 0:
			return 0, fmt.Errorf("%s hung up", s.target.name)
		default:
			return n, nil
		}
	}
}

// join subscribes a connection and waits for the answer to that.
func (s *subscriber) join(hello string) error {
	if err := s.write(appendFrame(nil, opText, hello)); err != nil {
		return err
	}
	return s.welcomed()
}

// stream begins a stream of server-sent events and waits for its beginning.
func (s *subscriber) stream(path string) error {
	s.events = true
	_, rest, err := s.request("GET "+path+" HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n", 200)
	if err != nil {
		return err
	}
	if err := s.take(rest); err != nil {
		return err
	}
	return s.welcomed()
}

func (s *subscriber) welcomed() error {
	buf := make([]byte, 16<<10)
	for !s.joined {
		n, err := s.read(buf)
		if err != nil {
			return err
		}
		if err := s.take(buf[:n]); err != nil {
			return err
		}
	}
	return nil
}

// raiseFileLimit lets the process, and with it the servers that it starts, have that many connections at once.
func raiseFileLimit(connections int) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return os.NewSyscallError("getrlimit", err)
	}
	if l.Cur < l.Max {
		l.Cur = l.Max
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
			return os.NewSyscallError("setrlimit", err)
		}
	}
	if need := uint64(connections + 500); l.Cur < need {
		return fmt.Errorf("%d connections need %d open files, and no more than %d are allowed: raise ulimit -n, or ask for fewer",
			connections, need, l.Cur)
	}
	return nil
}
