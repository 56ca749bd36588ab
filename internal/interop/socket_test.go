//go:build unix

package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// frame is a message of the Phoenix protocol. The refs are as on the wire, "null" if there is none.
type frame struct {
	JoinRef, Ref, Topic, Event, Payload string
}

// reply is the payload of a phx_reply.
type reply struct {
	Status   string
	Response answer
}

// dialect is how a client speaks that cannot be had here.
type dialect struct {
	name, query string
	// ref makes the n-th ref of a connection.
	ref    func(n int) string
	encode func(f frame) string
	decode func(text []byte) (frame, error)
	// joinRef is whether the server says which join its messages belong to.
	joinRef bool
}

var dialects = []dialect{
	{
		// An Elixir client of version 4: refs are integers, and have to come back as such.
		name: "phoenix_gen_socket_client", query: "heartbeat=30000&vsn=2.0.0", joinRef: true,
		ref: func(n int) string { return fmt.Sprint(n) },
		encode: func(f frame) string {
			return fmt.Sprintf("[%s,%s,%q,%q,%s]", f.JoinRef, f.Ref, f.Topic, f.Event, f.Payload)
		},
		decode: func(text []byte) (f frame, err error) {
			var parts []json.RawMessage
			if err := json.Unmarshal(text, &parts); err != nil || len(parts) != 5 {
				return f, fmt.Errorf("%d parts, want 5: %w", len(parts), err)
			}
			f = frame{JoinRef: string(parts[0]), Ref: string(parts[1]), Payload: string(parts[4])}
			return f, errors.Join(json.Unmarshal(parts[2], &f.Topic), json.Unmarshal(parts[3], &f.Event))
		},
	},
	{
		// A client of the first protocol: objects with four keys, and no join refs.
		name: "protocol 1.0.0", query: "vsn=1.0.0",
		ref: func(n int) string { return fmt.Sprintf(`"join_1764000000000_%d"`, n) },
		encode: func(f frame) string {
			return fmt.Sprintf(`{"topic":%q,"event":%q,"payload":%s,"ref":%s}`, f.Topic, f.Event, f.Payload, f.Ref)
		},
		decode: func(text []byte) (f frame, err error) {
			var object map[string]json.RawMessage
			if err := json.Unmarshal(text, &object); err != nil {
				return f, err
			}
			for _, key := range []string{"topic", "event", "payload", "ref"} {
				if object[key] == nil || len(object) != 4 {
					return f, errors.New("want the keys topic, event, payload and ref")
				}
			}
			f = frame{JoinRef: "null", Ref: string(object["ref"]), Payload: string(object["payload"])}
			return f, errors.Join(json.Unmarshal(object["topic"], &f.Topic), json.Unmarshal(object["event"], &f.Event))
		},
	},
}

// speaker is a client that speaks a dialect over one WebSocket.
type speaker struct {
	dialect
	conn   *websocket.Conn
	frames chan frame // closed behind err
	err    error
	refs   int
}

func newSpeaker(t *testing.T, s *server, d dialect) *speaker {
	t.Helper()
	conn, res, err := websocket.Dial(t.Context(), "ws://"+s.addr+"/socket/websocket?"+d.query, nil)
	if err != nil {
		t.Fatalf("%v (%+v)", err, res)
	}
	conn.SetReadLimit(1 << 20)
	c := &speaker{dialect: d, conn: conn, frames: make(chan frame, 64)}
	ctx, cancel := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(c.frames)
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				c.err = err
				return
			}
			f, err := c.decode(text)
			if err != nil {
				c.err = fmt.Errorf("%w in %s", err, text)
				return
			}
			select {
			case c.frames <- f:
			case <-ctx.Done():
				c.err = ctx.Err()
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		conn.CloseNow()
		reading.Wait()
	})
	return c
}

// send sends an event and returns its ref. A join's ref is its join ref.
func (c *speaker) send(t *testing.T, joinRef, topic, event, payload string) (ref string) {
	t.Helper()
	c.refs++
	ref = c.ref(c.refs)
	if event == "phx_join" {
		joinRef = ref
	}
	text := c.encode(frame{JoinRef: joinRef, Ref: ref, Topic: topic, Event: event, Payload: payload})
	if err := c.conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return ref
}

