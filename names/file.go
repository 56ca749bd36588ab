package names

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"killfeed"
)

// file keeps records on disk: a bbolt file of one bucket, ids in four bytes to records, each with a checksum.
//
// The engine maps the file into memory and trusts what it finds there: a damaged page makes it panic, and one that the file
// system cannot read is a fault. Neither may end a process that serves killmails, so everything is done in guard.
type file struct {
	db     *bbolt.DB
	path   string
	most   int64
	log    *slog.Logger
	held   atomic.Int64
	failed atomic.Pointer[string] // why the file is not used any more
}

// bucket is where the records are. Another format would have another name.
var bucket = []byte("names.1")

// lockTime is how long to wait for another process. One that is stopping holds the log's lock, which is taken first.
const lockTime = 200 * time.Millisecond

// openFile opens the file or makes it. One that is damaged is set aside, and a new one made.
func openFile(path string, most int, log *slog.Logger) (*file, error) {
	f := &file{path: path, most: int64(most), log: log}
	err := f.open()
	if err == nil {
		return f, nil
	}
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return nil, fmt.Errorf("opening %s: %w", path, killfeed.ErrLocked)
	}
	_, isPath := errors.AsType[*fs.PathError](err)
	_, isErrno := errors.AsType[syscall.Errno](err)
	if isPath || isErrno { // nothing is known of what is in it
		return nil, fmt.Errorf("opening the names: %w", err)
	}
	aside := path + ".damaged"
	if err := os.Rename(path, aside); err != nil {
		return nil, fmt.Errorf("setting aside the names, which are damaged: %w", err)
	}
	log.Warn("the names are damaged and set aside; they are asked for anew", "file", path, "aside", aside, "err", err)
	f = &file{path: path, most: int64(most), log: log}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("making the names anew: %w", err)
	}
	return f, nil
}

// open opens the file and reads all of it. On an error it is closed.
func (f *file) open() (err error) {
	err = guard(func() error {
		f.db, err = bbolt.Open(f.path, 0o600, &bbolt.Options{Timeout: lockTime, FreelistType: bbolt.FreelistMapType})
		return err
	})
	if err != nil {
		return err
	}
	err = guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			_, err := tx.CreateBucketIfNotExists(bucket)
			return err
		})
	})
	if err == nil {
		err = guard(f.read)
	}
	if err != nil {
		_ = guard(f.db.Close) // the first error is the one to tell
	}
	return err
}

// read reads all of the file.
func (f *file) read() error {
	return f.db.View(func(tx *bbolt.Tx) error {
		info, err := os.Stat(f.path)
		if err != nil {
			return err
		}
		if info.Size() < tx.Size() {
			return fmt.Errorf("the file has %d bytes of %d", info.Size(), tx.Size())
		}
		n, last := int64(0), int64(-1)
		for k, v := range all(tx.Bucket(bucket)) {
			id, ok := idOf(k)
			if !ok || int64(id) <= last {
				return fmt.Errorf("key %x is damaged", k)
			}
			if _, err := decode(id, v); err != nil {
				return err
			}
			last = int64(id)
			n++
		}
		f.held.Store(n)
		return nil
	})
}

// all are the keys and values of a bucket.
func all(b *bbolt.Bucket) func(yield func(k, v []byte) bool) {
	return func(yield func(k, v []byte) bool) {
		c := b.Cursor()
		for k, v := c.First(); k != nil && yield(k, v); k, v = c.Next() {
		}
	}
}

// guard makes an error of a panic, and of a fault in mapped memory.
func guard(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the file is damaged: %v", p)
		}
	}()
	return do()
}

// get is the record of an id. What cannot be read is not there.
func (f *file) get(id uint32) (r record, ok bool) {
	if f.failed.Load() != nil {
		return record{}, false
	}
	err := guard(func() error {
		return f.db.View(func(tx *bbolt.Tx) (err error) {
			v := tx.Bucket(bucket).Get(keyOf(id))
			if v == nil {
				return nil
			}
			r, err = decode(id, v)
			ok = err == nil
			return err
		})
	})
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) { // the program is stopping
		return record{}, false
	}
	if err != nil {
		f.fail(err)
		return record{}, false
	}
	return r, ok
}

// put writes records, all or none. Beyond what there may be each new one takes the place of one left to chance.
func (f *file) put(records map[uint32]record) error {
	if f.failed.Load() != nil {
		return nil
	}
	held := f.held.Load()
	err := guard(func() error {
		return f.db.Update(func(tx *bbolt.Tx) error {
			b := tx.Bucket(bucket)
			var value []byte
			for id, r := range records {
				key := keyOf(id)
				if b.Get(key) == nil {
					if held < f.most {
						held++
					} else if err := evict(b); err != nil {
						return err
					}
				}
				value = r.encode(nil, id) // the bucket keeps it until the transaction ends
				if err := b.Put(key, value); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err == nil {
		f.held.Store(held)
	}
	return err
}

// evict removes one record.
func evict(b *bbolt.Bucket) error {
	c := b.Cursor()
	k, _ := c.Seek(keyOf(rand.Uint32N(1 << 31)))
	if k == nil {
		k, _ = c.First()
	}
	if k == nil {
		return nil
	}
	return c.Delete()
}

// fail gives the file up until the program starts again, and looks at all of it.
func (f *file) fail(err error) {
	text := err.Error()
	if f.failed.CompareAndSwap(nil, &text) {
		f.log.Warn("names cannot be read from their file; until the next start they are kept in memory only", "file", f.path, "err", err)
	}
}

func (f *file) count() int64 { return f.held.Load() }

func (f *file) trouble() string {
	if text := f.failed.Load(); text != nil {
		return *text
	}
	return ""
}

func (f *file) close() error {
	if err := guard(f.db.Close); err != nil {
		return fmt.Errorf("closing %s: %w", f.path, err)
	}
	return nil
}
