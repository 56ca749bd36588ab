// Package web serves a feed over HTTP.
//
// # What it guarantees
//
// Every answer that is no success is an RFC 9457 problem document that names what was tried, with what value, and what is
// accepted; but for Channels, which answer as Phoenix does. Nothing private is in it: causes go to the log.
//
// A read commits only for a caller who is still there, HEAD never does, and what a caller is told about an insert or a
// commit is on disk. On shutdown long polls are answered at once, and writes in flight are brought to their end.
//
// Streams and Channels tell what polls tell, in the same order, without a seam between what was missed and what comes: they
// read the log in the same way, and are only woken. Nothing is queued for them; who is slow is behind.
//
// In whatever shape an event is shown (only some members, or with names), its killmail's bytes are copied, never encoded again.
// Names never hold it up: what is not known yet is said to be missing.
//
// Everything is bounded: headers, bodies, items, topics, waiting, connections, and the time that a slow sender or reader is
// given.
//
// # What callers owe
//
// The API wants the http.Server that NewServer makes, or one with the same limits. While the log is being opened a Gate
// stands in for it. API.Run must be running for connections to be looked after, and API.Drain comes before the server's
// Shutdown. The Feed must be closed after the server was shut down, not before.
//
// # How
//
// API.ServeHTTP finds an endpoint in a table of its own (method, path, scope, handler). Whether the caller may go on to it, by
// address and by token, is decided before anything but the request's head is read (door.go). Handlers return an error, and
// problemOf alone decides how an error is answered. A poll that finds nothing is the commonest call by far, so nothing on
// its way allocates what it need not: parameters are read straight from the query into a reused struct, header values are
// shared, metrics are resolved beforehand, and compression is not on the path of who does not ask for it.
//
// openapi.json is the contract in detail. A test holds it to the table and to the answers of all other tests.
package web
