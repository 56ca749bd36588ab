package names

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"killfeed/ingest/esi"
	"killfeed/ingest/upstream"
)

const (
	// maxAsked is how many ids ESI takes at once.
	maxAsked = 1000
	// gather is how long to wait after a quiet time for more of what is wanted: a killmail's names come one after another.
	gather = 100 * time.Millisecond
	// afterRefusal is how long to ask for nothing after ESI refused an id. Refusals count as errors, of which it allows a hundred
	// a minute to everything behind one address.
	afterRefusal = 2 * time.Second
	// manyRefusals is after how many in a row the wait grows, to longestRefusal: something is wrong, here or there.
	manyRefusals   = 20
	longestRefusal = 30 * time.Second
	// saveEvery is how long what was learned may wait to be written. A crash before has it asked for again.
	saveEvery = 2 * time.Second
	// maxUnsaved bounds what waits to be written while the disk is full.
	maxUnsaved = 8192
	// maxTries is how often an id may fail alone, while others do not, before it is believed to be one that ESI cannot answer.
	maxTries = 5
	// maxTroubled bounds the ids whose failures are counted.
	maxTroubled = 1024
)

// fetcher is the asking. It belongs to the goroutine of Run.
type fetcher struct {
	*Book
	// size is how many doubtful names are asked for at once. One id that does not exist makes ESI refuse all: then it is halved,
	// and doubled with each answer.
	size int
	// suspects are ids that ESI refused together: there is at least one among them that does not exist. They are flying.
	suspects []uint32
	// own: a killmail has one of the suspects. Else what is in doubt of killmails comes before them.
	own bool
	// refusals counts those since ESI last told a name.
	refusals int
	backoff  upstream.Backoff
	lastGood time.Time
	troubled map[uint32]trouble
	saved    time.Time
}

// trouble is how an id fares that was asked for alone.
type trouble struct {
	tries int
	at    time.Time
}

// Run asks ESI for what is wanted until ctx ends. It is a service; one at a time. It returns nil.
func (b *Book) Run(ctx context.Context) error {
	f := &fetcher{Book: b, size: maxAsked, troubled: map[uint32]trouble{}, saved: time.Now()}
	f.backoff.Least = 2 * time.Second
	defer func() {
		b.mu.Lock()
		for id := range maps.Clone(b.flying) { // after a panic too
			b.putBack([]uint32{id})
		}
		b.mu.Unlock()
		ring(b.wake) // for the next Run
		b.save()
	}()
	f.idle(ctx)
	for ctx.Err() == nil {
		if time.Since(f.saved) >= saveEvery {
			f.save()
			f.saved = time.Now()
		}
		if !f.one(ctx) {
			f.idle(ctx)
		}
	}
	return nil
}

// idle waits until there is something to do.
func (f *fetcher) idle(ctx context.Context) {
	var due <-chan time.Time
	f.mu.Lock()
	if len(f.unsaved) > 0 {
		due = time.After(time.Until(f.saved.Add(saveEvery)))
	}
	f.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-due:
	case <-f.wake:
		_ = upstream.Sleep(ctx, gather)
	}
}

// one sends one request, the most urgent; false: there is nothing to ask for.
func (f *fetcher) one(ctx context.Context) bool {
	if f.esi == nil {
		return false
	}
	// What is in doubt comes behind what is not, and what somebody may have made up behind all that killmails have, or whoever asks
	// for ids that do not exist would leave all others without names.
	switch {
	case f.take(ctx, maxAsked, asked, ahead), f.own && f.narrow(ctx), f.take(ctx, f.size, doubtful),
		f.take(ctx, maxAsked, guessed), f.narrow(ctx), f.take(ctx, f.size, dubious):
		return true
	}
	f.mu.Lock()
	one := f.lines[details].take(nil, 1)
	if len(one) > 0 {
		f.detail = one[0]
	}
	f.mu.Unlock()
	if len(one) > 0 {
		f.details(ctx, one[0])
		f.mu.Lock()
		f.detail = 0
		f.mu.Unlock()
		return true
	}
	return f.take(ctx, maxAsked, stale) || f.take(ctx, f.size, again)
}

// narrow asks for half of the suspects; false: there are none.
func (f *fetcher) narrow(ctx context.Context) bool {
	n := len(f.suspects)
	if n > 0 {
		f.names(ctx, f.suspects[:max(1, n/2)])
	}
	return n > 0
}

