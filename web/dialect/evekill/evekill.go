package evekill

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"killfeed"
	"killfeed/web"
	"killfeed/web/dialect/internal/pack"
)

// Options configure the dialect. The zero value works.
type Options struct {
	// Logger is told of what went wrong on this side; nil discards.
	Logger *slog.Logger
}

// dialect is what its requests share.
type dialect struct {
	api     *web.API
	feed    *killfeed.Feed
	log     *slog.Logger
	shelf   pack.Shelf
	rooms   sync.Pool    // of *room
	streams atomic.Int64 // that are open
}

// Mount has the API serve the dialect. The error is that of API.Mount.
func Mount(api *web.API, feed *killfeed.Feed, o Options) error {
	d := &dialect{api: api, feed: feed, log: o.Logger}
	d.rooms.New = func() any { return new(room) }
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var routes []web.Route
	for _, base := range []string{"/api/feed", "/feed"} {
		routes = append(routes,
			web.Route{Method: http.MethodGet, Path: base, Serve: d.index},
			web.Route{Method: http.MethodGet, Path: base + "/poll", Serve: d.poll},
			web.Route{Method: http.MethodGet, Path: base + "/status", Serve: d.status},
			web.Route{Method: http.MethodGet, Path: base + "/stream", Plainly: true, Serve: d.stream},
		)
	}
	return api.Mount(routes...)
}

// answer sends a JSON text.
func answer(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // an error means that the caller left
}

// refuse answers with an error, in the form {"error":"…"}.
func refuse(w http.ResponseWriter, status int, text string) {
	body, _ := json.Marshal(map[string]string{"error": text}) // never fails for strings
	answer(w, status, body)
}

// failed answers an error of the feed.
func (d *dialect) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // the caller left
	}
	status, text := web.Status(err)
	if status >= http.StatusInternalServerError {
		d.log.Warn("a request of EVE-KILL's dialect could not be served", "path", r.URL.Path, "err", err)
	}
	refuse(w, status, text)
}

// latest is the last seq, as JSON: null while there is none.
func latest(head killfeed.EventID) []byte {
	if head == 0 {
		return []byte("null")
	}
	return strconv.AppendUint(nil, uint64(head), 10)
}

func (d *dialect) status(w http.ResponseWriter, _ *http.Request) {
	status := "ok"
	if d.feed.Health() != nil { // what there is can be read, but nothing new comes
		status = "degraded"
	}
	b := append([]byte(`{"status":"`+status+`","clients":`), strconv.FormatInt(d.streams.Load(), 10)...)
	b = append(append(b, `,"latestSeq":`...), latest(d.feed.State().Head)...)
	answer(w, http.StatusOK, append(b, '}'))
}

// index tells what there is, as the original does.
func (d *dialect) index(w http.ResponseWriter, _ *http.Request) {
	body, _ := json.Marshal(map[string]any{ // never fails for strings
		"name": "Killfeed, with EVE-KILL's feed API",
		"description": "Killmails as ESI has them, by polling or as Server-Sent Events. seq is their place in this feed: " +
			"it is the cursor, and not the killmail's id.",
		"endpoints": map[string]any{
			"GET /feed/poll": map[string]any{
				"description": "Killmails behind a cursor. latest is the last seq there is, next goes on behind this page, last is the newest page.",
				"params": map[string]string{
					"after":    "the last seq that was handled; earliest begins with the first that is kept, 0 only tells the head",
					"limit":    "1 to 1000, 100 unless given",
					"backfill": "1: imported history, too",
				},
			},
			"GET /feed/stream": map[string]any{
				"description": "Server-Sent Events: killmails as they come.",
				"params": map[string]string{
					"topics":      "separated by commas, all unless given",
					"lastEventId": "where to resume, as the header Last-Event-ID",
					"backfill":    "1: imported history, too",
				},
			},
			"GET /feed/status": map[string]any{"description": "how many streams are open, and the last seq"},
		},
		"topics": topicNames(),
	})
	answer(w, http.StatusOK, body)
}

// appendBody appends a killmail as EVE-KILL shows it: ESI's body and the hash. It has an id, so the object is not empty.
func appendBody(b []byte, m *pack.Mail) []byte {
	b = append(b, m.ESI[:len(m.ESI)-1]...)
	if m.Hash != "" {
		b = append(append(append(b, `,"killmail_hash":"`...), m.Hash...), '"')
	}
	return append(b, '}')
}
