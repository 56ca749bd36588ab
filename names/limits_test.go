package names

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/standin"
	"killfeed/ingest/upstream"
)

// One id that does not exist makes ESI refuse all. It is found with a bounded number of requests, and not asked again.
func TestIDsThatDoNotExist(t *testing.T) {
	for _, limit := range []standin.ESILimit{standin.LimitTokens, standin.LimitErrors} {
		for _, test := range []struct{ of, bad, most int }{{1000, 1, 22}, {1000, 3, 3 * 22}, {100, 100, 110}, {1, 1, 1}} {
			t.Run(fmt.Sprintf("%d of %d, limit %d", test.bad, test.of, limit), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					bad := map[uint32]bool{}
					for i := range test.bad {
						bad[90_000_000+uint32((i*577+123)%test.of)] = true
					}
					w := open(t, standin.Config{ESI: standin.ESIConfig{Limit: limit}, Named: func(id uint32) (standin.Named, bool) {
						n, ok := standin.MadeUp(id)
						return n, ok && !bad[id]
					}})
					b, _ := w.book("", Options{})
					ids := span(90_000_000, test.of)
					w.awaited(b, ids...)
					for _, id := range ids {
						if _, state := b.Get(id); (state == Unknown) != bad[id] {
							t.Fatalf("%d: state %d", id, state)
						}
					}
					if n := int(requests(w.manners(), standin.KindNames)); n > test.most {
						t.Errorf("%d requests, want %d at most", n, test.most)
					} else {
						t.Logf("%d requests", n)
					}
				})
			})
		}
	}
}

// Whoever asks for thousands of ids that do not exist does not leave others without names, and makes few errors.
func TestManyThatDoNotExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{ESI: standin.ESIConfig{Limit: standin.LimitErrors}, Named: func(id uint32) (standin.Named, bool) {
			n, ok := standin.MadeUp(id)
			return n, ok && id < 2_000_000_000
		}})
		b, _ := w.book("", Options{Queue: 5000})
		for i := range uint32(30) {
			good := span(90_000_000+i*10, 10)
			for n, id := range span(2_100_000_000+i*1000, 1000) {
				b.Guess(id)
				if n%100 == 0 {
					b.Get(good[n/100])
				}
			}
			begun := time.Now()
			w.awaited(b, good...)
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("round %d: names took %v", i, took)
			}
			w.check(b, good...)
			time.Sleep(10 * time.Second)
		}
		st := w.manners()
		if s := b.Status(); s.Pending > 4*5000 || s.Dropped == 0 {
			t.Errorf("%+v", s)
		}
		if most := int64(time.Since(now)/time.Minute+1) * 30; st.ESI.Errors > most {
			t.Errorf("%d errors, want %d at most", st.ESI.Errors, most)
		}
	})
}

// Whoever asks for ids that do not exist together with those of killmails, before anybody reads those, does not have their names wait
// behind what was made up.
func TestOwnAmongMadeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{ESI: standin.ESIConfig{Limit: standin.LimitErrors}, Named: func(id uint32) (standin.Named, bool) {
			n, ok := standin.MadeUp(id)
			return n, ok && id < 2_000_000_000
		}})
		b, _ := w.book("", Options{Queue: 5000})
		guess := func(from, to uint32) {
			for i := from; i < to; i++ {
				b.Guess(2_100_000_000 + i)
				if i%10 == 0 {
					b.Guess(90_000_000 + i)
				}
			}
		}
		guess(0, 1000)
		time.Sleep(time.Minute) // they are in doubt together
		if s := b.Status(); s.Pending < 500 {
			t.Fatalf("%+v: too few wait for this to be a test", s)
		}
		var own []uint32 // as a killmail has them
		for i := uint32(0); i < 1000; i += 100 {
			own = append(own, 90_000_000+i)
		}
		begun := time.Now()
		for n := uint32(1); len(own) > 0; n++ { // and it goes on
			guess(n*1000, n*1000+100)
			own = slices.DeleteFunc(own, func(id uint32) bool { _, state := b.Get(id); return state == Known })
			if time.Since(begun) > time.Minute {
				t.Fatalf("after %v killmails still lack the names of %v", time.Since(begun), own)
			}
			time.Sleep(2 * time.Second)
		}
		w.manners()
	})
}

