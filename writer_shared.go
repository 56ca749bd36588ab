package killfeed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// This file is what the writer has to do with other nodes.

// errMoved: another node has changed the client since it was read, so that is to be done again.
var errMoved = errors.New("the client was changed by another node meanwhile")

// agree has the ledger agree on the batch, and takes out of it what the nodes do not agree on, and what the ledger keeps instead of the
// store. It returns the requests and the offsets that are agreed on, and the requests that are to be built again. With an error nothing
// is agreed on.
func (w *writer) agree(ctx context.Context, b *Batch, group []*request, dirty []dirtyOffsets) (
	agreed, again []*request, written []dirtyOffsets, err error) {
	out, err := w.ledger.Agree(ctx, b)
	if events := len(b.Events); err != nil && events > 0 && (ctx.Err() == nil || errors.Is(err, ErrBehind)) {
		inserts, others := split(group)
		*b = Batch{} // nothing of clients counts
		w.putBack(dirty)
		// Clients do not wait for what has to do with events alone, nor fail for it.
		for first := true; len(others) > 0 || first && len(dirty) > 0; first = false {
			others = w.attempt(ctx, others, false)
		}
		if errors.Is(err, ErrBehind) {
			if err = w.catchUp(ctx); err == nil {
				return nil, inserts, nil, nil
			}
		}
		return inserts, nil, nil, fmt.Errorf("appending %d events: %w", events, err)
	}
	if err != nil {
		return group, nil, dirty, fmt.Errorf("agreeing with the other nodes: %w", err)
	}
	moved := map[string]bool{}
	for i := range out.Moved {
		moved[out.Moved[i].Client] = true
	}
	left := false // something that was to be written behind still is
	for _, d := range dirty {
		if out.Err != nil || moved[d.client.name] {
			w.clients.putBack(d) // before it is adopted: what is ahead of the others stays so
			left = true
		} else {
			written = append(written, d)
		}
	}
	for _, m := range out.Moved {
		w.adopt(m)
	}
	for _, r := range group {
		switch {
		case r.client != nil && moved[r.client.name]:
			again = append(again, r)
		case r.settle && left && out.Err == nil:
			again = append(again, r)
		case r.settle && left:
			r.end(fmt.Errorf("agreeing with the other nodes on clients: %w", out.Err))
		case out.Err != nil && r.change != nil:
			r.end(fmt.Errorf("agreeing with the other nodes on clients: %w", out.Err))
		case out.Places != nil && r.checkpoint != nil:
			r.end(fmt.Errorf("agreeing with the other nodes on the place of source %s: %w", r.checkpoint.Source, out.Places))
		default:
			agreed = append(agreed, r)
		}
	}
	b.Offsets, b.Seen, b.Gone, b.Holds = nil, nil, nil, nil
	b.Checkpoints = slices.DeleteFunc(b.Checkpoints, func(c Checkpoint) bool {
		return slices.ContainsFunc(group, func(r *request) bool { return r.checkpoint != nil && r.checkpoint.Source == c.Source })
	})
	return agreed, again, written, nil
}

func (w *writer) putBack(dirty []dirtyOffsets) {
	for _, d := range dirty {
		w.clients.putBack(d)
	}
}

// catchUp waits until this node has what others have appended before it.
func (w *writer) catchUp(ctx context.Context) error {
	tick := time.NewTicker(newsRetry)
	defer tick.Stop()
	for head := w.store.State().Head; w.store.State().Head == head; {
		select {
		case <-w.ledger.News():
		case <-tick.C:
			if err := w.health(); err != nil {
				return err
			}
			if !w.deaf {
				continue
			}
		case <-ctx.Done():
			return fmt.Errorf("feed: %w", ErrClosed)
		}
		if err := w.learn(); err != nil {
			why := ErrUnavailable
			for _, e := range []error{ErrDiskFull, ErrFailed} {
				if errors.Is(err, e) {
					why = e
				}
			}
			// What is unknown of the others' events is not unknown of the caller's.
			return fmt.Errorf("this node cannot catch up with the others: %v: %w", err, why)
		}
	}
	return nil
}

// news is readable when there is something to learn.
func (w *writer) news() <-chan struct{} {
	if w.deaf {
		return nil
	}
	return w.ledger.News()
}

// again does again what failed. While the store takes nothing that is only asked.
func (w *writer) again() {
	switch {
	case !w.deaf:
		w.follow()
	case w.store.Health() != nil:
		w.retry.Reset(newsRetry)
	default:
		_ = w.learn() // it tells
	}
}

// learn takes news from the ledger. When that fails it is tried again later.
func (w *writer) learn() error {
	was := w.deaf
	w.deaf = false
	before := w.store.State().Head
	news, err := w.ledger.Take()
	if head := w.store.State().Head; head > before { // it had to adopt what is past
		w.bells.announce([]NewEvent{{Event: Event{ID: head}}})
	}
	if err == nil && len(news.Events) > 0 {
		err = w.storeNews(news)
	}
	for _, c := range news.Clients {
		w.adopt(c)
	}
	w.through = max(w.through, news.Through)
	w.follow()
	if err != nil {
		if !was {
			w.log.Error("what other nodes have agreed on cannot be taken; tried again every second", "err", err)
		}
		w.deaf = true
		w.retry.Reset(newsRetry)
	}
	return err
}

// storeNews stores events that other nodes have appended.
func (w *writer) storeNews(news News) error {
	b := Batch{Events: make([]NewEvent, 0, len(news.Events)), Checkpoints: news.Checkpoints}
	clear(w.fresh)
	clear(w.known)
	for i := range news.Events {
		e := &news.Events[i]
		k, err := NewKillmail(e.SystemID, e.Killmail)
		if err != nil {
			return fmt.Errorf("event %d of the stream is no killmail: %w", e.ID, err)
		}
		var known Known
		if e.KillmailID != 0 {
			var ok bool
			if known, ok = w.known[e.KillmailID]; !ok {
				if known, _, err = w.store.Known(e.KillmailID); err != nil {
					return fmt.Errorf("looking up killmail %d: %w", e.KillmailID, err)
				}
			}
		}
		b.Events = append(b.Events, NewEvent{Event: *e, Topics: k.Topics, Known: known.with(e.ID, k)})
		w.remember(&b.Events[len(b.Events)-1])
	}
	return w.write(&b)
}

// follow removes a step of what another node has decided to remove. When more is left it has itself called again.
func (w *writer) follow() {
	st := w.store.State()
	through := min(w.through, st.Head, st.First+removeStep-1)
	if through < st.First || w.deaf {
		return
	}
	if err := w.store.Remove(through); err != nil {
		w.log.Warn("removing what another node has removed failed; tried again", "from", uint64(st.First), "through", uint64(through), "err", err)
		w.retry.Reset(newsRetry)
	} else if through < w.through {
		w.retry.Reset(0)
	}
}
