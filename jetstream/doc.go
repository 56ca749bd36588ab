// Package jetstream is the ledger of a cluster: several nodes, each with a store of its own, that agree by way of NATS JetStream
// on one order of events and on the clients' offsets. It implements killfeed.Ledger.
//
// # What it guarantees
//
// Order: an event's id is its sequence in one stream. An event is appended only behind the head that its node has decided on ("expected last
// sequence"), so whoever appends knows all events before: a killmail id is in the log once, for ever, without any window of time,
// and there is no hole and no second event of a number. Every node's log has the same events; a checksum chained over all
// of them, which each node computes by itself over what it received, shows when it does not.
//
// Durability: an append is acknowledged when most of the stream's servers have it on disk (they must run with "sync_interval: always").
// A node commits to its store only what was acknowledged, or what it read back from the stream.
//
// Outcomes: a request without an answer is repeated, with the same expectation, until it is decided: by an acknowledgement, or
// by reading which message stands where it would stand. Nothing is guessed. Only when the caller's context ends before is the
// answer killfeed.ErrOutcomeUnknown; the event, if it counts, then comes with Take.
//
// Clients: each client's record is changed by compare-and-set on its revision, so of two nodes that move a client at the same
// time one is told how it is now.
//
// Without a majority of the servers nothing can be agreed on (killfeed.ErrUnavailable), nodes go on serving reads from their
// stores, and it passes by itself.
//
// # What callers owe
//
// The Store given to Open is written by the one goroutine that calls Agree and Take, and only with what these gave out. A batch's
// events should be at most MaxEvents and MaxBytes: such a batch is appended as one, all or nothing. Of a larger one a first part may
// be in the log when Agree returns an error; it comes back with Take. The error is then killfeed.ErrBehind only if each killmail of
// that part has an id, so that the writer recognizes it, and else killfeed.ErrOutcomeUnknown.
//
// Nobody but nodes may publish into the stream: what is no event there stops all of them.
//
// # How
//
// A message is a whole event: its data are the killmail's bytes, its headers the rest, and the chain's sum before it, from which a
// new node begins. A node follows the stream with one consumer, checks every sequence itself, and asks the stream now and then
// where it should be, so a consumer that stays silent is noticed and replaced. What was purged before a node had it, the node
// adopts from another one (killfeed.Store.Adopt) and goes on behind it.
package jetstream
