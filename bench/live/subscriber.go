//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// shortest is the least size in bytes of a message with a killmail. The made-up ones have some 2,500; what is shorter is an
// answer.
const shortest = 512

// subscriber is one connection that is subscribed to killmails. It counts what it gets, and reads no more of it than it must.
//
// A delivery is a line of a text message: killfeed sends one killmail a message, the peer joins what is queued with line
// breaks. Both are counted by the same code.
//
// It belongs to the goroutine that connects it, then to the reader of its subscribers.
type subscriber struct {
	fd     int
	target *target
	events bool // server-sent events in place of a WebSocket
	joined bool
	wrote  int64 // when something was last sent, on the clock of now

	frames frames
	size   int    // of the message, as far as it has come
	lines  int    // line breaks in that
	text   []byte // its bytes, as long as it is an answer; when in order is to be checked, all of it
	ctl    []byte // payload of a control frame

	count int     // deliveries of this round
	beats int     // heartbeats answered since the reader last asked
	stamp bool    // note when deliveries come, in nanoseconds on the clock of now:
	at    []int64 // the whole of each
	first int64   // the first bytes of the first one
	check bool    // deliveries must have numbers without a gap
	last  uint64  // number of the last delivery; 0 is none yet
}

// epoch is where the clock of now begins.
var epoch = time.Now()

// now is the time in nanoseconds since the process began. It is monotonic.
func now() int64 { return int64(time.Since(epoch)) }

// take takes what was read.
func (s *subscriber) take(b []byte) error {
	if s.events {
		return s.takeEvents(b)
	}
	var t int64
	if s.stamp {
		t = now()
	}
	for len(b) > 0 {
		piece, rest, end, err := s.frames.next(b)
		if err != nil {
			return err
		}
		b = rest
		if s.frames.control() {
			s.ctl = append(s.ctl, piece...)
			if end {
				err := s.control()
				s.ctl = s.ctl[:0]
				if err != nil {
					return err
				}
			}
			continue
		}
		s.size += len(piece)
		s.lines += bytes.Count(piece, newline)
		if s.size < shortest || s.check || !s.joined {
			s.text = append(s.text, piece...)
		}
		if s.joined && s.size >= shortest && s.first == 0 {
			s.first = t
		}
		if end && s.frames.fin {
			err := s.message(t)
			s.size, s.lines, s.text = 0, 0, s.text[:0]
			if err != nil {
				return err
			}
		}
	}
	return nil
}

var newline = []byte{'\n'}

// message handles a message that is complete.
func (s *subscriber) message(t int64) error {
	switch {
	case !s.joined:
		if !strings.Contains(string(s.text), s.target.welcome) {
			return fmt.Errorf("%s answered the subscription with %q", s.target.name, s.text)
		}
		s.joined = true
	case s.size >= shortest:
		n := s.lines + 1
		s.count += n
		if s.stamp {
			for range n {
				s.at = append(s.at, t)
			}
		}
		if s.check {
			return s.inOrder()
		}
	case s.target.beat != "" && strings.Contains(string(s.text), s.target.beaten):
		s.beats++
	default:
		return fmt.Errorf("%s sent %q", s.target.name, s.text)
	}
	return nil
}

// inOrder checks that the deliveries of a message carry on with the number after that of the last one.
func (s *subscriber) inOrder() error {
	for line := range bytes.Lines(s.text) {
		i := bytes.Index(line, []byte(s.target.number))
		if i < 0 {
			return fmt.Errorf("%s sent a killmail without %s: %.200q", s.target.name, s.target.number, line)
		}
		digits := line[i+len(s.target.number):]
		end := bytes.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' })
		n, err := strconv.ParseUint(string(digits[:max(end, 0)]), 10, 64)
		if err != nil {
			return fmt.Errorf("%s sent a killmail with the number %.40q", s.target.name, digits)
		}
		if s.last != 0 && n != s.last+1 {
			return fmt.Errorf("%s sent %s%d after %d", s.target.name, s.target.number, n, s.last)
		}
		s.last = n
	}
	return nil
}

// control handles a control frame.
func (s *subscriber) control() error {
	switch s.frames.opcode {
	case opPing:
		return s.write(appendFrame(nil, opPong, string(s.ctl)))
	case opClose:
		code := uint16(1005)
		reason := s.ctl
		if len(s.ctl) >= 2 {
			code, reason = binary.BigEndian.Uint16(s.ctl), s.ctl[2:]
		}
		return fmt.Errorf("%s closed the connection: %d %q", s.target.name, code, reason)
	}
	return nil
}

// takeEvents waits for the beginning of a stream. What comes after it is only taken from the socket.
func (s *subscriber) takeEvents(b []byte) error {
	if s.joined {
		return nil
	}
	s.text = append(s.text, b...)
	if bytes.Contains(s.text, []byte("event: open")) {
		s.joined, s.text = true, nil
	}
	if len(s.text) > 4096 {
		return fmt.Errorf("%s began a stream with %.200q", s.target.name, s.text)
	}
	return nil
}

// write writes all of a small message.
func (s *subscriber) write(b []byte) error {
	s.wrote = now()
	for {
		n, err := syscall.Write(s.fd, b)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return fmt.Errorf("writing to %s: %w", s.target.name, err)
		case n < len(b):
			return fmt.Errorf("%s does not read: only %d of %d bytes went out", s.target.name, n, len(b))
		default:
			return nil
		}
	}
}
