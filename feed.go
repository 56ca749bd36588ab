package killfeed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure a Feed. The zero value works.
type Options struct {
	// Retention decides what Collect removes. The zero value is the rule of the specification: what every client has
	// committed goes, at once, and nothing else. DefaultRetention is what the server uses.
	Retention Retention
	// MaxClients bounds how many clients are remembered; 0 means 100,000.
	MaxClients int
	// MaxWaiting bounds the topics that long polls and subscriptions wait on, all together, and what their filters take; each topic
	// takes some 50 bytes, and so does a value of a filter, and a rule eight times as much. 0 means 2,000,000. Beyond it they are
	// refused with ErrBusy.
	MaxWaiting int
	// Logger is told of what needs an operator's attention; nil discards.
	Logger *slog.Logger
	// Ledger is where the nodes that share the log agree; nil when this is the only one. The Feed owns it from then on; Close closes
	// it before the Store.
	Ledger Ledger
	// Wall is the clock for receipt times; nil means time.Now. Ages for retention are measured by elapsed time since
	// Open, so that a wall clock that jumps removes nothing.
	Wall func() time.Time
}

// Feed is the log's rules over a Store. All methods may be called concurrently.
type Feed struct {
	store     Store
	retention Retention
	log       *slog.Logger
	clients   registry
	bells     bells
	writer    writer
	stats     counters
	seeks     seeks
	searches  sync.Pool // of *search
	leaves    leafCache
	looks     chan struct{} // one for each that looks back at the moment; its cap is how many may

	// opened anchors the feed's own clock: see now.
	opened     time.Time // as the wall clock told it
	openedMono time.Time // with a monotonic reading

	collecting sync.Mutex // held through one collection
	floor      EventID    // owned by the writer's goroutine: see hold
}

// counters are written by anybody.
type counters struct {
	fetches, delivered, gaps, damaged atomic.Uint64
	collections, removed              atomic.Uint64
	subscriptions                     atomic.Int64
}

// Stats are running totals since Open.
type Stats struct {
	// Inserted counts first-time events, Updates update events, Duplicates what the log had already.
	Inserted, Updates, Duplicates uint64
	// Groups counts group commits, Grouped the requests in them.
	Groups, Grouped uint64
	// Fetches counts reads of clients and by cursor; Delivered the events in their answers; Gaps the gaps told.
	Fetches, Delivered, Gaps uint64
	// Damaged counts stored records that were found damaged when they were to be read.
	Damaged uint64
	// Collections counts runs of Collect, Removed the events they removed.
	Collections, Removed uint64
	// Clients is the number of clients remembered, Waiting that of reads that wait for an event, Subscriptions that of
	// subscriptions that are open.
	Clients, Waiting, Subscriptions int
}

// Open makes a Feed on the store and loads its clients. The Feed owns the store from then on; Close closes both.
func Open(store Store, o Options) (*Feed, error) {
	if o.MaxClients == 0 {
		o.MaxClients = 100_000
	}
	if o.MaxWaiting == 0 {
		o.MaxWaiting = 2_000_000
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	store = &closable{Store: store}
	f := &Feed{store: store, retention: o.Retention, log: o.Logger, opened: o.Wall().UTC(), openedMono: time.Now()}
	f.looks = make(chan struct{}, 2*runtime.GOMAXPROCS(0))
	f.clients.max = o.MaxClients
	f.clients.byName = map[string]*client{}
	f.clients.dirtied, f.clients.later = make(chan struct{}, 1), make(chan struct{}, 1)
	ledger := o.Ledger
	if ledger == nil {
		ledger = alone{store}
	}
	err := ledger.Load(func(r SharedClient) bool {
		c := loadClient(r.ClientRecord)
		c.hold = r.Hold
		f.clients.byName[r.Client] = c
		return true
	})
	if err != nil {
		return nil, fmt.Errorf("loading clients: %w", err)
	}
	f.bells.start(store.State().Head, o.MaxWaiting)
	f.seeks.start(o.Ledger != nil)
	w := &f.writer
	w.store, w.ledger, w.shared, w.wall, w.bells, w.clients, w.log = store, ledger, o.Ledger != nil, o.Wall, &f.bells, &f.clients, o.Logger
	w.adopt = f.adopt
	w.start()
	return f, nil
}

// Run collects every minute and writes down when clients were last seen, until ctx ends; it then returns nil.
func (f *Feed) Run(ctx context.Context) error {
	tick := time.NewTicker(CollectEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := f.saveSeen(ctx); err != nil && ctx.Err() == nil {
			f.log.Warn("writing down when clients were last seen failed; retried in a minute", "err", err)
		}
		if _, err := f.Collect(ctx); err != nil && ctx.Err() == nil && !errors.Is(err, ErrNotLeader) {
			f.log.Warn("collection failed; retried in a minute", "err", err)
		}
	}
}

// SetUniverse changes the static data, from which follow the topics of constellations, regions, kinds of space and groups. It
// may be called at any time. Readers of such topics go on from where they are, on the topics as the new data has them: what it puts
// on a topic behind a client's offset comes with the next read, also where an earlier one has looked in vain. The place of a
// Subscription is behind all that it has looked at; what is put before that comes to the next one of the client, if its offset is
// before it too.
func (f *Feed) SetUniverse(u *Universe) {
	f.bells.setUniverse(u)
	for _, c := range f.clients.all() {
		c.mu.Lock()
		for t, o := range c.offsets {
			if t.Kind.placed() {
				o.clear = 0
			}
		}
		c.mu.Unlock()
	}
}

// Universe is the static data, nil when there is none.
func (f *Feed) Universe() *Universe { return f.bells.universe.Load() }

// Close writes what was to be written behind, stops, and closes the store. Calls still in flight end with ErrClosed. Close
// must not be called twice.
func (f *Feed) Close() error {
	f.saveSeenAtClose()
	defer f.bells.stop()
	if f.writer.stop() {
		f.seeks.stop()
		return errors.Join(f.writer.ledger.Close(), f.store.Close())
	}
	err := f.store.Close()
	f.writer.running.Wait()
	f.seeks.stop()
	return errors.Join(err, f.writer.ledger.Close())
}

// closable is a Store that may be closed while it is read: the close waits for reads that have begun, and later ones are
// ErrClosed. An engine panics when it is read after its end.
type closable struct {
	Store
	mu     sync.RWMutex // guards closed; held for reading through one read
	closed bool
}

// enter begins a read. Without an error the caller must call mu.RUnlock.
func (c *closable) enter() error {
	c.mu.RLock()
	if c.closed {
		c.mu.RUnlock()
		return fmt.Errorf("feed: %w", ErrClosed)
	}
	return nil
}

// Known is Store's.
func (c *closable) Known(killmailID int64) (Known, bool, error) {
	if err := c.enter(); err != nil {
		return Known{}, false, err
	}
	defer c.mu.RUnlock()
	return c.Store.Known(killmailID)
}

// Find is Store's.
func (c *closable) Find(dst []Entry, q Query) ([]Entry, error) {
	if err := c.enter(); err != nil {
		return dst, err
	}
	defer c.mu.RUnlock()
	return c.Store.Find(dst, q)
}

// Read is Store's.
func (c *closable) Read(ids []EventID, yield func(Event, error) bool) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mu.RUnlock()
	return c.Store.Read(ids, yield)
}

