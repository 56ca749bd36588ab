package socket

import (
	"encoding/binary"
	"net"

	"github.com/gobwas/ws"
)

// Batch is what is written in one system call: text messages, each of which may consist of bytes that are shared with other
// connections and are not copied.
type Batch struct {
	// bufs point into scratch and to shared bytes, in turns. What is in scratch from open on is not in bufs yet.
	bufs    [][]byte
	scratch []byte
	open    int
	size    int
	ends    []int // of the frames, in bytes from the beginning
}

const (
	// copied is the length up to which a payload is copied: a piece of its own costs more.
	copied = 256
	// What a batch keeps for its next use.
	maxScratch = 64 << 10
	maxPieces  = 1024
)

// Text adds a message that consists of three pieces. The payload must not change until Written; the others may.
func (b *Batch) Text(before, payload, after []byte) {
	b.scratch = appendHeader(b.scratch, ws.OpText, len(before)+len(payload)+len(after))
	b.scratch = append(b.scratch, before...)
	if len(payload) <= copied {
		b.scratch = append(b.scratch, payload...)
	} else {
		b.cut()
		b.bufs = append(b.bufs, payload)
		b.size += len(payload)
	}
	b.scratch = append(b.scratch, after...)
	b.ends = append(b.ends, b.Size())
}

// raw adds whole frames.
func (b *Batch) raw(frames []byte) {
	b.scratch = append(b.scratch, frames...)
	b.ends = append(b.ends, b.Size())
}

// Size is the batch's length in bytes.
func (b *Batch) Size() int { return b.size + len(b.scratch) - b.open }

// Len is the number of messages.
func (b *Batch) Len() int { return len(b.ends) }

// cut makes a piece of what stands open in scratch. Should scratch move later, the piece goes on to point to where it was.
func (b *Batch) cut() {
	if n := len(b.scratch); n > b.open {
		b.bufs = append(b.bufs, b.scratch[b.open:n:n])
		b.size += n - b.open
		b.open = n
	}
}

// buffers returns the whole batch.
func (b *Batch) buffers() net.Buffers {
	b.cut()
	return b.bufs
}

// restOfFrame returns a copy of what is missing of the frame in whose middle writing stopped, having written so much.
func (b *Batch) restOfFrame(bufs *net.Buffers, written int) []byte {
	missing := 0
	for i, end := range b.ends {
		begin := 0
		if i > 0 {
			begin = b.ends[i-1]
		}
		if begin < written && written < end {
			missing = end - written
		}
	}
	rest := make([]byte, 0, missing+128)
	for _, p := range *bufs {
		rest = append(rest, p[:min(len(p), missing-len(rest))]...)
		if len(rest) == missing {
			break
		}
	}
	return rest
}

// reset empties the batch.
func (b *Batch) reset() {
	clear(b.bufs) // pieces keep events in memory
	if cap(b.scratch) > maxScratch || cap(b.bufs) > maxPieces {
		*b = Batch{}
		return
	}
	b.bufs, b.scratch, b.ends = b.bufs[:0], b.scratch[:0], b.ends[:0]
	b.open, b.size = 0, 0
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
