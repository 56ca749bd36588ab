package socket

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
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

// Handler is what a connection carries. When one of its methods panics, the connection is closed with 1011.
type Handler interface {
	// Message handles one message, which it must not keep. It is called by one goroutine at a time, and never when the
	// connection is about to be closed. It may take its time, which stops reading; the end of the connection waits for it. A
	// *CloseError closes the connection, any other error too, with 1011.
	Message(text bool, message []byte) error
	// Full tells that so much is to be written that no message may come before some of it was pulled. It is called with a lock
	// held that Wake takes, and must not block.
	Full() bool
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
	raw     syscall.RawConn // of conn; nil when it cannot be written to without waiting
	early   []byte          // what the client sent before its handshake was answered; owned by the reader
	server  *Server
	handler Handler
	lease   *live.Lease
	framed  bool          // a WebSocket; else a plain stream
	beat    time.Duration // how long a plain stream may be silent

	heard   atomic.Int64 // when something was last received, as Server.at tells it; deaf: nobody listens at the moment
	writing atomic.Int64 // since when a write is going on; 0: none is
	wrote   atomic.Int64 // when something was last written

	mu      sync.Mutex // guards the rest; held for a moment, and before that of the server's writers
	room    sync.Cond  // with mu: something was pulled, or the connection is about to end
	pumping bool       // a writer has the connection, or it is queued for one
	woken   bool       // it has to be pulled again before it is let go
	first   []byte     // to be written before anything else: pongs, or the head of an answer
	closing *CloseError
	until   time.Time // when closing is given up
	done    bool      // the close frame was written, or nothing can be written any more
	read    bool      // the reading goroutine has ended
	code    int       // of the close frame that was sent or received
}

// Server accepts connections.
type Server struct {
	options  Options
	writers  writers
	messages sync.Pool // of *bytes.Buffer
	made     time.Time
}

// at is a time in the connections' reckoning: nanoseconds since the server was made, by the clock that does not jump. It is
// never 0.
func (s *Server) at(t time.Time) int64 { return int64(t.Sub(s.made)) + 1 }

// deaf is later than any time.
const deaf = math.MaxInt64

// NewServer makes a Server.
func NewServer(o Options) *Server {
	if o.Slow == 0 {
		o.Slow = DefaultSlow
	}
	if o.Silence == 0 {
		o.Silence = DefaultSilence
	}
	return &Server{options: o, made: time.Now(),
		writers:  writers{most: 2 * runtime.GOMAXPROCS(0)},
		messages: sync.Pool{New: func() any { return &bytes.Buffer{} }},
	}
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

// Accept answers a handshake and returns the connection, which is not read until Serve. protocol is the subprotocol to answer
// with if the client offers it. After an error the handshake was answered with what was wrong.
func (s *Server) Accept(w http.ResponseWriter, r *http.Request, protocol string, lease *live.Lease) (*Conn, error) {
	u := ws.HTTPUpgrader{Timeout: grace}
	if headerHas(r.Header, "Sec-Websocket-Protocol", protocol) { // the upgrader's own search chokes on padded base64
		u.Header = http.Header{"Sec-Websocket-Protocol": {protocol}}
	}
	conn, rw, _, err := u.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, err
	}
	c := s.conn(conn, lease)
	c.framed = true
	if n := rw.Reader.Buffered(); n > 0 {
		early, _ := rw.Reader.Peek(n)
		c.early = bytes.Clone(early)
	}
	return c, nil
}

// Stream takes over the connection of a request over HTTP/1 and returns it as a stream that goes one way: what is pulled is
// written as it is, behind the given head of the answer, and ends with the connection. What the client sends is passed over. When
// nothing was written for the time of a beat, a Pull is asked for, so that the handler can show that the stream lives. The rest is as with sockets, but for close frames.
//
// net/http would keep 20 KB more for each stream: buffers, the request, a second goroutine, and the stack of the first.
func (s *Server) Stream(w http.ResponseWriter, head []byte, beat time.Duration, lease *live.Lease) (*Conn, error) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Time{}) // of the request
	c := s.conn(conn, lease)
	c.first, c.beat = head, beat
	return c, nil
}

func (s *Server) conn(conn net.Conn, lease *live.Lease) *Conn {
	c := &Conn{conn: conn, raw: rawOf(conn), server: s, lease: lease, code: codeAbnormal}
	c.room.L = &c.mu
	now := s.at(time.Now())
	c.heard.Store(now)
	c.wrote.Store(now)
	return c
}

// Serve begins to read. The goroutine is the connection's own, so that what net/http has built for the request goes. It ends
// with the connection; the lease is given back then.
func (c *Conn) Serve(h Handler) {
	c.handler = h
	c.server.writers.came()
	c.lease.Is(c)
	go c.serve()
}

// Wake has the handler asked for something to write. It never blocks, and may be called by anybody.
func (c *Conn) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pump()
}

// pump has a writer pull. The caller holds mu.
func (c *Conn) pump() {
	c.woken = true
	if !c.pumping && !c.done {
		c.pumping = true
		c.server.writers.add(c, false)
	}
}

// Close closes the connection with a close frame, behind what is being written. The first call decides. It does not wait; a
// client that does not take the frame in time is cut off.
func (c *Conn) Close(e *CloseError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing == nil && !c.done {
		c.closing, c.until = e, time.Now().Add(grace)
		c.conn.SetWriteDeadline(c.until)
		c.room.Broadcast()
		c.pump()
	}
}

// probes is how often a write is looked at that takes long, in the time that a client may take nothing. What a connection took
// of a write is only known when that ends.
const probes = 6

