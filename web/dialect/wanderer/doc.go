// Package wanderer is a copy of the interface of wanderer-kills, on which the mapper Wanderer and its notifier live: a channel of
// Phoenix, answers over HTTP, and Server-Sent Events. Changing the address is all that its clients need.
//
// # What it guarantees
//
// A client of the channel gets each killmail in its systems, or of its characters, once: first the newest of each system, flagged as
// preload, then everything that comes, without a gap or a double between the two, because what comes begins at the event at which the
// preload was read. Systems that are added later are preloaded as well. Every live push carries a cursor; a join with it as after goes on
// behind it instead of preloading, also when the server was restarted in between. Nothing is queued for a client: one that is slow is
// behind in the log.
//
// kill_count_update is true: it counts the killmails of the last 24 hours in the log. It follows each killmail in a subscribed system,
// comes again when the number has sunk, and at least every five minutes for some system, because Wanderer takes 15 minutes without
// anything for a dead connection.
//
// Everything is answered from the log, in the envelopes and with the codes of that service. Events that have no killmail id are left
// out; so are updates, and, live, backfilled history unless it is asked for. What looks back, preloads and counts included, has
// backfilled history in it: it is asked for by the killmails' own time.
//
// Names are those that are known; what is not is asked for behind, and nobody waits for it.
//
// # What callers owe
//
// Mount is called once, before the API serves. Nothing runs beside it.
package wanderer
