package killfeed_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// crash opens the store of f again, as if the process had been killed.
func (f *feed) crash(store storage, o killfeed.Options) *feed {
	f.Helper()
	again := start(f.TB, store.open(f.TB), o)
	again.made = f.made
	return again
}

// commitTo is Subscription.Commit.
func (f *feed) commitTo(s *sub, id killfeed.EventID) error { return s.Commit(f.Context(), id) }

// A client's subscription goes on where the client stands, on each topic, and commits what was handed over, with each topic
// where its last event is.
func TestClientSubscription(t *testing.T) {
	onStores(t, func(t *testing.T, store storage) {
		f := start(t, store.open(t), killfeed.Options{})
		who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
		f.insert(A, B, A, C)
		f.rung()
		f.is(f.fetch("c", limit(1, in(A))), "1 more")
		s := f.subscribe(by("c", 1, in(A, B)))
		f.is(begins(s.place), "1")
		f.is(f.offsets("c"), "A:1 B:0") // the first use is recorded
		f.is(s.read(1), "2 more")
		f.is(f.offsets("c"), "A:1 B:0")
		s.Delivered()
		f.is(f.offsets("c"), "A:1 B:2")
		f.is(s.read(1), "3")
		s.Close() // with 3 not handed over
		f.is(f.offsets("c"), "A:1 B:2")
		s = f.subscribe(by("c", 1, in(B, A)))
		f.is(begins(s.place), "3") // on A as far as the poll has looked, on B behind 2
		f.is(s.read(0), "3")
		s.Delivered()
		s.Close()
		f.is(f.offsets("c"), "A:3 B:2")
		s.Delivered()
		f.is(f.fetch("c", in(A, B)), "nothing")

		// Polls and a subscription of one client share the offsets, and neither takes the other's back.
		s = f.subscribe(by("c", 1, about(killfeed.System(A), who, killfeed.All())))
		f.is(f.offsets("c"), "A:3 B:2 all:0 character:90000001:0")
		f.is(f.fetch("c", about(killfeed.All())), "1 2 3 4")
		f.is(s.read(2), "1 2 more")
		s.Delivered()
		f.is(f.offsets("c"), "A:3 B:2 all:4 character:90000001:1")
		f.is(s.read(0), "3 4")
		s.Delivered()
		f.is(f.offsets("c"), "A:3 B:2 all:4 character:90000001:3")
		s.Close() // what is removed of a character is not known exactly: nothing up to here shall be told as lost
		f.is(f.offsets("c"), "A:3 B:2 all:4 character:90000001:4")

		f.close()
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:3 B:2 all:4 character:90000001:4")
	})
}

// With manual commit nothing moves until the client says so, and then on the topics that had something.
func TestManualSubscription(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
		f.insert(A, B, A, B, C)
		synctest.Wait()
		s := f.subscribe(by("c", 1, manual(about(killfeed.System(A), killfeed.System(B), killfeed.System(C), who))))
		f.is(s.read(3), "1 2 3 more")
		s.Delivered()
		f.is(f.offsets("c"), "A:0 B:0 C:0 character:90000001:0")
		commit := func(id killfeed.EventID, want string) {
			t.Helper()
			if err := f.commitTo(s, id); err != nil {
				t.Errorf("Commit(%d): %v", id, err)
			}
			f.is(f.offsets("c"), want)
		}
		commit(2, "A:2 B:2 C:0 character:90000001:2")
		commit(1, "A:2 B:2 C:0 character:90000001:2") // never back
		commit(5, "A:3 B:2 C:0 character:90000001:3") // nor past what was read
		f.is(s.read(0), "4 5")
		commit(5, "A:3 B:4 C:5 character:90000001:5")
		f.invalid(f.commitTo(s, 6), "event_id")
		f.insert(B, C)
		synctest.Wait()
		f.is(s.read(1), "6 more")
		s.Close()
		f.is(f.offsets("c"), "A:3 B:4 C:5 character:90000001:5")
		f.errorIs(f.commitTo(s, 6), killfeed.ErrClosed)

		s = f.subscribe(by("c", 1, manual(in(B, C))))
		f.is(s.read(0), "6 7")

		// A topic that is new and has a history does not hold back the commits of others.
		s = f.subscribe(by("d", 1, manual(from(killfeed.StartAt(6), about(killfeed.All())))))
		f.is(s.read(0), "6 7")
		f.seek("d", killfeed.Earliest, A)
		f.setTopics(s, killfeed.All(), killfeed.System(A))
		if err := f.commitTo(s, 7); err != nil {
			t.Error(err)
		}
		f.is(f.offsets("d"), "A:0 all:7")
	})
}

