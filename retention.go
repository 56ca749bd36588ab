package killfeed

import (
	"context"
	"fmt"
	"math"
	"time"
)

// This file is the only code that deletes.

// CollectEvery is how often Run collects.
const CollectEvery = time.Minute

// Retention decides what a collection removes. An event goes when
//
//   - every client has committed past it on all its topics, and it is older than Retain, or
//   - it is older than Max, or
//   - it is beyond MaxBytes, counting from the newest.
//
// A zero switches that limit off. The zero value is the rule of the specification exactly: min_offset, the smallest offset
// over all topics of all clients, and everything at or below it goes. Alone that rule never frees anything while one client
// or one quiet topic lags, and loses events that a client has yet to read on a topic that it has not used.
type Retention struct {
	// Retain is the least age for removal by the clients' offsets.
	Retain time.Duration
	// Max is the age at which an event goes whoever has not read it.
	Max time.Duration
	// MaxBytes bounds the kept events' stored size before compression.
	MaxBytes int64
	// ClientTTL is how long an unseen client holds events that it has not read. Its offsets are kept for a year after
	// that, so that it is told what it lost.
	ClientTTL time.Duration
}

// DefaultRetention is what the server uses unless told otherwise.
func DefaultRetention() Retention {
	return Retention{Retain: 24 * time.Hour, Max: 30 * 24 * time.Hour, ClientTTL: 7 * 24 * time.Hour}
}

const (
	// clientMemory is how long an unseen client's offsets are kept.
	clientMemory = 365 * 24 * time.Hour
	// removeStep bounds the events removed at once, so that whoever writes meanwhile waits for one step at most.
	removeStep = 32_768
)

// Collected tells what a collection did.
type Collected struct {
	// Removed is the number of events removed.
	Removed uint64
	// First and Head bound what is kept.
	First, Head EventID
}

// Collect removes what Retention lets go, and forgets clients unseen for a year. It returns when it is done; a second call
// waits for the first. Where several nodes share the log only the one that leads collects; on another it is ErrNotLeader.
func (f *Feed) Collect(ctx context.Context) (Collected, error) {
	f.collecting.Lock()
	defer f.collecting.Unlock()
	select {
	case <-f.writer.closing:
		return Collected{}, fmt.Errorf("feed: %w", ErrClosed)
	default:
	}
	if err := f.writer.ledger.Leads(); err != nil {
		return Collected{}, fmt.Errorf("collecting: %w", err)
	}
	if err := f.forgetOld(ctx); err != nil {
		return Collected{}, err
	}
	// Positions that clients take from here on lower the floor, so that none of them is overtaken.
	err := f.writer.do(ctx, &request{alone: func(context.Context) error { f.floor = math.MaxUint64; return nil }})
	if err != nil {
		return Collected{}, err
	}
	hard, soft, err := f.removable()
	if err != nil {
		return Collected{}, err
	}
	// What clients committed up to now goes to disk first. After a crash a client would otherwise be told that it lost
	// what it had read.
	if err := f.writer.do(ctx, &request{settle: true}); err != nil {
		return Collected{}, err
	}
	var removed uint64
	for more := true; more; {
		step := func(ctx context.Context) error {
			first := f.store.State().First
			through := min(max(hard, min(soft, f.floor)), first+removeStep-1)
			if more = through >= first; !more {
				return nil
			}
			if err := f.writer.ledger.Remove(ctx, through); err != nil {
				return fmt.Errorf("having all nodes remove events %d to %d: %w", first, through, err)
			}
			if err := f.store.Remove(through); err != nil {
				return fmt.Errorf("removing events %d to %d: %w", first, through, err)
			}
			removed += uint64(through - first + 1)
			return nil
		}
		if err := f.writer.do(ctx, &request{alone: step}); err != nil {
			return Collected{}, err
		}
	}
	f.stats.collections.Add(1)
	f.stats.removed.Add(removed)
	st := f.store.State()
	return Collected{Removed: removed, First: st.First, Head: st.Head}, nil
}

// removable returns the greatest ids that may go: hard whatever clients have read, soft as far as no client takes a position
// below it meanwhile.
func (f *Feed) removable() (hard, soft EventID, err error) {
	r := f.retention
	soft = f.minOffset()
	if r.Retain > 0 {
		old, err := f.olderThan(r.Retain)
		if err != nil {
			return 0, 0, err
		}
		soft = min(soft, old)
	}
	if r.Max > 0 {
		if hard, err = f.olderThan(r.Max); err != nil {
			return 0, 0, err
		}
	}
	if r.MaxBytes > 0 {
		hard = max(hard, f.store.Excess(r.MaxBytes))
	}
	return hard, soft, nil
}

// olderThan is the last event received longer ago than age.
func (f *Feed) olderThan(age time.Duration) (EventID, error) {
	t := f.now().Add(-age)
	id, err := f.store.ReceivedFrom(t)
	if err != nil {
		return 0, fmt.Errorf("looking for the first event received from %v on: %w", t, err)
	}
	return id - 1, nil
}

// minOffset is the smallest offset over all topics of all clients that hold events, or 0 when there is none.
func (f *Feed) minOffset() EventID {
	low := EventID(math.MaxUint64)
	for _, c := range f.clients.all() {
		if f.retention.ClientTTL > 0 && f.unseen(c) > f.retention.ClientTTL {
			continue
		}
		c.mu.Lock()
		for _, o := range c.offsets {
			low = min(low, o.at)
		}
		c.mu.Unlock()
	}
	if low == math.MaxUint64 {
		return 0
	}
	return low
}

func (f *Feed) unseen(c *client) time.Duration {
	return f.now().Sub(f.seen(c))
}

// hold keeps a running collection from removing what is above at, where a client just took its position. It runs on the
// writer's goroutine.
func (f *Feed) hold(at EventID) { f.floor = min(f.floor, at) }

// forgetOld deletes clients that were not seen for a year.
func (f *Feed) forgetOld(ctx context.Context) error {
	if f.retention.ClientTTL == 0 {
		return nil
	}
	for _, c := range f.clients.all() {
		if f.unseen(c) <= clientMemory {
			continue
		}
		select {
		case c.turn <- struct{}{}:
		default: // it is calling right now
			continue
		}
		var err error
		if f.unseen(c) > clientMemory {
			err = f.forget(ctx, c)
		}
		c.release()
		if err != nil {
			return fmt.Errorf("forgetting client %q, unseen for a year: %w", c.name, err)
		}
	}
	return nil
}
