package phoenix

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"
)

// Message is one frame, decoded. Its slices alias the frame: they are good for as long as that is, and must not be changed.
type Message struct {
	// Form is how the frame was written, and how Append writes it. An object on a connection of V2 is of V1.
	Form Version
	// JoinRef and Ref are JSON strings or numbers exactly as they were sent, nil for null, and nil for a join_ref that an
	// object leaves out.
	JoinRef, Ref []byte
	// Topic and Event are of any length, up to that of the frame.
	Topic, Event string
	// Payload is any JSON value, {} when null was sent. When Binary is set it is bytes of any kind.
	Payload []byte
	Binary  bool
}

// Kind says in what way a frame is broken. For a WebSocket that decides the close code.
type Kind uint8

const (
	// NotJSON is a frame that is not what every frame of its kind is: it is not UTF-8, or not JSON. WebSockets close with
	// 1007.
	NotJSON Kind = iota + 1
	// NotMessage is a frame that is all right in itself, but no message. WebSockets close with 1003.
	NotMessage
)

// BrokenError is a frame that cannot be read, so that nobody can be answered: the connection ends. Its text may be shown to
// the client, and fits into a close frame (123 bytes).
type BrokenError struct {
	Kind   Kind
	Reason string
}

func (e *BrokenError) Error() string { return e.Reason }

func notMessage(format string, args ...any) error {
	return &BrokenError{NotMessage, "no message: " + fmt.Sprintf(format, args...)}
}

// Decode reads a text frame. V2 reads objects too, as V1 does: a published client sends them over vsn=2.0.0, and every
// answer to them is an object then.
//
// In an object the names are matched exactly, unknown ones are passed over, and of two values for one name the last counts.
// In an array what follows the fifth element is passed over. The error is a *BrokenError.
func (v Version) Decode(frame []byte) (Message, error) {
	if !utf8.Valid(frame) {
		return Message{}, &BrokenError{NotJSON, "the frame is not UTF-8"}
	}
	if !json.Valid(frame) {
		return Message{}, notJSON(frame)
	}
	for isSpace(frame[0]) {
		frame = frame[1:]
	}
	switch {
	case frame[0] == '[' && v == V2:
		return decodeArray(frame)
	case frame[0] == '{':
		return decodeObject(frame)
	case v == V2:
		return Message{}, notMessage("want [join_ref, ref, topic, event, payload]")
	}
	return Message{}, notMessage("want an object with topic, event, payload and ref, as vsn 1.0.0 has them")
}

// notJSON says what is wrong with a frame, and where.
func notJSON(frame []byte) error {
	var raw json.RawMessage
	reason := "the frame is not JSON"
	if at, ok := json.Unmarshal(frame, &raw).(*json.SyntaxError); ok {
		reason = fmt.Sprintf("%s: byte %d: %v", reason, at.Offset, at)
	}
	return &BrokenError{NotJSON, reason}
}

// decodeArray reads a frame of V2.
func decodeArray(frame []byte) (Message, error) {
	var parts [5][]byte
	for i, all := 0, inside(frame); i < len(parts); i++ {
		if parts[i] = all.next(); parts[i] == nil {
			return Message{}, notMessage("the array has %d elements, want [join_ref, ref, topic, event, payload]", i)
		}
	}
	return newMessage(V2, parts[0], parts[1], parts[2], parts[3], parts[4])
}

// decodeObject reads a frame of V1.
func decodeObject(frame []byte) (Message, error) {
	var joinRef, ref, topic, event, payload []byte
	for all := inside(frame); ; {
		name := all.next()
		if name == nil {
			break
		}
		value := all.next()
		switch string(unquote(name)) {
		case "join_ref":
			joinRef = value
		case "ref":
			ref = value
		case "topic":
			topic = value
		case "event":
			event = value
		case "payload":
			payload = value
		}
	}
	if joinRef == nil {
		joinRef = []byte("null")
	}
	if ref == nil || topic == nil || event == nil || payload == nil {
		return Message{}, notMessage("the object wants topic, event, payload and ref")
	}
	return newMessage(V1, joinRef, ref, topic, event, payload)
}

