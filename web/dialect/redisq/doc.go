// Package redisq serves the feed as zKillboard's RedisQ did: a queue for each queueID, one killmail a request, long polls.
//
// # What it guarantees
//
// A queue is a client of the feed, redisq:<queueID>, on all killmails. It begins with the first killmail after its first request,
// and from then on hands out each one that its filter lets through, once, in the order of the log, also across restarts of the
// server. Updates, and history that was backfilled, are left out, and so are killmails without an id, which a package cannot
// show.
//
// Handing out is the acknowledgement, as ever: an answer that is lost on its way is not sent again. Nothing is handed out to a
// caller who hung up while it waited. With ack= (see below) a killmail comes again until the caller says that it has it.
//
// A queue whose last request ended longer ago than its ttl begins anew, as there; what it missed is not told, because its caller
// asked for that. What retention removed before the queue had it is told in the header Killfeed-Gap.
//
// Bounds: one request at a time for a queue (429); an answer within ttw, and the moment that a filter takes to look through some
// thousand killmails; no more queues than the feed has clients (503). Run forgets queues that are over.
//
// # What it adds
//
// No redirects, unless redirect=1 asks for them; limit= for more than one killmail; ack=, which makes it lose nothing; backfill=1.
// Who sends none of these sees RedisQ as it was.
package redisq
