package socket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"killfeed/web/live"
)

const (
	// MaxMessage bounds an incoming message: a join of 8,000 systems is 72 KB.
	MaxMessage = 256 << 10
	// DefaultSilence is how long a client may send nothing at all.
	DefaultSilence = 60 * time.Second
	// DefaultSlow is how long a client may take not a byte of what is written.
	DefaultSlow = 60 * time.Second
	// grace is how long the end of a connection may take: what was begun to be written, the close frame, and the client's answer
	// to it.
	grace = 5 * time.Second
)

// Close codes of RFC 6455 and of its registry that are used here.
const (
	ProtocolError  = 1002 // also for silence
	BadData        = 1003
	NotText        = 1007
	Policy         = 1008 // the token is not good any more
	TooBig         = 1009
	InternalError  = 1011
	ServiceRestart = 1012 // come back
	TryAgainLater  = 1013 // come back, a little later

	codeNone     = 1005 // a close frame without a code; never sent
	codeAbnormal = 1006 // no close frame; never sent
)

// CloseError is why a connection is closed, as its close frame says it. The reason is for the client to read, at most 123
// bytes.
type CloseError struct {
	Code   int
	Reason string
	echo   bool // of the client's own close frame
}

func (e *CloseError) Error() string { return e.Reason }

// Handler is what a connection carries.
type Handler interface {
	// Message handles one message, which it must not keep. It is called by one goroutine at a time and may block, which stops
	// reading. A *CloseError closes the connection, any other error too, with 1011.
	Message(text bool, message []byte) error
	// Pull adds what is to be written next to the batch, and returns false when there was nothing. last: the connection is
	// about to be closed, so only what cannot be left unsaid. It is called by one goroutine at a time, after Wake and until it
	// returns false.
	Pull(b *Batch, last bool) bool
	// Written tells that what was pulled was written, which is not to say that it arrived.
	Written()
	// Ended is called once, when nothing is read or written any more. The code is that of the close frame that was sent or
	// received, 1005 for one without a code, 1006 when there was none.
	Ended(code int)
}

// Options configure connections. The zero value works.
type Options struct {
	// Slow is how long a client may take nothing; 0 means DefaultSlow.
	Slow time.Duration
	// Silence is how long a client may send nothing; 0 means DefaultSilence.
	Silence time.Duration
	// Panicked is told when a handler panicked, which closes its connection; nil: nobody is.
	Panicked func(v any, stack []byte)
}

// Conn is one connection. It implements live.Conn.
type Conn struct {
	conn    net.Conn
	early   []byte // what the client sent before its handshake was answered; owned by the reader
	server  *Server
	handler Handler
	lease   *live.Lease

	heard   atomic.Int64 // when something was last received, Unix milliseconds
	writing atomic.Int64 // since when a write has not moved on, Unix milliseconds; 0: none is going on

	mu      sync.Mutex // guards the rest; held for a moment
	pumping bool       // the writing goroutine exists
	woken   bool       // it has to pull again before it ends
	pongs   []byte     // frames that are to be written
	closing *CloseError
	done    bool // the close frame was written, or nothing can be written any more
	read    bool // the reading goroutine has ended
	code    int  // of the close frame that was sent or received
}

// Server accepts connections.
type Server struct {
	options Options
	batches sync.Pool
}

// NewServer makes a Server.
func NewServer(o Options) *Server {
	if o.Slow == 0 {
		o.Slow = DefaultSlow
	}
	if o.Silence == 0 {
		o.Silence = DefaultSilence
	}
	return &Server{options: o, batches: sync.Pool{New: func() any { return &Batch{} }}}
}

// IsUpgrade tells whether a request asks for a WebSocket.
func IsUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoMajor == 1 && headerHas(r.Header, "Connection", "upgrade") &&
		headerHas(r.Header, "Upgrade", "websocket")
}

// headerHas tells whether one of the comma-separated tokens of a header is the word, in any case.
func headerHas(h http.Header, name, word string) bool {
	for _, v := range h[name] {
		for part := range bytes.SplitSeq([]byte(v), []byte(",")) {
			if bytes.EqualFold(bytes.TrimSpace(part), []byte(word)) {
				return true
			}
		}
	}
	return false
}

