package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestContact(t *testing.T) {
	for contact, good := range map[string]bool{
		"": false, "me": false, "me@": false, "@x": false, "me@example.com": true, "https://example.com/me": true,
		"https://": false, "ftp://example.com": false, "me@example.com (x)": false, "a@b\r\nX: y": false,
		strings.Repeat("a", 200) + "@example.com": false,
	} {
		if err := CheckContact(contact); (err == nil) != good {
			t.Errorf("contact %q: %v", contact, err)
		}
	}
	if _, err := New(Config{Version: "1"}); err == nil {
		t.Error("a Client without a contact")
	}
}

// roundTrip is a network of one function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func client(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	c, err := New(Config{Version: "1.2", Contact: "me@example.com", Project: "https://example.com/p", Transport: roundTrip(
		func(r *http.Request) (*http.Response, error) {
			rec := httptest.NewRecorder()
			h(rec, r)
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			res := rec.Result()
			res.Request = r
			return res, nil
		})})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func packed(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.Bytes()
}

func TestClasses(t *testing.T) {
	date := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		class  error
		wait   time.Duration
	}{
		"good":         {status: 200, body: ` {"a":1}`},
		"packed":       {status: 200, body: string(packed("[]")), header: map[string]string{"Content-Encoding": "gzip"}},
		"packed badly": {status: 200, body: "[]", header: map[string]string{"Content-Encoding": "gzip"}, class: ErrNetwork},
		"packed bomb": {status: 200, body: string(packed(strings.Repeat(" ", 1<<20))), header: map[string]string{
			"Content-Encoding": "gzip"}, class: ErrTooLarge},
		"cut":         {status: 200, body: string(packed(`{"a":1}`)[:20]), header: map[string]string{"Content-Encoding": "gzip"}, class: ErrNetwork},
		"html":        {status: 200, body: "\n<!DOCTYPE html>", class: ErrNotJSON},
		"empty":       {status: 200, class: ErrNotJSON},
		"large":       {status: 200, body: strings.Repeat("1", 101), class: ErrTooLarge},
		"not found":   {status: 404, body: "<html>", class: ErrNotFound},
		"gone":        {status: 410, class: ErrNotFound},
		"forbidden":   {status: 403, class: ErrForbidden},
		"too many":    {status: 429, class: ErrTooMany},
		"seconds":     {status: 429, header: map[string]string{"Retry-After": " 30 "}, class: ErrTooMany, wait: 30 * time.Second},
		"error limit": {status: 420, header: map[string]string{"Retry-After": "7"}, class: ErrTooMany, wait: 7 * time.Second},
		"date": {status: 503, class: ErrServer, wait: 90 * time.Second, header: map[string]string{
			"Retry-After": date.Add(90 * time.Second).Format(http.TimeFormat), "Date": date.Format(http.TimeFormat)}},
		"for ever": {status: 429, header: map[string]string{"Retry-After": "1e300"}, class: ErrTooMany, wait: time.Hour},
		"nonsense": {status: 429, header: map[string]string{"Retry-After": "-1"}, class: ErrTooMany},
		"server":   {status: 502, class: ErrServer},
		"redirect": {status: 304, class: ErrStatus},
	} {
		t.Run(name, func(t *testing.T) {
			cl := client(t, func(w http.ResponseWriter, r *http.Request) {
				if ua := r.Header.Get("User-Agent"); ua != "killfeed/1.2 (me@example.com; +https://example.com/p)" {
					t.Errorf("User-Agent %q", ua)
				}
				for k, v := range c.header {
					w.Header().Set(k, v)
				}
				w.WriteHeader(c.status)
				io.WriteString(w, c.body)
			})
			ans, err := cl.Get(t.Context(), "http://x/y?secret=1", 100)
			if !errors.Is(err, c.class) || (err == nil) != (c.class == nil) {
				t.Fatalf("got %v, want %v", err, c.class)
			}
			if RetryAfter(err) != c.wait {
				t.Errorf("retry after %v, want %v", RetryAfter(err), c.wait)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error tells the query: %v", err)
			}
			if err == nil && len(ans.Body) == 0 {
				t.Error("no body")
			}
		})
	}
}

