package names

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"killfeed/ingest/esi"
)

// Category is what something with a name is.
type Category uint8

// Categories. Their numbers are stored: they never change meaning.
const (
	Character     Category = 1
	Corporation   Category = 2
	Alliance      Category = 3
	Faction       Category = 4
	Type          Category = 5
	System        Category = 6
	Constellation Category = 7
	Region        Category = 8
)

// Entry is what is known of an id.
type Entry struct {
	Category Category
	// Name is printable, 1 to 200 bytes.
	Name string
	// Ticker is the short name of a corporation or alliance. It comes after the name, so it may be empty for a while.
	Ticker string
	// Constellation and Security are of a System, Region is of a Constellation. As the ticker they come after the name, all or
	// none: Constellation and Region are 0 until then.
	Constellation, Region uint32
	Security              float64
}

// State says how an id stands.
type State uint8

const (
	// Unknown: there is no such id as far as is known, and nobody is asked about it now.
	Unknown State = iota
	// Pending: it is not known yet. Ask again later.
	Pending
	// Known: the Entry is right, or was within the last 30 days.
	Known
)

// String is the category in a word, as topics have it where they have one.
func (c Category) String() string {
	if int(c) < len(categories) && c > 0 {
		return categories[c]
	}
	return "unknown"
}

var categories = [...]string{Character: "character", Corporation: "corporation", Alliance: "alliance", Faction: "faction",
	Type: "type", System: "system", Constellation: "constellation", Region: "region"}

// Bounds of Options that set none.
const (
	DefaultQueue   = 16_384
	DefaultCache   = 65_536
	DefaultEntries = 2_000_000
)

// Options configure a Book. The zero value works: a Book that asks nobody.
type Options struct {
	// ESI is asked; nil: nobody is, and what the Book does not have is Unknown.
	ESI *esi.Client
	// Queue is how many ids may wait of each sort: what a killmail names, what somebody made up, what is asked for ahead, what was
	// refused together with others, of killmails and made up, tickers and places, old names, and what there was none of a day ago;
	// 0 means DefaultQueue.
	Queue int
	// Cache is how many entries are kept in memory; 0 means DefaultCache.
	Cache int
	// Entries is how many are kept on disk; 0 means DefaultEntries, some 200 MB. Beyond that each new one takes the place of some
	// other.
	Entries int
	// Logger is told of what goes wrong; nil discards.
	Logger *slog.Logger
}

// Book is the names that are known, and the asking for more.
type Book struct {
	esi   *esi.Client
	log   *slog.Logger
	file  *file        // nil: names are kept in memory only
	asked atomic.Int64 // when somebody last called Get or Guess, in nanoseconds since 1970

	wake   chan struct{} // cap 1: there is something to ask for
	demand chan struct{} // cap 1: somebody called Get or Guess

	mu      sync.Mutex // guards the rest; held for map operations, never through a request or a look at the disk
	cache   cache
	unsaved map[uint32]record // what the file does not have yet; empty without one
	lines   [sorts]line
	flying  map[uint32]sort // what is being asked about, out of its line
	detail  uint32          // and whose ticker or place is
	changed chan struct{}   // closed and made anew when ids stop being Pending
	status  Status          // without Known and Pending
	told    map[string]bool // sorts of wrong answers that the log has
}

// record is what is kept of an id. Without a Category it is that there is none.
type record struct {
	Entry
	// fetched is when ESI told the name, or that there is none; detailed when it told the rest, 0 if it has not. In seconds since
	// 1970.
	fetched, detailed int64
}

const (
	// fileName is the file in the data directory.
	fileName = "names.db"
	// freshFor is how long a name, ticker or place is believed, and noneFor how long that there is none.
	freshFor = 30 * 24 * time.Hour
	noneFor  = 24 * time.Hour
)

