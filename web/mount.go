package web

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"killfeed"
	"killfeed/names"
	"killfeed/phoenix"
	"killfeed/web/socket"
)

// This file is what the API gives to dialects, the copies of older services in the packages below web/dialect: paths, sockets,
// channels, and names. All of it is for the time before the API serves.

// Route is a path that a dialect serves.
type Route struct {
	// Method is GET, which takes in HEAD, or another one.
	Method string
	// Path is as the API's own: {id} stands for one segment, which Serve finds as the request's path value "id". With a slash
	// behind it, it means the same.
	Path string
	// When decides between routes of one method and path, the API's own included, which come last: the first that says yes
	// serves. nil is yes.
	When func(*http.Request) bool
	// Plainly: the answer is never compressed, and may be a connection that is taken over.
	Plainly bool
	// Admin: the admin token is needed; without it the request is refused before Serve is called. Other sites' pages are not
	// invited.
	Admin bool
	// Public: no token is needed, even where reading needs one. Without both it is reading.
	Public bool
	// Serve answers. What it answers is its own, errors too; Cache-Control is no-store and Access-Control-Allow-Origin is *
	// unless it says otherwise.
	Serve http.HandlerFunc
}

// Mount adds routes. The error names a path that is wrong.
func (a *API) Mount(routes ...Route) error {
	for _, r := range routes {
		if r.Serve == nil || r.Method == "" || !strings.HasPrefix(r.Path, "/") || len(r.Path) > 1 && strings.HasSuffix(r.Path, "/") {
			return fmt.Errorf("web: the route %s %q is not complete", r.Method, r.Path)
		}
		scope := open
		switch {
		case r.Admin:
			scope = admin
		case r.Public:
			scope = public
		}
		a.mounted = append(a.mounted, &endpoint{
			method: r.Method, path: r.Path, scope: scope, plainly: r.Plainly, when: r.When, slash: true, handle: func(x *exchange) error {
				w := &countedWriter{ResponseWriter: x.w, private: x.private && scope == open}
				x.waits = r.Plainly
				r.Serve(w, x.r)
				x.status = w.status
				return nil
			},
		})
	}
	a.routes = newRoutes(append(slices.Clone(a.mounted), a.endpoints()...), a.instruments, a.invited())
	if len(a.routes.taken) > 0 {
		return fmt.Errorf("web: %s is there already", strings.Join(a.routes.taken, ", "))
	}
	return nil
}

// countedWriter notes the status of an answer.
type countedWriter struct {
	http.ResponseWriter
	status int
	// private: not everybody may read the answer, so caches on the way may not keep it, whatever the dialect says.
	private bool
}

// WriteHeader is http.ResponseWriter's.
func (w *countedWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
		w.keepPrivate()
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write is http.ResponseWriter's.
func (w *countedWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
		w.keepPrivate()
	}
	return w.ResponseWriter.Write(b)
}

func (w *countedWriter) keepPrivate() {
	if h := w.Header(); w.private && strings.Contains(h.Get("Cache-Control"), "public") {
		h.Set("Cache-Control", strings.Replace(h.Get("Cache-Control"), "public", "private", 1))
	}
}

