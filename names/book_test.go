package names

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed/ingest/esi"
	"killfeed/ingest/standin"
)

// What is not known is not waited for; it is there later, of every category, with tickers and places.
func TestNamesArriveLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{})
		b, _ := w.book(t.TempDir(), Options{})
		ids := []uint32{587, 500_001, 1_000_125, 10_000_002, 20_000_020, 30_000_142, 90_000_001, 98_000_001, 99_000_001, 2_112_000_001}
		begun := time.Now()
		for _, id := range ids {
			if e, state := b.Get(id); state != Pending || e != (Entry{}) {
				t.Errorf("%d is %+v (%d) before anybody was asked", id, e, state)
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("it took %v", took)
		}
		w.awaited(b, ids...)
		if took := time.Since(begun); took > time.Second {
			t.Errorf("names took %v", took)
		}
		w.check(b, ids...)
		time.Sleep(time.Minute)
		for id, want := range map[uint32]Entry{
			98_000_001: {Category: Corporation, Name: "corporation 98000001", Ticker: "C1"},
			99_000_001: {Category: Alliance, Name: "alliance 99000001", Ticker: "A1"},
			30_000_142: {Category: System, Name: "solar_system 30000142", Constellation: 20_000_143, Security: -0.8},
			20_000_143: {Category: Constellation, Name: "constellation 20000143", Region: 10_000_044}, // by way of its system
			10_000_044: {Category: Region, Name: "region 10000044"},
		} {
			if e, state := b.Get(id); state != Known || fmt.Sprintf("%.3v", e) != fmt.Sprintf("%.3v", want) {
				t.Errorf("%d is %+v (%d), want %+v", id, e, state, want)
			}
		}
		st := w.manners()
		if n := st.Requests[standin.KindNames][200]; n > 4 || st.ESI.NamesAgain != 0 {
			t.Errorf("%d requests for names, %d names twice", n, st.ESI.NamesAgain)
		}
		if s := b.Status(); s.Pending+s.Details != 0 || s.Fetched != uint64(st.ESI.NamesTold) || s.Known != st.ESI.NamesTold || !s.Asks {
			t.Errorf("status %+v, %d names told", s, st.ESI.NamesTold)
		}
	})
}

func TestNothingIsAskedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{Named: func(id uint32) (standin.Named, bool) {
			n, ok := standin.MadeUp(id)
			return n, ok && id != 90_000_007
		}})
		dir := t.TempDir()
		ids := append(span(90_000_000, 2500), span(98_000_000, 20)...)
		b, stop := w.book(dir, Options{Cache: 100}) // most has to come from the file
		for range 3 {
			var all sync.WaitGroup
			for range 4 { // several readers at once
				all.Go(func() { w.awaited(b, ids...) })
			}
			all.Wait()
		}
		time.Sleep(time.Minute) // tickers
		stop()
		before := w.manners()
		if before.ESI.NamesAgain != 0 || requests(before, standin.KindDetails) != 20 {
			t.Errorf("%d names twice, %d requests for 20 tickers", before.ESI.NamesAgain, requests(before, standin.KindDetails))
		}
		b, _ = w.book(dir, Options{})
		for _, id := range ids {
			if _, state := b.Get(id); state == Pending {
				t.Fatalf("%d is asked again after a restart", id)
			}
		}
		if e, _ := b.Get(98_000_003); e.Ticker != "C3" {
			t.Errorf("after a restart: %+v", e)
		}
		time.Sleep(time.Hour)
		if after := w.manners(); requests(after, standin.KindNames) != requests(before, standin.KindNames) ||
			requests(after, standin.KindDetails) != requests(before, standin.KindDetails) {
			t.Errorf("requests %v, before the restart %v", after.Requests, before.Requests)
		}
	})
}

// An old name is shown until the new one comes; one that there was none of is asked for again after a day, by itself.
func TestOldNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards the next two
		renamed, exists := false, false
		w := open(t, standin.Config{Named: func(id uint32) (standin.Named, bool) {
			mu.Lock()
			defer mu.Unlock()
			n, ok := standin.MadeUp(id)
			if renamed {
				n.Name, n.Ticker = "New "+n.Name, "N"+n.Ticker
			}
			return n, ok && (exists || id != 90_000_002)
		}})
		b, _ := w.book(t.TempDir(), Options{})
		w.awaited(b, 98_000_001, 90_000_002)
		time.Sleep(23 * time.Hour)
		before := requests(w.Stats(), standin.KindNames)
		mu.Lock()
		exists = true
		mu.Unlock()
		b.Get(90_000_002)
		time.Sleep(time.Hour - time.Minute)
		if _, state := b.Get(90_000_002); state != Unknown || requests(w.Stats(), standin.KindNames) != before {
			t.Errorf("state %d; it is asked again within a day", state)
		}
		time.Sleep(2 * time.Minute)
		b.Get(90_000_002)
		time.Sleep(time.Minute)
		w.check(b, 90_000_002)

		mu.Lock()
		renamed = true
		mu.Unlock()
		time.Sleep(28 * 24 * time.Hour)
		b.Get(98_000_001)
		time.Sleep(time.Minute)
		w.check(b, 98_000_001)
		time.Sleep(2 * 24 * time.Hour)
		if e, state := b.Get(98_000_001); state != Known || e.Name != "corporation 98000001" {
			t.Errorf("%+v (%d), want the old name as long as there is no other", e, state)
		}
		time.Sleep(time.Minute)
		if e, _ := b.Get(98_000_001); e.Name != "New corporation 98000001" || e.Ticker != "NC1" {
			t.Errorf("after 30 days: %+v", e)
		}
		w.manners()
	})
}

