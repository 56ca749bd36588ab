package web_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
	"killfeed/web"
)

// hosted runs a test in fake time, with a server on a network in memory.
func hosted(t *testing.T, test func(t *testing.T, h *host), options ...func(*serverOptions)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newServer(t, options...).host()) })
}

const streamPath = "/api/killfeed/stream"

// TestStreamRefusals: whatever is not accepted is a 400 that names it, before there is a stream.
func TestStreamRefusals(t *testing.T) {
	s := newServer(t)
	s.insert(jita)
	for _, c := range []struct{ query, header, parameter, value string }{
		{"", "", "systems", ""},
		{"systems=", "", "systems", ""},
		{"systems=0", "", "systems", "0"},
		{"topics=region:10000002", "", "topics", "region:10000002"},
		{"topics=all&after=x", "", "after", "x"},
		{"topics=all&after=", "", "after", ""},
		{"topics=all&after=1-5f3a9c0", "", "after", "1-5f3a9c0"},
		{"topics=all&after=-1", "", "after", "-1"},
		{"topics=all&after=1-5f3a9c01-00112233445566", "", "after", "1-5f3a9c01-00112233445566"},
		{"topics=all&after=1-001122334455", "", "after", "1-001122334455"},
		{"topics=all&after=1-5f3a9c01-00112233445g", "", "after", "1-5f3a9c01-00112233445g"},
		{"topics=all&last_event_id=x", "", "last_event_id", "x"},
		{"topics=all&lastEventId=1-x", "", "last_event_id", "1-x"},
		{"topics=all&last_event_id=1&last_event_id=2", "", "last_event_id", "2"},
		{"topics=all&last_event_id=1&lastEventId=2", "", "last_event_id", "2"},
		{"topics=all&last_event_id[]=1", "", "last_event_id[]", "1"},
		{"topics=all&after=1&after=2", "", "after", "2"},
		{"topics=all", "x", "last_event_id", "x"},
		{"topics=all&last_event_id=1", "1--", "last_event_id", "1--"},
		{"topics=all&after=1", "9999999999999999999999", "last_event_id", "9999999999999999999999"},
		{"topics=all&start=never", "", "start", "never"},
		{"topics=all&start=0", "", "start", "0"},
		{"topics=all&client_id=", "", "client_id", ""},
		{"topics=all&client_id=+a", "", "client_id", " a"},
		{"topics=all&commit=later", "", "commit", "later"},
		{"topics=all&max_age=0", "", "max_age", "0"},
		{"topics=all&updates=2", "", "updates", "2"},
		{"topics=all&backfill=yes", "", "backfill", "yes"},
		{"topics=all&filter=x", "", "filter", "x"},
		{"topics=all&names=x", "", "names", "x"},
		{"topics=all&fields=", "", "fields", ""},
		{"topics=all&start=%ff", "", "start", "%ff"},
	} {
		var headers []string
		if c.header != "" {
			headers = []string{"Last-Event-ID", c.header}
		}
		for _, accept := range []string{"text/event-stream", "application/x-ndjson"} {
			for _, method := range []string{"GET", "HEAD"} {
				a := s.do(method, streamPath+"?"+c.query, "", append(headers, "Accept", accept)...)
				if method == "HEAD" {
					a.want(400)
					continue
				}
				if p := a.problem(400); p.Parameter != c.parameter || p.Value != c.value {
					t.Errorf("%s, Last-Event-ID %q: parameter %q, value %q; want %q, %q", a.what, c.header, p.Parameter, p.Value, c.parameter, c.value)
				}
			}
		}
	}
	if n := s.feed.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	s.do("POST", streamPath+"?topics=all", "").problem(405)
	s.do("OPTIONS", streamPath, "").want(204)
}

