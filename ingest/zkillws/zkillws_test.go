package zkillws_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/ingest/zkillws"
	"killfeed/storetest"
)

const agent = "killfeed/test (test@example.com)"

// now is a time at which ESI's pinned compatibility date is not in the future. The clock of a bubble begins at 2000.
var now = time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC)

// mails makes killmails up.
func mails(n int) []standin.Mail {
	maker := storetest.NewMaker(storetest.MakerOptions{Start: now.Add(-time.Hour), Every: time.Second, Attackers: 2, Bytes: 900, Bare: true})
	all := make([]standin.Mail, n)
	for i := range all {
		m := maker.NextMail()
		m.NoHash = true
		all[i] = standin.Mail{ID: m.ID, Hash: m.Hash(), ESI: m.AppendJSON(nil)}
	}
	return all
}

// site is a websocket's server, and a feed that follows it. It is for tests in a bubble.
type site struct {
	t      *testing.T
	config zkillws.Config
	bodies *esi.Client
	feed   *killfeed.Feed
	in     *ingest.Intake
	log    bytes.Buffer
	cancel context.CancelFunc
	ended  chan error
}

// open serves h and follows it. It ends with the test, after closing, which must end what h still does.
func open(t *testing.T, h http.Handler, closing func(), channels ...string) *site {
	t.Helper()
	time.Sleep(time.Until(now))
	pipe := standin.NewPipe()
	serving := &http.Server{Handler: h}
	var ended sync.WaitGroup
	ended.Go(func() { serving.Serve(pipe) })
	transport := &http.Transport{DialContext: pipe.DialContext, DisableCompression: true}
	client, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Header: esi.Header(), Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, config: zkillws.Config{
		URL: "ws://zkb.example/websocket/", Channels: channels, UserAgent: agent, Transport: transport,
	}}
	if s.bodies, err = esi.New(client, esi.Config{URL: "http://esi.example"}); err != nil {
		t.Fatal(err)
	}
	if s.feed, err = killfeed.Open(storetest.NewModel(), killfeed.Options{}); err != nil {
		t.Fatal(err)
	}
	source, err := zkillws.New(s.bodies, s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.in = ingest.NewIntake(s.feed, "zkillws", false, slog.New(slog.NewTextHandler(&s.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.ended = cancel, make(chan error, 1)
	go func() { s.ended <- s.in.Run(ctx, source) }()
	t.Cleanup(func() {
		cancel()
		if err := <-s.ended; err != nil {
			t.Errorf("the source ended with %v", err)
		}
		s.feed.Close()
		transport.CloseIdleConnections()
		closing()
		serving.Close()
		ended.Wait()
		synctest.Wait()
	})
	synctest.Wait()
	return s
}

func openStandin(t *testing.T, c standin.Config, channels ...string) (*standin.Server, *site) {
	t.Helper()
	time.Sleep(time.Until(now))
	c.Pace = standin.Pace{Hold: true}
	server, err := standin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return server, open(t, server.Handler(), server.Close, channels...)
}

// ids are the killmail ids in the feed.
func (s *site) ids() map[int64]int {
	s.t.Helper()
	all := map[int64]int{}
	for id := killfeed.EventID(1); id <= s.feed.State().Head; id++ {
		e, err := s.feed.Event(id)
		if err != nil {
			s.t.Fatal(err)
		}
		all[e.KillmailID]++
	}
	return all
}

func TestKillstream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(50)
		server, s := openStandin(t, standin.Config{Mails: all})
		for range all {
			server.Publish(1)
			sleep(20 * time.Second)
		}
		st := s.in.Status()
		if st.State != ingest.Following || st.Inserted != 50 || st.Bad != 0 || st.LastError != "" {
			t.Errorf("status %+v", st)
		}
		for i, m := range all {
			if e, err := s.feed.Event(killfeed.EventID(i + 1)); err != nil || e.KillmailID != m.ID || e.Marks != 0 ||
				!bytes.HasPrefix(e.Killmail, m.ESI[:len(m.ESI)-1]) {
				t.Errorf("event %d: %s, %v", i+1, e.Killmail, err)
			}
		}
		if got := server.Stats(); got.NoContact != 0 || got.Requests[standin.KindSocket][101] != 1 {
			t.Errorf("no contact %d, requests %v", got.NoContact, got.Requests)
		}
	})
}

