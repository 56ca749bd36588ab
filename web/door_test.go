package web_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/tokens"
	"killfeed/web/doors"
)

// The texts of the tests' tokens.
const (
	readText    = "kf_read_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	publishText = "kf_publish_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	bossText    = "kf_boss_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	fleetText   = "kf_fleet_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	overText    = "kf_over_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// testTokens are tokens of all kinds.
func testTokens() []tokens.Token {
	return []tokens.Token{
		{Name: "read", Sum: tokens.SumOf(readText), Scopes: tokens.Read},
		{Name: "publish", Sum: tokens.SumOf(publishText), Scopes: tokens.Publish},
		{Name: "boss", Sum: tokens.SumOf(bossText), Scopes: tokens.Admin},
		{Name: "fleet", Sum: tokens.SumOf(fleetText), Scopes: tokens.Read, ClientPrefix: "fleet-"},
		{Name: "over", Sum: tokens.SumOf(overText), Scopes: tokens.Admin, Expires: time.Now().Add(-time.Second)},
	}
}

func withTokens(all ...tokens.Token) func(*serverOptions) {
	return func(o *serverOptions) { o.config.Tokens = tokens.NewSet(all) }
}

func closedReading(o *serverOptions) { o.config.ReadTokens = true }

// refusals is how many requests were refused for a reason.
func (s *server) refusals(reason string) int {
	s.t.Helper()
	w := httptest.NewRecorder()
	r := s.request("GET", "/metrics", "", "Authorization", "Bearer "+adminToken)
	r.RemoteAddr = "127.0.0.1:1" // which is never bounded
	s.api.ServeHTTP(w, r)
	for line := range strings.Lines(w.Body.String()) {
		if rest, ok := strings.CutPrefix(line, fmt.Sprintf("killfeed_http_refused_total{reason=%q} ", reason)); ok {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				s.t.Fatal(err)
			}
			return n
		}
	}
	s.t.Fatalf("no metric counts %q", reason)
	return 0
}

// TestScopes goes through all there is, with every kind of token, where reading is open and where it is not: who may not is told
// so before anything else, and who may is not.
func TestScopes(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	always := map[string]bool{"/livez": true, "/readyz": true, "/api/openapi.json": true}
	holders := []struct {
		name, text string
		scopes     tokens.Scopes
		known      bool
	}{
		{"nobody", "", 0, false},
		{"a stranger", "kf_wrong", 0, false},
		{"one that has expired", overText, 0, false},
		{"read", readText, tokens.Read, true},
		{"publish", publishText, tokens.Publish, true},
		{"another admin", bossText, tokens.Admin, true},
		{"the admin token", adminToken, tokens.Admin, true},
	}
	for _, readTokens := range []bool{false, true} {
		s := newServer(t, withTokens(testTokens()...), func(o *serverOptions) { o.config.ReadTokens = readTokens })
		for path, item := range doc.Paths.Map() {
			if strings.HasPrefix(path, "/socket/") {
				continue // see TestSocketTokens
			}
			for method, op := range item.Operations() {
				needs := tokens.Scopes(0)
				switch {
				case op.Security != nil && method+path == "POST/api/killmails":
					needs = tokens.Publish
				case op.Security != nil:
					needs = tokens.Admin
				case readTokens && !always[path]:
					needs = tokens.Read
				}
				for _, h := range holders {
					var headers []string
					if h.text != "" {
						headers = []string{"Authorization", "Bearer " + h.text}
					}
					want := 0
					switch {
					case needs == 0:
					case h.text == "":
						want = 401
					case !h.known || !h.scopes.Has(needs):
						want = 403
					}
					a := s.do(method, strings.ReplaceAll(path, "{id}", "someone"), "", headers...)
					got := a.status
					if got != 401 && got != 403 {
						got = 0
					}
					if got != want {
						t.Errorf("reading needs tokens: %v; %s %s by %s: %d, want %d", readTokens, method, path, h.name, a.status, want)
					}
					if (a.header.Get("WWW-Authenticate") != "") != (got == 401) {
						t.Errorf("%s %s by %s: WWW-Authenticate %q", method, path, h.name, a.header.Get("WWW-Authenticate"))
					}
					if strings.Contains(string(a.body), "kf_") {
						t.Errorf("%s %s tells a token: %s", method, path, a.body)
					}
				}
			}
		}
		for _, reason := range []string{"no_token", "wrong_token", "scope"} {
			if s.refusals(reason) == 0 {
				t.Errorf("%s is not counted", reason)
			}
		}
	}
}

