// Package doctest keeps the documents true: README.md, CONTRIBUTING.md, CHANGELOG.md, all of doc/ and docs/, and
// what is in clients/. It holds tests only.
//
// # What it guarantees
//
// Every example is run. The fenced blocks of a document run from top to bottom against a server of the document's own, which
// starts with an empty log, and what they print is compared with the block that follows. An example that cannot run says
// why, where authors see it and readers do not.
//
// A program that follows the log live is shown what it has to cope with, while it runs: killmails that come, and a server
// that is restarted and has more of them before anybody can reach it again. It has to print each of them, once.
//
// Every link inside the project leads somewhere. The settings in docs/configuration.md and the exit codes in docs/operate.md
// are those of the program, the key spaces in docs/format.md those of the store, the tests in docs/guarantees.md exist, and
// docs/api.md leaves out no endpoint, parameter or status of the OpenAPI document.
//
// # What it needs
//
// bash and curl; and what an example is written for: python3, Node.js 20 or newer with the npm packages of internal/interop,
// Chromium, jq. Without one of them the examples that need it are skipped; with CI=true they fail instead.
//
// # What authors owe
//
// The language behind the fence says what happens:
//
//	```sh              runs in the document's one shell, so that variables live on; each command must succeed
//	```sh program      runs as a program of its own, as do ```python, ```js and ```go, which is run as 'go run file.go'
//	```html            is a page that Chromium opens from a file; it prints the text of each list item that it adds
//	```sh no-run: why  is only shown
//	```toml            is read as killfeed.toml by 'killfeed config show'
//	```json, ```text   directly behind one of those: what it prints; elsewhere: JSON that must be valid, and drawings
//
// In what is printed, … stands for anything within a line, and a line of its own for any lines; JSON is compared without
// regard to white space, so that it can be shown with line breaks. A program is ended once it has printed what is expected.
// What it writes to standard error is not compared.
//
// In the text that a program prints, a line in parentheses is a direction. It says what happens when everything above it was
// printed, and so the first one needs a line above it by which the program shows that it is ready. The killmails are made up.
// Nothing but what is expected may be printed until the end, so that what comes twice is seen: the last line must be of a
// killmail that came behind all that might come again.
//
//	(killmail 900000011 in Jita)
//	(killmails 900000012 in Jita, 900000013 in Perimeter and 900000014 in Amarr)
//	(the server restarts, and has killmail 900000015 in Jita before anybody is back)
//
// The example "go run ./cmd/killfeed serve" is the document's own server. In the others 127.0.0.1:4004 becomes that server's
// real address, and "go run ./cmd/killfeed" the built binary. The working directory, but of programs in Go, is an empty one
// with the server's killfeed-data and a made-up day archive, killmails-2026-11-22.tar.bz2. The packages of clients/ can be
// imported, and in Go those of the module.
package doctest
