package killfeed

import (
	"fmt"
	"time"
)

// This file is how killmails become events.

// build adds the request to the batch, or leaves the batch as it was.
func (w *writer) build(b *Batch, r *request) error {
	events := len(b.Events)
	err := w.insertAll(b, r)
	if err == nil && r.change != nil {
		err = r.change(b)
	}
	if err == nil && r.checkpoint != nil {
		b.Checkpoints = append(b.Checkpoints, *r.checkpoint)
	}
	if err != nil && len(b.Events) > events {
		b.Events = b.Events[:events]
		clear(w.fresh)
		clear(w.known)
		for i := range b.Events {
			w.remember(&b.Events[i])
		}
	}
	return err
}

func (w *writer) insertAll(b *Batch, r *request) error {
	r.results = make([]InsertResult, len(r.killmails))
	for i, k := range r.killmails {
		var err error
		if r.results[i], err = w.insert(b, k, r.marks); err != nil {
			return fmt.Errorf("inserting killmail %d: %w", k.ID, err)
		}
	}
	return nil
}

// remember makes an event of the group known to the rest of it.
func (w *writer) remember(e *NewEvent) {
	if e.KillmailID != 0 {
		w.fresh[e.KillmailID], w.known[e.KillmailID] = &e.Event, e.Known
	}
}

// insert decides what becomes of one killmail: a new event, an update, or nothing.
func (w *writer) insert(b *Batch, k *Killmail, marks Marks) (InsertResult, error) {
	if k.ID != 0 {
		known, ok := w.known[k.ID]
		if !ok {
			var err error
			if known, ok, err = w.store.Known(k.ID); err != nil {
				return InsertResult{}, err
			}
		}
		if ok {
			improves, err := w.improves(k, known)
			if err != nil {
				return InsertResult{}, err
			}
			if !improves {
				return InsertResult{EventID: known.First, Duplicate: true}, nil
			}
			id := w.append(b, k, marks|MarkUpdate, known)
			return InsertResult{EventID: id, Update: true}, nil
		}
	}
	return InsertResult{EventID: w.append(b, k, marks, Known{})}, nil
}

// improves tells whether k brings what the log lacks of it. The stored bytes are read only when the digests cannot tell.
//
// It cannot go on for ever: an update either brings a kind of information that no version had (the digest keeps what any
// had), or all labels of the newest version and one more. To take any label that the newest version lacks would let two
// versions update each other without end.
func (w *writer) improves(k *Killmail, known Known) (bool, error) {
	switch k.Digest.Against(known.Digest) {
	case DigestPoorer:
		return false, nil
	case DigestRicher:
		return true, nil
	}
	if fresh := w.fresh[k.ID]; fresh != nil {
		return k.AddsLabels(fresh.Killmail), nil
	}
	adds := false
	err := w.store.Read([]EventID{known.Latest}, func(e Event, err error) bool {
		adds = err == nil && k.AddsLabels(e.Killmail) // gone or damaged: nothing to compare with, so nothing to add
		return false
	})
	return adds, err
}

// append gives k the next event id. known is what the log has of the killmail, zero when it has nothing.
func (w *writer) append(b *Batch, k *Killmail, marks Marks, known Known) EventID {
	var prev Event
	if n := len(b.Events); n > 0 {
		prev = b.Events[n-1].Event
	} else {
		st := w.store.State()
		prev = Event{ID: st.Head, ReceivedAt: st.LastReceived, MirrorSeq: st.MirrorSeq}
	}
	ev := Event{
		ID: prev.ID + 1, SystemID: k.SystemID, Killmail: k.JSON, KillmailID: k.ID, KilledAt: k.Time,
		MirrorSeq: prev.MirrorSeq, Marks: marks,
		ReceivedAt: w.wall().UTC().Truncate(time.Millisecond),
	}
	if ev.ReceivedAt.Before(prev.ReceivedAt) { // the wall clock was set back
		ev.ReceivedAt = prev.ReceivedAt
	}
	if marks == 0 {
		ev.MirrorSeq++
	}
	b.Events = append(b.Events, NewEvent{Event: ev, Topics: k.Topics, Known: known.with(ev.ID, k)})
	w.remember(&b.Events[len(b.Events)-1])
	return ev.ID
}

// with is what the log knows of a killmail once the event brought k, its newest version.
func (known Known) with(id EventID, k *Killmail) Known {
	if known.First == 0 {
		known.First = id
	}
	known.Latest, known.Digest = id, k.Digest.Over(known.Digest)
	return known
}
