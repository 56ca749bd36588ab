package web

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/web/live"
	"killfeed/web/socket"
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

// stream is one stream of events over HTTP, as text: Server-Sent Events, or a line of JSON for each. What carries it is another
// matter: a connection of its own, or a request that shares one.
type stream struct {
	api    *API
	sub    *killfeed.Subscription
	shelf  *shelf
	client string // empty without one
	lines  bool   // NDJSON
	nonce  string // of a durable SSE stream, the third part of its ids; empty otherwise
	visit  *visit // nil: no token let the client in
}

// streamRequest is what a stream asks for.
type streamRequest struct {
	read  killfeed.Read
	shape shape
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
	lease, err := a.enter(x.r)
	if err != nil {
		return err
	}
	s := &stream{api: a, client: q.client, lines: q.lines, shelf: a.shelves.take(q.shape), visit: newVisit(x.token)}
	if s.client != "" && !s.lines {
		s.nonce = newNonce()
	}
	bell := &bell{}
	sub, place, err := a.feed.Subscribe(x.r.Context(), killfeed.Subscriber{Read: q.read, Client: s.client, Holder: s, Wake: bell.ring})
	if err != nil {
		a.shelves.give(s.shelf)
		lease.End()
		return err
	}
	s.sub = sub
	a.connections.began(kind)
	x.waits = true
	if x.r.ProtoMajor == 1 {
		if conn, err := a.sockets.Stream(x.w, x.head(), heartbeatEvery, lease); err == nil {
			x.status = http.StatusOK
			bell.to(conn.Wake)
			conn.Serve(&directStream{stream: s, kind: kind, conn: conn, first: s.appendOpen(nil, &place), spoke: time.Now()})
			conn.Wake()
			a.welcome(s.visit, func() { conn.Close(&socket.CloseError{}) })
			return nil
		}
	}
	defer lease.End()
	defer a.connections.ended(kind, 0)
	defer s.close()
	t := &sharedStream{stream: s, w: x.w, control: http.NewResponseController(x.w), rung: make(chan struct{}, 1), drained: make(chan struct{})}
	bell.to(t.wake)
	// A stream that is idle for hours keeps neither a body's memory nor a list of thousands of systems.
	q, x.params, x.buf = streamRequest{}, readParams{}, nil
	lease.Is(t)
	x.status = http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(x.r.Context())
	defer cancel()
	a.welcome(s.visit, cancel)
	t.run(ctx, s.appendOpen(a.takeBuffer(), &place))
	return nil
}

// bell is what a subscription wakes before it is known what carries the stream.
type bell struct{ wake atomic.Pointer[func()] }

func (b *bell) to(wake func()) { b.wake.Store(&wake) }

// ring is not called before the first Read, and that comes behind to.
func (b *bell) ring() {
	if wake := b.wake.Load(); wake != nil {
		(*wake)()
	}
}

// head is the answer's head for a connection that is taken over from net/http.
func (x *exchange) head() []byte {
	b := fmt.Appendf(nil, "HTTP/1.%d 200 OK\r\nConnection: close\r\nDate: %s\r\n", x.r.ProtoMinor, time.Now().UTC().Format(http.TimeFormat))
	head := bytes.NewBuffer(b)
	x.w.Header().Write(head) // a buffer takes it all
	return append(head.Bytes(), "\r\n"...)
}

// close ends the subscription, when nothing is read any more.
func (s *stream) close() {
	s.api.leave(s.visit)
	s.sub.Close()
	s.api.shelves.give(s.shelf)
}

// errStreamEnds: the client is gone, or the server stops.
var errStreamEnds = errors.New("stream ends")

// ended returns what the client is to be told of why the stream ends, nil for nothing, and tells the log what is for it.
func (s *stream) ended(err error) (last []byte) {
	switch {
	case errors.Is(err, killfeed.ErrReplaced):
		if s.nonce != "" {
			s.api.superseded.add(s.client, s.nonce) // before the client knows: it may come back at once
		}
		if s.lines {
			return []byte("{\"type\":\"replaced\"}\n")
		}
		return []byte("event: replaced\ndata: {}\n\n")
	case errors.Is(err, errStreamEnds), errors.Is(err, killfeed.ErrClosed), errors.Is(err, killfeed.ErrNotFound):
	default:
		s.api.log.Error("a stream could not be read; its client may come back", "err", err)
	}
	return nil
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
		if err := x.mayUse(q.client); err != nil {
			return q, err
		}
	}
	if q.read, err = p.read(); err == nil {
		q.shape, err = p.readShape()
	}
	return q, err
}

// newNonce names a connection.
func newNonce() string {
	var b [nonceLen / 2]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// appendOpen tells where the stream begins.
func (s *stream) appendOpen(b []byte, p *killfeed.Place) []byte {
	if s.lines {
		return append(appendPlace(append(b, `{"type":"open",`...), p), "}\n"...)
	}
	retry := retryLeast + mrand.N(retryMost-retryLeast)
	b = strconv.AppendInt(append(b, "retry: "...), retry.Milliseconds(), 10)
	b = s.appendID(append(b, '\n'), p.Cursor())
	return append(appendPlace(append(b, "event: open\ndata: {"...), p), "}\n\n"...)
}

// appendID appends an id line.
func (s *stream) appendID(b []byte, c killfeed.Cursor) []byte {
	b = c.Append(append(b, "id: "...))
	if s.nonce != "" {
		b = append(append(b, '-'), s.nonce...)
	}
	return append(b, '\n')
}

// appendNext appends what comes next, so many events at most. It may be nothing, and more all the same.
func (s *stream) appendNext(b []byte, most int) (_ []byte, more bool, err error) {
	a := s.api
	room := a.rooms.Get().(*[maxFrames]killfeed.Event)
	d, err := s.sub.Read(room[:], min(maxFrames, most))
	defer func() { // before it is written: a client that takes nothing holds one batch, not two
		clear(d.Events) // which are in room
		a.rooms.Put(room)
	}()
	if err != nil || d.Gap == nil && len(d.Events) == 0 {
		return b, d.More, err
	}
	const around = 320 // bytes of an event, but the killmail
	size := around
	for i := range d.Events {
		size += around + len(d.Events[i].Killmail)
	}
	b = slices.Grow(b, size)
	if d.Gap != nil {
		b = s.appendGap(b, &d)
	}
	for i := range d.Events {
		b = s.appendEvent(b, &d.Events[i])
	}
	return b, d.More, nil
}

func (s *stream) appendEvent(b []byte, e *killfeed.Event) []byte {
	text := s.shelf.text(e)
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

// enter lets a connection in that stays, or says when to come back.
func (a *API) enter(r *http.Request) (*live.Lease, error) {
	lease, refusal := a.live.Enter(a.doors.Caller(r).Key())
	if refusal == nil {
		return lease, nil
	}
	a.connections.refused.WithLabelValues(refusal.Reason).Inc()
	p := &problem{Status: http.StatusServiceUnavailable, retryAfter: int(refusal.After / time.Second)}
	switch refusal.Reason {
	case live.Full:
		p.Detail = "this server has as many open streams and sockets as it may: come back later, or poll"
	case live.Crowded:
		p.Status = http.StatusTooManyRequests
		p.Detail = "your address has as many open streams and sockets as one may have: end some, or join more topics on one of them"
	case live.TooFast:
		p.Status = http.StatusTooManyRequests
		p.Detail = "too many streams and sockets were opened in the last second: come back in a moment"
	default:
		p.Detail = "the server is stopping: come back in a moment"
	}
	return nil, p
}
