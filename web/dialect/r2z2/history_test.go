package r2z2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"killfeed"
	"killfeed/storetest"
)

const historyBriefly = "public, max-age=300"

// on moves a made-up killmail to another time.
func on(m storetest.Mail, at string) storetest.Mail {
	t, err := time.Parse(time.RFC3339, at)
	if err != nil {
		panic(err)
	}
	m.Time = t
	return m
}

func TestHistory(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer func() { s.close() }()
	s.is("/history/totals.json", 200, `{}`, historyBriefly)
	s.is("/history/20261123.json", 404, "", historyBriefly)

	a, b, c, d := on(s.mail(), "2026-11-23T00:00:00Z"), on(s.mail(), "2026-11-23T23:59:59Z"), on(s.mail(), "2026-11-24T00:00:00Z"), on(s.mail(), "2026-11-21T12:00:00Z")
	s.insert(0, b, c)
	s.insert(killfeed.MarkBackfill, d)
	s.other(`{"no":"id","killmail_time":"2026-11-23T12:00:00Z"}`)
	s.other(`{"killmail_id":7,"killmail_time":"2026-11-23T12:00:00Z"}`)                          // no hash
	s.other(`{"killmail_id":8}`)                                                                 // no time
	s.insert(0, labelled(b, 2))                                                                  // an update
	s.insert(0, a)                                                                               // a late one, with a smaller id
	hashes := fmt.Sprintf(`{"%d":"%s","%d":"%s"}`, a.ID, a.Hash(), b.ID, b.Hash())               // ascending
	raw := fmt.Sprintf(`{"7":%s,"%d":%s,"%d":%s}`, s.esi(7), a.ID, esiBody(a), b.ID, esiBody(b)) // without zkb
	totals := fmt.Sprintf(`{"20261121":%d,"20261123":%d,"20261124":%d}`, 1, 4, 1)                // with what has no id
	for range 2 {
		s.is("/history/20261123.json", 200, hashes, historyBriefly)
		s.is("/history/raw/20261123.json", 200, raw, historyBriefly)
		s.is("/history/raw/20261121.json/", 200, fmt.Sprintf(`{"%d":%s}`, d.ID, esiBody(d)), historyBriefly)
		s.is("/history/20261122.json", 200, `{}`, historyBriefly) // between two that have some
		s.is("/history/raw/20261122.json", 200, `{}`, historyBriefly)
		s.is("/history/totals.json", 200, totals, historyBriefly)
		s.is("/history/20261120.json", 404, "", historyBriefly)
		s.is("/history/20261125.json", 404, "", historyBriefly)
		s.restart()
	}
	for _, name := range []string{"2026-11-23.json", "20261123", "20261323.json", "19691231.json", "x.json", "020261123.json"} {
		s.is("/history/"+name, 404, "", goneCaching)
		s.is("/history/raw/"+name, 404, "", goneCaching)
	}

	for _, target := range []string{"/history/20261123.json", "/history/raw/20261123.json", "/history/totals.json"} {
		tag := s.get(target).Header().Get("Etag")
		if w := s.get(target, "If-None-Match", tag); w.Code != 304 || w.Body.Len() > 0 {
			t.Errorf("%s: unchanged, status %d with %d bytes, want 304", target, w.Code, w.Body.Len())
		}
		s.insert(0, on(s.mail(), "2026-11-23T13:00:00Z"))
		if w := s.get(target, "If-None-Match", tag); w.Code != 200 || w.Header().Get("Etag") == tag {
			t.Errorf("%s: changed, status %d", target, w.Code)
		}
		if w := s.do(httptest.NewRequest("HEAD", target, nil)); w.Code != 200 || w.Body.Len() > 0 || w.Header().Get("Etag") == "" {
			t.Errorf("HEAD %s: status %d with %d bytes", target, w.Code, w.Body.Len())
		}
	}
}

// esi is the body of a killmail as it is stored.
func (s *server) esi(id int64) string {
	s.t.Helper()
	e, err := s.feed.Killmail(id)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(e.Killmail)
}

