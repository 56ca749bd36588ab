package redisq

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest"
	source "killfeed/ingest/redisq"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
)

// wire hands requests to the server that there is at the moment.
type wire struct {
	server *server
	turn   chan struct{} // cap 1: who has put something in may use the server
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.turn <- struct{}{}
	defer func() { <-w.turn }()
	rec := httptest.NewRecorder()
	w.server.api.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	res := rec.Result()
	res.Request = r
	return res, nil
}

// A killfeed follows this one, by the source that follows RedisQ: it gets every killmail once, in order, byte for byte, over a
// restart of this one.
func TestFollow(t *testing.T) {
	for _, path := range []string{"/listen.php", "/redisq/", "/listen.php?redirect=1"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, Options{})
				defer func() { s.close() }()
				network := &wire{s, make(chan struct{}, 1)}
				to, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer to.Close()
				client, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Transport: network})
				if err != nil {
					t.Fatal(err)
				}
				src, err := source.New(client, nil, source.Config{URL: "http://feed" + path})
				if err != nil {
					t.Fatal(err)
				}
				in := ingest.NewIntake(to, "redisq", false, slog.New(slog.NewTextHandler(t.Output(), nil)))
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() { ended <- in.Run(ctx, src) }()
				time.Sleep(5 * time.Second) // its queue has begun

				var want [][]byte
				for range 20 {
					want = append(want, s.mail().JSON)
				}
				time.Sleep(10 * time.Second) // it has some of them
				network.turn <- struct{}{}   // between two requests: what is under way when a server stops may be lost
				s.restart()
				<-network.turn
				for range 20 {
					want = append(want, s.mail().JSON)
				}
				time.Sleep(2 * time.Minute)
				cancel()
				if err := <-ended; err != nil {
					t.Fatal(err)
				}
				ans, err := to.ReadAfter(context.Background(), killfeed.Cursor{}, killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}, Updates: true})
				if err != nil {
					t.Fatal(err)
				}
				if len(ans.Events) != len(want) {
					t.Fatalf("%d killmails came over, want %d", len(ans.Events), len(want))
				}
				for i, e := range ans.Events {
					if got := withoutHREF(e.Killmail); !bytes.Equal(got, want[i]) {
						t.Errorf("killmail %d:\ngot  %s\nwant %s", i, got, want[i])
					}
				}
			})
		})
	}
}

// withoutHREF takes out what a package adds.
func withoutHREF(killmail []byte) []byte {
	before, after, ok := bytes.Cut(killmail, []byte(`,"href":"`))
	if !ok {
		return killmail
	}
	_, after, _ = bytes.Cut(after, []byte(`"`))
	return append(bytes.Clone(before), after...)
}
