package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

// raw opens a stream of which nothing is read but its headers.
func (h *host) raw(target string) (net.Conn, *bufio.Reader) {
	h.t.Helper()
	c, err := h.net.dial(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	in := bufio.NewReaderSize(c, 16)
	go fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: memory\r\n\r\n", target)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			h.t.Fatalf("reading the headers of %s: %v", target, err)
		}
		if line == "\r\n" {
			return c, in
		}
	}
}

// open is how many connections stay open.
func (h *host) open() (n int) {
	h.t.Helper()
	var status struct{ Connections int }
	h.get("/api/status").want(200).into(&status)
	return status.Connections
}

// large puts a killmail of so many bytes into Jita.
func (s *server) large(size int) killfeed.EventID {
	s.t.Helper()
	text := fmt.Sprintf(`{"system_id":30000142,"killmail":{"a":%q}}`, strings.Repeat("x", size))
	var res struct{ Results []result }
	s.admin("POST", "/api/killmails", text).want(201).into(&res)
	return res.Results[0].EventID
}

// TestStreamOutlivesDeadlines: however short the server's WriteTimeout is, a stream that is silent goes on, over HTTP/1.1 and
// HTTP/2; and what is written is bounded again afterwards.
func TestStreamOutlivesDeadlines(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Second} { // 0: as it is
		for _, two := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := newServer(t).host(func(s *http.Server) {
					if timeout > 0 {
						s.WriteTimeout = timeout
					}
				})
				client, version := h.client, 1
				if two {
					client, version = h.http2, 2
				}
				s := h.streamBy(client, streamPath+"?systems=30000142")
				s.is("open")
				if s.res.ProtoMajor != version {
					t.Fatalf("this is %s", s.res.Proto)
				}
				for range 60 { // 20 minutes
					time.Sleep(20 * time.Second)
					s.is("heartbeat")
				}
				h.insert(jita)
				s.is("1")
				if s.hasEnded() {
					t.Errorf("HTTP/%d, WriteTimeout %v: it has ended", version, timeout)
				}
			})
		}
	}
}

// TestStreamOverHTTP2, without TLS, as a proxy may speak it: many streams on one connection, of which one that is not read stops
// no other; WebSockets and HTTP/1.1 beside it.
func TestStreamOverHTTP2(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		var all []*streaming
		for range 100 {
			all = append(all, h.streamBy(h.http2, streamPath+"?systems=30000142"))
		}
		one := h.stream(streamPath + "?systems=30000142")
		for _, s := range append(all, one) {
			s.is("open")
		}
		id := h.insert(jita)
		for _, s := range append(all, one) {
			s.is(fmt.Sprint(id))
		}
		all[0].leave()
		synctest.Wait()
		if n := h.open(); n != 100 {
			t.Errorf("%d are open after one has left, want 100", n)
		}
		res, err := h.http2.Get("http://memory/api/killfeed?client_id=a&topics=all")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 200 || res.ProtoMajor != 2 {
			t.Errorf("a poll beside them: %d over %s", res.StatusCode, res.Proto)
		}
		res, err = h.http2.Get("http://memory/socket/websocket?vsn=2.0.0")
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != 400 {
			t.Errorf("a WebSocket over HTTP/2: %d, want 400, for it is not one", res.StatusCode)
		}
		c, err := h.net.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go io.WriteString(c, "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nHost: memory\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		if err != nil || !strings.Contains(line, " 101 ") {
			t.Errorf("a WebSocket over HTTP/1.1: %q, %v", line, err)
		}
	})
}

// TestLimitsOverHTTP2 are those of HTTP/1.1: headers are bounded, and Shutdown answers long polls and ends streams at once.
func TestLimitsOverHTTP2(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newServer(t).host()
		for n, fits := range map[int]bool{60 << 10: true, 128 << 10: false} {
			res, err := h.http2.Get("http://memory/api/killfeed?client_id=a&topics=all&x=" + strings.Repeat("x", n))
			if err == nil {
				res.Body.Close()
			}
			if ok := err == nil && res.StatusCode == 200; ok != fits { // Go's client does not even send what the server says is too much
				t.Errorf("a query of %d bytes: accepted %v, want %v", n, ok, fits)
			}
		}
		s := h.streamBy(h.http2, streamPath+"?topics=all")
		s.is("open")
		type outcome struct {
			res *http.Response
			err error
		}
		done := make(chan outcome, 1)
		go func() {
			res, err := h.http2.Get("http://memory/api/killfeed?client_id=a&topics=all&wait=60")
			done <- outcome{res, err}
		}()
		time.Sleep(time.Second)
		begun := time.Now()
		if err := h.http.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
		if o := <-done; o.err != nil || o.res.StatusCode != 503 {
			t.Errorf("the long poll: %+v", o)
		} else {
			o.res.Body.Close()
		}
		if !s.hasEnded() {
			t.Error("the stream goes on")
		}
	})
}

