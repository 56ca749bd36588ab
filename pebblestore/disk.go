package pebblestore

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
)

// disk is the file system below the engine. It keeps two promises that the engine does not make.
//
// A write that finds no space waits until there is some. The engine treats ENOSPC in the write-ahead log as the end, and
// retries a failed flush without a pause; neither is needed when the write simply takes long.
//
// After a write or fsync failed for another reason, nothing is written, renamed or removed any more, so that the disk stays
// as it is for whoever mends it.
//
// The engine does not learn of failures of its write-ahead log: it panics then, in goroutines of its own or with its locks
// half released, and nothing can recover that. It goes on in memory, and whoever acknowledges anything looks at failed.
type disk struct {
	vfs.FS
	dir string
	log *slog.Logger
	// minFree is the space below which the disk counts as full: room for the engine to flush what it has in memory.
	minFree uint64
	retry   time.Duration // how often a write that found no space is tried again

	closing chan struct{} // closed when the store closes: what waits for space gives up

	waiting atomic.Int64          // writes that wait for space
	failure atomic.Pointer[error] // the first failure

	made     time.Time
	measured atomic.Int64 // when the free space was looked at last, in nanoseconds from made: the wall clock may jump
	short    atomic.Bool  // the last look found less than minFree

	opened atomic.Bool   // the engine was opened: see hold
	held   chan struct{} // cap 1: one of the engine's goroutines was

	marks marks // of the engine's logs: see synced.go
}

const (
	// measureEvery bounds how often the free space is looked at.
	measureEvery = 250 * time.Millisecond
	// retryEvery is how often a write that found no space is tried again, and what the engine does in the background.
	retryEvery = 100 * time.Millisecond
)

func newDisk(fs vfs.FS, dir string, minFree uint64, log *slog.Logger) *disk {
	d := &disk{
		FS: fs, dir: dir, log: log, minFree: minFree, retry: retryEvery, closing: make(chan struct{}), held: make(chan struct{}, 1),
		made: time.Now(),
	}
	d.measured.Store(-int64(time.Hour)) // never
	return d
}

// stuck is nil, or what keeps the disk from being written to right now.
func (d *disk) stuck() error {
	if err := d.failed(); err != nil {
		return err
	}
	if d.waiting.Load() > 0 {
		return fmt.Errorf("%w: no space left in %s; free some, and writing goes on by itself", killfeed.ErrDiskFull, d.dir)
	}
	return nil
}

// health is nil, or why nothing new should be written: stuck, or little space.
func (d *disk) health() error {
	if err := d.stuck(); err != nil {
		return err
	}
	now := int64(time.Since(d.made))
	if last := d.measured.Load(); now-last > int64(measureEvery) && d.measured.CompareAndSwap(last, now) {
		usage, err := d.GetDiskUsage(d.dir)
		d.short.Store(err == nil && usage.AvailBytes < d.minFree) // a file system that cannot tell has space
	}
	if d.short.Load() {
		return fmt.Errorf("%w: less than %d MiB left for %s; free some, and writing goes on by itself",
			killfeed.ErrDiskFull, d.minFree>>20, d.dir)
	}
	return nil
}

// failed returns the failure that ended writing, wrapped in ErrFailed, or nil.
func (d *disk) failed() error {
	if p := d.failure.Load(); p != nil {
		return fmt.Errorf("%w: nothing is written any more; look at the disk, then restart: %w", killfeed.ErrFailed, *p)
	}
	return nil
}

// fail ends writing. Only the first cause is kept.
func (d *disk) fail(err error) {
	if d.failure.CompareAndSwap(nil, &err) {
		d.log.Error("the store failed; nothing is written any more, reads go on; look at the disk, then restart", "err", err)
	}
}

// attempt runs a changing operation, again and again while there is no space. Any other error ends writing when fatal is
// set.
func (d *disk) attempt(what string, fatal bool, op func() error) error {
	for waited := false; ; waited = true {
		if p := d.failure.Load(); p != nil {
			return fmt.Errorf("%s is refused after an earlier failure: %w", what, *p)
		}
		err := op()
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			if !waited {
				d.log.Warn("no space left; writing goes on by itself when there is some", "dir", d.dir, "err", err)
				d.waiting.Add(1)
				defer d.waiting.Add(-1)
			}
			select {
			case <-time.After(d.retry):
				continue
			case <-d.closing:
				d.fail(fmt.Errorf("%s: closed while waiting for space: %w", what, err))
				return err
			}
		}
		if err != nil && fatal {
			d.fail(fmt.Errorf("%s: %w", what, err))
		}
		return err
	}
}

// makeDir makes the directory, and those above it that are missing, and syncs all that got a new entry: the engine syncs only
// the one above its own, so that a power cut could take back the others with all that was acknowledged.
func (d *disk) makeDir() error {
	var changed []string
	for name := d.dir; ; name = d.PathDir(name) {
		_, err := d.Stat(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if err == nil || d.PathDir(name) == name {
			break
		}
		changed = append(changed, d.PathDir(name))
	}
	if err := d.MkdirAll(d.dir, 0o750); err != nil {
		return err
	}
	for _, name := range changed {
		if err := d.syncDir(name); err != nil {
			return err
		}
	}
	return nil
}

func (d *disk) syncDir(name string) error {
	f, err := d.OpenDir(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), d.failed())
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	if strings.HasPrefix(d.PathBase(name), "marker.") {
		// A marker is an empty file whose name has the name of another file, the manifest. The engine syncs the directory
		// for both at once: of the two, only the marker may survive a power cut, and nothing could be opened any more.
		if err := d.syncDir(d.PathDir(name)); err != nil {
			return nil, err
		}
	}
	err = d.attempt("creating "+name, true, func() (err error) { f, err = d.FS.Create(name, c); return err })
	if strings.HasPrefix(d.PathBase(name), "marker.manifest.") {
		d.hold(logName{kind: kindManifest}, err)
	}
	return d.wrapLog(f, name, err)
}

