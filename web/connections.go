package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"killfeed/phoenix"
	"killfeed/tokens"
	"killfeed/web/live"
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
	how, err := a.admit(x.r)
	if errors.Is(err, errNotAdmitted) { // as Phoenix does it
		x.status = http.StatusForbidden
		x.w.Header()["Content-Length"] = []string{"0"}
		x.w.WriteHeader(http.StatusForbidden)
		return nil
	} else if err != nil {
		return err
	}
	if !socket.IsUpgrade(x.r) {
		p := refuse(http.StatusBadRequest, "this is a WebSocket: a GET over HTTP/1.1 with Connection: Upgrade and Upgrade: websocket is wanted")
		p.Parameter = "Upgrade"
		return p
	}
	lease, err := a.enter(x.r)
	if err != nil {
		return err
	}
	conn, err := a.sockets.Accept(x.w, x.r, phoenixProtocol, lease)
	if err != nil {
		lease.End()
		x.status = http.StatusBadRequest // it was answered
		return nil
	}
	x.status, x.waits = http.StatusSwitchingProtocols, true
	a.connections.began("websocket")
	t := a.newTalk(how, conn.Wake)
	conn.Serve(&socketHandler{talk: t})
	a.welcome(t.visit, func() { conn.Close(tokenOver()) })
	return nil
}

// tokenOver closes a connection whose token is good no more.
func tokenOver() *socket.CloseError {
	return &socket.CloseError{Code: socket.Policy, Reason: "the token is not good any more"}
}

// notSocket answers other methods than those of a socket, as Phoenix does.
func (a *API) notSocket(x *exchange) error {
	return refuse(http.StatusBadRequest, "%s is no way to open a socket: GET is", shorten(x.r.Method))
}

// phoenixProtocol is the WebSocket subprotocol that clients of Phoenix offer when they send a token.
const phoenixProtocol = "phoenix"

// admission is how a client of Phoenix was let in.
type admission struct {
	version phoenix.Version
	token   *tokens.Token // that it showed; nil: it showed none
}

// errNotAdmitted is told by each transport in its own way, and without a reason.
var errNotAdmitted = errors.New("not admitted")

// admit decides who may talk Phoenix, before there is a connection. The error is errNotAdmitted, about the query, or that the token
// is used too often.
func (a *API) admit(r *http.Request) (how admission, err error) {
	vsn := ""
	err = eachPair(r.URL.RawQuery, func(name, value string) error {
		if name == "vsn" {
			vsn = value
		}
		return nil
	})
	if err != nil {
		return how, err
	}
	if how.version, err = phoenix.ParseVersion(vsn); err != nil || !a.allowsOrigin(r) {
		return how, errNotAdmitted
	}
	now := time.Now()
	if text, sent := socketToken(r); sent {
		k := a.keys.Load()
		if how.token = k.find(text, now); how.token == nil {
			a.refusals.WithLabelValues(refusedWrong).Inc()
			return how, errNotAdmitted
		}
		if wait, ok := k.spend(how.token, now); !ok {
			p := a.turnAway(refusedRate, http.StatusTooManyRequests, "the token that was sent is used too often")
			p.retryAfter = seconds(wait)
			return how, p
		}
	} else {
		how.token = a.bearerOf(r) // it was counted, as with all requests
	}
	if needs := a.needs(open); needs != 0 && (how.token == nil || !how.token.Scopes.Has(needs)) {
		a.refusals.WithLabelValues(refusedNone).Inc()
		return how, errNotAdmitted
	}
	return how, nil
}

// socketToken finds the token that a client of Phoenix sends: as the second subprotocol over WebSocket, in a header of its own
// over long polls.
func socketToken(r *http.Request) (token string, sent bool) {
	if token = r.Header.Get("X-Phoenix-AuthToken"); token != "" {
		return token, true
	}
	for _, offered := range r.Header["Sec-Websocket-Protocol"] {
		for part := range strings.SplitSeq(offered, ",") {
			if text, ok := strings.CutPrefix(strings.TrimSpace(part), "base64url.bearer.phx."); ok {
				return decodeToken(text), true
			}
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

	mu  sync.Mutex // guards the rest; held for a map operation, or a copy
	now map[string]int
}

func newConnections() *connections {
	c := &connections{
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
	c.now = map[string]int{}
	// Series are there from the beginning, so that the first of a kind is a rise from 0.
	for transport, usual := range map[string]string{"websocket": "1000", "longpoll": "0", "sse": "0", "ndjson": "0"} {
		c.open.WithLabelValues(transport)
		c.closed.WithLabelValues(transport, usual)
	}
	for _, reason := range []string{live.Full, live.Crowded, live.TooFast, live.Draining} {
		c.refused.WithLabelValues(reason)
	}
	return c
}

func (c *connections) collectors() []prometheus.Collector {
	return []prometheus.Collector{c.open, c.closed, c.refused, c.broken}
}

func (c *connections) began(transport string) {
	c.open.WithLabelValues(transport).Inc()
	c.count(transport, 1)
}

func (c *connections) count(transport string, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now[transport] += by
}

// byTransport is how many are open of each kind that there ever was.
func (c *connections) byTransport() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.now)
}

func (c *connections) ended(transport string, code int) {
	if code < 1000 || code > 1015 {
		code = min(code, 1) * 1000 // a client may send any code: they are not to become series
	}
	c.open.WithLabelValues(transport).Dec()
	c.count(transport, -1)
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
