package socket_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed/web/live"
	"killfeed/web/socket"
)

// counted counts the writes to a connection, and those that are going on.
type counted struct {
	net.Conn
	writes atomic.Int32
	most   atomic.Int32
	now    atomic.Int32
}

func (c *counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	if n := c.now.Add(1); n > c.most.Load() {
		c.most.Store(n)
	}
	defer c.now.Add(-1)
	return c.Conn.Write(b)
}

// TestOneWrite: what is pulled at a time goes out in one write, and only then is it told to be written.
func TestOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *counted
		p := open(t, socket.Options{}, &handler{}, "", func(conn net.Conn) net.Conn {
			c = &counted{Conn: conn}
			return c
		})
		begun := c.writes.Load() // the handshake
		var messages, frames []string
		for i := range 100 {
			messages = append(messages, fmt.Sprintf("message %d", i))
			frames = append(frames, fmt.Sprintf("text message %d", i))
		}
		p.handler.push(messages...)
		p.handles("pulled 100")
		if n := c.writes.Load() - begun; n != 1 {
			t.Errorf("100 messages are being written by %d writes, want 1", n)
		}
		p.listen().hears(frames...)
		p.handles("written")
		if n := c.writes.Load() - begun; n != 1 {
			t.Errorf("100 messages were written by %d writes, want 1", n)
		}
		big := strings.Repeat("x", 3000)
		p.handler.push("a", big, "b")
		p.hears("text a", "text "+big, "text b")
		p.handles("pulled 3", "written")
		if n := c.writes.Load() - begun; n != 2 {
			t.Errorf("%d writes, want 2", n)
		}
	})
}

// TestWrittenIsTrue: what the connection did not take is not told to be written.
func TestWrittenIsTrue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{size: 1}, "", nil)
		p.handler.push("a", "b")
		if f, err := readFrame(p.in); f != "text a" {
			t.Fatalf("%q, %v", f, err)
		}
		p.handles("pulled 1", "written", "pulled 1")
		p.conn.Close()
		p.handles("ended 1006")
	})
}

// TestWakeWhilePulling: a Wake is never lost, also one that comes between a Pull that finds nothing and the end of the
// goroutine that writes.
func TestWakeWhilePulling(t *testing.T) {
	const each, producers = 500, 4
	s := serve(t, socket.Options{})
	conn := s.dial(t)
	c := <-s.accepted
	var writing sync.WaitGroup
	for i := range producers {
		writing.Go(func() {
			for j := range each {
				c.push(fmt.Sprintf("%d-%d", i, j))
			}
		})
	}
	next := [producers]int{}
	for range each * producers {
		_, text, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var i, j int
		if _, err := fmt.Sscanf(string(text), "%d-%d", &i, &j); err != nil || j != next[i] {
			t.Fatalf("%q came, want %d-%d (%v)", text, i, next[i], err)
		}
		next[i]++
	}
	writing.Wait()
	if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	<-s.ended
	pulled, written := 0, 0
	for _, said := range c.take() {
		switch {
		case strings.HasPrefix(said, "pulled"):
			pulled++
		case said == "written":
			written++
		}
	}
	if pulled != written {
		t.Errorf("pulled %d times, written %d times", pulled, written)
	}
}

// testServer is sockets on a real port.
type testServer struct {
	url      string
	set      *live.Set
	accepted chan *handler
	ended    chan struct{} // something is sent for each connection that has ended
}

// ending is a handler that tells of its end.
type ending struct {
	*handler
	ended chan struct{}
}

func (e *ending) Ended(code int) {
	e.handler.Ended(code)
	e.ended <- struct{}{}
}

func serve(t *testing.T, o socket.Options) *testServer {
	s := &testServer{set: live.New(live.Options{}), accepted: make(chan *handler, 16), ended: make(chan struct{}, 16)}
	sockets := socket.NewServer(o)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lease, refusal := s.set.Enter(netip.Addr{})
		if refusal != nil {
			t.Error(refusal)
			return
		}
		conn, err := sockets.Accept(w, r, "phoenix", lease)
		if err != nil {
			lease.End()
			return
		}
		h := &handler{socket: conn}
		h.on = func(_ bool, message string) error { h.push(message); return nil }
		conn.Serve(&ending{h, s.ended})
		s.accepted <- h
	}))
	t.Cleanup(web.Close)
	t.Cleanup(func() {
		if left := s.set.Drain(context.Background(), 0); left != 0 {
			t.Errorf("%d connections were left", left)
		}
	})
	s.url = web.URL
	return s
}

