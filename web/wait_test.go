package web_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// later sends a request and returns its answer when there is one. It is for synctest: the request runs beside the test.
func (s *server) later(r *http.Request) <-chan *answer {
	done := make(chan *answer, 1)
	go func() {
		w := httptest.NewRecorder()
		s.api.ServeHTTP(w, r)
		done <- &answer{t: s.t, what: r.Method + " " + r.URL.String(), status: w.Code, header: w.Result().Header, body: w.Body.Bytes()}
	}()
	return done
}

// TestLongPollEndsWithAnEvent: it waits as long as there is nothing that was asked for, and no longer.
func TestLongPollEndsWithAnEvent(t *testing.T) {
	for _, target := range []string{
		"/api/killfeed?client_id=a&systems=30000142&wait=30",
		"/api/killfeed/next?client_id=a&systems=30000142&wait=30",
		"/api/killfeed?after=0&systems=30000142&wait=30",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer(t)
			begun := time.Now()
			done := s.later(s.request("GET", target, ""))
			time.Sleep(10 * time.Second)
			s.insert(hek)
			synctest.Wait()
			select {
			case a := <-done:
				t.Fatalf("%s: ended with %d before there was anything: %s", target, a.status, a.body)
			default:
			}
			time.Sleep(2500 * time.Millisecond)
			s.insert(jita)
			a := <-done
			if took := time.Since(begun); took != 12500*time.Millisecond {
				t.Errorf("%s: ended after %v, want 12.5s, with the event", target, took)
			}
			if a.want(200); !strings.Contains(string(a.body), `{"event_id":2,"system_id":30000142,`) {
				t.Errorf("%s: got %s, want event 2", target, a.body)
			}
		})
	}
}

// TestLongPollEndsInTime: nothing came.
func TestLongPollEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		for _, c := range []struct {
			target string
			status int
			after  time.Duration
		}{
			{"/api/killfeed?client_id=a&systems=30000142&wait=60", 200, time.Minute},
			{"/api/killfeed?client_id=a&systems=30000142&wait=0.25", 200, 250 * time.Millisecond},
			{"/api/killfeed/next?client_id=a&systems=30000142&wait=1.5", 204, 1500 * time.Millisecond},
			{"/api/killfeed?after=0&systems=30000142&wait=2", 200, 2 * time.Second},
			{"/api/killfeed/next?client_id=a&systems=30000142", 204, 0},
		} {
			begun := time.Now()
			s.get(c.target).want(c.status)
			if took := time.Since(begun); took != c.after {
				t.Errorf("%s: took %v, want %v", c.target, took, c.after)
			}
		}
		// HEAD does not wait.
		begun := time.Now()
		s.do("HEAD", "/api/killfeed?client_id=a&systems=30000142&wait=60", "").want(200)
		if took := time.Since(begun); took != 0 {
			t.Errorf("HEAD with wait took %v", took)
		}
	})
}

// TestCallerWhoLeft gets nothing, and nothing is committed for him.
func TestCallerWhoLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		ctx, leave := context.WithCancel(t.Context())
		done := s.later(s.request("GET", "/api/killfeed?client_id=a&systems=30000142&wait=30", "").WithContext(ctx))
		time.Sleep(time.Second)
		synctest.Wait()
		leave()
		a := <-done
		if len(a.body) != 0 || a.header.Get("Content-Type") != "" {
			t.Errorf("someone who left was sent %s", a.body)
		}
		s.insert(jita)
		gone := s.request("GET", "/api/killfeed?client_id=a&systems=30000142", "").WithContext(ctx)
		if a := <-s.later(gone); len(a.body) != 0 {
			t.Errorf("someone who left was sent %s", a.body)
		}
		if p := s.get("/api/killfeed?client_id=a&systems=30000142").poll(); len(p.Events) != 1 {
			t.Errorf("after that there are %d events, want 1: it was committed for someone who left", len(p.Events))
		}
		metrics := string(s.get("/metrics").want(200).body)
		if want := `killfeed_http_requests_total{code="499",route="GET /api/killfeed"} 2`; !strings.Contains(metrics, want) {
			t.Errorf("metrics have no %s", want)
		}
		if strings.Contains(s.log.String(), "level=") {
			t.Errorf("that someone left was logged: %s", s.log)
		}
	})
}

// TestShutdownEndsLongPolls on a real connection: at once, with a 503 that says when to come again.
func TestShutdownEndsLongPolls(t *testing.T) {
	s := newServer(t)
	srv, addr := s.listen(s.api)
	type outcome struct {
		res *http.Response
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		res, err := http.Get("http://" + addr + "/api/killfeed?client_id=a&topics=all&wait=60")
		done <- outcome{res, err}
	}()
	for s.feed.Stats().Waiting == 0 {
		select {
		case o := <-done:
			t.Fatalf("it did not wait: %+v", o)
		case <-time.After(time.Millisecond):
		}
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := <-done
	if o.err != nil {
		t.Fatal(o.err)
	}
	defer o.res.Body.Close()
	body, _ := io.ReadAll(o.res.Body)
	if o.res.StatusCode != 503 || o.res.Header.Get("Retry-After") != "1" || !strings.Contains(string(body), "shutting down") {
		t.Errorf("status %d, Retry-After %q, %s; want 503, 1, and why", o.res.StatusCode, o.res.Header.Get("Retry-After"), body)
	}
	if p := s.get("/api/killfeed?client_id=a&topics=all").poll(); len(p.Events) != 0 {
		t.Errorf("events %v", p.ids())
	}
}
