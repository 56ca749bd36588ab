package killfeed_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// waiting runs a test of long polls in fake time, on the naive store.
func waiting(t *testing.T, test func(t *testing.T, f *feed, h *hooked)) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooked{Store: storetest.NewModel()}
		test(t, start(t, h, killfeed.Options{}), h)
	})
}

// later runs a read in the background and says what it got, and after how long.
func (f *feed) later(read func() string) <-chan string {
	began := time.Now()
	answer := make(chan string, 1)
	go func() {
		got := read()
		answer <- fmt.Sprintf("%s after %v", got, time.Since(began))
	}()
	synctest.Wait()
	return answer
}

// A long poll wakes at once for an event on one of its topics, and looks at nothing for others.
func TestWaitWakesOnItsTopics(t *testing.T) {
	who := killfeed.Topic{Kind: killfeed.KindCharacter, ID: pilot}
	for name, tt := range map[string]struct {
		read  killfeed.Read
		other uint32 // a system of which it must not wake
	}{
		"system":      {in(A), B},
		"two systems": {in(C, A), B},
		"character":   {about(who), B},
		"all":         {about(killfeed.All()), 0},
		"mixed":       {about(killfeed.System(C), who, killfeed.System(A)), B},
	} {
		t.Run(name, func(t *testing.T) {
			waiting(t, func(t *testing.T, f *feed, h *hooked) {
				f.is(f.fetch("c", tt.read), "nothing")
				fetched := f.later(func() string { return f.fetch("c", wait(time.Minute, tt.read)) })
				nexted := f.later(func() string { return f.next("d", wait(time.Minute, tt.read)) })
				after := f.later(func() string {
					a, err := f.ReadAfter(t.Context(), killfeed.Cursor{}, wait(time.Minute, tt.read))
					if err != nil {
						t.Error(err)
					}
					return say(a)
				})
				if n := f.Stats().Waiting; n != 3 {
					t.Errorf("%d wait, want 3", n)
				}
				looks, want := h.count("Find"), "1 after 0s"
				if tt.other != 0 {
					time.Sleep(10 * time.Second)
					f.insert(tt.other)
					synctest.Wait()
					if n := h.count("Find") - looks; n != 0 {
						t.Errorf("an event on another topic made readers look %d times", n)
					}
					time.Sleep(10 * time.Second)
					want = "2 after 20s"
				}
				f.insert(A)
				f.is(<-fetched, want)
				f.is(<-nexted, want)
				f.is(<-after, want)
				if n := f.Stats().Waiting; n != 0 {
					t.Errorf("%d wait still", n)
				}
			})
		})
	}
}

func TestWaitEndsInTime(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(B)
		answer := f.later(func() string { return f.fetch("c", wait(25*time.Second, in(A))) })
		f.is(<-answer, "nothing after 25s")
		f.is(f.offsets("c"), "A:0")
		answer = f.later(func() string { return f.next("c", wait(time.Millisecond, manual(in(A)))) })
		f.is(<-answer, "nothing after 1ms")
		// Events that are passed over do not end the wait, and count as read.
		answer = f.later(func() string { return f.fetch("c", wait(time.Minute, noBackfill(in(A)))) })
		time.Sleep(time.Second)
		f.insertMail(f.mail(A), killfeed.MarkBackfill)
		f.is(<-answer, "nothing after 1m0s")
		f.is(f.offsets("c"), "A:2")
		a, err := f.ReadAfter(t.Context(), killfeed.Cursor{}, wait(time.Second, noBackfill(in(A))))
		if f.is(say(a), "nothing"); err != nil || a.Next.After != 2 {
			t.Errorf("the next cursor is %v, %v", a.Next, err)
		}
	})
}

