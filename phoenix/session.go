package phoenix

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// The protocol's own words.
const (
	topicPhoenix   = "phoenix"
	eventHeartbeat = "heartbeat"
	eventJoin      = "phx_join"
	eventLeave     = "phx_leave"
	eventReply     = "phx_reply"
	eventClose     = "phx_close"
	eventError     = "phx_error"

	statusOK    = "ok"
	statusError = "error"
)

const (
	// maxName bounds, in bytes, what a join makes the server keep and repeat in every push: the topic, and the join_ref as it
	// is written. It also bounds the events that a Channel gets to see. A binary frame has room for no more either. Without a
	// bound a client of 100 joins with a join_ref of 200 kB each would cost 20 MB, and 200 kB more with each event.
	maxName = 255
	// defaultMaxChannels is Phoenix's own.
	defaultMaxChannels = 100
)

// Channel is what the server has behind a joined topic.
//
// Its methods are called without any lock of the session, and one at a time. They may use the Link, and take their time for
// disk I/O: other channels' pushes go out meanwhile, but no further frame of this session is handled.
type Channel interface {
	// Joined is called when the join's ok reply has been handed to Send, from where on pushes are in order. It is not called
	// when the link or the session was closed before that.
	Joined()
	// Push handles an event from the client. The payload is a JSON object, the event at most 255 bytes; the payload is good
	// until Push returns. The response is a JSON object, nil for {}.
	//
	// A *Refusal is told as a reply of status error. After any other error, or a panic, the client is told phx_error, without
	// a reply and without the reason, and the channel is gone: who returns the error logs it before.
	Push(event string, payload []byte) (response []byte, err error)
	// Left is called exactly once for every channel that Join returned without an error, as the last of its methods: when the
	// client left or joined the topic anew, the channel crashed, the link was closed, or the session. When it is called the
	// Link sends nothing any more; only when it has returned the client is told. So whoever pushes by means of Link.Around
	// has to have stopped when Left returns.
	Left()
}

// ErrUnmatched is returned by Join when there is no such topic.
var ErrUnmatched = errors.New("unmatched topic")

// Refusal is an error that the client is told: a reply of status error with this response.
type Refusal struct {
	Response []byte // a JSON object, nil for {}
}

func (r *Refusal) Error() string { return fmt.Sprintf("refused: %s", r.Response) }

// Refuse makes a Refusal of the response {"reason": reason}.
func Refuse(reason string) *Refusal {
	return &Refusal{append(appendString([]byte(`{"reason":`), reason), '}')}
}

// Options are what a Session needs. Join and Send must be set.
type Options struct {
	// Version is that of the connection. Zero stands for V1.
	Version Version

	// Join is called for phx_join, without any lock of the session. The params are a JSON object, good until Join returns;
	// the topic is at most 255 bytes. The link is for the channel to keep; it pushes nothing until the reply was sent.
	//
	// The response is a JSON object, nil for {}. ErrUnmatched is told as "unmatched topic", and a *Refusal as it says. After
	// any other error, or a panic, or without a channel, the client is told "join crashed": who returns the error logs it
	// before.
	//
	// When the client joins a topic that it has joined, the old channel has been Left before Join is called. One that the
	// server itself closes at that moment may still be in Left, so that channels are not to be told apart by their topics.
	Join func(topic string, params []byte, link *Link) (ch Channel, response []byte, err error)

	// Send takes one encoded text frame, in the order in which frames are to go out. The frame is Send's to keep. It is called
	// with the session's lock held, so that it must not block, panic, or call the session or a link; it may take a lock of
	// the transport's.
	Send func(frame []byte)

	// MaxChannels is how many topics may be joined at a time. Zero stands for 100, as in Phoenix.
	MaxChannels int

	// Panicked, if it is set, is told of panics in Join and in the methods of channels, on the goroutine that panicked and
	// without any lock of the session.
	Panicked func(v any, stack []byte)
}

// Session is one client's connection, whatever carries it: the topics it has joined, and the answers to its frames.
//
// Receive and ReceiveBinary are called by one goroutine at a time; everything else by any, at any time. No method waits for
// a callback that another goroutine is in.
type Session struct {
	o Options // never changes

	// mu makes the order of frames: it is held while they are handed to Send, and never through Join or a channel's method.
	mu     sync.Mutex
	links  map[string]*Link // by topic, those that are joined: the reply was sent, and they have not ended
	closed bool             // nothing is sent any more
}

// NewSession makes the Session of a new connection.
func NewSession(o Options) *Session {
	if o.Join == nil || o.Send == nil {
		panic("phoenix: a session wants Join and Send")
	}
	if o.MaxChannels == 0 {
		o.MaxChannels = defaultMaxChannels
	}
	return &Session{o: o, links: map[string]*Link{}}
}

