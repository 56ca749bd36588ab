//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"
)

// refused is an answer that does not let a subscriber in.
type refused struct {
	status int
	after  time.Duration // when to come back, 0 when it does not say
	body   string
}

func (e *refused) Error() string { return fmt.Sprintf("refused with %d: %s", e.status, e.body) }

// closed is a WebSocket's close frame.
type closed struct {
	code   int
	reason string
}

func (e *closed) Error() string { return fmt.Sprintf("closed with %d %s", e.code, e.reason) }

// conn is a connection to the server.
type conn struct {
	net.Conn
	r *bufio.Reader
}

const (
	// sources is how many loopback addresses connections come from. One address has some 28,000 ports, and closed connections
	// keep theirs for a minute. The server's own address is none of them, so that its port is free when it comes back.
	sources = 16
	// patience bounds every wait for a server that should answer at once.
	patience = 20 * time.Second
	// writeWithin bounds a write of the small messages that clients send.
	writeWithin = 5 * time.Second
	// readSize is a connection's buffer: most killmails fit into it.
	readSize = 16 << 10
	// A bad subscriber has little room, and segments as over Ethernet: what the machines keep in between then is 100 KB and
	// not the megabytes of the loopback interface, in which a subscriber of a quiet system would never stall.
	badReadSize = 4 << 10
	badRoom     = 4 << 10
	badSegment  = 1448
)

// bindAddressNoPort is IP_BIND_ADDRESS_NO_PORT, which package syscall does not know: the port is chosen when the other end is
// known, and need not differ from those to other servers.
const bindAddressNoPort = 24

// dial connects a subscriber.
func (s *subscriber) dial(ctx context.Context) (*conn, error) {
	d := net.Dialer{
		Timeout:   patience,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+s.index%sources))},
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			controlling := raw.Control(func(fd uintptr) { err = s.options(int(fd)) })
			return errors.Join(controlling, err)
		},
	}
	c, err := d.DialContext(ctx, "tcp", s.world.gate.address())
	if err != nil {
		return nil, err
	}
	size := readSize
	if s.manner != healthy {
		size = badReadSize
	}
	return &conn{c, bufio.NewReaderSize(c, size)}, nil
}

// options sets a socket's options.
func (s *subscriber) options(fd int) error {
	if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IP, bindAddressNoPort, 1); err != nil || s.manner == healthy {
		return err
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, badRoom); err != nil {
		return err
	}
	return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, badSegment)
}

// request sends a request without a body and reads the head of its answer. Another status than the one wanted is a *refused.
func (c *conn) request(target, headers string, want int) (*http.Response, error) {
	c.SetDeadline(time.Now().Add(patience))
	defer c.SetDeadline(time.Time{})
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%s\r\n", target, headers); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != want {
		return nil, refusal(resp)
	}
	return resp, nil
}

// refusal reads an answer that does not let a subscriber in.
func refusal(resp *http.Response) *refused {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
	after, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return &refused{resp.StatusCode, time.Duration(after) * time.Second, string(body)}
}

// pause waits, and returns false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
