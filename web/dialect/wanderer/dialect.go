package wanderer

import (
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"killfeed"
	"killfeed/web"
	"killfeed/web/socket"
)

// Options configure the dialect. The zero value works.
type Options struct {
	// MaxStreams bounds the streams of Server-Sent Events that are open; 0 means 1,000. Channels count as the API's connections do.
	MaxStreams int
	// Logger is told of what went wrong on this side; nil discards.
	Logger *slog.Logger
}

// dialect is what all requests and channels share.
type dialect struct {
	api     *web.API
	feed    *killfeed.Feed
	log     *slog.Logger
	epoch   killfeed.Epoch // never changes while the feed is open
	shelf   shelf
	counts  counts
	rooms   sync.Pool // of *[maxRead]killfeed.Event
	most    int64     // streams
	streams atomic.Int64
	lobbies atomic.Int64 // channels that are joined
}

// maxRead is how many events are read from the log at a time.
const maxRead = 128

// Mount has the API serve the dialect. The error is about paths that are taken.
func Mount(api *web.API, feed *killfeed.Feed, o Options) error {
	if o.MaxStreams == 0 {
		o.MaxStreams = 1000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &dialect{api: api, feed: feed, log: o.Logger, epoch: feed.State().Epoch, most: int64(o.MaxStreams)}
	d.rooms.New = func() any { return new([maxRead]killfeed.Event) }
	d.counts.feed = feed
	if err := api.MountChannel(lobbyTopic, d.join); err != nil {
		return fmt.Errorf("wanderer: %w", err)
	}
	if err := api.Mount(d.routes()...); err != nil {
		return fmt.Errorf("wanderer: %w", err)
	}
	return nil
}

func (d *dialect) routes() []web.Route {
	return []web.Route{
		{Method: "GET", Path: "/ping", Serve: d.ping},
		{Method: "GET", Path: "/health", Serve: d.health},
		{Method: "GET", Path: "/status", Serve: d.status},
		{Method: "GET", Path: "/metrics", When: wantsJSON, Serve: d.metrics},
		{Method: "GET", Path: "/websocket", When: notUpgrade, Serve: d.aboutSocket},
		{Method: "GET", Path: "/websocket/status", Serve: d.socketStatus},
		{Method: "GET", Path: "/api/v1/kills/system/{id}", Serve: d.killsOfSystem},
		{Method: "POST", Path: "/api/v1/kills/systems", Serve: d.killsOfSystems},
		{Method: "GET", Path: "/api/v1/kills/cached/{id}", Serve: d.cachedKills},
		{Method: "GET", Path: "/api/v1/kills/count/{id}", Serve: d.killCount},
		{Method: "GET", Path: "/api/v1/killmail/{id}", Serve: d.killmail},
		{Method: "GET", Path: "/api/v1/kills/stream", Plainly: true, Serve: func(w http.ResponseWriter, r *http.Request) { d.serveStream(w, r, false) }},
		{Method: "GET", Path: "/api/v1/kills/stream/enhanced", Plainly: true, Serve: func(w http.ResponseWriter, r *http.Request) { d.serveStream(w, r, true) }},
		{Method: "GET", Path: "/api/v1/subscriptions", Serve: d.listWebhooks},
		{Method: "POST", Path: "/api/v1/subscriptions", Serve: d.addWebhook},
		{Method: "GET", Path: "/api/v1/subscriptions/stats", Serve: d.webhookStats},
		{Method: "DELETE", Path: "/api/v1/subscriptions/{id}", Serve: d.removeWebhook},
	}
}

func notUpgrade(r *http.Request) bool { return !socket.IsUpgrade(r) }

// The ids that are taken, as there.
const (
	maxSystemID    = 50_000_000
	maxCharacterID = 3_000_000_000
)

// window is the time that is counted and, unless somebody says otherwise, looked back on.
const window = 24 * time.Hour
