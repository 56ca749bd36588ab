package web

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"killfeed"
	"killfeed/storetest"
)

func newAPI(t testing.TB, c Config) *API {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	a, err := New(feed, c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestPanic: one bad handler answers 500 and takes nobody down with it.
func TestPanic(t *testing.T) {
	var log bytes.Buffer
	a := newAPI(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	a.routes.unknown.handle = func(*exchange) error { panic("a secret") }
	w := httptest.NewRecorder()
	a.ServeHTTP(w, httptest.NewRequest("GET", "/nothing", nil))
	if w.Code != 500 || strings.Contains(w.Body.String(), "secret") || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("status %d, %s; want a 500 with nothing private", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "a secret") || !strings.Contains(log.String(), "api_test.go") {
		t.Errorf("the log has neither cause nor stack: %s", log.String())
	}
	a.routes.unknown.handle = func(*exchange) error { panic(http.ErrAbortHandler) }
	defer func() {
		if v := recover(); v != http.ErrAbortHandler {
			t.Errorf("recovered %v, want ErrAbortHandler, which net/http understands", v)
		}
	}()
	a.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/nothing", nil))
}

// TestIdleAllocations: on the commonest call the API allocates no more than the list of topics and the client's name.
func TestIdleAllocations(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes sync.Pool forget, so allocations cannot be counted")
	}
	a := newAPI(t, Config{})
	r := httptest.NewRequest("GET", "/api/killfeed/next?client_id=a&systems[]=1&systems[]=2&systems[]=3&systems[]=4", nil)
	w := &discard{header: http.Header{}}
	api := testing.AllocsPerRun(200, func() {
		clear(w.header)
		a.ServeHTTP(w, r)
	})
	read := killfeed.Read{Topics: []killfeed.Topic{killfeed.System(1), killfeed.System(2), killfeed.System(3), killfeed.System(4)}}
	feed := testing.AllocsPerRun(200, func() {
		if _, err := a.feed.Next(r.Context(), "a", read); err != nil {
			t.Fatal(err)
		}
	})
	if w.status != 204 || api-feed > 2 {
		t.Errorf("status %d, %v allocations, %v of them the feed's; want 204 and at most 2 of its own", w.status, api, feed)
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
