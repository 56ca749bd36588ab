package r2z2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"killfeed"
)

const (
	// updatesBlock is how many events are looked at for updates at a time. What a file announces is among those of its own
	// block and of the one before.
	updatesBlock = 4096
	// keptBlocks bounds the blocks that are remembered.
	keptBlocks = 128
)

// updates finds out which file announces which update, by the index and the updates themselves. It remembers what it read; it may
// be used concurrently.
//
// Updates and files are matched like parentheses: a file announces the newest update before it that no file in between
// announces. The other way, the oldest first, would be a queue, whose state depends on everything that ever came before it, and
// so could neither be told after a restart nor after retention.
type updates struct {
	feed *killfeed.Feed
	size killfeed.EventID // of a block: updatesBlock, but in tests

	mu     sync.Mutex // guards the rest; held while a block is read
	blocks map[killfeed.EventID]*updated
}

// updated are the updates of a block.
type updated struct {
	through killfeed.EventID // how far it was looked at
	all     []update         // ascending
}

// update is an update event.
type update struct {
	id killfeed.EventID
	// behind is the number of the last file before it, of the killmail's own file; 0: it has none.
	behind, of uint64
}

// announced returns the number that the file of number n, whose event is id, announces; 0: none.
func (u *updates) announced(ctx context.Context, n uint64, id killfeed.EventID) (uint64, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	opened := uint64(0) // updates that were passed
	last := (id - 1) / u.size
	for b := last; b+1 >= last && b <= last; b-- { // and it wraps below 0
		block, err := u.block(ctx, b, id)
		if err != nil {
			return 0, err
		}
		for _, one := range slices.Backward(block.all) {
			if one.id > id {
				continue
			}
			// Between it and the file there are as many files as updates: the file is its own.
			if opened++; n-one.behind <= opened {
				return one.of, nil
			}
		}
	}
	return 0, nil
}

// block returns a block that was looked at as far as id, if that is in it, or else to its end. The caller holds mu.
func (u *updates) block(ctx context.Context, b, id killfeed.EventID) (*updated, error) {
	end := (b + 1) * u.size
	at := u.blocks[b]
	if at == nil {
		if len(u.blocks) >= keptBlocks {
			delete(u.blocks, slices.Min(slices.Collect(maps.Keys(u.blocks)))) // who reads old files reads them in order
		}
		at = &updated{through: b * u.size}
	}
	if at.through < min(end, id) {
		if err := u.extend(ctx, at, end); err != nil {
			return nil, err
		}
	}
	u.blocks[b] = at
	return at, nil
}

// extend looks at a block as far as there is something, up to end.
func (u *updates) extend(ctx context.Context, at *updated, end killfeed.EventID) error {
	through := min(end, u.feed.State().Head)
	entries, err := u.feed.Entries(nil, at.through, through)
	if err != nil {
		return err
	}
	more := []update{}
	for _, e := range entries {
		if !e.Marks.Has(killfeed.MarkUpdate) {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		one, err := u.read(e.ID)
		if err != nil {
			return fmt.Errorf("reading the update that is event %d: %w", e.ID, err)
		}
		if one.id != 0 {
			more = append(more, one)
		}
	}
	at.all, at.through = append(at.all, more...), through
	return nil
}

// read reads an update. It is empty when the event cannot be read: that takes nothing from others but their order.
func (u *updates) read(id killfeed.EventID) (update, error) {
	e, err := u.feed.Event(id)
	if err != nil {
		if showsNothing(err) {
			err = nil
		}
		return update{}, err
	}
	one := update{id: id, behind: e.MirrorSeq}
	first, err := u.feed.First(e.KillmailID)
	switch {
	case err == nil && first.Marks == 0:
		one.of = first.MirrorSeq
	case err != nil && !errors.Is(err, killfeed.ErrNotFound) && !showsNothing(err):
		return one, err
	}
	return one, nil
}
