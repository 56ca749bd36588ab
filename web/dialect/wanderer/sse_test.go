package wanderer_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/storetest"
	"killfeed/web/dialect/wanderer"
)

// listener is a client of a stream. All that comes is read at once.
type listener struct {
	s      *server
	events chan sent
	close  func()
}

// sent is one event.
type sent struct {
	id, name string
	data     struct {
		ID     int64 `json:"killmail_id"`
		Status string
		Kills  []struct {
			ID int64 `json:"killmail_id"`
		}
		Count      int
		Number     int             `json:"batch_number"`
		Batches    int             `json:"total_batches"`
		Historical int             `json:"total_historical"`
		Filters    json.RawMessage `json:"filters"`
		Mode       string
		Reason     string
		Timestamp  string
	}
}

func (s *server) stream(query string, headers ...string) *listener {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://memory/api/v1/kills/stream"+query, nil)
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
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		s.t.Fatalf("the stream is answered by %s %v", res.Status, res.Header)
	}
	l := &listener{s: s, events: make(chan sent, 1<<16), close: func() { cancel(); res.Body.Close() }}
	s.t.Cleanup(l.close)
	go func() {
		defer close(l.events)
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<26)
		var e sent
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				if err := json.Unmarshal([]byte(value), &e.data); err != nil {
					e.name = "broken: " + value
				}
			case "":
				l.events <- e
				e = sent{}
			}
		}
	}()
	return l
}

// take returns all that has come.
func (l *listener) take() (events []sent) {
	synctest.Wait()
	for {
		select {
		case e, ok := <-l.events:
			if !ok {
				return events
			}
			events = append(events, e)
		default:
			return events
		}
	}
}

func eventNames(events []sent) (all []string) {
	for _, e := range events {
		all = append(all, e.name)
	}
	return all
}

