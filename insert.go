package killfeed

import (
	"context"
	"fmt"
)

// InsertResult is what became of one killmail.
type InsertResult struct {
	// EventID is the new event's id, or that of the event that brought the killmail when it is a duplicate.
	EventID EventID
	// Duplicate: the log had the killmail already, and nothing was added.
	Duplicate bool
	// Update: the log had the killmail already, and what this one brings beyond it became an update event.
	Update bool
}

// Insert stores a killmail of a solar system (1 to 2^31-1) and wakes who waits for it. The killmail is any JSON object; what
// an ESI killmail has in it is understood. It is the specification's insert_event.
//
// It returns when the event is on disk. Errors are *InvalidError, ErrDiskFull, ErrFailed, ErrClosed, wrapped; with
// ErrOutcomeUnknown it may be stored, and inserting it again is safe when it has a killmail_id.
func (f *Feed) Insert(ctx context.Context, systemID uint32, killmail []byte) (InsertResult, error) {
	k, err := NewKillmail(systemID, killmail)
	if err != nil {
		return InsertResult{}, err
	}
	res, err := f.InsertAll(ctx, []*Killmail{k}, 0)
	if err != nil {
		return InsertResult{}, err
	}
	return res[0], nil
}

// InsertAll stores killmails in one group commit, all or none, with ascending event ids. marks is 0 or MarkBackfill. (Where several
// nodes share the log that holds for the first 1,000, and for each 1,000 after them.)
// Errors are as with Insert.
func (f *Feed) InsertAll(ctx context.Context, killmails []*Killmail, marks Marks) ([]InsertResult, error) {
	if len(killmails) == 0 {
		return nil, nil
	}
	return f.insert(ctx, &request{killmails: killmails, marks: marks})
}

// InsertFrom is InsertAll for a source that remembers its place in the log: the checkpoint is stored with the killmails, both
// or neither. There may be no killmails. Where several nodes share the log, the checkpoint is stored behind the killmails, and only
// by the node that leads: another one gets ErrNotLeader, and what it brought is stored all the same.
func (f *Feed) InsertFrom(ctx context.Context, killmails []*Killmail, marks Marks, c Checkpoint) ([]InsertResult, error) {
	if err := CheckClientName(c.Source); err != nil || len(c.Place) > maxPlace {
		return nil, invalid("checkpoint", c.Source, "a printable name of 1 to 128 bytes, and a place of at most 64 KiB")
	}
	return f.insert(ctx, &request{killmails: killmails, marks: marks, checkpoint: &c})
}

const maxPlace = 64 << 10

// Knows tells whether the log has ever had the killmail with that id.
func (f *Feed) Knows(killmailID int64) (bool, error) {
	_, known, err := f.store.Known(killmailID)
	return known, err
}

// Checkpoint returns the place that the named source stored last, empty when it never did.
func (f *Feed) Checkpoint(source string) (string, error) { return f.writer.ledger.Checkpoint(source) }

func (f *Feed) insert(ctx context.Context, r *request) ([]InsertResult, error) {
	if err := f.Health(); err != nil {
		return nil, fmt.Errorf("inserting %d killmails: %w", len(r.killmails), err)
	}
	if err := f.writer.do(ctx, r); err != nil {
		return nil, err
	}
	return r.results, nil
}
