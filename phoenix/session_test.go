package phoenix_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"killfeed/phoenix"
)

// receive hands a frame in and returns what it brought.
func (s *server) receive(t *testing.T, session *phoenix.Session, format string, args ...any) []string {
	t.Helper()
	if err := session.Receive(fmt.Appendf(nil, format, args...)); err != nil {
		t.Fatal(err)
	}
	return s.said()
}

// said returns the new lines of the journal.
func (s *server) said() (lines []string) {
	for _, e := range s.take() {
		lines = append(lines, e.String())
	}
	return lines
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// Case 25: there is room for 100 channels, unless it is said otherwise.
func TestTooManyChannels(t *testing.T) {
	s := newServer(phoenix.V2)
	session := phoenix.NewSession(s.options)
	defer session.Close()
	for i := range 100 {
		want(t, s.receive(t, session, `["%d","%d","system:%d","phx_join",{}]`, i, i, i),
			fmt.Sprintf(`<- ["%d","%d","system:%d","phx_reply",{"response":{},"status":"ok"}]`, i, i, i), fmt.Sprintf("++ %d", i+1))
	}
	refused := `<- ["x","x","system:100","phx_reply",{"response":{"reason":"too many channels joined"},"status":"error"}]`
	want(t, s.receive(t, session, `["x","x","system:100","phx_join",{}]`), refused)
	if n := session.Channels(); n != 100 {
		t.Errorf("%d are joined", n)
	}
	if n := s.last(); n != 100 {
		t.Errorf("Join was asked %d times", n)
	}
	// Another one leaves, and there is room; also when the server ends one.
	s.receive(t, session, `[null,"y","system:7","phx_leave",{}]`)
	want(t, s.receive(t, session, `["z","z","system:100","phx_join",{}]`),
		`<- ["z","z","system:100","phx_reply",{"response":{},"status":"ok"}]`, "++ 101")
	want(t, s.receive(t, session, `["x","x","system:7","phx_join",{}]`), strings.ReplaceAll(refused, ":100", ":7"))
	s.channel(1).link.Crash()
	s.said()
	want(t, s.receive(t, session, `["x","x","system:7","phx_join",{}]`),
		`<- ["x","x","system:7","phx_reply",{"response":{},"status":"ok"}]`, "++ 102")
}

// What a join makes the server keep is bounded, and so is what a channel gets to see.
func TestLongNames(t *testing.T) {
	x := func(n int) string { return strings.Repeat("x", n) }
	e := strings.Repeat("é", 64) // 128 bytes
	for _, version := range []phoenix.Version{phoenix.V1, phoenix.V2} {
		s := newServer(version)
		session := phoenix.NewSession(s.options)
		defer session.Close()
		// send writes a frame and reads the reply in the form of the version.
		send := func(joinRef, ref, topic, event string) string {
			t.Helper()
			m := phoenix.Message{Form: version, JoinRef: raw(joinRef), Ref: raw(ref), Topic: topic, Event: event}
			frame := string(m.Append(nil))
			if version == phoenix.V1 && joinRef != "null" {
				frame = strings.TrimSuffix(frame, "}") + `,"join_ref":` + joinRef + "}"
			}
			said := s.receive(t, session, "%s", frame)
			if len(said) == 0 {
				t.Fatalf("%.80s is not answered", frame)
			}
			reply, err := version.Decode([]byte(strings.TrimPrefix(said[0], "<- ")))
			if err != nil {
				t.Fatal(err)
			}
			if string(reply.Ref) != ref || reply.Topic != topic {
				t.Errorf("%.80s is answered with\n%.80s", frame, said[0])
			}
			return string(reply.Payload)
		}
		const (
			ok        = `{"response":{},"status":"ok"}`
			unmatched = `{"response":{"reason":"unmatched topic"},"status":"error"}`
			long      = `{"response":{"reason":"join_ref is longer than 255 bytes"},"status":"error"}`
		)
		for _, tt := range []struct{ joinRef, ref, topic, event, want string }{
			{`"1"`, `"1"`, "do:" + x(252), "phx_join", ok},
			{`"1"`, `"2"`, "do:" + x(252), x(255), `{"response":{"reason":"unknown event"},"status":"error"}`},
			{`"1"`, `"3"`, "do:" + x(252), x(256), `{"response":{"reason":"the event is longer than 255 bytes"},"status":"error"}`},
			{`"1"`, `"4"`, "do:" + x(252), e + e, `{"response":{"reason":"the event is longer than 255 bytes"},"status":"error"}`},
			{`"1"`, `"` + x(100_000) + `"`, "do:" + x(252), "ok", ok},
			{`"1"`, `"5"`, "do:" + x(253), "phx_join", unmatched},
			{`"1"`, `"6"`, "do:" + e + e, "phx_join", unmatched},
			{`"1"`, `"7"`, x(200_000), "phx_join", unmatched},
			{`"1"`, `"8"`, x(200_000), "phx_leave", ok},
			{`"1"`, `"9"`, x(200_000), "ok", unmatched},
			{`"` + x(253) + `"`, `"10"`, "do:y", "phx_join", ok},
			{`"` + x(254) + `"`, `"11"`, "do:z", "phx_join", long},
			{strings.Repeat("2", 256), `"12"`, "do:z", "phx_join", long},
		} {
			if got := send(tt.joinRef, tt.ref, tt.topic, tt.event); got != tt.want {
				t.Errorf("vsn %d: %.40s on %.20s…: %s, want %s", version, tt.event, tt.topic, got, tt.want)
			}
		}
		if session.Channels() != 2 {
			t.Errorf("%d are joined", session.Channels())
		}
	}
	// In V1 the ref is the join_ref of a join that has none.
	s := newServer(phoenix.V1)
	session := phoenix.NewSession(s.options)
	defer session.Close()
	want(t, s.receive(t, session, `{"topic":"do:z","event":"phx_join","payload":{},"ref":"%s"}`, x(254)),
		`<- {"event":"phx_reply","payload":{"response":{"reason":"join_ref is longer than 255 bytes"},"status":"error"},"ref":"`+x(254)+`","topic":"do:z"}`)
}

// Case 42: each of many messages is answered exactly once, in order.
func TestManyRefs(t *testing.T) {
	s := newServer(phoenix.V2)
	session := phoenix.NewSession(s.options)
	defer session.Close()
	s.receive(t, session, `["0","0","n:x","phx_join",{}]`)
	var wanted []string
	for i := range 1000 {
		ref := fmt.Sprint(i)
		if i%2 == 0 {
			ref = fmt.Sprintf("%q", ref)
		}
		frame, reply := fmt.Sprintf(`["0",%s,"n:x","echo",{"i":%d}]`, ref, i), fmt.Sprintf(`{"response":{"i":%d},"status":"ok"}`, i)
		if i%7 == 0 {
			frame, reply = fmt.Sprintf(`[null,%s,"n:x","refuse",{}]`, ref), `{"response":{"reason":"not today"},"status":"error"}`
		}
		if err := session.Receive([]byte(frame)); err != nil {
			t.Fatal(err)
		}
		wanted = append(wanted, fmt.Sprintf(`<- ["0",%s,"n:x","phx_reply",%s]`, ref, reply))
	}
	want(t, s.said(), wanted...)
}

// The frame belongs to the transport again when Receive returns, and each sent frame to Send.
func TestFramesAreNotKept(t *testing.T) {
	s := newServer(phoenix.V2)
	var frames [][]byte
	s.options.Send = func(frame []byte) { frames = append(frames, frame) }
	session := phoenix.NewSession(s.options)
	defer session.Close()
	in := []byte(`["1","2","params:x","phx_join",{"a":1}]`)
	if err := session.Receive(in); err != nil {
		t.Fatal(err)
	}
	for i := range in {
		in[i] = '#'
	}
	s.channel(1).link.Push("new_killmail", in)
	s.channel(1).link.Close()
	for i := range in {
		in[i] = '*'
	}
	var got []string
	for _, frame := range frames {
		got = append(got, string(frame))
		for i := range frame[:cap(frame)] {
			frame[:cap(frame)][i] = '!'
		}
	}
	want(t, got, `["1","2","params:x","phx_reply",{"response":{"a":1},"status":"ok"}]`,
		`["1",null,"params:x","new_killmail",`+strings.Repeat("#", len(in))+`]`, `["1","1","params:x","phx_close",{}]`)
}

func TestLinkAround(t *testing.T) {
	s := newServer(phoenix.V2)
	session := phoenix.NewSession(s.options)
	defer session.Close()
	s.receive(t, session, `["1",1,"params:é\"","phx_join",{}]`)
	s.receive(t, session, `{"topic":"params:2","event":"phx_join","payload":{},"ref":2}`)
	s.receive(t, session, `[null,3,"params:3","phx_join",{}]`)
	for n, tt := range []struct{ topic, before, after string }{
		{`params:é"`, `["1",null,"params:é\"","new \"news\"",`, `]`},
		{`params:2`, `{"event":"new \"news\"","payload":`, `,"ref":null,"topic":"params:2"}`},
		{`params:3`, `[null,null,"params:3","new \"news\"",`, `]`},
	} {
		link := s.channel(n + 1).link
		before, after := link.Around(`new "news"`)
		if link.Topic() != tt.topic || string(before) != tt.before || string(after) != tt.after {
			t.Errorf("topic %q: %s … %s, want %q: %s … %s", link.Topic(), before, after, tt.topic, tt.before, tt.after)
		}
		link.Push(`new "news"`, []byte(`{"a":1}`))
		want(t, s.said(), "<- "+tt.before+`{"a":1}`+tt.after)
	}
}

func TestNewSessionWantsJoinAndSend(t *testing.T) {
	s := newServer(phoenix.V2)
	for _, o := range []phoenix.Options{{}, {Join: s.options.Join}, {Send: s.options.Send}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a session was made of %+v", o)
				}
			}()
			phoenix.NewSession(o)
		}()
	}
	// A panic without anybody to be told of it is only answered.
	s.options.Panicked = nil
	session := phoenix.NewSession(s.options)
	defer session.Close()
	want(t, s.receive(t, session, `["1","1","do:x","phx_join",{"do":"panic"}]`),
		`<- ["1","1","do:x","phx_reply",{"response":{"reason":"join crashed"},"status":"error"}]`)
}

