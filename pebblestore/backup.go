package pebblestore

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/zstd"

	"killfeed"
)

// A backup is a tar archive, compressed with zstd:
//
//	killfeed.json    what it is a copy of: a Backup with the totals left out
//	records-000001   records one after another: key length (uvarint), value length (uvarint), key, value
//	…
//	end.json         a Backup: the totals, and the SHA-256 of all bytes of the records' files
//
// It has the engine's keys and values as one snapshot saw them, and none of the engine's files: so it is of one moment without anybody
// having to wait, does not depend on the engine's format, and takes no space on the server's disk. One without its end is none.
const (
	backupFormat  = 1
	backupHeader  = "killfeed.json"
	backupEnd     = "end.json"
	backupRecords = "records-%06d"
	// backupPart is how many bytes of records a file of the archive has at least; the last one may have fewer. The record that
	// reaches it still belongs to it.
	backupPart = 1 << 20
	// maxBackupPart bounds what a reader takes: a part, and one record of the largest killmail.
	maxBackupPart = 128 << 20
)

// Backup tells what a backup is a copy of.
type Backup struct {
	// Format is that of the archive, Store that of the records in it.
	Format int    `json:"format"`
	Store  uint64 `json:"store_format"`
	// Epoch, First and Head are those of the log: the kept events are First to Head.
	Epoch killfeed.Epoch   `json:"epoch"`
	First killfeed.EventID `json:"first"`
	Head  killfeed.EventID `json:"head"`
	// Made is when the snapshot was taken.
	Made time.Time `json:"made"`
	// Program is the version of the program that wrote it.
	Program string `json:"program"`

	// Records and Bytes are totals, SHA256 the sum over the records' files. Damaged counts records whose checksum did not match when
	// they were copied; they are in the backup as they are. All four are in the end only.
	Records uint64 `json:"records,omitempty"`
	Bytes   uint64 `json:"bytes,omitempty"`
	Damaged uint64 `json:"damaged,omitempty"`
	SHA256  string `json:"sha256,omitempty"`
}

// Events is the number of kept events.
func (b *Backup) Events() uint64 { return uint64(b.Head + 1 - b.First) }

// Backup writes a copy of the log to w, as it is at one moment during the call, and returns what is in it. Others may read and write
// meanwhile. What it has is durable here: no power cut takes back an event that a backup has, so no id in one ever means another
// event. While it runs the engine keeps what was removed since; how long a slow w may take is the caller's to bound. begun, unless
// nil, is told what is to come before anything is written; progress, unless nil, how many events are written, of how many.
func (s *Store) Backup(ctx context.Context, w io.Writer, program string, begun func(Backup), progress func(done, total uint64)) (
	Backup, error) {
	snapshot := s.db.NewSnapshot()
	defer snapshot.Close()
	// The snapshot may have what is applied and not yet synced. One fsync later it is.
	if err := s.settle(); err != nil {
		return Backup{}, err
	}
	b := Backup{Format: backupFormat, Store: s.format, Made: time.Now().UTC().Truncate(time.Millisecond), Program: program}
	if err := b.look(snapshot); err != nil {
		return Backup{}, err
	}
	if begun != nil {
		begun(b)
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) // no goroutines
	if err != nil {
		return Backup{}, err
	}
	out := backupWriter{to: tar.NewWriter(z), sum: sha256.New(), backup: &b}
	err = out.copy(ctx, snapshot, progress)
	if err == nil {
		err = errors.Join(out.to.Close(), z.Close())
	} else {
		z.Close() // what it still writes has no end
	}
	return b, err
}

// settle makes everything that was applied durable.
func (s *Store) settle() (err error) {
	if s.readOnly {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			s.disk.fail(fmt.Errorf("the engine panicked: %v", p))
		}
		err = errors.Join(err, s.disk.failed())
	}()
	if err := s.disk.stuck(); err != nil {
		return err
	}
	return s.db.LogData(nil, pebble.Sync)
}

// look fills in what the snapshot is of.
func (b *Backup) look(snapshot *pebble.Snapshot) error {
	read := func(key []byte, into func(value []byte) error) error {
		v, closer, err := snapshot.Get(key)
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		if err == nil {
			err = errors.Join(into(v), closer.Close())
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", key[1:], err)
		}
		return nil
	}
	b.First = 1
	err := errors.Join(
		read(keyEpoch, func(v []byte) error { v, err := open(keyEpoch, v); b.Epoch = killfeed.Epoch(v); return err }),
		read(keyFirst, func(v []byte) error { n, err := getNumber(keyFirst, v); b.First = killfeed.EventID(n); return err }))
	if err != nil {
		return err
	}
	it, err := snapshot.NewIter(&pebble.IterOptions{LowerBound: []byte{spaceEvent}, UpperBound: []byte{spaceEvent + 1}})
	if err != nil {
		return err
	}
	b.Head = b.First - 1
	if it.Last() {
		var n uint64
		n, err = keyNumber(it.Key())
		b.Head = killfeed.EventID(n)
	}
	return errors.Join(err, it.Error(), it.Close())
}

