// Package interop drives the live edges of the real binary with clients that others wrote, and with this project's own. It holds
// tests only.
//
// # What it guarantees
//
// What is promised of WebSocket, long poll, Server-Sent Events and NDJSON holds for real programs: npm phoenix, current and
// of years ago, github.com/nshafer/phx, a browser's EventSource, curl, and nginx with its defaults between them. Two clients
// that cannot be had here are replayed, by their habits on the wire: an Elixir phoenix_gen_socket_client and a client of the
// first Phoenix protocol. Whatever is stopped or killed on the way, what they receive is what the log has: every event, once,
// in order. The test reads the log through the polling API and compares.
//
// Of the dialects it is promised that clients of the older services work when nothing but the base address is changed. The
// examples that those services, and bots that live on them, have published are rewritten in js/ and py/: the same requests,
// the same readings, the same pauses. Where a protocol keeps a place they get everything once through a restart; where it
// keeps none, everything while they are connected.
//
// This project's own clients, in ../../clients and ../../client, do all four what their documents say, through kills and restarts:
// a program for each, in js/, py/ and reader/, tells in the same lines what its client gives.
//
// # What it needs
//
// Node.js 20 or newer with what package-lock.json names (npm ci), Python 3.8 or newer, for the own client 3.11,
// with nothing but its own library, Chromium, nginx and curl. Without one of them its tests are skipped; with CI=true they fail instead. ./scripts/test installs
// what is missing where it may. Servers listen on loopback.
//
// Two flags, behind -args: -long leaves connections quiet for three minutes, so that a minute's limit on silence, the
// server's own or nginx's, has its turn three times; without it they are only ever quiet for moments. -killfeed tests a binary
// that is there already instead of building one.
//
//	go test ./internal/interop -v -parallel 4 -timeout 30m -args -long
//
// # What authors owe
//
// A script in js/ or py/ prints a JSON line for everything that happens to its client and decides nothing. The lines of one
// channel come in order, and a test takes them one by one: a line that it does not expect fails it. No test sleeps; every
// wait is for a line, and has an end.
package interop
