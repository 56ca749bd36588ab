package archive

import (
	"bytes"
	"encoding/json"
	"testing"
)

// scanAll scans b in pieces of the given size.
func scanAll(b []byte, size int) (int, verdict) {
	var s scanner
	s.reset()
	n, v := 0, unfinished
	for n < len(b) && v == unfinished {
		var m int
		m, v = s.scan(b[n:min(len(b), n+size)])
		n += m
	}
	if v == unfinished && s.finished() {
		v = complete
	}
	return n, v
}

// FuzzScan: a JSON value ends where it ends, however it is cut into pieces, and nothing before it is taken for its end.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `{"a":[1,-2.5e+7,true,null,"\"\\\u00e9",{"b":{}}],"":""} {`, `"x"`, `12`, `[1,]`, `{"a":1,}`, `{"a" 1}`,
		"{\"a\":\"b\nc\"}", `[[[[]]]]]`, `{"a":{"b":{"c":[{}]}}}`, `{,}`, `[}`, `{]`,
	} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, b []byte, size uint8) {
		n, v := scanAll(b, len(b)+1)
		if m, w := scanAll(b, int(size)+1); m != n || w != v {
			t.Fatalf("%q: in one piece %d, %v; in pieces of %d: %d, %v", b, n, v, int(size)+1, m, w)
		}
		// encoding/json is the judge.
		d := json.NewDecoder(bytes.NewReader(b))
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return // it looks closer, and may be right
		}
		if deep(raw) || isWord(raw[0]) { // where 00 ends is nobody's concern
			return
		}
		if v != complete || n != int(d.InputOffset()) {
			t.Fatalf("%q: value ends at %d, scanned to %d with verdict %v", b, d.InputOffset(), n, v)
		}
	})
}

func deep(b []byte) bool { return bytes.Count(b, []byte{'['})+bytes.Count(b, []byte{'{'}) > maxDepth }

// TestScanDepth: nesting is bounded, and the bound is where it says.
func TestScanDepth(t *testing.T) {
	for depth, want := range map[int]verdict{1: complete, 64: complete, 65: complete, maxDepth: complete, maxDepth + 1: broken} {
		b := append(bytes.Repeat([]byte(`{"a":[`), depth/2), bytes.Repeat([]byte{'['}, depth%2)...)
		b = append(append(b, bytes.Repeat([]byte{']'}, depth%2)...), bytes.Repeat([]byte(`]}`), depth/2)...)
		if _, v := scanAll(b, 7); v != want {
			t.Errorf("depth %d: verdict %v, want %v", depth, v, want)
		}
	}
}
