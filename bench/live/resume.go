//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"

	"killfeed"
	"killfeed/bench/internal/killmails"
	"killfeed/bench/internal/suite"
	"killfeed/pebblestore"
)

// behind is how many events a resuming subscriber has missed.
const behind = 1000

// resume measures how soon a subscriber that comes back gets the first event that it has missed, out of a large log.
func resume(ctx context.Context, b *bench) ([]suite.Result, error) {
	dir, remove, err := killmails.Clone(ctx, b.Work, b.Events)
	if err != nil {
		return nil, err
	}
	defer remove()
	system := killmails.New().System(0)
	spots := []struct {
		name, topic string
		after       killfeed.EventID
	}{
		{"the busiest system", fmt.Sprintf("system:%d", system), 0},
		{"all", "all", 0},
	}
	if spots[0].after, err = newest(dir, killfeed.System(system)); err != nil {
		return nil, err
	}
	if spots[1].after, err = newest(dir, killfeed.All()); err != nil {
		return nil, err
	}
	t, err := b.killfeed(ctx, dir)
	if err != nil {
		return nil, err
	}
	c := &comeback{
		target: t, buf: make([]byte, 128<<10), at: make([]int64, 0, behind),
		answer: bufio.NewReaderSize(nil, 128<<10), body: bufio.NewReaderSize(nil, 1<<20), // a line is an event
	}
	var names []string
	var sides []func() (resumed, error)
	for _, spot := range spots {
		var cursor string
		if cursor, err = t.cursor(spot.after); err != nil {
			break
		}
		for _, kind := range []struct {
			name string
			join func(topic, cursor string) (join, error)
		}{
			{"WebSocket", c.socket},
			{"SSE", c.stream},
		} {
			names = append(names, fmt.Sprintf("over %s, %d events of %s behind", kind.name, behind, spot.name))
			sides = append(sides, func() (resumed, error) {
				return repeat(ctx, b.joins, func() (join, error) { return kind.join(spot.topic, cursor) })
			})
		}
	}
	var rounds [][]resumed
	if err == nil {
		rounds, err = suite.Turns(ctx, b.Rounds, sides...)
	}
	if err := errors.Join(err, t.stop()); err != nil {
		return nil, err
	}
	var rs []suite.Result
	for i, name := range names {
		const most = 10 // ms
		p99s := column(rounds[i], func(r resumed) float64 { return r.p99 })
		p99 := suite.Median(p99s)
		rs = append(rs, suite.Result{
			Measure: fmt.Sprintf("resume %s, %d stored: p99 to the first", name, b.Events),
			Ours:    fmt.Sprintf("%.2f ms", p99), Yardstick: fmt.Sprintf("%d ms", most), Ratio: most / p99,
			Want: fmt.Sprintf("at most %d ms", most), Met: p99 <= most,
			Note: fmt.Sprintf("%d rounds of %d joins, spread %.0f%%; p50 %.2f ms; all %d events within %.0f ms (p50)", len(p99s), b.joins,
				100*suite.Spread(p99s), suite.Median(column(rounds[i], func(r resumed) float64 { return r.p50 })),
				behind, suite.Median(column(rounds[i], func(r resumed) float64 { return r.all }))),
		})
	}
	return rs, nil
}

// newest is the id behind which a log that is closed has so many events on a topic.
func newest(dir string, topic killfeed.Topic) (id killfeed.EventID, err error) {
	store, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	head := store.State().Head
	if topic == killfeed.All() {
		return head - behind, nil
	}
	entries, err := store.Find(nil, killfeed.Query{Positions: []killfeed.Position{{Topic: topic}}, Through: head, Max: int(head)})
	if err != nil {
		return 0, err
	}
	if len(entries) < behind {
		return 0, fmt.Errorf("the log has %d events of %v only: -events must be more", len(entries), topic)
	}
	return entries[len(entries)-behind].ID - 1, nil
}

