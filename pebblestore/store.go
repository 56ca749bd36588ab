package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
)

// Options configure a Store. The zero value works.
type Options struct {
	// Memory keeps everything in memory: the same engine on a file system that is gone at the end.
	Memory bool
	// Cache is the size of the block cache in bytes; 0 means 64 MiB.
	Cache int64
	// Tail is how many bytes of the newest killmails stay in memory; 0 means 16 MiB.
	Tail int
	// MinFree is the free space in bytes below which inserts are refused; 0 means 32 MiB.
	MinFree uint64
	// ReadOnly changes nothing in the directory, which must exist. It is for Check. A directory of an earlier format stays what
	// it is, and is checked as that; kills and losses cannot be searched for in it.
	ReadOnly bool
	// Epoch is that of a store which is made; empty draws one at random. One that exists keeps its own.
	Epoch killfeed.Epoch
	// Logger is told of what needs an operator's attention; nil discards.
	Logger *slog.Logger
	// FS, when set, is the file system to use instead of the machine's or Memory's. It is for tests that fail it.
	FS vfs.FS

	// Only tests have less than the defaults here.
	generation int           // events in a full generation, see chunks.go; 0 means generationSize
	block      int           // size of the engine's blocks in bytes; 0 means 16 KiB
	retry      time.Duration // how often what failed is tried again; 0 means retryEvery
}

func (o *Options) withDefaults() {
	if o.Cache == 0 {
		o.Cache = 64 << 20
	}
	if o.Tail == 0 {
		o.Tail = 16 << 20
	}
	if o.MinFree == 0 {
		o.MinFree = 32 << 20
	}
	if o.retry == 0 {
		o.retry = retryEvery
	}
	if o.block == 0 {
		o.block = 16 << 10
	}
	if o.generation == 0 {
		o.generation = generationSize
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case o.FS != nil:
	case o.Memory:
		o.FS = vfs.NewMem()
	default:
		o.FS = vfs.Default
	}
}

// Store is a killfeed.Store on Pebble.
type Store struct {
	db   *pebble.DB
	lock *pebble.Lock
	disk *disk
	log  *slog.Logger
	// readOnly: nothing is written, also not what open would catch up with.
	readOnly bool
	// format is that of the directory. It is an earlier one than formatVersion only when readOnly. It is set by open.
	format uint64

	state atomic.Pointer[killfeed.State] // replaced by Commit, Remove and Adopt
	index index
	damage

	generation int           // events in a full generation
	full       chan struct{} // cap 1: a generation is full
	drained    chan struct{} // cap 1: one was written
	writer     sync.WaitGroup
}

var _ killfeed.Store = (*Store)(nil)

// damage is what open found wrong, event by event.
type damage struct {
	mu      sync.Mutex // guards damaged
	damaged []killfeed.DamageError
}

// maxDamage bounds the list of damaged events. A store with more is beyond listing.
const maxDamage = 1000

func (d *damage) add(id killfeed.EventID, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.damaged) < maxDamage {
		d.damaged = append(d.damaged, killfeed.DamageError{ID: id, Err: err})
	}
}

// Open opens the store in dir, which is made when it does not exist. The error is killfeed.ErrLocked, wrapped, when another
// process has it open.
func Open(dir string, o Options) (*Store, error) {
	o.withDefaults()
	if o.Memory {
		dir = "memory"
	}
	if o.Epoch != "" && !o.Epoch.Valid() {
		return nil, fmt.Errorf("making a store with the epoch %q: an epoch is 8 hex digits", o.Epoch)
	}
	d := newDisk(o.FS, dir, o.MinFree, o.Logger)
	d.retry = o.retry
	if o.ReadOnly {
		if _, err := o.FS.Stat(dir); err != nil {
			return nil, fmt.Errorf("opening the data directory: %w", err)
		}
	} else if err := d.makeDir(); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("locking %s: %w", dir, err)
		}
		return nil, fmt.Errorf("locking %s: %w (%w)", dir, killfeed.ErrLocked, err)
	}
	s := &Store{
		lock: lock, disk: d, log: o.Logger, readOnly: o.ReadOnly, generation: o.generation,
		full: make(chan struct{}, 1), drained: make(chan struct{}, 1),
	}
	s.index.systems, s.index.tailLimit = map[uint32]*postings{}, o.Tail
	if err := s.open(dir, o); err != nil {
		return nil, fmt.Errorf("opening the store in %s: %w", dir, errors.Join(err, s.abandon()))
	}
	s.writer.Go(s.writeChunks)
	return s, nil
}

