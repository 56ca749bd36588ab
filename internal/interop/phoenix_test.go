//go:build unix

package interop

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The versions of npm phoenix that are driven. What matters of each:
var versions = []string{
	"phoenix",     // current; the only one with fetch, that is with long polling outside a browser
	"phoenix-1.7", // never connects again after close code 1000
	"phoenix-1.4", // hands on events of a join that is over
}

// Every version of the client can do everything over a WebSocket, and comes back by itself after the server was away.
func TestPhoenix(t *testing.T) {
	node := needNode(t)
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			testClient(t, 1012, func(t *testing.T, s *server) *process {
				return newSocket(t, node, version, s.addr, `{}`, "websocket")
			})
			t.Run("heartbeats", func(t *testing.T) {
				p := newSocket(t, node, version, newServer(t).addr, `{"heartbeatIntervalMs":100}`, "websocket")
				for range 3 { // the next is sent only when the last was answered
					p.expect(t, "phoenix", "heartbeat ok")
				}
			})
		})
	}
}

// The same over long polling.
func TestPhoenixLongPoll(t *testing.T) {
	node := needNode(t)
	testClient(t, 0, func(t *testing.T, s *server) *process {
		return newSocket(t, node, "phoenix", s.addr, `{"longpoll":true}`, "longpoll")
	})
}

// newSocket starts a client and waits until it is connected, over the transport that is expected.
func newSocket(t *testing.T, node, version, addr, options, transport string) *process {
	t.Helper()
	p := start(t, node, "js/phoenix.js", version, "ws://"+addr+"/socket", options)
	var opened struct{ On, Transport string }
	p.take(t, "", &opened)
	if opened.On != "open" || opened.Transport != transport {
		t.Fatalf("%+v, want it open over %s", opened, transport)
	}
	return p
}

// testClient tests all of one client. stopped is the close code that it gets from a server that stops, 0 if it gets none.
func testClient(t *testing.T, stopped int, connect func(t *testing.T, s *server) *process) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, s *server, connect func() *process)
	}{
		{"a topic", testTopic},
		{"many topics", testMany},
		{"a durable client", testDurable},
		{"restarts", func(t *testing.T, s *server, connect func() *process) { testRestarts(t, s, connect(), stopped) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			test.run(t, s, func() *process { return connect(t, s) })
		})
	}
}

// join joins a topic and returns the reply.
func join(t *testing.T, p *process, channel, topic string, params map[string]any) answer {
	t.Helper()
	p.do(t, map[string]any{"do": "join", "channel": channel, "topic": topic, "params": params})
	return p.expect(t, channel, "joined").Response
}

// push pushes an event and returns the reply, whose status is expected.
func push(t *testing.T, p *process, channel, event, status string, payload map[string]any) answer {
	t.Helper()
	p.do(t, map[string]any{"do": "push", "channel": channel, "event": event, "payload": payload})
	return p.expect(t, channel, event+" "+status).Response
}

// leave leaves a topic.
func leave(t *testing.T, p *process, channel string) {
	t.Helper()
	p.do(t, map[string]any{"do": "leave", "channel": channel})
	p.expect(t, channel, "close")
	p.expect(t, channel, "leave ok")
}

// expectEvents takes the next events of a channel, which have to be these.
func expectEvents(t *testing.T, p *process, channel string, ids ...uint64) (events []event) {
	t.Helper()
	for _, id := range ids {
		e := p.expect(t, channel, "new_killmail").Payload
		if e.EventID != id {
			t.Fatalf("next event of %q is %d, want %d", channel, e.EventID, id)
		}
		events = append(events, e)
	}
	return events
}

// checkEvents compares events with what polling says of them.
func checkEvents(t *testing.T, s *server, epoch string, got []event) {
	t.Helper()
	log := s.log(t)
	for _, e := range got {
		want := log[e.EventID-1]
		want.Cursor = fmt.Sprintf("%d-%s", e.EventID, epoch)
		if diff := cmp.Diff(want, e, cmp.Transformer("value", value)); diff != "" {
			t.Errorf("event %d (-polled +live):\n%s", e.EventID, diff)
		}
	}
}

