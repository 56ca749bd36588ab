package web

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// endpoint is one thing that can be done.
type endpoint struct {
	// method is "*" for all that have no row.
	method string
	// path is the pattern as in openapi.json: "{id}" stands for one segment, percent-encoded.
	path   string
	scope  scope
	handle func(*exchange) error
	// plainly: never compressed. Sockets are no answers, events must not wait for a compressor, and one does not tell whether
	// what is committed went out.
	plainly bool
	// when decides between endpoints of one method and path: the first that says yes has it. nil is yes.
	when func(*http.Request) bool
	// slash: the path with a slash behind it is the same.
	slash bool
	// turnAway answers who was not let in; nil: a problem document does.
	turnAway func(*exchange, error) error

	metrics *instruments
	next    *endpoint // what has the request when when says no
}

// endpoints is the table of all there is. HEAD is answered wherever GET is, as GET without a body; it has a row of its own
// where it does less, and is one of the others of a socket. OPTIONS is answered everywhere.
func (a *API) endpoints() []*endpoint {
	return []*endpoint{
		{method: "GET", path: "/api/killfeed", scope: open, handle: a.poll},
		{method: "HEAD", path: "/api/killfeed", scope: open, handle: a.poll},
		{method: "POST", path: "/api/killfeed", scope: open, handle: a.poll},
		{method: "GET", path: "/api/killfeed/next", scope: open, handle: a.next},
		{method: "HEAD", path: "/api/killfeed/next", scope: open, handle: a.next},
		{method: "POST", path: "/api/killfeed/next", scope: open, handle: a.next},
		{method: "GET", path: "/api/killfeed/stream", scope: open, handle: a.serveStream, plainly: true},
		{method: "GET", path: "/socket/websocket", scope: public, handle: a.socket, plainly: true},
		{method: "*", path: "/socket/websocket", scope: public, handle: a.notSocket},
		{method: "GET", path: "/socket/longpoll", scope: public, handle: a.longpoll, plainly: true, turnAway: a.pollRefusal},
		{method: "POST", path: "/socket/longpoll", scope: public, handle: a.longpollSend, turnAway: a.pollRefusal},
		{method: "OPTIONS", path: "/socket/longpoll", scope: public, handle: a.longpollOptions, turnAway: a.pollRefusal},
		{method: "*", path: "/socket/longpoll", scope: public, handle: a.notSocket},
		{method: "POST", path: "/api/killfeed/commit", scope: open, handle: a.commit},
		{method: "GET", path: "/api/clients", scope: admin, handle: a.listClients},
		{method: "GET", path: "/api/clients/{id}", scope: open, handle: a.showClient},
		{method: "DELETE", path: "/api/clients/{id}", scope: admin, handle: a.deleteClient},
		{method: "POST", path: "/api/clients/{id}/seek", scope: open, handle: a.seek},
		{method: "GET", path: "/api/killmails", scope: open, handle: a.lookBack},
		{method: "POST", path: "/api/killmails", scope: publish, handle: a.insert},
		{method: "GET", path: "/api/killmails/{id}", scope: open, handle: a.showKillmail},
		{method: "GET", path: "/api/systems/counts", scope: open, handle: a.counts}, // before the systems: none is called so
		{method: "GET", path: "/api/systems/{id}", scope: open, handle: a.showSystem},
		{method: "GET", path: "/api/systems/{id}/killmails", scope: open, handle: a.lookBackAt},
		{method: "GET", path: "/api/names", scope: open, handle: a.showNames},
		{method: "GET", path: "/api/search", scope: open, handle: a.search},
		{method: "POST", path: "/api/collect", scope: admin, handle: a.collect},
		{method: "POST", path: "/api/sources/{id}/pause", scope: admin, handle: a.pauseSource(true)},
		{method: "POST", path: "/api/sources/{id}/resume", scope: admin, handle: a.pauseSource(false)},
		{method: "GET", path: "/api/warnings", scope: admin, handle: a.warnings},
		{method: "GET", path: "/api/status", scope: open, handle: a.status},
		{method: "GET", path: "/api/openapi.json", scope: public, handle: a.openapi},
		{method: "GET", path: "/livez", scope: health, handle: a.livez},
		{method: "GET", path: "/readyz", scope: health, handle: a.readyz},
		{method: "GET", path: "/metrics", scope: open, handle: a.showMetrics},
	}
}

// slashless are the paths that mean the same with a slash behind them: clients of Phoenix send it.
var slashless = []string{"/api/killfeed", "/api/killfeed/next", "/socket/websocket", "/socket/longpoll"}

// routes finds endpoints. net/http's ServeMux is not used, because it answers a wrong path or method in plain text, redirects
// what it wants tidied, and takes an id with an encoded slash apart.
type routes struct {
	all     []*resource
	fixed   map[string]*resource // those without {id}, by path
	unknown *endpoint
	taken   []string // what endpoints are there for twice
}

// resource is all that can be done at one path.
type resource struct {
	path     string
	segments []string
	slash    bool // with a slash behind it, it is the same
	methods  map[string]*endpoint
	get      *endpoint // methods["GET"], without the map
	other    *endpoint // for methods that are not there
}

