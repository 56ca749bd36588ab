package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mrand "math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"killfeed"
	"killfeed/web/live"
)

const (
	// heartbeatEvery is how long a stream may be silent. Proxies between here and the client give up after 30 s or more.
	heartbeatEvery = 20 * time.Second
	// takeWithin is how long a client may take for a piece of pieceBytes, and takeAtEnd when the server stops. The time is not for
	// a whole batch: a killmail of 8 MiB over a slow line would be cut off in its middle each time that the client comes back.
	takeWithin = 60 * time.Second
	takeAtEnd  = 5 * time.Second
	pieceBytes = 64 << 10
	// retryLeast and retryMost bound when a browser comes back. It is another time for each stream, so that those that were
	// ended together do not come back together.
	retryLeast, retryMost = 500 * time.Millisecond, 3 * time.Second
)

var (
	valueSSE       = []string{"text/event-stream"}
	valueNDJSON    = []string{"application/x-ndjson"}
	valueUnchanged = []string{"private, no-cache, no-store, no-transform"}
	valueNo        = []string{"no"}
)

// stream is one stream of events over HTTP: Server-Sent Events, or a line of JSON for each. It implements live.Conn.
type stream struct {
	api     *API
	x       *exchange
	control *http.ResponseController
	sub     *killfeed.Subscription
	lines   bool   // NDJSON
	nonce   string // of a durable SSE stream, the third part of its ids; empty otherwise
	durable bool

	rung    chan struct{} // cap 1: there is something to read
	drained chan struct{} // closed when the server stops

	mu      sync.Mutex // guards the rest; held for setting a deadline
	writing bool       // so that control may be used by others: the request has not ended
	end     time.Time  // when writing has to be over, zero until the server stops
}

// streamRequest is what a stream asks for.
type streamRequest struct {
	read  killfeed.Read
	lines bool
	// client is the client's name, empty without one.
	client string
	// nonce is that of the stream that this one goes on with, empty when there was none.
	nonce string
}

// serveStream answers with events as they come, until the client leaves or the server stops.
func (a *API) serveStream(x *exchange) error {
	q, err := x.streamRequest()
	if err != nil {
		return err
	}
	if q.nonce != "" && a.superseded.has(q.client, q.nonce) {
		// A newer connection has the name, and told this client so. A browser that is answered 204 does not come back.
		x.empty()
		return nil
	}
	h := x.w.Header()
	h["Cache-Control"] = valueUnchanged
	h["X-Accel-Buffering"] = valueNo // or nginx collects events until it has 4 KiB of them
	h["Content-Type"] = valueSSE
	kind := "sse"
	if q.lines {
		h["Content-Type"] = valueNDJSON
		kind = "ndjson"
	}
	if x.r.Method == http.MethodHead {
		x.status = http.StatusOK
		x.w.WriteHeader(http.StatusOK)
		return nil
	}
	lease, err := a.enter()
	if err != nil {
		return err
	}
	defer lease.End()
	s := &stream{api: a, x: x, control: http.NewResponseController(x.w), lines: q.lines, durable: q.client != "",
		rung: make(chan struct{}, 1), drained: make(chan struct{})}
	if s.durable && !s.lines {
		s.nonce = newNonce()
	}
	name := q.client
	sub, place, err := a.feed.Subscribe(x.r.Context(), killfeed.Subscriber{Read: q.read, Client: name, Holder: s, Wake: s.wake})
	if err != nil {
		return err
	}
	s.sub = sub
	defer sub.Close()
	// A stream that is idle for hours keeps neither a body's memory nor a list of thousands of systems.
	x.params, x.buf = readParams{}, nil
	a.connections.began(kind)
	defer a.connections.ended(kind, 0)
	lease.Is(s)
	x.waits, x.status = true, http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	if s.open(&place) == nil {
		s.ended(name, s.run(x.r.Context()))
	}
	return nil
}

// errStreamEnds: the client is gone, or the server stops.
var errStreamEnds = errors.New("stream ends")