// gate is a place where a goroutine waits until it is let through.
type gate chan struct{}

func (g gate) wait() {
	if g != nil {
		<-g
	}
}

// gated is a channel that waits in its methods, of which it notes when it comes in ("> Push 1") and out ("< Push 1").
type gated struct {
	*channel
	joining, joined, push, left gate
}

func (g *gated) in(method string, at gate) func() {
	g.server.note(entry{kind: ">", frame: fmt.Sprint(method, " ", g.n)})
	at.wait()
	return func() { g.server.note(entry{kind: "<", frame: fmt.Sprint(method, " ", g.n)}) }
}

func (g *gated) Joined() { defer g.in("Joined", g.joined)() }
func (g *gated) Left()   { defer g.in("Left", g.left)() }
func (g *gated) Push(string, []byte) ([]byte, error) {
	defer g.in("Push", g.push)()
	return g.tag(), nil
}

// gatedServer makes every channel one with these gates.
func gatedServer(gates ...gated) *server {
	s := newServer(phoenix.V2)
	ask := s.options.Join
	s.options.Join = func(topic string, params []byte, link *phoenix.Link) (phoenix.Channel, []byte, error) {
		ch, response, err := ask(topic, params, link)
		if err != nil {
			return nil, nil, err
		}
		c := ch.(*channel)
		g := gates[0]
		if len(gates) >= c.n {
			g = gates[c.n-1]
		}
		g.channel = c
		defer g.in("Join", g.joining)()
		return &g, response, nil
	}
	return s
}

