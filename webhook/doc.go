// Package webhook posts killmails to Discord's webhooks and to plain ones: whoever cannot ask the feed is told by it.
//
// # What it guarantees
//
// A webhook is a durable client of the feed, by the name "webhook:<name>", that commits what its receiver has taken (an answer of
// 2xx) and nothing else. So each event on its topics that its filter lets through is posted once, in order. When the process is
// killed, or a receiver takes something and its answer is lost, what was under way is posted again: at least once. What is posted
// is told apart by an idempotency key. An event that is not posted is one of
//
//   - dead: the receiver refused it for good, or failed for longer than GiveUp. It is on a list on disk, from which it can be sent
//     again.
//   - expired: the killmail became older than MaxAge before it could be posted. It is counted.
//   - lost: retention removed it first. That is told, as a gap is everywhere.
//
// A receiver that hangs, fails or wants to be left alone is behind, and nobody else notices: a webhook holds its place in the log,
// at most a batch of events in memory, and one connection. It tries again with growing pauses, as late as the receiver says. One
// that says again and again that there is nothing at its address is paused, so that not all events become dead.
//
// The address is a secret (who has a Discord webhook's can post there), and so is the key of signatures: neither is logged, shown,
// or in an error. Redirects are not followed.
//
// # What callers owe
//
// Run is a service: somebody starts it, once at a time, and starts it again when it fails. All other methods may be called
// concurrently. Other readers keep away from the client's name: who subscribes under it takes it from the webhook for a moment.
package webhook
