//go:build unix

package socket

import (
	"net"
	"syscall"
)

// rawOf returns the socket of a connection, nil when it has none of its own, as one in TLS.
func rawOf(conn net.Conn) syscall.RawConn {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			return raw
		}
	}
	return nil
}

// tryWrite writes what the socket takes at once: one system call, which does not wait.
func (c *Conn) tryWrite(b []byte) (n int, err error) {
	if c.raw == nil {
		return 0, nil
	}
	failed := c.raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), b)
			if err != syscall.EINTR {
				return true // whatever came of it: do not wait
			}
		}
	})
	switch {
	case failed != nil: // the deadline of a close has passed, or the connection is closed; the write that waits tells
		return 0, nil
	case err == syscall.EAGAIN:
		return 0, nil
	}
	return max(n, 0), err
}
