package evekill

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/web/socket"
)

const (
	// maxRead is how many events are read at a time.
	maxRead = 64
	// quiet is after which silence a heartbeat is written when one is asked for, which is every 20 seconds.
	quiet = 18 * time.Second
)

// stream answers with killmails as they come.
func (d *dialect) stream(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	names, filter, err := parseTopics(query.Get("topics"), d.feed.Universe())
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	read := killfeed.Read{
		Topics: []killfeed.Topic{killfeed.All()}, Filter: filter, Start: killfeed.Latest, NoBackfill: query.Get("backfill") != "1",
	}
	// The header comes from a browser that goes on after a loss, with the address of its first request: it is the newer one.
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = query.Get("lastEventId")
	}
	if last != "" {
		cursor, err := killfeed.ParseCursor(last)
		if err != nil {
			refuse(w, http.StatusBadRequest, "lastEventId is not accepted: want the id of the last event that came")
			return
		}
		read.From = &cursor
	}
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "text/event-stream")
		return
	}
	var bell bell
	sub, place, err := d.feed.Subscribe(r.Context(), killfeed.Subscriber{Read: read, Wake: bell.ring})
	if err != nil {
		d.failed(w, r, err)
		return
	}
	first := fmt.Appendf(nil, ": connected to the feed\n: topics: %s\n\n", strings.Join(names, ", "))
	if place.Gap != nil {
		first = appendGap(first, place.Gap)
	}
	var carried *socket.Conn
	d.api.OpenStream(w, r, "evekill", head(), func(conn *socket.Conn) socket.Handler {
		carried = conn
		d.streams.Add(1)
		bell.to(conn.Wake)
		return &stream{dialect: d, sub: sub, conn: conn, first: first}
	})
	if carried == nil { // it was refused, and answered
		sub.Close()
		return
	}
	carried.Wake() // not before it is served
}

// head is the head of the answer, on a connection that is taken over.
func head() []byte {
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nDate: %s\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-store, no-transform\r\n"+
		"Connection: close\r\nAccess-Control-Allow-Origin: *\r\nX-Accel-Buffering: no\r\n\r\n", time.Now().UTC().Format(http.TimeFormat))
}

// bell is what a subscription wakes before there is a connection to be woken.
type bell struct{ wake atomic.Pointer[func()] }

func (b *bell) to(wake func()) { b.wake.Store(&wake) }

func (b *bell) ring() {
	if wake := b.wake.Load(); wake != nil {
		(*wake)()
	}
}

// stream is a stream on a connection of its own. It implements socket.Handler.
type stream struct {
	*dialect
	sub  *killfeed.Subscription
	conn *socket.Conn

	// Owned by who pulls.
	first []byte    // what is written before any event
	spoke time.Time // when something was last pulled
	over  bool
}

// room is what a read needs, lent for as long as it takes.
type room [maxRead]killfeed.Event

// Message is socket.Handler's: nothing comes this way.
func (s *stream) Message(bool, []byte) error { return nil }

// Full is socket.Handler's.
func (s *stream) Full() bool { return false }

// Pull is socket.Handler's.
func (s *stream) Pull(b *socket.Batch, last bool) (said bool) {
	if last || s.over {
		return false
	}
	b.Add(func(dst []byte) []byte {
		begin, now := len(dst), time.Now()
		dst = append(dst, s.first...)
		s.first = nil
		dst = s.appendNext(dst, max(1, b.Room()))
		if len(dst) == begin && now.Sub(s.spoke) >= quiet {
			dst = append(dst, ": heartbeat\n\n"...)
		}
		if said = len(dst) > begin; said {
			s.spoke = now
		}
		return dst
	})
	return said
}

// appendNext appends what comes next, so many events at most.
func (s *stream) appendNext(b []byte, most int) []byte {
	in := s.rooms.Get().(*room)
	defer func() {
		clear(in[:])
		s.rooms.Put(in)
	}()
	d, err := s.sub.Read(in[:], min(maxRead, most))
	if err != nil {
		s.over = true
		if !errors.Is(err, killfeed.ErrClosed) {
			s.log.Error("a stream of EVE-KILL's dialect could not be read; its client may come back", "err", err)
		}
		s.conn.Close(&socket.CloseError{})
		return b
	}
	if d.Gap != nil {
		b = appendGap(b, d.Gap)
	}
	for i := range d.Events {
		if m := s.shelf.Open(&d.Events[i]); m != nil {
			b = strconv.AppendUint(append(b, "id: "...), uint64(d.Events[i].ID), 10)
			b = appendBody(append(b, "\nevent: killmail\ndata: "...), m)
			b = append(b, "\n\n"...)
		}
	}
	if d.More {
		s.conn.Wake()
	}
	return b
}

// appendGap tells of lost events, as a comment: the original has no event for it, and its clients know none.
func appendGap(b []byte, g *killfeed.Gap) []byte {
	return append(append(append(b, ": gap "...), g.String()...), "\n\n"...)
}

// Written is socket.Handler's.
func (s *stream) Written() {}

// Ended is socket.Handler's.
func (s *stream) Ended(int) {
	s.sub.Close()
	s.streams.Add(-1)
}