// Open opens the Book in the data directory, which is there, or makes it; with an empty dir it is kept in memory only. The error
// is killfeed.ErrLocked, wrapped, when another process has it open.
func Open(dir string, o Options) (*Book, error) {
	if o.Queue <= 0 {
		o.Queue = DefaultQueue
	}
	if o.Cache <= 0 {
		o.Cache = DefaultCache
	}
	if o.Entries <= 0 {
		o.Entries = DefaultEntries
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Book{
		esi: o.ESI, log: o.Logger, wake: make(chan struct{}, 1), demand: make(chan struct{}, 1),
		cache: newCache(o.Cache), unsaved: map[uint32]record{}, flying: map[uint32]sort{},
		changed: make(chan struct{}), told: map[string]bool{},
	}
	for i := range b.lines {
		b.lines[i] = newLine(o.Queue)
	}
	if dir != "" {
		var err error
		if b.file, err = openFile(filepath.Join(dir, fileName), o.Entries, o.Logger); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// Close writes what is not written yet and closes the file. Run and Follow have ended.
func (b *Book) Close() error {
	if b == nil || b.file == nil {
		return nil
	}
	b.save()
	return b.file.close()
}

// Get tells what is known of an id that a killmail names, at once. What is not known is asked for in the background.
func (b *Book) Get(id uint32) (Entry, State) { return b.look(id, asked) }

// Guess is Get for an id that whoever asks may have made up. It is asked for behind those in killmails, and not together with
// them: one that does not exist has ESI refuse all.
func (b *Book) Guess(id uint32) (Entry, State) { return b.look(id, guessed) }

func (b *Book) look(id uint32, why sort) (Entry, State) {
	if b == nil {
		return Entry{}, Unknown
	}
	now := time.Now()
	b.asked.Store(now.UnixNano())
	ring(b.demand)
	return b.get(id, why, now)
}

// Await waits until none of the ids, which may be made up, is Pending, or returns the cause of ctx.
func (b *Book) Await(ctx context.Context, ids []uint32) error {
	if b == nil {
		return nil
	}
	for pending := slices.Clone(ids); ; {
		b.mu.Lock()
		changed := b.changed // before the look, or what changes between the two is waited for in vain
		b.mu.Unlock()
		pending = slices.DeleteFunc(pending, func(id uint32) bool {
			_, state := b.Guess(id)
			return state != Pending
		})
		if len(pending) == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Learn tells the Book of names that need no asking: those of invented pilots. It keeps as many as its memory has room for.
func (b *Book) Learn(names map[uint32]Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range names {
		now := time.Now().Unix()
		b.learn(id, record{Entry: e, fetched: now, detailed: now})
	}
}

// get is Get for a reason.
func (b *Book) get(id uint32, why sort, now time.Time) (Entry, State) {
	b.mu.Lock()
	r, ok := b.held(id)
	if ok || b.file == nil || b.queued(id) {
		defer b.mu.Unlock()
		return b.judge(id, r, ok, why, now)
	}
	b.mu.Unlock()
	r, ok = b.file.get(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if newer, held := b.held(id); held {
		r, ok = newer, true
	} else if ok {
		b.cache.put(id, r)
	}
	return b.judge(id, r, ok, why, now)
}

// held is what memory has. The caller holds b.mu.
func (b *Book) held(id uint32) (record, bool) {
	if r, ok := b.cache.get(id); ok {
		return r, true
	}
	r, ok := b.unsaved[id]
	return r, ok
}

// judge says how an id stands, and sees to it that what is missing or old is asked for. The caller holds b.mu.
func (b *Book) judge(id uint32, r record, ok bool, why sort, now time.Time) (Entry, State) {
	old := func(at int64, most time.Duration) bool { return now.Unix()-at > int64(most/time.Second) }
	switch {
	case b.esi == nil:
	case !ok && !possible(id):
		return Entry{}, Unknown
	case !ok:
		b.want(id, why)
		return Entry{}, Pending
	case r.Category == 0:
		if old(r.fetched, noneFor) {
			b.want(id, again)
		}
	default:
		if old(r.fetched, freshFor) {
			b.want(id, stale)
		}
		if r.hasDetails() && old(r.detailed, freshFor) {
			b.want(id, details)
		}
	}
	if r.Category == 0 {
		return Entry{}, Unknown
	}
	return r.Entry, Known
}

// hasDetails tells whether there is more to know than the name.
func (r *record) hasDetails() bool {
	switch r.Category {
	case Corporation, Alliance, System, Constellation:
		return true
	}
	return false
}

// learn takes note of what ESI says of an id now. The caller holds b.mu.
func (b *Book) learn(id uint32, r record) {
	delete(b.flying, id)
	for s := range b.lines {
		if sort(s) != details {
			b.lines[s].remove(id)
		}
	}
	if r.hasDetails() && r.detailed == 0 && b.esi != nil {
		b.want(id, details)
	}
	b.keep(id, r)
}

// keep keeps a record. The caller holds b.mu.
func (b *Book) keep(id uint32, r record) {
	b.cache.put(id, r)
	if b.file != nil {
		b.unsaved[id] = r
	}
	close(b.changed)
	b.changed = make(chan struct{})
}

// ring tells a channel of capacity 1 that there is something; once is enough.
func ring(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Status is how a Book is doing.
type Status struct {
	// Asks: ESI is asked for what is not known.
	Asks bool `json:"asks"`
	// Known is how many ids the file has, or without one the memory, those among them that there is none of.
	Known int64 `json:"known"`
	// Pending is how many names wait to be asked for or are being asked for, and Details how many tickers and places.
	Pending int `json:"pending"`
	Details int `json:"details"`
	// Requests counts the requests to ESI, Failures those that it did not answer as it should, Refused those that it refused
	// because there is no such id.
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
	Refused  uint64 `json:"refused"`
	// Fetched counts the names that came, Unknown the ids that there is none of, Invalid what came and was no name or no answer.
	Fetched uint64 `json:"fetched"`
	Unknown uint64 `json:"unknown"`
	Invalid uint64 `json:"invalid"`
	// Dropped counts ids that were not asked for because too many waited.
	Dropped uint64 `json:"dropped"`
	// LastError is the last failure, and FailedAt when that was.
	LastError string     `json:"last_error,omitempty"`
	FailedAt  *time.Time `json:"failed_at,omitempty"`
	// File says what is wrong with the file; empty: nothing is.
	File string `json:"file_error,omitempty"`
}

// Status returns how the Book is doing.
func (b *Book) Status() Status {
	if b == nil {
		return Status{}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.status
	s.Asks = b.esi != nil
	s.Known = int64(b.cache.len())
	if b.file != nil {
		s.Known, s.File = b.file.count(), b.file.trouble()
	}
	for i := range b.lines {
		if sort(i) != details {
			s.Pending += b.lines[i].len()
		}
	}
	s.Pending += len(b.flying)
	s.Details = b.lines[details].len()
	return s
}
