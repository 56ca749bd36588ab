package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

// past is the body of an answer that looks back.
type past struct {
	poll
	Cursor string
	Next   *string
}

func (a *answer) past() past {
	a.t.Helper()
	a.want(http.StatusOK)
	if got := a.header.Get("Cache-Control"); got != "public, max-age=1" {
		a.t.Errorf("%s: Cache-Control %q, want public, max-age=1", a.what, got)
	}
	var p past
	a.into(&p)
	return p
}

// dated is a killmail of a time.
func dated(id int, system uint32, at time.Time) string {
	return fmt.Sprintf(`{"killmail_id":%d,"killmail_time":%q,"solar_system_id":%d,"victim":{"ship_type_id":%d},"attackers":[]}`,
		id, at.UTC().Format(time.RFC3339), system, 587+id%2)
}

// TestLookBack: newest first, page by page, whatever the killmails' own times are, and on from there without a gap.
func TestLookBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := named(t)
		now := time.Now().Truncate(time.Second)
		for i := range 10 { // event 10-i was killed i hours ago
			s.put(dated(i+1, []uint32{jita, perimet}[i%2], now.Add(time.Duration(i-9)*time.Hour)))
		}
		s.put(`{"system_id":30000142,"killmail":{"a":11}}`)                                           // without a time
		s.put(dated(2, perimet, now)[:len(dated(2, perimet, now))-1] + `,"zkb":{"labels":["solo"]}}`) // an update
		s.put(dated(13, jita, now.Add(-100*time.Hour)))                                               // late
		for _, c := range []struct {
			target string
			want   []killfeed.EventID
		}{
			{"/api/killmails", []killfeed.EventID{13, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
			{"/api/killmails?updates=1&limit=3", []killfeed.EventID{13, 12, 11}},
			{"/api/killmails?systems=Jita", []killfeed.EventID{13, 11, 9, 7, 5, 3, 1}},
			{"/api/killmails?topics=region:The+Forge&limit=2", []killfeed.EventID{13, 11}},
			{"/api/systems/Jita/killmails", []killfeed.EventID{13, 11, 9, 7, 5, 3, 1}},
			{"/api/systems/30000144/killmails", []killfeed.EventID{10, 8, 6, 4, 2}},
			{"/api/systems/30000144/killmails?systems=nonsense&topics=all", []killfeed.EventID{10, 8, 6, 4, 2}},
			{"/api/systems/30000144/killmails?before=6", []killfeed.EventID{4, 2}},
			{"/api/systems/jita/killmails?since=4h", []killfeed.EventID{11, 9, 7}},
			{"/api/systems/jita/killmails?since=14400", []killfeed.EventID{11, 9, 7}},
			{"/api/systems/jita/killmails?since=5d", []killfeed.EventID{13, 11, 9, 7, 5, 3, 1}},
			{"/api/killmails?until=" + now.Add(-5*time.Hour).UTC().Format(time.RFC3339), []killfeed.EventID{13, 4, 3, 2, 1}},
			{"/api/killmails?since=7h&until=5h", []killfeed.EventID{4, 3}},
			{"/api/killmails?filter=ship_type_id%3D588&limit=2", []killfeed.EventID{13, 9}},
			{"/api/killmails?filter=region%3D%22The+Forge%22;ship%3DRifter", []killfeed.EventID{10, 8, 6, 4, 2}},
			{"/api/systems/Amarr/killmails", nil},
		} {
			p := s.get(c.target).past()
			if !slices.Equal(p.ids(), c.want) {
				t.Errorf("%s: events %v, want %v", c.target, p.ids(), c.want)
			}
			if want := "13-" + string(p.Epoch); p.Head != 13 || p.Cursor != want {
				t.Errorf("%s: head %d, cursor %s, want 13, %s", c.target, p.Head, p.Cursor, want)
			}
		}
		// Page by page.
		for limit := 1; limit <= 13; limit++ {
			var all []killfeed.EventID
			target := fmt.Sprintf("/api/killmails?limit=%d", limit)
			for query, pages := "", 0; ; pages++ {
				p := s.get(target + query).past()
				all = append(all, p.ids()...)
				if len(p.Events) > limit || pages > 20 {
					t.Fatalf("limit %d: a page of %v, the %dth", limit, p.ids(), pages)
				}
				if p.Next == nil {
					break
				}
				query = "&before=" + *p.Next
			}
			if want := []killfeed.EventID{13, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}; !slices.Equal(all, want) {
				t.Errorf("limit %d: all pages have %v, want %v", limit, all, want)
			}
		}
		// What comes later is behind the cursor.
		cursor := s.get("/api/killmails?limit=1").past().Cursor
		s.insert(jita)
		if p := s.get("/api/killfeed?topics=all&after=" + cursor).poll(); !slices.Equal(p.ids(), []killfeed.EventID{14}) {
			t.Errorf("behind the cursor are %v, want 14", p.ids())
		}
	})
}

