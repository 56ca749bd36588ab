package killfeed_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

// The rule of the specification, and nothing else, is what the zero Retention does.
func TestCollectAsSpecified(t *testing.T) {
	type offsets map[string]map[uint32]killfeed.EventID
	tests := []struct {
		name    string
		events  []uint32 // systems, of the events 1, 2, …
		offsets offsets
		want    killfeed.EventID // the first event kept
	}{
		{"as observed of the specified server", []uint32{A, B, A, B, A, B, A, B, A, B}, offsets{"a": {A: 7}, "b": {A: 9, B: 8}}, 8},
		{"no clients", []uint32{A, A, A}, nil, 1},
		{"a client that is at the start", []uint32{A, A, A}, offsets{"a": {A: 3}, "b": {A: 0}}, 1},
		{"everything is read", []uint32{A, A, A}, offsets{"a": {A: 3}}, 4},
		{"a quiet topic pins", []uint32{B, A, A, A}, offsets{"a": {A: 4, B: 1}}, 2},
		{"topics that no client uses go too", []uint32{C, C, A, A, B}, offsets{"a": {A: 4}}, 5},
		{"nothing stored", nil, offsets{"a": {A: 0}}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onStores(t, func(t *testing.T, s storage) {
				f := start(t, s.open(t), killfeed.Options{})
				f.insert(tt.events...)
				for client, at := range tt.offsets {
					for system, id := range at {
						f.commit(client, offset(system, id))
					}
				}
				head := killfeed.EventID(len(tt.events))
				for range 2 { // the second has nothing to do
					c := f.collect()
					if c.First != tt.want || c.Head != head {
						t.Errorf("kept are %d to %d, want %d to %d", c.First, c.Head, tt.want, head)
					}
				}
				f.insert(A)
				if head := f.State().Head; head != killfeed.EventID(len(tt.events)+1) {
					t.Errorf("the next event is %d", head)
				}
				for id := killfeed.EventID(1); id <= head; id++ {
					if _, err := f.Event(id); (err == nil) != (id >= tt.want) {
						t.Errorf("event %d: %v", id, err)
					}
				}
			})
		})
	}
}

// Each ceiling alone, and with the others. Ten events come, two hours apart, the last one just now. Client "all" has read all
// of them; client "slow" was last here 14 hours ago and read the first three.
func TestRetention(t *testing.T) {
	tests := []struct {
		name      string
		retention killfeed.Retention // MaxBytes in events
		slow, all bool
		want      killfeed.EventID // the first event kept
	}{
		{"read, and not old enough", killfeed.Retention{Retain: 19 * hour}, false, true, 1},
		{"read, and as far as old enough", killfeed.Retention{Retain: 9 * hour}, false, true, 6},
		{"exactly as old as Retain is not older", killfeed.Retention{Retain: 10 * hour}, false, true, 5},
		{"old enough, and as far as read", killfeed.Retention{Retain: 9 * hour}, true, true, 4},
		{"no clients: Retain does nothing", killfeed.Retention{Retain: hour}, false, false, 1},
		{"no clients: Max does", killfeed.Retention{Retain: hour, Max: 9 * hour}, false, false, 6},
		{"no clients: MaxBytes does", killfeed.Retention{Retain: hour, MaxBytes: 4}, false, false, 7},
		{"no clients, no ceiling", killfeed.Retention{}, false, false, 1},
		{"Max takes what is not read", killfeed.Retention{Retain: 1000 * hour, Max: 9 * hour}, true, false, 6},
		{"Max below Retain", killfeed.Retention{Retain: 9 * hour, Max: 5 * hour}, false, true, 8},
		{"Max off", killfeed.Retention{Retain: 5 * hour}, true, false, 4},
		{"Max takes all", killfeed.Retention{Max: time.Nanosecond}, false, false, 10},
		{"MaxBytes takes what is not read", killfeed.Retention{Retain: 1000 * hour, MaxBytes: 4}, true, false, 7},
		{"MaxBytes is enough for all", killfeed.Retention{MaxBytes: 10}, false, false, 1},
		{"MaxBytes is not enough for one", killfeed.Retention{MaxBytes: -1}, false, false, 1}, // no ceiling at all
		{"the strictest is bytes", killfeed.Retention{Retain: 3 * hour, Max: 17 * hour, MaxBytes: 6}, true, true, 5},
		{"the strictest is age", killfeed.Retention{Retain: 3 * hour, Max: 9 * hour, MaxBytes: 6}, true, true, 6},
		{"the strictest is what is read", killfeed.Retention{Retain: 3 * hour, Max: 17 * hour, MaxBytes: 6}, false, true, 9},
		{"an unseen client holds until its time is over", killfeed.Retention{ClientTTL: 15 * hour}, true, true, 4},
		{"and then no longer", killfeed.Retention{ClientTTL: 13 * hour}, true, true, 11},
		{"only unseen clients are no clients", killfeed.Retention{ClientTTL: 13 * hour}, true, false, 1},
		{"ClientTTL off: it holds for ever", killfeed.Retention{Retain: time.Second}, true, true, 4},
		{"as the server has it", killfeed.DefaultRetention(), true, true, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tt.retention.MaxBytes *= bytesOfOne(t)
				f := start(t, storetest.NewModel(), killfeed.Options{Retention: tt.retention})
				f.made = 10
				for i := range 10 {
					if i > 0 {
						time.Sleep(2 * hour)
					}
					f.insert(A)
					if i == 2 && tt.slow {
						f.is(f.fetch("slow", in(A)), "1 2 3")
					}
				}
				if tt.all {
					f.is(f.fetch("all", in(A)), "1 2 3 4 5 6 7 8 9 10")
				}
				if c := f.collect(); c.First != tt.want || c.Head != 10 || c.Removed != uint64(tt.want-1) {
					t.Errorf("collected %+v, want the first kept event to be %d", c, tt.want)
				}
				if tt.slow {
					want := "nothing"
					switch {
					case tt.want == 4:
						want = "4 5 6 7 8 9 10"
					case tt.want > 4:
						want = fmt.Sprintf("gap retention 4-%d", tt.want-1)
						f.is(f.fetch("slow", limit(1, peek(in(B)))), "nothing") // what it has not asked for it has not lost
					}
					if tt.want == 1 {
						want = "4 5 6 7 8 9 10"
					}
					a, err := f.Fetch(t.Context(), "slow", in(A))
					if err != nil {
						t.Fatal(err)
					}
					if tt.want > 4 {
						a.Events = nil
					}
					f.is(say(a), want) // it is told on its return
				}
			})
		})
	}
}

