package jetstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"

	"golang.org/x/sync/errgroup"

	"killfeed"
)

// clients are the records of the feed's clients as the nodes agree on them.
//
// Two goroutines have them: the writer's, which alone decides what this node knows (in load, agree and news), and that of the watch,
// which collects what other nodes have written until the writer takes it. So the feed and the cache never differ, and a change is
// made to what the feed has seen or not at all: each is conditional on the revision that the cache has.
//
// What collects is bounded by the number of clients: of each only the newest counts.
type clients struct {
	b     *bucket
	log   *slog.Logger
	ready func()
	head  func() killfeed.EventID // of the node's log

	mu sync.Mutex // guards the rest; held for map operations, never through a request
	// cache is what this node knows. Only the writer's goroutine changes it. What is gone stays until the watch has passed its revision,
	// as the watch may still bring what was there before.
	cache map[string]cached
	gone  map[string]uint64 // those of the cache that are gone, with their revisions
	// inbox has what is newer than the cache.
	inbox map[string]told
	// seen is the newest revision that the watch has brought.
	seen uint64
	// present has the clients that the watch has brought since it last began, nil when it has passed that. from is seen as it was then.
	present map[string]struct{}
	from    uint64
}

// cached is a client as this node knows it. A record is never changed once it is here.
type cached struct {
	rev  uint64
	gone bool
	ids  []string
	record
}

// absent tells whether there is no client, as far as this node knows.
func (k cached) absent() bool { return k.gone || k.rev == 0 }

// told is a client as the watch has brought it.
type told struct {
	cached
	// vanished: the client is gone, and what told of that as well; this was so when rev was the newest revision of the bucket.
	vanished bool
}

// over tells whether t is news to who knows the client by revision rev.
func (t *told) over(rev uint64) bool { return t.rev > rev || t.vanished && t.rev == rev }

func newClients(b *bucket, head func() killfeed.EventID, ready func()) *clients {
	return &clients{
		b: b, log: b.log, ready: ready, head: head,
		cache: map[string]cached{}, gone: map[string]uint64{}, inbox: map[string]told{},
	}
}