func TestDownForAnHour(t *testing.T) {
	for name, f := range map[string]standin.Faults{
		"5xx":   {standin.ServerError: {Next: 1, For: time.Hour}},
		"403":   {standin.Forbidden: {Next: 1, For: time.Hour}},
		"429":   {standin.TooMany: {Next: 1, For: time.Hour, RetryAfter: 10 * time.Second}},
		"pages": {standin.HTML: {Next: 1, For: time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, standin.Config{Faults: f})
				b, _ := w.book("", Options{})
				ids := span(90_000_000, 300)
				for _, id := range ids {
					b.Get(id)
				}
				time.Sleep(time.Hour)
				if s := b.Status(); s.Pending != len(ids) || s.Failures < 5 || s.Failures > 100 || s.LastError == "" || s.Unknown != 0 {
					t.Errorf("after an hour: %+v", s)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
				defer cancel()
				if err := b.Await(ctx, ids); err != nil {
					t.Errorf("a quarter of an hour later: %v, %+v", err, b.Status())
				}
				w.check(b, ids...)
				if n := w.log.count("ESI does not tell names"); n != 1 {
					t.Errorf("it is told %d times", n)
				}
				w.manners()
			})
		})
	}
}

// Whatever ESI does, all names come in the end.
func TestMisbehaviour(t *testing.T) {
	const often = 0.2
	faults := map[string]standin.Faults{
		"hang":         {standin.Hang: {Chance: often}},
		"slow":         {standin.Slow: {Chance: 1}},
		"429":          {standin.TooMany: {Chance: often, RetryAfter: 5 * time.Second}},
		"5xx":          {standin.ServerError: {Chance: often}},
		"cut":          {standin.Cut: {Chance: often}},
		"truncated":    {standin.Truncated: {Chance: often}},
		"invalid JSON": {standin.InvalidJSON: {Chance: often}},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := open(t, standin.Config{Faults: f})
				b, _ := w.book("", Options{})
				ids := append(span(90_000_000, 1500), span(98_000_000, 20)...)
				w.awaited(b, ids...)
				time.Sleep(3 * time.Hour)
				w.check(b, ids...)
				for _, id := range span(98_000_000, 20) {
					if e, _ := b.Get(id); e.Ticker == "" {
						t.Errorf("%d has no ticker", id)
					}
				}
				if st := w.manners(); len(st.Faults) == 0 {
					t.Error("no fault struck")
				}
			})
		})
	}
}

// What was not asked for and what cannot be shown is stepped over, and told once.
func TestWrongNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{Faults: standin.Faults{standin.WrongNames: {Next: 3}}})
		b, _ := w.book("", Options{})
		ids := []uint32{90_000_000, 90_000_001, 90_000_002}
		w.awaited(b, ids...)
		for _, id := range append(ids, 7) {
			if e, state := b.Get(id); id != 7 && state != Unknown || e.Name != "" {
				t.Errorf("%d is %+v (%d)", id, e, state)
			}
		}
		if s := b.Status(); s.Invalid == 0 || w.log.count("not as it should be") != 1 {
			t.Errorf("%+v, told %d times", s, w.log.count("not as it should be"))
		}
	})
}

// The queues are bounded. What they have no room for is dropped, counted, and wanted again by whoever asks next.
func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{Faults: standin.Faults{standin.ServerError: {Next: 1, For: time.Hour}}})
		b, _ := w.book("", Options{Queue: 100})
		ids := span(90_000_000, 250)
		for range 2 {
			for _, id := range ids {
				if _, state := b.Get(id); state != Pending {
					t.Fatalf("%d: state %d", id, state)
				}
			}
		}
		if s := b.Status(); s.Pending != 100 || s.Dropped != 300 {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Minute)
		if s := b.Status(); s.Pending != 100 {
			t.Errorf("while ESI is down: %+v", s)
		}
		w.ClearFaults()
		w.awaited(b, ids...)
		w.check(b, ids...)
	})
}