// TestStreamThatTakesNothing is cut off a minute after it took something, holds up nobody meanwhile, and loses nothing: what did not arrive was not
// committed.
func TestStreamThatTakesNothing(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		c, in := h.raw(streamPath + "?client_id=a&systems=30000142")
		for line := ""; line != "\n"; { // its open
			var err error
			if line, err = in.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		h.raw(streamPath + "?systems=30000142") // stuck in its open already
		other := h.stream(streamPath + "?systems=30000142&backfill=1")
		other.is("open")
		for i := range 3 {
			h.insert(jita)
			other.is(fmt.Sprint(i + 1))
		}
		time.Sleep(time.Minute - 1)
		synctest.Wait()
		if n := h.open(); n != 3 {
			t.Errorf("%d are open after a minute, want 3", n)
		}
		time.Sleep(12 * time.Second) // one took something of its open, and writes are looked at six times a minute
		synctest.Wait()
		if n := h.open(); n != 1 {
			t.Errorf("%d are open after that, want 1", n)
		}
		c.Close()
		h.stream(streamPath + "?client_id=a&systems=30000142").is("open 1 2 3")
		other.is("heartbeat heartbeat heartbeat")
	})
}

// TestStreamOverASlowLine: who takes a little at a time gets a killmail of 8 MiB whole. To be cut off in its middle each time
// would be to never get past it.
func TestStreamOverASlowLine(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		h.large(8<<20 - 100)
		c, in := h.raw(streamPath + "?systems=30000142&after=0")
		defer c.Close()
		buf, got := make([]byte, 16<<10), 0
		begun := time.Now()
		for {
			n, err := in.Read(buf) // at most 16 KiB
			got += n
			if err != nil {
				t.Fatalf("cut off after %v and %d bytes: %v", time.Since(begun), got, err)
			}
			if got > 8<<20 && bytes.HasSuffix(buf[:n], []byte("\n\n")) {
				break
			}
			if n > 4096 || got%(64<<10) < n {
				time.Sleep(10 * time.Second)
			}
		}
		if took := time.Since(begun); took < 10*time.Minute {
			t.Errorf("it took %v: that was no slow line", took)
		}
	})
}

// TestStreamDrain: streams end, in a way that makes their clients come back, and nobody is let in. Who takes nothing does not
// hold it up.
func TestStreamDrain(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		h.large(1 << 20)
		s, lines := h.stream(streamPath+"?systems=30000142&client_id=a"), h.stream(streamPath+"?topics=all", "Accept", "application/x-ndjson")
		two := h.streamBy(h.http2, streamPath+"?topics=all")
		for _, s := range []*streaming{s, lines, two} {
			s.is("open")
		}
		h.raw(streamPath + "?systems=30000142&after=0")
		h.insert(jita)
		s.is("2")
		begun := time.Now()
		if left := h.api.Drain(t.Context(), 30*time.Second); left != 0 {
			t.Errorf("%d are left", left)
		}
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("it took %v, want 5 s at most for who takes nothing, and a moment for the others", took)
		}
		for _, s := range []*streaming{s, lines, two} {
			if !s.hasEnded() {
				t.Error("one goes on")
			}
		}
		late := h.stream(streamPath + "?topics=all")
		if late.res.StatusCode != 503 || late.res.Header.Get("Retry-After") == "" {
			t.Errorf("status %d, Retry-After %q; want 503 and a time", late.res.StatusCode, late.res.Header.Get("Retry-After"))
		}
		if p := h.get("/api/killfeed?client_id=a&systems=30000142").poll(); len(p.Events) != 0 {
			t.Errorf("events %v were not committed", p.ids())
		}
	})
}

