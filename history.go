package killfeed

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// This file is what looks back at the log instead of following it: no client, no position, nothing is committed.

// Killmail returns the newest kept version of a killmail, by its own id. An id that the log has never had, and one that retention
// removed, are ErrNotFound; the text tells them apart. Another error is a *DamageError, or what the store could not do.
func (f *Feed) Killmail(id int64) (Event, error) {
	k, ok, err := f.store.Known(id)
	switch {
	case err != nil:
		return Event{}, err
	case !ok:
		return Event{}, fmt.Errorf("killmail %d has never come to this feed: %w", id, ErrNotFound)
	}
	st := f.store.State()
	for _, event := range []EventID{k.Latest, k.First} {
		if event >= st.First && event <= st.Head {
			return f.Event(event)
		}
	}
	return Event{}, fmt.Errorf("killmail %d was event %d, which retention has removed: %w", id, k.First, ErrNotFound)
}

// Past says what to look back for.
type Past struct {
	// Topics are 1 to MaxTopics; doubles count once.
	Topics []Topic
	// Before is the event to look back from, itself not included; 0 is the head's successor.
	Before EventID
	// Limit is the most events that LookBack returns, at least 1.
	Limit int
	// Since and Until, when set, bound the killmail's own time: Since <= time < Until. A killmail that tells no time counts by
	// when it was received. One cannot have been received before its own time, which is what bounds the search.
	Since, Until time.Time
	// Filter, Updates and NoBackfill are as in Read.
	Filter     *Filter
	Updates    bool
	NoBackfill bool
}

// History is what LookBack returns.
type History struct {
	// Events descend by id.
	Events []Event
	// Head is the last event id given out when the log was read, Epoch that of the log: a reader that goes on after it has
	// everything.
	Head  EventID
	Epoch Epoch
	// Next is the Before that goes on; 0 when there is nothing further back. The answer may be short, or empty, and yet have
	// one, when many events were passed over.
	Next EventID
	// Gap is an event that cannot be read.
	Gap *Gap
}

// maxLookWait is how long a look back waits for its turn.
const maxLookWait = 2 * time.Second

// lookBack waits until the caller may look back: a few at once use all processors, and more of them would only hold more memory and slow down
// who polls. The caller must call done.
func (f *Feed) lookBack(ctx context.Context) (done func(), err error) {
	done = func() { <-f.looks }
	select {
	case f.looks <- struct{}{}:
		return done, nil
	default:
	}
	over := time.NewTimer(maxLookWait)
	defer over.Stop()
	select {
	case f.looks <- struct{}{}:
		return done, nil
	case <-over.C:
		return nil, fmt.Errorf("%d look back at the log, and for %v none of them was done: %w", cap(f.looks), maxLookWait, ErrBusy)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-f.writer.closing:
		return nil, fmt.Errorf("feed: %w", ErrClosed)
	}
}

// LookBack returns the newest events on the topics, newest first. Errors are *InvalidError, ErrBusy when as many as may look back
// already, ErrClosed, the context's cause, or what the store could not do.
func (f *Feed) LookBack(ctx context.Context, p Past) (History, error) {
	topics, err := f.distinct(p.Topics)
	if err != nil {
		return History{}, err
	}
	if p.Limit < 1 {
		return History{}, invalid("limit", fmt.Sprint(p.Limit), "at least 1")
	}
	done, err := f.lookBack(ctx)
	if err != nil {
		return History{}, err
	}
	defer done()
	w, err := f.window(p, topics)
	if err != nil {
		return History{}, err
	}
	defer w.search.free()
	h := History{Head: w.state.Head, Epoch: w.state.Epoch}
	// Windows that grow as long as little is in them: what is common is found in the first, and what is rare in a few. Each asks all
	// topics again, which may be many.
	for size := EventID(max(4*p.Limit, 256)); w.low < w.high; {
		if ctx.Err() != nil {
			return History{}, context.Cause(ctx)
		}
		from := w.low
		if w.high-w.low > size {
			from = w.high - size
		}
		found, err := w.find(from, w.high)
		if err != nil {
			return History{}, err
		}
		if found.n >= maxWindow && w.high-from > maxWindow { // perhaps there are more, and the newest are missing
			size = max(size/4, maxWindow)
			continue
		}
		full, err := w.back(&h, found.ids)
		if err != nil {
			return History{}, err
		}
		if full {
			break
		}
		w.high = from
		switch {
		case found.n == 0:
			size *= 4
		case found.n <= maxWindow/2:
			size *= 2
		}
	}
	if w.high > w.low {
		h.Next = w.high + 1
	}
	return h, nil
}

const (
	// maxWindow bounds the events that are looked at at a time.
	maxWindow = 1 << 16
	// maxCounted bounds the killmails that Counts looks into.
	maxCounted = 100_000
	// maxCountedSteps bounds how often a filter's rules look at a value meanwhile.
	maxCountedSteps = 5 * maxSteps
)

