package follow_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/follow"
	"killfeed/storetest"
)

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeader(t)
		l.insertNew(2300)
		f := newFollower(t, l, follow.Config{})
		f.start()
		sleep(5 * time.Second)
		f.same()
		if st := f.in.Status(); st.State != ingest.Following || st.Inserted != 2300 || st.Behind != 0 || st.LastError != "" {
			t.Errorf("status %+v", st)
		}
		// What comes while a poll waits is there at once.
		begun := time.Now()
		l.insertNew(1)
		synctest.Wait()
		f.same()
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
		before := l.asked()
		sleep(time.Hour)
		if n := l.asked() - before; n < 300 || n > 365 {
			t.Errorf("%d requests in an idle hour, want one each 10 s", n)
		}
		f.stop()
		for _, q := range l.queries[1:] {
			if !strings.Contains(q, "after=") || !strings.Contains(q, "updates=1") || !strings.Contains(q, "backfill=1") {
				t.Fatalf("query %s", q)
			}
		}
		if place, err := f.store.Checkpoint(name); err != nil || place != fmt.Sprintf("2301-%s", l.feed.State().Epoch) {
			t.Errorf("place %q, %v", place, err)
		}
	})
}

// Random life of a leader, followed through random failures and ends of the follower: what comes out is the leader's log, event
// for event.
func TestRandom(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random(t, rand.New(rand.NewPCG(seed, 3)))
			})
		})
	}
}

func random(t *testing.T, rnd *rand.Rand) {
	l := newLeader(t)
	var mails []storetest.Mail
	anonymous := 0
	live := func() {
		var ks []*killfeed.Killmail
		marks := killfeed.Marks(0)
		if rnd.IntN(3) == 0 {
			marks = killfeed.MarkBackfill
		}
		for range 1 + rnd.IntN(20) {
			switch n := rnd.IntN(10); {
			case n < 6 || len(mails) == 0:
				m := l.mails.NextMail()
				if rnd.IntN(2) == 0 {
					m.ZKB, m.Labels = false, nil // may be updated
				}
				mails = append(mails, m)
				ks = append(ks, m.Killmail())
			case n < 7: // any JSON object
				anonymous++
				k, err := killfeed.NewKillmail(30000142, fmt.Appendf(nil, `{"n":%d,"text":"<\/&>\u00e4","x":1.50}`, anonymous))
				if err != nil {
					t.Fatal(err)
				}
				ks = append(ks, k)
			case n < 8: // the same again
				m := mails[rnd.IntN(len(mails))]
				ks = append(ks, m.Killmail())
			default: // a richer version
				m := &mails[rnd.IntN(len(mails))]
				m.ZKB, m.Labels = true, append(m.Labels[:len(m.Labels):len(m.Labels)], fmt.Sprintf("label:%d", rnd.IntN(5)))
				if rnd.IntN(2) == 0 {
					k := m.Killmail()
					ks = append(ks, k)
				}
			}
		}
		l.insert(marks, ks...)
	}
	faults := rand.New(rand.NewPCG(rnd.Uint64(), 4))
	l.spoil = func(r *http.Request, w *httptest.ResponseRecorder) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch faults.IntN(20) {
		case 0:
			return errors.New("connection reset")
		case 1:
			w.Body.Truncate(w.Body.Len() / 2)
			w.Result().Header.Del("Content-Length")
		case 2:
			*w = *httptest.NewRecorder()
			w.WriteHeader(http.StatusServiceUnavailable)
		case 3:
			*w = *httptest.NewRecorder()
			io.WriteString(w, "<html>one moment</html>")
		case 4:
			*w = *httptest.NewRecorder()
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		return nil
	}
	f := newFollower(t, l, follow.Config{})
	for range 60 {
		switch rnd.IntN(4) {
		case 0:
			if f.cancel == nil {
				f.start()
			}
		case 1:
			if f.cancel != nil {
				if rnd.IntN(2) == 0 {
					f.kill()
				} else {
					f.stop()
				}
			}
		default:
			live()
		}
		sleep(time.Duration(rnd.IntN(5000)) * time.Millisecond)
	}
	if f.cancel == nil {
		f.start()
	}
	l.mu.Lock()
	l.spoil = nil
	l.mu.Unlock()
	sleep(10 * time.Minute)
	f.same()
	if st := f.in.Status(); st.State != ingest.Following || st.Bad != 0 {
		t.Errorf("status %+v", st)
	}
}