// Accept answers a handshake and returns the connection, which is not read until Serve. protocol, when not empty, is the
// subprotocol to answer with. After an error the handshake was answered with what was wrong.
func (s *Server) Accept(w http.ResponseWriter, r *http.Request, protocol string, lease *live.Lease) (*Conn, error) {
	u := ws.HTTPUpgrader{Timeout: grace}
	if protocol != "" {
		u.Protocol = func(p string) bool { return p == protocol }
	}
	conn, rw, _, err := u.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, err
	}
	c := &Conn{conn: conn, server: s, lease: lease, code: codeAbnormal}
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		c.early = bytes.Clone(early)
	}
	c.heard.Store(time.Now().UnixMilli())
	return c, nil
}

// Serve begins to read. The goroutine is the connection's own, so that what net/http has built for the request goes. It ends
// with the connection; the lease is given back then.
func (c *Conn) Serve(h Handler) {
	c.handler = h
	c.lease.Is(c)
	go c.serve()
}

// Wake has the handler asked for something to write. It never blocks, and may be called by anybody.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pump()
}

// pump has the writing goroutine pull, and makes it if there is none. The caller holds mu.
func (c *Conn) pump() {
	c.woken = true
	if !c.pumping && !c.done {
		c.pumping = true
		go c.write()
	}
}

// Close closes the connection with a close frame, behind what is being written. The first call decides.
func (c *Conn) Close(e *CloseError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil {
		c.closing = e
		c.pump()
	}
}

// Drain is live.Conn's.
func (c *Conn) Drain() {
	c.Close(&CloseError{Code: ServiceRestart, Reason: "the server is restarting"})
}

// Look is live.Conn's.
func (c *Conn) Look(now time.Time) {
	o, ms := &c.server.options, now.UnixMilli()
	if since := c.writing.Load(); since != 0 && ms-since >= o.Slow.Milliseconds() {
		c.conn.SetWriteDeadline(now) // it lets flush see whether the client takes anything
	}
	if ms-c.heard.Load() >= o.Silence.Milliseconds() {
		c.Close(&CloseError{Code: ProtocolError, Reason: "nothing was heard for " + o.Silence.String()})
	}
}

// serve is the reading goroutine.
func (c *Conn) serve() {
	err := c.guarded(c.readAll)
	var closed *CloseError
	if errors.As(err, &closed) {
		c.Close(closed)
		// Closing earlier could take the close frame away from the client.
		c.conn.SetReadDeadline(time.Now().Add(grace))
		io.Copy(io.Discard, io.LimitReader(c.conn, 4*MaxMessage))
	}
	c.conn.Close()
	c.mu.Lock()
	c.done, c.read = true, true
	last := !c.pumping
	c.mu.Unlock()
	if last {
		c.end()
	}
}

// end is run by the last of the two goroutines.
func (c *Conn) end() {
	defer c.lease.End()
	c.guarded(func() error { c.handler.Ended(c.code); return nil })
}

// guarded keeps a panic of the handler from ending the process.
func (c *Conn) guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			if c.server.options.Panicked != nil {
				c.server.options.Panicked(v, debug.Stack())
			}
			err = &CloseError{Code: InternalError, Reason: "internal error"}
		}
	}()
	return f()
}

// readAll handles messages until the connection ends. A *CloseError is to be told to the client.
func (c *Conn) readAll() error {
	// What a client sends is mostly a heartbeat of 50 bytes twice a minute, so the buffer is small. Large messages pass it by.
	var from io.Reader = c.conn
	if len(c.early) > 0 {
		from = io.MultiReader(bytes.NewReader(c.early), c.conn)
	}
	in := bufio.NewReaderSize(from, 256)
	var (
		header  [ws.MaxHeaderSize]byte
		message bytes.Buffer
		kind    ws.OpCode
		state   = ws.StateServerSide
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
			c.heard.Store(time.Now().UnixMilli())
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
		if !h.Fin {
			state = state.Set(ws.StateFragmented)
			continue
		}
		state = state.Clear(ws.StateFragmented)
		c.heard.Store(time.Now().UnixMilli())
		if c.isClosing() {
			message.Reset()
			continue
		}
		text := kind == ws.OpText
		if text && !utf8.Valid(message.Bytes()) {
			return &CloseError{Code: NotText, Reason: "a text message is not valid UTF-8"}
		}
		if err := c.handler.Message(text, message.Bytes()); err != nil {
			var closed *CloseError
			if errors.As(err, &closed) {
				return closed
			}
			return &CloseError{Code: InternalError, Reason: "internal error"}
		}
		if message.Cap() > 4096 { // a large join is followed by an hour of heartbeats
			message = bytes.Buffer{}
		}
		message.Reset()
	}
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing != nil
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
		if len(c.pongs)+len(payload) <= maxPongs {
			c.pongs = append(appendHeader(c.pongs, ws.OpPong, len(payload)), payload...)
			c.pump()
		}
		c.mu.Unlock()
	case ws.OpClose:
		return c.readClose(payload)
	}
	return nil
}

