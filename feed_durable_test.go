package killfeed_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"killfeed"
	"killfeed/storetest"
)

// The first use of a topic is recorded durably in both modes, so that it holds what comes after it.
func TestFirstUseIsDurable(t *testing.T) {
	for _, r := range []killfeed.Read{in(A), manual(in(A)), from(killfeed.Latest, in(A)), manual(from(killfeed.Latest, in(A)))} {
		synctest.Test(t, func(t *testing.T) {
			store := newModel()
			f := start(t, store.open(t), killfeed.Options{})
			f.insert(B, B)
			f.is(f.fetch("c", r), "nothing")
			want := f.offsets("c")
			again := start(t, store.open(t), killfeed.Options{}) // with f not closed: a crash
			again.is(again.offsets("c"), want)
			info, err := again.Client("c")
			if err != nil || !info.LastSeen.Equal(time.Now()) {
				t.Errorf("after a crash the client was seen %v, %v", info.LastSeen, err)
			}
		})
	}
}

// Automatic commits are written behind, within 100 ms; a crash before that makes events repeat, and none be skipped.
func TestWriteBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		f := start(t, store.open(t), killfeed.Options{})
		crash := func() {
			t.Helper()
			old := f
			f = start(t, store.open(t), killfeed.Options{})
			f.made = old.made
		}
		f.insert(A, A, A)
		f.is(f.next("c", in(A)), "1")
		time.Sleep(99 * time.Millisecond)
		f.is(f.next("c", in(A)), "2")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		crash()
		f.is(f.offsets("c"), "A:2") // both, 100 ms after the first
		f.is(f.next("c", in(A)), "3")
		crash()
		f.is(f.next("c", in(A)), "3") // again
		f.insert(B)                   // a group commit takes along what is to be written
		crash()
		f.is(f.offsets("c"), "A:3")
		f.insert(A)
		f.is(f.next("c", in(A)), "5")
		f.close() // and so does Close
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:5")
	})
}

