package phoenix_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"killfeed/phoenix"
)

// naive is a session as one would first write it down: a map of what is joined, and a list of what is said, in order. Its
// channels do in Join, in Joined, in Push and in Left what they are told, as those of the server in these tests do.
type naive struct {
	joined map[string]*naiveChannel
	all    []*naiveChannel // of every Join that was called
	max    int
	closed bool
	says   []string
}

type naiveChannel struct {
	n              int
	topic, joinRef string
	form           phoenix.Version
	onLeft         string
}

func (n *naive) say(format string, args ...any) {
	if line := fmt.Sprintf(format, args...); !n.closed || !strings.HasPrefix(line, sent) {
		n.says = append(n.says, line)
	}
}

func (n *naive) frame(form phoenix.Version, joinRef, ref, topic, event, payload string) {
	if form == phoenix.V2 {
		n.say(`<- [%s,%s,"%s","%s",%s]`, joinRef, ref, topic, event, payload)
	} else {
		n.say(`<- {"event":"%s","payload":%s,"ref":%s,"topic":"%s"}`, event, payload, ref, topic)
	}
}

func (n *naive) reply(in *naiveFrame, joinRef, status, response string) {
	n.frame(in.form, joinRef, in.ref, in.topic, "phx_reply", fmt.Sprintf(`{"response":%s,"status":"%s"}`, response, status))
}

func (n *naive) push(c *naiveChannel) {
	if n.joined[c.topic] == c {
		n.frame(c.form, c.joinRef, "null", c.topic, "pushed", fmt.Sprintf(`{"n":%d}`, c.n))
	}
}

// leave is the end of a channel, up to where the client is told.
func (n *naive) leave(c *naiveChannel) {
	delete(n.joined, c.topic)
	n.say("-- %d", c.n)
	if c.onLeft == "panic" {
		n.say("!! a secret panic")
	}
}

func (n *naive) tell(c *naiveChannel, event string) {
	payload := "{}"
	if event == "phx_error" {
		payload = `{"reason":"channel_crash"}`
	}
	n.frame(c.form, c.joinRef, c.joinRef, c.topic, event, payload)
}

func (n *naive) end(c *naiveChannel, event string) {
	if n.joined[c.topic] == c {
		n.leave(c)
		n.tell(c, event)
	}
}

const (
	naiveUnmatched = `{"reason":"unmatched topic"}`
	naiveCrashed   = `{"reason":"join crashed"}`
)

// naiveFrame is what the client sends.
type naiveFrame struct {
	form                       phoenix.Version
	joinRef, ref, topic, event string
	do, onJoined, onLeft       string // the event is do, but for phx_join
	payload                    string
}

func (f *naiveFrame) text() string {
	if f.form == phoenix.V2 {
		return fmt.Sprintf(`[%s,%s,"%s","%s",%s]`, f.joinRef, f.ref, f.topic, f.event, f.payload)
	}
	joinRef := ""
	if f.joinRef != "null" {
		joinRef = `,"join_ref":` + f.joinRef
	}
	return fmt.Sprintf(`{"topic":"%s","event":"%s","payload":%s,"ref":%s%s}`, f.topic, f.event, f.payload, f.ref, joinRef)
}

func (n *naive) receive(f *naiveFrame) {
	if n.closed {
		return
	}
	joinRef := f.joinRef
	if joinRef == `""` {
		joinRef = "null"
	}
	c := n.joined[f.topic]
	stale := c != nil && joinRef != "null" && joinRef != c.joinRef
	object := strings.HasPrefix(f.payload, "{") || f.payload == "null"
	switch {
	case f.topic == "phoenix" && f.event == "heartbeat":
		n.reply(f, "null", "ok", "{}")
	case f.topic == "phoenix":
		n.reply(f, "null", "error", naiveUnmatched)
	case f.event == "phx_join":
		n.join(f, joinRef, c, object)
	case f.event == "phx_leave" && c == nil:
		n.reply(f, joinRef, "ok", "{}")
	case c == nil:
		n.reply(f, "null", "error", naiveUnmatched)
	case stale:
	case f.event == "phx_leave":
		n.leave(c)
		n.reply(f, c.joinRef, "ok", "{}")
		n.tell(c, "phx_close")
	case !object:
		n.reply(f, c.joinRef, "error", `{"reason":"the payload is not an object"}`)
	default:
		n.event(f, c)
	}
}