// TestStreamBegins where it is asked to. The newest word of where that is wins: the header, then last_event_id, then after, then
// start. $e stands for the epoch.
func TestStreamBegins(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		h.insert(jita, hek, jita, hek) // 1 to 4
		epoch := string(h.feed.State().Epoch)
		for _, c := range []struct{ query, header, want, cursor string }{
			{"systems=30000142", "", "open", "4-$e"},
			{"systems=30000142&start=latest", "", "open", "4-$e"},
			{"systems=30000142&start=earliest", "", "open 1 3", "0-$e"},
			{"systems=30000142&start=2", "", "open 3", "1-$e"},
			{"systems=30000142&start=99", "", "open", "4-$e"},
			{"systems=30000142&start=1999-01-01T00:00:00Z", "", "open 1 3", "0-$e"},
			{"systems=30000142&systems[]=30002053&after=0", "", "open 1 2 3 4", "0-$e"},
			{"topics=all,system:30000142&after=2-$e", "", "open 3 4", "2-$e"},
			{"topics=all&after=2", "", "open 3 4", "2-$e"},
			{"topics=all&after=2-$e-0123456789ab", "", "open 3 4", "2-$e"},
			{"topics=all&after=2-$e&start=earliest", "", "open 3 4", "2-$e"},
			{"topics=all&after=4-$e", "", "open", "4-$e"},
			{"topics=all&after=5-$e", "", "open gap future", "4-$e"},
			{"topics=all&after=5", "", "open gap future", "4-$e"},
			{"topics=all&after=2-00000000", "", "open gap epoch 1 2 3 4", "0-$e"},
			{"topics=all&after=99-00000000", "", "open gap epoch 1 2 3 4", "0-$e"},
			{"topics=all&last_event_id=3-$e", "", "open 4", "3-$e"},
			{"topics=all&lastEventId=3-$e", "", "open 4", "3-$e"},
			{"topics=all&last_event_id=3-$e&lastEventId=3-$e", "", "open 4", "3-$e"},
			{"topics=all&last_event_id=&after=2", "", "open 3 4", "2-$e"},
			{"topics=all&last_event_id=3-$e&after=1", "", "open 4", "3-$e"},
			{"topics=all&last_event_id=3-$e-0123456789ab&after=1", "", "open 4", "3-$e"},
			{"topics=all", "3-$e", "open 4", "3-$e"},
			{"topics=all", "3-$e-0123456789ab", "open 4", "3-$e"},
			{"topics=all", "3", "open 4", "3-$e"},
			{"topics=all&last_event_id=1&after=2&start=earliest", "3-$e", "open 4", "3-$e"},
			{"topics=all", "3-00000000", "open gap epoch 1 2 3 4", "0-$e"},
		} {
			query, header := strings.ReplaceAll(c.query, "$e", epoch), strings.ReplaceAll(c.header, "$e", epoch)
			for _, accept := range []string{"", "text/event-stream", "*/*", "application/x-ndjson"} {
				s := h.stream(streamPath+"?"+query, "Accept", accept, "Last-Event-ID", header)
				frames := s.take()
				if got := say(frames); got != c.want {
					t.Errorf("%s, Last-Event-ID %q: there came %q, want %q", query, header, got, c.want)
				}
				if want := strings.ReplaceAll(c.cursor, "$e", epoch); len(frames) > 0 && frames[0].id != want {
					t.Errorf("%s, Last-Event-ID %q: it begins at %s, want %s", query, header, frames[0].id, want)
				}
				s.leave()
			}
		}
	})
}

// TestStreamHeaders: no proxy may hold it back, keep it or pack it.
func TestStreamHeaders(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		for accept, kind := range map[string]string{"text/event-stream": "text/event-stream", "application/x-ndjson": "application/x-ndjson"} {
			s := h.stream(streamPath+"?topics=all", "Accept", accept, "Accept-Encoding", "gzip, br, zstd", "Origin", "https://tools.example.com")
			s.is("open") // before there is any event
			h.insert(jita, jita, jita)
			if got := say(s.take()); len(strings.Fields(got)) != 3 {
				t.Errorf("there came %q, want three events", got)
			}
			for name, want := range map[string]string{
				"Content-Type": kind, "Content-Encoding": "", "Content-Length": "", "X-Accel-Buffering": "no", "Vary": "",
				"Cache-Control": "private, no-cache, no-store, no-transform", "Access-Control-Allow-Origin": "*",
			} {
				if got := s.res.Header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", accept, name, got, want)
				}
			}
		}
	})
}

// TestStreamHead has the headers, and changes nothing.
func TestStreamHead(t *testing.T) {
	s := newServer(t, func(o *serverOptions) { o.config.MaxConnections = 1 })
	for accept, kind := range map[string]string{"": "text/event-stream", "application/x-ndjson": "application/x-ndjson"} {
		for range 3 { // they do not count as connections
			a := s.do("HEAD", streamPath+"?topics=all&client_id=a", "", "Accept", accept).want(200)
			if got := a.header.Get("Content-Type"); got != kind {
				t.Errorf("Content-Type %q, want %q", got, kind)
			}
		}
	}
	s.get("/api/clients/a").want(404)
}

// TestStreamEvent: what an event looks like, in both forms.
func TestStreamEvent(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		h.admin("POST", "/api/killmails", `{"system_id":30000142,"killmail":{"a": 1.0, "b":"\u00e9\n"}}`).want(201)
		epoch := h.feed.State().Epoch
		event := fmt.Sprintf(`"event_id":1,"system_id":30000142,"received_at":"2000-01-01T00:00:00.000Z","killmail":{"a":1.0,"b":"\u00e9\n"},"cursor":"1-%s"}`, epoch)
		if got := h.stream(streamPath + "?topics=all&after=0").is("open 1")[1].data; got != "{"+event {
			t.Errorf("SSE: %s", got)
		}
		if got := h.stream(streamPath+"?topics=all&after=0", "Accept", "application/x-ndjson").is("open 1")[1].data; got != `{"type":"new_killmail",`+event {
			t.Errorf("NDJSON: %s", got)
		}
	})
}

