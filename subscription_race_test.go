package killfeed_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// before is what lies in the log when a subscription begins, amid what comes in the middle of that, after what comes later.
var (
	logBefore = []uint32{A, B, A, C} // 1 to 4
	logAmid   = []uint32{C, A, B}    // 5 to 7
	logAfter  = []uint32{C, B, A}    // 8 to 10
)

// amid runs a test again and again, in fake time: each time the events of logAmid come before another of the calls to the store,
// until it makes fewer: it returns whether they have come. They are rung for when the call goes on, if it is not the ledger's.
func amid(t *testing.T, atLeast int, test func(f *feed, h *hooked) bool) {
	for k := 1; ; k++ {
		came := false
		synctest.Test(t, func(t *testing.T) {
			h := &hooked{Store: storetest.NewModel()}
			f := start(t, h, killfeed.Options{})
			f.insert(logBefore...)
			synctest.Wait()
			h.beforeCall(k, func() {
				go f.insert(logAmid...) // the call may be the ledger's, which then has the insert wait
				time.Sleep(time.Millisecond)
			})
			if came = test(f, h); t.Failed() {
				t.Logf("that was with events before call %d", k)
			}
		})
		if !came {
			if k <= atLeast {
				t.Errorf("the store was called only %d times", k-1)
			}
			return
		}
		if t.Failed() {
			return
		}
	}
}

// An event that comes anywhere within Subscribe or the reads after it is delivered, once and in its place; and nobody sleeps
// through it.
func TestEventWithinSubscribe(t *testing.T) {
	who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
	used := func(systems ...uint32) func(f *feed) { // the client has read 1 to 3
		return func(f *feed) { f.is(f.fetch("c", limit(2, in(systems...))), "1 2 more") }
	}
	foreign := killfeed.Cursor{After: 2, Epoch: "0000000g"}
	tests := map[string]struct {
		prior func(f *feed)
		of    killfeed.Subscriber
		// start is the first event that can come; 0: that is for the log to say, where it ends
		start   killfeed.EventID
		systems []uint32
	}{
		"earliest":           {nil, of(in(A, B)), 1, []uint32{A, B}},
		"latest":             {nil, of(from(killfeed.Latest, in(A, B))), 0, []uint32{A, B}},
		"id":                 {nil, of(from(killfeed.StartAt(3), in(A, B))), 3, []uint32{A, B}},
		"time":               {nil, of(from(killfeed.StartTime(time.Unix(0, 0)), in(A, B))), 1, []uint32{A, B}},
		"cursor":             {nil, of(cursor(killfeed.Cursor{After: 1}, in(A, B))), 2, []uint32{A, B}},
		"cursor at the head": {nil, of(cursor(killfeed.Cursor{After: 4}, in(A, B))), 5, []uint32{A, B}},
		"cursor, foreign":    {nil, of(cursor(foreign, in(A, B))), 1, []uint32{A, B}},
		"all":                {nil, of(cursor(killfeed.Cursor{After: 4}, about(killfeed.All()))), 5, []uint32{A, B, C}},
		"overlapping":        {nil, of(from(killfeed.Latest, about(who, killfeed.All(), killfeed.System(A)))), 0, []uint32{A, B, C}},
		"new client":         {nil, by("c", 1, in(A, B)), 1, []uint32{A, B}},
		"new client, latest": {nil, by("c", 1, from(killfeed.Latest, in(A, B))), 0, []uint32{A, B}},
		"new client, id":     {nil, by("c", 1, from(killfeed.StartAt(4), in(A, B))), 4, []uint32{A, B}},
		"client":             {used(A, B), by("c", 1, in(A, B)), 3, []uint32{A, B}},
		"client, manual":     {used(A, B), by("c", 1, manual(in(A, B))), 3, []uint32{A, B}},
		"client at the head": {func(f *feed) { f.seek("c", killfeed.Latest, A, B) }, by("c", 1, in(A, B)), 5, []uint32{A, B}},
		"client with cursor": {used(A, B), by("c", 1, cursor(killfeed.Cursor{After: 1}, in(A, B))), 2, []uint32{A, B}},
		"client with a cursor at the head": {
			used(A, B), by("c", 1, cursor(killfeed.Cursor{After: 4}, in(A, B))), 5, []uint32{A, B}},
		"client, one of the topics new": {
			func(f *feed) { f.is(f.fetch("c", in(A)), "1 3") },
			by("c", 1, from(killfeed.StartAt(4), in(A, B))), 4, []uint32{A, B}},
	}
	for name, tt := range tests {
		for _, limit := range []int{0, 1, 2} {
			t.Run(fmt.Sprintf("%s, limit %d", name, limit), func(t *testing.T) {
				amid(t, 1, func(f *feed, h *hooked) bool {
					if tt.prior != nil {
						k, inserts := h.left, h.nth
						h.beforeCall(0, nil)
						tt.prior(f)
						time.Sleep(time.Second) // what it committed is written
						synctest.Wait()
						h.beforeCall(k, inserts)
					}
					s := f.subscribe(tt.of).follow(limit, true)
					heard, came := s.heard(), h.disarm()
					start := tt.start
					if start == 0 {
						if start = s.place.Start; start != 5 && start != 8 {
							f.Errorf("it begins with %d, want 5 or 8", start)
						}
					}
					if s.place.Start != start {
						f.Errorf("it begins with %d, want %d", s.place.Start, start)
					}
					head, log := f.State().Head, slices.Concat(logBefore, logAmid, logAfter)
					all := ids(start, log[:head], tt.systems...)
					f.is(heard, all) // with nothing after it that would wake it too
					if !came {
						return false
					}
					f.insert(logAfter...)
					f.is(s.heard(), ids(max(start, 8), log, tt.systems...))
					if s.Cursor().After != 10 {
						f.Errorf("the cursor is %v", s.Cursor())
					}
					if tt.of.Client == "" {
						return true
					}
					s.Close()
					again := tt.of
					again.From = nil
					next := f.subscribe(again).follow(limit, true)
					if tt.of.Manual {
						f.is(next.heard(), ids(start, log, tt.systems...))
					} else {
						f.is(next.heard(), "nothing")
					}
					f.insert(C, A)
					f.is(next.heard(), "12")
					return true
				})
			})
		}
	}
}

