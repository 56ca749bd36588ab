package socket_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/web/socket"
)

const unanswered = "close 1002 no ping was answered for 2m0s"

// TestKeepAlive: a client that says nothing by itself stays for as long as it answers pings, and is asked only when nothing was
// heard of it.
func TestKeepAlive(t *testing.T) {
	for _, c := range []struct {
		name string
		// says is what the client does when it got a ping; told is what the handler hears of that.
		says, told string
	}{
		{"pongs", frame(fin|opPong, ""), ""},
		{"a pong to nobody's ping", frame(fin|opPong, "abc"), ""},
		{"a message instead", frame(fin|opText, "here"), "text here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// A silence that is allowed for less time than a ping takes: it does not count here.
				p := open(t, socket.Options{Silence: 5 * time.Second}, &handler{asks: 30 * time.Second}, "", nil).listen()
				for range 100 {
					time.Sleep(29 * time.Second)
					p.hears()
					time.Sleep(2 * time.Second) // it is looked at once a second
					p.hears("ping ")
					p.send(c.says)
					if c.told != "" {
						p.handles(c.told)
					}
				}
				// Who speaks is not asked.
				for range 100 {
					time.Sleep(20 * time.Second)
					p.send(frame(fin|opPing, ""))
					p.hears("pong ")
				}
				p.send(frame(fin|opClose, closing(1000, ""))).hears("close 1000")
				p.conn.Close()
				p.ended(1000)
			})
		})
	}
}

// TestNoAnswer: who answers no ping is closed, whatever else is written meanwhile.
func TestNoAnswer(t *testing.T) {
	for _, busy := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			p := open(t, socket.Options{}, &handler{asks: 30 * time.Second}, "", nil).listen()
			pings, texts := 0, 0
			var last string
			for last != unanswered {
				if time.Since(p.opened) > 3*time.Minute {
					t.Fatal("it is open")
				}
				time.Sleep(time.Second)
				if busy {
					p.handler.push("a")
				}
				for _, last = range p.got() {
					switch last {
					case "ping ":
						pings++
					case "text a":
						texts++
					case unanswered:
					default:
						t.Errorf("there came %q", last)
					}
				}
			}
			if took := time.Since(p.opened); took < 2*time.Minute || took > 122*time.Second {
				t.Errorf("it was closed after %v, want 2m0s", took)
			}
			if pings != 3 || busy != (texts > 100) {
				t.Errorf("there came %d pings, want 3, and %d texts", pings, texts)
			}
			p.send(frame(fin|opClose, ""))
			p.wait(time.Second)
		})
	}
}

// TestSlowAnswer: a client that is behind and takes what there is for it, though very slowly, answers a ping when it comes to
// it, an hour later, and is not closed for that.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{asks: 30 * time.Second}, "", func(c net.Conn) net.Conn { return &narrow{Conn: c, piece: 10} })
		message := strings.Repeat("m", 500)
		p.handler.push(message, "and more")
		p.in.Reset(p.conn)
		var got []byte
		for len(got) < 504 {
			time.Sleep(55 * time.Second)
			piece := make([]byte, 10)
			n, err := p.conn.Read(piece)
			if err != nil {
				t.Fatalf("cut off after %d bytes and %v: %v", len(got), time.Since(p.opened), err)
			}
			got = append(got, piece[:n]...)
		}
		p.in.Reset(io.MultiReader(strings.NewReader(string(got)), p.conn))
		p.listen().hears("text "+message, "text and more")
		time.Sleep(40 * time.Second)
		p.hears("ping ")
		p.send(frame(fin|opPong, ""))
		if !p.open() {
			t.Error("it was closed")
		}
	})
}

// TestTakesNothingAndAnswersNothing: it is slow, and closed for that.
func TestTakesNothingAndAnswersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := open(t, socket.Options{}, &handler{asks: 30 * time.Second}, "", nil)
		p.handler.push("a")
		for p.set.Len() > 0 {
			if time.Since(p.opened) > 2*time.Minute {
				t.Fatal("it is open")
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(p.opened); took < time.Minute {
			t.Errorf("it was closed after %v, want a minute or more", took)
		}
		p.handles("pulled 1", "ended 1006") // the close frame was never taken
	})
}
