package pebblestore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"killfeed"
	"killfeed/storetest"
)

// BenchmarkInsert is 64 writers that insert killmails, fsynced, through the feed. BenchmarkInsertRaw is its yardstick: the
// same keys and bytes in batches of the engine, grouped as the feed grouped them.
func BenchmarkInsert(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	f, err := killfeed.Open(s, killfeed.Options{})
	if err != nil {
		b.Fatal(err)
	}
	mails := made(b.N)
	b.ResetTimer()
	writers(b.N, func(i int) {
		if _, err := f.InsertAll(context.Background(), mails[i:i+1], 0); err != nil {
			b.Error(err)
		}
	})
	b.StopTimer()
	st := f.Stats()
	b.ReportMetric(float64(st.Grouped)/float64(st.Groups), "events/group")
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkInsertRaw(b *testing.B) {
	const group = 63
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	mails := made(b.N)
	b.ResetTimer()
	for i := 0; i < len(mails); i += group {
		batch := s.db.NewBatch()
		for j, k := range mails[i:min(i+group, len(mails))] {
			e := killfeed.NewEvent{Event: killfeed.Event{ID: killfeed.EventID(i + j + 1), Killmail: k.JSON, KillmailID: k.ID}}
			if err := putNewEvent(batch, &e, summarize(&e.Event)); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.db.Apply(batch, pebble.Sync); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := s.db.Close(); err != nil {
		b.Fatal(err)
	}
}

func made(n int) []*killfeed.Killmail {
	m := storetest.NewMaker(storetest.MakerOptions{Seed: 1, Bytes: storetest.TypicalBytes})
	mails := make([]*killfeed.Killmail, n)
	for i := range mails {
		mails[i] = m.Next()
	}
	return mails
}

// writers calls f for each number below n from 64 goroutines.
func writers(n int, f func(i int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				f(i)
			}
		})
	}
	wg.Wait()
}

// BenchmarkFetch reads 100 events over 10 systems.
func BenchmarkFetch(b *testing.B) {
	for _, stored := range []int{1_000, 100_000} {
		s, err := Open("", Options{Memory: true})
		if err != nil {
			b.Fatal(err)
		}
		f, err := killfeed.Open(s, killfeed.Options{})
		if err != nil {
			b.Fatal(err)
		}
		m := storetest.NewMaker(storetest.MakerOptions{Seed: 1, Bytes: storetest.TypicalBytes, Systems: 20})
		for left := stored; left > 0; left -= 500 {
			mails := make([]*killfeed.Killmail, 500)
			for i := range mails {
				mails[i] = m.Next()
			}
			if _, err := f.InsertAll(b.Context(), mails, 0); err != nil {
				b.Fatal(err)
			}
		}
		r := killfeed.Read{Limit: 100}
		for i := range 10 {
			r.Topics = append(r.Topics, killfeed.System(m.System(i)))
		}
		for _, place := range []string{"newest", "oldest"} {
			after := killfeed.Cursor{}
			if place == "newest" {
				after.After = killfeed.EventID(stored - 150)
			}
			b.Run(fmt.Sprintf("%s of %d", place, stored), func(b *testing.B) {
				for b.Loop() {
					if ans, err := f.ReadAfter(b.Context(), after, r); err != nil || len(ans.Events) != 100 {
						b.Fatal(len(ans.Events), err)
					}
				}
			})
		}
		if err := f.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen opens 100,000 events after a clean end.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	w := newTruth(1)
	for range 100 {
		if err := s.Commit(w.batch(1000)); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		b.StopTimer()
		closeStore(b, s)
		b.StartTimer()
		if s, err = Open(dir, Options{}); err != nil {
			b.Fatal(err)
		}
	}
	closeStore(b, s)
}