// TestClientPrefix: a token with a prefix is good for its clients alone, whichever way they are named.
func TestClientPrefix(t *testing.T) {
	s := newServer(t, withTokens(testTokens()...), closedReading)
	s.insert(jita)
	ways := []struct{ method, target, body string }{
		{"GET", "/api/killfeed?topics=all&client_id=CLIENT", ""},
		{"HEAD", "/api/killfeed?topics=all&client_id=CLIENT", ""},
		{"POST", "/api/killfeed", `{"topics":["all"],"client_id":"CLIENT"}`},
		{"GET", "/api/killfeed/next?topics=all&client_id=CLIENT", ""},
		{"POST", "/api/killfeed/next", `{"topics":["all"],"client_id":"CLIENT"}`},
		{"POST", "/api/killfeed/commit", `{"client_id":"CLIENT","offsets":{"all":0}}`},
		{"POST", "/api/clients/CLIENT/seek", `{"to":"latest"}`},
		{"GET", "/api/clients/CLIENT", ""},
		{"HEAD", "/api/killfeed/stream?topics=all&client_id=CLIENT", ""},
	}
	for _, w := range ways {
		ask := func(client, token string) *answer {
			t.Helper()
			fill := strings.NewReplacer("CLIENT", client).Replace
			return s.do(w.method, fill(w.target), fill(w.body), "Authorization", "Bearer "+token)
		}
		for _, client := range []string{"fleet", "Fleet-1", "other", "x-fleet-1", "webhook:fleet-", "redisq:fleet-1"} {
			a := ask(client, fleetText)
			if a.status != 403 {
				t.Errorf("%s %s as %s: %d, want 403", w.method, w.target, client, a.status)
				continue
			}
			if w.method == "HEAD" {
				continue
			}
			if p := a.problem(403); p.Parameter != "client_id" || p.Value != client {
				t.Errorf("%s %s as %s: %+v", w.method, w.target, client, p)
			}
		}
		for _, client := range []string{"fleet-", "fleet-1"} {
			if a := ask(client, fleetText); a.status >= 300 && a.status != 404 {
				t.Errorf("%s %s as %s: %d %s", w.method, w.target, client, a.status, a.body)
			}
		}
		if a := ask("other", readText); a.status >= 300 && a.status != 404 {
			t.Errorf("%s %s without a prefix: %d %s", w.method, w.target, a.status, a.body)
		}
	}
	s.do("GET", "/api/killfeed?after=0&topics=all", "", "Authorization", "Bearer "+fleetText).poll() // as nobody
	if s.refusals("client") == 0 {
		t.Error("refusals are not counted")
	}
}

