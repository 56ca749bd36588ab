package web_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"killfeed"
	"killfeed/web"
)

func failureCases() []conformance {
	return []conformance{
		{"44 phx_error, and joining again", func(t *testing.T) {
			s := newServer(t)
			store := s.moody()
			w := s.dial(s.online(), "vsn=2.0.0")
			w.join("4", "all", `{}`)
			broken := func() error { return errors.New("/srv/secret: checksum mismatch") }
			store.onRead.Store(&broken)
			id := s.insert(jita)
			w.want(`["4","4","all","phx_error",{"reason":"channel_crash"}]`).quiet()
			w.send(`["4","5","all","commit",{}]`).want(unmatched("5", "all"))
			if log := s.log.String(); !strings.Contains(log, "checksum mismatch") {
				t.Errorf("the log does not have the cause: %s", log)
			}
			store.onRead.Store(nil)
			w.send(fmt.Sprintf(`["6","6","all","phx_join",{"after":%d}]`, id-1)).want(okJoin("6", "all", 1, 1))
			w.want(s.pushed("6", "all", id))
			// A client that was deleted may come again under its name.
			w.join("7", "system:30000142", `{"client_id":"bot"}`)
			s.admin("DELETE", "/api/clients/bot", "").want(204)
			w.want(`["7","7","system:30000142","phx_error",{"reason":"channel_crash"}]`)
			w.want(s.pushed("6", "all", s.insert(hek)))
			w.join("8", "system:30000142", `{"client_id":"bot"}`)
		}},
		{"45 nothing is left of a connection", testNothingIsLeft},
		{"46 a drain", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				h := s.memory()
				const n = 100
				var all []*wire
				for range n {
					w := h.socket()
					w.join("1", "system:30000142", `{}`)
					all = append(all, w)
				}
				began := time.Now()
				drained := make(chan int)
				go func() { drained <- s.api.Drain(t.Context(), 30*time.Second) }()
				ends := make(chan time.Duration, n)
				for _, w := range all {
					go func() {
						if reason := w.closed(1012); !strings.Contains(reason, "restarting") {
							t.Errorf("reason %q", reason)
						}
						ends <- time.Since(began)
					}()
				}
				if left := <-drained; left != 0 {
					t.Errorf("%d were left", left)
				}
				took := time.Since(began)
				var times []time.Duration
				for range n {
					times = append(times, <-ends)
				}
				slices.Sort(times)
				if took > 2*time.Second || times[n/2] < took/4 || times[n/2] > took*3/4 {
					t.Errorf("it took %v, half of them had ended after %v; want at most 2s, and them spread", took, times[n/2])
				}
				res, body := s.refusedHandshake(dialing{client: h.client, host: "memory"}, "vsn=2.0.0")
				if res.StatusCode != 503 || res.Header.Get("Retry-After") == "" {
					t.Errorf("a socket behind a drain: %d, %s", res.StatusCode, body)
				}
			})
		}},
		{"47 a slow socket among others", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t)
				h := s.memory()
				slow, good := h.socketByHand(), h.socket()
				slow.send(`["1","1","all","phx_join",{}]`).want(okJoin("1", "all", 0, 1))
				good.join("1", "all", `{}`)
				s.insertMany(300, jita)
				last := killfeed.EventID(300)
				slow.want(s.pushed("1", "all", 1))
				good.want(s.pushedAll("1", "all", upTo(1, last)...)...)
				begun := time.Now()
				for time.Since(begun) < 72*time.Second {
					before := time.Now()
					last = s.insert(jita)
					good.want(s.pushed("1", "all", last))
					if took := time.Since(before); took != 0 {
						t.Fatalf("an event took %v to come", took)
					}
					slow.send(heartbeat) // it lives, but takes nothing
					good.send(heartbeat).want(heartbeatOK)
					time.Sleep(time.Second)
				}
				// It comes back to reading, and finds the end of what was on its way, and why.
				slow.read()
				got := []killfeed.EventID{1}
				for {
					text, ok := <-slow.reads
					if !ok {
						break
					}
					if id := idOf(text); id > 0 {
						got = append(got, id)
					}
				}
				if websocket.CloseStatus(slow.err) != 1013 {
					t.Errorf("the slow one is closed with %v, want 1013", slow.err)
				}
				if len(got) < 2 || len(got) > 128 || !slices.Equal(got, upTo(1, killfeed.EventID(len(got)))) {
					t.Errorf("the slow one got %d events: %v; want the first ones, at most a batch", len(got), got)
				}
				good.want(s.pushed("1", "all", s.insert(jita)))
				synctest.Wait()
				if want := `killfeed_connections_closed_total{code="1013",transport="websocket"} 1`; !strings.Contains(s.metrics(), want) {
					t.Errorf("metrics have no %s", want)
				}
			})
		}},
		{"48 a drain in the middle of history", func(t *testing.T) {
			s := newServer(t)
			const n = 10_000
			s.insertMany(n, jita)
			d := s.online()
			w := s.dial(d, "vsn=2.0.0")
			w.join("1", "all", `{"start":"earliest"}`)
			for range 100 {
				w.next()
			}
			drained := make(chan int)
			go func() { drained <- s.api.Drain(t.Context(), 0) }()
			got := killfeed.EventID(100)
			for text := range w.reads { // what was on its way, frame by frame
				if got++; idOf(text) != got {
					t.Fatalf("event %d came behind %d", idOf(text), got-1)
				}
			}
			if websocket.CloseStatus(w.err) != 1012 {
				t.Errorf("it ends with %v, want 1012", w.err)
			}
			if left := <-drained; left != 0 {
				t.Errorf("%d were left", left)
			}
			// Another server goes on where this one stopped.
			again := newServerOn(t, s)
			w = again.dial(again.online(), "vsn=2.0.0")
			w.join("1", "all", fmt.Sprintf(`{"after":"%d-%s"}`, got, s.feed.State().Epoch))
			for got < n {
				if id := idOf(w.next()); id != got+1 {
					t.Fatalf("event %d came behind %d", id, got)
				}
				got++
			}
			w.quiet()
		}},
		{"49 a token that is not good any more", testTokenChanges},
	}
}

