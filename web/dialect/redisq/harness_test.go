package redisq

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

// server is RedisQ over a log in memory.
type server struct {
	t       *testing.T
	model   *storetest.Model
	feed    *killfeed.Feed
	api     *web.API
	dialect *Dialect
	options Options
	limits  killfeed.Options
	maker   *storetest.Maker
}

func newServer(t *testing.T, o Options, limits ...killfeed.Options) *server {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	s := &server{t: t, model: storetest.NewModel(), options: o, maker: storetest.NewMaker(storetest.MakerOptions{Attackers: 1})}
	if len(limits) > 0 {
		s.limits = limits[0]
	}
	s.open()
	return s
}

func (s *server) open() {
	s.t.Helper()
	var err error
	if s.feed, err = killfeed.Open(s.model, s.limits); err != nil {
		s.t.Fatal(err)
	}
	if s.api, err = web.New(s.feed, web.Config{}); err != nil {
		s.t.Fatal(err)
	}
	if s.dialect, err = Mount(s.api, s.feed, s.options); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) close() {
	s.t.Helper()
	if err := s.feed.Close(); err != nil {
		s.t.Error(err)
	}
}

// restart ends the server in good order and starts it again.
func (s *server) restart() {
	s.t.Helper()
	s.close()
	s.model = s.model.Reopen()
	s.open()
}

// mail makes up a killmail and inserts it.
func (s *server) mail() *killfeed.Killmail { s.t.Helper(); return s.insert(s.maker.Next(), 0) }

func (s *server) insert(k *killfeed.Killmail, marks killfeed.Marks) *killfeed.Killmail {
	s.t.Helper()
	if _, err := s.feed.InsertAll(context.Background(), []*killfeed.Killmail{k}, marks); err != nil {
		s.t.Fatal(err)
	}
	return k
}

// get sends a request.
func (s *server) get(target string) *httptest.ResponseRecorder {
	return s.do(httptest.NewRequest(http.MethodGet, target, nil))
}

func (s *server) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	return w
}

// is holds an answer to its status and its exact body.
func (s *server) is(w *httptest.ResponseRecorder, status int, body string) {
	s.t.Helper()
	if w.Code != status || w.Body.String() != body {
		s.t.Errorf("status %d: %s\nwant %d: %s", w.Code, w.Body, status, body)
	}
	if got := w.Header().Get("Content-Type"); status != http.StatusFound && got != "application/json" {
		s.t.Errorf("Content-Type is %q, want application/json", got)
	}
	if got := w.Header().Get("Access-Control-Allow-Origin"); got != "*" {
		s.t.Errorf("Access-Control-Allow-Origin is %q, want *", got)
	}
}

// answer is the body of an answer as its readers see it.
type answer struct {
	Package *struct {
		KillID   int64
		Killmail json.RawMessage
		ZKB      struct {
			Hash, HREF string
			Labels     []string
		}
	}
	Packages []struct{ KillID int64 }
	Ack      string
}

func (s *server) read(w *httptest.ResponseRecorder) (a answer) {
	s.t.Helper()
	if w.Code != http.StatusOK {
		s.t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
		s.t.Fatalf("%v in %s", err, w.Body)
	}
	return a
}

// gives holds an answer to the killmail it must have; nil: none.
func (s *server) gives(w *httptest.ResponseRecorder, k *killfeed.Killmail) {
	s.t.Helper()
	if k == nil {
		s.is(w, http.StatusOK, nothing)
		return
	}
	switch a := s.read(w); {
	case a.Package == nil:
		s.t.Errorf("no killmail, want %d", k.ID)
	case a.Package.KillID != k.ID || a.Package.ZKB.Hash != k.Hash:
		s.t.Errorf("killmail %d with hash %s, want %d with %s", a.Package.KillID, a.Package.ZKB.Hash, k.ID, k.Hash)
	}
}
