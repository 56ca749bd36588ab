package wanderer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/web/socket"
)

const (
	// maxListed bounds the systems and the characters of a stream.
	maxListed = 100
	// maxDays bounds what is preloaded of the past, and maxHistory the killmails, in batches of inBatch.
	maxDays    = 90
	maxHistory = 5000
	inBatch    = 50
	// heartbeatAfter is how long a stream is silent before a heartbeat. It is asked for one every 20 seconds.
	heartbeatAfter = 18 * time.Second
)

// streamParams is what a stream asks for.
type streamParams struct {
	systems, characters []uint32
	minValue            string // as it was given, empty without one
	days                int
	after               *killfeed.Cursor
	backfill            bool
}

// parseStream reads the query of a stream.
func parseStream(r *http.Request, enhanced bool) (p streamParams, err error) {
	v := query(r)
	if p.systems, err = listed("system_ids", v["system_ids"], maxSystemID); err != nil {
		return p, err
	}
	if p.characters, err = listed("character_ids", v["character_ids"], maxCharacterID); err != nil {
		return p, err
	}
	if text := v.Get("min_value"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n < 1e18) {
			return p, fmt.Errorf("min_value %.40q: want a number from 0 on", text)
		}
		if n > 0 {
			p.minValue = strconv.FormatFloat(n, 'f', -1, 64)
		}
	}
	if text := v.Get("preload_days"); text != "" && enhanced {
		if p.days, err = strconv.Atoi(text); err != nil || p.days < 0 || p.days > maxDays {
			return p, fmt.Errorf("preload_days %.40q: want an integer from 0 to %d", text, maxDays)
		}
	}
	p.backfill = v.Get("backfill") == "1" || v.Get("backfill") == "true"
	// The header comes from a browser that goes on after a loss, with the URL of its first request: it is the newer one.
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = v.Get("last_event_id")
	}
	if last != "" {
		c, err := killfeed.ParseCursor(last)
		if err != nil {
			return p, fmt.Errorf("last_event_id %.40q: want the id of an event of this stream", last)
		}
		p.after = &c
	}
	return p, nil
}

// listed reads ids that are separated by commas. Ids that no killmail has are dropped, unless there are no others: the stream would
// be of everything then.
func listed(name string, values []string, most int64) (ids []uint32, err error) {
	given := 0
	for _, value := range values {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.TrimSpace(part); part == "" {
				continue
			}
			id, err := strconv.ParseInt(part, 10, 64)
			if given++; err != nil || id < 1 || id > most || given > maxListed {
				return nil, fmt.Errorf("%s: %.40q: want at most %d integers from 1 to %d", name, part, maxListed, most)
			}
			if id <= killfeed.MaxID {
				ids = append(ids, uint32(id))
			}
		}
	}
	if given > 0 && len(ids) == 0 {
		return nil, fmt.Errorf("%s: none of them can be in a killmail", name)
	}
	return ids, nil
}

// read is what is to be read for it.
func (p *streamParams) read(u *killfeed.Universe) (r killfeed.Read, err error) {
	for _, id := range p.systems {
		r.Topics = append(r.Topics, killfeed.System(id))
	}
	for _, id := range p.characters {
		r.Topics = append(r.Topics, killfeed.Topic{Kind: killfeed.KindCharacter, ID: id})
	}
	if len(r.Topics) == 0 {
		r.Topics = []killfeed.Topic{killfeed.All()}
	}
	if p.minValue != "" {
		if r.Filter, err = killfeed.ParseFilter("isk>="+p.minValue, u); err != nil {
			return r, err
		}
	}
	r.Start, r.From, r.NoBackfill = killfeed.Latest, p.after, !p.backfill
	return r, nil
}

// stream is one stream. It is a socket.Handler.
type stream struct {
	*dialect
	sub  *killfeed.Subscription
	conn *socket.Conn // nil until it is open

	// Owned by who pulls.
	first   []byte        // what is written before any killmail
	gap     *killfeed.Gap // to be told
	past    killfeed.Past // what is to be preloaded yet; a Limit of 0: nothing
	batches int           // that there will be, about
	batch   int           // that were written
	sent    int           // killmails in them
	spoke   time.Time
	over    bool
}

