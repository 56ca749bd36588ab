package names

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
)

// now is a time at which the pinned compatibility date is not in the future. The clock of a bubble begins at 2000.
var now = time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC)

// world is a stand-in for ESI and a client of it, connected without sockets. It is for tests in a bubble.
type world struct {
	*standin.Server
	t      *testing.T
	client *esi.Client
	log    logged
}

func open(t *testing.T, s standin.Config) *world {
	t.Helper()
	time.Sleep(time.Until(now))
	server, err := standin.New(s)
	if err != nil {
		t.Fatal(err)
	}
	pipe := standin.NewPipe()
	serving := &http.Server{Handler: server.Handler()}
	var ended sync.WaitGroup
	ended.Go(func() { serving.Serve(pipe) })
	client, err := upstream.New(upstream.Config{
		Version: "test", Contact: "test@example.com", Every: time.Millisecond, Header: esi.Header(),
		Transport: &http.Transport{DialContext: pipe.DialContext, DisableCompression: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		server.Close()
		serving.Close()
		ended.Wait()
		synctest.Wait()
	})
	w := &world{Server: server, t: t}
	if w.client, err = esi.New(client, esi.Config{URL: "http://esi.example", Patience: time.Hour}); err != nil {
		t.Fatal(err)
	}
	return w
}

// book opens a Book that runs until stop is called, or the test ends.
func (w *world) book(dir string, o Options) (b *Book, stop func()) {
	w.t.Helper()
	o.ESI, o.Logger = w.client, slog.New(slog.NewTextHandler(&w.log, nil))
	b, err := Open(dir, o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := b.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(stop)
	return b, stop
}

// manners checks the stand-in's account of how it was asked.
func (w *world) manners() standin.Stats {
	w.t.Helper()
	st := w.Stats()
	if st.NoUserAgent+st.NoContact+st.BeforeRetryAfter+st.ESI.NoCompatibilityDate != 0 {
		w.t.Errorf("%d requests without a name, %d without a contact, %d before Retry-After was over, %d without a compatibility date",
			st.NoUserAgent, st.NoContact, st.BeforeRetryAfter, st.ESI.NoCompatibilityDate)
	}
	if st.ESI.Overspent+st.ESI.Refused != 0 {
		w.t.Errorf("%d tokens overspent, %d requests refused", st.ESI.Overspent, st.ESI.Refused)
	}
	if n := st.ConcurrentByService[standin.ServiceESI]; n > 1 {
		w.t.Errorf("%d requests at a time, want 1", n)
	}
	if n := st.PeakByService[standin.ServiceESI]; n > 3 {
		w.t.Errorf("%d requests within a second, want 3 at most", n)
	}
	return st
}

// requests is how many requests of a kind were answered, or not.
func requests(st standin.Stats, kind standin.Kind) (n int64) {
	for _, count := range st.Requests[kind] {
		n += count
	}
	return n
}

// awaited waits for the names of ids, an hour at most by the bubble's clock.
func (w *world) awaited(b *Book, ids ...uint32) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Hour)
	defer cancel()
	if err := b.Await(ctx, ids); err != nil {
		w.t.Fatalf("waiting for %d names: %v; %+v", len(ids), err, b.Status())
	}
}

// check compares what the Book knows with what the stand-in does.
func (w *world) check(b *Book, ids ...uint32) {
	w.t.Helper()
	for _, id := range ids {
		want, ok := standin.MadeUp(id)
		got, state := b.Get(id)
		switch {
		case ok && esiCategories[want.Category] != 0:
			if state != Known || got.Name != want.Name || got.Category != esiCategories[want.Category] {
				w.t.Errorf("%d is %+v (%d), want %+v", id, got, state, want)
			}
		case state != Unknown || got != Entry{}:
			w.t.Errorf("%d is %+v (%d), want it unknown", id, got, state)
		}
	}
}

// logged is a log that a test looks into.
type logged struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), text)
}

// span are n ids from first on.
func span(first uint32, n int) []uint32 {
	ids := make([]uint32, n)
	for i := range ids {
		ids[i] = first + uint32(i)
	}
	return ids
}
