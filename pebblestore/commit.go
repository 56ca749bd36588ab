package pebblestore

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
)

// Commit is killfeed.Store's.
func (s *Store) Commit(b *killfeed.Batch) error {
	healthy := s.disk.health
	if len(b.Events) == 0 {
		healthy = s.disk.stuck // offsets are written as long as they can be: no collection gives space back without them
	}
	if err := healthy(); err != nil {
		return err
	}
	pb := s.db.NewBatchWithSize(batchSize(b))
	defer pb.Close()
	summaries := make([]summary, len(b.Events))
	for i := range b.Events {
		summaries[i] = summarize(&b.Events[i].Event)
		if err := putNewEvent(pb, &b.Events[i], summaries[i]); err != nil {
			return fmt.Errorf("event %d: %w", b.Events[i].ID, err)
		}
	}
	for _, name := range b.Gone {
		from := offsetPrefix(name)
		if err := pb.DeleteRange(from, after(from), nil); err != nil {
			return err
		}
		if err := pb.Delete(clientKey(name), nil); err != nil {
			return err
		}
	}
	for _, o := range b.Offsets {
		key := appendTopic(offsetPrefix(o.Client), o.Topic)
		if err := pb.Set(key, putNumber(key, uint64(o.At)), nil); err != nil {
			return err
		}
	}
	for _, c := range b.Seen {
		key := clientKey(c.Client)
		if err := pb.Set(key, putClient(key, c), nil); err != nil {
			return err
		}
	}
	if err := putPlaces(pb, b.Checkpoints); err != nil {
		return err
	}
	if err := s.apply(pb, pebble.Sync); err != nil {
		return err
	}
	if len(b.Events) > 0 {
		s.publish(b.Events, summaries)
	}
	return nil
}

func batchSize(b *killfeed.Batch) int {
	n := 64
	for i := range b.Events {
		n += len(b.Events[i].Killmail) + 160
	}
	return min(n+64*(len(b.Offsets)+len(b.Seen)), math.MaxInt32)
}

func putNewEvent(b *pebble.Batch, e *killfeed.NewEvent, sum summary) error {
	op := b.SetDeferred(9, eventOverhead+len(e.Killmail))
	putNumberKey(op.Key, spaceEvent, uint64(e.ID))
	putEvent(op.Key, op.Value, &e.Event)
	if err := op.Finish(); err != nil {
		return err
	}
	op = b.SetDeferred(9, summarySize)
	putNumberKey(op.Key, spaceSummary, uint64(e.ID))
	putSummary(op.Key, op.Value, sum)
	if err := op.Finish(); err != nil {
		return err
	}
	if e.KillmailID == 0 {
		return nil
	}
	op = b.SetDeferred(9, knownSize)
	putNumberKey(op.Key, spaceKnown, uint64(e.KillmailID))
	putKnown(op.Key, op.Value, e.Known)
	return op.Finish()
}

func putPlaces(b *pebble.Batch, places []killfeed.Checkpoint) error {
	for _, c := range places {
		key := placeKey(c.Source)
		if err := b.Set(key, putPlace(key, c.Place), nil); err != nil {
			return err
		}
	}
	return nil
}

// publish makes committed events visible.
func (s *Store) publish(events []killfeed.NewEvent, sums []summary) {
	x := &s.index
	x.mu.Lock()
	for i := range events {
		x.add(&events[i], sums[i])
	}
	last := &events[len(events)-1]
	st := *s.state.Load()
	st.Head, st.MirrorSeq, st.LastReceived, st.Bytes = last.ID, last.MirrorSeq, last.ReceivedAt, x.bytes
	s.state.Store(&st)
	x.mu.Unlock()
	s.rotate()
}

// apply commits an engine batch. The engine reports a failed commit by its logger's Fatalf, or panics; both end writing.
func (s *Store) apply(b *pebble.Batch, opts *pebble.WriteOptions) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.disk.fail(fmt.Errorf("the engine panicked: %v", p))
		}
		if failed := s.disk.failed(); failed != nil {
			err = failed
		}
	}()
	if err := s.disk.failed(); err != nil {
		return err
	}
	return s.db.Apply(b, opts)
}

// Remove is killfeed.Store's.
func (s *Store) Remove(through killfeed.EventID) error {
	st := s.State()
	if through < st.First || through > st.Head {
		return fmt.Errorf("removing up to event %d, kept are %d to %d", through, st.First, st.Head)
	}
	end := killfeed.PastEnd{ID: through, MirrorSeq: st.MirrorSeq, ReceivedAt: st.LastReceived}
	last := s.index.removable(through)
	b := s.db.NewBatch()
	defer b.Close()
	if err := putRemoval(b, st, end, last); err != nil {
		return err
	}
	if err := s.apply(b, pebble.Sync); err != nil {
		return err
	}
	s.forget(end, last, s.index.legacy)
	return nil
}

// putRemoval adds to b what removes the events up to end, which has the state from then on if nothing is kept, and sets the
// systems' marks. Events and summaries go by two range deletions, chunks by one for all full buckets.
func putRemoval(b *pebble.Batch, st killfeed.State, end killfeed.PastEnd, marks map[uint32]killfeed.EventID) error {
	first := end.ID + 1
	if st.First < first {
		for _, space := range []byte{spaceEvent, spaceSummary} {
			if err := b.DeleteRange(numberKey(space, uint64(st.First)), numberKey(space, uint64(first)), nil); err != nil {
				return err
			}
		}
	}
	if from, to := bucketOf(st.First), bucketOf(first); from < to {
		// From the very first on: the writer of the index may have been late with some.
		if err := b.DeleteRange(bucketKey(0), bucketKey(to), nil); err != nil {
			return err
		}
	}
	for system, id := range marks {
		key := removedKey(system)
		if err := b.Set(key, putNumber(key, uint64(id)), nil); err != nil {
			return err
		}
	}
	if err := b.Set(keyFirst, putNumber(keyFirst, uint64(first)), nil); err != nil {
		return err
	}
	if end.ID < st.Head {
		return nil
	}
	return errors.Join(
		b.Set(keyMirror, putNumber(keyMirror, end.MirrorSeq), nil),
		b.Set(keyReceived, putNumber(keyReceived, uint64(end.ReceivedAt.UnixMilli())), nil))
}

// forget makes a removal visible.
func (s *Store) forget(end killfeed.PastEnd, marks map[uint32]killfeed.EventID, waits legacy) {
	x := &s.index
	x.mu.Lock()
	defer x.mu.Unlock()
	x.remove(end.ID, marks)
	x.legacy = waits
	st := *s.state.Load()
	st.First, st.Head, st.Bytes = x.first, x.head, x.bytes
	st.MirrorSeq, st.LastReceived = end.MirrorSeq, end.ReceivedAt
	s.state.Store(&st) // under the lock: whoever no longer finds the events sees the new first
}

// deletionDelay is how long removed space may wait until the engine is made to give it back without further writes.
const deletionDelay = 10 * time.Second

// after is the first key behind all that begin with prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
