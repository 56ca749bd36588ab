package web_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/web"
	"killfeed/web/socket"
)

// poller is a client of Channels by long polls, in a bubble of synctest. What it is answered is compared byte for byte; TOKEN
// stands for its session's token there, and EPOCH for the log's epoch.
type poller struct {
	h      *host
	t      testing.TB
	token  string
	header http.Header
}

// poller opens a session.
func (h *host) poller() *poller {
	h.t.Helper()
	p := &poller{h: h, t: h.t}
	p.begin()
	return p
}

func (p *poller) begin() {
	p.t.Helper()
	p.token = ""
	body := p.get()
	var a polled
	decode(p.t, []byte(body), &a)
	if p.token = a.Token; a.Status != 410 || a.Token == "" {
		p.t.Fatalf("a session does not begin: %s", body)
	}
	p.is(body, `{"messages":[],"status":410,"token":"TOKEN"}`)
}

// polled is the body of an answer.
type polled struct {
	Messages []string
	Status   int
	Token    string
}

// request is one of the session's.
func (p *poller) request(ctx context.Context, method, body string) *http.Request {
	p.t.Helper()
	target := "http://memory/socket/longpoll?vsn=2.0.0"
	if p.token != "" {
		target += "&token=" + p.token
	}
	r, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for name, values := range p.header {
		r.Header[name] = values
	}
	return r
}

// do sends a request, and returns the body of the answer, whose status has to be this.
func (p *poller) do(r *http.Request, status int) string {
	p.t.Helper()
	res, err := p.h.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if res.StatusCode != status {
		p.t.Fatalf("%s: status %d, want %d: %s", r.Method, res.StatusCode, status, body)
	}
	if got := res.Header.Get("Content-Type"); got != "application/json" || res.Header.Get("Cache-Control") != "no-store" ||
		res.Header.Get("Access-Control-Allow-Origin") != "*" {
		p.t.Errorf("%s: headers %v", r.Method, res.Header)
	}
	return strings.TrimSuffix(string(body), "\n")
}

func (p *poller) get() string {
	p.t.Helper()
	return p.do(p.request(context.Background(), "GET", ""), 200)
}

// later polls beside the test. A poll that is left has no answer.
func (p *poller) later(ctx context.Context) <-chan string {
	answer := make(chan string, 1)
	r := p.request(ctx, "GET", "")
	go func() {
		defer close(answer)
		res, err := p.h.client.Do(r)
		if err != nil {
			return
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err == nil {
			answer <- strings.TrimSuffix(string(body), "\n")
		}
	}()
	synctest.Wait()
	return answer
}

// post sends messages as a current client does.
func (p *poller) post(messages ...string) string {
	p.t.Helper()
	r := p.request(context.Background(), "POST", p.fill(strings.Join(messages, "\n")))
	r.Header.Set("Content-Type", "application/x-ndjson")
	return p.do(r, 200)
}

func (p *poller) fill(text string) string {
	text = strings.ReplaceAll(text, "TOKEN", p.token)
	return strings.ReplaceAll(text, "EPOCH", string(p.h.feed.State().Epoch))
}

func (p *poller) is(got, want string) {
	p.t.Helper()
	if want = p.fill(want); got != want {
		p.t.Fatalf("the answer is\n%.2000s\nwant\n%.2000s", got, want)
	}
}

// gets fails the test unless a poll brings these messages.
func (p *poller) gets(messages ...string) {
	p.t.Helper()
	p.is(p.get(), ok(messages...))
}

// ok is the answer that brings messages.
func ok(messages ...string) string {
	list, _ := json.Marshal(messages)
	// EPOCH is filled in later, and json escapes what browsers would not have to have escaped.
	text := strings.NewReplacer(`\u003c`, "<", `\u003e`, ">", `\u0026`, "&").Replace(string(list))
	return fmt.Sprintf(`{"messages":%s,"status":200,"token":"TOKEN"}`, text)
}

const (
	nothing = `{"messages":[],"status":204,"token":"TOKEN"}`
	posted  = `{"status":200}`
	gone    = `{"status":410}`
)

// isDoomed checks the answer to who comes with the token of a session that is gone: another token, with which it is sent to
// begin anew.
func (p *poller) isDoomed(body string) {
	p.t.Helper()
	var a polled
	decode(p.t, []byte(body), &a)
	if a.Status != 410 || a.Token == "" || a.Token == p.token {
		p.t.Fatalf("the answer is %s, want 410 with another token", body)
	}
	before := p.token
	p.token = a.Token
	p.is(body, `{"messages":[],"status":410,"token":"TOKEN"}`)
	p.is(p.get(), `{"status":500}`)
	p.is(p.post(heartbeat), gone)
	p.token = before
}

// longPoll runs a test with a server on a network in memory.
func longPoll(t *testing.T, test func(t *testing.T, h *host), options ...func(*serverOptions)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newServer(t, options...).memory()) })
}

