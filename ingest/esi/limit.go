package esi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// dearest is what the dearest answer costs in tokens.
	dearest = 5
	// margin is how many tokens are left for others behind the same address, as zKillboard does; less of a small bucket.
	margin = 100
	// fewErrors is how many errors of the old limit are left to others, and fewErrorsAside how many to killmails by what else is
	// asked.
	fewErrors      = 20
	fewErrorsAside = 60
	// believed is how long tokens that others spent are thought to stay spent, before the next answer tells anew.
	believed = time.Minute
	// firstForbidden and mostForbidden bound the silence after a 403, which doubles.
	firstForbidden = 30 * time.Second
	mostForbidden  = 10 * time.Minute
	// maxPause bounds what an answer can ask for: a day that somebody mistyped must not stop the fetching for a day.
	maxPause = time.Hour
	// everyAside is the least time between two requests for something else than killmails.
	everyAside = 400 * time.Millisecond
	// longestYield is how long one of them lets killmails go first, so that a backfill of days does not leave all without a name.
	longestYield = 10 * time.Second
)

// statusErrorLimited is ESI's status for callers who made too many errors.
const statusErrorLimited = 420

// limits keeps ESI's limits: buckets of tokens, of which each answer takes some that come back one window later, one bucket a
// route, and the older one of errors in a minute, which all routes share. Which of them holds for a route its first answer
// tells; until then one request goes at a time.
//
// What was spent is counted here and held against what ESI says is left. ESI's word alone does not do: it says nothing of the
// requests under way, and not when tokens come back.
//
// Killmails go first. Everything else is asked for one at a time and not often, gives way to killmails that wait, and stops
// while many errors are still allowed.
type limits struct {
	every time.Duration // the least time between two requests

	mu       sync.Mutex    // guards the rest, and the buckets
	waiting  int           // killmails that are waiting to be asked for
	paused   time.Time     // until when nothing may be asked
	refusals int           // answers of 403 in a row
	next     time.Time     // when the next request may be sent at the earliest
	aside    time.Time     // and when the next one for something else
	few      time.Time     // until when few errors are allowed, so that only killmails are asked for
	changed  chan struct{} // closed and made anew when a wait may be shorter than it was
}

// bucket is the tokens of one route.
type bucket struct {
	slots chan struct{} // one for each request that may be under way
	aside bool          // it is for something else than killmails

	// The rest is guarded by limits.mu.
	told   bool // some answer has come
	flying int  // requests under way
	limit  int  // tokens in the bucket; 0: that limit does not hold
	window time.Duration
	spent  []expense // in the last window, in order
	used   int       // their sum
	others int       // tokens that others spent, believed until
	until  time.Time
	paused time.Time // until when nothing may be asked on this route
}

type expense struct {
	at     time.Time
	tokens int
}

func newLimits(every time.Duration) *limits {
	return &limits{every: every, changed: make(chan struct{})}
}

