package server

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// Conn is a client connection that does no more than it must: on two cores every microsecond that the load side takes is
// one that the server does not get. It is for one goroutine.
type Conn struct {
	net.Conn
	r    *bufio.Reader
	body []byte
}

// Dial connects to a server.
func Dial(addr string) (*Conn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &Conn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// Do sends a request and reads its answer, which must have a Content-Length or no body. The body is valid until the next call.
func (c *Conn) Do(request []byte) (status int, body []byte, err error) {
	if _, err := c.Write(request); err != nil {
		return 0, nil, err
	}
	length := 0
	for first := true; ; first = false {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		switch {
		case first:
			if len(line) < 12 {
				return 0, nil, fmt.Errorf("status line %q", line)
			}
			status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		case len(line) <= 2:
			if cap(c.body) < length {
				c.body = make([]byte, length)
			}
			_, err := io.ReadFull(c.r, c.body[:length])
			return status, c.body[:length], err
		case len(line) > 16 && (line[0] == 'C' || line[0] == 'c') && bytes.EqualFold(line[:15], []byte("content-length:")):
			length, err = strconv.Atoi(string(bytes.TrimSpace(line[15:])))
			if err != nil {
				return 0, nil, err
			}
		}
	}
}

// Get is the request for a path.
func Get(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path)
}

// Post is the request that posts a body. token is sent as the bearer token when there is one.
func Post(path, token string, body []byte) []byte {
	auth := ""
	if token != "" {
		auth = "Authorization: Bearer " + token + "\r\n"
	}
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\n%sContent-Length: %d\r\n\r\n", path, auth, len(body)), body...)
}
