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

// ledger orders everything that is written: it gives out event ids, finds duplicates, and groups what many callers want
// written into one commit, so that they share one fsync.
//
// One goroutine does it all, from start to stop. State in memory moves only there and only after the store said that the
// bytes are on disk; that also keeps the order in which a client's offsets reach disk and memory the same. (Letting the first
// waiting caller lead the group saves a hand-over, but on a full disk that caller would hang inside the engine with nobody
// to answer it.)
type ledger struct {
	store   Store
	wall    func() time.Time
	bells   *bells
	clients *registry
	log     *slog.Logger

	requests chan *request
	closing  chan struct{}
	running  sync.WaitGroup
	stopped  chan struct{} // closed when the goroutine has ended

	inserted, updates, duplicates, groups, grouped atomic.Uint64

	// Owned by the ledger's goroutine.
	fresh map[int64]*Event // newest versions in the group being built, by killmail id
	known map[int64]Known  // what the group being built makes of them
}

const (
	// maxGroup bounds a group in requests, maxGroupBytes in bytes of killmails. Larger groups gain nothing and make the
	// first in line wait.
	maxGroup      = 1024
	maxGroupBytes = 8 << 20
	// writeBehind is the longest that an automatic commit stays in memory only.
	writeBehind = 100 * time.Millisecond
	// writeLate is the same for what subscriptions commit. They do it with every event, and one write a second does for all.
	writeLate = time.Second
)

// request is something to be written. Its parts are handled in the order of the fields.
type request struct {
	// killmails are to be inserted with the marks.
	killmails []*Killmail
	marks     Marks
	// change, when set, adds to the group. It runs on the ledger's goroutine, so what it reads of the log cannot move
	// before it is written. An error refuses the request and nothing of it is written.
	change func(b *Batch) error
	// apply, when set, runs on the ledger's goroutine after the group is durable.
	apply func()
	// settle: everything that was to be written behind is written with the group, however late it is due.
	settle bool
	// alone, when set, runs on the ledger's goroutine instead of all of the above, before its group is built.
	alone func() error

	results []InsertResult
	err     error
	done    chan struct{}
}

func (l *ledger) start(store Store, wall func() time.Time, bells *bells, clients *registry, log *slog.Logger) {
	l.store, l.wall, l.bells, l.clients, l.log = store, wall, bells, clients, log
	l.requests = make(chan *request, maxGroup)
	l.closing, l.stopped = make(chan struct{}), make(chan struct{})
	l.fresh, l.known = map[int64]*Event{}, map[int64]Known{}
	l.running.Go(l.run)
}

// stop has what is queued and what was to be written behind written, and waits for the goroutine to end. It returns false when
// that hangs on a disk that takes nothing: then only closing the store lets it go.
func (l *ledger) stop() bool {
	close(l.closing)
	for {
		select {
		case <-l.stopped:
			return true
		case <-time.After(time.Second):
			if l.store.Health() != nil {
				return false
			}
		}
	}
}

// do hands r to the ledger and waits for its outcome.
func (l *ledger) do(ctx context.Context, r *request) error {
	r.done = make(chan struct{})
	select {
	case l.requests <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.closing:
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
			// The engine may be holding the write until there is space again. Its caller shall not hold with it.
			if err := l.store.Health(); err != nil {
				return fmt.Errorf("%w: %w", err, ErrOutcomeUnknown)
			}
			patience.Reset(time.Second)
		case <-l.closing:
			// The goroutine serves what is queued before it ends, but a request may have slipped in behind it.
			l.running.Wait()
			select {
			case <-r.done:
				return r.err
			default:
				return fmt.Errorf("feed: %w", ErrClosed)
			}
		}
	}
}

