package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"killfeed"
)

// fullable is a file system that can be full: then nothing is made and nothing grows. Removing goes on, and so does syncing.
type fullable struct {
	*vfs.MemFS
	full atomic.Bool

	ops      atomic.Int64 // operations that need space
	at       int64        // when above 0, it is full from that operation on, until refusals were told
	refusals int64
	over     atomic.Bool // no more of that
}

func (f *fullable) wrap() vfs.FS {
	return errorfs.Wrap(f.MemFS, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpReuseForWrite, errorfs.OpLink, errorfs.OpRename, errorfs.OpMkdirAll,
			errorfs.OpFileWrite, errorfs.OpFileWriteAt:
			n := f.ops.Add(1)
			if f.full.Load() || f.at > 0 && n >= f.at && n < f.at+f.refusals && !f.over.Load() {
				return syscall.ENOSPC
			}
		}
		return nil
	}))
}

// mail is a killmail with that id in system 1.
func mail(id int) []byte {
	return fmt.Appendf(nil, `{"killmail_id":%d,"solar_system_id":1,"victim":{"character_id":7,"ship_type_id":587}}`, id)
}

var everything = killfeed.Read{Topics: []killfeed.Topic{killfeed.All()}}

func openFeed(t *testing.T, o Options) (*Store, *killfeed.Feed) {
	t.Helper()
	o.Cache = 1 << 20
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	f, err := killfeed.Open(s, killfeed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s, f
}

// insert inserts killmail id and wants it to become that event.
func insert(t *testing.T, f *killfeed.Feed, id int, want killfeed.EventID) {
	t.Helper()
	res, err := f.Insert(t.Context(), 1, mail(id))
	if err != nil || res.EventID != want {
		t.Fatalf("inserting killmail %d: %+v, %v, want event %d", id, res, err, want)
	}
}

// fetch wants the events from to through.
func fetch(t *testing.T, f *killfeed.Feed, client string, from, through killfeed.EventID) {
	t.Helper()
	ans, err := f.Fetch(t.Context(), client, everything)
	if err != nil {
		t.Fatalf("client %s: %v", client, err)
	}
	for _, e := range ans.Events {
		if e.ID != from {
			t.Fatalf("client %s got event %d, want %d", client, e.ID, from)
		}
		from++
	}
	if from != through+1 || ans.Gap != nil {
		t.Fatalf("client %s got events up to %d, want up to %d; gap %v", client, from-1, through, ans.Gap)
	}
}

// TestFullDisk: the disk is full in the middle of a commit. The caller learns it in time, nobody else waits at the door, reads
// and automatic commits go on, and when there is space again everything goes on by itself.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &fullable{MemFS: vfs.NewMem()}
		s, f := openFeed(t, Options{FS: fs.wrap()})
		for i := range 10 {
			insert(t, f, 1+i, killfeed.EventID(1+i))
		}
		fetch(t, f, "a", 1, 10)
		fetch(t, f, "b", 1, 10)
		insert(t, f, 11, 11)

		fs.full.Store(true)
		began := time.Now()
		_, err := f.Insert(t.Context(), 1, mail(12))
		if !errors.Is(err, killfeed.ErrDiskFull) || !errors.Is(err, killfeed.ErrOutcomeUnknown) {
			t.Errorf("the insert in flight: %v, want disk full, outcome unknown", err)
		}
		if d := time.Since(began); d > 2*time.Second { // of the bubble's time
			t.Errorf("the insert in flight was answered after %v", d)
		}
		began = time.Now()
		for range 3 {
			_, err := f.Insert(t.Context(), 1, mail(13))
			if !errors.Is(err, killfeed.ErrDiskFull) || errors.Is(err, killfeed.ErrOutcomeUnknown) {
				t.Errorf("a new insert: %v, want disk full", err)
			}
		}
		if _, err := f.Commit(t.Context(), "a", map[killfeed.Topic]killfeed.EventID{killfeed.All(): 11}); !errors.Is(err, killfeed.ErrDiskFull) {
			t.Errorf("an explicit commit: %v, want disk full", err)
		}
		fetch(t, f, "a", 11, 11)
		fetch(t, f, "a", 12, 11)
		if err := f.Health(); !errors.Is(err, killfeed.ErrDiskFull) {
			t.Errorf("the health is %v", err)
		}
		if d := time.Since(began); d > 0 {
			t.Errorf("what needs no disk waited %v", d)
		}

		fs.full.Store(false)
		time.Sleep(time.Second)
		if err := f.Health(); err != nil {
			t.Errorf("with space again the health is %v", err)
		}
		res, err := f.Insert(t.Context(), 1, mail(12)) // again, as the outcome was unknown
		if err != nil || res.EventID != 12 || !res.Duplicate {
			t.Errorf("the insert that was in flight is now %+v, %v, want a duplicate of event 12", res, err)
		}
		insert(t, f, 13, 13)
		fetch(t, f, "a", 12, 13)
		fetch(t, f, "b", 11, 13)
		check(t, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		s, f = openFeed(t, Options{FS: fs.wrap()})
		fetch(t, f, "a", 14, 13)
		fetch(t, f, "c", 1, 13)
		check(t, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFullDiskAnywhere lets the disk become full at each of the first operations, those of the flushes, of the logs' rotation
// and of opening included, gives it space again, and wants everything that was acknowledged.
func TestFullDiskAnywhere(t *testing.T) {
	for at := int64(1); ; at += every() + at/40 {
		fs := &fullable{MemFS: vfs.NewMem(), at: at, refusals: 20}
		s, f := openFeed(t, Options{FS: fs.wrap(), generation: 16, retry: time.Millisecond})
		for id := 1; id <= 60; {
			res, err := f.Insert(t.Context(), 1, mail(id))
			if errors.Is(err, killfeed.ErrDiskFull) {
				runtime.Gosched()
				continue
			}
			if err != nil || res.EventID != killfeed.EventID(id) {
				t.Fatalf("full at operation %d: inserting killmail %d: %+v, %v", at, id, res, err)
			}
			if id++; id%10 == 0 {
				flushed, err := s.db.AsyncFlush()
				if err != nil {
					t.Fatalf("full at operation %d: flushing: %v", at, err)
				}
				<-flushed
			}
		}
		done := fs.ops.Load() < at
		fs.over.Store(true) // a flush or compaction may still be waiting
		for errors.Is(f.Health(), killfeed.ErrDiskFull) {
			runtime.Gosched()
		}
		if err := f.Health(); err != nil {
			t.Errorf("full at operation %d: the health is %v", at, err)
		}
		check(t, s)
		if err := f.Close(); err != nil {
			t.Errorf("full at operation %d: closing: %v", at, err)
		}
		s, f = openFeed(t, Options{FS: fs.MemFS})
		fetch(t, f, "a", 1, 60)
		check(t, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			t.Fatalf("full at operation %d", at)
		}
		if done {
			if at < 100 {
				t.Errorf("only %d operations", at)
			}
			return
		}
	}
}

// TestLittleSpace: below the reserve new events are refused before the disk is full, and everything else goes on, also what
// gives space back.
func TestLittleSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		space := func(bytes uint64) {
			fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: bytes, TotalBytes: 1 << 40, UsedBytes: 1<<40 - bytes})
			time.Sleep(time.Second) // it is looked at now and then
		}
		space(1 << 30)
		s, f := openFeed(t, Options{FS: fs, MinFree: 100 << 20})
		for i := range 10 {
			insert(t, f, 1+i, killfeed.EventID(1+i))
		}
		fetch(t, f, "a", 1, 10)
		space(100<<20 - 1)
		if _, err := f.Insert(t.Context(), 1, mail(11)); !errors.Is(err, killfeed.ErrDiskFull) || errors.Is(err, killfeed.ErrOutcomeUnknown) {
			t.Errorf("an insert: %v, want disk full", err)
		}
		if err := f.Health(); !errors.Is(err, killfeed.ErrDiskFull) {
			t.Errorf("the health is %v", err)
		}
		fetch(t, f, "a", 11, 10)
		fetch(t, f, "new", 1, 10)
		time.Sleep(time.Second)
		if got, err := f.Collect(context.Background()); err != nil || got.Removed != 10 {
			t.Errorf("a collection: %+v, %v, want 10 removed", got, err)
		}
		space(100 << 20)
		if err := f.Health(); err != nil {
			t.Errorf("the health is %v", err)
		}
		insert(t, f, 11, 11)
		check(t, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		s, f = openFeed(t, Options{FS: fs, MinFree: 100 << 20})
		fetch(t, f, "new", 11, 11)
		check(t, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