func (n *naive) join(f *naiveFrame, joinRef string, old *naiveChannel, object bool) {
	if old != nil {
		n.leave(old)
	}
	c := n.admit(f, joinRef, object)
	if old != nil {
		n.tell(old, "phx_close")
	}
	if c == nil {
		return
	}
	n.joined[c.topic] = c
	what := f.do // what ends it in Join does so after the reply
	if what != "close" && what != "crash" {
		n.say("++ %d", c.n)
		what = f.onJoined
	}
	switch what {
	case "push":
		n.push(c)
	case "panic":
		n.say("!! a secret panic")
		n.end(c, "phx_error")
	case "close":
		n.end(c, "phx_close")
	case "crash":
		n.end(c, "phx_error")
	}
}

// admit replies to a join, and returns the channel if that is ok.
func (n *naive) admit(f *naiveFrame, joinRef string, object bool) *naiveChannel {
	switch {
	case len(n.joined) >= n.max:
		n.reply(f, joinRef, "error", `{"reason":"too many channels joined"}`)
		return nil
	case !object:
		n.reply(f, joinRef, "error", naiveCrashed)
		return nil
	}
	c := &naiveChannel{len(n.all) + 1, f.topic, joinRef, f.form, f.onLeft}
	if c.form == phoenix.V1 && joinRef == "null" {
		c.joinRef = f.ref
	}
	n.all = append(n.all, c)
	switch f.do {
	case "unmatched":
		n.reply(f, "null", "error", naiveUnmatched)
		return nil
	case "refuse":
		n.reply(f, joinRef, "error", `{"reason":"not today"}`)
		return nil
	case "panic", "close and panic":
		n.say("!! a secret panic")
		n.reply(f, joinRef, "error", naiveCrashed)
		return nil
	case "error":
		n.reply(f, joinRef, "error", naiveCrashed)
		return nil
	case "close", "crash":
		n.reply(f, joinRef, "ok", `{"bye":true}`)
	default:
		n.reply(f, joinRef, "ok", "{}")
	}
	return c
}

func (n *naive) event(f *naiveFrame, c *naiveChannel) {
	switch f.do {
	case "push":
		n.push(c)
		n.reply(f, c.joinRef, "ok", "{}")
	case "ok":
		n.reply(f, c.joinRef, "ok", "{}")
	case "refuse":
		n.reply(f, c.joinRef, "error", `{"reason":"not today"}`)
	case "error":
		n.end(c, "phx_error")
	case "panic":
		n.say("!! a secret panic")
		n.end(c, "phx_error")
	case "close":
		n.reply(f, c.joinRef, "ok", `{"bye":true}`)
		n.end(c, "phx_close")
	case "crash":
		n.reply(f, c.joinRef, "ok", `{"bye":true}`)
		n.end(c, "phx_error")
	case "close and panic":
		n.say("!! a secret panic")
		n.end(c, "phx_close")
	default:
		n.reply(f, c.joinRef, "error", `{"reason":"unknown event"}`)
	}
}

// machine does the same random things to a session and to a naive one.
type machine struct {
	*rapid.T
	version phoenix.Version
	server  *server
	session *phoenix.Session
	naive   *naive
	ref     int
	done    []string
}

var (
	drawTopic = rapid.SampledFrom([]string{"do:a", "do:a", "do:b", "do:c", "do:d", "phoenix"})
	drawDo    = rapid.SampledFrom([]string{
		"ok", "ok", "ok", "push", "refuse", "unmatched", "error", "panic", "close", "crash", "close and panic",
	})
	drawEvent = rapid.SampledFrom([]string{
		"ok", "ok", "push", "refuse", "no such event", "error", "panic", "close", "crash", "close and panic", "heartbeat", "phx_close",
	})
	drawThen    = rapid.SampledFrom([]string{"", "", "", "push", "panic", "close", "crash"})
	drawPayload = rapid.SampledFrom([]string{"{}", "{}", "{}", "null", `"x"`, "[{}]", "7"})
)

// frame draws what every frame has.
func (m *machine) frame() *naiveFrame {
	m.ref++
	f := &naiveFrame{form: m.version, topic: drawTopic.Draw(m.T, "topic")}
	if rapid.IntRange(0, 3).Draw(m.T, "form") == 0 {
		f.form = phoenix.V1
	}
	f.ref = rapid.SampledFrom([]string{`"%d"`, `"%d"`, `%d`, `null`}).Draw(m.T, "ref")
	if f.ref != "null" {
		f.ref = fmt.Sprintf(f.ref, m.ref)
	}
	return f
}

func (m *machine) send(f *naiveFrame) {
	text := f.text()
	m.naive.receive(f)
	err := m.session.Receive([]byte(text))
	m.compare("-> "+text, m.server.said(), err)
}

