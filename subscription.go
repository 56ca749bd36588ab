package killfeed

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

const (
	// batchBytes is the byte budget of one Subscription.Read. A single event may exceed it. It bounds what a subscriber whose
	// connection takes nothing holds in memory.
	batchBytes = 256 << 10
	// batchEvents bounds the events of one Read. Without it each Read of a long history would look through all of the index
	// for the few events that the byte budget lets it return.
	batchEvents = 1024
)

// Subscriber says what a subscription is of.
type Subscriber struct {
	// Read says what is wanted and where to begin. Start is where a topic begins that the client has not used, or all of them
	// without a client; From wins over it, and over the offsets that are kept for the client. Limit, Wait and Peek are not
	// used.
	Read
	// Client is the name under which offsets are kept; empty: none are.
	Client string
	// Holder is the connection that subscribes; it is compared by ==. The subscriptions of one client go side by side as long
	// as they have one Holder; a subscription by another one ends them all with ErrReplaced.
	Holder any
	// Wake is called when there is something to Read, once until a Read has returned without More: so the first Read comes
	// unasked. It must not block, and must not call the subscription. Close does not wait for a call that has begun.
	Wake func()
}

// Subscription is a reader that stays. It has a place in the log and pulls; the log only wakes it. So what it missed and what
// comes live are read in one way, without a seam, nothing is queued for it, and when it is slow it is merely behind.
//
// Every event on its topics behind its place is returned exactly once, in ascending order, or told as a gap. A Seek of the
// client begins that anew, and so does, for the topic, one that SetTopics adds.
//
// Subscriptions of one client share its offsets: on a topic that two of them have, it is the greatest event that either has
// delivered, or the client has committed.
//
// What is passed over, by a filter or for its marks or age, counts as read once nothing that was returned before it on the topic
// waits to be delivered, or with manual commit to be committed. With manual commit it does not count beyond what another
// subscription of the client has not read of the topic, nor while that one has returned something there that is not committed.
//
// Read and Delivered are called by one goroutine at a time; the other methods by any.
type Subscription struct {
	feed   *Feed
	read   Read    // without Topics and From
	client *client // nil without one
	holder any
	bell   bell
	ended  error // guarded by bell.mu; set once

	reading sync.Mutex // guards the rest; held through one Read or change of topics, and taken after the client's turn
	// at: everything on the topics up to here was returned, told as lost, or passed over.
	at EventID
	// got is, for each topic as in bell.hung, the last event that was returned, passed over or told as lost; nil without a
	// client. It is changed with bell.mu held too, and read with either. fresh are the topics where it moved and was not settled;
	// none with manual commit.
	got   []EventID
	fresh []int32
	owed  bool // something was returned, or told in the Place, that is not Delivered yet
	// gave is, for each topic as in bell.hung, the last event that was returned or told as lost, or where the subscription began,
	// or where it last moved the offset: as long as the offset is below it, something is not committed, or somebody has moved
	// the client back. nil without a client, or with automatic commit. Guarded by bell.mu, and changed with the client's mutex
	// held too.
	gave []EventID
}

// Place is where a subscription begins.
type Place struct {
	Head  EventID
	Epoch Epoch
	// Start is the first event that can come.
	Start EventID
	// Gap is what was lost before it; it is not told again.
	Gap *Gap
}

// Cursor is the place as a cursor: the event before Start.
func (p Place) Cursor() Cursor { return Cursor{After: p.Start - 1, Epoch: p.Epoch} }

// Delivery is what one Read returns. When both are there, the gap comes before the events.
type Delivery struct {
	// Events ascend by id, also from one Read to the next.
	Events []Event
	// Gap is set when events were lost.
	Gap *Gap
	// More: Read again. Without it, Wake tells when to.
	More bool
}

// Subscribe begins a subscription. With a Client the first use of a topic records its position durably, as Fetch does. The
// caller must Close it. Errors are those of Fetch.
func (f *Feed) Subscribe(ctx context.Context, o Subscriber) (*Subscription, Place, error) {
	topics, err := f.distinct(o.Topics)
	if err != nil {
		return nil, Place{}, err
	}
	select {
	case <-f.writer.closing:
		return nil, Place{}, fmt.Errorf("feed: %w", ErrClosed)
	default:
	}
	if o.From != nil {
		if err := f.arrive(ctx, *o.From); err != nil {
			return nil, Place{}, err
		}
	}
	s := &Subscription{feed: f, read: o.Read, holder: o.Holder}
	s.read.Topics, s.read.From = nil, nil
	s.bell.wake, s.bell.load = o.Wake, o.Read.Filter.load()
	if err := f.bells.room(len(topics), s.bell.load); err != nil {
		return nil, Place{}, err
	}
	s.reading.Lock()
	defer s.reading.Unlock()
	var p Place
	if o.Client == "" {
		p, err = s.beginAlone(topics, o.From)
	} else {
		p, err = s.beginClient(ctx, o.Client, topics, o.From)
	}
	if err != nil {
		f.bells.take(&s.bell)
		return nil, Place{}, err
	}
	f.stats.subscriptions.Add(1)
	return s, p, nil
}

