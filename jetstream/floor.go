package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"killfeed"
)

// floor is up to where all nodes remove events. The leader raises it, and later has the servers remove the same: not before every live
// node has those events, and never the stream's last message, from which the log goes on.
type floor struct {
	js    jetstream.JetStream
	b     *bucket
	name  string
	t     Timing
	lease *lease
	nodes *nodes
	ready func()
	log   *slog.Logger

	at atomic.Uint64

	// Owned by run's goroutine. deleted are the marks of deletions of the last sweep, by key; they go with the next one.
	deleted map[string]uint64
	swept   time.Time
}

// floorRecord is the floor as it stands in the bucket. A term is that of the lease under which it was set; one of a lower term is refused.
type floorRecord struct {
	Through killfeed.EventID `json:"through"`
	Term    uint64           `json:"term"`
}

const (
	// sweepEvery is how often the leader removes the marks of deletions that are at least as old. A node whose watch has been behind for
	// less hears of a deletion by its mark, and otherwise by what is missing.
	sweepEvery = time.Hour
	// maxSweep bounds the marks that one sweep removes.
	maxSweep = 10_000
)

func newFloor(js jetstream.JetStream, b *bucket, o Options, lease *lease, nodes *nodes, ready func()) *floor {
	return &floor{
		js: js, b: b, name: o.Name, t: o.Timing, lease: lease, nodes: nodes, ready: ready, log: o.Logger, swept: time.Now(),
	}
}

// through is the last event to be removed, as far as this node knows.
func (f *floor) through() killfeed.EventID { return killfeed.EventID(f.at.Load()) }

// set raises the floor, by the lease of that term. One that is as high stays. The error is killfeed.ErrNotLeader when a later leader
// has set it.
func (f *floor) set(ctx context.Context, through killfeed.EventID, term uint64) error {
	e, err := f.b.last(ctx, keyRemoved)
	if err != nil {
		return fmt.Errorf("removing events up to %d: %w", through, err)
	}
	for {
		is, err := parseFloor(e)
		switch {
		case err != nil:
			return fmt.Errorf("removing events up to %d: %w", through, err)
		case term == 0 || is.Term > term:
			return fmt.Errorf("removing events up to %d: the leader of term %d does that, and this node's term is %d: %w", through, is.Term,
				term, killfeed.ErrNotLeader)
		case is.Through >= through:
			f.raise(is.Through)
			return nil
		}
		value, err := json.Marshal(floorRecord{Through: through, Term: term})
		if err != nil {
			return err
		}
		o, err := f.b.swap(ctx, write{key: keyRemoved, value: value, rev: e.rev, absent: e.gone, after: e.ids, id: f.b.nextID()})
		if err != nil {
			return fmt.Errorf("removing events up to %d: %w", through, err)
		}
		if o.stored {
			f.raise(through)
			return nil
		}
		e = o.now
	}
}

func parseFloor(e revision) (r floorRecord, err error) {
	if e.gone {
		return r, nil
	}
	if err := json.Unmarshal(e.value, &r); err != nil {
		return r, fmt.Errorf("the record of removed events cannot be read: %w", err)
	}
	return r, nil
}

func (f *floor) raise(through killfeed.EventID) {
	for {
		at := f.at.Load()
		if at >= uint64(through) {
			return
		}
		if f.at.CompareAndSwap(at, uint64(through)) {
			f.ready()
			return
		}
	}
}

func (f *floor) begin()                      {}
func (f *floor) whole(context.Context) error { return nil }

func (f *floor) see(e revision) {
	r, err := parseFloor(e)
	if err != nil {
		f.log.Error("events are not removed", "error", err)
		return
	}
	f.raise(r.Through)
}

// run watches the floor and, as leader, has the servers remove what they need not keep, until ctx ends.
func (f *floor) run(ctx context.Context) error {
	var watching sync.WaitGroup
	watching.Go(func() { _ = f.b.watch(ctx, []string{keyRemoved}, f) })
	defer watching.Wait()
	look := time.NewTicker(f.t.Look)
	defer look.Stop()
	for {
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil
		}
		if f.lease.term() == 0 {
			continue
		}
		if err := errors.Join(f.purge(ctx), f.sweep(ctx)); err != nil && ctx.Err() == nil {
			f.log.Warn("the servers keep more than they need to for now", "error", err)
		}
	}
}

// purge has the servers remove the events up to the floor, as far as all live nodes have them.
func (f *floor) purge(ctx context.Context) error {
	applied, ok := f.nodes.applied()
	through := uint64(min(f.through(), applied))
	if !ok || through == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, f.t.Try)
	defer cancel()
	s, err := f.js.Stream(ctx, f.name)
	if err != nil {
		return fmt.Errorf("purging events up to %d: %w", through, err)
	}
	st := s.CachedInfo().State
	if st.LastSeq == 0 {
		return nil
	}
	through = min(through, st.LastSeq-1)
	if through < st.FirstSeq || f.lease.term() == 0 {
		return nil
	}
	// The sequence is the first that is kept: at least 2, as 0 would have everything purged, and 1 has had.
	if err := s.Purge(ctx, jetstream.WithPurgeSequence(through+1)); err != nil {
		return fmt.Errorf("purging events up to %d: %w", through, err)
	}
	f.log.Info("the servers have removed events", "through", through)
	return nil
}

// sweep removes the marks of clients' deletions that were there one sweep ago already, and nodes that have not been seen for long.
func (f *floor) sweep(ctx context.Context) error {
	if time.Since(f.swept) < sweepEvery {
		return nil
	}
	f.swept = time.Now()
	return errors.Join(f.sweepOnce(ctx), f.nodes.forget(ctx))
}

func (f *floor) sweepOnce(ctx context.Context) error {
	now := map[string]uint64{}
	err := f.b.all(ctx, []string{keyClient + ">"}, true, func(e revision) bool {
		if e.gone {
			now[e.key] = e.rev
		}
		return len(now) < maxSweep
	})
	if err != nil {
		return err
	}
	for key, rev := range f.deleted {
		if now[key] != rev {
			continue
		}
		if err := f.b.purge(ctx, key, rev); err != nil { // what was written since stays
			return err
		}
		delete(now, key)
	}
	f.deleted = now
	return nil
}