// abandon ends a store that was not opened to its end.
func (s *Store) abandon() error {
	close(s.disk.closing)
	var err error
	if s.db != nil {
		err = s.closeEngine()
	}
	return errors.Join(err, s.lock.Close())
}

// engineVersion pins the engine's file format, so that an upgrade of the engine does not make a downgrade impossible by
// itself. This one's write-ahead log notes how far it was synced: with it a damaged record in the middle can be told from a
// torn tail, instead of silently ending the replay.
const engineVersion = pebble.FormatWALSyncChunks

func (s *Store) open(dir string, o Options) error {
	if err := s.disk.checkRestored(); err != nil {
		return err
	}
	if err := s.openEngine(dir, o); err != nil {
		return err
	}
	if err := errors.Join(s.load(o.Epoch), s.disk.failed()); err != nil {
		return err
	}
	s.disk.opened.Store(true)
	return nil
}

func (s *Store) openEngine(dir string, o Options) (err error) {
	if err := s.disk.checkLogs(); err != nil {
		return err
	}
	if !o.ReadOnly && !o.Memory {
		if err := s.disk.openMarks(); err != nil {
			s.log.Warn("damage to the engine's logs may go unnoticed", "err", err)
		}
	}
	cache := pebble.NewCache(o.Cache)
	defer cache.Unref()
	opts := &pebble.Options{
		FS: s.disk, Lock: s.lock, Cache: cache, FormatMajorVersion: engineVersion,
		ReadOnly: s.readOnly, ErrorIfNotExists: s.readOnly,
		// Small memtables: a restart replays at most two of them.
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       24,
		MaxOpenFiles:                512,
		BytesPerSync:                1 << 20,
		WALBytesPerSync:             1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		FlushDelayDeleteRange:       deletionDelay,
		Logger:                      engineLogger{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.backgroundError,
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				s.log.Error("the engine found a damaged file; run killfeed check", "file", i.Path, "err", i.Details)
			},
		},
	}
	opts.TargetFileSizes[0] = 4 << 20
	for i := range opts.Levels {
		l := &opts.Levels[i]
		l.BlockSize = o.block
		l.FilterPolicy = bloom.FilterPolicy(10) // most killmail ids that are looked up are not there
		l.FilterType = pebble.TableFilter
	}
	if err := s.checkOptions(dir, opts); err != nil {
		return err
	}
	// The engine writes to a table what its logs bring, and waits for that: after a failure it would, for ever. See backgroundError.
	type result struct {
		db  *pebble.DB
		err error
	}
	opened := make(chan result, 1)
	go func() {
		db, err := pebble.Open(dir, opts)
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		s.db = r.db
		return r.err
	case <-s.disk.held:
		return s.disk.failed()
	}
}