func killmails(events []sent) (ids []int64) {
	for _, e := range events {
		if e.name == "killmail" {
			ids = append(ids, e.data.ID)
		}
		for _, k := range e.data.Kills {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

func TestStream(t *testing.T) {
	in(t, func(s *server) {
		s.kill(jita)
		l := s.stream("?system_ids=30000142,30000144&character_ids=90000009")
		events := l.take()
		same(t, "begins with", eventNames(events), []string{"connected"})
		if e := events[0]; e.id != s.cursor(1) || e.data.Status != "connected" || e.data.Timestamp == "" ||
			string(e.data.Filters) != `{"system_ids":[30000142,30000144],"character_ids":[90000009],"min_value":null,"preload_days":0}` {
			t.Errorf("connected is %+v %s", e, e.data.Filters)
		}
		m := s.mail(amarr)
		m.Victim.Character = 90000009
		live := s.kill(jita, amarr)
		s.insert(m)
		events = l.take()
		same(t, "live", killmails(events), []int64{live[0], m.ID})
		if events[1].id != s.cursor(4) {
			t.Errorf("the id is %s, want %s", events[1].id, s.cursor(4))
		}
		l.close()
		missed := s.kill(jita, jita)
		// A browser goes on by the header, and others by the query.
		l = s.stream("?system_ids=30000142", "Last-Event-ID", s.cursor(5))
		same(t, "resumed", killmails(l.take()), missed[1:])
		l = s.stream("/enhanced?system_ids=30000142&preload_days=2&last_event_id=" + s.cursor(4))
		same(t, "resumed", killmails(l.take()), missed)
		l = s.stream("?system_ids=30000142&last_event_id=4-00000000")
		events = l.take()
		if eventNames(events)[1] != "gap" || events[1].data.Reason != "epoch" || len(killmails(events)) != 4 {
			t.Errorf("behind a cursor of another log come %v", eventNames(events))
		}
		time.Sleep(3 * time.Minute)
		beats := 0
		for _, e := range l.take() {
			if e.name == "heartbeat" && e.data.Mode == "realtime" && e.id == s.cursor(6) {
				beats++
			}
		}
		if beats < 6 {
			t.Errorf("%d heartbeats in three minutes", beats)
		}
	})
}

func TestStreamOfEverything(t *testing.T) {
	in(t, func(s *server) {
		l := s.stream("/enhanced?min_value=1000")
		l.take()
		m := s.mail(perimeter)
		m.ZKB = false
		s.insert(m) // of no value
		live := s.kill(jita, amarr)
		same(t, "live", killmails(l.take()), live)
		l = s.stream("/enhanced?min_value=1e15")
		l.take()
		s.kill(jita)
		same(t, "live above all values", killmails(l.take()), nil)
	})
}

func TestStreamPreloads(t *testing.T) {
	in(t, func(s *server) {
		s.kill(jita)
		time.Sleep(49 * time.Hour)
		var old []int64
		for range 120 {
			old = append(old, s.kill(jita)...)
			s.kill(amarr)
		}
		l := s.stream("/enhanced?system_ids=30000142&preload_days=2")
		live := s.kill(jita)
		events := l.take()
		same(t, "events", eventNames(events), []string{"connected", "batch", "batch", "batch", "transition", "killmail"})
		slices.Reverse(old)
		same(t, "killmails", killmails(events), append(old, live...))
		for i, e := range events[1:4] {
			if e.id != "" || e.data.Number != i+1 || e.data.Batches != 3 || e.data.Count != len(e.data.Kills) {
				t.Errorf("batch %d is %+v", i, e)
			}
		}
		if e := events[4]; e.data.Status != "historical_complete" || e.data.Historical != 120 || e.id != s.cursor(241) || events[0].id != "" {
			t.Errorf("the transition is %+v", e)
		}
		// The basic stream preloads nothing.
		same(t, "events", eventNames(s.stream("?system_ids=30000142&preload_days=2").take()), []string{"connected"})
	})
}

// Whoever preloads everything gets the newest of it.
func TestStreamPreloadIsBounded(t *testing.T) {
	in(t, func(s *server) {
		for range 5100 {
			s.kill(jita)
		}
		events := s.stream("/enhanced?preload_days=90").take()
		e := events[len(events)-1]
		if e.name != "transition" || e.data.Historical != 5000 || len(killmails(events)) != 5000 || killmails(events)[0] != s.last {
			t.Errorf("the last is %+v, and %d killmails", e, len(killmails(events)))
		}
	})
}

func TestStreamRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, storetest.NewModel(), wanderer.Options{MaxStreams: 2})
		for _, query := range []string{"?system_ids=Jita", "?system_ids=0", "?system_ids=50000001", "?character_ids=1,x", "?min_value=-1",
			"?min_value=NaN", "?min_value=lots", "/enhanced?preload_days=91", "/enhanced?preload_days=x", "?last_event_id=x",
			"?character_ids=2147483648", "?system_ids=" + strings.Repeat("1,", 101)} {
			status, body := s.do("GET", "/api/v1/kills/stream"+query, "")
			if status != 400 || !strings.HasPrefix(body, `{"error":{"message":"`) || !strings.Contains(body, `"type":"invalid_parameters"`) {
				t.Errorf("%.60s: %d %s", query, status, body)
			}
		}
		first := s.stream("")
		s.stream("/enhanced")
		status, body := s.do("GET", "/api/v1/kills/stream", "")
		if status != 503 || !strings.Contains(body, `"type":"connection_limit_reached"`) {
			t.Errorf("a third stream: %d %s", status, body)
		}
		first.close()
		synctest.Wait()
		s.stream("").take()
		_, body = s.do("GET", "/websocket/status", "")
		if want := fmt.Sprintf(`"sse_active":%d`, 2); !strings.Contains(body, want) {
			t.Errorf("%s, want %s", body, want)
		}
		if status, body := s.do("HEAD", "/api/v1/kills/stream", ""); status != 200 || body != "" {
			t.Errorf("HEAD: %d %s", status, body)
		}
	})
}

// A stream that is not read is behind, and its killmails come when it is.
func TestSlowStream(t *testing.T) {
	in(t, func(s *server) {
		l := s.stream("?system_ids=30000142")
		l.take()
		var all []int64
		for range 300 {
			m := s.mail(jita)
			m.Items = 200
			s.insert(m)
			all = append(all, m.ID)
		}
		same(t, "live", killmails(l.take()), all)
	})
}
