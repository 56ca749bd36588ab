// Package tokens keeps the bearer tokens of a server: who may do what, under which client names, how often, and until when.
//
// # What it guarantees
//
// A token's text is told once, by the call that makes it. The file has its SHA-256 only, so that whoever reads the file, a
// backup of it, or a dump of the process can do nothing with it. The text is 256 random bits: there is nothing to guess, and
// a slow hash as for passwords (bcrypt, argon2) would protect nobody, while strangers could make the server compute it with
// every request that they send.
//
// The file is replaced as a whole: a crash leaves the old one or the new one, and a reader never sees half of one. Two commands
// that change it at once do not undo each other: the second is refused. A revoked token is on disk as revoked before Revoke
// returns.
//
// Find compares sums, all of them and in constant time: how long it takes tells nothing of any.
//
// # What callers owe
//
// Whoever serves reads the file again when it has changed, and asks the Set with the time of now: a Set knows when
// its tokens expire, and does not forget them by itself.
package tokens