// The newest connection has the client. The one before it is told, and can move nothing any more, whatever it was about to do.
func TestNewestConnectionWins(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(A, B, A)
		synctest.Wait()
		old := f.subscribe(by("c", "one", in(A)))
		beside := f.subscribe(by("c", "one", in(B))).follow(0, true) // the same connection
		other := f.subscribe(by("d", "one", in(A))).follow(0, true)  // another client
		f.is(beside.heard(), "2")
		f.is(old.read(1), "1 more")
		old.Delivered()
		f.is(old.read(1), "3")

		s := f.subscribe(by("c", "two", in(A, B)))
		f.is(beside.heard(), "replaced")
		f.is(old.read(1), "replaced")
		old.Delivered()
		f.is(f.offsets("c"), "A:1 B:2")
		f.errorIs(f.commitTo(old, 3), killfeed.ErrReplaced)
		_, err := old.SetTopics(t.Context(), in(C).Topics)
		f.errorIs(err, killfeed.ErrReplaced)
		old.Close()
		beside.Close()
		f.is(f.offsets("c"), "A:1 B:2")
		f.is(s.read(0), "3")
		s.Delivered()
		f.is(f.offsets("c"), "A:3 B:2")
		again := f.subscribe(by("c", "two", in(C)))
		f.is(s.read(0)+again.read(0), "nothingnothing")

		// The old one comes back: then it is the newest.
		back := f.subscribe(by("c", "one", in(A, B)))
		f.is(s.read(0)+" "+again.read(0)+" "+back.read(0), "replaced replaced nothing")
		// Nobody in particular is nobody's connection.
		f.is(f.subscribe(by("c", nil, in(A))).read(0)+" "+back.read(0), "nothing replaced")
		f.subscribe(by("c", nil, in(A)))
		f.is(other.heard(), "1 3")
	})
}

// A commit that waits for its turn while another connection takes the client commits nothing.
func TestCommitOfTheReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		take func(f *feed)
		want string
		err  error
	}{
		"replaced": {func(f *feed) { f.subscribe(by("c", 2, cursor(killfeed.Cursor{After: 1}, in(A)))) }, "A:1", killfeed.ErrReplaced},
		"deleted": {func(f *feed) {
			if err := f.DeleteClient(f.Context(), "c"); err != nil {
				f.Error(err)
			}
		}, "no client", killfeed.ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			waiting(t, func(t *testing.T, f *feed, h *hooked) {
				f.insert(A, A, A)
				synctest.Wait()
				s := f.subscribe(by("c", 1, manual(in(A))))
				f.is(s.read(0), "1 2 3")
				committed := make(chan error, 1)
				h.before("Commit", func() { // of the other's move, or deletion
					go func() { committed <- f.commitTo(s, 3) }()
					time.Sleep(time.Millisecond)
				})
				tt.take(f)
				f.errorIs(<-committed, tt.err)
				f.is(f.offsets("c"), tt.want)
			})
		})
	}
}