// TestLongPollTranscript: the statuses and bodies of a real server, byte for byte.
func TestLongPollTranscript(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		p := h.poller()
		poll := p.later(t.Context())
		p.is(p.post(`["4","4","system:30","phx_join",{}]`), posted)
		p.is(<-poll, ok(p.fill(okJoin("4", "system:30", 0, 1))))
		p.is(p.post(`["4","5","system:30","nosuch",{}]`, `["4","6","system:31","echo",{"a":2}]`), posted)
		p.gets(`["4","5","system:30","phx_reply",{"response":{"reason":"unknown event nosuch: a client's events here are commit, and update on the topic killfeed"},"status":"error"}]`,
			unmatched("6", "system:31"))
		poll = p.later(t.Context())
		id := h.insert(30)
		p.is(<-poll, ok(p.fill(h.pushed("4", "system:30", id))))
		h.insert(30, 30)
		synctest.Wait()
		p.gets(p.fill(h.pushed("4", "system:30", 2)), p.fill(h.pushed("4", "system:30", 3)))
		p.is(p.post(`["4","7","system:30","phx_leave",{}]`), posted)
		p.gets(okReply("4", "7", "system:30"), phxClose("4", "system:30"))

		begun := time.Now()
		p.is(p.get(), nothing)
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("a poll that brings nothing took %v, want 10s", took)
		}
		for method, status := range map[string]int{"OPTIONS": 200, "PUT": 400, "DELETE": 400, "HEAD": 400} {
			res, err := h.client.Do(p.request(t.Context(), method, ""))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != status {
				t.Errorf("%s: status %d, want %d", method, res.StatusCode, status)
			}
			if got := res.Header.Get("Access-Control-Allow-Methods"); method == "OPTIONS" && got != "GET, POST, OPTIONS" {
				t.Errorf("OPTIONS allows %q", got)
			}
		}
	})
}

// TestLongPollTokens: a session's, that of one that is gone, that of one that has been told so, and anything else.
func TestLongPollTokens(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		stranger := &poller{h: h, t: t}
		stranger.is(stranger.post(heartbeat), gone)
		for _, token := range []string{"bogus", "%00", strings.Repeat("x", 2000), base64.RawURLEncoding.EncodeToString(append([]byte{2}, make([]byte, 24)...))} {
			stranger.token = token
			stranger.is(stranger.post(heartbeat), gone)
			var a polled
			body := stranger.get()
			decode(t, []byte(body), &a)
			stranger.token = a.Token
			stranger.is(body, `{"messages":[],"status":410,"token":"TOKEN"}`)
			stranger.is(stranger.post(heartbeat), posted) // it is a session
			stranger.gets(heartbeatOK)
		}
		p := h.poller()
		p.header = http.Header{"X-Phoenix-Longpoll-Token": {p.token}}
		good := p.token
		p.token = "bogus"
		p.is(p.post(heartbeat), posted)
		body := p.get()
		p.token = good
		p.is(body, ok(heartbeatOK))
		p.header = nil

		time.Sleep(20 * time.Second)
		p.is(p.post(heartbeat), gone)
		p.isDoomed(p.get())
		p.isDoomed(p.get())
	})
}

