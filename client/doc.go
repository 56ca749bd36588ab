// Package client reads a killfeed server: by polls, one event at a time, and live. It needs the standard library only.
//
// # What it guarantees
//
// A [Stream] gives every event that is on its topics, ascending by event id, across any number of lost connections: without a
// gap, or with one that is told ([StreamOptions.OnGap]). Without a client id each event comes once, and the place is the
// caller's to keep ([Event.Cursor]). With a client id the server keeps the place, and an event comes again unless it was
// committed: at least once. The stream commits by itself what the loop has come back from, or leaves that to the caller
// ([StreamOptions.Manual]).
//
// [Client.Poll] and [Client.Next] are at most once, unless they are told Manual: what was answered counts as read.
//
// What the server refuses is a [*ProblemError] with the members of its problem document.
//
// # What callers owe
//
// One client id is for one consumer. Who is told [ErrReplaced] must not come back by itself: a newer connection has the name.
// At least once means that the same event id in the same epoch may come twice, and is the same event then.
package client
