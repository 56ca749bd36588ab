package killfeed

import "slices"

// This file is how subscriptions with manual commit count what they pass over as read. Without it a rare filter would keep all of
// the log from being removed, and search it again at each reconnect.

// passing is a topic on which a subscription would move the client's offset for what it passed over.
type passing struct {
	rope *rope
	o    *offset
	i    int32   // in bell.hung
	to   EventID // how far; it is lowered to what the client's other subscriptions leave
}

// join has nothing that is passed over count as read until the function that it returns is called: who takes a position on a topic is
// not yet among those that movePassed spares. The caller has the client's turn.
func (c *client) join() (joined func()) {
	set := func(joining bool) {
		c.mu.Lock()
		c.joining = joining
		c.mu.Unlock()
	}
	set(true)
	return func() { set(false) }
}

// passOver notes what a search returned, and counts as read what it passed over: on topics without anything that is not committed
// all of it, or all below the first event that it returned. The caller holds reading.
func (s *Subscription) passOver(q *search) {
	c, b := s.client, &s.bell
	var room [8]passing
	all := room[:0]
	c.mu.Lock()
	b.mu.Lock()
	for n := range q.positions {
		p := &q.positions[n]
		h := &b.hung[p.hung]
		given, to := max(p.gave, p.lost), p.before
		switch {
		case given == 0:
			to = p.got
		case p.lost > 0: // it is told again until the client commits past it
			to = 0
		}
		o := c.offsets[h.rope.topic]
		if o != nil && to > o.at && s.gave[p.hung] <= o.stands() {
			all = append(all, passing{h.rope, o, p.hung, to})
		}
		s.gave[p.hung] = max(s.gave[p.hung], given)
	}
	b.mu.Unlock()
	dirty := c.movePassed(s, all)
	c.mu.Unlock()
	if len(dirty) > 0 {
		s.feed.clients.dirtyTopics(c, dirty, dueLate)
	}
}

// passAll counts as read what was passed over on all topics without anything that is not committed; at the end also what is behind
// it, on topics of which it is not known exactly what is removed: see settleAtEnd. The caller holds reading or the client's turn.
func (s *Subscription) passAll(atEnd bool, when due) {
	c, b := s.client, &s.bell
	var all []passing
	c.mu.Lock()
	b.mu.Lock()
	through := EventID(s.feed.bells.through.Load())
	for i := range b.hung {
		h := &b.hung[i]
		o := c.offsets[h.rope.topic]
		if o == nil || s.gave[i] > o.stands() {
			continue
		}
		to := s.got[i]
		if atEnd && !s.owed && !h.rope.topic.exact() {
			to = max(to, h.clear(through))
		}
		if to > o.at {
			all = append(all, passing{h.rope, o, int32(i), to})
		}
	}
	b.mu.Unlock()
	dirty := c.movePassed(s, all)
	c.mu.Unlock()
	if len(dirty) > 0 {
		s.feed.clients.dirtyTopics(c, dirty, when)
	}
}

// movePassed moves offsets for what s passed over, as far as its siblings let it, and returns where it did. Between the look at s and
// this nothing can have moved back: that takes the client's turn and reading. The caller holds mu.
func (c *client) movePassed(s *Subscription, all []passing) (dirty []Topic) {
	if len(all) == 0 || c.joining || c.gone || c.sought {
		return nil
	}
	if len(c.live) > 1 {
		on := make(map[*rope]*passing, len(all)) // there is one rope for each topic
		for n := range all {
			on[all[n].rope] = &all[n]
		}
		for _, other := range c.live {
			if other != s {
				other.spare(on)
			}
		}
	}
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.ended != nil { // another one may have moved back, and must not be pulled forward
		return nil
	}
	for _, p := range all {
		if p.to > p.o.at {
			p.o.at = p.to
			s.gave[p.i] = max(s.gave[p.i], p.to)
			dirty = append(dirty, p.rope.topic)
		}
	}
	return dirty
}

// spare lowers how far offsets are to be moved to what s has read of the topics, and to nothing where it has returned something that
// is not committed. The caller holds the client's mutex.
func (s *Subscription) spare(on map[*rope]*passing) {
	b := &s.bell
	b.mu.Lock()
	defer b.mu.Unlock()
	returned := s.got
	if s.gave != nil {
		returned = s.gave
	}
	for i := range b.hung {
		h := &b.hung[i]
		switch p := on[h.rope]; {
		case p == nil:
		case returned[i] > p.o.stands():
			p.to = 0
		case h.unread():
			p.to = min(p.to, h.from-1)
		}
	}
}

// countPassed counts as read what the client's subscriptions passed over behind what is committed now. The caller has the client's
// turn.
func (f *Feed) countPassed(c *client) {
	c.mu.Lock()
	live := slices.Clone(c.live)
	c.mu.Unlock()
	for _, s := range live {
		if s.gave != nil {
			s.passAll(false, dueLate)
		}
	}
}
