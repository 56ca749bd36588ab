package redisq

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"killfeed/tokens"
	"killfeed/web"
	"killfeed/web/doors"
)

// TestTokens: where reading needs a token, a queue does too, a token with a prefix is good for its queues alone, and no cache on the
// way keeps what not everybody may read.
func TestTokens(t *testing.T) {
	s := newServer(t, Options{})
	defer s.close()
	const fleet, all = "kf_fleet", "kf_all"
	api, err := web.New(s.feed, web.Config{ReadTokens: true, Tokens: tokens.NewSet([]tokens.Token{
		{Name: "fleet", Sum: tokens.SumOf(fleet), Scopes: tokens.Read, ClientPrefix: "fleet-"},
		{Name: "all", Sum: tokens.SumOf(all), Scopes: tokens.Read},
	})})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Mount(api, s.feed, Options{}); err != nil {
		t.Fatal(err)
	}
	ask := func(target, token string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		queue, token string
		want         int
	}{
		{"fleet-1", "", 401}, {"fleet-1", "wrong", 403}, {"fleet-1", fleet, 200}, {"other", fleet, 403}, {"redisq:fleet-1", fleet, 403},
		{"other", all, 200},
	} {
		if w := ask("/listen.php?ttw=1&queueID="+c.queue, c.token); w.Code != c.want {
			t.Errorf("%s with %q: %d %s, want %d", c.queue, c.token, w.Code, w.Body, c.want)
		}
	}
	s.mail()
	to := ask("/listen.php?redirect=1&queueID=fleet-1", fleet).Header().Get("Location")
	object := ask(to, fleet)
	if got := object.Header().Get("Cache-Control"); object.Code != 200 || got != "private, max-age=10800" {
		t.Errorf("%s: %d, Cache-Control %q, want private", to, object.Code, got)
	}
	s.read(object)
}

// TestByAddressBehindProxy: a proxy that is trusted does not make one queue of all who come through it.
func TestByAddressBehindProxy(t *testing.T) {
	s := newServer(t, Options{})
	defer s.close()
	api, err := web.New(s.feed, web.Config{Doors: doors.New(doors.Options{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})})
	if err != nil {
		t.Fatal(err)
	}
	d, err := Mount(api, s.feed, Options{ByAddress: true})
	if err != nil {
		t.Fatal(err)
	}
	queue := func(peer, forwarded string) string {
		r := httptest.NewRequest(http.MethodGet, "/listen.php", nil)
		r.RemoteAddr = peer
		r.Header.Set("X-Forwarded-For", forwarded)
		c, err := d.parse(r)
		if err != nil || !strings.HasPrefix(c.client, "redisq:by-address-") {
			t.Fatalf("%q, %v", c.client, err)
		}
		return c.client
	}
	if queue("10.0.0.1:1", "192.0.2.1") == queue("10.0.0.1:1", "192.0.2.2") {
		t.Error("two callers behind a proxy have one queue")
	}
	if queue("10.0.0.1:1", "192.0.2.1") != queue("10.0.0.2:2", "192.0.2.1") {
		t.Error("one caller behind two proxies has two queues")
	}
	if queue("198.51.100.1:1", "192.0.2.1") != queue("198.51.100.1:1", "192.0.2.2") {
		t.Error("a stranger chooses whose queue he reads")
	}
}