// beginAlone begins without a client.
func (s *Subscription) beginAlone(topics []Topic, from *Cursor) (Place, error) {
	first, through := s.feed.bells.hang(&s.bell, topics) // before the place is read: see bells
	cursor, err := Cursor{}, error(nil)
	if from != nil {
		cursor = *from
	} else if cursor, err = s.feed.CursorAt(s.read.Start); err != nil {
		return Place{}, err
	}
	at, gap := s.feed.place(cursor)
	return s.stand(first, through, gap, func(int) EventID { return at }), nil
}

// beginClient begins where the client stands.
func (s *Subscription) beginClient(ctx context.Context, name string, topics []Topic, from *Cursor) (Place, error) {
	f := s.feed
	c, err := f.take(ctx, name, true)
	if err != nil {
		return Place{}, err
	}
	defer c.release()
	c.endLive(s.holder, fmt.Errorf("client %q: %w", name, ErrReplaced))
	if err := c.claim(ctx, f, s.holder); err != nil {
		return Place{}, err
	}
	c.mu.Lock()
	sought := c.sought
	c.mu.Unlock()
	if sought { // before this one is among those that it moves: it would get events twice
		c.followSeek()
	}
	defer c.join()()
	first, through := f.bells.hang(&s.bell, topics)
	var (
		gap *Gap
		at  func(i int) EventID
	)
	if from != nil { // the offsets are not asked: another subscription of this Holder may be moving them on
		var cursor EventID
		cursor, gap = f.place(*from)
		at = func(int) EventID { return cursor }
		m := move{feed: f, client: c, topics: topics, to: func() (EventID, error) { return cursor, nil }}
		err = m.orInMemory(ctx)
	} else {
		var offsets []EventID
		offsets, err = s.offsets(ctx, c, topics)
		at = func(i int) EventID { return offsets[i] }
	}
	if err != nil {
		return Place{}, err
	}
	if ctx.Err() != nil {
		return Place{}, context.Cause(ctx)
	}
	s.client = c
	p := s.stand(first, through, gap, at)
	c.mu.Lock()
	c.live, c.holder = append(c.live, s), s.holder
	c.mu.Unlock()
	return p, nil
}

// stand sets where the topics hung[first:] begin, each behind at(its index among them), and says what is lost already. The
// caller holds reading.
func (s *Subscription) stand(first int, through EventID, gap *Gap, at func(i int) EventID) Place {
	f := s.feed
	st := f.store.State()
	p := Place{Head: st.Head, Epoch: st.Epoch, Gap: gap}
	var lost Gap
	low := st.Head
	b := &s.bell
	for i := first; i < len(b.hung); i++ {
		from := at(i - first)
		removed, gone := f.removedAfter(from, b.hung[i].rope.topic, st) // the ringer is not kept waiting for the store
		if gone {
			lost.widen(from+1, removed)
			from = removed
		}
		b.mu.Lock()
		b.want(i, from, through)
		switch {
		case s.client == nil:
		case s.read.Manual:
			s.got, s.gave = append(s.got, from), append(s.gave, from)
		default:
			s.got = append(s.got, from)
			if gone {
				s.fresh = append(s.fresh, int32(i))
			}
		}
		b.mu.Unlock()
		low = min(low, max(from, st.First-1))
	}
	if gap == nil && lost.To > 0 { // a cursor that was none of this log has lost nothing of it
		p.Gap = &lost
	}
	if p.Gap != nil {
		s.owed = true
		f.stats.gaps.Add(1)
	}
	if first > 0 {
		low = min(low, s.at)
	}
	s.at = low
	p.Start = low + 1
	return p
}

// Read returns what comes next, at most limit events, in room if there is enough of it; 0 means as many as fit a batch, of
// which count and bytes are bounded. Errors are ErrReplaced when a newer connection took the client's name, ErrNotFound when
// the client was deleted, ErrClosed, or what the store could not do; after the last, Read may be called again.
func (s *Subscription) Read(room []Event, limit int) (Delivery, error) {
	s.reading.Lock()
	defer s.reading.Unlock()
	if limit <= 0 || limit > batchEvents {
		limit = batchEvents
	}
	for {
		q := s.feed.newSearch(s.read, false)
		q.read.Limit, q.room, q.budget = limit, room, batchBytes
		if err := s.pending(q); err != nil || len(q.positions) == 0 {
			q.free()
			return Delivery{}, err
		}
		ans, err := q.run()
		if err != nil {
			q.free()
			return Delivery{}, err
		}
		if s.gave != nil {
			s.passOver(q) // before got moves: what was returned must never look as if it had been passed over
		}
		d := Delivery{Events: ans.Events, Gap: ans.Gap, More: s.passed(q)}
		q.free()
		s.owed = s.owed || len(d.Events) > 0 || d.Gap != nil
		if !s.owed { // what was passed over counts as read, and nobody hands it over
			s.settle(s.fresh, dueLate)
			s.fresh = s.fresh[:0]
		}
		if len(d.Events) > 0 || d.Gap != nil || !d.More || ans.More {
			s.feed.stats.fetches.Add(1)
			s.feed.counted(ans, nil)
			return d, nil
		}
	}
}

