package r2z2

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"killfeed"
	"killfeed/web"
	"killfeed/web/dialect/internal/pack"
)

// Options configure the dialect. The zero value works.
type Options struct {
	// Logger is told of what went wrong on this side; nil discards.
	Logger *slog.Logger
}

// dialect serves R2Z2.
type dialect struct {
	feed    *killfeed.Feed
	log     *slog.Logger
	shelf   pack.Shelf
	updates updates
	history *history
}

// Mount adds R2Z2's paths to an API: those below /ephemeral and /history. The epoch of the feed does not change while it is open.
func Mount(api *web.API, feed *killfeed.Feed, o Options) error {
	d := &dialect{feed: feed, log: o.Logger, history: newHistory(feed)}
	d.updates = updates{feed: feed, size: updatesBlock, blocks: map[killfeed.EventID]*updated{}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return api.Mount(
		web.Route{Method: http.MethodGet, Path: "/ephemeral/sequence.json", Serve: d.pointer},
		web.Route{Method: http.MethodGet, Path: "/ephemeral/{id}", Serve: d.file},
		web.Route{Method: http.MethodGet, Path: "/history/totals.json", Serve: d.totals},
		web.Route{Method: http.MethodGet, Path: "/history/{id}", Serve: d.hashes},
		web.Route{Method: http.MethodGet, Path: "/history/raw/{id}", Serve: d.raw},
	)
}

// What caches may do. Readers that poll the pointer or a file that is yet to come must not be told of a second ago for long.
const (
	pointerCaching = "public, max-age=1"
	soonCaching    = "public, max-age=1"   // of a 404
	goneCaching    = "public, max-age=300" // of a 404
	fileCaching    = "public, max-age=60"  // an update rewrites it
	historyCaching = "public, max-age=300"
)

// pointer answers with the newest number. Clients look for either name.
func (d *dialect) pointer(w http.ResponseWriter, r *http.Request) {
	n := d.feed.State().MirrorSeq
	b := strconv.AppendUint([]byte(`{"sequence":`), n, 10)
	b = append(strconv.AppendUint(append(b, `,"sequence_id":`...), n, 10), '}')
	w.Header().Set("Cache-Control", pointerCaching)
	write(w, r, http.StatusOK, b)
}

// write answers with JSON.
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // an error means that the caller left, and nobody is there to be told
	}
}

// refuse answers with an error. Readers look at the status; the text is for who wonders.
func refuse(w http.ResponseWriter, r *http.Request, status int, text, caching string) {
	body, err := json.Marshal(map[string]string{"error": text})
	if err != nil { // not reached: it is a string
		body = []byte(`{}`)
	}
	w.Header().Set("Cache-Control", caching)
	write(w, r, status, body)
}

// fail answers with an error of the feed, if anybody is there.
func (d *dialect) fail(w http.ResponseWriter, r *http.Request, err error) {
	if ctx := r.Context(); ctx.Err() != nil && !errors.Is(context.Cause(ctx), killfeed.ErrClosed) {
		return
	}
	status, text := web.Status(err)
	if status >= http.StatusInternalServerError {
		d.log.Warn("a file could not be served", "path", r.URL.Path, "status", status, "err", err)
		w.Header().Set("Retry-After", "5")
	}
	refuse(w, r, status, text, "no-store")
}

// unchanged answers 304 when the caller has the version with the tag, and sets what goes with it either way.
func unchanged(w http.ResponseWriter, r *http.Request, tag, caching string) bool {
	h := w.Header()
	h.Set("Etag", tag)
	h.Set("Cache-Control", caching)
	if has(r, tag) {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	return false
}

// has tells whether the caller has the version with the tag.
func has(r *http.Request, tag string) bool {
	for _, list := range r.Header.Values("If-None-Match") {
		for one := range strings.SplitSeq(list, ",") {
			if one = strings.TrimPrefix(strings.TrimSpace(one), "W/"); one == tag || one == "*" {
				return true
			}
		}
	}
	return false
}
