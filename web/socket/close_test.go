package socket_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/web/socket"
)

// grace is how long the end of a connection may take.
const grace = 5 * time.Second

// TestClosing: in whatever order a connection ends, each side hears the other's close frame if it listens, nothing waits
// longer than it has to, and the handler is told once, last.
func TestClosing(t *testing.T) {
	drained := "close 1012 the server is restarting"
	for _, c := range []struct {
		name string
		run  func(p *peer)
	}{
		{"the client begins", func(p *peer) {
			p.listen().send(frame(fin|opClose, closing(1000, "bye")))
			p.hears("close 1000")
			p.ended(1000)
		}},
		{"the client begins, without a code", func(p *peer) {
			p.listen().send(frame(fin|opClose, ""))
			p.hears("close")
			p.ended(1005)
		}},
		{"the client begins, and closes its side at once", func(p *peer) {
			p.send(frame(fin|opClose, ""))
			p.conn.Close()
			p.listenedToTheEnd()
			p.handles("ended 1006")
		}},
		{"the client begins, and does not listen", func(p *peer) {
			p.send(frame(fin|opClose, ""))
			p.handles()
			time.Sleep(grace)
			p.listenedToTheEnd()
			p.handles("ended 1006")
			p.after(grace)
		}},
		{"what the client says behind its close frame", func(p *peer) {
			p.listen().send(frame(fin|opClose, "") + frame(fin|opText, "late") + frame(fin|opPing, "late"))
			p.hears("close")
			p.ended(1005)
		}},
		{"the server begins", func(p *peer) {
			p.listen().handler.socket.Drain()
			p.hears(drained)
			if !p.open() {
				p.t.Error("it did not wait for the client's answer")
			}
			p.send(frame(fin|opClose, closing(1012, "")))
			p.ended(1012)
			p.after(0)
		}},
		{"the client answers with a code that it may not send", func(p *peer) {
			p.listen().handler.socket.Drain()
			p.hears(drained)
			p.send(frame(fin|opClose, closing(1006, "")))
			p.ended(1012)
			p.after(0)
		}},
		{"the server begins, and the client does not answer", func(p *peer) {
			p.listen().handler.socket.Drain()
			p.hears(drained)
			p.wait(grace)
			p.ended(1012)
			p.after(grace)
		}},
		{"the server begins, and the client does not listen", func(p *peer) {
			p.handler.socket.Drain()
			time.Sleep(grace)
			p.listenedToTheEnd()
			p.handles("ended 1006")
			p.after(grace)
		}},
		{"the server begins twice", func(p *peer) {
			p.handler.socket.Close(&socket.CloseError{Code: socket.Policy, Reason: "first"})
			p.handler.socket.Drain()
			p.listen().hears("close 1008 first")
			p.send(frame(fin|opClose, ""))
			p.ended(1008)
		}},
		{"both begin, and the frames cross", func(p *peer) {
			p.handler.socket.Drain() // nobody reads yet: its frame is being written
			p.send(frame(fin|opClose, closing(1000, "")))
			p.handles()
			p.listen().hears(drained)
			p.ended(1012)
			p.after(0)
		}},
		{"both begin, the server while the client's is being answered", func(p *peer) {
			p.send(frame(fin|opClose, closing(1000, "")))
			p.handler.socket.Drain()
			p.handles()
			p.listen().hears("close 1000")
			p.ended(1000)
			p.after(0)
		}},
		{"the connection is cut", func(p *peer) {
			p.conn.Close()
			p.listenedToTheEnd()
			p.handles("ended 1006")
			p.after(0)
		}},
		{"the connection is cut in a frame", func(p *peer) {
			p.send(frame(fin|opText, "abc")[:7])
			p.conn.Close()
			p.listenedToTheEnd()
			p.handles("ended 1006")
		}},
		{"the connection is cut while something is written", func(p *peer) {
			p.handler.push("a")
			p.handles("pulled 1")
			p.conn.Close()
			p.listenedToTheEnd()
			p.handles("ended 1006")
		}},
		{"what was begun to be written goes first", func(p *peer) {
			p.handler.size = 2
			p.handler.push("a", "b", "c", "d", "e")
			p.handles("pulled 2")
			p.handler.socket.Drain()
			p.listen().hears("text a", "text b", "text c", "text d", drained)
			p.handles("written", "pulled last 2") // from here on it is the handler's to say only what it must
			p.send(frame(fin|opClose, ""))
			p.ended(1012)
		}},
		{"no message is handled once the end has begun", func(p *peer) {
			p.handler.socket.Drain()
			p.send(frame(fin|opText, "late"))
			p.listen().hears(drained)
			p.send(frame(fin|opText, "later"), frame(fin|opPing, "x"), frame(fin|opClose, ""))
			p.hears()
			p.ended(1012)
		}},
		{"a client that breaks the protocol instead of answering", func(p *peer) {
			p.listen().handler.socket.Drain()
			p.hears(drained)
			p.send(header(fin|opText, 1, false)+"x", frame(fin|opText, "more"))
			p.hears()
			p.wait(grace)
			p.ended(1012)
			p.after(grace)
		}},
		{"a client that never stops sending", func(p *peer) {
			p.listen().send(frame(fin|0x70|opText, "x"))
			p.got()
			sent := make(chan int)
			go func() {
				n, _ := io.Copy(p.conn, endless{})
				sent <- int(n)
			}()
			if n := <-sent; n > 2<<20 {
				p.t.Errorf("%d bytes were taken behind the close frame", n)
			}
			p.ended(1002)
			p.after(0)
		}},
		{"the end waits for a message that is being handled", func(p *peer) {
			release := make(chan struct{})
			p.handler.on = func(bool, string) error { <-release; p.handler.push("reply"); return nil }
			p.listen().send(frame(fin|opText, "join"))
			p.handles("text join")
			p.handler.socket.Drain()
			p.hears(drained)
			time.Sleep(time.Minute)
			p.handles()
			close(release)
			synctest.Wait()
			p.hears()
			p.ended(1012)
		}},
		{"the connection is cut while a message is being handled", func(p *peer) {
			release := make(chan struct{})
			p.handler.on = func(bool, string) error { <-release; p.handler.push("reply"); return nil }
			p.send(frame(fin|opText, "join"))
			p.handles("text join")
			p.conn.Close()
			p.handles()
			close(release)
			synctest.Wait()
			p.listenedToTheEnd()
			said := p.handler.take() // it may have tried to write the reply
			if len(said) == 0 || said[len(said)-1] != "ended 1006" {
				p.t.Errorf("the handler was told %q, want the end", said)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(open(t, socket.Options{}, &handler{}, "", nil)) })
		})
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// TestFull: while there is no room for answers, nothing is read; and whatever ends the connection ends the wait.
func TestFull(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(p *peer)
	}{
		{"until something is pulled", func(p *peer) {
			p.listen().send(frame(fin|opText, "a"), frame(fin|opText, "b"))
			p.handles()
			p.handler.push("x")
			p.hears("text x")
			p.handlesInAnyOrder("pulled 1", "text a", "text b", "written")
			p.conn.Close()
			p.listenedToTheEnd()
			p.handles("ended 1006")
		}},
		{"until the server closes", func(p *peer) {
			p.listen().send(frame(fin|opText, "a"))
			p.handler.socket.Drain()
			p.hears("close 1012 the server is restarting")
			p.send(frame(fin|opClose, ""))
			p.ended(1012)
		}},
		{"until nothing can be written any more", func(p *peer) {
			p.send(frame(fin|opText, "a"))
			p.handles()
			// The reader waits and sees nothing of the cut; who writes does.
			p.handler.mu.Lock()
			p.handler.queue = []string{"x"}
			p.handler.mu.Unlock()
			p.conn.Close()
			p.handler.socket.Wake()
			synctest.Wait()
			p.listenedToTheEnd()
			said := p.handler.take()
			if len(said) == 0 || said[len(said)-1] != "ended 1006" {
				p.t.Errorf("the handler was told %q, want the end", said)
			}
		}},
		{"and the client is not silent meanwhile", func(p *peer) {
			p.listen().send(frame(fin|opText, "a"))
			time.Sleep(10 * time.Minute)
			p.handles()
			p.hears()
			p.handler.push("x")
			p.hears("text x")
			p.handlesInAnyOrder("pulled 1", "text a", "written")
			p.wait(61*time.Second + grace)
			p.ended(1002)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.run(open(t, socket.Options{}, &handler{full: true}, "", nil)) })
		})
	}
}