// TestLongPollTakeover: of two polls of one session the newer one counts.
func TestLongPollTakeover(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		p := h.poller()
		p.post(`["1","1","all","phx_join",{}]`)
		p.gets(p.fill(okJoin("1", "all", 0, 1)))
		var polls []<-chan string
		for range 5 {
			polls = append(polls, p.later(t.Context()))
		}
		for _, poll := range polls[:4] {
			p.is(<-poll, nothing)
		}
		h.insert(jita)
		p.is(<-polls[4], ok(p.fill(h.pushed("1", "all", 1))))
		p.is(p.get(), nothing)
	})
}

// TestLongPollHeldUp: while an answer is on its way to a client that does not take it, newer polls wait for their turn. One that
// was given up before it came gets nothing, and keeps the session from nothing: neither from going on, nor from its end.
func TestLongPollHeldUp(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		for _, goesOn := range []bool{true, false} {
			p := h.poller()
			p.post(`["1","1","all","phx_join",{}]`)
			p.get()
			conn, err := h.net.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET /socket/longpoll?vsn=2.0.0&token=%s HTTP/1.1\r\nHost: memory\r\n\r\n", p.token)
			synctest.Wait()
			h.insert(jita) // the answer is written to somebody who does not read
			synctest.Wait()
			ctx, leave := context.WithCancel(t.Context())
			second := p.later(ctx)
			leave()
			if body, ok := <-second; ok {
				t.Fatalf("a poll that was left is answered %s", body)
			}
			conn.Close()
			synctest.Wait()
			if !goesOn {
				time.Sleep(17 * time.Second)
				p.isDoomed(p.get())
				continue
			}
			next := h.insert(jita)
			p.gets(p.fill(h.pushed("1", "all", next)))
		}
		if !strings.Contains(h.metrics(), `killfeed_connections{transport="longpoll"} 0`) {
			t.Error("sessions are left")
		}
	})
}

// TestLongPollExpires: a session ends fifteen seconds after its last poll, and not while one is going on.
func TestLongPollExpires(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		p, never, talker := h.poller(), h.poller(), h.poller()
		p.post(`["1","1","all","phx_join",{}]`)
		p.get()
		talked := posted // posting is no polling
		for range 6 {    // a minute of polls, with pauses
			time.Sleep(14 * time.Second)
			talker.is(talker.post(heartbeat), talked)
			talked = gone
			p.is(p.get(), nothing)
		}
		never.isDoomed(never.get())
		talker.isDoomed(talker.get())
		time.Sleep(14 * time.Second)
		if n := h.feed.Stats().Subscriptions; n != 1 {
			t.Errorf("%d subscriptions, want 1", n)
		}
		time.Sleep(3 * time.Second)
		if n := h.feed.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
		if !strings.Contains(h.metrics(), `killfeed_connections{transport="longpoll"} 0`) {
			t.Error("sessions are left")
		}
		p.isDoomed(p.get())
	})
}

// TestLongPollRefused: who may not, is told so in a body of status 200, or its client would try for ever.
func TestLongPollRefused(t *testing.T) {
	const forbidden = `{"status":403}`
	longPoll(t, func(t *testing.T, h *host) {
		p := h.poller()
		for _, c := range []struct {
			name   string
			header http.Header
			want   string
		}{
			{"another site", http.Header{"Origin": {"https://evil.example"}}, forbidden},
			{"a wrong token", http.Header{"X-Phoenix-Authtoken": {"wrong"}}, forbidden},
			{"a friendly site", http.Header{"Origin": {"https://tools.example.com"}}, posted},
			{"the token", http.Header{"X-Phoenix-Authtoken": {adminToken}}, posted},
		} {
			p.header = c.header
			p.is(p.post(heartbeat), c.want)
			if c.want == forbidden {
				p.is(p.get(), forbidden)
			} else {
				p.gets(heartbeatOK)
			}
		}
		for _, vsn := range []string{"3.0.0", "2.5.0", "abc"} {
			for _, method := range []string{"GET", "POST"} {
				r, err := http.NewRequestWithContext(t.Context(), method, "http://memory/socket/longpoll?vsn="+vsn, nil)
				if err != nil {
					t.Fatal(err)
				}
				p.is(p.do(r, 200), forbidden)
			}
		}
	}, func(o *serverOptions) { o.config.Origins = []string{"tools.example.com"} })
}

