package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"killfeed"
)

// records are all of a store, but for what a restore changes.
func records(t testing.TB, s *Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := s.scan([]byte{0}, []byte{0xff}, func(key, value []byte) error {
		if !bytes.Equal(key, keyEpoch) && !bytes.Equal(key, keyFormer) {
			all[string(key)] = string(value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// backedUp is a store with some of everything, and a backup of it.
func backedUp(t testing.TB) (w *truth, s *Store, backup []byte) {
	t.Helper()
	w, s = newTruth(7), openOn(t, vfs.NewCrashableMem())
	for i := range 300 {
		b := w.batch(1)
		w.commitOffset(b, fmt.Sprint("client", i%7), killfeed.System(uint32(1+i%5)), killfeed.EventID(i))
		b.Checkpoints = []killfeed.Checkpoint{{Source: "r2z2", Place: fmt.Sprint(i)}}
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	w.remove(t, s, 40)
	var out bytes.Buffer
	if _, err := s.Backup(t.Context(), &out, "test", nil, nil); err != nil {
		t.Fatal(err)
	}
	return w, s, out.Bytes()
}

// TestRestore: what is restored has every record of the original, holds every invariant, and goes on.
func TestRestore(t *testing.T) {
	w, s, backup := backedUp(t)
	defer closeStore(t, s)
	read, err := ReadBackup(t.Context(), bytes.NewReader(backup), nil)
	if err != nil || read.First != 41 || read.Head != 300 || read.Epoch != s.State().Epoch || read.Damaged != 0 || read.Program != "test" {
		t.Fatalf("the backup is %+v, %v", read, err)
	}
	fs := vfs.NewCrashableMem()
	var done, total uint64
	restored, epoch, err := Restore(t.Context(), "data", bytes.NewReader(backup), Options{FS: fs}, func(d, all uint64) { done, total = d, all })
	if err != nil || restored != read || done != 260 || total != 260 {
		t.Fatalf("restored %+v, %d of %d, %v; want %+v", restored, done, total, err, read)
	}
	fs = fs.CrashClone(vfs.CrashCloneCfg{}) // it was durable
	copied := openOn(t, fs)
	defer closeStore(t, copied)
	want := s.State()
	want.Epoch, want.Former = epoch, []killfeed.FormerEpoch{{Epoch: want.Epoch, Through: 300}}
	if d := cmp.Diff(want, copied.State()); d != "" {
		t.Errorf("the state differs (-want +got):\n%s", d)
	}
	if d := cmp.Diff(records(t, s), records(t, copied)); d != "" {
		t.Errorf("the records differ (-want +got):\n%s", d)
	}
	w.verify(t, copied)
	w.commit(t, copied, 100)
	w.verify(t, copied)
}

// TestBackupOfOneMoment: while others write, a backup has what was there at one moment, and never less than what had been
// acknowledged when it began.
func TestBackupOfOneMoment(t *testing.T) {
	w, s := newTruth(8), openOn(t, vfs.NewCrashableMem())
	defer closeStore(t, s)
	w.commit(t, s, 200)
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		for n := 0; n < 200; n++ {
			select {
			case <-stop:
				return
			default:
			}
			b := w.batch(3)
			w.commitOffset(b, "client", killfeed.All(), w.head())
			if err := s.Commit(b); err != nil {
				t.Errorf("committing: %v", err)
				return
			}
			if w.head()%60 == 2 {
				if err := s.Remove(s.State().First + 20); err != nil {
					t.Errorf("removing: %v", err)
				}
			}
		}
	})
	for range 5 {
		least := s.State().Head
		var out bytes.Buffer
		made, err := s.Backup(t.Context(), &out, "test", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		fs := vfs.NewMem()
		if _, _, err := Restore(t.Context(), "data", &out, Options{FS: fs}, nil); err != nil {
			t.Fatal(err)
		}
		copied := openOn(t, fs)
		st := copied.State()
		if st.Head != made.Head || st.First != made.First || st.Head < least {
			t.Errorf("the copy has %d to %d, the backup said %d to %d; %d was acknowledged", st.First, st.Head, made.First, made.Head, least)
		}
		check(t, copied)
		// Events and offsets went in one batch, so the copy has them at one moment too.
		err = copied.Clients(func(r killfeed.ClientRecord) bool {
			if at := r.Offsets[killfeed.All()]; at != st.Head {
				t.Errorf("the copy ends with event %d and its client is at %d", st.Head, at)
			}
			return true
		})
		if err != nil {
			t.Error(err)
		}
		closeStore(t, copied)
	}
	close(stop)
	writing.Wait()
}

// TestBadBackup: what is not whole is refused, and leaves nothing behind.
func TestBadBackup(t *testing.T) {
	_, s, backup := backedUp(t)
	closeStore(t, s)
	refused := func(what string, content []byte) {
		t.Helper()
		fs := vfs.NewMem()
		_, _, err := Restore(t.Context(), "data", bytes.NewReader(content), Options{FS: fs}, nil)
		if !errors.Is(err, ErrBadBackup) {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
		if left, err := fs.List("data"); len(left) > 0 || err != nil {
			t.Errorf("%s: the directory has %q, %v", what, left, err)
		}
	}
	step := max(1, len(backup)/40)
	for n := 0; n < len(backup); n += step {
		refused(fmt.Sprintf("the first %d of %d bytes", n, len(backup)), backup[:n])
		flipped := bytes.Clone(backup)
		flipped[n] ^= 0x10
		refused(fmt.Sprintf("a bit in byte %d of %d", n, len(backup)), flipped)
	}
	refused("without its last byte", backup[:len(backup)-1])
	refused("another thing", []byte("hello"))
}

// TestRestoreWantsEmpty: nothing that is there is touched.
func TestRestoreWantsEmpty(t *testing.T) {
	_, s, backup := backedUp(t)
	closeStore(t, s)
	fs := vfs.NewMem()
	other := openOn(t, fs)
	newTruth(1).commit(t, other, 5)
	closeStore(t, other)
	before, _ := fs.List("data")
	if _, _, err := Restore(t.Context(), "data", bytes.NewReader(backup), Options{FS: fs}, nil); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("restoring over a log: %v", err)
	}
	after, _ := fs.List("data")
	slices.Sort(before)
	slices.Sort(after)
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("the directory has changed (-before +after):\n%s", d)
	}
}

// TestRestoreBrokenOff: whenever a restore is broken off, the directory is refused, and never a log that is not all there.
func TestRestoreBrokenOff(t *testing.T) {
	w, s, backup := backedUp(t)
	closeStore(t, s)
	fs := vfs.NewCrashableMem()
	var crashed []*vfs.MemFS
	reader := readerFunc(func(p []byte) (int, error) { // the machine may stop at any read
		n := copy(p[:min(len(p), 2048)], backup)
		if n == 0 {
			return 0, io.EOF
		}
		backup = backup[n:]
		crashed = append(crashed, fs.CrashClone(vfs.CrashCloneCfg{}), fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: w.rnd}))
		return n, nil
	})
	if _, _, err := Restore(t.Context(), "data", reader, Options{FS: fs}, nil); err != nil {
		t.Fatal(err)
	}
	if len(crashed) < 10 {
		t.Fatalf("only %d reads", len(crashed))
	}
	for i, left := range crashed {
		if s, err := Open("data", Options{FS: left}); err == nil || !strings.Contains(err.Error(), "did not end") {
			t.Errorf("after read %d of %d: %v, want a refusal", i/2, len(crashed)/2, err)
			if s != nil {
				closeStore(t, s)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := Restore(ctx, "other", bytes.NewReader(nil), Options{FS: fs}, nil)
	if err == nil {
		t.Error("nothing was restored without an error")
	}
	copied := openOn(t, fs)
	w.verify(t, copied)
	closeStore(t, copied)
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestBackupOfDamage: a damaged record is in the copy as it is, counted.
func TestBackupOfDamage(t *testing.T) {
	_, s, _ := backedUp(t)
	defer closeStore(t, s)
	key := numberKey(spaceEvent, 100)
	if err := s.db.Set(key, []byte("spoilt"), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	made, err := s.Backup(t.Context(), &out, "test", nil, nil)
	if err != nil || made.Damaged != 1 {
		t.Fatalf("%+v, %v", made, err)
	}
	fs := vfs.NewMem()
	if restored, _, err := Restore(t.Context(), "data", &out, Options{FS: fs}, nil); err != nil || restored != made {
		t.Fatalf("%+v, %v", restored, err)
	}
	copied := openOn(t, fs)
	defer closeStore(t, copied)
	if found := problems(t, copied); len(found) == 0 || !strings.Contains(found[0], "event 100 is damaged") {
		t.Errorf("the check found %q", found)
	}
}

// TestBackupOfFormat1: a directory of an earlier format is copied as that, and upgraded when the copy is opened.
func TestBackupOfFormat1(t *testing.T) {
	s, err := Open("data", Options{FS: format1(t), ReadOnly: true, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	made, err := s.Backup(t.Context(), &out, "test", nil, nil)
	if err != nil || made.Store != 1 || made.First != format1First || made.Head != format1Head {
		t.Fatalf("%+v, %v", made, err)
	}
	closeStore(t, s)
	fs := vfs.NewMem()
	if _, _, err := Restore(t.Context(), "data", &out, Options{FS: fs}, nil); err != nil {
		t.Fatal(err)
	}
	copied := openOn(t, fs)
	defer closeStore(t, copied)
	if st := copied.State(); st.First != format1First || st.Head != format1Head || copied.format != formatVersion {
		t.Errorf("%+v of format %d", st, copied.format)
	}
	check(t, copied)
}

// TestBackupAfterFailure: what may not be on disk is not copied.
func TestBackupAfterFailure(t *testing.T) {
	_, s, _ := backedUp(t)
	s.disk.fail(errors.New("injected"))
	if _, err := s.Backup(t.Context(), &bytes.Buffer{}, "test", nil, nil); !errors.Is(err, killfeed.ErrFailed) {
		t.Errorf("%v, want that the store has failed", err)
	}
	if err := s.Close(); err == nil {
		t.Error("closed without an error")
	}
}

// FuzzReadBackup: no bytes are taken for a backup that were not written as one, and none do harm.
func FuzzReadBackup(f *testing.F) {
	_, s, backup := backedUp(f)
	closeStore(f, s)
	f.Add(backup)
	f.Add(backup[:len(backup)/2])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, content []byte) {
		if b, err := ReadBackup(t.Context(), bytes.NewReader(content), nil); err == nil && b.Head+1 < b.First {
			t.Errorf("%+v", b)
		}
	})
}
