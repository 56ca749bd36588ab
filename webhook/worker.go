package webhook

import (
	"context"
	"errors"
	"net/http"
	"time"

	"killfeed"
)

const (
	// firstPause follows the first failure, longestPause is where doubling ends.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	// refusedPause follows the first refusal; it doubles too. A receiver that is being replaced may say for a minute that it is not
	// there.
	refusedPause = 5 * time.Second
	// maxRefusals in a row pause a webhook, and so do maxSpoilt: a receiver that wants nothing of what is posted is the wrong one.
	maxRefusals = 5
	maxSpoilt   = 20
	// maxPending bounds the bytes of killmails that one post is made of; a single one may exceed it.
	maxPending = 1 << 20
	// commitEvery is how often what the filter passed over is committed.
	commitEvery = time.Minute
	// stopGrace is how long a post that is under way may go on when the program stops, so that it need not be repeated, and
	// commitGrace how long its commit may take then.
	stopGrace   = 3 * time.Second
	commitGrace = 2 * time.Second
)

// errStopping ends a post that took too long when the program stops.
var errStopping = errors.New("the server is stopping")

// worker is one subscription of a webhook, owned by the goroutine that runs it.
type worker struct {
	*Hook
	sub      *killfeed.Subscription
	woken    chan struct{} // cap 1
	universe *killfeed.Universe
	topics   []killfeed.Topic

	more    bool // a Read may bring something
	pending []killfeed.Event
	// frozen: the first post of what is pending did not come back well, and may have been taken. What is posted again must be
	// the same, or its idempotency key would stand for something else.
	frozen bool
	// single is how many of the first pending are posted one by one, because one of them spoilt a post of all.
	single int
	named  killfeed.EventID // names of events up to here were waited for
	gap    *killfeed.Gap    // to be told with the next post

	committed killfeed.EventID
	commitAt  time.Time // when what was passed over is committed: an fsync for each would be too many

	failures     int // in a row
	failingSince time.Time
	refusals     int // in a row
	spoilt       int // in a row
	// pauseUntil is when the next attempt comes, leaveUntil until when the receiver wants to be left alone.
	pauseUntil, leaveUntil time.Time
}

// follow posts what comes until ctx ends, or static data are new and topics and filter have to be read again.
func (h *Hook) follow(ctx context.Context) error {
	feed := h.set.feed
	w := &worker{Hook: h, universe: feed.Universe(), woken: make(chan struct{}, 1), more: true, commitAt: time.Now().Add(commitEvery)}
	topics, filter, err := h.config.what(w.universe)
	if err != nil {
		return err
	}
	w.topics = topics
	sub, place, err := feed.Subscribe(ctx, killfeed.Subscriber{
		Read: killfeed.Read{
			Topics: topics, Start: h.config.Start, Manual: true, Filter: filter,
			Updates: h.config.Updates, NoBackfill: !h.config.Backfill,
		},
		Client: h.Client(), Holder: h, Wake: func() { ring(w.woken) },
	})
	if err != nil {
		return err
	}
	defer sub.Close()
	w.sub = sub
	w.committed = place.Start - 1
	w.lost(place.Gap)
	err = w.run(ctx)
	w.commit(ctx)
	w.wait(time.Time{})
	return err
}

// run is follow's loop.
func (w *worker) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.fill(); err != nil {
			return err
		}
		w.expire()
		if !time.Now().Before(w.commitAt) {
			w.commit(ctx)
			w.commitAt = time.Now().Add(commitEvery)
		}
		switch {
		case w.askedAgain():
			w.resend(ctx)
		case w.paused():
			w.sleep(ctx, time.Until(w.commitAt), true)
		case len(w.pending) > 0:
			if err := w.next(ctx); err != nil {
				return err
			}
		case w.more: // a search that found nothing so far
		case w.set.feed.Universe() != w.universe:
			return nil
		default:
			w.sleep(ctx, time.Until(w.commitAt), true)
		}
	}
	return nil
}

// fill reads until a batch is pending, or there is no more, or a search takes long.
func (w *worker) fill() error {
	select {
	case <-w.woken:
		w.more = true
	default:
	}
	bytes := 0
	for i := range w.pending {
		bytes += len(w.pending[i].Killmail)
	}
	for w.more && !w.frozen && w.single == 0 && len(w.pending) < w.config.Batch && bytes < maxPending {
		d, err := w.sub.Read(nil, w.config.Batch-len(w.pending))
		if err != nil {
			return err
		}
		w.more = d.More
		w.lost(d.Gap)
		w.pending = append(w.pending, d.Events...)
		for i := range d.Events {
			bytes += len(d.Events[i].Killmail)
		}
		if len(d.Events) == 0 {
			break
		}
	}
	w.note()
	return nil
}

// note has the status tell what waits.
func (w *worker) note() {
	var oldest time.Time
	if len(w.pending) > 0 {
		oldest = w.pending[0].ReceivedAt
	}
	w.mu.Lock()
	w.oldest = oldest
	w.mu.Unlock()
}

