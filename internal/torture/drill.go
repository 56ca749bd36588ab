package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"killfeed"
	"killfeed/pebblestore"
	"killfeed/storetest"
)

// drill is a whole feed in this process, on a file system that can be failed, with a workload of every kind of write: inserts in groups
// and with a source's place, automatic and manual commits, seeks, collections, and clean restarts. One goroutine does it, one call after
// the other; so killmail n of it is event n+1, whatever had to be tried again.
type drill struct {
	rnd   *rand.Rand
	maker *storetest.Maker
	feed  *killfeed.Feed
	store *pebblestore.Store
	sheet sheet
	seq   int // calls made
}

// sheet is what the drill was told: what must be there afterwards, whatever happens, and what may. Other goroutines copy it.
type sheet struct {
	mu    sync.Mutex // guards the rest; the drill alone changes it
	told  told
	mails []*killfeed.Killmail // only appended to
}

// all are the killmails so far.
func (s *sheet) all() []*killfeed.Killmail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mails
}

// add adds a killmail.
func (s *sheet) add(k *killfeed.Killmail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mails = append(s.mails, k)
}

// told is a moment of the sheet.
type told struct {
	epoch        killfeed.Epoch
	acked, tried int // killmails
	bounds       []bound
	// first is the first kept event that was acknowledged; a collection that is on its way may bring it up to mayFirst.
	first, mayFirst killfeed.EventID
	clients         map[string]client
}

// bound is where a group of killmails ends, with the source's place behind it.
type bound struct {
	end   int
	place string
}

// client is where a client stands: exactly at, or with a call on its way, at may; with automatic commit anywhere up to the greater.
type client struct {
	automatic bool
	at, may   killfeed.EventID
	made      bool // its first call was answered
	durable   bool // and the disk took it: on one that takes nothing a client begins in memory
}

const source = "drill"

var everything = []killfeed.Topic{killfeed.All()}

func newDrill(seed uint64) *drill {
	return &drill{
		rnd:   rand.New(rand.NewPCG(seed, 1)),
		maker: storetest.NewMaker(storetest.MakerOptions{Seed: seed, Systems: 7, Bytes: 400, Attackers: 1}),
		sheet: sheet{told: told{first: 1, mayFirst: 1, bounds: []bound{{}}, clients: map[string]client{}}},
	}
}

// now is what was told so far.
func (s *sheet) now() told {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.told
	t.bounds, t.clients = slices.Clone(t.bounds), maps.Clone(t.clients)
	return t
}

func (s *sheet) note(f func(t *told)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.told)
}

// open opens the feed on the file system.
func (d *drill) open(fs vfs.FS) error {
	store, feed, err := openFeed(fs, false)
	if err != nil {
		return err
	}
	d.store, d.feed = store, feed
	d.sheet.note(func(t *told) { t.epoch = feed.State().Epoch })
	return nil
}

