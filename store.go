package killfeed

import "time"

// Store keeps the log, its indexes and the clients' offsets. A Feed owns one Store and is its only writer; the rules live in
// the Feed, the bytes in the Store.
//
// Commit, Remove and Close are called by one goroutine at a time, but that Close may be called while a Commit or Remove hangs
// on the disk, which then returns an error. All other methods may be called at any time by any
// number of goroutines, also during a Commit, and see either all of a committed batch or nothing of it.
type Store interface {
	// State describes the log as of the last successful Commit or Remove. It costs no I/O.
	State() State

	// Commit makes the batch durable, all of it or nothing, and then visible. When it returns nil the batch survives the
	// end of the process and of the machine. On an error the batch may or may not be stored (the caller must find out
	// by State) unless the error is ErrDiskFull without ErrOutcomeUnknown: then nothing was stored.
	//
	// Events carry ids that follow State().Head without a hole, and receipt times that never fall.
	Commit(b *Batch) error

	// Known looks up what the log has of a killmail id. A killmail id stays known for ever, also after its events were
	// removed.
	Known(killmailID int64) (Known, bool, error)

	// Find appends to dst the entries of q's positions in ascending order of event id. An event that several of them find
	// has one entry for each, in the order of q.Positions. It stops before the event that would be number q.Max+1.
	// Entries above q.Through are left out.
	Find(dst []Entry, q Query) ([]Entry, error)

	// Read yields the events of ids, which ascend, in that order. A record that is damaged or gone is yielded as a
	// *DamageError beside an Event that has only its ID. Events are the caller's to keep.
	Read(ids []EventID, yield func(Event, error) bool) error

	// Removed returns the greatest removed event id that was on topic t: exactly for KindSystem and KindAll; for other
	// kinds the greatest removed id of all.
	Removed(t Topic) EventID

	// Systems appends to dst the solar systems that have kept events, in ascending order. It costs no I/O, and may be called
	// after Close as well.
	Systems(dst []uint32) []uint32

	// Mirrored returns the kept event with that MirrorSeq which came first-time and without the backfill mark, or 0. It costs no
	// I/O.
	Mirrored(seq uint64) EventID

	// ReceivedFrom returns the first kept event received at t or later, or the head + 1.
	ReceivedFrom(t time.Time) (EventID, error)

	// Excess returns the greatest event id that has to go so that the kept events take at most maxBytes, or 0.
	Excess(maxBytes int64) EventID

	// Remove deletes all events up to and including through, with their index entries, durably, and gives their space
	// back in the background. Known stays. It is only called by the collector, in steps of at most a few ten thousand
	// events.
	Remove(through EventID) error

	// Clients yields every stored client; it is called once, when a Feed opens.
	Clients(yield func(ClientRecord) bool) error

	// Checkpoint returns what was last committed as the place of the named source, empty when nothing was.
	Checkpoint(source string) (string, error)

	// Past yields what the log remembers of killmails whose first event is at most upTo, in ascending order of killmail id, from
	// the first id above after on. It sees the log as of its call.
	Past(after int64, upTo EventID, yield func(PastKillmail) bool) error

	// PastSystems yields the solar systems of which events were removed, each with the greatest removed id, ascending.
	PastSystems(yield func(PastSystem) bool) error

	// Adopt makes what another node's log remembers part of this one, durably; see Legacy. It is called like Commit.
	Adopt(l Legacy) error

	// Health returns nil, or why writing does not work at the moment: ErrDiskFull (passes by itself) or ErrFailed
	// (does not). Reading works in both cases.
	Health() error

	// Close ends all background work. Anything written behind was given to Commit before.
	Close() error
}

// State is the state of a log.
type State struct {
	Epoch Epoch
	// Former are the epochs that the log had before it was restored from backups, the oldest first. They are nobody's to change.
	Former []FormerEpoch
	// First is the first kept event, or Head+1 when none is kept.
	First EventID
	// Head is the last event id given out, 0 when none was. The specification calls it killmail_seq.
	Head EventID
	// MirrorSeq is the running count of killmails that came first-time and without the backfill mark.
	MirrorSeq uint64
	// LastReceived is the receipt time of the event Head.
	LastReceived time.Time
	// Bytes is the size of the kept events as stored, before compression.
	Bytes int64
}

// FormerEpoch is an epoch that a log had before it was restored from a backup.
type FormerEpoch struct {
	Epoch Epoch
	// Through is the head of the backup: up to there the event ids of that epoch mean the same events.
	Through EventID
}

