//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// WebSocket opcodes.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// frames reads the frames of a server, which are neither masked nor, here, in fragments.
type frames struct {
	r     *bufio.Reader
	large []byte // for payloads that do not fit into r
	skip  int    // what was peeked at and is done with
}

// next returns the next frame. The payload is valid until the next call.
func (f *frames) next() (op byte, payload []byte, err error) {
	f.r.Discard(f.skip)
	f.skip = 0
	h, err := f.r.Peek(2)
	if err != nil {
		return 0, nil, err
	}
	op, size := h[0]&0x0f, uint64(h[1]&0x7f)
	if h[0]&0xf0 != 0x80 || h[1]&0x80 != 0 {
		return 0, nil, fmt.Errorf("frame header %x: no whole, unmasked frame without extensions", h)
	}
	header := 2
	switch size {
	case 126:
		header = 4
	case 127:
		header = 10
	}
	if h, err = f.r.Peek(header); err != nil {
		return 0, nil, err
	}
	switch header {
	case 4:
		size = uint64(binary.BigEndian.Uint16(h[2:]))
	case 10:
		if size = binary.BigEndian.Uint64(h[2:]); size > 1<<30 {
			return 0, nil, fmt.Errorf("a frame of %d bytes", size)
		}
	}
	if n := header + int(size); n <= f.r.Size() {
		f.skip = n
		b, err := f.r.Peek(n)
		if err != nil {
			return 0, nil, err
		}
		return op, b[header:], nil
	}
	f.r.Discard(header)
	if cap(f.large) < int(size) {
		f.large = make([]byte, size+size/4)
	}
	f.large = f.large[:size]
	_, err = io.ReadFull(f.r, f.large)
	return op, f.large, err
}

// appendFrame appends a client's frame. Clients must mask; masked with zeros the payload stays what it is.
func appendFrame(b []byte, opcode byte, payload []byte) []byte {
	b = append(b, 0x80|opcode)
	switch n := len(payload); {
	case n <= 125:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// lines reads lines of any length.
type lines struct {
	r    *bufio.Reader
	long []byte
}

// next returns the next line without its end. It is valid until the next call.
func (l *lines) next() ([]byte, error) {
	l.long = l.long[:0]
	for {
		b, err := l.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			l.long = append(l.long, b...)
			continue
		case err != nil:
			return nil, err
		}
		b = b[:len(b)-1]
		if len(l.long) > 0 {
			l.long = append(l.long, b...)
			b = l.long
		}
		return bytes.TrimSuffix(b, []byte{'\r'}), nil
	}
}

// seen is what is looked at of an event. Two thousand subscribers parse nothing else of it: the server on the same cores needs
// them more.
type seen struct {
	event    uint64
	killmail int64
	cursor   []byte
}

var (
	beforeEvent    = []byte(`{"event_id":`)
	beforeKillmail = []byte(`"killmail_id":`)
	beforeCursor   = []byte(`,"cursor":"`)
)

// scanEvent reads an event's JSON object, as live edges send it. what may stand before its first member is a type.
func scanEvent(b []byte) (s seen, err error) {
	at := bytes.Index(b, beforeEvent[1:])
	if at < 1 || at > 64 {
		return s, fmt.Errorf("no event_id where one should be: %.100q", b)
	}
	if s.event, err = number(b[at+len(beforeEvent)-1:]); err != nil {
		return s, fmt.Errorf("event_id: %w", err)
	}
	at = bytes.Index(b, beforeKillmail)
	if at < 0 {
		return s, fmt.Errorf("event %d without a killmail_id: %.100q", s.event, b)
	}
	id, err := number(b[at+len(beforeKillmail):])
	if err != nil {
		return s, fmt.Errorf("event %d: killmail_id: %w", s.event, err)
	}
	s.killmail = int64(id)
	tail := b[max(0, len(b)-64):]
	at = bytes.LastIndex(tail, beforeCursor)
	if at < 0 || !bytes.HasSuffix(tail, []byte(`"}`)) {
		return s, fmt.Errorf("event %d does not end with its cursor: %q", s.event, tail)
	}
	s.cursor = tail[at+len(beforeCursor) : len(tail)-2]
	return s, nil
}

// number reads the decimal number that b begins with.
func number(b []byte) (n uint64, err error) {
	i := 0
	for ; i < len(b) && i < 19 && b[i] >= '0' && b[i] <= '9'; i++ {
		n = n*10 + uint64(b[i]-'0')
	}
	if i == 0 {
		return 0, fmt.Errorf("%.20q is no number", b)
	}
	return n, nil
}

// cursor is a place in the log: <event_id>-<epoch>.
type cursor struct {
	after uint64
	epoch string
}

func (c cursor) String() string { return strconv.FormatUint(c.after, 10) + "-" + c.epoch }

// parseCursor reads a cursor. The third part of a durable stream's is left out.
func parseCursor(b []byte) (cursor, error) {
	parts := bytes.SplitN(b, []byte{'-'}, 3)
	if len(parts) < 2 || len(parts[1]) != 8 {
		return cursor{}, fmt.Errorf("%.40q is no cursor", b)
	}
	after, err := strconv.ParseUint(string(parts[0]), 10, 64)
	if err != nil {
		return cursor{}, fmt.Errorf("%.40q is no cursor", b)
	}
	return cursor{after, string(parts[1])}, nil
}
