package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/prometheus/client_golang/prometheus"

	"killfeed"
	"killfeed/names"
	"killfeed/tokens"
	"killfeed/web/doors"
	"killfeed/web/live"
	"killfeed/web/socket"
)

// Config configures an API. The zero value works: nobody may then insert, collect, or list and delete clients.
type Config struct {
	// AdminToken is the bearer token for those who may do everything. Empty: there is none.
	AdminToken string
	// Tokens are further ones, which may do less; nil: none.
	Tokens *tokens.Set
	// ReadTokens: reading needs a token with the scope read, which otherwise everybody may.
	ReadTokens bool
	// Doors know callers by their addresses and bound them; nil: nobody is bounded, and no proxy is trusted.
	Doors *doors.Doors
	// Version is the program's version, as /api/status tells it.
	Version string
	// Retention is what the feed was opened with, as /api/status tells it.
	Retention killfeed.Retention
	// Complete fetches what an inserted item only names, a killmail's id and hash; nil: such items are refused.
	Complete func(ctx context.Context, item []byte) (*killfeed.Killmail, error)
	// Names are what the static data lacks: what characters, corporations and alliances are called; nil: that is not known.
	Names *names.Book
	// Services, Sources, Webhooks and Cluster are shown by /api/status as they are; nil or empty: nothing is shown.
	Services, Sources, Webhooks, Cluster func() any
	// PauseSource has a source do nothing, or go on, and returns how it stands then; false: there is none of that name. It may
	// be nil: there are no sources.
	PauseSource func(name string, paused bool) (status any, ok bool)
	// Warnings are the newest warnings and errors of the log, for whoever has the admin token; it may be nil.
	Warnings func() any
	// Degraded says what does not go well, though requests are answered; empty: all goes well. It may be nil.
	Degraded func() string
	// MaxConnections and ConnectRate bound the streams and sockets that are open, and those that are opened in a second; 0: no
	// limit.
	MaxConnections, ConnectRate int
	// AddressConnections bounds the streams and sockets that are open from one address; 0: no limit.
	AddressConnections int
	// Origins are those whose pages may open sockets, as in https://tools.example.com or tools.example.com; empty: all.
	Origins []string
	// Sockets are the limits of sockets. The zero value is what the documents say.
	Sockets socket.Options
	// Collectors are shown at /metrics beside the API's own.
	Collectors []prometheus.Collector
	// Logger is told of what went wrong on this side; nil discards.
	Logger *slog.Logger
}

// API is the HTTP interface of a feed. It may be called concurrently.
type API struct {
	feed        *killfeed.Feed
	config      Config
	log         *slog.Logger
	keys        atomic.Pointer[keys] // see SetAdminToken and SetTokens
	doors       *doors.Doors
	sites       http.CrossOriginProtection // never changes
	refusals    *prometheus.CounterVec
	epoch       killfeed.Epoch // of the feed; never changes while it is open
	started     time.Time
	routes      routes
	mounted     []*endpoint     // of dialects
	channels    map[string]Join // of dialects, by topic
	instruments *metrics
	metrics     http.Handler
	compressed  http.Handler // serve, for callers who accept compressed answers

	live        *live.Set // what stays open: streams, sockets, long-poll sessions
	sockets     *socket.Server
	polls       polls
	visits      visits
	superseded  superseded
	shelves     shelves
	filters     filters
	connections *connections

	exchanges sync.Pool                  // of *exchange
	rooms     sync.Pool                  // of *[maxFrames]killfeed.Event
	buffers   sync.Pool                  // of *[]byte
	mentions  sync.Pool                  // of *mentioned
	head      atomic.Pointer[headHeader] // the newest Killfeed-Head; a race costs one more allocation
}

// headHeader is the Killfeed-Head header of one head. While nothing is inserted all answers share it.
type headHeader struct {
	id    killfeed.EventID
	value []string
}

// New makes the API of a feed. The error is about collectors that contradict each other.
func New(feed *killfeed.Feed, c Config) (*API, error) {
	a := &API{feed: feed, config: c, log: c.Logger, started: time.Now()}
	a.keys.Store(newKeys(adminSet(c.AdminToken), c.Tokens, nil))
	a.config.AdminToken, a.config.Tokens = "", nil
	a.doors, a.refusals = newDoors(c.Doors), newRefusals()
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.epoch = feed.State().Epoch
	a.exchanges.New = func() any { return &exchange{api: a} }
	a.rooms.New = func() any { return new([maxFrames]killfeed.Event) }
	a.buffers.New = func() any { return new([]byte) }
	a.mentions.New = func() any { return new(mentioned) }
	a.shelves.api, a.shelves.plain = a, newShelf(a, shape{}, shelfSlots)
	a.live = live.New(live.Options{Max: c.MaxConnections, Rate: c.ConnectRate, PerPeer: c.AddressConnections, Look: a.expire})
	if c.Sockets.Panicked == nil {
		c.Sockets.Panicked = a.panickedIn("a socket")
	}
	a.sockets = socket.NewServer(c.Sockets)
	a.connections = newConnections()
	c.Collectors = append(append(a.connections.collectors(), a.refusals, newKnownAddresses(a.doors)), c.Collectors...)
	metrics, err := newMetrics(feed, c)
	if err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	a.metrics, a.instruments = metrics.handler, metrics
	a.routes = newRoutes(a.endpoints(), metrics, a.invited())
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.EnableZstd(false))
	if err != nil {
		return nil, fmt.Errorf("setting up compression: %w", err)
	}
	a.compressed = wrap(http.HandlerFunc(a.serve))
	return a, nil
}

