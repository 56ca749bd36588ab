// Package socket is the server's end of a WebSocket (RFC 6455), made for very many connections of which few have something to
// say at a time.
//
// # What it guarantees
//
// A connection has one goroutine, which reads. What writes is a second one that exists only while there is something to write:
// it pulls from the connection's Handler until there is nothing left. So messages are written in the order in which they were
// pulled, many of them in one system call, nothing is queued here, and a connection whose client takes nothing holds one batch
// and waits.
//
// Handlers get whole messages, of at most MaxMessage bytes and, when they are text, of valid UTF-8. Pings are answered. Whoever
// is silent for Silence, sending neither data nor a control frame, is closed with 1002; whoever takes not a byte for Options.Slow
// while something is to be written, with 1013. Close frames say why; 1000 is only ever sent as the echo of the client's own.
// Extensions, and with them compression, are not negotiated: deflate costs memory for each connection, and the bytes here are
// mostly shared by all.
//
// # What callers owe
//
// A Handler's methods must follow their contracts. Drain the live.Set, and nothing of this package is left running.
package socket