// Unwrap is for http.ResponseController.
func (w *countedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Switched notes that the connection was taken over.
func (w *countedWriter) Switched() { w.status = http.StatusSwitchingProtocols }

// OpenSocket opens a WebSocket for a dialect, within the limits of all connections that stay open; they count under the name in
// the metrics. carry makes what it carries, and must not wake the connection: that may be done once OpenSocket has returned, or by
// the handler. A request that is no upgrade, or that may not come in, is answered.
func (a *API) OpenSocket(w http.ResponseWriter, r *http.Request, name string, carry func(conn *socket.Conn) socket.Handler) {
	if !a.allowsOrigin(r) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	if !socket.IsUpgrade(r) {
		http.Error(w, "this is a WebSocket: a GET over HTTP/1.1 with Connection: Upgrade and Upgrade: websocket is wanted", http.StatusBadRequest)
		return
	}
	lease, err := a.enter(r)
	if err != nil {
		a.Refuse(w, err)
		return
	}
	conn, err := a.sockets.Accept(w, r, "", lease)
	if err != nil {
		lease.End()
		return // it was answered
	}
	if c, ok := w.(*countedWriter); ok {
		c.Switched()
	}
	a.serveMounted(r, conn, name, carry)
}

// serveMounted begins a dialect's connection.
func (a *API) serveMounted(r *http.Request, conn *socket.Conn, name string, carry func(conn *socket.Conn) socket.Handler) {
	a.connections.began(name)
	v := newVisit(a.bearerOf(r))
	conn.Serve(&mountedSocket{Handler: carry(conn), api: a, name: name, visit: v})
	a.welcome(v, func() { conn.Close(tokenOver()) })
}

// mountedSocket counts a dialect's connection.
type mountedSocket struct {
	socket.Handler
	api   *API
	name  string
	visit *visit
}

// Ended is socket.Handler's.
func (h *mountedSocket) Ended(code int) {
	h.Handler.Ended(code)
	h.api.leave(h.visit)
	h.api.connections.ended(h.name, code)
}

// OpenStream takes over the connection of a request over HTTP/1 for a stream that a dialect writes, as OpenSocket does; head is the
// head of the answer, and what is pulled follows it. Over HTTP/2 it answers 505: dialects' clients speak HTTP/1.
func (a *API) OpenStream(w http.ResponseWriter, r *http.Request, name string, head []byte, carry func(conn *socket.Conn) socket.Handler) {
	if r.ProtoMajor != 1 {
		http.Error(w, "this stream is served over HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	lease, err := a.enter(r)
	if err != nil {
		a.Refuse(w, err)
		return
	}
	conn, err := a.sockets.Stream(w, head, heartbeatEvery, lease)
	if err != nil {
		lease.End()
		a.log.Error("a stream could not be opened", "path", r.URL.Path, "err", err)
		http.Error(w, "the stream could not be opened", http.StatusInternalServerError)
		return
	}
	if c, ok := w.(*countedWriter); ok {
		c.status = http.StatusOK
	}
	a.serveMounted(r, conn, name, carry)
}

// Refuse answers an error as the API does, for errors that a dialect has no form for.
func (a *API) Refuse(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if p.retryAfter > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(p.retryAfter))
	}
	http.Error(w, p.Detail, p.Status)
}

// Status is the status with which the API answers an error of the feed, and what it tells of it: nothing private.
func Status(err error) (status int, text string) {
	p := problemOf(err)
	return p.Status, p.Detail
}

// Names are the names that the API was configured with, nil without.
func (a *API) Names() *names.Book { return a.config.Names }

// AppendLive appends an event as live edges tell it, its cursor being the last member, with the names that are known when they are
// wanted.
func (a *API) AppendLive(dst []byte, e *killfeed.Event, names bool) []byte {
	return a.appendLive(dst, e, shape{names: names})
}

// Sink takes messages that are put together of three pieces.
type Sink interface {
	// Text adds a message. Payload may be shared and is not changed.
	Text(before, payload, after []byte)
	// Len is how many messages were added, Room how many more may be.
	Len() int
	Room() int
}

// Channel is a dialect's channel of Phoenix. What it pushes is pulled, so that a slow client is behind in the log, and not in
// memory.
type Channel interface {
	phoenix.Channel
	// Pull puts what comes next into the sink, at most its Room. It is called by one goroutine at a time, some time after the
	// channel's wake was called. To go on it has to be woken again.
	Pull(to Sink)
	// Delivered tells that what was pulled was handed over.
	Delivered()
}

// Join begins a dialect's channel. params is a JSON object. wake has the channel pulled, once it has joined; it never blocks and
// may be called by anybody. The response is a JSON object. Errors are those of phoenix.Options.Join.
type Join func(params []byte, link *phoenix.Link, wake func()) (ch Channel, response []byte, err error)

// MountChannel has a topic of Phoenix served by a dialect.
func (a *API) MountChannel(topic string, join Join) error {
	if killfeed.IsTopic(topic) || topic == topicMany || a.channels[topic] != nil {
		return errors.New("web: the channel " + topic + " is taken")
	}
	if a.channels == nil {
		a.channels = map[string]Join{}
	}
	a.channels[topic] = join
	return nil
}

// guest is a dialect's channel in a talk.
type guest struct {
	Channel
	member
}

// joinGuest joins a dialect's channel.
func (t *talk) joinGuest(join Join, params []byte, link *phoenix.Link) (phoenix.Channel, []byte, error) {
	g := &guest{}
	g.member = member{talk: t, of: g}
	ch, response, err := join(params, link, g.queue)
	if err != nil {
		return nil, nil, err
	}
	g.Channel = ch
	return g, response, nil
}

// Joined is phoenix.Channel's.
func (g *guest) Joined() {
	g.Channel.Joined()
	g.begin()
}

// Left is phoenix.Channel's.
func (g *guest) Left() {
	g.end()
	g.Channel.Left()
}

func (g *guest) pull(to Sink) {
	g.Pull(to)
	g.talk.sent = append(g.talk.sent, g)
}

func (g *guest) delivered() { g.Delivered() }
