package phoenix_test

import (
	"encoding/json"
	"fmt"

	"killfeed/phoenix"
)

// tagged is a channel whose number stands in the reply to its join, and in no other reply.
type tagged struct{ *channel }

func (c tagged) Push(event string, payload []byte) ([]byte, error) {
	_, err := c.channel.Push(event, payload)
	return nil, err
}

// newTaggedServer is a server of tagged channels, for audit.
func newTaggedServer(version phoenix.Version) *server {
	s := newServer(version)
	s.options.Join = func(topic string, params []byte, link *phoenix.Link) (phoenix.Channel, []byte, error) {
		ch, _, err := s.join(topic, params, link)
		if ch == nil {
			return nil, nil, err
		}
		c := ch.(*channel)
		c.admitted = true
		return tagged{c}, c.tag(), nil
	}
	return s
}

// audit reads the journal of tagged channels, and tells what breaks a promise of the package. It knows nothing of what was
// received: only order, and who may say what when. The session is closed.
//
// A push of a channel comes behind the reply to its join, before its Left, and before the reply to the next join of its topic.
// What tells the client of an end comes behind a Left. Joined comes once and behind the reply, Left once and last.
func audit(journal []entry, channels []*channel) error {
	type seen struct{ replied, joined, left bool }
	var (
		all       = make([]seen, len(channels)+1)
		on        = map[string]int{} // the channel that a topic belongs to
		leftOn    = map[string]int{} // how many Left there were
		farewells = map[string]int{} // how often the client was told of one
	)
	for i, e := range journal {
		wrong := func(format string, args ...any) error {
			return fmt.Errorf("line %d, %v: %s", i+1, e, fmt.Sprintf(format, args...))
		}
		switch e.kind {
		case joined:
			if c := &all[e.n]; !c.replied || c.joined || c.left {
				return wrong("Joined after %+v", *c)
			}
			all[e.n].joined = true
		case left:
			if all[e.n].left {
				return wrong("Left again")
			}
			all[e.n].left = true
			leftOn[channels[e.n-1].link.Topic()]++
		case sent:
			m, err := phoenix.V2.Decode([]byte(e.frame))
			if err != nil {
				return wrong("%v", err)
			}
			var payload struct {
				N        int
				Status   string
				Response struct{ N int }
			}
			if err := json.Unmarshal(m.Payload, &payload); err != nil {
				return wrong("%v", err)
			}
			switch m.Event {
			case "phx_reply":
				n := payload.Response.N
				if payload.Status != "ok" || n == 0 {
					break
				}
				if c := &all[n]; c.left || on[m.Topic] > n {
					return wrong("a reply after %+v, and after the reply to join %d", *c, on[m.Topic])
				}
				all[n].replied, on[m.Topic] = true, n
			case "phx_close", "phx_error":
				if farewells[m.Topic]++; farewells[m.Topic] > leftOn[m.Topic] {
					return wrong("farewell %d, but only %d have left", farewells[m.Topic], leftOn[m.Topic])
				}
			default:
				if c := &all[payload.N]; payload.N == 0 || !c.replied || c.left || on[m.Topic] != payload.N {
					return wrong("a push after %+v; the topic belongs to %d", *c, on[m.Topic])
				}
			}
		}
	}
	for n, c := range all[1:] {
		if !c.left && channels[n].admitted {
			return fmt.Errorf("channel %d has not left: %+v", n+1, c)
		}
	}
	return nil
}