// cursor makes the cursor of an event id.
func (t *target) cursor(after killfeed.EventID) (string, error) {
	status, body, err := t.server.Get("/api/killfeed?topics=all&limit=1&after=" + fmt.Sprint(after))
	if err != nil {
		return "", err
	}
	var a struct {
		Epoch string `json:"epoch"`
	}
	if err := json.Unmarshal(body, &a); err != nil || status != 200 || a.Epoch == "" {
		return "", fmt.Errorf("killfeed answered a poll with %d: %.300s", status, body)
	}
	return fmt.Sprintf("%d-%s", after, a.Epoch), nil
}

// join is what one join found: how long it took to the first bytes of the first event, and to the end of the last one.
type join struct{ first, all time.Duration }

// resumed is what a round of joins found, in milliseconds.
type resumed struct{ p50, p99, all float64 }

// repeat joins n times, one after the other.
func repeat(ctx context.Context, n int, once func() (join, error)) (resumed, error) {
	var joins []join
	for range n {
		if ctx.Err() != nil {
			return resumed{}, context.Cause(ctx)
		}
		var j join
		err := politely(ctx, func() (err error) {
			j, err = once()
			return err
		})
		if err != nil {
			return resumed{}, err
		}
		joins = append(joins, j)
	}
	first := column(joins, func(j join) float64 { return float64(j.first) / 1e6 })
	slices.Sort(first)
	return resumed{first[n/2], first[n*99/100], suite.Median(column(joins, func(j join) float64 { return float64(j.all) / 1e6 }))}, nil
}

// comeback is a subscriber that comes back again and again. It keeps its memory: collecting garbage would show in the times.
type comeback struct {
	*target
	buf          []byte
	at           []int64
	answer, body *bufio.Reader
}

// socket joins on a new connection. Time runs from the join on; the connection is there.
func (c *comeback) socket(topic, cursor string) (join, error) {
	s, err := c.open(0)
	if err != nil {
		return join{}, err
	}
	defer s.close()
	if err := s.upgrade(); err != nil {
		return join{}, err
	}
	s.stamp, s.at = true, c.at[:0]
	hello := appendFrame(nil, opText, fmt.Sprintf(`["1","1",%q,"phx_join",{"after":%q}]`, topic, cursor))
	start := now()
	if err := s.write(hello); err != nil {
		return join{}, err
	}
	for s.count < behind {
		n, err := s.read(c.buf)
		if err != nil {
			return join{}, fmt.Errorf("%w, after %d of %d events", err, s.count, behind)
		}
		if err := s.take(c.buf[:n]); err != nil {
			return join{}, err
		}
	}
	if s.count != behind {
		return join{}, fmt.Errorf("killfeed sent %d events, not %d", s.count, behind)
	}
	return join{time.Duration(s.first - start), time.Duration(s.at[behind-1] - start)}, nil
}

// stream asks for a stream on a new connection. Time runs from the request on; the connection is there.
func (c *comeback) stream(topic, cursor string) (j join, err error) {
	conn, err := net.DialTimeout("tcp", c.server.Addr, patience)
	if err != nil {
		return j, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	request := fmt.Appendf(nil, "GET /api/killfeed/stream?topics[]=%s&after=%s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n",
		topic, cursor)
	c.answer.Reset(conn)
	start := now()
	if _, err := conn.Write(request); err != nil {
		return j, err
	}
	answer, err := http.ReadResponse(c.answer, nil)
	if err != nil {
		return j, err
	}
	if answer.StatusCode != 200 {
		err := fmt.Errorf("killfeed answered a stream with %s", answer.Status)
		if seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After")); seconds > 0 {
			return j, refused{err, time.Duration(seconds) * time.Second}
		}
		return j, err
	}
	c.body.Reset(answer.Body)
	for events := 0; events < behind; {
		line, err := c.body.ReadSlice('\n')
		switch {
		case err != nil:
			return j, fmt.Errorf("reading a stream: %w, after %d of %d events", err, events, behind)
		case bytes.HasPrefix(line, []byte("event: gap")):
			return j, errors.New("killfeed told of a gap where there is none")
		case !bytes.HasPrefix(line, []byte("event: new_killmail")):
			continue
		}
		if j.all = time.Duration(now() - start); events == 0 {
			j.first = j.all
		}
		events++
	}
	return j, nil
}
