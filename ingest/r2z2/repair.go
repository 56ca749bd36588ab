package r2z2

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"killfeed"
	"killfeed/ingest/archive"
	"killfeed/ingest/history"
	"killfeed/ingest/upstream"
)

// repairs looks through history. Its fields belong to the goroutine of Follow; the goroutine that reads has only out.
type repairs struct {
	wg *sync.WaitGroup
	// out is where the running repair puts what it reads; nil when none runs.
	out chan repaired
	// due is when a day is to be looked through again, and failed how often it could not be.
	due    map[string]time.Time
	failed map[string]int
}

// repaired is a part of what a repair found, or its end.
type repaired struct {
	day       string
	killmails []*killfeed.Killmail
	done      bool
	result    history.Day
	began     time.Time
	err       error
}

const (
	repairBatch      = 128
	repairBatchBytes = 1 << 20
	// repairEvery is between two tries of a day, and maxRepairs bounds those that fail.
	repairEvery = time.Hour
	maxRepairs  = 72
)

// startRepair begins to look through a day that is owed and due, unless a day is being looked through.
func (f *follower) startRepair(ctx context.Context) error {
	r := &f.repair
	if r.out != nil {
		select { // between two questions too, so that a busy feed does not starve the repair
		case part := <-r.out:
			return f.repaired(ctx, part)
		default:
			return nil
		}
	}
	now := time.Now()
	if !f.begun || now.Before(f.hold) {
		return nil
	}
	for _, key := range f.place.Owed {
		if now.Before(r.due[key]) {
			continue
		}
		day, err := history.ParseKey(key)
		if err != nil {
			f.place.paid(key) // no day that was ever noted
			continue
		}
		out := make(chan repaired)
		r.out = out
		began := time.Unix(f.place.Began, 0)
		r.wg.Go(func() { f.look(ctx, key, day, began, out) })
		return nil
	}
	return nil
}

// look reads a day and sends what the log lacks of it. It uses nothing of the follower that changes.
func (s *Source) look(ctx context.Context, key string, day, began time.Time, out chan<- repaired) {
	send := func(r repaired) error {
		r.day = key
		select {
		case out <- r:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	var (
		batch  []*killfeed.Killmail
		bytes  int
		bad    error
		lookup error
	)
	start := time.Now()
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := send(repaired{killmails: batch})
		batch, bytes = nil, 0
		return err
	}
	want := func(id int64) bool {
		known, err := s.c.Known(id)
		if err != nil {
			lookup = err
		}
		return !known
	}
	if s.c.Known == nil {
		want = nil
	}
	result, err := s.history.Day(ctx, day, want, func(item archive.Item) error {
		if item.Err != nil {
			bad = item.Err
			return nil
		}
		k, err := killfeed.ParseItem(item.Data)
		if err != nil {
			bad = fmt.Errorf("%s: %w", item.Name, err)
			return nil
		}
		if !k.Time.IsZero() && k.Time.Before(began) {
			return nil
		}
		batch = append(batch, k)
		if bytes += len(k.JSON); len(batch) < repairBatch && bytes < repairBatchBytes {
			return nil
		}
		return flush()
	})
	if ferr := flush(); err == nil {
		err = ferr
	}
	if err == nil {
		err = lookup
	}
	if bad != nil && result.MissingErr == nil {
		result.MissingErr = bad
	}
	_ = send(repaired{done: true, result: result, began: start, err: err}) // nobody waits for it any more otherwise
}

// repaired takes a part of a repair.
func (f *follower) repaired(ctx context.Context, r repaired) error {
	if !r.done {
		tctx, cancel := context.WithTimeoutCause(ctx, takeTimeout, errors.New("the log has not taken it in time"))
		defer cancel()
		return f.in.Repair(tctx, f.place.text(), r.killmails...)
	}
	f.repair.out = nil
	now := time.Now()
	day, _ := history.ParseKey(r.day)
	over := history.Over(day)
	switch {
	case r.err == nil && r.began.After(over):
		if r.result.MissingErr != nil {
			f.in.Bad("killmail of history without a good body", r.result.MissingErr)
		}
		f.in.Log().Info("a day was looked through in history", "day", r.day, "listed", r.result.Listed, "read", r.result.Yielded,
			"missing", r.result.Missing)
		f.forgetDay(r.day)
		return f.take(ctx)
	case r.err == nil, errors.Is(r.err, upstream.ErrNotFound) && now.Before(over):
		// The day is not over: what is there was taken, and the rest follows.
		f.repair.due[r.day] = over.Add(time.Minute)
		return nil
	}
	f.repair.failed[r.day]++
	if f.repair.failed[r.day] >= maxRepairs {
		f.in.Log().Warn("a day could not be looked through in history and is given up: use killfeed backfill", "day", r.day, "err", r.err)
		f.forgetDay(r.day)
		return f.take(ctx)
	}
	wait := repairEvery
	if !errors.Is(r.err, upstream.ErrNotFound) {
		wait = min(time.Minute<<min(f.repair.failed[r.day], 6), repairEvery)
	}
	f.repair.due[r.day] = now.Add(wait)
	f.in.Log().Debug("history could not be read", "day", r.day, "again in", wait, "err", r.err)
	if errors.Is(r.err, upstream.ErrForbidden) || errors.Is(r.err, upstream.ErrTooMany) {
		return f.fail(ctx, r.err, false)
	}
	return nil
}

func (f *follower) forgetDay(day string) {
	f.place.paid(day)
	delete(f.repair.due, day)
	delete(f.repair.failed, day)
}
