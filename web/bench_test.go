package web_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
	"killfeed/web"
)

// sink is a ResponseWriter that is used again and again, so that a benchmark shows what a handler costs and nothing else.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(b []byte) (int, error) { s.bytes += len(b); return len(b), nil }

// benchRequest is an idle caller's: ten systems, as browsers and curl write them.
func benchRequest(query string) *http.Request {
	r := &http.Request{Method: "GET", Header: http.Header{}, URL: &url.URL{Path: "/api/killfeed/next", RawQuery: query}, Body: http.NoBody}
	return r.WithContext(context.Background())
}

func tenSystems(name string) string {
	m := storetest.NewMaker(storetest.MakerOptions{})
	var b strings.Builder
	b.WriteString("client_id=bench")
	for rank := range 10 {
		b.WriteString("&" + name + "=" + killfeed.System(m.System(rank)).String()[len("system:"):])
	}
	return b.String()
}

// benchAPI is an API over a log of n events on the engine that servers have.
func benchAPI(b *testing.B, n int) (*web.API, *killfeed.Feed) {
	b.Helper()
	store, err := pebblestore.Open("", pebblestore.Options{Memory: true})
	if err != nil {
		b.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { feed.Close() })
	m := storetest.NewMaker(storetest.MakerOptions{Bytes: storetest.TypicalBytes})
	for n > 0 {
		group := make([]*killfeed.Killmail, 0, 500)
		for ; n > 0 && len(group) < cap(group); n-- {
			group = append(group, m.Next())
		}
		if _, err := feed.InsertAll(b.Context(), group, 0); err != nil {
			b.Fatal(err)
		}
	}
	api, err := web.New(feed, web.Config{})
	if err != nil {
		b.Fatal(err)
	}
	return api, feed
}

// BenchmarkNextIdle is the commonest call by far: a client with ten systems asks for the next event, and there is none.
// BenchmarkNextOne is a client with ten systems that asks for the next event, gets it, and does not commit it.
func BenchmarkNextOne(b *testing.B) {
	api, _ := benchAPI(b, 2000)
	w, r := &sink{header: http.Header{}}, benchRequest(tenSystems("systems[]")+"&start=1900&commit=manual")
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		api.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Fatalf("status %d, want 200", w.status)
	}
}

// BenchmarkYardstickQuery is what it must keep up with.
func BenchmarkNextIdle(b *testing.B) {
	for _, c := range []struct{ name, parameter string }{{"plain", "systems[]"}, {"encoded", "systems%5B%5D"}} {
		b.Run(c.name, func(b *testing.B) {
			api, _ := benchAPI(b, 2000)
			w, r := &sink{header: http.Header{}}, benchRequest(tenSystems(c.parameter)+"&start=latest")
			api.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				api.ServeHTTP(w, r)
			}
			if w.status != http.StatusNoContent {
				b.Fatalf("status %d, want 204", w.status)
			}
		})
	}
}

// BenchmarkYardstickQuery is a handler that only reads the same query with net/url and answers 204.
func BenchmarkYardstickQuery(b *testing.B) {
	for _, c := range []struct{ name, parameter string }{{"plain", "systems[]"}, {"encoded", "systems%5B%5D"}} {
		b.Run(c.name, func(b *testing.B) {
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if q := r.URL.Query(); len(q["systems[]"]) != 10 || q.Get("client_id") == "" {
					w.WriteHeader(http.StatusBadRequest)
					return
				}
				w.WriteHeader(http.StatusNoContent)
			})
			w, r := &sink{header: http.Header{}}, benchRequest(tenSystems(c.parameter)+"&start=latest")
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				h.ServeHTTP(w, r)
			}
			if w.status != http.StatusNoContent {
				b.Fatalf("status %d, want 204", w.status)
			}
		})
	}
}

// BenchmarkFeedNextIdle is the feed's share of BenchmarkNextIdle.
func BenchmarkFeedNextIdle(b *testing.B) {
	_, feed := benchAPI(b, 2000)
	m := storetest.NewMaker(storetest.MakerOptions{})
	r := killfeed.Read{Start: killfeed.Latest}
	for rank := range 10 {
		r.Topics = append(r.Topics, killfeed.System(m.System(rank)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := feed.Next(context.Background(), "bench", r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPoll is a poll of the newest 100 events, by cursor.
func BenchmarkPoll(b *testing.B) {
	api, _ := benchAPI(b, 2000)
	w, r := &sink{header: http.Header{}}, benchRequest("after=1900&topics=all&limit=100")
	r.URL.Path = "/api/killfeed"
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		w.bytes = 0
		api.ServeHTTP(w, r)
	}
	if w.status != http.StatusOK {
		b.Fatalf("status %d, want 200", w.status)
	}
	b.SetBytes(int64(w.bytes))
}

// BenchmarkPollShapes is BenchmarkPoll with a filter, with some members, and with names.
func BenchmarkPollShapes(b *testing.B) {
	for _, c := range []struct{ name, query string }{
		{"plain", ""}, {"fields", "&fields=killmail_id,zkb.totalValue,victim.ship_type_id,attackers.character_id"}, {"names", "&names=1"},
		{"filter", "&filter=isk%3E1m;npc!%3D1"}, {"fields-names-filter", "&fields=killmail_id&names=1&filter=isk%3E1m"},
	} {
		b.Run(c.name, func(b *testing.B) {
			api, feed := benchAPI(b, 2000)
			feed.SetUniverse(storetest.Universe())
			w, r := &sink{header: http.Header{}}, benchRequest("after=1900&topics=all&limit=100"+c.query)
			r.URL.Path = "/api/killfeed"
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				w.bytes = 0
				api.ServeHTTP(w, r)
			}
			if w.status != http.StatusOK {
				b.Fatalf("status %d, want 200", w.status)
			}
			b.SetBytes(int64(w.bytes))
		})
	}
}
