//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"killfeed/bench/internal/server"
)

// fake is a server whose subscribers are sent what the test says, once they have asked for system 7.
func fake(t *testing.T, send func(ctx context.Context, c *websocket.Conn) error) *target {
	t.Helper()
	var running sync.WaitGroup
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Done()
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		_, hello, err := c.Read(r.Context())
		if err != nil || string(hello) != "join 7" {
			t.Errorf("the first message is %q, %v", hello, err)
			return
		}
		if err := c.Write(r.Context(), websocket.MessageText, []byte("welcome")); err != nil {
			t.Error(err)
			return
		}
		if send(r.Context(), c) != nil {
			return // the subscribers hung up, which they tell why, or miss something now, which they tell as well
		}
		for { // what the subscribers answer: heartbeats, and pongs
			_, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), websocket.MessageText, append([]byte("answer to "), message...)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(func() {
		s.Close()
		running.Wait() // a WebSocket is no longer the server's, so that it does not wait for it
	})
	return &target{
		name: "fake", server: &server.Server{Addr: s.Listener.Addr().String()}, socket: "/", welcome: "welcome",
		beat: "beat", beaten: "answer to beat", number: `"n":`,
		join: func(system uint32, _ string) string { return fmt.Sprintf("join %d", system) },
	}
}

// mail is a delivery with a number, as large as a killmail.
func mail(n int) string {
	b, _ := json.Marshal(map[string]any{"n": n, "rest": strings.Repeat("x", 2500)})
	return string(b)
}

// write sends messages, the last of them in fragments.
func write(messages ...string) func(context.Context, *websocket.Conn) error {
	return func(ctx context.Context, c *websocket.Conn) error {
		for i, m := range messages {
			if i < len(messages)-1 {
				if err := c.Write(ctx, websocket.MessageText, []byte(m)); err != nil {
					return err
				}
				continue
			}
			w, err := c.Writer(ctx, websocket.MessageText)
			if err != nil {
				return err
			}
			for len(m) > 0 {
				n := min(100, len(m))
				if _, err := w.Write([]byte(m[:n])); err != nil {
					return err
				}
				m = m[n:]
			}
			if err := w.Close(); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestSubscribers(t *testing.T) {
	for _, c := range []struct {
		name string
		send func(context.Context, *websocket.Conn) error
		want int    // deliveries
		err  string // what is wrong instead
	}{
		{name: "one a message", send: write(mail(1), mail(2), mail(3)), want: 3},
		{name: "several a message", send: write(mail(8)+"\n"+mail(9), mail(10)+"\n"+mail(11)+"\n"+mail(12)), want: 5},
		{name: "one too many", send: write(mail(1), mail(2), mail(3), mail(4)), want: 3, err: "got 4 deliveries, not 3"},
		{name: "a hole", send: write(mail(1), mail(3)), want: 2, err: `sent "n":3 after 1`},
		{name: "one again", send: write(mail(1), mail(1)), want: 2, err: `sent "n":1 after 1`},
		{name: "something else", send: write("a gap"), want: 1, err: `sent "a gap"`},
		{
			name: "closed", want: 1, err: `closed the connection: 1013 "slow"`,
			send: func(_ context.Context, c *websocket.Conn) error {
				c.Close(websocket.StatusTryAgainLater, "slow")
				return nil
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			ready := make(chan struct{}) // the round has begun
			target := fake(t, func(ctx context.Context, conn *websocket.Conn) error {
				select {
				case <-ready:
				case <-ctx.Done():
					return nil
				}
				return c.send(ctx, conn)
			})
			p, err := target.connect(t.Context(), 5, joinSystem(7))
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			if err := p.begin(func(int) int { return c.want }, true, true); err != nil {
				t.Fatal(err)
			}
			close(ready)
			err = p.wait(t.Context(), time.Minute)
			if err == nil {
				err = p.beat(0) // its answer comes behind whatever comes too often
			}
			if err == nil {
				err = p.exact()
			}
			switch {
			case c.err == "" && err != nil:
				t.Error(err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("error %v, want one with %q", err, c.err)
			}
			if c.err != "" {
				return
			}
			for _, r := range p.readers {
				for _, s := range r.subs {
					if len(s.at) != c.want || s.first == 0 {
						t.Errorf("%d times noted, the first %d", len(s.at), s.first)
					}
				}
			}
		})
	}
}

// Streams are only read away, once they have begun. Who is refused comes again.
func TestEventStream(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/busy" && asked.Add(1) <= 2:
			w.Header().Set("Retry-After", "0")
			fallthrough
		case r.URL.Path == "/refused":
			http.Error(w, "no", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry: 1000\n\nid: 7-00000000\nevent: open\ndata: {}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	target := &target{name: "fake", server: &server.Server{Addr: s.Listener.Addr().String()}}
	p, err := target.connect(t.Context(), 3, func(_ int, s *subscriber) error { return s.stream("/busy") })
	if err != nil {
		t.Fatal(err)
	}
	p.close()
	if n := asked.Load(); n != 5 {
		t.Errorf("asked %d times, want 5", n)
	}
	_, err = target.connect(t.Context(), 3, func(_ int, s *subscriber) error { return s.stream("/refused") })
	if err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("error %v, want one with the status", err)
	}
}
