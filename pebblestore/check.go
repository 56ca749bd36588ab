package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"

	"killfeed"
)

// Checked tells what Check looked at.
type Checked struct {
	// Events is the number of kept events, First and Head bound them.
	Events      uint64
	First, Head killfeed.EventID
	// Killmails is the number of killmail ids known, Clients and Offsets that of clients and their offsets.
	Killmails, Clients, Offsets uint64
	// Problems is how many invariants do not hold.
	Problems int
}

// Check reads every record and verifies every invariant of the store, and calls report for each that does not hold. It may
// run on an open store that nobody writes to. progress, unless nil, is told of the events done so far.
//
// What holds in a whole store:
//
//   - every record matches its checksum
//   - the kept events are first to head without a hole, none is stored outside; receipt times never fall; mirror_seq counts
//     the events without marks
//   - each event's summary, killmail id, topics and system index agree with its record
//   - killmail ids, offsets and removal marks point at events that were given out; killmail ids adopted from another node may be
//     ahead
//   - each offset's client has a record
//
// In a directory of format 1, opened read-only, the index of participants agrees in the way of that format.
func (s *Store) Check(ctx context.Context, report func(problem string), progress func(done, total uint64)) (Checked, error) {
	st := s.State()
	s.index.mu.RLock()
	indexed, legacy := s.index.indexed, s.index.legacy.upTo
	s.index.mu.RUnlock()
	c := checker{
		store: s, state: st, indexed: indexed, spoken: max(st.Head, legacy), progress: progress, seed: maphash.MakeSeed(),
		result: Checked{First: st.First, Head: st.Head, Events: uint64(st.Head + 1 - st.First)},
	}
	c.report = func(format string, args ...any) {
		c.result.Problems++
		report(fmt.Sprintf(format, args...))
	}
	for _, step := range []func(context.Context) error{c.events, c.outside, c.killmails, c.chunks, c.memory, c.clients, c.offsets, c.marks} {
		if err := step(ctx); ctx.Err() != nil {
			return c.result, context.Cause(ctx)
		} else if err != nil {
			c.report("%v", err) // the other steps may find more
		}
	}
	return c.result, nil
}

type checker struct {
	store    *Store
	state    killfeed.State
	indexed  killfeed.EventID // what was in chunks on disk when the check began; the writer may be going on
	spoken   killfeed.EventID // the last event that records may speak of: the head, or what was adopted is ahead of it
	report   func(format string, args ...any)
	progress func(done, total uint64)
	result   Checked

	// Sums over (topic, event) pairs, one hash each, added up: equal sums mean equal sets, whatever the order, without
	// holding either set in memory.
	seed    maphash.Seed
	written pairSum // derived topics of events whose chunks are on disk, as the records say
	fresh   pairSum // derived topics of the events behind
	systems pairSum
	bytes   int64
	first   uint64 // kept events that brought their killmail id
}

type pairSum struct{ count, sum uint64 }

func (c *checker) add(p *pairSum, t killfeed.Topic, id killfeed.EventID) {
	p.count++
	p.sum += maphash.Comparable(c.seed, struct {
		t  killfeed.Topic
		id killfeed.EventID
	}{t, id})
}

// events reads every event with what belongs to it.
func (c *checker) events(ctx context.Context) error {
	s, expect := c.store, c.state.First
	var prev killfeed.Event
	missing := func(upTo killfeed.EventID) {
		for ; expect < upTo; expect++ {
			c.report("event %d is missing", expect)
			prev = killfeed.Event{}
		}
	}
	one := func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		id, err := keyNumber(key)
		if err != nil {
			return err
		}
		missing(killfeed.EventID(id))
		expect++
		c.bytes += int64(len(value))
		e, err := getEvent(key, value)
		if err != nil {
			c.report("event %d is damaged: %v", id, err)
			prev = killfeed.Event{}
			return nil
		}
		c.event(&e, &prev)
		prev = e
		prev.Killmail = nil // it is only valid for now
		if c.progress != nil && id%1024 == 0 {
			c.progress(id-uint64(c.state.First), c.result.Events)
		}
		return nil
	}
	for unreadable := 0; ; unreadable++ {
		err := s.scan(numberKey(spaceEvent, uint64(expect)), numberKey(spaceEvent, uint64(c.state.Head)+1), one)
		if err == nil {
			break
		}
		if ctx.Err() != nil || unreadable == maxDamage || expect > c.state.Head {
			return fmt.Errorf("reading events from %d on: %w", expect, err)
		}
		// A block of the engine's is damaged. What is behind it may be whole.
		c.report("event %d cannot be read: %v", expect, err)
		prev = killfeed.Event{}
		expect++
	}
	missing(c.state.Head + 1)
	if c.progress != nil {
		c.progress(c.result.Events, c.result.Events)
	}
	return nil
}

