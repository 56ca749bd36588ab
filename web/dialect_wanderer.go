package web

import (
	"time"

	"killfeed/names"
)

// This file is what the API tells dialects of itself, beside what mount.go gives them.

// Called tells what an id of the category is called, at once: static data comes first, then the names that are known. What is not
// known is asked for in the background.
func (a *API) Called(id uint32, of names.Category) (name, ticker string, state names.State) {
	u := a.feed.Universe()
	if of == names.System {
		p, state := a.place(u, id)
		return p.Name, "", state
	}
	is, state := a.called(u, id, of)
	return is.name, is.ticker, state
}

// Readiness is ready, degraded or failed, as /readyz tells it, and why it is no better.
func (a *API) Readiness() (status, reason string) {
	r := a.readiness()
	return r.Status, r.Reason
}

// Connections is how many connections stay open, by the name of their transport.
func (a *API) Connections() map[string]int { return a.connections.byTransport() }

// Started is when the API was made.
func (a *API) Started() time.Time { return a.started }

// Version is the program's.
func (a *API) Version() string { return a.config.Version }