// window is the part of the log that is to be looked at: the events above low and up to high.
type window struct {
	feed      *Feed
	past      Past
	state     State
	topics    []Topic
	search    *search // for its room, its marks and its filter
	low, high EventID
	until     EventID // the first event received at Until or later; of those without a time of their own it counts
	bytes     int
}

func (f *Feed) window(p Past, topics []Topic) (*window, error) {
	st := f.store.State()
	w := &window{feed: f, past: p, state: st, topics: topics, low: st.First - 1, high: st.Head, until: st.Head + 1}
	if p.Before > 0 {
		w.high = min(w.high, p.Before-1)
	}
	if !p.Since.IsZero() {
		id, err := f.store.ReceivedFrom(p.Since)
		if err != nil {
			return nil, fmt.Errorf("looking for the first event received from %v on: %w", p.Since, err)
		}
		w.low = max(w.low, id-1)
	}
	if !p.Until.IsZero() {
		id, err := f.store.ReceivedFrom(p.Until)
		if err != nil {
			return nil, fmt.Errorf("looking for the first event received from %v on: %w", p.Until, err)
		}
		w.until = id
	}
	if len(topics) == 1 && topics[0].Kind == KindAll && p.Filter != nil {
		if led, ok := p.Filter.topics(); ok {
			w.topics = led
		}
	}
	w.search = f.newSearch(Read{Filter: p.Filter, Updates: p.Updates, NoBackfill: p.NoBackfill}, false)
	return w, nil
}

// wants tells whether an event is asked for, as far as its index entry shows.
func (w *window) wants(e Entry) bool {
	if !w.search.wants(e) {
		return false
	}
	if e.KilledAt == 0 {
		return e.ID < w.until // and it is above low
	}
	killed := time.Unix(e.KilledAt, 0)
	return !killed.Before(w.past.Since) && (w.past.Until.IsZero() || killed.Before(w.past.Until))
}

// found is what the index has of some topics.
type found struct {
	ids []EventID // what is asked for, ascending, as far as the index entries show
	// n is how many events are on the topics, and last the last of them. When n is maxWindow there may be more behind it.
	n    int
	last EventID
}

// find looks for events in (from, through].
func (w *window) find(from, through EventID) (f found, err error) {
	q, u := Query{Through: through, Max: maxWindow}, w.feed.Universe()
	for _, t := range w.topics {
		for _, stored := range u.expand(nil, t) {
			q.Positions = append(q.Positions, Position{Topic: stored, After: from})
		}
	}
	entries, err := w.feed.store.Find(nil, q)
	if err != nil {
		return found{}, fmt.Errorf("reading the index: %w", err)
	}
	for _, e := range entries {
		if e.ID == f.last {
			continue
		}
		f.last = e.ID
		f.n++
		if w.wants(e) {
			f.ids = append(f.ids, e.ID)
		}
	}
	return f, nil
}

// back adds the newest of the events to h, newest first. When h is full, or enough was looked into, it returns true and high is
// where to go on.
func (w *window) back(h *History, ids []EventID) (full bool, err error) {
	s := w.search
	for most := 512; len(ids) > 0; {
		n := min(len(ids), max(w.past.Limit-len(h.Events), 64), most)
		events, unread, err := w.newest(h, ids[len(ids)-n:])
		if err != nil {
			return false, err
		}
		most = min(2*(n-unread), 512)
		ids = ids[:len(ids)-n+unread]
		for _, e := range slices.Backward(events) {
			s.sifted++
			s.siftedBytes += len(e.Killmail)
			if s.matches(&e) {
				if w.bytes += len(e.Killmail); w.bytes > MaxAnswerBytes && len(h.Events) > 0 {
					w.high = e.ID
					return true, nil
				}
				h.Events = append(h.Events, e)
			}
			if len(h.Events) == w.past.Limit || s.spent() {
				w.high = e.ID - 1
				return true, nil
			}
		}
	}
	return false, nil
}

// newest reads events, which ascend. Of more than fit an answer it returns the last ones, at least one: the unread ones before them
// have to be read again. So a few hundred of the largest killmails are not in memory together.
func (w *window) newest(h *History, ids []EventID) (events []Event, unread int, err error) {
	events = make([]Event, 0, len(ids))
	bytes := 0
	err = w.feed.store.Read(ids, func(e Event, err error) bool {
		switch {
		case err == nil:
			events = append(events, e)
			for bytes += len(e.Killmail); bytes > MaxAnswerBytes && len(events) > 1; events = events[1:] {
				bytes -= len(events[0].Killmail)
				unread, _ = slices.BinarySearch(ids, events[1].ID)
				events[0] = Event{} // its bytes shall not stay
			}
		case e.ID >= w.feed.store.State().First: // else a collection came in between
			h.Gap = &Gap{Reason: GapDamaged, From: e.ID, To: e.ID}
			w.feed.stats.damaged.Add(1)
			w.feed.log.Error("an event cannot be read and is passed over; run killfeed check", "event_id", e.ID, "err", err)
		}
		return true
	})
	return events, unread, err
}

