package socket

import (
	"encoding/binary"
	"slices"

	"github.com/gobwas/ws"
)

// Batch is what is written in one system call: text messages as frames, or pieces of a plain stream.
//
// It is copied together. Handing the pieces to the system instead saves little, as they are in the processor's caches when a
// thousand connections get them, and would keep each piece in memory for as long as one client does not take it.
type Batch struct {
	bytes []byte // without those that cut took away
	gone  int    // how many those are
	ends  []int  // of the frames
	most  int    // messages that may be put in

	// What becomes of it, owned by who writes.
	pulled  bool        // there is something of the handler's in it
	closing *CloseError // whose frame is the last one, nil without one
	written int         // bytes
}

const (
	// batchMessages and batchBytes are where a batch is full. A message that is larger fills one of its own.
	batchMessages = 128
	batchBytes    = 256 << 10
	// heldMessages is the first of them for a client that did not take the last batch at once: it holds less memory while it
	// takes nothing.
	heldMessages = 8
)

// maxBatchKept bounds what a batch keeps for its next use.
const maxBatchKept = 512 << 10

// Text adds a message that consists of three pieces.
func (b *Batch) Text(before, payload, after []byte) {
	b.bytes = appendHeader(b.bytes, ws.OpText, len(before)+len(payload)+len(after))
	b.bytes = append(append(append(b.bytes, before...), payload...), after...)
	b.ends = append(b.ends, len(b.bytes))
}

// Add has f append to a plain stream.
func (b *Batch) Add(f func(dst []byte) []byte) {
	b.bytes = f(b.bytes)
	b.ends = append(b.ends, len(b.bytes))
}

// raw adds whole frames.
func (b *Batch) raw(frames []byte) {
	b.bytes = append(b.bytes, frames...)
	b.ends = append(b.ends, len(b.bytes))
}

// Size is the batch's length in bytes.
func (b *Batch) Size() int { return b.gone + len(b.bytes) }

// Room is how many more messages may be added, 0 when the batch is full. More than that do no harm but take memory.
func (b *Batch) Room() int {
	if b.Size() >= batchBytes {
		return 0
	}
	return max(0, b.most-len(b.ends))
}

// rest is what is not written yet.
func (b *Batch) rest() []byte { return b.bytes[b.written-b.gone:] }

// cut gives up the memory of what is written: a client that takes nothing holds what it has not taken, and no more.
func (b *Batch) cut() {
	b.bytes, b.gone = slices.Clone(b.rest()), b.written
}

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.ends) }

// restOfFrame returns a copy of what is missing of the frame in whose middle writing stopped.
func (b *Batch) restOfFrame() []byte {
	next, between := slices.BinarySearch(b.ends, b.written)
	if between || b.written == 0 || next == len(b.ends) {
		return nil
	}
	return slices.Clone(b.rest()[:b.ends[next]-b.written])
}

// reset empties the batch.
func (b *Batch) reset() {
	if cap(b.bytes) > maxBatchKept {
		b.bytes = nil
	}
	*b = Batch{bytes: b.bytes[:0], ends: b.ends[:0], most: batchMessages}
}

// appendHeader appends the header of an unfragmented, unmasked frame.
func appendHeader(dst []byte, op ws.OpCode, length int) []byte {
	dst = append(dst, 0x80|byte(op))
	switch {
	case length < 126:
		return append(dst, byte(length))
	case length <= 0xffff:
		return binary.BigEndian.AppendUint16(append(dst, 126), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, 127), uint64(length))
}

// appendClose appends a close frame.
func appendClose(dst []byte, e *CloseError) []byte {
	if e.Code == codeNone {
		return appendHeader(dst, ws.OpClose, 0)
	}
	reason := e.Reason[:min(len(e.Reason), 123)]
	dst = appendHeader(dst, ws.OpClose, 2+len(reason))
	return append(binary.BigEndian.AppendUint16(dst, uint16(e.Code)), reason...)
}