// wait has the status tell when the next attempt comes; zero: none does.
func (w *worker) wait(until time.Time) {
	w.change(func(s *Status) {
		s.NextAttempt = nil
		if until = until.UTC(); until.After(time.Now()) {
			s.NextAttempt = &until
		}
	})
}

// lost takes note of a gap.
func (w *worker) lost(gap *killfeed.Gap) {
	if gap == nil {
		return
	}
	w.gap = gap
	w.change(func(s *Status) { s.Gaps++ })
	w.set.log.Warn("a webhook lost events that it had not posted", "webhook", w.Name(), "gap", gap.String())
}

// expire passes over what became too old.
func (w *worker) expire() {
	if w.config.MaxAge == 0 || len(w.pending) == 0 {
		return
	}
	kept := w.pending[:0]
	single := w.single
	for i := range w.pending {
		if at := w.pending[i].KilledAt; at.IsZero() || time.Since(at) <= w.config.MaxAge {
			kept = append(kept, w.pending[i])
		} else if i < w.single {
			single--
		}
	}
	n := len(w.pending) - len(kept)
	if n == 0 {
		return
	}
	clear(w.pending[len(kept):])
	w.pending, w.single = kept, single
	w.change(func(s *Status) { s.Expired += uint64(n) })
	if len(kept) == 0 {
		w.frozen = false
	}
	w.note()
}

// paused tells whether nothing is posted.
func (w *worker) paused() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status.State == Paused
}

// askedAgain tells whether Retry was called, and has everything go on if so.
func (w *worker) askedAgain() bool {
	w.mu.Lock()
	again := w.again
	w.again = false
	w.mu.Unlock()
	if again {
		w.refusals, w.spoilt, w.pauseUntil = 0, 0, time.Time{}
		w.change(func(s *Status) { s.State, s.Reason = Running, "" })
	}
	return again
}

// sleep waits until d has passed, Retry is called, or with woken something came. It returns false when it did not wait to the end.
func (w *worker) sleep(ctx context.Context, d time.Duration, woken bool) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	var came <-chan struct{}
	if woken {
		came = w.woken
	}
	select {
	case <-timer.C:
		return true
	case <-came:
		w.more = true
	case <-w.kick:
	case <-ctx.Done():
	}
	return false
}

// next makes one attempt with what is pending, once it may.
func (w *worker) next(ctx context.Context) error {
	if !w.mayPost(ctx) {
		return nil // something else may have to be done first
	}
	if err := w.fill(); err != nil { // what came while it waited goes into the same message
		return err
	}
	if w.expire(); len(w.pending) == 0 {
		return nil
	}
	group := w.pending
	if w.single > 0 {
		group = group[:1]
	}
	n, o := w.attempt(ctx, group)
	if n > 0 {
		w.settle(ctx, group[:n], o)
	}
	return nil
}

// mayPost waits until a post is due and within the rate. It returns false when it was woken before.
func (w *worker) mayPost(ctx context.Context) bool {
	for {
		until := w.leaveUntil
		if w.pauseUntil.After(until) {
			until = w.pauseUntil
		}
		d := max(time.Until(until), w.set.blocked(w.target.Host))
		if d <= 0 {
			break
		}
		w.wait(time.Now().Add(d))
		if !w.sleep(ctx, d, false) {
			return false
		}
	}
	token := w.limit.Reserve()
	if d := token.Delay(); d > 0 && !w.sleep(ctx, d, false) {
		token.Cancel()
		return false
	}
	w.wait(time.Time{})
	return ctx.Err() == nil
}

// attempt posts the first events of a group, as many as fit. n is 0 when the program stopped before there was an answer.
func (w *worker) attempt(ctx context.Context, group []killfeed.Event) (n int, o outcome) {
	if last := group[len(group)-1].ID; last > w.named {
		w.awaitNames(ctx, group)
		w.named = last
	}
	body, n, err := w.body(w.topics, group)
	if err != nil {
		return len(group), outcome{verdict: spoilt, reason: "it cannot be shown: " + err.Error()}
	}
	header := w.header()
	if w.config.Format == JSON {
		cursor := killfeed.Cursor{After: group[n-1].ID, Epoch: w.set.feed.State().Epoch}
		header.Set("Killfeed-Delivery", cursor.String())
		if w.gap != nil {
			header.Set("Killfeed-Gap", w.gap.String())
		}
	}
	o = w.postGracefully(ctx, body, header)
	if ctx.Err() != nil && o.status == 0 {
		return 0, o
	}
	if o.verdict == taken {
		w.gap = nil
	}
	return n, o
}

// postGracefully posts; when the program stops meanwhile, the receiver has a moment to answer.
func (w *worker) postGracefully(ctx context.Context, body []byte, header http.Header) outcome {
	posting, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() {
		time.AfterFunc(stopGrace, func() { cancel(errStopping) })
	})()
	return w.post(posting, body, header)
}