// Commits of deliveries and explicit ones at the same time: offsets never go back, in memory or on disk.
func TestCommitBesideDelivery(t *testing.T) {
	commits := map[string]func(f *feed, s *sub) error{
		"the client's":       func(f *feed, _ *sub) error { _, err := f.Commit(f.Context(), "c", offset(A, 1)); return err },
		"the subscription's": func(f *feed, s *sub) error { return f.commitTo(s, 1) },
	}
	for name, commit := range commits {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newModel()
				h := &hooked{Store: store.open(t)}
				f := start(t, h, killfeed.Options{})
				f.insert(A, A, A)
				synctest.Wait()
				s := f.subscribe(by("c", 1, in(A)))
				f.is(s.read(2), "1 2 more")
				h.before("Commit", s.Delivered)
				if err := commit(f, s); err != nil {
					t.Error(err)
				}
				f.is(f.offsets("c"), "A:2")
				time.Sleep(time.Second)
				synctest.Wait()
				again := f.crash(store, killfeed.Options{})
				again.is(again.offsets("c"), "A:2")
			})
		})
	}
}

// An explicit commit is on disk before it returns, also where the offsets were moved already by what was delivered.
func TestCommitOfSubscriptionIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{})
		f.insert(A, A)
		synctest.Wait()
		s := f.subscribe(by("c", 1, in(A)))
		f.is(s.read(0), "1 2")
		s.Delivered()
		if err := f.commitTo(s, 2); err != nil {
			t.Error(err)
		}
		f = f.crash(store, killfeed.Options{})
		f.is(f.offsets("c"), "A:2")
		s = f.subscribe(by("c", 2, manual(in(A))))
		f.insert(A)
		synctest.Wait()
		f.is(s.read(0), "3")
		if err := f.commitTo(s, 3); err != nil {
			t.Error(err)
		}
		f = f.crash(store, killfeed.Options{})
		f.is(f.offsets("c"), "A:3")
	})
}

// What a stream of deliveries commits is written once a second, for all clients together; at the latest a second after the
// delivery, and soon after Close.
func TestDeliveriesAreWrittenOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{Store: store.open(t)}
		f := start(t, h, killfeed.Options{})
		const clients = 3
		for i := range clients {
			f.subscribe(by(fmt.Sprint(i), i, in(A, B))).follow(0, true)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		writes := func() int {
			h.mu.Lock()
			defer h.mu.Unlock()
			n := h.offsetWrites
			h.offsetWrites = 0
			return n
		}
		writes()
		const seconds = 20
		for range seconds * 20 {
			f.insert(A)
			time.Sleep(50 * time.Millisecond)
		}
		if n := writes(); n < seconds-1 || n > seconds {
			t.Errorf("in %d seconds of events offsets were written %d times", seconds, n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		writes()
		time.Sleep(time.Minute)
		if n := writes(); n != 0 {
			t.Errorf("without events offsets were written %d times", n)
		}
		// A poll's commits, due sooner, do not wait for these, and take them along of the same client only.
		last := func(i int) string { return f.offsets(fmt.Sprint(i)) }
		f.insert(B)
		synctest.Wait()
		want := fmt.Sprint("A:", f.State().Head-1, " B:", f.State().Head)
		f.fetch("0", about(killfeed.All()))
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		f.is(last(1), want)
		disk := f.crash(store, killfeed.Options{})
		disk.is(disk.offsets("0"), want+fmt.Sprint(" all:", f.State().Head))
		disk.is(disk.offsets("1"), fmt.Sprint("A:", f.State().Head-1, " B:0"))
	})
	for _, end := range []string{"a second", "close of the subscription", "close of both", "close of the feed", "collection"} {
		t.Run(end, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := newModel()
				f := start(t, store.open(t), killfeed.Options{})
				s := f.subscribe(by("c", 1, in(A)))
				f.insert(A)
				synctest.Wait()
				f.is(s.read(0), "1")
				s.Delivered()
				time.Sleep(500 * time.Millisecond)
				f.insert(A)
				synctest.Wait()
				f.is(s.read(0), "2")
				s.Delivered()
				switch end {
				case "a second":
					time.Sleep(500 * time.Millisecond) // since the first
				case "close of the subscription":
					s.Close()
					time.Sleep(100 * time.Millisecond)
				case "close of both":
					s.Close()
					f.close()
				case "close of the feed":
					f.close()
				case "collection":
					f.collect()
				}
				synctest.Wait()
				f = f.crash(store, killfeed.Options{})
				f.is(f.offsets("c"), "A:2")
			})
		})
	}
}

