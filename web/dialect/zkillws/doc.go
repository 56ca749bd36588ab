// Package zkillws speaks as zKillboard's websocket did: its channels, its messages killstream and littlekill, at /websocket and
// /websocket/. A client of it changes the host.
//
// # What it guarantees
//
// Each killmail that comes to the feed while a connection is subscribed, and that has an id, is sent on each of the connection's
// channels that it is on: killstream first, the others in the order of their names; killmails in the order of the log. Nothing is
// queued for a client that is slow: it is behind in the log, and catches up. A client that answers no ping is closed, and so the
// silence that the original's clients had to guess at is told.
//
// # What it does not
//
// What comes while there is no connection is not sent when there is one again, as with the original, but to those who ask for a
// cursor and resume behind it, which the original had not. A killmail comes as often as the connection has channels that it is
// on. Imported history comes only with ?backfill=1, a newer version of a killmail never. Channels of what a feed does not know,
// the state of the game's server and zKillboard's own pages, are accepted, and silent.
package zkillws