// Case 30, and everything else that can come while Join runs. No call waits for the join.
func TestWhileJoining(t *testing.T) {
	const (
		reply = `<- ["1","1","n:x","phx_reply",{"response":{"n":1},"status":"ok"}]`
		join  = `["1","1","n:x","phx_join",{}]`
	)
	for _, tt := range []struct {
		name string
		do   func(s *server, session *phoenix.Session)
		want []string // after the join has returned
	}{
		{"nothing", func(*server, *phoenix.Session) {}, []string{reply, "> Joined 1", "< Joined 1"}},
		{"push", func(s *server, _ *phoenix.Session) { s.channel(1).link.Push("early", nil) },
			[]string{reply, "> Joined 1", "< Joined 1"}},
		{"close", func(s *server, _ *phoenix.Session) { s.channel(1).link.Close() },
			[]string{reply, "> Left 1", "< Left 1", `<- ["1","1","n:x","phx_close",{}]`}},
		{"crash", func(s *server, _ *phoenix.Session) { s.channel(1).link.Crash() },
			[]string{reply, "> Left 1", "< Left 1", `<- ["1","1","n:x","phx_error",{"reason":"channel_crash"}]`}},
		{"end of the session", func(_ *server, session *phoenix.Session) { session.Close() }, []string{"> Left 1", "< Left 1"}},
		{"close, then end", func(s *server, session *phoenix.Session) { s.channel(1).link.Close(); session.Close() },
			[]string{"> Left 1", "< Left 1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(gate)
				s := gatedServer(gated{joining: open})
				session := phoenix.NewSession(s.options)
				defer session.Close()
				done := make(chan error)
				go func() { done <- session.Receive([]byte(join)) }()
				synctest.Wait()
				tt.do(s, session)
				want(t, s.said(), "> Join 1")
				close(open)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				want(t, s.said(), append([]string{"< Join 1"}, tt.want...)...)
			})
		})
	}
	// A leave that the client sent meanwhile is the next frame.
	synctest.Test(t, func(t *testing.T) {
		open := make(gate)
		s := gatedServer(gated{joining: open})
		session := phoenix.NewSession(s.options)
		defer session.Close()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for _, frame := range []string{join, `["1","2","n:x","phx_leave",{}]`} {
				if err := session.Receive([]byte(frame)); err != nil {
					t.Error(err)
				}
			}
		}()
		synctest.Wait()
		close(open)
		<-done
		want(t, s.said(), "> Join 1", "< Join 1", reply, "> Joined 1", "< Joined 1", "> Left 1", "< Left 1",
			`<- ["1","2","n:x","phx_reply",{"response":{},"status":"ok"}]`, `<- ["1","1","n:x","phx_close",{}]`)
	})
}

