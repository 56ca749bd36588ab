package killfeed_test

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// benchFeed is a feed with n killmails on the embedded store in memory.
func benchFeed(b *testing.B, n int) (*killfeed.Feed, *storetest.Maker) {
	store, err := pebblestore.Open("", pebblestore.Options{Memory: true})
	if err != nil {
		b.Fatal(err)
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := feed.Close(); err != nil {
			b.Error(err)
		}
	})
	m := storetest.NewMaker(storetest.MakerOptions{Seed: 1, Systems: 8000, Bytes: storetest.TypicalBytes})
	for made := 0; made < n; made += 500 {
		ks := make([]*killfeed.Killmail, 500)
		for i := range ks {
			ks[i] = m.Next()
		}
		if _, err := feed.InsertAll(context.Background(), ks, 0); err != nil {
			b.Fatal(err)
		}
	}
	return feed, m
}

// BenchmarkNextIdle is the commonest call: nothing new on the topics.
func BenchmarkNextIdle(b *testing.B) {
	feed, m := benchFeed(b, 10_000)
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := killfeed.Read{Start: killfeed.Latest}
			for rank := range n {
				r.Topics = append(r.Topics, killfeed.System(m.System(rank)))
			}
			name := fmt.Sprint("idle-", n)
			b.ReportAllocs()
			for b.Loop() {
				if ans, err := feed.Next(b.Context(), name, r); err != nil || len(ans.Events) > 0 {
					b.Fatal(ans, err)
				}
			}
		})
	}
}

// BenchmarkFetchNewest reads the newest 100 events of ten systems, without committing them.
func BenchmarkFetchNewest(b *testing.B) {
	feed, m := benchFeed(b, 10_000)
	r := killfeed.Read{Start: killfeed.StartAt(9500), Limit: 100, Manual: true}
	for rank := range 10 {
		r.Topics = append(r.Topics, killfeed.System(m.System(rank)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if ans, err := feed.Fetch(b.Context(), "newest", r); err != nil || len(ans.Events) != 100 {
			b.Fatal(len(ans.Events), err)
		}
	}
}

// BenchmarkNextOne reads the next event of ten systems, without committing it.
func BenchmarkNextOne(b *testing.B) {
	feed, m := benchFeed(b, 10_000)
	r := killfeed.Read{Start: killfeed.StartAt(9500), Manual: true}
	for rank := range 10 {
		r.Topics = append(r.Topics, killfeed.System(m.System(rank)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if ans, err := feed.Next(b.Context(), "next", r); err != nil || len(ans.Events) != 1 {
			b.Fatal(len(ans.Events), err)
		}
	}
}

// BenchmarkInsert is 64 writers that insert a killmail at a time. Nothing is fsynced, because nothing is on a disk: it is what
// inserting takes of the processor.
func BenchmarkInsert(b *testing.B) {
	feed, m := benchFeed(b, 1000)
	mails := make([]*killfeed.Killmail, b.N)
	for i := range mails {
		mails[i] = m.Next()
	}
	var next atomic.Int64
	b.SetParallelism((64 + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := next.Add(1) - 1
			if _, err := feed.InsertAll(b.Context(), mails[i:i+1], 0); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
