package phoenix_test

import (
	"fmt"

	"killfeed/phoenix"
)

// clock is a channel that tells the time when it is joined, and when it is asked.
type clock struct {
	link *phoenix.Link
	now  func() string
}

func (c *clock) time() []byte { return fmt.Appendf(nil, `{"time":%q}`, c.now()) }

func (c *clock) Joined() { c.link.Push("tick", c.time()) }
func (c *clock) Left()   {}

func (c *clock) Push(event string, _ []byte) ([]byte, error) {
	if event != "ask" {
		return nil, phoenix.Refuse("the clock only knows ask")
	}
	return c.time(), nil
}

func ExampleSession() {
	session := phoenix.NewSession(phoenix.Options{
		Version: phoenix.V2,
		Join: func(topic string, _ []byte, link *phoenix.Link) (phoenix.Channel, []byte, error) {
			if topic != "clock" {
				return nil, nil, phoenix.ErrUnmatched
			}
			return &clock{link, func() string { return "11:00" }}, nil, nil
		},
		Send: func(frame []byte) { fmt.Printf("%s\n", frame) }, // a transport puts it into a queue
	})
	defer session.Close()
	for _, frame := range []string{
		`[null,"1","phoenix","heartbeat",{}]`,
		`["2","2","clock","phx_join",{}]`,
		`["2","3","clock","ask",{}]`,
		`["2","4","clock","set",{"time":"12:00"}]`,
		`["2","5","clock","phx_leave",{}]`,
	} {
		if err := session.Receive([]byte(frame)); err != nil {
			fmt.Println(err) // the connection is to end
		}
	}
	// Output:
	// [null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]
	// ["2","2","clock","phx_reply",{"response":{},"status":"ok"}]
	// ["2",null,"clock","tick",{"time":"11:00"}]
	// ["2","3","clock","phx_reply",{"response":{"time":"11:00"},"status":"ok"}]
	// ["2","4","clock","phx_reply",{"response":{"reason":"the clock only knows ask"},"status":"error"}]
	// ["2","5","clock","phx_reply",{"response":{},"status":"ok"}]
	// ["2","2","clock","phx_close",{}]
}
