package names

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/ingest/standin"
	"killfeed/storetest"
)

// feed is a feed in memory, and killmails for it.
func feed(t *testing.T) (*killfeed.Feed, func(n int)) {
	t.Helper()
	f, err := killfeed.Open(storetest.NewModel(), killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	maker := storetest.NewMaker(storetest.MakerOptions{Start: now, Every: time.Second, Attackers: 3, Bytes: 1500})
	return f, func(n int) {
		t.Helper()
		for range n {
			if _, err := f.InsertAll(t.Context(), []*killfeed.Killmail{maker.Next()}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// follow runs Follow until the test ends.
func follow(t *testing.T, b *Book, f *killfeed.Feed) {
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Follow(ctx, f); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// ESI hangs. Neither a look at names nor an insert notices: no time passes.
func TestHangingESIHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{Faults: standin.Faults{standin.Hang: {Chance: 1, For: time.Hour}}})
		f, insert := feed(t)
		b, _ := w.book(t.TempDir(), Options{Queue: 1000})
		follow(t, b, f)
		b.Get(90_000_000)
		time.Sleep(time.Second) // it is asked for, and hangs
		if st := w.Stats(); st.Requests[standin.KindNames][0] != 1 {
			t.Fatalf("requests %v, want one that hangs", st.Requests)
		}
		begun := time.Now()
		insert(500)
		for _, id := range span(90_000_000, 5000) {
			if _, state := b.Get(id); state != Pending {
				t.Fatalf("%d: state %d", id, state)
			}
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("500 inserts and 5000 looks took %v", took)
		}
		synctest.Wait()
		if s := b.Status(); s.Dropped == 0 || s.Pending > 2001 {
			t.Errorf("%+v", s)
		}
	})
}

// The names in new killmails are asked for ahead, as long as somebody has asked for names within the hour.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, standin.Config{})
		f, insert := feed(t)
		u, err := killfeed.NewUniverse(killfeed.UniverseData{
			Regions: []killfeed.Region{{ID: 10_000_002, Name: "The Forge"}},
			Systems: []killfeed.SolarSystem{{ID: 30_000_142, Name: "Jita", Region: 10_000_002}},
			Types:   []killfeed.Type{{ID: 587, Name: "Rifter"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		f.SetUniverse(u)
		b, _ := w.book("", Options{})
		follow(t, b, f)
		insert(5)
		time.Sleep(time.Minute)
		if st := w.Stats(); st.ESI.NamesAsked != 0 {
			t.Errorf("%d names are asked for though nobody wants them", st.ESI.NamesAsked)
		}
		b.Get(90_000_000)
		time.Sleep(time.Minute)
		insert(20)
		time.Sleep(time.Minute)
		st, err := f.ReadAfter(t.Context(), killfeed.Cursor{After: 5, Epoch: f.State().Epoch}, killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}})
		if err != nil || len(st.Events) != 20 {
			t.Fatalf("%d events, %v", len(st.Events), err)
		}
		for _, e := range st.Events {
			ids := named(e.Killmail)
			if len(ids) < 5 {
				t.Fatalf("%s names %v", e.Killmail, ids)
			}
			for id := range ids {
				b.mu.Lock()
				_, there := b.held(id)
				b.mu.Unlock()
				if there == static(u, id) && possible(id) {
					t.Errorf("%d: in the book %v, static %v", id, there, static(u, id))
				}
			}
		}
		time.Sleep(2 * time.Hour) // where systems lie comes last
		asked := w.Stats().ESI.NamesAsked
		insert(20)
		time.Sleep(time.Minute)
		if n := w.Stats().ESI.NamesAsked; n != asked {
			t.Errorf("%d names are asked for, two hours after somebody wanted any", n-asked)
		}
		b.Get(90_000_000) // it is known, and somebody wants it
		time.Sleep(time.Minute)
		insert(5)
		time.Sleep(time.Minute)
		if n := w.Stats().ESI.NamesAsked; n == asked {
			t.Error("nothing is asked for after somebody wants names again")
		}
		w.manners()
	})
}

func TestNamed(t *testing.T) {
	for killmail, want := range map[string]int{
		`{}`: 0, `[]`: 0, `{"victim":7}`: 0, `{"attackers":[{"character_id":-1},{"corporation_id":5000000000},{"ship_type_id":0}]}`: 0,
		`{"solar_system_id":30000142,"victim":{"character_id":90000001,"ship_type_id":587},"attackers":[{"character_id":90000001,"weapon_type_id":587},{"faction_id":500001}]}`: 4,
	} {
		if got := named([]byte(killmail)); len(got) != want {
			t.Errorf("%s names %v, want %d", killmail, got, want)
		}
	}
}
