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
	// fewErrors is how many errors of the old limit are left to others.
	fewErrors = 20
	// believed is how long tokens that others spent are thought to stay spent, before the next answer tells anew.
	believed = time.Minute
	// firstForbidden and mostForbidden bound the silence after a 403, which doubles.
	firstForbidden = 30 * time.Second
	mostForbidden  = 10 * time.Minute
	// maxPause bounds what an answer can ask for: a day that somebody mistyped must not stop the fetching for a day.
	maxPause = time.Hour
)

// statusErrorLimited is ESI's status for callers who made too many errors.
const statusErrorLimited = 420

// limits keeps ESI's two limits: the bucket of tokens, of which each answer takes some that come back one window later, and the
// older one of errors in a minute. Which of them holds for the route the first answer tells; until then one request goes at
// a time.
//
// What was spent is counted here and held against what ESI says is left. ESI's word alone does not do: it says nothing of the
// requests under way, and not when tokens come back.
type limits struct {
	slots chan struct{} // one for each request that may be under way
	every time.Duration // the least time between two requests

	mu       sync.Mutex // guards the rest
	told     bool       // some answer has come
	flying   int        // requests under way
	limit    int        // tokens in the bucket; 0: that limit does not hold
	window   time.Duration
	spent    []expense // in the last window, in order
	used     int       // their sum
	others   int       // tokens that others spent, believed until
	until    time.Time
	paused   time.Time     // until when nothing may be asked
	refusals int           // answers of 403 in a row
	next     time.Time     // when the next request may be sent at the earliest
	changed  chan struct{} // closed and made anew when a wait may be shorter than it was
}

type expense struct {
	at     time.Time
	tokens int
}

func newLimits(concurrency int, every time.Duration) *limits {
	return &limits{slots: make(chan struct{}, concurrency), every: every, changed: make(chan struct{})}
}

// begin waits until a request may be sent. Who gets nil calls end.
func (l *limits) begin(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	for {
		l.mu.Lock()
		now := time.Now()
		wait := l.wait(now)
		if wait == 0 {
			l.flying++
			l.next = now.Add(l.every)
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
			<-l.slots
			return context.Cause(ctx)
		}
		timer.Stop()
	}
}

// wait is how long to wait at least before a request may be sent; 0: not at all. It needs l.mu.
func (l *limits) wait(now time.Time) time.Duration {
	const long = time.Minute // something changes before
	if d := max(l.paused.Sub(now), l.next.Sub(now)); d > 0 {
		return d
	}
	if !l.told {
		if l.flying > 0 {
			return long
		}
		return 0
	}
	if l.limit == 0 {
		return 0
	}
	l.forget(now)
	if l.limit-l.used-l.others-dearest*(l.flying+1) >= min(margin, l.limit/10) {
		return 0
	}
	wait := long
	if len(l.spent) > 0 {
		wait = min(wait, l.spent[0].at.Add(l.window).Sub(now))
	}
	if l.others > 0 {
		wait = min(wait, l.until.Sub(now))
	}
	return max(wait, time.Millisecond)
}

// forget drops what has come back. It needs l.mu.
func (l *limits) forget(now time.Time) {
	for len(l.spent) > 0 && now.Sub(l.spent[0].at) >= l.window {
		l.used -= l.spent[0].tokens
		l.spent = l.spent[1:]
	}
	if !now.Before(l.until) {
		l.others = 0
	}
}

// end accounts for the answer of a request, if there was one; the status is 0 when there was none.
func (l *limits) end(status int, h http.Header) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	<-l.slots
	l.flying--
	close(l.changed)
	l.changed = make(chan struct{})
	if status == 0 {
		return
	}
	l.told = true
	l.readTokens(now, status, h)
	if remain, ok := number(h, "X-Esi-Error-Limit-Remain"); ok && remain <= fewErrors {
		reset, ok := number(h, "X-Esi-Error-Limit-Reset")
		if !ok {
			reset = 60
		}
		l.pause(now, time.Duration(reset)*time.Second)
	}
	switch status {
	case http.StatusTooManyRequests, statusErrorLimited:
		wait := retryAfter(h, now)
		if wait == 0 {
			wait = time.Minute // the window of the old limit; the new one always tells
		}
		l.pause(now, wait)
	case http.StatusForbidden, http.StatusUnauthorized:
		l.pause(now, min(firstForbidden<<min(l.refusals, 10), mostForbidden))
		l.refusals++
		return
	}
	l.refusals = 0
}

// readTokens learns from the headers of the bucket. It needs l.mu.
func (l *limits) readTokens(now time.Time, status int, h http.Header) {
	size, window, ok := parseLimit(h.Get("X-Ratelimit-Limit"))
	if !ok {
		if h.Get("X-Esi-Error-Limit-Remain") != "" {
			l.limit = 0 // the families exclude each other
		}
		if l.limit == 0 {
			return
		}
	} else {
		l.limit, l.window = size, window
	}
	if cost := tokens(status); cost > 0 {
		l.spent = append(l.spent, expense{now, cost})
		l.used += cost
	}
	l.forget(now)
	if remaining, ok := number(h, "X-Ratelimit-Remaining"); ok {
		// What is missing beyond our own may be what our requests under way have cost already.
		l.others = max(0, l.limit-l.used-remaining-dearest*l.flying)
		l.until = now.Add(believed)
	}
}

// pause asks for silence. It needs l.mu.
func (l *limits) pause(now time.Time, d time.Duration) {
	// A little longer than asked for: the answer was some time under way, and clocks differ.
	if until := now.Add(min(d, maxPause) + 100*time.Millisecond); until.After(l.paused) {
		l.paused = until
	}
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
