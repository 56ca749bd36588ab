package web

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"killfeed"
)

const (
	// maxHeader bounds a request's line and headers: a query of about 3,000 systems. Longer lists go in a body.
	maxHeader = 64 << 10
	// writeTime bounds a request from its headers to the end of its answer: a long poll, and then 16 MiB over a slow line.
	writeTime = maxWait + 2*time.Minute
)

// NewServer returns an http.Server with limits that fit an API or a Gate. Its Shutdown answers long polls at once, and waits
// for inserts and commits in flight.
//
// It speaks HTTP/1.1 and, to those who begin with it, HTTP/2 without TLS: so a proxy may carry many streams over a few
// connections. WebSockets are HTTP/1.1's.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	base, end := context.WithCancelCause(context.Background())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true) // over TLS
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Protocols: protocols,
		// The deadlines of HTTP/2 are those of streams; this one is the connection's, whose peer takes nothing at all.
		HTTP2:             &http.HTTP2Config{WriteByteTimeout: takeWithin},
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      writeTime,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		BaseContext:       func(net.Listener) context.Context { return base },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // mostly what strangers do to a port
	}
	s.RegisterOnShutdown(func() { end(fmt.Errorf("the server is shutting down: %w", killfeed.ErrClosed)) })
	return s
}

// Gate stands before an API that is yet to come. Until Open, /livez is 200, because the process lives, and everything else
// 503 with Retry-After, because the log is being opened. The zero value is a closed gate.
type Gate struct {
	to atomic.Pointer[API]
}

// Open lets all requests from now on through to a.
func (g *Gate) Open(a *API) { g.to.Store(a) }

// Drain is that of the API behind an open gate.
func (g *Gate) Drain(ctx context.Context, within time.Duration) int {
	if a := g.to.Load(); a != nil {
		return a.Drain(ctx, within)
	}
	return 0
}

func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if a := g.to.Load(); a != nil {
		a.ServeHTTP(w, r)
		return
	}
	if strings.TrimSuffix(r.URL.Path, "/") == "/socket/longpoll" { // whose clients take any other answer for the end of the world
		w.Header()["Content-Type"] = valueJSON
		w.Header()["Access-Control-Allow-Origin"] = valueAny
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte(pollLaterBody))
		return
	}
	h := w.Header()
	h["Cache-Control"] = valueNoStore
	h["Access-Control-Allow-Origin"] = valueAny
	h["Access-Control-Expose-Headers"] = valueExposed
	x := &exchange{w: w, r: r}
	if r.URL.Path == "/livez" && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
		x.send(http.StatusOK, valueJSON, alive)
		return
	}
	p := refuse(http.StatusServiceUnavailable, "the log is being opened: try again in a moment")
	p.retryAfter = 1
	p.send(x)
}
