package killfeed_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"killfeed"
	"killfeed/internal/ledgertest"
	"killfeed/storetest"
)

// Looking back gives what a walk over all events from the end gives, in pages of any size, and counting what counting them gives.
func TestHistoryLikeNaive(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		var clock atomic.Int64 // seconds
		began := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
		f := start(t, s.open(t), killfeed.Options{Wall: func() time.Time { return began.Add(time.Duration(clock.Load()) * time.Second) }})
		u := smallUniverse(t)
		f.SetUniverse(u)
		var all []killfeed.Event
		const events = 700 // several windows
		for i := range int64(events) {
			m := storetest.Mail{ID: 1 + i*3/4, System: []uint32{A, B, C}[i*i%3], ZKB: true, Time: began.Add(time.Duration(i%10) * time.Minute).Truncate(time.Second)}
			if i%7 == 0 {
				m.Labels = []string{"x", fmt.Sprint(i)} // every fourth id comes twice: some of them are updates
			}
			if i%11 == 0 {
				m.Time = time.Time{}
			}
			marks := killfeed.Marks(0)
			if i%5 == 0 {
				marks = killfeed.MarkBackfill
			}
			if _, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, marks); err != nil {
				t.Fatal(err)
			}
			clock.Add(1)
		}
		read := func() {
			all = all[:0]
			st := f.State()
			for id := st.First; id <= st.Head; id++ {
				e, err := f.Event(id)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, e)
			}
		}
		read()
		check := func(rt *rapid.T) {
			p := killfeed.Past{Topics: drawTopics.Draw(rt, "topics"), Updates: rapid.Bool().Draw(rt, "updates"),
				NoBackfill: rapid.Bool().Draw(rt, "no backfill"), Limit: rapid.SampledFrom([]int{1, 3, 64, 1000}).Draw(rt, "limit")}
			if rapid.Bool().Draw(rt, "bounded") {
				p.Since = began.Add(time.Duration(rapid.IntRange(0, 800).Draw(rt, "since")) * time.Second)
				p.Until = p.Since.Add(time.Duration(rapid.IntRange(0, 400).Draw(rt, "for")) * time.Second)
			}
			if text := rapid.SampledFrom([]string{"", "label=x", "killmail_id<200", "space=low"}).Draw(rt, "filter"); text != "" {
				filter, err := killfeed.ParseFilter(text, u)
				if err != nil {
					rt.Fatal(err)
				}
				p.Filter = filter
				if rapid.Bool().Draw(rt, "of all") {
					p.Topics = []killfeed.Topic{killfeed.All()}
				}
			}
			var want []killfeed.EventID
			counts := map[uint32]int{}
			for _, e := range slices.Backward(all) {
				k, err := killfeed.NewKillmail(e.SystemID, e.Killmail)
				if err != nil {
					rt.Fatal(err)
				}
				n := naiveEvent{Killmail: k}
				at := e.KilledAt
				if at.IsZero() {
					at = e.ReceivedAt
				}
				on := slices.ContainsFunc(p.Topics, n.isOn) && (p.Filter == nil || p.Filter.Match(&e)) &&
					(p.Updates || !e.Marks.Has(killfeed.MarkUpdate)) && !(p.NoBackfill && e.Marks.Has(killfeed.MarkBackfill)) &&
					(p.Since.IsZero() || !at.Before(p.Since) && !e.ReceivedAt.Before(p.Since)) && (p.Until.IsZero() || at.Before(p.Until))
				if on {
					want = append(want, e.ID)
					counts[e.SystemID]++
				}
			}
			var got []killfeed.EventID
			for pages := 0; ; pages++ {
				h, err := f.LookBack(context.Background(), p)
				if err != nil || len(h.Events) > p.Limit || h.Head != f.State().Head || pages > 2*events {
					rt.Fatalf("LookBack(%+v): %d events, head %d, %v", p, len(h.Events), h.Head, err)
				}
				for _, e := range h.Events {
					got = append(got, e.ID)
				}
				if p.Before = h.Next; h.Next == 0 {
					break
				}
			}
			if !slices.Equal(got, want) {
				rt.Fatalf("LookBack(%+v):\ngot  %v\nwant %v", p, got, want)
			}
			cs, st, err := f.Counts(context.Background(), p)
			slices.SortFunc(cs, func(a, b killfeed.SystemCount) int { return cmp.Compare(a.System, b.System) })
			if err != nil || len(cs) != len(counts) || st.Head != f.State().Head {
				rt.Fatalf("Counts(%+v): %v, %v; want %v", p, cs, err, counts)
			}
			for _, c := range cs {
				if counts[c.System] != c.Killmails {
					rt.Fatalf("Counts(%+v): %v; want %v", p, cs, counts)
				}
			}
		}
		rapid.Check(t, check)
		// And when the first ones were removed.
		if _, err := f.Commit(t.Context(), "reader", map[killfeed.Topic]killfeed.EventID{killfeed.All(): 123}); err != nil {
			t.Fatal(err)
		}
		if res, err := f.Collect(t.Context()); err != nil || res.First != 124 {
			t.Fatal(res, err)
		}
		read()
		rapid.Check(t, check)
	})
}

