package jetstream

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"killfeed"
)

// work is one client's part of a batch on its way.
type work struct {
	name   string
	change *change
	base   cached // what it is made from
	next   cached // what it makes of it
	write  write
	done   outcome
	same   bool // it was only asked for, and is as this node knows it
	err    error
}

const (
	// fewWrites are made one by one, side by side, as are those that a batch is refused for.
	fewWrites = 16
	// sideBySide bounds the requests under way.
	sideBySide = 64
)

// lookEach asks the bucket's leader whether clients are as this node knows them.
func (c *clients) lookEach(ctx context.Context, works []*work) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sideBySide)
	for _, w := range works {
		g.Go(func() error {
			key := keyOf(keyClient, w.name)
			e, err := c.b.last(ctx, key)
			if err == nil && e.rev < w.base.rev && !w.base.absent() {
				var sure bool
				if e, sure, err = c.b.settled(ctx, key, w.base.rev); err == nil && (!sure || e.rev > 0 && e.rev < w.base.rev) {
					err = fmt.Errorf("%s has revision %d where %d was, so its leader is behind: %w", key, e.rev, w.base.rev, killfeed.ErrUnavailable)
				}
			}
			w.same = e.rev == w.base.rev || e.gone && w.base.absent()
			w.done.now = e
			return err
		})
	}
	return g.Wait()
}

// prepare makes the writes, and leaves out what changes nothing. looks are those that are only asked for.
func (c *clients) prepare(works []*work, head killfeed.EventID) (writes, looks []*work, err error) {
	for _, w := range works {
		next, changed := w.change.apply(w.base, head)
		if !changed {
			if w.change.ask {
				looks = append(looks, w)
			}
			continue
		}
		w.write = write{
			key: keyOf(keyClient, w.name), rev: w.base.rev, absent: w.base.absent(), after: w.base.ids, id: c.b.nextID(), drop: next.gone,
		}
		if !next.gone {
			if w.write.value, err = next.encode(w.name); err != nil {
				return nil, nil, fmt.Errorf("client %q: %w", w.name, err)
			}
		}
		w.next = next
		writes = append(writes, w)
	}
	return writes, looks, nil
}

// swapAll makes the writes: many at once where the servers allow it, as each by itself is synced by itself.
func (c *clients) swapAll(ctx context.Context, works []*work) {
	for len(works) > 0 {
		n, bytes := 0, 0
		for n < len(works) && n < maxBatch && (n == 0 || bytes+len(works[n].write.value) <= maxBatchBytes) {
			bytes += len(works[n].write.value)
			n++
		}
		c.swapBatch(ctx, works[:n])
		works = works[n:]
	}
}

func (c *clients) swapBatch(ctx context.Context, works []*work) {
	if len(works) <= fewWrites || c.b.single.Load() || ctx.Err() != nil || !c.b.nc.IsConnected() {
		c.swapEach(ctx, works)
		return
	}
	ws := make([]write, len(works))
	for i, w := range works {
		ws[i] = w.write
	}
	first, err := c.b.batch(ctx, ws)
	switch {
	case err == nil:
		for i, w := range works {
			w.done = outcome{stored: true, rev: first + uint64(i), ids: w.write.ids()}
		}
	case errors.Is(err, errConflict): // somewhere; the half without it still goes at once
		c.swapBatch(ctx, works[:len(works)/2])
		c.swapBatch(ctx, works[len(works)/2:])
	case errors.Is(err, errRefused):
		c.log.Debug("records of clients are written one by one", "error", err)
		_ = c.b.probe(ctx) // they may not take any
		c.swapEach(ctx, works)
	default:
		for _, w := range works {
			w.write.unsure = true
		}
		c.swapEach(ctx, works)
	}
}

// swapRest goes on with what could not be written while other parts were: there is no taking those back, and to tell the feed that
// nothing counts would not be true.
func (c *clients) swapRest(ctx context.Context, works []*work) {
	var rest []*work
	stored := false
	for _, w := range works {
		stored = stored || w.done.stored
		if errors.Is(w.err, killfeed.ErrUnavailable) {
			w.write.unsure = true // try until it is decided
			rest = append(rest, w)
		}
	}
	if stored {
		c.swapEach(ctx, rest)
	}
}

func (c *clients) swapEach(ctx context.Context, works []*work) {
	var g errgroup.Group
	g.SetLimit(sideBySide)
	for _, w := range works {
		g.Go(func() error {
			w.done, w.err = c.b.swap(ctx, w.write)
			return nil
		})
	}
	_ = g.Wait()
}