// pending sets the positions of the topics with unread events. When there are none the subscription falls asleep.
func (s *Subscription) pending(q *search) error {
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := s.over(); err != nil {
		return err
	}
	if s.drowse() {
		return nil
	}
	q.upTo = EventID(s.feed.bells.through.Load())
	for _, i := range b.noted {
		if h := &b.hung[i]; h.from <= q.upTo {
			q.positions = append(q.positions, position{topic: h.rope.topic, at: h.from - 1, hung: i})
			if q.only = 0; len(q.positions) == 1 && h.sole {
				q.only = h.from
			}
		}
	}
	return nil
}

// over is why nothing is read any more. The caller holds bell.mu: whoever ends a subscription, or the feed, wakes it after
// that, which a subscription that fell asleep without having asked would not notice.
func (s *Subscription) over() error {
	select {
	case <-s.feed.writer.closing:
		return fmt.Errorf("feed: %w", ErrClosed)
	default:
		return s.ended
	}
}

// drowse falls asleep when nothing is unread as far as the bells were rung, and says so. The caller holds bell.mu. Events
// beyond that may be noted already; the ringer wakes whoever sleeps after it has let readers look that far.
func (s *Subscription) drowse() bool {
	b := &s.bell
	through := EventID(s.feed.bells.through.Load())
	for _, i := range b.noted {
		if b.hung[i].from <= through {
			return false
		}
	}
	b.asleep = true
	s.at = max(s.at, through)
	return true
}

// passed takes note of what a search came past. It returns whether there is more to read; if not, the subscription sleeps.
func (s *Subscription) passed(q *search) (more bool) {
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range q.positions {
		p := &q.positions[i]
		h := &b.hung[p.hung]
		h.from, h.sole = max(h.from, q.through+1, p.lost+1), false
		if to := max(p.got, p.lost); s.client != nil && to > s.got[p.hung] {
			s.got[p.hung] = to
			if !s.read.Manual {
				s.fresh = append(s.fresh, p.hung)
			}
		}
	}
	b.forget()
	s.at = max(s.at, q.through)
	return s.over() != nil || !s.drowse()
}

// place is where the subscription stands: everything on its topics up to there was returned. The caller holds reading; the
// bells were rung up to through.
func (s *Subscription) place(through EventID) EventID {
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.hung) == 0 { // closed: it is not known what would have come
		return s.at
	}
	for _, i := range b.noted {
		if b.hung[i].from <= through {
			return s.at
		}
	}
	s.at = max(s.at, through)
	return s.at
}

// Cursor is the place behind everything that was returned. It moves with the log also while nothing comes on the topics.
func (s *Subscription) Cursor() Cursor {
	s.reading.Lock()
	defer s.reading.Unlock()
	return Cursor{After: s.place(EventID(s.feed.bells.through.Load())), Epoch: s.feed.store.State().Epoch}
}

// Close ends the subscription. With automatic commit, what was Delivered is written within 100 ms, and at the latest by the
// feed's Close. It may be called more than once.
func (s *Subscription) Close() {
	defer s.bell.rouse() // a Read that was to come
	s.reading.Lock()
	defer s.reading.Unlock()
	b := &s.bell
	b.mu.Lock()
	ended := s.ended
	b.mu.Unlock()
	if c := s.client; c != nil {
		if ended == nil {
			c.seen.Store(s.feed.now().UnixMilli()) // it was here until now
			s.settleAtEnd()
		}
		c.mu.Lock()
		c.live = slices.DeleteFunc(c.live, func(o *Subscription) bool { return o == s })
		if len(c.live) == 0 {
			c.holder = nil
		}
		c.mu.Unlock()
	}
	s.end(fmt.Errorf("subscription: %w", ErrClosed))
	if s.feed.bells.take(b) {
		s.feed.stats.subscriptions.Add(-1)
	}
}

// end has Read return err from now on. The caller rouses the bell.
func (s *Subscription) end(err error) {
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	if s.ended == nil {
		s.ended = err
	}
}