// TestReservedClients: the server's own clients are moved by nobody but the server and the admin, and looking harms nobody.
func TestReservedClients(t *testing.T) {
	for _, readTokens := range []bool{false, true} {
		s := newServer(t, withTokens(testTokens()...), func(o *serverOptions) { o.config.ReadTokens = readTokens })
		s.insert(jita)
		for _, client := range []string{"webhook:losses", "redisq:bot", "webhook:", "redisq:"} {
			s.admin("POST", "/api/clients/"+client+"/seek", `{"to":"earliest","topics":["all"]}`).want(200)
			before := string(s.admin("GET", "/api/clients/"+client, "").want(200).body)
			for _, c := range []struct{ method, target, body string }{
				{"GET", "/api/killfeed?topics=all&client_id=" + client, ""},
				{"GET", "/api/killfeed?topics=all&commit=manual&client_id=" + client, ""},
				{"POST", "/api/killfeed/next", `{"topics":["all"],"client_id":"` + client + `"}`},
				{"POST", "/api/killfeed/commit", `{"client_id":"` + client + `","offsets":{"all":1}}`},
				{"POST", "/api/clients/" + client + "/seek", `{"to":"latest"}`},
				{"GET", "/api/killfeed/stream?topics=all&client_id=" + client, ""},
				{"DELETE", "/api/clients/" + client, ""},
			} {
				s.do(c.method, c.target, c.body).problem(401)
				s.do(c.method, c.target, c.body, "Authorization", "Bearer "+readText).problem(403)
			}
			show := s.do("GET", "/api/clients/"+client, "", "Authorization", "Bearer "+readText).want(200)
			offsets := func(body string) string { text, _, _ := strings.Cut(body, `"last_seen"`); return text }
			if offsets(string(show.body)) != offsets(before) {
				t.Errorf("%s was moved: %s, then %s", client, before, show.body)
			}
			s.admin("GET", "/api/killfeed?topics=all&client_id="+client, "").want(200)
			s.admin("DELETE", "/api/clients/"+client, "").want(204)
		}
		for _, client := range []string{"webhook", "Webhook:losses", "my-redisq:bot"} { // which are like others
			s.do("GET", "/api/killfeed?topics=all&client_id="+client, "", "Authorization", "Bearer "+readText).want(200)
		}
	}
}

// TestTokenRate: a token is used as often as it may, and is told when again; a change of others is no fresh start, and neither
// is another text.
func TestTokenRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rated := tokens.Token{Name: "rated", Sum: tokens.SumOf(readText), Scopes: tokens.Read, Rate: 0.5}
		s := newServer(t, withTokens(rated))
		text := readText
		ask := func() *answer {
			t.Helper()
			return s.do("GET", "/api/killfeed?after=0&topics=all", "", "Authorization", "Bearer "+text)
		}
		for range 3 { // five seconds' worth
			ask().want(200)
		}
		a := ask()
		if a.problem(429); a.header.Get("Retry-After") != "2" {
			t.Errorf("Retry-After %q, want 2", a.header.Get("Retry-After"))
		}
		s.get("/api/killfeed?after=0&topics=all").want(200) // without it
		text = publishText
		rotated := rated
		rotated.Sum = tokens.SumOf(text)
		s.api.SetTokens(tokens.NewSet([]tokens.Token{rotated, {Name: "new", Sum: tokens.SumOf("new"), Scopes: tokens.Read}}))
		ask().problem(429)
		time.Sleep(2 * time.Second)
		ask().want(200)
		ask().problem(429)
		rotated.Rate = 100
		s.api.SetTokens(tokens.NewSet([]tokens.Token{rotated}))
		ask().want(200)
		if n := s.refusals("token_rate"); n != 3 {
			t.Errorf("%d were counted, want 3", n)
		}
	})
}