// dial connects with a client that somebody else wrote.
func (s *testServer) dial(t *testing.T, protocols ...string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), s.url, &websocket.DialOptions{Subprotocols: protocols, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(1 << 24)
	return conn
}

// TestIndependentClient: one that others wrote understands what is written here, over TCP: all lengths of frames, fragments,
// pings, and the end.
func TestIndependentClient(t *testing.T) {
	s := serve(t, socket.Options{})
	conn := s.dial(t, "phoenix", "other")
	if got := conn.Subprotocol(); got != "phoenix" {
		t.Errorf("subprotocol %q, want phoenix", got)
	}
	for _, n := range []int{0, 1, 125, 126, 127, 255, 256, 257, 300, 65535, 65536, 200_000, socket.MaxMessage} {
		message := strings.Repeat("é", n/2) + strings.Repeat("e", n%2)
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(message)); err != nil {
			t.Fatal(err)
		}
		kind, got, err := conn.Read(t.Context())
		if err != nil || kind != websocket.MessageText || string(got) != message {
			t.Fatalf("%d bytes: %v, %d of them came back, %v", n, kind, len(got), err)
		}
	}
	w, err := conn.Writer(t.Context(), websocket.MessageText)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"in ", "three ", "parts"} { // each a frame
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got, err := conn.Read(t.Context()); string(got) != "in three parts" {
		t.Fatalf("%q, %v", got, err)
	}
	reading := conn.CloseRead(t.Context()) // a pong has to be read
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	go s.set.Drain(context.Background(), 0)
	<-reading.Done()
	<-s.ended
	if said := (<-s.accepted).take(); said[len(said)-1] != "ended 1012" {
		t.Errorf("the handler was told %q at last, want 1012", said[len(said)-1])
	}
}

// TestPongsAreBounded: who sends pings and takes no pongs is not given memory for them.
func TestPongsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{}, "", nil)
		var pings strings.Builder
		for i := range 10_000 {
			pings.WriteString(frame(fin|opPing, fmt.Sprintf("%0100d", i)))
		}
		p.send(pings.String())
		p.listen()
		got := p.got()
		if len(got) == 0 || len(got) > 30 || got[0] != fmt.Sprintf("pong %0100d", 0) {
			t.Errorf("%d pongs came for 10,000 pings at once, want a few from the first on", len(got))
		}
		if !slices.IsSorted(got) {
			t.Error("they are not in order")
		}
		p.send(frame(fin|opPing, "again"))
		p.hears("pong again")
	})
}

// TestHandshake: what is no handshake is answered as such.
func TestHandshake(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(h http.Header)
		is     bool // by IsUpgrade
		status int
	}{
		{"a good one", func(http.Header) {}, true, 101},
		{"in another case", func(h http.Header) { h.Set("Connection", "UPGRADE"); h.Set("Upgrade", "WebSocket") }, true, 101},
		{"no Upgrade", func(h http.Header) { h.Del("Upgrade") }, false, 0},
		{"another Upgrade", func(h http.Header) { h.Set("Upgrade", "h2c") }, false, 0},
		{"no Connection", func(h http.Header) { h.Set("Connection", "keep-alive") }, false, 0},
		{"no key", func(h http.Header) { h.Del("Sec-Websocket-Key") }, true, 400},
		{"a short key", func(h http.Header) { h.Set("Sec-Websocket-Key", "x") }, true, 400},
		{"no version", func(h http.Header) { h.Del("Sec-Websocket-Version") }, true, 400},
		{"another version", func(h http.Header) { h.Set("Sec-Websocket-Version", "8") }, true, 426},
		{"a padded token", func(h http.Header) { h.Set("Sec-Websocket-Protocol", "x.YWI+/w==, phoenix") }, true, 101},
	} {
		s := serve(t, socket.Options{})
		r := upgradeRequest(t)
		c.change(r.Header)
		r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
		if is := socket.IsUpgrade(r); is != c.is {
			t.Errorf("%s: IsUpgrade is %v", c.name, is)
		}
		if !c.is {
			continue
		}
		r.URL.Host = strings.TrimPrefix(s.url, "http://")
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s: status %d, want %d", c.name, res.StatusCode, c.status)
		}
		if got := res.Header.Get("Sec-Websocket-Accept"); c.status == 101 && got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455, 1.3
			t.Errorf("%s: Sec-WebSocket-Accept %q", c.name, got)
		}
		if c.status != 101 {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			if n := s.set.Drain(ctx, 0); n != 0 {
				t.Errorf("%s: %d places are taken", c.name, n)
			}
			cancel()
			continue
		}
		<-s.ended
	}
}