// TestStreamLeavesOut what was not asked for; it counts as read.
func TestStreamLeavesOut(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		put := func(text string, args ...any) {
			t.Helper()
			h.admin("POST", "/api/killmails", fmt.Sprintf(text, args...)).want(201)
		}
		now := time.Now().UTC()
		put(`{"killmail_id":1,"solar_system_id":30000142,"killmail_time":"%s"}`, now.Add(-2*time.Hour).Format(time.RFC3339))
		h.admin("POST", "/api/killmails?backfill=1", `{"killmail_id":2,"solar_system_id":30000142}`).want(201)
		put(`{"killmail_id":1,"solar_system_id":30000142,"killmail_time":"%s","zkb":{"labels":["solo"]}}`, now.Add(-2*time.Hour).Format(time.RFC3339))
		put(`{"killmail_id":4,"solar_system_id":30000142,"killmail_time":"%s"}`, now.Format(time.RFC3339))
		for query, want := range map[string]string{
			"":                                  "open 1 4",
			"&backfill=0&updates=0":             "open 1 4",
			"&backfill=1":                       "open 1 2b 4",
			"&updates=1":                        "open 1 3u 4",
			"&updates=1&backfill=true":          "open 1 2b 3u 4",
			"&max_age=1h":                       "open 4",
			"&max_age=3600&updates=1":           "open 4",
			"&max_age=1h&backfill=1":            "open 2b 4", // 2 tells no time
			"&client_id=a&max_age=1h":           "open 4",
			"&limit=1&wait=60&unknown=1":        "open 1 4", // these mean nothing here
			"&limit=x&wait=x&unknown[]=1&a=%20": "open 1 4",
		} {
			h.stream(streamPath + "?systems=30000142&start=earliest" + query).is(want)
		}
		h.stream(streamPath + "?systems=30000142&start=earliest&client_id=a").is("open")
	})
}

// TestStreamHeartbeats: a stream is never silent for more than 20 s, and its place moves on with the log, also past what is of no
// interest: or a resumed stream would be told a gap when retention removes that.
func TestStreamHeartbeats(t *testing.T) {
	for accept, nonce := range map[string]int{"text/event-stream": 13, "application/x-ndjson": 0} {
		for _, name := range []string{"", "&client_id=a"} {
			hosted(t, func(t *testing.T, h *host) {
				s := h.stream(streamPath+"?systems=30000142"+name, "Accept", accept)
				s.is("open")
				cursor := func(f frame) string {
					if name != "" {
						return f.id[:len(f.id)-nonce]
					}
					return f.id
				}
				for i := range 3 {
					time.Sleep(20*time.Second - time.Nanosecond)
					s.is("")
					h.insert(hek)
					time.Sleep(time.Nanosecond)
					if got, want := cursor(s.is("heartbeat")[0]), fmt.Sprintf("%d-%s", i+1, h.feed.State().Epoch); got != want {
						t.Errorf("heartbeat %d has cursor %q, want %q", i, got, want)
					}
				}
				time.Sleep(15 * time.Second)
				h.insert(jita)
				s.is("4")
				time.Sleep(20*time.Second - time.Nanosecond) // since the event
				s.is("")
				time.Sleep(time.Nanosecond)
				s.is("heartbeat")
			})
		}
	}
}

// TestStreamRetry: browsers come back after another time each, and no sooner than in half a second.
func TestStreamRetry(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		seen := map[string]bool{}
		for range 32 {
			f := h.stream(streamPath + "?topics=all").is("open")[0]
			var ms int
			if _, err := fmt.Sscanf(f.retry, "%d", &ms); err != nil || ms < 500 || ms >= 3000 {
				t.Errorf("retry %q, want 500 to 2999", f.retry)
			}
			seen[f.retry] = true
		}
		if len(seen) < 16 { // the chance of that is nil
			t.Errorf("of 32 streams only %d have a retry of their own", len(seen))
		}
		if f := h.stream(streamPath+"?topics=all&after=0", "Accept", "application/x-ndjson").is("open")[0]; f.retry != "" {
			t.Errorf("NDJSON has a retry: %+v", f)
		}
	})
}

