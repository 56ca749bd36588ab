package killfeed

import (
	"sync"
	"sync/atomic"
)

// leafCache has the leaves of the newest events, so that a thousand subscribers with a filter each look into a killmail once.
// It may forget anything at any time: an event has one slot, that of its id, and who finds another one there takes its place.
type leafCache struct {
	slots [1024]atomic.Pointer[cachedLeaves]
}

type cachedLeaves struct {
	id     EventID
	once   sync.Once
	leaves leaves
}

// maxCachedLeaves bounds the killmails whose leaves are kept, in bytes: they keep the killmail too.
const maxCachedLeaves = 64 << 10

// of returns the leaves of an event, which nobody may change. Those of an older or large one are read into room.
func (c *leafCache) of(e *Event, room *leaves, newest bool) *leaves {
	if !newest || len(e.Killmail) > maxCachedLeaves {
		room.read(e)
		return room
	}
	slot := &c.slots[e.ID%EventID(len(c.slots))]
	for {
		at := slot.Load()
		if at == nil || at.id != e.ID {
			mine := &cachedLeaves{id: e.ID}
			if !slot.CompareAndSwap(at, mine) {
				continue
			}
			at = mine
		}
		at.once.Do(func() { at.leaves.read(e) })
		return &at.leaves
	}
}
