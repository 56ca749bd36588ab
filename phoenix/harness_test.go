package phoenix_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"killfeed/phoenix"
)

// server is what stands behind the sessions of these tests: channels that do what their topics and events say, and a journal
// of everything that can be seen, in order.
type server struct {
	options phoenix.Options

	mu       sync.Mutex
	journal  []entry
	channels []*channel // of every Join that was called, with or without success
}

// entry is one line of the journal.
type entry struct {
	kind  string // one of those below
	n     int    // the channel's number: 1 for the first that Join was asked for
	frame string // of a sent
}

const (
	sent     = "<-" // a frame was handed to Send
	joined   = "++" // Joined was called
	left     = "--" // Left was called
	panicked = "!!" // Panicked was called
)

func (e entry) String() string {
	switch e.kind {
	case joined, left:
		return fmt.Sprintf("%s %d", e.kind, e.n)
	}
	return e.kind + " " + e.frame
}

func newServer(version phoenix.Version) *server {
	s := &server{}
	s.options = phoenix.Options{
		Version: version,
		Join:    s.join,
		Send:    func(frame []byte) { s.note(entry{kind: sent, frame: string(frame)}) },
		Panicked: func(v any, stack []byte) {
			if !bytes.Contains(stack, []byte("harness_test.go")) && !bytes.Contains(stack, []byte("session.go")) {
				panic(fmt.Sprintf("the stack does not show who panicked:\n%s", stack))
			}
			s.note(entry{kind: panicked, frame: fmt.Sprint(v)})
		},
	}
	return s
}

func (s *server) note(e entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.journal = append(s.journal, e)
}

// take returns what was noted since the last take.
func (s *server) take() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.journal
	s.journal = nil
	return j
}

// channel returns the nth, beginning with 1, nil when there is none.
func (s *server) channel(n int) *channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n < 1 || n > len(s.channels) {
		return nil
	}
	return s.channels[n-1]
}

func (s *server) last() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.channels)
}

// join knows topics of these kinds:
//
//	system:<number>     is joined; no number is refused
//	hello:…             is joined with a response
//	n:…                 is joined with its own number as the response
//	params:…            is joined with its params as the response
//	eager:…             pushes in Join, in Joined and in Left
//	do:…                does what its params say, as below
//	silent:…            counts its calls, and does nothing else
func (s *server) join(topic string, params []byte, link *phoenix.Link) (phoenix.Channel, []byte, error) {
	s.mu.Lock()
	c := &channel{server: s, n: len(s.channels) + 1, link: link}
	s.channels = append(s.channels, c)
	s.mu.Unlock()
	kind, id, _ := strings.Cut(topic, ":")
	var response []byte
	switch kind {
	case "system":
		if strings.Trim(id, "0123456789") != "" {
			return nil, nil, phoenix.Refuse("bad system id")
		}
	case "hello":
		response = []byte(`{"hello":"reply payload"}`)
	case "n", "silent":
		response = c.tag()
	case "params":
		response = bytes.Clone(params)
	case "eager":
		c.eager = true
		link.Push("too early", nil)
	case "do":
		var what struct {
			Do, Joined, Left string
		}
		if err := json.Unmarshal(params, &what); err != nil {
			return nil, nil, err
		}
		c.onJoined, c.onLeft = what.Joined, what.Left
		switch response, err := c.do(what.Do); {
		case what.Do == "nothing":
			return nil, nil, nil
		case what.Do == "unmatched":
			return nil, nil, fmt.Errorf("in other words: %w", phoenix.ErrUnmatched)
		default:
			if err != nil {
				return nil, nil, err
			}
			return c, response, nil
		}
	default:
		return nil, nil, phoenix.ErrUnmatched
	}
	return c, response, nil
}

type channel struct {
	server   *server
	n        int
	link     *phoenix.Link
	eager    bool
	admitted bool   // Join returned it; set by tagged servers only
	onJoined string // what to do in Joined
	onLeft   string

	// What the session promises: one method at a time, and Left the last. Guarded by nothing, so that the race detector sees
	// when it breaks its promise.
	calls []string
}

// tag is {"n":5} for the fifth channel.
func (c *channel) tag() []byte { return fmt.Appendf(nil, `{"n":%d}`, c.n) }

func (c *channel) Joined() {
	c.calls = append(c.calls, "Joined")
	c.server.note(entry{kind: joined, n: c.n})
	if c.eager {
		c.link.Push("welcome", c.tag())
	}
	_, _ = c.do(c.onJoined)
}

func (c *channel) Left() {
	c.calls = append(c.calls, "Left")
	c.server.note(entry{kind: left, n: c.n})
	if c.eager {
		c.link.Push("too late", nil)
	}
	_, _ = c.do(c.onLeft)
}

func (c *channel) Push(event string, payload []byte) ([]byte, error) {
	c.calls = append(c.calls, "Push")
	switch event {
	case "echo":
		return bytes.Clone(payload), nil
	case "n":
		return c.tag(), nil
	case "fail":
		return nil, &phoenix.Refusal{Response: bytes.Clone(payload)}
	}
	return c.do(event)
}

// do is what a channel can do in any of its methods.
func (c *channel) do(what string) ([]byte, error) {
	switch what {
	case "", "ok", "nothing", "unmatched":
		return nil, nil
	case "push":
		c.link.Push("pushed", c.tag())
		return nil, nil
	case "refuse":
		return nil, fmt.Errorf("in other words: %w", phoenix.Refuse("not today"))
	case "refuse without a reason":
		return nil, &phoenix.Refusal{}
	case "nil refusal":
		var none *phoenix.Refusal
		return nil, none
	case "error":
		return nil, errors.New("a secret")
	case "panic":
		panic("a secret panic")
	case "close":
		c.link.Close()
		c.link.Push("too late", nil)
		return []byte(`{"bye":true}`), nil
	case "crash":
		c.link.Crash()
		c.link.Close()
		return []byte(`{"bye":true}`), nil
	case "close and panic":
		c.link.Close()
		panic("a secret panic")
	}
	return nil, phoenix.Refuse("unknown event")
}
