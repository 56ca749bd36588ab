package web_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed"
	"killfeed/web/socket"
)

// conformance is one of the cases that every server of Phoenix Channels has to get right.
type conformance struct {
	name string
	run  func(t *testing.T)
}

// TestConformance: the server does on the wire what Phoenix does, byte for byte, and where it means to differ, what the
// package phoenix says.
func TestConformance(t *testing.T) {
	n := 0
	for _, cases := range [][]conformance{
		connectionCases(), heartbeatCases(), joinCases(), leaveCases(), eventCases(), failureCases(), clientCases(),
	} {
		for _, c := range cases {
			n++
			if !strings.HasPrefix(c.name, fmt.Sprintf("%02d ", n)) {
				t.Errorf("case %d is called %q", n, c.name)
			}
			t.Run(c.name, c.run)
		}
	}
	if n != 55 {
		t.Errorf("there are %d cases, want 55", n)
	}
}

const (
	heartbeat   = `[null,"2","phoenix","heartbeat",{}]`
	heartbeatOK = `[null,"2","phoenix","phx_reply",{"response":{},"status":"ok"}]`

	heartbeatV1   = `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"3"}`
	heartbeatOKV1 = `{"event":"phx_reply","payload":{"response":{},"status":"ok"},"ref":"3","topic":"phoenix"}`
)

