package pebblestore

import (
	"slices"
	"sync"

	"killfeed"
)

// index is what the store keeps in memory of the log.
//
// It changes only in Commit, Remove, Adopt and Open, which run one at a time, and only after the bytes are on disk. Everybody
// else reads.
type index struct {
	mu sync.RWMutex // guards all fields; held while a group is added, or for one search

	// first and head bound the kept events, as in killfeed.State.
	first, head killfeed.EventID
	events      facts
	systems     map[uint32]*postings
	kept        []uint32 // systems that have kept events, ascending
	bytes       int64    // of the kept event records

	// tail holds the newest events whole, the last one being head.
	tail      []killfeed.Event
	tailBytes int
	tailLimit int

	// legacy waits for the end of what is adopted: see legacy.go.
	legacy legacy

	// Who took part, and labels: see chunks.go.
	indexed killfeed.EventID // what is up to here is in chunks on disk
	gens    []*generation    // covers everything above indexed, oldest first; never empty
}

// postings are the events of one solar system.
type postings struct {
	ids     []killfeed.EventID // kept ones, ascending
	removed killfeed.EventID   // the greatest removed one
}

// above returns the ids that are above after and not above through.
func (p *postings) above(after, through killfeed.EventID) []killfeed.EventID {
	if n := len(p.ids); n == 0 || p.ids[n-1] <= after { // nothing new: the common case, without a search
		return nil
	}
	from, _ := slices.BinarySearch(p.ids, after+1)
	to, _ := slices.BinarySearch(p.ids[from:], through+1)
	return p.ids[from : from+to]
}

// fact is what can be told of an event without reading it. It is kept small: there is one for each event.
type fact struct {
	received int64  // Unix milliseconds
	killed   uint32 // Unix seconds, until 2106; 0: not told
	bytes    uint32 // of the event record
	mirror   uint32 // mirror_seq without its upper half: 97 million killmails were there in 2026
	marks    killfeed.Marks
}

// facts holds a fact for each kept event. It is a list of blocks, because one slice would be copied whole when it grows.
type facts struct {
	base   killfeed.EventID // id of blocks[0][0]
	blocks [][]fact
	// sums are the bytes of whole blocks, for Excess.
	sums []int64
}

const factBlock = 4096

func (f *facts) at(id killfeed.EventID) *fact {
	i := id - f.base
	return &f.blocks[i/factBlock][i%factBlock]
}

// add appends the fact of id, which follows the one before.
func (f *facts) add(id killfeed.EventID, v fact) {
	if len(f.blocks) == 0 {
		f.base = id
	}
	if n := len(f.blocks); n == 0 || len(f.blocks[n-1]) == factBlock {
		f.blocks = append(f.blocks, make([]fact, 0, factBlock))
		f.sums = append(f.sums, 0)
	}
	last := len(f.blocks) - 1
	f.blocks[last] = append(f.blocks[last], v)
	f.sums[last] += int64(v.bytes)
}

// trim drops whole blocks below first.
func (f *facts) trim(first killfeed.EventID) {
	n := 0
	for n < len(f.blocks) && f.base+killfeed.EventID(n*factBlock+len(f.blocks[n])) <= first && len(f.blocks[n]) == factBlock {
		n++
	}
	f.blocks = slices.Delete(f.blocks, 0, n)
	f.sums = slices.Delete(f.sums, 0, n)
	f.base += killfeed.EventID(n * factBlock)
}

// add makes an event visible. The caller holds mu.
func (x *index) add(e *killfeed.NewEvent, s summary) {
	x.addFact(e.ID, s)
	x.tail = append(x.tail, e.Event)
	x.tailBytes += len(e.Killmail)
	drop := 0
	for x.tailBytes > x.tailLimit && drop < len(x.tail)-1 || len(x.tail)-drop > maxTail {
		x.tailBytes -= len(x.tail[drop].Killmail)
		x.tail[drop] = killfeed.Event{} // let go of the bytes
		drop++
	}
	x.tail = x.tail[drop:]
	x.gens[len(x.gens)-1].add(e.ID, e.Topics)
}

// maxTail bounds the tail in events, as tailLimit does in bytes.
const maxTail = 16_384

// addFact adds an event to all that is made of its summary. The caller holds mu, or is Open.
func (x *index) addFact(id killfeed.EventID, s summary) {
	x.events.add(id, fact{received: s.received, killed: clampSeconds(s.killed), bytes: s.bytes, mirror: uint32(s.mirror), marks: s.marks})
	x.bytes += int64(s.bytes)
	if s.system != 0 {
		p := x.system(s.system)
		if p.ids = append(p.ids, id); len(p.ids) == 1 {
			i, _ := slices.BinarySearch(x.kept, s.system)
			x.kept = slices.Insert(x.kept, i, s.system)
		}
	}
	x.head = id
}

