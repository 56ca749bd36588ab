package webhook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"killfeed"
)

// This file is what follows from the outcome of a post.

// settle does what follows from the outcome of a post of the first pending events.
func (w *worker) settle(ctx context.Context, group []killfeed.Event, o outcome) {
	w.leave(o)
	switch o.verdict {
	case taken:
		w.worked(len(group), o)
		w.done(ctx, len(group))
	case spoilt:
		if len(group) > 1 { // find out which, and post the others
			w.single, w.frozen = len(group), false
			w.failed(o)
			return
		}
		w.spoilt++
		w.buried(ctx, group, o)
	case refused:
		w.refusals++
		w.buried(ctx, group, o)
	case later:
		w.frozen = true
		w.tryLater(o)
		if n := w.overdue(group); n > 0 {
			o.reason = fmt.Sprintf("the receiver failed for %v; last: %s", w.config.GiveUp, o.reason)
			if w.bury(group[:n], o) {
				w.done(ctx, n)
			}
		}
	}
}

// leave takes note of how long the receiver wants to be left alone.
func (w *worker) leave(o outcome) {
	if o.wait <= 0 {
		return
	}
	w.leaveUntil = time.Now().Add(o.wait)
	if o.global {
		w.set.block(w.target.Host, o.wait)
	}
}

// worked takes note of a post that was taken.
func (w *worker) worked(events int, o outcome) {
	if w.failures > 0 {
		w.set.log.Info("a webhook works again", "webhook", w.Name(), "host", w.target.Host, "failures", w.failures)
	}
	w.failures, w.refusals, w.spoilt, w.failingSince, w.pauseUntil = 0, 0, 0, time.Time{}, time.Time{}
	w.change(func(s *Status) {
		now := time.Now().UTC()
		s.State, s.Reason, s.LastError, s.LastDelivered = Running, "", "", &now
		s.Delivered += uint64(events)
		s.LastStatus = o.status
	})
}

// failed takes note of a post that was not.
func (w *worker) failed(o outcome) {
	w.change(func(s *Status) {
		s.Failed++
		s.LastStatus, s.LastError = o.status, o.text()
	})
}

// text is all that is known of an outcome.
func (o *outcome) text() string {
	if o.answer == "" {
		return o.reason
	}
	return o.reason + ": " + o.answer
}

// tryLater has the next attempt come after a pause that doubles from failure to failure.
func (w *worker) tryLater(o outcome) {
	if w.failingSince.IsZero() {
		w.failingSince = time.Now()
	}
	d := min(firstPause<<min(w.failures, 16), longestPause)
	d += rand.N(d / 4) // so that several that failed together do not come back together
	w.pauseUntil = time.Now().Add(d)
	w.failures++
	w.failed(o)
	reason := fmt.Sprintf("the receiver answered %d", o.status)
	if o.status == 0 {
		reason = "the receiver did not answer"
	}
	w.change(func(s *Status) { s.State, s.Reason = Retrying, reason })
	if w.failures&(w.failures-1) == 0 { // less and less often: it may go on for days
		w.set.log.Warn("a webhook's post did not work and will be tried again", "webhook", w.Name(), "host", w.target.Host,
			"failures_in_a_row", w.failures, "status", o.status, "err", o.text())
	}
}

// overdue is how many of the first events of a group were tried for long enough: since they came, or the receiver failed.
func (w *worker) overdue(group []killfeed.Event) (n int) {
	for n < len(group) {
		since := group[n].ReceivedAt
		if w.failingSince.After(since) {
			since = w.failingSince
		}
		if time.Since(since) < w.config.GiveUp {
			break
		}
		n++
	}
	return n
}

// buried puts what the receiver does not want on the list of dead events, and pauses the webhook when that happened too often.
func (w *worker) buried(ctx context.Context, group []killfeed.Event, o outcome) {
	if !w.bury(group, o) {
		return
	}
	w.failed(o)
	w.failures, w.failingSince, w.pauseUntil = 0, time.Time{}, time.Time{} // it answers
	w.done(ctx, len(group))
	w.pauseIfHopeless(o)
}