// TestLongPollLater: when there is no place, or the server is not there yet or not for long, clients are sent to try again.
func TestLongPollLater(t *testing.T) {
	later := func(p *poller) {
		p.t.Helper()
		p.is(p.do(p.request(p.t.Context(), "GET", ""), 503), `{"status":500}`)
	}
	longPoll(t, func(t *testing.T, h *host) {
		p := h.poller()
		stranger := &poller{h: h, t: t}
		later(stranger)
		p.is(p.post(heartbeat), posted)
		p.gets(heartbeatOK)
		time.Sleep(17 * time.Second) // p has gone
		next := h.poller()
		later(stranger)
		poll := next.later(t.Context())
		if left := h.api.Drain(t.Context(), 0); left != 0 {
			t.Errorf("%d were left", left)
		}
		body := <-poll
		var a polled
		decode(t, []byte(body), &a)
		if a.Status != 410 || a.Token == next.token {
			t.Errorf("a poll that waits is answered %s, want 410 with another token", body)
		}
		later(stranger)
	}, func(o *serverOptions) { o.config.MaxConnections = 1 })

	var gate web.Gate
	for _, path := range []string{"/socket/longpoll", "/socket/longpoll/"} {
		w := httptest.NewRecorder()
		gate.ServeHTTP(w, httptest.NewRequest("GET", path+"?vsn=2.0.0", nil))
		if w.Code != 503 || w.Body.String() != `{"status":500}` || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s behind a closed gate: %d, %v, %s", path, w.Code, w.Header(), w.Body)
		}
	}
}

// TestLongPollMessages: how messages may come, and what ends a session.
func TestLongPollMessages(t *testing.T) {
	const (
		one = `[null,"1","phoenix","heartbeat",{}]`
		two = `[null,"2","phoenix","heartbeat",{}]`
	)
	reply := func(ref string) string {
		return fmt.Sprintf(`[null,%q,"phoenix","phx_reply",{"response":{},"status":"ok"}]`, ref)
	}
	big := strings.Repeat("x", socket.MaxMessage-len(`[null,"","phoenix","heartbeat",{}]`))
	binary := base64.StdEncoding.EncodeToString([]byte("\x00\x01\x01\x03\x04" + "11all" + "echo" + "\xff"))
	for _, c := range []struct {
		name, kind, body, want string
		answers                []string
	}{
		{"one", "application/x-ndjson", one, posted, []string{reply("1")}},
		{"two", "application/x-ndjson", one + "\n" + two, posted, []string{reply("1"), reply("2")}},
		{"empty lines", "application/x-ndjson; charset=utf-8", "\n" + one + "\r\n\r\n" + two + "\n\n", posted, []string{reply("1"), reply("2")}},
		{"an object", "application/x-ndjson", `{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"3"}`, posted, []string{heartbeatOKV1}},
		{"binary", "application/x-ndjson", one + "\n" + binary + "\n" + two, posted, []string{reply("1"), unmatched("1", "all"), reply("2")}},
		{"nothing", "application/x-ndjson", "", posted, nil},
		{"as old clients do", "application/json", one, posted, []string{reply("1")}},
		{"without a type, over several lines", "", "\n [null,\n\"1\",\"phoenix\",\"heartbeat\",{}]\n", posted, []string{reply("1")}},
		{"the greatest", "application/x-ndjson", `[null,"` + big + `","phoenix","heartbeat",{}]`, posted, []string{reply(big)}},
		{"too large", "application/x-ndjson", one + "\n" + `[null,"x` + big + `","phoenix","heartbeat",{}]`, gone, nil},
		{"far too large", "application/x-ndjson", strings.Repeat("[", 1<<20), gone, nil},
		{"too large and binary", "application/x-ndjson", base64.StdEncoding.EncodeToString(make([]byte, socket.MaxMessage+1)), gone, nil},
		{"too large and alone", "application/json", "[" + strings.Repeat(" ", socket.MaxMessage), gone, nil},
		{"more than a request may bring", "application/x-ndjson", strings.Repeat(`[null,null,"phoenix","heartbeat",{"a":"`+big[:200_000]+`"}]`+"\n", 43), `{"status":500}`, nil},
		{"no JSON", "application/x-ndjson", one + "\n[nonsense", gone, nil},
		{"no base64", "application/x-ndjson", "hello!", gone, nil},
		{"no message", "application/x-ndjson", `[1,2,3]`, gone, nil},
		{"bad binary", "application/x-ndjson", "AA==", gone, nil},
		{"not JSON, alone", "application/json", "hello", gone, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			longPoll(t, func(t *testing.T, h *host) {
				p := h.poller()
				r := p.request(t.Context(), "POST", c.body)
				r.Header.Set("Content-Type", c.kind)
				p.is(p.do(r, 200), c.want)
				if c.want == gone {
					p.is(p.post(one), gone)
					p.isDoomed(p.get())
					return
				}
				switch {
				case c.answers != nil:
					p.gets(c.answers...)
				case c.want == posted:
					p.is(p.get(), nothing)
				}
			})
		})
	}
}

