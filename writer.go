package killfeed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// writer writes everything that is written: it gives out event ids, finds duplicates, has the Ledger agree, and groups what many
// callers want written into one commit, so that they share one fsync.
//
// One goroutine does it all, from start to stop. State in memory moves only there and only after the store said that the
// bytes are on disk; that also keeps the order in which a client's offsets reach disk and memory the same. (Letting the first
// waiting caller lead the group saves a hand-over, but on a full disk that caller would hang inside the engine with nobody
// to answer it.)
type writer struct {
	store   Store
	ledger  Ledger
	shared  bool // other nodes have a say: the ledger is not alone
	wall    func() time.Time
	bells   *bells
	clients *registry
	// adopt takes over what other nodes have made of a client.
	adopt func(SharedClient)
	log   *slog.Logger

	requests chan *request
	closing  chan struct{}
	cancel   context.CancelFunc // gives up what the ledger is asked for
	running  sync.WaitGroup
	stopped  chan struct{} // closed when the goroutine has ended

	inserted, updates, duplicates, groups, grouped atomic.Uint64

	// Owned by the writer's goroutine.
	fresh   map[int64]*Event // newest versions in the group being built, by killmail id
	known   map[int64]Known  // what the group being built makes of them
	held    *request         // waits for the next group, as this one would be too large with it
	through EventID          // events up to here are to be removed, as another node has decided
	deaf    bool             // news could not be taken, and are tried again when retry fires
	retry   *time.Timer
}

const (
	// maxGroup bounds a group in requests, maxGroupBytes in bytes of killmails. Larger groups gain nothing and make the
	// first in line wait.
	maxGroup      = 1024
	maxGroupBytes = 8 << 20
	// maxShared bounds a group's killmails where nodes share the log: so many are appended whole or not at all.
	maxShared      = 1000
	maxSharedBytes = 4 << 20
	// writeBehind is the longest that an automatic commit stays in memory only.
	writeBehind = 100 * time.Millisecond
	// writeLate is the same for what subscriptions commit. They do it with every event, and one write a second does for all.
	writeLate = time.Second
	// newsRetry is when news are asked for again that could not be taken.
	newsRetry = time.Second
	// partingTime is how long the ledger may take to agree on what is left when the feed is closed.
	partingTime = 5
)

// request is something to be written. Its parts are handled in the order of the fields.
type request struct {
	// killmails are to be inserted with the marks.
	killmails []*Killmail
	marks     Marks
	// checkpoint, when set, is stored with them.
	checkpoint *Checkpoint
	// client, when set, is whom change is about: when another node has changed it, change runs again. A request about a client has no
	// killmails.
	client *client
	// change, when set, adds to the group. It runs on the writer's goroutine, so what it reads of the log cannot move
	// before it is written. An error refuses the request and nothing of it is written. It may run more than once.
	change func(b *Batch) error
	// apply, when set, runs on the writer's goroutine after the group is durable.
	apply func()
	// settle: everything that was to be written behind is written with the group, however late it is due.
	settle bool
	// alone, when set, runs on the writer's goroutine instead of all of the above, before its group is built.
	alone func(ctx context.Context) error

	results []InsertResult
	err     error
	done    chan struct{}
}

func (r *request) end(err error) {
	r.err = err
	close(r.done)
}

// start starts the goroutine. The caller has set the fields up to log.
func (w *writer) start() {
	w.requests = make(chan *request, maxGroup)
	w.closing, w.stopped = make(chan struct{}), make(chan struct{})
	w.fresh, w.known = map[int64]*Event{}, map[int64]Known{}
	w.retry = time.NewTimer(newsRetry)
	w.retry.Stop()
	var ctx context.Context
	ctx, w.cancel = context.WithCancel(context.Background())
	w.running.Go(func() { w.run(ctx) })
}

// stop has what is queued and what was to be written behind written, and waits for the goroutine to end. It returns false when
// that hangs on a disk that takes nothing: then only closing the store lets it go.
func (w *writer) stop() bool {
	close(w.closing)
	defer w.cancel()
	for waited := 0; ; waited++ {
		select {
		case <-w.stopped:
			return true
		case <-time.After(time.Second):
			if w.store.Health() != nil {
				return false
			}
			if w.shared && waited == partingTime {
				w.cancel()
			}
		}
	}
}

