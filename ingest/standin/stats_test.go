package standin_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

// Counts of a client whose every request is known.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(40), R2Z2PerSecond: 12})
		// Eleven in a second, 90 ms apart; then one every second.
		for range 12 {
			s.want(http.StatusOK, "/ephemeral/sequence.json")
			time.Sleep(90 * time.Millisecond)
		}
		st := s.Stats()
		if st.Peak != 12 || st.PeakByService[standin.ServiceR2Z2] != 12 || st.PeakByKind[standin.KindPointer] != 12 {
			t.Errorf("12 within 990 ms: %+v", st)
		}
		s.ResetStats()
		time.Sleep(time.Second)
		for range 30 {
			s.want(http.StatusOK, "/ephemeral/sequence.json")
			time.Sleep(100 * time.Millisecond)
		}
		if st = s.Stats(); st.Peak != 10 || st.Concurrent != 1 || st.Requests[standin.KindPointer][200] != 30 {
			t.Errorf("one in 100 ms: %+v", st)
		}
		time.Sleep(time.Second)
		s.ResetStats()
		for i := range 14 { // the limit is over the service
			want := http.StatusOK
			if i >= 12 {
				want = http.StatusTooManyRequests
			}
			s.want(want, []string{"/ephemeral/sequence.json", file(first)}[i%2])
		}
		st = s.Stats()
		if st.Peak != 14 || st.PeakByKind[standin.KindFile] != 7 || st.After429.Count != 1 || st.After429.Least != 0 {
			t.Errorf("14 at once: %+v", st)
		}
		s.ResetStats()
		time.Sleep(time.Minute)

		// After a 404. The number counts, not the path's other askers.
		s.want(http.StatusNotFound, file(first+100))
		time.Sleep(3 * time.Second)
		s.want(http.StatusOK, file(first))
		s.want(http.StatusNotFound, file(first+101))
		time.Sleep(3 * time.Second)
		s.want(http.StatusNotFound, file(first+100))
		time.Sleep(7 * time.Second)
		s.want(http.StatusNotFound, file(first+101))
		if st = s.Stats(); st.After404 != (standin.Gap{Count: 2, Least: 6 * time.Second, Number: first + 100}) {
			t.Errorf("after 404: %+v", st.After404)
		}
		time.Sleep(4 * time.Second)
		s.want(http.StatusNotFound, file(first+101))
		if st = s.Stats(); st.After404 != (standin.Gap{Count: 3, Least: 4 * time.Second, Number: first + 101}) {
			t.Errorf("after 404: %+v", st.After404)
		}

		// Refusals of a service.
		s.set(standin.TooMany, standin.Strike{Next: 1, RetryAfter: 5 * time.Second})
		s.want(http.StatusTooManyRequests, file(first))
		time.Sleep(2 * time.Second)
		s.want(http.StatusNotFound, "/killmails/1/"+hash1) // another service
		s.want(http.StatusOK, file(first))
		time.Sleep(3 * time.Second)
		s.want(http.StatusOK, file(first))
		s.set(standin.Forbidden, standin.Strike{Next: 1})
		s.want(http.StatusForbidden, "/ephemeral/sequence.json")
		time.Sleep(30 * time.Second)
		s.want(http.StatusOK, file(first))
		st = s.Stats()
		if st.After429 != (standin.Gap{Count: 1, Least: 2 * time.Second}) || st.BeforeRetryAfter != 1 ||
			st.After403 != (standin.Gap{Count: 1, Least: 30 * time.Second}) {
			t.Errorf("after 429 %+v, early %d, after 403 %+v", st.After429, st.BeforeRetryAfter, st.After403)
		}

		// Names.
		s.ResetStats()
		for _, name := range []string{"", "Mozilla/5.0", "x/1 a@b.c", "x (+https://b.c)", agent} {
			s.get("/ephemeral/sequence.json", "User-Agent", name)
			s.get("/listen.php", "User-Agent", name)
		}
		s.get("/killmails/1/"+hash1, "User-Agent", "", "X-User-Agent", agent)
		s.get("/killmails/1/"+hash1+"?user_agent="+"a@b.c", "User-Agent", "")
		if st = s.Stats(); st.NoUserAgent != 2 || st.NoContact != 4 {
			t.Errorf("%d without a name, want 2; %d without a contact, want 4", st.NoUserAgent, st.NoContact)
		}
	})
}