// TestTokenInURL: a token in an address is refused and said to be known by others now, whoever asks for what.
func TestTokenInURL(t *testing.T) {
	long := "kf_" + base64.RawURLEncoding.EncodeToString(make([]byte, 32))
	s := newServer(t, withTokens(testTokens()...))
	for _, query := range []string{
		"access_token=x", "auth_token=x", "admin_token=x", "token=" + adminToken, "token=" + readText, "token=" + long,
		"a=b&token=" + adminToken, "my_token=" + adminToken, "token=" + strings.ReplaceAll(adminToken, "-", "%2D"),
	} {
		for _, target := range []string{"GET /api/killfeed?after=0&topics=all&", "POST /api/collect?", "GET /api/status?", "GET /nothing?"} {
			method, path, _ := strings.Cut(target, " ")
			for _, headers := range [][]string{nil, {"Authorization", "Bearer " + adminToken}} {
				r := s.request(method, path+query, "", headers...)
				w := httptest.NewRecorder()
				s.api.ServeHTTP(w, r)
				a := &answer{t: t, what: target + query, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
				p := a.problem(400)
				if !strings.Contains(p.Detail, "Authorization: Bearer") || strings.Contains(string(a.body), "horse") || strings.Contains(string(a.body), "kf_") {
					t.Errorf("%s%s: %s", target, query, a.body)
				}
			}
		}
	}
	// What nobody knows is passed over, as all that nobody knows.
	for _, query := range []string{"token=", "token=page2", "token=kf_", "tokens=1", "token=%zz"} {
		if query == "token=%zz" {
			s.get("/api/killfeed?after=0&topics=all&" + query).problem(400) // for another reason
			continue
		}
		s.get("/api/killfeed?after=0&topics=all&" + query).want(200)
	}
	if n := s.refusals("token_in_url"); n != 9*4*2 {
		t.Errorf("%d were counted, want %d", n, 9*4*2)
	}
	if log := s.log.String(); strings.Contains(log, "horse") || strings.Contains(log, "kf_") {
		t.Errorf("a token is in the log: %s", log)
	}
}

// TestAddressRate: an address that asks too often is told when again, in a way that its client understands, and others and health
// are answered.
func TestAddressRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := doors.New(doors.Options{Rate: 2, Burst: 3, Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		s := newServer(t, func(o *serverOptions) { o.config.Doors = d })
		ask := func(peer, target string, headers ...string) *answer {
			t.Helper()
			r := s.request("GET", target, "", headers...)
			r.RemoteAddr = peer
			return s.send(r)
		}
		const poll = "/api/killfeed?after=0&topics=all"
		for range 3 {
			ask("192.0.2.1:1", poll).want(200)
		}
		a := ask("192.0.2.1:2", poll)
		a.problem(429)
		if a.header.Get("Retry-After") != "1" || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("the headers are %v", a.header)
		}
		ask("192.0.2.1:1", poll, "Authorization", "Bearer "+adminToken).problem(429)
		ask("192.0.2.1:1", poll, "X-Forwarded-For", "192.0.2.7").problem(429)
		ask("192.0.2.1:1", "/livez").want(200)
		ask("192.0.2.1:1", "/readyz").want(200)
		later := ask("192.0.2.1:1", "/socket/longpoll?vsn=2.0.0").want(429)
		if string(later.body) != `{"status":500}` || later.header.Get("Retry-After") != "1" {
			t.Errorf("a long poll is answered %s with %v", later.body, later.header)
		}
		ask("192.0.2.2:1", poll).want(200)
		for range 20 {
			ask("127.0.0.1:1", poll).want(200)
		}
		for range 3 {
			ask("10.0.0.1:1", poll, "X-Forwarded-For", "192.0.2.3").want(200)
		}
		ask("10.0.0.2:1", poll, "X-Forwarded-For", "192.0.2.3").problem(429)
		ask("10.0.0.2:1", poll, "X-Forwarded-For", "192.0.2.4").want(200)
		time.Sleep(500 * time.Millisecond)
		ask("192.0.2.1:1", poll).want(200)
		ask("192.0.2.1:1", poll).problem(429)
		if n := s.refusals("address_rate"); n != 6 {
			t.Errorf("%d were counted, want 6", n)
		}
	})
}