func TestKillmail(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		insert := func(m storetest.Mail) {
			t.Helper()
			if _, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0); err != nil {
				t.Fatal(err)
			}
		}
		insert(storetest.Mail{ID: 5, System: A, NoHash: true})
		insert(storetest.Mail{ID: 6, System: A, ZKB: true})
		insert(storetest.Mail{ID: 5, System: A, ZKB: true, Labels: []string{"x"}}) // the event 3 is an update
		is := func(id int64, want killfeed.EventID) {
			t.Helper()
			if e, err := f.Killmail(id); err != nil || e.ID != want || e.KillmailID != id {
				t.Errorf("Killmail(%d) is event %d, %v; want %d", id, e.ID, err, want)
			}
		}
		isNot := func(id int64, why string) {
			t.Helper()
			if e, err := f.Killmail(id); !errors.Is(err, killfeed.ErrNotFound) || !strings.Contains(err.Error(), why) {
				t.Errorf("Killmail(%d) is event %d, %v; want %q", id, e.ID, err, why)
			}
		}
		is(5, 3)
		is(6, 2)
		isNot(7, "never come")
		if _, err := f.Commit(t.Context(), "reader", map[killfeed.Topic]killfeed.EventID{killfeed.All(): 2}); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		is(5, 3)
		isNot(6, "killmail 6 was event 2, which retention has removed")
	})
}

// A reader of places goes on when the static data changes: from then on its topics are what the new data says, behind its offset or
// where a subscription stands.
func TestUniverseChanges(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		synctest.Test(t, func(t *testing.T) {
			f := start(t, s.open(t), killfeed.Options{Retention: killfeed.DefaultRetention()})
			region := killfeed.Topic{Kind: killfeed.KindRegion, ID: 1}
			made := func(systems ...uint32) *killfeed.Universe {
				d := killfeed.UniverseData{Regions: []killfeed.Region{{ID: 1, Name: "One"}}}
				for _, id := range systems {
					d.Systems = append(d.Systems, killfeed.SolarSystem{ID: id, Region: 1})
				}
				u, err := killfeed.NewUniverse(d)
				if err != nil {
					t.Fatal(err)
				}
				return u
			}
			f.SetUniverse(made(A))
			f.insert(A, B)
			woken := 0
			sub, _, err := f.Subscribe(t.Context(), killfeed.Subscriber{
				Read: killfeed.Read{Topics: []killfeed.Topic{region}, Start: killfeed.Earliest}, Wake: func() { woken++ },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Close()
			is := func(older []killfeed.EventID, want ...killfeed.EventID) { // older: only for who has an offset
				t.Helper()
				synctest.Wait()
				d, err := sub.Read(nil, 0)
				var got []killfeed.EventID
				for _, e := range d.Events {
					got = append(got, e.ID)
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("the subscription got %v, %v; want %v", got, err, want)
				}
				want = append(older, want...)
				for _, way := range []string{"poll", "after"} {
					r := killfeed.Read{Topics: []killfeed.Topic{region}}
					ans, err := f.Fetch(t.Context(), way, r)
					if err != nil || !slices.EqualFunc(ans.Events, want, func(e killfeed.Event, id killfeed.EventID) bool { return e.ID == id }) {
						t.Errorf("%s: %+v, %v; want %v", way, ans, err, want)
					}
				}
			}
			is(nil, 1)
			f.insert(B, A)
			is(nil, 4)
			f.SetUniverse(made(A, B))
			f.insert(B, C)
			is(nil, 5)
			f.SetUniverse(made(C))
			f.insert(A, B, C)
			is([]killfeed.EventID{6}, 9)
			f.SetUniverse(nil)
			f.insert(A, B, C)
			is(nil)
			if woken == 0 {
				t.Error("it was never woken")
			}
		})
	})
}

