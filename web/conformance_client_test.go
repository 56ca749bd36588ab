package web_test

import (
	"fmt"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed"
)

// clientCases are scripts with the habits of programs in use. The programs themselves, where they can be had, are driven by
// internal/interop: TestPhoenix, TestPhoenixLongPoll, TestPhx and TestQuiet.
func clientCases() []conformance {
	return []conformance{
		{"50 V1", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "")
			w.send(`{"topic":"system:30000142","event":"phx_join","payload":{},"ref":"1"}`)
			w.want(`{"event":"phx_reply","payload":{"response":{"head":0,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"},"ref":"1","topic":"system:30000142"}`)
			id := s.insert(jita)
			w.want(fmt.Sprintf(`{"event":"new_killmail","payload":%s,"ref":null,"topic":"system:30000142"}`, s.live(id)))
			w.send(`{"topic":"system:30000142","event":"nosuch","payload":{"a":1},"ref":"2","join_ref":"1"}`)
			w.want(`{"event":"phx_reply","payload":{"response":{"reason":"unknown event nosuch: a client's events here are commit, and update on the topic killfeed"},` +
				`"status":"error"},"ref":"2","topic":"system:30000142"}`)
			w.send(heartbeatV1).want(heartbeatOKV1)
			w.send(`{"topic":"nosuch","event":"x","payload":{},"ref":5}`)
			w.want(`{"event":"phx_reply","payload":{"response":{"reason":"unmatched topic"},"status":"error"},"ref":5,"topic":"nosuch"}`)
			w.send(`{"topic":"system:30000142","event":"phx_leave","payload":{},"ref":"4"}`)
			w.want(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"4","topic":"system:30000142"}`)
			w.want(`{"event":"phx_close","payload":{},"ref":"1","topic":"system:30000142"}`)
		}},
		{"51 V1 and V2 get the same", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			old, current := s.dial(d, "vsn=1.0.0"), s.dial(d, "vsn=2.0.0")
			old.send(`{"topic":"all","event":"phx_join","payload":{"after":0},"ref":"1"}`).next()
			current.join("1", "all", `{"after":0}`)
			id := s.insert(jita, hek, jita)
			for i := range id {
				old.want(fmt.Sprintf(`{"event":"new_killmail","payload":%s,"ref":null,"topic":"all"}`, s.live(i+1)))
				current.want(s.pushed("1", "all", i+1))
			}
		}},
		{"52 npm phoenix", testNPMPhoenix},
		{"53 nshafer/phx", func(t *testing.T) {
			// It numbers joins and pushes by strings, joins a topic anew when it believes to have missed a reply, and takes every
			// message on the topic whose join_ref it knows.
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			w.send(`["1","1","system:30000142","phx_join",{"start":"earliest"}]`, `["2","2","system:30000142","phx_join",{"start":"earliest"}]`)
			w.want(okJoin("1", "system:30000142", 0, 1), okJoin("2", "system:30000142", 0, 1), phxClose("1", "system:30000142"))
			w.send(`[null,"3","phoenix","heartbeat",{}]`).want(`[null,"3","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
			w.want(s.pushed("2", "system:30000142", s.insert(jita))).quiet()
		}},
		{"54 phoenix_gen_socket_client", testGenSocketClient},
		{"55 phoenix-channels-python-client", testPythonClient},
	}
}

