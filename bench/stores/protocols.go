package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

func contains(b []byte, s string) bool { return bytes.Contains(b, []byte(s)) }

// redisConn is a connection to Redis. It is for one goroutine.
type redisConn struct {
	net.Conn
	r    *bufio.Reader
	skip []byte
}

func dialRedis(addr string) (*redisConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &redisConn{Conn: c, r: bufio.NewReaderSize(c, 64<<10), skip: make([]byte, 64<<10)}, nil
}

// appendCommand appends a command in Redis's protocol.
func appendCommand(dst []byte, args ...string) []byte {
	dst = fmt.Appendf(dst, "*%d\r\n", len(args))
	for _, a := range args {
		dst = append(fmt.Appendf(dst, "$%d\r\n", len(a)), a...)
		dst = append(dst, '\r', '\n')
	}
	return dst
}

// do sends commands, already in the protocol, and reads their n answers. It returns how many strings are in them, and fails when
// one is an error.
func (c *redisConn) do(commands []byte, n int) (texts int, err error) {
	if _, err := c.Write(commands); err != nil {
		return 0, err
	}
	for range n {
		t, err := c.answer()
		if err != nil {
			return 0, err
		}
		texts += t
	}
	return texts, nil
}

// answer reads one answer and tells how many strings are in it.
func (c *redisConn) answer() (texts int, err error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 3 {
		return 0, fmt.Errorf("redis answered %q", line)
	}
	kind, rest := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+', ':':
		return 0, nil
	case '-':
		return 0, fmt.Errorf("redis answered: %s", rest)
	case '$', '*':
	default:
		return 0, fmt.Errorf("redis answered %q", line)
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return 0, err
	}
	if kind == '$' {
		if n < 0 {
			return 0, nil
		}
		for left := n + 2; left > 0; {
			m, err := io.ReadFull(c.r, c.skip[:min(left, len(c.skip))])
			if err != nil {
				return 0, err
			}
			left -= m
		}
		return 1, nil
	}
	for range n {
		t, err := c.answer()
		if err != nil {
			return 0, err
		}
		texts += t
	}
	return texts, nil
}

// natsConn is a connection to NATS with an inbox. It is for one goroutine.
type natsConn struct {
	net.Conn
	r    *bufio.Reader
	body []byte
}

const inbox = "_INBOX.bench"

// dialNATS connects. The inbox has the connection's own port in its name: messages to it come here alone.
func dialNATS(addr string) (*natsConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	n := &natsConn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}
	_, err = fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"go\",\"version\":\"1\",\"protocol\":1}\r\nSUB %s 1\r\n", n.inbox())
	if err != nil {
		c.Close()
		return nil, err
	}
	return n, nil
}

func (c *natsConn) inbox() string {
	return inbox + "." + strconv.Itoa(c.LocalAddr().(*net.TCPAddr).Port)
}

// publication is the text that publishes a message which the server is to acknowledge.
func (c *natsConn) publication(subject string, body []byte) []byte {
	b := fmt.Appendf(nil, "PUB %s %s %d\r\n", subject, c.inbox(), len(body))
	return append(append(b, body...), '\r', '\n')
}

// request publishes and reads the answer.
func (c *natsConn) request(subject string, body []byte) ([]byte, error) {
	return c.do(c.publication(subject, body))
}

// do sends a publication and reads what comes to the inbox. It is valid until the next call.
func (c *natsConn) do(publication []byte) ([]byte, error) {
	if _, err := c.Write(publication); err != nil {
		return nil, err
	}
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return nil, err
		}
		switch {
		case bytes.HasPrefix(line, []byte("INFO")), bytes.HasPrefix(line, []byte("PONG")), bytes.HasPrefix(line, []byte("+OK")):
		case bytes.HasPrefix(line, []byte("PING")):
			if _, err := io.WriteString(c, "PONG\r\n"); err != nil {
				return nil, err
			}
		case bytes.HasPrefix(line, []byte("MSG ")):
			f := bytes.Fields(line)
			n, err := strconv.Atoi(string(f[len(f)-1]))
			if err != nil {
				return nil, err
			}
			if cap(c.body) < n+2 {
				c.body = make([]byte, n+2)
			}
			_, err = io.ReadFull(c.r, c.body[:n+2])
			return c.body[:n], err
		default:
			return nil, fmt.Errorf("NATS said %.200q", line)
		}
	}
}