// Whatever comes and goes, history is what is kept, at any time.
func TestHistoryAtRandom(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := newServer(t, killfeed.Options{})
		defer func() { s.close() }()
		size := killfeed.EventID(rapid.IntRange(1, 9).Draw(r, "size"))
		h := newHistory(s.feed)
		h.size = size
		type kept struct {
			mail storetest.Mail
			id   killfeed.EventID
		}
		var all []kept
		began := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
		for range rapid.IntRange(1, 40).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"mail", "mail", "backfill", "update", "remove", "look", "restart"}).Draw(r, "step") {
			case "mail", "backfill":
				m := s.mail()
				m.Time = began.Add(time.Duration(rapid.IntRange(0, 5*24*3600).Draw(r, "time")) * time.Second)
				s.insert(killfeed.Marks(rapid.SampledFrom([]int{0, int(killfeed.MarkBackfill)}).Draw(r, "marks")), m)
				all = append(all, kept{m, s.feed.State().Head})
			case "update":
				if len(all) > 0 {
					s.insert(0, labelled(all[len(all)-1].mail, 1)) // or a duplicate
				}
			case "remove":
				if st := s.feed.State(); st.First <= st.Head {
					through := killfeed.EventID(rapid.IntRange(int(st.First), int(st.Head)).Draw(r, "through"))
					if err := s.model.Remove(through); err != nil {
						r.Fatal(err)
					}
					all = slices.DeleteFunc(all, func(k kept) bool { return k.id <= through })
				}
			case "restart":
				s.restart()
				h.feed = s.feed
				if rapid.Bool().Draw(r, "afresh") {
					h = newHistory(s.feed)
					h.size = size
				}
			case "look":
				want := map[string]map[int64]string{}
				for _, k := range all {
					day := k.mail.Time.Format("20060102")
					if want[day] == nil {
						want[day] = map[int64]string{}
					}
					want[day][k.mail.ID] = k.mail.Hash()
				}
				if err := h.begin(context.Background()); err != nil {
					r.Fatal(err)
				}
				got := map[string]map[int64]string{}
				for d, n := range h.tallies() {
					of, inside := h.of(d)
					if of != n || !inside {
						r.Fatalf("%v has %+v by one way of counting, and %+v (%v) by another", d, n, of, inside)
					}
					m, err := h.read(context.Background(), d, n)
					if err != nil {
						r.Fatal(err)
					}
					if len(m.all) != n.killmails {
						r.Fatalf("%v has %d killmails, and %d are counted", d, len(m.all), n.killmails)
					}
					if !slices.IsSortedFunc(m.all, func(a, b mail) int { return int(a.id - b.id) }) {
						r.Fatalf("%v is not in order", d)
					}
					got[d.String()] = map[int64]string{}
					for _, one := range m.all {
						got[d.String()][one.id] = fmt.Sprintf("%x", one.hash)
					}
				}
				h.end()
				if diff := cmp.Diff(want, got); diff != "" {
					r.Fatal(diff)
				}
			}
		}
	})
}

// What is remembered of days is bounded, and what is forgotten is read again.
func TestForget(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	h := newHistory(s.feed)
	for i := range 10 {
		m := s.mail()
		m.Time = time.Date(2026, 11, 1+i, 12, 0, 0, 0, time.UTC)
		s.insert(0, m)
	}
	if err := h.begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer h.end()
	all := h.tallies()
	days := slices.Sorted(maps.Keys(all))
	for range 2 {
		for _, d := range days {
			h.kept += keptMails - 4 // as if that many had been read beside them
			got, err := h.read(t.Context(), d, all[d])
			h.kept -= keptMails - 4
			if err != nil || len(got.all) != 1 {
				t.Fatalf("%v: %+v (%v)", d, got, err)
			}
			if len(h.days) > 4 || h.kept != len(h.days) {
				t.Fatalf("%d days with %d killmails are remembered, want 4", len(h.days), h.kept)
			}
		}
	}
	if _, err := h.read(t.Context(), days[0], tally{maxDay + 1, 1}); err == nil {
		t.Error("a day that is too large is read")
	}
}

// One looks into the log at a time. Who leaves while he waits for his turn gets nothing, and holds up nobody.
func TestTurns(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	for range 50 {
		s.insert(0, s.mail())
	}
	day := "/history/20211127.json"
	want := s.get(day).Body.String()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 20 {
				if i%4 == 0 {
					ctx, cancel := context.WithCancel(t.Context())
					cancel()
					if w := s.do(httptest.NewRequestWithContext(ctx, "GET", day, nil)); w.Body.Len() > 0 && w.Body.String() != want {
						t.Errorf("who left is told %s", w.Body)
					}
					continue
				}
				if w := s.get(day); w.Code != 200 || w.Body.String() != want {
					t.Errorf("status %d: %.100s", w.Code, w.Body)
				}
			}
		})
	}
	wg.Wait()
}

// stuck is who does not read what he asked for.
type stuck struct {
	http.ResponseWriter
	begun, let chan struct{}
	once       sync.Once
}

func (w *stuck) Write(b []byte) (int, error) {
	w.once.Do(func() { close(w.begun) })
	<-w.let
	return 0, errors.New("connection reset")
}

// So many read bodies at once, and those that are slow hold up nobody but as many as that.
func TestManyRaw(t *testing.T) {
	s := newServer(t, killfeed.Options{})
	defer s.close()
	for range 50 {
		s.insert(0, s.mail())
	}
	target := "/history/raw/20211127.json"
	let := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		w := &stuck{ResponseWriter: httptest.NewRecorder(), begun: make(chan struct{}), let: let}
		wg.Go(func() {
			defer func() {
				if v := recover(); v != http.ErrAbortHandler {
					t.Errorf("an answer that breaks off ends with %v, want the end of the connection", v)
				}
			}()
			s.api.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
		})
		<-w.begun
	}
	if w := s.get(target); w.Code != 503 || w.Header().Get("Retry-After") == "" || !json.Valid(w.Body.Bytes()) {
		t.Errorf("the ninth at once: status %d: %s, want 503 with Retry-After", w.Code, w.Body)
	}
	s.is("/history/totals.json", 200, `{"20211127":50}`, historyBriefly)
	close(let)
	wg.Wait()
	if w := s.get(target); w.Code != 200 || strings.Count(w.Body.String(), `"victim"`) != 50 {
		t.Errorf("afterwards: status %d with %d bytes", w.Code, w.Body.Len())
	}
}
