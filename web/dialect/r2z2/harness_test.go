package r2z2

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

// server is R2Z2 over a log in memory.
type server struct {
	t      testing.TB
	model  *storetest.Model
	feed   *killfeed.Feed
	api    *web.API
	limits killfeed.Options
	maker  *storetest.Maker
}

func newServer(t testing.TB, limits killfeed.Options) *server {
	t.Helper()
	s := &server{t: t, model: storetest.NewModel(), limits: limits, maker: storetest.NewMaker(storetest.MakerOptions{Attackers: 1, Bytes: 1200})}
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
	if err := Mount(s.api, s.feed, Options{Logger: slog.New(slog.NewTextHandler(s.t.Output(), nil))}); err != nil {
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

// mail makes up a killmail, with a hash and nothing else in zkb.
func (s *server) mail() storetest.Mail {
	m := s.maker.NextMail()
	m.ZKB, m.Labels = false, nil
	return m
}

func (s *server) insert(marks killfeed.Marks, mails ...storetest.Mail) {
	s.t.Helper()
	ks := make([]*killfeed.Killmail, len(mails))
	for i := range mails {
		ks[i] = mails[i].Killmail()
	}
	if _, err := s.feed.InsertAll(context.Background(), ks, marks); err != nil {
		s.t.Fatal(err)
	}
}

// other inserts what is no killmail of the game.
func (s *server) other(text string) {
	s.t.Helper()
	if _, err := s.feed.Insert(context.Background(), 5, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

// labelled is the killmail with one more label.
func labelled(m storetest.Mail, n int) storetest.Mail {
	m.ZKB, m.Labels = true, nil
	for i := range n {
		m.Labels = append(m.Labels, "label:"+strconv.Itoa(i))
	}
	return m
}

func (s *server) get(target string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return s.do(r)
}

func (s *server) do(r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.api.ServeHTTP(w, r)
	return w
}

// is holds an answer to its status, its exact body and its Cache-Control.
func (s *server) is(target string, status int, body, caching string) {
	s.t.Helper()
	w := s.get(target)
	if w.Code != status || body != "" && w.Body.String() != body {
		s.t.Errorf("%s: status %d: %s\nwant %d: %s", target, w.Code, w.Body, status, body)
	}
	h := w.Header()
	if h.Get("Cache-Control") != caching || h.Get("Content-Type") != "application/json" || h.Get("Access-Control-Allow-Origin") != "*" {
		s.t.Errorf("%s: %v, want application/json, %s, for everybody", target, h, caching)
	}
}

// file is a file as its readers see it.
type file struct {
	KillmailID int64 `json:"killmail_id"`
	Hash       string
	ESI        json.RawMessage
	ZKB        struct {
		Hash, HREF string
		Labels     []string
	}
	UploadedAt      int64  `json:"uploaded_at"`
	SequenceID      uint64 `json:"sequence_id"`
	SequenceUpdated uint64 `json:"sequence_updated"`
}

func (s *server) file(n uint64) (f file) {
	s.t.Helper()
	s.into("/ephemeral/"+strconv.FormatUint(n, 10)+".json", &f)
	if f.SequenceID != n || f.UploadedAt <= 0 || f.KillmailID <= 0 || len(f.Hash) != 40 || f.ZKB.Hash != f.Hash || f.ZKB.HREF == "" {
		s.t.Errorf("the file of number %d is %+v", n, f)
	}
	return f
}

func (s *server) into(target string, v any) {
	s.t.Helper()
	w := s.get(target)
	if w.Code != http.StatusOK {
		s.t.Fatalf("%s: status %d: %s", target, w.Code, w.Body)
	}
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		s.t.Fatalf("%s: %v in %s", target, err, w.Body)
	}
}

// fixed is a clock that stands still.
func fixed(unix int64) func() time.Time { return func() time.Time { return time.Unix(unix, 0) } }