// TestSilence: who sends nothing for a minute is closed, but any whole frame is something.
func TestSilence(t *testing.T) {
	silent := "close 1002 nothing was heard for 1m0s"
	for _, c := range []struct {
		name string
		run  func(p *peer)
		told []string
	}{
		{"nothing at all", func(p *peer) {}, nil},
		{"half a frame", func(p *peer) {
			time.Sleep(30 * time.Second)
			p.send(frame(fin|opText, "abc")[:5])
		}, nil},
		{"half a message", func(p *peer) {
			time.Sleep(30 * time.Second)
			p.send(frame(opText, "abc"))
		}, nil},
		{"pings", func(p *peer) {
			for range 10 {
				time.Sleep(59 * time.Second)
				p.send(frame(fin|opPing, ""))
				p.hears("pong ")
			}
			p.opened = time.Now()
		}, nil},
		{"pongs", func(p *peer) {
			for range 10 {
				time.Sleep(59 * time.Second)
				p.send(frame(fin|opPong, ""))
			}
			p.opened = time.Now()
		}, nil},
		{"messages", func(p *peer) {
			for range 2 {
				time.Sleep(59 * time.Second)
				p.send(frame(fin|opText, "a"))
			}
			p.opened = time.Now()
		}, []string{"text a", "text a"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, socket.Options{}, &handler{}, "", nil).listen()
				c.run(p)
				for time.Since(p.opened) < 59*time.Second {
					p.hears()
					time.Sleep(time.Second)
				}
				time.Sleep(2 * time.Second) // the silence is noticed within a second
				p.hears(silent)
				p.send(frame(fin|opClose, ""))
				p.conn.Close()
				p.listenedToTheEnd()
				p.handles(append(c.told, "ended 1002")...)
			})
		})
	}
}
