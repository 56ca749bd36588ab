package r2z2

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"killfeed"
	"killfeed/ingest"
	"killfeed/ingest/archive"
	archives "killfeed/ingest/history"
	source "killfeed/ingest/r2z2"
	"killfeed/ingest/upstream"
	"killfeed/storetest"
	"killfeed/web/dialect/internal/pack"
)

// wire hands requests to the server, unless it is down.
type wire struct {
	*server
	down atomic.Bool
	asks atomic.Int64
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.asks.Add(1)
	if w.down.Load() {
		return nil, errors.New("connection refused")
	}
	rec := httptest.NewRecorder()
	w.api.ServeHTTP(rec, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	res := rec.Result()
	res.Request = r
	return res, nil
}

func (w *wire) client(t *testing.T) *upstream.Client {
	t.Helper()
	c, err := upstream.New(upstream.Config{Version: "test", Contact: "test@example.com", Transport: w})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hour are the killmails of a busy hour, in the shape of R2Z2; without that file made-up ones.
func hour(t *testing.T) (all []*killfeed.Killmail) {
	t.Helper()
	f, err := os.Open("../../../../shared/data/killmails-hour.jsonl.gz")
	if errors.Is(err, os.ErrNotExist) {
		t.Log("there is no real hour here: the killmails are made up")
		m := storetest.NewMaker(storetest.MakerOptions{Bytes: 1500})
		for range 400 {
			all = append(all, m.Next())
		}
		return all
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		k, err := killfeed.ParseItem(lines.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, k)
	}
	if len(all) < 1000 {
		t.Fatalf("the hour has %d killmails: %v", len(all), lines.Err())
	}
	return all
}

// bodies are the ESI bodies and labels of what is kept, by id, in the newest version.
func bodies(t *testing.T, feed *killfeed.Feed) map[int64]string {
	t.Helper()
	all := map[int64]string{}
	var at killfeed.Cursor
	for {
		ans, err := feed.ReadAfter(context.Background(), at, killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}, Updates: true})
		if err != nil {
			t.Fatal(err)
		}
		for i := range ans.Events {
			m := pack.Open(&ans.Events[i])
			if m == nil {
				continue
			}
			var zkb struct{ Labels []string }
			if err := json.Unmarshal(m.ZKB, &zkb); err != nil {
				t.Fatal(err)
			}
			all[m.ID] = string(m.ESI) + " " + m.Hash + " " + strings.Join(zkb.Labels, ",")
		}
		if at = ans.Next; !ans.More {
			return all
		}
	}
}

// relabelled is a killmail with labels.
func relabelled(t *testing.T, k *killfeed.Killmail, labels string) *killfeed.Killmail {
	t.Helper()
	m := pack.Open(&killfeed.Event{ID: 1, SystemID: k.SystemID, KillmailID: k.ID, Killmail: k.JSON})
	again, err := killfeed.ParseItem(fmt.Appendf(nil, `{"killmail_id":%d,"hash":"%s","esi":%s,"zkb":{"points":1,"labels":[%s]}}`,
		k.ID, k.Hash, m.ESI, labels))
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// A killfeed follows this one, by the source that follows zKillboard: it ends with the same killmails, byte for byte, and the
// same updates, though this one is restarted and unreachable in between, and has things in its log that no file shows.
func TestFollow(t *testing.T) {
	real := hour(t)
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, killfeed.Options{})
		defer func() { s.close() }()
		network := &wire{server: s}
		to, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		in := ingest.NewIntake(to, "r2z2", false, slog.New(slog.NewTextHandler(io.Discard, nil)))
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		src := source.New(source.Config{Client: network.client(t), URL: "http://feed", Known: to.Knows})
		go func() { ended <- in.Run(ctx, src) }()
		time.Sleep(10 * time.Second) // it has begun

		insert := func(ks ...*killfeed.Killmail) {
			t.Helper()
			if _, err := s.feed.InsertAll(context.Background(), ks, 0); err != nil {
				t.Fatal(err)
			}
		}
		part := len(real) / 4
		insert(real[:part]...)
		s.other(`{"no":"id"}`)
		for _, k := range real[part : 2*part] {
			insert(k)
			time.Sleep(500 * time.Millisecond)
		}
		for i := range 25 { // what zKillboard does every quarter of an hour
			insert(relabelled(t, real[3*i], `"pvp","ganked"`))
		}
		network.down.Store(true)
		time.Sleep(20 * time.Second)
		s.restart()
		network.down.Store(false)
		insert(real[2*part : 3*part]...)
		s.other(`{"killmail_id":5,"no":"hash"}`)
		time.Sleep(5 * time.Minute)
		insert(relabelled(t, real[1], `"pvp","first"`), relabelled(t, real[2], `"pvp","second"`))
		for _, k := range real[3*part:] {
			insert(k)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(10 * time.Minute)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		want, got := bodies(t, s.feed), bodies(t, to)
		delete(want, 5) // which no file shows
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d killmails came over, want %d; the differences: %.2000s", len(got), len(want), diff)
		}
		if n := s.feed.State().MirrorSeq; n != uint64(len(real))+2 {
			t.Errorf("the newest number is %d, want %d", n, len(real)+2)
		}
	})
}

// What reads zKillboard's history reads this one's: the same killmails, with their hashes, packed on the way.
func TestHistoryIsRead(t *testing.T) {
	real := hour(t)
	s := newServer(t, killfeed.Options{})
	defer s.close()
	if _, err := s.feed.InsertAll(t.Context(), real, killfeed.MarkBackfill); err != nil {
		t.Fatal(err)
	}
	z := &archives.ZKillboard{Client: (&wire{server: s}).client(t), URL: "http://feed"}
	totals, err := z.Totals(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{}
	var ids, got []int64
	for _, k := range real {
		want[archives.Key(k.Time)]++
		ids = append(ids, k.ID)
	}
	if diff := cmp.Diff(want, totals); diff != "" {
		t.Fatal(diff)
	}
	for key := range totals {
		day, err := archives.ParseKey(key)
		if err != nil {
			t.Fatal(err)
		}
		d, err := z.Day(t.Context(), day, nil, func(item archive.Item) error {
			k, err := killfeed.ParseItem(item.Data) // it verifies the hash
			if err == nil {
				got = append(got, k.ID)
			}
			return err
		})
		if err != nil || d.Missing > 0 || d.Listed != totals[key] {
			t.Errorf("%s: %+v (%v), want %d", key, d, err, totals[key])
		}
	}
	slices.Sort(ids)
	slices.Sort(got)
	if !slices.Equal(ids, got) {
		t.Errorf("%d killmails were read, want %d", len(got), len(ids))
	}
}