// testNPMPhoenix: the client leaves and joins in one breath, takes up where it was by its join params after the server was
// away, and drops by its join_ref what a join before it left behind.
func testNPMPhoenix(t *testing.T) {
	s := newServer(t)
	w := s.dial(s.online(), "vsn=2.0.0")
	w.send(`["4","4","system:5","phx_join",{}]`).want(okJoin("4", "system:5", 0, 1))
	w.send(`["4","7","system:5","phx_leave",{}]`, `["8","8","system:5","phx_join",{}]`)
	w.want(okReply("4", "7", "system:5"), phxClose("4", "system:5"), okJoin("8", "system:5", 0, 1))
	w.want(s.pushed("8", "system:5", s.insert(5)))
	w.send(`["9","9","system:abc","phx_join",{}]`)
	refused := w.next()
	w.send(`["10","10","system:abc","phx_join",{}]`) // it tries again for ever
	if again := w.next(); again != regexp.MustCompile(`"9","9"`).ReplaceAllString(refused, `"10","10"`) {
		t.Errorf("first %s, then %s", refused, again)
	}
	w.send(`["10","11","system:abc","phx_leave",{}]`).want(okReply("10", "11", "system:abc"))
	s.api.Drain(t.Context(), 0)
	w.closed(1012)

	again := newServerOn(t, s)
	s.insert(5, 5)
	w = again.dial(again.online(), "vsn=2.0.0")
	w.send(`["12","12","system:5","phx_join",{"after":"1-EPOCH"}]`).want(okJoin("12", "system:5", 3, 2))
	w.want(s.pushedAll("12", "system:5", 2, 3)...)
	w.send(`[null,"13","phoenix","heartbeat",{}]`).want(`[null,"13","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
	w.conn.Close(websocket.StatusNormalClosure, "bye")
	<-drained(w)
	if code := websocket.CloseStatus(w.err); code != 1000 && code != -1 { // -1: it was the client's own end
		t.Errorf("its close frame is answered with %v", w.err)
	}
}

// drained is closed when nothing more is read from a socket.
func drained(w *wire) chan struct{} {
	done := make(chan struct{})
	go func() {
		for range w.reads {
		}
		close(done)
	}()
	return done
}

// testGenSocketClient: refs are integers and have to come back as such; it sends no heartbeat, but pings the WebSocket each
// half minute; what comes without a join_ref it takes for the reply to a join.
func testGenSocketClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		h := s.memory()
		w := s.dial(dialing{client: h.client, host: "memory"}, "heartbeat=30000&vsn=2.0.0")
		w.send(`[1,1,"killfeed","phx_join",{"systems":[30000142]}]`)
		w.want(`[1,1,"killfeed","phx_reply",{"response":{"head":0,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"}]`)
		for i := range 10 {
			time.Sleep(30 * time.Second)
			if err := w.conn.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			id := s.insert(jita)
			w.want(fmt.Sprintf(`[1,null,"killfeed","new_killmail",%s]`, s.live(id)))
			w.send(fmt.Sprintf(`[1,%d,"killfeed","update",{"add":{"systems":[%d]}}]`, i+2, 100+i))
			w.want(fmt.Sprintf(`[1,%d,"killfeed","phx_reply",{"response":{"topics":%d,"head":%d,"epoch":"EPOCH","start":%d,"cursor":"%d-EPOCH"},"status":"ok"}]`,
				i+2, i+2, id, id+1, id))
		}
		w.send(`["1",20,"killfeed","update",{}]`) // a string is another join_ref than the number
		w.send(`[1,21,"killfeed","phx_leave",{}]`)
		w.want(`[1,21,"killfeed","phx_reply",{"response":{},"status":"ok"}]`, `[1,1,"killfeed","phx_close",{}]`)
		w.send(`[2,2,"nosuch","phx_join",{}]`).want(`[null,2,"nosuch","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]`)
	})
}

// testPythonClient speaks V1 and V2, and another one, which that dialect's example is, objects over vsn=2.0.0. It tells replies
// by topic, event and ref, and has lost what did not fit into its queue: it asks for that by the ids of events.
func testPythonClient(t *testing.T) {
	s := newServer(t)
	d := s.online()
	for _, query := range []string{"vsn=1.0.0", "vsn=2.0.0"} {
		w := s.dial(d, query)
		head := int(s.feed.State().Head)
		w.send(`{"topic":"all","event":"phx_join","payload":{},"ref":"join_1764000000000_1"}`)
		w.want(fmt.Sprintf(`{"event":"phx_reply","payload":{"response":{"head":%d,"epoch":"EPOCH","start":%d,"cursor":"%d-EPOCH"},"status":"ok"},`+
			`"ref":"join_1764000000000_1","topic":"all"}`, head, head+1, head))
		first := s.insert(jita)
		last := s.insert(jita)
		for _, id := range []killfeed.EventID{first, last} {
			w.want(fmt.Sprintf(`{"event":"new_killmail","payload":%s,"ref":null,"topic":"all"}`, s.live(id)))
		}
		w.send(`{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"hb_1"}`)
		w.want(`{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"hb_1","topic":"phoenix"}`)
		// The last one was dropped on its side.
		w.send(fmt.Sprintf(`{"topic":"all","event":"phx_join","payload":{"after":%d},"ref":"join_1764000000000_2"}`, first))
		w.want(fmt.Sprintf(`{"event":"phx_reply","payload":{"response":{"head":%d,"epoch":"EPOCH","start":%d,"cursor":"%d-EPOCH"},"status":"ok"},`+
			`"ref":"join_1764000000000_2","topic":"all"}`, last, last, first))
		w.want(`{"event":"phx_close","payload":{},"ref":"join_1764000000000_1","topic":"all"}`)
		w.want(fmt.Sprintf(`{"event":"new_killmail","payload":%s,"ref":null,"topic":"all"}`, s.live(last)))
	}
	w := s.dial(d, "vsn=2.0.0")
	w.send(`["1","1","all","phx_join",{}]`).next()
	w.want(s.pushed("1", "all", s.insert(jita)))
	w.send(`["1","2","all","phx_leave",{}]`).want(okReply("1", "2", "all"), phxClose("1", "all"))
}
