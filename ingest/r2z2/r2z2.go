// Package r2z2 follows zKillboard's R2Z2: numbered files, one for each killmail, and a pointer that lags behind the newest.
//
// # What it guarantees
//
// Order: killmails are taken in the order of their numbers, but for those whose file was not there in time and what is
// repaired from history.
//
// Nothing is left out in silence: a number without a file holds the others up for at most half a minute once a later file is
// there; it is asked for on, for ten minutes, and after that the days that it may belong to are looked through in history,
// as they are when the source was away for longer than files stay. History has a day some hours after its end, and a killmail
// that was released days late may escape it.
//
// Every file is what it was asked for: its number, killmail id and hash are verified. What is not is asked for again, like
// what is missing.
//
// Manners: the Client's rate; at least 6 s between a 404 and the same question, also across restarts, for which a start waits
// once; Retry-After; pauses after refusals.
//
// # How
//
// One goroutine decides and takes. What is due is asked for in bursts of a few numbers at a time; what comes out of order waits
// for its turn, bounded. History is read by a second goroutine, which hands its killmails to the first, because a place and
// what was taken go into the log together.
package r2z2

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"killfeed/ingest"
	"killfeed/ingest/history"
	"killfeed/ingest/upstream"
)

// DefaultURL is zKillboard's.
const DefaultURL = "https://r2z2.zkillboard.com"

// Config is what a Source needs.
type Config struct {
	// Client asks. It is the source's own, or shared with what asks the same host.
	Client *upstream.Client
	// URL is the base, to which /ephemeral and /history are appended; empty: DefaultURL.
	URL string
	// Known tells whether the log has a killmail. With it, repairs read only what is missing; nil: they read whole days and
	// leave it to the log.
	Known func(killmailID int64) (bool, error)
	// Body gets a killmail's body from ESI, for repairs of what history has only a hash of; nil: nobody does.
	Body func(ctx context.Context, id int64, hash string) ([]byte, error)
}

// Source follows R2Z2. It implements ingest.Source.
type Source struct {
	c       Config
	history *history.ZKillboard
}

// New makes a Source.
func New(c Config) *Source {
	if c.URL == "" {
		c.URL = DefaultURL
	}
	c.URL = strings.TrimRight(c.URL, "/")
	return &Source{c: c, history: &history.ZKillboard{Client: c.Client, URL: c.URL, Body: c.Body}}
}

const (
	// missWait is between a miss and the next question for the same number. The rule is 6 s; the rest is for clocks.
	missWait = 6500 * time.Millisecond
	// holdUp is how long a missing number holds up later ones, and giveUp how long it is asked for after that.
	holdUp = 30 * time.Second
	giveUp = 10 * time.Minute
	// maxHoleWait bounds how far apart questions for a hole become.
	maxHoleWait = 30 * time.Second
	// retention is how long files are relied on to stay; upstream keeps them for about 24 h.
	retention = 20 * time.Hour
	// farAhead: with the pointer so far ahead and nothing there in between, the numbers are not coming any more.
	farAhead = 200
	// A pointer so far back, for so long, means that numbering began anew.
	farBack, farBackFor = 1000, 10 * time.Minute
	// badWait is after an answer that was certainly no 404, but no good either, the first few times.
	badWait = 2 * time.Second
	// window is how many numbers from the next one on are asked for before that one is there, and burst how many questions
	// make a burst.
	window, burst = 24, 16
	// pointerEvery is how often the pointer is read, and missingEvery how often when the next number is missing.
	pointerEvery, missingEvery = time.Minute, 30 * time.Second
	// takeTimeout bounds an insert. It is the watchdog of a log that hangs: the source ends and is started again.
	takeTimeout = 2 * time.Minute
	// maxHold is longer than any pause: Retry-After counts for an hour at most.
	maxHold    = 75 * time.Minute
	maxBatch   = 64
	maxFile    = 8 << 20
	maxPointer = 4 << 10
	// lateness is how long players may hold back their killmails: so far back history is searched when numbers were missed.
	lateness = 72 * time.Hour
)

// follower is one run of Follow. Its fields belong to the goroutine of Follow.
type follower struct {
	*Source
	in    *ingest.Intake
	place place

	// known is the highest number that is known to have been given out.
	known int64
	// asks are numbers that were asked for in vain, got are files of numbers from place.Next on. laterAt is when got became
	// other than empty; zero while it is empty.
	asks    map[int64]*ask
	got     map[int64]*file
	laterAt time.Time
	// pointerDue is when the pointer is to be read; back is since when it is far back, zero when it is not.
	pointerDue, back time.Time
	probes           int64
	// begun is set when a place is stored.
	begun bool
	// lag is between the publication and the taking of what was taken last.
	lag time.Duration
	// recent are upload times of files that were taken, by number modulo its length.
	recent [4096]struct{ number, uploaded int64 }

	hold      time.Time // nothing is asked for before
	failures  upstream.Backoff
	forbidden upstream.Backoff
	busy      upstream.Backoff

	repair repairs
}