// Without drops nothing is lost; after a drop the next message comes over a new connection. Silence is a drop.
func TestReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(40)
		server, s := openStandin(t, standin.Config{Mails: all})
		publish := func(n int) {
			for range n {
				server.Publish(1)
				sleep(10 * time.Second)
			}
		}
		publish(10)
		if n := server.DropSockets(); n != 1 {
			t.Fatalf("%d connections", n)
		}
		synctest.Wait()
		if st := s.in.Status(); st.State != ingest.Waiting || st.LastError == "" {
			t.Errorf("status %+v", st)
		}
		sleep(3 * time.Second)
		publish(10)
		if st := s.in.Status(); st.Inserted != 20 || st.State != ingest.Following {
			t.Errorf("after a drop: %+v", st)
		}
		// Silent for ever, though the connection stays open and answers pings.
		if err := server.SetFault(standin.SocketSilent, standin.Strike{Next: 1}); err != nil {
			t.Fatal(err)
		}
		publish(10)
		if st := s.in.Status(); st.Inserted != 20 {
			t.Errorf("in silence: %+v", st)
		}
		sleep(10 * time.Minute)
		if st := s.in.Status(); !strings.Contains(st.LastError, "nothing came for 10m") {
			t.Errorf("after silence: %+v", st)
		}
		publish(10)
		if st := s.in.Status(); st.Inserted != 30 || st.State != ingest.Following {
			t.Errorf("after silence: %+v", st)
		}
	})
}

// A server that refuses, or takes connections and drops them at once, is not asked in a busy loop.
func TestRefusals(t *testing.T) {
	drop := func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			c.CloseNow()
		}
	}
	for name, h := range map[string]http.HandlerFunc{
		"403":     func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"200":     func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
		"dropped": drop,
		"hang":    func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"429 with Retry-After": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "120")
			w.WriteHeader(http.StatusTooManyRequests)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				requests := 0
				s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					requests++
					h(w, r)
				}), func() {})
				sleep(2 * time.Hour)
				most := 240
				if name == "403" || name == "429 with Retry-After" {
					most = 2 * 60 * 60 / 30
				}
				if requests > most || requests < 5 {
					t.Errorf("%d requests in two hours", requests)
				}
				if st := s.in.Status(); st.State != ingest.Waiting || st.LastError == "" || st.Degraded == nil {
					t.Errorf("status %+v", st)
				}
			})
		})
	}
}

// serve is a websocket that sends messages to whoever has subscribed, and then is silent.
func serve(t *testing.T, messages ...[]byte) (h http.Handler, closing func()) {
	ctx, cancel := context.WithCancel(context.Background())
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.CloseNow()
		if r.Header.Get("User-Agent") != agent {
			t.Errorf("user agent %q", r.Header.Get("User-Agent"))
		}
		if _, sub, err := c.Read(ctx); err != nil || string(sub) != `{"action":"sub","channel":"killstream"}` {
			t.Errorf("subscription %s, %v", sub, err)
			return
		}
		for _, m := range messages {
			if err := c.Write(ctx, websocket.MessageText, m); err != nil {
				t.Errorf("sending %.60s: %v", m, err)
			}
		}
		c.Read(ctx) // answers pings
	}), cancel
}