// Receive handles a text frame: when it returns, everything that there is to answer has been handed to Send. The frame may
// be used again then. It must be bounded by the transport.
//
// The error is a *BrokenError and means that the connection is to end. The session itself is as before, and needs its Close.
// After Close a frame is not handled any more, only found broken.
func (s *Session) Receive(frame []byte) error {
	m, err := s.o.Version.Decode(frame)
	if err != nil {
		return err
	}
	s.handle(&m)
	return nil
}

// ReceiveBinary handles a binary frame, as Receive does a text frame. What can be read is answered with an error reply.
func (s *Session) ReceiveBinary(frame []byte) error {
	m, err := s.o.Version.DecodeBinary(frame)
	if err != nil {
		return err
	}
	s.handle(&m)
	return nil
}

// Close ends the session: every channel is Left, and from the moment on in which Close is called nothing is sent. When it
// returns, Left of every channel has returned, but for one that another goroutine is in a method of, or is ending: that
// goroutine sees to it. Further calls do nothing.
func (s *Session) Close() {
	s.mu.Lock()
	s.closed = true
	var ended []*Link
	for _, l := range s.links {
		if s.end(l, "") {
			ended = append(ended, l)
		}
	}
	s.mu.Unlock()
	for _, l := range ended {
		s.guard(l.channel.Left)
	}
}

// Channels is how many topics are joined.
func (s *Session) Channels() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.links)
}

// handle answers a message.
func (s *Session) handle(m *Message) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return
	}
	if string(m.JoinRef) == `""` {
		m.JoinRef = nil // a published client has no null
	}
	switch {
	case m.Binary: // whatever it asks for, it asks in vain
		s.push(m)
	case m.Topic == topicPhoenix:
		s.mu.Lock()
		if m.Event == eventHeartbeat {
			s.reply(m, answer{status: statusOK}) // whatever its payload is: the client lives
		} else {
			s.reply(m, unmatched())
		}
		s.mu.Unlock()
	case m.Event == eventJoin:
		s.join(m)
	case m.Event == eventLeave:
		s.leave(m)
	default:
		s.push(m)
	}
}

// join handles phx_join. The last join wins: a channel that is on the topic already ends, whatever becomes of this join. As
// in Phoenix its phx_close goes out behind the reply; clients know it by its join_ref.
func (s *Session) join(m *Message) {
	old := s.displace(m.Topic)
	l, a := s.admit(m)

	s.mu.Lock()
	s.reply(m, a)
	if old != nil {
		s.tell(old)
	}
	if l == nil {
		s.mu.Unlock()
		return
	}
	if s.closed {
		s.end(l, "")
	}
	joined := !l.ended
	if joined {
		s.links[l.topic] = l
	}
	s.mu.Unlock()

	if joined && !s.guard(l.channel.Joined) {
		s.mu.Lock()
		s.end(l, eventError)
		s.mu.Unlock()
	}
	s.release(l)
}

// displace ends the channel on the topic and returns its link when Left has returned. The client is not told yet. It returns
// nil when there is none.
func (s *Session) displace(topic string) *Link {
	s.mu.Lock()
	l := s.links[topic]
	if l != nil {
		s.end(l, eventClose)
	}
	s.mu.Unlock()
	if l != nil {
		s.guard(l.channel.Left)
	}
	return l
}

// admit asks Join, unless the answer is clear without it. The link has its channel and is busy; it is nil when the join is
// refused.
func (s *Session) admit(m *Message) (*Link, answer) {
	const crashed = "join crashed"
	joinRef := m.JoinRef
	if joinRef == nil && m.Form == V1 {
		joinRef = m.Ref
	}
	switch {
	case len(m.Topic) > maxName:
		return nil, unmatched()
	case len(joinRef) > maxName:
		return nil, refused(m.JoinRef, Refuse(fmt.Sprintf("join_ref is longer than %d bytes", maxName)))
	case s.Channels() >= s.o.MaxChannels:
		return nil, refused(m.JoinRef, Refuse("too many channels joined"))
	case m.Payload[0] != '{':
		return nil, refused(m.JoinRef, Refuse(crashed))
	}
	l := &Link{session: s, topic: m.Topic, joinRef: bytes.Clone(joinRef), form: m.Form, busy: true}
	var (
		response []byte
		err      error
	)
	returned := s.guard(func() {
		l.channel, response, err = s.o.Join(m.Topic, m.Payload, l)
		if err == nil && l.channel == nil {
			panic(fmt.Sprintf("phoenix: Join returned neither a channel nor an error for topic %q", m.Topic))
		}
	})
	if returned && err == nil {
		return l, answer{m.JoinRef, statusOK, response}
	}
	// The link leads nowhere, should Join have given it away: it is in no map, and busy for ever.
	if refusal := refusalOf(err); refusal != nil {
		return nil, refused(m.JoinRef, refusal)
	}
	if errors.Is(err, ErrUnmatched) {
		return nil, unmatched()
	}
	return nil, refused(m.JoinRef, Refuse(crashed))
}