// event checks one event against what stands before it, and against what was derived from it.
func (c *checker) event(e, prev *killfeed.Event) {
	s := c.store
	if prev.ID != 0 {
		if e.ReceivedAt.Before(prev.ReceivedAt) {
			c.report("event %d was received at %v, before event %d at %v", e.ID, e.ReceivedAt, prev.ID, prev.ReceivedAt)
		}
		want := prev.MirrorSeq
		if e.Marks == 0 {
			want++
		}
		if e.MirrorSeq != want {
			c.report("event %d has mirror_seq %d, want %d", e.ID, e.MirrorSeq, want)
		}
	}
	key := numberKey(spaceSummary, uint64(e.ID))
	var sum summary
	err := s.get(key, func(v []byte) (err error) { sum, err = getSummary(key, v); return err })
	switch {
	case err != nil:
		c.report("event %d has no summary: %v", e.ID, err)
	case sum != summarize(e):
		c.report("event %d has the summary %+v, want %+v", e.ID, sum, summarize(e))
	}
	k, err := killfeed.NewKillmail(e.SystemID, e.Killmail)
	if err != nil {
		c.report("event %d holds no killmail: %v", e.ID, err)
		return
	}
	if k.ID != e.KillmailID {
		c.report("event %d says it has killmail %d, its killmail is %d", e.ID, e.KillmailID, k.ID)
	}
	if !k.Time.Equal(e.KilledAt) {
		c.report("event %d says the kill was at %v, its killmail says %v", e.ID, e.KilledAt, k.Time)
	}
	if !bytes.Equal(k.JSON, e.Killmail) {
		c.report("event %d is not in canonical form", e.ID)
	}
	c.known(e, k)
	for _, t := range k.Topics {
		switch {
		case t.Kind == killfeed.KindSystem:
			c.add(&c.systems, t, e.ID)
		case e.ID > c.indexed:
			c.add(&c.fresh, t, e.ID)
		case s.format == 1:
			if t, once := plain(t, k.Topics); once {
				c.add(&c.written, t, e.ID)
			}
		default:
			c.add(&c.written, t, e.ID)
		}
	}
}

// known checks an event against the record of its killmail id.
func (c *checker) known(e *killfeed.Event, k *killfeed.Killmail) {
	if e.KillmailID == 0 {
		return
	}
	known, ok, err := c.store.Known(e.KillmailID)
	update := e.Marks.Has(killfeed.MarkUpdate)
	if !update {
		c.first++
	}
	switch {
	case err != nil:
		c.report("event %d: %v", e.ID, err)
	case !ok:
		c.report("event %d brought killmail %d, which is not known", e.ID, e.KillmailID)
	case !update && known.First != e.ID, update && known.First >= e.ID:
		c.report("killmail %d is known from event %d, but event %d (marks %b) has it too", e.KillmailID, known.First, e.ID, e.Marks)
	case known.Latest < e.ID:
		c.report("the newest version of killmail %d is event %d, not %d as its record says", e.KillmailID, e.ID, known.Latest)
	case known.Latest == e.ID && known.Digest != k.Digest.Over(known.Digest):
		c.report("killmail %d has digest %x, its newest version, event %d, has %x", e.KillmailID, known.Digest, e.ID, k.Digest)
	}
}

