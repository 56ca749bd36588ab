//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"pgregory.net/rapid"
)

// Frames and lines come out as they went in, whatever their size and however the reads cut them.
func TestFramesAndLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOf(rapid.SampledFrom([]int{0, 1, 125, 126, 127, 1000, 4090, 4096, 5000, 65535, 65536, 70_000})).Draw(t, "sizes")
		var framed, lined bytes.Buffer
		var want []string
		for i, n := range sizes {
			text := strings.Repeat(string(rune('a'+i%26)), n)
			want = append(want, text)
			lined.WriteString(text + "\n")
			frame := appendFrame(nil, opText, []byte(text))
			head := len(frame) - n - 4 // without the mask, as servers send them
			frame[1] &^= 0x80
			framed.Write(frame[:head])
			framed.WriteString(text)
		}
		cut := func(r io.Reader) io.Reader { return r }
		if rapid.Bool().Draw(t, "halves") {
			cut = iotest.HalfReader
		}
		f := frames{r: bufio.NewReaderSize(cut(&framed), badReadSize)}
		l := lines{r: bufio.NewReaderSize(cut(&lined), badReadSize)}
		for i, text := range want {
			op, payload, err := f.next()
			if err != nil || op != opText || string(payload) != text {
				t.Fatalf("frame %d: %d bytes with opcode %d, error %v", i, len(payload), op, err)
			}
			line, err := l.next()
			if err != nil || string(line) != text {
				t.Fatalf("line %d: %d bytes, error %v", i, len(line), err)
			}
		}
		if _, _, err := f.next(); !errors.Is(err, io.EOF) {
			t.Errorf("behind the last frame: %v", err)
		}
		if _, err := l.next(); !errors.Is(err, io.EOF) {
			t.Errorf("behind the last line: %v", err)
		}
	})
}

func TestFramesThatAreNone(t *testing.T) {
	for name, b := range map[string][]byte{
		"masked":      {0x81, 0x80, 0, 0, 0, 0},
		"a fragment":  {0x01, 0x00},
		"compressed":  {0xc1, 0x00},
		"a terabyte":  {0x81, 127, 0, 0, 1, 0, 0, 0, 0, 0},
		"cut short":   {0x81, 5, 'a'},
		"half a head": {0x81, 126, 1},
	} {
		f := frames{r: bufio.NewReader(bytes.NewReader(b))}
		if _, _, err := f.next(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestScanEvent(t *testing.T) {
	const good = `{"event_id":17,"system_id":30000142,"received_at":"2026-11-25T04:00:00.000Z","killmail":{"attackers":[{"a":1}],"killmail_id":1000000016,"x":"y"},"cursor":"17-0123abcd"}`
	for _, text := range []string{good, `{"type":"new_killmail",` + good[1:]} {
		s, err := scanEvent([]byte(text))
		if err != nil || s.event != 17 || s.killmail != 1000000016 || string(s.cursor) != "17-0123abcd" {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
		if c, err := parseCursor(s.cursor); err != nil || c != (cursor{17, "0123abcd"}) {
			t.Errorf("the cursor %s is %v, %v", s.cursor, c, err)
		}
	}
	for name, text := range map[string]string{
		"no event id":   strings.Replace(good, "event_id", "event", 1),
		"no number":     strings.Replace(good, ":17,", `:"17",`, 1),
		"no killmail":   strings.Replace(good, "killmail_id", "id", 1),
		"no cursor":     strings.Replace(good, `,"cursor":"17-0123abcd"`, "", 1),
		"not at an end": good + " ",
		"empty":         "",
	} {
		if s, err := scanEvent([]byte(text)); err == nil {
			t.Errorf("%s: no error, %+v", name, s)
		}
	}
	for _, text := range []string{"", "17", "17-", "17-123", "-0123abcd", "x-0123abcd"} {
		if c, err := parseCursor([]byte(text)); err == nil {
			t.Errorf("%q is the cursor %v", text, c)
		}
	}
	if c, err := parseCursor([]byte("17-0123abcd-00112233445566")); err != nil || c != (cursor{17, "0123abcd"}) {
		t.Errorf("a cursor with a nonce is %v, %v", c, err)
	}
}

// Every latency is counted in the bucket that has it, which is narrow.
func TestHistogram(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "latency"))
		i := bucket(d)
		if edge(i) > d || d >= edge(i+1) {
			t.Fatalf("%v is in bucket %d, from %v to %v", d, i, edge(i), edge(i+1))
		}
		if width := edge(i+1) - edge(i); width > max(unit, d/60) {
			t.Fatalf("the bucket of %v is %v wide", d, width)
		}
	})
	var h histogram
	for n := range 1000 {
		h.record(time.Duration(n) * time.Millisecond)
	}
	for share, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond} {
		if got := h.quantile(share); got < want*98/100 || got > want*102/100 {
			t.Errorf("%v of 0 to 999 ms are below %v", share, got)
		}
	}
	if n := h.take().count(); n != 1000 || h.count() != 0 || h.quantile(0.5) != 0 {
		t.Errorf("%d taken, %d left", n, h.count())
	}
}

func TestFigures(t *testing.T) {
	if m := median([]float64{9, 1, 5}); m != 5 {
		t.Errorf("median %v", m)
	}
	if m := median([]float64{4, 1, 2, 9}); m != 3 {
		t.Errorf("median %v", m)
	}
	if s := slope([]float64{0, 1, 2, 3}, []float64{5, 7, 9, 11}); s != 2 {
		t.Errorf("slope %v", s)
	}
}
