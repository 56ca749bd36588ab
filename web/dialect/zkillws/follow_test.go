package zkillws_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/standin"
	source "killfeed/ingest/zkillws"
	"killfeed/storetest"
	"killfeed/web"
	"killfeed/web/dialect/zkillws"
)

// TestFollowed: another feed that follows this one over its websocket has a real hour of killmails as they were, in their order.
func TestFollowed(t *testing.T) {
	files := hour(t)
	s := serve(t, options{})
	follower, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := source.New(nil, source.Config{URL: s.http.URL + "/websocket/", UserAgent: "killfeed/test (test@example.com)"})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	in := ingest.NewIntake(follower, "zkillws", false, slog.New(slog.NewTextHandler(&log, nil)))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- in.Run(ctx, src) }()
	got := make(chan struct{}, 1)
	sub, _, err := follower.Subscribe(ctx, killfeed.Subscriber{
		Read: killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}},
		Wake: func() {
			select {
			case got <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		<-ended
		sub.Close()
		if err := follower.Close(); err != nil {
			t.Error(err)
		}
	}()
	var all []killfeed.Event
	take := func() {
		t.Helper()
		for {
			d, err := sub.Read(nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, d.Events...)
			if len(d.Events) > 0 || d.More {
				continue
			}
			return
		}
	}
	give := time.After(patience)
	for s.feed.Stats().Subscriptions == 0 {
		select {
		case <-give:
			t.Fatalf("it does not subscribe; the log says %s", &log)
		default:
			runtime.Gosched()
		}
	}
	s.insert(0, files...)
	for take(); len(all) < len(files); take() {
		select {
		case <-got:
		case <-give:
			t.Fatalf("%d killmails of %d have come; the log says %s", len(all), len(files), &log)
		}
	}
	for i, file := range files {
		want, err := killfeed.ParseItem(file)
		if err != nil {
			t.Fatal(err)
		}
		if all[i].KillmailID != want.ID || all[i].SystemID != want.SystemID {
			t.Fatalf("event %d is killmail %d, want %d", i, all[i].KillmailID, want.ID)
		}
		if diff := cmp.Diff(members(t, want.JSON), members(t, all[i].Killmail)); diff != "" {
			t.Fatal(diff)
		}
	}
	if st := in.Status(); st.Bad != 0 {
		t.Errorf("%+v", st)
	}
}

// quietly is a network in which the clock of a bubble decides how long things take.
type quietly struct {
	pipe *standin.Pipe
	api  *web.API
}

func quiet(t *testing.T) *quietly {
	t.Helper()
	feed, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	api, err := web.New(feed, web.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := zkillws.Mount(api, feed, zkillws.Options{}); err != nil {
		t.Fatal(err)
	}
	q := &quietly{pipe: standin.NewPipe(), api: api}
	serving := &http.Server{Handler: api}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { serving.Serve(q.pipe) })
	running.Go(func() { api.Run(ctx) })
	t.Cleanup(func() {
		if left := api.Drain(ctx, 0); left != 0 {
			t.Errorf("%d connections have not ended", left)
		}
		cancel()
		serving.Close()
		running.Wait()
		feed.Close()
	})
	return q
}

func (q *quietly) dial(t *testing.T, o websocket.DialOptions) *websocket.Conn {
	t.Helper()
	o.HTTPClient = &http.Client{Transport: &http.Transport{DialContext: q.pipe.DialContext}}
	conn, _, err := websocket.Dial(t.Context(), "ws://feed.example/websocket/", &o)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestSilentClient: one that never says a word but answers pings, as all libraries do by themselves, stays for a day; the pings
// also show it that the server is there.
func TestSilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quiet(t)
		pings := 0
		conn := q.dial(t, websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool {
			pings++
			return true
		}})
		ended := make(chan error, 1)
		go func() {
			_, _, err := conn.Read(context.Background())
			ended <- err
		}()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		select {
		case err := <-ended:
			t.Errorf("it has ended: %v", err)
		default:
		}
		if pings < 2700 || pings > 2880 {
			t.Errorf("%d pings came within a day, want one each half a minute", pings)
		}
		conn.CloseNow()
		<-ended
	})
}

// TestGoneClient: one that answers no ping is gone.
func TestGoneClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := quiet(t)
		conn := q.dial(t, websocket.DialOptions{OnPingReceived: func(context.Context, []byte) bool { return false }})
		begun := time.Now()
		_, _, err := conn.Read(context.Background())
		if took := time.Since(begun); websocket.CloseStatus(err) != websocket.StatusProtocolError || took < 2*time.Minute || took > 125*time.Second {
			t.Errorf("after %v: %v, want close code 1002 after two minutes", took, err)
		}
	})
}
