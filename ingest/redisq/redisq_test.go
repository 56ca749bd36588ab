package redisq_test

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

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/esi"
	"killfeed/ingest/redisq"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
)

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

// site is a service, and a feed that follows it. It is for tests in a bubble.
type site struct {
	t         *testing.T
	server    *standin.Server
	transport http.RoundTripper
	client    *upstream.Client
	bodies    *esi.Client
	config    redisq.Config

	store  *storetest.Model
	feed   *killfeed.Feed
	in     *ingest.Intake
	log    bytes.Buffer
	cancel context.CancelFunc
	ended  chan error
}

func open(t *testing.T, c standin.Config) *site {
	t.Helper()
	time.Sleep(time.Until(now))
	server, err := standin.New(c)
	if err != nil {
		t.Fatal(err)
	}
	pipe := standin.NewPipe()
	serving := &http.Server{Handler: server.Handler()}
	var ended sync.WaitGroup
	ended.Go(func() { serving.Serve(pipe) })
	transport := &http.Transport{DialContext: pipe.DialContext, DisableCompression: true}
	s := newSite(t, transport)
	s.server = server
	t.Cleanup(func() {
		s.stop()
		transport.CloseIdleConnections()
		server.Close()
		serving.Close()
		ended.Wait()
		synctest.Wait()
	})
	return s
}

// newSite makes a site without a stand-in.
func newSite(t *testing.T, transport http.RoundTripper) *site {
	t.Helper()
	s := &site{
		t: t, transport: transport, store: storetest.NewModel(), config: redisq.Config{URL: "http://redisq.example/listen.php"},
	}
	clientOf := func(h http.Header) *upstream.Client {
		c, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Header: h, Transport: transport})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s.client = clientOf(nil)
	var err error
	if s.bodies, err = esi.New(clientOf(esi.Header()), esi.Config{URL: "http://esi.example"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) start() {
	s.t.Helper()
	var err error
	if s.feed, err = killfeed.Open(s.store, killfeed.Options{}); err != nil {
		s.t.Fatal(err)
	}
	source, err := redisq.New(s.client, s.bodies, s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.in = ingest.NewIntake(s.feed, "redisq", false, slog.New(slog.NewTextHandler(&s.log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	s.cancel, s.ended = cancel, ended
	go func() { ended <- s.in.Run(ctx, source) }()
}

func (s *site) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	<-s.ended
	s.feed.Close()
	s.store = s.store.Reopen()
	s.cancel = nil
}

// has checks that the feed has exactly these killmails, in this order.
func (s *site) has(want []standin.Mail) {
	s.t.Helper()
	st := s.feed.State()
	if int(st.Head) != len(want) {
		s.t.Errorf("%d events, want %d; status %+v", st.Head, len(want), s.in.Status())
		return
	}
	for i, m := range want {
		e, err := s.feed.Event(killfeed.EventID(i + 1))
		if err != nil {
			s.t.Fatal(err)
		}
		if e.KillmailID != m.ID || !bytes.HasPrefix(e.Killmail, m.ESI[:len(m.ESI)-1]) || !bytes.Contains(e.Killmail, []byte(m.Hash)) || e.Marks != 0 {
			s.t.Errorf("event %d is %s with marks %d, want killmail %d", e.ID, e.Killmail, e.Marks, m.ID)
		}
	}
}

// manners checks the stand-in's account.
func (s *site) manners() {
	s.t.Helper()
	st := s.server.Stats()
	if st.NoContact != 0 || st.BeforeRetryAfter != 0 || st.PeakByService[standin.ServiceRedisQ] > 2 ||
		st.ConcurrentByService[standin.ServiceRedisQ] > 1 {
		s.t.Errorf("no contact %d, before Retry-After %d, peak %v, at a time %v", st.NoContact, st.BeforeRetryAfter,
			st.PeakByService, st.ConcurrentByService)
	}
	if st.After403.Count > 0 && st.After403.Least < 30*time.Second {
		s.t.Errorf("asked again %v after a 403", st.After403.Least)
	}
}

func TestFollow(t *testing.T) {
	for _, redirect := range []bool{false, true} {
		for _, bare := range []bool{false, true} {
			t.Run(fmt.Sprintf("redirect %t, without killmail %t", redirect, bare), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					all := mails(120)
					s := open(t, standin.Config{
						Mails: all, Pace: standin.Pace{Hold: true}, RedisQ: standin.RedisQConfig{Redirect: redirect, NoKillmail: bare},
					})
					s.start()
					sleep(time.Minute) // nothing there: polls that wait
					s.server.Publish(20)
					sleep(2 * time.Minute)
					if got := s.in.Status(); got.State != ingest.Following || got.Inserted != 20 {
						t.Errorf("status %+v", got)
					}
					// Off for two hours: the queue keeps what comes.
					place, _ := s.in.Place()
					s.stop()
					synctest.Wait() // until the service has seen it: what it hands to who has just left is lost
					s.server.Publish(100)
					sleep(2 * time.Hour)
					s.start()
					sleep(5 * time.Minute)
					if again, _ := s.in.Place(); again != place || !strings.HasPrefix(place, `{"queue":"killfeed-`) {
						t.Errorf("place %s, before %s", again, place)
					}
					s.has(all)
					s.manners()
				})
			})
		}
	}
}

// A killmail whose body is awaited outlives the process.
func TestPendingSurvives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := mails(3)
		s := open(t, standin.Config{
			Mails: all, Pace: standin.Pace{Hold: true}, RedisQ: standin.RedisQConfig{NoKillmail: true},
			Faults: standin.Faults{standin.ServerError: {Chance: 1, Kinds: []standin.Kind{standin.KindESI}}},
		})
		s.config.QueueID = "mine"
		s.start()
		sleep(time.Second)
		s.server.Publish(1)
		sleep(20 * time.Minute)
		if st := s.in.Status(); st.Degraded == nil || !strings.Contains(st.LastError, "ESI") {
			t.Errorf("status %+v: want it to say that ESI does not answer", st)
		}
		if place, _ := s.in.Place(); !strings.Contains(place, fmt.Sprintf(`{"queue":"mine","pending":{"package":{"killID":%d`, all[0].ID)) {
			t.Errorf("place %s", place)
		}
		store := s.store.Reopen() // kill -9
		s.stop()
		s.store = store
		synctest.Wait()
		s.server.ClearFaults()
		s.server.Publish(2)
		s.start()
		sleep(time.Minute)
		s.has(all)
		if place, _ := s.in.Place(); place != `{"queue":"mine"}` {
			t.Errorf("place %s", place)
		}
		s.manners()
	})
}