// readClose reads the client's close frame. It returns the answer, or io.EOF when it is the answer to ours.
func (c *Conn) readClose(payload []byte) error {
	echo := &CloseError{Code: codeNone}
	if len(payload) > 0 {
		code, reason := ws.ParseCloseFrameData(payload)
		if len(payload) == 1 || ws.CheckCloseFrameData(code, reason) != nil {
			return &CloseError{Code: ProtocolError, Reason: "a close frame's code or reason is not accepted"}
		}
		echo.Code = int(code)
	}
	if c.isClosing() {
		return io.EOF
	}
	echo.echo = true
	return echo
}

// write is the writing goroutine.
func (c *Conn) write() {
	b := c.server.batches.Get().(*Batch)
	for c.writeOnce(b) {
	}
	b.reset()
	c.server.batches.Put(b)
	c.mu.Lock()
	c.pumping = false
	again := c.woken && !c.done
	if again {
		c.pump()
	}
	last := !again && c.read
	c.mu.Unlock()
	if last {
		c.end()
	}
}

// writeOnce writes one batch. It returns false when there is nothing more to write.
func (c *Conn) writeOnce(b *Batch) bool {
	b.reset()
	c.mu.Lock()
	c.woken = false
	if len(c.pongs) > 0 {
		b.raw(c.pongs)
		c.pongs = nil
	}
	closing, done := c.closing, c.done
	c.mu.Unlock()
	if done {
		return false
	}
	var pulled bool
	if err := c.guarded(func() error { pulled = c.handler.Pull(b, closing != nil); return nil }); err != nil {
		b.reset()
		closing = err.(*CloseError)
		c.Close(closing)
	}
	if closing != nil {
		b.raw(appendClose(nil, closing))
	}
	if b.Size() == 0 {
		return false
	}
	slow, err := c.flush(b)
	switch {
	case slow != nil:
		c.stop(slow)
	case err != nil:
		c.conn.Close() // the reader sees that
		c.mu.Lock()
		c.done = true
		c.mu.Unlock()
	case closing != nil:
		c.stop(closing)
	case pulled:
		return c.guarded(func() error { c.handler.Written(); return nil }) == nil
	}
	return err == nil && closing == nil && slow == nil
}

// stop is what follows the close frame: the client's answer to it, for which the reader waits a while.
func (c *Conn) stop(e *CloseError) {
	c.mu.Lock()
	c.done, c.code = true, e.Code
	c.mu.Unlock()
	if e.echo {
		c.conn.Close()
	} else {
		c.conn.SetReadDeadline(time.Now().Add(grace))
	}
}

// flush writes the batch. A client that takes nothing for too long is told so, if it comes back to reading at the last moment:
// slow is then what was written as the close frame.
func (c *Conn) flush(b *Batch) (slow *CloseError, err error) {
	bufs, written := b.buffers(), 0
	begun := time.Now()
	defer c.writing.Store(0)
	for {
		c.writing.Store(begun.UnixMilli())
		n, err := bufs.WriteTo(c.conn)
		if written += int(n); err == nil {
			return nil, nil
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		c.conn.SetWriteDeadline(time.Time{})
		if n == 0 && time.Since(begun) >= c.server.options.Slow {
			break
		}
		if n > 0 {
			begun = time.Now()
		}
	}
	slow = &CloseError{Code: TryAgainLater, Reason: "nothing was taken for " + c.server.options.Slow.String()}
	rest := appendClose(b.restOfFrame(&bufs, written), slow)
	c.conn.SetWriteDeadline(time.Now().Add(grace))
	if _, err := c.conn.Write(rest); err != nil {
		return nil, err
	}
	return slow, nil
}
