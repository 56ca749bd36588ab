package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// stream is a subscriber of all killmails by server-sent events. It sees to it that ids rise by one, so none is missing and none
// comes twice, also when it goes on at another node. It is for one goroutine.
type stream struct {
	conn   net.Conn
	body   *bufio.Reader
	cursor string // of the last event; empty before the first
	id     int    // of the last event
}

// patience bounds every wait for a server that should send something.
const patience = 30 * time.Second

// open connects to a node and waits until the stream has begun: behind the last event, if there was one, else at the log's end.
func (s *stream) open(ctx context.Context, n *node) (err error) {
	var d net.Dialer
	if s.conn, err = d.DialContext(ctx, "tcp", n.Addr); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	s.conn.SetDeadline(time.Now().Add(patience))
	last := ""
	if s.cursor != "" {
		last = "Last-Event-ID: " + s.cursor + "\r\n"
	}
	_, err = fmt.Fprintf(s.conn, "GET /api/killfeed/stream?topics=all HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%s\r\n", last)
	if err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(s.conn), nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s to a subscriber", n.name, answer.Status)
	}
	s.body = bufio.NewReaderSize(answer.Body, 16<<10)
	if kind, _, err := s.event(); err != nil || kind != "open" {
		return fmt.Errorf("%s began a stream with %q: %w", n.name, kind, err)
	}
	return nil
}

func (s *stream) close() {
	if s.conn != nil {
		s.conn.Close()
	}
}

// event reads one event; comments and what is no event it passes over.
func (s *stream) event() (kind, id string, err error) {
	for {
		line, err := s.body.ReadSlice('\n')
		if err != nil {
			return "", "", err
		}
		line = bytes.TrimRight(line, "\r\n")
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case len(line) == 0 && kind != "":
			return kind, id, nil
		case string(name) == "event":
			kind = string(value)
		case string(name) == "id":
			id = string(value)
		}
	}
}

// next reads the next killmail.
func (s *stream) next() error {
	kind, cursor, err := s.event()
	if err != nil {
		return err
	}
	digits, _, _ := bytes.Cut([]byte(cursor), []byte("-"))
	id, err := strconv.Atoi(string(digits))
	if kind != "new_killmail" || err != nil || s.id != 0 && id != s.id+1 {
		return fmt.Errorf("a subscriber got event %q with id %q after event %d", kind, cursor, s.id)
	}
	s.id, s.cursor = id, cursor
	return nil
}

// crowd are subscribers of one feed.
type crowd []*stream

// gather connects n subscribers to each node.
func gather(ctx context.Context, n int, nodes ...*node) (c crowd, err error) {
	c = make(crowd, n*len(nodes))
	for i := range c {
		c[i] = &stream{}
		if err := c[i].open(ctx, nodes[i%len(nodes)]); err != nil {
			c.close()
			return nil, err
		}
	}
	return c, nil
}

func (c crowd) close() {
	for _, s := range c {
		if s != nil {
			s.close()
		}
	}
}

// together makes sure that all have come to the same event, so that none has read more or less than its share.
func (c crowd) together() error {
	for i, s := range c {
		if s.id != c[0].id {
			return fmt.Errorf("subscriber %d is at event %d, and another one at %d", i, s.id, c[0].id)
		}
	}
	return nil
}

// arrival is when something came, since the reading began.
type arrival struct{ first, last time.Duration }

// read has each subscriber read n killmails, which send hands in meanwhile.
func (c crowd) read(n int, send func() error) (a arrival, err error) {
	at := make([]arrival, len(c))
	for _, s := range c {
		s.conn.SetDeadline(time.Now().Add(patience))
	}
	began := time.Now()
	var g errgroup.Group
	for i, s := range c {
		g.Go(func() error {
			for k := range n {
				if err := s.next(); err != nil {
					return fmt.Errorf("subscriber %d: %w", i, err)
				}
				if k == 0 {
					at[i].first = time.Since(began)
				}
			}
			at[i].last = time.Since(began)
			return nil
		})
	}
	g.Go(send)
	if err := g.Wait(); err != nil {
		return a, err
	}
	a = at[0]
	for _, one := range at {
		a.first, a.last = min(a.first, one.first), max(a.last, one.last)
	}
	return a, nil
}
