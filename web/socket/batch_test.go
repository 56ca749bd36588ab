package socket

import (
	"bytes"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestBatch: whatever is put into a batch, it is the frames one after another, and from wherever writing has stopped, the rest
// of the frame is the rest of that frame. A batch that was used before is no different.
func TestBatch(t *testing.T) {
	b := &Batch{}
	rapid.Check(t, func(t *rapid.T) {
		b.reset()
		lengths := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(0, 10), rapid.IntRange(100, 400), rapid.SampledFrom([]int{65535, 65536, 70000})), 0, 12)
		var want []byte
		ends := []int{0}
		for i, n := range lengths.Draw(t, "lengths") {
			message := bytes.Repeat([]byte{byte('a' + i)}, n)
			before := rapid.IntRange(0, n).Draw(t, "before")
			after := rapid.IntRange(before, n).Draw(t, "after")
			b.Text(message[:before], message[before:after], message[after:])
			clear(message)
			want = append(appendHeader(want, 1, n), bytes.Repeat([]byte{byte('a' + i)}, n)...)
			ends = append(ends, len(want))
			if b.Len() != i+1 || b.Size() != len(want) {
				t.Fatalf("%d messages of %d bytes, want %d of %d", b.Len(), b.Size(), i+1, len(want))
			}
		}
		if rapid.Bool().Draw(t, "close") {
			want = appendClose(want, &CloseError{Code: ServiceRestart, Reason: "why"})
			b.raw(appendClose(nil, &CloseError{Code: ServiceRestart, Reason: "why"}))
			ends = append(ends, len(want))
		}
		if !bytes.Equal(b.bytes, want) {
			t.Fatalf("the batch is %q, want %q", b.bytes, want)
		}
		written := rapid.IntRange(0, len(want)).Draw(t, "written")
		b.written = written
		if rapid.Bool().Draw(t, "cut") {
			b.cut()
		}
		if got := b.rest(); !bytes.Equal(got, want[written:]) || b.Size() != len(want) {
			t.Fatalf("behind %d bytes there is %q, want %q", written, got, want[written:])
		}
		next, in := slices.BinarySearch(ends, written)
		rest := want[written:ends[min(next, len(ends)-1)]]
		if in {
			rest = nil // between two frames
		}
		if got := b.restOfFrame(); !bytes.Equal(got, rest) {
			t.Fatalf("behind %d bytes the rest of the frame is %q, want %q", written, got, rest)
		}
	})
}
