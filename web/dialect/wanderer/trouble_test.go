package wanderer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
	"killfeed/names"
	"killfeed/storetest"
	"killfeed/web/dialect/wanderer"
)

// A number that was told is told again when it has sunk, and not any more when nobody has subscribed to it.
func TestNumbersSink(t *testing.T) {
	in(t, func(s *server) {
		s.kill(amarr, amarr, perimeter)
		time.Sleep(time.Hour)
		s.kill(amarr)
		c := s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142,30002187,30000144]}]`)
		same(t, "numbers", c.hear().counts, map[uint32]int{amarr: 3, perimeter: 1})
		c.send(`[1,2,"killmails:lobby","unsubscribe_systems",{"systems":[30000144]}]`)
		c.take()
		later := func(d time.Duration) (counts map[uint32]int) {
			for range d / (30 * time.Second) {
				time.Sleep(30 * time.Second)
				if err := c.conn.Ping(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			return c.hear().counts
		}
		same(t, "numbers within the day", later(22*time.Hour+50*time.Minute), map[uint32]int{jita: 0})
		same(t, "numbers when the first are a day old", later(20*time.Minute), map[uint32]int{jita: 0, amarr: 1})
		same(t, "numbers when all are", later(time.Hour), map[uint32]int{jita: 0, amarr: 0})
	})
}

// What is waiting to be preloaded for a client that takes nothing goes when it unsubscribes.
func TestUnsubscribedIsNotPreloaded(t *testing.T) {
	in(t, func(s *server) {
		var systems []string
		for i := range uint32(100) {
			s.kill(31000000 + i)
			systems = append(systems, fmt.Sprint(31000000+i))
		}
		c := s.dial("vsn=2.0.0")
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[` + strings.Join(systems, ",") + `]}]`)
		synctest.Wait()
		c.send(`[1,2,"killmails:lobby","unsubscribe_systems",{"systems":[` + strings.Join(systems, ",") + `]}]`)
		c.send(`[1,3,"killmails:lobby","subscribe_systems",{"systems":[31000099]}]`)
		synctest.Wait()
		h := c.listen().hear()
		if n := len(h.preloaded); n > 70 || !slices.Contains(h.preloaded, s.last) || h.total != n {
			t.Errorf("%d systems were preloaded, the last told %d: %v", n, h.total, h.events)
		}
		live := s.kill(31000000, 31000099)
		same(t, "live", c.hear().live, live[1:])
	})
}

// failing is a store that cannot be read for a while.
type failing struct {
	*storetest.Model
	fails atomic.Bool
}

var errDisk = errors.New("the disk is gone")

func (f *failing) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	if f.fails.Load() {
		return dst, errDisk
	}
	return f.Model.Find(dst, q)
}

func (f *failing) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	if f.fails.Load() {
		return errDisk
	}
	return f.Model.Read(ids, yield)
}

// A log that cannot be read costs a client its channel, which it may join again, and tells nobody what the matter is.
func TestFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &failing{Model: storetest.NewModel()}
		book, err := names.Open("", names.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s := openWith(t, store, book, wanderer.Options{})
		c := s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		c.take()
		l := s.stream("?system_ids=30000142")
		l.take()
		store.fails.Store(true)
		lost := s.kill(jita)
		same(t, "events of the channel", c.hear().events, []string{"phx_error"})
		same(t, "events of the stream", eventNames(l.take()), []string{"error"})
		c.send(`[2,2,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		if h := c.hear(); h.replies[0].Status != "error" || strings.Contains(h.replies[0].Response.Reason, "disk") {
			t.Errorf("a join meanwhile is answered by %+v", h.replies[0])
		}
		status, body := s.do("GET", "/api/v1/kills/system/30000142", "")
		if status != 500 || !strings.Contains(body, `"code":"FETCH_ERROR"`) || strings.Contains(body, "disk") {
			t.Errorf("a request meanwhile is answered by %d %s", status, body)
		}
		store.fails.Store(false)
		c.send(`[3,3,"killmails:lobby","phx_join",{"systems":[30000142],"after":"0-` + string(s.feed.State().Epoch) + `"}]`)
		same(t, "live", c.hear().live, lost)
		if !strings.Contains(s.log.String(), errDisk.Error()) {
			t.Error("the log says nothing")
		}
	})
}

// Names that are not known yet are asked for; nobody waits for them, and later readers see them.
func TestNamesComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 20, 18, 0, 0, 0, time.UTC))) // or the date that ESI is asked for lies in the future
		world, err := standin.New(standin.Config{})
		if err != nil {
			t.Fatal(err)
		}
		pipe := standin.NewPipe()
		serving := &http.Server{Handler: world.Handler()}
		var running sync.WaitGroup
		running.Go(func() { serving.Serve(pipe) })
		client, err := upstream.New(upstream.Config{
			Version: "test", Contact: "test@example.com", Every: time.Millisecond, Header: esi.Header(),
			Transport: &http.Transport{DialContext: pipe.DialContext, DisableCompression: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		asked, err := esi.New(client, esi.Config{URL: "http://esi.example", Patience: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		book, err := names.Open("", names.Options{ESI: asked})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { book.Run(ctx) })
		t.Cleanup(func() {
			cancel()
			client.Close()
			world.Close()
			serving.Close()
			running.Wait()
		})
		s := openWith(t, storetest.NewModel(), book, wanderer.Options{})
		c := s.dial("vsn=2.0.0").listen()
		c.send(`[1,1,"killmails:lobby","phx_join",{"systems":[30000142]}]`)
		c.take()
		m := s.mail(jita)
		m.Victim.Character = 2112000017
		s.insert(m)
		same(t, "live", c.hear().live, []int64{m.ID})
		before := func() bool {
			_, body := s.do("GET", fmt.Sprintf("/api/v1/killmail/%d", m.ID), "")
			return !strings.Contains(body[:strings.Index(body, `"attackers"`)], `"character_name":"`)
		}
		if !before() {
			t.Error("the name is known at once: this tests nothing")
		}
		time.Sleep(20 * time.Second)
		if before() {
			t.Error("the name is not shown 20 seconds later")
		}
	})
}
