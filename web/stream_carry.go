package web

import (
	"context"
	"net/http"
	"sync"
	"time"

	"killfeed/web/socket"
)

// directStream carries a stream over a connection of its own, which HTTP/1 has for each request. It is a socket.Handler: an idle
// stream costs no more than an idle WebSocket, and what is behind is written in one system call.
type directStream struct {
	*stream
	kind string
	conn *socket.Conn

	// Owned by who pulls.
	first []byte    // what is written before any event
	spoke time.Time // when something was last pulled
	over  bool      // the last was said
}

// Message is socket.Handler's: nothing comes this way.
func (h *directStream) Message(bool, []byte) error { return nil }

// Full is socket.Handler's.
func (h *directStream) Full() bool { return false }

// Pull is socket.Handler's.
func (h *directStream) Pull(b *socket.Batch, last bool) bool {
	if last || h.over {
		return false
	}
	now, said := time.Now(), false
	b.Add(func(dst []byte) []byte {
		begin := len(dst)
		dst = append(dst, h.first...)
		h.first = nil
		dst, more, err := h.appendNext(dst, max(1, b.Room()))
		switch {
		case err != nil:
			h.over = true
			dst = append(dst, h.ended(err)...)
			h.conn.Close(&socket.CloseError{}) // behind this
		case more:
			h.conn.Wake()
		}
		if len(dst) == begin && now.Sub(h.spoke) >= heartbeatEvery-2*time.Second { // it was asked for
			dst = h.appendHeartbeat(dst)
		}
		if said = len(dst) > begin; said {
			h.spoke = now
		}
		return dst
	})
	return said
}

// Written is socket.Handler's.
func (h *directStream) Written() {
	if h.client != "" {
		h.sub.Delivered()
	}
}

// Ended is socket.Handler's.
func (h *directStream) Ended(int) {
	h.close()
	h.api.connections.ended(h.kind, 0)
}

// sharedStream carries a stream over a request whose connection is shared, as with HTTP/2: it writes the answer's body. It implements
// live.Conn.
type sharedStream struct {
	*stream
	w       http.ResponseWriter
	control *http.ResponseController

	rung    chan struct{} // cap 1: there is something to read
	drained chan struct{} // closed when the server stops

	mu      sync.Mutex // guards the rest; held for setting a deadline
	writing bool       // so that control may be used by others: the request has not ended
	end     time.Time  // when writing has to be over, zero until the server stops
}

// wake is the subscription's.
func (t *sharedStream) wake() {
	select {
	case t.rung <- struct{}{}:
	default:
	}
}

// run writes events until the stream ends.
func (t *sharedStream) run(ctx context.Context, first []byte) {
	if t.write(first) != nil {
		return
	}
	t.sub.Delivered()
	if last := t.ended(t.follow(ctx)); last != nil {
		t.write(last) // an error means that the client has left
	}
}

// follow writes events, and says why it ends.
func (t *sharedStream) follow(ctx context.Context) error {
	beat := time.NewTimer(heartbeatEvery)
	defer beat.Stop()
	always := make(chan struct{})
	close(always)
	for ready := always; ; { // the first read comes unasked
		select {
		case <-ready:
			b, more, err := t.appendNext(t.api.takeBuffer(), maxFrames)
			if err != nil {
				return err
			}
			ready = t.rung
			if more {
				ready = always
			}
			if len(b) == 0 {
				t.api.giveBuffer(b)
				continue // what was passed over may take longer than a proxy has patience
			}
			if t.write(b) != nil {
				return errStreamEnds
			}
			if t.client != "" {
				t.sub.Delivered()
			}
		case <-beat.C:
			if t.write(t.appendHeartbeat(t.api.takeBuffer())) != nil {
				return errStreamEnds
			}
		case <-t.drained:
			return errStreamEnds
		case <-ctx.Done():
			return errStreamEnds
		}
		beat.Reset(heartbeatEvery)
	}
}

// write writes b at once and gives it back.
func (t *sharedStream) write(b []byte) error {
	defer t.api.giveBuffer(b)
	defer t.limit(false)
	for len(b) > 0 {
		n := min(len(b), pieceBytes)
		t.limit(true)
		if _, err := t.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return t.control.Flush()
}

// limit sets until when the client has to have taken what is about to be written, or that nothing is: a deadline would end a
// stream over HTTP/2 that is silent. Without one a client that takes nothing would be waited for as long as its machine is up.
func (t *sharedStream) limit(writing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writing = writing
	t.setDeadline()
}

// setDeadline is for who holds mu. The errors are of connections that have no deadlines, in tests.
func (t *sharedStream) setDeadline() {
	switch {
	case !t.writing:
		_ = t.control.SetWriteDeadline(time.Time{})
	case !t.end.IsZero():
		_ = t.control.SetWriteDeadline(t.end)
	default:
		_ = t.control.SetWriteDeadline(time.Now().Add(takeWithin))
	}
}

// Look is live.Conn's: the write deadlines are enough.
func (t *sharedStream) Look(time.Time) {}

// Drain is live.Conn's.
func (t *sharedStream) Drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = time.Now().Add(takeAtEnd)
	close(t.drained)
	if t.writing {
		t.setDeadline()
	}
}