// Checkpoint is Store's.
func (c *closable) Checkpoint(source string) (string, error) {
	if err := c.enter(); err != nil {
		return "", err
	}
	defer c.mu.RUnlock()
	return c.Store.Checkpoint(source)
}

// Past is Store's.
func (c *closable) Past(after int64, upTo EventID, yield func(PastKillmail) bool) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mu.RUnlock()
	return c.Store.Past(after, upTo, yield)
}

// PastSystems is Store's.
func (c *closable) PastSystems(yield func(PastSystem) bool) error {
	if err := c.enter(); err != nil {
		return err
	}
	defer c.mu.RUnlock()
	return c.Store.PastSystems(yield)
}

// Close is Store's.
func (c *closable) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	return c.Store.Close()
}

// State describes the log.
func (f *Feed) State() State { return f.store.State() }

// Health is nil, or why inserting does not work at the moment: ErrDiskFull, ErrFailed or ErrUnavailable, wrapped. Reads work
// regardless, but that those which commit fail too while the ledger is unavailable.
func (f *Feed) Health() error { return f.writer.health() }

// Leads is nil when this node does what one does for all that share the log: follow sources, post to webhooks, collect. Else it is
// ErrNotLeader, wrapped.
func (f *Feed) Leads() error { return f.writer.ledger.Leads() }

// Stats returns the running totals.
func (f *Feed) Stats() Stats {
	w := &f.writer
	return Stats{
		Inserted: w.inserted.Load(), Updates: w.updates.Load(), Duplicates: w.duplicates.Load(),
		Groups: w.groups.Load(), Grouped: w.grouped.Load(),
		Fetches: f.stats.fetches.Load(), Delivered: f.stats.delivered.Load(), Gaps: f.stats.gaps.Load(),
		Damaged: f.stats.damaged.Load(), Collections: f.stats.collections.Load(), Removed: f.stats.removed.Load(),
		Clients: f.clients.len(), Waiting: int(f.bells.waiting.Load()),
		Subscriptions: int(f.stats.subscriptions.Load()),
	}
}

// now is the feed's own clock: the wall clock at Open, moved on by the time that really passed. A wall clock that jumps a
// day ahead would otherwise make every event a day older, and a collection would remove them.
func (f *Feed) now() time.Time {
	return f.opened.Add(time.Since(f.openedMono)).Truncate(time.Millisecond)
}

// Event returns one kept event. Errors are ErrNotFound for an id that is not kept and *DamageError.
func (f *Feed) Event(id EventID) (Event, error) {
	st := f.store.State()
	if id < st.First || id > st.Head {
		return Event{}, fmt.Errorf("event %d, kept are %d to %d: %w", id, st.First, st.Head, ErrNotFound)
	}
	var (
		ev    Event
		found error
	)
	err := f.store.Read([]EventID{id}, func(e Event, err error) bool {
		ev, found = e, err
		return false
	})
	if err != nil {
		return Event{}, err
	}
	return ev, found
}
