package web

import (
	"sync"

	"killfeed"
)

// shape is how an event is shown. The zero value shows the killmail as it was received.
type shape struct {
	// fields are the members of the killmail that are shown; nil: all.
	fields *fields
	// names: what ids mean is told behind the killmail.
	names bool
}

func (s shape) plain() bool { return s == shape{} }

// key is the same for shapes that show the same.
func (s shape) key() string {
	key := ""
	if s.names {
		key = "names,"
	}
	if s.fields != nil {
		key += s.fields.text
	}
	return key
}

// appendEvent appends an event's JSON object in a shape. The killmail's bytes are copied, never encoded again.
func (a *API) appendEvent(b []byte, e *killfeed.Event, s shape) []byte {
	return append(a.appendOpenEvent(b, e, s), '}')
}

// appendOpenEvent is appendEvent without the last brace, so that members can follow.
func (a *API) appendOpenEvent(b []byte, e *killfeed.Event, s shape) []byte {
	b = e.AppendOpen(b)
	shown := len(b)
	if s.fields == nil {
		b = append(b, e.Killmail...)
	} else {
		b = s.fields.appendTo(b, e.Killmail)
	}
	if s.names {
		b = a.appendNames(append(b, `,"names":`...), e.SystemID, b[shown:])
	}
	return b
}

// appendLive appends an event as live edges tell it: with its cursor as the last member.
func (a *API) appendLive(b []byte, e *killfeed.Event, s shape) []byte {
	b = append(a.appendOpenEvent(b, e, s), `,"cursor":"`...)
	return append(killfeed.Cursor{After: e.ID, Epoch: a.epoch}.Append(b), `"}`...)
}

// shelves are the shelves of all shapes that live readers have at the moment. Each shape has one, however many read it.
type shelves struct {
	api   *API
	plain *shelf // always there

	mu   sync.Mutex // guards the rest; held for a map operation
	open map[string]*shelf
}

const (
	// maxShelves bounds the shelves of other shapes than the plain one, and shapedSlots the events on each.
	maxShelves  = 32
	shapedSlots = 256
)

// take returns the shelf of a shape, which give takes back. Beyond maxShelves that is one without room, for which each event is
// encoded anew.
func (s *shelves) take(of shape) *shelf {
	if of.plain() {
		return s.plain
	}
	key := of.key()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.open[key]
	switch {
	case at != nil:
	case len(s.open) >= maxShelves:
		return &shelf{api: s.api, shape: of}
	default:
		if s.open == nil {
			s.open = map[string]*shelf{}
		}
		at = newShelf(s.api, of, shapedSlots)
		s.open[key] = at
	}
	at.readers++
	return at
}

// give takes back a shelf that take returned. A shelf that nobody reads is let go, with all that is on it.
func (s *shelves) give(at *shelf) {
	if at.shape.plain() || at.slots == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.readers--; at.readers == 0 {
		delete(s.open, at.shape.key())
	}
}