// TestStreamLongHistory: ten thousand events from the log, then live, each once and in order. It is on the engine that servers
// have, in real time.
func TestStreamLongHistory(t *testing.T) {
	const n = 10_000
	store, err := pebblestore.Open("", pebblestore.Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feed.Close() })
	api, err := web.New(feed, web.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h := (&server{t: t, feed: feed, api: api}).host()
	insert := func(from, to int64) {
		var mails []*killfeed.Killmail
		for id := from; id <= to; id++ {
			m := storetest.Mail{ID: id, System: jita, NoHash: true}
			mails = append(mails, m.Killmail())
		}
		if _, err := feed.InsertAll(t.Context(), mails, 0); err != nil {
			t.Fatal(err)
		}
	}
	insert(1, n)
	for i, accept := range []string{"text/event-stream", "application/x-ndjson"} {
		s := h.request("GET", streamPath+"?systems=30000142&after=0", "", "Accept", accept)
		s.RequestURI, s.URL.Scheme, s.URL.Host = "", "http", "memory"
		res, err := h.client.Do(s)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(res.Body)
		next := func() string {
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if _, rest, ok := strings.Cut(line, `"event_id":`); ok {
					id, _, _ := strings.Cut(rest, ",")
					return id
				}
			}
		}
		for id := 1; id <= n+i; id++ {
			if got := next(); got != fmt.Sprint(id) {
				t.Fatalf("%s: there came %s, want %d", accept, got, id)
			}
		}
		insert(int64(n+i+1), int64(n+i+1))
		if got := next(); got != fmt.Sprint(n+i+1) {
			t.Fatalf("%s: there came %s live, want %d", accept, got, n+i+1)
		}
		res.Body.Close()
	}
}

// TestStreamMetrics: what is open shows, and why it is not.
func TestStreamMetrics(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		shows := func(want ...string) {
			t.Helper()
			text := "\n" + string(h.get("/metrics").want(200).body)
			for _, w := range want {
				if !strings.Contains(text, "\n"+w+"\n") {
					t.Errorf("no %s", w)
				}
			}
		}
		a := h.stream(streamPath + "?topics=all")
		b := h.stream(streamPath+"?topics=all", "Accept", "application/x-ndjson")
		a.is("open")
		b.is("open")
		shows(`killfeed_connections{transport="sse"} 1`, `killfeed_connections{transport="ndjson"} 1`, `killfeed_subscriptions 2`)
		var status struct{ Connections, Subscriptions int }
		if h.get("/api/status").want(200).into(&status); status.Connections != 2 || status.Subscriptions != 2 {
			t.Errorf("status shows %+v, want 2 and 2", status)
		}
		a.leave()
		b.leave()
		synctest.Wait()
		shows(`killfeed_connections{transport="sse"} 0`, `killfeed_connections{transport="ndjson"} 0`, `killfeed_subscriptions 0`,
			`killfeed_connections_closed_total{code="0",transport="sse"} 1`,
			`killfeed_http_requests_total{code="200",route="GET /api/killfeed/stream"} 2`)
		// How long a stream lived is not the time of an answer.
		shows(`killfeed_http_request_duration_seconds_count{code="200",route="GET /api/killfeed/stream"} 0`)
	})
}

// TestStreamLimits: who is not let in is told when to come back, and a place becomes free when a client leaves.
func TestStreamLimits(t *testing.T) {
	hosted(t, func(t *testing.T, h *host) {
		later := func(s *streaming, status int) {
			t.Helper()
			if s.res.StatusCode != status || s.res.Header.Get("Retry-After") == "" || s.res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("status %d, Retry-After %q, %s; want %d and a time", s.res.StatusCode, s.res.Header.Get("Retry-After"), s.res.Header.Get("Content-Type"), status)
			}
		}
		a := h.stream(streamPath + "?topics=all")
		h.stream(streamPath + "?topics=all").is("open")
		later(h.stream(streamPath+"?topics=all"), http.StatusServiceUnavailable)
		a.leave()
		synctest.Wait()
		c := h.stream(streamPath + "?topics=all")
		c.is("open")
		c.leave()
		synctest.Wait()
		for range 3 { // refused ones do not count
			h.stream(streamPath + "?topics=all&start=x")
		}
		d := h.stream(streamPath + "?topics=all") // the fourth in no time
		d.is("open")
		d.leave()
		synctest.Wait()
		later(h.stream(streamPath+"?topics=all"), http.StatusTooManyRequests)
		time.Sleep(time.Second)
		h.stream(streamPath + "?topics=all").is("open")
		text := string(h.get("/metrics").body)
		for _, want := range []string{`killfeed_connections_refused_total{reason="full"} 1`, `killfeed_connections_refused_total{reason="too_fast"} 1`} {
			if !strings.Contains(text, want) {
				t.Errorf("no %s", want)
			}
		}
	}, func(o *serverOptions) { o.config.MaxConnections, o.config.ConnectRate = 2, 2 })
}