// newMessage makes a message of the five values, as they are written.
func newMessage(form Version, joinRef, ref, topic, event, payload []byte) (Message, error) {
	if topic[0] != '"' {
		return Message{}, notMessage("the topic is not a string")
	}
	if event[0] != '"' {
		return Message{}, notMessage("the event is not a string")
	}
	for _, r := range []*[]byte{&joinRef, &ref} {
		switch c := (*r)[0]; {
		case c == 'n':
			*r = nil
		case c != '"' && c != '-' && !isDigit(c):
			return Message{}, notMessage("a ref is a string, a number or null")
		}
	}
	if isNull(payload) {
		payload = []byte("{}")
	}
	return Message{
		Form: form, JoinRef: joinRef, Ref: ref, Topic: string(unquote(topic)), Event: string(unquote(event)), Payload: payload,
	}, nil
}

// DecodeBinary reads a binary frame: a push by the client. V1 has none. A ref of no bytes is nil, for these frames have no
// null. The error is a *BrokenError.
//
//	+---+-----------+-----+-------+-------+----------+-----+-------+-------+------
//	| 0 | join_ref: | ref:  topic:  event: | join_ref | ref | topic | event | data …
//	+---+-----------+-----+-------+-------+----------+-----+-------+-------+------
//	 one byte each, the last four lengths   strings of these lengths
func (v Version) DecodeBinary(frame []byte) (Message, error) {
	const kindPush, header = 0, 5
	if v != V2 {
		return Message{}, notMessage("vsn 1.0.0 has no binary frames")
	}
	if len(frame) < header || frame[0] != kindPush {
		return Message{}, notMessage("want a binary push: 0, four lengths, join_ref, ref, topic, event, data")
	}
	var parts [4]string
	rest := frame[header:]
	for i := range parts {
		n := int(frame[1+i])
		if n > len(rest) {
			return Message{}, notMessage("the binary frame is shorter than its lengths say")
		}
		if !utf8.Valid(rest[:n]) {
			return Message{}, &BrokenError{NotJSON, "a string of the binary frame is not UTF-8"}
		}
		parts[i], rest = string(rest[:n]), rest[n:]
	}
	m := Message{Form: V2, Topic: parts[2], Event: parts[3], Payload: rest[:len(rest):len(rest)], Binary: true}
	if parts[0] != "" {
		m.JoinRef = appendString(nil, parts[0])
	}
	if parts[1] != "" {
		m.Ref = appendString(nil, parts[1])
	}
	return m, nil
}

// Append appends the message as a text frame in its Form, and nothing else: an array of five, or an object with exactly the
// members event, payload, ref and topic, in this order. JoinRef, Ref and Payload must be valid JSON and are taken over as
// they are. No payload, and one of bytes, which text cannot carry, is written as {}.
func (m *Message) Append(dst []byte) []byte {
	dst = m.appendBefore(dst)
	if m.Payload == nil || m.Binary {
		dst = append(dst, "{}"...)
	} else {
		dst = append(dst, m.Payload...)
	}
	return m.appendAfter(dst)
}

// appendBefore appends what stands before the payload.
func (m *Message) appendBefore(dst []byte) []byte {
	if m.Form == V2 {
		dst = appendRef(append(dst, '['), m.JoinRef)
		dst = appendRef(append(dst, ','), m.Ref)
		dst = appendString(append(dst, ','), m.Topic)
		dst = appendString(append(dst, ','), m.Event)
		return append(dst, ',')
	}
	dst = appendString(append(dst, `{"event":`...), m.Event)
	return append(dst, `,"payload":`...)
}

// appendAfter appends what follows the payload.
func (m *Message) appendAfter(dst []byte) []byte {
	if m.Form == V2 {
		return append(dst, ']')
	}
	dst = appendRef(append(dst, `,"ref":`...), m.Ref)
	dst = appendString(append(dst, `,"topic":`...), m.Topic)
	return append(dst, '}')
}

func appendRef(dst, ref []byte) []byte {
	if ref == nil {
		return append(dst, "null"...)
	}
	return append(dst, ref...)
}