func TestConcurrent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{})
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { s.get(fmt.Sprintf("/listen.php?ttw=5&queueID=%d", i)) })
		}
		time.Sleep(time.Second)
		st := s.Stats()
		if st.Concurrent != 5 || st.ConcurrentByService[standin.ServiceRedisQ] != 5 || st.Requests[standin.KindListen][0] != 5 {
			t.Errorf("five polls: %+v", st)
		}
		s.ResetStats()
		wg.Wait()
		if st = s.Stats(); st.Concurrent != 5 || st.Requests[standin.KindListen][200] != 5 || st.Requests[standin.KindListen][0] != 0 {
			t.Errorf("after their end: %+v", st)
		}
		synctest.Wait()
		s.ResetStats()
		s.get("/history/totals.json")
		if st = s.Stats(); st.Concurrent != 1 || st.ConcurrentByService[standin.ServiceRedisQ] != 0 {
			t.Errorf("one after another: %+v", st)
		}
	})
}

// clock is a clock of the test's own.
type clock struct{ standin.Clock }

func (clock) Now() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func TestClock(t *testing.T) {
	s, err := standin.New(standin.Config{Mails: madeUp(1, epoch, 0), Clock: clock{}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, file(first), nil)
	r.Header.Set("User-Agent", agent)
	s.Handler().ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Date") != "Mon, 23 Nov 2026 12:00:00 GMT" || !s.Stats().Since.Equal(clock{}.Now()) {
		t.Errorf("%d, %v", w.Code, w.Header())
	}
}

// Many at once over real sockets, with every fault: each request is counted once, with what came of it.
func TestManyAtOnce(t *testing.T) {
	const clients, each = 8, 150
	faults := standin.Faults{}
	for _, fault := range []standin.Fault{standin.Hole, standin.Late, standin.Reupload, standin.Forbidden, standin.TooMany,
		standin.ServerError, standin.NotFound, standin.HTML, standin.Stale, standin.Skew, standin.WrongSequence,
		standin.InvalidJSON, standin.Truncated, standin.Cut, standin.SocketDrop} {
		faults[fault] = standin.Strike{Chance: 0.05}
	}
	faults[standin.Hang] = standin.Strike{Chance: 0.02, For: time.Millisecond}
	day := time.Now().Add(-72 * time.Hour)
	mails := madeUp(300, day, time.Second)
	s, err := standin.New(standin.Config{Mails: mails, Pace: standin.Pace{Rate: 500}, Faults: faults})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	defer s.Close()
	paths := []string{"/ephemeral/sequence.json", "/history/totals.json", "/listen.php", "/object.php?objectID=null",
		fmt.Sprintf("/killmails/%d/%s/", s.Files()[0].KillmailID, s.Files()[0].Hash), "/killmails/totals.json", "/standin/stats", "/nothing"}
	paths = append(paths, "/history/raw/"+day.UTC().Format("20060102")+".json")

	var byStatus [600]atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{
				// A transport tries a GET again by itself when a connection that it had used before breaks.
				DisableKeepAlives: true,
			}}
			for i := range each {
				path := file(first + int64(i))
				if i%3 == 0 {
					path = paths[(i/3+c)%len(paths)]
				}
				switch i {
				case 20:
					s.Publish(1)
				case 30:
					s.SetFault(standin.Cut, standin.Strike{Chance: 0.05})
				case 40:
					s.Faults()
					s.Files()
				}
				q, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
				q.Header.Set("User-Agent", agent)
				r, err := client.Do(q)
				own := path == "/standin/stats"
				switch {
				case err != nil:
					byStatus[0].Add(1)
				default:
					io.Copy(io.Discard, r.Body)
					r.Body.Close()
					if !own {
						byStatus[r.StatusCode].Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	server.Close() // waits for the handlers
	got := map[int]int64{}
	st := s.Stats()
	for _, m := range st.Requests {
		for status, n := range m {
			got[status] += n
		}
	}
	for status := range byStatus {
		if n := byStatus[status].Load(); n != got[status] {
			t.Errorf("status %d: the clients saw %d, counted are %d", status, n, got[status])
		}
	}
	if st.Concurrent > clients || st.NoContact != 0 {
		t.Errorf("%d under way at a time, of %d clients; %d without a contact", st.Concurrent, clients, st.NoContact)
	}
	for fault := range faults {
		if fault != standin.SocketDrop && st.Faults[fault] == 0 {
			t.Errorf("fault %s never struck", fault)
		}
	}
}
