// Package killfeed is a durable, ordered feed of EVE Online killmails.
//
// # What it guarantees
//
// Order: every killmail that is inserted becomes an event with the next number. Ids start at 1, rise by 1, are never
// reused, and become visible in that order: no reader ever sees n+1 before n. Receipt times never fall from one event to
// the next.
//
// Durability: Insert, Commit and Seek return after the change is on disk (with a Store that has one). Offsets committed
// automatically by Fetch and Next are written behind within 100 ms, those of a Subscription within a second, so that a crash
// may make the last moments repeat. It never makes anything be skipped.
//
// Duplicates: a killmail id is stored once, for ever, however often and however late it is inserted again. When a newcomer
// brings what the stored one lacked (zkb, hash, labels) it becomes an update event, which only readers that ask for updates
// get.
//
// Delivery: a client's reads return each event on at least one of its topics exactly once, ascending. With automatic commit
// an answer that is lost on its way is not sent again (at most once); with manual commit events repeat until the client
// commits what it has handled (at least once). Calls of one client are linearizable: two concurrent ones never return the
// same event.
//
// Loss: what retention removed before a client had read it is told as a Gap with bounds. There is never silence.
//
// # What callers owe
//
// One process opens a store at a time. Run must be running for retention to work. Slices in events are shared: they must
// not be modified.
//
// # How
//
// Open a Store (package pebblestore has one on disk and in memory), give it to Open, and use the Feed:
//
//	Insert          a killmail, durably, and wake who waits for it
//	Fetch, Next     what a client has not had, many or one at a time
//	ReadAfter       the same for readers who keep their own cursor
//	Subscribe       read on and on, woken by what is new
//	Commit, Seek    set a client's offsets
//	Collect         remove what everybody has read and what is too old
//
// The rules are in this package; bytes, indexes and files are the Store's.
package killfeed