// The same for a change of topics, for an explicit commit, and for a seek of the client.
func TestEventWithinChange(t *testing.T) {
	a, b := killfeed.System(A), killfeed.System(B)
	topics := func(topics ...killfeed.Topic) func(f *feed, s *sub) {
		return func(f *feed, s *sub) { f.setTopics(s, topics...) }
	}
	type from = map[uint32]killfeed.EventID
	tests := map[string]struct {
		of     killfeed.Subscriber // it has read to the end of logBefore
		change func(f *feed, s *sub)
		want   from // the first event that comes afterwards, in each system
	}{
		"add":              {of(in(B)), topics(b, a), from{A: 5, B: 5}},
		"exchange":         {of(in(B)), topics(a), from{A: 5}},
		"remove":           {of(in(C, B)), topics(b), from{B: 5}},
		"add, client":      {by("c", 1, in(B)), topics(a, b), from{A: 1, B: 5}},
		"exchange, client": {by("c", 1, killfeed.Read{Topics: in(B).Topics, Start: killfeed.StartAt(2)}), topics(a), from{A: 2}},
		"remove, client":   {by("c", 1, in(C, B)), topics(b), from{B: 5}},
		"commit": {by("c", 1, manual(in(B))), func(f *feed, s *sub) {
			if err := f.commitTo(s, 2); err != nil {
				f.Error(err)
			}
			f.is(f.offsets("c"), "B:2")
		}, from{B: 5}},
		"seek forward": {by("c", 1, in(A, B)), func(f *feed, _ *sub) { f.seek("c", killfeed.StartAt(6)) }, from{A: 6, B: 6}},
		"seek back":    {by("c", 1, in(A, B)), func(f *feed, _ *sub) { f.seek("c", killfeed.StartAt(3)) }, from{A: 3, B: 3}},
	}
	for name, tt := range tests {
		for _, limit := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, limit %d", name, limit), func(t *testing.T) {
				amid(t, 1, func(f *feed, h *hooked) bool {
					k, inserts := h.left, h.nth
					h.beforeCall(0, nil)
					s := f.subscribe(tt.of)
					s.read(0)
					s.Delivered()
					time.Sleep(time.Second) // what that committed is written
					synctest.Wait()
					h.beforeCall(k, inserts)

					tt.change(f, s)
					s.follow(limit, true)
					heard, came := s.heard(), h.disarm()
					want := "nothing"
					for i, system := range slices.Concat(logBefore, logAmid)[:f.State().Head] {
						id := killfeed.EventID(i + 1)
						if first, wanted := tt.want[system]; wanted && id >= first {
							want = strings.TrimPrefix(fmt.Sprint(want, " ", id), "nothing ")
						}
					}
					f.is(heard, want)
					if came {
						f.insert(logAfter...)
						f.is(s.heard(), ids(8, slices.Concat(logBefore, logAmid, logAfter), slices.Collect(maps.Keys(tt.want))...))
					}
					return came
				})
			})
		}
	}
}