// ask is what is known of a number that was asked for in vain.
type ask struct {
	// first and last are when it was missed, zero when it was not yet; due is when it may be asked for again.
	first, last, due time.Time
	// tries counts the misses, stale the answers that were an old version.
	tries, stale int
	// err is why the last file was refused; nil when there was none.
	err error
}

// Follow implements ingest.Source.
func (s *Source) Follow(ctx context.Context, in *ingest.Intake) error {
	f := &follower{
		Source: s, in: in, asks: map[int64]*ask{}, got: map[int64]*file{},
		failures: upstream.Backoff{Least: time.Second}, busy: upstream.Backoff{Least: 10 * time.Second},
		forbidden: upstream.Backoff{Least: 30 * time.Second, Most: 10 * time.Minute},
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	f.repair = repairs{wg: &wg, due: map[string]time.Time{}, failed: map[string]int{}}

	if err := f.start(ctx); err != nil {
		return err
	}
	for {
		if err := f.settle(ctx); err != nil {
			return err
		}
		if err := f.startRepair(ctx); err != nil {
			return err
		}
		if wait := time.Until(f.hold); wait > 0 {
			if err := f.idle(ctx, wait); err != nil {
				return err
			}
			continue
		}
		numbers, wait := f.due()
		if len(numbers) == 0 {
			if err := f.idle(ctx, wait); err != nil {
				return err
			}
			continue
		}
		if err := f.ask(ctx, numbers); err != nil {
			return err
		}
	}
}

// start reads the place. A run that has one waits before its first question: the one before may have missed the same number
// a moment ago.
func (f *follower) start(ctx context.Context) error {
	text, err := f.in.Place()
	if err != nil {
		return fmt.Errorf("reading the stored place: %w", err)
	}
	if f.place, err = parsePlace(text); err != nil {
		f.in.Log().Warn("the source begins anew at the newest killmail; what it missed can be had with killfeed backfill", "err", err)
		f.place = place{}
	}
	now := time.Now()
	if f.place.URL != "" && f.place.URL != f.c.URL {
		f.in.Log().Info("the upstream is another one, with other numbers: the source begins at its newest killmail",
			"before", f.place.URL, "now", f.c.URL)
		f.owe(time.Unix(f.place.At, 0), now)
		f.place = place{Began: f.place.Began, At: f.place.At, Owed: f.place.Owed}
	}
	f.begun = f.place.URL != "" && f.place.Next > 0
	if text == "" {
		return nil
	}
	// A wait beyond what is ever stored comes of a clock that was set back.
	hold := min(time.Until(time.Unix(f.place.Hold, 0)), maxHold)
	f.c.Client.Pause(hold)
	return upstream.Sleep(ctx, max(missWait, hold))
}

// idle waits, and takes what comes from history meanwhile.
func (f *follower) idle(ctx context.Context, wait time.Duration) error {
	if f.begun && f.repair.out == nil && !time.Now().Before(f.hold) {
		for _, day := range f.place.Owed {
			wait = min(wait, time.Until(f.repair.due[day]))
		}
	}
	t := time.NewTimer(max(wait, time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case r := <-f.repair.out:
		return f.repaired(ctx, r)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// take stores killmails and the place.
func (f *follower) take(ctx context.Context, files ...*file) error {
	ctx, cancel := context.WithTimeoutCause(ctx, takeTimeout, errors.New("the log has not taken it in time"))
	defer cancel()
	if err := f.in.Take(ctx, f.place.text(), killmails(files)...); err != nil {
		return err
	}
	for _, file := range files {
		f.recent[file.number%int64(len(f.recent))] = struct{ number, uploaded int64 }{file.number, file.uploaded.Unix()}
	}
	if len(files) > 0 {
		last := files[len(files)-1]
		f.lag = 0
		if !last.uploaded.IsZero() {
			f.lag = time.Since(last.uploaded)
		}
	}
	return nil
}

// behind is how many killmails are known to be there and not taken; nobody knows that of holes.
func (f *follower) behind() int64 { return max(0, f.known-f.place.Next+1) }

// settle takes what has its turn, opens holes and closes them, and gives up what will not come.
func (f *follower) settle(ctx context.Context) error {
	if !f.begun {
		return nil
	}
	changed := false
	var batch []*file
	for len(batch) < maxBatch {
		n := f.place.Next
		if file := f.got[n]; file != nil {
			delete(f.got, n)
			delete(f.asks, n)
			f.place.Next++
			f.place.At = f.publication(file)
			f.place.announce(file.updated)
			batch = append(batch, file)
			continue
		}
		if !f.missing(n) {
			break
		}
		f.in.Log().Info("a number has no file while later ones have: it is asked for on, and the others are taken", "number", n)
		f.place.Next++
		if dropped := f.place.open(n, time.Now()); dropped != nil {
			f.abandon(*dropped)
		}
		changed = true
	}
	if len(f.got) == 0 {
		f.laterAt = time.Time{}
	}
	for _, h := range f.place.Holes {
		a := f.asks[h.Number]
		opened := time.Unix(h.Since, 0)
		if a != nil && a.tries >= 3 && a.last.Sub(opened) >= giveUp {
			f.abandon(h)
			f.place.close(h.Number)
			changed = true
			break // the list has changed; the next round looks on
		}
	}
	if len(batch) > 0 || changed {
		if err := f.take(ctx, batch...); err != nil {
			return err
		}
		f.stands()
	}
	return f.jumpIfLost(ctx)
}

// publication is when a file was published, in Unix seconds; not in the future, nor before what the place says already: clocks
// are wrong, and a place that seems old is left.
func (f *follower) publication(file *file) int64 {
	now := time.Now().Unix()
	if file.uploaded.IsZero() {
		return now
	}
	return min(max(file.uploaded.Unix(), f.place.At), now)
}

// missing tells whether the next number is to be passed over: it was missed for holdUp, and once more since a later file came.
func (f *follower) missing(n int64) bool {
	a := f.asks[n]
	return a != nil && !a.first.IsZero() && time.Since(a.first) >= holdUp && !f.laterAt.IsZero() && a.last.After(f.laterAt)
}

// abandon gives a hole up to history.
func (f *follower) abandon(h hole) {
	a := f.asks[h.Number]
	delete(f.asks, h.Number)
	err := fmt.Errorf("number %d has had no file for %v", h.Number, giveUp)
	if a != nil && a.err != nil {
		f.in.Bad("file that never became right", a.err)
		err = a.err
	}
	f.in.Log().Warn("a number is given up; history is searched for its killmail", "number", h.Number, "err", err)
	at := time.Unix(h.Since, 0)
	f.owe(at, at)
}

// owe notes that history has to be searched for what was published from one time to another.
func (f *follower) owe(from, to time.Time) {
	if left := f.place.owe(from.Add(-lateness), to); left > 0 {
		f.in.Log().Warn("so many days were missed that the oldest are not repaired: use killfeed backfill", "days", left)
	}
	f.repair.due = map[string]time.Time{} // what was looked through is looked through again
}

// jumpIfLost goes on at the pointer when the numbers from the next one on will not come any more.
func (f *follower) jumpIfLost(ctx context.Context) error {
	now := time.Now()
	a := f.asks[f.place.Next]
	if a == nil || a.first.IsZero() {
		return nil
	}
	if !f.back.IsZero() && now.Sub(f.back) >= farBackFor && now.Sub(a.first) >= farBackFor {
		return f.jump(ctx, f.known, "its numbers began anew")
	}
	if f.known <= f.place.Next {
		return nil
	}
	for n := f.place.Next; n < f.place.Next+window && n < f.known; n++ {
		if a := f.asks[n]; a == nil || a.first.IsZero() || f.got[n] != nil {
			return nil
		}
	}
	switch {
	case now.Sub(time.Unix(f.place.At, 0)) > retention:
		return f.jump(ctx, f.known, "the source was away for longer than files stay")
	case f.known-f.place.Next >= farAhead && now.Sub(a.first) >= holdUp && f.got[f.known] != nil:
		return f.jump(ctx, f.known, "the numbers are not there any more")
	}
	return nil
}

// jump goes on at a number. What lies between is repaired from history.
func (f *follower) jump(ctx context.Context, to int64, why string) error {
	now := time.Now()
	f.in.Log().Warn("the source goes on at the newest killmail and repairs what lies between from history",
		"why", why, "from", f.place.Next, "to", to)
	f.owe(time.Unix(f.place.At, 0), now)
	for _, h := range f.place.Holes {
		f.owe(time.Unix(h.Since, 0), time.Unix(h.Since, 0))
	}
	f.place.Next, f.place.At, f.place.Holes, f.place.Again = max(to, 1), now.Unix(), nil, nil
	clear(f.asks)
	clear(f.got)
	f.laterAt, f.back = time.Time{}, time.Time{}
	return f.take(ctx)
}

// stands tells how the source stands.
func (f *follower) stands() {
	f.in.Lag(f.lag, f.behind())
	switch behind := f.behind(); {
	case behind > 5:
		f.in.Is(ingest.CatchingUp, fmt.Sprintf("%d killmails behind", behind))
	case len(f.place.Holes) > 0:
		f.in.Is(ingest.Following, fmt.Sprintf("%d numbers have no file yet", len(f.place.Holes)))
	default:
		f.in.Is(ingest.Following, "")
	}
}
