package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"killfeed"
	"killfeed/internal/ledgertest"
	"killfeed/storetest"
	"killfeed/web"
)

const (
	adminToken = "correct-horse-battery-staple"

	jita    = 30000142
	perimet = 30000144
	hek     = 30002053
)

func TestMain(m *testing.M) { ledgertest.Main(m) }

// server is an API over a log in memory whose disk can be made to fail. Every answer that it gives is held to openapi.json.
type server struct {
	t     testing.TB
	feed  *killfeed.Feed
	model *storetest.Model
	disk  *storetest.Faulty
	api   *web.API
	mails *storetest.Maker
	log   *syncBuffer
	close func() // the feed; done at the end of the test anyway
}

type serverOptions struct {
	feed   killfeed.Options
	config web.Config
}

func newServer(t testing.TB, options ...func(*serverOptions)) *server {
	t.Helper()
	s := &server{t: t, model: storetest.NewModel(), log: &syncBuffer{}, mails: storetest.NewMaker(storetest.MakerOptions{Attackers: 1})}
	s.disk = storetest.NewFaulty(s.model)
	o := serverOptions{config: web.Config{
		AdminToken: adminToken, Version: "test", Logger: slog.New(slog.NewTextHandler(s.log, nil)),
	}}
	for _, option := range options {
		option(&o)
	}
	o.feed.Ledger = ledgertest.Ledger(t, s.disk)
	var err error
	if s.feed, err = killfeed.Open(s.disk, o.feed); err != nil {
		t.Fatal(err)
	}
	ledgertest.Leading(t, s.feed)
	s.close = sync.OnceFunc(func() {
		if err := s.feed.Close(); err != nil {
			t.Errorf("closing the feed: %v", err)
		}
	})
	t.Cleanup(s.close)
	if s.api, err = web.New(s.feed, o.config); err != nil {
		t.Fatal(err)
	}
	return s
}

// syncBuffer is a log that may be written and read at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// mail makes up a killmail in a system.
func (s *server) mail(system uint32) storetest.Mail {
	m := s.mails.NextMail()
	m.System = system
	return m
}

// insert puts a made-up killmail into each of the systems, and returns the last event id.
func (s *server) insert(systems ...uint32) killfeed.EventID {
	s.t.Helper()
	var last killfeed.EventID
	for _, system := range systems {
		m := s.mail(system)
		res, err := s.feed.InsertAll(context.Background(), []*killfeed.Killmail{m.Killmail()}, 0)
		if err != nil {
			s.t.Fatal(err)
		}
		last = res[0].EventID
	}
	return last
}

// answer is what came back.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   []byte
}

// do sends a request with headers given as name, value, name, value…
func (s *server) do(method, target, body string, headers ...string) *answer {
	s.t.Helper()
	return s.send(s.request(method, target, body, headers...))
}

func (s *server) request(method, target, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func (s *server) send(r *http.Request) *answer {
	s.t.Helper()
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Body = io.NopCloser(bytes.NewReader(sent))
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	a := &answer{t: s.t, what: r.Method + " " + r.URL.String(), status: w.Code, header: w.Result().Header, body: w.Body.Bytes()}
	checkContract(s.t, r, sent, a)
	return a
}

func (s *server) get(target string) *answer { s.t.Helper(); return s.do("GET", target, "") }

// admin sends a request with the admin token.
func (s *server) admin(method, target, body string, headers ...string) *answer {
	s.t.Helper()
	return s.do(method, target, body, append(headers, "Authorization", "Bearer "+adminToken)...)
}

// want fails the test unless the answer has the status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d; body: %s", a.what, a.status, status, a.body)
	}
	return a
}

// into decodes the body.
func (a *answer) into(v any) {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: %v in %s", a.what, err, a.body)
	}
}

// problem is a problem document as its readers see it.
type problem struct {
	Type, Title, Detail, Parameter, Value, Accepted string
	Status                                          int
	Results                                         []result
}

type result struct {
	EventID   killfeed.EventID `json:"event_id"`
	Duplicate bool             `json:"duplicate"`
	Update    bool             `json:"update"`
	Error     string           `json:"error"`
}

// problem checks status and media type of a refusal and returns the document.
func (a *answer) problem(status int) problem {
	a.t.Helper()
	a.want(status)
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Fatalf("%s: Content-Type %q, want application/problem+json", a.what, got)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		a.t.Fatalf("%s: Cache-Control %q of a problem, want no-store", a.what, got)
	}
	var p problem
	a.into(&p)
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" || p.Type != "about:blank" {
		a.t.Fatalf("%s: want a whole problem document of status %d, got %s", a.what, status, a.body)
	}
	return p
}