// checkOptions looks whether the engine will take the options of its last run, of which its own error does not name the file.
func (s *Store) checkOptions(dir string, opts *pebble.Options) error {
	d, err := pebble.Peek(dir, s.disk.FS)
	if err != nil || d.OptionsFilename == "" {
		return err
	}
	f, err := s.disk.FS.Open(d.OptionsFilename)
	if err != nil {
		return fmt.Errorf("opening the engine's options: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err == nil {
		opts = opts.Clone()
		opts.EnsureDefaults() // as opening does
		err = opts.CheckCompatibility(dir, string(text))
	}
	if err != nil {
		return fmt.Errorf("%s is damaged, or of another engine: %w", d.OptionsFilename, err)
	}
	return nil
}

// backgroundError is called by the engine's flushes and compactions, which try again at once, for ever, also after a failure.
// The engine's lock is held meanwhile, so the pause is short.
func (s *Store) backgroundError(err error) {
	if s.disk.failed() == nil {
		s.log.Error("the engine failed in the background and tries again", "err", err)
	} else if !s.disk.opened.Load() {
		select {
		case s.disk.held <- struct{}{}: // whoever opens it gives up
		default:
		}
		select {}
	}
	select {
	case <-time.After(s.disk.retry):
	case <-s.disk.closing:
	}
}

// engineLogger is the engine's log. Its own would end the process in Fatalf.
type engineLogger struct{ s *Store }

func (l engineLogger) Infof(format string, args ...any) {
	l.s.log.Log(context.Background(), slog.LevelDebug-4, "engine", "msg", fmt.Sprintf(format, args...))
}

func (l engineLogger) Errorf(format string, args ...any) {
	l.s.log.Warn("engine", "msg", fmt.Sprintf(format, args...))
}

func (l engineLogger) Fatalf(format string, args ...any) {
	l.s.disk.fail(fmt.Errorf("the engine: "+format, args...))
}

// load reads the state and makes the indexes in memory. A new store gets the epoch unless it is empty.
func (s *Store) load(epoch killfeed.Epoch) error {
	epoch, err := s.loadFormat(epoch)
	if err != nil {
		return err
	}
	first, err := s.number(keyFirst, 1)
	if err != nil {
		return err
	}
	indexed, err := s.number(keyIndexed, 0)
	if err != nil {
		return err
	}
	x := &s.index
	x.first, x.head, x.indexed = killfeed.EventID(first), killfeed.EventID(first)-1, killfeed.EventID(indexed)
	if err := errors.Join(s.loadRemoved(), s.loadLegacy()); err != nil {
		return err
	}
	last, err := s.loadSummaries()
	if err != nil {
		return err
	}
	former, err := s.loadFormer()
	if err != nil {
		return err
	}
	st := killfeed.State{Epoch: epoch, Former: former, First: x.first, Head: x.head, MirrorSeq: last.mirror, Bytes: x.bytes}
	if last.received != 0 {
		st.LastReceived = time.UnixMilli(last.received).UTC()
	}
	if x.head < x.first && x.head > 0 {
		// Everything was removed; what follows goes on from where the last event was.
		if st.MirrorSeq, err = s.number(keyMirror, 0); err != nil {
			return err
		}
		received, err := s.number(keyReceived, 0)
		if err != nil {
			return err
		}
		st.LastReceived = time.UnixMilli(int64(received)).UTC()
	}
	s.state.Store(&st)
	return s.restoreIndex()
}

// loadFormat checks the layout's version and returns the epoch. A new store gets both, the epoch being made unless it is given;
// one of an earlier version is upgraded.
func (s *Store) loadFormat(made killfeed.Epoch) (killfeed.Epoch, error) {
	version, err := s.number(keyFormat, 0)
	if err != nil {
		return "", err
	}
	if version > formatVersion {
		return "", fmt.Errorf("the data has format %d, this program knows up to %d: use a newer killfeed", version, formatVersion)
	}
	s.format = formatVersion
	if version == 0 {
		epoch := made
		if epoch == "" {
			epoch = killfeed.NewEpoch()
		}
		b := s.db.NewBatch()
		defer b.Close()
		err := errors.Join(b.Set(keyEpoch, putEpoch(epoch), nil), b.Set(keyFormat, putNumber(keyFormat, formatVersion), nil))
		if err != nil {
			return "", err
		}
		return epoch, s.apply(b, pebble.Sync)
	}
	var epoch killfeed.Epoch
	err = s.get(keyEpoch, func(v []byte) error {
		v, err := open(keyEpoch, v)
		epoch = killfeed.Epoch(v)
		return err
	})
	if err == nil && !epoch.Valid() {
		err = fmt.Errorf("%q is not an epoch", epoch)
	}
	if err != nil {
		return "", fmt.Errorf("reading the epoch: %w", err)
	}
	if version < formatVersion {
		if s.readOnly {
			s.format = version
			s.log.Info("the data has an earlier format and is left as it is", "format", version)
		} else if err := s.upgrade(); err != nil {
			return "", fmt.Errorf("bringing the data from format %d to %d: %w", version, formatVersion, err)
		}
	}
	return epoch, nil
}

// number reads a record of one number, or returns def when there is none.
func (s *Store) number(key []byte, def uint64) (uint64, error) {
	n := def
	err := s.get(key, func(v []byte) (err error) { n, err = getNumber(key, v); return err })
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return 0, fmt.Errorf("reading %s: %w", key[1:], err)
	}
	return n, nil
}

// get calls read with the value of key. The bytes are valid until it returns.
func (s *Store) get(key []byte, read func(value []byte) error) error {
	v, closer, err := s.db.Get(key)
	if err != nil {
		return err
	}
	return errors.Join(read(v), closer.Close())
}

// loadRemoved reads the removal marks of the systems.
func (s *Store) loadRemoved() error {
	return s.scan([]byte{spaceRemoved}, []byte{spaceRemoved + 1}, func(key, value []byte) error {
		system, err := removedSystem(key)
		if err != nil {
			return err
		}
		id, err := getNumber(key, value)
		if err != nil {
			return fmt.Errorf("removal mark of system %d: %w", system, err)
		}
		s.index.system(system).removed = killfeed.EventID(id)
		return nil
	})
}

