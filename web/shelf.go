package web

import (
	"sync"
	"sync/atomic"

	"killfeed"
)

// shelf holds the newest events as live edges send them in one shape, each encoded once and then shared: a thousand subscribers
// of one system cost one encoding. Its texts must not be changed. Names are those that were known when an event was first
// encoded.
//
// It is a cache that may forget anything at any time: an event has one slot, that of its id, and who finds another one there
// takes its place.
type shelf struct {
	api     *API
	shape   shape
	slots   []atomic.Pointer[shelved] // none: nothing is kept
	readers int                       // guarded by shelves.mu
}

func newShelf(a *API, s shape, slots int) *shelf {
	return &shelf{api: a, shape: s, slots: make([]atomic.Pointer[shelved], slots)}
}

const (
	// shelfSlots is how many events are kept as they are, a few minutes of a busy evening.
	shelfSlots = 1024
	// maxShelved bounds each of them. The few that are larger are encoded for each reader: a titan's loss of 8 MiB must not
	// stay in memory with a thousand like it.
	maxShelved = 64 << 10
)

type shelved struct {
	id   killfeed.EventID
	once sync.Once
	text []byte
}

// text is the event's JSON object with its cursor as the last member.
func (s *shelf) text(e *killfeed.Event) []byte {
	if len(e.Killmail) > maxShelved || len(s.slots) == 0 {
		return s.encode(e)
	}
	slot := &s.slots[e.ID%killfeed.EventID(len(s.slots))]
	for {
		at := slot.Load()
		if at == nil || at.id != e.ID {
			mine := &shelved{id: e.ID}
			if !slot.CompareAndSwap(at, mine) {
				continue
			}
			at = mine
		}
		at.once.Do(func() { at.text = s.encode(e) })
		return at.text
	}
}

func (s *shelf) encode(e *killfeed.Event) []byte {
	const around = 192 // bytes: everything but the killmail
	size := len(e.Killmail) + around
	if !s.shape.plain() { // far less, or more
		size = around
	}
	return s.api.appendLive(make([]byte, 0, size), e, s.shape)
}

// appendPlace appends the members of a place, without braces, as every live edge tells it.
func appendPlace(b []byte, p *killfeed.Place) []byte {
	b = append(b, `"head":`...)
	b = appendID(b, p.Head)
	b = append(append(append(b, `,"epoch":"`...), p.Epoch...), '"')
	b = appendID(append(b, `,"start":`...), p.Start)
	b = append(p.Cursor().Append(append(b, `,"cursor":"`...)), '"')
	if p.Gap != nil {
		b = appendGap(append(b, `,"gap":`...), p.Gap)
	}
	return b
}
