package web_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"killfeed"
)

func leaveCases() []conformance {
	// joined is a socket that has joined all.
	joined := func(t *testing.T) (*server, *wire) {
		s := newServer(t)
		w := s.dial(s.online(), "vsn=2.0.0")
		w.send(`["4","4","all","phx_join",{}]`).want(okJoin("4", "all", 0, 1))
		return s, w
	}
	return []conformance{
		{"32 the reply to a leave, then phx_close", func(t *testing.T) {
			_, w := joined(t)
			w.send(`["4","8","all","phx_leave",{}]`)
			w.want(`["4","8","all","phx_reply",{"response":{},"status":"ok"}]`, `["4","4","all","phx_close",{}]`)
		}},
		{"33 leaving what is not joined", func(t *testing.T) {
			_, w := joined(t)
			w.send(`["9","3","system:7","phx_leave",{}]`).want(`["9","3","system:7","phx_reply",{"response":{},"status":"ok"}]`)
			w.send(`[null,"3","nosuch:7","phx_leave",{}]`).want(`[null,"3","nosuch:7","phx_reply",{"response":{},"status":"ok"}]`)
		}},
		{"34 a stale leave", func(t *testing.T) {
			s, w := joined(t)
			w.send(`["3","8","all","phx_leave",{}]`, `[4,"8","all","phx_leave",{}]`).quiet() // a number is not the string
			w.want(s.pushed("4", "all", s.insert(jita)))
		}},
		{"35 a leave without a join_ref", func(t *testing.T) {
			_, w := joined(t)
			w.send(`[null,"8","all","phx_leave",{}]`).want(okReply("4", "8", "all"), phxClose("4", "all"))
		}},
		{"36 no push behind phx_close", func(t *testing.T) {
			s, w := joined(t)
			stop := s.writing(jita, hek)
			for i := range 100 {
				ref := fmt.Sprint(100 + i)
				w.send(fmt.Sprintf(`[null,"l%d","all","phx_leave",{}]`, i))
				for m := (message{}); m.event != "phx_close"; {
					m = parse(t, w.next())
				}
				w.send(fmt.Sprintf(`[%q,%q,"all","phx_join",{}]`, ref, ref))
				if m := parse(t, w.next()); m.event != "phx_reply" || m.ref != ref {
					t.Fatalf("behind phx_close there came %+v", m)
				}
			}
			stop()
		}},
		{"37 joining again begins anew", func(t *testing.T) {
			s, w := joined(t)
			w.want(s.pushed("4", "all", s.insert(jita)))
			w.send(`["4","8","all","phx_leave",{}]`).want(okReply("4", "8", "all"), phxClose("4", "all"))
			s.insert(jita)
			w.send(`["9","9","all","phx_join",{}]`).want(okJoin("9", "all", 2, 3))
			w.want(s.pushed("9", "all", s.insert(jita)))
			w.send(`["9","10","all","phx_leave",{}]`).want(okReply("9", "10", "all"), phxClose("9", "all"))
			w.send(`["11","11","all","phx_join",{"after":"1-EPOCH"}]`).want(okJoin("11", "all", 3, 2))
			w.want(s.pushedAll("11", "all", 2, 3)...).quiet()
		}},
	}
}

