// Package socket is the server's end of a WebSocket (RFC 6455), made for very many connections of which few have something to
// say at a time.
//
// # What it guarantees
//
// A connection has one goroutine, which reads. A few others write for all connections: one of them takes a connection, pulls a
// batch from its Handler, writes it in one system call, and goes on to the next. So messages are written in the order in which
// they were pulled, nothing is queued here, and a connection whose client takes nothing holds one batch and waits, with a
// goroutine of its own until that is over.
//
// Handlers get whole messages, of at most MaxMessage bytes and, when they are text, of valid UTF-8. Pings are answered. Whoever
// is silent for Silence, sending neither data nor a control frame, is closed with 1002; whoever takes not a byte for Options.Slow
// while something is to be written, with 1013. Both are noticed a little later. Clients of older services say nothing for hours:
// with KeepAlive the server asks them. Close frames say why; 1000 is only ever sent as the echo of the client's own. Whatever the
// client does, an end that has begun is over within seconds, but for a message that is being handled. Clocks that jump end
// nothing.
//
// A hostile client costs a message, a batch of what it asked for, and about a kilobyte of pongs. Extensions, and with them
// compression, are not negotiated: deflate costs memory for each connection, and the bytes here are mostly shared by all.
//
// # What callers owe
//
// A Handler's methods must follow their contracts; one whose Pull waits holds up the connections of others. Drain the live.Set,
// and nothing of this package is left running.
package socket
