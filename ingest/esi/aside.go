package esi

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"killfeed/ingest/upstream"
)

// Route is something else that ESI tells than killmails.
type Route int

const (
	// RouteNames takes an array of ids, and tells what they are called.
	RouteNames Route = iota
	// RouteCorporation and the others take one id.
	RouteCorporation
	RouteAlliance
	RouteSystem
	RouteConstellation
	routes = iota
)

var routePaths = [routes]string{
	RouteNames: "/universe/names/", RouteCorporation: "/corporations/%d/", RouteAlliance: "/alliances/%d/",
	RouteSystem: "/universe/systems/%d/", RouteConstellation: "/universe/constellations/%d/",
}

// maxAside bounds answers to Ask: 1,000 names take 100 KB, and systems have lists of planets.
const maxAside = 1 << 20

// Ask asks once for something else than a killmail, and returns ESI's answer as it is. It waits until killmails and ESI's limits
// leave room for it, which may be long: one such request is under way at a time. Errors are an *upstream.Error or the cause of
// ctx. The question of RouteNames is JSON; the other routes have an id.
func (c *Client) Ask(ctx context.Context, route Route, id uint32, question []byte) ([]byte, error) {
	b := &c.asides[route]
	if err := c.limits.begin(ctx, b); err != nil {
		return nil, err
	}
	var answer *upstream.Answer
	var err error
	if route == RouteNames {
		answer, err = c.http.Post(ctx, c.base+routePaths[route], question, maxAside)
	} else {
		answer, err = c.http.Get(ctx, c.base+fmt.Sprintf(routePaths[route], id), maxAside)
	}
	if err != nil {
		status, header := 0, http.Header(nil)
		if e, ok := errors.AsType[*upstream.Error](err); ok {
			status, header = e.Status, e.Header
		}
		c.limits.end(b, status, header)
		return nil, err
	}
	c.limits.end(b, http.StatusOK, answer.Header)
	return answer.Body, nil
}