// What somebody asks for overtakes what is asked for ahead, and is not there twice.
func TestLines(t *testing.T) {
	b, err := Open("", Options{Queue: 3, ESI: new(esi.Client)})
	if err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, id := range []uint32{1, 2, 3, 4} {
		b.want(id, ahead)
	}
	b.want(2, asked)
	b.want(2, ahead)
	b.want(2, stale)
	b.want(9, again)
	b.want(8, stale)
	b.want(5, details)
	for i, want := range [][]uint32{{2, 1}, {3}, nil, nil} {
		if got := b.takeNames(2, asked, ahead); !slices.Equal(got, want) {
			t.Errorf("take %d: %v, want %v", i, got, want)
		}
	}
	b.want(1, asked) // it flies
	b.putBack([]uint32{3, 1, 2, 77})
	for i, want := range [][]uint32{{2, 3, 1}, nil} {
		if got := b.takeNames(4, asked, ahead); !slices.Equal(got, want) {
			t.Errorf("take %d: %v, want %v", i, got, want)
		}
	}
	if got := b.takeNames(4, stale, again); !slices.Equal(got, []uint32{8, 9}) {
		t.Errorf("%v", got)
	}
	b.flying[4] = ahead
	b.doubt([]uint32{3, 1, 2, 4, 8, 99}) // 99 is told meanwhile
	b.want(2, asked)                     // it stays in doubt
	if got := b.takeNames(4, asked, ahead, guessed); len(got) > 0 || b.queued(4) || b.queued(99) || !b.queued(2) || !b.queued(8) {
		t.Errorf("%v", got)
	}
	if b.status.Dropped != 2 {
		t.Errorf("%d dropped, want 2", b.status.Dropped)
	}

	// What turns out to be a killmail's leaves those that somebody made up, in doubt or not, while it is asked for too.
	b.want(8, asked) // no room
	for i, want := range [][]uint32{{3}, {1, 2, 8}} {
		if i > 0 {
			b.want(8, ahead)
		}
		if got := b.takeNames(1+2*i, doubtful); !slices.Equal(got, want) {
			t.Errorf("in doubt: %v, want %v", got, want)
		}
	}
	b.want(11, guessed)
	b.want(12, guessed)
	b.takeNames(1, guessed)
	b.want(11, asked)
	b.want(12, ahead)
	b.flying[13] = dubious
	b.want(13, ahead)
	b.want(13, guessed)
	for id, want := range map[uint32]sort{3: doubtful, 8: doubtful, 11: asked, 13: doubtful} {
		if got := b.flying[id]; got != want {
			t.Errorf("%d flies as of line %d, want %d", id, got, want)
		}
	}
	if got := b.takeNames(3, ahead, dubious, guessed); !slices.Equal(got, []uint32{12}) {
		t.Errorf("%v", got)
	}
}

// A nil Book, and one that asks nobody, know what they were told and nothing else.
func TestWithoutESI(t *testing.T) {
	var none *Book
	if e, state := none.Get(90_000_001); state != Unknown || e != (Entry{}) {
		t.Errorf("%+v (%d)", e, state)
	}
	if err := errors.Join(none.Await(t.Context(), []uint32{1}), none.Close()); err != nil || none.Status() != (Status{}) {
		t.Errorf("%v, %+v", err, none.Status())
	}
	b, err := Open("", Options{})
	if err != nil {
		t.Fatal(err)
	}
	want := Entry{Category: Corporation, Name: "Brave Newbies", Ticker: "BNI"}
	b.Learn(map[uint32]Entry{98_000_001: want})
	if e, state := b.Get(98_000_001); state != Known || e != want {
		t.Errorf("%+v (%d)", e, state)
	}
	if e, state := b.Get(98_000_002); state != Unknown || e != (Entry{}) {
		t.Errorf("%+v (%d)", e, state)
	}
	if err := b.Await(t.Context(), []uint32{98_000_001, 98_000_002}); err != nil {
		t.Error(err)
	}
	if s := b.Status(); s.Known != 1 || s.Pending+s.Details != 0 || s.Asks {
		t.Errorf("%+v", s)
	}
}

func TestAwaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{Faults: standin.Faults{standin.Hang: {Chance: 1}}})
		b, _ := w.book("", Options{})
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, errors.New("long enough"))
		defer cancel()
		begun := time.Now()
		if err := b.Await(ctx, []uint32{90_000_001}); err == nil || err.Error() != "long enough" || time.Since(begun) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}

func BenchmarkGet(b *testing.B) {
	dir := b.TempDir()
	book, err := Open(dir, Options{Cache: 2000})
	if err != nil {
		b.Fatal(err)
	}
	defer book.Close()
	all := map[uint32]Entry{}
	for _, id := range span(90_000_000, 100_000) {
		all[id] = Entry{Category: Character, Name: "somebody with a name"}
	}
	book.Learn(all)
	book.save()
	b.Run("memory", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			book.Get(90_000_007)
		}
	})
	b.Run("file", func(b *testing.B) {
		b.ReportAllocs()
		id := uint32(0)
		for b.Loop() {
			if _, state := book.Get(90_000_000 + id); state != Known {
				b.Fatal(state)
			}
			id = (id + 7919) % 100_000
		}
	})
}