// next takes the next frame and puts its payload into v. Its refs, topic and event have to be these.
func (c *speaker) next(t *testing.T, joinRef, ref, topic, event string, v any) {
	t.Helper()
	want := frame{JoinRef: "null", Ref: ref, Topic: topic, Event: event}
	if c.joinRef {
		want.JoinRef = joinRef
	}
	select {
	case f, ok := <-c.frames:
		if !ok {
			t.Fatalf("disconnected: %v", c.err)
		}
		if f.JoinRef != want.JoinRef || f.Ref != want.Ref || f.Topic != want.Topic || f.Event != want.Event {
			t.Fatalf("next is %+v, want %+v", f, want)
		}
		if err := json.Unmarshal([]byte(f.Payload), v); err != nil || f.Payload[0] != '{' {
			t.Fatalf("payload %s: %v", f.Payload, err)
		}
	case <-time.After(patience):
		t.Fatalf("nothing comes, want %+v", want)
	}
}

// Clients that send no heartbeat of the protocol but ping the WebSocket, as Elixir ones do, stay connected for as long as
// they like, and are answered as before.
func TestQuiet(t *testing.T) {
	for _, d := range dialects {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			testQuiet(t, s, newSpeaker(t, s, d))
		})
	}
	t.Run("one who sends nothing at all", func(t *testing.T) {
		if !*long {
			t.Skip("it takes a minute: run it with -args -long")
		}
		t.Parallel()
		c := newSpeaker(t, newServer(t), dialects[0])
		for range c.frames {
		}
		if code := websocket.CloseStatus(c.err); code != websocket.StatusProtocolError {
			t.Errorf("disconnected with %v, want close code 1002", c.err)
		}
	})
}

func testQuiet(t *testing.T, s *server, c *speaker) {
	one, many := fmt.Sprintf("system:%d", thera), "killfeed"
	joinTopic := func(topic, payload string) (joinRef string) {
		t.Helper()
		joinRef = c.send(t, "", topic, "phx_join", payload)
		var joined reply
		if c.next(t, joinRef, joinRef, topic, "phx_reply", &joined); joined.Status != "ok" || len(joined.Response.Epoch) != 8 {
			t.Fatalf("join of %s: %+v", topic, joined)
		}
		return joinRef
	}
	replied := func(joinRef, ref, topic, status string) answer {
		t.Helper()
		var r reply
		if c.next(t, joinRef, ref, topic, "phx_reply", &r); r.Status != status {
			t.Fatalf("%+v, want %s", r, status)
		}
		return r.Response
	}
	// A reply without a join ref is a reply to a join for some clients, so that these have to have one.
	exchange := func(oneRef, manyRef string) {
		t.Helper()
		ref := c.send(t, manyRef, many, "update", `{"add":{"systems":[30000142]}}`)
		if topics := replied(manyRef, ref, many, "ok").Topics; topics != 2 {
			t.Errorf("%d topics, want 2", topics)
		}
		ref = c.send(t, oneRef, one, "update", `{"add":{"systems":[30000142]}}`)
		replied(oneRef, ref, one, "error")
	}
	oneRef := joinTopic(one, `{}`)
	manyRef := joinTopic(many, `{"systems":[30000144]}`)
	exchange(oneRef, manyRef)

	times, pause := 10, time.Duration(0)
	if *long {
		times, pause = 6, 30*time.Second
	}
	for range times {
		c.quiet(t, pause)
		if err := c.conn.Ping(t.Context()); err != nil {
			t.Fatalf("ping: %v", err)
		}
	}

	exchange(oneRef, manyRef)
	ref := c.send(t, oneRef, one, "phx_leave", `{}`)
	replied(oneRef, ref, one, "ok")
	c.next(t, oneRef, oneRef, one, "phx_close", &struct{}{})
	s.insert(t, thera, jita)
	var e event
	if c.next(t, manyRef, "null", many, "new_killmail", &e); e.EventID != 2 {
		t.Errorf("event %+v, want 2", e)
	}
	if err := c.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Errorf("close: %v", err)
	}
}

// quiet waits. What comes meanwhile was not asked for.
func (c *speaker) quiet(t *testing.T, pause time.Duration) {
	t.Helper()
	select {
	case f, ok := <-c.frames:
		if !ok {
			t.Fatalf("disconnected: %v", c.err)
		}
		t.Fatalf("%+v, unasked", f)
	case <-time.After(pause):
	}
}