// Explicit commits and seeks, and cursors of the client's own, are durable before they are answered.
func TestExplicitPositionsAreDurable(t *testing.T) {
	store := newModel()
	f := start(t, store.open(t), killfeed.Options{})
	crash := func() {
		f = start(t, store.open(t), killfeed.Options{})
	}
	f.insert(A, B, A)
	f.is(f.commit("c", offset(A, 2)), "A:2")
	crash()
	f.is(f.offsets("c"), "A:2")
	f.is(f.fetch("c", in(A)), "3")
	f.is(f.commit("c", offset(A, 1)), "A:3") // what an automatic commit did is durable with it
	crash()
	f.is(f.offsets("c"), "A:3")
	f.is(f.seek("c", killfeed.StartAt(2)), "A:1")
	crash()
	f.is(f.offsets("c"), "A:1")
	f.is(f.fetch("c", in(A)), "3")
	f.is(f.seek("c", killfeed.StartAt(1)), "A:0") // and what it had before must not come back
	crash()
	f.is(f.offsets("c"), "A:0")
	f.is(f.fetch("c", manual(cursor(killfeed.Cursor{After: 2}, in(A, B)))), "3")
	crash()
	f.is(f.offsets("c"), "A:2 B:2")
	if err := f.DeleteClient(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	crash()
	f.is(f.offsets("c"), "no client")
}

// sequenceFault is a way in which a write fails.
type sequenceFault struct {
	name  string
	fault storetest.Fault
	// refused: the caller may be sure that nothing was stored.
	refused bool
}

var sequenceFaults = []sequenceFault{
	{"failed", storetest.Fault{}, false},
	{"failed but stored", storetest.Fault{Stored: true}, false},
	{"disk full", storetest.Fault{Err: killfeed.ErrDiskFull}, true},
	{"disk full, unknown", storetest.Fault{Err: fmt.Errorf("%w, %w", killfeed.ErrDiskFull, killfeed.ErrOutcomeUnknown)}, false},
	{"disk full, unknown but stored", storetest.Fault{
		Err: fmt.Errorf("%w, %w", killfeed.ErrDiskFull, killfeed.ErrOutcomeUnknown), Stored: true}, false},
	{"store failed", storetest.Fault{Err: killfeed.ErrFailed}, false},
	{"store failed but stored", storetest.Fault{Err: killfeed.ErrFailed, Stored: true}, false},
}

// Whatever write fails, in whatever way: what was acknowledged holds, what was not is tried again with success, ids have no
// hole, and the store and the memory agree in the end.
func TestSequenceErrors(t *testing.T) {
	unknown := func(f *feed, s sequenceFault, err error) {
		f.Helper()
		if err == nil {
			f.Fatalf("no error")
		}
		if got := errors.Is(err, killfeed.ErrOutcomeUnknown); got == s.refused {
			f.Errorf("the error %v says outcome unknown: %v", err, got)
		}
		if s.fault.Err != nil {
			for _, e := range []error{killfeed.ErrDiskFull, killfeed.ErrFailed} {
				if errors.Is(s.fault.Err, e) != errors.Is(err, e) {
					f.Errorf("the error %v hides %v", err, s.fault.Err)
				}
			}
		}
	}
	operations := []struct {
		name string
		// test runs with three events on A and one on B; client c has read none of them and holds A:0.
		test func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed)
	}{
		{"insert", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			m := f.mail(A)
			faulty.FailCommits(s.fault)
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			unknown(f, s, err)
			f.is(fmt.Sprint(f.insertMail(m, 0)), fmt.Sprintf("{5 %v false}", s.fault.Stored))
			f.insert(A)
			f.is(f.fetch("c", in(A)), "1 2 3 5 6")
			f = crash()
			f.is(fmt.Sprint(f.insertMail(m, 0)), "{5 true false}")
			f.is(f.fetch("d", in(A)), "1 2 3 5 6")
		}},
		{"insert wakes", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			answer := make(chan string)
			go func() { answer <- f.fetch("c", wait(time.Minute, in(A))) }()
			synctest.Wait()
			m := f.mail(A)
			faulty.FailCommits(s.fault)
			began := time.Now()
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			unknown(f, s, err)
			if !s.fault.Stored {
				f.insertMail(m, 0)
			}
			f.is(<-answer, "5")
			if d := time.Since(began); d > time.Second {
				f.Errorf("the reader slept for %v after the event became visible", d)
			}
		}},
		{"update", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			bare := f.mail(A)
			bare.NoHash = true
			f.insertMail(bare, 0)
			richer := bare
			richer.NoHash = false
			faulty.FailCommits(s.fault)
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{richer.Killmail()}, 0)
			unknown(f, s, err)
			want := "{6 false true}"
			if s.fault.Stored {
				want = "{5 true false}"
			}
			f.is(fmt.Sprint(f.insertMail(richer, 0)), want)
			f = crash()
			f.is(fmt.Sprint(f.insertMail(richer, 0)), "{5 true false}")
			f.is(f.fetch("d", updates(in(A))), "1 2 3 5 6")
		}},
		{"commit", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			_, err := f.Commit(f.Context(), "c", offset(A, 2))
			unknown(f, s, err)
			f.is(f.offsets("c"), "A:0")
			f.is(f.fetch("c", manual(in(A))), "1 2 3")
			f.is(f.commit("c", offset(A, 2)), "A:2")
			f = crash()
			f.is(f.fetch("c", in(A)), "3")
		}},
		{"commit, then a crash", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			_, err := f.Commit(f.Context(), "c", offset(A, 2))
			unknown(f, s, err)
			f = crash()
			if s.fault.Stored {
				f.is(f.offsets("c"), "A:2")
			} else {
				f.is(f.offsets("c"), "A:0")
			}
		}},
		{"seek", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			_, err := f.Seek(f.Context(), "c", killfeed.StartAt(3), nil)
			unknown(f, s, err)
			f.is(f.offsets("c"), "A:0")
			f.is(f.seek("c", killfeed.StartAt(3)), "A:2")
			f = crash()
			f.is(f.fetch("c", in(A)), "3")
		}},
		{"first use", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			a, err := f.Fetch(f.Context(), "new", in(A))
			if errors.Is(s.fault.Err, killfeed.ErrDiskFull) || errors.Is(s.fault.Err, killfeed.ErrFailed) {
				// Reads go on.
				if f.is(say(a), "1 2 3"); err != nil {
					f.Fatal(err)
				}
			} else {
				unknown(f, s, err)
				f.is(f.fetch("new", in(A)), "1 2 3")
			}
			time.Sleep(150 * time.Millisecond)
			f = crash()
			f.is(f.offsets("new"), "A:3")
			if info, err := f.Client("new"); err != nil || time.Since(info.LastSeen) > time.Minute {
				f.Errorf("after a crash the client was last seen %v, %v", info.LastSeen, err)
			}
		}},
		{"automatic commit", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			faulty.FailCommits(s.fault, s.fault)
			time.Sleep(350 * time.Millisecond)
			f.is(f.offsets("c"), "A:3")
			f = crash()
			f.is(f.offsets("c"), "A:3")
		}},
		{"automatic commit, grouped with an insert", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", limit(2, in(A))), "1 2 more")
			m := f.mail(A)
			faulty.FailCommits(s.fault)
			_, err := f.InsertAll(f.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			unknown(f, s, err)
			f.is(f.next("c", in(A)), "3")
			time.Sleep(350 * time.Millisecond)
			f = crash()
			f.is(f.offsets("c"), "A:3")
		}},
		{"delete", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			faulty.FailCommits(s.fault)
			unknown(f, s, f.DeleteClient(f.Context(), "c"))
			f.is(f.offsets("c"), "A:0")
			if err := f.DeleteClient(f.Context(), "c"); err != nil {
				f.Fatal(err)
			}
			f = crash()
			f.is(f.offsets("c"), "no client")
		}},
		{"collect", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			faulty.FailRemoves(s.fault)
			if _, err := f.Collect(f.Context()); err == nil {
				f.Error("no error")
			}
			if c := f.collect(); c.First != 4 || c.Head != 4 {
				f.Errorf("then it collected %+v", c)
			}
			f.insert(A)
			f = crash()
			f.is(f.fetch("c", in(A)), "5")
			f.is(f.fetch("new", from(killfeed.StartAt(1), in(A, B))), "4 5 gap retention 1-3")
		}},
		{"collect, what it writes first", func(f *feed, faulty *storetest.Faulty, s sequenceFault, crash func() *feed) {
			f.is(f.fetch("c", in(A)), "1 2 3")
			faulty.FailCommits(s.fault, s.fault, s.fault)
			if _, err := f.Collect(f.Context()); err == nil {
				// It must not remove what a crash would make the client not have read.
				f.Error("no error")
			}
			f = crash()
			if got := f.fetch("c", in(A)); got != "1 2 3" && got != "nothing" {
				f.Errorf("after a crash the client is told %s", got)
			}
		}},
	}
	for _, op := range operations {
		for _, s := range sequenceFaults {
			t.Run(op.name+"/"+s.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := newModel()
					faulty := storetest.NewFaulty(store.open(t))
					f := start(t, faulty, killfeed.Options{})
					f.insert(A, A, A, B)
					f.is(f.fetch("c", manual(in(A))), "1 2 3")
					op.test(f, faulty, s, func() *feed {
						again := start(t, store.open(t), killfeed.Options{})
						again.made = f.made
						return again
					})
				})
			})
		}
	}
}