// outside checks that nothing is stored beyond the log's bounds.
func (c *checker) outside(context.Context) error {
	for _, space := range []byte{spaceEvent, spaceSummary} {
		for _, r := range [][2][]byte{
			{{space}, numberKey(space, uint64(c.state.First))},
			{numberKey(space, uint64(c.state.Head)+1), {space + 1}},
		} {
			err := c.store.scan(r[0], r[1], func(key, _ []byte) error {
				c.report("key %q is outside the kept events, %d to %d", key, c.state.First, c.state.Head)
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) killmails(ctx context.Context) error {
	var kept uint64
	err := c.store.scan([]byte{spaceKnown}, []byte{spaceKnown + 1}, func(key, value []byte) error {
		c.result.Killmails++
		id, err := keyNumber(key)
		if err != nil {
			return err
		}
		k, err := getKnown(key, value)
		switch {
		case err != nil:
			c.report("the record of killmail %d is damaged: %v", id, err)
		case k.First == 0 || k.First > k.Latest || k.Latest > c.spoken:
			c.report("killmail %d points at events %d and %d, the head is %d", id, k.First, k.Latest, c.state.Head)
		case k.First >= c.state.First && k.First <= c.state.Head:
			kept++
		}
		return ctx.Err()
	})
	if err == nil && kept != c.first {
		c.report("%d killmail ids point at kept events, %d kept events brought one", kept, c.first)
	}
	return err
}

// chunks adds up what the index of participants has on disk.
func (c *checker) chunks(ctx context.Context) error {
	var got pairSum
	var ids []killfeed.EventID
	err := c.store.scan([]byte{spaceChunk}, []byte{spaceChunk + 1}, func(key, value []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(key) < 5+1+8 {
			c.report("index key %q is not of this program", key)
			return nil
		}
		t, rest, err := cutTopic(key[5:])
		if err != nil || len(rest) != 8 {
			c.report("index key %q is not of this program", key)
			return nil
		}
		if ids, err = decodeChunk(ids[:0], key, value, 0); err != nil {
			c.report("index chunk of %s from event %d on is damaged: %v", t, binary.BigEndian.Uint64(rest), err)
			return nil
		}
		bucket := binary.BigEndian.Uint32(key[1:])
		for _, id := range ids {
			if bucketOf(id) != bucket {
				c.report("event %d stands in bucket %d of the index", id, bucket)
			}
			if id >= c.state.First && id <= c.indexed {
				c.add(&got, t, id)
			}
		}
		return nil
	})
	if err == nil && got != c.written {
		c.report("the index of participants up to event %d has %d entries, the records have %d, or they differ",
			c.indexed, got.count, c.written.count)
	}
	return err
}

// memory checks the indexes in memory.
func (c *checker) memory(context.Context) error {
	x := &c.store.index
	x.mu.RLock()
	defer x.mu.RUnlock()
	var systems, fresh pairSum
	var kept []uint32
	for id, p := range x.systems {
		if len(p.ids) > 0 {
			kept = append(kept, id)
		}
		for _, e := range p.ids {
			c.add(&systems, killfeed.System(id), e)
		}
		if p.removed >= x.first {
			c.report("system %d has lost event %d, which is kept", id, p.removed)
		}
	}
	for _, g := range x.gens {
		for t, ids := range g.topics {
			for _, id := range ids {
				if id > c.indexed && id >= x.first {
					c.add(&fresh, t, id)
				}
			}
		}
	}
	if systems != c.systems {
		c.report("the index of systems has %d entries, the records have %d, or they differ", systems.count, c.systems.count)
	}
	if slices.Sort(kept); !slices.Equal(kept, x.kept) {
		c.report("%d systems have kept events, the index lists %d, or they differ", len(kept), len(x.kept))
	}
	if fresh != c.fresh {
		c.report("the index of participants behind event %d has %d entries, the records have %d, or they differ",
			c.indexed, fresh.count, c.fresh.count)
	}
	if x.bytes != c.bytes {
		c.report("the kept events take %d bytes, the index counted %d", c.bytes, x.bytes)
	}
	return nil
}

func (c *checker) clients(ctx context.Context) error {
	return c.store.scan([]byte{spaceClient}, []byte{spaceClient + 1}, func(key, value []byte) error {
		c.result.Clients++
		if _, err := getClient(key, value); err != nil {
			c.report("the record of client %q is damaged: %v", key[1:], err)
		}
		return ctx.Err()
	})
}

func (c *checker) offsets(ctx context.Context) error {
	var last []byte
	return c.store.scan([]byte{spaceOffset}, []byte{spaceOffset + 1}, func(key, value []byte) error {
		c.result.Offsets++
		name, rest, ok := bytes.Cut(key[1:], []byte{0})
		if !ok {
			c.report("offset key %q is not of this program", key)
			return nil
		}
		if !bytes.Equal(name, last) {
			last = bytes.Clone(name)
			if err := c.store.get(clientKey(string(name)), func([]byte) error { return nil }); err != nil {
				c.report("client %q has offsets but no record: %v", name, err)
			}
		}
		t, rest, err := cutTopic(rest)
		if err != nil || len(rest) > 0 {
			c.report("offset key %q is not of this program", key)
			return nil
		}
		at, err := getNumber(key, value)
		switch {
		case err != nil:
			c.report("the offset of client %q on %s is damaged: %v", name, t, err)
		case killfeed.EventID(at) > c.state.Head:
			c.report("client %q stands at event %d on %s, the head is %d", name, at, t, c.state.Head)
		}
		return ctx.Err()
	})
}

// marks checks what retention notes.
func (c *checker) marks(context.Context) error {
	return c.store.scan([]byte{spaceRemoved}, []byte{spaceRemoved + 1}, func(key, value []byte) error {
		system, err := removedSystem(key)
		if err != nil {
			c.report("removal key %q is not of this program", key)
			return nil
		}
		id, err := getNumber(key, value)
		switch {
		case err != nil:
			c.report("the removal mark of system %d is damaged: %v", system, err)
		case killfeed.EventID(id) >= c.state.First:
			c.report("system %d has lost event %d, the first kept is %d", system, id, c.state.First)
		}
		return nil
	})
}