func eventCases() []conformance {
	// many is a socket that has joined the topic for many, under a client's name.
	many := func(t *testing.T) (*server, *wire) {
		s := newServer(t)
		w := s.dial(s.online(), "vsn=2.0.0")
		w.join("4", "killfeed", `{"systems":[30000142],"client_id":"bot","commit":"manual","start":"earliest"}`)
		return s, w
	}
	return []conformance{
		{"38 an event on what is not joined", func(t *testing.T) {
			_, w := many(t)
			w.send(`[null,"1","system:7","echo",{}]`).want(unmatched("1", "system:7"))
			w.send(`["9","2","system:7","commit",{"event_id":1}]`).want(unmatched("2", "system:7"))
			w.send(`["9","2","nosuch:7","echo",{}]`).want(unmatched("2", "nosuch:7"))
		}},
		{"39 a stale event", func(t *testing.T) {
			_, w := many(t)
			w.send(`["3","8","killfeed","commit",{"event_id":0}]`, `["3","9","killfeed","nosuch",{}]`).quiet()
			w.send(`[null,"8","killfeed","commit",{"event_id":0}]`)
			w.want(`["4","8","killfeed","phx_reply",{"response":{"client_id":"bot","event_id":0},"status":"ok"}]`)
		}},
		{"40 an unknown event", func(t *testing.T) {
			s, w := many(t)
			w.send(`["4","8","killfeed","nosuch",{"a":1}]`)
			w.want(`["4","8","killfeed","phx_reply",{"response":{"reason":"unknown event nosuch: a client's events here are commit, ` +
				`and update on the topic killfeed"},"status":"error"}]`)
			w.join("5", "all", `{}`)
			w.send(`["5","9","all","update",{"add":{"systems":[1]}}]`)
			w.want(`["5","9","all","phx_reply",{"response":{"reason":"update is an event of the topic killfeed: this topic is one and stays so"},"status":"error"}]`)
			long := strings.Repeat("e", 300)
			w.send(`["4","9","killfeed","` + long + `",{}]`)
			w.want(`["4","9","killfeed","phx_reply",{"response":{"reason":"the event is longer than 255 bytes"},"status":"error"}]`)
			// The channels live on, where Phoenix would have crashed them.
			id := s.insert(jita)
			got := []string{w.next(), w.next()}
			for _, want := range []string{s.pushed("4", "killfeed", id), s.pushed("5", "all", id)} {
				if !slices.Contains(got, w.fill(want)) {
					t.Errorf("there came %q, want %s", got, want)
				}
			}
		}},
		{"41 replies carry the join_ref of the channel", func(t *testing.T) {
			_, w := many(t)
			w.send(`[null,"8","killfeed","update",{"add":{"systems":[30002053]}}]`)
			w.want(`["4","8","killfeed","phx_reply",{"response":{"topics":2,"head":0,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"}]`)
			w.send(`[null,null,"killfeed","update",{"remove":{"systems":[30002053]}}]`)
			w.want(`["4",null,"killfeed","phx_reply",{"response":{"topics":1,"head":0,"epoch":"EPOCH","start":1,"cursor":"0-EPOCH"},"status":"ok"}]`)
			w.send(`[null,"9","killfeed","update",{"systems":["x"]}]`)
			if got := w.next(); !strings.HasPrefix(got, `["4","9","killfeed","phx_reply",{"response":{"reason":"systems \"x\" is not accepted`) {
				t.Errorf("there came %s", got)
			}
		}},
		{"42 many at once are answered once each, in order", func(t *testing.T) {
			s, w := many(t)
			stop := s.writing(jita)
			const n = 500
			for i := range n {
				switch i % 4 {
				case 0:
					w.send(fmt.Sprintf(`["4","r%d","killfeed","commit",{"event_id":0}]`, i))
				case 1:
					w.send(fmt.Sprintf(`["4","r%d","killfeed","update",{"add":{"systems":[%d]}}]`, i, 1000+i))
				case 2:
					w.send(fmt.Sprintf(`[null,"r%d","phoenix","heartbeat",{}]`, i))
				case 3:
					w.send(fmt.Sprintf(`["4","r%d","nosuch","ask",{}]`, i))
				}
			}
			for i := 0; i < n; {
				m := parse(t, w.next())
				if m.event == "new_killmail" {
					continue
				}
				if m.event != "phx_reply" || m.ref != fmt.Sprintf("r%d", i) {
					t.Fatalf("there came %+v, want the reply to r%d", m, i)
				}
				if (m.status() == "ok") != (i%4 != 3) {
					t.Fatalf("r%d is answered %s", i, m.payload)
				}
				i++
			}
			stop()
		}},
		{"43 a payload that is no object", func(t *testing.T) {
			_, w := many(t)
			for _, payload := range []string{`"x"`, `7`, `[1]`, `true`} {
				w.send(`["4","8","killfeed","commit",` + payload + `]`)
				w.want(`["4","8","killfeed","phx_reply",{"response":{"reason":"the payload is not an object"},"status":"error"}]`)
			}
			w.send(`["4","8","killfeed","commit",null]`) // which counts as {}
			if got := w.next(); !strings.HasPrefix(got, `["4","8","killfeed","phx_reply",{"response":{"reason":"event_id is missing`) {
				t.Errorf("there came %s", got)
			}
			if err := w.conn.Write(t.Context(), websocket.MessageBinary, []byte("\x00\x01\x01\x08\x06"+"48killfeedcommit"+"\x00\xff")); err != nil {
				t.Fatal(err)
			}
			w.want(`["4","8","killfeed","phx_reply",{"response":{"reason":"binary payloads are not accepted here, send a JSON object"},"status":"error"}]`)
		}},
	}
}

