package socket

import (
	"bytes"
	"crypto/tls"
	"math"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

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
	sealed  bool          // over TLS, where a deadline that passes in a write is the end of writing
	beat    time.Duration // how long a plain stream may be silent; of a WebSocket see KeepAlive
	held    bool          // the client did not take the last batch at once; owned by who writes

	heard   atomic.Int64 // when something was last received, as Server.at tells it; deaf: nobody listens at the moment
	writing atomic.Int64 // since when a write is going on; 0: none is
	wrote   atomic.Int64 // when something was last written
	asked   atomic.Int64 // when a ping was last queued, with KeepAlive

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
	c := &Conn{conn: conn, raw: rawOf(conn), sealed: isTLS(conn), server: s, lease: lease, code: codeAbnormal}
	c.room.L = &c.mu
	now := s.at(time.Now())
	c.heard.Store(now)
	c.wrote.Store(now)
	return c
}

func isTLS(conn net.Conn) bool {
	_, is := conn.(*tls.Conn)
	return is
}

// Serve begins to read. The goroutine is the connection's own, so that what net/http has built for the request goes. It ends
// with the connection; the lease is given back then.
func (c *Conn) Serve(h Handler) {
	c.handler = h
	c.server.writers.came()
	c.lease.Is(c)
	go c.serve()
}

// unanswered is how many pings may stay without an answer, with KeepAlive.
const unanswered = 4

// KeepAlive is for clients that were never told to say anything: whenever nothing was heard for so long the server pings, which
// libraries and browsers answer by themselves. Who answers none for four times as long is closed with 1002, whatever
// Options.Silence says. It is called before Serve.
func (c *Conn) KeepAlive(every time.Duration) { c.beat = every }

// keepAlive pings when it is time to, or closes the connection. While a write is going on it does neither: the ping would wait
// behind it, and that write is judged by Options.Slow. So a client that takes what it is behind with, however slowly, stays.
func (c *Conn) keepAlive(at int64) {
	quiet, beat := at-c.heard.Load(), int64(c.beat)
	switch {
	case c.writing.Load() != 0 || quiet < beat:
	case quiet >= unanswered*beat:
		c.Close(&CloseError{Code: ProtocolError, Reason: "no ping was answered for " + (unanswered * c.beat).String()})
	case at-c.asked.Load() >= beat:
		c.asked.Store(at)
		c.mu.Lock()
		c.first = appendHeader(c.first, ws.OpPing, 0)
		c.pump()
		c.mu.Unlock()
	}
}

// took notes that the client takes what it did not take at once, which is as good as an answer to a ping.
func (c *Conn) took() {
	if heard := c.heard.Load(); c.framed && c.beat > 0 && heard != deaf {
		c.heard.CompareAndSwap(heard, c.server.at(time.Now()))
	}
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
	if since := c.writing.Load(); since != 0 && at-since >= int64(o.Slow)/probes && !c.sealed {
		c.conn.SetWriteDeadline(now) // it lets flush see whether the client takes anything
	} else if !c.framed {
		if since == 0 && at-c.wrote.Load() >= int64(c.beat) {
			c.wrote.Store(at) // or it would be asked for again at once
			c.Wake()
		}
	} else if c.beat > 0 {
		c.keepAlive(at)
	} else if at-c.heard.Load() >= int64(o.Silence) {
		c.Close(&CloseError{Code: ProtocolError, Reason: "nothing was heard for " + o.Silence.String()})
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