// upTo are the ids from first to last.
func upTo(first, last killfeed.EventID) (ids []killfeed.EventID) {
	for id := first; id <= last; id++ {
		ids = append(ids, id)
	}
	return ids
}

// newServerOn is a second API of the same feed, as after a restart.
func newServerOn(t *testing.T, s *server) *server {
	t.Helper()
	again := *s
	again.t = t
	api, err := web.New(s.feed, web.Config{})
	if err != nil {
		t.Fatal(err)
	}
	again.api = api
	return &again
}

// testNothingIsLeft: connections of all kinds come, join, and end in all ways. After that everything is as it was.
func testNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		h := s.memory()
		s.insertMany(300, jita)
		round := func() {
			var all []*wire
			d := dialing{client: h.client, host: "memory", loose: true}
			for i := range 40 {
				w := s.dial(d, "vsn=2.0.0")
				for j := range 10 {
					w.join(fmt.Sprint(j), fmt.Sprintf("system:%d", jita+j), `{}`)
				}
				w.join("many", "killfeed", fmt.Sprintf(`{"systems":[%s1],"client_id":"bot%d","start":"earliest"}`, strings.Repeat("30000142,", 100), i))
				all = append(all, w)
			}
			d.byHand = true
			slow := s.dial(d, "vsn=2.0.0")
			slow.send(`["1","1","all","phx_join",{"start":"earliest"}]`)
			synctest.Wait()
			if n := s.feed.Stats().Subscriptions; n < 40*10 {
				t.Fatalf("%d subscriptions only", n)
			}
			for i, w := range all {
				switch i % 4 {
				case 0:
					w.conn.Close(websocket.StatusNormalClosure, "")
				case 1:
					w.conn.CloseNow()
				case 2:
					w.send("broken")
				case 3:
					w.send(`["1","l","system:30000143","phx_leave",{}]`)
				}
			}
			time.Sleep(2 * time.Minute) // those that are left are silent
			synctest.Wait()
			for _, w := range all {
				w.conn.CloseNow()
			}
			slow.conn.CloseNow()
			h.client.CloseIdleConnections()
			synctest.Wait()
			if n := s.feed.Stats().Subscriptions; n != 0 {
				t.Errorf("%d subscriptions are left", n)
			}
			if !strings.Contains(s.metrics(), `killfeed_connections{transport="websocket"} 0`) {
				t.Error("connections are left")
			}
		}
		round() // fills pools, and what else is kept on purpose
		base := goleak.IgnoreCurrent()
		before := heap()
		for range 3 {
			round()
		}
		if err := goleak.Find(base); err != nil {
			t.Error(err)
		}
		if after := heap(); after > before+2<<20 {
			t.Errorf("the heap has grown from %d to %d bytes", before, after)
		}
	})
}

// heap is how much memory is in use.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // sync.Pool keeps things over one
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// testTokenChanges: who was let in by the admin token is closed when that changes; others notice nothing.
func testTokenChanges(t *testing.T) {
	s := newServer(t)
	d := s.online()
	dial := func(token string) *wire {
		t.Helper()
		return s.dial(d, "vsn=2.0.0", "phoenix", "base64url.bearer.phx."+base64.RawStdEncoding.EncodeToString([]byte(token)))
	}
	admitted, open := dial(adminToken), s.dial(d, "vsn=2.0.0")
	admitted.join("1", "all", `{}`)
	open.join("1", "all", `{}`)
	if n := s.api.SetAdminToken(adminToken); n != 0 { // the same again
		t.Errorf("%d were closed by the same token", n)
	}
	admitted.quiet()
	if n := s.api.SetAdminToken("another-horse"); n != 1 {
		t.Errorf("%d were closed, want 1", n)
	}
	if reason := admitted.closed(1008); !strings.Contains(reason, "token") {
		t.Errorf("reason %q", reason)
	}
	open.want(s.pushed("1", "all", s.insert(jita)))
	s.isForbidden(d, "vsn=2.0.0", "phoenix", "base64url.bearer.phx."+base64.RawStdEncoding.EncodeToString([]byte(adminToken)))
	s.admin("POST", "/api/collect", "").problem(403)
	s.do("POST", "/api/collect", "", "Authorization", "Bearer another-horse").want(200)

	admitted = dial("another-horse")
	admitted.join("1", "all", `{}`)
	admitted.conn.Close(websocket.StatusNormalClosure, "")
	s.until("it has ended", func() bool { return s.feed.Stats().Subscriptions == 1 })
	if n := s.api.SetAdminToken(""); n != 0 {
		t.Errorf("%d were closed, of which none was there", n)
	}
	s.do("POST", "/api/collect", "", "Authorization", "Bearer another-horse").problem(403)
	s.isForbidden(d, "vsn=2.0.0", "phoenix", "base64url.bearer.phx.")
	open.quiet()
}