// take asks for up to n names from lines; false: there are none.
func (f *fetcher) take(ctx context.Context, n int, from ...sort) bool {
	f.mu.Lock()
	ids := f.takeNames(n, from...)
	f.mu.Unlock()
	if len(ids) == 0 {
		return false
	}
	f.names(ctx, ids)
	return true
}

// names asks for names, which are flying.
//
// When ESI refuses them, a half is asked for, and a half of that, until it answers or there is one alone, which does not exist.
// The other halves are innocent until they are refused themselves. So one that does not exist among n costs about log2(n) requests
// to find and as many small ones until all is as before, and when none exist each costs one.
func (f *fetcher) names(ctx context.Context, ids []uint32) {
	body := []byte{'['}
	for i, id := range ids {
		if i > 0 {
			body = append(body, ',')
		}
		body = strconv.AppendUint(body, uint64(id), 10)
	}
	f.count(func(s *Status) { s.Requests++ })
	answer, err := f.esi.Ask(ctx, esi.RouteNames, 0, append(body, ']'))
	switch {
	case ctx.Err() != nil:
		return // Run puts them back
	case refused(err):
		f.refused(ctx, ids)
		return
	case err != nil:
		f.failed(ctx, ids, err)
		return
	}
	names, wrong, err := readNames(answer, ids)
	if err != nil {
		f.invalid("names", err)
		f.failed(ctx, ids, err)
		return
	}
	if wrong > 0 {
		f.invalid("names", fmt.Errorf("%d names that cannot be shown or that nobody asked for", wrong))
	}
	f.good()
	now := time.Now().Unix()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		e := names[id] // without a Category when ESI left it out
		r := record{Entry: e, fetched: now}
		if old, ok := f.held(id); ok && old.Category == e.Category {
			// A name told anew says nothing of the rest.
			r.Ticker, r.Constellation, r.Region, r.Security, r.detailed = old.Ticker, old.Constellation, old.Region, old.Security, old.detailed
		}
		if e.Category == 0 {
			f.status.Unknown++
		} else {
			f.status.Fetched++
		}
		f.learn(id, r)
		delete(f.troubled, id)
	}
	f.refusals = 0
	f.size = min(f.size*2, maxAsked)
	if f.suspected(ids) {
		f.suspects = f.suspects[len(ids):] // it is among the others
	}
}

// suspected tells whether ids are the first of the suspects.
func (f *fetcher) suspected(ids []uint32) bool {
	return len(f.suspects) > 0 && &ids[0] == &f.suspects[0]
}

// refused narrows down which id does not exist.
func (f *fetcher) refused(ctx context.Context, ids []uint32) {
	f.good() // it answers
	f.refusals++
	f.mu.Lock()
	f.status.Refused++
	if f.suspected(ids) {
		f.doubt(f.suspects[len(ids):])
		f.suspects = nil
	}
	own := slices.ContainsFunc(ids, func(id uint32) bool {
		why, flies := f.flying[id]
		return flies && why.own()
	})
	switch {
	case len(ids) == 1:
		f.status.Unknown++
		f.learn(ids[0], record{fetched: time.Now().Unix()})
	case len(f.suspects) > 0 && (f.own || !own): // one after another
		f.doubt(ids)
	default:
		f.doubt(f.suspects) // these wait: no killmail has them
		f.suspects, f.own = ids, own
		f.size = max(1, len(ids)/2)
	}
	f.mu.Unlock()
	_ = upstream.Sleep(ctx, min(afterRefusal<<max(0, min(f.refusals-manyRefusals, 8)), longestRefusal))
}

// details asks for the ticker of an id, or where it lies.
func (f *fetcher) details(ctx context.Context, id uint32) {
	f.mu.Lock()
	r, ok := f.held(id)
	f.mu.Unlock()
	if !ok && f.file != nil {
		r, ok = f.file.get(id)
	}
	if !ok || !r.hasDetails() {
		return
	}
	f.count(func(s *Status) { s.Requests++ })
	answer, err := f.esi.Ask(ctx, routeOf(r.Category), id, nil)
	if ctx.Err() != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.lines[details].add(id)
		return
	}
	if err == nil {
		var e Entry
		if e, err = readDetails(answer, r.Entry); err != nil {
			f.invalid("details", err)
		} else {
			r.Entry = e
		}
	}
	gone := refused(err)
	if err != nil && !gone && !f.hopeless(id, err) {
		f.mu.Lock()
		f.lines[details].add(id)
		f.mu.Unlock()
		f.failed(ctx, nil, err)
		return
	}
	f.good()
	r.detailed = time.Now().Unix()
	f.mu.Lock()
	if gone {
		f.status.Refused++
	}
	f.keep(id, r)
	for _, next := range [...]uint32{r.Constellation, r.Region} {
		if next != 0 && possible(next) {
			if _, ok := f.held(next); !ok && !f.queued(next) {
				f.want(next, ahead)
			}
		}
	}
	f.mu.Unlock()
	delete(f.troubled, id)
	if gone {
		_ = upstream.Sleep(ctx, afterRefusal)
	}
}

