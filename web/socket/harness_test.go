package socket_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/web/live"
	"killfeed/web/socket"
)

// Frames of RFC 6455, as these tests write and read them by hand.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	opPong     = 0xA

	fin = 0x80
)

// frame is a frame of the client's, masked. first is the first byte: fin, reserved bits, opcode.
func frame(first byte, payload string) string {
	return header(first, uint64(len(payload)), true) + mask(payload)
}

// theMask is that of all frames here.
const theMask = "\x12\x34\x56\x78"

func header(first byte, length uint64, masked bool) string {
	b := []byte{first, 0}
	switch {
	case length < 126:
		b[1] = byte(length)
	case length <= 0xffff:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(length))
	default:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, length)
	}
	if masked {
		b[1] |= 0x80
		b = append(b, theMask...)
	}
	return string(b)
}

func mask(s string) string {
	b := []byte(s)
	for i := range b {
		b[i] ^= theMask[i%4]
	}
	return string(b)
}

// closing is the payload of a close frame.
func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// received shows a frame of the server's: `text abc`, `pong ab`, `close 1000 reason`.
func received(first byte, payload []byte) string {
	switch first {
	case fin | opText:
		return "text " + string(payload)
	case fin | opPong:
		return "pong " + string(payload)
	case fin | opPing:
		return "ping " + string(payload)
	case fin | opClose:
		if len(payload) == 0 {
			return "close"
		}
		return strings.TrimSpace(fmt.Sprintf("close %d %s", binary.BigEndian.Uint16(payload), payload[2:]))
	}
	return fmt.Sprintf("frame %#x %q", first, payload)
}

// readFrame reads a frame of the server's, which is unmasked and whole.
func readFrame(in io.Reader) (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return "", err
	}
	length := uint64(head[1])
	var more [8]byte
	switch length {
	case 126:
		if _, err := io.ReadFull(in, more[6:]); err != nil {
			return "", errors.New("cut off in a header")
		}
		length = binary.BigEndian.Uint64(more[:])
	case 127:
		if _, err := io.ReadFull(in, more[:]); err != nil {
			return "", errors.New("cut off in a header")
		}
		length = binary.BigEndian.Uint64(more[:])
	}
	if length > 1<<24 { // a mask bit makes a length like this, too
		return "", fmt.Errorf("frame of %d bytes", length)
	}
	payload := make([]byte, length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return "", fmt.Errorf("cut off in a frame of %d bytes", length)
	}
	return received(head[0], payload), nil
}

// handler writes down what it is told, and has a queue to be pulled from.
type handler struct {
	socket *socket.Conn
	// on, if set, is called for messages, and decides what comes of them.
	on func(text bool, message string) error
	// panics is the name of a method that is to panic.
	panics string
	// asks, if set, is for Conn.KeepAlive.
	asks time.Duration

	mu    sync.Mutex // guards the rest
	said  []string
	queue []string
	size  int // at most so many messages are pulled at a time; 0: all
	full  bool
}

func (h *handler) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.said = append(h.said, fmt.Sprintf(format, args...))
}

// take returns what was said since the last time.
func (h *handler) take() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	said := h.said
	h.said = nil
	return said
}

func (h *handler) panicIn(method string) {
	if h.panics == method {
		panic("a secret of " + method)
	}
}

func (h *handler) Message(text bool, message []byte) error {
	kind := "binary"
	if text {
		kind = "text"
	}
	if len(message) > 100 {
		h.say("%s of %d", kind, len(message))
	} else {
		h.say("%s %s", kind, message)
	}
	h.panicIn("Message")
	if h.on != nil {
		return h.on(text, string(message))
	}
	return nil
}

func (h *handler) Full() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.panicIn("Full")
	return h.full
}

func (h *handler) Pull(b *socket.Batch, last bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.queue)
	if h.size > 0 {
		n = min(n, h.size)
	}
	for _, m := range h.queue[:n] {
		third := len(m) / 3
		b.Text([]byte(m[:third]), []byte(m[third:len(m)-third]), []byte(m[len(m)-third:]))
	}
	h.queue = h.queue[n:]
	if n > 0 {
		what := "pulled"
		if last {
			what = "pulled last"
		}
		h.said = append(h.said, fmt.Sprintf("%s %d", what, n))
		h.full = false
	}
	h.panicIn("Pull")
	return n > 0
}

func (h *handler) Written() {
	h.say("written")
	h.panicIn("Written")
}

func (h *handler) Ended(code int) {
	h.say("ended %d", code)
	h.panicIn("Ended")
}

// push has messages written.
func (h *handler) push(messages ...string) {
	h.mu.Lock()
	h.queue = append(h.queue, messages...)
	h.mu.Unlock()
	h.socket.Wake()
}

// peer is the client's end of a connection in memory: a pipe that holds nothing, so that the server's writes wait for its
// reads.
type peer struct {
	t       testing.TB
	conn    net.Conn
	in      *bufio.Reader
	handler *handler
	set     *live.Set
	opened  time.Time

	mu     sync.Mutex // guards the rest
	frames []string   // that came since the last take
	err    error      // how reading ended
}

// hijacked is a ResponseWriter as net/http has it for a request over the connection.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
	rw   *bufio.ReadWriter
}