// begin waits until a request may be sent. Who gets nil calls end.
func (l *limits) begin(ctx context.Context, b *bucket) error {
	if !b.aside {
		l.wait(1)
		defer l.wait(-1)
	}
	select {
	case b.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for begun := time.Now(); ; {
		l.mu.Lock()
		now := time.Now()
		wait := l.left(now, b)
		if b.aside {
			wait = max(wait, l.leftAside(now, begun))
		}
		if wait == 0 {
			b.flying++
			l.next = now.Add(l.every)
			if b.aside {
				l.aside = now.Add(everyAside)
			}
			l.mu.Unlock()
			return nil
		}
		changed := l.changed
		l.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			<-b.slots
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// wait counts killmails that wait to be asked for, one more or one less.
func (l *limits) wait(more int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting += more; l.waiting == 0 {
		l.hasChanged()
	}
}

// hasChanged needs l.mu.
func (l *limits) hasChanged() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// left is how long to wait at least before a request may be sent; 0: not at all. It needs l.mu.
func (l *limits) left(now time.Time, b *bucket) time.Duration {
	const long = time.Minute // something changes before
	if d := max(l.paused.Sub(now), l.next.Sub(now), b.paused.Sub(now)); d > 0 {
		return d
	}
	if !b.told {
		if b.flying > 0 {
			return long
		}
		return 0
	}
	if b.limit == 0 {
		return 0
	}
	b.forget(now)
	if b.limit-b.used-b.others-dearest*(b.flying+1) >= min(margin, b.limit/10) {
		return 0
	}
	wait := long
	if len(b.spent) > 0 {
		wait = min(wait, b.spent[0].at.Add(b.window).Sub(now))
	}
	if b.others > 0 {
		wait = min(wait, b.until.Sub(now))
	}
	return max(wait, time.Millisecond)
}

// leftAside is how long something else than a killmail has to wait beyond that, which has waited since begun. It needs l.mu.
func (l *limits) leftAside(now, begun time.Time) time.Duration {
	wait := max(l.aside.Sub(now), l.few.Sub(now), 0)
	if l.waiting > 0 {
		wait = max(wait, begun.Add(longestYield).Sub(now))
	}
	return wait
}

// forget drops what has come back. It needs limits.mu.
func (b *bucket) forget(now time.Time) {
	for len(b.spent) > 0 && now.Sub(b.spent[0].at) >= b.window {
		b.used -= b.spent[0].tokens
		b.spent = b.spent[1:]
	}
	if !now.Before(b.until) {
		b.others = 0
	}
}

// end accounts for the answer of a request, if there was one; the status is 0 when there was none.
func (l *limits) end(b *bucket, status int, h http.Header) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	<-b.slots
	b.flying--
	l.hasChanged()
	if status == 0 {
		return
	}
	b.told = true
	b.readTokens(now, status, h)
	if remain, ok := number(h, "X-Esi-Error-Limit-Remain"); ok && remain <= fewErrorsAside {
		reset, ok := number(h, "X-Esi-Error-Limit-Reset")
		if !ok {
			reset = 60
		}
		until := silence(now, time.Duration(reset)*time.Second)
		if l.few = later(l.few, until); remain <= fewErrors {
			l.paused = later(l.paused, until)
		}
	}
	switch status {
	case http.StatusTooManyRequests, statusErrorLimited:
		wait := retryAfter(h, now)
		if wait == 0 {
			wait = time.Minute // the window of the old limit; the new one always tells
		}
		if _, _, own := parseLimit(h.Get("X-Ratelimit-Limit")); own && b.aside {
			b.paused = later(b.paused, silence(now, wait)) // its own bucket is empty, which is nothing to killmails
			break
		}
		l.paused = later(l.paused, silence(now, wait))
	case http.StatusForbidden, http.StatusUnauthorized:
		l.paused = later(l.paused, silence(now, min(firstForbidden<<min(l.refusals, 10), mostForbidden)))
		l.refusals++
		return
	}
	l.refusals = 0
}

// readTokens learns from the headers of the bucket. It needs limits.mu.
func (b *bucket) readTokens(now time.Time, status int, h http.Header) {
	size, window, ok := parseLimit(h.Get("X-Ratelimit-Limit"))
	if !ok {
		if h.Get("X-Esi-Error-Limit-Remain") != "" {
			b.limit = 0 // the families exclude each other
		}
		if b.limit == 0 {
			return
		}
	} else {
		b.limit, b.window = size, window
	}
	if cost := tokens(status); cost > 0 {
		b.spent = append(b.spent, expense{now, cost})
		b.used += cost
	}
	b.forget(now)
	if remaining, ok := number(h, "X-Ratelimit-Remaining"); ok {
		// What is missing beyond our own may be what our requests under way have cost already.
		b.others = max(0, b.limit-b.used-remaining-dearest*b.flying)
		b.until = now.Add(believed)
	}
}

// silence is the end of a silence that was asked for: a little later, for the answer was some time under way, and clocks differ.
func silence(now time.Time, d time.Duration) time.Time {
	return now.Add(min(d, maxPause) + 100*time.Millisecond)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// tokens is what an answer costs.
func tokens(status int) int {
	switch {
	case status == http.StatusTooManyRequests || status == statusErrorLimited || status >= 500:
		return 0
	case status >= 400:
		return dearest
	case status >= 300:
		return 1
	}
	return 2
}

// parseLimit reads a limit as in 3600/15m.
func parseLimit(s string) (size int, window time.Duration, ok bool) {
	number, per, _ := strings.Cut(s, "/")
	size, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || size < 1 {
		return 0, 0, false
	}
	window, err = time.ParseDuration(strings.TrimSpace(per))
	return size, window, err == nil && window > 0 && window <= 24*time.Hour
}

func number(h http.Header, name string) (int, bool) {
	n, err := strconv.Atoi(strings.TrimSpace(h.Get(name)))
	return n, err == nil && n >= 0
}

// retryAfter is the wait that an answer asks for, 0 when it asks for none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return time.Duration(min(seconds, int(maxPause/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	if reset, ok := number(h, "X-Esi-Error-Limit-Reset"); ok {
		return time.Duration(reset) * time.Second
	}
	return 0
}