// TestLongPollAnswersAreBounded: who asks and does not fetch the answers is told that it is too much, and may go on when it has
// fetched them.
func TestLongPollAnswersAreBounded(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		p := h.poller()
		ask := fmt.Sprintf(`[null,"%s","phoenix","heartbeat",{}]`, strings.Repeat("r", 10_000))
		n := 0
		for body := p.post(ask); body != `{"status":408}`; body = p.post(ask) {
			p.is(body, posted)
			if n++; n > 100 {
				t.Fatal("it is never too much")
			}
		}
		var a polled
		decode(t, []byte(p.get()), &a)
		if len(a.Messages) != n {
			t.Errorf("%d answers came to %d messages", len(a.Messages), n)
		}
		p.is(p.post(heartbeat), posted)
		p.gets(heartbeatOK)
	})
}

// TestLongPollSendsInOrder: messages of requests that come at once are not mixed, and a slow one holds up nobody else.
func TestLongPollSendsInOrder(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		p, other := h.poller(), h.poller()
		in, out := io.Pipe()
		r := p.request(t.Context(), "POST", "")
		r.Body, r.ContentLength = in, -1
		r.Header.Set("Content-Type", "application/x-ndjson")
		slow := make(chan string)
		go func() { slow <- p.do(r, 200) }()
		io.WriteString(out, "[null,\"1\",\"phoenix\",\"heartbeat\",{}]\n[null,\"2\",")
		synctest.Wait()
		fast := make(chan string)
		go func() { fast <- p.post(`[null,"3","phoenix","heartbeat",{}]`) }()
		p.gets(`[null,"1","phoenix","phx_reply",{"response":{},"status":"ok"}]`) // handled as it came
		other.is(other.post(heartbeat), posted)
		other.gets(heartbeatOK)
		time.Sleep(10 * time.Second)
		io.WriteString(out, "\"phoenix\",\"heartbeat\",{}]")
		out.Close()
		p.is(<-slow, posted)
		p.is(<-fast, posted)
		p.gets(`[null,"2","phoenix","phx_reply",{"response":{},"status":"ok"}]`, `[null,"3","phoenix","phx_reply",{"response":{},"status":"ok"}]`)

		// One that does not arrive is given up after half a minute, and half of a message is none.
		in, out = io.Pipe()
		defer out.Close()
		go io.WriteString(out, "[null,\"4\"")
		r = other.request(t.Context(), "POST", "")
		r.Body, r.ContentLength = in, -1
		r.Header.Set("Content-Type", "application/x-ndjson")
		begun := time.Now()
		go func() { slow <- other.do(r, 200) }()
		for range 2 {
			other.is(other.get(), nothing)
		}
		other.is(<-slow, `{"status":500}`)
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("it was given up after %v, want 30s", took)
		}
		other.is(other.post(heartbeat), posted)
	})
}