// ServeHTTP answers a request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, ok := r.Header["Accept-Encoding"]; ok && !a.routes.find(r).plainly {
		a.compressed.ServeHTTP(w, r)
		return
	}
	a.serve(w, r)
}

// exchange is one request and its answer. It is reused: nothing of it may be kept.
type exchange struct {
	api *API
	w   http.ResponseWriter
	r   *http.Request
	// status is what was answered, 0 as long as nothing was.
	status int
	// waits: the caller asked to wait for an event, so the time it took says nothing.
	waits bool
	// token is the caller's, nil without a good one.
	token *tokens.Token
	// private: not everybody may read, so caches on the way may not keep what is read.
	private bool

	params readParams
	buf    []byte // for a body that comes in, then for the answer
}

// statusGone is counted for a caller who left before the answer; it is never sent.
const statusGone = 499

// Header values are shared by all answers: nobody may append to them.
var (
	valueAny      = []string{"*"}
	valueOne      = []string{"1"}
	valueNoStore  = []string{"no-store"}
	valueBriefly  = []string{"public, max-age=1"}
	valueNosniff  = []string{"nosniff"}
	valueEncoding = []string{"Accept-Encoding"}
	valueJSON     = []string{"application/json"}
	valueProblem  = []string{"application/problem+json"}
	// A browser's own cache is its user's.
	valuePrivately = []string{"private, max-age=1"}
	valueExposed   = []string{"Killfeed-Gap, Killfeed-More, Killfeed-Head, Retry-After"}
)

func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	x := a.exchanges.Get().(*exchange)
	x.w, x.r = w, r
	x.params.universe, x.params.filters = a.feed.Universe(), &a.filters
	e := a.routes.find(r)
	defer func() {
		if v := recover(); v != nil {
			a.panicked(x, v)
		}
		e.metrics.observe(x.status, begun, x.waits)
		a.putBack(x)
	}()
	h := w.Header()
	h["Cache-Control"] = valueNoStore
	h["X-Content-Type-Options"] = valueNosniff
	if e.scope.invites() {
		h["Access-Control-Allow-Origin"] = valueAny
		h["Access-Control-Expose-Headers"] = valueExposed
	}
	x.private = a.config.ReadTokens
	err := a.letIn(x, e.scope, begun)
	if err != nil && e.turnAway != nil {
		if err = e.turnAway(x, err); err == nil {
			return
		}
	}
	if err == nil && len(r.Header["Killfeed-Head"]) > 0 {
		err = a.awaitHead(x)
	}
	if err == nil {
		err = e.handle(x)
	}
	if err != nil {
		a.fail(x, err)
	}
}

// headWait is how long a request waits for the head that it names.
const headWait = 5 * time.Second

// awaitHead has the request wait until this node has the event that the header Killfeed-Head names, as another node's answer did.
func (a *API) awaitHead(x *exchange) error {
	text := x.r.Header.Get("Killfeed-Head")
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return killfeed.Invalid("Killfeed-Head", text, "an event id, as an answer's header of that name has it")
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), headWait)
	defer cancel()
	err = a.feed.Await(ctx, killfeed.EventID(id))
	if err != nil && x.r.Context().Err() == nil && !errors.Is(err, killfeed.ErrClosed) {
		p := refuse(http.StatusServiceUnavailable, "this node is behind: its head is %d, and the request wants one that has event %d; "+
			"try again in a moment, or without the header Killfeed-Head", a.feed.State().Head, id)
		p.retryAfter = 1
		return p
	}
	return err
}

// panicked answers in place of a handler that panicked. The process goes on, as net/http would have it, but the caller gets
// an answer and keeps its connection.
func (a *API) panicked(x *exchange, v any) {
	if v == http.ErrAbortHandler {
		panic(v)
	}
	a.log.Error("a handler panicked", "method", x.r.Method, "panic", v, "stack", string(debug.Stack()))
	if x.status == 0 {
		refuse(http.StatusInternalServerError, internal).send(x)
	}
}

// maxKept bounds the buffer that an exchange keeps for the next one: a 64 MiB body must not stay in memory with it.
const maxKept = 1 << 20

func (a *API) putBack(x *exchange) {
	x.w, x.r, x.token = nil, nil, nil
	x.status, x.waits, x.private = 0, false, false
	if cap(x.buf) > maxKept {
		x.buf = nil
	}
	x.params.reset()
	a.exchanges.Put(x)
}

// mayUse tells whether the caller may read, commit and seek as a client.
func (x *exchange) mayUse(client string) error { return x.api.mayUse(x.token, client) }

// settled is the context for what changes something: neither a caller who leaves nor a shutdown leaves it half known.
func (x *exchange) settled() context.Context { return context.WithoutCancel(x.r.Context()) }

// send answers with a body. HEAD gets the same headers without it.
func (x *exchange) send(status int, contentType []string, body []byte) {
	h := x.w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.status = status
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.w.Write(body) // an error means that the caller left, and nobody is there to be told
	}
}

// empty answers without a body.
func (x *exchange) empty() {
	x.status = http.StatusNoContent
	x.w.WriteHeader(http.StatusNoContent)
}

// json answers with v as JSON.
func (x *exchange) json(status int, v any) error {
	body, err := marshal(v)
	if err != nil {
		return err
	}
	x.send(status, valueJSON, body)
	return nil
}

// headValue is the Killfeed-Head header for a head.
func (a *API) headValue(head killfeed.EventID) []string {
	h := a.head.Load()
	if h == nil || h.id != head {
		h = &headHeader{head, []string{strconv.FormatUint(uint64(head), 10)}}
		a.head.Store(h)
	}
	return h.value
}
