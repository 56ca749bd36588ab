package pebblestore

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
)

func removedKey(system uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{spaceRemoved}, system)
}

func removedSystem(key []byte) (uint32, error) {
	if len(key) != 5 {
		return 0, fmt.Errorf("removal mark with a key of %d bytes is not of this program", len(key))
	}
	return binary.BigEndian.Uint32(key[1:]), nil
}

// Known is killfeed.Store's.
func (s *Store) Known(killmailID int64) (k killfeed.Known, ok bool, err error) {
	var key [9]byte
	putNumberKey(key[:], spaceKnown, uint64(killmailID))
	err = s.get(key[:], func(v []byte) (err error) { k, err = getKnown(key[:], v); return err })
	if errors.Is(err, pebble.ErrNotFound) {
		return killfeed.Known{}, false, nil
	}
	if err != nil {
		return killfeed.Known{}, false, fmt.Errorf("looking up killmail %d: %w", killmailID, err)
	}
	return k, true, nil
}

// Checkpoint is killfeed.Store's.
func (s *Store) Checkpoint(source string) (place string, err error) {
	key := placeKey(source)
	err = s.get(key, func(v []byte) error {
		v, err := open(key, v)
		place = string(v)
		return err
	})
	if errors.Is(err, pebble.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("reading the checkpoint of %s: %w", source, err)
	}
	return place, nil
}

// Removed is killfeed.Store's.
func (s *Store) Removed(t killfeed.Topic) killfeed.EventID {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	if t.Kind != killfeed.KindSystem {
		return s.index.first - 1
	}
	if p := s.index.systems[t.ID]; p != nil {
		return p.removed
	}
	return 0
}

// Systems is killfeed.Store's.
func (s *Store) Systems(dst []uint32) []uint32 {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	return append(dst, s.index.kept...)
}

// Mirrored is killfeed.Store's.
func (s *Store) Mirrored(seq uint64) killfeed.EventID {
	return s.index.mirrored(seq, s.State().MirrorSeq)
}

// ReceivedFrom is killfeed.Store's.
func (s *Store) ReceivedFrom(t time.Time) (killfeed.EventID, error) {
	// Receipt times are whole milliseconds: the first one at t or later is at t rounded up.
	return s.index.receivedFrom(t.Add(time.Millisecond - 1).UnixMilli()), nil
}

// Excess is killfeed.Store's.
func (s *Store) Excess(maxBytes int64) killfeed.EventID { return s.index.excess(maxBytes) }

// Find is killfeed.Store's.
func (s *Store) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	if s.format < formatVersion {
		if err := s.searchable(q.Positions); err != nil {
			return dst, err
		}
	}
	m := merge{store: s}
	defer m.close()
	x := &s.index
	x.mu.RLock()
	through := min(q.Through, x.head)
	for i, p := range q.Positions {
		m.addTopic(int32(i), p, through)
	}
	x.mu.RUnlock()
	if len(m.sources) == 0 {
		return dst, nil
	}
	dst, err := m.take(dst, q.Max)
	if err != nil {
		return dst, err
	}
	return dst, nil
}

// merge brings the topics of one search into one order.
type merge struct {
	store   *Store
	sources sources
	iter    *pebble.Iterator // made when the first chunk is read
}

// addTopic adds what the index has of a topic. The caller holds the index's lock; nothing that it leaves behind needs it,
// because lists in the index only grow at their end.
func (m *merge) addTopic(i int32, p killfeed.Position, through killfeed.EventID) {
	if p.After >= through {
		return
	}
	x := &m.store.index
	switch p.Topic.Kind {
	case killfeed.KindSystem:
		if sys := x.systems[p.Topic.ID]; sys != nil {
			if ids := sys.above(p.After, through); len(ids) > 0 {
				m.sources = append(m.sources, source{position: i, ids: ids})
			}
		}
	case killfeed.KindAll:
		next := max(p.After+1, x.first)
		m.sources = append(m.sources, source{position: i, refill: func() ([]killfeed.EventID, error) {
			var ids []killfeed.EventID
			for ; next <= through && len(ids) < 1024; next++ {
				ids = append(ids, next)
			}
			return ids, nil
		}})
	default:
		m.addDerived(i, p, through)
	}
}