// ended tells the client, or the log, why the stream ends.
func (s *stream) ended(client string, err error) {
	switch {
	case errors.Is(err, killfeed.ErrReplaced):
		if s.nonce != "" {
			s.api.superseded.add(client, s.nonce)
		}
		s.replaced()
	case errors.Is(err, errStreamEnds), errors.Is(err, killfeed.ErrClosed), errors.Is(err, killfeed.ErrNotFound):
	default:
		s.api.log.Error("a stream could not be read; its client may come back", "err", err)
	}
}

// streamRequest reads what a stream asks for.
func (x *exchange) streamRequest() (q streamRequest, err error) {
	p := &x.params
	p.form = formStream
	if err := eachPair(x.r.URL.RawQuery, p.set); err != nil {
		return q, err
	}
	// The header comes from a browser that goes on after a loss, with the URL of its first request: it is the newer one.
	if id := x.r.Header.Get("Last-Event-ID"); id != "" {
		p.value[paramResume], p.given[paramResume] = id, true
	}
	_, q.nonce = cutNonce(p.value[paramResume])
	for _, accept := range x.r.Header["Accept"] {
		q.lines = q.lines || strings.Contains(accept, "ndjson")
	}
	if p.given[paramClient] {
		q.client = strings.Clone(x.client())
		if err := killfeed.CheckClientName(q.client); err != nil {
			return q, err
		}
	}
	q.read, err = p.read()
	return q, err
}