// backupWriter writes one backup.
type backupWriter struct {
	to     *tar.Writer
	sum    hash.Hash
	backup *Backup
	part   []byte // records for the next file
	parts  int
}

func (w *backupWriter) copy(ctx context.Context, snapshot *pebble.Snapshot, progress func(done, total uint64)) error {
	b := w.backup
	if err := w.document(backupHeader); err != nil {
		return err
	}
	it, err := snapshot.NewIter(nil)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var value []byte
		if value, err = it.ValueAndErr(); err == nil {
			err = w.record(it.Key(), value)
		}
		if progress != nil && it.Key()[0] == spaceEvent && b.Records%1024 == 0 {
			if id, bad := keyNumber(it.Key()); bad == nil {
				progress(id-uint64(b.First), b.Events())
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}
	if err = errors.Join(err, it.Error(), it.Close()); err != nil {
		return fmt.Errorf("copying the log: %w", err)
	}
	if err := w.flush(); err != nil {
		return err
	}
	b.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	if progress != nil {
		progress(b.Events(), b.Events())
	}
	return w.document(backupEnd)
}

func (w *backupWriter) record(key, value []byte) error {
	if _, err := open(key, value); err != nil {
		w.backup.Damaged++
	}
	w.backup.Records++
	w.part = binary.AppendUvarint(w.part, uint64(len(key)))
	w.part = binary.AppendUvarint(w.part, uint64(len(value)))
	w.part = append(append(w.part, key...), value...)
	if len(w.part) < backupPart {
		return nil
	}
	return w.flush()
}

func (w *backupWriter) flush() error {
	if len(w.part) == 0 {
		return nil
	}
	w.parts++
	w.sum.Write(w.part)
	w.backup.Bytes += uint64(len(w.part))
	err := w.file(fmt.Sprintf(backupRecords, w.parts), w.part)
	w.part = w.part[:0]
	return err
}

func (w *backupWriter) document(name string) error {
	text, err := json.Marshal(w.backup)
	if err != nil {
		return err
	}
	return w.file(name, append(text, '\n'))
}

func (w *backupWriter) file(name string, content []byte) error {
	h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: w.backup.Made, Format: tar.FormatPAX}
	if err := w.to.WriteHeader(h); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	if _, err := w.to.Write(content); err != nil {
		return fmt.Errorf("writing the backup: %w", err)
	}
	return nil
}

// ErrBadBackup: what was read is no backup, or not all of one.
var ErrBadBackup = errors.New("not a whole backup")

// ReadBackup reads a backup to its end and verifies that it is whole: its counts, and its sum. progress, unless nil, is told how many
// events were read, of how many. The error is ErrBadBackup, wrapped, or r's.
func ReadBackup(ctx context.Context, r io.Reader, progress func(done, total uint64)) (Backup, error) {
	return readBackup(ctx, r, progress, func(*Backup) error { return nil }, func(_, _ []byte) error { return nil })
}

