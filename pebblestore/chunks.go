package pebblestore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
)

// The index of participants and labels.
//
// It has the topics that killmails have: who and what was lost, and who and what killed, apart. A reader who wants both asks for
// both.
//
// A killmail is on some 15 topics beside its system; writing a key for each would make that index the larger part of every
// commit. It is derived from the log, so it is kept in memory for the newest events, and a full generation is written by a
// goroutine of its own, one chunk of ids for each topic. A crash loses what was not written; open makes it again from the
// log.

// generation is the index of a run of events.
type generation struct {
	from, to killfeed.EventID // to is from-1 while it is empty
	topics   map[killfeed.Topic][]killfeed.EventID
	// written: the chunks are on disk. It is kept for readers that are nearly up to date until the next one is full.
	written bool
}

const (
	// generationSize is how many events make a full generation.
	generationSize = 4096
	// maxGenerations bounds what is in memory: a commit waits for the writer when that many are not written.
	maxGenerations = 4
)

func newGeneration(from killfeed.EventID) *generation {
	return &generation{from: from, to: from - 1, topics: map[killfeed.Topic][]killfeed.EventID{}}
}

func (g *generation) add(id killfeed.EventID, topics []killfeed.Topic) {
	for _, t := range topics {
		if t.Kind != killfeed.KindSystem && t.Kind != killfeed.KindAll {
			g.topics[t] = append(g.topics[t], id)
		}
	}
	g.to = id
}

// rotate closes the current generation when it is full and wakes the writer. When the writer is far behind it waits. It
// runs in Commit.
func (s *Store) rotate() {
	x := &s.index
	x.mu.Lock()
	cur := x.gens[len(x.gens)-1]
	if int(cur.to-cur.from+1) < s.generation {
		x.mu.Unlock()
		return
	}
	x.gens = slices.DeleteFunc(x.gens, func(g *generation) bool { return g.written })
	x.gens = append(x.gens, newGeneration(cur.to+1))
	waiting := len(x.gens)
	x.mu.Unlock()
	select {
	case s.full <- struct{}{}:
	default:
	}
	if waiting > maxGenerations {
		select {
		case <-s.drained:
		case <-s.disk.closing:
		}
	}
}

// writeChunks is the writer's goroutine.
func (s *Store) writeChunks() {
	for {
		select {
		case <-s.full:
		case <-s.disk.closing:
			return
		}
		for {
			g := s.nextGeneration()
			if g == nil {
				break
			}
			if err := s.writeGeneration(g); err != nil {
				// The log is whole without it: the chunks are made again at the next open.
				s.log.Error("writing the index of participants failed; it is kept in memory", "err", err)
				g = nil
			}
			select {
			case s.drained <- struct{}{}: // also after a failure: nobody shall wait for what does not come
			default:
			}
			if g == nil {
				break
			}
		}
	}
}

// nextGeneration is the oldest full one that is not written.
func (s *Store) nextGeneration() *generation {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	for _, g := range s.index.gens[:len(s.index.gens)-1] {
		if !g.written {
			return g
		}
	}
	return nil
}

