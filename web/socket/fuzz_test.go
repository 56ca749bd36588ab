package socket_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"killfeed/web/socket"
)

// FuzzReader: whatever bytes a client sends, the handler gets whole messages that keep their bounds, the client gets whole
// frames, and the connection ends.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", frame(fin|opText, "abc"), frame(opText, "a") + frame(fin|opPing, "b") + frame(fin|opContinue, "c"),
		frame(fin|opText, "a\xff"), frame(fin|opBinary, "a\xff"), frame(fin|opText, "abc")[:6], header(fin|opText, 1<<63, true),
		header(fin|opText, socket.MaxMessage+1, true), frame(fin|opPing, strings.Repeat("x", 126)), header(fin|opText, 1, false) + "x",
		frame(fin|opClose, closing(1000, "bye")), frame(fin|opClose, closing(1006, "")), frame(fin|opClose, "x"), frame(fin|0x70|opText, ""),
		frame(fin|opPong, "") + frame(fin|opText, strings.Repeat("y", 300)) + frame(fin|opClose, ""),
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, sent []byte, cut uint8) {
		synctest.Test(t, func(t *testing.T) {
			messages := 0
			h := &handler{}
			h.on = func(text bool, message string) error {
				if messages++; len(message) > socket.MaxMessage || len(message) > len(sent) || text && !utf8.ValidString(message) {
					t.Errorf("a message of %d bytes: %.100q", len(message), message)
				}
				h.push(fmt.Sprintf("answer %d", messages))
				return nil
			}
			p := open(t, socket.Options{}, h, "", nil).listen()
			at := min(int(cut), len(sent))
			p.send(string(sent[:at]), string(sent[at:]))
			frames := p.got()
			if !p.open() { // the client's close frame was answered
				frames = append(frames[:len(frames):len(frames)], "end")
			}
			p.conn.Close()
			time.Sleep(time.Minute)
			synctest.Wait()
			if n := p.set.Len(); n != 0 {
				t.Errorf("%d places are taken", n)
			}
			ends := 0
			said := h.take()
			for _, s := range said {
				if strings.HasPrefix(s, "ended ") {
					ends++
				}
			}
			if ends != 1 || !strings.HasPrefix(said[len(said)-1], "ended ") {
				t.Errorf("the handler was told %q, want one end, last", short(said))
			}
			answers := 0
			for i, fr := range frames {
				switch {
				case strings.HasPrefix(fr, "text answer "):
					if answers++; fr != fmt.Sprintf("text answer %d", answers) {
						t.Errorf("answer %d is %q", answers, fr)
					}
				case strings.HasPrefix(fr, "pong "), fr == "end":
				case strings.HasPrefix(fr, "close"):
					if i+1 < len(frames) && frames[i+1] != "end" {
						t.Errorf("behind a close frame there came %q", frames[i+1:])
					}
				default:
					t.Errorf("there came %q", fr)
				}
			}
			if answers != messages {
				t.Errorf("%d answers to %d messages", answers, messages)
			}
		})
	})
}