// Readers are woken only when they can see what they are woken for: here one reads before the ringer goes on.
func TestWokenReaderSees(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		o := of(in(A))
		o.Wake = func() { time.Sleep(time.Millisecond) } // which nobody may, outside of a test
		s := f.subscribe(o).follow(0, false)
		f.is(s.heard(), "nothing")
		for id := range 5 {
			f.insert(A)
			f.is(s.heard(), fmt.Sprint(id+1))
			time.Sleep(time.Second)
			f.is(s.heard(), "nothing")
		}
	})
}

// Who is in the middle of a read when the subscription ends is told so, without another event to wake it.
func TestEndWithinRead(t *testing.T) {
	ends := map[string]struct {
		end  func(f *feed, s *sub)
		want string
	}{
		"replaced": {func(f *feed, s *sub) { f.subscribe(by("c", 2, in(A))) }, "replaced"},
		"deleted": {func(f *feed, s *sub) {
			if err := f.DeleteClient(f.Context(), "c"); err != nil {
				f.Error(err)
			}
		}, "not found"},
		"feed closed": {func(f *feed, s *sub) {
			feed := f.Feed
			f.Feed = nil
			go feed.Close() // which waits for the read
			for !feed.Closing() {
				runtime.Gosched()
			}
		}, "closed"},
	}
	for name, tt := range ends {
		for _, moment := range []string{"Find", "after Find", "Read", "asleep"} {
			t.Run(name+" "+moment, func(t *testing.T) {
				waiting(t, func(t *testing.T, f *feed, h *hooked) {
					f.insert(A)
					synctest.Wait() // it is rung for before: else the one event that rings later is read without a Find
					h.before(moment, func() { tt.end(f, nil) })
					s := f.subscribe(by("c", 1, in(A))).follow(0, true)
					synctest.Wait()
					if moment == "asleep" {
						tt.end(f, s)
					}
					time.Sleep(time.Hour)
					select {
					case <-s.ended:
					default:
						t.Fatal("the reader waits still")
					}
					if h.count("Find") == 0 {
						t.Error("it has read nothing")
					}
				})
			})
		}
	}
}

// At the end of the feed subscriptions end, those that wait and those that read; nobody reads a store that is closed.
func TestSubscriptionsEndWithTheFeed(t *testing.T) {
	run := func(t *testing.T, store killfeed.Store) {
		f := start(t, store, killfeed.Options{})
		for range 200 {
			f.insert(A)
		}
		var readers sync.WaitGroup
		begun := make(chan struct{}, 6)
		for i := range 6 {
			s := f.subscribe(by(fmt.Sprint(i), 1, in([]uint32{A, B}[i%2])))
			readers.Go(func() {
				for {
					got := s.read(3)
					select {
					case begun <- struct{}{}:
					default:
					}
					switch {
					case got == "closed":
						return
					case strings.HasSuffix(got, "more"):
					case i%2 == 0: // a reader of history, for as long as the feed is there
						if _, err := f.Seek(context.Background(), fmt.Sprint(i), killfeed.Earliest, nil); err != nil {
							if !errors.Is(err, killfeed.ErrClosed) {
								t.Error(err)
							}
							return
						}
					default:
						<-s.woken
					}
				}
			})
		}
		for range 6 {
			<-begun
		}
		f.rung()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		readers.Wait()
		f.Feed = nil
	}
	t.Run("model", func(t *testing.T) { run(t, yielding{storetest.NewModel()}) })
	t.Run("pebble", func(t *testing.T) { // which has next to nothing in memory
		store, err := pebblestore.Open("data", pebblestore.Options{FS: vfs.NewMem(), Tail: 1})
		if err != nil {
			t.Fatal(err)
		}
		run(t, yielding{store})
	})
}