func TestPost(t *testing.T) {
	c := client(t, func(w http.ResponseWriter, r *http.Request) {
		question, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" || r.Header.Get("User-Agent") == "" {
			t.Errorf("%s with %v: %v", r.Method, r.Header, err)
		}
		if string(question) == "[0]" {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Write(question)
	})
	if a, err := c.Post(t.Context(), "http://x/names", []byte("[1,2]"), 5); err != nil || string(a.Body) != "[1,2]" {
		t.Errorf("%v, %v", a, err)
	}
	if _, err := c.Post(t.Context(), "http://x/names", []byte("[1,2]"), 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v, want ErrTooLarge", err)
	}
	_, err := c.Post(t.Context(), "http://x/names", []byte("[0]"), 5)
	if e, ok := errors.AsType[*Error](err); !ok || e.Class != ErrNotFound || string(e.Body) != "[0]" {
		t.Errorf("%v, want ErrNotFound", err)
	}
}

func TestNetworkErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := client(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		begun := time.Now()
		if _, err := hang.Get(t.Context(), "http://x/", 1); !errors.Is(err, ErrNetwork) || time.Since(begun) != DefaultTimeout {
			t.Errorf("a hang: %v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := errors.New("stop")
		time.AfterFunc(time.Second, func() { cancel(stop) })
		if _, err := hang.Get(ctx, "http://x/", 1); err != stop {
			t.Errorf("a cancelled request: %v", err)
		}
		if _, _, err := hang.Open(t.Context(), "http://x/", 1); !errors.Is(err, ErrNetwork) {
			t.Errorf("a hang: %v", err)
		}
	})
}

// slow is a body that brings a byte in so long, and hangs after three.
type slow struct {
	ctx   context.Context
	pause time.Duration
	n     int
}

func (s *slow) Read(p []byte) (int, error) {
	if s.n++; s.n > 3 {
		<-s.ctx.Done()
		return 0, s.ctx.Err()
	}
	if err := Sleep(s.ctx, s.pause); err != nil {
		return 0, err
	}
	p[0] = 'x'
	return 1, nil
}

func (s *slow) Close() error { return nil }

// TestOpen: a large body may take long, but not stand still.
func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Config{Version: "1", Contact: "a@b", Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: &slow{ctx: r.Context(), pause: DefaultTimeout - time.Second}, Request: r}, nil
		})})
		if err != nil {
			t.Fatal(err)
		}
		for limit, class := range map[int64]error{1000: ErrNetwork, 1: ErrTooLarge} {
			s, _, err := c.Open(t.Context(), "http://x/", limit)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // the caller may take its time
			data, err := io.ReadAll(s)
			if !errors.Is(err, class) || len(data) == 0 {
				t.Errorf("limit %d: %q, %v", limit, data, err)
			}
			if class == ErrNetwork && string(data) != "xxx" {
				t.Errorf("got %q before the stall", data)
			}
			s.Close()
		}
	})
}

// TestRate: many goroutines together keep the rate, and a pause.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		c := client(t, func(w http.ResponseWriter, r *http.Request) { n.Add(1); io.WriteString(w, "1") })
		for range 100 {
			go c.Get(t.Context(), "http://x/", 10)
		}
		time.Sleep(5 * time.Second)
		if got := n.Load(); got < 38 || got > 50 { // 40 at the default rate, and never more than the 50 that are allowed
			t.Errorf("%d requests in 5 s", got)
		}
		c.Pause(time.Minute)
		time.Sleep(time.Second)
		at := n.Load()
		time.Sleep(58 * time.Second)
		if n.Load() > at {
			t.Errorf("%d requests in a pause", n.Load()-at)
		}
		time.Sleep(20 * time.Second)
	})
}

func TestBackoff(t *testing.T) {
	var b Backoff
	want := time.Second
	for i := range 20 {
		got := b.Next(0)
		if got < want || got > want+want/5+1 {
			t.Errorf("wait %d is %v, want about %v", i, got, want)
		}
		want = min(2*want, DefaultMost)
	}
	if got := b.Next(time.Hour); got < time.Hour || got > 75*time.Minute {
		t.Errorf("asked for an hour: %v", got)
	}
	b.Reset()
	if got := b.Next(0); got > 2*time.Second {
		t.Errorf("after reset: %v", got)
	}
	if got := b.Next(time.Millisecond); got < time.Second {
		t.Errorf("asked for less than the least: %v", got)
	}
}