// refusedHandshake is what comes instead of a socket.
func (s *server) refusedHandshake(d dialing, query string, protocols ...string) (*http.Response, string) {
	s.t.Helper()
	w, res, err := s.tryDial(d, query, protocols...)
	if err == nil {
		w.conn.CloseNow()
		s.t.Fatalf("%s: a socket was opened", query)
	}
	if res == nil {
		s.t.Fatalf("%s: no answer: %v", query, err)
	}
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// isForbidden checks that the handshake is refused as Phoenix does it.
func (s *server) isForbidden(d dialing, query string, protocols ...string) {
	s.t.Helper()
	res, body := s.refusedHandshake(d, query, protocols...)
	if res.StatusCode != 403 || body != "" {
		s.t.Errorf("%q %q: status %d, %q; want 403 without a body", query, protocols, res.StatusCode, body)
	}
}

func connectionCases() []conformance {
	return []conformance{
		{"01 vsn=2.0.0", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			s.dial(d, "vsn=2.0.0").send(heartbeat).want(heartbeatOK)
		}},
		{"02 no vsn is V1", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			s.dial(d, "").send(heartbeatV1).want(heartbeatOKV1)
			s.dial(d, "vsn=").send(heartbeatV1).want(heartbeatOKV1)
		}},
		{"03 vsn=1.0.0", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			s.dial(d, "vsn=1.0.0").send(heartbeatV1).want(heartbeatOKV1)
		}},
		{"04 other versions", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			for _, vsn := range []string{"2.0.1", "2.0.17", "2.0.0%2Bbuild"} {
				s.dial(d, "vsn="+vsn).send(heartbeat).want(heartbeatOK)
			}
			for _, vsn := range []string{"2.1.0", "2.5.0", "3.0.0", "123.1.1", "1.1.0", "2.0", "2", "abc", "2.0.0-rc", "%20"} {
				s.isForbidden(d, "vsn="+vsn)
			}
		}},
		{"05 other methods", func(t *testing.T) {
			s := newServer(t)
			for _, path := range []string{"/socket/websocket", "/socket/websocket/"} {
				for _, method := range []string{"POST", "PUT", "HEAD", "DELETE"} {
					w := s.raw(method, path+"?vsn=2.0.0")
					if w.status != 400 || method != "HEAD" && len(w.body) == 0 {
						t.Errorf("%s %s: status %d, %q; want 400 and why", method, path, w.status, w.body)
					}
				}
				if w := s.raw("GET", path+"?vsn=2.0.0"); w.status != 400 || !strings.Contains(string(w.body), "WebSocket") {
					t.Errorf("GET %s without an upgrade: status %d, %q; want 400 and why", path, w.status, w.body)
				}
			}
		}},
		{"06 origins", func(t *testing.T) {
			s := newServer(t, func(o *serverOptions) { o.config.Origins = []string{"https://tools.example.com", "maps.example.com"} })
			host := s.online().host
			from := func(origin string) dialing { return dialing{host: host, header: http.Header{"Origin": {origin}}} }
			s.dial(dialing{host: host}, "vsn=2.0.0").send(heartbeat).want(heartbeatOK)
			for _, origin := range []string{"https://tools.example.com", "https://TOOLS.example.com", "http://maps.example.com",
				"https://maps.example.com:8443", "http://" + host} {
				s.dial(from(origin), "vsn=2.0.0").send(heartbeat).want(heartbeatOK)
			}
			for _, origin := range []string{"https://evil.example", "http://tools.example.com", "https://tools.example.com.evil.example", "null", "x"} {
				s.isForbidden(from(origin), "vsn=2.0.0")
			}
			// Without a list every page may.
			s = newServer(t)
			d := s.online()
			d.header = http.Header{"Origin": {"https://evil.example"}}
			s.dial(d, "vsn=2.0.0").send(heartbeat).want(heartbeatOK)
		}},
		{"07 unknown parameters", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			s.dial(d, "heartbeat=30000&vsn=2.0.0&userId=&x[]=%C3%A9").send(heartbeat).want(heartbeatOK)
		}},
		{"08 a token as a subprotocol", func(t *testing.T) {
			const token = "~~~~??>>a token with all of them" // both alphabets differ on it
			s := newServer(t, func(o *serverOptions) { o.config.AdminToken = token })
			d := s.online()
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
				text := enc.EncodeToString([]byte(token))
				w := s.dial(d, "vsn=2.0.0", "phoenix", "base64url.bearer.phx."+text)
				if got := w.header["Sec-Websocket-Protocol"]; len(got) != 1 || got[0] != "phoenix" {
					t.Errorf("%s: the answer's subprotocols are %q, want phoenix", text, got)
				}
				w.send(heartbeat).want(heartbeatOK)
			}
			if std := base64.StdEncoding.EncodeToString([]byte(token)); !strings.ContainsAny(std, "+/") || !strings.Contains(std, "=") {
				t.Errorf("%s tries nothing", std)
			}
			w := s.dial(d, "vsn=2.0.0", "other")
			if got := w.header["Sec-Websocket-Protocol"]; len(got) != 0 {
				t.Errorf("the answer's subprotocols are %q, want none", got)
			}
		}},
		{"09 a bad token", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			for _, token := range []string{"wrong", adminToken[:10], adminToken + "x", ""} {
				text := base64.RawStdEncoding.EncodeToString([]byte(token))
				s.isForbidden(d, "vsn=2.0.0", "phoenix", "base64url.bearer.phx."+text)
			}
			s.isForbidden(d, "vsn=2.0.0", "phoenix", "base64url.bearer.phx.!!")
			// In a second line of the header, it is a token all the same.
			d.header = http.Header{"Sec-Websocket-Protocol": {"phoenix", "base64url.bearer.phx.d3Jvbmc"}}
			s.isForbidden(d, "vsn=2.0.0")
			if strings.Contains(s.log.String(), "wrong") {
				t.Errorf("the token was logged: %s", s.log)
			}
		}},
		{"10 too many connections", func(t *testing.T) {
			s := newServer(t, func(o *serverOptions) { o.config.MaxConnections = 2 })
			d := s.online()
			first := s.dial(d, "vsn=2.0.0")
			s.dial(d, "vsn=2.0.0")
			res, body := s.refusedHandshake(d, "vsn=2.0.0")
			if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" || res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("status %d, headers %v, %s; want 503 with when to come back", res.StatusCode, res.Header, body)
			}
			first.send(heartbeat).want(heartbeatOK)
			first.conn.Close(websocket.StatusNormalClosure, "")
			s.until("a place is free", func() bool { return strings.Contains(s.metrics(), `killfeed_connections{transport="websocket"} 1`) })
			s.until("a place can be taken", func() bool {
				w, _, err := s.tryDial(d, "vsn=2.0.0")
				return err == nil && w != nil
			})

			s = newServer(t, func(o *serverOptions) { o.config.ConnectRate = 1 })
			d = s.online()
			var res429 *http.Response
			for range 20 { // two at once, and one a second
				if _, res, err := s.tryDial(d, "vsn=2.0.0"); err != nil {
					res429 = res
				}
			}
			if res429 == nil || res429.StatusCode != 429 || res429.Header.Get("Retry-After") == "" {
				t.Errorf("twenty at once: %+v, want 429 with when to come back", res429)
			}
		}},
		{"11 a frame too large", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			w, other := s.dial(d, "vsn=2.0.0"), s.dial(d, "vsn=2.0.0")
			w.join("1", "all", "{}")
			other.join("1", "all", "{}")
			payload := strings.Repeat("x", socket.MaxMessage)
			most := payload[:socket.MaxMessage-len(`[null,"2","phoenix","heartbeat",""]`)]
			w.send(`[null,"2","phoenix","heartbeat","` + most + `"]`).want(heartbeatOK)
			w.send(`[null,"2","phoenix","heartbeat","` + most + `x"]`)
			if reason := w.closed(1009); !strings.Contains(reason, "256 KiB") {
				t.Errorf("reason %q", reason)
			}
			id := s.insert(jita)
			other.want(s.pushed("1", "all", id))
		}},
		{"12 broken frames", testBrokenFrames},
		{"13 fragments", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			w := s.dial(d, "vsn=2.0.0")
			out, err := w.conn.Writer(t.Context(), websocket.MessageText)
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range strings.SplitAfter(heartbeat, ",") { // each a frame
				if _, err := io.WriteString(out, part); err != nil {
					t.Fatal(err)
				}
			}
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			w.want(heartbeatOK)
		}},
		{"14 compression is not used", func(t *testing.T) {
			s := newServer(t)
			d := s.online()
			d.header = http.Header{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}
			w := s.dial(d, "vsn=2.0.0")
			if got := w.header["Sec-Websocket-Extensions"]; got != nil {
				t.Errorf("the answer has extensions: %q", got)
			}
			w.send(heartbeat).want(heartbeatOK)
		}},
	}
}

