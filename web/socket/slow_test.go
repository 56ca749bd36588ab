package socket_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed/web/socket"
)

const tooSlow = "close 1013 nothing was taken for 1m0s"

// TestSlow: a client that takes nothing for a minute is closed with 1013, which it sees if it comes back to reading just then:
// wherever in a frame it had stopped, it gets that frame whole, and no other.
func TestSlow(t *testing.T) {
	messages := []string{"a", strings.Repeat("b", 300), strings.Repeat("c", 70_000), "d"}
	var wire strings.Builder // the frames, and where each ends
	var ends []int
	for _, m := range messages {
		wire.WriteString(header(fin|opText, uint64(len(m)), false) + m)
		ends = append(ends, wire.Len())
	}
	stops := []int{0}
	for _, end := range ends {
		stops = append(stops, end-1, end, end+1, end+2, end+3, end+5, end+100)
	}
	stops = slices.DeleteFunc(stops, func(n int) bool { return n >= wire.Len() })
	for _, taken := range stops {
		t.Run(fmt.Sprintf("%d bytes", taken), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, socket.Options{}, &handler{}, "", nil)
				p.handler.push(messages...)
				head := make([]byte, taken)
				if _, err := io.ReadFull(p.in, head); err != nil {
					t.Fatal(err)
				}
				// What the pipe gave beyond that is in the peer's buffer: it counts as taken.
				begun := taken + p.in.Buffered()
				noticed := 61 * time.Second
				if begun > 0 {
					noticed += 10 * time.Second // it is looked at six times a minute
				}
				for time.Since(p.opened) < noticed { // it lives, and says so
					time.Sleep(time.Second)
					p.send(frame(fin|opPong, ""))
				}
				p.in.Reset(io.MultiReader(strings.NewReader(string(head)), buffered(p), p.conn))
				p.listen()
				var want []string
				for i, m := range messages {
					begin := 0
					if i > 0 {
						begin = ends[i-1]
					}
					if begin < begun {
						want = append(want, "text "+m)
					}
				}
				p.hears(append(want, tooSlow)...)
				p.send(frame(fin|opText, "late"), frame(fin|opClose, closing(1013, "")))
				p.ended(1013, "pulled 4")
				p.after(noticed)
			})
		})
	}
}

// buffered takes what is in the peer's buffer.
func buffered(p *peer) io.Reader {
	rest, _ := p.in.Peek(p.in.Buffered())
	return strings.NewReader(string(rest))
}

// TestSlowAndGone: one that does not come back is cut off a little later.
func TestSlowAndGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{}, "", nil)
		p.handler.push("a")
		time.Sleep(30 * time.Second)
		p.send(frame(fin|opPong, ""))
		time.Sleep(30*time.Second + grace - time.Second)
		p.handles("pulled 1")
		time.Sleep(2 * time.Second)
		p.listenedToTheEnd()
		p.handles("ended 1006")
	})
}

// TestNotSlow: a client that takes little, but something each minute, keeps its connection for as long as it likes.
func TestNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{}, "", func(c net.Conn) net.Conn { return &narrow{Conn: c, piece: 10} })
		message := strings.Repeat("m", 500)
		p.handler.push(message)
		p.in.Reset(p.conn)
		var got []byte
		for len(got) < 504 {
			time.Sleep(55 * time.Second)
			p.send(frame(fin|opPong, ""))
			piece := make([]byte, 10)
			n, err := p.conn.Read(piece)
			if err != nil {
				t.Fatalf("cut off after %d bytes and %v: %v", len(got), time.Since(p.opened), err)
			}
			got = append(got, piece[:n]...)
		}
		p.handles("pulled 1", "written")
		if f, err := readFrame(strings.NewReader(string(got))); f != "text "+message {
			t.Errorf("there came %q, %v", got, err)
		}
		if took := time.Since(p.opened); took < 45*time.Minute {
			t.Errorf("it took %v only", took)
		}
	})
}

