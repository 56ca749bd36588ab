package web

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"killfeed"
	"killfeed/phoenix"
	"killfeed/storetest"
	"killfeed/web/socket"
)

func mounting(t *testing.T) *API {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	a, err := New(feed, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func says(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text+r.PathValue("id")) }
}

func TestMount(t *testing.T) {
	a := mounting(t)
	json := func(r *http.Request) bool { return r.Header.Get("Accept") == "application/json" }
	upgrade := func(r *http.Request) bool { return r.Header.Get("Upgrade") != "" }
	for _, routes := range [][]Route{
		{{Method: "GET", Path: "/listen.php", Serve: says("listen")}, {Method: "GET", Path: "/ephemeral/{id}", Serve: says("file ")}},
		{{Method: "GET", Path: "/ephemeral/sequence.json", Serve: says("sequence")}, {Method: "GET", Path: "/metrics", When: json, Serve: says("as JSON")}},
		{{Method: "GET", Path: "/websocket", When: upgrade, Serve: says("socket")}},
		{{Method: "GET", Path: "/websocket", When: json, Serve: says("information")}},
	} {
		if err := a.Mount(routes...); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ method, path, header, want string }{
		{"GET", "/listen.php", "", "200 listen"},
		{"GET", "/listen.php/", "", "200 listen"},
		{"POST", "/listen.php", "", "405"},
		{"OPTIONS", "/listen.php", "", "204"},
		{"GET", "/ephemeral/17.json", "", "200 file 17.json"},
		{"GET", "/ephemeral/a%2Fb", "", "200 file a/b"},
		{"GET", "/ephemeral/17.json/", "", "200 file 17.json"},
		{"GET", "/ephemeral/sequence.json", "", "200 sequence"},
		{"GET", "/metrics", "", "200 # HELP"},
		{"GET", "/metrics", "Accept: application/json", "200 as JSON"},
		{"GET", "/websocket", "Upgrade: websocket", "200 socket"},
		{"GET", "/websocket/", "Accept: application/json", "200 information"},
		{"GET", "/websocket", "", "404"},
		{"GET", "/livez", "", "200"},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if name, value, ok := strings.Cut(c.header, ": "); ok {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if got := strings.Fields(w.Result().Status)[0] + " " + w.Body.String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s %s with %q: %.60s, want %s", c.method, c.path, c.header, got, c.want)
		}
	}
	for what, r := range map[string]Route{
		"there is such a route":    {Method: "GET", Path: "/listen.php", Serve: says("")},
		"the API has it":           {Method: "GET", Path: "/api/killfeed", Serve: says("")},
		"nothing serves":           {Method: "GET", Path: "/other"},
		"the path ends in a slash": {Method: "GET", Path: "/other/", Serve: says("")},
	} {
		if err := mounting(t).Mount(Route{Method: "GET", Path: "/listen.php", Serve: says("")}, r); err == nil {
			t.Errorf("%s, and it is mounted", what)
		}
	}
}

// A mounted route that needs the admin token is not reached without it, and other sites' pages are not invited.
func TestMountAdmin(t *testing.T) {
	a := mounting(t)
	a.SetAdminToken("the token")
	served := 0
	route := Route{Method: "POST", Path: "/api/things/{id}", Admin: true, Serve: func(w http.ResponseWriter, r *http.Request) {
		served++
		io.WriteString(w, r.PathValue("id"))
	}}
	if err := a.Mount(route); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]int{"": 401, "Bearer wrong": 403, "Bearer the token": 200} {
		before := served
		r := httptest.NewRequest("POST", "/api/things/one", nil)
		r.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		if w.Code != want || (served > before) != (want == 200) {
			t.Errorf("with %q: %d, want %d; served: %v", token, w.Code, want, served > before)
		}
		if cors := w.Header().Get("Access-Control-Allow-Origin"); cors != "" {
			t.Errorf("with %q other sites' pages are invited: %s", token, cors)
		}
		if problem := w.Header().Get("Content-Type") == "application/problem+json"; problem != (want != 200) {
			t.Errorf("with %q the answer is %s", token, w.Header().Get("Content-Type"))
		}
	}
	options := httptest.NewRecorder()
	a.ServeHTTP(options, httptest.NewRequest("OPTIONS", "/api/things/one", nil))
	if options.Header().Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("other sites' pages may use %s", options.Header().Get("Access-Control-Allow-Methods"))
	}
}

