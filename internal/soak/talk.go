//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"killfeed"
)

// talk is a client's side of one Phoenix connection, whatever carries it.
type talk struct {
	s    *subscriber
	v1   bool
	send func(text []byte) error // may be called by two goroutines at once

	channels []*channel
	left     int // joins that are not answered yet; owned by the reader

	mu      sync.Mutex // guards the rest
	ref     int
	waiting map[string]answer
	beaten  time.Time // when the last heartbeat was sent
	updated time.Time // when the last update was
}

// channel is a feed on a connection.
type channel struct {
	*feed
	ref string // of its join
	// A push of an event stands between these.
	before, after []byte
}

// answer handles the answer to what a client sent.
type answer func(response json.RawMessage) error

const (
	// beatEvery is how often Phoenix's own client sends a heartbeat.
	beatEvery = 30 * time.Second
	// updateEvery is about how often a feed of many systems changes what it asks for.
	updateEvery = 25 * time.Second
)

func (s *subscriber) newTalk(v1 bool, send func([]byte) error) *talk {
	now := time.Now()
	return &talk{s: s, v1: v1, send: send, waiting: map[string]answer{}, beaten: now, updated: now}
}

// join joins the topics of all feeds.
func (t *talk) join() error {
	t.left = len(t.s.feeds)
	for _, f := range t.s.feeds {
		acked := t.s.world.oracle.acked.Load()
		c := &channel{feed: f}
		t.channels = append(t.channels, c)
		err := t.push(c, "phx_join", f.joinParams(), func(response json.RawMessage) error {
			var p place
			if err := json.Unmarshal(response, &p); err != nil {
				return fmt.Errorf("the answer to a join: %w", err)
			}
			f.joined(&p, acked)
			if t.left--; t.left == 0 {
				t.s.arrived()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// push sends a message. c is nil for those to the connection itself.
func (t *talk) push(c *channel, event string, payload []byte, then answer) error {
	t.mu.Lock()
	t.ref++
	ref := strconv.Itoa(t.ref)
	t.waiting[ref] = then
	if event == "phx_join" {
		c.ref = ref
		if t.v1 {
			c.before = []byte(`{"event":"new_killmail","payload":`)
			c.after = fmt.Appendf(nil, `,"ref":null,"topic":%s}`, mustJSON(c.topic))
		} else {
			c.before, c.after = fmt.Appendf(nil, `["%s",null,%s,"new_killmail",`, ref, mustJSON(c.topic)), []byte{']'}
		}
	}
	t.mu.Unlock()
	topic, joinRef := "phoenix", "null"
	if c != nil {
		topic, joinRef = c.topic, `"`+c.ref+`"`
	}
	if t.v1 {
		return t.send(fmt.Appendf(nil, `{"topic":%s,"event":"%s","payload":%s,"ref":"%s"}`, mustJSON(topic), event, payload, ref))
	}
	return t.send(fmt.Appendf(nil, `[%s,"%s",%s,"%s",%s]`, joinRef, ref, mustJSON(topic), event, payload))
}

// message is any message of the server's.
type message struct {
	JoinRef, Ref *string
	Topic, Event string
	Payload      json.RawMessage
}

// read decodes a message.
func (t *talk) read(text []byte) (m message, err error) {
	if t.v1 {
		return m, json.Unmarshal(text, &m)
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(text, &parts); err != nil {
		return m, err
	}
	if len(parts) != 5 {
		return m, fmt.Errorf("%d elements", len(parts))
	}
	m.Payload = parts[4]
	return m, errors.Join(json.Unmarshal(parts[0], &m.JoinRef), json.Unmarshal(parts[1], &m.Ref),
		json.Unmarshal(parts[2], &m.Topic), json.Unmarshal(parts[3], &m.Event))
}

// errBroken is a connection that does not say what it must. It was noted.
var errBroken = errors.New("the server broke its word")

// receive handles a message, and tells whether it was an event.
func (t *talk) receive(text []byte, at int64) (event bool, err error) {
	for _, c := range t.channels {
		if bytes.HasPrefix(text, c.before) && bytes.HasSuffix(text, c.after) {
			return true, t.took(c, text[len(c.before):len(text)-len(c.after)], at)
		}
	}
	m, err := t.read(text)
	if err != nil {
		return false, t.broken("sent %.200q: %v", text, err)
	}
	switch m.Event {
	case "phx_reply":
		return false, t.reply(&m)
	case "new_killmail": // in another form than expected, which is no mistake as long as it is clear whose it is
		for _, c := range t.channels {
			if m.Topic == c.topic && (m.JoinRef == nil || *m.JoinRef == c.ref) {
				return true, t.took(c, m.Payload, at)
			}
		}
	case "gap":
		t.s.world.oracle.violate(promiseGap, "%s %s: is told a gap: %s", t.s.name, m.Topic, m.Payload)
		return false, nil
	}
	return false, t.broken("sent %.200q", text)
}

func (t *talk) broken(format string, args ...any) error {
	t.s.world.oracle.violate(promiseFrames, "%s: %s", t.s.name, fmt.Sprintf(format, args...))
	return errBroken
}

// took takes an event, and commits when it is time to.
func (t *talk) took(c *channel, text []byte, at int64) error {
	t.s.delivered.Add(1)
	id := c.take(text, at)
	if id == 0 {
		return nil
	}
	return t.push(c, "commit", fmt.Appendf(nil, `{"event_id":%d}`, id), func(json.RawMessage) error {
		c.committed(id)
		return nil
	})
}

// reply handles an answer.
func (t *talk) reply(m *message) error {
	if m.Ref == nil {
		return t.broken("sent an answer to nothing: %s", m.Payload)
	}
	t.mu.Lock()
	then := t.waiting[*m.Ref]
	delete(t.waiting, *m.Ref)
	t.mu.Unlock()
	if then == nil {
		return t.broken("sent a second answer to %s: %s", *m.Ref, m.Payload)
	}
	var p struct {
		Status   string          `json:"status"`
		Response json.RawMessage `json:"response"`
	}
	if err := json.Unmarshal(m.Payload, &p); err != nil || p.Status != "ok" {
		return t.broken("refused: %s %s", m.Topic, m.Payload)
	}
	if err := then(p.Response); err != nil {
		return t.broken("answered %s: %v", m.Payload, err)
	}
	return nil
}

// look sends what is due: a heartbeat, or an update of what is asked for. all are the topics to choose from.
func (t *talk) look(now time.Time, rnd *rand.Rand, all []killfeed.Topic) {
	t.mu.Lock()
	beat := t.beaten.Before(now.Add(-beatEvery))
	if beat {
		t.beaten = now
	}
	update := t.updated.Before(now.Add(-updateEvery/2 - rand.N(updateEvery)))
	if update {
		t.updated = now
	}
	t.mu.Unlock()
	// Errors mean that the connection has ended, which its reader sees too.
	if beat {
		_ = t.push(nil, "heartbeat", []byte("{}"), func(json.RawMessage) error { return nil })
	}
	for _, c := range t.channels {
		if !update || c.topic != topicMany || c.keep != byCursor {
			continue
		}
		if payload := c.update(rnd, all); payload != nil {
			_ = t.push(c, "update", payload, func(response json.RawMessage) error {
				var p place
				if err := json.Unmarshal(response, &p); err != nil {
					return err
				}
				t.s.world.updates.Add(1)
				return c.updated(&p)
			})
		}
	}
}