// openFeed opens a feed with the specification's rule of retention, which removes the most.
func openFeed(fs vfs.FS, readOnly bool) (*pebblestore.Store, *killfeed.Feed, error) {
	store, err := pebblestore.Open("data", pebblestore.Options{
		FS: fs, Cache: 1 << 20, Tail: 1 << 16, MinFree: 1, ReadOnly: readOnly, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, nil, err
	}
	feed, err := killfeed.Open(store, killfeed.Options{})
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return store, feed, nil
}

// violation is a promise that was broken.
type violation struct{ promise, what string }

func (v violation) Error() string { return v.promise + ": " + v.what }

func broken(promise, format string, args ...any) error {
	return violation{promise, fmt.Sprintf(format, args...)}
}

// step makes one call of a random kind. The error is what the feed said, or a violation.
func (d *drill) step(ctx context.Context) error {
	d.seq++
	r := d.rnd
	switch n := r.IntN(20); {
	case n < 9 || len(d.sheet.all()) == 0:
		return d.insert(ctx, 1+r.IntN(4), "")
	case n < 11:
		return d.insert(ctx, r.IntN(3), fmt.Sprintf("place %d", d.seq))
	case n < 14:
		return d.fetch(ctx, fmt.Sprintf("automatic %d", r.IntN(2)), true)
	case n < 16:
		return d.fetch(ctx, "manual", false)
	case n < 17:
		return d.seek(ctx)
	case n < 18:
		return d.collect(ctx)
	default:
		return d.next(ctx)
	}
}

// insert inserts new killmails, all or none, or what an earlier call got no answer for.
func (d *drill) insert(ctx context.Context, n int, place string) error {
	t := d.sheet.now()
	if t.tried == t.acked && n+len(place) > 0 {
		for range n {
			d.sheet.add(d.maker.Next())
		}
		last := t.bounds[len(t.bounds)-1].place
		if place != "" {
			last = place
		}
		d.sheet.note(func(t *told) {
			t.tried += n
			t.bounds = append(t.bounds, bound{t.tried, last})
		})
		t = d.sheet.now()
	}
	group := d.sheet.all()[t.acked:t.tried]
	last := t.bounds[len(t.bounds)-1]
	var results []killfeed.InsertResult
	var err error
	if place != "" || len(t.bounds) > 1 && t.bounds[len(t.bounds)-2].place != last.place {
		results, err = d.feed.InsertFrom(ctx, group, 0, killfeed.Checkpoint{Source: source, Place: last.place})
	} else {
		results, err = d.feed.InsertAll(ctx, group, 0)
	}
	if err != nil {
		return fmt.Errorf("inserting %d killmails behind %d: %w", len(group), t.acked, err)
	}
	for i, res := range results {
		if want := killfeed.EventID(t.acked + i + 1); res.EventID != want {
			return broken("ids reused", "killmail %d became event %d, want %d", group[i].ID, res.EventID, want)
		}
	}
	d.sheet.note(func(t *told) { t.acked = t.tried })
	return nil
}

// began notes that a call of a client is on its way, which may move it to may.
func (d *drill) began(name string, automatic bool, may killfeed.EventID) {
	d.sheet.note(func(t *told) {
		c := t.clients[name]
		c.automatic, c.may = automatic, may
		t.clients[name] = c
	})
}

// stands notes where a client was told to be.
func (d *drill) stands(name string, at killfeed.EventID) {
	healthy := d.feed.Health() == nil
	d.sheet.note(func(t *told) {
		c := t.clients[name]
		c.at, c.may, c.made, c.durable = at, at, true, c.durable || healthy
		t.clients[name] = c
	})
}

// fetch reads for a client, and commits by its own word unless automatic.
func (d *drill) fetch(ctx context.Context, name string, automatic bool) error {
	t := d.sheet.now()
	at := d.at(name)
	stood := at
	limit := 1 + d.rnd.IntN(6)
	if automatic {
		d.began(name, automatic, killfeed.EventID(t.tried))
	} else {
		d.began(name, automatic, at)
	}
	answer, err := d.feed.Fetch(ctx, name, killfeed.Read{Topics: everything, Limit: limit, Manual: !automatic})
	if err != nil {
		return fmt.Errorf("fetching for %s: %w", name, err)
	}
	if at, err = d.took(name, answer, at); err != nil {
		return err
	}
	if automatic || len(answer.Events) == 0 {
		if automatic {
			d.stands(name, at)
		} else {
			d.stands(name, stood)
		}
		return nil
	}
	d.stands(name, stood)
	return d.commit(ctx, name, at)
}

func (d *drill) commit(ctx context.Context, name string, at killfeed.EventID) error {
	d.began(name, false, at)
	if _, err := d.feed.Commit(ctx, name, map[killfeed.Topic]killfeed.EventID{killfeed.All(): at}); err != nil {
		return fmt.Errorf("committing %d for %s: %w", at, name, err)
	}
	d.stands(name, at)
	return nil
}

// resolve notes where the feed has the clients whose last call was not answered: there, or where they were before it.
func (d *drill) resolve() error {
	st := d.feed.State()
	for name, c := range d.sheet.now().clients {
		if c.at == c.may && c.made {
			continue
		}
		info, err := d.feed.Client(name)
		if errors.Is(err, killfeed.ErrNotFound) && !c.made {
			continue
		}
		if err != nil {
			return err
		}
		if err := stands(d.feed, name, c, c, st); err != nil {
			return err
		}
		d.stands(name, info.Offsets[killfeed.All()])
	}
	return nil
}

// next takes the next event for a client.
func (d *drill) next(ctx context.Context) error {
	const name = "next"
	t := d.sheet.now()
	d.began(name, true, killfeed.EventID(t.tried))
	answer, err := d.feed.Next(ctx, name, killfeed.Read{Topics: everything})
	if err != nil {
		return fmt.Errorf("next for %s: %w", name, err)
	}
	at, err := d.took(name, answer, d.at(name))
	if err == nil {
		d.stands(name, at)
	}
	return err
}

// at is where a client stands: before its first call, in front of what is kept.
func (d *drill) at(name string) killfeed.EventID {
	if c := d.sheet.now().clients[name]; c.made {
		return c.at
	}
	return d.feed.State().First - 1
}

// took checks the events of an answer to a client who stands at that event, and returns where it stands then.
func (d *drill) took(name string, answer killfeed.Answer, at killfeed.EventID) (killfeed.EventID, error) {
	if answer.Gap != nil {
		return at, broken("events skipped", "client %s at %d is told the gap %v", name, at, *answer.Gap)
	}
	for _, e := range answer.Events {
		if e.ID != at+1 {
			return at, broken("events skipped", "client %s gets event %d behind %d", name, e.ID, at)
		}
		if err := d.sheet.same(e); err != nil {
			return at, err
		}
		at = e.ID
	}
	return at, nil
}

// same compares an event with the killmail that was inserted.
func (s *sheet) same(e killfeed.Event) error {
	mails := s.all()
	if n := int(e.ID) - 1; n >= len(mails) || !bytes.Equal(e.Killmail, mails[n].JSON) || e.SystemID != mails[n].SystemID {
		return broken("served damaged", "event %d of system %d is %.80s", e.ID, e.SystemID, e.Killmail)
	}
	return nil
}

func (d *drill) seek(ctx context.Context) error {
	const name = "seeker"
	t := d.sheet.now()
	first := d.feed.State().First
	if killfeed.EventID(t.acked) < first {
		return nil
	}
	to := first + killfeed.EventID(d.rnd.IntN(t.acked-int(first)+1))
	d.began(name, false, to-1)
	if _, err := d.feed.Seek(ctx, name, killfeed.StartAt(to), everything); err != nil {
		return fmt.Errorf("seeking to %d: %w", to, err)
	}
	d.stands(name, to-1)
	return nil
}

func (d *drill) collect(ctx context.Context) error {
	d.sheet.note(func(t *told) {
		t.mayFirst = killfeed.EventID(t.tried) + 1
		for _, c := range t.clients {
			if c.made {
				t.mayFirst = min(t.mayFirst, max(c.at, c.may)+1)
			}
		}
		t.mayFirst = max(t.mayFirst, t.first)
	})
	if _, err := d.feed.Collect(ctx); err != nil {
		return fmt.Errorf("collecting: %w", err)
	}
	first := d.feed.State().First
	var err error
	d.sheet.note(func(t *told) {
		if first < t.first || first > t.mayFirst {
			err = broken("events skipped", "a collection leaves the events from %d on, want %d to %d", first, t.first, t.mayFirst)
		}
		t.first, t.mayFirst = first, first
	})
	return err
}

// reads checks that reading goes on while nothing can be written: all that was acknowledged is served.
func (d *drill) reads(ctx context.Context) error {
	t := d.sheet.now()
	st := d.feed.State()
	if st.Head < killfeed.EventID(t.acked) {
		return broken("acknowledged inserts lost", "%d were acknowledged, the head is %d", t.acked, st.Head)
	}
	return d.sheet.log(ctx, d.feed, st, func(gap killfeed.Gap) error {
		return broken("events skipped", "the log has the gap %v", gap)
	})
}

// log reads the whole log and compares it with what was inserted. told decides of a gap.
func (s *sheet) log(ctx context.Context, feed *killfeed.Feed, st killfeed.State, told func(killfeed.Gap) error) error {
	next := st.First
	for after := (killfeed.Cursor{After: st.First - 1, Epoch: st.Epoch}); ; {
		answer, err := feed.ReadAfter(ctx, after, killfeed.Read{Topics: everything, Updates: true, Limit: 100})
		if err != nil {
			return fmt.Errorf("reading the log behind %d: %w", after.After, err)
		}
		lost := killfeed.Gap{}
		if answer.Gap != nil {
			if err := told(*answer.Gap); err != nil {
				return err
			}
			lost = *answer.Gap
		}
		for _, e := range answer.Events {
			for ; next < e.ID; next++ {
				if next < lost.From || next > lost.To {
					return broken("holes", "event %d comes where %d should", e.ID, next)
				}
			}
			next++
			if err := s.same(e); err != nil {
				return err
			}
		}
		if after = answer.Next; !answer.More {
			for ; next <= lost.To; next++ {
			}
			break
		}
	}
	if next != st.Head+1 {
		return broken("holes", "the log is read up to %d, its head is %d", next-1, st.Head)
	}
	return nil
}

// verify opens what is left on the file system and compares it with what had been told before and after the moment at which the rest was
// lost. It then goes on with it: what was not answered is inserted again.
func (s *sheet) verify(ctx context.Context, fs vfs.FS, before, after told) (err error) {
	store, feed, err := openFeed(fs, false)
	if err != nil {
		if before.epoch == "" {
			return nil // it had never been opened
		}
		return broken("open", "%v", err)
	}
	defer func() {
		if closing := feed.Close(); err == nil && closing != nil {
			err = fmt.Errorf("closing: %w", closing)
		}
	}()
	st := feed.State()
	if before.epoch != "" && st.Epoch != before.epoch {
		return broken("acknowledged inserts lost", "the epoch is %s, was %s", st.Epoch, before.epoch)
	}
	head := int(st.Head)
	if head < before.acked {
		return broken("acknowledged inserts lost", "%d were acknowledged, the head is %d", before.acked, head)
	}
	place, err := feed.Checkpoint(source)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(after.bounds, func(b bound) bool { return b.end == head && b.place == place }) {
		return broken("groups whole", "the head is %d and the place %q, which is after no group", head, place)
	}
	if st.First < before.first || st.First > after.mayFirst {
		return broken("events skipped", "the first event is %d, want %d to %d", st.First, before.first, after.mayFirst)
	}
	err = s.log(ctx, feed, st, func(gap killfeed.Gap) error { return broken("holes", "the log has the gap %v", gap) })
	if err != nil {
		return err
	}
	for name, c := range after.clients {
		if err := stands(feed, name, before.clients[name], c, st); err != nil {
			return err
		}
	}
	if problems := problems(ctx, store); len(problems) > 0 {
		return broken("check", "%q", problems)
	}
	if after.tried == 0 {
		return nil
	}
	results, err := feed.InsertAll(ctx, s.all()[head:after.tried:after.tried], 0)
	if err != nil {
		return fmt.Errorf("inserting again: %w", err)
	}
	again, err := feed.InsertAll(ctx, s.all()[after.tried-1:after.tried:after.tried], 0)
	if err != nil {
		return fmt.Errorf("inserting again: %w", err)
	}
	for i, res := range append(results, again...) {
		if want := killfeed.EventID(min(head+i+1, after.tried)); res.EventID != want {
			return broken("ids reused", "inserted again, a killmail is event %d, want %d", res.EventID, want)
		}
	}
	return nil
}

// stands compares where a client stands with what it had been told before and after.
func stands(feed *killfeed.Feed, name string, before, after client, st killfeed.State) error {
	info, err := feed.Client(name)
	if errors.Is(err, killfeed.ErrNotFound) && !before.durable {
		return nil // its first call was on its way
	}
	if err != nil {
		return broken("explicit commits gone back", "client %s: %v", name, err)
	}
	at := info.Offsets[killfeed.All()]
	if at+1 < st.First {
		return broken("events skipped", "client %s stands at %d, the first event is %d", name, at, st.First)
	}
	if after.automatic {
		if most := max(after.at, after.may, before.at, before.may); at > most {
			return broken("events skipped", "client %s stands at %d and has had the events up to %d", name, at, most)
		}
		return nil
	}
	if before.durable && at != before.at && at != before.may && at != after.at && at != after.may {
		return broken("explicit commits gone back", "client %s stands at %d, was told %d, then %d", name, at, before.at, after.may)
	}
	return nil
}

// problems are what a check finds.
func problems(ctx context.Context, store *pebblestore.Store) (found []string) {
	_, err := store.Check(ctx, func(p string) { found = append(found, p) }, nil)
	if err != nil {
		found = append(found, err.Error())
	}
	return found
}

// tally counts what was tried and which promises were broken.
type tally struct {
	out io.Writer

	mu     sync.Mutex // guards the rest
	broken map[string]int
	shown  int
}

// add notes an error, which is nil when all is well.
func (c *tally) add(where string, err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	promise := "errors"
	if v := (violation{}); errors.As(err, &v) {
		promise = v.promise
	}
	c.broken[promise]++
	if c.shown++; c.shown <= 20 {
		fmt.Fprintf(c.out, "VIOLATION: %s: %v\n", where, err)
	}
}

// summary prints how often each promise was broken, and returns the sum.
func (c *tally) summary(promises ...string) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range append(promises, "errors") {
		fmt.Fprintf(c.out, "%-60s %d\n", p, c.broken[p])
		n += c.broken[p]
		delete(c.broken, p)
	}
	for p, k := range c.broken {
		fmt.Fprintf(c.out, "%-60s %d\n", p, k)
		n += k
	}
	return n
}

var drillPromises = []string{
	"acknowledged inserts lost", "groups whole", "holes", "ids reused", "explicit commits gone back", "events skipped", "served damaged",
	"open", "check",
}
