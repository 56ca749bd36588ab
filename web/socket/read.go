package socket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// serve is the reading goroutine. It waits for the next frame here, as shallowly as can be: the runtime halves a stack of which
// little is used, and a few calls more would leave each idle connection with 8 KB of it instead of 4.
func (c *Conn) serve() {
	in := c.reader()
	for {
		if _, err := in.Peek(1); err != nil {
			c.finish(err)
			return
		}
		if err := c.receive(in); err != nil {
			c.finish(err)
			return
		}
	}
}

// finish ends reading.
func (c *Conn) finish(err error) {
	var closed *CloseError
	if errors.As(err, &closed) {
		c.Close(closed)
		if !closed.echo {
			// Closing while something is unread would take the close frame away from the client.
			c.conn.SetReadDeadline(time.Now().Add(grace))
			io.Copy(io.Discard, io.LimitReader(c.conn, 4*MaxMessage))
		}
	}
	c.mu.Lock()
	c.read = true
	if c.closing == nil { // the client is gone without a word
		c.done = true
	}
	done, last := c.done, !c.pumping
	c.mu.Unlock()
	if done {
		c.conn.Close()
	} // else the close frame is yet to be written, and who writes it closes behind it
	if last {
		c.end()
	}
}

// reader reads what the client sends, which is mostly a heartbeat of 50 bytes twice a minute: its buffer is small, and large
// messages pass it by.
func (c *Conn) reader() *bufio.Reader {
	if len(c.early) > 0 {
		return bufio.NewReaderSize(io.MultiReader(bytes.NewReader(c.early), c.conn), readBuffer)
	}
	return bufio.NewReaderSize(c.conn, readBuffer)
}

const readBuffer = 256

// receive handles the next message, and the control frames before and within it. It returns early, without an error, after a
// control frame outside of a message.
func (c *Conn) receive(in *bufio.Reader) error {
	if !c.framed {
		_, err := in.Discard(in.Buffered())
		return err
	}
	return c.guarded(func() error {
		message := c.server.messages.Get().(*bytes.Buffer)
		defer func() {
			if message.Cap() <= maxKept {
				message.Reset()
				c.server.messages.Put(message)
			}
		}()
		return c.readMessage(in, message)
	})
}

// maxKept bounds the buffers that are used again.
const maxKept = 64 << 10

func (c *Conn) readMessage(in *bufio.Reader, message *bytes.Buffer) error {
	var (
		header [ws.MaxHeaderSize]byte
		kind   ws.OpCode
		state  = ws.StateServerSide
	)
	for {
		h, err := ws.ReadHeaderBuffer(in, header[:])
		if err != nil {
			if errors.Is(err, ws.ErrHeaderLengthMSB) {
				return &CloseError{Code: ProtocolError, Reason: "a frame's length is out of range"}
			}
			return err
		}
		if err := ws.CheckHeader(h, state); err != nil {
			return &CloseError{Code: ProtocolError, Reason: err.Error()}
		}
		if h.OpCode.IsControl() {
			if err := c.readControl(in, h); err != nil {
				return err
			}
			c.heard.Store(c.server.at(time.Now()))
			if !state.Fragmented() {
				return nil
			}
			continue
		}
		if h.Length > MaxMessage-int64(message.Len()) {
			return &CloseError{Code: TooBig, Reason: "a message is larger than 256 KiB"}
		}
		if h.OpCode != ws.OpContinuation {
			kind = h.OpCode
		}
		begin := message.Len()
		// It grows with what arrives, not with what the header says: memory must be paid for by sending.
		if n, err := message.ReadFrom(io.LimitReader(in, h.Length)); err != nil || n < h.Length {
			return io.ErrUnexpectedEOF
		}
		ws.Cipher(message.Bytes()[begin:], h.Mask, 0)
		if h.Fin {
			return c.handle(kind == ws.OpText, message.Bytes())
		}
		state = state.Set(ws.StateFragmented)
	}
}

// handle has the handler handle a message, when there is room for the answer. A client is not silent while nobody listens.
func (c *Conn) handle(text bool, message []byte) error {
	c.heard.Store(deaf)
	defer func() { c.heard.Store(c.server.at(time.Now())) }()
	if text && !utf8.Valid(message) {
		return &CloseError{Code: NotText, Reason: "a text message is not valid UTF-8"}
	}
	if !c.awaitRoom() {
		return nil
	}
	err := c.handler.Message(text, message)
	var closed *CloseError
	if err == nil || errors.As(err, &closed) {
		return err
	}
	return &CloseError{Code: InternalError, Reason: "internal error"}
}

// awaitRoom waits while the handler is full. It returns false when the connection is about to end.
func (c *Conn) awaitRoom() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.closing == nil && !c.done && c.handler.Full() {
		c.room.Wait()
	}
	return c.closing == nil && !c.done
}

// pulled has a reader look again that waits for room.
func (c *Conn) pulled() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.room.Broadcast()
}

// maxPongs bounds the pongs that wait to be written, in bytes. A client that sends pings and takes no pongs gets no more of them.
const maxPongs = 1024

// readControl handles a control frame.
func (c *Conn) readControl(in io.Reader, h ws.Header) error {
	payload := make([]byte, h.Length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return err
	}
	ws.Cipher(payload, h.Mask, 0)
	switch h.OpCode {
	case ws.OpPing:
		c.mu.Lock()
		if len(c.first)+len(payload) <= maxPongs {
			c.first = append(appendHeader(c.first, ws.OpPong, len(payload)), payload...)
			c.pump()
		}
		c.mu.Unlock()
	case ws.OpClose:
		return c.readClose(payload)
	}
	return nil
}

// readClose reads the client's close frame. It returns the answer, or io.EOF when there is one already: this was the client's
// to ours, or they crossed.
func (c *Conn) readClose(payload []byte) error {
	c.mu.Lock()
	closing := c.closing != nil
	c.mu.Unlock()
	if closing {
		return io.EOF
	}
	if len(payload) == 0 {
		return &CloseError{Code: codeNone, echo: true}
	}
	code, reason := ws.ParseCloseFrameData(payload)
	if len(payload) == 1 || !mayBeSent(int(code)) || !utf8.ValidString(reason) {
		return &CloseError{Code: ProtocolError, Reason: "a close frame's code or reason is not accepted"}
	}
	return &CloseError{Code: int(code), echo: true}
}

// mayBeSent tells whether a close frame may have the code: those of the registry, and those left to applications.
func mayBeSent(code int) bool {
	switch code {
	case 1004, codeNone, codeAbnormal:
		return false
	}
	return code >= 1000 && code <= 1014 || code >= 3000 && code <= 4999
}
