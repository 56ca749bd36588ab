package jetstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"killfeed"
)

// lease decides which node does what one node does for all. Never do two have it at once, as long as the nodes' clocks run equally
// fast to within a quarter; what time it is does not matter.
//
// It is a record that its holder renews every Timing.Beat. A holder that could not renew it for Timing.Hold, counted from before its
// last good renewal was sent, stops by itself. A candidate takes it over when it has seen one and the same revision for Timing.Take,
// counted from after it first saw it. Each taking over raises the term, by which what a leader of old sent late is told apart.
type lease struct {
	b    leased
	node string
	// process is unlike that of any other one, also of an earlier one of this node.
	process string
	t       Timing
	log     *slog.Logger

	mu sync.Mutex // guards the rest; held for assignments only
	// mine is the term of the lease that this node has, 0 when it has none. rev and ids are of its record, and stay behind for giveUp.
	mine    uint64
	last    uint64 // the last mine
	rev     uint64
	ids     []string
	kept    uint64             // the record's revision at the last good renewal
	renewed time.Time          // before the last good renewal was sent
	held    context.Context    // ends with the lease
	drop    context.CancelFunc // ends held
	expiry  *time.Timer        // drops at renewed + Hold
	changed chan struct{}      // closed when mine becomes another, or working 0
	leader  string             // the name of the node that has it, as last seen
	working int                // what runs under the lease
}

// leased is what keeps the lease: the bucket, or a test that knows the true order of things.
type leased interface {
	last(ctx context.Context, key string) (revision, error)
	lastRev(ctx context.Context) (uint64, error)
	swap(ctx context.Context, w write) (outcome, error)
	nextID() string
}

// leaseRecord is the lease as it stands in the bucket. Without a node it was given up.
type leaseRecord struct {
	Node string `json:"node"`
	Run  string `json:"run"`
	Term uint64 `json:"term"`
	Beat int64  `json:"beat"` // Unix milliseconds, for people who look
}

func newLease(b leased, o Options, run string) *lease {
	return &lease{b: b, node: o.Node, process: run, t: o.Timing, log: o.Logger, changed: make(chan struct{})}
}

// run gets the lease whenever it can and keeps it, until ctx ends.
func (l *lease) run(ctx context.Context) error {
	defer l.lose("the node stops")
	for ctx.Err() == nil {
		if l.term() != 0 {
			l.keep(ctx)
		} else {
			l.wait(ctx)
		}
	}
	return nil
}

// keep renews the lease until it is lost.
func (l *lease) keep(ctx context.Context) {
	pause := backoff{}
	for {
		l.mu.Lock()
		term, rev, ids, renewed := l.mine, l.rev, l.ids, l.renewed
		l.mu.Unlock()
		if term == 0 {
			return
		}
		next := time.NewTimer(time.Until(renewed.Add(l.t.Beat)))
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
		// An attempt must not outlive the lease: what it would renew could be another's.
		attempt, cancel := context.WithDeadline(ctx, renewed.Add(l.t.Hold))
		began := time.Now()
		o, err := l.b.swap(attempt, l.write(term, rev, ids))
		cancel()
		switch {
		case err != nil:
			l.log.Warn("the lease of the leader could not be renewed", "error", err)
			if !pause.wait(ctx) {
				return
			}
		case o.rev != 0:
			pause = backoff{}
			l.renew(term, o, began)
		default:
			if r, err := parseLease(o.now); err == nil && r.Run == l.process && r.Term == term {
				// An attempt of before was stored after all. When it was sent is not known any more, so the lease is not longer for it.
				l.mu.Lock()
				l.rev, l.ids = o.now.rev, o.now.ids
				l.mu.Unlock()
				continue
			}
			l.lose("another node has taken it over")
			return
		}
	}
}

func (l *lease) write(term, rev uint64, ids []string) write {
	value, _ := json.Marshal(leaseRecord{Node: l.node, Run: l.process, Term: term, Beat: time.Now().UnixMilli()}) // of strings and numbers
	return write{key: keyLeader, value: value, rev: rev, absent: rev == 0, after: ids, id: l.b.nextID()}
}

func parseLease(e revision) (leaseRecord, error) {
	var r leaseRecord
	if e.gone {
		return r, nil
	}
	if err := json.Unmarshal(e.value, &r); err != nil {
		return r, fmt.Errorf("the record of the leader cannot be read: %w", err)
	}
	return r, nil
}

// wait waits until the lease is free, and takes it.
func (l *lease) wait(ctx context.Context) {
	var seen uint64
	var since time.Time
	pause := backoff{}
	look := l.t.Beat / 2
	for first := true; ; first = false {
		try, cancel := context.WithTimeout(ctx, l.t.Try)
		e, err := l.b.last(try, keyLeader)
		cancel()
		var r leaseRecord
		if err == nil {
			r, err = parseLease(e)
		}
		if err != nil {
			if ctx.Err() == nil {
				l.log.Debug("looking for the leader failed", "error", err)
			}
			if !pause.wait(ctx) {
				return
			}
			continue
		}
		pause = backoff{}
		if first || e.rev != seen {
			seen, since = e.rev, time.Now()
		}
		l.saw(r.Node)
		// It is free when there never was one, when it was given up, and when it still is as this node had it last. One that was deleted by
		// hand may have a holder that does not know yet; so may one that this node took by a write which landed after that had been
		// given up, as the one before it may have been deleted meanwhile.
		free := e.rev == 0 || !e.gone && (r.Node == "" || r.Run == l.process && e.rev == l.had())
		if free || time.Since(since) >= l.t.Take {
			if l.take(ctx, e, r) || ctx.Err() != nil {
				return
			}
			seen, since = 0, time.Time{} // somebody else was faster
			continue
		}
		next := time.NewTimer(min(look, time.Until(since.Add(l.t.Take))))
		select {
		case <-next.C:
		case <-ctx.Done():
			next.Stop()
			return
		}
	}
}

