package r2z2

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"killfeed"
	"killfeed/ingest/upstream"
)

// pointer stands for the pointer among numbers.
const pointer = -1

// due is what is to be asked for now: at most burst numbers, the most urgent first. When there is none it says how long there
// is nothing to do.
func (f *follower) due() (numbers []int64, wait time.Duration) {
	now := time.Now()
	wait = pointerEvery
	chosen := map[int64]bool{}
	add := func(n int64, at time.Time) {
		if d := at.Sub(now); d > 0 {
			wait = min(wait, d)
		} else if !chosen[n] && len(numbers) < burst {
			chosen[n] = true
			numbers = append(numbers, n)
		}
	}
	want := func(n int64) {
		if f.got[n] == nil {
			a := f.asks[n]
			if a == nil {
				a = &ask{}
			}
			add(n, a.due)
		}
	}
	add(pointer, f.pointerDue)
	if !f.begun {
		return numbers, wait
	}
	next := f.place.Next
	want(next)
	for n := next + 1; n < next+window && n <= f.known; n++ {
		want(n)
	}
	if f.overdue(now) {
		// Is there anything later? The pointer is minutes late, so the next few are tried in turn.
		if f.known > next {
			want(f.known)
		} else {
			want(next + 1 + f.probes%4)
		}
	}
	for _, n := range f.place.Again {
		want(n)
	}
	for _, h := range f.place.Holes {
		want(h.Number)
	}
	return numbers, wait
}

// overdue tells that the next number has been missing for so long that it may be a hole, and that no later file is there.
func (f *follower) overdue(now time.Time) bool {
	a := f.asks[f.place.Next]
	return a != nil && !a.first.IsZero() && now.Sub(a.first) >= holdUp && f.laterAt.IsZero()
}

// reply is what came of a question.
type reply struct {
	number int64
	answer *upstream.Answer // nil with err
	err    error
}

