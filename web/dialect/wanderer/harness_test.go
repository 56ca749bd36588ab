package wanderer_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"killfeed"
	"killfeed/ingest/standin"
	"killfeed/names"
	"killfeed/storetest"
	"killfeed/web"
	"killfeed/web/dialect/wanderer"
)

const (
	jita      = 30000142
	perimeter = 30000144
	amarr     = 30002187
)

// server is a server of the dialect on a network in memory, in a bubble of synctest.
type server struct {
	t      *testing.T
	model  *storetest.Model
	feed   *killfeed.Feed
	api    *web.API
	pipe   *standin.Pipe
	client *http.Client
	stop   func()
	last   int64 // killmail id
	log    *strings.Builder
}

// in runs a test in a bubble, against a server with an empty log.
func in(t *testing.T, test func(s *server)) {
	synctest.Test(t, func(t *testing.T) { test(open(t, storetest.NewModel(), wanderer.Options{})) })
}

func open(t *testing.T, model *storetest.Model, o wanderer.Options) *server {
	t.Helper()
	book, err := names.Open("", names.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := openWith(t, model, book, o)
	s.model = model
	return s
}

// openWith is open with any store and names.
func openWith(t *testing.T, store killfeed.Store, book *names.Book, o wanderer.Options) *server {
	t.Helper()
	s := &server{t: t, pipe: standin.NewPipe(), last: 1000, log: &strings.Builder{}}
	var err error
	if s.feed, err = killfeed.Open(store, killfeed.Options{}); err != nil {
		t.Fatal(err)
	}
	book.Learn(map[uint32]names.Entry{
		jita:      {Category: names.System, Name: "Jita"},
		2100000:   {Category: names.Character, Name: `Ann "the" Pilot`},
		98000001:  {Category: names.Corporation, Name: "Corp & Co", Ticker: "C&C"},
		99000001:  {Category: names.Alliance, Name: "Allies", Ticker: "ALLY"},
		670:       {Category: names.Type, Name: "Capsule"},
		90000002:  {Category: names.Character, Name: "Bob"},
		500003:    {Category: names.Faction, Name: "Amarr Empire"},
		perimeter: {Category: names.System, Name: "Perimeter"},
	})
	logger := slog.New(slog.NewTextHandler(s.log, nil))
	if s.api, err = web.New(s.feed, web.Config{Names: book, Version: "test", Logger: logger}); err != nil {
		t.Fatal(err)
	}
	o.Logger = logger
	if err := wanderer.Mount(s.api, s.feed, o); err != nil {
		t.Fatal(err)
	}
	serving := web.NewServer(s.api, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ran, served := make(chan error, 1), make(chan error, 1)
	go func() { ran <- s.api.Run(ctx) }()
	go func() { served <- serving.Serve(s.pipe) }()
	s.client = &http.Client{Transport: &http.Transport{DialContext: s.pipe.DialContext, DisableCompression: true}}
	stopped := false
	s.stop = func() {
		if stopped {
			return
		}
		stopped = true
		if left := s.api.Drain(context.Background(), 0); left != 0 {
			t.Errorf("%d connections have not ended", left)
		}
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		s.client.CloseIdleConnections()
		if err := serving.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
		if err := s.feed.Close(); err != nil {
			t.Error(err)
		}
		if n := s.feed.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
		if strings.Contains(s.log.String(), "panic") {
			t.Errorf("something panicked:\n%s", s.log)
		}
	}
	t.Cleanup(s.stop)
	return s
}

// restart ends the server and opens another one on the same log.
func (s *server) restart() *server {
	s.t.Helper()
	s.stop()
	next := open(s.t, s.model.Reopen(), wanderer.Options{})
	next.last = s.last
	return next
}

// mail is a killmail of now in a system.
func (s *server) mail(system uint32) storetest.Mail {
	s.last++
	return storetest.Mail{
		ID: s.last, System: system, Time: time.Now().Truncate(time.Second), ZKB: true,
		Victim:    storetest.Party{Character: 2100000, Corporation: 98000001, Ship: 670, Damage: 470},
		Attackers: []storetest.Party{{Character: 90000002, Corporation: 98000001, Alliance: 99000001, Ship: 17726, Damage: 470, FinalBlow: true}},
	}
}

// insert puts killmails in, and returns the last event's id.
func (s *server) insert(mails ...storetest.Mail) (last killfeed.EventID) {
	s.t.Helper()
	for i := range mails {
		last = s.put(mails[i].Killmail(), 0)
	}
	return last
}

func (s *server) put(k *killfeed.Killmail, marks killfeed.Marks) killfeed.EventID {
	s.t.Helper()
	res, err := s.feed.InsertAll(context.Background(), []*killfeed.Killmail{k}, marks)
	if err != nil {
		s.t.Fatal(err)
	}
	return res[0].EventID
}

// kill puts a killmail of now into each of the systems.
func (s *server) kill(systems ...uint32) (ids []int64) {
	s.t.Helper()
	for _, system := range systems {
		m := s.mail(system)
		s.insert(m)
		ids = append(ids, m.ID)
	}
	return ids
}

func (s *server) cursor(id killfeed.EventID) string {
	return killfeed.Cursor{After: id, Epoch: s.feed.State().Epoch}.String()
}

// do sends a request and returns status and body.
func (s *server) do(method, target, body string, headers ...string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, "http://memory"+target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if res.Header.Get("Access-Control-Allow-Origin") != "*" {
		s.t.Errorf("%s %s: no page of another site may read the answer", method, target)
	}
	return res.StatusCode, string(text)
}

// talker is a client of the channel over a WebSocket. All that comes is read at once.
type talker struct {
	s     *server
	conn  *websocket.Conn
	reads chan string
	ended chan struct{}
}

func (s *server) dial(query string) *talker {
	s.t.Helper()
	conn, _, err := websocket.Dial(context.Background(), "ws://memory/socket/websocket?"+query, &websocket.DialOptions{HTTPClient: s.client})
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetReadLimit(1 << 26)
	t := &talker{s: s, conn: conn, reads: make(chan string, 1<<16), ended: make(chan struct{})}
	s.t.Cleanup(func() { conn.CloseNow() })
	return t
}

// listen reads from here on.
func (t *talker) listen() *talker {
	go func() {
		defer close(t.ended)
		for {
			_, text, err := t.conn.Read(context.Background())
			if err != nil {
				return
			}
			t.reads <- string(text)
		}
	}()
	return t
}

func (t *talker) send(frame string) {
	t.s.t.Helper()
	if err := t.conn.Write(context.Background(), websocket.MessageText, []byte(frame)); err != nil {
		t.s.t.Fatal(err)
	}
}

// frame is a frame of either version.
type frame struct {
	joinRef, ref, Topic, Event string
	Payload                    json.RawMessage
}

// take returns all that has come.
func (t *talker) take() (frames []frame) {
	t.s.t.Helper()
	synctest.Wait()
	for {
		select {
		case text := <-t.reads:
			frames = append(frames, parse(t.s.t, text))
		default:
			return frames
		}
	}
}

// parse reads a frame. What is echoed is kept as it is written.
func parse(t *testing.T, text string) (f frame) {
	t.Helper()
	var err error
	if text[0] == '[' {
		var parts [5]json.RawMessage
		err = json.Unmarshal([]byte(text), &parts)
		f.joinRef, f.ref, f.Payload = string(parts[0]), string(parts[1]), parts[4]
		err = errors.Join(err, json.Unmarshal(parts[2], &f.Topic), json.Unmarshal(parts[3], &f.Event))
	} else {
		var o struct {
			Topic, Event string
			Ref          json.RawMessage
			Payload      json.RawMessage
		}
		err = json.Unmarshal([]byte(text), &o)
		f = frame{"", string(o.Ref), o.Topic, o.Event, o.Payload}
	}
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return f
}

// payload is what is in pushes and replies.
type payload struct {
	Status   string
	Response struct {
		SubscriptionID string   `json:"subscription_id"`
		Systems        []uint32 `json:"subscribed_systems"`
		Characters     []uint32 `json:"subscribed_characters"`
		Ignored        []int64  `json:"ignored_characters"`
		Status         string
		Reason         string
		Message        string
		Cursor         string
		UserID         string `json:"user_id"`
		ConnectedAt    string `json:"connected_at"`
		Gap            *killfeed.Gap
	}
	System    uint32 `json:"system_id"`
	Killmails []struct {
		ID int64 `json:"killmail_id"`
	}
	Timestamp string
	Preload   *bool
	Cursor    string
	Count     *int
	Total     *int `json:"total_kills"`
	Processed *int `json:"systems_processed"`
	Reason    string
	From, To  killfeed.EventID
}

func (f frame) payload(t *testing.T) (p payload) {
	t.Helper()
	if err := json.Unmarshal(f.Payload, &p); err != nil {
		t.Fatalf("%s: %v", f.Payload, err)
	}
	return p
}

// heard is what pushes say, taken together.
type heard struct {
	preloaded, live []int64
	counts          map[uint32]int // the last
	cursor          string
	events          []string // of all frames, in order
	total           int
	gap             *payload
	replies         []payload
}

func (t *talker) hear() heard {
	t.s.t.Helper()
	h := heard{counts: map[uint32]int{}}
	for _, f := range t.take() {
		p := f.payload(t.s.t)
		h.events = append(h.events, f.Event)
		switch f.Event {
		case "killmail_update":
			if p.Preload == nil || p.Timestamp == "" || p.System == 0 {
				t.s.t.Fatalf("a killmail_update lacks something: %s", f.Payload)
			}
			for _, k := range p.Killmails {
				if *p.Preload {
					h.preloaded = append(h.preloaded, k.ID)
				} else {
					h.live = append(h.live, k.ID)
				}
			}
			if !*p.Preload {
				h.cursor = p.Cursor
			}
		case "kill_count_update":
			if p.Count == nil || p.System == 0 || p.Timestamp == "" {
				t.s.t.Fatalf("a kill_count_update lacks something: %s", f.Payload)
			}
			h.counts[p.System] = *p.Count
		case "preload_complete":
			h.total = *p.Total
		case "gap":
			h.gap = &p
		case "phx_reply":
			h.replies = append(h.replies, p)
		}
	}
	return h
}