// readBackup calls begun with the header, then record for each record, whose bytes are valid until it returns.
func readBackup(ctx context.Context, r io.Reader, progress func(done, total uint64), begun func(*Backup) error,
	record func(key, value []byte) error) (b Backup, err error) {
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return b, err
	}
	defer z.Close()
	bad := func(format string, args ...any) (Backup, error) {
		return b, fmt.Errorf("reading a backup: %w: %w", ErrBadBackup, fmt.Errorf(format, args...))
	}
	files := tar.NewReader(z)
	next := func() (name string, content []byte, err error) {
		h, err := files.Next()
		if err != nil {
			return "", nil, err
		}
		if h.Size > maxBackupPart {
			return "", nil, fmt.Errorf("%s has %d bytes", h.Name, h.Size)
		}
		content = make([]byte, h.Size)
		_, err = io.ReadFull(files, content)
		return h.Name, content, err
	}
	name, content, err := next()
	switch {
	case err != nil:
		return bad("it has no beginning: %w", err)
	case name != backupHeader:
		return bad("it begins with %.100q, want %s", name, backupHeader)
	}
	if err := json.Unmarshal(content, &b); err != nil || !b.Epoch.Valid() || b.First < 1 || b.Head+1 < b.First {
		return bad("%s makes no sense: %.200q", backupHeader, content)
	}
	if b.Format != backupFormat || b.Store < 1 || b.Store > formatVersion {
		return b, fmt.Errorf("the backup has format %d with records of format %d, this program knows format %d with records up to %d: use a "+
			"newer killfeed", b.Format, b.Store, backupFormat, formatVersion)
	}
	if err := begun(&b); err != nil {
		return b, err
	}
	sum, got := sha256.New(), b
	for part := 1; ; part++ {
		if ctx.Err() != nil {
			return b, context.Cause(ctx)
		}
		name, content, err := next()
		if err != nil {
			return bad("it ends early, behind %d records: %w", got.Records, err)
		}
		if name == backupEnd {
			if err := json.Unmarshal(content, &b); err != nil {
				return bad("%s makes no sense: %w", backupEnd, err)
			}
			break
		}
		if want := fmt.Sprintf(backupRecords, part); name != want {
			return bad("%.100q is where %s belongs", name, want)
		}
		sum.Write(content)
		got.Bytes += uint64(len(content))
		for len(content) > 0 {
			key, value, rest, ok := cutRecord(content)
			if !ok {
				return bad("%s cannot be read behind %d records", name, got.Records)
			}
			got.Records++
			if err := record(key, value); err != nil {
				return b, err
			}
			if progress != nil && key[0] == spaceEvent && got.Records%1024 == 0 {
				if id, err := keyNumber(key); err == nil && id >= uint64(b.First) {
					progress(id-uint64(b.First), b.Events())
				}
			}
			content = rest
		}
	}
	got.SHA256, got.Damaged = hex.EncodeToString(sum.Sum(nil)), b.Damaged
	if got != b {
		return bad("it has %d records of %d bytes with sum %.16s…, its end says %d of %d with %.16s…",
			got.Records, got.Bytes, got.SHA256, b.Records, b.Bytes, b.SHA256)
	}
	// To the end of the compressed stream, whose own checksum is checked there.
	if n, err := io.Copy(io.Discard, z); err != nil {
		return bad("its end is damaged: %w", err)
	} else if n > 1<<20 {
		return bad("something follows its end")
	}
	if progress != nil {
		progress(b.Events(), b.Events())
	}
	return b, nil
}

func cutRecord(b []byte) (key, value, rest []byte, ok bool) {
	k, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, nil, nil, false
	}
	v, m := binary.Uvarint(b[n:])
	if m <= 0 {
		return nil, nil, nil, false
	}
	b = b[n+m:]
	if k == 0 || k > uint64(len(b)) || v > uint64(len(b))-k {
		return nil, nil, nil, false
	}
	return b[:k:k], b[k : k+v : k+v], b[k+v:], true
}

// restoringName is a file that is in a directory while a backup is being restored into it.
const restoringName = "RESTORING"

// maxFormer bounds the former epochs that a log remembers. A cursor of an older one is told a gap.
const maxFormer = 64

// Restore makes a store in dir, which must be empty or missing, from a backup. The store has a new epoch; that of the backup becomes a
// former one, which holds to the backup's head. Nothing opens the directory before all of it is there and durable; after an error it
// is empty again. The store is not left open.
func Restore(ctx context.Context, dir string, r io.Reader, o Options, progress func(done, total uint64)) (b Backup, epoch killfeed.Epoch,
	err error) {
	o.withDefaults()
	o.ReadOnly, o.Memory = false, false
	d := newDisk(o.FS, dir, o.MinFree, o.Logger)
	d.retry = o.retry
	if err := d.makeDir(); err != nil {
		return b, "", fmt.Errorf("making the data directory: %w", err)
	}
	if err := empty(d); err != nil {
		return b, "", err
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		return b, "", fmt.Errorf("locking %s: %w (%w)", dir, killfeed.ErrLocked, err)
	}
	s := &Store{lock: lock, disk: d, log: o.Logger}
	// Before anything else is there: from now on a crash leaves a directory that is refused.
	if err = d.markRestoring(); err == nil {
		b, epoch, err = s.restore(ctx, dir, r, o, progress)
	}
	if err == nil {
		if err = s.closeEngine(); err == nil {
			err = errors.Join(d.failed(), d.marks.close(), d.Remove(d.PathJoin(dir, restoringName)), d.syncDir(dir))
		}
		close(d.closing)
		err = errors.Join(err, lock.Close())
	} else {
		err = errors.Join(err, s.abandon(), d.marks.close())
	}
	if err == nil {
		return b, epoch, nil
	}
	return b, "", errors.Join(fmt.Errorf("restoring into %s: %w", dir, err), wipe(o, d))
}

