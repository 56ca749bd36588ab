package pebblestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
	"killfeed/storetest"
)

func TestConformanceOnDisk(t *testing.T) {
	storetest.Run(t, harness(func(t testing.TB) (string, Options) { return t.TempDir(), Options{} }))
}

func TestConformanceInMemory(t *testing.T) {
	h := harness(func(t testing.TB) (string, Options) { return "", Options{Memory: true, FS: vfs.NewCrashableMem()} })
	h.Crash = func(t testing.TB, s killfeed.Store) killfeed.Store {
		old := s.(*Store)
		fs := old.disk.FS.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
		closeStore(t, old)
		return openSmall(t, "", Options{Memory: true, FS: fs})
	}
	storetest.Run(t, h)
}

// openSmall opens a store with small generations.
func openSmall(t testing.TB, dir string, o Options) *Store {
	t.Helper()
	o.MinFree, o.generation, o.Cache = 1, 64, 1<<20
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// harness makes stores in new places.
func harness(place func(testing.TB) (string, Options)) storetest.Harness {
	reopen := func(t testing.TB, s killfeed.Store) killfeed.Store {
		t.Helper()
		old := s.(*Store)
		closeStore(t, old)
		return openSmall(t, old.disk.dir, Options{FS: old.disk.FS, Memory: old.disk.dir == "memory"})
	}
	return storetest.Harness{
		Open: func(t testing.TB) killfeed.Store {
			dir, o := place(t)
			return openSmall(t, dir, o)
		},
		Reopen: reopen,
		Restore: func(t testing.TB, s killfeed.Store) killfeed.Store {
			t.Helper()
			var backup bytes.Buffer
			if _, err := s.(*Store).Backup(t.Context(), &backup, "test", nil, nil); err != nil {
				t.Fatal(err)
			}
			closeStore(t, s.(*Store))
			o := Options{FS: vfs.NewCrashableMem(), MinFree: 1}
			if _, _, err := Restore(t.Context(), "memory", &backup, o, nil); err != nil {
				t.Fatal(err)
			}
			return openSmall(t, "memory", Options{FS: o.FS, Memory: true})
		},
		Damage: func(t testing.TB, s killfeed.Store, id killfeed.EventID) killfeed.Store {
			db, key := s.(*Store).db, numberKey(spaceEvent, uint64(id))
			v, closer, err := db.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			v = append([]byte(nil), v...)
			v[len(v)/2] ^= 1
			if err := errors.Join(closer.Close(), db.Set(key, v, pebble.Sync)); err != nil {
				t.Fatal(err)
			}
			return reopen(t, s)
		},
		Check: func(t testing.TB, s killfeed.Store) { check(t, s.(*Store)) },
	}
}

// TestLocked: a directory is one process's, and one store's within it.
func TestLocked(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, readOnly := range []bool{false, true} {
		if _, err := Open(dir, Options{ReadOnly: readOnly}); !errors.Is(err, killfeed.ErrLocked) {
			t.Errorf("a second open (read only: %v): %v, want locked", readOnly, err)
		} else if !strings.Contains(err.Error(), dir) {
			t.Errorf("the error does not name the directory: %v", err)
		}
	}
	if out := inAnotherProcess(t, dir); out != "locked" {
		t.Errorf("another process: %s, want locked", out)
	}
	closeStore(t, s)
	if out := inAnotherProcess(t, dir); out != "opened" {
		t.Errorf("another process after the end of this one's: %s, want opened", out)
	}
	s, err = Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
}

// inAnotherProcess runs TestOpenForLocked in one.
func inAnotherProcess(t *testing.T, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOpenForLocked$")
	cmd.Env = append(os.Environ(), "PEBBLESTORE_TEST_DIR="+dir)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("another process: %v\n%s", err, out)
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

// TestOpenForLocked is the other process of TestLocked, and nothing otherwise.
func TestOpenForLocked(t *testing.T) {
	dir := os.Getenv("PEBBLESTORE_TEST_DIR")
	if dir == "" {
		return
	}
	s, err := Open(dir, Options{})
	switch {
	case errors.Is(err, killfeed.ErrLocked):
		fmt.Println("locked")
	case err != nil:
		fmt.Println(err)
	default:
		fmt.Println("opened")
		closeStore(t, s)
	}
}

// snapshot reads all files of a directory but the lock, which taking it touches.
func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.Walk(dir, func(path string, fi os.FileInfo, err error) error {
		if err != nil || fi.IsDir() || fi.Name() == "LOCK" {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		b, err := io.ReadAll(f)
		files[path] = fmt.Sprint(fi.ModTime().UnixNano()) + string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestReadOnly reads what a closed store and a killed one left, sees everything, and changes no file.
func TestReadOnly(t *testing.T) {
	dir := t.TempDir()
	o := Options{generation: 64}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	w := newTruth(1)
	for range 30 {
		b := w.batch(10)
		w.commitOffset(b, "someone", killfeed.System(1), w.head())
		if err := s.Commit(b); err != nil {
			t.Fatal(err)
		}
	}
	w.remove(t, s, 100)
	killed := t.TempDir()
	if err := os.CopyFS(killed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	for what, dir := range map[string]string{"closed": dir, "killed": killed} {
		before := snapshot(t, dir)
		o.ReadOnly = true
		s, err := Open(dir, o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		w.verify(t, s)
		one := killfeed.Batch{Offsets: []killfeed.Offset{{Client: "someone", Topic: killfeed.All(), At: 1}}}
		if err := s.Commit(&one); err == nil {
			t.Errorf("%s: committed", what)
		}
		closeStore(t, s)
		after := snapshot(t, dir)
		for name := range before {
			if after[name] != before[name] {
				t.Errorf("%s: %s changed", what, name)
			}
			delete(after, name)
		}
		if len(after) > 0 {
			t.Errorf("%s: new files %q", what, slices.Collect(maps.Keys(after)))
		}
	}
	if _, err := Open(filepath.Join(dir, "missing"), Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
	empty := t.TempDir()
	if s, err := Open(empty, Options{ReadOnly: true}); err == nil {
		closeStore(t, s)
		t.Error("opened an empty directory")
	}
	if left := snapshot(t, empty); len(left) > 0 {
		t.Errorf("files were made: %v", left)
	}
}

// TestNewerFormat: what a later program may have changed is not touched.
func TestNewerFormat(t *testing.T) {
	fs := vfs.NewMem()
	s := openOn(t, fs)
	if err := s.db.Set(keyFormat, putNumber(keyFormat, formatVersion+1), pebble.Sync); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s, err := Open("data", Options{FS: fs})
	if err == nil {
		closeStore(t, s)
		t.Fatal("opened")
	}
	if !strings.Contains(err.Error(), fmt.Sprint("format ", formatVersion+1)) {
		t.Errorf("the error does not name the format: %v", err)
	}
}

// TestEpoch: a new store makes an epoch, which stays; another has another.
func TestEpoch(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b") // made along the way
	var epoch killfeed.Epoch
	for range 3 {
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		e := s.State().Epoch
		if !e.Valid() || epoch != "" && e != epoch {
			t.Errorf("the epoch is %q, was %q", e, epoch)
		}
		epoch = e
		closeStore(t, s)
	}
	s, err := Open("", Options{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	if s.State().Epoch == epoch {
		t.Errorf("two stores have the epoch %s", epoch)
	}
	closeStore(t, s)
}
