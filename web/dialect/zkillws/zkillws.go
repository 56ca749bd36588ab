package zkillws

import (
	"errors"
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
	// MaxChannels bounds the channels of all connections together, of which each has 10,000 at most; 0 means 1,000,000. Who
	// wants more is closed with 1013.
	MaxChannels int
	// Logger is told of what went wrong on this side; nil discards.
	Logger *slog.Logger
}

// pingEvery is how often a client is asked whether it is still there. Who answers none for four times as long is closed.
const pingEvery = 30 * time.Second

// dialect is what its connections share.
type dialect struct {
	feed     *killfeed.Feed
	epoch    killfeed.Epoch
	log      *slog.Logger
	shelf    shelf
	rooms    sync.Pool // of *room
	most     int64
	channels atomic.Int64 // of all connections
}

// Mount has the API serve the dialect. The error is that of API.Mount.
func Mount(api *web.API, feed *killfeed.Feed, o Options) error {
	d := &dialect{feed: feed, epoch: feed.State().Epoch, log: o.Logger, most: int64(o.MaxChannels)}
	d.rooms.New = func() any { return new(room) }
	if d.most == 0 {
		d.most = 1_000_000
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return api.Mount(web.Route{
		Method: http.MethodGet, Path: "/websocket", When: socket.IsUpgrade, Plainly: true,
		Serve: func(w http.ResponseWriter, r *http.Request) {
			backfill := r.URL.Query().Get("backfill") == "1"
			api.OpenSocket(w, r, "zkillboard", func(conn *socket.Conn) socket.Handler {
				conn.KeepAlive(pingEvery)
				return d.client(conn.Wake, conn.Close, backfill)
			})
		},
	})
}

func (d *dialect) client(wake func(), end func(*socket.CloseError), backfill bool) *client {
	return &client{dialect: d, wake: wake, end: end, backfill: backfill, channels: map[string]killfeed.Topic{}}
}

// failed is how a connection ends that cannot be served.
func (d *dialect) failed(err error) *socket.CloseError {
	switch {
	case errors.Is(err, killfeed.ErrBusy):
		return &socket.CloseError{Code: socket.TryAgainLater, Reason: "too many channels are followed: come back later"}
	case errors.Is(err, killfeed.ErrClosed):
		return &socket.CloseError{Code: socket.ServiceRestart, Reason: "the server is restarting"}
	}
	d.log.Error("a connection of zKillboard's dialect could not be served; its client may come back", "err", err)
	return &socket.CloseError{Code: socket.InternalError, Reason: "internal error"}
}
