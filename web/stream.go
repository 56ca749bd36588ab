package web

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	mrand "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"killfeed"
	"killfeed/web/live"
)

const (
	// heartbeatEvery is how long a stream may be silent. Proxies between here and the client give up after 30 s or more.
	heartbeatEvery = 20 * time.Second
	// takeWithin is how long a client may take for what is written to it at a time.
	takeWithin = 60 * time.Second
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
}

// streamRequest is what a stream asks for beside the parameters.
type streamRequest struct {
	lines bool
	// nonce is that of the stream that this one goes on with, empty when there was none.
	nonce string
}

// serveStream answers with events as they come, until the client leaves or the server stops.
func (a *API) serveStream(x *exchange) error {
	q, r, err := x.streamRequest()
	if err != nil {
		return err
	}
	name := ""
	if x.params.given[paramClient] {
		name = strings.Clone(x.client())
		if err := killfeed.CheckClientName(name); err != nil {
			return err
		}
	}
	if q.nonce != "" && a.superseded.has(name, q.nonce) {
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
	s := &stream{api: a, x: x, control: http.NewResponseController(x.w), lines: q.lines, durable: name != "",
		rung: make(chan struct{}, 1), drained: make(chan struct{})}
	if s.durable && !s.lines {
		s.nonce = newNonce()
	}
	var place killfeed.Place
	s.sub, place, err = a.feed.Subscribe(x.r.Context(), killfeed.Subscriber{
		Read: r, Client: name, Holder: s, Wake: func() { s.rung <- struct{}{} },
	})
	if err != nil {
		return err
	}
	defer s.sub.Close()
	a.connections.began(kind)
	defer a.connections.ended(kind, 0)
	lease.Is(s)
	x.waits, x.status = true, http.StatusOK
	x.w.WriteHeader(http.StatusOK)
	if err := s.open(&place); err == nil {
		err = s.run(x.r.Context())
		if errors.Is(err, killfeed.ErrReplaced) {
			if s.nonce != "" {
				a.superseded.add(name, s.nonce)
			}
			s.replaced()
		} else if err != nil && !errors.Is(err, errStreamEnds) && !errors.Is(err, killfeed.ErrClosed) && !errors.Is(err, killfeed.ErrNotFound) {
			a.log.Error("a stream could not be read; its client may come back", "err", err)
		}
	}
	return nil
}

// errStreamEnds: the client is gone, or the server stops.
var errStreamEnds = errors.New("stream ends")

// streamRequest reads what a stream asks for.
func (x *exchange) streamRequest() (q streamRequest, r killfeed.Read, err error) {
	p := &x.params
	p.form = formStream
	resume := ""
	err = eachPair(x.r.URL.RawQuery, func(name, value string) error {
		switch name {
		case "last_event_id", "lastEventId":
			resume = value
			return nil
		}
		return p.set(name, value)
	})
	if err != nil {
		return q, r, err
	}
	// The header comes from a browser that goes on after a loss, with the URL of its first request: it is the newer one.
	resume = or(x.r.Header.Get("Last-Event-ID"), resume)
	if resume != "" {
		var id string
		id, q.nonce = cutNonce(resume)
		if _, err := killfeed.ParseCursor(id); err != nil {
			return q, r, killfeed.Invalid("last_event_id", resume, "the id of the last event that arrived, as its id line gave it")
		}
		p.value[paramAfter], p.given[paramAfter] = id, true
	} else if p.given[paramAfter] {
		p.value[paramAfter], _ = cutNonce(p.value[paramAfter])
	}
	for _, accept := range x.r.Header["Accept"] {
		q.lines = q.lines || strings.Contains(accept, "ndjson")
	}
	r, err = p.read()
	return q, r, err
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// nonceLen is the length of a nonce as text.
const nonceLen = 12

// newNonce names a connection.
func newNonce() string {
	var b [nonceLen / 2]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// cutNonce takes the nonce from an id that has one: <event_id>-<epoch>-<nonce>.
func cutNonce(id string) (cursor, nonce string) {
	if i := strings.LastIndexByte(id, '-'); i > 0 && strings.IndexByte(id, '-') != i && len(id)-i-1 == nonceLen {
		return id[:i], id[i+1:]
	}
	return id, ""
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

// run writes events until the stream ends, and says why it does.
func (s *stream) run(ctx context.Context) error {
	beat := time.NewTimer(heartbeatEvery)
	defer beat.Stop()
	for {
		for more := true; more; {
			if ctx.Err() != nil || s.isDrained() {
				return errStreamEnds
			}
			var err error
			if more, err = s.deliver(); err != nil {
				return err
			}
		}
		beat.Reset(heartbeatEvery)
	wait:
		for {
			select {
			case <-s.rung:
				break wait
			case <-beat.C:
				if s.write(s.appendHeartbeat(s.api.takeBuffer())) != nil {
					return errStreamEnds
				}
				beat.Reset(heartbeatEvery)
			case <-s.drained:
				return errStreamEnds
			case <-ctx.Done():
				return errStreamEnds
			}
		}
	}
}

func (s *stream) isDrained() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}

// deliver writes what comes next.
func (s *stream) deliver() (more bool, err error) {
	a := s.api
	room := a.rooms.Get().(*[maxFrames]killfeed.Event)
	d, err := s.sub.Read(room[:], maxFrames)
	defer func() {
		clear(d.Events) // which are in room
		a.rooms.Put(room)
	}()
	if err != nil {
		return false, err
	}
	if d.Gap == nil && len(d.Events) == 0 {
		return d.More, nil
	}
	b := a.takeBuffer()
	if d.Gap != nil {
		b = s.appendGap(b, d.Gap)
	}
	for i := range d.Events {
		b = s.appendEvent(b, &d.Events[i])
	}
	if s.write(b) != nil {
		return false, errStreamEnds
	}
	if s.durable {
		s.sub.Delivered()
	}
	return d.More, nil
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

// appendGap tells of lost events. Its id is behind them, where there is a bound.
func (s *stream) appendGap(b []byte, g *killfeed.Gap) []byte {
	if s.lines {
		b = append(b, `{"type":"gap",`...)
		b = append(b, appendGap(nil, g)[1:]...)
		if g.To > 0 {
			b = append(b[:len(b)-1], `,"cursor":"`...)
			b = append(killfeed.Cursor{After: g.To, Epoch: s.api.epoch}.Append(b), `"}`...)
		}
		return append(b, '\n')
	}
	b = append(b, "event: gap\ndata: "...)
	return append(appendGap(b, g), "\n\n"...)
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
	// Without a deadline a client that takes nothing would be waited for as long as its machine is up. The errors are of
	// connections that have none, in tests.
	_ = s.control.SetWriteDeadline(time.Now().Add(takeWithin))
	_, err := s.x.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	_ = s.control.SetWriteDeadline(time.Time{}) // over HTTP/2 it would end a stream that is silent
	return err
}

// Look is live.Conn's: the write deadlines are enough.
func (s *stream) Look(time.Time) {}

// Drain is live.Conn's.
func (s *stream) Drain() { close(s.drained) }

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
