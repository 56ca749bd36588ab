// Package evekill serves the feed as EVE-KILL does: a poll with a cursor of the caller's own, a stream of Server-Sent Events, a
// status, below /api/feed and, for clients whose base is a host of its own, below /feed.
//
// # What it guarantees
//
// seq is the event id: it rises, nothing is skipped and nothing comes twice for a caller who passes on the last one that he has
// handled. A page that says hasMore has something on it. A stream that resumes from an id goes on behind it, however far back that
// is, with the same topics as before, and then live, without a seam; it is never silent for longer than 20 seconds, and its client,
// when it is slow, is behind and not dropped. What retention removed before it was read is told: in the header Killfeed-Gap, and
// as a comment in the stream.
//
// A killmail is ESI's body, as received, and killmail_hash in it. Left out are killmails without an id, newer versions of those
// that came before, and imported history, unless backfill=1 asks for it.
//
// # What it does not
//
// The topics t1, t2 and t3 are refused: the static data here has no tech levels. Those of places and classes of ships are
// refused without static data. The sockets of EVE-KILL are not served.
package evekill
