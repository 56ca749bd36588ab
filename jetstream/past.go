package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"killfeed"
)

// This file is how a node gets what is remembered of events that the stream has no more and it did not have yet.

// piece is handed to the writer, which answers once with done.
type piece struct {
	legacy killfeed.Legacy
	// link is the chain at legacy.At.
	link link
	done chan error
}

// adopt has the store adopt the piece that waits, if one does.
func (l *Ledger) adopt() {
	if l.held == nil {
		select {
		case p := <-l.pieces:
			l.held = &p
		default:
			return
		}
	}
	p := l.held
	if err := l.store.Adopt(p.legacy); errors.Is(err, killfeed.ErrDiskFull) {
		l.condition(err)
		time.AfterFunc(l.o.Timing.Look, l.ready) // nothing else may come meanwhile
		return
	} else if err != nil {
		l.held = nil
		p.done <- err
		return
	}
	l.held = nil
	p.done <- nil
	if p.legacy.At == nil {
		return
	}
	l.complete.Store(true)
	if l.store.State().Head == p.link.at { // else the store had more already
		l.link = p.link
		l.tail.restart(p.link.at)
	}
}

// hand gives a piece to Take, and waits until it is adopted.
func (l *Ledger) hand(ctx context.Context, legacy killfeed.Legacy, at link) error {
	p := piece{legacy: legacy, link: at, done: make(chan error, 1)}
	select {
	case l.pieces <- p:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.ready()
	select {
	case err := <-p.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copyPast copies what is remembered of the events that the stream has no more and the store not yet, if there are any. The last piece is
// made here: the stream's first message tells where the log goes on, and the chain's sum there.
func (l *Ledger) copyPast(ctx context.Context, hand func(context.Context, killfeed.Legacy, link) error) error {
	for told := false; ; {
		var first killfeed.EventID
		err := persist(ctx, func() error {
			info, err := l.stream.state(ctx)
			if err != nil {
				return asked("looking for the stream's first event", err)
			}
			first = killfeed.EventID(info.State.FirstSeq)
			if info.State.Msgs == 0 && first > l.store.State().Head+1 {
				return fmt.Errorf("%w: all events are removed, and where the log goes on is known only with the next one", killfeed.ErrUnavailable)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if first <= l.store.State().Head+1 {
			return nil
		}
		if !told {
			l.log.Info("copying from another node what is remembered of removed events", "from", l.store.State().Head+1, "through", first-1)
			told = true
		}
		err = l.peers.fetch(ctx, first-1, func(p killfeed.Legacy) error { return hand(ctx, p, link{}) })
		if err != nil {
			return fmt.Errorf("copying what is remembered of the events up to %d: %w", first-1, err)
		}
		e, err := l.stream.get(ctx, first)
		if errors.Is(err, killfeed.ErrFailed) {
			return err
		}
		if err != nil {
			continue // purged meanwhile, so more is to be copied; or that server does not answer, and asking again waits for it
		}
		at := link{at: first - 1, sum: e.before}
		end := &killfeed.PastEnd{ID: at.at, MirrorSeq: e.MirrorSeq, ReceivedAt: e.ReceivedAt}
		if e.Marks == 0 {
			end.MirrorSeq-- // it counts itself
		}
		return hand(ctx, killfeed.Legacy{At: end, Checkpoints: []killfeed.Checkpoint{at.checkpoint()}}, at)
	}
}
