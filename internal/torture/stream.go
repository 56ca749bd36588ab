package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// stream is a client of Server-Sent Events on all events that resumes with the id of the last one it got. So it gets each exactly
// once, whatever was on its way when the server died: an event that is not the one behind its last is a violation.
type stream struct {
	world *world
	name  string

	// lastID is the last id that came, as the next request sends it; last the event it belongs to.
	lastID string
	last   uint64
}

// step listens until the server does not answer any more.
func (s *stream) step() bool {
	_ = s.listen(context.Background(), func() bool { return false })
	return false
}

// listen reads the stream until enough says so, which it is asked at the beginning and after each event, or the connection ends, which
// is an error.
func (s *stream) listen(ctx context.Context, enough func() bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addr, client := s.world.srv.at()
	path := "/api/killfeed/stream?topics=all&start=earliest&client_id=" + url.QueryEscape(s.name)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+addr+path, nil)
	if err != nil {
		return err
	}
	if s.lastID != "" {
		req.Header.Set("Last-Event-ID", s.lastID)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w answers the stream %s with %s", errServer, s.name, resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	var id, kind string
	var data []byte
	for lines.Scan() {
		field, value, _ := bytes.Cut(lines.Bytes(), []byte(": "))
		switch string(field) {
		case "id":
			id = string(value)
		case "event":
			kind = string(value)
		case "data":
			data = bytes.Clone(value)
		case "":
			if kind == "" {
				continue // the end of a comment
			}
			if err := s.take(id, kind, data); err != nil {
				return err
			}
			if id, kind, data = "", "", nil; enough() {
				return nil
			}
		}
	}
	return errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}

// take notes what came.
func (s *stream) take(id, kind string, data []byte) error {
	o := s.world.oracle
	switch kind {
	case "open":
		var open struct {
			Start uint64
			Epoch string
			Gap   json.RawMessage
		}
		if err := json.Unmarshal(data, &open); err != nil {
			return fmt.Errorf("%w opens the stream with %q: %w", errServer, data, err)
		}
		if open.Gap != nil || open.Start != s.last+1 {
			o.violate("events skipped", "stream %s has had everything up to %d and is opened with %s", s.name, s.last, data)
		}
		if s.lastID == "" {
			s.lastID = fmt.Sprintf("%d-%s", open.Start-1, open.Epoch)
		}
	case "new_killmail":
		var e event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%w sends %q: %w", errServer, data, err)
		}
		switch {
		case e.EventID > s.last+1:
			o.violate("events skipped", "stream %s gets event %d behind %d", s.name, e.EventID, s.last)
		case e.EventID <= s.last:
			o.violate("committed events repeated", "stream %s gets event %d behind %d", s.name, e.EventID, s.last)
		}
		o.means(e.EventID, e.Killmail.ID)
		s.last, s.lastID = e.EventID, id
	default:
		o.violate("events skipped", "stream %s is told %s: %s", s.name, kind, data)
	}
	return nil
}

// register opens the stream once.
func (s *stream) register(ctx context.Context) error {
	return s.listen(ctx, func() bool { return true })
}

// finish listens until the head has come.
func (s *stream) finish(ctx context.Context, head uint64) error {
	for s.last < head {
		if err := s.listen(ctx, func() bool { return s.last >= head }); err != nil {
			return fmt.Errorf("%w: stream %s ends at event %d of %d: %w", errServer, s.name, s.last, head, err)
		}
	}
	return nil
}

// queue is a program made for RedisQ. It knows no event ids, only killmails: each must come, and none again that came over a second
// before a kill. Of an answer that was on its way at a kill it may lose the one killmail.
type queue struct {
	world *world
	name  string

	got    map[int64]bool // killmails
	fresh  map[int64]bool // those of them that may come again
	recent []taken        // in this life of the server
	cutOff bool           // the last request was not answered
	cuts   int            // answers that were on their way at a kill
}

type taken struct {
	id int64
	at time.Time
}

// step asks for the next killmail.
func (q *queue) step() bool {
	_, ok := q.ask(1)
	return ok
}

// ask asks for the next killmail, and waits for it as many seconds; any is false when there is none.
func (q *queue) ask(wait int) (any, ok bool) {
	var answer struct {
		Package *struct {
			KillID int64 `json:"killID"`
		} `json:"package"`
	}
	_, err := q.world.srv.call("GET", fmt.Sprintf("/listen.php?queueID=%s&ttw=%d", url.QueryEscape(q.name), wait), nil, &answer)
	if q.cutOff = err != nil; q.cutOff {
		return false, false
	}
	if answer.Package == nil {
		return false, true
	}
	id := answer.Package.KillID
	if q.got[id] && !q.fresh[id] {
		q.world.oracle.violate("committed events repeated", "queue %s gets killmail %d again", q.name, id)
	}
	if q.got[id] {
		q.world.oracle.again()
	} else {
		clear(q.fresh) // they stand before it in the log, so they cannot come any more
	}
	delete(q.fresh, id)
	q.got[id] = true
	q.recent = append(q.recent, taken{id, time.Now()})
	return true, true
}

// killed is called after the server died at the given time: see reader.killed.
func (q *queue) killed(at time.Time) {
	for _, t := range q.recent {
		if t.at.After(at.Add(-time.Second)) {
			q.fresh[t.id] = true
		}
	}
	q.recent = q.recent[:0]
	if q.cutOff {
		q.cuts++
		q.cutOff = false
	}
}

// finish takes out all that is left, and checks that nothing was left out but what the cut answers may have held.
func (q *queue) finish(ctx context.Context) error {
	for ctx.Err() == nil {
		switch more, ok := q.ask(1); {
		case !ok:
			return fmt.Errorf("%w does not answer queue %s", errServer, q.name)
		case !more:
			o := q.world.oracle
			o.mu.Lock()
			defer o.mu.Unlock()
			missing := 0
			for id := range o.acked {
				if q.got[id] {
					continue
				}
				if missing++; missing > q.cuts {
					o.violateLocked("events skipped", "queue %s never got killmail %d", q.name, id)
				} else {
					o.lost++
				}
			}
			return nil
		}
	}
	return ctx.Err()
}
