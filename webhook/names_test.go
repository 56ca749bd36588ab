package webhook

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/names"
)

// A message waits a little for its names, and not for ever.
func TestNamesAreWaitedFor(t *testing.T) {
	for _, down := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC))) // the compatibility date that ESI is asked for is not in the future
			w := newWorld(t)
			r := w.receiver("plain.example")
			w.book.Names = book(t, down)
			w.run(plain(func(c *Config) { c.Format = Discord }))
			w.insert(1)
			w.pass(time.Second)
			all, _ := r.got()
			if down {
				if len(all) != 0 {
					t.Fatal("it did not wait for names")
				}
				w.pass(nameTime)
				all, _ = r.got()
			}
			if len(all) != 1 {
				t.Fatalf("%d posts, want 1", len(all))
			}
			m := checkMessage(t, all[0].body)
			victim, _ := standin.MadeUp(2100000001)
			want := escape(victim.Name) + " lost "
			if down {
				want = "character 2100000001 lost "
			}
			if !strings.HasPrefix(m.Embeds[0].Title, want) {
				t.Errorf("down: %v: the title is %q, want it to begin with %q", down, m.Embeds[0].Title, want)
			}
		})
	}
}

// book asks a stand-in for ESI, which may hang.
func book(t *testing.T, hangs bool) *names.Book {
	t.Helper()
	server, err := standin.New(standin.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pipe := standin.NewPipe()
	handler := server.Handler()
	if hangs {
		handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // else nobody notices that the caller leaves
			<-r.Context().Done()
		})
	}
	serving := &http.Server{Handler: handler}
	var ended sync.WaitGroup
	ended.Go(func() { serving.Serve(pipe) })
	client, err := upstream.New(upstream.Config{
		Version: "test", Contact: "test@example.com", Every: time.Millisecond, Header: esi.Header(),
		Transport: &http.Transport{DialContext: pipe.DialContext, DisableCompression: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	asks, err := esi.New(client, esi.Config{URL: "http://esi.example", Patience: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	b, err := names.Open("", names.Options{ESI: asks})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		client.Close()
		server.Close()
		serving.Close()
		pipe.Close()
		ended.Wait()
	})
	return b
}