// run is the ledger's goroutine.
func (l *ledger) run() {
	defer close(l.stopped)
	behind := time.NewTimer(writeBehind)
	behind.Stop()
	late := time.NewTimer(writeLate)
	late.Stop()
	group := make([]*request, 0, maxGroup)
	for {
		group = group[:0]
		select {
		case r := <-l.requests:
			group = l.gather(append(group, r))
		case <-l.clients.dirtied:
			// From here on everything dirty is written within writeBehind, or earlier with a group.
			behind.Reset(writeBehind)
			continue
		case <-l.clients.later:
			late.Reset(writeLate)
			continue
		case <-behind.C:
		case <-late.C:
			group = append(group, &request{settle: true, done: make(chan struct{})})
		case <-l.closing:
			for {
				select {
				case r := <-l.requests:
					l.commit(append(group[:0], r))
				default:
					l.commit([]*request{{settle: true, done: make(chan struct{})}})
					return
				}
			}
		}
		l.commit(group)
	}
}

// gather takes along what is waiting. It does not wait for more, but lets goroutines run that are ready to: those that the
// last group woke are about to come back with their next request, and would miss this group by microseconds, so that every
// other group would be of one.
func (l *ledger) gather(group []*request) []*request {
	bytes, yields := 0, 0
	for len(group) < maxGroup && bytes < maxGroupBytes {
		select {
		case r := <-l.requests:
			group = append(group, r)
			for _, k := range r.killmails {
				bytes += len(k.JSON)
			}
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
func (l *ledger) commit(group []*request) {
	var b Batch
	clear(l.fresh)
	clear(l.known)
	dirty := l.clients.takeDirty(slices.ContainsFunc(group, func(r *request) bool { return r.settle }))
	for _, d := range dirty {
		b.Offsets = append(b.Offsets, d.offsets...)
		if d.seen != nil {
			b.Seen = append(b.Seen, *d.seen)
		}
	}
	for _, r := range group {
		if r.alone != nil {
			r.err = r.alone()
			close(r.done)
		}
	}
	live := make([]*request, 0, len(group))
	for _, r := range group {
		if r.alone != nil {
			continue
		}
		if r.err = l.build(&b, r); r.err != nil {
			close(r.done)
			continue
		}
		live = append(live, r)
	}
	// What is written behind of a client that is deleted in the same group would bring it back.
	for _, name := range b.Gone {
		b.Offsets = slices.DeleteFunc(b.Offsets, func(o Offset) bool { return o.Client == name })
		b.Seen = slices.DeleteFunc(b.Seen, func(s ClientSeen) bool { return s.Client == name })
	}
	var err error
	if !b.Empty() {
		err = l.write(&b)
	}
	for _, d := range dirty {
		switch {
		case err != nil:
			l.clients.putBack(d)
		case d.seen != nil:
			d.client.saved = d.seen.At.UnixMilli()
		}
	}
	for _, r := range live {
		if err != nil {
			r.err = err
		} else {
			l.count(r.results)
			if r.apply != nil {
				r.apply()
			}
		}
		close(r.done)
	}
	l.groups.Add(1)
	l.grouped.Add(uint64(len(live)))
}

func (l *ledger) count(results []InsertResult) {
	for _, r := range results {
		switch {
		case r.Duplicate:
			l.duplicates.Add(1)
		case r.Update:
			l.updates.Add(1)
		default:
			l.inserted.Add(1)
		}
	}
}

// write commits the batch and has the bells rung. After an error it asks the store what became of it: a write can fail and
// be stored all the same.
func (l *ledger) write(b *Batch) error {
	before := l.store.State().Head
	err := l.store.Commit(b)
	head := l.store.State().Head
	if n := int(head - before); n > 0 { // the batch's events follow the head before it
		l.bells.announce(b.Events[:min(n, len(b.Events))])
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, ErrDiskFull) && !errors.Is(err, ErrOutcomeUnknown) {
		return fmt.Errorf("writing a group of %d events: %w", len(b.Events), err)
	}
	return fmt.Errorf("writing a group of %d events: %w: %w", len(b.Events), err, ErrOutcomeUnknown)
}

// build adds the request to the batch, or leaves the batch as it was.
func (l *ledger) build(b *Batch, r *request) error {
	events := len(b.Events)
	err := l.insertAll(b, r)
	if err == nil && r.change != nil {
		err = r.change(b)
	}
	if err != nil && len(b.Events) > events {
		b.Events = b.Events[:events]
		clear(l.fresh)
		clear(l.known)
		for i := range b.Events {
			l.remember(&b.Events[i])
		}
	}
	return err
}

func (l *ledger) insertAll(b *Batch, r *request) error {
	r.results = make([]InsertResult, len(r.killmails))
	for i, k := range r.killmails {
		var err error
		if r.results[i], err = l.insert(b, k, r.marks); err != nil {
			return fmt.Errorf("inserting killmail %d: %w", k.ID, err)
		}
	}
	return nil
}

// remember makes an event of the group known to the rest of it.
func (l *ledger) remember(e *NewEvent) {
	if e.KillmailID != 0 {
		l.fresh[e.KillmailID], l.known[e.KillmailID] = &e.Event, e.Known
	}
}

// insert decides what becomes of one killmail: a new event, an update, or nothing.
func (l *ledger) insert(b *Batch, k *Killmail, marks Marks) (InsertResult, error) {
	if k.ID != 0 {
		known, ok := l.known[k.ID]
		if !ok {
			var err error
			if known, ok, err = l.store.Known(k.ID); err != nil {
				return InsertResult{}, err
			}
		}
		if ok {
			improves, err := l.improves(k, known)
			if err != nil {
				return InsertResult{}, err
			}
			if !improves {
				return InsertResult{EventID: known.First, Duplicate: true}, nil
			}
			id := l.append(b, k, marks|MarkUpdate, known)
			return InsertResult{EventID: id, Update: true}, nil
		}
	}
	return InsertResult{EventID: l.append(b, k, marks, Known{})}, nil
}

// improves tells whether k brings what the log lacks of it. The stored bytes are read only when the digests cannot tell.
//
// It cannot go on for ever: an update either brings a kind of information that no version had (the digest keeps what any
// had), or all labels of the newest version and one more. To take any label that the newest version lacks would let two
// versions update each other without end.
func (l *ledger) improves(k *Killmail, known Known) (bool, error) {
	switch k.Digest.Against(known.Digest) {
	case DigestPoorer:
		return false, nil
	case DigestRicher:
		return true, nil
	}
	if fresh := l.fresh[k.ID]; fresh != nil {
		return k.AddsLabels(fresh.Killmail), nil
	}
	adds := false
	err := l.store.Read([]EventID{known.Latest}, func(e Event, err error) bool {
		adds = err == nil && k.AddsLabels(e.Killmail) // gone or damaged: nothing to compare with, so nothing to add
		return false
	})
	return adds, err
}

// append gives k the next event id. known is what the log has of the killmail, zero when it has nothing.
func (l *ledger) append(b *Batch, k *Killmail, marks Marks, known Known) EventID {
	var prev Event
	if n := len(b.Events); n > 0 {
		prev = b.Events[n-1].Event
	} else {
		st := l.store.State()
		prev = Event{ID: st.Head, ReceivedAt: st.LastReceived, MirrorSeq: st.MirrorSeq}
	}
	ev := Event{
		ID: prev.ID + 1, SystemID: k.SystemID, Killmail: k.JSON, KillmailID: k.ID, KilledAt: k.Time,
		MirrorSeq: prev.MirrorSeq, Marks: marks,
		ReceivedAt: l.wall().UTC().Truncate(time.Millisecond),
	}
	if ev.ReceivedAt.Before(prev.ReceivedAt) { // the wall clock was set back
		ev.ReceivedAt = prev.ReceivedAt
	}
	if marks == 0 {
		ev.MirrorSeq++
	}
	if known.First == 0 {
		known.First = ev.ID
	}
	known.Latest, known.Digest = ev.ID, k.Digest.Over(known.Digest)
	b.Events = append(b.Events, NewEvent{Event: ev, Topics: k.Topics, Known: known})
	l.remember(&b.Events[len(b.Events)-1])
	return ev.ID
}