// Drain is live.Conn's.
func (c *Conn) Drain() {
	c.Close(&CloseError{Code: ServiceRestart, Reason: "the server is restarting"})
}

// Look is live.Conn's.
func (c *Conn) Look(now time.Time) {
	o, at := &c.server.options, c.server.at(now)
	if since := c.writing.Load(); since != 0 && at-since >= int64(o.Slow)/probes {
		c.conn.SetWriteDeadline(now) // it lets flush see whether the client takes anything
	} else if !c.framed {
		if since == 0 && at-c.wrote.Load() >= int64(c.beat) {
			c.wrote.Store(at) // or it would be asked for again at once
			c.Wake()
		}
	} else if at-c.heard.Load() >= int64(o.Silence) {
		c.Close(&CloseError{Code: ProtocolError, Reason: "nothing was heard for " + o.Silence.String()})
	}
}

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

// end is run by the last of the two: who reads and who writes.
func (c *Conn) end() {
	defer c.lease.End()
	defer c.server.writers.went()
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

// turn pulls one batch and writes what the socket takes of it at once. It returns false when the writer is done with the
// connection for now; held: the socket did not take all, and finishTurn waits for it.
func (c *Conn) turn(b *Batch) (more, held bool) {
	b.reset()
	c.mu.Lock()
	c.woken = false
	if len(c.first) > 0 {
		b.raw(c.first)
		c.first = nil
	}
	closing, done := c.closing, c.done
	c.mu.Unlock()
	if done {
		return c.rest(), false
	}
	if err := c.guarded(func() error { b.pulled = c.handler.Pull(b, closing != nil); return nil }); err != nil {
		b.reset()
		closing = err.(*CloseError)
		c.Close(closing)
	}
	c.pulled()
	switch b.closing = closing; {
	case closing != nil && c.framed:
		b.raw(appendClose(nil, closing))
	case closing == nil && b.Size() == 0:
		return c.rest(), false
	}
	if n, err := c.tryWrite(b.bytes); err != nil {
		return c.settle(b, nil, err), false
	} else if b.written = n; n < b.Size() {
		return true, true
	}
	return c.settle(b, nil, nil), false
}

// finishTurn writes the rest of the batch, however long the client takes for it.
func (c *Conn) finishTurn(b *Batch) (more bool) {
	slow, err := c.flush(b)
	return c.settle(b, slow, err)
}

// settle is what follows the writing of a batch. It returns whether there is more to write.
func (c *Conn) settle(b *Batch, slow *CloseError, err error) (more bool) {
	c.wrote.Store(c.server.at(time.Now()))
	switch {
	case err != nil:
		c.stop(nil)
	case slow != nil:
		c.stop(slow)
	case b.closing != nil:
		c.stop(b.closing)
	case b.pulled:
		if err := c.guarded(func() error { c.handler.Written(); return nil }); err != nil {
			c.Close(err.(*CloseError))
		}
		return true
	default:
		return true
	}
	return c.rest()
}

// rest lets go of the connection, unless something came up meanwhile.
func (c *Conn) rest() (more bool) {
	c.mu.Lock()
	if c.woken && !c.done {
		c.mu.Unlock()
		return true
	}
	c.pumping = false
	last := c.read
	c.mu.Unlock()
	if last {
		c.end()
	}
	return false
}

// stop is what follows the last write: with a close frame the client's answer to it, for which the reader waits a while, and
// without one the end.
func (c *Conn) stop(frame *CloseError) {
	c.mu.Lock()
	c.done = true
	if frame != nil {
		c.code = frame.Code
	}
	answered := frame == nil || frame.echo || c.read || !c.framed
	c.room.Broadcast()
	c.mu.Unlock()
	if answered {
		c.conn.Close()
	} else {
		c.conn.SetReadDeadline(time.Now().Add(grace))
	}
}

// flush writes the rest of the batch. A client that takes nothing for too long is told so, if it comes back to reading at the
// last moment: slow is then what was written as the close frame.
func (c *Conn) flush(b *Batch) (slow *CloseError, err error) {
	begun := time.Now()
	defer c.writing.Store(0)
	for b.written < b.Size() {
		c.writing.Store(c.server.at(begun))
		n, err := c.conn.Write(b.bytes[b.written:])
		if b.written += n; err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		if n == 0 && time.Since(begun) >= c.server.options.Slow {
			return c.tooSlow(b)
		}
		if n > 0 {
			begun = time.Now()
		}
		if !c.goOn() {
			return nil, err
		}
	}
	return nil, nil
}

// tooSlow closes the connection of a client that took nothing for too long: behind the frame that was begun.
func (c *Conn) tooSlow(b *Batch) (slow *CloseError, err error) {
	if !c.framed {
		return nil, os.ErrDeadlineExceeded
	}
	c.writing.Store(0) // Look has done what it can: from here on the deadline is that of Close
	slow = &CloseError{Code: TryAgainLater, Reason: "nothing was taken for " + c.server.options.Slow.String()}
	c.Close(slow)
	if !c.goOn() {
		return nil, os.ErrDeadlineExceeded
	}
	if _, err := c.conn.Write(appendClose(b.restOfFrame(), slow)); err != nil {
		return nil, err
	}
	return slow, nil
}

// goOn sets the deadline anew after Look or Close had it pass. It returns false when the time is over in which the connection
// was to be closed.
func (c *Conn) goOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing != nil && !time.Now().Before(c.until) {
		return false
	}
	c.conn.SetWriteDeadline(c.until) // zero, which is none, unless it is to be closed
	return true
}