// compare holds what came of what was done against the naive session.
func (m *machine) compare(what string, got []string, err error) {
	m.done = append(m.done, what)
	want := m.naive.says
	m.naive.says = nil
	if err != nil || strings.Join(got, "\n") != strings.Join(want, "\n") {
		m.Fatalf("after\n%s\ngot (%v)\n%s\nwant\n%s", strings.Join(m.done, "\n"), err, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := m.session.Channels(); n != len(m.naive.joined) {
		m.Fatalf("after\n%s\n%d are joined, want %d", strings.Join(m.done, "\n"), n, len(m.naive.joined))
	}
	m.done = append(m.done, got...)
}

func (m *machine) join(*rapid.T) {
	f := m.frame()
	f.event, f.do = "phx_join", drawDo.Draw(m.T, "do")
	f.onJoined, f.onLeft = drawThen.Draw(m.T, "joined"), drawThen.Draw(m.T, "left")
	f.joinRef = rapid.SampledFrom([]string{f.ref, f.ref, f.ref, "null", `""`}).Draw(m.T, "join_ref")
	f.payload = fmt.Sprintf(`{"do":"%s","joined":"%s","left":"%s"}`, f.do, f.onJoined, f.onLeft)
	if rapid.IntRange(0, 9).Draw(m.T, "no object") == 0 {
		f.payload = "[]"
	}
	m.send(f)
}

// other draws the join_ref of a frame that is no join: that of the channel, of an earlier one, or none.
func (m *machine) other(f *naiveFrame) {
	f.joinRef = "null"
	if c := m.naive.joined[f.topic]; c != nil && rapid.Bool().Draw(m.T, "with its join_ref") {
		f.joinRef = c.joinRef
	} else if m.ref > 1 && rapid.Bool().Draw(m.T, "with some join_ref") {
		f.joinRef = fmt.Sprintf(`"%d"`, rapid.IntRange(1, m.ref-1).Draw(m.T, "join_ref"))
	}
	f.payload = drawPayload.Draw(m.T, "payload")
	m.send(f)
}

func (m *machine) leave(*rapid.T) {
	f := m.frame()
	f.event = "phx_leave"
	m.other(f)
}

func (m *machine) event(*rapid.T) {
	f := m.frame()
	f.event = drawEvent.Draw(m.T, "event")
	f.do = f.event
	m.other(f)
}

// act is the server's own doing, on any link there ever was.
func (m *machine) act(*rapid.T) {
	if len(m.naive.all) == 0 {
		m.Skip("there is no link")
	}
	c := rapid.SampledFrom(m.naive.all).Draw(m.T, "channel")
	link, what := m.server.channel(c.n).link, rapid.SampledFrom([]string{"push", "close", "crash"}).Draw(m.T, "act")
	switch what {
	case "push":
		m.naive.push(c)
		link.Push("pushed", fmt.Appendf(nil, `{"n":%d}`, c.n))
	case "close":
		m.naive.end(c, "phx_close")
		link.Close()
	default:
		m.naive.end(c, "phx_error")
		link.Crash()
	}
	m.compare(fmt.Sprintf(".. %s %d", what, c.n), m.server.said(), nil)
}

func (m *machine) end(*rapid.T) {
	if rapid.IntRange(0, 4).Draw(m.T, "really") > 0 {
		m.Skip("not yet")
	}
	m.naive.closed = true
	for _, c := range m.naive.all {
		if m.naive.joined[c.topic] == c {
			m.naive.leave(c)
		}
	}
	m.session.Close()
	got := m.server.said()
	slices.Sort(got) // the channels are left in any order
	slices.Sort(m.naive.says)
	m.compare(".. end", got, nil)
}

// Whatever clients and server do in whatever order, the session and the naive one agree, in every frame and every call.
func TestSessionLikeNaive(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		version := rapid.SampledFrom([]phoenix.Version{phoenix.V2, phoenix.V2, phoenix.V1}).Draw(rt, "version")
		m := &machine{T: rt, version: version, server: newServer(version), naive: &naive{joined: map[string]*naiveChannel{}, max: 3}}
		m.server.options.MaxChannels = m.naive.max
		m.session = phoenix.NewSession(m.server.options)
		rt.Repeat(map[string]func(*rapid.T){
			"join": m.join, "join 2": m.join, "leave": m.leave, "event": m.event, "event 2": m.event, "act": m.act, "end": m.end,
		})
		m.session.Close()
		for _, c := range m.server.channels {
			lefts := strings.Count(strings.Join(c.calls, " "), "Left")
			if lefts > 1 || lefts == 1 && c.calls[len(c.calls)-1] != "Left" || lefts == 0 && len(c.calls) > 0 {
				rt.Fatalf("channel %d: %v", c.n, c.calls)
			}
		}
	})
}
