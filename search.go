package killfeed

import (
	"fmt"
	"time"
)

// position is where a read stands on one topic.
type position struct {
	topic Topic
	at    EventID // the offset
	clear EventID // nothing is on the topic in (at, clear]
	o     *offset // the client's, nil in a read without a client
	hung  int32   // of a subscription: the topic's place in bell.hung
	// What the read found, set by search.run:
	got  EventID // the greatest event on the topic that was returned or passed over
	lost EventID // the greatest removed event on the topic, when it was unread
	// With manual commit alone: gave is the greatest event on the topic that was returned, before the greatest that was passed over
	// below the first returned one.
	gave, before EventID
}

// positions sets where the client stands on the topics, which are distinct, and returns those that it has not used.
func (c *client) positions(s *search, topics []Topic) (unused []Topic) {
	s.positions = s.positions[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range topics {
		if o := c.offsets[t]; o != nil {
			s.positions = append(s.positions, position{topic: t, at: o.at, clear: o.clear, o: o})
		} else {
			unused = append(unused, t)
		}
	}
	if len(unused) == 0 && !s.read.Peek {
		c.plan = c.plan[:0]
		for _, p := range s.positions {
			c.plan = append(c.plan, planned{p.topic, p.o})
		}
	}
	return unused
}

// again sets the positions when the topics are those of the call before, which is how most clients poll: it saves looking
// each of them up, and looking for doubles. The caller has the client's turn.
func (c *client) again(s *search, topics []Topic) bool {
	if len(topics) != len(c.plan) {
		return false
	}
	for i, p := range c.plan {
		if topics[i] != p.topic {
			return false
		}
	}
	s.positions = s.positions[:0]
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.plan {
		s.positions = append(s.positions, position{topic: p.topic, at: p.o.at, clear: p.o.clear, o: p.o})
	}
	return true
}

// search is one read of the log.
type search struct {
	feed      *Feed
	read      Read
	single    bool // Next: one event, and no look at whether there are more
	gap       *Gap // known before the log is read
	positions []position
	upTo      EventID // the last event to look at, 0: the head
	only      EventID // the only event that there is on the one topic, as far as upTo; 0: the index is asked
	budget    int     // of bytes in one answer

	universe *Universe // with which the index was asked

	through EventID // everything up to here was returned or passed over
	first   EventID // the first returned event, 0 when none

	room []Event // of the caller's, for the answer's events

	sifted, siftedBytes int // what was looked into for the filter
	steps               int // and how often its rules looked at a value
	taken               int // bytes of what it matched

	// Room that is used again by the next search.
	query   Query
	owners  []int32 // for each of query.Positions, the index in positions of what it is asked for
	stored  []Topic
	entries []Entry
	ids     []EventID
	leaves  leaves
}

// newSearch returns an empty search; free gives it back.
func (f *Feed) newSearch(r Read, single bool) *search {
	s, ok := f.searches.Get().(*search)
	if !ok {
		s = &search{}
	}
	s.feed, s.read, s.single, s.budget = f, r, single, MaxAnswerBytes
	return s
}

func (s *search) free() {
	s.leaves.forget()
	const most = 4096 // entries: what a large read needed is not kept for the many small ones
	f := s.feed
	if cap(s.entries) > most || cap(s.positions) > most || cap(s.owners) > most {
		return
	}
	clear(s.positions)
	*s = search{
		positions: s.positions[:0], query: Query{Positions: s.query.Positions[:0]}, owners: s.owners[:0], stored: s.stored[:0],
		entries: s.entries[:0], ids: s.ids[:0], leaves: s.leaves,
	}
	f.searches.Put(s)
}

func (s *search) reset() {
	for i := range s.positions {
		p := &s.positions[i]
		p.got, p.lost, p.gave, p.before = 0, 0, 0, 0
	}
	s.first, s.through, s.sifted, s.siftedBytes, s.steps, s.taken = 0, 0, 0, 0, 0, 0
}

// run reads. It changes nothing but s.
func (s *search) run() (Answer, error) {
	for {
		st := s.feed.store.State()
		if s.upTo > 0 {
			st.Head = min(st.Head, s.upTo)
		}
		if ans, ok := s.runOnly(st); ok {
			return ans, nil
		}
		ans, err := s.runAt(st)
		if err != nil || s.feed.store.State().First == st.First {
			return ans, err
		}
		// A collection came in between: what it removed may be missing without having been told. Once more.
		s.reset()
	}
}

// runOnly reads the event that is known to be the only one, which is what nearly all wake-ups of subscriptions are about. It
// returns false when there is anything more to say of it.
func (s *search) runOnly(st State) (ans Answer, ok bool) {
	if s.only == 0 || s.only < st.First {
		return Answer{}, false
	}
	s.ids = append(s.ids[:0], s.only)
	ans.Head = st.Head
	err := s.feed.store.Read(s.ids, func(e Event, err error) bool {
		ok = err == nil
		if ok && s.wants(Entry{ID: e.ID, Marks: e.Marks, KilledAt: unixOrZero(e.KilledAt)}) && s.matches(&e) {
			ans.Events = append(s.room[:0], e)
		}
		return false
	})
	s.ids = s.ids[:0]
	if err != nil || !ok {
		return Answer{}, false // damaged, or a collection came in between
	}
	p := &s.positions[0]
	s.through, p.got = st.Head, s.only
	if len(ans.Events) > 0 {
		p.gave = s.only
	} else {
		p.before = s.only
	}
	return ans, true
}

func unixOrZero(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (s *search) runAt(st State) (Answer, error) {
	ans := Answer{Head: st.Head, Gap: s.lostTo(st)}
	if s.read.Filter != nil {
		ans.Events = s.room[:0]
	}
	led := s.ask(st)
	q := &s.query
	entries, ids := s.entries[:0], s.ids[:0] // entries are of all events that were looked at
	defer func() { s.entries, s.ids = entries, ids }()
	var err error
	// Look at index entries until there is enough, or nothing is left.
	for passed := 0; ; {
		from := len(entries)
		if entries, err = s.feed.store.Find(entries, *q); err != nil {
			return Answer{}, fmt.Errorf("reading the index: %w", err)
		}
		var last EventID
		events, page := 0, len(ids)
		for _, e := range entries[from:] {
			if e.ID == last {
				continue
			}
			last = e.ID
			events++
			if s.wants(e) {
				ids = append(ids, e.ID)
			} else {
				passed++
			}
		}
		rest := events >= q.Max // perhaps
		if s.read.Filter != nil {
			if end, err := s.sift(&ans, ids[page:], rest); end || err != nil {
				if err != nil {
					return Answer{}, err
				}
				break
			}
		}
		if !rest {
			s.through = st.Head
			break
		}
		if n := s.enough(); n > 0 && len(ids) >= n && s.read.Filter == nil {
			s.through = last
			break
		}
		if passed+len(ids) > maxPassed {
			s.through, ans.More = last, true
			break
		}
		for i := range q.Positions {
			q.Positions[i].After = max(q.Positions[i].After, last)
		}
		q.Max = 1024
	}
	if s.read.Filter == nil {
		switch n := s.read.Limit; {
		case s.single && len(ids) > 0:
			s.through, ids, ans.More = ids[0], ids[:1], false
		case n > 0 && len(ids) > n:
			s.through, ids, ans.More = ids[n]-1, ids[:n], true
		}
		if err := s.load(&ans, ids); err != nil {
			return Answer{}, err
		}
	}
	if len(ans.Events) > 0 {
		s.first = ans.Events[0].ID
		if s.single {
			ans.More = false
		}
	}
	s.account(st, ans.Events, entries, led)
	return ans, nil
}

// account notes what was returned or passed over on each topic.
func (s *search) account(st State, returned []Event, entries []Entry, led bool) {
	if led { // by the filter: the entries are not those of the topic, which is All
		p := &s.positions[0]
		if s.through >= st.First {
			p.got, p.before = s.through, s.through
		}
		if len(returned) > 0 {
			p.gave = returned[len(returned)-1].ID
			if p.before = s.first - 1; p.before < st.First {
				p.before = 0
			}
		}
		return
	}
	for _, e := range entries {
		if e.ID > s.through {
			break
		}
		p := &s.positions[s.owners[e.Position]]
		p.got = e.ID
		if !s.read.Manual {
			continue
		}
		for len(returned) > 0 && returned[0].ID < e.ID {
			returned = returned[1:]
		}
		switch {
		case len(returned) > 0 && returned[0].ID == e.ID:
			p.gave = e.ID
		case s.first == 0 || e.ID < s.first:
			p.before = e.ID
		}
	}
}

// ask sets the query for what is unread on the topics. When all events are asked for and the filter says itself on which topics
// those are that it matches, it leads: the query is of its topics then.
func (s *search) ask(st State) (led bool) {
	q := &s.query
	q.Positions, q.Through, q.Max = q.Positions[:0], st.Head, s.page()
	s.owners = s.owners[:0]
	u := s.feed.Universe()
	s.universe = u
	low, everywhere := st.Head, true
	for i := range s.positions {
		p := &s.positions[i]
		after := max(p.at, p.clear, p.lost)
		low = min(low, after)
		everywhere = everywhere && p.topic.Kind == KindAll
		if after >= st.Head || s.feed.bells.quiet(p.topic, after, st.Head) {
			continue
		}
		s.add(u, int32(i), p.topic, after)
	}
	if s.read.Filter == nil || len(q.Positions) == 0 || !everywhere {
		return false
	}
	topics, ok := s.read.Filter.topics()
	stored := 0
	for _, t := range topics {
		stored += max(1, u.size(t))
	}
	if !ok || stored > maxStored {
		return false
	}
	q.Positions, s.owners = q.Positions[:0], s.owners[:0]
	for _, t := range topics {
		if !s.feed.bells.quiet(t, low, st.Head) {
			s.add(u, 0, t, low)
		}
	}
	return true
}

// add adds what a topic stands for to the query.
func (s *search) add(u *Universe, owner int32, t Topic, after EventID) {
	s.stored = u.expand(s.stored[:0], t)
	for _, t := range s.stored {
		s.query.Positions = append(s.query.Positions, Position{Topic: t, After: after})
		s.owners = append(s.owners, owner)
	}
}

// enough is how many events are wanted at most: Fetch looks for one more than it returns, to know whether there is more. It is
// 0 without a limit.
func (s *search) enough() int {
	switch {
	case s.single:
		return 1
	case s.read.Limit > 0:
		return s.read.Limit + 1
	}
	return 0
}

// page is how many events to look at first.
func (s *search) page() int {
	if n := s.enough(); n > 0 && n < 1024 {
		return n
	}
	return 1024
}

// load reads the events into the answer until the byte budget is spent.
func (s *search) load(ans *Answer, ids []EventID) error {
	if len(ids) == 0 {
		return nil
	}
	ans.Events = s.room[:0]
	if cap(s.room) < len(ids) {
		ans.Events = make([]Event, 0, len(ids))
	}
	bytes := 0
	return s.feed.store.Read(ids, func(e Event, err error) bool {
		if err != nil {
			return s.damaged(ans, e.ID, err)
		}
		if bytes += len(e.Killmail); bytes > s.budget && len(ans.Events) > 0 {
			ans.More = true
			s.through = e.ID - 1
			return false
		}
		ans.Events = append(ans.Events, e)
		return true
	})
}

// damaged tells of an event that cannot be read, and whether to read on.
func (s *search) damaged(ans *Answer, id EventID, err error) (goOn bool) {
	if id < s.feed.store.State().First {
		return false // a collection came in between; run reads again
	}
	s.feed.stats.damaged.Add(1)
	s.feed.log.Error("an event cannot be read and is passed over; run killfeed check", "event_id", id, "err", err)
	switch {
	case ans.Gap == nil:
		ans.Gap = &Gap{Reason: GapDamaged, From: id, To: id}
	case ans.Gap.Reason == GapDamaged && ans.Gap.To == id-1:
		ans.Gap.To = id
	default: // an answer tells one gap; the next one tells this
		ans.More = true
		s.through = id - 1
		return false
	}
	return true
}

// wants tells whether the reader gets an event, as far as its index entry shows.
func (s *search) wants(e Entry) bool {
	if e.Marks.Has(MarkUpdate) && !s.read.Updates || e.Marks.Has(MarkBackfill) && s.read.NoBackfill {
		return false
	}
	if s.read.MaxAge > 0 && e.KilledAt != 0 {
		return s.feed.now().Sub(time.Unix(e.KilledAt, 0)) <= s.read.MaxAge
	}
	return true
}

// lostTo finds out what retention removed before the reader had it.
func (s *search) lostTo(st State) *Gap {
	var gap Gap
	for i := range s.positions {
		p := &s.positions[i]
		if removed, lost := s.feed.removedAfter(p.at, p.topic, st); lost {
			p.lost = removed
			gap.widen(p.at+1, removed)
		}
	}
	switch {
	case s.gap != nil: // the cursor was none of this log: what was removed is not its loss
		return s.gap
	case gap.To > 0:
		return &gap
	}
	return nil
}

// removedAfter returns the greatest removed event on the topic, if it is above at.
func (f *Feed) removedAfter(at EventID, t Topic, st State) (removed EventID, lost bool) {
	if at+1 >= st.First { // the usual case, without a look into the store
		return 0, false
	}
	for _, stored := range f.Universe().expand(nil, t) {
		removed = max(removed, f.store.Removed(stored))
	}
	return removed, removed > at
}

// widen adds the loss of from..to to a gap of retention.
func (g *Gap) widen(from, to EventID) {
	if g.To == 0 || from < g.From {
		g.From = from
	}
	g.Reason, g.To = GapRetention, max(g.To, to)
}

// commit moves the client's offsets past what was returned and passed over, and past a gap that was told; with manual commit only
// past what was passed over before the first event that was returned. It is written behind. It does nothing, and returns false, when
// another node has changed the client since it was at version: a seek there would be undone. The caller has the client's turn.
func (s *search) commit(c *client, version uint64) bool {
	var dirty []Topic
	c.mu.Lock()
	if c.version != version {
		c.mu.Unlock()
		return false
	}
	for i := range s.positions {
		p := &s.positions[i]
		to := max(p.got, p.lost)
		if s.read.Manual {
			to = p.before
		}
		if to > p.o.at {
			p.o.at = to
			dirty = append(dirty, p.topic)
		}
		// Nothing more is on the topic up to where the scan came, unless this read returned something that it may not
		// commit. What the index was asked with static data that was replaced meanwhile says nothing of its topics: SetUniverse
		// forgets clear with c.mu held, so that it comes behind this, or has put the other data in place before it.
		if (!s.read.Manual || s.first == 0) && (!p.topic.Kind.placed() || s.universe == s.feed.Universe()) {
			p.o.clear = s.through
		}
	}
	c.mu.Unlock()
	if len(dirty) > 0 {
		s.feed.clients.dirtyTopics(c, dirty, dueSoon)
	}
	return true
}
