//go:build !unix

package socket

import (
	"net"
	"syscall"
)

// rawOf: there is no writing without waiting here.
func rawOf(net.Conn) syscall.RawConn { return nil }

// tryWrite leaves all to the write that waits.
func (c *Conn) tryWrite([]byte) (n int, err error) { return 0, nil }