func routeOf(c Category) esi.Route {
	switch c {
	case Corporation:
		return esi.RouteCorporation
	case Alliance:
		return esi.RouteAlliance
	case System:
		return esi.RouteSystem
	}
	return esi.RouteConstellation
}

// refused tells whether ESI's answer is that there is no such id.
func refused(err error) bool {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return false
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusNotFound, http.StatusGone, http.StatusUnprocessableEntity:
		return true
	}
	return false
}

// good: ESI answers.
func (f *fetcher) good() {
	f.backoff.Reset()
	f.lastGood = time.Now()
}

// failed puts names back that ESI did not answer as it should, and waits. Fewer are asked for then: perhaps it is because of one.
func (f *fetcher) failed(ctx context.Context, ids []uint32, err error) {
	alone := len(ids) == 1 && f.hopeless(ids[0], err)
	now := time.Now().UTC()
	f.mu.Lock()
	f.status.Failures++
	f.status.LastError, f.status.FailedAt = err.Error(), &now
	first := f.backoff.Failures() == 0
	if alone {
		f.learn(ids[0], record{fetched: now.Unix()})
	}
	switch {
	case len(ids) == 0:
	case f.suspected(ids):
		f.doubt(f.suspects)
		f.suspects = nil
	case len(ids) > 1:
		f.doubt(ids) // perhaps it is because of one of them
	default:
		f.putBack(ids)
	}
	f.size = max(1, f.size/2)
	f.mu.Unlock()
	f.save()
	wait := max(f.backoff.Next(0), upstream.RetryAfter(err)) // who asks for little, again and again, is asked less and less
	if first {
		f.log.Warn("ESI does not tell names; it is asked again until it does", "wait", wait.Round(time.Second), "err", err)
	}
	_ = upstream.Sleep(ctx, wait)
}

// hopeless counts that an id failed alone; true: as often as one may, while others did not.
func (f *fetcher) hopeless(id uint32, err error) bool {
	t := f.troubled[id]
	switch {
	case errors.Is(err, upstream.ErrTooMany), errors.Is(err, upstream.ErrForbidden), errors.Is(err, upstream.ErrNetwork):
		return false // it is not because of the id
	case t.tries > 0 && !f.lastGood.After(t.at):
		return false // nothing works
	}
	if len(f.troubled) >= maxTroubled {
		clear(f.troubled)
	}
	t.tries++
	t.at = time.Now()
	f.troubled[id] = t
	return t.tries >= maxTries
}

// invalid counts an answer, or a part of one, that was stepped over. The first of each sort is logged.
func (f *fetcher) invalid(what string, err error) {
	f.mu.Lock()
	f.status.Invalid++
	first := !f.told[what]
	f.told[what] = true
	f.mu.Unlock()
	if first {
		f.log.Warn("ESI's answer is not as it should be; from now on this is only counted", "answer", what, "err", err)
	}
}

func (b *Book) count(add func(*Status)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	add(&b.status)
}

// save writes what is not written yet.
func (b *Book) save() {
	b.mu.Lock()
	records := maps.Clone(b.unsaved)
	b.mu.Unlock()
	if len(records) == 0 || b.file == nil {
		return
	}
	err := b.file.put(records)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		for id, r := range records {
			if b.unsaved[id] == r { // else it was learned anew meanwhile
				delete(b.unsaved, id)
			}
		}
		return
	}
	if len(b.unsaved) > maxUnsaved {
		clear(b.unsaved)
	}
	if !b.told["file"] {
		b.told["file"] = true
		b.log.Warn("names cannot be written to their file; they are kept in memory as long as there is room", "file", b.file.path, "err", err)
	}
}