// TestLookBackRefusals: whatever is not accepted is a 400 that names it.
func TestLookBackRefusals(t *testing.T) {
	s := named(t)
	s.insert(jita)
	for _, c := range []struct{ query, parameter, value string }{
		{"limit=0", "limit", "0"}, {"limit=1001", "limit", "1001"},
		{"before=0", "before", "0"}, {"before=x", "before", "x"}, {"before=1-00000000", "before", "1-00000000"}, {"before=", "before", ""},
		{"since=x", "since", "x"}, {"since=", "since", ""}, {"since=-4h", "since", "-4h"}, {"until=0", "until", "0"}, {"since=1h&until=1h", "until", "1h"},
		{"since=1h&until=2h", "until", "2h"}, {"since=1h&since=2h", "since", "2h"}, {"since[]=1h", "since[]", "1h"}, {"since=99999999999d", "since", "99999999999d"},
		{"filter=x", "filter", "x"}, {"fields=", "fields", ""}, {"names=2", "names", "2"}, {"updates=x", "updates", "x"}, {"backfill=x", "backfill", "x"},
	} {
		for _, path := range []string{"/api/killmails", "/api/systems/Jita/killmails"} {
			if p := s.get(path + "?" + c.query).problem(400); p.Parameter != c.parameter || p.Value != c.value {
				t.Errorf("%s?%s: parameter %q, value %q; want %q, %q", path, c.query, p.Parameter, p.Value, c.parameter, c.value)
			}
		}
	}
	s.get("/api/systems/Jitta/killmails").problem(400)
	s.get("/api/killmails?systems=").problem(400)
	s.get("/api/killmails?client_id=&after=x&start=x&wait=x&commit=x&max_age=x&last_event_id=x&window=x").want(200) // they mean nothing here
}

// TestShowKillmail: by its own id, in its newest version; and what is not there was never there, or has gone.
func TestShowKillmail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(o *serverOptions) { o.feed.Retention = killfeed.Retention{Max: time.Minute} })
		mail := dated(5, jita, time.Now())
		s.put(mail, mail[:len(mail)-1]+`,"zkb":{"labels":["solo"]}}`)
		var e struct {
			ID     killfeed.EventID `json:"event_id"`
			Update bool
		}
		a := s.get("/api/killmails/5?fields=zkb").want(200)
		a.into(&e)
		if e.ID != 2 || !e.Update || !strings.HasSuffix(string(a.body), `"killmail":{"zkb":{"labels":["solo"]}}}`) {
			t.Errorf("killmail 5: %s", a.body)
		}
		for _, id := range []string{"0", "-1", "x", "1.5", "99999999999999999999"} {
			if p := s.get("/api/killmails/" + id).problem(400); p.Parameter != "id" {
				t.Errorf("%s: %+v", id, p)
			}
		}
		s.get("/api/killmails/5?names=x").problem(400)
		s.get("/api/killmails/5?systems=x&filter=x&updates=x").want(200) // they mean nothing here
		if p := s.get("/api/killmails/6").problem(404); !strings.Contains(p.Detail, "killmail 6 has never come") {
			t.Errorf("killmail 6: %s", p.Detail)
		}
		time.Sleep(time.Hour)
		if _, err := s.feed.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p := s.get("/api/killmails/5").problem(404); !strings.Contains(p.Detail, "retention") {
			t.Errorf("killmail 5, removed: %s", p.Detail)
		}
	})
}

