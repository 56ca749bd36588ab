//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// transport is how a subscriber is connected.
type transport int

const (
	socketV2 transport = iota
	socketV1
	sse
	ndjson
	longpoll // Phoenix over long polls
	poll     // /api/killfeed with a cursor
)

var transportNames = [...]string{"websocket-v2", "websocket-v1", "sse", "ndjson", "longpoll", "poll"}

// session is one connection, from the first byte to the last. ctx ends it.
func (s *subscriber) session(ctx context.Context) error {
	switch s.transport {
	case longpoll:
		return s.longpoll(ctx)
	case poll:
		return s.poll(ctx)
	}
	c, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	s.heard.Store(now())
	s.conn.Store(c)
	defer s.conn.Store(nil)
	switch s.transport {
	case sse, ndjson:
		return s.stream(ctx, c)
	}
	return s.socket(ctx, c)
}

// socketKey is the RFC's example, as good as any here.
const socketKey = "dGhlIHNhbXBsZSBub25jZQ=="

// socket is a session of Phoenix over a WebSocket.
func (s *subscriber) socket(ctx context.Context, c *conn) error {
	target := "/socket/websocket?vsn=2.0.0"
	if s.transport == socketV1 {
		target = "/socket/websocket"
	}
	_, err := c.request(target, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+
		socketKey+"\r\n", http.StatusSwitchingProtocols)
	if err != nil {
		return err
	}
	var writing sync.Mutex
	write := func(op byte, payload []byte) error {
		writing.Lock()
		defer writing.Unlock()
		c.SetWriteDeadline(time.Now().Add(writeWithin))
		_, err := c.Write(appendFrame(nil, op, payload))
		return err
	}
	t := s.newTalk(s.transport == socketV1, func(text []byte) error { return write(opText, text) })
	if err := t.join(); err != nil {
		return err
	}
	s.talk.Store(t)
	defer s.talk.Store(nil)
	in := frames{r: c.r}
	for {
		op, payload, err := in.next()
		if err != nil {
			return err
		}
		at := now()
		s.heard.Store(at)
		switch op {
		case opText:
			event, err := t.receive(payload, at)
			if err != nil {
				return err
			}
			if event || t.left == 0 {
				s.pace(ctx, event)
			}
		case opClose:
			e := &closed{code: 1005}
			if len(payload) >= 2 {
				e.code, e.reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
			}
			write(opClose, payload)
			return e
		case opPing:
			if err := write(opPong, payload); err != nil {
				return err
			}
		case opPong:
		default:
			return t.broken("sent a frame with the opcode %d", op)
		}
	}
}

// stream is a session of server-sent events or NDJSON.
func (s *subscriber) stream(ctx context.Context, c *conn) error {
	f := s.feeds[0]
	q, headers := f.query(), ""
	for _, p := range f.position() {
		if p[0] == "after" && s.transport == sse {
			headers = "Last-Event-ID: " + p[1] + "\r\n"
			continue
		}
		q.Set(p[0], p[1])
	}
	if s.transport == ndjson {
		headers += "Accept: application/x-ndjson\r\n"
	}
	acked := s.world.oracle.acked.Load()
	resp, err := c.request("/api/killfeed/stream?"+q.Encode(), headers, http.StatusOK)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := lines{r: bufio.NewReaderSize(resp.Body, c.r.Size())}
	take := s.takeEvents
	if s.transport == ndjson {
		take = s.takeLine
	}
	var e serverSent
	for {
		line, err := in.next()
		if err != nil {
			return err
		}
		at := now()
		s.heard.Store(at)
		event, err := take(ctx, &e, line, at, acked)
		if err != nil {
			return err
		}
		if event || e.joined {
			e.joined = false
			s.pace(ctx, event)
		}
	}
}

// serverSent is what has come of a server-sent event.
type serverSent struct {
	id, event string
	data      bool // it had some
	joined    bool // the stream has just begun
}

