package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"
)

// maxMessage is what no message is longer than, in bytes: a killmail of 8 MiB, and what is around it.
const maxMessage = 16 << 20

// message is one of an event stream (text/event-stream of the HTML standard).
type message struct {
	kind string // empty when none was told
	data []byte // nil: there was none, as in a heartbeat
	id   string
	told bool // there was an id

	retry time.Duration // what the server said last, 0 when it did not
}

// messages takes an event stream apart. Unlike a browser it tells of messages without data too, because heartbeats move the place
// to resume from.
type messages struct {
	lines   *bufio.Scanner
	first   bool // no line was read
	afterCR bool // a line feed that comes next belongs to the line that has ended
	retry   time.Duration
}

func newMessages(r io.Reader) *messages {
	m := &messages{lines: bufio.NewScanner(r), first: true}
	m.lines.Buffer(nil, maxMessage)
	m.lines.Split(m.split)
	return m
}

// split is a bufio.SplitFunc of lines that end with LF, CR LF or CR. A last one without an end is none.
func (m *messages) split(data []byte, atEOF bool) (advance int, line []byte, err error) {
	if m.afterCR && len(data) > 0 {
		m.afterCR = false
		if data[0] == '\n' {
			advance = 1
		}
	}
	end := bytes.IndexAny(data[advance:], "\r\n")
	if end < 0 {
		if atEOF {
			advance = len(data)
		}
		return advance, nil, nil
	}
	m.afterCR = data[advance+end] == '\r'
	return advance + end + 1, data[advance : advance+end : advance+end], nil
}

// next returns the next message. At the end that is io.EOF.
func (m *messages) next() (message, error) {
	var got message
	for m.lines.Scan() {
		line := m.lines.Bytes()
		if m.first {
			line, m.first = bytes.TrimPrefix(line, []byte("\ufeff")), false
		}
		if len(line) == 0 {
			if got.data == nil && !got.told {
				got = message{}
				continue
			}
			got.retry = m.retry
			return got, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "data":
			if len(got.data)+len(value) > maxMessage {
				return message{}, fmt.Errorf("a message is longer than %d bytes", maxMessage)
			}
			if got.data == nil {
				got.data = make([]byte, 0, len(value))
			} else {
				got.data = append(got.data, '\n')
			}
			got.data = append(got.data, bytes.ToValidUTF8(value, []byte(string(utf8.RuneError)))...)
		case "event":
			got.kind = string(value)
		case "id":
			if !bytes.ContainsRune(value, 0) {
				got.id, got.told = string(value), true
			}
		case "retry":
			if ms, ok := digits(value); ok {
				m.retry = min(ms*time.Millisecond, time.Hour)
			}
		}
	}
	err := m.lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		err = fmt.Errorf("a line is longer than %d bytes", maxMessage)
	}
	if err == nil {
		err = io.EOF
	}
	return message{}, err
}

// digits reads a number of decimal digits only, at most an hour's milliseconds.
func digits(text []byte) (time.Duration, bool) {
	const most = time.Hour / time.Millisecond
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return most, true
	}
	return min(time.Duration(n), most), err == nil
}