// testBrokenFrames: what cannot be answered ends the connection, cleanly and with the reason, and is counted.
func testBrokenFrames(t *testing.T) {
	s := newServer(t)
	d := s.online()
	other := s.dial(d, "vsn=2.0.0")
	other.join("1", "all", "{}")
	n := 0
	for _, c := range []struct {
		query, frame string
		binary       bool
		code         int
		reason       string
	}{
		{"vsn=2.0.0", "hello", false, 1007, "the frame is not JSON: byte 1: "},
		{"vsn=2.0.0", "", false, 1007, "the frame is not JSON"},
		{"vsn=2.0.0", `[null,"1","phoenix","heartbeat",{}`, false, 1007, "the frame is not JSON"},
		{"vsn=2.0.0", `[null,"1","phoenix","heartbeat",{}]]`, false, 1007, "the frame is not JSON"},
		{"vsn=2.0.0", "[null,\"1\",\"phoenix\",\"\xff\",{}]", false, 1007, ""},
		{"vsn=2.0.0", strings.Repeat("[", 100_000), false, 1007, ""},
		{"vsn=2.0.0", `{"a":1}`, false, 1003, "no message: the object wants topic, event, payload and ref"},
		{"vsn=2.0.0", `7`, false, 1003, "no message: want [join_ref, ref, topic, event, payload]"},
		{"vsn=2.0.0", `[null,"1","phoenix","heartbeat"]`, false, 1003, "no message: the array has 4 elements"},
		{"vsn=2.0.0", `["1","1",5,"phx_join",{}]`, false, 1003, "no message: the topic is not a string"},
		{"vsn=2.0.0", `["1","1","all",5,{}]`, false, 1003, "no message: the event is not a string"},
		{"vsn=2.0.0", `["1",[],"all","phx_join",{}]`, false, 1003, "no message: a ref is"},
		{"vsn=1.0.0", `[null,"1","phoenix","heartbeat",{}]`, false, 1003, "no message: want an object"},
		{"vsn=1.0.0", `{"topic":"phoenix","event":"heartbeat","payload":{}}`, false, 1003, "no message"},
		{"vsn=2.0.0", "\x00", true, 1003, "no message"},
		{"vsn=2.0.0", "\x00\x01\x01\xff\x01abc", true, 1003, "no message"},
		{"vsn=2.0.0", "\x07\x00\x00\x00\x00", true, 1003, "no message"},
		{"vsn=1.0.0", "\x00\x00\x00\x00\x00", true, 1003, "no message: vsn 1.0.0 has no binary frames"},
	} {
		w := s.dial(d, c.query)
		kind := websocket.MessageText
		if c.binary {
			kind = websocket.MessageBinary
		}
		if err := w.conn.Write(t.Context(), kind, []byte(c.frame)); err != nil {
			t.Fatal(err)
		}
		if reason := w.closed(c.code); !strings.HasPrefix(reason, c.reason) || reason == "" {
			t.Errorf("%.60q: reason %q, want %q", c.frame, reason, c.reason)
		}
		n++
	}
	// What is odd, but can be read, is answered.
	w := s.dial(d, "vsn=2.0.0")
	w.send(`[null,"1","phoenix","heartbeat",{},1]`).want(`[null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
	w.send(`[null,"1","phoenix","heartbeat",null]`).want(`[null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
	w.send(` [ null , "1" , "phoenix" , "heartbeat" , { "a" : 1 } ] `).want(`[null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
	if err := w.conn.Write(t.Context(), websocket.MessageBinary, []byte("\x00\x01\x01\x03\x04"+"11all"+"echo"+"\xff")); err != nil {
		t.Fatal(err)
	}
	w.want(unmatched("1", "all"))
	id := s.insert(jita)
	other.want(s.pushed("1", "all", id))
	// One of them is the WebSocket's own fault: text that is no UTF-8.
	if want := fmt.Sprintf("killfeed_channel_frames_broken_total %d\n", n-1); !strings.Contains(s.metrics(), want) {
		t.Errorf("metrics have no %s", want)
	}
	if strings.Contains(s.log.String(), "panic") {
		t.Errorf("something panicked: %s", s.log)
	}
}

func heartbeatCases() []conformance {
	return []conformance{
		{"15 the reply to a heartbeat", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			w.send(heartbeat).want(heartbeatOK)
			w.send(`["7","8","phoenix","heartbeat",{"a":1}]`).want(`[null,"8","phoenix","phx_reply",{"response":{},"status":"ok"}]`)
			w.send(`[null,"4","phoenix","nonsense",{}]`).want(unmatched("4", "phoenix"))
		}},
		{"16 refs come back as they were", func(t *testing.T) {
			s := newServer(t)
			w := s.dial(s.online(), "vsn=2.0.0")
			for _, ref := range []string{`"2"`, `2`, `-1`, `1e3`, `1.0`, `18446744073709551616`, `""`, `"\u00e9\n"`, `"é☃"`, `null`,
				`"` + strings.Repeat("r", 200_000) + `"`} {
				w.send(`[null,` + ref + `,"phoenix","heartbeat",{}]`).want(`[null,` + ref + `,"phoenix","phx_reply",{"response":{},"status":"ok"}]`)
			}
		}},
		{"17 pings of the WebSocket keep it open", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				w := s.memory().socket()
				for range 20 {
					time.Sleep(30 * time.Second)
					if err := w.conn.Ping(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				w.send(heartbeat).want(heartbeatOK)
			})
		}},
		{"18 silence of a minute closes it", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				w := s.memory().socket()
				w.join("1", "all", "{}")
				time.Sleep(50 * time.Second)
				w.send(heartbeat).want(heartbeatOK)
				begun := time.Now()
				for range 11 { // that it is sent something does not count
					time.Sleep(5 * time.Second)
					w.want(s.pushed("1", "all", s.insert(jita)))
				}
				w.closed(1002)
				if took := time.Since(begun); took < 60*time.Second || took > 61*time.Second {
					t.Errorf("it was closed after %v, want 60s", took)
				}
			})
		}},
		{"19 a heartbeat overtakes what is queued", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				const queued = 2000 // events, of a kilobyte each
				s.insertMany(queued, jita)
				w := s.memory().socketByHand()
				w.send(`["1","1","all","phx_join",{"start":"earliest"}]`).want(okJoin("1", "all", queued, 1))
				w.next() // the network holds nothing: the rest of its batch is under way, and all others in the log
				w.send(heartbeat)
				synctest.Wait() // it was handled: what writes is in the middle of a batch
				before := 0
				for text := w.next(); text != heartbeatOK; text = w.next() {
					before += len(text)
				}
				if rest := 1 << 20; before > rest/2 {
					t.Errorf("%d bytes of events came before the reply, want at most the batch that was under way", before)
				}
				last := ""
				for range queued - 1 - before/len(s.fillLive(1)) {
					last = w.next()
					if idOf(last) == queued {
						return
					}
				}
				t.Errorf("not all events came; the last was %.100s", last)
			})
		}},
	}
}

// fillLive is an event as it is sent.
func (s *server) fillLive(id int) string { return (&wire{s: s}).fill(s.live(1)) }

// insertMany puts many made-up killmails into a system, in few steps.
func (s *server) insertMany(n int, system uint32) {
	s.t.Helper()
	for n > 0 {
		var step []*killfeed.Killmail
		for range min(n, 500) {
			m := s.mail(system)
			step = append(step, m.Killmail())
		}
		if _, err := s.feed.InsertAll(s.t.Context(), step, 0); err != nil {
			s.t.Fatal(err)
		}
		n -= len(step)
	}
}

// raw sends a request straight to the API, without a look at openapi.json.
func (s *server) raw(method, target string, headers ...string) *answer {
	s.t.Helper()
	return <-s.later(s.request(method, target, "", headers...))
}

func (s *server) metrics() string {
	s.t.Helper()
	return string(s.get("/metrics").want(200).body)
}

// until waits until something holds that nothing tells of.
func (s *server) until(what string, holds func() bool) {
	s.t.Helper()
	limit := time.After(patience)
	for !holds() {
		select {
		case <-time.After(time.Millisecond):
		case <-limit:
			s.t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// memory serves the API on a network in memory and looks after its connections, in a bubble of synctest.
func (s *server) memory() *host {
	s.t.Helper()
	h := s.host()
	s.lookAfter()
	return h
}

// socket opens a socket over the network in memory.
func (h *host) socket() *wire {
	h.t.Helper()
	return h.server.dial(dialing{client: h.client, host: "memory"}, "vsn=2.0.0")
}

// socketByHand is socket for a client that takes nothing but what it is asked for.
func (h *host) socketByHand() *wire {
	h.t.Helper()
	return h.server.dial(dialing{client: h.client, host: "memory", byHand: true}, "vsn=2.0.0")
}