// takeEvents takes a line of server-sent events.
func (s *subscriber) takeEvents(ctx context.Context, e *serverSent, line []byte, at int64, acked uint64) (event bool, err error) {
	f := s.feeds[0]
	name, value, _ := bytes.Cut(line, []byte{':'}) // a comment has no name
	value = bytes.TrimPrefix(value, []byte{' '})
	switch string(name) {
	case "":
		if len(line) == 0 { // the end of an event
			if !e.data && e.id != "" {
				f.moved([]byte(e.id))
			}
			*e = serverSent{}
		}
	case "retry":
	case "id":
		e.id = string(value)
	case "event":
		e.event = string(value)
	case "data":
		e.data = true
		return s.takeObject(ctx, e, value, at, acked)
	default:
		s.world.oracle.violate(promiseFrames, "%s: a line %.100q", s.name, line)
		return false, errBroken
	}
	return false, nil
}

var ndjsonEvent = []byte(`{"type":"new_killmail",`)

// takeLine takes a line of NDJSON.
func (s *subscriber) takeLine(ctx context.Context, e *serverSent, line []byte, at int64, acked uint64) (event bool, err error) {
	*e = serverSent{}
	if bytes.HasPrefix(line, ndjsonEvent) {
		e.event = "new_killmail"
		return s.takeObject(ctx, e, line, at, acked)
	}
	var head struct{ Type, Cursor string }
	if err := json.Unmarshal(line, &head); err != nil {
		s.world.oracle.violate(promiseFrames, "%s: a line %.100q", s.name, line)
		return false, errBroken
	}
	if head.Type == "heartbeat" {
		s.feeds[0].moved([]byte(head.Cursor))
		return false, nil
	}
	e.event, e.id = head.Type, head.Cursor
	return s.takeObject(ctx, e, line, at, acked)
}

// takeObject takes what a stream sends as one JSON object.
func (s *subscriber) takeObject(ctx context.Context, e *serverSent, text []byte, at int64, acked uint64) (event bool, err error) {
	f := s.feeds[0]
	switch e.event {
	case "new_killmail":
		s.delivered.Add(1)
		if e.id != "" {
			before, _, _ := strings.Cut(e.id, "-")
			if !bytes.Contains(text[:min(len(text), 64)], []byte(`"event_id":`+before+",")) {
				s.world.oracle.violate(promiseCursor, "%s: the id is %s of an event that begins %.40q", s.name, e.id, text)
			}
		}
		if id := f.take(text, at); id > 0 {
			return true, s.commit(ctx, f, id)
		}
		return true, nil
	case "open":
		var p place
		if err := json.Unmarshal(text, &p); err != nil {
			s.world.oracle.violate(promiseFrames, "%s: begins with %.100q: %v", s.name, text, err)
			return false, errBroken
		}
		if c, err := parseCursor([]byte(e.id)); err == nil {
			p.Cursor = c.String() // without a nonce
		}
		f.joined(&p, acked)
		e.joined = true
		s.arrived()
	case "gap":
		s.world.oracle.violate(promiseGap, "%s: is told a gap: %s", s.name, text)
	default:
		s.world.oracle.violate(promiseFrames, "%s: an event %q: %.100q", s.name, e.event, text)
		return false, errBroken
	}
	return false, nil
}

// commit commits over a request of its own, as clients of streams do.
func (s *subscriber) commit(ctx context.Context, f *feed, id uint64) error {
	offsets := map[string]uint64{}
	for t := range f.set.topics { // which nobody changes: durable feeds are not updated
		offsets[t.String()] = id
	}
	body := mustJSON(map[string]any{"client_id": f.client, "offsets": offsets})
	err := s.call(ctx, "POST", "/api/killfeed/commit", nil, body, nil)
	if err == nil {
		f.committed(id)
	}
	return err
}

