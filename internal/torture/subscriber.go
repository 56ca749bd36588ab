package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// subscriber has a stream of Server-Sent Events, and goes on by its cursor at another node when that breaks.
type subscriber struct {
	*crowd
	rnd  *rand.Rand
	host int

	place  atomic.Uint64 // the last event that came
	cursor string
	broken time.Time // when the node that it was at was killed; zero otherwise
}

// idle is after how long without an event another node is asked.
const idle = 5 * time.Second

func (s *subscriber) run(ctx context.Context) {
	for ctx.Err() == nil {
		began := time.Now()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		s.judge.count("streams that broke", 1)
		if killed := s.all[s.host].killedAt(); killed.After(began) && s.broken.IsZero() && errors.Is(err, errBroken) {
			s.broken = killed
		}
		s.host = servers + (s.host-servers+1+s.rnd.IntN(nodes-1))%nodes
		sleep(ctx, 20*time.Millisecond)
	}
}

// errBroken: the stream was there, and is no more.
var errBroken = errors.New("the stream broke")

// follow reads one stream until it ends.
func (s *subscriber) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// A node that is stopped or cut off says nothing, and neither does its connection.
	silent := time.AfterFunc(idle, cancel)
	defer silent.Stop()
	path := "/api/killfeed/stream?topics=all&updates=1&after=0"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(s.host)+path, nil)
	if err != nil {
		return err
	}
	if s.cursor != "" {
		req.Header.Set("Last-Event-ID", s.cursor)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		return s.failed(ctx, "a stream", resp.StatusCode, fmt.Errorf("%d: %.300s", resp.StatusCode, b))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var kind, id, data string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			kind = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if lines.Text() != "" || kind == "" {
				break
			}
			silent.Reset(idle)
			s.take(kind, id, data)
			kind, id, data = "", "", ""
		}
	}
	return fmt.Errorf("%w: %w", errBroken, lines.Err())
}

func (s *subscriber) take(kind, id, data string) {
	at := s.all[s.host].name
	switch kind {
	case "open":
		if strings.Contains(data, `"gap"`) {
			s.judge.violate("live: not the next event", "a stream at node %s from %s opens with %s", at, s.cursor, data)
		}
		if id != "" {
			s.cursor = id
		}
	case "new_killmail":
		e, err := decode([]byte(data))
		if err != nil {
			s.judge.violate("live: not the next event", "%v", err)
			return
		}
		if last := s.place.Load(); e.EventID != last+1 {
			s.judge.violate("live: not the next event", "a stream at node %s brings event %d behind event %d, cursor %s", at, e.EventID, last, s.cursor)
		}
		s.judge.means(e)
		s.place.Store(e.EventID)
		s.cursor = id
		if !s.broken.IsZero() {
			s.judge.took("kill of a node to the next event of its streams elsewhere", time.Since(s.broken))
			s.broken = time.Time{}
		}
	default:
		s.judge.violate("live: not the next event", "a stream at node %s says %s: %s", at, kind, data)
	}
}