// While a disk takes nothing deliveries go on, and what they committed is written when it takes something again.
func TestDeliveriesOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		faulty := storetest.NewFaulty(store.open(t))
		f := start(t, faulty, killfeed.Options{})
		f.insert(A, A)
		synctest.Wait()
		s := f.subscribe(by("c", 1, in(A)))
		f.is(s.read(1), "1 more")
		faulty.Sicken(killfeed.ErrDiskFull)
		s.Delivered()
		time.Sleep(3 * time.Second)
		f.is(s.read(1), "2")
		s.Delivered()
		f.is(f.offsets("c"), "A:2")
		f.errorIs(f.commitTo(s, 2), killfeed.ErrDiskFull)
		faulty.Heal()
		time.Sleep(time.Second)
		synctest.Wait()
		f = f.crash(store, killfeed.Options{})
		f.is(f.offsets("c"), "A:2")
	})
}

// A client is seen as long as it has a subscription, and its unread events are kept for it.
func TestLiveClientIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{Retention: killfeed.Retention{ClientTTL: 7 * day}})
		live := f.subscribe(by("live", 1, in(A)))
		old := f.subscribe(by("replaced", 1, in(A)))
		f.is(f.fetch("poller", in(B)), "nothing")
		f.insert(A, A, B)
		synctest.Wait()
		seen := func(client string) time.Duration {
			info, err := f.Client(client)
			if err != nil {
				t.Error(err)
			}
			return time.Since(info.LastSeen)
		}
		f.is(live.read(1), "1 more")
		live.Delivered()
		time.Sleep(400 * day)
		f.is(fmt.Sprint(f.collect()), "{0 1 3}") // held by both; the poller is forgotten
		f.is(f.offsets("poller")+", "+f.offsets("replaced"), "no client, A:0")
		if d := seen("live"); d != 0 {
			t.Errorf("a client with a subscription was seen %v ago", d)
		}
		s := f.subscribe(by("replaced", 2, in(A)))
		time.Sleep(3 * day)
		old.Close() // changes nothing for the new one
		f.is(fmt.Sprint(f.collect()), "{0 1 3}")
		time.Sleep(hour)
		s.Close()
		if d := seen("replaced"); d != 0 {
			t.Errorf("at the end of its subscription a client was seen %v ago", d)
		}
		time.Sleep(6 * day)
		f.is(fmt.Sprint(f.collect()), "{0 1 3}")
		time.Sleep(2 * day)
		f.is(fmt.Sprint(f.collect()), "{1 2 3}") // as far as the live one has read
		f.is(live.read(0), "2")
		if d := seen("replaced"); d != 8*day {
			t.Errorf("a client without a subscription was seen %v ago", d)
		}
	})
}

func TestDeletedClientEndsSubscription(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(A, A)
		synctest.Wait()
		s := f.subscribe(by("c", 1, in(A)))
		f.is(s.read(1), "1 more")
		asleep := f.subscribe(by("c", 1, in(B))).follow(0, true)
		f.is(asleep.heard(), "nothing")
		if err := f.DeleteClient(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		<-asleep.ended
		s.Delivered()
		f.is(s.read(0), "not found")
		f.errorIs(f.commitTo(s, 1), killfeed.ErrNotFound)
		_, err := s.SetTopics(t.Context(), in(C).Topics)
		f.errorIs(err, killfeed.ErrNotFound)
		s.Close()
		time.Sleep(2 * time.Second)
		f.is(f.offsets("c"), "no client")
		f.is(f.subscribe(by("c", 1, in(A))).read(0), "1 2")
	})
}