// load fills the cache and yields what it has. It is called once, before all else.
func (c *clients) load(ctx context.Context, yield func(killfeed.SharedClient) bool) error {
	cache := map[string]cached{}
	err := c.b.all(ctx, []string{keyClient + ">"}, false, func(e revision) bool {
		if name, ok := nameOf(keyClient, e.key); ok {
			cache[name] = c.parse(name, e)
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("loading clients: %w: %w", killfeed.ErrUnavailable, err) // it can be repeated
	}
	maps.DeleteFunc(cache, func(_ string, k cached) bool { return k.gone })
	c.mu.Lock()
	c.cache = cache
	c.mu.Unlock()
	for name, k := range cache {
		if !yield(k.shared(name)) {
			return nil
		}
	}
	return nil
}

// parse reads a record. One that cannot be read counts as gone: whoever writes the client next begins it anew.
func (c *clients) parse(name string, e revision) cached {
	k := cached{rev: e.rev, gone: e.gone, ids: e.ids}
	if k.gone {
		return k
	}
	var err error
	if k.record, err = parseRecord(name, e.value); err != nil {
		c.log.Error("the record of a client cannot be read, and the client is begun anew", "client", name, "error", err)
		k.gone = true
	}
	return k
}

// agree makes the parts of clients of b what all nodes hold true. It returns the clients that other nodes have changed, of which
// nothing counts. After an error nothing counts at all; with killfeed.ErrOutcomeUnknown it may, and news tells.
func (c *clients) agree(ctx context.Context, b *killfeed.Batch) ([]killfeed.SharedClient, error) {
	changes := changesOf(b)
	if len(changes) == 0 {
		return nil, nil
	}
	var moved []string
	works := make([]*work, 0, len(changes))
	c.mu.Lock()
	for _, ch := range changes {
		if news, ok := c.inbox[ch.name]; ok && news.over(c.cache[ch.name].rev) {
			moved = append(moved, ch.name)
			continue
		}
		works = append(works, &work{name: ch.name, change: ch, base: c.cache[ch.name]})
	}
	c.mu.Unlock()
	head := c.head()
	if n := len(b.Events); n > 0 {
		head = b.Events[n-1].ID // agreed on, and not in the store yet
	}
	writes, looks, err := c.prepare(works, head)
	if err != nil {
		return nil, err
	}
	if err := c.lookEach(ctx, looks); err != nil { // before anything is written, so that nothing counts
		return nil, err
	}
	c.swapAll(ctx, writes)
	c.swapRest(ctx, writes)
	return c.conclude(append(writes, looks...), moved)
}

// conclude takes the outcomes into the cache. When not all are known, all that happened goes into the inbox instead, where the feed
// finds it with the next news: it was told that nothing counts, and must not be ahead of itself.
func (c *clients) conclude(works []*work, moved []string) ([]killfeed.SharedClient, error) {
	var failed error
	sure := true
	for _, w := range works {
		if w.err != nil {
			failed = w.err
		}
		sure = sure && !w.done.stored && !errors.Is(w.err, killfeed.ErrOutcomeUnknown)
	}
	if failed != nil && !sure && !errors.Is(failed, killfeed.ErrOutcomeUnknown) {
		failed = fmt.Errorf("only some clients were written: %v: %w", failed, killfeed.ErrOutcomeUnknown) // it is no ErrUnavailable
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.forget()
	for _, w := range works {
		if w.err != nil || w.same {
			continue
		}
		is := w.next
		if w.done.rev != 0 {
			is.rev, is.ids = w.done.rev, w.done.ids
		} else {
			is = c.parse(w.name, w.done.now)
			if is.rev == 0 { // what told of the deletion is gone as well, and the base was there
				is.rev, is.gone = w.base.rev, true
			}
		}
		switch {
		case failed != nil:
			c.put(w.name, told{cached: is, vanished: is.rev == w.base.rev})
		case w.done.stored && w.done.rev == 0:
			// It was stored, and another node has built on it since: first this, then that. Which revision it was is not known; a
			// lower one than there is now.
			w.next.rev = w.done.now.rev - 1
			c.know(w.name, w.next)
			c.put(w.name, told{cached: is})
		case w.done.stored:
			c.know(w.name, is)
		default:
			c.put(w.name, told{cached: is, vanished: is.rev == w.base.rev})
			moved = append(moved, w.name)
		}
	}
	if failed != nil {
		return nil, failed
	}
	list := make([]killfeed.SharedClient, 0, len(moved))
	for _, name := range moved {
		if t, ok := c.inbox[name]; ok {
			c.know(name, t.cached)
		}
		list = append(list, c.cache[name].shared(name))
	}
	return list, nil
}

// know puts a client into the cache, and drops news that are not news any more. The caller holds mu and is the writer.
func (c *clients) know(name string, k cached) {
	if delete(c.gone, name); k.gone {
		k.record = record{}
		c.gone[name] = k.rev
	}
	c.cache[name] = k
	if t, ok := c.inbox[name]; ok && (!t.over(k.rev) || t.gone && k.gone) {
		delete(c.inbox, name)
	}
}

// put puts what another node has made of a client into the inbox, if it is news. The caller holds mu.
func (c *clients) put(name string, t told) {
	if old, ok := c.inbox[name]; ok && !t.over(old.rev) {
		return
	}
	known := c.cache[name]
	if !t.over(known.rev) {
		return
	}
	if t.gone && known.absent() { // what came between the feed need not know
		delete(c.inbox, name)
		return
	}
	c.inbox[name] = t
	c.ready()
}

// news moves up to limit clients that other nodes have changed into the cache, and returns them as they are now. more tells whether
// there are others. It is called by the writer's goroutine.
func (c *clients) news(limit int) (list []killfeed.SharedClient, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, t := range c.inbox {
		if len(list) == limit {
			return list, true
		}
		delete(c.inbox, name)
		if !t.over(c.cache[name].rev) {
			continue
		}
		c.know(name, t.cached)
		list = append(list, t.shared(name))
	}
	c.forget()
	return list, false
}

// forget drops what is gone from the cache once the watch has passed it. The caller holds mu and is the writer.
func (c *clients) forget() {
	for name, rev := range c.gone {
		if rev <= c.seen {
			delete(c.gone, name)
			delete(c.cache, name)
		}
	}
}

// run watches what other nodes write until ctx ends.
func (c *clients) run(ctx context.Context) error {
	if err := c.b.probe(ctx); err != nil {
		c.log.Debug("not known whether records can be written in batches", "error", err)
	}
	return c.b.watch(ctx, []string{keyClient + ">"}, c)
}

func (c *clients) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.present, c.from = map[string]struct{}{}, c.seen
}

func (c *clients) see(e revision) {
	name, ok := nameOf(keyClient, e.key)
	if !ok {
		return
	}
	k := c.parse(name, e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present != nil && !k.gone {
		c.present[name] = struct{}{}
	}
	// What the watch brings anew when it has begun anew is no news: it had brought all up to there. It would bring back a client
	// that is gone, where it is served by a replica that is behind.
	if e.rev > c.from {
		c.put(name, told{cached: k})
	}
	c.seen = max(c.seen, e.rev)
}

// whole looks after the clients that this node knows of and that the watch has not brought: they were deleted, and the mark of that
// has been purged. The bucket's leader has the last word, as the watch may be served by a replica that is behind.
func (c *clients) whole(ctx context.Context) error {
	var missing []string
	c.mu.Lock()
	for name, k := range c.cache {
		if _, there := c.present[name]; !there && !k.gone {
			missing = append(missing, name)
		}
	}
	for name, t := range c.inbox {
		if _, there := c.present[name]; !there && !t.gone {
			missing = append(missing, name)
		}
	}
	c.present = nil
	c.mu.Unlock()
	if len(missing) == 0 {
		return nil
	}
	newest, err := c.b.lastRev(ctx) // before the reads: what is gone then, was gone or went after it
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	for _, name := range missing {
		g.Go(func() error {
			e, err := c.b.last(ctx, keyOf(keyClient, name))
			if err != nil {
				return err
			}
			t := told{cached: c.parse(name, e)}
			if e.rev == 0 {
				t.rev, t.vanished = newest, true
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.put(name, t)
			return nil
		})
	}
	return g.Wait()
}