// Idle polls of a place ask what the ringing knows instead of the index. Nothing is slept through while it runs behind.
func TestPlacesWhileInserted(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{Retention: killfeed.DefaultRetention()})
		f.SetUniverse(smallUniverse(t))
		const each, writers, readers = 50, 3, 3
		var inserting, reading sync.WaitGroup
		for w := range writers {
			inserting.Go(func() {
				for range each {
					if _, err := f.Insert(t.Context(), []uint32{A, B, C}[w], []byte(`{}`)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		var done atomic.Bool
		for r := range readers {
			reading.Go(func() {
				topics := []killfeed.Topic{{Kind: killfeed.KindConstellation, ID: 11}, {Kind: killfeed.KindSpace, ID: uint32(killfeed.SpaceNull)}}
				got := map[killfeed.EventID]bool{}
				for last := false; ; {
					read := killfeed.Read{Topics: topics, Wait: 50 * time.Millisecond}
					if last {
						read.Wait = 0
					}
					ans, err := f.Next(t.Context(), fmt.Sprint(r), read)
					if err != nil {
						t.Error(err)
						return
					}
					for _, e := range ans.Events {
						if got[e.ID] {
							t.Errorf("event %d comes twice", e.ID)
						}
						got[e.ID] = true
					}
					if len(ans.Events) > 0 {
						continue
					}
					if last {
						break
					}
					last = done.Load() // and then once more until there is nothing
				}
				if len(got) != each*writers {
					t.Errorf("a reader got %d events of %d", len(got), each*writers)
				}
			})
		}
		inserting.Wait()
		done.Store(true)
		reading.Wait()
	})
}

// What new static data puts on a topic behind a client's offset comes, whether the client has looked there before or the feed was
// opened again meanwhile, and to a poll as to a subscription that begins; one that is open is beyond it.
func TestUniverseBringsOlder(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		region := killfeed.Topic{Kind: killfeed.KindRegion, ID: 1}
		made := func(systems ...uint32) *killfeed.Universe {
			d := killfeed.UniverseData{Regions: []killfeed.Region{{ID: 1, Name: "One"}}}
			for _, id := range systems {
				d.Systems = append(d.Systems, killfeed.SolarSystem{ID: id, Region: 1})
			}
			u, err := killfeed.NewUniverse(d)
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		f := start(t, s.open(t), killfeed.Options{})
		f.SetUniverse(made(A))
		f.insert(A, B, C)
		f.rung()
		clients := []string{"poll", "subscription", "poll after restart", "subscription after restart"}
		for _, c := range clients {
			f.is(f.fetch(c, about(region)), "1")
		}
		open := f.subscribe(by("open", 1, about(region)))
		f.is(open.read(0), "1")
		open.Delivered()
		f.SetUniverse(made(A, B))
		f.is(f.fetch("poll", about(region)), "2")
		f.is(f.fetch("poll", about(region)), "nothing")
		f.is(f.subscribe(by("subscription", 1, about(region))).read(0), "2")
		f.is(open.read(0), "nothing")
		open.Close()
		f.is(f.subscribe(by("open", 1, about(region))).read(0), "2")

		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.SetUniverse(made(A, B))
		f.is(f.fetch("poll after restart", about(region)), "2")
		f.is(f.subscribe(by("subscription after restart", 1, about(region))).read(0), "2")
	})
}

// A read that asked the index with static data that is replaced meanwhile does not hide what the new data brings.
func TestUniverseChangesDuringRead(t *testing.T) {
	region := killfeed.Topic{Kind: killfeed.KindRegion, ID: 1}
	made := func(id uint32) *killfeed.Universe {
		u, err := killfeed.NewUniverse(killfeed.UniverseData{Systems: []killfeed.SolarSystem{{ID: id, Region: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	h := &hooked{Store: storetest.NewModel()}
	f := start(t, h, killfeed.Options{})
	f.SetUniverse(made(A))
	f.insert(A, B)
	f.rung()
	h.before("after Find", func() { f.SetUniverse(made(B)) })
	f.is(f.fetch("c", about(region)), "1")
	f.is(f.fetch("c", about(region)), "2")
}

// A few look back at once; the others wait for a moment, and are told that it is too much.
func TestLooksBackAreBounded(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(A)
		past := killfeed.Past{Topics: in(A).Topics, Limit: 1}
		looks := map[string]func(context.Context) error{
			"LookBack": func(ctx context.Context) error { _, err := f.LookBack(ctx, past); return err },
			"Counts":   func(ctx context.Context) error { _, _, err := f.Counts(ctx, past); return err },
		}
		let := make(chan struct{})
		var running sync.WaitGroup
		for i := range f.MaxLooks() {
			h.before("Find", func() { <-let })
			running.Go(func() { f.errorIs(looks[[]string{"LookBack", "Counts"}[i%2]](t.Context()), nil) })
			synctest.Wait()
		}
		for _, look := range looks {
			f.errorIs(look(t.Context()), killfeed.ErrBusy)
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("the caller has left")
			time.AfterFunc(time.Second, func() { cancel(gone) })
			f.errorIs(look(ctx), gone)
		}
		time.AfterFunc(time.Second, func() { close(let) })
		for _, look := range looks { // these wait until there is room
			running.Go(func() { f.errorIs(look(t.Context()), nil) })
		}
		running.Wait()
	})
}

// emptyLog is a Store with many events, none of which is on the topics that are asked for, but perhaps those up to on. Finds counts
// how often the index was asked.
type emptyLog struct {
	killfeed.Store
	head, on killfeed.EventID
	finds    int
	greatest int // number of entries in an answer
}

func (l *emptyLog) State() killfeed.State {
	st := l.Store.State()
	st.First, st.Head = 1, l.head
	return st
}

func (l *emptyLog) Find(dst []killfeed.Entry, q killfeed.Query) ([]killfeed.Entry, error) {
	l.finds++
	n := 0
	for id := q.Positions[0].After + 1; id <= min(q.Through, l.on) && n < q.Max; id++ {
		dst = append(dst, killfeed.Entry{ID: id, Marks: killfeed.MarkUpdate}) // which nobody wants
		n++
	}
	l.greatest = max(l.greatest, n)
	return dst, nil
}

func (l *emptyLog) Read(ids []killfeed.EventID, yield func(killfeed.Event, error) bool) error {
	for _, id := range ids {
		if !yield(killfeed.Event{ID: id, Killmail: []byte(`{}`)}, nil) {
			break
		}
	}
	return nil
}

// Looking back for what is rare asks the index of a long log a few times, however many topics there are, and for what is common it
// never takes more than a window of entries.
func TestLookBackAsksFewTimes(t *testing.T) {
	ledgertest.Alone(t, "two million events are too many for servers that sync")
	for _, c := range []struct {
		on    killfeed.EventID
		finds int // at most
	}{
		{0, 12}, {1_000_000, 40},
	} {
		l := &emptyLog{Store: storetest.NewModel(), head: 10_000_000, on: c.on}
		f := start(t, l, killfeed.Options{})
		past := killfeed.Past{Topics: in(A).Topics, Limit: 1}
		h, err := f.LookBack(t.Context(), past)
		if err != nil || len(h.Events) > 0 || h.Next != 0 {
			t.Errorf("of %d events: %+v, %v", c.on, h, err)
		}
		if l.finds > c.finds || l.greatest > 1<<16 {
			t.Errorf("of %d events the index was asked %d times, want at most %d; the greatest answer is of %d entries",
				c.on, l.finds, c.finds, l.greatest)
		}
		past.Updates = true // now they are wanted, and a window of empty ones was too large for those before
		if h, err = f.LookBack(t.Context(), past); err != nil || c.on > 0 && (len(h.Events) != 1 || h.Events[0].ID != c.on || h.Next != c.on) {
			t.Errorf("the newest of %d events: %+v, %v", c.on, h, err)
		}
		past.Updates = false
		l.finds = 0
		past.Topics = about(killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}).Topics
		if counts, _, err := f.Counts(t.Context(), past); err != nil || len(counts) > 0 {
			t.Errorf("of %d events: %v, %v", c.on, counts, err)
		}
		if l.finds > int(c.on)/(1<<16)+1 {
			t.Errorf("counting %d events asks the index %d times", c.on, l.finds)
		}
	}
}
