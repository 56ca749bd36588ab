package standin_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
)

// mustPublish publishes the next killmail.
func (s *site) mustPublish() {
	s.t.Helper()
	if s.Publish(1) != 1 {
		s.t.Fatal("there is none left to publish")
	}
}

func TestRedisQ(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mails := append(recent(1), mail1(), mail1())
		s := open(t, standin.Config{Mails: mails, Pace: standin.Pace{Hold: true}})
		const null = `{"package":null}`
		pack := `{"package":{"killID":134435757,"killmail":` + compact1() + `,"zkb":` + zkb1 + `}}`
		s.mustPublish() // nobody listens: it is lost to RedisQ
		begun := time.Now()
		r := s.wantBody(null, "/listen.php?queueID=a&ttw=3&&x=y")
		if d := time.Since(begun); d != 3*time.Second {
			t.Errorf("an empty poll took %v, want 3s", d)
		}
		if r.header.Get("Access-Control-Allow-Origin") != "*" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("header %v", r.header)
		}
		s.mustPublish()
		s.wantBody(pack, "/listen.php?queueID=+a+")
		s.wantBody(null, "/listen.php?queueID=a&ttw=1")
		s.wantBody(null, "/listen.php?queueID=b&ttw=1")

		// A poll that waits gets the killmail at once.
		var wg sync.WaitGroup
		wg.Go(func() {
			begun := time.Now()
			s.wantBody(pack, "/listen.php?queueID=a")
			if d := time.Since(begun); d != 2*time.Second {
				t.Errorf("the killmail came after %v, want 2s", d)
			}
		})
		time.Sleep(time.Second)
		s.want(http.StatusTooManyRequests, "/listen.php?queueID=a") // one at a time
		time.Sleep(time.Second)
		s.mustPublish()
		wg.Wait()
		s.wantBody(pack, "/listen.php?queueID=b")

		for ttw, want := range map[string]time.Duration{"": 10, "0": 1, "-5": 1, "99": 10, "x": 10, "4": 4} {
			begun := time.Now()
			s.wantBody(null, "/listen.php?queueID=a&ttw="+ttw)
			if d := time.Since(begun); d != want*time.Second {
				t.Errorf("ttw=%s waits %v, want %d s", ttw, d, want)
			}
		}
		for _, query := range []string{"", "?ttw=5", "?queueID=", "?queueID=+"} {
			if r := s.want(http.StatusTooManyRequests, "/listen.php"+query); r.body != "" {
				t.Errorf("%q: body %q", query, r.body)
			}
		}
		s.want(http.StatusBadRequest, "/listen.php?queueID=a&filter=x%3D1")
	})
}

func TestRedisQRedirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{
			Mails: []standin.Mail{mail1()}, Pace: standin.Pace{Hold: true},
			RedisQ: standin.RedisQConfig{Redirect: true, NoKillmail: true},
		})
		r := s.want(http.StatusFound, "/listen.php?queueID=a&ttw=1")
		if to := r.header.Get("Location"); to != "/object.php?objectID=null" {
			t.Errorf("nothing new: to %s", to)
		}
		s.wantBody(`{"package":null}`, r.header.Get("Location"))
		s.mustPublish()
		to := s.want(http.StatusFound, "/listen.php?queueID=a").header.Get("Location")
		s.wantBody(`{"package":{"killID":134435757,"zkb":`+zkb1+`}}`, to)
		s.wantBody(`{"package":{"killID":134435757,"zkb":`+zkb1+`}}`, to) // it can be had again
		for _, id := range []string{"", "?objectID=", "?objectID=1", "?objectID=xyz", "?objectID=" + fmt.Sprintf("%024x", first+1)} {
			s.want(http.StatusNotFound, "/object.php"+id)
		}
		time.Sleep(3 * time.Hour)
		s.want(http.StatusNotFound, to)
	})
}

func TestRedisQForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: recent(4), Pace: standin.Pace{Hold: true}})
		s.wantBody(`{"package":null}`, "/listen.php?queueID=short&ttw=1&ttl=60")
		s.wantBody(`{"package":null}`, "/listen.php?queueID=long&ttw=1")
		s.Publish(2)
		time.Sleep(time.Minute)
		if r := s.get("/listen.php?queueID=long&ttw=1"); r.body == `{"package":null}` {
			t.Error("a queue forgot within 3 h")
		}
		s.wantBody(`{"package":null}`, "/listen.php?queueID=short&ttw=1&ttl=60")
	})
}

// A client that has left gets nothing, and nothing is taken from its queue.
func TestRedisQClientLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, standin.Config{Mails: []standin.Mail{mail1()}, Pace: standin.Pace{Hold: true}})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if r := s.try(ctx, http.MethodGet, "/listen.php?queueID=a"); !errors.Is(r.err, context.DeadlineExceeded) {
			t.Fatalf("%+v", r)
		}
		synctest.Wait()
		s.mustPublish()
		if r := s.get("/listen.php?queueID=a"); len(r.body) < 100 {
			t.Errorf("the killmail is lost: %s", r.body)
		}
		if n := s.Stats().Requests[standin.KindListen]; n[0] != 1 || n[200] != 1 {
			t.Errorf("requests %v, want one without and one with an answer", n)
		}
	})
}
