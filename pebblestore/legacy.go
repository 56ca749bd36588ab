package pebblestore

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
)

// Past is killfeed.Store's.
func (s *Store) Past(after int64, upTo killfeed.EventID, yield func(killfeed.PastKillmail) bool) error {
	from := numberKey(spaceKnown, uint64(max(after, 0))+1)
	err := s.scan(from, []byte{spaceKnown + 1}, func(key, value []byte) error {
		id, err := keyNumber(key)
		if err != nil {
			return err
		}
		k, err := getKnown(key, value)
		if err != nil {
			return fmt.Errorf("the record of killmail %d is damaged, run killfeed check: %w", id, err)
		}
		if k.First <= upTo && !yield(killfeed.PastKillmail{ID: int64(id), Known: k}) {
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return fmt.Errorf("reading the killmails known behind %d: %w", after, err)
	}
	return nil
}

// PastSystems is killfeed.Store's.
func (s *Store) PastSystems(yield func(killfeed.PastSystem) bool) error {
	x := &s.index
	x.mu.RLock()
	marks := make([]killfeed.PastSystem, 0, len(x.systems))
	for system, p := range x.systems {
		if p.removed > 0 {
			marks = append(marks, killfeed.PastSystem{System: system, Last: p.removed})
		}
	}
	x.mu.RUnlock()
	slices.SortFunc(marks, func(a, b killfeed.PastSystem) int { return cmp.Compare(a.System, b.System) })
	for _, m := range marks {
		if !yield(m) {
			break
		}
	}
	return nil
}

// legacy is what adopted pieces say of events that are not past here yet: it waits for the piece that has the end.
type legacy struct {
	// upTo is the last event that any piece speaks of. It may be above the head, also behind the end: of a killmail with an
	// update that is yet to come. It only matters to Check.
	upTo killfeed.EventID
	// removed are the marks of systems. In force at once they would tell gaps of events that may still be read here.
	removed map[uint32]killfeed.EventID
}

// with is w and what a piece adds to it, in maps of its own.
func (w legacy) with(l *killfeed.Legacy) legacy {
	w.removed = maps.Clone(w.removed)
	if w.removed == nil {
		w.removed = map[uint32]killfeed.EventID{}
	}
	for _, k := range l.Killmails {
		w.upTo = max(w.upTo, k.Latest)
	}
	for _, m := range l.Systems {
		w.upTo = max(w.upTo, m.Last)
		w.removed[m.System] = max(w.removed[m.System], m.Last)
	}
	return w
}

func (w legacy) equal(other legacy) bool {
	return w.upTo == other.upTo && maps.Equal(w.removed, other.removed)
}

// putLegacy makes the record of w: upTo8, then system4 id8 for each mark, crc4.
func putLegacy(w legacy) []byte {
	v := binary.BigEndian.AppendUint64(nil, uint64(w.upTo))
	for _, system := range slices.Sorted(maps.Keys(w.removed)) {
		v = binary.BigEndian.AppendUint32(v, system)
		v = binary.BigEndian.AppendUint64(v, uint64(w.removed[system]))
	}
	v = append(v, 0, 0, 0, 0)
	seal(keyLegacy, v)
	return v
}

func getLegacy(value []byte) (w legacy, err error) {
	v, err := open(keyLegacy, value)
	if err != nil {
		return w, err
	}
	if len(v) < 8 || (len(v)-8)%12 != 0 {
		return w, fmt.Errorf("record of an adopted legacy with %d bytes is not of this program", len(v))
	}
	w.upTo, w.removed = killfeed.EventID(binary.BigEndian.Uint64(v)), map[uint32]killfeed.EventID{}
	for v = v[8:]; len(v) > 0; v = v[12:] {
		w.removed[binary.BigEndian.Uint32(v)] = killfeed.EventID(binary.BigEndian.Uint64(v[4:]))
	}
	return w, nil
}

// loadLegacy reads what waits for the end of an adopted legacy.
func (s *Store) loadLegacy() error {
	err := s.get(keyLegacy, func(v []byte) (err error) { s.index.legacy, err = getLegacy(v); return err })
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return fmt.Errorf("reading %s: %w", keyLegacy[1:], err)
	}
	return nil
}

// Adopt is killfeed.Store's. To the log, the end of a legacy is a removal, only that it may reach beyond the head.
func (s *Store) Adopt(l killfeed.Legacy) error {
	if err := s.disk.health(); err != nil {
		return err
	}
	st := s.State()
	if err := acceptable(&l, st); err != nil {
		return fmt.Errorf("adopting what another node knows of the past: %w", err)
	}
	b := s.db.NewBatch()
	defer b.Close()
	if err := s.putKnowns(b, l.Killmails); err != nil {
		return err
	}
	if err := putPlaces(b, l.Checkpoints); err != nil {
		return err
	}
	x := &s.index
	waits := x.legacy.with(&l)
	if l.At == nil {
		if !waits.equal(x.legacy) {
			if err := b.Set(keyLegacy, putLegacy(waits), nil); err != nil {
				return err
			}
		}
		if err := s.apply(b, pebble.Sync); err != nil {
			return err
		}
		x.mu.Lock()
		defer x.mu.Unlock()
		x.legacy = waits
		return nil
	}
	end := *l.At
	end.ReceivedAt = end.ReceivedAt.UTC().Truncate(time.Millisecond)
	if end.ID < st.Head || end.ID == 0 { // the log is beyond it, and stays as it is there
		end = killfeed.PastEnd{ID: max(end.ID, st.First-1), MirrorSeq: st.MirrorSeq, ReceivedAt: st.LastReceived}
	}
	marks := x.removable(end.ID)
	for system, id := range waits.removed {
		// The other node may have removed more while it was asked. What is kept here is not told to be lost.
		if id = min(id, end.ID); id > max(marks[system], s.Removed(killfeed.System(system))) {
			marks[system] = id
		}
	}
	waits.removed = nil
	put := b.Delete(keyLegacy, nil)
	if waits.upTo > max(end.ID, st.Head) {
		put = b.Set(keyLegacy, putLegacy(waits), nil)
	} else {
		waits.upTo = 0
	}
	if err := errors.Join(put, putRemoval(b, st, end, marks)); err != nil {
		return err
	}
	if err := s.apply(b, pebble.Sync); err != nil {
		return err
	}
	s.forget(end, marks, waits)
	return nil
}

// acceptable is nil, or what cannot be true of l in a log whose state is st. It comes from another machine, and stays for ever.
func acceptable(l *killfeed.Legacy, st killfeed.State) error {
	for _, k := range l.Killmails {
		if k.ID <= 0 || k.First == 0 || k.First > k.Latest {
			return fmt.Errorf("killmail %d, first event %d, latest event %d: no log has that", k.ID, k.First, k.Latest)
		}
	}
	for _, m := range l.Systems {
		if m.System == 0 || m.Last == 0 {
			return fmt.Errorf("system %d has lost event %d: no log has that", m.System, m.Last)
		}
	}
	switch at := l.At; {
	case at == nil || at.ID < st.Head:
	case at.MirrorSeq > uint64(at.ID):
		return fmt.Errorf("event %d has mirror_seq %d: no log has that", at.ID, at.MirrorSeq)
	case at.MirrorSeq < st.MirrorSeq || at.ReceivedAt.Before(st.LastReceived):
		return fmt.Errorf("event %d has mirror_seq %d and was received at %v, event %d here has %d and %v: the logs are not the same",
			at.ID, at.MirrorSeq, at.ReceivedAt, st.Head, st.MirrorSeq, st.LastReceived)
	}
	return nil
}

// putKnowns adds to b the killmails that are not known yet, or not in a version as new.
func (s *Store) putKnowns(b *pebble.Batch, killmails []killfeed.PastKillmail) error {
	put := make(map[int64]killfeed.Known, len(killmails))
	for _, k := range killmails {
		old, ok := put[k.ID]
		if !ok {
			var err error
			old, ok, err = s.Known(k.ID)
			if errors.Is(err, errChecksum) {
				s.log.Warn("the record of a killmail is damaged and is replaced by another node's", "killmail_id", k.ID, "err", err)
			} else if err != nil {
				return err
			}
		}
		// In one log it has one first event. If not, what this log says of its own events stays.
		if ok && (old.First != k.First || old.Latest >= k.Latest) {
			continue
		}
		put[k.ID] = k.Known
		op := b.SetDeferred(9, knownSize)
		putNumberKey(op.Key, spaceKnown, uint64(k.ID))
		putKnown(op.Key, op.Value, k.Known)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	return nil
}