// Holds tells whether the cursor's event id means in this log what it meant where the cursor was given out. It does for a cursor
// without an epoch, for one of the log's own, also past the head, and for one of a former epoch up to what the backup had: events
// that were given out behind it are not in this log, and their ids are other events'.
func (s State) Holds(c Cursor) bool {
	if c.Epoch == "" || c.Epoch == s.Epoch {
		return true
	}
	for _, f := range s.Former {
		if f.Epoch == c.Epoch && c.After <= f.Through {
			return true
		}
	}
	return false
}

// Batch is what one group commit writes.
type Batch struct {
	// Events are new events with the topics to index each under: those of a Killmail.
	Events []NewEvent
	// Offsets are set as given, also backwards. Later entries for the same client and topic win.
	Offsets []Offset
	// Seen updates the clients' times.
	Seen []ClientSeen
	// Checkpoints are the places of sources, written with the events that they stand behind, so that neither is ever
	// without the other.
	Checkpoints []Checkpoint
	// Gone are clients to delete with all their offsets. They are deleted before Offsets and Seen are applied.
	Gone []string
	// Holds are for the Ledger. A Store leaves them alone.
	Holds []HoldChange
}

// Empty tells whether there is nothing to write.
func (b *Batch) Empty() bool {
	return len(b.Events)+len(b.Offsets)+len(b.Seen)+len(b.Gone)+len(b.Checkpoints)+len(b.Holds) == 0
}

// NewEvent is an event to be stored.
type NewEvent struct {
	Event
	// Topics are distinct and such as Killmail.Topics has: a store may make them anew from the killmail. Find finds the event
	// on these and on no others (but All): what is on "corporation:…" or "region:…" is for the caller to put together.
	Topics []Topic
	// Known is what the log shall know of the killmail id from now on; ignored without one.
	Known Known
}

// Known is what the log remembers of a killmail id, for ever.
type Known struct {
	// First is the event that brought the killmail; Latest the newest version of it (First, or an update event).
	First, Latest EventID
	// Digest is the richness of all versions: see Digest.
	Digest Digest
}

// Offset is a client's position on one topic: the last event id it has committed.
type Offset struct {
	Client string
	Topic  Topic
	At     EventID
}

// Checkpoint is how far a source of killmails has come, in its own words.
type Checkpoint struct {
	// Source is the source's name, as "r2z2"; it is printable and at most MaxClientName bytes long.
	Source string
	// Place is at most 64 KiB.
	Place string
}

// ClientSeen is the bookkeeping of a client. Times are whole milliseconds UTC.
type ClientSeen struct {
	Client      string
	Created, At time.Time
}

// ClientRecord is a stored client.
type ClientRecord struct {
	ClientSeen
	Offsets map[Topic]EventID
}

// Query asks a Store for index entries.
type Query struct {
	// Positions are the topics, each with its own start. A topic may be there more than once, with different starts (as that
	// of a region's system, which is asked for itself as well): each position has entries of its own.
	Positions []Position
	// Through is the last event id to look at.
	Through EventID
	// Max bounds the number of distinct events; it is at least 1.
	Max int
}

// Position is a place on a topic: the events above After are asked for.
type Position struct {
	Topic Topic
	After EventID
}

// Entry is an index entry: what can be told of an event without reading it.
type Entry struct {
	ID EventID
	// Position is the index in Query.Positions of the topic that the event was found on.
	Position int32
	Marks    Marks
	// KilledAt is the killmail's own time in Unix seconds, 0 when it does not tell.
	KilledAt int64
}

// PastKillmail is what the log remembers of one killmail id.
type PastKillmail struct {
	ID int64
	Known
}

// PastSystem is the greatest removed event id of a solar system.
type PastSystem struct {
	System uint32
	Last   EventID
}

// Legacy is a piece of what a node's log remembers of events that it does not have any more. A node that lost its disk, or was away
// when they were removed, adopts it from another one: without it a killmail could be stored twice, and a loss go untold.
//
// Pieces without At come first, in any order, and change nothing that can be seen. The last piece has At.
type Legacy struct {
	// Killmails are known from now on. One that is known already takes what is said of it when that is of a later version.
	Killmails []PastKillmail
	// Systems raise what is known to be removed; they take force with At, and what is above At.ID counts as that.
	Systems []PastSystem
	// At, when set, is the last event that is past: all events up to it are removed, if there are any, and when the log does not
	// reach it, it goes on behind it.
	At *PastEnd
	// Checkpoints are stored with it.
	Checkpoints []Checkpoint
}

// PastEnd is the last event that is past.
type PastEnd struct {
	ID EventID
	// MirrorSeq and ReceivedAt are those of the event.
	MirrorSeq  uint64
	ReceivedAt time.Time
}