func (x *index) system(id uint32) *postings {
	p := x.systems[id]
	if p == nil {
		p = &postings{}
		x.systems[id] = p
	}
	return p
}

// clampSeconds keeps the time of a killmail in 32 bits. Times outside belong to no real killmail; they count as oldest or
// newest.
func clampSeconds(unix int64) uint32 {
	if unix == 0 {
		return 0
	}
	return uint32(min(max(unix, 1), 1<<32-1))
}

// removable returns, for each system that loses events up to and including through, the greatest of them.
func (x *index) removable(through killfeed.EventID) map[uint32]killfeed.EventID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := map[uint32]killfeed.EventID{}
	for system, p := range x.systems {
		if len(p.ids) == 0 || p.ids[0] > through {
			continue
		}
		n, _ := slices.BinarySearch(p.ids, through+1)
		out[system] = p.ids[n-1]
	}
	return out
}

// remove forgets the events up to and including through, and sets the systems' marks: last has those of removable, or higher
// ones up to through. When through is above the head, the next event comes behind it. The caller holds mu.
func (x *index) remove(through killfeed.EventID, last map[uint32]killfeed.EventID) {
	emptied := false
	for system, removed := range last {
		p := x.system(system)
		n, _ := slices.BinarySearch(p.ids, removed+1)
		p.removed = removed
		p.ids = p.ids[n:]
		emptied = emptied || len(p.ids) == 0
		if cap(p.ids) > 2*len(p.ids)+8 { // the front of the array is garbage that the slice still holds
			p.ids = slices.Clone(p.ids)
		}
	}
	if emptied {
		x.kept = slices.DeleteFunc(x.kept, func(id uint32) bool { return len(x.systems[id].ids) == 0 })
	}
	for id := x.first; id <= min(through, x.head); id++ {
		x.bytes -= int64(x.events.at(id).bytes)
	}
	x.first = through + 1
	if through > x.head {
		// Places in facts follow from ids, so these cannot go on behind a hole. A generation can.
		x.head, x.events = through, facts{}
	}
	x.events.trim(x.first)
	drop := 0
	for drop < len(x.tail) && x.tail[drop].ID <= through {
		x.tailBytes -= len(x.tail[drop].Killmail)
		x.tail[drop] = killfeed.Event{}
		drop++
	}
	x.tail = x.tail[drop:]
}

// excess is Store.Excess.
func (x *index) excess(maxBytes int64) killfeed.EventID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	left := x.bytes
	if left <= maxBytes {
		return 0
	}
	// Whole blocks first, then event by event within the block that crosses the limit.
	id := x.first
	for b := range x.events.blocks {
		end := x.events.base + killfeed.EventID(b*factBlock+len(x.events.blocks[b]))
		if b > 0 && left-x.events.sums[b] > maxBytes { // block 0 may be partly removed, so its sum says too much
			left -= x.events.sums[b]
			id = end
			continue
		}
		for ; id < end; id++ {
			if left <= maxBytes {
				return id - 1
			}
			left -= int64(x.events.at(id).bytes)
		}
	}
	return x.head
}

// mirrored is Store.Mirrored: the first event with that mirror_seq is the one that raised it. last is the head's.
func (x *index) mirrored(seq, last uint64) killfeed.EventID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if seq == 0 || seq > last || x.first > x.head {
		return 0
	}
	after := uint32(last - seq) // how many came later; differences are exact as long as fewer are kept than fit 32 bits
	lo, hi := x.first, x.head
	for lo < hi {
		mid := lo + (hi-lo)/2
		if uint32(last)-x.events.at(mid).mirror <= after {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	if f := x.events.at(lo); uint32(last)-f.mirror != after || f.marks&(killfeed.MarkUpdate|killfeed.MarkBackfill) != 0 {
		return 0 // it was removed, or cannot be read
	}
	return lo
}

// receivedFrom returns the first kept event received at t (Unix milliseconds) or later, or head + 1.
func (x *index) receivedFrom(t int64) killfeed.EventID {
	x.mu.RLock()
	defer x.mu.RUnlock()
	lo, hi := x.first, x.head+1
	for lo < hi {
		mid := lo + (hi-lo)/2
		if x.events.at(mid).received < t {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