// newNonce names a connection.
func newNonce() string {
	var b [nonceLen / 2]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// open tells where the stream begins.
func (s *stream) open(p *killfeed.Place) error {
	b := s.api.takeBuffer()
	if s.lines {
		b = append(appendPlace(append(b, `{"type":"open",`...), p), "}\n"...)
	} else {
		retry := retryLeast + mrand.N(retryMost-retryLeast)
		b = strconv.AppendInt(append(b, "retry: "...), retry.Milliseconds(), 10)
		b = s.appendID(append(b, '\n'), p.Cursor())
		b = append(appendPlace(append(b, "event: open\ndata: {"...), p), "}\n\n"...)
	}
	if err := s.write(b); err != nil {
		return err
	}
	s.sub.Delivered()
	return nil
}

// appendID appends an id line.
func (s *stream) appendID(b []byte, c killfeed.Cursor) []byte {
	b = c.Append(append(b, "id: "...))
	if s.nonce != "" {
		b = append(append(b, '-'), s.nonce...)
	}
	return append(b, '\n')
}

// wake is the subscription's.
func (s *stream) wake() {
	select {
	case s.rung <- struct{}{}:
	default:
	}
}

// run writes events until the stream ends, and says why it does.
func (s *stream) run(ctx context.Context) error {
	beat := time.NewTimer(heartbeatEvery)
	defer beat.Stop()
	always := make(chan struct{})
	close(always)
	for ready := always; ; { // the first read comes unasked
		select {
		case <-ready:
			b, more, err := s.next()
			if err != nil {
				return err
			}
			ready = s.rung
			if more {
				ready = always
			}
			if b == nil {
				continue // what was passed over may take longer than a proxy has patience
			}
			if s.write(b) != nil {
				return errStreamEnds
			}
			if s.durable {
				s.sub.Delivered()
			}
		case <-beat.C:
			if s.write(s.appendHeartbeat(s.api.takeBuffer())) != nil {
				return errStreamEnds
			}
		case <-s.drained:
			return errStreamEnds
		case <-ctx.Done():
			return errStreamEnds
		}
		beat.Reset(heartbeatEvery)
	}
}

// next returns what comes next, as it is to be written; nil when nothing does.
func (s *stream) next() (b []byte, more bool, err error) {
	a := s.api
	room := a.rooms.Get().(*[maxFrames]killfeed.Event)
	d, err := s.sub.Read(room[:], maxFrames)
	defer func() { // before it is written: a client that takes nothing holds one batch, not two
		clear(d.Events) // which are in room
		a.rooms.Put(room)
	}()
	if err != nil || d.Gap == nil && len(d.Events) == 0 {
		return nil, d.More, err
	}
	const around = 320 // bytes of an event, but the killmail
	size := around
	for i := range d.Events {
		size += around + len(d.Events[i].Killmail)
	}
	b = slices.Grow(a.takeBuffer(), size)
	if d.Gap != nil {
		b = s.appendGap(b, &d)
	}
	for i := range d.Events {
		b = s.appendEvent(b, &d.Events[i])
	}
	return b, d.More, nil
}

func (s *stream) appendEvent(b []byte, e *killfeed.Event) []byte {
	text := s.api.shelf.text(e)
	if s.lines {
		b = append(b, `{"type":"new_killmail",`...)
		return append(append(b, text[1:]...), '\n')
	}
	b = s.appendID(b, killfeed.Cursor{After: e.ID, Epoch: s.api.epoch})
	b = append(b, "event: new_killmail\ndata: "...)
	return append(append(b, text...), "\n\n"...)
}

// appendGap tells of lost events. The place to resume from is behind them, but never behind an event that comes next: a damaged
// event may lie between good ones.
func (s *stream) appendGap(b []byte, d *killfeed.Delivery) []byte {
	through := killfeed.Cursor{After: d.Gap.To, Epoch: s.api.epoch}
	if len(d.Events) > 0 {
		through.After = min(through.After, d.Events[0].ID-1)
	}
	if s.lines {
		b = append(append(b, `{"type":"gap",`...), appendGap(nil, d.Gap)[1:]...)
		return append(through.Append(append(b[:len(b)-1], `,"cursor":"`...)), "\"}\n"...)
	}
	b = append(s.appendID(b, through), "event: gap\ndata: "...)
	return append(appendGap(b, d.Gap), "\n\n"...)
}

// appendHeartbeat shows that the stream lives, and moves the place to resume from past everything that was of no interest: so
// that what retention removes of that is no gap.
func (s *stream) appendHeartbeat(b []byte) []byte {
	c := s.sub.Cursor()
	if s.lines {
		return append(c.Append(append(b, `{"type":"heartbeat","cursor":"`...)), "\"}\n"...)
	}
	return append(s.appendID(append(b, ": heartbeat\n"...), c), '\n')
}

// replaced tells that a newer connection took the client's name.
func (s *stream) replaced() {
	b := s.api.takeBuffer()
	if s.lines {
		b = append(b, "{\"type\":\"replaced\"}\n"...)
	} else {
		b = append(b, "event: replaced\ndata: {}\n\n"...)
	}
	s.write(b) // an error means that the client has left
}

// write writes b at once and gives it back.
func (s *stream) write(b []byte) error {
	defer s.api.giveBuffer(b)
	defer s.limit(false)
	for len(b) > 0 {
		n := min(len(b), pieceBytes)
		s.limit(true)
		if _, err := s.x.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return s.control.Flush()
}

// limit sets until when the client has to have taken what is about to be written, or that nothing is: a deadline would end a
// stream over HTTP/2 that is silent. Without one a client that takes nothing would be waited for as long as its machine is up.
func (s *stream) limit(writing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writing = writing
	s.setDeadline()
}

// setDeadline is for who holds mu. The errors are of connections that have no deadlines, in tests.
func (s *stream) setDeadline() {
	switch {
	case !s.writing:
		_ = s.control.SetWriteDeadline(time.Time{})
	case !s.end.IsZero():
		_ = s.control.SetWriteDeadline(s.end)
	default:
		_ = s.control.SetWriteDeadline(time.Now().Add(takeWithin))
	}
}

// Look is live.Conn's: the write deadlines are enough.
func (s *stream) Look(time.Time) {}

// Drain is live.Conn's.
func (s *stream) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = time.Now().Add(takeAtEnd)
	close(s.drained)
	if s.writing {
		s.setDeadline()
	}
}

// enter lets a connection in that stays, or says when to come back.
func (a *API) enter() (*live.Lease, error) {
	lease, refusal := a.live.Enter()
	if refusal == nil {
		return lease, nil
	}
	a.connections.refused.WithLabelValues(refusal.Reason).Inc()
	p := &problem{Status: http.StatusServiceUnavailable, retryAfter: int(refusal.After / time.Second)}
	switch refusal.Reason {
	case live.Full:
		p.Detail = "this server has as many open streams and sockets as it may: come back later, or poll"
	case live.TooFast:
		p.Status = http.StatusTooManyRequests
		p.Detail = "too many streams and sockets were opened in the last second: come back in a moment"
	default:
		p.Detail = "the server is stopping: come back in a moment"
	}
	return nil, p
}