// TestCounts: GET /api/systems/counts.
func TestCounts(t *testing.T) {
	type count struct {
		System    uint32           `json:"system_id"`
		Killmails int              `json:"killmails"`
		Latest    killfeed.EventID `json:"latest"`
		Name      string           `json:"name"`
	}
	synctest.Test(t, func(t *testing.T) {
		s := named(t)
		now := time.Now().Truncate(time.Second)
		for i, system := range []uint32{jita, perimet, jita, 31000005, hek, jita, perimet} {
			s.put(dated(i+1, system, now.Add(-time.Duration(i)*10*time.Hour)))
		}
		for _, c := range []struct {
			query string
			want  []count
		}{
			{"", []count{{jita, 2, 3, ""}, {perimet, 1, 2, ""}}},
			{"window=7d", []count{{jita, 3, 6, ""}, {perimet, 2, 7, ""}, {hek, 1, 5, ""}, {31000005, 1, 4, ""}}},
			{"since=7d&until=15h", []count{{jita, 2, 6, ""}, {perimet, 1, 7, ""}, {hek, 1, 5, ""}, {31000005, 1, 4, ""}}},
			{"window=7d&topics=region:The+Forge&names=1", []count{{jita, 3, 6, "Jita"}, {perimet, 2, 7, "Perimeter"}}},
			{"window=7d&topics=space:wormhole", []count{{31000005, 1, 4, ""}}},
			{"window=7d&systems=Jita,Amarr", []count{{jita, 3, 6, ""}}},
			{"window=7d&filter=ship%3DRifter", []count{{jita, 1, 6, ""}, {perimet, 1, 2, ""}, {31000005, 1, 4, ""}}}, // those of even ids
			{"window=1h&systems=Amarr", nil},
		} {
			var got struct {
				Since, Until time.Time
				Head         killfeed.EventID
				Epoch        string
				Cursor       string
				Counts       []count
			}
			a := s.get("/api/systems/counts?" + c.query).want(200)
			a.into(&got)
			if diff := cmp.Diff(c.want, got.Counts); diff != "" && len(c.want)+len(got.Counts) > 0 {
				t.Errorf("%s (-want +got):\n%s", c.query, diff)
			}
			if got.Head != 7 || got.Cursor != "7-"+got.Epoch || !got.Since.Before(got.Until) {
				t.Errorf("%s: %s", c.query, a.body)
			}
		}
		for _, c := range []struct{ query, parameter string }{
			{"window=x", "window"}, {"window=0", "window"}, {"window=1h&since=1h", "window"}, {"since=x", "since"}, {"until=x", "until"},
			{"systems=", "systems"}, {"topics=x", "topics"}, {"filter=", "filter"}, {"since=1h&until=2h", "until"},
		} {
			if p := s.get("/api/systems/counts?" + c.query).problem(400); p.Parameter != c.parameter {
				t.Errorf("%s: parameter %s, want %s", c.query, p.Parameter, c.parameter)
			}
		}
	})
}

// stuck is a Store whose index answers only when it is let.
type stuck struct {
	killfeed.Store
	let chan struct{}
}

func (s *stuck) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	<-s.let
	return s.Store.Find(dst, q)
}

// As many look back as may: the next one is told to come again.
func TestLookBackIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &stuck{Store: storetest.NewModel(), let: make(chan struct{})}
		feed, err := killfeed.Open(store, killfeed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
		if _, err := feed.Insert(t.Context(), jita, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		api, err := web.New(feed, web.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ask := func(target string) *answer {
			w := httptest.NewRecorder()
			api.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
			return &answer{t: t, what: target, status: w.Code, header: w.Result().Header, body: w.Body.Bytes()}
		}
		var running sync.WaitGroup
		for range 2 * runtime.GOMAXPROCS(0) {
			running.Go(func() { ask("/api/killmails").want(200) })
		}
		synctest.Wait()
		for _, target := range []string{"/api/killmails?topics=all", "/api/systems/30000142/killmails", "/api/systems/counts"} {
			a := ask(target)
			if p := a.problem(503); a.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "look back") {
				t.Errorf("%s: Retry-After %q, detail %q", target, a.header.Get("Retry-After"), p.Detail)
			}
		}
		close(store.let)
		running.Wait()
		ask("/api/systems/counts").want(200)
	})
}
