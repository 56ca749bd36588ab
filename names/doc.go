// Package names knows what characters, corporations, alliances and factions are called, and what types, solar systems,
// constellations and regions are that static data lacks. It asks ESI and keeps the answers.
//
// # What it guarantees
//
// Nobody waits for ESI who did not ask to: Get answers at once with what is known, and what is not is asked for in the
// background. Names are never in the way of a killmail: one request is under way at a time, few are sent, fewer when killmails
// are asked for, and they stop well before ESI's limits do (see the package esi).
//
// An id is asked for once, whoever wants it and however often, and an answer is kept on disk: after a restart nothing is asked
// again. A name older than 30 days is asked for anew when somebody wants it, and shown as it was until then. An id of which ESI
// said that there is none is remembered too, for a day; what no id can be is not asked at all.
//
// Everything is bounded: the ids that wait (beyond that they are dropped, counted, and wanted again by whoever asks next), the
// names in memory, the file. A file that is damaged is set aside and begun anew: what was in it can be had again.
//
// What came is not trusted: an answer that is no answer, ids that nobody asked about and names that cannot be shown are counted,
// told once in the log, and stepped over.
//
// # What callers owe
//
// Run and, for names that are there before somebody asks, Follow are services: somebody starts them and starts them again.
// Close comes after both have ended. All other methods may be called by any number of goroutines, also on a nil Book, which
// knows nothing and asks nobody.
package names