// What is appended for others is what live edges send.
func TestAppendLive(t *testing.T) {
	a := mounting(t)
	e := killfeed.Event{ID: 17, SystemID: 5, Killmail: []byte(`{"killmail_id":1}`)}
	for _, names := range []bool{false, true} {
		want := string((&shelf{api: a, shape: shape{names: names}}).text(&e))
		if got := string(a.AppendLive([]byte("x"), &e, names)); got != "x"+want || !strings.HasSuffix(got, `,"cursor":"17-`+string(a.epoch)+`"}`) {
			t.Errorf("names: %v: %s, want x%s", names, got, want)
		}
	}
}

// counting is a dialect's channel that pushes numbers, as many as it was asked for.
type counting struct {
	link      *phoenix.Link
	wake      func()
	n         int
	delivered int
	left      bool
}

func (c *counting) Joined() {}
func (c *counting) Left()   { c.left = true }
func (c *counting) Push(event string, payload []byte) ([]byte, error) {
	c.n += len(payload)
	c.wake()
	return []byte(`{"event":"` + event + `"}`), nil
}
func (c *counting) Delivered() { c.delivered++ }
func (c *counting) Pull(to Sink) {
	before, after := c.link.Around("number")
	for ; c.n > 0 && to.Room() > 0; c.n-- {
		to.Text(before, []byte(`{}`), after)
	}
	if c.n > 0 {
		c.wake()
	}
}

// pile is a Sink with room for two.
type pile struct{ messages []string }

func (p *pile) Text(before, payload, after []byte) {
	p.messages = append(p.messages, string(before)+string(payload)+string(after))
}
func (p *pile) Len() int  { return len(p.messages) }
func (p *pile) Room() int { return max(0, 2-len(p.messages)) }

func TestMountChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := mounting(t)
		var ch *counting
		join := func(params []byte, link *phoenix.Link, wake func()) (Channel, []byte, error) {
			if string(params) == `{"no":1}` {
				return nil, nil, phoenix.Refuse("no")
			}
			ch = &counting{link: link, wake: wake}
			return ch, []byte(`{"status":"connected"}`), nil
		}
		if err := a.MountChannel("killmails:lobby", join); err != nil {
			t.Fatal(err)
		}
		for _, taken := range []string{"killmails:lobby", "killfeed", "system:5", "all"} {
			if a.MountChannel(taken, join) == nil {
				t.Errorf("%s is mounted", taken)
			}
		}
		woken := 0
		talk := a.newTalk(admission{version: phoenix.V2}, func() { woken++ })
		say := func(frame string) (got []string) {
			t.Helper()
			if err := talk.message(true, []byte(frame)); err != nil {
				t.Fatal(err)
			}
			for {
				var p pile
				if !talk.pull(&p, false) {
					return got
				}
				talk.written()
				got = append(got, p.messages...)
			}
		}
		is := func(frame string, want ...string) {
			t.Helper()
			if got := say(frame); strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%s:\ngot  %s\nwant %s", frame, strings.Join(got, "\n     "), strings.Join(want, "\n     "))
			}
		}
		is(`["1","1","killmails:lobby","phx_join",{"no":1}]`,
			`["1","1","killmails:lobby","phx_reply",{"response":{"reason":"no"},"status":"error"}]`)
		is(`["2","2","killmails:lobby","phx_join",{}]`,
			`["2","2","killmails:lobby","phx_reply",{"response":{"status":"connected"},"status":"ok"}]`)
		number := `["2",null,"killmails:lobby","number",{}]`
		is(`["2","3","killmails:lobby","more",{}]`,
			`["2","3","killmails:lobby","phx_reply",{"response":{"event":"more"},"status":"ok"}]`, number, number)
		is(`["2","4","killmails:lobby","more",{"a":1}]`,
			`["2","4","killmails:lobby","phx_reply",{"response":{"event":"more"},"status":"ok"}]`, number, number, number, number, number, number, number)
		if ch.delivered == 0 || woken == 0 {
			t.Errorf("it was woken %d times, and delivered %d", woken, ch.delivered)
		}
		is(`["2","5","killmails:lobby","phx_leave",{}]`,
			`["2","5","killmails:lobby","phx_reply",{"response":{},"status":"ok"}]`, `["2","2","killmails:lobby","phx_close",{}]`)
		if !ch.left {
			t.Error("it was not told that it was left")
		}
		before := woken
		ch.wake()
		if woken != before {
			t.Error("who has left is pulled")
		}
		talk.end()
	})
}

var _ Sink = (*socket.Batch)(nil)
