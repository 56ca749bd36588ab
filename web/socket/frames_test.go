package socket_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"killfeed/web/socket"
)

// TestMessages: whatever way a client cuts its messages up, they arrive whole, and control frames are answered between them.
func TestMessages(t *testing.T) {
	most := strings.Repeat("m", socket.MaxMessage)
	for _, c := range []struct {
		name     string
		sent     []string
		messages []string
		answers  []string
	}{
		{"a text", []string{frame(fin|opText, "abc")}, []string{"text abc"}, nil},
		{"an empty text", []string{frame(fin|opText, "")}, []string{"text "}, nil},
		{"a binary one of any bytes", []string{frame(fin|opBinary, "a\xff")}, []string{"binary a\xff"}, nil},
		{"lengths of two bytes", []string{frame(fin|opText, most[:126])}, []string{"text of 126"}, nil},
		{"the greatest", []string{frame(fin|opText, most)}, []string{"text of 262144"}, nil},
		{"the greatest in parts", []string{frame(opBinary, most[:65536]), frame(opContinue, most[:131072]), frame(fin|opContinue, most[:65536])},
			[]string{"binary of 262144"}, nil},
		{"three fragments", []string{frame(opText, "a"), frame(opContinue, "b"), frame(fin|opContinue, "c")}, []string{"text abc"}, nil},
		{"empty fragments", []string{frame(opText, ""), frame(opContinue, ""), frame(fin|opContinue, "")}, []string{"text "}, nil},
		{"a character in two fragments", []string{frame(opText, "\xe2\x98"), frame(fin|opContinue, "\x83")}, []string{"text ☃"}, nil},
		{"a ping", []string{frame(fin|opPing, "ab")}, nil, []string{"pong ab"}},
		{"an empty ping", []string{frame(fin|opPing, "")}, nil, []string{"pong "}},
		{"the greatest ping", []string{frame(fin|opPing, most[:125])}, nil, []string{"pong " + most[:125]}},
		{"a ping of any bytes", []string{frame(fin|opPing, "\xff\x00")}, nil, []string{"pong \xff\x00"}},
		{"a pong that nobody asked for", []string{frame(fin|opPong, "x")}, nil, nil},
		{"pings between fragments", []string{frame(opText, "a"), frame(fin|opPing, "1"), frame(opContinue, "b"), frame(fin|opPing, "2"),
			frame(fin|opPong, "3"), frame(fin|opContinue, "c"), frame(fin|opPing, "4")}, []string{"text abc"}, []string{"pong 1", "pong 2", "pong 4"}},
		{"two in one breath", []string{frame(fin|opText, "a") + frame(fin|opBinary, "b")}, []string{"text a", "binary b"}, nil},
		{"a message behind a large one", []string{frame(fin|opText, most), frame(fin|opText, "b")}, []string{"text of 262144", "text b"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			test := func(how string, sent []string, early string) {
				synctest.Test(t, func(t *testing.T) {
					p := open(t, socket.Options{}, &handler{}, early, nil).listen()
					p.send(sent...)
					p.handles(c.messages...)
					p.hears(c.answers...)
					p.send(frame(fin|opClose, closing(1000, "bye")))
					p.hears("close 1000")
					p.ended(1000)
				})
				if t.Failed() {
					t.Fatalf("when it is sent %s", how)
				}
			}
			all := strings.Join(c.sent, "")
			test("frame by frame", c.sent, "")
			test("at once", []string{all}, "")
			if len(all) < 1000 {
				test("byte by byte", strings.Split(all, ""), "")
				test("with the handshake", nil, all)
				test("in part with the handshake", []string{all[3:]}, all[:3])
			}
		})
	}
}

// TestBroken: whoever breaks the protocol is told why by a close frame, and nobody else's message is lost by that.
func TestBroken(t *testing.T) {
	for _, c := range []struct {
		name string
		sent string
		want string // the close frame, and the beginning of its reason
	}{
		{"too large", header(fin|opText, socket.MaxMessage+1, true), "close 1009 a message is larger than 256 KiB"},
		{"too large in parts", frame(opText, strings.Repeat("x", socket.MaxMessage)) + header(fin|opContinue, 1, true), "close 1009"},
		{"larger than memory", header(fin|opBinary, 1<<62, true), "close 1009"},
		{"a length of 64 bits", header(fin|opBinary, 1<<63, true), "close 1002 a frame's length is out of range"},
		{"unmasked", header(fin|opText, 1, false) + "x", "close 1002 frames from client to server must be masked"},
		{"unmasked and empty", header(fin|opText, 0, false), "close 1002"},
		{"unmasked ping", header(fin|opPing, 0, false), "close 1002"},
		{"compressed without having asked", frame(fin|0x40|opText, "x"), "close 1002 non-zero rsv bits"},
		{"the second reserved bit", frame(fin|0x20|opText, "x"), "close 1002"},
		{"the third reserved bit", frame(fin|0x10|opPing, "x"), "close 1002"},
		{"a reserved kind of data", frame(fin|0x3, "x"), "close 1002 use of reserved op code"},
		{"a reserved kind of control", frame(fin|0xB, "x"), "close 1002"},
		{"a ping in parts", frame(opPing, "x"), "close 1002"},
		{"a close frame in parts", frame(opClose, closing(1000, "")), "close 1002"},
		{"a ping too long", frame(fin|opPing, strings.Repeat("x", 126)), "close 1002 control frame payload limit exceeded"},
		{"a continuation of nothing", frame(fin|opContinue, "x"), "close 1002"},
		{"a message within a message", frame(opText, "a") + frame(fin|opText, "b"), "close 1002"},
		{"no UTF-8", frame(fin|opText, "a\xff"), "close 1007 a text message is not valid UTF-8"},
		{"half a character", frame(fin|opText, "\xe2\x98"), "close 1007"},
		{"no UTF-8 in the second part", frame(opText, "a") + frame(fin|opContinue, "\xff"), "close 1007"},
		{"a close frame of one byte", frame(fin|opClose, "\x03"), "close 1002 a close frame's code or reason"},
		{"a close reason that is no UTF-8", frame(fin|opClose, closing(1000, "\xff")), "close 1002"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := open(t, socket.Options{}, &handler{}, "", nil).listen()
				p.send(frame(fin|opText, "before"), c.sent, frame(fin|opText, "behind"))
				p.handles("text before")
				got := p.got()
				if len(got) != 1 || !strings.HasPrefix(got[0], c.want) || len(got[0]) < len("close 1002 why") {
					t.Fatalf("there came %q, want %q", got, c.want)
				}
				var code int
				fmt.Sscanf(c.want, "close %d", &code)
				if !p.open() {
					t.Fatal("it is closed before the client has answered")
				}
				p.conn.Close()
				p.listenedToTheEnd()
				p.handles(fmt.Sprintf("ended %d", code))
			})
		})
	}
}