// health is nil, or why nothing can be written at the moment.
func (w *writer) health() error {
	if err := w.store.Health(); err != nil {
		return err
	}
	return w.ledger.Health()
}

// clientHealth is nil, or why nothing of clients can be written at the moment. Where nodes share them, this one's disk has no say.
func (w *writer) clientHealth() error {
	if w.shared {
		return w.ledger.Health()
	}
	return w.store.Health()
}

// do hands r to the writer and waits for its outcome.
func (w *writer) do(ctx context.Context, r *request) error {
	r.done = make(chan struct{})
	select {
	case w.requests <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-w.closing:
		return fmt.Errorf("feed: %w", ErrClosed)
	}
	patience := time.NewTimer(time.Second)
	defer patience.Stop()
	for {
		select {
		case <-r.done:
			return r.err
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting for the disk (%w): %w", context.Cause(ctx), ErrOutcomeUnknown)
		case <-patience.C:
			// The engine may be holding the write until there is space again, or the ledger until it can be decided. Its caller shall
			// not hold with it.
			if err := w.health(); err != nil {
				return fmt.Errorf("%w: %w", err, ErrOutcomeUnknown)
			}
			patience.Reset(time.Second)
		case <-w.closing:
			// The goroutine serves what is queued before it ends, but a request may have slipped in behind it.
			w.running.Wait()
			select {
			case <-r.done:
				return r.err
			default:
				return fmt.Errorf("feed: %w", ErrClosed)
			}
		}
	}
}

// run is the writer's goroutine.
func (w *writer) run(ctx context.Context) {
	defer close(w.stopped)
	behind := time.NewTimer(writeBehind)
	behind.Stop()
	late := time.NewTimer(writeLate)
	late.Stop()
	group := make([]*request, 0, maxGroup)
	for {
		group = group[:0]
		if r := w.held; r != nil {
			w.held = nil
			select { // while large requests queue up nothing else is looked at
			case <-w.news():
				_ = w.learn() // it tells
			default:
			}
			w.commit(ctx, w.gather(append(group, r)))
			continue
		}
		select {
		case r := <-w.requests:
			group = w.gather(append(group, r))
		case <-w.clients.dirtied:
			// From here on everything dirty is written within writeBehind, or earlier with a group.
			behind.Reset(writeBehind)
			continue
		case <-w.clients.later:
			late.Reset(writeLate)
			continue
		case <-w.news():
			_ = w.learn() // it tells
			continue
		case <-w.retry.C:
			w.again()
			continue
		case <-behind.C:
		case <-late.C:
			group = append(group, &request{settle: true, done: make(chan struct{})})
		case <-w.closing:
			for {
				select {
				case r := <-w.requests:
					w.commit(ctx, append(group[:0], r))
				default:
					w.commit(ctx, []*request{{settle: true, done: make(chan struct{})}})
					return
				}
			}
		}
		w.commit(ctx, group)
	}
}

// gather takes along what is waiting. It does not wait for more, but lets goroutines run that are ready to: those that the
// last group woke are about to come back with their next request, and would miss this group by microseconds, so that every
// other group would be of one.
func (w *writer) gather(group []*request) []*request {
	bytes, killmails, yields := 0, 0, 0
	for _, r := range group {
		for _, k := range r.killmails {
			bytes += len(k.JSON)
		}
		killmails += len(r.killmails)
	}
	for len(group) < maxGroup && bytes < maxGroupBytes {
		select {
		case r := <-w.requests:
			for _, k := range r.killmails {
				bytes += len(k.JSON)
			}
			killmails += len(r.killmails)
			if w.shared && (killmails > maxShared || bytes > maxSharedBytes) && len(r.killmails) > 0 {
				w.held = r
				return group
			}
			group = append(group, r)
			yields = 0
		default:
			if yields++; yields > 2 {
				return group
			}
			runtime.Gosched()
		}
	}
	return group
}

// commit writes the group and what is to be written behind, and answers everyone in it.
func (w *writer) commit(ctx context.Context, group []*request) {
	for pending := w.runAlone(ctx, group); ; {
		settle := slices.ContainsFunc(pending, func(r *request) bool { return r.settle })
		if pending = w.attempt(ctx, pending, settle); len(pending) == 0 {
			return
		}
		if w.held == nil { // to catch up may take long, and who came meanwhile waits no longer for it than one step
			pending = w.runAlone(ctx, w.gather(pending))
		}
	}
}

