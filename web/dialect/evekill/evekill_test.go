package evekill_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/ingest/standin"
	"killfeed/storetest"
	"killfeed/web"
	"killfeed/web/dialect/evekill"
)

const (
	patience = 30 * time.Second

	jita, hek = 30000142, 30002053
)

// server is an API with the dialect, over a log in memory.
type server struct {
	t     testing.TB
	model *storetest.Model
	feed  *killfeed.Feed
	api   *web.API
	mails *storetest.Maker
	http  *httptest.Server
	stop  func()
}

func serve(t testing.TB, model *storetest.Model, u *killfeed.Universe, config ...web.Config) *server {
	t.Helper()
	s := &server{t: t, model: model, mails: storetest.NewMaker(storetest.MakerOptions{Attackers: 2})}
	var err error
	if s.feed, err = killfeed.Open(model, killfeed.Options{}); err != nil {
		t.Fatal(err)
	}
	s.feed.SetUniverse(u)
	if s.api, err = web.New(s.feed, append(config, web.Config{})[0]); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	if err := evekill.Mount(s.api, s.feed, evekill.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	s.http = httptest.NewServer(s.api)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.api.Run(ctx) })
	s.stop = sync.OnceFunc(func() {
		if left := s.api.Drain(ctx, 0); left != 0 {
			t.Errorf("%d connections have not ended", left)
		}
		cancel()
		running.Wait()
		s.http.Close()
		if n := s.feed.Stats().Subscriptions; n != 0 {
			t.Errorf("%d subscriptions are left", n)
		}
		if err := s.feed.Close(); err != nil {
			t.Errorf("closing the feed: %v", err)
		}
		if log.Len() > 0 {
			t.Errorf("the log says %s", &log)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// restart is the next process with the same log.
func (s *server) restart() *server {
	s.stop()
	next := serve(s.t, s.model.Reopen(), s.feed.Universe())
	next.mails = s.mails
	return next
}

// insert inserts a killmail of any shape.
func (s *server) insert(marks killfeed.Marks, item []byte) killfeed.EventID {
	s.t.Helper()
	k, err := killfeed.ParseItem(item)
	if err != nil {
		s.t.Fatal(err)
	}
	res, err := s.feed.InsertAll(context.Background(), []*killfeed.Killmail{k}, marks)
	if err != nil {
		s.t.Fatal(err)
	}
	return res[0].EventID
}

// kill inserts made-up killmails in systems, and returns the last of them.
func (s *server) kill(systems ...uint32) (m storetest.Mail) {
	s.t.Helper()
	for _, system := range systems {
		m = s.mails.NextMail()
		m.System = system
		s.insert(0, m.AppendJSON(nil))
	}
	return m
}

// page is an answer to a poll, as its readers see it.
type page struct {
	Data []struct {
		Seq  int64           `json:"seq"`
		ID   int64           `json:"killmail_id"`
		Hash *string         `json:"killmail_hash"`
		Data json.RawMessage `json:"data"`
	} `json:"data"`
	Latest     *int64 `json:"latest"`
	HasMore    bool   `json:"hasMore"`
	Next, Last string
	gap        string
}

func (s *server) get(path string) (status int, header http.Header, body []byte) {
	s.t.Helper()
	res, err := http.Get(s.http.URL + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, res.Header, body
}

func (s *server) poll(query string) (p page) {
	s.t.Helper()
	status, header, body := s.get("/api/feed/poll?" + query)
	if err := json.Unmarshal(body, &p); err != nil || status != http.StatusOK {
		s.t.Fatalf("%s: %d, %v in %s", query, status, err, body)
	}
	if header.Get("Cache-Control") != "no-cache" || header.Get("Access-Control-Allow-Origin") != "*" || header.Get("Content-Type") != "application/json" {
		s.t.Errorf("%s: the header is %v", query, header)
	}
	p.gap = header.Get("Killfeed-Gap")
	return p
}

func (p page) seqs() []int64 {
	all := []int64{}
	for _, e := range p.Data {
		all = append(all, e.Seq)
	}
	return all
}

// TestPoll: each kind of cursor, byte by byte where it matters.
func TestPoll(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	for _, query := range []string{"", "?after=0", "?after=0&limit=7"} {
		limit := "100"
		if strings.Contains(query, "7") {
			limit = "7"
		}
		want := `{"data":[],"latest":null,"hasMore":false,"next":"/feed/poll?after=0&limit=` + limit + `","last":"/feed/poll?after=1&limit=` + limit + `"}`
		if _, _, body := s.get("/api/feed/poll" + query); string(body) != want {
			t.Errorf("an empty log, %q: %s", query, body)
		}
	}
	m := s.mails.NextMail()
	m.System, m.ZKB = jita, true
	s.insert(0, m.AppendJSON(nil))
	s.kill(jita, hek, jita, jita)
	if _, _, body := s.get("/api/feed/poll?after=0"); string(body) !=
		`{"data":[],"latest":5,"hasMore":true,"next":"/feed/poll?after=5&limit=100","last":"/feed/poll?after=1&limit=100"}` {
		t.Errorf("the kick-start is answered with %s", body)
	}
	for _, c := range []struct {
		query      string
		seqs       []int64
		more       bool
		next, last string
	}{
		{"after=earliest", []int64{1, 2, 3, 4, 5}, false, "after=5&limit=100", "after=1&limit=100"},
		{"after=1", []int64{2, 3, 4, 5}, false, "after=5&limit=100", "after=1&limit=100"},
		{"after=1&limit=2", []int64{2, 3}, true, "after=3&limit=2", "after=3&limit=2"},
		{"after=3&limit=2", []int64{4, 5}, false, "after=5&limit=2", "after=3&limit=2"},
		{"after=5", []int64{}, false, "after=5&limit=100", "after=1&limit=100"},
		{"after=2-" + string(s.feed.State().Epoch), []int64{3, 4, 5}, false, "after=5&limit=100", "after=1&limit=100"},
		{"after=1&limit=0", []int64{2}, true, "after=2&limit=1", "after=4&limit=1"},
		{"after=1&limit=99999", []int64{2, 3, 4, 5}, false, "after=5&limit=1000", "after=1&limit=1000"},
		{"after=1&limit=many", []int64{2, 3, 4, 5}, false, "after=5&limit=100", "after=1&limit=100"},
	} {
		p := s.poll(c.query)
		if !slices.Equal(p.seqs(), c.seqs) || p.HasMore != c.more || p.Next != "/feed/poll?"+c.next || p.Last != "/feed/poll?"+c.last || *p.Latest != 5 || p.gap != "" {
			t.Errorf("%s: %v %+v", c.query, p.seqs(), p)
		}
	}
	e := s.poll("after=earliest&limit=1").Data[0]
	var body map[string]json.RawMessage
	if err := json.Unmarshal(e.Data, &body); err != nil {
		t.Fatal(err)
	}
	keys := slices.Sorted(maps.Keys(body))
	if e.ID != m.ID || *e.Hash != m.Hash() || string(body["killmail_hash"]) != `"`+m.Hash()+`"` || slices.Contains(keys, "zkb") || !slices.Contains(keys, "victim") {
		t.Errorf("the first is %+v with %s", e, e.Data)
	}
	for query, gap := range map[string]string{"after=99": "future", "after=1-00000000": "epoch"} {
		if p := s.poll(query); p.gap != gap || (len(p.Data) == 5) != (gap == "epoch") {
			t.Errorf("%s: gap %q, %v", query, p.gap, p.seqs())
		}
	}
	for _, query := range []string{"after=x", "after=-1", "after=1e3"} {
		if status, _, body := s.get("/api/feed/poll?" + query); status != 400 || !strings.HasPrefix(string(body), `{"error":"after is not accepted`) {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	if status, _, body := s.get("/feed/poll?after=4"); status != 200 || !strings.Contains(string(body), `{"seq":5,`) {
		t.Errorf("without /api: %d %s", status, body)
	}
}

// TestDurablePoller: a known client that keeps the last seq. It starts at the head, takes no page beyond its limit, and gives up on
// a page that says that there is more and has nothing newer.
func TestDurablePoller(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	s.kill(jita, hek)
	const limit = 10
	cursor := int64(0)
	if p := s.poll("after=0&limit=10"); len(p.Data) == 0 {
		cursor = *p.Latest
	}
	var want, got []int64
	for i := range 300 {
		m := s.mails.NextMail()
		switch {
		case i%3 == 0, i > 100 && i < 200: // history that is imported meanwhile
			s.insert(killfeed.MarkBackfill, m.AppendJSON(nil))
			continue
		case i%7 == 0:
			if _, err := s.feed.Insert(context.Background(), jita, []byte(`{"no":"id"}`)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		s.insert(0, m.AppendJSON(nil))
		want = append(want, m.ID)
		if i == 150 {
			s = s.restart()
		}
	}
	for {
		p := s.poll(fmt.Sprintf("after=%d&limit=%d", cursor, limit))
		if len(p.Data) > limit {
			t.Fatalf("%d on a page of %d", len(p.Data), limit)
		}
		before := cursor
		for _, e := range p.Data {
			if e.Seq <= cursor {
				t.Fatalf("seq %d behind %d", e.Seq, cursor)
			}
			cursor = e.Seq
			got = append(got, e.ID)
		}
		if p.HasMore && cursor == before {
			t.Fatal("there is more, and nothing newer")
		}
		if !p.HasMore {
			break
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := len(s.poll("after=2&limit=1000&backfill=1").Data); n <= len(want) {
		t.Errorf("with backfill=1 there are %d, want more than %d", n, len(want))
	}
}

// TestMuchHistory: imported history between two killmails is skipped, also when it is more than one look passes over.
func TestMuchHistory(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	first := s.kill(jita)
	batch := make([]*killfeed.Killmail, 0, 1000)
	for id := range 101_000 {
		k, err := killfeed.NewKillmail(hek, fmt.Appendf(nil, `{"killmail_id":%d}`, id+1))
		if err != nil {
			t.Fatal(err)
		}
		if batch = append(batch, k); len(batch) == cap(batch) {
			if _, err := s.feed.InsertAll(context.Background(), batch, killfeed.MarkBackfill); err != nil {
				t.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	last := s.kill(hek)
	p := s.poll("after=earliest&limit=1")
	if len(p.Data) != 1 || p.Data[0].ID != first.ID || !p.HasMore {
		t.Fatalf("the first page is %+v", p)
	}
	if p = s.poll("after=1&limit=1"); len(p.Data) != 1 || p.Data[0].ID != last.ID || p.HasMore {
		t.Errorf("the second page is %+v", p)
	}
}

func TestStatusAndIndex(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	if _, _, body := s.get("/api/feed/status"); string(body) != `{"status":"ok","clients":0,"latestSeq":null}` {
		t.Errorf("got %s", body)
	}
	s.kill(jita)
	c := s.open("")
	c.comments(2)
	if _, _, body := s.get("/feed/status"); string(body) != `{"status":"ok","clients":1,"latestSeq":1}` {
		t.Errorf("got %s", body)
	}
	var index struct {
		Endpoints map[string]any
		Topics    []string
	}
	_, _, body := s.get("/api/feed")
	if err := json.Unmarshal(body, &index); err != nil || len(index.Endpoints) != 3 || !slices.Contains(index.Topics, "victim.{id}") {
		t.Errorf("%v in %s", err, body)
	}
}

// client reads a stream.
type client struct {
	t     testing.TB
	lines chan string // closed at the end
	close func()
}

// open opens a stream. header is name, value…
func (s *server) open(query string, header ...string) *client {
	s.t.Helper()
	res := s.tryOpen(query, header...)
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		s.t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	c := &client{t: s.t, lines: make(chan string, 1<<16), close: func() { res.Body.Close() }}
	s.t.Cleanup(c.close)
	go func() {
		defer close(c.lines)
		for in := bufio.NewReader(res.Body); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			c.lines <- strings.TrimSuffix(line, "\n")
		}
	}()
	return c
}

func (s *server) tryOpen(query string, header ...string) *http.Response {
	s.t.Helper()
	r, err := http.NewRequest("GET", s.http.URL+"/api/feed/stream?"+query, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { res.Body.Close() })
	return res
}

func (c *client) line() string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the stream has ended")
		}
		return line
	case <-time.After(patience):
		c.t.Fatal("nothing comes")
	}
	return ""
}

// comments takes the comments of the beginning, and the blank line behind them.
func (c *client) comments(n int) (all []string) {
	c.t.Helper()
	for range n {
		all = append(all, c.line())
	}
	if blank := c.line(); blank != "" || !strings.HasPrefix(all[0], ": ") {
		c.t.Fatalf("got %q and %q", all, blank)
	}
	return all
}

// next takes an event: its id and the killmail.
func (c *client) next() (id string, mail map[string]json.RawMessage) {
	c.t.Helper()
	id, event, data, blank := c.line(), c.line(), c.line(), c.line()
	if !strings.HasPrefix(id, "id: ") || event != "event: killmail" || !strings.HasPrefix(data, "data: ") || blank != "" {
		c.t.Fatalf("got %q %q %.100q %q", id, event, data, blank)
	}
	if err := json.Unmarshal([]byte(data[6:]), &mail); err != nil {
		c.t.Fatal(err)
	}
	return id[4:], mail
}

// ids takes n events.
func (c *client) ids(n int) (all []string) {
	c.t.Helper()
	for range n {
		id, _ := c.next()
		all = append(all, id)
	}
	return all
}

// TestStream: what comes is told as it comes, and whoever was away has what he missed, by either way to say where he was, with his
// topics, and then goes on.
func TestStream(t *testing.T) {
	s := serve(t, storetest.NewModel(), storetest.Universe())
	s.kill(jita)
	c := s.open("")
	if got := c.comments(2); !slices.Equal(got, []string{": connected to the feed", ": topics: all"}) {
		t.Errorf("it begins with %q", got)
	}
	m := s.kill(hek)
	id, mail := c.next()
	if id != "2" || string(mail["killmail_id"]) != strconv.FormatInt(m.ID, 10) || string(mail["killmail_hash"]) != `"`+m.Hash()+`"` || mail["zkb"] != nil {
		t.Errorf("there came %s %s", id, mail)
	}
	// More than the original's 1,000 are missed; those of another system are not told.
	for range 600 {
		s.kill(jita, hek)
	}
	if got := c.ids(1200); got[1199] != "1202" {
		t.Errorf("the last is %s", got[1199])
	}
	s = s.restart()
	if line, ok := <-c.lines; ok {
		t.Errorf("behind the end there came %q", line)
	}
	system := fmt.Sprintf("topics=system.%d", hek)
	for _, again := range []*client{s.open(system, "Last-Event-ID", "2"), s.open(system + "&lastEventId=2"), s.open(system+"&lastEventId=9", "Last-Event-ID", "2")} {
		again.comments(2)
		for i, id := range again.ids(600) {
			if id != strconv.Itoa(4+2*i) {
				t.Fatalf("event %d has the id %s, want %d", i, id, 4+2*i)
			}
		}
		defer func() {
			if got := again.ids(2); !slices.Equal(got, []string{"1203", "1205"}) {
				t.Errorf("then there came %q", got)
			}
		}()
	}
	s.kill(hek, jita, hek)
}

// TestTopics: each topic, and whether a killmail is on it.
func TestTopics(t *testing.T) {
	s := serve(t, storetest.NewModel(), storetest.Universe())
	const mail = `{"attackers":[{"alliance_id":99000001,"character_id":90000001,"corporation_id":98000001,"damage_done":10,"final_blow":true,` +
		`"security_status":1.5,"ship_type_id":670}],"killmail_id":120000001,"killmail_time":"2026-11-20T18:00:00Z","solar_system_id":30000142,` +
		`"victim":{"character_id":90000002,"corporation_id":98000002,"damage_taken":11,"ship_type_id":587},` +
		`"zkb":{"totalValue":6000000000.5,"solo":true,"npc":false}}`
	system, _ := s.feed.Universe().System(jita)
	on := []string{"all", "solo", "big", "bigkills", "5b", "highsec", "frigates", "system.30000142", fmt.Sprintf("region.%d", system.Region),
		fmt.Sprintf("constellation.%d", system.Constellation), "victim.90000002", "victim.98000002", "attacker.90000001", "attacker.98000001",
		"attacker.99000001", "npc,frigates", " titans , victim.90000002 ,", "titans,all"}
	off := []string{"npc", "10b", "lowsec", "nullsec", "wspace", "abyssal", "destroyers", "cruisers", "battlecruisers", "battleships", "capitals",
		"supercarriers", "titans", "freighters", "citadel", "system.30000144", "region.1", "constellation.1", "victim.90000001", "attacker.90000002",
		"npc,10b"}
	clients := map[string]*client{}
	for _, topics := range append(slices.Clone(on), off...) {
		// The second killmail is on the last topic of each.
		clients[topics] = s.open("topics=" + strings.ReplaceAll(topics+",system.30002053", " ", "%20"))
		clients[topics].comments(2)
	}
	s.insert(0, []byte(mail))
	s.kill(hek)
	for topics, c := range clients {
		want := "1"
		if slices.Contains(off, topics) {
			want = "2"
		}
		if id, _ := c.next(); id != want {
			t.Errorf("on %s the first to come is %s, want %s", topics, id, want)
		}
	}
}

func TestRefusedStreams(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	many := make([]string, 129)
	for i := range many {
		many[i] = fmt.Sprintf("system.%d", i+1)
	}
	for query, want := range map[string]string{
		"topics=t2":                          "topic t2 is not served here",
		"topics=solo,everything":             `topic \"everything\" is not known: want some of 10b, 5b, `,
		"topics=system.Jita":                 `topic \"system.Jita\" is not known`,
		"topics=system.0":                    `topic \"system.0\" is not known`,
		"topics=" + strings.Repeat("x", 129): "a topic of 129 bytes is not accepted",
		"topics=" + strings.Join(many, ","):  "more than 128 topics are not accepted",
		"topics=frigates":                    "static data",
		"lastEventId=x":                      "lastEventId is not accepted",
		"topics=solo&lastEventId=1-x":        "lastEventId is not accepted",
	} {
		res := s.tryOpen(query)
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 400 || !strings.HasPrefix(string(body), `{"error":"`) || !strings.Contains(string(body), want) {
			t.Errorf("%.60s: %d %s %v, want %s", query, res.StatusCode, body, err, want)
		}
	}
	if n := s.feed.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
}

// TestFull: a stream that is one too many is told to come back, and leaves nothing behind.
func TestFull(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil, web.Config{MaxConnections: 1})
	c := s.open("")
	c.comments(2)
	if res := s.tryOpen(""); res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("one too many is answered with %d %v", res.StatusCode, res.Header)
	}
	if n := s.feed.Stats().Subscriptions; n != 1 {
		t.Errorf("there are %d subscriptions, want that of the other stream", n)
	}
}

// TestNullsec: Pochven is in it.
func TestNullsec(t *testing.T) {
	s := serve(t, storetest.NewModel(), storetest.Universe())
	var pochven uint32
	for _, id := range s.feed.Universe().Systems(killfeed.Topic{Kind: killfeed.KindSpace, ID: uint32(killfeed.SpacePochven)}) {
		pochven = id
	}
	c := s.open("topics=nullsec")
	c.comments(2)
	s.kill(jita, pochven)
	if id, _ := c.next(); id != "2" {
		t.Errorf("there came event %s, want that of Pochven, 2", id)
	}
}

// TestSlowStream: a client that takes nothing for a while has everything when it comes back.
func TestSlowStream(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	res := s.tryOpen("")
	const n = 300
	s.mails = storetest.NewMaker(storetest.MakerOptions{Bytes: 50_000, Attackers: 100})
	for range n {
		s.kill(jita)
	}
	in := bufio.NewReaderSize(res.Body, 1<<16)
	for next := 1; next <= n; {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if id, ok := strings.CutPrefix(line, "id: "); ok {
			if id != fmt.Sprintf("%d\n", next) {
				t.Fatalf("got event %swant %d", id, next)
			}
			next++
		}
	}
}

// TestGaps: what retention removed is told, by either way to read.
func TestGaps(t *testing.T) {
	s := serve(t, storetest.NewModel(), nil)
	s.kill(jita, jita, jita, jita)
	if err := s.model.Remove(2); err != nil {
		t.Fatal(err)
	}
	if p := s.poll("after=1"); p.gap != "2-2" || !slices.Equal(p.seqs(), []int64{3, 4}) {
		t.Errorf("gap %q, then %v", p.gap, p.seqs())
	}
	c := s.open("lastEventId=1")
	c.comments(2)
	if got := c.comments(1); got[0] != ": gap 2-2" {
		t.Errorf("got %q", got)
	}
	if got := c.ids(2); !slices.Equal(got, []string{"3", "4"}) {
		t.Errorf("got %q", got)
	}
}

// TestHeartbeats: a stream on which nothing comes says something at least every 20 seconds.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		api, err := web.New(feed, web.Config{})
		if err != nil {
			t.Fatal(err)
		}
		if err := evekill.Mount(api, feed, evekill.Options{}); err != nil {
			t.Fatal(err)
		}
		pipe := standin.NewPipe()
		serving := &http.Server{Handler: api}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { serving.Serve(pipe) })
		running.Go(func() { api.Run(ctx) })
		transport := &http.Transport{DialContext: pipe.DialContext}
		r, err := http.NewRequest("GET", "http://feed.example/api/feed/stream?topics=solo", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		in := bufio.NewScanner(res.Body)
		last, beats := time.Now(), 0
		for beats < 100 && in.Scan() {
			if silent := time.Since(last); silent > 22*time.Second {
				t.Errorf("it was silent for %v", silent)
			}
			last = time.Now()
			if in.Text() == ": heartbeat" {
				beats++
			}
		}
		if beats < 100 {
			t.Errorf("it ended after %d heartbeats: %v", beats, in.Err())
		}
		res.Body.Close()
		synctest.Wait()
		if left := api.Drain(ctx, 0); left != 0 {
			t.Errorf("%d streams have not ended", left)
		}
		cancel()
		serving.Close()
		running.Wait()
		transport.CloseIdleConnections()
		feed.Close()
	})
}

// TestRealHour: all of a real hour, as it was, by poll and by stream; and another log has the same of what the poll says.
func TestRealHour(t *testing.T) {
	f, err := os.Open("../../../../shared/data/killmails-hour.jsonl.gz")
	if err != nil {
		t.Skip("the captured hour of killmails is not here")
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, storetest.NewModel(), nil)
	c := s.open("")
	c.comments(2)
	var bodies []map[string]json.RawMessage
	for lines := bufio.NewReader(z); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var file struct {
			Hash json.RawMessage            `json:"hash"`
			ESI  map[string]json.RawMessage `json:"esi"`
		}
		if err := json.Unmarshal(line, &file); err != nil {
			t.Fatal(err)
		}
		s.insert(0, line)
		file.ESI["killmail_hash"] = file.Hash
		bodies = append(bodies, file.ESI)
	}
	same := func(i int, got map[string]json.RawMessage) {
		t.Helper()
		for name, value := range bodies[i] {
			if string(got[name]) != string(value) {
				t.Fatalf("killmail %d: %s is %s, want %s", i, name, got[name], value)
			}
		}
		if len(got) != len(bodies[i]) {
			t.Fatalf("killmail %d has %d members, want %d", i, len(got), len(bodies[i]))
		}
	}
	n := 0
	for query := "after=earliest&limit=1000"; ; {
		p := s.poll(query)
		for _, e := range p.Data {
			var got map[string]json.RawMessage
			if err := json.Unmarshal(e.Data, &got); err != nil {
				t.Fatal(err)
			}
			same(n, got)
			k, err := killfeed.ParseItem(e.Data)
			if err != nil || k.Hash != *e.Hash {
				t.Fatalf("killmail %d cannot be taken by another feed: %v", n, err)
			}
			n++
		}
		if !p.HasMore {
			break
		}
		query = strings.TrimPrefix(p.Next, "/feed/poll?")
	}
	if n != len(bodies) {
		t.Errorf("%d came by poll, want %d", n, len(bodies))
	}
	for i := range bodies {
		_, got := c.next()
		same(i, got)
	}
}