// An id that ESI cannot answer is given up, as long as it answers others.
func TestPoison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{})
		b, _ := w.book("", Options{})
		f := &fetcher{Book: b, troubled: map[uint32]trouble{}}
		bad := &upstream.Error{Class: upstream.ErrServer}
		for try := range maxTries - 1 {
			for range 20 {
				if f.hopeless(7, &upstream.Error{Class: upstream.ErrTooMany}) || f.hopeless(7, bad) {
					t.Fatalf("given up at try %d, though nothing works", try)
				}
				time.Sleep(time.Second)
			}
			f.good()
			time.Sleep(time.Second)
		}
		if !f.hopeless(7, bad) {
			t.Error("never given up")
		}
	})
}

// What cannot be an id of anything with a name is not asked.
func TestImpossible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{})
		b, _ := w.book("", Options{})
		for _, id := range []uint32{0, 700_000, 2_500_000, 5_000_000, 40_000_001, 60_003_760, 1 << 31, 1<<32 - 1} {
			if e, state := b.Get(id); state != Unknown || e != (Entry{}) {
				t.Errorf("%d is %+v (%d)", id, e, state)
			}
		}
		time.Sleep(time.Minute)
		if n := requests(w.Stats(), standin.KindNames); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

// The limits hold, with a small bucket, and with the old limit when somebody else makes errors.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{ESI: standin.ESIConfig{Tokens: 20, Window: time.Minute}})
		b, _ := w.book("", Options{})
		ids := append(span(90_000_000, 5000), span(98_000_000, 40)...)
		w.awaited(b, ids...)
		time.Sleep(30 * time.Minute)
		w.check(b, ids...)
		if s := b.Status(); s.Details != 0 {
			t.Errorf("%+v", s)
		}
		w.manners()
	})
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{ESI: standin.ESIConfig{Limit: standin.LimitErrors}})
		b, _ := w.book("", Options{})
		for i := range 41 { // killmails that ESI does not know
			w.client.Body(t.Context(), int64(i+1), strings.Repeat("a", 40))
		}
		w.awaited(b, 90_000_000)
		time.Sleep(time.Until(time.Now().Truncate(time.Minute).Add(70 * time.Second)))
		for i := range 45 {
			w.client.Body(t.Context(), int64(i+1), strings.Repeat("a", 40))
		}
		begun := time.Now()
		w.awaited(b, 90_000_001)
		if minute := begun.Truncate(time.Minute).Add(time.Minute); time.Now().Before(minute) {
			t.Errorf("a name was asked for with few errors left, %v after %v", time.Since(begun), begun)
		}
		if st := w.Stats(); st.ESI.Refused != 0 {
			t.Errorf("%+v", st.ESI)
		}
	})
}

// Killmails go first: while some wait, names are asked for every ten seconds or less often.
func TestKillmailsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{ESI: standin.ESIConfig{Tokens: 100, Window: time.Minute}})
		b, _ := w.book("", Options{})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Minute, errors.New("enough"))
		defer cancel()
		var all sync.WaitGroup
		for i := range 40 {
			all.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					w.client.Body(ctx, int64(i*1000+n+1), strings.Repeat("a", 40))
				}
			})
		}
		time.Sleep(5 * time.Second)
		for id := range uint32(20_000) {
			b.Get(90_000_000 + id)
		}
		all.Wait()
		st := w.Stats()
		if n := requests(st, standin.KindNames); n < 5 || n > 61 {
			t.Errorf("%d requests for names in ten minutes", n)
		}
		if st.ESI.Overspent != 0 || st.ESI.Refused != 0 {
			t.Errorf("%+v", st.ESI)
		}
	})
}