// take takes the lease over from the record e.
func (l *lease) take(ctx context.Context, e revision, r leaseRecord) bool {
	term := r.Term + 1
	if e.gone { // deleted by hand. No term was ever higher than the revision it was given out at.
		newest, err := l.b.lastRev(ctx)
		if err != nil {
			return false
		}
		term = max(newest, e.rev) + 1
	}
	began := time.Now()
	attempt, cancel := context.WithDeadline(ctx, began.Add(l.t.Hold))
	defer cancel()
	o, err := l.b.swap(attempt, l.write(term, e.rev, e.ids))
	if err != nil || o.rev == 0 {
		return false
	}
	if l.renew(term, o, began) {
		l.log.Info("this node leads", "term", term)
	}
	return true
}

// renew notes that the lease of that term was this node's at began. It returns false when it has run out meanwhile: then it has to be
// taken anew, with another term.
func (l *lease) renew(term uint64, o outcome, began time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rev, l.ids = o.rev, o.ids
	left := time.Until(began.Add(l.t.Hold))
	if left <= 0 || l.mine == 0 && l.last == term {
		return false
	}
	l.renewed, l.kept = began, o.rev
	if l.mine == 0 {
		l.mine, l.last, l.leader = term, term, l.node
		l.held, l.drop = context.WithCancel(context.Background())
		l.expiry = time.AfterFunc(left, func() { l.expire(term) })
		l.tell()
		return true
	}
	l.expiry.Reset(left)
	return true
}

// had is the revision of the record with which this node had the lease last.
func (l *lease) had() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.kept
}

// tell wakes those that wait for a change. The caller holds mu.
func (l *lease) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// expire ends the lease of that term if it was not renewed meanwhile.
func (l *lease) expire(term uint64) {
	l.mu.Lock()
	over := l.mine == term && time.Since(l.renewed) >= l.t.Hold
	l.mu.Unlock()
	if over {
		l.lose("it could not be renewed in time")
	}
}

func (l *lease) lose(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mine == 0 {
		return
	}
	l.log.Info("this node leads no more", "term", l.mine, "reason", why)
	l.mine, l.leader = 0, ""
	l.expiry.Stop()
	l.drop()
	l.tell()
}

func (l *lease) saw(leader string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mine == 0 {
		l.leader = leader
	}
}

// term is that of the lease which this node has, 0 when it has none.
func (l *lease) term() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mine == 0 || time.Since(l.renewed) >= l.t.Hold { // the timer may be late
		return 0
	}
	return l.mine
}

// leads is nil when this node has the lease.
func (l *lease) leads() error {
	if l.term() != 0 {
		return nil
	}
	l.mu.Lock()
	leader := l.leader
	l.mu.Unlock()
	if leader == "" || leader == l.node {
		return fmt.Errorf("no node is known to lead: %w", killfeed.ErrNotLeader)
	}
	return fmt.Errorf("node %s leads: %w", leader, killfeed.ErrNotLeader)
}

// lead runs work whenever this node has the lease, with a context that ends when it has it no more, and waits for it to end. It
// returns nil when ctx ends, and what work returns when that ends by itself.
func (l *lease) lead(ctx context.Context, work func(context.Context) error) error {
	for {
		held, changed := l.enter()
		if held == nil {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil
			}
		}
		err := l.work(ctx, held, work)
		switch {
		case ctx.Err() != nil:
			return nil
		case held.Err() == nil:
			return err
		case err != nil && !errors.Is(err, context.Canceled):
			l.log.Warn("what the leader did ended with the lease", "error", err)
		}
	}
}

// enter returns the lease's context when this node has it, and counts what works; else when to ask again.
func (l *lease) enter() (held context.Context, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mine == 0 {
		return nil, l.changed
	}
	l.working++
	return l.held, nil
}

func (l *lease) work(ctx, held context.Context, work func(context.Context) error) error {
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.working--; l.working == 0 {
			l.tell()
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(held, func() { cancel(killfeed.ErrNotLeader) })()
	return work(ctx)
}

// giveUp lets another node take the lease over at once, once all work under it has ended. It is called after run has ended. When work
// does not end before ctx does, the lease is left to run out.
func (l *lease) giveUp(ctx context.Context) {
	l.mu.Lock()
	for l.working > 0 {
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
		l.mu.Lock()
	}
	term, rev, ids := l.last, l.rev, l.ids
	l.mu.Unlock()
	if term == 0 {
		return
	}
	for {
		w := l.write(term, rev, ids)
		w.value, _ = json.Marshal(leaseRecord{Term: term, Beat: time.Now().UnixMilli()})
		o, err := l.b.swap(ctx, w)
		if err != nil {
			l.log.Warn("the lease of the leader could not be given up; it runs out by itself", "error", err)
			return
		}
		r, err := parseLease(o.now)
		if o.stored || err != nil || o.now.gone || r.Run != l.process || r.Term != term {
			return // given up, or another's
		}
		rev, ids = o.now.rev, o.now.ids // what run had sent last was stored
	}
}