func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, nil }

func upgradeRequest(t testing.TB) *http.Request {
	r, err := http.NewRequest("GET", "http://here/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = http.Header{"Connection": {"keep-alive, Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}}
	return r
}

// open connects. It is for a bubble of synctest: connections are looked after every second of its time until the test ends.
// early is what the client sends together with its handshake.
func open(t testing.TB, o socket.Options, h *handler, early string, wrap func(net.Conn) net.Conn) *peer {
	t.Helper()
	here, there := net.Pipe()
	if wrap != nil {
		there = wrap(there)
	}
	return openOn(t, o, h, early, here, there)
}

// openOn is open on a connection that is there.
func openOn(t testing.TB, o socket.Options, h *handler, early string, here, there net.Conn) *peer {
	t.Helper()
	set := live.New(live.Options{})
	ctx := t.Context() // ends before the bubble does
	go set.Run(ctx)
	lease, refusal := set.Enter(netip.Addr{})
	if refusal != nil {
		t.Fatal(refusal)
	}
	t.Cleanup(func() { here.Close() })
	p := &peer{t: t, conn: here, in: bufio.NewReader(here), handler: h, set: set, opened: time.Now()}
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		in := bufio.NewReader(io.MultiReader(strings.NewReader(early), there))
		if early != "" {
			in.Peek(len(early))
		}
		w := &hijacked{conn: there, rw: bufio.NewReadWriter(in, bufio.NewWriter(there))}
		conn, err := socket.NewServer(o).Accept(w, upgradeRequest(t), "", lease)
		if err != nil {
			t.Errorf("the handshake is refused: %v", err)
			return
		}
		h.socket = conn
		if h.asks > 0 {
			conn.KeepAlive(h.asks)
		}
		conn.Serve(h)
	}()
	res, err := http.ReadResponse(p.in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("the handshake is answered with %v, %v", res, err)
	}
	<-accepted
	return p
}

// listen takes whatever comes from here on.
func (p *peer) listen() *peer {
	go func() {
		for {
			f, err := readFrame(p.in)
			p.mu.Lock()
			if err == nil {
				p.frames = append(p.frames, f)
			} else {
				p.err = err
			}
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

// send sends bytes, in the background: what the server does not take is not waited for.
func (p *peer) send(what ...string) *peer {
	go func() {
		for _, s := range what {
			if _, err := io.WriteString(p.conn, s); err != nil {
				return
			}
		}
	}()
	synctest.Wait()
	return p
}

// got takes the frames that came.
func (p *peer) got() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	frames := p.frames
	p.frames = nil
	return frames
}

// hears fails the test unless just these frames came.
func (p *peer) hears(want ...string) {
	p.t.Helper()
	if got := p.got(); !slices.Equal(got, want) {
		p.t.Fatalf("there came %q, want %q", short(got), short(want))
	}
}

// handles fails the test unless the handler was told just this.
func (p *peer) handles(want ...string) {
	p.t.Helper()
	synctest.Wait()
	if got := p.handler.take(); !slices.Equal(got, want) {
		p.t.Fatalf("the handler was told %q, want %q", got, want)
	}
}

// handlesInAnyOrder is handles for what two goroutines tell. want is sorted.
func (p *peer) handlesInAnyOrder(want ...string) {
	p.t.Helper()
	synctest.Wait()
	if got := slices.Sorted(slices.Values(p.handler.take())); !slices.Equal(got, want) {
		p.t.Fatalf("the handler was told %q, want %q", got, want)
	}
}

// after fails the test unless so much time has passed since the connection was opened, which begins anew.
func (p *peer) after(want time.Duration) {
	p.t.Helper()
	if got := time.Since(p.opened); got != want {
		p.t.Errorf("it took %v, want %v", got, want)
	}
	p.opened = time.Now()
}

// open tells whether the server has not closed the connection; the place is given back just then. It is for a peer that
// listens.
func (p *peer) open() bool {
	p.t.Helper()
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if ended := p.err != nil; ended != (p.set.Len() == 0) {
		p.t.Errorf("the connection has ended: %v, and there are %d places taken", p.err, p.set.Len())
	}
	if p.err != nil && p.err != io.EOF {
		p.t.Errorf("the connection has ended with %v, want an end between two frames", p.err)
	}
	return p.err == nil
}

// wait lets time pass until the connection has ended, and returns how much.
func (p *peer) wait(most time.Duration) time.Duration {
	p.t.Helper()
	begun := time.Now()
	for p.open() {
		if time.Since(begun) > most {
			p.t.Fatalf("still open after %v", most)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(begun)
}

// ended fails the test unless the connection has ended, and the handler was told last of all, with the code.
func (p *peer) ended(code int, before ...string) {
	p.t.Helper()
	if p.open() {
		p.t.Fatal("the connection is open")
	}
	p.handles(append(before, fmt.Sprintf("ended %d", code))...)
}

// short cuts long texts.
func short(all []string) (cut []string) {
	for _, s := range all {
		if len(s) > 100 {
			s = fmt.Sprintf("%s…(%d)", s[:40], len(s))
		}
		cut = append(cut, s)
	}
	return cut
}