// pauseIfHopeless pauses a webhook whose receiver wanted nothing of the last posts. After a refusal it waits, and longer each time.
func (w *worker) pauseIfHopeless(o outcome) {
	n := max(w.refusals, w.spoilt)
	switch {
	case w.refusals >= maxRefusals || w.spoilt >= maxSpoilt:
	case o.verdict == refused:
		w.pauseUntil = time.Now().Add(refusedPause << (w.refusals - 1))
		w.change(func(s *Status) { s.State, s.Reason = Retrying, fmt.Sprintf("the receiver answered %d", o.status) })
		return
	default:
		w.change(func(s *Status) { s.State, s.Reason = Running, "" })
		return
	}
	w.change(func(s *Status) {
		s.State = Paused
		s.Reason = fmt.Sprintf("the receiver refused %d posts in a row, the last with status %d", n, o.status)
	})
	w.set.log.Error("a webhook is paused: its receiver refuses everything; mend that, and 'killfeed webhooks retry'",
		"webhook", w.Name(), "host", w.target.Host, "refusals_in_a_row", n, "status", o.status, "err", o.text())
}

// bury puts events on the list of dead ones. When that cannot be written nothing is done, and all is tried again.
func (w *worker) bury(group []killfeed.Event, o outcome) bool {
	all := make([]Dead, len(group))
	for i := range group {
		all[i] = newDead(&group[i], o)
	}
	if err := w.dead.add(all); err != nil {
		w.set.log.Error("a webhook's dead events could not be noted, so they are tried again", "webhook", w.Name(), "err", err)
		w.frozen = true
		w.tryLater(o)
		return false
	}
	w.change(func(s *Status) { s.Died += uint64(len(all)) })
	w.set.log.Warn("events became dead: their webhook's receiver does not take them", "webhook", w.Name(), "host", w.target.Host,
		"first", uint64(group[0].ID), "events", len(group), "status", o.status, "err", o.text())
	return true
}

func newDead(e *killfeed.Event, o outcome) Dead {
	return Dead{
		EventID: e.ID, KillmailID: e.KillmailID, At: time.Now().UTC().Truncate(time.Millisecond),
		Status: o.status, Reason: o.reason, Answer: o.answer,
	}
}

// done goes on behind the first pending events.
func (w *worker) done(ctx context.Context, n int) {
	clear(w.pending[:n])
	if w.pending = w.pending[n:]; len(w.pending) == 0 {
		w.pending = nil
	}
	w.frozen, w.single = false, max(0, w.single-n)
	w.note()
	w.commit(ctx)
}

// commit moves the webhook's place past all that needs no post any more. It does so also when the program stops. A place that
// cannot be written now is written with the next one: the subscription itself goes on behind it.
func (w *worker) commit(ctx context.Context) {
	to := w.sub.Cursor().After
	if len(w.pending) > 0 {
		to = w.pending[0].ID - 1
	}
	if to <= w.committed {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitGrace)
	defer cancel()
	err := w.sub.Commit(ctx, to)
	switch {
	case err == nil:
		w.committed = to
	case errors.Is(err, killfeed.ErrClosed), errors.Is(err, killfeed.ErrReplaced), errors.Is(err, killfeed.ErrNotFound):
		// Read says so too.
	default:
		w.set.log.Warn("a webhook's place could not be written: what it posted may be posted again after a restart",
			"webhook", w.Name(), "err", err)
	}
}

// resend posts the dead events, one by one, until one does not work.
func (w *worker) resend(ctx context.Context) {
	for _, d := range w.dead.list() {
		event, err := w.set.feed.Event(d.EventID)
		if err != nil {
			if d.Reason = "the log does not have it any more: " + err.Error(); w.dead.add([]Dead{d}) != nil {
				return
			}
			continue
		}
		for !w.mayPost(ctx) {
			if ctx.Err() != nil {
				return
			}
		}
		n, o := w.attempt(ctx, []killfeed.Event{event})
		if n == 0 {
			return
		}
		w.leave(o)
		switch o.verdict {
		case taken:
			w.worked(1, o)
			if err := w.dead.remove(event.ID); err != nil {
				w.set.log.Warn("a dead event was posted, but may come back after a restart",
					"webhook", w.Name(), "event", uint64(event.ID), "err", err)
			}
			continue
		case later:
			w.tryLater(o)
			return
		case refused:
			w.refusals++
		case spoilt:
			w.spoilt++
		}
		w.failed(o)
		if err := w.dead.add([]Dead{newDead(&event, o)}); err != nil {
			w.set.log.Error("a webhook's dead events could not be noted", "webhook", w.Name(), "err", err)
		}
		if w.pauseIfHopeless(o); o.verdict == refused || w.paused() {
			return
		}
	}
}