// An end that comes while the channel is in Joined or Push waits for nobody: the goroutine that is in there sees to it, after
// its answer, so that the channel's methods are called one at a time.
func TestWhileInAMethod(t *testing.T) {
	const (
		frame = `["1","2","n:x","n",{}]`
		reply = `<- ["1","2","n:x","phx_reply",{"response":{"n":1},"status":"ok"}]`
		left  = "> Left 1"
		gone  = "< Left 1"
	)
	for _, tt := range []struct {
		name string
		do   func(link *phoenix.Link, session *phoenix.Session)
		meanwhile,
		push, joined []string // what comes after the method has returned
	}{
		{"push", func(l *phoenix.Link, _ *phoenix.Session) { l.Push("pushed", nil) },
			[]string{`<- ["1",null,"n:x","pushed",{}]`}, []string{reply}, nil},
		{"close", func(l *phoenix.Link, _ *phoenix.Session) { l.Close(); l.Push("late", nil) },
			nil, []string{reply, left, gone, `<- ["1","1","n:x","phx_close",{}]`}, []string{left, gone, `<- ["1","1","n:x","phx_close",{}]`}},
		{"crash", func(l *phoenix.Link, _ *phoenix.Session) { l.Crash(); l.Close(); l.Push("late", nil) }, nil,
			[]string{reply, left, gone, `<- ["1","1","n:x","phx_error",{"reason":"channel_crash"}]`},
			[]string{left, gone, `<- ["1","1","n:x","phx_error",{"reason":"channel_crash"}]`}},
		{"end of the session", func(_ *phoenix.Link, s *phoenix.Session) { s.Close() }, nil, []string{left, gone}, []string{left, gone}},
	} {
		run := func(t *testing.T, method string, after []string) {
			synctest.Test(t, func(t *testing.T) {
				open := make(gate)
				gates := gated{push: open}
				if method == "Joined" {
					gates = gated{joined: open}
				}
				s := gatedServer(gates)
				session := phoenix.NewSession(s.options)
				defer session.Close()
				done := make(chan error)
				go func() {
					err := session.Receive([]byte(`["1","1","n:x","phx_join",{}]`))
					if err == nil && method == "Push" {
						s.take()
						err = session.Receive([]byte(frame))
					}
					done <- err
				}()
				synctest.Wait()
				if said := s.said(); said[len(said)-1] != "> "+method+" 1" {
					t.Fatalf("it stands behind %v", said)
				}
				tt.do(s.channel(1).link, session)
				want(t, s.said(), tt.meanwhile...)
				close(open)
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				want(t, s.said(), append([]string{"< " + method + " 1"}, after...)...)
			})
		}
		t.Run("Push/"+tt.name, func(t *testing.T) { run(t, "Push", tt.push) })
		t.Run("Joined/"+tt.name, func(t *testing.T) { run(t, "Joined", tt.joined) })
	}
}