// What there is to tell already is told without waiting.
func TestWaitIsForNothing(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.is(f.fetch("late", in(A)), "nothing")
		f.insert(A, A, B)
		read := wait(time.Minute, in(A))
		f.is(<-f.later(func() string { return f.fetch("c", limit(1, read)) }), "1 more after 0s")
		f.is(<-f.later(func() string { return f.next("c", read) }), "2 after 0s")
		f.is(<-f.later(func() string { return f.fetch("c", cursor(killfeed.Cursor{After: 9}, read)) }), "gap future after 0s")
		f.is(f.commit("all", offset(A, 2)), "A:2")
		f.is(f.commit("all", offset(B, 3)), "B:3")
		f.is(f.seek("late", killfeed.Latest), "A:3")
		f.is(fmt.Sprint(f.collect()), "{2 3 3}")
		f.is(f.seek("late", killfeed.StartAt(2)), "A:1")
		f.is(<-f.later(func() string { return f.fetch("late", read) }), "gap retention 2-2 after 0s")
	})
}

// The wake-up is taken before the log is read. Here an event comes exactly between a read that found nothing and the wait:
// with the two the other way round the reader sleeps through it.
func TestEventBetweenReadAndWait(t *testing.T) {
	reads := map[string]func(f *feed, r killfeed.Read) string{
		"fetch":  func(f *feed, r killfeed.Read) string { return f.fetch("c", r) },
		"next":   func(f *feed, r killfeed.Read) string { return f.next("c", r) },
		"manual": func(f *feed, r killfeed.Read) string { return f.fetch("c", manual(r)) },
		"peek":   func(f *feed, r killfeed.Read) string { return f.fetch("c", peek(r)) },
		"after": func(f *feed, r killfeed.Read) string {
			a, err := f.ReadAfter(f.Context(), killfeed.Cursor{}, r)
			if err != nil {
				f.Error(err)
			}
			return say(a)
		},
	}
	for name, read := range reads {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s used=%v", name, used), func(t *testing.T) {
				waiting(t, func(t *testing.T, f *feed, h *hooked) {
					if used {
						f.is(f.fetch("c", in(A, B)), "nothing")
					}
					h.before("after Find", func() { f.insert(C, A) })
					f.is(<-f.later(func() string { return read(f, wait(time.Hour, in(A, B))) }), "2 after 0s")
				})
			})
		}
	}
}

// The same at every other place of a long poll where an event can come.
func TestEventDuringLongPoll(t *testing.T) {
	for _, moment := range []string{"Find", "after Find", "Commit"} {
		t.Run(moment, func(t *testing.T) {
			waiting(t, func(t *testing.T, f *feed, h *hooked) {
				insert := func() { f.insert(A) }
				if moment == "Commit" { // of the first use's position: the ledger is busy with it
					insert = func() { go f.insert(A) }
				}
				h.before(moment, insert)
				f.is(<-f.later(func() string { return f.fetch("c", wait(time.Hour, in(A))) }), "1 after 0s")
			})
		})
	}
}

// A reader who left gets nothing committed, and what it would have had goes to the next call.
func TestWaitOfACallerWhoLeft(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		left := errors.New("left")
		ctx, leave := context.WithCancelCause(t.Context())
		call := func(ctx context.Context) <-chan string {
			return f.later(func() string {
				a, err := f.Fetch(ctx, "c", wait(time.Minute, in(A)))
				return fmt.Sprint(say(a), " ", err)
			})
		}
		answer := call(ctx)
		time.Sleep(time.Second)
		leave(left)
		f.is(<-answer, "nothing left after 1s")
		f.insert(A)
		f.is(f.offsets("c"), "A:0")

		// It leaves between the read and the commit.
		ctx, leave = context.WithCancelCause(t.Context())
		h.before("after Find", func() { leave(left) })
		f.is(<-call(ctx), "nothing left after 0s")
		f.is(f.offsets("c"), "A:0")

		// It leaves while it waits for its turn.
		release := make(chan struct{})
		h.before("Find", func() { <-release })
		first := call(t.Context())
		ctx, leave = context.WithCancelCause(t.Context())
		second := call(ctx)
		leave(left)
		f.is(<-second, "nothing left after 0s")
		close(release)
		f.is(<-first, "1 <nil> after 0s")
		f.is(f.fetch("c", in(A)), "nothing")
	})
}