// longpoll is a session of Phoenix over long polls.
func (s *subscriber) longpoll(ctx context.Context) error {
	const path = "/socket/longpoll?vsn=2.0.0"
	var a struct {
		Status   int
		Token    string
		Messages []string
	}
	if err := s.call(ctx, "GET", path, nil, nil, &a); err != nil {
		return err
	}
	if a.Status == http.StatusInternalServerError { // the server is not ready
		return &refused{status: http.StatusServiceUnavailable}
	}
	if a.Status != http.StatusGone || a.Token == "" {
		s.world.oracle.violate(promiseFrames, "%s: a session begins with the status %d", s.name, a.Status)
		return errBroken
	}
	headers := http.Header{"X-Phoenix-Longpoll-Token": {a.Token}, "Content-Type": {"application/x-ndjson"}}
	t := s.newTalk(false, func(text []byte) error {
		var sent struct{ Status int }
		err := s.call(ctx, "POST", path, headers, append(text, '\n'), &sent)
		if err == nil && sent.Status != http.StatusOK {
			err = fmt.Errorf("a message was answered with %d", sent.Status)
		}
		return err
	})
	if err := t.join(); err != nil {
		return err
	}
	for {
		s.heard.Store(now())
		a.Messages = nil
		if err := s.call(ctx, "GET", path, headers, nil, &a); err != nil {
			return err
		}
		at := now()
		switch a.Status {
		case http.StatusOK, http.StatusNoContent:
		case http.StatusGone, http.StatusInternalServerError:
			return io.EOF // the session is over
		default:
			return t.broken("answered a long poll with the status %d", a.Status)
		}
		for _, m := range a.Messages {
			if _, err := t.receive([]byte(m), at); err != nil {
				return err
			}
		}
	}
}

// poll is a session of polls with a cursor, each of which waits for events.
func (s *subscriber) poll(ctx context.Context) error {
	f := s.feeds[0]
	for first := true; ; first = false {
		s.heard.Store(now())
		acked := s.world.oracle.acked.Load()
		q := f.query()
		q.Set("limit", "100")
		q.Set("wait", "10")
		f.mu.Lock()
		after := f.at
		f.mu.Unlock()
		if after.epoch == "" {
			q.Set("after", "0")
		} else {
			q.Set("after", after.String())
		}
		if first {
			q.Del("wait") // to know at once that the server is there
		}
		var page struct {
			Events []struct {
				ID       uint64 `json:"event_id"`
				Killmail struct {
					ID int64 `json:"killmail_id"`
				} `json:"killmail"`
			} `json:"events"`
			Head  uint64          `json:"head"`
			Epoch string          `json:"epoch"`
			Next  string          `json:"next"`
			Gap   json.RawMessage `json:"gap"`
		}
		if err := s.call(ctx, "GET", "/api/killfeed?"+q.Encode(), nil, nil, &page); err != nil {
			return err
		}
		at := now()
		if first {
			f.joined(&place{Head: page.Head, Epoch: page.Epoch, Start: after.after + 1, Gap: page.Gap,
				Cursor: cursor{after.after, page.Epoch}.String()}, acked)
			s.arrived()
		} else if page.Gap != nil {
			s.world.oracle.violate(promiseGap, "%s: is told a gap: %s", s.name, page.Gap)
		}
		for _, e := range page.Events {
			s.delivered.Add(1)
			f.takeEvent(e.ID, e.Killmail.ID, at)
		}
		f.moved([]byte(page.Next))
	}
}

// call sends a request over a shared client and decodes the answer into v, if there is one. An answer that is none of the
// server's good ones is a *refused.
func (s *subscriber) call(ctx context.Context, method, target string, headers http.Header, body []byte, v any) error {
	resp, err := s.world.send(ctx, method, target, headers, body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || v == nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		s.world.oracle.violate(promiseFrames, "%s: %s %s was answered with %.200q: %v", s.name, method, target, b, err)
		return errBroken
	}
	return nil
}

// send sends a request. Connections to a killed server are of no use to the next one: its client is another one.
func (w *world) send(ctx context.Context, method, target string, headers http.Header, body []byte) (*http.Response, error) {
	u := url.URL{Scheme: "http", Host: w.gate.address()}
	req, err := http.NewRequestWithContext(ctx, method, u.String()+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if headers != nil {
		req.Header = headers.Clone()
	}
	return w.client.Load().Do(req)
}

// endOf tells how a session ended, for the account of it.
func endOf(err error) string {
	var (
		frame *closed
		no    *refused
	)
	switch {
	case errors.As(err, &frame):
		return fmt.Sprint(frame.code)
	case errors.As(err, &no):
		return fmt.Sprint("refused ", no.status)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "eof"
	case errors.Is(err, errBroken):
		return "broken"
	}
	return "reset"
}
