//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// WebSocket opcodes.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// frames finds the frames in what a server sends, however the reads cut it. It looks at headers only and keeps no payload.
//
//	byte 0   FIN, three reserved bits, opcode (4 bits)
//	byte 1   mask bit (never set by a server), length (7 bits): up to 125, or 126 or 127
//	then     for 126 the length in 2 bytes, for 127 in 8
type frames struct {
	header [10]byte
	have   int  // bytes of the header that are there
	within bool // the header is complete, the payload is not
	left   int  // bytes of the payload that are still to come

	opcode byte // of the frame that the last piece belongs to
	fin    bool // it is the last frame of its message
}

// next takes the next piece of payload from b; end tells that it ends its frame. The piece is empty when b ends within a
// header, and for frames without a payload.
func (f *frames) next(b []byte) (piece, rest []byte, end bool, err error) {
	if !f.within {
		for {
			need := f.headerSize()
			n := copy(f.header[f.have:need], b)
			f.have, b = f.have+n, b[n:]
			if f.have < need {
				return nil, nil, false, nil
			}
			if f.headerSize() == need {
				break
			}
		}
		if err := f.begin(); err != nil {
			return nil, nil, false, err
		}
	}
	n := min(f.left, len(b))
	f.left -= n
	f.within = f.left > 0
	return b[:n], b[n:], !f.within, nil
}

// headerSize is the size of the header, as far as that can be told.
func (f *frames) headerSize() int {
	if f.have < 2 {
		return 2
	}
	switch f.header[1] & 0x7f {
	case 126:
		return 4
	case 127:
		return 10
	}
	return 2
}

// begin reads the complete header.
func (f *frames) begin() error {
	h := f.header[:f.have]
	f.have = 0
	f.fin, f.opcode = h[0]&0x80 != 0, h[0]&0x0f
	switch len(h) {
	case 2:
		f.left = int(h[1] & 0x7f)
	case 4:
		f.left = int(binary.BigEndian.Uint16(h[2:]))
	default:
		n := binary.BigEndian.Uint64(h[2:])
		if n > 1<<40 {
			return fmt.Errorf("a frame of %d bytes", n)
		}
		f.left = int(n)
	}
	switch {
	case h[0]&0x70 != 0:
		return errors.New("a frame with reserved bits, though no extension was agreed on")
	case h[1]&0x80 != 0:
		return errors.New("a masked frame from a server")
	case f.control() && (f.left > 125 || !f.fin):
		return fmt.Errorf("a control frame of %d bytes, final: %t", f.left, f.fin)
	}
	return nil
}

// control tells whether the frame is a close, ping or pong: those may come between the frames of a message.
func (f *frames) control() bool { return f.opcode >= opClose }

// appendFrame appends a client's frame. Clients must mask; masked with zeros the payload stays what it is.
func appendFrame(b []byte, opcode byte, payload string) []byte {
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