// When the ringer cannot keep up with what is inserted, everybody looks, and nobody misses anything.
func TestTooMuchToRing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{})
		stuck := make(chan struct{})
		o := of(in(C))
		o.Wake = func() { <-stuck }
		first := f.subscribe(o).follow(0, false)
		a, b := f.subscribe(of(in(A))).follow(0, false), f.subscribe(of(in(B))).follow(7, false)
		synctest.Wait()
		f.insert(C, A) // the ringer is held up in the middle of this
		synctest.Wait()

		mail := f.mail(1)
		mail.ID = 0 // none is a duplicate
		k := mail.Killmail()
		many := slices.Repeat([]*killfeed.Killmail{k}, killfeed.MaxQueued)
		if _, err := f.InsertAll(t.Context(), many, 0); err != nil {
			t.Fatal(err)
		}
		f.insert(B, A)
		head := int(f.State().Head)
		close(stuck)
		f.is(first.heard(), "1")
		f.is(a.heard(), fmt.Sprint("2 ", head))
		f.is(b.heard(), fmt.Sprint(head-1))
		for _, s := range []*sub{first, a, b} {
			if got := int(s.Cursor().After); got != head {
				t.Errorf("the cursor is %d, want %d", got, head)
			}
		}
		f.insert(A, C)
		f.is(a.heard()+" "+b.heard()+" "+first.heard(), fmt.Sprint(head+1, " nothing ", head+2))
	})
}

// Many writers and many subscriptions at once, which come and go: each subscription gets exactly what is on its topics, in
// order, whatever the scheduler does.
func TestManySubscriptions(t *testing.T) {
	const (
		writers, each = 4, 60
		readers       = 24
	)
	who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
	wants := []struct {
		topics  []killfeed.Topic
		systems []uint32
	}{
		{[]killfeed.Topic{killfeed.System(A), killfeed.System(C)}, []uint32{A, C}},
		{[]killfeed.Topic{killfeed.System(C), killfeed.System(B), killfeed.System(1)}, []uint32{B, C}},
		{[]killfeed.Topic{killfeed.All()}, []uint32{A, B, C}},
		{[]killfeed.Topic{who, killfeed.System(C), killfeed.System(A)}, []uint32{A, C}},
	}
	run := func(t *testing.T, store killfeed.Store) {
		f := start(t, yielding{store}, killfeed.Options{})
		got := make([][]killfeed.EventID, readers)
		var writing, reading sync.WaitGroup
		for r := range readers {
			want := wants[r%len(wants)]
			rnd := rand.New(rand.NewPCG(uint64(r), 1))
			o := of(about(want.topics...))
			if r%3 > 0 {
				o = by(fmt.Sprint(r), 0, about(want.topics...))
				o.Manual = r%3 == 2
			}
			reading.Go(func() {
				for o.Holder = 0; ; o.Holder = o.Holder.(int) + 1 { // each time another connection
					s := f.subscribe(o)
					for reads := 0; ; reads++ {
						select {
						case <-s.woken:
						default:
						}
						d, err := s.Read(nil, 1+rnd.IntN(5))
						if err != nil || d.Gap != nil {
							t.Errorf("reader %d: gap %v, %v", r, d.Gap, err)
							return
						}
						for _, e := range d.Events {
							got[r] = append(got[r], e.ID)
							if e.SystemID == C { // the last
								return
							}
						}
						s.Delivered()
						if o.Manual && len(d.Events) > 0 {
							if err := s.Commit(context.Background(), got[r][len(got[r])-1]); err != nil {
								t.Error(err)
							}
						}
						if rnd.IntN(12) == 0 {
							break
						}
						if !d.More {
							<-s.woken
							s.woken <- struct{}{}
						}
					}
					if o.Client == "" {
						c := s.Cursor()
						o.From = &c
					}
					if rnd.IntN(2) == 0 { // else it is replaced
						s.Close()
					}
				}
			})
		}
		var mu sync.Mutex
		for w := range writers {
			writing.Go(func() {
				for i := range each {
					mu.Lock()
					m := f.mail([]uint32{A, B, A, 1}[(w+i)%4])
					mu.Unlock()
					f.insertMail(m, 0)
				}
			})
		}
		writing.Wait()
		f.insert(C)
		reading.Wait()
		for r := range readers {
			var want []killfeed.EventID
			for id := killfeed.EventID(1); id <= f.State().Head; id++ {
				e, err := f.Event(id)
				if err != nil {
					t.Fatal(err)
				}
				systems := wants[r%len(wants)].systems
				if slices.Contains(systems, e.SystemID) || len(systems) == 3 || e.SystemID == 1 && r%len(wants) == 1 {
					want = append(want, id)
				}
			}
			if !slices.Equal(got[r], want) {
				t.Errorf("reader %d got  %v\nwant %v", r, got[r], want)
			}
		}
	}
	t.Run("model", func(t *testing.T) { run(t, storetest.NewModel()) })
	t.Run("pebble", func(t *testing.T) { run(t, pebbles{vfs.NewMem()}.open(t)) })
}