// runAlone runs what runs alone, and returns the others.
func (w *writer) runAlone(ctx context.Context, group []*request) []*request {
	others := make([]*request, 0, len(group))
	for _, r := range group {
		if r.alone != nil {
			r.end(r.alone(ctx))
		} else {
			others = append(others, r)
		}
	}
	return others
}

// attempt writes what it can of the requests, and answers those. It returns the others: other nodes came first.
func (w *writer) attempt(ctx context.Context, group []*request, settle bool) (again []*request) {
	var b Batch
	clear(w.fresh)
	clear(w.known)
	dirty := w.clients.takeDirty(settle)
	for _, d := range dirty {
		b.Offsets = append(b.Offsets, d.offsets...)
		if d.seen != nil {
			b.Seen = append(b.Seen, *d.seen)
		}
		if d.moved {
			b.Holds = append(b.Holds, HoldChange{Client: d.client.name, Moved: true})
		}
	}
	live := make([]*request, 0, len(group))
	for _, r := range group {
		if err := w.build(&b, r); err != nil {
			r.end(err)
			continue
		}
		live = append(live, r)
	}
	// What is written behind of a client that is deleted in the same group would bring it back.
	for _, name := range b.Gone {
		b.Offsets = slices.DeleteFunc(b.Offsets, func(o Offset) bool { return o.Client == name })
		b.Seen = slices.DeleteFunc(b.Seen, func(s ClientSeen) bool { return s.Client == name })
		b.Holds = slices.DeleteFunc(b.Holds, func(h HoldChange) bool { return h.Client == name })
	}
	if b.Empty() {
		w.answer(live, dirty, nil)
		return nil
	}
	if w.shared {
		var err error
		live, again, dirty, err = w.agree(ctx, &b, live, dirty)
		if err != nil {
			w.answer(live, dirty, err)
			return nil
		}
		if len(b.Events) == 0 { // the ledger keeps the rest
			w.answer(live, dirty, nil)
			return again
		}
	}
	err := w.write(&b)
	if err != nil && w.shared {
		// The ledger has the events, and gives them out again when this node's store takes them. What it keeps by itself counts.
		inserts, others := split(live)
		w.answer(others, dirty, nil)
		if live, dirty = inserts, nil; !errors.Is(err, ErrOutcomeUnknown) {
			err = fmt.Errorf("%w: %w", err, ErrOutcomeUnknown)
		}
	}
	w.answer(live, dirty, err)
	return again
}

// split tells requests with killmails from those without.
func split(group []*request) (inserts, others []*request) {
	for _, r := range group {
		if len(r.killmails) > 0 {
			inserts = append(inserts, r)
		} else {
			others = append(others, r)
		}
	}
	return inserts, others
}

// answer ends the requests and what was written behind with the outcome of their group.
func (w *writer) answer(live []*request, dirty []dirtyOffsets, err error) {
	for _, d := range dirty {
		switch {
		case err != nil:
			w.clients.putBack(d)
			continue
		case d.seen != nil:
			d.client.saved = d.seen.At.UnixMilli()
		}
		if d.moved {
			d.client.mu.Lock()
			d.client.hold.Moves++
			d.client.mu.Unlock()
		}
	}
	for _, r := range live {
		if err == nil {
			w.count(r.results)
			if r.apply != nil {
				r.apply()
			}
		}
		r.end(err)
	}
	w.groups.Add(1)
	w.grouped.Add(uint64(len(live)))
}

func (w *writer) count(results []InsertResult) {
	for _, r := range results {
		switch {
		case r.Duplicate:
			w.duplicates.Add(1)
		case r.Update:
			w.updates.Add(1)
		default:
			w.inserted.Add(1)
		}
	}
}

// write commits the batch and has the bells rung. After an error it asks the store what became of it: a write can fail and
// be stored all the same.
func (w *writer) write(b *Batch) error {
	before := w.store.State().Head
	err := w.store.Commit(b)
	head := w.store.State().Head
	if n := int(head - before); n > 0 { // the batch's events follow the head before it
		w.bells.announce(b.Events[:min(n, len(b.Events))])
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrDiskFull) && !errors.Is(err, ErrOutcomeUnknown) {
		return fmt.Errorf("writing a group of %d events: %w", len(b.Events), err)
	}
	return fmt.Errorf("writing a group of %d events: %w: %w", len(b.Events), err, ErrOutcomeUnknown)
}