func TestMessages(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "wire")
	capture := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("the captures are not here: %v", err)
		}
		return bytes.TrimSpace(data)
	}
	good := `{"killmail_id":5,"killmail_time":"2026-01-01T00:00:00Z","solar_system_id":30000142,"victim":{"ship_type_id":670},"attackers":[],` +
		`"zkb":{"url":"https:\/\/zkillboard.com\/kill\/5\/"}}`
	for _, test := range []struct {
		name          string
		message       []byte
		inserted, bad uint64
	}{
		{"2022, escaped slashes", capture("ws_killstream_2022.json"), 1, 0},
		{"2023", capture("ws_killstream_2023.json"), 1, 0},
		{"escaped slashes", []byte(good), 1, 0},
		{"littlekill that ESI does not know", capture("ws_littlekill.json"), 0, 1},
		{"littlekill without a hash", []byte(`{"action":"littlekill","killID":70314568,"channel":"all:*"}`), 0, 1},
		{"state of the server", []byte(`{"action":"tqStatus","tqStatus":"ONLINE","tqCount":23456,"kills":1}`), 0, 0},
		{"bigkill", []byte(`{"action":"bigkill","title":"x"}`), 0, 0},
		{"not UTF-8", []byte(strings.Replace(good, "30000142,", "30000142,\"x\":\"\xff\",", 1)), 0, 1},
		{"not JSON", []byte(`hello`), 0, 1},
		{"no killmail", []byte(`{}`), 0, 1},
		{"array", []byte(`[]`), 0, 1},
		{"large", []byte(strings.Replace(good, "30000142,", `30000142,"x":"`+strings.Repeat("a", 1<<20)+`",`, 1)), 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, closing := serve(t, test.message)
				esiOrSocket := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Host == "esi.example" {
						http.Error(w, `{"error":"Killmail not found"}`, http.StatusNotFound)
						return
					}
					h.ServeHTTP(w, r)
				})
				s := open(t, esiOrSocket, closing)
				sleep(time.Second)
				if st := s.in.Status(); st.Inserted != test.inserted || st.Bad != test.bad || st.State != ingest.Following {
					t.Errorf("status %+v; log %s", st, &s.log)
				}
				if test.name == "littlekill without a hash" && !strings.Contains(s.log.String(), "August 2025") {
					t.Errorf("the log does not say why: %s", &s.log)
				}
			})
		})
	}
}

// A message beyond the limit ends the connection, and no more.
func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		s := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			c.Read(ctx)
			c.Write(ctx, websocket.MessageText, make([]byte, 3<<20))
			c.Read(ctx)
		}), cancel)
		sleep(20 * time.Second) // closing takes a while when the other end only writes
		if st := s.in.Status(); !strings.Contains(st.LastError, "limit") {
			t.Errorf("status %+v", st)
		}
	})
}

// littlekill messages with a hash become killmails by way of ESI, each once though it is on several channels, and through
// ESI's limits and faults.
func TestLittlekill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(60)
		time.Sleep(time.Until(now))
		server, err := standin.New(standin.Config{Mails: all, ESI: standin.ESIConfig{Tokens: 60, Window: time.Minute},
			Faults: standin.Faults{standin.ServerError: {Chance: 0.3, Kinds: []standin.Kind{standin.KindESI}}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "esi.example" {
				server.Handler().ServeHTTP(w, r)
				return
			}
			c, err := websocket.Accept(w, r, nil)
			if err != nil {
				return
			}
			defer c.CloseNow()
			for range 2 {
				c.Read(ctx)
			}
			for _, m := range all {
				for _, ch := range []string{"all:*", "label:all"} {
					c.Write(ctx, websocket.MessageText, fmt.Appendf(nil,
						`{"action":"littlekill","killID":%d,"hash":"%s","url":"https:\/\/x\/","channel":"%s"}`, m.ID, m.Hash, ch))
				}
			}
			c.Read(ctx)
		})
		s := open(t, h, func() { cancel(); server.Close() }, "all:*", "label:all")
		sleep(9 * time.Minute)
		got := s.ids()
		for _, m := range all {
			if got[m.ID] != 1 {
				t.Errorf("killmail %d is there %d times", m.ID, got[m.ID])
			}
		}
		st := server.Stats()
		if st.Requests[standin.KindESI][200] != 60 || st.ESI.Overspent != 0 || s.in.Status().Bad != 0 {
			t.Errorf("requests %v, tokens overspent %d, status %+v", st.Requests[standin.KindESI], st.ESI.Overspent, s.in.Status())
		}
	})
}

func TestNew(t *testing.T) {
	for _, bad := range []zkillws.Config{
		{}, {UserAgent: agent, URL: "ftp://x"}, {UserAgent: agent, URL: "x"}, {UserAgent: agent, Channels: []string{""}},
		{UserAgent: agent, Channels: make([]string, 101)},
	} {
		if _, err := zkillws.New(nil, bad); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

// sleep lets time pass, and then everything come to rest.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
