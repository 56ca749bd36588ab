package killfeed

import (
	"strconv"
	"time"
)

// EventID is the number of an event in the log. Ids start at 1, rise by 1, are never reused, and become visible in that
// order. Zero means "before the first event".
type EventID uint64

// Event is one entry of the log.
//
// Killmail and the strings inside are shared with the store's memory: callers must not modify them.
type Event struct {
	ID EventID
	// SystemID is the solar system of the loss, 1 to 2^31-1.
	SystemID uint32
	// ReceivedAt is when the log took the event: UTC, whole milliseconds, never earlier than that of the event before.
	ReceivedAt time.Time
	// Killmail is the canonical JSON object, the bytes as received without insignificant white space.
	Killmail []byte
	// KillmailID is the killmail's own id, or 0 when it has none.
	KillmailID int64
	// KilledAt is the killmail's own time in whole seconds UTC; zero when the killmail does not tell.
	KilledAt time.Time
	// MirrorSeq is how many killmails the log had taken first-time and without the backfill mark, this one included.
	MirrorSeq uint64
	// Marks tells updates and backfilled history apart.
	Marks Marks
}

// Marks are the properties of an event that decide who gets it.
type Marks uint8

const (
	// MarkUpdate: a newer or richer version of a killmail that is in the log already. Only readers that ask for updates
	// get it.
	MarkUpdate Marks = 1 << iota
	// MarkBackfill: imported or backfilled history. Polls get it unless they decline.
	MarkBackfill
)

// Has tells whether all marks of m2 are set in m.
func (m Marks) Has(m2 Marks) bool { return m&m2 == m2 }

// timeLayout is RFC 3339 in UTC with the milliseconds that the log keeps.
const timeLayout = "2006-01-02T15:04:05.000Z"

// AppendJSON appends the event as every edge shows it:
//
//	{"event_id":1,"system_id":30000142,"received_at":"…","killmail":{…}}
//
// with "update":true or "backfill":true before the killmail where the marks say so. The killmail's bytes are copied, never
// encoded again.
func (e *Event) AppendJSON(dst []byte) []byte {
	return append(append(e.AppendOpen(dst), e.Killmail...), '}')
}

// AppendOpen appends AppendJSON's text up to where the killmail's own bytes go. It is for edges that add members behind the
// killmail, or write the killmail without copying it.
func (e *Event) AppendOpen(dst []byte) []byte {
	dst = append(dst, `{"event_id":`...)
	dst = strconv.AppendUint(dst, uint64(e.ID), 10)
	dst = append(dst, `,"system_id":`...)
	dst = strconv.AppendUint(dst, uint64(e.SystemID), 10)
	dst = append(dst, `,"received_at":"`...)
	dst = e.ReceivedAt.AppendFormat(dst, timeLayout)
	dst = append(dst, '"')
	if e.Marks.Has(MarkUpdate) {
		dst = append(dst, `,"update":true`...)
	}
	if e.Marks.Has(MarkBackfill) {
		dst = append(dst, `,"backfill":true`...)
	}
	return append(dst, `,"killmail":`...)
}

// Gap tells a reader about events that it had not had and that are gone.
type Gap struct {
	Reason GapReason `json:"reason"`
	// From and To bound the lost events, inclusive. Both are 0 for the reasons GapEpoch and GapFuture.
	From EventID `json:"from,omitempty"`
	To   EventID `json:"to,omitempty"`
}

// GapReason says why events cannot be had any more.
type GapReason string

const (
	// GapRetention: removed by retention before the reader had passed them.
	GapRetention GapReason = "retention"
	// GapEpoch: the cursor belongs to another log, so everything kept follows.
	GapEpoch GapReason = "epoch"
	// GapFuture: the cursor is past the head of this log, so reading goes on from the head.
	GapFuture GapReason = "future"
	// GapDamaged: the stored record no longer matches its checksum. It is reported by id and never served.
	GapDamaged GapReason = "damaged"
)

// String is the form of the Killfeed-Gap header: "from-to", or the reason where there are no bounds.
func (g Gap) String() string {
	if g.Reason == GapEpoch || g.Reason == GapFuture {
		return string(g.Reason)
	}
	return strconv.FormatUint(uint64(g.From), 10) + "-" + strconv.FormatUint(uint64(g.To), 10)
}