// bytesOfOne is what one event of these tests takes.
func bytesOfOne(t *testing.T) int64 {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.made = 10
	f.insert(A)
	return f.State().Bytes
}

// One quiet topic of one client pins what is kept, until Max.
func TestQuietTopicPins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.DefaultRetention()})
		f.is(f.fetch("c", in(A, B)), "nothing")
		for range 45 { // an event a day on A
			f.insert(A)
			time.Sleep(day)
			if _, err := f.Fetch(t.Context(), "c", in(A, B)); err != nil {
				t.Fatal(err)
			}
			f.collect()
		}
		f.is(f.offsets("c"), "A:45 B:0")
		if st := f.State(); st.First != 16 {
			t.Errorf("kept are %d to %d, want the last 30 days", st.First, st.Head)
		}
		f.is(f.fetch("c", in(A, B)), "nothing") // nothing was lost: B had nothing
		// Once the client has moved on there, only the last day is left.
		f.is(f.commit("c", offset(B, 45)), "B:45")
		f.collect()
		if st := f.State(); st.First != 45 {
			t.Errorf("kept are %d to %d", st.First, st.Head)
		}
	})
}

// A client that is gone for a week holds nothing more, is told what it lost when it comes back within a year, and is
// forgotten after that.
func TestClientsAwayForLong(t *testing.T) {
	for _, tt := range []struct {
		away time.Duration
		want string
	}{
		{6 * day, "1 2"},
		{8 * day, "gap retention 1-2"},
		{364 * day, "gap retention 1-2"},
		{366 * day, "nothing"}, // it is new
	} {
		t.Run(tt.away.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newModel()
				options := killfeed.Options{Retention: killfeed.Retention{Retain: day, ClientTTL: 7 * day}}
				f := start(t, store.open(t), options)
				f.is(f.fetch("away", in(A)), "nothing")
				f.insert(A, B)
				// The time goes on over a restart.
				time.Sleep(tt.away / 2)
				f.close()
				f = start(t, store.open(t), options)
				time.Sleep(tt.away - tt.away/2)
				f.is(f.fetch("here", from(killfeed.Latest, in(A, B))), "nothing")
				f.collect()
				want := tt.want
				if want == "1 2" {
					want = "1"
				} else if want != "nothing" {
					want = "gap retention 1-1"
				}
				if got := f.offsets("away"); (got == "no client") != (want == "nothing") {
					t.Errorf("after %v: %s", tt.away, got)
				}
				f.is(f.fetch("away", in(A)), want)
			})
		})
	}
}

// Being described does not count as a call of the client; anything that it does counts, also a poll that finds nothing.
func TestWhatCountsAsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{ClientTTL: 7 * day}})
		for _, name := range []string{"polls", "peeks", "commits", "described"} {
			f.is(f.fetch(name, in(A)), "nothing")
		}
		began := time.Now()
		time.Sleep(5 * day)
		f.is(f.fetch("polls", in(A)), "nothing")
		f.is(f.fetch("peeks", peek(in(A))), "nothing")
		f.is(f.commit("commits", offset(A, 0)), "A:0")
		f.is(f.offsets("described"), "A:0")
		for name, want := range map[string]time.Duration{"polls": 5 * day, "commits": 5 * day, "peeks": 0, "described": 0} {
			info, err := f.Client(name)
			if err != nil || info.LastSeen.Sub(began) != want {
				t.Errorf("%s was last seen after %v, want %v; %v", name, info.LastSeen.Sub(began), want, err)
			}
		}
	})
}

