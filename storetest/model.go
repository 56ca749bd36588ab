package storetest

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"time"

	"killfeed"
)

// Model is a killfeed.Store as naive as can be: slices and maps in memory, and a full scan for every question. It is what
// other stores are compared with, and good enough to test what needs a store.
//
// It keeps everything until the last reference to it is gone; see Reopen.
type Model struct {
	mu     sync.RWMutex // guards all; held through one call, never through a callback
	closed bool
	log    *modelLog // shared with every Model that Reopen makes
}

// modelLog is what a disk would hold.
type modelLog struct {
	epoch     killfeed.Epoch
	former    []killfeed.FormerEpoch
	kept      []killfeed.NewEvent
	removed   []removedEvent
	head      killfeed.EventID
	mirrorSeq uint64
	received  time.Time
	known     map[int64]killfeed.Known
	clients   map[string]killfeed.ClientRecord
	places    map[string]string
	damaged   map[killfeed.EventID]bool
	pending   []removedEvent // of adopted pieces, until the one that has the end
}

// removedEvent is an event that was removed here, or one that was removed elsewhere, of which only some topics are known.
type removedEvent struct {
	id     killfeed.EventID
	topics []killfeed.Topic
}

var _ killfeed.Store = (*Model)(nil)

// eventOverhead is what an event counts for in State.Bytes beside its killmail.
const eventOverhead = 48

// NewModel makes an empty Model with an epoch of its own.
func NewModel() *Model {
	return &Model{log: &modelLog{
		epoch:   killfeed.NewEpoch(),
		known:   map[int64]killfeed.Known{},
		clients: map[string]killfeed.ClientRecord{},
		places:  map[string]string{},
		damaged: map[killfeed.EventID]bool{},
	}}
}

// Reopen ends m, whether or not it was closed, and returns a Model with what m had stored. A Feed that still has m can write
// no more: without a Close of that Feed before, this is kill -9.
func (m *Model) Reopen() *Model {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return &Model{log: m.log}
}

// Restored ends m and returns a Model of its own with what m has stored, as if it were a backup that was restored elsewhere: its epoch
// is another one, and that of m a former one.
func (m *Model) Restored() *Model {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	l := *m.log
	l.former = append(slices.Clone(l.former), killfeed.FormerEpoch{Epoch: l.epoch, Through: l.head})
	l.epoch = killfeed.NewEpoch()
	return &Model{log: &l}
}

// Damage makes the stored record of an event unreadable.
func (m *Model) Damage(id killfeed.EventID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.damaged[id] = true
}

func (m *Model) err() error {
	if m.closed {
		return fmt.Errorf("model: %w", killfeed.ErrClosed)
	}
	return nil
}

// State implements killfeed.Store.
func (m *Model) State() killfeed.State {
	m.mu.RLock()
	defer m.mu.RUnlock()
	l := m.log
	st := killfeed.State{
		Epoch: l.epoch, Former: l.former, First: l.head + 1, Head: l.head, MirrorSeq: l.mirrorSeq, LastReceived: l.received,
	}
	for i := range l.kept {
		st.Bytes += size(&l.kept[i])
	}
	if len(l.kept) > 0 {
		st.First = l.kept[0].ID
	}
	return st
}

func size(e *killfeed.NewEvent) int64 { return int64(len(e.Killmail)) + eventOverhead }

// Commit implements killfeed.Store. Unlike other stores it checks what callers owe it.
func (m *Model) Commit(b *killfeed.Batch) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.err(); err != nil {
		return err
	}
	l := m.log
	for i, e := range b.Events {
		if want := l.head + killfeed.EventID(i) + 1; e.ID != want {
			panic(fmt.Sprintf("storetest: event %d is committed where %d comes next", e.ID, want))
		}
		last := l.received
		if i > 0 {
			last = b.Events[i-1].ReceivedAt
		}
		if e.ReceivedAt.Before(last) {
			panic(fmt.Sprintf("storetest: event %d was received at %v, before %v", e.ID, e.ReceivedAt, last))
		}
	}
	for _, e := range b.Events {
		e.Killmail, e.Topics = bytes.Clone(e.Killmail), slices.Clone(e.Topics)
		l.kept = append(l.kept, e)
		l.head, l.mirrorSeq, l.received = e.ID, e.MirrorSeq, e.ReceivedAt
		if e.KillmailID != 0 {
			l.known[e.KillmailID] = e.Known
		}
	}
	for _, c := range b.Checkpoints {
		l.places[c.Source] = c.Place
	}
	for _, name := range b.Gone {
		delete(l.clients, name)
	}
	for _, o := range b.Offsets {
		r := m.client(o.Client)
		r.Offsets[o.Topic] = o.At
		l.clients[o.Client] = r
	}
	for _, s := range b.Seen {
		r := m.client(s.Client)
		r.ClientSeen = s
		l.clients[s.Client] = r
	}
	return nil
}

func (m *Model) client(name string) killfeed.ClientRecord {
	r, ok := m.log.clients[name]
	if !ok {
		r.Client, r.Offsets = name, map[killfeed.Topic]killfeed.EventID{}
	}
	return r
}