// writeGeneration writes the chunks of g, which does not change any more, and then notes how far the index is written: in
// the same batch, so that after a crash the two agree. It is not synced: what is lost is made again.
func (s *Store) writeGeneration(g *generation) error {
	if g.to >= g.from {
		b := s.db.NewBatch()
		defer b.Close()
		type run struct {
			key []byte
			ids []killfeed.EventID
		}
		s.index.mu.RLock()
		first := s.index.first // events before it were removed, and their chunks would stay for ever
		s.index.mu.RUnlock()
		runs := make([]run, 0, len(g.topics))
		for t, ids := range g.topics {
			removed, _ := slices.BinarySearch(ids, first)
			for ids = ids[removed:]; len(ids) > 0; { // a chunk stays within its bucket
				bucket := bucketOf(ids[0])
				n, _ := slices.BinarySearch(ids, killfeed.EventID(bucket+1)<<bucketBits)
				runs = append(runs, run{chunkKey(bucket, t, ids[0]), ids[:n]})
				ids = ids[n:]
			}
		}
		slices.SortFunc(runs, func(a, b run) int { return bytes.Compare(a.key, b.key) })
		for _, r := range runs {
			if err := b.Set(r.key, encodeChunk(r.key, r.ids), nil); err != nil {
				return err
			}
		}
		if err := b.Set(keyIndexed, putNumber(keyIndexed, uint64(g.to)), nil); err != nil {
			return err
		}
		if err := s.apply(b, pebble.NoSync); err != nil {
			return err
		}
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	g.written = true
	s.index.indexed = max(s.index.indexed, g.to)
	return nil
}

// source yields the ids of one topic, ascending.
type source struct {
	position int32
	ids      []killfeed.EventID // what can be yielded without looking further
	refill   func() ([]killfeed.EventID, error)
}

// fill makes sure that ids has something, and tells whether there is anything left.
func (c *source) fill() (bool, error) {
	for len(c.ids) == 0 {
		if c.refill == nil {
			return false, nil
		}
		ids, err := c.refill()
		if err != nil {
			return false, err
		}
		if ids == nil {
			c.refill = nil
		}
		c.ids = ids
	}
	return true, nil
}

// chunkReader reads one topic's chunks from disk, bucket by bucket. The iterator is shared by the readers of one search.
type chunkReader struct {
	iter           func() (*pebble.Iterator, error)
	topic          killfeed.Topic
	after, through killfeed.EventID // through is at most what is written
	from           []byte           // where to seek next; nil at the beginning
}

// next returns the ids of the next chunk that has any above after, or nil at the end.
func (r *chunkReader) next() ([]killfeed.EventID, error) {
	it, err := r.iter()
	if err != nil {
		return nil, err
	}
	for r.after < r.through {
		bucket := bucketOf(r.after + 1)
		prefix := appendTopic(bucketKey(bucket), r.topic)
		if r.from == nil {
			r.from = prefix
		}
		if !it.SeekGE(r.from) || !bytes.HasPrefix(it.Key(), prefix) || len(it.Key()) != len(prefix)+8 {
			if err := it.Error(); err != nil {
				return nil, err
			}
			r.from = nil
			r.after = killfeed.EventID(bucket+1)<<bucketBits - 1 // on to the next bucket
			continue
		}
		key := bytes.Clone(it.Key())
		r.from = append(key, 0)
		ids, err := decodeChunk(nil, key, it.Value(), r.after)
		if err != nil {
			return nil, fmt.Errorf("index chunk of %s from event %d on: %w", r.topic,
				binary.BigEndian.Uint64(key[len(key)-8:]), err)
		}
		if n, _ := slices.BinarySearch(ids, r.through+1); n < len(ids) {
			ids = ids[:n]
		}
		if len(ids) > 0 {
			r.after = ids[len(ids)-1]
			if bucketOf(r.after+1) != bucket {
				r.from = nil
			}
			return ids, nil
		}
	}
	return nil, nil
}

// progressEvery is how often restoreIndex, which is done in a moment but after an upgrade, tells how far it is.
const progressEvery = 5 * time.Second

// restoreIndex makes the generations of events that are in no chunk on disk. Each is on disk before the next one is begun, so
// that an open that is cut off is not made again from the start.
func (s *Store) restoreIndex() error {
	x := &s.index
	from := max(x.indexed+1, x.first)
	g := newGeneration(from)
	start, begun := from, time.Now()
	told := begun
	for from <= x.head {
		ids := make([]killfeed.EventID, 0, 512)
		for ; from <= x.head && len(ids) < cap(ids); from++ {
			ids = append(ids, from)
		}
		err := s.Read(ids, func(e killfeed.Event, err error) bool {
			if err == nil {
				if k, err := killfeed.NewKillmail(e.SystemID, e.Killmail); err == nil {
					g.add(e.ID, k.Topics)
				}
			}
			g.to = e.ID
			return true
		})
		if err != nil {
			return fmt.Errorf("indexing events up to %d: %w", from-1, err)
		}
		if now := time.Now(); now.Sub(told) >= progressEvery {
			s.log.Info("making the index of participants from the log", "events", from-start, "of", x.head+1-start)
			told = now
		}
		if int(g.to-g.from+1) >= s.generation && !s.readOnly {
			x.gens = append(x.gens, g)
			if err := s.writeGeneration(g); err != nil {
				return err
			}
			x.gens = x.gens[:0]
			g = newGeneration(from)
		}
	}
	x.gens = append(x.gens, g)
	if n := from - start; n >= killfeed.EventID(s.generation) {
		s.log.Info("the index of participants is made", "events", n, "took", time.Since(begun).Round(time.Millisecond))
	}
	return nil
}
