// Package browser drives the page for people in a real browser, against the real binary. It holds tests only.
//
// # What it guarantees
//
// What docs/page.md says of the page holds in Chromium: a killmail is on the screen in under a second; filters, keys, themes and
// the address do what they say; whatever happens to the server the list has each killmail once and misses none; nobody but the
// server is asked when pictures are off; axe-core has no serious complaint; the memory of a page does not grow with what passes
// through it. So does what docs/operate.md says of the operator's view, and docs/page.md of the overlay and the
// playground. The scripts of all pages have no type errors.
//
// # What it needs
//
// Node.js 20 or newer with what package-lock.json names (npm ci), and Chromium. Without them its tests are skipped; with CI=true
// they fail instead. ./scripts/test installs what is missing where it may. Servers listen on loopback, and what the page asks of
// any other host is answered by the test.
//
// Flags, behind -args: -long sends 100,000 killmails through a page instead of 5,000; -killfeed tests a binary that is there
// already instead of building one; -shots keeps screenshots in a directory.
//
//	go test ./internal/browser -v -timeout 30m -args -long
//
// # What authors owe
//
// js/driver.js obeys and decides nothing. Nothing sleeps: every wait is for something in the page, and has an end. A test that
// says nothing else asks at its end that the page had no errors on its console.
package browser
