package client

import (
	"encoding/json"
	"time"
)

// Selection says what to read, or what to commit or move on. Several systems and topics are a union.
type Selection struct {
	// Systems are ids of solar systems.
	Systems []uint32 `json:"systems,omitempty"`
	// Topics are of any kind, as in "all", "character:2100000001", "loss:alliance:99000001" or "region:The Forge".
	Topics []string `json:"topics,omitempty"`
}

// Read is what polls and streams have in common. At least one system or topic is needed.
type Read struct {
	Selection
	// ClientID is a name of the caller's choice, under which the server keeps the place; empty: it keeps none.
	ClientID string
	// After is a cursor: the last event handled. With ClientID the client is moved there first. "0" is the beginning.
	After string
	// Start is the first event, of topics that the client uses for the first time, or without ClientID and After: "earliest",
	// "latest", an event id from 1 on, or an RFC 3339 time. Empty means "earliest" for polls and "latest" for streams.
	Start string
	// MaxAge passes over killmails that are older, in whole seconds; 0: none is.
	MaxAge time.Duration
	// Updates delivers newer versions of killmails too.
	Updates bool
	// Filter passes over what does not match, as in "isk>1b;npc=0".
	Filter string
	// Names tells what ids are called.
	Names bool
	// Fields are the only members of the killmail that are wanted, as in "victim.ship_type_id"; empty: all.
	Fields []string
}

// PollOptions are what [Client.Poll] and [Client.Next] take.
type PollOptions struct {
	Read
	// Limit bounds the events of a poll, 1 to 1000; 0 means 500.
	Limit int
	// Wait is how long to wait for an event when there is none, 0 to a minute.
	Wait time.Duration
	// Manual has what is answered come again until it is committed. Else it counts as read.
	Manual bool
	// NoBackfill passes over imported history.
	NoBackfill bool
}

// StreamOptions are what [Client.Stream] takes.
type StreamOptions struct {
	Read
	// Backfill delivers imported history too.
	Backfill bool
	// Manual, with ClientID: nothing is committed but by [Stream.Commit]. Else an event is committed when the loop has come back
	// from it, within a second and at the end. What is not committed comes again on each new connection.
	Manual bool
	// OnGap is told of each gap, before the events behind it; nil: a warning to slog.Default. It is called by the loop's
	// goroutine, as is OnRetry.
	OnGap func(Gap)
	// OnRetry is told of each loss and how long the wait before the next attempt is; nil: a warning to slog.Default.
	OnRetry func(err error, wait time.Duration)
	// Silence is how long nothing may come before that counts as a loss; 0 means a minute. The server says something every 20
	// seconds.
	Silence time.Duration
}

// Event is a killmail in the log. The same ID in the same epoch is the same event.
type Event struct {
	// ID is 1, 2, 3, … in the order of the log.
	ID       uint64 `json:"event_id"`
	SystemID uint32 `json:"system_id"`
	// ReceivedAt is when the log took it.
	ReceivedAt time.Time `json:"received_at"`
	// Update: a newer or richer version of a killmail that is in the log already.
	Update bool `json:"update"`
	// Backfill: imported history.
	Backfill bool `json:"backfill"`
	// Killmail is the bytes as the server received them, or the members that were asked for.
	Killmail json.RawMessage `json:"killmail"`
	// Names is what ids are called, when that was asked for; else nil.
	Names json.RawMessage `json:"names"`
	// Cursor is the place behind this event, to be kept and given as After. Of streams only.
	Cursor string `json:"cursor"`
}

// Gap tells of events that the reader has not had and cannot have any more.
type Gap struct {
	// Reason is "retention": they were removed; "damaged": their records are; "epoch": the cursor belongs to another log, of
	// which everything kept follows; "future": it is past the head, from where reading goes on; "unknown": an empty Next tells
	// bounds and no reason.
	Reason string `json:"reason"`
	// From and To are the lowest and the highest event id that may be lost; 0 with "epoch" and "future".
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// Page is the answer of a poll.
type Page struct {
	// Events are oldest first.
	Events []Event `json:"events"`
	// Head is the last event id given out.
	Head uint64 `json:"head"`
	// Epoch names the log.
	Epoch string `json:"epoch"`
	// More: call again at once. It may be true with no events, when a search passed over very many.
	More bool `json:"more"`
	// Gap is nil when there is none.
	Gap *Gap `json:"gap"`
	// Next is the cursor to go on with, without ClientID; else empty.
	Next string `json:"next"`
}

// Next is what [Client.Next] found.
type Next struct {
	// Event is nil when there is nothing new.
	Event *Event
	// Gap is nil when there is none.
	Gap *Gap
	// More: there was nothing because a search passed over very many: call again at once.
	More bool
}

// Place is where a client stands.
type Place struct {
	ClientID string            `json:"client_id"`
	Offsets  map[string]uint64 `json:"offsets"`
	// Lag is how many events it has not had, counted to 10,000.
	Lag      int       `json:"lag"`
	LastSeen time.Time `json:"last_seen"`
}