func TestGaps(t *testing.T) {
	t.Run("retention", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLeader(t)
			l.insertNew(5)
			f := newFollower(t, l, follow.Config{})
			f.start()
			sleep(time.Second)
			f.stop()
			l.insertNew(5)
			if err := l.store.Remove(8); err != nil {
				t.Fatal(err)
			}
			f.start()
			sleep(time.Second)
			got := records(t, f.feed)
			if len(got) != 7 || got[5].Killmail != records(t, l.feed)[0].Killmail {
				t.Errorf("%d events: want 1 to 5, and 9 and 10", len(got))
			}
			st := f.in.Status()
			if !strings.Contains(st.Detail, "6-8") || !strings.Contains(f.log.String(), "from=6 to=8") || st.State != ingest.Following {
				t.Errorf("the gap is not told: status %+v, log %s", st, &f.log)
			}
		})
	})
	t.Run("first start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLeader(t)
			l.insertNew(5)
			if err := l.store.Remove(3); err != nil {
				t.Fatal(err)
			}
			f := newFollower(t, l, follow.Config{})
			f.start()
			sleep(time.Second)
			if st := f.in.Status(); st.Inserted != 2 || st.Detail != "" {
				t.Errorf("status %+v: nothing is lost that was gone before the first start", st)
			}
		})
	})
	t.Run("epoch", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLeader(t)
			l.insertNew(5)
			f := newFollower(t, l, follow.Config{})
			f.start()
			sleep(time.Second)
			f.stop()
			old, err := l.feed.Event(2)
			if err != nil {
				t.Fatal(err)
			}
			l.replace(storetest.NewModel())
			again, err := killfeed.ParseItem(old.Killmail)
			if err != nil {
				t.Fatal(err)
			}
			l.insert(0, again)
			l.insertNew(2)
			f.start()
			sleep(time.Second)
			l.insertNew(1)
			sleep(time.Second)
			if got := records(t, f.feed); len(got) != 8 {
				t.Errorf("%d events, want 5 of the old log and 3 of the new one", len(got))
			}
			st := f.in.Status()
			if st.Duplicates != 1 || st.Inserted != 3 || !strings.Contains(st.Detail, "another one") {
				t.Errorf("status %+v", st)
			}
			if place, _ := f.in.Place(); place != fmt.Sprintf("4-%s", l.feed.State().Epoch) {
				t.Errorf("place %s", place)
			}
		})
	})
	t.Run("future", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLeader(t)
			l.insertNew(5)
			f := newFollower(t, l, follow.Config{})
			f.start()
			sleep(time.Second)
			// As when the leader has lost the end of its log, and has taken others since.
			if err := f.in.Take(t.Context(), fmt.Sprintf("90-%s", l.feed.State().Epoch)); err != nil {
				t.Fatal(err)
			}
			f.stop()
			l.insertNew(2)
			f.start()
			sleep(time.Second)
			l.insertNew(2)
			sleep(time.Second)
			f.same()
			if st := f.in.Status(); st.Duplicates != 5 || st.Inserted != 4 || !strings.Contains(st.Detail, "ended before") {
				t.Errorf("status %+v", st)
			}
		})
	})
}

func TestStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeader(t)
		l.insertNew(5)
		f := newFollower(t, l, follow.Config{Start: killfeed.Latest})
		f.start()
		sleep(time.Second)
		f.stop()
		l.insertNew(3) // the first answer brought nothing but the place
		f.start()
		sleep(time.Second)
		if st := f.feed.State(); st.Head != 3 {
			t.Errorf("%d events, want the 3 after the first start", st.Head)
		}
	})
}

func TestSelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeader(t)
		f := newFollower(t, l, follow.Config{Self: l.feed.State().Epoch})
		f.start()
		err := <-f.ended
		f.ended <- nil
		if err == nil || !strings.Contains(err.Error(), "this one itself") {
			t.Errorf("got %v", err)
		}
	})
}

// A leader that does not answer is asked less and less, and the status says since when and why.
func TestDeadLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeader(t)
		l.spoil = func(*http.Request, *httptest.ResponseRecorder) error { return errors.New("connection refused") }
		f := newFollower(t, l, follow.Config{})
		f.start()
		sleep(time.Hour)
		if l.asked() > 60 {
			t.Errorf("%d requests in an hour", l.asked())
		}
		st := f.in.Status()
		if st.State != ingest.Waiting || st.Degraded == nil || !strings.Contains(st.LastError, "connection refused") {
			t.Errorf("status %+v", st)
		}
	})
}

// A server that answers at once, always the same, is not asked in a busy loop.
func TestNoBusyLoop(t *testing.T) {
	for what, body := range map[string]string{
		"nothing new":    `{"events":[],"head":0,"epoch":"0a0a0a0a","more":false,"next":"0-0a0a0a0a"}`,
		"more for ever":  `{"events":[],"head":9,"epoch":"0a0a0a0a","more":true,"next":"0-0a0a0a0a"}`,
		"future always":  `{"events":[],"head":0,"epoch":"0a0a0a0a","more":false,"next":"0-0a0a0a0a","gap":{"reason":"future"}}`,
		"no page":        `{"error":"no"}`,
		"not even JSON":  `{`,
		"goes backwards": `{"events":[{"event_id":2},{"event_id":1}],"head":2,"epoch":"0a0a0a0a","next":"2-0a0a0a0a"}`,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLeader(t)
				l.api = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
				f := newFollower(t, l, follow.Config{})
				f.start()
				sleep(time.Hour)
				if l.asked() > 3700 {
					t.Errorf("%d requests in an hour", l.asked())
				}
				if head := f.feed.State().Head; head != 0 {
					t.Errorf("%d events of nothing", head)
				}
			})
		})
	}
}

// What cannot be read is counted and stepped over.
func TestBadEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLeader(t)
		m := l.mails.NextMail()
		l.api = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.RawQuery, "after=3") {
				<-r.Context().Done()
				return
			}
			fmt.Fprintf(w, `{"events":[{"event_id":1,"system_id":30000142,"killmail":7},{"event_id":2,"system_id":%d,"backfill":true,`+
				`"killmail":%s},{"event_id":3,"killmail":{}}],"head":3,"epoch":"0a0a0a0a","more":false,"next":"3-0a0a0a0a"}`,
				m.System, m.AppendJSON(nil))
		})
		f := newFollower(t, l, follow.Config{})
		f.start()
		sleep(time.Second)
		if st := f.in.Status(); st.Bad != 2 || st.Inserted != 1 {
			t.Errorf("status %+v", st)
		}
		if e, err := f.feed.Event(1); err != nil || e.Marks != killfeed.MarkBackfill || e.KillmailID != m.ID {
			t.Errorf("event %+v, %v", e, err)
		}
	})
}

func TestNew(t *testing.T) {
	for _, bad := range []string{"", "leader", "ftp://leader", "http://", "http://x?y=1", "http://x#y", "http://%zz"} {
		if _, err := follow.New(nil, follow.Config{URL: bad}); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
