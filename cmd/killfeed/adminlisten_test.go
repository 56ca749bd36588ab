//go:build unix

package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"killfeed"
	"killfeed/storetest"
	"killfeed/web"
)

// TestAdminListener: profiles, the log's level and how the program was built are on their own address, and on no other.
func TestAdminListener(t *testing.T) {
	s := serveIn(t, t.TempDir(), "--admin-listen", "127.0.0.1:0")
	url := field(t, s.said("the admin listener is open", 1), "url")
	get := func(path string, headers ...string) (int, string) {
		t.Helper()
		return s.ask(http.DefaultClient, "GET", url+path, "", headers...)
	}
	if status, body := get("/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(body, "goroutine profile: total") {
		t.Errorf("the profile is %d %.200s", status, body)
	}
	if status, body := get("/build"); status != 200 || !json.Valid([]byte(body)) || !strings.Contains(body, `"go":"go1.`) {
		t.Errorf("the build is %d %s", status, body)
	}
	for _, path := range []string{"/", "/api/status", "/api/collect", "/debug/vars"} {
		if status, _ := get(path); status != 404 {
			t.Errorf("%s is answered %d", path, status)
		}
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/log-level", "/build"} {
		for _, headers := range [][]string{nil, {"Authorization", "Bearer " + s.secret(tokenFileName)}} {
			if status, _ := s.ask(http.DefaultClient, "GET", "http://"+s.addr+path, "", headers...); status != 404 {
				t.Errorf("%s is answered %d on the public address", path, status)
			}
		}
	}

	put := func(level string, want int) {
		t.Helper()
		if status, body := s.ask(http.DefaultClient, "PUT", url+"/log-level", level); status != want {
			t.Errorf("%q is answered %d %s", level, status, body)
		}
	}
	level := func(want string) {
		t.Helper()
		if status, body := get("/log-level"); status != 200 || body != want+"\n" {
			t.Errorf("the level is %d %q, want %s", status, body, want)
		}
	}
	level("info")
	for _, bad := range []string{"", "loud", "INFO+4", "info\x00", strings.Repeat("x", 100)} {
		put(bad, 400)
	}
	level("info")
	put("debug\n", 200)
	level("debug")
	put("error", 200)
	level("error")

	// Pages in a browser on this machine, whichever way they come.
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-origin"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
		{"Host", "evil.example"}, {"Host", "evil.example:6060"}, {"Host", ""},
	} {
		if headers[0] == "Host" && headers[1] == "" {
			continue // a client of net/http always says one
		}
		if status, _ := get("/debug/pprof/heap", headers...); status != 403 {
			t.Errorf("with %v: %d, want 403", headers, status)
		}
		if status, _ := s.ask(http.DefaultClient, "PUT", url+"/log-level", "info", headers...); status != 403 {
			t.Errorf("with %v the level is changed: %d", headers, status)
		}
	}
	for _, headers := range [][]string{{"Host", "localhost:6060"}, {"Host", "[::1]:6060"}, {"Sec-Fetch-Site", "none"}} {
		if status, _ := get("/build", headers...); status != 200 {
			t.Errorf("with %v: %d, want 200", headers, status)
		}
	}
	level("error")
	put("info", 200)
}

// TestAdminListenerElsewhere: on an address that others reach, everything needs the admin token.
func TestAdminListenerElsewhere(t *testing.T) {
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	api, err := web.New(feed, web.Config{AdminToken: "correct-horse-battery"})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{}
	for _, addr := range []net.IP{net.IPv4zero, net.IPv6unspecified, net.IPv4(192, 0, 2, 1)} {
		h := a.adminHandler(&net.TCPAddr{IP: addr, Port: 6060}, api)
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/log-level", "/build", "/nothing"} {
			for token, want := range map[string]int{"": 401, "Bearer wrong": 403, "Bearer correct-horse-battery": 200} {
				r := httptest.NewRequest("GET", path, nil)
				if token != "" {
					r.Header.Set("Authorization", token)
				}
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if want == 200 && path == "/nothing" {
					want = 404
				}
				if w.Code != want {
					t.Errorf("%s on %v with %q: %d, want %d", path, addr, token, w.Code, want)
				}
			}
		}
	}
}