// narrow is a connection whose writes go out in small pieces, as over TCP with a small buffer: what was taken is known.
type narrow struct {
	net.Conn
	piece int
}

func (c *narrow) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		var n int
		n, err = c.Conn.Write(b[:min(len(b), c.piece)])
		written, b = written+n, b[n:]
	}
	return written, err
}

// TestSpuriousLook: Look goes by what it saw a moment ago. A write that has just begun, or none at all, is not disturbed by it.
func TestSpuriousLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{}, "", nil)
		late := func() time.Time { return time.Now().Add(time.Hour) }
		p.handler.push("a")
		synctest.Wait()
		for range 3 { // as if it had been told of a write an hour ago
			p.handler.socket.Look(late())
			synctest.Wait()
		}
		p.listen().hears("text a")
		p.handles("pulled 1", "written")
		p.handler.push("b")
		p.hears("text b")
		if !p.open() {
			t.Error("it was closed")
		}
	})
}

// TestSlowEnd: a client that takes nothing when the server stops is cut off after a few seconds, not after a minute, and one
// that comes back in time gets the close frame.
func TestSlowEnd(t *testing.T) {
	for _, back := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := open(t, socket.Options{}, &handler{}, "", nil)
			p.handler.push(strings.Repeat("x", 100_000))
			synctest.Wait()
			stopped := time.Now()
			time.AfterFunc(grace-time.Second, func() {
				if back {
					p.listen()
				}
			})
			left := p.set.Drain(t.Context(), time.Second)
			took := time.Since(stopped)
			if left != 0 {
				t.Errorf("%d were left", left)
			}
			if !back {
				p.handles("pulled 1", "ended 1006")
				if took != grace {
					t.Errorf("it took %v, want %v", took, grace)
				}
				return
			}
			if got := p.got(); len(got) != 2 || got[1] != "close 1012 the server is restarting" {
				t.Errorf("there came %q, want the message and 1012", short(got))
			}
			p.handles("pulled 1", "written", "ended 1012") // the client did not answer
		})
	}
}

// TestSlowAmongOthers: others notice nothing of those that take nothing, however many they are.
func TestSlowAmongOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slow []*peer
		for range 50 {
			p := open(t, socket.Options{}, &handler{}, "", nil)
			p.handler.push("x")
			slow = append(slow, p)
		}
		good := open(t, socket.Options{}, &handler{}, "", nil).listen()
		for i := range 70 {
			begun := time.Now()
			good.handler.push(fmt.Sprint(i))
			good.hears(fmt.Sprintf("text %d", i))
			if took := time.Since(begun); took != 0 {
				t.Errorf("message %d took %v", i, took)
			}
			time.Sleep(time.Second)
			for _, p := range append(slow, good) {
				p.send(frame(fin|opPong, ""))
			}
		}
		for _, p := range slow {
			p.handles("pulled 1", "ended 1006")
		}
		if !good.open() {
			t.Error("the other one was closed too")
		}
	})
}

// TestBehindOverTCP: connections that have more to write than their sockets take get all of it, in order, also one whose client
// begins to read when the others have ended.
func TestBehindOverTCP(t *testing.T) {
	const n = 1500
	s := serve(t, socket.Options{})
	big := strings.Repeat("x", 4000)
	read := func(conn *websocket.Conn) {
		for i := range n {
			_, text, err := conn.Read(t.Context())
			if want := fmt.Sprintf("%d %s", i, big); err != nil || string(text) != want {
				t.Errorf("message %d is %.20q, %v", i, text, err)
				return
			}
		}
	}
	var late *websocket.Conn
	var all sync.WaitGroup
	for i := range 6 {
		conn := s.dial(t)
		h := <-s.accepted
		h.mu.Lock()
		h.size = 100
		h.mu.Unlock()
		if i == 0 {
			late = conn
		} else {
			all.Go(func() { read(conn) })
		}
		for j := range n {
			h.push(fmt.Sprintf("%d %s", j, big))
		}
	}
	all.Wait()
	read(late)
}