// addDerived adds a topic of the index of participants: chunks on disk, then the generations in memory.
func (m *merge) addDerived(i int32, p killfeed.Position, through killfeed.EventID) {
	x := &m.store.index
	after := max(p.After, x.first-1)
	var fresh [][]killfeed.EventID
	inMemory := x.gens[0].from // everything from here on is in memory, written or not
	for _, g := range x.gens {
		from := max(after, inMemory-1)
		if ids := (&postings{ids: g.topics[p.Topic]}).above(from, through); len(ids) > 0 {
			fresh = append(fresh, ids)
		}
	}
	memory := func() ([]killfeed.EventID, error) {
		if len(fresh) == 0 {
			return nil, nil
		}
		ids := fresh[0]
		fresh = fresh[1:]
		return ids, nil
	}
	if after+1 >= inMemory {
		if len(fresh) > 0 {
			m.sources = append(m.sources, source{position: i, refill: memory})
		}
		return
	}
	chunks := &chunkReader{iter: m.iterator, topic: p.Topic, after: after, through: min(inMemory-1, through)}
	m.sources = append(m.sources, source{position: i, refill: func() ([]killfeed.EventID, error) {
		if chunks != nil {
			ids, err := chunks.next()
			if err != nil || ids != nil {
				return ids, err
			}
			chunks = nil
		}
		return memory()
	}})
}

func (m *merge) iterator() (*pebble.Iterator, error) {
	if m.iter == nil {
		it, err := m.store.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceChunk}, UpperBound: []byte{spaceChunk + 1}})
		if err != nil {
			return nil, err
		}
		m.iter = it
	}
	return m.iter, nil
}

func (m *merge) close() {
	if m.iter != nil {
		m.iter.Close() // its errors were returned by the reads
	}
}

// take appends the entries of the next n events.
func (m *merge) take(dst []killfeed.Entry, n int) ([]killfeed.Entry, error) {
	live := m.sources[:0]
	for _, c := range m.sources {
		ok, err := c.fill()
		if err != nil {
			return dst, err
		}
		if ok {
			live = append(live, c)
		}
	}
	m.sources = live
	heap.Init(&m.sources)
	from := len(dst)
	for events := 0; len(m.sources) > 0; {
		c := &m.sources[0]
		id := c.ids[0]
		if last := len(dst); last == from || dst[last-1].ID != id {
			if events == n {
				break
			}
			events++
		}
		dst = append(dst, killfeed.Entry{ID: id, Position: c.position})
		c.ids = c.ids[1:]
		ok, err := c.fill()
		if err != nil {
			return dst, err
		}
		if ok {
			heap.Fix(&m.sources, 0)
		} else {
			heap.Pop(&m.sources)
		}
	}
	return m.store.index.complete(dst, from)
}

// complete fills in what the index knows of the events. Those that were removed since are dropped.
func (x *index) complete(entries []killfeed.Entry, from int) ([]killfeed.Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	out := entries[:from]
	for _, e := range entries[from:] {
		if e.ID < x.first {
			continue
		}
		f := x.events.at(e.ID)
		e.Marks, e.KilledAt = f.marks, int64(f.killed)
		out = append(out, e)
	}
	return out, nil
}

// sources is a heap by next id, then by position.
type sources []source

func (h sources) Len() int { return len(h) }
func (h sources) Less(i, j int) bool {
	if a, b := h[i].ids[0], h[j].ids[0]; a != b {
		return a < b
	}
	return h[i].position < h[j].position
}
func (h sources) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sources) Push(x any)   { *h = append(*h, x.(source)) }
func (h *sources) Pop() any {
	old := *h
	x := old[len(old)-1]
	old[len(old)-1] = source{}
	*h = old[:len(old)-1]
	return x
}