// bell is what a subscription wakes before there is a connection.
type bell struct{ conn atomic.Pointer[socket.Conn] }

// ring is not called before the first read, which comes when there is a connection.
func (b *bell) ring() {
	if c := b.conn.Load(); c != nil {
		c.Wake()
	}
}

// serveStream answers with killmails as they come.
func (d *dialect) serveStream(w http.ResponseWriter, r *http.Request, enhanced bool) {
	refuse := func(status int, kind, text string) {
		sendJSON(w, status, map[string]any{"error": map[string]string{"type": kind, "message": text}})
	}
	p, err := parseStream(r, enhanced)
	if err != nil {
		refuse(http.StatusBadRequest, "invalid_parameters", err.Error())
		return
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	if d.streams.Add(1) > d.most {
		d.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		refuse(http.StatusServiceUnavailable, "connection_limit_reached", "this server has as many streams open as it may: come back later")
		return
	}
	s, bell, err := d.newStream(r, &p)
	if err != nil {
		d.streams.Add(-1)
		e := d.problem(err)
		refuse(e.status, "stream_error", e.text)
		return
	}
	head := fmt.Appendf(nil, "HTTP/1.%d 200 OK\r\nConnection: close\r\nDate: %s\r\nContent-Type: text/event-stream\r\n"+
		"Cache-Control: private, no-cache, no-store, no-transform\r\nX-Accel-Buffering: no\r\nAccess-Control-Allow-Origin: *\r\n\r\n",
		r.ProtoMinor, time.Now().UTC().Format(http.TimeFormat))
	opened := false
	d.api.OpenStream(w, r, "wanderer-sse", head, func(conn *socket.Conn) socket.Handler {
		opened, s.conn = true, conn
		bell.conn.Store(conn)
		return s
	})
	if !opened { // it was answered
		s.sub.Close()
		d.streams.Add(-1)
		return
	}
	s.conn.Wake()
}

// newStream begins a stream that is yet to be opened.
func (d *dialect) newStream(r *http.Request, p *streamParams) (*stream, *bell, error) {
	read, err := p.read(d.feed.Universe())
	if err != nil {
		return nil, nil, err
	}
	b := &bell{}
	sub, place, err := d.feed.Subscribe(r.Context(), killfeed.Subscriber{Read: read, Wake: b.ring})
	if err != nil {
		return nil, nil, err
	}
	s := &stream{dialect: d, sub: sub, gap: place.Gap, spoke: time.Now()}
	if p.days > 0 && p.after == nil {
		s.past = killfeed.Past{
			Topics: read.Topics, Filter: read.Filter, Before: place.Start, Limit: inBatch,
			Since: time.Now().Add(-time.Duration(p.days) * 24 * time.Hour),
		}
		found, _, err := d.feed.Counts(r.Context(), s.past)
		if err != nil {
			sub.Close()
			return nil, nil, err
		}
		total := 0
		for _, c := range found {
			total += c.Killmails
		}
		s.batches = (min(total, maxHistory) + inBatch - 1) / inBatch
	}
	s.first = strconv.AppendInt([]byte("retry: "), 500+rand.Int64N(2500), 10)
	s.first = append(s.first, '\n')
	if !s.preloads() {
		s.first = appendID(s.first, place.Cursor())
	}
	minValue := p.minValue
	if minValue == "" {
		minValue = "null"
	}
	s.first = fmt.Appendf(s.first, "event: connected\ndata: {\"status\":\"connected\",\"filters\":{\"system_ids\":%s,\"character_ids\":%s,"+
		"\"min_value\":%s,\"preload_days\":%d},\"timestamp\":%s}\n\n",
		appendIDs(nil, p.systems), appendIDs(nil, p.characters), minValue, p.days, appendNow(nil))
	return s, b, nil
}

// appendID appends an id line, by which a client goes on. While history is preloaded there is none: who goes on from one would miss
// the rest of it.
func appendID(b []byte, c killfeed.Cursor) []byte {
	return append(c.Append(append(b, "id: "...)), '\n')
}

// appendEvent appends an event with the data, which has no line breaks.
func appendEvent(b []byte, name string, data []byte) []byte {
	b = append(append(append(b, "event: "...), name...), "\ndata: "...)
	return append(append(b, data...), "\n\n"...)
}

func (s *stream) preloads() bool { return s.past.Limit > 0 }

// Message is socket.Handler's: nothing comes this way.
func (s *stream) Message(bool, []byte) error { return nil }

// Full is socket.Handler's.
func (s *stream) Full() bool { return false }

// Written is socket.Handler's.
func (s *stream) Written() {}

// Ended is socket.Handler's.
func (s *stream) Ended(int) {
	s.sub.Close()
	s.streams.Add(-1)
}

// Pull is socket.Handler's.
func (s *stream) Pull(to *socket.Batch, last bool) (said bool) {
	if last || s.over {
		return false
	}
	to.Add(func(b []byte) []byte {
		begin := len(b)
		b = append(b, s.first...)
		s.first = nil
		b, more, err := s.next(b)
		switch {
		case err != nil:
			b = s.end(b, err)
		case more:
			s.conn.Wake()
		case len(b) == begin && time.Since(s.spoke) >= heartbeatAfter: // it was asked for
			b = s.heartbeat(b)
		}
		if said = len(b) > begin; said {
			s.spoke = time.Now()
		}
		return b
	})
	return said
}

// next appends what comes next.
func (s *stream) next(b []byte) (_ []byte, more bool, err error) {
	if s.preloads() {
		b, err = s.history(b)
		return b, err == nil, err
	}
	if s.gap != nil {
		b = appendEvent(b, "gap", appendGap(nil, s.gap))
		s.gap = nil
	}
	room := s.rooms.Get().(*[maxRead]killfeed.Event)
	d, err := s.sub.Read(room[:], maxRead)
	defer func() {
		clear(d.Events) // which are in room
		s.rooms.Put(room)
	}()
	if err != nil {
		return b, false, err
	}
	if d.Gap != nil {
		b = appendEvent(b, "gap", appendGap(nil, d.Gap))
	}
	for i := range d.Events {
		if e := &d.Events[i]; expressible(e) {
			b = appendID(b, killfeed.Cursor{After: e.ID, Epoch: s.epoch})
			b = appendEvent(b, "killmail", s.kill(e).text)
		}
	}
	return b, d.More, nil
}

// history appends one batch of what is preloaded, newest first, and behind the last one where the live killmails begin.
func (s *stream) history(b []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kills, next, err := s.newest(ctx, s.past)
	if err != nil {
		return b, err
	}
	if len(kills) > 0 {
		s.batch++
		s.sent += len(kills)
		s.batches = max(s.batches, s.batch)
		data := appendKills([]byte(`{"kills":`), kills)
		data = fmt.Appendf(data, `,"count":%d,"batch_number":%d,"total_batches":%d}`, len(kills), s.batch, s.batches)
		b = appendEvent(b, "batch", data)
	}
	if s.past.Before = next; next > 0 && s.sent < maxHistory {
		return b, nil
	}
	s.past = killfeed.Past{}
	data := fmt.Appendf(nil, `{"status":"historical_complete","total_historical":%d,"timestamp":%s}`, s.sent, appendNow(nil))
	return appendEvent(appendID(b, s.sub.Cursor()), "transition", data), nil
}

// heartbeat shows that the stream lives, and moves the place to go on from past what was of no interest.
func (s *stream) heartbeat(b []byte) []byte {
	b = appendID(b, s.sub.Cursor())
	return appendEvent(b, "heartbeat", append(append([]byte(`{"timestamp":`), appendNow(nil)...), `,"mode":"realtime"}`...))
}

// end ends the stream, and tells the client why if that is news to it.
func (s *stream) end(b []byte, err error) []byte {
	s.over = true
	p := s.problem(err)
	if p.status >= 500 || p.status == http.StatusBadRequest {
		b = appendEvent(b, "error", fmt.Appendf(nil, `{"type":"stream_error","message":%s,"timestamp":%s}`,
			appendString(nil, p.text), appendNow(nil)))
	}
	s.conn.Close(&socket.CloseError{}) // behind this
	return b
}