// value is what a JSON text means: a script does not print a number as it read it.
func value(text json.RawMessage) (v any) {
	if err := json.Unmarshal(text, &v); err != nil {
		return err
	}
	return v
}

// join, receive, unknown event, leave, join again where one was.
func testTopic(t *testing.T, s *server, connect func() *process) {
	p := connect()
	topic := fmt.Sprintf("system:%d", jita)
	begun := join(t, p, "one", topic, map[string]any{})
	if begun.Head != 0 || begun.Start != 1 || len(begun.Epoch) != 8 || begun.Cursor != "0-"+begun.Epoch || begun.Gap != nil {
		t.Errorf("join of an empty log: %+v", begun)
	}

	s.insert(t, jita, hek, jita)
	events := expectEvents(t, p, "one", 1, 3)
	checkEvents(t, s, begun.Epoch, events)

	if refused := push(t, p, "one", "shout", "error", nil); refused.Reason == "" {
		t.Errorf("an unknown event is refused without a reason: %+v", refused)
	}
	leave(t, p, "one")
	s.insert(t, jita)

	again := join(t, p, "one", topic, map[string]any{"after": events[1].Cursor})
	if again.Head != 4 || again.Start != 4 || again.Epoch != begun.Epoch || again.Cursor != events[1].Cursor || again.Gap != nil {
		t.Errorf("join after event 3: %+v", again)
	}
	expectEvents(t, p, "one", 4)
	s.insert(t, jita)
	expectEvents(t, p, "one", 5)

	p.do(t, map[string]any{"do": "join", "channel": "wrong", "topic": "system:abc"})
	if refused := p.expect(t, "wrong", "refused").Response; refused.Reason == "" {
		t.Errorf("a join is refused without a reason: %+v", refused)
	}
}

// many systems in one topic, and changing which.
func testMany(t *testing.T, s *server, connect func() *process) {
	p := connect()
	systems := make([]uint32, 8000) // all of New Eden; the frame has 72 kB
	for i := range systems {
		systems[i] = 30000001 + uint32(i)
	}
	last := systems[len(systems)-1]
	join(t, p, "many", "killfeed", map[string]any{"systems": systems})
	s.insert(t, jita, thera, last)
	expectEvents(t, p, "many", 1, 3)

	update := func(topics int, payload map[string]any) {
		t.Helper()
		if done := push(t, p, "many", "update", "ok", payload); done.Topics != topics {
			t.Errorf("update: %+v, want %d topics", done, topics)
		}
	}
	update(8001, map[string]any{"add": map[string]any{"systems": []uint32{thera}}})
	s.insert(t, thera)
	expectEvents(t, p, "many", 4)

	update(8000, map[string]any{"remove": map[string]any{"systems": []uint32{jita}}})
	s.insert(t, jita, perimet)
	expectEvents(t, p, "many", 6)

	update(2, map[string]any{"systems": []uint32{jita}, "topics": []string{"all"}})
	s.insert(t, jita, hek)
	expectEvents(t, p, "many", 7, 8)

	push(t, p, "many", "update", "error", map[string]any{"systems": []string{"Jita"}})
	s.insert(t, jita)
	expectEvents(t, p, "many", 9)
}

