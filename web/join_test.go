package web

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/phoenix"
)

// heap is a Sink that takes all.
type heap struct{ messages []string }

func (h *heap) Text(before, payload, after []byte) {
	h.messages = append(h.messages, string(before)+string(payload)+string(after))
}
func (h *heap) Len() int  { return len(h.messages) }
func (h *heap) Room() int { return maxFrames }

// TestJoinRate: one connection joins and changes channels as often as it may, and is told when again; heartbeats are answered, and
// other connections notice nothing.
func TestJoinRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := mounting(t)
		open := func() *talk { return a.newTalk(admission{version: phoenix.V2}, func() {}) }
		one := open()
		defer one.end()
		n := 0
		// say sends a message and returns the reply to it.
		say := func(t2 *talk, topic, event, payload string) string {
			t.Helper()
			n++
			ref := fmt.Sprintf(`"%d"`, n)
			joinRef := ref
			if event != "phx_join" {
				joinRef = fmt.Sprintf(`"%d"`, n-1)
			}
			if err := t2.message(true, fmt.Appendf(nil, `[%s,%s,%q,%q,%s]`, joinRef, ref, topic, event, payload)); err != nil {
				t.Fatal(err)
			}
			var h heap
			t2.pull(&h, true)
			for _, m := range h.messages {
				if strings.Contains(m, ","+ref+",") && strings.Contains(m, `"phx_reply"`) {
					return m
				}
			}
			t.Fatalf("there is no reply in %q", h.messages)
			return ""
		}
		join := func(t2 *talk, want bool) {
			t.Helper()
			reply := say(t2, "killfeed", "phx_join", `{"topics":["all"]}`)
			if got := strings.Contains(reply, `"status":"ok"`); got != want || !got && !strings.Contains(reply, "too often") {
				t.Fatalf("join %d is answered %s", n, reply)
			}
		}
		for range joinBurst {
			join(one, true)
		}
		join(one, false)
		join(one, false)
		if reply := say(one, "phoenix", "heartbeat", `{}`); !strings.Contains(reply, `"status":"ok"`) {
			t.Errorf("a heartbeat is answered %s", reply)
		}
		other := open()
		defer other.end()
		join(other, true)
		time.Sleep(time.Second)
		for range joinRate - 1 {
			join(one, true)
		}
		join(one, true)
		if reply := say(one, "killfeed", "update", `{"topics":["system:30000142"]}`); !strings.Contains(reply, "too often") {
			t.Errorf("an update is answered %s", reply)
		}
	})
}
