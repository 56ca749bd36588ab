package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"killfeed"
)

// Past implements killfeed.Store.
func (m *Model) Past(after int64, upTo killfeed.EventID, yield func(killfeed.PastKillmail) bool) error {
	m.mu.RLock()
	known, err := maps.Clone(m.log.known), m.err()
	m.mu.RUnlock()
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if id > after && known[id].First <= upTo && !yield(killfeed.PastKillmail{ID: id, Known: known[id]}) {
			break
		}
	}
	return nil
}

// PastSystems implements killfeed.Store.
func (m *Model) PastSystems(yield func(killfeed.PastSystem) bool) error {
	m.mu.RLock()
	last, err := map[uint32]killfeed.EventID{}, m.err()
	for _, e := range m.log.removed { // the greatest comes last
		for _, t := range e.topics {
			if t.Kind == killfeed.KindSystem {
				last[t.ID] = e.id
			}
		}
	}
	m.mu.RUnlock()
	if err != nil {
		return err
	}
	for _, system := range slices.Sorted(maps.Keys(last)) {
		if !yield(killfeed.PastSystem{System: system, Last: last[system]}) {
			break
		}
	}
	return nil
}

// Adopt implements killfeed.Store.
func (m *Model) Adopt(p killfeed.Legacy) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.log
	if err := cmp.Or(m.err(), l.acceptable(&p)); err != nil {
		return err
	}
	for _, k := range p.Killmails {
		if old, ok := l.known[k.ID]; !ok || old.First == k.First && old.Latest < k.Latest {
			l.known[k.ID] = k.Known
		}
	}
	for _, c := range p.Checkpoints {
		l.places[c.Source] = c.Place
	}
	for _, s := range p.Systems {
		l.pending = append(l.pending, removedEvent{s.Last, []killfeed.Topic{killfeed.System(s.System)}})
	}
	if p.At == nil {
		return nil
	}
	l.remove(p.At.ID)
	if p.At.ID >= l.head && p.At.ID > 0 {
		l.head, l.mirrorSeq = p.At.ID, p.At.MirrorSeq
		l.received = p.At.ReceivedAt.UTC().Truncate(time.Millisecond)
		l.removed = append(l.removed, removedEvent{id: l.head})
	}
	if len(l.removed) == 0 {
		l.pending = nil // nothing is past
		return nil
	}
	through := l.removed[len(l.removed)-1].id
	for _, e := range l.pending {
		e.id = min(e.id, through) // what is kept here is not told to be lost
		l.removed = append(l.removed, e)
	}
	l.pending = nil
	slices.SortStableFunc(l.removed, func(a, b removedEvent) int { return cmp.Compare(a.id, b.id) })
	return nil
}

// acceptable is nil, or what cannot be true of p in this log.
func (l *modelLog) acceptable(p *killfeed.Legacy) error {
	for _, k := range p.Killmails {
		if k.ID <= 0 || k.First == 0 || k.First > k.Latest {
			return fmt.Errorf("model: killmail %d cannot have the events %d to %d", k.ID, k.First, k.Latest)
		}
	}
	for _, s := range p.Systems {
		if s.System == 0 || s.Last == 0 {
			return fmt.Errorf("model: system %d cannot have lost event %d", s.System, s.Last)
		}
	}
	at := p.At
	if at != nil && at.ID >= l.head &&
		(at.MirrorSeq > uint64(at.ID) || at.MirrorSeq < l.mirrorSeq || at.ReceivedAt.Before(l.received)) {
		return fmt.Errorf("model: event %d is %+v, event %d has mirror_seq %d and came at %v", at.ID, *at, l.head, l.mirrorSeq, l.received)
	}
	return nil
}