// On a full disk reads and automatic commits go on and inserts are refused; with space everything works and is written.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		faulty := storetest.NewFaulty(store.open(t))
		f := start(t, faulty, killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.next("c", in(A)), "1")
		faulty.Sicken(fmt.Errorf("3 bytes left: %w", killfeed.ErrDiskFull))
		f.errorIs(f.Health(), killfeed.ErrDiskFull)
		m := f.mail(A)
		_, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
		f.errorIs(err, killfeed.ErrDiskFull)
		if errors.Is(err, killfeed.ErrOutcomeUnknown) {
			t.Errorf("the insert was refused at the door, yet: %v", err)
		}
		f.is(f.next("c", in(A)), "3")
		f.is(f.next("c", in(A)), "nothing")
		f.is(f.fetch("new", in(A, B)), "1 2 3")
		f.is(f.fetch("new", in(A, B)), "nothing")
		f.is(f.fetch("new", cursor(killfeed.Cursor{After: 1}, in(A, B))), "2 3")
		_, err = f.Commit(t.Context(), "c", offset(A, 3))
		f.errorIs(err, killfeed.ErrDiskFull)
		_, err = f.Seek(t.Context(), "c", killfeed.Earliest, nil)
		f.errorIs(err, killfeed.ErrDiskFull)
		f.errorIs(f.DeleteClient(t.Context(), "c"), killfeed.ErrDiskFull)
		time.Sleep(time.Minute)
		f.is(f.offsets("c"), "A:3")
		f.is(f.offsets("new"), "A:3 B:2")
		faulty.Heal()
		time.Sleep(110 * time.Millisecond)
		f.insertMail(m, 0)
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:3")
		f.is(f.offsets("new"), "A:3 B:2")
		f.is(f.fetch("new", in(A, B)), "4")
		if info, err := f.Client("new"); err != nil || time.Since(info.LastSeen) > 2*time.Minute {
			t.Errorf("after a crash the client was last seen %v, %v", info.LastSeen, err)
		}
	})
}

