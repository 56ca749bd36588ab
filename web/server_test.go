package web_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"killfeed/web"
)

// listen serves h on a real port until the test ends, and returns the server and its address.
func (s *server) listen(h http.Handler) (*http.Server, string) {
	s.t.Helper()
	srv := web.NewServer(h, slog.New(slog.DiscardHandler))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	s.t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			s.t.Errorf("shutting down: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			s.t.Errorf("serving ended with %v, want ErrServerClosed", err)
		}
	})
	return srv, ln.Addr().String()
}

// TestGate: before the log is open the process lives, and everything else has to come again.
func TestGate(t *testing.T) {
	s := newServer(t)
	var gate web.Gate
	through := func(method, target string) *answer {
		w := httptest.NewRecorder()
		gate.ServeHTTP(w, s.request(method, target, ""))
		return &answer{t: t, what: method + " " + target, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
	}
	if a := through("GET", "/livez").want(200); string(a.body) != `{"status":"ok"}` {
		t.Errorf("livez: %s", a.body)
	}
	through("HEAD", "/livez").want(200)
	for _, target := range []string{"GET /readyz", "GET /api/killfeed?client_id=a&topics=all", "POST /api/killmails", "GET /metrics", "POST /livez", "GET /"} {
		method, path, _ := strings.Cut(target, " ")
		a := through(method, path)
		p := a.problem(503)
		if a.header.Get("Retry-After") != "1" || !strings.Contains(p.Detail, "the log is being opened") {
			t.Errorf("%s: Retry-After %q, detail %q; want 1 and why", target, a.header.Get("Retry-After"), p.Detail)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: pages of other sites cannot read why", target)
		}
	}
	gate.Open(s.api)
	for _, target := range []string{"/livez", "/readyz", "/api/killfeed?client_id=a&topics=all"} {
		through("GET", target).want(200)
	}
}

// TestServerTakesNamesAsTheyAre on a real connection: whatever is in a client's name arrives.
func TestServerTakesNamesAsTheyAre(t *testing.T) {
	s := newServer(t)
	_, addr := s.listen(s.api)
	for path, name := range map[string]string{
		"a%2Fb": "a/b", "%2e%2e": "..", ".": ".", "%2F": "/", "a%252Fb": "a%2Fb", "x%3Fy%23z": "x?y#z", "%C3%A9": "é", "a+b": "a+b",
	} {
		res, err := http.Post("http://"+addr+"/api/clients/"+path+"/seek", "application/json", strings.NewReader(`{"to":"latest"}`))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprintf(`{"client_id":%q,`, name); res.StatusCode != 200 || !strings.HasPrefix(string(body), want) {
			t.Errorf("%s: status %d, %s; want %s", path, res.StatusCode, body, want)
		}
	}
}

// TestHeaderLimit: a thousand systems fit, a flood does not.
func TestHeaderLimit(t *testing.T) {
	s := newServer(t)
	_, addr := s.listen(s.api)
	for n, status := range map[int]int{60 << 10: 200, 128 << 10: 431} {
		query := "client_id=a&topics=all&x=" + strings.Repeat("x", n)
		res, err := http.Get("http://" + addr + "/api/killfeed?" + query)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != status {
			t.Errorf("a query of %d bytes: status %d, want %d", len(query), res.StatusCode, status)
		}
	}
}