// Many events go in steps, so that nobody waits long; and a client that comes between two steps is not overtaken: what it is
// promised at its first use stays.
func TestNewClientDuringCollection(t *testing.T) {
	const n, step = 70_000, 32_768
	for _, tt := range []struct {
		name      string
		retention killfeed.Retention
		waits     bool
	}{
		{"what is read waits", killfeed.Retention{}, true},
		{"what is too old does not", killfeed.Retention{Max: hour}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hooked{Store: storetest.NewModel()}
				f := start(t, h, killfeed.Options{Retention: tt.retention})
				ks := make([]*killfeed.Killmail, n/7)
				for i := range ks {
					ks[i] = &killfeed.Killmail{SystemID: A, JSON: []byte("{}"), Topics: []killfeed.Topic{killfeed.System(A)}}
				}
				for range 7 {
					if _, err := f.InsertAll(t.Context(), ks, 0); err != nil {
						t.Fatal(err)
					}
				}
				f.is(f.commit("old", offset(A, n)), fmt.Sprintf("A:%d", n))
				time.Sleep(2 * hour)
				answer := make(chan string)
				h.before("Remove", func() {
					go func() { answer <- f.fetch("new", limit(1, in(A))) }()
					synctest.Wait() // until its first use stands in line behind this step
				})
				c := f.collect()
				got := <-answer
				switch {
				case !tt.waits && c.First != n+1, tt.waits && c.First > 2*step+1: // the first use comes before the third step
					t.Errorf("collected %+v", c)
				case tt.waits: // the new client has everything from where it began
					f.is(got, fmt.Sprint(c.First, " more"))
				}
				if steps := h.count("Remove"); steps != int(c.First+step-2)/step {
					t.Errorf("%d events were removed in %d steps", c.Removed, steps)
				}
			})
		})
	}
}

// Whatever a collection takes from a client that it does not wait for, the client is told.
func TestNewClientIsToldDuringCollection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooked{Store: storetest.NewModel()}
		f := start(t, h, killfeed.Options{Retention: killfeed.Retention{Max: hour}})
		f.insert(A, A)
		time.Sleep(2 * hour)
		f.insert(A)
		// The position is recorded, and before the log is read the events go.
		collected := make(chan killfeed.Collected)
		h.before("Commit", func() {
			go func() { collected <- f.collect() }()
			synctest.Wait()
		})
		first := f.fetch("c", in(A))
		<-collected
		second := f.fetch("c", in(A))
		switch first + ", then " + second {
		case "1 2 3, then nothing", "3 gap retention 1-2, then nothing":
		default:
			t.Errorf("a new client got %s, then %s", first, second)
		}
	})
}

// A seek back during a collection holds what it seeks.
func TestSeekDuringCollection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooked{Store: storetest.NewModel()}
		f := start(t, h, killfeed.Options{})
		f.insert(A, A, A, A)
		f.is(f.fetch("c", in(A)), "1 2 3 4") // written behind: the collection writes it first
		sought := make(chan string)
		h.before("Commit", func() {
			go func() { sought <- f.seek("c", killfeed.StartAt(3)) }()
			synctest.Wait()
		})
		f.collect()
		f.is(<-sought, "A:2")
		got := f.fetch("c", in(A))
		if got != "3 4" && got != "gap retention 3-4" {
			t.Errorf("after the seek the client got %s", got)
		}
	})
}

// Run collects every minute, and writes down when clients were last seen.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- f.Run(ctx) }()
		f.insert(A, A)
		f.is(f.fetch("c", in(A)), "1 2")
		f.insert(A)
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if n := f.Stats().Collections; n != 0 {
			t.Errorf("%d collections in the first minute", n)
		}
		f.is(f.fetch("c", peek(in(B))), "nothing")
		f.is(f.fetch("c", in(A)), "3")
		seen := time.Now()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if st := f.State(); st.First != 4 || f.Stats().Removed != 3 {
			t.Errorf("after a minute kept are %d to %d, %+v", st.First, st.Head, f.Stats())
		}
		time.Sleep(10 * time.Minute)
		if n := f.Stats().Collections; n != 11 {
			t.Errorf("%d collections in 11 minutes", n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		again := start(t, store.open(t), killfeed.Options{}) // a crash
		if info, err := again.Client("c"); err != nil || !info.LastSeen.Equal(seen) {
			t.Errorf("after a crash the client was last seen %v, %v; it was %v", info.LastSeen, err, seen)
		}
	})
}

// Collections do not run side by side; each caller gets a whole one. (Not in fake time: a mutex makes the others wait.)
func TestCollectAtOnce(t *testing.T) {
	f := start(t, storetest.NewModel(), killfeed.Options{})
	f.insert(A, A, A)
	f.is(f.fetch("c", limit(2, in(A))), "1 2 more")
	var (
		running sync.WaitGroup
		removed atomic.Uint64
	)
	for range 4 {
		running.Go(func() {
			c := f.collect()
			removed.Add(c.Removed)
			if c.First != 3 || c.Head != 3 {
				t.Errorf("collected %+v", c)
			}
		})
	}
	running.Wait()
	if st := f.Stats(); removed.Load() != 2 || st.Removed != 2 || st.Collections != 4 {
		t.Errorf("%d events were removed, stats are %+v", removed.Load(), st)
	}
}