// After a failed fsync nothing is acknowledged any more, and reads go on.
func TestFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		faulty := storetest.NewFaulty(store.open(t))
		f := start(t, faulty, killfeed.Options{})
		f.insert(A, A)
		f.is(f.next("c", in(A)), "1")
		faulty.FailCommits(storetest.Fault{Err: fmt.Errorf("fsync: %w", killfeed.ErrFailed), Stored: true, Sticky: true})
		for range 2 {
			_, err := f.Insert(t.Context(), A, []byte(`{"killmail_id":7}`))
			f.errorIs(err, killfeed.ErrFailed)
		}
		_, err := f.Commit(t.Context(), "c", offset(A, 2))
		f.errorIs(err, killfeed.ErrFailed)
		_, err = f.Seek(t.Context(), "c", killfeed.Latest, nil)
		f.errorIs(err, killfeed.ErrFailed)
		f.errorIs(f.DeleteClient(t.Context(), "c"), killfeed.ErrFailed)
		_, err = f.Collect(t.Context())
		f.errorIs(err, killfeed.ErrFailed)
		f.is(f.next("c", in(A)), "2")
		f.is(f.fetch("c", in(A)), "3") // it was stored, so it is there
		f.is(f.fetch("new", in(A)), "1 2 3")
		f = start(t, store.open(t), killfeed.Options{})
		f.is(f.offsets("c"), "A:1") // repeats, never skips
		f.made = 6
		f.is(fmt.Sprint(f.insertMail(f.mail(A), 0)), "{4 false true}")
	})
}

// A caller does not hang with a write that hangs, as an engine's does on a full disk.
func TestHangingWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hooked{Store: storetest.NewModel()}
		faulty := storetest.NewFaulty(h)
		f := start(t, faulty, killfeed.Options{})
		f.insert(A)
		release := make(chan struct{})
		hang := func() {
			h.before("Commit", func() {
				<-release
			})
		}
		hang()
		m := f.mail(A)
		result := make(chan error)
		began := time.Now()
		go func() {
			_, err := f.InsertAll(t.Context(), []*killfeed.Killmail{m.Killmail()}, 0)
			result <- err
		}()
		time.Sleep(1500 * time.Millisecond)
		faulty.Sicken(killfeed.ErrDiskFull)
		err := <-result
		f.errorIs(err, killfeed.ErrDiskFull)
		f.errorIs(err, killfeed.ErrOutcomeUnknown)
		if d := time.Since(began); d > 3*time.Second {
			t.Errorf("the caller was held for %v", d)
		}
		f.is(f.fetch("c", peek(in(A))), "1")
		faulty.Heal()
		close(release)
		synctest.Wait()
		f.is(fmt.Sprint(f.insertMail(m, 0)), "{2 true false}")

		// A caller who leaves is told that the outcome is unknown.
		release = make(chan struct{})
		hang()
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errors.New("had enough"))
		defer cancel()
		m = f.mail(A)
		_, err = f.InsertAll(ctx, []*killfeed.Killmail{m.Killmail()}, 0)
		f.errorIs(err, killfeed.ErrOutcomeUnknown)
		f.errorIs(err, context.Cause(ctx))
		close(release)
		synctest.Wait()
		f.is(fmt.Sprint(f.insertMail(m, 0)), "{3 true false}")
	})
}