// A long poll holds nothing while it waits: other calls of its client proceed.
func TestWaitHoldsNothing(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(B)
		answer := f.later(func() string { return f.fetch("c", wait(time.Minute, in(A))) })
		f.is(f.fetch("c", in(B)), "1")
		f.is(f.fetch("c", in(A)), "nothing")
		f.is(f.commit("c", offset(B, 1)), "B:1")
		f.is(f.seek("c", killfeed.Earliest, B), "A:0 B:0")
		f.collect()
		time.Sleep(time.Second)
		f.insert(A)
		f.is(<-answer, "2 after 1s")
		f.is(f.next("c", in(A, B)), "1")

		answer = f.later(func() string { return f.fetch("c", wait(time.Minute, in(A))) })
		if err := f.DeleteClient(t.Context(), "c"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		f.insert(A)
		f.is(<-answer, "2 3 after 1s") // a client of that name begins anew
	})
}

// Of two calls of one client that wait for the same events each event goes to one.
func TestTwoWaitsOfOneClient(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		var answers []<-chan string
		for range 3 {
			answers = append(answers, f.later(func() string { return f.next("c", wait(time.Minute, in(A))) }))
		}
		time.Sleep(time.Second)
		f.insert(A)
		synctest.Wait()
		time.Sleep(time.Second)
		f.insert(A)
		got := map[string]int{}
		for _, answer := range answers {
			got[<-answer]++
		}
		want := map[string]int{"1 after 1s": 1, "2 after 2s": 1, "nothing after 1m0s": 1}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// Only the first look of a long poll moves the client to its cursor.
func TestWaitFromCursor(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		f.insert(A)
		answer := f.later(func() string { return f.fetch("c", wait(time.Minute, cursor(killfeed.Cursor{After: 1}, in(A)))) })
		time.Sleep(time.Second)
		f.is(f.seek("c", killfeed.Earliest), "A:0")
		f.insert(A)
		f.is(<-answer, "1 2 after 1s")
	})
}

// A start at the latest event is where the log ended when the call came, also for a reader that leaves no trace.
func TestWaitFromLatest(t *testing.T) {
	for name, how := range map[string]func(killfeed.Read) killfeed.Read{"kept": manual, "peek": peek} {
		t.Run(name, func(t *testing.T) {
			waiting(t, func(t *testing.T, f *feed, h *hooked) {
				f.insert(A)
				answer := f.later(func() string { return f.fetch("c", wait(time.Minute, from(killfeed.Latest, how(in(A))))) })
				time.Sleep(time.Second)
				f.insert(A)
				f.is(<-answer, "2 after 1s")
			})
		})
	}
}

func TestWaitEndsWithTheFeed(t *testing.T) {
	waiting(t, func(t *testing.T, f *feed, h *hooked) {
		feed := f.Feed
		var waiters sync.WaitGroup
		for i := range 5 {
			waiters.Go(func() {
				_, err := feed.Fetch(t.Context(), fmt.Sprint(i), wait(time.Minute, in(A)))
				f.errorIs(err, killfeed.ErrClosed)
			})
		}
		synctest.Wait()
		began := time.Now()
		f.close()
		waiters.Wait()
		if d := time.Since(began); d != 0 {
			t.Errorf("the end took %v", d)
		}
	})
}

// Many readers in step with a writer: none misses or repeats anything, whatever the scheduler does.
func TestManyWaiters(t *testing.T) {
	const readers, events = 16, 150
	f := start(t, storetest.NewModel(), killfeed.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var running sync.WaitGroup
	for r := range readers {
		running.Go(func() {
			last := killfeed.Cursor{}
			for next := killfeed.EventID(1); next <= events; {
				var a killfeed.Answer
				var err error
				switch r % 3 {
				case 0:
					a, err = f.Fetch(ctx, fmt.Sprint(r), wait(time.Minute, in(A)))
				case 1:
					a, err = f.Next(ctx, fmt.Sprint(r), wait(time.Minute, in(A, B)))
				default:
					a, err = f.ReadAfter(ctx, last, wait(time.Minute, in(A)))
					last = a.Next
				}
				if err != nil || len(a.Events) == 0 {
					t.Errorf("reader %d at event %d: %s, %v", r, next, say(a), err)
					return
				}
				for _, e := range a.Events {
					if e.ID != next {
						t.Errorf("reader %d got event %d, want %d", r, e.ID, next)
					}
					next++
				}
			}
		})
	}
	for range events {
		f.insert(A)
	}
	running.Wait()
}
