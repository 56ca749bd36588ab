package pebblestore

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"killfeed"
)

// failing is a file system on which one operation fails, and perhaps all that come after.
type failing struct {
	fs   *vfs.MemFS
	at   int64 // the number of the operation
	all  bool  // those that come after fail too
	ops  atomic.Int64
	what atomic.Pointer[string] // the operation that failed
}

func (f *failing) wrap() vfs.FS {
	return errorfs.Wrap(f.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileClose, errorfs.OpLock:
			return nil
		}
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		switch n := f.ops.Add(1); {
		case n == f.at:
			what := fmt.Sprintf("%v (%d) of %s", op.Kind.ReadOrWrite(), op.Kind, op.Path)
			f.what.Store(&what)
			return syscall.EIO
		case n > f.at && f.all:
			return syscall.EIO
		}
		return nil
	}))
}

// within runs f and ends the test when it hangs.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		panic(what + " hangs") // with the stacks of all goroutines
	}
}

// TestFailAnywhere lets each of the operations fail in turn. Once is worst: an fsync that fails has written nothing down, and
// the next one succeeds. Whatever it was, nothing ends the process, nothing hangs, nothing is acknowledged that is not on
// disk, and reads go on.
func TestFailAnywhere(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(map[bool]string{false: "once", true: "for good"}[all], func(t *testing.T) {
			t.Parallel()
			failures := 0
			for at := int64(1); ; at += every() {
				f := &failing{fs: vfs.NewCrashableMem(), at: at, all: all}
				if failAt(t, f) {
					failures++
				}
				if t.Failed() {
					t.Fatalf("operation %d fails, %s", at, *f.what.Load())
				}
				if f.what.Load() == nil {
					t.Logf("%d operations, %d of them ended writing", at-1, failures)
					if at < 200 {
						t.Errorf("only %d operations", at-1)
					}
					return
				}
			}
		})
	}
}

// TestFailAtOpen lets each operation of opening a store fail that was killed, in which the engine moves what its log has to a table: Open
// says so, or it has worked. It never waits for the engine, which tries again for ever.
func TestFailAtOpen(t *testing.T) {
	fs := vfs.NewCrashableMem()
	w := newTruth(1)
	s := openOn(t, fs)
	w.commit(t, s, 10)
	killed := fs.CrashClone(vfs.CrashCloneCfg{})
	closeStore(t, s)
	for _, all := range []bool{false, true} {
		for at := int64(1); ; at++ {
			f := &failing{fs: killed.CrashClone(vfs.CrashCloneCfg{}), at: at, all: all}
			var s *Store
			var err error
			within(t, "opening", func() {
				s, err = Open("data", Options{FS: f.wrap(), Cache: 1 << 20, MinFree: 1, retry: time.Millisecond})
			})
			if err == nil {
				within(t, "closing", func() { _ = s.Close() })
			}
			if f.what.Load() == nil {
				if err != nil || at < 10 {
					t.Errorf("only %d operations, %v", at, err)
				}
				break
			}
			reopen(t, f.fs.CrashClone(vfs.CrashCloneCfg{}), w, 10, 10)
			if t.Failed() {
				t.Fatalf("operation %d fails (for good: %v), %s", at, all, *f.what.Load())
			}
		}
	}
}

// failAt does one run, and tells whether writing ended.
func failAt(t *testing.T, f *failing) (ended bool) {
	t.Helper()
	var s *Store
	var err error
	within(t, "opening", func() {
		s, err = Open("data", Options{FS: f.wrap(), Cache: 1 << 20, generation: 16, retry: time.Millisecond})
	})
	w := newTruth(uint64(f.at))
	acked := 0 // events
	if err != nil {
		if f.what.Load() == nil {
			t.Errorf("opening: %v", err)
		}
		if _, held := reopen(t, f.fs.CrashClone(vfs.CrashCloneCfg{}), w, acked, 0); held {
			t.Error("a store that could not be opened holds events")
		}
		return true
	}
	within(t, "writing", func() {
		for i := range 30 {
			b := w.batch(4)
			w.commitOffset(b, "someone", killfeed.System(1), killfeed.EventID(i))
			if err := s.Commit(b); err == nil && !ended {
				acked = len(w.events)
			} else if err == nil {
				t.Errorf("acknowledged after a failure")
			} else if ended = true; !errors.Is(err, killfeed.ErrFailed) {
				t.Errorf("committing: %v, want failed", err)
			}
			switch {
			case i%3 == 1:
				flush(s)
			case i == 15:
				if err := s.Remove(20); err != nil {
					ended = true
				}
			}
		}
	})
	if s.Health() != nil {
		ended = true
	}
	if ended {
		if err := s.Health(); !errors.Is(err, killfeed.ErrFailed) {
			t.Errorf("the health is %v", err)
		}
		within(t, "writing after a failure", func() {
			if err := s.Commit(&killfeed.Batch{Offsets: []killfeed.Offset{{Client: "someone", Topic: killfeed.All(), At: 1}}}); !errors.Is(err, killfeed.ErrFailed) {
				t.Errorf("committing after a failure: %v", err)
			}
			if st := s.State(); st.Head > 0 {
				if err := s.Remove(st.First); !errors.Is(err, killfeed.ErrFailed) {
					t.Errorf("removing after a failure: %v", err)
				}
			}
			_, _ = s.db.AsyncFlush() // as the engine does by itself some time after a removal: it changes its log
		})
	}
	within(t, "reading", func() {
		seen := &truth{first: s.State().First, events: w.events[:s.State().Head]}
		if len(seen.events) < acked {
			t.Errorf("the head is %d, acknowledged are %d", len(seen.events), acked)
		}
		seen.verifyEvents(t, s)
		for topic, want := range seen.topics() {
			if got := find(t, s, topic, 0); len(got) != len(want) {
				t.Errorf("%s has the events %v, want %v", topic, got, want)
			}
		}
		s.DiskBytes()
	})
	crashed := f.fs.CrashClone(vfs.CrashCloneCfg{})
	within(t, "closing", func() {
		if err := s.Close(); ended && !errors.Is(err, killfeed.ErrFailed) || err != nil && f.what.Load() == nil {
			t.Errorf("closing: %v", err)
		}
	})
	reopen(t, crashed, w, acked, len(w.events))
	reopen(t, copyOf(t, f.fs), w, acked, len(w.events))
	return ended
}

// flush makes the engine write its memory to a table, and waits for it unless writing has ended.
func flush(s *Store) {
	if s.Health() != nil {
		return
	}
	flushed, err := s.db.AsyncFlush()
	if err != nil {
		return
	}
	for look := time.NewTicker(time.Millisecond); s.Health() == nil; {
		select {
		case <-flushed:
			return
		case <-look.C:
		}
	}
}

// reopen opens what is left of the store and wants what was acknowledged, perhaps more, up to what was tried.
func reopen(t *testing.T, fs vfs.FS, w *truth, acked, tried int) (head int, held bool) {
	t.Helper()
	s, err := Open("data", Options{FS: fs, Cache: 1 << 20})
	if err != nil {
		t.Errorf("opening again: %v", err)
		return 0, false
	}
	defer closeStore(t, s)
	head = int(s.State().Head)
	if head < acked || head > tried {
		t.Errorf("the head is %d, acknowledged were %d, tried %d", head, acked, tried)
		return head, true
	}
	left := &truth{first: s.State().First, events: w.events[:head]}
	left.verifyEvents(t, s)
	check(t, s)
	return head, head > 0
}