// poll is the body of an answer to a poll.
type poll struct {
	Events []struct {
		ID       killfeed.EventID `json:"event_id"`
		System   uint32           `json:"system_id"`
		Received time.Time        `json:"received_at"`
		Backfill bool             `json:"backfill"`
		Update   bool             `json:"update"`
		Killmail json.RawMessage  `json:"killmail"`
	}
	Head  killfeed.EventID
	Epoch killfeed.Epoch
	More  bool
	Gap   *killfeed.Gap
	Next  string
}

// poll checks that the answer is that of a poll, and returns it.
func (a *answer) poll() poll {
	a.t.Helper()
	a.want(http.StatusOK)
	var p poll
	a.into(&p)
	return p
}

func (p poll) ids() (ids []killfeed.EventID) {
	for _, e := range p.Events {
		ids = append(ids, e.ID)
	}
	return ids
}

// document is the OpenAPI document, loaded once.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	for _, text := range []string{"text/event-stream", "application/x-ndjson"} { // what is in them is held to it frame by frame
		openapi3filter.RegisterBodyDecoder(text, openapi3filter.PlainBodyDecoder)
	}
	return openapi3.NewLoader().LoadFromFile("openapi.json")
})

// checkContract holds a request and its answer to openapi.json. What the document says of all paths and methods at once is
// checked by hand.
func checkContract(t testing.TB, r *http.Request, sent []byte, a *answer) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	path, params := patternOf(doc, r.URL)
	var op *openapi3.Operation
	var item *openapi3.PathItem
	socket := strings.HasPrefix(path, "/socket/")
	if path != "" {
		item = doc.Paths.Find(path)
		op = item.GetOperation(r.Method)
		if op == nil && r.Method == http.MethodHead && !socket {
			op = item.Get
		}
	}
	if r.Method == http.MethodHead && len(a.body) > 0 {
		t.Errorf("%s: an answer to HEAD has a body: %s", a.what, a.body)
	}
	switch {
	case path == "":
		a.want(http.StatusNotFound)
		return
	case op == nil && r.Method == http.MethodOptions:
		a.want(http.StatusNoContent)
		return
	case op == nil && socket: // as with Phoenix
		a.want(http.StatusBadRequest)
		return
	case op == nil:
		a.want(http.StatusMethodNotAllowed)
		if a.header.Get("Allow") == "" {
			t.Errorf("%s: 405 without Allow", a.what)
		}
		return
	}
	if op.Responses.Status(a.status) == nil {
		t.Errorf("%s: status %d is not in the document; body: %s", a.what, a.status, a.body)
		return
	}
	options := &openapi3filter.Options{
		IncludeResponseStatus: true, ExcludeRequestQueryParams: true, SkipSettingDefaults: true,
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc,
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Options: options,
		Route: &routers.Route{Spec: doc, Path: path, PathItem: item, Method: r.Method, Operation: op},
	}
	if a.header.Get("Content-Encoding") == "" {
		err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
			RequestValidationInput: in, Status: a.status, Header: a.header, Options: options,
			Body: io.NopCloser(bytes.NewReader(a.body)),
		})
		if err != nil {
			t.Errorf("%s: the answer is not what openapi.json says: %v\n%s", a.what, err, a.body)
		}
	}
	// What is accepted must be what the document lets one send.
	if r.Header.Get("Content-Type") == "application/json" && a.status < 300 {
		r.Body = io.NopCloser(bytes.NewReader(sent))
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			t.Errorf("%s: the request is accepted, but openapi.json does not allow it: %v\n%s", a.what, err, sent)
		}
	}
}

// patternOf finds the document's path for a URL, segment by segment.
func patternOf(doc *openapi3.T, u *url.URL) (pattern string, params map[string]string) {
	segments := strings.Split(strings.TrimSuffix(u.EscapedPath(), "/"), "/")
paths:
	for pattern := range doc.Paths.Map() {
		parts := strings.Split(pattern, "/")
		if len(parts) != len(segments) {
			continue
		}
		params := map[string]string{}
		for i, part := range parts {
			value, err := url.PathUnescape(segments[i])
			switch {
			case err == nil && part == "{id}" && value != "":
				params["id"] = value
			case err != nil || part != value:
				continue paths
			}
		}
		if params["id"] != "" && doc.Paths.Find(strings.TrimSuffix(u.EscapedPath(), "/")) != nil {
			continue // what is named outright comes first
		}
		slash := strings.HasSuffix(u.Path, "/") && params["id"] == ""
		if slash && !slices.Contains([]string{"/api/killfeed", "/api/killfeed/next", "/socket/websocket", "/socket/longpoll"}, pattern) {
			continue
		}
		return pattern, params
	}
	return "", nil
}