// TestLongPollCommits: what was handed over is committed, what did not go out comes again.
func TestLongPollCommits(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		const join = `["1","1","all","phx_join",{"client_id":"bot","start":"earliest"}]`
		h.insert(jita)
		p := h.poller()
		p.post(join)
		p.gets(p.fill(okJoin("1", "all", 1, 1)), p.fill(h.pushed("1", "all", 1)))

		// The client of this poll has left before there was anything.
		ctx, leave := context.WithCancel(t.Context())
		poll := p.later(ctx)
		leave()
		<-poll
		synctest.Wait()
		h.insert(jita)
		p.gets(p.fill(h.pushed("1", "all", 2)))

		// The client of this one is cut off while it is answered.
		conn, err := h.net.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET /socket/longpoll?vsn=2.0.0&token=%s HTTP/1.1\r\nHost: memory\r\n\r\n", p.token)
		synctest.Wait()
		h.insert(jita)
		synctest.Wait()
		conn.Close()
		synctest.Wait()
		p.begin()
		p.post(join)
		p.gets(p.fill(okJoin("1", "all", 3, 3)), p.fill(h.pushed("1", "all", 3)))
		p.begin()
		p.post(join)
		p.gets(p.fill(okJoin("1", "all", 3, 4)))
	})
}

// TestLongPollEnds: a session ends once, gives its place back once, and its requests are answered, whatever else is going on.
func TestLongPollEnds(t *testing.T) {
	s := newServer(t, func(o *serverOptions) { o.config.MaxConnections = 4 })
	d := s.online()
	ask := func(method, token, body string) (a polled) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+d.host+"/socket/longpoll?vsn=2.0.0&token="+token, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return a
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return a
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err == nil {
			err = json.Unmarshal(text, &a)
		}
		if err != nil {
			t.Errorf("%s: %v in %s", method, err, text)
		}
		return a
	}
	for range 50 {
		token := ask("GET", "", "").Token
		if token == "" {
			t.Fatal("no place for a session: one was not given back")
		}
		ask("POST", token, `["1","1","all","phx_join",{"start":"earliest"}]`)
		done := make(chan polled, 8)
		for i := range 4 { // two polls, and two requests with something that ends it
			go func() {
				if i%2 == 0 {
					done <- ask("GET", token, "")
				} else {
					done <- ask("POST", token, heartbeat+"\n[broken")
				}
			}()
		}
		for range 4 {
			if a := <-done; a.Status != 200 && a.Status != 204 && a.Status != 410 {
				t.Errorf("an answer of status %d", a.Status)
			}
		}
		if a := ask("GET", token, ""); a.Status != 410 {
			t.Errorf("behind the end a poll is answered %d", a.Status)
		}
		if n := s.feed.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
	}
	if m := s.metrics(); !strings.Contains(m, `killfeed_connections_closed_total{code="0",transport="longpoll"} 50`) {
		t.Error("metrics do not say that 50 sessions have ended")
	}
}

// TestLongPollTokenChanges: as WebSockets are, a session that the admin token let in is ended when that changes.
func TestLongPollTokenChanges(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		open := h.poller()
		admitted := &poller{h: h, t: t, header: http.Header{"X-Phoenix-Authtoken": {adminToken}}}
		admitted.begin()
		poll, other := admitted.later(t.Context()), open.later(t.Context())
		if n := h.api.SetAdminToken("another-horse"); n != 1 {
			t.Errorf("%d were closed, want 1", n)
		}
		admitted.is(<-poll, `{"status":403}`)
		admitted.is(admitted.get(), `{"status":403}`)
		admitted.is(admitted.post(heartbeat), `{"status":403}`)
		open.is(open.post(heartbeat), posted)
		open.is(<-other, ok(heartbeatOK))
		admitted.header.Set("X-Phoenix-Authtoken", "another-horse")
		admitted.begin()
	})
}

// TestLongPollCarriesManyEvents: a history comes in answers of bounded size, in order, each event once.
func TestLongPollCarriesManyEvents(t *testing.T) {
	longPoll(t, func(t *testing.T, h *host) {
		const n = 1000
		h.insertMany(n, jita)
		p := h.poller()
		p.post(`["1","1","all","phx_join",{"start":"earliest"}]`)
		next := killfeed.EventID(1)
		for polls := 0; next <= n; polls++ {
			var a polled
			body := p.get()
			decode(t, []byte(body), &a)
			if len(a.Messages) == 0 || len(a.Messages) > 129 || len(body) > 1<<20 {
				t.Fatalf("poll %d brings %d messages in %d bytes", polls, len(a.Messages), len(body))
			}
			for _, m := range a.Messages {
				if id := idOf(m); id == next {
					next++
				} else if id != 0 {
					t.Fatalf("event %d comes, want %d", id, next)
				}
			}
		}
	})
}
