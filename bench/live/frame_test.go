//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// frame is a server's frame, with the length in the shortest form, or in that with the given number of bytes.
func frame(first byte, payload string, lengthBytes ...int) []byte {
	n, bytes := len(payload), 0
	switch {
	case len(lengthBytes) > 0:
		bytes = lengthBytes[0]
	case n > 0xffff:
		bytes = 8
	case n > 125:
		bytes = 2
	}
	var b []byte
	switch bytes {
	case 0:
		b = []byte{first, byte(n)}
	case 2:
		b = []byte{first, 126, byte(n >> 8), byte(n)}
	case 8:
		b = []byte{first, 127, 0, 0, 0, 0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	}
	return append(b, payload...)
}

// found is a frame as the reader of the stream sees it.
type found struct {
	Opcode  byte
	Fin     bool
	Payload string
}

// split reads a stream that comes in the given pieces.
func split(pieces ...[]byte) (all []found, err error) {
	var f frames
	var payload []byte
	for _, b := range pieces {
		for len(b) > 0 {
			piece, rest, end, err := f.next(b)
			if err != nil {
				return all, err
			}
			payload, b = append(payload, piece...), rest
			if end {
				all = append(all, found{f.opcode, f.fin, string(payload)})
				payload = nil
			}
		}
	}
	return all, nil
}

func TestFrames(t *testing.T) {
	text := func(n int) string { return strings.Repeat("killmail", n/8+1)[:n] }
	for _, c := range []struct {
		name   string
		stream []byte
		want   []found
		err    string
	}{
		{name: "empty", stream: frame(0x81, ""), want: []found{{1, true, ""}}},
		{name: "short", stream: frame(0x81, text(125)), want: []found{{1, true, text(125)}}},
		{name: "two bytes of length", stream: frame(0x81, text(126)), want: []found{{1, true, text(126)}}},
		{name: "the most for them", stream: frame(0x81, text(0xffff)), want: []found{{1, true, text(0xffff)}}},
		{name: "eight bytes of length", stream: frame(0x81, text(0x10000)), want: []found{{1, true, text(0x10000)}}},
		{name: "eight where two would do", stream: frame(0x82, text(130), 8), want: []found{{2, true, text(130)}}},
		{
			name:   "a ping between fragments",
			stream: bytes.Join([][]byte{frame(0x01, "a"), frame(0x89, "?"), frame(0x00, ""), frame(0x80, "b")}, nil),
			want:   []found{{1, false, "a"}, {9, true, "?"}, {0, false, ""}, {0, true, "b"}},
		},
		{name: "masked", stream: []byte{0x81, 0x81, 0, 0, 0, 0, 'a'}, err: "masked"},
		{name: "compressed", stream: frame(0xc1, "a"), err: "reserved"},
		{name: "long close", stream: frame(0x88, text(126)), err: "control frame of 126 bytes"},
		{name: "fragmented ping", stream: frame(0x09, "a"), err: "control frame"},
		{name: "beyond reason", stream: []byte{0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0}, err: "a frame of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			byByte := make([][]byte, len(c.stream))
			for i := range c.stream {
				byByte[i] = c.stream[i : i+1]
			}
			for how, pieces := range map[string][][]byte{"at once": {c.stream}, "byte by byte": byByte} {
				got, err := split(pieces...)
				if c.err != "" {
					if err == nil || !strings.Contains(err.Error(), c.err) {
						t.Errorf("%s: error %v, want one with %q", how, err, c.err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", how, err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", how, diff)
				}
			}
		})
	}
}

// However a stream of frames is cut into reads, the same frames are found.
func TestFramesCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		var want []found
		for range rapid.IntRange(1, 8).Draw(t, "frames") {
			n := rapid.OneOf(rapid.IntRange(0, 300), rapid.IntRange(0xfff0, 0x10010)).Draw(t, "size")
			payload := strings.Repeat("x", n)
			stream = append(stream, frame(0x81, payload)...)
			want = append(want, found{1, true, payload})
		}
		var pieces [][]byte
		for rest := stream; len(rest) > 0; {
			n := min(rapid.IntRange(1, 5000).Draw(t, "read"), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, err := split(pieces...)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}