// A seek moves the client's subscriptions too: what they had read counts no more, and they go on from the new place.
func TestSeekMovesSubscriptions(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(A, B, A, B)
		synctest.Wait()
		s := f.subscribe(by("c", 1, in(A, B)))
		beside := f.subscribe(by("c", 1, in(C)))
		f.is(s.read(0)+"; "+beside.read(0), "1 2 3 4; nothing")
		f.is(f.seek("c", killfeed.StartAt(2), A), "A:1 B:0 C:0") // back on A, with all of it on its way
		if !s.awake() {
			t.Error("a seek back wakes nobody")
		}
		s.Delivered()
		f.is(f.offsets("c"), "A:1 B:4 C:0")
		f.is(s.read(0), "3")
		f.is(f.seek("c", killfeed.Latest), "A:4 B:4 C:4")
		s.Delivered()
		f.is(f.offsets("c"), "A:4 B:4 C:4")
		f.is(s.read(0)+beside.read(0), "nothingnothing")
		f.insert(A, C)
		synctest.Wait()
		f.is(s.read(0)+" "+beside.read(0), "5 6")
		f.is(f.seek("c", killfeed.Earliest), "A:0 B:0 C:0")
		f.is(s.read(2)+"; "+beside.read(0), "1 2 more; 6")
		s.Delivered()
		f.is(f.offsets("c"), "A:1 B:2 C:0")
		f.is(s.read(0), "3 4 5")

		// A seek that fails leaves them where they were.
		ctx, cancel := context.WithCancelCause(t.Context())
		left := errors.New("left")
		cancel(left)
		if _, err := f.Seek(ctx, "c", killfeed.Earliest, nil); err == nil {
			t.Error("a seek for nobody succeeds")
		}
		f.insert(B)
		synctest.Wait()
		f.is(s.read(0), "7")

		// One that is closed while the seek waits for it has no place any more.
		f.insert(B)
		synctest.Wait()
		sought := make(chan string, 1)
		h.before("Read", func() {
			go s.Close()
			for range 100 {
				runtime.Gosched()
			}
			go func() { sought <- f.seek("c", killfeed.Earliest) }()
			for range 100 {
				runtime.Gosched()
			}
		})
		f.is(s.read(0), "8")
		f.is(<-sought, "A:0 B:0 C:0")
		synctest.Wait()
		f.is(s.read(0), "closed")
		if at := s.Cursor().After; at > 8 {
			t.Errorf("the cursor is %d", at)
		}
	})
}

// What a reader does not want counts as read without anybody handing it over: it is not looked at again, nor told as lost.
func TestSubscriptionPassesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{Retention: killfeed.Retention{Max: hour}})
		s := f.subscribe(by("c", 1, noBackfill(in(A)))).follow(0, false)
		f.is(s.heard(), "nothing")
		backfill := func() { f.insertMail(f.mail(A), killfeed.MarkBackfill) }
		backfill()
		backfill()
		f.is(s.heard(), "nothing")
		f.is(f.offsets("c"), "A:2")
		f.insert(A) // it comes, and is not handed over
		f.is(s.heard(), "3")
		backfill()
		f.is(s.heard(), "nothing")
		f.is(f.offsets("c"), "A:2")
		s.Delivered()
		f.is(f.offsets("c"), "A:4")
		backfill()
		f.is(s.heard(), "nothing")
		f.is(f.offsets("c"), "A:5")
		time.Sleep(time.Second)
		synctest.Wait()
		f = f.crash(store, killfeed.Options{Retention: killfeed.Retention{Max: hour}})
		f.is(f.offsets("c"), "A:5")
		time.Sleep(2 * hour)
		f.collect()
		f.is(begins(f.subscribe(by("c", 2, noBackfill(in(A)))).place), "6")
	})
}