// TestStreamOfClosedFeed ends, and is not an error.
func TestStreamOfClosedFeed(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		s := h.stream(streamPath + "?topics=all")
		s.is("open")
		h.close()
		if !s.hasEnded() {
			t.Error("it goes on")
		}
		if p := h.stream(streamPath + "?topics=all"); p.res.StatusCode != 503 {
			t.Errorf("status %d, want 503", p.res.StatusCode)
		}
		if strings.Contains(h.log.String(), "level=ERROR") {
			t.Errorf("it was logged: %s", h.log)
		}
	})
}

// unreadable is a store whose index cannot be read while it is broken.
type unreadable struct {
	killfeed.Store
	broken func() bool
}

func (u *unreadable) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	if u.broken() {
		return nil, errors.New("input/output error in /srv/secret")
	}
	return u.Store.Find(dst, q)
}

func (u *unreadable) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	if u.broken() {
		return errors.New("input/output error in /srv/secret")
	}
	return u.Store.Read(ids, yield)
}

// TestStreamOfUnreadableStore ends without a word to the client but with one in the log, and goes on where it was when the client
// comes back.
func TestStreamOfUnreadableStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := false // synctest.Wait orders what is done to it
		s := &server{t: t, log: &syncBuffer{}, mails: storetest.NewMaker(storetest.MakerOptions{Attackers: 1})}
		var err error
		if s.feed, err = killfeed.Open(&unreadable{storetest.NewModel(), func() bool { return broken }}, killfeed.Options{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.feed.Close() })
		if s.api, err = web.New(s.feed, web.Config{Logger: slog.New(slog.NewTextHandler(s.log, nil))}); err != nil {
			t.Fatal(err)
		}
		h := s.host()
		a := h.stream(streamPath + "?systems=30000142")
		a.is("open")
		h.insert(jita)
		a.is("1")
		broken = true
		h.insert(jita)
		a.is("")
		if !a.hasEnded() {
			t.Error("it goes on")
		}
		if !strings.Contains(h.log.String(), "input/output error") {
			t.Errorf("the cause was not logged: %s", h.log)
		}
		broken = false
		h.stream(streamPath+"?systems=30000142", "Last-Event-ID", a.last()).is("open 2")
	})
}

// TestStreamWhoseClientLeaves leaves nothing behind.
func TestStreamWhoseClientLeaves(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		before := runtime.NumGoroutine()
		for _, client := range []*http.Client{h.client, h.http2} {
			for _, query := range []string{"topics=all", "client_id=a&topics=all", "topics=all&after=0"} {
				s := h.streamBy(client, streamPath+"?"+query)
				s.take()
				s.leave()
				synctest.Wait()
				client.CloseIdleConnections()
			}
		}
		c, _ := h.raw(streamPath + "?topics=all")
		c.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := h.open(); n != 0 {
			t.Errorf("%d are open", n)
		}
		if st := h.feed.Stats(); st.Subscriptions != 0 {
			t.Errorf("%d subscriptions are left", st.Subscriptions)
		}
		if after := runtime.NumGoroutine(); after > before {
			stacks := make([]byte, 1<<20)
			t.Errorf("%d goroutines, %d before\n%s", after, before, stacks[:runtime.Stack(stacks, true)])
		}
		if strings.Contains(h.log.String(), "level=") {
			t.Errorf("that someone left was logged: %s", h.log)
		}
	})
}

// TestIdleStreamIsSmall: a stream does not keep the memory of the requests before it.
func TestIdleStreamIsSmall(t *testing.T) {
	s := newServer(t)
	body := `{"client_id":"a","topics":["all"],"x":"` + strings.Repeat("x", 900<<10) + `"}`
	heap := func() int {
		runtime.GC()
		runtime.GC() // the first one leaves what is in pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	before := heap()
	var ended []<-chan *answer
	for i := range 32 {
		s.do("POST", "/api/killfeed", body).want(200)
		ended = append(ended, s.later(s.request("GET", streamPath+"?topics=all", "").WithContext(ctx)))
		for s.feed.Stats().Subscriptions <= i {
			runtime.Gosched()
		}
	}
	if grew := heap() - before; grew > 8<<20 {
		t.Errorf("32 idle streams hold %d KiB", grew>>10)
	}
	leave()
	for _, end := range ended {
		<-end
	}
}