func (d *disk) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (f vfs.File, err error) {
	err = d.attempt("opening "+name, true, func() (err error) { f, err = d.FS.OpenReadWrite(name, c, opts...); return err })
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name}, nil
}

func (d *disk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = d.attempt("reusing "+from, true, func() (err error) { f, err = d.FS.ReuseForWrite(from, to, c); return err })
	d.marks.forget(parseLog(d.PathBase(from)))
	return d.wrapLog(f, to, err)
}

func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &directory{diskFile{File: f, disk: d, name: name}}, nil
}

func (d *disk) Link(from, to string) error {
	return d.attempt("linking "+to, true, func() error { return d.FS.Link(from, to) })
}

func (d *disk) Rename(from, to string) error {
	return d.attempt("renaming "+from, true, func() error { return d.FS.Rename(from, to) })
}

func (d *disk) MkdirAll(name string, perm os.FileMode) error {
	return d.attempt("making "+name, true, func() error { return d.FS.MkdirAll(name, perm) })
}

// Remove and RemoveAll may fail without harm: what could not be removed is tried again at the next open.
func (d *disk) Remove(name string) error {
	d.marks.forget(parseLog(d.PathBase(name)))
	return d.attempt("removing "+name, false, func() error { return d.FS.Remove(name) })
}

func (d *disk) RemoveAll(name string) error {
	return d.attempt("removing "+name, false, func() error { return d.FS.RemoveAll(name) })
}

// Unwrap returns the file system below, for the engine's own look at it.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// wrapLog wraps a new file, which may be one of the engine's logs.
func (d *disk) wrapLog(f vfs.File, name string, err error) (vfs.File, error) {
	log := parseLog(d.PathBase(name))
	if err != nil && log.kind == kindWAL && d.failed() != nil {
		f, err = vfs.NewMem().Create(log.String(), vfs.WriteCategoryUnspecified) // stands in: nothing is written to it
	}
	if err != nil {
		return nil, err
	}
	return &diskFile{File: f, disk: d, name: name, log: log}, nil
}

// diskFile is a file open for writing.
type diskFile struct {
	vfs.File
	disk *disk
	name string

	log     logName      // of which one this is the beginning; zero for other files
	written atomic.Int64 // by Write
}

// hold does not return once the manifest could not be written: the engine takes that for the end of the process, and its idea
// of its tables is half changed when it goes on. It holds no lock here that reads need. While it is being opened it has to be
// told, and gives up.
func (d *disk) hold(log logName, err error) {
	if err != nil && log.kind == kindManifest && d.opened.Load() && d.failed() != nil {
		select {
		case d.held <- struct{}{}:
		default:
		}
		select {}
	}
}

// hide keeps failures of the write-ahead log from the engine.
func (f *diskFile) hide(err error) error {
	f.disk.hold(f.log, err)
	if f.log.kind == kindWAL && f.disk.failed() != nil {
		return nil
	}
	return err
}

func (f *diskFile) Write(p []byte) (n int, err error) {
	err = f.disk.attempt("writing "+f.name, true, func() error {
		m, err := f.File.Write(p[n:]) // a short write keeps what went through
		n += m
		return err
	})
	f.written.Add(int64(n))
	if err = f.hide(err); err == nil {
		n = len(p)
	}
	return n, err
}

func (f *diskFile) WriteAt(p []byte, at int64) (n int, err error) {
	err = f.disk.attempt("writing "+f.name, true, func() error {
		m, err := f.File.WriteAt(p[n:], at+int64(n))
		n += m
		return err
	})
	return n, err
}

// Preallocate is an optimization: what does not work is left out, and the writes find out for themselves.
func (f *diskFile) Preallocate(offset, length int64) error {
	_ = f.File.Preallocate(offset, length)
	return nil
}

// Sync, SyncData and SyncTo are never tried again: after a failed fsync the kernel may have dropped the pages and marked
// them clean, and a second one would succeed without them. This holds for ENOSPC too.
func (f *diskFile) Sync() error { return f.sync(f.File.Sync) }

func (f *diskFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *diskFile) sync(op func() error) error {
	if err := f.disk.failed(); err != nil {
		return f.hide(err)
	}
	length := f.written.Load()
	if err := op(); err != nil {
		f.disk.fail(fmt.Errorf("fsync of %s: %w", f.name, err))
		return f.hide(err)
	}
	if f.log != (logName{}) && length > 0 && f.disk.failed() == nil {
		f.disk.marks.note(f.log, length)
	}
	return nil
}

// SyncTo only makes the kernel begin to write: it promises nothing.
func (f *diskFile) SyncTo(length int64) (bool, error) {
	full, err := f.File.SyncTo(length)
	if err != nil {
		f.disk.fail(fmt.Errorf("writing back %s: %w", f.name, err))
	}
	return full, f.hide(err)
}

func (f *diskFile) Close() error {
	err := f.File.Close()
	if err != nil {
		f.disk.fail(fmt.Errorf("closing %s: %w", f.name, err))
	}
	return f.hide(err)
}

// directory is a directory open to be synced.
type directory struct{ diskFile }

// Sync does not report a failure to the engine, which would panic, as with its write-ahead log.
func (f *directory) Sync() error {
	_ = f.diskFile.Sync()
	return nil
}