// loadSummaries makes the index in memory and checks that the log has no hole. It returns the last summary. An event whose
// summary is damaged or missing is reported, and made from its record where that is whole.
func (s *Store) loadSummaries() (last summary, err error) {
	x := &s.index
	expect := x.first
	upTo := func(id killfeed.EventID) {
		for ; expect < id; expect++ {
			sum, err := s.summaryFromRecord(expect)
			s.damage.add(expect, fmt.Errorf("its summary is missing or damaged (record: %w)", orWhole(err)))
			if err != nil {
				sum = summary{received: last.received, mirror: last.mirror}
			}
			x.addFact(expect, sum)
			last = sum
		}
	}
	err = s.scan(numberKey(spaceSummary, uint64(x.first)), []byte{spaceSummary + 1}, func(key, value []byte) error {
		id, err := keyNumber(key)
		if err != nil {
			return err
		}
		sum, err := getSummary(key, value)
		if err != nil {
			return nil // filled in by the next one, or below
		}
		upTo(killfeed.EventID(id))
		x.addFact(expect, sum)
		last = sum
		expect++
		return nil
	})
	if err != nil {
		return last, fmt.Errorf("reading the summaries from event %d on: %w", expect, err)
	}
	// The last summaries may be damaged while their records are there.
	head := expect - 1
	err = s.scan(numberKey(spaceEvent, uint64(expect)), []byte{spaceEvent + 1}, func(key, _ []byte) error {
		id, err := keyNumber(key)
		head = killfeed.EventID(id)
		return err
	})
	if err != nil {
		return last, fmt.Errorf("looking for events behind %d: %w", expect-1, err)
	}
	upTo(head + 1)
	if n := len(s.damaged); n > 0 {
		ids := make([]killfeed.EventID, 0, 10)
		for _, d := range s.damaged[:min(n, 10)] {
			ids = append(ids, d.ID)
		}
		s.log.Error("damaged events found; they are passed over and told as gaps; run killfeed check",
			"count", n, "first_ids", ids)
	}
	return last, nil
}

func orWhole(err error) error {
	if err == nil {
		return errors.New("whole")
	}
	return err
}

// summaryFromRecord makes a summary from the event's record.
func (s *Store) summaryFromRecord(id killfeed.EventID) (sum summary, err error) {
	key := numberKey(spaceEvent, uint64(id))
	err = s.get(key, func(v []byte) error {
		e, err := getEvent(key, v)
		if err == nil {
			sum = summarize(&e)
		}
		return err
	})
	return sum, err
}

// scan calls f for each key in [from, to). The bytes are valid until it returns.
func (s *Store) scan(from, to []byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = f(it.Key(), v)
		}
		if err != nil {
			return errors.Join(err, it.Close())
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// State is killfeed.Store's.
func (s *Store) State() killfeed.State { return *s.state.Load() }

// Health is killfeed.Store's.
func (s *Store) Health() error { return s.disk.health() }

// Damaged returns the events that were found damaged when the store was opened.
func (s *Store) Damaged() []killfeed.DamageError {
	s.damage.mu.Lock()
	defer s.damage.mu.Unlock()
	return slices.Clone(s.damaged)
}

// DiskBytes is the size of the store's files. The engine is not asked: after a failure it does not answer.
func (s *Store) DiskBytes() (n uint64) {
	names, err := s.disk.List(s.disk.dir)
	if err != nil {
		return 0
	}
	for _, name := range names {
		if fi, err := s.disk.Stat(s.disk.PathJoin(s.disk.dir, name)); err == nil && !fi.IsDir() { // some go meanwhile
			n += uint64(fi.Size())
		}
	}
	return n
}

// Close is killfeed.Store's. What the crash of a process would cost, the newest part of the index of participants, is
// written first, so that the next open is quick.
func (s *Store) Close() error {
	close(s.disk.closing)
	s.writer.Wait()
	var err error
	for _, g := range s.index.gens {
		if !g.written && !s.readOnly && s.disk.failed() == nil {
			err = errors.Join(err, s.writeGeneration(g))
		}
	}
	if err == nil && !s.readOnly && s.disk.failed() == nil {
		err = s.db.LogData(nil, pebble.Sync) // the chunks and what went before them
	}
	closed := s.closeEngine()
	if failed := s.disk.failed(); failed != nil {
		// The directory stays locked until the process ends, which keeps anybody from going on with what the kernel still
		// has in memory and the disk may not.
		return failed
	}
	return errors.Join(err, closed, s.disk.marks.close(), s.lock.Close())
}

// closeEngine closes the engine. After a failure it may be waiting for what does not come, and is left behind.
func (s *Store) closeEngine() error {
	closed := make(chan error, 1)
	go func() { closed <- s.db.Close() }()
	for {
		select {
		case err := <-closed:
			return err
		case <-s.disk.held:
			return errors.New("the engine cannot end after a failure of its manifest")
		case <-time.After(5 * time.Second):
			if s.disk.failed() != nil { // perhaps only now
				return errors.New("the engine does not end after its failure")
			}
		}
	}
}