// Known implements killfeed.Store.
func (m *Model) Known(killmailID int64) (killfeed.Known, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	k, ok := m.log.known[killmailID]
	return k, ok, m.err()
}

// Find implements killfeed.Store.
func (m *Model) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.err(); err != nil {
		return dst, err
	}
	for events, i := 0, 0; i < len(m.log.kept); i++ {
		e := &m.log.kept[i]
		if e.ID > q.Through {
			break
		}
		found := false
		for pos, p := range q.Positions {
			if e.ID <= p.After || !isOn(e.Topics, p.Topic) {
				continue
			}
			if !found {
				if events++; events > q.Max {
					return dst, nil
				}
				found = true
			}
			entry := killfeed.Entry{ID: e.ID, Position: int32(pos), Marks: e.Marks}
			if !e.KilledAt.IsZero() {
				entry.KilledAt = e.KilledAt.Unix()
			}
			dst = append(dst, entry)
		}
	}
	return dst, nil
}

func isOn(topics []killfeed.Topic, t killfeed.Topic) bool {
	return t.Kind == killfeed.KindAll || slices.Contains(topics, t)
}

// Read implements killfeed.Store.
func (m *Model) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	for _, id := range ids {
		e, err := m.read(id)
		if err != nil {
			return err
		}
		if e == nil {
			err = &killfeed.DamageError{ID: id, Err: fmt.Errorf("gone or damaged")}
			e = &killfeed.Event{ID: id}
		}
		if !yield(*e, err) {
			return nil
		}
	}
	return nil
}

func (m *Model) read(id killfeed.EventID) (*killfeed.Event, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if err := m.err(); err != nil {
		return nil, err
	}
	kept := m.log.kept
	if len(kept) == 0 || id < kept[0].ID || id > m.log.head || m.log.damaged[id] {
		return nil, nil
	}
	e := kept[id-kept[0].ID].Event // Commit has checked that there are no holes
	return &e, nil
}

// Removed implements killfeed.Store.
func (m *Model) Removed(t killfeed.Topic) killfeed.EventID {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, e := range slices.Backward(m.log.removed) {
		if t.Kind != killfeed.KindSystem || isOn(e.topics, t) {
			return e.id
		}
	}
	return 0
}

// Systems implements killfeed.Store.
func (m *Model) Systems(dst []uint32) []uint32 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var systems []uint32
	for i := range m.log.kept {
		systems = append(systems, m.log.kept[i].SystemID)
	}
	slices.Sort(systems)
	return append(dst, slices.Compact(systems)...)
}

// Mirrored implements killfeed.Store.
func (m *Model) Mirrored(seq uint64) killfeed.EventID {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range m.log.kept {
		e := &m.log.kept[i]
		if e.MirrorSeq == seq && !e.Marks.Has(killfeed.MarkUpdate) && !e.Marks.Has(killfeed.MarkBackfill) {
			return e.ID
		}
	}
	return 0
}

// ReceivedFrom implements killfeed.Store.
func (m *Model) ReceivedFrom(t time.Time) (killfeed.EventID, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for i := range m.log.kept {
		if e := &m.log.kept[i]; !e.ReceivedAt.Before(t) {
			return e.ID, m.err()
		}
	}
	return m.log.head + 1, m.err()
}

// Excess implements killfeed.Store.
func (m *Model) Excess(maxBytes int64) killfeed.EventID {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var sum int64
	for i := range slices.Backward(m.log.kept) {
		if sum += size(&m.log.kept[i]); sum > maxBytes {
			return m.log.kept[i].ID
		}
	}
	return 0
}

// Remove implements killfeed.Store.
func (m *Model) Remove(through killfeed.EventID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.err(); err != nil {
		return err
	}
	m.log.remove(through)
	return nil
}

func (l *modelLog) remove(through killfeed.EventID) {
	n := 0
	for ; n < len(l.kept) && l.kept[n].ID <= through; n++ {
		l.removed = append(l.removed, removedEvent{l.kept[n].ID, l.kept[n].Topics})
	}
	l.kept = slices.Clone(l.kept[n:])
}

// Clients implements killfeed.Store.
func (m *Model) Clients(yield func(killfeed.ClientRecord) bool) error {
	m.mu.RLock()
	var all []killfeed.ClientRecord
	for _, r := range m.log.clients {
		offsets := map[killfeed.Topic]killfeed.EventID{}
		for t, at := range r.Offsets {
			offsets[t] = at
		}
		all = append(all, killfeed.ClientRecord{ClientSeen: r.ClientSeen, Offsets: offsets})
	}
	err := m.err()
	m.mu.RUnlock()
	for _, r := range all {
		if err == nil && !yield(r) {
			break
		}
	}
	return err
}

// Checkpoint implements killfeed.Store.
func (m *Model) Checkpoint(source string) (string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.log.places[source], m.err()
}

// Health implements killfeed.Store.
func (m *Model) Health() error { return nil }

// Close implements killfeed.Store. Reopen gives what was stored.
func (m *Model) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}
