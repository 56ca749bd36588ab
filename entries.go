package killfeed

import "fmt"

// This file is what edges ask of the log that show it in an order or a division of their own: by days, by what was updated.

// maxEntries bounds the events that one call of Entries looks at.
const maxEntries = 1 << 16

// Entries appends to dst the index entries of the kept events above after, up to through, ascending by id: what can be told of
// them without reading them. It looks at no more than 65,536 ids, so that the last one to ask for is after+65,536; a greater
// through is lowered to that. Errors are ErrClosed or what the store could not do.
func (f *Feed) Entries(dst []Entry, after, through EventID) ([]Entry, error) {
	st := f.store.State()
	after = max(after, st.First-1)
	through = min(through, after+maxEntries, st.Head)
	if through <= after {
		return dst, nil
	}
	dst, err := f.store.Find(dst, Query{Positions: []Position{{Topic: All(), After: after}}, Through: through, Max: maxEntries})
	if err != nil {
		return dst, fmt.Errorf("reading the index of events %d to %d: %w", after+1, through, err)
	}
	return dst, nil
}

// First returns the event that brought a killmail, as opposed to its newest version, which is Killmail's. An id that the log has
// never had, and one whose first event retention removed, are ErrNotFound. Another error is a *DamageError, or what the store
// could not do.
func (f *Feed) First(killmailID int64) (Event, error) {
	k, ok, err := f.store.Known(killmailID)
	switch {
	case err != nil:
		return Event{}, err
	case !ok:
		return Event{}, fmt.Errorf("killmail %d has never come to this feed: %w", killmailID, ErrNotFound)
	}
	return f.Event(k.First)
}