// While a channel that the server ended is in Left the topic is free: the client is answered at once, and nothing waits.
func TestWhileLeaving(t *testing.T) {
	const (
		first  = `["1","1","n:x","phx_join",{}]`
		second = `<- ["3","3","n:x","phx_reply",{"response":{"n":2},"status":"ok"}]`
		closed = `<- ["1","1","n:x","phx_close",{}]`
	)
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, s *server, session *phoenix.Session)
		meanwhile,
		after []string
	}{
		{"leave", func(t *testing.T, _ *server, session *phoenix.Session) {
			mustReceive(t, session, `["1","2","n:x","phx_leave",{}]`)
		},
			[]string{`<- ["1","2","n:x","phx_reply",{"response":{},"status":"ok"}]`}, []string{closed}},
		{"push", func(t *testing.T, _ *server, session *phoenix.Session) {
			mustReceive(t, session, `["1","2","n:x","n",{}]`)
		},
			[]string{`<- [null,"2","n:x","phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]`}, []string{closed}},
		{"join", func(t *testing.T, _ *server, session *phoenix.Session) {
			mustReceive(t, session, `["3","3","n:x","phx_join",{}]`)
		},
			[]string{"> Join 2", "< Join 2", second, "> Joined 2", "< Joined 2"}, []string{closed}},
		{"close and crash", func(_ *testing.T, s *server, _ *phoenix.Session) {
			s.channel(1).link.Close()
			s.channel(1).link.Crash()
			s.channel(1).link.Push("late", nil)
		}, nil, []string{closed}},
		{"end of the session", func(_ *testing.T, _ *server, session *phoenix.Session) { session.Close() }, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				open := make(gate)
				s := gatedServer(gated{left: open}, gated{})
				session := phoenix.NewSession(s.options)
				defer session.Close()
				mustReceive(t, session, first)
				s.take()
				done := make(chan struct{})
				go func() { defer close(done); s.channel(1).link.Close() }()
				synctest.Wait()
				want(t, s.said(), "> Left 1")
				tt.do(t, s, session)
				want(t, s.said(), tt.meanwhile...)
				close(open)
				<-done
				want(t, s.said(), append([]string{"< Left 1"}, tt.after...)...)
			})
		})
	}
}

func mustReceive(t *testing.T, session *phoenix.Session, frame string) {
	t.Helper()
	if err := session.Receive([]byte(frame)); err != nil {
		t.Fatal(err)
	}
}

// Case 45: when the connection ends all channels are left, each once, whoever ends them at the same time.
func TestClose(t *testing.T) {
	s := newServer(phoenix.V2)
	session := phoenix.NewSession(s.options)
	for i := range 50 {
		s.receive(t, session, `["%d","%d","silent:%d","phx_join",{}]`, i, i, i)
	}
	var enders sync.WaitGroup
	for i := range 50 {
		enders.Go(func() {
			switch i % 3 {
			case 0:
				s.channel(i + 1).link.Close()
			case 1:
				s.channel(i + 1).link.Crash()
			default:
				session.Close()
			}
		})
	}
	enders.Wait()
	session.Close()
	if n := session.Channels(); n != 0 {
		t.Errorf("%d are joined", n)
	}
	for _, c := range s.channels {
		if !slices.Equal(c.calls, []string{"Joined", "Left"}) {
			t.Errorf("channel %d: %v", c.n, c.calls)
		}
	}
}