// Nor does Close: it closes the store below a write that hangs.
func TestCloseOfAHangingWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newModel()
		h := &hooked{Store: store.open(t)}
		faulty := storetest.NewFaulty(h)
		f := start(t, faulty, killfeed.Options{})
		f.insert(A)
		f.is(f.fetch("c", in(A)), "1")
		release := make(chan struct{})
		h.before("Commit", func() { <-release })
		h.before("Close", func() { close(release) })
		inserted := make(chan error)
		go func() {
			_, err := f.Feed.Insert(t.Context(), A, []byte("{}"))
			inserted <- err
		}()
		synctest.Wait()
		faulty.Sicken(killfeed.ErrDiskFull)
		began := time.Now()
		closed := f.Feed
		f.Feed = nil
		go closed.Close()
		if err := <-inserted; err == nil {
			t.Error("an insert that hung until the end is acknowledged")
		}
		synctest.Wait()
		if d := time.Since(began); d > 5*time.Second {
			t.Errorf("the end took %v", d)
		}
		again := start(t, store.open(t), killfeed.Options{})
		if got := again.fetch("c", in(A)); got != "1" && got != "nothing" { // repeats, never skips
			t.Errorf("after that the client gets %s", got)
		}
	})
}

// After Close all calls end with ErrClosed.
func TestClosed(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A)
		f.is(f.fetch("c", in(A)), "1")
		closed := f.Feed
		f.close()
		ctx := t.Context()
		_, err := closed.Insert(ctx, A, []byte(`{}`))
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Fetch(ctx, "new", in(A))
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Commit(ctx, "c", offset(A, 1))
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Seek(ctx, "c", killfeed.Earliest, nil)
		f.errorIs(err, killfeed.ErrClosed)
		_, err = closed.Collect(ctx)
		f.errorIs(err, killfeed.ErrClosed)
		f.errorIs(closed.DeleteClient(ctx, "c"), killfeed.ErrClosed)
	})
}

// What a feed has stored is there for the next one, on every kind of store.
func TestReopen(t *testing.T) {
	onStores(t, func(t *testing.T, s storage) {
		f := start(t, s.open(t), killfeed.Options{})
		f.insert(A, B, A)
		f.is(f.next("c", in(A, B)), "1")
		f.is(f.fetch("d", about(killfeed.All())), "1 2 3")
		f.is(f.fetch("c", from(killfeed.StartAt(3), in(C))), "nothing")
		epoch, one := f.State().Epoch, mustEvent(t, f.Feed, 1)
		made := f.made
		f.close()
		f = start(t, s.open(t), killfeed.Options{})
		f.made = made
		if f.State().Epoch != epoch || f.State().Head != 3 {
			t.Errorf("the state is %+v, the epoch was %s", f.State(), epoch)
		}
		if e := mustEvent(t, f.Feed, 1); !bytes.Equal(e.Killmail, one.Killmail) || !e.ReceivedAt.Equal(one.ReceivedAt) {
			t.Errorf("event 1 was %+v and is %+v", one, e)
		}
		f.is(f.offsets("c"), "A:1 B:0 C:2")
		f.insert(A)
		f.is(f.fetch("c", in(A, B)), "2 3 4")
		f.is(f.fetch("d", about(killfeed.All())), "4")
		infos, err := f.Clients("", 10)
		if err != nil || len(infos) != 2 {
			t.Errorf("clients are %+v, %v", infos, err)
		}
	})
}

func mustEvent(t *testing.T, f *killfeed.Feed, id killfeed.EventID) killfeed.Event {
	t.Helper()
	e, err := f.Event(id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}