// A cursor that a connection comes with is where it begins, even when another subscription of it moves the offsets on at that
// moment.
func TestCursorBesideDelivery(t *testing.T) {
	for k := 1; ; k++ {
		came := false
		waiting(t, func(t *testing.T, f *feed, h *hooked) {
			f.insert(A, A, A)
			synctest.Wait()
			first := f.subscribe(by("c", 1, in(A)))
			f.is(first.read(0), "1 2 3")
			h.beforeCall(k, first.Delivered)
			second := f.subscribe(by("c", 1, cursor(killfeed.Cursor{After: 1}, in(A))))
			f.is(begins(second.place)+": "+second.read(0), "2: 2 3")
			came = h.disarm()
		})
		if !came {
			return
		}
	}
}

// Readers that wait on too many topics together are refused, and leave nothing behind.
func TestTopicsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{MaxWaiting: 3})
		two := killfeed.Subscriber{Read: in(A, B), Wake: func() {}}
		s, _, err := f.Subscribe(t.Context(), two)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.Subscribe(t.Context(), two); !errors.Is(err, killfeed.ErrBusy) {
			t.Errorf("a second subscription of two topics: %v, want ErrBusy", err)
		}
		if _, err := s.SetTopics(t.Context(), in(A, B, C).Topics); err != nil {
			t.Errorf("a third topic: %v", err)
		}
		if _, err := f.Fetch(t.Context(), "c", wait(time.Minute, in(A))); !errors.Is(err, killfeed.ErrBusy) {
			t.Errorf("a long poll: %v, want ErrBusy", err)
		}
		if _, err := f.Fetch(t.Context(), "c", in(A)); err != nil {
			t.Errorf("a poll that does not wait: %v", err)
		}
		s.Close()
		other, _, err := f.Subscribe(t.Context(), two)
		if err != nil {
			t.Fatalf("when the first is closed: %v", err)
		}
		other.Close()
	})
}

// What filters of readers take counts with their topics, as long as they wait, whatever becomes of their topics meanwhile.
func TestFiltersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, storetest.NewModel(), killfeed.Options{MaxWaiting: 60})
		filtered := func(values int, r killfeed.Read) killfeed.Read {
			var err error
			if r.Filter, err = killfeed.ParseFilter("points=0"+strings.Repeat("|x", values-1), nil); err != nil {
				t.Fatal(err)
			}
			return r
		}
		big := filtered(2, in(A)) // takes 11: a topic, a rule, 2 values
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, killfeed.ErrBusy) {
				t.Errorf("%s: %v, want ErrBusy", what, err)
			}
		}
		var subs []*killfeed.Subscription
		for range 5 { // 55 of 60
			s, _, err := f.Subscribe(t.Context(), killfeed.Subscriber{Read: big, Wake: func() {}})
			if err != nil {
				t.Fatal(err)
			}
			subs = append(subs, s)
		}
		_, _, err := f.Subscribe(t.Context(), killfeed.Subscriber{Read: big, Wake: func() {}})
		refused("a sixth subscription", err)
		_, err = f.Fetch(t.Context(), "c", wait(time.Minute, big))
		refused("a long poll", err)
		if _, err := f.Fetch(t.Context(), "c", wait(time.Minute, in(A))); err != nil {
			t.Errorf("a long poll without a filter: %v", err)
		}
		if _, err := f.Fetch(t.Context(), "c", big); err != nil {
			t.Errorf("a poll that does not wait: %v", err)
		}
		for _, s := range subs { // other topics in the place of all there were
			for _, topics := range [][]killfeed.Topic{in(B).Topics, in(C).Topics, in(A).Topics} {
				if _, err := s.SetTopics(t.Context(), topics); err != nil {
					t.Fatal(err)
				}
			}
		}
		_, _, err = f.Subscribe(t.Context(), killfeed.Subscriber{Read: big, Wake: func() {}})
		refused("a sixth subscription, after changes of topics", err)
		for _, s := range subs {
			s.Close()
			s.Close()
		}
		var sixty [60]uint32
		for i := range sixty {
			sixty[i] = uint32(i + 1)
		}
		all, _, err := f.Subscribe(t.Context(), killfeed.Subscriber{Read: in(sixty[:]...), Wake: func() {}})
		if err != nil {
			t.Fatalf("when all are closed: %v", err)
		}
		all.Close()
	})
}
