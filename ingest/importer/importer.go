// Package importer puts killmails from archives into a log: it parses them on all cores and inserts them in batches, in the
// order in which they were read.
//
// It guarantees that what it reports as inserted or duplicate was acknowledged by the sink, that events get their ids in the
// order of the source, and that one bad killmail is counted and skipped without touching the others. Importing the same
// source again adds nothing, because a log stores a killmail once; so an import that was interrupted is resumed by repeating
// it.
//
// Memory is bounded: a few thousand killmails are held at most, however large the source is and however slow the sink.
package importer

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"killfeed"
	"killfeed/ingest/archive"
)

const (
	// A batch is inserted at once: large enough that an fsync is cheap beside it, small enough that Ctrl-C and progress
	// are prompt and that it fits a request body.
	batchSize  = 512
	batchBytes = 4 << 20
	// A chunk is parsed by one worker. It is larger than one killmail to pay for handing it over.
	chunkSize  = 64
	chunkBytes = 256 << 10
)

// Outcome is what became of a killmail in the sink.
type Outcome struct {
	Duplicate bool
	// Update: the log had the killmail, and this one brought more, which became an update event.
	Update bool
	// Err is why the sink refuses this one killmail.
	Err error
}

// Import is one run. Set the functions, then call Run once.
type Import struct {
	// Source yields the items, as archive.Reader.Read does: it ends when ctx does, or with the error of yield. When it
	// returns another error, what it yielded before is imported all the same.
	Source func(ctx context.Context, yield func(archive.Item) error) error
	// Insert stores killmails durably and returns one outcome for each. An error ends the import. It is called by one
	// goroutine, and never cancelled: what is on its way when the import is interrupted is still acknowledged.
	Insert func(ctx context.Context, killmails []*killfeed.Killmail) ([]Outcome, error)
	// Bad is told of each bad item, by one goroutine. It may be nil.
	Bad func(name string, err error)

	read, inserted, duplicates, updates, bad atomic.Int64
}

// Counts are what an import did so far. When it has ended, Read is the sum of Inserted, Duplicates and Bad, unless it was
// interrupted: then Read counts also what was read and not inserted any more.
type Counts struct {
	Read       int64 `json:"read"`
	Inserted   int64 `json:"inserted"`
	Duplicates int64 `json:"duplicates"`
	Bad        int64 `json:"bad"`
	// Updates are those of the duplicates that became update events.
	Updates int64 `json:"updates,omitempty"`
}

// Counts returns the counts at this moment; it may be called while Run runs.
func (m *Import) Counts() Counts {
	// The parts are read before the whole, so that they never add up to more.
	c := Counts{Inserted: m.inserted.Load(), Duplicates: m.duplicates.Load(), Bad: m.bad.Load(), Updates: m.updates.Load()}
	c.Read = m.read.Load()
	return c
}

// chunk is a run of items on its way: filled by the reader, parsed by one worker, then taken by the inserter.
type chunk struct {
	items     []archive.Item
	bytes     int
	parsed    chan struct{} // closed by the worker
	killmails []*killfeed.Killmail
	errs      []error
}

// Run imports until the source ends. It returns the sink's error when that failed, else the context's cause when it was
// interrupted, else the source's error. All that was inserted until then stays.
func (m *Import) Run(ctx context.Context) error {
	workers := runtime.GOMAXPROCS(0)
	var (
		work    = make(chan *chunk, workers)
		order   = make(chan *chunk, 2*workers+batchSize/chunkSize) // keeps the workers busy while a batch is on its way
		readErr error
	)
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(order)
		defer close(work)
		// Not the group's error: that would keep what was read before it from being inserted.
		readErr = m.readAll(gctx, work, order)
		return nil
	})
	for range workers {
		g.Go(func() error {
			for c := range work {
				c.parse()
			}
			return nil
		})
	}
	g.Go(func() error { return m.insertAll(gctx, order) })
	if err := g.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return readErr
}

// readAll cuts the source into chunks. Each goes to a worker, and to the inserter, which takes them in order.
func (m *Import) readAll(ctx context.Context, work, order chan<- *chunk) error {
	c := newChunk()
	send := func() error {
		for _, to := range []chan<- *chunk{order, work} {
			select {
			case to <- c:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		c = newChunk()
		return nil
	}
	err := m.Source(ctx, func(item archive.Item) error {
		m.read.Add(1)
		c.items = append(c.items, item)
		c.bytes += len(item.Data)
		if len(c.items) < chunkSize && c.bytes < chunkBytes {
			return nil
		}
		return send()
	})
	if len(c.items) > 0 && ctx.Err() == nil {
		_ = send() // also when the source failed: what it yielded before is good
	}
	return err
}

func newChunk() *chunk {
	return &chunk{items: make([]archive.Item, 0, chunkSize), parsed: make(chan struct{})}
}

// parse makes killmails of the items. Where the hash is missing it is computed, so that every imported killmail can be
// looked up at ESI; where there is nothing to compute it from, the killmail goes without.
func (c *chunk) parse() {
	defer close(c.parsed)
	c.killmails = make([]*killfeed.Killmail, len(c.items))
	c.errs = make([]error, len(c.items))
	for i, item := range c.items {
		if c.errs[i] = item.Err; item.Err != nil {
			continue
		}
		k, err := killfeed.ParseItem(item.Data)
		if err == nil {
			_ = k.AddHash()
		}
		c.killmails[i], c.errs[i] = k, err
		c.items[i].Data = nil // the killmail has a copy
	}
}

// insertAll inserts what the chunks hold in batches.
func (m *Import) insertAll(ctx context.Context, order <-chan *chunk) error {
	b := batch{into: m}
	for c := range order {
		select {
		case <-c.parsed:
		case <-ctx.Done():
			return nil // whoever ended it says why
		}
		if ctx.Err() != nil { // before the next batch, not in the middle of it
			return nil
		}
		for i, item := range c.items {
			if c.errs[i] != nil {
				m.refuse(item.Name, c.errs[i])
				continue
			}
			if err := b.add(ctx, item.Name, c.killmails[i]); err != nil {
				return err
			}
		}
	}
	return b.flush(ctx)
}

// batch is what is inserted at once.
type batch struct {
	into      *Import
	names     []string
	killmails []*killfeed.Killmail
	bytes     int
}

func (b *batch) add(ctx context.Context, name string, k *killfeed.Killmail) error {
	b.names = append(b.names, name)
	b.killmails = append(b.killmails, k)
	b.bytes += len(k.JSON)
	if len(b.killmails) < batchSize && b.bytes < batchBytes {
		return nil
	}
	return b.flush(ctx)
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.killmails) == 0 {
		return nil
	}
	outcomes, err := b.into.Insert(context.WithoutCancel(ctx), b.killmails)
	if err != nil {
		return fmt.Errorf("inserting %d killmails, the first from %s: %w", len(b.killmails), b.names[0], err)
	}
	if len(outcomes) != len(b.killmails) {
		return fmt.Errorf("inserting %d killmails gave %d results", len(b.killmails), len(outcomes))
	}
	m := b.into
	for i, o := range outcomes {
		switch {
		case o.Err != nil:
			m.refuse(b.names[i], o.Err)
		case o.Update:
			m.updates.Add(1)
			m.duplicates.Add(1)
		case o.Duplicate:
			m.duplicates.Add(1)
		default:
			m.inserted.Add(1)
		}
	}
	// The slices are new each time: a sink may keep what it was given.
	*b = batch{into: m}
	return nil
}

func (m *Import) refuse(name string, err error) {
	m.bad.Add(1)
	if m.Bad != nil {
		m.Bad(name, err)
	}
}
