package phoenix

import "bytes"

// Link is the server's end of one join: what its pushes must carry, and the way to end it.
//
// Its methods may be called by any goroutine at any time, but not with a lock held that Send or Left takes: Push, Close and
// Crash take the session's lock, under which Send is called, and Close and Crash call Left.
type Link struct {
	// These never change.
	session *Session
	topic   string
	joinRef []byte // as the client wrote it, nil for null
	form    Version

	channel Channel // set by the goroutine of Receive before the link is joined; read only when it is, or by that goroutine

	// Guarded by session.mu.
	busy     bool   // the goroutine of Receive is in Join or a method of the channel, and does what is to do afterwards
	ended    bool   // it sends nothing any more, but the farewell
	farewell string // the event by which the client is told of the end
}

// Topic is the topic that was joined, at most 255 bytes.
func (l *Link) Topic() string { return l.topic }

// Around returns what stands before and what stands after the payload of a push of the event, in the form of the join. So one
// who writes many events need not copy each of them into a frame; it stays the same for the life of the link. Who writes
// frames in this way owes what Push does: nothing before Joined is called, all of it behind what Send was handed until then,
// and nothing after Left has returned.
func (l *Link) Around(event string) (before, after []byte) {
	m := l.message(event)
	return m.appendBefore(nil), m.appendAfter(nil)
}

// Push hands a push to Send, with the payload, a JSON object, or {} for nil. Before the reply to the join was sent, and when
// the channel is gone, it does nothing.
func (l *Link) Push(event string, payload []byte) {
	m := l.message(event)
	m.Payload = payload
	const around = 64 // bytes: the rest of a push in either form
	frame := m.Append(make([]byte, 0, len(l.joinRef)+len(l.topic)+len(event)+len(payload)+around))
	l.session.mu.Lock()
	defer l.session.mu.Unlock()
	if l.session.links[l.topic] == l {
		l.session.send(frame)
	}
}

// Close ends the channel: nothing is pushed from here on, Left is called, and the client is told phx_close, which it does not
// answer by joining again. While Join, Joined or Push of the channel is running, which may be what calls Close, that comes to
// its end first, with its reply, and its goroutine does the rest. On a channel that is gone Close does nothing.
func (l *Link) Close() { l.stop(eventClose) }

// Crash is Close, but that the client is told phx_error: it joins again after a pause.
func (l *Link) Crash() { l.stop(eventError) }

func (l *Link) stop(farewell string) {
	l.session.mu.Lock()
	mine := l.session.end(l, farewell)
	l.session.mu.Unlock()
	if mine {
		l.session.bury(l)
	}
}

// message returns a push of the event, without its payload.
func (l *Link) message(event string) Message {
	return Message{Form: l.form, JoinRef: l.joinRef, Topic: l.topic, Event: event}
}

// isStale tells whether m belongs to an earlier join: it has a join_ref, and another one, byte for byte.
func (l *Link) isStale(m *Message) bool {
	return m.JoinRef != nil && !bytes.Equal(m.JoinRef, l.joinRef)
}