// a client whose place the server keeps.
func testDurable(t *testing.T, s *server, connect func() *process) {
	topic := fmt.Sprintf("system:%d", jita)
	params := map[string]any{"client_id": "bot", "commit": "manual", "start": "earliest"}
	s.insert(t, jita)
	joinDurably := func() *process {
		p := connect()
		p.do(t, map[string]any{"do": "join", "channel": "mine", "topic": topic, "params": params, "resume": false})
		p.expect(t, "mine", "joined")
		return p
	}
	p := joinDurably()
	s.insert(t, jita, jita)
	events := expectEvents(t, p, "mine", 1, 2, 3)

	if done := push(t, p, "mine", "commit", "ok", map[string]any{"event_id": 1}); done.ClientID != "bot" || done.EventID != 1 {
		t.Errorf("commit of 1: %+v", done)
	}
	if done := push(t, p, "mine", "commit", "ok", map[string]any{"event_id": events[1].Cursor}); done.EventID != 2 {
		t.Errorf("commit of the cursor of 2: %+v", done)
	}
	push(t, p, "mine", "commit", "error", map[string]any{"event_id": 99})
	var client struct{ Offsets map[string]uint64 }
	s.get(t, "/api/clients/bot", &client)
	if diff := cmp.Diff(map[string]uint64{topic: 2}, client.Offsets); diff != "" {
		t.Errorf("offsets (-want +got):\n%s", diff)
	}

	// The newest connection has the client id, and begins behind what was committed.
	second := joinDurably()
	expectEvents(t, second, "mine", 3)
	p.expect(t, "mine", "replaced")
	p.expect(t, "mine", "close")
	s.insert(t, jita)
	expectEvents(t, second, "mine", 4)
}

// The server is killed and stopped under a stream of inserts. The client connects and joins again by itself and has every
// event once, in order.
func testRestarts(t *testing.T, s *server, p *process, stopped int) {
	systems := []uint32{jita, perimet, hek}
	join(t, p, "one", fmt.Sprintf("system:%d", jita), map[string]any{})
	join(t, p, "many", "killfeed", map[string]any{"systems": systems})
	stop := s.write(t, systems...)

	// receive takes events of a channel through disconnections, until there is enough.
	ids := map[string][]uint64{}
	receive := func(channel string, enough func(ids []uint64) bool) {
		t.Helper()
		for !enough(ids[channel]) {
			var l line
			switch p.take(t, channel, &l); l.On {
			case "new_killmail":
				ids[channel] = append(ids[channel], l.Payload.EventID)
			case "error": // disconnected
			case "joined":
				if l.Response.Gap != nil {
					t.Fatalf("a gap of %q: %+v", channel, l.Response)
				}
			default:
				t.Fatalf("next of %q is %+v", channel, l)
			}
		}
	}
	more := func() {
		t.Helper()
		n := len(ids["many"]) + 100
		receive("many", func(ids []uint64) bool { return len(ids) >= n })
	}
	// away takes what the socket says of the server's absence and returns the first close code.
	away := func() (code int) {
		t.Helper()
		for {
			var l line
			switch p.take(t, "", &l); {
			case l.On == "close" && code == 0:
				code = l.Code
			case l.On == "close": // it tried again
			case l.On == "open" && code != 0:
				return code
			default:
				t.Fatalf("next of the socket is %+v", l)
			}
		}
	}

	more()
	s.kill()
	s.start(t)
	more()
	away()
	s.stop(t)
	s.start(t)
	more()
	if code := away(); code != stopped && stopped != 0 {
		t.Errorf("the server has stopped with close code %d, want %d", code, stopped)
	}
	stop()

	want := map[string][]uint64{}
	for _, e := range s.log(t) {
		want["many"] = append(want["many"], e.EventID)
		if e.SystemID == jita {
			want["one"] = append(want["one"], e.EventID)
		}
	}
	for i, id := range want["many"] {
		if id != uint64(i+1) {
			t.Fatalf("the log's event %d is %d", i+1, id)
		}
	}
	for channel, want := range want {
		last := want[len(want)-1]
		receive(channel, func(ids []uint64) bool { return slices.Contains(ids, last) })
		if diff := cmp.Diff(want, ids[channel]); diff != "" {
			t.Errorf("events of %q (-log +client):\n%s", channel, diff)
		}
	}
	t.Logf("%d events", len(want["many"]))
}