// leave handles phx_leave.
func (s *Session) leave(m *Message) {
	s.mu.Lock()
	l := s.links[m.Topic]
	switch {
	case l == nil:
		s.reply(m, answer{joinRef: m.JoinRef, status: statusOK})
		s.mu.Unlock()
		return
	case l.isStale(m):
		s.mu.Unlock()
		return
	}
	s.end(l, eventClose)
	s.mu.Unlock()

	s.guard(l.channel.Left)

	s.mu.Lock()
	s.reply(m, answer{joinRef: l.joinRef, status: statusOK})
	s.tell(l)
	s.mu.Unlock()
}

// push handles every other event.
func (s *Session) push(m *Message) {
	l := s.enter(m)
	if l == nil {
		return
	}
	var (
		response []byte
		err      error
	)
	returned := s.guard(func() { response, err = l.channel.Push(m.Event, m.Payload) })
	refusal := refusalOf(err)

	s.mu.Lock()
	switch {
	case returned && err == nil:
		s.reply(m, answer{l.joinRef, statusOK, response})
	case refusal != nil:
		s.reply(m, refused(l.joinRef, refusal))
	default:
		s.end(l, eventError)
	}
	s.mu.Unlock()
	s.release(l)
}

// enter returns the link of the channel that m is for, busy; or nil, when what there is to say to m has been said.
func (s *Session) enter(m *Message) *Link {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.links[m.Topic]
	switch {
	case l == nil:
		s.reply(m, unmatched())
	case l.isStale(m):
	case m.Binary:
		s.reply(m, refused(l.joinRef, Refuse("binary payloads are not accepted here, send a JSON object")))
	case m.Payload[0] != '{':
		s.reply(m, refused(l.joinRef, Refuse("the payload is not an object")))
	case len(m.Event) > maxName:
		s.reply(m, refused(l.joinRef, Refuse(fmt.Sprintf("the event is longer than %d bytes", maxName))))
	default:
		l.busy = true
		return l
	}
	return nil
}

// The end of a channel has three steps, which are end, Left, and tell. Whoever does the first does all of them, in this
// order, each once. The goroutine of Receive may be in one of the channel's methods at that time: then the others are left
// to it, when it comes out, so that nobody waits.

// end is the first step, with mu held: nothing is pushed from here on, and the topic is free. The farewell is what the
// client will be told, "" for nothing. It reports whether the other steps are the caller's.
func (s *Session) end(l *Link, farewell string) bool {
	if l.ended {
		return false
	}
	l.ended, l.farewell = true, farewell
	if s.links[l.topic] == l {
		delete(s.links, l.topic)
	}
	return !l.busy
}

// release is called by the goroutine of Receive when it is out of the channel's method.
func (s *Session) release(l *Link) {
	s.mu.Lock()
	l.busy = false
	ended := l.ended
	s.mu.Unlock()
	if ended {
		s.bury(l)
	}
}

// bury is the second and the third step.
func (s *Session) bury(l *Link) {
	s.guard(l.channel.Left)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tell(l)
}

// tell is the third step, with mu held.
func (s *Session) tell(l *Link) {
	m := Message{Form: l.form, JoinRef: l.joinRef, Ref: l.joinRef, Topic: l.topic, Event: l.farewell}
	switch l.farewell {
	case "":
		return
	case eventError:
		m.Payload = []byte(`{"reason":"channel_crash"}`)
	}
	s.send(m.Append(nil))
}

// answer is what a reply says.
type answer struct {
	joinRef  []byte
	status   string
	response []byte // nil for {}
}

func unmatched() answer { return refused(nil, Refuse(ErrUnmatched.Error())) }

func refused(joinRef []byte, r *Refusal) answer { return answer{joinRef, statusError, r.Response} }

// refusalOf returns the Refusal that err is or wraps, nil when it is none.
func refusalOf(err error) *Refusal {
	r, _ := errors.AsType[*Refusal](err)
	return r
}

// reply sends the reply to m, with mu held.
func (s *Session) reply(m *Message, a answer) {
	response := a.response
	if response == nil {
		response = []byte("{}")
	}
	const around = 96 // bytes: the rest of a reply in either form
	r := Message{Form: m.Form, JoinRef: a.joinRef, Ref: m.Ref, Topic: m.Topic, Event: eventReply}
	frame := make([]byte, 0, len(a.joinRef)+len(m.Ref)+len(m.Topic)+len(response)+around)
	frame = append(r.appendBefore(frame), `{"response":`...)
	frame = append(append(frame, response...), `,"status":"`...)
	frame = append(append(frame, a.status...), `"}`...)
	s.send(r.appendAfter(frame))
}

// send hands a frame to the transport, with mu held.
func (s *Session) send(frame []byte) {
	if !s.closed {
		s.o.Send(frame)
	}
}

// guard calls f, and reports whether it returned rather than panicked.
func (s *Session) guard(f func()) (returned bool) {
	defer func() {
		if v := recover(); v != nil && s.o.Panicked != nil {
			s.o.Panicked(v, debug.Stack())
		}
	}()
	f()
	return true
}