// TestAddressConnections: one address has as many streams and sockets as it may, and gets back what it gives back. Those of this
// machine are not counted, so that the address has to come from a proxy here.
func TestAddressConnections(t *testing.T) {
	d := doors.New(doors.Options{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s := newServer(t, func(o *serverOptions) { o.config.Doors, o.config.AddressConnections = d, 2 })
	here := s.online()
	from := func(addr string) dialing {
		d := here
		d.header = http.Header{"X-Forwarded-For": {addr}}
		return d
	}
	first := s.dial(from("192.0.2.1"), "vsn=2.0.0")
	s.dial(from("192.0.2.1"), "vsn=2.0.0")
	_, res, err := s.tryDial(from("192.0.2.1"), "vsn=2.0.0")
	if err == nil || res.StatusCode != 429 || res.Header.Get("Retry-After") == "" {
		t.Fatalf("the third is answered %v, %v", res, err)
	}
	r, err := http.NewRequest("GET", "http://"+here.host+"/api/killfeed/stream?topics=all", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", "192.0.2.1")
	stream, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	stream.Body.Close()
	if stream.StatusCode != 429 {
		t.Errorf("a stream is answered %d, want 429", stream.StatusCode)
	}
	s.dial(from("192.0.2.2"), "vsn=2.0.0")
	for range 5 {
		s.dial(here, "vsn=2.0.0") // a proxy that forwards for nobody is on this machine
	}
	first.conn.CloseNow()
	s.until("its place is free", func() bool {
		w, _, err := s.tryDial(from("192.0.2.1"), "vsn=2.0.0")
		if err != nil {
			return false
		}
		w.conn.CloseNow()
		return true
	})
}

// subprotocol is how clients of Phoenix send a token.
func subprotocol(text string) []string {
	return []string{"phoenix", "base64url.bearer.phx." + base64.RawURLEncoding.EncodeToString([]byte(text))}
}

// TestSocketTokens: where reading needs a token, so do sockets, whichever way it comes; and what it is bound to holds for channels.
func TestSocketTokens(t *testing.T) {
	s := newServer(t, withTokens(testTokens()...), closedReading)
	d := s.online()
	for _, text := range []string{"wrong", publishText, overText} {
		s.isForbidden(d, "vsn=2.0.0", subprotocol(text)...)
		d := d
		d.header = http.Header{"Authorization": {"Bearer " + text}}
		s.isForbidden(d, "vsn=2.0.0")
		if a := s.do("GET", "/socket/longpoll?vsn=2.0.0", "", "X-Phoenix-AuthToken", text).want(200); string(a.body) != `{"status":403}` {
			t.Errorf("a long poll is answered %s", a.body)
		}
	}
	s.isForbidden(d, "vsn=2.0.0")
	if a := s.get("/socket/longpoll?vsn=2.0.0").want(200); string(a.body) != `{"status":403}` {
		t.Errorf("a long poll is answered %s", a.body)
	}
	for _, text := range []string{readText, bossText, adminToken, fleetText} {
		s.dial(d, "vsn=2.0.0", subprotocol(text)...).join("1", "all", `{}`)
		d := d
		d.header = http.Header{"Authorization": {"Bearer " + text}}
		s.dial(d, "vsn=2.0.0").join("1", "all", `{}`)
	}
	w := s.dial(d, "vsn=2.0.0", subprotocol(fleetText)...)
	w.join("1", "all", `{"client_id":"fleet-1"}`)
	for _, client := range []string{"other", "webhook:losses", "redisq:bot"} {
		w.send(`["2","2","system:5","phx_join",{"client_id":"` + client + `"}]`)
		if m := parse(t, w.next()); m.status() != "error" || !strings.Contains(string(m.payload), `"parameter":"client_id"`) {
			t.Errorf("%s: %s %s", client, m.event, m.payload)
		}
	}
}

// TestReservedOnSockets: also where reading is open nobody takes from the server's own clients on a channel.
func TestReservedOnSockets(t *testing.T) {
	s := newServer(t)
	w := s.dial(s.online(), "vsn=2.0.0")
	w.send(`["2","2","all","phx_join",{"client_id":"webhook:losses"}]`)
	if m := parse(t, w.next()); m.status() != "error" || !strings.Contains(string(m.payload), "the server's own") {
		t.Errorf("%s %s", m.event, m.payload)
	}
}

// TestRevoked: a connection lives as long as the token that let it in: it ends when that is revoked, may do something else, or
// expires, whatever carries it; and it stays when the token has another text and the old one is good yet.
func TestRevoked(t *testing.T) {
	for name, change := range map[string]func(token *tokens.Token) (wait time.Duration){
		"revoked":        func(token *tokens.Token) time.Duration { token.Sum[0]++; return 0 },
		"other scopes":   func(token *tokens.Token) time.Duration { token.Scopes |= tokens.Publish; return 0 },
		"another prefix": func(token *tokens.Token) time.Duration { token.ClientPrefix = "x"; return 0 },
		"expires":        func(token *tokens.Token) time.Duration { token.Expires = time.Now().Add(time.Hour); return time.Hour },
	} {
		t.Run(name, func(t *testing.T) {
			hosted(t, func(t *testing.T, h *host) {
				h.api.SetTokens(tokens.NewSet([]tokens.Token{{Name: "read", Sum: tokens.SumOf(readText), Scopes: tokens.Read}}))
				bearer := []string{"Authorization", "Bearer " + readText}
				over1 := h.streamBy(h.client, streamPath+"?topics=all", bearer...)
				over2 := h.streamBy(h.http2, streamPath+"?topics=all", bearer...)
				lines := h.streamBy(h.client, streamPath+"?topics=all", append(bearer, "Accept", "application/x-ndjson")...)
				polls := &poller{h: h, t: t, header: http.Header{"X-Phoenix-Authtoken": {readText}}}
				polls.begin()
				stranger := h.streamBy(h.client, streamPath+"?topics=all")
				synctest.Wait()
				if n := h.open(); n != 5 {
					t.Fatalf("%d are open, want 5", n)
				}
				token := tokens.Token{Name: "read", Sum: tokens.SumOf(readText), Scopes: tokens.Read}
				rotated := token
				rotated.Sum, rotated.Rate = tokens.SumOf("another"), 7
				if n := h.api.SetTokens(tokens.NewSet([]tokens.Token{rotated, token})); n != 0 {
					t.Fatalf("%d are closed though their text is good", n)
				}
				wait := change(&token)
				want := 4
				if wait > 0 {
					want = 0
				}
				if n := h.api.SetTokens(tokens.NewSet([]tokens.Token{token})); n != want {
					t.Errorf("%d were closed, want %d", n, want)
				}
				synctest.Wait()
				for left := wait; left > 0; left -= 10 * time.Second { // a client of long polls comes again and again
					if h.open() != 5 {
						t.Fatalf("%d are open %v before the token expires", h.open(), left)
					}
					polls.get()
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				for what, s := range map[string]*streaming{"HTTP/1": over1, "HTTP/2": over2, "NDJSON": lines} {
					s.mu.Lock()
					if !s.ended {
						t.Errorf("the stream over %s goes on", what)
					}
					s.mu.Unlock()
				}
				stranger.mu.Lock()
				if stranger.ended {
					t.Error("the stream of who has no token is over")
				}
				stranger.mu.Unlock()
				if n := h.open(); n != 1 {
					t.Errorf("%d are open, want 1", n)
				}
				stranger.leave()
			})
		})
	}
}

// TestRevokedSocket is TestRevoked over WebSocket, which is told why.
func TestRevokedSocket(t *testing.T) {
	s := newServer(t, withTokens(testTokens()...))
	d := s.online()
	w := s.dial(d, "vsn=2.0.0", subprotocol(readText)...)
	w.join("1", "all", `{}`)
	header := d
	header.header = http.Header{"Authorization": {"Bearer " + readText}}
	other := s.dial(header, "vsn=2.0.0")
	other.join("1", "all", `{}`)
	if n := s.api.SetTokens(nil); n != 2 {
		t.Errorf("%d were closed, want 2", n)
	}
	for _, w := range []*wire{w, other} {
		if reason := w.closed(1008); !strings.Contains(reason, "token") {
			t.Errorf("reason %q", reason)
		}
	}
}

// TestCrossSite: a page of another site can have a browser send what needs a token only when something on the way adds one, and
// then it is refused; what needs none is open to pages, as it was meant to be.
func TestCrossSite(t *testing.T) {
	s := newServer(t, withTokens(testTokens()...))
	writes := []struct{ method, target, body string }{
		{"POST", "/api/killmails", `{"killmail_id":1,"solar_system_id":30000142}`},
		{"POST", "/api/collect", ""},
		{"DELETE", "/api/clients/someone", ""},
		{"POST", "/api/sources/r2z2/pause", ""},
	}
	for _, w := range writes {
		for _, site := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
			{"Sec-Fetch-Site", "cross-site", "Origin", "http://example.com"},
		} {
			s.admin(w.method, w.target, w.body, site...).problem(403)
			s.do(w.method, w.target, w.body, site...).problem(401) // a browser alone has no token
		}
		for _, site := range [][]string{nil, {"Sec-Fetch-Site", "same-origin"}, {"Sec-Fetch-Site", "none"}, {"Origin", "http://example.com"}} {
			if a := s.admin(w.method, w.target, w.body, site...); a.status == 403 {
				t.Errorf("%s %s with %v is refused: %s", w.method, w.target, site, a.body)
			}
		}
		path := strings.Split(w.target, "?")[0]
		a := s.do("OPTIONS", path, "", "Origin", "https://evil.example", "Access-Control-Request-Method", w.method,
			"Access-Control-Request-Headers", "authorization").want(204)
		if allowed := a.header.Get("Access-Control-Allow-Methods"); strings.Contains(allowed, w.method) {
			t.Errorf("pages of other sites may %s %s", allowed, path)
		}
		if allowed := a.header.Get("Access-Control-Allow-Headers"); strings.Contains(allowed, "Authorization") {
			t.Errorf("pages of other sites may send a token to %s", path)
		}
	}
	if n := s.refusals("cross_site"); n != 4*5 {
		t.Errorf("%d were counted, want %d", n, 4*5)
	}
	for _, w := range []struct{ target, body string }{
		{"/api/killfeed", `{"client_id":"page","topics":["all"]}`},
		{"/api/killfeed/commit", `{"client_id":"page","offsets":{"all":0}}`},
		{"/api/clients/page/seek", `{"to":"latest"}`},
	} {
		a := s.do("POST", w.target, w.body, "Sec-Fetch-Site", "cross-site", "Origin", "https://tool.example").want(200)
		if a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: the page cannot read the answer", w.target)
		}
	}
	// Where reading needs a token, a page that was given one may send it, for reading.
	s = newServer(t, withTokens(testTokens()...), closedReading)
	for path, want := range map[string]bool{"/api/killfeed": true, "/api/killfeed/stream": true, "/api/collect": false, "/api/clients": false} {
		a := s.do("OPTIONS", path, "")
		if got := strings.Contains(a.header.Get("Access-Control-Allow-Headers"), "Authorization"); got != want {
			t.Errorf("%s: pages of other sites may send a token: %v, want %v", path, got, want)
		}
	}
}

// TestPrivate: what not everybody may read is kept by no cache on the way, which would give it to everybody.
func TestPrivate(t *testing.T) {
	for _, readTokens := range []bool{false, true} {
		s := newServer(t, withTokens(testTokens()...), func(o *serverOptions) { o.config.ReadTokens = readTokens })
		want := map[bool]string{false: "public, max-age=1", true: "private, max-age=1"}[readTokens]
		for _, target := range []string{"/api/killfeed?after=0&topics=all", "/api/killmails", "/api/systems/counts"} {
			a := s.do("GET", target, "", "Authorization", "Bearer "+readText).want(200)
			if got := a.header.Get("Cache-Control"); got != want {
				t.Errorf("reading needs tokens: %v; %s: Cache-Control %q, want %q", readTokens, target, got, want)
			}
		}
	}
}

// TestSafeHeaders: whatever is answered is what it says it is, and tells strangers nothing of how the server is built.
func TestSafeHeaders(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			a := s.do(method, strings.ReplaceAll(path, "{id}", "someone"), "")
			if got := a.header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("%s %s: X-Content-Type-Options %q", method, path, got)
			}
			for _, name := range []string{"Server", "X-Powered-By", "Via"} {
				if a.header.Get(name) != "" {
					t.Errorf("%s %s: %s %q", method, path, name, a.header.Get(name))
				}
			}
		}
	}
	metrics := string(s.get("/metrics").want(200).body)
	if strings.Contains(metrics, "go_info") || strings.Contains(metrics, `version="`) || !strings.Contains(metrics, "go_goroutines ") {
		t.Error("the metrics tell the version of Go, or nothing of it")
	}
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/log-level", "/build"} {
		s.do("GET", path, "", "Authorization", "Bearer "+adminToken).problem(404)
	}
}