// TestCommitByChannel: what a client commits is where it goes on, on its next connection too.
func TestCommitByChannel(t *testing.T) {
	s := newServer(t)
	s.insert(jita, hek, jita, jita)
	d := s.online()
	const params = `{"client_id":"bot","commit":"manual","start":"earliest"}`
	w := s.dial(d, "vsn=2.0.0")
	w.send(`["1","1","system:30000142","phx_join",` + params + `]`).want(okJoin("1", "system:30000142", 4, 1))
	w.want(s.pushedAll("1", "system:30000142", 1, 3, 4)...)
	commit := func(id, reply string) {
		t.Helper()
		w.send(`["1","2","system:30000142","commit",{"event_id":` + id + `}]`)
		w.want(`["1","2","system:30000142","phx_reply",{"response":` + reply + `}]`)
	}
	commit(`1`, `{"client_id":"bot","event_id":1},"status":"ok"`)
	commit(`"3-EPOCH"`, `{"client_id":"bot","event_id":3},"status":"ok"`)
	commit(`2`, `{"client_id":"bot","event_id":2},"status":"ok"`) // it never moves back
	w.send(`["1","2","system:30000142","commit",{"event_id":5}]`)
	if m := parse(t, w.next()); m.status() != "error" || !strings.Contains(string(m.payload), "at most the head of the log, 4") {
		t.Errorf("a commit beyond the head is answered %s", m.payload)
	}
	var client struct {
		Offsets map[string]killfeed.EventID
	}
	s.get("/api/clients/bot").want(200).into(&client)
	if client.Offsets["system:30000142"] != 3 {
		t.Errorf("offsets %v, want 3", client.Offsets)
	}

	// A second join of the name on this connection goes beside the first; one on another connection takes it away.
	w.join("5", "system:30002053", params)
	w.want(s.pushed("5", "system:30002053", 2)).quiet()
	second := s.dial(d, "vsn=2.0.0")
	second.send(`["1","1","system:30000142","phx_join",` + params + `]`).want(okJoin("1", "system:30000142", 4, 4))
	second.want(s.pushed("1", "system:30000142", 4))
	var got []string
	for range 4 {
		got = append(got, w.next())
	}
	for _, c := range []struct{ ref, topic string }{{"1", "system:30000142"}, {"5", "system:30002053"}} {
		replaced := fmt.Sprintf(`[%q,null,%q,"replaced",{}]`, c.ref, c.topic)
		at := slices.Index(got, replaced)
		if at < 0 || slices.Index(got, phxClose(c.ref, c.topic)) < at {
			t.Errorf("there came %q, want %s and then its end", got, replaced)
		}
	}
	w.quiet()
	second.want(s.pushed("1", "system:30000142", s.insert(jita)))
}

// TestAutomaticCommitByChannel: what was handed over is not sent again, what was not is.
func TestAutomaticCommitByChannel(t *testing.T) {
	s := newServer(t)
	s.insert(jita, jita)
	d := s.online()
	const params = `{"client_id":"bot","start":"earliest"}`
	w := s.dial(d, "vsn=2.0.0")
	w.join("1", "all", params)
	w.want(s.pushedAll("1", "all", 1, 2)...).quiet() // so that the server knows that they were written
	w.send(`["1","2","all","phx_leave",{}]`).want(okReply("1", "2", "all"), phxClose("1", "all"))
	s.insert(jita)
	w.send(`["3","3","all","phx_join",` + params + `]`).want(okJoin("3", "all", 3, 3))
	w.want(s.pushed("3", "all", 3)).quiet()
	w.conn.Close(websocket.StatusNormalClosure, "")
	s.until("the connection has ended", func() bool { return s.feed.Stats().Subscriptions == 0 })
	s.insert(jita)
	w = s.dial(d, "vsn=2.0.0")
	w.send(`["1","1","all","phx_join",` + params + `]`).want(okJoin("1", "all", 4, 4))
	w.want(s.pushed("1", "all", 4)).quiet()
}
