// Package r2z2 serves the feed as zKillboard's R2Z2 does: a file for each killmail, numbered, a pointer to the newest number, and
// days of history. Who reads R2Z2 reads this by changing the base address, and begins at this server's own numbers.
//
// # What it guarantees
//
// Numbers are dense and rise in the order of the log: the running count of the killmails that came first-time and live. Backfilled
// history has none. The pointer is the newest number itself, not one that lags, and when it tells a number, that file is there. A
// file is there as long as the log keeps its killmail.
//
// The pointer of an empty log is 0, and the file 0 is that of the first killmail once more: readers who begin with the file that the
// pointer names would else ask for it for ever.
//
// A number whose killmail no file can show (it has no id, or no hash and nothing to compute one of, or its record is damaged) has
// the file of the killmail before it once more, under its own number. A 404 there would stop readers for minutes, or for ever; who
// has the killmail already passes over it.
//
// A newer version of a killmail is shown in its file, and announced by sequence_updated. Which file announces which update
// follows from the log alone: it is the newest update before the file that no file in between announces, among those of the last
// 4,096 to 8,192 events. So each file announces one at most, as there, several updates at once are announced by as many
// files, the last one first, and it is the same before and after a restart.
//
// History is all that is kept, backfilled or live, by the UTC date of the killmails' own time, today included. Retention takes
// killmails out of it, late ones and backfill put them in; ETags tell. Killmails without a time are in no day.
//
// # What it costs
//
// A file is two reads of the log. History looks at the index of the whole log once after a start, some millions of events a second,
// and from then on at what is new. The ids and hashes of a day cost one read of each of its killmails, which are then remembered
// (20 MB at most for all days); its bodies are read anew for each who asks for them, eight at a time at most.
package r2z2