// newRoutes makes the table. headers are those that other sites' pages may send.
func newRoutes(endpoints []*endpoint, m *metrics, headers string) routes {
	t := routes{fixed: map[string]*resource{}}
	byPath := map[string]*resource{}
	for _, e := range endpoints {
		e.metrics, e.next = m.instruments(e.method+" "+e.path), nil
		res := byPath[e.path]
		if res == nil {
			res = &resource{path: e.path, segments: strings.Split(e.path, "/"), methods: map[string]*endpoint{}}
			byPath[e.path] = res
			t.all = append(t.all, res)
			if !strings.Contains(e.path, "{") {
				t.fixed[e.path] = res
			}
		}
		res.slash = res.slash || e.slash || slices.Contains(slashless, e.path)
		if first := res.methods[e.method]; first == nil {
			res.methods[e.method] = e
		} else if !first.before(e) {
			t.taken = append(t.taken, e.method+" "+e.path)
		}
	}
	for _, res := range t.all {
		res.get = res.methods["GET"]
		if res.get != nil && res.methods["HEAD"] == nil && res.methods["*"] == nil {
			res.methods["HEAD"] = res.get
		}
		allow, cors := res.allowed()
		about := &endpoint{scope: public, handle: options(allow, cors, headers), metrics: m.instruments("OPTIONS " + res.path)}
		if cors == "" {
			about.scope = plain
		}
		if res.methods["OPTIONS"] == nil {
			res.methods["OPTIONS"] = about
		}
		if res.other = res.methods["*"]; res.other != nil {
			delete(res.methods, "*")
			continue
		}
		res.other = &endpoint{scope: public, handle: wrongMethod(res.path, allow), metrics: m.instruments("other " + res.path)}
	}
	for _, res := range t.all {
		if res.slash && t.fixed[res.path] != nil {
			t.fixed[res.path+"/"] = res
		}
	}
	t.unknown = &endpoint{scope: public, handle: unknownPath, metrics: m.instruments("unknown")}
	return t
}

// allowed returns the methods for the Allow header, and those that another site's pages may use.
func (res *resource) allowed() (allow, cors string) {
	var all, invited []string
	for _, m := range []string{"GET", "HEAD", "POST", "DELETE"} {
		if e := res.methods[m]; e != nil {
			all = append(all, m)
			if e.scope.invites() {
				invited = append(invited, m)
			}
		}
	}
	return strings.Join(append(all, "OPTIONS"), ", "), strings.Join(invited, ", ")
}

// find returns the endpoint for a request; there always is one. It sets the request's path values.
func (t *routes) find(r *http.Request) *endpoint {
	var res *resource
	if r.URL.RawPath == "" { // nothing is encoded that need not be
		res = t.fixed[r.URL.Path]
	}
	if res == nil {
		if res = t.match(r); res == nil {
			return t.unknown
		}
	}
	e := res.get
	if r.Method != "GET" || e == nil {
		if e = res.methods[r.Method]; e == nil {
			return res.other
		}
	}
	for e.when != nil && !e.when(r) {
		if e = e.next; e == nil {
			return t.unknown
		}
	}
	return e
}

// before puts other behind e, to have the requests that e does not want. It returns false when e wants all.
func (e *endpoint) before(other *endpoint) bool {
	for e.when != nil {
		if e.next == nil {
			e.next = other
			return true
		}
		e = e.next
	}
	return false
}

// match compares segment by segment, and decodes each by itself, so that an id may hold a slash.
func (t *routes) match(r *http.Request) *resource {
	segments := strings.Split(r.URL.EscapedPath(), "/")
	for i, s := range segments {
		plain, err := url.PathUnescape(s)
		if err != nil {
			return nil
		}
		segments[i] = plain
	}
	for _, res := range t.all {
		if id, ok := res.id(segments); ok {
			r.SetPathValue("id", id)
			return res
		}
	}
	return nil
}

// id returns what stands for {id} in segments, if they are a path of the resource.
func (res *resource) id(segments []string) (id string, ok bool) {
	if n := len(segments) - 1; n == len(res.segments) && segments[n] == "" && res.slash {
		segments = segments[:n]
	}
	if len(segments) != len(res.segments) {
		return "", false
	}
	for i, s := range res.segments {
		if s == "{id}" && segments[i] != "" {
			id = segments[i]
		} else if s != segments[i] {
			return "", false
		}
	}
	return id, true
}

func options(allow, cors, headers string) func(*exchange) error {
	return func(x *exchange) error {
		h := x.w.Header()
		h.Set("Allow", allow)
		if cors != "" {
			h.Set("Access-Control-Allow-Methods", cors)
			h.Set("Access-Control-Allow-Headers", headers)
			h.Set("Access-Control-Max-Age", "86400")
		}
		x.empty()
		return nil
	}
}

func wrongMethod(path, allow string) func(*exchange) error {
	return func(x *exchange) error {
		x.w.Header().Set("Allow", allow)
		return refuse(http.StatusMethodNotAllowed, "%s is not a method of %s: it has %s", shorten(x.r.Method), path, allow)
	}
}

func unknownPath(x *exchange) error {
	return refuse(http.StatusNotFound, "there is nothing at %s: /api/openapi.json lists what there is", shorten(x.r.URL.Path))
}