// ask asks for numbers and deals with the answers. After a refusal the rest is not asked any more.
func (f *follower) ask(ctx context.Context, numbers []int64) error {
	var (
		wg      sync.WaitGroup
		replies = make([]reply, len(numbers))
		refused = make(chan struct{})
		once    sync.Once
	)
	for i, n := range numbers {
		err := f.c.Client.Wait(ctx)
		select { // after the wait, in which answers may have come
		case <-refused:
			err = upstream.ErrTooMany
		default:
		}
		if err != nil {
			numbers = numbers[:i]
			break
		}
		wg.Go(func() {
			r := &replies[i]
			r.number = n
			address, limit := f.c.URL+"/ephemeral/sequence.json", int64(maxPointer)
			if n != pointer {
				address, limit = f.c.URL+"/ephemeral/"+strconv.FormatInt(n, 10)+".json", maxFile
			}
			r.answer, r.err = f.c.Client.Ask(ctx, address, limit)
			if errors.Is(r.err, upstream.ErrTooMany) || errors.Is(r.err, upstream.ErrForbidden) {
				once.Do(func() { close(refused) })
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	replies = replies[:len(numbers)]
	answers := false // it answers, and be it that there is no such file
	for _, r := range replies {
		answers = answers || r.err == nil || errors.Is(r.err, upstream.ErrNotFound)
	}
	good := false
	var failed, refusal error
	for _, r := range replies {
		wrong, err := f.reply(ctx, r, answers)
		if err != nil {
			return err
		}
		switch {
		case r.err != nil && !errors.Is(r.err, upstream.ErrNotFound):
			failed = worse(failed, r.err)
		case wrong != nil:
			refusal = wrong
		default:
			good = true
		}
	}
	if good {
		f.failures.Reset()
	}
	if err := f.fail(ctx, failed, good); err != nil {
		return err
	}
	if refusal != nil && failed == nil && !good {
		f.in.Troubled(refusal, "it is asked for again")
	}
	return nil
}

// worse is the one of two errors that calls for more patience.
func worse(a, b error) error {
	for _, class := range []error{upstream.ErrForbidden, upstream.ErrTooMany} {
		switch {
		case errors.Is(a, class):
			if upstream.RetryAfter(b) > upstream.RetryAfter(a) && errors.Is(b, class) {
				return b
			}
			return a
		case errors.Is(b, class):
			return b
		}
	}
	return b
}

// fail decides how long nothing is asked for after an error of the upstream as a whole, and tells how it stands. What the
// upstream itself asked for is stored: a restart does not make it shorter. The error is one of the log.
func (f *follower) fail(ctx context.Context, err error, good bool) error {
	var wait time.Duration
	switch {
	case errors.Is(err, upstream.ErrForbidden):
		wait = f.forbidden.Next(0)
		f.in.Troubled(err, "upstream refuses: it does so to a User-Agent without contact, and for up to an hour to who asked too "+
			"often; it is asked again in "+wait.Round(time.Second).String())
	case errors.Is(err, upstream.ErrTooMany):
		wait = f.busy.Next(upstream.RetryAfter(err))
		f.in.Troubled(err, "upstream wants fewer requests; it is asked again in "+wait.Round(time.Second).String())
	case err != nil && !good:
		wait = f.failures.Next(upstream.RetryAfter(err))
		f.in.Troubled(err, "upstream does not answer as it should; it is asked again in "+wait.Round(time.Second).String())
	case good:
		f.forbidden.Reset()
		f.busy.Reset()
		f.stands()
	}
	if wait == 0 {
		return nil
	}
	f.c.Client.Pause(wait) // history waits too
	f.hold = time.Now().Add(wait)
	if f.begun && (errors.Is(err, upstream.ErrForbidden) || errors.Is(err, upstream.ErrTooMany)) {
		f.place.Hold = f.hold.Unix() + 1
		return f.take(ctx)
	}
	return nil
}

// reply deals with what came of a question. wrong says what is wrong with an answer that came; err is one of the log. answers
// tells that the upstream answers at least some questions.
func (f *follower) reply(ctx context.Context, r reply, answers bool) (wrong, err error) {
	if r.number == pointer {
		return f.pointerReply(ctx, r)
	}
	now := time.Now()
	switch {
	case r.err == nil:
	case errors.Is(r.err, upstream.ErrNotFound):
		f.missed(r.number, now, nil)
		return nil, nil
	case !answers, errors.Is(r.err, upstream.ErrTooMany), errors.Is(r.err, upstream.ErrForbidden):
		f.postpone(r.number, now)
		return nil, nil
	default: // the upstream fails for this number only
		f.missed(r.number, now, r.err)
		if errors.Is(r.err, upstream.ErrServer) {
			f.hasten(r.number, now)
		}
		return nil, nil
	}
	file, wrong := parseFile(r.number, r.answer.Body)
	if wrong != nil {
		f.in.Log().Debug("a file is refused and asked for again", "number", r.number, "err", wrong)
		f.missed(r.number, now, wrong)
		f.hasten(r.number, now)
		return wrong, nil
	}
	f.known = max(f.known, file.number)
	switch {
	case file.number >= f.place.Next:
		f.got[file.number] = file
		if file.number > f.place.Next && f.laterAt.IsZero() {
			f.laterAt = now
		}
		if file.updated >= f.place.Next { // what is here of it may be the old version
			delete(f.got, file.updated)
		}
		return nil, nil
	case f.place.isHole(file.number):
		f.place.close(file.number)
	case f.old(file, now):
		return nil, nil
	default:
		f.place.settle(file.number)
	}
	f.place.announce(file.updated)
	delete(f.asks, file.number)
	return nil, f.take(ctx, file)
}

// missed notes that a number was asked for in vain; err tells why it was not had when it was not a plain miss.
func (f *follower) missed(n int64, now time.Time, err error) {
	a := f.postpone(n, now)
	if a.first.IsZero() {
		a.first = now
	}
	a.tries++
	a.last, a.err = now, err
	if n == f.place.Next && n > f.known && err == nil {
		f.lag = 0 // there is nothing more
	}
	switch hole := f.place.isHole(n); {
	case n > f.known && n > f.place.Next:
		f.probes++
	case hole:
		// They are less urgent, and many of them must not use up the rate.
		wait := min(missWait*time.Duration(max(1, a.tries/4)), maxHoleWait)
		a.due = now.Add(max(wait, time.Duration(len(f.place.Holes))*700*time.Millisecond))
	case n < f.place.Next && now.Sub(a.first) >= giveUp: // an update that is not to be had
		f.place.settle(n)
		delete(f.asks, n)
	}
}

// hasten shortens the wait that missed has set, for a number in order that certainly got no 404; not for ever.
func (f *follower) hasten(n int64, now time.Time) {
	if a := f.asks[n]; a != nil && n >= f.place.Next && a.tries <= 3 {
		a.due = now.Add(badWait)
	}
}

// postpone keeps a number from being asked for too soon. An answer that was lost on its way may have been a 404.
func (f *follower) postpone(n int64, now time.Time) *ask {
	a := f.asks[n]
	if a == nil {
		a = &ask{}
		f.asks[n] = a
	}
	a.due = now.Add(missWait)
	return a
}

// old tells whether the file of a number that was written again is still the one that was taken: caches forget slowly. It is
// asked for a few times more.
func (f *follower) old(file *file, now time.Time) bool {
	const tries = 3
	r := f.recent[file.number%int64(len(f.recent))]
	if r.number != file.number || file.uploaded.Unix() != r.uploaded {
		return false
	}
	a := f.postpone(file.number, now)
	if a.stale++; a.stale > tries {
		return false
	}
	a.due = now.Add(missWait << (2 * (a.stale - 1))) // 6.5 s, 26 s, 104 s
	return true
}

// pointerReply deals with an answer about the pointer.
func (f *follower) pointerReply(ctx context.Context, r reply) (wrong, err error) {
	now := time.Now()
	f.pointerDue = now.Add(pointerEvery)
	if a := f.asks[f.place.Next]; a != nil {
		f.pointerDue = now.Add(missingEvery)
	}
	if !f.begun {
		f.pointerDue = now.Add(missWait)
	}
	if r.err != nil {
		if !f.begun && errors.Is(r.err, upstream.ErrNotFound) {
			return fmt.Errorf("there is no pointer to begin at: %w", r.err), nil
		}
		return nil, nil
	}
	n, wrong := parsePointer(r.answer.Body)
	if wrong != nil {
		return wrong, nil
	}
	if !f.begun {
		return nil, f.begin(ctx, n)
	}
	switch {
	case n > f.place.Next-farBack:
		f.back = time.Time{}
		f.known = max(f.known, n)
	case f.back.IsZero():
		f.back = now
	case now.Sub(f.back) >= farBackFor:
		f.known = n
	}
	return nil, nil
}

// begin is the first start, at the number that the pointer gives.
func (f *follower) begin(ctx context.Context, n int64) error {
	now := time.Now().Unix()
	f.known = n
	f.place.URL, f.place.Next, f.place.At = f.c.URL, max(n, 1), now
	if f.place.Began == 0 {
		f.place.Began = now
	}
	f.begun = true
	f.in.Log().Info("the source begins", "number", f.place.Next, "url", f.c.URL)
	if err := f.take(ctx); err != nil {
		return fmt.Errorf("storing the first place: %w", err)
	}
	return nil
}

func killmails(files []*file) []*killfeed.Killmail {
	ks := make([]*killfeed.Killmail, len(files))
	for i, f := range files {
		ks[i] = f.killmail
	}
	return ks
}