// restore fills the store's engine.
func (s *Store) restore(ctx context.Context, dir string, r io.Reader, o Options, progress func(done, total uint64)) (b Backup,
	epoch killfeed.Epoch, err error) {
	opened := false
	var former []killfeed.FormerEpoch
	var batch *pebble.Batch
	defer func() {
		if batch != nil {
			err = errors.Join(err, batch.Close())
		}
	}()
	begun := func(*Backup) error {
		opened = true
		if err := s.openEngine(dir, o); err != nil {
			return err
		}
		batch = s.db.NewBatch()
		return nil
	}
	b, err = readBackup(ctx, r, progress, begun, func(key, value []byte) (err error) {
		switch {
		case bytes.Equal(key, keyEpoch):
			return nil // it gets another one below, with the last batch
		case bytes.Equal(key, keyFormer):
			former, err = getFormer(value)
			return err
		}
		if err := batch.Set(key, value, nil); err != nil || batch.Len() < backupPart {
			return err
		}
		err = errors.Join(s.apply(batch, pebble.NoSync), batch.Close())
		batch = s.db.NewBatch()
		return err
	})
	if err != nil || !opened {
		return b, "", err
	}
	epoch = killfeed.NewEpoch()
	former = append(former, killfeed.FormerEpoch{Epoch: b.Epoch, Through: b.Head})
	former = former[max(0, len(former)-maxFormer):]
	err = errors.Join(batch.Set(keyEpoch, putEpoch(epoch), nil), batch.Set(keyFormer, putFormer(former), nil))
	if err != nil {
		return b, "", err
	}
	if err := s.apply(batch, pebble.Sync); err != nil {
		return b, "", err
	}
	return b, epoch, nil
}

// putEpoch makes the record of the epoch: epoch8 crc4.
func putEpoch(epoch killfeed.Epoch) []byte {
	v := append([]byte(epoch), 0, 0, 0, 0)
	seal(keyEpoch, v)
	return v
}

// loadFormer reads the former epochs.
func (s *Store) loadFormer() (former []killfeed.FormerEpoch, err error) {
	err = s.get(keyFormer, func(v []byte) (err error) { former, err = getFormer(v); return err })
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("reading the former epochs: %w", err)
	}
	return former, nil
}

// ErrNotEmpty: a backup is restored into an empty directory only.
var ErrNotEmpty = errors.New("the directory is not empty")

// empty is nil when nothing is in the directory. A file system of its own brings one entry with it.
func empty(d *disk) error {
	names, err := d.List(d.dir)
	if err != nil {
		return fmt.Errorf("looking into the data directory: %w", err)
	}
	for _, name := range names {
		if name != "lost+found" {
			return fmt.Errorf("restoring into %s: %w: there is %s", d.dir, ErrNotEmpty, name)
		}
	}
	return nil
}

// markRestoring makes the directory one that is not opened.
func (d *disk) markRestoring() error {
	f, err := d.Create(d.PathJoin(d.dir, restoringName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte("A backup is being restored into this directory, or was when that was broken off.\n"))
	return errors.Join(err, f.Sync(), f.Close(), d.syncDir(d.dir))
}

// checkRestored is nil unless a restore did not come to its end.
func (d *disk) checkRestored() error {
	if _, err := d.Stat(d.PathJoin(d.dir, restoringName)); err != nil {
		return nil // what cannot be looked at fails elsewhere
	}
	return fmt.Errorf("a backup was being restored into %s and that did not end; remove what is in it, and restore again", d.dir)
}

// wipe removes what a restore that failed has left. The marker goes last.
func wipe(o Options, d *disk) error {
	names, err := o.FS.List(d.dir)
	for _, name := range names {
		if name != "lost+found" && name != restoringName {
			err = errors.Join(err, o.FS.RemoveAll(o.FS.PathJoin(d.dir, name)))
		}
	}
	if err == nil {
		err = o.FS.RemoveAll(o.FS.PathJoin(d.dir, restoringName))
	}
	if err != nil {
		return fmt.Errorf("removing what there is of it: %w", err)
	}
	return nil
}

// Free is the space in bytes that is left for whoever runs this on the file system of a directory.
func Free(dir string) (uint64, error) {
	usage, err := vfs.Default.GetDiskUsage(dir)
	if err != nil {
		return 0, fmt.Errorf("looking at the free space of %s: %w", dir, err)
	}
	return usage.AvailBytes, nil
}
