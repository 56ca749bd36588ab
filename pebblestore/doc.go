// Package pebblestore is the embedded killfeed.Store: one directory, one process, no server.
//
// # What it guarantees
//
// Commit is atomic and returns after an fsync; many inserts that arrive together share one. After kill -9 or a power cut
// the log ends at the last whole commit: a torn tail is cut there, and everything that Commit acknowledged is in front of
// it. Event ids are checked for holes whenever the store is opened.
//
// Adopt is as atomic as Commit. With the end of a past the log may go on behind a hole between its old head and that end; there
// is never another one.
//
// Every record carries a CRC-32C over its key and value. A record that does not match is reported by id, as a
// *killfeed.DamageError, and never returned.
//
// A full disk holds the engine's writes until there is space, while Health reports ErrDiskFull, so that new inserts are
// refused at the door and reads go on. After a write or an fsync failed for any other reason nothing is written any more:
// whether the bytes are on disk cannot be known (the kernel may have dropped them and marked them clean), so nothing after
// it may be acknowledged. Reads go on; Health reports ErrFailed.
//
// A directory of format 1, in which the index does not tell kills from losses, is brought to format 2 when it is opened: its
// index is made anew from the log, some 30,000 events a second. The end of the process at any moment of it does no harm.
//
// A Backup is of one moment, and what it has is durable. Restore makes a store of it under another epoch; the old one stays good up to
// what the backup has. A directory into which a restore was broken off is refused.
//
// # How
//
// The engine is Pebble. Keys are drawn in docs/format.md and keys.go. Beside it, in memory: for each solar system the ids
// of its events, for each event what can be told without reading it (24 bytes), and the newest events whole. Idle polls and
// the search for the next event of systems therefore never touch the engine; a payload is one point read.
//
// The index of participants, by whether they lost or killed, and of labels is derived from the log. It is kept in memory for
// the newest events and written behind in chunks, off the commit path; what a crash cost of it is made again from the log at
// open.
package pebblestore