// SystemCount is how many killmails there are of a solar system.
type SystemCount struct {
	System    uint32
	Killmails int
	// Latest is the last event of them.
	Latest EventID
}

// Counts counts the killmails of each solar system that Past describes, but for its Before and Limit; systems without any are left
// out. Topics may be none: those of all systems are counted then. The result is in no particular order.
//
// Without a Filter, and on topics of places, it asks the index alone. Else it looks into the killmails, and more than 100,000 of
// them, or a filter that takes too long for them, are refused with an *InvalidError. Other errors are those of LookBack.
func (f *Feed) Counts(ctx context.Context, p Past) ([]SystemCount, State, error) {
	p.Before = 0
	if len(p.Topics) == 0 {
		p.Topics = []Topic{All()}
	}
	topics, err := f.distinct(p.Topics)
	if err != nil {
		return nil, State{}, err
	}
	done, err := f.lookBack(ctx)
	if err != nil {
		return nil, State{}, err
	}
	defer done()
	w, err := f.window(p, topics)
	if err != nil {
		return nil, State{}, err
	}
	defer w.search.free()
	counts := map[uint32]*SystemCount{}
	add := func(system uint32, id EventID) {
		c := counts[system]
		if c == nil {
			c = &SystemCount{System: system}
			counts[system] = c
		}
		c.Killmails++
		c.Latest = max(c.Latest, id)
	}
	if systems, ok := f.places(topics); ok && p.Filter == nil {
		err = w.countPlaces(ctx, systems, add)
	} else {
		err = w.count(ctx, add)
	}
	if err != nil {
		return nil, State{}, err
	}
	all := make([]SystemCount, 0, len(counts))
	for _, c := range counts {
		all = append(all, *c)
	}
	return all, w.state, nil
}

// places returns the solar systems of the topics, distinct, if all of those are places.
func (f *Feed) places(topics []Topic) ([]uint32, bool) {
	var systems []uint32
	u := f.Universe()
	for _, t := range topics {
		switch t.Kind {
		case KindAll:
			return f.store.Systems(nil), true
		case KindSystem:
			systems = append(systems, t.ID)
		case KindConstellation, KindRegion, KindSpace:
			systems = append(systems, u.Systems(t)...)
		default:
			return nil, false
		}
	}
	slices.Sort(systems)
	return slices.Compact(systems), true
}

// countPlaces counts by the index: an entry tells its system by its position.
func (w *window) countPlaces(ctx context.Context, systems []uint32, add func(uint32, EventID)) error {
	const most = 256 // systems at a time, which bounds the room
	for systems := range slices.Chunk(systems, most) {
		q := Query{Through: w.high, Max: maxWindow}
		for _, id := range systems {
			q.Positions = append(q.Positions, Position{Topic: System(id), After: w.low})
		}
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			entries, err := w.feed.store.Find(w.search.entries[:0], q)
			if err != nil {
				return fmt.Errorf("reading the index: %w", err)
			}
			w.search.entries = entries
			for _, e := range entries {
				if w.wants(e) {
					add(systems[e.Position], e.ID)
				}
			}
			if len(entries) < q.Max { // an event has one system, and so one entry
				break
			}
			for i := range q.Positions {
				q.Positions[i].After = entries[len(entries)-1].ID
			}
		}
	}
	return nil
}

// count counts by looking into the killmails.
func (w *window) count(ctx context.Context, add func(uint32, EventID)) error {
	looked := 0
	for from := w.low; from < w.high; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		found, err := w.find(from, w.high)
		if err != nil {
			return err
		}
		if looked += len(found.ids); looked > maxCounted {
			return invalid("since", w.past.Since.UTC().Format(time.RFC3339), fmt.Sprintf(
				"a shorter time: with a filter, or topics that are no places, at most %d killmails are looked into", maxCounted))
		}
		for chunk := range slices.Chunk(found.ids, 512) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := w.feed.store.Read(chunk, func(e Event, err error) bool {
				if err == nil && w.search.matches(&e) {
					add(e.SystemID, e.ID)
				}
				return w.search.steps <= maxCountedSteps
			})
			if err != nil {
				return err
			}
			if w.search.steps > maxCountedSteps {
				return invalid("filter", w.past.Filter.String(), "a filter with fewer rules, or a shorter time: this one takes too long to count")
			}
		}
		if found.n < maxWindow {
			return nil
		}
		from = found.last
	}
	return nil
}

// Mirrored returns the event that raised the running count of killmails to seq: one that came first-time and without the
// backfill mark. 0 when there is none, or it is not kept.
func (f *Feed) Mirrored(seq uint64) EventID { return f.store.Mirrored(seq) }
