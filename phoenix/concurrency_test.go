package phoenix_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"killfeed/phoenix"
)

// The client joins, leaves and asks, while writers push on the links, close them and crash them, old ones too. Every ref is
// answered exactly once, and nobody is heard whose turn is over.
func TestConcurrency(t *testing.T) {
	for _, version := range []phoenix.Version{phoenix.V1, phoenix.V2} {
		// Once with the session closed at the end, and once in the middle.
		for _, closeEarly := range []bool{false, true} {
			t.Run(fmt.Sprintf("V%d/%v", version, closeEarly), func(t *testing.T) {
				testConcurrency(t, version, closeEarly)
			})
		}
	}
}

func testConcurrency(t *testing.T, version phoenix.Version, closeEarly bool) {
	const messages = 2000
	s := newTaggedServer(version)
	session := phoenix.NewSession(s.options)
	var (
		writers sync.WaitGroup
		ended   atomic.Bool
		asked   atomic.Int64
	)
	for range 3 {
		writers.Go(func() {
			for !ended.Load() {
				last := s.last()
				if last == 0 {
					continue
				}
				c := s.channel(max(1, last-rand.IntN(4)))
				switch rand.IntN(20) {
				case 0:
					c.link.Close()
				case 1:
					c.link.Crash()
				default:
					c.link.Push("pushed", c.tag())
				}
			}
		})
	}
	if closeEarly {
		writers.Go(func() {
			for asked.Load() < messages/2 && !ended.Load() {
				session.Channels()
			}
			session.Close()
		})
	}
	for i := range messages {
		m := phoenix.Message{Form: version, Ref: fmt.Append(nil, i), Topic: fmt.Sprintf("n:%d", rand.IntN(3)), Payload: []byte("{}")}
		m.Event = []string{"phx_join", "phx_join", "phx_leave", "n", "push", "close", "crash", "refuse"}[rand.IntN(8)]
		if m.Event == "phx_join" {
			m.JoinRef = m.Ref
		}
		if err := session.Receive(m.Append(nil)); err != nil {
			t.Error(err)
		}
		asked.Add(1)
	}
	ended.Store(true)
	writers.Wait()
	session.Close()
	sentBefore := len(s.journal)
	for _, c := range s.channels {
		c.link.Push("pushed", c.tag())
		c.link.Close()
	}
	if len(s.journal) != sentBefore {
		t.Errorf("after Close there is\n%v", s.journal[sentBefore:])
	}

	answered := make([]int, messages)
	for _, e := range s.journal {
		if e.kind == sent && strings.Contains(e.frame, `"phx_reply"`) {
			m, err := phoenix.V2.Decode([]byte(e.frame))
			if err != nil {
				t.Fatal(err)
			}
			var ref int
			if _, err := fmt.Sscan(string(m.Ref), &ref); err != nil {
				t.Fatal(err)
			}
			answered[ref]++
		}
	}
	for ref, n := range answered {
		if n > 1 || n == 0 && !closeEarly {
			t.Errorf("ref %d is answered %d times", ref, n)
		}
	}
	if err := audit(s.journal, s.channels); err != nil {
		t.Error(err)
	}
	for _, c := range s.channels {
		if n := len(c.calls); n == 0 || c.calls[n-1] != "Left" || strings.Count(strings.Join(c.calls, " "), "Left") != 1 {
			t.Errorf("channel %d: %v", c.n, c.calls)
		}
	}
}