// listenedToTheEnd is for a peer that has closed the connection itself.
func (p *peer) listenedToTheEnd() {
	p.t.Helper()
	synctest.Wait()
	if n := p.set.Len(); n != 0 {
		p.t.Errorf("%d places are taken, want 0", n)
	}
}

// TestCloseCodes: those that a client may send are sent back, and others are errors.
func TestCloseCodes(t *testing.T) {
	good := map[int]bool{3000: true, 3999: true, 4000: true, 4999: true}
	for code := 1000; code <= 1014; code++ {
		good[code] = code < 1004 || code > 1006
	}
	for _, code := range []int{0, 1, 999, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 1015,
		1016, 1100, 2000, 2999, 3000, 3999, 4000, 4999, 5000, 65535} {
		synctest.Test(t, func(t *testing.T) {
			p := open(t, socket.Options{}, &handler{}, "", nil).listen()
			p.send(frame(fin|opClose, closing(uint16(code), "why")))
			if good[code] {
				p.hears(fmt.Sprintf("close %d", code))
				p.ended(code)
				p.after(0)
				return
			}
			if got := p.got(); len(got) != 1 || !strings.HasPrefix(got[0], "close 1002 ") {
				t.Errorf("code %d: there came %q, want 1002", code, got)
			}
			p.conn.Close()
			p.handles("ended 1002")
		})
	}
}

// TestHandlerErrors: what a handler says of a message decides how the connection ends, and a panic ends this one only.
func TestHandlerErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want string
		code int
	}{
		{"a close error", &socket.CloseError{Code: socket.BadData, Reason: "no message"}, "close 1003 no message", 1003},
		{"a wrapped one", fmt.Errorf("in other words: %w", &socket.CloseError{Code: socket.Policy, Reason: "go away"}), "close 1008 go away", 1008},
		{"any other", errors.New("/srv/secret"), "close 1011 internal error", 1011},
		{"a long reason", &socket.CloseError{Code: socket.BadData, Reason: strings.Repeat("x", 200)}, "close 1003 " + strings.Repeat("x", 123), 1003},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &handler{on: func(bool, string) error { return c.err }}
				p := open(t, socket.Options{}, h, "", nil).listen()
				p.send(frame(fin|opText, "a"), frame(fin|opText, "b"))
				p.hears(c.want)
				p.send(frame(fin|opClose, closing(uint16(c.code), "")))
				p.conn.Close()
				p.handles("text a", fmt.Sprintf("ended %d", c.code))
			})
		})
	}
	for method, before := range map[string][]string{
		"Message": {"text a"},
		"Full":    nil,
		"Pull":    {"text a", "pulled 1"},
		"Written": {"text a", "pulled 1", "written"},
		"Ended":   {"text a", "pulled 1", "written"},
	} {
		t.Run("a panic in "+method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var told []string
				h := &handler{panics: method}
				h.on = func(bool, string) error { h.push("b"); return nil }
				o := socket.Options{Panicked: func(v any, stack []byte) {
					if strings.Contains(string(stack), "harness_test.go") {
						told = append(told, fmt.Sprint(v))
					}
				}}
				p := open(t, o, h, "", nil).listen()
				p.send(frame(fin|opText, "a"))
				got := p.got()
				if method == "Ended" {
					p.send(frame(fin|opClose, ""))
					got = append(got, p.got()...)
				}
				switch method {
				case "Message", "Full", "Pull":
					if len(got) != 1 || got[0] != "close 1011 internal error" {
						t.Errorf("there came %q, want 1011 and nothing private", got)
					}
				case "Written":
					if len(got) != 2 || got[1] != "close 1011 internal error" {
						t.Errorf("there came %q, want the message and 1011", got)
					}
				case "Ended":
					if len(got) != 2 || got[1] != "close" {
						t.Errorf("there came %q, want the message and the end", got)
					}
				}
				p.conn.Close()
				code := 1011
				if method == "Ended" {
					code = 1005
				}
				p.handles(append(before, fmt.Sprintf("ended %d", code))...)
				if len(told) == 0 || told[0] != "a secret of "+method {
					t.Errorf("it was told of panics: %q", told)
				}
				p.listenedToTheEnd()
			})
		})
	}
}