// Whatever the service does, it is asked politely, and all that it handed out whole arrives.
func TestMisbehaviour(t *testing.T) {
	listen := []standin.Kind{standin.KindListen}
	faults := map[string]standin.Faults{
		"429 with Retry-After": {standin.TooMany: {Chance: 0.2, Kinds: listen, RetryAfter: 7 * time.Second}},
		"429 without":          {standin.TooMany: {Chance: 0.2, Kinds: listen}},
		"403":                  {standin.Forbidden: {Chance: 0.05, Kinds: listen}},
		"503":                  {standin.ServerError: {Chance: 0.2, Kinds: listen}},
		"storm":                {standin.ServerError: {Next: 1, Kinds: listen, For: 10 * time.Minute}},
		"HTML":                 {standin.HTML: {Chance: 0.2, Kinds: listen}},
		"hang":                 {standin.Hang: {Chance: 0.1, Kinds: listen}},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := mails(100)
				s := open(t, standin.Config{Mails: all, Pace: standin.Pace{Hold: true}, RedisQ: standin.RedisQConfig{Redirect: true}})
				s.start()
				sleep(time.Second)
				for fault, strike := range f {
					if err := s.server.SetFault(fault, strike); err != nil {
						t.Fatal(err)
					}
				}
				for range all {
					s.server.Publish(1)
					sleep(3 * time.Second)
				}
				sleep(2 * time.Hour)
				s.has(all)
				s.manners()
				if len(s.server.Stats().Faults) == 0 {
					t.Error("no fault struck")
				}
			})
		})
	}
}

// A body that is refused, is damaged or is none is stepped over; the rest arrives.
func TestBad(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "data", "wire")
	captures := map[string]string{}
	for _, name := range []string{"redisq_2018_with_killmail.json", "redisq_2024_with_killmail.json", "redisq_null.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Skipf("the captures are not here: %v", err)
		}
		captures[name] = string(data)
	}
	answers := []struct {
		name, body    string
		inserted, bad uint64
		trouble       bool
	}{
		{"2018", captures["redisq_2018_with_killmail.json"], 1, 0, false},
		{"2024", captures["redisq_2024_with_killmail.json"], 1, 0, false},
		{"null", captures["redisq_null.json"], 0, 0, false},
		{"null with space", "{\n\"package\" : null }\n", 0, 0, false},
		{"ids 0", `{"package":{"killID":5,"killmail":{"killmail_id":5,"killmail_time":"2026-01-01T00:00:00Z","solar_system_id":30000142,` +
			`"victim":{"character_id":0,"alliance_id":0,"ship_type_id":670},"attackers":[{"final_blow":true,"character_id":0}]},"zkb":{}}}`, 1, 0, false},
		{"two ids", `{"package":{"killID":6,"killmail":{"killmail_id":5,"solar_system_id":30000142},"zkb":{}}}`, 0, 1, false},
		{"empty package", `{"package":{}}`, 0, 1, false},
		{"no hash", `{"package":{"killID":6,"zkb":{"points":1}}}`, 0, 1, false},
		{"unknown to ESI", `{"package":{"killID":6,"zkb":{"hash":"d2913bf8250db18456601a8ae061441e89ccadf3"}}}`, 0, 1, false},
		{"no package", `{"error":"x"}`, 0, 0, true},
		{"array", `[]`, 0, 0, true},
		{"not JSON", `{"package":`, 0, 0, true},
	}
	for _, answer := range answers {
		t.Run(answer.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				s := newSite(t, roundTripper(func(r *http.Request) *http.Response {
					switch {
					case r.URL.Host == "esi.example":
						return respond(r, http.StatusNotFound, `{"error":"Killmail not found"}`)
					case first:
						first = false
						return respond(r, http.StatusOK, answer.body)
					}
					<-r.Context().Done()
					return respond(r, http.StatusOK, `{"package":null}`)
				}))
				defer s.stop()
				s.start()
				sleep(time.Second / 2)
				st := s.in.Status()
				if st.Inserted != answer.inserted || st.Bad != answer.bad || (st.LastError != "") != answer.trouble {
					t.Errorf("status %+v; log %s", st, &s.log)
				}
			})
		})
	}
}

func TestNew(t *testing.T) {
	for _, bad := range []redisq.Config{{}, {URL: "x"}, {URL: "ftp://x"}, {URL: "http://x", QueueID: "a b"},
		{URL: "http://x", QueueID: "ä"}, {URL: "http://x", QueueID: strings.Repeat("a", 65)}} {
		if _, err := redisq.New(nil, nil, bad); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// sleep lets time pass, and then everything come to rest.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