// Read is killfeed.Store's.
func (s *Store) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	r := reader{store: s}
	defer r.close()
	// What is in the tail is taken at once, so that a long yield does not hold the lock.
	var fresh []killfeed.Event
	old := len(ids)
	x := &s.index
	x.mu.RLock()
	if n := len(x.tail); n > 0 {
		first := x.tail[0].ID
		for old > 0 && ids[old-1] >= first {
			old--
		}
		if old < len(ids) {
			fresh = make([]killfeed.Event, 0, len(ids)-old)
			for _, id := range ids[old:] {
				if i := id - first; i < killfeed.EventID(n) {
					fresh = append(fresh, x.tail[i])
				} else {
					fresh = append(fresh, killfeed.Event{ID: id})
				}
			}
		}
	}
	x.mu.RUnlock()
	for _, id := range ids[:old] {
		if !yield(r.event(id, old)) {
			return nil
		}
	}
	for _, e := range fresh {
		var err error
		if e.ReceivedAt.IsZero() {
			err = &killfeed.DamageError{ID: e.ID, Err: errMissing}
		}
		if !yield(e, err) {
			return nil
		}
	}
	return nil
}

var errMissing = errors.New("there is no such record")

// reader reads event records from the engine.
type reader struct {
	store *Store
	iter  *pebble.Iterator
	block []byte // where killmails are copied to, so that many share an allocation
}

// event reads one of n events; the ids of successive calls ascend.
func (r *reader) event(id killfeed.EventID, n int) (killfeed.Event, error) {
	key := numberKey(spaceEvent, uint64(id))
	var e killfeed.Event
	copyOut := func(v []byte) (err error) {
		if e, err = getEvent(key, v); err == nil {
			e.Killmail = r.keep(e.Killmail, n)
		}
		return err
	}
	err := r.value(key, n, copyOut)
	if err != nil {
		if errors.Is(err, pebble.ErrNotFound) {
			err = errMissing
		}
		return killfeed.Event{ID: id}, &killfeed.DamageError{ID: id, Err: err}
	}
	return e, nil
}

// value reads a record: by a point read when there are few, by one iterator that moves on when there are many.
func (r *reader) value(key []byte, n int, read func([]byte) error) error {
	if n < 8 {
		return r.store.get(key, read)
	}
	if r.iter == nil {
		it, err := r.store.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceEvent}, UpperBound: []byte{spaceEvent + 1}})
		if err != nil {
			return err
		}
		r.iter = it
	}
	if !r.iter.SeekGE(key) || string(r.iter.Key()) != string(key) {
		if err := r.iter.Error(); err != nil {
			return err
		}
		return pebble.ErrNotFound
	}
	v, err := r.iter.ValueAndErr()
	if err != nil {
		return err
	}
	return read(v)
}

const readBlock = 64 << 10

func (r *reader) keep(b []byte, n int) []byte {
	if n == 1 || len(b) > readBlock/4 {
		return append([]byte(nil), b...)
	}
	if len(b) > cap(r.block)-len(r.block) {
		r.block = make([]byte, 0, readBlock)
	}
	from := len(r.block)
	r.block = append(r.block, b...)
	return r.block[from:len(r.block):len(r.block)]
}

func (r *reader) close() {
	if r.iter != nil {
		r.iter.Close() // its errors were returned by the reads
	}
}

// Clients is killfeed.Store's. A damaged offset counts as 0, so that its client gets events again rather than misses some.
func (s *Store) Clients(yield func(killfeed.ClientRecord) bool) error {
	err := s.scan([]byte{spaceClient}, []byte{spaceClient + 1}, func(key, value []byte) error {
		seen, err := getClient(key, value)
		if err != nil {
			s.log.Error("a client's record is damaged; its times are lost", "client_id", string(key[1:]), "err", err)
			seen = killfeed.ClientSeen{Client: string(key[1:]), Created: time.UnixMilli(0).UTC(), At: time.Now().UTC()}
		}
		r := killfeed.ClientRecord{ClientSeen: seen, Offsets: map[killfeed.Topic]killfeed.EventID{}}
		prefix := offsetPrefix(seen.Client)
		err = s.scan(prefix, after(prefix), func(key, value []byte) error {
			t, rest, err := cutTopic(key[len(prefix):])
			if err != nil || len(rest) > 0 {
				return fmt.Errorf("key %q of an offset of client %q is not of this program", key, seen.Client)
			}
			at, err := getNumber(key, value)
			if err != nil {
				s.log.Error("an offset is damaged; its client gets events again", "client_id", seen.Client,
					"topic", t.String(), "err", err)
			}
			r.Offsets[t] = killfeed.EventID(at)
			return nil
		})
		if err == nil && !yield(r) {
			err = errStop
		}
		return err
	})
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

// errStop ends a scan early.
var errStop = errors.New("stop")
