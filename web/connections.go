package web

import (
	"context"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed/phoenix"
	"killfeed/web/socket"
)

// Run looks after the connections that stay open until ctx ends; it then returns nil. They are ended by Drain.
func (a *API) Run(ctx context.Context) error { return a.live.Run(ctx) }

// Drain ends all connections that stay open, spread over a while but at most the given time, so that their clients come back,
// and not all at once. From its beginning no new ones are let in. It returns how many had not ended when ctx did. It is called
// before the server is shut down.
func (a *API) Drain(ctx context.Context, within time.Duration) int { return a.live.Drain(ctx, within) }

// socket opens a WebSocket for Phoenix Channels.
func (a *API) socket(x *exchange) error {
	version, err := a.admitSocket(x)
	if err != nil || x.status != 0 {
		return err
	}
	if !socket.IsUpgrade(x.r) {
		p := refuse(http.StatusBadRequest, "this is a WebSocket: a GET over HTTP/1.1 with Connection: Upgrade and Upgrade: websocket is wanted")
		p.Parameter = "Upgrade"
		return p
	}
	lease, err := a.enter()
	if err != nil {
		return err
	}
	protocol := ""
	if strings.Contains(x.r.Header.Get("Sec-Websocket-Protocol"), phoenixProtocol) {
		protocol = phoenixProtocol
	}
	conn, err := a.sockets.Accept(x.w, x.r, protocol, lease)
	if err != nil {
		lease.End()
		x.status = http.StatusBadRequest // it was answered
		return nil
	}
	x.status, x.waits = http.StatusSwitchingProtocols, true
	a.connections.began("websocket")
	conn.Serve(&socketHandler{talk: a.newTalk(version, conn.Wake)})
	return nil
}

// notSocket answers other methods than GET, as Phoenix does.
func (a *API) notSocket(x *exchange) error {
	return refuse(http.StatusBadRequest, "%s is no way to open a socket: GET is", shorten(x.r.Method))
}

// phoenixProtocol is the WebSocket subprotocol by which clients of Phoenix send a token.
const phoenixProtocol = "phoenix"

// admitSocket decides who may talk Phoenix, before there is a connection. A refusal is answered as Phoenix does, by a status
// without a body; x.status is set then.
func (a *API) admitSocket(x *exchange) (phoenix.Version, error) {
	vsn := ""
	err := eachPair(x.r.URL.RawQuery, func(name, value string) error {
		if name == "vsn" {
			vsn = value
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	version, err := phoenix.ParseVersion(vsn)
	token, sent := socketToken(x.r)
	if err != nil || !a.allowsOrigin(x.r) || sent && !a.token.is(token) {
		x.status = http.StatusForbidden
		x.w.Header()["Content-Length"] = []string{"0"}
		x.w.WriteHeader(http.StatusForbidden)
	}
	return version, nil
}

// socketToken finds the token that a client of Phoenix sends: as the second subprotocol over WebSocket, in a header of its own
// over long polls.
func socketToken(r *http.Request) (token string, sent bool) {
	if token = r.Header.Get("X-Phoenix-AuthToken"); token != "" {
		return token, true
	}
	for part := range strings.SplitSeq(r.Header.Get("Sec-Websocket-Protocol"), ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(part), "base64url.bearer.phx."); ok {
			return decodeToken(text), true
		}
	}
	return "", false
}

// allowsOrigin tells whether a page of the request's origin may open a socket. Browsers let any page open a WebSocket, and say
// whose it is; programs say nothing.
func (a *API) allowsOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || len(a.config.Origins) == 0 {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil {
		return false
	}
	for _, allowed := range a.config.Origins {
		if strings.EqualFold(allowed, origin) || strings.EqualFold(allowed, u.Host) || strings.EqualFold(allowed, u.Hostname()) {
			return true
		}
	}
	return strings.EqualFold(u.Host, r.Host) // this server's own pages
}

// panickedIn makes what is told of panics outside of a request.
func (a *API) panickedIn(where string) func(any, []byte) {
	return func(v any, stack []byte) {
		a.log.Error(where+" panicked", "panic", v, "stack", string(stack))
	}
}

// guard keeps a panic in f, which is outside of a request, from ending the process.
func (a *API) guard(where string, f func()) {
	defer func() {
		if v := recover(); v != nil {
			a.panickedIn(where)(v, debug.Stack())
		}
	}()
	f()
}

// superseded remembers the connections whose client name a newer one took, so that a browser which comes back by itself is
// sent away instead of taking it back: two tabs would do that to each other for ever. It remembers the last thousand.
type superseded struct {
	mu    sync.Mutex // guards the rest
	known map[[2]string]struct{}
	order [1000][2]string
	next  int
}

func (s *superseded) add(client, nonce string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[[2]string]struct{}{}
	}
	delete(s.known, s.order[s.next])
	key := [2]string{client, nonce}
	s.known[key], s.order[s.next] = struct{}{}, key
	s.next = (s.next + 1) % len(s.order)
}

func (s *superseded) has(client, nonce string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.known[[2]string{client, nonce}]
	return ok
}

// connections are the metrics of what stays open.
type connections struct {
	open    *prometheus.GaugeVec
	closed  *prometheus.CounterVec
	refused *prometheus.CounterVec
	broken  prometheus.Counter
}

func newConnections() *connections {
	return &connections{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "killfeed_connections", Help: "Connections that stay open, by transport.",
		}, []string{"transport"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "killfeed_connections_closed_total",
			Help: "Connections that have ended, by transport and close code; 1006: without one, 0: the transport has none.",
		}, []string{"transport", "code"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "killfeed_connections_refused_total", Help: "Connections that were not let in, by reason.",
		}, []string{"reason"}),
		broken: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "killfeed_channel_frames_broken_total", Help: "Frames of Channels that could not be read; each ends its connection.",
		}),
	}
}

func (c *connections) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.open, c.closed, c.refused, c.broken}
}

func (c *connections) began(transport string) { c.open.WithLabelValues(transport).Inc() }

func (c *connections) ended(transport string, code int) {
	if code < 1000 || code > 1015 {
		code = min(code, 1) * 1000 // a client may send any code: they are not to become series
	}
	c.open.WithLabelValues(transport).Dec()
	c.closed.WithLabelValues(transport, strconv.Itoa(code)).Inc()
}

// takeBuffer lends memory for something to be written.
func (a *API) takeBuffer() []byte { return (*a.buffers.Get().(*[]byte))[:0] }

// giveBuffer takes it back.
func (a *API) giveBuffer(b []byte) {
	if cap(b) <= maxKept {
		a.buffers.Put(&b)
	}
}
